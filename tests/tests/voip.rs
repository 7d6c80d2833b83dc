//! `lc-hunt voip` end to end: the packets of the calls that match, each once, in order, with what the processor needs to know of them.
//!
//! The captures are generated: SIP over UDP with media both ways. What belongs to which call is found out here by other means than the node's: by the text of the
//! messages, and by the addresses and ports that they announce.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use lc_tests::capture::{self, Packet};
use lc_tests::compare::Difference;
use lc_tests::generated::{Generated, generate};
use lc_tests::node::{Node, PATIENCE, counter, outcome_in_all};
use lc_tests::processor;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

/// About 500 packets each, 100 of them at the same time.
fn calls(folder: &Path, packets: u32, more: &[&str]) -> Generated {
    let packets = packets.to_string();
    let flags = [
        "--mix",
        "calls=100",
        "--ipv6",
        "0",
        "--vlan",
        "0",
        "--packets",
        &packets,
    ];
    generate(folder, "calls.pcap", &[&flags, more].concat()).unwrap()
}

/// The caller of a call, and its packets by number.
#[derive(Default)]
struct Call {
    caller: String,
    packets: Vec<usize>,
}

/// An end of a packet: address and port. A call's media have the port that is announced, its reports the next one.
fn ends(packet: &Packet) -> [([u8; 4], u16); 2] {
    let bytes = |at: usize| packet.bytes[at..at + 4].try_into().unwrap();
    let port = |at: usize| u16::from_be_bytes(packet.bytes[at..at + 2].try_into().unwrap()) & !1;
    [(bytes(26), port(34)), (bytes(30), port(36))]
}

fn value<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// All calls of a capture, by Call-ID, and the Call-ID of each packet.
fn find_calls(packets: &[Packet]) -> (BTreeMap<String, Call>, Vec<String>) {
    let mut calls: BTreeMap<String, Call> = BTreeMap::new();
    let mut media: HashMap<[([u8; 4], u16); 2], String> = HashMap::new();
    let mut offers: HashMap<String, ([u8; 4], u16)> = HashMap::new();
    let mut ids = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        let ends = ends(packet);
        let text = String::from_utf8_lossy(&packet.bytes[42..]).into_owned();
        let id = match value(&text, "Call-ID") {
            Some(id) => {
                let announced = text.lines().find_map(|line| line.strip_prefix("m=audio "));
                if let Some(port) = announced.and_then(|line| line.split(' ').next()) {
                    let own = (ends[0].0, port.parse().unwrap());
                    match offers.remove(id) {
                        None => drop(offers.insert(id.to_owned(), own)),
                        Some(other) => {
                            media.insert([own, other], id.to_owned());
                            media.insert([other, own], id.to_owned());
                        }
                    }
                }
                id.to_owned()
            }
            None => media[&ends].clone(),
        };
        let call = calls.entry(id.clone()).or_default();
        call.packets.push(number);
        if text.starts_with("INVITE") {
            let from = value(&text, "From").unwrap();
            let (_, from) = from.split_once("sip:").unwrap();
            call.caller = from.split_once('@').unwrap().0.to_owned();
        }
        ids.push(id);
    }
    (calls, ids)
}

/// Filters for some callers, each with its number as id.
fn write_filters(path: &Path, callers: &BTreeSet<&str>) {
    let filter = |caller: &&str| processor::filter(caller, "sip_user", caller);
    fs::write(path, callers.iter().map(filter).collect::<String>()).unwrap();
}

/// Every eighth call is wanted. Returns what is to arrive, and the call of each packet of that by its time.
fn choose<'c>(
    sent: &Generated,
    calls: &'c BTreeMap<String, Call>,
) -> (
    BTreeSet<&'c str>,
    Vec<Packet>,
    HashMap<i64, BTreeSet<&'c str>>,
) {
    let wanted: Vec<_> = calls.iter().step_by(8).collect();
    let callers = wanted.iter().map(|(_, call)| &*call.caller).collect();
    let mut numbers: Vec<usize> = wanted
        .iter()
        .flat_map(|(_, call)| call.packets.clone())
        .collect();
    numbers.sort_unstable();
    let expected: Vec<Packet> = numbers
        .iter()
        .map(|number| sent.packets[*number].clone())
        .collect();
    let mut by_time: HashMap<i64, BTreeSet<&str>> = HashMap::new();
    for (id, call) in wanted {
        for number in &call.packets {
            by_time
                .entry(sent.packets[*number].time_ns)
                .or_default()
                .insert(id);
        }
    }
    (callers, expected, by_time)
}

fn check_metadata(
    sink: &Path,
    calls: &BTreeMap<String, Call>,
    by_time: &HashMap<i64, BTreeSet<&str>>,
) {
    for told in processor::told(sink).unwrap() {
        let sip = told
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.sip.as_ref());
        let id = &sip.unwrap_or_else(|| panic!("{told:?}")).call_id;
        assert!(by_time[&told.timestamp_ns].contains(&**id), "{told:?}");
        assert_eq!(told.matched_filter_ids, [&*calls[id].caller], "{told:?}");
    }
}

#[test]
fn exactly_the_packets_of_the_calls_that_match_arrive_whatever_the_number_of_workers() {
    let folder = tempdir().unwrap();
    let sent = calls(folder.path(), 60_000, &[]);
    let (calls, _) = find_calls(&sent.packets);
    assert!(calls.len() >= 100, "{} calls", calls.len());
    let (callers, expected, by_time) = choose(&sent, &calls);
    let filters = folder.path().join("filters.toml");
    write_filters(&filters, &callers);
    for workers in ["1", "2", "4"] {
        let sink = folder.path().join(workers);
        let node = Node::follow_calls(&sent.path, &filters, &sink, workers, &[]).unwrap();
        let outcome = node.finish(2 * PATIENCE).unwrap();
        assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
        let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
        let difference = Difference::between(&expected, &arrived);
        assert!(
            difference.is_none(),
            "{workers} workers: {difference}{}",
            outcome.stdout
        );
        let matched = outcome_in_all(&outcome, "forwarded");
        assert_eq!(matched, expected.len() as u64, "{}", outcome.stdout);
        check_metadata(&sink, &calls, &by_time);
    }
}

#[test]
fn a_worker_that_dies_loses_neither_calls_nor_packets_that_wait() {
    let folder = tempdir().unwrap();
    let sent = calls(folder.path(), 30_000, &[]);
    let (calls, _) = find_calls(&sent.packets);
    let (callers, expected, by_time) = choose(&sent, &calls);
    let filters = folder.path().join("filters.toml");
    write_filters(&filters, &callers);
    let sink = folder.path().join("arrived");
    let more = ["--replay-rate", "4000pps"];
    let node = Node::follow_calls(&sent.path, &filters, &sink, "2", &more).unwrap();
    for (round, worker) in ["lc-workerd 0", "lc-workerd 1", "lc-workerd 0"]
        .into_iter()
        .enumerate()
    {
        let due = 6_000 * (round as u64 + 1);
        let received =
            |status: &serde_json::Value| counter(status, "worker_received_packets_total");
        let status = node
            .wait_until(|status| received(status) >= due)
            .expect("packets flow");
        assert!(received(&status) < 30_000, "too late to kill anything");
        let pid = Pid::from_raw(node.daemon(worker).unwrap());
        kill(pid, Signal::SIGKILL).unwrap();
    }
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
    let difference = Difference::between(&expected, &arrived);
    assert!(difference.is_none(), "{difference}");
    check_metadata(&sink, &calls, &by_time);
}
