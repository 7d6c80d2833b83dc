//! How fast a capture file is replayed.

use std::str::FromStr;
use std::time::{Duration, Instant};

/// Replay rate: `max`, `2x` (timestamps, twice as fast), `50000pps`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pace {
    /// As fast as the workers take it.
    #[default]
    Max,
    /// By the packets' timestamps, this many times faster than they were captured.
    Speed(f64),
    /// This many packets a second, evenly spaced.
    PacketsPerSecond(f64),
}

/// Not a replay rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not a replay rate: give `max`, a speed such as `1x` or `2.5x`, or packets per second such as `50000pps`, each above 0"
)]
pub struct PaceError(String);

impl FromStr for Pace {
    type Err = PaceError;

    fn from_str(text: &str) -> Result<Self, PaceError> {
        let rate = |number: &str| match number.trim().parse::<f64>() {
            Ok(rate) if rate.is_finite() && (1e-6..=1e12).contains(&rate) => Ok(rate),
            _ => Err(PaceError(text.to_owned())),
        };
        match text.trim() {
            "max" => Ok(Self::Max),
            number if number.ends_with("pps") => {
                rate(number.trim_end_matches("pps")).map(Self::PacketsPerSecond)
            }
            number if number.ends_with('x') => rate(&number[..number.len() - 1]).map(Self::Speed),
            _ => Err(PaceError(text.to_owned())),
        }
    }
}

/// Says when each packet of a replay is due.
#[derive(Debug)]
pub(crate) struct Schedule {
    pace: Pace,
    /// When the first packet since the last [`Schedule::rebase`] was due, its timestamp, and the packets since.
    origin: Option<(Instant, u64, u64)>,
}

impl Schedule {
    pub(crate) fn new(pace: Pace) -> Self {
        Self { pace, origin: None }
    }

    /// Starts a new time line: the gap between two files is not waited for.
    pub(crate) fn rebase(&mut self) {
        if matches!(self.pace, Pace::Speed(_)) {
            self.origin = None;
        }
    }

    /// How long to wait before the next packet, whose timestamp is `timestamp_ns`; zero if it is due.
    #[inline]
    pub(crate) fn wait(&mut self, timestamp_ns: u64, now: impl FnOnce() -> Instant) -> Duration {
        let (speed, rate) = match self.pace {
            Pace::Max => return Duration::ZERO,
            Pace::Speed(speed) => (speed, None),
            Pace::PacketsPerSecond(rate) => (1.0, Some(rate)),
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
    fn rates_parse() {
        assert_eq!("max".parse(), Ok(Pace::Max));
        assert_eq!("1x".parse(), Ok(Pace::Speed(1.0)));
        assert_eq!("2.5x".parse(), Ok(Pace::Speed(2.5)));
        assert_eq!("50000pps".parse(), Ok(Pace::PacketsPerSecond(50_000.0)));
        for bad in [
            "", "x", "0x", "-1x", "NaNx", "infx", "pps", "0pps", "10", "1xx", "fast",
        ] {
            assert!(bad.parse::<Pace>().is_err(), "{bad}");
        }
    }

    #[test]
    fn timestamps_set_the_pace() {
        let start = Instant::now();
        let mut schedule = Schedule::new(Pace::Speed(2.0));
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
        let mut schedule = Schedule::new(Pace::PacketsPerSecond(10.0));
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
