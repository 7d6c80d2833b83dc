//! The daemon as its peers see it: regions from the broker, packets in the rings, filters in force, counters that balance, exit codes.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::io::{Read, Write};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lc_capd::bpf::{Expression, FilterError};
use lc_capd::source::{
    Deliver, FullRing, Interfaces, Packet, Poll, Predecessor, Source, SourceError, State, Status,
};
use lc_capd::{Passed, RunDir};
use lc_daemon::attach::{
    AttachError, Broker, ForwarderRegions, Observer, PROTOCOL, Reply, Request, Role, SOCKET,
    WorkerRegions, receive, send,
};
use lc_daemon::calls_log::CALL;
use lc_daemon::config::Config;
use lc_daemon::exit::Exit;
use lc_daemon::key_log::Entry;
use lc_daemon::signals::{Signals, Stop};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::Pid;
use rustix::fs::{OFlags, fcntl_getfl};
use shm_layout::counters::CaptureCounter;
use shm_layout::filters::{Filter, Snapshot};
use shm_layout::forwarder::{Endpoints, Forwarder as SharedForwarder};
use shm_layout::layout::{Geometry, Kind, RegionId};
use shm_layout::packet::Packet as Received;
use shm_layout::region::{OwnedRegion, Pages, create};
use shm_layout::session::{BpfState, QueueCommit, QueueState, Session as SharedSession};
use shm_layout::worker::Worker as SharedWorker;

const PATIENCE: Duration = Duration::from_secs(20);

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        thread::yield_now();
    }
}

/// An effective configuration with small rings.
fn configuration(dir: &Path, workers: usize, lines: &str) -> String {
    format!(
        "[hunter]\nprocessor_addr = \"127.0.0.1:55555\"\ninsecure = true\nid = \"test\"\nworkers = {workers}\nbuffer_size = 100\n\
         batch_queue_size = 1\nruntime_dir = {:?}\n{lines}\n",
        dir.join("run")
    )
}

fn config(dir: &Path, workers: usize, lines: &str) -> Config {
    let path = dir.join("capd.toml");
    fs::write(&path, configuration(dir, workers, lines)).unwrap();
    Config::load(&path).unwrap()
}

/// `count` UDP packets of `flows` flows from memory.
struct Memory {
    next: u32,
    count: u32,
    flows: u32,
    full_ring: FullRing,
    filter: Expression,
    gate: Option<Arc<Gate>>,
}

/// How far a source may go, and how often it was asked.
#[derive(Default)]
struct Gate {
    limit: AtomicU32,
    polls: AtomicU32,
}

impl Memory {
    fn new(count: u32, flows: u32, full_ring: FullRing) -> Self {
        Self {
            next: 0,
            count,
            flows,
            full_ring,
            filter: Expression::default(),
            gate: None,
        }
    }

    fn behind(mut self, gate: &Arc<Gate>) -> Self {
        self.gate = Some(Arc::clone(gate));
        self
    }
}

/// Length of each frame.
const FRAME: usize = 502;

/// Frame number `n`: its number stands behind the UDP header of one of `flows` flows, and fills it up to [`FRAME`] bytes.
fn frame(n: u32, flows: u32) -> Vec<u8> {
    let flow = (n % flows).to_be_bytes();
    let mut frame = [
        &[2; 12][..],
        &[
            8, 0, 0x45, 0, 1, 232, 0, 0, 0, 0, 64, 17, 0, 0, 10, flow[1], flow[2], flow[3], 10, 0,
            0, 1,
        ],
    ]
    .concat();
    frame.extend([0x13, 0xc4, 0x13, 0xc4, 1, 212, 0, 0]);
    while frame.len() < FRAME {
        frame.extend(n.to_be_bytes());
    }
    frame
}

impl Source for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn full_ring(&self) -> FullRing {
        self.full_ring
    }

    fn resume(&mut self, from: &Predecessor) -> bool {
        self.next = from.next as u32;
        false
    }

    fn position(&self) -> u64 {
        self.next.into()
    }

    fn poll(&mut self, max: usize, deliver: &mut Deliver<'_>) -> Result<Poll, SourceError> {
        if let Some(gate) = &self.gate {
            gate.polls.fetch_add(1, Ordering::SeqCst);
        }
        for _ in 0..max {
            if self.next == self.count {
                return Ok(Poll::Finished);
            }
            let gate = self.gate.as_ref();
            if gate.is_some_and(|gate| gate.limit.load(Ordering::SeqCst) == self.next) {
                return Ok(Poll::Dry);
            }
            let data = frame(self.next, self.flows);
            let packet = Packet {
                sequence: u64::from(self.next),
                timestamp_ns: u64::from(self.next),
                original_length: 600,
                link_type: 1,
                interface: 0,
                data: &data,
            };
            if deliver(&packet) == ControlFlow::Break(()) {
                return Ok(Poll::More);
            }
            self.next += 1;
        }
        Ok(Poll::More)
    }

    fn set_filter(&mut self, expression: &Expression) -> Result<(), FilterError> {
        expression.compile(1)?;
        self.filter = expression.clone();
        Ok(())
    }

    fn status(&mut self) -> Status {
        Status {
            state: State::Up,
            received: self.next.into(),
            ..Status::default()
        }
    }

    fn stop(&mut self) {
        self.count = self.next;
    }

    fn leave(&mut self) -> bool {
        false
    }
}

