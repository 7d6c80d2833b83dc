//! Live capture on a veth pair in a network namespace of the test's own: packets arrive, an
//! interface may go and come back, and an idle node is idle. Skipped where namespaces can't be
//! made.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::generated::{Generated, generate};
use lc_tests::namespace::Namespace;
use lc_tests::node::{Node, PATIENCE, captured_in_all, counter};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

/// A namespace, or `None` where this machine does not allow one.
fn namespace(label: &str) -> Option<Namespace> {
    let namespace = Namespace::new(label);
    if namespace.is_none() {
        lc_tests::skipped!("network namespaces can't be made here (root is needed)");
    }
    namespace
}

/// Starts a node that captures on `receive` with two workers into `sink`.
fn capture_in(namespace: &Namespace, sink: &Path) -> Node {
    let node = Node::start_capture(namespace, sink).unwrap();
    node.wait_until(is_capturing).expect("the node captures");
    node
}

fn is_capturing(status: &serde_json::Value) -> bool {
    status["captures"][0]["state"] == "running" && status["processor"]["connection"] == "streaming"
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
    let Some(namespace) = namespace("all") else {
        return;
    };
    let folder = tempdir().unwrap();
    let sent = frames(folder.path(), "1");
    let sink = folder.path().join("arrived");
    let node = capture_in(&namespace, &sink);
    assert_eq!(namespace.send(&sent.path).unwrap().code(), 0);
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
    let Some(namespace) = namespace("back") else {
        return;
    };
    let folder = tempdir().unwrap();
    let (first, second) = (frames(folder.path(), "1"), frames(folder.path(), "2"));
    let sink = folder.path().join("arrived");
    let node = capture_in(&namespace, &sink);
    assert_eq!(namespace.send(&first.path).unwrap().code(), 0);
    acked(&node, 4_000);
    assert!(namespace.remove_pair());
    let status = node
        .wait_until(|status| status["captures"][0]["state"] == "retrying")
        .expect("the status tells that the interface is gone");
    let reason = status["captures"][0]["reason"].as_str().unwrap();
    assert!(!reason.is_empty());
    assert!(namespace.add_pair());
    node.wait_until(|status| status["captures"][0]["state"] == "running")
        .expect("the status tells that the interface is back");
    assert_eq!(namespace.send(&second.path).unwrap().code(), 0);
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
fn a_killed_capture_daemon_is_replaced_and_what_was_captured_arrives() {
    let Some(namespace) = namespace("killed") else {
        return;
    };
    let folder = tempdir().unwrap();
    let (first, second) = (frames(folder.path(), "1"), frames(folder.path(), "2"));
    let sink = folder.path().join("arrived");
    let node = capture_in(&namespace, &sink);
    let worker = node.daemon("lc-workerd 0").unwrap();
    let sending = namespace.start_sending(&first.path).unwrap();
    node.wait_until(|status| counter(status, "capture_packets_total") > 500)
        .expect("packets are captured");
    kill(
        Pid::from_raw(node.daemon("lc-capd").unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    assert_eq!(sending.finish(PATIENCE).unwrap().code(), 0);
    let status = node
        .wait_until(|status| {
            is_capturing(status)
                && status["processes"][0]["epoch"] == 2
                && counter(status, "capture_reopened_total") == 1
        })
        .expect("another capture daemon takes over");
    let before = counter(&status, "capture_packets_total");
    assert_eq!(namespace.send(&second.path).unwrap().code(), 0);
    let status = acked(&node, before + 4_000);
    assert_eq!(status["ledger"]["balanced"], true, "{status:#}");
    assert_eq!(node.daemon("lc-workerd 0"), Some(worker), "workers live on");
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    // Some packets of the first capture may have been on their way when the status was read.
    let captured = captured_in_all(&outcome).unwrap();
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap();
    assert_eq!(arrived.packets.len() as u64, captured);
    let sent = [first.packets, second.packets].concat();
    let difference = Difference::between(&without_times(&sent), &without_times(&arrived.packets));
    assert_eq!(difference.extra, 0, "{difference}");
    assert!(difference.lost < 4_000, "{difference}");
}

#[test]
fn an_idle_node_is_idle() {
    let Some(namespace) = namespace("idle") else {
        return;
    };
    let folder = tempdir().unwrap();
    let node = capture_in(&namespace, &folder.path().join("arrived"));
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
