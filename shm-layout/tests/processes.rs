//! The ring and the log between two real processes, the second of them honest or hostile.
//!
//! The other process is this test binary again: [`peer`] runs there, told by environment variables
//! where the memfds are, and does nothing in an ordinary run.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rustix::io::pwrite;
use shm_layout::layout::{HEADER_BYTES, Kind, RegionId};
use shm_layout::log::{LogError, LogReader, LogWriter};
use shm_layout::packet::{Packet, PacketHeader, push_inline};
use shm_layout::region::{Pages, create};
use shm_layout::ring::{RingError, RingReader, RingWriter};
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

const RING: RegionId = RegionId::of_queue(Kind::Rx, 0, 0);
const CURSOR: RegionId = RegionId::of_queue(Kind::RxCursor, 0, 0);
const LOG: RegionId = RegionId::of_worker(Kind::Calls, 0);
const CAPACITY: u64 = 64 << 10;
/// For a peer that is looked at until enough was seen.
const PATIENCE: Duration = Duration::from_secs(20);
const PACKETS: u64 = 300_000;
/// Where a region has its cursor, or its head, and its tail.
const CURSOR_AT: u64 = 128;
const LOG_TAIL_AT: u64 = 384;
const RECORDS: u64 = 200_000;
/// Records that the writer of a log keeps, by appending them again.
const KEPT: u64 = 40;
const ROLE: &str = "LC_TEST_ROLE";
const REGIONS: [&str; 2] = ["LC_TEST_REGION_0", "LC_TEST_REGION_1"];

