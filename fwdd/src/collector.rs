//! Reads the tx rings and forms batches. A thread of its own, because it sleeps on the rings.
//!
//! What it guarantees:
//! - packets of one ring keep their order, and rings take turns;
//! - a batch is handed over when it has enough packets or bytes, or when its first packet has waited long enough and
//!   the session can take it; while the session can't, the batch grows to its full size and nothing more is read, so
//!   that everything else stays in shared memory;
//! - nothing is released here before the session has committed its acknowledgement;
//! - malformed records are counted and passed over, and the same work is never done twice for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use shm_layout::counters::ForwardCounter;
use shm_layout::extent::BatchExtent;
use shm_layout::forwarder::{Forwarder, ForwarderCommit};
use shm_layout::region::OwnedRegion;
use shm_layout::ring::RingReader;
use shm_layout::wire::WirePacket;
use tokio::sync::{Notify, mpsc};

use crate::batch::{Batch, CLOSE_BYTES, MAX_PACKET_BYTES, framed};
use crate::bell::Bell;
use crate::ledger::Ledger;

/// Closed batches that wait for the session.
pub(crate) const QUEUE: usize = 4;

/// Packets read from a ring before it is the next one's turn.
const TURN: usize = 32;

/// Between two looks at the rings while a batch is being filled, at least.
const SHORTEST_NAP: Duration = Duration::from_micros(200);
/// Longest sleep: the region's heartbeat is due then.
const BEAT: Duration = Duration::from_millis(100);

/// Smallest record that holds a packet: no more of them can be missing than fit the bytes skipped.
const SMALLEST_RECORD: u64 = 24;

/// The collector, as the session's thread sees it.
pub(crate) struct Handle {
    /// Batches as they are formed; the collector is woken when some were taken.
    pub(crate) batches: mpsc::Receiver<Batch>,
    orders: Arc<Orders>,
    bell: Bell,
}

impl Handle {
    pub(crate) fn new(batches: mpsc::Receiver<Batch>, orders: Arc<Orders>, bell: Bell) -> Self {
        Self {
            batches,
            orders,
            bell,
        }
    }

    /// Some batches were taken: there is room for others.
    pub(crate) fn wake(&mut self) {
        self.bell.ring();
    }

    /// The tx ring of `worker` is done up to `position`, and that is committed.
    pub(crate) fn release(&mut self, worker: usize, position: u64) {
        // Pairs with `Collector::release`.
        self.orders.released[worker].store(position, Ordering::Release);
        self.bell.ring();
    }

    /// Waits until the collector can't hand over a full batch.
    pub(crate) fn pressed(&self) -> impl Future<Output = ()> + use<> {
        let orders = Arc::clone(&self.orders);
        async move { orders.pressed.notified().await }
    }

    /// Read what is there, hand it over, then read no more.
    pub(crate) fn flush(&mut self) {
        self.orders.flush.store(true, Ordering::Release); // pairs with `Collector::run`
        self.bell.ring();
    }

    /// Let the thread end.
    pub(crate) fn end(&mut self) {
        self.orders.end.store(true, Ordering::Release); // pairs with `Collector::run`
        self.bell.ring();
    }
}

/// What the session tells the collector.
#[derive(Debug)]
pub(crate) struct Orders {
    /// How far each tx ring may be released.
    released: Vec<AtomicU64>,
    /// Read what is there, hand it over, then read no more.
    flush: AtomicBool,
    /// The session is over.
    end: AtomicBool,
    /// The other way: batches wait, and there is no room for one more.
    pressed: Notify,
}

impl Orders {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            released: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            flush: AtomicBool::new(false),
            end: AtomicBool::new(false),
            pressed: Notify::new(),
        }
    }
}

/// How large batches become, and how old.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) packets: usize,
    pub(crate) age: Duration,
}

/// The thread's state.
pub(crate) struct Collector {
    rings: Vec<Ring>,
    /// Whose turn it is.
    turn: usize,
    bell: RingReader,
    orders: Arc<Orders>,
    limits: Limits,
    forming: Batch,
    /// When the forming batch got its first packet.
    since: Option<Instant>,
    /// A full batch that the session had no room for.
    closed: Option<Batch>,
    /// `None` after the last batch.
    queue: Option<mpsc::Sender<Batch>>,
    region: Arc<OwnedRegion<Forwarder>>,
    ledger: Arc<Ledger>,
    beaten: Instant,
}

struct Ring {
    reader: RingReader,
    /// Number that the next packet should have.
    ordinal: u64,
    /// Bytes skipped since the last good packet.
    skipped: u64,
    /// Where reading stops for good; set by a flush.
    last: Option<u64>,
    /// Errors so far; only some of them are logged.
    errors: u64,
}

/// What one look at a ring gave.
enum Found {
    Nothing,
    Packet {
        bytes: usize,
        ordinal: u64,
    },
    /// A good record that holds no packet.
    Corrupt,
    /// Bytes that are no records.
    Skipped,
}

