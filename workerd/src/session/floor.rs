//! What is known of sessions, and how what they carry makes exchanges. Knows nothing of flows and streams.

use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use shm_layout::counters::WorkerCounter as Counter;

use super::counts::Counts;
use super::early::Early;
use super::exchanges::{About, Addresses, Exchanges, Inherited};
use super::notes::Notes;
use super::pending::{self, Carriers, Parts, Pending};
use super::pool::{Pool, Ref};
use super::roster::{Carrier, Roster, Terms};
use super::side::Side;
use super::tracker::{At, Cited, Content, Course, Ends, Exchange, Note, Tell};
use super::waiting::{Packet, Queue, WaitingRoom, Whose};
use super::waypoint::{Point, Progress, Stand, Waypoint};
use crate::decode::Addr;
use crate::desk::held::Position;
use crate::desk::verdict::Standing;
use crate::detect::{self, Context, Detector, Layer};
use crate::flows::Direction;
use crate::flows::clock::Clock;
use crate::matcher::{Judge, Kind, Kinds};
use crate::reassembly::{ConnectionId, Event, Ledger, Spot};
use crate::tls::secrets::SessionKeys;

/// Most sessions at the same time. When there are more, one that has been silent for long gives way.
pub const MOST_SESSIONS: usize = 1 << 18;
/// Most bytes that are kept of all connections of which it is not known what they carry.
pub const MOST_EARLY: usize = 32 << 20;
/// Sessions among which the one to give way is chosen.
const CONTENDERS: usize = 8;
/// Wanted exchanges of a session that are remembered.
const REMEMBERED: usize = 128;
/// How often a session may go on in another protocol.
const MOST_TURNS: usize = 4;

/// A session. The default is none.
pub type SessionRef = Ref;

/// A session.
pub(super) struct Session<S> {
    pub phase: Phase<S>,
    pub carrier: Carrier,
    pub detection: detect::Flow,
    pub ends: Ends,
    pub addresses: Addresses,
    pub terms: Option<Terms>,
    pub sides: [Side; 2],
    pub begun: Begun,
    /// What led to the protocol at hand, from one to the next.
    pub parents: Vec<Exchange>,
    /// Packets that are of the first exchange.
    pub awaits_first: Vec<Position>,
    pub queue: Queue,
    /// What has come since its protocol waits.
    pub pending: Option<Box<Pending>>,
    /// Its connection, if it is followed.
    pub connection: Option<ConnectionId>,
    /// The secrets of its TLS, and whether they went with a packet.
    pub keys: Option<(Box<SessionKeys>, bool)>,
    /// What is told of it, as long as that holds.
    stand: Option<Rc<Stand>>,
    /// When its last packet was captured; not before those of others that came earlier: files may go back in time.
    pub seen_ns: u64,
    /// Whether the journal has to hear of it.
    pub is_changed: bool,
    /// Where it was told.
    pub told_at: Option<u64>,
    /// Whether a predecessor has told of it.
    pub is_inherited: bool,
    /// Up to where bytes that a predecessor may have had make no difference, in directions that have not gone on since.
    pub passive: [Option<u64>; 2],
}

/// The exchanges of a session.
#[derive(Debug, Default)]
pub(super) struct Begun {
    /// Undecided and wanted ones, by their age.
    pub all: VecDeque<Exchange>,
    pub first: Option<Exchange>,
    pub last: Option<Exchange>,
}

pub(super) enum Phase<S> {
    /// It is not known yet what it carries.
    Unknown(Early),
    /// It carries a protocol that is followed.
    Known(S),
    /// Nothing more is to be learnt.
    Rest,
    /// It is not ours.
    Foreign,
    /// Both directions have ended.
    Over,
}

impl<S> Session<S> {
    pub fn new(phase: Phase<S>, carrier: Carrier, ends: Ends, addresses: Addresses) -> Self {
        Self {
            phase,
            carrier,
            detection: detect::Flow::default(),
            ends,
            addresses,
            terms: None,
            sides: Default::default(),
            begun: Begun::default(),
            parents: Vec::new(),
            awaits_first: Vec::new(),
            queue: Queue::default(),
            pending: None,
            connection: None,
            keys: None,
            stand: None,
            seen_ns: 0,
            is_changed: false,
            told_at: None,
            is_inherited: false,
            passive: [None; 2],
        }
    }

