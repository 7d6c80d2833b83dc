//! From packets to exchanges: flows, what they carry, and whose their packets are.
//!
//! ```text
//!   packet -> flow -+- let go: not ours ----------------------------------------------------> nobody's
//!                   +- UDP: detection -> protocol -------------+
//!                   +- TCP: streams -> detection -> protocol --+-> exchanges -> claims: whose are which bytes?
//!                             |                                                   |
//!                             +-- which packets carry which bytes ----------------+--> fate of packets
//! ```
//!
//! - A datagram is of the exchanges that its protocol claims it for. Datagrams of a flow of which detection does not know yet what it carries don't wait.
//! - A segment waits until all its bytes are claimed, and their exchanges are decided, see [`waiting`](super::waiting); and as long as one before it waits, also if nobody wants it: a successor may need it to understand the others. Packets without payload, and those that come again and are not remembered, are of the exchange that began last; before
//!   the first, of the first: so a handshake goes with what follows.
//! - A flow that is not ours is let go: it costs a look-up from then on, and what it held goes to whoever else may want it. A SYN begins it anew.
//! - A session goes on in another protocol where its own says so; then detection finds out which, and what it carries is also of the exchange that led there.
//!
//! Bounds: sessions ([`floor::MOST_SESSIONS`]), bytes kept for detection ([`floor::MOST_EARLY`]), packets and bytes that wait for a session ([`MOST_PACKETS`], [`MOST_BYTES`]), and for how long ([`LONGEST_WAIT_NS`]). What a protocol keeps, it bounds itself.

use std::collections::{HashMap, HashSet, VecDeque};

use lc_daemon::key_log::Entry;
use shm_layout::worker::WorkerCommit;

use super::exchanges::Inherited;
use super::floor::{self, Floor, Heirloom, Phase, Session, SessionRef};
use super::pending::Carriers;
use super::roster::{Carrier, Roster};
use super::tracker::Ends;
use super::waiting::{Fate, Packet, Tally, Whose};
use super::waypoint::Waypoint;
use crate::decode::{Addr, Decoded, Transport};
use crate::desk::hand::Sight;
use crate::desk::held::{Position, Waiting};
use crate::detect::{self, Context, Details};
use crate::flows::{self, Direction, FlowTable, Probe, Seed, Signal, Timeouts, Zone};
use crate::matcher::Judge;
use crate::reassembly::{
    self, ConnectionId, Consumer, Event, Interest, Segment, Spot, Stream, Streams,
};
use crate::tls::secrets::SessionKeys;

/// Packets that wait for one session at most.
pub const MOST_PACKETS: u32 = 4096;
/// Bytes that wait for one session at most.
pub const MOST_BYTES: u32 = 8 << 20;
/// How long a packet waits at most, in nanoseconds of packet time.
pub const LONGEST_WAIT_NS: u64 = 180 * SECOND_NS;

const SECOND_NS: u64 = 1_000_000_000;
/// How long a session is remembered that is over, for what comes late.
const LINGER_NS: u64 = 10 * SECOND_NS;
/// How long a session may be silent that is carried by datagrams, or followed no more.
const SILENCE_NS: u64 = 300 * SECOND_NS;
/// How long what a predecessor has told is remembered.
const INHERITED_NS: u64 = 600 * SECOND_NS;
/// Places that are looked at for silent sessions at a time.
const LOOKED_AT: usize = 16;
/// The segment at hand, to the streams, unless it was held; and one that was dropped.
const HAND: Position = u64::MAX;
const GONE: Position = u64::MAX - 1;
const SYN: u8 = 2;
const ACK: u8 = 16;

/// There is no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoMemory {
    /// For the flow table.
    #[error(transparent)]
    Flows(#[from] flows::NoMemory),
    /// To follow TCP connections.
    #[error(transparent)]
    Streams(#[from] reassembly::NoMemory),
}

/// What a flow remembers.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    detection: detect::Flow,
    session: SessionRef,
    connection: Option<ConnectionId>,
    /// The first packet that was seen came from the server.
    is_turned: bool,
    /// It is not ours.
    is_let_go: bool,
}

/// What a connection remembers.
#[derive(Debug, Default)]
struct Link(SessionRef);

/// What is found out of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// It is not of a session.
    Nobodys,
    /// It is of one.
    Ours(Fate),
}

/// The packet that was looked at last.
#[derive(Debug, Clone, Copy)]
struct AtHand {
    session: SessionRef,
    direction: Direction,
    /// If a connection has noted which bytes it carries, and waits to hear where it lies.
    connection: Option<ConnectionId>,
}

/// See the [module](self).
pub struct Sessions<R: Roster> {
    flows: FlowTable<Memory>,
    streams: Streams<Link>,
    floor: Floor<R>,
    at_hand: AtHand,
    /// What a predecessor has told of sessions that have not been seen since, and until when that is remembered.
    inherited: HashMap<Key, Heirloom>,
    inherited_until_ns: u64,
    /// Where packets lie that have left before a predecessor died, and are to be looked at again.
    seen: HashSet<Position>,
    /// Before the first packet of a session.
    start: Waypoint,
    /// Sessions that are over, and until when they are remembered.
    lingering: VecDeque<(u64, SessionRef)>,
    next_place: usize,
}