impl Collector {
    /// Goes on in all rings where `commit` says that a predecessor stopped.
    pub(crate) fn new(
        readers: Vec<RingReader>,
        bell: RingReader,
        orders: Arc<Orders>,
        limits: Limits,
        queue: mpsc::Sender<Batch>,
        region: Arc<OwnedRegion<Forwarder>>,
        ledger: Arc<Ledger>,
    ) -> Self {
        let commit = ledger.commit();
        let rings = readers
            .into_iter()
            .enumerate()
            .map(|(worker, reader)| Ring::resume(reader, worker, &commit, &orders))
            .collect();
        Self {
            rings,
            turn: 0,
            bell,
            orders,
            limits,
            forming: Batch::default(),
            since: None,
            closed: None,
            queue: Some(queue),
            region,
            ledger,
            beaten: Instant::now(),
        }
    }

    /// Forms a batch of a predecessor again. Only before anything else is read, and in the order of the batches.
    pub(crate) fn form_again(&mut self, extent: &BatchExtent) -> Batch {
        let mut batch = Batch::default();
        for tail in &extent.tails {
            let Some(ring) = self.rings.get_mut(tail.worker) else {
                continue;
            };
            while ring.reader.position() < tail.position {
                let start = ring.reader.position();
                let found = ring.next();
                let end = ring.reader.position();
                match found {
                    Found::Packet { bytes, ordinal } if bytes <= MAX_PACKET_BYTES => {
                        let lost = ring.missing_before(ordinal);
                        if lost > 0 {
                            batch.skip(tail.worker, start, lost);
                        }
                        batch.add(tail.worker, start, end, bytes);
                    }
                    Found::Packet { ordinal, .. } => {
                        let lost = ring.missing_before(ordinal);
                        batch.skip(tail.worker, end, lost + 1);
                    }
                    Found::Corrupt | Found::Skipped if end > start => {
                        ring.skipped += end - start;
                        batch.skip(tail.worker, end, 0);
                    }
                    Found::Nothing | Found::Corrupt | Found::Skipped => break,
                }
            }
        }
        batch
    }

    /// Works until the session has ended.
    pub(crate) fn run(mut self) {
        // Pairs with `Handle::end`.
        while !self.orders.end.load(Ordering::Acquire) {
            self.hear();
            self.release();
            // Looked at before the rings: what was published before the order must be read.
            let flushing = self.orders.flush.load(Ordering::Acquire); // pairs with `Handle::flush`
            if flushing {
                self.bound_reading();
            }
            // While a batch waits, nothing is read, but that does not mean that there is nothing.
            let waits = self.closed.is_some();
            let read = self.queue.is_some() && self.read_rings();
            self.hand_over(read || waits, flushing);
            if !read {
                self.sleep(flushing);
            }
            self.beat();
        }
        self.release();
    }

    /// Takes note of the bell, so that only a new ring ends the next sleep.
    fn hear(&mut self) {
        while let Ok(Some(_)) = self.bell.read() {}
        self.bell.release();
    }

    fn release(&mut self) {
        for (ring, released) in self.rings.iter_mut().zip(&self.orders.released) {
            ring.reader.release_to(released.load(Ordering::Acquire)); // pairs with `Handle::release`
        }
    }

    /// Workers may go on writing: what lay in the rings when the flush was ordered is all that is waited for.
    fn bound_reading(&mut self) {
        for ring in &mut self.rings {
            let most = ring.reader.position() + ring.reader.capacity();
            ring.last.get_or_insert(most);
        }
    }

    /// Reads a turn of each ring, until a batch is closed. Says whether there was anything.
    fn read_rings(&mut self) -> bool {
        let mut any = false;
        for _ in 0..self.rings.len() {
            if self.closed.is_some() {
                break;
            }
            any |= self.read_turn(self.turn);
            self.turn = (self.turn + 1) % self.rings.len();
        }
        any
    }

    fn read_turn(&mut self, worker: usize) -> bool {
        for done in 0..TURN {
            let ring = &mut self.rings[worker];
            let start = ring.reader.position();
            if ring.last.is_some_and(|last| start >= last) {
                return done > 0;
            }
            let found = ring.next();
            let end = ring.reader.position();
            match found {
                Found::Nothing => return done > 0,
                Found::Packet { bytes, ordinal } => {
                    let lost = ring.missing_before(ordinal);
                    self.take(worker, start, end, bytes, lost);
                }
                Found::Corrupt | Found::Skipped => {
                    ring.skipped += end - start;
                    self.ledger.count(ForwardCounter::CorruptRecords, 1);
                    self.forming.skip(worker, end, 0);
                    // An impossible head skips nothing, and stays until the worker moves it.
                    if matches!(found, Found::Skipped) && start == end {
                        return done > 0;
                    }
                }
            }
            if self.closed.is_some() {
                break;
            }
        }
        true
    }

