//! The single-producer, single-consumer byte ring.
//!
//! ```text
//!            tail                      head
//!   ..........|====================.....|....      capacity: a power of two of bytes
//!             ^ read, to release        ^ written, to publish
//!
//!   record:  | len u32 | kind u8 | flags u8 | aux u16 | body ... | to a multiple of 8
//! ```
//!
//! Guarantees:
//! - cursors count bytes since the ring was made and never wrap in practice;
//! - a record never wraps: a *pad* record fills the end of the ring;
//! - records become visible in batches, by [`RingWriter::publish`], and their bytes may be reused only
//!   after [`RingReader::release`];
//! - each side keeps a copy of the other's cursor and reads the shared one only when the copy says
//!   "full" or "empty", so in steady state a batch costs one cache miss per side;
//! - the reader believes nothing: cursors, lengths and kinds are read once, checked against the
//!   mapping, then used. A writer gone mad costs [`RingError`]s, never an access outside the ring,
//!   and the work per call is bounded.
//!
//! The writer's side lies in the writer's region, the reader's in the reader's ([`crate::region`]); the
//! payload is only ever reached through [`SharedBytes`], which copies.

use crate::layout::{Kind, RegionId};
use crate::region::{Body, OwnedRegion, Region, RegionError};
use crate::shared_bytes::SharedBytes;
use crate::sync::{AtomicU32, AtomicU64, Line, Ordering};
use crate::wait;
use std::any::Any;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

pub(crate) mod framing;

pub use framing::PREAMBLE;
use framing::{PAD, Preamble, Space};

/// One side's shared words: its cursor, and whether it sleeps until the other side moves.
#[repr(C)]
pub(crate) struct Side {
    pub(crate) cursor: Line<AtomicU64>,
    pub(crate) sleeping: Line<AtomicU32>,
}

/// What a reader found wrong with the writer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RingError {
    /// The published head is not ahead of the reader by at most the capacity, or not aligned.
    #[error("published head {head} does not fit a reader at {position} in {capacity} bytes")]
    Head {
        /// What the writer published.
        head: u64,
        /// Where the reader stands.
        position: u64,
        /// Size of the ring.
        capacity: u64,
    },
    /// A record's length is no multiple of 8, too short, or runs past the head or the ring's end.
    #[error("record at {position} claims {len} bytes of {available}")]
    Length {
        /// Where the record starts.
        position: u64,
        /// What it claims.
        len: u32,
        /// What there is at most.
        available: u64,
    },
    /// The body is no record of its kind.
    #[error("record at {position} of kind {kind} is malformed")]
    Malformed {
        /// Where the record starts.
        position: u64,
        /// Its kind.
        kind: u8,
    },
}

/// The body does not fit into the ring at all, or not at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The reader has to release something first.
    #[error("the ring is full")]
    Now,
    /// Longer than half of the ring: refused at any fill level.
    #[error("the record is longer than half of the ring")]
    Always,
}

/// The writing half. Lives in the process that owns the ring's region.
pub struct RingWriter {
    ring: Ring,
    head: u64,
    published: u64,
    tail: u64,
    /// What the reader's cursor last said, believable or not: what sleeping compares with.
    seen: u64,
}

/// The reading half. Lives in the process that owns the cursor's region.
pub struct RingReader {
    ring: Ring,
    position: u64,
    head: u64,
    released: u64,
    /// What the writer's cursor last said, believable or not: what sleeping compares with.
    seen: u64,
}

/// A checked record whose body lies in the ring.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Meaning of the body, as the ring's user defines it.
    pub kind: u8,
    /// Bits of the ring's user.
    pub flags: u8,
    /// Two bytes of the ring's user.
    pub aux: u16,
    /// The body, rounded up to a multiple of 8 bytes.
    pub body: SharedBytes<'a>,
    /// Where the record starts.
    pub position: u64,
    /// Where the next record starts.
    pub end: u64,
}

impl Record<'_> {
    /// The error that says that this record's body is none of its kind.
    #[must_use]
    pub fn malformed(&self) -> RingError {
        RingError::Malformed {
            position: self.position,
            kind: self.kind,
        }
    }
}

/// Space for one record that is not visible yet.
pub struct Reservation<'a> {
    writer: &'a mut RingWriter,
    len: u64,
    body_len: usize,
}

