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
//!
//! What is done with packets depends on the mode ([`Work`]): each is judged by itself, or with its call or session. How they are read, noted and committed does not.

use crate::batch::{self, Batch, Taken};
use crate::desk::Desk;
use crate::desk::load::Load;
use crate::desk::means::Means;
use crate::flows::Counts;
use crate::interfaces::InterfaceNames;
use crate::matcher::{CompileError, Compiler, FilterSet, Judge, Verdict};
use lc_daemon::attach::WorkerRegions;
use lc_daemon::config::NoFilterPolicy;
use lc_daemon::key_log::Entry;
use lc_daemon::ready;
use lc_daemon::signals::Stop;
use shm_layout::counters::{CaptureCounter, ForwardCounter, WorkerCounter as Counter};
use shm_layout::log::LogError;
use shm_layout::monotonic_ns;
use shm_layout::packet::Packet;
use shm_layout::region::OwnedRegion;
use shm_layout::ring::{Full, RingReader, RingView};
use shm_layout::wire::Priority;
use shm_layout::worker::{self, InProgress, WorkerCommit};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};
use zeroize::Zeroize;

/// The part of the tx ring that is kept for packets of high priority, of a live capture.
const KEPT_PART: u64 = 4;
/// Longest sleep while filters are compiled, or other workers wait to hear of this one.
const SHORT_NAP: Duration = Duration::from_millis(2);
/// Longest sleep, so that heartbeats go on and filter changes are seen.
const NAP: Duration = Duration::from_millis(100);
/// What the capture loses by the node's own fault.
const LOSSES: [CaptureCounter; 4] = [
    CaptureCounter::KernelDropped,
    CaptureCounter::RingFull,
    CaptureCounter::TooLong,
    CaptureCounter::LostWithSocket,
];
/// Age of a heartbeat of capd that lives.
const FRESH_NS: u64 = 500_000_000;
/// Secrets that are taken in between two looks at the rx rings.
const MOST_SECRETS: usize = 1 << 16;
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
    /// Whether the source waits for room.
    waits: bool,
    /// How much waits in the rx rings, of a live capture.
    load: Load,
    /// Packets that the capture has lost so far.
    lost_by_capture: u64,
    /// When packets were handled last.
    busy_ns: u64,
    work: Work,
    /// To read the log of secrets.
    scratch: Vec<u8>,
    /// To read the packets of a batch again.
    rx_views: Vec<RingView>,
    next_fetch_ns: u64,
    /// The generation that was announced when filters were last fetched.
    fetched_generation: u64,
    /// The same, if they could not be compiled: they are not tried again.
    failed_generation: Option<u64>,
    last_beat_ns: u64,
    /// Connections to processors so far.
    connections: u64,
    /// Nobody puts anything into the rx rings any more.
    orphaned: bool,
    /// The packet to pass over, until it has come.
    condemned: Option<InProgress>,
    /// The packet that killed the predecessor.
    suspect: Option<InProgress>,
}

/// What is done with packets.
pub enum Work {
    /// Each is judged by itself.
    Packets(Box<Batch>),
    /// Calls and sessions are followed, and judged as a whole.
    Desk(Box<Desk>),
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

/// What came next in an rx ring.
enum Next {
    /// Nothing that belongs into the same batch.
    Nothing,
    /// A record that is no packet.
    NoPacket,
    /// The condemned packet.
    Condemned,
    /// A packet.
    Packet(InProgress),
}

/// What reading an rx ring takes.
struct Reading<'a> {
    queue: usize,
    rx: &'a mut RingReader,
    worker: &'a OwnedRegion<worker::Worker>,
    commit: &'a mut WorkerCommit,
    condemned: Option<InProgress>,
}

/// The tx ring has no room.
struct TxFull;

