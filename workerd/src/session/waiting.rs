//! Packets of sessions that wait, and what is told of them.
//!
//! The packets of a session go in the order of capture. The first of them that waits decides for how long: until it is known whose all of its bytes are, and of each of these exchanges whether it is
//! wanted; or one is wanted of which everything is that follows in its session. Nothing of an exchange that is undecided has left, but where room was short: so a successor learns
//! of it what there was to learn.
//!
//! Packets that have left stay in the log as long as a successor has to look at them to understand those that wait: from the last [waypoint](super::waypoint) before those on.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::exchanges::Exchanges;
use super::floor::SessionRef;
use super::notes::Notes;
use super::tracker::Exchange;
use super::waypoint::Waypoint;
use crate::desk::held::{Chain, Held, Position, Waiting};
use crate::desk::verdict::{Ids, Standing};

/// Packets that a successor looks at again though they have left, for one session at most.
const MOST_SEEN: u32 = 64;

/// What is known of a packet.
#[derive(Debug, Default)]
pub struct Packet {
    /// Whose it is.
    pub whose: Whose,
    /// What is told of it.
    pub notes: Notes,
    /// Where its session was before it, if there is a waypoint.
    pub waypoint: Option<Waypoint>,
    /// Whether it waits no longer for what is undecided, since room is short.
    is_hurried: bool,
}

/// The packets of one session in the log.
#[derive(Debug, Default)]
pub struct Queue {
    /// Those that wait.
    chain: Chain,
    /// Those before them that have left, and that a successor has to look at again.
    seen: Chain,
    /// Where the session was before the first of all of them, if that is known.
    base: Option<Waypoint>,
}

impl Queue {
    /// Whether no packet waits.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.chain.is_empty()
    }

    /// Packets that wait.
    #[must_use]
    pub fn packets(&self) -> u32 {
        self.chain.packets()
    }

    /// Bytes of packets that wait.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        self.chain.bytes()
    }

    /// Where a successor begins, if packets wait and that is known.
    #[must_use]
    pub fn base(&self) -> Option<&Waypoint> {
        self.base.as_ref()
    }
}

/// Whose a packet is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Whose {
    /// It carries bytes that nobody has claimed.
    #[default]
    Unclaimed,
    /// It carries none, and is of the first exchange of its session, when that begins.
    First,
    /// Of these exchanges.
    Of(Vec<Exchange>),
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is forwarded.
    Forward,
    /// It waits.
    Wait,
    /// Nobody wants it.
    Unwanted,
}

impl Packet {
    /// Nothing is known.
    pub fn clear(&mut self) {
        match &mut self.whose {
            Whose::Of(exchanges) => exchanges.clear(),
            whose => *whose = Whose::Of(Vec::new()),
        }
        self.notes.clear();
        self.waypoint = None;
        self.is_hurried = false;
    }

    /// Its exchanges, as far as they are known.
    #[must_use]
    pub fn exchanges(&self) -> &[Exchange] {
        match &self.whose {
            Whose::Of(exchanges) => exchanges,
            Whose::Unclaimed | Whose::First => &[],
        }
    }

    /// What becomes of it.
    #[must_use]
    pub fn fate(&self, exchanges: &Exchanges) -> Fate {
        let Whose::Of(of) = &self.whose else {
            return Fate::Wait;
        };
        let (mut is_wanted, mut is_undecided) = (false, false);
        for exchange in of {
            match exchanges.standing(*exchange) {
                Standing::Passed | Standing::Matched if exchanges.covers(*exchange) => {
                    return Fate::Forward;
                }
                Standing::Passed | Standing::Matched => is_wanted = true,
                Standing::Undecided => is_undecided = true,
                Standing::Unwanted => {}
            }
        }
        match (is_wanted, is_undecided) {
            (true, true) if self.is_hurried => Fate::Forward,
            (_, true) => Fate::Wait,
            (true, false) => Fate::Forward,
            (false, false) => Fate::Unwanted,
        }
    }

