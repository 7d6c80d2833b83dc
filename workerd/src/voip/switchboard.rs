//! Which call a packet belongs to, and what becomes of it: forwarded, held until its call is decided, or dropped.
//!
//! One verdict holds for all packets of a call:
//!
//! | the call | its packets |
//! |---|---|
//! | undecided: nothing matched, and the last word on who takes part has not been heard | wait |
//! | wanted: a message of it, its media's addresses, or the no-filter policy said so | what waited goes first, in the order of capture; then each as it comes, to the end of the call |
//! | unwanted | dropped, what waited too; a filter that comes later, or a later message that matches, makes it wanted from then on |
//!
//! Media whose signalling was not seen are a call of their own, named `rtp-` and the SSRC. It waits a little ([`PATIENCE_NS`], and until other workers have come as far) for signalling that comes late or by another
//! way; when that comes, its packets are the real call's. So they are if they go on with what a call's media began elsewhere, as their source tells ([`sources`](super::sources)).
//!
//! Nothing here knows packets' bytes: the caller keeps those that wait, and names them by position.

mod shared;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use lc_daemon::config::CallSilence;

use super::call::{Call, MOST_FORMATS, Role};
use super::calls::{Bond, CallRef, Calls};
use super::dialog::State;
use super::endpoints::{Endpoint, Ends};
use super::signal::Signal;
use super::snapshot::Snapshot;
use super::sources::{MOST_SOURCES, Source};
use super::strangers::Strangers;
use crate::decode::{Addr, Decoded};
use crate::desk::held::{Chain, Held, Position, Waiting};
use crate::desk::load::{Load, Worth};
use crate::desk::verdict::Standing;
use crate::matcher::{Fields, FilterSet, Judge, Matches, Verdict};
use crate::rtp::{Format, Header};

/// How long media without signalling wait for it, in nanoseconds of packet time.
pub const PATIENCE_NS: u64 = 2_000_000_000;
/// How long a call whose last word was heard waits for other workers, in nanoseconds of packet time.
pub const GRACE_NS: u64 = 200_000_000;
/// How much longer, if they have not come as far by then: one of them may be dead.
pub const LONGEST_GRACE_NS: u64 = 20_000_000_000;
/// How long a packet waits at most, in nanoseconds of packet time: longer than most phones ring.
pub const LONGEST_WAIT_NS: u64 = 180_000_000_000;
/// Packets and bytes of media that wait for one call at most. Of signalling, as many again.
pub const MOST_PACKETS: u32 = 1_000;
/// See [`MOST_PACKETS`].
pub const MOST_BYTES: u32 = 512 * 1024;
/// The lists of doubts: last words were heard, media without signalling.
const WORDS: usize = 0;
const MEDIA: usize = 1;
/// So many doubts are not worth looking through.
const FEW_DOUBTS: usize = 64;
/// Places for calls that are compared with new filters at a time.
const COMPARED: usize = 64;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is forwarded now.
    Forward,
    /// It waits: [`Switchboard::hold`] wants it.
    Wait,
    /// Nobody wants its call.
    Unwanted,
    /// Too much waits for its call already.
    NoRoom,
    /// There is too much to do, and it matters least; see [`Load`].
    Shed,
}

/// Whose a packet is, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ruling {
    /// Its call.
    pub call: CallRef,
    /// What becomes of it.
    pub fate: Fate,
}

/// What a flow remembers of the call that it is media of.
#[derive(Debug, Clone, Copy, Default)]
pub struct MediaFlow {
    call: CallRef,
    /// What was expected when it was last looked for.
    expectations: u32,
    /// Whether that call announced an end of it.
    is_announced: bool,
}

impl MediaFlow {
    /// The call that it was media of when it was last looked for.
    #[must_use]
    #[inline]
    pub fn call(&self) -> CallRef {
        self.call
    }
}

/// What became of packets that waited, and are not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Their calls turned out to be unwanted, or ended undecided.
    pub released: u64,
    /// There was no room for them, or they waited for too long.
    pub dropped: u64,
}

/// A SIP message, as far as its call is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// Its Call-ID.
    pub call_id: &'a [u8],
    /// What it does to the call.
    pub signal: Signal,
    /// Where it announces media.
    pub endpoints: &'a [(Endpoint, Role)],
    /// What it says of payload types.
    pub formats: &'a [Format],
}

/// What may be known of a call elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Elsewhere {
    /// Nothing: there is one worker.
    Nothing,
    /// What comes to other workers within [`GRACE_NS`] may still match, or what they have not come to yet by then; but not longer than [`LONGEST_GRACE_NS`].
    Soon,
    /// What other workers have not come to yet may still match. Packets wait for that, however long it takes.
    Exactly,
}

/// A call without a match that is about to become unwanted.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    call: CallRef,
    until_ns: u64,
    /// Number of the last packet that was seen when that time had come, once it has; or the moment then (see [`super::abreast`]).
    sequence: Option<u64>,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Switchboard {
    calls: Calls,
    held: Held<CallRef>,
    /// Packets that wait and are of several calls.
    shared: BTreeMap<Position, Vec<CallRef>>,
    /// Calls that are wanted and have packets that wait, by the first of these: so packets go in the order of capture, whichever calls are theirs.
    ready: BinaryHeap<Reverse<(Position, CallRef)>>,
    elsewhere: Elsewhere,
    /// Calls whose last word was heard here, and media without signalling.
    doubts: [VecDeque<Doubt>; 2],
    /// Up to which place of the table calls were compared with the latest filters.
    compared: usize,
    generation: u64,
    now_ns: u64,
    /// When the packet at hand was captured, in nanoseconds.
    captured_ns: u64,
    /// Number of the packet at hand, or its moment.
    sequence: u64,
    /// Media without signalling that other workers have.
    strangers: Strangers,
    load: Load,
    tally: Tally,
    matches: Matches,
    fields: Fields,
}

impl Switchboard {
    /// Knows calls of `limit` bytes at most.
    #[must_use]
    pub fn new(limit: usize, elsewhere: Elsewhere) -> Self {
        Self {
            calls: Calls::new(limit),
            held: Held::default(),
            shared: BTreeMap::new(),
            ready: BinaryHeap::new(),
            elsewhere,
            doubts: Default::default(),
            compared: usize::MAX,
            generation: 0,
            now_ns: 0,
            captured_ns: 0,
            sequence: 0,
            strangers: Strangers::default(),
            load: Load::Light,
            tally: Tally::default(),
            matches: Matches::default(),
            fields: Fields::default(),
        }
    }

    /// The same, but calls may be silent for so long.
    #[must_use]
    pub fn with_silence(mut self, silence: &CallSilence) -> Self {
        self.calls = self.calls.with_silence(silence);
        self
    }

