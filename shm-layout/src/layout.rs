//! What every region starts with, and the limits of the layout.
//!
//! ```text
//!   0      magic, layout version, kind, backing, features, sizes   (written once, by capd)
//!   64     identity, version, heartbeat, protection of the writer  (written by that process)
//!   128    cursor line, sleeping flag line                         (rings and their cursors, logs)
//!   384    tail line                                               (logs)
//!   4096   body
//! ```
//!
//! A process attaches when the layout major is equal; a higher minor adds only what an older
//! reader may ignore, and feature bits name what it must understand. So as long as the major stays, bodies keep their sizes, and
//! counters are only appended. Regions that older programs wrote are kept for the tests (`tests/fixtures/layout/`).
//!
//! | major | changed |
//! |---|---|
//! | 3 | each worker has two logs, `calls` and `held`, and the node one, `keys`; the session tells their sizes, a worker's commit their bounds and more counters |
//! | 2 | the forwarder's body holds batches under way, the session's the shares of the workers; a worker's counters stand in another order than in early 1.x |

use crate::ring::Side;
use crate::sync::{AtomicU32, AtomicU64, Line};

/// First eight bytes of each region.
pub const MAGIC: u64 = u64::from_le_bytes(*b"LCHUNT\x00\x01");
/// A reader and a writer of different majors can't meet.
pub const LAYOUT_MAJOR: u16 = 3;
/// Additions that an older reader may ignore.
pub const LAYOUT_MINOR: u16 = 0;
/// Feature bits that this build understands; a region with others is refused.
pub const FEATURES: u64 = 0;

/// Most workers of one node.
pub const MAX_WORKERS: usize = 64;
/// Most capture threads of one node.
pub const MAX_QUEUES: usize = 32;
/// Most interfaces that keep their name (a pcapng file may bring many).
pub const MAX_INTERFACES: usize = 1024;

/// Bytes of the header in front of each body.
pub const HEADER_BYTES: usize = 4096;
/// Size of a huge page.
pub const HUGE_PAGE: usize = 2 << 20;
/// Smallest and largest ring or log, in bytes. The largest keeps the low halves of two live cursors
/// apart, which is what the futex compares.
pub const RING_BYTES: std::ops::RangeInclusive<u64> = 4096..=1 << 30;

/// What a region holds, and by that who writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum Kind {
    /// Geometry and capture counters; written by capd.
    Session = 1,
    /// Packets for one worker from one capture thread; written by capd.
    Rx = 2,
    /// How far the worker has come in its [`Kind::Rx`] ring; written by the worker.
    RxCursor = 3,
    /// State and counters of one worker; written by it.
    Worker = 4,
    /// Wire-ready packets of one worker; written by it.
    Tx = 5,
    /// How far the processor acknowledged a [`Kind::Tx`] ring; written by fwdd.
    TxCursor = 6,
    /// State and counters of the forwarder; written by fwdd.
    Forwarder = 7,
    /// One immutable filter snapshot; written by fwdd, then sealed.
    Filters = 8,
    /// Frames that a card writes in place; written by capd and the kernel.
    Frames = 9,
    /// What one worker knows of calls; written by it.
    Calls = 10,
    /// Packets of one worker that wait for a verdict; written by it.
    Held = 11,
    /// Secrets of TLS sessions; written by capd.
    Keys = 12,
}

impl Kind {
    /// The kind of a number from outside.
    #[must_use]
    pub fn from_number(number: u16) -> Option<Self> {
        const ALL: [Kind; 12] = [
            Kind::Session,
            Kind::Rx,
            Kind::RxCursor,
            Kind::Worker,
            Kind::Tx,
            Kind::TxCursor,
            Kind::Forwarder,
            Kind::Filters,
            Kind::Frames,
            Kind::Calls,
            Kind::Held,
            Kind::Keys,
        ];
        ALL.into_iter().find(|kind| *kind as u16 == number)
    }

    /// Whether the body is records in a power of two of bytes.
    pub(crate) fn is_ring(self) -> bool {
        matches!(
            self,
            Self::Rx | Self::Tx | Self::Calls | Self::Held | Self::Keys
        )
    }
}

/// Which region of its kind: `worker`, and the capture thread (`queue`) where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RegionId {
    /// What it holds.
    pub kind: Kind,
    /// Worker index below [`MAX_WORKERS`], or 0.
    pub worker: u16,
    /// Capture thread index below [`MAX_QUEUES`], or 0.
    pub queue: u16,
}

