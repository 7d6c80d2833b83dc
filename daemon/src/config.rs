//! The typed configuration that the daemons run on.
//!
//! [`Config`] can only hold values that passed every check: ranges, syntax, and the rules that tie settings together
//! (TLS needs a certificate authority, a run has exactly one source, ...). A daemon therefore reads its fields without
//! looking back.
//!
//! It does not look at the machine: that a file exists, an interface is there or a port can be bound is found out by
//! the process that needs it. It reads two things besides the values: the host name, as the default of the hunter's
//! id, and `LIPPYCAT_PRODUCTION`, which forbids every connection without verified TLS.

mod dns;
mod email;
mod esp;
mod http;
mod keywords;
mod modes;
mod tls;
mod voip;

use std::env;
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::thread;
use std::time::Duration;

use shm_layout::layout::{MAX_QUEUES, RING_BYTES};

pub use crate::settings::Mode;
pub use dns::Dns;
pub use email::{Email, EmailContent, MailProtocols};
pub use esp::Esp;
pub use http::{Http, HttpContent, KeyLog};
pub use modes::Modes;
pub use tls::{TlsFlow, TlsMode};
pub use voip::{
    CallSilence, ExpectedPorts, MessageLimits, PerformanceMode, TcpSilence, TcpStreams, Voip,
};

use crate::config_file::FileError;
use crate::settings::{EnvironmentError, Origin, Value, Values, by_key};

/// Everything a daemon needs to know to run its part of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What kinds of traffic the node looks for.
    pub modes: Modes,
    /// Directory with the sockets and state of this run; holds `capd.sock`.
    pub runtime_dir: PathBuf,
    /// Where packets that kill workers are kept.
    pub quarantine_dir: PathBuf,
    /// Number of worker processes, 1 to 64.
    pub workers: usize,
    /// Where packets come from.
    pub source: Source,
    /// Base BPF expression, without the processor's filters and the self-exclusion. Empty: everything.
    pub bpf_filter: String,
    /// The processors that packets can go to, in order of preference. Never empty, none twice, at most
    /// [`MAX_PROCESSORS`]. With an embedded sink: one with port 0 until the sink listens.
    pub processors: Vec<Address>,
    /// When a processor that fails is left alone.
    pub circuit_breaker: CircuitBreaker,
    /// The processor that `lc-hunt` runs itself. Daemons never see one: `lc-hunt` gives them its address instead.
    pub embedded_sink: Option<EmbeddedSink>,
    /// How the connection to the processor is protected.
    pub transport: Transport,
    /// Sent as `x-api-key` with every call, if present.
    pub api_key: Option<Secret>,
    /// The name this node registers under.
    pub hunter_id: String,
    /// Largest number of packets in a batch.
    pub batch_size: usize,
    /// A batch that is not full is sent after this time.
    pub batch_timeout: Duration,
    /// Packets that the capture side can hold for the workers, all of them together.
    pub buffer_packets: usize,
    /// Memory of each worker's flow table.
    pub flow_table_bytes: usize,
    /// Bytes of each worker's log of calls and sessions: a power of two, [`MIN_LOG_BYTES`] in modes that follow none.
    pub calls_log_bytes: usize,
    /// Bytes of each worker's log of packets that wait for a verdict on their call or session; the same.
    pub held_log_bytes: usize,
    /// Which ESP is opened.
    pub esp: Esp,
    /// How calls are followed, in voip mode.
    pub voip: Voip,
    /// How DNS is followed.
    pub dns: Dns,
    /// What http mode looks for.
    pub http: Http,
    /// What tls mode looks for.
    pub tls: TlsMode,
    /// Which mail is looked for, in email mode.
    pub email: Email,
    /// Batches that can wait for the processor's acknowledgement.
    pub queue_batches: usize,
    /// Where packets wait while the processor can't take them and memory is short.
    pub disk_buffer: Option<DiskBuffer>,
    /// What happens to packets, or calls, while no filter is in force. Modes of sessions have policies of their own: [`Modes::policy`].
    pub no_filter_policy: NoFilterPolicy,
    /// Refuse to start when shared memory cannot be placed on huge pages.
    pub require_hugepages: bool,
    /// Least severe level that is logged.
    pub log_level: LogLevel,
    /// Longest time each process may take to end in good order.
    pub shutdown_timeout: Duration,
    /// Which CPUs each daemon runs on.
    pub pinning: Pinning,
    /// The users of other daemons than capd.
    pub users: Users,
    /// A worker that is down for longer loses its share of the packets to the others.
    pub worker_grace: Duration,
    /// Whether each daemon gives up what it does not need before it touches input.
    pub sandbox: bool,
}

/// Where packets come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Network interfaces. A full ring drops.
    Live(Live),
    /// Capture files, one after the other. A full ring waits.
    Files(Files),
}

