//! Reads the TLS key log, and writes the secrets where the workers find them.
//!
//! The log is a file that grows, may be truncated or replaced, and need not be there yet; or a named pipe, whose writers come and go. It is looked at again and again, from its start on: who takes over from a
//! capd that died reads it anew, and workers do not mind what they know already. When the shared log is full, the oldest secrets in it go.
//!
//! What can't be noticed: a file that was truncated and has become longer than it was between two looks.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use lc_daemon::config;
use lc_daemon::key_log::{Entry, LineError, Lines};
use rustix::fs::OFlags;
use shm_layout::counters::KeyLogCounter as Counter;
use shm_layout::log::LogWriter;
use shm_layout::region::OwnedRegion;
use shm_layout::ring::Full;
use shm_layout::session::{KeyLogCounts, KeyLogState, Session};
use zeroize::Zeroize;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);
/// Bytes that are read at a time.
const PIECE: usize = 64 << 10;
/// The part of the shared log that is given up when it is full.
const PART: u64 = 16;

/// There is no key log where one has to be.
#[derive(Debug, thiserror::Error)]
pub enum KeyLogError {
    /// A folder is none.
    #[error("--tls-keylog {path}: this is a directory; name a file, which need not exist yet")]
    Folder {
        /// What was named.
        path: PathBuf,
    },
    /// Only a named pipe will do.
    #[error(
        "--tls-keylog-pipe {path}: there is no named pipe; make one with mkfifo, or give a file as --tls-keylog"
    )]
    NoPipe {
        /// What was named.
        path: PathBuf,
    },
    /// The reader can't be started.
    #[error("the thread that reads the key log can't be started: {0}")]
    Thread(#[from] io::Error),
}

/// The reader's thread; dropping it ends the thread.
pub(crate) struct KeyLog {
    flags: Arc<Flags>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Flags {
    stops: AtomicBool,
    has_caught_up: AtomicBool,
}

impl KeyLog {
    /// Begins to read `source` into `log`. State and counts stand in the session.
    pub(crate) fn start(
        source: &config::KeyLog,
        log: LogWriter,
        session: Arc<OwnedRegion<Session>>,
    ) -> Result<Self, KeyLogError> {
        check(source)?;
        let flags = Arc::new(Flags::default());
        let mut reader = Reader::new(source.path().to_owned(), log, session);
        let seen = Arc::clone(&flags);
        let thread = thread::Builder::new()
            .name("key log".into())
            .spawn(move || {
                while !seen.stops.load(Ordering::Relaxed) {
                    if !reader.look() {
                        // Pairs with the load in `has_caught_up`: the secrets are published.
                        seen.has_caught_up.store(true, Ordering::Release);
                        thread::park_timeout(PAUSE);
                    }
                }
            })?;
        Ok(Self {
            flags,
            thread: Some(thread),
        })
    }

    /// Whether all was read that was there at the start. A pipe is not waited for.
    pub(crate) fn has_caught_up(&self) -> bool {
        self.flags.has_caught_up.load(Ordering::Acquire)
    }
}

impl Drop for KeyLog {
    fn drop(&mut self) {
        self.flags.stops.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the thread that reads the key log ended by a panic");
            }
        }
    }
}

fn check(source: &config::KeyLog) -> Result<(), KeyLogError> {
    let found = fs::metadata(source.path()).map(|found| found.file_type());
    let path = source.path().to_owned();
    match (source, found) {
        (config::KeyLog::File(_), Ok(found)) if found.is_dir() => Err(KeyLogError::Folder { path }),
        (config::KeyLog::Pipe(_), Ok(found)) if found.is_fifo() => Ok(()),
        (config::KeyLog::Pipe(_), _) => Err(KeyLogError::NoPipe { path }),
        (config::KeyLog::File(_), _) => Ok(()),
    }
}

/// Reads a key log.
struct Reader {
    path: PathBuf,
    opened: Option<Opened>,
    lines: Lines,
    log: LogWriter,
    session: Arc<OwnedRegion<Session>>,
    counts: KeyLogCounts,
    state: (KeyLogState, String),
    piece: Vec<u8>,
    scratch: Vec<u8>,
}

/// A key log that is open.
struct Opened {
    file: File,
    /// Device and number of the file.
    identity: (u64, u64),
    is_pipe: bool,
    /// How much of it was read.
    position: u64,
    /// Whether there is another one in its place by now.
    is_replaced: bool,
}

impl Opened {
    fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let found = file.metadata()?;
        Ok(Self {
            identity: (found.dev(), found.ino()),
            is_pipe: !found.is_file(),
            file,
            position: 0,
            is_replaced: false,
        })
    }
}

