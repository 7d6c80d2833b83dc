//! Tunnels, opened where they stand.
//!
//! | carried by | tunnel | content |
//! |---|---|---|
//! | IP protocol 4, 41 | IP in IP (RFC 2003, RFC 4213, RFC 2473) | IP |
//! | IP protocol 47 | GRE (RFC 2784, RFC 2890), and PPTP's (RFC 2637) | IP, Ethernet, MPLS, PPP; ERSPAN I, II and III |
//! | UDP port 4754 | GRE (RFC 8086) | as above |
//! | UDP port 4789, 4790 | VXLAN (RFC 7348), and its generic form (draft-ietf-nvo3-vxlan-gpe) | Ethernet, IP |
//! | UDP port 6081 | Geneve (RFC 8926) | IP, Ethernet |
//! | UDP port 2152 | GTP-U (3GPP TS 29.281), with extension headers | IP |
//!
//! A port alone opens nothing: the tunnel's own header must be sound, and behind it must stand an IP packet that fits into the
//! datagram by its lengths. What fails that test is a plain UDP datagram and stays one. What IP itself says is a tunnel is
//! believed, unless it carries something other than IP.

use super::{Decoded, Fault, MOST_TUNNELS, TUNNEL, be16, be32, frame, labels, mark, network, ppp};

const GTP_U: u16 = 2152;
const GRE_IN_UDP: u16 = 4754;
const VXLAN: u16 = 4789;
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;

/// GTP-U's message type for user data.
const G_PDU: u8 = 255;
/// Most extension headers of a GTP-U message; more are taken for an attack.
const MOST_EXTENSIONS: usize = 8;

/// EtherType of an Ethernet frame within another protocol.
const BRIDGED: u16 = 0x6558;

/// Whether a datagram to this port may be a tunnel's.
#[inline]
pub(super) fn is_port(port: u16) -> bool {
    matches!(port, GTP_U | GRE_IN_UDP | VXLAN | VXLAN_GPE | GENEVE)
}

/// Goes on in the tunnel of IP's `protocol` (4, 41 or 47) whose header stands at `at`.
#[cold]
pub(super) fn of_ip(
    protocol: u8,
    bytes: &[u8],
    at: usize,
    decoded: &mut Decoded,
) -> Result<(), Fault> {
    let carrier = *decoded;
    let inner = match protocol {
        47 => gre(bytes, at, &mut decoded.marks),
        _ => Ok(at),
    };
    match inner.and_then(|at| enter(bytes, at, decoded)) {
        Err(Fault::NotIp) => {
            *decoded = carrier;
            Ok(())
        }
        Err(fault) if decoded.network == carrier.network => {
            *decoded = carrier;
            Err(fault)
        }
        result => result,
    }
}

/// Goes on in the datagram of UDP that was just decoded, to `port`, if it is a tunnel.
#[cold]
pub(super) fn of_udp(port: u16, bytes: &[u8], decoded: &mut Decoded) -> Result<(), Fault> {
    if decoded.fragment {
        return Ok(());
    }
    let carrier = *decoded;
    if let Some(len @ 8..) = be16(bytes, decoded.header + 4) {
        decoded.bound(decoded.header + usize::from(len));
    }
    let end = decoded.end;
    let (is_cut, bytes) = match bytes.get(..end) {
        Some(datagram) if end != 0 => (false, datagram),
        _ => (true, bytes),
    };
    let content = match port {
        GTP_U => gtp_u(bytes, decoded.payload, end, &mut decoded.marks),
        VXLAN | VXLAN_GPE => vxlan(bytes, decoded.payload, &mut decoded.marks),
        GENEVE => geneve(bytes, decoded.payload, &mut decoded.marks),
        _ => gre(bytes, decoded.payload, &mut decoded.marks),
    };
    let result = content
        .and_then(|at| sound(bytes, at, end))
        .and_then(|at| enter(bytes, at, decoded));
    match result {
        Err(fault) if decoded.network == carrier.network => {
            *decoded = carrier;
            // With all of its bytes at hand, what ends too early is no tunnel.
            match is_cut && fault.is_truncation() {
                true => Err(fault),
                false => Ok(()),
            }
        }
        result => result,
    }
}

