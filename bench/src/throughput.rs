//! The whole packet path as real processes, fed from memory: how fast, and where the time goes.
//!
//! One *cell* is one frame size with one number of flows; [`crate::modes`] measures other traffic in the same way. For it a discarding `lc-sink`, this
//! program as capture daemon with a [`crate::memory_source`], the real `lc-workerd`s and the real
//! `lc-fwdd` are started. After a warm-up, counters in shared memory and processor time of each
//! process are read twice; everything reported is the difference.
//!
//! Rates count frame bytes without preamble and check sequence. The time of a stage is the
//! processor time of all its threads divided by the packets captured, waiting by spinning included.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use lc_capd::source::{Interfaces, Source};
use lc_daemon::attach::{AttachError, Observer};
use lc_daemon::config::Config;
use lc_daemon::exit::Exit;
use lc_daemon::signals::Signals;
use lc_hunt::supervisor::{
    ChildSpec, ChildStatus, Next, Supervisor, SupervisorConfig, SupervisorError,
};
use shm_layout::counters::{CaptureCounter, ForwardCounter, WorkerCounter};
use thiserror::Error;

use crate::generate::{Flood, FloodSettings, Memory, Order, SettingsError};
use crate::memory_source::MemorySource;

/// What to measure.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Folder of the product's programs.
    pub programs: PathBuf,
    /// This program.
    pub own_program: PathBuf,
    /// What the processor asks for.
    pub load: Load,
    /// Worker processes.
    pub workers: usize,
    /// Measured time of each cell.
    pub time: Duration,
    /// Further lines of the daemons' configuration, as TOML.
    pub settings: Vec<String>,
}

/// What becomes of the packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// No filter and policy `allow`: everything goes to the processor.
    Allow,
    /// This many address and prefix filters, none of which matches: nothing goes.
    Filters(usize),
    /// This many filters by what is asked for (users, names, hosts, addresses of mail), none of which matches: nothing goes.
    Names(usize),
}

/// One frame size with one number of flows.
#[derive(Debug, Clone, Copy)]
pub struct Cell {
    /// Bytes of a frame.
    pub size: u16,
    /// Flows, one after the other.
    pub flows: usize,
}

impl Cell {
    /// The capture daemon's command and flags, as [`measure`] wants them.
    #[must_use]
    pub fn capture(self) -> Vec<OsString> {
        let flags = [
            "capture",
            "--size",
            &self.size.to_string(),
            "--flows",
            &self.flows.to_string(),
        ];
        flags.map(OsString::from).to_vec()
    }
}

/// What was measured in a cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Packets captured per second.
    pub packets_per_second: f64,
    /// Captured frame bytes, in gigabits per second.
    pub gbit_per_second: f64,
    /// Packets acknowledged by the processor per second.
    pub acked_per_second: f64,
    /// Packets dropped anywhere.
    pub dropped: u64,
    /// Nanoseconds of processor time per captured packet, by process: name and time.
    pub stages: Vec<(String, f64)>,
}

