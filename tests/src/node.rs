//! A node under test: `lc-hunt` as a person runs it, and what its `status` says.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::process::{self, Outcome, ProcessError, Running};
use crate::words;

/// The longest that any single step of a run may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running node.
#[derive(Debug)]
pub struct Node {
    running: Running,
}

impl Node {
    /// Starts `lc-hunt` with `arguments`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn start<A: AsRef<OsStr>>(
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, ProcessError> {
        let running = process::start(&process::program("lc-hunt"), arguments)?;
        Ok(Self { running })
    }

    /// Starts a node that follows the calls of the capture `sent`: those that `filters` want go to the sink `sink`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn follow_calls(
        sent: &Path,
        filters: &Path,
        sink: &Path,
        workers: &str,
        more: &[&str],
    ) -> Result<Self, ProcessError> {
        Self::follow(&["voip"], sent, filters, sink, workers, more)
    }

    /// The same in any mode, given by its `command`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn follow(
        command: &[&str],
        sent: &Path,
        filters: &Path,
        sink: &Path,
        workers: &str,
        more: &[&str],
    ) -> Result<Self, ProcessError> {
        let pairs: [(&str, &OsStr); 4] = [
            ("--read-file", sent.as_ref()),
            ("--filters", filters.as_ref()),
            ("--sink", sink.as_ref()),
            ("--workers", workers.as_ref()),
        ];
        let pairs = pairs
            .iter()
            .flat_map(|(flag, value)| [OsStr::new(flag), value]);
        let more = more.iter().map(OsStr::new);
        let command = command.iter().map(OsStr::new);
        Self::start(command.chain(pairs).chain(more))
    }

    /// As [`Node::start`], with an environment variable, as `NAME=value`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn start_with_variable<A: AsRef<OsStr>>(
        variable: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, ProcessError> {
        let mut all: Vec<OsString> = vec![variable.into(), process::program("lc-hunt").into()];
        all.extend(arguments.into_iter().map(|one| one.as_ref().into()));
        let running = process::start(Path::new("env"), all)?;
        Ok(Self { running })
    }

    /// Starts `lc-hunt` with `arguments` in the network namespace `namespace`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn start_in<A: AsRef<OsStr>>(
        namespace: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, ProcessError> {
        let program = process::program("lc-hunt");
        let running = process::start_in(namespace, &program, arguments)?;
        Ok(Self { running })
    }

    /// As [`Node::start_in`], with a file system of `mib` MiB at `place` that only this node sees.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn start_on_tmpfs<A: AsRef<OsStr>>(
        namespace: &str,
        place: &Path,
        mib: u64,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, ProcessError> {
        let script =
            format!("mount -t tmpfs -o size={mib}m overflow \"$1\" && shift && exec \"$@\"");
        let mut all: Vec<OsString> = ["-c".into(), script.into(), "sh".into(), place.into()].into();
        all.push(process::program("lc-hunt").into());
        all.extend(arguments.into_iter().map(|one| one.as_ref().into()));
        let running = process::start_in(namespace, Path::new("sh"), all)?;
        Ok(Self { running })
    }

    /// Starts `lc-hunt` in `mode`, with two workers and `more` arguments, on `interface` of the network namespace `namespace`; what it captures goes to the sink `sink`. Returns
    /// when it captures: see [`is_capturing`].
    ///
    /// # Errors
    ///
    /// What failed; that it does not get so far too.
    pub fn capture(
        namespace: &str,
        mode: &str,
        interface: &str,
        sink: &Path,
        more: &[&OsStr],
    ) -> Result<Self, String> {
        let usual: [&OsStr; 7] = [
            mode.as_ref(),
            "--interface".as_ref(),
            interface.as_ref(),
            "--sink".as_ref(),
            sink.as_ref(),
            "--workers".as_ref(),
            "2".as_ref(),
        ];
        let node = Self::start_in(namespace, usual.iter().chain(more)).map_err(words)?;
        match node.wait_until(is_capturing) {
            Some(_) => Ok(node),
            None => Err(format!("no capture began: {:#?}", node.status())),
        }
    }

    /// The process.
    pub fn process(&mut self) -> &mut Running {
        &mut self.running
    }

    /// What `lc-hunt status --json` says of this node; `None` before it can be asked.
    pub fn status(&self) -> Option<Value> {
        let arguments = ["status", "--json"];
        let outcome = process::run(&process::program("lc-hunt"), arguments, PATIENCE).ok()?;
        let own = format!("run-{}", self.running.pid());
        let nodes: Vec<Value> = serde_json::from_str(&outcome.stdout).ok()?;
        nodes.into_iter().find(|node| {
            node["run_dir"]
                .as_str()
                .is_some_and(|dir| dir.ends_with(&own))
        })
    }

    /// What `lc-hunt upgrade-check` says of this node.
    pub fn upgrade_check(&self) -> Option<String> {
        let arguments = ["upgrade-check"];
        let outcome = process::run(&process::program("lc-hunt"), arguments, PATIENCE).ok()?;
        let own = format!("run-{}:", self.running.pid());
        let line = outcome.stdout.lines().find(|line| line.contains(&own))?;
        Some(line.to_owned())
    }

    /// Waits until the status satisfies `condition`, and gives it; `None` if it never does.
    pub fn wait_until(&self, condition: impl Fn(&Value) -> bool) -> Option<Value> {
        process::wait_for(PATIENCE, || {
            self.status().filter(|status| condition(status))
        })
    }

    /// The process id of the daemon `name`, such as `lc-workerd 0`, once it runs.
    pub fn daemon(&self, name: &str) -> Option<i32> {
        let status = self.wait_until(|status| process_named(status, name)["alive"] == true)?;
        i32::try_from(process_named(&status, name)["pid"].as_i64()?).ok()
    }

    /// Waits for the node's own end.
    ///
    /// # Errors
    ///
    /// [`ProcessError::TooSlow`]
    pub fn finish(self, limit: Duration) -> Result<Outcome, ProcessError> {
        self.running.finish(limit)
    }

    /// Asks the node to end, and waits for it.
    ///
    /// # Errors
    ///
    /// [`ProcessError::TooSlow`]
    pub fn terminate(self) -> Result<Outcome, ProcessError> {
        self.running.signal(nix::sys::signal::Signal::SIGTERM);
        self.running.finish(PATIENCE)
    }
}

