//! The calls that a worker knows: by Call-ID, bounded in bytes, forgotten when they have been silent for too long.
//!
//! | state | forgotten after silence of, unless [told otherwise](Calls::with_silence) |
//! |---|---|
//! | transaction | 32 s (64 T1, RFC 3261 section 17) |
//! | setup | 5 min: ringing may last (timer C, RFC 3261 section 16.6, is refreshed by each 1xx) |
//! | established | 2 h |
//! | over | 30 s: repeated messages and the last media |
//! | media only | 60 s |
//!
//! Calls of one state, wanted or not, form a list. All in it have the same patience, so the list is in the order of their deadlines, and what has to go is always at its front: no scans, no timers.
//! When memory is short, calls that are not wanted go first; of these, and then of those that are, first what is over, then transactions, media only, calls in setup,
//! established calls; and of one state, what has been silent for longest.
//!
//! Time is that of the packets, as the [flow table](crate::flows) sees it: it makes their progress, and never goes back. Of a leap forward, a minute is believed, so that
//! another file, taken at another time, doesn't end all calls at once.

use std::collections::HashMap;

use super::call::{Call, MOST_ENDPOINTS, MOST_ENDS, MOST_STREAMS, Role};
use super::dialog::{Dialogs, State};
use super::endpoints::{Endpoint, Endpoints, Ends, Unannounced};
use super::signal::Signal;
use super::snapshot::Snapshot;
use super::sources::{AHEAD_NS, Owners, Source, remember};
use crate::desk::held::Chain;
use crate::desk::verdict::Standing;
use crate::flows::clock::Clock;
use crate::rtp::{Content, Header, Stream};
use lc_daemon::config::CallSilence;

const SECOND: u64 = 1_000_000_000;

/// What time may go forward by with one packet.
const LONGEST_STEP: u64 = 60 * SECOND;

/// A call in the table. It stays valid until the call is forgotten; then it leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CallRef {
    /// Place in the table, from 1 on; 0 leads nowhere.
    place: u32,
    stamp: u32,
}

impl CallRef {
    /// Leads to no call.
    pub const NONE: Self = Self { place: 0, stamp: 0 };

    #[cfg(test)]
    pub(super) fn for_tests(place: u32) -> Self {
        Self { place, stamp: 1 }
    }
}

/// What happened to calls since the table was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Begun.
    pub started: u64,
    /// Found to be wanted.
    pub matched: u64,
    /// Forgotten some time after their end.
    pub ended: u64,
    /// Forgotten because nothing was heard of them.
    pub timed_out: u64,
    /// Forgotten to make room for others.
    pub evicted: u64,
    /// RTP packets that never came, of calls that are forgotten.
    pub lost: u64,
    /// RTP packets that came after later ones, of calls that are forgotten.
    pub reordered: u64,
    /// Calls that are wanted, and lost packets by our own fault.
    pub incomplete: u64,
    /// Those packets.
    pub lost_by_us: u64,
    /// Events in RTP.
    pub events: u64,
    /// Packets of comfort noise.
    pub noise: u64,
}

/// One list for each state, wanted or not.
const LISTS: usize = State::ALL.len() * 2;

/// A call that was forgotten while packets of it waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphans {
    /// The packets.
    pub chain: Chain,
}

/// A call that was told of, and is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// Its Call-ID, or what stands for it.
    pub id: Box<[u8]>,
    /// The ends of its flow, if its signalling was not seen.
    pub alone: Option<Ends>,
}

/// How one call has become part of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bond {
    /// The other announced an end of its flow.
    Announced,
    /// Its media go on with the other's.
    Source,
}

