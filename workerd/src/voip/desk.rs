//! What a worker does with packets of calls.
//!
//! ```text
//!   rx ring -> analyser: whose is it? -+-> its call is wanted -------> tx ring
//!                                      +-> undecided: held ----------> tx ring, or nowhere, when its call is decided
//!                                      +-> nobody's, or unwanted ----> nowhere
//! ```
//!
//! Everything happens between two commits of the worker: what was held, told of calls, and put into the tx ring stands in the same commit as the place of the
//! rx ring that it came from. So a successor learns what was told, looks once more at what is held, and goes on with the
//! rx ring: each packet is forwarded once.
//!
//! Each packet is looked at once. One that finds the tx ring full is held, although its call is wanted, and goes first when there is room.

mod carriers;

use std::collections::{BTreeMap, VecDeque};

use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::packet::PacketHeader;
use shm_layout::ring::Full;
use shm_layout::wire::Priority;
use shm_layout::worker::WorkerCommit;

use super::abreast::Abreast;
use super::analyser::{self, Analyser, Part, put_blocks, put_call_id};
use super::call::Call;
use super::calls::{self, CallRef};
use super::journal::Journal;
use super::switchboard::{Fate, Ruling, Tally};
use crate::decode::Decoded;
use crate::describe::Described;
use crate::desk::hand::{Hand, SharedEsp, Sight};
use crate::desk::held::{Position, Waiting};
use crate::desk::kept_back::KeptBack;
use crate::desk::load::{Load, Worth};
use crate::desk::means::Means;
use crate::desk::verdict::Standing;
use crate::desk::{Offer, forget_before};
use crate::detect::Protocol;
use crate::emit::{Judged, Outgoing, emit};
use crate::flows::Probe;
use crate::fragments::{self, Fragments, Limits, Offered};
use crate::reassembly;

/// Packets that a worker may be ahead of the slowest one while it waits for that one.
const MOST_AHEAD: u64 = 512;
/// Time between two packets, in nanoseconds, that is a leap.
const LEAP_NS: u64 = 1_000_000_000;
/// The same if no packet waits: what others told of calls that are yet to come here would be forgotten.
const LONG_LEAP_NS: u64 = 10_000_000_000;
/// Time between two tellings of progress, in nanoseconds of packet time, of a live capture.
const TELL_EVERY_NS: u64 = 10_000_000;
/// Datagrams of calls, sent in fragments, that are known for fragments that come again.
const MOST_DATAGRAMS: usize = 64;

/// See the [module](self).
pub struct CallDesk {
    analyser: Analyser,
    journal: Journal,
    hand: Box<Hand>,
    esp: SharedEsp,
    kept_back: KeptBack,
    blocks: Vec<u8>,
    fragments: Fragments,
    /// What is told of held packets that don't tell it themselves, because their message or datagram goes on in others.
    told: BTreeMap<Position, Vec<u8>>,
    /// Positions of what was put together.
    parts: Vec<Position>,
    /// Whose datagrams are that were sent in fragments, by their serials; the latest.
    datagrams: VecDeque<(u64, CallRef)>,
    /// The other fragments of datagrams that carry a segment, by the position under which it waits.
    parts_of: BTreeMap<Position, Vec<Position>>,
    /// Whether datagrams of nobody are kept for somebody else, and the last one.
    cedes: bool,
    ceded: Option<Ceded>,
    reported: Reported,
    /// Up to which number this worker is done with packets.
    progress: u64,
    is_restored: bool,
    /// Records of messages that were found while the log was restored.
    late: Vec<(CallRef, u16, Vec<u8>)>,
    /// The calls whose messages end in packets that a predecessor held, by their positions.
    endings: BTreeMap<Position, Vec<Box<[u8]>>>,
    /// Whether verdicts shall not depend on how far the workers have come.
    is_exact: bool,
    /// When the last packet was captured, in nanoseconds.
    latest_ns: u64,
    /// The packet that has to wait until all other workers have come to it.
    awaits: Option<u64>,
    /// Capture threads, if there are other workers.
    queues: usize,
    /// What is to be told of this worker's progress, if anything is, and when it was told last.
    to_tell: Vec<u64>,
    told_ns: u64,
    /// Whether nothing has come since.
    is_idle: bool,
}

/// What is told of a packet that is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    /// What it says itself.
    Itself,
    /// What was found when the rest of its message or datagram came: it waits at this position.
    Held(Position),
    /// What stands ready.
    Prepared,
}

