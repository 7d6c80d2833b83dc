//! Replay of capture files: pcap and pcapng, compressed with gzip or not, several files one after the other.
//!
//! Guarantees: every packet of every file, in file order, with its own timestamp, lengths and link type, as far as the file can be read.
//! A damaged or truncated file delivers what stands before the damage, then one error naming the file, the offset and the cause; the next
//! file follows. Memory is bounded (1 MiB window) whatever lengths a file claims.

mod input;
mod pcap;
mod pcapng;

use std::ops::{ControlFlow, Range};
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{io, thread};

use lc_daemon::config::ReplayRate;

use self::input::Input;
use self::pcap::Pcap;
use self::pcapng::Pcapng;
use super::schedule::Schedule;
use super::{
    Deliver, FullRing, Interfaces, LONGEST_BLOCK, Packet, Poll, Predecessor, Source, SourceError,
    State, Status,
};
use crate::bpf::{Expression, FilterError, OfflineFilter};

/// Largest packet that is read, in bytes: what libpcap and Wireshark allow.
pub const MAX_PACKET: usize = 262_144;

/// A list of capture files as one source.
pub struct Files {
    /// Files still to be opened, the next one last.
    waiting: Vec<PathBuf>,
    current: Option<OpenFile>,
    interfaces: Interfaces,
    filter: OfflineFilter,
    schedule: Schedule,
    /// The last call reported [`Poll::Dry`] because a packet is not yet due.
    may_sleep: bool,
    /// Packets read so far, those that the filter rejected included: the next one's number.
    sequence: u64,
    /// Number of the first packet that no predecessor has taken.
    resume_at: u64,
    delivered: u64,
    rejected: u64,
    name: String,
}

struct OpenFile {
    path: PathBuf,
    input: Input,
    format: Format,
    /// A packet read and not yet delivered.
    pending: Option<Record>,
    /// Packets read.
    packets: u64,
}

enum Format {
    Pcap(Pcap),
    Pcapng(Pcapng),
}

/// One packet, standing in the input's window.
#[derive(Debug)]
struct Record {
    timestamp_ns: u64,
    original_length: u32,
    link_type: u16,
    interface: u16,
    /// Where its bytes are in the window.
    data: Range<usize>,
    /// Bytes of the window that belong to the record.
    size: usize,
}

/// What is wrong at the place in hand.
#[derive(Debug)]
enum Defect {
    Truncated(&'static str),
    Corrupt(String),
    Read(io::Error),
}

impl From<io::Error> for Defect {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // These two come from the decompressor; a plain file has no such errors.
            io::ErrorKind::UnexpectedEof => Self::Truncated("compressed data"),
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => {
                Self::Corrupt(error.to_string())
            }
            _ => Self::Read(error),
        }
    }
}

impl Files {
    /// Checks that each of `paths` can be opened and is a capture file, then stands before the first packet of the first one.
    ///
    /// # Errors
    /// [`SourceError::Open`] or [`SourceError::NotACapture`] for the first file at fault; nothing was delivered.
    pub fn open(
        paths: &[PathBuf],
        interfaces: Interfaces,
        rate: ReplayRate,
    ) -> Result<Self, SourceError> {
        for path in paths {
            let open = |source| SourceError::Open {
                path: path.clone(),
                source,
            };
            let kind = std::fs::metadata(path).map_err(open)?;
            if kind.is_dir() {
                return Err(open(io::ErrorKind::IsADirectory.into()));
            }
            // A pipe can be read only once, so its first bytes stay where they are.
            if kind.is_file() {
                recognise(path, &mut Input::open(path).map_err(open)?)?;
            }
        }
        Ok(Self {
            waiting: paths.iter().rev().cloned().collect(),
            current: None,
            interfaces,
            filter: OfflineFilter::default(),
            schedule: Schedule::new(rate),
            may_sleep: false,
            sequence: 0,
            resume_at: 0,
            delivered: 0,
            rejected: 0,
            name: paths
                .first()
                .map(|path| base_name(path))
                .unwrap_or_default(),
        })
    }

    /// Opens the next file; false if there is none.
    fn advance(&mut self) -> Result<bool, SourceError> {
        let Some(path) = self.waiting.pop() else {
            return Ok(false);
        };
        if self.sequence < self.resume_at && !std::fs::metadata(&path).is_ok_and(|it| it.is_file())
        {
            return Err(SourceError::PipeReadBefore { path });
        }
        match Input::open(&path) {
            Ok(input) => self.begin(path, input).map(|()| true),
            Err(source) => Err(SourceError::Open { path, source }),
        }
    }

    /// Makes an opened file the current one.
    fn begin(&mut self, path: PathBuf, mut input: Input) -> Result<(), SourceError> {
        self.name = base_name(&path);
        self.schedule.rebase();
        let kind = recognise(&path, &mut input)?;
        let mut file = OpenFile {
            path,
            input,
            format: Format::Pcapng(Pcapng::new()),
            pending: None,
            packets: 0,
        };
        if kind == Kind::Pcap {
            let mut register =
                |_: Option<&str>, link_type| self.interfaces.register(&self.name, link_type);
            file.format = match Pcap::open(&mut file.input, &mut register) {
                Ok(pcap) => Format::Pcap(pcap),
                Err(defect) => return Err(file.error(defect)),
            };
        }
        self.current = Some(file);
        Ok(())
    }
}

