//! Kills processes of a running node at random, and checks every packet.
//!
//! One *round* is one node under a steady load. While packets flow, one process after the other is killed as soon as
//! some more packets were captured; the node must start it again and end by itself with everything delivered. What the
//! oracle knows is the identity of every packet: bytes and time.
//!
//! | round | load | victims | what must hold |
//! |---|---|---|---|
//! | [`replay`] | a file, every other time with a disk buffer | all daemons and the processor | every packet of the file arrives unaltered; none twice, but for batches that a dead forwarder or processor left without an acknowledgement, which the processor knows by their number |
//! | [`standstill`] | a file | one of all these, stopped for a while (SIGSTOP) and let go | as `replay`, and it is not taken for dead |
//! | [`live`] | a veth pair | all daemons | everything that was sent arrives, less what the kernel counts as dropped, and nothing that was not sent; none twice, unless the forwarder died; the ledger balances |
//! | [`calls`] | a file of calls, of which an eighth is wanted | as `replay` | the wanted calls arrive whole, as the packets of `replay` do, and nothing of the others |
//! | [`live_calls`] | the same calls on a veth pair | all daemons | the same. If the kernel dropped packets, only that nothing of the others arrives |
//!
//! All choices follow from the seed; the moments of the kills do not.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::tempdir;

use crate::calls::{Calls, Plan};
use crate::capture::{self, Packet};
use crate::compare::Difference;
use crate::generated::generate;
use crate::namespace::Namespace;
use crate::node::{Node, PATIENCE, captured_in_all, counter, is_capturing, outcome_in_all};
use crate::processor::{self, Processor};
use crate::words;

/// Packets of a round without calls.
const PACKETS: u64 = 20_000;
/// The calls of a round with calls.
const CALLS: Plan = Plan {
    calls: 400,
    apart_ms: 20,
    media: 5,
    every_ms: 100,
};
/// Of so many calls one is wanted.
const WANTED_OF: usize = 8;
/// Captured packets between two kills.
const BETWEEN: std::ops::Range<u64> = 100..900;

const DAEMONS: [&str; 4] = ["lc-capd", "lc-workerd 0", "lc-workerd 1", "lc-fwdd"];
const PROCESSOR: &str = "lc-sink";

/// Everything that a replay depends on.
pub const ALL: [&str; 5] = [
    "lc-capd",
    "lc-workerd 0",
    "lc-workerd 1",
    "lc-fwdd",
    PROCESSOR,
];

/// How a round went.
#[derive(Debug, Default, Clone)]
pub struct Round {
    /// Who was killed, in order.
    pub killed: Vec<&'static str>,
    /// Packets that were to arrive.
    pub packets: u64,
    /// Packets that arrived once more.
    pub repeated: u64,
}

/// What did not hold.
#[derive(Debug)]
pub struct Failure {
    /// What happened before.
    pub killed: Vec<&'static str>,
    /// In words.
    pub what: String,
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (killed: {})", self.what, self.killed.join(", "))
    }
}

/// A round with a file.
///
/// # Errors
///
/// [`Failure`]
pub fn replay(seed: u64) -> Result<Round, Failure> {
    Round::run(|round| replay_into(round, seed, Load::frames, Harm::Kill))
}

/// A round with a file in which one process (of [`ALL`]) stands still for `time`.
///
/// # Errors
///
/// [`Failure`]
pub fn standstill(seed: u64, victim: &'static str, time: Duration) -> Result<Round, Failure> {
    Round::run(|round| replay_into(round, seed, Load::frames, Harm::Stop(victim, time)))
}

/// A round with a file of calls.
///
/// # Errors
///
/// [`Failure`]
pub fn calls(seed: u64) -> Result<Round, Failure> {
    Round::run(|round| replay_into(round, seed, Load::calls, Harm::Kill))
}

/// A round with live traffic; `None` where no network namespace can be made.
///
/// # Errors
///
/// [`Failure`]
pub fn live(seed: u64) -> Option<Result<Round, Failure>> {
    let namespace = Namespace::new("chaos")?;
    Some(Round::run(|round| {
        live_into(round, seed, Load::frames, &namespace)
    }))
}

