//! The session region: geometry, capture threads and interfaces. Written by capd.

use crate::commit::{CommitSlots, Torn};
use crate::counters::{CaptureCounter, KeyLogCounter};
use crate::layout::{Geometry, Kind, MAX_INTERFACES, MAX_QUEUES, MAX_WORKERS};
use crate::region::{Backing, Body, OwnedRegion, Region, RegionError};
use crate::shares::Shares;
use crate::sync::{AtomicU64, Ordering};
use crate::text::SharedText;

const COUNTERS: usize = 16;
const _: () = assert!(CaptureCounter::ALL.len() <= COUNTERS);
const _: () = assert!(KeyLogCounter::ALL.len() <= COUNTERS);

/// Body of the session region.
#[repr(C)]
pub struct Session {
    /// workers | queues << 16
    rings: AtomicU64,
    rx_bytes: AtomicU64,
    tx_bytes: AtomicU64,
    calls_bytes: AtomicU64,
    held_bytes: AtomicU64,
    keys_bytes: AtomicU64,
    stopping: AtomicU64,
    bpf: CommitSlots<4>,
    ring_backing: AtomicU64,
    interface_count: AtomicU64,
    key_log: KeyLog,
    queues: [Queue; MAX_QUEUES],
    interfaces: [Interface; MAX_INTERFACES],
    pub(crate) shares: Shares,
}

#[repr(C)]
struct Queue {
    state: AtomicU64,
    reason: SharedText<16>,
    commit: CommitSlots<{ COUNTERS + 1 + 2 * MAX_WORKERS }>,
}

#[repr(C)]
struct KeyLog {
    state: AtomicU64,
    reason: SharedText<16>,
    counts: CommitSlots<COUNTERS>,
}

#[repr(C)]
struct Interface {
    /// link type | queue << 16
    facts: AtomicU64,
    name: SharedText<8>,
}

// SAFETY: `repr(C)`, atomics only, aligned to at most 128.
unsafe impl Body for Session {
    const KIND: Kind = Kind::Session;
}

impl Session {
    /// Bytes to [`crate::region::create`] the region with.
    pub const BYTES: u64 = size_of::<Self>() as u64;
}

/// What one capture thread does at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum QueueState {
    /// Not yet reading.
    Starting = 0,
    /// A file source holds its packets back until filters are in force.
    WaitingForFilters = 1,
    /// Reading.
    Running = 2,
    /// The interface is there, but down.
    LinkDown = 3,
    /// The interface is gone; it is looked for.
    Retrying = 4,
    /// All files were read to their end.
    Finished = 5,
    /// Ended by an error; see the reason.
    Failed = 6,
    /// Ended because capd stops.
    Stopped = 7,
}

impl QueueState {
    fn of(word: u64) -> Self {
        match word {
            0 => Self::Starting,
            1 => Self::WaitingForFilters,
            2 => Self::Running,
            3 => Self::LinkDown,
            4 => Self::Retrying,
            5 => Self::Finished,
            7 => Self::Stopped,
            _ => Self::Failed,
        }
    }

    /// Whether the source has no more packets.
    #[must_use]
    pub fn has_ended(self) -> bool {
        matches!(self, Self::Finished | Self::Failed)
    }
}

/// How it is with the TLS key log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum KeyLogState {
    /// There is none.
    Off = 0,
    /// It does not exist yet.
    Awaited = 1,
    /// It is being read.
    Read = 2,
    /// It can't be read; see the reason.
    Failed = 3,
}

impl KeyLogState {
    fn of(word: u64) -> Self {
        match word {
            0 => Self::Off,
            1 => Self::Awaited,
            2 => Self::Read,
            _ => Self::Failed,
        }
    }
}

/// What the reader of the TLS key log has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyLogCounts {
    words: [u64; COUNTERS],
}

impl KeyLogCounts {
    /// A counter.
    #[must_use]
    pub fn get(&self, counter: KeyLogCounter) -> u64 {
        self.words[counter as usize]
    }

    /// Counts.
    pub fn add(&mut self, counter: KeyLogCounter, count: u64) {
        self.words[counter as usize] += count;
    }
}

/// One consistent state of a capture thread: counters, the next sequence number, and for each worker
/// the rx ring's head with the number of packets steered to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueCommit {
    words: Vec<u64>,
}

impl QueueCommit {
    /// All zero, for `workers` workers.
    #[must_use]
    pub fn new(workers: u16) -> Self {
        Self {
            words: vec![0; COUNTERS + 1 + 2 * usize::from(workers).min(MAX_WORKERS)],
        }
    }

