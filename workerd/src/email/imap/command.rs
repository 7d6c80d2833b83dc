//! Commands of IMAP (RFC 9051 section 6).

use std::borrow::Cow;

use super::token::{Token, Tokens};
use crate::email::pop3::command::number;

/// Bytes of a tag or a command; longer ones are none.
const MOST_WORD: usize = 64;

/// Commands that are known; others are read all the same.
const KNOWN: &[&str] = &[
    "APPEND",
    "AUTHENTICATE",
    "CAPABILITY",
    "CHECK",
    "CLOSE",
    "COMPRESS",
    "COPY",
    "CREATE",
    "DELETE",
    "DELETEACL",
    "ENABLE",
    "EXAMINE",
    "EXPUNGE",
    "FETCH",
    "GETACL",
    "GETMETADATA",
    "GETQUOTA",
    "GETQUOTAROOT",
    "ID",
    "IDLE",
    "LIST",
    "LISTRIGHTS",
    "LOGIN",
    "LOGOUT",
    "LSUB",
    "MOVE",
    "MYRIGHTS",
    "NAMESPACE",
    "NOOP",
    "NOTIFY",
    "RENAME",
    "SEARCH",
    "SELECT",
    "SETACL",
    "SETMETADATA",
    "SETQUOTA",
    "SORT",
    "STARTTLS",
    "STATUS",
    "STORE",
    "SUBSCRIBE",
    "THREAD",
    "UID",
    "UID COPY",
    "UID EXPUNGE",
    "UID FETCH",
    "UID MOVE",
    "UID SEARCH",
    "UID SORT",
    "UID STORE",
    "UID THREAD",
    "UNAUTHENTICATE",
    "UNSELECT",
    "UNSUBSCRIBE",
    "XLIST",
];

/// A line of the client, with its literals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Command<'a> {
    /// By which its reply is known; empty of DONE, which has none.
    pub tag: &'a [u8],
    /// Its name, if that is a known one; in upper case. That of UID with what it is about: `UID FETCH`.
    pub verb: Option<&'static str>,
    /// Its name as it stands, without UID.
    word: &'a [u8],
    /// What follows it.
    pub arguments: &'a [u8],
}

impl<'a> Command<'a> {
    /// Reads a line: a tag and a word; or DONE, which ends IDLE (RFC 2177).
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        let line = line.trim_ascii();
        if line.eq_ignore_ascii_case(b"DONE") {
            return Some(Self {
                tag: b"",
                verb: Some("DONE"),
                word: line,
                arguments: b"",
            });
        }
        let (tag, rest) = word(line);
        let (mut first, mut arguments) = word(rest);
        let is_word = |word: &[u8]| {
            (1..=MOST_WORD).contains(&word.len()) && word.iter().all(u8::is_ascii_graphic)
        };
        if !is_word(tag) || !is_word(first) || matches!(tag, b"*" | b"+") {
            return None;
        }
        let mut verb = known(first, "");
        if verb == Some("UID") {
            let (second, rest) = word(arguments);
            if is_word(second) {
                (verb, first, arguments) = (known(second, "UID "), second, rest);
            }
        }
        Some(Self {
            tag,
            verb,
            word: first,
            arguments,
        })
    }

    /// Its name in upper case, known or not.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        let upper = || String::from_utf8_lossy(self.word).to_ascii_uppercase();
        self.verb.map_or_else(|| upper().into(), Cow::Borrowed)
    }

    /// The mailboxes that it names.
    #[must_use]
    pub fn mailboxes(&self) -> Vec<Vec<u8>> {
        let texts = Tokens::new(self.arguments).filter_map(|token| Some(token.text()?.to_vec()));
        let mut texts: Vec<_> = texts.collect();
        match self.verb.unwrap_or_default() {
            "SELECT" | "EXAMINE" | "CREATE" | "DELETE" | "SUBSCRIBE" | "UNSUBSCRIBE" | "STATUS"
            | "APPEND" => texts.truncate(1),
            "RENAME" => texts.truncate(2),
            "COPY" | "MOVE" | "UID COPY" | "UID MOVE" => {
                texts = texts.pop().into_iter().collect();
            }
            _ => texts.clear(),
        }
        texts
    }

    /// The mail that it is about, if that is one.
    #[must_use]
    pub fn message(&self) -> Option<u32> {
        let is_about = matches!(self.verb, Some("FETCH" | "UID FETCH"));
        let (set, _) = word(self.arguments);
        number(set).filter(|_| is_about && !set.is_empty())
    }

    /// The first argument of LOGIN and AUTHENTICATE: user, or mechanism.
    #[must_use]
    pub fn first(&self) -> Option<Vec<u8>> {
        let first = Tokens::new(self.arguments).next()?;
        Some(first.text()?.to_vec())
    }

    /// The initial response of AUTHENTICATE (RFC 4959).
    #[must_use]
    pub fn initial(&self) -> Option<&'a [u8]> {
        match Tokens::new(self.arguments).nth(1)? {
            Token::Atom(atom) => Some(atom),
            _ => None,
        }
    }
}

/// The known command with this name, behind `before`.
fn known(word: &[u8], before: &str) -> Option<&'static str> {
    let is = |known: &&&str| {
        let name = known.strip_prefix(before);
        name.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(word))
    };
    KNOWN.iter().find(is).copied()
}

fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let text = text.trim_ascii_start();
    let end = text.iter().position(|byte| *byte == b' ');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    (word, rest.trim_ascii_start())
}

/// The name of a mailbox as people read it (modified UTF-7, RFC 3501 section 5.1.3); as it stands if it is something else.
#[must_use]
pub fn mailbox_name(raw: &[u8]) -> String {
    decoded_name(raw).unwrap_or_else(|| String::from_utf8_lossy(raw).into_owned())
}

fn decoded_name(raw: &[u8]) -> Option<String> {
    let mut name = String::new();
    let mut parts = raw.split(|byte| *byte == b'&');
    name += std::str::from_utf8(parts.next()?).ok()?;
    for part in parts {
        let end = part.iter().position(|byte| *byte == b'-')?;
        let (code, plain) = (&part[..end], &part[end + 1..]);
        match code {
            b"" => name.push('&'),
            _ => name += &utf16(code)?,
        }
        name += std::str::from_utf8(plain).ok()?;
    }
    Some(name)
}

/// Base64 with a comma for the slash, of UTF-16.
fn utf16(code: &[u8]) -> Option<String> {
    let code: Vec<_> = code
        .iter()
        .map(|byte| if *byte == b',' { b'/' } else { *byte })
        .collect();
    let padding = &b"==="[..(4 - code.len() % 4) % 4];
    let bytes = mail_parser::decoders::base64::base64_decode(&[&code, padding].concat())?;
    let units = bytes
        .chunks_exact(2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    char::decode_utf16(units).collect::<Result<_, _>>().ok()
}
