//! What the protocols of mail have in common: the operator's wishes, room, and how an exchange is judged.

use lc_daemon::config::Email;

use super::KINDS;
use super::content::{ContentFilter, Fit, Group};
use super::kept::Room;
use super::letter::Notes;
use crate::matcher::Kind;
use crate::session::{Content, Exchange, Tell};

/// Bytes that all mails and lines of a protocol may keep together, per worker.
const MOST_KEPT: usize = 64 << 20;

/// What a protocol works with.
#[derive(Debug)]
pub struct Means {
    /// The operator's patterns.
    pub content: ContentFilter,
    /// Bytes of a body that are looked into.
    pub body: usize,
    /// For mails and lines.
    pub room: Room,
    /// For what is told.
    pub notes: Notes,
}

impl Means {
    /// As the operator wants it.
    #[must_use]
    pub fn new(settings: &Email) -> Self {
        Self {
            content: ContentFilter::new(&settings.content),
            body: settings.body.unwrap_or(0),
            room: Room::of(MOST_KEPT),
            notes: Notes::default(),
        }
    }
}

/// An exchange, and what is sure about it.
#[derive(Debug)]
pub struct Judged {
    /// Which.
    pub exchange: Exchange,
    /// How far it meets the operator's patterns.
    pub fit: Fit,
    verdict: Option<Content>,
    is_settled: bool,
}

/// What is sure now, and is to be told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sure {
    content: Option<Content>,
    settles: bool,
}

impl Judged {
    /// Nothing is sure of it.
    #[must_use]
    pub fn new(exchange: Exchange) -> Self {
        Self {
            exchange,
            fit: Fit::default(),
            verdict: None,
            is_settled: false,
        }
    }

    /// What is sure, as a number.
    #[must_use]
    pub fn told(&self) -> u32 {
        let verdict = match self.verdict {
            None => 0,
            Some(Content::Fits) => 1,
            Some(Content::Fails) => 2,
        };
        verdict << 1 | u32::from(self.is_settled)
    }

    /// An exchange of which that is sure; any number will do.
    #[must_use]
    pub fn resumed(exchange: Exchange, told: u32) -> Self {
        Self {
            verdict: match told >> 1 {
                0 => None,
                1 => Some(Content::Fits),
                _ => Some(Content::Fails),
            },
            is_settled: told & 1 != 0,
            ..Self::new(exchange)
        }
    }

    /// Filters are compared with `text`.
    pub fn compare(&self, kind: Kind, text: &[u8], tell: &mut impl Tell) {
        if !self.is_settled && !text.is_empty() && tell.wanted().has(kind) {
            tell.compare(self.exchange, kind, text);
        }
    }

    /// Filters and the operator's patterns are compared with the address of a sender or a recipient.
    pub fn compare_address(
        &mut self,
        group: Group,
        address: &[u8],
        content: &mut ContentFilter,
        tell: &mut impl Tell,
    ) {
        self.compare(Kind::EmailAddress, address, tell);
        content.compare(&mut self.fit, group, address);
        content.compare(&mut self.fit, Group::Address, address);
    }

    /// What has become sure; `is_compared` if filters will not be compared with anything more.
    #[must_use]
    pub fn sure(&mut self, content: &ContentFilter, is_compared: bool, tell: &impl Tell) -> Sure {
        if self.is_settled {
            return Sure::default();
        }
        let mut sure = Sure::default();
        if self.verdict.is_none() && !content.is_empty() {
            self.verdict = content.verdict(self.fit);
            sure.content = self.verdict;
        }
        let is_compared = is_compared || !tell.wanted().has_any(KINDS);
        sure.settles = match self.verdict {
            Some(Content::Fails) => true,
            Some(Content::Fits) => is_compared,
            None => is_compared && content.is_empty(),
        };
        self.is_settled = sure.settles;
        sure
    }
}

impl Sure {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_nothing(self) -> bool {
        self.content.is_none() && !self.settles
    }

    /// Tells it.
    pub fn tell(self, exchange: Exchange, tell: &mut impl Tell) {
        if let Some(content) = self.content {
            tell.content(exchange, content);
        }
        if self.settles {
            tell.settle(exchange);
        }
    }
}
