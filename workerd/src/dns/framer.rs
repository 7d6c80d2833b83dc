//! Messages of a byte stream (RFC 1035 section 4.2.2, RFC 7766): each behind its length, in one direction.
//!
//! ```text
//!   chunks in order, gaps --> Framer --> a message has begun; a message, whole or cut
//! ```
//!
//! - How the stream is cut into chunks makes no difference. A message that lies in one chunk is not copied; others are, once.
//! - In step, a length is believed if what follows begins like any DNS header. A gap within a message leaves the rest of the stream in step.
//! - Out of step (behind other gaps, at the middle of a stream, behind what is no message) the next bytes are searched for that begin a message beyond doubt: length, a telling header, and
//!   a well-formed first question or record.
//! - A stream with [`MOST_LOST`] bytes in which no message begins is given up.
//!
//! Memory: at most one message, 64 KiB, if the caller grants it; a framer between messages keeps at most [`KEPT`]. Work is linear in the stream.

use super::message::{HEADER, Header};

/// Bytes in a row that may be no message.
pub const MOST_LOST: usize = 64 << 10;
/// Bytes that a framer between messages keeps allocated.
pub const KEPT: usize = 4096;

/// Bytes of a length.
const PREFIX: usize = 2;
/// Bytes that tell whether a message begins, whatever it is: length, header, a name without pointers, type and class.
const TELLING: usize = PREFIX + HEADER + 255 + 64 + 4;
/// Least length of a message with an entry: a question for the root.
const LEAST: usize = HEADER + 5;

/// What a stream has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message has begun, which ends before this offset.
    Begun {
        /// Offset behind it.
        end: u64,
    },
    /// The message that has begun is here.
    Message {
        /// It, without its length; what there is of it, if it is cut.
        bytes: &'a [u8],
        /// Where it begins, with its length.
        start: u64,
        /// Whether all of it is there.
        is_whole: bool,
    },
    /// What comes is no message; what may be one is looked for.
    OutOfStep,
    /// The stream is given up. Told once; nothing follows.
    GivenUp,
}

/// See the module.
#[derive(Debug)]
pub struct Framer {
    state: State,
    /// What could not be told yet.
    waiting: Vec<u8>,
    /// What of it has been told.
    told: usize,
    /// Offset of the first byte that was not told: the first that waits, or the next one.
    offset: u64,
    /// Bytes out of step, since the last message.
    lost: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A message begins.
    InStep,
    /// A message of so many bytes, with its length.
    Within(usize),
    /// So many bytes of a message that was told already.
    Passing(u64),
    OutOfStep,
    GivenUp,
}

impl Default for Framer {
    /// At the beginning of a stream.
    fn default() -> Self {
        Self {
            state: State::InStep,
            waiting: Vec::new(),
            told: 0,
            offset: 0,
            lost: 0,
        }
    }
}

impl Framer {
    /// Whether a message begins next, of which nothing has come: as at the beginning of a stream.
    #[must_use]
    pub fn is_in_step(&self) -> bool {
        self.state == State::InStep && self.waiting.len() == self.told
    }

    /// The next chunk begins at `offset`. Behind a gap of unknown length only the chunk tells.
    pub fn seek(&mut self, offset: u64) {
        self.forget_told();
        if self.waiting.is_empty() {
            self.offset = offset;
        }
    }

