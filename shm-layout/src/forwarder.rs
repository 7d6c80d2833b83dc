//! The forwarder's region: connection, filter generation, acknowledgements. Written by fwdd.
//!
//! Besides its commit it holds what a successor needs to go on with batches under way: which packets each numbered
//! batch holds ([`Region::sent`]), and which were just being written to disk ([`Region::spilling`]).

use crate::commit::{CommitSlots, Torn};
use crate::counters::ForwardCounter;
use crate::extent::{BatchExtent, ExtentSlot};
use crate::layout::{Kind, MAX_WORKERS};
use crate::region::{Body, OwnedRegion, Region};
use crate::sync::{AtomicU64, Ordering};
use crate::text::SharedText;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;

const COUNTERS: usize = 30;
const _: () = assert!(ForwardCounter::ALL.len() <= COUNTERS);
/// First number of an unsettled batch's slot, and behind the last, 32 bits each.
const UNSETTLED: usize = COUNTERS;
const DISK_DONE: usize = COUNTERS + 1;
const SEQUENCE: usize = COUNTERS + 2;
const TAILS: usize = COUNTERS + 3;
const WORDS: usize = TAILS + 2 * MAX_WORKERS;
/// Most batches that have a number and are not settled.
pub const MAX_UNSETTLED: u32 = 1024;
/// Most processor addresses whose traffic is excluded from capture.
pub const MAX_ENDPOINTS: usize = 16;
/// Most processors in a fail-over list.
pub const MAX_PROCESSORS: usize = 8;
/// Bits of one processor's state in the word of all.
const STATE_BITS: usize = 8;
/// Set for the processor of the present session.
const IN_USE: u64 = 0x80;
const _: () = assert!(MAX_PROCESSORS * STATE_BITS <= u64::BITS as usize);

/// Body of the forwarder's region.
#[repr(C)]
pub struct Forwarder {
    filter_generation: AtomicU64,
    filter_count: AtomicU64,
    connection: AtomicU64,
    peer: SharedText<16>,
    error: SharedText<32>,
    processors: AtomicU64,
    endpoints: CommitSlots<{ 2 + 3 * MAX_ENDPOINTS }>,
    commit: CommitSlots<WORDS>,
    disk_state: AtomicU64,
    disk_bytes: AtomicU64,
    disk_limit: AtomicU64,
    spilling: ExtentSlot,
    sent: [ExtentSlot; MAX_UNSETTLED as usize],
}

// SAFETY: `repr(C)`, atomics only, aligned to at most 128.
unsafe impl Body for Forwarder {
    const KIND: Kind = Kind::Forwarder;
}

impl Forwarder {
    /// Bytes to [`crate::region::create`] the region with.
    pub const BYTES: u64 = size_of::<Self>() as u64;
}

/// Where the session with the processor stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Connection {
    /// Not connected, waiting to try again.
    Waiting = 0,
    /// Connecting or registering.
    Connecting = 1,
    /// Registered; batches flow.
    Streaming = 2,
    /// Registered; the processor asked for a pause.
    Paused = 3,
    /// Flushing before the end.
    Stopping = 4,
}

impl Connection {
    fn of(word: u64) -> Self {
        match word {
            1 => Self::Connecting,
            2 => Self::Streaming,
            3 => Self::Paused,
            4 => Self::Stopping,
            _ => Self::Waiting,
        }
    }
}

/// What the circuit breaker of one processor lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Breaker {
    /// Connections, with pauses that grow from failure to failure.
    Closed = 1,
    /// Nothing: the processor has failed too often.
    Open = 2,
    /// One connection, to see if the processor is back.
    HalfOpen = 3,
}

/// One processor of the fail-over list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessorState {
    /// What its circuit breaker lets through.
    pub breaker: Breaker,
    /// Whether the session is with it.
    pub in_use: bool,
}

/// One consistent state of the forwarder: counters, the next batch number, and for each worker how
/// far its tx ring is acknowledged, in bytes and in packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForwarderCommit {
    words: [u64; WORDS],
}

impl Default for ForwarderCommit {
    fn default() -> Self {
        Self { words: [0; WORDS] }
    }
}

impl ForwarderCommit {
    /// A counter.
    #[must_use]
    pub fn get(&self, counter: ForwardCounter) -> u64 {
        self.words[counter as usize]
    }

    /// Counts.
    pub fn add(&mut self, counter: ForwardCounter, count: u64) {
        self.words[counter as usize] += count;
    }

    /// Highest batch sequence number used in this run; 0 before the first.
    #[must_use]
    pub fn sequence(&self) -> u64 {
        self.words[SEQUENCE]
    }

    /// Notes the highest batch sequence number used. Publish before the number goes out.
    pub fn set_sequence(&mut self, sequence: u64) {
        self.words[SEQUENCE] = sequence;
    }

