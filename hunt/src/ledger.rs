//! The ledger: every packet's fate, from the kernel to the processor's acknowledgement.
//!
//! | stage | comes in | goes out |
//! |---|---|---|
//! | kernel | received | dropped, lost with the socket of a capd that died, filtered here, captured |
//! | capture | captured | rx ring full, too long, steered |
//! | workers | steered | forwarded, filtered by reason, lost by reason, waiting in rx rings, or held until there is a verdict on their call |
//! | forwarder | forwarded | acknowledged, written to disk, dropped, waiting in tx rings or for an acknowledgement |
//! | disk buffer | written to disk, found there at the start | acknowledged, dropped, lost by damage, waiting |
//!
//! A stage balances when what came in equals what went out. While packets flow, its counters are read
//! one after the other, so that a stage is judged only by what can't be explained by movement: more out
//! than in. When nothing waits any more, it must balance to the packet.

use lc_daemon::attach::Observer;
use serde::Serialize;
use shm_layout::commit::Torn;
use shm_layout::counters::{CaptureCounter, ForwardCounter, WorkerCounter};
use std::fmt;

/// One reading of all stages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ledger {
    /// In the order of a packet's way.
    pub stages: Vec<Stage>,
    /// Whether every stage balances.
    pub balanced: bool,
    /// Whether no packet is under way.
    pub quiet: bool,
    /// Whether the capture has ended and everything captured has found its end.
    pub complete: bool,
}

/// What came into a stage and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Stage {
    /// What the stage takes in, such as `captured`.
    pub name: &'static str,
    /// Packets that came in.
    pub incoming: u64,
    /// Packets by outcome.
    pub outcomes: Vec<Outcome>,
    /// Packets that came in and have no outcome yet.
    pub waiting: u64,
    /// Those of them that wait for a verdict on their call.
    pub held: u64,
    /// Those of `incoming` that are no packets, but further SIP messages of a segment that several begin in.
    pub told_apart: u64,
    /// Whether the numbers can be true.
    pub balanced: bool,
}

/// One way out of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What became of the packets, such as `steered`.
    pub name: &'static str,
    /// How many.
    pub packets: u64,
}

impl Ledger {
    /// Reads all counters, the end of the way first, so that a packet that moves meanwhile is missing
    /// from a stage's outcomes, never counted twice.
    ///
    /// # Errors
    /// [`Torn`]: a process was too busy to be read; try again.
    pub fn read(observer: &Observer) -> Result<Self, Torn> {
        let forwarder = observer.forwarder.commit()?;
        let workers = observer
            .workers
            .iter()
            .map(|worker| worker.commit())
            .collect::<Result<Vec<_>, _>>()?;
        let queues = 0..usize::from(observer.geometry.queues);
        let ended = queues
            .clone()
            .all(|queue| observer.session.queue_state(queue).0.has_ended());
        let captures = queues
            .map(|queue| {
                observer
                    .session
                    .queue_commit(queue, observer.geometry.workers)
            })
            .collect::<Result<Vec<_>, _>>()?;

        let capture = |counter| {
            captures
                .iter()
                .map(|commit| commit.get(counter))
                .sum::<u64>()
        };
        let worker = |counter| {
            workers
                .iter()
                .map(|commit| commit.get(counter))
                .sum::<u64>()
        };
        let worker_count = workers.len();
        let steered = captures
            .iter()
            .map(|commit| {
                (0..worker_count)
                    .map(|worker| commit.steered(worker))
                    .sum::<u64>()
            })
            .sum::<u64>();

        let captured = capture(CaptureCounter::Captured);
        let mut stages = Vec::new();
        let received = capture(CaptureCounter::KernelReceived);
        if received > 0 {
            stages.push(Stage::of_kernel(
                received,
                vec![
                    ("dropped by kernel", capture(CaptureCounter::KernelDropped)),
                    ("lost with socket", capture(CaptureCounter::LostWithSocket)),
                    ("filtered", capture(CaptureCounter::Rejected)),
                    ("captured", captured),
                ],
            ));
        }
        stages.push(Stage::new(
            "captured",
            captured,
            vec![
                ("rx ring full", capture(CaptureCounter::RingFull)),
                ("too long", capture(CaptureCounter::TooLong)),
                ("steered", steered),
            ],
        ));
        // Messages without a packet of their own are forwarded as well, but were never captured.
        let forwarded = worker(WorkerCounter::Forwarded);
        let apart = worker(WorkerCounter::ToldApart);
        let mut outcomes = vec![
            ("forwarded", forwarded.saturating_sub(apart)),
            ("no match", worker(WorkerCounter::FilteredNoMatch)),
            ("by policy", worker(WorkerCounter::FilteredByPolicy)),
            ("too long", worker(WorkerCounter::LostTooLong)),
            ("quarantined", worker(WorkerCounter::Quarantined)),
            ("corrupt", worker(WorkerCounter::CorruptRecords)),
            ("shed", worker(WorkerCounter::Shed)),
        ];
        // Only where calls are followed.
        for (name, counter) in [
            ("shed by call", WorkerCounter::ShedByCall),
            ("dropped while held", WorkerCounter::HeldDropped),
        ] {
            let packets = worker(counter);
            if packets > 0 {
                outcomes.push((name, packets));
            }
        }
        let settled = [
            WorkerCounter::HeldForwarded,
            WorkerCounter::HeldReleased,
            WorkerCounter::HeldDropped,
        ];
        let settled = settled.into_iter().map(worker).sum();
        stages.push(
            Stage::new("steered", steered, outcomes).holding(worker(WorkerCounter::Held), settled),
        );
        let forward = |counter| forwarder.get(counter);
        let acknowledged = forward(ForwardCounter::Acked);
        let from_disk = forward(ForwardCounter::DiskDelivered);
        let stored = forward(ForwardCounter::DiskStored);
        let outcomes = vec![
            ("acknowledged", acknowledged.saturating_sub(from_disk)),
            ("to disk", stored),
            ("dropped", forward(ForwardCounter::Dropped)),
            ("corrupt", forward(ForwardCounter::CorruptRecords)),
        ];
        stages.push(Stage {
            told_apart: apart,
            ..Stage::new("forwarded", forwarded, outcomes)
        });
        let on_disk = stored + forward(ForwardCounter::DiskRecovered);
        if on_disk > 0 {
            stages.push(Stage::new(
                "on disk",
                on_disk,
                vec![
                    ("acknowledged", from_disk),
                    ("dropped", forward(ForwardCounter::DiskDropped)),
                    ("lost by damage", forward(ForwardCounter::DiskLost)),
                ],
            ));
        }

        let rings_empty = workers.iter().enumerate().all(|(worker, commit)| {
            commit.tx_head() == forwarder.tx_tail(worker)
                && captures
                    .iter()
                    .enumerate()
                    .all(|(queue, capture)| capture.head(worker) == commit.rx_tail(queue))
        });
        let balanced = stages.iter().all(|stage| stage.balanced);
        let none_held = stages.iter().all(|stage| stage.held == 0);
        let quiet = rings_empty && stages.iter().all(|stage| stage.waiting == 0);
        Ok(Self {
            stages,
            balanced,
            quiet,
            complete: ended && rings_empty && none_held && forwarder.on_disk() == 0,
        })
    }