impl RegionId {
    /// The region of another kind with the same worker and capture thread.
    #[must_use]
    pub const fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The region of a kind that exists once.
    #[must_use]
    pub const fn single(kind: Kind) -> Self {
        Self {
            kind,
            worker: 0,
            queue: 0,
        }
    }

    /// A region that each worker has once.
    #[must_use]
    pub const fn of_worker(kind: Kind, worker: u16) -> Self {
        Self {
            kind,
            worker,
            queue: 0,
        }
    }

    /// A region that each worker has once per capture thread.
    #[must_use]
    pub const fn of_queue(kind: Kind, worker: u16, queue: u16) -> Self {
        Self {
            kind,
            worker,
            queue,
        }
    }
}

impl std::fmt::Display for RegionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            kind,
            worker,
            queue,
        } = self;
        match kind {
            Kind::Session => write!(f, "session"),
            Kind::Rx => write!(f, "rx.{worker}.{queue}"),
            Kind::RxCursor => write!(f, "rx.{worker}.{queue}.cursor"),
            Kind::Worker => write!(f, "worker.{worker}"),
            Kind::Tx => write!(f, "tx.{worker}"),
            Kind::TxCursor => write!(f, "tx.{worker}.cursor"),
            Kind::Forwarder => write!(f, "forwarder"),
            Kind::Filters => write!(f, "filters"),
            Kind::Frames => write!(f, "frames.{queue}"),
            Kind::Calls => write!(f, "calls.{worker}"),
            Kind::Held => write!(f, "held.{worker}"),
            Kind::Keys => write!(f, "keys"),
        }
    }
}

/// How many rings there are and how large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Workers, 1 to [`MAX_WORKERS`].
    pub workers: u16,
    /// Capture threads, 1 to [`MAX_QUEUES`].
    pub queues: u16,
    /// Bytes of each rx ring: a power of two within [`RING_BYTES`].
    pub rx_bytes: u64,
    /// Bytes of each tx ring: a power of two within [`RING_BYTES`].
    pub tx_bytes: u64,
    /// Bytes of each worker's log of calls: a power of two within [`RING_BYTES`].
    pub calls_bytes: u64,
    /// Bytes of each worker's log of packets that wait for a verdict: a power of two within [`RING_BYTES`].
    pub held_bytes: u64,
    /// Bytes of the log of secrets: a power of two within [`RING_BYTES`].
    pub keys_bytes: u64,
}

impl Geometry {
    /// Whether every number is within its limits.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let ring = |bytes: u64| bytes.is_power_of_two() && RING_BYTES.contains(&bytes);
        (1..=MAX_WORKERS).contains(&usize::from(self.workers))
            && (1..=MAX_QUEUES).contains(&usize::from(self.queues))
            && ring(self.rx_bytes)
            && ring(self.tx_bytes)
            && ring(self.calls_bytes)
            && ring(self.held_bytes)
            && ring(self.keys_bytes)
    }
}

/// The first page of a region. Only atomics: any bit pattern is valid, and a peer's concurrent
/// store is no data race.
#[repr(C, align(4096))]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    /// major | minor << 16 | kind << 32 | backing << 48
    pub(crate) version: AtomicU64,
    pub(crate) features: AtomicU64,
    /// Bytes of the whole region, header included.
    pub(crate) total_len: AtomicU64,
    /// Bytes of the body; of a ring, its capacity.
    pub(crate) body_len: AtomicU64,
    /// worker | queue << 16
    pub(crate) id: AtomicU64,
    pub(crate) reserved: [AtomicU64; 2],
    pub(crate) owner_pid: AtomicU32,
    pub(crate) epoch: AtomicU32,
    pub(crate) owner_start: AtomicU64,
    pub(crate) heartbeat_ns: AtomicU64,
    /// Version text of the writing process, NUL-padded.
    pub(crate) owner_version: [AtomicU64; 3],
    /// What protects the writing process bits of [`crate::protection`], and its capabilities.
    pub(crate) protection: AtomicU64,
    pub(crate) capabilities: AtomicU64,
    /// Of a log: its head in the cursor.
    pub(crate) ring: Side,
    pub(crate) log_tail: Line<AtomicU64>,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<Header>() == HEADER_BYTES);
