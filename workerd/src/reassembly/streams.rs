//! The connections, and what each segment does to its own.

use std::num::NonZeroU32;

use shm_layout::prefetch::prefetch;

use super::counts::Counts;
use super::event::{Consumer, End, Event, Interest, Stream};
use super::half::{BACK, Half, Phase, START_BACK, Wait, ahead};
use super::ledger::{Ledger, Notes};
use super::limits::Limits;
use super::lists::{Link, Linked, Lists};
use super::pieces::{NONE, PAGE, Pieces};
use super::segment::{Fate, Outcome, Refusal, Segment};
use crate::flows::Direction;
use crate::flows::clock::{Clock, Tick, ticks};

/// Segments out of reach that follow each other before they are believed.
const FAR_RUN: u8 = 4;
/// Pieces that wait at the start of a stream that is picked up in its middle, at most.
const START_PIECES: u32 = 8;
/// How long a connection that is over is remembered, in ticks: about ten seconds, as the flow table does.
const LINGER: u32 = 150;
/// Connections among which the one to give way is chosen.
const CANDIDATES: usize = 8;
/// Connections that the hand passes in one go at most.
const MOST_PASSED: usize = 64;
/// The hand goes round in this many ticks, about nine seconds.
const ROUND_TICKS: usize = 128;
/// Directions that are given up for their time in one go at most.
const MOST_GIVEN_UP: usize = 256;
/// Bits of a [`ConnectionId`] that say where the connection is; the others count the connections that were there.
const PLACE_BITS: u32 = 20;

/// The streams can't be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no memory for {connections} TCP connections and {waiting_bytes} bytes out of order: set voip.max_streams lower, \
     voip.tcp_performance_mode to minimal, or run fewer workers"
)]
pub struct NoMemory {
    /// What was asked for.
    pub connections: usize,
    /// What was asked for.
    pub waiting_bytes: usize,
}

/// Where a direction of a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spot {
    /// Sequence number of the byte that comes next.
    pub next: u32,
    /// Its offset.
    pub offset: u64,
    /// Whether it does not come, since the direction has ended.
    pub has_ended: bool,
}

/// A connection, in four bytes. One that is over, timed out or evicted has lost its id: it is then *stale*, which is found out, and does
/// no harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(NonZeroU32);

/// See the [module](super).
pub struct Streams<S> {
    slots: Vec<Slot<S>>,
    first_free: u32,
    /// Connections that are neither over nor gone.
    followed: usize,
    limits: Limits,
    patience: Patience,
    pieces: Pieces,
    /// Most pieces of one direction.
    most_pieces: u32,
    notes: Notes,
    /// Directions that wait, by [`Wait`]. Each kind of wait has one length, so whose time has come stands in front.
    waiting: Lists<3>,
    /// Connections that are worth little, by [`Worth`].
    cheap: Lists<2>,
    clock: Clock,
    hand: Hand,
    counts: Counts,
    /// See [`Streams::resume`].
    resumes: bool,
}

/// A place for a connection.
struct Slot<S> {
    halves: [Half; 2],
    deadline: Tick,
    generation: u16,
    life: Life,
    /// A reset was seen that may be forged.
    doubted: bool,
    /// Whose reset has ended it.
    reset_by: Option<Direction>,
    /// A SYN that may be forged, or that of the next connection.
    reopen: Option<(Direction, u32)>,
    next_free: u32,
    /// Its place among those that are worth little.
    link: Link,
    state: S,
}

/// Connections that give way to others before conversations do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    /// Over, or nobody has answered yet.
    Nothing,
    /// One side alone is heard of.
    Little,
}

/// How far a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Free,
    Opening,
    Established,
    Closing,
    Over,
}

/// A direction of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
struct At {
    slot: usize,
    direction: Direction,
}

/// [`Limits`] in ticks.
#[derive(Clone, Copy)]
struct Patience {
    /// By [`Life`].
    silence: [u32; 5],
    /// By [`Wait`].
    gaps: [u32; 3],
}

#[derive(Clone, Copy, Default)]
struct Hand {
    at: usize,
    tick: Tick,
    /// Places it has yet to pass.
    due: usize,
}

impl<S: Default> Streams<S> {
    /// Follows connections within these limits.
    ///
    /// # Errors
    /// [`NoMemory`]
    pub fn new(limits: &Limits) -> Result<Self, NoMemory> {
        let connections = limits.connections.clamp(1, Limits::MOST_CONNECTIONS);
        let waiting_bytes = limits.waiting_bytes.max(Limits::LEAST_WAITING);
        let of_one = limits.waiting_bytes_of_one;
        let of_one = of_one.clamp(Limits::LEAST_WAITING, waiting_bytes);
        let none = NoMemory {
            connections,
            waiting_bytes,
        };
        let mut slots = Vec::new();
        slots.try_reserve_exact(connections).map_err(|_| none)?;
        let packets_of_one = u32::try_from(limits.packets_of_one).unwrap_or(u32::MAX);
        Ok(Self {
            slots,
            first_free: NONE,
            followed: 0,
            limits: Limits {
                connections,
                waiting_bytes,
                ..*limits
            },
            patience: Patience::new(limits),
            pieces: Pieces::new(waiting_bytes / PAGE).ok_or(none)?,
            most_pieces: u32::try_from(of_one / PAGE).unwrap_or(u32::MAX),
            notes: Notes::new(limits.packets, packets_of_one).ok_or(none)?,
            waiting: Lists::default(),
            cheap: Lists::default(),
            clock: Clock::default(),
            hand: Hand::default(),
            counts: Counts::default(),
            resumes: false,
        })
    }