/// CPUs of each kind of daemon. Empty: the kernel chooses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinning {
    /// capd's.
    pub capture: Vec<usize>,
    /// The workers', which take one each in turn.
    pub workers: Vec<usize>,
    /// The forwarder's.
    pub forwarder: Vec<usize>,
}

/// Who may be worker and forwarder: users by name or number. None: capd's own user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// The workers' user.
    pub worker: Option<String>,
    /// The forwarder's user.
    pub forwarder: Option<String>,
}

/// A processor inside `lc-hunt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedSink {
    /// Where it writes what arrives.
    pub dir: PathBuf,
    /// The filters that it distributes.
    pub filters: Option<PathBuf>,
}

/// Settings of a live capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Interface names; `any` stands for all of them at once. Never empty, no name twice.
    pub interfaces: Vec<String>,
    /// Capture frames for other stations too.
    pub promiscuous: bool,
    /// Most bytes kept of a packet, 64 to 262144.
    pub snaplen: u32,
    /// Size of the kernel's capture buffer of each interface.
    pub kernel_buffer_bytes: u32,
    /// Longest time the kernel holds packets back to hand them over together.
    pub read_timeout: Duration,
    /// Who reads the kernel's buffer.
    pub backend: CaptureBackend,
}

/// Who reads the kernel's capture buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureBackend {
    /// lc-capd itself where it knows the link layer, else libpcap.
    Auto,
    /// lc-capd itself, or nobody.
    Packet,
    /// libpcap.
    Pcap,
}

/// Settings of a replay.
#[derive(Debug, Clone, PartialEq)]
pub struct Files {
    /// The files in the order given. Never empty.
    pub paths: Vec<PathBuf>,
    /// How fast they are read.
    pub rate: ReplayRate,
}

/// How fast capture files are replayed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ReplayRate {
    /// As fast as the workers take it.
    Max,
    /// By the packets' own timestamps, this many times faster. Positive and finite.
    Times(f64),
    /// A constant number of packets per second. Positive and finite.
    PacketsPerSecond(f64),
}

/// A host name or address with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// Host name, IPv4 or IPv6 address (without brackets).
    pub host: String,
    /// 1 to 65535.
    pub port: u16,
}

/// When a processor that fails is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitBreaker {
    /// Failures in a row that open the breaker; at least 1.
    pub failures: u32,
    /// How long it stays open, give or take a quarter; 1 s to 1 h.
    pub open: Duration,
    /// A connection that carried nothing is good after this time; at most 1 h.
    pub half_open: Duration,
}

/// How the connection to the processor is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// Clear text.
    Insecure,
    /// TLS 1.3.
    Tls(Tls),
}

/// TLS settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// Who vouches for the processor.
    pub trust: Trust,
    /// Client certificate and key (PEM files), for mutual TLS.
    pub identity: Option<Identity>,
    /// Name expected in the certificate of every processor, when it is not the host of its address.
    pub server_name: Option<String>,
}

/// Who vouches for the processor's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The certificate authorities in this PEM file.
    Ca(PathBuf),
    /// Nobody: any certificate is taken. Open to anyone who can get in between.
    Anyone,
}

/// A client certificate and its private key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM file with the certificate chain.
    pub cert: PathBuf,
    /// PEM file with the private key.
    pub key: PathBuf,
}

/// Packets on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskBuffer {
    /// Directory for this node alone.
    pub dir: PathBuf,
    /// Most bytes, at least [`MIN_DISK_BYTES`].
    pub limit: u64,
    /// What gives way when it is full.
    pub policy: DiskPolicy,
    /// When packets are made safe against a power cut.
    pub sync: DiskSync,
}

/// Least size of a disk buffer: some batches of the greatest length fit in.
pub const MIN_DISK_BYTES: u64 = 16 << 20;

/// What gives way when the disk buffer is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskPolicy {
    /// The oldest packets on disk.
    DropOldest,
    /// New packets: they wait in memory until capture drops.
    DropNewest,
}

/// When packets on disk are made safe against a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskSync {
    /// When the kernel likes.
    Never,
    /// At most this long after they were written.
    Every(Duration),
    /// Before their place in memory is given free.
    EveryRecord,
}

/// What happens to packets while no filter is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoFilterPolicy {
    /// Forward everything.
    Allow,
    /// Forward nothing.
    Deny,
}

/// Severity of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// For finding faults in the program.
    Debug,
    /// What an operator wants to see.
    Info,
    /// Something is wrong, work goes on.
    Warn,
    /// Something failed.
    Error,
}

