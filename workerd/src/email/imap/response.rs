//! Responses of IMAP (RFC 9051 section 7).

use super::token::{Token, Tokens};
use crate::email::mime;
use crate::email::pop3::command::number;

/// Flags and addresses of a response that are told.
const MOST_ITEMS: usize = 64;

/// A line of the server, with its literals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Response<'a> {
    /// Of which command; empty of untagged ones.
    pub tag: &'a [u8],
    /// `OK`, `NO`, `BAD`, `PREAUTH`, `BYE`, or `CONTINUE`; empty of data.
    pub status: &'static str,
    /// What follows a status, or the name of what is not read further.
    pub text: &'a [u8],
    /// Mails in the mailbox.
    pub exists: Option<u32>,
    /// Mails that are new in it.
    pub recent: Option<u32>,
    /// Mail that FETCH is about.
    pub message: Option<u32>,
    /// Its flags, or those of the mailbox.
    pub flags: Vec<String>,
    /// Unique identifier of the mail.
    pub uid: Option<u32>,
    /// UIDVALIDITY of the mailbox.
    pub uid_validity: Option<u32>,
    /// UIDNEXT of the mailbox.
    pub uid_next: Option<u32>,
    /// RFC822.SIZE.
    pub size: Option<u64>,
    /// ENVELOPE.
    pub envelope: Option<Envelope>,
    /// Whether TLS is possible.
    pub offers_tls: bool,
}

/// Head of a mail as the server tells it (RFC 9051 section 7.5.2).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Envelope {
    /// Subject as it stands in the mail.
    pub subject: Vec<u8>,
    /// Message-ID, with its brackets.
    pub message_id: String,
    /// Addresses of From.
    pub from: Vec<String>,
    /// Addresses of To and Cc.
    pub to: Vec<String>,
}

const STATUSES: [&str; 5] = ["OK", "NO", "BAD", "PREAUTH", "BYE"];

impl<'a> Response<'a> {
    /// Reads a line.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        if let Some(text) = line.strip_prefix(b"+") {
            let is_one = text.is_empty() || text[0] == b' ';
            return is_one.then(|| Self {
                status: "CONTINUE",
                text: text.trim_ascii(),
                ..Self::default()
            });
        }
        if let Some((tag, status, text)) = tagged(line) {
            return Some(Self {
                tag,
                ..Self::status(status, text)
            });
        }
        let rest = line.strip_prefix(b"* ")?;
        let (name, text) = word(rest);
        Some(match status(name) {
            Some(status) => Self::status(status, text),
            None => Self::data(name, text, rest),
        })
    }

    fn status(status: &'static str, text: &'a [u8]) -> Self {
        let mut response = Self {
            status,
            text,
            ..Self::default()
        };
        let code = text.strip_prefix(b"[").unwrap_or_default();
        let end = code.iter().position(|byte| *byte == b']');
        let (name, value) = word(&code[..end.unwrap_or(0)]);
        match name {
            b"UIDNEXT" => response.uid_next = number(value),
            b"UIDVALIDITY" => response.uid_validity = number(value),
            b"CAPABILITY" => response.offers_tls = offers_tls(value),
            _ => {}
        }
        response
    }

    fn data(name: &'a [u8], text: &'a [u8], rest: &'a [u8]) -> Self {
        let mut response = Self::default();
        let is = |text: &[u8], name: &str| text.eq_ignore_ascii_case(name.as_bytes());
        if let Some(count) = number::<u32>(name).filter(|_| !name.is_empty()) {
            let (what, items) = word(text);
            if is(what, "EXISTS") {
                response.exists = Some(count);
            } else if is(what, "RECENT") {
                response.recent = Some(count);
            } else if is(what, "FETCH") {
                response.message = Some(count);
                response.fetched(items);
            } else {
                response.text = rest;
            }
        } else if is(name, "FLAGS") {
            response.flags = texts(&mut Tokens::new(text));
        } else {
            response.text = text;
            response.offers_tls = is(name, "CAPABILITY") && offers_tls(text);
        }
        response
    }

    fn fetched(&mut self, items: &[u8]) {
        let mut tokens = Tokens::new(items);
        if tokens.next() != Some(Token::Open) {
            return;
        }
        while let Some(Token::Atom(name)) = tokens.next() {
            let is = |item: &str| name.eq_ignore_ascii_case(item.as_bytes());
            if is("FLAGS") {
                self.flags = texts(&mut tokens);
            } else if is("UID") {
                self.uid = number_of(&mut tokens);
            } else if is("RFC822.SIZE") {
                self.size = number_of(&mut tokens);
            } else if is("ENVELOPE") {
                self.envelope = Envelope::of(&mut tokens);
            } else {
                tokens.pass_over();
            }
        }
    }
}

