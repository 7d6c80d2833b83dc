//! The region of one worker: its commits, its filter generation, the packet in its hands.

use crate::commit::{CommitSlots, Torn};
use crate::counters::WorkerCounter;
use crate::layout::{Kind, MAX_QUEUES};
use crate::log::LogBounds;
use crate::region::{Body, OwnedRegion, Region};
use crate::sync::{AtomicU64, Ordering};

const COUNTERS: usize = 96;
const _: () = assert!(WorkerCounter::ALL.len() <= COUNTERS);
const TX_HEAD: usize = COUNTERS;
const CALLS: usize = TX_HEAD + 1;
const HELD: usize = CALLS + 2;
const RX_TAILS: usize = HELD + 2;
const WORDS: usize = RX_TAILS + MAX_QUEUES;

/// Body of a worker's region.
#[repr(C)]
pub struct Worker {
    filter_generation: AtomicU64,
    in_progress: AtomicU64,
    /// As `in_progress`: the packet at which the last worker died.
    suspect: AtomicU64,
    suspect_deaths: AtomicU64,
    commit: CommitSlots<WORDS>,
}

// SAFETY: `repr(C)`, atomics only, aligned to at most 128.
unsafe impl Body for Worker {
    const KIND: Kind = Kind::Worker;
}

impl Worker {
    /// Bytes to [`crate::region::create`] the region with.
    pub const BYTES: u64 = size_of::<Self>() as u64;
}

/// One consistent state of a worker: "these packets are done, and this is what came of them". A
/// successor goes on from here, so that no packet is lost and none is forwarded twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerCommit {
    words: [u64; WORDS],
}

impl Default for WorkerCommit {
    fn default() -> Self {
        Self { words: [0; WORDS] }
    }
}

impl WorkerCommit {
    /// A counter.
    #[must_use]
    #[inline]
    pub fn get(&self, counter: WorkerCounter) -> u64 {
        self.words[counter as usize]
    }

    /// Counts.
    #[inline]
    pub fn add(&mut self, counter: WorkerCounter, count: u64) {
        self.words[counter as usize] += count;
    }

    /// Head of the tx ring.
    #[must_use]
    pub fn tx_head(&self) -> u64 {
        self.words[TX_HEAD]
    }

    /// Notes the head of the tx ring.
    #[inline]
    pub fn set_tx_head(&mut self, head: u64) {
        self.words[TX_HEAD] = head;
    }

    /// Where the log of calls begins and ends.
    #[must_use]
    pub fn calls(&self) -> LogBounds {
        self.log(CALLS)
    }

    /// Notes where the log of calls begins and ends.
    #[inline]
    pub fn set_calls(&mut self, bounds: LogBounds) {
        self.set_log(CALLS, bounds);
    }

    /// Where the log of packets that wait for a verdict begins and ends.
    #[must_use]
    pub fn held(&self) -> LogBounds {
        self.log(HELD)
    }

    /// Notes where the log of packets that wait for a verdict begins and ends.
    #[inline]
    pub fn set_held(&mut self, bounds: LogBounds) {
        self.set_log(HELD, bounds);
    }

    fn log(&self, at: usize) -> LogBounds {
        let [head, tail] = [self.words[at], self.words[at + 1]];
        LogBounds { head, tail }
    }

    fn set_log(&mut self, at: usize, LogBounds { head, tail }: LogBounds) {
        self.words[at..at + 2].copy_from_slice(&[head, tail]);
    }

    /// How far the rx ring of capture thread `queue` is done.
    #[must_use]
    pub fn rx_tail(&self, queue: usize) -> u64 {
        self.words[RX_TAILS + queue]
    }

    /// Notes how far the rx ring of capture thread `queue` is done.
    #[inline]
    pub fn set_rx_tail(&mut self, queue: usize, tail: u64) {
        self.words[RX_TAILS + queue] = tail;
    }
}

/// A packet by its capture thread and sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InProgress {
    /// Capture thread.
    pub queue: u8,
    /// The low 48 bits of the sequence number.
    pub sequence: u64,
}

impl InProgress {
    /// What is kept of a sequence number.
    const SEQUENCE: u64 = 0xffff_ffff_ffff;

    /// The packet of capture thread `queue` with this sequence number.
    #[must_use]
    #[inline]
    pub fn new(queue: usize, sequence: u64) -> Self {
        Self {
            queue: queue as u8 & 0x7f,
            sequence: sequence & Self::SEQUENCE,
        }
    }

    #[inline]
    fn word(self) -> u64 {
        1 << 63 | u64::from(self.queue) << 48 | self.sequence
    }

    fn of_word(word: u64) -> Option<Self> {
        (word >> 63 == 1).then_some(Self {
            queue: (word >> 48) as u8 & 0x7f,
            sequence: word & Self::SEQUENCE,
        })
    }
}

impl Region<Worker> {
    /// The last commit.
    ///
    /// # Errors
    /// [`Torn`]: try again later.
    pub fn commit(&self) -> Result<WorkerCommit, Torn> {
        let mut commit = WorkerCommit::default();
        self.body().commit.read(&mut commit.words)?;
        Ok(commit)
    }

    /// The filter generation by which packets are judged; 0 before the first.
    #[must_use]
    pub fn filter_generation(&self) -> u64 {
        self.body().filter_generation.load(Ordering::Acquire) // pairs with `set_filter_generation`
    }

    /// The packet that the worker is parsing, for the quarantine of one that kills it.
    #[must_use]
    pub fn in_progress(&self) -> Option<InProgress> {
        InProgress::of_word(self.body().in_progress.load(Ordering::Relaxed))
    }

    /// The packet at which workers died last, and how many of them in a row.
    #[must_use]
    pub fn suspect(&self) -> Option<(InProgress, u64)> {
        let packet = InProgress::of_word(self.body().suspect.load(Ordering::Relaxed))?;
        Some((packet, self.body().suspect_deaths.load(Ordering::Relaxed)))
    }
}

impl OwnedRegion<Worker> {
    /// Publishes a commit.
    #[inline]
    pub fn publish(&self, commit: &WorkerCommit) {
        self.body().commit.publish(&commit.words);
    }

    /// Says which filter generation is in force.
    pub fn set_filter_generation(&self, generation: u64) {
        self.body()
            .filter_generation
            .store(generation, Ordering::Release);
    }

    /// Notes the packet about to be parsed, or none.
    #[inline]
    pub fn set_in_progress(&self, packet: Option<InProgress>) {
        let word = packet.map_or(0, InProgress::word);
        self.body().in_progress.store(word, Ordering::Relaxed);
    }

    /// Notes the packet at which workers died, and how many of them in a row; or none.
    pub fn set_suspect(&self, suspect: Option<(InProgress, u64)>) {
        let (word, deaths) = suspect.map_or((0, 0), |(packet, deaths)| (packet.word(), deaths));
        // A death between the two stores can only make the count too low.
        self.body().suspect_deaths.store(deaths, Ordering::Relaxed);
        self.body().suspect.store(word, Ordering::Relaxed);
    }
}
