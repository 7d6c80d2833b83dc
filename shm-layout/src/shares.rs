//! Which workers have lost their share of the load, and what went to others in their place: a part of the session region, written by
//! capd.

use crate::layout::MAX_WORKERS;
use crate::region::{OwnedRegion, Region};
use crate::session::Session;
use crate::sync::{AtomicU64, Ordering};

/// A set of workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WorkerSet(u64);

const _: () = assert!(MAX_WORKERS <= u64::BITS as usize);

impl WorkerSet {
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// The first `count` workers, at most [`MAX_WORKERS`].
    #[must_use]
    pub fn first(count: usize) -> Self {
        match count {
            0 => Self::NONE,
            _ => Self(u64::MAX >> (u64::BITS as usize - count.min(MAX_WORKERS))),
        }
    }

    /// Whether it is empty.
    #[must_use]
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `worker`, below [`MAX_WORKERS`], is in it.
    #[must_use]
    #[inline]
    pub fn contains(self, worker: usize) -> bool {
        self.0 >> worker & 1 == 1
    }

    /// With `worker`, below [`MAX_WORKERS`].
    #[must_use]
    pub fn with(self, worker: usize) -> Self {
        Self(self.0 | 1 << worker)
    }

    /// Without those of `others`.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Its members, in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let worker = rest.trailing_zeros();
            rest &= rest.checked_sub(1)?;
            Some(worker as usize)
        })
    }
}

/// Their words in the session region.
#[repr(C)]
pub(crate) struct Shares {
    away: AtomicU64,
    /// Packets, by the worker whose they were.
    steered_away: [AtomicU64; MAX_WORKERS],
}

impl Region<Session> {
    /// The workers that have lost their share of the load to the others. One load, for every batch.
    #[must_use]
    #[inline]
    pub fn workers_away(&self) -> WorkerSet {
        // Relaxed: nothing else hangs on it.
        WorkerSet(self.shares().away.load(Ordering::Relaxed))
    }

    /// Packets of `worker`'s share, below [`MAX_WORKERS`], that went to others. What a capture thread counted in its last batch
    /// is missing if capd died in it.
    #[must_use]
    pub fn steered_away(&self, worker: usize) -> u64 {
        self.shares().steered_away[worker].load(Ordering::Relaxed)
    }

    fn shares(&self) -> &Shares {
        &self.body().shares
    }
}

impl OwnedRegion<Session> {
    /// Says which workers have lost their share of the load.
    pub fn set_workers_away(&self, away: WorkerSet) {
        self.shares().away.store(away.0, Ordering::Relaxed);
    }

    /// Counts packets of `worker`'s share that went to others. By any capture thread.
    pub fn count_steered_away(&self, worker: usize, packets: u64) {
        self.shares().steered_away[worker].fetch_add(packets, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_every_worker_that_there_can_be() {
        assert!(WorkerSet::first(0).is_empty());
        assert_eq!(WorkerSet::first(MAX_WORKERS).iter().count(), MAX_WORKERS);
        assert!(WorkerSet::first(3).iter().eq([0, 1, 2]));
        let set = WorkerSet::NONE.with(0).with(MAX_WORKERS - 1);
        assert!(set.iter().eq([0, MAX_WORKERS - 1]));
        let rest = set.without(WorkerSet::NONE.with(0));
        assert!(!rest.contains(0) && rest.contains(MAX_WORKERS - 1));
    }
}
