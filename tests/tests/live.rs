//! Live capture on a veth pair in a network namespace of the test's own: packets arrive, an
//! interface may go and come back, and an idle node is idle. Skipped where namespaces can't be
//! made.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::generated::{Generated, generate};
use lc_tests::node::{Node, PATIENCE, counter};
use lc_tests::process;
use tempfile::tempdir;

/// A network namespace with loopback and the pair `send` and `receive`; gone when dropped.
struct Namespace {
    name: String,
}

impl Namespace {
    /// The namespace, or `None` where this machine does not allow one.
    fn new(label: &str) -> Option<Self> {
        let name = format!("lc-test-{}-{label}", std::process::id());
        if !ip(&["netns", "add", &name]) {
            lc_tests::skipped!("network namespaces can't be made here (root is needed)");
            return None;
        }
        let namespace = Self { name };
        namespace.ip(&["link", "set", "lo", "up"]);
        // Nobody but the test shall send anything.
        let quiet = "net.ipv6.conf.default.disable_ipv6=1";
        ip(&["netns", "exec", &namespace.name, "sysctl", "-qw", quiet]);
        namespace.add_pair();
        Some(namespace)
    }

    fn add_pair(&self) {
        let pair = [
            "link", "add", "send", "type", "veth", "peer", "name", "receive",
        ];
        assert!(self.ip(&pair));
        assert!(self.ip(&["link", "set", "send", "up"]));
        assert!(self.ip(&["link", "set", "receive", "up"]));
    }

    fn remove_pair(&self) {
        assert!(self.ip(&["link", "del", "receive"]));
    }

    fn ip(&self, arguments: &[&str]) -> bool {
        let arguments = [&["-n", &self.name][..], arguments].concat();
        ip(&arguments)
    }

    /// Puts a capture on the wire.
    fn send(&self, sent: &Generated) {
        let send = process::program("lc-send");
        let arguments = [
            "netns".as_ref(),
            "exec".as_ref(),
            self.name.as_ref(),
            send.as_os_str(),
            sent.path.as_os_str(),
            "--interface".as_ref(),
            "send".as_ref(),
            "--rate".as_ref(),
            "4000".as_ref(),
        ];
        let outcome = process::run(Path::new("ip"), arguments, PATIENCE).unwrap();
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    }

    /// Starts a node that captures on `receive` with two workers into `sink`.
    fn capture(&self, sink: &Path) -> Node {
        let arguments = [
            "hunt".as_ref(),
            "--interface".as_ref(),
            "receive".as_ref(),
            "--sink".as_ref(),
            sink.as_os_str(),
            "--no-filter-policy".as_ref(),
            "allow".as_ref(),
            "--workers".as_ref(),
            "2".as_ref(),
        ];
        let node = Node::start_in(&self.name, arguments).unwrap();
        node.wait_until(|status| {
            status["captures"][0]["state"] == "running"
                && status["processor"]["connection"] == "streaming"
        })
        .expect("the node captures");
        node
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        ip(&["netns", "del", &self.name]);
    }
}

fn ip(arguments: &[&str]) -> bool {
    let done = Command::new("ip").args(arguments).output();
    done.is_ok_and(|output| output.status.success())
}

fn frames(folder: &Path, seed: &str) -> Generated {
    // Frames fit the interface's MTU of 1500 bytes, VLAN tag or not.
    let flags = ["--packets", "4000", "--seed", seed, "--vlan", "0"];
    generate(folder, &format!("{seed}.pcap"), &flags).unwrap()
}

/// Everything but the times, which the capture gives anew.
fn without_times(packets: &[capture::Packet]) -> Vec<capture::Packet> {
    let timeless = |packet: &capture::Packet| capture::Packet {
        time_ns: 0,
        ..packet.clone()
    };
    packets.iter().map(timeless).collect()
}

fn acked(node: &Node, packets: u64) -> serde_json::Value {
    let all = node.wait_until(|status| counter(status, "forward_acked_packets_total") >= packets);
    all.unwrap_or_else(|| panic!("{packets} packets are acknowledged: {:#?}", node.status()))
}

#[test]
fn packets_at_a_moderate_rate_all_arrive() {
    let Some(namespace) = Namespace::new("all") else {
        return;
    };
    let folder = tempdir().unwrap();
    let sent = frames(folder.path(), "1");
    let sink = folder.path().join("arrived");
    let node = namespace.capture(&sink);
    namespace.send(&sent);
    let status = acked(&node, 4_000);
    assert_eq!(status["ledger"]["balanced"], true, "{status:#}");
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap();
    let times: Vec<i64> = arrived
        .packets
        .iter()
        .map(|packet| packet.time_ns)
        .collect();
    let day = 86_400 * 1_000_000_000;
    let spread = times.iter().max().unwrap() - times.iter().min().unwrap();
    assert!((500_000_000..day).contains(&spread), "{spread}");
    let difference = Difference::between(
        &without_times(&sent.packets),
        &without_times(&arrived.packets),
    );
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn an_interface_goes_and_comes_back() {
    let Some(namespace) = Namespace::new("back") else {
        return;
    };
    let folder = tempdir().unwrap();
    let (first, second) = (frames(folder.path(), "1"), frames(folder.path(), "2"));
    let sink = folder.path().join("arrived");
    let node = namespace.capture(&sink);
    namespace.send(&first);
    acked(&node, 4_000);
    namespace.remove_pair();
    let status = node
        .wait_until(|status| status["captures"][0]["state"] == "retrying")
        .expect("the status tells that the interface is gone");
    let reason = status["captures"][0]["reason"].as_str().unwrap();
    assert!(!reason.is_empty());
    namespace.add_pair();
    node.wait_until(|status| status["captures"][0]["state"] == "running")
        .expect("the status tells that the interface is back");
    namespace.send(&second);
    let status = acked(&node, 8_000);
    assert!(counter(&status, "capture_reopened_total") >= 1);
    assert_eq!(status["ledger"]["balanced"], true, "{status:#}");
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let both = [first.packets, second.packets].concat();
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap();
    let difference = Difference::between(&without_times(&both), &without_times(&arrived.packets));
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn an_idle_node_is_idle() {
    let Some(namespace) = Namespace::new("idle") else {
        return;
    };
    let folder = tempdir().unwrap();
    let node = namespace.capture(&folder.path().join("arrived"));
    let daemons: Vec<i32> = ["lc-capd", "lc-workerd 0", "lc-workerd 1", "lc-fwdd"]
        .iter()
        .map(|name| node.daemon(name).unwrap())
        .collect();
    let used = || -> u64 { daemons.iter().map(|pid| processor_time(*pid)).sum() };
    let (before, time) = (used(), Duration::from_secs(5));
    thread::sleep(time);
    let share = (used() - before) as f64 / time.as_nanos() as f64;
    println!(
        "capd, 2 workers and fwdd, idle: {:.2} % of a core",
        share * 100.0
    );
    assert!(share < 0.02, "{:.1} % of a core", share * 100.0);
    node.terminate().unwrap();
}

/// Nanoseconds that all threads of a process have spent on a processor.
fn processor_time(pid: i32) -> u64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks
        .map(|task| {
            let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
            text.split(' ').next().unwrap().parse::<u64>().unwrap()
        })
        .sum()
}