/// A round with live calls; `None` where no network namespace can be made.
///
/// # Errors
///
/// [`Failure`]
pub fn live_calls(seed: u64) -> Option<Result<Round, Failure>> {
    let namespace = Namespace::new("chaos")?;
    Some(Round::run(|round| {
        live_into(round, seed, Load::calls, &namespace)
    }))
}

/// What is done to a process.
#[derive(Clone, Copy)]
enum Harm {
    /// SIGKILL, to one after the other at random, as long as packets flow.
    Kill,
    /// SIGSTOP, and SIGCONT after this time, to this one.
    Stop(&'static str, Duration),
}

/// What goes through a node, and what is to arrive of it.
struct Load {
    /// The capture.
    path: PathBuf,
    /// Packets in it.
    packets: u64,
    /// Those that are to arrive.
    wanted: Vec<Packet>,
    /// How the node runs.
    mode: &'static str,
    /// What it does without filters.
    policy: &'static str,
    /// The processor's filters.
    filters: Option<PathBuf>,
}

impl Load {
    /// Frames that fit an interface's MTU of 1500 bytes. All are to arrive.
    fn frames(folder: &Path, seed: u64) -> Result<Self, String> {
        let (packets, seed) = (PACKETS.to_string(), seed.to_string());
        let flags = ["--packets", &packets, "--seed", &seed, "--vlan", "0"];
        let sent = generate(folder, "sent.pcap", &flags)?;
        Ok(Self {
            path: sent.path,
            packets: PACKETS,
            wanted: sent.packets,
            mode: "hunt",
            policy: "allow",
            filters: None,
        })
    }

    /// Calls of which some are wanted, for their callers.
    fn calls(folder: &Path, seed: u64) -> Result<Self, String> {
        let is_wanted = |call: usize| (call + seed as usize).is_multiple_of(WANTED_OF);
        let made = Calls::make(folder, CALLS, |_, _| {}).map_err(words)?;
        let filters = folder.join("filters.toml");
        let mut text = String::new();
        let wanted = made.calls.iter().enumerate();
        for (_, call) in wanted.filter(|(number, _)| is_wanted(*number)) {
            let user = &call.caller;
            text += &processor::filter(user, "sip_user", user);
        }
        fs::write(&filters, text).map_err(words)?;
        Ok(Self {
            wanted: made.packets_of(is_wanted),
            packets: made.packets.len() as u64,
            path: made.path,
            mode: "voip",
            policy: "deny",
            filters: Some(filters),
        })
    }

