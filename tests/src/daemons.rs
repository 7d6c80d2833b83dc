//! The daemons of a node without `lc-hunt`: each is started, and started again, by the test.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::node::PATIENCE;
use crate::process::{self, Outcome, ProcessError, Running, program, wait_for};

/// The configuration of one node.
#[derive(Debug)]
pub struct Daemons {
    config: PathBuf,
    run_dir: PathBuf,
}

impl Daemons {
    /// Writes a configuration with these `lines` into `folder`, where the node has its run directory.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn configure(folder: &Path, lines: &str) -> io::Result<Self> {
        let (config, run_dir) = (folder.join("node.toml"), folder.join("run"));
        let quarantine = folder.join("quarantine");
        let text = format!(
            "[hunter]\ninsecure = true\nruntime_dir = {run_dir:?}\nquarantine_dir = {quarantine:?}\n{lines}"
        );
        fs::write(&config, text)?;
        Ok(Self { config, run_dir })
    }

    /// Where capd listens.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// Starts the daemon `name` with further arguments.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn start(&self, name: &str, more: &[&str]) -> Result<Running, ProcessError> {
        process::start(&program(name), self.arguments(more))
    }

    /// Starts worker `index`.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn start_worker(&self, index: &str) -> Result<Running, ProcessError> {
        self.start("lc-workerd", &["--index", index])
    }

    /// Starts capd, and passes it `descriptors` as systemd does: each with its name, and a path that opens it.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn start_capd_with(&self, descriptors: &[(&str, String)]) -> Result<Running, ProcessError> {
        let (names, opened): (Vec<_>, Vec<_>) = (3..)
            .zip(descriptors)
            // Each by itself: of many in one exec, bash closes the last from number 12 on.
            .map(|(number, (name, path))| (*name, format!("exec {number}<>{path}")))
            .unzip();
        let script = format!(
            "{}; export LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={}; exec \"$@\"",
            opened.join("; "),
            names.len(),
            names.join(":")
        );
        let before = ["-c".into(), script.into(), "bash".into()];
        let all = before
            .into_iter()
            .chain([program("lc-capd").into_os_string()])
            .chain(self.arguments(&[]).map(OsStr::to_owned));
        process::start(Path::new("bash"), all)
    }

    fn arguments<'a>(&'a self, more: &'a [&str]) -> impl Iterator<Item = &'a OsStr> {
        let common = ["--config".as_ref(), self.config.as_os_str()];
        common.into_iter().chain(more.iter().map(OsStr::new))
    }

    /// What `lc-hunt` says to `command`, such as `status`, with further arguments.
    ///
    /// # Errors
    ///
    /// [`ProcessError`]
    pub fn ask(&self, command: &str, more: &[&str]) -> Result<Outcome, ProcessError> {
        let dir = ["--runtime-dir".as_ref(), self.run_dir.as_os_str()];
        let arguments = [OsStr::new(command)].into_iter().chain(dir);
        let arguments = arguments.chain(more.iter().map(OsStr::new));
        process::run(&program("lc-hunt"), arguments, PATIENCE)
    }

    /// What `lc-hunt status --json` says; `None` before it can be asked.
    pub fn status(&self) -> Option<Value> {
        let outcome = self.ask("status", &["--json"]).ok()?;
        let nodes: Vec<Value> = serde_json::from_str(&outcome.stdout).ok()?;
        nodes.into_iter().next()
    }

    /// Waits until the status satisfies `condition`, and gives it; `None` if it never does.
    pub fn wait_until(&self, condition: impl Fn(&Value) -> bool) -> Option<Value> {
        wait_for(PATIENCE, || self.status().filter(&condition))
    }
}

/// Asks a daemon to end, and waits for it.
///
/// # Errors
///
/// [`ProcessError::TooSlow`]
pub fn end(daemon: Running) -> Result<Outcome, ProcessError> {
    daemon.signal(Signal::SIGTERM);
    daemon.finish(PATIENCE)
}
