//! Commands of POP3 (RFC 1939), with CAPA (RFC 2449), STLS (RFC 2595), AUTH (RFC 5034), LANG and UTF8 (RFC 6856).

use std::str::FromStr;

/// A line of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// Its first word, if that is a known command; in upper case.
    pub verb: Option<&'static str>,
    /// Its first word.
    pub word: &'a [u8],
    /// What follows it, without blanks around.
    pub argument: &'a [u8],
}

/// Known commands.
pub const VERBS: &[&str] = &[
    "USER", "PASS", "APOP", "AUTH", "STAT", "LIST", "RETR", "DELE", "NOOP", "RSET", "QUIT", "TOP",
    "UIDL", "STLS", "CAPA", "LANG", "UTF8",
];

impl<'a> Command<'a> {
    /// Reads a line; `None` if it is blank.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let line = line.trim_ascii();
        let end = line.iter().position(u8::is_ascii_whitespace);
        let (word, argument) = line.split_at(end.unwrap_or(line.len()));
        let is = |verb: &&&str| word.eq_ignore_ascii_case(verb.as_bytes());
        (!word.is_empty()).then(|| Self {
            verb: VERBS.iter().find(is).copied(),
            word,
            argument: argument.trim_ascii_start(),
        })
    }

    /// The number of the mail that it is about.
    #[must_use]
    pub fn message(&self) -> Option<u32> {
        let is_about = matches!(self.verb, Some("LIST" | "UIDL" | "RETR" | "DELE" | "TOP"));
        number(self.words().next().filter(|_| is_about)?)
    }

    /// The first word of the argument, as it stands: user, or mechanism.
    #[must_use]
    pub fn name(&self) -> Option<&'a [u8]> {
        self.words().next()
    }

    /// The second word of the argument: the initial response of AUTH, the digest of APOP.
    #[must_use]
    pub fn initial(&self) -> Option<&'a [u8]> {
        self.words().nth(1)
    }

    fn words(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.argument
            .split(u8::is_ascii_whitespace)
            .filter(|word| !word.is_empty())
    }
}

/// A decimal number.
#[must_use]
pub fn number<N: FromStr>(digits: &[u8]) -> Option<N> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    text.parse().ok()
}
