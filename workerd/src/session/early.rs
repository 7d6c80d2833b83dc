//! What has come of a connection and is told later: when it is known what it carries.

use crate::flows::Direction;
use crate::reassembly::{End, Event};

/// Events in the order in which they came.
#[derive(Debug, Default)]
pub struct Early {
    events: Vec<(u64, Direction, Kept)>,
    bytes: usize,
}

#[derive(Debug)]
enum Kept {
    Data(u64, Vec<u8>),
    Gap(u64, Option<u64>),
    End(u64, End),
}

impl Early {
    /// Keeps an event that was captured at `time_ns`.
    pub fn push(&mut self, time_ns: u64, direction: Direction, event: Event<'_>) {
        let kept = match event {
            Event::Data { offset, bytes } => {
                self.bytes += bytes.len();
                Kept::Data(offset, bytes.to_vec())
            }
            Event::Gap { offset, len } => Kept::Gap(offset, len),
            Event::End { offset, reason } => Kept::End(offset, reason),
        };
        self.events.push((time_ns, direction, kept));
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The events, and when they were captured.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Direction, Event<'_>)> {
        self.events.iter().map(|(time_ns, direction, kept)| {
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
            (*time_ns, *direction, event)
        })
    }
}