/// The two ends of a session, whichever is the client, and what carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key((Addr, u16), (Addr, u16), bool);

impl Key {
    fn new(ends: &Ends, carrier: Carrier) -> Self {
        let Ends { client, server } = *ends;
        let is_stream = carrier == Carrier::Stream;
        let number = |(address, port): (Addr, u16)| match address {
            Addr::V4(address) => (0, u128::from(address), port),
            Addr::V6(address) => (1, address, port),
        };
        match number(client) <= number(server) {
            true => Self(client, server, is_stream),
            false => Self(server, client, is_stream),
        }
    }
}

/// What is told of a session, for a successor.
pub struct Account {
    /// What carries it.
    pub carrier: Carrier,
    /// Its two ends.
    pub ends: Ends,
    /// What it carries, if that is known.
    pub protocol: Option<detect::Protocol>,
    /// Where a successor goes on: before the first packet that it will see again, or where the session is.
    pub waypoint: Waypoint,
    /// Whether it will see again all that has come behind.
    pub is_exact: bool,
    /// The exchanges that the waypoint speaks of.
    pub exchanges: Vec<Inherited>,
    /// Where packets lie that have left, and that it has to look at again.
    pub seen: Vec<Position>,
}

impl<R: Roster> Sessions<R> {
    /// Follows flows in `flow_bytes` of memory and connections within `limits`, as far as the `roster` takes them.
    ///
    /// # Errors
    /// [`NoMemory`]
    pub fn new(
        roster: R,
        flow_bytes: usize,
        limits: &reassembly::Limits,
    ) -> Result<Self, NoMemory> {
        Ok(Self {
            flows: FlowTable::new(flow_bytes, Seed::random(), &Timeouts::default())?,
            streams: Streams::new(limits)?,
            floor: Floor::new(roster),
            at_hand: AtHand {
                session: SessionRef::default(),
                direction: Direction::Request,
                connection: None,
            },
            inherited: HashMap::new(),
            inherited_until_ns: 0,
            seen: HashSet::new(),
            start: Waypoint::default(),
            lingering: VecDeque::new(),
            next_place: 0,
        })
    }

    /// How the flow of a packet is found, if it has one.
    #[inline]
    #[must_use]
    pub fn probe(&self, decoded: &Decoded) -> Option<Probe> {
        self.flows.probe(decoded, Zone::NONE)
    }

    /// Has fetched what will be looked at for packets with these `probes`.
    pub fn prepare(&mut self, probes: &[Probe]) {
        self.flows.prepare(probes);
    }

    /// Takes note of a packet. It lies at `position` if it was held.
    pub fn look(
        &mut self,
        judge: Judge<'_>,
        sight: &Sight<'_>,
        position: Option<Position>,
    ) -> Found {
        self.floor.see(sight.header.timestamp_ns);
        // Both clocks agree: what streams wait for is given up before packets have waited for too long.
        self.streams.see(sight.header.timestamp_ns);
        self.floor.hand.clear();
        self.at_hand.connection = None;
        if sight.decoded.fragment {
            return Found::Nobodys;
        }
        let found = match sight.decoded.transport {
            Some(Transport::Udp) => self.look_at_datagram(judge, sight),
            Some(Transport::Tcp) => self.look_at_segment(judge, sight, position),
            _ => None,
        };
        self.floor.exchanges.keep_said();
        found.map_or(Found::Nobodys, Found::Ours)
    }

    fn look_at_datagram(&mut self, judge: Judge<'_>, sight: &Sight<'_>) -> Option<Fate> {
        let Self { flows, floor, .. } = self;
        let probe = flows.probe(sight.decoded, Zone::NONE)?;
        let time_ns = sight.header.timestamp_ns;
        let flow = flows.observe(&probe, time_ns, Signal::None);
        let memory = flow.memory;
        if memory.is_let_go {
            return None;
        }
        if flow.is_new {
            memory.is_turned = comes_from_server(sight.decoded);
        }
        if floor.sessions.get(memory.session).is_none() {
            let forward = flow.direction == Direction::Request;
            let context = Context::decoded(sight.decoded, sight.frame, forward, time_ns)?;
            let verdict = floor.detector.observe(&context, &mut memory.detection);
            let Some(protocol) = verdict.map(|verdict| verdict.protocol) else {
                memory.is_let_go = memory.detection.given_up();
                return None;
            };
            let Some(state) = floor.roster.begin(protocol, Carrier::Datagrams) else {
                memory.is_let_go = !may_turn(protocol);
                return None;
            };
            let heirloom = inherit(&mut self.inherited, sight, Carrier::Datagrams);
            if let Some(heirloom) = &heirloom {
                let forward = flow.direction == Direction::Request;
                memory.is_turned = is_turned(heirloom, sight, forward);
            }
            let direction = turn(flow.direction, memory.is_turned);
            let terms = floor.roster.terms(&state);
            let mut session = begin(Phase::Known(state), Carrier::Datagrams, sight, direction)?;
            session.terms = Some(terms);
            session.detection = memory.detection;
            memory.session = floor.begin(judge, session);
            if let Some(heirloom) = heirloom {
                floor.take_over(memory.session, &heirloom);
            }
        }
        let direction = turn(flow.direction, memory.is_turned);
        let session = memory.session;
        // Nothing has to be looked at again to understand a datagram.
        floor.hand.waypoint = Some(self.start.clone());
        self.at_hand.session = session;
        self.at_hand.direction = direction;
        if !floor.datagram(judge, session, direction, sight.payload(), time_ns) {
            floor.turn_away(judge, session);
            memory.is_let_go = true;
            return None;
        }
        let fate = floor.hand.fate(&floor.exchanges);
        if fate == Fate::Unwanted && floor.is_done(session) {
            floor.drop_all(judge, session);
            memory.is_let_go = true;
        }
        Some(fate)
    }

