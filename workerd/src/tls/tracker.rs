//! TLS as sessions see it: a connection is an exchange.

use super::connection::Connection;
use super::describe::Describe;
use super::dtls::{self, Dtls};
use super::held::Room;
use super::quic::{self, Quic};
use super::stream::{Parts, Stream};
use crate::reassembly::Event;
use crate::session::{At, Content, Course, Exchange, Protocol, Tell};

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

/// How far reading has come.
#[derive(Debug, Default)]
enum Carrier {
    /// Nothing was read.
    #[default]
    Unknown,
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
            Carrier::Unknown | Carrier::Stream(_) => return Course::Foreign,
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
            state.carrier = Carrier::Stream(Box::default());
        }
        let Carrier::Stream(stream) = &mut state.carrier else {
            return Course::Foreign;
        };
        let connection = &mut state.connection;
        let mut end = None;
        match event {
            Event::Data { offset, bytes } => {
                connection.exchange(is_bounded, tell);
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
