//! RTP (RFC 3550 section 5.1) and SRTP, which differs in what announced it (RFC 3711).
//!
//! Version 2 and a header that fits. One packet decides where a session description announced its
//! endpoint; elsewhere two do: one source (of up to three side by side), sequence numbers that continue,
//! wherever they wrap. A
//! single packet without an announcement is enough only on an even port of the usual ranges and
//! with a size that codecs have: two bits of version alone take every fourth packet of noise for
//! media. UDP, and none of the ports where other services answer.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32, byte};
use super::memory::{Media, MediaKind, Memory, Scratch};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Rtp;

/// Ports on which no media is looked for.
pub const SERVICES: &[u16] = &[
    21, 22, 25, 80, 110, 143, 443, 993, 995, 3306, 5432, 6379, 8080, 8443, 27017, 53, 67, 68, 69,
    123, 137, 138, 161, 162, 500, 514,
];
/// Media keeps to the path's MTU.
const LONGEST: usize = 1600;
/// How far sequence numbers of one source may be apart and still make a stream.
const LONGEST_GAP: u16 = 1000;
/// Payload types that collide with RTCP packet types or are unassigned (RFC 3551 section 6).
const DOUBTFUL_TYPES: std::ops::RangeInclusive<u8> = 35..=95;

/// The fixed header.
struct Header<'a> {
    flags: u8,
    marker: bool,
    payload_type: u8,
    sequence: u16,
    timestamp: u32,
    ssrc: u32,
    media: &'a [u8],
}

impl<'a> Header<'a> {
    fn of(payload: &'a [u8]) -> Option<Self> {
        let flags = byte(payload, 0)?;
        if flags >> 6 != 2 {
            return None;
        }
        let second = byte(payload, 1)?;
        let mut len = 12 + usize::from(flags & 15) * 4;
        if flags & 0x10 != 0 {
            let words = be16(payload, len + 2);
            len += 4;
            // A cut packet keeps its header.
            len += words.map_or(0, |words| usize::from(words) * 4);
        }
        if payload.len() < 12 + usize::from(flags & 15) * 4 {
            return None;
        }
        Some(Self {
            flags,
            marker: second & 0x80 != 0,
            payload_type: second & 0x7f,
            sequence: be16(payload, 2)?,
            timestamp: be32(payload, 4)?,
            ssrc: be32(payload, 8)?,
            media: payload.get(len..)?,
        })
    }

    /// Values that no source chooses.
    fn absurd(&self) -> bool {
        matches!(self.ssrc, 0 | u32::MAX)
            || self.timestamp == u32::MAX
            || self.timestamp == 0 && self.sequence == 0
    }

    /// Whether this packet alone looks like one of a codec (RFC 3551 sections 4.5 and 6).
    fn typical(&self, payload: &[u8]) -> bool {
        let sources = self.flags & 15;
        // RFC 8285 sections 4.2 and 4.3.
        let extension = self.flags & 0x10 == 0
            || be16(payload, 12 + usize::from(sources) * 4)
                .is_some_and(|profile| profile == 0xbede || profile >> 4 == 0x100);
        let len = self.media.len();
        let frames = match self.payload_type {
            3 => len.is_multiple_of(33),
            4 => len.is_multiple_of(20) || len.is_multiple_of(24),
            18 => len.is_multiple_of(10),
            _ => len.is_multiple_of(80),
        };
        // Four bytes: an event (RFC 4733 section 2.3).
        sources <= 4 && extension && len > 0 && (frames || len == 4)
    }
}

impl Signature for Rtp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Rtp, Protocol::Srtp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && first >> 6 == 2
    }

    fn judge(&self, context: &Context<'_>, notes: &mut Notes<'_>) -> Option<Verdict> {
        let header = Header::of(context.payload)?;
        if context.on(SERVICES) {
            return None;
        }
        if let Some(media) = announced(context, notes.memory) {
            let protocol = match media.kind {
                MediaKind::Rtp => Protocol::Rtp,
                MediaKind::Srtp => Protocol::Srtp,
                MediaKind::T38 => return None,
            };
            return verdict(protocol, Confidence::VERY_HIGH);
        }
        if context.payload.len() > LONGEST
            || header.absurd()
            || DOUBTFUL_TYPES.contains(&header.payload_type)
        {
            return None;
        }
        let typical_port = typical_port(context);
        let confidence = Confidence::by_port(typical_port, 757, 767);
        if continues(&header, notes.scratch) {
            // DTLS-SRTP (RFC 5764).
            let secure = notes.protocol == Protocol::Dtls;
            let protocol = if secure {
                Protocol::Srtp
            } else {
                Protocol::Rtp
            };
            return verdict(protocol, confidence);
        }
        let alone = notes.protocol == Protocol::Unknown
            && typical_port
            && context.payload.len() >= 16
            && header.typical(context.payload);
        if alone {
            return verdict(Protocol::Rtp, confidence);
        }
        None
    }

    fn describe(
        &self,
        context: &Context<'_>,
        protocol: Protocol,
        notes: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(header) = Header::of(context.payload) else {
            return;
        };
        // RTCP on the same ports (RFC 5761 section 4).
        if super::rtcp::compound(context.payload).is_some() {
            return super::rtcp::report(context.payload, details);
        }
        let codec = codec(header.payload_type);
        details.put("version", 2);
        details.put("padding", header.flags & 0x20 != 0);
        details.put("extension", header.flags & 0x10 != 0);
        details.put("csrc_count", header.flags & 15);
        details.put("marker", header.marker);
        details.put("payload_type", header.payload_type);
        details.put("codec", codec.0);
        details.put("sequence_number", header.sequence);
        details.put("timestamp", header.timestamp);
        details.put("ssrc", header.ssrc);
        if let Some(media) = announced(context, notes.memory) {
            details.put("sip_correlated", true);
            details.text_if_any("call_id", media.call_id.as_bytes());
        }
        match (protocol, codec.1, header.payload_type) {
            (Protocol::Srtp, ..) => {}
            (_, "", dynamic @ 96..) => details.set_info(format_args!("Dynamic-{dynamic}")),
            (_, "", other) => details.set_info(format_args!("PT-{other}")),
            (_, name, _) => details.set_info(name),
        }
    }

    /// A call that turns into a fax.
    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::T38]
    }
}

