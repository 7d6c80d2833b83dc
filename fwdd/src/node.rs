//! What the forwarder tells the processor about the whole node: who it is, how it is, what it has counted.
//!
//! All of it is read from the other processes' regions, which are only believed as far as a wrong number can do no
//! harm, and from `/proc`.

use std::collections::HashMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lc_daemon::config::{Config, Source};
use lc_proto::data::BatchStats;
use lc_proto::management::{
    HunterCapabilities, HunterHeartbeat, HunterRegistration, HunterStats, HunterStatus,
};
use nix::ifaddrs::getifaddrs;
use nix::unistd::{SysconfVar, sysconf};
use shm_layout::counters::{CaptureCounter, ForwardCounter, WorkerCounter};
use shm_layout::forwarder::Forwarder;
use shm_layout::layout::Geometry;
use shm_layout::peer::Identity;
use shm_layout::region::{OwnedRegion, Region};
use shm_layout::session::{QueueState, Session};
use shm_layout::worker::{Worker, WorkerCommit};

use crate::filters;
use crate::ledger::Ledger;

/// A ring that is this full, in percent, is worth a warning.
const FULL_PERCENT: u64 = 80;
/// Memory is full when a tx ring is; a little is always left over.
const MEMORY_FULL_PERCENT: u64 = 95;
/// Packets dropped since the last look, in percent of those captured, that are worth a warning.
const DROP_PERCENT: u64 = 10;

/// Between looks at the memory.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The node as seen from here.
pub(crate) struct Node {
    config: Arc<Config>,
    session: Arc<Region<Session>>,
    geometry: Geometry,
    workers: Vec<Region<Worker>>,
    region: Arc<OwnedRegion<Forwarder>>,
    ledger: Arc<Ledger>,
    stopping: AtomicBool,
    memory_full: AtomicBool,
    last: Mutex<Last>,
}

/// What the last look found, for rates.
struct Last {
    totals: Totals,
    cpu: HashMap<u32, u64>,
    at: Option<Instant>,
    status: HunterStatus,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Totals {
    captured: u64,
    matched: u64,
    dropped: u64,
}

impl Node {
    pub(crate) fn new(
        config: Arc<Config>,
        session: Arc<Region<Session>>,
        geometry: Geometry,
        workers: Vec<Region<Worker>>,
        region: Arc<OwnedRegion<Forwarder>>,
        ledger: Arc<Ledger>,
    ) -> Self {
        Self {
            config,
            session,
            geometry,
            workers,
            region,
            ledger,
            stopping: AtomicBool::new(false),
            memory_full: AtomicBool::new(false),
            last: Mutex::new(Last {
                totals: Totals::default(),
                cpu: HashMap::new(),
                at: None,
                status: HunterStatus::StatusHealthy,
            }),
        }
    }

