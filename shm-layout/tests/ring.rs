//! The ring against a model, through two mappings of real memfds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::prelude::*;
use rustix::io::pwrite;
use shm_layout::layout::{Kind, RegionId};
use shm_layout::region::{Pages, create, read_only};
use shm_layout::ring::{Full, RingError, RingReader, RingWriter};
use shm_layout::wire::{Priority, WirePacket, WireSlot};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

const RING: RegionId = RegionId::of_worker(Kind::Tx, 3);
const CURSOR: RegionId = RegionId::of_worker(Kind::TxCursor, 3);

struct Fds {
    ring: OwnedFd,
    cursor: OwnedFd,
}

fn fds(capacity: u64) -> Fds {
    Fds {
        ring: create(RING, capacity, Pages::PreferHuge).unwrap().0,
        cursor: create(CURSOR, 0, Pages::PreferHuge).unwrap().0,
    }
}

fn pair(fds: &Fds) -> (RingWriter, RingReader) {
    let ring = read_only(fds.ring.as_fd(), RING).unwrap();
    let cursor = read_only(fds.cursor.as_fd(), CURSOR).unwrap();
    (
        RingWriter::attach(RING, fds.ring.as_fd(), cursor.as_fd()).unwrap(),
        RingReader::attach(RING, ring.as_fd(), fds.cursor.as_fd()).unwrap(),
    )
}

fn push(writer: &mut RingWriter, bytes: &[u8]) -> Result<(), Full> {
    let mut slot = writer.reserve(8 + bytes.len())?;
    let body = slot.body();
    body[..8].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    body[8..].copy_from_slice(bytes);
    slot.commit(7, 1, bytes.len() as u16);
    Ok(())
}

fn pop(reader: &mut RingReader) -> Result<Option<Vec<u8>>, RingError> {
    let Some(record) = reader.read()? else {
        return Ok(None);
    };
    assert_eq!((record.kind, record.flags), (7, 1));
    let len = u64::from_le_bytes(record.body.array(0).unwrap()) as usize;
    let mut bytes = vec![0; len];
    assert_eq!(record.body.part(8, len).unwrap().copy_to(&mut bytes), len);
    assert_eq!(usize::from(record.aux), len);
    Ok(Some(bytes))
}

#[derive(Debug, Clone)]
enum Step {
    Push(usize),
    Publish,
    Pop,
    Release,
    Reattach,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..1500).prop_map(Step::Push),
        3 => Just(Step::Publish),
        6 => Just(Step::Pop),
        2 => Just(Step::Release),
        1 => Just(Step::Reattach),
    ]
}

proptest! {
    #[test]
    fn every_record_arrives_once_in_order_and_whole(steps in prop::collection::vec(step(), 1..300)) {
        let fds = fds(4096);
        let (mut writer, mut reader) = pair(&fds);
        let (mut pushed, mut visible, mut unreleased) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        let mut next = 0u8;
        for step in steps {
            match step {
                Step::Push(len) => {
                    let bytes = vec![next; len];
                    match push(&mut writer, &bytes) {
                        Ok(()) => {
                            next = next.wrapping_add(1);
                            pushed.push_back(bytes);
                        }
                        Err(full) => prop_assert_eq!(full, Full::Now),
                    }
                }
                Step::Publish => {
                    writer.publish();
                    visible.append(&mut pushed);
                }
                Step::Pop => {
                    let popped = pop(&mut reader).unwrap();
                    prop_assert_eq!(&popped, &visible.pop_front());
                    unreleased.extend(popped);
                }
                Step::Release => {
                    reader.release();
                    unreleased.clear();
                }
                // Both processes die and come back: what was not published is gone, what was not
                // released is read again.
                Step::Reattach => {
                    (writer, reader) = pair(&fds);
                    pushed.clear();
                    unreleased.append(&mut visible);
                    std::mem::swap(&mut visible, &mut unreleased);
                }
            }
        }
    }
}

#[test]
fn a_record_longer_than_half_of_the_ring_is_refused_for_good() {
    let fds = fds(4096);
    let (mut writer, _) = pair(&fds);
    assert_eq!(push(&mut writer, &[0; 2048]), Err(Full::Always));
    assert_eq!(push(&mut writer, &[0; 2000]), Ok(()));
}

#[test]
fn a_full_ring_refuses_until_the_reader_releases() {
    let fds = fds(4096);
    let (mut writer, mut reader) = pair(&fds);
    let mut count = 0;
    while push(&mut writer, &[1; 100]).is_ok() {
        count += 1;
    }
    assert_eq!(count, 4096 / 120);
    writer.publish();
    while pop(&mut reader).unwrap().is_some() {}
    assert_eq!(push(&mut writer, &[1; 100]), Err(Full::Now));
    let free = 4096 % 120;
    assert!(writer.has_room(free) && !writer.has_room(free + 1));
    reader.release();
    assert!(writer.has_room(4096) && !writer.has_room(4097));
    assert_eq!(push(&mut writer, &[1; 100]), Ok(()));
    assert_eq!(writer.used(), 120 + 4096 % 120);
}

