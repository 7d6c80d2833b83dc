//! The bytes of a block: where its packets lie and what the kernel says of each (`linux/if_packet.h`).
//!
//! Pure reading of a slice, so that any bytes can be tried. Offsets count from the begin of the *packet area*, the part of a block behind
//! header and private area.

use std::mem::{offset_of, size_of};
use std::ops::Range;

use crate::link::{Sender, Vlan};

/// Bytes of the kernel's header of a block.
pub const HEADER_BYTES: usize = size_of::<libc::tpacket_block_desc>();
/// Bytes of the private area behind it.
pub const PRIVATE_BYTES: usize = 512;
/// Where the packet area begins.
pub const AREA: usize = HEADER_BYTES + PRIVATE_BYTES;
/// Bytes in front of each packet: the kernel's header, then where the packet comes from.
pub const PACKET_HEADER_BYTES: usize = SENDER + size_of::<libc::sockaddr_ll>();

/// Where [`libc::sockaddr_ll`] lies.
const SENDER: usize = size_of::<libc::tpacket3_hdr>();
/// The kernel's alignment of blocks and packets (`V3_ALIGNMENT`) divides all of these.
const _: () = assert!(AREA.is_multiple_of(8) && SENDER.is_multiple_of(8) && HEADER_BYTES == 48);

/// The block contradicts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A packet's header lies outside of the block.
    #[error("a packet header at {at} lies outside of its block")]
    Header {
        /// Its offset.
        at: usize,
    },
    /// A packet's bytes lie outside of the block.
    #[error("packet at {at}: its {length} bytes lie outside of its block")]
    Data {
        /// Offset of its header.
        at: usize,
        /// Captured bytes.
        length: u32,
    },
    /// There is no room in front of a packet for the header that belongs there.
    #[error("packet at {at}: no room for its link-layer header")]
    NoRoom {
        /// Offset of its header.
        at: usize,
    },
    /// The next packet would not lie behind this one.
    #[error("packet at {at}: the next one lies {distance} bytes further")]
    Next {
        /// Offset of its header.
        at: usize,
        /// As the block says.
        distance: u32,
    },
}

/// What the kernel says of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub timestamp_ns: u64,
    /// Bytes on the wire, without a tag that the kernel took out.
    pub length: u32,
    /// Where its bytes lie.
    pub data: Range<usize>,
    /// The tag that the kernel took out.
    pub vlan: Option<Vlan>,
    /// Where it comes from.
    pub sender: Sender,
    /// Distance to the next packet; the last one of a block has none.
    distance: u32,
    at: usize,
}

impl Frame {
    /// Reads the packet whose header lies at `at` in the packet area of a block.
    ///
    /// # Errors
    /// [`Malformed`]
    #[inline]
    pub fn read(area: &[u8], at: usize) -> Result<Self, Malformed> {
        let header: &[u8; PACKET_HEADER_BYTES] = at
            .checked_add(PACKET_HEADER_BYTES)
            .and_then(|end| area.get(at..end))
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(Malformed::Header { at })?;
        let word = |offset| u32_at(header, offset);
        let half = |offset| u16::from_ne_bytes([header[offset], header[offset + 1]]);
        let length = word(offset_of!(libc::tpacket3_hdr, tp_snaplen));
        let start = at + usize::from(half(offset_of!(libc::tpacket3_hdr, tp_mac)));
        let end = start + length as usize;
        // Bytes that overlap the headers would be of another packet, or none at all.
        if end > area.len() || start < at + PACKET_HEADER_BYTES {
            return Err(Malformed::Data { at, length });
        }
        const VARIANT: usize = offset_of!(libc::tpacket3_hdr, hv1);
        let status = word(offset_of!(libc::tpacket3_hdr, tp_status));
        let tag = word(VARIANT + offset_of!(libc::tpacket_hdr_variant1, tp_vlan_tci)) as u16;
        let protocol = half(VARIANT + offset_of!(libc::tpacket_hdr_variant1, tp_vlan_tpid));
        Ok(Self {
            timestamp_ns: u64::from(word(offset_of!(libc::tpacket3_hdr, tp_sec))) * 1_000_000_000
                + u64::from(word(offset_of!(libc::tpacket3_hdr, tp_nsec))),
            length: word(offset_of!(libc::tpacket3_hdr, tp_len)),
            data: start..end,
            vlan: Vlan::of(status, tag, protocol),
            sender: Sender::read(&header[SENDER..]),
            distance: word(offset_of!(libc::tpacket3_hdr, tp_next_offset)),
            at,
        })
    }

    /// Where the header of the next packet lies, if there is another.
    ///
    /// # Errors
    /// It would not lie behind this one.
    #[inline]
    pub fn next(&self) -> Result<usize, Malformed> {
        let malformed = Malformed::Next {
            at: self.at,
            distance: self.distance,
        };
        match self.at.checked_add(self.distance as usize) {
            Some(next) if next >= self.data.end => Ok(next),
            _ => Err(malformed),
        }
    }

    /// The bytes between headers and packet, at most `wanted`, where a link-layer header can be put.
    ///
    /// # Errors
    /// There are fewer.
    #[inline]
    pub fn room_before(&self, wanted: usize) -> Result<Range<usize>, Malformed> {
        let start = self.data.start - wanted.min(self.data.start);
        if start < self.at + PACKET_HEADER_BYTES {
            return Err(Malformed::NoRoom { at: self.at });
        }
        Ok(start..self.data.start)
    }
}

#[inline]
fn u32_at<const N: usize>(bytes: &[u8; N], offset: usize) -> u32 {
    u32::from_ne_bytes([
        bytes[offset],
        bytes[offset + 1],
        bytes[offset + 2],
        bytes[offset + 3],
    ])
}
