//! The batches that the processor has not acknowledged, in the order in which they must arrive.
//!
//! Acknowledgements come one per message and in order, so the next one is always known. A batch gets its number when
//! it is first sent, and keeps it for as long as it lives; a new connection sends all of them again, before anything
//! new.
//!
//! Sans-io: the session sends and receives, this only keeps the books.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::Batch;

/// A batch with its number.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    /// 0 before it was first sent.
    pub(crate) sequence: u64,
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

/// The books of one session.
#[derive(Debug)]
pub(crate) struct Window {
    /// Batches without an acknowledgement, oldest first.
    batches: VecDeque<Numbered>,
    /// How many of them, from the front, went out on this connection.
    sent: usize,
    /// What acknowledgements are due on this connection.
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
            sent: 0,
            due: VecDeque::new(),
            acked: 0,
            bytes: 0,
            most,
        }
    }

    /// A new connection: nothing is on its way any more.
    pub(crate) fn reconnect(&mut self) {
        self.sent = 0;
        self.due.clear();
    }

    /// Whether one more batch may be in flight. One always may, however long.
    pub(crate) fn has_room(&self) -> bool {
        self.batches.is_empty()
            || (self.batches.len() < self.most.batches && self.bytes < self.most.bytes)
    }

    /// Takes in a batch to be sent after all others.
    pub(crate) fn push(&mut self, batch: Batch) {
        self.bytes += batch.bytes;
        self.batches.push_back(Numbered {
            sequence: 0,
            batch: Arc::new(batch),
        });
    }

    /// Whether any batch has not gone out on this connection.
    pub(crate) fn has_unsent(&self) -> bool {
        self.sent < self.batches.len()
    }

    /// The next batch to go out on this connection, which counts as sent from now on; `number` gives a fresh number.
    /// Batches without packets don't go out.
    pub(crate) fn send_next(&mut self, number: impl FnOnce() -> u64) -> Option<Numbered> {
        while let Some(next) = self.batches.get_mut(self.sent) {
            self.sent += 1;
            if next.batch.packets > 0 {
                if next.sequence == 0 {
                    next.sequence = number();
                }
                self.due.push_back(Due {
                    sequence: next.sequence,
                    probe: false,
                });
                return Some(next.clone());
            }
        }
        None
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
                match self.pop_acked(probe) {
                    Some(batch) => Ack::Batch(batch),
                    None => Ack::Probe,
                }
            }
            _ if sequence != 0 && sequence <= self.acked => Ack::Repeated,
            due => Ack::Unexplained {
                expected: due.map(|due| due.sequence),
            },
        }
    }

    fn pop_acked(&mut self, probe: bool) -> Option<Numbered> {
        if probe { None } else { self.pop() }
    }

    /// Takes out the oldest batch if it has nothing to send.
    pub(crate) fn pop_idle(&mut self) -> Option<Numbered> {
        (self.batches.front()?.batch.packets == 0)
            .then(|| self.pop())
            .flatten()
    }

    /// Gives up on the oldest batch. Between connections only.
    pub(crate) fn give_up(&mut self) -> Option<Numbered> {
        self.pop()
    }

    fn pop(&mut self) -> Option<Numbered> {
        let oldest = self.batches.pop_front()?;
        self.sent = self.sent.saturating_sub(1);
        self.bytes -= oldest.batch.bytes;
        Some(oldest)
    }

    /// The oldest batch.
    pub(crate) fn oldest(&self) -> Option<&Numbered> {
        self.batches.front()
    }

    /// Whether all batches are acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Batches and packets without an acknowledgement.
    pub(crate) fn unacked(&self) -> (usize, usize) {
        let packets = self.batches.iter().map(|next| next.batch.packets).sum();
        (self.batches.len(), packets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(packets: usize) -> Batch {
        let mut batch = Batch::default();
        for n in 0..packets as u64 {
            batch.add(0, 100 * n, 100 * (n + 1), 50);
        }
        batch
    }

    fn window(batches: usize) -> Window {
        let mut window = Window::new(Most {
            batches: 8,
            bytes: 1000,
        });
        for _ in 0..batches {
            window.push(batch(1));
        }
        window
    }

    /// Sends everything; new batches get numbers from `number` on.
    fn sent(window: &mut Window, mut number: u64) -> Vec<u64> {
        let send = || {
            let next = window.send_next(|| number)?.sequence;
            number = number.max(next + 1);
            Some(next)
        };
        std::iter::from_fn(send).collect()
    }

    #[test]
    fn a_new_connection_sends_what_was_not_acknowledged_again_and_in_order() {
        let mut window = window(4);
        assert_eq!(sent(&mut window, 1), [1, 2, 3, 4]);
        assert!(matches!(window.acknowledge(1), Ack::Batch(acked) if acked.sequence == 1));
        window.reconnect();
        window.push(batch(1));
        assert_eq!(sent(&mut window, 5), [2, 3, 4, 5]);
        for sequence in 2..=5 {
            assert!(matches!(window.acknowledge(sequence), Ack::Batch(_)));
        }
        assert!(window.is_empty() && window.is_quiet());
    }

    #[test]
    fn only_the_next_answer_settles_a_batch() {
        let mut window = window(3);
        assert_eq!(sent(&mut window, 7), [7, 8, 9]);
        assert!(matches!(
            window.acknowledge(8),
            Ack::Unexplained { expected: Some(7) }
        ));
        assert!(matches!(window.acknowledge(0), Ack::Unexplained { .. }));
        assert!(matches!(window.acknowledge(7), Ack::Batch(_)));
        assert!(matches!(window.acknowledge(7), Ack::Repeated));
        assert_eq!(window.unacked(), (2, 2));
    }

    #[test]
    fn a_probe_between_batches_settles_none_of_them() {
        let mut window = window(2);
        assert_eq!(window.send_next(|| 1).unwrap().sequence, 1);
        window.send_probe(2);
        assert_eq!(sent(&mut window, 3), [3]);
        assert!(matches!(window.acknowledge(1), Ack::Batch(_)));
        assert!(matches!(window.acknowledge(2), Ack::Probe));
        assert!(matches!(window.acknowledge(3), Ack::Batch(acked) if acked.sequence == 3));
    }

    #[test]
    fn what_only_releases_is_settled_in_its_turn() {
        let mut window = window(1);
        let mut skip = Batch::default();
        skip.skip(0, 200, 1);
        window.push(skip);
        assert_eq!(sent(&mut window, 1), [1]);
        assert!(window.pop_idle().is_none());
        window.acknowledge(1);
        assert!(window.pop_idle().is_some());
        assert!(window.is_empty());
    }

    #[test]
    fn room_is_bounded_by_batches_and_by_bytes() {
        assert!(window(7).has_room());
        assert!(!window(8).has_room());
        let mut long = window(1);
        long.push(batch(100));
        assert!(!long.has_room());
    }
}