    /// What to announce to the processor.
    pub(crate) fn registration(&self) -> HunterRegistration {
        let rings = u64::from(self.geometry.workers) * u64::from(self.geometry.queues);
        HunterRegistration {
            hunter_id: self.config.hunter_id.clone(),
            hostname: self.address(),
            interfaces: self.interfaces(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Some(HunterCapabilities {
                filter_types: filters::types(&self.config.modes)
                    .iter()
                    .map(|kind| kind.capability().to_owned())
                    .collect(),
                max_buffer_size: rings * self.geometry.rx_bytes,
                gpu_acceleration: false,
                af_xdp: false,
            }),
        }
    }

    fn interfaces(&self) -> Vec<String> {
        match &self.config.source {
            Source::Live(live) => live.interfaces.clone(),
            Source::Files(files) => {
                let name = |path: &PathBuf| Some(path.file_name()?.to_string_lossy().into_owned());
                files.paths.iter().filter_map(name).collect()
            }
        }
    }

    /// An IPv4 address of the node: that of the one interface, else the first that is no loopback; its name if it
    /// has none.
    fn address(&self) -> String {
        let addresses: Vec<(String, Ipv4Addr)> = getifaddrs()
            .map(|all| {
                all.filter_map(|one| {
                    Some((one.interface_name, one.address?.as_sockaddr_in()?.ip()))
                })
                .collect()
            })
            .unwrap_or_default();
        let only = match &self.config.source {
            Source::Live(live) if live.interfaces.len() == 1 => live.interfaces.first(),
            _ => None,
        };
        let of_interface = addresses.iter().find(|(name, _)| Some(name) == only);
        let outward = addresses.iter().find(|(_, address)| !address.is_loopback());
        match of_interface.or(outward) {
            Some((_, address)) => address.to_string(),
            None => self.config.hunter_id.clone(),
        }
    }

    /// From now on the node says that it is stopping.
    pub(crate) fn set_stopping(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// The counters that go with each batch.
    pub(crate) fn batch_stats(&self) -> BatchStats {
        let totals = self.totals();
        BatchStats {
            total_captured: totals.captured,
            filtered_matched: totals.matched,
            dropped: totals.dropped,
            buffer_usage: self.tx_fill().max(self.rx_fill()) as u32,
        }
    }

    /// A sign of life.
    pub(crate) fn heartbeat(&self) -> HunterHeartbeat {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let totals = self.totals();
        let (status, reason) = self.status(&totals, &last.totals);
        if status != last.status {
            tracing::info!(status = status.as_str_name(), reason, "status of the node");
            last.status = status;
        }
        let (cpu_percent, memory_rss_bytes) = self.usage(&mut last);
        last.totals = totals;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        HunterHeartbeat {
            hunter_id: self.config.hunter_id.clone(),
            timestamp_ns: now.map_or(0, |now| now.as_nanos() as i64),
            status: status.into(),
            stats: Some(HunterStats {
                packets_captured: totals.captured,
                packets_matched: totals.matched,
                packets_forwarded: self.ledger.commit().get(ForwardCounter::Acked),
                packets_dropped: totals.dropped,
                buffer_bytes: self.tx_used().sum(),
                active_filters: self.region.filter_count() as u32,
                cpu_percent,
                memory_rss_bytes,
                memory_limit_bytes: memory_limit(),
            }),
        }
    }

    /// How the node is, and why.
    fn status(&self, now: &Totals, before: &Totals) -> (HunterStatus, String) {
        if self.stopping.load(Ordering::Relaxed) {
            return (HunterStatus::StatusStopping, String::new());
        }
        if is_dead(self.session.owner()) {
            return (HunterStatus::StatusError, "lc-capd does not run".to_owned());
        }
        let queues: Vec<_> = (0..usize::from(self.geometry.queues))
            .map(|queue| self.session.queue_state(queue))
            .collect();
        let dead = |state: &QueueState| matches!(state, QueueState::Failed | QueueState::Retrying);
        let troubled = queues
            .iter()
            .find(|(state, _)| dead(state) || *state == QueueState::LinkDown);
        if let Some((state, reason)) = troubled {
            let all = queues.iter().all(|(state, _)| dead(state));
            let status = if all {
                HunterStatus::StatusError
            } else {
                HunterStatus::StatusWarning
            };
            return (status, format!("capture: {state:?} {reason}"));
        }
        let warning = |reason: &str| (HunterStatus::StatusWarning, reason.to_owned());
        if self.workers.iter().any(|worker| is_dead(worker.owner())) {
            return warning("a worker does not run");
        }
        if self.memory_full.load(Ordering::Relaxed) {
            return warning("memory for packets is full");
        }
        if self.tx_fill() > FULL_PERCENT || self.rx_fill() > FULL_PERCENT {
            return warning("a ring is more than 80 % full");
        }
        let captured = now.captured.saturating_sub(before.captured);
        let dropped = now.dropped.saturating_sub(before.dropped);
        if dropped > 0 && dropped.saturating_mul(100) > captured.saturating_mul(DROP_PERCENT) {
            return warning("more than 10 % of the packets are dropped");
        }
        (HunterStatus::StatusHealthy, String::new())
    }

    fn totals(&self) -> Totals {
        let forwarder = self.ledger.commit();
        let lost = [
            ForwardCounter::Dropped,
            ForwardCounter::DiskDropped,
            ForwardCounter::DiskLost,
        ];
        let mut totals = Totals {
            dropped: lost.iter().map(|counter| forwarder.get(*counter)).sum(),
            ..Totals::default()
        };
        for queue in 0..usize::from(self.geometry.queues) {
            let Ok(commit) = self.session.queue_commit(queue, self.geometry.workers) else {
                continue;
            };
            let count = |counter| commit.get(counter);
            totals.captured = totals
                .captured
                .saturating_add(count(CaptureCounter::Captured));
            for lost in [
                CaptureCounter::KernelDropped,
                CaptureCounter::InterfaceDropped,
                CaptureCounter::RingFull,
                CaptureCounter::TooLong,
            ] {
                totals.dropped = totals.dropped.saturating_add(count(lost));
            }
        }
        for commit in self.worker_commits() {
            let count = |counter| commit.get(counter);
            totals.matched = totals
                .matched
                .saturating_add(count(WorkerCounter::Forwarded));
            totals.dropped = totals
                .dropped
                .saturating_add(count(WorkerCounter::LostTooLong))
                .saturating_add(count(WorkerCounter::Shed));
        }
        totals
    }

    fn worker_commits(&self) -> impl Iterator<Item = WorkerCommit> {
        self.workers
            .iter()
            .filter_map(|worker| worker.commit().ok())
    }

    /// Bytes in each tx ring that are not acknowledged.
    fn tx_used(&self) -> impl Iterator<Item = u64> {
        let done = self.ledger.commit();
        self.workers.iter().enumerate().map(move |(n, worker)| {
            let head = worker.commit().map_or(0, |commit| commit.tx_head());
            head.saturating_sub(done.tx_tail(n))
                .min(self.geometry.tx_bytes)
        })
    }

    /// Percent of the fullest tx ring.
    fn tx_fill(&self) -> u64 {
        let used = self.tx_used().max().unwrap_or(0);
        used * 100 / self.geometry.tx_bytes.max(1)
    }

    /// Percent of the fullest rx ring.
    fn rx_fill(&self) -> u64 {
        let mut used = 0;
        for queue in 0..usize::from(self.geometry.queues) {
            let Ok(heads) = self.session.queue_commit(queue, self.geometry.workers) else {
                continue;
            };
            for (n, worker) in self.workers.iter().enumerate() {
                if let Ok(commit) = worker.commit() {
                    used = used.max(heads.head(n).saturating_sub(commit.rx_tail(queue)));
                }
            }
        }
        used.min(self.geometry.rx_bytes) * 100 / self.geometry.rx_bytes.max(1)
    }

    /// Looks again and again whether the memory for packets is full while nothing is acknowledged. Each such episode
    /// is counted once.
    pub(crate) async fn watch_memory(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut acked = 0;
        loop {
            look.tick().await;
            let before = std::mem::replace(
                &mut acked,
                self.ledger.commit().get(ForwardCounter::AckedBatches),
            );
            let fill = self.tx_fill();
            if fill > MEMORY_FULL_PERCENT && acked == before {
                if !self.memory_full.swap(true, Ordering::Relaxed) {
                    self.ledger.count(ForwardCounter::MemoryFull, 1);
                    tracing::warn!("memory for packets is full and the processor takes none");
                }
            } else if fill < FULL_PERCENT && self.memory_full.swap(false, Ordering::Relaxed) {
                tracing::info!("memory for packets has room again");
            }
        }
    }

    /// Use of one core in percent since the last call, and resident memory, of all processes of the node.
    fn usage(&self, last: &mut Last) -> (f32, u64) {
        let now = Instant::now();
        let mut pids = vec![std::process::id(), self.session.owner().pid];
        pids.extend(self.workers.iter().map(|worker| worker.owner().pid));
        pids.retain(|pid| *pid != 0);
        pids.sort_unstable();
        pids.dedup();
        let cpu: HashMap<u32, u64> = pids
            .iter()
            .filter_map(|pid| Some((*pid, cpu_ticks(*pid)?)))
            .collect();
        let ticks: u64 = cpu
            .iter()
            .filter_map(|(pid, ticks)| Some(ticks.saturating_sub(*last.cpu.get(pid)?)))
            .sum();
        let percent = match last.at {
            None => -1.0,
            Some(before) => {
                let seconds = (now - before).as_secs_f64().max(0.001);
                (ticks as f64 / system_value(SysconfVar::CLK_TCK) as f64 / seconds * 100.0) as f32
            }
        };
        (last.cpu, last.at) = (cpu, Some(now));
        // Shared memory is mapped by several of the processes, but is there once.
        let (own, shared) = pids
            .iter()
            .filter_map(|pid| resident(*pid))
            .fold((0, 0), |(own, most), (all, shared)| {
                (own + all.saturating_sub(shared), shared.max(most))
            });
        (percent, own + shared)
    }

    /// What the processor may be told about capture's exclusion of its own traffic.
    pub(crate) fn excluded_endpoints(&self) -> u64 {
        self.session.bpf().map_or(0, |bpf| bpf.endpoints)
    }
}

/// Whether a process has been there and is gone.
fn is_dead(owner: Identity) -> bool {
    owner.pid != 0 && !owner.is_alive()
}

/// User and system time of a process, in clock ticks.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in brackets and may itself hold spaces and brackets.
    let mut fields = stat[stat.rfind(')')? + 1..]
        .split_ascii_whitespace()
        .skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// Resident bytes of a process, and those of them that are shared.
fn resident(pid: u32) -> Option<(u64, u64)> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut pages = statm
        .split_ascii_whitespace()
        .skip(1)
        .map(|field| field.parse::<u64>().unwrap_or(0) * system_value(SysconfVar::PAGE_SIZE));
    Some((pages.next()?, pages.next()?))
}

fn system_value(variable: SysconfVar) -> u64 {
    match sysconf(variable) {
        Ok(Some(value)) => value as u64,
        _ if variable == SysconfVar::PAGE_SIZE => 4096,
        _ => 100,
    }
}

/// The smallest memory limit of this process's control groups, in bytes; 0 if there is none.
fn memory_limit() -> u64 {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    limit_in(Path::new("/sys/fs/cgroup"), &groups)
}

fn limit_in(mount: &Path, groups: &str) -> u64 {
    let mut least = u64::MAX;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                (mount.join("memory"), "memory.limit_in_bytes")
            }
            _ => continue,
        };
        let group = root.join(path.trim_start_matches('/'));
        // Each group above sets a limit too.
        for group in group
            .ancestors()
            .take_while(|group| group.starts_with(&root))
        {
            let text = fs::read_to_string(group.join(file)).unwrap_or_default();
            if let Ok(limit) = text.trim().parse::<u64>() {
                least = least.min(limit);
            }
        }
    }
    // The old interface says "none" with a number next to the largest.
    if least >= 1 << 62 { 0 } else { least }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let mount = tempfile::tempdir().unwrap();
        let leaf = mount.path().join("a/b");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(leaf.join("memory.max"), "max\n").unwrap();
        fs::write(mount.path().join("a/memory.max"), "4096\n").unwrap();
        fs::write(mount.path().join("memory.max"), "8192\n").unwrap();
        assert_eq!(limit_in(mount.path(), "0::/a/b\n"), 4096);
        assert_eq!(limit_in(mount.path(), "0::/\n"), 8192);
        assert_eq!(limit_in(mount.path(), "nonsense\n"), 0);

        let old = mount.path().join("memory/x");
        fs::create_dir_all(&old).unwrap();
        let file = old.join("memory.limit_in_bytes");
        fs::write(&file, "9223372036854771712\n").unwrap();
        assert_eq!(limit_in(mount.path(), "5:cpu,memory:/x\n"), 0);
        fs::write(&file, "1000\n").unwrap();
        assert_eq!(limit_in(mount.path(), "5:cpu,memory:/x\n"), 1000);
    }

    #[test]
    fn this_process_has_memory_and_has_used_time() {
        let me = std::process::id();
        assert!(cpu_ticks(me).is_some());
        assert!(resident(me).unwrap().0 > 0);
        assert!(cpu_ticks(u32::MAX).is_none());
    }
}
