//! Which packets must keep their order: those of one flow.
//!
//! A flow is what a packet's outermost IP header says, behind VLAN tags, MPLS labels and PPPoE: the
//! two addresses with the two ports, in either direction; where there are no ports (other
//! protocols, truncated headers), addresses and protocol. Of fragments only those of one datagram keep their
//! order: each datagram follows the ports of its own first fragment. What is carried in tunnels keeps the order of the flows within, which
//! nothing here looks into. Where there is no IP, it is
//! the two MAC addresses and the EtherType; where even these can't be read, all such packets are
//! one flow.

use std::net::IpAddr;

use crate::capture::Packet;

/// What identifies a flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flow {
    /// Both ends in ascending order, and the protocol number.
    Transport([(IpAddr, u16); 2], u8),
    /// Both addresses in ascending order, and the protocol number.
    Network([IpAddr; 2], u8),
    /// Source, destination and identification of a fragmented datagram.
    Datagram([IpAddr; 2], u32),
    /// A packet in a tunnel: each is a flow of its own.
    Tunnelled(Vec<u8>),
    /// Both MAC addresses in ascending order (zeros where the link has none), and the EtherType (0
    /// for IEEE 802.3 frames, which have a length in its place).
    Link([[u8; 6]; 2], u16),
    /// Everything else.
    Other,
}

impl Flow {
    /// The flow that `packet` belongs to.
    pub fn of(packet: &Packet) -> Self {
        link(packet.link_type, &packet.bytes).unwrap_or(Self::Other)
    }
}

/// What the link header announces.
fn link(link_type: u32, bytes: &[u8]) -> Option<Flow> {
    match link_type {
        0 | 108 => raw(bytes.get(4..)?),
        1 => {
            let mut addresses = [array(bytes, 0)?, array(bytes, 6)?];
            addresses.sort();
            ethernet(u16_at(bytes, 12)?, bytes.get(14..)?, addresses)
        }
        9 => point_to_point(bytes.strip_prefix(&[0xff, 0x03]).unwrap_or(bytes)),
        101 | 228 | 229 => raw(bytes),
        113 => ethernet(u16_at(bytes, 14)?, bytes.get(16..)?, [[0; 6]; 2]),
        276 => ethernet(u16_at(bytes, 0)?, bytes.get(20..)?, [[0; 6]; 2]),
        _ => None,
    }
}

/// What EtherType `kind` announces, behind any number of tags and labels.
fn ethernet(kind: u16, bytes: &[u8], addresses: [[u8; 6]; 2]) -> Option<Flow> {
    let below = || {
        let kind = if kind < 0x0600 { 0 } else { kind };
        Some(Flow::Link(addresses, kind))
    };
    match kind {
        0x0800 => ipv4(bytes),
        0x86dd => ipv6(bytes),
        0x8100 | 0x88a8 | 0x9100 => match u16_at(bytes, 2) {
            Some(inner) => ethernet(inner, &bytes[4..], addresses),
            None => below(),
        },
        0x8847 | 0x8848 => match bytes.get(2) {
            Some(label) if label & 1 == 1 => raw(bytes.get(4..)?),
            Some(_) => ethernet(kind, bytes.get(4..)?, addresses),
            None => below(),
        },
        0x8864 => point_to_point(bytes.get(6..)?),
        _ => below(),
    }
}

fn point_to_point(bytes: &[u8]) -> Option<Flow> {
    match bytes {
        [0x00, 0x21, packet @ ..] | [0x21, packet @ ..] => ipv4(packet),
        [0x00, 0x57, packet @ ..] | [0x57, packet @ ..] => ipv6(packet),
        _ => None,
    }
}

/// An IP packet that tells its version itself.
fn raw(bytes: &[u8]) -> Option<Flow> {
    match bytes.first()? >> 4 {
        4 => ipv4(bytes),
        6 => ipv6(bytes),
        _ => None,
    }
}

fn ipv4(bytes: &[u8]) -> Option<Flow> {
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    let source: [u8; 4] = array(bytes, 12)?;
    let destination: [u8; 4] = array(bytes, 16)?;
    let addresses = [source.into(), destination.into()];
    if u16_at(bytes, 6)? & 0x3fff != 0 {
        return Some(Flow::Datagram(addresses, u16_at(bytes, 4)?.into()));
    }
    let rest = (header >= 20).then(|| bytes.get(header..));
    Some(transport(addresses, *bytes.get(9)?, rest.flatten()))
}

fn ipv6(bytes: &[u8]) -> Option<Flow> {
    let source: [u8; 16] = array(bytes, 8)?;
    let destination: [u8; 16] = array(bytes, 24)?;
    let addresses = [source.into(), destination.into()];
    let mut protocol = *bytes.get(6)?;
    let mut rest = bytes.get(40..);
    loop {
        let Some(header) = rest else {
            return Some(transport(addresses, protocol, None));
        };
        // Hop-by-hop, routing and destination options give their length in units of 8 bytes,
        // the authentication header in units of 4. A fragment header ends the search, unless
        // the fragment is the whole datagram (RFC 6946).
        let length = match (protocol, header.get(1)) {
            (0 | 43 | 60 | 135 | 139 | 140, Some(units)) => 8 + usize::from(*units) * 8,
            (51, Some(units)) => 8 + usize::from(*units) * 4,
            (44, Some(_)) if u16_at(header, 2)? & 0xfff9 == 0 => 8,
            (44, _) => {
                let id = array(header, 4).map_or(0, u32::from_be_bytes);
                return Some(Flow::Datagram(addresses, id));
            }
            _ => return Some(transport(addresses, protocol, rest)),
        };
        protocol = header[0];
        rest = header.get(length..);
    }
}

/// The flow of `protocol` with the transport header in `rest`, if it is there.
fn transport(addresses: [IpAddr; 2], protocol: u8, rest: Option<&[u8]>) -> Flow {
    // TCP, UDP, DCCP, SCTP, UDP-Lite.
    const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
    // IP in IP, GRE.
    const TUNNELS: [u8; 3] = [4, 41, 47];
    // GTP-U, GRE in UDP, VXLAN, Geneve.
    const TUNNEL_PORTS: [u16; 5] = [2152, 4754, 4789, 4790, 6081];
    let ports = rest
        .filter(|_| WITH_PORTS.contains(&protocol))
        .and_then(|rest| Some([u16_at(rest, 0)?, u16_at(rest, 2)?]));
    let is_tunnel = |port: &u16| protocol == 17 && TUNNEL_PORTS.contains(port);
    if TUNNELS.contains(&protocol) || ports.iter().flatten().any(is_tunnel) {
        return Flow::Tunnelled(rest.unwrap_or_default().to_vec());
    }
    match ports {
        Some([source, destination]) => {
            let mut ends = [(addresses[0], source), (addresses[1], destination)];
            ends.sort();
            Flow::Transport(ends, protocol)
        }
        None => {
            let mut addresses = addresses;
            addresses.sort();
            Flow::Network(addresses, protocol)
        }
    }
}

fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    array(bytes, offset).map(u16::from_be_bytes)
}

fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}
