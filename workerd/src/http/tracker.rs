//! HTTP, as a worker follows it: the exchange is a request with its response.
//!
//! Which version a connection speaks, its first bytes tell. A connection that changes to HTTP/2 (RFC 7540 section 3.2) goes on here; one that changes to WebSocket
//! is of the exchange that has led to it; what is tunnelled by CONNECT, and any other protocol, becomes a session of its own.

use lc_daemon::config;
use prost::Message;

use super::content::ContentFilter;
use super::http1::{self, Turn};
use super::http2::{self, frames::PREFACE};
use super::messages::is_in;
use super::pair::Clerk;
use super::place;
use super::room::{Room, Share};
use crate::flows::Direction;
use crate::reassembly::Event;
use crate::session::{At, Cited, Course, Place, Protocol, Tell};

/// Memory for all sessions of a worker, in bytes.
const ROOM: usize = 256 << 20;

/// See the module.
#[derive(Debug)]
pub struct Http {
    clerk: Clerk,
    room: Room,
}

/// What is remembered of a connection.
#[derive(Debug, Default)]
pub struct Session {
    connection: Connection,
    /// Whether it was picked up in its middle.
    is_joined: bool,
    /// Whether requests come in the direction of responses.
    is_reversed: bool,
    share: Share,
}

#[derive(Debug, Default)]
enum Connection {
    #[default]
    New,
    /// So many bytes of HTTP/2's preface have come.
    Preface(usize),
    One(Box<http1::Connection>),
    Two(Box<http2::Connection>),
}

impl Http {
    /// As the operator chose.
    #[must_use]
    pub fn new(settings: &config::Http) -> Self {
        let filter = ContentFilter::new(&settings.content);
        Self {
            clerk: Clerk::new(filter, settings.body),
            room: Room::new(ROOM),
        }
    }
}

impl Protocol for Http {
    type State = Session;

    fn has_content_filter(&self) -> bool {
        self.clerk.has_content_filter()
    }

    /// HTTP over UDP is QUIC's.
    fn datagram(&mut self, _: &At, _: &mut Session, _: &[u8], _: &mut impl Tell) -> Course {
        Course::Foreign
    }

    fn stream(
        &mut self,
        at: &At,
        session: &mut Session,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        let at = session.oriented(at, &event);
        let course = self.follow(&at, session, event, tell);
        if !self
            .room
            .grant(&mut session.share, session.connection.held())
        {
            match &mut session.connection {
                Connection::New | Connection::Preface(_) => {}
                Connection::One(one) => one.forget(&mut self.clerk, tell),
                Connection::Two(two) => two.forget(&mut self.clerk, tell),
            }
            self.room
                .grant(&mut session.share, session.connection.held());
        }
        course
    }

    /// Of HTTP/2 none is told: it would have to say the tables of fields, which change with every message.
    fn place(&self, session: &Session, cited: &mut Cited) -> Option<Place> {
        let (one, mut passive) = match &session.connection {
            Connection::New | Connection::Preface(_) => (None, [0; 2]),
            Connection::One(one) => (Some(one.place(cited)?), one.passive()),
            Connection::Two(_) => return None,
        };
        if session.is_reversed {
            passive.reverse();
        }
        let place = place::Session {
            is_joined: session.is_joined,
            is_reversed: session.is_reversed,
            one,
        };
        Some(Place {
            bytes: place.encode_to_vec(),
            passive,
        })
    }

    fn steps(&self, session: &Session) -> u64 {
        match &session.connection {
            Connection::New | Connection::Preface(_) | Connection::Two(_) => 0,
            Connection::One(one) => one.steps(),
        }
    }

    fn resume(&self, place: &[u8], cited: &Cited) -> Session {
        let told = place::Session::decode(place).unwrap_or_default();
        let one = told.one.as_ref();
        let one = one.map(|one| Box::new(http1::Connection::resumed(one, cited)));
        Session {
            connection: one.map_or(Connection::New, Connection::One),
            is_joined: told.is_joined,
            is_reversed: told.is_reversed,
            share: Share::default(),
        }
    }
}

