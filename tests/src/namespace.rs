//! A network namespace with a pair of interfaces: live traffic that nobody else sees.

use std::path::Path;
use std::process::Command;

use crate::node::PATIENCE;
use crate::process::{self, Outcome, ProcessError, Running};

/// Packets per second that are sent.
const RATE: &str = "4000";

/// A network namespace with loopback and the pair `send` and `receive`; gone when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace, or `None` where this machine does not allow one.
    pub fn new(label: &str) -> Option<Self> {
        let name = format!("lc-test-{}-{label}", std::process::id());
        let namespace = Self { name };
        let made = add(&namespace.name)
            && namespace.ip(&["link", "set", "lo", "up"])
            && namespace.add_pair();
        made.then_some(namespace)
    }

    /// The same; where it is not allowed, says that the test is skipped.
    pub fn or_skipped(label: &str) -> Option<Self> {
        let namespace = Self::new(label);
        if namespace.is_none() {
            crate::skipped!("network namespaces can't be made here (root is needed)");
        }
        namespace
    }

    /// Its name, as `ip netns` knows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the pair; false if that failed.
    pub fn add_pair(&self) -> bool {
        let pair = [
            "link", "add", "send", "type", "veth", "peer", "name", "receive",
        ];
        self.ip(&pair)
            && self.ip(&["link", "set", "send", "up"])
            && self.ip(&["link", "set", "receive", "up"])
    }

    /// Removes the pair; false if that failed.
    pub fn remove_pair(&self) -> bool {
        self.ip(&["link", "del", "receive"])
    }

    /// Puts the packets of a capture on the wire.
    ///
    /// # Errors
    ///
    /// [`ProcessError`], also where not all of them could be sent.
    pub fn send(&self, capture: &Path) -> Result<Outcome, ProcessError> {
        self.start_sending(capture)?.finish(PATIENCE)
    }

    /// Begins to put the packets of a capture on the wire.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn start_sending(&self, capture: &Path) -> Result<Running, ProcessError> {
        let send = process::program("lc-send");
        process::start_in(
            &self.name,
            &send,
            [
                capture.as_os_str(),
                "--interface".as_ref(),
                "send".as_ref(),
                "--rate".as_ref(),
                RATE.as_ref(),
            ],
        )
    }

    /// Begins to put numbered frames on the wire, so many per second.
    ///
    /// # Errors
    ///
    /// [`ProcessError::Start`]
    pub fn start_sending_numbered(&self, frames: u64, rate: u64) -> Result<Running, ProcessError> {
        let (frames, rate) = (frames.to_string(), rate.to_string());
        let arguments = [
            "--numbered",
            &frames,
            "--interface",
            "send",
            "--rate",
            &rate,
        ];
        process::start_in(&self.name, &process::program("lc-send"), arguments)
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        let arguments = [&["-n", &self.name][..], arguments].concat();
        ip(&arguments)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.name]);
    }
}

/// Adds a network namespace in which nobody but the test sends anything; false if that failed.
pub(crate) fn add(name: &str) -> bool {
    let quiet = "echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6";
    ip(&["netns", "add", name]) && ip(&["netns", "exec", name, "sh", "-c", quiet])
}

/// Whether `ip` did it.
pub(crate) fn ip(arguments: &[&str]) -> bool {
    let done = Command::new("ip").args(arguments).output();
    done.is_ok_and(|output| output.status.success())
}
