//! HTTP/2 in clear (RFC 9113): a connection, whose streams are the exchanges.
//!
//! ```text
//!   direction -> frames --blocks--> hpack -> head --+
//!                      `--data----------------------+-> pair of the stream
//! ```
//!
//! A frame's bytes are of its stream's exchange; those of frames about the connection, of the session as a whole. A packet with frames of many streams is of all of them.
//!
//! Fields are compressed with what came before. Where bytes of a direction are missing, but for data, nothing more can be learnt in it: then
//! its streams are judged by the other direction alone, and so they are of a connection that is picked up in its middle.
//!
//! At most [`MOST_STREAMS`] are followed; the oldest gives way.

pub mod frames;
pub mod hpack;
pub mod huffman;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use shm_layout::counters::WorkerCounter as Counter;

use self::frames::{Event, Frames};
use self::hpack::{Decoded, Decoder};
use super::head::{Head, Start};
use super::pair::{Clerk, Pair};
use crate::flows::Direction;
use crate::reassembly::{End, Event as Happened};
use crate::session::{At, Course, Exchange, Tell};

/// Most streams of a connection that are followed.
pub const MOST_STREAMS: usize = 256;
/// What messages of this version are told to have.
pub const VERSION: &[u8] = b"HTTP/2";

/// See the module.
#[derive(Debug)]
pub struct Connection {
    sides: [Side; 2],
    streams: BTreeMap<u32, Stream>,
    decoded: Decoded,
}

#[derive(Debug)]
struct Side {
    frames: Frames,
    decoder: Decoder,
    claimed: u64,
    is_broken: bool,
    has_ended: bool,
}

#[derive(Debug)]
struct Stream {
    pair: Pair,
    /// Whether a response has come that is not an interim one.
    is_answered: bool,
}

impl Connection {
    /// A connection that has spoken HTTP/2 from its start, of whose [preface](frames::PREFACE) so many bytes have come.
    #[must_use]
    pub fn new(of_preface: usize) -> Self {
        let side = |of_preface| Side {
            frames: Frames::new(of_preface),
            decoder: Decoder::default(),
            claimed: 0,
            is_broken: false,
            has_ended: false,
        };
        Self {
            sides: [side(of_preface), side(frames::PREFACE.len())],
            streams: BTreeMap::new(),
            decoded: Decoded::default(),
        }
    }

    /// A connection that was upgraded from HTTP/1 by a request whose response is that of the first stream (RFC 7540 section 3.2).
    #[must_use]
    pub fn upgraded(mut pair: Pair) -> Self {
        let mut connection = Self::new(0);
        pair.over[0] = true;
        let stream = Stream {
            pair,
            is_answered: false,
        };
        connection.streams.insert(1, stream);
        connection
    }

    /// Takes in what happened in one direction.
    pub fn take(
        &mut self,
        clerk: &mut Clerk,
        at: &At,
        event: Happened<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        let side = &mut self.sides[at.direction as usize];
        match event {
            Happened::Data { offset, bytes } => {
                side.frames.is_at(offset);
                self.data(clerk, at, bytes, tell);
            }
            // A connection that is picked up with its preface.
            Happened::Gap { len: None, .. } if side.frames.is_new() => {}
            Happened::Gap { len, .. } => {
                if !side.frames.gap(len) {
                    self.give_up(clerk, at.direction, tell);
                }
            }
            Happened::End { offset, reason } => {
                side.claim(None, offset, tell);
                side.has_ended = true;
                let is_half_open = at.direction == Direction::Request && reason == End::Finished;
                if !is_half_open || self.sides[1].has_ended {
                    self.end_all(clerk, tell);
                }
            }
        }
        match self.sides[at.direction as usize].is_broken {
            true => Course::Rest(None),
            false => Course::Follow,
        }
    }

    /// Gives up what takes memory.
    pub fn forget(&mut self, clerk: &mut Clerk, tell: &mut impl Tell) {
        for direction in [Direction::Request, Direction::Response] {
            let side = &mut self.sides[direction as usize];
            side.frames.gap(None);
            side.decoder = Decoder::default();
            self.give_up(clerk, direction, tell);
        }
        self.end_all(clerk, tell);
        self.decoded = Decoded::default();
    }

    /// Bytes of memory that it holds, besides itself.
    #[must_use]
    pub fn held(&self) -> usize {
        let of_side = |side: &Side| side.frames.held() + side.decoder.held();
        let of_stream = |stream: &Stream| size_of::<(u32, Stream)>() + stream.pair.held();
        self.sides.iter().map(of_side).sum::<usize>()
            + self.streams.values().map(of_stream).sum::<usize>()
            + self.decoded.held()
    }