    /// Whose a packet is that carries `range` of a direction; without payload, an empty one.
    fn whose(&self, direction: Direction, range: Range<u64>) -> Whose {
        let side = &self.sides[direction as usize];
        let mut of: Vec<Exchange> = Vec::new();
        let mut has_none = true;
        for exchange in side.of(range) {
            has_none = false;
            match exchange.or(self.begun.last) {
                Some(exchange) if !of.contains(&exchange) => of.push(exchange),
                Some(_) => {}
                None => has_none = true,
            }
        }
        if has_none {
            of.extend(self.begun.last.filter(|last| !of.contains(last)));
        }
        for parent in &self.parents {
            if !of.contains(parent) {
                of.push(*parent);
            }
        }
        match of.is_empty() && self.begun.first.is_none() && self.is_going_on() {
            true => Whose::First,
            false => Whose::Of(of),
        }
    }

    /// Whether nothing more comes of it.
    pub fn is_over(&self) -> bool {
        let pending = self.pending.as_ref();
        matches!(self.phase, Phase::Over) || pending.is_some_and(|pending| pending.is_over())
    }

    fn is_going_on(&self) -> bool {
        matches!(self.phase, Phase::Unknown(_) | Phase::Known(_))
    }

    /// Whether all bytes that have come are known to belong to somebody, where its streams stand so.
    fn is_clear(&self, spots: &[Option<Spot>; 2]) -> bool {
        let is_followed = self.is_going_on();
        let mut sides = self.sides.iter().zip(spots);
        !is_followed
            || sides.all(|(side, spot)| spot.is_none_or(|spot| spot.offset <= side.known()))
    }
}

/// See the [module](self).
pub(super) struct Floor<R: Roster> {
    pub roster: R,
    pub detector: Detector,
    pub sessions: Pool<Session<R::State>>,
    pub exchanges: Exchanges,
    pub room: WaitingRoom,
    /// The packet at hand, and what the streams call it.
    pub hand: Packet,
    pub token: Position,
    /// Its time.
    pub now_ns: u64,
    /// How long things last.
    pub clock: Clock,
    early_bytes: usize,
    /// Sessions that wait, by when they are to go on at the latest.
    pending: VecDeque<(u64, SessionRef)>,
    /// Those of which too much is kept.
    overdue: Vec<SessionRef>,
    /// Whether protocols have learnt something since these were looked at.
    has_news: bool,
    /// What was told of packets in either direction, and does not stand on them yet.
    noted: [Notes; 2],
    /// What protocols have counted.
    pub counts: Counts,
    /// Connections in which something happened.
    pub touched: Vec<(ConnectionId, SessionRef)>,
    /// Sessions that are over, or not ours.
    pub over: Vec<SessionRef>,
    /// Sessions that the journal has to hear of.
    pub changed: Vec<SessionRef>,
    /// Ends of sessions that were told, and are forgotten.
    pub gone: Vec<(Ends, Carrier)>,
    next_contender: usize,
}

impl<R: Roster> Floor<R> {
    pub fn new(roster: R) -> Self {
        Self {
            roster,
            detector: Detector::new(),
            sessions: Pool::default(),
            exchanges: Exchanges::default(),
            room: WaitingRoom::default(),
            hand: Packet::default(),
            token: 0,
            now_ns: 0,
            clock: Clock::default(),
            early_bytes: 0,
            pending: VecDeque::new(),
            overdue: Vec::new(),
            has_news: false,
            noted: Default::default(),
            counts: Counts::default(),
            touched: Vec::new(),
            over: Vec::new(),
            changed: Vec::new(),
            gone: Vec::new(),
            next_contender: 0,
        }
    }

    /// What is known of a session whose place is not: a successor has to find that again.
    pub fn lost(&self, id: SessionRef) -> Option<Waypoint> {
        let session = self.sessions.get(id)?;
        Some(Waypoint {
            stand: Rc::new(Stand::of::<R>(session, None)),
            ..Waypoint::default()
        })
    }

    /// No packet of a predecessor comes any more: what was looked at again is of no use where nothing waits.
    pub fn end_to_restore(&mut self) {
        for place in 0..self.sessions.places() {
            let id = self.sessions.at(place);
            if let Some(session) = id.and_then(|id| self.sessions.get_mut(id))
                && session.queue.is_empty()
            {
                self.room.forget_seen(&mut session.queue);
            }
        }
    }