/// A text that is never shown: not in logs, not by `{:?}`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A configuration file is wrong.
    #[error(transparent)]
    File(#[from] FileError),
    /// The environment is wrong.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// The function is missing from this version.
    #[error("{setting}{}: {why}", set_by(.origin))]
    Missing {
        /// The flag or key.
        setting: String,
        /// Where it was set.
        origin: Origin,
        /// What is missing.
        why: &'static str,
    },
    /// Modes that are none, or don't go together.
    #[error("hunter.modes: {0}")]
    Modes(String),
    /// Two settings that exclude each other.
    #[error("{one} and {other} exclude each other: give only one of them")]
    Exclusive {
        /// Flag or key.
        one: String,
        /// Flag or key.
        other: String,
    },
    /// A setting that is of use only with another.
    #[error("{one} needs {other} as well")]
    Needs {
        /// Flag or key.
        one: String,
        /// Flag or key.
        other: String,
    },
    /// Nowhere to send packets.
    #[error(
        "no processor: give --processor HOST:PORT, or --sink DIR to run a processor inside lc-hunt"
    )]
    NoProcessor,
    /// The list of processors can't be used.
    #[error("{origin}: {reason}")]
    Processors {
        /// Where the list was set.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// A time outside of what makes sense.
    #[error("{key}: {value:?} is out of range: {least:?} to {most:?}")]
    Time {
        /// The setting.
        key: &'static str,
        /// What was given.
        value: Duration,
        /// Shortest.
        least: Duration,
        /// Longest.
        most: Duration,
    },
    /// An item of a list of statuses that is none.
    #[error(
        "{setting}: {item:?} is no status: give codes such as 404, classes such as 4xx, or ranges such as 400-499, between 100 and 599"
    )]
    Status {
        /// Flag or key.
        setting: String,
        /// The item.
        item: String,
    },
    /// A file of keywords can't be used.
    #[error("{setting}: the keywords in {path} can't be read: {cause}")]
    Keywords {
        /// Flag or key.
        setting: String,
        /// The file.
        path: String,
        /// Why.
        cause: std::io::Error,
    },
    /// A name that is no domain.
    #[error(
        "{setting}: {item:?} is no domain; give names such as cdn.example.com: what is below them is meant too"
    )]
    Domain {
        /// Flag or key.
        setting: String,
        /// What was given.
        item: String,
    },
    /// TLS without anything to check the processor's certificate with.
    #[error(
        "TLS needs to know whom to trust: give --tls-ca FILE, or --tls-skip-verify to accept any certificate, \
         or --insecure to do without TLS"
    )]
    NoAuthority,
    /// Not allowed in production.
    #[error(
        "{0} is refused because LIPPYCAT_PRODUCTION=true demands verified TLS: use --processor with --tls-ca FILE, or unset the variable"
    )]
    Production(&'static str),
    /// The interface list is empty or names one twice.
    #[error("{origin}: {reason}")]
    Interfaces {
        /// Where the list was set.
        origin: Origin,
        /// What is wrong with it.
        reason: String,
    },
    /// More interfaces than shared memory has room for.
    #[error(
        "{0} interfaces are named, but one node captures on at most {MAX_QUEUES}; run another lc-hunt for the rest"
    )]
    TooManyInterfaces(usize),
    /// A disk buffer that would not hold a few batches.
    #[error(
        "{}: a disk buffer needs 16 MiB at least; give more, or leave out --disk-buffer",
        title("hunter.disk_buffer.max_mb")
    )]
    DiskBufferTooSmall,
    /// A ring would be larger than shared memory allows.
    #[error(
        "{setting} asks for {} MiB for each ring, but a ring has at most {} MiB; lower it, or give more --workers",
        .ring_bytes >> 20, *RING_BYTES.end() >> 20
    )]
    RingTooLarge {
        /// Flags that the size follows from.
        setting: String,
        /// What would be needed.
        ring_bytes: usize,
    },
    /// No name to register under.
    #[error("the host name cannot be read; give --id NAME")]
    NoName,
    /// A daemon was given a configuration that only `lc-hunt` can run.
    #[error("{0} works only with lc-hunt itself; a daemon needs hunter.processor_addr")]
    OnlyLcHunt(&'static str),
}

/// Most processors in a fail-over list.
pub const MAX_PROCESSORS: usize = shm_layout::forwarder::MAX_PROCESSORS;

/// Smallest size of a ring: one huge page.
pub const MIN_RING_BYTES: usize = 2 << 20;

/// Room for the secrets of more TLS sessions than a worker remembers.
const KEYS_LOG_BYTES: usize = 8 << 20;

/// Smallest size of a log. Every mode has logs, so that there is one set of regions.
pub const MIN_LOG_BYTES: usize = *RING_BYTES.start() as usize;

/// The settings that mean nothing without TLS.
const TLS_KEYS: &[&str] = &[
    "hunter.tls.ca_file",
    "hunter.tls.cert_file",
    "hunter.tls.key_file",
    "hunter.tls.server_name",
    "hunter.tls.skip_verify",
];

/// Room reckoned for one captured packet when a buffer is given in packets.
const CAPTURED_PACKET_BYTES: usize = 2048;

/// Room reckoned for one packet on its way to the processor.
const FORWARDED_PACKET_BYTES: usize = 512;

