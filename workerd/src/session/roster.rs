//! Which protocols are followed, as [`Sessions`](super::sessions::Sessions) see it: one value that stands for all of them.

use lc_daemon::config::NoFilterPolicy;
use lc_daemon::key_log::Entry;

use super::tracker::{At, Cited, Course, Place, Tell};
use crate::detect;
use crate::reassembly::Event;

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Datagrams.
    Datagrams,
    /// A TCP connection.
    Stream,
}

/// By what the exchanges of a session are judged, beside the processor's filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// What becomes of them while no filter is in force.
    pub policy: NoFilterPolicy,
    /// Whether they have to fit the mode's own settings, and are not wanted until that is told.
    pub has_content_filter: bool,
}

/// The protocols that a worker follows.
pub trait Roster {
    /// What one of them remembers of a session.
    type State;

    /// Begins a session that carries `protocol`; none if nobody follows that.
    fn begin(&mut self, protocol: detect::Protocol, carrier: Carrier) -> Option<Self::State>;

    /// Whether a session that carries `protocol` is one exchange, to its end.
    fn is_one_exchange(&self, protocol: detect::Protocol) -> bool;

    /// How its exchanges are judged.
    fn terms(&self, state: &Self::State) -> Terms;

    /// See [`Protocol::datagram`](super::Protocol::datagram).
    fn datagram(
        &mut self,
        at: &At,
        state: &mut Self::State,
        payload: &[u8],
        tell: &mut impl Tell,
    ) -> Course;

    /// See [`Protocol::stream`](super::Protocol::stream).
    fn stream(
        &mut self,
        at: &At,
        state: &mut Self::State,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course;

    /// See [`Protocol::can_go_on`](super::Protocol::can_go_on).
    fn can_go_on(&self, _state: &Self::State) -> bool {
        true
    }

    /// See [`Protocol::go_on`](super::Protocol::go_on).
    fn go_on(&mut self, _at: &At, _state: &mut Self::State, _tell: &mut impl Tell) -> Course {
        Course::Follow
    }

    /// Takes in a secret of TLS, at the time `now_ns` of a clock that does not go back.
    fn learn(&mut self, _entry: &Entry, _now_ns: u64) {}

    /// See [`Protocol::place`](super::Protocol::place).
    fn place(&self, state: &Self::State, cited: &mut Cited) -> Option<Place>;

    /// See [`Protocol::steps`](super::Protocol::steps).
    fn steps(&self, state: &Self::State) -> u64;

    /// Has a session that [has begun](Roster::begin) go on at a place that was kept.
    fn resume(&self, state: &mut Self::State, place: &[u8], cited: &Cited);
}