    /// Takes in a segment of the connection `id`, and gives the consumer what follows from it. Without an id, or with a stale one, a connection is
    /// begun, and `id` set.
    ///
    /// What is told is mostly of this connection, but another one may have to give up waiting, or give way.
    #[inline]
    pub fn segment<C: Consumer<State = S>>(
        &mut self,
        id: &mut Option<ConnectionId>,
        segment: &Segment<'_>,
        consumer: &mut C,
    ) -> Outcome {
        self.clock.see(segment.time_ns);
        let now = self.clock.now();
        let slot = match id.and_then(|id| self.place_of(id)) {
            Some(slot) if !self.slots[slot].deadline.has_come(now) => slot,
            late => {
                if let Some(slot) = late {
                    self.close_slot(slot, End::TimedOut, consumer);
                }
                let slot = self.open(consumer);
                *id = Some(self.id_of(slot));
                slot
            }
        };
        let at = At {
            slot,
            direction: segment.direction,
        };
        let outcome = self.take(at, segment, consumer);
        let slot = &mut self.slots[slot];
        slot.deadline = now.plus(self.patience.silence[slot.life as usize]);
        outcome
    }

    /// The caller knows that a stream which is picked up in its middle may begin with the segment that comes next, at `seq`, so that earlier bytes need not be waited for. It `is_sure` of that,
    /// asked only if nothing was seen of the stream. Without an id, or with a stale one, a connection is begun, and `id` set.
    #[inline]
    pub fn expect<C: Consumer<State = S>>(
        &mut self,
        id: &mut Option<ConnectionId>,
        (direction, seq, time_ns): (Direction, u32, u64),
        consumer: &mut C,
        is_sure: impl FnOnce() -> bool,
    ) {
        let place = id.and_then(|id| self.place_of(id));
        let unseen = |slot: usize| {
            let half = &self.slots[slot].halves[index(direction)];
            half.phase == Phase::Unseen
        };
        if !place.is_none_or(unseen) || !is_sure() {
            return;
        }
        self.clock.see(time_ns);
        let slot = place.unwrap_or_else(|| self.open(consumer));
        *id = Some(self.id_of(slot));
        let now = self.clock.now();
        let place = &mut self.slots[slot];
        place.deadline = now.plus(self.patience.silence[place.life as usize]);
        let half = &mut place.halves[index(direction)];
        half.next = seq;
        half.hinted = true;
        half.resumes = self.resumes;
    }

    /// Where a direction stands, if its stream has begun.
    #[must_use]
    pub fn spot(&self, id: ConnectionId, direction: Direction) -> Option<Spot> {
        let half = &self.slots[self.place_of(id)?].halves[index(direction)];
        matches!(half.phase, Phase::Open | Phase::Ended).then_some(Spot {
            next: half.next,
            offset: half.offset,
            has_ended: half.phase == Phase::Ended,
        })
    }

    /// Whether all that has come of a direction was told.
    #[must_use]
    pub fn is_in_order(&self, id: ConnectionId, direction: Direction) -> bool {
        let half = |slot: usize| &self.slots[slot].halves[index(direction)];
        !self.place_of(id).is_some_and(|slot| half(slot).waits())
    }

    /// A predecessor has followed a direction up to `spot`: it goes on there. Without an id, or with a stale one, a connection is begun at `time_ns`, and `id` set.
    pub fn go_on<C: Consumer<State = S>>(
        &mut self,
        id: &mut Option<ConnectionId>,
        (direction, spot, time_ns): (Direction, Spot, u64),
        consumer: &mut C,
    ) {
        self.clock.see(time_ns);
        let place = id.and_then(|id| self.place_of(id));
        let slot = place.unwrap_or_else(|| self.open(consumer));
        *id = Some(self.id_of(slot));
        let now = self.clock.now();
        let place = &mut self.slots[slot];
        place.deadline = now.plus(self.patience.silence[place.life as usize]);
        let half = &mut place.halves[index(direction)];
        (half.next, half.offset) = (spot.next, spot.offset);
        half.resumes = self.resumes;
        half.phase = match spot.has_ended {
            false => Phase::Open,
            true => Phase::Ended,
        };
        // What only repeats bytes from before is not noted.
        let mut ledger = Ledger {
            notes: &mut self.notes,
            chain: &mut half.notes,
        };
        ledger.forget(spot.offset, |_| {});
        self.age(slot);
    }

    /// Whether segments come that a predecessor has kept, and of which others, that it was done with, are missing. Streams that begin with such a segment
    /// don't wait for bytes that their receivers have, until they have caught up.
    pub fn resume(&mut self, resumes: bool) {
        self.resumes = resumes;
    }

    /// Time has gone on to `time_ns`, that of a packet that is no segment.
    #[inline]
    pub fn see(&mut self, time_ns: u64) {
        self.clock.see(time_ns);
    }

    /// Gives up what was waited for and connections that were silent, both for too long by the times of the segments that were taken in. To be called once
    /// per batch; its work is bounded.
    pub fn advance<C: Consumer<State = S>>(&mut self, consumer: &mut C) {
        let now = self.clock.now();
        for wait in [Wait::Late, Wait::Unknown, Wait::Resent] {
            for _ in 0..MOST_GIVEN_UP {
                match self.waiting.front(wait as usize) {
                    Some(number) if self.is_due(At::numbered(number)) => {
                        self.give_up(At::numbered(number), consumer);
                    }
                    _ => break,
                }
            }
        }
        let pace = self.slots.len().div_ceil(ROUND_TICKS);
        let passed = now.after(self.hand.tick).max(0) as usize;
        let due = self.hand.due + passed.saturating_mul(pace);
        self.hand.tick = now;
        self.hand.due = due.min(self.slots.len());
        for _ in 0..self.hand.due.min(MOST_PASSED) {
            let slot = self.hand.next(self.slots.len());
            let Slot { life, deadline, .. } = self.slots[slot];
            if life != Life::Free && deadline.has_come(now) {
                self.close_slot(slot, End::TimedOut, consumer);
            }
        }
        self.hand.due -= self.hand.due.min(MOST_PASSED);
    }

    /// Ends a connection, for example because its flow was forgotten. What waits is told before. A stale id does nothing.
    pub fn close<C: Consumer<State = S>>(&mut self, id: ConnectionId, consumer: &mut C) {
        if let Some(slot) = self.place_of(id) {
            self.close_slot(slot, End::Closed, consumer);
        }
    }