/// capd in a thread of this process.
struct Capd {
    stop: Stop,
    thread: JoinHandle<Exit>,
}

fn start(config: &Config, source: Memory) -> Capd {
    start_after(config, Vec::new(), source)
}

/// capd with what a predecessor has left.
fn start_after(config: &Config, passed: Vec<(String, OwnedFd)>, source: Memory) -> Capd {
    let signals = Signals::install().unwrap();
    let stop = signals.stop();
    let config = config.clone();
    let thread = thread::spawn(move || {
        let open = |interfaces: &Interfaces,
                    _: &mut Passed|
         -> Result<Vec<Box<dyn Source>>, SourceError> {
            interfaces.register("memory", 1);
            Ok(vec![Box::new(source)])
        };
        let run_dir = RunDir::make(&config).unwrap();
        lc_capd::run(&config, run_dir, passed, open, &signals).unwrap()
    });
    Capd { stop, thread }
}

impl Capd {
    fn end(self) -> Exit {
        self.stop.request();
        self.thread.join().unwrap()
    }
}

fn attach<T>(mut how: impl FnMut() -> Result<T, AttachError>) -> T {
    until("the broker", || how().ok())
}

/// Reads what is in a worker's rings: the packets' numbers, checked against what was sent.
fn drain(worker: &mut WorkerRegions, flows: u32, out: &mut Vec<u32>) {
    for ring in &mut worker.rx {
        while let Some(record) = ring.read().unwrap() {
            let packet = Received::read(&record, None).unwrap();
            let mut data = vec![0; packet.data.len()];
            packet.data.copy_to(&mut data);
            let number = u32::from_be_bytes(data[FRAME - 4..].try_into().unwrap());
            assert_eq!(data, frame(number, flows));
            assert_eq!(
                (
                    packet.header.timestamp_ns,
                    packet.header.original_len,
                    packet.header.link_type,
                    packet.header.interface
                ),
                (number.into(), 600, 1, 0)
            );
            out.push(number);
        }
        ring.release();
    }
}

fn assert_balanced(commit: &QueueCommit, workers: usize) {
    let steered: u64 = (0..workers).map(|worker| commit.steered(worker)).sum();
    let captured = commit.get(CaptureCounter::Captured);
    assert_eq!(
        captured,
        commit.get(CaptureCounter::RingFull) + commit.get(CaptureCounter::TooLong) + steered
    );
    // A replay has no kernel in its way: nothing received, nothing dropped.
    let received = commit.get(CaptureCounter::KernelReceived);
    let dropped = commit.get(CaptureCounter::KernelDropped);
    assert!(
        received == dropped + captured || (received, dropped) == (0, 0),
        "{received} received, {dropped} dropped, {captured} captured"
    );
    assert_eq!(commit.sequence(), captured);
}

fn filter(id: &str, filter_type: u32, pattern: &str, enabled: bool) -> Filter {
    Filter {
        id: id.into(),
        filter_type,
        pattern: pattern.into(),
        enabled,
    }
}

fn publish(forwarder: &ForwarderRegions, generation: u64, filters: Vec<Filter>) {
    let fd = Snapshot {
        generation,
        filters,
    }
    .seal()
    .unwrap();
    forwarder
        .broker
        .publish_filters(generation, fd.as_fd())
        .unwrap();
    forwarder.forwarder.set_filters(generation, 1);
}

