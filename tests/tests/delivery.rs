//! Everything arrives, exactly once and in order: with several workers, over every kind of
//! connection, with a processor that pauses, and through crashes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;
use std::time::Duration;

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::generated::{Generated, generate};
use lc_tests::node::{Node, PATIENCE, captured_in_all, counter};
use lc_tests::process::{self, wait_for};
use lc_tests::processor::{self, Processor};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::{TempDir, tempdir};

/// A mixed capture of `packets` packets.
fn mixed(folder: &Path, packets: u32) -> Generated {
    let packets = packets.to_string();
    generate(folder, "mixed.pcap", &["--packets", &packets]).unwrap()
}

/// What arrived in `folder`, compared with what was sent.
fn difference(sent: &Generated, folder: &Path) -> Difference {
    let arrived = capture::read(&folder.join("packets.pcapng")).unwrap();
    assert_eq!(arrived.damage, None);
    Difference::between(&sent.packets, &arrived.packets)
}

/// Arguments of a run of `capture` into a processor at `address` in clear text.
fn run_into<'a>(capture: &'a Generated, address: &'a str) -> Vec<&'a str> {
    let path = capture.path.to_str().unwrap();
    vec![
        "hunt",
        "--read-file",
        path,
        "--processor",
        address,
        "--insecure",
        "--no-filter-policy",
        "allow",
    ]
}

/// A replay under way.
struct Replay {
    /// Where the capture is, and what arrives.
    folder: TempDir,
    sent: Generated,
    processor: Processor,
    node: Node,
}

impl Replay {
    /// Of `packets` packets, with further flags for the processor and for the node.
    fn start(packets: u32, of_processor: &[&str], of_node: &[&str]) -> Self {
        let folder = tempdir().unwrap();
        let sent = mixed(folder.path(), packets);
        let processor = Processor::start(folder.path(), 0, of_processor.iter().copied()).unwrap();
        let address = processor.address();
        let node = Node::start([&run_into(&sent, &address)[..], of_node].concat()).unwrap();
        Self {
            folder,
            sent,
            processor,
            node,
        }
    }
}

#[test]
fn a_mixed_capture_arrives_whole_through_two_workers() {
    let folder = tempdir().unwrap();
    let sent = mixed(folder.path(), 20_000);
    let sink = folder.path().join("arrived");
    let node = Node::start([
        "hunt",
        "--read-file",
        sent.path.to_str().unwrap(),
        "--sink",
        sink.to_str().unwrap(),
        "--no-filter-policy",
        "allow",
        "--workers",
        "2",
    ])
    .unwrap();
    let outcome = node.finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let difference = difference(&sent, &sink);
    assert!(difference.is_none(), "{difference}");
    let summary = processor::summary(&sink).unwrap();
    assert_eq!(summary.packets, 20_000);
    assert_eq!(summary.packets_again, 0);
    let told = processor::told(&sink).unwrap();
    assert_eq!(told.len(), 20_000);
    for packet in &told {
        let metadata = packet.metadata.as_ref().expect("every packet is IP");
        assert!(["TCP", "UDP"].contains(&metadata.transport.as_str()));
        assert!(metadata.src_port > 0 && metadata.dst_port > 0);
    }
    let said = outcome.stdout + &outcome.stderr;
    assert!(said.contains("20000") && said.contains("balance"), "{said}");
}

