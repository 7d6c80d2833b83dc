//! A processor that pauses while more comes in than the node has room for: what nothing asked for goes first, and is
//! counted; a replay waits.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::generated::{Generated, generate};
use lc_tests::namespace::Namespace;
use lc_tests::node::{Node, PATIENCE, counter, is_capturing};
use lc_tests::processor::{self, Processor};
use serde_json::Value;
use tempfile::tempdir;

/// More than two rings of 2 MiB hold.
const PACKETS: u64 = 4_000;

/// Of a node whose rings are as small as can be.
const SMALL: [&str; 6] = [
    "--workers",
    "1",
    "--buffer-size",
    "100",
    "--batch-queue-size",
    "1",
];

fn flood(folder: &Path) -> Generated {
    let packets = PACKETS.to_string();
    let flags = [
        "--flood",
        "round-robin",
        "--size",
        "1400",
        "--ipv6",
        "0",
        "--packets",
    ];
    generate(
        folder,
        "flood.pcap",
        &[&flags[..], &[packets.as_str()]].concat(),
    )
    .unwrap()
}

/// Captures the flood live while the processor, with these filters, pauses; the status when all of it has its end, and
/// what arrived.
fn capture_under_pressure(label: &str, filters: &str) -> Option<(Value, Vec<capture::Packet>)> {
    let namespace = Namespace::or_skipped(label)?;
    let folder = tempdir().unwrap();
    let sent = flood(folder.path());
    let filter_file = folder.path().join("filters.toml");
    fs::write(&filter_file, filters).unwrap();
    let of_processor = [
        "--flow".as_ref(),
        "pause:4s@1".as_ref(),
        "--filters".as_ref(),
        filter_file.as_os_str(),
    ];
    let processor = Processor::start_in(namespace.name(), folder.path(), 0, of_processor).unwrap();
    let address = processor.address();
    let of_node = [
        "hunt",
        "--interface",
        "receive",
        "--processor",
        &address,
        "--insecure",
        "--no-filter-policy",
        "allow",
    ];
    let node = Node::start_in(namespace.name(), [&of_node[..], &SMALL].concat()).unwrap();
    node.wait_until(|status| {
        is_capturing(status) && status["filters"]["workers"][0].as_u64() > Some(0)
    })
    .expect("the node captures");
    assert_eq!(namespace.send(&sent.path).unwrap().code(), 0);
    let status = node
        .wait_until(|status| {
            counter(status, "capture_packets_total") >= PACKETS && status["ledger"]["quiet"] == true
        })
        .expect("every packet has its end");
    assert_eq!(status["ledger"]["balanced"], true, "{status:#}");
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let arrived = capture::read(&folder.path().join("packets.pcapng")).unwrap();
    assert_eq!(
        arrived.packets.len() as u64,
        counter(&status, "forward_acked_packets_total")
    );
    Some((status, arrived.packets))
}

#[test]
fn what_nothing_asked_for_is_shed_before_the_rings_are_full() {
    let Some((status, _)) = capture_under_pressure("shed", "filters = []\n") else {
        return;
    };
    assert!(
        counter(&status, "worker_shed_packets_total") > 0,
        "{status:#}"
    );
    assert_eq!(counter(&status, "capture_ring_full_packets_total"), 0);
    assert_eq!(counter(&status, "worker_tx_full_waits_total"), 0);
}

#[test]
fn what_a_filter_asked_for_is_never_shed() {
    let filter = processor::filter("all", "ip_address", "*");
    let Some((status, arrived)) = capture_under_pressure("asked", &filter) else {
        return;
    };
    assert_eq!(counter(&status, "worker_shed_packets_total"), 0);
    let full = counter(&status, "capture_ring_full_packets_total");
    assert!(full > 0, "{status:#}");
    assert_eq!(arrived.len() as u64, PACKETS - full, "{status:#}");
}

#[test]
fn a_replay_sheds_nothing() {
    let folder = tempdir().unwrap();
    let sent = flood(folder.path());
    let processor = Processor::start(folder.path(), 0, ["--flow", "pause:1s@1"]).unwrap();
    let address = processor.address();
    let path = sent.path.to_str().unwrap();
    let arguments = [
        "hunt",
        "--read-file",
        path,
        "--processor",
        &address,
        "--insecure",
        "--no-filter-policy",
        "allow",
    ];
    let node = Node::start([&arguments[..], &SMALL].concat()).unwrap();
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let arrived = capture::read(&folder.path().join("packets.pcapng")).unwrap();
    let difference = Difference::between(&sent.packets, &arrived.packets);
    assert!(difference.is_none(), "{difference}");
}
