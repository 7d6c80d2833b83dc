//! Live capture on a veth pair in a network namespace of the test's own: packets arrive, an
//! interface may go and come back, and an idle node is idle. Skipped where namespaces can't be
//! made.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::thread;
use std::time::Duration;

use lc_tests::capture::{self, without_times};
use lc_tests::compare::Difference;
use lc_tests::effort::Effort;
use lc_tests::generated::{Generated, generate};
use lc_tests::namespace::Namespace;
use lc_tests::node::{Node, PATIENCE, captured_in_all, counter, is_capturing, outcome_in_all};
use lc_tests::process::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

/// Starts a node that captures on `receive` with two workers into `sink`, and lets everything through.
fn capture_in(namespace: &Namespace, sink: &Path, more: &[&str]) -> Node {
    let more = ["--no-filter-policy", "allow"].iter().chain(more);
    let more: Vec<_> = more.map(AsRef::as_ref).collect();
    Node::capture(namespace.name(), "hunt", "receive", sink, &more).unwrap()
}

fn frames(folder: &Path, seed: &str) -> Generated {
    // Frames fit the interface's MTU of 1500 bytes, VLAN tag or not.
    let flags = ["--packets", "4000", "--seed", seed, "--vlan", "0"];
    generate(folder, &format!("{seed}.pcap"), &flags).unwrap()
}

fn acked(node: &Node, packets: u64) -> serde_json::Value {
    let all = node.wait_until(|status| counter(status, "forward_acked_packets_total") >= packets);
    all.unwrap_or_else(|| panic!("{packets} packets are acknowledged: {:#?}", node.status()))
}

