//! Where a session is: what a successor has to know to go on from there.
//!
//! A waypoint stands between two packets of a session. It holds no bytes, so there is one only where all that has come is known to belong to somebody, in both directions: what
//! lies behind has no part in what comes next. A session that waits has one for its first packet, and others where they are possible: a successor begins at the first, and looks at
//! the packets behind it once more, those included that have left ([`Queue`](super::waiting::Queue)). A session that does not wait is where it is.
//!
//! What changes with every packet stands in the waypoint itself, and costs nothing; what seldom changes is encoded once, as protobuf, and shared ([`Stand`]). Any bytes give a point or none.

use std::rc::Rc;

use prost::Message;

use super::floor::{Phase, Session};
use super::roster::Roster;
use super::side::Side;
use super::tracker::{Cited, MOST_PLACE};
use crate::reassembly::Spot;

/// See the [module](self). The default is before the first packet.
#[derive(Debug, Clone, Default)]
pub struct Waypoint {
    /// Where its streams stand.
    pub spots: [Option<Spot>; 2],
    /// Up to where bytes belong to somebody.
    pub claimed: [u64; 2],
    /// The rest.
    pub stand: Rc<Stand>,
}

/// What seldom changes of a session.
#[derive(Debug, Default)]
pub struct Stand {
    /// A [`Point`], encoded; empty if nothing is known.
    pub point: Vec<u8>,
    /// The exchanges that it speaks of.
    pub cited: Cited,
}

/// The same, as it is told. Exchanges are numbers, see [`Cited`].
#[derive(Clone, PartialEq, Message)]
pub struct Point {
    /// How far the session has come.
    #[prost(enumeration = "Progress", tag = "1")]
    pub progress: i32,
    /// The exchange that began first.
    #[prost(uint32, tag = "2")]
    pub first: u32,
    /// The one that began last.
    #[prost(uint32, tag = "3")]
    pub last: u32,
    /// Those that led to the protocol at hand.
    #[prost(uint32, repeated, tag = "4")]
    pub parents: Vec<u32>,
    /// Both directions.
    #[prost(message, repeated, tag = "5")]
    pub sides: Vec<SidePoint>,
    /// For the protocol at hand; none if it keeps no place.
    #[prost(bytes = "vec", optional, tag = "6")]
    pub place: Option<Vec<u8>>,
    /// See [`Place`](super::tracker::Place).
    #[prost(uint64, repeated, tag = "7")]
    pub passive: Vec<u64>,
}

/// One direction.
#[derive(Clone, PartialEq, Message)]
pub struct SidePoint {
    /// Where claims begin, each ending where the next one begins.
    #[prost(uint64, repeated, tag = "1")]
    pub starts: Vec<u64>,
    /// Whose they are.
    #[prost(uint32, repeated, tag = "2")]
    pub owners: Vec<u32>,
    /// Whose all is that comes.
    #[prost(uint32, optional, tag = "3")]
    pub rest: Option<u32>,
    /// Whether it has ended.
    #[prost(bool, tag = "4")]
    pub has_ended: bool,
}

/// How far a session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
pub enum Progress {
    /// It is not known what it carries.
    Unknown = 0,
    /// It carries a protocol that is followed.
    Known = 1,
    /// Nothing more is to be learnt.
    Rest = 2,
    /// Both directions have ended.
    Over = 3,
}

impl Waypoint {
    /// Whether nothing is known of the session.
    #[must_use]
    pub fn is_start(&self) -> bool {
        self.stand.point.is_empty() && self.spots == [None; 2]
    }
}

impl Stand {
    /// With the place in the protocol, if that is asked of a `roster`.
    pub(super) fn of<R: Roster>(session: &Session<R::State>, roster: Option<&R>) -> Self {
        let progress = match &session.phase {
            Phase::Unknown(_) | Phase::Foreign => Progress::Unknown,
            Phase::Known(_) => Progress::Known,
            Phase::Rest => Progress::Rest,
            Phase::Over => Progress::Over,
        };
        let mut cited = Cited::default();
        let place = match (&session.phase, roster) {
            (Phase::Known(state), Some(roster)) => roster.place(state, &mut cited),
            _ => None,
        };
        let place = place.filter(|place| place.bytes.len() <= MOST_PLACE);
        let begun = &session.begun;
        let point = Point {
            progress: progress.into(),
            first: cited.number(begun.first),
            last: cited.number(begun.last),
            parents: (session.parents.iter())
                .map(|parent| cited.number(Some(*parent)))
                .collect(),
            passive: (place.as_ref()).map_or(Vec::new(), |place| place.passive.to_vec()),
            sides: (session.sides.iter())
                .map(|side| SidePoint::of(side, &mut cited))
                .collect(),
            place: place.map(|place| place.bytes),
        };
        let is_new = progress == Progress::Unknown && cited.all().is_empty();
        Self {
            point: match is_new {
                true => Vec::new(),
                false => point.encode_to_vec(),
            },
            cited,
        }
    }
}

impl SidePoint {
    fn of(side: &Side, cited: &mut Cited) -> Self {
        let (mut starts, mut owners) = (Vec::new(), Vec::new());
        for (start, owner) in side.latest() {
            starts.push(start);
            owners.push(cited.number(owner));
        }
        Self {
            starts,
            owners,
            rest: side.rest().map(|rest| cited.number(rest)),
            has_ended: side.has_ended,
        }
    }

    /// The direction, which is known up to `claimed`.
    pub(super) fn side(&self, claimed: u64, cited: &Cited) -> Side {
        let owners = self.owners.iter().map(|owner| cited.get(*owner));
        let mut side = Side::from(self.starts.iter().copied().zip(owners), claimed);
        if let Some(rest) = self.rest {
            side.leave_rest(cited.get(rest));
        }
        side.has_ended = self.has_ended;
        side
    }
}
