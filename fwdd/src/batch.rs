//! A batch: which packets of which tx rings go out together, and how they are written.
//!
//! A batch holds positions, not bytes. The packets stay in the workers' rings until the processor has acknowledged the
//! batch; each time it is sent, they are copied from there straight into the send buffer. So a batch can be sent again
//! at any time and costs no memory of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::BufMut;
use lc_proto::data::BatchStats;
use lc_proto::passthrough::{BatchHead, WireMessage};
use shm_layout::counters::ForwardCounter;
use shm_layout::ring::RingView;
use shm_layout::shared_bytes::SharedBytes;
use shm_layout::wire::WirePacket;
use tonic::Status;
use tonic::codec::EncodeBuf;

use crate::ledger::Ledger;

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
    /// Where the packets lie, in the order in which they are sent.
    runs: Vec<Run>,
    /// How far each ring is done when this batch is.
    pub(crate) tails: Vec<Tail>,
    /// Number of packets. A batch without any only releases what was skipped; it is not sent.
    pub(crate) packets: usize,
    /// Encoded bytes of the packets.
    pub(crate) bytes: usize,
    /// Whether it was ever put into a send buffer.
    sent: AtomicBool,
}

/// Consecutive packets of one tx ring.
#[derive(Debug)]
struct Run {
    worker: usize,
    start: u64,
    end: u64,
}

/// What a batch settles in one tx ring.
#[derive(Debug)]
pub(crate) struct Tail {
    /// Whose ring.
    pub(crate) worker: usize,
    /// The ring is done up to here.
    pub(crate) position: u64,
    /// Packets of the ring in this batch.
    pub(crate) packets: u64,
    /// Packets of the ring that were given up before this position.
    pub(crate) lost: u64,
}

impl Batch {
    /// Whether there is nothing to send and nothing to release.
    pub(crate) fn is_empty(&self) -> bool {
        self.tails.is_empty()
    }

    /// Adds the packet of `bytes` encoded bytes that reading the ring of `worker` from `start` to `end` gave.
    pub(crate) fn add(&mut self, worker: usize, start: u64, end: u64, bytes: usize) {
        match self.runs.last_mut() {
            Some(run) if run.worker == worker && run.end == start => run.end = end,
            _ => self.runs.push(Run { worker, start, end }),
        }
        self.packets += 1;
        self.bytes += bytes;
        self.tail(worker, end).packets += 1;
    }

    /// Notes that `lost` packets before `position` in the ring of `worker` are given up.
    pub(crate) fn skip(&mut self, worker: usize, position: u64, lost: u64) {
        self.tail(worker, position).lost += lost;
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

    /// Whether it was ever put into a send buffer.
    pub(crate) fn was_sent(&self) -> bool {
        self.sent.load(Ordering::Relaxed)
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
            batch.sent.store(true, Ordering::Relaxed);
            self.put_packets(batch, buf);
        }
        Ok(())
    }
}

impl Message {
    fn put_packets(&self, batch: &Batch, buf: &mut impl BufMut) {
        // The collector has checked all of this. A worker gone mad may have changed it since, which costs its own
        // packets, but not more room than was reckoned with.
        let mut room = batch.bytes;
        for run in &batch.runs {
            for record in self.origin.rings[run.worker].records(run.start, run.end) {
                let packet = record.and_then(|record| WirePacket::read(&record));
                match packet.ok().and_then(|packet| framed(&packet)) {
                    Some(bytes) if bytes.len() <= room => {
                        room -= bytes.len();
                        bytes.put_into(buf);
                    }
                    // Records that were passed over when the batch was formed lie between runs, not in them.
                    _ => self.origin.ledger.count(ForwardCounter::CorruptRecords, 1),
                }
            }
        }
    }
}
