//! The tests' own reader of captures, held against captures whose contents are known.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::traces;

#[test]
fn reads_as_many_packets_as_each_capture_is_known_to_hold() {
    let Some(traces) = traces::all().unwrap() else {
        return;
    };
    assert!(!traces.is_empty());
    let mut wrong = Vec::new();
    for trace in traces {
        let packets = capture::read(&trace.path).unwrap();
        let known = trace.facts["capture"]["packets"].as_u64().unwrap();
        if packets.packets.len() as u64 != known {
            wrong.push(format!(
                "{}: {} instead of {known} ({:?})",
                trace.path.display(),
                packets.packets.len(),
                packets.damage
            ));
        }
        assert!(Difference::between(&packets.packets, &packets.packets).is_none());
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn times_and_lengths_are_those_that_are_known() {
    let Some(traces) = traces::all().unwrap() else {
        return;
    };
    let mut wrong = Vec::new();
    for trace in traces {
        let facts = &trace.facts["capture"];
        let packets = capture::read(&trace.path).unwrap().packets;
        let Some(first) = packets.first() else {
            continue;
        };
        // A packet without a time has an empty one there.
        let known_time = facts["first_ts"].as_str().unwrap().replacen('.', "", 1);
        let captured: u64 = packets.iter().map(|packet| packet.bytes.len() as u64).sum();
        let on_wire: u64 = packets
            .iter()
            .map(|packet| u64::from(packet.original_len))
            .sum();
        if first.time_ns != known_time.parse::<i64>().unwrap_or_default()
            || captured != facts["bytes_captured"].as_u64().unwrap()
            || on_wire != facts["bytes_on_wire"].as_u64().unwrap()
        {
            wrong.push(format!("{}: {facts}", trace.path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn compression_changes_nothing() {
    let plain = pcap(&[&[1, 2, 3], &[4, 5]]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&plain).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let paths = [
        folder.path().join("a.pcap"),
        folder.path().join("a.pcap.gz"),
    ];
    std::fs::write(&paths[0], plain).unwrap();
    std::fs::write(&paths[1], packed.finish().unwrap()).unwrap();
    let [plain, packed] = paths.map(|path| capture::read(&path).unwrap());
    assert_eq!(plain.packets.len(), 2);
    assert!(Difference::between(&plain.packets, &packed.packets).is_none());
    assert_eq!(packed.damage, None);
}

#[test]
fn a_cut_file_gives_what_is_whole() {
    let mut bytes = pcap(&[&[1, 2, 3], &[4, 5]]);
    bytes.pop();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.pcap");
    std::fs::write(&path, bytes).unwrap();
    let read = capture::read(&path).unwrap();
    assert_eq!(read.packets.len(), 1);
    assert_eq!(read.damage.as_deref(), Some("ends inside a record"));
}

#[test]
fn other_files_are_no_captures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("text");
    std::fs::write(
        &path,
        "This is no capture, but long enough to be looked at.",
    )
    .unwrap();
    let read = capture::read(&path).unwrap();
    assert!(read.packets.is_empty());
    assert!(read.damage.is_some());
}

/// A pcap file of Ethernet packets in microseconds.
fn pcap(packets: &[&[u8]]) -> Vec<u8> {
    let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    for field in [0u32, 0, 65_535, 1] {
        file.extend(field.to_le_bytes());
    }
    for (index, packet) in packets.iter().enumerate() {
        let length = packet.len() as u32;
        for field in [index as u32, 7, length, length] {
            file.extend(field.to_le_bytes());
        }
        file.extend(*packet);
    }
    file
}
