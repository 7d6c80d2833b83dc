//! How long to wait between connections, and how often to say why.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_millis(150);
const LONGEST: Duration = Duration::from_secs(60);
/// A connection that lived this long starts the waiting times anew.
const LASTED: Duration = Duration::from_secs(10);
/// The same error is said again after this time.
const REMIND: Duration = Duration::from_secs(60);

/// Waiting times that double, with jitter so that many nodes don't come back in step.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next waiting time, within a quarter of its nominal length.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let nominal = FIRST
            .saturating_mul(2_u32.saturating_pow(self.failures))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        nominal.mul_f64(rand::random_range(0.75..1.25)).min(LONGEST)
    }

    /// Notes that a connection ended, which lived for `lived` and carried something or not.
    pub(crate) fn connection_ended(&mut self, lived: Duration, carried: bool) {
        if carried || lived >= LASTED {
            self.failures = 0;
        }
    }
}

/// Says an error when it is new, and reminds of it now and then.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    text: String,
    said: Option<Instant>,
    attempts: u64,
}

impl Outage {
    /// Takes note of a failed attempt. Returns how many there were if it is time to say so.
    pub(crate) fn failed(&mut self, text: &str, now: Instant) -> Option<u64> {
        self.attempts += 1;
        let reminded = self.said.is_some_and(|said| now - said < REMIND);
        if self.text == text && reminded {
            return None;
        }
        (self.text, self.said) = (text.to_owned(), Some(now));
        Some(self.attempts)
    }

    /// Takes note of a success. Returns how many attempts had failed before.
    pub(crate) fn ended(&mut self) -> u64 {
        std::mem::take(self).attempts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_minute_and_start_anew_after_success() {
        let mut backoff = Backoff::default();
        let mut nominal = FIRST;
        for _ in 0..20 {
            let delay = backoff.next_delay();
            assert!(delay >= nominal.mul_f64(0.74) && delay <= nominal.mul_f64(1.26));
            assert!(delay <= LONGEST);
            nominal = (2 * nominal).min(LONGEST);
        }
        backoff.connection_ended(Duration::from_secs(1), false);
        assert!(backoff.next_delay() > Duration::from_secs(40));
        backoff.connection_ended(Duration::from_secs(1), true);
        assert!(backoff.next_delay() < Duration::from_millis(200));
    }

    #[test]
    fn an_error_is_said_once_until_it_changes() {
        let mut outage = Outage::default();
        let now = Instant::now();
        assert_eq!(outage.failed("refused", now), Some(1));
        assert_eq!(outage.failed("refused", now), None);
        assert_eq!(outage.failed("timed out", now), Some(3));
        assert_eq!(outage.failed("timed out", now + REMIND), Some(4));
        assert_eq!(outage.ended(), 4);
        assert_eq!(outage.ended(), 0);
    }
}