    /// Time has gone on to that of a packet, or goes back to it.
    pub fn see(&mut self, time_ns: u64) {
        self.now_ns = time_ns;
        self.clock.see(time_ns);
    }

    /// Begins a session. If there are too many, one gives way.
    pub fn begin(&mut self, judge: Judge<'_>, mut session: Session<R::State>) -> SessionRef {
        session.seen_ns = self.clock.passed_ns();
        if self.sessions.len() >= MOST_SESSIONS {
            let places = self.sessions.places();
            let contenders = (0..CONTENDERS).filter_map(|nth| {
                let place = (self.next_contender + nth) % places;
                let at = self.sessions.at(place)?;
                Some((self.sessions.get(at)?.seen_ns, at))
            });
            let loser = contenders.min();
            self.next_contender = (self.next_contender + CONTENDERS) % places;
            if let Some((_, loser)) = loser {
                self.drop_all(judge, loser);
            }
        }
        self.sessions
            .insert(session, MOST_SESSIONS + CONTENDERS)
            .unwrap_or_default()
    }

    /// A datagram of a session. False: it is not ours.
    pub fn datagram(
        &mut self,
        judge: Judge<'_>,
        id: SessionRef,
        direction: Direction,
        payload: &[u8],
        time_ns: u64,
    ) -> bool {
        let Some(session) = self.sessions.get_mut(id) else {
            return false;
        };
        session.seen_ns = self.clock.passed_ns();
        if let Phase::Known(_) = session.phase {
            session.sides[direction as usize].begin_again();
            let payload = Said::Datagram(payload);
            let course = self.tell(judge, id, direction, payload, time_ns);
            match course {
                Course::Follow | Course::Wait => {}
                Course::Rest(exchange) | Course::RestOfBoth(exchange) => self.rest(id, exchange),
                Course::Becomes(_, exchange) => self.rest(id, Some(exchange)),
                Course::Foreign => return false,
            }
            let noted = &mut self.noted[direction as usize];
            for (exchange, _, note) in noted.iter() {
                self.hand.notes.push(exchange, 0, note);
            }
            noted.clear();
        }
        self.assign_hand(id, direction, 0..payload.len() as u64);
        self.follow_up(judge, id);
        true
    }

    /// The packet at hand carries `range` of its direction.
    pub fn assign_hand(&mut self, id: SessionRef, direction: Direction, range: Range<u64>) {
        if let Some(session) = self.sessions.get(id) {
            self.hand.whose = match (session.whose(direction, range), session.carrier) {
                // Nobody begins anything without saying so.
                (Whose::First, Carrier::Datagrams) => Whose::Of(Vec::new()),
                (whose, _) => whose,
            };
        }
    }

    fn rest(&mut self, id: SessionRef, exchange: Option<Exchange>) {
        if let Some(session) = self.sessions.get_mut(id) {
            session
                .sides
                .iter_mut()
                .for_each(|side| side.leave_rest(exchange));
            session.phase = Phase::Rest;
        }
        self.move_on(id);
    }

    /// A session is not where it was.
    fn move_on(&mut self, id: SessionRef) {
        if let Some(session) = self.sessions.get_mut(id) {
            session.stand = None;
        }
        self.change(id);
    }

    /// Where a session is, with its streams at `spots`; if nothing of it lies behind that belongs to nobody.
    pub fn waypoint(&mut self, id: SessionRef, spots: [Option<Spot>; 2]) -> Option<Waypoint> {
        let session = self.sessions.get_mut(id)?;
        if !session.is_clear(&spots) {
            return None;
        }
        let stand = match &session.stand {
            Some(stand) => Rc::clone(stand),
            None => Rc::new(Stand::of(session, Some(&self.roster))),
        };
        session.stand = Some(Rc::clone(&stand));
        Some(Waypoint {
            spots,
            claimed: [0, 1].map(|way: usize| session.sides[way].claimed()),
            stand,
        })
    }

