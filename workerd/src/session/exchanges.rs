//! The board of exchanges: which are wanted, and why.
//!
//! An exchange is wanted when the processor's filters want it (any of them matches; or there are none, and the policy of its mode says so) *and* the mode's own settings do, if they say anything
//! ([`Content`]). Once wanted, it stays so. It is unwanted when its content fails, or when it is settled without being wanted. Who is not on the board is unwanted.
//!
//! Filters that come later are compared with what undecided exchanges have said so far.

use lc_daemon::config::NoFilterPolicy;

use super::floor::SessionRef;
use super::pool::{Pool, Ref};
use super::roster::Terms;
use super::tracker::{Content, Exchange, Note};
use crate::decode::{Addr, Decoded};
use crate::desk::verdict::{Ids, Standing};
use crate::matcher::{Fields, Judge, Kind, Matches, Verdict};

/// Most exchanges at the same time. When there are more, new ones are unwanted.
const MOST: usize = 1 << 20;
/// Most bytes of fields that are kept of an undecided exchange, for filters that come later.
const MOST_SAID: usize = 4096;
/// Exchanges that are compared with new filters at a time.
const COMPARED: usize = 64;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Exchanges {
    pool: Pool<Entry>,
    /// Sessions of which an exchange was decided, since that was asked for.
    decided: Vec<SessionRef>,
    /// What exchanges have said since the last call of [`Exchanges::keep_said`]: whose, kind, and where it ends in the text.
    said: Vec<(Exchange, Kind, usize)>,
    text: Vec<u8>,
    fields: Fields,
    matches: Matches,
    generation: u64,
    /// Up to which place exchanges were compared with the latest filters.
    compared: Option<usize>,
    counts: Counts,
}

/// What became of exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Begun.
    pub begun: u64,
    /// Wanted by filters.
    pub matched: u64,
}

/// What the filters say of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Filters {
    /// None matches, so far.
    #[default]
    NoMatch,
    /// There are none, and the policy lets it through.
    Passed,
    /// Some match.
    Matched,
}

/// The two pairs of addresses of a packet: inside and outside of tunnels.
pub type Addresses = (Option<(Addr, Addr)>, Option<(Addr, Addr)>);

#[derive(Debug, Default)]
struct Entry {
    session: SessionRef,
    standing: Standing,
    filters: Filters,
    content: Option<Content>,
    policy: Option<NoFilterPolicy>,
    has_content_filter: bool,
    is_settled: bool,
    /// By which generation it was judged.
    generation: u64,
    ids: Ids,
    addresses: Addresses,
    said: Vec<(Kind, Box<[u8]>)>,
    said_bytes: usize,
    about: Option<Box<About>>,
    /// Packets that wait and are its.
    waiting: u32,
    /// Whether nobody but those needs it any more.
    is_spent: bool,
    covers: bool,
}

/// What a predecessor has told of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inherited {
    /// What is decided.
    pub standing: Standing,
    /// The ids of the filters that match it.
    pub ids: Ids,
    /// Whether it fits the mode's own settings.
    pub fits: bool,
}

impl Default for Inherited {
    /// It is not wanted.
    fn default() -> Self {
        Self {
            standing: Standing::Unwanted,
            ids: Ids::default(),
            fits: false,
        }
    }
}

/// What is told of all its packets.
#[derive(Debug, Default)]
pub struct About {
    /// See [`Note`].
    pub protocol: &'static str,
    /// See [`Note`].
    pub info: String,
    /// See [`Note`].
    pub details: Vec<u8>,
    /// See [`Note`].
    pub blocks: Vec<u8>,
}

impl From<Note<'_>> for About {
    fn from(note: Note<'_>) -> Self {
        Self {
            protocol: note.protocol,
            info: note.info.to_owned(),
            details: note.details.to_vec(),
            blocks: note.blocks.to_vec(),
        }
    }
}

impl Exchanges {
    /// A new exchange of a session, begun by a packet between `addresses`. Without room it is unwanted.
    pub fn begin(
        &mut self,
        judge: Judge<'_>,
        session: SessionRef,
        terms: Terms,
        addresses: Addresses,
    ) -> Exchange {
        self.counts.begun += 1;
        let entry = Entry {
            session,
            policy: Some(terms.policy),
            has_content_filter: terms.has_content_filter,
            addresses,
            generation: judge.filters.generation(),
            ..Entry::default()
        };
        let Some(place) = self.pool.insert(entry, MOST) else {
            return Exchange(u64::MAX);
        };
        let exchange = Exchange(place.number());
        self.judge_addresses(judge, exchange);
        self.stand(exchange);
        exchange
    }

    /// An exchange that a predecessor has told of.
    pub fn restore(&mut self, session: SessionRef, inherited: Inherited) -> Exchange {
        let entry = Entry {
            session,
            standing: inherited.standing,
            content: inherited.fits.then_some(Content::Fits),
            ids: inherited.ids,
            is_settled: true,
            ..Entry::default()
        };
        let place = self.pool.insert(entry, MOST);
        place.map_or(Exchange(u64::MAX), |place| Exchange(place.number()))
    }