impl RingWriter {
    /// Attaches to the ring `ring` (written by this process) whose reader's cursor is `cursor`.
    /// Writing goes on where the ring's head stands.
    ///
    /// # Errors
    /// See [`RegionError`].
    pub fn attach(
        id: RegionId,
        ring: BorrowedFd<'_>,
        cursor: BorrowedFd<'_>,
    ) -> Result<Self, RegionError> {
        Ok(Self::new(match id.kind {
            Kind::Rx => Ring::of_writer::<RxBody, RxCursorBody>(id, ring, cursor),
            _ => Ring::of_writer::<TxBody, TxCursorBody>(id, ring, cursor),
        }?))
    }

    fn new(ring: Ring) -> Self {
        let head = ring.mine().cursor.0.load(Ordering::Relaxed);
        let tail = head.saturating_sub(ring.capacity);
        Self {
            ring,
            head,
            published: head,
            tail,
            seen: tail,
        }
    }

    /// Goes back, or on, to `head`: what a predecessor committed (see [`crate::commit`]).
    pub fn resume(&mut self, head: u64) {
        self.ring.mine().cursor.0.store(head, Ordering::Release);
        (self.head, self.published) = (head, head);
        // As full as can be, until the reader's cursor says otherwise.
        self.tail = head.saturating_sub(self.ring.capacity);
    }

    /// Bytes of the ring.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.ring.capacity
    }

    /// Where the next record starts, in bytes since the ring was made.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.head
    }

    /// Space for a record with `body_len` bytes of body.
    ///
    /// # Errors
    /// [`Full`]; whatever was reserved and committed before is untouched.
    #[inline]
    pub fn reserve(&mut self, body_len: usize) -> Result<Reservation<'_>, Full> {
        let Space { pad, len } = framing::space(self.head, body_len, self.ring.capacity)?;
        if !self.has_room(pad + len) {
            return Err(Full::Now);
        }
        if pad > 0 {
            self.ring.put_preamble(self.head, Preamble::of_pad(pad));
            self.head += pad;
        }
        Ok(Reservation {
            writer: self,
            len,
            body_len,
        })
    }

    /// Whether at least `needed` bytes are free. Looks at the reader's cursor only when it last was too far back.
    #[inline]
    pub fn has_room(&mut self, needed: u64) -> bool {
        let fits = |tail| needed <= self.ring.capacity - (self.head - tail);
        if fits(self.tail) {
            return true;
        }
        // Pairs with the Release store in `RingReader::release_to`.
        let tail = self.ring.peer().cursor.0.load(Ordering::Acquire);
        self.seen = tail;
        // A cursor that lies more than the ring back, or past what was written, is a peer gone
        // mad: the ring then stays as full as it was.
        if tail > self.head || self.head - tail > self.ring.capacity {
            return false;
        }
        self.tail = tail;
        fits(tail)
    }

    /// Makes all committed records visible, and wakes the reader if it sleeps.
    #[inline]
    pub fn publish(&mut self) {
        if self.head == self.published {
            return;
        }
        self.published = self.head;
        // Pairs with the Acquire load in `RingReader::refresh`.
        self.ring
            .mine()
            .cursor
            .0
            .store(self.head, Ordering::Release);
        self.ring.wake_peer();
    }

    /// Bytes that the reader has not released.
    #[must_use]
    pub fn used(&self) -> u64 {
        let tail = self.ring.peer().cursor.0.load(Ordering::Acquire);
        self.head.saturating_sub(tail).min(self.ring.capacity)
    }

    /// Sleeps until the reader releases something, or for `timeout`.
    pub fn wait_for_room(&self, timeout: Duration) {
        wait::until_moved(&[(self.ring.mine(), self.ring.peer(), self.seen)], timeout);
    }
}

impl Reservation<'_> {
    /// The body to fill in, exactly as long as reserved. Holds old bytes at first.
    #[inline]
    pub fn body(&mut self) -> &mut [u8] {
        self.writer.ring.body_mut(self.writer.head, self.body_len)
    }

    /// Ends the record; it becomes visible with the next [`RingWriter::publish`].
    #[inline]
    pub fn commit(self, kind: u8, flags: u8, aux: u16) {
        debug_assert_ne!(kind, PAD);
        let preamble = Preamble {
            len: self.len as u32,
            kind,
            flags,
            aux,
        };
        self.writer.ring.put_preamble(self.writer.head, preamble);
        self.writer.head += self.len;
    }
}

