//! The log under loom: the same source, on the heap.

use super::{Log, LogError, LogReader, LogWriter, WORD};
use crate::sync::AtomicU64;
use std::ptr::NonNull;
use std::sync::Arc;

struct Heap {
    head: AtomicU64,
    tail: AtomicU64,
    words: Box<[AtomicU64]>,
}

fn pair(capacity: usize) -> (LogWriter, LogReader) {
    let heap = Arc::new(Heap {
        head: AtomicU64::new(0),
        tail: AtomicU64::new(0),
        words: (0..capacity / WORD).map(|_| AtomicU64::new(0)).collect(),
    });
    let log = || Log {
        head: NonNull::from(&heap.head),
        tail: NonNull::from(&heap.tail),
        words: NonNull::from(&heap.words[0]),
        capacity: capacity as u64,
        _memory: heap.clone(),
    };
    (LogWriter::new(log()), LogReader::new(log()))
}

/// Two words that show if they are not of one record.
fn put(writer: &mut LogWriter, value: u64) {
    let body = [value.to_le_bytes(), (!value).to_le_bytes()];
    writer.append(value as u16, &[&body[0], &body[1]]).unwrap();
}

/// The next value; an overrun is told by its error.
fn take(reader: &mut LogReader, scratch: &mut Vec<u8>) -> Result<Option<u64>, LogError> {
    let Some(record) = reader.next(scratch)? else {
        return Ok(None);
    };
    let (words, _) = record.body.as_chunks::<WORD>();
    let words: Vec<_> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
    assert_eq!(words, [words[0], !words[0]], "torn");
    assert_eq!(record.kind, words[0] as u16);
    Ok(Some(words[0]))
}

/// Records of 24 bytes in a log of 64: the third overwrites the first, behind the padding. Whatever the reader sees is whole and
/// in order, and in the end it has seen all that is live.
#[test]
fn a_reader_sees_whole_records_and_misses_none_that_is_live() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let (mut writer, mut reader) = pair(64);
        put(&mut writer, 1);
        writer.publish();
        let worker = loom::thread::spawn(move || {
            put(&mut writer, 2);
            writer.release_to(24);
            writer.publish();
            put(&mut writer, 3);
            writer.publish();
        });
        let mut scratch = Vec::new();
        let mut seen = Vec::new();
        let look = |reader: &mut LogReader, seen: &mut Vec<u64>, scratch: &mut Vec<u8>| {
            match take(reader, scratch) {
                Ok(Some(value)) => seen.push(value),
                Ok(None) => return false,
                // An honest writer is never anything but too fast.
                Err(error) => assert!(matches!(error, LogError::Overrun { .. }), "{error}"),
            }
            true
        };
        look(&mut reader, &mut seen, &mut scratch);
        look(&mut reader, &mut seen, &mut scratch);
        worker.join().unwrap();
        while look(&mut reader, &mut seen, &mut scratch) {}
        assert!(!reader.behind());
        let all = [1, 2, 3];
        assert!(seen == all || seen == all[1..], "{seen:?}");
    });
}
