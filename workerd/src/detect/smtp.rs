//! SMTP (RFC 5321 section 4) with submission and LMTP, as [`email::smtp`](crate::email::smtp) reads it.
//!
//! On TCP port 25, 465 or 587 a reply of 200 to 599, or a command. On any port a line that nobody else says: HELO, EHLO or
//! LHLO with a name, MAIL or RCPT with a path; a greeting with SMTP or LMTP in it, an offer of extensions, a reply with
//! an enhanced status code (RFC 3463), or one that asks for a mail. Credentials are not told.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Text, Upper};
use super::fields::{contains, head, lines, split};
use super::protocol::Protocol;
use super::reply::describe;
use super::signature::{Notes, Signature, Verdict, verdict};
use crate::email::smtp::command::{Command, Verb};
use crate::email::smtp::reply::Reply;

/// See the module.
pub struct Smtp;

const PORTS: &[u16] = &[25, 465, 587];
/// Bytes of a payload that are looked at.
const WINDOW: usize = 500;
const CATEGORIES: [&str; 5] = [
    "",
    "Success",
    "Intermediate",
    "Transient Failure",
    "Permanent Failure",
];
/// Extensions of which servers offer one at least.
const EXTENSIONS: &[&[u8]] = &[
    b"PIPELINING",
    b"SIZE",
    b"8BITMIME",
    b"STARTTLS",
    b"ENHANCEDSTATUSCODES",
    b"CHUNKING",
    b"DSN",
    b"SMTPUTF8",
];
/// What replies with code 354 say, in lower case.
const ASKS_FOR_MAIL: &[&[u8]] = &[b"<crlf>.<crlf>", b"<cr><lf>.<cr><lf>", b"\".\""];