#[test]
fn a_replay_waits_for_filters_and_for_room_and_loses_nothing() {
    const COUNT: u32 = 30_000;
    const FLOWS: u32 = 50;
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 2, "read_files = [\"memory\"]");
    let run_dir = config.runtime_dir.clone();
    // 15 MB through two rings of 2 MiB.
    let capd = start(&config, Memory::new(COUNT, FLOWS, FullRing::Wait));
    let mut workers = [0, 1].map(|index| attach(|| WorkerRegions::attach(&run_dir, index)));
    let forwarder = attach(|| ForwarderRegions::attach(&run_dir));
    let observer = attach(|| Observer::attach(&run_dir));
    assert_eq!(observer.session.interface(0).unwrap().name, "memory");
    until("the state", || {
        (observer.session.queue_state(0).0 == QueueState::WaitingForFilters).then_some(())
    });
    publish(&forwarder, 1, vec![filter("ip", 4, "10.0.0.1", true)]);
    until("the filters in capd", || {
        (observer.session.bpf().unwrap().generation == 1).then_some(())
    });
    workers[0].worker.set_filter_generation(1);
    assert_eq!(observer.session.queue_commit(0, 2).unwrap().sequence(), 0);
    workers[1].worker.set_filter_generation(1);
    let mut seen = [vec![], vec![]];
    until("the end", || {
        for (worker, seen) in workers.iter_mut().zip(&mut seen) {
            drain(worker, FLOWS, seen);
        }
        (observer.session.queue_state(0).0 == QueueState::Finished
            && workers.iter().all(|worker| worker.rx[0].is_empty()))
        .then_some(())
    });
    let commit = observer.session.queue_commit(0, 2).unwrap();
    assert_balanced(&commit, 2);
    assert_eq!(
        (commit.steered(0), commit.steered(1)),
        (seen[0].len() as u64, seen[1].len() as u64)
    );
    assert!(seen.iter().all(|seen| seen.is_sorted() && !seen.is_empty()));
    // Each flow keeps to one worker.
    let flows = seen.each_ref().map(|seen| {
        seen.iter()
            .map(|n| n % FLOWS)
            .collect::<std::collections::BTreeSet<_>>()
    });
    assert!(flows[0].is_disjoint(&flows[1]));
    let mut all = seen.concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..COUNT));
    assert_eq!(capd.end(), Exit::Ok);
    assert!(observer.session.is_stopping());
    assert!(!run_dir.join("capd.sock").exists());
}

/// Half of the flows begin before a worker tells that it has their calls, half of them afterwards.
#[test]
fn media_that_begin_go_to_the_worker_of_their_call_and_flows_that_have_begun_stay() {
    const FLOWS: u32 = 40;
    const COUNT: u32 = 10 * FLOWS;
    for (mode, follows_calls) in [("voip", true), ("hunt", false)] {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), 4, &format!("mode = \"{mode}\""));
        let gate = Arc::new(Gate::default());
        let source = Memory::new(COUNT, FLOWS, FullRing::Wait).behind(&gate);
        let capd = start(&config, source);
        let run_dir = config.runtime_dir.clone();
        let mut workers =
            [0, 1, 2, 3].map(|index| attach(|| WorkerRegions::attach(&run_dir, index)));
        let observer = attach(|| Observer::attach(&run_dir));
        let mut seen = [const { vec![] }; 4];
        let mut read_up_to = |workers: &mut [WorkerRegions; 4], count: u32| {
            gate.limit.store(count, Ordering::SeqCst);
            until("the packets", || {
                for (worker, seen) in workers.iter_mut().zip(&mut seen) {
                    drain(worker, FLOWS, seen);
                }
                (seen.iter().map(Vec::len).sum::<usize>() == count as usize).then_some(())
            });
            seen.clone()
        };
        let before = read_up_to(&mut workers, FLOWS / 2);
        // Endpoints 10.0.0.0:5060 and on, and a record that is none.
        let call: Vec<u8> = (0..FLOWS as u8)
            .flat_map(|n| [0x2a, 9, 0x0a, 4, 10, 0, 0, n, 0x10, 0xc4, 0x27])
            .collect();
        let log = &mut workers[3].calls;
        log.append(CALL, &[&[0xff; 100]]).unwrap();
        log.append(CALL, &[&call]).unwrap();
        log.publish();
        let polls = gate.polls.load(Ordering::SeqCst);
        until("another look at the logs", || {
            (gate.polls.load(Ordering::SeqCst) > polls + 1).then_some(())
        });
        let seen = read_up_to(&mut workers, COUNT);
        let flows = |seen: &[Vec<u32>; 4], worker: usize| -> std::collections::BTreeSet<u32> {
            seen[worker].iter().map(|n| n % FLOWS).collect()
        };
        let mut all = 0;
        for worker in 0..4 {
            let (first, now) = (flows(&before, worker), flows(&seen, worker));
            all += now.len();
            if !follows_calls {
                continue;
            }
            let mut expected = first.clone();
            if worker == 3 {
                expected.extend(FLOWS / 2..FLOWS);
            }
            assert_eq!(now, expected, "worker {worker}");
        }
        assert_eq!(all, FLOWS as usize, "each flow keeps to one worker");
        let commit = observer.session.queue_commit(0, 4).unwrap();
        assert_balanced(&commit, 4);
        let steered = commit.get(CaptureCounter::SteeredMedia);
        assert_eq!(steered > 0, follows_calls);
        assert!(steered <= u64::from(COUNT - FLOWS / 2) / 2);
        assert_eq!(capd.end(), Exit::Ok);
    }
}

