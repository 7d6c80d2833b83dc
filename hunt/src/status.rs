//! `lc-hunt status`: what a running node does, read from shared memory only.

use crate::ledger::Ledger;
use lc_daemon::attach::{AttachError, Observer, SOCKET};
use lc_daemon::config::MIN_LOG_BYTES;
use serde::Serialize;
use shm_layout::counters::{CaptureCounter, ForwardCounter, KeyLogCounter, WorkerCounter};
use shm_layout::forwarder::{Breaker, Connection, DiskState};
use shm_layout::region::{Backing, Region};
use shm_layout::session::{KeyLogState, QueueState};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// How often a reading is tried while the node is too busy to be read in one piece.
const TRIES: usize = 100;

/// Metric of the packets that went to others than the worker whose they were.
const STEERED_AWAY: &str = "capture_steered_away_packets_total";

/// One reading of one node.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Its run directory.
    pub run_dir: PathBuf,
    /// Its processes.
    pub processes: Vec<Process>,
    /// Its capture threads.
    pub captures: Vec<Capture>,
    /// Who gets the packets, by worker.
    pub steering: Vec<Share>,
    /// Its session with the processor.
    pub processor: Processor,
    /// Its packets on disk.
    pub disk: Disk,
    /// Its filters.
    pub filters: Filters,
    /// Its TLS key log.
    pub key_log: KeyLog,
    /// The calls that it follows.
    pub calls: Calls,
    /// Where its rings lie: `huge`, `collapsed` or `ordinary` pages.
    pub ring_memory: &'static str,
    /// Where its packets went.
    pub ledger: Ledger,
    /// All counters by metric name, without the `lc_hunt_` prefix; summed over capture threads and over workers.
    pub counters: BTreeMap<&'static str, u64>,
}

/// One process of the node.
#[derive(Debug, Serialize)]
pub struct Process {
    /// `lc-capd`, `lc-workerd 0`, ...
    pub name: String,
    /// Its process id; 0 before it first attached.
    pub pid: u32,
    /// Whether that very process still runs.
    pub alive: bool,
    /// How often a process has taken over this place.
    pub epoch: u32,
    /// Its version.
    pub version: String,
    /// Milliseconds since it last said that it makes progress.
    pub heartbeat_age_ms: u64,
    /// The CPUs it may run on, as the kernel tells; empty when it does not run.
    pub cpus: String,
    /// What protects the machine from it, should it be taken over.
    pub sandbox: Sandbox,
}

/// The walls around a process.
#[derive(Debug, Serialize)]
pub struct Sandbox {
    /// `seccomp`, `landlock`, `no_new_privs`, `not_dumpable`; none when it runs without.
    pub walls: Vec<&'static str>,
    /// Capabilities that it holds, without `cap_`.
    pub capabilities: Vec<String>,
    #[serde(skip)]
    summary: String,
}

/// One capture thread.
#[derive(Debug, Serialize)]
pub struct Capture {
    /// Its interfaces: one device, or those that the files name.
    pub interfaces: Vec<String>,
    /// `starting`, `waiting for filters`, `running`, `link down`, `retrying`, `finished`, `failed` or `stopped`.
    pub state: &'static str,
    /// What is wrong, where something is.
    pub reason: String,
    /// Its counters.
    pub counters: BTreeMap<&'static str, u64>,
}

/// One worker's share of the packets.
#[derive(Debug, Serialize)]
pub struct Share {
    /// Whether it goes to the others, because the worker has been down for longer than the grace time.
    pub away: bool,
    /// Packets of it that went to others, now or before.
    pub steered_away_packets: u64,
}

/// The session with the processor.
#[derive(Debug, Serialize)]
pub struct Processor {
    /// `waiting`, `connecting`, `streaming`, `paused` or `stopping`.
    pub connection: &'static str,
    /// Id and address of the processor of the present or last session.
    pub peer: String,
    /// The processors in order of preference.
    pub processors: Vec<OneProcessor>,
    /// Why the last connection ended or failed.
    pub last_error: String,
}

/// One processor of the fail-over list.
#[derive(Debug, Serialize)]
pub struct OneProcessor {
    /// State of its circuit breaker: `closed`, `open` or `half-open`.
    pub breaker: &'static str,
    /// Whether the session is with it.
    pub in_use: bool,
}

