//! The forwarder's region: connection, filter generation, acknowledgements. Written by fwdd.

use crate::commit::{CommitSlots, Torn};
use crate::counters::ForwardCounter;
use crate::layout::{Kind, MAX_WORKERS};
use crate::region::{Body, OwnedRegion, Region};
use crate::sync::{AtomicU64, Ordering};
use crate::text::SharedText;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

const COUNTERS: usize = 32;
const _: () = assert!(ForwardCounter::ALL.len() <= COUNTERS);
const SEQUENCE: usize = COUNTERS;
const TAILS: usize = COUNTERS + 1;
const WORDS: usize = TAILS + 2 * MAX_WORKERS;
/// Most processor addresses whose traffic is excluded from capture.
pub const MAX_ENDPOINTS: usize = 16;

/// Body of the forwarder's region.
#[repr(C)]
pub struct Forwarder {
    filter_generation: AtomicU64,
    filter_count: AtomicU64,
    connection: AtomicU64,
    peer: SharedText<16>,
    error: SharedText<32>,
    endpoints: CommitSlots<{ 2 + 3 * MAX_ENDPOINTS }>,
    commit: CommitSlots<WORDS>,
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

    /// How far the tx ring of `worker` is acknowledged, in bytes.
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

/// Addresses of the processor, whose traffic with this node is not to be captured.
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

    /// The processor: its id once it told it, else its address.
    #[must_use]
    pub fn peer(&self) -> String {
        self.body().peer.load()
    }

    /// Why the last connection ended or failed; empty when none did.
    #[must_use]
    pub fn error(&self) -> String {
        self.body().error.load()
    }

    /// The processor's addresses.
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

    /// Publishes the processor's addresses (the first [`MAX_ENDPOINTS`]). Only by one thread.
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

    /// Publishes a commit. Only by one thread.
    pub fn publish(&self, commit: &ForwarderCommit) {
        self.body().commit.publish(&commit.words);
    }
}
