//! Kerberos 5 (RFC 4120 sections 5.4, 5.5, 5.9 and 7.2).
//!
//! An application tag of a known message around a SEQUENCE that starts with version 5 and the type of the
//! tag. Over UDP alone, over TCP behind four bytes of length.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use super::snmp::ber_length;

/// See the module.
pub struct Kerberos;

const SEQUENCE: u8 = 0x30;
const LONGEST: u32 = 1 << 20;

/// The type of a message, and its name.
fn message(context: &Context<'_>) -> Option<(u8, &'static str)> {
    let message = if context.tcp() {
        (be32(context.payload, 0)? <= LONGEST).then(|| context.payload.get(4..))??
    } else {
        context.payload
    };
    let tag = byte(message, 0)?;
    let name = name(tag)?;
    let (len, sequence) = ber_length(&message[1..])?;
    let (_, fields) = ber_length(sequence.strip_prefix(&[SEQUENCE])?)?;
    // Requests to the KDC number their fields from 1, all others from 0.
    let first = if matches!(tag, 0x6a | 0x6c) {
        0xa1
    } else {
        0xa0
    };
    let kind = tag & 0x1f;
    let start = [first, 3, 2, 1, 5, first + 1, 3, 2, 1, kind];
    let whole = context.tcp() || len == sequence.len();
    (whole && fields.starts_with(&start)).then_some((kind, name))
}

fn name(tag: u8) -> Option<&'static str> {
    Some(match tag {
        0x6a => "AS-REQ",
        0x6b => "AS-REP",
        0x6c => "TGS-REQ",
        0x6d => "TGS-REP",
        0x6e => "AP-REQ",
        0x6f => "AP-REP",
        0x7e => "KRB-ERROR",
        _ => return None,
    })
}

impl Signature for Kerberos {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Kerberos]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        match layer {
            Layer::Udp => name(first).is_some(),
            Layer::Tcp => first == 0,
            _ => false,
        }
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        message(context)?;
        verdict(Protocol::Kerberos, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if let Some((kind, name)) = message(context) {
            details.put("message_type", kind);
            details.put("message_name", name);
            details.set_info_to("message_name");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    const REQUEST: [u8; 14] = [0x6a, 12, 0x30, 10, 0xa1, 3, 2, 1, 5, 0xa2, 3, 2, 1, 10];

    #[test]
    fn the_type_must_be_that_of_the_tag() {
        let (name, details) = probe(Layer::Udp, (40000, 40001), &REQUEST).unwrap();
        assert_eq!((name, details.info()), ("Kerberos", "AS-REQ"));
        let framed = [&[0, 0, 0, 14][..], &REQUEST].concat();
        assert_eq!(
            probe(Layer::Tcp, (40000, 88), &framed).unwrap().0,
            "Kerberos"
        );
        let mut other = REQUEST;
        other[13] = 11;
        assert!(probe(Layer::Udp, (40000, 88), &other).is_none());
        other[13] = 10;
        other[8] = 4;
        assert!(probe(Layer::Udp, (40000, 88), &other).is_none());
        assert!(probe(Layer::Udp, (40000, 88), &REQUEST[..13]).is_none());
    }
}
