//! `lc-hunt drain`: makes running nodes stop capturing, and waits until what they captured has found its end.
//!
//! It is the first step of an end in order where systemd runs the daemons: from then on it does not matter in which
//! order they end. (`lc-hunt hunt` does this by itself.) Capture does not begin again: the nodes are there to be ended.

use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lc_daemon::attach::{AttachError, Observer};
use rustix::process::{Pid, kill_process};

use crate::ledger::Ledger;
use crate::status::{StatusError, run_dirs};
use crate::supervisor::CLOSE;

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// A node that does not capture any more.
#[derive(Debug)]
pub struct Drained {
    /// The node.
    pub run_dir: PathBuf,
    /// Its account at the end of the wait; quiet if everything has found its end.
    pub ledger: Ledger,
}

/// Why a node was not drained.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// Nothing runs, or what runs can't be read.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// Its lc-capd can't be told.
    #[error(
        "lc-capd in {run_dir} cannot be told to stop capturing: {source}; be root, or its user"
    )]
    Signal {
        /// Its run directory.
        run_dir: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Makes every node below `base` stop capturing, and waits for each at most for `time`.
///
/// # Errors
/// [`DrainError`] for the first node that can't be told.
pub fn drain(base: &Path, time: Duration) -> Result<Vec<Drained>, DrainError> {
    let mut nodes = Vec::new();
    for run_dir in run_dirs(base) {
        match Observer::attach(&run_dir) {
            Ok(observer) => nodes.push((run_dir, observer)),
            Err(AttachError::Socket { .. }) => {}
            Err(source) => return Err(StatusError::Attach { run_dir, source }.into()),
        }
    }
    if nodes.is_empty() {
        return Err(StatusError::NoneRunning(base.to_owned()).into());
    }
    for (run_dir, observer) in &nodes {
        close(observer).map_err(|source| DrainError::Signal {
            run_dir: run_dir.clone(),
            source,
        })?;
    }
    let deadline = Instant::now() + time;
    let drained = nodes.into_iter().map(|(run_dir, observer)| {
        let ledger =
            wait(&observer, deadline).ok_or_else(|| StatusError::Restless(run_dir.clone()))?;
        Ok(Drained { run_dir, ledger })
    });
    drained.collect()
}

fn close(observer: &Observer) -> io::Result<()> {
    let capd = observer.session.owner();
    let pid = i32::try_from(capd.pid).ok().and_then(Pid::from_raw);
    match pid.filter(|_| capd.is_alive()) {
        Some(pid) => Ok(kill_process(pid, CLOSE)?),
        // It captures nothing.
        None => Ok(()),
    }
}

/// The first quiet account after the end of capture, or the last one before the deadline.
fn wait(observer: &Observer, deadline: Instant) -> Option<Ledger> {
    let mut last = None;
    loop {
        let closed = observer.session.is_stopping() || !observer.session.owner().is_alive();
        last = Ledger::read(observer).ok().or(last);
        let quiet = closed && last.as_ref().is_some_and(|ledger| ledger.quiet);
        if quiet || Instant::now() >= deadline {
            return last;
        }
        thread::sleep(POLL);
    }
}
