//! Between whom a conversation runs: the addresses of both sides and the VLAN.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rng::Rng;

/// One of the two sides of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// The side that opened the conversation; in a call, the caller.
    Client,
    /// The side that was asked; in a call, the callee.
    Server,
}

impl Side {
    /// The opposite side.
    pub(super) fn peer(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// Link and network address of one side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Host {
    pub(super) mac: [u8; 6],
    pub(super) ip: IpAddr,
}

/// The way between two hosts past the tap.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path {
    client: Host,
    server: Host,
    /// The 802.1Q VLAN that both directions carry, 1 to 4094.
    pub(super) vlan: Option<u16>,
}

impl Path {
    /// The path of conversation `number`: the client's address is unique among 16.7 million
    /// numbers that follow each other. IPv4 clients lie in 10.0.0.0/8 and servers in the
    /// benchmarking block 198.18.0.0/15 (RFC 2544); IPv6 ones in 2001:db8::/32 (RFC 3849).
    pub(super) fn new(number: u64, ipv6_percent: u8, vlan_percent: u8, rng: &mut Rng) -> Self {
        let [_, _, _, _, _, high, middle, low] = number.to_be_bytes();
        let [server_high, server_low] = rng.bytes();
        let (client_ip, server_ip) = if rng.percent(ipv6_percent) {
            let host = u16::from_be_bytes([middle, low]);
            let server = u16::from_be_bytes([server_high, server_low]);
            let client = Ipv6Addr::new(0x2001, 0xdb8, 1, u16::from(high), 0, 0, 0, host);
            let server = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, server);
            (IpAddr::V6(client), IpAddr::V6(server))
        } else {
            let client = Ipv4Addr::new(10, high, middle, low);
            let server = Ipv4Addr::new(198, 18, server_high, server_low);
            (IpAddr::V4(client), IpAddr::V4(server))
        };
        let vlan = rng.percent(vlan_percent).then(|| rng.range(1, 4095) as u16);
        Self {
            client: Host {
                mac: [0x02, 0, 1, high, middle, low],
                ip: client_ip,
            },
            server: Host {
                mac: [0x02, 0, 2, 0, server_high, server_low],
                ip: server_ip,
            },
            vlan,
        }
    }

    /// The host on `side`.
    pub(super) fn host(&self, side: Side) -> Host {
        match side {
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }

    /// Bytes in front of the transport header.
    pub(super) fn header_len(&self) -> usize {
        let link = if self.vlan.is_some() { 18 } else { 14 };
        link + if self.client.ip.is_ipv6() { 40 } else { 20 }
    }
}
