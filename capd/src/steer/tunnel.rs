//! Tunnels that steering looks through: those that workers open, by the same rules, so that what a worker takes for a flow comes to it
//! whole. IP in IP, GRE (with Ethernet, ERSPAN, MPLS, PPP), and over UDP VXLAN, Geneve, GTP-U and GRE. UDP on a tunnel's port that is
//! no tunnel by its headers and lengths is hashed as UDP.

use super::{Network, Seen, UDP, be16, by_version, ether_type, ipv4, ipv6, ppp};

const GTP_U: u16 = 2152;
const GRE_IN_UDP: u16 = 4754;
const VXLAN: u16 = 4789;
const VXLAN_GPE: u16 = 4790;
const GENEVE: u16 = 6081;

const GRE: u8 = 47;

const BRIDGED: u16 = 0x6558;
const MAX_GTP_EXTENSIONS: usize = 8;

/// Whether what an IP packet carries may be a tunnel.
#[inline]
pub(super) fn is_possible(protocol: u8, port: u16) -> bool {
    match protocol {
        UDP => matches!(port, GTP_U | GRE_IN_UDP | VXLAN | VXLAN_GPE | GENEVE),
        4 | 41 | GRE => true,
        _ => false,
    }
}

/// What is hashed of the packet in a tunnel whose header stands at `at` of `packet`, which ends at `end` by its own lengths, if these are
/// known. `tunnels` more may be looked through.
#[cold]
#[inline(never)]
pub(super) fn read(
    protocol: u8,
    port: u16,
    packet: &[u8],
    at: usize,
    end: Option<usize>,
    tunnels: u8,
) -> Option<Seen> {
    let tunnels = tunnels.checked_sub(1)?;
    let network = match protocol {
        GRE => gre(packet.get(at..)?)?,
        UDP => {
            let len = be16(packet.get(at..)?, 4);
            let end = match len {
                8.. => end.map(|end| end.min(at + usize::from(len))),
                _ => end,
            };
            let datagram = match end {
                Some(end) => packet.get(at + 8..end)?,
                None => packet.get(at + 8..)?,
            };
            let network = match port {
                GTP_U => gtp_u(datagram, end.is_some())?,
                VXLAN | VXLAN_GPE => vxlan(datagram)?,
                GENEVE => geneve(datagram)?,
                _ => gre(datagram)?,
            };
            is_sound(&network, end.is_some()).then_some(network)?
        }
        _ => by_version(packet.get(at..)?),
    };
    match network {
        Network::Ipv4(packet) => Some(ipv4(packet, tunnels)),
        Network::Ipv6(packet) => Some(ipv6(packet, tunnels)),
        Network::Other { .. } => None,
    }
}

/// Whether an IP packet fits into what carries it, by its lengths.
fn is_sound(network: &Network<'_>, is_whole: bool) -> bool {
    let (packet, least, len) = match network {
        Network::Ipv4(packet) if packet.len() >= 20 && packet[0] >> 4 == 4 => {
            let least = usize::from(packet[0] & 15) * 4;
            (packet, least, usize::from(be16(packet, 2)))
        }
        Network::Ipv6(packet) if packet.len() >= 40 && packet[0] >> 4 == 6 => {
            (packet, 40, 40 + usize::from(be16(packet, 4)))
        }
        _ => return false,
    };
    let fits = len == 0 || least <= len && (!is_whole || len <= packet.len());
    least >= 20 && fits
}

#[inline(never)]
fn frame(frame: &[u8]) -> Option<Network<'_>> {
    let kind = be16(frame.get(12..14)?, 0);
    Some(ether_type(kind, frame, 14, None))
}

fn gre(header: &[u8]) -> Option<Network<'_>> {
    let (flags, kind) = (be16(header, 0), be16(header.get(2..4)?, 0));
    let known = match (flags & 7, kind) {
        (1, 0x880b) => 0x3080,
        (0, _) => 0xb000,
        _ => return None,
    };
    if flags & !(known | 7) != 0 {
        return None;
    }
    let content = header.get(4 + (flags & known).count_ones() as usize * 4..)?;
    let has_sequence = flags & 0x1000 != 0;
    Some(match kind {
        0x0800 | 0x86dd => by_version(content),
        0x8847 | 0x8848 => ether_type(kind, content, 0, None),
        0x880b => ppp(content.strip_prefix(&[0xff, 0x03]).unwrap_or(content)),
        BRIDGED => frame(content)?,
        0x88be if has_sequence => frame(content.get(8..)?)?,
        0x88be => frame(content)?,
        0x22eb => {
            let platform_specific = usize::from(content.get(11)? & 1) * 8;
            frame(content.get(12 + platform_specific..)?)?
        }
        _ => return None,
    })
}

fn vxlan(header: &[u8]) -> Option<Network<'_>> {
    let content = header.get(8..)?;
    match (header[0] & !0x80, header[3]) {
        (0x08, _) | (0x0c, 3) => frame(content),
        (0x0c, 1 | 2) => Some(by_version(content)),
        _ => None,
    }
}

fn geneve(header: &[u8]) -> Option<Network<'_>> {
    let first = *header.first()?;
    let content = header.get(8 + usize::from(first & 0x3f) * 4..)?;
    match be16(header, 2) {
        _ if first >> 6 != 0 => None,
        0x0800 | 0x86dd => Some(by_version(content)),
        BRIDGED => frame(content),
        _ => None,
    }
}

fn gtp_u(message: &[u8], is_whole: bool) -> Option<Network<'_>> {
    let [flags, kind, ..] = *message.first_chunk::<8>()?;
    let is_user_data = flags >> 5 == 1 && flags & 0x10 != 0 && kind == 255;
    let is_filled = !is_whole || usize::from(be16(message, 2)) + 8 == message.len();
    if !is_user_data || !is_filled {
        return None;
    }
    if flags & 7 == 0 {
        return Some(by_version(message.get(8..)?));
    }
    let (mut next, mut at) = (if flags & 4 == 0 { 0 } else { *message.get(11)? }, 12);
    for _ in 0..MAX_GTP_EXTENSIONS {
        if next == 0 {
            return Some(by_version(message.get(at..)?));
        }
        let len = usize::from(*message.get(at)?) * 4;
        if len == 0 {
            return None;
        }
        at += len;
        next = *message.get(at - 1)?;
    }
    None
}
