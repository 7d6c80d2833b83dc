//! SSH (RFC 4253 section 4.2).
//!
//! The identification: `SSH-`, protocol version, `-`, software; the line ends at CR or LF, or has at
//! least 20 bytes.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{head, split};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use memchr::memchr2;

/// See the module.
pub struct Ssh;

const PORTS: &[u16] = &[22];
/// RFC 4253 section 4.2 allows 255.
const LONGEST_LINE: usize = 255;

struct Banner<'a> {
    line: &'a [u8],
    version: &'a [u8],
    software: &'a [u8],
}

impl<'a> Banner<'a> {
    fn of(payload: &'a [u8]) -> Option<Self> {
        let start = payload.strip_prefix(b"SSH-")?;
        let line = match memchr2(b'\r', b'\n', head(payload, LONGEST_LINE)) {
            Some(end) => &payload[..end],
            None if payload.len() >= 20 => head(payload, 100),
            None => return None,
        };
        let (version, software) = split(&start[..line.len().saturating_sub(4)], b'-')?;
        Some(Self {
            line,
            version,
            software,
        })
    }

    fn known_version(&self) -> bool {
        matches!(self.version, b"2.0" | b"1.99" | b"1.5")
    }
}

impl Signature for Ssh {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Ssh]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        matches!(layer, Layer::Tcp | Layer::Udp | Layer::Sctp) && first == b'S'
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let banner = Banner::of(context.payload)?;
        let off = match (context.tcp(), banner.known_version()) {
            (true, true) => 696,
            (true, false) => 703,
            (false, true) => 730,
            (false, false) => 760,
        };
        verdict(
            Protocol::Ssh,
            Confidence::by_port(context.on(PORTS), 1000, off),
        )
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(banner) = Banner::of(context.payload) else {
            return;
        };
        details.put("type", "protocol_version");
        details.text("version_string", banner.line);
        details.set_info_to("version_string");
        details.text("proto_version", banner.version);
        match split(banner.software, b' ') {
            Some((software, comments)) => {
                details.text("software", software);
                details.text("comments", comments);
            }
            None => details.text("software", banner.software),
        }
        details.put("valid_version", banner.known_version());
    }
}
