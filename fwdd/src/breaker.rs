//! When one processor may be tried: pauses that grow from failure to failure, and a circuit breaker behind them.
//!
//! ```text
//!             failures in a row           time is over, one try
//!   closed ----------------------> open -----------------------> half-open
//!     ^                             ^                               |  |
//!     |                             +----------- failure -----------+  |
//!     +------------------------- a good session -----------------------+
//! ```
//!
//! - Closed: after a failure a short pause, after each further one three times as long, but never longer than the
//!   breaker stays open.
//! - Open: the processor is left alone for its time, then one connection may try.
//! - A session is good when something was acknowledged, or when it has lasted a while: a processor that takes
//!   registrations and breaks every stream is as bad as one that is away.
//! - All times are spread by a quarter in both directions, so that a fleet of nodes does not come back in step.
//!
//! Sans-io: time and chance are arguments.

use std::time::{Duration, Instant};

use lc_daemon::config::CircuitBreaker;
pub(crate) use shm_layout::forwarder::Breaker as State;

/// Pause after the first failure.
const FIRST: Duration = Duration::from_millis(150);
/// Times longer after each further one.
const GROWTH: u32 = 3;

/// The breaker of one processor.
#[derive(Debug)]
pub(crate) struct Breaker {
    limits: CircuitBreaker,
    state: State,
    /// In a row.
    failures: u32,
    not_before: Option<Instant>,
}

impl Breaker {
    pub(crate) fn new(limits: CircuitBreaker) -> Self {
        Self {
            limits,
            state: State::Closed,
            failures: 0,
            not_before: None,
        }
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// From when on the processor may be tried; `None` means at any time.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Whether the processor may be tried.
    pub(crate) fn lets_try(&self, now: Instant) -> bool {
        self.not_before.is_none_or(|at| at <= now)
    }

    /// Notes that a connection is tried, in time or before.
    pub(crate) fn tried(&mut self) {
        if self.state == State::Open {
            self.state = State::HalfOpen;
        }
    }

    /// Notes that a connection did not come about, or was lost. `chance` is a random number from 0 to 1.
    pub(crate) fn failed(&mut self, now: Instant, chance: f64) {
        self.failures = self.failures.saturating_add(1);
        if self.state != State::Closed || self.failures >= self.limits.failures {
            self.state = State::Open;
        }
        let nominal = match self.state {
            State::Open => self.limits.open,
            _ => FIRST
                .saturating_mul(GROWTH.saturating_pow(self.failures - 1))
                .min(self.limits.open),
        };
        self.not_before = Some(now + nominal.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0));
    }

    /// Notes how a session goes, which has lived for `lived` and carried something or not; whether it is good.
    pub(crate) fn lives(&mut self, lived: Duration, carried: bool) -> bool {
        let good = carried || lived >= self.limits.half_open;
        if good {
            *self = Self::new(self.limits);
        }
        good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: CircuitBreaker = CircuitBreaker {
        failures: 4,
        open: Duration::from_secs(30),
        half_open: Duration::from_secs(10),
    };

    /// Fails as soon as it may be tried; the pause after that.
    fn fail(breaker: &mut Breaker, now: &mut Instant, chance: f64) -> Duration {
        *now = breaker.not_before().unwrap_or(*now);
        assert!(breaker.lets_try(*now));
        breaker.tried();
        breaker.failed(*now, chance);
        assert!(!breaker.lets_try(*now));
        breaker.not_before().unwrap() - *now
    }

    #[test]
    fn it_opens_after_so_many_failures_in_a_row() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(LIMITS);
        assert!(breaker.lets_try(now));
        let pauses = [150, 450, 1350].map(Duration::from_millis);
        for pause in pauses {
            assert_eq!(fail(&mut breaker, &mut now, 0.5), pause);
            assert_eq!(breaker.state(), State::Closed);
        }
        assert_eq!(fail(&mut breaker, &mut now, 0.5), LIMITS.open);
        assert_eq!(breaker.state(), State::Open);
    }

    #[test]
    fn a_failure_on_trial_opens_it_again_and_a_good_session_closes_it() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(LIMITS);
        for _ in 0..6 {
            fail(&mut breaker, &mut now, 0.5);
        }
        assert_eq!(breaker.state(), State::Open);
        let open = breaker.not_before().unwrap();
        assert!(!breaker.lets_try(open - Duration::from_millis(1)));
        assert!(breaker.lets_try(open));
        breaker.tried();
        assert_eq!(breaker.state(), State::HalfOpen);
        // A session that is neither old nor of use says nothing.
        assert!(!breaker.lives(Duration::from_secs(9), false));
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(breaker.lives(Duration::from_secs(10), false));
        assert_eq!(breaker.state(), State::Closed);
        // Everything begins anew.
        assert_eq!(fail(&mut breaker, &mut now, 0.5), FIRST);
        assert!(breaker.lives(Duration::ZERO, true));
        assert!(breaker.lets_try(now));
    }

    #[test]
    fn times_are_spread_by_a_quarter() {
        let mut now = Instant::now();
        let once = CircuitBreaker {
            failures: 1,
            ..LIMITS
        };
        for (chance, part) in [(0.0, 0.75), (1.0, 1.25), (7.0, 1.25)] {
            let mut breaker = Breaker::new(once);
            let pause = fail(&mut breaker, &mut now, chance);
            assert_eq!(pause, LIMITS.open.mul_f64(part));
        }
    }

    #[test]
    fn pauses_are_never_longer_than_the_open_time() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(CircuitBreaker {
            failures: u32::MAX,
            ..LIMITS
        });
        for _ in 0..100 {
            assert!(fail(&mut breaker, &mut now, 1.0) <= LIMITS.open.mul_f64(1.25));
            assert_eq!(breaker.state(), State::Closed);
        }
    }
}
