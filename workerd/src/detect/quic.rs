//! QUIC (RFC 9000 section 17, RFC 9369 for version 2), its drafts and Google's versions.
//!
//! A long header with a known version and connection ids of at most 20 bytes. Version negotiation
//! must list a known version, and nothing but versions. On QUIC's ports, also versions reserved for
//! greasing (section 15) and Google's. A short header says nothing by itself: it counts only on
//! QUIC's ports and below 21 bytes, where a packet can be neither a stateless reset (section 10.3)
//! nor much else.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Value, Writer};
use super::fields::{be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use std::fmt::{self, Write};

/// See the module.
pub struct Quic;

const PORTS: &[u16] = &[443, 8443, 80, 8080];
const LONGEST_ID: u8 = 20;
const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;
const SHORT_LEN: std::ops::Range<usize> = 18..21;

/// A version as its name.
#[derive(Clone, Copy)]
struct Version(u32);

impl Version {
    fn known(self) -> bool {
        matches!(self.0, 1 | 0x6b33_43cf | 0xff00_0000..=0xff00_00ff)
    }

    /// Reserved for greasing, or Google's `Q` or `T` and three digits.
    fn plausible(self) -> bool {
        let bytes = self.0.to_be_bytes();
        self.0 & 0x0f0f_0f0f == 0x0a0a_0a0a
            || matches!(bytes[0], b'Q' | b'T') && bytes[1..].iter().all(u8::is_ascii_digit)
    }
}

impl Value for Version {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        match self.0 {
            0 => out.write_str("Version Negotiation"),
            1 => out.write_str("QUIC v1"),
            0x6b33_43cf => out.write_str("QUIC v2"),
            0xff00_0000..=0xff00_00ff => write!(out, "draft-{}", self.0 & 0xff),
            other => write!(out, "Unknown (0x{other:08x})"),
        }
    }
}

struct Long {
    version: Version,
    ids: [u8; 2],
}

impl Long {
    fn of(payload: &[u8]) -> Option<Self> {
        if byte(payload, 0)? & LONG == 0 {
            return None;
        }
        let version = Version(be32(payload, 1)?);
        let destination = byte(payload, 5)?;
        let end = 6 + usize::from(destination);
        if destination > LONGEST_ID || payload.len() < end {
            return None;
        }
        let source = byte(payload, end).unwrap_or(0);
        if source > LONGEST_ID {
            return None;
        }
        let rest = payload.get(end + 1 + usize::from(source)..);
        if version.0 == 0 && !lists_versions(rest?) {
            return None;
        }
        Some(Self {
            version,
            ids: [destination, source],
        })
    }
}

fn lists_versions(list: &[u8]) -> bool {
    let (versions, rest) = list.as_chunks::<4>();
    let known = |bytes: &[u8; 4]| Version(u32::from_be_bytes(*bytes)).known();
    rest.is_empty() && versions.len() <= 64 && versions.iter().any(known)
}

impl Signature for Quic {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Quic]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && first & (LONG | FIXED) != 0
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let standard = context.on(PORTS);
        let first = byte(context.payload, 0)?;
        if first & LONG == 0 {
            let short = standard && SHORT_LEN.contains(&context.payload.len());
            return short.then(|| verdict(Protocol::Quic, Confidence::HIGH))?;
        }
        let header = Long::of(context.payload)?;
        let fixed = first & FIXED != 0;
        let known = header.version.known() || header.version.0 == 0;
        let confidence = match (known, fixed) {
            (true, true) => Confidence::by_port(standard, 875, 886),
            (true, false) => Confidence::by_port(standard, 881, 900),
            (false, fixed) if standard && header.version.plausible() => {
                Confidence::by_port(fixed, 825, 813)
            }
            (false, _) => return None,
        };
        verdict(Protocol::Quic, confidence)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(first) = byte(context.payload, 0) else {
            return;
        };
        if let Some(header) = Long::of(context.payload) {
            // By version 1's numbers for every version, as the reference does, though RFC 9369
            // section 3.2 renumbers them.
            let kind = usize::from(first >> 4 & 3);
            let kind = ["Initial", "0-RTT", "Handshake", "Retry"][kind];
            details.put("header_type", "long");
            details.put("version", header.version);
            details.put("packet_type", kind);
            details.put("dcid_length", header.ids[0]);
            details.put("scid_length", header.ids[1]);
            details.put("fixed_bit", first & FIXED != 0);
        } else if first & (LONG | FIXED) == FIXED && context.payload.len() >= SHORT_LEN.start {
            details.put("header_type", "short");
            details.put("spin_bit", first & 0x20 != 0);
            details.put("key_phase", first & 0x04 != 0);
            details.put("packet_number_length", (first & 3) + 1);
            details.put("fixed_bit", true);
        }
    }
}
