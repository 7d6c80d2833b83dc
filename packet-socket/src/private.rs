//! The private area of a block: what a reader leaves for its successor.
//!
//! ```text
//! each block:  0 number of its first packet | 1 the block's own number, for which word 0 holds
//! block 0:     2 magic | 3 link type, switches | 4-5 name of the interface | 6 geometry | 8... readings of the counters
//! a reading:   0 packets received before it | 1-2 what the kernel counted since: received, dropped, unused
//! ```
//!
//! Words are written so that a reader may die between any two of them: a note holds when the block's number stands behind it, which is
//! written last; a reading holds when it joins on to the sum of those before.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::block::PRIVATE_BYTES;
use crate::socket::Geometry;

/// Words of the area.
pub(crate) const WORDS: usize = PRIVATE_BYTES / 8;
const FIRST: usize = 0;
const NUMBER: usize = 1;
const MAGIC: usize = 2;
const FACTS: usize = 3;
const NAME: usize = 4;
const GEOMETRY: usize = 6;
const READINGS: usize = 8;
/// Readings that are kept: a reader publishes what it has read long before so many more.
pub(crate) const KEPT_READINGS: usize = 16;
const READING_WORDS: usize = 3;
const _: () = assert!(READINGS + KEPT_READINGS * READING_WORDS <= WORDS);

/// Says that the area is of this layout.
const MAGIC_NUMBER: u64 = u64::from_le_bytes(*b"LCPKRNG\x01");

/// Longest name of an interface, with the NUL behind it.
const NAME_BYTES: usize = libc::IFNAMSIZ;

/// Who made the ring, and for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Name of the interface.
    pub name: String,
    /// `DLT_` number of its packets.
    pub link_type: u16,
    /// Whether frames for other stations are received.
    pub promiscuous: bool,
}

/// The private area of one block.
#[derive(Clone, Copy)]
pub(crate) struct Private<'r>(pub(crate) &'r [AtomicU64; WORDS]);

impl Private<'_> {
    /// The number of the first packet of block `number`, if its reading was begun.
    pub(crate) fn first_of(self, number: u64) -> Option<u64> {
        // Pairs with the Release store in `begin`. A block that the kernel has not begun has number 0.
        let known = number != 0 && self.0[NUMBER].load(Ordering::Acquire) == number;
        known.then(|| self.0[FIRST].load(Ordering::Relaxed))
    }

    /// Notes that the reading of block `number` begins, with packet `first`.
    pub(crate) fn begin(self, number: u64, first: u64) {
        self.0[FIRST].store(first, Ordering::Relaxed);
        self.0[NUMBER].store(number, Ordering::Release);
    }

    pub(crate) fn set_identity(self, identity: &Identity, geometry: &Geometry) {
        let mut name = [0; NAME_BYTES];
        let bytes = identity.name.as_bytes();
        let length = bytes.len().min(NAME_BYTES - 1);
        name[..length].copy_from_slice(&bytes[..length]);
        for (word, bytes) in self.0[NAME..].iter().zip(name.as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        let facts = u64::from(identity.link_type) | u64::from(identity.promiscuous) << 16;
        self.0[FACTS].store(facts, Ordering::Relaxed);
        self.0[GEOMETRY].store(word(geometry), Ordering::Relaxed);
        self.0[MAGIC].store(MAGIC_NUMBER, Ordering::Release);
    }

    /// What was set, if it was for a ring of `geometry`.
    pub(crate) fn identity(self, geometry: &Geometry) -> Option<Identity> {
        // Pairs with the Release store in `set_identity`.
        if self.0[MAGIC].load(Ordering::Acquire) != MAGIC_NUMBER
            || self.0[GEOMETRY].load(Ordering::Relaxed) != word(geometry)
        {
            return None;
        }
        let words = self.0[NAME..].iter().take(NAME_BYTES / 8);
        let name: Vec<u8> = words
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .take_while(|byte| *byte != 0)
            .collect();
        let facts = self.0[FACTS].load(Ordering::Relaxed);
        Some(Identity {
            name: String::from_utf8(name).ok()?,
            link_type: facts as u16,
            promiscuous: facts >> 16 & 1 == 1,
        })
    }

    /// Prepares reading number `index`, behind which `received` packets are known; where the kernel is to write.
    pub(crate) fn prepare(self, index: usize, received: u64) -> *mut [u32; 3] {
        let [before, counted @ ..] = self.reading(index);
        // Zeros first: whatever stands there, it is no reading that joins on to anything.
        counted
            .iter()
            .for_each(|word| word.store(0, Ordering::Relaxed));
        before.store(received, Ordering::Release);
        counted[0].as_ptr().cast()
    }

    /// What was counted by reading number `index`: received, dropped.
    pub(crate) fn counted(self, index: usize) -> (u32, u32) {
        let [_, counted, _] = self.reading(index);
        let both = counted.load(Ordering::Acquire).to_ne_bytes();
        let half =
            |at: usize| u32::from_ne_bytes([both[at], both[at + 1], both[at + 2], both[at + 3]]);
        (half(0), half(4))
    }

    /// The reading that joins on to `received` packets, if it counted any: its index, received, dropped.
    pub(crate) fn reading_after(self, received: u64) -> Option<(usize, u32, u32)> {
        (0..KEPT_READINGS).find_map(|index| {
            let joins = self.reading(index)[0].load(Ordering::Acquire) == received;
            let (more, dropped) = self.counted(index);
            (joins && more > 0).then_some((index, more, dropped))
        })
    }

    fn reading(&self, index: usize) -> &[AtomicU64; READING_WORDS] {
        let all = self.0[READINGS..].as_chunks::<READING_WORDS>().0;
        &all[index % KEPT_READINGS]
    }
}

