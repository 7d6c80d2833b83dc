//! Media that go to the worker that has their call.
//!
//! Workers tell where they expect media; [`Media::expect`] takes that in. The first packet of a UDP flow that comes from or goes to such a
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
//! hands. Whether a flow has begun is told by one bit for many flows; a wrong yes costs a flow its way, and nothing else.
//!
//! Everything is of fixed size: flows that were sent to a call's worker 2 MiB, expected places 4 MiB, bits 1 MiB, touched as they are
//! used. A packet costs a look at two or three cache lines. Flows are told apart by their 32-bit hashes: those with the same hash go
//! the same way.

/// Entries with one cache line in common.
const WAYS: usize = 8;
/// Lines of flows.
const FLOW_SETS: usize = 1 << 15;
/// Lines of expected places.
const PLACE_SETS: usize = 1 << 16;
/// Bits for flows that have begun.
const BEGUN_BITS: usize = 1 << 22;
/// A tick is 2^28 ns, 268 ms.
const TICK_BITS: u32 = 28;
/// About five minutes: a flow that is silent for longer gives its entry to others.
const MOST_TICKS: u32 = 1118;
/// An epoch is 2^36 ns, 69 s. A flow that is silent for two of them counts as new.
const EPOCH_BITS: u32 = 36;
/// Ticks count in so many bits.
const TICK_MASK: u32 = 0xff_ffff;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Media {
    /// Of each flow its hash, when it was last seen (24 bits), and its worker's number and one; 0: free.
    flows: Box<[[u64; WAYS]]>,
    /// Of each place 48 bits of its hash, and the number of the worker that told it last and one; 0: free. The latest first.
    places: Box<[[u64; WAYS]]>,
    /// Whether any place is expected.
    is_expecting: bool,
    begun: Begun,
}

impl Media {
    pub(super) fn new() -> Self {
        Self {
            flows: vec![[0; WAYS]; FLOW_SETS].into_boxed_slice(),
            places: vec![[0; WAYS]; PLACE_SETS].into_boxed_slice(),
            is_expecting: false,
            begun: Begun::new(),
        }
    }

