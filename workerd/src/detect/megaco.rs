//! Megaco, which is H.248, as text (RFC 3525 annex B).
//!
//! `MEGACO/` or `!/`, a version of one or two digits, white space, and the sender's address or domain in
//! brackets, or a name.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{byte, head};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Megaco;

const WINDOW: usize = 256;

/// The version and the sender.
fn start(payload: &[u8]) -> Option<(&[u8], &[u8])> {
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

impl Signature for Megaco {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Megaco]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        matches!(layer, Layer::Tcp | Layer::Udp | Layer::Sctp)
            && matches!(first, b'M' | b'm' | b'!')
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        start(context.payload)?;
        verdict(Protocol::Megaco, Confidence::HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if let Some((version, sender)) = start(context.payload) {
            details.text("version", version);
            details.text("sender", sender);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

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
}