/// A worker that never comes does not hold up a replay for longer than the grace time; when it comes after all, it gets its share.
#[test]
fn a_worker_that_is_missing_loses_its_share_until_it_comes() {
    const FLOWS: u32 = 50;
    let dir = tempfile::tempdir().unwrap();
    let lines = "read_files = [\"memory\"]\nworker_grace = \"300ms\"";
    let config = config(dir.path(), 2, lines);
    let run_dir = config.runtime_dir.clone();
    let capd = start(&config, Memory::new(u32::MAX, FLOWS, FullRing::Wait));
    let mut present = attach(|| WorkerRegions::attach(&run_dir, 0));
    let forwarder = attach(|| ForwarderRegions::attach(&run_dir));
    let observer = attach(|| Observer::attach(&run_dir));
    publish(&forwarder, 1, vec![]);
    present.worker.set_filter_generation(1);
    let mut seen = vec![];
    until("packets of both shares", || {
        drain(&mut present, FLOWS, &mut seen);
        (seen.len() > 10_000).then_some(())
    });
    assert!(observer.session.workers_away().iter().eq([1]));
    assert!(seen.iter().copied().eq(0..seen.len() as u32));
    assert_eq!(observer.session.queue_commit(0, 2).unwrap().steered(1), 0);
    let steered_away = observer.session.steered_away(1);
    assert!(
        0 < steered_away && steered_away < observer.session.queue_commit(0, 2).unwrap().sequence()
    );
    assert_eq!(observer.session.steered_away(0), 0);

    let mut late = attach(|| WorkerRegions::attach(&run_dir, 1));
    let mut seen_late = vec![];
    until("its share", || {
        drain(&mut present, FLOWS, &mut seen);
        drain(&mut late, FLOWS, &mut seen_late);
        (seen_late.len() > 10_000).then_some(())
    });
    assert!(observer.session.workers_away().is_empty());
    capd.stop.request();
    until("the end", || {
        drain(&mut present, FLOWS, &mut seen);
        drain(&mut late, FLOWS, &mut seen_late);
        let ended = observer.session.is_stopping();
        (ended && present.rx[0].is_empty() && late.rx[0].is_empty()).then_some(())
    });
    assert_eq!(capd.end(), Exit::Ok);
    let commit = observer.session.queue_commit(0, 2).unwrap();
    assert_balanced(&commit, 2);
    // From then on, each flow keeps to its own worker.
    let first_late = seen_late[0];
    let flows = |seen: &[u32]| -> std::collections::BTreeSet<u32> {
        let after = seen
            .iter()
            .filter(|number| **number > first_late + 2 * FLOWS);
        after.map(|number| number % FLOWS).collect()
    };
    assert!(flows(&seen).is_disjoint(&flows(&seen_late)));
    let mut all = [seen, seen_late].concat();
    all.sort_unstable();
    assert!(all.into_iter().eq(0..commit.sequence() as u32));
}

#[test]
fn a_live_source_drops_and_counts_when_a_ring_is_full() {
    const COUNT: u32 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1, "interfaces = [\"lo\"]");
    let run_dir = config.runtime_dir.clone();
    let capd = start(&config, Memory::new(COUNT, 1, FullRing::Drop));
    let mut worker = attach(|| WorkerRegions::attach(&run_dir, 0));
    until("the end", || {
        worker.session.queue_state(0).0.has_ended().then_some(())
    });
    let mut seen = vec![];
    drain(&mut worker, 1, &mut seen);
    let commit = worker.session.queue_commit(0, 1).unwrap();
    assert_balanced(&commit, 1);
    assert!(commit.get(CaptureCounter::RingFull) > 0);
    assert_eq!(commit.steered(0), seen.len() as u64);
    assert_eq!(capd.end(), Exit::Ok);
}

