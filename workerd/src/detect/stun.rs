//! STUN (RFC 8489 section 5) and TURN (RFC 8656 section 17).
//!
//! Two zero bits, the magic cookie, and a length that is a multiple of 4 and that of the payload behind
//! the 20 bytes of header; over TCP also behind the length of RFC 4571 section 2 (RFC 6544 section 3). The
//! methods of TURN make it TURN. Media may follow on the same ports (RFC 8445, RFC 7983), so a flow of STUN
//! can turn into DTLS, RTP, SRTP or RTCP.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Stun;

const COOKIE: u32 = 0x2112_a442;
const HEADER: usize = 20;
const LONGEST_OVER_TCP: u16 = 2048;

/// Type and length of the message that starts a packet.
fn message(context: &Context<'_>) -> Option<(u16, u16)> {
    let payload = context.payload;
    if !context.tcp() {
        let (kind, len) = header(payload)?;
        return (usize::from(len) + HEADER == payload.len()).then_some((kind, len));
    }
    // A segment may hold several messages or a part of one.
    let unframed = header(payload).filter(|(_, len)| *len <= LONGEST_OVER_TCP);
    let framed = || {
        let (kind, len) = header(payload.get(2..)?)?;
        (usize::from(be16(payload, 0)?) == usize::from(len) + HEADER).then_some((kind, len))
    };
    unframed.or_else(framed)
}

fn header(payload: &[u8]) -> Option<(u16, u16)> {
    let (kind, len) = (be16(payload, 0)?, be16(payload, 2)?);
    let possible = payload.len() >= HEADER && kind < 0x4000 && len.is_multiple_of(4);
    (possible && be32(payload, 4)? == COOKIE).then_some((kind, len))
}

/// A method's name, and whether it is one of TURN's.
fn method(kind: u16) -> (&'static str, bool) {
    match kind & 0x000f | kind >> 1 & 0x0070 | kind >> 2 & 0x0f80 {
        1 => ("Binding", false),
        3 => ("Allocate", true),
        4 => ("Refresh", true),
        6 => ("Send", true),
        7 => ("Data", true),
        8 => ("CreatePermission", true),
        9 => ("ChannelBind", true),
        _ => ("Unknown", false),
    }
}

impl Signature for Stun {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Stun, Protocol::Turn]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        matches!(layer, Layer::Udp | Layer::Tcp) && first < 0x40
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let method = method(message(context)?.0);
        let protocol = if method.1 {
            Protocol::Turn
        } else {
            Protocol::Stun
        };
        verdict(protocol, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((kind, len)) = message(context) else {
            return;
        };
        let class = [
            "Request",
            "Indication",
            "Success Response",
            "Error Response",
        ];
        let class = class[usize::from(kind >> 7 & 2 | kind >> 4 & 1)];
        let method = method(kind).0;
        details.put("message_type", format_args!("{method} {class}"));
        details.set_info_to("message_type");
        details.put("method", method);
        details.put("class", class);
        details.put("length", len);
    }

    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Dtls, Protocol::Rtcp, Protocol::Rtp]
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn the_cookie_and_the_length_make_it_stun() {
        let mut request = [0; 28];
        request[..8].copy_from_slice(&[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42]);
        let (name, details) = probe(Layer::Udp, (5000, 5001), &request).unwrap();
        assert_eq!((name, details.info()), ("STUN", "Binding Request"));
        request[..2].copy_from_slice(&[1, 0x13]);
        let (name, details) = probe(Layer::Udp, (5000, 5001), &request).unwrap();
        assert_eq!((name, details.info()), ("TURN", "Allocate Error Response"));
        assert!(probe(Layer::Udp, (5000, 5001), &request[..24]).is_none());
        request[4] = 0;
        assert!(probe(Layer::Udp, (3478, 3478), &request).is_none());
    }

    #[test]
    fn over_tcp_a_length_may_stand_in_front() {
        let mut request = [0; 30];
        request[..10].copy_from_slice(&[0, 28, 0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42]);
        let (name, details) = probe(Layer::Tcp, (5000, 5001), &request).unwrap();
        assert_eq!((name, details.get("length")), ("STUN", Some("8")));
        assert_eq!(
            probe(Layer::Tcp, (5000, 5001), &request[2..]).unwrap().0,
            "STUN"
        );
        assert!(probe(Layer::Udp, (5000, 5001), &request).is_none());
        request[1] = 29;
        assert!(probe(Layer::Tcp, (3478, 3478), &request).is_none());
    }
}
