//! What a worker does with packets where they are judged with others: with those of their call, or of their session.
//!
//! ```text
//!   rx ring -> taken -> calls: one of ours? -> sessions: one of ours? -> nobody's: kept back
//!                             |                       |
//!                             +--- wanted ------------+----------------> tx ring
//!                             +--- undecided: held, in the log --------> tx ring, or nowhere, when it is decided
//! ```
//!
//! Who follows packets: [`CallDesk`], [`SessionDesk`], or both. Each packet is offered to one after the other; TCP first to the sessions, which find out what a connection carries and pass it on
//! if it is not theirs.
//!
//! Everything happens between two commits of the worker: what was held, told, and put into the tx ring stands in the same commit as the place of the
//! rx ring that it came from. So a successor learns what was told, looks once more at what is held ([`Desk::round`] does so first), and goes on with the
//! rx ring: each packet is forwarded once.
//!
//! Packets come in batches, in two steps: all of them are *taken*, that is copied out of shared memory, decoded, and what is known of their flows fetched into the
//! cache ([`Desk::prepare`]); then one after the other is *handled*.

pub mod hand;
pub mod held;
pub mod journal;
pub mod kept_back;
pub mod load;
pub mod means;
pub mod verdict;

use std::collections::{BTreeMap, HashSet};

use lc_daemon::calls_log::SESSION;
use lc_daemon::key_log::Entry;
use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::log::LogBounds;
use shm_layout::packet::PacketHeader;
use shm_layout::ring::Full;
use shm_layout::shared_bytes::SharedBytes;
use shm_layout::worker::InProgress;

use crate::decode::Transport;
use crate::flows::Probe;
use crate::session::desk::SessionDesk;
use crate::session::protocols::Protocols;
use crate::session::roster::Roster;
use crate::voip::calls::Calls;
use crate::voip::desk::CallDesk;
use hand::{Hand, SharedEsp};
use held::Position;
use kept_back::KeptBack;
use means::Means;

/// Whether somebody has taken a packet that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// It is dealt with, and counted.
    Taken,
    /// It is nobody's.
    Nobodys,
}

/// See the [module](self).
pub struct Desk<R: Roster = Protocols> {
    followers: Followers<R>,
    /// Packets that are taken, and how many; the first of them are handled already. The rest are empty hands.
    #[expect(
        clippy::vec_box,
        reason = "each is swapped with the hand of who takes it: so only its address is moved"
    )]
    taken: Vec<Box<Hand>>,
    in_batch: usize,
    handled: usize,
    /// Those of the packets that are taken, for calls and for sessions.
    probes: [Vec<Probe>; 2],
    scratch: Vec<u8>,
    /// Whether a held packet was passed over because it is condemned.
    has_passed_over: bool,
    is_restored: bool,
}

/// Who follows packets.
struct Followers<R: Roster> {
    calls: Option<Box<CallDesk>>,
    sessions: Option<Box<SessionDesk<R>>>,
    esp: SharedEsp,
    kept_back: KeptBack,
    /// A packet that goes from one to the other.
    passed_on: Box<Hand>,
    /// Held packets that need not be looked at again, since the last report.
    done: Vec<Position>,
}

impl<R: Roster> Desk<R> {
    /// Where packets are offered to `calls` and `sessions`, as far as there are any. Both look into ESP by `esp`.
    #[must_use]
    pub fn new(calls: Option<CallDesk>, sessions: Option<SessionDesk<R>>, esp: SharedEsp) -> Self {
        let calls = match sessions.is_some() {
            true => calls.map(CallDesk::ceding),
            false => calls,
        };
        Self {
            followers: Followers {
                calls: calls.map(Box::new),
                sessions: sessions.map(Box::new),
                esp,
                kept_back: KeptBack::default(),
                passed_on: Box::default(),
                done: Vec::new(),
            },
            taken: Vec::new(),
            in_batch: 0,
            handled: 0,
            probes: Default::default(),
            scratch: Vec::new(),
            has_passed_over: false,
            is_restored: false,
        }
    }

