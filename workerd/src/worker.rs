//! The loop of a worker: rx rings in, verdicts, tx ring out.
//!
//! Packets are taken in batches. A batch ends with one commit that says how far the rx rings are
//! done, where the tx ring's head stands and what was counted; only then the tx ring is published
//! and the rx rings are released. A successor resumes from the commit, so a worker that dies at any
//! instruction loses no packet and forwards none twice.
//!
//! A full tx ring makes the worker wait, and so fill its rx rings: a live capture then drops and
//! counts, a file waits. Of a live capture, what nothing asked for is dropped, and counted, before it comes to that: the last
//! part of the tx ring is for packets of high priority.

use crate::batch::{self, Batch, Taken};
use crate::describe::Describer;
use crate::flows::Counts;
use crate::matcher::{CompileError, Compiler, FilterSet, Verdict};
use lc_daemon::attach::WorkerRegions;
use lc_daemon::config::NoFilterPolicy;
use lc_daemon::ready;
use lc_daemon::signals::Stop;
use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::monotonic_ns;
use shm_layout::packet::Packet;
use shm_layout::region::Region;
use shm_layout::ring::{Full, RingReader, RingView};
use shm_layout::session::Session;
use shm_layout::wire::Priority;
use shm_layout::worker::{InProgress, WorkerCommit};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The part of the tx ring that is kept for packets of high priority, of a live capture.
const KEPT_PART: u64 = 4;
/// Longest sleep while filters are compiled.
const SHORT_NAP: Duration = Duration::from_millis(2);
/// Longest sleep, so that heartbeats go on and filter changes are seen.
const NAP: Duration = Duration::from_millis(100);
/// Between two heartbeats, and between two tries to fetch filters.
const BEAT_NS: u64 = 100_000_000;

/// A worker at work.
pub struct Worker {
    regions: WorkerRegions,
    commit: WorkerCommit,
    filters: Box<FilterSet>,
    compiler: Compiler,
    bpf_active: bool,
    interfaces: InterfaceNames,
    /// Bytes of the tx ring that packets of normal priority leave free.
    kept_bytes: u64,
    batch: Batch,
    /// To read the packets of a batch again.
    rx_views: Vec<RingView>,
    next_fetch_ns: u64,
    /// The generation that was announced when filters were last fetched.
    fetched_generation: u64,
    /// The same, if they could not be compiled: they are not tried again.
    failed_generation: Option<u64>,
    last_beat_ns: u64,
    /// Nobody puts anything into the rx rings any more.
    orphaned: bool,
    /// The packet to pass over, until it has come.
    condemned: Option<InProgress>,
    /// The packet that killed the predecessor.
    suspect: Option<InProgress>,
}

/// Why a batch ended.
#[derive(PartialEq)]
enum BatchEnd {
    /// There was nothing to read.
    Idle,
    /// Packets were handled.
    Busy,
    /// The tx ring has no room for the next packet.
    TxFull,
}

/// What was taken from an rx ring.
#[derive(PartialEq)]
enum Took {
    /// There was nothing to read.
    Nothing,
    /// Packets, or records that are none.
    Some,
    /// The condemned packet, to be passed over.
    Condemned,
}

/// The tx ring has no room.
struct TxFull;

impl Worker {
    /// Goes on where a predecessor stopped, but passes over the packet that was `condemned`. From a source that `waits` for
    /// room, no packet is dropped for lack of it. `compiler` makes the filters, by the same `policy`.
    ///
    /// # Errors
    /// The commit of a predecessor that never rests: it still lives.
    pub fn new(
        mut regions: WorkerRegions,
        condemned: Option<InProgress>,
        compiler: Compiler,
        describer: Describer,
        policy: NoFilterPolicy,
        waits: bool,
    ) -> Result<Self, shm_layout::commit::Torn> {
        let mut commit = regions.worker.commit()?;
        Counts::succeed(&mut commit);
        regions.tx.resume(commit.tx_head());
        for (queue, rx) in regions.rx.iter_mut().enumerate() {
            rx.resume(commit.rx_tail(queue));
        }
        let kept_bytes = match waits {
            true => 0,
            false => regions.tx.capacity() / KEPT_PART,
        };
        let rx_views = regions.rx.iter().map(RingReader::view).collect();
        let suspect = regions.worker.suspect().map(|(suspect, _)| suspect);
        Ok(Self {
            kept_bytes,
            regions,
            commit,
            filters: Box::new(FilterSet::none(policy)),
            compiler,
            bpf_active: false,
            interfaces: InterfaceNames::default(),
            batch: Batch::new(describer),
            rx_views,
            next_fetch_ns: 0,
            fetched_generation: 0,
            failed_generation: None,
            last_beat_ns: 0,
            orphaned: false,
            condemned,
            suspect,
        })
    }

