//! What forwarded packets tell of their protocols, through the whole node.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lc_tests::generated::generate;
use lc_tests::node::{Node, PATIENCE};
use serde_json::Value;
use tempfile::tempdir;

/// The metadata of all packets of `capture`, by protocol; empty where none is told.
fn told(folder: &Path, capture: &Path, workers: &str) -> BTreeMap<String, Vec<Value>> {
    let sink = folder.join(workers);
    let arguments = [
        "hunt".as_ref(),
        "--read-file".as_ref(),
        capture.as_os_str(),
        "--no-filter-policy".as_ref(),
        "allow".as_ref(),
        "--workers".as_ref(),
        workers.as_ref(),
        "--sink".as_ref(),
        sink.as_os_str(),
    ];
    let outcome = Node::start(arguments).unwrap().finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let mut by_protocol: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in fs::read_to_string(sink.join("packets.jsonl"))
        .unwrap()
        .lines()
    {
        let mut packet: Value = serde_json::from_str(line).unwrap();
        let metadata = packet["metadata"].take();
        let protocol = metadata["protocol"].as_str().unwrap_or_default();
        by_protocol
            .entry(protocol.to_owned())
            .or_default()
            .push(metadata);
    }
    by_protocol
}

#[test]
fn packets_tell_their_protocol_and_details_with_any_number_of_workers() {
    let folder = tempdir().unwrap();
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "5000"]).unwrap();
    let one = told(folder.path(), &sent.path, "1");
    let count = |told: &BTreeMap<String, Vec<Value>>| -> Vec<(String, usize)> {
        told.iter()
            .map(|(name, all)| (name.clone(), all.len()))
            .collect()
    };
    assert_eq!(count(&told(folder.path(), &sent.path, "4")), count(&one));
    let known: Vec<&str> = one.keys().map(String::as_str).collect();
    assert_eq!(known, ["", "DNS", "HTTP", "RTP", "SIP", "SMTP", "TLS"]);
    for (protocol, key) in [
        ("DNS", "transaction_id"),
        ("RTP", "ssrc"),
        ("SIP", "call_id"),
        ("TLS", "record_length"),
    ] {
        for metadata in &one[protocol] {
            assert!(!metadata["info"].as_str().unwrap().is_empty(), "{metadata}");
            let details = &metadata["details"];
            // Only TLS tells its name of packets in the middle of a record, too.
            assert!(details[key].is_string() || protocol == "TLS", "{metadata}");
        }
    }
    let server_names = one["TLS"]
        .iter()
        .filter(|metadata| metadata["details"]["sni"].is_string());
    assert!(server_names.count() > 0);
    // Known ports, and nothing but handshakes without a protocol on them.
    for metadata in &one[""] {
        assert!(
            metadata["details"].is_null() && metadata["info"].is_null(),
            "{metadata}"
        );
        assert_ne!(metadata["dst_port"], 5060, "{metadata}");
    }
}
