//! What a worker does with packets where calls are followed.
//!
//! ```text
//!   rx ring -> analyser: whose is it? -+-> its call is wanted -------> tx ring
//!                                      +-> undecided: held ----------> tx ring, or nowhere, when its call is decided
//!                                      +-> nobody's, or unwanted ----> nowhere
//! ```
//!
//! Everything happens between two commits of the worker: what was held, told of calls, and put into the tx ring stands in the same commit as the place of the
//! rx ring that it came from. So a successor learns what was told, looks once more at what is held ([`Desk::round`] does so first), and goes on with the
//! rx ring: each packet is forwarded once.
//!
//! Each packet is looked at once. One that finds the tx ring full is held, although its call is wanted, and goes first when there is room.
//!
//! The log of held packets is used from end to end, so what lies in front must go for the rest to move on. When it is three quarters full, what is worth least goes
//! ([`Worth`]), and what is worth more is appended again, behind all others; it keeps its order.

use std::collections::{BTreeMap, HashSet};

use lc_daemon::attach::Peer;
use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::log::{LogBounds, LogError, LogWriter};
use shm_layout::packet::{HEADER_BYTES, PacketHeader};
use shm_layout::region::{OwnedRegion, Region};
use shm_layout::ring::{Full, RingWriter};
use shm_layout::session::Session;
use shm_layout::shared_bytes::SharedBytes;
use shm_layout::wire::Priority;
use shm_layout::worker::{InProgress, Worker, WorkerCommit};

use super::analyser::{self, Analyser, Part, Sight, put_blocks};
use super::call::Call;
use super::calls::{self, CallRef};
use super::held::{Order, Position, Waiting};
use super::journal::Journal;
use super::load::{Load, Worth};
use super::switchboard::{Fate, Judge, Put, Ruling, Tally};
use super::verdict::Standing;
use crate::decode::{Decoded, decode};
use crate::describe::Described;
use crate::emit::{Judged, Outgoing, emit};
use crate::fragments::{self, Fragments, Limits, Offered};
use crate::interfaces::InterfaceNames;
use crate::matcher::{Fields, Matches, Verdict};

/// Packets that a worker may be ahead of the slowest one while it waits for that one.
const MOST_AHEAD: u64 = 512;
/// Time between two packets, in nanoseconds, that is a leap.
const LEAP_NS: u64 = 1_000_000_000;
/// The same if no packet waits: what others told of calls that are yet to come here would be forgotten.
const LONG_LEAP_NS: u64 = 10_000_000_000;
/// Bytes in front of a held packet: its capture thread, its order and its header. Its link type is the kind of its record.
const HELD_HEAD: usize = 2 + 8 + HEADER_BYTES;
/// Most packets that are appended again at a time, to make room.
const MOST_MOVED: usize = 256;
/// As many messages in fragments are told of before it is looked which of them still wait.
const MANY_TOLD: usize = 64;

/// See the [module](self).
pub struct Desk {
    analyser: Analyser,
    journal: Journal,
    hand: Hand,
    /// To judge nothing, for the sake of the policy.
    matches: Matches,
    blocks: Vec<u8>,
    fragments: Fragments,
    /// What is told of held packets that don't tell it themselves, because their message or datagram goes on in others.
    told: BTreeMap<Order, Vec<u8>>,
    /// So many of them are kept before it is looked which still wait.
    most_told: usize,
    /// What was put together.
    parts: Vec<Order>,
    /// While room is made for held packets: what goes, and up to where nothing else was found.
    making_room: (Worth, Position),
    /// Whether a held packet was passed over because it is condemned.
    has_passed_over: bool,
    reported: Reported,
    /// Up to which number this worker is done with packets.
    progress: u64,
    is_restored: bool,
    /// Whether verdicts shall not depend on how far the workers have come.
    is_exact: bool,
    /// When the last packet was captured, in nanoseconds.
    latest_ns: u64,
    /// The packet that has to wait until all other workers have come to it.
    awaits: Option<u64>,
}

