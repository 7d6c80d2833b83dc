//! When each packet of a replay is due.

use std::time::{Duration, Instant};

use lc_daemon::config::ReplayRate;

/// Says when each packet of a replay is due.
#[derive(Debug)]
pub(crate) struct Schedule {
    rate: ReplayRate,
    /// When the first packet since the last [`Schedule::rebase`] was due, its timestamp, and the packets since.
    origin: Option<(Instant, u64, u64)>,
}

impl Schedule {
    pub(crate) fn new(rate: ReplayRate) -> Self {
        Self { rate, origin: None }
    }

    /// Starts a new time line: the gap between two files is not waited for.
    pub(crate) fn rebase(&mut self) {
        if matches!(self.rate, ReplayRate::Times(_)) {
            self.origin = None;
        }
    }

    /// How long to wait before the next packet, whose timestamp is `timestamp_ns`; zero if it is due.
    #[inline]
    pub(crate) fn wait(&mut self, timestamp_ns: u64, now: impl FnOnce() -> Instant) -> Duration {
        let (speed, rate) = match self.rate {
            ReplayRate::Max => return Duration::ZERO,
            ReplayRate::Times(speed) => (speed, None),
            ReplayRate::PacketsPerSecond(rate) => (1.0, Some(rate)),
        };
        let now = now();
        let (start, first, count) = *self.origin.get_or_insert((now, timestamp_ns, 0));
        let seconds = match rate {
            Some(rate) => count as f64 / rate,
            // A packet without a time, or older than the first, is due at once.
            None => (timestamp_ns as i64).saturating_sub(first as i64).max(0) as f64 / 1e9 / speed,
        };
        let since_start = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        since_start.saturating_sub(now.saturating_duration_since(start))
    }

    /// Counts a packet as sent.
    #[inline]
    pub(crate) fn sent(&mut self) {
        if let Some((_, _, count)) = &mut self.origin {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_set_the_pace() {
        let start = Instant::now();
        let mut schedule = Schedule::new(ReplayRate::Times(2.0));
        assert_eq!(schedule.wait(5_000_000_000, || start), Duration::ZERO);
        assert_eq!(
            schedule.wait(7_000_000_000, || start),
            Duration::from_secs(1)
        );
        assert_eq!(
            schedule.wait(7_000_000_000, || start + Duration::from_millis(1500)),
            Duration::ZERO
        );
        assert_eq!(schedule.wait(0, || start), Duration::ZERO);
        schedule.rebase();
        assert_eq!(schedule.wait(90_000_000_000, || start), Duration::ZERO);
    }

    #[test]
    fn packets_per_second_set_the_pace() {
        let start = Instant::now();
        let mut schedule = Schedule::new(ReplayRate::PacketsPerSecond(10.0));
        assert_eq!(schedule.wait(0, || start), Duration::ZERO);
        schedule.sent();
        assert_eq!(schedule.wait(0, || start), Duration::from_millis(100));
        schedule.sent();
        assert_eq!(
            schedule.wait(0, || start + Duration::from_millis(50)),
            Duration::from_millis(150)
        );
    }
}