impl Config {
    /// Reads a daemon's configuration from a file: defaults and the file, nothing else.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut values = Values::defaults();
        values.apply_file(path)?;
        Self::for_daemon(&values)
    }

    /// The configuration of a daemon: as [`Config::from_values`], but without an embedded sink.
    pub fn for_daemon(values: &Values) -> Result<Self, ConfigError> {
        let config = Self::from_values(values)?;
        match config.embedded_sink {
            Some(_) => Err(ConfigError::OnlyLcHunt("hunter.sink")),
            None => Ok(config),
        }
    }

    /// Checks how the values fit together.
    ///
    /// Of two settings that exclude each other, one that was given with more weight (flag before environment before
    /// file) wins; two of the same weight are an error.
    pub fn from_values(values: &Values) -> Result<Self, ConfigError> {
        let modes = Modes::of(values)?;
        refuse_missing(values)?;
        let (processors, embedded_sink) = destination(values)?;
        let transport = if embedded_sink.is_some() {
            embedded_transport()?
        } else {
            transport(values)?
        };
        let config = Config {
            no_filter_policy: modes.policy(match modes.has(Mode::Voip) {
                true => Mode::Voip,
                false => modes.iter().next().unwrap_or(Mode::Hunt),
            }),
            calls_log_bytes: log_bytes(values, &modes, "hunter.voip.calls_mb"),
            held_log_bytes: log_bytes(values, &modes, "hunter.voip.held_mb"),
            http: Http::of(values, &modes)?,
            modes,
            runtime_dir: text(values, "hunter.runtime_dir")
                .map_or_else(default_runtime_dir, PathBuf::from),
            quarantine_dir: text(values, "hunter.quarantine_dir")
                .map_or_else(default_quarantine_dir, PathBuf::from),
            workers: integer(values, "hunter.workers").unwrap_or_else(default_workers),
            source: source(values)?,
            bpf_filter: text(values, "hunter.bpf_filter")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            processors,
            circuit_breaker: circuit_breaker(values)?,
            embedded_sink,
            transport,
            api_key: text(values, "hunter.api_key")
                .filter(|key| !key.is_empty())
                .map(Secret::new),
            hunter_id: hunter_id(values)?,
            batch_size: integer(values, "hunter.batch_size").unwrap_or(64),
            batch_timeout: milliseconds(values, "hunter.batch_timeout_ms", 100),
            buffer_packets: integer(values, "hunter.buffer_size").unwrap_or(10_000),
            flow_table_bytes: integer(values, "hunter.flow_table_mb").unwrap_or(128) << 20,
            esp: Esp::of(values),
            voip: Voip::of(values)?,
            dns: Dns::of(values)?,
            tls: TlsMode::of(values),
            email: Email::of(values)?,
            queue_batches: nonzero(values, "hunter.batch_queue_size", 1000),
            disk_buffer: disk_buffer(values)?,
            require_hugepages: switch(values, "hunter.require_hugepages"),
            log_level: match choice(values, "hunter.log_level") {
                Some("debug") => LogLevel::Debug,
                Some("warn") => LogLevel::Warn,
                Some("error") => LogLevel::Error,
                _ => LogLevel::Info,
            },
            pinning: Pinning {
                capture: cpus(values, "hunter.pinning.capture_cpus"),
                workers: cpus(values, "hunter.pinning.worker_cpus"),
                forwarder: cpus(values, "hunter.pinning.forwarder_cpus"),
            },
            users: Users {
                worker: text(values, "hunter.users.worker").map(str::to_owned),
                forwarder: text(values, "hunter.users.forwarder").map(str::to_owned),
            },
            shutdown_timeout: duration(values, "hunter.shutdown_timeout", 10),
            worker_grace: duration(values, "hunter.worker_grace", 5),
            sandbox: !switch(values, "hunter.no_sandbox"),
        };
        config.fits_shared_memory()?;
        Ok(config)
    }

    /// Whether a region can have the sizes that follow from the settings.
    fn fits_shared_memory(&self) -> Result<(), ConfigError> {
        let threads = self.capture_threads();
        if threads > MAX_QUEUES {
            return Err(ConfigError::TooManyInterfaces(threads));
        }
        let queue = ["hunter.batch_queue_size", "hunter.batch_size"].map(title);
        let rings = [
            (title("hunter.buffer_size"), self.rx_ring_bytes()),
            (queue.join(" with "), self.tx_ring_bytes()),
        ];
        for (setting, ring_bytes) in rings {
            if ring_bytes as u64 > *RING_BYTES.end() {
                return Err(ConfigError::RingTooLarge {
                    setting,
                    ring_bytes,
                });
            }
        }
        Ok(())
    }

    /// Writes what was worked out and chosen into the values and takes out what lost, so that a process that reads
    /// them gets this very configuration. With [`Values::to_toml`] it makes the file for the daemons.
    pub fn pin(&self, values: &mut Values) {
        set(
            values,
            "hunter.workers",
            Value::Integer(self.workers as i64),
        );
        set(values, "hunter.id", Value::Text(self.hunter_id.clone()));
        set(
            values,
            "hunter.runtime_dir",
            Value::Text(self.runtime_dir.to_string_lossy().into_owned()),
        );
        for (key, user) in [
            ("hunter.users.worker", &self.users.worker),
            ("hunter.users.forwarder", &self.users.forwarder),
        ] {
            match user {
                Some(user) => set(values, key, Value::Text(user.clone())),
                None => unset(values, &[key]),
            }
        }
        for (key, keywords) in [
            ("hunter.http.keywords", &self.http.content.keywords),
            ("hunter.email.keywords", &self.email.content.keywords),
        ] {
            keywords::pin(values, key, keywords);
        }
        self.http.pin(values);
        match self.source {
            Source::Live(_) => unset(values, &["hunter.read_files", "hunter.replay_rate"]),
            Source::Files(_) => unset(values, &["hunter.interfaces"]),
        }
        match self.embedded_sink {
            Some(_) => unset(values, &["hunter.processor_addr"]),
            None => {
                unset(values, &["hunter.sink", "hunter.filters"]);
                set(
                    values,
                    "hunter.processor_addr",
                    Value::Addresses(self.processors.clone()),
                );
            }
        }
        if self.transport == Transport::Insecure {
            unset(values, TLS_KEYS);
            set(values, "hunter.insecure", Value::Switch(true));
        }
    }

    /// The processors as one text, for people.
    pub fn processor_list(&self) -> String {
        let names: Vec<String> = self.processors.iter().map(Address::to_string).collect();
        names.join(", ")
    }

    /// Number of capture threads: one per interface, one for files.
    pub fn capture_threads(&self) -> usize {
        match &self.source {
            Source::Live(live) => live.interfaces.len(),
            Source::Files(_) => 1,
        }
    }

    /// Bytes of each ring from a capture thread to a worker: a power of two, at least [`MIN_RING_BYTES`].
    pub fn rx_ring_bytes(&self) -> usize {
        ring_bytes(
            self.buffer_packets,
            CAPTURED_PACKET_BYTES,
            self.workers * self.capture_threads(),
        )
    }

    /// Bytes of each worker's ring to the forwarder: a power of two, at least [`MIN_RING_BYTES`].
    pub fn tx_ring_bytes(&self) -> usize {
        ring_bytes(
            self.queue_batches,
            self.batch_size * FORWARDED_PACKET_BYTES,
            self.workers,
        )
    }

    /// Bytes of the log of secrets: a power of two.
    #[must_use]
    pub fn keys_log_bytes(&self) -> usize {
        match self.http.key_log {
            Some(_) => KEYS_LOG_BYTES,
            None => MIN_LOG_BYTES,
        }
    }

    /// Whether the source waits for the filters to be in force before its first packet: files do, so that a replay
    /// gives the same result every time.
    pub fn waits_for_filters(&self) -> bool {
        matches!(self.source, Source::Files(_))
    }
}

