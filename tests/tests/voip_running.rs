//! Calls that run for long, and filters that come while they do.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::path::Path;

use lc_tests::calls::{Call, Calls, Plan};
use lc_tests::capture::{self, Packet};
use lc_tests::compare::Difference;
use lc_tests::flow::Flow;
use lc_tests::node::{Node, PATIENCE, counter};
use lc_tests::processor;
use tempfile::tempdir;

/// Filters for some callers, all at once for whoever reads the file.
fn write_filters<'a>(path: &Path, callers: impl IntoIterator<Item = &'a Call>) {
    let filter = |call: &Call| processor::filter(&call.caller, "sip_user", &call.caller);
    let text: String = callers.into_iter().map(filter).collect();
    processor::replace_filters(path, &text).unwrap();
}

#[test]
fn a_call_of_ten_minutes_is_forwarded_to_its_end() {
    let folder = tempdir().unwrap();
    let plan = Plan {
        calls: 2,
        apart_ms: 1_000,
        media: 10_000,
        every_ms: 60,
    };
    let made = Calls::make(folder.path(), plan, |_, _| {}).unwrap();
    let filters = folder.path().join("filters.toml");
    write_filters(&filters, [&made.calls[1]]);
    let expected = made.packets_of(|call| call == 1);
    let [first, .., last] = &expected[..] else {
        panic!("packets");
    };
    assert!(last.time_ns - first.time_ns > 600_000_000_000);
    for workers in ["1", "4"] {
        let sink = folder.path().join(workers);
        let node = Node::follow_calls(&made.path, &filters, &sink, workers, &[]).unwrap();
        let outcome = node.finish(2 * PATIENCE).unwrap();
        assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
        let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
        let difference = Difference::between(&expected, &arrived);
        assert!(difference.is_none(), "{workers} workers: {difference}");
        let told = processor::told(&sink).unwrap();
        assert!(
            told.iter()
                .all(|told| told.matched_filter_ids == [made.calls[1].caller.clone()])
        );
    }
}

#[test]
fn a_filter_that_comes_while_calls_run_catches_them_from_then_on() {
    let folder = tempdir().unwrap();
    let plan = Plan {
        calls: 10,
        apart_ms: 10,
        media: 300,
        every_ms: 20,
    };
    let made = Calls::make(folder.path(), plan, |_, _| {}).unwrap();
    let filters = folder.path().join("filters.toml");
    write_filters(&filters, [&made.calls[2]]);
    let sink = folder.path().join("arrived");
    let node = Node::follow_calls(
        &made.path,
        &filters,
        &sink,
        "4",
        &["--replay-rate", "2000pps"],
    )
    .unwrap();
    let received = |due: u64| {
        let status =
            node.wait_until(|status| counter(status, "worker_received_packets_total") >= due);
        counter(
            &status.expect("packets flow"),
            "worker_received_packets_total",
        ) as usize
    };
    let before = received(3_000);
    write_filters(&filters, [&made.calls[2], &made.calls[7]]);
    let in_force = node.wait_until(|status| {
        let filters = &status["filters"];
        let mut workers = filters["workers"].as_array().unwrap().iter();
        filters["enabled"] == 2 && workers.all(|worker| *worker == filters["generation"])
    });
    // What the workers have received when they have the filter, and what they have in their hands.
    let after = counter(
        &in_force.expect("the filter is in force"),
        "worker_received_packets_total",
    ) as usize
        + 1_000;
    assert!(after < made.packets.len(), "too late");
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
    let always = made.packets_of(|call| call == 2);
    let late = made.packets_of(|call| call == 7);
    let of_late = |packet: &&capture::Packet| late.contains(packet);
    let (caught, rest): (Vec<_>, Vec<_>) =
        arrived.iter().cloned().partition(|packet| of_late(&packet));
    let difference = Difference::between(&always, &rest);
    assert!(difference.is_none(), "{difference}");
    // Of each flow all from some moment on: workers take up the filter one by one.
    let (earliest, latest) = (made.packets[before].time_ns, made.packets[after].time_ns);
    let mut flows: HashMap<Flow, (Vec<&Packet>, Vec<&Packet>)> = HashMap::new();
    for packet in &late {
        flows.entry(Flow::of(packet)).or_default().0.push(packet);
    }
    for packet in &caught {
        flows.entry(Flow::of(packet)).or_default().1.push(packet);
    }
    assert_eq!(flows.len(), 6, "of each leg signalling, media, reports");
    for (late, caught) in flows.into_values() {
        let (missed, since) = late.split_at(late.len() - caught.len());
        assert_eq!(since, caught);
        assert!(missed.iter().all(|packet| packet.time_ns < latest));
        assert!(since.iter().all(|packet| packet.time_ns >= earliest));
    }
}
