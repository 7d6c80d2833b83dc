//! A connection of HTTP/1: which response answers which request, and which bytes are theirs.
//!
//! Responses come in the order of the requests (RFC 9112 section 9.3), whatever time passes. Where bytes of the connection are missing, that order is not known any more: then
//! a request is taken to be sent when what came before it was answered, as nearly all clients do.
//!
//! What is no message is passed over until the next start line: in a connection through a proxy, other things may come first.
//!
//! At most [`MOST_PENDING`] requests wait for their responses. Those beyond are judged alone, and so are their responses.

use std::collections::VecDeque;

use shm_layout::counters::WorkerCounter as Counter;

use super::framing::{Asked, framing};
use super::head::{Head, Start};
use super::messages::{Event, Framing, Messages, Progress};
use super::pair::{Clerk, Pair};
use super::place::{self, MOST_PAIRS};
use crate::flows::Direction;
use crate::reassembly::{End, Event as Happened};
use crate::session::{At, Cited, Course, Exchange, Tell};

/// Most requests of a connection that wait for their responses.
pub const MOST_PENDING: usize = 100;

/// See the module.
#[derive(Debug)]
pub struct Connection {
    requests: Messages,
    responses: Messages,
    /// Those that are not over, in the order of their requests.
    pairs: VecDeque<Pair>,
    /// Requests behind those, whose responses will come alone.
    beyond: u32,
    /// Of the message that goes on, in each direction.
    current: [Option<Exchange>; 2],
    /// Up to where it is told whose bytes are.
    claimed: [u64; 2],
    has_ended: [bool; 2],
    /// Whether any message has come.
    is_http: bool,
    /// Whether bytes are missing, so that responses can't be counted.
    is_uncertain: bool,
    /// When the head of the response at hand began.
    answered_ns: u64,
    /// Changes when anything but the bytes of a body has come.
    steps: u64,
}

/// How a connection goes on.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// As the contract says.
    Course(Course),
    /// In HTTP/2, from here on in the direction at hand; the pair is that of its first stream.
    Http2(u64),
}

const FOLLOW: Turn = Turn::Course(Course::Follow);

impl Default for Connection {
    fn default() -> Self {
        Self {
            requests: Messages::new(Direction::Request),
            responses: Messages::new(Direction::Response),
            pairs: VecDeque::new(),
            beyond: 0,
            current: [None; 2],
            claimed: [0; 2],
            has_ended: [false; 2],
            is_http: false,
            is_uncertain: false,
            answered_ns: 0,
            steps: 0,
        }
    }
}

impl Connection {
    /// Takes in what happened in one direction.
    pub fn take(
        &mut self,
        clerk: &mut Clerk,
        at: &At,
        event: Happened<'_>,
        tell: &mut impl Tell,
    ) -> Turn {
        let before = self.progress();
        let turn = self.take_event(clerk, at, event, tell);
        if !matches!(event, Happened::Data { .. }) || self.progress() != before {
            self.steps += 1;
        }
        turn
    }

    fn take_event(
        &mut self,
        clerk: &mut Clerk,
        at: &At,
        event: Happened<'_>,
        tell: &mut impl Tell,
    ) -> Turn {
        match (event, at.direction) {
            (Happened::Data { bytes, offset }, Direction::Request) => {
                self.requests.is_at(offset);
                let turn = self.requests(clerk, at, bytes, tell);
                self.claim_rest(Direction::Request, self.requests.settled(), tell);
                turn
            }
            (Happened::Data { bytes, offset }, Direction::Response) => {
                self.responses.is_at(offset);
                let turn = self.responses(clerk, at, bytes, tell);
                self.claim_rest(Direction::Response, self.responses.settled(), tell);
                turn
            }
            (Happened::Gap { offset, len }, direction) => {
                self.messages(direction).is_at(offset);
                self.gap(clerk, direction, len, tell);
                FOLLOW
            }
            (Happened::End { offset, reason }, direction) => {
                self.end(clerk, direction, offset, reason, tell);
                FOLLOW
            }
        }
    }

