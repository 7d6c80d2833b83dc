//! Commands of SMTP (RFC 5321 section 4.1), with STARTTLS (RFC 3207), AUTH (RFC 4954), BDAT (RFC 3030), LHLO (RFC 2033).

use std::str::FromStr;

use memchr::{memchr, memchr2};

use crate::extract::lines::starts_ignoring_case;

/// Bytes of the longest verb.
const LONGEST: usize = 8;

/// A line of the client that is a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// Which.
    pub verb: Verb,
    /// What follows it, without blanks around.
    pub argument: &'a [u8],
}

macro_rules! verbs {
    ($($verb:ident $name:literal,)*) => {
        /// Commands.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum Verb {
            $($verb,)*
        }

        impl Verb {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$verb,)*];

            /// In upper case.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$verb => $name,)*
                }
            }
        }
    };
}

verbs! {
    Helo "HELO",
    Ehlo "EHLO",
    Lhlo "LHLO",
    Mail "MAIL",
    Rcpt "RCPT",
    Data "DATA",
    Bdat "BDAT",
    Rset "RSET",
    Quit "QUIT",
    Noop "NOOP",
    Vrfy "VRFY",
    Expn "EXPN",
    Help "HELP",
    StartTls "STARTTLS",
    Auth "AUTH",
    Etrn "ETRN",
    Turn "TURN",
    Atrn "ATRN",
    Burl "BURL",
    Send "SEND",
    Soml "SOML",
    Saml "SAML",
    Xclient "XCLIENT",
    Xforward "XFORWARD",
}

impl<'a> Command<'a> {
    /// Reads a line. A verb ends with a blank or the line; MAIL and RCPT have to name FROM and TO.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let line = line.trim_ascii();
        let start = &line[..line.len().min(LONGEST + 1)];
        let end = start.iter().position(|byte| matches!(byte, b' ' | b'\t'));
        let (word, argument) = line.split_at(end.unwrap_or(start.len()));
        let is = |verb: &&Verb| word.eq_ignore_ascii_case(verb.name().as_bytes());
        let verb = *Verb::ALL.iter().find(is)?;
        let argument = argument.trim_ascii_start();
        let command = Self { verb, argument };
        let needs = match verb {
            Verb::Mail => &b"FROM"[..],
            Verb::Rcpt => b"TO",
            _ => return Some(command),
        };
        command.behind(needs).map(|_| command)
    }

    /// The address of MAIL and RCPT: what stands in brackets, else the first word. None if it is empty, as the sender of a notice is (RFC 5321 section 4.5.5).
    #[must_use]
    pub fn address(&self) -> Option<&'a [u8]> {
        let needs = match self.verb {
            Verb::Mail => &b"FROM"[..],
            Verb::Rcpt => b"TO",
            _ => return None,
        };
        let text = self.behind(needs)?;
        let (path, _) = path(text);
        Some(path.trim_ascii()).filter(|path| !path.is_empty())
    }

    /// SIZE of MAIL (RFC 1870): bytes that the client says the mail has.
    #[must_use]
    pub fn size(&self) -> Option<u64> {
        let (_, parameters) = path(self.behind(b"FROM")?);
        let mut words = parameters.split(u8::is_ascii_whitespace);
        words.find_map(|word| match starts_ignoring_case(word, b"SIZE=") {
            true => number(&word[5..]),
            false => None,
        })
    }

    /// Length of a chunk of BDAT, and whether it is the last.
    #[must_use]
    pub fn chunk(&self) -> Option<(u64, bool)> {
        let mut words = words(self.argument);
        let len = number(words.next()?)?;
        let is_last = words
            .next()
            .is_some_and(|word| word.eq_ignore_ascii_case(b"LAST"));
        (self.verb == Verb::Bdat).then_some((len, is_last))
    }

    /// Whether it is hard to take for the first line of a mail.
    #[must_use]
    pub fn is_for_sure(&self) -> bool {
        match self.verb {
            Verb::Mail | Verb::Rcpt | Verb::Helo | Verb::Ehlo | Verb::Lhlo => true,
            Verb::Data | Verb::Rset | Verb::Quit | Verb::Noop => self.argument.is_empty(),
            _ => false,
        }
    }

    /// Mechanism of AUTH as it stands, and the initial response.
    #[must_use]
    pub fn mechanism(&self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let mut words = words(self.argument);
        let mechanism = words.next().filter(|_| self.verb == Verb::Auth)?;
        Some((mechanism, words.next()))
    }

    /// What follows `word` and a colon.
    fn behind(&self, word: &[u8]) -> Option<&'a [u8]> {
        if !starts_ignoring_case(self.argument, word) {
            return None;
        }
        let rest = self.argument[word.len()..].trim_ascii_start();
        Some(rest.strip_prefix(b":")?.trim_ascii_start())
    }
}

/// The address in the argument of a command: what stands in brackets, else the first word if it has an `@`.
#[must_use]
pub fn address(argument: &[u8]) -> Option<&[u8]> {
    let (path, _) = path(argument.trim_ascii());
    let path = path.trim_ascii();
    let is_one = !path.is_empty() && (memchr2(b'<', b'@', argument).is_some());
    is_one.then_some(path)
}

/// The path of an argument, and the parameters behind it.
fn path(text: &[u8]) -> (&[u8], &[u8]) {
    let words = |text: &'_ [u8]| {
        text.iter()
            .position(u8::is_ascii_whitespace)
            .unwrap_or(text.len())
    };
    let Some(open) = memchr(b'<', text) else {
        return text.split_at(words(text));
    };
    let inner = &text[open + 1..];
    // A quoted local part may hold a bracket (RFC 5321 section 4.1.2).
    let (mut is_quoted, mut is_escaped) = (false, false);
    let end = inner.iter().position(|byte| {
        let is_end = *byte == b'>' && !is_quoted;
        is_quoted ^= *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        is_end
    });
    match end.or_else(|| memchr(b'>', inner)) {
        Some(end) => (&inner[..end], &inner[end + 1..]),
        None => inner.split_at(words(inner)),
    }
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

fn number(digits: &[u8]) -> Option<u64> {
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let text = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    u64::from_str(text).ok()
}