    /// The calls.
    #[must_use]
    pub fn calls(&self) -> &Calls {
        &self.calls
    }

    /// What became of packets that waited.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// A SIP message, from `addresses`, with the `fields` that filters are compared with.
    pub fn message(
        &mut self,
        judge: Judge<'_>,
        message: &Message<'_>,
        decoded: &Decoded,
        fields: &Fields,
        bytes: u32,
    ) -> Ruling {
        let call = self
            .calls
            .find_or_begin(message.call_id, State::Transaction);
        let is_last_word = self.calls.observe(call, &message.signal);
        let addresses = decoded.addresses;
        self.calls.update(call, |call| {
            call.identities.add(addresses, fields);
            call.add_formats(message.formats);
        });
        let verdict = judge
            .filters
            .judge(decoded, fields, judge.bpf_active, &mut self.matches);
        let is_alone = self.elsewhere == Elsewhere::Nothing;
        self.stand(call, judge.filters, verdict, is_last_word && is_alone);
        if is_last_word && !is_alone && self.is_undecided(call) {
            let patience_ns = match self.elsewhere {
                Elsewhere::Soon => GRACE_NS,
                Elsewhere::Nothing | Elsewhere::Exactly => 0,
            };
            self.doubt(WORDS, call, patience_ns);
        }
        for (endpoint, role) in message.endpoints {
            self.expect(call, *endpoint, *role);
        }
        self.settle(call);
        self.rule(call, bytes, false)
    }

    /// A packet of UDP that is not SIP. `source` of RTP or RTCP, if it looks like that, and whether the flow is known to be media. None if it is not of any call.
    #[inline]
    pub fn media(
        &mut self,
        judge: Judge<'_>,
        flow: &mut MediaFlow,
        decoded: &Decoded,
        source: Option<(u32, bool)>,
        bytes: u32,
    ) -> Option<Ruling> {
        let known = self.calls.get(flow.call).map(Call::state);
        let is_new = flow.expectations != self.calls.expectations();
        let call = match known {
            Some(State::Over | State::MediaOnly) if is_new => {
                self.call_of_flow(judge, flow, decoded, source)?
            }
            Some(_) => flow.call,
            None if is_new || source.is_some() => {
                self.call_of_flow(judge, flow, decoded, source)?
            }
            None => return None,
        };
        self.calls.touch(call);
        let is_sure = matches!(source, Some((_, true)));
        if is_sure && self.calls.get(call).is_some_and(|call| !call.is_media) {
            self.calls.update(call, |call| call.is_media = true);
        }
        Some(self.rule(call, bytes, true))
    }

    /// Looks for the call of a flow of media, which begins, or whose call is over.
    fn call_of_flow(
        &mut self,
        judge: Judge<'_>,
        flow: &mut MediaFlow,
        decoded: &Decoded,
        source: Option<(u32, bool)>,
    ) -> Option<CallRef> {
        let ends = ends(decoded)?;
        flow.expectations = self.calls.expectations();
        let announced = self.calls.of_media(ends.0, ends.1).map(|(call, _)| call);
        flow.is_announced = announced.is_some();
        let known = announced.or_else(|| self.calls.of_unannounced(ends));
        let call = match known {
            Some(call) => call,
            None => self.begin_alone(ends, source?.0),
        };
        if flow.call != call {
            flow.call = call;
            let fields = Fields::default();
            let addresses = decoded.addresses;
            self.calls
                .update(call, |call| call.identities.add(addresses, &fields));
            let verdict =
                judge
                    .filters
                    .judge(decoded, &fields, judge.bpf_active, &mut self.matches);
            // Alone, it waits for its signalling even if it matches: its packets shall be told as the real call's.
            let is_alone = self.is_alone(call);
            let is_decided = is_alone && !self.is_undecided(call);
            if !is_alone || is_decided && verdict == Verdict::Matched {
                self.stand(call, judge.filters, verdict, false);
            }
            self.settle(call);
        }
        flow.expectations = self.calls.expectations();
        Some(call)
    }

    /// A call for media whose signalling was not seen.
    fn begin_alone(&mut self, ends: Ends, ssrc: u32) -> CallRef {
        let id = format!("rtp-{ssrc:08x}");
        let call = self
            .calls
            .begin_alone(id.as_bytes(), ends, self.captured_ns);
        self.doubt(MEDIA, call, PATIENCE_NS);
        call
    }

    /// Each call stands in each list once. Those that were forgotten meanwhile make room when they are half of it: lists are bounded as calls are.
    fn doubt(&mut self, list: usize, call: CallRef, patience_ns: u64) {
        let note = |call: &mut Call| std::mem::replace(&mut call.in_doubt[list], true);
        if self.calls.update(call, note) != Some(false) {
            return;
        }
        let (calls, doubts) = (&self.calls, &mut self.doubts[list]);
        if doubts.len() >= 2 * calls.places().max(FEW_DOUBTS) {
            doubts.retain(|doubt| calls.get(doubt.call).is_some());
        }
        doubts.push_back(Doubt {
            call,
            until_ns: self.now_ns + patience_ns,
            sequence: None,
        });
    }

    fn is_undecided(&self, call: CallRef) -> bool {
        let call = self.calls.get(call);
        call.is_some_and(|call| call.standing() == Standing::Undecided)
    }

    fn is_alone(&self, call: CallRef) -> bool {
        let call = self.calls.get(call);
        call.is_some_and(|call| call.state() == State::MediaOnly)
    }

    /// Decides on calls that may have been matched elsewhere, or later, but were not. `passed` says whether all other workers have handled the packets up to a number; it counts if
    /// verdicts are to be exact.
    pub fn decide(&mut self, judge: Judge<'_>, passed: impl Fn(u64) -> bool) {
        self.decide_before(self.sequence + 1, judge, passed);
    }

    /// The same, where no packet from `sequence` on can matter any more to calls whose time has just come.
    fn decide_before(&mut self, sequence: u64, judge: Judge<'_>, passed: impl Fn(u64) -> bool) {
        for list in [WORDS, MEDIA] {
            while let Some(doubt) = self.doubts[list].front_mut() {
                if doubt.until_ns > self.now_ns {
                    break;
                }
                let sequence = *doubt.sequence.get_or_insert(sequence.saturating_sub(1));
                let may_be_late = match self.elsewhere {
                    Elsewhere::Nothing => false,
                    Elsewhere::Soon => self.now_ns < doubt.until_ns + LONGEST_GRACE_NS,
                    Elsewhere::Exactly => true,
                };
                if may_be_late && !passed(sequence) {
                    break;
                }
                let call = doubt.call;
                self.doubts[list].pop_front();
                self.calls.update(call, |call| call.in_doubt[list] = false);
                if list == WORDS || self.is_alone(call) {
                    self.conclude(judge, call);
                }
            }
        }
    }

