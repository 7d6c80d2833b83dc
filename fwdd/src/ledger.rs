//! The forwarder's counters and its redo log, as they stand in shared memory.
//!
//! One commit holds all of it: counters, the highest batch number used, which numbered batches are not settled, and how
//! far each tx ring is done with. It is published as a whole, and always before the rings are released, so a successor
//! finds either the old state, and sends the batch again under its number, or the new one, and goes on behind it.
//!
//! What goes to disk is announced first ([`Ledger::announce`]): a successor then learns from the disk itself whether the
//! record was written before its predecessor died.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shm_layout::commit::Torn;
use shm_layout::counters::ForwardCounter;
use shm_layout::extent::{BatchExtent, Tail};
use shm_layout::forwarder::{Forwarder, ForwarderCommit, MAX_UNSETTLED};
use shm_layout::region::OwnedRegion;

use crate::batch::Batch;
use crate::window::{Numbered, Ticket};

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
        self.lock().clone()
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

    /// Gives a batch its number.
    pub(crate) fn number(&self, batch: &Batch) -> Ticket {
        let mut commit = self.lock();
        let unsettled = commit.unsettled();
        let (sequence, slot) = (commit.sequence() + 1, unsettled.end);
        self.region.set_sent(
            slot,
            &BatchExtent {
                sequence,
                record: batch.record(),
                stored: 0,
                slot: Some(slot),
                tails: batch.tails.clone(),
            },
        );
        commit.set_sequence(sequence);
        let end = slot.wrapping_add(1);
        // The window is smaller: what is pushed out here is no longer alive, such as a record that was damaged.
        let full = end.wrapping_sub(unsettled.start) > MAX_UNSETTLED;
        commit.set_unsettled(unsettled.start.wrapping_add(u32::from(full))..end);
        self.region.publish(&commit);
        Ticket { sequence, slot }
    }

    /// The numbered batches that are not settled, as a predecessor left them, oldest first.
    pub(crate) fn unsettled(&self) -> Vec<BatchExtent> {
        let slots = self.commit().unsettled();
        let count = slots.end.wrapping_sub(slots.start);
        (0..count)
            .filter_map(|n| self.region.sent(slots.start.wrapping_add(n)))
            .collect()
    }

    /// Notes that a numbered batch is done with. What it held of the rings may be released after this.
    pub(crate) fn settle(&self, numbered: &Numbered, outcome: Outcome) {
        let batch = &numbered.batch;
        let record = batch.record();
        self.update(|commit| {
            let unsettled = commit.unsettled();
            let first = numbered.ticket.slot.wrapping_add(1);
            if unsettled.end.wrapping_sub(first) < unsettled.end.wrapping_sub(unsettled.start) {
                commit.set_unsettled(first..unsettled.end);
            }
            let packets = batch.packets as u64;
            match outcome {
                Outcome::Acked => {
                    commit.add(ForwardCounter::Acked, packets);
                    commit.add(ForwardCounter::AckedBytes, batch.bytes as u64);
                    commit.add(ForwardCounter::AckedBatches, 1);
                }
                Outcome::Dropped if record.is_none() => {
                    commit.add(ForwardCounter::Dropped, packets);
                }
                Outcome::Dropped => commit.add(ForwardCounter::DiskDropped, packets),
            }
            match record {
                None => advance(commit, &batch.tails),
                Some(record) => {
                    commit.set_disk_done(record + 1);
                    if outcome == Outcome::Acked {
                        commit.add(ForwardCounter::DiskDelivered, packets);
                    }
                }
            }
        });
    }

    /// Notes that a batch without packets is done with.
    pub(crate) fn settle_idle(&self, batch: &Batch) {
        self.update(|commit| advance(commit, &batch.tails));
    }

    /// Says which batch is about to be written to disk, and as which record.
    pub(crate) fn announce(&self, batch: &BatchExtent) {
        self.region.set_spilling(batch);
    }

    /// Notes that a batch left the rings: some of its packets are on disk, as it says, `dropped` are lost, of which
    /// `yielded` were left out for others. What it held of the rings may be released after this.
    pub(crate) fn spilled(&self, batch: &BatchExtent, dropped: u64, yielded: u64) {
        let stored = batch.record.map_or(0, |_| batch.stored);
        if let (Some(slot), Some(_)) = (batch.slot, batch.record) {
            self.region.set_sent(slot, batch);
        }
        self.update(|commit| {
            commit.add(ForwardCounter::DiskStored, stored);
            commit.add(ForwardCounter::DiskYielded, yielded);
            commit.add(ForwardCounter::Dropped, dropped);
            advance(commit, &batch.tails);
        });
    }

    /// Changes the commit and publishes it.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut ForwarderCommit) -> T) -> T {
        let mut commit = self.lock();
        let result = change(&mut commit);
        self.region.publish(&commit);
        result
    }

    fn lock(&self) -> MutexGuard<'_, ForwarderCommit> {
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn advance(commit: &mut ForwarderCommit, tails: &[Tail]) {
    for tail in tails {
        commit.advance(tail.worker, tail.position, tail.packets + tail.lost);
        commit.add(ForwardCounter::Dropped, tail.lost);
    }
}