/// Why a cell could not be measured.
#[derive(Debug, Error)]
pub enum ThroughputError {
    /// A file or process could not be made or read.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The processor did not open its port.
    #[error("lc-sink did not start within {} s", START.as_secs())]
    Sink,
    /// The daemons could not be run.
    #[error(transparent)]
    Supervisor(#[from] SupervisorError),
    /// The shared memory could not be looked at.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// The daemons ended before the measurement did.
    #[error("the daemons ended too soon, with exit code {0}; their log says why")]
    Ended(u8),
    /// No packet was captured in the measured time.
    #[error("no packet passed within {} s; are all filters in force?", START.as_secs())]
    Nothing,
}

/// Longest time until packets flow.
const START: Duration = Duration::from_secs(60);
const WARM_UP: Duration = Duration::from_secs(2);

/// Measures the packets of this program's capture daemon, which `capture` starts: its command and flags.
///
/// # Errors
///
/// [`ThroughputError`]
pub fn measure(
    plan: &Plan,
    capture: &[OsString],
    signals: &Signals,
) -> Result<Measured, ThroughputError> {
    let folder = RunFolder::new()?;
    let filters = match plan.load {
        Load::Allow => None,
        Load::Filters(count) => Some(filter_file(addresses(count))),
        Load::Names(count) => Some(filter_file(names(count))),
    };
    let filters = match filters {
        Some(text) => Some(folder.write("filters.toml", &text)?),
        None => None,
    };
    let sink = Sink::start(
        &plan.programs,
        &folder,
        filters.as_deref(),
        &["--discard".as_ref()],
    )?;
    let processes = Processes {
        programs: &plan.programs,
        own_program: &plan.own_program,
        workers: plan.workers,
        policy: match plan.load {
            Load::Allow => "allow",
            Load::Filters(_) | Load::Names(_) => "deny",
        },
        settings: &plan.settings,
    };
    let config = folder.write("config.toml", &processes.configuration(&folder, sink.port))?;
    let mut supervisor = Supervisor::new(SupervisorConfig {
        children: processes.children(capture, &config),
        notify_socket: folder.path.join("notify.sock"),
        shutdown_timeout: Duration::from_secs(10),
    })?;
    let mut watch = Watch::new(plan, &folder, &sink);
    let exit = supervisor.run(signals, |children| watch.look(children))?;
    match watch.result {
        Some(result) => result,
        None => Err(ThroughputError::Ended(exit.code())),
    }
}

/// The product's daemons, with this program for the capture daemon.
pub(crate) struct Processes<'a> {
    /// Folder of the product's programs.
    pub programs: &'a Path,
    /// This program.
    pub own_program: &'a Path,
    /// Worker processes.
    pub workers: usize,
    /// What happens to packets while there is no filter.
    pub policy: &'a str,
    /// Further lines of the configuration.
    pub settings: &'a [String],
}