    fn look_at_segment(
        &mut self,
        judge: Judge<'_>,
        sight: &Sight<'_>,
        position: Option<Position>,
    ) -> Option<Fate> {
        let Self {
            flows,
            streams,
            floor,
            ..
        } = self;
        let header = sight.frame.get(sight.decoded.header..)?;
        let flags = *header.get(13)?;
        let probe = flows.probe(sight.decoded, Zone::NONE)?;
        let time_ns = sight.header.timestamp_ns;
        let flow = flows.observe(&probe, time_ns, Signal::of_tcp_flags(flags));
        let memory = flow.memory;
        let is_opening = flags & (SYN | ACK) == SYN;
        if memory.is_let_go && !is_opening {
            return None;
        }
        let is_over = floor
            .sessions
            .get(memory.session)
            .is_none_or(|session| session.is_over() && is_opening);
        if is_over {
            if let Some(stale) = memory.connection {
                let mut reader = Reader {
                    floor,
                    judge,
                    sight: None,
                    direction: Direction::Request,
                    session: SessionRef::default(),
                };
                streams.close(stale, &mut reader);
            }
            let forward = flow.direction == Direction::Request;
            let is_turned_now = match flags & SYN {
                0 => forward == comes_from_server(sight.decoded),
                _ => forward != is_opening,
            };
            *memory = Memory {
                is_turned: is_turned_now,
                ..Memory::default()
            };
            // A connection that begins inherits nothing: as long as its first packet is held, nothing of it was forwarded.
            let heirloom = inherit(&mut self.inherited, sight, Carrier::Stream);
            let heirloom = heirloom.filter(|_| !is_opening);
            if let Some(heirloom) = &heirloom {
                memory.is_turned = is_turned(heirloom, sight, forward);
            }
            let direction = turn(flow.direction, memory.is_turned);
            let phase = Phase::Unknown(Default::default());
            let session = begin(phase, Carrier::Stream, sight, direction)?;
            memory.session = floor.begin(judge, session);
            if let Some(heirloom) = heirloom {
                floor.take_over(memory.session, &heirloom);
                let mut reader = Reader {
                    floor,
                    judge,
                    sight: None,
                    direction,
                    session: memory.session,
                };
                for direction in [Direction::Request, Direction::Response] {
                    let spot = heirloom.spots[direction as usize];
                    if let Some(spot) = spot.filter(|_| heirloom.has_place()) {
                        let place = (direction, spot, time_ns);
                        streams.go_on(&mut memory.connection, place, &mut reader);
                    }
                }
            }
        }
        let direction = turn(flow.direction, memory.is_turned);
        let spots = spots(streams, memory.connection);
        floor.hand.waypoint = spots.and_then(|spots| floor.waypoint(memory.session, spots));
        let token = position.unwrap_or(HAND);
        floor.token = token;
        floor.hand.whose = Whose::Unclaimed;
        let payload = sight.payload();
        let now_ns = floor.clock.passed_ns();
        let is_resting = floor
            .sessions
            .get_mut(memory.session)
            .is_some_and(|session| {
                session.seen_ns = now_ns;
                matches!(session.phase, Phase::Rest)
            });
        if is_resting {
            let range = match payload {
                [] => 0..0,
                _ => u64::MAX - 1..u64::MAX,
            };
            floor.assign_hand(memory.session, direction, range);
        } else {
            let segment = Segment::read(header, payload, direction, time_ns, Some(token))?;
            let mut reader = Reader {
                floor,
                judge,
                sight: Some(sight),
                direction,
                session: memory.session,
            };
            catch_up(streams, &mut memory.connection, &segment, &mut reader);
            if !payload.is_empty() && flags & SYN == 0 {
                // What a predecessor has held is the first that it had no use for yet, and it has seen what came before.
                let place = (direction, segment.seq, time_ns);
                let session = reader.floor.sessions.get(reader.session);
                let is_inherited = session.is_some_and(|session| session.is_inherited);
                let is_first = || position.is_some() || is_inherited;
                streams.expect(&mut memory.connection, place, &mut reader, is_first);
            }
            let outcome = streams.segment(&mut memory.connection, &segment, &mut reader);
            if reader.session != memory.session {
                reader.floor.hand.waypoint = Some(self.start.clone());
            }
            memory.session = reader.session;
            if let Some(session) = floor.sessions.get_mut(memory.session) {
                session.connection = memory.connection;
            }
            // What it carries may be told first when the time of another packet has come.
            let stream = memory
                .connection
                .and_then(|id| streams.stream(id, direction));
            if let Some(Stream { state, .. }) = stream
                && state.0 == SessionRef::default()
            {
                state.0 = memory.session;
            }
            settle_touched(judge, streams, floor);
            if floor.hand.whose == Whose::Unclaimed && !outcome.noted {
                floor.assign_hand(memory.session, direction, outcome.range);
            }
            if floor.hand.whose == Whose::Unclaimed {
                self.at_hand.connection = memory.connection;
            }
            floor.follow_up(judge, memory.session);
        }
        let session = memory.session;
        self.at_hand.session = session;
        self.at_hand.direction = direction;
        let phase = floor.sessions.get(session).map(|session| &session.phase);
        let is_foreign = matches!(phase, None | Some(Phase::Foreign));
        let is_resting = matches!(phase, Some(Phase::Rest));
        let is_done = is_foreign || floor.is_done(session);
        let is_followed_no_more = is_resting || is_foreign;
        if let Some(connection) = memory.connection.take_if(|_| is_followed_no_more) {
            let mut reader = Reader {
                floor,
                judge,
                sight: None,
                direction,
                session,
            };
            streams.close(connection, &mut reader);
            if let Some(session) = floor.sessions.get_mut(session) {
                session.connection = None;
            }
            self.at_hand.connection = None;
            if floor.hand.whose == Whose::Unclaimed {
                floor.assign_hand(session, direction, 0..0);
            }
            floor.touched.clear();
        }
        let fate = floor.hand.fate(&floor.exchanges);
        if is_foreign {
            floor.turn_away(judge, session);
            memory.is_let_go = true;
            return None;
        }
        if is_done && fate == Fate::Unwanted {
            floor.drop_all(judge, session);
            memory.is_let_go = true;
        }
        Some(fate)
    }

