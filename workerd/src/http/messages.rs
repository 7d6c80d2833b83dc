//! HTTP/1 messages of a byte stream (RFC 9112 sections 6 and 7), in one direction.
//!
//! ```text
//!   chunks in order, gaps --> Messages --> heads, bodies, ends; "no message begins here"
//! ```
//!
//! - How the stream is cut into chunks makes no difference, but for where bodies are cut. A head that lies in one chunk is not copied; others are, once.
//! - How long a body is only who knows the request can say: behind each head, [`Messages::body`] tells it.
//! - Empty lines before a message are passed over, and so is a proxy's header before the first one (HAProxy's PROXY protocol).
//! - Behind a gap, and where no message begins, the next start line begins one, with or without a line end before it, if it has at most [`LONGEST_SOUGHT`] bytes.
//! - A gap within a body of known length is passed over.
//!
//! Memory: a head that came in parts, at most [`LONGEST_HEAD`] bytes; longer ones are not read. Work is linear in the stream.

use std::ops::ControlFlow::{self, Break, Continue};

use memchr::{memchr, memchr_iter, memchr3, memmem};

use super::head::{LONGEST_METHOD, LONGEST_START, Start, is_method, may_begin_method};
use crate::detect::proxy;
use crate::flows::Direction;

/// Longest head, in bytes.
pub const LONGEST_HEAD: usize = 64 << 10;
/// Longest start line that is found where the stream is not understood.
pub const LONGEST_SOUGHT: usize = 2048;
/// Bytes that stay allocated between heads.
const KEPT: usize = 4096;

/// How long a body is (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// To the end of the stream.
    UntilEnd,
}

/// What a stream has.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A head, for [`Head::parse`](super::head::Head::parse). [`Messages::body`] has to be called then.
    Head {
        /// With the empty line behind it.
        bytes: &'a [u8],
        /// Offset of its first byte.
        start: u64,
    },
    /// A part of the body.
    Body(&'a [u8]),
    /// The message ends.
    End,
    /// No message begins at this offset, where one should.
    Strange(u64),
}

/// See the module.
#[derive(Debug)]
pub struct Messages {
    direction: Direction,
    state: State,
    /// What there is of a head, or may be of a start line. Never longer than its last line.
    buffer: Vec<u8>,
    /// Whether the buffer was told.
    is_told: bool,
    /// Whether the buffer is known to be too short.
    is_looked_at: bool,
    /// Whether no message has come.
    is_first: bool,
    /// Offset of the first byte that is not told.
    settled: u64,
}

/// Where a stream is, between two of its bytes; see [`Messages::progress`].
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Progress {
    /// Which state.
    #[prost(uint32, tag = "1")]
    kind: u32,
    /// An offset or a size.
    #[prost(uint64, tag = "2")]
    number: u64,
    #[prost(bool, tag = "3")]
    flag: bool,
    /// Whether a message has come.
    #[prost(bool, tag = "4")]
    has_begun: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a message.
    Head {
        /// Where the current line begins.
        line: usize,
        /// Where its end is to be looked for.
        searched: usize,
    },
    /// Anywhere.
    Lost,
    /// Within a proxy's header, up to this offset.
    Skip(u64),
    /// Within a body, up to this offset.
    Length(u64),
    UntilEnd,
    /// In the size of a chunk.
    Size {
        size: u64,
        has_digits: bool,
    },
    /// Behind the size of a chunk.
    Extension {
        size: u64,
    },
    /// Within the data of a chunk, up to this offset.
    Chunk(u64),
    /// Behind the data of a chunk.
    ChunkEnd {
        has_cr: bool,
    },
    /// Behind the last chunk.
    Trailers {
        /// What there is of the current line.
        line: Line,
    },
}

/// What there is of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Nothing,
    /// A carriage return, which may belong to its end.
    Cr,
    Text,
}

const BEGIN: State = State::Head {
    line: 0,
    searched: 0,
};

const SIZE: State = State::Size {
    size: 0,
    has_digits: false,
};

impl Progress {
    /// Up to which offset bytes leave the stream where it is.
    #[must_use]
    pub fn passive(self) -> u64 {
        match self.kind {
            2 | 3 | 7 => self.number,
            1 | 4 => u64::MAX,
            _ => 0,
        }
    }
}