impl Reader {
    fn new(path: PathBuf, log: LogWriter, session: Arc<OwnedRegion<Session>>) -> Self {
        Self {
            path,
            opened: None,
            lines: Lines::default(),
            log,
            // A predecessor's, if it has left any.
            counts: session.key_log_counts().unwrap_or_default(),
            session,
            state: (KeyLogState::Off, String::new()),
            piece: vec![0; PIECE],
            scratch: Vec::new(),
        }
    }

    /// Takes what has come. Whether there may be more at once.
    fn look(&mut self) -> bool {
        let before = self.counts;
        let (has_more, state) = match self.read() {
            Ok(has_more) => (has_more, (KeyLogState::Read, String::new())),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                (false, (KeyLogState::Awaited, String::new()))
            }
            Err(error) => (false, (KeyLogState::Failed, error.to_string())),
        };
        if state != self.state {
            let path = self.path.display();
            let (now, reason) = &state;
            match now {
                KeyLogState::Failed => {
                    self.counts.add(Counter::Errors, 1);
                    tracing::warn!(%path, reason, "the TLS key log can't be read; it is tried again");
                }
                KeyLogState::Awaited => tracing::info!(%path, "waiting for the TLS key log"),
                _ => tracing::info!(%path, "reading the TLS key log"),
            }
            self.session.set_key_log_state(*now, reason);
            self.state = state;
        }
        self.log.publish();
        if self.counts != before {
            self.session.set_key_log_counts(&self.counts);
        }
        has_more
    }

    /// Reads a piece. Whether there may be more.
    fn read(&mut self) -> io::Result<bool> {
        if self.opened.is_none() {
            self.opened = Some(Opened::open(&self.path)?);
        }
        let Some(opened) = &mut self.opened else {
            return Ok(false);
        };
        match opened.file.read(&mut self.piece) {
            Ok(0) => {}
            Ok(len) => {
                opened.position += len as u64;
                self.take(len);
                return Ok(true);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => {
                self.opened = None;
                return Err(error);
            }
        }
        if opened.is_pipe {
            // Nobody writes: what is unfinished has no end.
            self.lines.restart();
        }
        let Ok(now) = fs::metadata(&self.path) else {
            // Removed; whoever has it open may still write.
            return Ok(false);
        };
        if opened.is_replaced {
            self.opened = None;
        } else if (now.dev(), now.ino()) != opened.identity {
            // Once more: the last lines may have come since it was read.
            opened.is_replaced = true;
            return Ok(true);
        } else if !opened.is_pipe && now.len() < opened.position {
            opened.file.rewind()?;
            opened.position = 0;
        } else {
            return Ok(false);
        }
        self.lines.restart();
        self.counts.add(Counter::Restarts, 1);
        Ok(true)
    }

    /// Takes in the first `len` bytes of the piece.
    fn take(&mut self, len: usize) {
        let Self {
            lines,
            log,
            counts,
            piece,
            scratch,
            ..
        } = self;
        lines.take(&piece[..len], |line| match line {
            Ok(entry) => {
                counts.add(Counter::Secrets, 1);
                append(log, &entry, scratch);
            }
            Err(error) => counts.add(counter(error), 1),
        });
        piece[..len].zeroize();
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.scratch.zeroize();
    }
}

fn counter(error: LineError) -> Counter {
    match error {
        LineError::Format => Counter::BadFormat,
        LineError::ClientRandom => Counter::BadClientRandom,
        LineError::Secret => Counter::BadSecret,
        LineError::TooLong => Counter::TooLong,
    }
}