    /// Works until `stop`, or until capd is gone for good. If the node ends, drains the rx rings for at most `drain`. Returns the packets that
    /// remain in them when that was not enough.
    pub fn run(mut self, stop: &Stop, drain: Duration) -> Drained {
        let mut deadline = None;
        loop {
            self.refresh();
            let mut idle = true;
            for queue in 0..self.regions.rx.len() {
                match self.batch(queue) {
                    BatchEnd::Idle => continue,
                    BatchEnd::Busy => {}
                    BatchEnd::TxFull => self.wait_for_tx(),
                }
                idle = false;
            }
            if stop.requested() && self.capture_goes_on() {
                return Drained::HandedOver;
            }
            if stop.requested() || self.orphaned {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + drain);
                if idle && !stop.requested() {
                    return Drained::Orphaned;
                }
                if idle {
                    return Drained::Empty;
                }
                if Instant::now() >= deadline {
                    return Drained::Late;
                }
            } else if idle {
                self.sleep();
            }
        }
    }

    /// Whether capd was not told to stop, and lives or is being replaced: then not the node ends, but this worker, and a
    /// successor takes over what is in the rings.
    fn capture_goes_on(&self) -> bool {
        !self.regions.session.is_stopping() && !self.regions.broker.is_gone()
    }

    /// Once per round: heartbeat, filters, BPF state.
    fn refresh(&mut self) {
        let now = monotonic_ns();
        if now - self.last_beat_ns >= BEAT_NS {
            self.regions.worker.beat();
            ready::alive();
            self.last_beat_ns = now;
            self.orphaned = self.regions.broker.is_gone();
        }
        self.swap_filters();
        let announced = self.regions.forwarder.filter_generation();
        if announced != self.filters.generation()
            && self.failed_generation != Some(announced)
            && now >= self.next_fetch_ns
            && !self.compiler.is_busy()
        {
            self.next_fetch_ns = now + BEAT_NS;
            self.fetched_generation = announced;
            self.fetch_filters();
        }
        if let Ok(bpf) = self.regions.session.bpf() {
            self.bpf_active = bpf.active > 0;
        }
    }

    /// Has the announced filters fetched and compiled, beside the packets.
    fn fetch_filters(&mut self) {
        let broker = Arc::clone(&self.regions.broker);
        self.compiler.begin(move || broker.fetch_filters());
    }

    /// Puts filters in force that have been compiled.
    fn swap_filters(&mut self) {
        if !self.compiler.is_busy() {
            return;
        }
        let compiled = match self.compiler.take() {
            None => return,
            Some(Ok(compiled)) => compiled,
            Some(Err(CompileError::Fetch(error))) => {
                tracing::warn!(%error, "filters can't be fetched; the old ones stay in force");
                return;
            }
            Some(Err(error)) => {
                let generation = self.fetched_generation;
                tracing::error!(%error, generation, "filters can't be compiled; the old ones stay in force");
                self.failed_generation = Some(generation);
                self.commit.add(Counter::FilterGenerationsFailed, 1);
                self.regions.worker.publish(&self.commit);
                return;
            }
        };
        let start = Instant::now();
        self.commit.add(Counter::FilterGenerations, 1);
        self.commit
            .add(Counter::FiltersRefused, compiled.refused as u64);
        let old = std::mem::replace(&mut self.filters, compiled.filters);
        self.next_fetch_ns = 0;
        self.regions.worker.publish(&self.commit);
        self.regions
            .worker
            .set_filter_generation(self.filters.generation());
        self.compiler.replaced(old, start.elapsed());
    }

    /// Handles up to [`batch::MOST`] packets of one rx ring and commits.
    fn batch(&mut self, queue: usize) -> BatchEnd {
        let took = self.take(queue);
        if took == Took::Nothing {
            return BatchEnd::Idle;
        }
        self.batch.prepare();
        let mut end = BatchEnd::Busy;
        for number in 0..self.batch.taken().len() {
            if let Err(TxFull) = self.finish(queue, number) {
                end = BatchEnd::TxFull;
                break;
            }
        }
        self.publish(queue);
        if took == Took::Condemned {
            self.condemned = None;
            self.regions.worker.set_suspect(None);
        }
        end
    }

    /// Takes packets of an rx ring into the batch. What is none, or condemned, is counted when it is the first that is met, and ends the
    /// batch before it otherwise: a full tx ring may make the packets before it come again.
    fn take(&mut self, queue: usize) -> Took {
        self.batch.clear();
        let rx = &mut self.regions.rx[queue];
        for number in 0..batch::MOST {
            let is_first = number == 0;
            let before = rx.position();
            let record = match rx.read() {
                Ok(Some(record)) => record,
                Ok(None) if is_first => return Took::Nothing,
                Ok(None) => break,
                Err(_) if !is_first => break,
                Err(error) => {
                    let skipped = rx.skip_published();
                    self.commit.add(Counter::CorruptRecords, 1);
                    self.commit.add(Counter::CorruptSkips, 1);
                    tracing::error!(%error, queue, skipped, "the rx ring is corrupt; what it held is skipped");
                    break;
                }
            };
            let place = record.position..record.end;
            let Ok(packet) = Packet::read(&record, None) else {
                match is_first {
                    true => self.commit.add(Counter::CorruptRecords, 1),
                    false => rx.unread(before),
                }
                break;
            };
            let identity = InProgress::new(queue, packet.header.sequence);
            if self.condemned == Some(identity) {
                if !is_first {
                    rx.unread(before);
                    break;
                }
                let bytes = u64::from(packet.header.captured_len);
                self.commit.add(Counter::Received, 1);
                self.commit.add(Counter::ReceivedBytes, bytes);
                self.commit.add(Counter::Quarantined, 1);
                // The next packet may kill too, and this one shall stay done.
                return Took::Condemned;
            }
            self.regions.worker.set_in_progress(Some(identity));
            let kept_back =
                self.batch
                    .take(identity, place, &packet, &self.filters, self.bpf_active);
            if let Some(taken) = kept_back {
                count(&mut self.commit, &taken, kept_back_as(taken.verdict));
            }
            if is_doubtful(self.suspect, identity) {
                break;
            }
        }
        Took::Some
    }

    /// Forwards or drops packet `number` of the batch, and counts it.
    #[inline]
    fn finish(&mut self, queue: usize, number: usize) -> Result<(), TxFull> {
        let taken = &self.batch.taken()[number];
        let verdict = taken.verdict;
        let outcome = match verdict.priority() {
            None => kept_back_as(verdict),
            Some(Priority::Normal) if !self.regions.tx.has_room(self.kept_bytes) => Counter::Shed,
            Some(priority) => match self.forward(queue, number, priority)? {
                Some(outcome) => outcome,
                None => return Ok(()),
            },
        };
        count(&mut self.commit, &self.batch.taken()[number], outcome);
        Ok(())
    }

    /// Puts packet `number` of the batch into the tx ring. What became of it; nothing if its record has become corrupt.
    #[inline]
    fn forward(
        &mut self,
        queue: usize,
        number: usize,
        priority: Priority,
    ) -> Result<Option<Counter>, TxFull> {
        let taken = &self.batch.taken()[number];
        self.regions.worker.set_in_progress(Some(taken.identity));
        let (start, end) = (taken.place.start, taken.place.end);
        let record = self.rx_views[queue].records(start, end).next();
        let packet = record.and_then(Result::ok);
        let packet = packet.and_then(|record| Packet::read(&record, None).ok());
        let Some(packet) = packet else {
            self.commit.add(Counter::CorruptRecords, 1);
            return Ok(None);
        };
        let interface = packet.header.interface;
        let forwarded = self.batch.forward(
            number,
            priority,
            &packet,
            self.interfaces.get(&self.regions.session, interface),
            &self.filters,
            (&mut self.regions.tx, self.commit.get(Counter::Forwarded)),
        );
        match forwarded {
            Ok(()) => Ok(Some(Counter::Forwarded)),
            Err(Full::Always) => Ok(Some(Counter::LostTooLong)),
            Err(Full::Now) => {
                self.regions.rx[queue].unread(start);
                Err(TxFull)
            }
        }
    }

    /// The order of these stores is what recovery relies on.
    fn publish(&mut self, queue: usize) {
        self.batch.report(&mut self.commit);
        let regions = &mut self.regions;
        self.commit.set_rx_tail(queue, regions.rx[queue].position());
        self.commit.set_tx_head(regions.tx.head());
        regions.worker.publish(&self.commit);
        regions.worker.set_in_progress(None);
        regions.tx.publish();
        regions.rx[queue].release();
    }

    fn wait_for_tx(&mut self) {
        self.commit.add(Counter::TxFullWaits, 1);
        self.regions.tx.wait_for_room(NAP);
    }

    fn sleep(&self) {
        let readers: Vec<&RingReader> = self.regions.rx.iter().collect();
        let nap = match self.compiler.is_busy() {
            true => SHORT_NAP,
            false => NAP,
        };
        RingReader::wait_any(&readers, nap);
    }
}