    /// The number of the packet that other workers have to come past before the next call can be decided.
    #[must_use]
    pub fn waits_for(&self) -> Option<u64> {
        let waiting = self.doubts.iter().filter_map(|list| list.front()?.sequence);
        waiting.min()
    }

    /// `call` expects media at `endpoint`. Media that were a call of their own become its.
    fn expect(&mut self, call: CallRef, endpoint: Endpoint, role: Role) {
        for alone in self.calls.alone_at(endpoint) {
            self.absorb(call, alone, Bond::Announced);
        }
        for source in self.strangers.take(endpoint) {
            self.calls.note(call, source);
        }
        self.calls.expect(call, endpoint, role);
    }

    /// Nothing more will be heard that may have `call` wanted. Media without signalling may go on with those of another call.
    fn conclude(&mut self, judge: Judge<'_>, call: CallRef) {
        let other = match self.is_alone(call) {
            true => self.calls.continued_by(call),
            false => None,
        };
        let Some(other) = other else {
            return self.compare(judge, call, true);
        };
        self.absorb(other, call, Bond::Source);
        // The addresses may matter to filters.
        self.compare(judge, other, false);
    }

    fn absorb(&mut self, into: CallRef, alone: CallRef, bond: Bond) {
        let Some(found) = self.calls.get(alone) else {
            return;
        };
        let (ids, standing) = (found.ids().clone(), found.standing());
        let incomplete = found.incomplete();
        let pairs: Vec<_> = found.identities.pairs().collect();
        let Some(mut chain) = self.calls.absorb(into, alone, bond) else {
            return;
        };
        let held = &mut self.held;
        self.calls.update(into, |call| {
            held.merge(&mut call.chain, &mut chain, into);
            call.incomplete = call.incomplete.saturating_add(incomplete);
            for pair in pairs {
                call.identities.add(Some(pair), &Fields::default());
            }
            if standing == Standing::Matched {
                call.standing = Standing::Matched;
                for id in ids.iter() {
                    call.ids.add(id);
                }
            }
        });
    }

    /// What a verdict makes of a call.
    fn stand(&mut self, call: CallRef, filters: &FilterSet, verdict: Verdict, is_last_word: bool) {
        let matches = &self.matches;
        self.calls.update(call, |call| {
            call.generation = filters.generation();
            let undecided = call.standing == Standing::Undecided;
            match verdict {
                Verdict::Matched => {
                    call.standing = Standing::Matched;
                    for filter in matches.filters() {
                        call.ids.add(filters.id(*filter));
                    }
                }
                Verdict::MatchedByBpf => call.standing = Standing::Matched,
                Verdict::Passed => call.standing = call.standing.max(Standing::Passed),
                Verdict::Denied if undecided => call.standing = Standing::Unwanted,
                Verdict::NoMatch if undecided && is_last_word => {
                    call.standing = Standing::Unwanted;
                }
                Verdict::Denied | Verdict::NoMatch => {}
            }
        });
    }

    /// What waits for a call that has been decided goes its way.
    fn settle(&mut self, call: CallRef) {
        let is_wanted = |call: &Call| call.shares && call.standing() >= Standing::Passed;
        if self.calls.get(call).is_some_and(is_wanted) {
            self.claim(call);
        }
        let Some(found) = self.calls.get(call) else {
            return;
        };
        let Some(first) = self.held.peek(&found.chain()) else {
            return;
        };
        match found.standing() {
            Standing::Undecided => {}
            Standing::Unwanted => {
                let chain = self
                    .calls
                    .update(call, |call| std::mem::take(&mut call.chain));
                self.tally.released += self.discard(chain.unwrap_or_default());
            }
            Standing::Passed | Standing::Matched => {
                let first = first.position;
                if found.ready_at.is_none_or(|known| first < known) {
                    self.calls.update(call, |call| call.ready_at = Some(first));
                    self.ready.push(Reverse((first, call)));
                }
            }
        }
    }

    /// What becomes of another packet of `bytes` bytes of a call, or, without any, of what is told of a message.
    pub fn fate(&mut self, call: CallRef, bytes: u32) -> Fate {
        self.rule(call, bytes, false).fate
    }

    fn rule(&mut self, call: CallRef, bytes: u32, is_media: bool) -> Ruling {
        let fate = match self.calls.get(call) {
            None => Fate::Unwanted,
            Some(found) => {
                let chain = found.chain();
                let shares = if is_media { 1 } else { 2 };
                let has_room = chain.packets() < MOST_PACKETS * shares
                    && chain.bytes().saturating_add(bytes) <= MOST_BYTES * shares;
                let is_shed = is_media && (self.load >= Load::Severe || found.sheds_media);
                match found.standing() {
                    Standing::Unwanted => Fate::Unwanted,
                    Standing::Undecided if is_shed => Fate::Shed,
                    Standing::Undecided if has_room => Fate::Wait,
                    Standing::Undecided => Fate::NoRoom,
                    // What waited goes first.
                    Standing::Passed | Standing::Matched if !chain.is_empty() => Fate::Wait,
                    Standing::Passed | Standing::Matched => Fate::Forward,
                }
            }
        };
        if matches!(fate, Fate::NoRoom | Fate::Shed) {
            self.lose(call, 1, fate == Fate::Shed);
        }
        Ruling { call, fate }
    }

    /// The capture has lost `packets` so far, of any call.
    pub fn lost_by_capture(&mut self, packets: u64) {
        self.calls.lost_by_capture = packets;
    }

    /// So much is to be done that packets are shed.
    pub fn bear(&mut self, load: Load) {
        self.load = load;
    }

    /// `packets` of a call are lost by our own fault.
    fn lose(&mut self, call: CallRef, packets: u32, sheds_media: bool) {
        self.calls.update(call, |call| {
            call.incomplete = call.incomplete.saturating_add(packets);
            call.sheds_media |= sheds_media;
        });
    }

    /// A packet that shall wait, as [`Fate::Wait`] said, lies at `position`.
    pub fn hold(&mut self, call: CallRef, position: Position, bytes: u32) {
        self.hold_as(call, position, bytes, false);
    }

    /// The same of media, which give way first.
    pub fn hold_media(&mut self, call: CallRef, position: Position, bytes: u32) {
        self.hold_as(call, position, bytes, true);
    }

    fn hold_as(&mut self, call: CallRef, position: Position, bytes: u32, is_media: bool) {
        let waiting = Waiting {
            position,
            time_ns: self.now_ns,
            bytes,
            is_media,
            owner: call,
        };
        let held = &mut self.held;
        self.calls
            .update(call, |call| held.push(&mut call.chain, waiting));
        self.settle(call);
    }

