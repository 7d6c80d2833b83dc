//! A request and its response, which are judged as one: what is remembered of them, and what is told.

use shm_layout::counters::WorkerCounter as Counter;

use super::body::Body;
use super::content::{ContentFilter, Judgement};
use super::framing::Asked;
use super::head::{Head, Start, split_query};
use super::notes::{Notes, host_of};
use super::place;
use crate::flows::Direction;
use crate::matcher::Kind;
use crate::session::{At, Cited, Exchange, Tell};

/// Longest host and path that are remembered for the response.
const LONGEST_HOST: usize = 255;
const LONGEST_PATH: usize = 1024;

/// See the module.
#[derive(Debug)]
pub struct Pair {
    /// As what it is known outside.
    pub id: Exchange,
    /// The request, if it was seen.
    pub request: Option<Request>,
    /// Whether the request, and the response, are over.
    pub over: [bool; 2],
    has_response: bool,
    judgement: Judgement,
    is_content_told: bool,
    is_settled: bool,
    /// Those that are looked into.
    bodies: [Option<Box<Body>>; 2],
}

/// What is remembered of a request.
#[derive(Debug)]
pub struct Request {
    /// When its head was complete.
    pub time_ns: u64,
    /// What it means for its response.
    pub asked: Asked,
    /// Whether it is of version 0.9.
    pub is_simple: bool,
    /// Whether its body waits for a response of status 100.
    pub awaits_continue: bool,
    /// Whether it asks for another protocol.
    pub is_upgrade: bool,
    /// Its method.
    pub method: Box<[u8]>,
    /// Its host, or nothing.
    pub host: Box<[u8]>,
    /// Its path.
    pub path: Box<[u8]>,
}

/// What all pairs of a worker are told with.
#[derive(Debug)]
pub struct Clerk {
    filter: ContentFilter,
    /// Most bytes of a body that is looked into.
    body: Option<usize>,
    notes: Notes,
}

impl Clerk {
    /// With the operator's filter.
    #[must_use]
    pub fn new(filter: ContentFilter, body: Option<usize>) -> Self {
        Self {
            filter,
            body,
            notes: Notes::default(),
        }
    }

    /// Whether the operator wants only some exchanges.
    #[must_use]
    pub fn has_content_filter(&self) -> bool {
        !self.filter.is_empty()
    }

    /// A pair begins.
    pub fn begin(&self, tell: &mut impl Tell) -> Pair {
        Pair {
            id: tell.begin(),
            request: None,
            over: [false; 2],
            has_response: false,
            judgement: self.filter.begin(),
            is_content_told: false,
            is_settled: false,
            bodies: [None, None],
        }
    }

    /// Takes in the head of a pair's request, which begins at `offset`.
    pub fn request(
        &mut self,
        pair: &mut Pair,
        head: &Head<'_>,
        at: &At,
        offset: u64,
        tell: &mut impl Tell,
    ) {
        let Start::Request {
            method,
            target,
            version,
        } = head.start
        else {
            return;
        };
        tell.count(Counter::HttpMessages);
        let wanted = tell.wanted();
        if wanted.has(Kind::HttpHost) {
            head.hosts()
                .for_each(|host| tell.compare(pair.id, Kind::HttpHost, host));
        }
        if wanted.has(Kind::HttpUrl) {
            tell.compare(pair.id, Kind::HttpUrl, target);
        }
        let host = host_of(head);
        let (path, _) = split_query(target);
        let kept = |text: &[u8], most| Box::from(&text[..text.len().min(most)]);
        pair.request = Some(Request {
            time_ns: at.time_ns,
            asked: Asked::of(method),
            is_simple: version == b"HTTP/0.9",
            awaits_continue: head.lists(b"expect", b"100-continue"),
            is_upgrade: head.get(b"upgrade").is_some(),
            method: Box::from(method),
            host: kept(host, LONGEST_HOST),
            path: kept(path, LONGEST_PATH),
        });
        self.take_in(pair, head, Direction::Request, tell);
        if !tell.is_unwanted(pair.id) {
            tell.note(pair.id, offset, self.notes.request(head));
        }
    }

    /// Takes in the head of a response, which begins at `offset` and at `time_ns`.
    pub fn response(
        &mut self,
        pair: &mut Pair,
        head: &Head<'_>,
        time_ns: u64,
        offset: u64,
        tell: &mut impl Tell,
    ) {
        tell.count(Counter::HttpMessages);
        pair.has_response = true;
        self.take_in(pair, head, Direction::Response, tell);
        if !tell.is_unwanted(pair.id) {
            let note = self.notes.response(head, pair.request.as_ref(), time_ns);
            tell.note(pair.id, offset, note);
        }
    }

