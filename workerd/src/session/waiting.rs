//! Packets of sessions that wait, and what is told of them.
//!
//! The packets of a session go in the order of capture. The first of them that waits decides for how long: until it is known whose all of its bytes are, and one of these exchanges is
//! wanted, or none can be.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::exchanges::Exchanges;
use super::floor::SessionRef;
use super::notes::Notes;
use super::tracker::Exchange;
use crate::desk::held::{Chain, Held, Position, Waiting};
use crate::desk::verdict::{Ids, Standing};

/// What is known of a packet.
#[derive(Debug, Default)]
pub struct Packet {
    /// Whose it is.
    pub whose: Whose,
    /// What is told of it.
    pub notes: Notes,
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
        let standing = of.iter().map(|exchange| exchanges.standing(*exchange));
        let mut fate = Fate::Unwanted;
        for standing in standing {
            match standing {
                Standing::Passed | Standing::Matched => return Fate::Forward,
                Standing::Undecided => fate = Fate::Wait,
                Standing::Unwanted => {}
            }
        }
        fate
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
    tally: Tally,
}

impl WaitingRoom {
    /// A packet waits behind all others.
    pub fn push(
        &mut self,
        chain: &mut Chain,
        waiting: Waiting<SessionRef>,
        packet: Packet,
        exchanges: &mut Exchanges,
    ) {
        packet
            .exchanges()
            .iter()
            .for_each(|exchange| exchanges.wait(*exchange, true));
        self.packets.insert(waiting.position, packet);
        self.held.push(chain, waiting);
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

    /// Packets of a chain that nobody wants go, up to the first that waits on. An exchange of the last that went.
    pub fn advance(
        &mut self,
        session: SessionRef,
        chain: &mut Chain,
        exchanges: &mut Exchanges,
    ) -> Option<Exchange> {
        let mut last = None;
        while let Some(first) = self.held.peek(chain) {
            let packet = self.packets.get(&first.position);
            match packet.map_or(Fate::Unwanted, |packet| packet.fate(exchanges)) {
                Fate::Wait => return last,
                Fate::Forward => {
                    self.ready.push(Reverse((first.position, session)));
                    return last;
                }
                Fate::Unwanted => {
                    let packet = self.pop(chain, exchanges);
                    last = packet.and_then(|packet| packet.exchanges().last().copied());
                    self.tally.released += 1;
                }
            }
        }
        last
    }

    /// Packets of a chain that nobody wants go, wherever they stand: a successor shall not look at them without those that were dropped since.
    pub fn sweep(&mut self, chain: &mut Chain, exchanges: &mut Exchanges) {
        let mut gone = Vec::new();
        let packets = &mut self.packets;
        let taken = self.held.take_if(chain, |waiting| {
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
    }

    /// The first packet of a chain waits no more.
    pub fn pop(&mut self, chain: &mut Chain, exchanges: &mut Exchanges) -> Option<Packet> {
        let waiting = self.held.pop(chain)?;
        let packet = self.packets.remove(&waiting.position)?;
        packet
            .exchanges()
            .iter()
            .for_each(|exchange| exchanges.wait(*exchange, false));
        Some(packet)
    }

    /// The first packet of a chain is dropped.
    pub fn drop_first(&mut self, chain: &mut Chain, exchanges: &mut Exchanges) {
        if self.pop(chain, exchanges).is_some() {
            self.tally.dropped += 1;
        }
    }

    /// All packets of a chain are somebody else's.
    pub fn turn_away(&mut self, chain: &mut Chain, exchanges: &mut Exchanges) {
        while let Some(first) = self.held.peek(chain) {
            self.pop(chain, exchanges);
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

    /// The first packet of a chain.
    #[must_use]
    pub fn first(&self, chain: &Chain) -> Option<Waiting<SessionRef>> {
        self.held.peek(chain)
    }

    /// The packet that has waited for longest.
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
