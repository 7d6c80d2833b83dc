//! Media that move to addresses of which no message tells stay those of their calls, whichever workers see which part of them.
//!
//! Of 48 calls all move in the middle of their media, twelve match, and six have one source (SSRC) for all their streams. The reports of the streams move, too.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use lc_tests::calls::{Calls, Plan};
use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::node::{Node, PATIENCE, counter};
use lc_tests::processor;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

const PLAN: Plan = Plan {
    calls: 48,
    apart_ms: 300,
    media: 80,
    every_ms: 50,
};

fn is_wanted(number: usize) -> bool {
    number % 4 == 1
}

fn make(folder: &Path) -> Calls {
    Calls::make(folder, PLAN, |number, call| {
        call.moves = true;
        call.source = (number % 8 == 1).then_some(0x1122_3344);
    })
    .unwrap()
}

fn write_filters(path: &Path, made: &Calls) {
    let mut text = String::new();
    for number in (0..made.calls.len()).filter(|number| is_wanted(*number)) {
        let id = &made.calls[number].id;
        text += &processor::filter(number, "call_id", id);
    }
    fs::write(path, text).unwrap();
}

/// Exactly the packets of the calls that match, each told as one of its call.
fn check(made: &Calls, sink: &Path, run: &str) {
    let expected = made.packets_of(is_wanted);
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
    let difference = Difference::between(&expected, &arrived);
    assert!(difference.is_none(), "{run}: {difference}");
    let owners: HashMap<i64, usize> = (made.packets.iter().zip(&made.owners))
        .map(|(packet, owner)| (packet.time_ns, *owner))
        .collect();
    for told in processor::told(sink).unwrap() {
        let owner = owners[&told.timestamp_ns];
        let metadata = told.metadata.as_ref().unwrap();
        let call_id = &metadata.sip.as_ref().unwrap().call_id;
        assert_eq!(*call_id, made.calls[owner].id, "{run}");
        assert_eq!(told.matched_filter_ids, [owner.to_string()], "{run}");
    }
}

#[test]
fn media_that_move_stay_with_their_calls_whatever_the_number_of_workers() {
    let folder = tempdir().unwrap();
    let made = make(folder.path());
    let filters = folder.path().join("filters.toml");
    write_filters(&filters, &made);
    for workers in ["1", "2", "4", "8"] {
        let sink = folder.path().join(workers);
        let node = Node::follow_calls(&made.path, &filters, &sink, workers, &[]).unwrap();
        let outcome = node.finish(2 * PATIENCE).unwrap();
        assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
        check(&made, &sink, workers);
    }
}

#[test]
fn workers_that_die_meanwhile_make_no_difference() {
    let folder = tempdir().unwrap();
    let made = make(folder.path());
    let filters = folder.path().join("filters.toml");
    write_filters(&filters, &made);
    let sink = folder.path().join("arrived");
    let more = ["--replay-rate", "4000pps"];
    let node = Node::follow_calls(&made.path, &filters, &sink, "2", &more).unwrap();
    let received = |status: &serde_json::Value| counter(status, "worker_received_packets_total");
    let all = made.packets.len() as u64;
    for (round, worker) in ["lc-workerd 0", "lc-workerd 1", "lc-workerd 0"]
        .into_iter()
        .enumerate()
    {
        let due = all / 5 * (round as u64 + 1);
        let status = node.wait_until(|status| received(status) >= due);
        let status = status.expect("packets flow");
        assert!(received(&status) < all, "too late to kill anything");
        let pid = Pid::from_raw(node.daemon(worker).unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
    }
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    check(&made, &sink, "killed");
}