impl RingReader {
    /// Attaches to the cursor region `cursor` (written by this process) of the ring `ring`.
    /// Reading goes on at the first record that was not released.
    ///
    /// # Errors
    /// See [`RegionError`].
    pub fn attach(
        id: RegionId,
        ring: BorrowedFd<'_>,
        cursor: BorrowedFd<'_>,
    ) -> Result<Self, RegionError> {
        Ok(Self::new(match id.kind {
            Kind::Rx => Ring::of_reader::<RxBody, RxCursorBody>(id, ring, cursor),
            _ => Ring::of_reader::<TxBody, TxCursorBody>(id, ring, cursor),
        }?))
    }

    fn new(ring: Ring) -> Self {
        let position = ring.mine().cursor.0.load(Ordering::Relaxed);
        Self {
            ring,
            position,
            head: position,
            released: position,
            seen: position,
        }
    }

    /// Goes to `position`: what a predecessor committed (see [`crate::commit`]).
    pub fn resume(&mut self, position: u64) {
        (self.position, self.head, self.released) = (position, position, position);
        self.seen = position;
        self.ring.mine().cursor.0.store(position, Ordering::Release);
    }

    /// Where the next record to read starts.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The next record, or `None` when the writer has published no more. Its bytes stay valid
    /// until they are released.
    ///
    /// # Errors
    /// [`RingError`]: the position is unchanged, see [`RingReader::skip_published`].
    #[inline]
    pub fn read(&mut self) -> Result<Option<Record<'_>>, RingError> {
        if self.position == self.head && !self.refresh()? {
            return Ok(None);
        }
        let (record, end) = match self.ring.record(self.position, self.head)? {
            Some(found) => found,
            // Nothing but padding was published.
            None => {
                self.position = self.head;
                return Ok(None);
            }
        };
        self.position = end;
        Ok(Some(record))
    }

    /// Whether the writer has published anything that was not read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // Pairs with the Release store in `RingWriter::publish`.
        self.position == self.ring.peer().cursor.0.load(Ordering::Acquire)
    }

    #[inline]
    fn refresh(&mut self) -> Result<bool, RingError> {
        // Pairs with the Release store in `RingWriter::publish`.
        let head = self.ring.peer().cursor.0.load(Ordering::Acquire);
        self.seen = head;
        if head == self.head {
            return Ok(false);
        }
        let (position, capacity) = (self.position, self.ring.capacity);
        if head < position || head - self.released > capacity || !head.is_multiple_of(8) {
            return Err(RingError::Head {
                head,
                position,
                capacity,
            });
        }
        self.head = head;
        Ok(true)
    }

    /// Gives up on everything published so far, after an error; returns the bytes skipped.
    pub fn skip_published(&mut self) -> u64 {
        let skipped = self.head - self.position;
        self.position = self.head;
        skipped
    }

    /// Goes back to `position`, the start of a record that was read and not released.
    pub fn unread(&mut self, position: u64) {
        self.position = position.clamp(self.released, self.position);
    }

    /// Releases all that was read.
    #[inline]
    pub fn release(&mut self) {
        self.release_to(self.position);
    }

    /// Releases what was read up to `position`, the end of a record.
    #[inline]
    pub fn release_to(&mut self, position: u64) {
        let position = position.clamp(self.released, self.position);
        if position == self.released {
            return;
        }
        self.released = position;
        // Pairs with the Acquire load in `RingWriter::has_room`.
        self.ring.mine().cursor.0.store(position, Ordering::Release);
        self.ring.wake_peer();
    }

    /// A view for other threads of what was read and is not released.
    #[must_use]
    pub fn view(&self) -> RingView {
        RingView {
            ring: self.ring.clone(),
        }
    }

    /// Sleeps until the writer of one of `readers` publishes, or for `timeout`. For readers whose last
    /// [`RingReader::read`] found nothing, or an error.
    pub fn wait_any(readers: &[&RingReader], timeout: Duration) {
        let sides: Vec<_> = readers
            .iter()
            .map(|reader| (reader.ring.mine(), reader.ring.peer(), reader.seen))
            .collect();
        wait::until_moved(&sides, timeout);
    }

    /// Bytes of the ring.
    #[must_use]
    pub fn capacity(&self) -> u64 {
        self.ring.capacity
    }
}