fn word(geometry: &Geometry) -> u64 {
    u64::from(geometry.block_bytes) | u64::from(geometry.blocks) << 32
}

/// Whose a block is, from the kernel's header.
pub(crate) fn is_ours(status: &AtomicU32) -> bool {
    // Pairs with the kernel's barrier before it hands the block over.
    status.load(Ordering::Acquire) & libc::TP_STATUS_USER != 0
}

/// Hands a block back.
pub(crate) fn hand_back(status: &AtomicU32) {
    // Pairs with the kernel's barrier after it finds the block its own.
    status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area() -> [AtomicU64; WORDS] {
        [const { AtomicU64::new(0) }; WORDS]
    }

    #[test]
    fn a_note_holds_for_its_block_alone() {
        let words = area();
        let private = Private(&words);
        assert_eq!(private.first_of(7), None);
        private.begin(7, 1000);
        assert_eq!(
            (private.first_of(7), private.first_of(8)),
            (Some(1000), None)
        );
    }

    #[test]
    fn an_identity_comes_back() {
        let words = area();
        let private = Private(&words);
        let geometry = Geometry::for_buffer(16 << 20, 65_535);
        assert_eq!(private.identity(&geometry), None);
        for name in ["lo", "fifteen-letters", ""] {
            let identity = Identity {
                name: name.into(),
                link_type: 113,
                promiscuous: name.is_empty(),
            };
            private.set_identity(&identity, &geometry);
            assert_eq!(private.identity(&geometry), Some(identity));
        }
        let other = Geometry::for_buffer(8 << 20, 65_535);
        assert_eq!(private.identity(&other), None);
    }

    #[test]
    fn readings_join_on() {
        let words = area();
        let private = Private(&words);
        let mut received = 500;
        for index in 0..3 * KEPT_READINGS {
            let at = private.prepare(index, received);
            assert_eq!(private.reading_after(received), None);
            // SAFETY: the words are alive, and nothing else touches them now.
            unsafe { at.write([10, 3, 0]) };
            assert_eq!(
                private.reading_after(received),
                Some((index % KEPT_READINGS, 10, 3))
            );
            received += 10;
        }
        assert_eq!(private.reading_after(received), None);
        assert_eq!(private.reading_after(500), None, "overwritten long ago");
    }
}