/// See the [module](self).
#[derive(Debug)]
pub struct Calls {
    limit: usize,
    /// How long a call may be silent, by state, in nanoseconds.
    silence_ns: [u64; State::ALL.len()],
    bytes: usize,
    /// Place 0 is nobody's.
    places: Vec<Call>,
    free: Vec<u32>,
    by_id: HashMap<Box<[u8]>, u32>,
    endpoints: Endpoints,
    unannounced: Unannounced,
    owners: Owners,
    /// First and last of each list.
    lists: [(u32, u32); LISTS],
    clock: Clock,
    now_ns: u64,
    /// No call is to be forgotten before.
    earliest_ns: u64,
    stamp: u32,
    counts: Counts,
    /// What is learned from others is not told to them.
    is_learning: bool,
    /// Packets that the capture has lost so far, of any call.
    pub(super) lost_by_capture: u64,
    changed: Vec<CallRef>,
    gone: Vec<Gone>,
}

impl Calls {
    /// Room for calls of `limit` bytes together.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit,
            silence_ns: by_state(&CallSilence::default()),
            bytes: 0,
            places: vec![Call::default()],
            free: Vec::new(),
            by_id: HashMap::new(),
            endpoints: Endpoints::default(),
            unannounced: Unannounced::default(),
            owners: Owners::default(),
            lists: [(0, 0); LISTS],
            clock: Clock::default(),
            now_ns: 0,
            earliest_ns: 0,
            stamp: 0,
            counts: Counts::default(),
            is_learning: false,
            lost_by_capture: 0,
            changed: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// The same, but calls may be silent for so long.
    #[must_use]
    pub fn with_silence(mut self, silence: &CallSilence) -> Self {
        self.silence_ns = by_state(silence);
        self
    }

    /// From now on, whether changes are only learned, and not to be told.
    pub(super) fn learn(&mut self, is_learning: bool) {
        self.is_learning = is_learning;
    }

    /// A call that has changed in what others have to know of it.
    pub fn next_changed(&mut self) -> Option<CallRef> {
        while let Some(call) = self.changed.pop() {
            if let Some(found) = self.get_mut(call) {
                found.is_changed = false;
                return Some(call);
            }
        }
        None
    }

    /// A call that was told of, and is forgotten.
    pub fn next_gone(&mut self) -> Option<Gone> {
        self.gone.pop()
    }

    /// Notes where a call is told of.
    pub fn told(&mut self, call: CallRef, position: u64) {
        if let Some(found) = self.get_mut(call) {
            found.told_at = Some(position);
        }
    }

    /// A call has changed in what others have to know of it.
    pub(super) fn change(&mut self, call: CallRef) {
        if !self.is_learning {
            self.mark_changed(call);
        }
    }

    /// The same of what this worker has found out itself, be it because of what it learns.
    fn mark_changed(&mut self, call: CallRef) {
        if let Some(found) = self.get_mut(call)
            && !std::mem::replace(&mut found.is_changed, true)
        {
            self.changed.push(call);
        }
    }

    /// What happened.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Packets that the capture has lost so far, of any call.
    #[must_use]
    pub fn lost_by_capture(&self) -> u64 {
        self.lost_by_capture
    }

    /// Bytes that the calls take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The packets' time, in nanoseconds, as far as it is believed.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// Calls that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - 1 - self.free.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A call.
    #[must_use]
    #[inline]
    pub fn get(&self, call: CallRef) -> Option<&Call> {
        let found = self.places.get(call.place as usize)?;
        (call.place != 0 && found.stamp == call.stamp).then_some(found)
    }

    /// Has fetched into the cache what packets of media need of `calls`.
    pub fn prefetch(&self, calls: &[CallRef]) {
        for call in calls {
            if let Some(found) = self.places.get(call.place as usize) {
                found.prefetch();
            }
        }
        for prefetch in Call::PREFETCHES {
            calls
                .iter()
                .filter_map(|call| self.get(*call))
                .for_each(prefetch);
        }
    }

    #[inline]
    fn get_mut(&mut self, call: CallRef) -> Option<&mut Call> {
        let found = self.places.get_mut(call.place as usize)?;
        (call.place != 0 && found.stamp == call.stamp).then_some(found)
    }

    /// The call of a Call-ID.
    #[must_use]
    pub fn find(&self, id: &[u8]) -> Option<CallRef> {
        self.by_id.get(id).map(|place| self.at(*place))
    }

