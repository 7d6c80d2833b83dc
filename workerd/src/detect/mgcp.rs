//! MGCP (RFC 3435 section 3).
//!
//! A command: one of nine verbs, a transaction id of one to nine digits, an endpoint and `MGCP` with a version; lines end at CR, LF or both. A
//! response, three digits and a transaction id, says little; it counts on MGCP's ports only.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{decimal, head, starts_with, word};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use memchr::memchr2;

/// See the module.
pub struct Mgcp;

const PORTS: &[u16] = &[2427, 2727];
const VERBS: &[&[u8]] = &[
    b"EPCF", b"CRCX", b"MDCX", b"DLCX", b"RQNT", b"NTFY", b"AUEP", b"AUCX", b"RSIP",
];
const LONGEST_LINE: usize = 512;

/// The verb or code, the transaction id, and the endpoint of a command.
fn start<'a>(context: &Context<'a>) -> Option<(&'a [u8], u32, &'a [u8])> {
    let window = head(context.payload, LONGEST_LINE);
    let line = &window[..memchr2(b'\r', b'\n', window).unwrap_or(window.len())];
    let (first, rest) = word(line);
    let (transaction, rest) = word(rest);
    let (endpoint, version) = word(rest);
    let transaction = decimal(transaction)?;
    let command =
        VERBS.iter().any(|verb| first.eq_ignore_ascii_case(verb)) && starts_with(version, b"mgcp ");
    let response = context.on(PORTS) && first.len() == 3 && decimal(first).is_some();
    (command || response).then_some((first, transaction, endpoint))
}

impl Signature for Mgcp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Mgcp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        let verb = VERBS
            .iter()
            .any(|verb| verb[0] == first.to_ascii_uppercase());
        layer == Layer::Udp && (verb || first.is_ascii_digit())
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let response = start(context)?.0.len() == 3;
        verdict(Protocol::Mgcp, Confidence::by_port(!response, 950, 850))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((first, transaction, endpoint)) = start(context) else {
            return;
        };
        if first.len() == 3 {
            details.put("type", "response");
            details.text("code", first);
        } else {
            details.put("type", "command");
            details.put("verb", super::details::Upper(first));
            details.text("endpoint", endpoint);
        }
        details.put("transaction_id", transaction);
        details.set_info(super::details::Upper(first));
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn a_command_is_whole() {
        let command = b"CRCX 1204 aaln/1@gw MGCP 1.0\r\nC: A3\r\n";
        let (name, details) = probe(Layer::Udp, (9000, 9001), command).unwrap();
        assert_eq!((name, details.info()), ("MGCP", "CRCX"));
        assert_eq!(details.get("endpoint"), Some("aaln/1@gw"));
        assert!(probe(Layer::Udp, (2427, 2427), b"CRCX 1204 aaln/1@gw\r\n").is_none());
        assert!(probe(Layer::Udp, (2427, 2427), b"CRCX x aaln/1@gw MGCP 1.0\r\n").is_none());
    }

    #[test]
    fn a_response_needs_the_port() {
        let (name, _) = probe(Layer::Udp, (2427, 2727), b"200 1204 OK\r\n").unwrap();
        assert_eq!(name, "MGCP");
        assert!(probe(Layer::Udp, (9000, 9001), b"200 1204 OK\r\n").is_none());
    }
}
