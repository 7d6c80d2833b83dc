//! The append log: one process writes, any number of readers follow at their own pace.
//!
//! ```text
//!            tail                      head
//!   ..........|====================.....|....      capacity: a power of two of bytes
//!             ^ live, moved by the      ^ appended, to publish
//!               writer itself
//! ```
//!
//! Records are framed as in [`crate::ring`], and like there they never wrap. What differs: nobody holds the writer up. It
//! moves its tail when it wants room, and appends what is still of use again at the head. So a log is its own snapshot:
//! what lies between tail and head is all that matters, and whoever reads it from tail to head knows everything.
//! Since it is appended again before its old place is free, a writer begins with it long before the log is full:
//!
//! ```no_run
//! # fn is_of_use(_: &[u8]) -> bool { true }
//! # fn tidy(log: &mut shm_layout::log::LogWriter, scratch: &mut Vec<u8>) -> Result<(), Box<dyn std::error::Error>> {
//! while log.used() > log.capacity() / 2 {
//!     let Some(oldest) = log.read(log.tail(), scratch)? else { break };
//!     let end = oldest.end;
//!     if is_of_use(oldest.body) {
//!         log.append(oldest.kind, &[oldest.body])?;
//!     }
//!     log.release_to(end);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Guarantees:
//! - [`LogWriter::append`] overwrites nothing from the *published* tail on. The order of a batch is: append, move the
//!   tail, note [`LogWriter::bounds`] in the commit ([`crate::worker::WorkerCommit`]), publish the commit, then
//!   [`LogWriter::publish`]. So all that a commit speaks of is there whenever the writer dies, and its successor goes on
//!   from the commit ([`LogWriter::resume`]): what was appended behind it never happened;
//! - readers see what was published, and so only what was committed;
//! - a reader that was too slow returns no record that was overwritten under its eyes: it says
//!   [`LogError::Overrun`] and starts again at the tail;
//! - bounds, lengths and kinds are read once and checked, by readers and by the writer alike (its log was written by a
//!   predecessor that may have been taken over). A writer gone mad costs errors, never an access outside the log; each
//!   call ends, after work bounded by the capacity.
//!
//! The bytes are atomic words: a reader may read what is being overwritten. What it then has is thrown away, but reading
//! it is no data race.

use crate::layout::{HEADER_BYTES, Kind, RegionId};
use crate::region::{Body, OwnedRegion, Region, RegionError};
use crate::ring::framing::{self, PREAMBLE, Preamble, Space};
use crate::ring::{Full, RingError};
use crate::sync::{AtomicU64, Ordering, fence};
use std::any::Any;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;

/// The one kind of record as the framing sees it; the user's own kind lies beside it, as do the bytes that fill the last word.
const RECORD: u8 = 1;
/// Bytes of a word.
const WORD: usize = 8;
/// Positions beyond this are nonsense: no log of a running node comes near.
const FARTHEST: u64 = 1 << 62;
/// How often a reader looks for bounds that fit each other.
const TRIES: usize = if cfg!(loom) { 2 } else { 64 };

/// Where a log begins and ends, in bytes since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogBounds {
    /// Where the next record starts.
    pub head: u64,
    /// Where the first record that is still of use starts.
    pub tail: u64,
}

impl LogBounds {
    /// Bytes between them; 0 for bounds that are nonsense.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.head.saturating_sub(self.tail)
    }

    fn check(self, capacity: u64) -> Result<Self, LogError> {
        let Self { head, tail } = self;
        let aligned = head.is_multiple_of(WORD as u64) && tail.is_multiple_of(WORD as u64);
        if aligned && tail <= head && head - tail <= capacity && head <= FARTHEST {
            return Ok(self);
        }
        Err(LogError::Bounds {
            head,
            tail,
            capacity,
        })
    }
}

/// Why there is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The writer was faster. Reading goes on at the tail, and what is still of use lies between there and `head`.
    #[error("the writer has overtaken this reader, which starts again at the tail")]
    Overrun {
        /// Who has read up to here knows everything again.
        head: u64,
    },
    /// Head and tail do not fit each other.
    #[error("a log of {capacity} bytes does not reach from {tail} to {head}")]
    Bounds {
        /// The head.
        head: u64,
        /// The tail.
        tail: u64,
        /// Size of the log.
        capacity: u64,
    },
    /// A position outside of the log.
    #[error("{position} does not lie within the log")]
    Position {
        /// The position.
        position: u64,
    },
    /// What lies there is no record.
    #[error(transparent)]
    Record(#[from] RingError),
}

/// A record, copied out of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Meaning of the body, as the log's user defines it.
    pub kind: u16,
    /// The body, as long as it was appended, or as was asked for.
    pub body: &'a [u8],
    /// Where the record starts.
    pub position: u64,
    /// Where the next record starts.
    pub end: u64,
}

