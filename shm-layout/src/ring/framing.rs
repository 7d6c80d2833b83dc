//! How records lie in a byte ring of a power of two: what [`crate::ring`] and [`crate::log`] have in common.
//!
//! ```text
//!   record:  | len u32 | kind u8 | flags u8 | aux u16 | body ... | to a multiple of 8
//! ```
//!
//! A record never wraps: a *pad* record fills the end of the ring. Positions count bytes since the ring was made. Where
//! the bytes lie, and when they may be read or overwritten, is the user's business.

use super::{Full, RingError};

/// Bytes in front of each record's body.
pub const PREAMBLE: usize = 8;
/// Kind of the record that fills the end of the ring; all other kinds belong to the ring's user.
pub(crate) const PAD: u8 = 0xff;

/// The word in front of a record's body.
#[derive(Clone, Copy)]
pub(crate) struct Preamble {
    /// Bytes of the record, preamble included.
    pub(crate) len: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) aux: u16,
}

impl Preamble {
    /// The record that fills the last `len` bytes of the ring.
    #[inline]
    pub(crate) fn of_pad(len: u64) -> Self {
        Self {
            len: len as u32,
            kind: PAD,
            flags: 0,
            aux: 0,
        }
    }

    #[inline]
    pub(crate) fn word(self) -> u64 {
        u64::from(self.len)
            | u64::from(self.kind) << 32
            | u64::from(self.flags) << 40
            | u64::from(self.aux) << 48
    }

    #[inline]
    fn of_word(word: u64) -> Self {
        Self {
            len: word as u32,
            kind: (word >> 32) as u8,
            flags: (word >> 40) as u8,
            aux: (word >> 48) as u16,
        }
    }

    /// Bytes of the body, rounded up to a multiple of 8.
    #[inline]
    pub(crate) fn body_len(self) -> usize {
        self.len as usize - PREAMBLE
    }
}

/// What a new record takes.
pub(crate) struct Space {
    /// Bytes to fill with a pad record first.
    pub(crate) pad: u64,
    /// Bytes of the record.
    pub(crate) len: u64,
}

/// What a record with `body_len` bytes of body takes behind `head`.
#[inline]
pub(crate) fn space(head: u64, body_len: usize, capacity: u64) -> Result<Space, Full> {
    let len = (PREAMBLE + body_len).next_multiple_of(8) as u64;
    if len > capacity / 2 {
        return Err(Full::Always);
    }
    let to_end = capacity - (head & (capacity - 1));
    let pad = if len > to_end { to_end } else { 0 };
    Ok(Space { pad, len })
}

/// The record at `position`, or behind the pad there; with its own position. `None`: only padding up to `head`.
///
/// `position` and `head` are multiples of 8. What is found lies within the ring and before `head`, whatever
/// `word_at` reads.
#[inline]
pub(crate) fn find(
    mut position: u64,
    head: u64,
    capacity: u64,
    word_at: impl Fn(u64) -> u64,
) -> Result<Option<(Preamble, u64)>, RingError> {
    // At most one pad, at the end of the ring, comes before a record.
    for _ in 0..2 {
        if position >= head {
            return Ok(None);
        }
        let preamble = Preamble::of_word(word_at(position));
        let Preamble { len, kind, .. } = preamble;
        let to_end = capacity - (position & (capacity - 1));
        let available = to_end.min(head - position);
        if len < PREAMBLE as u32 || !len.is_multiple_of(8) || u64::from(len) > available {
            return Err(RingError::Length {
                position,
                len,
                available,
            });
        }
        if kind != PAD {
            return Ok(Some((preamble, position)));
        }
        if u64::from(len) != to_end {
            return Err(RingError::Malformed { position, kind });
        }
        position += to_end;
    }
    Err(RingError::Malformed {
        position,
        kind: PAD,
    })
}
