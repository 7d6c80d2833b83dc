//! Which reply answers which command: replies come in the order of the commands (RFC 5321 section 4.2, RFC 2920).

use super::command::Verb;
use crate::email::open::Open;
use crate::session::Exchange;

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
    pub(super) open: Open<(Asked, Exchange)>,
}

impl Pairing {
    /// The client asks.
    pub fn ask(&mut self, asked: Asked, exchange: Exchange) {
        self.open.ask((asked, exchange));
    }

    /// Whose the next reply is, if that is known.
    #[must_use]
    pub fn next(&self) -> Option<Exchange> {
        self.open.next().map(|(_, exchange)| *exchange)
    }

    /// A reply has come. What it answers, if that is known.
    pub fn answer(&mut self, code: u16) -> Option<Asked> {
        // Some answer one kind of command alone: whatever is before that was not answered.
        let only = |asked: &Asked| match code {
            221 => *asked == Asked::Command(Verb::Quit),
            235 | 334 => *asked == Asked::Command(Verb::Auth),
            354 => *asked == Asked::Command(Verb::Data),
            _ => true,
        };
        if !self.open.skip_to(|(asked, _)| only(asked)) {
            return None;
        }
        let (asked, _) = self.open.next_mut()?;
        match asked {
            Asked::Text { replies } if *replies > 1 => *replies -= 1,
            // The client goes on with the same command.
            Asked::Command(Verb::Auth) if code == 334 => {}
            _ => return self.open.answered().map(|(asked, _)| asked),
        }
        Some(*asked)
    }

    /// Bytes are missing.
    pub fn lose(&mut self) {
        self.open.lose();
    }

    /// The client speaks after the server has.
    pub fn turn(&mut self) {
        self.open.turn();
    }
}
