//! Very many calls at the same time, through the real processes: what a call costs in memory, and a packet in time.
//!
//! The calls are a [`Trunk`]'s. The capture daemon, which is this program, lets their phases begin one by one; before each, and when all packets of one have been
//! judged, counters in shared memory, processor time and memory of the workers are read. What is reported of a phase is the difference. So set-up, media of calls that nobody wants, media of calls
//! that are wanted, and both together are each measured alone, while all calls stand.
//!
//! At the end it is checked that nothing was lost: what was forwarded and acknowledged is exactly what belongs to the wanted calls, and the ledger balances.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use lc_capd::bpf::Expression;
use lc_capd::source::{
    Deliver, FullRing, Packet, Poll, Predecessor, Source, SourceError, State, Status,
};
use lc_daemon::attach::Observer;
use lc_daemon::config::{NoFilterPolicy, Voip};
use lc_daemon::exit::Exit;
use lc_daemon::signals::Signals;
use lc_hunt::ledger::Ledger;
use lc_hunt::supervisor::{ChildStatus, Next, Supervisor, SupervisorConfig, SupervisorError};
use lc_workerd::decode::decode;
use lc_workerd::desk::hand::Sight;
use lc_workerd::flows::NoMemory;
use lc_workerd::matcher::{FilterSet, Judge};
use lc_workerd::reassembly;
use lc_workerd::voip::analyser::Analyser;
use lc_workerd::voip::settings::Settings;
use lc_workerd::voip::streams::SipStreams;
use lc_workerd::voip::switchboard::{Elsewhere, Switchboard};
use shm_layout::counters::{CaptureCounter, ForwardCounter, WorkerCounter};
use shm_layout::packet::PacketHeader;
use thiserror::Error;

use crate::generate::{Phase, SettingsError, Trunk, TrunkSettings};
use crate::throughput::{self, Processes, RunFolder, Sink, ThroughputError};

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Folder of the product's programs.
    pub programs: PathBuf,
    /// This program.
    pub own_program: PathBuf,
    /// The calls.
    pub trunk: TrunkSettings,
    /// Worker processes.
    pub workers: usize,
    /// Further lines of the daemons' configuration, as TOML.
    pub settings: Vec<String>,
}

/// What was measured.
#[derive(Debug, Clone)]
pub struct Report {
    /// Each phase that has packets.
    pub phases: Vec<Measured>,
    /// What each call takes, in bytes, once all have media.
    pub memory: Memory,
    /// Packets forwarded, and acknowledged by the processor: exactly those of the wanted calls.
    pub forwarded: u64,
    /// Packets captured.
    pub captured: u64,
}

/// What was measured of a phase.
#[derive(Debug, Clone, Copy)]
pub struct Measured {
    /// Which.
    pub phase: Phase,
    /// Its packets.
    pub packets: u64,
    /// Those of wanted calls.
    pub wanted: u64,
    /// From its beginning until all of them were judged, in seconds.
    pub seconds: f64,
    /// Nanoseconds of processor time of the workers for each packet.
    pub worker_ns: f64,
}

/// Bytes a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    /// The workers' own memory, by which it grew.
    pub private: f64,
    /// Places in the flow table, which has its size from the start.
    pub flows: f64,
    /// In the log of calls, in shared memory.
    pub log: f64,
    /// What a worker reckons that a call takes, when it keeps within its bounds.
    pub reckoned: f64,
}

impl Memory {
    /// All that a call takes.
    #[must_use]
    pub fn all(&self) -> f64 {
        self.private + self.flows + self.log
    }
}

