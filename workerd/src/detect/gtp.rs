//! GTP-U (3GPP TS 29.281 section 5) and GTP-C (3GPP TS 29.060 section 6, TS 29.274 section 5).
//!
//! UDP port 2152 for user data and 2123 for control; version 1 or 2, a known message type, and a length
//! that is the payload's. User data must start as an IP packet does.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Gtp;

const USER: &[u16] = &[2152];
const CONTROL: &[u16] = &[2123];
const G_PDU: u8 = 255;

/// The plane of a message, and its name.
fn message(context: &Context<'_>) -> Option<(Protocol, &'static str)> {
    let payload = context.payload;
    let (first, kind, len) = (byte(payload, 0)?, byte(payload, 1)?, be16(payload, 2)?);
    let version = first >> 5;
    let header = match version {
        1 if first & 0x18 == 0x10 => 8,
        2 => 4,
        _ => return None,
    };
    let whole = payload.len().checked_sub(header)?;
    // A version 2 message may carry another behind it (TS 29.274 section 5.5.1).
    let piggybacked = version == 2 && first & 0x10 != 0 && usize::from(len) < whole;
    if usize::from(len) != whole && !piggybacked {
        return None;
    }
    if version == 1 && context.on(USER) {
        return Some((Protocol::GtpU, user_message(payload, kind)?));
    }
    if !context.on(CONTROL) {
        return None;
    }
    let name = if version == 1 {
        control_v1(kind)?
    } else {
        control_v2(kind)?
    };
    Some((Protocol::GtpC, name))
}

fn user_message(payload: &[u8], kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "Echo Request",
        2 => "Echo Response",
        26 => "Error Indication",
        31 => "Supported Extension Headers Notification",
        254 => "End Marker",
        G_PDU => {
            matches!(byte(payload, inner(payload)?)? >> 4, 4 | 6).then_some(())?;
            "G-PDU"
        }
        _ => return None,
    })
}

/// Where the user's packet starts, behind the optional fields and extension headers.
fn inner(payload: &[u8]) -> Option<usize> {
    if payload[0] & 7 == 0 {
        return Some(8);
    }
    let mut at = 12;
    let mut next = if payload[0] & 4 == 0 {
        0
    } else {
        byte(payload, 11)?
    };
    for _ in 0..8 {
        if next == 0 {
            return Some(at);
        }
        at += usize::from(byte(payload, at)?) * 4;
        next = byte(payload, at - 1)?;
    }
    None
}

fn control_v1(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "Echo Request",
        2 => "Echo Response",
        3 => "Version Not Supported",
        16 => "Create PDP Context Request",
        17 => "Create PDP Context Response",
        18 => "Update PDP Context Request",
        19 => "Update PDP Context Response",
        20 => "Delete PDP Context Request",
        21 => "Delete PDP Context Response",
        26 => "Error Indication",
        27 => "PDU Notification Request",
        28 => "PDU Notification Response",
        50 => "SGSN Context Request",
        51 => "SGSN Context Response",
        52 => "SGSN Context Acknowledge",
        _ => return None,
    })
}

fn control_v2(kind: u8) -> Option<&'static str> {
    Some(match kind {
        1 => "Echo Request",
        2 => "Echo Response",
        3 => "Version Not Supported",
        32 => "Create Session Request",
        33 => "Create Session Response",
        34 => "Modify Bearer Request",
        35 => "Modify Bearer Response",
        36 => "Delete Session Request",
        37 => "Delete Session Response",
        95 => "Create Bearer Request",
        96 => "Create Bearer Response",
        97 => "Update Bearer Request",
        98 => "Update Bearer Response",
        99 => "Delete Bearer Request",
        100 => "Delete Bearer Response",
        128 => "Identification Request",
        129 => "Identification Response",
        130 => "Context Request",
        131 => "Context Response",
        132 => "Context Acknowledge",
        133 => "Forward Relocation Request",
        134 => "Forward Relocation Response",
        170 => "Release Access Bearers Request",
        171 => "Release Access Bearers Response",
        176 => "Downlink Data Notification",
        177 => "Downlink Data Notification Acknowledge",
        _ => return None,
    })
}

impl Signature for Gtp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::GtpU, Protocol::GtpC]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && matches!(first >> 5, 1 | 2)
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        verdict(message(context)?.0, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let payload = context.payload;
        let Some((protocol, name)) = message(context) else {
            return;
        };
        let version = payload[0] >> 5;
        details.put("version", version);
        details.put("message_type", payload[1]);
        details.put("message_name", name);
        details.set_info(format_args!("{} {name}", protocol.name()));
        // Version 2 says by a flag whether there is one.
        if version == 1 || payload[0] & 0x08 != 0 {
            details.put("teid", be32(payload, 4).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn user_data_is_an_ip_packet() {
        let mut packet = [0; 28];
        packet[..4].copy_from_slice(&[0x30, 255, 0, 20]);
        packet[7] = 9;
        packet[8] = 0x45;
        let (name, details) = probe(Layer::Udp, (2152, 2152), &packet).unwrap();
        assert_eq!((name, details.get("teid")), ("GTP-U", Some("9")));
        assert!(probe(Layer::Udp, (2153, 2153), &packet).is_none());
        packet[8] = 0x25;
        assert!(probe(Layer::Udp, (2152, 2152), &packet).is_none());
    }

    #[test]
    fn control_has_two_versions() {
        let create = [0x48, 32, 0, 8, 0, 0, 0, 1, 0, 0, 1, 0];
        let (name, details) = probe(Layer::Udp, (40000, 2123), &create).unwrap();
        assert_eq!(
            (name, details.info()),
            ("GTP-C", "GTP-C Create Session Request")
        );
        let echo = [0x32, 1, 0, 4, 0, 0, 0, 0, 0, 1, 0, 0];
        assert_eq!(probe(Layer::Udp, (2123, 2123), &echo).unwrap().0, "GTP-C");
        assert!(probe(Layer::Udp, (2123, 2123), &echo[..11]).is_none());
    }
}