fn disk_buffer(values: &Values) -> Result<Option<DiskBuffer>, ConfigError> {
    if !switch(values, "hunter.disk_buffer.enabled") {
        return Ok(None);
    }
    let limit = (nonzero(values, "hunter.disk_buffer.max_mb", 1024) as u64) << 20;
    if limit < MIN_DISK_BYTES {
        return Err(ConfigError::DiskBufferTooSmall);
    }
    Ok(Some(DiskBuffer {
        dir: text(values, "hunter.disk_buffer.dir").map_or_else(PathBuf::new, PathBuf::from),
        limit,
        policy: match choice(values, "hunter.disk_buffer.policy") {
            Some("drop-newest") => DiskPolicy::DropNewest,
            _ => DiskPolicy::DropOldest,
        },
        sync: match choice(values, "hunter.disk_buffer.sync") {
            Some("never") => DiskSync::Never,
            Some("record") => DiskSync::EveryRecord,
            _ => DiskSync::Every(Duration::from_secs(1)),
        },
    }))
}

/// Refuses settings whose function this version lacks, rather than to take them and do nothing.
fn refuse_missing(values: &Values) -> Result<(), ConfigError> {
    for (setting, slot) in values.iter() {
        if let (Some(why), Some((value, origin))) = (setting.missing, slot)
            && Some(value) != setting.default_value().as_ref()
        {
            return Err(ConfigError::Missing {
                setting: setting.title(),
                origin: origin.clone(),
                why,
            });
        }
    }
    Ok(())
}

/// Where packets go: to a processor, or to one that lc-hunt runs itself.
fn destination(values: &Values) -> Result<(Vec<Address>, Option<EmbeddedSink>), ConfigError> {
    let filters = text(values, "hunter.filters").map(PathBuf::from);
    match choose(values, "hunter.processor_addr", "hunter.sink")? {
        Chosen::Neither => Err(ConfigError::NoProcessor),
        Chosen::First if filters.is_some() => Err(needs("hunter.filters", "hunter.sink")),
        Chosen::First => Ok((processors(values)?, None)),
        Chosen::Second => {
            let dir = text(values, "hunter.sink")
                .map(PathBuf::from)
                .unwrap_or_default();
            let loopback = Address {
                host: "127.0.0.1".to_owned(),
                port: 0,
            };
            Ok((vec![loopback], Some(EmbeddedSink { dir, filters })))
        }
    }
}