    /// A packet at `position` waits to be found out whose it is.
    pub fn park(&mut self, position: Position, bytes: u32) {
        let waiting = Waiting {
            position,
            time_ns: self.now_ns,
            bytes,
            is_media: false,
            owner: CallRef::NONE,
        };
        self.held.push(&mut Chain::default(), waiting);
    }

    /// The parked packets at `positions` are of a call, which rules over them.
    pub fn adopt(&mut self, positions: &[Position], ruling: Ruling) {
        for position in positions {
            let Some(mut parked) = self.held.alone(*position) else {
                continue;
            };
            let held = &mut self.held;
            match ruling.fate {
                Fate::Forward | Fate::Wait => {
                    self.calls.update(ruling.call, |call| {
                        held.merge(&mut call.chain, &mut parked, ruling.call);
                    });
                }
                Fate::Unwanted => {
                    held.pop(&mut parked);
                    self.tally.released += 1;
                }
                Fate::NoRoom | Fate::Shed => {
                    held.pop(&mut parked);
                    self.tally.dropped += 1;
                }
            }
        }
        self.settle(ruling.call);
    }

    /// The parked packet at `position` is of no call.
    pub fn unpark(&mut self, position: Position) {
        if let Some(mut parked) = self.held.alone(position) {
            self.held.pop(&mut parked);
            self.tally.released += 1;
        }
    }

    /// The parked packet at `position` is taken by somebody else.
    pub fn cede(&mut self, position: Position) {
        if let Some(mut parked) = self.held.alone(position) {
            self.held.pop(&mut parked);
        }
    }

    /// A packet of the call is dropped for lack of room: the call is not complete any more.
    pub fn shed(&mut self, call: CallRef) {
        self.lose(call, 1, false);
    }

    /// What lies at `position` is nobody's, and need not be looked at again.
    pub fn pass_over(&mut self, position: Position) {
        self.held.pass_over(position);
    }