    /// Something happens in one direction of a connection.
    pub fn hear(
        &mut self,
        judge: Judge<'_>,
        id: SessionRef,
        direction: Direction,
        event: Event<'_>,
    ) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        if let Some(pending) = &mut session.pending {
            let before = pending.bytes();
            pending.push(self.now_ns, direction, event);
            self.early_bytes += pending.bytes() - before;
            if pending.bytes() > pending::MOST_BYTES || self.early_bytes > MOST_EARLY {
                self.overdue.push(id);
            }
            return;
        }
        if let Event::End { .. } = event {
            session.sides[direction as usize].has_ended = true;
            session.stand = None;
        }
        if let Phase::Unknown(_) = session.phase {
            match self.detect(id, direction, event) {
                Detected::Nothing => return,
                Detected::Ours(early) => {
                    for earlier in early.iter() {
                        self.hear_of(judge, id, earlier);
                    }
                    return self.hear(judge, id, direction, event);
                }
                Detected::Foreign => {}
            }
        }
        self.hear_known(judge, id, direction, event);
    }

    /// Something has happened before, at `time_ns`.
    pub fn hear_of(
        &mut self,
        judge: Judge<'_>,
        id: SessionRef,
        (time_ns, direction, event): (u64, Direction, Event<'_>),
    ) {
        let now_ns = std::mem::replace(&mut self.now_ns, time_ns);
        self.hear(judge, id, direction, event);
        self.now_ns = now_ns;
    }

    /// Protocols have learnt something: sessions that wait may go on.
    pub fn has_news(&mut self) {
        self.has_news = true;
    }

    /// A session that waits and is to go on; with `at_end`, each of them.
    pub fn next_pending(&mut self, at_end: bool) -> Option<SessionRef> {
        if std::mem::take(&mut self.has_news) {
            let (roster, sessions) = (&self.roster, &self.sessions);
            let overdue = &mut self.overdue;
            self.pending.retain(|(_, id)| {
                let session = sessions.get(*id);
                let waits = session.is_some_and(|session| match &session.phase {
                    Phase::Known(state) => session.pending.is_some() && !roster.can_go_on(state),
                    _ => false,
                });
                if !waits {
                    overdue.push(*id);
                }
                waits
            });
        }
        if let Some(overdue) = self.overdue.pop() {
            return Some(overdue);
        }
        let is_late = |(until_ns, _): &mut (u64, _)| at_end || *until_ns <= self.clock.passed_ns();
        self.pending.pop_front_if(is_late).map(|(_, id)| id)
    }

    /// A session waits no more. What has come meanwhile, and the packets of directions that have ended.
    pub fn end_wait(&mut self, id: SessionRef) -> Option<(Early, [Parts; 2])> {
        let pending = self.sessions.get_mut(id)?.pending.take()?;
        self.early_bytes -= pending.bytes();
        Some(pending.into_parts())
    }

    /// It goes on in one direction.
    pub fn go_on(&mut self, judge: Judge<'_>, id: SessionRef, direction: Direction) {
        let course = match self.tell(judge, id, direction, Said::GoOn, self.now_ns) {
            Course::Wait => Course::RestOfBoth(None),
            course => course,
        };
        self.take_course(judge, id, direction, course, None);
    }

    /// Finds out what a connection carries.
    fn detect(&mut self, id: SessionRef, direction: Direction, event: Event<'_>) -> Detected {
        let Some(session) = self.sessions.get_mut(id) else {
            return Detected::Nothing;
        };
        let Phase::Unknown(early) = &mut session.phase else {
            return Detected::Nothing;
        };
        let verdict = match event {
            Event::Data { bytes, .. } => {
                let Ends { client, server } = session.ends;
                let forward = direction == Direction::Request;
                let (source, destination) = match forward {
                    true => (client, server),
                    false => (server, client),
                };
                let context = Context {
                    addresses: (source.0, destination.0),
                    forward,
                    time_ns: self.now_ns,
                    ..Context::new(Layer::Tcp, (source.1, destination.1), bytes)
                };
                self.detector.observe(&context, &mut session.detection)
            }
            Event::Gap { .. } | Event::End { .. } => None,
        };
        let has_ended = session.sides.iter().all(|side| side.has_ended);
        let state = match verdict {
            Some(verdict) => self.roster.begin(verdict.protocol, Carrier::Stream),
            None if session.detection.given_up() || has_ended || self.early_bytes > MOST_EARLY => {
                None
            }
            None => {
                if let Event::Data { bytes, .. } = event {
                    self.early_bytes += bytes.len();
                }
                early.push(self.now_ns, direction, event);
                return Detected::Nothing;
            }
        };
        let early = std::mem::take(early);
        self.early_bytes -= early.bytes();
        match (state, session.parents.last().copied()) {
            (Some(state), _) => {
                session.terms = Some(self.roster.terms(&state));
                session.phase = Phase::Known(state);
                self.move_on(id);
                Detected::Ours(early)
            }
            (None, Some(parent)) => {
                self.rest(id, Some(parent));
                Detected::Foreign
            }
            (None, None) => {
                session.phase = Phase::Foreign;
                Detected::Foreign
            }
        }
    }

    /// The same, where it is known what the connection carries.
    fn hear_known(
        &mut self,
        judge: Judge<'_>,
        id: SessionRef,
        direction: Direction,
        event: Event<'_>,
    ) {
        let is_known = |session: &Session<_>| matches!(session.phase, Phase::Known(_));
        if self.sessions.get(id).is_some_and(is_known) {
            let course = self.tell(judge, id, direction, Said::Event(event), self.now_ns);
            self.take_course(judge, id, direction, course, Some(event));
        }
    }

    /// A connection goes on as its protocol said, after an event if there was one.
    fn take_course(
        &mut self,
        judge: Judge<'_>,
        id: SessionRef,
        direction: Direction,
        course: Course,
        event: Option<Event<'_>>,
    ) {
        match course {
            Course::Follow => {}
            Course::Wait => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.pending = Some(Box::default());
                    let until_ns = self.clock.passed_ns() + pending::PATIENCE_NS;
                    self.pending.push_back((until_ns, id));
                    self.has_news = true;
                }
            }
            Course::Rest(exchange) => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.sides[direction as usize].leave_rest(exchange);
                }
                self.move_on(id);
            }
            Course::RestOfBoth(exchange) => self.rest(id, exchange),
            Course::Becomes(at, exchange) => {
                if self.turn(id, exchange)
                    && let Some(Event::Data { offset, bytes }) = event
                {
                    let done = at.saturating_sub(offset) as usize;
                    if let Some(bytes @ [_, ..]) = bytes.get(done..) {
                        let offset = offset + done as u64;
                        self.hear(judge, id, direction, Event::Data { offset, bytes });
                    }
                }
            }
            Course::Foreign => {
                if let Some(session) = self.sessions.get_mut(id) {
                    session.phase = Phase::Foreign;
                }
            }
        }
    }

    /// A session goes on in another protocol. Whether it is to be found out which.
    fn turn(&mut self, id: SessionRef, parent: Exchange) -> bool {
        let Some(session) = self.sessions.get_mut(id) else {
            return false;
        };
        session.parents.push(parent);
        if session.parents.len() > MOST_TURNS {
            self.rest(id, Some(parent));
            return false;
        }
        session.phase = Phase::Unknown(Early::default());
        session.detection = detect::Flow::default();
        session.sides.iter_mut().for_each(Side::reopen);
        self.exchanges.cover(parent);
        self.move_on(id);
        true
    }

    /// Tells the protocol of a session, and takes in what it says.
    fn tell(
        &mut self,
        judge: Judge<'_>,
        id: SessionRef,
        direction: Direction,
        said: Said<'_>,
        time_ns: u64,
    ) -> Course {
        let Some(session) = self.sessions.get_mut(id) else {
            return Course::Follow;
        };
        let Session {
            phase: Phase::Known(state),
            terms: Some(terms),
            ends,
            sides,
            begun,
            addresses,
            keys,
            ..
        } = session
        else {
            return Course::Follow;
        };
        let at = At {
            direction,
            ends: *ends,
            time_ns,
        };
        let steps = self.roster.steps(state);
        let mut teller = Teller {
            judge,
            exchanges: &mut self.exchanges,
            noted: &mut self.noted[direction as usize],
            counts: &mut self.counts,
            side: &mut sides[direction as usize],
            begun,
            session: id,
            terms: *terms,
            addresses: *addresses,
            keys,
            has_moved: false,
        };
        let course = match said {
            Said::Datagram(payload) => self.roster.datagram(&at, state, payload, &mut teller),
            Said::Event(event) => self.roster.stream(&at, state, event, &mut teller),
            Said::GoOn => self.roster.go_on(&at, state, &mut teller),
        };
        if teller.has_moved || self.roster.steps(state) != steps {
            self.move_on(id);
        }
        course
    }

    /// What was told in a direction is known of its packets from now on.
    pub fn settle(&mut self, id: SessionRef, direction: Direction, ledger: &mut impl Carriers) {
        let noted = &mut self.noted[direction as usize];
        for (exchange, offset, note) in noted.iter() {
            match ledger.carrier(offset) {
                Some(token) if token == self.token => {
                    self.hand.notes.push(exchange, offset, note);
                }
                Some(token) => {
                    if let Some(packet) = self.room.packet_mut(token) {
                        packet.notes.push(exchange, offset, note);
                    }
                }
                // Bytes that were claimed before they came are not in the ledger: the packet at hand has them.
                None => self.hand.notes.push(exchange, offset, note),
            }
        }
        noted.clear();
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        let known = match session.phase {
            Phase::Rest | Phase::Foreign | Phase::Over => u64::MAX,
            _ if session.sides[direction as usize].has_ended => u64::MAX,
            _ => session.sides[direction as usize].known(),
        };
        let (room, exchanges) = (&mut self.room, &mut self.exchanges);
        let (hand, own) = (&mut self.hand, self.token);
        let mut awaits_first = Vec::new();
        ledger.forget_first(known, |token, range| {
            let whose = session.whose(direction, range);
            match whose {
                whose if token == own => hand.whose = whose,
                Whose::Of(of) => room.assign(token, of, exchanges),
                Whose::First => awaits_first.push(token),
                Whose::Unclaimed => {}
            }
        });
        if ledger.is_empty() {
            session.sides[direction as usize].tidy();
        }
        session.awaits_first.append(&mut awaits_first);
    }

    /// If a direction has ended that waits, its packets are remembered by the session: `ledger` will be gone.
    pub fn keep_parts(&mut self, id: SessionRef, direction: Direction, ledger: &mut Ledger<'_>) {
        let session = self.sessions.get_mut(id);
        if let Some(pending) = session.and_then(|session| session.pending.as_mut()) {
            pending.take_parts(direction, ledger);
        }
    }

    /// After something was told: what follows from it.
    pub fn follow_up(&mut self, judge: Judge<'_>, id: SessionRef) {
        if let Some(session) = self.sessions.get_mut(id) {
            let has_ended = session.sides.iter().all(|side| side.has_ended);
            if has_ended && !matches!(session.phase, Phase::Foreign | Phase::Over) {
                session.phase = Phase::Over;
                session.stand = None;
                for exchange in &session.begun.all {
                    self.exchanges.settle(judge, *exchange);
                }
            }
            if matches!(session.phase, Phase::Foreign | Phase::Over) {
                self.over.push(id);
            }
            let is_going_on = session.is_going_on();
            if session.begun.first.is_some() || !is_going_on {
                let mut of: Vec<Exchange> = session.begun.first.into_iter().collect();
                of.extend_from_slice(&session.parents);
                for position in session.awaits_first.drain(..) {
                    self.room.assign(position, of.clone(), &mut self.exchanges);
                }
                if self.hand.whose == Whose::First {
                    self.hand.whose = Whose::Of(of);
                }
            }
            let (all, last) = (&mut session.begun.all, session.begun.last);
            while let Some(oldest) = all.front() {
                let is_unwanted = self.exchanges.standing(*oldest) == Standing::Unwanted;
                let is_passed = session.carrier == Carrier::Datagrams
                    && Some(*oldest) != last
                    && self.exchanges.is_settled(*oldest);
                if !is_unwanted && !is_passed && all.len() <= REMEMBERED {
                    break;
                }
                self.exchanges.spend(judge, *oldest);
                all.pop_front();
            }
        }
        self.advance(id);
        self.advance_decided();
    }

    /// Sessions of which exchanges were decided may go on.
    pub fn advance_decided(&mut self) {
        while let Some(decided) = self.exchanges.next_decided() {
            self.advance(decided);
            if let Some(session) = self.sessions.get_mut(decided)
                && session.carrier == Carrier::Datagrams
                && session.queue.packets() > 1
            {
                self.room.sweep(&mut session.queue, &mut self.exchanges);
            }
            self.change(decided);
        }
    }

    pub fn advance(&mut self, id: SessionRef) {
        if let Some(session) = self.sessions.get_mut(id)
            && !session.queue.is_empty()
        {
            let (queue, exchanges) = (&mut session.queue, &mut self.exchanges);
            if self.room.advance(id, queue, exchanges) {
                self.change(id);
            }
        }
    }

    /// The journal has to hear of a session.
    pub fn change(&mut self, id: SessionRef) {
        if let Some(session) = self.sessions.get_mut(id)
            && !session.is_changed
            && (session.carrier == Carrier::Stream || matches!(session.phase, Phase::Rest))
        {
            session.is_changed = true;
            self.changed.push(id);
        }
    }

    /// Whether a session is of no use any more: nothing of it is wanted, or can be.
    pub fn is_done(&self, id: SessionRef) -> bool {
        self.sessions.get(id).is_none_or(|session| {
            let is_undecided_or_wanted =
                |exchange: &Exchange| self.exchanges.standing(*exchange) != Standing::Unwanted;
            let mut exchanges = session.begun.all.iter().chain(&session.parents);
            !session.is_going_on()
                && session.queue.is_empty()
                && !exchanges.any(is_undecided_or_wanted)
        })
    }

    /// Forgets a session. Its packets are somebody else's.
    pub fn turn_away(&mut self, judge: Judge<'_>, id: SessionRef) {
        if let Some(mut session) = self.remove(judge, id) {
            self.room.turn_away(&mut session.queue, &mut self.exchanges);
        }
    }

    /// Forgets a session. Its packets are dropped.
    pub fn drop_all(&mut self, judge: Judge<'_>, id: SessionRef) {
        if let Some(mut session) = self.remove(judge, id) {
            self.room.drop_all(&mut session.queue, &mut self.exchanges);
        }
    }

    fn remove(&mut self, judge: Judge<'_>, id: SessionRef) -> Option<Session<R::State>> {
        let session = self.sessions.remove(id)?;
        for exchange in &session.begun.all {
            self.exchanges.spend(judge, *exchange);
        }
        if let Phase::Unknown(early) = &session.phase {
            self.early_bytes -= early.bytes();
        }
        if let Some(pending) = &session.pending {
            self.early_bytes -= pending.bytes();
        }
        if session.told_at.is_some() {
            self.gone.push((session.ends, session.carrier));
        }
        Some(session)
    }

    /// Nothing more will be told of any session.
    pub fn end_all(&mut self, judge: Judge<'_>) {
        for place in 0..self.sessions.places() {
            let Some(id) = self.sessions.at(place) else {
                continue;
            };
            if let Some(session) = self.sessions.get_mut(id) {
                session
                    .sides
                    .iter_mut()
                    .for_each(|side| side.has_ended = true);
            }
            self.follow_up(judge, id);
        }
    }

    /// A predecessor has told of the session.
    pub fn take_over(&mut self, id: SessionRef, heirloom: &Heirloom) {
        let Some(session) = self.sessions.get_mut(id) else {
            return;
        };
        session.told_at = heirloom.told_at;
        session.is_inherited = true;
        let exchanges = heirloom.exchanges.iter();
        let cited: Vec<Exchange> = exchanges
            .map(|inherited| self.exchanges.restore(id, inherited.clone()))
            .collect();
        session.begun.all.extend(&cited);
        let cited = Cited::of(cited);
        let Heirloom { point, .. } = heirloom;
        session.begun.first = cited.get(point.first);
        session.begun.last = cited.get(point.last);
        let parents = point.parents.iter().take(MOST_TURNS);
        session.parents = parents.filter_map(|parent| cited.get(*parent)).collect();
        for parent in &session.parents {
            self.exchanges.cover(*parent);
        }
        // Where the place has to be found again, offsets begin anew.
        let claimed = match heirloom.has_place() {
            true => heirloom.claimed,
            false => [0; 2],
        };
        let sides = session.sides.iter_mut().zip(&point.sides);
        for ((side, told), claimed) in sides.zip(claimed) {
            *side = told.side(claimed, &cited);
        }
        let is_one = (heirloom.protocol).is_some_and(|it| self.roster.is_one_exchange(it));
        if let Some(protocol) = heirloom.protocol
            && point.progress() != Progress::Unknown
        {
            session.detection = detect::Flow::decided(protocol);
            if let Some(mut state) = self.roster.begin(protocol, session.carrier) {
                session.terms = Some(self.roster.terms(&state));
                if let Some(place) = &point.place {
                    self.roster.resume(&mut state, place, &cited);
                }
                session.phase = Phase::Known(state);
            }
        }
        match point.progress() {
            Progress::Known if point.place.is_none() && is_one => {
                for side in &mut session.sides {
                    if side.rest().is_none() {
                        side.leave_rest(session.begun.first);
                    }
                }
                session.phase = Phase::Rest;
            }
            Progress::Rest => session.phase = Phase::Rest,
            Progress::Over => session.phase = Phase::Over,
            Progress::Unknown | Progress::Known => {}
        }
        session.passive = [0, 1].map(|way: usize| point.passive.get(way).copied());
        self.change(id);
    }
}