    /// Ends all connections, for example because there are no more packets.
    pub fn close_all<C: Consumer<State = S>>(&mut self, consumer: &mut C) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].life != Life::Free {
                self.close_slot(slot, End::Closed, consumer);
            }
        }
    }

    /// Has a connection fetched into the cache, for a segment that comes soon.
    #[inline]
    pub fn prepare(&self, id: ConnectionId) {
        if let Some(slot) = self.slots.get(id.place()) {
            prefetch(&slot.halves);
            prefetch(&slot.deadline);
            prefetch(&slot.link);
        }
    }

    /// What the consumer remembers of a connection, and the packets that carry one direction. `None` if the id is stale.
    pub fn stream(&mut self, id: ConnectionId, direction: Direction) -> Option<Stream<'_, S>> {
        let slot = self.place_of(id)?;
        let Slot { state, halves, .. } = &mut self.slots[slot];
        Some(Stream {
            connection: id,
            direction,
            state,
            ledger: Ledger {
                notes: &mut self.notes,
                chain: &mut halves[index(direction)].notes,
            },
        })
    }

    /// Connections that are followed now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.followed
    }

    /// Bytes that wait now, out of order.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        self.pieces.bytes()
    }

    /// Packets in the ledgers now.
    #[must_use]
    pub fn packets(&self) -> usize {
        self.notes.used()
    }

    /// Bytes of memory that it may come to use, without what the consumer's states point to.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.limits.connections * size_of::<Slot<S>>()
            + self.pieces.capacity_bytes()
            + self.notes.capacity_bytes()
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    #[inline]
    fn take<C: Consumer<State = S>>(
        &mut self,
        at: At,
        segment: &Segment<'_>,
        consumer: &mut C,
    ) -> Outcome {
        let slot = &mut self.slots[at.slot];
        if !segment.is_plain() || slot.reopen.is_some() {
            if let Some(outcome) = self.signal(at, segment, consumer) {
                return outcome;
            }
        } else if slot.life == Life::Opening {
            slot.life = Life::Established;
            self.value(at.slot);
        }
        if self.half(at).link.list().is_some() && self.is_due(at) {
            self.give_up(at, consumer);
        }
        let half = self.half_mut(at);
        let scale = half.scale;
        if !half.heard {
            half.heard = true;
            self.value(at.slot);
        }
        let half = self.half(at);
        if half.is_live() && !half.reaches(segment.first()) {
            return self.take_far(at, segment, consumer);
        }
        if segment.acks() {
            self.acknowledge(at.other(), segment, scale, consumer);
        }
        let outcome = self.take_bytes(at, segment, consumer);
        if !segment.is_plain() {
            self.age(at.slot);
        }
        outcome
    }

    /// What SYN, FIN and RST say, and what a segment says after a SYN that may be forged. `None`: the segment goes on.
    #[cold]
    fn signal<C: Consumer<State = S>>(
        &mut self,
        at: At,
        segment: &Segment<'_>,
        consumer: &mut C,
    ) -> Option<Outcome> {
        if segment.rst() {
            return Some(self.reset(at, segment, consumer));
        }
        if segment.syn() {
            return self.synchronise(at, segment, consumer);
        }
        if let Some((direction, isn)) = self.slots[at.slot].reopen
            && direction == at.direction
            && isn.wrapping_add(1) == segment.seq
            && !self.half(at.other()).heard
        {
            // The other side is not captured: nothing but this can tell that the SYN was meant.
            self.restart(at.slot, consumer);
            self.half_mut(at).begin(isn);
        }
        if self.slots[at.slot].life == Life::Opening {
            self.slots[at.slot].life = Life::Established;
            self.value(at.slot);
        }
        None
    }

    /// A reset counts if its sequence number is exactly what its receiver expects (RFC 5961, section 3.2), as far as that is known.
    fn reset<C: Consumer<State = S>>(
        &mut self,
        at: At,
        segment: &Segment<'_>,
        consumer: &mut C,
    ) -> Outcome {
        let (half, other) = (self.half(at), self.half(at.other()));
        let seq = segment.seq;
        let expected = match half.phase {
            Phase::Unseen => half.hinted && seq == half.next,
            Phase::Ignored => true,
            Phase::Starting | Phase::Open | Phase::Ended => {
                seq == half.next
                    || half.acked == Some(seq)
                    || half.fin.is_some_and(|fin| seq == fin.wrapping_add(1))
                    || self.pieces.end(&half.waiting) == Some(seq)
            }
        };
        // The answer to a SYN that is not welcome has sequence number 0 (RFC 9293, section 3.10.7.1).
        let declines = half.phase == Phase::Unseen
            && segment.acks()
            && other.isn.is_some()
            && segment.ack == other.next;
        if expected || declines {
            for at in at.both() {
                self.finish(at, End::Reset, consumer);
                self.half_mut(at).phase = Phase::Ended;
            }
            self.slots[at.slot].reset_by = Some(at.direction);
            self.age(at.slot);
            return Outcome::without_bytes(Fate::Empty);
        }
        if !half.is_live() || half.reaches(seq) {
            self.slots[at.slot].doubted = true;
            self.age(at.slot);
        }
        self.counts.implausible_resets += 1;
        Outcome::without_bytes(Fate::Refused(Refusal::Implausible))
    }

    /// A SYN begins a stream, or a new connection between the same ports, or comes again. `None`: the segment goes on.
    fn synchronise<C: Consumer<State = S>>(
        &mut self,
        at: At,
        segment: &Segment<'_>,
        consumer: &mut C,
    ) -> Option<Outcome> {
        let isn = segment.seq;
        let answered = segment.acks().then(|| segment.ack.wrapping_sub(1));
        let (half, other) = (*self.half(at), *self.half(at.other()));
        if half.isn == Some(isn) {
            return None;
        }
        let slot = &self.slots[at.slot];
        let reopens = slot.reopen.is_some_and(|(direction, isn)| {
            direction == at.other().direction && answered == Some(isn)
        });
        let was_ended = matches!(slot.life, Life::Closing | Life::Over);
        let answers = match (answered, other.isn) {
            (Some(answered), Some(isn)) => (0..=other.reach as i32).contains(&ahead(answered, isn)),
            _ => false,
        };
        let before_seen = ahead(half.next, segment.first());
        let late = half.isn.is_none() && (0..=START_BACK as i32).contains(&before_seen);
        match half.phase {
            _ if reopens => self.restart(at.slot, consumer),
            Phase::Unseen if answers => {}
            _ if was_ended => self.restart(at.slot, consumer),
            Phase::Unseen if answered.is_some() && other.isn.is_some() => {
                return Some(self.doubt(at, isn));
            }
            Phase::Unseen => {}
            Phase::Ignored if other.phase == Phase::Ignored => self.restart(at.slot, consumer),
            Phase::Ignored => return Some(self.doubt(at, isn)),
            Phase::Starting => {
                let lowest = self.lowest(at);
                if !(0..=START_BACK as i32).contains(&ahead(lowest, segment.first())) {
                    return Some(self.doubt(at, isn));
                }
                let half = self.half_mut(at);
                half.offset = half.offset_of(segment.first());
            }
            Phase::Open | Phase::Ended if late => {
                self.half_mut(at).isn = Some(isn);
                return None;
            }
            // The rest of the handshake of a connection that was taken for an older one.
            Phase::Open if half.isn.is_none() && answers => {
                self.flush(at, consumer);
                let offset = self.half(at).offset;
                if !self.half(at).is_live()
                    || !self.tell(at, Event::Gap { offset, len: None }, consumer)
                {
                    return None;
                }
            }
            Phase::Open | Phase::Ended => return Some(self.doubt(at, isn)),
        }
        let half = self.half_mut(at);
        half.begin(isn);
        half.scale = segment.scale.unwrap_or(0);
        let other = self.half_mut(at.other());
        if let Some(answered) = answered
            && other.phase == Phase::Unseen
        {
            other.begin(answered);
        }
        self.drain(at, consumer);
        self.settle(at, true, consumer);
        None
    }

    /// Remembers a SYN that does not fit: the other side's answer will tell whether it was meant.
    fn doubt(&mut self, at: At, isn: u32) -> Outcome {
        self.slots[at.slot].reopen = Some((at.direction, isn));
        self.counts.implausible_syns += 1;
        Outcome::without_bytes(Fate::Refused(Refusal::Implausible))
    }

    /// What the receiver of `at`'s stream says of it.
    #[inline]
    fn acknowledge<C: Consumer<State = S>>(
        &mut self,
        at: At,
        segment: &Segment<'_>,
        scale: u8,
        consumer: &mut C,
    ) {
        let half = self.half_mut(at);
        half.widen(segment.window, scale);
        match half.phase {
            Phase::Unseen => {
                half.next = segment.ack;
                half.hinted = true;
            }
            Phase::Starting | Phase::Open | Phase::Ended => {
                let distance = ahead(segment.ack, half.next);
                let believed = (-BACK..=half.reach as i32).contains(&distance);
                if half.is_only_open() && !(believed && distance >= 0) {
                    // Another SYN was answered than the one that was seen.
                    half.begin(segment.ack.wrapping_sub(1));
                    let offset = half.offset;
                    self.tell(at, Event::Gap { offset, len: None }, consumer);
                    return;
                }
                let news = half.acked.is_none_or(|acked| ahead(segment.ack, acked) > 0);
                if believed && news {
                    half.acked = Some(segment.ack);
                    if half.phase == Phase::Starting && self.is_answered(at, segment) {
                        self.give_up(at, consumer);
                        return;
                    }
                    let half = self.half(at);
                    if half
                        .link
                        .list()
                        .is_some_and(|wait| wait != Wait::Late as usize)
                    {
                        self.settle(at, false, consumer);
                    }
                }
            }
            Phase::Ignored => {}
        }
    }

    /// Whether a segment of the receiver answers all that has come of a stream that was picked up in its middle: then it is told before the answer.
    fn is_answered(&self, at: At, answer: &Segment<'_>) -> bool {
        let end = self.pieces.end(&self.half(at).waiting);
        !answer.payload.is_empty() && end.is_some_and(|end| ahead(answer.ack, end) >= 0)
    }

    /// A segment out of reach: forged, or what follows after a great loss. Which of them shows when others follow it while none comes where it should.
    #[cold]
    fn take_far<C: Consumer<State = S>>(
        &mut self,
        at: At,
        segment: &Segment<'_>,
        consumer: &mut C,
    ) -> Outcome {
        self.counts.far_segments += 1;
        let refused = Outcome::without_bytes(Fate::Refused(Refusal::Far));
        if segment.payload.is_empty() {
            return refused;
        }
        let half = self.half_mut(at);
        let (expected, run) = half.far;
        let run = match run > 0 && segment.seq == expected {
            true => run + 1,
            false => 1,
        };
        half.far = (segment.seq.wrapping_add(segment.payload.len() as u32), run);
        if run < FAR_RUN {
            return refused;
        }
        self.flush(at, consumer);
        let half = self.half_mut(at);
        half.far.1 = 0;
        if half.phase != Phase::Open {
            return refused;
        }
        half.next = segment.seq;
        half.acked = None;
        self.counts.resyncs += 1;
        self.counts.gaps += 1;
        let offset = self.half(at).offset;
        self.tell(at, Event::Gap { offset, len: None }, consumer);
        self.take_bytes(at, segment, consumer)
    }

    /// The payload and the end.
    #[inline]
    fn take_bytes<C: Consumer<State = S>>(
        &mut self,
        at: At,
        segment: &Segment<'_>,
        consumer: &mut C,
    ) -> Outcome {
        let seq = segment.first();
        let mut payload = segment.payload;
        match self.half(at).phase {
            Phase::Starting | Phase::Open => {}
            Phase::Unseen if payload.is_empty() && !segment.fin() => {
                let half = self.half_mut(at);
                half.next = seq;
                half.hinted = true;
                return Outcome::without_bytes(Fate::Empty);
            }
            Phase::Unseen => self.pick_up(at, seq, consumer),
            Phase::Ended if self.belies_reset(at, segment) => {
                self.revive(at, consumer);
                self.pick_up(at, seq, consumer);
            }
            Phase::Ended => return self.take_after_end(at, segment),
            Phase::Ignored => {
                let half = self.half_mut(at);
                if segment.fin() {
                    half.fin = Some(seq);
                }
                return Outcome::without_bytes(Fate::Ignored);
            }
        }
        let half = self.half_mut(at);
        half.far.1 = 0;
        if let Some(fin) = half.fin {
            let room = ahead(fin, seq).max(0) as usize;
            if payload.len() > room {
                self.counts.after_end_bytes += (payload.len() - room) as u64;
                payload = &payload[..room];
            }
        }
        let half = self.half_mut(at);
        let end = seq.wrapping_add(payload.len() as u32);
        let range = half.range(end, payload.len());
        if segment.fin() && half.fin.is_none() && half.is_live() {
            let furthest = self.pieces.end(&self.half(at).waiting);
            let half = self.half_mut(at);
            if ahead(end, furthest.unwrap_or(half.next)) >= 0 {
                half.fin = Some(end);
            }
        }
        let noted = segment.token.is_some_and(|token| {
            range.start < range.end && self.note(at, token, range.start, payload.len() as u32)
        });
        let fate = match payload.is_empty() {
            true => Fate::Empty,
            false => self.take_payload(at, seq, payload, consumer),
        };
        let half = self.half(at);
        if half.waits() || half.link.list().is_some() {
            self.settle(at, fate == Fate::New, consumer);
        } else if half.resumes && !self.resumes {
            self.half_mut(at).resumes = false;
        }
        Outcome { range, fate, noted }
    }

    /// Whether a segment shows that its sender did not reset the connection: it goes on behind the reset.
    #[cold]
    fn belies_reset(&self, at: At, segment: &Segment<'_>) -> bool {
        let half = self.half(at);
        let resetter = self.slots[at.slot].reset_by == Some(at.direction);
        resetter
            && half.fin.is_none()
            && segment.first() == half.next
            && !segment.payload.is_empty()
    }

    /// Goes on with a connection that was ended by a forged reset.
    #[cold]
    fn revive<C: Consumer<State = S>>(&mut self, at: At, consumer: &mut C) {
        let next = at.both().map(|at| self.half(at).next);
        self.restart(at.slot, consumer);
        self.slots[at.slot].life = Life::Established;
        self.counts.revived += 1;
        for (at, next) in at.both().into_iter().zip(next) {
            let half = self.half_mut(at);
            half.next = next;
            half.hinted = true;
            half.heard = true;
        }
        self.value(at.slot);
    }

    #[cold]
    fn take_after_end(&mut self, at: At, segment: &Segment<'_>) -> Outcome {
        let half = self.half(at);
        let seq = segment.first();
        let end = seq.wrapping_add(segment.payload.len() as u32);
        let range = half.range(end, segment.payload.len());
        if segment.payload.is_empty() {
            return Outcome::without_bytes(Fate::Empty);
        }
        if ahead(end, half.next) > 0 {
            self.counts.after_end_bytes += segment.payload.len() as u64;
            return Outcome::without_bytes(Fate::Refused(Refusal::AfterEnd));
        }
        self.counts.old_segments += 1;
        Outcome {
            range,
            fate: Fate::Old,
            noted: false,
        }
    }

    #[inline]
    fn note(&mut self, at: At, token: u64, start: u64, len: u32) -> bool {
        let chain = &mut self.slots[at.slot].halves[index(at.direction)].notes;
        if !Notes::wants(chain, start + u64::from(len)) {
            return false;
        }
        let noted = self.notes.add(chain, token, start, len);
        self.counts.unnoted += u64::from(!noted);
        noted
    }

    #[inline]
    fn take_payload<C: Consumer<State = S>>(
        &mut self,
        at: At,
        seq: u32,
        payload: &[u8],
        consumer: &mut C,
    ) -> Fate {
        let half = self.half(at);
        let behind = ahead(half.next, seq);
        if half.phase == Phase::Open && behind >= 0 {
            return match payload.get(behind as usize..) {
                None | Some([]) => {
                    self.counts.old_segments += 1;
                    Fate::Old
                }
                Some(new) => {
                    self.take_in_order(at, new, consumer);
                    Fate::New
                }
            };
        }
        self.wait(at, seq, payload, consumer)
    }

    /// Bytes that are next, and those that waited for them.
    #[inline]
    fn take_in_order<C: Consumer<State = S>>(
        &mut self,
        at: At,
        mut bytes: &[u8],
        consumer: &mut C,
    ) {
        while !bytes.is_empty() {
            let half = self.half(at);
            let Some((seq, piece)) = self.pieces.first(&half.waiting) else {
                self.deliver(at, bytes, consumer);
                return;
            };
            let hole = (ahead(seq, half.next).max(0) as usize).min(bytes.len());
            let common = piece.len().min(bytes.len() - hole);
            let conflict = piece[..common] != bytes[hole..hole + common];
            if hole > 0 && !self.deliver(at, &bytes[..hole], consumer) {
                return;
            }
            self.counts.conflicts += u64::from(conflict);
            bytes = &bytes[hole + common..];
            if common > 0 && !self.deliver_piece(at, consumer) {
                return;
            }
        }
        self.drain(at, consumer);
    }

    /// Bytes that are not next.
    #[cold]
    fn wait<C: Consumer<State = S>>(
        &mut self,
        at: At,
        seq: u32,
        payload: &[u8],
        consumer: &mut C,
    ) -> Fate {
        let need = payload.len() / PAGE + 2;
        loop {
            let half = self.half(at);
            if half.is_done() {
                return Fate::Ignored;
            }
            if half.phase == Phase::Open && ahead(half.next, seq) >= 0 {
                return self.take_payload(at, seq, payload, consumer);
            }
            let crowded = half.waiting.len as usize + need > self.most_pieces as usize;
            let gives_way = match crowded && !half.waiting.is_empty() {
                true => at,
                false if self.pieces.room() >= need => break,
                false => match self.longest_waiting() {
                    Some(other) => other,
                    None => break,
                },
            };
            self.counts.hurried += 1;
            self.give_up(gives_way, consumer);
        }
        let waiting = &mut self.slots[at.slot].halves[index(at.direction)].waiting;
        let kept = self.pieces.keep(waiting, seq, payload, self.most_pieces);
        self.counts.conflicts += u64::from(kept.conflict);
        self.counts.dropped_bytes += kept.dropped as u64;
        if kept.new > 0 {
            self.counts.waiting_segments += 1;
            return Fate::Waits;
        }
        if kept.dropped > 0 {
            return Fate::Refused(Refusal::NoRoom);
        }
        self.counts.old_segments += 1;
        Fate::Old
    }

    /// The first bytes of a stream whose beginning was not seen. If the other side's acknowledgements, or this one's, have told where it goes
    /// on, it begins there; else it is seen whether earlier bytes come late.
    fn pick_up<C: Consumer<State = S>>(&mut self, at: At, seq: u32, consumer: &mut C) {
        let half = self.half_mut(at);
        half.offset += u64::from(START_BACK);
        let known = half.hinted && half.next == seq;
        half.next = seq;
        half.phase = Phase::Starting;
        if known {
            self.start(at, consumer);
        }
    }

    /// Begins a stream in its middle, with the first bytes that were seen.
    fn start<C: Consumer<State = S>>(&mut self, at: At, consumer: &mut C) {
        let lowest = self.lowest(at);
        let half = self.half_mut(at);
        half.offset = half.offset_of(lowest);
        half.next = lowest;
        half.phase = Phase::Open;
        let offset = half.offset;
        self.counts.middles += 1;
        if self.tell(at, Event::Gap { offset, len: None }, consumer) {
            self.drain(at, consumer);
        }
    }

    /// Where a stream begins that was picked up in its middle.
    fn lowest(&self, at: At) -> u32 {
        let half = self.half(at);
        match self.pieces.first(&half.waiting) {
            Some((seq, _)) => seq,
            None => half.next,
        }
    }

    /// Gives up what a direction waits for first, and delivers what it waited with.
    fn give_up<C: Consumer<State = S>>(&mut self, at: At, consumer: &mut C) {
        match self.half(at).phase {
            Phase::Starting => self.start(at, consumer),
            Phase::Open => self.skip(at, consumer),
            Phase::Unseen | Phase::Ended | Phase::Ignored => {}
        }
        self.settle(at, true, consumer);
    }

    fn skip<C: Consumer<State = S>>(&mut self, at: At, consumer: &mut C) {
        let half = self.half(at);
        let Some(to) = self.awaited(half) else {
            return;
        };
        let len = u64::from(to.wrapping_sub(half.next));
        let offset = half.offset;
        let half = self.half_mut(at);
        half.offset += len;
        half.next = to;
        if len == 0 {
            return;
        }
        self.counts.gaps += 1;
        self.counts.gap_bytes += len;
        let gap = Event::Gap {
            offset,
            len: Some(len),
        };
        if self.tell(at, gap, consumer) {
            self.drain(at, consumer);
        }
    }

    /// Where the first gap ends.
    #[inline]
    fn awaited(&self, half: &Half) -> Option<u32> {
        match self.pieces.first(&half.waiting) {
            Some((seq, _)) => Some(seq),
            None => half.fin,
        }
    }

    /// Delivers what has waited long enough because what was before it has come.
    fn drain<C: Consumer<State = S>>(&mut self, at: At, consumer: &mut C) {
        loop {
            let half = self.half(at);
            match self.pieces.first(&half.waiting) {
                Some((seq, _)) if half.phase == Phase::Open && ahead(seq, half.next) <= 0 => {
                    if !self.deliver_piece(at, consumer) {
                        return;
                    }
                }
                _ => return,
            }
        }
    }

    /// Brings a direction's wait up to date, and ends it if all has come. `moved`: it waits for something else than before.
    fn settle<C: Consumer<State = S>>(&mut self, at: At, moved: bool, consumer: &mut C) {
        let half = self.half(at);
        if half.phase == Phase::Starting && half.waiting.len >= START_PIECES {
            self.start(at, consumer);
        }
        let half = self.half(at);
        if half.phase == Phase::Open && half.fin == Some(half.next) && half.waiting.is_empty() {
            self.finish(at, End::Finished, consumer);
        }
        let half = self.half(at);
        let wait = match half.waits() {
            false => None,
            true if half.phase == Phase::Starting => Some(Wait::Late),
            true => {
                let to = self.awaited(half).unwrap_or(half.next);
                Some(match half.acked {
                    None => Wait::Unknown,
                    Some(acked) if ahead(acked, to) >= 0 => Wait::Late,
                    Some(_) => Wait::Resent,
                })
            }
        };
        if wait == Some(Wait::Late) && half.resumes {
            // Comes back here, until nothing waits or somebody may send it yet.
            return self.give_up(at, consumer);
        }
        let list = wait.map(|wait| wait as usize);
        if list != half.link.list() || moved {
            let (halves, now) = (Halves(&mut self.slots), self.clock.now());
            self.waiting.put(halves, at.number(), list, now);
        }
    }

    fn is_due(&self, at: At) -> bool {
        let link = &self.half(at).link;
        link.list().is_some_and(|wait| {
            let length = self.patience.gaps[wait];
            link.since().plus(length).has_come(self.clock.now())
        })
    }

    /// Whose turn it is to give up when memory is short.
    fn longest_waiting(&self) -> Option<At> {
        [Wait::Resent, Wait::Unknown, Wait::Late]
            .into_iter()
            .find_map(|wait| self.waiting.front(wait as usize))
            .map(At::numbered)
    }

    /// Gives up all that a direction waits for.
    fn flush<C: Consumer<State = S>>(&mut self, at: At, consumer: &mut C) {
        while self.half(at).waits() {
            self.give_up(at, consumer);
        }
    }

    /// Ends a direction, with all that waits.
    fn finish<C: Consumer<State = S>>(&mut self, at: At, reason: End, consumer: &mut C) {
        if reason != End::Finished {
            self.flush(at, consumer);
        }
        if !self.half(at).is_live() {
            return;
        }
        let offset = self.half(at).offset;
        self.tell(at, Event::End { offset, reason }, consumer);
        self.half_mut(at).phase = Phase::Ended;
        self.release(at);
        self.age(at.slot);
        if self.slots[at.slot].halves.iter().all(Half::is_done) {
            self.forget_packets(at.slot);
        }
    }

    /// Both directions end, and a new connection begins between the same ports.
    fn restart<C: Consumer<State = S>>(&mut self, slot: usize, consumer: &mut C) {
        for direction in [Direction::Request, Direction::Response] {
            let at = At { slot, direction };
            self.finish(at, End::Reused, consumer);
            self.release(at);
            let half = self.half_mut(at);
            *half = Half {
                offset: half.offset,
                notes: half.notes,
                ..Half::default()
            };
        }
        self.forget_packets(slot);
        if self.slots[slot].life != Life::Over {
            self.leave(slot);
            self.counts.over += 1;
        }
        self.begin(slot);
    }

    /// Says how far the connection is in its life.
    fn age(&mut self, slot: usize) {
        let place = &mut self.slots[slot];
        if place.halves.iter().all(Half::is_done) {
            place.state = S::default();
        }
        let gone = |half: &Half| match half.phase {
            Phase::Ended => true,
            Phase::Ignored => half.fin.is_some(),
            Phase::Unseen | Phase::Starting | Phase::Open => false,
        };
        let closing = |half: &Half| half.fin.is_some() || gone(half);
        if place.life == Life::Over {
            return;
        }
        if place.halves.iter().all(gone) {
            self.leave(slot);
            self.counts.over += 1;
        } else if place.doubted || place.halves.iter().any(closing) {
            place.life = Life::Closing;
            self.value(slot);
        }
    }

    /// A connection is over.
    fn leave(&mut self, slot: usize) {
        self.slots[slot].life = Life::Over;
        self.followed -= 1;
        self.value(slot);
    }

    /// Puts a connection where it belongs among those that are worth little.
    #[cold]
    fn value(&mut self, slot: usize) {
        let place = &self.slots[slot];
        let both = place.halves.iter().all(|half| half.heard);
        let worth = match place.life {
            Life::Over | Life::Opening => Some(Worth::Nothing),
            Life::Established | Life::Closing if !both => Some(Worth::Little),
            Life::Free | Life::Established | Life::Closing => None,
        };
        let list = worth.map(|worth| worth as usize);
        if place.link.list() != list {
            let now = self.clock.now();
            let connections = Connections(&mut self.slots);
            self.cheap.put(connections, slot as u32, list, now);
        }
    }

    fn forget_packets(&mut self, slot: usize) {
        for half in &mut self.slots[slot].halves {
            self.notes.clear(&mut half.notes);
        }
    }

    /// A place for a new connection.
    fn open<C: Consumer<State = S>>(&mut self, consumer: &mut C) -> usize {
        if self.first_free == NONE && self.slots.len() == self.limits.connections {
            let slot = self.least_valuable();
            self.close_slot(slot, End::Evicted, consumer);
        }
        let slot = match self.slots.get(self.first_free as usize) {
            None => {
                self.slots.push(Slot::default());
                self.slots.len() - 1
            }
            Some(place) => {
                let slot = self.first_free as usize;
                self.first_free = place.next_free;
                slot
            }
        };
        self.begin(slot);
        slot
    }

    /// A connection begins in a place.
    fn begin(&mut self, slot: usize) {
        self.slots[slot].begin();
        self.value(slot);
        self.followed += 1;
        self.counts.opened += 1;
    }

    /// The first to give way: one that is worth little, or of some the one that has been silent for longest.
    #[cold]
    fn least_valuable(&mut self) -> usize {
        let cheap = self.cheap.front(Worth::Nothing as usize);
        if let Some(slot) = cheap.or(self.cheap.front(Worth::Little as usize)) {
            return slot as usize;
        }
        let now = self.clock.now();
        let mut least = (i32::MAX, 0);
        for _ in 0..CANDIDATES.min(self.slots.len()) {
            let slot = self.hand.next(self.slots.len());
            least = least.min((self.slots[slot].deadline.after(now), slot));
        }
        least.1
    }

    fn close_slot<C: Consumer<State = S>>(&mut self, slot: usize, reason: End, consumer: &mut C) {
        if self.slots[slot].life != Life::Over {
            self.leave(slot);
            match reason {
                End::TimedOut => self.counts.timed_out += 1,
                End::Evicted => self.counts.evicted += 1,
                End::Finished | End::Reset | End::Reused | End::Closed => self.counts.closed += 1,
            }
        }
        for direction in [Direction::Request, Direction::Response] {
            let at = At { slot, direction };
            self.finish(at, reason, consumer);
            self.release(at);
        }
        self.forget_packets(slot);
        let place = &mut self.slots[slot];
        place.life = Life::Free;
        place.halves = <[Half; 2]>::default();
        place.state = S::default();
        // Never 0, which is no id.
        place.generation = place.generation % GENERATIONS + 1;
        place.next_free = self.first_free;
        self.first_free = slot as u32;
        self.value(slot);
    }

    /// Gives back what a direction keeps of bytes and waits.
    fn release(&mut self, at: At) {
        let Self {
            slots,
            waiting,
            pieces,
            clock,
            ..
        } = self;
        pieces.clear(&mut slots[at.slot].halves[index(at.direction)].waiting);
        waiting.put(Halves(slots), at.number(), None, clock.now());
    }

    /// Gives the consumer bytes that are next. Says whether it wants more.
    #[inline]
    fn deliver<C: Consumer<State = S>>(&mut self, at: At, bytes: &[u8], consumer: &mut C) -> bool {
        let half = self.half_mut(at);
        let offset = half.offset;
        half.offset += bytes.len() as u64;
        half.next = half.next.wrapping_add(bytes.len() as u32);
        self.counts.delivered_bytes += bytes.len() as u64;
        self.tell(at, Event::Data { offset, bytes }, consumer)
    }

    /// Gives the consumer what is left of the first piece that waits.
    fn deliver_piece<C: Consumer<State = S>>(&mut self, at: At, consumer: &mut C) -> bool {
        let connection = self.id_of(at.slot);
        let Self {
            slots,
            pieces,
            notes,
            counts,
            ..
        } = self;
        let slot = &mut slots[at.slot];
        let half = &mut slot.halves[index(at.direction)];
        let mut interest = Interest::Follow;
        if let Some((seq, bytes)) = pieces.first(&half.waiting)
            && let Some(bytes @ [_, ..]) = bytes.get(ahead(half.next, seq).max(0) as usize..)
        {
            let offset = half.offset;
            half.offset += bytes.len() as u64;
            half.next = half.next.wrapping_add(bytes.len() as u32);
            counts.delivered_bytes += bytes.len() as u64;
            let event = Event::Data { offset, bytes };
            interest = slot.tell(connection, at.direction, notes, event, consumer);
        }
        pieces.pop(&mut slot.halves[index(at.direction)].waiting);
        self.heed(at, interest)
    }

    #[inline]
    fn tell<C: Consumer<State = S>>(&mut self, at: At, event: Event<'_>, consumer: &mut C) -> bool {
        let connection = self.id_of(at.slot);
        let slot = &mut self.slots[at.slot];
        let interest = slot.tell(connection, at.direction, &mut self.notes, event, consumer);
        self.heed(at, interest)
    }

    /// Says whether the consumer wants more of the direction.
    #[inline]
    fn heed(&mut self, at: At, interest: Interest) -> bool {
        match interest {
            Interest::Follow => return true,
            Interest::IgnoreDirection => self.ignore(at),
            Interest::IgnoreConnection => at.both().into_iter().for_each(|at| self.ignore(at)),
        }
        false
    }

    #[cold]
    fn ignore(&mut self, at: At) {
        let half = self.half_mut(at);
        if half.phase != Phase::Ended {
            half.phase = Phase::Ignored;
        }
        self.release(at);
        let chain = &mut self.slots[at.slot].halves[index(at.direction)].notes;
        self.notes.clear(chain);
        self.age(at.slot);
    }

    #[inline]
    fn half(&self, at: At) -> &Half {
        &self.slots[at.slot].halves[index(at.direction)]
    }

    #[inline]
    fn half_mut(&mut self, at: At) -> &mut Half {
        &mut self.slots[at.slot].halves[index(at.direction)]
    }

    #[inline]
    fn place_of(&self, id: ConnectionId) -> Option<usize> {
        let slot = self.slots.get(id.place())?;
        let fresh = slot.life != Life::Free && slot.generation == id.generation();
        fresh.then_some(id.place())
    }

    #[inline]
    fn id_of(&self, slot: usize) -> ConnectionId {
        ConnectionId::new(slot, self.slots[slot].generation)
    }
}

