//! Which CPUs a daemon runs on.
//!
//! Each daemon pins itself, before it starts a thread and before its sandbox, which would forbid it. What the kernel then
//! enforces, `lc-hunt status` shows. Without a setting the kernel chooses among all CPUs that the process was given.
//!
//! Memory is not placed here: a policy of systemd (`NUMAPolicy=`, `NUMAMask=`) or of `numactl` reaches capd, which makes
//! all shared memory.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::config::Pinning;

/// A daemon, as far as its CPUs go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// capd, all of its threads.
    Capture,
    /// This worker.
    Worker(u16),
    /// The forwarder, all of its threads.
    Forwarder,
}

/// The CPUs of the configuration can't be had.
#[derive(Debug, thiserror::Error)]
pub enum PinningError {
    /// One does not exist, or this process may not use it.
    #[error("{key} names CPU {cpu}, but this process may use only {there}; name some of these")]
    NoCpu {
        /// The setting.
        key: &'static str,
        /// The CPU.
        cpu: usize,
        /// The CPUs there are, as a list.
        there: String,
    },
    /// The kernel refused.
    #[error("CPUs cannot be chosen: {0}")]
    System(#[from] nix::Error),
}

/// The CPUs that this process may use.
#[derive(Debug, Clone, Copy)]
pub struct Allowed(CpuSet);

impl Allowed {
    /// Those of today.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn now() -> Result<Self, PinningError> {
        Ok(Self(sched_getaffinity(Pid::from_raw(0))?))
    }

    /// Lets this thread run on them, for work that shall not disturb the pinned threads.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn take(&self) -> Result<(), PinningError> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.0)?)
    }
}

/// Pins this process where the configuration wants it.
///
/// # Errors
/// [`PinningError`]
pub fn pin(pinning: &Pinning, place: Place) -> Result<(), PinningError> {
    let cpus = chosen(pinning, place)?;
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in &cpus {
        set.set(*cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set)?;
    tracing::info!(cpus = list(&cpus), "pinned");
    Ok(())
}

/// The CPUs of a daemon; none if the kernel is to choose. A worker takes one of the list, in turn.
///
/// # Errors
/// [`PinningError::NoCpu`] for any CPU of the list that this process may not use.
pub fn chosen(pinning: &Pinning, place: Place) -> Result<Vec<usize>, PinningError> {
    let (key, cpus) = match place {
        Place::Capture => ("hunter.pinning.capture_cpus", &pinning.capture),
        Place::Worker(_) => ("hunter.pinning.worker_cpus", &pinning.workers),
        Place::Forwarder => ("hunter.pinning.forwarder_cpus", &pinning.forwarder),
    };
    let usable = sched_getaffinity(Pid::from_raw(0))?;
    let there: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| usable.is_set(*cpu).unwrap_or(false))
        .collect();
    if let Some(cpu) = cpus.iter().find(|cpu| !there.contains(cpu)) {
        return Err(PinningError::NoCpu {
            key,
            cpu: *cpu,
            there: list(&there),
        });
    }
    Ok(match place {
        Place::Worker(index) if !cpus.is_empty() => vec![cpus[usize::from(index) % cpus.len()]],
        _ => cpus.clone(),
    })
}

/// CPUs as a person writes them: `2,4-7`.
#[must_use]
pub fn list(cpus: &[usize]) -> String {
    let runs = cpus.chunk_by(|one, next| *next == one + 1);
    let runs: Vec<String> = runs
        .filter_map(|run| match run {
            [] => None,
            [one] => Some(one.to_string()),
            [first, .., last] => Some(format!("{first}-{last}")),
        })
        .collect();
    runs.join(",")
}

/// Reads `2,4-7`: each CPU once, in the order given. The error says what was expected.
///
/// # Errors
/// What is wrong with the text.
pub fn parse(text: &str) -> Result<Vec<usize>, String> {
    let number = |part: &str| {
        let number = part.trim().parse::<usize>().ok();
        number
            .filter(|number| *number < CpuSet::count())
            .ok_or_else(|| format!("\"{text}\" is not a list of CPUs such as 2,4-7"))
    };
    let mut cpus = Vec::new();
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        let range = match part.split_once('-') {
            Some((first, last)) => number(first)?..=number(last)?,
            None => number(part)?..=number(part)?,
        };
        if range.is_empty() {
            return Err(format!("the CPU range {part} ends before it starts"));
        }
        for cpu in range {
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is named twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for (text, cpus) in [
            ("", &[][..]),
            ("0", &[0]),
            ("2,4-7", &[2, 4, 5, 6, 7]),
            (" 3 , 1-1 ", &[3, 1]),
        ] {
            let read = parse(text).unwrap();
            assert_eq!(read, cpus, "{text}");
            assert_eq!(parse(&list(&read)).unwrap(), cpus);
        }
        assert_eq!(list(&[2, 4, 5, 6, 7, 9]), "2,4-7,9");
        for wrong in [
            "x",
            "-1",
            "4-2",
            "1,1",
            "0-2,2",
            "1-",
            "1024",
            "0-99999999999",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn workers_take_one_each_in_turn_and_what_is_not_there_is_refused() {
        let usable = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let there: Vec<usize> = (0..CpuSet::count())
            .filter(|cpu| usable.is_set(*cpu).unwrap())
            .collect();
        let pinning = Pinning {
            capture: Vec::new(),
            workers: there.clone(),
            forwarder: vec![CpuSet::count() - 1],
        };
        for index in 0..2 * there.len() {
            let own = chosen(&pinning, Place::Worker(index as u16)).unwrap();
            assert_eq!(own, [there[index % there.len()]]);
        }
        assert!(chosen(&pinning, Place::Capture).unwrap().is_empty());
        let refused = chosen(&pinning, Place::Forwarder).unwrap_err().to_string();
        assert!(
            refused.contains(&format!("only {}", list(&there))),
            "{refused}"
        );
    }
}