    /// The exchanges of it that are wanted.
    pub fn wanted<'p>(
        &'p self,
        exchanges: &'p Exchanges,
    ) -> impl Iterator<Item = Exchange> + Clone {
        let all = self.exchanges().iter().copied();
        all.filter(|exchange| exchanges.standing(*exchange) >= Standing::Passed)
    }

    /// The ids of the filters that match any of its exchanges, put together in `scratch` if need be.
    pub fn ids<'s>(&self, exchanges: &'s Exchanges, scratch: &'s mut Ids) -> &'s Ids {
        let mut wanted = self.wanted(exchanges);
        if let (Some(only), None) = (wanted.next(), wanted.next())
            && let Some(ids) = exchanges.ids(only)
        {
            return ids;
        }
        *scratch = Ids::default();
        for exchange in self.wanted(exchanges) {
            let ids = exchanges.ids(exchange).into_iter();
            ids.flat_map(Ids::iter).for_each(|id| {
                scratch.add(id);
            });
        }
        scratch
    }
}

/// What became of packets that waited, and are not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Nobody wants them.
    pub released: u64,
    /// There was no room for them, or they waited for too long.
    pub dropped: u64,
}

/// The packets of all sessions that wait.
#[derive(Debug, Default)]
pub struct WaitingRoom {
    held: Held<SessionRef>,
    packets: BTreeMap<Position, Packet>,
    /// Sessions whose first packet can be forwarded, by where that lies.
    ready: BinaryHeap<Reverse<(Position, SessionRef)>>,
    /// Packets that are somebody else's.
    foreign: Vec<Position>,
    /// Sessions of which no packet waited at some time.
    emptied: Vec<SessionRef>,
    tally: Tally,
}

impl WaitingRoom {
    /// A packet waits behind all others.
    pub fn push(
        &mut self,
        queue: &mut Queue,
        waiting: Waiting<SessionRef>,
        packet: Packet,
        exchanges: &mut Exchanges,
    ) {
        packet
            .exchanges()
            .iter()
            .for_each(|exchange| exchanges.wait(*exchange, true));
        if queue.is_empty() && (queue.seen.is_empty() || packet.waypoint.is_some()) {
            self.forget_seen(queue);
            queue.base = packet.waypoint.clone();
        }
        self.packets.insert(waiting.position, packet);
        self.held.push(&mut queue.chain, waiting);
    }

    /// A packet has left before a predecessor died, and has been looked at again.
    pub fn push_seen(
        &mut self,
        queue: &mut Queue,
        waiting: Waiting<SessionRef>,
        waypoint: Option<Waypoint>,
    ) {
        if queue.is_empty() && queue.seen.is_empty() {
            queue.base = waypoint;
        }
        self.held.push(&mut queue.seen, waiting);
    }

    /// What is known of the packet at `position`, if it waits.
    pub fn packet_mut(&mut self, position: Position) -> Option<&mut Packet> {
        self.packets.get_mut(&position)
    }

    /// What is known of the packet at `position`, if it waits.
    #[must_use]
    pub fn packet(&self, position: Position) -> Option<&Packet> {
        self.packets.get(&position)
    }

    /// It is known now whose the packet at `position` is.
    pub fn assign(&mut self, position: Position, of: Vec<Exchange>, exchanges: &mut Exchanges) {
        if let Some(packet) = self.packets.get_mut(&position)
            && !matches!(packet.whose, Whose::Of(_))
        {
            of.iter()
                .for_each(|exchange| exchanges.wait(*exchange, true));
            packet.whose = Whose::Of(of);
        }
    }

    /// Packets that nobody wants go, up to the first that waits on. Whether there were any.
    pub fn advance(
        &mut self,
        session: SessionRef,
        queue: &mut Queue,
        exchanges: &mut Exchanges,
    ) -> bool {
        let mut have_left = false;
        while let Some(first) = self.first(queue) {
            let packet = self.packets.get(&first.position);
            match packet.map_or(Fate::Unwanted, |packet| packet.fate(exchanges)) {
                Fate::Wait => break,
                Fate::Forward => {
                    self.ready.push(Reverse((first.position, session)));
                    break;
                }
                Fate::Unwanted => {
                    self.pop(queue, exchanges);
                    self.tally.released += 1;
                    have_left = true;
                }
            }
        }
        have_left
    }

    /// Packets that nobody wants go, wherever they stand. A successor will miss them.
    pub fn sweep(&mut self, queue: &mut Queue, exchanges: &mut Exchanges) {
        let mut gone = Vec::new();
        let packets = &mut self.packets;
        let taken = self.held.take_if(&mut queue.chain, |waiting| {
            let packet = packets.get(&waiting.position);
            let fate = packet.map(|packet| packet.fate(exchanges));
            let is_unwanted = fate.is_none_or(|fate| fate == Fate::Unwanted);
            if is_unwanted {
                gone.extend(packets.remove(&waiting.position));
            }
            is_unwanted
        });
        self.tally.released += u64::from(taken);
        for packet in gone {
            let of = packet.exchanges().iter();
            of.for_each(|exchange| exchanges.wait(*exchange, false));
        }
        if queue.is_empty() {
            self.forget_seen(queue);
        }
    }