impl Http {
    fn follow(
        &mut self,
        at: &At,
        session: &mut Session,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        let clerk = &mut self.clerk;
        let is_joined = session.is_joined;
        let connection = &mut session.connection;
        let of_preface = match connection {
            Connection::New => 0,
            Connection::Preface(seen) => *seen,
            Connection::One(one) => {
                return match one.take(clerk, at, event, tell) {
                    Turn::Course(course) => course,
                    Turn::Http2(offset) => {
                        let Some(pair) = one.take_upgrade() else {
                            return Course::Foreign;
                        };
                        *connection = Connection::Two(Box::new(http2::Connection::upgraded(pair)));
                        match behind(event, offset) {
                            Some(rest) => self.follow(at, session, rest, tell),
                            None => Course::Follow,
                        }
                    }
                };
            }
            Connection::Two(two) => return two.take(clerk, at, event, tell),
        };
        match begins(at.direction, event, of_preface) {
            Begins::Http2 => {
                *connection = Connection::Two(Box::new(http2::Connection::new(of_preface)));
            }
            Begins::Later => return Course::Follow,
            Begins::Perhaps(len) => {
                *connection = Connection::Preface(len);
                return Course::Follow;
            }
            Begins::Http1 => {
                let mut one = Box::new(match is_joined {
                    true => http1::Connection::joined(),
                    false => http1::Connection::default(),
                });
                if of_preface > 0 {
                    let held_back = Event::Data {
                        offset: 0,
                        bytes: &PREFACE[..of_preface],
                    };
                    let at = At {
                        direction: Direction::Request,
                        ..*at
                    };
                    let Turn::Course(Course::Follow) = one.take(clerk, &at, held_back, tell) else {
                        return Course::Foreign;
                    };
                }
                *connection = Connection::One(one);
            }
        }
        self.follow(at, session, event, tell)
    }
}

impl Session {
    /// Bytes of memory that it holds, besides itself.
    #[must_use]
    pub fn held(&self) -> usize {
        self.connection.held()
    }

    /// Where something happened, with requests in the direction of requests. Who has opened the connection need not be who asks, and where its start was not seen, nobody knows who has.
    fn oriented(&mut self, at: &At, event: &Event<'_>) -> At {
        let mut at = *at;
        if self.is_reversed {
            at.direction = reverse(at.direction);
        }
        match (&self.connection, event) {
            (Connection::New, Event::Gap { len: None, .. }) => self.is_joined = true,
            (Connection::New, _) => {}
            (Connection::One(one), _) if !one.is_http() => {}
            _ => return at,
        }
        if let Event::Data { bytes, .. } = event
            && is_reverse(bytes, at.direction)
        {
            self.connection = Connection::New;
            self.is_reversed ^= true;
            at.direction = reverse(at.direction);
        }
        at
    }
}

/// Whether only a message of the other direction begins in `bytes`.
fn is_reverse(bytes: &[u8], direction: Direction) -> bool {
    let has = |direction| {
        let has_preface = direction == Direction::Request && bytes.starts_with(PREFACE);
        has_preface || is_in(bytes, direction)
    };
    has(reverse(direction)) && !has(direction)
}

fn reverse(direction: Direction) -> Direction {
    match direction {
        Direction::Request => Direction::Response,
        Direction::Response => Direction::Request,
    }
}

impl Connection {
    /// Bytes of memory that it holds, besides itself.
    fn held(&self) -> usize {
        match self {
            Self::New | Self::Preface(_) => 0,
            Self::One(one) => size_of::<http1::Connection>() + one.held(),
            Self::Two(two) => size_of::<http2::Connection>() + two.held(),
        }
    }
}

/// What a connection begins with.
enum Begins {
    Http1,
    Http2,
    /// So many bytes of the preface are there, and no more.
    Perhaps(usize),
    /// Nothing has come.
    Later,
}

/// Bytes of the preface that no request of HTTP/1 begins with.
const TELLING: usize = 3;

fn begins(direction: Direction, event: Event<'_>, of_preface: usize) -> Begins {
    let bytes = match event {
        Event::Data { bytes, .. } => bytes,
        Event::Gap { len: None, .. } => return Begins::Later,
        _ => return Begins::Http1,
    };
    if direction == Direction::Response {
        // A server's SETTINGS may be captured before its client's preface.
        let is_settings = bytes.get(3) == Some(&4) && bytes.get(5..9) == Some(&[0; 4]);
        return match is_settings {
            true => Begins::Http2,
            false => Begins::Http1,
        };
    }
    let expected = &PREFACE[of_preface..];
    let same = expected
        .iter()
        .zip(bytes)
        .take_while(|(a, b)| a == b)
        .count();
    match of_preface + same {
        TELLING.. => Begins::Http2,
        len if same == bytes.len() => Begins::Perhaps(len),
        _ => Begins::Http1,
    }
}

/// What an event has from `offset` on.
fn behind(event: Event<'_>, from: u64) -> Option<Event<'_>> {
    let Event::Data { offset, bytes } = event else {
        return None;
    };
    let bytes = bytes.get(usize::try_from(from.checked_sub(offset)?).ok()?..)?;
    let rest = Event::Data {
        offset: from,
        bytes,
    };
    (!bytes.is_empty()).then_some(rest)
}
