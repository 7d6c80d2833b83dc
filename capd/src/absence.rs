//! Which workers lose their share of the load: those that have been down for longer than the grace time, until they live again.
//!
//! Whether a worker lives is the kernel's word when its heartbeat is missing: one that stands still is not down, and what it has in its
//! hands is not taken from it. A worker that never came is down from the beginning.
//!
//! Nothing moves while nobody lives: a share is given away only to those who can take it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_layout::monotonic_ns;
use shm_layout::region::{OwnedRegion, Region};
use shm_layout::session::Session;
use shm_layout::shares::WorkerSet;
use shm_layout::worker::Worker;

/// Between two looks at the workers.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The kernel is not asked about a worker whose heartbeat is younger. One that dies is seen to be down by so much later.
const FRESH_NS: u64 = 300_000_000;

/// Watches the workers, and tells the capture threads, by the session region, who is away.
pub(crate) struct Watch {
    workers: Vec<Region<Worker>>,
    session: Arc<OwnedRegion<Session>>,
    absence: Absence,
    next_look: Instant,
}

impl Watch {
    pub(crate) fn new(
        workers: Vec<Region<Worker>>,
        session: Arc<OwnedRegion<Session>>,
        grace: Duration,
    ) -> Self {
        let now = Instant::now();
        let absence = Absence::new(workers.len(), grace, session.workers_away(), now);
        Self {
            workers,
            session,
            absence,
            next_look: now,
        }
    }

    /// Looks at the workers, if it is time to.
    pub(crate) fn look(&mut self) {
        let now = Instant::now();
        if now < self.next_look {
            return;
        }
        self.next_look = now + LOOK_INTERVAL;
        let before = self.absence.away();
        let workers = &self.workers;
        let away = self.absence.look(|worker| lives(&workers[worker]), now);
        if away == before {
            return;
        }
        self.session.set_workers_away(away);
        for worker in away.without(before).iter() {
            tracing::warn!(
                worker,
                grace = ?self.absence.grace,
                "lc-workerd has been down for longer than the grace time; its share of the packets goes to the others"
            );
        }
        for worker in before.without(away).iter() {
            let steered_away = self.session.steered_away(worker);
            tracing::info!(
                worker,
                steered_away,
                "lc-workerd is back and has its share of the packets again"
            );
        }
    }

    /// Whether all workers that are not away judge by `generation` of the filters or a later one.
    pub(crate) fn all_apply(&self, generation: u64) -> bool {
        let away = self.absence.away();
        let mut present = self.workers.iter().enumerate();
        present
            .all(|(index, worker)| away.contains(index) || worker.filter_generation() >= generation)
    }
}

/// Whether a worker lives: it has just shown progress, or the kernel says so. A heartbeat in the future is nobody's.
fn lives(worker: &Region<Worker>) -> bool {
    let age = monotonic_ns().checked_sub(worker.heartbeat_ns());
    let beats = worker.owner().pid != 0 && age.is_some_and(|age| age < FRESH_NS);
    beats || worker.owner().is_alive()
}

/// The rule, without a clock or a process.
struct Absence {
    grace: Duration,
    /// Since when each worker has been seen down.
    down_since: Vec<Option<Instant>>,
    away: WorkerSet,
}

impl Absence {
    /// For `workers` workers, of which a predecessor saw some `away`. All count as down until they are seen alive.
    fn new(workers: usize, grace: Duration, away: WorkerSet, now: Instant) -> Self {
        Self {
            grace,
            down_since: vec![Some(now); workers],
            away,
        }
    }

    fn away(&self) -> WorkerSet {
        self.away
    }

    /// Takes note of who lives; who is away now.
    fn look(&mut self, lives: impl Fn(usize) -> bool, now: Instant) -> WorkerSet {
        let mut living = WorkerSet::NONE;
        for (worker, down_since) in self.down_since.iter_mut().enumerate() {
            if lives(worker) {
                *down_since = None;
                living = living.with(worker);
            } else {
                down_since.get_or_insert(now);
            }
        }
        self.away = self.away.without(living);
        if living.is_empty() {
            return self.away;
        }
        for (worker, down_since) in self.down_since.iter().enumerate() {
            if down_since.is_some_and(|since| now.duration_since(since) >= self.grace) {
                self.away = self.away.with(worker);
            }
        }
        self.away
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_secs(5);

    fn set(workers: &[usize]) -> WorkerSet {
        let with = |set: WorkerSet, worker: &usize| set.with(*worker);
        workers.iter().fold(WorkerSet::NONE, with)
    }

    #[test]
    fn a_share_goes_after_the_grace_time_and_comes_back_at_once() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        let mut absence = Absence::new(3, GRACE, WorkerSet::NONE, start);
        let mut look = |living: &[usize], seconds| {
            absence.look(|worker| living.contains(&worker), after(seconds))
        };
        assert_eq!(look(&[0, 1, 2], 100), WorkerSet::NONE);
        assert_eq!(look(&[0, 2], 101), WorkerSet::NONE);
        assert_eq!(look(&[0, 2], 105), WorkerSet::NONE);
        assert_eq!(look(&[0, 2], 106), set(&[1]));
        assert_eq!(look(&[0, 1, 2], 107), WorkerSet::NONE);
        // Down for a moment, then again: the grace time begins anew.
        assert_eq!(look(&[0, 2], 108), WorkerSet::NONE);
        assert_eq!(look(&[0, 1, 2], 112), WorkerSet::NONE);
        assert_eq!(look(&[0, 2], 113), WorkerSet::NONE);
        assert_eq!(look(&[0, 2], 117), WorkerSet::NONE);
        // All are down: nothing moves, however long it lasts.
        assert_eq!(look(&[], 200), WorkerSet::NONE);
        assert_eq!(look(&[2], 300), set(&[0, 1]));
        assert_eq!(look(&[], 400), set(&[0, 1]));
        assert_eq!(look(&[0], 404), set(&[1]));
        assert_eq!(look(&[0], 405), set(&[1, 2]));
    }

    #[test]
    fn a_worker_that_never_came_is_away_after_the_grace_time() {
        let start = Instant::now();
        let mut absence = Absence::new(2, GRACE, WorkerSet::NONE, start);
        assert!(absence.look(|worker| worker == 0, start).is_empty());
        assert_eq!(absence.look(|worker| worker == 0, start + GRACE), set(&[1]));
    }

    #[test]
    fn a_predecessors_word_holds_until_the_worker_lives() {
        let start = Instant::now();
        let mut absence = Absence::new(2, GRACE, set(&[1]), start);
        assert_eq!(absence.look(|worker| worker == 0, start), set(&[1]));
        assert_eq!(absence.look(|_| true, start), WorkerSet::NONE);
    }

    proptest! {
        #[test]
        fn there_is_always_somebody_to_take_what_is_given_away(
            workers in 1usize..=64,
            looks in prop::collection::vec((any::<u64>(), 0u64..4), 1..60),
        ) {
            let mut now = Instant::now();
            let mut absence = Absence::new(workers, GRACE, WorkerSet::NONE, now);
            let mut before = WorkerSet::NONE;
            for (living, seconds) in looks {
                now += Duration::from_secs(seconds);
                let lives = |worker: usize| living >> worker & 1 == 1;
                let away = absence.look(lives, now);
                prop_assert!(away.iter().all(|worker| worker < workers && !lives(worker)));
                prop_assert!(!WorkerSet::first(workers).without(away).is_empty());
                if !(0..workers).any(lives) {
                    prop_assert_eq!(away, before);
                }
                before = away;
            }
        }
    }
}
