//! The ring between two real processes, the second of them honest or hostile.
//!
//! The other process is this test binary again: [`peer`] runs there, told by environment variables
//! where the memfds are, and does nothing in an ordinary run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rustix::io::pwrite;
use shm_layout::layout::{HEADER_BYTES, Kind, RegionId};
use shm_layout::packet::{Packet, PacketHeader, push_inline};
use shm_layout::region::{Pages, create};
use shm_layout::ring::{RingError, RingReader, RingWriter};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const RING: RegionId = RegionId::of_queue(Kind::Rx, 0, 0);
const CURSOR: RegionId = RegionId::of_queue(Kind::RxCursor, 0, 0);
const CAPACITY: u64 = 64 << 10;
/// For a peer that is looked at until enough was seen.
const PATIENCE: Duration = Duration::from_secs(20);
const PACKETS: u64 = 300_000;
const ROLE: &str = "LC_TEST_ROLE";

fn spawn(role: &str, ring: &OwnedFd, cursor: &OwnedFd) -> Child {
    let path = |fd: &OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "peer", "--nocapture"])
        .env(ROLE, role)
        .env("LC_TEST_RING", path(ring))
        .env("LC_TEST_CURSOR", path(cursor))
        .spawn()
        .unwrap()
}

fn regions() -> (OwnedFd, OwnedFd) {
    let ring = create(RING, CAPACITY, Pages::PreferHuge).unwrap().0;
    (ring, create(CURSOR, 0, Pages::PreferHuge).unwrap().0)
}

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    *state >> 16
}

fn header(sequence: u64, len: usize) -> PacketHeader {
    PacketHeader {
        sequence,
        timestamp_ns: sequence * 1000,
        captured_len: len as u32,
        original_len: len as u32 + 4,
        link_type: 1,
        interface: 9,
        flow_hash: sequence as u32,
    }
}

fn length_of(sequence: u64) -> usize {
    (sequence * 7919 % 1500) as usize
}

#[test]
fn peer() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let open = |name, write| -> File {
        let path = std::env::var(name).unwrap();
        OpenOptions::new()
            .read(true)
            .write(write)
            .open(path)
            .unwrap()
    };
    match role.as_str() {
        "writer" => honest(&open("LC_TEST_RING", true), &open("LC_TEST_CURSOR", false)),
        "scribbler" => scribble(&open("LC_TEST_RING", true)),
        "cursor" => scribble(&open("LC_TEST_CURSOR", true)),
        other => panic!("{other}"),
    }
}

fn honest(ring: &File, cursor: &File) {
    let mut writer = RingWriter::attach(RING, ring.as_fd(), cursor.as_fd()).unwrap();
    for sequence in 0..PACKETS {
        let len = length_of(sequence);
        let data = vec![sequence as u8; len];
        while push_inline(&mut writer, &header(sequence, len), &data).is_err() {
            writer.publish();
            writer.wait_for_room(Duration::from_secs(10));
        }
        if sequence % 32 == 0 {
            writer.publish();
        }
    }
    writer.publish();
}

/// Writes random bytes all over the region, cursors and records, single bytes and long runs, until it is killed (or, left alone, some
/// minutes).
fn scribble(region: &File) {
    let mut state = 7;
    let len = region.metadata().unwrap().len();
    for _ in 0..100_000_000 {
        let words: Vec<u8> = (0..8)
            .flat_map(|_| random(&mut state).to_le_bytes())
            .collect();
        let at = match random(&mut state) % 3 {
            0 => 128, // the published cursor
            1 => HEADER_BYTES as u64 + random(&mut state) % 256,
            _ => 64 + random(&mut state) % (len - 64),
        }
        .min(len - 8);
        let run = (random(&mut state) as usize % words.len() + 1).min((len - at) as usize);
        // Now and then a cursor that is believable, so that records are looked at.
        let bytes = if at == 128 && random(&mut state).is_multiple_of(2) {
            (random(&mut state) % CAPACITY / 8 * 8)
                .to_le_bytes()
                .to_vec()
        } else {
            words[..run].to_vec()
        };
        pwrite(region, &bytes, at).unwrap();
    }
}

#[test]
fn packets_cross_processes_in_order() {
    let (ring, cursor) = regions();
    let mut child = spawn("writer", &ring, &cursor);
    let mut reader = RingReader::attach(RING, ring.as_fd(), cursor.as_fd()).unwrap();
    let mut data = vec![0; 1500];
    let mut expected = 0;
    while expected < PACKETS {
        let Some(record) = reader.read().unwrap() else {
            reader.release();
            RingReader::wait_any(&[&reader], Duration::from_secs(10));
            continue;
        };
        let packet = Packet::read(&record, None).unwrap();
        let len = length_of(expected);
        assert_eq!(packet.header, header(expected, len));
        assert_eq!(packet.data.copy_to(&mut data), len);
        assert!(data[..len].iter().all(|byte| *byte == expected as u8));
        expected += 1;
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(reader.read().unwrap().map(|record| record.position), None);
}

#[test]
fn a_scribbling_writer_costs_errors_only() {
    let (ring, cursor) = regions();
    let mut child = spawn("scribbler", &ring, &cursor);
    let mut reader = RingReader::attach(RING, ring.as_fd(), cursor.as_fd()).unwrap();
    let (mut errors, mut records) = (0u64, 0u64);
    let mut data = vec![0; 64 << 10];
    let read_all =
        |reader: &mut RingReader, errors: &mut u64, records: &mut u64, data: &mut [u8]| {
            // A capacity's worth of the shortest records is the most that one look can hold.
            for _ in 0..=CAPACITY / 8 {
                match reader.read() {
                    Ok(None) => return,
                    Ok(Some(record)) => {
                        *records += 1;
                        if let Ok(packet) = Packet::read(&record, None) {
                            assert_eq!(packet.data.len(), packet.header.captured_len as usize);
                            packet.data.copy_to(data);
                        }
                    }
                    Err(error) => {
                        *errors += 1;
                        let skipped = reader.skip_published();
                        assert!(skipped <= CAPACITY, "{skipped}");
                        if matches!(error, RingError::Head { .. }) {
                            return;
                        }
                    }
                }
            }
            panic!("one look at the ring did not end");
        };
    let deadline = Instant::now() + PATIENCE;
    while (errors < 1_000 || records == 0) && Instant::now() < deadline {
        read_all(&mut reader, &mut errors, &mut records, &mut data);
        reader.release();
        // The reader only goes forward; start again where the scribbler's cursors can reach it.
        reader.resume(0);
    }
    assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(errors > 0, "the scribbling was never noticed");
    assert!(records > 0, "no scribbled record was ever looked at");
}

#[test]
fn a_scribbling_reader_costs_refusals_only() {
    let (ring, cursor) = regions();
    let mut child = spawn("cursor", &ring, &cursor);
    let mut writer = RingWriter::attach(RING, ring.as_fd(), cursor.as_fd()).unwrap();
    let mut refused = 0u64;
    let mut sequence = 0;
    let deadline = Instant::now() + PATIENCE;
    while (refused < 1_000 || sequence == 0) && Instant::now() < deadline {
        for _ in 0..1000 {
            match push_inline(&mut writer, &header(sequence, 100), &[1; 100]) {
                Ok(()) => sequence += 1,
                Err(_) => refused += 1,
            }
        }
        writer.publish();
    }
    assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(refused > 0, "the ring was never full");
    assert!(sequence > 0, "the ring was always full");
}
