//! Packets that wait on disk: while the processor is away, pauses or does not answer, and over the ends of the process.
#![allow(clippy::unwrap_used)]

mod node;
mod processor;

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lc_fwdd::DiskBufferError;
use lc_fwdd::overflow::DirectoryError;
use lc_proto::data::{FlowControl, PacketBatch};
use node::{Node, Running, number, until};
use processor::{PacketStream, Processor};
use shm_layout::counters::ForwardCounter;
use shm_layout::forwarder::{Connection, DiskState};
use shm_layout::wire::Priority;

/// A disk buffer of 16 MiB; `lines` say more.
fn settings(node: &Node, lines: &str) -> String {
    format!(
        "insecure = true\nbatch_size = 4\nbatch_timeout_ms = 20\n{lines}\n\
         [hunter.circuit_breaker]\nopen = \"1s\"\n\
         [hunter.disk_buffer]\nenabled = true\nmax_mb = 16\ndir = \"{}\"",
        directory(node).display()
    )
}

fn directory(node: &Node) -> PathBuf {
    node.dir.path().join("overflow")
}

fn with_policy(node: &Node, policy: &str) -> String {
    format!("{}\npolicy = \"{policy}\"", settings(node, ""))
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// Told to stop before it is attached, it would leave the rings alone.
fn until_it_works(node: &Node) {
    until("it has tried to connect", || {
        node.committed().get(ForwardCounter::ConnectionFailures) > 0
    });
}

fn numbers(batch: &PacketBatch) -> Vec<u32> {
    batch.packets.iter().map(number).collect()
}

/// Takes batches, acknowledging each, until there are `count` packets.
fn take(processor: &Processor, stream: &mut PacketStream, count: usize) -> Vec<u32> {
    let mut all = Vec::new();
    while all.len() < count {
        let batch = processor.batch(stream);
        all.extend(numbers(&batch));
        stream.ack(batch.sequence);
    }
    all
}

/// Nothing waits anywhere, and every packet of `emitted` and of an earlier run is accounted for.
fn assert_settled(node: &Node, emitted: u64) {
    until("everything is settled", || {
        node.committed().on_disk() == 0 && node.workers.iter().all(|worker| worker.ring.used() == 0)
    });
    let commit = node.committed();
    let get = |counter| commit.get(counter);
    let direct = get(ForwardCounter::Acked) - get(ForwardCounter::DiskDelivered);
    assert_eq!(
        emitted,
        direct + get(ForwardCounter::DiskStored) + get(ForwardCounter::Dropped)
    );
}

/// Far more than the ring of 64 KiB holds.
const MANY: u32 = 6000;

#[test]
fn what_an_absent_processor_misses_is_delivered_in_order() {
    let mut node = Node::new(2);
    let address = nobody();
    let running = Running::start(node.config(&address.to_string(), &settings(&node, "")));
    let [first, second] = &mut node.workers[..] else {
        unreachable!()
    };
    first.emit(0..MANY);
    second.emit(MANY..2 * MANY);
    until("all is read", || {
        let commit = node.committed();
        commit.on_disk() > u64::from(MANY)
    });
    assert_eq!(node.observer.forwarder.disk().state, DiskState::Ok);
    let mut processor = Processor::listen(address);
    let mut stream = processor.stream();
    // More comes while it drains: what is on disk goes first.
    node.workers[0].emit(2 * MANY..3 * MANY);
    let arrived = take(&processor, &mut stream, 3 * MANY as usize);
    let (others, of_first): (Vec<u32>, Vec<u32>) =
        arrived.iter().partition(|n| (MANY..2 * MANY).contains(*n));
    assert!(of_first.is_sorted() && others.is_sorted());
    assert_eq!(of_first.len(), 2 * MANY as usize);
    assert_settled(&node, 3 * u64::from(MANY));
    let summary = running.stop();
    assert_eq!((summary.unacked_packets, summary.packets_on_disk), (0, 0));
    processor.end(&mut stream);
}

#[test]
fn a_processor_that_pauses_holds_nobody_up() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let address = processor.address.to_string();
    let _running = Running::start(node.config(&address, &settings(&node, "")));
    let mut stream = processor.stream();
    node.workers[0].emit(0..4);
    let batch = processor.batch(&mut stream);
    stream.ack_with(batch.sequence, FlowControl::FlowPause);
    until("paused", || {
        node.observer.forwarder.connection() == Connection::Paused
    });
    node.workers[0].emit(4..MANY);
    let probe = processor.batch(&mut stream);
    assert!(probe.packets.is_empty());
    assert!(node.committed().get(ForwardCounter::DiskStored) > 0);
    stream.ack_with(probe.sequence, FlowControl::FlowResume);
    let arrived = take(&processor, &mut stream, MANY as usize - 4);
    assert_eq!(arrived, (4..MANY).collect::<Vec<_>>());
    assert_settled(&node, u64::from(MANY));
}