/// A datagram in fragments, which wait.
pub struct Ceded {
    /// Of the fragment that came last.
    pub header: PacketHeader,
    /// Of the whole.
    pub decoded: Decoded,
    /// The whole.
    pub bytes: Vec<u8>,
    /// Where its fragments lie.
    pub parts: Vec<Position>,
}

/// What was counted up to the last report.
#[derive(Default)]
struct Reported {
    analyser: analyser::Counts,
    fragments: fragments::Counts,
    streams: reassembly::Counts,
    given_up: u64,
    calls: calls::Counts,
    tally: Tally,
}

impl CallDesk {
    /// With as many other workers as there are `peers`. If it `is_exact`, verdicts don't depend on how far each has come.
    #[must_use]
    pub fn new(analyser: Analyser, peers: usize, is_exact: bool, esp: SharedEsp) -> Self {
        Self {
            analyser,
            journal: Journal::new(Abreast::new(peers, !is_exact)),
            hand: Box::default(),
            esp,
            kept_back: KeptBack::default(),
            blocks: Vec::new(),
            fragments: Fragments::new(Limits::default()),
            told: BTreeMap::new(),
            parts: Vec::new(),
            datagrams: VecDeque::new(),
            parts_of: BTreeMap::new(),
            cedes: false,
            ceded: None,
            reported: Reported::default(),
            progress: 0,
            is_restored: false,
            late: Vec::new(),
            endings: BTreeMap::new(),
            is_exact,
            latest_ns: 0,
            awaits: None,
            queues: 0,
            to_tell: Vec::new(),
            told_ns: 0,
            is_idle: false,
        }
    }

    /// The same, but datagrams in fragments that are of no call are [ceded](CallDesk::take_ceded).
    #[must_use]
    pub fn ceding(mut self) -> Self {
        self.cedes = true;
        self
    }

    /// To be called before the rx rings are read, and often: learns from others, decides on calls, and forwards what has waited. With `at_end`, all calls are decided
    /// on, since no more packets come.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room.
    pub fn round(&mut self, means: &mut Means<'_>, at_end: bool) -> Result<(), Full> {
        let board = &mut self.analyser.board;
        board.lost_by_capture(means.lost_by_capture);
        self.journal.learn(means.peers, board);
        self.journal.abreast.compare();
        board.compare_some(means.judge);
        let journal = &self.journal;
        board.decide(means.judge, |moment| journal.abreast.have_passed(moment));
        self.analyser.advance(means.judge, self.latest_ns, at_end);
        let told = self.follow(means);
        let board = &mut self.analyser.board;
        if at_end {
            board.give_up(means.judge);
        }
        told?;
        self.flush(means)
    }

    /// Where the oldest packet that waits for a call lies, and whether its call is wanted: then it must not go.
    #[must_use]
    pub fn oldest(&self) -> Option<(Position, bool)> {
        let board = &self.analyser.board;
        let is_wanted = board.worth_of_oldest() >= Some(Worth::Wanted);
        Some((board.oldest()?, is_wanted))
    }

    /// Gives up the oldest packet that waits. False if none does.
    pub fn drop_oldest(&mut self) -> bool {
        self.analyser.board.drop_oldest()
    }

    /// The calls that are known.
    #[must_use]
    pub fn calls(&self) -> &calls::Calls {
        self.analyser.board.calls()
    }

    /// Up to where there is something in the rings that capture thread `queue` fills for other workers, in their order; before each round.
    pub fn published(&mut self, queue: usize, heads: impl ExactSizeIterator<Item = u64>) {
        if !self.is_exact && heads.len() > 0 {
            self.queues = self.queues.max(queue + 1);
            self.journal.abreast.published(queue, heads);
        }
    }

    /// The packets' time goes on with the clock, as nothing comes: `silence_ns` after the last packet.
    pub fn tick(&mut self, means: &mut Means<'_>, silence_ns: u64) {
        self.is_idle = true;
        if self.latest_ns > 0 {
            let journal = &self.journal;
            self.analyser.board.see(
                means.judge,
                journal.abreast.moment_of(self.progress.saturating_sub(1)),
                self.latest_ns + silence_ns,
                |moment| journal.abreast.have_passed(moment),
            );
        }
    }