    /// The call that `told` tells of.
    #[must_use]
    pub fn told_of(&self, told: &Snapshot) -> Option<CallRef> {
        let Some(ends) = told.alone() else {
            return self.find(&told.id);
        };
        let is_alone = |call: &CallRef| {
            let call = self.get(*call);
            call.is_some_and(|call| call.state() == State::MediaOnly)
        };
        self.unannounced.find(ends).filter(is_alone)
    }

    /// The call of a Call-ID, which begins if there is none.
    pub fn find_or_begin(&mut self, id: &[u8], state: State) -> CallRef {
        if let Some(call) = self.find(id) {
            return call;
        }
        let call = self.begin(id, state);
        self.by_id.insert(id.into(), call.place);
        call
    }

    /// Media without signalling, between `ends`, that began at `time_ns`: a call of its own, for as long as nothing else is known.
    pub fn begin_alone(&mut self, id: &[u8], ends: Ends, time_ns: u64) -> CallRef {
        let call = self.begin(id, State::MediaOnly);
        if let Some(found) = self.get_mut(call) {
            found.ends = vec![ends];
            found.began_ns = time_ns;
        }
        self.unannounced.add(ends, call);
        self.weigh(call.place);
        call
    }

    fn begin(&mut self, id: &[u8], state: State) -> CallRef {
        self.stamp += 1;
        let call = Call {
            id: id.into(),
            dialogs: Dialogs::at(state),
            lost_before: self.lost_by_capture,
            is_others: self.is_learning,
            stamp: self.stamp,
            ..Call::default()
        };
        let place = match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = call;
                place
            }
            None => {
                self.places.push(call);
                self.places.len() as u32 - 1
            }
        };
        self.counts.started += u64::from(!self.is_learning);
        self.enlist(place);
        self.weigh(place);
        let call = self.at(place);
        self.change(call);
        call
    }

    /// Takes note of a message of a call. True if it was the last word on who takes part.
    pub fn observe(&mut self, call: CallRef, signal: &Signal) -> bool {
        let Some(found) = self.get_mut(call) else {
            return false;
        };
        let before = found.state();
        let last_word = found.dialogs.observe(signal);
        if found.state() != before {
            self.change(call);
        }
        self.touch(call);
        self.weigh(call.place);
        last_word
    }

    /// Something of the call was seen: its silence begins anew.
    #[inline]
    pub fn touch(&mut self, call: CallRef) {
        let now = self.now_ns;
        // Media come many times a second: to the second is exact enough.
        let is_stale = |call: &Call| {
            let list = list_of(call.state(), call.standing >= Standing::Passed);
            call.deadline_ns + SECOND <= now + self.silence_ns[call.state() as usize]
                || usize::from(call.list) != list
        };
        if self.get(call).is_some_and(is_stale) {
            self.delist(call.place);
            self.enlist(call.place);
        }
    }

    /// A packet of RTP of the call was captured at `time_ns`. Whether an announced end vouches that it is the call's.
    #[inline]
    pub fn hear(&mut self, call: CallRef, header: &Header, time_ns: u64, is_announced: bool) {
        let Some(found) = self.get_mut(call) else {
            return;
        };
        let content = found.content(header.payload_type);
        let of_source = |stream: &Stream| stream.ssrc() == header.ssrc;
        let known = found.streams.iter().position(of_source);
        let is_new = known.is_none() && found.streams.len() < MOST_STREAMS;
        if is_new {
            let clock_rate = found.format(header.payload_type).clock_rate;
            let stream = Stream::begin(header, clock_rate, time_ns);
            found.add_stream(stream);
        }
        let known = known.unwrap_or(found.streams.len().saturating_sub(1));
        let Some(stream) = found
            .streams
            .get_mut(known)
            .filter(|stream| of_source(stream))
        else {
            return;
        };
        if !is_new {
            stream.observe(header, time_ns);
        }
        let is_event = content != Content::Media && stream.note(header, content);
        let bit = 1 << known;
        let is_noted = found.noted & bit != 0;
        let vouches = is_announced || found.state() == State::MediaOnly;
        if vouches {
            found.noted |= bit;
        }
        self.counts.events += u64::from(is_event);
        self.counts.noise += u64::from(content == Content::Noise);
        if vouches && !is_noted {
            self.note(call, Source::of(header, time_ns));
        }
        if is_new {
            self.weigh(call.place);
        }
    }

    /// A source of the call was heard.
    pub fn note(&mut self, call: CallRef, source: Source) {
        let Some(found) = self.get_mut(call).filter(|_| !source.is_trivial()) else {
            return;
        };
        let is_alone = found.state() == State::MediaOnly;
        let (is_changed, gone) = remember(&mut found.sources, source);
        if !is_alone {
            if let Some(gone) = gone {
                self.owners.remove(gone.ssrc, call);
            }
            if is_changed {
                self.owners.add(source.ssrc, call);
            }
        }
        if is_changed {
            self.weigh(call.place);
            self.change(call);
        }
    }

    /// The one call that media without signalling go on with, if there is one.
    #[must_use]
    pub fn continued_by(&self, alone: CallRef) -> Option<CallRef> {
        let found = self.get(alone)?;
        let is_in_time = |source: &&Source| source.time_ns < found.began_ns + AHEAD_NS;
        let mut only = None;
        for source in found.sources.iter().filter(is_in_time) {
            for owner in self.owners.find(source.ssrc) {
                let call = self.get(*owner)?;
                let clock_rate = |payload_type| call.format(payload_type).clock_rate;
                let mut known = call.sources.iter().filter(is_in_time);
                let goes_on = known.any(|known| known.goes_on_with(source, clock_rate));
                if goes_on && only.replace(*owner).is_some_and(|other| other != *owner) {
                    return None;
                }
            }
        }
        only.filter(|call| {
            let call = self.get(*call);
            call.is_some_and(|call| call.ends.len() < MOST_ENDS)
        })
    }

    /// The flow between `ends` is of the call, though nobody announced one of them; unless it has too many of these.
    pub fn latch(&mut self, call: CallRef, ends: Ends) {
        let Some(found) = self.get_mut(call) else {
            return;
        };
        let is_known = found.ends.contains(&ends);
        if !is_known && found.ends.len() == MOST_ENDS {
            return;
        }
        if !is_known {
            found.ends.push(ends);
        }
        self.unannounced.add(ends, call);
        self.endpoints.touch();
        self.weigh(call.place);
        if !is_known {
            self.change(call);
        }
    }

    /// The call of a flow that nobody announced an end of.
    #[must_use]
    pub fn of_unannounced(&self, ends: Ends) -> Option<CallRef> {
        self.unannounced.find(ends)
    }

    /// Media without signalling of which one end is `endpoint`.
    #[must_use]
    pub fn alone_at(&self, endpoint: Endpoint) -> Vec<CallRef> {
        let is_alone = |call: &CallRef| {
            let call = self.get(*call);
            call.is_some_and(|call| call.state() == State::MediaOnly)
        };
        self.unannounced.at(endpoint).filter(is_alone).collect()
    }

    /// Media of the call are expected at `endpoint`.
    pub fn expect(&mut self, call: CallRef, endpoint: Endpoint, role: Role) {
        let Some(found) = self.get_mut(call) else {
            return;
        };
        let known = found.endpoints.iter().any(|(known, _)| *known == endpoint);
        if !known && found.endpoints.len() == MOST_ENDPOINTS {
            return;
        }
        if !known {
            found.endpoints.push((endpoint, role));
        }
        self.endpoints.add(endpoint, call);
        self.weigh(call.place);
        if !known {
            self.change(call);
        }
    }

    /// The call that media between two endpoints belong to, and what is sent to or from its endpoint.
    #[must_use]
    pub fn of_media(&self, source: Endpoint, destination: Endpoint) -> Option<(CallRef, Role)> {
        let call = self.endpoints.find(source, destination)?;
        let endpoints = &self.get(call)?.endpoints;
        let role = |wanted| {
            let found = endpoints.iter().find(|(endpoint, _)| *endpoint == wanted);
            found.map(|(_, role)| *role)
        };
        let role = role(destination).or_else(|| role(source));
        Some((call, role.unwrap_or(Role::Media)))
    }

    /// Changes when media may belong to another call than before.
    #[must_use]
    #[inline]
    pub fn expectations(&self) -> u32 {
        self.endpoints.changes()
    }

    /// Gives `change` the call, and reckons anew what it takes.
    pub fn update<T>(&mut self, call: CallRef, change: impl FnOnce(&mut Call) -> T) -> Option<T> {
        let found = self.get_mut(call)?;
        // Losses are told at each doubling: they come by the thousand.
        let known = |call: &Call| {
            let lost = call.incomplete.checked_ilog2();
            let formats = call.formats.len();
            (call.ids.len(), call.identities.size(), lost, formats)
        };
        let (before, known_before) = (found.standing, known(found));
        let result = change(found);
        let after = found.standing;
        if after >= Standing::Passed && found.incomplete > found.incomplete_counted {
            let lost = found.incomplete - found.incomplete_counted;
            let is_first = found.incomplete_counted == 0;
            found.incomplete_counted = found.incomplete;
            self.counts.incomplete += u64::from(is_first);
            self.counts.lost_by_us += u64::from(lost);
        }
        let Some(found) = self.get_mut(call) else {
            return Some(result);
        };
        let is_others = found.is_others;
        if before != after || known(found) != known_before {
            self.change(call);
        }
        if after >= Standing::Passed && before < Standing::Passed && !is_others {
            self.counts.matched += 1;
        }
        if before != after {
            self.delist(call.place);
            self.enlist(call.place);
        }
        self.weigh(call.place);
        Some(result)
    }

    /// The packets' time has come to `now_ns`.
    #[inline]
    pub fn see(&mut self, now_ns: u64) {
        let before = self.clock.passed_ns();
        self.clock.see(now_ns);
        if self.now_ns == 0 {
            self.now_ns = now_ns;
        }
        self.now_ns += (self.clock.passed_ns() - before).min(LONGEST_STEP);
    }

    /// Forgets a call that has been silent for too long. Packets of it that wait are the caller's to care for; to be called until
    /// nothing comes. One whose packets are about to be forwarded stays.
    #[inline]
    pub fn expire(&mut self) -> Option<Orphans> {
        match self.now_ns < self.earliest_ns {
            true => None,
            false => self.expire_first(),
        }
    }

    fn expire_first(&mut self) -> Option<Orphans> {
        self.earliest_ns = u64::MAX;
        for list in 0..LISTS {
            loop {
                let place = self.lists[list].0;
                let Some(call) = self.places.get(place as usize).filter(|_| place != 0) else {
                    break;
                };
                if call.deadline_ns > self.now_ns {
                    self.earliest_ns = self.earliest_ns.min(call.deadline_ns);
                    break;
                }
                if call.ready_at.is_some() {
                    self.delist(place);
                    self.enlist(place);
                    continue;
                }
                let counted = u64::from(!call.is_others);
                match call.state() {
                    State::Over => self.counts.ended += counted,
                    _ => self.counts.timed_out += counted,
                }
                self.earliest_ns = 0;
                return Some(self.forget(place));
            }
        }
        None
    }

    /// Forgets a call if all of them take more memory than they may; to be called until nothing comes.
    pub fn evict(&mut self) -> Option<Orphans> {
        if self.bytes <= self.limit {
            return None;
        }
        const ORDER: [State; 5] = [
            State::Over,
            State::Transaction,
            State::MediaOnly,
            State::Setup,
            State::Established,
        ];
        let lists = [false, true]
            .into_iter()
            .flat_map(|wanted| ORDER.map(|state| list_of(state, wanted)));
        let fronts = lists.map(|list| self.lists[list].0);
        let place = fronts.into_iter().find(|place| *place != 0)?;
        self.counts.evicted += u64::from(!self.places[place as usize].is_others);
        Some(self.forget(place))
    }

    /// Forgets a call that has become part of `into`. Its packets that wait are the other's.
    pub fn absorb(&mut self, into: CallRef, call: CallRef, bond: Bond) -> Option<Chain> {
        let found = self.get_mut(call)?;
        let streams = std::mem::take(&mut found.streams);
        let sources = std::mem::take(&mut found.sources);
        let ends = found.ends.first().copied();
        self.counts.ended += u64::from(!found.is_others);
        let chain = self.forget(call.place).chain;
        match bond {
            Bond::Announced => {
                let of_packets = |source: &Source| source.packet.is_some();
                for source in sources.into_iter().filter(of_packets) {
                    self.note(into, source);
                    self.mark_changed(into);
                }
            }
            Bond::Source => ends.into_iter().for_each(|ends| self.latch(into, ends)),
        }
        self.join_streams(into, streams);
        Some(chain)
    }

    fn join_streams(&mut self, call: CallRef, streams: Vec<Stream>) {
        for stream in streams {
            let found = self.get_mut(call);
            let known = found.and_then(|found| {
                let is_it = |known: &&mut Stream| known.ssrc() == stream.ssrc();
                if let Some(known) = found.streams.iter_mut().find(is_it) {
                    known.join(&stream);
                    return Some(());
                }
                (found.streams.len() < MOST_STREAMS).then(|| found.add_stream(stream))
            });
            match known {
                Some(()) => self.weigh(call.place),
                None => self.count_lost(&[stream]),
            }
        }
    }

    /// Counts what the media of all calls have been through: nothing more will be heard of them.
    pub fn count_streams(&mut self) {
        for place in 1..self.places.len() {
            let streams = std::mem::take(&mut self.places[place].streams);
            self.count_lost(&streams);
            if !streams.is_empty() {
                self.weigh(place as u32);
            }
        }
    }

    fn count_lost(&mut self, streams: &[Stream]) {
        for stream in streams {
            self.counts.lost += stream.lost();
            self.counts.reordered += u64::from(stream.reordered());
        }
    }

    /// How many places for calls there are, used or not; place 0 never is.
    #[must_use]
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// The call at a place.
    #[must_use]
    pub fn at_place(&self, place: usize) -> Option<CallRef> {
        let call = self.places.get(place)?;
        (call.stamp != 0).then_some(CallRef {
            place: place as u32,
            stamp: call.stamp,
        })
    }

    fn at(&self, place: u32) -> CallRef {
        CallRef {
            place,
            stamp: self.places[place as usize].stamp,
        }
    }

    fn forget(&mut self, place: u32) -> Orphans {
        self.delist(place);
        let call = self.at(place);
        let gone = std::mem::take(&mut self.places[place as usize]);
        for (endpoint, _) in &gone.endpoints {
            self.endpoints.remove(*endpoint, call);
        }
        for ends in &gone.ends {
            self.unannounced.remove(*ends, call);
        }
        let is_alone = gone.state() == State::MediaOnly;
        if !is_alone {
            for source in &gone.sources {
                self.owners.remove(source.ssrc, call);
            }
        }
        if self.by_id.get(&gone.id) == Some(&place) {
            self.by_id.remove(&gone.id);
        }
        if gone.told_at.is_some() {
            self.gone.push(Gone {
                alone: gone.ends.first().copied().filter(|_| is_alone),
                id: gone.id,
            });
        }
        self.count_lost(&gone.streams);
        self.bytes -= gone.bytes;
        self.free.push(place);
        Orphans { chain: gone.chain }
    }

    fn weigh(&mut self, place: u32) {
        let call = &mut self.places[place as usize];
        let bytes = call.measure();
        self.bytes = self.bytes - call.bytes + bytes;
        call.bytes = bytes;
    }

    /// Puts a call at the end of its list.
    fn enlist(&mut self, place: u32) {
        let now = self.now_ns;
        let call = &mut self.places[place as usize];
        let state = call.state();
        let list = list_of(state, call.standing >= Standing::Passed);
        call.deadline_ns = now + self.silence_ns[state as usize];
        call.list = list as u8;
        self.earliest_ns = self.earliest_ns.min(call.deadline_ns);
        let (first, last) = self.lists[list];
        (call.previous, call.next) = (last, 0);
        if last == 0 {
            self.lists[list] = (place, place);
        } else {
            self.places[last as usize].next = place;
            self.lists[list] = (first, place);
        }
    }

    fn delist(&mut self, place: u32) {
        let call = &self.places[place as usize];
        let (list, previous, next) = (usize::from(call.list), call.previous, call.next);
        match previous {
            0 => self.lists[list].0 = next,
            previous => self.places[previous as usize].next = next,
        }
        match next {
            0 => self.lists[list].1 = previous,
            next => self.places[next as usize].previous = previous,
        }
    }
}

