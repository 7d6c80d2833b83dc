//! Media that go to the worker that has their call.
//!
//! Workers tell where they expect media; [`Media::announce`] takes that in. The first packet of a UDP flow that comes from or goes to such a
//! place chooses the worker of the whole flow:
//!
//! | the flow | goes |
//! |---|---|
//! | has begun, and was sent to a call's worker | there |
//! | has begun, or may have, and was not | where its hash leads |
//! | begins, at an expected place, and there is room to remember it | to the call's worker |
//! | begins elsewhere | where its hash leads |
//!
//! So a flow is never moved, as long as it is not silent for minutes: what follows would overtake what its first worker still has in its
//! hands. Flows are remembered in sets of seven. Where a set is full, one that went by its hash gives way, and for minutes no flow that
//! the set does not know counts as new; those that were sent to a call's worker stay until they are silent.
//!
//! Everything is of fixed size, touched as it is used: 4 MiB for flows, 4 MiB for expected places. A packet of a known flow costs a
//! look at one cache line. Flows are told apart by their 32-bit hashes: those with the same hash go the same way.

/// Entries with one cache line in common.
const WAYS: usize = 8;
/// Lines of flows.
const FLOW_SETS: usize = 1 << 16;
/// Lines of expected places.
const PLACE_SETS: usize = 1 << 16;
/// A tick is 2^28 ns, 268 ms.
const TICK_BITS: u32 = 28;
/// Ticks count in so many bits: for 52 days.
const TICK_MASK: u32 = 0xff_ffff;
/// About five minutes: a flow that is silent for longer counts as new.
const MOST_TICKS: u32 = 1118;
/// In the place of a worker: the flow goes where its hash leads.
const BY_HASH: u64 = 0xff;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Media {
    flows: Box<[Set]>,
    /// Of each place 48 bits of its hash, and the number of the worker that told it last and one; 0: free. The latest first.
    places: Box<[[u64; WAYS]]>,
}

/// In the first word, when the set last was too small (24 bits above the lowest 8, which say that it was); behind it flows. Of each its hash
/// in the high half, then when it was last seen, and in the lowest 8 bits its worker's number and one, or [`BY_HASH`]; 0: free.
type Set = [u64; WAYS];

impl Media {
    pub(super) fn new() -> Self {
        Self {
            flows: vec![[0; WAYS]; FLOW_SETS].into_boxed_slice(),
            places: vec![[0; WAYS]; PLACE_SETS].into_boxed_slice(),
        }
    }

    /// `worker` has a call that expects media at the place with this hash.
    pub(super) fn announce(&mut self, place: u64, worker: u8) {
        let set = &mut self.places[place as usize % PLACE_SETS];
        let tag = place & !0xffff;
        let known = set
            .iter()
            .position(|entry| *entry != 0 && entry & !0xffff == tag);
        // The place's own entry, else the oldest, makes room at the front.
        set[..=known.unwrap_or(WAYS - 1)].rotate_right(1);
        set[0] = tag | (u64::from(worker) + 1);
    }

    /// The worker of the flow with this hash, of which a packet was captured at `time_ns`, if it is one that has its call. `ends` are the
    /// hashes of source and destination; a fragment has none.
    #[inline]
    pub(super) fn worker(
        &mut self,
        flow: u32,
        ends: Option<[u64; 2]>,
        time_ns: u64,
    ) -> Option<usize> {
        let tick = (time_ns >> TICK_BITS) as u32 & TICK_MASK;
        let [_, entries @ ..] = &mut self.flows[flow as usize % FLOW_SETS];
        let known = entries
            .iter_mut()
            .find(|entry| (**entry >> 32) as u32 == flow && **entry & 0xff != 0);
        if let Some(entry) = known
            && is_fresh(*entry, tick)
        {
            let worker = *entry & 0xff;
            *entry = pack(flow, tick, worker);
            return (worker != BY_HASH).then(|| worker as usize - 1);
        }
        self.begin(flow, ends, tick)
    }

    /// The same for a flow that is not known.
    fn begin(&mut self, flow: u32, ends: Option<[u64; 2]>, tick: u32) -> Option<usize> {
        let expected = ends.and_then(|[source, destination]| {
            (self.expected(destination)).or_else(|| self.expected(source))
        });
        let [full, entries @ ..] = &mut self.flows[flow as usize % FLOW_SETS];
        let may_have_begun = *full != 0 && is_fresh(*full, tick);
        let worker = expected.filter(|_| !may_have_begun).unwrap_or(BY_HASH);
        let room = entries
            .iter()
            .position(|entry| *entry == 0 || !is_fresh(*entry, tick));
        let room = room.or_else(|| {
            let yielding = entries
                .iter()
                .enumerate()
                .filter(|(_, entry)| **entry & 0xff == BY_HASH);
            *full = pack(0, tick, 1);
            Some(yielding.max_by_key(|(_, entry)| age(**entry, tick))?.0)
        });
        entries[room?] = pack(flow, tick, worker);
        (worker != BY_HASH).then(|| worker as usize - 1)
    }

    /// The number of the worker that expects media at a place, and one.
    fn expected(&self, place: u64) -> Option<u64> {
        let set = &self.places[place as usize % PLACE_SETS];
        let tag = place & !0xffff;
        let found = set
            .iter()
            .find(|entry| **entry & 0xff != 0 && **entry & !0xffff == tag)?;
        Some(found & 0xff)
    }
}