/// The packet at hand, copied out of shared memory.
struct Hand {
    queue: u16,
    /// Which came before it, if it is held.
    order: Order,
    header: PacketHeader,
    /// Its bytes, and perhaps more behind them.
    frame: Vec<u8>,
    decoded: Decoded,
    /// A record of the log of held packets.
    record: Vec<u8>,
}

/// Where the packet in the hand lies, if it is held, and which came before it.
type Place = (Position, Order);

/// What was counted up to the last report.
#[derive(Default)]
struct Reported {
    analyser: analyser::Counts,
    fragments: fragments::Counts,
    calls: calls::Counts,
    tally: Tally,
}

/// What a worker lends its desk.
pub struct Means<'a> {
    /// The filters in force.
    pub judge: Judge<'a>,
    /// Names of interfaces.
    pub interfaces: &'a mut InterfaceNames,
    /// Where they stand.
    pub session: &'a Region<Session>,
    /// Where the packet in hand is noted.
    pub worker: &'a OwnedRegion<Worker>,
    /// Where packets go.
    pub tx: &'a mut RingWriter,
    /// Where packets wait.
    pub held: &'a mut LogWriter,
    /// Where calls are told of.
    pub calls: &'a mut LogWriter,
    /// What other workers tell.
    pub peers: &'a mut [Peer],
    /// Counters.
    pub commit: &'a mut WorkerCommit,
    /// Bytes of the tx ring that signalling which nothing asked for leaves free; such media leave twice as much. 0: nothing is shed.
    pub kept_bytes: u64,
    /// How much there is to do, as the rx rings say.
    pub load: Load,
    /// Packets that the capture has lost so far, of any call.
    pub lost_by_capture: u64,
    /// The packet that killed predecessors.
    pub condemned: Option<InProgress>,
}

impl Desk {
    /// With as many other workers as there are `peers`. If it `is_exact`, verdicts don't depend on how far each has come.
    #[must_use]
    pub fn new(analyser: Analyser, peers: usize, is_exact: bool) -> Self {
        Self {
            analyser,
            journal: Journal::new(peers),
            hand: Hand {
                queue: 0,
                order: 0,
                header: PacketHeader::from_bytes(0, &[0; HEADER_BYTES]),
                frame: Vec::new(),
                decoded: Decoded::default(),
                record: Vec::new(),
            },
            matches: Matches::default(),
            blocks: Vec::new(),
            fragments: Fragments::new(Limits::default()),
            told: BTreeMap::new(),
            most_told: MANY_TOLD,
            making_room: (Worth::Media, 0),
            has_passed_over: false,
            parts: Vec::new(),
            reported: Reported::default(),
            progress: 0,
            is_restored: false,
            is_exact,
            latest_ns: 0,
            awaits: None,
        }
    }

    /// To be called before the rx rings are read, and often: learns from others, decides on calls, forwards what has waited, and makes room for more. With `at_end`, all calls are decided
    /// on, since no more packets come.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room.
    pub fn round(&mut self, means: &mut Means<'_>, at_end: bool) -> Result<(), Full> {
        if !std::mem::replace(&mut self.is_restored, true) {
            self.restore(means);
        }
        let board = &mut self.analyser.board;
        board.lost_by_capture(means.lost_by_capture);
        self.journal.learn(means.peers, board);
        board.compare_some(means.judge);
        let journal = &self.journal;
        board.decide(means.judge, |sequence| journal.have_passed(sequence));
        if at_end {
            board.give_up(means.judge);
        }
        self.flush(means)?;
        self.make_room(means);
        Ok(())
    }