/// What a look at the view says: the buffer, or the chunk while the buffer is empty.
enum Look {
    /// More bytes are needed.
    More,
    /// So many bytes at its start are of no message.
    Drop(usize),
    /// So many are a head.
    Head(usize),
    /// No message begins at its start.
    Strange,
}

/// An event, before it is known where its bytes stay.
enum Found<'c> {
    Buffered,
    Head(&'c [u8]),
    Body(&'c [u8]),
    End,
    Strange,
}

impl Messages {
    /// For a stream that is seen from its start.
    #[must_use]
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            state: BEGIN,
            buffer: Vec::new(),
            is_told: false,
            is_looked_at: false,
            is_first: true,
            settled: 0,
        }
    }

    /// Where the stream is, before the first byte that is not told.
    #[must_use]
    pub fn progress(&self) -> Progress {
        let (kind, number, flag) = match self.state {
            State::Head { .. } => (0, 0, false),
            State::Lost => (1, 0, false),
            State::Skip(end) => (2, end, false),
            State::Length(end) => (3, end, false),
            State::UntilEnd => (4, 0, false),
            State::Size { size, has_digits } => (5, size, has_digits),
            State::Extension { size } => (6, size, false),
            State::Chunk(end) => (7, end, false),
            State::ChunkEnd { has_cr } => (8, 0, has_cr),
            State::Trailers { line } => (9, line as u64, false),
        };
        Progress {
            kind,
            number,
            flag,
            has_begun: !self.is_first,
        }
    }

    /// A stream that goes on where another one was.
    #[must_use]
    pub fn resumed(direction: Direction, progress: Progress) -> Self {
        let Progress { number, flag, .. } = progress;
        let state = match progress.kind {
            0 => BEGIN,
            2 => State::Skip(number),
            3 => State::Length(number),
            4 => State::UntilEnd,
            5 => State::Size {
                size: number,
                has_digits: flag,
            },
            6 => State::Extension { size: number },
            7 => State::Chunk(number),
            8 => State::ChunkEnd { has_cr: flag },
            9 => State::Trailers {
                line: match number {
                    0 => Line::Nothing,
                    1 => Line::Cr,
                    _ => Line::Text,
                },
            },
            _ => State::Lost,
        };
        Self {
            state,
            is_first: !progress.has_begun,
            ..Self::new(direction)
        }
    }

    /// What comes next; takes what it needs off the chunk, and all of it before it returns `None`.
    pub fn next<'m, 'c: 'm>(&'m mut self, chunk: &mut &'c [u8]) -> Option<Event<'m>> {
        if std::mem::take(&mut self.is_told) {
            self.buffer.clear();
            self.buffer.shrink_to(KEPT);
        }
        let found = self.find(chunk)?;
        Some(match found {
            Found::Buffered => Event::Head {
                bytes: &self.buffer,
                start: self.settled - self.buffer.len() as u64,
            },
            Found::Head(bytes) => Event::Head {
                bytes,
                start: self.settled - bytes.len() as u64,
            },
            Found::Body(bytes) => Event::Body(bytes),
            Found::End => Event::End,
            Found::Strange => Event::Strange(self.settled),
        })
    }

    /// How long the body behind the head just told is.
    pub fn body(&mut self, framing: Framing) {
        self.state = match framing {
            Framing::None => State::Length(self.settled),
            Framing::Length(length) => State::Length(self.settled.saturating_add(length)),
            Framing::Chunked => SIZE,
            Framing::UntilEnd => State::UntilEnd,
        };
    }

    /// The body does not come after all, of which nothing has come.
    pub fn excuse_body(&mut self) {
        let is_to_come = match self.state {
            State::Length(end) => end > self.settled,
            state => state == SIZE,
        };
        if is_to_come {
            self.state = State::Length(self.settled);
        }
    }

    /// Bytes are missing, if it is known how many. Returns whether it is known how the stream goes on.
    pub fn gap(&mut self, missing: Option<u64>) -> bool {
        self.is_first = false;
        self.settled += self.buffered() + missing.unwrap_or(0);
        self.buffer = Vec::new();
        self.is_told = false;
        let is_in_step = match self.state {
            State::UntilEnd => true,
            State::Length(end) | State::Chunk(end) => missing.is_some() && self.settled <= end,
            _ => false,
        };
        if !is_in_step {
            self.state = State::Lost;
        }
        is_in_step
    }

    /// The next chunk begins at `offset`.
    pub fn is_at(&mut self, offset: u64) {
        self.settled = offset.saturating_sub(self.buffered());
    }

    /// Whether a part of a head has come.
    #[must_use]
    pub fn is_within_head(&self) -> bool {
        self.buffered() > 0
    }

    /// Whether nothing has come.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_first && self.state == BEGIN && self.buffer.is_empty()
    }

    /// Whether a body goes to the end of the stream.
    #[must_use]
    pub fn is_until_end(&self) -> bool {
        self.state == State::UntilEnd
    }

    /// Offset before which all is told: where the head or start line begins that is not whole, or what comes next.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled
    }

    /// Bytes of memory that it holds, besides itself.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    fn buffered(&self) -> u64 {
        match self.is_told {
            true => 0,
            false => self.buffer.len() as u64,
        }
    }

    fn find<'c>(&mut self, chunk: &mut &'c [u8]) -> Option<Found<'c>> {
        loop {
            match self.state {
                State::Length(end) if end <= self.settled => {
                    self.state = BEGIN;
                    return Some(Found::End);
                }
                State::Chunk(end) if end <= self.settled => {
                    self.state = State::ChunkEnd { has_cr: false };
                }
                State::Head { .. } | State::Lost => {
                    if let Break(found) = self.begin(chunk) {
                        return found;
                    }
                }
                _ if chunk.is_empty() => return None,
                State::Skip(end) if end <= self.settled => self.state = BEGIN,
                State::Skip(end) => {
                    self.take(chunk, end - self.settled);
                }
                State::UntilEnd => return Some(Found::Body(self.take(chunk, u64::MAX))),
                State::Length(end) | State::Chunk(end) => {
                    return Some(Found::Body(self.take(chunk, end - self.settled)));
                }
                State::Size { .. } | State::Extension { .. } | State::ChunkEnd { .. } => {
                    if !self.chunk_line(chunk) {
                        self.state = State::Lost;
                        return Some(Found::Strange);
                    }
                }
                State::Trailers { line } => {
                    let more = self.line(chunk);
                    let text = more.strip_suffix(b"\n");
                    let line = match (line, text.unwrap_or(more)) {
                        (line, b"") => line,
                        (Line::Nothing, b"\r") => Line::Cr,
                        _ => Line::Text,
                    };
                    let is_over = text.is_some();
                    if is_over && line != Line::Text {
                        self.state = BEGIN;
                        return Some(Found::End);
                    }
                    self.state = State::Trailers {
                        line: if is_over { Line::Nothing } else { line },
                    };
                }
            }
        }
    }

    /// Goes on in what stands around the data of chunks (RFC 9112 section 7.1). False if it is wrong.
    fn chunk_line(&mut self, chunk: &mut &[u8]) -> bool {
        match self.state {
            State::Size { size, has_digits } => {
                let Some(digit) = hex(chunk[0]) else {
                    self.state = State::Extension { size };
                    return has_digits;
                };
                self.take(chunk, 1);
                self.state = State::Size {
                    size: size << 4 | digit,
                    has_digits: true,
                };
                size >> 60 == 0
            }
            State::Extension { size } => {
                if self.line(chunk).ends_with(b"\n") {
                    self.state = match size {
                        0 => State::Trailers {
                            line: Line::Nothing,
                        },
                        size => State::Chunk(self.settled.saturating_add(size)),
                    };
                }
                true
            }
            State::ChunkEnd { has_cr } => {
                self.state = match chunk[0] {
                    b'\n' => SIZE,
                    b'\r' if !has_cr => State::ChunkEnd { has_cr: true },
                    _ => return false,
                };
                self.take(chunk, 1);
                true
            }
            _ => false,
        }
    }

    /// The bytes up to the end of the line, or all.
    fn line<'c>(&mut self, chunk: &mut &'c [u8]) -> &'c [u8] {
        let end = memchr(b'\n', chunk).map_or(chunk.len(), |end| end + 1);
        self.take(chunk, end as u64)
    }

    fn take<'c>(&mut self, chunk: &mut &'c [u8], most: u64) -> &'c [u8] {
        let len = usize::try_from(most).map_or(chunk.len(), |most| most.min(chunk.len()));
        let (bytes, rest) = chunk.split_at(len);
        *chunk = rest;
        self.settled += len as u64;
        bytes
    }

    /// Goes on where a message begins, or may begin: breaks off when that is told, or when more bytes are needed.
    fn begin<'c>(&mut self, chunk: &mut &'c [u8]) -> ControlFlow<Option<Found<'c>>> {
        if self.buffer.is_empty() {
            if chunk.is_empty() {
                return Break(None);
            }
            match self.look(chunk) {
                Look::More => {
                    self.buffer.extend_from_slice(chunk);
                    self.is_looked_at = true;
                    *chunk = &[];
                    return Break(None);
                }
                Look::Drop(len) => {
                    self.take(chunk, len as u64);
                }
                Look::Head(len) => return Break(Some(Found::Head(self.take(chunk, len as u64)))),
                Look::Strange => return Break(Some(self.lose())),
            }
            return Continue(());
        }
        if self.is_looked_at {
            if chunk.is_empty() {
                return Break(None);
            }
            // No more than a line, so that what follows the head stays where it is.
            let line = memchr(b'\n', chunk).map_or(chunk.len(), |end| end + 1);
            let (line, rest) = chunk.split_at(line.min(LONGEST_HEAD));
            self.buffer.extend_from_slice(line);
            *chunk = rest;
        }
        let buffer = std::mem::take(&mut self.buffer);
        let look = self.look(&buffer);
        self.buffer = buffer;
        self.is_looked_at = false;
        match look {
            Look::More => self.is_looked_at = true,
            Look::Drop(len) => {
                self.settled += len as u64;
                self.buffer.drain(..len);
            }
            Look::Head(_) => {
                self.settled += self.buffer.len() as u64;
                self.is_told = true;
                return Break(Some(Found::Buffered));
            }
            Look::Strange => return Break(Some(self.lose())),
        }
        Continue(())
    }

    fn lose<'c>(&mut self) -> Found<'c> {
        self.state = State::Lost;
        Found::Strange
    }

    fn look(&mut self, view: &[u8]) -> Look {
        match self.state {
            State::Head { line, searched } => self.look_for_end(view, line, searched),
            _ => match seek(view, self.direction) {
                Sought::At(start) => {
                    self.state = BEGIN;
                    Look::Drop(start)
                }
                Sought::PerhapsAt(0) => Look::More,
                Sought::PerhapsAt(start) => Look::Drop(start),
            },
        }
    }

    /// A look at a head, whose line at `line` has no end before `searched`.
    fn look_for_end(&mut self, view: &[u8], mut line: usize, mut searched: usize) -> Look {
        let is_request = self.direction == Direction::Request;
        if line == 0 && searched == 0 {
            if self.is_first && is_request {
                match proxy::header_len(view) {
                    Some(0) => {}
                    None => return Look::More,
                    Some(len) => {
                        self.is_first = false;
                        self.state = State::Skip(self.settled + len as u64);
                        return Look::Drop(len.min(view.len()));
                    }
                }
            }
            let blanks = view
                .iter()
                .take_while(|byte| matches!(byte, b'\r' | b'\n'))
                .count();
            if blanks > 0 {
                return Look::Drop(blanks);
            }
        }
        if line == 0 && !Start::may_begin(view, is_request) {
            return Look::Strange;
        }
        while let Some(end) = memchr(b'\n', &view[searched..]) {
            let end = searched + end;
            let text = &view[line..end];
            if line == 0 && !self.is_start(text) {
                return match self.is_first && is_request && Start::simple(text).is_some() {
                    true => self.head(end + 1),
                    false => Look::Strange,
                };
            }
            (line, searched) = (end + 1, end + 1);
            if matches!(text, [] | [b'\r']) {
                return self.head(end + 1);
            }
        }
        if line == 0 && view.len() > LONGEST_START {
            return Look::Strange;
        }
        if view.len() > LONGEST_HEAD {
            self.state = State::Lost;
            return Look::Drop(view.len());
        }
        self.state = State::Head {
            line,
            searched: view.len(),
        };
        Look::More
    }

    fn head(&mut self, len: usize) -> Look {
        self.is_first = false;
        // Until it is told how long its body is.
        self.state = State::Length(0);
        Look::Head(len)
    }

    fn is_start(&self, line: &[u8]) -> bool {
        let is_request = match Start::of(line) {
            Some(Start::Request { .. }) => true,
            Some(Start::Response { .. }) => false,
            None => return false,
        };
        is_request == (self.direction == Direction::Request)
    }
}