/// Appends an entry; if there is no room, the oldest go.
fn append(log: &mut LogWriter, entry: &Entry, scratch: &mut Vec<u8>) {
    while let Err(Full::Now) = log.append(entry.kind(), &entry.parts()) {
        let until = log.tail() + log.capacity() / PART;
        while log.tail() < until {
            let end = match log.read(log.tail(), scratch) {
                Ok(Some(oldest)) => oldest.end,
                // Nothing but padding, or what a predecessor has spoilt.
                Ok(None) | Err(_) => log.head(),
            };
            log.release_to(end);
            if end == log.head() {
                break;
            }
        }
        log.publish();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    use shm_layout::layout::{Kind, RegionId};
    use shm_layout::log::LogReader;
    use shm_layout::region::{self, Pages};

    /// A reader of `path`, and who reads behind it.
    fn reader(path: &Path, bytes: u64) -> (Reader, LogReader) {
        let make = |kind, bytes| {
            let id = RegionId::single(kind);
            (id, region::create(id, bytes, Pages::PreferHuge).unwrap().0)
        };
        let (id, keys) = make(Kind::Keys, bytes);
        let (session_id, session) = make(Kind::Session, Session::BYTES);
        let session = OwnedRegion::attach(session.as_fd(), session_id).unwrap();
        let log = LogWriter::attach(id, keys.as_fd()).unwrap();
        let behind = LogReader::attach(id, keys.as_fd()).unwrap();
        let reader = Reader::new(path.to_owned(), log, Arc::new(session));
        (reader, behind)
    }

    fn line(number: u16) -> String {
        format!("CLIENT_RANDOM {:064x} {:096x}\n", number, number)
    }

    fn look(reader: &mut Reader) {
        while reader.look() {}
    }

    /// The numbers of the lines whose secrets have come.
    fn come(log: &mut LogReader) -> Vec<u16> {
        let (mut scratch, mut come) = (Vec::new(), Vec::new());
        loop {
            match log.next(&mut scratch) {
                Ok(Some(record)) => {
                    let entry = Entry::read(record.kind, record.body).unwrap();
                    let [.., high, low] = entry.client_random;
                    come.push(u16::from_be_bytes([high, low]));
                }
                Ok(None) => return come,
                Err(error) => assert!(matches!(error, shm_layout::log::LogError::Overrun { .. })),
            }
        }
    }

    fn append_to(path: &Path, text: &str) {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn a_file_that_comes_into_being_grows_is_truncated_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.log");
        let (mut reader, mut log) = reader(&path, 1 << 16);
        look(&mut reader);
        assert_eq!(reader.session.key_log_state().0, KeyLogState::Awaited);
        append_to(&path, "# made by hand\n\n");
        append_to(&path, &line(1));
        let two = line(2);
        append_to(&path, &two[..50]);
        look(&mut reader);
        assert_eq!(reader.session.key_log_state().0, KeyLogState::Read);
        assert_eq!(come(&mut log), [1]);
        append_to(&path, &two[50..]);
        look(&mut reader);
        assert_eq!(come(&mut log), [2]);
        // Truncated, in the middle of a line.
        append_to(&path, &line(3)[..30]);
        look(&mut reader);
        fs::write(&path, line(4)).unwrap();
        look(&mut reader);
        assert_eq!(come(&mut log), [4]);
        // Replaced, as logrotate does; the old one still gets a line.
        fs::rename(&path, folder.path().join("keys.log.1")).unwrap();
        look(&mut reader);
        append_to(&folder.path().join("keys.log.1"), &line(5));
        fs::write(&path, line(6)).unwrap();
        look(&mut reader);
        assert_eq!(come(&mut log), [5, 6]);
        let counts = reader.session.key_log_counts().unwrap();
        assert_eq!(
            (counts.get(Counter::Secrets), counts.get(Counter::Restarts)),
            (5, 2)
        );
    }

    #[test]
    fn bad_lines_are_counted_by_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.log");
        let long = "x".repeat(2000);
        let random = "0".repeat(64);
        fs::write(
            &path,
            format!("one two\nCLIENT_RANDOM 00 00\nCLIENT_RANDOM {random} 00\n{long}\nUNKNOWN {random} 00\n"),
        )
        .unwrap();
        let (mut reader, mut log) = reader(&path, 4096);
        look(&mut reader);
        let counts = reader.session.key_log_counts().unwrap();
        for counter in [
            Counter::BadFormat,
            Counter::BadClientRandom,
            Counter::BadSecret,
            Counter::TooLong,
        ] {
            assert_eq!(counts.get(counter), 1, "{counter:?}");
        }
        assert!(come(&mut log).is_empty());
    }

    #[test]
    fn the_newest_secrets_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.log");
        fs::write(&path, (0..1000).map(line).collect::<String>()).unwrap();
        let (mut reader, mut log) = reader(&path, 1 << 14);
        look(&mut reader);
        let come = come(&mut log);
        assert!(come.is_sorted() && come.len() > 100, "{}", come.len());
        assert_eq!(come.last(), Some(&999));
    }

    #[test]
    fn writers_of_a_pipe_come_and_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.pipe");
        assert!(matches!(
            check(&config::KeyLog::Pipe(path.clone())),
            Err(KeyLogError::NoPipe { .. })
        ));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        check(&config::KeyLog::Pipe(path.clone())).unwrap();
        let (mut reader, mut log) = reader(&path, 1 << 16);
        look(&mut reader);
        for number in [1, 2] {
            let mut pipe = OpenOptions::new().write(true).open(&path).unwrap();
            pipe.write_all(line(number).as_bytes()).unwrap();
            pipe.write_all(b"CLIENT_RANDOM unfinished").unwrap();
            look(&mut reader);
            drop(pipe);
            look(&mut reader);
            assert_eq!(come(&mut log), [number]);
        }
        let folder = config::KeyLog::File(folder.path().to_owned());
        assert!(matches!(check(&folder), Err(KeyLogError::Folder { .. })));
    }
}