/// Decodes the IP packet at `at` as the content of what was decoded so far.
#[inline(never)]
pub(super) fn enter(bytes: &[u8], at: usize, decoded: &mut Decoded) -> Result<(), Fault> {
    if decoded.tunnels == MOST_TUNNELS {
        return Err(Fault::MalformedIp);
    }
    *decoded = Decoded {
        outer: decoded.outer.or(decoded.addresses),
        addresses: decoded.addresses,
        tunnels: decoded.tunnels + 1,
        marks: decoded.marks,
        network: decoded.network,
        end: decoded.end,
        ..Decoded::default()
    };
    network(bytes, at, decoded)
}

/// `at`, if an IP packet stands there that ends by its own lengths before `end`, where that is known.
fn sound(bytes: &[u8], at: usize, end: usize) -> Result<usize, Fault> {
    let first = *bytes.get(at).ok_or(Fault::TruncatedIp)?;
    let (least, len) = match first >> 4 {
        4 => {
            let len = be16(bytes, at + 2).ok_or(Fault::TruncatedIp)?;
            (usize::from(first & 15) * 4, usize::from(len))
        }
        6 => {
            let len = be16(bytes, at + 4).ok_or(Fault::TruncatedIp)?;
            (40, 40 + usize::from(len))
        }
        _ => return Err(Fault::NotIp),
    };
    // Segmentation offload leaves lengths of 0.
    let fits = len == 0 || least <= len && (end == 0 || at + len <= end);
    (least >= 20 && fits).then_some(at).ok_or(Fault::NotIp)
}

/// Where the IP packet of a GRE header at `at` starts.
fn gre(bytes: &[u8], at: usize, marks: &mut u32) -> Result<usize, Fault> {
    const CHECKSUM: u16 = 0x8000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    const ACKNOWLEDGEMENT: u16 = 0x0080;
    let flags = be16(bytes, at).ok_or(Fault::TruncatedTransport)?;
    let kind = be16(bytes, at + 2).ok_or(Fault::TruncatedTransport)?;
    let known = match (flags & 7, kind) {
        // PPTP's version: its key is a length and the number of a call.
        (1, 0x880b) => KEY | SEQUENCE | ACKNOWLEDGEMENT,
        (0, _) => CHECKSUM | KEY | SEQUENCE,
        _ => return Err(Fault::NotIp),
    };
    // Other flags say that there are routes, or come from no GRE at all.
    if flags & !(known | 7) != 0 {
        return Err(Fault::NotIp);
    }
    let field = |flag: u16| usize::from(flags & flag != 0) * 4;
    if flags & KEY != 0 {
        let key = be32(bytes, at + 4 + field(CHECKSUM)).ok_or(Fault::TruncatedTransport)?;
        let names = if flags & 7 == 1 { key & 0xffff } else { key };
        mark(marks, TUNNEL, names);
    }
    let at = at + 4 + (flags & known).count_ones() as usize * 4;
    match kind {
        0x0800 | 0x86dd => Ok(at),
        BRIDGED => frame(bytes, at + 12, marks),
        0x8847 | 0x8848 => labels(bytes, at),
        0x880b => ppp(bytes, at),
        // ERSPAN (draft-foschiano-erspan): type I has no header of its own, II and III have a session.
        0x88be if flags & SEQUENCE == 0 => frame(bytes, at + 12, marks),
        0x88be => erspan(bytes, at, 8, marks),
        0x22eb => {
            let last = *bytes.get(at + 11).ok_or(Fault::TruncatedLink)?;
            let platform_specific = usize::from(last & 1) * 8;
            erspan(bytes, at, 12 + platform_specific, marks)
        }
        _ => Err(Fault::NotIp),
    }
}

fn erspan(bytes: &[u8], at: usize, header_len: usize, marks: &mut u32) -> Result<usize, Fault> {
    let session = be16(bytes, at + 2).ok_or(Fault::TruncatedLink)? & 0x3ff;
    mark(marks, TUNNEL, session.into());
    frame(bytes, at + header_len + 12, marks)
}

