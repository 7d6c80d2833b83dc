//! The reference's detection vectors as packets of capture files, through the whole node: what it says of them
//! on the wire. Skipped without the reference; `workerd/tests/detection_vectors.rs` asks the detector alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use lc_tests::capture;
use lc_tests::node::{Node, PATIENCE};
use lc_tests::vectors::{self, Carrier, Packet, Segment, UNKNOWN, Vector, VectorError};
use serde_json::Value;
use tempfile::tempdir;

/// One worker: what signatures share (SIP peers, announced media) is each worker's own, and some vectors
/// spread over several flows.
const WORKERS: &str = "1";
/// Capture time between vectors: nothing that a vector leaves behind is remembered so long.
const APART_NS: u64 = 86_400 * 1_000_000_000;

#[test]
fn every_vector_is_answered_on_the_wire() {
    let vectors = match vectors::read() {
        Ok(vectors) => vectors,
        Err(absent @ VectorError::Absent { .. }) => return lc_tests::skipped!("{absent}"),
        Err(damaged) => panic!("{damaged}"),
    };
    let folder = tempdir().unwrap();
    let (captures, times) = write(&vectors, folder.path());
    let told = run(&captures, folder.path());
    let mut counts = BTreeMap::<&str, usize>::new();
    let mut failures = Vec::new();
    for (vector, time_ns) in vectors.iter().zip(times) {
        match check(vector, told.get(&time_ns)) {
            Ok(()) => *counts.entry(&vector.class).or_default() += 1,
            Err(reason) => failures.push(format!("{}: {reason}", vector.name)),
        }
    }
    for (class, passed) in &counts {
        println!("{class}: {passed}");
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Whether `metadata` is what the vector wants on the wire.
fn check(vector: &Vector, metadata: Option<&Value>) -> Result<(), String> {
    let metadata = metadata.ok_or("not forwarded")?;
    let protocol = metadata["protocol"].as_str().unwrap_or(UNKNOWN);
    let (info, details) = (&metadata["info"], &metadata["details"]);
    let line = info.as_str().unwrap_or_default();
    vector.check(protocol, line, |key| details[key].as_str())?;
    let silent = info.is_null() && details.is_null();
    if (protocol == UNKNOWN) != silent {
        return Err(format!("{protocol} is told with {info} and {details}"));
    }
    Ok(())
}

/// The metadata of all packets, by their times.
fn run(captures: &[PathBuf], folder: &Path) -> HashMap<u64, Value> {
    let sink = folder.join("sink");
    let mut arguments: Vec<OsString> =
        ["hunt", "--no-filter-policy", "allow", "--workers", WORKERS]
            .map(Into::into)
            .into();
    arguments.extend(["--sink".into(), sink.clone().into()]);
    for capture in captures {
        arguments.extend(["--read-file".into(), capture.into()]);
    }
    let outcome = Node::start(arguments).unwrap().finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let lines = fs::read_to_string(sink.join("packets.jsonl")).unwrap();
    lines
        .lines()
        .map(|line| {
            let mut packet: Value = serde_json::from_str(line).unwrap();
            let time_ns = packet["timestamp_ns"].as_u64().unwrap();
            (time_ns, packet["metadata"].take())
        })
        .collect()
}

/// Writes the vectors' packets into a file for each link type; also gives the time of each vector's last packet.
fn write(vectors: &[Vector], folder: &Path) -> (Vec<PathBuf>, Vec<u64>) {
    let mut files = BTreeMap::<u16, Vec<capture::Packet>>::new();
    let mut times = Vec::new();
    for (number, vector) in (1_u64..).zip(vectors) {
        let mut time_ns = 0;
        for (place, packet) in (0_u64..).zip(&vector.packets) {
            let (link_type, bytes, at_ms) = match packet {
                Packet::Segment(segment) => (ETHERNET, frame(number, segment), segment.at_ms),
                Packet::Frame { link_type, bytes } => (*link_type, bytes.clone(), 0),
            };
            // Each packet has a time of its own, by which it is found again.
            time_ns = number * APART_NS + at_ms * 1_000_000 + place * 1_000;
            let packet = capture::Packet::whole(link_type.into(), time_ns as i64, bytes);
            files.entry(link_type).or_default().push(packet);
        }
        times.push(time_ns);
    }
    let write = |(link_type, packets): (u16, Vec<_>)| {
        let path = folder.join(format!("{link_type}.pcap"));
        capture::write(&path, &packets).unwrap();
        path
    };
    (files.into_iter().map(write).collect(), times)
}

const ETHERNET: u16 = 1;
/// The frame of a packet of the vector `number`, between two addresses of the vector's own. Checksums are zero.
fn frame(number: u64, segment: &Segment) -> Vec<u8> {
    let from_first = segment.source.0 < segment.destination.0;
    let ends = if from_first { [1, 2] } else { [2, 1] };
    let [high, low] = (number as u16).to_be_bytes();
    let packet = transport(segment);
    let len = packet.len() as u16;
    let mut frame = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1].to_vec();
    if segment.source.0.is_ipv4() {
        frame.extend([8, 0, 0x45, segment.traffic_class]);
        frame.extend((20 + len).to_be_bytes());
        frame.extend([0, 0, 0, 0, 64, protocol(segment.carrier), 0, 0]);
        for end in ends {
            frame.extend([10, high, low, end]);
        }
    } else {
        let class = segment.traffic_class;
        frame.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, 0]);
        frame.extend(len.to_be_bytes());
        frame.extend([protocol(segment.carrier), 64]);
        for end in ends {
            frame.extend([
                0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, high, low, end,
            ]);
        }
    }
    frame.extend(packet);
    frame
}

/// A number of IANA's.
fn protocol(carrier: Carrier) -> u8 {
    match carrier {
        Carrier::Tcp => 6,
        Carrier::Udp => 17,
        Carrier::Sctp => 132,
        Carrier::Icmp => 1,
        Carrier::IcmpV6 => 58,
        Carrier::Frame => panic!("a frame without bytes"),
    }
}

/// The transport header with its payload.
fn transport(segment: &Segment) -> Vec<u8> {
    let mut packet = [
        segment.source.1.to_be_bytes(),
        segment.destination.1.to_be_bytes(),
    ]
    .concat();
    match segment.carrier {
        Carrier::Tcp => {
            packet.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags(&segment.tcp_flags)]);
            packet.extend([0xff, 0xff, 0, 0, 0, 0]);
        }
        Carrier::Udp => {
            packet.extend((8 + segment.payload.len() as u16).to_be_bytes());
            packet.extend([0, 0]);
        }
        Carrier::Sctp => packet.extend([0; 8]),
        Carrier::Icmp | Carrier::IcmpV6 | Carrier::Frame => packet.clear(),
    }
    packet.extend(&segment.payload);
    packet
}

/// By their letters, from the lowest bit on.
fn flags(letters: &str) -> u8 {
    let bit = |letter| 1 << "FSRPAU".find(letter).expect("a flag of TCP");
    letters.chars().fold(0, |flags, letter| flags | bit(letter))
}