/// The TLS key log.
#[derive(Debug, Serialize)]
pub struct KeyLog {
    /// `off`, `awaited`, `read` or `failed`.
    pub state: &'static str,
    /// What is wrong, where something is.
    pub reason: String,
}

/// The filters in force.
#[derive(Debug, Serialize)]
pub struct Filters {
    /// Current generation; 0 before the processor has told its filters.
    pub generation: u64,
    /// Generation that each worker judges by.
    pub workers: Vec<u64>,
    /// Enabled filters.
    pub enabled: u64,
    /// BPF filters that the capture applies.
    pub bpf_active: u64,
    /// BPF filters that do not compile.
    pub bpf_refused: u64,
}

/// The calls that a node follows.
#[derive(Debug, Serialize)]
pub struct Calls {
    /// Calls begun and not over.
    pub under_way: u64,
    /// What each worker keeps in shared memory of them.
    pub logs: Vec<CallLogs>,
}

/// What one worker keeps in shared memory of calls.
#[derive(Debug, Serialize)]
pub struct CallLogs {
    /// What it knows of them.
    pub calls: Log,
    /// Their packets that wait for a verdict.
    pub held: Log,
}

/// A log in shared memory.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Log {
    /// Bytes in use.
    pub bytes: u64,
    /// Its size.
    pub limit: u64,
}

/// The disk buffer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// `off`, `ok`, `full`, `read-only` or `failed`.
    pub state: &'static str,
    /// Packets that wait there.
    pub packets: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Most bytes that it may take.
    pub limit: u64,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// Nothing runs.
    #[error("no lc-hunt runs below {0}")]
    NoneRunning(PathBuf),
    /// The node can't be attached to.
    #[error("the node in {run_dir}: {source}")]
    Attach {
        /// Its run directory.
        run_dir: PathBuf,
        /// The cause, such as another layout.
        source: AttachError,
    },
    /// The node was too busy.
    #[error("the node in {0} changed during each of {TRIES} readings; try again")]
    Restless(PathBuf),
}

impl Status {
    /// Reads every node below `base`: the one of the service, and those run in the foreground. One that can't be read does
    /// not hide the others; nodes that ended meanwhile are passed over.
    ///
    /// # Errors
    /// [`StatusError::NoneRunning`]
    pub fn of_all(base: &Path) -> Result<Vec<Result<Self, StatusError>>, StatusError> {
        let mut found = Vec::new();
        for run_dir in run_dirs(base) {
            match Observer::attach(&run_dir) {
                Ok(observer) => found.push(Self::read(run_dir, &observer)),
                Err(AttachError::Socket { .. }) => {}
                Err(source) => found.push(Err(StatusError::Attach { run_dir, source })),
            }
        }
        if found.is_empty() {
            return Err(StatusError::NoneRunning(base.to_owned()));
        }
        Ok(found)
    }

    fn read(run_dir: PathBuf, observer: &Observer) -> Result<Self, StatusError> {
        (0..TRIES)
            .find_map(|_| Self::try_read(run_dir.clone(), observer).ok())
            .ok_or(StatusError::Restless(run_dir))
    }