    /// To be called before the rx rings are read, and often: learns from others, decides on what can be decided, forwards what has waited, and makes room for more. With `at_end`, everything is decided
    /// on, since no more packets come.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room.
    pub fn round(&mut self, means: &mut Means<'_>, at_end: bool) -> Result<(), Full> {
        if !self.is_restored {
            self.restore(means);
        }
        let Followers {
            calls, sessions, ..
        } = &mut self.followers;
        let of_calls = match calls {
            Some(calls) => calls.round(means, at_end),
            None => Ok(()),
        };
        if let Some(sessions) = sessions {
            sessions.round(means, at_end)?;
        }
        self.followers.pass_on(means)?;
        of_calls?;
        self.followers.make_room(means);
        Ok(())
    }

    /// Takes in a secret of TLS, at the time `now_ns` of a clock that does not go back.
    pub fn learn(&mut self, entry: &Entry, now_ns: u64) {
        if let Some(sessions) = &mut self.followers.sessions {
            sessions.learn(entry, now_ns);
        }
    }

    /// Nobody has the secrets that were told.
    pub fn tell_keys_again(&mut self) {
        if let Some(sessions) = &mut self.followers.sessions {
            sessions.tell_keys_again();
        }
    }

    /// The calls that are known.
    #[must_use]
    pub fn calls(&self) -> Option<&Calls> {
        Some(self.followers.calls.as_ref()?.calls())
    }

    /// Up to where there is something in the rings that capture thread `queue` fills for other workers, in their order; before each round.
    pub fn published(&mut self, queue: usize, heads: impl ExactSizeIterator<Item = u64>) {
        if let Some(calls) = &mut self.followers.calls {
            calls.published(queue, heads);
        }
    }

    /// The packets' time goes on with the clock, as nothing comes: `silence_ns` after the last packet.
    pub fn tick(&mut self, means: &mut Means<'_>, silence_ns: u64) {
        if !self.is_restored {
            return;
        }
        if let Some(calls) = &mut self.followers.calls {
            calls.tick(means, silence_ns);
        }
        if let Some(sessions) = &mut self.followers.sessions {
            sessions.tick(means, silence_ns);
        }
    }

    /// Whether a held packet was passed over because it is condemned.
    #[must_use]
    pub fn has_passed_over(&self) -> bool {
        self.has_passed_over
    }

    /// Whether this worker has to wait until the slowest one has come further.
    #[must_use]
    pub fn is_ahead(&self) -> bool {
        let calls = self.followers.calls.as_ref();
        calls.is_some_and(|calls| calls.is_ahead())
    }

    /// Whether the next of the packets that are taken can be handled; if not, it and those behind it are given back, and have to come again when [`Desk::is_ahead`] says so.
    pub fn is_due(&mut self) -> bool {
        let Some(next) = self.taken[..self.in_batch].get(self.handled) else {
            return false;
        };
        let is_due = match &mut self.followers.calls {
            Some(calls) => calls.is_due(&next.header),
            None => true,
        };
        if !is_due {
            self.give_back();
        }
        is_due
    }

