//! What a batch holds, written down in shared memory, so that the forwarder's successor can form the same batch again.
//!
//! ```text
//!   valid | sequence | record + 1 | stored | slot + 1 | tails | (worker, packets, lost; position) for each tail
//! ```
//!
//! One writer; read only by its successor, when the writer is dead. It may have died between any two of these stores:
//! a slot is marked invalid before it is changed and valid after.

use crate::layout::MAX_WORKERS;
use crate::sync::{AtomicU64, Ordering};

/// Largest count of packets that fits beside the other count and the worker in one word.
const MOST: u64 = (1 << 28) - 1;

/// What a batch settles in one tx ring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Whose ring.
    pub worker: usize,
    /// The ring is done up to here.
    pub position: u64,
    /// Packets of the ring in the batch; below 2^28.
    pub packets: u64,
    /// Packets of the ring that were given up before this position; below 2^28.
    pub lost: u64,
}

/// Which packets a batch holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchExtent {
    /// Its number; 0 if it has none.
    pub sequence: u64,
    /// Its record on disk.
    pub record: Option<u64>,
    /// Packets in that record; fewer than the tails tell if some were left out.
    pub stored: u64,
    /// Its slot among the numbered batches, if it has a number.
    pub slot: Option<u32>,
    /// What it settles; one for each ring at most.
    pub tails: Vec<Tail>,
}

/// Room for one extent.
#[repr(C)]
pub(crate) struct ExtentSlot {
    valid: AtomicU64,
    sequence: AtomicU64,
    record: AtomicU64,
    stored: AtomicU64,
    slot: AtomicU64,
    count: AtomicU64,
    tails: [[AtomicU64; 2]; MAX_WORKERS],
}

impl ExtentSlot {
    pub(crate) fn store(&self, extent: &BatchExtent) {
        // Release throughout: whoever sees a store also sees all before it. Pairs with the Acquire loads in `load`.
        self.valid.store(0, Ordering::Release);
        self.sequence.store(extent.sequence, Ordering::Release);
        let record = extent.record.map_or(0, |record| record + 1);
        self.record.store(record, Ordering::Release);
        self.stored.store(extent.stored, Ordering::Release);
        let slot = extent.slot.map_or(0, |slot| u64::from(slot) + 1);
        self.slot.store(slot, Ordering::Release);
        let count = extent.tails.len().min(MAX_WORKERS);
        self.count.store(count as u64, Ordering::Release);
        for (words, tail) in self.tails.iter().zip(&extent.tails) {
            let counts = tail.packets.min(MOST) << 28 | tail.lost.min(MOST);
            words[0].store((tail.worker as u64) << 56 | counts, Ordering::Release);
            words[1].store(tail.position, Ordering::Release);
        }
        self.valid.store(1, Ordering::Release);
    }

    /// `None` when it was never written, or only in part, or holds nonsense.
    pub(crate) fn load(&self) -> Option<BatchExtent> {
        if self.valid.load(Ordering::Acquire) != 1 {
            return None;
        }
        let less_one = |word: &AtomicU64| word.load(Ordering::Acquire).checked_sub(1);
        let count = self.count.load(Ordering::Acquire) as usize;
        let tails = self.tails.iter().take(count).map(|words| {
            let word = words[0].load(Ordering::Acquire);
            let worker = (word >> 56) as usize;
            (worker < MAX_WORKERS).then(|| Tail {
                worker,
                position: words[1].load(Ordering::Acquire),
                packets: word >> 28 & MOST,
                lost: word & MOST,
            })
        });
        Some(BatchExtent {
            sequence: self.sequence.load(Ordering::Acquire),
            record: less_one(&self.record),
            stored: self.stored.load(Ordering::Acquire),
            slot: less_one(&self.slot).map(|slot| slot as u32),
            tails: tails.collect::<Option<_>>()?,
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn empty() -> ExtentSlot {
        let zero = || AtomicU64::new(0);
        ExtentSlot {
            valid: zero(),
            sequence: zero(),
            record: zero(),
            stored: zero(),
            slot: zero(),
            count: zero(),
            tails: std::array::from_fn(|_| [zero(), zero()]),
        }
    }

    #[test]
    fn an_extent_is_read_as_it_was_written_or_not_at_all() {
        let slot = empty();
        assert_eq!(slot.load(), None);
        let tail = |worker, position| Tail {
            worker,
            position,
            packets: 65_536,
            lost: 3,
        };
        let mut extent = BatchExtent {
            sequence: u64::MAX,
            record: Some(0),
            stored: 65_000,
            slot: Some(u32::MAX),
            tails: vec![tail(63, u64::MAX), tail(0, 0)],
        };
        slot.store(&extent);
        assert_eq!(slot.load().as_ref(), Some(&extent));
        (extent.record, extent.slot) = (None, None);
        extent.tails.clear();
        slot.store(&extent);
        assert_eq!(slot.load().as_ref(), Some(&extent));
        slot.valid.store(0, Ordering::Relaxed);
        assert_eq!(slot.load(), None);
    }

    #[test]
    fn nonsense_is_no_extent() {
        let slot = empty();
        slot.store(&BatchExtent::default());
        slot.count.store(u64::MAX, Ordering::Relaxed);
        assert_eq!(slot.load().map(|extent| extent.tails.len()), Some(64));
        slot.tails[1][0].store(200 << 56, Ordering::Relaxed);
        assert_eq!(slot.load(), None);
    }
}