/// The writing half. Lives in the process that owns the log's region.
pub struct LogWriter {
    log: Log,
    bounds: LogBounds,
    /// What readers see, and what a successor can still need.
    published: LogBounds,
}

/// A reading half, with a cursor of its own. The writer does not know of it.
pub struct LogReader {
    log: Log,
    position: u64,
    /// As far as the log is known to reach.
    head: u64,
}

impl LogWriter {
    /// Attaches to the log `log`, which this process writes. It goes on where the last publication stands; see
    /// [`LogWriter::resume`].
    ///
    /// # Errors
    /// See [`RegionError`].
    pub fn attach(id: RegionId, log: BorrowedFd<'_>) -> Result<Self, RegionError> {
        Ok(Self::new(match id.kind {
            Kind::Held => Log::of_region(&*OwnedRegion::<HeldBody>::attach(log, id)?),
            Kind::Keys => Log::of_region(&*OwnedRegion::<KeysBody>::attach(log, id)?),
            _ => Log::of_region(&*OwnedRegion::<CallsBody>::attach(log, id)?),
        }))
    }

    fn new(log: Log) -> Self {
        // A region that says nonsense is taken for empty.
        let found = log.load_bounds().check(log.capacity);
        let bounds = found.unwrap_or_default();
        Self {
            log,
            bounds,
            published: bounds,
        }
    }

    /// Goes on at `bounds`, what a predecessor committed: what it appended behind them is forgotten.
    ///
    /// # Errors
    /// [`LogError::Bounds`] for bounds that no commit of a sane predecessor holds. The log stays as it was.
    pub fn resume(&mut self, bounds: LogBounds) -> Result<(), LogError> {
        self.bounds = bounds.check(self.log.capacity)?;
        self.publish();
        Ok(())
    }

    /// Appends a record: `parts`, one behind the other. Returns its position.
    ///
    /// # Errors
    /// [`Full::Always`] for a record that is longer than half of the log. [`Full::Now`] if the tail has to move, and that to be
    /// committed and published, first.
    pub fn append(&mut self, kind: u16, parts: &[&[u8]]) -> Result<u64, Full> {
        let body_len = parts.iter().map(|part| part.len()).sum();
        let Space { pad, len } = framing::space(self.bounds.head, body_len, self.log.capacity)?;
        if pad + len > self.log.capacity - (self.bounds.head - self.published.tail) {
            return Err(Full::Now);
        }
        if pad > 0 {
            let filler = Preamble::of_pad(pad).word();
            self.log.store(self.bounds.head, filler);
            self.bounds.head += pad;
        }
        let position = self.bounds.head;
        let preamble = Preamble {
            len: len as u32,
            kind: RECORD,
            flags: (len as usize - PREAMBLE - body_len) as u8,
            aux: kind,
        };
        self.log.store(position, preamble.word());
        self.log.store_parts(position + PREAMBLE as u64, parts);
        self.bounds.head += len;
        Ok(position)
    }

    /// The record at `position`, or behind the padding there, whether it is published yet or not; `None` at the head. To read
    /// the whole log, begin at the tail and go on at each record's end.
    ///
    /// # Errors
    /// [`LogError::Position`], or [`LogError::Record`] where a predecessor has left no record.
    pub fn read<'a>(
        &self,
        position: u64,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Option<Record<'a>>, LogError> {
        let LogBounds { head, tail } = self.bounds;
        if !(tail..=head).contains(&position) || !position.is_multiple_of(WORD as u64) {
            return Err(LogError::Position { position });
        }
        Ok(self.log.copy(position, head, usize::MAX, scratch)?)
    }

    /// Gives up what lies before `position`, the start or the end of a record. The room is free after the next
    /// [`LogWriter::publish`].
    pub fn release_to(&mut self, position: u64) {
        debug_assert!(position.is_multiple_of(WORD as u64));
        let LogBounds { head, tail } = self.bounds;
        self.bounds.tail = position.clamp(tail, head);
    }

    /// Makes everything visible to readers that was appended and given up. After the commit that says so.
    pub fn publish(&mut self) {
        if self.bounds == self.published {
            return;
        }
        self.published = self.bounds;
        // The head first: who sees this tail (Acquire in `Log::load_bounds`) also sees a head that is not behind it.
        // Pairs with the Acquire load of the head in `LogReader::next`.
        self.log.head().store(self.bounds.head, Ordering::Release);
        self.log.tail().store(self.bounds.tail, Ordering::Release);
        // Before any later store into what was given up. Pairs with the Acquire fence in `LogReader::next`: who sees one of
        // those stores also sees this tail.
        fence(Ordering::Release);
    }

    /// Where the log begins and ends: what to commit.
    #[must_use]
    pub fn bounds(&self) -> LogBounds {
        self.bounds
    }

    /// Where the next record starts, if it needs no padding.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.bounds.head
    }

    /// Where the first record starts that was not given up.
    #[must_use]
    pub fn tail(&self) -> u64 {
        self.bounds.tail
    }

    /// Bytes between tail and head.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.bounds.used()
    }

    /// Bytes of the log.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.log.capacity
    }
}