    /// Slots of the batches that have a number and are not settled, oldest first. At most [`MAX_UNSETTLED`]; slot
    /// numbers wrap.
    #[must_use]
    pub fn unsettled(&self) -> Range<u32> {
        let word = self.words[UNSETTLED];
        let (first, end) = ((word >> 32) as u32, word as u32);
        // Only a region gone mad holds more.
        let count = end.wrapping_sub(first).min(MAX_UNSETTLED);
        first..first.wrapping_add(count)
    }

    /// Sets [`ForwarderCommit::unsettled`].
    pub fn set_unsettled(&mut self, slots: Range<u32>) {
        self.words[UNSETTLED] = u64::from(slots.start) << 32 | u64::from(slots.end);
    }

    /// Records on disk below this number are done with.
    #[must_use]
    pub fn disk_done(&self) -> u64 {
        self.words[DISK_DONE]
    }

    /// Notes that the records on disk below `number` are done with.
    pub fn set_disk_done(&mut self, number: u64) {
        self.words[DISK_DONE] = number;
    }

    /// Packets in the disk buffer.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        let came = self.get(ForwardCounter::DiskRecovered) + self.get(ForwardCounter::DiskStored);
        let left = self.get(ForwardCounter::DiskDelivered)
            + self.get(ForwardCounter::DiskDropped)
            + self.get(ForwardCounter::DiskLost);
        came.saturating_sub(left)
    }

    /// How far the tx ring of `worker` is done with, in bytes: acknowledged, on disk or dropped.
    #[must_use]
    pub fn tx_tail(&self, worker: usize) -> u64 {
        self.words[TAILS + 2 * worker]
    }

    /// Packets of the tx ring of `worker` that are done with.
    #[must_use]
    pub fn tx_done(&self, worker: usize) -> u64 {
        self.words[TAILS + 1 + 2 * worker]
    }

    /// Notes that the tx ring of `worker` is done up to `tail`, `packets` more than before.
    pub fn advance(&mut self, worker: usize, tail: u64, packets: u64) {
        self.words[TAILS + 2 * worker] = tail;
        self.words[TAILS + 1 + 2 * worker] += packets;
    }
}

/// How the disk buffer is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStatus {
    /// Whether there is one, and how writing goes.
    pub state: DiskState,
    /// Bytes of its files.
    pub bytes: u64,
    /// Most bytes that it may take.
    pub limit: u64,
}

/// How writing to the disk buffer goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(u64)]
pub enum DiskState {
    /// There is none.
    #[default]
    Off = 0,
    /// Well.
    Ok = 1,
    /// There is no room, within the limit or on the disk.
    Full = 2,
    /// The disk may only be read.
    ReadOnly = 3,
    /// The disk fails.
    Failed = 4,
}

impl DiskState {
    fn of(word: u64) -> Self {
        match word {
            1 => Self::Ok,
            2 => Self::Full,
            3 => Self::ReadOnly,
            4 => Self::Failed,
            _ => Self::Off,
        }
    }
}

/// Addresses of all processors, whose traffic with this node is not to be captured.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Endpoints {
    /// Counts changes, from 1; 0 when none were published.
    pub revision: u64,
    /// At most [`MAX_ENDPOINTS`].
    pub addresses: Vec<SocketAddr>,
}

impl Region<Forwarder> {
    /// The current filter generation; 0 before the processor has told its filters.
    #[must_use]
    #[inline]
    pub fn filter_generation(&self) -> u64 {
        self.body().filter_generation.load(Ordering::Acquire) // pairs with `set_filters`
    }

    /// Enabled filters of the current generation.
    #[must_use]
    pub fn filter_count(&self) -> u64 {
        self.body().filter_count.load(Ordering::Relaxed)
    }

    /// Where the session stands.
    #[must_use]
    pub fn connection(&self) -> Connection {
        Connection::of(self.body().connection.load(Ordering::Acquire)) // pairs with `set_connection`
    }

    /// The processor of the present or last session: its id, if it told one, and its address.
    #[must_use]
    pub fn peer(&self) -> String {
        self.body().peer.load()
    }

    /// Why the last connection ended or failed; empty when none did.
    #[must_use]
    pub fn error(&self) -> String {
        self.body().error.load()
    }

    /// The processors in order of preference; empty before the forwarder is up.
    #[must_use]
    pub fn processors(&self) -> Vec<ProcessorState> {
        let word = self.body().processors.load(Ordering::Relaxed);
        let states = (0..MAX_PROCESSORS).map_while(|n| {
            let state = word >> (n * STATE_BITS);
            let breaker = match state & 0xf {
                1 => Breaker::Closed,
                2 => Breaker::Open,
                3 => Breaker::HalfOpen,
                _ => return None,
            };
            let in_use = state & IN_USE != 0;
            Some(ProcessorState { breaker, in_use })
        });
        states.collect()
    }

