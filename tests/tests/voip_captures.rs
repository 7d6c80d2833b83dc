//! `lc-hunt voip` over captures whose contents are known: SIP messages by Call-ID, method and status, and media by stream.
//!
//! Truth are the facts beside each capture. The captures are read in rounds, so that no file tells anything of another one's calls: files of one round have no Call-ID in
//! common. What differs for a reason stands in [`EXCEPTIONS`].

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use lc_tests::compare;
use lc_tests::node::{Node, PATIENCE, counter};
use lc_tests::processor::{self, Told};
use lc_tests::traces::{self, Trace};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::tempdir;

/// Captures whose facts are about something else, and what to leave out of the comparison.
const EXCEPTIONS: [(&str, Leave, &str); 1] = [(
    "FAX-Call-t38-CA-TDM-SIP-FB-1.pcap",
    Leave::Media,
    "RTP that goes on behind a description of T.38 is T.38 to TShark, although its headers say otherwise",
)];

/// Captures whose interface has a name of its own.
const INTERFACES: [(&str, &str); 1] = [("rtp.pcapng", "Unknown")];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leave {
    Media,
}

/// A capture, and what is in it.
#[derive(Debug)]
struct Capture {
    trace: Trace,
    /// Of the interface, as it is told with packets.
    name: String,
    packets: u64,
    facts: Facts,
}

/// Messages by Call-ID, and by method or status; and packets by stream: both ends and the source. `None` where nothing is known.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    messages: BTreeMap<(String, String), u64>,
    media: Option<BTreeMap<String, u64>>,
}

impl Capture {
    /// The capture, if it is one with calls.
    fn of(trace: Trace) -> Option<Self> {
        let known = &trace.facts;
        if known.get("sip").is_none() && known.get("rtp").is_none() {
            return None;
        }
        let name = trace.name().to_owned();
        let mut facts = Facts::known(known);
        let exception = EXCEPTIONS.iter().find(|(file, ..)| *file == name);
        match exception.map(|(_, leave, _)| leave) {
            Some(Leave::Media) => facts.media = None,
            None => {}
        }
        let interface = INTERFACES.iter().find(|(file, _)| *file == name);
        Some(Self {
            packets: known["capture"]["packets"].as_u64().unwrap(),
            trace,
            name: interface.map_or(name, |(_, interface)| (*interface).to_owned()),
            facts,
        })
    }

    fn call_ids(&self) -> BTreeSet<&str> {
        self.facts.messages.keys().map(|(id, _)| &**id).collect()
    }
}

impl Facts {
    fn known(known: &Value) -> Self {
        let mut facts = Self::default();
        for dialog in known["sip"]["dialogs"].as_array().into_iter().flatten() {
            let id = dialog["call_id"].as_str().unwrap();
            let counts = [&dialog["requests"], &dialog["responses"]];
            for (kind, count) in counts.into_iter().filter_map(Value::as_object).flatten() {
                let key = (id.to_owned(), kind.clone());
                facts.messages.insert(key, count.as_u64().unwrap());
            }
        }
        let streams = known["rtp"]["list"].as_array();
        let stream = |stream: &Value| {
            let text = |key: &str| stream[key].as_str().unwrap();
            let (from, to) = (&stream["src_port"], &stream["dst_port"]);
            let name = format!(
                "{}:{from} {}:{to} {}",
                text("src"),
                text("dst"),
                text("ssrc")
            );
            (name, stream["packets"].as_u64().unwrap())
        };
        facts.media = streams.map(|streams| streams.iter().map(stream).collect());
        facts
    }

    /// What arrived, by capture.
    fn found(told: Vec<Told>) -> BTreeMap<String, Self> {
        let mut found: BTreeMap<String, Self> = BTreeMap::new();
        for told in told {
            let facts = found.entry(told.interface_name).or_default();
            let metadata = told.metadata.unwrap();
            let sip = metadata.sip.expect("all packets are of calls");
            if let Some(rtp) = metadata.rtp {
                let from = (metadata.src_ip, metadata.src_port);
                let to = (metadata.dst_ip, metadata.dst_port);
                let ssrc = rtp["ssrc"].as_u64().unwrap_or_default();
                let name = format!("{}:{} {}:{} {ssrc:#010x}", from.0, from.1, to.0, to.1);
                *facts.media.get_or_insert_default().entry(name).or_default() += 1;
            }
            let kind = match sip.response_code {
                0 => sip.method,
                code => code.to_string(),
            };
            if !kind.is_empty() {
                *facts.messages.entry((sip.call_id, kind)).or_default() += 1;
            }
        }
        found
    }

