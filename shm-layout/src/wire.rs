//! tx records: one packet each, encoded as it will stand in a batch.
//!
//! ```text
//!   preamble: kind = 1, flags = priority
//!   body:     ordinal u64 | bytes u32 | 0 u32 | wire bytes
//! ```
//!
//! The wire bytes are a complete field of `PacketBatch` (tag, length, `CapturedPacket`), so the
//! forwarder copies them behind each other and never decodes a packet.

use crate::ring::{Full, Record, Reservation, RingError, RingWriter};
use crate::shared_bytes::SharedBytes;

/// The one kind of tx record.
const PACKET: u8 = 1;
/// Bytes in front of the wire bytes in a record's body.
const HEADER_BYTES: usize = 16;

/// How urgent a packet is: when not all can go, those of the highest priority go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Priority {
    /// Forwarded though nothing asked for it.
    Normal = 0,
    /// Asked for: a filter matched, or it is signalling.
    High = 1,
}

impl Priority {
    /// The priority of a number from outside; one that is unknown is of a newer writer, and more urgent than those known.
    #[inline]
    fn of(number: u8) -> Self {
        match number {
            0 => Self::Normal,
            _ => Self::High,
        }
    }
}

/// A wire-ready packet as the forwarder finds it.
#[derive(Debug, Clone, Copy)]
pub struct WirePacket<'a> {
    /// Number of the packet in its tx ring, from 0.
    pub ordinal: u64,
    /// Urgency, as the worker judged it.
    pub priority: Priority,
    /// The encoded field.
    pub bytes: SharedBytes<'a>,
    /// Position behind the record: what to release the ring to.
    pub end: u64,
}

impl<'a> WirePacket<'a> {
    /// Reads a record of a tx ring.
    ///
    /// # Errors
    /// [`RingError::Malformed`] for an unknown kind or a body shorter than it says.
    #[inline]
    pub fn read(record: &Record<'a>) -> Result<Self, RingError> {
        Self::parse(record).ok_or(record.malformed())
    }

    #[inline]
    fn parse(record: &Record<'a>) -> Option<Self> {
        if record.kind != PACKET {
            return None;
        }
        let ordinal = u64::from_le_bytes(record.body.array(0)?);
        let len = u32::from_le_bytes(record.body.array(8)?);
        let bytes = record.body.part(HEADER_BYTES, len as usize)?;
        Some(Self {
            ordinal,
            priority: Priority::of(record.flags),
            bytes,
            end: record.end,
        })
    }
}

/// Space for one wire-ready packet in a tx ring.
pub struct WireSlot<'a> {
    reservation: Reservation<'a>,
}

impl<'a> WireSlot<'a> {
    /// Reserves `len` wire bytes for packet number `ordinal`.
    ///
    /// # Errors
    /// [`Full`], as [`RingWriter::reserve`].
    #[inline]
    pub fn reserve(ring: &'a mut RingWriter, ordinal: u64, len: usize) -> Result<Self, Full> {
        let mut reservation = ring.reserve(HEADER_BYTES + len)?;
        let body = reservation.body();
        body[0..8].copy_from_slice(&ordinal.to_le_bytes());
        body[8..16].copy_from_slice(&(len as u64).to_le_bytes());
        Ok(Self { reservation })
    }

    /// The wire bytes to fill in, exactly as long as reserved.
    #[inline]
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.reservation.body()[HEADER_BYTES..]
    }

    /// Ends the record; visible with the ring's next publication.
    #[inline]
    pub fn commit(self, priority: Priority) {
        self.reservation.commit(PACKET, priority as u8, 0);
    }
}
