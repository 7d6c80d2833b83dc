//! A processor that is away while a live capture goes on, and what becomes of every packet.
//!
//! Numbered frames flow at a steady rate; a filter lets one in four through. Once packets arrive, the processor is killed,
//! stays away, and comes back. Everything that the filter let through must arrive then, in the order of its flow and once
//! (but for batches that were under way at the kill, which the processor knows by their number), or be counted as lost or
//! dropped by the disk buffer, to the packet.

use std::ffi::OsString;
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::tempdir;

use crate::capture;
use crate::namespace::Namespace;
use crate::node::{Node, PATIENCE, counter};
use crate::numbered;
use crate::process;
use crate::processor::{self, Processor};
use crate::words;

/// Flows that the filter lets through.
const MATCHED: u64 = 2;

/// What happens.
#[derive(Debug, Clone, Copy)]
pub struct Outage {
    /// How long the processor is away.
    pub away: Duration,
    /// Frames per second.
    pub rate: u64,
    /// Largest size of the disk buffer, in MiB.
    pub disk_mib: u64,
    /// Size of the disk itself, in MiB, where it is not as large as it likes.
    pub tmpfs_mib: Option<u64>,
    /// Whether the forwarder is killed meanwhile and the middle of a segment destroyed.
    pub damage: bool,
}

/// What became of it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Report {
    /// Packets that the filter let through.
    pub forwarded: u64,
    /// Those of them that arrived.
    pub arrived: u64,
    /// Those that arrived once more.
    pub repeated: u64,
    /// Those that arrived before the processor was killed, although nobody heard so. Each of them comes once more, or is dropped or damaged on disk.
    pub unheard: u64,
    /// Those that the disk buffer dropped for want of room.
    pub dropped: u64,
    /// Those that were damaged on disk.
    pub lost: u64,
    /// Frames that the kernel or a full ring dropped before.
    pub missed: u64,
    /// Most packets on disk.
    pub most_on_disk: u64,
    /// Time from the processor's return, or from the end of the traffic if that was later, until nothing was on disk any
    /// more; it includes the wait for the next attempt to connect.
    pub drained_in: Duration,
    /// Most private memory of the forwarder while the processor was away, after the first quarter of that time, and in it.
    pub memory_kib: (u64, u64),
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (early, late) = self.memory_kib;
        write!(
            f,
            "{} forwarded = {} arrived + {} dropped + {} lost; {} arrived twice, {} unheard of, {} missed by capture; \
             {} on disk at most, drained in {:.1} s; forwarder's memory {early} KiB, later {late} KiB",
            self.forwarded,
            self.arrived,
            self.dropped,
            self.lost,
            self.repeated,
            self.unheard,
            self.missed,
            self.most_on_disk,
            self.drained_in.as_secs_f64(),
        )
    }
}

impl Outage {
    /// Lets it happen; `None` where no network namespace can be made.
    ///
    /// # Errors
    ///
    /// What did not hold.
    pub fn run(&self) -> Option<Result<Report, String>> {
        let namespace = Namespace::new("outage")?;
        Some(self.run_in(&namespace))
    }

    fn run_in(&self, namespace: &Namespace) -> Result<Report, String> {
        let folder = tempdir().map_err(words)?;
        let filters = folder.path().join("filters.toml");
        fs::write(&filters, filter_file()).map_err(words)?;
        let start = |port| {
            let more = ["--filters".into(), filters.clone().into_os_string()];
            Processor::start_in(namespace.name(), folder.path(), port, more)
        };
        let mut processor = start(0).map_err(words)?;
        let overflow = folder.path().join("overflow");
        let config = folder.path().join("node.toml");
        // The breaker's half minute would only make this longer.
        fs::write(&config, "[hunter.circuit_breaker]\nopen = \"2s\"\n").map_err(words)?;
        let node = self.start_node(namespace, &config, &processor.address(), &overflow)?;
        let ready = |status: &Value| {
            status["captures"][0]["state"] == "running" && status["filters"]["workers"][0] != 0
        };
        node.wait_until(ready).ok_or("no capture began")?;
        let seconds = self.away.as_secs() + 4;
        let frames = self.rate * seconds;
        let sending = namespace
            .start_sending_numbered(frames, self.rate)
            .map_err(words)?;
        node.wait_until(|status| counter(status, "forward_acked_packets_total") > self.rate / 8)
            .ok_or("nothing arrives")?;

        let port = processor.port();
        processor.kill();
        let mut report = Report::default();
        self.stay_away(&node, &overflow, &mut report)?;
        // By now what was on its way from the dead processor has been taken in.
        report.unheard = unheard(&node, folder.path())?;
        processor = start(port).map_err(words)?;
        let outcome = sending.finish(self.away + PATIENCE).map_err(words)?;
        let back = Instant::now();
        if outcome.code() != 0 {
            return Err(outcome.stderr);
        }
        let seen = |status: &Value| {
            counter(status, "capture_packets_total")
                + counter(status, "capture_kernel_dropped_packets_total")
        };
        let quiet = |status: &Value| status["ledger"]["quiet"] == true && seen(status) == frames;
        let drained = process::wait_for(self.away + 4 * PATIENCE, || node.status().filter(quiet));
        let status = drained.ok_or_else(|| format!("not drained: {:#?}", node.status()))?;
        report.drained_in = back.elapsed();
        if status["ledger"]["balanced"] != true {
            return Err(format!("the ledger does not balance: {status:#}"));
        }
        let outcome = node.terminate().map_err(words)?;
        if outcome.code() != 0 {
            return Err(format!("exit code {}: {}", outcome.code(), outcome.stderr));
        }
        processor.terminate().map_err(words)?;
        report.forwarded = counter(&status, "worker_forwarded_packets_total");
        report.dropped = counter(&status, "forward_disk_dropped_packets_total")
            + counter(&status, "forward_dropped_packets_total");
        report.lost = counter(&status, "forward_disk_lost_packets_total");
        report.missed = counter(&status, "capture_kernel_dropped_packets_total")
            + counter(&status, "capture_ring_full_packets_total");
        self.check(&mut report, folder.path(), frames)
    }

