//! From the first byte of a frame to addresses and ports, in one pass.
//!
//! Decoding never fails as a whole: it goes as far as the bytes allow, keeps what it found, and says
//! what stopped it ([`Fault`]). Link types: Ethernet with VLAN tags (IEEE 802.1Q, 802.1ad), Linux
//! cooked v1 and v2, PPP, raw IP, null and loop; PPPoE sessions (RFC 2516) and MPLS (RFC 3032).
//! Network: IPv4 with options (RFC 791), IPv6 with extension headers (RFC 8200). Transport: TCP (RFC
//! 9293), UDP (RFC 768), SCTP (RFC 9260), ICMP.
//!
//! Tunnels are opened where they stand (`decode/tunnel.rs`): what is told of a packet (addresses, ports,
//! transport, payload) is told of the innermost one, and the outermost addresses are kept beside it.
//!
//! A transport header is looked for in unfragmented packets and first fragments only, and a fragment
//! is never taken for a tunnel: [`crate::fragments`] completes the datagram first, whose bytes
//! [`decode_datagram`] then decodes.
//!
//! The way of an ordinary frame is one function, put together at compile time; what is rare stands apart.

mod tunnel;

use shm_layout::counters::WorkerCounter;

/// Most VLAN tags of a frame; more are taken for an attack.
const MOST_TAGS: usize = 8;
/// Most labels of an MPLS stack; more are taken for an attack.
const MOST_LABELS: usize = 16;
/// Most tunnels within each other; more are taken for an attack.
const MOST_TUNNELS: u8 = 4;
/// Most extension headers of an IPv6 packet; more are taken for an attack.
const MOST_EXTENSIONS: usize = 16;

/// An address as it stands in the packet. IPv4 addresses mapped into IPv6 come out as IPv4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Addr {
    /// IPv4, most significant byte first.
    V4(u32),
    /// IPv6, most significant byte first.
    V6(u128),
}

/// Transport protocols with a header that is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP for IPv4.
    Icmp,
    /// ICMP for IPv6.
    IcmpV6,
}

impl Transport {
    /// Its name on the wire, in `PacketMetadata.transport`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
            Self::Icmp => "ICMP",
            Self::IcmpV6 => "ICMPv6",
        }
    }
}

/// What stopped decoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A link type that is not decoded.
    UnknownLinkType,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// The bytes end within the link-layer header.
    TruncatedLink,
    /// The bytes end within an IP header.
    TruncatedIp,
    /// The bytes end within the transport header.
    TruncatedTransport,
    /// Too many VLAN tags.
    MalformedLink,
    /// An impossible version, length or chain of extension headers.
    MalformedIp,
    /// An impossible length in the transport header.
    MalformedTransport,
}

impl Fault {
    /// The counter of packets with this fault.
    #[must_use]
    pub fn counter(self) -> WorkerCounter {
        match self {
            Self::UnknownLinkType => WorkerCounter::UnknownLinkType,
            Self::NotIp => WorkerCounter::NotIp,
            Self::TruncatedLink => WorkerCounter::TruncatedLink,
            Self::TruncatedIp => WorkerCounter::TruncatedIp,
            Self::TruncatedTransport => WorkerCounter::TruncatedTransport,
            Self::MalformedLink => WorkerCounter::MalformedLink,
            Self::MalformedIp => WorkerCounter::MalformedIp,
            Self::MalformedTransport => WorkerCounter::MalformedTransport,
        }
    }

    /// Whether more bytes of the same packet could change the result.
    #[must_use]
    pub fn is_truncation(self) -> bool {
        matches!(
            self,
            Self::TruncatedLink | Self::TruncatedIp | Self::TruncatedTransport
        )
    }
}