/// The regions of a node with one worker and one capture thread, as capd makes them for `config`.
fn regions(config: &Config) -> Vec<(String, OwnedFd)> {
    let (rx, tx) = (config.rx_ring_bytes() as u64, config.tx_ring_bytes() as u64);
    let of_queue = |kind| RegionId::of_queue(kind, 0, 0);
    let of_worker = |kind| RegionId::of_worker(kind, 0);
    let sizes = [
        (RegionId::single(Kind::Session), SharedSession::BYTES),
        (RegionId::single(Kind::Forwarder), SharedForwarder::BYTES),
        (of_worker(Kind::Worker), SharedWorker::BYTES),
        (of_worker(Kind::Tx), tx),
        (of_worker(Kind::TxCursor), 0),
        (of_queue(Kind::Rx), rx),
        (of_queue(Kind::RxCursor), 0),
        (of_worker(Kind::Calls), config.calls_log_bytes as u64),
        (of_worker(Kind::Held), config.held_log_bytes as u64),
        (RegionId::single(Kind::Keys), config.keys_log_bytes() as u64),
    ];
    let make = |(id, bytes)| {
        let (fd, _) = create(id, bytes, Pages::PreferHuge).unwrap();
        ("region".to_owned(), fd)
    };
    let list: Vec<_> = sizes.into_iter().map(make).collect();
    let id = RegionId::single(Kind::Session);
    let session = OwnedRegion::<SharedSession>::attach(list[0].1.as_fd(), id).unwrap();
    session.set_geometry(&Geometry {
        workers: 1,
        queues: 1,
        rx_bytes: rx,
        tx_bytes: tx,
        calls_bytes: config.calls_log_bytes as u64,
        held_bytes: config.held_log_bytes as u64,
        keys_bytes: config.keys_log_bytes() as u64,
    });
    // A predecessor has taken ten packets.
    let mut commit = QueueCommit::new(1);
    commit.set_sequence(10);
    commit.set(CaptureCounter::Captured, 10);
    (0..10).for_each(|_| commit.count_steered(0));
    session.commit_queue(0, &commit);
    list
}

/// What a capd that was passed `regions` captures of 100 packets.
fn captured_after(config: &Config, regions: Vec<(String, OwnedFd)>) -> (u32, Vec<u32>) {
    let run_dir = config.runtime_dir.clone();
    let capd = start_after(config, regions, Memory::new(100, 1, FullRing::Drop));
    let mut worker = attach(|| WorkerRegions::attach(&run_dir, 0));
    until("the end", || {
        worker.session.queue_state(0).0.has_ended().then_some(())
    });
    let mut seen = vec![];
    drain(&mut worker, 1, &mut seen);
    let commit = worker.session.queue_commit(0, 1).unwrap();
    assert_eq!(commit.get(CaptureCounter::Captured), 100);
    let epoch = worker.session.epoch();
    assert_eq!(capd.end(), Exit::Ok);
    (epoch, seen)
}

#[test]
fn a_predecessors_regions_are_gone_on_with() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1, "interfaces = [\"lo\"]");
    let (epoch, seen) = captured_after(&config, regions(&config));
    assert_eq!((epoch, seen), (2, (10..100).collect()));
}

/// Whatever is wrong with what was left, capd begins anew and captures everything.
#[test]
fn regions_that_do_not_fit_are_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1, "interfaces = [\"lo\"]");
    let overwritten = |region: usize, offset, bytes: &[u8]| {
        let mut list = regions(&config);
        let (name, fd) = list.swap_remove(region);
        let file = fs::File::from(fd);
        file.write_all_at(bytes, offset).unwrap();
        list.push((name, file.into()));
        list
    };
    let mut missing = regions(&config);
    missing.pop();
    let mut of_another_size = regions(&config);
    let id = RegionId::of_queue(Kind::Rx, 0, 0);
    of_another_size[5].1 = create(id, 4 << 20, Pages::PreferHuge).unwrap().0;
    let mut no_region = regions(&config);
    no_region[0].1 = fs::File::open("/dev/null").unwrap().into();
    for left in [
        missing,
        of_another_size,
        no_region,
        // Layout major 0, an unknown kind, and no magic number.
        overwritten(0, 8, &[0, 0]),
        overwritten(3, 12, &[99, 0]),
        overwritten(6, 0, b"anything"),
    ] {
        let (epoch, seen) = captured_after(&config, left);
        assert_eq!((epoch, seen), (1, (0..100).collect()));
    }
}

/// A connection to the broker on which nothing was said.
fn connection(run_dir: &Path) -> OwnedFd {
    let kind = SockType::SeqPacket;
    let connection = socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let address = UnixAddr::new(&run_dir.join(SOCKET)).unwrap();
    connect(connection.as_raw_fd(), &address).unwrap();
    connection
}

/// Asks for the regions of a role.
fn ask(connection: &OwnedFd, role: Role) -> Reply {
    let request = Request::Attach {
        protocol: PROTOCOL,
        role,
        worker: 0,
    };
    send(connection.as_fd(), &request, &[]).unwrap();
    let received = receive::<Reply>(connection.as_fd()).unwrap().unwrap();
    assert_eq!(
        received.descriptors.is_empty(),
        matches!(received.message, Reply::Refused(_))
    );
    received.message
}

