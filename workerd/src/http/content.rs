//! Which exchanges the operator wants: the mode's own filter (`--host`, `--path`, ...).
//!
//! Each list of patterns is a group. An exchange fits if it has something of each group; a group without patterns asks for nothing.
//!
//! | group | what of the exchange is compared | how |
//! |---|---|---|
//! | hosts | each host that the request names, with and without its port | glob |
//! | paths | the request's path without its query; of a target in absolute form, the whole of it too | glob |
//! | methods | the request's | equal |
//! | statuses | those of the response, and of interim ones before it | range |
//! | keywords | the request's path and its query, the values of all fields, and the bodies that are looked into | contained |
//! | user agents | the request's field | glob |
//! | content types | the field of request or response | glob |
//!
//! Case does not matter. Of an exchange that has no request, any method fits, and of one that has no response, any status; the other groups need what they compare.
//!
//! What is known is judged at once ([`Judgement`]), so that packets need not wait for the end.

use lc_daemon::config::HttpContent;

use std::ops::RangeInclusive;

use super::head::{Head, Start, behind_authority, split_query, without_port};
use crate::matcher::lower::push_lower;
use crate::matcher::pattern::Pattern;
use crate::matcher::texts::{Scratch, Texts};
use crate::session::Content;

/// The compiled filter.
#[derive(Debug, Default)]
pub struct ContentFilter {
    groups: Groups,
    hosts: Texts,
    paths: Texts,
    methods: Texts,
    statuses: Vec<RangeInclusive<u16>>,
    keywords: Texts,
    user_agents: Texts,
    content_types: Texts,
    scratch: Scratch,
    lowered: Vec<u8>,
}

/// A set of groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Groups(u8);

const HOSTS: Groups = Groups(1);
const PATHS: Groups = Groups(2);
const METHODS: Groups = Groups(4);
const STATUSES: Groups = Groups(8);
const KEYWORDS: Groups = Groups(16);
const USER_AGENTS: Groups = Groups(32);
const CONTENT_TYPES: Groups = Groups(64);

impl Groups {
    fn has(self, group: Self) -> bool {
        self.0 & group.0 != 0
    }

    fn insert(&mut self, group: Self) {
        self.0 |= group.0;
    }

    fn remove(&mut self, group: Self) {
        self.0 &= !group.0;
    }
}

/// What is known of an exchange so far.
#[derive(Debug, Clone, Copy)]
pub struct Judgement {
    /// Groups of which nothing was found.
    open: Groups,
    /// Whether one of them can't be found any more.
    fails: bool,
}

impl Judgement {
    /// Whether the exchange fits, once that is known.
    #[must_use]
    pub fn verdict(&self) -> Option<Content> {
        match self {
            Self { fails: true, .. } => Some(Content::Fails),
            Self {
                open: Groups(0), ..
            } => Some(Content::Fits),
            _ => None,
        }
    }

    /// As a successor is told: the groups of which nothing was found, as bits, and whether one of them can't be found any more.
    #[must_use]
    pub fn told(&self) -> (u32, bool) {
        (self.open.0.into(), self.fails)
    }

    /// As a predecessor has told.
    #[must_use]
    pub fn resumed((open, fails): (u32, bool)) -> Self {
        let open = Groups(open.to_le_bytes()[0]);
        Self { open, fails }
    }

    /// Whether bodies can make a difference.
    #[must_use]
    pub fn wants_bodies(&self) -> bool {
        !self.fails && self.open.has(KEYWORDS)
    }

    fn expect(&mut self, group: Groups, is_found: bool) {
        if is_found {
            self.open.remove(group);
        } else if self.open.has(group) {
            self.fails = true;
        }
    }
}

impl ContentFilter {
    /// Compiles the operator's choice.
    #[must_use]
    pub fn new(content: &HttpContent) -> Self {
        let mut groups = Groups::default();
        let mut group = |group, is_empty: bool| {
            if !is_empty {
                groups.insert(group);
            }
        };
        group(HOSTS, content.hosts.is_empty());
        group(PATHS, content.paths.is_empty());
        group(METHODS, content.methods.is_empty());
        group(STATUSES, content.statuses.is_empty());
        group(KEYWORDS, content.keywords.is_empty());
        group(USER_AGENTS, content.user_agents.is_empty());
        group(CONTENT_TYPES, content.content_types.is_empty());
        Self {
            groups,
            hosts: texts(&content.hosts, Pattern::glob),
            paths: texts(&content.paths, Pattern::glob),
            methods: texts(&content.methods, |method| {
                Pattern::exactly(method.as_bytes())
            }),
            statuses: content.statuses.clone(),
            keywords: texts(&content.keywords, |keyword| Pattern {
                open_start: true,
                open_end: true,
                ..Pattern::exactly(keyword.as_bytes())
            }),
            user_agents: texts(&content.user_agents, Pattern::glob),
            content_types: texts(&content.content_types, Pattern::glob),
            scratch: Scratch::default(),
            lowered: Vec::new(),
        }
    }

