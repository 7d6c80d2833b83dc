//! The forwarder's counters and its redo log, as they stand in shared memory.
//!
//! One commit holds all of it: counters, the highest batch number used, and how far each tx ring is acknowledged. It
//! is published as a whole, and always before the rings are released, so a successor finds either the old state, and
//! sends the batch again, or the new one, and goes on behind it.

use std::sync::{Arc, Mutex, PoisonError};

use shm_layout::commit::Torn;
use shm_layout::counters::ForwardCounter;
use shm_layout::forwarder::{Forwarder, ForwarderCommit};
use shm_layout::region::OwnedRegion;

use crate::batch::Batch;

/// The commit, and the region that it is published in.
pub(crate) struct Ledger {
    region: Arc<OwnedRegion<Forwarder>>,
    commit: Mutex<ForwarderCommit>,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The processor has taken it.
    Acked,
    /// The processor can't take it; its packets are lost.
    Dropped,
}

impl Ledger {
    /// Goes on from what the region holds.
    pub(crate) fn resume(region: Arc<OwnedRegion<Forwarder>>) -> Result<Self, Torn> {
        let commit = Mutex::new(region.commit()?);
        Ok(Self { region, commit })
    }

    /// The last commit.
    pub(crate) fn commit(&self) -> ForwarderCommit {
        self.commit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts.
    pub(crate) fn count(&self, counter: ForwardCounter, count: u64) {
        self.update(|commit| commit.add(counter, count));
    }

    /// A batch number that was never used in this run, whatever happens to this process.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.update(|commit| {
            let sequence = commit.sequence() + 1;
            commit.set_sequence(sequence);
            sequence
        })
    }

    /// Notes that a batch is done with. The rings may be released after this.
    pub(crate) fn settle(&self, batch: &Batch, outcome: Outcome) {
        self.update(|commit| {
            for tail in &batch.tails {
                commit.advance(tail.worker, tail.position, tail.packets + tail.lost);
                commit.add(ForwardCounter::Dropped, tail.lost);
            }
            match outcome {
                Outcome::Acked if batch.packets == 0 => {}
                Outcome::Acked => {
                    commit.add(ForwardCounter::Acked, batch.packets as u64);
                    commit.add(ForwardCounter::AckedBytes, batch.bytes as u64);
                    commit.add(ForwardCounter::AckedBatches, 1);
                }
                Outcome::Dropped => commit.add(ForwardCounter::Dropped, batch.packets as u64),
            }
        });
    }

    fn update<T>(&self, change: impl FnOnce(&mut ForwarderCommit) -> T) -> T {
        let mut commit = self.commit.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut commit);
        self.region.publish(&commit);
        result
    }
}
