//! Which packets must keep their order: those of one flow.
//!
//! A flow is what a packet's outermost IP header says: the two addresses with the two ports, in
//! either direction; where there are no ports (other protocols, fragments, truncated headers),
//! addresses and protocol; where there is no IP, all such packets are one flow.

use std::net::IpAddr;

use crate::capture::Packet;

/// What identifies a flow.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Flow {
    /// Both ends in ascending order, and the protocol number.
    Transport([(IpAddr, u16); 2], u8),
    /// Both addresses in ascending order, and the protocol number.
    Network([IpAddr; 2], u8),
    /// Everything else.
    Other,
}

impl Flow {
    /// The flow that `packet` belongs to.
    pub fn of(packet: &Packet) -> Self {
        network(packet.link_type, &packet.bytes)
            .and_then(|(kind, bytes)| match kind {
                Network::V4 => ipv4(bytes),
                Network::V6 => ipv6(bytes),
            })
            .unwrap_or(Self::Other)
    }
}

enum Network {
    V4,
    V6,
}

/// The IP packet behind the link header.
fn network(link_type: u32, bytes: &[u8]) -> Option<(Network, &[u8])> {
    match link_type {
        0 | 108 => raw(bytes.get(4..)?),
        1 => ethernet(u16_at(bytes, 12)?, bytes.get(14..)?),
        9 => point_to_point(bytes),
        101 | 228 | 229 => raw(bytes),
        113 => ethernet(u16_at(bytes, 14)?, bytes.get(16..)?),
        276 => ethernet(u16_at(bytes, 0)?, bytes.get(20..)?),
        _ => None,
    }
}

/// What EtherType `kind` announces, behind any number of VLAN tags.
fn ethernet(kind: u16, bytes: &[u8]) -> Option<(Network, &[u8])> {
    match kind {
        0x0800 => Some((Network::V4, bytes)),
        0x86dd => Some((Network::V6, bytes)),
        0x8100 | 0x88a8 | 0x9100 => ethernet(u16_at(bytes, 2)?, bytes.get(4..)?),
        _ => None,
    }
}

fn point_to_point(bytes: &[u8]) -> Option<(Network, &[u8])> {
    let bytes = bytes.strip_prefix(&[0xff, 0x03]).unwrap_or(bytes);
    match u16_at(bytes, 0)? {
        0x0021 => Some((Network::V4, bytes.get(2..)?)),
        0x0057 => Some((Network::V6, bytes.get(2..)?)),
        _ => None,
    }
}

/// An IP packet that tells its version itself.
fn raw(bytes: &[u8]) -> Option<(Network, &[u8])> {
    match bytes.first()? >> 4 {
        4 => Some((Network::V4, bytes)),
        6 => Some((Network::V6, bytes)),
        _ => None,
    }
}

fn ipv4(bytes: &[u8]) -> Option<Flow> {
    let header = usize::from(bytes.first()? & 0x0f) * 4;
    let source: [u8; 4] = array(bytes, 12)?;
    let destination: [u8; 4] = array(bytes, 16)?;
    let fragment = u16_at(bytes, 6)? & 0x3fff != 0;
    let rest = (header >= 20 && !fragment).then(|| bytes.get(header..));
    Some(transport(
        [source.into(), destination.into()],
        *bytes.get(9)?,
        rest.flatten(),
    ))
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
        // the authentication header in units of 4; a fragment header ends the search.
        let length = match (protocol, header.get(1)) {
            (0 | 43 | 60 | 135, Some(units)) => 8 + usize::from(*units) * 8,
            (51, Some(units)) => 8 + usize::from(*units) * 4,
            (44, _) => return Some(transport(addresses, protocol, None)),
            _ => return Some(transport(addresses, protocol, rest)),
        };
        protocol = header[0];
        rest = header.get(length..);
    }
}

/// The flow of `protocol` with the transport header in `rest`, if it is there.
fn transport(addresses: [IpAddr; 2], protocol: u8, rest: Option<&[u8]>) -> Flow {
    const WITH_PORTS: [u8; 3] = [6, 17, 132];
    let ports = rest
        .filter(|_| WITH_PORTS.contains(&protocol))
        .and_then(|rest| Some([u16_at(rest, 0)?, u16_at(rest, 2)?]));
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
