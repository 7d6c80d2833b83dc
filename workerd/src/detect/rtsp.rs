//! RTSP (RFC 2326 section 6, RFC 7826 section 7).
//!
//! A request line that ends in `RTSP/1.0` or `RTSP/2.0`, or a status line that starts so. Interleaved
//! media of the same connection belongs to its flow.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{head, lines, word};
use super::http::header;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Rtsp;

const METHODS: &[&[u8]] = &[
    b"DESCRIBE ",
    b"ANNOUNCE ",
    b"GET_PARAMETER ",
    b"OPTIONS ",
    b"PAUSE ",
    b"PLAY ",
    b"PLAY_NOTIFY ",
    b"RECORD ",
    b"REDIRECT ",
    b"SETUP ",
    b"SET_PARAMETER ",
    b"TEARDOWN ",
];
const LONGEST_LINE: usize = 2048;

/// The first two words of a request or status line.
fn start(payload: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = lines(head(payload, LONGEST_LINE)).next()?;
    let (first, rest) = word(line);
    let (second, third) = word(rest);
    let request = METHODS.iter().any(|method| payload.starts_with(method)) && is_version(third);
    (!second.is_empty() && (request || is_version(first))).then_some((first, second))
}

fn is_version(word: &[u8]) -> bool {
    matches!(word, b"RTSP/1.0" | b"RTSP/2.0")
}

impl Signature for Rtsp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Rtsp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        let method = METHODS.iter().any(|method| method[0] == first);
        matches!(layer, Layer::Tcp | Layer::Udp) && (method || first == b'R')
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        start(context.payload)?;
        verdict(Protocol::Rtsp, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((first, second)) = start(context.payload) else {
            return;
        };
        if is_version(first) {
            details.put("type", "response");
            details.text("status_code", second);
        } else {
            details.put("type", "request");
            details.text("method", first);
            details.set_info_to("method");
            details.text("uri", second);
        }
        for (key, name) in [
            ("cseq", &b"cseq"[..]),
            ("session", b"session"),
            ("transport", b"transport"),
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
    fn the_version_makes_it_rtsp() {
        let request = b"SETUP rtsp://h/s RTSP/1.0\r\nCSeq: 3\r\n\r\n";
        let (name, details) = probe(Layer::Tcp, (40000, 8554), request).unwrap();
        assert_eq!((name, details.info()), ("RTSP", "SETUP"));
        assert_eq!(details.get("cseq"), Some("3"));
        let (name, details) = probe(Layer::Tcp, (554, 40000), b"RTSP/1.0 200 OK\r\n\r\n").unwrap();
        assert_eq!((name, details.get("status_code")), ("RTSP", Some("200")));
        assert!(probe(Layer::Tcp, (40000, 554), b"SETUP rtsp://h/s RTSP/3.0\r\n").is_none());
        assert!(probe(Layer::Tcp, (40000, 554), b"SETUP the table\r\n").is_none());
    }
}