/// The directions, by number: that of their connection's place, doubled, and one more for responses.
struct Halves<'a, S>(&'a mut [Slot<S>]);

impl<S> Linked for Halves<'_, S> {
    fn link(&mut self, number: u32) -> &mut Link {
        let at = At::numbered(number);
        &mut self.0[at.slot].halves[index(at.direction)].link
    }
}

/// The connections, by their places' numbers.
struct Connections<'a, S>(&'a mut [Slot<S>]);

impl<S> Linked for Connections<'_, S> {
    fn link(&mut self, number: u32) -> &mut Link {
        &mut self.0[number as usize].link
    }
}

impl<S: Default> Slot<S> {
    /// A new connection takes the place.
    fn begin(&mut self) {
        self.life = Life::Opening;
        self.doubted = false;
        self.reset_by = None;
        self.reopen = None;
        self.state = S::default();
    }

    #[inline]
    fn tell<C: Consumer<State = S>>(
        &mut self,
        connection: ConnectionId,
        direction: Direction,
        notes: &mut Notes,
        event: Event<'_>,
        consumer: &mut C,
    ) -> Interest {
        let stream = Stream {
            connection,
            direction,
            state: &mut self.state,
            ledger: Ledger {
                notes,
                chain: &mut self.halves[index(direction)].notes,
            },
        };
        consumer.take(stream, event)
    }
}