impl LogReader {
    /// Attaches to the log `log` of another process. Reading begins at the tail.
    ///
    /// # Errors
    /// See [`RegionError`].
    pub fn attach(id: RegionId, log: BorrowedFd<'_>) -> Result<Self, RegionError> {
        Ok(Self::new(match id.kind {
            Kind::Held => Log::of_region(&Region::<HeldBody>::attach(log, id)?),
            Kind::Keys => Log::of_region(&Region::<KeysBody>::attach(log, id)?),
            _ => Log::of_region(&Region::<CallsBody>::attach(log, id)?),
        }))
    }

    fn new(log: Log) -> Self {
        let mut reader = Self {
            log,
            position: 0,
            head: 0,
        };
        // Where the bounds are nonsense, `next` will say so.
        let _ = reader.restart();
        reader
    }

    /// Whether there is anything that was not read: one load.
    #[must_use]
    #[inline]
    pub fn behind(&self) -> bool {
        // Relaxed: `next` looks again before it reads anything.
        self.log.head().load(Ordering::Relaxed) != self.position
    }

    /// The next record, copied into `scratch`; `None` when the writer has published no more.
    ///
    /// A writer can be faster for as long as it likes: take a bounded number of records, and go on with something else.
    ///
    /// # Errors
    /// [`LogError::Overrun`]: the next call reads the first record of the log. [`LogError::Record`]: what was published so far
    /// is passed over. [`LogError::Bounds`]: nothing can be read until the writer says something else.
    pub fn next<'a>(&mut self, scratch: &'a mut Vec<u8>) -> Result<Option<Record<'a>>, LogError> {
        self.next_within(usize::MAX, scratch)
    }

    /// The same, but of a body no more than `most` bytes are copied, about: for those who shall not be held up by a writer's
    /// records.
    ///
    /// # Errors
    /// As [`LogReader::next`].
    pub fn next_within<'a>(
        &mut self,
        most: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Option<Record<'a>>, LogError> {
        if self.position == self.head {
            // Pairs with the Release store in `LogWriter::publish`: what lies before the head can be read.
            let head = self.log.head().load(Ordering::Acquire);
            if head == self.position {
                return Ok(None);
            }
            let tail = self.position;
            if (LogBounds { head, tail }).check(self.log.capacity).is_err() {
                return Err(self.restart());
            }
            self.head = head;
        }
        let found = self.log.copy(self.position, self.head, most, scratch);
        // Bytes are overwritten only when a tail behind them was published. So if one of those copied was overwritten before it
        // was read, the fence (it pairs with the one in `LogWriter::publish`) makes that tail visible here.
        fence(Ordering::Acquire);
        if self.log.tail().load(Ordering::Relaxed) > self.position {
            return Err(self.restart());
        }
        match found {
            Ok(Some(record)) => {
                self.position = record.end;
                Ok(Some(record))
            }
            Ok(None) => {
                self.position = self.head;
                Ok(None)
            }
            Err(error) => {
                self.position = self.head;
                Err(error.into())
            }
        }
    }

    /// Goes to the tail, and says why.
    fn restart(&mut self) -> LogError {
        let mut last = LogBounds::default();
        for _ in 0..TRIES {
            // They may come from different publications, and then not fit.
            last = self.log.load_bounds();
            if last.check(self.log.capacity).is_ok() {
                (self.position, self.head) = (last.tail, last.head);
                return LogError::Overrun { head: last.head };
            }
        }
        self.head = self.position;
        let LogBounds { head, tail } = last;
        LogError::Bounds {
            head,
            tail,
            capacity: self.log.capacity,
        }
    }

    /// Bytes between tail and head, as published.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.log.load_bounds().used().min(self.log.capacity)
    }

    /// Bytes of the log.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.log.capacity
    }
}

/// The shared words, wherever they live: a region, or the heap in models.
struct Log {
    head: NonNull<AtomicU64>,
    tail: NonNull<AtomicU64>,
    words: NonNull<AtomicU64>,
    capacity: u64,
    /// Keeps the memory behind the pointers.
    _memory: Arc<dyn Any + Send + Sync>,
}

// SAFETY: all that is shared are atomics; only the one `LogWriter` stores into them.
unsafe impl Send for Log {}
// SAFETY: as above.
unsafe impl Sync for Log {}