    /// Whether it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups == Groups::default()
    }

    /// Nothing is known of an exchange.
    #[must_use]
    pub fn begin(&self) -> Judgement {
        Judgement {
            open: self.groups,
            fails: false,
        }
    }

    /// Takes in the head of the request, or of a response.
    pub fn head(&mut self, judgement: &mut Judgement, head: &Head<'_>) {
        let open = judgement.open;
        if open == Groups::default() {
            return;
        }
        match head.start {
            Start::Request { method, target, .. } => {
                if open.has(HOSTS) {
                    let fits = head.hosts().any(|host| self.is_host(host));
                    judgement.expect(HOSTS, fits);
                }
                if open.has(PATHS) {
                    let (path, _) = split_query(target);
                    let origin = behind_authority(path);
                    let fits = [Some(path), origin].into_iter().flatten();
                    let fits = { fits }.any(|path| self.is_in(path, |filter| &filter.paths));
                    judgement.expect(PATHS, fits);
                }
                if open.has(METHODS) {
                    let fits = self.is_in(method, |filter| &filter.methods);
                    judgement.expect(METHODS, fits);
                }
                if open.has(USER_AGENTS) {
                    let agent = head.get(b"user-agent");
                    let fits =
                        agent.is_some_and(|agent| self.is_in(agent, |filter| &filter.user_agents));
                    judgement.expect(USER_AGENTS, fits);
                }
                if open.has(KEYWORDS) {
                    let (path, query) = split_query(target);
                    self.text(judgement, path);
                    self.text(judgement, query);
                }
            }
            Start::Response { status, .. } if open.has(STATUSES) => {
                let is_final = status >= 200 || status == 101;
                let fits = self.statuses.iter().any(|range| range.contains(&status));
                if fits || is_final {
                    judgement.expect(STATUSES, fits);
                }
            }
            Start::Response { .. } => {}
        }
        if open.has(CONTENT_TYPES)
            && let Some(kind) = head.get(b"content-type")
            && self.is_in(kind, |filter| &filter.content_types)
        {
            judgement.open.remove(CONTENT_TYPES);
        }
        if open.has(KEYWORDS) {
            head.fields()
                .for_each(|(_, value)| self.text(judgement, value));
        }
    }

    /// Takes in a text that keywords may stand in, such as a body.
    pub fn text(&mut self, judgement: &mut Judgement, text: &[u8]) {
        if judgement.wants_bodies()
            && !text.is_empty()
            && self.is_in(text, |filter| &filter.keywords)
        {
            judgement.open.remove(KEYWORDS);
        }
    }

    /// Nothing more will be known.
    pub fn end(judgement: &mut Judgement, has_request: bool, has_response: bool) {
        if !has_request {
            judgement.open.remove(METHODS);
        }
        if !has_response {
            judgement.open.remove(STATUSES);
        }
        judgement.fails |= judgement.open != Groups::default();
    }

    fn is_host(&mut self, host: &[u8]) -> bool {
        self.is_in(host, |filter| &filter.hosts)
            || self.is_in(without_port(host), |filter| &filter.hosts)
    }

    fn is_in(&mut self, text: &[u8], texts: impl FnOnce(&Self) -> &Texts) -> bool {
        self.lowered.clear();
        push_lower(&mut self.lowered, text);
        let mut scratch = std::mem::take(&mut self.scratch);
        texts(self).search(&self.lowered, &mut scratch);
        let is_found = !scratch.found.is_empty();
        self.scratch = scratch;
        is_found
    }
}

fn texts(patterns: &[String], read: impl Fn(&str) -> Pattern) -> Texts {
    let patterns = patterns.iter().map(|pattern| read(pattern));
    Texts::new(
        (0..)
            .zip(patterns)
            .map(|(n, pattern)| (pattern, n))
            .collect(),
    )
}