    /// Whether packets wait.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        !self.held.is_empty()
    }

    /// Adds where packets lie that need not be looked at again; since the last call.
    pub fn take_done(&mut self, done: &mut Vec<Position>) {
        self.held.take_done(done);
    }

    /// The calls, to tell of those that have changed.
    pub fn calls_mut(&mut self) -> &mut Calls {
        &mut self.calls
    }

    /// Takes in what another worker tells of a call, or the predecessor at position `own` of the worker's own log. What is told for certain holds here as well: that the call is wanted, and
    /// what is known of it. That nobody wants it is a last word, and holds when the doubt is over.
    pub fn learn(&mut self, told: &Snapshot, own: Option<u64>) {
        self.calls.learn(true);
        // Without a time, what is learned would be forgotten with the first packet.
        if own.is_some() || self.now_ns == 0 {
            self.calls.see(told.time_ns);
            self.now_ns = self.calls.now_ns();
        }
        if let Some(ends) = told.alone().filter(|_| own.is_none()) {
            self.learn_of_stranger(ends, told);
        } else if let Some(call) = self.call_told_of(told, own.is_some()) {
            self.merge(call, told, own);
            self.settle(call);
        }
        self.calls.learn(false);
    }

    /// Another worker has media without signalling. That is its own business; but what their sources are matters if their call is known.
    fn learn_of_stranger(&mut self, ends: Ends, told: &Snapshot) {
        let sources = told.sources().filter(|source| source.packet.is_some());
        match self.calls.of_media(ends.0, ends.1) {
            _ if told.is_gone => drop(self.strangers.remove(ends)),
            Some((call, _)) => sources.for_each(|source| self.calls.note(call, source)),
            None => self.strangers.add(ends, sources),
        }
    }

    fn call_told_of(&mut self, told: &Snapshot, is_own: bool) -> Option<CallRef> {
        let known = self.calls.told_of(told);
        if told.is_gone {
            let orphan = known.filter(|_| is_own);
            let orphan =
                orphan.and_then(|call| self.calls.absorb(CallRef::NONE, call, Bond::Announced));
            self.discard(orphan.unwrap_or_default());
            return None;
        }
        if known.is_some() {
            return known;
        }
        if let Some(ends) = told.alone() {
            return Some(self.calls.begin_alone(&told.id, ends, told.began_ns));
        }
        let state = told.state();
        let concerns = match state {
            State::Setup | State::Established => true,
            State::Transaction => told.standing() >= Standing::Passed,
            // What it was heard to send may go on elsewhere.
            State::Over => told.standing() >= Standing::Passed || told.sources().next().is_some(),
            State::MediaOnly => false,
        };
        let begins = is_own || concerns;
        let state = match state {
            State::Over if !is_own => State::Setup,
            state => state,
        };
        begins.then(|| self.calls.find_or_begin(&told.id, state))
    }

    fn merge(&mut self, call: CallRef, told: &Snapshot, own: Option<u64>) {
        let standing = told.standing();
        self.calls.update(call, |call| {
            match told.state() {
                State::Over if own.is_none() => call.dialogs.wind_down(),
                state => call.dialogs.advance(state),
            }
            if standing >= Standing::Passed || own.is_some() {
                call.standing = call.standing.max(standing);
            }
            for id in &told.ids {
                call.ids.add(id);
            }
            for pair in told.pairs() {
                call.identities.add(Some(pair), &Fields::default());
            }
            for (kind, text) in told.fields() {
                call.identities.add_field(kind, text);
            }
            if call.formats.is_empty() {
                let formats: Vec<Format> = told.formats().take(MOST_FORMATS).collect();
                call.add_formats(&formats);
            }
            if own.is_some() {
                call.told_at = own;
                call.is_others = told.is_others;
                call.incomplete = call.incomplete.max(told.incomplete);
                // The predecessor counted them.
                call.incomplete_counted = match call.standing >= Standing::Passed {
                    true => call.incomplete,
                    false => 0,
                };
            }
        });
        for (endpoint, role) in told.endpoints() {
            self.expect(call, endpoint, role);
        }
        for source in told.sources().take(MOST_SOURCES) {
            self.calls.note(call, source);
        }
        // Others will find out themselves.
        if own.is_some() && !self.is_alone(call) {
            for ends in told.ends() {
                self.latch(call, ends);
            }
        }
        self.calls.touch(call);
        if standing == Standing::Unwanted && self.is_undecided(call) {
            self.doubt(WORDS, call, 0);
        }
        if own.is_some() && self.is_undecided(call) && self.is_alone(call) {
            self.doubt(MEDIA, call, PATIENCE_NS);
        }
    }

    /// The flow between `ends` was found to be of the call.
    fn latch(&mut self, call: CallRef, ends: Ends) {
        let alone = self.calls.of_unannounced(ends);
        if let Some(alone) = alone.filter(|alone| self.is_alone(*alone)) {
            self.absorb(call, alone, Bond::Source);
        }
        self.calls.latch(call, ends);
    }

    /// Decides on all calls, since nothing more will be heard of them.
    pub fn give_up(&mut self, judge: Judge<'_>) {
        for place in 1..self.calls.places() {
            if let Some(call) = self
                .calls
                .at_place(place)
                .filter(|call| self.is_undecided(*call))
            {
                self.conclude(judge, call);
            }
        }
        for list in [WORDS, MEDIA] {
            for doubt in std::mem::take(&mut self.doubts[list]) {
                self.calls
                    .update(doubt.call, |call| call.in_doubt[list] = false);
            }
        }
        self.calls.count_streams();
        let parked: Vec<Position> = self.held.unowned().collect();
        parked
            .into_iter()
            .for_each(|position| self.unpark(position));
    }

    /// Whether packets that have waited are to be forwarded, so that others have to wait until that is done.
    #[must_use]
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next packet that has waited and is to be forwarded; the same until [`Switchboard::forwarded`] is called.
    pub fn ready(&mut self) -> Option<Waiting<CallRef>> {
        loop {
            let Reverse((position, call)) = *self.ready.peek()?;
            let chain = self.calls.get(call).map(|call| call.chain());
            let first = chain.and_then(|chain| self.held.peek(&chain));
            let is_known = |first: &Waiting<CallRef>| first.position == position;
            if first.as_ref().is_some_and(is_known) {
                return first;
            }
            self.ready.pop();
            let known = self.calls.get(call).and_then(|call| call.ready_at);
            if known != Some(position) {
                continue;
            }
            let first = first.map(|first| first.position);
            self.calls.update(call, |call| call.ready_at = first);
            self.ready.extend(first.map(|first| Reverse((first, call))));
        }
    }

    /// The packet that [`Switchboard::ready`] gave is forwarded.
    pub fn forwarded(&mut self, call: CallRef) {
        let held = &mut self.held;
        let pop = |call: &mut Call| held.pop(&mut call.chain);
        if let Some(waiting) = self.calls.update(call, pop).flatten() {
            self.shared.remove(&waiting.position);
        }
    }

    /// A packet of RTP of the call was seen, in `flow`.
    #[inline]
    pub fn hear(&mut self, flow: &MediaFlow, header: &Header, time_ns: u64) {
        self.calls
            .hear(flow.call, header, time_ns, flow.is_announced);
    }

    /// A report of a sender of RTP ([`sender_report`](crate::rtp::sender_report)) was seen, in `flow`.
    pub fn hear_report(&mut self, flow: &MediaFlow, report: (u32, u32), time_ns: u64) {
        if self.is_alone(flow.call) {
            self.calls
                .note(flow.call, Source::of_report(report, time_ns));
        }
    }

    /// Where the oldest packet that waits lies: what lies before is free.
    #[must_use]
    pub fn oldest(&self) -> Option<Position> {
        self.held.oldest().map(|waiting| waiting.position)
    }

    /// What the oldest packet that waits is worth.
    #[must_use]
    pub fn worth_of_oldest(&self) -> Option<Worth> {
        let oldest = self.held.oldest()?;
        let owner = self.calls.get(oldest.owner);
        let is_decided = owner.is_some_and(|call| call.standing() >= Standing::Passed);
        Some(match (is_decided, oldest.is_media) {
            (true, _) => Worth::Wanted,
            (false, false) => Worth::Signalling,
            (false, true) => Worth::Media,
        })
    }

    /// Gives up the oldest packet that waits, to make room; if it is media of a call that is undecided, all media that wait for that call. False if none waits.
    pub fn drop_oldest(&mut self) -> bool {
        let Some(waiting) = self.held.oldest() else {
            return false;
        };
        let is_media = self.worth_of_oldest() == Some(Worth::Media);
        let held = &mut self.held;
        let held_alone = held.alone(waiting.position);
        let dropped = match held_alone {
            Some(mut parked) => {
                held.pop(&mut parked);
                u32::from(waiting.is_packet())
            }
            None => {
                let dropped = self.calls.update(waiting.owner, |call| match is_media {
                    true => held.take_media(&mut call.chain),
                    false => {
                        held.pop(&mut call.chain);
                        u32::from(waiting.is_packet())
                    }
                });
                let dropped = dropped.unwrap_or_default();
                self.lose(waiting.owner, dropped.max(1), is_media);
                dropped
            }
        };
        self.shared.remove(&waiting.position);
        self.tally.dropped += u64::from(dropped);
        true
    }

    /// The packet at hand has number `sequence`, and was captured at `now_ns`: decides on calls whose time has come, as [`Switchboard::decide`] does, then forgets calls and gives
    /// up packets that have waited for too long.
    pub fn see(
        &mut self,
        judge: Judge<'_>,
        sequence: u64,
        now_ns: u64,
        passed: impl Fn(u64) -> bool,
    ) {
        self.captured_ns = now_ns;
        self.calls.see(now_ns);
        self.now_ns = self.calls.now_ns();
        self.decide_before(sequence, judge, passed);
        self.sequence = sequence;
        while let Some(orphans) = self.calls.expire() {
            self.tally.released += self.discard(orphans.chain);
        }
        while let Some(orphans) = self.calls.evict() {
            self.tally.dropped += self.discard(orphans.chain);
        }
        let now = self.now_ns;
        // What is wanted waits for room in the tx ring, however long that takes.
        let is_late = |waiting: Waiting<CallRef>| waiting.time_ns + LONGEST_WAIT_NS <= now;
        while self.held.oldest().is_some_and(is_late)
            && self.worth_of_oldest() < Some(Worth::Wanted)
        {
            self.drop_oldest();
        }
    }

    /// Compares some of the calls with filters that have come since they were last compared; to be called once a batch.
    pub fn compare_some(&mut self, judge: Judge<'_>) {
        if judge.filters.generation() != self.generation {
            (self.generation, self.compared) = (judge.filters.generation(), 1);
        }
        if self.compared == usize::MAX {
            return;
        }
        let until = self.compared + COMPARED;
        for place in self.compared..until {
            let call = self.calls.at_place(place);
            let found = call.and_then(|call| Some((call, self.calls.get(call)?)));
            if let Some((call, _)) = found.filter(|(_, found)| found.generation != self.generation)
            {
                self.compare(judge, call, false);
            }
        }
        self.compared = match until < self.calls.places() {
            true => until,
            false => usize::MAX,
        };
    }

    /// Compares what is known of a call with the filters.
    fn compare(&mut self, judge: Judge<'_>, call: CallRef, is_last_word: bool) {
        let Some(found) = self.calls.get(call) else {
            return;
        };
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        for (kind, text) in found.identities.fields() {
            fields.push(kind, text);
        }
        let mut packets: Vec<Decoded> = found.identities.packets().collect();
        if packets.is_empty() {
            packets.push(Decoded::default());
        }
        let is_noise = found.state() == State::MediaOnly && !found.is_media;
        if is_noise && is_last_word {
            self.calls
                .update(call, |call| call.standing = Standing::Unwanted);
            return self.settle(call);
        }
        let was_passed = found.standing() == Standing::Passed;
        let Judge {
            filters,
            bpf_active,
        } = judge;
        for packet in packets {
            let verdict = filters.judge(&packet, &fields, bpf_active, &mut self.matches);
            if was_passed && matches!(verdict, Verdict::NoMatch | Verdict::Denied) {
                self.calls.update(call, |call| {
                    if call.standing == Standing::Passed {
                        call.standing = Standing::Unwanted;
                    }
                });
            }
            self.stand(call, filters, verdict, is_last_word);
        }
        self.fields = fields;
        self.settle(call);
    }
}

