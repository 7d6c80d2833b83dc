//! Where every batch ends: decoded, written to the files that are open, and counted, before it is acknowledged.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use lc_proto::data::PacketBatch;
use lc_proto::passthrough::BatchScan;
use prost::Message;
use tonic::Status;

use crate::Error;
use crate::append_file::AppendFile;
use crate::config::{Config, Output};
use crate::json;
use crate::pcapng::{self, Section};
use crate::summary::{Commit, Summary, Tally};
use crate::summary_file::{Left, SummaryFile};

/// See the module. All streams share one; a batch holds its lock while it is written.
pub(crate) struct Recorder {
    discard: bool,
    json_data: bool,
    writes_json: bool,
    state: Mutex<State>,
}

/// What the sender of a batch has to know about it.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) hunter_id: String,
    pub(crate) sequence: u64,
    pub(crate) timestamp_ns: i64,
}

struct State {
    json: Option<Json>,
    pcapng: Option<Pcapng>,
    summary: Summary,
    summary_file: Option<SummaryFile>,
    print_summary: bool,
    /// Whether the summary has changed since it was saved.
    changed: bool,
    closed: bool,
}

enum Json {
    Stdout,
    File(AppendFile),
}

struct Pcapng {
    section: Section,
    file: AppendFile,
}

impl Recorder {
    /// Opens the files of `config`, and takes up what an earlier sink left.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let mut left = match &config.summary {
            Some(Output::File(path)) => SummaryFile::recover(path)?,
            _ => Left::default(),
        };
        let committed = |path: &Path| {
            left.files
                .iter()
                .find(|(file, _)| file == path)
                .map(|(_, committed)| *committed)
        };
        let json = match &config.json {
            Some(Output::File(path)) => Some(Json::File(AppendFile::open(path, committed(path))?)),
            Some(Output::Stdout) => Some(Json::Stdout),
            None => None,
        };
        let pcapng = match &config.write_file {
            Some(path) => Some(Pcapng::open(path, committed(path))?),
            None => None,
        };
        let files = file_lengths(json.as_ref(), pcapng.as_ref());
        let summary_file = match &config.summary {
            Some(Output::File(path)) => Some(SummaryFile::begin(
                path,
                !config.discard,
                &mut left.summary,
                files,
            )?),
            _ => None,
        };
        Ok(Self {
            discard: config.discard,
            json_data: config.json_data,
            writes_json: json.is_some(),
            state: Mutex::new(State {
                json,
                pcapng,
                summary: left.summary,
                summary_file,
                print_summary: config.summary == Some(Output::Stdout),
                changed: false,
                closed: false,
            }),
        })
    }

    /// Records an encoded batch. When this returns, the batch may be acknowledged.
    ///
    /// # Errors
    ///
    /// INTERNAL if the batch cannot be decoded; UNAVAILABLE if it cannot be written, and then no file holds any of it.
    pub(crate) fn record(&self, encoded: Bytes) -> Result<Recorded, Status> {
        if self.discard {
            let scan = BatchScan::read(&encoded)?;
            self.open_state()?.count(&Tally::of_scan(&scan));
            return Ok(Recorded {
                hunter_id: scan.hunter_id,
                sequence: scan.sequence,
                timestamp_ns: scan.timestamp_ns,
            });
        }
        let batch = PacketBatch::decode(encoded)
            .map_err(|error| Status::internal(format!("undecodable PacketBatch: {error}")))?;
        let mut lines = Vec::new();
        if self.writes_json {
            json::write_lines(&mut lines, &batch, self.json_data);
        }
        let tally = Tally::of(&batch);
        self.open_state()?
            .write(&batch, &lines, tally)
            .map_err(|error| {
                tracing::error!(%error, "batch not recorded");
                Status::unavailable(error.to_string())
            })?;
        Ok(Recorded {
            hunter_id: batch.hunter_id,
            sequence: batch.sequence,
            timestamp_ns: batch.timestamp_ns,
        })
    }

    /// What has arrived so far.
    pub(crate) fn summary(&self) -> Summary {
        self.state().summary.clone()
    }

    /// Brings the summary file up to date.
    pub(crate) fn save_summary(&self) -> Result<(), Error> {
        let mut state = self.state();
        if state.closed || !state.changed {
            return Ok(());
        }
        let files = file_lengths(state.json.as_ref(), state.pcapng.as_ref());
        let State {
            summary,
            summary_file,
            changed,
            ..
        } = &mut *state;
        if let Some(file) = summary_file {
            file.save(summary, files)?;
        }
        *changed = false;
        Ok(())
    }

    /// Takes nothing any more, and writes the final summary.
    pub(crate) fn close(&self) -> Result<Summary, Error> {
        let mut state = self.state();
        state.closed = true;
        let State {
            summary,
            summary_file,
            ..
        } = &mut *state;
        if let Some(file) = summary_file.take() {
            file.finish(summary)?;
        }
        if std::mem::take(&mut state.print_summary) {
            let print = || {
                let mut out = io::stdout().lock();
                serde_json::to_writer_pretty(&mut out, &state.summary)?;
                out.write_all(b"\n")?;
                out.flush()
            };
            print().map_err(stdout_failed)?;
        }
        Ok(state.summary.clone())
    }

    fn open_state(&self) -> Result<MutexGuard<'_, State>, Status> {
        let state = self.state();
        if state.closed {
            Err(Status::unavailable("the processor is stopping"))
        } else {
            Ok(state)
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot have left a batch half counted: counting does not panic.
        self.state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Recorder")
            .field("discard", &self.discard)
            .finish_non_exhaustive()
    }
}

