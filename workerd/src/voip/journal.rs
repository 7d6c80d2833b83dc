//! What a worker tells of its calls, in a log that its successor and the other workers read; and what it learns from theirs.
//!
//! | kind | tells | read by |
//! |---|---|---|
//! | call | a [`Snapshot`] | all |
//! | progress | how far the worker has come ([`Abreast`]): all that came of the packets before is told | the other workers |
//!
//! What else stands in the log: see [`desk::journal`]. What is learned from another
//! worker is not told again: everybody reads everybody's log.

use lc_daemon::attach::Peer;
use lc_daemon::calls_log::{CALL, PROGRESS};
use prost::Message;
use shm_layout::log::{LogError, LogWriter, Record};
use shm_layout::ring::Full;

use super::abreast::Abreast;
use super::snapshot::Snapshot;
use super::switchboard::Switchboard;
use crate::desk;
use crate::desk::journal::numbers;

/// Most records of another worker that are read at a time.
const MOST_READ: usize = 256;
/// The same when a worker begins: more than a log holds.
const MOST_READ_FIRST: usize = 1 << 24;

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

    /// Learns what a predecessor told.
    pub fn restore(&mut self, log: &LogWriter, board: &mut Switchboard) {
        desk::journal::read_all(log, &mut self.scratch, |record| {
            if record.kind == CALL
                && let Ok(told) = Snapshot::decode(record.body)
            {
                board.learn(&told, Some(record.position));
            }
        });
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

    /// The record at `position` is about to be given up: what is of use of it is told again.
    pub fn keep(&mut self, position: u64, kind: u16, body: &[u8], board: &mut Switchboard) {
        let calls = board.calls_mut();
        match kind {
            CALL => {
                let told = Snapshot::decode(body).ok();
                let call = told.and_then(|told| calls.told_of(&told));
                let is_last = |call: &_| {
                    let call = calls.get(*call);
                    call.and_then(|call| call.told_at) == Some(position)
                };
                if let Some(call) = call.filter(is_last) {
                    calls.change(call);
                }
            }
            // Told again at once, or when there is more to tell, which is soon.
            PROGRESS if self.told_at == Some(position) => self.told_at = None,
            _ => {}
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