    fn start_node(
        &self,
        namespace: &Namespace,
        config: &Path,
        processor: &str,
        overflow: &Path,
    ) -> Result<Node, String> {
        let mut arguments: Vec<OsString> = ["hunt", "--interface", "receive", "--insecure"]
            .map(Into::into)
            .into();
        arguments.extend(["--config".into(), config.into()]);
        let disk = self.disk_mib.to_string();
        for (flag, value) in [
            ("--processor", processor),
            ("--workers", "1"),
            // A small ring: the disk shall be used.
            ("--batch-queue-size", "64"),
            ("--disk-buffer-max-mb", &disk),
        ] {
            arguments.extend([flag.into(), value.into()]);
        }
        arguments.extend(["--disk-buffer".into(), "--disk-buffer-dir".into()]);
        arguments.push(overflow.into());
        match self.tmpfs_mib {
            None => Node::start_in(namespace.name(), arguments),
            Some(size) => {
                fs::create_dir(overflow).map_err(words)?;
                // `ip netns exec` has made a mount namespace: nobody else sees this.
                Node::start_on_tmpfs(namespace.name(), overflow, size, arguments)
            }
        }
        .map_err(words)
    }

    /// Passes the time of the outage, and looks at the forwarder meanwhile.
    fn stay_away(&self, node: &Node, overflow: &Path, report: &mut Report) -> Result<(), String> {
        let begin = Instant::now();
        let mut damaged = false;
        while begin.elapsed() < self.away {
            // The time is what is tested.
            thread::sleep(Duration::from_millis(500));
            let on_disk = |status: &Value| status["disk"]["packets"].as_u64().unwrap_or_default();
            report.most_on_disk = report
                .most_on_disk
                .max(node.status().as_ref().map_or(0, on_disk));
            if let Some(kib) = node.daemon("lc-fwdd").and_then(private_memory) {
                let (early, late) = &mut report.memory_kib;
                let phase = if begin.elapsed() < self.away / 4 {
                    early
                } else {
                    late
                };
                *phase = kib.max(*phase);
            }
            if self.damage && !damaged && begin.elapsed() > self.away / 2 {
                damaged = true;
                let pid = node.daemon("lc-fwdd").ok_or("no forwarder")?;
                kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(words)?;
                destroy_the_middle(overflow)?;
            }
        }
        Ok(())
    }

    fn check(&self, report: &mut Report, folder: &Path, frames: u64) -> Result<Report, String> {
        let mut seen = vec![false; usize::try_from(frames).map_err(words)?];
        let mut last = [None; MATCHED as usize];
        let (mut strange, mut late) = (0_u64, 0_u64);
        let damage = capture::each(&folder.join("packets.pcapng"), |packet| {
            let Some(number) = numbered::number(&packet.bytes).filter(|n| *n < frames) else {
                strange += 1;
                return;
            };
            match last.get_mut((number % numbered::FLOWS) as usize) {
                None => strange += 1,
                Some(_) if std::mem::replace(&mut seen[number as usize], true) => {
                    report.repeated += 1;
                }
                Some(last) => {
                    late += u64::from(*last > Some(number));
                    *last = Some(number);
                    report.arrived += 1;
                }
            }
        });
        if let Some(damage) = damage.map_err(words)? {
            return Err(format!("what arrived {damage}"));
        }
        let summary = processor::summary(folder).map_err(words)?;
        let accounted = report.arrived + report.repeated + report.dropped + report.lost;
        let sound = strange == 0
            && late == 0
            && accounted == report.forwarded + report.unheard
            && summary.packets_again == report.repeated
            && (report.lost > 0) == self.damage;
        match sound {
            true => Ok(*report),
            false => Err(format!(
                "{report}; {strange} that were not sent or not let through, {late} out of order, {summary:?}"
            )),
        }
    }
}

/// Packets of a killed processor that the node has no acknowledgement of, and will have none.
fn unheard(node: &Node, folder: &Path) -> Result<u64, String> {
    let mut arrived = 0_u64;
    capture::each(&folder.join("packets.pcapng"), |_| arrived += 1).map_err(words)?;
    let is_away = |status: &Value| status["processor"]["connection"] != "streaming";
    let status = node.wait_until(is_away).ok_or("the node has not noticed")?;
    let acked = counter(&status, "forward_acked_packets_total");
    arrived
        .checked_sub(acked)
        .ok_or_else(|| format!("{acked} acknowledged, {arrived} arrived"))
}

fn filter_file() -> String {
    let filter = |n| processor::filter(format!("f{n}"), "ip_address", format!("10.0.0.{n}"));
    (0..MATCHED).map(filter).collect()
}

/// Anonymous resident memory of a process in KiB.
fn private_memory(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// Overwrites 4 KiB in the middle of a segment that has others behind it.
fn destroy_the_middle(overflow: &Path) -> Result<(), String> {
    let mut segments: Vec<PathBuf> = fs::read_dir(overflow)
        .map_err(words)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|end| end == "lco"))
        .collect();
    segments.sort();
    segments.pop();
    let victim = segments.get(segments.len() / 2).ok_or("too few segments")?;
    let mut bytes = fs::read(victim).map_err(words)?;
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4096].fill(0x5a);
    // Over the same file: the forwarder may be starting again with it.
    fs::write(victim, bytes).map_err(words)
}