    /// The packet at hand waits, at `position`, behind those of its session that wait already.
    pub fn hold(&mut self, position: Position, bytes: u32) {
        let AtHand {
            session: id,
            direction,
            connection,
        } = self.at_hand;
        if let Some(connection) = connection
            && let Some(mut stream) = self.streams.stream(connection, direction)
        {
            stream.ledger.rename_last(HAND, position);
        }
        let floor = &mut self.floor;
        let packet = std::mem::take(&mut floor.hand);
        let Some(session) = floor.sessions.get_mut(id) else {
            return;
        };
        if packet.whose == Whose::First {
            session.awaits_first.push(position);
        }
        if let Some(pending) = &mut session.pending {
            pending.rename_last(direction, HAND, position);
        }
        let waiting = Waiting {
            position,
            time_ns: floor.clock.passed_ns(),
            bytes,
            is_media: false,
            owner: id,
        };
        let queue = &mut session.queue;
        let (room, exchanges) = (&mut floor.room, &mut floor.exchanges);
        let is_first = queue.is_empty();
        room.push(queue, waiting, packet, exchanges);
        while queue.packets() > MOST_PACKETS || queue.bytes() > MOST_BYTES {
            if !room.drop_first(id, queue, exchanges) {
                break;
            }
        }
        if is_first {
            floor.change(id);
        }
        floor.advance(id);
    }

    /// Whether the packet at `position` has left before a predecessor died.
    #[must_use]
    pub fn has_left(&self, position: Option<Position>) -> bool {
        position.is_some_and(|position| self.seen.contains(&position))
    }

    /// The packet at hand, at `position`, has left before a predecessor died. Whether it is still needed.
    pub fn see_again(&mut self, position: Position, bytes: u32) -> bool {
        let floor = &mut self.floor;
        let waypoint = floor.hand.waypoint.take();
        let owner = self.at_hand.session;
        let Some(session) = floor.sessions.get_mut(owner) else {
            return false;
        };
        let waiting = Waiting {
            position,
            time_ns: floor.clock.passed_ns(),
            bytes,
            is_media: false,
            owner,
        };
        let room = &mut floor.room;
        room.push_seen(&mut session.queue, waiting, waypoint);
        true
    }

    /// A packet waits, at `position`, that is a part of what was at hand: it goes where the packets of its session without payload go.
    pub fn hold_part(&mut self, position: Position, bytes: u32) {
        let AtHand {
            session, direction, ..
        } = self.at_hand;
        self.at_hand.connection = None;
        self.floor.hand.clear();
        self.floor.assign_hand(session, direction, 0..0);
        self.hold(position, bytes);
    }

    /// There is no room for the packet at hand.
    pub fn lose(&mut self) {
        let AtHand {
            direction,
            connection,
            ..
        } = self.at_hand;
        if let Some(connection) = connection
            && let Some(mut stream) = self.streams.stream(connection, direction)
        {
            stream.ledger.rename_last(HAND, GONE);
        }
        let session = self.floor.sessions.get_mut(self.at_hand.session);
        if let Some(pending) = session.and_then(|session| session.pending.as_mut()) {
            pending.rename_last(direction, HAND, GONE);
        }
        self.floor.hand.clear();
    }

    /// Whether packets of the session at hand wait: what comes has to wait, too.
    #[must_use]
    pub fn has_to_queue(&self) -> bool {
        let session = self.floor.sessions.get(self.at_hand.session);
        session.is_some_and(|session| !session.queue.is_empty())
    }

    /// Whether the packet at hand, which nobody wants, has to wait: a successor needs it to understand those of its session that wait. Not where they are many.
    #[must_use]
    pub fn has_to_be_seen(&self) -> bool {
        let session = self.floor.sessions.get(self.at_hand.session);
        session.is_some_and(|session| {
            let queue = &session.queue;
            let is_long = queue.packets() > MOST_PACKETS / 2 || queue.bytes() > MOST_BYTES / 2;
            session.carrier == Carrier::Stream && !queue.is_empty() && !is_long
        })
    }

