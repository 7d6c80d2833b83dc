//! SMTP (RFC 5321 section 4).
//!
//! TCP port 25, 465 or 587; a reply of 200 to 599, or a command at the start of a line. Credentials
//! are not told.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Text, Upper};
use super::fields::{contains, head, line, starts_with, word};
use super::protocol::Protocol;
use super::reply::Reply;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Smtp;

const PORTS: &[u16] = &[25, 465, 587];
const WINDOW: usize = 500;
const COMMANDS: &[&[u8]] = &[
    b"HELO ",
    b"EHLO ",
    b"MAIL FROM:",
    b"RCPT TO:",
    b"DATA",
    b"RSET",
    b"VRFY ",
    b"EXPN ",
    b"HELP",
    b"NOOP",
    b"QUIT",
    b"STARTTLS",
    b"AUTH ",
    b"TURN",
];
const CATEGORIES: [&str; 5] = [
    "",
    "Success",
    "Intermediate",
    "Transient Failure",
    "Permanent Failure",
];

enum Message<'a> {
    Reply(Reply<'a>),
    Command(&'a [u8]),
}

fn message<'a>(context: &Context<'a>) -> Option<Message<'a>> {
    if !context.on(PORTS) || context.payload.len() < 4 {
        return None;
    }
    let line = line(head(context.payload, WINDOW));
    if let Some(reply) = Reply::of(line, 200..=599) {
        return Some(Message::Reply(reply));
    }
    let command = COMMANDS.iter().any(|command| starts_with(line, command));
    command.then_some(Message::Command(line))
}

impl Signature for Smtp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Smtp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        let letter = first.to_ascii_uppercase();
        let command = COMMANDS.iter().any(|command| command[0] == letter);
        layer == Layer::Tcp && (command || first.is_ascii_digit())
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let greeting = match message(context)? {
            Message::Reply(reply) => reply.code == 220,
            Message::Command(_) => false,
        };
        verdict(Protocol::Smtp, Confidence::by_port(greeting, 1000, 975))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        match message(context) {
            Some(Message::Reply(reply)) => {
                reply.describe(CATEGORIES, details);
                let window = head(context.payload, WINDOW);
                details.flag("starttls_capable", contains(window, b"starttls"));
                details.flag("greeting", reply.code == 220);
            }
            Some(Message::Command(line)) => {
                let (command, args) = word(line);
                details.put("type", "command");
                details.put("command", Upper(command));
                if command.eq_ignore_ascii_case(b"auth") {
                    details.put("args", format_args!("{} ***", Text(word(args).0)));
                } else {
                    details.text_if_any("args", args);
                }
                let starttls = command.eq_ignore_ascii_case(b"starttls");
                details.flag("starttls_request", starttls);
            }
            None => {}
        }
    }

    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Tls]
    }
}
