//! `lc-hunt upgrade-check`: whether the daemons of this release can take over from running ones, one by one.
//!
//! They can if they understand the shared memory of the running node. So the test is to attach to it, as a daemon would,
//! but only to look: run it from the new release, while the old one works.

use std::fmt;
use std::path::{Path, PathBuf};

use lc_daemon::attach::{AttachError, Observer};
use shm_layout::layout::{LAYOUT_MAJOR, LAYOUT_MINOR};

use crate::status::{StatusError, run_dirs};

/// What came of it for one node.
#[derive(Debug)]
pub struct Meeting {
    /// The node.
    pub run_dir: PathBuf,
    /// The version of its capture daemon, or why this release can't work with its shared memory.
    pub running: Result<String, AttachError>,
}

impl Meeting {
    /// Meets every node below `base`.
    ///
    /// # Errors
    ///
    /// [`StatusError::NoneRunning`]
    pub fn all(base: &Path) -> Result<Vec<Self>, StatusError> {
        let met: Vec<Self> = run_dirs(base)
            .into_iter()
            .filter_map(|run_dir| {
                let running = match Observer::attach(&run_dir) {
                    Ok(observer) => Ok(observer.session.owner_version()),
                    // Nobody is there any more.
                    Err(AttachError::Socket { .. }) => return None,
                    Err(error) => Err(error),
                };
                Some(Self { run_dir, running })
            })
            .collect();
        match met.is_empty() {
            true => Err(StatusError::NoneRunning(base.to_owned())),
            false => Ok(met),
        }
    }
}

impl fmt::Display for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (run_dir, own) = (self.run_dir.display(), env!("CARGO_PKG_VERSION"));
        let layout = format!("layout {LAYOUT_MAJOR}.{LAYOUT_MINOR}");
        match &self.running {
            Ok(running) => write!(
                f,
                "{run_dir}: runs {running}; {own} ({layout}) understands its shared memory: replace the programs, then end its daemons one by one with SIGTERM"
            ),
            Err(error) => write!(
                f,
                "{run_dir}: {own} ({layout}) does not understand its shared memory: {error}; end the node in order and start it anew"
            ),
        }
    }
}