/// The processors, each one once.
fn processors(values: &Values) -> Result<Vec<Address>, ConfigError> {
    let Some((Value::Addresses(list), origin)) = values.get("hunter.processor_addr") else {
        return Err(ConfigError::NoProcessor);
    };
    let wrong = |reason| {
        let origin = origin.clone();
        Err(ConfigError::Processors { origin, reason })
    };
    for (i, one) in list.iter().enumerate() {
        let same =
            |other: &Address| other.port == one.port && other.host.eq_ignore_ascii_case(&one.host);
        if list[..i].iter().any(same) {
            return wrong(format!("the processor {one} is named twice"));
        }
    }
    match list.len() {
        0 => Err(ConfigError::NoProcessor),
        1..=MAX_PROCESSORS => Ok(list.clone()),
        many => wrong(format!(
            "{many} processors are named; {MAX_PROCESSORS} are the most"
        )),
    }
}

/// When a processor that fails is left alone.
fn circuit_breaker(values: &Values) -> Result<CircuitBreaker, ConfigError> {
    const HOUR: Duration = Duration::from_secs(3600);
    let time = |key, default: u64, least| match values.get(key) {
        Some((Value::Duration(value), _)) if *value < least || *value > HOUR => {
            Err(ConfigError::Time {
                key,
                value: *value,
                least,
                most: HOUR,
            })
        }
        Some((Value::Duration(value), _)) => Ok(*value),
        _ => Ok(Duration::from_secs(default)),
    };
    Ok(CircuitBreaker {
        failures: integer(values, "hunter.circuit_breaker.failures").unwrap_or(5) as u32,
        open: time("hunter.circuit_breaker.open", 30, Duration::from_secs(1))?,
        half_open: time("hunter.circuit_breaker.half_open", 10, Duration::ZERO)?,
    })
}

/// The embedded sink is reached over loopback without TLS.
fn embedded_transport() -> Result<Transport, ConfigError> {
    if in_production() {
        Err(ConfigError::Production("--sink"))
    } else {
        Ok(Transport::Insecure)
    }
}

/// How the connection to the processor is protected.
fn transport(values: &Values) -> Result<Transport, ConfigError> {
    let insecure = switch(values, "hunter.insecure");
    let skip_verify = switch(values, "hunter.tls.skip_verify");
    if in_production() && insecure {
        return Err(ConfigError::Production("--insecure"));
    }
    if in_production() && skip_verify {
        return Err(ConfigError::Production("--tls-skip-verify"));
    }
    let path = |key| text(values, key).map(PathBuf::from);
    let identity = match (path("hunter.tls.cert_file"), path("hunter.tls.key_file")) {
        (Some(cert), Some(key)) => Some(Identity { cert, key }),
        (Some(_), None) => return Err(needs("hunter.tls.cert_file", "hunter.tls.key_file")),
        (None, Some(_)) => return Err(needs("hunter.tls.key_file", "hunter.tls.cert_file")),
        (None, None) => None,
    };
    if insecure {
        for key in [
            "hunter.tls.ca_file",
            "hunter.tls.cert_file",
            "hunter.tls.skip_verify",
            "hunter.tls.server_name",
        ] {
            let set = values
                .get(key)
                .filter(|(value, _)| **value != Value::Switch(false));
            if let (Some((_, tls)), Some((_, insecure))) = (set, values.get("hunter.insecure"))
                && tls.strength() >= insecure.strength()
            {
                return Err(exclusive("hunter.insecure", key));
            }
        }
        return Ok(Transport::Insecure);
    }
    let trust = match path("hunter.tls.ca_file") {
        _ if skip_verify => Trust::Anyone,
        Some(ca) => Trust::Ca(ca),
        None => return Err(ConfigError::NoAuthority),
    };
    let server_name = text(values, "hunter.tls.server_name")
        .filter(|name| !name.is_empty())
        .map(str::to_owned);
    Ok(Transport::Tls(Tls {
        trust,
        identity,
        server_name,
    }))
}

/// Where packets come from.
fn source(values: &Values) -> Result<Source, ConfigError> {
    match choose(values, "hunter.read_files", "hunter.interfaces")? {
        Chosen::First => Ok(Source::Files(Files {
            paths: list(values, "hunter.read_files")
                .iter()
                .map(PathBuf::from)
                .collect(),
            rate: match values.get("hunter.replay_rate") {
                Some((Value::Rate(rate), _)) => *rate,
                _ => ReplayRate::Max,
            },
        })),
        _ if is_set(values, "hunter.replay_rate") => {
            Err(needs("hunter.replay_rate", "hunter.read_files"))
        }
        _ => Ok(Source::Live(Live {
            interfaces: interfaces(values)?,
            promiscuous: switch(values, "promiscuous"),
            snaplen: integer(values, "hunter.snaplen").map_or(65_535, |bytes| bytes as u32),
            kernel_buffer_bytes: nonzero(values, "pcap_buffer_size", 16 << 20) as u32,
            read_timeout: Duration::from_millis(nonzero(values, "pcap_timeout_ms", 200) as u64),
            backend: match choice(values, "hunter.capture_backend") {
                Some("packet") => CaptureBackend::Packet,
                Some("pcap") => CaptureBackend::Pcap,
                _ => CaptureBackend::Auto,
            },
        })),
    }
}

