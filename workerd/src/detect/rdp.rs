//! RDP's connection request and confirm ([MS-RDPBCGR] sections 2.2.1.1 and 2.2.1.2).
//!
//! TCP; TPKT (RFC 1006) whose length is the payload's, an X.224 connection request or confirm that fills
//! it, and in it a cookie or a negotiation of RDP. TLS follows. UDP ([MS-RDPEUDP] section 2.2): the first
//! packet of a connection, which acknowledges nothing, names two possible sizes and is padded to 1232 bytes.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32, byte, le32, line};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use memchr::memmem;

/// See the module.
pub struct Rdp;

const REQUEST: u8 = 0xe0;
const CONFIRM: u8 = 0xd0;
/// TPKT and the fixed part of X.224.
const HEADER: usize = 11;
const COOKIE: &[u8] = b"Cookie: ";

/// Payload of a datagram that starts a connection, and the largest that it may offer.
const LARGEST: u16 = 1232;
/// The smallest that it may offer.
const SMALLEST: u16 = 1132;
/// It starts a connection.
const SYN: u16 = 1;
/// It acknowledges.
const ACK: u16 = 4;

/// The sizes that the first datagram of a connection offers for both directions.
fn offer(context: &Context<'_>) -> Option<(u16, u16)> {
    let payload = context.payload;
    if !context.udp() || payload.len() != usize::from(LARGEST) || be32(payload, 0)? != u32::MAX {
        return None;
    }
    let (flags, up, down) = (be16(payload, 6)?, be16(payload, 12)?, be16(payload, 14)?);
    let possible = |size| (SMALLEST..=LARGEST).contains(&size);
    (flags & (SYN | ACK) == SYN && possible(up) && possible(down)).then_some((up, down))
}

/// Request or confirm.
fn kind(payload: &[u8]) -> Option<u8> {
    let kind = byte(payload, 5)?;
    let rest = payload.get(HEADER..)?;
    let framed = be16(payload, 0)? == 0x0300
        && usize::from(be16(payload, 2)?) == payload.len()
        && usize::from(byte(payload, 4)?) + 5 == payload.len();
    let of_rdp = rest.starts_with(COOKIE) || negotiation(rest).is_some();
    (framed && matches!(kind, REQUEST | CONFIRM) && of_rdp).then_some(kind)
}

/// Where the negotiation starts: at once, or behind a cookie's line.
fn negotiation(rest: &[u8]) -> Option<usize> {
    let at = if rest.starts_with(COOKIE) {
        memmem::find(rest, b"\r\n")? + 2
    } else {
        0
    };
    let [1..=3, _, 8, 0] = *rest.get(at..)?.first_chunk()? else {
        return None;
    };
    Some(at)
}

impl Signature for Rdp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Rdp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        match layer {
            Layer::Tcp => first == 3,
            Layer::Udp => first == 0xff,
            _ => false,
        }
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        if context.udp() {
            offer(context)?;
        } else {
            kind(context.payload)?;
        }
        verdict(Protocol::Rdp, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if let Some((up, down)) = offer(context) {
            details.put("type", "UDP Connection Request");
            details.set_info_to("type");
            details.put("upstream_mtu", up);
            details.put("downstream_mtu", down);
        }
        if context.udp() {
            return;
        }
        let Some(kind) = kind(context.payload) else {
            return;
        };
        let request = kind == REQUEST;
        let name = if request {
            "Connection Request"
        } else {
            "Connection Confirm"
        };
        details.put("type", name);
        details.set_info_to("type");
        let rest = &context.payload[HEADER..];
        if let Some(cookie) = rest.strip_prefix(COOKIE) {
            details.text("cookie", line(cookie));
        }
        if let Some(at) = negotiation(rest)
            && let Some(protocols) = le32(rest, at + 4)
        {
            let key = if request {
                "requested_protocols"
            } else {
                "selected_protocol"
            };
            details.put(key, protocols);
        }
    }

    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Tls]
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn a_negotiation_makes_it_rdp() {
        let mut request = [0; 19];
        request[..6].copy_from_slice(&[3, 0, 0, 19, 14, REQUEST]);
        request[11..].copy_from_slice(&[1, 0, 8, 0, 3, 0, 0, 0]);
        let (name, details) = probe(Layer::Tcp, (40000, 40001), &request).unwrap();
        assert_eq!(
            (name, details.get("requested_protocols")),
            ("RDP", Some("3"))
        );
        let mut other = request;
        other[11] = 9;
        assert!(probe(Layer::Tcp, (40000, 3389), &other).is_none());
        // Q.931 of H.323 stands behind TPKT too.
        other = request;
        other[5] = 8;
        assert!(probe(Layer::Tcp, (40000, 1720), &other).is_none());
    }

    #[test]
    fn a_connection_over_udp_starts_with_sizes() {
        let mut datagram = [0; 1232];
        datagram[..4].fill(0xff);
        datagram[4..16].copy_from_slice(&[0, 64, 0x18, 1, 1, 2, 3, 4, 4, 0xd0, 4, 0xd0]);
        let (name, details) = probe(Layer::Udp, (40000, 40001), &datagram).unwrap();
        assert_eq!((name, details.get("upstream_mtu")), ("RDP", Some("1232")));
        assert!(probe(Layer::Udp, (40000, 3389), &datagram[..1231]).is_none());
        datagram[7] = 5;
        assert!(probe(Layer::Udp, (40000, 3389), &datagram).is_none());
        datagram[7] = 1;
        datagram[12] = 5;
        assert!(probe(Layer::Udp, (40000, 3389), &datagram).is_none());
    }
}