    fn try_read(run_dir: PathBuf, observer: &Observer) -> Result<Self, shm_layout::commit::Torn> {
        let Observer {
            session,
            forwarder,
            workers,
            calls,
            geometry,
        } = observer;
        let ledger = Ledger::read(observer)?;
        let mut processes = vec![Process::of("lc-capd".to_owned(), session)];
        for (index, worker) in workers.iter().enumerate() {
            processes.push(Process::of(format!("lc-workerd {index}"), worker));
        }
        processes.push(Process::of("lc-fwdd".to_owned(), forwarder));

        let mut counters = BTreeMap::new();
        let mut captures = Vec::new();
        let interfaces: Vec<_> = (0..session.interface_count())
            .filter_map(|n| session.interface(n))
            .collect();
        for queue in 0..usize::from(geometry.queues) {
            let commit = session.queue_commit(queue, geometry.workers)?;
            let (state, reason) = session.queue_state(queue);
            let own: BTreeMap<_, _> = CaptureCounter::ALL
                .iter()
                .map(|counter| (counter.metric(), commit.get(*counter)))
                .collect();
            for (name, value) in &own {
                *counters.entry(*name).or_default() += value;
            }
            captures.push(Capture {
                interfaces: interfaces
                    .iter()
                    .filter(|interface| usize::from(interface.queue) == queue)
                    .map(|interface| interface.name.clone())
                    .collect(),
                state: state_name(state),
                reason,
                counters: own,
            });
        }
        let mut logs = Vec::new();
        for (worker, calls) in workers.iter().zip(calls) {
            let commit = worker.commit()?;
            for counter in WorkerCounter::ALL {
                *counters.entry(counter.metric()).or_default() += commit.get(*counter);
            }
            let log = |bytes, limit| Log { bytes, limit };
            logs.push(CallLogs {
                calls: log(calls.used(), calls.capacity()),
                held: log(commit.held().used(), geometry.held_bytes),
            });
        }
        let away = session.workers_away();
        let share = |worker| Share {
            away: away.contains(worker),
            steered_away_packets: session.steered_away(worker),
        };
        let steering: Vec<_> = (0..workers.len()).map(share).collect();
        let steered_away = steering
            .iter()
            .map(|share| share.steered_away_packets)
            .sum();
        counters.insert(STEERED_AWAY, steered_away);
        let commit = forwarder.commit()?;
        for counter in ForwardCounter::ALL {
            counters.insert(counter.metric(), commit.get(*counter));
        }
        let key_log = session.key_log_counts()?;
        for counter in KeyLogCounter::ALL {
            counters.insert(counter.metric(), key_log.get(*counter));
        }
        let bpf = session.bpf()?;
        Ok(Self {
            run_dir,
            processes,
            captures,
            steering,
            processor: Processor {
                connection: connection_name(forwarder.connection()),
                peer: forwarder.peer(),
                processors: forwarder
                    .processors()
                    .iter()
                    .map(|state| OneProcessor {
                        breaker: breaker_name(state.breaker),
                        in_use: state.in_use,
                    })
                    .collect(),
                last_error: forwarder.error(),
            },
            disk: Disk {
                state: match forwarder.disk().state {
                    DiskState::Off => "off",
                    DiskState::Ok => "ok",
                    DiskState::Full => "full",
                    DiskState::ReadOnly => "read-only",
                    DiskState::Failed => "failed",
                },
                packets: commit.on_disk(),
                bytes: forwarder.disk().bytes,
                limit: forwarder.disk().limit,
            },
            filters: Filters {
                generation: forwarder.filter_generation(),
                workers: workers
                    .iter()
                    .map(|worker| worker.filter_generation())
                    .collect(),
                enabled: forwarder.filter_count(),
                bpf_active: bpf.active,
                bpf_refused: bpf.refused,
            },
            key_log: KeyLog::of(session.key_log_state()),
            calls: Calls {
                under_way: calls_under_way(&counters),
                logs,
            },
            ring_memory: match session.ring_backing() {
                Backing::Huge => "huge",
                Backing::Collapsed => "collapsed",
                Backing::Ordinary => "ordinary",
            },
            ledger,
            counters,
        })
    }
}

fn calls_under_way(counters: &BTreeMap<&'static str, u64>) -> u64 {
    let count = |counter: WorkerCounter| counters.get(counter.metric()).copied().unwrap_or(0);
    let over = [
        WorkerCounter::CallsEnded,
        WorkerCounter::CallsEvicted,
        WorkerCounter::CallsTimedOut,
    ];
    let over = over.into_iter().map(count).sum();
    count(WorkerCounter::CallsStarted).saturating_sub(over)
}

impl KeyLog {
    fn of((state, reason): (KeyLogState, String)) -> Self {
        Self {
            state: match state {
                KeyLogState::Off => "off",
                KeyLogState::Awaited => "awaited",
                KeyLogState::Read => "read",
                KeyLogState::Failed => "failed",
            },
            reason,
        }
    }
}

impl Calls {
    /// Whether the node follows calls at all.
    fn are_followed(&self) -> bool {
        self.under_way > 0 || self.fullest(|logs| logs.calls).limit > MIN_LOG_BYTES as u64
    }

    /// The log with the least room, of one kind.
    fn fullest(&self, kind: impl Fn(&CallLogs) -> Log) -> Log {
        let logs = self.logs.iter().map(kind);
        logs.max_by_key(|log| log.bytes)
            .unwrap_or(Log { bytes: 0, limit: 0 })
    }
}

