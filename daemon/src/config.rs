//! The typed configuration that the daemons run on.
//!
//! [`Config`] can only hold values that passed every check: ranges, syntax, and the rules that tie settings together
//! (TLS needs a certificate authority, a run has exactly one source, ...). A daemon therefore reads its fields without
//! looking back.
//!
//! It does not look at the machine: that a file exists, an interface is there or a port can be bound is found out by
//! the process that needs it.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

/// Everything a daemon needs to know to run its part of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// What kind of traffic the node looks for.
    pub mode: Mode,
    /// Directory with the sockets and state of this run; holds `capd.sock`.
    pub runtime_dir: PathBuf,
    /// Number of worker processes, 1 to 64.
    pub workers: usize,
    /// Where packets come from.
    pub source: Source,
    /// Base BPF expression, without the processor's filters and the self-exclusion. Empty: everything.
    pub bpf_filter: String,
    /// The processor that packets go to.
    pub processor: Address,
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
    /// Batches that can wait for the processor's acknowledgement.
    pub queue_batches: usize,
    /// What happens to packets while no filter is in force.
    pub no_filter_policy: NoFilterPolicy,
    /// Refuse to start when shared memory cannot be placed on huge pages.
    pub require_hugepages: bool,
    /// Least severe level that is logged.
    pub log_level: LogLevel,
    /// Longest time each process may take to end in good order.
    pub shutdown_timeout: Duration,
}

/// What kind of traffic a node looks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Packets that match address and BPF filters.
    Hunt,
}

/// Where packets come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// Network interfaces. A full ring drops.
    Live(Live),
    /// Capture files, one after the other. A full ring waits.
    Files(Files),
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
    /// Name expected in the processor's certificate, when it is not the host of its address.
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

/// Smallest size of a ring: one huge page.
pub const MIN_RING_BYTES: usize = 2 << 20;

/// Room reckoned for one captured packet when a buffer is given in packets.
const CAPTURED_PACKET_BYTES: usize = 2048;

/// Room reckoned for one packet on its way to the processor.
const FORWARDED_PACKET_BYTES: usize = 512;

impl Config {
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

    /// Whether the source waits for the filters to be in force before its first packet: files do, so that a replay
    /// gives the same result every time.
    pub fn waits_for_filters(&self) -> bool {
        matches!(self.source, Source::Files(_))
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

impl Mode {
    /// The name of the mode's sub-command.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Hunt => "hunt",
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