/// Whether a packet, or one behind it, is the `suspect` that killed a predecessor. Then each packet is a batch of its own: of two that
/// kill, the earlier must always kill first, or neither would ever be condemned.
fn is_doubtful(suspect: Option<InProgress>, packet: InProgress) -> bool {
    let suspect = suspect.filter(|suspect| suspect.queue == packet.queue);
    suspect.is_some_and(|suspect| packet.sequence <= suspect.sequence)
}

/// The counter of packets that are kept back by this verdict.
#[inline]
fn kept_back_as(verdict: Verdict) -> Counter {
    match verdict {
        Verdict::NoMatch => Counter::FilteredNoMatch,
        _ => Counter::FilteredByPolicy,
    }
}

/// Counts a packet and its `outcome`.
#[inline]
fn count(commit: &mut WorkerCommit, taken: &Taken, outcome: Counter) {
    let bytes = u64::from(taken.bytes);
    commit.add(Counter::Received, 1);
    commit.add(Counter::ReceivedBytes, bytes);
    commit.add(outcome, 1);
    if outcome == Counter::Forwarded {
        commit.add(Counter::ForwardedBytes, bytes);
    }
    if taken.verdict == Verdict::Matched {
        commit.add(Counter::Matched, 1);
    }
    if taken.left_out != (0, 0) {
        commit.add(Counter::FiltersLeftOut, taken.left_out.0);
        commit.add(Counter::FieldsLeftOut, taken.left_out.1);
    }
    if taken.decoded.fragment {
        commit.add(Counter::Fragments, 1);
    }
    if let Some(fault) = taken.decoded.fault {
        commit.add(fault.counter(), 1);
    }
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Its rx rings were empty.
    Empty,
    /// It ended between two batches, for a successor to go on.
    HandedOver,
    /// Its rx rings were empty, and stay so: capd is gone.
    Orphaned,
    /// Packets remained when its time was over; a successor finds them.
    Late,
}

/// Names of the session's interface table, each read once.
#[derive(Default)]
struct InterfaceNames(Vec<String>);

impl InterfaceNames {
    fn get(&mut self, session: &Region<Session>, index: u16) -> &str {
        let index = usize::from(index);
        while self.0.len() <= index {
            match session.interface(self.0.len()) {
                Some(info) => self.0.push(info.name),
                None => return "",
            }
        }
        &self.0[index]
    }
}
