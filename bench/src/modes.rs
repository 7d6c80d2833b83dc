//! What each mode costs: the same mixed traffic through the real processes, in one mode after the other.
//!
//! The traffic is that of [`Traffic`]: conversations side by side, of each kind as many as [`MIX`] says. It is made once and delivered from memory again and again, each time later, so that flows end
//! and begin anew. Filters ask for other users, names and addresses, so everything is followed and compared, and nothing goes to the processor. The time of a stage is explained in [`throughput`].
//!
//! Beside that, where `tshark` is installed, the same packets as a file: all modes that look for names, with everything forwarded to a processor that discards it, against
//! `tshark -T fields` with the fields that these modes tell. Both read the same file from the page cache, both times include start and end.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lc_daemon::exit::Exit;
use lc_daemon::signals::Signals;
use thiserror::Error;

use crate::generate::{
    Length, Memory, MixError, PcapError, Settings, SettingsError, Traffic, write_pcap,
};
use crate::throughput::{self, Measured, Plan, ThroughputError};

/// Shares of the kinds, of the conversations that run at the same time.
pub const MIX: &str = "tls=30,http=30,dns=20,mail=10,calls=10";
/// The modes that are measured, in this order: `hunt` looks into nothing, and is what the others are to be compared with.
pub const MODES: [&[&str]; 7] = [
    &["hunt"],
    &["voip"],
    &["dns"],
    &["http"],
    &["tls"],
    &["email"],
    &["voip", "dns", "http", "tls", "email"],
];
/// Conversations that run at the same time.
const CONVERSATIONS: usize = 5_000;
/// What the modes but voip tell, as tshark calls it.
const FIELDS: [&str; 16] = [
    "frame.time_epoch",
    "dns.qry.name",
    "dns.qry.type",
    "dns.flags.rcode",
    "dns.a",
    "dns.aaaa",
    "dns.time",
    "http.request.method",
    "http.host",
    "http.request.uri",
    "http.response.code",
    "tls.handshake.extensions_server_name",
    "tls.handshake.ja3",
    "smtp.req.parameter",
    "imf.from",
    "imf.subject",
];

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum ModesError {
    /// The traffic can't be made.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Nor its mix.
    #[error(transparent)]
    Mix(#[from] MixError),
    /// The processes could not be run.
    #[error(transparent)]
    Throughput(#[from] ThroughputError),
    /// The file can't be written.
    #[error(transparent)]
    Pcap(#[from] PcapError),
    /// There is no place for it, or a program can't be started.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program has failed.
    #[error("{0} failed; what it wrote says why")]
    Failed(String),
}

/// The traffic, `packets` of it.
///
/// # Errors
///
/// [`ModesError`]
pub fn traffic(packets: u64) -> Result<Traffic, ModesError> {
    Ok(Traffic::new(Settings {
        length: Length::Packets(packets),
        flows: CONVERSATIONS,
        mix: MIX.parse()?,
        vlan_percent: 0,
        ..Settings::default()
    })?)
}

/// The line of the daemons' configuration that chooses `modes`.
#[must_use]
pub fn setting(modes: &[&str]) -> String {
    match modes {
        [mode] => format!("hunter.mode = \"{mode}\""),
        modes => format!("hunter.modes = {modes:?}"),
    }
}

/// Measures `packets` of the traffic as `plan` says, in these modes.
///
/// # Errors
///
/// [`ModesError`]
pub fn measure(
    plan: &Plan,
    modes: &[&str],
    packets: u64,
    signals: &Signals,
) -> Result<Measured, ModesError> {
    let plan = Plan {
        settings: [&[setting(modes)], plan.settings.as_slice()].concat(),
        ..plan.clone()
    };
    let capture = ["modes-capture", "--packets", &packets.to_string()];
    let capture = capture.map(OsString::from);
    Ok(throughput::measure(&plan, &capture, signals)?)
}

/// Runs the capture daemon on the traffic, until it is told to stop.
///
/// # Errors
///
/// A text that says what is wrong.
pub fn capture(config: &Path, packets: u64) -> Result<Exit, Box<dyn std::error::Error>> {
    let memory = Memory::collect(&mut traffic(packets)?);
    throughput::capture_from(config, || Ok(memory))
}

/// How long each took for the same file.
#[derive(Debug)]
pub struct Compared {
    /// Packets of the file.
    pub packets: u64,
    /// `lc-hunt`, all its processes.
    pub ours: Duration,
    /// `tshark`; none if it is not installed.
    pub tshark: Option<Duration>,
}

/// Has `packets` of the traffic read by lc-hunt and by tshark.
///
/// # Errors
///
/// [`ModesError`]
pub fn compare(programs: &Path, packets: u64) -> Result<Compared, ModesError> {
    let folder = tempfile::tempdir().map_err(|source| ModesError::System {
        what: "make a temporary folder".to_owned(),
        source,
    })?;
    let file = folder.path().join("mixed.pcap");
    let packets = write_pcap(&mut traffic(packets)?, &file)?;
    let mut ours = Command::new(programs.join("lc-hunt"));
    ours.args(["hunt", "--modes", "dns,http,tls,email"]);
    ours.args(["--no-filter-policy", "allow", "--read-file"]);
    ours.arg(&file)
        .arg("--sink")
        .arg(folder.path().join("sink"));
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&file).args(["-n", "-T", "fields"]);
    tshark.args(FIELDS.iter().flat_map(|field| ["-e", field]));
    Ok(Compared {
        packets,
        ours: time(ours)?.ok_or_else(|| ModesError::Failed("lc-hunt".to_owned()))?,
        tshark: time(tshark)?,
    })
}

/// How long a program runs; none if it is not installed.
fn time(mut program: Command) -> Result<Option<Duration>, ModesError> {
    let name = program.get_program().to_string_lossy().into_owned();
    program.stdin(Stdio::null()).stdout(Stdio::null());
    program.env("LOG_LEVEL", "warn");
    let start = Instant::now();
    match program.status() {
        Ok(status) if status.success() => Ok(Some(start.elapsed())),
        Ok(_) => Err(ModesError::Failed(name)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModesError::System {
            what: format!("start {name}"),
            source,
        }),
    }
}
