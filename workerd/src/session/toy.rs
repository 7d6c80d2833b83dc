//! A protocol for tests: lines. The first of a connection is the banner of SSH, by which detection finds it.
//!
//! A line of the client and the next one of the server are an exchange. Filters for users are compared with the first word of either. It is settled when the server has answered.

use std::collections::VecDeque;

use lc_daemon::config::NoFilterPolicy;

use super::desk::SessionDesk;
use super::roster::{Carrier, Roster, Terms};
use super::sessions::Sessions;
use super::tracker::{At, Cited, Content, Course, Exchange, Note, Place, Tell};
use crate::desk::Desk;
use crate::desk::hand::SharedEsp;
use crate::detect;
use crate::flows::Direction;
use crate::matcher::Kind;
use crate::reassembly::{Event, Limits};
use crate::voip::harness::Setup;

/// See the [module](self).
#[derive(Default)]
pub(crate) struct Toy {
    has_content_filter: bool,
}

#[derive(Default)]
pub(crate) struct State {
    lines: [Vec<u8>; 2],
    starts: [u64; 2],
    open: VecDeque<Exchange>,
    begun: Option<Exchange>,
    steps: u64,
}

impl Roster for Toy {
    type State = State;

    fn begin(&mut self, protocol: detect::Protocol, _: Carrier) -> Option<State> {
        (protocol == detect::Protocol::Ssh).then(State::default)
    }

    fn is_one_exchange(&self, _: detect::Protocol) -> bool {
        false
    }

    fn terms(&self, _: &State) -> Terms {
        Terms {
            policy: NoFilterPolicy::Allow,
            has_content_filter: self.has_content_filter,
        }
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
        let way = at.direction as usize;
        state.steps += 1;
        let (offset, bytes) = match event {
            Event::Data { offset, bytes } => (offset, bytes),
            Event::Gap { offset, .. } => {
                state.lines[way].clear();
                tell.belongs(None, offset);
                return Course::Follow;
            }
            Event::End { .. } => return Course::Follow,
        };
        for (offset, byte) in (offset..).zip(bytes) {
            if state.lines[way].is_empty() {
                state.starts[way] = offset;
                if at.direction == Direction::Request {
                    let exchange = tell.begin();
                    state.begun = Some(exchange);
                    state.open.push_back(exchange);
                }
            }
            state.lines[way].push(*byte);
            if *byte != b'\n' {
                continue;
            }
            let line = std::mem::take(&mut state.lines[way]);
            let text = String::from_utf8_lossy(&line).into_owned();
            let mut words = text.split_whitespace();
            let word = words.next().unwrap_or_default();
            let exchange = match at.direction {
                Direction::Request => state.begun,
                Direction::Response => state.open.pop_front(),
            };
            tell.belongs(exchange, offset + 1);
            let Some(exchange) = exchange else {
                continue;
            };
            tell.compare(exchange, Kind::SipUser, word.as_bytes());
            let note = Note {
                protocol: "Toy",
                info: text.trim_end(),
                ..Note::default()
            };
            tell.note(exchange, state.starts[way], note);
            match words.next() {
                Some("fits") => tell.content(exchange, Content::Fits),
                Some("fails") => tell.content(exchange, Content::Fails),
                Some("turn") => return Course::Becomes(offset + 1, exchange),
                Some("rest") => return Course::RestOfBoth(Some(exchange)),
                Some("foreign") => return Course::Foreign,
                _ => {}
            }
            if at.direction == Direction::Response {
                tell.settle(exchange);
            }
        }
        Course::Follow
    }

    fn place(&self, state: &State, cited: &mut Cited) -> Option<Place> {
        let exchanges = std::iter::once(state.begun).chain(state.open.iter().copied().map(Some));
        let bytes = exchanges.map(|exchange| cited.number(exchange) as u8);
        Some(Place {
            bytes: bytes.collect(),
            ..Place::default()
        })
    }

    fn steps(&self, state: &State) -> u64 {
        state.steps
    }

    fn resume(&self, state: &mut State, place: &[u8], cited: &Cited) {
        let mut exchanges = place.iter().map(|number| cited.get((*number).into()));
        state.begun = exchanges.next().flatten();
        state.open = exchanges.flatten().collect();
    }
}

/// A desk that follows the toy protocol.
pub(crate) fn desk(setup: &Setup, _: usize) -> Desk<Toy> {
    make(setup, false)
}

/// The same, with patterns of its own.
pub(crate) fn desk_with_content(setup: &Setup, _: usize) -> Desk<Toy> {
    make(setup, true)
}

fn make(setup: &Setup, has_content_filter: bool) -> Desk<Toy> {
    let mut limits = Limits::default();
    (limits.connections, limits.packets) = (4096, 1 << 14);
    if let Some(bytes) = setup.kept_of_streams {
        limits.waiting_bytes = bytes;
    }
    let toy = Toy { has_content_filter };
    let sessions = Sessions::new(toy, 64 << 10, &limits).unwrap();
    let esp = SharedEsp::default();
    let sessions = SessionDesk::new(sessions, SharedEsp::clone(&esp));
    Desk::new(None, Some(sessions), esp)
}
