//! The link layer: which link type an interface has, and the headers that the kernel keeps apart from a packet's bytes.
//!
//! Everything is as libpcap shows it, so that it makes no difference which of the two has captured.

use std::mem::offset_of;

/// Ethernet (`DLT_EN10MB`).
pub const ETHERNET: u16 = 1;
/// IPv4 or IPv6 without a link layer (`DLT_RAW`).
pub const RAW_IP: u16 = 12;
/// Linux cooked capture, version 1 (`DLT_LINUX_SLL`).
pub const LINUX_SLL: u16 = 113;

/// The link type of an interface by its hardware type (`ARPHRD_`, linux/if_arp.h); `None` for those that this crate does not know.
#[must_use]
pub fn link_type(hardware_type: u16) -> Option<u16> {
    match hardware_type {
        libc::ARPHRD_ETHER | libc::ARPHRD_LOOPBACK => Some(ETHERNET),
        libc::ARPHRD_NONE | ARPHRD_RAWIP => Some(RAW_IP),
        libc::ARPHRD_TUNNEL | libc::ARPHRD_TUNNEL6 | libc::ARPHRD_SIT => Some(RAW_IP),
        _ => None,
    }
}

const ARPHRD_RAWIP: u16 = 519;

/// A VLAN tag that the kernel has taken out of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlan {
    /// Tag protocol: 0x8100, or 0x88a8 for a service tag.
    pub protocol: u16,
    /// Priority and number.
    pub tag: u16,
}

impl Vlan {
    /// Bytes of a tag in a packet.
    pub const BYTES: usize = 4;

    /// The tag by a packet's status and its two fields for it.
    #[inline]
    pub(crate) fn of(status: u32, tag: u16, protocol: u16) -> Option<Self> {
        const IEEE_802_1Q: u16 = 0x8100;
        if tag == 0 && status & libc::TP_STATUS_VLAN_VALID == 0 {
            return None;
        }
        let known = protocol != 0 || status & libc::TP_STATUS_VLAN_TPID_VALID != 0;
        Some(Self {
            protocol: if known { protocol } else { IEEE_802_1Q },
            tag,
        })
    }

    /// As it stands in a packet.
    #[must_use]
    pub fn bytes(self) -> [u8; Self::BYTES] {
        let ([a, b], [c, d]) = (self.protocol.to_be_bytes(), self.tag.to_be_bytes());
        [a, b, c, d]
    }
}

/// Bytes in an Ethernet header before the place of a tag: two addresses.
pub(crate) const ETHERNET_ADDRESSES: usize = 12;

/// Where a packet comes from, as `sockaddr_ll` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sender {
    /// `ETH_P_` number, in network order as it stands there.
    pub protocol: [u8; 2],
    /// `ARPHRD_` number of the interface.
    pub hardware_type: u16,
    /// `PACKET_HOST` and the others.
    pub packet_type: u8,
    /// Length of the sender's address.
    pub address_length: u8,
    /// The address, or as much of it as has room.
    pub address: [u8; 8],
}

impl Sender {
    /// Reads a `sockaddr_ll`; zeros if it is cut.
    #[inline]
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let Some(bytes) = bytes.first_chunk::<{ size_of::<libc::sockaddr_ll>() }>() else {
            return Self::default();
        };
        const PROTOCOL: usize = offset_of!(libc::sockaddr_ll, sll_protocol);
        const HARDWARE: usize = offset_of!(libc::sockaddr_ll, sll_hatype);
        const ADDRESS: usize = offset_of!(libc::sockaddr_ll, sll_addr);
        let mut address = [0; 8];
        address.copy_from_slice(&bytes[ADDRESS..ADDRESS + 8]);
        Self {
            protocol: [bytes[PROTOCOL], bytes[PROTOCOL + 1]],
            hardware_type: u16::from_ne_bytes([bytes[HARDWARE], bytes[HARDWARE + 1]]),
            packet_type: bytes[offset_of!(libc::sockaddr_ll, sll_pkttype)],
            address_length: bytes[offset_of!(libc::sockaddr_ll, sll_halen)],
            address,
        }
    }

    /// The cooked header of a packet, with its tag if it has one. Of the bytes, as many count as the number says.
    #[inline]
    #[must_use]
    pub fn cooked_header(&self, vlan: Option<Vlan>) -> ([u8; 20], usize) {
        /// Packet types up to `PACKET_OUTGOING` have the same numbers in a cooked header.
        const OTHER: u16 = u16::MAX;
        let packet_type = match self.packet_type {
            known if known <= libc::PACKET_OUTGOING => known.into(),
            _ => OTHER,
        };
        let mut header = [0; 20];
        header[0..2].copy_from_slice(&packet_type.to_be_bytes());
        header[2..4].copy_from_slice(&self.hardware_type.to_be_bytes());
        header[4..6].copy_from_slice(&u16::from(self.address_length).to_be_bytes());
        header[6..14].copy_from_slice(&self.address);
        match vlan {
            None => {
                header[14..16].copy_from_slice(&self.protocol);
                (header, 16)
            }
            Some(vlan) => {
                header[14..18].copy_from_slice(&vlan.bytes());
                header[18..20].copy_from_slice(&self.protocol);
                (header, 20)
            }
        }
    }
}
