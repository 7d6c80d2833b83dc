//! What a worker tells of its calls, in a log that its successor and the other workers read; and what it learns from theirs.
//!
//! | kind | tells | read by |
//! |---|---|---|
//! | call | a [`Snapshot`] | all |
//! | done | positions of held packets that need not be looked at again, though older ones wait | the successor |
//! | progress | that the packets before a number are done, and all that came of them is told | the other workers |
//!
//! What is still of use is told again before its place is given up, so the log is its own snapshot (see [`shm_layout::log`]). What is learned from another
//! worker is not told again: everybody reads everybody's log.

use std::collections::HashSet;

use lc_daemon::attach::Peer;
use lc_daemon::calls_log::{CALL, DONE, PROGRESS};
use prost::Message;
use shm_layout::log::{LogError, LogWriter, Record};
use shm_layout::ring::Full;

use super::held::Position;
use super::snapshot::Snapshot;
use super::switchboard::Switchboard;

/// Most records of another worker that are read at a time.
const MOST_READ: usize = 256;
/// Most records that are told again at a time.
const MOST_TIDIED: usize = 64;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Journal {
    /// What each other worker told of its progress last.
    peers: Vec<u64>,
    /// The progress that was told last, and where.
    told: Option<(u64, u64)>,
    scratch: Vec<u8>,
    encoded: Vec<u8>,
}

impl Journal {
    /// With as many other workers as there are `peers`.
    #[must_use]
    pub fn new(peers: usize) -> Self {
        Self {
            peers: vec![0; peers],
            ..Self::default()
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

    /// Learns what other workers told since, up to a bound.
    pub fn learn(&mut self, peers: &mut [Peer], board: &mut Switchboard) {
        for (peer, progress) in peers.iter_mut().zip(&mut self.peers) {
            for _ in 0..MOST_READ {
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
                    })) => *progress = numbers(body).next().unwrap_or(0).max(*progress),
                    // Goes on at the tail: what is of use is told again behind it.
                    Ok(Some(_)) | Err(LogError::Overrun { .. }) => {}
                    Err(_) => break,
                }
            }
        }
    }

    /// Up to which number all other workers are done with packets. There may be none.
    #[must_use]
    pub fn slowest(&self) -> Option<u64> {
        self.peers.iter().copied().min()
    }

    /// Whether all other workers are done with packet `sequence`.
    #[must_use]
    pub fn have_passed(&self, sequence: u64) -> bool {
        self.slowest().is_none_or(|slowest| slowest > sequence)
    }

    /// Tells what has changed since, and how far this worker has come, if anybody waits for that.
    pub fn tell(&mut self, log: &mut LogWriter, board: &mut Switchboard, progress: Option<u64>) {
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
        let told = self.told.map(|(progress, _)| progress);
        if let Some(progress) = progress.filter(|progress| Some(*progress) > told)
            && let Ok(position) = log.append(PROGRESS, &[&progress.to_le_bytes()])
        {
            self.told = Some((progress, position));
        }
    }

    fn tell_calls(&mut self, log: &mut LogWriter, board: &mut Switchboard) -> Result<(), Full> {
        let time_ns = board.calls().now_ns();
        let calls = board.calls_mut();
        while let Some(id) = calls.next_gone() {
            Snapshot::gone(&id).encode_to(&mut self.encoded);
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
                    let call = told.and_then(|told| calls.find(&told.id));
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
                PROGRESS if self.told.map(|(_, at)| at) == Some(position) => {
                    // Told again when there is more to tell, which is soon.
                    self.told = None;
                }
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
