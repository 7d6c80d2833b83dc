//! One fragment, read from the packet that carries it.

use crate::decode::{Addr, Decoded};

use super::Refusal;

/// Longest datagram with its header (RFC 791 section 3.1), and longest payload of IPv6 (RFC 8200 section 3).
const LONGEST: usize = 65_535;
/// Most extension headers before IPv6's fragment header.
const MOST_EXTENSIONS: usize = 16;

/// What the fragments of one datagram have in common, and no other datagram of the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    addresses: (Addr, Addr),
    id: u32,
    /// IPv6 leaves it to the first fragment to name the protocol: none here (RFC 8200 section 4.5).
    protocol: Option<u8>,
    marks: u32,
    interface: u16,
}

/// See the module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) key: Key,
    /// Place of its first byte in the datagram's payload.
    pub(super) offset: usize,
    /// Whether it is not the last.
    pub(super) more: bool,
    /// What the payload begins with, as far as this fragment knows.
    pub(super) protocol: u8,
    pub(super) payload: &'a [u8],
}

impl Key {
    pub(super) fn is_v6(&self) -> bool {
        self.protocol.is_none()
    }
}

impl<'a> Piece<'a> {
    /// Reads the fragment that was decoded from `frame`, captured at `interface`.
    pub(super) fn read(
        decoded: &Decoded,
        frame: &'a [u8],
        interface: u16,
    ) -> Result<Self, Refusal> {
        let packet = frame.get(decoded.network..).ok_or(Refusal::CutOff)?;
        let header = match packet.first().ok_or(Refusal::CutOff)? >> 4 {
            4 => Header::v4(packet),
            _ => Header::v6(packet),
        }
        .ok_or(Refusal::CutOff)?;
        let key = Key {
            addresses: decoded.addresses.ok_or(Refusal::CutOff)?,
            id: header.id,
            protocol: header.is_v4.then_some(header.protocol),
            marks: decoded.marks,
            interface,
        };
        let payload = packet
            .get(header.start..header.end)
            .ok_or(Refusal::CutOff)?;
        let counted = if header.is_v4 { header.start } else { 0 };
        if counted + header.offset + payload.len() > LONGEST {
            return Err(Refusal::TooLong);
        }
        let whole = payload.len() & !7;
        let payload = match (header.is_v4, header.more) {
            // What follows a fragment starts at a multiple of eight bytes.
            (true, true) => &payload[..whole],
            (false, true) if whole != payload.len() => return Err(Refusal::Unaligned),
            _ => payload,
        };
        if payload.is_empty() && (header.more || !header.is_v4) {
            return Err(Refusal::TooShort);
        }
        Ok(Self {
            key,
            offset: header.offset,
            more: header.more,
            protocol: header.protocol,
            payload,
        })
    }
}

/// The fields that tell of the fragment; places count from the IP header.
struct Header {
    is_v4: bool,
    start: usize,
    end: usize,
    offset: usize,
    more: bool,
    id: u32,
    protocol: u8,
}

impl Header {
    fn v4(packet: &[u8]) -> Option<Self> {
        let header: &[u8; 20] = packet.first_chunk()?;
        let word = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
        let start = usize::from(header[0] & 15) * 4;
        let end = match word(2) {
            0 => packet.len(),
            len => len.into(),
        };
        Some(Self {
            is_v4: true,
            start,
            end,
            offset: usize::from(word(6) & 0x1fff) * 8,
            more: word(6) & 0x2000 != 0,
            id: word(4).into(),
            protocol: header[9],
        })
    }

    fn v6(packet: &[u8]) -> Option<Self> {
        let header: &[u8; 40] = packet.first_chunk()?;
        let end = 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let (mut next, mut at) = (header[6], 40);
        for _ in 0..MOST_EXTENSIONS {
            let extension: &[u8; 8] = packet.get(at..)?.first_chunk()?;
            if next == 44 {
                let place = u16::from_be_bytes([extension[2], extension[3]]);
                let [_, _, _, _, id @ ..] = *extension;
                return Some(Self {
                    is_v4: false,
                    start: at + 8,
                    end,
                    offset: usize::from(place & !7),
                    more: place & 1 != 0,
                    id: u32::from_be_bytes(id),
                    protocol: extension[0],
                });
            }
            let unit = if next == 51 { 4 } else { 8 };
            next = extension[0];
            at += 8 + usize::from(extension[1]) * unit;
        }
        None
    }
}
