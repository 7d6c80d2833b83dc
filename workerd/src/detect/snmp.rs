//! SNMP (RFC 3416, RFC 3412 section 6 for version 3; BER of ITU-T X.690).
//!
//! A SEQUENCE that starts with an INTEGER of one byte, 0 to 3, and continues as the version has it:
//! an OCTET STRING (the community), or for version 3 a SEQUENCE. LDAP has the same first bytes. Not on port 53, where
//! a stray request would name a flow that is DNS.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::byte;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Snmp;

const PORTS: &[u16] = &[161, 162];
/// See the module.
const DNS: &[u16] = &[53];
const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const VERSIONS: [&str; 4] = ["SNMPv1", "SNMPv2c", "SNMPv2u", "SNMPv3"];
const PDUS: [&str; 9] = [
    "GetRequest",
    "GetNextRequest",
    "Response",
    "SetRequest",
    "Trap",
    "GetBulkRequest",
    "InformRequest",
    "SNMPv2-Trap",
    "Report",
];

/// The version, and what follows it.
fn message(payload: &[u8]) -> Option<(u8, &[u8])> {
    let rest = payload.strip_prefix(&[SEQUENCE])?;
    let (len, rest) = ber_length(rest)?;
    let [2, 1, version @ 0..=3, tag, ..] = *rest.first_chunk::<4>()? else {
        return None;
    };
    let follows = match version {
        3 => tag == SEQUENCE,
        _ => tag == OCTET_STRING,
    };
    let possible = payload.len() >= 10 && (3..=65535).contains(&len) && follows;
    possible.then_some((version, &rest[3..]))
}

/// A length of BER in its short form or with at most four bytes, and what follows it.
pub fn ber_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    match first {
        0..=0x7f => Some((usize::from(*first), rest)),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let add = |sum: usize, byte: &u8| sum << 8 | usize::from(*byte);
            Some((length.iter().fold(0, add), rest))
        }
        _ => None,
    }
}

impl Signature for Snmp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Snmp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        matches!(layer, Layer::Udp | Layer::Tcp) && first == SEQUENCE
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        if context.on(DNS) {
            return None;
        }
        message(context.payload)?;
        let (on, off) = if context.udp() {
            (984, 656)
        } else {
            (1000, 680)
        };
        verdict(
            Protocol::Snmp,
            Confidence::by_port(context.on(PORTS), on, off),
        )
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((version, rest)) = message(context.payload) else {
            return;
        };
        details.put("version", VERSIONS[usize::from(version)]);
        details.put("version_code", version);
        if version > 1 {
            return;
        }
        details.put("has_community", true);
        let Some((len, rest)) = ber_length(&rest[1..]) else {
            return;
        };
        if len > 0 {
            details.put("community_length", len);
        }
        let pdu = byte(rest, len).and_then(|tag| PDUS.get(usize::from(tag.checked_sub(0xa0)?)));
        if let Some(pdu) = pdu {
            details.put("pdu_type", pdu);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn a_stray_request_to_a_name_server_names_no_flow() {
        let request = b"\x30\x26\x02\x01\x01\x04\x06public\xa0\x19\x02\x01\x01\x02\x01\0\x02\x01\0";
        assert_eq!(probe(Layer::Udp, (40000, 161), request).unwrap().0, "SNMP");
        assert!(probe(Layer::Udp, (40000, 53), request).is_none());
    }
}
