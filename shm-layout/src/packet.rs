//! rx records: one captured packet each.
//!
//! ```text
//!   preamble: kind = where the bytes are, aux = link type
//!   body:     sequence u64 | time u64 | captured u32 | original u32 | interface u16 | 0 u16 | hash u32
//!             inline: the packet's bytes        frame: offset in the frame pool u64
//! ```
//!
//! *Inline* packets were copied into the ring; *frame* packets lie where the card put them, in a
//! frame pool ([`crate::frames`]), and only their offset is in the ring.

use crate::frames::FramePool;
use crate::ring::{Full, Record, RingError, RingWriter};
use crate::shared_bytes::SharedBytes;

/// The packet's bytes follow the header.
pub const INLINE: u8 = 1;
/// The packet's bytes are in the frame pool.
pub const FRAME: u8 = 2;

/// Bytes of [`PacketHeader`] in a record's body.
pub const HEADER_BYTES: usize = 32;

/// What is known of a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketHeader {
    /// Number of the packet in its capture thread, from 0; never repeated.
    pub sequence: u64,
    /// Capture time, ns since 1970.
    pub timestamp_ns: u64,
    /// Bytes captured.
    pub captured_len: u32,
    /// Bytes that the packet had on the wire.
    pub original_len: u32,
    /// libpcap link type (DLT or LINKTYPE number) of the first byte.
    pub link_type: u16,
    /// Index into the session's interface table.
    pub interface: u16,
    /// Symmetric hash of the flow, the same in both directions.
    pub flow_hash: u32,
}

impl PacketHeader {
    /// As it stands in a record's body; the link type stands beside it.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        self.write(&mut bytes);
        bytes
    }

    /// What [`PacketHeader::to_bytes`] gave, and the link type.
    #[must_use]
    #[inline]
    pub fn from_bytes(link_type: u16, bytes: &[u8; HEADER_BYTES]) -> Self {
        let u32_at = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        Self {
            sequence: u64_at(0),
            timestamp_ns: u64_at(8),
            captured_len: u32_at(16),
            original_len: u32_at(20),
            link_type,
            interface: u32_at(24) as u16,
            flow_hash: u32_at(28),
        }
    }

    #[inline]
    fn write(&self, body: &mut [u8]) {
        body[0..8].copy_from_slice(&self.sequence.to_le_bytes());
        body[8..16].copy_from_slice(&self.timestamp_ns.to_le_bytes());
        body[16..20].copy_from_slice(&self.captured_len.to_le_bytes());
        body[20..24].copy_from_slice(&self.original_len.to_le_bytes());
        body[24..28].copy_from_slice(&u32::from(self.interface).to_le_bytes());
        body[28..32].copy_from_slice(&self.flow_hash.to_le_bytes());
    }

    #[inline]
    fn read(record: &Record<'_>) -> Option<Self> {
        let bytes: [u8; HEADER_BYTES] = record.body.array(0)?;
        Some(Self::from_bytes(record.aux, &bytes))
    }
}

/// A packet as its reader finds it: checked, its bytes still in shared memory.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Times, lengths, interface.
    pub header: PacketHeader,
    /// Exactly `header.captured_len` bytes.
    pub data: SharedBytes<'a>,
}

impl<'a> Packet<'a> {
    /// Reads a record of an rx ring whose frame records point into `pool`.
    ///
    /// # Errors
    /// [`RingError::Malformed`] for an unknown kind, a body shorter than its header says, or a frame
    /// outside the pool.
    #[inline]
    pub fn read(record: &Record<'a>, pool: Option<&'a FramePool>) -> Result<Self, RingError> {
        let header = PacketHeader::read(record).ok_or(record.malformed())?;
        let len = header.captured_len as usize;
        let data = match record.kind {
            INLINE => record.body.part(HEADER_BYTES, len),
            FRAME => record
                .body
                .array(HEADER_BYTES)
                .and_then(|offset| pool?.frame(u64::from_le_bytes(offset), len)),
            _ => None,
        };
        Ok(Self {
            header,
            data: data.ok_or(record.malformed())?,
        })
    }
}

/// Appends a packet by copying its bytes (`data.len()` must be `header.captured_len`).
///
/// # Errors
/// [`Full`], as [`RingWriter::reserve`].
#[inline]
pub fn push_inline(ring: &mut RingWriter, header: &PacketHeader, data: &[u8]) -> Result<(), Full> {
    debug_assert_eq!(data.len(), header.captured_len as usize);
    let mut slot = ring.reserve(HEADER_BYTES + data.len())?;
    let body = slot.body();
    header.write(body);
    body[HEADER_BYTES..].copy_from_slice(data);
    slot.commit(INLINE, 0, header.link_type);
    Ok(())
}

/// Appends a packet that lies at `offset` of the frame pool.
///
/// # Errors
/// [`Full`], as [`RingWriter::reserve`].
#[inline]
pub fn push_frame(ring: &mut RingWriter, header: &PacketHeader, offset: u64) -> Result<(), Full> {
    let mut slot = ring.reserve(HEADER_BYTES + 8)?;
    let body = slot.body();
    header.write(body);
    body[HEADER_BYTES..].copy_from_slice(&offset.to_le_bytes());
    slot.commit(FRAME, 0, header.link_type);
    Ok(())
}