    /// Sees to it that a batch finds room for what it holds.
    fn make_room(&mut self, means: &mut Means<'_>) {
        let most = means.held.capacity() / 4 * 3;
        let mut moved = 0;
        while means.held.used() > most {
            let board = &mut self.analyser.board;
            let Some((front, worth)) = board.front() else {
                break;
            };
            release(means.held, Some(front.position));
            let (goes, until) = &mut self.making_room;
            if front.position >= *until {
                *goes = match goes {
                    _ if *until == 0 => Worth::Media,
                    Worth::Media => Worth::Signalling,
                    // All that waits is wanted, and waits for the processor.
                    Worth::Signalling | Worth::Wanted => Worth::Wanted,
                };
                *until = means.held.head().max(1);
            }
            if *goes == Worth::Wanted || means.held.used() <= most {
                break;
            }
            if worth <= *goes {
                if !board.drop_front() {
                    break;
                }
                continue;
            }
            let room = self.hand.recall(means.held, front.position).is_ok();
            let room = room.then(|| self.hand.append(means.held));
            let Some(Ok(position)) = room.filter(|_| moved < MOST_MOVED) else {
                break;
            };
            self.analyser.board.moved(position);
            moved += 1;
        }
        release(means.held, self.analyser.board.oldest());
        if means.held.used() <= most {
            self.making_room = (Worth::Media, 0);
        }
    }

    /// The packets' time goes on with the clock, as nothing comes: `silence_ns` after the last packet.
    pub fn tick(&mut self, means: &mut Means<'_>, silence_ns: u64) {
        if self.is_restored && self.latest_ns > 0 {
            let journal = &self.journal;
            self.analyser.board.see(
                means.judge,
                self.progress.saturating_sub(1),
                self.latest_ns + silence_ns,
                |sequence| journal.have_passed(sequence),
            );
        }
    }

    /// Whether a held packet was passed over because it is condemned.
    has_passed_over: bool,
    reported: Reported,
    /// Up to which number this worker is done with packets.
    progress: u64,
    is_restored: bool,
    /// Whether verdicts shall not depend on how far the workers have come.
    is_exact: bool,
    /// When the last packet was captured, in nanoseconds.
    latest_ns: u64,
    /// The packet that has to wait until all other workers have come to it.
    awaits: Option<u64>,
}

/// The packet at hand, copied out of shared memory.
struct Hand {
    queue: u16,
    /// Which came before it, if it is held.
    order: Order,
    header: PacketHeader,
    /// Its bytes, and perhaps more behind them.
    frame: Vec<u8>,
    decoded: Decoded,
    /// A record of the log of held packets.
    record: Vec<u8>,
}

/// Where the packet in the hand lies, if it is held, and which came before it.
type Place = (Position, Order);

/// What was counted up to the last report.
#[derive(Default)]
struct Reported {
    analyser: analyser::Counts,
    fragments: fragments::Counts,
    calls: calls::Counts,
    tally: Tally,
}

/// What a worker lends its desk.
pub struct Means<'a> {
    /// The filters in force.
    pub judge: Judge<'a>,
    /// Names of interfaces.
    pub interfaces: &'a mut InterfaceNames,
    /// Where they stand.
    pub session: &'a Region<Session>,
    /// Where the packet in hand is noted.
    pub worker: &'a OwnedRegion<Worker>,
    /// Where packets go.
    pub tx: &'a mut RingWriter,
    /// Where packets wait.
    pub held: &'a mut LogWriter,
    /// Where calls are told of.
    pub calls: &'a mut LogWriter,
    /// What other workers tell.
    pub peers: &'a mut [Peer],
    /// Counters.
    pub commit: &'a mut WorkerCommit,
    /// Bytes of the tx ring that signalling which nothing asked for leaves free; such media leave twice as much. 0: nothing is shed.
    pub kept_bytes: u64,
    /// How much there is to do, as the rx rings say.
    pub load: Load,
    /// Packets that the capture has lost so far, of any call.
    pub lost_by_capture: u64,
    /// The packet that killed predecessors.
    pub condemned: Option<InProgress>,
}

impl Desk {
    /// With as many other workers as there are `peers`. If it `is_exact`, verdicts don't depend on how far each has come.
    #[must_use]
    pub fn new(analyser: Analyser, peers: usize, is_exact: bool) -> Self {
        Self {
            analyser,
            journal: Journal::new(peers),
            hand: Hand {
                queue: 0,
                order: 0,
                header: PacketHeader::from_bytes(0, &[0; HEADER_BYTES]),
                frame: Vec::new(),
                decoded: Decoded::default(),
                record: Vec::new(),
            },
            matches: Matches::default(),
            blocks: Vec::new(),
            fragments: Fragments::new(Limits::default()),
            told: BTreeMap::new(),
            most_told: MANY_TOLD,
            making_room: (Worth::Media, 0),
            has_passed_over: false,
            parts: Vec::new(),
            reported: Reported::default(),
            progress: 0,
            is_restored: false,
            is_exact,
            latest_ns: 0,
            awaits: None,
        }
    }

