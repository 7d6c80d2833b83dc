//! `lc-hunt check`: looks whether a run would work, without starting anything.
//!
//! Every finding that is not good comes with what to do about it. The exit code is [`Exit::Refused`] if a run would be
//! refused or fail.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use lc_daemon::config::{
    Config, EmbeddedSink, Files, Live, LogLevel, MIN_RING_BYTES, Source, Transport,
};
use lc_daemon::exit::Exit;
use lc_daemon::logging;
use lc_daemon::pinning::{self, Place};
use pcap::{Capture, Device, Linktype};
use rustix::thread::{CapabilitySet, capabilities};
use serde::Serialize;

use crate::command_line::Flags;
use crate::run_dir::RunDir;
use crate::{embedded_sink, resolve, run, tls_files};

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    level: Level,
    subject: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fix: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// A run works, but not as well as it could.
    Warning,
    /// A run would not work.
    Error,
}

/// What was found so far.
#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, subject: &'static str, message: impl Into<String>) {
        self.0.push(Finding {
            level: Level::Ok,
            subject,
            message: message.into(),
            fix: None,
        });
    }

    fn warn(&mut self, subject: &'static str, message: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding {
            level: Level::Warning,
            subject,
            message: message.into(),
            fix: Some(fix.into()),
        });
    }

    fn error(&mut self, subject: &'static str, message: impl Into<String>, fix: impl Into<String>) {
        self.0.push(Finding {
            level: Level::Error,
            subject,
            message: message.into(),
            fix: Some(fix.into()),
        });
    }
}

/// Looks at everything, prints what was found.
pub fn check(flags: &Flags, json: bool) -> Exit {
    logging::init(crate::PROGRAM, LogLevel::Warn);
    let mut findings = Findings::default();
    let resolved =
        resolve::resolve(flags).and_then(|values| Ok((Config::from_values(&values)?, values)));
    match resolved {
        Ok((config, values)) => {
            findings.ok(
                "configuration",
                format!(
                    "complete and consistent; packets go to {}",
                    destination(&config)
                ),
            );
            for line in values.without_effect() {
                findings.warn("configuration", line, "leave it out");
            }
            programs(&mut findings);
            match &config.source {
                Source::Live(live) => check_live(live, &mut findings),
                Source::Files(files) => check_files(files, &mut findings),
            }
            filter_expression(&config.bpf_filter, &mut findings);
            cpus(&config, &mut findings);
            huge_pages(&config, &mut findings);
            check_transport(&config.transport, &mut findings);
            if let Some(sink) = &config.embedded_sink {
                check_sink(sink, &mut findings);
            }
            check_run_dir(&config, &mut findings);
        }
        Err(error) => findings.error(
            "configuration",
            error.to_string(),
            "correct the flag, variable or file that it names",
        ),
    }
    // A closed output is nothing to report.
    let _ = if json {
        print_json(&findings)
    } else {
        print_text(&findings)
    };
    if findings
        .0
        .iter()
        .any(|finding| finding.level == Level::Error)
    {
        Exit::Refused
    } else {
        Exit::Ok
    }
}

fn destination(config: &Config) -> String {
    match &config.embedded_sink {
        Some(sink) => format!("an embedded sink that writes to {}", sink.dir.display()),
        None if config.processors.len() == 1 => config.processor_list(),
        None => format!("the first of {} that works", config.processor_list()),
    }
}

fn programs(findings: &mut Findings) {
    match run::Programs::find() {
        Ok(_) => findings.ok("programs", "lc-capd, lc-workerd and lc-fwdd are there"),
        Err(error) => findings.error(
            "programs",
            error.to_string(),
            "install all programs of lc-hunt into one directory",
        ),
    }
}

fn check_live(live: &Live, findings: &mut Findings) {
    if may_capture() {
        findings.ok("permission", "this user may capture packets");
    } else {
        let fix = "run as root, or: setcap cap_net_raw+ep on lc-capd";
        findings.error(
            "permission",
            "this user may not capture packets (no CAP_NET_RAW)",
            fix,
        );
    }
    let known = match Device::list() {
        Ok(devices) => devices,
        Err(error) => {
            return findings.error(
                "interfaces",
                format!("they cannot be listed: {error}"),
                "see the message",
            );
        }
    };
    for name in &live.interfaces {
        // Some devices exist although libpcap does not list them.
        let device = known.iter().find(|device| device.name == *name);
        let exists =
            name == "any" || device.is_some() || Path::new("/sys/class/net").join(name).exists();
        if !exists {
            let fix = "lc-hunt list interfaces shows what there is";
            findings.error("interfaces", format!("there is no interface {name}"), fix);
        } else if device.is_some_and(|device| name != "any" && !device.flags.is_up()) {
            findings.warn(
                "interfaces",
                format!("{name} is down"),
                format!("ip link set {name} up"),
            );
        } else {
            findings.ok("interfaces", format!("{name} is there"));
        }
    }
}

fn check_files(files: &Files, findings: &mut Findings) {
    for path in &files.paths {
        let mut magic = [0; 4];
        let read = File::open(path).and_then(|mut file| {
            if file.metadata()?.is_dir() {
                return Err(io::Error::from(io::ErrorKind::IsADirectory));
            }
            file.read_exact(&mut magic)
        });
        let name = path.display();
        match read {
            Err(error) => findings.error(
                "capture files",
                format!("{name}: {error}"),
                "name a readable pcap or pcapng file",
            ),
            Ok(()) if is_capture(magic) => findings.ok("capture files", format!("{name} is there")),
            Ok(()) => findings.error(
                "capture files",
                format!("{name} is neither pcap nor pcapng"),
                "name a pcap or pcapng file",
            ),
        }
    }
}