/// Read access to a ring's records by position, without a cursor of its own. The reader that it
/// came from must not release what is still to be read here; if it does, the bytes are those of
/// newer records, and the checks are the same.
#[derive(Clone)]
pub struct RingView {
    ring: Ring,
}

impl RingView {
    /// The records from `start` up to `end`.
    #[must_use]
    pub fn records(&self, start: u64, end: u64) -> Records<'_> {
        let end = end.min(start.saturating_add(self.ring.capacity));
        Records {
            ring: &self.ring,
            position: start,
            end,
        }
    }
}

/// Iterator of [`RingView::records`]. Ends at the first record that does not check out.
pub struct Records<'a> {
    ring: &'a Ring,
    position: u64,
    end: u64,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RingError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.position >= self.end {
            return None;
        }
        match self.ring.record(self.position, self.end) {
            Ok(found) => {
                let (record, end) = found?;
                self.position = end;
                Some(Ok(record))
            }
            Err(error) => {
                self.position = self.end;
                Some(Err(error))
            }
        }
    }
}

/// Both sides' words and the bytes, wherever they live: two regions, or the heap in models.
#[derive(Clone)]
struct Ring {
    mine: NonNull<Side>,
    peer: NonNull<Side>,
    data: NonNull<u8>,
    capacity: u64,
    #[cfg(loom)]
    shadow: Arc<model::Shadow>,
    /// Keeps the memory behind the pointers.
    _memory: Arc<dyn Any + Send + Sync>,
}

// SAFETY: the sides are atomics; the bytes are written by the one `RingWriter` in unpublished
// space only, and read by copying out.
unsafe impl Send for Ring {}
// SAFETY: as above.
unsafe impl Sync for Ring {}

impl Ring {
    #[inline]
    fn mask(&self) -> u64 {
        self.capacity - 1
    }

    #[inline]
    fn mine(&self) -> &Side {
        // SAFETY: points into memory that `_memory` keeps; `Side` is atomics only.
        unsafe { self.mine.as_ref() }
    }

    #[inline]
    fn peer(&self) -> &Side {
        // SAFETY: as in `mine`.
        unsafe { self.peer.as_ref() }
    }

    #[inline]
    fn wake_peer(&self) {
        wait::wake(self.mine(), self.peer());
    }

    /// The record at `position` and the position behind it; what lies before `head` is published.
    /// `None`: only padding up to `head`.
    #[inline]
    fn record(&self, position: u64, head: u64) -> Result<Option<(Record<'_>, u64)>, RingError> {
        let found = framing::find(position, head, self.capacity, |at| self.get_preamble(at))?;
        let Some((preamble, position)) = found else {
            return Ok(None);
        };
        let end = position + u64::from(preamble.len);
        let record = Record {
            kind: preamble.kind,
            flags: preamble.flags,
            aux: preamble.aux,
            body: self.body(position, preamble.body_len()),
            position,
            end,
        };
        Ok(Some((record, end)))
    }

    #[inline]
    fn put_preamble(&mut self, position: u64, preamble: Preamble) {
        let offset = (position & self.mask()) as usize;
        #[cfg(loom)]
        self.shadow.write(offset, PREAMBLE);
        // SAFETY: positions are multiples of 8, so the 8 bytes at `offset` lie within the data
        // and are aligned. The space was reserved: no reader looks at it before `publish`.
        unsafe { self.data.add(offset).cast::<u64>().write(preamble.word()) }
    }

    #[inline]
    fn get_preamble(&self, position: u64) -> u64 {
        let offset = (position & self.mask()) as usize;
        #[cfg(loom)]
        self.shadow.read(offset, PREAMBLE);
        // SAFETY: `position` is a multiple of 8 (heads are checked to be, and lengths), so the 8
        // bytes lie within the data and are aligned. Volatile: the peer may write at any time, and
        // the word must be read exactly once.
        unsafe { self.data.add(offset).cast::<u64>().read_volatile() }
    }

