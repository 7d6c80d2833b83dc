//! Replies of SMTP (RFC 5321 section 4.2).

use std::ops::RangeInclusive;

use crate::extract::lines::find_ignoring_case;

/// A line of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply<'a> {
    /// Of SMTP, 200 to 599.
    pub code: u16,
    /// Whether more lines of the same reply follow.
    pub goes_on: bool,
    /// What follows the code.
    pub text: &'a [u8],
}

impl<'a> Reply<'a> {
    /// Reads a line: three digits, then a blank, a hyphen or the end.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        Self::with_code(200..=599, line)
    }

    /// The same where other codes are possible, as in FTP (RFC 959 section 4.2).
    #[must_use]
    pub fn with_code(codes: RangeInclusive<u16>, line: &'a [u8]) -> Option<Self> {
        let (digits, rest) = line.split_first_chunk::<3>()?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let code = digits
            .iter()
            .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        let (goes_on, text) = match rest.split_first() {
            None => (false, rest),
            Some((b' ', text)) => (false, text),
            Some((b'-', text)) => (true, text),
            Some(_) => return None,
        };
        codes.contains(&code).then_some(Self {
            code,
            goes_on,
            text,
        })
    }

    /// Whether it is, or may be, the consent to TLS (RFC 3207 section 4).
    #[must_use]
    pub fn announces_tls(&self) -> bool {
        self.code == 220 && find_ignoring_case(self.text, b"tls").is_some()
    }

    /// Whether it says that TLS is possible.
    #[must_use]
    pub fn offers_tls(&self) -> bool {
        self.code == 250 && self.text.trim_ascii().eq_ignore_ascii_case(b"STARTTLS")
    }
}
