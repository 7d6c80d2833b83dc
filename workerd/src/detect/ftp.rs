//! FTP's control connection (RFC 959 sections 4.1 and 4.2, RFC 2228, RFC 2428).
//!
//! TCP port 20, 21 or 990; a reply of 100 to 599, or a command at the start of a line. Passwords are
//! not told.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Upper};
use super::fields::word;
use super::protocol::Protocol;
use super::reply::Line;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Ftp;

const PORTS: &[u16] = &[20, 21, 990];
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

fn message<'a>(context: &Context<'a>) -> Option<Line<'a>> {
    context
        .on(PORTS)
        .then(|| Line::of(context.payload, 100..=599, COMMANDS))?
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
            Some(Line::Reply(reply)) => reply.describe(CATEGORIES, details),
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