fn list_of(state: State, wanted: bool) -> usize {
    state as usize * 2 + usize::from(wanted)
}

fn by_state(silence: &CallSilence) -> [u64; State::ALL.len()] {
    let mut by_state = [0; State::ALL.len()];
    for state in State::ALL {
        let time = match state {
            State::Transaction => silence.transaction,
            State::Setup => silence.setup,
            State::Established => silence.established,
            State::Over => silence.over,
            State::MediaOnly => silence.media_only,
        };
        by_state[state as usize] = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    }
    by_state
}

#[cfg(test)]
mod tests {
    use super::super::signal::{Method, Start};
    use super::*;
    use crate::decode::Addr;
    use std::time::Duration;

    use proptest::prelude::*;

    fn signal(start: Start) -> Signal {
        Signal {
            start,
            dialog: None,
        }
    }

    fn established(calls: &mut Calls, id: &[u8]) -> CallRef {
        let call = calls.find_or_begin(id, State::Transaction);
        calls.observe(call, &signal(Start::Request(Method::Invite)));
        calls.observe(call, &signal(Start::Response(200, Method::Invite)));
        call
    }

    fn forget_the_silent(calls: &mut Calls) -> usize {
        std::iter::from_fn(|| calls.expire()).count()
    }

    /// Lets time go on as packets do.
    fn wait(calls: &mut Calls, seconds: u64) {
        let start = calls.now_ns;
        for second in 1..=seconds {
            calls.see(start + second * SECOND);
        }
    }

