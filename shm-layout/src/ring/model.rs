//! The ring and its waiting under loom: the same source, on the heap.
//!
//! Loom sees atomics and its own cells, not raw bytes. [`Shadow`] has one cell per 8 bytes of the
//! ring; each access to the bytes touches their cells, so loom reports any access to bytes that
//! the orderings do not hand over.

use super::{Full, Line, Ring, RingReader, RingWriter, Side};
use crate::sync::{AtomicU32, AtomicU64};
use loom::cell::UnsafeCell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

pub(crate) struct Shadow(Vec<UnsafeCell<()>>);

impl Shadow {
    pub(crate) fn new(bytes: usize) -> Self {
        Self((0..bytes / 8).map(|_| UnsafeCell::new(())).collect())
    }

    fn cells(&self, offset: usize, len: usize) -> &[UnsafeCell<()>] {
        &self.0[offset / 8..(offset + len).div_ceil(8)]
    }

    pub(crate) fn write(&self, offset: usize, len: usize) {
        self.cells(offset, len)
            .iter()
            .for_each(|cell| cell.with_mut(|_| ()));
    }

    pub(crate) fn read(&self, offset: usize, len: usize) {
        self.cells(offset, len)
            .iter()
            .for_each(|cell| cell.with(|_| ()));
    }
}

struct Heap {
    sides: [Side; 2],
    data: Box<[u64]>,
}

fn pair(capacity: usize) -> (RingWriter, RingReader) {
    let side = || Side {
        cursor: Line(AtomicU64::new(0)),
        sleeping: Line(AtomicU32::new(0)),
    };
    let mut heap = Arc::new(Heap {
        sides: [side(), side()],
        data: vec![0; capacity / 8].into(),
    });
    let data = NonNull::from(&mut Arc::get_mut(&mut heap).unwrap().data[0]).cast();
    let [writer, reader] = [0, 1].map(|n| NonNull::from(&heap.sides[n]));
    let shadow = Arc::new(Shadow::new(capacity));
    let ring = |mine, peer| Ring {
        mine,
        peer,
        data,
        capacity: capacity as u64,
        shadow: shadow.clone(),
        _memory: heap.clone(),
    };
    (
        RingWriter::new(ring(writer, reader)),
        RingReader::new(ring(reader, writer)),
    )
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

fn put(writer: &mut RingWriter, value: u64) -> Result<(), Full> {
    let mut slot = writer.reserve(8)?;
    slot.body().copy_from_slice(&value.to_le_bytes());
    slot.commit(1, 0, 0);
    Ok(())
}

fn take(reader: &mut RingReader) -> Option<u64> {
    let record = reader.read().unwrap()?;
    Some(u64::from_le_bytes(record.body.array(0).unwrap()))
}

/// Three records through a ring that holds two: values arrive once, in order, and no byte is
/// reused before it was released.
#[test]
fn records_are_handed_over() {
    check(|| {
        let (mut writer, mut reader) = pair(32);
        let producer = loom::thread::spawn(move || {
            for value in 1..=3 {
                while put(&mut writer, value).is_err() {
                    loom::thread::yield_now();
                }
                writer.publish();
            }
        });
        for expected in 1..=3 {
            let value = loop {
                match take(&mut reader) {
                    Some(value) => break value,
                    None => loom::thread::yield_now(),
                }
            };
            assert_eq!(value, expected);
            reader.release();
        }
        producer.join().unwrap();
    });
}

/// A reader that sleeps is woken by the publication that it may have missed.
#[test]
fn no_wake_up_of_the_reader_is_lost() {
    check(|| {
        let (mut writer, mut reader) = pair(64);
        let producer = loom::thread::spawn(move || {
            put(&mut writer, 7).unwrap();
            writer.publish();
        });
        while reader.is_empty() {
            RingReader::wait_any(&[&reader], Duration::MAX);
        }
        assert_eq!(take(&mut reader), Some(7));
        producer.join().unwrap();
    });
}

/// A writer that sleeps on a full ring is woken by the release that it may have missed.
#[test]
fn no_wake_up_of_the_writer_is_lost() {
    check(|| {
        let (mut writer, mut reader) = pair(32);
        put(&mut writer, 1).unwrap();
        put(&mut writer, 2).unwrap();
        writer.publish();
        let consumer = loom::thread::spawn(move || {
            assert_eq!(take(&mut reader), Some(1));
            assert_eq!(take(&mut reader), Some(2));
            reader.release();
        });
        while put(&mut writer, 3).is_err() {
            writer.wait_for_room(Duration::MAX);
        }
        consumer.join().unwrap();
    });
}