    /// Whether others wait to hear how far this worker has come.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let calls = self.followers.calls.as_ref();
        calls.is_some_and(|calls| calls.is_awaited())
    }

    /// Whether all workers are done with the packets before `sequence`.
    #[must_use]
    pub fn have_all_passed(&self, sequence: u64) -> bool {
        let calls = self.followers.calls.as_ref();
        calls.is_none_or(|calls| calls.have_all_passed(sequence))
    }

    /// There is nothing for this worker before packet `sequence`.
    pub fn passed(&mut self, sequence: u64) {
        if let Some(calls) = &mut self.followers.calls {
            calls.passed(sequence);
        }
    }

    /// Takes a packet, to be handled behind those that were taken before.
    pub fn take(&mut self, identity: InProgress, header: PacketHeader, data: &SharedBytes<'_>) {
        if self.in_batch == self.taken.len() {
            self.taken.push(Box::default());
        }
        let hand = &mut self.taken[self.in_batch];
        hand.take(identity, header, data);
        let Followers {
            calls, sessions, ..
        } = &self.followers;
        let [of_calls, of_sessions] = &mut self.probes;
        let calls = calls.as_ref();
        of_calls.extend(calls.and_then(|calls| calls.probe(&hand.decoded)));
        let sessions = sessions.as_ref();
        of_sessions.extend(sessions.and_then(|sessions| sessions.probe(&hand.decoded)));
        self.in_batch += 1;
    }

    /// Has fetched what is known of the packets that are taken.
    pub fn prepare(&mut self) {
        let [of_calls, of_sessions] = &self.probes;
        if let Some(calls) = &mut self.followers.calls {
            calls.prepare(of_calls);
        }
        if let Some(sessions) = &mut self.followers.sessions {
            sessions.prepare(of_sessions);
        }
    }

    /// Handles the next of the packets that are taken, and counts it.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room. The packet waits, and is done with; those behind it are given back.
    pub fn handle(&mut self, means: &mut Means<'_>) -> Result<(), Full> {
        let hand = &mut self.taken[self.handled];
        // Which learns: it must not before, since the packet may have been given back.
        hand.open(&self.followers.esp);
        self.handled += 1;
        let is_last = self.handled == self.in_batch;
        means.commit.add(Counter::Received, 1);
        means
            .commit
            .add(Counter::ReceivedBytes, hand.header.captured_len.into());
        let decoded = &hand.decoded;
        means
            .commit
            .add(Counter::Fragments, decoded.fragment.into());
        if let Some(fault) = decoded.fault {
            means.commit.add(fault.counter(), 1);
        }
        let result = self.followers.offer(hand, means, None);
        let result = result.and_then(|()| self.followers.pass_on(means));
        if is_last || result.is_err() {
            self.give_back();
        }
        result
    }

    /// No packet is taken any more.
    fn give_back(&mut self) {
        (self.in_batch, self.handled) = (0, 0);
        self.probes.iter_mut().for_each(Vec::clear);
    }

    /// Before a commit: tells what has changed, and counts what happened.
    pub fn report(&mut self, means: &mut Means<'_>) {
        let oldest = self.followers.oldest().map(|(oldest, ..)| oldest);
        let Followers {
            calls, sessions, ..
        } = &mut self.followers;
        journal::tidy(means.calls, &mut self.scratch, oldest, |record| {
            let (position, kind, body) = (record.position, record.kind, record.body);
            match (kind, &mut *sessions, &mut *calls) {
                (SESSION, Some(sessions), _) => sessions.keep(position, body),
                (SESSION, None, _) => {}
                (_, _, Some(calls)) => calls.keep(position, kind, body),
                (_, _, None) => {}
            }
        });
        if let Some(calls) = calls {
            calls.report(means);
        }
        if let Some(sessions) = sessions {
            sessions.report(means);
        }
        let oldest = self.followers.release(means);
        let Followers {
            calls,
            sessions,
            done,
            ..
        } = &mut self.followers;
        if let Some(calls) = calls {
            calls.take_done(done);
        }
        if let Some(sessions) = sessions {
            sessions.take_done(done);
        }
        done.retain(|position| oldest.is_some_and(|oldest| oldest < *position));
        journal::tell_done(means.calls, done);
        done.clear();
        means.commit.set_calls(means.calls.bounds());
        means.commit.set_held(means.held.bounds());
    }

    /// Goes on where a predecessor stopped: learns what it told, and looks at the packets that it held once more.
    fn restore(&mut self, means: &mut Means<'_>) {
        let done = journal::restore_done(means.calls, &mut self.scratch);
        let Followers {
            calls, sessions, ..
        } = &mut self.followers;
        if let Some(calls) = calls {
            calls.begin_to_restore(means);
        }
        if let Some(sessions) = sessions {
            sessions.begin_to_restore(means);
        }
        let LogBounds { tail, head } = means.held.bounds();
        let mut position = tail;
        let mut hand = Box::<Hand>::default();
        while position < head {
            match hand.recall(means.held, position) {
                Ok(Some((start, end))) => {
                    position = end;
                    if !done.contains(&start) {
                        self.restore_one(&mut hand, means, start, (tail, &done));
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(%error, "the log of held packets is damaged; what stands behind is forgotten");
                    break;
                }
            }
        }
        let Followers {
            calls, sessions, ..
        } = &mut self.followers;
        if let Some(calls) = calls {
            calls.end_to_restore(means);
        }
        if let Some(sessions) = sessions {
            sessions.end_to_restore();
        }
        self.is_restored = true;
    }

    /// Looks at what is held at `position` and is in the `hand`.
    fn restore_one(
        &mut self,
        hand: &mut Box<Hand>,
        means: &mut Means<'_>,
        position: Position,
        (tail, done): (Position, &HashSet<Position>),
    ) {
        let followers = &mut self.followers;
        if hand.is_apart {
            match &mut followers.calls {
                Some(calls) => {
                    calls.recall_apart(hand, position, |at| at >= tail && !done.contains(&at))
                }
                None => followers.done.push(position),
            }
            return;
        }
        if means.condemned == Some(hand.identity()) {
            followers.done.push(position);
            self.has_passed_over = true;
            means.commit.add(Counter::Quarantined, 1);
            means.commit.add(Counter::HeldReleased, 1);
            return;
        }
        means.worker.set_in_progress(Some(hand.identity()));
        hand.decode();
        hand.open(&followers.esp);
        // What finds no room in the tx ring waits where it lies.
        let _ = followers.offer(hand, means, Some(position));
    }
}