/// The first line of a payload.
enum Line<'a> {
    Reply(Reply<'a>),
    Command(Command<'a>),
}

impl<'a> Line<'a> {
    fn of(payload: &'a [u8]) -> Option<Self> {
        let line = lines(head(payload, WINDOW)).next()?;
        let reply = Reply::of(line).map(Self::Reply);
        reply.or_else(|| Command::of(line).map(Self::Command))
    }

    /// Whether it is of SMTP on any port; it begins `payload`, and is whole.
    fn is_for_sure(&self, payload: &[u8]) -> bool {
        let Some((_, behind)) = split(head(payload, WINDOW), b'\n') else {
            return false;
        };
        match self {
            Self::Command(command) => match command.verb {
                Verb::Helo | Verb::Ehlo | Verb::Lhlo => is_name(command.argument),
                Verb::Mail | Verb::Rcpt => has_path(command),
                _ => false,
            },
            Self::Reply(reply) => match reply.code {
                220 if contains(reply.text, b"smtp") || contains(reply.text, b"lmtp") => true,
                250 if reply.goes_on && offers(behind) => true,
                354 => ASKS_FOR_MAIL
                    .iter()
                    .any(|words| contains(reply.text, words)),
                code => is_enhanced(code, reply.text),
            },
        }
    }
}

/// What a client calls itself: one word.
fn is_name(argument: &[u8]) -> bool {
    !argument.is_empty() && argument.iter().all(u8::is_ascii_graphic)
}

/// Whether there is a path in brackets, or at least an address.
fn has_path(command: &Command<'_>) -> bool {
    let address = command.address().unwrap_or_default();
    let is_bracketed = split(command.argument, b'<').is_some_and(|(_, rest)| rest.contains(&b'>'));
    let is_address = address.contains(&b'@') && address.iter().all(u8::is_ascii_graphic);
    is_bracketed || is_address
}

/// Whether the second line of a reply names an extension.
fn offers(second: &[u8]) -> bool {
    let Some(reply) = lines(second).next().and_then(Reply::of) else {
        return false;
    };
    let name = split(reply.text, b' ').map_or(reply.text, |(name, _)| name);
    let is_one = |extension: &&[u8]| name.eq_ignore_ascii_case(extension);
    reply.code == 250 && EXTENSIONS.iter().any(is_one)
}

/// Whether `text` begins with an enhanced status code of the class of `code`: `2.1.5 `.
fn is_enhanced(code: u16, text: &[u8]) -> bool {
    let Some((status, _)) = split(head(text, 10), b' ') else {
        return false;
    };
    let mut numbers = status.split(|byte| *byte == b'.');
    let mut next = |most: usize| {
        let number = numbers.next().unwrap_or_default();
        let is_number = (1..=most).contains(&number.len());
        is_number && number.iter().all(u8::is_ascii_digit)
    };
    let is_whole = next(1) && next(3) && next(3);
    is_whole && numbers.next().is_none() && u16::from(status[0] - b'0') == code / 100
}

/// Whether any line of `payload` begins an authentication.
fn authenticates(payload: &[u8]) -> bool {
    let mut commands = lines(payload).filter_map(Command::of);
    commands.any(|command| command.mechanism().is_some())
}

impl Signature for Smtp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Smtp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        let letter = first.to_ascii_uppercase();
        let mut names = Verb::ALL.iter().map(|verb| verb.name().as_bytes());
        let begins = names.any(|name| name.first() == Some(&letter));
        layer == Layer::Tcp && (begins || first.is_ascii_digit())
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let line = Line::of(context.payload)?;
        let confidence = if context.on(PORTS) {
            let is_greeting = matches!(&line, Line::Reply(reply) if reply.code == 220);
            Confidence::by_port(is_greeting, 1000, 975)
        } else {
            line.is_for_sure(context.payload)
                .then_some(Confidence::VERY_HIGH)?
        };
        verdict(Protocol::Smtp, confidence)
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
        match Line::of(context.payload) {
            Some(Line::Reply(reply)) => {
                describe(&reply, CATEGORIES, details);
                let window = head(context.payload, WINDOW);
                details.flag("starttls_capable", contains(window, b"starttls"));
                details.flag("greeting", reply.code == 220);
            }
            Some(Line::Command(command)) => {
                details.put("type", "command");
                details.put("command", Upper(command.verb.name().as_bytes()));
                match command.mechanism() {
                    Some((name, _)) => details.put("args", format_args!("{} ***", Text(name))),
                    None => details.text_if_any("args", command.argument),
                }
                details.flag("starttls_request", command.verb == Verb::StartTls);
            }
            None => {}
        }
    }

    fn watches(&self) -> bool {
        true
    }

    fn watch(&self, context: &Context<'_>, notes: &mut Notes<'_>) {
        let (is_secret, is_answer) = match Line::of(context.payload) {
            Some(Line::Reply(reply)) => (false, reply.code != 334),
            Some(Line::Command(_)) => (authenticates(context.payload), false),
            None => (false, false),
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
    use super::super::probe;
    use super::*;

    fn name(payload: &str) -> Option<&'static str> {
        let found = probe(Layer::Tcp, (40_000, 40_001), payload.as_bytes());
        found.map(|(name, _)| name)
    }

    #[test]
    fn what_nobody_else_says_is_smtp_on_any_port() {
        for payload in [
            "EHLO client.example\r\n",
            "helo [192.0.2.1]\r\n",
            "LHLO x\n",
            "MAIL FROM:<>\r\n",
            "mail from: a@b.example BODY=8BITMIME\r\n",
            "RCPT TO:<bob@example.net>\r\nDATA\r\n",
            "220 mx.example ESMTP\r\n",
            "220-mx.example LMTP ready\r\n220 x\r\n",
            "250-mx.example\r\n250-SIZE 1000\r\n250 HELP\r\n",
            "250-mx.example\r\n250 PIPELINING\r\n",
            "354 End data with <CR><LF>.<CR><LF>\r\n",
            "354 Enter message, ending with \".\" on a line by itself\r\n",
            "250 2.1.5 Ok\r\n",
            "550 5.1.1 nobody\r\n",
        ] {
            assert_eq!(name(payload), Some("SMTP"), "{payload}");
        }
        for payload in [
            "EHLO client.example",
            "EHLO\r\n",
            "HELO and welcome\r\n",
            "MAIL FROM: the editor\r\n",
            "MAIL to all\r\n",
            "DATA\r\n",
            "QUIT\r\n",
            "AUTH PLAIN AGEAYg==\r\n",
            "220 ProFTPD ready\r\n",
            "220 2.x\r\n",
            "250 OK\r\n",
            "250-a\r\n250 b\r\n",
            "250 5.1.1 of another class\r\n",
            "250 2.1.5.6 version\r\n",
            "354 send\r\n",
            "211-Features:\r\n SIZE\r\n",
        ] {
            assert_eq!(name(payload), None, "{payload}");
        }
    }
}