    /// To be called before the rx rings are read, and often: learns from others, decides on calls, forwards what has waited, and makes room for more. With `at_end`, all calls are decided
    /// on, since no more packets come.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room.
    pub fn round(&mut self, means: &mut Means<'_>, at_end: bool) -> Result<(), Full> {
        if !std::mem::replace(&mut self.is_restored, true) {
            self.restore(means);
        }
        let board = &mut self.analyser.board;
        board.lost_by_capture(means.lost_by_capture);
        self.journal.learn(means.peers, board);
        board.compare_some(means.judge);
        let journal = &self.journal;
        board.decide(means.judge, |sequence| journal.have_passed(sequence));
        if at_end {
            board.give_up(means.judge);
        }
        self.flush(means)?;
        self.make_room(means);
        Ok(())
    }

    /// Sees to it that a batch finds room for what it holds.
    fn make_room(&mut self, means: &mut Means<'_>) {
        let most = means.held.capacity() / 4 * 3;
        let mut moved = 0;
        while means.held.used() > most {
            let board = &mut self.analyser.board;
            let Some((front, worth)) = board.front() else {
                break;
            };
            release(means.held, Some(front.position));
            let (goes, until) = &mut self.making_room;
            if front.position >= *until {
                *goes = match goes {
                    _ if *until == 0 => Worth::Media,
                    Worth::Media => Worth::Signalling,
                    // All that waits is wanted, and waits for the processor.
                    Worth::Signalling | Worth::Wanted => Worth::Wanted,
                };
                *until = means.held.head().max(1);
            }
            if *goes == Worth::Wanted || means.held.used() <= most {
                break;
            }
            if worth <= *goes {
                if !board.drop_front() {
                    break;
                }
                continue;
            }
            let room = self.hand.recall(means.held, front.position).is_ok();
            let room = room.then(|| self.hand.append(means.held));
            let Some(Ok(position)) = room.filter(|_| moved < MOST_MOVED) else {
                break;
            };
            self.analyser.board.moved(position);
            moved += 1;
        }
        release(means.held, self.analyser.board.oldest());
        if means.held.used() <= most {
            self.making_room = (Worth::Media, 0);
        }
    }

    /// The packets' time goes on with the clock, as nothing comes: `silence_ns` after the last packet.
    pub fn tick(&mut self, silence_ns: u64) {
        if self.is_restored && self.latest_ns > 0 {
            let board = &mut self.analyser.board;
            board.see(self.progress.saturating_sub(1), self.latest_ns + silence_ns);
        }
    }

    /// Whether a held packet was passed over because it is condemned.
    #[must_use]
    pub fn has_passed_over(&self) -> bool {
        self.has_passed_over
    }

