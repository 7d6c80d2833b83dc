//! What a protocol has to know, and what it tells.

use shm_layout::counters::WorkerCounter as Counter;

use crate::decode::Addr;
use crate::flows::Direction;
use crate::matcher::{Kind, Kinds};
use crate::reassembly::Event;
use crate::tls::secrets::SessionKeys;

/// What is judged as one: its packets are forwarded together, or not at all. A number that no other exchange of the worker has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exchange(pub u64);

/// The two ends of a session. The client is who sent the first packet, or, where a port tells better, who seems to have asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ends {
    /// Address and port that [`Direction::Request`] comes from.
    pub client: (Addr, u16),
    /// Address and port that [`Direction::Response`] comes from.
    pub server: (Addr, u16),
}

/// Where something was said.
#[derive(Debug, Clone, Copy)]
pub struct At {
    /// In which direction.
    pub direction: Direction,
    /// Between whom.
    pub ends: Ends,
    /// When the packet at hand was captured, in nanoseconds.
    pub time_ns: u64,
}

/// A protocol, as one worker follows all sessions of it.
///
/// Whatever it keeps is bounded, per session and in all; time is that of packets. Input is hostile.
pub trait Protocol {
    /// What it remembers of a session, both directions. Dropped with the session.
    type State: Default;

    /// Whether the operator wants only what fits patterns of the mode's own settings. Then an exchange is wanted only when that was told ([`Tell::content`]).
    fn has_content_filter(&self) -> bool;

    /// Takes in a datagram. Its first byte has the offset 0.
    fn datagram(
        &mut self,
        at: &At,
        state: &mut Self::State,
        payload: &[u8],
        tell: &mut impl Tell,
    ) -> Course;

    /// Takes in what happened in one direction of a connection. A connection that is picked up in its middle begins with a gap of unknown length.
    fn stream(
        &mut self,
        at: &At,
        state: &mut Self::State,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course;

    /// Whether a session that waits ([`Course::Wait`]) can go on now.
    fn can_go_on(&self, _state: &Self::State) -> bool {
        true
    }

    /// A session that waits goes on, in either direction; what came meanwhile follows. Who can't go on now gives up: patience is over.
    fn go_on(&mut self, _at: &At, _state: &mut Self::State, _tell: &mut impl Tell) -> Course {
        Course::Follow
    }

    /// Where a session is, for a successor: as of the bytes that were told to belong to somebody. None if that can't be said in [`MOST_PLACE`] bytes or so; then a successor picks the session
    /// up in its middle, or, where a session is one exchange, goes on with that.
    fn place(&self, _state: &Self::State, _cited: &mut Cited) -> Option<Place> {
        None
    }

    /// A number that changes whenever the place does; it may change more often.
    fn steps(&self, _state: &Self::State) -> u64 {
        0
    }

    /// A session that goes on at a place that was kept. The bytes are untrusted.
    fn resume(&self, _place: &[u8], _cited: &Cited) -> Self::State {
        Self::State::default()
    }
}

/// Most bytes of a [`Place`], more or less: a session of which more has to be said has none.
pub const MOST_PLACE: usize = 4096;

/// Where a session is in its protocol.
#[derive(Debug, Default)]
pub struct Place {
    /// For the protocol that has made it.
    pub bytes: Vec<u8>,
    /// Up to which offset of each direction bytes leave the place as it is, those of a body for example.
    pub passive: [u64; 2],
}

/// The exchanges that a record speaks of, by small numbers. 0 is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cited(Vec<Exchange>);

impl Cited {
    /// Those, numbered from 1 on.
    #[must_use]
    pub fn of(exchanges: Vec<Exchange>) -> Self {
        Self(exchanges)
    }

    /// The number of an exchange, which it is given if it has none.
    pub fn number(&mut self, exchange: Option<Exchange>) -> u32 {
        let Some(exchange) = exchange else {
            return 0;
        };
        let known = self.0.iter().position(|known| *known == exchange);
        let index = known.unwrap_or_else(|| {
            self.0.push(exchange);
            self.0.len() - 1
        });
        index as u32 + 1
    }

    /// The exchange with this number.
    #[must_use]
    pub fn get(&self, number: u32) -> Option<Exchange> {
        let index = (number as usize).checked_sub(1)?;
        self.0.get(index).copied()
    }

    /// All of them, in order.
    #[must_use]
    pub fn all(&self) -> &[Exchange] {
        &self.0
    }
}

/// How a session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Course {
    /// As before.
    Follow,
    /// It can't go on before its protocol is told something from elsewhere. What comes is kept; see [`Protocol::can_go_on`].
    Wait,
    /// Nothing more is to be learnt in this direction: all its bytes are of this exchange, or of none in particular.
    Rest(Option<Exchange>),
    /// The same of both directions.
    RestOfBoth(Option<Exchange>),
    /// It goes on in another protocol: in this direction from this offset on, in the other from where that has come to. What carries it is of this exchange too.
    Becomes(u64, Exchange),
    /// It is not of this protocol after all.
    Foreign,
}

/// Whether what an exchange says fits the patterns of the mode's own settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// It does, whatever else it says.
    Fits,
    /// It does not, whatever else it says.
    Fails,
}

/// What is told of a packet, beside what detection tells. Empty parts add nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Note<'a> {
    /// `metadata.protocol`; replaces that of detection.
    pub protocol: &'static str,
    /// `metadata.info`; replaces that of detection.
    pub info: &'a str,
    /// `metadata.details`, as [`Details::encoded`](lc_proto::details::Details::encoded) gives them; added to those of detection.
    pub details: &'a [u8],
    /// Other fields of the metadata, encoded, such as `dns`.
    pub blocks: &'a [u8],
}

/// What a protocol tells of its sessions. Offsets are those of the direction at hand.
pub trait Tell {
    /// Something new begins that is judged by itself.
    fn begin(&mut self) -> Exchange;

    /// The bytes before `end` that nobody has claimed are of `exchange`; or of the session as a whole. To be told as soon as it is known: packets with bytes that nobody claims have to wait. A packet may be of
    /// many exchanges; it is forwarded if any is wanted.
    fn belongs(&mut self, exchange: Option<Exchange>, end: u64);

    /// What filters may compare with: other fields need not be told.
    fn wanted(&self) -> Kinds;

    /// Filters are compared with `text`.
    fn compare(&mut self, exchange: Exchange, kind: Kind, text: &[u8]);

    /// Whether `exchange` fits the mode's own settings.
    fn content(&mut self, exchange: Exchange, content: Content);

    /// What is told of the packet that carries the byte at `offset`, if it is forwarded. A packet may have several notes, of several messages; where a field can't repeat, the first wins.
    fn note(&mut self, exchange: Exchange, offset: u64, note: Note<'_>);

    /// What is told of every packet of `exchange` that is forwarded from now on, of those that were held until now too; until it is told anew. What is told of a packet by itself ([`Tell::note`]) comes first.
    fn about(&mut self, exchange: Exchange, note: Note<'_>);

    /// Whether `exchange` is known not to be wanted, and notes of it are of no use. Known at the earliest when it is settled; may be told late, or never.
    fn is_unwanted(&self, _exchange: Exchange) -> bool {
        false
    }

    /// Counts one.
    fn count(&mut self, counter: Counter);

    /// The secrets of the session are known: they go with the next packet of it that is forwarded.
    fn keys(&mut self, _keys: SessionKeys) {}

    /// Nothing more will be told that could make `exchange` match: what has not matched is not wanted.
    fn settle(&mut self, exchange: Exchange);
}