impl<S: Default> Default for Slot<S> {
    fn default() -> Self {
        Self {
            halves: <[Half; 2]>::default(),
            deadline: Tick::default(),
            generation: 1,
            life: Life::Opening,
            doubted: false,
            reset_by: None,
            reopen: None,
            next_free: NONE,
            link: Link::default(),
            state: S::default(),
        }
    }
}

/// How many generations a place has; then its ids come again.
const GENERATIONS: u16 = (1 << (32 - PLACE_BITS)) - 1;

impl ConnectionId {
    #[inline]
    fn new(place: usize, generation: u16) -> Self {
        let number = u32::from(generation) << PLACE_BITS | place as u32;
        // A generation is never 0.
        Self(NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN))
    }

    #[inline]
    fn place(self) -> usize {
        (self.0.get() & ((1 << PLACE_BITS) - 1)) as usize
    }

    #[inline]
    fn generation(self) -> u16 {
        (self.0.get() >> PLACE_BITS) as u16
    }
}

impl At {
    #[inline]
    fn other(self) -> Self {
        let direction = match self.direction {
            Direction::Request => Direction::Response,
            Direction::Response => Direction::Request,
        };
        Self { direction, ..self }
    }

    fn both(self) -> [Self; 2] {
        [self, self.other()]
    }

