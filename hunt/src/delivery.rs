//! How far a run has come, as shared memory tells: what was captured, and for how much of it the outcome is known.

use std::path::{Path, PathBuf};

use lc_daemon::attach::{AttachError, Observer};
use shm_layout::commit::Torn;
use shm_layout::counters::{CaptureCounter, ForwardCounter, WorkerCounter};

/// Looks at a running node, read-only.
pub struct Delivery {
    run_dir: PathBuf,
    /// The capd that the regions belong to, with the view of them.
    seen: Option<(u32, Observer)>,
}

/// One look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Packets captured so far.
    pub captured: u64,
    /// Packets whose outcome is known: acknowledged by the processor, filtered, or lost and counted.
    pub settled: u64,
    /// No capture thread will bring more, and nothing is under way: the run is complete.
    pub complete: bool,
}

impl Delivery {
    /// Prepares to look at the node in `run_dir`.
    pub fn new(run_dir: &Path) -> Self {
        Delivery {
            run_dir: run_dir.to_owned(),
            seen: None,
        }
    }

    /// Looks. `capd` is the process id of the capd that is ready; a new one has new regions. `None`: there was just
    /// too much movement to see anything, look again later.
    ///
    /// # Errors
    ///
    /// The node cannot be looked at.
    pub fn look(&mut self, capd: u32) -> Result<Option<Standing>, AttachError> {
        let observer = match self.seen.take() {
            Some((pid, observer)) if pid == capd => observer,
            _ => Observer::attach(&self.run_dir)?,
        };
        let (_, observer) = self.seen.insert((capd, observer));
        Ok(standing(observer).ok())
    }
}

/// Reads the state from the end of the way to its beginning, so that a packet under way is never taken for settled.
fn standing(observer: &Observer) -> Result<Standing, Torn> {
    let forwarder = observer.forwarder.commit()?;
    let workers = observer
        .workers
        .iter()
        .map(|worker| worker.commit())
        .collect::<Result<Vec<_>, _>>()?;
    let queues = 0..usize::from(observer.geometry.queues);
    let ended = queues
        .clone()
        .all(|queue| observer.session.queue_state(queue).0.has_ended());
    let commits = queues
        .map(|queue| {
            observer
                .session
                .queue_commit(queue, observer.geometry.workers)
        })
        .collect::<Result<Vec<_>, _>>()?;

    let mut complete = ended;
    let mut settled = forwarder.get(ForwardCounter::Acked) + forwarder.get(ForwardCounter::Dropped);
    for (i, worker) in workers.iter().enumerate() {
        complete &= forwarder.tx_done(i) == worker.tx_head();
        complete &= commits
            .iter()
            .enumerate()
            .all(|(queue, commit)| commit.head(i) == worker.rx_tail(queue));
        settled += worker.get(WorkerCounter::FilteredNoMatch)
            + worker.get(WorkerCounter::FilteredByPolicy)
            + worker.get(WorkerCounter::LostTooLong);
    }
    let mut captured = 0;
    for commit in &commits {
        captured += commit.get(CaptureCounter::Captured);
        settled += commit.get(CaptureCounter::RingFull) + commit.get(CaptureCounter::TooLong);
    }
    Ok(Standing {
        captured,
        settled,
        complete,
    })
}