    fn data(&mut self, clerk: &mut Clerk, at: &At, mut chunk: &[u8], tell: &mut impl Tell) {
        let direction = at.direction;
        loop {
            let side = &mut self.sides[direction as usize];
            let Some(event) = side.frames.next(&mut chunk) else {
                break;
            };
            match event {
                Event::Block {
                    stream,
                    promised,
                    is_last,
                    block,
                    start,
                } => {
                    if side.decoder.decode(block, &mut self.decoded).is_err() {
                        tell.count(Counter::HttpMalformed);
                        self.give_up(clerk, direction, tell);
                        return;
                    }
                    side.claim(None, start, tell);
                    let id = self.block(clerk, at, promised.unwrap_or(stream), start, tell);
                    let side = &mut self.sides[direction as usize];
                    side.claim(id, side.frames.offset(), tell);
                    if is_last {
                        self.end_of(clerk, stream, direction, tell);
                    }
                }
                Event::Data { stream, bytes } => {
                    let found = self.streams.get_mut(&stream);
                    let id = found.map(|found| {
                        clerk.body(&mut found.pair, direction, bytes);
                        found.pair.id
                    });
                    side.claim(id, side.frames.offset(), tell);
                }
                Event::EndOf(stream) => self.end_of(clerk, stream, direction, tell),
                Event::Reset(stream) => {
                    let removed = self.streams.remove(&stream);
                    let id = removed.as_ref().map(|removed| removed.pair.id);
                    side.claim(id, side.frames.offset(), tell);
                    if let Some(mut removed) = removed {
                        clerk.end(&mut removed.pair, tell);
                    }
                }
                Event::Other(stream) => {
                    let id = self.streams.get(&stream).map(|found| found.pair.id);
                    side.claim(id, side.frames.offset(), tell);
                }
                Event::Broken => {
                    tell.count(Counter::HttpMalformed);
                    self.give_up(clerk, direction, tell);
                    return;
                }
            }
        }
        let side = &mut self.sides[direction as usize];
        if let Some(stream) = side.frames.current() {
            let id = self.streams.get(&stream).map(|found| found.pair.id);
            side.claim(id, side.frames.offset(), tell);
        }
    }

    /// The fields of a request or response have come, or those behind its data. Whose they are.
    fn block(
        &mut self,
        clerk: &mut Clerk,
        at: &At,
        number: u32,
        start: u64,
        tell: &mut impl Tell,
    ) -> Option<Exchange> {
        let Self {
            sides,
            streams,
            decoded,
        } = self;
        let Some(message) = start_line(decoded) else {
            return streams.get(&number).map(|found| found.pair.id);
        };
        if !streams.contains_key(&number)
            && streams.len() == MOST_STREAMS
            && let Some((_, mut oldest)) = streams.pop_first()
        {
            clerk.end(&mut oldest.pair, tell);
        }
        let stream = streams.entry(number).or_insert_with(|| {
            let mut pair = clerk.begin(tell);
            pair.over = [sides[0].is_broken, sides[1].is_broken];
            Stream {
                pair,
                is_answered: false,
            }
        });
        let head = Head::decoded(message, decoded);
        let pair = &mut stream.pair;
        match message {
            Start::Request { .. } if pair.request.is_none() && !stream.is_answered => {
                clerk.request(pair, &head, at, start, tell);
                // A promised request is whole.
                pair.over[0] |= at.direction == Direction::Response;
            }
            Start::Response { status, .. } if !stream.is_answered => {
                stream.is_answered = status >= 200;
                clerk.response(pair, &head, at.time_ns, start, tell);
                pair.over[0] |= pair.request.is_none();
            }
            _ => {}
        }
        Some(pair.id)
    }

    /// A stream ends in a direction.
    fn end_of(
        &mut self,
        clerk: &mut Clerk,
        number: u32,
        direction: Direction,
        tell: &mut impl Tell,
    ) {
        if let Some(stream) = self.streams.get_mut(&number) {
            clerk.end_of(&mut stream.pair, direction, tell);
            if stream.pair.over == [true; 2] {
                self.streams.remove(&number);
            }
        }
    }

    /// Nothing more can be learnt in a direction.
    fn give_up(&mut self, clerk: &mut Clerk, direction: Direction, tell: &mut impl Tell) {
        self.sides[direction as usize].is_broken = true;
        self.streams.retain(|_, stream| {
            clerk.end_of(&mut stream.pair, direction, tell);
            stream.pair.over != [true; 2]
        });
    }

    fn end_all(&mut self, clerk: &mut Clerk, tell: &mut impl Tell) {
        for (_, mut stream) in std::mem::take(&mut self.streams) {
            clerk.end(&mut stream.pair, tell);
        }
    }
}

impl Side {
    /// Tells whose bytes those before `end` are, if that is new.
    fn claim(&mut self, exchange: Option<Exchange>, end: u64, tell: &mut impl Tell) {
        if end > self.claimed {
            self.claimed = end;
            tell.belongs(exchange, end);
        }
    }
}

/// What stands in the place of a start line (RFC 9113 section 8.3), if it is there.
fn start_line(decoded: &Decoded) -> Option<Start<'_>> {
    if !decoded.method.is_empty() {
        let target = match &decoded.path[..] {
            // CONNECT has none.
            [] => decoded
                .fields()
                .find(|(name, _)| *name == b"host")
                .map_or(&b""[..], |(_, host)| host),
            path => path,
        };
        return Some(Start::Request {
            method: &decoded.method,
            target,
            version: VERSION,
        });
    }
    let digits = std::str::from_utf8(&decoded.status).ok()?;
    let status = digits
        .parse()
        .ok()
        .filter(|status| (100..600).contains(status))?;
    Some(Start::Response {
        version: VERSION,
        status,
        reason: b"",
    })
}
