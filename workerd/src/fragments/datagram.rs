//! One datagram on its way to being whole.

use crate::decode::Decoded;

use super::piece::Piece;

/// Most packets that one datagram is waited for with: a payload has 8192 places for fragments.
const MOST_TOKENS: usize = 8192 + 1024;

/// A stretch of the payload that has come.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    start: usize,
    end: usize,
    /// Where its bytes are kept.
    at: usize,
}

/// See the module. Memory goes with the bytes that have come, not with the places they claim.
#[derive(Debug)]
pub(super) struct Datagram {
    pub(super) started_ns: u64,
    /// Tells this datagram from others that had the same key before.
    pub(super) serial: u64,
    /// What was decoded of the fragment that came first.
    pub(super) carrier: Decoded,
    /// The protocol that the first fragment names, or any before it has come.
    pub(super) protocol: u8,
    pub(super) tokens: Vec<u64>,
    /// Its fragments overlapped and it may not: nothing is kept, and what comes of it is refused.
    pub(super) is_spoilt: bool,
    /// Where the payload ends, once the last fragment has come.
    end: Option<usize>,
    /// The largest end of a stretch.
    reach: usize,
    received: usize,
    /// By place, none touching another's bytes.
    stretches: Vec<Stretch>,
    bytes: Vec<u8>,
}

/// What became of a fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// More must come.
    Waiting,
    /// It had come before.
    Duplicate,
    /// It overlaps with others, of which the first counts, and more must come.
    Overlap,
    /// Nothing is missing; it may have overlapped with others.
    Whole { overlap: bool },
    /// It contradicts where the datagram ends.
    EndsElsewhere,
    /// The datagram must not be completed.
    Spoilt,
    /// Too many packets claim to be part of it.
    TooMany,
}

impl Datagram {
    pub(super) fn new(carrier: Decoded, protocol: u8, started_ns: u64, serial: u64) -> Self {
        Self {
            started_ns,
            serial,
            carrier,
            protocol,
            tokens: Vec::new(),
            is_spoilt: false,
            end: None,
            reach: 0,
            received: 0,
            stretches: Vec::new(),
            bytes: Vec::new(),
        }
    }

    /// Bytes of memory beside the record itself.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.stretches.capacity() * size_of::<Stretch>()
            + self.tokens.capacity() * size_of::<u64>()
    }

    /// Takes a fragment that `tokens` carried.
    pub(super) fn add(&mut self, piece: &Piece<'_>, tokens: &[u64]) -> Added {
        if self.is_spoilt {
            return Added::Spoilt;
        }
        if self.tokens.len() + tokens.len() > MOST_TOKENS {
            return Added::TooMany;
        }
        let is_v6 = piece.key.is_v6();
        let (start, end) = (piece.offset, piece.offset + piece.payload.len());
        let is_beyond = self.end.is_some_and(|known| end > known);
        let ends_elsewhere =
            !piece.more && (self.end.is_some_and(|known| end != known) || self.reach > end);
        if is_beyond || ends_elsewhere {
            return match is_v6 {
                true => self.spoil(),
                false => Added::EndsElsewhere,
            };
        }
        let added = match self.meets(start, end) {
            None => Added::Waiting,
            Some(_) if self.is_duplicate(start, piece.payload) => Added::Duplicate,
            Some(_) if is_v6 => return self.spoil(),
            Some(_) => Added::Overlap,
        };
        self.tokens.extend_from_slice(tokens);
        if start == 0 && added != Added::Duplicate {
            self.protocol = piece.protocol;
        }
        self.fill(start, piece.payload);
        self.reach = self.reach.max(end);
        if !piece.more {
            self.end = Some(end);
        }
        match self.end {
            Some(end) if self.received == end => Added::Whole {
                overlap: added == Added::Overlap,
            },
            _ => added,
        }
    }

    /// Puts the payload together into `whole`.
    pub(super) fn assemble(&self, whole: &mut Vec<u8>) {
        whole.clear();
        for stretch in &self.stretches {
            let len = stretch.end - stretch.start;
            let bytes = self.bytes.get(stretch.at..stretch.at + len);
            whole.extend_from_slice(bytes.unwrap_or_default());
        }
    }

    fn spoil(&mut self) -> Added {
        self.is_spoilt = true;
        self.bytes = Vec::new();
        self.stretches = Vec::new();
        Added::Spoilt
    }

    /// The first stretch with bytes of `start..end`, by its number.
    fn meets(&self, start: usize, end: usize) -> Option<usize> {
        let first = self
            .stretches
            .partition_point(|stretch| stretch.end <= start);
        let stretch = self.stretches.get(first)?;
        (stretch.start < end).then_some(first)
    }

    /// Whether all of these bytes have come, and were the same.
    fn is_duplicate(&self, start: usize, payload: &[u8]) -> bool {
        let end = start + payload.len();
        let mut at = start;
        let first = self
            .stretches
            .partition_point(|stretch| stretch.end <= start);
        for stretch in &self.stretches[first..] {
            if at >= end || stretch.start > at {
                break;
            }
            let until = stretch.end.min(end);
            let from = stretch.at + (at - stretch.start);
            if self.bytes.get(from..from + (until - at)) != payload.get(at - start..until - start) {
                return false;
            }
            at = until;
        }
        at >= end
    }

    /// Keeps those of the bytes that have not come before.
    fn fill(&mut self, start: usize, payload: &[u8]) {
        let end = start + payload.len();
        let mut at = start;
        let mut number = self
            .stretches
            .partition_point(|stretch| stretch.end <= start);
        while at < end {
            let next = self.stretches.get(number).copied();
            let until = next.map_or(end, |next| next.start.min(end));
            if at < until {
                let stretch = Stretch {
                    start: at,
                    end: until,
                    at: self.bytes.len(),
                };
                let bytes = payload.get(at - start..until - start);
                self.bytes.extend_from_slice(bytes.unwrap_or_default());
                self.stretches.insert(number, stretch);
                self.received += until - at;
                number += 1;
            }
            match next {
                Some(next) if next.start < end => at = next.end,
                _ => break,
            }
            number += 1;
        }
    }
}