    fn number(self) -> u32 {
        (self.slot * 2 + index(self.direction)) as u32
    }

    fn numbered(number: u32) -> Self {
        let direction = match number % 2 {
            0 => Direction::Request,
            _ => Direction::Response,
        };
        Self {
            slot: number as usize / 2,
            direction,
        }
    }
}

#[inline]
fn index(direction: Direction) -> usize {
    match direction {
        Direction::Request => 0,
        Direction::Response => 1,
    }
}

impl Patience {
    fn new(limits: &Limits) -> Self {
        let longest = &limits.silence;
        let mut silence = [LINGER; 5];
        silence[Life::Opening as usize] = ticks(longest.opening);
        silence[Life::Established as usize] = ticks(longest.established);
        silence[Life::Closing as usize] = ticks(longest.closing);
        Self {
            silence,
            // A wait begins somewhere in a tick and lasts a part of one: never shorter than it should be.
            gaps: [limits.reordering, limits.blind, limits.retransmission]
                .map(|time| ticks(time) + 2),
        }
    }
}

impl Hand {
    fn next(&mut self, places: usize) -> usize {
        self.at = (self.at + 1) % places.max(1);
        self.at
    }
}

impl Outcome {
    #[inline]
    fn without_bytes(fate: Fate) -> Self {
        Self {
            range: 0..0,
            fate,
            noted: false,
        }
    }
}
