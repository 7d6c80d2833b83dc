//! The summary on disk and its journal. See [`crate::summary`] for what they promise.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::append_file::AppendFile;
use crate::summary::{Commit, Summary};

/// A summary file that is being kept.
#[derive(Debug)]
pub(crate) struct SummaryFile {
    path: PathBuf,
    journal: Option<AppendFile>,
}

/// What an earlier sink left.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// The summary, with the journal counted in.
    pub(crate) summary: Summary,
    /// Files and the lengths to cut them to.
    pub(crate) files: Vec<(PathBuf, u64)>,
}

impl SummaryFile {
    /// Reads what an earlier sink left at `path`, if anything. Changes nothing.
    pub(crate) fn recover(path: &Path) -> Result<Left, Error> {
        let foreign = |path: &Path, error: serde_json::Error| Error::ForeignSummary {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let mut left = Left::default();
        if let Some(text) = read(path)? {
            left.summary = serde_json::from_slice(&text).map_err(|error| foreign(path, error))?;
        }
        let journal = journal_path(path);
        let text = read(&journal)?.unwrap_or_default();
        // What follows the last newline is a line that a killed process did not finish.
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        for line in text[..whole]
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
        {
            let commit: Commit =
                serde_json::from_slice(line).map_err(|error| foreign(&journal, error))?;
            // An older journal is already part of the summary.
            if commit.journal == left.summary.journal
                && let Some(batch) = &commit.batch
            {
                left.summary.add(batch);
            }
            left.files = commit.files;
        }
        Ok(left)
    }

    /// Begins to keep `summary` at `path`, with a journal if `journaled`. `files` are the other files as they are now.
    pub(crate) fn begin(
        path: &Path,
        journaled: bool,
        summary: &mut Summary,
        files: Vec<(PathBuf, u64)>,
    ) -> Result<Self, Error> {
        let journal = journaled
            .then(|| AppendFile::open(&journal_path(path), None))
            .transpose()?;
        let mut this = Self {
            path: path.to_owned(),
            journal,
        };
        this.save(summary, files)?;
        Ok(this)
    }

    /// Adds a commit to the journal.
    pub(crate) fn commit(&mut self, commit: &Commit) -> Result<(), Error> {
        let Some(journal) = &mut self.journal else {
            return Ok(());
        };
        let failed = |source: io::Error| Error::Write {
            path: journal.path().to_owned(),
            source,
        };
        let mut line = serde_json::to_vec(commit).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        journal.append(&line)
    }

    /// Replaces the summary file and begins the next journal.
    pub(crate) fn save(
        &mut self,
        summary: &mut Summary,
        files: Vec<(PathBuf, u64)>,
    ) -> Result<(), Error> {
        self.replace(summary)?;
        if let Some(journal) = &mut self.journal {
            let path = journal.path().to_owned();
            journal
                .cut_to(0)
                .map_err(|source| Error::Write { path, source })?;
        }
        self.commit(&Commit {
            journal: summary.journal,
            files,
            batch: None,
        })
    }

    /// Replaces the summary file for the last time and removes the journal.
    pub(crate) fn finish(mut self, summary: &mut Summary) -> Result<(), Error> {
        self.replace(summary)?;
        if let Some(journal) = self.journal.take() {
            let path = journal.path().to_owned();
            fs::remove_file(&path).map_err(|source| Error::Write { path, source })?;
        }
        Ok(())
    }

    /// Writes the summary under the number of the next journal; if that fails, the present one goes on.
    fn replace(&self, summary: &mut Summary) -> Result<(), Error> {
        let new = with_suffix(&self.path, ".new");
        summary.journal += 1;
        let write = || {
            let mut text = serde_json::to_vec_pretty(summary)?;
            text.push(b'\n');
            fs::write(&new, text)?;
            fs::rename(&new, &self.path)
        };
        let written = write();
        written.map_err(|source| {
            summary.journal -= 1;
            Error::Write {
                path: self.path.clone(),
                source,
            }
        })
    }
}

fn journal_path(summary: &Path) -> PathBuf {
    with_suffix(summary, ".journal")
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Open {
            path: path.to_owned(),
            source,
        }),
    }
}
