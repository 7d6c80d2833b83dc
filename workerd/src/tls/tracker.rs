//! TLS as sessions see it: a connection is an exchange.

use super::connection::Connection;
use super::describe::Describe;
use super::held::Room;
use super::stream::{Parts, Stream};
use crate::flows::Direction;
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

/// TLS, as one worker follows it.
#[derive(Debug)]
pub struct Tls {
    extent: Extent,
    room: Room,
    describe: Describe,
}

/// What is remembered of a connection.
#[derive(Debug, Default)]
pub struct State {
    connection: Connection,
    carrier: Option<Box<Stream>>,
    /// What comes behind the handshake, if that is not wanted.
    rest: Option<Exchange>,
}

impl Tls {
    /// No connection is known.
    #[must_use]
    pub fn new(extent: Extent) -> Self {
        Self {
            extent,
            room: Room::new(ROOM),
            describe: Describe::default(),
        }
    }
}

impl Protocol for Tls {
    type State = State;

    fn has_content_filter(&self) -> bool {
        self.extent == Extent::Handshake
    }

    fn datagram(&mut self, _: &At, _: &mut State, _: &[u8], _: &mut impl Tell) -> Course {
        Course::Foreign
    }

    fn stream(
        &mut self,
        at: &At,
        state: &mut State,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        let is_bounded = self.extent == Extent::Handshake;
        let (connection, stream) = (&mut state.connection, state.carrier.get_or_insert_default());
        let mut claimed = None;
        match event {
            Event::Data { offset, bytes } => {
                connection.exchange(is_bounded, tell);
                let mut parts = Parts {
                    room: &self.room,
                    describe: &mut self.describe,
                    tell,
                };
                if stream
                    .take(at, offset, bytes, connection, &mut parts)
                    .is_err()
                {
                    return Course::Foreign;
                }
                claimed = Some(offset + bytes.len() as u64);
            }
            Event::Gap { len, .. } => stream.skip(at.direction, len, connection, tell),
            Event::End { .. } => connection.was_lost(at.direction, tell),
        }
        state.course(at.direction, claimed, is_bounded, tell)
    }
}

impl State {
    /// Claims what was taken in up to `claimed`, and says how it goes on.
    fn course(
        &mut self,
        direction: Direction,
        claimed: Option<u64>,
        is_bounded: bool,
        tell: &mut impl Tell,
    ) -> Course {
        let Some(exchange) = self.connection.begun() else {
            return Course::Follow;
        };
        let stream = self.carrier.get_or_insert_default();
        let dark = [Direction::Request, Direction::Response]
            .map(|direction| self.connection.is_dark(direction) || stream.is_lost(direction));
        if !is_bounded {
            if let Some(end) = claimed {
                tell.belongs(Some(exchange), end);
            }
            return match dark {
                [true, true] => Course::RestOfBoth(Some(exchange)),
                _ if dark[direction as usize] => Course::Rest(Some(exchange)),
                _ => Course::Follow,
            };
        }
        let data = stream.data_from(direction);
        if let Some(end) = claimed {
            tell.belongs(Some(exchange), data.map_or(end, |data| data.min(end)));
        }
        if data.is_none() && !stream.is_lost(direction) {
            return Course::Follow;
        }
        let rest = *self.rest.get_or_insert_with(|| {
            let rest = tell.begin();
            tell.content(rest, Content::Fails);
            tell.settle(rest);
            rest
        });
        Course::Rest(Some(rest))
    }
}