/// Found by the model test above: a writer that attached again took the reader for caught up.
#[test]
fn a_writer_that_attaches_again_respects_what_is_unread() {
    let fds = fds(4096);
    let (mut writer, _) = pair(&fds);
    while push(&mut writer, &[1; 1000]).is_ok() {}
    writer.publish();
    let (mut writer, mut reader) = pair(&fds);
    assert_eq!(push(&mut writer, &[2; 1000]), Err(Full::Now));
    assert_eq!(pop(&mut reader).unwrap(), Some(vec![1; 1000]));
}

#[test]
fn a_view_reads_what_was_read_and_not_released() {
    let fds = fds(4096);
    let (mut writer, mut reader) = pair(&fds);
    for n in 0..5 {
        push(&mut writer, &[n; 10]).unwrap();
    }
    writer.publish();
    while pop(&mut reader).unwrap().is_some() {}
    let view = reader.view();
    let records: Vec<_> = view
        .records(0, reader.position())
        .map(Result::unwrap)
        .collect();
    assert_eq!(records.len(), 5);
    assert_eq!(records[4].end, reader.position());
    reader.release_to(records[1].end);
    assert_eq!(writer.used(), 3 * 32);
}

#[test]
fn a_sleeping_reader_is_woken_and_several_rings_are_waited_for_at_once() {
    let (quiet, busy) = (fds(4096), fds(4096));
    let (_quiet_writer, mut quiet_reader) = pair(&quiet);
    let (mut writer, mut reader) = pair(&busy);
    std::thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            assert_eq!(pop(&mut quiet_reader).unwrap(), None);
            loop {
                if let Some(bytes) = pop(&mut reader).unwrap() {
                    return bytes;
                }
                RingReader::wait_any(&[&quiet_reader, &reader], Duration::from_secs(60));
            }
        });
        push(&mut writer, b"news").unwrap();
        writer.publish();
        assert_eq!(waiter.join().unwrap(), b"news");
    });
}

#[test]
fn a_sleeping_writer_is_woken_by_the_release() {
    let fds = fds(4096);
    let (mut writer, mut reader) = pair(&fds);
    while push(&mut writer, &[1; 100]).is_ok() {}
    writer.publish();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            while push(&mut writer, &[2; 100]).is_err() {
                writer.wait_for_room(Duration::from_secs(60));
            }
            writer.publish();
        });
        let mut last = 0;
        while last != 2 {
            match pop(&mut reader).unwrap() {
                Some(bytes) => last = bytes[0],
                None => RingReader::wait_any(&[&reader], Duration::from_secs(60)),
            }
            reader.release();
        }
    });
}

#[test]
fn a_wire_packet_keeps_its_priority_and_an_unknown_one_is_high() {
    let id = RegionId::of_worker(Kind::Tx, 0);
    let cursor_id = RegionId::of_worker(Kind::TxCursor, 0);
    let ring = create(id, 4096, Pages::PreferHuge).unwrap().0;
    let cursor = create(cursor_id, 0, Pages::PreferHuge).unwrap().0;
    let mut writer = RingWriter::attach(id, ring.as_fd(), cursor.as_fd()).unwrap();
    let mut reader = RingReader::attach(id, ring.as_fd(), cursor.as_fd()).unwrap();
    for (ordinal, priority) in [Priority::Normal, Priority::High].into_iter().enumerate() {
        let mut slot = WireSlot::reserve(&mut writer, ordinal as u64, 3).unwrap();
        slot.bytes().copy_from_slice(b"abc");
        slot.commit(priority);
    }
    // As a newer release may write it: the flags stand behind length and kind.
    let third = writer.head();
    let mut slot = WireSlot::reserve(&mut writer, 2, 3).unwrap();
    slot.bytes().copy_from_slice(b"abc");
    slot.commit(Priority::Normal);
    pwrite(&ring, &[200], 4096 + third + 5).unwrap();
    writer.publish();
    for (ordinal, priority) in [Priority::Normal, Priority::High, Priority::High]
        .into_iter()
        .enumerate()
    {
        let record = reader.read().unwrap().unwrap();
        let packet = WirePacket::read(&record).unwrap();
        assert_eq!(
            (packet.ordinal, packet.priority),
            (ordinal as u64, priority)
        );
        assert_eq!(packet.bytes.array(0), Some(*b"abc"));
    }
}
