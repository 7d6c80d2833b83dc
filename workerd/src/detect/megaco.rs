//! Megaco, which is H.248, as text (RFC 3525 annex B) and as BER (ITU-T H.248.1 annex A).
//!
//! - Text: `MEGACO/` or `!/`, a version of one or two digits, white space, and the sender's address or
//!   domain in brackets, or a name.
//! - BER: the SEQUENCE of a message that is as long as the payload; in it, behind an authentication header that
//!   may stand first, a version, a sender of a known kind, and transactions or an error. Over TCP behind the header of
//!   TPKT (H.248.1 annex D.2, RFC 1006). Lengths are definite.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, byte, head};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use super::snmp::ber_length;
use std::net::{Ipv4Addr, Ipv6Addr};

/// See the module.
pub struct Megaco;

const WINDOW: usize = 256;
/// Highest version (H.248.1 annex A).
const HIGHEST_VERSION: u8 = 99;
const TPKT: usize = 4;

/// The version and the sender of a message of text.
fn text(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let window = head(payload, WINDOW);
    let rest = match window.strip_prefix(b"!/") {
        Some(rest) => rest,
        None if super::fields::starts_with(window, b"MEGACO/") => &window[7..],
        None => return None,
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (version, rest) = rest.split_at_checked(digits)?;
    let sender = rest.trim_ascii_start();
    let len = sender.iter().position(u8::is_ascii_whitespace)?;
    let named = matches!(byte(sender, 0)?, b'[' | b'<') || sender[0].is_ascii_alphanumeric();
    let possible = matches!(digits, 1 | 2) && rest.len() > sender.len() && named;
    possible.then(|| (version, &sender[..len]))
}

/// The version of a message of BER, and its sender's tag and bytes.
fn binary<'a>(context: &Context<'a>) -> Option<(u8, u8, &'a [u8])> {
    let payload = if context.tcp() {
        let len = usize::from(be16(context.payload, 2)?);
        let framed = context.payload.starts_with(&[3, 0]) && len == context.payload.len();
        framed.then(|| context.payload.get(TPKT..))??
    } else {
        context.payload
    };
    let (0x30, message, []) = element(payload)? else {
        return None;
    };
    // MegacoMessage: authHeader [0] OPTIONAL, mess [1]
    let message = match element(message)? {
        (0xa0, _, rest) => rest,
        _ => message,
    };
    let (0xa1, message, []) = element(message)? else {
        return None;
    };
    // Message: version [0], mId [1], messageBody [2]
    let (0x80, &[version], rest) = element(message)? else {
        return None;
    };
    let (0xa1, sender, rest) = element(rest)? else {
        return None;
    };
    let (0xa2, body, []) = element(rest)? else {
        return None;
    };
    // MId: ip4Address, ip6Address, domainName, deviceName, mtpAddress
    let (kind @ (0xa0..=0xa2 | 0x83 | 0x84), sender, []) = element(sender)? else {
        return None;
    };
    // messageError [0], transactions [1]
    let known = version <= HIGHEST_VERSION && matches!(byte(body, 0)?, 0xa0 | 0xa1);
    known.then_some((version, kind, sender))
}

/// The tag and the contents of the first element, and what follows it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (len, rest) = ber_length(rest)?;
    let (contents, rest) = rest.split_at_checked(len)?;
    Some((*tag, contents, rest))
}

impl Signature for Megaco {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Megaco]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        match layer {
            Layer::Tcp => matches!(first, b'M' | b'm' | b'!' | 3),
            Layer::Udp | Layer::Sctp => matches!(first, b'M' | b'm' | b'!' | 0x30),
            _ => false,
        }
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        if text(context.payload).is_none() {
            binary(context)?;
        }
        verdict(Protocol::Megaco, Confidence::HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if let Some((version, sender)) = text(context.payload) {
            details.text("version", version);
            details.text("sender", sender);
        } else if let Some((version, kind, sender)) = binary(context) {
            details.put("version", version);
            describe_sender(kind, sender, details);
        }
    }
}

/// An address, or a name; a point code of MTP is not told.
fn describe_sender(kind: u8, sender: &[u8], details: &mut Details) {
    let first = element(sender);
    match (kind, first) {
        (0xa0, Some((0x80, address, _))) => {
            if let Ok(address) = <[u8; 4]>::try_from(address) {
                details.put("sender", Ipv4Addr::from(address));
            }
        }
        (0xa1, Some((0x80, address, _))) => {
            if let Ok(address) = <[u8; 16]>::try_from(address) {
                details.put("sender", format_args!("{}", Ipv6Addr::from(address)));
            }
        }
        (0xa2, Some((0x80, name, _))) => details.text("sender", name),
        (0x83, _) => details.text("sender", sender),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    /// Version 1 from 192.0.2.1:2945, with a list of transactions.
    const BINARY: [u8; 27] = [
        0x30, 25, 0xa1, 23, 0x80, 1, 1, 0xa1, 12, 0xa0, 10, 0x80, 4, 192, 0, 2, 1, 0x81, 2, 11,
        0x81, 0xa2, 4, 0xa1, 2, 0xa0, 0,
    ];

    #[test]
    fn a_version_and_a_sender_make_it_megaco() {
        let text = b"MEGACO/1 [192.0.2.1]:2944\nTransaction = 1 {\n}\n";
        let (name, details) = probe(Layer::Udp, (9000, 9001), text).unwrap();
        assert_eq!(
            (name, details.get("sender")),
            ("Megaco", Some("[192.0.2.1]:2944"))
        );
        let short = b"!/2 <gw.example>:2944 P=1{C=-{SC=ROOT{}}}";
        assert_eq!(probe(Layer::Tcp, (9000, 9001), short).unwrap().0, "Megaco");
        assert!(probe(Layer::Udp, (2944, 2944), b"MEGACO/one [192.0.2.1]").is_none());
        assert!(probe(Layer::Udp, (2944, 2944), b"!/usr/bin/env [x]").is_none());
    }

    #[test]
    fn the_elements_of_a_binary_message_must_fit() {
        let (name, details) = probe(Layer::Udp, (9000, 9001), &BINARY).unwrap();
        assert_eq!(
            (name, details.get("sender"), details.get("version")),
            ("Megaco", Some("192.0.2.1"), Some("1"))
        );
        let framed = [&[3, 0, 0, 31][..], &BINARY].concat();
        assert_eq!(
            probe(Layer::Tcp, (9000, 9001), &framed).unwrap().0,
            "Megaco"
        );
        assert!(probe(Layer::Tcp, (2945, 2945), &BINARY).is_none());
        assert!(probe(Layer::Udp, (2945, 2945), &BINARY[..26]).is_none());
        for (at, value) in [
            (1, 24),
            (2, 0xa2),
            (6, 100),
            (9, 0xa5),
            (21, 0xa3),
            (23, 0xa2),
        ] {
            let mut other = BINARY;
            other[at] = value;
            assert!(probe(Layer::Udp, (2945, 2945), &other).is_none(), "{at}");
        }
    }

    #[test]
    fn an_authentication_header_may_stand_first() {
        let mut message = [0; 31];
        message[..6].copy_from_slice(&[0x30, 29, 0xa0, 2, 0x80, 0]);
        message[6..].copy_from_slice(&BINARY[2..]);
        assert_eq!(
            probe(Layer::Udp, (9000, 9001), &message).unwrap().0,
            "Megaco"
        );
    }
}