    #[test]
    fn calls_end_some_time_after_their_last_word() {
        let mut calls = Calls::new(1 << 20);
        calls.see(1_700_000_000 * SECOND);
        let call = established(&mut calls, b"a");
        let endpoint = (Addr::V4(1), 4000);
        calls.expect(call, endpoint, Role::Media);
        for _ in 0..10 {
            wait(&mut calls, 7_199);
            calls.touch(call);
            assert_eq!(forget_the_silent(&mut calls), 0);
        }
        calls.observe(call, &signal(Start::Request(Method::Bye)));
        wait(&mut calls, 29);
        assert_eq!(forget_the_silent(&mut calls), 0);
        assert_eq!(
            calls.of_media((Addr::V4(9), 9), endpoint),
            Some((call, Role::Media))
        );
        wait(&mut calls, 1);
        assert_eq!(forget_the_silent(&mut calls), 1);
        assert_eq!((calls.get(call).is_none(), calls.find(b"a")), (true, None));
        assert_eq!(calls.of_media((Addr::V4(9), 9), endpoint), None);
        assert_eq!(
            (
                calls.bytes(),
                calls.counts().ended,
                calls.counts().timed_out
            ),
            (0, 1, 0)
        );
    }

    #[test]
    fn each_state_has_a_time_of_its_own() {
        let silence = CallSilence {
            transaction: Duration::from_secs(2),
            setup: Duration::from_secs(4),
            established: Duration::from_secs(6),
            over: Duration::from_secs(8),
            media_only: Duration::from_secs(10),
        };
        let mut calls = Calls::new(1 << 20).with_silence(&silence);
        calls.see(SECOND);
        for (id, state) in
            [b"t", b"s", b"m"]
                .into_iter()
                .zip([State::Transaction, State::Setup, State::MediaOnly])
        {
            calls.find_or_begin(id, state);
        }
        established(&mut calls, b"e");
        let over = established(&mut calls, b"o");
        calls.observe(over, &signal(Start::Request(Method::Bye)));
        for left in [4, 3, 2, 1, 0] {
            wait(&mut calls, 1);
            assert_eq!(forget_the_silent(&mut calls), 0);
            wait(&mut calls, 1);
            assert_eq!((forget_the_silent(&mut calls), calls.len()), (1, left));
        }
    }