impl Processes<'_> {
    /// Their configuration: the source is named, but this program's capture daemon puts memory in its place.
    pub(crate) fn configuration(&self, folder: &RunFolder, port: u16) -> String {
        let mut text = format!(
            "hunter.runtime_dir = \"{}\"\nhunter.processor_addr = \"127.0.0.1:{port}\"\n\
             hunter.insecure = true\nhunter.read_files = [\"memory\"]\nhunter.workers = {}\n\
             hunter.no_filter_policy = \"{}\"\nhunter.log_level = \"warn\"\n",
            folder.path.display(),
            self.workers,
            self.policy,
        );
        for line in self.settings {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    /// How to start them. `capture`: the capture daemon's command and flags.
    pub(crate) fn children(&self, capture: &[OsString], config: &Path) -> Vec<ChildSpec> {
        let child = |name: String, program: &Path, before: &[OsString], stage| ChildSpec {
            name,
            program: program.to_owned(),
            args: [before, &["--config".into(), config.into()]].concat(),
            stage,
            restart: false,
        };
        let mut children = vec![child("capture".into(), self.own_program, capture, 0)];
        for index in 0..self.workers {
            let program = self.programs.join("lc-workerd");
            let before = ["--index".into(), index.to_string().into()];
            children.push(child(format!("worker {index}"), &program, &before, 1));
        }
        children.push(child(
            "forwarder".into(),
            &self.programs.join("lc-fwdd"),
            &[],
            2,
        ));
        children
    }
}

/// A file of filters: type and pattern of each.
fn filter_file(filters: impl Iterator<Item = (&'static str, String)>) -> String {
    let mut text = String::new();
    for (number, (kind, pattern)) in filters.enumerate() {
        text.push_str(&format!(
            "[[filters]]\nid = \"f{number}\"\ntype = \"{kind}\"\npattern = \"{pattern}\"\nenabled = true\n\n"
        ));
    }
    text
}

/// Addresses and prefixes in blocks that the generated traffic never uses, one in eight for IPv6.
fn addresses(count: usize) -> impl Iterator<Item = (&'static str, String)> {
    (0..count as u32).map(|number| {
        let pattern = match number % 8 {
            7 => format!(
                "{}",
                Ipv6Addr::from_bits(0xfd00 << 112 | u128::from(number))
            ),
            even if even % 2 == 0 => format!("{}", Ipv4Addr::from_bits(0x6440_0000 + number)),
            _ => format!("{}/24", Ipv4Addr::from_bits(0x6500_0000 + (number << 8))),
        };
        ("ip_address", pattern)
    })
}

/// What nobody asks for in the generated traffic, of each kind by turns.
fn names(count: usize) -> impl Iterator<Item = (&'static str, String)> {
    (0..count).map(|number| match number % 5 {
        0 => ("sip_user", format!("+88160{number:06}")),
        1 => ("dns_domain", format!("*.domain{number}.invalid")),
        2 => ("http_host", format!("host{number}.invalid")),
        3 => ("tls_sni", format!("*.server{number}.invalid")),
        _ => ("email_address", format!("user{number}@mail.invalid")),
    })
}

/// Follows the daemons until enough was seen.
struct Watch<'a> {
    plan: &'a Plan,
    folder: &'a RunFolder,
    sink: &'a Sink,
    started: Instant,
    observer: Option<Observer>,
    /// When the first packet was seen.
    flowing: Option<Instant>,
    before: Option<Look>,
    result: Option<Result<Measured, ThroughputError>>,
}

impl<'a> Watch<'a> {
    fn new(plan: &'a Plan, folder: &'a RunFolder, sink: &'a Sink) -> Self {
        Self {
            plan,
            folder,
            sink,
            started: Instant::now(),
            observer: None,
            flowing: None,
            before: None,
            result: None,
        }
    }

    /// One look; ends the run when all is measured or nothing will be.
    fn look(&mut self, children: &[ChildStatus<'_>]) -> Next {
        match self.advance(children) {
            Ok(None) => Next::Continue,
            Ok(Some(measured)) => {
                self.result = Some(Ok(measured));
                Next::End
            }
            Err(error) => {
                self.result = Some(Err(error));
                Next::End
            }
        }
    }

    fn advance(
        &mut self,
        children: &[ChildStatus<'_>],
    ) -> Result<Option<Measured>, ThroughputError> {
        if !children.iter().all(|child| child.ready) {
            return self.in_time();
        }
        let observer = match &self.observer {
            Some(observer) => observer,
            None => self.observer.insert(Observer::attach(&self.folder.path)?),
        };
        if captured(observer) == 0 {
            return self.in_time();
        }
        let flowing = *self.flowing.get_or_insert_with(Instant::now);
        if flowing.elapsed() < WARM_UP {
            return Ok(None);
        }
        let Some(before) = &self.before else {
            self.before = Some(Look::take(observer, children, self.sink)?);
            return Ok(None);
        };
        if before.at.elapsed() < self.plan.time {
            return Ok(None);
        }
        let after = Look::take(observer, children, self.sink)?;
        before.until(&after).map(Some)
    }

    /// Nothing yet: an error if that lasts too long.
    fn in_time(&self) -> Result<Option<Measured>, ThroughputError> {
        if self.started.elapsed() > START {
            return Err(ThroughputError::Nothing);
        }
        Ok(None)
    }
}

/// Packets captured so far.
pub(crate) fn captured(observer: &Observer) -> u64 {
    let commit = observer.session.queue_commit(0, observer.geometry.workers);
    commit.map_or(0, |commit| commit.get(CaptureCounter::Captured))
}

/// All counters and times at one moment.
struct Look {
    at: Instant,
    captured: u64,
    captured_bytes: u64,
    acked: u64,
    dropped: u64,
    /// Processor time of each process in nanoseconds.
    processor_ns: Vec<(String, u64)>,
}

impl Look {
    fn take(
        observer: &Observer,
        children: &[ChildStatus<'_>],
        sink: &Sink,
    ) -> Result<Self, ThroughputError> {
        let torn = |what: &str| {
            let what = format!("read the counters of the {what}");
            move |_| ThroughputError::System {
                what,
                source: io::ErrorKind::InvalidData.into(),
            }
        };
        let capture = observer
            .session
            .queue_commit(0, observer.geometry.workers)
            .map_err(torn("capture"))?;
        let forwarder = observer.forwarder.commit().map_err(torn("forwarder"))?;
        let mut dropped = capture.get(CaptureCounter::RingFull)
            + capture.get(CaptureCounter::TooLong)
            + forwarder.get(ForwardCounter::Dropped);
        for worker in &observer.workers {
            let commit = worker.commit().map_err(torn("worker"))?;
            dropped += commit.get(WorkerCounter::LostTooLong) + commit.get(WorkerCounter::Shed);
        }
        let mut processor_ns = Vec::new();
        for child in children {
            let pid = child.pid.unwrap_or_default();
            processor_ns.push((child.name.to_owned(), processor_time(pid)?));
        }
        processor_ns.push(("sink".to_owned(), processor_time(sink.child.id())?));
        Ok(Self {
            at: Instant::now(),
            captured: capture.get(CaptureCounter::Captured),
            captured_bytes: capture.get(CaptureCounter::CapturedBytes),
            acked: forwarder.get(ForwardCounter::Acked),
            dropped,
            processor_ns,
        })
    }

    /// What happened from this look to a later one.
    fn until(&self, later: &Self) -> Result<Measured, ThroughputError> {
        let seconds = later.at.duration_since(self.at).as_secs_f64();
        let packets = later.captured.saturating_sub(self.captured);
        if packets == 0 {
            return Err(ThroughputError::Nothing);
        }
        let bytes = later.captured_bytes.saturating_sub(self.captured_bytes);
        let stages = self.processor_ns.iter().zip(&later.processor_ns);
        Ok(Measured {
            packets_per_second: packets as f64 / seconds,
            gbit_per_second: bytes as f64 * 8.0 / seconds / 1e9,
            acked_per_second: later.acked.saturating_sub(self.acked) as f64 / seconds,
            dropped: later.dropped.saturating_sub(self.dropped),
            stages: stages
                .map(|((name, before), (_, after))| {
                    let time = after.saturating_sub(*before);
                    (name.clone(), time as f64 / packets as f64)
                })
                .collect(),
        })
    }
}

/// Nanoseconds that all threads of process `pid` have spent on a processor.
pub(crate) fn processor_time(pid: u32) -> Result<u64, ThroughputError> {
    let folder = format!("/proc/{pid}/task");
    let failed = |source| ThroughputError::System {
        what: format!("read {folder}"),
        source,
    };
    let mut total = 0;
    for task in fs::read_dir(&folder).map_err(failed)? {
        let path = task.map_err(failed)?.path().join("schedstat");
        let text = fs::read_to_string(path).map_err(failed)?;
        let first = text.split(' ').next().unwrap_or_default();
        total += first.parse::<u64>().unwrap_or_default();
    }
    Ok(total)
}

/// What the line `name` of the status of process `pid` says, in KiB.
pub(crate) fn status_kib(pid: u32, name: &str) -> Result<u64, ThroughputError> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).map_err(|source| ThroughputError::System {
        what: format!("read {path}"),
        source,
    })?;
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    Ok(value
        .and_then(|value| value.split_whitespace().next()?.parse().ok())
        .unwrap_or_default())
}

/// The processor.
pub(crate) struct Sink {
    child: Child,
    /// Where it listens.
    pub port: u16,
}

impl Sink {
    /// Starts it with `options`.
    pub(crate) fn start(
        programs: &Path,
        folder: &RunFolder,
        filters: Option<&Path>,
        options: &[&OsStr],
    ) -> Result<Self, ThroughputError> {
        let port_file = folder.path.join("port");
        let mut command = Command::new(programs.join("lc-sink"));
        command.args(["--listen", "127.0.0.1:0", "--port-file"]);
        command
            .arg(&port_file)
            .args(options)
            .env("LOG_LEVEL", "warn");
        if let Some(filters) = filters {
            command.arg("--filters").arg(filters);
        }
        let child = command.spawn().map_err(|source| ThroughputError::System {
            what: format!("start {}", programs.join("lc-sink").display()),
            source,
        })?;
        let mut sink = Self { child, port: 0 };
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            let text = fs::read_to_string(&port_file).unwrap_or_default();
            if let Ok(port) = text.trim().parse() {
                sink.port = port;
                return Ok(sink);
            }
            if matches!(sink.child.try_wait(), Ok(Some(_))) {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        Err(ThroughputError::Sink)
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, and waits until it has written everything.
    pub(crate) fn end(mut self) -> Result<(), ThroughputError> {
        let failed = |source| ThroughputError::System {
            what: "end lc-sink".to_owned(),
            source,
        };
        if let Some(pid) = rustix::process::Pid::from_raw(self.child.id() as i32) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map_err(|errno| failed(errno.into()))?;
        }
        self.child.wait().map(|_| ()).map_err(failed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        // It has nothing to save, or has saved it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder for sockets and files of one run; gone afterwards.
pub(crate) struct RunFolder {
    /// Where it is.
    pub path: PathBuf,
}

impl RunFolder {
    pub(crate) fn new() -> Result<Self, ThroughputError> {
        let name = format!("lc-bench-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| ThroughputError::System {
            what: format!("make {}", path.display()),
            source,
        })?;
        Ok(Self { path })
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, ThroughputError> {
        let path = self.path.join(name);
        let written = fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map_err(|source| ThroughputError::System {
            what: format!("write {}", path.display()),
            source,
        })?;
        Ok(path)
    }
}

impl Drop for RunFolder {
    fn drop(&mut self) {
        // Left-over files in the temporary folder harm nobody.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Runs the capture daemon on frames from memory, until it is told to stop.
///
/// # Errors
///
/// A text that says what is wrong with the configuration or the settings.
pub fn capture(config: &Path, cell: Cell) -> Result<Exit, Box<dyn std::error::Error>> {
    let settings = FloodSettings {
        seed: 1,
        // Few flows shall not mean that everything stays in the first cache.
        packets: cell.flows.max(16_384) as u64,
        flows: cell.flows,
        size: cell.size,
        order: Order::RoundRobin,
        ipv6_percent: 20,
        vlan_percent: 0,
        start_seconds: 1_767_225_600,
    };
    capture_from(config, || Ok(Memory::collect(&mut Flood::new(settings)?)))
}

/// Runs the capture daemon on frames that `make` makes, again and again.
pub(crate) fn capture_from(
    config: &Path,
    make: impl FnOnce() -> Result<Memory, SettingsError>,
) -> Result<Exit, Box<dyn std::error::Error>> {
    capture_source(config, |_, interfaces| {
        Ok(MemorySource::new(make()?, interfaces)?)
    })
}

/// Runs the capture daemon on the source that `make` makes.
pub(crate) fn capture_source<S: Source + 'static>(
    config: &Path,
    make: impl FnOnce(&Config, &Interfaces) -> Result<S, Box<dyn std::error::Error>>,
) -> Result<Exit, Box<dyn std::error::Error>> {
    lc_daemon::ready::end_with_supervisor()?;
    let config = Config::load(config)?;
    lc_daemon::logging::init("lc-bench capture", config.log_level);
    let signals = Signals::install()?;
    let source = make(&config, &Interfaces::default())?;
    Ok(lc_capd::run(
        &config,
        lc_capd::RunDir::make(&config)?,
        Vec::new(),
        |_, _| Ok(vec![Box::new(source)]),
        &signals,
    )?)
}