/// What a frame's headers say. Offsets count from the first byte of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Decoded {
    /// Source and destination of the innermost IP header.
    pub addresses: Option<(Addr, Addr)>,
    /// Source and destination of the outermost IP header, of a packet in a tunnel.
    pub outer: Option<(Addr, Addr)>,
    /// Whether the innermost packet is a fragment.
    pub fragment: bool,
    /// Transport protocol, if it is one that is decoded.
    pub transport: Option<Transport>,
    /// Source and destination port, where the transport has ports.
    pub ports: Option<(u16, u16)>,
    /// How many tunnels the innermost IP header stands in.
    pub tunnels: u8,
    /// IPv4's type of service or IPv6's traffic class.
    pub traffic_class: u8,
    /// IP's number of what follows the IP header and its extensions; 0 in later fragments, which only
    /// their first can tell.
    pub protocol: u8,
    /// What the packet is marked with on its way: VLAN tags, the interface of Linux cooked v2, PPPoE
    /// sessions and identifiers of tunnels, mixed into one number; 0 without. All fragments of a
    /// datagram have the same, while the two directions of a flow need not.
    pub marks: u32,
    /// Where the innermost IP header starts.
    pub network: usize,
    /// Where starts what follows the IP header and its extensions; 0 in later fragments.
    pub header: usize,
    /// Where the packet ends by its own lengths, which may lie beyond the bytes; 0 where they say
    /// nothing. What stands behind it pads the frame.
    pub end: usize,
    /// Where the transport payload starts; 0 without a decoded transport header.
    pub payload: usize,
    /// What stopped decoding before the transport payload.
    pub fault: Option<Fault>,
}

impl Decoded {
    /// The transport payload within `bytes`, the frame that was decoded, without what pads the
    /// frame. Empty without a decoded transport header.
    #[must_use]
    #[inline]
    pub fn payload_of<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        let end = match self.end {
            0 => bytes.len(),
            end => end.min(bytes.len()),
        };
        match self.payload {
            0 => &[],
            start => bytes.get(start..end).unwrap_or_default(),
        }
    }
}

impl Decoded {
    /// The packet ends at `end` by its own lengths, 0 where they say nothing, but never behind what carries it.
    #[inline]
    fn bound(&mut self, end: usize) {
        self.end = match (self.end, end) {
            (0, end) => end,
            (carrier, 0) => carrier,
            (carrier, end) => end.min(carrier),
        };
    }
}

/// Decodes the frame `bytes` of libpcap link type `link_type`.
#[must_use]
#[inline(always)]
pub fn decode(link_type: u16, bytes: &[u8]) -> Decoded {
    let mut marks = 0;
    let start = link(link_type, bytes, &mut marks);
    // Made here, so that the compiler knows what stands in it.
    let mut decoded = Decoded {
        marks,
        ..Decoded::default()
    };
    decoded.fault = start.and_then(|at| network(bytes, at, &mut decoded)).err();
    decoded
}

/// Decodes `bytes`, the whole payload of a datagram that came in fragments, as what follows an IP
/// header: `protocol` is the first fragment's. `carrier` is what was decoded of any of the
/// fragments. Offsets count from the first byte of `bytes`.
#[cold]
#[must_use]
pub fn decode_datagram(carrier: &Decoded, protocol: u8, bytes: &[u8]) -> Decoded {
    let mut decoded = Decoded {
        addresses: carrier.addresses,
        outer: carrier.outer,
        tunnels: carrier.tunnels,
        traffic_class: carrier.traffic_class,
        marks: carrier.marks,
        end: bytes.len(),
        ..Decoded::default()
    };
    // Numbers of IPv6's extension headers have no other meaning in IPv4.
    decoded.fault = extensions(protocol, bytes, 0, &mut decoded).err();
    // Fragments of fragments, without an IP header between them, are not IP's.
    if decoded.fragment && decoded.tunnels == carrier.tunnels {
        decoded.fragment = false;
        decoded.fault = Some(Fault::MalformedIp);
    }
    decoded
}

/// Decodes the IP packet at `at` of `bytes`, which is all there is of it, as the content of a tunnel that was opened by other
/// means than its headers; `carrier` is what was decoded of the headers before it. `None` unless it is sound IP as a whole.
#[cold]
#[must_use]
pub(crate) fn decode_inner(carrier: &Decoded, bytes: &[u8], at: usize) -> Option<Decoded> {
    let mut decoded = *carrier;
    decoded.end = bytes.len();
    tunnel::enter(bytes, at, &mut decoded).ok()?;
    Some(decoded)
}

