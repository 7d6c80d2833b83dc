//! A TCP segment as it is given, and what became of it.

use std::ops::Range;

use crate::flows::Direction;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;
/// Options of a TCP header (RFC 9293, section 3.1; RFC 7323, section 2.2).
const END_OF_OPTIONS: u8 = 0;
const NO_OPERATION: u8 = 1;
const WINDOW_SCALE: u8 = 3;
/// Largest shift of a window (RFC 7323, section 2.3).
const MOST_SCALE: u8 = 14;

/// A segment of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'a> {
    /// Which way it goes.
    pub direction: Direction,
    /// Sequence number of its SYN or first byte.
    pub seq: u32,
    /// Acknowledgement number; of no meaning without ACK.
    pub ack: u32,
    /// The byte of the header's flags.
    pub flags: u8,
    /// The window field, unscaled.
    pub window: u16,
    /// The window scale option; of no meaning without SYN.
    pub scale: Option<u8>,
    /// What it carries.
    pub payload: &'a [u8],
    /// Packet time in nanoseconds.
    pub time_ns: u64,
    /// What the caller calls the packet, if the ledger is to know it.
    pub token: Option<u64>,
}

impl<'a> Segment<'a> {
    /// A segment whose header stands at the start of `header`, which may go on behind it. `None` if there are less than the 20 bytes of
    /// the shortest header. Options that are cut off or malformed are passed over.
    #[must_use]
    #[inline]
    pub fn read(
        header: &[u8],
        payload: &'a [u8],
        direction: Direction,
        time_ns: u64,
        token: Option<u64>,
    ) -> Option<Self> {
        let fixed: &[u8; 20] = header.first_chunk()?;
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let flags = fixed[13];
        let scale = match flags & SYN {
            0 => None,
            _ => scale(header, usize::from(fixed[12] >> 4) * 4),
        };
        Some(Self {
            direction,
            seq: word(4),
            ack: word(8),
            flags,
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            scale,
            payload,
            time_ns,
            token,
        })
    }

    #[inline]
    pub(super) fn is_plain(&self) -> bool {
        self.flags & (FIN | SYN | RST) == 0
    }

    #[inline]
    pub(super) fn fin(&self) -> bool {
        self.flags & FIN != 0
    }

    #[inline]
    pub(super) fn syn(&self) -> bool {
        self.flags & SYN != 0
    }

    #[inline]
    pub(super) fn rst(&self) -> bool {
        self.flags & RST != 0
    }

    #[inline]
    pub(super) fn acks(&self) -> bool {
        self.flags & ACK != 0
    }

    /// Sequence number of its first byte.
    #[inline]
    pub(super) fn first(&self) -> u32 {
        self.seq.wrapping_add(u32::from(self.syn()))
    }
}

#[cold]
fn scale(header: &[u8], len: usize) -> Option<u8> {
    let mut options = header.get(20..len.min(header.len()))?;
    loop {
        options = match options {
            [] | [END_OF_OPTIONS, ..] => return None,
            [NO_OPERATION, rest @ ..] => rest,
            [WINDOW_SCALE, 3, shift, ..] => return Some((*shift).min(MOST_SCALE)),
            [_, len, ..] => options.get(usize::from(*len).max(2)..)?,
            _ => return None,
        }
    }
}

/// What became of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Which bytes of its direction's stream it carries, as far as they are known: empty without payload, or if it was refused or ignored.
    pub range: Range<u64>,
    /// What was done with them.
    pub fate: Fate,
    /// Whether the ledger has taken in its token. The consumer may have had it forgotten since.
    pub noted: bool,
}

/// What was done with the bytes of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// There are none: it acknowledges, opens or closes.
    Empty,
    /// Some of them were new, and the consumer has them.
    New,
    /// Some of them were new, and wait for what comes before them.
    Waits,
    /// All of them were there before: a retransmission, or a keep-alive.
    Old,
    /// They were not taken in.
    Refused(Refusal),
    /// The consumer does not want them.
    Ignored,
}

/// Why a segment was not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its sequence number is out of reach of what the receiver can expect.
    Far,
    /// It lies behind the end of its stream.
    AfterEnd,
    /// A reset or SYN that does not fit the connection.
    Implausible,
    /// Out of order, and there was no memory for it.
    NoRoom,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(options: &[u8]) -> Vec<u8> {
        let mut header = vec![0x13, 0xc4, 0x13, 0xc5, 0, 0, 0, 7, 0, 0, 0, 9];
        header.extend([((20 + options.len()) as u8 / 4) << 4, SYN, 1, 0, 0, 0, 0, 0]);
        header.extend(options);
        header
    }

    fn scale_of(options: &[u8]) -> Option<u8> {
        let header = header(options);
        let segment = Segment::read(&header, &[], Direction::Request, 0, None).unwrap();
        assert_eq!(
            (segment.seq, segment.ack, segment.window, segment.first()),
            (7, 9, 256, 8)
        );
        segment.scale
    }

    #[test]
    fn the_window_scale_is_found_among_options() {
        assert_eq!(scale_of(&[]), None);
        assert_eq!(scale_of(&[2, 4, 5, 180, 1, 3, 3, 7]), Some(7));
        assert_eq!(scale_of(&[3, 3, 200, 0]), Some(14));
        assert_eq!(scale_of(&[0, 3, 3, 7]), None);
        // Cut off, of no length, too long.
        assert_eq!(scale_of(&[1, 1, 3, 3]), None);
        assert_eq!(scale_of(&[9, 0, 9, 1]), None);
        assert_eq!(scale_of(&[2, 255, 3, 3]), None);
    }

    #[test]
    fn a_short_header_is_no_segment() {
        for len in 0..20 {
            let header = &header(&[])[..len];
            assert!(Segment::read(header, &[], Direction::Request, 0, None).is_none());
        }
    }
}