    /// Packets captured so far.
    #[must_use]
    pub fn captured(&self) -> u64 {
        self.stages
            .iter()
            .find(|stage| stage.name == "captured")
            .map_or(0, |stage| stage.incoming)
    }

    /// Packets of [`Ledger::captured`] whose end is known.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let waiting: u64 = self
            .stages
            .iter()
            .filter(|stage| stage.name != "received")
            .map(|stage| stage.waiting)
            .sum();
        self.captured().saturating_sub(waiting)
    }
}

impl Stage {
    fn new(name: &'static str, incoming: u64, outcomes: Vec<(&'static str, u64)>) -> Self {
        let outgoing = outcomes.iter().map(|(_, packets)| packets).sum::<u64>();
        let outcomes = outcomes
            .into_iter()
            .map(|(name, packets)| Outcome { name, packets })
            .collect();
        let waiting = incoming.saturating_sub(outgoing);
        Self {
            name,
            incoming,
            outcomes,
            waiting,
            held: 0,
            told_apart: 0,
            balanced: outgoing <= incoming,
        }
    }

    /// The same with `held` packets put aside so far, of which `settled` have an outcome.
    fn holding(mut self, held: u64, settled: u64) -> Self {
        self.held = held.saturating_sub(settled);
        self.balanced &= settled <= held && self.held <= self.waiting;
        self
    }

    /// The kernel's counters are read about once a second, so that capture may be ahead of them.
    fn of_kernel(received: u64, outcomes: Vec<(&'static str, u64)>) -> Self {
        let outgoing = outcomes.iter().map(|(_, packets)| packets).sum();
        Self::new("received", received.max(outgoing), outcomes)
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            write!(f, "{:>10} {:>12} =", stage.name, stage.incoming)?;
            for (n, outcome) in stage.outcomes.iter().enumerate() {
                let plus = if n > 0 { " +" } else { "" };
                write!(f, "{plus} {} {}", outcome.packets, outcome.name)?;
            }
            if stage.waiting > 0 {
                write!(f, " + {} waiting", stage.waiting)?;
            }
            if stage.held > 0 {
                write!(f, " ({} of them for a verdict on their call)", stage.held)?;
            }
            if stage.told_apart > 0 {
                write!(
                    f,
                    " (with {} messages apart from their packets)",
                    stage.told_apart
                )?;
            }
            writeln!(
                f,
                "{}",
                if stage.balanced {
                    ""
                } else {
                    "   DOES NOT BALANCE"
                }
            )?;
        }
        let verdict = match (self.balanced, self.quiet) {
            (false, _) => "the ledger does not balance",
            (true, true) => "the ledger balances, nothing is under way",
            (true, false) => "the ledger balances, packets are under way",
        };
        writeln!(f, "{verdict}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_packets_wait_and_are_told_apart() {
        let steered = || Stage::new("steered", 10, vec![("forwarded", 5)]);
        let stage = steered().holding(7, 4);
        assert_eq!((stage.waiting, stage.held, stage.balanced), (5, 3, true));
        let ledger = Ledger {
            stages: vec![stage],
            balanced: true,
            quiet: false,
            complete: false,
        };
        let line = "10 = 5 forwarded + 5 waiting (3 of them for a verdict on their call)\n";
        assert!(ledger.to_string().contains(line), "{ledger}");
    }

    #[test]
    fn messages_apart_from_their_packets_are_named() {
        let ledger = Ledger {
            stages: vec![Stage {
                told_apart: 2,
                ..Stage::new("forwarded", 7, vec![("acknowledged", 7)])
            }],
            balanced: true,
            quiet: true,
            complete: true,
        };
        let line = "7 = 7 acknowledged (with 2 messages apart from their packets)\n";
        assert!(ledger.to_string().contains(line), "{ledger}");
    }

    #[test]
    fn more_held_than_can_be_does_not_balance() {
        let steered = || Stage::new("steered", 10, vec![("forwarded", 5)]);
        assert!(!steered().holding(6, 0).balanced);
        assert!(!steered().holding(4, 5).balanced);
        assert!(steered().holding(5, 0).balanced);
    }
}
