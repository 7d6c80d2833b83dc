//! POP3 (RFC 1939).
//!
//! TCP port 110 or 995; `+OK` or `-ERR`, or a command at the start of a line. Passwords are not told.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Upper};
use super::fields::{contains, head, line, starts_with, word};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Pop3;

const PORTS: &[u16] = &[110, 995];
const WINDOW: usize = 500;
const COMMANDS: &[&[u8]] = &[
    b"USER ", b"PASS ", b"STAT", b"LIST", b"RETR ", b"DELE ", b"NOOP", b"RSET", b"QUIT", b"TOP ",
    b"UIDL", b"APOP ", b"STLS", b"CAPA",
];

enum Message {
    Ok,
    Err,
    Command,
}

fn message(context: &Context<'_>) -> Option<Message> {
    let payload = context.payload;
    if !context.on(PORTS) || payload.len() < 4 {
        return None;
    }
    if payload.starts_with(b"+OK") {
        return Some(Message::Ok);
    }
    if payload.starts_with(b"-ERR") {
        return Some(Message::Err);
    }
    let command = COMMANDS.iter().any(|command| starts_with(payload, command));
    command.then_some(Message::Command)
}

fn greets(line: &[u8]) -> bool {
    contains(line, b"pop3") || contains(line, b"ready")
}

impl Signature for Pop3 {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Pop3]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        let letter = first.to_ascii_uppercase();
        let command = COMMANDS.iter().any(|command| command[0] == letter);
        layer == Layer::Tcp && (command || matches!(first, b'+' | b'-'))
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let message = message(context)?;
        let greeting =
            matches!(message, Message::Ok) && greets(line(head(context.payload, WINDOW)));
        verdict(Protocol::Pop3, Confidence::by_port(greeting, 1000, 975))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(message) = message(context) else {
            return;
        };
        let window = head(context.payload, WINDOW);
        let line = line(window);
        let (first, rest) = word(line);
        if let Message::Command = message {
            details.put("type", "command");
            details.put("command", Upper(first));
            if first.eq_ignore_ascii_case(b"pass") {
                details.put("args", "***");
            } else {
                details.text_if_any("args", rest);
            }
            details.flag("stls_request", first.eq_ignore_ascii_case(b"stls"));
            return;
        }
        let ok = matches!(message, Message::Ok);
        details.put("type", "response");
        details.put("status", if ok { "OK" } else { "ERR" });
        details.text_if_any("message", rest);
        details.flag("greeting", ok && greets(line));
        details.flag("stls_capable", ok && contains(window, b"stls"));
    }

    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Tls]
    }
}
