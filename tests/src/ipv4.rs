//! Packets of IPv4, put together by hand, and TCP connections of them. Checksums are zero.

use std::net::Ipv4Addr;

/// LINKTYPE_RAW: packets without a link layer, as all are here.
pub const RAW_IP: u32 = 101;

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// Flag of TCP (RFC 9293 section 3.1): the sender has nothing more to say.
pub const FIN: u8 = 1;
/// Flag of TCP (RFC 9293 section 3.1): the sender opens the connection.
pub const SYN: u8 = 2;
/// Flag of TCP (RFC 9293 section 3.1): the receiver shall not wait for more.
pub const PSH: u8 = 8;
/// Flag of TCP (RFC 9293 section 3.1): the acknowledgement number counts.
pub const ACK: u8 = 16;

/// An address and a port.
pub type End = (Ipv4Addr, u16);

/// A packet from one address to another.
pub fn packet(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    fragment(protocol, from, to, (0, 0), payload)
}

/// The same with an identification, and a word of flags and fragment offset (RFC 791 section 3.1).
pub fn fragment(
    protocol: u8,
    from: Ipv4Addr,
    to: Ipv4Addr,
    (identification, place): (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    for word in [20 + payload.len() as u16, identification, place] {
        packet.extend(word.to_be_bytes());
    }
    packet.extend([64, protocol, 0, 0]);
    packet.extend(from.octets());
    packet.extend(to.octets());
    packet.extend(payload);
    packet
}

/// A packet with a UDP datagram.
pub fn udp(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    packet(UDP, from.0, to.0, &datagram((from.1, to.1), payload))
}

/// A UDP datagram by itself, with its source and destination port.
pub fn datagram(ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::new();
    for word in [ports.0, ports.1, 8 + payload.len() as u16, 0] {
        datagram.extend(word.to_be_bytes());
    }
    datagram.extend(payload);
    datagram
}

/// A packet with a TCP segment, by sequence and acknowledgement number.
pub fn tcp(from: End, to: End, numbers: (u32, u32), flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    segment.extend(numbers.0.to_be_bytes());
    segment.extend(numbers.1.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    packet(TCP, from.0, to.0, &segment)
}

/// An Ethernet frame with this packet.
pub fn ethernet(packet: &[u8]) -> Vec<u8> {
    let header = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    [&header, packet].concat()
}

/// One side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Who has asked for it.
    Client,
    /// The other one.
    Server,
}

impl Side {
    fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A TCP connection, as somebody between its ends sees it.
#[derive(Debug)]
pub struct Connection {
    ends: [End; 2],
    /// What each side sends next.
    numbers: [u32; 2],
    packets: Vec<Vec<u8>>,
}

impl Connection {
    /// A connection that both sides have opened.
    pub fn open(client: End, server: End) -> Self {
        let mut connection = Self {
            ends: [client, server],
            // Not the same of all clients.
            numbers: [1_000 * u32::from(client.1), 500],
            packets: Vec::new(),
        };
        connection.send(Side::Client, SYN, &[]);
        connection.send(Side::Server, SYN | ACK, &[]);
        connection.send(Side::Client, ACK, &[]);
        connection
    }

    /// A segment of one side, which acknowledges all that the other one has sent.
    pub fn send(&mut self, from: Side, flags: u8, payload: &[u8]) {
        let (own, other) = (from as usize, from.other() as usize);
        // The first segment has nothing to acknowledge.
        let acknowledged = if flags & ACK == 0 {
            0
        } else {
            self.numbers[other]
        };
        let numbers = (self.numbers[own], acknowledged);
        let (from, to) = (self.ends[own], self.ends[other]);
        self.packets.push(tcp(from, to, numbers, flags, payload));
        self.numbers[own] += payload.len() as u32 + u32::from(flags & (SYN | FIN) != 0);
    }

    /// Bytes of one side in segments of at most `size`.
    pub fn push(&mut self, from: Side, bytes: &[u8], size: usize) {
        for part in bytes.chunks(size) {
            self.send(from, PSH | ACK, part);
        }
    }

    /// The same, each segment acknowledged by one of the other side.
    pub fn say(&mut self, from: Side, bytes: &[u8], size: usize) {
        for part in bytes.chunks(size) {
            self.send(from, ACK, part);
            self.send(from.other(), ACK, &[]);
        }
    }

    /// All its packets, when both sides have closed it.
    pub fn close(mut self) -> Vec<Vec<u8>> {
        self.send(Side::Client, FIN | ACK, &[]);
        self.send(Side::Server, FIN | ACK, &[]);
        self.send(Side::Client, ACK, &[]);
        self.packets
    }
}
