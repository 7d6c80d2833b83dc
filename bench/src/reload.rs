//! Filters that are replaced while packets flow, two ways:
//!
//! - [`measure`] runs the real processes at full speed from memory, has the processor replace all filters again and again, and checks
//!   what arrives: nothing that every set asks for is missing, and the ids of each packet tell by which set it was judged, never an older
//!   one than that of the packet before.
//! - [`judge`] does in this process what a worker does between two packets, and times every batch, with filters that stay and with filters
//!   that are replaced: what of a pause is the filters' doing, and what the machine's.
//!
//! A set has filters of all 18 types. Those that match name eight addresses of the traffic, as `always-K`, the same in all sets, and as
//! `gN-K` in set N. The processor tells a change filter by filter, so that a packet may be judged in the middle of it, by parts of two sets.

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use lc_daemon::attach::Observer;
use lc_daemon::config::NoFilterPolicy;
use lc_daemon::exit::Exit;
use lc_daemon::signals::Signals;
use lc_hunt::supervisor::{ChildStatus, Next, Supervisor, SupervisorConfig};
use lc_workerd::decode::{Addr, Decoded, decode};
use lc_workerd::extract::extract;
use lc_workerd::matcher::{Compiler, Fields, FilterSet, Matches};
use serde::Deserialize;
use shm_layout::counters::{CaptureCounter, ForwardCounter, WorkerCounter};
use shm_layout::filters::{Filter, Snapshot};
use shm_layout::region::Region;
use shm_layout::worker::Worker;

use crate::generate::{Length, Memory, Settings, SettingsError, Traffic};
use crate::throughput::{self, Processes, RunFolder, Sink, ThroughputError};

/// What to do.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Folder of the product's programs.
    pub programs: PathBuf,
    /// This program.
    pub own_program: PathBuf,
    /// Filters of each set.
    pub filters: u32,
    /// How often they are replaced.
    pub generations: u32,
    /// Packets to be captured at least.
    pub packets: u64,
    /// Worker processes.
    pub workers: usize,
    /// Time before the first change, to see how the machine behaves without.
    pub quiet: Duration,
}

/// What the processes did.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Packets captured.
    pub captured: u64,
    /// Packets that arrived, which is as many as every set asks for.
    pub arrived: u64,
    /// Packets of those that were judged in the middle of a change, by parts of two sets or by `always-K` alone.
    pub in_between: u64,
    /// Generations that the forwarder made of the changes.
    pub published: u64,
    /// From the writing of a filter file until all workers judge by it.
    pub until_in_force: Vec<Duration>,
    /// Longest time without a packet judged, by looks a millisecond apart: before the first change, and from then on.
    pub standstill: [Duration; 2],
    /// The same without an acknowledged packet.
    pub no_acks: [Duration; 2],
    /// Name and peak memory of each process, in KiB.
    pub peak_kib: Vec<(String, u64)>,
}

/// Why a run failed, or what it showed that must not be.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The processes could not be run.
    #[error(transparent)]
    Throughput(#[from] ThroughputError),
    /// The traffic could not be made.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Something took too long.
    #[error("{what} took longer than {} s", PATIENCE.as_secs())]
    TooSlow {
        /// What.
        what: String,
    },
    /// What arrived is not what had to.
    #[error("{0}")]
    Wrong(String),
    /// No snapshot could be made.
    #[error("a filter snapshot could not be made: {0}")]
    Snapshot(String),
}

/// Longest time of any step.
const PATIENCE: Duration = Duration::from_secs(120);
/// Addresses that filters name.
const NAMED: usize = 8;
/// Frames in memory, which come again and again.
const FRAMES: u64 = 16_384;
/// Packets between two looks at the clock, as a worker takes them.
const BATCH: usize = 64;
const ETHERNET: u16 = 1;

fn traffic() -> Result<Memory, SettingsError> {
    let settings = Settings {
        seed: 7,
        length: Length::Packets(FRAMES),
        flows: 1_000,
        ipv6_percent: 10,
        vlan_percent: 0,
        ..Settings::default()
    };
    Ok(Memory::collect(&mut Traffic::new(settings)?))
}

fn addresses(frame: &[u8]) -> Option<[u32; 2]> {
    match decode(ETHERNET, frame).addresses? {
        (Addr::V4(source), Addr::V4(destination)) => Some([source, destination]),
        _ => None,
    }
}

