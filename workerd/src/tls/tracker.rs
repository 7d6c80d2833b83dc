//! TLS as sessions see it: a connection is an exchange.
//!
//! A stream may say something else before its ClientHello: what a proxy is asked for (CONNECT, SOCKS), or what leads to STARTTLS. That is of the connection too.

use super::connection::Connection;
use super::describe::Describe;
use super::dtls::{self, Dtls};
use super::handshake::kind;
use super::held::Room;
use super::opening::may_begin;
use super::quic::{self, Quic};
use super::stream::{Parts, Stream};
use crate::flows::Direction;
use crate::reassembly::Event;
use crate::session::{At, Content, Course, Exchange, Note, Protocol, Tell};

/// How much of a connection is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extent {
    /// All of it.
    #[default]
    Full,
    /// What comes before its data.
    Handshake,
}

/// Bytes of hellos and certificates that are not whole, of all connections of a worker together.
const ROOM: usize = 32 << 20;

/// Bytes of a direction in which a hello is waited for.
const MOST_BEFORE: u32 = 16 << 10;

/// What a datagram is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    /// The handshake, or what cannot be told from it.
    Handshake,
    /// Data alone.
    Data,
}

/// TLS, as one worker follows it.
#[derive(Debug)]
pub struct Tls {
    extent: Extent,
    room: Room,
    describe: Describe,
    /// Room to decrypt in.
    scratch: Vec<u8>,
}

/// What is remembered of a connection.
#[derive(Debug, Default)]
pub struct State {
    connection: Connection,
    carrier: Carrier,
    /// What comes behind the handshake, if that is not wanted.
    rest: Option<Exchange>,
}

/// What has come before the first record.
#[derive(Debug, Default)]
struct Before {
    /// So many bytes that are something else, in either direction.
    bytes: [u32; 2],
    /// In which directions bytes are missing.
    is_torn: [bool; 2],
}

/// How far reading has come.
#[derive(Debug, Default)]
enum Carrier {
    /// Nothing has come.
    #[default]
    Unknown,
    /// Nothing of TLS has come.
    Before(Before),
    Stream(Box<Stream>),
    Dtls(Box<Dtls>),
    Quic(Box<Quic>),
}

impl Tls {
    /// No connection is known.
    #[must_use]
    pub fn new(extent: Extent) -> Self {
        Self {
            extent,
            room: Room::new(ROOM),
            describe: Describe::default(),
            scratch: Vec::new(),
        }
    }

    /// Bytes that wait for the rest of what they belong to.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.room.used()
    }

    fn is_bounded(&self) -> bool {
        self.extent == Extent::Handshake
    }
}

impl Protocol for Tls {
    type State = State;

    fn has_content_filter(&self) -> bool {
        self.is_bounded()
    }

    fn datagram(
        &mut self,
        at: &At,
        state: &mut State,
        payload: &[u8],
        tell: &mut impl Tell,
    ) -> Course {
        let is_bounded = self.is_bounded();
        if matches!(state.carrier, Carrier::Unknown) {
            state.carrier = match payload {
                payload if dtls::may_begin(payload) => Carrier::Dtls(Box::default()),
                payload if quic::may_begin(payload) => Carrier::Quic(Box::default()),
                _ => return Course::Foreign,
            };
        }
        let connection = &mut state.connection;
        let exchange = connection.exchange(is_bounded, tell);
        let mut parts = Parts {
            room: &self.room,
            describe: &mut self.describe,
            tell,
        };
        let nature = match &mut state.carrier {
            Carrier::Dtls(dtls) => dtls.take(at, payload, connection, &mut parts),
            Carrier::Quic(quic) => {
                quic.take(at, payload, connection, &mut self.scratch, &mut parts)
            }
            Carrier::Unknown | Carrier::Before(_) | Carrier::Stream(_) => return Course::Foreign,
        };
        if is_bounded && nature == Nature::Data {
            return Course::Rest(Some(state.rest(tell)));
        }
        tell.belongs(Some(exchange), payload.len() as u64);
        match is_bounded {
            true => Course::Follow,
            false => state.connection.course(at.direction, exchange),
        }
    }