    /// What comes next, from what waits and from `chunk`, of which it takes what it needs; `None` once it needs more. Unless `may_wait`, what would have to wait is told as cut.
    pub fn next<'e, 'c: 'e>(
        &'e mut self,
        chunk: &mut &'c [u8],
        may_wait: bool,
    ) -> Option<Event<'e>> {
        self.forget_told();
        loop {
            match self.state {
                State::InStep => {
                    let head = PREFIX + HEADER;
                    let bytes = match self.waiting.is_empty() && chunk.len() >= head {
                        true => &chunk[..head],
                        false if self.wait(chunk, head) => &self.waiting[..head],
                        false => return None,
                    };
                    match in_step(bytes) {
                        Some(0) => self.pass_empty(chunk),
                        Some(total) => {
                            self.state = State::Within(total);
                            self.lost = 0;
                            let end = self.offset + total as u64;
                            return Some(Event::Begun { end });
                        }
                        None => {
                            self.state = State::OutOfStep;
                            return Some(Event::OutOfStep);
                        }
                    }
                }
                State::Within(total) => return self.message(chunk, total, may_wait),
                State::Passing(left) => {
                    let len = left.min(chunk.len() as u64);
                    self.skip(chunk, len as usize);
                    if len < left {
                        self.state = State::Passing(left - len);
                        return None;
                    }
                    self.state = State::InStep;
                }
                State::OutOfStep => {
                    if !self.find_step(chunk) {
                        return None;
                    }
                    if self.state == State::GivenUp {
                        return Some(Event::GivenUp);
                    }
                }
                State::GivenUp => {
                    *chunk = &[];
                    return None;
                }
            }
        }
    }

    /// Bytes are missing behind what came so far. What there is of a message that is cut is told.
    pub fn gap(&mut self, len: Option<u64>) -> Option<Event<'_>> {
        self.forget_told();
        let have = self.waiting.len();
        let behind = self.offset + have as u64 + len.unwrap_or(0);
        let cut = match (self.state, len) {
            (State::GivenUp, _) => return None,
            (State::Within(total), Some(len)) => {
                self.state = in_step_behind((total - have) as u64, len);
                Some(have)
            }
            (State::Within(_), None) => {
                self.state = State::OutOfStep;
                Some(have)
            }
            (State::Passing(left), Some(len)) => {
                self.state = in_step_behind(left, len);
                None
            }
            _ => {
                self.state = State::OutOfStep;
                None
            }
        };
        let start = std::mem::replace(&mut self.offset, behind);
        self.told = have;
        let bytes = self.waiting.get(PREFIX..cut?)?;
        Some(Event::Message {
            bytes,
            start,
            is_whole: false,
        })
    }

    /// The stream is over. What there is of a message is told.
    pub fn end(&mut self) -> Option<Event<'_>> {
        self.gap(None)
    }

    /// The offset before which everything was told, if no message has begun there.
    #[must_use]
    pub fn lost_before(&self) -> Option<u64> {
        matches!(self.state, State::OutOfStep | State::GivenUp).then_some(self.offset)
    }

    /// Bytes of memory.
    #[must_use]
    pub fn allocated(&self) -> usize {
        self.waiting.capacity()
    }

    fn message<'e, 'c: 'e>(
        &'e mut self,
        chunk: &mut &'c [u8],
        total: usize,
        may_wait: bool,
    ) -> Option<Event<'e>> {
        let start = self.offset;
        if self.waiting.is_empty() && chunk.len() >= total {
            let bytes = &chunk[PREFIX..total];
            self.skip(chunk, total);
            self.state = State::InStep;
            return Some(Event::Message {
                bytes,
                start,
                is_whole: true,
            });
        }
        let is_whole = self.wait(chunk, total);
        if !is_whole && may_wait {
            return None;
        }
        let have = self.waiting.len().min(total);
        self.told = have;
        self.offset += have as u64;
        self.state = match is_whole {
            true => State::InStep,
            false => State::Passing((total - have) as u64),
        };
        let bytes = self.waiting.get(PREFIX..have).unwrap_or_default();
        Some(Event::Message {
            bytes,
            start,
            is_whole,
        })
    }

    /// Has bytes of `chunk` wait until there are `len`; whether there are.
    fn wait(&mut self, chunk: &mut &[u8], len: usize) -> bool {
        let missing = len.saturating_sub(self.waiting.len());
        let (taken, rest) = chunk.split_at(missing.min(chunk.len()));
        self.waiting.extend_from_slice(taken);
        *chunk = rest;
        taken.len() == missing
    }

    /// Passes over bytes of `chunk`.
    fn skip(&mut self, chunk: &mut &[u8], len: usize) {
        *chunk = &chunk[len..];
        self.offset += len as u64;
    }

    /// Passes over a length that nothing follows.
    fn pass_empty(&mut self, chunk: &mut &[u8]) {
        match self.waiting.is_empty() {
            true => *chunk = &chunk[PREFIX..],
            false => _ = self.waiting.drain(..PREFIX),
        }
        self.offset += PREFIX as u64;
    }

    /// Looks for the beginning of a message. False if more bytes are needed; then all of `chunk` was taken.
    fn find_step(&mut self, chunk: &mut &[u8]) -> bool {
        if !self.waiting.is_empty() {
            // What waits may begin a message that goes on in the chunk.
            let old = self.waiting.len();
            let more = chunk.len().min(TELLING);
            self.waiting.extend_from_slice(&chunk[..more]);
            let found = (0..old).find_map(|at| Some((at, begins(&self.waiting[at..])?)));
            let (at, is_sure) = found.unwrap_or((old, true));
            if is_sure {
                self.waiting.truncate(old);
            } else {
                *chunk = &chunk[more..];
            }
            self.waiting.drain(..at);
            return self.lose(at, found.is_some(), is_sure);
        }
        let found = (0..chunk.len()).find_map(|at| Some((at, begins(&chunk[at..])?)));
        let (at, is_sure) = found.unwrap_or((chunk.len(), false));
        *chunk = &chunk[at..];
        if !is_sure {
            self.waiting.extend_from_slice(chunk);
            *chunk = &[];
        }
        self.lose(at, found.is_some(), is_sure)
    }

    /// So many bytes are no message; then one may begin. Whether it is worth going on.
    fn lose(&mut self, len: usize, is_found: bool, is_sure: bool) -> bool {
        self.offset += len as u64;
        self.lost += len;
        if self.lost > MOST_LOST {
            self.state = State::GivenUp;
            self.waiting = Vec::new();
            return true;
        }
        if is_found && is_sure {
            self.state = State::InStep;
        }
        is_sure
    }

    fn forget_told(&mut self) {
        self.waiting.drain(..std::mem::take(&mut self.told));
        if self.waiting.is_empty() && self.waiting.capacity() > KEPT {
            self.waiting = Vec::new();
        }
    }
}