impl<R: Roster> Followers<R> {
    /// Offers the packet in the `hand` to all, and counts it. It lies at `position` if it was held.
    fn offer(
        &mut self,
        hand: &mut Box<Hand>,
        means: &mut Means<'_>,
        position: Option<Position>,
    ) -> Result<(), Full> {
        means.worker.set_in_progress(Some(hand.identity()));
        if let Some(calls) = &mut self.calls {
            calls.see(means, &hand.header);
        }
        let decoded = &hand.decoded;
        let is_stream = decoded.transport == Some(Transport::Tcp) && !decoded.fragment;
        let offer = match is_stream {
            true => match self.offer_to_sessions(hand, means, position)? {
                Offer::Taken => Offer::Taken,
                Offer::Nobodys => {
                    // What came before goes before.
                    let passed_on = self.pass_on(means);
                    let offer = self.offer_to_calls(hand, means, position)?;
                    passed_on.map(|()| offer)?
                }
            },
            false => match self.offer_to_calls(hand, means, position)? {
                Offer::Taken => Offer::Taken,
                Offer::Nobodys => self.offer_to_sessions(hand, means, position)?,
            },
        };
        if offer == Offer::Nobodys {
            let kept_back = self.kept_back.counter(means.judge);
            means.count(kept_back, position.is_some(), &hand.header);
            self.done.extend(position);
        }
        Ok(())
    }

    fn offer_to_calls(
        &mut self,
        hand: &mut Box<Hand>,
        means: &mut Means<'_>,
        position: Option<Position>,
    ) -> Result<Offer, Full> {
        let Some(calls) = &mut self.calls else {
            return Ok(Offer::Nobodys);
        };
        let offer = calls.handle(hand, means, position)?;
        if let Some(ceded) = calls.take_ceded() {
            for part in &ceded.parts {
                calls.cede(*part);
            }
            if let Some(sessions) = &mut self.sessions {
                sessions.handle_whole(means, &ceded)?;
            }
        }
        Ok(offer)
    }