    #[test]
    fn a_leap_in_time_ends_nothing_that_goes_on() {
        let mut calls = Calls::new(1 << 20);
        calls.see(SECOND);
        let call = established(&mut calls, b"a");
        calls.see(1_700_000_000 * SECOND);
        assert_eq!(forget_the_silent(&mut calls), 0);
        assert!(calls.get(call).is_some());
    }

    #[test]
    fn a_place_that_is_used_again_is_another_call() {
        let mut calls = Calls::new(1 << 20);
        let old = calls.find_or_begin(b"old", State::Transaction);
        assert!(calls.absorb(CallRef::NONE, old, Bond::Announced).is_some());
        let new = calls.find_or_begin(b"new", State::Transaction);
        assert_eq!((old.place, calls.get(old).is_none()), (new.place, true));
        assert!(calls.absorb(CallRef::NONE, old, Bond::Announced).is_none());
        assert_eq!(calls.get(new).map(Call::id), Some(&b"new"[..]));
    }

    #[test]
    fn a_flood_displaces_itself() {
        let mut calls = Calls::new(1 << 20);
        let wanted = calls.find_or_begin(b"wanted", State::Setup);
        calls.update(wanted, |call| call.standing = Standing::Matched);
        let running = established(&mut calls, b"running");
        for n in 0..100_000u32 {
            let call = calls.find_or_begin(format!("flood {n}").as_bytes(), State::Setup);
            calls.expect(call, (Addr::V4(n), 1), Role::Media);
            while calls.evict().is_some() {}
            assert!(calls.bytes() <= 1 << 20);
        }
        assert!(calls.get(wanted).is_some() && calls.get(running).is_some());
        assert_eq!(
            calls.counts().started - calls.counts().evicted,
            calls.len() as u64
        );
        assert!(calls.len() > 1_000, "{} calls in a MiB", calls.len());
    }

