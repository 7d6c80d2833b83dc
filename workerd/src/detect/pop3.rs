//! POP3 (RFC 1939), as [`email::pop3`](crate::email::pop3) reads it.
//!
//! On TCP port 110 or 995 `+OK` or `-ERR`, or a command. On any port a line that nobody else says: a greeting with POP3 or a
//! time stamp (RFC 1939 section 7) in it, CAPA, STLS, UIDL, APOP or TOP with arguments that fit; or a command behind any
//! greeting of `+OK`. Passwords and digests are not told.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Text};
use super::fields::{contains, head, lines, split};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use crate::email::pop3::command::{Command, VERBS, number};
use crate::email::pop3::reply::{Reply, Status};

/// See the module.
pub struct Pop3;

const PORTS: &[u16] = &[110, 995];
/// Bytes of a payload that are looked at.
const WINDOW: usize = 500;
/// Length of the digest of APOP.
const DIGEST: usize = 32;

/// The first line of a payload.
enum Line<'a> {
    /// `+OK` and `-ERR`.
    Reply(Reply<'a>),
    Command(&'static str, Command<'a>),
}

impl<'a> Line<'a> {
    fn of(payload: &'a [u8]) -> Option<Self> {
        let line = lines(head(payload, WINDOW)).next()?;
        if let Some(reply) = Reply::of(line) {
            return (reply.status != Status::GoOn).then_some(Self::Reply(reply));
        }
        let command = Command::of(line)?;
        Some(Self::Command(command.verb?, command))
    }

    /// Whether it is of POP3 on any port; behind a greeting of `+OK`, where `is_greeted`.
    fn is_for_sure(&self, is_greeted: bool) -> bool {
        match self {
            Self::Reply(reply) => {
                reply.status == Status::Ok
                    && (contains(reply.text, b"pop3") || has_time_stamp(reply.text))
            }
            Self::Command(verb, command) => {
                let (first, second) = (command.name(), command.initial());
                let is_number = |word: &[u8]| number::<u32>(word).is_some();
                match (*verb, first, second) {
                    ("CAPA" | "STLS" | "UIDL", None, _) => true,
                    ("UIDL", Some(message), None) => is_number(message),
                    ("TOP", Some(message), Some(count)) => is_number(message) && is_number(count),
                    ("APOP", Some(_), Some(digest)) => {
                        digest.len() == DIGEST && digest.iter().all(u8::is_ascii_hexdigit)
                    }
                    ("USER" | "AUTH", Some(_), _) | ("AUTH", None, _) => is_greeted,
                    _ => false,
                }
            }
        }
    }
}

/// Whether a greeting ends with what looks like a Message-ID.
fn has_time_stamp(text: &[u8]) -> bool {
    let open = text.iter().rposition(|byte| *byte == b'<');
    let stamp = open.and_then(|open| text[open + 1..].strip_suffix(b">"));
    stamp.is_some_and(|stamp| stamp.contains(&b'@') && stamp.iter().all(u8::is_ascii_graphic))
}

/// Whether the first line of a payload says so of a server that is ready.
fn greets(text: &[u8]) -> bool {
    contains(text, b"pop3") || contains(text, b"ready")
}

/// Whether any line of `payload` has a secret, or asks for one.
fn authenticates(payload: &[u8]) -> bool {
    let mut commands = lines(payload).filter_map(Command::of);
    commands.any(|command| match command.verb {
        Some("PASS" | "APOP") => true,
        Some("AUTH") => command.name().is_some(),
        _ => false,
    })
}

