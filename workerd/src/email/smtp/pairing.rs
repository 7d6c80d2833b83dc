//! Which reply answers which command: replies come in the order of the commands (RFC 5321 section 4.2, RFC 2920).
//!
//! Where bytes are missing, the order is lost. It is found again when the client speaks next after the server: then nothing is open, unless the client did not wait.

use std::collections::VecDeque;

use super::command::Verb;
use crate::session::Exchange;

/// Commands that wait for replies. A client that sends more at once is not followed any more.
const MOST_OPEN: usize = 1024;

/// What waits for a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A command.
    Command(Verb),
    /// A MAIL while the mail before it is not over.
    SecondMail,
    /// The end of a mail, which LMTP answers for each recipient (RFC 2033 section 4.2).
    Text {
        /// How many replies are to come.
        replies: u32,
    },
    /// Something that is no known command.
    Unknown,
}

impl Asked {
    /// As it is told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Command(verb) => verb.name(),
            Self::SecondMail => Verb::Mail.name(),
            Self::Text { .. } => "text",
            Self::Unknown => "unknown",
        }
    }
}

/// Commands without replies.
#[derive(Debug, Default)]
pub struct Pairing {
    open: VecDeque<(Asked, Exchange)>,
    is_lost: bool,
}

impl Pairing {
    /// The client asks.
    pub fn ask(&mut self, asked: Asked, exchange: Exchange) {
        if self.open.len() == MOST_OPEN {
            self.lose();
        }
        self.open.push_back((asked, exchange));
    }

    /// What the next reply answers, if that is known.
    pub fn next(&self) -> Option<(Asked, Exchange)> {
        self.open.front().copied().filter(|_| !self.is_lost)
    }

    /// A reply has come. What it answers, if that is known.
    pub fn answer(&mut self, code: u16) -> Option<(Asked, Exchange)> {
        if self.is_lost {
            return None;
        }
        // Some answer one kind of command alone: whatever is before that was not answered.
        let only = |asked: &Asked| match code {
            221 => *asked == Asked::Command(Verb::Quit),
            235 | 334 => *asked == Asked::Command(Verb::Auth),
            354 => *asked == Asked::Command(Verb::Data),
            _ => true,
        };
        let at = self.open.iter().position(|(asked, _)| only(asked))?;
        self.open.drain(..at);
        let (asked, exchange) = self.open.front_mut()?;
        let answered = (*asked, *exchange);
        match asked {
            Asked::Text { replies } if *replies > 1 => *replies -= 1,
            // The client goes on with the same command.
            Asked::Command(Verb::Auth) if code == 334 => {}
            _ => {
                self.open.pop_front();
            }
        }
        Some(answered)
    }

    /// Bytes are missing.
    pub fn lose(&mut self) {
        self.open.clear();
        self.is_lost = true;
    }

    /// The client speaks after the server has.
    pub fn turn(&mut self) {
        if self.is_lost {
            self.open.clear();
            self.is_lost = false;
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Whether `asked` waits.
    pub fn has(&self, asked: Asked) -> bool {
        self.open.iter().any(|(open, _)| *open == asked)
    }
}