    /// What a successor has to know of it. What is not decided is not wanted: of that, a successor sees everything again.
    #[must_use]
    pub fn bequest(&self, exchange: Exchange) -> Inherited {
        let entry = self.entry(exchange);
        let wanted = entry.filter(|entry| entry.standing >= Standing::Passed);
        wanted.map_or_else(Inherited::default, |entry| Inherited {
            standing: entry.standing,
            ids: entry.ids.clone(),
            fits: entry.content == Some(Content::Fits),
        })
    }

    /// All that follows in its session is of it.
    pub fn cover(&mut self, exchange: Exchange) {
        if let Some(entry) = self.entry_mut(exchange) {
            entry.covers = true;
        }
    }

    /// Whether all that follows in its session is of it.
    #[must_use]
    #[inline]
    pub fn covers(&self, exchange: Exchange) -> bool {
        self.entry(exchange).is_some_and(|entry| entry.covers)
    }

    /// What is decided of it.
    #[must_use]
    #[inline]
    pub fn standing(&self, exchange: Exchange) -> Standing {
        self.entry(exchange)
            .map_or(Standing::Unwanted, |entry| entry.standing)
    }

    /// Whether nothing more will be told that could make it match.
    #[must_use]
    pub fn is_settled(&self, exchange: Exchange) -> bool {
        self.entry(exchange).is_none_or(|entry| entry.is_settled)
    }

    /// Whether the operator asked for it, by filters or by the mode's settings.
    #[must_use]
    pub fn was_asked_for(&self, exchange: Exchange) -> bool {
        self.entry(exchange).is_some_and(|entry| {
            entry.standing == Standing::Matched
                || entry.standing == Standing::Passed && entry.content == Some(Content::Fits)
        })
    }

    /// The ids of the filters that match it.
    #[must_use]
    pub fn ids(&self, exchange: Exchange) -> Option<&Ids> {
        Some(&self.entry(exchange)?.ids)
    }

    /// What is told of all its packets.
    #[must_use]
    pub fn about(&self, exchange: Exchange) -> Option<&About> {
        self.entry(exchange)?.about.as_deref()
    }

    /// That is to be told of all its packets from now on.
    pub fn set_about(&mut self, exchange: Exchange, about: About) {
        if let Some(entry) = self.entry_mut(exchange) {
            entry.about = Some(Box::new(about));
        }
    }

    /// Compares filters with what it says.
    pub fn compare(&mut self, judge: Judge<'_>, exchange: Exchange, kind: Kind, text: &[u8]) {
        self.renew(judge, exchange);
        let Some(entry) = self.pool.get(Ref::numbered(exchange.0)) else {
            return;
        };
        if entry.standing == Standing::Unwanted {
            return;
        }
        self.fields.clear();
        self.fields.push(kind, text);
        let verdict = judge.filters.judge(
            &Decoded::default(),
            &self.fields,
            judge.bpf_active,
            &mut self.matches,
        );
        self.add_matches(judge, exchange, verdict);
        self.text.extend_from_slice(text);
        self.said.push((exchange, kind, self.text.len()));
        self.stand(exchange);
    }

    /// Whether it fits the mode's own settings.
    pub fn content(&mut self, judge: Judge<'_>, exchange: Exchange, content: Content) {
        self.renew(judge, exchange);
        if let Some(entry) = self.entry_mut(exchange) {
            entry.content.get_or_insert(content);
        }
        self.stand(exchange);
    }

    /// Nothing more will be told that could make it match.
    pub fn settle(&mut self, judge: Judge<'_>, exchange: Exchange) {
        self.renew(judge, exchange);
        if let Some(entry) = self.entry_mut(exchange) {
            entry.is_settled = true;
        }
        self.stand(exchange);
    }

    /// A packet of it waits, or waits no more.
    pub fn wait(&mut self, exchange: Exchange, waits: bool) {
        let Some(entry) = self.entry_mut(exchange) else {
            return;
        };
        entry.waiting = match waits {
            true => entry.waiting + 1,
            false => entry.waiting.saturating_sub(1),
        };
        self.drop_if_spent(exchange);
    }

    /// Its session needs it no more: it goes when none of its packets waits.
    pub fn spend(&mut self, judge: Judge<'_>, exchange: Exchange) {
        self.settle(judge, exchange);
        if let Some(entry) = self.entry_mut(exchange) {
            entry.is_spent = true;
        }
        self.drop_if_spent(exchange);
    }

    /// What undecided exchanges have said is kept, for filters that come later. To be called when what was told of a packet has been told.
    pub fn keep_said(&mut self) {
        if self.said.is_empty() {
            return;
        }
        let mut start = 0;
        for (exchange, kind, end) in self.said.drain(..) {
            let text = &self.text[start..end];
            start = end;
            let entry = self.pool.get_mut(Ref::numbered(exchange.0));
            let undecided = entry.filter(|entry| {
                entry.standing == Standing::Undecided && entry.said_bytes + text.len() <= MOST_SAID
            });
            if let Some(entry) = undecided {
                entry.said_bytes += text.len() + 1;
                entry.said.push((kind, text.into()));
            }
        }
        self.text.clear();
    }

