//! FTP's control connection (RFC 959 sections 4.1 and 4.2, RFC 2228, RFC 2428).
//!
//! TCP port 20, 21 or 990; a reply of 100 to 599, or a command at the start of a line. Passwords are
//! not told.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Upper};
use super::fields::{head, line, starts_with, word};
use super::protocol::Protocol;
use super::reply::describe;
use super::signature::{Notes, Signature, Verdict, verdict};
use crate::email::smtp::reply::Reply;

/// See the module.
pub struct Ftp;

const PORTS: &[u16] = &[20, 21, 990];
/// Bytes of a payload whose first line is looked at.
const WINDOW: usize = 500;
const COMMANDS: &[&[u8]] = &[
    b"USER ", b"PASS ", b"ACCT ", b"CWD ", b"CDUP", b"SMNT ", b"QUIT", b"REIN", b"PORT ", b"PASV",
    b"TYPE ", b"STRU ", b"MODE ", b"RETR ", b"STOR ", b"STOU ", b"APPE ", b"ALLO ", b"REST ",
    b"RNFR ", b"RNTO ", b"ABOR", b"DELE ", b"RMD ", b"MKD ", b"PWD", b"LIST", b"NLST ", b"SITE ",
    b"SYST", b"STAT ", b"HELP", b"NOOP", b"FEAT", b"OPTS ", b"AUTH ", b"PBSZ ", b"PROT ", b"EPSV",
    b"EPRT ",
];
const CATEGORIES: [&str; 5] = [
    "Positive Preliminary",
    "Positive Completion",
    "Positive Intermediate",
    "Transient Negative Completion",
    "Permanent Negative Completion",
];

/// The first line of a payload.
enum Line<'a> {
    Reply(Reply<'a>),
    /// A command, with what follows it.
    Command(&'a [u8]),
}

fn message<'a>(context: &Context<'a>) -> Option<Line<'a>> {
    if !context.on(PORTS) {
        return None;
    }
    let line = line(head(context.payload, WINDOW));
    if let Some(reply) = Reply::with_code(100..=599, line) {
        return Some(Line::Reply(reply));
    }
    let is_command = COMMANDS.iter().any(|command| starts_with(line, command));
    is_command.then_some(Line::Command(line))
}

impl Signature for Ftp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Ftp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && first.is_ascii_alphanumeric()
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        message(context)?;
        let confidence = Confidence::by_port(context.on(&[21]), 948, 632);
        verdict(Protocol::Ftp, confidence)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        match message(context) {
            Some(Line::Reply(reply)) => describe(&reply, CATEGORIES, details),
            Some(Line::Command(line)) => {
                let (command, args) = word(line);
                details.put("type", "command");
                details.put("command", Upper(command));
                if command.eq_ignore_ascii_case(b"pass") {
                    details.put("args", "***");
                } else {
                    details.text_if_any("args", args);
                }
            }
            None => {}
        }
    }

    /// `AUTH TLS` (RFC 4217).
    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Tls]
    }
}
