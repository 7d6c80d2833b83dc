//! The bytes of headers. All numbers are little-endian.
//!
//! ```text
//!   segment header, 80 bytes             record header, 48 bytes           slot of the position file, 64 bytes
//!    0 magic        8                     0 magic              4            0 magic       8
//!    8 version      4                     4 CRC of 8..48       4            8 generation  8
//!   12 flags        4   bit 0: dropped    8 CRC of the payload 4           16 salt        8
//!   16 salt         8                    12 length of payload  4           24 record      8
//!   24 number       8                    16 number             8           32 packet      8
//!   32 first record 8                    24 first packet       8           40 segment     8
//!   40 first packet 8                    32 packets            4           48 offset      8
//!   48 end record   8   if dropped       36 zero              12           56 CRC         4
//!   56 end packet   8   if dropped                                         60 zero        4
//!   64 CRC of 0..64 4
//!   68 zero        12
//! ```
//!
//! The CRC is CRC32C. Those of a record begin with the store's salt instead of zero.

use super::Point;

/// Bytes of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 80;
/// Bytes of a record's header.
pub(super) const RECORD_HEADER: usize = 48;
/// Bytes of a slot of the position file.
pub(super) const SLOT: usize = 64;

/// First bytes of a record.
pub(super) const RECORD_MAGIC: [u8; 4] = *b"\xa7LcR";
const SEGMENT_MAGIC: [u8; 8] = *b"LCOVRFLW";
const SLOT_MAGIC: [u8; 8] = *b"LCOVRPOS";

const VERSION: u32 = 1;
const DROPPED: u32 = 1;

/// What begins a segment file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) salt: u64,
    pub(super) number: u64,
    pub(super) first: Point,
    /// Where the segment ended, if its records were dropped.
    pub(super) dropped: Option<Point>,
}

/// What a segment's header turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SegmentLook {
    Good(SegmentHeader),
    Damaged,
    /// Whole, but written by another version.
    Version(u32),
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[..8].copy_from_slice(&SEGMENT_MAGIC);
        put_u32(&mut bytes, 8, VERSION);
        put_u32(&mut bytes, 12, self.dropped.map_or(0, |_| DROPPED));
        put_u64(&mut bytes, 16, self.salt);
        put_u64(&mut bytes, 24, self.number);
        put_point(&mut bytes, 32, self.first);
        put_point(&mut bytes, 48, self.dropped.unwrap_or_default());
        let crc = crc32c::crc32c(&bytes[..64]);
        put_u32(&mut bytes, 64, crc);
        bytes
    }

    pub(super) fn decode(bytes: &[u8; SEGMENT_HEADER]) -> SegmentLook {
        if bytes[..8] != SEGMENT_MAGIC || u32_at(bytes, 64) != crc32c::crc32c(&bytes[..64]) {
            return SegmentLook::Damaged;
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return SegmentLook::Version(version);
        }
        SegmentLook::Good(Self {
            salt: u64_at(bytes, 16),
            number: u64_at(bytes, 24),
            first: point_at(bytes, 32),
            dropped: (u32_at(bytes, 12) & DROPPED != 0).then(|| point_at(bytes, 48)),
        })
    }
}

/// What begins a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) at: Point,
    pub(super) packets: u32,
    pub(super) length: u32,
    payload_crc: u32,
}

impl RecordHeader {
    /// The header of `payload`, which must not be longer than 4 GiB.
    pub(super) fn of(at: Point, packets: u32, payload: &[u8], salt: u64) -> Self {
        Self {
            at,
            packets,
            length: payload.len() as u32,
            payload_crc: payload_crc(payload, salt),
        }
    }

    /// The point behind the record.
    pub(super) fn end(&self) -> Point {
        Point {
            record: self.at.record.saturating_add(1),
            packet: self.at.packet.saturating_add(u64::from(self.packets)),
        }
    }

    /// Bytes of the record with its header.
    pub(super) fn size(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.length)
    }

    pub(super) fn fits(&self, payload: &[u8], salt: u64) -> bool {
        self.payload_crc == payload_crc(payload, salt)
    }

    pub(super) fn encode(&self, salt: u64) -> [u8; RECORD_HEADER] {
        let mut bytes = [0; RECORD_HEADER];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        put_u32(&mut bytes, 8, self.payload_crc);
        put_u32(&mut bytes, 12, self.length);
        put_point(&mut bytes, 16, self.at);
        put_u32(&mut bytes, 32, self.packets);
        let crc = header_crc(&bytes, salt);
        put_u32(&mut bytes, 4, crc);
        bytes
    }

    /// `None` where no record begins.
    pub(super) fn decode(bytes: &[u8; RECORD_HEADER], salt: u64) -> Option<Self> {
        let good = bytes[..4] == RECORD_MAGIC && u32_at(bytes, 4) == header_crc(bytes, salt);
        good.then(|| Self {
            at: point_at(bytes, 16),
            packets: u32_at(bytes, 32),
            length: u32_at(bytes, 12),
            payload_crc: u32_at(bytes, 8),
        })
    }
}

/// How far everything is acknowledged, and where in the files that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The higher of two counts.
    pub(super) generation: u64,
    pub(super) salt: u64,
    pub(super) place: Place,
}

/// A point, and where in the files it lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) at: Point,
    /// Number of the segment.
    pub(super) segment: u64,
    /// Offset in it.
    pub(super) offset: u64,
}

impl Slot {
    pub(super) fn encode(&self) -> [u8; SLOT] {
        let mut bytes = [0; SLOT];
        bytes[..8].copy_from_slice(&SLOT_MAGIC);
        put_u64(&mut bytes, 8, self.generation);
        put_u64(&mut bytes, 16, self.salt);
        put_point(&mut bytes, 24, self.place.at);
        put_u64(&mut bytes, 40, self.place.segment);
        put_u64(&mut bytes, 48, self.place.offset);
        let crc = crc32c::crc32c(&bytes[..56]);
        put_u32(&mut bytes, 56, crc);
        bytes
    }

    /// `None` when the bytes are no whole slot.
    pub(super) fn decode(bytes: &[u8; SLOT]) -> Option<Self> {
        let good = bytes[..8] == SLOT_MAGIC && u32_at(bytes, 56) == crc32c::crc32c(&bytes[..56]);
        good.then(|| Self {
            generation: u64_at(bytes, 8),
            salt: u64_at(bytes, 16),
            place: Place {
                at: point_at(bytes, 24),
                segment: u64_at(bytes, 40),
                offset: u64_at(bytes, 48),
            },
        })
    }
}

fn header_crc(bytes: &[u8; RECORD_HEADER], salt: u64) -> u32 {
    crc32c::crc32c_append(salt as u32, &bytes[8..])
}

fn payload_crc(payload: &[u8], salt: u64) -> u32 {
    crc32c::crc32c_append((salt >> 32) as u32, payload)
}

fn put_u32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn put_u64(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

fn put_point(bytes: &mut [u8], at: usize, point: Point) {
    put_u64(bytes, at, point.record);
    put_u64(bytes, at + 8, point.packet);
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

fn point_at(bytes: &[u8], at: usize) -> Point {
    Point {
        record: u64_at(bytes, at),
        packet: u64_at(bytes, at + 8),
    }
}