/// Decodes what stands at `at` of `bytes`, a header of IP's `protocol`, in place of what `carrier` has there.
#[cold]
#[must_use]
pub(crate) fn decode_transport(
    carrier: &Decoded,
    protocol: u8,
    bytes: &[u8],
    at: usize,
) -> Option<Decoded> {
    let mut decoded = Decoded {
        transport: None,
        ports: None,
        payload: 0,
        end: bytes.len(),
        fault: None,
        ..*carrier
    };
    transport(protocol, bytes, at, &mut decoded).ok()?;
    decoded.transport.is_some().then_some(decoded)
}

/// Mixes another mark into `marks`.
#[inline]
fn mark(marks: &mut u32, kind: u32, value: u32) {
    *marks = (*marks ^ value ^ kind << 24)
        .wrapping_mul(0x9e37_79b1)
        .rotate_left(15);
}

/// Kinds of marks.
const TAG: u32 = 1;
const INTERFACE: u32 = 2;
const SESSION: u32 = 3;
const TUNNEL: u32 = 4;

const NULL: u16 = 0;
const ETHERNET: u16 = 1;
const PPP: u16 = 9;
const RAW: [u16; 2] = [12, 101];
const FRAME_RELAY: u16 = 107;
const LOOP: u16 = 108;
const COOKED_V1: u16 = 113;
const RAW_V4: u16 = 228;
const RAW_V6: u16 = 229;
const COOKED_V2: u16 = 276;

/// Where the IP header starts.
#[inline(always)]
fn link(link_type: u16, bytes: &[u8], marks: &mut u32) -> Result<usize, Fault> {
    match link_type {
        ETHERNET => ethertype(bytes, 12, marks),
        COOKED_V1 => frame(bytes, 14, marks),
        COOKED_V2 => cooked_v2(bytes, marks),
        PPP => ppp(bytes, 0),
        NULL | LOOP => family(bytes),
        RAW_V4 | RAW_V6 => Ok(0),
        _ if RAW.contains(&link_type) => Ok(0),
        _ => Err(Fault::UnknownLinkType),
    }
}

/// Follows the chain of tags that starts with the EtherType at `at`.
#[inline(always)]
fn ethertype(bytes: &[u8], mut at: usize, marks: &mut u32) -> Result<usize, Fault> {
    for _ in 0..=MOST_TAGS {
        match be16(bytes, at).ok_or(Fault::TruncatedLink)? {
            0x0800 | 0x86dd => return Ok(at + 2),
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => {
                let tag = be16(bytes, at + 2).ok_or(Fault::TruncatedLink)?;
                mark(marks, TAG, u32::from(tag & 0xfff));
                at += 4;
            }
            0x8864 => {
                let session = be16(bytes, at + 4).ok_or(Fault::TruncatedLink)?;
                mark(marks, SESSION, session.into());
                return ppp(bytes, at + 8);
            }
            0x8847 | 0x8848 => return labels(bytes, at + 2),
            // IEEE 802.3 length: an LLC header follows, and with SNAP another EtherType.
            0..0x600 => {
                let snap = bytes.get(at + 2..at + 8).ok_or(Fault::TruncatedLink)?;
                if snap != [0xaa, 0xaa, 3, 0, 0, 0] {
                    return Err(Fault::NotIp);
                }
                at += 8;
            }
            _ => return Err(Fault::NotIp),
        }
    }
    Err(Fault::MalformedLink)
}

/// [`ethertype`], off the way of ordinary frames.
#[inline(never)]
fn frame(bytes: &[u8], at: usize, marks: &mut u32) -> Result<usize, Fault> {
    ethertype(bytes, at, marks)
}

