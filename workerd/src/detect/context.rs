//! What a signature is told of a packet.

use super::sctp::user_data;
use crate::decode::{Addr, Decoded, Transport};

/// What the payload was carried by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Layer {
    /// A TCP segment's payload.
    Tcp,
    /// A UDP datagram's payload.
    Udp,
    /// An SCTP packet behind its common header: it starts with the first chunk.
    Sctp,
    /// An ICMP message, from its type on.
    Icmp,
    /// An ICMPv6 message, from its type on.
    IcmpV6,
    /// An ARP packet, from its hardware type on.
    Arp,
}

impl Layer {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 6] = [
        Self::Tcp,
        Self::Udp,
        Self::Sctp,
        Self::Icmp,
        Self::IcmpV6,
        Self::Arp,
    ];
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();
}

impl From<Transport> for Layer {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Self::Tcp,
            Transport::Udp => Self::Udp,
            Transport::Sctp => Self::Sctp,
            Transport::Icmp => Self::Icmp,
            Transport::IcmpV6 => Self::IcmpV6,
        }
    }
}

/// TCP's FIN flag.
pub const FIN: u8 = 1;
/// TCP's RST flag.
pub const RST: u8 = 4;

/// One packet. Fragments must not be shown to signatures: their payload starts anywhere.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What the payload was carried by.
    pub layer: Layer,
    /// Source and destination address; zeros where there are none.
    pub addresses: (Addr, Addr),
    /// 0 where there are no ports.
    pub source_port: u16,
    /// 0 where there are no ports.
    pub destination_port: u16,
    /// Whether the packet goes the way the flow's first packet went.
    pub forward: bool,
    /// TCP's flags, [`FIN`] being bit 0; 0 without TCP.
    pub tcp_flags: u8,
    /// IPv4's type of service or IPv6's traffic class.
    pub traffic_class: u8,
    /// When the packet was captured, in nanoseconds after any fixed moment.
    pub time_ns: u64,
    /// The bytes above the [`Layer`].
    pub payload: &'a [u8],
    /// SCTP's payload protocol identifier; 0 for none. Signatures see it; callers leave it at 0.
    pub payload_protocol: u32,
}

impl<'a> Context<'a> {
    /// A packet of `layer` between two ports, in its flow's direction, at time 0.
    #[must_use]
    pub fn new(layer: Layer, ports: (u16, u16), payload: &'a [u8]) -> Self {
        Self {
            layer,
            addresses: (Addr::V4(0), Addr::V4(0)),
            source_port: ports.0,
            destination_port: ports.1,
            forward: true,
            tcp_flags: 0,
            traffic_class: 0,
            time_ns: 0,
            payload,
            payload_protocol: 0,
        }
    }

    /// A decoded packet of `frame`; `forward` as the flow table says. `None` where there is nothing
    /// to detect: fragments, and packets without a decoded transport header. ARP has none; its
    /// bytes are found by [`crate::decode::arp`].
    #[inline]
    #[must_use]
    pub fn decoded(
        decoded: &Decoded,
        frame: &'a [u8],
        forward: bool,
        time_ns: u64,
    ) -> Option<Self> {
        let transport = decoded.transport?;
        if decoded.fragment || decoded.payload == 0 {
            return None;
        }
        let payload = match transport {
            Transport::Icmp | Transport::IcmpV6 => Decoded {
                payload: decoded.header,
                ..*decoded
            }
            .payload_of(frame),
            _ => decoded.payload_of(frame),
        };
        let tcp_flags = match transport {
            Transport::Tcp => frame.get(decoded.header + 13).copied()?,
            _ => 0,
        };
        let unknown = (Addr::V4(0), Addr::V4(0));
        Some(Self {
            addresses: decoded.addresses.unwrap_or(unknown),
            forward,
            tcp_flags,
            traffic_class: decoded.traffic_class,
            time_ns,
            ..Self::new(transport.into(), decoded.ports.unwrap_or_default(), payload)
        })
    }

    /// The same packet with the user data of SCTP for its payload.
    #[inline]
    #[must_use]
    pub(super) fn above_sctp(&self) -> Self {
        if self.layer != Layer::Sctp {
            return *self;
        }
        let (payload_protocol, payload) = user_data(self.payload).unwrap_or_default();
        Self {
            payload,
            payload_protocol,
            ..*self
        }
    }

    /// Whether either port is one of `ports`.
    #[inline]
    #[must_use]
    pub fn on(&self, ports: &[u16]) -> bool {
        ports.contains(&self.source_port) || ports.contains(&self.destination_port)
    }

    /// Whether it is UDP.
    #[inline]
    #[must_use]
    pub fn udp(&self) -> bool {
        self.layer == Layer::Udp
    }

    /// Whether it is TCP.
    #[inline]
    #[must_use]
    pub fn tcp(&self) -> bool {
        self.layer == Layer::Tcp
    }
}