/// The addresses that filters name: of those with few packets, so that writing down what arrives does not hold up the rest.
fn named(memory: &Memory) -> Vec<u32> {
    let mut packets: HashMap<u32, u32> = HashMap::new();
    for address in memory
        .iter()
        .filter_map(|frame| addresses(frame.bytes))
        .flatten()
    {
        *packets.entry(address).or_default() += 1;
    }
    let mut few: Vec<_> = packets
        .into_iter()
        .filter(|(_, packets)| (2..12).contains(packets))
        .collect();
    few.sort_unstable();
    few.into_iter()
        .take(NAMED)
        .map(|(address, _)| address)
        .collect()
}

/// Spreads numbers, so that neighbours have little in common.
fn spread(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1)
}

/// Set `generation`: `count` filters of all types.
#[must_use]
pub fn filters(generation: u32, count: u32, named: &[u32]) -> Vec<Filter> {
    let filter = |id: String, filter_type: u32, pattern: String| Filter {
        id,
        filter_type,
        pattern,
        enabled: true,
    };
    let mut filters = vec![filter("bpf".to_owned(), 5, "ip or ip6".to_owned())];
    for (number, address) in named.iter().enumerate() {
        let address = Ipv4Addr::from_bits(*address).to_string();
        filters.push(filter(format!("always-{number}"), 2, address.clone()));
        filters.push(filter(
            format!("g{generation}-{number}"),
            2,
            address + "/32",
        ));
    }
    // BPF filters act in the capture, where one is as good as many.
    const TYPES: [u32; 17] = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17];
    for number in NAMED as u32.. {
        if filters.len() >= count as usize {
            break;
        }
        let word = spread(number ^ generation << 20);
        let filter_type = TYPES[number as usize % TYPES.len()];
        let pattern = match filter_type {
            0 => format!("user-{word:08x}"),
            1 => format!("4930{word:010}"),
            2 => format!("100.{}.{}.{}", word >> 24, word >> 16 & 255, word & 255),
            3 => format!("{word:08x}@*"),
            4 => format!("codec{word:x}"),
            6 => format!("*@host{word:08x}.example.com"),
            7 if number % 2 == 0 => format!("*.domain-{word:08x}.example"),
            7 | 10 => format!("*name{word:08x}*"),
            8 => format!("someone.{word:08x}@*.example.com"),
            9 => format!("*subject {word:08x}*"),
            11 | 12 => format!("{word:08x}{word:08x}{word:08x}{word:08x}"),
            13 => format!("t13d1516h2_8daaf615{:04x}_{word:08x}022b", word >> 16),
            14 => format!("www.host-{word:08x}.example"),
            15 => format!("/path/{word:08x}/*"),
            16 => format!("26201{word:010}"),
            _ => format!("3534{word:010}"),
        };
        filters.push(filter(
            format!("g{generation}-{number}"),
            filter_type,
            pattern,
        ));
    }
    filters
}

/// As the processor reads it, replaced all at once.
fn write(path: &Path, filters: &[Filter]) -> Result<(), ThroughputError> {
    let mut text = String::new();
    for Filter {
        id,
        filter_type,
        pattern,
        ..
    } in filters
    {
        let kind = lc_proto::management::FilterType::try_from(*filter_type as i32)
            .map_or("", |kind| kind.capability());
        // A text takes any characters.
        let _ = writeln!(
            text,
            "[[filters]]\nid = \"{id}\"\ntype = \"{kind}\"\npattern = \"{pattern}\"\nenabled = true"
        );
    }
    let new = path.with_extension("new");
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, path));
    written.map_err(|source| ThroughputError::System {
        what: format!("write {}", path.display()),
        source,
    })
}