fn pack(flow: u32, tick: u32, worker: u64) -> u64 {
    u64::from(flow) << 32 | u64::from(tick) << 8 | worker
}

/// Ticks since an entry was made, or until: time may go back a little, as between two queues of a card.
#[inline]
fn age(entry: u64, tick: u32) -> u32 {
    let ticks = tick.wrapping_sub((entry >> 8) as u32) & TICK_MASK;
    ticks.min(TICK_MASK + 1 - ticks)
}

#[inline]
fn is_fresh(entry: u64, tick: u32) -> bool {
    age(entry, tick) <= MOST_TICKS
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const START: u64 = 1_767_225_600 * SECOND;

    /// Hashes that differ everywhere.
    fn hash(n: u64) -> u64 {
        super::super::fold(n ^ super::super::END, super::super::FLOW)
    }

    fn flow(n: u64) -> u32 {
        (hash(n) >> 32) as u32
    }

    #[test]
    fn a_flow_that_begins_where_media_are_expected_keeps_to_the_calls_worker() {
        let mut media = Media::new();
        media.announce(hash(1), 3);
        let to = Some([hash(9), hash(1)]);
        assert_eq!(media.worker(flow(1), to, START), Some(3));
        // Another worker tells of the place later: what has begun stays.
        media.announce(hash(1), 5);
        for second in 0..2_000 {
            assert_eq!(
                media.worker(flow(1), to, START + second * SECOND),
                Some(3),
                "{second}"
            );
        }
        let now = START + 2_000 * SECOND;
        let from = Some([hash(1), hash(8)]);
        assert_eq!(media.worker(flow(2), from, now), Some(5));
        // Fragments have no ends, and go where their flow goes.
        assert_eq!(media.worker(flow(2), None, now), Some(5));
    }

    #[test]
    fn a_flow_that_has_begun_is_never_moved() {
        let mut media = Media::new();
        let ends = Some([hash(9), hash(1)]);
        assert_eq!(media.worker(flow(1), ends, START), None);
        media.announce(hash(1), 3);
        for second in 0..2_000 {
            assert_eq!(media.worker(flow(1), ends, START + second * SECOND), None);
        }
        // Silent for long enough, it begins anew.
        let later = START + 2_400 * SECOND;
        assert_eq!(media.worker(flow(1), ends, later), Some(3));
        let unexpected = Some([hash(9), hash(2)]);
        assert_eq!(media.worker(flow(2), unexpected, later), None);
    }

    #[test]
    fn time_that_goes_back_a_little_forgets_nothing() {
        let mut media = Media::new();
        let ends = Some([hash(9), hash(1)]);
        let border = (START >> TICK_BITS << TICK_BITS) + (1 << TICK_BITS);
        assert_eq!(media.worker(flow(1), ends, border - 1), None);
        media.announce(hash(1), 3);
        for time in [border + 1, border - 5, border + 2, border - 1] {
            assert_eq!(media.worker(flow(1), ends, time), None);
        }
    }

    #[test]
    fn without_room_flows_go_where_their_hash_leads_and_stay_there() {
        let mut media = Media::new();
        media.announce(hash(1), 0);
        let ends = Some([hash(9), hash(1)]);
        let of_one_set = |n: u32| n << 16 | 7;
        let go = |media: &mut Media, seconds: u64| -> Vec<_> {
            let time = START + seconds * SECOND;
            (1..=20)
                .map(|n| media.worker(of_one_set(n), ends, time))
                .collect()
        };
        let first = go(&mut media, 0);
        assert_eq!(first.iter().flatten().count(), WAYS - 1);
        for seconds in (0..3_000).step_by(100) {
            assert_eq!(go(&mut media, seconds), first, "{seconds}");
        }
        // The silent make room.
        let much_later = START + 4_000 * SECOND;
        assert_eq!(media.worker(of_one_set(99), ends, much_later), Some(0));
    }

    #[test]
    fn what_was_displaced_is_not_taken_for_new() {
        let mut media = Media::new();
        let (unexpected, ends) = (Some([hash(9), hash(2)]), Some([hash(9), hash(1)]));
        let of_one_set = |n: u32| n << 16 | 7;
        // More than there is room for, of which the first are forgotten.
        for n in 1..=20 {
            assert_eq!(media.worker(of_one_set(n), unexpected, START), None);
        }
        media.announce(hash(1), 3);
        for second in (0..1_000).step_by(200) {
            for n in 1..=20 {
                let time = START + second * SECOND;
                assert_eq!(media.worker(of_one_set(n), ends, time), None);
            }
        }
        // In other sets nothing is in the way.
        assert_eq!(media.worker(8, ends, START), Some(3));
    }

    #[test]
    fn a_flood_of_places_displaces_the_oldest() {
        let mut media = Media::new();
        let of_one_set = |n: u64| n << 16 | 7;
        for n in 1..=WAYS as u64 + 1 {
            media.announce(of_one_set(n), n as u8);
        }
        let expected = |media: &Media, n| media.expected(of_one_set(n)).map(|worker| worker - 1);
        assert_eq!(expected(&media, 1), None);
        assert_eq!(expected(&media, 2), Some(2));
        // Told again, a place is the youngest.
        media.announce(of_one_set(2), 7);
        media.announce(of_one_set(99), 9);
        assert_eq!((expected(&media, 2), expected(&media, 3)), (Some(7), None));
        for n in 0..1_000_000 {
            media.announce(hash(n), (n % 64) as u8);
        }
        assert_eq!(media.expected(hash(999_999)), Some(999_999 % 64 + 1));
    }
}