    fn requests(
        &mut self,
        clerk: &mut Clerk,
        at: &At,
        mut chunk: &[u8],
        tell: &mut impl Tell,
    ) -> Turn {
        const SIDE: Direction = Direction::Request;
        while let Some(event) = self.requests.next(&mut chunk) {
            self.steps += u64::from(!matches!(event, Event::Body(_)));
            match event {
                Event::Head { bytes, start } => {
                    let Some(head) = Head::parse(bytes).or_else(|| simple(bytes)) else {
                        tell.count(Counter::HttpMalformed);
                        continue;
                    };
                    self.is_http = true;
                    let mut pair = clerk.begin(tell);
                    claim(&mut self.claimed[0], None, start, tell);
                    clerk.request(&mut pair, &head, at, start, tell);
                    let is_simple = pair.request.as_ref().is_some_and(|one| one.is_simple);
                    let framing = match is_simple {
                        true => Framing::UntilEnd,
                        false => framing(&head, Asked::Other),
                    };
                    self.requests.body(framing);
                    self.current[0] = Some(pair.id);
                    claim(
                        &mut self.claimed[0],
                        Some(pair.id),
                        self.requests.settled(),
                        tell,
                    );
                    self.add(clerk, pair, tell);
                }
                Event::Body(bytes) => {
                    if let Some(pair) = find(&mut self.pairs, self.current[0]) {
                        clerk.body(pair, SIDE, bytes);
                    }
                }
                Event::End => {
                    self.claim_rest(SIDE, self.requests.settled(), tell);
                    self.end_of_message(clerk, SIDE, tell);
                }
                Event::Strange(offset) => {
                    let asks = |pair: &&Pair| {
                        let request = pair.request.as_ref();
                        let leads_on = request
                            .is_some_and(|one| one.asked == Asked::Connect || one.is_upgrade);
                        leads_on && !pair.over[1]
                    };
                    if let Some(pair) = self.pairs.back().filter(asks) {
                        return Turn::Course(Course::Becomes(offset, pair.id));
                    }
                    self.stray(clerk, SIDE, tell);
                }
            }
        }
        FOLLOW
    }

    /// A request has come.
    fn add(&mut self, clerk: &mut Clerk, mut pair: Pair, tell: &mut impl Tell) {
        if self.is_uncertain {
            self.beyond = 0;
            let answering = self.current[1];
            self.pairs.retain_mut(|older| {
                let is_kept = Some(older.id) == answering;
                if !is_kept {
                    clerk.end(older, tell);
                }
                is_kept
            });
        }
        if self.beyond > 0 || self.pairs.len() >= MOST_PENDING {
            self.beyond = self.beyond.saturating_add(1);
            clerk.end(&mut pair, tell);
        } else {
            self.pairs.push_back(pair);
        }
    }

    fn responses(
        &mut self,
        clerk: &mut Clerk,
        at: &At,
        mut chunk: &[u8],
        tell: &mut impl Tell,
    ) -> Turn {
        const SIDE: Direction = Direction::Response;
        if !self.responses.is_within_head() {
            self.answered_ns = at.time_ns;
        }
        if self.responses.is_new()
            && !Start::may_begin(chunk, false)
            && let Some(pair) = self.pairs.front()
            && pair.request.as_ref().is_some_and(|one| one.is_simple)
        {
            self.current[1] = Some(pair.id);
            self.responses.body(Framing::UntilEnd);
        }
        while let Some(event) = self.responses.next(&mut chunk) {
            self.steps += u64::from(!matches!(event, Event::Body(_)));
            match event {
                Event::Head { bytes, start } => {
                    let Some(head) = Head::parse(bytes) else {
                        tell.count(Counter::HttpMalformed);
                        continue;
                    };
                    let Start::Response { status, .. } = head.start else {
                        continue;
                    };
                    self.is_http = true;
                    let is_interim = status < 200 && status != 101;
                    let pair = answered(&mut self.pairs, &mut self.beyond, clerk, tell);
                    claim(&mut self.claimed[1], None, start, tell);
                    clerk.response(pair, &head, self.answered_ns, start, tell);
                    let request = pair.request.as_mut();
                    let asked = request.as_ref().map_or(Asked::Other, |one| one.asked);
                    let has_framing = framing(&head, asked);
                    let leads_on =
                        status == 101 || asked == Asked::Connect && (200..300).contains(&status);
                    let is_http2 = status == 101 && head.lists(b"upgrade", b"h2c");
                    let is_websocket = status == 101 && head.lists(b"upgrade", b"websocket");
                    let awaits =
                        request.is_some_and(|one| std::mem::take(&mut one.awaits_continue));
                    let id = pair.id;
                    self.responses.body(has_framing);
                    let settled = self.responses.settled();
                    claim(&mut self.claimed[1], Some(id), settled, tell);
                    if leads_on {
                        if is_http2 {
                            return Turn::Http2(settled);
                        }
                        clerk.end(pair, tell);
                        return Turn::Course(match is_websocket {
                            true => Course::RestOfBoth(Some(id)),
                            false => Course::Becomes(settled, id),
                        });
                    }
                    if is_interim {
                        // Its end is not that of the response.
                        self.responses.next(&mut &[][..]);
                        continue;
                    }
                    if awaits && self.current[0] == Some(id) {
                        self.requests.excuse_body();
                    }
                    self.current[1] = Some(id);
                    self.answered_ns = at.time_ns;
                }
                Event::Body(bytes) => {
                    if let Some(pair) = find(&mut self.pairs, self.current[1]) {
                        clerk.body(pair, SIDE, bytes);
                    }
                }
                Event::End => {
                    self.claim_rest(SIDE, self.responses.settled(), tell);
                    self.end_of_message(clerk, SIDE, tell);
                }
                Event::Strange(_) => self.stray(clerk, SIDE, tell),
            }
        }
        FOLLOW
    }