    /// Nobody is killed when so many packets are captured: the end must find all processes alive.
    fn last_kill_at(&self) -> u64 {
        self.packets / 20 * 17
    }
}

impl Round {
    fn run(play: impl FnOnce(&mut Self) -> Result<(), String>) -> Result<Self, Failure> {
        let mut round = Self::default();
        match play(&mut round) {
            Ok(()) => Ok(round),
            Err(what) => Err(Failure {
                killed: round.killed,
                what,
            }),
        }
    }
}

fn replay_into(
    round: &mut Round,
    seed: u64,
    load: impl FnOnce(&Path, u64) -> Result<Load, String>,
    harm: Harm,
) -> Result<(), String> {
    let folder = tempdir().map_err(words)?;
    let load = load(folder.path(), seed)?;
    let start = |port| {
        let mut arguments: Vec<OsString> = ["--ack-delay", "2ms"].map(Into::into).into();
        if let Some(filters) = &load.filters {
            arguments.extend(["--filters".into(), filters.into()]);
        }
        Processor::start(folder.path(), port, arguments)
    };
    let mut processor = start(0).map_err(words)?;
    let address = processor.address();
    let overflow = folder.path().join("overflow");
    let mut arguments = vec![
        load.mode.as_ref(),
        "--read-file".as_ref(),
        load.path.as_os_str(),
        "--processor".as_ref(),
        address.as_ref(),
        "--insecure".as_ref(),
        "--no-filter-policy".as_ref(),
        load.policy.as_ref(),
        "--workers".as_ref(),
        "2".as_ref(),
        "--replay-rate".as_ref(),
        "5000pps".as_ref(),
    ];
    // Every other round with a file has a disk buffer, and rings so small that it is used.
    let with_disk = seed % 8 >= 4;
    if with_disk {
        arguments.extend(["--disk-buffer", "--batch-queue-size", "8"].map(OsStr::new));
        arguments.extend([OsStr::new("--disk-buffer-dir"), overflow.as_os_str()]);
    }
    let mut node = Node::start(arguments).map_err(words)?;
    let mut random = SmallRng::seed_from_u64(seed);
    if let Harm::Stop(victim, time) = harm {
        captured_more(&node, load.packets, &mut random)?;
        let pid = match victim {
            PROCESSOR => processor.pid(),
            daemon => living(&node, daemon)?,
        };
        signal(pid, Signal::SIGSTOP);
        // The time is what is tested: longer than any process waits for another.
        thread::sleep(time);
        // One that was taken for dead would have been ended and reaped.
        if kill(Pid::from_raw(pid), Signal::SIGCONT).is_err() {
            return Err(format!("{victim} was taken for dead"));
        }
    }
    while matches!(harm, Harm::Kill)
        && captured_more(&node, load.packets, &mut random)? < load.last_kill_at()
    {
        let victim = ALL[random.random_range(0..ALL.len())];
        round.killed.push(victim);
        if victim == PROCESSOR {
            let port = processor.port();
            processor.kill();
            if with_disk {
                captured_more(&node, load.packets, &mut random)?;
            }
            processor = start(port).map_err(words)?;
        } else {
            signal(living(&node, victim)?, Signal::SIGKILL);
        }
        if node.process().ended().map_err(words)?.is_some() {
            return Err(format!("the node ended: {}", node.process().stderr()));
        }
    }
    let outcome = node.finish(4 * PATIENCE).map_err(words)?;
    if outcome.code() != 0 {
        return Err(format!("exit code {}: {}", outcome.code(), outcome.stderr));
    }
    processor.terminate().map_err(words)?;
    let arrived = capture::read(&folder.path().join("packets.pcapng")).map_err(words)?;
    let difference = Difference::between(&load.wanted, &arrived.packets);
    round.packets = load.wanted.len() as u64;
    round.repeated = difference.extra as u64;
    if difference.lost + difference.altered > 0 {
        return Err(format!("{difference}\n{}", outcome.stdout));
    }
    let summary = processor::summary(folder.path()).map_err(words)?;
    // It knows a repeated batch by its number, which a new forwarder goes on with.
    if summary.packets_again != round.repeated {
        return Err(format!("{summary:?}, but {difference}"));
    }
    Ok(())
}

fn live_into(
    round: &mut Round,
    seed: u64,
    load: impl FnOnce(&Path, u64) -> Result<Load, String>,
    namespace: &Namespace,
) -> Result<(), String> {
    let folder = tempdir().map_err(words)?;
    let load = load(folder.path(), seed)?;
    let sink = folder.path().join("arrived");
    let mut more: Vec<&OsStr> = vec!["--no-filter-policy".as_ref(), load.policy.as_ref()];
    if let Some(filters) = &load.filters {
        more.extend([OsStr::new("--filters"), filters.as_os_str()]);
    }
    let node = Node::capture(namespace.name(), load.mode, "receive", &sink, &more)?;
    let are_filters_there = |status: &Value| {
        let filters = &status["filters"];
        let mut workers = filters["workers"].as_array().into_iter().flatten();
        load.filters.is_none()
            || filters["enabled"] != 0 && workers.all(|worker| *worker == filters["generation"])
    };
    node.wait_until(are_filters_there)
        .ok_or("no filters came")?;
    let mut sending = namespace.start_sending(&load.path).map_err(words)?;
    let mut random = SmallRng::seed_from_u64(seed);
    while sending.ended().map_err(words)?.is_none() {
        let victim = DAEMONS[random.random_range(0..DAEMONS.len())];
        round.killed.push(victim);
        signal(living(&node, victim)?, Signal::SIGKILL);
        let until = captured(&node)? + random.random_range(BETWEEN);
        // The traffic may end before.
        while captured(&node)? < until && sending.ended().map_err(words)?.is_none() {}
    }
    // Calls may stay undecided until the node ends.
    let is_quiet = |status: &Value| {
        let received = counter(status, "worker_received_packets_total");
        let waits = &status["ledger"]["stages"][3]["waiting"];
        status["ledger"]["quiet"] == true
            || load.filters.is_some()
                && received == counter(status, "capture_packets_total")
                && *waits == 0
    };
    let status = node
        .wait_until(|status| is_capturing(status) && is_quiet(status))
        .ok_or_else(|| format!("not all was delivered: {:#?}", node.status()))?;
    if status["ledger"]["balanced"] != true {
        return Err(format!("the ledger does not balance: {status:#}"));
    }
    let outcome = node.terminate().map_err(words)?;
    if outcome.code() != 0 {
        return Err(format!("exit code {}: {}", outcome.code(), outcome.stderr));
    }
    let captured = captured_in_all(&outcome).ok_or("no ledger at the end")?;
    let dropped = outcome_in_all(&outcome, "dropped by kernel");
    if captured + dropped != load.packets {
        return Err(format!(
            "of {} packets sent {captured} were captured and {dropped} dropped by the kernel:\n{}{}",
            load.packets, outcome.stdout, outcome.stderr
        ));
    }
    let arrived = capture::read(&sink.join("packets.pcapng")).map_err(words)?;
    let unique: HashSet<&Packet> = arrived.packets.iter().collect();
    round.packets = unique.len() as u64;
    round.repeated = (arrived.packets.len() - unique.len()) as u64;
    let once: Vec<Packet> = unique.into_iter().cloned().collect();
    let once = capture::without_times(&once);
    let wanted = capture::without_times(&load.wanted);
    let difference = Difference::between(&wanted, &once);
    if load.filters.is_none() && round.packets != captured {
        return Err(format!("{} of {captured} packets arrived", round.packets));
    }
    // Who knows what of a call the kernel dropped?
    if load.filters.is_some() && dropped == 0 && difference.lost > 0 {
        return Err(difference.to_string());
    }
    let summary = processor::summary(&sink).map_err(words)?;
    let resent = counter(&status, "forward_resent_packets_total");
    // What was sent to nobody is sent again, but arrives once.
    if summary.packets_again != round.repeated || resent < round.repeated {
        let repeated = round.repeated;
        return Err(format!(
            "{repeated} packets twice, {resent} resent, but {summary:?}"
        ));
    }
    match difference.extra + difference.altered {
        0 => Ok(()),
        _ => Err(difference.to_string()),
    }
}

/// Waits until some more packets were captured; how many it are then.
fn captured_more(node: &Node, packets: u64, random: &mut SmallRng) -> Result<u64, String> {
    let until = (captured(node)? + random.random_range(BETWEEN)).min(packets);
    let status = node.wait_until(|status| counter(status, "capture_packets_total") >= until);
    status
        .map(|status| counter(&status, "capture_packets_total"))
        .ok_or_else(|| format!("nothing is captured any more: {:#?}", node.status()))
}

fn captured(node: &Node) -> Result<u64, String> {
    let status = node.wait_until(|_| true).ok_or("no status can be had")?;
    Ok(counter(&status, "capture_packets_total"))
}

/// The process id of a daemon, once it lives.
fn living(node: &Node, name: &str) -> Result<i32, String> {
    node.daemon(name)
        .ok_or_else(|| format!("{name} is not started again: {:#?}", node.status()))
}

fn signal(pid: i32, signal: Signal) {
    // One that has just ended by itself needs none.
    let _ = kill(Pid::from_raw(pid), signal);
}
