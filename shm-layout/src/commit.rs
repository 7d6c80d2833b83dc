//! Commit slots: many words published as one, by one writer, so that a reader or the writer's
//! own successor never sees half of an update.
//!
//! ```text
//!   index: n          slot[n & 1] holds update n, slot[(n + 1) & 1] is free for update n + 1
//! ```
//!
//! The writer fills the free slot, then publishes it with one store of the index. It may die
//! before, within or after any of these stores: what the index names is always complete. That
//! makes the slots the redo log of a process: a worker commits "consumed up to here, produced up
//! to here, with these counters" once per batch, and its successor starts from there.
//!
//! A reader copies and looks at the index again (a sequence lock). A writer that never rests,
//! or a hostile one, costs the reader a bounded number of tries.

use crate::sync::{AtomicU64, Ordering, fence};

/// How often a reader tries before it reports [`Torn`].
const TRIES: usize = 64;

/// The writer was faster than the reader in every try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the writer changed its commit slots during each of {TRIES} attempts to read them")]
pub struct Torn;

/// Two slots of `N` words and the index that names the valid one.
#[repr(C, align(128))]
pub(crate) struct CommitSlots<const N: usize> {
    index: AtomicU64,
    slots: [[AtomicU64; N]; 2],
}

impl<const N: usize> CommitSlots<N> {
    /// Publishes `words` (at most `N`) as one update. Single writer.
    pub(crate) fn publish(&self, words: &[u64]) {
        let next = self.index.load(Ordering::Relaxed).wrapping_add(1);
        // Pairs with the Acquire fence in `read`: a reader that saw one of the stores below also
        // sees the index that was published before them, and so notices the overwriting.
        fence(Ordering::Release);
        for (slot, word) in self.slots[(next & 1) as usize].iter().zip(words) {
            slot.store(*word, Ordering::Relaxed);
        }
        // Pairs with the Acquire load in `read`.
        self.index.store(next, Ordering::Release);
    }

    /// Copies the last update into `words`; words beyond what was ever published are 0.
    pub(crate) fn read(&self, words: &mut [u64]) -> Result<(), Torn> {
        for _ in 0..TRIES {
            // Pairs with the Release store in `publish`.
            let before = self.index.load(Ordering::Acquire);
            for (word, slot) in words.iter_mut().zip(&self.slots[(before & 1) as usize]) {
                *word = slot.load(Ordering::Relaxed);
            }
            // Pairs with the Release fence in `publish`.
            fence(Ordering::Acquire);
            if self.index.load(Ordering::Relaxed) == before {
                return Ok(());
            }
        }
        Err(Torn)
    }

    #[cfg(any(loom, test))]
    pub(crate) fn new() -> Self {
        Self {
            index: AtomicU64::new(0),
            slots: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_last_update_is_read_whole() {
        let slots = CommitSlots::<4>::new();
        let mut words = [9; 4];
        slots.read(&mut words).unwrap();
        assert_eq!(words, [0; 4]);
        slots.publish(&[1, 2, 3, 4]);
        slots.publish(&[5, 6, 7, 8]);
        slots.read(&mut words).unwrap();
        assert_eq!(words, [5, 6, 7, 8]);
    }

    #[test]
    fn a_restless_writer_is_reported_or_read_consistently() {
        let slots = CommitSlots::<8>::new();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for n in 1..200_000 {
                    slots.publish(&[n; 8]);
                }
            });
            let mut words = [0; 8];
            while !writer.is_finished() {
                if slots.read(&mut words).is_ok() {
                    assert!(words.iter().all(|word| *word == words[0]), "{words:?}");
                }
            }
        });
    }
}

#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn no_interleaving_tears_an_update() {
        loom::model(|| {
            let slots = Arc::new(CommitSlots::<2>::new());
            let writer = {
                let slots = slots.clone();
                loom::thread::spawn(move || {
                    slots.publish(&[1, 1]);
                    slots.publish(&[2, 2]);
                    slots.publish(&[3, 3]);
                })
            };
            let mut words = [0; 2];
            if slots.read(&mut words).is_ok() {
                assert_eq!(words[0], words[1]);
            }
            writer.join().unwrap();
        });
    }
}