    /// What is known of the packet at hand, and its session.
    #[must_use]
    pub fn at_hand(&self) -> (SessionRef, &Packet) {
        (self.at_hand.session, &self.floor.hand)
    }

    /// The next packet that has waited and is to be forwarded; the same until [`Sessions::forwarded`] is called.
    pub fn ready(&mut self) -> Option<Waiting<SessionRef>> {
        loop {
            let (position, id) = self.floor.room.ready()?;
            let session = self.floor.sessions.get(id);
            let first = session.and_then(|session| self.floor.room.first(&session.queue));
            match first.filter(|first| first.position == position) {
                Some(first) => return Some(first),
                None => self.floor.room.next_ready(),
            }
        }
    }

    /// The packet that [`Sessions::ready`] gave is dealt with.
    pub fn forwarded(&mut self, id: SessionRef) {
        let floor = &mut self.floor;
        floor.room.next_ready();
        if let Some(session) = floor.sessions.get_mut(id) {
            floor.room.pop(&mut session.queue, &mut floor.exchanges);
            floor.change(id);
        }
        floor.advance(id);
    }

    /// What is known of a packet that waits.
    #[must_use]
    pub fn packet(&self, position: Position) -> Option<&Packet> {
        self.floor.room.packet(position)
    }

    /// The exchanges.
    #[must_use]
    pub fn exchanges(&self) -> &super::exchanges::Exchanges {
        &self.floor.exchanges
    }