    fn take_in(
        &mut self,
        pair: &mut Pair,
        head: &Head<'_>,
        direction: Direction,
        tell: &mut impl Tell,
    ) {
        self.filter.head(&mut pair.judgement, head);
        pair.tell_judgement(tell, self.has_content_filter());
        pair.bodies[direction as usize] = match self.body {
            Some(most) if pair.judgement.wants_bodies() => Some(Box::new(Body::new(head, most))),
            _ => None,
        };
    }

    /// Takes in a part of a body.
    pub fn body(&mut self, pair: &mut Pair, direction: Direction, bytes: &[u8]) {
        if let Some(request) = &mut pair.request
            && direction == Direction::Request
        {
            request.awaits_continue = false;
        }
        if let Some(body) = &mut pair.bodies[direction as usize] {
            body.add(bytes);
        }
    }

    /// One of the two is over.
    pub fn end_of(&mut self, pair: &mut Pair, direction: Direction, tell: &mut impl Tell) {
        pair.over[direction as usize] = true;
        if let Some(body) = pair.bodies[direction as usize].take()
            && pair.judgement.wants_bodies()
        {
            self.filter.text(&mut pair.judgement, &body.text());
            pair.tell_judgement(tell, self.has_content_filter());
        }
        if pair.over == [true; 2] {
            self.end(pair, tell);
        }
    }

    /// Nothing more will be known of a pair.
    pub fn end(&mut self, pair: &mut Pair, tell: &mut impl Tell) {
        for direction in [Direction::Request, Direction::Response] {
            if let Some(body) = pair.bodies[direction as usize].take() {
                self.filter.text(&mut pair.judgement, &body.text());
            }
        }
        pair.over = [true; 2];
        ContentFilter::end(
            &mut pair.judgement,
            pair.request.is_some(),
            pair.has_response,
        );
        pair.tell_judgement(tell, self.has_content_filter());
    }
}

impl Pair {
    /// Tells whether it fits, as soon as that is known; what filters compare has been told before.
    fn tell_judgement(&mut self, tell: &mut impl Tell, has_filter: bool) {
        let Some(content) = self.judgement.verdict() else {
            return;
        };
        if has_filter && !std::mem::replace(&mut self.is_content_told, true) {
            tell.content(self.id, content);
        }
        if !std::mem::replace(&mut self.is_settled, true) {
            tell.settle(self.id);
        }
    }

    /// As a successor is told.
    #[must_use]
    pub fn place(&self, cited: &mut Cited) -> place::Pair {
        let (open, fails) = self.judgement.told();
        place::Pair {
            exchange: cited.number(Some(self.id)),
            is_asked: self.over[0],
            is_answered: self.over[1],
            has_response: self.has_response,
            open,
            fails,
            is_content_told: self.is_content_told,
            is_settled: self.is_settled,
            request: self.request.as_ref().map(Request::place),
        }
    }

    /// As a predecessor has told.
    #[must_use]
    pub fn resumed(told: &place::Pair, cited: &Cited) -> Option<Self> {
        Some(Self {
            id: cited.get(told.exchange)?,
            request: told.request.as_ref().map(Request::resumed),
            over: [told.is_asked, told.is_answered],
            has_response: told.has_response,
            judgement: Judgement::resumed((told.open, told.fails)),
            is_content_told: told.is_content_told,
            is_settled: told.is_settled,
            bodies: [None, None],
        })
    }

    /// Bytes of memory that it holds, besides itself.
    #[must_use]
    pub fn held(&self) -> usize {
        let texts = self.request.as_ref().map_or(0, |request| {
            request.method.len() + request.host.len() + request.path.len()
        });
        let bodies = self.bodies.iter().flatten();
        texts
            + bodies
                .map(|body| size_of::<Body>() + body.held())
                .sum::<usize>()
    }
}

impl Request {
    fn place(&self) -> place::Request {
        place::Request {
            time_ns: self.time_ns,
            asked: self.asked.into(),
            is_simple: self.is_simple,
            awaits_continue: self.awaits_continue,
            is_upgrade: self.is_upgrade,
            method: self.method.to_vec(),
            host: self.host.to_vec(),
            path: self.path.to_vec(),
        }
    }

    fn resumed(told: &place::Request) -> Self {
        Self {
            time_ns: told.time_ns,
            asked: told.asked.into(),
            is_simple: told.is_simple,
            awaits_continue: told.awaits_continue,
            is_upgrade: told.is_upgrade,
            method: told.method.as_slice().into(),
            host: told.host.as_slice().into(),
            path: told.path.as_slice().into(),
        }
    }
}
