//! IMAP (RFC 9051, RFC 3501), as [`email::imap`](crate::email::imap) reads it.
//!
//! On TCP port 143 or 993 an untagged or tagged response, or a known command behind its tag. On any port a line that nobody
//! else says: a greeting with IMAP or a response code in it, capabilities, what the server tells of a mailbox and of mails, the
//! end of a command that says so, a command behind a tag with a digit in it, with arguments that fit; or any known command
//! behind a greeting of `* OK`. Passwords are not told.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Upper};
use super::fields::{contains, decimal, head, lines, split, word};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use crate::email::imap::command::Command;
use crate::email::imap::response::tagged;
use crate::email::imap::token::literal;
use crate::email::sasl;

/// See the module.
pub struct Imap;

const PORTS: &[u16] = &[143, 993];
/// Bytes of a payload that are looked at.
const WINDOW: usize = 500;
/// Most bytes of the tag of a line that is known on any port.
const MOST_TAG: usize = 16;

/// Bytes of the announcement of a literal: brackets, a number of 32 bits, a plus sign.
const MOST_LITERAL: usize = 13;

/// The first line of a payload.
#[derive(Clone, Copy)]
enum Line<'a> {
    /// What follows the star.
    Untagged(&'a [u8]),
    /// Tag, status and what follows them.
    Tagged(&'a [u8], &'static str, &'a [u8]),
    Command(&'static str, Command<'a>),
}

impl<'a> Line<'a> {
    fn of(payload: &'a [u8]) -> Option<Self> {
        let line = first_line(payload);
        if let Some(rest) = line.strip_prefix(b"* ") {
            return Some(Self::Untagged(rest));
        }
        if let Some((tag, status, text)) = tagged(line) {
            return Some(Self::Tagged(tag, status, text));
        }
        let command = Command::of(line)?;
        Some(Self::Command(command.verb?, command))
    }

    /// The same of a payload on any port, if its beginning is worth the look.
    fn off_port(payload: &'a [u8], is_greeted: bool) -> Option<Self> {
        let start = head(payload, MOST_TAG + 1);
        let (tag, _) = split(start, b' ')?;
        let is_tag = tag == b"*" || is_greeted || tag.iter().any(u8::is_ascii_digit);
        split(head(payload, WINDOW), b'\n').filter(|_| is_tag)?;
        Self::of(payload)
    }

    /// Whether it is of IMAP on any port; behind a greeting of `* OK`, where `is_greeted`.
    fn is_for_sure(&self, is_greeted: bool) -> bool {
        match self {
            Self::Untagged(text) => is_of_a_server(text),
            // Replies of other protocols begin with three digits.
            Self::Tagged(tag, _, text) => {
                let is_code = tag.len() == 3 && tag.iter().all(u8::is_ascii_digit);
                !is_code && (text.starts_with(b"[") || contains(text, b"completed"))
            }
            Self::Command(verb, command) => {
                let is_tag = |byte: &u8| byte.is_ascii_alphanumeric() || b".-_".contains(byte);
                is_greeted || command.tag.iter().all(is_tag) && fits(verb, command.arguments)
            }
        }
    }

    fn is_greeting(&self) -> bool {
        matches!(self, Self::Untagged(text) if text.starts_with(b"OK ") || text.starts_with(b"PREAUTH "))
    }
}

fn first_line(payload: &[u8]) -> &[u8] {
    lines(head(payload, WINDOW)).next().unwrap_or_default()
}

/// What follows the star, if servers of IMAP alone say so.
fn is_of_a_server(text: &[u8]) -> bool {
    let (first, rest) = word(text);
    let (second, third) = word(rest);
    match first {
        b"OK" | b"PREAUTH" | b"BYE" => rest.starts_with(b"[") || contains(rest, b"imap"),
        b"CAPABILITY" => contains(rest, b"imap4"),
        b"FLAGS" | b"LIST" | b"LSUB" => rest.starts_with(b"("),
        number if decimal(number).is_some() => match second {
            b"EXISTS" | b"RECENT" | b"EXPUNGE" => third.is_empty(),
            b"FETCH" => third.starts_with(b"("),
            _ => false,
        },
        _ => false,
    }
}

/// Whether a command has the arguments that it must have, and such as words of other protocols hardly have.
fn fits(verb: &str, arguments: &[u8]) -> bool {
    let mut words = arguments
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let (first, second, third) = (words.next(), words.next(), words.next());
    let Some(first) = first else {
        return matches!(
            verb,
            "CAPABILITY" | "STARTTLS" | "NAMESPACE" | "IDLE" | "NOOP" | "LOGOUT"
        );
    };
    let is_set = first[0].is_ascii_digit() || matches!(first[0], b'*' | b'$');
    match verb {
        "AUTHENTICATE" => sasl::is_mechanism(first) && third.is_none(),
        "SELECT" | "EXAMINE" => second.is_none() || matches!(first[0], b'"' | b'{'),
        "LIST" | "LSUB" => first[0] == b'"' && second.is_some(),
        "FETCH" | "STORE" | "UID FETCH" | "UID STORE" | "UID COPY" | "UID MOVE" => {
            is_set && second.is_some()
        }
        "UID SEARCH" => true,
        "APPEND" => arguments.ends_with(b"}"),
        _ => false,
    }
}

/// Whether the first line of a payload is the server's first.
fn greets(line: &[u8]) -> bool {
    contains(line, b"imap4") || contains(line, b"ready")
}

/// Whether any line of `payload` has a secret, or asks for one.
fn authenticates(payload: &[u8]) -> bool {
    let mut commands = lines(payload).filter_map(Command::of);
    commands.any(|command| matches!(command.verb, Some("LOGIN" | "AUTHENTICATE")))
}

/// Whether `payload` is a line behind which a literal comes: maybe of a LOGIN that was missed.
fn announces(payload: &[u8]) -> bool {
    let line = payload.trim_ascii_end();
    let end = &line[line.len().saturating_sub(MOST_LITERAL)..];
    literal(end).is_some() && !line.contains(&b'\n')
}

impl Signature for Imap {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Imap]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && first.is_ascii_graphic()
    }

    fn judge(&self, context: &Context<'_>, notes: &mut Notes<'_>) -> Option<Verdict> {
        let payload = context.payload;
        if notes.scratch.authenticates(context.forward) {
            // A command may be none: the server's answer decides.
            return None;
        }
        // The client goes on with a literal, or with a response to what the server asks.
        if announces(payload) && Line::of(payload).is_none() {
            notes.scratch.note_secret(context.forward, true, false);
            return None;
        }
        if context.on(PORTS) {
            if payload.starts_with(b"+ ") {
                notes.scratch.note_secret(!context.forward, true, false);
                return None;
            }
            let line = Line::of(payload)?;
            let is_response = !matches!(line, Line::Command(..));
            let is_greeting = is_response && greets(first_line(payload));
            return verdict(Protocol::Imap, Confidence::by_port(is_greeting, 1000, 975));
        }
        let is_greeted = notes.scratch.is_greeted(context.forward);
        let line = Line::off_port(payload, is_greeted)?;
        if line.is_for_sure(is_greeted) {
            return verdict(Protocol::Imap, Confidence::VERY_HIGH);
        }
        if line.is_greeting() {
            notes.scratch.greet(context.forward);
        }
        None
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        notes: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if notes.scratch.hides(context.forward) {
            return;
        }
        let Some(message) = Line::of(context.payload) else {
            return;
        };
        let line = first_line(context.payload);
        match message {
            Line::Command(verb, command) => {
                let (name, args) = match verb {
                    "DONE" => (line, &[][..]),
                    _ => word(word(line).1),
                };
                details.put("type", "command");
                details.text_if_any("tag", command.tag);
                details.put("command", Upper(name));
                match verb {
                    "LOGIN" => details.put("args", "*** ***"),
                    "AUTHENTICATE" => details.text_if_any("args", word(args).0),
                    _ => details.text_if_any("args", args),
                }
                details.flag("starttls_request", verb == "STARTTLS");
                return;
            }
            Line::Untagged(text) => {
                details.put("type", "response");
                details.put("untagged", true);
                details.text_if_any("response_type", word(text).0);
            }
            Line::Tagged(tag, status, _) => {
                details.put("type", "response");
                details.put("tagged", true);
                details.text("tag", tag);
                details.put("status", status);
            }
        }
        details.flag("greeting", greets(line));
        let window = head(context.payload, WINDOW);
        details.flag("starttls_capable", contains(window, b"starttls"));
    }

    fn watches(&self) -> bool {
        true
    }

    fn watch(&self, context: &Context<'_>, notes: &mut Notes<'_>) {
        let (is_secret, is_answer) = match Line::of(context.payload) {
            Some(Line::Tagged(..)) => (false, true),
            Some(Line::Command(..)) => (authenticates(context.payload), false),
            Some(Line::Untagged(_)) => (false, false),
            None => (announces(context.payload), false),
        };
        notes
            .scratch
            .note_secret(context.forward, is_secret, is_answer);
    }

    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Tls]
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Detector, Flow, probe};
    use super::*;

    const OFF_PORT: (u16, u16) = (40_000, 40_001);

    #[test]
    fn what_nobody_else_says_is_imap_on_any_port() {
        for (payload, is_imap) in [
            ("* OK IMAP4rev1 server\r\n", true),
            ("* OK [CAPABILITY IMAP4rev1] ready\r\n", true),
            ("* BYE IMAP4 server terminating\r\n", true),
            ("* CAPABILITY IMAP4rev2 IDLE\r\n", true),
            ("* 23 EXISTS\r\n", true),
            ("* 1 FETCH (FLAGS (\\Seen))\r\n", true),
            ("* FLAGS (\\Answered)\r\n", true),
            ("a001 OK LOGIN completed\r\n", true),
            ("7 OK [READ-WRITE] done\r\n", true),
            ("A1 capability\r\n", true),
            ("a1 AUTHENTICATE PLAIN\r\n", true),
            ("4 SELECT \"Sent Items\"\r\n", true),
            ("x.5 uid fetch 1:* (FLAGS)\r\n", true),
            ("A3 FETCH 1 BODY[]\r\n", true),
            ("A4 APPEND INBOX {310}\r\n", true),
            ("a1 CAPABILITY", false),
            // Other protocols log in so, too.
            ("a1 LOGIN alice secret\r\n", false),
            ("* OK then\r\n", false),
            ("* 5 EXISTS in this list\r\n", false),
            ("* one item of a list\r\n", false),
            ("200 OK completed\r\n", false),
            ("1 SELECT a FROM b\r\n", false),
            ("select SELECT INBOX\r\n", false),
            ("node2 STATUS fine\r\n", false),
            ("3 FETCH the water\r\n", false),
        ] {
            let found = probe(Layer::Tcp, OFF_PORT, payload.as_bytes());
            assert_eq!(found.is_some(), is_imap, "{payload}");
        }
    }

    #[test]
    fn a_greeting_and_a_command_make_imap() {
        for (first, second, expected) in [
            ("* OK Dovecot ready.\r\n", "tag NOOP\r\n", Some("IMAP")),
            ("* OK ready\r\n", "a1 LOGIN alice secret\r\n", Some("IMAP")),
            ("* PREAUTH hello\r\n", ". list \"\" *\r\n", Some("IMAP")),
            ("* OK Dovecot ready.\r\n", "tag other\r\n", None),
            ("hello\r\n there", "tag NOOP\r\n", None),
        ] {
            let (mut detector, mut flow) = (Detector::new(), Flow::default());
            let mut observe = |forward, payload: &str| {
                let mut context = Context::new(Layer::Tcp, OFF_PORT, payload.as_bytes());
                context.forward = forward;
                let verdict = detector.observe(&context, &mut flow);
                verdict.map(|verdict| verdict.protocol.name())
            };
            assert_eq!(observe(false, first), None);
            assert_eq!(observe(true, second), expected, "{second}");
        }
    }
}