/// Where the IP packet of a VXLAN header at `at` starts (RFC 7348 section 5).
fn vxlan(bytes: &[u8], at: usize, marks: &mut u32) -> Result<usize, Fault> {
    const NETWORK_IS_VALID: u8 = 0x08;
    const NAMES_CONTENT: u8 = 0x0c;
    /// draft-smith-vxlan-group-policy.
    const GROUP_POLICY: u8 = 0x80;
    let header = be32(bytes, at).ok_or(Fault::TruncatedLink)?.to_be_bytes();
    let network = be32(bytes, at + 4).ok_or(Fault::TruncatedLink)? >> 8;
    mark(marks, TUNNEL, network);
    match (header[0] & !GROUP_POLICY, header[3]) {
        (NETWORK_IS_VALID, _) | (NAMES_CONTENT, 3) => frame(bytes, at + 8 + 12, marks),
        (NAMES_CONTENT, 1 | 2) => Ok(at + 8),
        _ => Err(Fault::NotIp),
    }
}

/// Where the IP packet of a Geneve header at `at` starts (RFC 8926 section 3.4).
fn geneve(bytes: &[u8], at: usize, marks: &mut u32) -> Result<usize, Fault> {
    let first = *bytes.get(at).ok_or(Fault::TruncatedLink)?;
    let kind = be16(bytes, at + 2).ok_or(Fault::TruncatedLink)?;
    let network = be32(bytes, at + 4).ok_or(Fault::TruncatedLink)? >> 8;
    if first >> 6 != 0 {
        return Err(Fault::NotIp);
    }
    mark(marks, TUNNEL, network);
    let at = at + 8 + usize::from(first & 0x3f) * 4;
    match kind {
        0x0800 | 0x86dd => Ok(at),
        BRIDGED => frame(bytes, at + 12, marks),
        _ => Err(Fault::NotIp),
    }
}

/// Where the IP packet of a GTP-U message at `at` starts, if it carries one and fills the datagram, which ends at `end` (3GPP TS
/// 29.281 section 5).
fn gtp_u(bytes: &[u8], at: usize, end: usize, marks: &mut u32) -> Result<usize, Fault> {
    const HEADER: usize = 8;
    let flags = *bytes.get(at).ok_or(Fault::TruncatedLink)?;
    let kind = *bytes.get(at + 1).ok_or(Fault::TruncatedLink)?;
    let len = usize::from(be16(bytes, at + 2).ok_or(Fault::TruncatedLink)?);
    let endpoint = be32(bytes, at + 4).ok_or(Fault::TruncatedLink)?;
    // Version 1, and not the primed protocol for charging.
    let is_user_data = flags >> 5 == 1 && flags & 0x10 != 0 && kind == G_PDU;
    if !is_user_data || end != 0 && at + HEADER + len != end {
        return Err(Fault::NotIp);
    }
    mark(marks, TUNNEL, endpoint);
    // Any of the three flags brings all of the optional fields.
    if flags & 7 == 0 {
        return Ok(at + HEADER);
    }
    let mut next = *bytes.get(at + 11).ok_or(Fault::TruncatedLink)?;
    if flags & 4 == 0 {
        next = 0;
    }
    let mut at = at + HEADER + 4;
    for _ in 0..MOST_EXTENSIONS {
        if next == 0 {
            return Ok(at);
        }
        let len = usize::from(*bytes.get(at).ok_or(Fault::TruncatedLink)?) * 4;
        if len == 0 {
            return Err(Fault::NotIp);
        }
        at += len;
        next = *bytes.get(at - 1).ok_or(Fault::TruncatedLink)?;
    }
    Err(Fault::NotIp)
}

#[cfg(test)]
mod tests {
    use super::super::{Addr, Transport, decode};
    use super::*;
    use proptest::prelude::*;

    const RAW: u16 = 101;
    const OUTER: (Addr, Addr) = (Addr::V4(0xc000_0201), Addr::V4(0xc000_0202));
    const INNER: (Addr, Addr) = (Addr::V4(0x0a00_0001), Addr::V4(0x0a00_0002));

    /// 10.0.0.1 -> 10.0.0.2, UDP 5060 -> 5061, four bytes of payload.
    const CALL: &[u8] = &[
        0x45, 0, 0, 32, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, //
        0x13, 0xc4, 0x13, 0xc5, 0, 12, 0, 0, 1, 2, 3, 4,
    ];