impl Process {
    fn of<B>(name: String, region: &Region<B>) -> Self {
        let owner = region.owner();
        let protection = region.protection();
        let age = shm_layout::monotonic_ns().saturating_sub(region.heartbeat_ns());
        Self {
            name,
            pid: owner.pid,
            alive: owner.is_alive(),
            epoch: region.epoch(),
            version: region.owner_version(),
            heartbeat_age_ms: if owner.pid == 0 { 0 } else { age / 1_000_000 },
            cpus: match owner.is_alive() {
                true => allowed_cpus(owner.pid).unwrap_or_default(),
                false => String::new(),
            },
            sandbox: Sandbox {
                walls: protection.walls(),
                capabilities: protection.capability_names(),
                summary: protection.to_string(),
            },
        }
    }
}

/// What the kernel says in `/proc/<pid>/status`.
fn allowed_cpus(pid: u32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    Some(line.trim().to_owned())
}

/// Directories below `base`, and `base` itself, where a capd has listened.
pub(crate) fn run_dirs(base: &Path) -> Vec<PathBuf> {
    let below = std::fs::read_dir(base)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut found: Vec<_> = std::iter::once(base.to_owned())
        .chain(below)
        .filter(|path| path.join(SOCKET).exists())
        .collect();
    found.sort();
    found
}

fn state_name(state: QueueState) -> &'static str {
    match state {
        QueueState::Starting => "starting",
        QueueState::WaitingForFilters => "waiting for filters",
        QueueState::Running => "running",
        QueueState::LinkDown => "link down",
        QueueState::Retrying => "retrying",
        QueueState::Finished => "finished",
        QueueState::Failed => "failed",
        QueueState::Stopped => "stopped",
    }
}

fn connection_name(connection: Connection) -> &'static str {
    match connection {
        Connection::Waiting => "waiting",
        Connection::Connecting => "connecting",
        Connection::Streaming => "streaming",
        Connection::Paused => "paused",
        Connection::Stopping => "stopping",
    }
}

fn breaker_name(breaker: Breaker) -> &'static str {
    match breaker {
        Breaker::Closed => "closed",
        Breaker::Open => "open",
        Breaker::HalfOpen => "half-open",
    }
}

impl Status {
    fn fmt_key_log(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |metric: &str| self.counters.get(metric).copied().unwrap_or(0);
        let KeyLog { state, reason } = &self.key_log;
        let bad = [
            KeyLogCounter::BadFormat,
            KeyLogCounter::BadClientRandom,
            KeyLogCounter::BadSecret,
            KeyLogCounter::TooLong,
        ];
        let bad: u64 = bad.iter().map(|counter| count(counter.metric())).sum();
        let colon = if reason.is_empty() { "" } else { ": " };
        writeln!(
            f,
            "  {:<14} {state}{colon}{reason}; {} secrets, {bad} bad lines; {} sessions decrypted, {} not; {} records did not open",
            "TLS key log",
            count(KeyLogCounter::Secrets.metric()),
            count(WorkerCounter::TlsDecrypted.metric()),
            count(WorkerCounter::TlsUndecrypted.metric()),
            count(WorkerCounter::TlsRecordsFailed.metric()),
        )
    }

