//! Runs lc-hunt over a folder of captures and compares what arrived with each file.
//!
//! Every capture goes through the whole product: read by lc-capd, steered, decoded and forwarded
//! with the policy `allow`, received and written by the embedded processor. What arrives must be
//! exactly the file's packets. From a damaged file exactly the readable packets must arrive, and
//! lc-hunt must say so with exit code 65.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;

use crate::capture::{self, CaptureError};
use crate::compare::Difference;
use crate::process::{self, ProcessError};
use crate::traces::{self, FolderError, Trace};

/// lc-hunt's exit code for input that was damaged, all that was good being delivered.
const EXIT_DAMAGED_INPUT: i32 = 65;

/// How to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The program lc-hunt.
    pub hunt: PathBuf,
    /// Numbers of workers; each capture is run with each of them.
    pub workers: Vec<u32>,
    /// Runs side by side.
    pub jobs: usize,
    /// The time a run may take.
    pub limit: Duration,
}

/// One capture with the number of packets that it is known to hold.
#[derive(Debug, Clone)]
pub struct Case {
    /// The capture file.
    pub capture: PathBuf,
    /// Packets in it, as far as it is readable.
    pub packets: usize,
}

/// Why a capture did not pass.
#[derive(Debug, Error)]
pub enum Failure {
    /// A file could not be read.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// lc-hunt could not be run to its end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// No folder for the results.
    #[error("cannot make a folder for the results: {0}")]
    Folder(#[from] io::Error),
    /// Our own reader and the known facts disagree, so the comparison would prove nothing.
    #[error("the capture is known to hold {known} packets, but {read} were read")]
    Count {
        /// By the facts beside the capture.
        known: usize,
        /// By [`capture::read`].
        read: usize,
    },
    /// lc-hunt ended with another exit code than the file deserves.
    #[error("exit code {code} instead of {expected}; it said:\n{stderr}")]
    Exit {
        /// As it was.
        code: i32,
        /// As it should be.
        expected: i32,
        /// The last lines of its standard error.
        stderr: String,
    },
    /// Other packets arrived than were sent.
    #[error("{0}")]
    Packets(Difference),
}

/// One run's result.
#[derive(Debug)]
pub struct Verdict {
    /// The capture file.
    pub capture: PathBuf,
    /// Number of workers.
    pub workers: u32,
    /// What went wrong, if anything.
    pub result: Result<(), Failure>,
}

/// All captures below `folder` that have an `.expected.json` beside them, in order of their names.
///
/// # Errors
///
/// [`FolderError`] where a folder or a file of facts can't be read.
pub fn cases(folder: &Path) -> Result<Vec<Case>, FolderError> {
    let case = |trace: Trace| match usize::deserialize(&trace.facts["capture"]["packets"]) {
        Ok(packets) => Ok(Case {
            capture: trace.path,
            packets,
        }),
        Err(source) => Err(FolderError::Facts {
            path: trace.path,
            source,
        }),
    };
    traces::below(folder)?.into_iter().map(case).collect()
}

/// `count` of `cases`, spread evenly over them; all where there are not more.
pub fn sample(cases: Vec<Case>, count: usize) -> Vec<Case> {
    let total = cases.len();
    let mut taken = 0;
    let mut cases = cases;
    cases.retain(|_| {
        let index = taken;
        taken += 1;
        count >= total || index * count / total != (index + 1) * count / total
    });
    cases
}

/// Runs every case with every number of workers; `report` sees each verdict as it falls.
pub fn run(plan: &Plan, cases: &[Case], report: impl Fn(&Verdict) + Sync) -> Vec<Verdict> {
    let queue: VecDeque<(&Case, u32)> = cases
        .iter()
        .flat_map(|case| plan.workers.iter().map(move |workers| (case, *workers)))
        .collect();
    let queue = Mutex::new(queue);
    let verdicts = Mutex::new(Vec::new());
    let lock_next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    thread::scope(|scope| {
        for _ in 0..plan.jobs.max(1) {
            scope.spawn(|| {
                while let Some((case, workers)) = lock_next() {
                    let verdict = Verdict {
                        capture: case.capture.clone(),
                        workers,
                        result: check(plan, case, workers),
                    };
                    report(&verdict);
                    verdicts
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(verdict);
                }
            });
        }
    });
    verdicts
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
}

/// Sends one capture through lc-hunt and compares what arrived.
///
/// # Errors
///
/// A [`Failure`] that tells what went wrong.
pub fn check(plan: &Plan, case: &Case, workers: u32) -> Result<(), Failure> {
    let sent = capture::read(&case.capture)?;
    if sent.packets.len() != case.packets {
        return Err(Failure::Count {
            known: case.packets,
            read: sent.packets.len(),
        });
    }
    let folder = tempfile::tempdir()?;
    let workers = workers.to_string();
    let arguments = [
        "hunt".as_ref(),
        "--read-file".as_ref(),
        case.capture.as_os_str(),
        "--sink".as_ref(),
        folder.path().as_os_str(),
        "--no-filter-policy".as_ref(),
        "allow".as_ref(),
        "--workers".as_ref(),
        workers.as_ref(),
    ];
    let outcome = process::run(&plan.hunt, arguments, plan.limit)?;
    let expected = if sent.damage.is_some() {
        EXIT_DAMAGED_INPUT
    } else {
        0
    };
    if outcome.code() != expected {
        return Err(Failure::Exit {
            code: outcome.code(),
            expected,
            stderr: last_lines(&outcome.stderr, 8),
        });
    }
    let arrived = capture::read(&folder.path().join("packets.pcapng"))?;
    let difference = Difference::between(&sent.packets, &arrived.packets);
    if difference.is_none() {
        Ok(())
    } else {
        Err(Failure::Packets(difference))
    }
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}