#[test]
fn what_is_on_its_way_to_a_silent_processor_goes_to_disk_and_keeps_its_number() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let address = processor.address.to_string();
    let _running = Running::start(node.config(&address, &settings(&node, "")));
    let mut stream = processor.stream();
    // Nothing is acknowledged, so nothing could be released without a disk.
    node.workers[0].emit(0..MANY);
    let mut sent = Vec::new();
    while let Some(batch) =
        processor.batch_within(&mut stream, std::time::Duration::from_millis(300))
    {
        sent.push(batch);
    }
    assert!(sent.len() > 10);
    // Late answers still count.
    for batch in &sent[..5] {
        stream.ack(batch.sequence);
    }
    until("five are settled", || {
        node.committed().get(ForwardCounter::AckedBatches) == 5
    });
    // They make room for as many more.
    (0..5).for_each(|_| sent.push(processor.batch(&mut stream)));
    stream.fail(tonic::Status::unavailable("going down"));
    let mut stream = processor.stream();
    for before in &sent[5..] {
        let again = processor.batch(&mut stream);
        assert_eq!(again.sequence, before.sequence);
        assert_eq!(again.packets, before.packets);
        stream.ack(again.sequence);
    }
    let packets: usize = sent.iter().map(|batch| batch.packets.len()).sum();
    let arrived = take(&processor, &mut stream, MANY as usize - packets);
    assert_eq!(arrived, (packets as u32..MANY).collect::<Vec<_>>());
    assert_settled(&node, u64::from(MANY));
    let resent = node.committed().get(ForwardCounter::ResentBatches);
    assert_eq!(resent, sent.len() as u64 - 5);
}

#[test]
fn after_a_clean_stop_the_rest_comes_first_and_nothing_twice() {
    let address = nobody();
    let mut node = Node::new(1);
    let config = node.config(&address.to_string(), &settings(&node, ""));
    let running = Running::start(config.clone());
    until_it_works(&node);
    node.workers[0].emit(0..1000);
    // What is still in the ring goes to disk too.
    let left = running.stop();
    assert_eq!((left.unacked_packets, left.packets_on_disk), (0, 1000));
    assert_eq!(node.workers[0].ring.used(), 0);
    assert_eq!(mode(&directory(&node)), 0o700);
    for file in fs::read_dir(directory(&node)).unwrap() {
        assert_eq!(mode(&file.unwrap().path()), 0o600);
    }

    let mut processor = Processor::listen(address);
    let running = Running::start(config.clone());
    let mut stream = processor.stream();
    let mut arrived = take(&processor, &mut stream, 400);
    until("all answers are taken", || {
        node.committed().get(ForwardCounter::Acked) == arrived.len() as u64
    });
    // What the processor got meanwhile and did not answer comes again.
    let left = running.stop();
    assert_eq!(left.packets_on_disk + arrived.len() as u64, 1000);

    let running = Running::start(config);
    let mut stream = processor.stream();
    node.workers[0].emit(1000..1100);
    let rest = 1100 - arrived.len();
    arrived.extend(take(&processor, &mut stream, rest));
    assert_eq!(arrived, (0..1100).collect::<Vec<_>>());
    assert_settled(&node, 1100);
    assert_eq!(node.committed().get(ForwardCounter::DiskRecovered), 0);
    assert_eq!(running.stop().packets_on_disk, 0);
}

#[test]
fn another_run_delivers_what_the_last_one_left() {
    let place = tempfile::tempdir().unwrap();
    let address = nobody();
    let more = |node: &Node| {
        let text = settings(node, "");
        text.replace(
            directory(node).to_str().unwrap(),
            place.path().to_str().unwrap(),
        )
    };
    let mut node = Node::new(1);
    let running = Running::start(node.config(&address.to_string(), &more(&node)));
    until_it_works(&node);
    node.workers[0].emit(0..500);
    assert_eq!(running.stop().packets_on_disk, 500);
    // Another boot: nothing of the shared memory is left.
    let mut node = Node::new(1);
    let mut processor = Processor::listen(address);
    let _running = Running::start(node.config(&address.to_string(), &more(&node)));
    let mut stream = processor.stream();
    node.workers[0].emit(500..520);
    let arrived = take(&processor, &mut stream, 520);
    assert_eq!(arrived, (0..520).collect::<Vec<_>>());
    assert_settled(&node, 20);
    assert_eq!(node.committed().get(ForwardCounter::DiskRecovered), 500);
    assert_eq!(node.committed().get(ForwardCounter::Acked), 520);
}