/// Whether a start line, of requests or of responses, is anywhere in `bytes`.
#[must_use]
pub fn is_in(bytes: &[u8], direction: Direction) -> bool {
    matches!(seek(bytes, direction), Sought::At(_))
}

/// Where the next start line is.
enum Sought {
    At(usize),
    /// It may begin here; not before.
    PerhapsAt(usize),
}

fn seek(view: &[u8], direction: Direction) -> Sought {
    match direction {
        Direction::Request => seek_request(view),
        Direction::Response => seek_response(view),
    }
}

/// A method, a blank, a target without blanks, a blank and a version that ends its line.
fn seek_request(view: &[u8]) -> Sought {
    for blank in memchr_iter(b' ', view) {
        let Some(start) = method_before(view, blank) else {
            continue;
        };
        match ends_with_version(&view[blank + 1..]) {
            Some(Some(end)) if Start::of(&view[start..blank + 1 + end]).is_some() => {
                return Sought::At(start);
            }
            None if view.len() - start <= LONGEST_SOUGHT => return Sought::PerhapsAt(start),
            _ => {}
        }
    }
    let most = view.len().min(LONGEST_METHOD);
    let begun = (1..=most)
        .rev()
        .find(|len| may_begin_method(&view[view.len() - len..]));
    Sought::PerhapsAt(view.len() - begun.unwrap_or(0))
}