impl Worker {
    /// Goes on where a predecessor stopped, but passes over the packet that was `condemned`. From a source that `waits` for
    /// room, no packet is dropped for lack of it. `compiler` makes the filters, by the same `policy`; `work` is what is done with packets.
    ///
    /// # Errors
    /// The commit of a predecessor that never rests: it still lives.
    pub fn new(
        mut regions: WorkerRegions,
        condemned: Option<InProgress>,
        compiler: Compiler,
        work: Work,
        policy: NoFilterPolicy,
        waits: bool,
    ) -> Result<Self, shm_layout::commit::Torn> {
        let mut commit = regions.worker.commit()?;
        Counts::succeed(&mut commit);
        regions.tx.resume(commit.tx_head());
        for (queue, rx) in regions.rx.iter_mut().enumerate() {
            rx.resume(commit.rx_tail(queue));
        }
        let logs = [
            (&mut regions.calls, commit.calls()),
            (&mut regions.held, commit.held()),
        ];
        for (log, bounds) in logs {
            if let Err(error) = log.resume(bounds) {
                tracing::warn!(%error, "a log in shared memory does not fit the commit of a predecessor");
            }
        }
        let kept_bytes = match waits {
            true => 0,
            false => regions.tx.capacity() / KEPT_PART,
        };
        let rx_views = regions.rx.iter().map(RingReader::view).collect();
        let suspect = regions.worker.suspect().map(|(suspect, _)| suspect);
        Ok(Self {
            kept_bytes,
            waits,
            load: Load::Light,
            lost_by_capture: 0,
            busy_ns: monotonic_ns(),
            regions,
            commit,
            filters: Box::new(FilterSet::none(policy)),
            compiler,
            bpf_active: false,
            interfaces: InterfaceNames::default(),
            work,
            scratch: Vec::new(),
            rx_views,
            next_fetch_ns: 0,
            fetched_generation: 0,
            failed_generation: None,
            last_beat_ns: 0,
            connections: 0,
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
            if self.awaits_first_filters() && !stop.requested() {
                std::thread::sleep(SHORT_NAP);
                continue;
            }
            let mut idle = true;
            match self.round(stop.requested()) {
                BatchEnd::Idle => {}
                BatchEnd::Busy => idle = false,
                BatchEnd::TxFull => {
                    idle = false;
                    self.wait_for_tx();
                }
            }
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
                self.tick();
                self.sleep();
            }
        }
    }

    /// Whether capd was not told to stop, and lives or is being replaced: then not the node ends, but this worker, and a
    /// successor takes over what is in the rings.
    fn capture_goes_on(&self) -> bool {
        !self.regions.session.is_stopping() && !self.regions.broker.is_gone()
    }

    /// Whether filters were announced, but none was ever in force here: a successor must not judge packets without.
    fn awaits_first_filters(&self) -> bool {
        self.filters.generation() == 0 && self.compiler.is_busy()
    }

