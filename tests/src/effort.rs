//! What processes cost while they idle: how often they wake up, and the processor time that takes.
//!
//! The number of waits is what a test can hold to: a loaded machine makes each of them longer, not
//! more of them. Only one that never waits has none; its time tells.

use std::fs;
use std::io;
use std::time::Duration;

/// What some processes have cost since they began.
#[derive(Debug, Clone, Copy, Default)]
pub struct Effort {
    /// Times that a thread has waited for something, and so was woken.
    pub waits: u64,
    /// Time that threads have run.
    pub time: Duration,
}

impl Effort {
    /// What the living threads of these processes have cost.
    ///
    /// # Errors
    ///
    /// A process is gone, or this kernel does not tell (`CONFIG_SCHEDSTATS`).
    pub fn of(pids: &[u32]) -> io::Result<Self> {
        let mut total = Self::default();
        for pid in pids {
            for task in fs::read_dir(format!("/proc/{pid}/task"))? {
                let task = task?.path();
                let ran = fs::read_to_string(task.join("schedstat"))?;
                let status = fs::read_to_string(task.join("status"))?;
                total.time += Duration::from_nanos(number(ran.split(' ').next())?);
                total.waits += number(
                    status
                        .lines()
                        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")),
                )?;
            }
        }
        Ok(total)
    }

    /// What was added since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            waits: self.waits.saturating_sub(earlier.waits),
            time: self.time.saturating_sub(earlier.time),
        }
    }
}

fn number(text: Option<&str>) -> io::Result<u64> {
    text.and_then(|text| text.trim().parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