    /// `payload` in an IPv4 packet 192.0.2.1 -> 192.0.2.2.
    fn ip(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let len = (20 + payload.len() as u16).to_be_bytes();
        let mut packet = vec![0x45, 0, len[0], len[1], 0, 9, 0, 0, 64, protocol, 0, 0];
        packet.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        packet.extend(payload);
        packet
    }

    fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
        let mut datagram = [40_000_u16.to_be_bytes(), port.to_be_bytes()].concat();
        datagram.extend((8 + payload.len() as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(payload);
        ip(17, &datagram)
    }

    fn ethernet(payload: &[u8]) -> Vec<u8> {
        [&[2; 12][..], &[8, 0], payload].concat()
    }

    fn gtp(flags: u8, rest: &[u8]) -> Vec<u8> {
        let len = (rest.len() as u16).to_be_bytes();
        [&[flags, 255, len[0], len[1], 0x11, 0x22, 0x33, 0x44], rest].concat()
    }

    /// Each tunnel with [`CALL`] in it.
    fn tunnels() -> Vec<(&'static str, Vec<u8>)> {
        let frame = ethernet(CALL);
        let tagged = [&[2; 12][..], &[0x81, 0, 0, 7, 8, 0], CALL].concat();
        let with = |header: &[u8], content: &[u8]| [header, content].concat();
        vec![
            ("IP in IP", ip(4, CALL)),
            ("GRE", ip(47, &with(&[0, 0, 8, 0], CALL))),
            (
                "GRE, all fields",
                ip(
                    47,
                    &with(&[0xb0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1], CALL),
                ),
            ),
            ("bridged GRE", ip(47, &with(&[0, 0, 0x65, 0x58], &frame))),
            (
                "labels in GRE",
                ip(47, &with(&[0, 0, 0x88, 0x47, 0, 1, 1, 64], CALL)),
            ),
            (
                "PPTP",
                ip(
                    47,
                    &with(
                        &[
                            0x30, 0x81, 0x88, 0x0b, 0, 36, 0, 5, 0, 0, 0, 1, 0, 0, 0, 1, 0xff, 3,
                            0, 0x21,
                        ],
                        CALL,
                    ),
                ),
            ),
            (
                "PPTP, compressed protocol",
                ip(
                    47,
                    &with(&[0x30, 1, 0x88, 0x0b, 0, 33, 0, 5, 0, 0, 0, 1, 0x21], CALL),
                ),
            ),
            ("ERSPAN I", ip(47, &with(&[0, 0, 0x88, 0xbe], &frame))),
            (
                "ERSPAN II",
                ip(
                    47,
                    &with(
                        &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 1, 0, 5, 0, 0, 0, 0],
                        &frame,
                    ),
                ),
            ),
            (
                "ERSPAN III",
                ip(
                    47,
                    &with(
                        &[
                            0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0,
                        ],
                        &tagged,
                    ),
                ),
            ),
            (
                "ERSPAN III, platform",
                ip(
                    47,
                    &with(
                        &[
                            0x10, 0, 0x22, 0xeb, 0, 0, 0, 1, 0x20, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1,
                            9, 9, 9, 9, 9, 9, 9, 9,
                        ],
                        &frame,
                    ),
                ),
            ),
            ("GRE in UDP", udp(4754, &with(&[0, 0, 8, 0], CALL))),
            (
                "VXLAN",
                udp(4789, &with(&[8, 0, 0, 0, 0, 0, 42, 0], &frame)),
            ),
            (
                "VXLAN, tagged",
                udp(4789, &with(&[8, 0, 0, 0, 0, 0, 42, 0], &tagged)),
            ),
            (
                "VXLAN, group policy",
                udp(4789, &with(&[0x88, 0, 0, 3, 0, 0, 42, 0], &frame)),
            ),
            (
                "VXLAN, generic",
                udp(4790, &with(&[0x0c, 0, 0, 1, 0, 0, 42, 0], CALL)),
            ),
            (
                "VXLAN, generic, Ethernet",
                udp(4789, &with(&[0x0c, 0, 0, 3, 0, 0, 42, 0], &frame)),
            ),
            (
                "Geneve",
                udp(6081, &with(&[0, 0, 0x65, 0x58, 0, 0, 42, 0], &frame)),
            ),
            (
                "Geneve, options",
                udp(
                    6081,
                    &with(&[2, 0, 8, 0, 0, 0, 42, 0, 1, 2, 3, 4, 5, 6, 7, 8], CALL),
                ),
            ),
            ("GTP-U", udp(2152, &gtp(0x30, CALL))),
            (
                "GTP-U, sequence",
                udp(2152, &gtp(0x32, &with(&[0, 7, 0, 0], CALL))),
            ),
            (
                "GTP-U, PDU session",
                udp(
                    2152,
                    &gtp(0x34, &with(&[0, 0, 0, 0x85, 1, 0x10, 9, 0], CALL)),
                ),
            ),
        ]
    }