    /// The processors' addresses.
    ///
    /// # Errors
    /// [`Torn`]: try again later.
    pub fn endpoints(&self) -> Result<Endpoints, Torn> {
        let mut words = [0; 2 + 3 * MAX_ENDPOINTS];
        self.body().endpoints.read(&mut words)?;
        let [revision, count, addresses @ ..] = &words;
        let addresses = addresses
            .chunks_exact(3)
            .take(*count as usize)
            .map(|address| {
                let ip = u128::from(address[0]) << 64 | u128::from(address[1]);
                SocketAddr::new(
                    IpAddr::V6(Ipv6Addr::from(ip)).to_canonical(),
                    address[2] as u16,
                )
            })
            .collect();
        Ok(Endpoints {
            revision: *revision,
            addresses,
        })
    }

    /// How the disk buffer is.
    #[must_use]
    pub fn disk(&self) -> DiskStatus {
        let body = self.body();
        DiskStatus {
            state: DiskState::of(body.disk_state.load(Ordering::Relaxed)),
            bytes: body.disk_bytes.load(Ordering::Relaxed),
            limit: body.disk_limit.load(Ordering::Relaxed),
        }
    }

    /// The numbered batch in this slot of [`ForwarderCommit::unsettled`]. Only for the writer's successor.
    #[must_use]
    pub fn sent(&self, slot: u32) -> Option<BatchExtent> {
        self.body().sent[(slot % MAX_UNSETTLED) as usize].load()
    }

    /// The batch that was last about to be written to disk. Whether it was, the disk tells. Only for the writer's
    /// successor.
    #[must_use]
    pub fn spilling(&self) -> Option<BatchExtent> {
        self.body().spilling.load()
    }

    /// The last commit.
    ///
    /// # Errors
    /// [`Torn`]: try again later.
    pub fn commit(&self) -> Result<ForwarderCommit, Torn> {
        let mut commit = ForwarderCommit::default();
        self.body().commit.read(&mut commit.words)?;
        Ok(commit)
    }
}

impl OwnedRegion<Forwarder> {
    /// Makes a filter generation current. Its snapshot must be with capd's broker by then.
    pub fn set_filters(&self, generation: u64, enabled: u64) {
        self.body().filter_count.store(enabled, Ordering::Relaxed);
        self.body()
            .filter_generation
            .store(generation, Ordering::Release);
    }

    /// Says where the session stands.
    pub fn set_connection(&self, connection: Connection) {
        self.body()
            .connection
            .store(connection as u64, Ordering::Release);
    }

    /// Says who the processor is.
    pub fn set_peer(&self, peer: &str) {
        self.body().peer.store(peer);
    }

    /// Says why a connection ended or failed.
    pub fn set_error(&self, error: &str) {
        self.body().error.store(error);
    }

    /// Says how the processors fare, in order of preference (the first [`MAX_PROCESSORS`]).
    pub fn set_processors(&self, processors: &[ProcessorState]) {
        let states = processors.iter().take(MAX_PROCESSORS).enumerate();
        let word = states.fold(0, |word, (n, state)| {
            let in_use = if state.in_use { IN_USE } else { 0 };
            word | (state.breaker as u64 | in_use) << (n * STATE_BITS)
        });
        self.body().processors.store(word, Ordering::Relaxed);
    }

    /// Publishes the processors' addresses (the first [`MAX_ENDPOINTS`]). Only by one thread.
    pub fn set_endpoints(&self, endpoints: &Endpoints) {
        let addresses = &endpoints.addresses[..endpoints.addresses.len().min(MAX_ENDPOINTS)];
        let mut words = vec![endpoints.revision, addresses.len() as u64];
        for address in addresses {
            let ip = match address.ip() {
                IpAddr::V4(ip) => u128::from(ip.to_ipv6_mapped()),
                IpAddr::V6(ip) => u128::from(ip),
            };
            words.extend([(ip >> 64) as u64, ip as u64, u64::from(address.port())]);
        }
        self.body().endpoints.publish(&words);
    }

    /// Says how the disk buffer is.
    pub fn set_disk(&self, disk: DiskStatus) {
        let body = self.body();
        body.disk_state.store(disk.state as u64, Ordering::Relaxed);
        body.disk_bytes.store(disk.bytes, Ordering::Relaxed);
        body.disk_limit.store(disk.limit, Ordering::Relaxed);
    }

    /// Notes what a numbered batch holds, before [`ForwarderCommit::set_unsettled`] names its slot, or when it went to
    /// disk. Only by one thread.
    pub fn set_sent(&self, slot: u32, batch: &BatchExtent) {
        self.body().sent[(slot % MAX_UNSETTLED) as usize].store(batch);
    }

    /// Notes which batch is about to be written to disk. Only by one thread.
    pub fn set_spilling(&self, batch: &BatchExtent) {
        self.body().spilling.store(batch);
    }

    /// Publishes a commit. Only by one thread.
    pub fn publish(&self, commit: &ForwarderCommit) {
        self.body().commit.publish(&commit.words);
    }
}