    /// Compares some undecided exchanges with filters that have come since; to be called once a batch.
    pub fn compare_some(&mut self, judge: Judge<'_>) {
        if judge.filters.generation() != self.generation {
            self.generation = judge.filters.generation();
            self.compared = Some(0);
        }
        let Some(from) = self.compared else {
            return;
        };
        let until = from + COMPARED;
        for place in from..until {
            if let Some(found) = self.pool.at(place) {
                let exchange = Exchange(found.number());
                self.renew(judge, exchange);
                self.stand(exchange);
            }
        }
        self.compared = (until < self.pool.places()).then_some(until);
    }

    /// A session of which an exchange was decided since the last call.
    pub fn next_decided(&mut self) -> Option<SessionRef> {
        self.decided.pop()
    }

    /// What became of exchanges.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Exchanges on the board.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pool.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pool.len() == 0
    }

    #[inline]
    fn entry(&self, exchange: Exchange) -> Option<&Entry> {
        self.pool.get(Ref::numbered(exchange.0))
    }

    #[inline]
    fn entry_mut(&mut self, exchange: Exchange) -> Option<&mut Entry> {
        self.pool.get_mut(Ref::numbered(exchange.0))
    }

    fn drop_if_spent(&mut self, exchange: Exchange) {
        let is_done = |entry: &Entry| entry.is_spent && entry.waiting == 0;
        if self.entry(exchange).is_some_and(is_done) {
            self.pool.remove(Ref::numbered(exchange.0));
        }
    }

    /// Judges an undecided exchange anew, if there are newer filters.
    fn renew(&mut self, judge: Judge<'_>, exchange: Exchange) {
        let generation = judge.filters.generation();
        let Some(entry) = self.entry_mut(exchange) else {
            return;
        };
        if entry.generation == generation || entry.standing != Standing::Undecided {
            return;
        }
        entry.generation = generation;
        entry.filters = Filters::NoMatch;
        entry.ids = Ids::default();
        let said = std::mem::take(&mut entry.said);
        self.judge_addresses(judge, exchange);
        self.fields.clear();
        for (kind, text) in &said {
            self.fields.push(*kind, text);
        }
        if !said.is_empty() {
            let nothing = Decoded::default();
            let verdict =
                judge
                    .filters
                    .judge(&nothing, &self.fields, judge.bpf_active, &mut self.matches);
            self.add_matches(judge, exchange, verdict);
        }
        if let Some(entry) = self.entry_mut(exchange) {
            entry.said = said;
        }
    }

    fn judge_addresses(&mut self, judge: Judge<'_>, exchange: Exchange) {
        let Some(entry) = self.pool.get(Ref::numbered(exchange.0)) else {
            return;
        };
        let (addresses, outer) = entry.addresses;
        let packet = Decoded {
            addresses,
            outer,
            ..Decoded::default()
        };
        self.fields.clear();
        let verdict =
            judge
                .filters
                .judge(&packet, &self.fields, judge.bpf_active, &mut self.matches);
        self.add_matches(judge, exchange, verdict);
    }

    fn add_matches(&mut self, judge: Judge<'_>, exchange: Exchange, verdict: Verdict) {
        let Some(entry) = self.pool.get_mut(Ref::numbered(exchange.0)) else {
            return;
        };
        let filters = match verdict {
            Verdict::Matched => {
                for filter in self.matches.filters() {
                    entry.ids.add(judge.filters.id(*filter));
                }
                Filters::Matched
            }
            Verdict::MatchedByBpf => Filters::Matched,
            Verdict::Passed | Verdict::Denied if entry.policy == Some(NoFilterPolicy::Allow) => {
                Filters::Passed
            }
            Verdict::Passed | Verdict::Denied | Verdict::NoMatch => Filters::NoMatch,
        };
        entry.filters = entry.filters.max(filters);
    }

    /// Brings its standing up to date.
    fn stand(&mut self, exchange: Exchange) {
        let Some(entry) = self.pool.get_mut(Ref::numbered(exchange.0)) else {
            return;
        };
        let before = entry.standing;
        let fits = match entry.content {
            Some(Content::Fits) => true,
            Some(Content::Fails) => false,
            None => !entry.has_content_filter,
        };
        let fails = entry.content == Some(Content::Fails);
        let now = match entry.filters {
            _ if before == Standing::Unwanted => before,
            Filters::Matched if fits || before == Standing::Passed => Standing::Matched,
            Filters::Passed if fits => Standing::Passed,
            _ if before >= Standing::Passed => before,
            _ if fails || entry.is_settled => Standing::Unwanted,
            _ => Standing::Undecided,
        };
        if now == before {
            return;
        }
        entry.standing = now;
        if now != Standing::Undecided {
            (entry.said, entry.said_bytes) = (Vec::new(), 0);
        }
        self.counts.matched += u64::from(now == Standing::Matched);
        self.decided.push(entry.session);
    }
}