    /// Once per round: heartbeat, filters, BPF state.
    fn refresh(&mut self) {
        let now = monotonic_ns();
        if now - self.last_beat_ns >= BEAT_NS {
            self.regions.worker.beat();
            ready::alive();
            self.last_beat_ns = now;
            self.orphaned = self.regions.broker.is_gone();
            self.look_at_connection();
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
        self.learn_secrets(now);
    }

    /// Another processor, or one that was started anew, has none of the secrets that were told.
    fn look_at_connection(&mut self) {
        let Ok(commit) = self.regions.forwarder.commit() else {
            return;
        };
        let connections = commit.get(ForwardCounter::Connections);
        if std::mem::replace(&mut self.connections, connections) != connections
            && let Work::Desk(desk) = &mut self.work
        {
            desk.tell_keys_again();
        }
    }

    /// Takes in the secrets that have come. All of them that were published before a packet are known before it is looked at, unless they come faster than they can be taken in.
    fn learn_secrets(&mut self, now_ns: u64) {
        let Work::Desk(desk) = &mut self.work else {
            return;
        };
        let keys = &mut self.regions.keys;
        for _ in 0..MOST_SECRETS {
            match keys.next(&mut self.scratch) {
                Ok(None) => break,
                Ok(Some(record)) => {
                    if let Some(entry) = Entry::read(record.kind, record.body) {
                        desk.learn(&entry, now_ns);
                    }
                }
                // All that is still there is read anew.
                Err(LogError::Overrun { .. }) => {}
                Err(error) => {
                    tracing::debug!(%error, "secrets can't be read");
                    break;
                }
            }
        }
        self.scratch.zeroize();
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
        let mut end = BatchEnd::Busy;
        let took = match &mut self.work {
            Work::Packets(_) => {
                let took = self.take(queue);
                if took == Took::Nothing {
                    return BatchEnd::Idle;
                }
                if self.finish_all(queue).is_err() {
                    end = BatchEnd::TxFull;
                }
                took
            }
            Work::Desk(desk) if desk.is_ahead() => return BatchEnd::Idle,
            Work::Desk(_) => {
                let (took, result) = self.handle(queue);
                if took == Took::Nothing {
                    return BatchEnd::Idle;
                }
                if result.is_err() {
                    end = BatchEnd::TxFull;
                }
                took
            }
        };
        self.publish(Some(queue));
        if matches!(self.work, Work::Desk(_)) {
            self.busy_ns = monotonic_ns();
        }
        if took == Took::Condemned {
            self.condemned = None;
            self.regions.worker.set_suspect(None);
        }
        end
    }

    /// What does not wait for packets: once before each look at the rx rings.
    fn round(&mut self, stops: bool) -> BatchEnd {
        let at_end = self.is_at_end(stops);
        let Some((desk, mut means)) = lend(self) else {
            return BatchEnd::Idle;
        };
        let was = means.commit.clone();
        let bounds = |means: &Means<'_>| (means.held.bounds(), means.calls.bounds());
        let before = bounds(&means);
        let result = desk.round(&mut means, at_end);
        desk.report(&mut means);
        let has_passed_over = desk.has_passed_over();
        if *means.commit == was && bounds(&means) == before {
            return BatchEnd::Idle;
        }
        self.publish(None);
        if has_passed_over && self.condemned.take().is_some() {
            self.suspect = None;
            self.regions.worker.set_suspect(None);
        }
        match result {
            Ok(()) => BatchEnd::Busy,
            Err(_) => BatchEnd::TxFull,
        }
    }

    /// Has time go on where nothing comes. A file's time is that of its packets, and without capd nobody knows whether something comes.
    fn tick(&mut self) {
        if self.waits {
            return;
        }
        let now_ns = monotonic_ns();
        if now_ns.saturating_sub(self.regions.session.heartbeat_ns()) > FRESH_NS {
            self.busy_ns = now_ns;
        }
        let silence_ns = now_ns.saturating_sub(self.busy_ns);
        if let Some((desk, mut means)) = lend(self) {
            desk.tick(&mut means, silence_ns);
        }
    }

    /// Whether no more packets come, to any worker. Tells the desk, if this one has come to the end of what was captured so far. Takes note of what waits, and of
    /// what the capture has lost.
    fn is_at_end(&mut self, stops: bool) -> bool {
        let Work::Desk(desk) = &mut self.work else {
            return false;
        };
        let regions = &self.regions;
        let workers = regions.geometry.workers;
        let own = usize::from(regions.index);
        let (mut is_over, mut has_read_all) = (true, true);
        let (mut waiting, mut lost, mut sequence) = (0, 0, 0);
        for (queue, rx) in regions.rx.iter().enumerate() {
            let (state, _) = regions.session.queue_state(queue);
            let Ok(commit) = regions.session.queue_commit(queue, workers) else {
                return false;
            };
            let heads = regions.peers.iter();
            desk.published(
                queue,
                heads.map(|peer| commit.head(usize::from(peer.worker))),
            );
            let behind = commit.head(own).saturating_sub(rx.position());
            is_over &= state.has_ended();
            has_read_all &= behind == 0;
            waiting = waiting.max(behind);
            sequence = sequence.max(commit.sequence());
            lost += LOSSES.iter().map(|loss| commit.get(*loss)).sum::<u64>();
        }
        self.lost_by_capture = lost;
        self.load = match self.waits {
            true => Load::Light,
            false => Load::of_rx(waiting, regions.geometry.rx_bytes),
        };
        if !has_read_all {
            return false;
        }
        desk.passed(sequence);
        match self.waits {
            true if !stops => is_over && desk.have_all_passed(sequence),
            _ => stops && !self.capture_goes_on(),
        }
    }

    /// Takes packets of an rx ring, and has the desk handle them.
    fn handle(&mut self, queue: usize) -> (Took, Result<(), Full>) {
        let Work::Desk(desk) = &mut self.work else {
            return (Took::Nothing, Ok(()));
        };
        let mut took = Took::Nothing;
        let mut reading = Reading {
            queue,
            rx: &mut self.regions.rx[queue],
            worker: &self.regions.worker,
            commit: &mut self.commit,
            condemned: self.condemned,
        };
        // Where each packet begins, and the last one ends.
        let mut places = [reading.rx.position(); batch::MOST + 1];
        let mut taken = 0;
        for number in 0..batch::MOST {
            let next = reading.next(number == 0, |_, identity, _, packet| {
                desk.take(identity, packet.header, &packet.data);
            });
            took = match next {
                Next::Nothing => break,
                Next::NoPacket => Took::Some,
                Next::Condemned => Took::Condemned,
                Next::Packet(_) => Took::Some,
            };
            let Next::Packet(identity) = next else {
                break;
            };
            taken = number + 1;
            places[taken] = reading.rx.position();
            if is_doubtful(self.suspect, identity) {
                break;
            }
        }
        desk.prepare();
        let mut result = Ok(());
        for number in 0..taken {
            let Some((desk, mut means)) = lend(self) else {
                break;
            };
            if !desk.is_due() {
                self.regions.rx[queue].unread(places[number]);
                if number == 0 {
                    took = Took::Nothing;
                }
                break;
            }
            result = desk.handle(&mut means);
            if result.is_err() {
                self.regions.rx[queue].unread(places[number + 1]);
                break;
            }
        }
        if let Some((desk, mut means)) = lend(self).filter(|_| took != Took::Nothing) {
            desk.report(&mut means);
        }
        (took, result)
    }

    /// Takes packets of an rx ring into the batch. What is none, or condemned, is counted when it is the first that is met, and ends the
    /// batch before it otherwise: a full tx ring may make the packets before it come again.
    fn take(&mut self, queue: usize) -> Took {
        let Work::Packets(batch) = &mut self.work else {
            return Took::Nothing;
        };
        batch.clear();
        let mut reading = Reading {
            queue,
            rx: &mut self.regions.rx[queue],
            worker: &self.regions.worker,
            commit: &mut self.commit,
            condemned: self.condemned,
        };
        for number in 0..batch::MOST {
            let is_first = number == 0;
            let next = reading.next(is_first, |commit, identity, place, packet| {
                let kept_back = batch.take(identity, place, packet, &self.filters, self.bpf_active);
                if let Some(taken) = kept_back {
                    count(commit, &taken, kept_back_as(taken.verdict));
                }
            });
            match next {
                Next::Nothing if is_first => return Took::Nothing,
                Next::Nothing | Next::NoPacket => break,
                // The next packet may kill too, and this one shall stay done.
                Next::Condemned => return Took::Condemned,
                Next::Packet(identity) if is_doubtful(self.suspect, identity) => break,
                Next::Packet(_) => {}
            }
        }
        Took::Some
    }

    /// Forwards or drops the packets of the batch.
    fn finish_all(&mut self, queue: usize) -> Result<(), TxFull> {
        let Work::Packets(batch) = &mut self.work else {
            return Ok(());
        };
        batch.prepare();
        let taken = batch.taken().len();
        (0..taken).try_for_each(|number| self.finish(queue, number))
    }

    /// Forwards or drops packet `number` of the batch, and counts it.
    #[inline]
    fn finish(&mut self, queue: usize, number: usize) -> Result<(), TxFull> {
        let Work::Packets(batch) = &self.work else {
            return Ok(());
        };
        let taken = &batch.taken()[number];
        let verdict = taken.verdict;
        let outcome = match verdict.priority() {
            None => kept_back_as(verdict),
            Some(Priority::Normal) if !self.regions.tx.has_room(self.kept_bytes) => Counter::Shed,
            Some(priority) => match self.forward(queue, number, priority)? {
                Some(outcome) => outcome,
                None => return Ok(()),
            },
        };
        if let Work::Packets(batch) = &self.work {
            count(&mut self.commit, &batch.taken()[number], outcome);
        }
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
        let Work::Packets(batch) = &mut self.work else {
            return Ok(None);
        };
        let taken = &batch.taken()[number];
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
        let forwarded = batch.forward(
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

    /// The order of these stores is what recovery relies on. Of an rx ring, what was read of `queue` is done.
    fn publish(&mut self, queue: Option<usize>) {
        if let Work::Packets(batch) = &mut self.work {
            batch.report(&mut self.commit);
        }
        let regions = &mut self.regions;
        if let Some(queue) = queue {
            self.commit.set_rx_tail(queue, regions.rx[queue].position());
        }
        self.commit.set_tx_head(regions.tx.head());
        regions.worker.publish(&self.commit);
        regions.worker.set_in_progress(None);
        regions.tx.publish();
        regions.calls.publish();
        regions.held.publish();
        if let Some(queue) = queue {
            regions.rx[queue].release();
        }
    }

    fn wait_for_tx(&mut self) {
        self.commit.add(Counter::TxFullWaits, 1);
        self.regions.tx.wait_for_room(NAP);
    }

    fn sleep(&self) {
        let readers: Vec<&RingReader> = self.regions.rx.iter().collect();
        let is_awaited = matches!(&self.work, Work::Desk(desk) if desk.is_awaited());
        let nap = match self.compiler.is_busy() || is_awaited {
            true => SHORT_NAP,
            false => NAP,
        };
        match &self.work {
            // What waits in the rings shall not end the sleep.
            Work::Desk(desk) if desk.is_ahead() => std::thread::sleep(nap),
            _ => RingReader::wait_any(&readers, nap),
        }
    }
}

/// The desk, and what it works with.
fn lend(worker: &mut Worker) -> Option<(&mut Desk, Means<'_>)> {
    let Work::Desk(desk) = &mut worker.work else {
        return None;
    };
    let regions = &mut worker.regions;
    let means = Means {
        judge: Judge {
            filters: &worker.filters,
            bpf_active: worker.bpf_active,
        },
        interfaces: &mut worker.interfaces,
        session: &regions.session,
        worker: &regions.worker,
        tx: &mut regions.tx,
        held: &mut regions.held,
        calls: &mut regions.calls,
        peers: &mut regions.peers,
        commit: &mut worker.commit,
        kept_bytes: worker.kept_bytes,
        load: worker.load,
        lost_by_capture: worker.lost_by_capture,
        condemned: worker.condemned,
    };
    Some((desk, means))
}

impl Reading<'_> {
    /// Has `handle` take the next packet. What is none, or condemned, is counted if it `is_first`, and left for the next batch otherwise.
    #[inline]
    fn next(
        &mut self,
        is_first: bool,
        handle: impl FnOnce(&mut WorkerCommit, InProgress, Range<u64>, &Packet<'_>),
    ) -> Next {
        let (queue, rx) = (self.queue, &mut *self.rx);
        let before = rx.position();
        let record = match rx.read() {
            Ok(Some(record)) => record,
            Ok(None) => return Next::Nothing,
            Err(_) if !is_first => return Next::Nothing,
            Err(error) => {
                let skipped = rx.skip_published();
                self.commit.add(Counter::CorruptRecords, 1);
                self.commit.add(Counter::CorruptSkips, 1);
                tracing::error!(%error, queue, skipped, "the rx ring is corrupt; what it held is skipped");
                return Next::NoPacket;
            }
        };
        let place = record.position..record.end;
        let Ok(packet) = Packet::read(&record, None) else {
            if is_first {
                self.commit.add(Counter::CorruptRecords, 1);
                return Next::NoPacket;
            }
            rx.unread(before);
            return Next::Nothing;
        };
        let identity = InProgress::new(queue, packet.header.sequence);
        if self.condemned == Some(identity) {
            if !is_first {
                rx.unread(before);
                return Next::Nothing;
            }
            let bytes = u64::from(packet.header.captured_len);
            self.commit.add(Counter::Received, 1);
            self.commit.add(Counter::ReceivedBytes, bytes);
            self.commit.add(Counter::Quarantined, 1);
            return Next::Condemned;
        }
        self.worker.set_in_progress(Some(identity));
        handle(self.commit, identity, place, &packet);
        Next::Packet(identity)
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
