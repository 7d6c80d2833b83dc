//! The append log against a model, through two mappings of a real memfd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use rustix::io::pwrite;
use shm_layout::layout::{HEADER_BYTES, Kind, RegionId};
use shm_layout::log::{LogBounds, LogError, LogReader, LogWriter};
use shm_layout::region::{Pages, create, read_only};
use shm_layout::ring::Full;
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

const LOG: RegionId = RegionId::of_worker(Kind::Calls, 3);
const CAPACITY: u64 = 4096;
/// Where a region's head and tail lie.
const HEAD: u64 = 128;
const TAIL: u64 = 384;

fn region() -> OwnedFd {
    create(LOG, CAPACITY, Pages::PreferHuge).unwrap().0
}

fn writer(fd: &OwnedFd) -> LogWriter {
    LogWriter::attach(LOG, fd.as_fd()).unwrap()
}

fn reader(fd: &OwnedFd) -> LogReader {
    let fd = read_only(fd.as_fd(), LOG).unwrap();
    LogReader::attach(LOG, fd.as_fd()).unwrap()
}

/// Kind, body and end of each record from the tail on.
fn records(log: &LogWriter) -> Vec<(u16, Vec<u8>, u64)> {
    let mut scratch = Vec::new();
    let mut found = Vec::new();
    let mut at = log.tail();
    while let Some(record) = log.read(at, &mut scratch).unwrap() {
        found.push((record.kind, record.body.to_vec(), record.end));
        at = record.end;
    }
    assert_eq!(at, log.head());
    found
}

#[derive(Debug, Clone)]
enum Step {
    /// A record of parts of these lengths.
    Append(Vec<usize>),
    /// Gives up the oldest record.
    Release,
    Commit,
    Publish,
    Read,
    /// The writer dies, and its successor goes on from the commit.
    Die,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop::collection::vec(0usize..300, 0..4).prop_map(Step::Append),
        4 => Just(Step::Release),
        3 => Just(Step::Commit),
        2 => Just(Step::Publish),
        6 => Just(Step::Read),
        1 => Just(Step::Die),
    ]
}

/// Number and body of a record.
type Made = (u16, Vec<u8>);

proptest! {
    #[test]
    fn a_log_is_what_was_committed_and_readers_know_what_they_missed(steps in prop::collection::vec(step(), 1..300)) {
        let fd = region();
        let (mut writer, mut reader) = (writer(&fd), reader(&fd));
        let mut scratch = Vec::new();
        // What lies in the log: now, as committed, as published.
        let mut now = VecDeque::<Made>::new();
        let (mut committed, mut published) = (now.clone(), now.clone());
        let mut bounds = writer.bounds();
        let mut visible_tail = 0;
        // What the reader has to see next, unless it is given up before, and how far it has come.
        let mut unread = VecDeque::<Made>::new();
        let mut read_to = 0;
        let mut number = 0u16;
        // A commit is published as a whole, at once or when the next one follows.
        let mut owed = false;
        for step in steps.into_iter().chain([Step::Commit, Step::Publish]) {
            match step {
                Step::Append(lens) => {
                    let parts: Vec<Vec<u8>> = lens.iter().map(|len| (0..*len).map(|n| (n as u8) ^ number as u8).collect()).collect();
                    let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
                    match writer.append(number, &slices) {
                        Ok(_) => now.push_back((number, parts.concat())),
                        Err(full) => prop_assert_eq!(full, Full::Now),
                    }
                    number += 1;
                }
                Step::Release => {
                    let oldest = writer.read(writer.tail(), &mut scratch).unwrap().map(|record| record.end);
                    if let Some(end) = oldest {
                        writer.release_to(end);
                        now.pop_front();
                    }
                }
                Step::Commit => {
                    bounds = writer.bounds();
                    committed.clone_from(&now);
                    owed = true;
                }
                // Only what is committed is ever published.
                Step::Publish if owed && bounds == writer.bounds() => {
                    writer.publish();
                    let new = committed.iter().filter(|made| published.back().is_none_or(|last| made.0 > last.0));
                    unread.extend(new.cloned().collect::<Vec<_>>());
                    published.clone_from(&committed);
                    visible_tail = bounds.tail;
                    owed = false;
                }
                Step::Publish => {}
                Step::Die => {
                    writer = self::writer(&fd);
                    writer.resume(bounds).unwrap();
                    now.clone_from(&committed);
                    let new = committed.iter().filter(|made| published.back().is_none_or(|last| made.0 > last.0));
                    unread.extend(new.cloned().collect::<Vec<_>>());
                    published.clone_from(&committed);
                    visible_tail = bounds.tail;
                    owed = false;
                    let found: Vec<Made> = records(&writer).into_iter().map(|(kind, body, _)| (kind, body)).collect();
                    prop_assert_eq!(found, Vec::from(now.clone()));
                }
                Step::Read => match reader.next(&mut scratch) {
                    Ok(record) => {
                        read_to = record.map_or(read_to, |record| record.end);
                        let record = record.map(|record| (record.kind, record.body.to_vec()));
                        prop_assert_eq!(record, unread.pop_front());
                    }
                    Err(error) => {
                        prop_assert!(matches!(error, LogError::Overrun { .. }), "{}", error);
                        // It had not read something that is given up now.
                        prop_assert!(read_to < visible_tail);
                        read_to = visible_tail;
                        unread.clone_from(&published);
                    }
                },
            }
            prop_assert_eq!(writer.used() == 0, now.is_empty());
        }
        // Whatever happened: in the end the reader has seen what is left.
        let mut last = VecDeque::new();
        loop {
            match reader.next(&mut scratch) {
                Ok(Some(record)) => last.push_back((record.kind, record.body.to_vec())),
                Ok(None) => break,
                Err(_) => {
                    last.clear();
                    unread.clone_from(&published);
                }
            }
        }
        prop_assert_eq!(last, unread);
        prop_assert!(!reader.behind());
    }
}

