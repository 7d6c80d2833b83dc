//! Ethernet frames with UDP and TCP: headers, lengths and checksums.
//!
//! Checksums are the Internet checksum (RFC 1071) over header, pseudo header (RFC 9293, RFC 768,
//! RFC 8200) and payload; they are always filled in, so a strict receiver accepts every frame.

use std::net::IpAddr;

use super::path::{Path, Side};

/// Bytes of a UDP header.
pub(super) const UDP_HEADER: usize = 8;
/// Bytes of a TCP header without options.
pub(super) const TCP_HEADER: usize = 20;

const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;

/// Ports of a conversation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) server: u16,
}

impl Ports {
    /// Source and destination port of what `from` sends.
    fn ordered(self, from: Side) -> (u16, u16) {
        match from {
            Side::Client => (self.client, self.server),
            Side::Server => (self.server, self.client),
        }
    }
}

/// The control bits of a TCP segment (RFC 9293 section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Control {
    Syn,
    SynAck,
    Ack,
    PushAck,
    FinAck,
}

impl Control {
    fn bits(self) -> u8 {
        match self {
            Self::Syn => 0x02,
            Self::SynAck => 0x12,
            Self::Ack => 0x10,
            Self::PushAck => 0x18,
            Self::FinAck => 0x11,
        }
    }

    fn opens(self) -> bool {
        matches!(self, Self::Syn | Self::SynAck)
    }
}

/// What a TCP segment says besides its ports.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) control: Control,
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
}

/// Replaces `frame` by a UDP datagram that `from` sends.
pub(super) fn udp(frame: &mut Vec<u8>, path: &Path, from: Side, ports: Ports, payload: &[u8]) {
    let length = UDP_HEADER + payload.len();
    lower_headers(frame, path, from, PROTOCOL_UDP, length);
    let start = frame.len();
    let (source, destination) = ports.ordered(from);
    frame.extend(source.to_be_bytes());
    frame.extend(destination.to_be_bytes());
    frame.extend((length as u16).to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    // An all-zero checksum would mean "none" (RFC 768).
    let checksum = match transport_checksum(path, PROTOCOL_UDP, &frame[start..]) {
        0 => 0xffff,
        checksum => checksum,
    };
    frame[start + 6..start + 8].copy_from_slice(&checksum.to_be_bytes());
}

/// Replaces `frame` by a TCP segment that `from` sends. Segments that open the connection carry
/// the maximum segment size.
pub(super) fn tcp(
    frame: &mut Vec<u8>,
    path: &Path,
    from: Side,
    ports: Ports,
    segment: Segment,
    payload: &[u8],
) {
    let options: &[u8] = if segment.control.opens() {
        &[2, 4, 0x05, 0xb4]
    } else {
        &[]
    };
    let header = TCP_HEADER + options.len();
    lower_headers(frame, path, from, PROTOCOL_TCP, header + payload.len());
    let start = frame.len();
    let (source, destination) = ports.ordered(from);
    frame.extend(source.to_be_bytes());
    frame.extend(destination.to_be_bytes());
    frame.extend(segment.sequence.to_be_bytes());
    frame.extend(segment.acknowledgment.to_be_bytes());
    frame.extend([(header as u8 / 4) << 4, segment.control.bits()]);
    frame.extend(u16::MAX.to_be_bytes());
    frame.extend([0, 0, 0, 0]);
    frame.extend(options);
    frame.extend(payload);
    let checksum = transport_checksum(path, PROTOCOL_TCP, &frame[start..]);
    frame[start + 16..start + 18].copy_from_slice(&checksum.to_be_bytes());
}

/// Starts `frame` with Ethernet, VLAN tag and IP header for `length` bytes of `protocol`.
fn lower_headers(frame: &mut Vec<u8>, path: &Path, from: Side, protocol: u8, length: usize) {
    let (source, destination) = (path.host(from), path.host(from.peer()));
    frame.clear();
    frame.extend(destination.mac);
    frame.extend(source.mac);
    if let Some(vlan) = path.vlan {
        frame.extend([0x81, 0x00]);
        frame.extend(vlan.to_be_bytes());
    }
    match (source.ip, destination.ip) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00]);
            let start = frame.len();
            frame.extend([0x45, 0]);
            frame.extend(((20 + length) as u16).to_be_bytes());
            // Don't fragment, so the identification may be zero (RFC 6864).
            frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
            let checksum = !fold(sum(&frame[start..]));
            frame[start + 10..start + 12].copy_from_slice(&checksum.to_be_bytes());
        }
        (source, destination) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend((length as u16).to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(ipv6_octets(source));
            frame.extend(ipv6_octets(destination));
        }
    }
}

fn ipv6_octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// The checksum of a transport header and payload whose checksum field is zero.
fn transport_checksum(path: &Path, protocol: u8, bytes: &[u8]) -> u16 {
    let mut total = sum(bytes) + u64::from(protocol) + bytes.len() as u64;
    for side in [Side::Client, Side::Server] {
        total += match path.host(side).ip {
            IpAddr::V4(address) => sum(&address.octets()),
            IpAddr::V6(address) => sum(&address.octets()),
        };
    }
    !fold(total)
}

/// The sum of big-endian 16-bit words; an odd last byte counts as the high half of a word.
fn sum(bytes: &[u8]) -> u64 {
    let mut words = bytes.chunks_exact(2);
    let mut total: u64 = words
        .by_ref()
        .map(|word| u64::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    if let [last] = words.remainder() {
        total += u64::from(*last) << 8;
    }
    total
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total >> 16) + (total & 0xffff);
    }
    total as u16
}
