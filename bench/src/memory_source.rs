//! A capture source that reads frames out of memory, again and again, at any speed the rings take. Each time they are later: what they say happens anew.

use std::ops::ControlFlow;

use lc_capd::bpf::{Expression, FilterError, Verdict};
use lc_capd::source::{
    Deliver, FullRing, Interfaces, Packet, Poll, Predecessor, Source, SourceError, State, Status,
};

use crate::generate::Memory;

const ETHERNET: u16 = 1;
/// From the last packet to the first that comes again.
const PAUSE_NS: u64 = 1_000_000;

/// Endless packets from a [`Memory`]. A full ring waits, so what comes out at the other end is the
/// rate that the slowest stage can keep up.
pub struct MemorySource {
    memory: Memory,
    /// How much later its packets are each time, in nanoseconds.
    period_ns: u64,
    interface: u16,
    position: usize,
    /// How much later they are this time.
    later_ns: u64,
    sequence: u64,
    verdict: Verdict,
    delivered: u64,
    rejected: u64,
    stopped: bool,
}

impl MemorySource {
    /// A source that delivers `memory` from its start.
    ///
    /// # Errors
    ///
    /// Where libpcap can't compile the empty expression.
    pub fn new(memory: Memory, interfaces: &Interfaces) -> Result<Self, FilterError> {
        let last = memory.len().checked_sub(1);
        let time_ns = |position| Some(memory.packet(position)?.time_ns);
        let span_ns = last.and_then(|last| time_ns(last)?.checked_sub(time_ns(0)?));
        Ok(Self {
            memory,
            period_ns: span_ns.unwrap_or_default() + PAUSE_NS,
            interface: interfaces.register("memory", ETHERNET),
            position: 0,
            later_ns: 0,
            sequence: 0,
            verdict: Expression::new("", &[]).compile(ETHERNET)?,
            delivered: 0,
            rejected: 0,
            stopped: false,
        })
    }
}

impl Source for MemorySource {
    fn name(&self) -> &str {
        "memory"
    }

    fn full_ring(&self) -> FullRing {
        FullRing::Wait
    }

    fn resume(&mut self, from: &Predecessor) -> bool {
        let len = self.memory.len().max(1) as u64;
        self.sequence = from.next;
        self.position = (from.next % len) as usize;
        self.later_ns = from.next / len * self.period_ns;
        false
    }

    fn position(&self) -> u64 {
        self.sequence
    }

    fn poll(&mut self, max: usize, deliver: &mut Deliver<'_>) -> Result<Poll, SourceError> {
        if self.stopped {
            return Ok(Poll::Finished);
        }
        for _ in 0..max {
            let Some(frame) = self.memory.packet(self.position) else {
                return Ok(Poll::Finished);
            };
            if self.verdict.passes(frame.bytes) {
                let packet = Packet {
                    sequence: self.sequence,
                    timestamp_ns: frame.time_ns + self.later_ns,
                    original_length: frame.bytes.len() as u32,
                    link_type: ETHERNET,
                    interface: self.interface,
                    data: frame.bytes,
                };
                if let ControlFlow::Break(()) = deliver(&packet) {
                    break;
                }
                self.delivered += 1;
            } else {
                self.rejected += 1;
            }
            self.sequence += 1;
            self.position += 1;
            if self.position == self.memory.len() {
                self.position = 0;
                self.later_ns += self.period_ns;
            }
        }
        Ok(Poll::More)
    }

    fn set_filter(&mut self, expression: &Expression) -> Result<(), FilterError> {
        self.verdict = expression.compile(ETHERNET)?;
        Ok(())
    }

    fn status(&mut self) -> Status {
        Status {
            state: State::Up,
            received: self.delivered,
            rejected: self.rejected,
            ..Status::default()
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn leave(&mut self) -> bool {
        false
    }
}