/// A worker that was taken over can't make a new connection; on the one it has it must not become another worker.
#[test]
fn a_connection_attaches_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 2, "interfaces = [\"lo\"]");
    let run_dir = config.runtime_dir.clone();
    let capd = start(&config, Memory::new(0, 1, FullRing::Drop));
    until("the broker", || Broker::connect(&run_dir).ok());
    let connection = connection(&run_dir);
    for (worker, granted) in [(0, true), (1, false)] {
        let request = Request::Attach {
            protocol: PROTOCOL,
            role: Role::Worker,
            worker,
        };
        send(connection.as_fd(), &request, &[]).unwrap();
        let reply = receive::<Reply>(connection.as_fd()).unwrap().unwrap();
        assert_eq!(matches!(reply.message, Reply::Regions(_)), granted);
        assert_eq!(reply.descriptors.is_empty(), !granted);
    }
    assert_eq!(capd.end(), Exit::Ok);
}

/// A worker that takes the place of another gets all secrets again; those that come later reach both.
#[test]
fn secrets_of_the_key_log_reach_each_worker_and_its_successor() {
    let dir = tempfile::tempdir().unwrap();
    let keys = dir.path().join("keys.log");
    let line = |number: u8| format!("CLIENT_RANDOM {number:064x} {:096x}\n", 0);
    let lines =
        format!("interfaces = [\"lo\"]\nmode = \"http\"\n[hunter.http]\ntls_keylog = {keys:?}");
    let config = config(dir.path(), 2, &lines);
    let run_dir = config.runtime_dir.clone();
    let capd = start(&config, Memory::new(0, 1, FullRing::Drop));
    let mut workers = [0, 1].map(|index| attach(|| WorkerRegions::attach(&run_dir, index)));
    fs::write(&keys, line(1)).unwrap();
    let next = |worker: &mut WorkerRegions| {
        let mut scratch = Vec::new();
        until("a secret", || {
            let record = worker.keys.next(&mut scratch).unwrap()?;
            let entry = Entry::read(record.kind, record.body).unwrap();
            Some(entry.client_random[31])
        })
    };
    for worker in &mut workers {
        assert_eq!(next(worker), 1);
    }
    let [first, mut second] = workers;
    drop(first);
    let mut successor = attach(|| WorkerRegions::attach(&run_dir, 0));
    assert_eq!(next(&mut successor), 1);
    fs::OpenOptions::new()
        .append(true)
        .open(&keys)
        .unwrap()
        .write_all(line(2).as_bytes())
        .unwrap();
    for worker in [&mut successor, &mut second] {
        assert_eq!(next(worker), 2);
    }
    assert_eq!(capd.end(), Exit::Ok);
}

/// What a worker knows of calls, the others and observers read; what it holds, nobody else gets.
#[test]
fn logs_are_handed_out_by_role() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 2, "interfaces = [\"lo\"]");
    let run_dir = config.runtime_dir.clone();
    let capd = start(&config, Memory::new(0, 1, FullRing::Drop));
    let mut first = attach(|| WorkerRegions::attach(&run_dir, 0));
    let mut second = attach(|| WorkerRegions::attach(&run_dir, 1));
    let mut observer = Observer::attach(&run_dir).unwrap();
    first.calls.append(7, &[b"a call"]).unwrap();
    first.calls.publish();
    let mut scratch = Vec::new();
    for reader in [&mut second.peers[0].calls, &mut observer.calls[0]] {
        let record = reader.next(&mut scratch).unwrap().unwrap();
        assert_eq!((record.kind, record.body), (7, &b"a call"[..]));
    }
    assert!(!observer.calls[1].behind());
    let indices = |worker: &WorkerRegions| -> Vec<u16> {
        worker.peers.iter().map(|peer| peer.worker).collect()
    };
    assert_eq!((indices(&first), indices(&second)), (vec![1], vec![0]));

    let [calls, held, keys] = [Kind::Calls, Kind::Held, Kind::Keys].map(|kind| kind as u16);
    for (role, worker, logs) in [
        (
            Role::Worker,
            1,
            vec![
                (held, 1, true),
                (keys, 0, false),
                (calls, 0, false),
                (calls, 1, true),
            ],
        ),
        (
            Role::Observer,
            0,
            vec![(calls, 0, false), (calls, 1, false)],
        ),
        (Role::Forwarder, 0, vec![]),
    ] {
        let connection = connection(&run_dir);
        let request = Request::Attach {
            protocol: PROTOCOL,
            role,
            worker,
        };
        send(connection.as_fd(), &request, &[]).unwrap();
        let received = receive::<Reply>(connection.as_fd()).unwrap().unwrap();
        let Reply::Regions(regions) = received.message else {
            panic!("{:?}", received.message);
        };
        let handed_out = regions.iter().zip(&received.descriptors);
        let writable = |fd: &OwnedFd| fcntl_getfl(fd).unwrap().contains(OFlags::RDWR);
        let found: Vec<_> = handed_out
            .filter(|((kind, ..), _)| [calls, held, keys].contains(kind))
            .map(|((kind, worker, _), fd)| (*kind, *worker, writable(fd)))
            .collect();
        assert_eq!(found, logs, "{role}");
    }
    assert_eq!(capd.end(), Exit::Ok);
}

