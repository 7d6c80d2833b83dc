//! A batch: which packets of which tx rings go out together, and how they are written.
//!
//! A batch holds positions, not bytes. The packets stay in the workers' rings until the processor has acknowledged the
//! batch; each time it is sent, they are copied from there straight into the send buffer. So a batch can be sent again
//! at any time and costs no memory of its own. A batch that went to disk, or comes from there, holds its bytes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, Bytes};
use lc_proto::data::BatchStats;
use lc_proto::passthrough::{BatchHead, WireMessage};
use shm_layout::counters::ForwardCounter;
use shm_layout::extent::Tail;
use shm_layout::ring::RingView;
use shm_layout::shared_bytes::SharedBytes;
use shm_layout::wire::{Priority, WirePacket};
use tonic::Status;
use tonic::codec::EncodeBuf;

use crate::ledger::Ledger;
use crate::overflow::Record;

/// A batch is closed at this many bytes of encoded packets: well below the longest message, so that the head has room
/// and no processor is pressed to its limit.
pub(crate) const CLOSE_BYTES: usize = 8 << 20;

/// The longest encoded packet that can be sent at all: the longest message less room for the batch's head.
pub(crate) const MAX_PACKET_BYTES: usize = lc_proto::MAX_MESSAGE_BYTES - (64 << 10);

/// Tag of the field `packets` of `PacketBatch`.
const PACKETS_TAG: u8 = 0x22;

/// Packets that go out together.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// Where the packets are, in the order in which they are sent.
    place: Mutex<Place>,
    /// How far each ring is done when this batch is. None for a batch that was read from disk.
    pub(crate) tails: Vec<Tail>,
    /// Number of packets. A batch without any only releases what was skipped; it is not sent.
    pub(crate) packets: usize,
    /// Encoded bytes of the packets.
    pub(crate) bytes: usize,
    /// Whether it was ever put into a send buffer.
    sent: AtomicBool,
}

/// Where the packets of a batch are.
#[derive(Debug)]
enum Place {
    /// In the tx rings.
    Rings(Vec<Run>),
    /// In a record on disk, whose bytes are here too.
    Disk { record: u64, bytes: Bytes },
}

impl Default for Place {
    fn default() -> Self {
        Self::Rings(Vec::new())
    }
}

/// Consecutive packets of one tx ring.
#[derive(Debug)]
struct Run {
    worker: usize,
    start: u64,
    end: u64,
}

/// What copying packets out of the rings gave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Packets copied.
    pub(crate) packets: u32,
    /// Those of them that are urgent.
    pub(crate) urgent: u32,
    /// Packets left out because they are not.
    pub(crate) yielded: u64,
    /// Packets left out because they are malformed.
    pub(crate) corrupt: u64,
}

impl Batch {
    /// The packets of a record that was read from disk.
    pub(crate) fn of_record(record: Record) -> Self {
        Self {
            packets: record.packets as usize,
            bytes: record.payload.len(),
            place: Mutex::new(Place::Disk {
                record: record.number,
                bytes: record.payload.into(),
            }),
            ..Self::default()
        }
    }

    /// Whether there is nothing to send and nothing to release.
    pub(crate) fn is_empty(&self) -> bool {
        self.tails.is_empty()
    }

    /// Adds the packet of `bytes` encoded bytes that reading the ring of `worker` from `start` to `end` gave.
    pub(crate) fn add(&mut self, worker: usize, start: u64, end: u64, bytes: usize) {
        if let Place::Rings(runs) = self.place.get_mut().unwrap_or_else(PoisonError::into_inner) {
            match runs.last_mut() {
                Some(run) if run.worker == worker && run.end == start => run.end = end,
                _ => runs.push(Run { worker, start, end }),
            }
        }
        self.packets += 1;
        self.bytes += bytes;
        self.tail(worker, end).packets += 1;
    }

    /// Notes that `lost` packets before `position` in the ring of `worker` are given up.
    pub(crate) fn skip(&mut self, worker: usize, position: u64, lost: u64) {
        self.tail(worker, position).lost += lost;
    }

    /// Takes over what `before`, which has no packets, would release.
    pub(crate) fn skip_all(&mut self, before: &Self) {
        for tail in &before.tails {
            match self.tails.iter_mut().find(|own| own.worker == tail.worker) {
                Some(own) => own.lost += tail.lost,
                None => self.tails.push(tail.clone()),
            }
        }
    }

