//! What the processor's flow control asks for, and for how long it is heeded.
//!
//! - PAUSE: nothing but a probe each second. Signals come only with answers, so without probes a pause would never end.
//!   Any other signal ends it.
//! - SLOW: a short delay before each batch, for a limited time: a processor may say SLOW for ever, and that must
//!   not throttle for ever. When the time is over, only another signal makes SLOW count again.
//!
//! Sans-io: time is an argument.

use std::time::{Duration, Instant};

use lc_proto::data::FlowControl;

/// Between two probes.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Before each batch while SLOW counts.
const SLOW_DELAY: Duration = Duration::from_millis(10);
/// How long an unbroken row of SLOW counts.
const SLOW_PATIENCE: Duration = Duration::from_secs(5);

/// State of one connection.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    paused: bool,
    /// When the present row of SLOW began.
    slow_since: Option<Instant>,
    last_sent: Option<Instant>,
}

/// What may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// A batch, now.
    Open,
    /// A batch, from this moment on.
    BatchAt(Instant),
    /// A probe, from this moment on.
    ProbeAt(Instant),
}

impl Flow {
    /// Takes in a signal.
    pub(crate) fn heed(&mut self, signal: FlowControl, now: Instant) {
        self.paused = signal == FlowControl::FlowPause;
        self.slow_since = match signal {
            FlowControl::FlowSlow => Some(self.slow_since.unwrap_or(now)),
            _ => None,
        };
    }

    /// Notes that a batch or a probe was sent.
    pub(crate) fn sent(&mut self, now: Instant) {
        self.last_sent = Some(now);
    }

    /// Whether the processor asked for a pause.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// What may be sent now.
    pub(crate) fn gate(&self, now: Instant) -> Gate {
        let last = self.last_sent.unwrap_or(now);
        if self.paused {
            return Gate::ProbeAt(last + PROBE_INTERVAL);
        }
        match self.slow_since {
            Some(since) if now < since + SLOW_PATIENCE && now < last + SLOW_DELAY => {
                Gate::BatchAt(last + SLOW_DELAY)
            }
            _ => Gate::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_lets_probes_through_and_ends_with_any_other_signal() {
        let now = Instant::now();
        for signal in [
            FlowControl::FlowContinue,
            FlowControl::FlowSlow,
            FlowControl::FlowResume,
        ] {
            let mut flow = Flow::default();
            flow.sent(now);
            flow.heed(FlowControl::FlowPause, now);
            assert_eq!(flow.gate(now), Gate::ProbeAt(now + PROBE_INTERVAL));
            flow.heed(signal, now);
            assert!(!matches!(flow.gate(now), Gate::ProbeAt(_)), "{signal:?}");
        }
    }

    #[test]
    fn endless_slow_throttles_for_a_while_only() {
        let begin = Instant::now();
        let mut flow = Flow::default();
        let mut delayed = Duration::ZERO;
        for second in 0..60 {
            let now = begin + Duration::from_secs(second);
            flow.heed(FlowControl::FlowSlow, now);
            flow.sent(now);
            if let Gate::BatchAt(at) = flow.gate(now) {
                delayed += at - now;
                assert_eq!(flow.gate(at), Gate::Open);
            }
        }
        assert!(!delayed.is_zero() && delayed <= Duration::from_millis(50));
        // Another signal makes it count again.
        let now = begin + Duration::from_secs(61);
        flow.heed(FlowControl::FlowContinue, now);
        flow.heed(FlowControl::FlowSlow, now);
        flow.sent(now);
        assert!(matches!(flow.gate(now), Gate::BatchAt(_)));
    }
}