    /// What is known but was not found as often, and the reverse.
    fn differences(&self, found: &Self) -> Vec<String> {
        let messages = compare::counts(&self.messages, &found.messages);
        let media = self.media.as_ref().map(|media| {
            let none = BTreeMap::new();
            compare::counts(media, found.media.as_ref().unwrap_or(&none))
        });
        messages
            .into_iter()
            .chain(media.into_iter().flatten())
            .collect()
    }
}

/// All captures with calls, in rounds.
fn rounds() -> Option<Vec<Vec<Capture>>> {
    let traces = traces::of(&["fragments", "other", "tunnels", "voip"]).unwrap()?;
    let captures: Vec<Capture> = traces.into_iter().filter_map(Capture::of).collect();
    assert!(captures.len() > 40, "{} captures", captures.len());
    let at_odds = |one: &Capture, other: &Capture| !one.call_ids().is_disjoint(&other.call_ids());
    Some(traces::rounds(captures, at_odds))
}

fn start(round: &[Capture], sink: &Path, workers: &str, more: &[&str]) -> Node {
    let mut arguments: Vec<OsString> = vec!["voip".into()];
    for capture in round {
        arguments.extend(["--read-file".into(), capture.trace.path.clone().into()]);
    }
    arguments.extend(["--sink".into(), sink.into()]);
    arguments.extend(["--no-filter-policy", "allow", "--workers", workers].map(OsString::from));
    arguments.extend(more.iter().map(OsString::from));
    Node::start(arguments).unwrap()
}

/// Waits for the end, and says what differs.
fn finish(node: Node, round: &[Capture], sink: &Path) -> Vec<String> {
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    let mut found = Facts::found(processor::told(sink).unwrap());
    let mut differences = Vec::new();
    for capture in round {
        let found = found.remove(&capture.name).unwrap_or_default();
        let of_capture = capture.facts.differences(&found);
        differences.extend(
            of_capture
                .iter()
                .map(|text| format!("{}: {text}", capture.name)),
        );
    }
    differences
}

#[test]
fn messages_and_media_are_those_that_are_known_to_be_there() {
    let Some(rounds) = rounds() else { return };
    let runs = rounds
        .iter()
        .flat_map(|round| ["1", "4"].map(|workers| (round, workers)));
    let runs = Mutex::new(runs);
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some((round, workers)) = { runs.lock().unwrap().next() } {
                    let sink = tempdir().unwrap();
                    let node = start(round, sink.path(), workers, &[]);
                    let differences = finish(node, round, sink.path());
                    let said = differences
                        .iter()
                        .map(|text| format!("{workers} workers: {text}"));
                    wrong.lock().unwrap().extend(said);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn workers_that_are_replaced_in_the_middle_of_captures_change_nothing() {
    let Some(rounds) = rounds() else { return };
    let round = &rounds[0];
    for workers in ["1", "4"] {
        let sink = tempdir().unwrap();
        let node = start(round, sink.path(), workers, &["--replay-rate", "1500pps"]);
        let (mut before, mut restarts) = (0, 0);
        for capture in round {
            let middle = before + capture.packets / 2;
            before += capture.packets;
            if capture.packets >= 180 {
                kill_workers_at(&node, middle);
                restarts += 1;
            }
        }
        assert!(restarts >= 4, "{restarts} captures are long enough");
        let wrong = finish(node, round, sink.path());
        assert!(wrong.is_empty(), "{workers} workers: {wrong:#?}");
    }
}

/// Kills all workers when they have received so many packets, and waits for their successors.
fn kill_workers_at(node: &Node, packets: u64) {
    let is_due = |status: &Value| counter(status, "worker_received_packets_total") >= packets;
    let status = node.wait_until(is_due).expect("packets flow");
    let killed = living_workers(&status);
    assert!(!killed.is_empty(), "{status:#}");
    for pid in &killed {
        kill(Pid::from_raw(*pid), Signal::SIGKILL).unwrap();
    }
    let are_back = |status: &Value| {
        let living = living_workers(status);
        living.len() == killed.len() && living.is_disjoint(&killed)
    };
    assert!(node.wait_until(are_back).is_some(), "{:#?}", node.status());
}

/// Their process ids.
fn living_workers(status: &Value) -> BTreeSet<i32> {
    let processes = status["processes"].as_array().into_iter().flatten();
    let is_living = |process: &&Value| {
        let name = process["name"].as_str().unwrap_or_default();
        name.starts_with("lc-workerd") && process["alive"] == true
    };
    let living = processes.filter(is_living);
    living
        .map(|process| process["pid"].as_i64().unwrap().try_into().unwrap())
        .collect()
}