/// Both ends of a packet.
fn ends(decoded: &Decoded) -> Option<(Endpoint, Endpoint)> {
    let (source, destination): (Addr, Addr) = decoded.addresses?;
    let (from, to) = decoded.ports?;
    Some(((source, from), (destination, to)))
}

#[cfg(test)]
mod tests {
    use super::super::signal::{Method, Start, Tags};
    use super::*;
    use crate::decode::Transport;
    use crate::matcher::Kind;
    use lc_daemon::config::NoFilterPolicy;
    use shm_layout::filters::{Filter, Snapshot};

    const SECOND: u64 = 1_000_000_000;
    const SIP_USER: u32 = 0;

    /// A switchboard with filters, and the packets it has let through, by number.
    struct Desk {
        board: Switchboard,
        filters: FilterSet,
        tags: Tags,
        next: u64,
        sent: Vec<u64>,
    }

    impl Desk {
        fn new(policy: NoFilterPolicy, users: &[&str]) -> Self {
            Self {
                board: Switchboard::new(1 << 20, Elsewhere::Nothing),
                filters: filters(1, policy, users),
                tags: Tags::default(),
                next: 0,
                sent: vec![],
            }
        }

        fn with(users: &[&str]) -> Self {
            Self::new(NoFilterPolicy::Deny, users)
        }

        /// A message such as `INVITE` or `200 INVITE tag`, of Call-ID `id` from `user`, which announces media at `ports` of host 7.
        fn message(&mut self, id: &str, line: &str, user: &str, ports: &[u16]) -> Fate {
            let mut words = line.split(' ').peekable();
            let code = words.next_if(|word| word.parse::<u16>().is_ok());
            let method = match words.next().unwrap() {
                "INVITE" => Method::Invite,
                "ACK" => Method::Ack,
                "BYE" => Method::Bye,
                "CANCEL" => Method::Cancel,
                _ => Method::Alone,
            };
            let start = match code {
                Some(code) => Start::Response(code.parse().unwrap(), method),
                None => Start::Request(method),
            };
            let dialog = self
                .tags
                .dialog(b"caller", words.next().unwrap_or_default().as_bytes());
            let endpoints: Vec<_> = ports
                .iter()
                .map(|port| ((Addr::V4(7), *port), Role::Media))
                .collect();
            let message = Message {
                call_id: id.as_bytes(),
                signal: Signal { start, dialog },
                endpoints: &endpoints,
                formats: &[],
            };
            let mut fields = Fields::default();
            fields.push(Kind::SipUser, user.as_bytes());
            let decoded = packet((1, 5060), (2, 5060));
            let judge = Judge {
                filters: &self.filters,
                bpf_active: false,
            };
            let ruling = self.board.message(judge, &message, &decoded, &fields, 100);
            self.follow(Some(ruling)).unwrap()
        }

        fn media(
            &mut self,
            flow: &mut MediaFlow,
            source: (u32, u16),
            destination: (u32, u16),
            ssrc: u32,
        ) -> Option<Fate> {
            let decoded = packet(source, destination);
            let judge = Judge {
                filters: &self.filters,
                bpf_active: false,
            };
            let ruling = self
                .board
                .media(judge, flow, &decoded, Some((ssrc, true)), 100);
            self.follow(ruling)
        }

        fn follow(&mut self, ruling: Option<Ruling>) -> Option<Fate> {
            let number = self.next;
            self.next += 1;
            let Ruling { call, fate } = ruling?;
            match fate {
                Fate::Forward => self.sent.push(number),
                Fate::Wait => self.board.hold(call, number, 100),
                Fate::Unwanted | Fate::NoRoom | Fate::Shed => {}
            }
            self.flush();
            Some(fate)
        }

        fn flush(&mut self) {
            while let Some(waiting) = self.board.ready() {
                self.sent.push(waiting.position);
                self.board.forwarded(waiting.owner);
            }
        }

        fn wait(&mut self, seconds: u64) {
            let start = self.board.calls.now_ns().max(SECOND);
            for second in 1..=seconds {
                let judge = Judge {
                    filters: &self.filters,
                    bpf_active: false,
                };
                self.board
                    .see(judge, self.next, start + second * SECOND, |_| false);
            }
        }
    }

    fn filters(generation: u64, policy: NoFilterPolicy, users: &[&str]) -> FilterSet {
        let filters = users.iter().map(|user| Filter {
            id: format!("f-{user}"),
            filter_type: SIP_USER,
            pattern: (*user).to_owned(),
            enabled: true,
        });
        let snapshot = Snapshot {
            generation,
            filters: filters.collect(),
        };
        FilterSet::compile(&snapshot, policy).0
    }

    fn packet(source: (u32, u16), destination: (u32, u16)) -> Decoded {
        Decoded {
            addresses: Some((Addr::V4(source.0), Addr::V4(destination.0))),
            ports: Some((source.1, destination.1)),
            transport: Some(Transport::Udp),
            ..Decoded::default()
        }
    }

    #[test]
    fn a_wanted_call_is_forwarded_whole_and_in_order() {
        let mut desk = Desk::with(&["bob"]);
        let mut flow = MediaFlow::default();
        assert_eq!(desk.message("c", "INVITE", "alice", &[4000]), Fate::Wait);
        assert_eq!(
            desk.message("c", "183 INVITE a", "alice", &[5000]),
            Fate::Wait
        );
        assert_eq!(
            desk.media(&mut flow, (9, 9), (7, 4000), 1),
            Some(Fate::Wait)
        );
        // Only the answer tells that it is wanted.
        assert_eq!(
            desk.message("c", "200 INVITE a", "bob", &[5000]),
            Fate::Wait
        );
        assert_eq!(desk.sent, [0, 1, 2, 3]);
        assert_eq!(
            desk.media(&mut flow, (9, 9), (7, 4000), 1),
            Some(Fate::Forward)
        );
        assert_eq!(desk.message("c", "BYE a", "alice", &[]), Fate::Forward);
        // Media go on a little after the end.
        assert_eq!(
            desk.media(&mut flow, (7, 4000), (9, 9), 1),
            Some(Fate::Forward)
        );
        assert_eq!(desk.sent, [0, 1, 2, 3, 4, 5, 6]);
        desk.wait(30);
        assert!(desk.board.calls().is_empty());
    }

