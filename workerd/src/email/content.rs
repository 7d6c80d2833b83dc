//! Which mails the operator wants, by what they say: `--sender`, `--recipient`, `--address`, `--subject`, `--mailbox`, `--command`, `--keywords`.
//!
//! Each list that is given has to be met by something that was said; within a list, one pattern is enough. Patterns are globs, keywords stand anywhere; case does not matter.

use lc_daemon::config::EmailContent;

use crate::matcher::lower::push_lower;
use crate::matcher::pattern::Pattern;
use crate::matcher::texts::{Scratch, Texts};
use crate::session::Content;

/// What a pattern is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// The sender.
    Sender,
    /// Each recipient.
    Recipient,
    /// The sender and each recipient.
    Address,
    /// Each subject.
    Subject,
    /// Each mailbox that is named.
    Mailbox,
    /// Each command.
    Command,
    /// Each subject, and the texts of the body.
    Keywords,
}

const GROUPS: usize = 7;

/// The patterns.
#[derive(Debug)]
pub struct ContentFilter {
    groups: [Texts; GROUPS],
    /// One bit for each group that has patterns.
    wanted: u8,
    lower: Vec<u8>,
    scratch: Scratch,
}

/// How far something meets the patterns.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fit {
    /// Groups that it meets.
    met: u8,
    /// Groups that nothing more will be said for.
    closed: u8,
}

impl ContentFilter {
    /// Compiles the operator's patterns.
    pub fn new(content: &EmailContent) -> Self {
        let globs = |list: &Vec<String>| texts(list, Pattern::glob);
        let keyword = |text: &str| Pattern {
            open_start: true,
            open_end: true,
            ..Pattern::exactly(text.as_bytes())
        };
        let groups = [
            globs(&content.senders),
            globs(&content.recipients),
            globs(&content.addresses),
            globs(&content.subjects),
            globs(&content.mailboxes),
            globs(&content.commands),
            texts(&content.keywords, keyword),
        ];
        let bits = groups.iter().enumerate();
        let wanted = bits.fold(0, |set, (bit, group)| {
            set | u8::from(!group.is_empty()) << bit
        });
        Self {
            groups,
            wanted,
            lower: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.wanted == 0
    }

    /// Whether texts of this group are compared at all.
    pub fn wants(&self, group: Group) -> bool {
        self.wanted & group.bit() != 0
    }

    /// Compares what was said. An empty text says nothing.
    pub fn compare(&mut self, fit: &mut Fit, group: Group, text: &[u8]) {
        let is_open = self.wanted & !fit.met & group.bit() != 0;
        if !is_open || text.is_empty() {
            return;
        }
        self.lower.clear();
        push_lower(&mut self.lower, text);
        self.groups[group as usize].search(&self.lower, &mut self.scratch);
        if !self.scratch.found.is_empty() {
            fit.met |= group.bit();
        }
    }

    /// Whether it is known yet.
    pub fn verdict(&self, fit: Fit) -> Option<Content> {
        if self.wanted & !fit.met == 0 {
            return Some(Content::Fits);
        }
        let is_missed = self.wanted & !fit.met & fit.closed != 0;
        is_missed.then_some(Content::Fails)
    }
}

impl Fit {
    /// Nothing more will be said for this group.
    pub fn close(&mut self, group: Group) {
        self.closed |= group.bit();
    }

    /// Nothing more will be said at all.
    pub fn close_all(&mut self) {
        self.closed = u8::MAX;
    }
}

impl Group {
    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

fn texts(list: &[String], pattern: impl Fn(&str) -> Pattern) -> Texts {
    let patterns = list.iter().map(|text| (pattern(text), 0));
    Texts::new(patterns.collect())
}
