//! What comes of a session that can't go on yet: its protocol has to know something first that others tell, such as the secrets of TLS ([`Course::Wait`](super::Course::Wait)).
//!
//! It is kept in the order in which it came, both directions, and told in that order when the session goes on. A connection may have ended by then: its streams are forgotten, so it is
//! remembered here which packets carry which bytes.

use std::ops::Range;

use super::early::Early;
use crate::desk::held::Position;
use crate::flows::Direction;
use crate::reassembly::{Event, Ledger};

/// How long a session waits at most, in nanoseconds of packet time.
pub const PATIENCE_NS: u64 = 10_000_000_000;
/// Most bytes that are kept of a session.
pub const MOST_BYTES: usize = 1 << 20;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Pending {
    events: Early,
    /// Of directions that have ended.
    parts: [Parts; 2],
    has_ended: [bool; 2],
}

impl Pending {
    /// Keeps an event.
    pub fn push(&mut self, time_ns: u64, direction: Direction, event: Event<'_>) {
        self.has_ended[direction as usize] |= matches!(event, Event::End { .. });
        self.events.push(time_ns, direction, event);
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events.bytes()
    }

    /// Whether both directions have ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.has_ended == [true; 2]
    }

    /// If a direction has ended, its packets are remembered here from now on.
    pub fn take_parts(&mut self, direction: Direction, ledger: &mut Ledger<'_>) {
        if self.has_ended[direction as usize] {
            let Parts(parts) = &mut self.parts[direction as usize];
            ledger.forget_first(u64::MAX, |token, range| parts.push((token, range)));
        }
    }

    /// Gives the packet `token`, if it came last in its direction, another name.
    pub fn rename_last(&mut self, direction: Direction, token: Position, other: Position) {
        if let Some((last, _)) = self.parts[direction as usize].0.last_mut()
            && *last == token
        {
            *last = other;
        }
    }

    /// What came, and the packets of directions that have ended.
    #[must_use]
    pub fn into_parts(self) -> (Early, [Parts; 2]) {
        (self.events, self.parts)
    }
}

/// Which packets carry which bytes of a direction that has ended.
#[derive(Debug, Default)]
pub struct Parts(Vec<(Position, Range<u64>)>);

/// Who knows which packets carry which bytes of a direction.
pub trait Carriers {
    /// The first packet that carries the byte at `offset`.
    fn carrier(&self, offset: u64) -> Option<Position>;

    /// Forgets packets in capture order, up to the first that carries something at or behind `offset`, and gives each of them to `each`.
    fn forget_first(&mut self, offset: u64, each: impl FnMut(Position, Range<u64>));

    /// Whether none is left.
    fn is_empty(&self) -> bool;
}

impl Carriers for Ledger<'_> {
    fn carrier(&self, offset: u64) -> Option<Position> {
        self.carriers(offset..offset + 1).next()
    }

    fn forget_first(&mut self, offset: u64, each: impl FnMut(Position, Range<u64>)) {
        Ledger::forget_first(self, offset, each);
    }

    fn is_empty(&self) -> bool {
        Ledger::is_empty(self)
    }
}

impl Carriers for Parts {
    fn carrier(&self, offset: u64) -> Option<Position> {
        let mut parts = self.0.iter();
        let part = parts.find(|(_, range)| range.contains(&offset));
        part.map(|(token, _)| *token)
    }

    fn forget_first(&mut self, offset: u64, mut each: impl FnMut(Position, Range<u64>)) {
        let is_behind = |(_, range): &(Position, Range<u64>)| range.end > offset;
        let end = self.0.iter().position(is_behind);
        for (token, range) in self.0.drain(..end.unwrap_or(self.0.len())) {
            each(token, range);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