    proptest! {
        /// Whatever happens, each call stands in one list, and the bytes are those of the calls.
        #[test]
        fn lists_and_bytes_stay_right(steps in prop::collection::vec((0..8u8, 0..12u8), 0..200)) {
            let mut calls = Calls::new(8 << 10);
            let mut now = SECOND;
            for (step, which) in steps {
                let id = [which];
                let call = calls.find_or_begin(&id, State::Transaction);
                match step {
                    0 => drop(calls.observe(call, &signal(Start::Request(Method::Invite)))),
                    1 => drop(calls.observe(call, &signal(Start::Response(200, Method::Invite)))),
                    2 => drop(calls.observe(call, &signal(Start::Request(Method::Bye)))),
                    3 => calls.expect(call, (Addr::V4(which.into()), 1), Role::Media),
                    4 => drop(calls.update(call, |call| call.standing = Standing::Matched)),
                    5 => drop(calls.absorb(CallRef::NONE, call, Bond::Announced)),
                    6 => now += u64::from(which) * 10 * SECOND,
                    _ => calls.touch(call),
                }
                calls.see(now);
                while calls.expire().is_some() {}
                while calls.evict().is_some() {}
                let mut listed = 0;
                for (first, last) in calls.lists {
                    let (mut place, mut previous, mut deadline) = (first, 0, 0);
                    while place != 0 {
                        let call = &calls.places[place as usize];
                        prop_assert!(call.previous == previous && call.deadline_ns >= deadline);
                        (previous, place, deadline) = (place, call.next, call.deadline_ns);
                        listed += 1;
                    }
                    prop_assert_eq!(previous, last);
                }
                prop_assert_eq!(listed, calls.len());
                let known = (0..calls.places()).filter_map(|place| calls.at_place(place));
                let bytes: usize = known.filter_map(|call| calls.get(call)).map(Call::measure).sum();
                prop_assert_eq!(bytes, calls.bytes());
            }
        }
    }
}