/// Packets captured in all, as the ledger at the end of a run tells.
pub fn captured_in_all(outcome: &Outcome) -> Option<u64> {
    let mut lines = outcome.stdout.lines().map(str::split_ascii_whitespace);
    lines.find_map(|mut words| match words.next() {
        Some("captured") => words.next()?.parse().ok(),
        _ => None,
    })
}

/// Packets with this outcome, as the ledger at the end of a run tells; 0 for one that it does not name.
pub fn outcome_in_all(outcome: &Outcome, name: &str) -> u64 {
    let mut parts = outcome
        .stdout
        .lines()
        .flat_map(|line| line.split(['=', '+']));
    let packets = parts.find_map(|part| part.trim().strip_suffix(name)?.trim().parse().ok());
    packets.unwrap_or_default()
}

/// Whether a status says that packets of the first interface are captured, and that a processor takes them.
pub fn is_capturing(status: &Value) -> bool {
    status["captures"][0]["state"] == "running" && status["processor"]["connection"] == "streaming"
}

/// The entry of process `name` in a status, or null.
fn process_named<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["processes"]
        .as_array()
        .and_then(|processes| processes.iter().find(|process| process["name"] == name))
        .unwrap_or(&Value::Null)
}

/// A counter of a status by its metric name, 0 where there is none.
pub fn counter(status: &Value, name: &str) -> u64 {
    status["counters"][name].as_u64().unwrap_or_default()
}