#[test]
fn parts_of_any_length_become_one_body() {
    let fd = region();
    let mut writer = writer(&fd);
    let mut reader = reader(&fd);
    let mut scratch = Vec::new();
    let bytes: Vec<u8> = (0..100).collect();
    for first in 0..20 {
        for second in 0..20 {
            let (a, rest) = bytes.split_at(first);
            let (b, c) = rest.split_at(second);
            assert!(!reader.behind());
            let position = writer.append(7, &[a, b, &[], c]).unwrap();
            writer.publish();
            assert!(reader.behind());
            let record = reader.next(&mut scratch).unwrap().unwrap();
            assert_eq!((record.kind, record.body), (7, &bytes[..]));
            assert_eq!(record.position, position);
            assert_eq!(record.end, writer.head());
            writer.release_to(writer.head());
            writer.publish();
        }
    }
}

/// What a successor goes on with has to be there still, however much the predecessor had appended and given up since.
#[test]
fn what_was_given_up_is_overwritten_only_after_that_was_published() {
    let fd = region();
    let mut first = writer(&fd);
    while first.append(1, &[&[1; 100]]).is_ok() {}
    first.publish();
    let committed = first.bounds();
    first.release_to(first.head());
    assert_eq!(first.used(), 0);
    assert_eq!(first.append(2, &[&[2; 100]]), Err(Full::Now));

    let mut second = writer(&fd);
    second.resume(committed).unwrap();
    let found = records(&second);
    assert_eq!(found.len(), 36);
    assert!(
        found
            .iter()
            .all(|(kind, body, _)| *kind == 1 && body == &[1; 100])
    );
    second.release_to(found[0].2);
    assert_eq!(second.append(2, &[&[2; 100]]), Err(Full::Now));
    second.publish();
    second.append(2, &[&[2; 100]]).unwrap();
    assert_eq!(second.append(2, &[&[2; 100]]), Err(Full::Now));
}

#[test]
fn a_record_longer_than_half_of_the_log_is_refused_for_good() {
    let mut writer = writer(&region());
    assert_eq!(writer.append(1, &[&[0; 2000], &[0; 41]]), Err(Full::Always));
    assert_eq!(writer.append(1, &[&[0; 2000], &[0; 40]]), Ok(0));
    assert_eq!(writer.capacity(), CAPACITY);
    assert_eq!(writer.used(), 2048);
}

#[test]
fn an_overtaken_reader_says_so_once_and_reads_all_that_is_left() {
    let fd = region();
    let (mut writer, mut reader) = (writer(&fd), reader(&fd));
    let mut scratch = Vec::new();
    for n in 0..100u16 {
        while writer.append(n, &[&[n as u8; 500]]).is_err() {
            let oldest = writer.read(writer.tail(), &mut scratch).unwrap();
            let end = oldest.unwrap().end;
            writer.release_to(end);
            writer.publish();
        }
        writer.publish();
    }
    let overrun = reader.next(&mut scratch).unwrap_err();
    let head = writer.head();
    assert_eq!(overrun, LogError::Overrun { head });
    let mut seen = Vec::new();
    while let Some(record) = reader.next(&mut scratch).unwrap() {
        assert!(record.body == [record.kind as u8; 500]);
        seen.push(record.kind);
        if record.end == head {
            assert!(!reader.behind());
        }
    }
    let left = records(&writer);
    assert!(left.iter().map(|(kind, ..)| *kind).eq(seen.iter().copied()));
    assert_eq!(seen.last(), Some(&99));
    assert_eq!(reader.used(), writer.used());
}

