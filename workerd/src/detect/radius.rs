//! RADIUS (RFC 2865 section 3, RFC 2866, RFC 5176).
//!
//! UDP; a known code, a length that is the payload's, and attributes that chain to exactly that length.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Radius;

const PORTS: &[u16] = &[1812, 1813, 1645, 1646, 3799];
const HEADER: usize = 20;
const LONGEST: usize = 4096;

/// The name of a message's code.
fn code(payload: &[u8]) -> Option<&'static str> {
    let len = usize::from(be16(payload, 2)?);
    if len != payload.len() || !(HEADER..=LONGEST).contains(&len) {
        return None;
    }
    let chained: usize = attributes(payload).map(|(_, value)| value.len() + 2).sum();
    (chained + HEADER == len).then(|| name(payload[0]))?
}

/// Types and values, as far as they chain.
fn attributes(payload: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = payload.get(HEADER..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (kind, len) = (byte(rest, 0)?, usize::from(byte(rest, 1)?));
        let value = rest.get(2..len)?;
        rest = &rest[len..];
        (kind != 0).then_some((kind, value))
    })
}

fn name(code: u8) -> Option<&'static str> {
    Some(match code {
        1 => "Access-Request",
        2 => "Access-Accept",
        3 => "Access-Reject",
        4 => "Accounting-Request",
        5 => "Accounting-Response",
        11 => "Access-Challenge",
        12 => "Status-Server",
        13 => "Status-Client",
        40 => "Disconnect-Request",
        41 => "Disconnect-ACK",
        42 => "Disconnect-NAK",
        43 => "CoA-Request",
        44 => "CoA-ACK",
        45 => "CoA-NAK",
        _ => return None,
    })
}

impl Signature for Radius {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Radius]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && name(first).is_some()
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        code(context.payload)?;
        verdict(
            Protocol::Radius,
            Confidence::by_port(context.on(PORTS), 950, 700),
        )
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let payload = context.payload;
        let Some(code) = code(payload) else {
            return;
        };
        details.put("code", payload[0]);
        details.put("code_name", code);
        details.set_info_to("code_name");
        details.put("identifier", payload[1]);
        details.put("length", payload.len());
        if let Some(user) =
            attributes(payload).find_map(|(kind, value)| (kind == 1).then_some(value))
        {
            details.text("user_name", user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn attributes_must_chain() {
        let mut request = [0; 27];
        request[..4].copy_from_slice(&[1, 5, 0, 27]);
        request[20..].copy_from_slice(b"\x01\x07alice");
        let (name, details) = probe(Layer::Udp, (40000, 40001), &request).unwrap();
        assert_eq!((name, details.info()), ("RADIUS", "Access-Request"));
        assert_eq!(details.get("user_name"), Some("alice"));
        request[21] = 6;
        assert!(probe(Layer::Udp, (40000, 1812), &request).is_none());
        request[21] = 7;
        request[0] = 99;
        assert!(probe(Layer::Udp, (40000, 1812), &request).is_none());
    }
}
