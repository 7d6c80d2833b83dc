//! Frames of HTTP/2 (RFC 9113 section 4), in one direction.
//!
//! Blocks of fields are put together from their frames, up to [`MOST_BLOCK`] bytes (section 6.10 sets no bound); data are given as they come. Other frames are
//! passed over. A gap is survived within data and within frames that are passed over.

use crate::detect::fields::{be24, be32};

/// Most bytes of a block of fields, and of a frame of one.
pub const MOST_BLOCK: usize = 64 << 10;
/// What a client's side of a connection begins with (section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEADER: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const PUSH_PROMISE: u8 = 5;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 0x01;
const END_HEADERS: u8 = 0x04;
const PADDED: u8 = 0x08;
const PRIORITY: u8 = 0x20;

/// What a stream of frames has.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole block of fields.
    Block {
        /// Whose.
        stream: u32,
        /// The stream that it announces, instead of being about its own.
        promised: Option<u32>,
        /// Whether its stream ends with it in this direction.
        is_last: bool,
        /// Compressed.
        block: &'a [u8],
        /// Offset of its first frame.
        start: u64,
    },
    /// A part of the data of a stream.
    Data {
        /// Whose.
        stream: u32,
        /// Without padding.
        bytes: &'a [u8],
    },
    /// A stream ends in this direction.
    EndOf(u32),
    /// A stream is given up.
    Reset(u32),
    /// A frame that is passed over; its stream, or 0.
    Other(u32),
    /// It is not known how it goes on.
    Broken,
}

/// See the module.
#[derive(Debug)]
pub struct Frames {
    state: State,
    /// A frame's header, or the payload of a frame that is needed whole.
    buffer: Vec<u8>,
    block: Vec<u8>,
    /// Whose block goes on in the next frame.
    open: Option<Open>,
    /// Whether the block was told.
    is_told: bool,
    /// Offset of the next byte.
    offset: u64,
    is_new: bool,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    stream: u32,
    promised: Option<u32>,
    is_last: bool,
    start: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes of the preface have come.
    Preface(usize),
    Header,
    Whole(Header),
    /// The length of the padding comes next.
    Padding(Header),
    Data {
        stream: u32,
        left: u32,
        padding: u32,
        is_last: bool,
    },
    Skip {
        stream: u32,
        left: u32,
    },
    /// The end of a stream is still to be told.
    End(u32),
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    len: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Header {
    fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl Frames {
    /// For a direction that begins with so many bytes of the [`PREFACE`] behind it.
    #[must_use]
    pub fn new(of_preface: usize) -> Self {
        Self {
            state: match of_preface {
                0..24 => State::Preface(of_preface),
                _ => State::Header,
            },
            buffer: Vec::new(),
            block: Vec::new(),
            open: None,
            is_told: false,
            offset: 0,
            is_new: true,
        }
    }

    /// Whether nothing has come.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// The next chunk begins at `offset`.
    pub fn is_at(&mut self, offset: u64) {
        self.offset = offset;
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The stream whose frame goes on, or 0; `None` if that is not known.
    #[must_use]
    pub fn current(&self) -> Option<u32> {
        match self.state {
            State::Data { stream, .. } | State::Skip { stream, .. } => Some(stream),
            _ => None,
        }
    }

    /// Bytes of memory that it holds, besides itself.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.capacity() + self.block.capacity()
    }

    /// Bytes are missing, if it is known how many. False if it is not known how it goes on.
    pub fn gap(&mut self, missing: Option<u64>) -> bool {
        let missing = missing.and_then(|missing| u32::try_from(missing).ok());
        self.offset += u64::from(missing.unwrap_or(0));
        let left = match (self.state, missing) {
            (State::Skip { stream, left }, Some(missing)) => left
                .checked_sub(missing)
                .map(|left| State::Skip { stream, left }),
            (
                State::Data {
                    stream,
                    left,
                    padding,
                    is_last,
                },
                Some(missing),
            ) => left.checked_sub(missing).map(|left| State::Data {
                stream,
                left,
                padding,
                is_last,
            }),
            _ => None,
        };
        self.state = left.unwrap_or(State::Broken);
        if left.is_none() {
            (self.buffer, self.block, self.open) = (Vec::new(), Vec::new(), None);
        }
        left.is_some()
    }

    /// What comes next; takes what it needs off the chunk, and all of it before it returns `None`.
    pub fn next<'f, 'c: 'f>(&'f mut self, chunk: &mut &'c [u8]) -> Option<Event<'f>> {
        if std::mem::take(&mut self.is_told) {
            self.block = Vec::new();
        }
        loop {
            match self.state {
                State::End(stream) => {
                    self.state = State::Header;
                    return Some(Event::EndOf(stream));
                }
                State::Data {
                    stream,
                    left: 0,
                    padding,
                    is_last,
                } => {
                    self.state = match (padding, is_last) {
                        (0, false) => State::Header,
                        (0, true) => State::End(stream),
                        // The end is told with the data.
                        (left, _) => State::Skip { stream, left },
                    };
                    if padding > 0 && is_last {
                        return Some(Event::EndOf(stream));
                    }
                }
                State::Skip { stream, left: 0 } => {
                    self.state = State::Header;
                    return Some(Event::Other(stream));
                }
                State::Whole(header) => {
                    if !self.fill(chunk, header.len as usize) {
                        return None;
                    }
                    self.state = State::Header;
                    let payload = std::mem::take(&mut self.buffer);
                    match self.whole(header, &payload) {
                        Outcome::More => {}
                        Outcome::Block(open) => {
                            self.is_told = true;
                            return Some(Event::Block {
                                stream: open.stream,
                                promised: open.promised,
                                is_last: open.is_last,
                                block: &self.block,
                                start: open.start,
                            });
                        }
                        Outcome::Reset => return Some(Event::Reset(header.stream)),
                        Outcome::Broken => return Some(self.break_off()),
                    }
                }
                _ if chunk.is_empty() => return None,
                State::Broken => {
                    self.take(chunk, usize::MAX);
                    return None;
                }
                State::Preface(seen) => {
                    let bytes = self.take(chunk, PREFACE.len() - seen);
                    if !PREFACE[seen..].starts_with(bytes) {
                        return Some(self.break_off());
                    }
                    self.state = match seen + bytes.len() {
                        24 => State::Header,
                        seen => State::Preface(seen),
                    };
                    if self.state == State::Header {
                        return Some(Event::Other(0));
                    }
                }
                State::Skip { stream, left } => {
                    let left = left - self.take(chunk, left as usize).len() as u32;
                    self.state = State::Skip { stream, left };
                }
                State::Data {
                    stream,
                    left,
                    padding,
                    is_last,
                } => {
                    let bytes = self.take(chunk, left as usize);
                    self.state = State::Data {
                        stream,
                        left: left - bytes.len() as u32,
                        padding,
                        is_last,
                    };
                    return Some(Event::Data { stream, bytes });
                }
                State::Padding(header) => {
                    let padding = self.take(chunk, 1).first().map_or(0, |len| u32::from(*len));
                    let Some(left) = (header.len - 1).checked_sub(padding) else {
                        return Some(self.break_off());
                    };
                    self.state = State::Data {
                        stream: header.stream,
                        left,
                        padding,
                        is_last: header.has(END_STREAM),
                    };
                }
                State::Header => {
                    if self.fill(chunk, HEADER) && !self.begin() {
                        return Some(self.break_off());
                    }
                }
            }
        }
    }

    fn take<'c>(&mut self, chunk: &mut &'c [u8], most: usize) -> &'c [u8] {
        let (bytes, rest) = chunk.split_at(chunk.len().min(most));
        *chunk = rest;
        self.offset += bytes.len() as u64;
        self.is_new = false;
        bytes
    }