/// The announcement of either end.
fn announced<'a>(context: &Context<'_>, memory: &'a Memory) -> Option<&'a Media> {
    let (source, destination) = context.addresses;
    memory
        .announced((destination, context.destination_port), context.time_ns)
        .or_else(|| memory.announced((source, context.source_port), context.time_ns))
}

/// Whether the packet continues its source's stream, be it among up to three; it becomes what the next
/// of them is compared with.
fn continues(header: &Header<'_>, scratch: &mut Scratch) -> bool {
    let (mut ssrc, mut sequence) = match *scratch {
        Scratch::Media { ssrc, sequence } => (ssrc, sequence),
        _ => ([0; 3], [0; 3]),
    };
    let known = ssrc.iter().position(|source| *source == header.ssrc);
    let place = known.unwrap_or(ssrc.len() - 1);
    let gap = header.sequence.wrapping_sub(sequence[place]);
    // Headers that merely look like RTP's often don't change at all.
    let near = gap != 0 && (gap <= LONGEST_GAP || gap >= LONGEST_GAP.wrapping_neg());
    ssrc[..=place].rotate_right(1);
    sequence[..=place].rotate_right(1);
    (ssrc[0], sequence[0]) = (header.ssrc, header.sequence);
    *scratch = Scratch::Media { ssrc, sequence };
    known.is_some() && near
}

/// Even, as RFC 3550 section 11 wants it, and above what services use.
fn typical_port(context: &Context<'_>) -> bool {
    let typical = |port: u16| matches!(port, 10000..=65534) && port.is_multiple_of(2);
    typical(context.source_port) || typical(context.destination_port)
}

/// The codec's name, and its name in the line for people.
fn codec(payload_type: u8) -> (&'static str, &'static str) {
    match payload_type {
        0 => ("G.711 µ-law (PCMU)", "PCMU"),
        3 => ("GSM", "GSM"),
        4 => ("G.723", "G723"),
        5 => ("DVI4 8kHz", "DVI4-8k"),
        6 => ("DVI4 16kHz", "DVI4-16k"),
        7 => ("LPC", "LPC"),
        8 => ("G.711 A-law (PCMA)", "PCMA"),
        9 => ("G.722", "G722"),
        10 => ("L16 Stereo", "L16-stereo"),
        11 => ("L16 Mono", "L16-mono"),
        12 => ("QCELP", "QCELP"),
        13 => ("Comfort Noise", "CN"),
        14 => ("MPA", "MPA"),
        15 => ("G.728", "G728"),
        16 => ("DVI4 11kHz", "DVI4-11k"),
        17 => ("DVI4 22kHz", "DVI4-22k"),
        18 => ("G.729", "G729"),
        25 => ("CelB", ""),
        26 => ("JPEG", "JPEG"),
        28 => ("nv", ""),
        31 => ("H.261", "H261"),
        32 => ("MPV", "MPV"),
        33 => ("MP2T", "MP2T"),
        34 => ("H.263", "H263"),
        101 => ("Dynamic (often telephone-event)", ""),
        96.. => ("Dynamic", ""),
        _ => ("Unknown", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Detector, Flow};
    use super::*;

    /// What is found, packet by packet, in one flow.
    fn found(packets: &[(u32, u16)]) -> Vec<bool> {
        let (mut detector, mut flow) = (Detector::new(), Flow::default());
        let mut observe = |(ssrc, sequence): &(u32, u16)| {
            let mut packet = [7; 50];
            packet[..2].copy_from_slice(&[0x80, 120]);
            packet[2..4].copy_from_slice(&sequence.to_be_bytes());
            packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
            let context = Context::new(Layer::Udp, (5001, 5003), &packet);
            detector.observe(&context, &mut flow).is_some()
        };
        packets.iter().map(&mut observe).collect()
    }

    #[test]
    fn up_to_three_sources_may_take_turns() {
        let turns = [(1, 10), (2, 900), (3, 500), (1, 11)];
        assert_eq!(found(&turns), [false, false, false, true]);
        let too_many = [(1, 10), (2, 900), (3, 500), (4, 1), (1, 11)];
        assert_eq!(found(&too_many), [false; 5]);
    }

    #[test]
    fn sources_without_continuing_numbers_are_nothing() {
        assert_eq!(found(&[(1, 10), (2, 900), (1, 10), (1, 5000)]), [false; 4]);
    }
}