    #[test]
    fn the_innermost_packet_is_decoded() {
        for (name, packet) in tunnels() {
            let decoded = decode(RAW, &packet);
            assert_eq!(decoded.fault, None, "{name}");
            assert_eq!(decoded.addresses, Some(INNER), "{name}");
            assert_eq!(decoded.outer, Some(OUTER), "{name}");
            assert_eq!(decoded.tunnels, 1, "{name}");
            assert_eq!(decoded.transport, Some(Transport::Udp), "{name}");
            assert_eq!(decoded.ports, Some((5060, 5061)), "{name}");
            assert_eq!(decoded.payload_of(&packet), [1, 2, 3, 4], "{name}");
        }
    }

    #[test]
    fn a_tunnel_may_stand_in_another() {
        for (name, packet) in tunnels() {
            let nested = ip(47, &[&[0, 0, 8, 0][..], &packet].concat());
            let decoded = decode(RAW, &nested);
            assert_eq!((decoded.fault, decoded.tunnels), (None, 2), "{name}");
            assert_eq!(decoded.addresses, Some(INNER), "{name}");
            let within = udp(2152, &gtp(0x30, &packet));
            let decoded = decode(RAW, &within);
            assert_eq!((decoded.fault, decoded.tunnels), (None, 2), "{name}");
            assert_eq!(decoded.addresses, Some(INNER), "{name}");
        }
    }

    #[test]
    fn nesting_ends() {
        let mut packet = CALL.to_vec();
        for _ in 0..MOST_TUNNELS {
            packet = ip(4, &packet);
        }
        assert_eq!(decode(RAW, &packet).fault, None);
        assert_eq!(decode(RAW, &ip(4, &packet)).fault, Some(Fault::MalformedIp));
        // In UDP what cannot be opened any more is a datagram.
        let mut packet = CALL.to_vec();
        for _ in 0..=MOST_TUNNELS {
            packet = udp(2152, &gtp(0x30, &packet));
        }
        let decoded = decode(RAW, &packet);
        assert_eq!((decoded.fault, decoded.tunnels), (None, MOST_TUNNELS));
        assert_eq!(decoded.ports, Some((40_000, 2152)));
    }

    #[test]
    fn a_port_alone_opens_nothing() {
        let frame = ethernet(CALL);
        let mut version_5 = CALL.to_vec();
        version_5[0] = 0x55;
        let mut too_long = CALL.to_vec();
        too_long[3] = 33;
        let arp = [&[2; 12][..], &[8, 6], &[0; 28]].concat();
        let vxlan = [8, 0, 0, 0, 0, 0, 42, 0];
        let datagrams = [
            (2152, b"hello".to_vec()),
            (2152, Vec::new()),
            // Version 2, charging, an echo, lengths that do not fit.
            (2152, gtp(0x50, CALL)),
            (2152, gtp(0x20, CALL)),
            (2152, [&[0x30, 1, 0, 32, 0, 0, 0, 0], CALL].concat()),
            (2152, [&gtp(0x30, CALL)[..], &[0]].concat()),
            (2152, gtp(0x30, &version_5)),
            (2152, gtp(0x30, &too_long)),
            (2152, gtp(0x30, &CALL[..10])),
            (2152, gtp(0x34, &[0, 0, 0, 0x85, 0, 0, 0, 0])),
            (4789, [&vxlan[..], &arp].concat()),
            (4789, [&[0; 8][..], &frame].concat()),
            (4789, [&vxlan[..], &ethernet(&too_long)].concat()),
            (4789, [&vxlan[..], &frame[..30]].concat()),
            (6081, [&[0x40, 0, 8, 0, 0, 0, 42, 0], CALL].concat()),
            (4754, [&[0x48, 0, 8, 0], CALL].concat()),
            (2153, gtp(0x30, CALL)),
        ];
        for (port, payload) in datagrams {
            let packet = udp(port, &payload);
            let decoded = decode(RAW, &packet);
            assert_eq!(decoded.fault, None, "{payload:x?}");
            assert_eq!(decoded.addresses, Some(OUTER));
            assert_eq!((decoded.outer, decoded.tunnels), (None, 0));
            assert_eq!(decoded.ports, Some((40_000, port)));
            assert_eq!(decoded.payload_of(&packet), payload);
        }
    }