    #[test]
    fn media_go_on_for_as_long_as_the_call() {
        let mut desk = Desk::with(&["alice"]);
        let mut flow = MediaFlow::default();
        desk.message("c", "INVITE", "alice", &[4000]);
        desk.message("c", "200 INVITE a", "", &[]);
        for _ in 0..1_000 {
            desk.wait(60);
            assert_eq!(
                desk.media(&mut flow, (9, 9), (7, 4000), 1),
                Some(Fate::Forward)
            );
        }
    }

    #[test]
    fn an_unwanted_call_leaves_nothing() {
        let mut desk = Desk::with(&["carol"]);
        let mut flow = MediaFlow::default();
        for line in ["INVITE", "100 INVITE"] {
            assert_eq!(desk.message("j4", line, "alice", &[4000]), Fate::Wait);
        }
        assert_eq!(
            desk.message("j4", "486 INVITE x", "alice", &[]),
            Fate::Unwanted
        );
        assert_eq!(
            desk.media(&mut flow, (9, 9), (7, 4000), 1),
            Some(Fate::Unwanted)
        );
        assert_eq!((desk.sent.len(), desk.board.tally().released), (0, 2));
        assert_eq!(desk.board.oldest(), None);
    }

    #[test]
    fn without_filters_the_policy_decides() {
        let mut desk = Desk::new(NoFilterPolicy::Deny, &[]);
        assert_eq!(desk.message("c", "INVITE", "alice", &[]), Fate::Unwanted);
        let mut desk = Desk::new(NoFilterPolicy::Allow, &[]);
        assert_eq!(desk.message("c", "OPTIONS", "alice", &[]), Fate::Forward);
        // Filters that come later end what only the policy let through.
        desk.filters = filters(2, NoFilterPolicy::Allow, &["bob"]);
        desk.board.compare_some(Judge {
            filters: &desk.filters,
            bpf_active: false,
        });
        assert_eq!(
            desk.message("c", "200 OPTIONS", "alice", &[]),
            Fate::Unwanted
        );
    }

    #[test]
    fn a_filter_that_comes_later_catches_calls_that_run_and_loses_none() {
        let mut desk = Desk::with(&["carol"]);
        let mut flow = MediaFlow::default();
        desk.message("c", "INVITE", "alice", &[4000]);
        desk.message("c", "200 INVITE a", "alice", &[]);
        assert_eq!(
            desk.media(&mut flow, (9, 9), (7, 4000), 1),
            Some(Fate::Unwanted)
        );
        desk.filters = filters(2, NoFilterPolicy::Deny, &["alice"]);
        desk.board.compare_some(Judge {
            filters: &desk.filters,
            bpf_active: false,
        });
        assert_eq!(
            desk.media(&mut flow, (9, 9), (7, 4000), 1),
            Some(Fate::Forward)
        );
        let call = desk.board.calls().find(b"c").unwrap();
        let ids: Vec<_> = desk.board.calls().get(call).unwrap().ids().iter().collect();
        assert_eq!(ids, ["f-alice"]);
        // It stays wanted without the filter.
        desk.filters = filters(3, NoFilterPolicy::Deny, &["carol"]);
        desk.board.compare_some(Judge {
            filters: &desk.filters,
            bpf_active: false,
        });
        assert_eq!(
            desk.media(&mut flow, (9, 9), (7, 4000), 1),
            Some(Fate::Forward)
        );
    }

    #[test]
    fn transactions_match_by_themselves() {
        let mut desk = Desk::with(&["31600000000"]);
        let fates = ["mt-1 31600000000", "oth 31699999999", "mo-2 31600000000"].map(|text| {
            let (id, user) = text.split_once(' ').unwrap();
            desk.message(id, "MESSAGE", user, &[])
        });
        assert_eq!(fates, [Fate::Forward, Fate::Wait, Fate::Forward]);
        assert_eq!(desk.message("oth", "200 MESSAGE", "", &[]), Fate::Unwanted);
        assert_eq!(desk.message("mt-1", "200 MESSAGE", "", &[]), Fate::Forward);
    }

    #[test]
    fn media_without_signalling_wait_for_it_a_little() {
        let mut desk = Desk::with(&["alice"]);
        let mut flow = MediaFlow::default();
        desk.wait(1);
        assert_eq!(
            desk.media(&mut flow, (7, 4000), (8, 6000), 0xabcd),
            Some(Fate::Wait)
        );
        // Late signalling: the media were its.
        desk.message("c", "INVITE", "alice", &[4000]);
        assert_eq!(
            desk.media(&mut flow, (7, 4000), (8, 6000), 0xabcd),
            Some(Fate::Forward)
        );
        assert_eq!(desk.sent, [0, 1, 2]);
        assert_eq!(desk.board.calls().find(b"rtp-0000abcd"), None);

        // Without it, nobody wants them.
        let mut flow = MediaFlow::default();
        assert_eq!(
            desk.media(&mut flow, (7, 4002), (8, 6002), 0xef),
            Some(Fate::Wait)
        );
        desk.wait(2);
        let filters = filters(1, NoFilterPolicy::Deny, &["alice"]);
        let judge = Judge {
            filters: &filters,
            bpf_active: false,
        };
        desk.board.decide(judge, |_| true);
        assert_eq!(
            desk.media(&mut flow, (7, 4002), (8, 6002), 0xef),
            Some(Fate::Unwanted)
        );
        assert_eq!((desk.sent.len(), desk.board.tally().released), (3, 1));

        // Or everybody.
        let mut desk = Desk::new(NoFilterPolicy::Allow, &[]);
        let mut flow = MediaFlow::default();
        desk.wait(1);
        assert_eq!(
            desk.media(&mut flow, (7, 4002), (8, 6002), 0xef),
            Some(Fate::Wait)
        );
        desk.wait(2);
        let filters = FilterSet::none(NoFilterPolicy::Allow);
        desk.board.decide(
            Judge {
                filters: &filters,
                bpf_active: false,
            },
            |_| true,
        );
        desk.flush();
        assert_eq!(
            desk.media(&mut flow, (7, 4002), (8, 6002), 0xef),
            Some(Fate::Forward)
        );
        assert_eq!(desk.sent, [0, 1]);
    }

