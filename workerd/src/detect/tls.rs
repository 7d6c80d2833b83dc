//! TLS and SSL 3.0 (RFC 8446 section 5.1, RFC 5246 section 6.2.1, RFC 6066 section 3 for SNI).
//!
//! A record: type 20 to 24, version 3.0 to 3.4, at most 16384 bytes; a proxy's header may stand in front. The middle of a record cannot be
//! told from noise; on the ports of TLS it is taken for TLS, as the reference does, only where its
//! bytes are *not* spread like noise (see [`mid_stream`]). Elsewhere a flow is TLS from its next
//! record that starts a segment.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, head};
use super::protocol::Protocol;
use super::proxy::behind_header;
use super::signature::{Notes, Signature, Verdict, verdict};
use crate::tls::handshake;
use crate::tls::hello::{Carrier, ClientHello};

/// See the module.
pub struct Tls;

const PORTS: &[u16] = &[443, 465, 563, 636, 989, 990, 992, 993, 994, 995];
/// Ports on which the middle of a stream is looked at.
pub const MID_STREAM_PORTS: &[u16] = &[443, 8443, 465, 563, 636, 853, 989, 990, 992, 993, 994, 995];
const LONGEST_RECORD: u16 = 16384;
const HANDSHAKE: u8 = 22;

struct Record {
    kind: u8,
    minor: u8,
    len: u16,
}

impl Record {
    fn of(payload: &[u8]) -> Option<Self> {
        let [kind @ 20..=24, 3, minor @ 0..=4, ..] = *payload.first_chunk::<6>()? else {
            return None;
        };
        let len = be16(payload, 3)?;
        (len <= LONGEST_RECORD).then_some(Self { kind, minor, len })
    }
}

/// Whether bytes on a port of TLS look like the middle of a record: not text, at least 30 different
/// values among the first 64 bytes, and yet not as many as noise has. Of 64 random bytes, 48 to 63
/// are different with a probability of 0.999; a payload of that kind says nothing.
fn mid_stream(context: &Context<'_>) -> bool {
    if !context.tcp() || context.payload.len() < 20 || !context.on(MID_STREAM_PORTS) {
        return false;
    }
    let start = head(context.payload, 64);
    let printable = start.iter().filter(|byte| matches!(byte, 0x20..=0x7e));
    let text: [&[u8]; 7] = [
        b"GET ", b"POST", b"HTTP", b"HEAD", b"PUT ", b"DELE", b"OPTI",
    ];
    if printable.count() * 10 > start.len() * 7 || text.iter().any(|text| start.starts_with(text)) {
        return false;
    }
    let mut seen = [false; 256];
    for byte in start {
        seen[usize::from(*byte)] = true;
    }
    let different = seen.iter().filter(|seen| **seen).count();
    let most_by_structure = start.len() * 3 / 4;
    different >= 30 && (different < most_by_structure || different == 64)
}

impl Signature for Tls {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Tls]
    }

    /// The middle of a stream starts with any byte.
    fn starts(&self, layer: Layer, first: u8) -> bool {
        match layer {
            Layer::Tcp => true,
            Layer::Udp | Layer::Sctp => (20..=24).contains(&first),
            _ => false,
        }
    }

    /// A flow of another protocol turns into TLS by a hello alone.
    fn judge(&self, context: &Context<'_>, notes: &mut Notes<'_>) -> Option<Verdict> {
        let fresh = notes.protocol == Protocol::Unknown;
        let payload = behind_header(context.payload);
        if let Some(record) = Record::of(payload) {
            let hello = record.kind == HANDSHAKE && matches!(payload[5], 1 | 2);
            if !fresh && !hello {
                return None;
            }
            let confidence = Confidence::by_port(context.on(PORTS), 1000, 800);
            return verdict(Protocol::Tls, confidence);
        }
        (fresh && mid_stream(context)).then(|| verdict(Protocol::Tls, Confidence::MEDIUM))?
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let payload = behind_header(context.payload);
        let Some(record) = Record::of(payload) else {
            if mid_stream(context) {
                details.put("mid_stream", true);
                details.put("content_type", "ApplicationData (mid-stream)");
            }
            return;
        };
        let versions = ["SSL 3.0", "TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3"];
        details.put("version", versions[usize::from(record.minor)]);
        let kinds = [
            "ChangeCipherSpec",
            "Alert",
            "Handshake",
            "ApplicationData",
            "Heartbeat",
        ];
        details.put("content_type", kinds[usize::from(record.kind - 20)]);
        details.put("record_length", record.len);
        if record.kind != HANDSHAKE {
            return;
        }
        let kind = payload[5];
        details.text_if_any("handshake_type", handshake::name(kind).as_bytes());
        if kind == handshake::kind::CLIENT_HELLO {
            details.text_if_any("sni", server_name(payload).unwrap_or_default());
        }
    }
}

/// The host name of a ClientHello, as far as it lies within one segment.
fn server_name(payload: &[u8]) -> Option<&[u8]> {
    // Behind the headers of record and message.
    ClientHello::read(payload.get(5 + 4..)?, Carrier::Stream)?.server_name()
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn a_proxy_may_say_whose_connection_it_is() {
        let header = b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\n";
        let hello = [22, 3, 1, 0, 4, 1, 0, 0, 0];
        let payload = [&header[..], &hello].concat();
        let (name, details) = probe(Layer::Tcp, (40000, 40001), &payload).unwrap();
        assert_eq!((name, details.get("record_length")), ("TLS", Some("4")));
        assert!(probe(Layer::Tcp, (40000, 40001), &payload[1..]).is_none());
    }
}