#[test]
fn several_files_follow_each_other() {
    let folder = tempdir().unwrap();
    let first = generate(folder.path(), "1.pcap", &["--packets", "500"]).unwrap();
    let second = generate(
        folder.path(),
        "2.pcap",
        &["--packets", "500", "--seed", "2"],
    )
    .unwrap();
    let sink = folder.path().join("arrived");
    let node = Node::start([
        "--read-file".as_ref(),
        first.path.as_os_str(),
        "--read-file".as_ref(),
        second.path.as_os_str(),
        "--sink".as_ref(),
        sink.as_os_str(),
        "--no-filter-policy".as_ref(),
        "allow".as_ref(),
    ])
    .unwrap();
    let outcome = node.finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let both = Generated {
        packets: [first.packets, second.packets].concat(),
        path: first.path,
    };
    let difference = difference(&both, &sink);
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn a_replay_keeps_its_rate() {
    let Replay {
        folder,
        sent,
        processor,
        node,
    } = Replay::start(2_000, &[], &["--replay-rate", "1000pps"]);
    let start = std::time::Instant::now();
    let outcome = node.finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    assert!(start.elapsed() >= Duration::from_millis(1_900));
    processor.terminate().unwrap();
    let difference = difference(&sent, folder.path());
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn a_processor_that_pauses_or_slows_down_loses_nothing() {
    for flow in ["pause:500ms@5", "slow", "resume"] {
        let Replay {
            folder,
            sent,
            processor,
            node,
        } = Replay::start(2_000, &["--flow", flow], &[]);
        let outcome = node.finish(2 * PATIENCE).unwrap();
        assert_eq!(outcome.code(), 0, "{flow}: {}", outcome.stderr);
        processor.terminate().unwrap();
        let difference = difference(&sent, folder.path());
        assert!(difference.is_none(), "{flow}: {difference}");
    }
}

#[test]
fn a_killed_processor_costs_nothing_but_repeated_batches() {
    let Replay {
        folder,
        sent,
        processor,
        mut node,
    } = Replay::start(
        20_000,
        &["--ack-delay", "5ms"],
        &["--replay-rate", "10000pps"],
    );
    let port = processor.port();
    let before = node
        .wait_until(|status| counter(status, "forward_acked_packets_total") > 1_000)
        .expect("packets are acknowledged");
    assert!(counter(&before, "forward_acked_packets_total") < 20_000);
    processor.kill();
    assert!(node.process().ended().unwrap().is_none());
    node.wait_until(|status| status["processor"]["connection"] != "streaming")
        .expect("the node notices");
    let processor = Processor::start(folder.path(), port, [""; 0]).unwrap();
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let difference = difference(&sent, folder.path());
    assert_eq!(difference.lost, 0, "{difference}");
    assert_eq!(difference.altered, 0, "{difference}");
    let summary = processor::summary(folder.path()).unwrap();
    assert_eq!(
        difference.extra as u64, summary.packets_again,
        "{difference} {summary:?}"
    );
}

#[test]
fn the_next_processor_takes_over_and_the_first_one_again_when_it_is_back() {
    let folders = [tempdir().unwrap(), tempdir().unwrap()];
    let sent = mixed(folders[0].path(), 30_000);
    let start = |index: usize, port| {
        let folder: &TempDir = &folders[index];
        Processor::start(folder.path(), port, [""; 0]).unwrap()
    };
    let (first, second) = (start(0, 0), start(1, 0));
    let port = first.port();
    let addresses = format!("{},{}", first.address(), second.address());
    let rate = ["--replay-rate", "3000pps"];
    let mut node = Node::start([&run_into(&sent, &addresses)[..], &rate].concat()).unwrap();
    let in_use = |status: &serde_json::Value| {
        let processors = status["processor"]["processors"].as_array()?;
        processors.iter().position(|one| one["in_use"] == true)
    };
    let acked = |status: &serde_json::Value| counter(status, "forward_acked_packets_total");
    node.wait_until(|status| in_use(status) == Some(0) && acked(status) > 1_000)
        .expect("the first one is used");
    first.kill();
    let before = node
        .wait_until(|status| in_use(status) == Some(1))
        .expect("the second one takes over");
    node.wait_until(|status| acked(status) > acked(&before) + 1_000)
        .expect("packets go there");
    let first = start(0, port);
    let back = node
        .wait_until(|status| in_use(status) == Some(0))
        .expect("the first one is used again");
    assert!(
        node.process().ended().unwrap().is_none(),
        "the replay was too short"
    );
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    first.terminate().unwrap();
    second.terminate().unwrap();
    let mut arrived = Vec::new();
    for folder in &folders {
        let capture = capture::read(&folder.path().join("packets.pcapng")).unwrap();
        arrived.extend(capture.packets);
    }
    let difference = Difference::between(&sent.packets, &arrived);
    assert_eq!(
        (difference.lost, difference.altered),
        (0, 0),
        "{difference}"
    );
    // Twice is only what the first one had taken and not acknowledged when it died.
    let resent = counter(&back, "forward_resent_packets_total");
    assert!(difference.extra as u64 <= resent, "{difference}");
}

#[test]
fn a_killed_worker_costs_nothing() {
    let Replay {
        folder,
        sent,
        processor,
        node,
    } = Replay::start(
        20_000,
        &[],
        &["--replay-rate", "10000pps", "--workers", "2"],
    );
    node.wait_until(|status| counter(status, "worker_forwarded_packets_total") > 1_000)
        .expect("packets flow");
    let worker = node.daemon("lc-workerd 0").unwrap();
    kill(Pid::from_raw(worker), Signal::SIGKILL).unwrap();
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let difference = difference(&sent, folder.path());
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn a_killed_capture_daemon_costs_a_replay_nothing() {
    let Replay {
        folder,
        sent,
        processor,
        node,
    } = Replay::start(
        20_000,
        &[],
        &["--replay-rate", "10000pps", "--workers", "2"],
    );
    let worker = node.daemon("lc-workerd 0").unwrap();
    for packets in [1_000, 5_000, 10_000] {
        node.wait_until(|status| counter(status, "capture_packets_total") > packets)
            .expect("packets flow");
        let capture = node.daemon("lc-capd").unwrap();
        kill(Pid::from_raw(capture), Signal::SIGKILL).unwrap();
    }
    assert_eq!(node.daemon("lc-workerd 0"), Some(worker), "workers live on");
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let difference = difference(&sent, folder.path());
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn daemons_that_are_replaced_one_by_one_under_load_cost_nothing() {
    let Replay {
        folder,
        sent,
        processor,
        node,
    } = Replay::start(20_000, &[], &["--replay-rate", "5000pps", "--workers", "2"]);
    for name in ["lc-workerd 0", "lc-workerd 1", "lc-fwdd", "lc-capd"] {
        let captured = |status: &_| counter(status, "capture_packets_total");
        let before = captured(&node.wait_until(|_| true).unwrap());
        node.wait_until(|status| captured(status) > before + 500)
            .expect("packets flow");
        let own = node.upgrade_check().unwrap();
        assert!(own.contains("understands its shared memory"), "{own}");
        let old = node.daemon(name).unwrap();
        kill(Pid::from_raw(old), Signal::SIGTERM).unwrap();
        wait_for(PATIENCE, || node.daemon(name).filter(|new| *new != old))
            .expect("a successor is started");
    }
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let difference = difference(&sent, folder.path());
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn a_node_that_is_asked_to_end_while_daemons_are_dead_delivers_what_it_captured() {
    let all: &[&str] = &["lc-workerd 0", "lc-workerd 1", "lc-fwdd", "lc-capd"];
    for victims in [&all[..1], &all[2..3], &all[3..], all] {
        let Replay {
            folder,
            sent,
            processor,
            node,
        } = Replay::start(20_000, &[], &["--replay-rate", "5000pps", "--workers", "2"]);
        node.wait_until(|status| counter(status, "worker_forwarded_packets_total") > 1_000)
            .expect("packets flow");
        let pids: Vec<i32> = victims
            .iter()
            .map(|name| node.daemon(name).unwrap())
            .collect();
        for pid in pids {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        let outcome = node.terminate().unwrap();
        assert_eq!(outcome.code(), 0, "{victims:?}: {}", outcome.stderr);
        processor.terminate().unwrap();
        let difference = difference(&sent, folder.path());
        let captured = captured_in_all(&outcome).unwrap() as usize;
        assert_eq!(
            difference.lost,
            20_000 - captured,
            "{victims:?}: {difference}"
        );
        assert_eq!(difference.altered, 0, "{victims:?}: {difference}");
        let forwarder_died = victims.contains(&"lc-fwdd");
        assert!(
            forwarder_died || difference.extra == 0,
            "{victims:?}: {difference}"
        );
    }
}

#[test]
fn a_drained_node_captures_no_more_and_has_delivered_what_it_captured() {
    let Replay {
        folder,
        sent,
        processor,
        node,
    } = Replay::start(20_000, &[], &["--replay-rate", "5000pps", "--workers", "2"]);
    let status = node
        .wait_until(|status| counter(status, "worker_forwarded_packets_total") > 1_000)
        .expect("packets flow");
    let run_dir = status["run_dir"].as_str().unwrap();
    let drain = process::run(
        &process::program("lc-hunt"),
        ["drain", "--runtime-dir", run_dir, "--timeout", "20s"],
        PATIENCE,
    );
    let drain = drain.unwrap();
    assert_eq!(drain.code(), 0, "{}", drain.stderr);
    let captured = captured_in_all(&drain).unwrap();
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    assert_eq!(captured_in_all(&outcome), Some(captured));
    processor.terminate().unwrap();
    let difference = difference(&sent, folder.path());
    assert_eq!(difference.lost as u64, 20_000 - captured, "{difference}");
}

/// The capture with 16 bytes of one packet's payload overwritten, and which packet that is.
#[cfg(debug_assertions)]
fn poisoned(mut sent: Generated, poison: &str) -> (Generated, usize) {
    let victim = sent
        .packets
        .iter()
        .position(|packet| (120..180).contains(&packet.bytes.len()))
        .unwrap();
    let mut file = std::fs::read(&sent.path).unwrap();
    let bytes = &mut sent.packets[victim].bytes;
    let found = file.windows(bytes.len()).position(|part| part == bytes);
    let payload = 90..90 + poison.len();
    bytes[payload.clone()].copy_from_slice(poison.as_bytes());
    let start = found.unwrap();
    file[start..start + bytes.len()].copy_from_slice(bytes);
    std::fs::write(&sent.path, file).unwrap();
    (sent, victim)
}

/// Release builds of the worker don't take poison.
#[cfg(debug_assertions)]
#[test]
fn a_packet_that_kills_workers_is_put_aside() {
    let folder = tempdir().unwrap();
    let (mut sent, victim) = poisoned(mixed(folder.path(), 5_000), "POISON-POISON-PO");
    let sink = folder.path().join("arrived");
    let quarantine = folder.path().join("quarantine");
    let outcome = process::run(
        Path::new("env"),
        [
            "LC_HUNT_POISON=POISON-POISON-PO".as_ref(),
            process::program("lc-hunt").as_os_str(),
            "hunt".as_ref(),
            "--read-file".as_ref(),
            sent.path.as_os_str(),
            "--sink".as_ref(),
            sink.as_os_str(),
            "--quarantine-dir".as_ref(),
            quarantine.as_os_str(),
            "--no-filter-policy".as_ref(),
            "allow".as_ref(),
            "--workers".as_ref(),
            "2".as_ref(),
        ],
        PATIENCE,
    )
    .unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    assert!(
        outcome.stdout.contains("1 quarantined"),
        "{}",
        outcome.stdout
    );
    let kept: Vec<_> = std::fs::read_dir(&quarantine).unwrap().collect();
    assert_eq!(kept.len(), 1);
    let kept = capture::read(&kept[0].as_ref().unwrap().path()).unwrap();
    assert_eq!(kept.packets, [sent.packets.remove(victim)]);
    let difference = difference(&sent, &sink);
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn a_killed_forwarder_costs_nothing_but_repeated_packets() {
    let Replay {
        folder,
        sent,
        processor,
        node,
    } = Replay::start(
        20_000,
        &["--ack-delay", "5ms"],
        &["--replay-rate", "10000pps"],
    );
    node.wait_until(|status| counter(status, "forward_acked_packets_total") > 1_000)
        .expect("packets are acknowledged");
    let forwarder = node.daemon("lc-fwdd").unwrap();
    kill(Pid::from_raw(forwarder), Signal::SIGKILL).unwrap();
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let difference = difference(&sent, folder.path());
    assert_eq!(difference.lost, 0, "{difference}");
    assert_eq!(difference.altered, 0, "{difference}");
}

#[test]
fn when_lc_hunt_is_killed_its_daemons_end() {
    let mut replay = Replay::start(20_000, &[], &["--replay-rate", "100pps"]);
    let daemons =
        ["lc-capd", "lc-workerd 0", "lc-fwdd"].map(|name| replay.node.daemon(name).unwrap());
    replay.node.process().signal(Signal::SIGKILL);
    wait_for(PATIENCE, || {
        daemons.iter().all(|pid| has_ended(*pid)).then_some(())
    })
    .expect("all daemons end");
}

/// Whether a process is gone, or only waits for its parent to take notice.
fn has_ended(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.map_or(true, |stat| stat.contains(") Z "))
}

#[test]
fn a_node_that_is_asked_to_end_delivers_what_it_has_read() {
    let Replay {
        folder,
        sent,
        processor,
        node,
    } = Replay::start(20_000, &[], &["--replay-rate", "5000pps"]);
    node.wait_until(|status| counter(status, "capture_packets_total") > 1_000)
        .expect("packets flow");
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let arrived = capture::read(&folder.path().join("packets.pcapng")).unwrap();
    let count = arrived.packets.len();
    assert!((1_000..20_000).contains(&count), "{count}");
    let difference = Difference::between(&sent.packets[..count], &arrived.packets);
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn a_processor_that_starts_late_is_waited_for() {
    let folder = tempdir().unwrap();
    let sent = mixed(folder.path(), 1_000);
    let port = Processor::start(folder.path(), 0, [""; 0]).unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let node = Node::start(run_into(&sent, &address)).unwrap();
    node.wait_until(|status| counter(status, "forward_connection_failures_total") > 0)
        .expect("the node tries to connect");
    let processor = Processor::start(folder.path(), port, [""; 0]).unwrap();
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let difference = difference(&sent, folder.path());
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn status_without_a_node_says_so() {
    let folder = tempdir().unwrap();
    let sent = mixed(folder.path(), 100);
    let sink = folder.path().join("arrived");
    let node = Node::start([
        "--read-file".as_ref(),
        sent.path.as_os_str(),
        "--sink".as_ref(),
        sink.as_os_str(),
    ])
    .unwrap();
    node.finish(PATIENCE).unwrap();
    // Other nodes may run on this machine; this one is gone.
    let gone = wait_for(PATIENCE, || {
        let arguments = ["status", "--json"];
        let hunt = lc_tests::process::program("lc-hunt");
        lc_tests::process::run(&hunt, arguments, PATIENCE).ok()
    });
    let outcome = gone.unwrap();
    assert!(outcome.code() != 0 || outcome.stdout.contains("run_dir"));
}