#[test]
fn packets_at_a_moderate_rate_all_arrive() {
    let Some(namespace) = Namespace::or_skipped("all") else {
        return;
    };
    let folder = tempdir().unwrap();
    let sent = frames(folder.path(), "1");
    let sink = folder.path().join("arrived");
    let node = capture_in(&namespace, &sink, &[]);
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
    let Some(namespace) = Namespace::or_skipped("back") else {
        return;
    };
    let folder = tempdir().unwrap();
    let (first, second) = (frames(folder.path(), "1"), frames(folder.path(), "2"));
    let sink = folder.path().join("arrived");
    let node = capture_in(&namespace, &sink, &[]);
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

/// Sends both captures, one after the other, and sends `signal` to the capture daemon `kills` times while packets flow.
fn end_while_sending(
    node: &Node,
    namespace: &Namespace,
    captures: [&Path; 2],
    signal: Signal,
    kills: usize,
) {
    let worker = node.daemon("lc-workerd 0").unwrap();
    let mut killed = 0;
    for capture in captures {
        let mut sending = namespace.start_sending(capture).unwrap();
        while sending.ended().unwrap().is_none() {
            let captured = || {
                let status = node.wait_until(|_| true).unwrap();
                counter(&status, "capture_packets_total")
            };
            let more = captured() + 100;
            while captured() < more && sending.ended().unwrap().is_none() {}
            if killed < kills {
                let capd = node.daemon("lc-capd").unwrap();
                kill(Pid::from_raw(capd), signal).unwrap();
                // One that ends in order still takes packets for a moment.
                wait_for(PATIENCE, || {
                    (node.daemon("lc-capd") != Some(capd)).then_some(())
                })
                .expect("a successor");
                killed += 1;
            }
        }
        assert_eq!(sending.finish(PATIENCE).unwrap().code(), 0);
    }
    assert_eq!(killed, kills, "there was time enough");
    node.daemon("lc-capd").unwrap();
    node.wait_until(|status| is_capturing(status) && status["ledger"]["quiet"] == true)
        .unwrap_or_else(|| panic!("all is delivered: {:#?}", node.status()));
    assert_eq!(node.daemon("lc-workerd 0"), Some(worker), "workers live on");
}

/// Ends the node; what arrived compared with what was sent, and what was dropped by the kernel and lost with sockets.
fn account(node: Node, sink: &Path, sent: &[capture::Packet]) -> (Difference, u64, u64) {
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    println!("{}", outcome.stdout);
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap();
    let captured = captured_in_all(&outcome).unwrap();
    assert_eq!(arrived.packets.len() as u64, captured);
    let difference = Difference::between(&without_times(sent), &without_times(&arrived.packets));
    assert_eq!(difference.extra, 0, "{difference}");
    let dropped = outcome_in_all(&outcome, "dropped by kernel");
    let lost = outcome_in_all(&outcome, "lost with socket");
    (difference, dropped, lost)
}

/// The kernel goes on filling the ring of a dead capture daemon, and its successor reads on behind the last packet that was published.
#[test]
fn a_killed_capture_daemon_costs_nothing() {
    ends_without_loss("killed", Signal::SIGKILL);
}

/// An upgrade: it ends in order, and another takes its place.
#[test]
fn a_capture_daemon_that_is_replaced_costs_nothing() {
    ends_without_loss("replaced", Signal::SIGTERM);
}

fn ends_without_loss(label: &str, signal: Signal) {
    let Some(namespace) = Namespace::or_skipped(label) else {
        return;
    };
    let folder = tempdir().unwrap();
    let (first, second) = (frames(folder.path(), "1"), frames(folder.path(), "2"));
    let sink = folder.path().join("arrived");
    let node = capture_in(&namespace, &sink, &[]);
    let both = [&*first.path, &second.path];
    end_while_sending(&node, &namespace, both, signal, 4);
    let status = node.status().unwrap();
    assert_eq!(status["processes"][0]["epoch"], 5);
    assert_eq!(counter(&status, "capture_reopened_total"), 0);
    assert_eq!(counter(&status, "capture_down_milliseconds_total"), 0);
    let sent = [first.packets, second.packets].concat();
    let (difference, dropped, lost) = account(node, &sink, &sent);
    assert!(difference.is_none(), "{difference}");
    assert_eq!((dropped, lost), (0, 0));
}

/// A ring that is full before the successor comes: what is missing is what the kernel says.
#[test]
fn what_a_full_ring_drops_while_no_capture_daemon_lives_is_counted() {
    let Some(namespace) = Namespace::or_skipped("full") else {
        return;
    };
    let folder = tempdir().unwrap();
    let (first, second) = (frames(folder.path(), "1"), frames(folder.path(), "2"));
    let sink = folder.path().join("arrived");
    let small = ["--pcap-buffer-size", "1"];
    let node = capture_in(&namespace, &sink, &small);
    let both = [&*first.path, &second.path];
    end_while_sending(&node, &namespace, both, Signal::SIGKILL, 4);
    let sent = [first.packets, second.packets].concat();
    let (difference, dropped, lost) = account(node, &sink, &sent);
    assert!(dropped > 0, "the ring was full at times");
    assert_eq!((difference.lost as u64, lost), (dropped, 0), "{difference}");
}

/// Nobody else can read libpcap's ring, but what it held is counted.
#[test]
fn what_libpcap_held_for_a_killed_capture_daemon_is_counted() {
    let Some(namespace) = Namespace::or_skipped("libpcap") else {
        return;
    };
    let folder = tempdir().unwrap();
    let (first, second) = (frames(folder.path(), "1"), frames(folder.path(), "2"));
    let sink = folder.path().join("arrived");
    let libpcap = ["--capture-backend", "pcap"];
    let node = capture_in(&namespace, &sink, &libpcap);
    let both = [&*first.path, &second.path];
    end_while_sending(&node, &namespace, both, Signal::SIGKILL, 2);
    let status = node.status().unwrap();
    assert_eq!(counter(&status, "capture_reopened_total"), 2);
    assert!(counter(&status, "capture_down_milliseconds_total") > 0);
    let sent = [first.packets, second.packets].concat();
    let (difference, dropped, lost) = account(node, &sink, &sent);
    assert!(lost > 0, "the sockets held something");
    // For a moment at each start the old socket and the new one see the same packets.
    let missing = difference.lost as u64;
    assert!(
        (missing..missing + 100).contains(&(dropped + lost)),
        "{difference}"
    );
}

#[test]
fn an_idle_node_is_idle() {
    let Some(namespace) = Namespace::or_skipped("idle") else {
        return;
    };
    let folder = tempdir().unwrap();
    let node = capture_in(&namespace, &folder.path().join("arrived"), &[]);
    let daemons: Vec<u32> = ["lc-capd", "lc-workerd 0", "lc-workerd 1", "lc-fwdd"]
        .iter()
        .map(|name| node.daemon(name).unwrap().unsigned_abs())
        .collect();
    let used = || Effort::of(&daemons).unwrap();
    let (before, span) = (used(), Duration::from_secs(5));
    thread::sleep(span);
    let used = used().since(before);
    println!(
        "capd, 2 workers and fwdd, idle: {:.2} % of a core, woken {} times in {span:?}",
        100.0 * used.time.as_secs_f64() / span.as_secs_f64(),
        used.waits,
    );
    assert!(used.waits < 1_000, "{used:?}");
    assert!(used.time < span / 4, "{used:?}");
    node.terminate().unwrap();
}
