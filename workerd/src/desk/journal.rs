//! The log in which a worker tells what it knows: what all kinds of records have in common.
//!
//! | kind | tells | read by |
//! |---|---|---|
//! | call, progress | see [`crate::voip::journal`] | all workers |
//! | session | see [`crate::session::journal`] | the successor |
//! | done | positions of held packets that need not be looked at again, though older ones wait | the successor |
//!
//! What is still of use is told again before its place is given up, so the log is its own snapshot (see [`shm_layout::log`]).

use std::collections::HashSet;

use lc_daemon::calls_log::DONE;
use shm_layout::log::{LogWriter, Record};

use super::held::Position;

/// Most records that are told again at a time.
const MOST_TIDIED: usize = 64;

/// Reads all records.
pub fn read_all(log: &LogWriter, scratch: &mut Vec<u8>, mut each: impl FnMut(&Record<'_>)) {
    let mut position = log.tail();
    loop {
        match log.read(position, scratch) {
            Ok(Some(record)) => {
                position = record.end;
                each(&record);
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "the log of calls and sessions is damaged; what stands behind is forgotten");
                return;
            }
        }
    }
}

/// Which held packets are done, as a predecessor told.
pub fn restore_done(log: &LogWriter, scratch: &mut Vec<u8>) -> HashSet<Position> {
    let mut done = HashSet::new();
    read_all(log, scratch, |record| {
        if record.kind == DONE {
            done.extend(numbers(record.body));
        }
    });
    done
}

/// Tells which held packets are done.
pub fn tell_done(log: &mut LogWriter, done: &[Position]) {
    if done.is_empty() {
        return;
    }
    let body: Vec<u8> = done.iter().flat_map(|at| at.to_le_bytes()).collect();
    if log.append(DONE, &[&body]).is_err() {
        tracing::debug!("no room to tell which held packets are done");
    }
}

/// Gives up the oldest part of a log that is more than half full. What is of use of it is told again: of records that are not of this module, `keep` is asked to do so. Of the packets
/// that wait, the oldest lies at `oldest_held`.
pub fn tidy(
    log: &mut LogWriter,
    scratch: &mut Vec<u8>,
    oldest_held: Option<Position>,
    mut keep: impl FnMut(&Record<'_>),
) {
    for _ in 0..MOST_TIDIED {
        if log.used() <= log.capacity() / 2 {
            return;
        }
        let Ok(Some(oldest)) = log.read(log.tail(), scratch) else {
            // Nothing that can be read: what there is of it is given up.
            log.release_to(log.head());
            return;
        };
        let end = oldest.end;
        if oldest.kind == DONE {
            let newest = numbers(oldest.body).max();
            let is_of_use = newest.is_some() && newest > oldest_held && oldest_held.is_some();
            if is_of_use && log.append(DONE, &[oldest.body]).is_err() {
                return;
            }
        } else {
            keep(&oldest);
        }
        log.release_to(end);
    }
}

/// The numbers that a record consists of.
pub(crate) fn numbers(body: &[u8]) -> impl Iterator<Item = u64> {
    let (chunks, _) = body.as_chunks::<8>();
    chunks.iter().map(|bytes| u64::from_le_bytes(*bytes))
}
