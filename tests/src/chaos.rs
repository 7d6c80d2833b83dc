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
//!
//! All choices follow from the seed; the moments of the kills do not.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fmt::{self, Display};
use std::path::Path;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use tempfile::tempdir;

use crate::capture::{self, Packet};
use crate::compare::Difference;
use crate::generated::{Generated, generate};
use crate::namespace::Namespace;
use crate::node::{Node, PATIENCE, captured_in_all, counter, outcome_in_all};
use crate::processor::{self, Processor};

/// Packets of a round.
const PACKETS: u64 = 20_000;
/// Nobody is killed when so many packets are captured: the end must find all processes alive.
const LAST_KILL_AT: u64 = 17_000;
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
    let mut round = Round::default();
    match replay_into(&mut round, seed, Harm::Kill) {
        Ok(()) => Ok(round),
        Err(what) => Err(Failure {
            killed: round.killed,
            what,
        }),
    }
}

/// A round with a file in which one process (of [`ALL`]) stands still for `time`.
///
/// # Errors
///
/// [`Failure`]
pub fn standstill(seed: u64, victim: &'static str, time: Duration) -> Result<Round, Failure> {
    let mut round = Round::default();
    match replay_into(&mut round, seed, Harm::Stop(victim, time)) {
        Ok(()) => Ok(round),
        Err(what) => Err(Failure {
            killed: round.killed,
            what,
        }),
    }
}

/// What is done to a process.
#[derive(Clone, Copy)]
enum Harm {
    /// SIGKILL, to one after the other at random, as long as packets flow.
    Kill,
    /// SIGSTOP, and SIGCONT after this time, to this one.
    Stop(&'static str, Duration),
}

/// A round with live traffic; `None` where no network namespace can be made.
///
/// # Errors
///
/// [`Failure`]
pub fn live(seed: u64) -> Option<Result<Round, Failure>> {
    let namespace = Namespace::new("chaos")?;
    let mut round = Round::default();
    Some(match live_into(&mut round, seed, &namespace) {
        Ok(()) => Ok(round),
        Err(what) => Err(Failure {
            killed: round.killed,
            what,
        }),
    })
}

fn replay_into(round: &mut Round, seed: u64, harm: Harm) -> Result<(), String> {
    let folder = tempdir().map_err(words)?;
    let sent = frames(folder.path(), seed)?;
    let start = |port| Processor::start(folder.path(), port, ["--ack-delay", "2ms"]);
    let mut processor = start(0).map_err(words)?;
    let address = processor.address();
    let overflow = folder.path().join("overflow");
    let mut arguments = vec![
        "hunt".as_ref(),
        "--read-file".as_ref(),
        sent.path.as_os_str(),
        "--processor".as_ref(),
        address.as_ref(),
        "--insecure".as_ref(),
        "--no-filter-policy".as_ref(),
        "allow".as_ref(),
        "--workers".as_ref(),
        "2".as_ref(),
        "--replay-rate".as_ref(),
        "5000pps".as_ref(),
    ];
    // Every other round with a file has a disk buffer, and rings so small that it is used.
    let with_disk = seed % 4 >= 2;
    if with_disk {
        arguments.extend(["--disk-buffer", "--batch-queue-size", "8"].map(OsStr::new));
        arguments.extend([OsStr::new("--disk-buffer-dir"), overflow.as_os_str()]);
    }
    let mut node = Node::start(arguments).map_err(words)?;
    let mut random = SmallRng::seed_from_u64(seed);
    if let Harm::Stop(victim, time) = harm {
        captured_more(&node, &mut random)?;
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
    while matches!(harm, Harm::Kill) && captured_more(&node, &mut random)? < LAST_KILL_AT {
        let victim = ALL[random.random_range(0..ALL.len())];
        round.killed.push(victim);
        if victim == PROCESSOR {
            let port = processor.port();
            processor.kill();
            if with_disk {
                captured_more(&node, &mut random)?;
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
    let difference = Difference::between(&sent.packets, &arrived.packets);
    round.packets = PACKETS;
    round.repeated = difference.extra as u64;
    if difference.lost + difference.altered > 0 {
        return Err(difference.to_string());
    }
    let summary = processor::summary(folder.path()).map_err(words)?;
    // It knows a repeated batch by its number, which a new forwarder goes on with.
    if summary.packets_again != round.repeated {
        return Err(format!("{summary:?}, but {difference}"));
    }
    Ok(())
}

fn live_into(round: &mut Round, seed: u64, namespace: &Namespace) -> Result<(), String> {
    let folder = tempdir().map_err(words)?;
    let sent = frames(folder.path(), seed)?;
    let sink = folder.path().join("arrived");
    let node = Node::start_capture(namespace, &sink).map_err(words)?;
    let capturing = |status: &Value| status["captures"][0]["state"] == "running";
    node.wait_until(capturing).ok_or("no capture began")?;
    let mut sending = namespace.start_sending(&sent.path).map_err(words)?;
    let mut random = SmallRng::seed_from_u64(seed);
    while sending.ended().map_err(words)?.is_none() {
        let victim = DAEMONS[random.random_range(0..DAEMONS.len())];
        round.killed.push(victim);
        signal(living(&node, victim)?, Signal::SIGKILL);
        let until = captured(&node)? + random.random_range(BETWEEN);
        // The traffic may end before.
        while captured(&node)? < until && sending.ended().map_err(words)?.is_none() {}
    }
    let status = node
        .wait_until(|status| capturing(status) && status["ledger"]["quiet"] == true)
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
    if captured + dropped != PACKETS {
        return Err(format!(
            "of {PACKETS} packets sent {captured} were captured and {dropped} dropped by the kernel:\n{}{}",
            outcome.stdout, outcome.stderr
        ));
    }
    let arrived = capture::read(&sink.join("packets.pcapng")).map_err(words)?;
    let unique: HashSet<&Packet> = arrived.packets.iter().collect();
    round.packets = captured;
    round.repeated = (arrived.packets.len() - unique.len()) as u64;
    if unique.len() as u64 != captured {
        return Err(format!("{} of {captured} packets arrived", unique.len()));
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
    let once: Vec<Packet> = unique.into_iter().cloned().collect();
    let difference = Difference::between(&timeless(&sent.packets), &timeless(&once));
    match difference.extra + difference.altered {
        0 => Ok(()),
        _ => Err(difference.to_string()),
    }
}

/// Frames that fit an interface's MTU of 1500 bytes.
fn frames(folder: &Path, seed: u64) -> Result<Generated, String> {
    let (packets, seed) = (PACKETS.to_string(), seed.to_string());
    let flags = ["--packets", &packets, "--seed", &seed, "--vlan", "0"];
    generate(folder, "sent.pcap", &flags)
}

/// The packets without their times, which a capture gives anew.
fn timeless(packets: &[Packet]) -> Vec<Packet> {
    let timeless = |packet: &Packet| Packet {
        time_ns: 0,
        ..packet.clone()
    };
    packets.iter().map(timeless).collect()
}

/// Waits until some more packets were captured; how many it are then.
fn captured_more(node: &Node, random: &mut SmallRng) -> Result<u64, String> {
    let until = (captured(node)? + random.random_range(BETWEEN)).min(PACKETS);
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

fn words(error: impl Display) -> String {
    error.to_string()
}
