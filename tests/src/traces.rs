//! Real captures whose contents are known: each has its facts, which TShark found, beside it, as `NAME.expected.json`.
//!
//! They lie in the folder that `LC_HUNT_TRACES` names, by default `../shared/traces` beside the repository, in one folder for each subject. Without it, tests that need them
//! are skipped. [`crate::tshark`] tells what TShark sees otherwise than it is.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use crate::capture::{self, CaptureError, Packet};

/// A capture.
#[derive(Debug, Clone)]
pub struct Trace {
    /// The file.
    pub path: PathBuf,
    /// What is known of it.
    pub facts: Value,
}

/// A folder of captures that can't be used.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Not readable.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Of the file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Facts beside a capture that can't be understood.
    #[error("cannot understand {path}: {source}")]
    Facts {
        /// Of the file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
}

/// Where they lie.
pub fn folder() -> PathBuf {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces");
    std::env::var_os("LC_HUNT_TRACES").map_or_else(beside, PathBuf::from)
}

/// All of them; see [`of`].
///
/// # Errors
///
/// [`FolderError`]
pub fn all() -> Result<Option<Vec<Trace>>, FolderError> {
    of(&[""])
}

/// Those of some subjects, each in the order of their names; `None` where there is no folder of captures, and it says that the test is skipped.
///
/// # Errors
///
/// [`FolderError`], also where there is no folder for a subject.
pub fn of(subjects: &[&str]) -> Result<Option<Vec<Trace>>, FolderError> {
    let folder = folder();
    if !folder.is_dir() {
        crate::skipped!(
            "no captures in {}; name their folder in LC_HUNT_TRACES",
            folder.display()
        );
        return Ok(None);
    }
    let mut traces = Vec::new();
    for subject in subjects {
        traces.extend(below(&folder.join(subject))?);
    }
    Ok(Some(traces))
}

/// All captures in any folder and the folders in it that have facts beside them, in the order of their names.
///
/// # Errors
///
/// [`FolderError`]
pub fn below(folder: &Path) -> Result<Vec<Trace>, FolderError> {
    let mut traces = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(unreadable(&folder))? {
            let path = entry.map_err(unreadable(&folder))?.path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let facts = facts_of(&path);
            if facts.is_file() {
                let text = fs::read(&facts).map_err(unreadable(&facts))?;
                let facts = serde_json::from_slice(&text).map_err(|source| FolderError::Facts {
                    path: facts,
                    source,
                })?;
                traces.push(Trace { path, facts });
            }
        }
    }
    traces.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(traces)
}

/// Traces in rounds, so that in no round two of them are `at_odds`: what is told of one could be taken for the other's.
pub fn rounds<T>(
    all: impl IntoIterator<Item = T>,
    at_odds: impl Fn(&T, &T) -> bool,
) -> Vec<Vec<T>> {
    let mut rounds: Vec<Vec<T>> = Vec::new();
    for one in all {
        let is_free = |round: &&mut Vec<T>| !round.iter().any(|other| at_odds(&one, other));
        match rounds.iter_mut().find(is_free) {
            Some(round) => round.push(one),
            None => rounds.push(vec![one]),
        }
    }
    rounds
}

impl Trace {
    /// Name of the file.
    pub fn name(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.unwrap_or_default()
    }

    /// Whether the facts are the truth: other captures are broken.
    pub fn is_strict(&self) -> bool {
        self.facts["use"] == "strict"
    }

    /// Whether it stands in a list of names and reasons.
    pub fn is_in(&self, list: &[(&str, &str)]) -> bool {
        list.iter().any(|(name, _)| *name == self.name())
    }

    /// Its packets, as far as they are readable.
    ///
    /// # Errors
    ///
    /// [`CaptureError`] where the file can't be opened.
    pub fn packets(&self) -> Result<Vec<Packet>, CaptureError> {
        Ok(capture::read(&self.path)?.packets)
    }

    /// The flows that it is known to have, by both ends.
    pub fn flows(&self) -> BTreeSet<String> {
        let flows = self.facts["flows"]["list"].as_array().into_iter().flatten();
        let flow = |flow: &Value| {
            let mut ends = [["a", "a_port"], ["b", "b_port"]]
                .map(|[address, port]| format!("{}:{}", flow[address], flow[port]));
            ends.sort();
            ends.join(" ")
        };
        flows.map(flow).collect()
    }
}

/// The file of a capture's facts.
fn facts_of(capture: &Path) -> PathBuf {
    let mut facts = capture.to_owned().into_os_string();
    facts.push(".expected.json");
    facts.into()
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> FolderError {
    let path = path.to_owned();
    move |source| FolderError::Read { path, source }
}
