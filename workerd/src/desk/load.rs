//! Overload, and what is shed by it: by call, what matters least first.
//!
//! | load | is shed |
//! |---|---|
//! | light | nothing |
//! | heavy | media of calls that only the no-filter policy lets through |
//! | severe | also media of calls that are not decided yet: those of a call that lost any wait no more until it is |
//! | extreme | also signalling of calls that only the policy lets through |
//!
//! Of calls that match, nothing is shed. The load is the highest of what three places say: the rx rings of a live capture (the worker is too slow), its tx ring (the
//! processor is), the log of held packets (too many calls are undecided).

use shm_layout::log::LogWriter;
use shm_layout::ring::RingWriter;

/// See the [module](self).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Load {
    /// Nothing is shed.
    #[default]
    Light,
    /// Media that nothing asked for are shed.
    Heavy,
    /// And media of which it is not known.
    Severe,
    /// And signalling that nothing asked for.
    Extreme,
}

impl Load {
    /// As an rx ring of `capacity` bytes says, of which `used` wait.
    #[must_use]
    pub fn of_rx(used: u64, capacity: u64) -> Self {
        let eighths = used.saturating_mul(8) / capacity.max(1);
        match eighths {
            0..4 => Self::Light,
            4..6 => Self::Heavy,
            6 => Self::Severe,
            7.. => Self::Extreme,
        }
    }

    /// As a tx ring says, whose last `kept_bytes` are for what a filter asked for; 0: the source waits, and nothing is shed.
    #[must_use]
    #[inline]
    pub fn of_tx(tx: &mut RingWriter, kept_bytes: u64) -> Self {
        match kept_bytes {
            0 => Self::Light,
            kept if tx.has_room(2 * kept) => Self::Light,
            kept if tx.has_room(kept + kept / 2) => Self::Heavy,
            kept if tx.has_room(kept) => Self::Severe,
            _ => Self::Extreme,
        }
    }

    /// As the log of held packets says. Half of it is for what matters more than media of calls that are undecided.
    #[must_use]
    #[inline]
    pub fn of_held(held: &LogWriter) -> Self {
        match held.used() > held.capacity() / 2 {
            true => Self::Severe,
            false => Self::Light,
        }
    }
}

/// What a packet that waits is worth, where room is short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Media of an undecided call, or a fragment of what is not whole.
    Media,
    /// Signalling of an undecided call.
    Signalling,
    /// Its call is wanted.
    Wanted,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_that_fills_makes_the_load_grow() {
        let loads = [0, 3, 4, 5, 6, 7, 8].map(|used| Load::of_rx(used * 512, 4096));
        use Load::{Extreme, Heavy, Light, Severe};
        let expected = [Light, Light, Heavy, Heavy, Severe, Extreme, Extreme];
        assert_eq!(loads, expected);
        assert!(loads.is_sorted());
    }
}
