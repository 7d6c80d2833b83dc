//! SSDP (UPnP Device Architecture 2.0, section 1).
//!
//! UDP; a search or an announcement: `M-SEARCH * HTTP/1.1` or `NOTIFY * HTTP/1.1`. A response is one of
//! HTTP.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::http::header;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Ssdp;

const STARTS: [&[u8]; 2] = [b"M-SEARCH * HTTP/1.1\r\n", b"NOTIFY * HTTP/1.1\r\n"];

fn method(payload: &[u8]) -> Option<&[u8]> {
    let start = STARTS.iter().find(|start| payload.starts_with(start))?;
    Some(super::fields::word(start).0)
}

impl Signature for Ssdp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Ssdp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && STARTS.iter().any(|start| start[0] == first)
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        method(context.payload)?;
        verdict(Protocol::Ssdp, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(method) = method(context.payload) else {
            return;
        };
        details.text("method", method);
        details.set_info_to("method");
        for (key, name) in [
            ("search_target", &b"st"[..]),
            ("notification_type", b"nt"),
            ("unique_service_name", b"usn"),
            ("location", b"location"),
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
    fn a_search_names_its_target() {
        let search = b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nST: ssdp:all\r\n\r\n";
        let (name, details) = probe(Layer::Udp, (50000, 1900), search).unwrap();
        assert_eq!((name, details.info()), ("SSDP", "M-SEARCH"));
        assert_eq!(details.get("search_target"), Some("ssdp:all"));
        assert!(probe(Layer::Udp, (50000, 1900), b"M-SEARCH / HTTP/1.1\r\n\r\n").is_none());
        assert!(probe(Layer::Tcp, (50000, 1900), search).is_none());
    }
}
