//! MSRP (RFC 4975 section 9).
//!
//! `MSRP`, a transaction id, and a method or a status code on one line; `To-Path:` on the next.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{head, line, starts_with, word};
use super::http::header;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Msrp;

const LONGEST_LINE: usize = 512;

/// The transaction id, and the method or status code.
fn start(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = line(head(payload, LONGEST_LINE));
    let (transaction, rest) = word(first.strip_prefix(b"MSRP ")?);
    let method = word(rest).0;
    let follows = payload.get(first.len() + 2..)?;
    (!method.is_empty() && starts_with(follows, b"to-path:")).then_some((transaction, method))
}

impl Signature for Msrp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Msrp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && first == b'M'
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        start(context.payload)?;
        verdict(Protocol::Msrp, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((transaction, method)) = start(context.payload) else {
            return;
        };
        let response = method[0].is_ascii_digit();
        details.put("type", if response { "response" } else { "request" });
        details.text(if response { "status_code" } else { "method" }, method);
        details.set_info(super::details::Text(method));
        details.text("transaction_id", transaction);
        for (key, name) in [
            ("to_path", &b"to-path"[..]),
            ("from_path", b"from-path"),
            ("message_id", b"message-id"),
        ] {
            if let Some(value) = header(context.payload, name) {
                details.text(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn the_path_must_follow() {
        let send = b"MSRP a786 SEND\r\nTo-Path: msrp://b/x;tcp\r\nMessage-ID: 7\r\n\r\n";
        let (name, details) = probe(Layer::Tcp, (40000, 2855), send).unwrap();
        assert_eq!((name, details.info()), ("MSRP", "SEND"));
        assert_eq!(details.get("message_id"), Some("7"));
        assert!(
            probe(
                Layer::Tcp,
                (40000, 2855),
                b"MSRP a786 SEND\r\nSubject: x\r\n"
            )
            .is_none()
        );
        assert!(probe(Layer::Tcp, (40000, 2855), b"MSRP a786\r\nTo-Path: x\r\n").is_none());
    }
}
