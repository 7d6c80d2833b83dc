//! The batches that are on their way over the present connection, in the order in which they were sent.
//!
//! Acknowledgements come one per message and in order, so the next one is always known.
//!
//! Sans-io: the session sends and receives, this only keeps the books.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::Batch;

/// What a batch keeps from its first sending to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// The batch's number.
    pub(crate) sequence: u64,
    /// Where shared memory says what it holds.
    pub(crate) slot: u32,
}

/// A batch with its ticket.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    pub(crate) ticket: Ticket,
    pub(crate) batch: Arc<Batch>,
}

/// What an acknowledgement meant.
#[derive(Debug)]
pub(crate) enum Ack {
    /// The processor has the oldest batch.
    Batch(Numbered),
    /// It answered a probe.
    Probe,
    /// It repeated an earlier answer.
    Repeated,
    /// It answered something that was not asked.
    Unexplained {
        /// What should have come; `None` when nothing was waiting.
        expected: Option<u64>,
    },
}

/// The books of one connection.
#[derive(Debug)]
pub(crate) struct Window {
    /// Batches without an acknowledgement, oldest first.
    batches: VecDeque<Numbered>,
    /// What acknowledgements are due.
    due: VecDeque<Due>,
    /// Highest number acknowledged.
    acked: u64,
    /// Encoded bytes of the batches.
    bytes: usize,
    most: Most,
}

/// Bounds of a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) batches: usize,
    pub(crate) bytes: usize,
}

#[derive(Debug)]
struct Due {
    sequence: u64,
    probe: bool,
}

impl Window {
    pub(crate) fn new(most: Most) -> Self {
        Self {
            batches: VecDeque::new(),
            due: VecDeque::new(),
            acked: 0,
            bytes: 0,
            most,
        }
    }

    /// The connection is over: nothing is on its way any more. Gives what was not acknowledged, oldest first.
    pub(crate) fn disconnect(&mut self) -> VecDeque<Numbered> {
        self.due.clear();
        self.bytes = 0;
        std::mem::take(&mut self.batches)
    }

    /// Whether one more batch may be sent. One always may, however long.
    pub(crate) fn has_room(&self) -> bool {
        self.batches.is_empty()
            || (self.batches.len() < self.most.batches && self.bytes < self.most.bytes)
    }

    /// Notes that a batch goes out.
    pub(crate) fn send(&mut self, numbered: Numbered) {
        self.due.push_back(Due {
            sequence: numbered.ticket.sequence,
            probe: false,
        });
        self.bytes += numbered.batch.bytes;
        self.batches.push_back(numbered);
    }

    /// Notes that a message without packets goes out.
    pub(crate) fn send_probe(&mut self, sequence: u64) {
        self.due.push_back(Due {
            sequence,
            probe: true,
        });
    }

    /// Whether every message of this connection was answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.due.is_empty()
    }

    /// Takes in an acknowledgement.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> Ack {
        match self.due.front() {
            Some(due) if due.sequence == sequence => {
                let probe = due.probe;
                self.due.pop_front();
                self.acked = self.acked.max(sequence);
                let batch = if probe { None } else { self.pop() };
                batch.map_or(Ack::Probe, Ack::Batch)
            }
            _ if sequence != 0 && sequence <= self.acked => Ack::Repeated,
            due => Ack::Unexplained {
                expected: due.map(|due| due.sequence),
            },
        }
    }

    /// Gives up on the oldest batch. Only when nothing more is received on this connection.
    pub(crate) fn give_up(&mut self) -> Option<Numbered> {
        self.pop()
    }

    fn pop(&mut self) -> Option<Numbered> {
        let oldest = self.batches.pop_front()?;
        self.bytes -= oldest.batch.bytes;
        Some(oldest)
    }

    /// The oldest batch.
    pub(crate) fn oldest(&self) -> Option<&Numbered> {
        self.batches.front()
    }

    /// The oldest batch whose packets are still in the rings.
    pub(crate) fn oldest_in_rings(&self) -> Option<&Numbered> {
        // Those on disk come first.
        let on_disk = |numbered: &Numbered| numbered.batch.record().is_some();
        self.batches.get(self.batches.partition_point(on_disk))
    }

    /// Whether all batches are acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(sequence: u64) -> Numbered {
        let mut batch = Batch::default();
        batch.add(0, 100 * sequence, 100 * (sequence + 1), 50);
        Numbered {
            ticket: Ticket {
                sequence,
                slot: sequence as u32,
            },
            batch: Arc::new(batch),
        }
    }

    fn window(sent: impl IntoIterator<Item = u64>) -> Window {
        let mut window = Window::new(Most {
            batches: 8,
            bytes: 1000,
        });
        sent.into_iter()
            .for_each(|sequence| window.send(numbered(sequence)));
        window
    }

    #[test]
    fn what_was_not_acknowledged_comes_back_in_order() {
        let mut window = window(1..=4);
        assert!(matches!(window.acknowledge(1), Ack::Batch(acked) if acked.ticket.sequence == 1));
        let back = window.disconnect();
        let back: Vec<_> = back.iter().map(|one| one.ticket.sequence).collect();
        assert_eq!(back, [2, 3, 4]);
        assert!(window.is_empty() && window.is_quiet() && window.has_room());
    }

    #[test]
    fn only_the_next_answer_settles_a_batch() {
        let mut window = window(7..=9);
        assert!(matches!(
            window.acknowledge(8),
            Ack::Unexplained { expected: Some(7) }
        ));
        assert!(matches!(window.acknowledge(0), Ack::Unexplained { .. }));
        assert!(matches!(window.acknowledge(7), Ack::Batch(_)));
        assert!(matches!(window.acknowledge(7), Ack::Repeated));
        assert_eq!(window.disconnect().len(), 2);
    }

    #[test]
    fn a_probe_between_batches_settles_none_of_them() {
        let mut window = window([1]);
        window.send_probe(2);
        window.send(numbered(3));
        assert!(matches!(window.acknowledge(1), Ack::Batch(_)));
        assert!(matches!(window.acknowledge(2), Ack::Probe));
        assert!(matches!(window.acknowledge(3), Ack::Batch(acked) if acked.ticket.sequence == 3));
    }

    #[test]
    fn room_is_bounded_by_batches_and_by_bytes() {
        assert!(window(0..7).has_room());
        assert!(!window(0..8).has_room());
        let mut long = window([0]);
        let mut batch = Batch::default();
        batch.add(0, 0, 5000, 4000);
        long.send(Numbered {
            batch: Arc::new(batch),
            ..numbered(1)
        });
        assert!(!long.has_room());
    }

    #[test]
    fn the_oldest_in_the_rings_is_behind_those_on_disk() {
        let window = window(0..3);
        assert_eq!(
            window.oldest_in_rings().map(|one| one.ticket.sequence),
            Some(0)
        );
        for sequence in 0..3 {
            let batch = &window.batches[sequence as usize].batch;
            batch.move_to_disk(sequence, Vec::new().into());
            let next = window.oldest_in_rings().map(|one| one.ticket.sequence);
            assert_eq!(next, Some(sequence + 1).filter(|next| *next < 3));
        }
    }
}