impl Log {
    fn of_region<B>(region: &Region<B>) -> Self {
        let memory = region.mapping().clone();
        let header = memory.header();
        Self {
            head: NonNull::from(&header.ring.cursor.0),
            tail: NonNull::from(&header.log_tail.0),
            // SAFETY: every mapping is at least a header long.
            words: unsafe { memory.base.add(HEADER_BYTES) }.cast(),
            capacity: region.body_len(),
            _memory: memory,
        }
    }

    #[inline]
    fn head(&self) -> &AtomicU64 {
        // SAFETY: points into memory that `_memory` keeps.
        unsafe { self.head.as_ref() }
    }

    #[inline]
    fn tail(&self) -> &AtomicU64 {
        // SAFETY: points into memory that `_memory` keeps.
        unsafe { self.tail.as_ref() }
    }

    /// Tail and head as published, the head not older than the tail.
    fn load_bounds(&self) -> LogBounds {
        // Both pair with the Release stores in `LogWriter::publish`.
        let tail = self.tail().load(Ordering::Acquire);
        let head = self.head().load(Ordering::Acquire);
        LogBounds { head, tail }
    }

    #[inline]
    fn word(&self, position: u64) -> &AtomicU64 {
        let index = (position & (self.capacity - 1)) as usize / WORD;
        // SAFETY: the capacity is a power of two of bytes behind `words` and a multiple of 8, so the word lies within it,
        // aligned, in memory that `_memory` keeps. Any bytes make a valid atomic.
        unsafe { self.words.add(index).as_ref() }
    }

    #[inline]
    fn load(&self, position: u64) -> u64 {
        self.word(position).load(Ordering::Relaxed)
    }

    #[inline]
    fn store(&mut self, position: u64, word: u64) {
        self.word(position).store(word, Ordering::Relaxed);
    }

    /// Stores `parts`, one behind the other, the last word filled with zeros.
    fn store_parts(&mut self, mut position: u64, parts: &[&[u8]]) {
        // The `filled` low bits of `pending` were not stored yet.
        let (mut pending, mut filled) = (0u64, 0);
        for part in parts {
            let (words, rest) = part.as_chunks::<WORD>();
            for bytes in words {
                let word = u64::from_le_bytes(*bytes);
                self.store(position, pending | word << filled);
                pending = word.checked_shr(64 - filled).unwrap_or(0);
                position += WORD as u64;
            }
            for byte in rest {
                pending |= u64::from(*byte) << filled;
                filled += 8;
                if filled == 64 {
                    self.store(position, pending);
                    (pending, filled) = (0, 0);
                    position += WORD as u64;
                }
            }
        }
        if filled > 0 {
            self.store(position, pending);
        }
    }

    /// Copies the record at `position`, a multiple of 8 before `head`, whatever the words are; `None`: only padding.
    fn copy<'a>(
        &self,
        position: u64,
        head: u64,
        most: usize,
        scratch: &'a mut Vec<u8>,
    ) -> Result<Option<Record<'a>>, RingError> {
        let found = framing::find(position, head, self.capacity, |at| self.load(at))?;
        let Some((preamble, position)) = found else {
            return Ok(None);
        };
        let fill = usize::from(preamble.flags);
        if preamble.kind != RECORD || fill >= WORD || preamble.body_len() < fill {
            let kind = preamble.kind;
            return Err(RingError::Malformed { position, kind });
        }
        let end = position + u64::from(preamble.len);
        scratch.clear();
        scratch.reserve(preamble.body_len().min(most.saturating_add(WORD)));
        let words = (position + PREAMBLE as u64..end).step_by(WORD);
        for at in words.take(most.div_ceil(WORD)) {
            scratch.extend_from_slice(&self.load(at).to_le_bytes());
        }
        scratch.truncate((preamble.body_len() - fill).min(most));
        Ok(Some(Record {
            kind: preamble.aux,
            body: scratch,
            position,
            end,
        }))
    }
}

/// Body of a log's region: the words themselves.
#[repr(C)]
struct LogBody<const KIND: u16>;
type CallsBody = LogBody<{ Kind::Calls as u16 }>;
type HeldBody = LogBody<{ Kind::Held as u16 }>;
type KeysBody = LogBody<{ Kind::Keys as u16 }>;

// SAFETY: a zero-sized type has no invalid bytes.
unsafe impl Body for CallsBody {
    const KIND: Kind = Kind::Calls;
}
// SAFETY: as above.
unsafe impl Body for HeldBody {
    const KIND: Kind = Kind::Held;
}
// SAFETY: as above.
unsafe impl Body for KeysBody {
    const KIND: Kind = Kind::Keys;
}

#[cfg(all(test, loom))]
mod model;