impl Signature for Pop3 {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Pop3]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        let letter = first.to_ascii_uppercase();
        let begins = VERBS.iter().any(|verb| verb.as_bytes()[0] == letter);
        layer == Layer::Tcp && (begins || matches!(first, b'+' | b'-'))
    }

    fn judge(&self, context: &Context<'_>, notes: &mut Notes<'_>) -> Option<Verdict> {
        let line = Line::of(context.payload)?;
        if context.on(PORTS) {
            let is_greeting =
                matches!(&line, Line::Reply(Reply { status: Status::Ok, text }) if greets(text));
            return verdict(Protocol::Pop3, Confidence::by_port(is_greeting, 1000, 975));
        }
        split(head(context.payload, WINDOW), b'\n')?;
        if line.is_for_sure(notes.scratch.is_greeted(context.forward)) {
            return verdict(Protocol::Pop3, Confidence::VERY_HIGH);
        }
        if matches!(&line, Line::Reply(reply) if reply.status == Status::Ok) {
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
        match Line::of(context.payload) {
            Some(Line::Command(verb, command)) => {
                details.put("type", "command");
                details.put("command", verb);
                let name = Text(command.name().unwrap_or_default());
                match (verb, command.initial()) {
                    ("PASS", _) => details.put("args", "***"),
                    ("APOP" | "AUTH", Some(_)) => details.put("args", format_args!("{name} ***")),
                    _ => details.text_if_any("args", command.argument),
                }
                details.flag("stls_request", verb == "STLS");
            }
            Some(Line::Reply(Reply { status, text })) => {
                let is_ok = status == Status::Ok;
                details.put("type", "response");
                details.put("status", if is_ok { "OK" } else { "ERR" });
                details.text_if_any("message", text);
                details.flag("greeting", is_ok && greets(text));
                let window = head(context.payload, WINDOW);
                details.flag("stls_capable", is_ok && contains(window, b"stls"));
            }
            None => {}
        }
    }

    fn watches(&self) -> bool {
        true
    }

    fn watch(&self, context: &Context<'_>, notes: &mut Notes<'_>) {
        let (is_secret, is_answer) = match Line::of(context.payload) {
            Some(Line::Reply(_)) => (false, true),
            Some(Line::Command(..)) => (authenticates(context.payload), false),
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
    use super::super::{Detector, Flow, probe};
    use super::*;

    const OFF_PORT: (u16, u16) = (40_000, 40_001);

    #[test]
    fn what_nobody_else_says_is_pop3_on_any_port() {
        for (payload, is_pop3) in [
            ("+OK POP3 server ready\r\n", true),
            ("+OK hello <1896.697170952@dbc.mtview.ca.us>\r\n", true),
            ("CAPA\r\n", true),
            ("stls\r\n", true),
            ("UIDL 3\r\n", true),
            ("TOP 1 20\r\n", true),
            ("APOP mrose c4c9334bac560ecc979e58001b3e22fb\r\n", true),
            ("+OK\r\n", false),
            ("+OK Dovecot ready.\r\n", false),
            ("-ERR POP3\r\n", false),
            ("CAPA", false),
            ("UIDL name\r\n", false),
            ("TOP secret\r\n", false),
            ("APOP mrose secret\r\n", false),
            ("USER alice\r\n", false),
            ("RETR 1\r\n", false),
        ] {
            let found = probe(Layer::Tcp, OFF_PORT, payload.as_bytes());
            assert_eq!(found.is_some(), is_pop3, "{payload}");
        }
    }

    /// What is found in packets of both ends: the server's have `false`.
    fn found(packets: &[(bool, &str)]) -> Option<&'static str> {
        let (mut detector, mut flow) = (Detector::new(), Flow::default());
        let mut last = None;
        for (forward, payload) in packets {
            let mut context = Context::new(Layer::Tcp, OFF_PORT, payload.as_bytes());
            context.forward = *forward;
            last = detector.observe(&context, &mut flow);
        }
        last.map(|verdict| verdict.protocol.name())
    }

    #[test]
    fn a_greeting_and_a_command_that_fits_make_pop3() {
        let greeting = (false, "+OK Dovecot ready.\r\n");
        for command in ["USER alice\r\n", "AUTH\r\n", "AUTH PLAIN\r\n"] {
            assert_eq!(
                found(&[greeting, (true, command)]),
                Some("POP3"),
                "{command}"
            );
            assert_eq!(found(&[(true, command), greeting]), None);
            assert_eq!(found(&[greeting, (false, command)]), None);
        }
        assert_eq!(found(&[greeting, (true, "GET key\r\n")]), None);
    }
}