impl State {
    fn count(&mut self, tally: &Tally) {
        self.summary.add(tally);
        self.changed = true;
    }

    /// Writes a batch to every file and the journal, or to none.
    fn write(&mut self, batch: &PacketBatch, lines: &[u8], mut tally: Tally) -> Result<(), Error> {
        let before = file_lengths(self.json.as_ref(), self.pcapng.as_ref());
        let mut write = || -> Result<(), Error> {
            match &mut self.json {
                Some(Json::File(file)) => file.append(lines)?,
                Some(Json::Stdout) => {
                    let mut out = io::stdout().lock();
                    out.write_all(lines)
                        .and_then(|()| out.flush())
                        .map_err(stdout_failed)?;
                }
                None => {}
            }
            if let Some(pcapng) = &mut self.pcapng {
                tally.malformed_packets = pcapng.write(batch)?;
            }
            let Some(summary_file) = &mut self.summary_file else {
                return Ok(());
            };
            let commit = Commit {
                journal: self.summary.journal,
                files: file_lengths(self.json.as_ref(), self.pcapng.as_ref()),
                batch: Some(std::mem::take(&mut tally)),
            };
            summary_file.commit(&commit)?;
            tally = commit.batch.unwrap_or_default();
            Ok(())
        };
        let written = write();
        match written {
            Ok(()) => self.count(&tally),
            Err(_) => self.undo(&before),
        }
        written
    }

    /// Cuts the files back to earlier lengths.
    fn undo(&mut self, before: &[(PathBuf, u64)]) {
        let json = match &mut self.json {
            Some(Json::File(file)) => Some(file),
            _ => None,
        };
        let pcapng = self.pcapng.as_mut().map(|pcapng| &mut pcapng.file);
        for file in json.into_iter().chain(pcapng) {
            let Some((_, len)) = before.iter().find(|(path, _)| path == file.path()) else {
                continue;
            };
            if let Err(error) = file.cut_to(*len) {
                tracing::error!(path = %file.path().display(), %error, "an unacknowledged batch remains in the file");
            }
        }
        // Interfaces that were announced in the part that is cut off are unknown again.
        if let Some(pcapng) = &mut self.pcapng
            && let Ok(section) = Section::new()
        {
            pcapng.section = section;
        }
    }
}

impl Pcapng {
    fn open(path: &Path, committed: Option<u64>) -> Result<Self, Error> {
        let mut file = AppendFile::open(path, committed)?;
        if !file.starts_with(&pcapng::MAGIC)? {
            return Err(Error::Foreign {
                path: path.to_owned(),
                expected: "a pcapng file",
            });
        }
        let mut section = Section::new().map_err(|error| failed(path, error))?;
        // Written at once, so that the file is a valid one even if no packet ever comes.
        file.append(&section.take())?;
        Ok(Self { section, file })
    }

    /// Returns how many packets of the batch could not be written.
    fn write(&mut self, batch: &PacketBatch) -> Result<u64, Error> {
        let malformed = self
            .section
            .write(batch)
            .map_err(|error| failed(self.file.path(), error))?;
        self.file.append(&self.section.take())?;
        Ok(malformed)
    }
}

fn file_lengths(json: Option<&Json>, pcapng: Option<&Pcapng>) -> Vec<(PathBuf, u64)> {
    let json = match json {
        Some(Json::File(file)) => Some(file),
        _ => None,
    };
    let pcapng = pcapng.map(|pcapng| &pcapng.file);
    json.into_iter()
        .chain(pcapng)
        .map(|file| (file.path().to_owned(), file.len()))
        .collect()
}

fn failed(path: &Path, error: pcap_file::PcapError) -> Error {
    Error::Write {
        path: path.to_owned(),
        source: io::Error::other(error),
    }
}

fn stdout_failed(source: io::Error) -> Error {
    Error::Write {
        path: "standard output".into(),
        source,
    }
}
