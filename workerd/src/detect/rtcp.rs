//! RTCP (RFC 3550 section 6, RFC 3611 for XR, RFC 4585 for feedback).
//!
//! A compound packet: packets of version 2 and types 200 to 213 whose lengths add up to the payload,
//! the first with a source that is neither 0 nor all ones. What follows the chain must be shorter
//! than what SRTCP adds (RFC 3711 section 3.4). UDP, not on ports of other services.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32, byte};
use super::protocol::Protocol;
use super::rtp::SERVICES;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Rtcp;

/// SRTCP's index, key identifier and tag.
const LONGEST_TRAILER: usize = 24;

impl Signature for Rtcp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Rtcp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && first >> 6 == 2
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        compound(context.payload)?;
        if context.on(SERVICES) {
            return None;
        }
        verdict(Protocol::Rtcp, Confidence::MEDIUM)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if compound(context.payload).is_some() {
            report(context.payload, details);
        }
    }

    /// Reports may come first where media shares their ports (RFC 5761).
    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Rtp]
    }
}

/// The type of the first packet, if the payload is a chain of them.
pub fn compound(payload: &[u8]) -> Option<u8> {
    let first = kind(payload)?;
    if be16(payload, 2)? == 0 || matches!(be32(payload, 4)?, 0 | u32::MAX) {
        return None;
    }
    let mut rest = payload;
    while kind(rest).is_some() {
        let len = (usize::from(be16(rest, 2)?) + 1) * 4;
        rest = rest.get(len..)?;
    }
    (rest.len() <= LONGEST_TRAILER).then_some(first)
}

fn kind(packet: &[u8]) -> Option<u8> {
    let version = byte(packet, 0)? >> 6;
    let kind = byte(packet, 1)?;
    (version == 2 && (200..=213).contains(&kind)).then_some(kind)
}

/// Describes a chain by its first packet.
pub fn report(payload: &[u8], details: &mut Details) {
    let (Some(kind), Some(ssrc)) = (kind(payload), be32(payload, 4)) else {
        return;
    };
    details.put("ssrc", ssrc);
    details.put("is_rtcp", true);
    details.put("pt", kind);
    details.set_info(match kind {
        200 => "Sender Report",
        201 => "Receiver Report",
        202 => "Source Description",
        203 => "Goodbye",
        204 => "Application-defined",
        205 => "Transport Feedback",
        206 => "Payload-specific Feedback",
        207 => "Extended Report",
        _ => "RTCP",
    });
}

#[cfg(test)]
mod tests {
    use super::compound;

    #[test]
    fn a_chain_must_add_up() {
        let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
        let description = [0x81, 202, 0, 2, 0, 0, 0, 9, 1, 0, 0, 0];
        let chain = [&report[..], &description].concat();
        assert_eq!(compound(&chain), Some(201));
        assert_eq!(compound(&chain[..18]), None);
        let long = [&report[..], &[0; 40]].concat();
        assert_eq!(compound(&long), None);
        assert_eq!(compound(&[0x80, 199, 0, 1, 0, 0, 0, 9]), None);
    }
}
