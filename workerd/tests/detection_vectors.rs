//! The reference's detection vectors, one after the other, each with a fresh detector.
//!
//! They are read from the file that `LC_HUNT_REFERENCE` names the folder of, by default
//! `../../shared/reference` beside the repository; without it the test is skipped.
//!
//! | kind | what it says |
//! |---|---|
//! | parity | the reference finds this, and so must we |
//! | negative | the reference finds nothing, and so must we, or one of the names it lists |
//! | beat | the reference is wrong here |

#![allow(clippy::unwrap_used)]

use lc_workerd::decode::{Addr, arp, decode};
use lc_workerd::detect::{Context, Details, Detector, FIN, Flow, Layer, RST};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;

const FILE: &str = "detection-vectors.json";

#[test]
fn every_vector_is_answered_as_it_must_be() {
    let folder = std::env::var_os("LC_HUNT_REFERENCE").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../shared/reference"
            ))
        },
        PathBuf::from,
    );
    let Ok(text) = std::fs::read_to_string(folder.join(FILE)) else {
        lc_tests::skipped!("no {FILE} in {}", folder.display());
        return;
    };
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut counts = BTreeMap::<&str, [usize; 2]>::new();
    let mut confidences = [0; 2];
    let mut infos = [0; 2];
    let mut failures = Vec::new();
    for vector in &vectors {
        let count = counts.entry(vector["class"].as_str().unwrap()).or_default();
        count[1] += 1;
        match check(vector) {
            Ok(found) => {
                count[0] += 1;
                tally(&mut confidences, found.confidence);
                tally(&mut infos, found.info);
            }
            Err(reason) => failures.push(format!("{}: {reason}", vector["name"])),
        }
    }
    for (kind, [passed, all]) in &counts {
        println!("{kind}: {passed} of {all}");
    }
    println!("same confidence: {} of {}", confidences[0], confidences[1]);
    println!("same info: {} of {}", infos[0], infos[1]);
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Whether what the vectors tell beside their answer is the same; nothing if they tell nothing.
struct Found {
    confidence: Option<bool>,
    info: Option<bool>,
}

fn tally(counts: &mut [usize; 2], same: Option<bool>) {
    counts[0] += usize::from(same == Some(true));
    counts[1] += usize::from(same.is_some());
}

fn check(vector: &Value) -> Result<Found, String> {
    let mut node = Node::new();
    let empty = Vec::new();
    for packet in vector["prelude"].as_array().unwrap_or(&empty) {
        node.feed(&with_defaults(packet, vector));
    }
    let (protocol, confidence) = node.feed(vector);
    let accepted: Vec<&str> = match vector["accept_protocols"].as_array() {
        Some(list) => list.iter().filter_map(Value::as_str).collect(),
        None => vec![vector["expect_protocol"].as_str().unwrap()],
    };
    if !accepted.contains(&protocol) {
        return Err(format!("{protocol}, not one of {accepted:?}"));
    }
    let expected = vector["expect_protocol"].as_str().unwrap();
    if protocol == expected && protocol != "unknown" {
        for (key, value) in vector["expect_metadata"].as_object().unwrap() {
            let text = as_text(value);
            let same =
                |found: &str| found == text || value.is_object() && sorted(found) == sorted(&text);
            if !node.details.get(key).is_some_and(same) {
                return Err(format!(
                    "{key} is {:?}, not {text:?}",
                    node.details.get(key)
                ));
            }
        }
    }
    let confidence = vector["expect_confidence"]
        .as_f64()
        .map(|expected| (expected * 1000.0 - f64::from(confidence)).abs() < 1.0);
    let info = vector["expect_info"]
        .as_str()
        .map(|expected| expected == node.details.info());
    Ok(Found { confidence, info })
}

/// A prelude packet with what it leaves out taken from its vector; it isn't reversed by it.
fn with_defaults(packet: &Value, vector: &Value) -> Value {
    let mut whole = vector.as_object().unwrap().clone();
    for key in ["reverse", "tcp_flags", "at_ms"] {
        whole.remove(key);
    }
    whole.extend(packet.as_object().unwrap().clone());
    Value::Object(whole)
}