#[test]
fn damage_costs_what_it_hit_and_is_counted_to_the_packet() {
    let address = nobody();
    let mut node = Node::new(1);
    let config = node.config(&address.to_string(), &settings(&node, ""));
    let running = Running::start(config.clone());
    until_it_works(&node);
    (0..5).for_each(|n| node.workers[0].emit(n * MANY..(n + 1) * MANY));
    running.stop();
    let segment = segments(&directory(&node)).remove(0);
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 5000].fill(0x5a);
    fs::write(&segment, bytes).unwrap();

    let mut processor = Processor::listen(address);
    let _running = Running::start(config);
    let mut stream = processor.stream();
    let mut arrived = Vec::new();
    while arrived.last() != Some(&(5 * MANY - 1)) {
        arrived.extend(take(&processor, &mut stream, 1));
    }
    assert!(arrived.is_sorted());
    assert_settled(&node, 5 * u64::from(MANY));
    let lost = node.committed().get(ForwardCounter::DiskLost);
    assert!(lost > 0);
    assert_eq!(arrived.len() as u64 + lost, 5 * u64::from(MANY));
    assert!(node.committed().get(ForwardCounter::DiskDamaged) > 0);
}

/// Packets of 1 KiB, so that a disk buffer of 16 MiB fills soon.
fn emit_long(node: &mut Node, numbers: std::ops::Range<u32>, priority: Priority) {
    for n in numbers {
        let mut data = n.to_be_bytes().to_vec();
        data.resize(1024, 0);
        node.workers[0].emit_with(&node::encoded(&data), priority);
    }
    node.workers[0].publish();
}

fn first_word(batch: &PacketBatch) -> impl Iterator<Item = u32> {
    batch
        .packets
        .iter()
        .map(|packet| u32::from_be_bytes(packet.data[..4].try_into().unwrap()))
}

#[test]
fn a_full_disk_gives_up_its_oldest_and_counts_them() {
    let mut node = Node::new(1);
    let address = nobody();
    node.session
        .set_queue_state(0, shm_layout::session::QueueState::Running, "");
    let _running = Running::start(live(&node, &address, "drop-oldest"));
    emit_long(&mut node, 0..30_000, Priority::Normal);
    let mut processor = Processor::listen(address);
    let mut stream = processor.stream();
    let mut arrived: Vec<u32> = Vec::new();
    while arrived.last() != Some(&29_999) {
        let batch = processor.batch(&mut stream);
        arrived.extend(first_word(&batch));
        stream.ack(batch.sequence);
    }
    assert!(arrived.is_sorted() && arrived.len() > 10_000);
    assert_settled(&node, 30_000);
    let commit = node.committed();
    let dropped = commit.get(ForwardCounter::DiskDropped);
    assert_eq!(arrived.len() as u64 + dropped, 30_000);
    assert_eq!(commit.get(ForwardCounter::DiskYielded), 0);
}

#[test]
fn urgent_packets_on_a_full_disk_outlive_others() {
    let mut node = Node::new(1);
    let address = nobody();
    let _running = Running::start(live(&node, &address, "drop-oldest"));
    emit_long(&mut node, 0..12_000, Priority::High);
    emit_long(&mut node, 12_000..30_000, Priority::Normal);
    emit_long(&mut node, 30_000..30_008, Priority::High);
    let mut processor = Processor::listen(address);
    let mut stream = processor.stream();
    let mut arrived: Vec<u32> = Vec::new();
    while arrived.last() != Some(&30_007) {
        let batch = processor.batch(&mut stream);
        arrived.extend(first_word(&batch));
        stream.ack(batch.sequence);
    }
    assert_eq!(arrived[..12_000], (0..12_000).collect::<Vec<_>>());
    assert_settled(&node, 30_008);
    let commit = node.committed();
    let yielded = commit.get(ForwardCounter::DiskYielded);
    assert!(yielded > 0);
    assert_eq!(commit.get(ForwardCounter::Dropped), yielded);
    assert_eq!(arrived.len() as u64 + yielded, 30_008);
}