    /// Describes a packet of a session, as far as its protocol does not do so itself. The name of what it carries.
    pub fn describe(
        &mut self,
        id: SessionRef,
        sight: &Sight<'_>,
        details: &mut Details,
    ) -> &'static str {
        details.clear();
        let Some(session) = self.floor.sessions.get_mut(id) else {
            return "";
        };
        let is_forward = sender(sight.decoded) == Some(session.ends.client);
        let time_ns = sight.header.timestamp_ns;
        let context = Context::decoded(sight.decoded, sight.frame, is_forward, time_ns);
        let (Some(context), Some(verdict)) = (context, session.detection.verdict()) else {
            return "";
        };
        if is_told_with_care(verdict.protocol) {
            details.set_info(verdict.protocol.name());
            return verdict.protocol.name();
        }
        self.floor
            .detector
            .describe(&context, &mut session.detection, details);
        verdict.protocol.name()
    }

    /// Gives up what was waited for too long in streams, forgets what is over, and compares undecided exchanges with new filters; with `at_end`, all of it, since no more packets come. Once per batch.
    pub fn advance(&mut self, judge: Judge<'_>, now_ns: u64, at_end: bool) {
        let Self { streams, floor, .. } = self;
        if now_ns > 0 {
            floor.see(now_ns);
            streams.see(now_ns);
        }
        floor.token = GONE;
        floor.exchanges.compare_some(judge);
        let mut reader = Reader {
            floor,
            judge,
            sight: None,
            direction: Direction::Request,
            session: SessionRef::default(),
        };
        match at_end {
            true => streams.close_all(&mut reader),
            false => streams.advance(&mut reader),
        }
        settle_touched(judge, streams, floor);
        while let Some(id) = floor.next_pending(at_end) {
            go_on(judge, streams, floor, id);
        }
        if at_end {
            floor.end_all(judge);
        }
        floor.exchanges.keep_said();
        floor.advance_decided();
        self.forget_some(judge);
        self.drop_late();
    }

    fn forget_some(&mut self, judge: Judge<'_>) {
        let floor = &mut self.floor;
        let now_ns = floor.clock.passed_ns();
        for id in std::mem::take(&mut floor.over) {
            let session = floor.sessions.get(id);
            match session.map(|session| &session.phase) {
                Some(Phase::Foreign) => floor.turn_away(judge, id),
                Some(Phase::Over) => self.lingering.push_back((now_ns + LINGER_NS, id)),
                _ => {}
            }
        }
        while let Some((until_ns, id)) = self.lingering.front().copied() {
            let waits = |session: &Session<_>| !session.queue.is_empty();
            if until_ns > now_ns {
                break;
            }
            self.lingering.pop_front();
            match floor.sessions.get(id).is_some_and(waits) {
                true => self.lingering.push_back((now_ns + LINGER_NS, id)),
                false => floor.drop_all(judge, id),
            }
        }
        for _ in 0..LOOKED_AT.min(floor.sessions.places()) {
            self.next_place = (self.next_place + 1) % floor.sessions.places();
            let found = floor.sessions.at(self.next_place);
            let Some((id, session)) = found.and_then(|id| Some((id, floor.sessions.get(id)?)))
            else {
                continue;
            };
            let is_followed = session.carrier == Carrier::Stream
                && matches!(session.phase, Phase::Unknown(_) | Phase::Known(_));
            let is_silent = session.seen_ns + SILENCE_NS <= now_ns;
            if is_silent && !is_followed && session.queue.is_empty() {
                floor.drop_all(judge, id);
            }
        }
        if !self.inherited.is_empty() && now_ns > self.inherited_until_ns {
            self.inherited = HashMap::new();
        }
    }

    /// Drops packets that have waited for too long, but not what is wanted.
    fn drop_late(&mut self) {
        while let Some(oldest) = self.floor.room.oldest() {
            let is_late = oldest.time_ns + LONGEST_WAIT_NS <= self.floor.clock.passed_ns();
            if !is_late || self.oldest().is_some_and(|(_, is_wanted)| is_wanted) {
                return;
            }
            if !self.drop_oldest() {
                return;
            }
        }
    }

    /// Where the oldest packet that waits lies, and whether it is wanted.
    #[must_use]
    pub fn oldest(&self) -> Option<(Position, bool)> {
        let oldest = self.floor.room.oldest()?.position;
        let packet = self.floor.room.packet(oldest);
        let fate = packet.map(|packet| packet.fate(&self.floor.exchanges));
        Some((oldest, fate == Some(Fate::Forward)))
    }

    /// Gives up the oldest packet in the log, if need be with those of its session that have left; or has it wait no longer, if it is wanted. False if there is none.
    pub fn drop_oldest(&mut self) -> bool {
        let floor = &mut self.floor;
        let Some(oldest) = floor.room.oldest() else {
            return false;
        };
        let id = oldest.owner;
        let Some(session) = floor.sessions.get_mut(id) else {
            return false;
        };
        let queue = &mut session.queue;
        match floor.room.packet(oldest.position) {
            Some(_) => {
                floor.room.drop_first(id, queue, &mut floor.exchanges);
            }
            None => floor.room.forget_seen(queue),
        }
        floor.change(id);
        floor.advance(id);
        true
    }

    /// Where packets lie that turned out to be somebody else's; since the last call.
    pub fn take_foreign(&mut self) -> Vec<Position> {
        self.floor.room.take_foreign()
    }

    /// Adds where packets lie that need not be looked at again; since the last call.
    pub fn take_done(&mut self, done: &mut Vec<Position>) {
        self.floor.room.take_done(done);
    }

    /// What became of packets that waited, and are not forwarded.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.floor.room.tally()
    }

    /// What the streams have counted.
    #[must_use]
    pub fn stream_counts(&self) -> &reassembly::Counts {
        self.streams.counts()
    }

    /// Takes in a secret of TLS, at the time `now_ns` of a clock that does not go back.
    pub fn learn(&mut self, entry: &Entry, now_ns: u64) {
        self.floor.roster.learn(entry, now_ns);
        self.floor.has_news();
    }

    /// The secrets of the session's TLS, if they are known and have not gone with a packet.
    #[must_use]
    pub fn untold_keys(&self, id: SessionRef) -> Option<&SessionKeys> {
        match &self.floor.sessions.get(id)?.keys {
            Some((keys, false)) => Some(keys),
            _ => None,
        }
    }

    /// They have.
    pub fn keys_told(&mut self, id: SessionRef) {
        if let Some(session) = self.floor.sessions.get_mut(id)
            && let Some((_, is_told)) = &mut session.keys
        {
            *is_told = true;
        }
    }

    /// Nobody has the secrets that were told.
    pub fn tell_keys_again(&mut self) {
        let sessions = &mut self.floor.sessions;
        for place in 0..sessions.places() {
            let found = sessions.at(place);
            if let Some(session) = found.and_then(|id| sessions.get_mut(id))
                && let Some((_, is_told)) = &mut session.keys
            {
                *is_told = false;
            }
        }
    }

    /// Reports what protocols have counted.
    pub fn report(&mut self, commit: &mut WorkerCommit) {
        self.floor.counts.report(commit);
    }

    /// Once per batch: has flows forgotten that have been silent for too long, and packets that have left where nothing waits any more.
    pub fn tidy(&mut self, commit: &mut WorkerCommit) {
        let floor = &mut self.floor;
        while let Some(id) = floor.room.next_emptied() {
            if let Some(session) = floor.sessions.get_mut(id)
                && session.queue.is_empty()
            {
                floor.room.forget_seen(&mut session.queue);
            }
        }
        self.flows.prepare(&[]);
        self.flows.report(commit);
    }

    /// Whether the segments that come are those that a predecessor kept. See [`Streams::resume`].
    pub fn resume(&mut self, resumes: bool) {
        self.streams.resume(resumes);
        if !resumes {
            self.seen = HashSet::new();
            self.floor.end_to_restore();
        }
    }

    /// A predecessor has told where packets lie that have left, and are to be looked at again.
    pub fn bequeath_seen(&mut self, seen: &[Position]) {
        self.seen.extend(seen);
    }

    /// A predecessor has told of a session; or that it is over, without `heirloom`.
    pub fn bequeath(&mut self, ends: &Ends, carrier: Carrier, heirloom: Option<Heirloom>) {
        self.inherited_until_ns = self.floor.clock.passed_ns() + INHERITED_NS;
        let key = Key::new(ends, carrier);
        match heirloom {
            Some(heirloom) if self.inherited.len() < floor::MOST_SESSIONS => {
                self.inherited.insert(key, heirloom);
            }
            Some(_) => {}
            None => {
                self.inherited.remove(&key);
            }
        }
    }

    /// A session that is to be told of, if any is.
    pub fn next_changed(&mut self) -> Option<SessionRef> {
        let id = self.floor.changed.pop()?;
        if let Some(session) = self.floor.sessions.get_mut(id) {
            session.is_changed = false;
        }
        Some(id)
    }

    /// What is to be told of it, if anything is.
    #[must_use]
    pub fn account(&mut self, id: SessionRef) -> Option<Account> {
        let Self { streams, floor, .. } = self;
        let session = floor.sessions.get(id)?;
        let is_exact = !session.queue.is_empty();
        let waypoint = match is_exact {
            true => session.queue.base().cloned(),
            false => {
                let spots = spots(streams, session.connection);
                spots.and_then(|spots| floor.waypoint(id, spots))
            }
        };
        let waypoint = waypoint.or_else(|| floor.lost(id))?;
        let session = floor.sessions.get(id)?;
        let seen: Vec<Position> = floor.room.seen(&session.queue).collect();
        if waypoint.is_start() && seen.is_empty() {
            return None;
        }
        let cited = waypoint.stand.cited.all().iter();
        let protocol = session.detection.verdict();
        Some(Account {
            carrier: session.carrier,
            ends: session.ends,
            protocol: protocol.map(|verdict| verdict.protocol),
            exchanges: cited
                .map(|exchange| floor.exchanges.bequest(*exchange))
                .collect(),
            waypoint,
            is_exact,
            seen,
        })
    }

    /// It was told at `position`.
    pub fn told(&mut self, id: SessionRef, position: u64) {
        if let Some(session) = self.floor.sessions.get_mut(id) {
            session.told_at = Some(position);
        }
    }

    /// A session that was told, and is forgotten.
    pub fn next_gone(&mut self) -> Option<(Ends, Carrier)> {
        self.floor.gone.pop()
    }

    /// The record at `position`, of the session between these `ends`, is about to be given up: if it is of use, it is told again.
    pub fn keep(&mut self, position: u64, ends: &Ends, carrier: Carrier) {
        let packet = Decoded {
            addresses: Some((ends.client.0, ends.server.0)),
            ports: Some((ends.client.1, ends.server.1)),
            transport: Some(match carrier {
                Carrier::Stream => Transport::Tcp,
                Carrier::Datagrams => Transport::Udp,
            }),
            ..Decoded::default()
        };
        let probe = self.flows.probe(&packet, Zone::NONE);
        let memory = probe.and_then(|probe| self.flows.find(&probe));
        if let Some(id) = memory.map(|memory| memory.session) {
            let session = self.floor.sessions.get(id);
            if session.is_some_and(|session| session.told_at == Some(position)) {
                self.floor.change(id);
            }
        }
    }
}

