//! PFCP, between control plane and user plane of 3GPP's gateways (3GPP TS 29.244 section 7.2.2).
//!
//! UDP; version 1, a known message type that has a session or has none as its flag says, a length that is the
//! payload's, and information elements that chain to its end (section 8.1.1).

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be24, be64, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Pfcp;

const PORTS: &[u16] = &[8805];
/// The message belongs to a session.
const SESSION: u8 = 1;
/// Another message follows in the same datagram.
const FOLLOW_ON: u8 = 4;
/// Bits of the first byte that have a meaning beside the version's.
const FLAGS: u8 = 7;
/// Most elements of a message that are looked at.
const MOST_ELEMENTS: usize = 64;

/// The first message's bytes and its name.
fn message(payload: &[u8]) -> Option<(&[u8], &'static str)> {
    let (first, kind) = (byte(payload, 0)?, byte(payload, 1)?);
    let len = 4 + usize::from(be16(payload, 2)?);
    let fits = len == payload.len() || first & FOLLOW_ON != 0 && len < payload.len();
    let session = first & SESSION != 0;
    if first & !FLAGS != 0x20 || !fits || session != (kind >= 50) {
        return None;
    }
    let message = &payload[..len];
    let elements = message.get(if session { 16 } else { 8 }..)?;
    chain(elements).then_some((message, name(kind)?))
}

/// Whether elements fill `rest`; a session that ends may have none.
fn chain(mut rest: &[u8]) -> bool {
    for _ in 0..MOST_ELEMENTS {
        if rest.is_empty() {
            return true;
        }
        let next = be16(rest, 2).and_then(|len| rest.get(4 + usize::from(len)..));
        let Some(next) = next else {
            return false;
        };
        rest = next;
    }
    true
}

/// TS 29.244 table 7.3-1.
fn name(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "Heartbeat Request",
        2 => "Heartbeat Response",
        3 => "PFD Management Request",
        4 => "PFD Management Response",
        5 => "Association Setup Request",
        6 => "Association Setup Response",
        7 => "Association Update Request",
        8 => "Association Update Response",
        9 => "Association Release Request",
        10 => "Association Release Response",
        11 => "Version Not Supported Response",
        12 => "Node Report Request",
        13 => "Node Report Response",
        14 => "Session Set Deletion Request",
        15 => "Session Set Deletion Response",
        50 => "Session Establishment Request",
        51 => "Session Establishment Response",
        52 => "Session Modification Request",
        53 => "Session Modification Response",
        54 => "Session Deletion Request",
        55 => "Session Deletion Response",
        56 => "Session Report Request",
        57 => "Session Report Response",
        _ => return None,
    })
}

impl Signature for Pfcp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Pfcp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && first & !FLAGS == 0x20
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        message(context.payload)?;
        let confidence = Confidence::by_port(context.on(PORTS), 950, 850);
        verdict(Protocol::Pfcp, confidence)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((message, name)) = message(context.payload) else {
            return;
        };
        let session = message[0] & SESSION != 0;
        details.put("message_type", message[1]);
        details.put("message_name", name);
        details.set_info(format_args!("PFCP {name}"));
        if let (true, Some(session)) = (session, be64(message, 4)) {
            details.put("seid", session);
        }
        let sequence = be24(message, if session { 12 } else { 4 });
        details.put("sequence_number", sequence.unwrap_or(0));
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    const HEARTBEAT: [u8; 16] = [0x20, 1, 0, 12, 0, 0, 9, 0, 0, 96, 0, 4, 1, 2, 3, 4];

    fn name(payload: &[u8]) -> Option<&'static str> {
        probe(Layer::Udp, (8805, 8805), payload).map(|(name, _)| name)
    }

    #[test]
    fn elements_must_chain() {
        let (name_of_it, details) = probe(Layer::Udp, (40000, 40001), &HEARTBEAT).unwrap();
        assert_eq!(
            (name_of_it, details.info()),
            ("PFCP", "PFCP Heartbeat Request")
        );
        assert_eq!(details.get("sequence_number"), Some("9"));
        assert_eq!(name(&HEARTBEAT[..15]), None);
        for (at, value) in [(0, 0x40), (0, 0x21), (1, 16), (11, 5), (11, 3)] {
            let mut other = HEARTBEAT;
            other[at] = value;
            assert_eq!(name(&other), None);
        }
    }

    #[test]
    fn a_session_has_a_number() {
        let deletion = [0x21, 54, 0, 12, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 1, 0];
        let (_, details) = probe(Layer::Udp, (8805, 8805), &deletion).unwrap();
        assert_eq!(details.get("seid"), Some("7"));
        let mut bundle = [deletion, HEARTBEAT].concat();
        assert_eq!(name(&bundle), None);
        bundle[0] |= FOLLOW_ON;
        assert_eq!(name(&bundle), Some("PFCP"));
    }
}
