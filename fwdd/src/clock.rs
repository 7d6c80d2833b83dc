//! Noticing that the wall clock was set.

use std::time::{Duration, Instant, SystemTime};

/// The wall clock may drift this far from the steady one before the node registers again.
const CLOCK_STEP: Duration = Duration::from_secs(10);

/// The wall clock against the steady one.
pub(crate) struct Clock {
    wall: SystemTime,
    steady: Instant,
}

impl Clock {
    pub(crate) fn now() -> Self {
        Self {
            wall: SystemTime::now(),
            steady: Instant::now(),
        }
    }

    /// Whether the wall clock was set, or the machine slept, since the last time that this was said.
    pub(crate) fn stepped(&mut self) -> bool {
        let now = Self::now();
        let expected = self.wall + (now.steady - self.steady);
        let off = match now.wall.duration_since(expected) {
            Ok(ahead) => ahead,
            Err(behind) => behind.duration(),
        };
        if off > CLOCK_STEP {
            *self = now;
            return true;
        }
        false
    }
}
