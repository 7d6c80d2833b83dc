//! What has come of a connection before it is known what it carries.

use crate::flows::Direction;
use crate::reassembly::{End, Event};

/// Events in the order in which they came.
#[derive(Debug, Default)]
pub struct Early {
    events: Vec<(Direction, Kept)>,
}

#[derive(Debug)]
enum Kept {
    Data(u64, Vec<u8>),
    Gap(u64, Option<u64>),
    End(u64, End),
}

impl Early {
    /// Keeps an event.
    pub fn push(&mut self, direction: Direction, event: Event<'_>) {
        let kept = match event {
            Event::Data { offset, bytes } => Kept::Data(offset, bytes.to_vec()),
            Event::Gap { offset, len } => Kept::Gap(offset, len),
            Event::End { offset, reason } => Kept::End(offset, reason),
        };
        self.events.push((direction, kept));
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let bytes = |(_, kept): &(Direction, Kept)| match kept {
            Kept::Data(_, bytes) => bytes.len(),
            Kept::Gap(..) | Kept::End(..) => 0,
        };
        self.events.iter().map(bytes).sum()
    }

    /// The events.
    pub fn iter(&self) -> impl Iterator<Item = (Direction, Event<'_>)> {
        self.events.iter().map(|(direction, kept)| {
            let event = match kept {
                Kept::Data(offset, bytes) => Event::Data {
                    offset: *offset,
                    bytes,
                },
                Kept::Gap(offset, len) => Event::Gap {
                    offset: *offset,
                    len: *len,
                },
                Kept::End(offset, reason) => Event::End {
                    offset: *offset,
                    reason: *reason,
                },
            };
            (*direction, event)
        })
    }
}