/// The protocol of PPP (RFC 1661 section 2, RFC 1332, RFC 5072), compressed or not, with or without
/// the address and control bytes of HDLC (RFC 1662 section 3.1).
#[inline(never)]
fn ppp(bytes: &[u8], mut at: usize) -> Result<usize, Fault> {
    let mut protocol = be16(bytes, at).ok_or(Fault::TruncatedLink)?;
    if protocol == 0xff03 {
        at += 2;
        protocol = be16(bytes, at).ok_or(Fault::TruncatedLink)?;
    }
    match protocol {
        0x0021 | 0x0057 => Ok(at + 2),
        0x2100..0x2200 | 0x5700..0x5800 => Ok(at + 1),
        _ => Err(Fault::NotIp),
    }
}

/// Behind the bottom of a label stack: IP, or something that starts otherwise.
#[inline(never)]
fn labels(bytes: &[u8], at: usize) -> Result<usize, Fault> {
    for label in 0..MOST_LABELS {
        let bottom = bytes.get(at + label * 4 + 2).ok_or(Fault::TruncatedLink)? & 1 != 0;
        let next = at + label * 4 + 4;
        if bottom {
            let version = bytes.get(next).ok_or(Fault::TruncatedLink)? >> 4;
            return matches!(version, 4 | 6).then_some(next).ok_or(Fault::NotIp);
        }
    }
    Err(Fault::MalformedLink)
}

/// The ARP packet of a frame that is not IP: Ethernet with tags, Linux cooked, and Frame Relay
/// (RFC 2427 section 7).
#[must_use]
pub fn arp(link_type: u16, bytes: &[u8]) -> Option<&[u8]> {
    let mut at = match link_type {
        ETHERNET => 12,
        COOKED_V1 => 14,
        COOKED_V2 if be16(bytes, 0)? == 0x0806 => return bytes.get(20..),
        FRAME_RELAY if bytes.get(2..8)? == [3, 0, 0x80, 0, 0, 0] => 8,
        _ => return None,
    };
    for _ in 0..=MOST_TAGS {
        match be16(bytes, at)? {
            0x0806 => return bytes.get(at + 2..),
            0x8100 | 0x88a8 | 0x9100 | 0x9200 => at += 4,
            _ => return None,
        }
    }
    None
}

/// LINKTYPE_LINUX_SLL2: the protocol stands first, and tags are gone or follow the header.
#[inline(never)]
fn cooked_v2(bytes: &[u8], marks: &mut u32) -> Result<usize, Fault> {
    let protocol = be16(bytes, 0).ok_or(Fault::TruncatedLink)?;
    mark(
        marks,
        INTERFACE,
        be32(bytes, 4).ok_or(Fault::TruncatedLink)?,
    );
    match protocol {
        0x0800 | 0x86dd => Ok(20),
        0x8100 | 0x88a8 => frame(bytes, 22, marks),
        _ => Err(Fault::NotIp),
    }
}

/// LINKTYPE_NULL and _LOOP: an address family of four bytes, in the byte order of whoever wrote it.
#[inline(never)]
fn family(bytes: &[u8]) -> Result<usize, Fault> {
    let word: [u8; 4] = *bytes.first_chunk().ok_or(Fault::TruncatedLink)?;
    match u32::from_be_bytes(word).min(u32::from_le_bytes(word)) {
        // AF_INET; AF_INET6 of Linux, NetBSD, FreeBSD and Darwin.
        2 | 10 | 24 | 28 | 30 => Ok(4),
        _ => Err(Fault::NotIp),
    }
}

#[inline(always)]
fn network(bytes: &[u8], at: usize, decoded: &mut Decoded) -> Result<(), Fault> {
    match bytes.get(at).ok_or(Fault::TruncatedIp)? >> 4 {
        4 => ipv4(bytes, at, decoded),
        6 => ipv6(bytes, at, decoded),
        _ => Err(Fault::MalformedIp),
    }
}

