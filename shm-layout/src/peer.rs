//! Whether the process that owns a region still lives.
//!
//! A heartbeat alone can't tell: a stopped or starved process has none and yet lives, and a
//! process id is given to another process one day. The kernel's pair of process id and start
//! time names one process for as long as the machine is up.

use std::fs;

/// One process, for as long as the machine is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Process id; 0 means that nobody has claimed the region.
    pub pid: u32,
    /// Start time in clock ticks since boot (`/proc/<pid>/stat`, field 22).
    pub start: u64,
}

impl Identity {
    /// The calling process. The start time is 0 where `/proc` is not mounted.
    #[must_use]
    pub fn current() -> Self {
        let pid = std::process::id();
        Self {
            pid,
            start: start_time(pid).unwrap_or(0),
        }
    }

    /// Whether exactly this process still runs. A zombie does not: it will not write again.
    #[must_use]
    pub fn is_alive(self) -> bool {
        self.pid != 0 && start_time(self.pid) == Some(self.start)
    }
}

/// The start time of a process, or `None` when there is none, or only its zombie.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in brackets and may itself hold spaces and brackets.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn this_process_lives_and_a_stranger_of_the_same_id_does_not() {
        let me = Identity::current();
        assert!(me.is_alive());
        assert!(
            !Identity {
                start: me.start + 1,
                ..me
            }
            .is_alive()
        );
        assert!(!Identity { pid: 0, start: 0 }.is_alive());
    }

    #[test]
    fn a_dead_child_is_dead_before_and_after_it_is_reaped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let identity = Identity {
            pid: child.id(),
            start: start_time(child.id()).unwrap(),
        };
        assert!(identity.is_alive());
        child.kill().unwrap();
        // Ends when the child has closed its end, that is, once it is a zombie at the latest.
        while identity.is_alive() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!identity.is_alive());
    }
}