    /// A connection that is picked up in its middle.
    #[must_use]
    pub fn joined() -> Self {
        let mut connection = Self::default();
        connection.requests.gap(None);
        connection.responses.gap(None);
        connection.is_uncertain = true;
        connection
    }

    /// Whether any message has come.
    #[must_use]
    pub fn is_http(&self) -> bool {
        self.is_http
    }

    /// As a successor is told; none if too many requests are open.
    #[must_use]
    pub fn place(&self, cited: &mut Cited) -> Option<place::One> {
        if self.pairs.len() > MOST_PAIRS {
            return None;
        }
        let pairs = self.pairs.iter().map(|pair| pair.place(cited)).collect();
        Some(place::One {
            messages: self.progress().to_vec(),
            pairs,
            beyond: self.beyond,
            current: self.current.map(|id| cited.number(id)).to_vec(),
            has_ended: self.has_ended.to_vec(),
            is_http: self.is_http,
            is_uncertain: self.is_uncertain,
        })
    }

    /// As a predecessor has told.
    #[must_use]
    pub fn resumed(told: &place::One, cited: &Cited) -> Self {
        let messages = |side: Direction| {
            let progress = told.messages.get(side as usize).copied();
            Messages::resumed(side, progress.unwrap_or_default())
        };
        let current = |way: usize| cited.get(told.current.get(way).copied().unwrap_or(0));
        let has_ended = |way: usize| told.has_ended.get(way).copied().unwrap_or(false);
        let pairs = told.pairs.iter().take(MOST_PAIRS);
        Self {
            requests: messages(Direction::Request),
            responses: messages(Direction::Response),
            pairs: pairs
                .filter_map(|pair| Pair::resumed(pair, cited))
                .collect(),
            beyond: told.beyond,
            current: [current(0), current(1)],
            has_ended: [has_ended(0), has_ended(1)],
            is_http: told.is_http,
            is_uncertain: told.is_uncertain,
            ..Self::default()
        }
    }

    /// Changes when its place does.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Up to which offset bytes of a direction leave it where it is.
    #[must_use]
    pub fn passive(&self) -> [u64; 2] {
        self.progress().map(Progress::passive)
    }

    fn progress(&self) -> [Progress; 2] {
        [self.requests.progress(), self.responses.progress()]
    }

    fn messages(&mut self, side: Direction) -> &mut Messages {
        match side {
            Direction::Request => &mut self.requests,
            Direction::Response => &mut self.responses,
        }
    }

    /// Takes the pair of the request that has led to another protocol.
    pub fn take_upgrade(&mut self) -> Option<Pair> {
        self.pairs.pop_front()
    }