/// Whether a file that starts like this can be one of packets: pcap with micro- or nanoseconds in either byte order,
/// pcapng, or gzip around one of them.
fn is_capture(magic: [u8; 4]) -> bool {
    let number = u32::from_be_bytes(magic);
    [
        0xa1b2_c3d4,
        0xd4c3_b2a1,
        0xa1b2_3c4d,
        0x4d3c_b2a1,
        0x0a0d_0d0a,
    ]
    .contains(&number)
        || magic[..2] == [0x1f, 0x8b]
}

fn filter_expression(expression: &str, findings: &mut Findings) {
    if expression.is_empty() {
        return;
    }
    // What the expression means depends on the link type; Ethernet shows whether it is an expression at all.
    match Capture::dead(Linktype::ETHERNET).and_then(|capture| capture.compile(expression, true)) {
        Ok(_) => findings.ok("BPF filter", "compiles"),
        Err(error) => findings.error(
            "BPF filter",
            format!("\"{expression}\": {error}"),
            "see pcap-filter(7)",
        ),
    }
}

fn huge_pages(config: &Config, findings: &mut Findings) {
    let threads = config.capture_threads();
    let logs = [config.calls_log_bytes, config.held_log_bytes];
    // A small region lies on ordinary pages in any case.
    let logs: usize = logs
        .into_iter()
        .filter(|bytes| *bytes >= MIN_RING_BYTES)
        .sum();
    let rings = threads * config.rx_ring_bytes() + config.tx_ring_bytes();
    let needed_bytes = config.workers * (rings + logs);
    let (free, page_bytes) = free_huge_pages().unwrap_or((0, 2 << 20));
    let needed = needed_bytes.div_ceil(page_bytes.max(1));
    if free >= needed {
        return findings.ok(
            "huge pages",
            format!("{free} are free, the rings take {needed}"),
        );
    }
    let message = format!("{free} are free, the rings would take {needed}");
    let fix = format!("sysctl -w vm.nr_hugepages={needed} (more if others use some)");
    if config.require_hugepages {
        findings.error("huge pages", message, fix);
    } else {
        findings.warn(
            "huge pages",
            format!("{message}; ordinary pages are used instead, which is slower"),
            fix,
        );
    }
}

/// Number of free huge pages and the size of one.
fn free_huge_pages() -> Option<(usize, usize)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let number = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    };
    Some((number("HugePages_Free:")?, number("Hugepagesize:")? * 1024))
}

/// Where the daemons would run.
fn cpus(config: &Config, findings: &mut Findings) {
    let workers = 0..u16::try_from(config.workers).unwrap_or(u16::MAX);
    let places = std::iter::once(("lc-capd".to_owned(), Place::Capture))
        .chain(workers.map(|index| (format!("lc-workerd {index}"), Place::Worker(index))))
        .chain([("lc-fwdd".to_owned(), Place::Forwarder)]);
    let mut pinned = Vec::new();
    for (name, place) in places {
        match pinning::chosen(&config.pinning, place) {
            Ok(cpus) if cpus.is_empty() => {}
            Ok(cpus) => pinned.push(format!("{name} on {}", pinning::list(&cpus))),
            Err(error) => {
                return findings.error(
                    "CPUs",
                    error.to_string(),
                    "correct the list, or leave it out",
                );
            }
        }
    }
    if !pinned.is_empty() {
        findings.ok("CPUs", pinned.join(", "));
    }
}

fn check_transport(transport: &Transport, findings: &mut Findings) {
    match transport {
        Transport::Insecure => {}
        Transport::Tls(tls) => match tls_files::check(tls) {
            Ok(()) => findings.ok("TLS", "all files are readable and fit together"),
            Err(error) => findings.error(
                "TLS",
                error.to_string(),
                "name a PEM file with the right content",
            ),
        },
    }
}

fn check_run_dir(config: &Config, findings: &mut Findings) {
    // Making it is the only way to know; it goes away at once.
    match RunDir::create(&config.runtime_dir) {
        Ok(dir) => findings.ok(
            "run directory",
            format!("{} can be made", dir.path().display()),
        ),
        Err(error) => findings.error(
            "run directory",
            error.to_string(),
            "--runtime-dir DIR names another place",
        ),
    }
}

fn check_sink(sink: &EmbeddedSink, findings: &mut Findings) {
    match embedded_sink::check_dir(&sink.dir) {
        Ok(()) => findings.ok("sink", format!("{} is free", sink.dir.display())),
        Err(error) => findings.error("sink", error.to_string(), "name another directory"),
    }
    let Some(path) = &sink.filters else { return };
    match File::open(path) {
        Ok(_) => findings.ok("filters", format!("{} is there", path.display())),
        Err(error) => findings.error(
            "filters",
            format!("{}: {error}", path.display()),
            "name a readable file",
        ),
    }
}

/// Whether this user may open capture sockets.
pub fn may_capture() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_RAW))
}

fn print_json(findings: &Findings) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &findings.0)?;
    writeln!(out)
}

fn print_text(findings: &Findings) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for finding in &findings.0 {
        let word = match finding.level {
            Level::Ok => "ok     ",
            Level::Warning => "warning",
            Level::Error => "error  ",
        };
        writeln!(out, "{word}  {}: {}", finding.subject, finding.message)?;
        if let Some(fix) = &finding.fix {
            writeln!(out, "         -> {fix}")?;
        }
    }
    Ok(())
}
