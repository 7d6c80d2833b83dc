//! Replies of POP3 (RFC 1939 section 3).

use super::command::number;

/// The first line of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// What kind.
    pub status: Status,
    /// What follows it.
    pub text: &'a [u8],
}

/// How a reply begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// `+OK`
    Ok,
    /// `-ERR`
    Err,
    /// `+`: the client is to go on with its authentication (RFC 5034).
    GoOn,
}

/// What a line of LIST or UIDL says of a mail, and the reply to these commands if they name one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed<'a> {
    /// Its number.
    pub message: u32,
    /// Its size in bytes, of LIST; of UIDL its name, which may look like a size.
    pub value: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Reads a line.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let (status, rest) = if let Some(rest) = line.strip_prefix(b"+OK") {
            (Status::Ok, rest)
        } else if let Some(rest) = line.strip_prefix(b"-ERR") {
            (Status::Err, rest)
        } else {
            (Status::GoOn, line.strip_prefix(b"+")?)
        };
        let is_whole = rest.is_empty() || rest[0].is_ascii_whitespace();
        let text = rest.trim_ascii();
        is_whole.then_some(Self { status, text })
    }

    /// Mails and their bytes, if it says no more than that, as the reply to STAT does.
    #[must_use]
    pub fn totals(&self) -> Option<(u32, u64)> {
        let mut words = self.text.split(|byte| *byte == b' ');
        let totals = (number(words.next()?)?, number(words.next()?)?);
        (self.status == Status::Ok && words.next().is_none()).then_some(totals)
    }
}

impl Status {
    /// As it stands in a reply.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "+OK",
            Self::Err => "-ERR",
            Self::GoOn => "+",
        }
    }
}

impl<'a> Listed<'a> {
    /// Reads a line: a number and a word.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let blank = line.iter().position(|byte| *byte == b' ')?;
        let (message, value) = (number(&line[..blank])?, line[blank + 1..].trim_ascii());
        let is_word = !value.is_empty() && value.iter().all(u8::is_ascii_graphic);
        is_word.then_some(Self { message, value })
    }

    /// The size, if it can be one.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        number(self.value)
    }
}