    fn fmt_calls(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use WorkerCounter as Counter;
        let count = |counter: Counter| self.counters.get(counter.metric()).copied().unwrap_or(0);
        writeln!(
            f,
            "  {:<14} {} under way; {} begun, {} of them matched; {} ended, {} timed out, {} evicted",
            "calls",
            self.calls.under_way,
            count(Counter::CallsStarted),
            count(Counter::CallsMatched),
            count(Counter::CallsEnded),
            count(Counter::CallsTimedOut),
            count(Counter::CallsEvicted),
        )?;
        writeln!(
            f,
            "  {:<14} {} calls that are forwarded lost {} packets here; {} packets were shed by call",
            "incomplete",
            count(Counter::CallsIncomplete),
            count(Counter::LostOfCalls),
            count(Counter::ShedByCall),
        )?;
        writeln!(
            f,
            "  {:<14} {} SIP messages, {} of them malformed; media: {} packets, {} lost, {} late; {} sent to their call's worker",
            "in calls",
            count(Counter::SipMessages),
            count(Counter::SipMalformed),
            count(Counter::RtpPackets),
            count(Counter::RtpLost),
            count(Counter::RtpReordered),
            self.counters
                .get(CaptureCounter::SteeredMedia.metric())
                .unwrap_or(&0),
        )?;
        let [held, forwarded, released, dropped] = [
            Counter::Held,
            Counter::HeldForwarded,
            Counter::HeldReleased,
            Counter::HeldDropped,
        ]
        .map(count);
        writeln!(
            f,
            "  {:<14} {} packets wait for a verdict; of {held} so far {forwarded} were forwarded, {released} not wanted, {dropped} dropped",
            "held",
            held.saturating_sub(forwarded + released + dropped),
        )?;
        writeln!(
            f,
            "  {:<14} of the fullest worker: {} for calls, {} for packets that wait",
            "call memory",
            self.calls.fullest(|logs| logs.calls),
            self.calls.fullest(|logs| logs.held),
        )
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = self.bytes.div_ceil(1 << 20);
        write!(f, "{mib} of {} MiB", self.limit.div_ceil(1 << 20))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.run_dir.display())?;
        for process in &self.processes {
            let Process {
                name,
                pid,
                epoch,
                version,
                heartbeat_age_ms: age,
                cpus,
                sandbox,
                ..
            } = process;
            let state = if process.alive {
                "running"
            } else {
                "NOT RUNNING"
            };
            writeln!(
                f,
                "  {name:<14} {state}, pid {pid}, version {version}, start {epoch}, heartbeat {age} ms ago, CPUs {cpus}"
            )?;
            writeln!(f, "  {:<14} sandbox {}", "", sandbox.summary)?;
        }
        for (index, capture) in self.captures.iter().enumerate() {
            let interfaces = capture.interfaces.join(", ");
            write!(
                f,
                "  {:<14} {}: {interfaces}",
                format!("capture {index}"),
                capture.state
            )?;
            let reason = &capture.reason;
            writeln!(
                f,
                "{}",
                if reason.is_empty() {
                    String::new()
                } else {
                    format!(" ({reason})")
                }
            )?;
        }
        for (worker, share) in self.steering.iter().enumerate() {
            let packets = share.steered_away_packets;
            if share.away {
                let note = "is down, the others have its share";
                writeln!(
                    f,
                    "  {:<14} lc-workerd {worker} {note}: {packets} packets so far",
                    "steering"
                )?;
            } else if packets > 0 {
                let note = "was down, the others had its share";
                writeln!(
                    f,
                    "  {:<14} lc-workerd {worker} {note}: {packets} packets",
                    "steering"
                )?;
            }
        }
        let Processor {
            connection,
            peer,
            processors,
            last_error,
        } = &self.processor;
        write!(f, "  {:<14} {connection} {peer}", "processor")?;
        let error = if last_error.is_empty() {
            String::new()
        } else {
            format!(" (last error: {last_error})")
        };
        writeln!(f, "{error}")?;
        let states: Vec<String> = (1..)
            .zip(processors)
            .map(|(n, one)| {
                let in_use = if one.in_use { ", in use" } else { "" };
                format!("{n} {}{in_use}", one.breaker)
            })
            .collect();
        if !states.is_empty() {
            writeln!(f, "  {:<14} {}", "breakers", states.join("; "))?;
        }
        let Disk {
            state,
            packets,
            bytes,
            limit,
        } = self.disk;
        match limit {
            0 => writeln!(f, "  {:<14} {state}", "disk buffer")?,
            _ => writeln!(
                f,
                "  {:<14} {state}, {packets} packets, {} of {} MiB",
                "disk buffer",
                bytes.div_ceil(1 << 20),
                limit >> 20
            )?,
        }
        let Filters {
            generation,
            enabled,
            bpf_active,
            bpf_refused,
            ..
        } = &self.filters;
        writeln!(
            f,
            "  {:<14} generation {generation}, {enabled} enabled, BPF {bpf_active} in force, {bpf_refused} refused",
            "filters"
        )?;
        if self.key_log.state != "off" {
            self.fmt_key_log(f)?;
        }
        if self.calls.are_followed() {
            self.fmt_calls(f)?;
        }
        writeln!(f, "  {:<14} {} pages", "rings", self.ring_memory)?;
        write!(f, "{}", self.ledger)
    }
}