    /// A counter.
    #[must_use]
    #[inline]
    pub fn get(&self, counter: CaptureCounter) -> u64 {
        self.words[counter as usize]
    }

    /// Sets a counter.
    #[inline]
    pub fn set(&mut self, counter: CaptureCounter, value: u64) {
        self.words[counter as usize] = value;
    }

    /// Counts.
    #[inline]
    pub fn add(&mut self, counter: CaptureCounter, count: u64) {
        self.words[counter as usize] += count;
    }

    /// The sequence number of the next packet.
    #[must_use]
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.words[COUNTERS]
    }

    /// Notes the sequence number of the next packet: what the source has numbered so far.
    #[inline]
    pub fn set_sequence(&mut self, next: u64) {
        self.words[COUNTERS] = next;
    }

    /// Head of the rx ring to `worker`, in bytes.
    #[must_use]
    pub fn head(&self, worker: usize) -> u64 {
        self.words[COUNTERS + 1 + 2 * worker]
    }

    /// Notes the head of the rx ring to `worker`.
    #[inline]
    pub fn set_head(&mut self, worker: usize, head: u64) {
        self.words[COUNTERS + 1 + 2 * worker] = head;
    }

    /// Packets put into the rx ring to `worker`.
    #[must_use]
    pub fn steered(&self, worker: usize) -> u64 {
        self.words[COUNTERS + 2 + 2 * worker]
    }

    /// Counts one packet put into the rx ring to `worker`.
    #[inline]
    pub fn count_steered(&mut self, worker: usize) {
        self.words[COUNTERS + 2 + 2 * worker] += 1;
    }
}

/// Which pushed BPF filters the capture applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BpfState {
    /// Filter generation that the capture has taken over.
    pub generation: u64,
    /// BPF filters in force.
    pub active: u64,
    /// BPF filters refused because they do not compile.
    pub refused: u64,
    /// Revision of [`crate::forwarder::Endpoints`] whose traffic is excluded.
    pub endpoints: u64,
}

/// An entry of the interface table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceInfo {
    /// Device name, or the name that a file gives.
    pub name: String,
    /// libpcap link type.
    pub link_type: u16,
    /// Capture thread.
    pub queue: u16,
}

impl Region<Session> {
    /// Number and sizes of the rings and logs.
    ///
    /// # Errors
    /// [`RegionError::Geometry`] when the numbers are outside the layout's limits.
    pub fn geometry(&self) -> Result<Geometry, RegionError> {
        let body = self.body();
        let rings = body.rings.load(Ordering::Acquire); // pairs with `set_geometry`
        let geometry = Geometry {
            workers: rings as u16,
            queues: (rings >> 16) as u16,
            rx_bytes: body.rx_bytes.load(Ordering::Relaxed),
            tx_bytes: body.tx_bytes.load(Ordering::Relaxed),
            calls_bytes: body.calls_bytes.load(Ordering::Relaxed),
            held_bytes: body.held_bytes.load(Ordering::Relaxed),
            keys_bytes: body.keys_bytes.load(Ordering::Relaxed),
        };
        if geometry.is_valid() {
            Ok(geometry)
        } else {
            Err(RegionError::Geometry(geometry))
        }
    }