#[inline(always)]
fn ipv4(bytes: &[u8], at: usize, decoded: &mut Decoded) -> Result<(), Fault> {
    let header: &[u8; 20] = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(Fault::TruncatedIp)?;
    let header_len = usize::from(header[0] & 15) * 4;
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let word = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    decoded.network = at;
    decoded.bound(match total_len {
        0 => 0,
        len => at + len,
    });
    decoded.traffic_class = header[1];
    decoded.addresses = Some((Addr::V4(word(12)), Addr::V4(word(16))));
    // A total length of 0 is what segmentation offload leaves in captured packets.
    if header_len < 20 || total_len != 0 && total_len < header_len {
        return Err(Fault::MalformedIp);
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    decoded.fragment = fragment & 0x3fff != 0;
    if fragment & 0x1fff != 0 {
        return Ok(());
    }
    if bytes.len() < at + header_len {
        return Err(Fault::TruncatedIp);
    }
    transport(header[9], bytes, at + header_len, decoded)
}

#[inline(always)]
fn ipv6(bytes: &[u8], at: usize, decoded: &mut Decoded) -> Result<(), Fault> {
    let header: &[u8; 40] = bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk())
        .ok_or(Fault::TruncatedIp)?;
    let address = |at: usize| {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&header[at..at + 16]);
        Addr::of_v6(u128::from_be_bytes(bytes))
    };
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    decoded.network = at;
    decoded.bound(match payload_len {
        0 => 0,
        len => at + 40 + len,
    });
    decoded.traffic_class = header[0] << 4 | header[1] >> 4;
    decoded.addresses = Some((address(8), address(24)));
    decoded.fragment = false;
    extensions(header[6], bytes, at + 40, decoded)
}

/// IPv6's extension headers, and what follows them.
#[inline(always)]
fn extensions(
    mut next: u8,
    bytes: &[u8],
    mut at: usize,
    decoded: &mut Decoded,
) -> Result<(), Fault> {
    for _ in 0..MOST_EXTENSIONS {
        let len = match next {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6.
            0 | 43 | 60 | 135 | 139 | 140 => {
                (usize::from(*bytes.get(at + 1).ok_or(Fault::TruncatedIp)?) + 1) * 8
            }
            // Authentication header (RFC 4302) counts in units of four bytes.
            51 => (usize::from(*bytes.get(at + 1).ok_or(Fault::TruncatedIp)?) + 2) * 4,
            44 => {
                let offset = be16(bytes, at + 2).ok_or(Fault::TruncatedIp)?;
                // An atomic fragment (RFC 6946) is a whole packet.
                decoded.fragment |= offset & 0xfff9 != 0;
                if offset & 0xfff8 != 0 {
                    return Ok(());
                }
                8
            }
            59 => return Ok(()),
            _ => return transport(next, bytes, at, decoded),
        };
        next = *bytes.get(at).ok_or(Fault::TruncatedIp)?;
        at += len;
    }
    Err(Fault::MalformedIp)
}

#[inline(always)]
fn transport(protocol: u8, bytes: &[u8], at: usize, decoded: &mut Decoded) -> Result<(), Fault> {
    decoded.protocol = protocol;
    decoded.header = at;
    let (transport, header_len) = match protocol {
        6 => (Transport::Tcp, 20),
        17 => (Transport::Udp, 8),
        132 => (Transport::Sctp, 12),
        1 => (Transport::Icmp, 8),
        58 => (Transport::IcmpV6, 8),
        4 | 41 | 47 if !decoded.fragment => return tunnel::of_ip(protocol, bytes, at, decoded),
        51 => return authenticated(bytes, at, decoded),
        _ => return Ok(()),
    };
    decoded.transport = Some(transport);
    if !matches!(transport, Transport::Icmp | Transport::IcmpV6) {
        let source = be16(bytes, at).ok_or(Fault::TruncatedTransport)?;
        let destination = be16(bytes, at + 2).ok_or(Fault::TruncatedTransport)?;
        decoded.ports = Some((source, destination));
    }
    if bytes.len() < at + header_len {
        return Err(Fault::TruncatedTransport);
    }
    let header_len = match transport {
        Transport::Tcp => usize::from(bytes[at + 12] >> 4) * 4,
        _ => header_len,
    };
    // A UDP length of 0 is a jumbogram (RFC 2675) or left so by segmentation offload.
    let udp_len = u16::from_be_bytes([bytes[at + 4], bytes[at + 5]]);
    if transport == Transport::Tcp && header_len < 20
        || transport == Transport::Udp && (1..8).contains(&udp_len)
    {
        return Err(Fault::MalformedTransport);
    }
    if bytes.len() < at + header_len {
        return Err(Fault::TruncatedTransport);
    }
    decoded.payload = at + header_len;
    match decoded.ports {
        Some((_, port)) if transport == Transport::Udp && tunnel::is_port(port) => {
            tunnel::of_udp(port, bytes, decoded)
        }
        _ => Ok(()),
    }
}