/// Where both directions of a connection stand, if nothing of it waits for bytes that are missing.
fn spots(streams: &Streams<Link>, connection: Option<ConnectionId>) -> Option<[Option<Spot>; 2]> {
    let both = [Direction::Request, Direction::Response];
    let Some(connection) = connection else {
        return Some([None; 2]);
    };
    let mut are_in_order = both.iter();
    are_in_order
        .all(|direction| streams.is_in_order(connection, *direction))
        .then(|| both.map(|direction| streams.spot(connection, direction)))
}

/// The first segment of a direction that a predecessor does not have shows how far that has come, in bytes that make no difference.
fn catch_up<R: Roster>(
    streams: &mut Streams<Link>,
    connection: &mut Option<ConnectionId>,
    segment: &Segment<'_>,
    reader: &mut Reader<'_, '_, R>,
) {
    let direction = segment.direction;
    let session = reader.floor.sessions.get_mut(reader.session);
    let passive = session.map(|session| &mut session.passive[direction as usize]);
    let Some((passive, until)) = passive.and_then(|it| it.map(|until| (it, until))) else {
        return;
    };
    let Some(spot) = connection.and_then(|id| streams.spot(id, direction)) else {
        return;
    };
    let ahead = segment.seq.wrapping_sub(spot.next) as i32;
    let Ok(ahead) = u64::try_from(ahead) else {
        return;
    };
    *passive = None;
    if ahead > 0 && spot.offset + ahead <= until {
        let spot = Spot {
            next: segment.seq,
            offset: spot.offset + ahead,
            ..spot
        };
        streams.go_on(connection, (direction, spot, segment.time_ns), reader);
    }
}

/// The other direction of connections in which something happened, too, is known better now.
fn settle_touched<R: Roster>(judge: Judge<'_>, streams: &mut Streams<Link>, floor: &mut Floor<R>) {
    let mut touched = std::mem::take(&mut floor.touched);
    for (connection, session) in touched.drain(..) {
        for direction in [Direction::Request, Direction::Response] {
            if let Some(mut stream) = streams.stream(connection, direction) {
                floor.settle(session, direction, &mut stream.ledger);
            }
        }
        floor.follow_up(judge, session);
    }
    floor.touched = touched;
}

