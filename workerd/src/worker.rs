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

use crate::decode::{Decoded, Fault, Transport, decode};
use crate::describe::Describer;
use crate::emit::{Judged, emit};
use crate::extract::{HEAD, extract, is_candidate};
use crate::flows::Counts;
use crate::matcher::{CompileError, Compiler, Fields, FilterSet, Kinds, Matches, Verdict};
use lc_daemon::attach::WorkerRegions;
use lc_daemon::config::NoFilterPolicy;
use lc_daemon::ready;
use lc_daemon::signals::Stop;
use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::monotonic_ns;
use shm_layout::packet::Packet;
use shm_layout::region::Region;
use shm_layout::ring::{Full, RingReader};
use shm_layout::session::Session;
use shm_layout::wire::Priority;
use shm_layout::worker::{InProgress, WorkerCommit};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Most packets of one ring between two commits.
const BATCH: usize = 64;
/// Bytes of a packet that are copied out to be decoded; longer chains of headers are rare.
const WINDOW: usize = 192;
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
    describer: Describer,
    bpf_active: bool,
    interfaces: InterfaceNames,
    /// Bytes of the tx ring that packets of normal priority leave free.
    kept_bytes: u64,
    fields: Fields,
    matches: Matches,
    scratch: Vec<u8>,
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
        Ok(Self {
            kept_bytes,
            regions,
            commit,
            filters: Box::new(FilterSet::none(policy)),
            compiler,
            describer,
            bpf_active: false,
            interfaces: InterfaceNames::default(),
            fields: Fields::default(),
            matches: Matches::default(),
            scratch: Vec::new(),
            next_fetch_ns: 0,
            fetched_generation: 0,
            failed_generation: None,
            last_beat_ns: 0,
            orphaned: false,
            condemned,
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

    /// Handles up to [`BATCH`] packets of one rx ring and commits.
    fn batch(&mut self, queue: usize) -> BatchEnd {
        let mut end = BatchEnd::Idle;
        let mut passed_over = false;
        for _ in 0..BATCH {
            let record = match self.regions.rx[queue].read() {
                Ok(Some(record)) => record,
                Ok(None) => break,
                Err(error) => {
                    let skipped = self.regions.rx[queue].skip_published();
                    self.commit.add(Counter::CorruptRecords, 1);
                    self.commit.add(Counter::CorruptSkips, 1);
                    tracing::error!(%error, queue, skipped, "the rx ring is corrupt; what it held is skipped");
                    end = BatchEnd::Busy;
                    break;
                }
            };
            end = BatchEnd::Busy;
            let Ok(packet) = Packet::read(&record, None) else {
                self.commit.add(Counter::CorruptRecords, 1);
                continue;
            };
            let position = record.position;
            let in_progress = InProgress::new(queue, packet.header.sequence);
            if self.condemned == Some(in_progress) {
                let bytes = u64::from(packet.header.captured_len);
                self.commit.add(Counter::Received, 1);
                self.commit.add(Counter::ReceivedBytes, bytes);
                self.commit.add(Counter::Quarantined, 1);
                // The batch ends here: the next packet may kill too, and this one shall stay done.
                passed_over = true;
                break;
            }
            self.regions.worker.set_in_progress(Some(in_progress));
            let mut window = [0; WINDOW];
            let len = packet.data.copy_to(&mut window);
            let window = &window[..len];
            #[cfg(debug_assertions)]
            crate::poison::taste(window);
            let mut decoded = decode(packet.header.link_type, window);
            let mut whole = false;
            if decoded.fault.is_some_and(Fault::is_truncation) && len < packet.data.len() {
                let frame = copy_all(&packet, &mut self.scratch);
                whole = true;
                decoded = decode(packet.header.link_type, frame);
            }
            self.fields.clear();
            let wanted = self.filters.wanted();
            if let Some(transport) = promises(&decoded, window, wanted) {
                let frame = copy_all(&packet, &mut self.scratch);
                whole = true;
                let payload = decoded.payload_of(frame);
                extract(transport, payload, wanted, &mut self.fields);
            }
            let verdict =
                self.filters
                    .judge(&decoded, &self.fields, self.bpf_active, &mut self.matches);
            let bytes = u64::from(packet.header.captured_len);
            let tx = &mut self.regions.tx;
            let outcome = match verdict.priority() {
                None if verdict == Verdict::NoMatch => Counter::FilteredNoMatch,
                None => Counter::FilteredByPolicy,
                Some(Priority::Normal) if !tx.has_room(self.kept_bytes) => Counter::Shed,
                Some(priority) => {
                    let name = self
                        .interfaces
                        .get(&self.regions.session, packet.header.interface);
                    let ordinal = self.commit.get(Counter::Forwarded);
                    let judged = Judged {
                        filters: &self.filters,
                        matched: self.matches.filters(),
                        priority,
                    };
                    if !whole {
                        copy_all(&packet, &mut self.scratch);
                    }
                    let described = self.describer.describe(
                        in_progress,
                        &packet.header,
                        &decoded,
                        &self.scratch[..packet.data.len()],
                    );
                    match emit(tx, ordinal, &packet, &decoded, name, judged, described) {
                        Ok(()) => Counter::Forwarded,
                        Err(Full::Always) => Counter::LostTooLong,
                        Err(Full::Now) => {
                            self.regions.rx[queue].unread(position);
                            end = BatchEnd::TxFull;
                            break;
                        }
                    }
                }
            };
            let commit = &mut self.commit;
            commit.add(Counter::Received, 1);
            commit.add(Counter::ReceivedBytes, bytes);
            commit.add(outcome, 1);
            if outcome == Counter::Forwarded {
                commit.add(Counter::ForwardedBytes, bytes);
            }
            if verdict == Verdict::Matched {
                commit.add(Counter::Matched, 1);
                commit.add(Counter::FiltersLeftOut, self.matches.left_out());
            }
            if !self.fields.is_empty() {
                commit.add(Counter::FieldsLeftOut, self.fields.left_out());
            }
            if decoded.fragment {
                commit.add(Counter::Fragments, 1);
            }
            if let Some(fault) = decoded.fault {
                commit.add(fault.counter(), 1);
            }
        }
        if end != BatchEnd::Idle {
            self.publish(queue);
        }
        if passed_over {
            self.condemned = None;
            self.regions.worker.set_suspect(None);
        }
        end
    }

    /// The order of these stores is what recovery relies on.
    fn publish(&mut self, queue: usize) {
        self.describer.report(&mut self.commit);
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

/// Copies a packet out of shared memory, to the start of `scratch`, which only grows: clearing it would cost as much again.
fn copy_all<'s>(packet: &Packet<'_>, scratch: &'s mut Vec<u8>) -> &'s [u8] {
    let len = packet.data.len();
    if scratch.len() < len {
        scratch.resize(len, 0);
    }
    packet.data.copy_to(&mut scratch[..len]);
    &scratch[..len]
}

/// Over which transport a packet may carry fields that filters want, as far as its first bytes tell.
#[inline]
fn promises(decoded: &Decoded, window: &[u8], wanted: Kinds) -> Option<Transport> {
    if wanted.is_empty() || decoded.payload == 0 {
        return None;
    }
    let transport = decoded.transport?;
    let is_seen = decoded.payload + HEAD <= window.len() || window.len() < WINDOW;
    let head = window.get(decoded.payload..).unwrap_or_default();
    (!is_seen || is_candidate(transport, head, wanted)).then_some(transport)
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