    /// `worker` has a call that expects media at the place with this hash.
    pub(super) fn expect(&mut self, place: u64, worker: u8) {
        self.is_expecting = true;
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
    /// hashes of source and destination, if it is UDP.
    #[inline]
    pub(super) fn worker(
        &mut self,
        flow: u32,
        ends: Option<[u64; 2]>,
        time_ns: u64,
    ) -> Option<usize> {
        let tick = (time_ns >> TICK_BITS) as u32 & TICK_MASK;
        let set = &mut self.flows[flow as usize % FLOW_SETS];
        let known = set
            .iter_mut()
            .find(|entry| (**entry >> 32) as u32 == flow && **entry & 0xff != 0);
        if let Some(entry) = known {
            let worker = *entry & 0xff;
            *entry = pack(flow, tick, worker);
            return Some(worker as usize - 1);
        }
        let has_begun = self.begun.note(flow, time_ns);
        let [source, destination] = ends.filter(|_| self.is_expecting && !has_begun)?;
        let worker = self
            .expected(destination)
            .or_else(|| self.expected(source))?;
        let age = |entry: u64| tick.wrapping_sub((entry >> 8) as u32 & TICK_MASK) & TICK_MASK;
        let set = &mut self.flows[flow as usize % FLOW_SETS];
        let room = set
            .iter_mut()
            .find(|entry| **entry == 0 || (MOST_TICKS..TICK_MASK / 2).contains(&age(**entry)))?;
        *room = pack(flow, tick, worker);
        Some(worker as usize - 1)
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

/// Which flows have begun, in this epoch and the one before.
#[derive(Clone, Debug)]
struct Begun {
    now: Box<[u64]>,
    before: Box<[u64]>,
    epoch: u64,
}

impl Begun {
    fn new() -> Self {
        let bits = || vec![0; BEGUN_BITS / 64].into_boxed_slice();
        Self {
            now: bits(),
            before: bits(),
            epoch: 0,
        }
    }

    /// Notes a packet of a flow. Whether there may have been one before.
    #[inline]
    fn note(&mut self, flow: u32, time_ns: u64) -> bool {
        let epoch = time_ns >> EPOCH_BITS;
        if epoch != self.epoch {
            self.turn(epoch);
        }
        let (at, bit) = (
            flow as usize % BEGUN_BITS / 64,
            1 << (flow as usize % BEGUN_BITS % 64),
        );
        let word = &mut self.now[at];
        let has_begun = (*word | self.before[at]) & bit != 0;
        *word |= bit;
        has_begun
    }

    /// Another epoch begins. Time that goes back a little, as between two queues of a card, changes nothing but the bits' age.
    #[cold]
    fn turn(&mut self, epoch: u64) {
        if epoch < self.epoch && self.epoch - epoch < 2 {
            return;
        }
        let is_next = epoch == self.epoch + 1;
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.fill(0);
        if !is_next {
            self.before.fill(0);
        }
        self.epoch = epoch;
    }
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
        media.expect(hash(1), 3);
        let to = Some([hash(9), hash(1)]);
        assert_eq!(media.worker(flow(1), to, START), Some(3));
        // Another worker tells of the place later: what has begun stays.
        media.expect(hash(1), 5);
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
        media.expect(hash(1), 3);
        for second in 0..2_000 {
            assert_eq!(media.worker(flow(1), ends, START + second * SECOND), None);
        }
        // Silent for long enough, it begins anew.
        let later = START + 2_500 * SECOND;
        assert_eq!(media.worker(flow(1), ends, later), Some(3));
        let unexpected = Some([hash(9), hash(2)]);
        assert_eq!(media.worker(flow(2), unexpected, later), None);
    }

    #[test]
    fn time_that_goes_back_a_little_forgets_nothing() {
        let mut media = Media::new();
        let ends = Some([hash(9), hash(1)]);
        let border = (START >> EPOCH_BITS << EPOCH_BITS) + (1 << EPOCH_BITS);
        assert_eq!(media.worker(flow(1), ends, border - 1), None);
        media.expect(hash(1), 3);
        for time in [border + 1, border - 5, border + 2, border - 1] {
            assert_eq!(media.worker(flow(1), ends, time), None);
        }
    }

    #[test]
    fn without_room_flows_go_where_their_hash_leads_and_stay_there() {
        let mut media = Media::new();
        media.expect(hash(1), 0);
        let ends = Some([hash(9), hash(1)]);
        let of_one_set = |n: u32| n << 15 | 7;
        let first: Vec<_> = (0..20)
            .map(|n| media.worker(of_one_set(n), ends, START))
            .collect();
        assert_eq!(first.iter().flatten().count(), WAYS);
        let later = START + 100 * SECOND;
        let again: Vec<_> = (0..20)
            .map(|n| media.worker(of_one_set(n), ends, later))
            .collect();
        assert_eq!(first, again);
        // The silent make room.
        let much_later = START + 1_000 * SECOND;
        assert_eq!(media.worker(of_one_set(99), ends, much_later), Some(0));
    }

    #[test]
    fn a_flood_of_places_displaces_the_oldest() {
        let mut media = Media::new();
        let of_one_set = |n: u64| n << 16 | 7;
        for n in 1..=WAYS as u64 + 1 {
            media.expect(of_one_set(n), n as u8);
        }
        let expected = |media: &Media, n| media.expected(of_one_set(n)).map(|worker| worker - 1);
        assert_eq!(expected(&media, 1), None);
        assert_eq!(expected(&media, 2), Some(2));
        // Told again, a place is the youngest.
        media.expect(of_one_set(2), 7);
        media.expect(of_one_set(99), 9);
        assert_eq!((expected(&media, 2), expected(&media, 3)), (Some(7), None));
        for n in 0..1_000_000 {
            media.expect(hash(n), (n % 64) as u8);
        }
        assert_eq!(media.expected(hash(999_999)), Some(999_999 % 64 + 1));
    }
}