/// What a predecessor has told of a session.
#[derive(Debug, Clone)]
pub struct Heirloom {
    /// Where its client is.
    pub client: (Addr, u16),
    /// What it carries, if that was known.
    pub protocol: Option<detect::Protocol>,
    /// Where it was.
    pub point: Point,
    /// Where its streams stood.
    pub spots: [Option<Spot>; 2],
    /// Up to where bytes belonged to somebody.
    pub claimed: [u64; 2],
    /// The exchanges that the point speaks of.
    pub exchanges: Vec<Inherited>,
    /// Where it was told.
    pub told_at: Option<u64>,
}

impl Heirloom {
    /// Whether it is known where the session was in its protocol.
    pub fn has_place(&self) -> bool {
        self.point.progress() != Progress::Known || self.point.place.is_some()
    }
}

/// What a protocol is told.
enum Said<'a> {
    Datagram(&'a [u8]),
    Event(Event<'a>),
    GoOn,
}

/// What was found out of a connection.
enum Detected {
    /// Nothing yet.
    Nothing,
    /// It is one of ours; so much has come before.
    Ours(Early),
    /// It is not, or not any more.
    Foreign,
}

/// Takes in what a protocol tells.
struct Teller<'t, 'j> {
    judge: Judge<'j>,
    exchanges: &'t mut Exchanges,
    noted: &'t mut Notes,
    counts: &'t mut Counts,
    side: &'t mut Side,
    begun: &'t mut Begun,
    session: SessionRef,
    terms: Terms,
    addresses: Addresses,
    keys: &'t mut Option<(Box<SessionKeys>, bool)>,
    /// Whether the session is not where it was.
    has_moved: bool,
}

impl Tell for Teller<'_, '_> {
    fn begin(&mut self) -> Exchange {
        let exchange = self
            .exchanges
            .begin(self.judge, self.session, self.terms, self.addresses);
        self.begun.all.push_back(exchange);
        self.begun.first.get_or_insert(exchange);
        self.begun.last = Some(exchange);
        self.has_moved = true;
        exchange
    }

    fn belongs(&mut self, exchange: Option<Exchange>, end: u64) {
        self.has_moved |= self.side.claim(exchange, end);
    }

    fn wanted(&self) -> Kinds {
        self.judge.filters.wanted()
    }

    fn compare(&mut self, exchange: Exchange, kind: Kind, text: &[u8]) {
        self.exchanges.compare(self.judge, exchange, kind, text);
    }

    fn content(&mut self, exchange: Exchange, content: Content) {
        self.exchanges.content(self.judge, exchange, content);
    }

    fn note(&mut self, exchange: Exchange, offset: u64, note: Note<'_>) {
        if self.exchanges.standing(exchange) != Standing::Unwanted {
            self.noted.push(exchange, offset, note);
        }
    }

    fn about(&mut self, exchange: Exchange, note: Note<'_>) {
        self.exchanges.set_about(exchange, About::from(note));
    }

    fn is_unwanted(&self, exchange: Exchange) -> bool {
        self.exchanges.standing(exchange) == Standing::Unwanted
    }

    fn count(&mut self, counter: Counter) {
        self.counts.add(counter);
    }

    fn keys(&mut self, keys: SessionKeys) {
        let known = self.keys.as_ref();
        if known.is_none_or(|(known, _)| known.client_random != keys.client_random) {
            *self.keys = Some((Box::new(keys), false));
        }
    }

    fn settle(&mut self, exchange: Exchange) {
        self.exchanges.settle(self.judge, exchange);
    }
}
