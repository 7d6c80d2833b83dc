//! SMTP (RFC 5321 section 4).
//!
//! TCP port 25, 465 or 587; a reply of 200 to 599, or a command at the start of a line. Credentials
//! are not told.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Text, Upper};
use super::fields::{contains, head, word};
use super::protocol::Protocol;
use super::reply::{Line, WINDOW};
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Smtp;

const PORTS: &[u16] = &[25, 465, 587];
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

fn message<'a>(context: &Context<'a>) -> Option<Line<'a>> {
    context
        .on(PORTS)
        .then(|| Line::of(context.payload, 200..=599, COMMANDS))?
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
            Line::Reply(reply) => reply.code == 220,
            Line::Command(_) => false,
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
            Some(Line::Reply(reply)) => {
                reply.describe(CATEGORIES, details);
                let window = head(context.payload, WINDOW);
                details.flag("starttls_capable", contains(window, b"starttls"));
                details.flag("greeting", reply.code == 220);
            }
            Some(Line::Command(line)) => {
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