/// The interfaces, each one once.
fn interfaces(values: &Values) -> Result<Vec<String>, ConfigError> {
    let names = list(values, "hunter.interfaces");
    let wrong = |reason| {
        let origin = values
            .get("hunter.interfaces")
            .map_or(Origin::Default, |(_, origin)| origin.clone());
        Err(ConfigError::Interfaces { origin, reason })
    };
    for (i, name) in names.iter().enumerate() {
        if names[..i].contains(name) {
            return wrong(format!(
                "the interface {name} is named twice; its packets would be sent twice"
            ));
        }
    }
    match names {
        [] => wrong("no interface is named; leave the setting out to capture on any".to_owned()),
        [_, _, ..] if names.iter().any(|name| name == "any") => wrong(
            "any already stands for all interfaces; name either any or single ones".to_owned(),
        ),
        _ => Ok(names.to_vec()),
    }
}

/// The name to register under.
fn hunter_id(values: &Values) -> Result<String, ConfigError> {
    match text(values, "hunter.id") {
        Some(id) if !id.is_empty() => Ok(id.to_owned()),
        _ => {
            let name = nix::unistd::gethostname()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.is_empty() {
                Err(ConfigError::NoName)
            } else {
                Ok(name)
            }
        }
    }
}

/// Where run state is kept unless said otherwise: `/run/lc-hunt` for root, else the user's own place.
pub fn default_runtime_dir() -> PathBuf {
    let uid = rustix::process::geteuid();
    match env::var_os("XDG_RUNTIME_DIR") {
        _ if uid.is_root() => PathBuf::from("/run/lc-hunt"),
        Some(dir) if Path::new(&dir).is_absolute() => PathBuf::from(dir).join("lc-hunt"),
        _ => PathBuf::from(format!("/tmp/lc-hunt-{}", uid.as_raw())),
    }
}

/// Where packets that kill workers are kept unless said otherwise: with the system's state for root, else with the user's.
fn default_quarantine_dir() -> PathBuf {
    let absolute = |name| {
        env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let state = match absolute("XDG_STATE_HOME") {
        _ if rustix::process::geteuid().is_root() => PathBuf::from("/var/lib"),
        Some(dir) => dir,
        None => absolute("HOME").map_or_else(env::temp_dir, |home| home.join(".local/state")),
    };
    state.join("lc-hunt/quarantine")
}

/// One worker less than there are cores, for the capture side needs one.
fn default_workers() -> usize {
    thread::available_parallelism().map_or(1, |cores| (cores.get() - 1).clamp(1, 64))
}

/// Whether `LIPPYCAT_PRODUCTION` demands verified TLS.
fn in_production() -> bool {
    env::var_os("LIPPYCAT_PRODUCTION").is_some_and(|value| value == "true")
}

/// Which of two settings is to be used.
enum Chosen {
    Neither,
    First,
    Second,
}

/// Chooses between two settings that exclude each other: the one given with more weight. Defaults weigh nothing.
fn choose(values: &Values, first: &str, second: &str) -> Result<Chosen, ConfigError> {
    let weight = |key| values.get(key).map_or(0, |(_, origin)| origin.strength());
    match (weight(first), weight(second)) {
        (0, 0) => Ok(Chosen::Neither),
        (a, b) if a > b => Ok(Chosen::First),
        (a, b) if a < b => Ok(Chosen::Second),
        _ => Err(exclusive(first, second)),
    }
}

/// Where a setting was set, unless naming its flag says it all.
fn set_by(origin: &Origin) -> String {
    match origin {
        Origin::Flag(_) => String::new(),
        other => format!(" (set in {other})"),
    }
}

/// The error for two settings that exclude each other.
fn exclusive(one: &str, other: &str) -> ConfigError {
    ConfigError::Exclusive {
        one: title(one),
        other: title(other),
    }
}

/// The error for a setting that needs another.
fn needs(one: &str, other: &str) -> ConfigError {
    ConfigError::Needs {
        one: title(one),
        other: title(other),
    }
}

/// How to name a setting to a person.
fn title(key: &str) -> String {
    by_key(key).map_or_else(|| key.to_owned(), |setting| setting.title())
}

fn set(values: &mut Values, key: &str, value: Value) {
    if let Some(setting) = by_key(key) {
        values.set(setting, value, Origin::Derived);
    }
}

fn unset(values: &mut Values, keys: &[&str]) {
    for setting in keys.iter().filter_map(|key| by_key(key)) {
        values.unset(setting);
    }
}

fn is_set(values: &Values, key: &str) -> bool {
    values
        .get(key)
        .is_some_and(|(_, origin)| *origin != Origin::Default)
}

fn switch(values: &Values, key: &str) -> bool {
    matches!(values.get(key), Some((Value::Switch(true), _)))
}

fn integer(values: &Values, key: &str) -> Option<usize> {
    match values.get(key) {
        Some((Value::Integer(number), _)) => usize::try_from(*number).ok(),
        _ => None,
    }
}

/// A number for which 0 means `default`.
fn nonzero(values: &Values, key: &str, default: usize) -> usize {
    integer(values, key)
        .filter(|number| *number != 0)
        .unwrap_or(default)
}

/// A time, or the default in seconds.
fn duration(values: &Values, key: &str, default: u64) -> Duration {
    match values.get(key) {
        Some((Value::Duration(time), _)) => *time,
        _ => Duration::from_secs(default),
    }
}

fn milliseconds(values: &Values, key: &str, default: u64) -> Duration {
    Duration::from_millis(integer(values, key).map_or(default, |number| number as u64))
}

fn text<'v>(values: &'v Values, key: &str) -> Option<&'v str> {
    match values.get(key) {
        Some((Value::Text(text), _)) => Some(text),
        _ => None,
    }
}

