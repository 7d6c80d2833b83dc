//! IMAP (RFC 3501, RFC 9051).
//!
//! TCP port 143 or 993; an untagged or tagged response, or a line with a known command behind its
//! tag. Passwords are not told.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Upper};
use super::fields::{contains, head, line, position, word};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use memchr::memmem;

/// See the module.
pub struct Imap;

const PORTS: &[u16] = &[143, 993];
const WINDOW: usize = 500;
const STATUSES: [&[u8]; 3] = [b" OK ", b" NO ", b" BAD "];
/// In lower case, with the blank in front.
const COMMANDS: &[&[u8]] = &[
    b" capability",
    b" noop",
    b" logout",
    b" starttls",
    b" check",
    b" close",
    b" expunge",
    b" idle",
    b" login ",
    b" authenticate ",
    b" select ",
    b" examine ",
    b" create ",
    b" delete ",
    b" rename ",
    b" subscribe ",
    b" unsubscribe ",
    b" list ",
    b" lsub ",
    b" status ",
    b" append ",
    b" search ",
    b" fetch ",
    b" store ",
    b" copy ",
    b" uid ",
];

enum Message {
    Untagged,
    Tagged,
    Command,
}

fn message(context: &Context<'_>) -> Option<Message> {
    let payload = context.payload;
    if !context.on(PORTS) || payload.len() < 4 {
        return None;
    }
    if payload.starts_with(b"* ") {
        return Some(Message::Untagged);
    }
    let start = head(payload, 50);
    if STATUSES
        .iter()
        .any(|status| memmem::find(start, status).is_some())
    {
        return Some(Message::Tagged);
    }
    let start = head(payload, 100);
    let command = COMMANDS
        .iter()
        .any(|command| position(start, command).is_some());
    command.then_some(Message::Command)
}

/// Whether a line is the server's first.
fn greets(line: &[u8]) -> bool {
    contains(line, b"imap4") || contains(line, b"ready")
}

impl Signature for Imap {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Imap]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && first.is_ascii_graphic()
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let response = !matches!(message(context)?, Message::Command);
        let greeting = response && greets(line(head(context.payload, WINDOW)));
        verdict(Protocol::Imap, Confidence::by_port(greeting, 1000, 975))
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
        let (tag, rest) = word(line);
        let (second, args) = word(rest);
        match message {
            Message::Command => {
                details.put("type", "command");
                details.text("tag", tag);
                details.put("command", Upper(second));
                if second.eq_ignore_ascii_case(b"login") {
                    details.put("args", "*** ***");
                } else if second.eq_ignore_ascii_case(b"authenticate") {
                    details.text_if_any("args", word(args).0);
                } else {
                    details.text_if_any("args", args);
                }
                details.flag("starttls_request", second.eq_ignore_ascii_case(b"starttls"));
                return;
            }
            Message::Untagged => {
                details.put("type", "response");
                details.put("untagged", true);
                details.text_if_any("response_type", second);
            }
            Message::Tagged => {
                details.put("type", "response");
                details.put("tagged", true);
                details.text("tag", tag);
                details.text("status", second);
            }
        }
        details.flag("greeting", greets(line));
        details.flag("starttls_capable", contains(window, b"starttls"));
    }

    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Tls]
    }
}
