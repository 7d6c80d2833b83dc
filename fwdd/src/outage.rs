//! How often to say why a processor can't be used.

use std::time::{Duration, Instant};

/// The same error is said again after this time.
const REMIND: Duration = Duration::from_secs(60);

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