    /// Whether packets wait for a verdict.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.analyser.board.has_waiting()
    }

    /// Whether this worker has to wait until the slowest one has come further.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        let Some(slowest) = self.journal.abreast.slowest().filter(|_| self.is_exact) else {
            return false;
        };
        let is_awaited = self.awaits.is_some_and(|sequence| slowest < sequence);
        let waits = self.analyser.board.waits_for().is_some();
        is_awaited || waits && self.progress > slowest + MOST_AHEAD
    }

    /// Whether a packet can be handled now. Where time leaps, packets that wait would be given up for their age,
    /// although the others only have to come as far: this packet has to come again when [`CallDesk::is_ahead`] says so.
    pub fn is_due(&mut self, header: &PacketHeader) -> bool {
        let PacketHeader {
            sequence,
            timestamp_ns,
            ..
        } = *header;
        let silence_ns = timestamp_ns.abs_diff(self.latest_ns);
        let leaps = silence_ns > LONG_LEAP_NS || silence_ns > LEAP_NS && self.has_waiting();
        self.awaits = leaps.then_some(sequence);
        // Others may wait for this worker in turn.
        self.passed(sequence);
        !self.is_ahead()
    }

    /// Whether others wait to hear how far this worker has come.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.is_exact && self.journal.abreast.slowest().is_some()
    }

    /// Whether all workers are done with the packets before `sequence`.
    #[must_use]
    pub fn have_all_passed(&self, sequence: u64) -> bool {
        let slowest = self.journal.abreast.slowest();
        self.progress >= sequence && slowest.is_none_or(|slowest| slowest >= sequence)
    }

    /// There is nothing for this worker before packet `sequence`.
    pub fn passed(&mut self, sequence: u64) {
        self.progress = self.progress.max(sequence);
    }

    /// How the flow of a packet is found, if it has one.
    #[inline]
    #[must_use]
    pub fn probe(&self, decoded: &Decoded) -> Option<Probe> {
        self.analyser.probe(decoded)
    }

    /// Has fetched what is known of packets with these `probes`.
    pub fn prepare(&mut self, probes: &[Probe]) {
        self.analyser.prepare(probes);
    }

    /// A packet has come, whose it may be: time has gone on.
    pub fn see(&mut self, means: &mut Means<'_>, header: &PacketHeader) {
        self.progress = self.progress.max(header.sequence + 1);
        self.latest_ns = header.timestamp_ns;
        let load = means.load().max(Load::of_held(means.held));
        let board = &mut self.analyser.board;
        board.bear(load);
        let journal = &self.journal;
        board.see(
            means.judge,
            journal.abreast.moment_of(header.sequence),
            header.timestamp_ns,
            |moment| journal.abreast.have_passed(moment),
        );
    }

    /// Handles the packet in the `hand`, which lies at `position` if it was held; and counts it, unless it is nobody's. Then the hand still has it.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room. The packet waits, and is done with.
    pub fn handle(
        &mut self,
        hand: &mut Box<Hand>,
        means: &mut Means<'_>,
        position: Option<Position>,
    ) -> Result<Offer, Full> {
        std::mem::swap(&mut self.hand, hand);
        let offer = self.look(means, position)?;
        if offer == Offer::Nobodys {
            std::mem::swap(&mut self.hand, hand);
        }
        if self.is_restored {
            self.flush(means)?;
        }
        Ok(offer)
    }

    /// The fragment at `position` is somebody else's.
    pub fn cede(&mut self, position: Position) {
        self.analyser.board.cede(position);
    }

    /// Adds where packets lie that need not be looked at again; since the last call.
    pub fn take_done(&mut self, done: &mut Vec<Position>) {
        self.analyser.board.take_done(done);
    }

    /// See [`Journal::keep`].
    pub fn keep(&mut self, position: u64, kind: u16, body: &[u8]) {
        let board = &mut self.analyser.board;
        self.journal.keep(position, kind, body, board);
    }

    /// A datagram that came in fragments and is of no call, once.
    pub fn take_ceded(&mut self) -> Option<Ceded> {
        self.ceded.take()
    }

    /// Before a commit: tells what has changed, and counts what happened.
    pub fn report(&mut self, means: &mut Means<'_>) {
        self.note_progress(means.commit);
        self.fragments.expire(self.analyser.board.calls().now_ns());
        self.give_up_fragments(means);
        let board = &mut self.analyser.board;
        self.journal.tell(means.calls, board, &self.to_tell);
        forget_before(&mut self.told, board.oldest());
        forget_before(&mut self.parts_of, board.oldest());
        forget_before(&mut self.endings, board.oldest());
        self.analyser.tidy(means.commit);
        let kept_back = self.kept_back.counter(means.judge);
        let commit = &mut *means.commit;

        let (now, before) = (self.analyser.counts(), self.reported.analyser);
        commit.add(Counter::SipMessages, now.messages - before.messages);
        commit.add(Counter::SipMalformed, now.malformed - before.malformed);
        commit.add(Counter::RtpPackets, now.media - before.media);
        self.reported.analyser = now;

        let (now, before) = (*self.fragments.counts(), self.reported.fragments);
        commit.add(
            Counter::FragmentsCompleted,
            now.completed - before.completed,
        );
        self.reported.fragments = now;

        let (now, before) = (*self.analyser.streams.counts(), self.reported.streams);
        commit.add(Counter::TcpSegmentsLost, now.gaps - before.gaps);
        self.reported.streams = now;

        let (now, before) = (self.analyser.streams.given_up(), self.reported.given_up);
        commit.add(Counter::TcpOutOfMemory, now - before);
        self.reported.given_up = now;

        let board = &self.analyser.board;
        let (now, before) = (board.calls().counts(), self.reported.calls);
        commit.add(Counter::CallsStarted, now.started - before.started);
        commit.add(Counter::CallsMatched, now.matched - before.matched);
        commit.add(Counter::CallsEnded, now.ended - before.ended);
        commit.add(Counter::CallsTimedOut, now.timed_out - before.timed_out);
        commit.add(Counter::CallsEvicted, now.evicted - before.evicted);
        commit.add(Counter::RtpLost, now.lost - before.lost);
        commit.add(Counter::RtpReordered, now.reordered - before.reordered);
        commit.add(Counter::RtpEvents, now.events - before.events);
        commit.add(Counter::RtpNoise, now.noise - before.noise);
        commit.add(Counter::CallsIncomplete, now.incomplete - before.incomplete);
        commit.add(Counter::LostOfCalls, now.lost_by_us - before.lost_by_us);
        self.reported.calls = now;

        let (now, before) = (board.tally(), self.reported.tally);
        let released = now.released - before.released;
        commit.add(Counter::HeldReleased, released);
        commit.add(kept_back, released);
        commit.add(Counter::HeldDropped, now.dropped - before.dropped);
        self.reported.tally = now;
    }

    /// Takes note of what is to be told of this worker's progress, if anything is.
    fn note_progress(&mut self, commit: &WorkerCommit) {
        self.to_tell.clear();
        if self.is_exact {
            let progress = self.is_awaited().then_some(self.progress);
            return self.to_tell.extend(progress);
        }
        let now_ns = self.analyser.board.calls().now_ns();
        if self.is_idle || now_ns >= self.told_ns + TELL_EVERY_NS {
            (self.is_idle, self.told_ns) = (false, now_ns);
            // What is committed is told. So is the rest, in the next commit.
            self.to_tell
                .extend((0..self.queues).map(|queue| commit.rx_tail(queue)));
        }
    }

    /// Goes on where a predecessor stopped: learns what it told. What it held comes next.
    pub fn begin_to_restore(&mut self, means: &mut Means<'_>) {
        self.journal.restore(means.calls, &mut self.analyser.board);
        self.restore_endings(means);
        self.analyser.streams.resume(true);
    }

    /// What the hand holds, which lies at `position`, is told of a message apart from its packet; `is_live` says which packets wait.
    pub fn recall_apart(
        &mut self,
        hand: &mut Box<Hand>,
        position: Position,
        is_live: impl Fn(Position) -> bool,
    ) {
        std::mem::swap(&mut self.hand, hand);
        self.restore_apart(position, is_live);
    }

    /// All that was held has been looked at.
    pub fn end_to_restore(&mut self, means: &mut Means<'_>) {
        self.analyser.streams.resume(false);
        // What is known of these packets and calls was counted when they came.
        self.reported.analyser = self.analyser.counts();
        self.reported.fragments = *self.fragments.counts();
        self.reported.streams = *self.analyser.streams.counts();
        let now = self.analyser.board.calls().counts();
        let before = &mut self.reported.calls;
        (before.started, before.matched) = (now.started, now.matched);
        (before.events, before.noise) = (now.events, now.noise);
        self.is_restored = true;
        for (call, link_type, record) in std::mem::take(&mut self.late) {
            self.hold_apart(means, call, link_type, &record);
        }
    }

    /// Finds out whose the packet in the hand is, and forwards, holds or drops it. It lies at `position` if it was held.
    fn look(&mut self, means: &mut Means<'_>, position: Option<Position>) -> Result<Offer, Full> {
        let header = self.hand.header;
        if self.hand.decoded.fragment {
            self.look_at_fragment(means, position);
            return Ok(Offer::Taken);
        }
        if Analyser::carries_many(&self.hand.decoded) {
            return self.look_at_carrier(means, position);
        }
        let found = self.analyser.look(means.judge, &self.hand.sight());
        let outcome = match found {
            None => return Ok(Offer::Nobodys),
            Some((Ruling { call, fate }, part)) => match fate {
                Fate::Unwanted => self.kept_back.counter(means.judge),
                Fate::Wait => {
                    self.hold(means, call, part, position);
                    return Ok(Offer::Taken);
                }
                Fate::Shed if position.is_none() => Counter::ShedByCall,
                Fate::NoRoom | Fate::Shed => {
                    self.leave(position);
                    let was_held = u64::from(position.is_none());
                    means.commit.add(Counter::Held, was_held);
                    means.commit.add(Counter::HeldDropped, 1);
                    return Ok(Offer::Taken);
                }
                Fate::Forward => match self.send(means, call, part, Says::Itself, &[]) {
                    Ok(outcome) => outcome,
                    Err(full) => {
                        self.hold(means, call, part, position);
                        return Err(full);
                    }
                },
            },
        };
        self.leave(position);
        means.count(outcome, position.is_some(), &header);
        Ok(Offer::Taken)
    }

    /// The packet in the hand waits no more, if it was held: a successor shall not look at it.
    fn leave(&mut self, position: Option<Position>) {
        if let Some(position) = position {
            self.analyser.board.pass_over(position);
        }
    }

    /// Has the fragment in the hand wait until its datagram is whole, and finds out whose that is. Its fragments are forwarded as they came.
    fn look_at_fragment(&mut self, means: &mut Means<'_>, position: Option<Position>) {
        let header = self.hand.header;
        let position = match position {
            Some(position) => position,
            None => match self.put_aside(means) {
                Ok(position) => position,
                Err(_) => return means.commit.add(Counter::HeldDropped, 1),
            },
        };
        let board = &mut self.analyser.board;
        board.park(position, header.captured_len);
        // As `report` sees it: packets' own times may leap.
        let now_ns = board.calls().now_ns();
        let offered = self.fragments.offer(
            &self.hand.decoded,
            self.hand.frame(),
            header.interface,
            now_ns,
            &[position],
        );
        match offered {
            Offered::Held => {}
            Offered::Refused(_) => {
                board.unpark(position);
                means.commit.add(Counter::FragmentsDropped, 1);
            }
            Offered::Again(serial) => {
                let is_it = |(known, _): &&(u64, CallRef)| *known == serial;
                match self.datagrams.iter().find(is_it) {
                    Some((_, call)) => {
                        let fate = board.fate(*call, header.captured_len);
                        let ruling = Ruling { call: *call, fate };
                        board.adopt(&[position], ruling);
                    }
                    None => board.unpark(position),
                }
            }
            Offered::Whole(whole) => {
                let serial = whole.serial;
                self.parts.clear();
                self.parts.extend_from_slice(whole.tokens);
                let time_ns = header.timestamp_ns;
                let inner = self
                    .esp
                    .borrow_mut()
                    .open(&whole.decoded, whole.bytes, time_ns);
                let decoded = inner.unwrap_or(whole.decoded);
                let sight = Sight {
                    header: &header,
                    decoded: &decoded,
                    frame: whole.bytes,
                };
                if Analyser::carries_many(sight.decoded) {
                    let heard = self.analyser.hear(means.judge, &sight, position);
                    self.parts.retain(|part| *part != position);
                    self.parts_of.insert(position, self.parts.clone());
                    // What finds no room in the tx ring waits.
                    let _ = self.place(means, Some(position), heard);
                    return self.give_up_fragments(means);
                }
                match self.analyser.look(means.judge, &sight) {
                    None if self.cedes => {
                        self.ceded = Some(Ceded {
                            header,
                            decoded,
                            bytes: whole.bytes.to_vec(),
                            parts: self.parts.clone(),
                        });
                    }
                    None => self
                        .parts
                        .iter()
                        .for_each(|part| self.analyser.board.unpark(*part)),
                    Some((ruling, part)) => {
                        let calls = self.analyser.board.calls();
                        let id = calls.get(ruling.call).map_or(&[][..], Call::id);
                        let mut blocks = Vec::new();
                        put_blocks(sight.decoded.payload_of(sight.frame), part, id, &mut blocks);
                        // The one that has the ports; what came first, if none has.
                        let (hand, esp) = (&mut self.hand, &self.esp);
                        let has_ports = |position: &&Position| {
                            let found = hand.recall(means.held, **position);
                            hand.decode();
                            hand.open(esp);
                            found.is_ok() && hand.decoded.ports.is_some()
                        };
                        let first = self.parts.iter().find(has_ports);
                        let first = *first.or(self.parts.first()).unwrap_or(&position);
                        self.told.insert(first, blocks);
                        self.analyser.board.adopt(&self.parts, ruling);
                        if self.datagrams.len() == MOST_DATAGRAMS {
                            self.datagrams.pop_front();
                        }
                        self.datagrams.push_back((serial, ruling.call));
                        self.fragments.remember(serial);
                    }
                }
            }
        }
        self.give_up_fragments(means);
    }

    /// Fragments whose datagram never became whole stand for themselves.
    fn give_up_fragments(&mut self, means: &mut Means<'_>) {
        for position in self.fragments.abandoned() {
            self.analyser.board.unpark(position);
            means.commit.add(Counter::FragmentsDropped, 1);
        }
    }

    /// Appends the packet in the hand to the log of held packets.
    fn put_aside(&mut self, means: &mut Means<'_>) -> Result<Position, Full> {
        means.commit.add(Counter::Held, 1);
        self.hand.put_aside(means.held)
    }

    /// Has the packet in the hand wait for the verdict on its call, or for room.
    fn hold(
        &mut self,
        means: &mut Means<'_>,
        call: CallRef,
        part: Part,
        position: Option<Position>,
    ) {
        let position = match position {
            Some(position) => Ok(position),
            None => self.put_aside(means),
        };
        let board = &mut self.analyser.board;
        let bytes = self.hand.header.captured_len;
        match (position, part) {
            (Ok(position), Part::Signalling) => board.hold(call, position, bytes),
            (Ok(position), Part::Media) => board.hold_media(call, position, bytes),
            (Err(_), _) => {
                means.commit.add(Counter::HeldDropped, 1);
                board.shed(call);
            }
        }
    }

    /// Forwards what has waited for calls that are wanted now.
    fn flush(&mut self, means: &mut Means<'_>) -> Result<(), Full> {
        while let Some(waiting) = self.analyser.board.ready() {
            let Waiting {
                position, owner, ..
            } = waiting;
            let outcome = match self.hand.recall(means.held, position) {
                Ok(Some((start, _))) if start == position => {
                    means.worker.set_in_progress(Some(self.hand.identity()));
                    if self.hand.is_apart {
                        self.send_held_apart(means, owner)?;
                        self.analyser.board.forwarded(owner);
                        continue;
                    }
                    self.hand.decode();
                    self.hand.open(&self.esp);
                    let part = analyser::part_of(&self.hand.sight());
                    let sharers = self.analyser.board.sharers(position);
                    let sharers = sharers.map(<[CallRef]>::to_vec).unwrap_or_default();
                    self.send(means, owner, part, Says::Held(position), &sharers)?
                }
                _ => Counter::CorruptRecords,
            };
            means.count(outcome, true, &self.hand.header);
            self.analyser.board.forwarded(owner);
        }
        Ok(())
    }

    /// Puts the packet in the hand into the tx ring, with what is told of its call, and the ids of its filters and of those of `sharers`. What became of it.
    fn send(
        &mut self,
        means: &mut Means<'_>,
        call: CallRef,
        part: Part,
        says: Says,
        sharers: &[CallRef],
    ) -> Result<Counter, Full> {
        if self.is_shed(means, call, part) {
            return Ok(Counter::ShedByCall);
        }
        let sight = self.hand.sight();
        let protocol = self.analyser.describe(&sight, part);
        self.analyser.describe_call(call, &sight, part, protocol);
        let details = self.analyser.details();
        let calls = self.analyser.board.calls();
        let Some(found) = calls.get(call) else {
            return Ok(Counter::FilteredNoMatch);
        };
        let payload = sight.decoded.payload_of(sight.frame);
        let told = match says {
            Says::Held(position) => self.told.get(&position),
            Says::Itself | Says::Prepared => None,
        };
        if says != Says::Prepared {
            self.blocks.clear();
            match told {
                Some(told) => self.blocks.extend_from_slice(told),
                None if Analyser::carries_many(sight.decoded) || sight.decoded.fragment => {
                    put_call_id(found.id(), &mut self.blocks);
                }
                None => put_blocks(payload, part, found.id(), &mut self.blocks),
            }
        }
        let mut all = None;
        for sharer in sharers.iter().filter(|sharer| **sharer != call) {
            let is_wanted = |call: &&Call| call.standing() >= Standing::Passed;
            for id in calls
                .get(*sharer)
                .filter(is_wanted)
                .iter()
                .flat_map(|call| call.ids().iter())
            {
                all.get_or_insert_with(|| found.ids().clone()).add(id);
            }
        }
        let outgoing = Outgoing {
            header: sight.header,
            decoded: sight.decoded,
            interface_name: means.interfaces.get(means.session, sight.header.interface),
            described: Described {
                protocol,
                info: details.info(),
                details: details.encoded(),
                blocks: &self.blocks,
            },
            tls_keys: &[],
        };
        let judged = Judged {
            ids: all.as_ref().unwrap_or(found.ids()).iter(),
            priority: priority(found, part),
        };
        let ordinal = means.commit.get(Counter::Forwarded);
        match emit(means.tx, ordinal, outgoing, judged, |bytes| {
            bytes.copy_from_slice(sight.frame);
        }) {
            Ok(()) => {
                let is_matched = found.standing() == Standing::Matched;
                means.commit.add(Counter::Matched, is_matched.into());
                Ok(Counter::Forwarded)
            }
            Err(Full::Always) => Ok(Counter::LostTooLong),
            Err(Full::Now) => Err(Full::Now),
        }
    }

    /// Puts what is told of a message into the tx ring, without its packet. What finds no room for being shed, or too long, is not told.
    fn send_apart(
        &mut self,
        means: &mut Means<'_>,
        call: CallRef,
        header: &PacketHeader,
        decoded: &Decoded,
        block: &[u8],
    ) -> Result<(), Full> {
        if self.is_shed(means, call, Part::Signalling) {
            return Ok(());
        }
        let Some(found) = self.analyser.board.calls().get(call) else {
            return Ok(());
        };
        let outgoing = Outgoing {
            header,
            decoded,
            interface_name: means.interfaces.get(means.session, header.interface),
            described: Described {
                protocol: Protocol::Sip.name(),
                info: "",
                details: &[],
                blocks: block,
            },
            tls_keys: &[],
        };
        let judged = Judged {
            ids: found.ids().iter(),
            priority: priority(found, Part::Signalling),
        };
        let ordinal = means.commit.get(Counter::Forwarded);
        match emit(means.tx, ordinal, outgoing, judged, |_| {}) {
            Ok(()) => {
                means.commit.add(Counter::Forwarded, 1);
                means.commit.add(Counter::ToldApart, 1);
                Ok(())
            }
            Err(Full::Always) => {
                self.analyser.board.shed(call);
                Ok(())
            }
            Err(Full::Now) => Err(Full::Now),
        }
    }

    /// Whether what is to be sent of a call that nothing asked for is dropped, since there is too much to do.
    fn is_shed(&mut self, means: &mut Means<'_>, call: CallRef, part: Part) -> bool {
        let is_passed = |call: &Call| call.standing() == Standing::Passed;
        let calls = self.analyser.board.calls();
        let is_passed = calls.get(call).is_some_and(is_passed);
        let least = match part {
            Part::Media => Load::Heavy,
            Part::Signalling => Load::Extreme,
        };
        let is_shed = is_passed && means.load() >= least;
        if is_shed {
            self.analyser.board.shed(call);
        }
        is_shed
    }
}

/// How urgent what is sent of a call is.
fn priority(call: &Call, part: Part) -> Priority {
    match (call.standing(), part) {
        (Standing::Matched, _) | (_, Part::Signalling) => Priority::High,
        _ => Priority::Normal,
    }
}
