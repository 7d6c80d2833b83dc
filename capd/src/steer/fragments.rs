//! Fragments that follow the first one of their datagram.
//!
//! A table of fixed size remembers, for each datagram of which a fragment was seen, where its fragments go: to the flow that the first
//! fragment names, or, if another came before it, where addresses and protocol lead. An entry counts for 30 seconds of packet time, and a
//! first fragment renews it: identifications come again.
//!
//! Guarantees: as long as its entry lasts, all fragments of a datagram go one way, in whatever order they come. Not guaranteed: that
//! it lasts. Under a flood of fragments the oldest entries give way, and then the fragments of a datagram can part.
//! Fragments of one datagram that come through different capture threads meet only if none of them is the first.

/// Entries with one place in common.
const WAYS: usize = 4;
const SETS: usize = 1024;
/// A tick is 2^26 ns, 67 ms.
const TICK_BITS: u32 = 26;
/// 30 seconds.
const MOST_TICKS: u32 = 447;

/// What is read of a fragment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fragment {
    /// Tells its datagram from others.
    pub(super) datagram: u64,
    /// The hash of addresses and protocol.
    pub(super) between: u32,
    /// The hash of the flow, if this is the first fragment.
    pub(super) flow: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The datagram, and in the lowest bit whether the first fragment chose the way. 0 is nobody.
    name: u64,
    tick: u32,
    hash: u32,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Followers(Box<[[Entry; WAYS]]>);

impl Default for Followers {
    fn default() -> Self {
        Self(vec![Default::default(); SETS].into_boxed_slice())
    }
}

impl Followers {
    /// The hash by which a fragment captured at `time_ns` is steered.
    pub(super) fn flow_hash(&mut self, fragment: &Fragment, time_ns: u64) -> u32 {
        let Self(sets) = self;
        let tick = (time_ns >> TICK_BITS) as u32;
        let name = fragment.datagram & !1;
        let set = &mut sets[(fragment.datagram >> 48) as usize % SETS];
        let age = |entry: &Entry| (tick.wrapping_sub(entry.tick) as i32).unsigned_abs();
        let known = set
            .iter_mut()
            .find(|entry| entry.name & !1 == name && age(entry) <= MOST_TICKS && entry.name != 0);
        if let Some(entry) = known {
            let is_led = entry.name & 1 != 0;
            if let Some(flow) = fragment.flow.filter(|_| is_led) {
                (entry.hash, entry.tick) = (flow, tick);
            }
            return entry.hash;
        }
        let entry = Entry {
            name: name | u64::from(fragment.flow.is_some()),
            tick,
            hash: fragment.flow.unwrap_or(fragment.between),
        };
        // The datagram's own stale entry first, then a free place, then the oldest.
        let place = (0..WAYS).max_by_key(|way| match &set[*way] {
            old if old.name & !1 == name => (2, 0),
            Entry { name: 0, .. } => (1, 0),
            old => (0, age(old)),
        });
        set[place.unwrap_or(0)] = entry;
        entry.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_takes_the_oldest_places() {
        let mut followers = Followers::default();
        let first = |datagram: u64| Fragment {
            datagram,
            between: 1,
            flow: Some(datagram as u32),
        };
        let later = |datagram: u64| Fragment {
            flow: None,
            ..first(datagram)
        };
        // All of one set.
        for n in 1..=4 {
            followers.flow_hash(&first(n << 4), n << TICK_BITS);
        }
        assert_eq!(followers.flow_hash(&later(1 << 4), 5 << TICK_BITS), 1 << 4);
        followers.flow_hash(&first(5 << 4), 5 << TICK_BITS);
        assert_eq!(followers.flow_hash(&later(2 << 4), 6 << TICK_BITS), 2 << 4);
        assert_eq!(followers.flow_hash(&later(5 << 4), 6 << TICK_BITS), 5 << 4);
        assert_eq!(followers.flow_hash(&later(1 << 4), 6 << TICK_BITS), 1);
    }
}