    fn tail(&mut self, worker: usize, position: u64) -> &mut Tail {
        let index = match self.tails.iter().position(|tail| tail.worker == worker) {
            Some(index) => index,
            None => {
                self.tails.push(Tail {
                    worker,
                    position,
                    packets: 0,
                    lost: 0,
                });
                self.tails.len() - 1
            }
        };
        let tail = &mut self.tails[index];
        tail.position = position;
        tail
    }

    /// Whether it was ever put into a send buffer, by this process or by its predecessor.
    pub(crate) fn was_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
    }

    /// Notes that it was put into a send buffer.
    pub(crate) fn set_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }

    /// Its record, if it is on disk.
    pub(crate) fn record(&self) -> Option<u64> {
        match &*self.place() {
            Place::Rings(_) => None,
            Place::Disk { record, .. } => Some(*record),
        }
    }

    /// From now on its packets are in this record, with these bytes, and no longer in the rings.
    pub(crate) fn move_to_disk(&self, record: u64, bytes: Bytes) {
        *self.place() = Place::Disk { record, bytes };
    }

    /// Appends the packets to `buf`: all, or only the urgent ones. What is malformed is left out and counted.
    pub(crate) fn copy(&self, origin: &Origin, all: bool, buf: &mut impl BufMut) -> Copied {
        let mut copied = Copied::default();
        match &*self.place() {
            Place::Disk { bytes, .. } => {
                buf.put_slice(bytes);
                copied.packets = self.packets as u32;
            }
            Place::Rings(runs) => {
                // The collector has checked all of this. A worker gone mad may have changed it since, which costs its
                // own packets, but not more room than was reckoned with.
                let mut room = self.bytes;
                for run in runs {
                    for record in origin.rings[run.worker].records(run.start, run.end) {
                        let packet = record.and_then(|record| WirePacket::read(&record)).ok();
                        match packet.and_then(|packet| Some((framed(&packet)?, packet.priority))) {
                            Some((bytes, _)) if bytes.len() > room => copied.corrupt += 1,
                            Some((_, Priority::Normal)) if !all => copied.yielded += 1,
                            Some((bytes, priority)) => {
                                room -= bytes.len();
                                bytes.put_into(buf);
                                copied.packets += 1;
                                copied.urgent += u32::from(priority > Priority::Normal);
                            }
                            // Records that were passed over when the batch was formed lie between runs, not in them.
                            None => copied.corrupt += 1,
                        }
                    }
                }
            }
        }
        if copied.corrupt > 0 {
            let corrupt = copied.corrupt;
            origin.ledger.count(ForwardCounter::CorruptRecords, corrupt);
        }
        copied
    }

    /// Held while packets are copied, so that they don't move meanwhile.
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The encoded bytes of a packet, checked as far as a reader of the batch's top level would.
pub(crate) fn framed<'a>(packet: &WirePacket<'a>) -> Option<SharedBytes<'a>> {
    let len = packet.bytes.len();
    let [tag] = packet.bytes.array(0)?;
    if tag != PACKETS_TAG {
        return None;
    }
    let (mut value, mut at) = (0, 1);
    loop {
        let [byte] = packet.bytes.array(at)?;
        value |= usize::from(byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            return (at + value == len).then_some(packet.bytes);
        }
        if at > 5 {
            return None;
        }
    }
}

/// A batch, or a probe without packets, on its way into the send buffer.
pub(crate) struct Message {
    /// The packets; none for a probe.
    pub(crate) batch: Option<Arc<Batch>>,
    /// Number of the batch.
    pub(crate) sequence: u64,
    /// What this node counted so far.
    pub(crate) stats: BatchStats,
    /// What all messages of a session share.
    pub(crate) origin: Arc<Origin>,
}

/// Where messages come from.
pub(crate) struct Origin {
    /// Name of this node.
    pub(crate) hunter_id: String,
    /// The tx rings.
    pub(crate) rings: Vec<RingView>,
    /// Counts what turns out to be malformed.
    pub(crate) ledger: Arc<Ledger>,
}

impl WireMessage for Message {
    fn encoded_len_hint(&self) -> usize {
        // The head is far below this, but for the hunter's name.
        let head = 128 + self.origin.hunter_id.len();
        head + self.batch.as_ref().map_or(0, |batch| batch.bytes)
    }

    fn put(&self, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        // The time of sending: the processor takes it for a sign of life.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let head = BatchHead {
            hunter_id: &self.origin.hunter_id,
            sequence: self.sequence,
            timestamp_ns: now.map_or(0, |now| now.as_nanos() as i64),
            stats: Some(&self.stats),
        };
        head.put(buf);
        if let Some(batch) = &self.batch {
            batch.set_sent();
            batch.copy(&self.origin, true, buf);
        }
        Ok(())
    }
}