    /// Whether capd was asked to stop: nothing more will be captured.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.body().stopping.load(Ordering::Acquire) != 0 // pairs with `set_stopping`
    }

    /// What a capture thread does, and why if something is wrong.
    #[must_use]
    pub fn queue_state(&self, queue: usize) -> (QueueState, String) {
        let queue = &self.body().queues[queue];
        let state = QueueState::of(queue.state.load(Ordering::Acquire)); // pairs with `set_queue_state`
        (state, queue.reason.load())
    }

    /// The last commit of a capture thread.
    ///
    /// # Errors
    /// [`Torn`]: try again later.
    pub fn queue_commit(&self, queue: usize, workers: u16) -> Result<QueueCommit, Torn> {
        let mut commit = QueueCommit::new(workers);
        self.body().queues[queue].commit.read(&mut commit.words)?;
        Ok(commit)
    }

    /// What the memory of the rings is made of; the worst of them.
    #[must_use]
    pub fn ring_backing(&self) -> Backing {
        Backing::from_number(self.body().ring_backing.load(Ordering::Relaxed))
    }

    /// The pushed BPF filters in force.
    ///
    /// # Errors
    /// [`Torn`]: try again later.
    pub fn bpf(&self) -> Result<BpfState, Torn> {
        let mut words = [0; 4];
        self.body().bpf.read(&mut words)?;
        let [generation, active, refused, endpoints] = words;
        Ok(BpfState {
            generation,
            active,
            refused,
            endpoints,
        })
    }

    /// How it is with the TLS key log, and why if something is wrong.
    #[must_use]
    pub fn key_log_state(&self) -> (KeyLogState, String) {
        let log = &self.body().key_log;
        let state = KeyLogState::of(log.state.load(Ordering::Acquire)); // pairs with `set_key_log_state`
        (state, log.reason.load())
    }

    /// What its reader has counted.
    ///
    /// # Errors
    /// [`Torn`]: try again later.
    pub fn key_log_counts(&self) -> Result<KeyLogCounts, Torn> {
        let mut counts = KeyLogCounts::default();
        self.body().key_log.counts.read(&mut counts.words)?;
        Ok(counts)
    }

    /// Interfaces known so far; their indices are final.
    #[must_use]
    pub fn interface_count(&self) -> usize {
        // Pairs with the Release store in `add_interface`.
        (self.body().interface_count.load(Ordering::Acquire) as usize).min(MAX_INTERFACES)
    }

    /// An interface, or `None` for an index that is not in the table.
    #[must_use]
    pub fn interface(&self, index: usize) -> Option<InterfaceInfo> {
        if index >= self.interface_count() {
            return None;
        }
        let interface = &self.body().interfaces[index];
        let facts = interface.facts.load(Ordering::Relaxed);
        Some(InterfaceInfo {
            name: interface.name.load(),
            link_type: facts as u16,
            queue: (facts >> 16) as u16,
        })
    }
}

impl OwnedRegion<Session> {
    /// Sets number and sizes of the rings and logs. Once, before the region is handed out.
    pub fn set_geometry(&self, geometry: &Geometry) {
        let body = self.body();
        body.rx_bytes.store(geometry.rx_bytes, Ordering::Relaxed);
        body.tx_bytes.store(geometry.tx_bytes, Ordering::Relaxed);
        let (calls, held) = (geometry.calls_bytes, geometry.held_bytes);
        body.calls_bytes.store(calls, Ordering::Relaxed);
        body.held_bytes.store(held, Ordering::Relaxed);
        body.keys_bytes
            .store(geometry.keys_bytes, Ordering::Relaxed);
        let rings = u64::from(geometry.workers) | u64::from(geometry.queues) << 16;
        body.rings.store(rings, Ordering::Release);
    }

    /// Says what the memory of the rings is made of.
    pub fn set_ring_backing(&self, backing: Backing) {
        self.body()
            .ring_backing
            .store(backing as u64, Ordering::Relaxed);
    }

    /// Says whether capd stops.
    pub fn set_stopping(&self, stopping: bool) {
        self.body()
            .stopping
            .store(stopping.into(), Ordering::Release);
    }

    /// Says what a capture thread does. Only by that thread.
    pub fn set_queue_state(&self, queue: usize, state: QueueState, reason: &str) {
        let queue = &self.body().queues[queue];
        queue.reason.store(reason);
        queue.state.store(state as u64, Ordering::Release);
    }

    /// Publishes a commit of a capture thread. Only by that thread.
    #[inline]
    pub fn commit_queue(&self, queue: usize, commit: &QueueCommit) {
        self.body().queues[queue].commit.publish(&commit.words);
    }

    /// Publishes which pushed BPF filters are in force. Only by one thread.
    pub fn set_bpf(&self, bpf: BpfState) {
        self.body()
            .bpf
            .publish(&[bpf.generation, bpf.active, bpf.refused, bpf.endpoints]);
    }

    /// Says how it is with the TLS key log. Only by its reader.
    pub fn set_key_log_state(&self, state: KeyLogState, reason: &str) {
        let log = &self.body().key_log;
        log.reason.store(reason);
        log.state.store(state as u64, Ordering::Release);
    }

    /// Publishes what the reader of the TLS key log has counted. Only by it.
    pub fn set_key_log_counts(&self, counts: &KeyLogCounts) {
        self.body().key_log.counts.publish(&counts.words);
    }

    /// Enters an interface and returns its index; beyond [`MAX_INTERFACES`] the last entry serves.
    /// The caller keeps two threads from calling at once.
    pub fn add_interface(&self, info: &InterfaceInfo) -> u16 {
        let count = self.interface_count();
        if count == MAX_INTERFACES {
            return (count - 1) as u16;
        }
        let interface = &self.body().interfaces[count];
        interface.name.store(&info.name);
        let facts = u64::from(info.link_type) | u64::from(info.queue) << 16;
        interface.facts.store(facts, Ordering::Relaxed);
        self.body()
            .interface_count
            .store(count as u64 + 1, Ordering::Release);
        count as u16
    }
}