#[test]
fn a_full_disk_that_drops_nothing_makes_the_rings_wait() {
    let mut node = Node::new(1);
    let address = nobody();
    let config = node.config(&address.to_string(), &with_policy(&node, "drop-newest"));
    let _running = Running::start(config);
    let mut sent = 0;
    let has_room = |node: &Node| node.workers[0].ring.used() <= node::TX_BYTES * 9 / 10;
    let is_full = |node: &Node| node.observer.forwarder.disk().state == DiskState::Full;
    // Until the ring stays full.
    while has_room(&node) || !is_full(&node) {
        if has_room(&node) {
            emit_long(&mut node, sent..sent + 1, Priority::Normal);
            sent += 1;
        } else {
            until("there is room, or the disk is full", || {
                has_room(&node) || is_full(&node)
            });
        }
    }
    assert!(node.committed().on_disk() > 10_000);
    let mut processor = Processor::listen(address);
    let mut stream = processor.stream();
    let mut arrived: Vec<u32> = Vec::new();
    while arrived.len() < sent as usize {
        let batch = processor.batch(&mut stream);
        arrived.extend(first_word(&batch));
        stream.ack(batch.sequence);
    }
    assert_eq!(arrived, (0..sent).collect::<Vec<_>>());
    assert_settled(&node, u64::from(sent));
    assert_eq!(node.committed().get(ForwardCounter::Dropped), 0);
}

#[test]
fn a_killed_forwarder_loses_nothing_on_its_way_to_or_from_the_disk() {
    let mut node = Node::new(1);
    let mut processor = Processor::start();
    let address = processor.address;
    let config = node.config_file(&address.to_string(), &settings(&node, ""));
    let mut rest = 0..40_000_u32;
    let mut seen: BTreeMap<u64, PacketBatch> = BTreeMap::new();
    for round in 0..12_u32 {
        let mut child = start(&config);
        let mut stream = processor.stream();
        let disk = || node.committed().get(ForwardCounter::DiskStored);
        let before = disk();
        // Nothing is acknowledged until the disk is used.
        node.workers[0].emit(rest.by_ref().take(1500));
        until("the disk is used", || {
            node.committed().get(ForwardCounter::DiskStored) > before
        });
        for n in 0..40 + 7 * round {
            let batch = processor.batch(&mut stream);
            // Within one run, a number stands for the same packets, however often it comes.
            if let Some(known) = seen.get(&batch.sequence) {
                assert_eq!(known.packets, batch.packets);
            }
            if n % 3 > 0 || round % 2 > 0 {
                stream.ack(batch.sequence);
            }
            seen.insert(batch.sequence, batch);
            if n % 3 == 0 && round % 2 == 0 {
                // An unanswered batch is followed by no answer.
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let mut child = start(&config);
    let mut stream = processor.stream();
    let total = 12 * 1500;
    while node.committed().get(ForwardCounter::Acked) < total {
        let Some(batch) =
            processor.batch_within(&mut stream, std::time::Duration::from_millis(100))
        else {
            continue;
        };
        if let Some(known) = seen.get(&batch.sequence) {
            assert_eq!(known.packets, batch.packets);
        }
        stream.ack(batch.sequence);
        seen.insert(batch.sequence, batch);
    }
    let mut arrived: Vec<u32> = seen.values().flat_map(numbers).collect();
    arrived.sort_unstable();
    assert_eq!(arrived, (0..total as u32).collect::<Vec<_>>());
    assert_settled(&node, total);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_directory_that_cannot_be_used_is_refused_at_start() {
    let node = Node::new(1);
    let config = node.config("127.0.0.1:1", &settings(&node, ""));
    let _held = lc_fwdd::open_directory(&config).unwrap();
    let refused = lc_fwdd::open_directory(&config).unwrap_err();
    assert!(matches!(
        refused,
        DiskBufferError::Directory(DirectoryError::InUse { .. })
    ));
    let child = start(&node.config_file("127.0.0.1:1", &settings(&node, "")));
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(78));
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(said.contains("in use by another process"), "{said}");
}

/// A configuration of a live capture: only such drops what is oldest.
fn live(node: &Node, processor: &SocketAddr, policy: &str) -> lc_daemon::config::Config {
    let file = node.config_file(&processor.to_string(), &with_policy(node, policy));
    let text = fs::read_to_string(&file).unwrap();
    let text = text.replace("read_files = [\"sample.pcap\"]", "interfaces = [\"lo\"]");
    fs::write(&file, text).unwrap();
    lc_daemon::config::Config::load(&file).unwrap()
}

fn start(config: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_lc-fwdd"))
        .arg("--config")
        .arg(config)
        .stderr(Stdio::piped())
        .env_remove("NOTIFY_SOCKET")
        .spawn()
        .unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "lco"))
        .collect();
    files.sort();
    files
}