    /// Fills the buffer up to `len` bytes. Whether it is full.
    fn fill(&mut self, chunk: &mut &[u8], len: usize) -> bool {
        let bytes = self.take(chunk, len - self.buffer.len());
        self.buffer.extend_from_slice(bytes);
        self.buffer.len() == len
    }

    fn break_off<'f>(&mut self) -> Event<'f> {
        self.state = State::Broken;
        (self.buffer, self.block, self.open) = (Vec::new(), Vec::new(), None);
        Event::Broken
    }

    /// A frame's header is whole. False if it can't be one.
    fn begin(&mut self) -> bool {
        let header = be24(&self.buffer, 0).zip(be32(&self.buffer, 5));
        let Some((len, stream)) = header else {
            return false;
        };
        let header = Header {
            len,
            kind: self.buffer[3],
            flags: self.buffer[4],
            stream: stream & 0x7fff_ffff,
        };
        self.buffer.clear();
        let start = self.offset - HEADER as u64;
        match self.open {
            Some(open) if header.kind != CONTINUATION || header.stream != open.stream => {
                return false;
            }
            None if header.kind == CONTINUATION => return false,
            _ => {}
        }
        let is_of_stream = header.stream > 0;
        self.state = match header.kind {
            DATA | HEADERS | RST_STREAM | PUSH_PROMISE if !is_of_stream => return false,
            DATA if header.has(PADDED) => match len {
                0 => return false,
                _ => State::Padding(header),
            },
            DATA => State::Data {
                stream: header.stream,
                left: len,
                padding: 0,
                is_last: header.has(END_STREAM),
            },
            HEADERS | PUSH_PROMISE | CONTINUATION
                if len as usize > MOST_BLOCK - self.block.len() =>
            {
                return false;
            }
            RST_STREAM if len != 4 => return false,
            HEADERS | PUSH_PROMISE => {
                self.open = Some(Open {
                    stream: header.stream,
                    promised: None,
                    is_last: header.kind == HEADERS && header.has(END_STREAM),
                    start,
                });
                State::Whole(header)
            }
            RST_STREAM | CONTINUATION => State::Whole(header),
            _ => State::Skip {
                stream: header.stream,
                left: len,
            },
        };
        true
    }

    /// A frame that is needed whole is there.
    fn whole(&mut self, header: Header, payload: &[u8]) -> Outcome {
        if header.kind == RST_STREAM {
            return Outcome::Reset;
        }
        let Some((promised, fragment)) = fragment(header, payload) else {
            return Outcome::Broken;
        };
        self.block.extend_from_slice(fragment);
        let Some(open) = &mut self.open else {
            return Outcome::Broken;
        };
        open.promised = promised.or(open.promised);
        match header.has(END_HEADERS) {
            true => self.open.take().map_or(Outcome::Broken, Outcome::Block),
            false => Outcome::More,
        }
    }
}

enum Outcome {
    More,
    Block(Open),
    Reset,
    Broken,
}

/// The stream that a frame promises, and its part of the block (sections 6.2, 6.6, 6.10).
fn fragment(header: Header, mut payload: &[u8]) -> Option<(Option<u32>, &[u8])> {
    if header.kind == CONTINUATION {
        return Some((None, payload));
    }
    if header.has(PADDED) {
        let (padding, rest) = payload.split_first()?;
        payload = rest.get(..rest.len().checked_sub(usize::from(*padding))?)?;
    }
    if header.kind == PUSH_PROMISE {
        let promised = be32(payload, 0)? & 0x7fff_ffff;
        return Some((Some(promised), &payload[4..]));
    }
    match header.has(PRIORITY) {
        true => Some((None, payload.get(5..)?)),
        false => Some((None, payload)),
    }
}