/// The message that a segment begins with, or what the segment has of it, if that is beyond doubt a stream of messages: what follows must begin like one too.
#[must_use]
pub fn first(segment: &[u8]) -> Option<&[u8]> {
    if begins(segment) != Some(true) {
        return None;
    }
    let len = usize::from(u16::from_be_bytes([segment[0], segment[1]]));
    let message = &segment[PREFIX..];
    let Some((message, rest)) = message.split_at_checked(len) else {
        return Some(message);
    };
    let is_stream = rest
        .get(..PREFIX + HEADER)
        .is_none_or(|head| in_step(head).is_some());
    is_stream.then_some(message)
}

/// The bytes of the message that begins so, with its length: 0 if it has none but that. `None` if no message begins so.
fn in_step(head: &[u8]) -> Option<usize> {
    let len = usize::from(u16::from_be_bytes([head[0], head[1]]));
    if len == 0 {
        return Some(0);
    }
    let header = Header::read(&head[PREFIX..])?;
    (len >= HEADER && header.has_known_flags()).then_some(PREFIX + len)
}

/// Where a stream stands behind a gap of `gap` bytes, if so many bytes of a message were left.
fn in_step_behind(left: u64, gap: u64) -> State {
    match left.checked_sub(gap) {
        Some(0) => State::InStep,
        Some(left) => State::Passing(left),
        None => State::OutOfStep,
    }
}

/// Whether a message begins here. True: beyond doubt; false: perhaps, more bytes are needed; `None`: no.
fn begins(bytes: &[u8]) -> Option<bool> {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX) else {
        return Some(false);
    };
    let len = usize::from(u16::from_be_bytes([prefix[0], prefix[1]]));
    if len < LEAST {
        return None;
    }
    let message = &rest[..len.min(rest.len())];
    let Some(header) = Header::read(message) else {
        return Some(false);
    };
    if !header.is_telling() || HEADER + header.least_body() > len {
        return None;
    }
    match header.has_first_entry(message) {
        Some(true) => Some(true),
        None if message.len() < len => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behind_a_gap_of_unknown_length_offsets_are_those_of_the_chunks() {
        let message = b"\0\x12\0\x07\x01\0\0\x01\0\0\0\0\0\0\x01a\0\0\x01\0\x01";
        let len = message.len() - PREFIX;
        let stream = [&(len as u16).to_be_bytes(), &message[PREFIX..]].concat();
        let mut framer = Framer::default();
        assert_eq!(framer.gap(None), None);
        framer.seek(70_000);
        let (mut first, mut second) = (&stream[..9], &stream[9..]);
        assert_eq!(framer.next(&mut first, true), None);
        framer.seek(70_009);
        let end = 70_000 + stream.len() as u64;
        assert_eq!(framer.next(&mut second, true), Some(Event::Begun { end }));
        let message = Event::Message {
            bytes: &stream[PREFIX..],
            start: 70_000,
            is_whole: true,
        };
        assert_eq!(framer.next(&mut second, true), Some(message));
        assert_eq!(framer.next(&mut second, true), None);
    }
}