    #[inline]
    fn body_mut(&mut self, position: u64, len: usize) -> &mut [u8] {
        let offset = (position & self.mask()) as usize + PREAMBLE;
        #[cfg(loom)]
        self.shadow.write(offset, len);
        // SAFETY: the reservation made sure that preamble and body lie within the ring's end and in
        // space that the reader has released. Only this process has the ring mapped writable, and
        // the exclusive borrow of the writer makes this the only slice.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(offset).as_ptr(), len) }
    }

    #[inline]
    fn body(&self, position: u64, len: usize) -> SharedBytes<'_> {
        let offset = (position & self.mask()) as usize + PREAMBLE;
        #[cfg(loom)]
        self.shadow.read(offset, len);
        // SAFETY: `record` checked that `PREAMBLE + len` bytes at `position` end within the ring.
        let base = unsafe { self.data.add(offset) };
        // SAFETY: as above; `_memory` keeps the mapping for as long as `self` is borrowed.
        unsafe { SharedBytes::new(base, len) }
    }
}

/// Body of a ring's region: the bytes themselves.
#[repr(C)]
pub(crate) struct RingBody<const KIND: u16>;
pub(crate) type RxBody = RingBody<{ Kind::Rx as u16 }>;
pub(crate) type TxBody = RingBody<{ Kind::Tx as u16 }>;
/// Body of a cursor's region: nothing beyond the header.
pub(crate) type RxCursorBody = RingBody<{ Kind::RxCursor as u16 }>;
pub(crate) type TxCursorBody = RingBody<{ Kind::TxCursor as u16 }>;

// SAFETY: a zero-sized type has no invalid bytes.
unsafe impl Body for RxBody {
    const KIND: Kind = Kind::Rx;
}
// SAFETY: as above.
unsafe impl Body for TxBody {
    const KIND: Kind = Kind::Tx;
}
// SAFETY: as above.
unsafe impl Body for RxCursorBody {
    const KIND: Kind = Kind::RxCursor;
}
// SAFETY: as above.
unsafe impl Body for TxCursorBody {
    const KIND: Kind = Kind::TxCursor;
}

#[derive(Clone)]
struct Parts {
    side: NonNull<Side>,
    data: NonNull<u8>,
    capacity: u64,
    memory: Arc<crate::region::Mapping>,
}

impl<B> Region<B> {
    fn mapping_parts(&self) -> Parts {
        let memory = self.mapping().clone();
        Parts {
            side: NonNull::from(&memory.header().ring),
            // SAFETY: every mapping is at least a header long.
            data: unsafe { memory.base.add(crate::layout::HEADER_BYTES) },
            capacity: self.body_len(),
            memory,
        }
    }
}

impl Ring {
    /// The ring as its writer has it: the bytes are its own, the cursor is the reader's.
    fn of_writer<Bytes: Body, Cursor: Body>(
        id: RegionId,
        ring: BorrowedFd<'_>,
        cursor: BorrowedFd<'_>,
    ) -> Result<Self, RegionError> {
        let ring = OwnedRegion::<Bytes>::attach(ring, id)?.mapping_parts();
        let cursor = Region::<Cursor>::attach(cursor, id.with_kind(Cursor::KIND))?.mapping_parts();
        Ok(Self::of_regions(ring.clone(), &ring, &cursor))
    }

    /// The ring as its reader has it: the cursor is its own, the bytes are the writer's.
    fn of_reader<Bytes: Body, Cursor: Body>(
        id: RegionId,
        ring: BorrowedFd<'_>,
        cursor: BorrowedFd<'_>,
    ) -> Result<Self, RegionError> {
        let ring = Region::<Bytes>::attach(ring, id)?.mapping_parts();
        let cursor =
            OwnedRegion::<Cursor>::attach(cursor, id.with_kind(Cursor::KIND))?.mapping_parts();
        Ok(Self::of_regions(ring.clone(), &cursor, &ring))
    }

    fn of_regions(ring: Parts, mine: &Parts, peer: &Parts) -> Self {
        Self {
            mine: mine.side,
            peer: peer.side,
            data: ring.data,
            capacity: ring.capacity,
            #[cfg(loom)]
            shadow: Arc::new(model::Shadow::new(0)),
            _memory: Arc::new((mine.memory.clone(), peer.memory.clone())),
        }
    }
}

#[cfg(loom)]
pub(crate) mod model;