/// Runs the processes, and checks what arrives.
///
/// # Errors
///
/// [`ReloadError`]
pub fn measure(plan: &Plan, signals: &Signals) -> Result<Report, ReloadError> {
    let memory = traffic()?;
    let named = named(&memory);
    let folder = RunFolder::new()?;
    let filter_file = folder.path.join("filters.toml");
    write(&filter_file, &filters(0, plan.filters, &named))?;
    let arrived = folder.path.join("arrived.jsonl");
    let options = ["--json".as_ref(), arrived.as_os_str()];
    let sink = Sink::start(&plan.programs, &folder, Some(&filter_file), &options)?;
    let processes = Processes {
        programs: &plan.programs,
        own_program: &plan.own_program,
        workers: plan.workers,
        policy: "deny",
        settings: &[],
    };
    let config = folder.write("config.toml", &processes.configuration(&folder, sink.port))?;
    let mut supervisor = Supervisor::new(SupervisorConfig {
        children: processes.children(&["reload-capture".into()], &config),
        notify_socket: folder.path.join("notify.sock"),
        shutdown_timeout: Duration::from_secs(30),
    })
    .map_err(ThroughputError::from)?;
    let mut changes = Changes {
        plan,
        named: &named,
        filter_file: &filter_file,
        run_dir: &folder.path,
        sink: sink.pid(),
        step_began: Instant::now(),
        stage: Stage::Starting,
        observer: None,
        watch: None,
        report: Report::default(),
        failed: None,
    };
    let exit = supervisor
        .run(signals, |children| changes.look(children))
        .map_err(ThroughputError::from)?;
    let Changes {
        stage,
        observer,
        watch,
        mut report,
        failed,
        ..
    } = changes;
    if let Some(failed) = failed {
        return Err(failed);
    }
    let (Stage::Done, Some(observer), Some(watch)) = (stage, observer, watch) else {
        return Err(ThroughputError::Ended(exit.code()).into());
    };
    [report.standstill, report.no_acks] = watch.end();
    // Its file is complete when it has ended.
    sink.end()?;
    check_ledger(&observer, &mut report)?;
    check_arrivals(&memory, &named, &arrived, &mut report)?;
    Ok(report)
}

/// Where a run stands.
#[derive(PartialEq)]
enum Stage {
    Starting,
    /// Filters stay as they are, until then.
    Quiet(Instant),
    /// This set was written, at this time, while this generation was current.
    Written(u32, Instant, u64),
    /// This set is in force, and shall judge packets until so many are captured.
    InForce(u32, u64),
    Done,
}

/// Leads a run from one change to the next.
struct Changes<'a> {
    plan: &'a Plan,
    named: &'a [u32],
    filter_file: &'a Path,
    run_dir: &'a Path,
    sink: u32,
    step_began: Instant,
    stage: Stage,
    observer: Option<Observer>,
    watch: Option<Watch>,
    report: Report,
    failed: Option<ReloadError>,
}