    fn stream(
        &mut self,
        at: &At,
        state: &mut State,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        let is_bounded = self.is_bounded();
        if matches!(state.carrier, Carrier::Unknown) {
            state.carrier = Carrier::Before(Before::default());
        }
        let connection = &mut state.connection;
        let mut is_behind = false;
        if let Carrier::Before(before) = &mut state.carrier {
            match event {
                Event::Data { bytes, .. } if before.ends_with(at.direction, bytes) => {}
                Event::Data { offset, bytes } => {
                    let seen = &mut before.bytes[at.direction as usize];
                    *seen = seen.saturating_add(bytes.len() as u32);
                    tell.belongs(None, offset + bytes.len() as u64);
                    return match *seen {
                        0..=MOST_BEFORE => Course::Follow,
                        _ => Course::Foreign,
                    };
                }
                Event::Gap { .. } => {
                    before.is_torn[at.direction as usize] = true;
                    return Course::Follow;
                }
                Event::End { .. } => return Course::Follow,
            }
            is_behind = before.bytes != [0; 2];
            let mut stream = Box::<Stream>::default();
            for direction in [Direction::Request, Direction::Response] {
                if before.is_torn[direction as usize] {
                    stream.skip(direction, None, connection, tell);
                    // Its hello was in what is missing, or in what could not be read.
                    if before.bytes[direction as usize] > 0 && direction != at.direction {
                        connection.was_lost(direction, tell);
                    }
                }
            }
            state.carrier = Carrier::Stream(stream);
        }
        let Carrier::Stream(stream) = &mut state.carrier else {
            return Course::Foreign;
        };
        let mut end = None;
        match event {
            Event::Data { offset, bytes } => {
                let exchange = connection.exchange(is_bounded, tell);
                if is_behind {
                    let note = Note {
                        protocol: "TLS",
                        info: "TLS",
                        ..Note::default()
                    };
                    tell.about(exchange, note);
                }
                let mut parts = Parts {
                    room: &self.room,
                    describe: &mut self.describe,
                    tell,
                };
                let read = stream.take(at, offset, bytes, connection, &mut parts);
                if read.is_err() {
                    return Course::Foreign;
                }
                end = Some(offset + bytes.len() as u64);
            }
            Event::Gap { len, .. } => stream.skip(at.direction, len, connection, tell),
            Event::End { .. } => connection.was_lost(at.direction, tell),
        }
        let (data, is_lost) = (stream.data_from(at.direction), stream.is_lost(at.direction));
        let Some(exchange) = connection.begun() else {
            return Course::Follow;
        };
        if let Some(end) = end {
            let of_handshake = data
                .filter(|_| is_bounded)
                .map_or(end, |data| data.min(end));
            tell.belongs(Some(exchange), of_handshake);
        }
        match is_bounded {
            true if data.is_some() || is_lost => Course::Rest(Some(state.rest(tell))),
            true => Course::Follow,
            false => state.connection.course(at.direction, exchange),
        }
    }
}

impl Before {
    /// Whether TLS begins with the next `bytes` of a direction.
    fn ends_with(&self, direction: Direction, bytes: &[u8]) -> bool {
        match *bytes {
            _ if self.bytes == [0; 2] && !self.is_torn[direction as usize] => may_begin(bytes),
            // Where bytes are missing it need not be the first record.
            [20..=23, 3, 0..=4, ..] if self.is_torn[direction as usize] => true,
            // A handshake that begins with a hello.
            [22, 3, _, _, _, kind::CLIENT_HELLO | kind::SERVER_HELLO, ..] => true,
            _ => false,
        }
    }
}

impl State {
    /// The exchange of what nobody wants.
    fn rest(&mut self, tell: &mut impl Tell) -> Exchange {
        *self.rest.get_or_insert_with(|| {
            let rest = tell.begin();
            tell.content(rest, Content::Fails);
            tell.settle(rest);
            rest
        })
    }
}