    fn offer_to_sessions(
        &mut self,
        hand: &mut Box<Hand>,
        means: &mut Means<'_>,
        position: Option<Position>,
    ) -> Result<Offer, Full> {
        match &mut self.sessions {
            None => Ok(Offer::Nobodys),
            // Fragments are put together by whoever sees them first.
            Some(_) if hand.decoded.fragment && self.calls.is_some() => Ok(Offer::Nobodys),
            Some(sessions) => sessions.handle(hand, means, position),
        }
    }

    /// Gives the calls what sessions have held and is not theirs. It comes as if it were captured now, for it lies before what waits for calls.
    fn pass_on(&mut self, means: &mut Means<'_>) -> Result<(), Full> {
        let Some(sessions) = &mut self.sessions else {
            return Ok(());
        };
        let mut result = Ok(());
        for position in sessions.take_foreign() {
            let hand = &mut self.passed_on;
            let found = hand.recall(means.held, position);
            if !matches!(found, Ok(Some((start, _))) if start == position) {
                means.commit.add(Counter::HeldReleased, 1);
                means.commit.add(Counter::CorruptRecords, 1);
                continue;
            }
            means.commit.add(Counter::HeldReleased, 1);
            hand.decode();
            hand.open(&self.esp);
            means.worker.set_in_progress(Some(hand.identity()));
            let offer = match &mut self.calls {
                Some(calls) => calls.handle(hand, means, None),
                None => Ok(Offer::Nobodys),
            };
            match offer {
                Ok(Offer::Taken) => {}
                Ok(Offer::Nobodys) => {
                    let kept_back = self.kept_back.counter(means.judge);
                    means.count(kept_back, false, &hand.header);
                }
                // It waits.
                Err(full) => result = Err(full),
            }
        }
        result
    }

    /// Where the oldest packet that waits lies, whether it must not go, and whether a session holds it.
    fn oldest(&self) -> Option<(Position, bool, bool)> {
        let of_calls = self.calls.as_ref().and_then(|calls| calls.oldest());
        let of_sessions = self.sessions.as_ref().and_then(|all| all.oldest());
        let of_calls = of_calls.map(|(at, is_wanted)| (at, is_wanted, false));
        let of_sessions = of_sessions.map(|(at, is_wanted)| (at, is_wanted, true));
        of_calls.into_iter().chain(of_sessions).min()
    }

    /// Gives up what lies before the oldest packet that waits. Where that lies.
    fn release(&mut self, means: &mut Means<'_>) -> Option<Position> {
        let oldest = self.oldest().map(|(oldest, ..)| oldest);
        let LogBounds { head, .. } = means.held.bounds();
        means.held.release_to(oldest.unwrap_or(head));
        oldest
    }

    /// A batch finds room for what it holds. What is wanted waits for room in the tx ring, and then goes.
    fn make_room(&mut self, means: &mut Means<'_>) {
        while means.held.used() > means.held.capacity() / 4 * 3 {
            let is_dropped = match (self.oldest(), &mut self.calls, &mut self.sessions) {
                (Some((_, true, _)) | None, ..) => false,
                (Some((_, _, false)), Some(calls), _) => calls.drop_oldest(),
                (Some((_, _, true)), _, Some(sessions)) => sessions.drop_oldest(means),
                _ => false,
            };
            self.release(means);
            if !is_dropped {
                return;
            }
        }
    }
}

/// Forgets what is known of packets that lay before the oldest one that waits.
pub(crate) fn forget_before<T>(known: &mut BTreeMap<Position, T>, oldest: Option<Position>) {
    match oldest {
        _ if known.is_empty() => {}
        Some(oldest) => *known = known.split_off(&oldest),
        None => known.clear(),
    }
}