fn spawn(role: &str, regions: &[&OwnedFd]) -> Child {
    let path = |fd: &&OwnedFd| format!("/proc/{}/fd/{}", std::process::id(), fd.as_raw_fd());
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "peer", "--nocapture"])
        .env(ROLE, role)
        .envs(REGIONS.into_iter().zip(regions.iter().map(path)))
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
    let open = |index: usize, write| -> File {
        let path = std::env::var(REGIONS[index]).unwrap();
        OpenOptions::new()
            .read(true)
            .write(write)
            .open(path)
            .unwrap()
    };
    match role.as_str() {
        "writer" => honest(&open(0, true), &open(1, false)),
        "scribbler" => scribble(&open(0, true), &[CURSOR_AT]),
        "cursor" => scribble(&open(1, true), &[CURSOR_AT]),
        "log scribbler" => scribble(&open(0, true), &[CURSOR_AT, LOG_TAIL_AT]),
        "log" => honest_log(&open(0, true)),
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

/// Appends records, each of its number's bytes, and keeps [`KEPT`] of them to the very end.
fn honest_log(log: &File) {
    let mut log = LogWriter::attach(LOG, log.as_fd()).unwrap();
    let mut scratch = Vec::new();
    for number in 0..RECORDS {
        let body = body_of(number);
        log.append(0, &[&number.to_le_bytes(), &body]).unwrap();
        while log.used() > CAPACITY / 2 {
            let oldest = log.read(log.tail(), &mut scratch).unwrap().unwrap();
            let end = oldest.end;
            if is_kept(number_of(oldest.body)) {
                log.append(1, &[oldest.body]).unwrap();
            }
            log.release_to(end);
        }
        if number % 32 == 0 {
            log.publish();
        }
    }
    log.publish();
}

fn is_kept(number: u64) -> bool {
    number.is_multiple_of(RECORDS / KEPT)
}

fn number_of(body: &[u8]) -> u64 {
    u64::from_le_bytes(*body.first_chunk().unwrap())
}

fn body_of(number: u64) -> Vec<u8> {
    vec![number as u8; length_of(number) / 4]
}

/// Writes random bytes all over the region, cursors and records, single bytes and long runs, until it is killed (or, left alone, some
/// minutes).
fn scribble(region: &File, cursors: &[u64]) {
    let mut state = 7;
    let len = region.metadata().unwrap().len();
    for _ in 0..100_000_000 {
        let words: Vec<u8> = (0..8)
            .flat_map(|_| random(&mut state).to_le_bytes())
            .collect();
        // Now and then a cursor or a record's beginning that is believable, so that records are looked at.
        let believable = random(&mut state).is_multiple_of(2);
        let (at, word) = match random(&mut state) % 3 {
            0 => {
                let at = cursors[random(&mut state) as usize % cursors.len()];
                (at, random(&mut state) % CAPACITY / 8 * 8)
            }
            1 => {
                let at = random(&mut state) % 256 / 8 * 8;
                let len = random(&mut state) % 32 * 8;
                (HEADER_BYTES as u64 + at, len | 1 << 32)
            }
            _ => (64 + random(&mut state) % (len - 64), 0),
        };
        let at = at.min(len - 8);
        let run = (random(&mut state) as usize % words.len() + 1).min((len - at) as usize);
        let bytes = match believable {
            true => word.to_le_bytes().to_vec(),
            false => words[..run].to_vec(),
        };
        pwrite(region, &bytes, at).unwrap();
    }
}

#[test]
fn packets_cross_processes_in_order() {
    let (ring, cursor) = regions();
    let mut child = spawn("writer", &[&ring, &cursor]);
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
    let mut child = spawn("scribbler", &[&ring, &cursor]);
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
    let mut child = spawn("cursor", &[&ring, &cursor]);
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

#[test]
fn a_log_crosses_processes_and_what_is_kept_arrives() {
    let log = create(LOG, CAPACITY, Pages::PreferHuge).unwrap().0;
    let mut child = spawn("log", &[&log]);
    let mut reader = LogReader::attach(LOG, log.as_fd()).unwrap();
    let mut scratch = Vec::new();
    let (mut last, mut overruns) = (None, 0u64);
    // Since the last overrun: each is a new beginning.
    let mut kept = BTreeSet::new();
    let mut ended = false;
    loop {
        match reader.next(&mut scratch) {
            Ok(Some(record)) => {
                let number = number_of(record.body);
                assert_eq!(record.body[8..], body_of(number));
                match record.kind {
                    0 => {
                        assert!(last.is_none_or(|last| last < number), "{last:?} {number}");
                        last = Some(number);
                    }
                    _ => assert!(is_kept(number)),
                }
                if is_kept(number) {
                    kept.insert(number);
                }
            }
            Ok(None) if ended => break,
            Ok(None) => ended = child.try_wait().unwrap().is_some(),
            Err(error) => {
                assert!(matches!(error, LogError::Overrun { .. }), "{error}");
                overruns += 1;
                kept.clear();
            }
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(last, Some(RECORDS - 1));
    let all = (0..RECORDS).filter(|number| is_kept(*number));
    assert!(all.eq(kept), "after {overruns} overruns");
}

#[test]
fn a_scribbled_log_costs_errors_only() {
    let log = create(LOG, CAPACITY, Pages::PreferHuge).unwrap().0;
    let mut child = spawn("log scribbler", &[&log]);
    let mut reader = LogReader::attach(LOG, log.as_fd()).unwrap();
    let (mut errors, mut records) = (0u64, 0u64);
    let (mut recovered, mut refused) = (0u64, 0u64);
    let mut scratch = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while (errors < 1_000 || records == 0 || recovered == 0 || refused == 0)
        && Instant::now() < deadline
    {
        for _ in 0..100 {
            match reader.next(&mut scratch) {
                Ok(None) => {}
                Ok(Some(record)) => {
                    records += 1;
                    assert!(record.body.len() as u64 <= CAPACITY);
                    assert!(record.position < record.end && record.end.is_multiple_of(8));
                }
                Err(_) => errors += 1,
            }
        }
        // A successor of whoever wrote that: it reads what it can, and comes to an end.
        let mut writer = LogWriter::attach(LOG, log.as_fd()).unwrap();
        let mut at = writer.tail();
        for _ in 0..=CAPACITY / 8 {
            match writer.read(at, &mut scratch) {
                Ok(Some(record)) => {
                    recovered += 1;
                    at = record.end;
                }
                Ok(None) => break,
                Err(_) => {
                    refused += 1;
                    at = writer.head();
                }
            }
        }
        assert_eq!(at, writer.head());
        writer.release_to(at);
        assert_eq!(writer.used(), 0);
        writer.publish();
        writer.append(1, &[b"goes on"]).unwrap();
    }
    assert!(child.try_wait().unwrap().is_none(), "it ended too soon");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        errors > 0 && refused > 0,
        "the scribbling was never noticed"
    );
    assert!(records > 0, "no scribbled record was ever looked at");
    assert!(recovered > 0, "no scribbled record was ever recovered");
}