    fn take(&mut self, worker: usize, start: u64, end: u64, bytes: usize, lost: u64) {
        if lost > 0 {
            self.forming.skip(worker, start, lost);
        }
        if bytes > MAX_PACKET_BYTES {
            let ring = &mut self.rings[worker];
            ring.errors += 1;
            if ring.errors.is_power_of_two() {
                let errors = ring.errors;
                tracing::warn!(
                    worker,
                    bytes,
                    errors,
                    "a packet too long to be sent is dropped"
                );
            }
            self.forming.skip(worker, end, 1);
            return;
        }
        if self.forming.packets > 0 && self.forming.bytes + bytes > CLOSE_BYTES {
            self.close();
        }
        self.forming.add(worker, start, end, bytes);
        if self.since.is_none() {
            self.since = Some(Instant::now());
        }
        // A batch that was closed above leaves a new one that can't be full, but for one very long packet.
        if self.closed.is_none()
            && (self.forming.packets >= self.limits.packets || self.forming.bytes >= CLOSE_BYTES)
        {
            self.close();
        }
    }

    fn close(&mut self) {
        self.since = None;
        self.closed = Some(std::mem::take(&mut self.forming));
    }

    /// Hands closed batches to the session, and closes what has waited long enough.
    fn hand_over(&mut self, read: bool, flushing: bool) {
        self.send_closed();
        let Some(queue) = &self.queue else { return };
        if self.closed.is_none() && queue.capacity() > 0 && !self.forming.is_empty() {
            let due = match self.since {
                Some(since) => (flushing && !read) || since.elapsed() >= self.limits.age,
                // What is only to be released has no age: it goes when there is nothing to read.
                None => !read,
            };
            if due {
                self.close();
                self.send_closed();
            }
        }
        if flushing && !read && self.closed.is_none() && self.forming.is_empty() {
            self.queue = None;
        }
    }

    fn send_closed(&mut self) {
        let (Some(queue), Some(batch)) = (&self.queue, self.closed.take()) else {
            return;
        };
        match queue.try_send(batch) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(batch)) => {
                self.closed = Some(batch);
                self.orders.pressed.notify_one();
            }
            Err(mpsc::error::TrySendError::Closed(_)) => self.queue = None,
        }
    }

    /// Sleeps until there is something to do: a packet, the bell, the age of the batch, or the heartbeat. Once a batch has begun, the rings are
    /// looked at now and then, ever more seldom, so that workers need not wake this thread for every few packets.
    fn sleep(&self, flushing: bool) {
        let blocked = self.queue.is_none() || self.closed.is_some() || flushing;
        let mut readers = vec![&self.bell];
        if !blocked {
            readers.extend(self.rings.iter().map(|ring| &ring.reader));
        }
        let mut time = BEAT;
        if let (Some(since), Some(queue)) = (self.since, &self.queue)
            && !blocked
            && queue.capacity() > 0
        {
            let age = since.elapsed();
            time = time.min(self.limits.age.saturating_sub(age));
            time = time.min((age / 4).max(SHORTEST_NAP));
            readers.truncate(1);
        }
        RingReader::wait_any(&readers, time);
    }

    fn beat(&mut self) {
        let now = Instant::now();
        if now - self.beaten >= BEAT {
            self.beaten = now;
            self.region.beat();
            lc_daemon::ready::alive();
        }
    }
}

impl Ring {
    fn resume(
        mut reader: RingReader,
        worker: usize,
        commit: &ForwarderCommit,
        orders: &Orders,
    ) -> Self {
        reader.resume(commit.tx_tail(worker));
        orders.released[worker].store(commit.tx_tail(worker), Ordering::Release);
        Self {
            reader,
            ordinal: commit.tx_done(worker),
            skipped: 0,
            last: None,
            errors: 0,
        }
    }

    fn next(&mut self) -> Found {
        let packet = match self.reader.read() {
            Ok(None) => return Found::Nothing,
            Ok(Some(record)) => WirePacket::read(&record).ok(),
            Err(error) => {
                let skipped = self.reader.skip_published();
                self.errors += 1;
                if self.errors.is_power_of_two() {
                    let errors = self.errors;
                    tracing::warn!(%error, skipped, errors, "a tx ring is corrupt");
                }
                return Found::Skipped;
            }
        };
        match packet.and_then(|packet| Some((framed(&packet)?.len(), packet.ordinal))) {
            Some((bytes, ordinal)) => Found::Packet { bytes, ordinal },
            None => Found::Corrupt,
        }
    }

    /// Packets that must have been among the bytes skipped before packet number `ordinal`.
    fn missing_before(&mut self, ordinal: u64) -> u64 {
        let missing = ordinal.wrapping_sub(self.ordinal);
        let plausible = missing <= self.skipped / SMALLEST_RECORD;
        (self.ordinal, self.skipped) = (ordinal.wrapping_add(1), 0);
        if plausible { missing } else { 0 }
    }
}