/// Why calls could not be measured, or what went wrong with them.
#[derive(Debug, Error)]
pub enum CallsError {
    /// The processes could not be run.
    #[error(transparent)]
    Throughput(#[from] ThroughputError),
    /// The calls could not be made.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// There is no memory for the flow table of the reckoning.
    #[error(transparent)]
    NoMemory(#[from] NoMemory),
    /// There is none for its TCP streams.
    #[error(transparent)]
    NoMemoryForStreams(#[from] reassembly::NoMemory),
    /// Nothing went on.
    #[error("no packet was judged for {} s in the phase {phase:?}; are all filters in force?", PATIENCE.as_secs())]
    Stuck {
        /// Where.
        phase: Phase,
    },
    /// Packets went where they don't belong.
    #[error("{what}: {found} packets in the place of {expected}")]
    Wrong {
        /// Which.
        what: &'static str,
        /// As the counters say.
        found: u64,
        /// As it ought to be.
        expected: u64,
    },
    /// The ledger does not balance.
    #[error("the ledger does not balance: {0}")]
    Ledger(String),
}

impl From<SupervisorError> for CallsError {
    fn from(error: SupervisorError) -> Self {
        Self::Throughput(error.into())
    }
}

/// Longest time without a packet.
const PATIENCE: Duration = Duration::from_secs(60);
/// Memory for what a worker knows of a call, by which its bounds are set.
const MOST_BYTES: u64 = 4 << 10;
const ETHERNET: u16 = 1;

/// Runs the processes through all phases, and checks what came of it.
///
/// # Errors
///
/// [`CallsError`]
pub fn measure(plan: &Plan, signals: &Signals) -> Result<Report, CallsError> {
    let reckoned = reckon(plan.trunk)?;
    let folder = RunFolder::new()?;
    let filters = match plan.trunk.wanted().next() {
        Some(_) => Some(folder.write("filters.toml", &filter_file(plan.trunk))?),
        None => None,
    };
    let discard = ["--discard".as_ref()];
    let sink = Sink::start(&plan.programs, &folder, filters.as_deref(), &discard)?;
    let mib = (plan.trunk.calls * MOST_BYTES) >> 20;
    let mut settings = vec![
        "hunter.mode = \"voip\"".to_owned(),
        format!("hunter.voip.calls_mb = {}", mib.clamp(64, 1024)),
    ];
    settings.extend_from_slice(&plan.settings);
    let processes = Processes {
        programs: &plan.programs,
        own_program: &plan.own_program,
        workers: plan.workers,
        policy: "deny",
        settings: &settings,
    };
    let config = folder.write("config.toml", &processes.configuration(&folder, sink.port))?;
    let TrunkSettings {
        calls,
        wanted_percent,
        rounds,
        ..
    } = plan.trunk;
    let flags = [
        ("--calls", calls),
        ("--matched", wanted_percent.into()),
        ("--rounds", rounds),
    ];
    let mut capture = vec!["calls-capture".into()];
    for (flag, value) in flags {
        capture.extend([flag.into(), value.to_string().into()]);
    }
    let mut supervisor = Supervisor::new(SupervisorConfig {
        children: processes.children(&capture, &config),
        notify_socket: folder.path.join("notify.sock"),
        shutdown_timeout: Duration::from_secs(30),
    })?;
    let mut run = Run {
        plan,
        folder: &folder.path,
        packets: Phase::ALL.map(|phase| plan.trunk.packets(phase)),
        observer: None,
        looks: Vec::new(),
        began: Instant::now(),
        moved: (0, Instant::now()),
        result: None,
    };
    let exit = supervisor.run(signals, |children| run.look(children))?;
    let mut report = match run.result {
        Some(result) => result?,
        None => return Err(ThroughputError::Ended(exit.code()).into()),
    };
    report.memory.reckoned = reckoned;
    Ok(report)
}

/// The wanted calls' callers, each by a filter of its own.
fn filter_file(trunk: TrunkSettings) -> String {
    let filters = trunk.wanted().map(|caller| {
        format!(
            "[[filters]]\nid = \"{caller}\"\ntype = \"sip_user\"\npattern = \"{caller}\"\nenabled = true\n\n"
        )
    });
    filters.collect()
}

/// The bytes of each call as a worker reckons them, which keeps within its bounds by that.
fn reckon(settings: TrunkSettings) -> Result<f64, CallsError> {
    let mut trunk = Trunk::new(TrunkSettings {
        rounds: 1,
        ..settings
    })?;
    let board = Switchboard::new(usize::MAX, Elsewhere::Nothing);
    let streams = SipStreams::new(Settings::of(&Voip::default()))?;
    let mut analyser = Analyser::new(64 << 20, streams, board)?;
    let filters = FilterSet::none(NoFilterPolicy::Allow);
    let judge = Judge {
        filters: &filters,
        bpf_active: false,
    };
    let mut sequence = 0;
    while trunk.phase() != Phase::End {
        while trunk.advance() {
            let packet = trunk.packet();
            let header = PacketHeader {
                sequence,
                timestamp_ns: packet.time_ns,
                captured_len: packet.bytes.len() as u32,
                original_len: packet.bytes.len() as u32,
                link_type: ETHERNET,
                interface: 0,
                flow_hash: 0,
            };
            let decoded = decode(ETHERNET, packet.bytes);
            let sight = Sight {
                header: &header,
                decoded: &decoded,
                frame: packet.bytes,
            };
            analyser
                .board
                .see(judge, sequence, packet.time_ns, |_| true);
            analyser.look(judge, &sight);
            sequence += 1;
        }
        trunk.next_phase();
    }
    let calls = analyser.board.calls();
    Ok(calls.bytes() as f64 / calls.len().max(1) as f64)
}

/// Leads the processes through the phases.
struct Run<'a> {
    plan: &'a Plan,
    folder: &'a Path,
    /// Packets of each phase, and those of wanted calls.
    packets: [[u64; 2]; Phase::ALL.len()],
    observer: Option<Observer>,
    /// Before the first phase, and behind each that has begun and ended.
    looks: Vec<Look>,
    /// When the phase at hand began.
    began: Instant,
    /// Packets judged, and when there were fewer.
    moved: (u64, Instant),
    result: Option<Result<Report, CallsError>>,
}

impl Run<'_> {
    fn look(&mut self, children: &[ChildStatus<'_>]) -> Next {
        self.result = self.advance(children).transpose();
        match self.result {
            None => Next::Continue,
            Some(_) => Next::End,
        }
    }

    fn advance(&mut self, children: &[ChildStatus<'_>]) -> Result<Option<Report>, CallsError> {
        let phase = Phase::ALL[self.looks.len().saturating_sub(1)];
        if self.moved.1.elapsed() > PATIENCE {
            return Err(CallsError::Stuck { phase });
        }
        if !children.iter().all(|child| child.ready) {
            return Ok(None);
        }
        if self.observer.is_none() {
            self.observer = Some(Observer::attach(self.folder).map_err(ThroughputError::from)?);
        }
        let Some(observer) = &self.observer else {
            return Ok(None);
        };
        let now = Look::take(observer, children)?;
        if now.judged != self.moved.0 {
            self.moved = (now.judged, now.at);
        }
        let ended = match self.looks.last() {
            None => self.filters_are_in_force(observer),
            Some(_) => now.judged == self.expected(self.looks.len())[0],
        };
        if !ended {
            return Ok(None);
        }
        let is_last = self.looks.len() == Phase::ALL.len();
        if is_last && now.acked != now.forwarded {
            return Ok(None);
        }
        if is_last {
            check(observer, &now, self.expected(Phase::ALL.len()))?;
        }
        self.looks.push(Look {
            began: self.began,
            ..now
        });
        if is_last {
            return Ok(Some(self.report()));
        }
        self.began = Instant::now();
        self.moved.1 = self.began;
        let begin = gate(self.folder, self.looks.len() - 1);
        fs::write(&begin, "").map_err(|source| ThroughputError::System {
            what: format!("write {}", begin.display()),
            source,
        })?;
        Ok(None)
    }

    fn filters_are_in_force(&self, observer: &Observer) -> bool {
        let wanted = self.plan.trunk.wanted().count() as u64;
        let generation = observer.forwarder.filter_generation();
        let follows = |worker: &shm_layout::region::Region<shm_layout::worker::Worker>| {
            worker.filter_generation() == generation
        };
        observer.forwarder.filter_count() == wanted
            && (generation > 0 || wanted == 0)
            && observer.workers.iter().all(follows)
    }

    /// Packets of the first phases together, and those of wanted calls.
    fn expected(&self, phases: usize) -> [u64; 2] {
        let packets = self.packets[..phases].iter();
        packets.fold([0; 2], |sum, packets| {
            [sum[0] + packets[0], sum[1] + packets[1]]
        })
    }

    fn report(&self) -> Report {
        let phases = Phase::ALL.iter().zip(self.packets);
        let phases = phases.zip(self.looks.windows(2));
        let phases = phases.filter_map(|((phase, [packets, wanted]), looks)| {
            let [before, after] = looks else {
                return None;
            };
            (packets > 0).then(|| Measured {
                phase: *phase,
                packets,
                wanted,
                seconds: after.at.duration_since(after.began).as_secs_f64(),
                worker_ns: (after.worker_ns - before.worker_ns) as f64 / packets as f64,
            })
        });
        let phases = phases.collect();
        // All calls stand, and have media.
        let (first, full) = (&self.looks[0], &self.looks[Phase::ALL.len() - 1]);
        let last = self.looks.last().unwrap_or(first);
        let calls = self.plan.trunk.calls as f64;
        Report {
            phases,
            memory: Memory {
                private: full.private_bytes.saturating_sub(first.private_bytes) as f64 / calls,
                flows: full.flows as f64 * Analyser::BYTES_PER_FLOW as f64 / calls,
                log: full.log_bytes as f64 / calls,
                reckoned: 0.0,
            },
            forwarded: last.forwarded,
            captured: last.captured,
        }
    }
}

/// The file whose appearance lets a phase begin.
fn gate(folder: &Path, phase: usize) -> PathBuf {
    folder.join(format!("phase-{phase}"))
}

/// All counters, times and sizes at one moment.
struct Look {
    at: Instant,
    /// When the phase before it began.
    began: Instant,
    captured: u64,
    judged: u64,
    forwarded: u64,
    acked: u64,
    /// Processor time of all workers.
    worker_ns: u64,
    /// Memory of all workers that nothing else has.
    private_bytes: u64,
    flows: u64,
    log_bytes: u64,
}

impl Look {
    fn take(observer: &Observer, children: &[ChildStatus<'_>]) -> Result<Self, CallsError> {
        let torn = |_| CallsError::Ledger("counters can't be read".to_owned());
        let mut look = Self {
            at: Instant::now(),
            began: Instant::now(),
            captured: throughput::captured(observer),
            judged: 0,
            forwarded: 0,
            acked: (observer.forwarder.commit().map_err(torn)?).get(ForwardCounter::Acked),
            worker_ns: 0,
            private_bytes: 0,
            flows: 0,
            log_bytes: 0,
        };
        for worker in &observer.workers {
            use WorkerCounter::{FlowsCreated, FlowsEvicted, FlowsIdle, FlowsOver};
            let commit = worker.commit().map_err(torn)?;
            look.judged += commit.get(WorkerCounter::Received);
            look.forwarded += commit.get(WorkerCounter::Forwarded);
            let gone = [FlowsIdle, FlowsOver, FlowsEvicted].map(|counter| commit.get(counter));
            look.flows += commit.get(FlowsCreated) - gone.iter().sum::<u64>();
            look.log_bytes += commit.calls().used();
        }
        let workers = children
            .iter()
            .filter(|child| child.name.starts_with("worker"));
        for child in workers {
            let pid = child.pid.unwrap_or_default();
            look.worker_ns += throughput::processor_time(pid)?;
            look.private_bytes += throughput::status_kib(pid, "RssAnon:")? << 10;
        }
        Ok(look)
    }
}

/// What must be true when all has been said.
fn check(observer: &Observer, now: &Look, expected: [u64; 2]) -> Result<(), CallsError> {
    let torn = |_| CallsError::Ledger("counters can't be read".to_owned());
    let of_workers = |counter: WorkerCounter| -> Result<u64, CallsError> {
        let mut sum = 0;
        for worker in &observer.workers {
            sum += worker.commit().map_err(torn)?.get(counter);
        }
        Ok(sum)
    };
    let capture = observer
        .session
        .queue_commit(0, observer.geometry.workers)
        .map_err(torn)?;
    let dropped = capture.get(CaptureCounter::RingFull) + capture.get(CaptureCounter::TooLong);
    let facts = [
        ("captured", now.captured, expected[0]),
        ("dropped by the capture", dropped, 0),
        ("forwarded", now.forwarded, expected[1]),
        ("acknowledged", now.acked, expected[1]),
        (
            "given up while they waited",
            of_workers(WorkerCounter::HeldDropped)?,
            0,
        ),
        ("shed", of_workers(WorkerCounter::ShedByCall)?, 0),
        (
            "of calls forgotten for want of memory",
            of_workers(WorkerCounter::CallsEvicted)?,
            0,
        ),
        ("told as lost media", of_workers(WorkerCounter::RtpLost)?, 0),
    ];
    for (what, found, expected) in facts {
        if found != expected {
            return Err(CallsError::Wrong {
                what,
                found,
                expected,
            });
        }
    }
    let ledger = Ledger::read(observer).map_err(torn)?;
    match ledger.balanced {
        true => Ok(()),
        false => Err(CallsError::Ledger(ledger.to_string())),
    }
}

/// The capture daemon of the measurement: the calls, phase by phase, each when it may begin.
///
/// # Errors
///
/// A text that says what is wrong with the configuration or the settings.
pub fn capture(config: &Path, settings: TrunkSettings) -> Result<Exit, Box<dyn std::error::Error>> {
    throughput::capture_source(config, |config, interfaces| {
        Ok(Calls {
            trunk: Trunk::new(settings)?,
            gates: config.runtime_dir.clone(),
            has_begun: false,
            is_made: false,
            interface: interfaces.register("calls", ETHERNET),
            sequence: 0,
            stopped: false,
        })
    })
}

/// Packets of a [`Trunk`].
struct Calls {
    trunk: Trunk,
    /// Where gates open.
    gates: PathBuf,
    /// Whether that of the phase at hand is open.
    has_begun: bool,
    /// Whether a packet has been made that nobody has taken.
    is_made: bool,
    interface: u16,
    sequence: u64,
    stopped: bool,
}

impl Calls {
    fn may_begin(&mut self) -> bool {
        let phases = Phase::ALL.iter();
        let phase = phases.take_while(|phase| **phase != self.trunk.phase());
        self.has_begun = self.has_begun || gate(&self.gates, phase.count()).exists();
        self.has_begun
    }
}

impl Source for Calls {
    fn name(&self) -> &str {
        "calls"
    }

    fn full_ring(&self) -> FullRing {
        FullRing::Wait
    }

    /// Its daemon is never started again.
    fn resume(&mut self, _: &Predecessor) -> bool {
        false
    }

    fn position(&self) -> u64 {
        self.sequence
    }

    fn poll(&mut self, max: usize, deliver: &mut Deliver<'_>) -> Result<Poll, SourceError> {
        if self.stopped {
            return Ok(Poll::Finished);
        }
        if !self.may_begin() {
            thread::sleep(Duration::from_millis(5));
            return Ok(Poll::Dry);
        }
        for _ in 0..max {
            self.is_made = self.is_made || self.trunk.advance();
            if !self.is_made {
                self.has_begun = false;
                return Ok(match self.trunk.next_phase() {
                    true => Poll::Dry,
                    false => Poll::Finished,
                });
            }
            let frame = self.trunk.packet();
            let packet = Packet {
                sequence: self.sequence,
                timestamp_ns: frame.time_ns,
                original_length: frame.bytes.len() as u32,
                link_type: ETHERNET,
                interface: self.interface,
                data: frame.bytes,
            };
            if let ControlFlow::Break(()) = deliver(&packet) {
                break;
            }
            self.is_made = false;
            self.sequence += 1;
        }
        Ok(Poll::More)
    }

    /// All frames are the measurement's.
    fn set_filter(&mut self, _: &Expression) -> Result<(), lc_capd::bpf::FilterError> {
        Ok(())
    }

    fn status(&mut self) -> Status {
        Status {
            state: State::Up,
            received: self.sequence,
            ..Status::default()
        }
    }

    fn stop(&mut self) {
        self.stopped = true;
    }

    fn leave(&mut self) -> bool {
        false
    }
}