    #[test]
    fn calls_are_decided_on_before_they_are_forgotten() {
        let mut desk = Desk::new(NoFilterPolicy::Allow, &[]);
        let mut flow = MediaFlow::default();
        desk.wait(1);
        for _ in 0..3 {
            let fate = desk.media(&mut flow, (7, 4002), (8, 6002), 0xef);
            assert_eq!(fate, Some(Fate::Wait));
        }
        // The next packet, of whatever, comes a minute later.
        let now_ns = desk.board.calls.now_ns() + 60 * SECOND;
        let judge = Judge {
            filters: &desk.filters,
            bpf_active: false,
        };
        desk.board.see(judge, 4, now_ns, |_| true);
        desk.flush();
        assert_eq!((desk.sent.len(), desk.board.tally().released), (3, 0));
    }

    #[test]
    fn calls_wait_until_other_workers_have_come_as_far() {
        let mut desk = Desk::with(&["alice"]);
        desk.board = Switchboard::new(1 << 20, Elsewhere::Exactly);
        let mut flow = MediaFlow::default();
        desk.wait(1);
        desk.message("c", "INVITE", "bob", &[]);
        assert_eq!(desk.message("c", "486 INVITE x", "bob", &[]), Fate::Wait);
        assert_eq!(
            desk.media(&mut flow, (7, 4000), (8, 6000), 1),
            Some(Fate::Wait)
        );
        assert_eq!(desk.board.waits_for(), None);
        desk.wait(2);
        let filters = filters(1, NoFilterPolicy::Deny, &["alice"]);
        let judge = Judge {
            filters: &filters,
            bpf_active: false,
        };
        desk.board.decide(judge, |_| false);
        assert_eq!(
            (desk.board.waits_for(), desk.board.tally().released),
            (Some(2), 0)
        );
        desk.board.decide(judge, |sequence| sequence < 2);
        assert_eq!(desk.board.tally().released, 0);
        desk.board.decide(judge, |sequence| sequence <= 2);
        assert_eq!(
            (desk.board.waits_for(), desk.board.tally().released),
            (None, 3)
        );
    }

    #[test]
    fn doubts_are_bounded_as_calls_are_though_time_stands_still() {
        let mut desk = Desk::with(&["bob"]);
        desk.board = Switchboard::new(32 << 10, Elsewhere::Soon);
        for n in 0..2_000 {
            for _ in 0..3 {
                desk.message(&format!("c{n}"), "486 INVITE x", "alice", &[]);
                let mut flow = MediaFlow::default();
                desk.media(&mut flow, (7, n), (8, n), n.into());
            }
            // The next packet, of the same time.
            let now_ns = desk.board.calls.now_ns().max(SECOND);
            let judge = Judge {
                filters: &desk.filters,
                bpf_active: false,
            };
            desk.board.see(judge, desk.next, now_ns, |_| false);
            let bound = 2 * desk.board.calls.places().max(FEW_DOUBTS) + 1;
            assert!(desk.board.doubts.iter().all(|list| list.len() <= bound));
        }
        assert!(desk.board.calls.places() < 500);
    }

    #[test]
    fn noise_that_looks_like_media_is_no_call() {
        let mut desk = Desk::new(NoFilterPolicy::Allow, &[]);
        let mut flow = MediaFlow::default();
        desk.wait(1);
        let decoded = packet((7, 4000), (8, 6000));
        let judge = Judge {
            filters: &desk.filters,
            bpf_active: false,
        };
        let ruling = desk
            .board
            .media(judge, &mut flow, &decoded, Some((1, false)), 100);
        assert_eq!(desk.follow(ruling), Some(Fate::Wait));
        desk.wait(2);
        let filters = FilterSet::none(NoFilterPolicy::Allow);
        let judge = Judge {
            filters: &filters,
            bpf_active: false,
        };
        desk.board.decide(judge, |_| true);
        desk.flush();
        assert_eq!((desk.sent.len(), desk.board.tally().released), (0, 1));
    }

    #[test]
    fn neither_a_bare_port_nor_other_traffic_is_media() {
        let mut desk = Desk::with(&["alice"]);
        desk.message("c", "INVITE", "alice", &[16400]);
        let decoded = packet((9, 1111), (8, 16400));
        let mut flow = MediaFlow::default();
        let judge = Judge {
            filters: &desk.filters,
            bpf_active: false,
        };
        let ruling = desk.board.media(judge, &mut flow, &decoded, None, 100);
        assert_eq!(ruling, None);
        // X2, X4: anything from or to the endpoint is.
        for (source, destination) in [((7, 16400), (9, 1)), ((9, 1), (7, 16400))] {
            let decoded = packet(source, destination);
            let judge = Judge {
                filters: &desk.filters,
                bpf_active: false,
            };
            let mut flow = MediaFlow::default();
            let ruling = desk.board.media(judge, &mut flow, &decoded, None, 100);
            assert_eq!(ruling.map(|ruling| ruling.fate), Some(Fate::Forward));
        }
    }

    #[test]
    fn what_waits_is_bounded_and_signalling_outlives_media() {
        let mut desk = Desk::with(&["bob"]);
        let mut flow = MediaFlow::default();
        desk.message("c", "INVITE", "alice", &[4000]);
        let fates: Vec<_> = (0..2 * MOST_PACKETS)
            .filter_map(|_| desk.media(&mut flow, (9, 9), (7, 4000), 1))
            .collect();
        let waiting = fates.iter().filter(|fate| **fate == Fate::Wait).count();
        assert_eq!(waiting as u32, MOST_PACKETS - 1);
        assert_eq!(desk.message("c", "180 INVITE a", "alice", &[]), Fate::Wait);
        desk.message("c", "200 INVITE a", "bob", &[]);
        let call = desk.board.calls().find(b"c").unwrap();
        let incomplete = desk.board.calls().get(call).unwrap().incomplete();
        assert_eq!(
            (desk.sent.len() as u32, incomplete),
            (MOST_PACKETS + 2, MOST_PACKETS + 1)
        );
    }

    #[test]
    fn what_rings_for_ever_is_given_up() {
        let mut desk = Desk::with(&["bob"]);
        desk.wait(1);
        desk.message("c", "INVITE", "alice", &[]);
        desk.wait(LONGEST_WAIT_NS / SECOND);
        assert_eq!((desk.board.tally().dropped, desk.board.oldest()), (1, None));
    }

    #[test]
    fn the_oldest_packet_gives_way() {
        let mut desk = Desk::with(&["bob"]);
        desk.message("a", "INVITE", "alice", &[]);
        desk.message("b", "INVITE", "alice", &[]);
        assert_eq!(desk.board.oldest(), Some(0));
        assert!(desk.board.drop_oldest());
        assert_eq!(desk.board.oldest(), Some(1));
        assert!(desk.board.drop_oldest() && !desk.board.drop_oldest());
        desk.message("a", "200 INVITE x", "bob", &[]);
        assert_eq!(desk.sent, [2]);
    }
}