#[test]
fn the_broker_keeps_roles_apart() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1, "interfaces = [\"lo\"]");
    let run_dir = config.runtime_dir.clone();
    let capd = start(&config, Memory::new(0, 1, FullRing::Drop));
    let refused = |result: Result<(), AttachError>, words: &str| match result {
        Err(AttachError::Refused(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("not refused: {other:?}"),
    };
    let broker = attach(|| Broker::connect(&run_dir));
    refused(broker.fetch_filters().map(drop), "attach first");
    let snapshot = |generation| {
        Snapshot {
            generation,
            filters: vec![],
        }
        .seal()
        .unwrap()
    };
    refused(
        broker.publish_filters(1, snapshot(1).as_fd()),
        "only the forwarder",
    );
    refused(WorkerRegions::attach(&run_dir, 1).map(drop), "no worker 1");
    let worker = WorkerRegions::attach(&run_dir, 0).unwrap();
    assert!(worker.broker.fetch_filters().unwrap().is_none());
    let looks = connection(&run_dir);
    assert!(matches!(ask(&looks, Role::Observer), Reply::Regions(_)));
    send(looks.as_fd(), &Request::FetchFilters {}, &[]).unwrap();
    let reply = receive::<Reply>(looks.as_fd()).unwrap().unwrap().message;
    assert!(
        matches!(&reply, Reply::Refused(why) if why.contains("observers")),
        "{reply:?}"
    );
    refused(
        worker.broker.publish_filters(1, snapshot(1).as_fd()),
        "only the forwarder",
    );
    let forwarder = ForwarderRegions::attach(&run_dir).unwrap();
    refused(
        forwarder.broker.publish_filters(2, snapshot(1).as_fd()),
        "generation 1",
    );
    refused(
        forwarder
            .broker
            .publish_filters(1, fs::File::open("/dev/null").unwrap().as_fd()),
        "filters",
    );
    forwarder
        .broker
        .publish_filters(1, snapshot(1).as_fd())
        .unwrap();
    refused(
        forwarder.broker.publish_filters(1, snapshot(1).as_fd()),
        "already published",
    );
    let fetched = worker.broker.fetch_filters().unwrap().unwrap();
    assert_eq!(Snapshot::read(fetched.as_fd()).unwrap().generation, 1);
    assert_eq!(capd.end(), Exit::Ok);
}

#[test]
fn pushed_filters_and_endpoints_come_into_force() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), 1, "interfaces = [\"lo\"]\nbpf_filter = \"udp\"");
    let run_dir = config.runtime_dir.clone();
    // A source that is never finished, since every packet waits for room that never comes.
    let capd = start(&config, Memory::new(u32::MAX, 1, FullRing::Wait));
    let forwarder = attach(|| ForwarderRegions::attach(&run_dir));
    publish(
        &forwarder,
        3,
        vec![
            filter("a", 5, "port 5060", true),
            filter("b", 5, "prot 5060", true),
            filter("c", 5, "port 1", false),
            filter("d", 4, "10.0.0.1", true),
        ],
    );
    let endpoints = Endpoints {
        revision: 1,
        addresses: vec!["192.0.2.1:55555".parse().unwrap()],
    };
    forwarder.forwarder.set_endpoints(&endpoints);
    let expected = BpfState {
        generation: 3,
        active: 1,
        refused: 1,
        endpoints: 1,
    };
    until("the filters", || {
        (forwarder.session.bpf().unwrap() == expected).then_some(())
    });
    publish(&forwarder, 4, vec![]);
    let expected = BpfState {
        generation: 4,
        active: 0,
        refused: 0,
        endpoints: 1,
    };
    until("their end", || {
        (forwarder.session.bpf().unwrap() == expected).then_some(())
    });
    assert_eq!(capd.end(), Exit::Ok);
}

/// The program in a process of its own, which does not outlive the test.
struct Process(Child);

impl Process {
    /// SIGTERM; the exit code and what it wrote on standard error.
    fn end(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).unwrap();
        let mut log = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut log)
            .unwrap();
        (self.0.wait().unwrap().code(), log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when the process has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the program itself; its exit code and what it wrote on standard error.
fn program(dir: &Path, lines: &str) -> (Option<i32>, String) {
    let path = dir.join("capd.toml");
    fs::write(&path, configuration(dir, 1, lines)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_lc-capd"))
        .arg("--config")
        .arg(path)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

#[test]
fn a_start_that_cannot_work_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("text"), "no capture").unwrap();
    fs::write(
        dir.path().join("empty.pcap"),
        [
            &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0][..],
            &[0; 12],
            &[1, 0, 0, 0],
        ]
        .concat(),
    )
    .unwrap();
    let file = |name: &str| format!("read_files = [{:?}]", dir.path().join(name));
    for (lines, words) in [
        (
            "interfaces = [\"nonesuch0\"]".to_owned(),
            "no such network interface: nonesuch0",
        ),
        (file("missing"), "No such file"),
        (file("text"), "is not a capture file"),
        (
            file("empty.pcap") + "\nbpf_filter = \"prot 80\"",
            "syntax error",
        ),
        ("snaplen = 1".to_owned(), "snaplen"),
    ] {
        let (code, log) = program(dir.path(), &lines);
        assert_eq!(code, Some(78), "{log}");
        assert!(log.contains(words), "{log}");
        assert_eq!(log.matches("\"ERROR\"").count(), 1, "{log}");
    }
}