#[test]
fn bounds_that_fit_no_log_are_refused() {
    let fd = region();
    let mut log = writer(&fd);
    log.append(5, &[b"kept"]).unwrap();
    log.publish();
    let kept = log.bounds();
    for (head, tail) in [
        (0, 8),
        (CAPACITY + 8, 0),
        (12, 0),
        (16, 4),
        (u64::MAX - 7, u64::MAX - 7),
    ] {
        let refused = log.resume(LogBounds { head, tail });
        assert!(matches!(refused, Err(LogError::Bounds { .. })));
        assert_eq!(log.bounds(), kept);

        // The same in the region itself: to its writer it is empty, and a reader waits for better times.
        let scribbled = region();
        pwrite(&scribbled, &head.to_le_bytes(), HEAD).unwrap();
        pwrite(&scribbled, &tail.to_le_bytes(), TAIL).unwrap();
        let mut reader = reader(&scribbled);
        let mut scratch = Vec::new();
        if head > 0 {
            assert!(matches!(
                reader.next(&mut scratch),
                Err(LogError::Bounds { .. })
            ));
        }
        assert!(reader.used() <= CAPACITY);
        let mut writer = writer(&scribbled);
        assert_eq!(writer.bounds(), LogBounds::default());
        writer.append(6, &[b"new"]).unwrap();
        writer.publish();
        // From whatever the reader took for its place, it comes to what the log holds now.
        let found = (0..3).find_map(|_| {
            reader
                .next(&mut scratch)
                .ok()
                .flatten()
                .map(|record| record.kind)
        });
        assert_eq!(found, Some(6), "{head} {tail}");
    }
}

#[test]
fn a_position_that_is_no_records_is_an_error() {
    let fd = region();
    let mut log = writer(&fd);
    log.append(1, &[&[0; 16]]).unwrap();
    log.append(2, &[&[0xff; 16]]).unwrap();
    log.release_to(24);
    let mut scratch = Vec::new();
    for outside in [0, 56, 28, u64::MAX] {
        let position = log.read(outside, &mut scratch);
        assert_eq!(position, Err(LogError::Position { position: outside }));
    }
    assert!(matches!(
        log.read(32, &mut scratch),
        Err(LogError::Record(_))
    ));
    assert_eq!(log.read(48, &mut scratch), Ok(None));
    // Beyond the head, and back before the tail: a release goes nowhere.
    log.release_to(8);
    assert_eq!(log.tail(), 24);
    log.release_to(1 << 20);
    assert_eq!(log.tail(), 48);
}

#[test]
fn a_malformed_record_costs_what_was_published_and_no_more() {
    for (at, word) in [
        (0, 0u64),                   // no length
        (0, u64::MAX),               // no length, no kind
        (0, 24 | 9 << 32),           // no kind of record
        (0, 24 | 1 << 32 | 8 << 40), // fills more than a word
        (0, 8 | 1 << 32 | 1 << 40),  // fills more than its body
        (0, 24 | 0xff << 32),        // padding in the middle
        (24, 1 << 20 | 1 << 32),     // longer than the log
    ] {
        let fd = region();
        let (mut writer, mut reader) = (writer(&fd), reader(&fd));
        for kind in [1, 2] {
            writer.append(kind, &[&[0; 16]]).unwrap();
        }
        writer.publish();
        pwrite(&fd, &word.to_le_bytes(), HEADER_BYTES as u64 + at).unwrap();
        let mut scratch = Vec::new();
        let mut next = || {
            reader
                .next(&mut scratch)
                .map(|record| record.map(|record| record.kind))
        };
        if at > 0 {
            assert_eq!(next(), Ok(Some(1)));
        }
        assert!(matches!(next(), Err(LogError::Record(_))), "{word:x}");
        assert_eq!(next(), Ok(None));
        writer.append(3, &[]).unwrap();
        writer.publish();
        assert_eq!(next(), Ok(Some(3)));
        assert!(matches!(
            writer.read(at, &mut scratch),
            Err(LogError::Record(_))
        ));
    }
}
