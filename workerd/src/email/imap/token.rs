//! Words of IMAP (RFC 9051 section 4): atoms, quoted strings, parentheses. Literals stand here as quoted strings.

use std::borrow::Cow;

/// A word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token<'a> {
    /// An atom, with the brackets in it: `BODY[HEADER.FIELDS (SUBJECT)]`.
    Atom(&'a [u8]),
    /// A string, without its quotes.
    Text(Cow<'a, [u8]>),
    /// `(`
    Open,
    /// `)`
    Close,
}

/// The words of a text.
#[derive(Debug, Clone)]
pub struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    /// The words of `text`.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// Passes over what the next value is: a word, or a list with all lists in it.
    pub fn pass_over(&mut self) {
        let mut depth = 0_usize;
        for token in self.by_ref() {
            match token {
                Token::Open => depth += 1,
                Token::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                return;
            }
        }
    }

    fn quoted(&mut self, text: &'a [u8]) -> Token<'a> {
        let mut is_escaped = false;
        let mut has_escapes = false;
        let end = text.iter().position(|byte| {
            let is_end = *byte == b'"' && !is_escaped;
            is_escaped = *byte == b'\\' && !is_escaped;
            has_escapes |= is_escaped;
            is_end
        });
        let inside = &text[..end.unwrap_or(text.len())];
        self.rest = text.get(inside.len() + 1..).unwrap_or_default();
        if !has_escapes {
            return Token::Text(Cow::Borrowed(inside));
        }
        let (mut plain, mut is_escaped) = (Vec::with_capacity(inside.len()), false);
        for byte in inside {
            is_escaped = *byte == b'\\' && !is_escaped;
            if !is_escaped {
                plain.push(*byte);
            }
        }
        Token::Text(Cow::Owned(plain))
    }

    fn atom(&mut self) -> Token<'a> {
        let mut depth = 0_usize;
        let end = self.rest.iter().position(|byte| {
            match byte {
                b'[' => depth += 1,
                b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0 && matches!(byte, b' ' | b'\t' | b'(' | b')' | b'"')
        });
        let (atom, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest;
        Token::Atom(atom)
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        self.rest = self.rest.trim_ascii_start();
        let (first, rest) = self.rest.split_first()?;
        Some(match first {
            b'(' | b')' => {
                self.rest = rest;
                if *first == b'(' {
                    Token::Open
                } else {
                    Token::Close
                }
            }
            b'"' => self.quoted(rest),
            _ => self.atom(),
        })
    }
}

impl Token<'_> {
    /// Its text; parentheses have none, and NIL is none.
    #[must_use]
    pub fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Atom(atom) if atom.eq_ignore_ascii_case(b"NIL") => None,
            Self::Atom(atom) => Some(atom),
            Self::Text(text) => Some(text),
            Self::Open | Self::Close => None,
        }
    }
}

/// The literal that a line announces at its end: what is before it, and its bytes (RFC 9051 section 4.3; RFC 7888, RFC 3516).
#[must_use]
pub fn literal(line: &[u8]) -> Option<(&[u8], u64)> {
    let inside = line.strip_suffix(b"}")?;
    let open = inside.iter().rposition(|byte| *byte == b'{')?;
    let digits = &inside[open + 1..];
    let digits = digits.strip_suffix(b"+").unwrap_or(digits);
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = std::str::from_utf8(digits).ok().filter(|_| is_number)?;
    let before = &line[..open];
    let before = before.strip_suffix(b"~").unwrap_or(before);
    Some((before, digits.parse().ok()?))
}

/// A string as a quoted one.
pub fn quote(text: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(text.len() + 2);
    quoted.push(b'"');
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            quoted.push(b'\\');
        }
        quoted.push(*byte);
    }
    quoted.push(b'"');
    quoted
}
