//! BGP (RFC 4271 section 4.1, RFC 2918 for route refresh).
//!
//! TCP; a marker of 16 bytes 255, a length of 19 to 4096 that its type allows.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Bgp;

const MARKER: [u8; 16] = [255; 16];

/// A message's type, its name, and its length.
fn message(payload: &[u8]) -> Option<(u8, &'static str, u16)> {
    let (len, kind) = (be16(payload, 16)?, byte(payload, 18)?);
    let (name, shortest, longest) = match kind {
        1 => ("OPEN", 29, 4096),
        2 => ("UPDATE", 23, 4096),
        3 => ("NOTIFICATION", 21, 4096),
        4 => ("KEEPALIVE", 19, 19),
        5 => ("ROUTE-REFRESH", 23, 4096),
        _ => return None,
    };
    let possible = payload.starts_with(&MARKER) && (shortest..=longest).contains(&len);
    possible.then_some((kind, name, len))
}

impl Signature for Bgp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Bgp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && first == 255
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        message(context.payload)?;
        verdict(Protocol::Bgp, Confidence::DEFINITE)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let payload = context.payload;
        let Some((kind, name, len)) = message(payload) else {
            return;
        };
        details.put("message_type", kind);
        details.put("message_name", name);
        details.set_info_to("message_name");
        details.put("length", len);
        if kind == 1
            && let (Some(system), Some(hold)) = (be16(payload, 20), be16(payload, 22))
        {
            details.put("my_as", system);
            details.put("hold_time", hold);
            details.ipv4("identifier", be32(payload, 24));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn types_have_their_lengths() {
        let mut keepalive = [255; 19];
        keepalive[16..].copy_from_slice(&[0, 19, 4]);
        let (name, details) = probe(Layer::Tcp, (179, 40000), &keepalive).unwrap();
        assert_eq!((name, details.info()), ("BGP", "KEEPALIVE"));
        keepalive[17] = 20;
        assert!(probe(Layer::Tcp, (179, 40000), &keepalive).is_none());
        keepalive[16..].copy_from_slice(&[0, 29, 9]);
        assert!(probe(Layer::Tcp, (179, 40000), &keepalive).is_none());
        assert!(probe(Layer::Tcp, (179, 40000), &[255; 30]).is_none());
    }
}