/// A map's lines in an order of their own.
fn sorted(map: &str) -> Vec<&str> {
    let mut lines: Vec<_> = map.lines().collect();
    lines.sort_unstable();
    lines
}

/// As the details say it: see `Details`.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(as_text).collect::<Vec<_>>().join(","),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| format!("{key}={}", as_text(value));
            map.iter().map(entry).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// An address and a port.
type End = (Addr, u16);

/// A worker's detection with the simplest of flow tables.
struct Node {
    detector: Detector,
    details: Details,
    flows: HashMap<(Layer, [End; 2]), (Flow, End)>,
}

impl Node {
    fn new() -> Self {
        Self {
            detector: Detector::new(),
            details: Details::new(),
            flows: HashMap::new(),
        }
    }

    /// The answer to a packet, and its confidence in thousandths.
    fn feed(&mut self, vector: &Value) -> (&'static str, u16) {
        self.details.clear();
        let text = |key: &str| vector[key].as_str();
        let bytes = |key: &str| unhex(text(key).unwrap_or_default());
        let (payload, frame) = (bytes("payload_hex"), bytes("frame_hex"));
        let port = |key: &str| vector[key].as_u64().unwrap() as u16;
        let mut ends = [
            (
                address(text("src_ip").unwrap_or("192.0.2.10")),
                port("src_port"),
            ),
            (
                address(text("dst_ip").unwrap_or("198.51.100.20")),
                port("dst_port"),
            ),
        ];
        let layer = match text("transport").unwrap() {
            "TCP" => Layer::Tcp,
            "UDP" => Layer::Udp,
            "SCTP" => Layer::Sctp,
            "ICMP" => Layer::Icmp,
            "ICMPv6" => Layer::IcmpV6,
            _ => return self.feed_frame(vector["link_type"].as_u64().unwrap() as u16, &frame),
        };
        if vector["reverse"].as_bool() == Some(true) {
            ends.swap(0, 1);
        }
        let mut context = Context::new(layer, (ends[0].1, ends[1].1), &payload);
        context.addresses = (ends[0].0, ends[1].0);
        context.time_ns = 1_000_000_000 + vector["at_ms"].as_u64().unwrap_or(0) * 1_000_000;
        context.traffic_class = vector["tos"].as_u64().unwrap_or(0) as u8;
        for flag in text("tcp_flags").unwrap_or("PA").chars() {
            context.tcp_flags |= match flag {
                'F' => FIN,
                'R' => RST,
                _ => 0,
            };
        }
        self.observe(context)
    }

    fn feed_frame(&mut self, link_type: u16, frame: &[u8]) -> (&'static str, u16) {
        let decoded = decode(link_type, frame);
        if let Some(packet) = arp(link_type, frame) {
            return self.observe(Context::new(Layer::Arp, (0, 0), packet));
        }
        let Some(context) = Context::decoded(&decoded, frame, true, 1_000_000_000) else {
            return ("unknown", 0);
        };
        self.observe(context)
    }

    fn observe(&mut self, mut context: Context<'_>) -> (&'static str, u16) {
        let source = (context.addresses.0, context.source_port);
        let destination = (context.addresses.1, context.destination_port);
        let mut ends = [source, destination];
        ends.sort_by_key(|(address, port)| (format!("{address:?}"), *port));
        let flow = self
            .flows
            .entry((context.layer, ends))
            .or_insert((Flow::default(), source));
        context.forward = flow.1 == source;
        let verdict = self.detector.observe(&context, &mut flow.0);
        self.detector
            .describe(&context, &mut flow.0, &mut self.details);
        verdict.map_or(("unknown", 0), |verdict| {
            (verdict.protocol.name(), verdict.confidence.in_thousandths())
        })
    }
}

fn address(text: &str) -> Addr {
    match text.parse().unwrap() {
        IpAddr::V4(address) => Addr::V4(address.to_bits()),
        IpAddr::V6(address) => Addr::of_v6(address.to_bits()),
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let number = |pair: &[u8; 2]| {
        let pair = std::str::from_utf8(pair).unwrap();
        u8::from_str_radix(pair, 16).unwrap()
    };
    pairs.iter().map(number).collect()
}