#[test]
fn capture_without_permission_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("capd.toml");
    let lines = configuration(dir.path(), 1, "interfaces = [\"lo\"]");
    fs::write(&path, lines).unwrap();
    // A new user namespace takes away all rights over this network namespace.
    let output = Command::new("unshare")
        .arg("--user")
        .arg(env!("CARGO_BIN_EXE_lc-capd"))
        .arg("--config")
        .arg(path)
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    if log.contains("unshare:") {
        lc_tests::skipped!("no user namespace can be made ({})", log.trim());
        return;
    }
    assert_eq!(output.status.code(), Some(78), "{log}");
    assert!(
        log.contains("no permission to capture on lo") && log.contains("CAP_NET_RAW"),
        "{log}"
    );
}

/// A capture file of ten frames.
fn ten_frames() -> Vec<u8> {
    let mut bytes = [
        &[0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0][..],
        &[0; 12],
        &[1, 0, 0, 0],
    ]
    .concat();
    for n in 0..10u32 {
        let data = frame(n, 1);
        bytes.extend(
            [0, 0, data.len() as u32, 600]
                .iter()
                .flat_map(|word: &u32| word.to_le_bytes()),
        );
        bytes.extend(data);
    }
    bytes
}

/// Starts the program with a capture file.
fn replay(dir: &Path, capture: &Path, lines: &str) -> Process {
    let path = dir.join("capd.toml");
    let lines = format!("read_files = [{capture:?}]\n{lines}");
    fs::write(&path, configuration(dir, 1, &lines)).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_lc-capd"))
        .arg("--config")
        .arg(path)
        .stderr(Stdio::piped())
        .spawn();
    Process(child.unwrap())
}

#[test]
fn told_to_take_in_nothing_more_it_goes_on_handing_out_regions() {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("ten.pcap");
    fs::write(&capture, ten_frames()).unwrap();
    let process = replay(dir.path(), &capture, "replay_rate = \"1pps\"");
    let run_dir = dir.path().join("run");
    let worker = attach(|| WorkerRegions::attach(&run_dir, 0));
    kill(Pid::from_raw(process.0.id() as i32), Signal::SIGUSR2).unwrap();
    until("the end of capture", || {
        worker.session.is_stopping().then_some(())
    });
    assert!(worker.session.queue_commit(0, 1).unwrap().sequence() < 10);
    drop(worker);
    let successor = WorkerRegions::attach(&run_dir, 0).unwrap();
    assert!(successor.session.is_stopping());
    assert_eq!(process.end().0, Some(0));
}

#[test]
fn a_truncated_file_is_delivered_then_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = ten_frames();
    bytes.truncate(bytes.len() - 1);
    let capture = dir.path().join("cut.pcap");
    fs::write(&capture, bytes).unwrap();
    let process = replay(dir.path(), &capture, "");
    let run_dir = dir.path().join("run");
    let mut worker = attach(|| WorkerRegions::attach(&run_dir, 0));
    let forwarder = attach(|| ForwarderRegions::attach(&run_dir));
    publish(&forwarder, 1, vec![]);
    worker.worker.set_filter_generation(1);
    until("the end", || {
        (worker.session.queue_state(0).0 == QueueState::Finished).then_some(())
    });
    let commit = worker.session.queue_commit(0, 1).unwrap();
    assert_balanced(&commit, 1);
    assert_eq!(
        (commit.steered(0), commit.get(CaptureCounter::ReadErrors)),
        (9, 1)
    );
    assert_eq!(worker.session.interface(0).unwrap().name, "cut.pcap");
    let ring = &mut worker.rx[0];
    for n in 0..9 {
        let record = ring.read().unwrap().unwrap();
        let packet = Received::read(&record, None).unwrap();
        let mut data = [0; FRAME];
        assert_eq!(packet.data.copy_to(&mut data), FRAME);
        assert_eq!(data[..], frame(n, 1));
    }
    let (code, log) = process.end();
    assert_eq!(code, Some(65), "{log}");
    assert!(log.contains("cut.pcap is truncated"), "{log}");
}