/// Body of the fuzz target: reading any bytes as a capture file must end, without a panic.
pub fn fuzz(bytes: &[u8]) {
    let Ok(mut files) = Files::open(&[], Interfaces::default(), ReplayRate::Max) else {
        return;
    };
    let input = Input::new(Box::new(io::Cursor::new(bytes.to_vec())));
    if files.begin("fuzz".into(), input).is_err() {
        return;
    }
    let mut deliver = |packet: &Packet<'_>| {
        assert!(packet.data.len() <= MAX_PACKET);
        ControlFlow::Continue(())
    };
    while files
        .poll(64, &mut deliver)
        .is_ok_and(|poll| poll != Poll::Finished)
    {}
}

impl Source for Files {
    fn name(&self) -> &str {
        &self.name
    }

    fn full_ring(&self) -> FullRing {
        FullRing::Wait
    }

    fn resume(&mut self, from: &Predecessor) -> bool {
        self.resume_at = from.next;
        false
    }

    fn position(&self) -> u64 {
        self.sequence.max(self.resume_at)
    }

    fn poll(&mut self, max: usize, deliver: &mut Deliver<'_>) -> Result<Poll, SourceError> {
        let may_sleep = std::mem::take(&mut self.may_sleep);
        let mut left = max;
        while left > 0 {
            let Some(file) = &mut self.current else {
                if !self.advance()? {
                    return Ok(Poll::Finished);
                }
                continue;
            };
            let record = match file.pending.take() {
                Some(record) => record,
                None => {
                    let (interfaces, name) = (&self.interfaces, &self.name);
                    match file.read(&mut |given, link_type| {
                        interfaces.register(given.unwrap_or(name), link_type)
                    }) {
                        Ok(Some(record)) => record,
                        Ok(None) => {
                            self.current = None;
                            continue;
                        }
                        Err(defect) => {
                            let error = file.error(defect);
                            self.current = None;
                            return Err(error);
                        }
                    }
                }
            };
            left -= 1;
            if self.sequence < self.resume_at {
                self.sequence += 1;
                file.input.consume(record.size);
                continue;
            }
            let packet = Packet {
                sequence: self.sequence,
                timestamp_ns: record.timestamp_ns,
                original_length: record.original_length,
                link_type: record.link_type,
                interface: record.interface,
                data: file
                    .input
                    .window()
                    .get(record.data.clone())
                    .unwrap_or_default(),
            };
            if !self.filter.matches(packet.link_type, packet.data) {
                self.sequence += 1;
                self.rejected += 1;
                file.input.consume(record.size);
                continue;
            }
            let wait = self.schedule.wait(packet.timestamp_ns, Instant::now);
            if !wait.is_zero() {
                file.pending = Some(record);
                self.may_sleep = true;
                if left + 1 == max && may_sleep {
                    thread::sleep(wait.min(LONGEST_BLOCK));
                }
                return Ok(Poll::Dry);
            }
            if deliver(&packet).is_break() {
                file.pending = Some(record);
                return Ok(Poll::More);
            }
            self.schedule.sent();
            self.sequence += 1;
            self.delivered += 1;
            file.input.consume(record.size);
        }
        Ok(Poll::More)
    }

    fn set_filter(&mut self, expression: &Expression) -> Result<(), FilterError> {
        self.filter = OfflineFilter::new(
            expression,
            self.interfaces.rows().iter().map(|row| row.link_type),
        )?;
        Ok(())
    }

    fn status(&mut self) -> Status {
        let finished = self.current.is_none() && self.waiting.is_empty();
        Status {
            state: if finished { State::Finished } else { State::Up },
            received: self.delivered,
            rejected: self.rejected,
            ..Status::default()
        }
    }

    fn stop(&mut self) {
        self.waiting.clear();
        self.current = None;
    }

    fn leave(&mut self) -> bool {
        true
    }
}

impl OpenFile {
    #[inline]
    fn read(
        &mut self,
        register: &mut dyn FnMut(Option<&str>, u16) -> u16,
    ) -> Result<Option<Record>, Defect> {
        let record = match &mut self.format {
            Format::Pcap(pcap) => pcap.next(&mut self.input),
            Format::Pcapng(pcapng) => pcapng.next(&mut self.input, register),
        }?;
        self.packets += u64::from(record.is_some());
        Ok(record)
    }

    fn error(&self, defect: Defect) -> SourceError {
        let (path, offset, packets) = (self.path.clone(), self.input.offset(), self.packets);
        match defect {
            Defect::Truncated(what) => SourceError::Truncated {
                path,
                offset,
                what,
                packets,
            },
            Defect::Corrupt(cause) => SourceError::Corrupt {
                path,
                offset,
                cause,
                packets,
            },
            Defect::Read(source) => SourceError::Read {
                path,
                offset,
                source,
                packets,
            },
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pcap,
    Pcapng,
}

/// Tells the format by the first four bytes.
fn recognise(path: &Path, input: &mut Input) -> Result<Kind, SourceError> {
    let refuse = |cause: String| SourceError::NotACapture {
        path: path.to_owned(),
        cause,
    };
    if !input.need(4).map_err(|error| refuse(error.to_string()))? {
        return Err(refuse(format!("it holds {} bytes", input.window().len())));
    }
    match input.window().first_chunk().copied().unwrap_or_default() {
        magic if Pcap::recognises(magic) => Ok(Kind::Pcap),
        magic if Pcapng::recognises(magic) => Ok(Kind::Pcapng),
        [a, b, c, d] => Err(refuse(format!(
            "it begins with the bytes {a:02x} {b:02x} {c:02x} {d:02x}"
        ))),
    }
}

fn base_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or(path.as_os_str())
        .to_string_lossy()
        .into_owned()
}