impl Changes<'_> {
    fn look(&mut self, children: &[ChildStatus<'_>]) -> Next {
        match self.advance(children) {
            Ok(Some(stage)) => {
                self.stage = stage;
                self.step_began = Instant::now();
            }
            Ok(None) if self.step_began.elapsed() > PATIENCE => {
                let what = match self.stage {
                    Stage::Written(set, ..) => format!("putting set {set} in force"),
                    _ => "starting, or capturing packets,".to_owned(),
                };
                self.failed = Some(ReloadError::TooSlow { what });
            }
            Ok(None) => {}
            Err(error) => self.failed = Some(error),
        }
        match self.stage {
            Stage::Done => Next::End,
            _ if self.failed.is_some() => Next::End,
            _ => Next::Continue,
        }
    }

    /// The next stage, if it has come.
    fn advance(&mut self, children: &[ChildStatus<'_>]) -> Result<Option<Stage>, ReloadError> {
        if !children.iter().all(|child| child.ready) {
            return Ok(None);
        }
        if self.observer.is_none() {
            self.observer = Some(Observer::attach(self.run_dir).map_err(ThroughputError::from)?);
        }
        let Some(observer) = &self.observer else {
            return Ok(None);
        };
        let captured = throughput::captured(observer);
        let generation = observer.forwarder.filter_generation();
        let in_force = |enabled: u64| {
            generation > 0
                && observer.forwarder.filter_count() == enabled
                && observer
                    .workers
                    .iter()
                    .all(|worker| worker.filter_generation() == generation)
        };
        let share = self.plan.packets / u64::from(self.plan.generations + 1);
        match self.stage {
            Stage::Starting if captured > 0 && in_force(self.count(0)) => {
                self.watch = Some(Watch::start(self.run_dir)?);
                Ok(Some(Stage::Quiet(Instant::now() + self.plan.quiet)))
            }
            Stage::Quiet(until) if Instant::now() >= until => {
                if let Some(watch) = &self.watch {
                    watch.changes_begin();
                }
                Ok(Some(Stage::InForce(0, captured + share)))
            }
            Stage::Written(number, at, before)
                if generation > before && in_force(self.count(number)) =>
            {
                self.report.until_in_force.push(at.elapsed());
                Ok(Some(Stage::InForce(number, captured + share)))
            }
            Stage::InForce(number, until) if captured >= until => {
                if number == self.plan.generations {
                    self.report.published = generation;
                    self.report.peak_kib = self.peaks(children)?;
                    return Ok(Some(Stage::Done));
                }
                let next = number + 1;
                // One more than before, so that their number tells when a set is complete.
                write(
                    self.filter_file,
                    &filters(next, self.count(next) as u32, self.named),
                )?;
                Ok(Some(Stage::Written(next, Instant::now(), generation)))
            }
            _ => Ok(None),
        }
    }

    fn count(&self, generation: u32) -> u64 {
        u64::from(self.plan.filters + generation)
    }

    fn peaks(&self, children: &[ChildStatus<'_>]) -> Result<Vec<(String, u64)>, ThroughputError> {
        let pids = children
            .iter()
            .map(|child| (child.name, child.pid.unwrap_or_default()));
        pids.chain([("sink", self.sink)])
            .map(|(name, pid)| Ok((name.to_owned(), throughput::status_kib(pid, "VmHWM:")?)))
            .collect()
    }
}

/// A thread that looks every millisecond whether packets are judged and acknowledged.
struct Watch {
    changing: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
    thread: thread::JoinHandle<[[Duration; 2]; 2]>,
}

impl Watch {
    fn start(run_dir: &Path) -> Result<Self, ThroughputError> {
        let observer = Observer::attach(run_dir)?;
        let (changing, ended) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let flags = (Arc::clone(&changing), Arc::clone(&ended));
        let thread = thread::spawn(move || {
            let mut longest = [[Duration::ZERO; 2]; 2];
            let mut last = [(0, Instant::now()); 2];
            while !flags.1.load(Ordering::Relaxed) {
                let judged = |worker: &Region<Worker>| {
                    worker
                        .commit()
                        .map_or(0, |commit| commit.get(WorkerCounter::Received))
                };
                let judged = observer.workers.iter().map(judged).sum();
                let acked = observer
                    .forwarder
                    .commit()
                    .map_or(0, |commit| commit.get(ForwardCounter::Acked));
                let phase = usize::from(flags.0.load(Ordering::Relaxed));
                for (what, count) in [judged, acked].into_iter().enumerate() {
                    let (before, since) = &mut last[what];
                    if *before != count {
                        longest[what][phase] = longest[what][phase].max(since.elapsed());
                        (*before, *since) = (count, Instant::now());
                    }
                }
                thread::sleep(Duration::from_millis(1));
            }
            longest
        });
        Ok(Self {
            changing,
            ended,
            thread,
        })
    }

    fn changes_begin(&self) {
        self.changing.store(true, Ordering::Relaxed);
    }

    fn end(self) -> [[Duration; 2]; 2] {
        self.ended.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

/// Nothing was dropped, and everything that was captured has been judged and delivered.
fn check_ledger(observer: &Observer, report: &mut Report) -> Result<(), ReloadError> {
    let torn = |_| ReloadError::Wrong("the counters of a process can't be read".to_owned());
    let capture = observer
        .session
        .queue_commit(0, observer.geometry.workers)
        .map_err(torn)?;
    let forwarder = observer.forwarder.commit().map_err(torn)?;
    let (mut judged, mut forwarded) = (0, 0);
    for worker in &observer.workers {
        let commit = worker.commit().map_err(torn)?;
        judged += commit.get(WorkerCounter::Forwarded) + commit.get(WorkerCounter::FilteredNoMatch);
        forwarded += commit.get(WorkerCounter::Forwarded);
    }
    report.captured = capture.get(CaptureCounter::Captured);
    report.arrived = forwarder.get(ForwardCounter::Acked);
    if judged != report.captured || forwarded != report.arrived {
        return Err(ReloadError::Wrong(format!(
            "of {} packets captured {judged} were judged; of {forwarded} forwarded {} arrived",
            report.captured, report.arrived
        )));
    }
    Ok(())
}

/// A packet as the processor writes it down.
#[derive(Deserialize)]
struct Line {
    matched_filter_ids: Vec<String>,
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    src_ip: Ipv4Addr,
    dst_ip: Ipv4Addr,
}

/// Every packet of the named addresses has arrived, and no other; each was judged by one set, or in the change to the next.
fn check_arrivals(
    memory: &Memory,
    named: &[u32],
    arrived: &Path,
    report: &mut Report,
) -> Result<(), ReloadError> {
    let wrong = |what: String| Err(ReloadError::Wrong(what));
    let is_named = |frame: &[u8]| {
        addresses(frame).is_some_and(|both| both.iter().any(|one| named.contains(one)))
    };
    let of_named: Vec<bool> = memory.iter().map(|frame| is_named(frame.bytes)).collect();
    let in_memory = of_named.len().max(1) as u64;
    let count = |flags: &[bool]| flags.iter().filter(|flag| **flag).count() as u64;
    let expected = report.captured / in_memory * count(&of_named)
        + count(&of_named[..(report.captured % in_memory) as usize]);
    if report.arrived != expected {
        return wrong(format!(
            "{} packets arrived in the place of {expected}",
            report.arrived
        ));
    }
    let failed = |source: io::Error| ThroughputError::System {
        what: format!("read {}", arrived.display()),
        source,
    };
    let text = fs::read_to_string(arrived).map_err(failed)?;
    let mut newest: HashMap<[Ipv4Addr; 2], u32> = HashMap::new();
    let mut lines = 0;
    for text in text.lines() {
        let line: Line = serde_json::from_str(text).map_err(|error| failed(error.into()))?;
        lines += 1;
        let (source, destination) = (line.metadata.src_ip, line.metadata.dst_ip);
        let mut sets = Vec::new();
        for id in &line.matched_filter_ids {
            let Some((set, number)) = id.split_once('-') else {
                return wrong(format!("a packet has matched the filter {id}"));
            };
            let address = number
                .parse()
                .ok()
                .and_then(|number: usize| named.get(number));
            if !address
                .is_some_and(|address| [source.to_bits(), destination.to_bits()].contains(address))
            {
                return wrong(format!(
                    "{source} to {destination} has matched the filter {id}"
                ));
            }
            sets.extend(
                set.strip_prefix('g')
                    .and_then(|set| set.parse::<u32>().ok()),
            );
        }
        let flow = [source.min(destination), source.max(destination)];
        let newest = newest.entry(flow).or_default();
        let (oldest, latest) = (sets.iter().min().copied(), sets.iter().max().copied());
        match (oldest, latest) {
            (Some(oldest), Some(latest)) => {
                if latest - oldest > 1 || oldest + 1 < *newest || latest < *newest {
                    return wrong(format!(
                        "{source} to {destination}: judged by {sets:?} after {newest}"
                    ));
                }
                report.in_between += u64::from(oldest != latest);
                *newest = latest;
            }
            _ => report.in_between += 1,
        }
    }
    if lines != expected {
        return wrong(format!(
            "{lines} packets were written down in the place of {expected}"
        ));
    }
    Ok(())
}

/// Runs the capture daemon of [`measure`], until it is told to stop.
///
/// # Errors
///
/// A text that says what is wrong with the configuration.
pub fn capture(config: &Path) -> Result<Exit, Box<dyn std::error::Error>> {
    throughput::capture_from(config, traffic)
}

/// What [`judge`] saw.
#[derive(Debug, Clone, Default)]
pub struct Judged {
    /// Packets judged while filters were replaced.
    pub packets: u64,
    /// Time to read and to compile each set.
    pub compiled: Vec<Duration>,
    /// Longest exchange of one set for the next, where packets wait for it: as it passed, and in processor time.
    pub exchange: [Duration; 2],
    /// Longest time from one batch to the next: with filters that stay, and with filters that are replaced.
    pub batch: [Duration; 2],
    /// The same in processor time of the packet path alone, without what others did on its processor.
    pub batch_processor: [Duration; 2],
    /// Bytes of the last set.
    pub bytes: usize,
}

/// Judges packets in this thread while another compiles one set after the other.
///
/// # Errors
///
/// [`ReloadError`]
pub fn judge(plan: &Plan) -> Result<Judged, ReloadError> {
    let memory = traffic()?;
    let named = named(&memory);
    let refused = |error: &dyn std::fmt::Display| ReloadError::Snapshot(error.to_string());
    let mut compiler =
        Compiler::start(NoFilterPolicy::Deny, || {}).map_err(|error| refused(&error))?;
    let mut path = PacketPath {
        memory: &memory,
        next: 0,
        filters: Box::new(FilterSet::none(NoFilterPolicy::Deny)),
        fields: Fields::default(),
        matches: Matches::default(),
    };
    let mut judged = Judged::default();
    for generation in 0..=plan.generations {
        let (made, making) = channel();
        let snapshot = Snapshot {
            generation: u64::from(generation + 1),
            filters: filters(generation, plan.filters, &named),
        };
        let snapshot = Arc::new(Mutex::new(Some(snapshot)));
        compiler.begin(move || {
            let snapshot = snapshot
                .lock()
                .ok()
                .and_then(|mut snapshot| snapshot.take())
                .unwrap_or_default();
            let sealed = snapshot.seal().ok();
            drop(snapshot);
            // Who waits for it is there.
            let _ = made.send(Instant::now());
            Ok(sealed)
        });
        let phase = usize::from(generation > 0);
        let (mut began, mut used) = (Instant::now(), processor_time());
        let enough = plan.packets / u64::from(plan.generations.max(1));
        let mut packets = 0;
        let mut waiting = true;
        // The first set is waited for; then as many batches without a change as with one.
        while waiting || packets < enough {
            path.batch();
            packets += BATCH as u64;
            if waiting && let Some(result) = compiler.take() {
                let compiled = result.map_err(|error| refused(&error))?;
                if let Ok(since) = making.recv() {
                    judged.compiled.push(since.elapsed());
                }
                let (exchange, exchanging) = (Instant::now(), processor_time());
                let old = std::mem::replace(&mut path.filters, compiled.filters);
                compiler.replaced(old, exchange.elapsed());
                let spent = [
                    exchange.elapsed(),
                    processor_time().saturating_sub(exchanging),
                ];
                for (longest, spent) in judged.exchange.iter_mut().zip(spent) {
                    *longest = (*longest).max(spent);
                }
                waiting = false;
            }
            let (now, uses) = (Instant::now(), processor_time());
            if !(phase == 0 && waiting) {
                judged.batch[phase] = judged.batch[phase].max(now - began);
                judged.batch_processor[phase] =
                    judged.batch_processor[phase].max(uses.saturating_sub(used));
            }
            (began, used) = (now, uses);
        }
        if phase == 1 {
            judged.packets += packets;
        } else {
            path.quiet(plan.packets, &mut judged);
        }
    }
    judged.bytes = path.filters.bytes();
    Ok(judged)
}

/// What a worker does with a packet before it forwards it.
struct PacketPath<'m> {
    memory: &'m Memory,
    next: usize,
    filters: Box<FilterSet>,
    fields: Fields,
    matches: Matches,
}

impl PacketPath<'_> {
    fn batch(&mut self) {
        for _ in 0..BATCH {
            let Some(frame) = self.memory.packet(self.next) else {
                self.next = 0;
                continue;
            };
            self.next += 1;
            let decoded: Decoded = decode(ETHERNET, frame.bytes);
            self.fields.clear();
            if let Some(transport) = decoded.transport {
                let payload = decoded.payload_of(frame.bytes);
                extract(transport, payload, self.filters.wanted(), &mut self.fields);
            }
            let verdict = self
                .filters
                .judge(&decoded, &self.fields, true, &mut self.matches);
            std::hint::black_box(verdict);
        }
    }

    /// Judges by the set that is in force.
    fn quiet(&mut self, packets: u64, judged: &mut Judged) {
        let (mut began, mut used) = (Instant::now(), processor_time());
        for _ in 0..packets / BATCH as u64 {
            self.batch();
            let (now, uses) = (Instant::now(), processor_time());
            judged.batch[0] = judged.batch[0].max(now - began);
            judged.batch_processor[0] = judged.batch_processor[0].max(uses.saturating_sub(used));
            (began, used) = (now, uses);
        }
    }
}

/// Processor time of this thread.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}