    #[test]
    fn what_is_not_ip_leaves_the_tunnel_closed() {
        let arp = [&[2; 12][..], &[8, 6], &[0; 28]].concat();
        for content in [
            [&[0, 0, 0x65, 0x58][..], &arp].concat(),
            vec![0, 0, 0, 0],
            [&[0x40, 0, 8, 0], CALL].concat(),
        ] {
            let decoded = decode(RAW, &ip(47, &content));
            assert_eq!((decoded.fault, decoded.tunnels), (None, 0));
            assert_eq!((decoded.addresses, decoded.outer), (Some(OUTER), None));
            assert_eq!((decoded.protocol, decoded.marks), (47, 0));
        }
    }

    #[test]
    fn a_cut_is_named_and_more_bytes_mend_it() {
        for (name, packet) in tunnels() {
            let whole = decode(RAW, &packet);
            for len in 0..whole.payload {
                let cut = decode(RAW, &packet[..len]);
                assert!(cut.fault.is_some_and(Fault::is_truncation), "{name} {len}");
            }
            for len in whole.payload..packet.len() {
                assert_eq!(decode(RAW, &packet[..len]), whole, "{name} {len}");
            }
        }
    }

    #[test]
    fn fragments_are_not_opened() {
        for (name, mut packet) in tunnels() {
            packet[6] = 0x20;
            let decoded = decode(RAW, &packet);
            assert_eq!(decoded.addresses, Some(OUTER), "{name}");
            assert!(decoded.fragment && decoded.tunnels == 0, "{name}");
        }
        let mut piece = CALL.to_vec();
        piece[7] = 1;
        let decoded = decode(RAW, &udp(2152, &gtp(0x30, &piece)));
        assert!(decoded.fragment && decoded.tunnels == 1);
        assert_eq!((decoded.addresses, decoded.ports), (Some(INNER), None));
    }

    #[test]
    fn identifiers_leave_their_marks() {
        let marks = |packet: &[u8]| decode(RAW, packet).marks;
        let vxlan = |network: u8| {
            udp(
                4789,
                &[&[8, 0, 0, 0, 0, 0, network, 0], &ethernet(CALL)[..]].concat(),
            )
        };
        assert_eq!(marks(&ip(4, CALL)), 0);
        assert_ne!(marks(&vxlan(1)), marks(&vxlan(2)));
        assert_eq!(marks(&vxlan(1)), marks(&vxlan(1)));
    }

    proptest! {
        #[test]
        fn any_tunnel_decodes_within_bounds(
            which in 0usize..20,
            changes in prop::collection::vec((20usize..120, any::<u8>()), 0..6),
            len in 0usize..140,
        ) {
            let tunnels = tunnels();
            let mut packet = tunnels[which % tunnels.len()].1.clone();
            for (at, byte) in changes {
                if let Some(place) = packet.get_mut(at) {
                    *place = byte;
                }
            }
            packet.truncate(len);
            let decoded = decode(RAW, &packet);
            prop_assert!(decoded.payload <= packet.len());
            prop_assert!(decoded.tunnels <= MOST_TUNNELS);
            prop_assert!(decoded.tunnels == 0 || decoded.outer.is_some());
        }
    }
}