    /// Whether packets wait for a verdict.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.analyser.board.has_waiting()
    }

    /// Whether this worker has to wait until the slowest one has come further.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        let Some(slowest) = self.journal.slowest().filter(|_| self.is_exact) else {
            return false;
        };
        let is_awaited = self.awaits.is_some_and(|sequence| slowest < sequence);
        let waits = self.analyser.board.waits_for().is_some();
        is_awaited || waits && self.progress > slowest + MOST_AHEAD
    }

    /// Whether the packet in the hand can be handled. Where time leaps, packets that wait would be given up for their age, although the others only have to come as far: this packet has to
    /// come again when [`Desk::is_ahead`] says so.
    pub fn is_due(&mut self) -> bool {
        let PacketHeader {
            sequence,
            timestamp_ns,
            ..
        } = self.hand.header;
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
        self.is_exact && self.journal.slowest().is_some()
    }

    /// Whether all workers are done with the packets before `sequence`.
    #[must_use]
    pub fn have_all_passed(&self, sequence: u64) -> bool {
        let slowest = self.journal.slowest();
        self.progress >= sequence && slowest.is_none_or(|slowest| slowest >= sequence)
    }

    /// There is nothing for this worker before packet `sequence`.
    pub fn passed(&mut self, sequence: u64) {
        self.progress = self.progress.max(sequence);
    }

    /// Takes a packet into its hand, to be handled next.
    pub fn take(&mut self, identity: InProgress, header: PacketHeader, data: &SharedBytes<'_>) {
        let frame = self.hand.room(data.len());
        data.copy_to(frame);
        self.hand.queue = u16::from(identity.queue);
        self.hand.header = header;
    }

    /// Handles the packet in its hand, and counts it.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room. The packet waits, and is done with.
    pub fn handle(&mut self, means: &mut Means<'_>) -> Result<(), Full> {
        let bytes = u64::from(self.hand.header.captured_len);
        means.commit.add(Counter::Received, 1);
        means.commit.add(Counter::ReceivedBytes, bytes);
        let load = self.load(means).max(Load::of_held(means.held));
        self.analyser.board.bear(load);
        self.look(means, None)?;
        self.flush(means)
    }

    /// Before a commit: tells what has changed, and counts what happened.
    pub fn report(&mut self, means: &mut Means<'_>) {
        let progress = self.is_awaited().then_some(self.progress);
        self.fragments.expire(self.analyser.board.calls().now_ns());
        self.give_up_fragments(means);
        let board = &mut self.analyser.board;
        self.journal.tell(means.calls, board, progress);
        release(means.held, board.oldest());
        if self.told.len() > self.most_told {
            let waiting: HashSet<Order> = board.all_waiting().map(|packet| packet.order).collect();
            self.told.retain(|order, _| waiting.contains(order));
            self.most_told = MANY_TOLD.max(2 * self.told.len());
        }
        self.analyser.tidy(means.commit);
        let kept_back = self.kept_back(means);
        let commit = &mut *means.commit;
        commit.set_calls(means.calls.bounds());
        commit.set_held(means.held.bounds());

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

        let board = &self.analyser.board;
        let (now, before) = (board.calls().counts(), self.reported.calls);
        commit.add(Counter::CallsStarted, now.started - before.started);
        commit.add(Counter::CallsMatched, now.matched - before.matched);
        commit.add(Counter::CallsEnded, now.ended - before.ended);
        commit.add(Counter::CallsTimedOut, now.timed_out - before.timed_out);
        commit.add(Counter::CallsEvicted, now.evicted - before.evicted);
        commit.add(Counter::RtpLost, now.lost - before.lost);
        commit.add(Counter::RtpReordered, now.reordered - before.reordered);
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

    /// Goes on where a predecessor stopped: learns what it told, and looks at the packets that it held once more, in the order in which they came.
    fn restore(&mut self, means: &mut Means<'_>) {
        let done = self.journal.restore(means.calls, &mut self.analyser.board);
        let mut places = Vec::new();
        let mut position = means.held.tail();
        loop {
            match self.hand.recall(means.held, position) {
                Ok(None) => break,
                Ok(Some((start, end))) => {
                    if !done.contains(&start) {
                        let put = self.hand.put(start, true);
                        self.analyser.board.park(put);
                        places.push((self.hand.order, start));
                    }
                    position = end;
                }
                Err(error) => {
                    tracing::warn!(%error, "the log of held packets is damaged; what stands behind is forgotten");
                    break;
                }
            }
        }
        places.sort_unstable();
        for (order, position) in places {
            self.restore_one(means, (position, order));
        }
        // The predecessor counted them.
        self.reported.analyser = self.analyser.counts();
        self.reported.fragments = *self.fragments.counts();
        let calls = self.analyser.board.calls().counts();
        let before = &mut self.reported.calls;
        (before.started, before.matched) = (calls.started, calls.matched);
    }

    /// Looks at a held packet once more.
    fn restore_one(&mut self, means: &mut Means<'_>, place: Place) {
        let (position, order) = place;
        if self.hand.recall(means.held, position).is_err() {
            return;
        }
        if means.condemned == Some(self.hand.identity()) {
            self.analyser.board.pass_over(order);
            self.has_passed_over = true;
            means.commit.add(Counter::Quarantined, 1);
            means.commit.add(Counter::HeldReleased, 1);
            return;
        }
        // What finds no room in the tx ring waits where it lies.
        let _ = self.look(means, Some(place));
    }

    /// Finds out whose the packet in the hand is, and forwards, holds or drops it. It has a `place` if it was held.
    fn look(&mut self, means: &mut Means<'_>, place: Option<Place>) -> Result<(), Full> {
        means.worker.set_in_progress(Some(self.hand.identity()));
        let header = self.hand.header;
        self.progress = self.progress.max(header.sequence + 1);
        self.latest_ns = header.timestamp_ns;
        self.hand.decode();
        let decoded = &self.hand.decoded;
        if place.is_none() {
            means
                .commit
                .add(Counter::Fragments, decoded.fragment.into());
            if let Some(fault) = decoded.fault {
                means.commit.add(fault.counter(), 1);
            }
        }
        let board = &mut self.analyser.board;
        let journal = &self.journal;
        board.see(
            means.judge,
            header.sequence,
            header.timestamp_ns,
            |sequence| journal.have_passed(sequence),
        );
        if self.hand.decoded.fragment {
            self.look_at_fragment(means, place);
            return Ok(());
        }
        let found = self.analyser.look(means.judge, &self.hand.sight());
        let outcome = match found {
            None => self.kept_back(means),
            Some((Ruling { call, fate }, part)) => match fate {
                Fate::Unwanted => self.kept_back(means),
                Fate::Wait => {
                    self.hold(means, call, part, place);
                    return Ok(());
                }
                Fate::Shed if place.is_none() => Counter::ShedByCall,
                Fate::NoRoom | Fate::Shed => {
                    let was_held = self.leave(place);
                    means.commit.add(Counter::Held, (!was_held).into());
                    means.commit.add(Counter::HeldDropped, 1);
                    return Ok(());
                }
                Fate::Forward => match self.send(means, call, part, None) {
                    Ok(outcome) => outcome,
                    Err(full) => {
                        self.hold(means, call, part, place);
                        return Err(full);
                    }
                },
            },
        };
        let was_held = self.leave(place);
        count(means.commit, outcome, was_held, &header);
        Ok(())
    }

    /// The packet in the hand waits no more, if it was held.
    fn leave(&mut self, place: Option<Place>) -> bool {
        if let Some((_, order)) = place {
            self.analyser.board.pass_over(order);
        }
        place.is_some()
    }

    /// Has the fragment in the hand wait until its datagram is whole, and finds out whose that is. Its fragments are forwarded as they came.
    fn look_at_fragment(&mut self, means: &mut Means<'_>, place: Option<Place>) {
        let header = self.hand.header;
        let order = match place {
            Some((_, order)) => order,
            None => match self.put_aside(means) {
                Ok(position) => {
                    let put = self.hand.put(position, true);
                    self.analyser.board.park(put);
                    put.order
                }
                Err(_) => return means.commit.add(Counter::HeldDropped, 1),
            },
        };
        let board = &mut self.analyser.board;
        // As `report` sees it: packets' own times may leap.
        let now_ns = board.calls().now_ns();
        let offered = self.fragments.offer(
            &self.hand.decoded,
            self.hand.frame(),
            header.interface,
            now_ns,
            &[order],
        );
        match offered {
            Offered::Held => {}
            Offered::Refused(_) => {
                board.unpark(order);
                means.commit.add(Counter::FragmentsDropped, 1);
            }
            Offered::Whole(whole) => {
                self.parts.clear();
                self.parts.extend_from_slice(whole.tokens);
                let sight = Sight {
                    header: &header,
                    decoded: &whole.decoded,
                    frame: whole.bytes,
                };
                match self.analyser.look(means.judge, &sight) {
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
                        let hand = &mut self.hand;
                        let board = &self.analyser.board;
                        let has_ports = |order: &&Order| {
                            let Some(position) = board.parked(**order) else {
                                return false;
                            };
                            let found = hand.recall(means.held, position);
                            hand.decode();
                            found.is_ok() && hand.decoded.ports.is_some()
                        };
                        let first = self.parts.iter().find(has_ports);
                        let first = *first.or(self.parts.first()).unwrap_or(&order);
                        self.told.insert(first, blocks);
                        self.analyser
                            .board
                            .adopt(&self.parts, ruling, part == Part::Media);
                    }
                }
            }
        }
        self.give_up_fragments(means);
    }

    /// Fragments whose datagram never became whole stand for themselves.
    fn give_up_fragments(&mut self, means: &mut Means<'_>) {
        for order in self.fragments.abandoned() {
            self.analyser.board.unpark(order);
            means.commit.add(Counter::FragmentsDropped, 1);
        }
    }

    /// Appends the packet in the hand to the log of held packets.
    fn put_aside(&mut self, means: &mut Means<'_>) -> Result<Position, Full> {
        means.commit.add(Counter::Held, 1);
        self.hand.order = means.held.head();
        self.hand.append(means.held)
    }

    /// Has the packet in the hand wait for the verdict on its call, or for room.
    fn hold(&mut self, means: &mut Means<'_>, call: CallRef, part: Part, place: Option<Place>) {
        if let Some((_, order)) = place {
            let ruling = Ruling {
                call,
                fate: Fate::Wait,
            };
            return self
                .analyser
                .board
                .adopt(&[order], ruling, part == Part::Media);
        }
        match self.put_aside(means) {
            Ok(position) => {
                let put = self.hand.put(position, part == Part::Media);
                self.analyser.board.hold(call, put);
            }
            Err(_) => {
                means.commit.add(Counter::HeldDropped, 1);
                self.analyser.board.shed(call);
            }
        }
    }

    /// Forwards what has waited for calls that are wanted now.
    fn flush(&mut self, means: &mut Means<'_>) -> Result<(), Full> {
        while let Some(waiting) = self.analyser.board.ready() {
            let Waiting {
                position,
                order,
                owner,
                ..
            } = waiting;
            let outcome = match self.hand.recall(means.held, position) {
                Ok(Some((start, _))) if start == position => {
                    means.worker.set_in_progress(Some(self.hand.identity()));
                    self.hand.decode();
                    let part = analyser::part_of(&self.hand.sight());
                    self.send(means, owner, part, Some(order))?
                }
                _ => Counter::CorruptRecords,
            };
            count(means.commit, outcome, true, &self.hand.header);
            self.analyser.board.forwarded(owner);
            self.told.remove(&order);
        }
        Ok(())
    }

    /// Puts the packet in the hand into the tx ring, with what is told of its call. What became of it.
    fn send(
        &mut self,
        means: &mut Means<'_>,
        call: CallRef,
        part: Part,
        order: Option<Order>,
    ) -> Result<Counter, Full> {
        let is_passed = |call: &Call| call.standing() == Standing::Passed;
        let calls = self.analyser.board.calls();
        let is_passed = calls.get(call).is_some_and(is_passed);
        let is_shed = match part {
            Part::Media => Load::Heavy,
            Part::Signalling => Load::Extreme,
        };
        if is_passed && self.load(means) >= is_shed {
            self.analyser.board.shed(call);
            return Ok(Counter::ShedByCall);
        }
        let sight = self.hand.sight();
        let protocol = self.analyser.describe(&sight, part);
        let details = self.analyser.details();
        let Some(found) = self.analyser.board.calls().get(call) else {
            return Ok(Counter::FilteredNoMatch);
        };
        let payload = sight.decoded.payload_of(sight.frame);
        self.blocks.clear();
        match order.and_then(|order| self.told.get(&order)) {
            Some(told) => self.blocks.extend_from_slice(told),
            None => put_blocks(payload, part, found.id(), &mut self.blocks),
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
        };
        let judged = Judged {
            ids: found.ids().iter(),
            priority: match (found.standing(), part) {
                (Standing::Matched, _) | (_, Part::Signalling) => Priority::High,
                _ => Priority::Normal,
            },
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

    /// How much there is to do.
    #[inline]
    fn load(&self, means: &mut Means<'_>) -> Load {
        let tx = Load::of_tx(means.tx, means.kept_bytes);
        tx.max(means.load)
    }

    /// How packets count that nobody asks for.
    fn kept_back(&mut self, means: &Means<'_>) -> Counter {
        let Judge {
            filters,
            bpf_active,
        } = means.judge;
        let nothing = (&Decoded::default(), &Fields::default());
        match filters.judge(nothing.0, nothing.1, bpf_active, &mut self.matches) {
            Verdict::Denied => Counter::FilteredByPolicy,
            _ => Counter::FilteredNoMatch,
        }
    }
}

impl Hand {
    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.frame.len() < len {
            self.frame.resize(len, 0);
        }
        &mut self.frame[..len]
    }

    fn frame(&self) -> &[u8] {
        let len = self.header.captured_len as usize;
        self.frame.get(..len).unwrap_or(&self.frame)
    }

    fn identity(&self) -> InProgress {
        InProgress::new(usize::from(self.queue), self.header.sequence)
    }

    fn decode(&mut self) {
        #[cfg(debug_assertions)]
        crate::poison::taste(self.frame());
        self.decoded = decode(self.header.link_type, self.frame());
    }

    fn sight(&self) -> Sight<'_> {
        Sight {
            header: &self.header,
            decoded: &self.decoded,
            frame: self.frame(),
        }
    }

    /// Appends the packet to the log of held packets, in its order.
    fn append(&self, held: &mut LogWriter) -> Result<Position, Full> {
        let parts = [
            &self.queue.to_le_bytes()[..],
            &self.order.to_le_bytes(),
            &self.header.to_bytes(),
            self.frame(),
        ];
        held.append(self.header.link_type, &parts)
    }

    /// The packet, which lies at `position`.
    fn put(&self, position: Position, is_media: bool) -> Put {
        Put {
            position,
            order: self.order,
            bytes: self.header.captured_len,
            is_media,
        }
    }

    /// Takes the held packet at `position`, or behind the padding there. Where it starts and ends; `None` where there is none any more.
    fn recall(
        &mut self,
        held: &LogWriter,
        position: Position,
    ) -> Result<Option<(Position, Position)>, LogError> {
        let Some(record) = held.read(position, &mut self.record)? else {
            return Ok(None);
        };
        let (start, end, link_type) = (record.position, record.end, record.kind);
        let malformed = LogError::Position { position };
        let (head, frame) = record
            .body
            .split_first_chunk::<HELD_HEAD>()
            .ok_or(malformed)?;
        let (queue, rest) = head.split_first_chunk::<2>().ok_or(malformed)?;
        let (order, header) = rest.split_first_chunk::<8>().ok_or(malformed)?;
        let header = header.first_chunk().ok_or(malformed)?;
        self.order = u64::from_le_bytes(*order);
        self.header = PacketHeader::from_bytes(link_type, header);
        self.queue = u16::from_le_bytes(*queue);
        if frame.len() != self.header.captured_len as usize {
            return Err(malformed);
        }
        self.frame.clear();
        self.frame.extend_from_slice(frame);
        Ok(Some((start, end)))
    }
}

/// Counts what became of a packet.
fn count(commit: &mut WorkerCommit, outcome: Counter, was_held: bool, header: &PacketHeader) {
    commit.add(outcome, 1);
    if outcome == Counter::Forwarded {
        commit.add(Counter::ForwardedBytes, header.captured_len.into());
    }
    if was_held {
        let end = match outcome {
            Counter::Forwarded => Counter::HeldForwarded,
            _ => Counter::HeldReleased,
        };
        commit.add(end, 1);
    }
}

/// Gives up what lies before the oldest packet that waits.
fn release(held: &mut LogWriter, oldest: Option<Position>) {
    let LogBounds { head, .. } = held.bounds();
    held.release_to(oldest.unwrap_or(head));
}
