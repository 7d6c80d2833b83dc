//! LDAP (RFC 4511 section 4.1.1; BER of ITU-T X.690), also over UDP (CLDAP).
//!
//! A SEQUENCE of an INTEGER of one to four bytes and an operation whose length lies within it. StartTLS
//! makes it TLS.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::byte;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use super::snmp::ber_length;

/// See the module.
pub struct Ldap;

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 2;

/// The message's id, and its operation.
fn message(context: &Context<'_>) -> Option<(u32, &'static str)> {
    let (len, message) = ber_length(context.payload.get(1..)?)?;
    let [INTEGER, id_len @ 1..=4, ..] = *message.first_chunk::<2>()? else {
        return None;
    };
    let id_end = 2 + usize::from(id_len);
    let add = |sum: u32, byte: &u8| sum << 8 | u32::from(*byte);
    let id = message.get(2..id_end)?.iter().fold(0, add);
    let operation = operation(byte(message, id_end)?)?;
    let (inner, rest) = ber_length(message.get(id_end + 1..)?)?;
    let head = message.len() - rest.len();
    let whole = context.tcp() || len == message.len();
    (head + inner <= len && whole && id < 1 << 31).then_some((id, operation))
}

fn operation(tag: u8) -> Option<&'static str> {
    Some(match tag {
        0x60 => "bindRequest",
        0x61 => "bindResponse",
        0x42 => "unbindRequest",
        0x63 => "searchRequest",
        0x64 => "searchResultEntry",
        0x65 => "searchResultDone",
        0x73 => "searchResultReference",
        0x66 => "modifyRequest",
        0x67 => "modifyResponse",
        0x68 => "addRequest",
        0x69 => "addResponse",
        0x4a => "delRequest",
        0x6b => "delResponse",
        0x6c => "modDNRequest",
        0x6d => "modDNResponse",
        0x6e => "compareRequest",
        0x6f => "compareResponse",
        0x50 => "abandonRequest",
        0x77 => "extendedRequest",
        0x78 => "extendedResponse",
        0x79 => "intermediateResponse",
        _ => return None,
    })
}

impl Signature for Ldap {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Ldap]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        matches!(layer, Layer::Tcp | Layer::Udp) && first == SEQUENCE
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        message(context)?;
        verdict(Protocol::Ldap, Confidence::HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if let Some((id, operation)) = message(context) {
            details.put("message_id", id);
            details.put("operation", operation);
            details.set_info_to("operation");
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

    const BIND: [u8; 14] = [0x30, 12, 2, 1, 1, 0x60, 7, 2, 1, 3, 4, 0, 0x80, 0];

    #[test]
    fn an_operation_must_fit() {
        let (name, details) = probe(Layer::Tcp, (40000, 10389), &BIND).unwrap();
        assert_eq!((name, details.info()), ("LDAP", "bindRequest"));
        let mut long = BIND;
        long[6] = 9;
        assert!(probe(Layer::Tcp, (40000, 389), &long).is_none());
        let mut other = BIND;
        other[5] = 0x04;
        other[4] = 9;
        assert!(probe(Layer::Tcp, (40000, 389), &other).is_none());
        assert!(probe(Layer::Udp, (40000, 389), &BIND[..12]).is_none());
    }
}
