//! DNS as a [`Protocol`]: each message is an exchange of its own.

use std::cell::Cell;
use std::rc::Rc;

use lc_daemon::config;
use shm_layout::counters::WorkerCounter as Counter;

use super::account::Account;
use super::analysis::Analysis;
use super::framer::{self, Framer};
use super::message::Message;
use super::names::{KINDS, each_field};
use crate::reassembly::{Event, Share};
use crate::session::{self, At, Cited, Course, Exchange, Protocol, Tell};

/// Bytes that parts of messages may take, of all connections together.
pub const MOST_WAITING: usize = 64 << 20;

/// All DNS of a worker.
#[derive(Debug)]
pub struct Dns {
    match_targets: bool,
    analysis: Analysis,
    account: Account,
    /// What is compared.
    name: Vec<u8>,
    /// Bytes of parts of messages.
    waiting: Rc<Cell<usize>>,
}

/// What is remembered of a session; of one over UDP, next to nothing.
#[derive(Debug, Default)]
pub struct State {
    /// Whether there was a message.
    is_dns: bool,
    sides: [Option<Box<Side>>; 2],
}

/// A direction of a connection.
#[derive(Debug)]
struct Side {
    framer: Framer,
    share: Share,
    /// The message that has begun.
    exchange: Option<Exchange>,
}

/// Where a message was found.
#[derive(Clone, Copy)]
struct Place {
    exchange: Exchange,
    offset: u64,
    is_stream: bool,
    is_whole: bool,
}

impl Dns {
    /// Nothing was seen.
    #[must_use]
    pub fn new(settings: &config::Dns) -> Self {
        Self {
            match_targets: settings.match_targets,
            analysis: Analysis::new(settings),
            account: Account::default(),
            name: Vec::new(),
            waiting: Rc::default(),
        }
    }

    /// Bytes of parts of messages, of all connections.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.get()
    }

    /// A message that has come. One that is cut is compared, as far as it is there, and not told of.
    fn message(&mut self, at: &At, place: Place, bytes: &[u8], tell: &mut impl Tell) {
        let Some(message) = Message::parse(bytes) else {
            if place.is_whole {
                tell.count(Counter::DnsMalformed);
            }
            return tell.settle(place.exchange);
        };
        tell.count(Counter::DnsMessages);
        let wanted = tell.wanted();
        if wanted.has_any(KINDS) {
            each_field(
                &message,
                self.match_targets,
                wanted,
                &mut self.name,
                |kind, text| tell.compare(place.exchange, kind, text),
            );
        }
        tell.settle(place.exchange);
        if !place.is_whole {
            return;
        }
        let findings = self.analysis.take(at, place.is_stream, &message);
        if !tell.is_unwanted(place.exchange) {
            let note = self.account.of(&message, &findings);
            tell.note(place.exchange, place.offset, note);
        }
    }

    /// What one direction of a connection has told.
    fn told(
        &mut self,
        at: &At,
        side: &mut Option<Exchange>,
        event: framer::Event<'_>,
        tell: &mut impl Tell,
    ) {
        match event {
            framer::Event::Begun { end } => {
                let exchange = tell.begin();
                tell.belongs(Some(exchange), end);
                *side = Some(exchange);
            }
            framer::Event::Message {
                bytes,
                start,
                is_whole,
            } => {
                if let Some(exchange) = side.take() {
                    let place = Place {
                        exchange,
                        // Where it ends: what it begins in may have been let go.
                        offset: start + bytes.len() as u64 + 1,
                        is_stream: true,
                        is_whole,
                    };
                    self.message(at, place, bytes, tell);
                }
            }
            framer::Event::OutOfStep | framer::Event::GivenUp => {}
        }
    }
}

impl Protocol for Dns {
    type State = State;

    fn has_content_filter(&self) -> bool {
        false
    }

    fn datagram(
        &mut self,
        at: &At,
        state: &mut State,
        payload: &[u8],
        tell: &mut impl Tell,
    ) -> Course {
        if Message::parse(payload).is_none() {
            tell.belongs(None, payload.len() as u64);
            if !state.is_dns {
                return Course::Foreign;
            }
            tell.count(Counter::DnsMalformed);
            return Course::Follow;
        }
        state.is_dns = true;
        let exchange = tell.begin();
        tell.belongs(Some(exchange), payload.len() as u64);
        let place = Place {
            exchange,
            offset: 0,
            is_stream: false,
            is_whole: true,
        };
        self.message(at, place, payload, tell);
        Course::Follow
    }

    fn stream(
        &mut self,
        at: &At,
        state: &mut State,
        event: Event<'_>,
        tell: &mut impl Tell,
    ) -> Course {
        let side = state.sides[at.direction as usize]
            .get_or_insert_with(|| Box::new(Side::new(&self.waiting)));
        let Side {
            framer,
            share,
            exchange,
        } = &mut **side;
        match event {
            Event::Data { mut bytes, offset } => {
                framer.seek(offset);
                let may_wait = self.waiting.get() < MOST_WAITING;
                while let Some(event) = framer.next(&mut bytes, may_wait) {
                    match event {
                        framer::Event::GivenUp => {
                            share.set(0);
                            return match state.is_dns {
                                true => Course::Rest(None),
                                false => Course::Foreign,
                            };
                        }
                        framer::Event::OutOfStep if state.is_dns => {
                            tell.count(Counter::DnsMalformed);
                        }
                        framer::Event::OutOfStep => {}
                        event => {
                            state.is_dns = true;
                            self.told(at, exchange, event, tell);
                        }
                    }
                }
            }
            Event::Gap { len, .. } => {
                if let Some(event) = framer.gap(len) {
                    self.told(at, exchange, event, tell);
                }
            }
            Event::End { .. } => {
                if let Some(event) = framer.end() {
                    self.told(at, exchange, event, tell);
                }
            }
        }
        share.set(framer.allocated());
        if let Some(offset) = framer.lost_before() {
            tell.belongs(None, offset);
        }
        Course::Follow
    }

    /// Between messages there is nothing to tell.
    fn place(&self, state: &State, _: &mut Cited) -> Option<session::Place> {
        (state.steps() == 0).then(session::Place::default)
    }

    fn steps(&self, state: &State) -> u64 {
        state.steps()
    }

    fn resume(&self, _: &[u8], _: &Cited) -> State {
        State {
            is_dns: true,
            ..State::default()
        }
    }
}

impl State {
    /// In which directions a message has begun, or is looked for.
    fn steps(&self) -> u64 {
        let sides = self.sides.iter().zip([1, 2]);
        sides
            .filter(|(side, _)| side.as_ref().is_some_and(|side| !side.framer.is_in_step()))
            .map(|(_, bit)| bit)
            .sum()
    }
}

impl Side {
    fn new(waiting: &Rc<Cell<usize>>) -> Self {
        Self {
            framer: Framer::default(),
            share: Share::of(waiting),
            exchange: None,
        }
    }
}