/// A session goes on that has waited.
fn go_on<R: Roster>(
    judge: Judge<'_>,
    streams: &mut Streams<Link>,
    floor: &mut Floor<R>,
    id: SessionRef,
) {
    let Some((events, mut parts)) = floor.end_wait(id) else {
        return;
    };
    let session = floor.sessions.get(id);
    let connection = session.and_then(|session| session.connection);
    let mut settle = |floor: &mut Floor<R>, direction: Direction| {
        let parts = &mut parts[direction as usize];
        let stream = connection.and_then(|connection| streams.stream(connection, direction));
        match stream {
            Some(mut stream) if parts.is_empty() => {
                floor.settle(id, direction, &mut stream.ledger);
            }
            _ => floor.settle(id, direction, parts),
        }
    };
    for direction in [Direction::Request, Direction::Response] {
        floor.go_on(judge, id, direction);
        settle(floor, direction);
    }
    for event in events.iter() {
        floor.hear_of(judge, id, event);
        settle(floor, event.1);
    }
    floor.follow_up(judge, id);
}

/// Reads streams.
struct Reader<'r, 'j, R: Roster> {
    floor: &'r mut Floor<R>,
    judge: Judge<'j>,
    /// The segment at hand, which way it goes, and its session.
    sight: Option<&'r Sight<'r>>,
    direction: Direction,
    session: SessionRef,
}

impl<R: Roster> Consumer for Reader<'_, '_, R> {
    type State = Link;

    fn take(&mut self, stream: Stream<'_, Link>, event: Event<'_>) -> Interest {
        let Stream {
            connection,
            direction,
            state: Link(link),
            mut ledger,
        } = stream;
        if *link == SessionRef::default() {
            // Only the connection of the segment at hand can be new; or its ports are used again.
            let current = self.floor.sessions.get(self.session);
            let is_over = current.is_none_or(Session::is_over);
            if let Some(sight) = self.sight.filter(|_| is_over) {
                let phase = Phase::Unknown(Default::default());
                if let Some(session) = begin(phase, Carrier::Stream, sight, self.direction) {
                    self.session = self.floor.begin(self.judge, session);
                }
            }
            *link = self.session;
        }
        let id = *link;
        let session = self.floor.sessions.get_mut(id).map(|session| {
            session.connection = Some(connection);
            &session.phase
        });
        match session {
            None => return Interest::IgnoreConnection,
            Some(Phase::Foreign | Phase::Rest) => {}
            Some(_) => self.floor.hear(self.judge, id, direction, event),
        }
        self.floor.keep_parts(id, direction, &mut ledger);
        self.floor.settle(id, direction, &mut ledger);
        self.floor.follow_up(self.judge, id);
        match self.floor.touched.last() {
            Some((last, _)) if *last == connection => {}
            _ => self.floor.touched.push((connection, id)),
        }
        Interest::Follow
    }
}

/// A session of which the packet `sight` goes in `direction`.
fn begin<S>(
    phase: Phase<S>,
    carrier: Carrier,
    sight: &Sight<'_>,
    direction: Direction,
) -> Option<Session<S>> {
    let (sender, receiver) = (sender(sight.decoded)?, receiver(sight.decoded)?);
    let ends = match direction {
        Direction::Request => Ends {
            client: sender,
            server: receiver,
        },
        Direction::Response => Ends {
            client: receiver,
            server: sender,
        },
    };
    let addresses = (sight.decoded.addresses, sight.decoded.outer);
    Some(Session::new(phase, carrier, ends, addresses))
}

fn sender(decoded: &Decoded) -> Option<(Addr, u16)> {
    Some((decoded.addresses?.0, decoded.ports?.0))
}

fn receiver(decoded: &Decoded) -> Option<(Addr, u16)> {
    Some((decoded.addresses?.1, decoded.ports?.1))
}

/// Takes what a predecessor has told of the session of a packet.
fn inherit(
    inherited: &mut HashMap<Key, Heirloom>,
    sight: &Sight<'_>,
    carrier: Carrier,
) -> Option<Heirloom> {
    if inherited.is_empty() {
        return None;
    }
    let ends = Ends {
        client: sender(sight.decoded)?,
        server: receiver(sight.decoded)?,
    };
    inherited.remove(&Key::new(&ends, carrier))
}

/// Whether the direction of a flow is not that of its session: a packet that goes `forward` in the flow shows it.
fn is_turned(heirloom: &Heirloom, sight: &Sight<'_>, forward: bool) -> bool {
    let from_client = sender(sight.decoded) == Some(heirloom.client);
    from_client != forward
}

/// Which way a packet goes in its session.
fn turn(direction: Direction, is_turned: bool) -> Direction {
    match (direction, is_turned) {
        (direction, false) => direction,
        (Direction::Request, true) => Direction::Response,
        (Direction::Response, true) => Direction::Request,
    }
}

/// Whether the first packet that is seen of a flow seems to come from the server, by its ports: those of servers are registered, those of clients are not (RFC 6335 section 6).
fn comes_from_server(decoded: &Decoded) -> bool {
    let Some((source, destination)) = decoded.ports else {
        return false;
    };
    source < 1024 && destination >= 1024 || source < 32_768 && destination >= 32_768
}

/// Whether flows of `protocol` may come to carry another one.
fn may_turn(protocol: detect::Protocol) -> bool {
    use detect::Protocol::{Rtcp, Rtp, Srtp, Stun, Turn};
    matches!(protocol, Stun | Turn | Rtp | Srtp | Rtcp)
}

/// What a packet says by itself may be a password here that looks like a command: what may be told, only the protocol knows.
fn is_told_with_care(protocol: detect::Protocol) -> bool {
    use detect::Protocol::{Imap, Pop3, Smtp};
    matches!(protocol, Smtp | Imap | Pop3)
}