/// What follows an authentication header (RFC 4302) of IPv4.
#[cold]
fn authenticated(bytes: &[u8], at: usize, decoded: &mut Decoded) -> Result<(), Fault> {
    let [next, len] = be16(bytes, at).ok_or(Fault::TruncatedIp)?.to_be_bytes();
    match next {
        51 => Err(Fault::MalformedIp),
        _ => transport(next, bytes, at + (usize::from(len) + 2) * 4, decoded),
    }
}

impl Addr {
    /// An IPv6 address, or the IPv4 address mapped into it (RFC 4291 section 2.5.5.2).
    #[must_use]
    #[inline]
    pub fn of_v6(address: u128) -> Self {
        if address >> 32 == 0xffff {
            Self::V4(address as u32)
        } else {
            Self::V6(address)
        }
    }
}

#[inline]
fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes([bytes[0], bytes[1]]))
}

#[inline]
fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// IPv4 10.0.0.1 -> 10.0.0.2, UDP 5060 -> 5061, 4 bytes of payload.
    const UDP: &[u8] = &[
        0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, //
        0x13, 0xc4, 0x13, 0xc5, 0, 12, 0, 0, 1, 2, 3, 4,
    ];

    fn behind(header: &[u8]) -> Vec<u8> {
        [header, UDP].concat()
    }

    fn ethernet(rest: &[u8]) -> Vec<u8> {
        [&[2; 12], rest].concat()
    }

    /// IPv6 2001:db8::1 -> ::ffff:10.0.0.2 with these extension headers, then UDP.
    fn ipv6(next: u8, extensions: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 64];
        bytes.extend(0x2001_0db8_0000_0000_0000_0000_0000_0001_u128.to_be_bytes());
        bytes.extend((0xffff_u128 << 32 | 0x0a00_0002).to_be_bytes());
        bytes.extend(extensions);
        bytes.extend(&UDP[20..]);
        bytes
    }

    #[test]
    fn each_link_type_leads_to_the_same_packet() {
        let cases: &[(u16, Vec<u8>)] = &[
            (12, UDP.to_vec()),
            (101, UDP.to_vec()),
            (228, UDP.to_vec()),
            (1, ethernet(&behind(&[8, 0]))),
            (1, ethernet(&behind(&[0x81, 0, 0, 7, 8, 0]))),
            (
                1,
                ethernet(&behind(&[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9, 8, 0])),
            ),
            (1, ethernet(&behind(&[0, 40, 0xaa, 0xaa, 3, 0, 0, 0, 8, 0]))),
            (
                113,
                behind(&[0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 0]),
            ),
            (
                113,
                behind(&[
                    0, 0, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0x81, 0, 0, 7, 8, 0,
                ]),
            ),
            (
                276,
                behind(&[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0]),
            ),
            (0, behind(&[2, 0, 0, 0])),
            (0, behind(&[0, 0, 0, 2])),
            (108, behind(&[0, 0, 0, 2])),
        ];
        for (link_type, bytes) in cases {
            let decoded = decode(*link_type, bytes);
            assert_eq!(decoded.fault, None, "{link_type}");
            assert_eq!(
                decoded.addresses,
                Some((Addr::V4(0x0a00_0001), Addr::V4(0x0a00_0002)))
            );
            assert_eq!(decoded.transport, Some(Transport::Udp));
            assert_eq!(decoded.ports, Some((5060, 5061)));
            assert_eq!(bytes[decoded.payload..], [1, 2, 3, 4]);
        }
    }

    #[test]
    fn ipv6_extension_headers_are_walked() {
        let hop_by_hop = [60, 0, 0, 0, 0, 0, 0, 0];
        let options = [17, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let bytes = ipv6(0, &[&hop_by_hop[..], &options].concat());
        let decoded = decode(101, &bytes);
        assert_eq!(decoded.fault, None);
        let source = 0x2001_0db8_0000_0000_0000_0000_0000_0001;
        assert_eq!(
            decoded.addresses,
            Some((Addr::V6(source), Addr::V4(0x0a00_0002)))
        );
        assert_eq!(decoded.ports, Some((5060, 5061)));
        let endless = ipv6(0, &[0; 8 * 20]);
        assert_eq!(decode(101, &endless).fault, Some(Fault::MalformedIp));
    }

    #[test]
    fn fragments_have_addresses_and_only_the_first_has_ports() {
        let mut first = UDP.to_vec();
        first[6] = 0x20;
        let decoded = decode(101, &first);
        assert!(decoded.fragment && decoded.ports.is_some());
        let mut second = UDP.to_vec();
        second[7] = 3;
        let decoded = decode(101, &second);
        assert!(decoded.fragment && decoded.ports.is_none() && decoded.fault.is_none());
        let atomic = decode(101, &ipv6(44, &[17, 0, 0, 0, 0, 0, 0, 1]));
        assert!(!atomic.fragment && atomic.ports.is_some());
        let later = decode(101, &ipv6(44, &[17, 0, 0, 8, 0, 0, 0, 1]));
        assert!(later.fragment && later.ports.is_none());
    }

    #[test]
    fn every_cut_is_named_by_the_header_it_falls_into() {
        let bytes = ethernet(&behind(&[0x81, 0, 0, 7, 8, 0]));
        for len in 0..bytes.len() {
            let expected = match len {
                0..18 => Some(Fault::TruncatedLink),
                18..38 => Some(Fault::TruncatedIp),
                38..46 => Some(Fault::TruncatedTransport),
                _ => None,
            };
            assert_eq!(decode(1, &bytes[..len]).fault, expected, "{len}");
        }
    }

    #[test]
    fn impossible_headers_are_malformed() {
        let change = |at: usize, value: u8| {
            let mut bytes = UDP.to_vec();
            bytes[at] = value;
            decode(101, &bytes).fault
        };
        assert_eq!(change(0, 0x44), Some(Fault::MalformedIp));
        assert_eq!(change(0, 0x55), Some(Fault::MalformedIp));
        assert_eq!(change(3, 10), Some(Fault::MalformedIp));
        assert_eq!(change(25, 7), Some(Fault::MalformedTransport));
        assert_eq!(change(25, 0), None);
        let mut tcp = [&UDP[..20], &[0; 20]].concat();
        tcp[9] = 6;
        assert_eq!(decode(101, &tcp).fault, Some(Fault::MalformedTransport));
        let tags = ethernet(&[0x81, 0, 0, 1].repeat(20));
        assert_eq!(decode(1, &tags).fault, Some(Fault::MalformedLink));
        assert_eq!(
            decode(1, &ethernet(&[8, 6, 0, 1])).fault,
            Some(Fault::NotIp)
        );
        assert_eq!(decode(147, UDP).fault, Some(Fault::UnknownLinkType));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_within_bounds(
            link_type in prop::sample::select(vec![0u16, 1, 12, 101, 108, 113, 228, 229, 276, 999]),
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let decoded = decode(link_type, &bytes);
            prop_assert!(decoded.payload <= bytes.len());
        }

        #[test]
        fn a_longer_window_only_ever_adds(
            cut in 0usize..80,
            tail in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let bytes = [ethernet(&behind(&[8, 0])), tail].concat();
            let (short, long) = (decode(1, &bytes[..cut.min(bytes.len())]), decode(1, &bytes));
            if short.fault.is_none() {
                prop_assert_eq!(short, long);
            }
        }
    }
}