/// Where the method begins that ends before `blank`.
fn method_before(view: &[u8], blank: usize) -> Option<usize> {
    let earliest = blank.saturating_sub(LONGEST_METHOD);
    (earliest..blank).find(|start| is_method(&view[*start..blank]))
}

/// Whether a target, a version and a line end follow, and where the line ends; `None` if that is still open.
fn ends_with_version(text: &[u8]) -> Option<Option<usize>> {
    const VERSION: usize = 8;
    let blank = memchr3(b' ', b'\r', b'\n', &text[..text.len().min(LONGEST_SOUGHT)]);
    let Some(blank) = blank else {
        return (text.len() > LONGEST_SOUGHT).then_some(None);
    };
    let version = &text[blank + 1..];
    let expected = &b"HTTP/"[..version.len().min(5)];
    if text[blank] != b' ' || !version.starts_with(expected) {
        return Some(None);
    }
    match version.get(VERSION..)? {
        [] | [b'\r'] => None,
        [b'\n', ..] | [b'\r', b'\n', ..] => Some(Some(blank + 1 + VERSION)),
        _ => Some(None),
    }
}

/// A version, a blank and a status, up to the end of the line.
fn seek_response(view: &[u8]) -> Sought {
    const START: &[u8] = b"HTTP/";
    for start in memmem::find_iter(view, START) {
        let line = &view[start..view.len().min(start + LONGEST_SOUGHT)];
        match memchr(b'\n', line) {
            Some(end) if Start::of(&line[..end]).is_some() => return Sought::At(start),
            None if view.len() - start <= LONGEST_SOUGHT => return Sought::PerhapsAt(start),
            _ => {}
        }
    }
    let most = view.len().min(START.len() - 1);
    let begun = (1..=most).rev().find(|len| view.ends_with(&START[..*len]));
    Sought::PerhapsAt(view.len() - begun.unwrap_or(0))
}

fn hex(digit: u8) -> Option<u64> {
    char::from(digit).to_digit(16).map(u64::from)
}