    /// Gives up what takes memory.
    pub fn forget(&mut self, clerk: &mut Clerk, tell: &mut impl Tell) {
        self.requests.gap(None);
        self.responses.gap(None);
        self.is_uncertain = true;
        self.current = [None; 2];
        self.end_all(clerk, tell);
    }

    /// Bytes of memory that it holds, besides itself.
    #[must_use]
    pub fn held(&self) -> usize {
        let pairs = self.pairs.capacity() * size_of::<Pair>();
        let of_pairs: usize = self.pairs.iter().map(Pair::held).sum();
        self.requests.held() + self.responses.held() + pairs + of_pairs
    }

    fn gap(&mut self, clerk: &mut Clerk, side: Direction, len: Option<u64>, tell: &mut impl Tell) {
        let messages = self.messages(side);
        let is_in_step = messages.gap(len);
        let settled = messages.settled();
        self.claim_rest(side, settled, tell);
        if !is_in_step {
            self.lose_track(clerk, side, tell);
        }
    }

    fn end(
        &mut self,
        clerk: &mut Clerk,
        side: Direction,
        offset: u64,
        reason: End,
        tell: &mut impl Tell,
    ) {
        self.claim_rest(side, offset, tell);
        self.end_of_message(clerk, side, tell);
        self.has_ended[side as usize] = true;
        // Who has closed its side may still be answered.
        let is_half_open = side == Direction::Request && reason == End::Finished;
        if !is_half_open || self.has_ended == [true; 2] {
            self.end_all(clerk, tell);
        }
    }

    fn end_all(&mut self, clerk: &mut Clerk, tell: &mut impl Tell) {
        for mut pair in std::mem::take(&mut self.pairs) {
            clerk.end(&mut pair, tell);
        }
    }

    fn end_of_message(&mut self, clerk: &mut Clerk, side: Direction, tell: &mut impl Tell) {
        let Some(id) = self.current[side as usize].take() else {
            return;
        };
        let place = self.pairs.iter().position(|pair| pair.id == id);
        if let Some(place) = place
            && let Some(pair) = self.pairs.get_mut(place)
        {
            clerk.end_of(pair, side, tell);
            if pair.over == [true; 2] {
                self.pairs.remove(place);
            }
        }
    }

    /// What has come in a direction is no message.
    fn stray(&mut self, clerk: &mut Clerk, side: Direction, tell: &mut impl Tell) {
        if self.is_http {
            tell.count(Counter::HttpMalformed);
        }
        let settled = self.messages(side).settled();
        self.claim_rest(side, settled, tell);
        self.lose_track(clerk, side, tell);
    }

    /// It is not known any more where messages begin in a direction.
    fn lose_track(&mut self, clerk: &mut Clerk, side: Direction, tell: &mut impl Tell) {
        self.is_uncertain = true;
        self.end_of_message(clerk, side, tell);
    }

    fn claim_rest(&mut self, side: Direction, end: u64, tell: &mut impl Tell) {
        let current = self.current[side as usize];
        claim(&mut self.claimed[side as usize], current, end, tell);
    }
}

/// Tells whose bytes those before `end` are, if that is new.
fn claim(claimed: &mut u64, exchange: Option<Exchange>, end: u64, tell: &mut impl Tell) {
    if end > *claimed {
        *claimed = end;
        tell.belongs(exchange, end);
    }
}

fn find(pairs: &mut VecDeque<Pair>, id: Option<Exchange>) -> Option<&mut Pair> {
    pairs.iter_mut().find(|pair| Some(pair.id) == id)
}

/// The pair whose response comes next; a new one if its request is not known.
fn answered<'p>(
    pairs: &'p mut VecDeque<Pair>,
    beyond: &mut u32,
    clerk: &Clerk,
    tell: &mut impl Tell,
) -> &'p mut Pair {
    let place = pairs.iter().position(|pair| !pair.over[1]);
    let place = place.unwrap_or_else(|| {
        *beyond = beyond.saturating_sub(1);
        let mut pair = clerk.begin(tell);
        pair.over[0] = true;
        pairs.push_back(pair);
        pairs.len() - 1
    });
    &mut pairs[place]
}

fn simple(line: &[u8]) -> Option<Head<'_>> {
    Start::simple(line.trim_ascii_end()).map(Head::bare)
}
