//! Which flow-control signal an acknowledgement carries. As in lippycat, it is one decision for all hunters.

use std::str::FromStr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use lc_proto::data::FlowControl;

/// The signals to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlowPlan {
    /// CONTINUE on every acknowledgement, like a processor that writes no file.
    #[default]
    Continue,
    /// RESUME on every acknowledgement, like a processor that writes a file.
    Resume,
    /// SLOW on every acknowledgement.
    Slow,
    /// CONTINUE for the first batches, then PAUSE for a time, then RESUME.
    Pause {
        /// How long to answer PAUSE, from the first time on.
        lasting: Duration,
        /// Batches before the pause.
        after: u64,
    },
}

impl FromStr for FlowPlan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pause = || {
            let (lasting, after) = text.strip_prefix("pause:")?.split_once('@')?;
            Some(Self::Pause {
                lasting: parse_duration(lasting).ok()?,
                after: after.parse().ok()?,
            })
        };
        match text {
            "continue" => Ok(Self::Continue),
            "resume" => Ok(Self::Resume),
            "slow" => Ok(Self::Slow),
            _ => pause().ok_or_else(|| {
                "expected continue, resume, slow, or pause:DURATION@N such as pause:500ms@100"
                    .to_owned()
            }),
        }
    }
}

/// Reads a duration: a whole number with the unit us, ms, s or m.
///
/// # Errors
///
/// What was expected instead.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_us: u64 = match unit {
        "us" => 1,
        "ms" => 1_000,
        "s" => 1_000_000,
        "m" => 60_000_000,
        _ => 0,
    };
    match number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(unit_us))
    {
        Some(us) if unit_us > 0 => Ok(Duration::from_micros(us)),
        _ => Err(format!(
            "'{text}' is not a duration: expected a whole number and us, ms, s or m, such as 250ms"
        )),
    }
}

/// A plan and how far it has come.
#[derive(Debug)]
pub(crate) struct Flow {
    plan: FlowPlan,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    batches: u64,
    paused_at: Option<Instant>,
}

impl Flow {
    pub(crate) fn new(plan: FlowPlan) -> Self {
        Self {
            plan,
            progress: Mutex::default(),
        }
    }

    /// The signal for the next acknowledgement.
    pub(crate) fn next(&self, now: Instant) -> FlowControl {
        let FlowPlan::Pause { lasting, after } = self.plan else {
            return match self.plan {
                FlowPlan::Resume => FlowControl::FlowResume,
                FlowPlan::Slow => FlowControl::FlowSlow,
                _ => FlowControl::FlowContinue,
            };
        };
        let mut progress = self
            .progress
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if progress.batches < after {
            progress.batches += 1;
            return FlowControl::FlowContinue;
        }
        let since = *progress.paused_at.get_or_insert(now);
        if now.duration_since(since) < lasting {
            FlowControl::FlowPause
        } else {
            FlowControl::FlowResume
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_begins_after_n_batches_and_ends_by_time() {
        let flow = Flow::new("pause:100ms@2".parse().unwrap());
        let start = Instant::now();
        let at = |ms| flow.next(start + Duration::from_millis(ms));
        let signals = [at(0), at(50), at(60), at(159), at(160), at(161)];
        use FlowControl::*;
        assert_eq!(
            signals,
            [
                FlowContinue,
                FlowContinue,
                FlowPause,
                FlowPause,
                FlowResume,
                FlowResume
            ]
        );
    }

    #[test]
    fn plans_and_durations_are_read_or_refused() {
        assert_eq!("slow".parse(), Ok(FlowPlan::Slow));
        for bad in ["", "pause", "pause:1s", "pause:1s@", "pause:x@1", "fast"] {
            assert!(bad.parse::<FlowPlan>().is_err(), "{bad}");
        }
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        for bad in [
            "",
            "1",
            "s",
            "-1s",
            "1h",
            "1.5s",
            "99999999999999999999s",
            "18446744073709551615s",
        ] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
