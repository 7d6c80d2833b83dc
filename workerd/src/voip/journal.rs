//! What a worker tells of its calls, in a log that its successor and the other workers read; and what it learns from theirs.
//!
//! | kind | tells | read by |
//! |---|---|---|
//! | call | a [`Snapshot`] | all |
//! | done | positions of held packets that need not be looked at again, though older ones wait | the successor |
//! | progress | how far the worker has come ([`Abreast`]): all that came of the packets before is told | the other workers |
//!
//! What is still of use is told again before its place is given up, so the log is its own snapshot (see [`shm_layout::log`]). What is learned from another
//! worker is not told again: everybody reads everybody's log.

use std::collections::HashSet;

use lc_daemon::attach::Peer;
use lc_daemon::calls_log::{CALL, DONE, PROGRESS};
use prost::Message;
use shm_layout::log::{LogError, LogWriter, Record};
use shm_layout::ring::Full;

use super::abreast::Abreast;
use super::held::Position;
use super::snapshot::Snapshot;
use super::switchboard::Switchboard;

/// Most records of another worker that are read at a time.
const MOST_READ: usize = 256;
/// The same when a worker begins: more than a log holds.
const MOST_READ_FIRST: usize = 1 << 24;
/// Most records that are told again at a time.
const MOST_TIDIED: usize = 64;

/// See the [module](self).
#[derive(Debug)]
pub struct Journal {
    /// How far the other workers have come.
    pub abreast: Abreast,
    /// The progress that was told last.
    progress: Vec<u64>,
    /// Where it was told.
    told_at: Option<u64>,
    has_learned: bool,
    scratch: Vec<u8>,
    encoded: Vec<u8>,
}

impl Journal {
    /// With the others that are known to `abreast`.
    #[must_use]
    pub fn new(abreast: Abreast) -> Self {
        Self {
            abreast,
            progress: Vec::new(),
            told_at: None,
            has_learned: false,
            scratch: Vec::new(),
            encoded: Vec::new(),
        }
    }

    /// Learns what a predecessor told. Returns the held packets that are done.
    pub fn restore(&mut self, log: &LogWriter, board: &mut Switchboard) -> HashSet<Position> {
        let mut done = HashSet::new();
        let mut position = log.tail();
        loop {
            match log.read(position, &mut self.scratch) {
                Ok(Some(record)) => {
                    position = record.end;
                    match record.kind {
                        CALL => {
                            if let Ok(told) = Snapshot::decode(record.body) {
                                board.learn(&told, Some(record.position));
                            }
                        }
                        DONE => done.extend(numbers(record.body)),
                        _ => {}
                    }
                }
                Ok(None) => return done,
                Err(error) => {
                    tracing::warn!(%error, "the log of calls is damaged; what stands behind is forgotten");
                    return done;
                }
            }
        }
    }

    /// Learns what other workers told since, up to a bound; the first time all of it: what was told again stands behind progress that was told before.
    pub fn learn(&mut self, peers: &mut [Peer], board: &mut Switchboard) {
        let most = match std::mem::replace(&mut self.has_learned, true) {
            true => MOST_READ,
            false => MOST_READ_FIRST,
        };
        for (other, peer) in peers.iter_mut().enumerate() {
            for _ in 0..most {
                match peer.calls.next(&mut self.scratch) {
                    Ok(None) => break,
                    Ok(Some(Record {
                        kind: CALL, body, ..
                    })) => {
                        if let Ok(told) = Snapshot::decode(body) {
                            board.learn(&told, None);
                        }
                    }
                    Ok(Some(Record {
                        kind: PROGRESS,
                        body,
                        ..
                    })) => self.abreast.learn(other, numbers(body)),
                    // Goes on at the tail: what is of use is told again behind it.
                    Ok(Some(_)) | Err(LogError::Overrun { .. }) => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// Tells what has changed since, and how far this worker has come, unless `progress` is empty.
    pub fn tell(&mut self, log: &mut LogWriter, board: &mut Switchboard, progress: &[u64]) {
        self.tidy(log, board);
        let done = board.take_done();
        if !done.is_empty() {
            let body: Vec<u8> = done.iter().flat_map(|at| at.to_le_bytes()).collect();
            if log.append(DONE, &[&body]).is_err() {
                tracing::debug!("no room to tell which held packets are done");
            }
        }
        if self.tell_calls(log, board).is_err() {
            return;
        }
        let is_told = self.told_at.is_some() && self.progress == progress;
        if progress.is_empty() || is_told {
            return;
        }
        self.encoded.clear();
        let bytes = progress.iter().flat_map(|number| number.to_le_bytes());
        self.encoded.extend(bytes);
        if let Ok(position) = log.append(PROGRESS, &[&self.encoded]) {
            self.progress.clear();
            self.progress.extend_from_slice(progress);
            self.told_at = Some(position);
        }
    }

    fn tell_calls(&mut self, log: &mut LogWriter, board: &mut Switchboard) -> Result<(), Full> {
        let time_ns = board.calls().now_ns();
        let calls = board.calls_mut();
        while let Some(gone) = calls.next_gone() {
            Snapshot::gone(&gone).encode_to(&mut self.encoded);
            log.append(CALL, &[&self.encoded])?;
        }
        while let Some(call) = calls.next_changed() {
            let Some(found) = calls.get(call) else {
                continue;
            };
            let mut told = Snapshot::of(found);
            told.time_ns = time_ns;
            told.encode_to(&mut self.encoded);
            match log.append(CALL, &[&self.encoded]) {
                Ok(position) => calls.told(call, position),
                Err(full) => {
                    calls.change(call);
                    return Err(full);
                }
            }
        }
        Ok(())
    }

    /// Tells again what is of use in the oldest part of a log that is more than half full.
    fn tidy(&mut self, log: &mut LogWriter, board: &mut Switchboard) {
        let oldest_held = board.oldest();
        let calls = board.calls_mut();
        for _ in 0..MOST_TIDIED {
            if log.used() <= log.capacity() / 2 {
                return;
            }
            let Ok(Some(oldest)) = log.read(log.tail(), &mut self.scratch) else {
                // Nothing that can be read: what there is of it is given up.
                log.release_to(log.head());
                return;
            };
            let (position, end) = (oldest.position, oldest.end);
            match oldest.kind {
                CALL => {
                    let told = Snapshot::decode(oldest.body).ok();
                    let call = told.and_then(|told| calls.told_of(&told));
                    let is_last = |call: &_| {
                        let call = calls.get(*call);
                        call.and_then(|call| call.told_at) == Some(position)
                    };
                    if let Some(call) = call.filter(is_last) {
                        calls.change(call);
                    }
                }
                DONE => {
                    let newest = numbers(oldest.body).max();
                    if newest.is_some() && newest > oldest_held && oldest_held.is_some() {
                        let body = oldest.body;
                        if log.append(DONE, &[body]).is_err() {
                            return;
                        }
                    }
                }
                // Told again at once, or when there is more to tell, which is soon.
                PROGRESS if self.told_at == Some(position) => self.told_at = None,
                _ => {}
            }
            log.release_to(end);
        }
    }
}

impl Snapshot {
    fn encode_to(&self, buffer: &mut Vec<u8>) {
        buffer.clear();
        // A vector grows as needed, so this can't fail.
        let _ = self.encode(buffer);
    }
}

fn numbers(body: &[u8]) -> impl Iterator<Item = u64> {
    let (chunks, _) = body.as_chunks::<8>();
    chunks.iter().map(|bytes| u64::from_le_bytes(*bytes))
}
