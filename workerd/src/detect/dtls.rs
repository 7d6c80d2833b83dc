//! DTLS (RFC 6347 section 4.1, RFC 9147 section 4).
//!
//! UDP; records of type 20 to 25 and version 1.0, 1.2 or 1.3's, or the 0x0100 of OpenSSL before 0.9.8f that
//! some VPNs keep to, that chain to the end of the payload. What follows on the same ports as media is
//! SRTP (RFC 5764), so a flow can turn into that.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use crate::tls::handshake;

/// See the module.
pub struct Dtls;

const HEADER: usize = 13;
const HANDSHAKE: u8 = 22;
/// Version 1.0 as it was written before it was one.
const OLD: u16 = 0x0100;
/// Most records of a datagram.
const MOST_RECORDS: usize = 32;

/// Type and version of the first record, if all of the payload is records.
fn first_record(payload: &[u8]) -> Option<(u8, u16)> {
    let mut rest = payload;
    for _ in 0..MOST_RECORDS {
        let (kind, version) = (byte(rest, 0)?, be16(rest, 1)?);
        if !(20..=25).contains(&kind) || !matches!(version, 0xfeff | 0xfefd | 0xfefc | OLD) {
            return None;
        }
        rest = rest.get(HEADER + usize::from(be16(rest, 11)?)..)?;
        if rest.is_empty() {
            return Some((byte(payload, 0)?, be16(payload, 1)?));
        }
    }
    None
}

impl Signature for Dtls {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Dtls]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && (20..=25).contains(&first)
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        first_record(context.payload)?;
        verdict(Protocol::Dtls, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((kind, version)) = first_record(context.payload) else {
            return;
        };
        let version = match version {
            0xfeff => "DTLS 1.0",
            0xfefd => "DTLS 1.2",
            OLD => "DTLS 1.0 (OpenSSL before 0.9.8f)",
            _ => "DTLS 1.3",
        };
        let content = match kind {
            20 => "ChangeCipherSpec",
            21 => "Alert",
            HANDSHAKE => "Handshake",
            23 => "ApplicationData",
            24 => "Heartbeat",
            _ => "ConnectionId",
        };
        details.put("version", version);
        details.set_info_to("version");
        details.put("content_type", content);
        details.put("record_length", be16(context.payload, 11).unwrap_or(0));
        // Epoch 0 is in clear.
        if kind == HANDSHAKE && be16(context.payload, 3) == Some(0) {
            let kind = byte(context.payload, HEADER).map_or("", handshake::name);
            details.text_if_any("handshake_type", kind.as_bytes());
        }
    }

    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Rtp, Protocol::Rtcp]
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    const HELLO: [u8; 15] = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 1, 0];

    #[test]
    fn records_must_chain() {
        let two = [HELLO, HELLO].concat();
        let (name, details) = probe(Layer::Udp, (5000, 5001), &two).unwrap();
        assert_eq!((name, details.info()), ("DTLS", "DTLS 1.2"));
        assert_eq!(details.get("handshake_type"), Some("ClientHello"));
        assert!(probe(Layer::Udp, (5684, 5684), &two[..29]).is_none());
        let mut other = HELLO;
        other[2] = 0xfb;
        assert!(probe(Layer::Udp, (5684, 5684), &other).is_none());
        other[1..3].copy_from_slice(&OLD.to_be_bytes());
        assert_eq!(probe(Layer::Udp, (5684, 443), &other).unwrap().0, "DTLS");
        other[12] = 3;
        assert!(probe(Layer::Udp, (5684, 443), &other).is_none());
    }

    #[test]
    fn media_behind_a_handshake_is_srtp() {
        let mut detector = super::super::Detector::new();
        let mut flow = super::super::Flow::default();
        let mut observe = |payload: &[u8]| {
            let context = Context::new(Layer::Udp, (5001, 5003), payload);
            detector.observe(&context, &mut flow).unwrap().protocol
        };
        assert_eq!(observe(&HELLO), Protocol::Dtls);
        let mut media = [7; 40];
        media[..12].copy_from_slice(&[0x80, 96, 0, 1, 0, 0, 0, 9, 1, 2, 3, 4]);
        assert_eq!(observe(&media), Protocol::Dtls);
        media[3] = 2;
        assert_eq!(observe(&media), Protocol::Srtp);
    }
}
