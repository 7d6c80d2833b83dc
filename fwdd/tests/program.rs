//! The program: start, end, exit codes, and being killed.
#![allow(clippy::unwrap_used)]

mod node;
mod processor;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lc_proto::data::PacketBatch;
use lc_tests::effort::Effort;
use lc_tests::skipped;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node::{Node, number, until};
use processor::Processor;
use shm_layout::forwarder::Connection;

const MORE: &str = "insecure = true\nbatch_size = 4\nbatch_timeout_ms = 20";

fn start(config: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lc-fwdd"))
        .arg("--config")
        .arg(config)
        .stderr(Stdio::piped())
        .env_remove("NOTIFY_SOCKET")
        .spawn()
        .unwrap()
}

/// Exit code, and what was logged.
fn end(mut child: Child) -> (Option<i32>, String) {
    let mut log = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    (child.wait().unwrap().code(), log)
}

fn terminate(child: &Child) {
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
}

#[test]
fn sigterm_delivers_and_ends_with_success() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let child = start(&node.config_file(&processor.address.to_string(), MORE));
    let mut stream = processor.stream();
    node.workers[0].emit(0..2);
    terminate(&child);
    let batch = processor.batch(&mut stream);
    assert_eq!(batch.packets.iter().map(number).collect::<Vec<_>>(), [0, 1]);
    stream.ack(batch.sequence);
    processor.end(&mut stream);
    let (code, log) = end(child);
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(node.committed().tx_done(0), 2);
}

#[test]
fn sigkill_loses_nothing_and_a_number_always_means_the_same_packets() {
    let mut node = Node::new(2);
    let mut processor = Processor::start();
    let config = node.config_file(&processor.address.to_string(), MORE);
    let mut arrived: BTreeMap<u64, PacketBatch> = BTreeMap::new();
    let mut take = |batch: PacketBatch| match arrived.get(&batch.sequence) {
        Some(known) => assert_eq!(*known.packets, batch.packets),
        None => drop(arrived.insert(batch.sequence, batch)),
    };
    for round in 0..4 {
        let mut child = start(&config);
        let mut stream = processor.stream();
        node.workers[0].emit(round * 16..(round + 1) * 16);
        node.workers[1].emit(100 + round * 16..100 + (round + 1) * 16);
        // Some of it is acknowledged, more is sent, then the process is gone.
        for _ in 0..4 {
            let batch = processor.batch(&mut stream);
            stream.ack(batch.sequence);
            take(batch);
        }
        take(processor.batch(&mut stream));
        child.kill().unwrap();
        child.wait().unwrap();
        while let Some(batch) = processor.batch_within(&mut stream, Duration::from_millis(50)) {
            take(batch);
        }
    }
    let child = start(&config);
    let mut stream = processor.stream();
    while node.committed().tx_done(0) + node.committed().tx_done(1) < 128 {
        if let Some(batch) = processor.batch_within(&mut stream, Duration::from_millis(50)) {
            stream.ack(batch.sequence);
            take(batch);
        }
    }
    let all: Vec<u32> = arrived
        .values()
        .flat_map(|batch| batch.packets.iter().map(number))
        .collect();
    for range in [0..64, 100..164] {
        let of_worker: Vec<u32> = all.iter().copied().filter(|n| range.contains(n)).collect();
        assert_eq!(of_worker, range.collect::<Vec<_>>());
    }
    until("all is released", || {
        node.workers.iter().all(|worker| worker.ring.used() == 0)
    });
    terminate(&child);
    assert_eq!(end(child).0, Some(0));
}

#[test]
fn what_cannot_be_used_is_refused() {
    let node = Node::new(1);
    let missing = "[hunter.tls]\nca_file = \"/nonexistent/ca.pem\"";
    let (code, log) = end(start(&node.config_file("127.0.0.1:1", missing)));
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("/nonexistent/ca.pem"), "{log}");

    let nothing = node.dir.path().join("nothing.toml");
    let (code, log) = end(start(&nothing));
    assert_eq!(code, Some(78), "{log}");
    assert!(log.contains("nothing.toml"), "{log}");
}

#[test]
fn it_waits_for_capd_and_can_be_stopped_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("effective.toml");
    let run_dir = dir.path().display();
    std::fs::write(
        &config,
        format!(
            "[hunter]\nprocessor_addr = \"127.0.0.1:1\"\nruntime_dir = \"{run_dir}\"\nread_files = [\"x.pcap\"]\ninsecure = true\n"
        ),
    )
    .unwrap();
    let mut child = start(&config);
    let mut log = child.stderr.take().unwrap();
    let mut text = String::new();
    while !text.contains("waiting for lc-capd") {
        let mut bytes = [0; 1024];
        let len = log.read(&mut bytes).unwrap();
        assert!(len > 0, "{text}");
        text.push_str(&String::from_utf8_lossy(&bytes[..len]));
    }
    terminate(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn an_idle_forwarder_uses_next_to_nothing() {
    let node = Node::new(2);
    let mut processor = Processor::start();
    let child = start(&node.config_file(&processor.address.to_string(), MORE));
    let _stream = processor.stream();
    until("connected", || {
        node.observer.forwarder.connection() == Connection::Streaming
    });
    match Effort::of(&[child.id()]) {
        Err(error) => skipped!("this kernel does not tell how long threads run: {error}"),
        Ok(before) => {
            let span = Duration::from_secs(2);
            std::thread::sleep(span);
            let used = Effort::of(&[child.id()]).unwrap().since(before);
            println!("{used:?} in {span:?}");
            assert!(used.waits < 200, "{used:?} in {span:?}");
            assert!(used.time < span / 4, "{used:?} in {span:?}");
        }
    }
    terminate(&child);
    assert_eq!(end(child).0, Some(0));
}