    /// The first packet waits no more. Where it is needed to understand those behind it, it stays in the log.
    pub fn pop(&mut self, queue: &mut Queue, exchanges: &mut Exchanges) {
        let Some(first) = self.first(queue) else {
            return;
        };
        if let Some(packet) = self.packets.remove(&first.position) {
            let of = packet.exchanges().iter();
            of.for_each(|exchange| exchanges.wait(*exchange, false));
        }
        self.held.shift(&mut queue.chain, &mut queue.seen);
        let Some(next) = self.first(queue) else {
            // The packet at hand may come to wait, and need them.
            self.emptied.push(first.owner);
            return;
        };
        let next = self.packets.get(&next.position);
        let waypoint = next.and_then(|next| next.waypoint.clone());
        if waypoint.is_some() || queue.seen.packets() > MOST_SEEN {
            self.forget_seen(queue);
            queue.base = waypoint;
        }
    }

    /// A session of which no packet waited at some time, since the last call.
    pub fn next_emptied(&mut self) -> Option<SessionRef> {
        self.emptied.pop()
    }

    /// Packets that have left are of no use any more, though a successor will miss them.
    pub fn forget_seen(&mut self, queue: &mut Queue) {
        while self.held.pop(&mut queue.seen).is_some() {}
        queue.base = None;
    }

    /// The first packet is dropped; or, if any of its exchanges is wanted, has waited long enough. Whether it was dropped.
    pub fn drop_first(
        &mut self,
        session: SessionRef,
        queue: &mut Queue,
        exchanges: &mut Exchanges,
    ) -> bool {
        let Some(first) = self.first(queue) else {
            return false;
        };
        if let Some(packet) = self.packets.get_mut(&first.position)
            && !packet.is_hurried
            && packet.wanted(exchanges).next().is_some()
        {
            packet.is_hurried = true;
            self.ready.push(Reverse((first.position, session)));
            return false;
        }
        self.pop(queue, exchanges);
        self.tally.dropped += 1;
        true
    }

    /// All packets that wait are dropped.
    pub fn drop_all(&mut self, queue: &mut Queue, exchanges: &mut Exchanges) {
        while !queue.is_empty() {
            self.pop(queue, exchanges);
            self.tally.dropped += 1;
        }
        self.forget_seen(queue);
    }

    /// All packets that wait are somebody else's.
    pub fn turn_away(&mut self, queue: &mut Queue, exchanges: &mut Exchanges) {
        self.forget_seen(queue);
        while let Some(first) = self.held.pop(&mut queue.chain) {
            if let Some(packet) = self.packets.remove(&first.position) {
                let of = packet.exchanges().iter();
                of.for_each(|exchange| exchanges.wait(*exchange, false));
            }
            self.foreign.push(first.position);
        }
    }

    /// Where packets lie that turned out to be somebody else's, in the order of capture; since the last call.
    pub fn take_foreign(&mut self) -> Vec<Position> {
        std::mem::take(&mut self.foreign)
    }

    /// The session whose packet may be forwarded next, and where that should lie.
    #[must_use]
    pub fn ready(&self) -> Option<(Position, SessionRef)> {
        let Reverse(ready) = *self.ready.peek()?;
        Some(ready)
    }

    /// What was [ready](WaitingRoom::ready) is dealt with.
    pub fn next_ready(&mut self) {
        self.ready.pop();
    }

    /// The first packet that waits.
    #[must_use]
    pub fn first(&self, queue: &Queue) -> Option<Waiting<SessionRef>> {
        self.held.peek(&queue.chain)
    }

    /// Where packets lie that have left, and that a successor has to look at again.
    pub fn seen(&self, queue: &Queue) -> impl Iterator<Item = Position> {
        self.held.positions(&queue.seen)
    }

    /// The oldest packet in the log, whether it waits or not.
    #[must_use]
    pub fn oldest(&self) -> Option<Waiting<SessionRef>> {
        self.held.oldest()
    }

    /// See [`Held::take_done`].
    pub fn take_done(&mut self, done: &mut Vec<Position>) {
        self.held.take_done(done);
    }

    /// What became of packets that are not forwarded.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }
}
