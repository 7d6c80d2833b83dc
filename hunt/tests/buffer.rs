//! `lc-hunt buffer` as a program, on directories that the forwarder's store wrote.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use lc_fwdd::overflow::{Directory, Options, Policy, Store, SyncPolicy};
use lc_proto::data::{CapturedPacket, PacketBatch};
use pcap_file::pcapng::{Block, PcapNgReader};
use prost::Message;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

const BAD_DATA: i32 = 65;

fn lc_hunt(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lc-hunt"))
        .args(args)
        .output()
        .unwrap()
}

fn store(dir: &Path) -> Store<Directory> {
    let options = Options {
        limit: 1 << 20,
        policy: Policy::DropOldest,
        sync: SyncPolicy::Never,
    };
    let directory = Directory::open(dir).unwrap();
    Store::open(directory, options, Instant::now()).unwrap().0
}

/// A packet that tells which one it is.
fn packet(number: u64) -> CapturedPacket {
    let data = number.to_be_bytes().repeat(8);
    CapturedPacket {
        timestamp_ns: 1_700_000_000_000_000_000 + number as i64,
        capture_length: data.len() as u32,
        original_length: 1500,
        link_type: 1,
        interface_name: "eth7".to_owned(),
        data: data.into(),
        ..CapturedPacket::default()
    }
}

/// Two hundred batches of three packets, the first five of them acknowledged.
fn filled() -> TempDir {
    let dir = tempdir().unwrap();
    let mut store = store(dir.path());
    let now = Instant::now();
    for batch in 0..200 {
        let payload = PacketBatch {
            packets: (0..3).map(|n| packet(batch * 3 + n)).collect(),
            ..PacketBatch::default()
        };
        store
            .append(3, false, &payload.encode_to_vec(), now)
            .unwrap();
    }
    for _ in 0..5 {
        let record = store.read(now).unwrap();
        store.acknowledge(record.number, now);
    }
    dir
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "lco"))
        .collect();
    paths.sort();
    paths
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Numbers and times of the packets in a capture file.
fn exported(path: &Path) -> Vec<(u64, Duration)> {
    let mut reader = PcapNgReader::new(fs::File::open(path).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            assert_eq!((packet.data.len(), packet.original_len), (64, 1500));
            let number = u64::from_be_bytes(packet.data[..8].try_into().unwrap());
            packets.push((number, packet.timestamp));
        }
    }
    packets
}

#[test]
fn ls_counts_what_waits() {
    let dir = filled();
    let output = lc_hunt(&["buffer", "ls", "--dir", text(dir.path()), "--json"]);
    assert!(output.status.success());
    let survey: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sum = |key: &str| {
        let segments = survey["segments"].as_array().unwrap();
        segments
            .iter()
            .map(|s| s[key].as_u64().unwrap())
            .sum::<u64>()
    };
    assert_eq!((sum("records"), sum("packets")), (200, 600));
    assert_eq!((sum("waiting_records"), sum("waiting_packets")), (195, 585));
    assert_eq!(survey["acknowledged"], 5);
    let output = lc_hunt(&["buffer", "ls", "--dir", text(dir.path())]);
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("585 packets wait in 195 records"), "{table}");
}

#[test]
fn ls_works_beside_a_node_and_changes_nothing() {
    let dir = filled();
    let node = store(dir.path());
    let before = segments(dir.path());
    let output = lc_hunt(&["buffer", "ls", "--dir", text(dir.path()), "--json"]);
    let survey: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(survey["in_use"], true);
    assert_eq!(segments(dir.path()), before);
    drop(node);
}

#[test]
fn verify_fails_on_damage() {
    let dir = filled();
    let verify = || lc_hunt(&["buffer", "verify", "--dir", text(dir.path())]);
    assert!(verify().status.success());
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    let output = verify();
    assert_eq!(output.status.code(), Some(BAD_DATA));
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(errors.contains("damaged"), "{errors}");
}

#[test]
fn export_writes_what_waits_and_only_that() {
    let dir = filled();
    let file = dir.path().join("waiting.pcapng");
    let export = || lc_hunt(&["buffer", "export", text(&file), "--dir", text(dir.path())]);
    assert!(export().status.success());
    let expected: Vec<_> = (15..600)
        .map(|n| (n, Duration::from_nanos(1_700_000_000_000_000_000 + n)))
        .collect();
    assert_eq!(exported(&file), expected);
    assert_eq!(
        fs::metadata(&file).unwrap().permissions().mode() & 0o777,
        0o600
    );
    // A second time would overwrite it.
    let again = export();
    assert_eq!(again.status.code(), Some(1));
    assert_eq!(exported(&file), expected);
}

#[test]
fn export_leaves_out_what_is_damaged() {
    let dir = filled();
    let path = &segments(dir.path())[0];
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    let file = dir.path().join("rest.pcapng");
    let output = lc_hunt(&["buffer", "export", text(&file), "--dir", text(dir.path())]);
    assert_eq!(output.status.code(), Some(BAD_DATA));
    assert_eq!(exported(&file).len(), 585 - 3);
}

#[test]
fn a_missing_directory_is_an_error_and_is_not_made() {
    let dir = tempdir().unwrap();
    let missing = dir.path().join("missing");
    for command in ["ls", "verify"] {
        let output = lc_hunt(&["buffer", command, "--dir", text(&missing)]);
        assert_eq!(output.status.code(), Some(1));
        let errors = String::from_utf8(output.stderr).unwrap();
        assert!(errors.contains(text(&missing)), "{errors}");
    }
    let file = dir.path().join("none.pcapng");
    let output = lc_hunt(&["buffer", "export", text(&file), "--dir", text(&missing)]);
    assert_eq!(output.status.code(), Some(1));
    assert!(!missing.exists() && !file.exists());
}
