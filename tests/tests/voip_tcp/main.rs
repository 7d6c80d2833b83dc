//! `lc-hunt voip` with SIP over TCP, in WebSockets and over SCTP: the segments of the calls that match, each once, in order, and each message told of once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod generated;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use generated::{Calls, Carrier, Wanted, generate};
use lc_tests::capture::{self, Packet};
use lc_tests::compare::Difference;
use lc_tests::node::{Node, PATIENCE, counter};
use lc_tests::processor;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

const CARRIERS: &[Carrier] = &[
    Carrier::Bare,
    Carrier::WebSocket,
    Carrier::Bare,
    Carrier::Sctp,
];

/// Every third call is wanted, by its caller, whose name is the filter's id.
fn choose(sent: &Calls, filters: &Path) -> BTreeSet<String> {
    let wanted: BTreeSet<String> = sent.callers.keys().step_by(3).cloned().collect();
    let mut text = String::new();
    for call in &wanted {
        let caller = &sent.callers[call];
        text += &processor::filter(caller, "sip_user", caller);
    }
    fs::write(filters, text).unwrap();
    wanted
}

fn check(sent: &Calls, wanted: &BTreeSet<String>, sink: &Path) {
    let with_calls = || sent.packets.iter().zip(&sent.calls_of);
    let expected: Vec<Packet> = with_calls()
        .filter(|(_, calls)| !calls.is_disjoint(wanted))
        .map(|(packet, _)| packet.clone())
        .collect();
    let mut arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
    arrived.retain(|packet| !packet.bytes.is_empty());
    let difference = Difference::between(&expected, &arrived);
    assert!(difference.is_none(), "{difference}");

    let by_time: HashMap<i64, &BTreeSet<String>> = with_calls()
        .map(|(packet, calls)| (packet.time_ns, calls))
        .collect();
    let mut messages: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
    for told in processor::told(sink).unwrap() {
        let metadata = told.metadata.as_ref().unwrap();
        let sip = metadata.sip.as_ref().unwrap();
        assert!(wanted.contains(&sip.call_id), "{told:?}");
        let key = match sip.response_code {
            0 => sip.method.clone(),
            code => code.to_string(),
        };
        if !key.is_empty() {
            let messages = messages.entry(sip.call_id.clone()).or_default();
            *messages.entry(key).or_default() += 1;
        }
        assert_ne!((metadata.src_port, metadata.dst_port), (0, 0), "{told:?}");
        let ids: BTreeSet<&str> = told.matched_filter_ids.iter().map(|id| &**id).collect();
        let expected: BTreeSet<&str> = match told.capture_length {
            0 => [&*sent.callers[&sip.call_id]].into(),
            _ => {
                let calls = by_time[&told.timestamp_ns];
                assert!(calls.contains(&sip.call_id), "{told:?}");
                let calls = calls.intersection(wanted);
                calls.map(|call| &*sent.callers[call]).collect()
            }
        };
        assert_eq!(ids, expected, "{told:?}");
    }
    for call in wanted {
        assert_eq!(messages.get(call), sent.messages.get(call), "{call}");
    }
    assert_eq!(messages.len(), wanted.len());
}

#[test]
fn segments_of_the_calls_that_match_arrive_whatever_the_number_of_workers() {
    let folder = tempdir().unwrap();
    let sent = generate(
        folder.path(),
        &Wanted {
            seed: 1,
            calls: 160,
            carriers: CARRIERS,
            is_rough: true,
            media: 20,
        },
    );
    let several = sent.calls_of.iter().filter(|calls| calls.len() > 1).count();
    assert!(several > 20, "{several} segments of several calls");
    let filters = folder.path().join("filters.toml");
    let wanted = choose(&sent, &filters);
    for workers in ["1", "4"] {
        let sink = folder.path().join(workers);
        let node = Node::follow_calls(&sent.path, &filters, &sink, workers, &[]).unwrap();
        let outcome = node.finish(2 * PATIENCE).unwrap();
        assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
        check(&sent, &wanted, &sink);
    }
}

#[test]
fn a_worker_that_dies_loses_no_message_and_tells_of_none_twice() {
    let folder = tempdir().unwrap();
    let sent = generate(
        folder.path(),
        &Wanted {
            seed: 2,
            calls: 240,
            carriers: &[Carrier::Bare, Carrier::Sctp],
            is_rough: false,
            media: 20,
        },
    );
    let filters = folder.path().join("filters.toml");
    let wanted = choose(&sent, &filters);
    let sink = folder.path().join("arrived");
    let more = ["--replay-rate", "2000pps"];
    let node = Node::follow_calls(&sent.path, &filters, &sink, "2", &more).unwrap();
    let all = sent.packets.len() as u64;
    let received = |status: &serde_json::Value| counter(status, "worker_received_packets_total");
    for (round, worker) in [
        "lc-workerd 0",
        "lc-workerd 1",
        "lc-workerd 0",
        "lc-workerd 1",
    ]
    .into_iter()
    .enumerate()
    {
        let due = all / 6 * (round as u64 + 1);
        let status = node
            .wait_until(|status| received(status) >= due)
            .expect("packets flow");
        assert!(received(&status) < all, "too late to kill anything");
        let pid = Pid::from_raw(node.daemon(worker).unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
    }
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    check(&sent, &wanted, &sink);
}