fn list<'v>(values: &'v Values, key: &str) -> &'v [String] {
    match values.get(key) {
        Some((Value::List(list), _)) => list,
        _ => &[],
    }
}

fn cpus(values: &Values, key: &str) -> Vec<usize> {
    match values.get(key) {
        Some((Value::Cpus(cpus), _)) => cpus.clone(),
        _ => Vec::new(),
    }
}

fn choice(values: &Values, key: &str) -> Option<&'static str> {
    match values.get(key) {
        Some((Value::Choice(word), _)) => Some(word),
        _ => None,
    }
}

/// Spreads room for `count` items of `item_bytes` over `rings` rings.
fn ring_bytes(count: usize, item_bytes: usize, rings: usize) -> usize {
    let share = count.saturating_mul(item_bytes).div_ceil(rings.max(1));
    share
        .max(MIN_RING_BYTES)
        .checked_next_power_of_two()
        .unwrap_or(1 << (usize::BITS - 1))
}

/// The size of a log that only calls and sessions need.
fn log_bytes(values: &Values, modes: &Modes, key: &str) -> usize {
    match modes.has(Mode::Hunt) {
        false => (integer(values, key).unwrap_or(64) << 20).next_power_of_two(),
        true => MIN_LOG_BYTES,
    }
}

impl NoFilterPolicy {
    fn named(name: &str) -> Option<Self> {
        match name {
            "allow" => Some(Self::Allow),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text itself, for the one place that must send it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// Reads `host:port`, `1.2.3.4:port` or `[::1]:port`. The error says what was expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || {
            format!("\"{text}\" is not host:port (an IPv6 address goes in brackets: [::1]:55555)")
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let host = match host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            Some(inside) => match inside.parse::<IpAddr>() {
                Ok(IpAddr::V6(_)) => inside,
                _ => return Err(expected()),
            },
            None if host.contains(':') => return Err(expected()),
            None => host,
        };
        if host.is_empty()
            || host
                .chars()
                .any(|c| c.is_whitespace() || "/@[]".contains(c))
        {
            return Err(expected());
        }
        match port.parse::<u16>() {
            Ok(port) if port != 0 => Ok(Address {
                host: host.to_owned(),
                port,
            }),
            _ => Err(format!(
                "port \"{port}\" in \"{text}\" is not a number from 1 to 65535"
            )),
        }
    }
}

impl fmt::Display for ReplayRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplayRate::Max => f.write_str("max"),
            ReplayRate::Times(factor) => write!(f, "{factor}x"),
            ReplayRate::PacketsPerSecond(rate) => write!(f, "{rate}pps"),
        }
    }
}

impl FromStr for ReplayRate {
    type Err = String;

    /// Reads `max`, `1x`, `2.5x` or `1000pps`. The error says what was expected.
    fn from_str(text: &str) -> Result<Self, String> {
        let positive = |number: &str| {
            number
                .parse::<f64>()
                .ok()
                .filter(|n| n.is_finite() && *n > 0.0)
        };
        let rate = if text == "max" {
            Some(ReplayRate::Max)
        } else if let Some(number) = text.strip_suffix("pps") {
            positive(number).map(ReplayRate::PacketsPerSecond)
        } else if let Some(number) = text.strip_suffix('x') {
            positive(number).map(ReplayRate::Times)
        } else {
            None
        };
        rate.ok_or_else(|| {
            format!("\"{text}\" is not max, a speed such as 1x or 2.5x, or a rate such as 1000pps")
        })
    }
}