/// Tag, status and text of the reply to a command.
#[must_use]
pub fn tagged(line: &[u8]) -> Option<(&[u8], &'static str, &[u8])> {
    let (tag, rest) = word(line);
    let is_tag = !matches!(tag, b"" | b"*" | b"+") && tag.iter().all(u8::is_ascii_graphic);
    let (name, text) = word(rest);
    let status = status(name).filter(|status| matches!(*status, "OK" | "NO" | "BAD"))?;
    is_tag.then_some((tag, status, text))
}

fn status(name: &[u8]) -> Option<&'static str> {
    let is = |status: &&str| status.as_bytes() == name;
    STATUSES.into_iter().find(is)
}

impl Envelope {
    fn of(tokens: &mut Tokens<'_>) -> Option<Self> {
        if tokens.next()? != Token::Open {
            return None;
        }
        let mut envelope = Self::default();
        // date subject from sender reply-to to cc bcc in-reply-to message-id
        for item in 0..10 {
            match item {
                2 => addresses(tokens, &mut envelope.from),
                5 | 6 => addresses(tokens, &mut envelope.to),
                1 | 9 => {
                    let token = tokens.next()?;
                    let text = token.text().unwrap_or_default();
                    if item == 1 {
                        envelope.subject = text.to_vec();
                    } else {
                        envelope.message_id = String::from_utf8_lossy(text).into_owned();
                    }
                }
                _ => tokens.pass_over(),
            }
        }
        tokens.next();
        Some(envelope)
    }

    /// The head that it tells of.
    #[must_use]
    pub fn head(&self) -> mime::Head {
        mime::Head {
            subjects: vec![mime::subject(&self.subject)],
            message_id: mime::message_id(self.message_id.as_bytes()),
            from: self.from.clone(),
            to: self.to.clone(),
        }
    }
}

/// A list of addresses: `((name route mailbox host) ...)`, or NIL.
fn addresses(tokens: &mut Tokens<'_>, addresses: &mut Vec<String>) {
    if tokens.next() != Some(Token::Open) {
        return;
    }
    while tokens.next() == Some(Token::Open) {
        let mut words = Vec::new();
        for token in tokens.by_ref() {
            if token == Token::Close {
                break;
            }
            words.push(
                token
                    .text()
                    .map(|text| String::from_utf8_lossy(text).into_owned()),
            );
            if words.len() > 4 {
                break;
            }
        }
        if let [_, _, Some(mailbox), Some(host)] = &words[..]
            && addresses.len() < MOST_ITEMS
        {
            addresses.push(format!("{mailbox}@{host}"));
        }
    }
}

/// The words of a list.
fn texts(tokens: &mut Tokens<'_>) -> Vec<String> {
    let mut texts = Vec::new();
    if tokens.next() != Some(Token::Open) {
        return texts;
    }
    for token in tokens.by_ref() {
        match token {
            Token::Close => break,
            _ if texts.len() == MOST_ITEMS => {}
            token => texts.extend(
                token
                    .text()
                    .map(|text| String::from_utf8_lossy(text).into_owned()),
            ),
        }
    }
    texts
}

fn number_of<N: std::str::FromStr>(tokens: &mut Tokens<'_>) -> Option<N> {
    number(tokens.next()?.text()?)
}

fn offers_tls(capabilities: &[u8]) -> bool {
    let mut words = capabilities.split(|byte| *byte == b' ');
    words.any(|word| word.eq_ignore_ascii_case(b"STARTTLS"))
}

fn word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| *byte == b' ');
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    (word, rest.strip_prefix(b" ").unwrap_or(rest))
}
