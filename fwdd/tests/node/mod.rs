//! A node without capture: the shared regions, capd's broker, and the workers' ends of the tx rings.
#![allow(dead_code, clippy::unwrap_used)]

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lc_daemon::attach::{self, Observer, Reply, Request, Role, SOCKET};
use lc_daemon::config::Config;
use lc_fwdd::{ForwarderError, Summary, Wish};
use lc_proto::data::{CapturedPacket, PacketBatch};
use prost::Message;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, accept, bind, listen, socket};
use shm_layout::filters::Snapshot;
use shm_layout::forwarder::{Forwarder, ForwarderCommit};
use shm_layout::layout::{Geometry, Kind, RegionId};
use shm_layout::region::{self, OwnedRegion, Pages, read_only};
use shm_layout::ring::RingWriter;
use shm_layout::session::{QueueState, Session};
use shm_layout::wire::{Priority, WireSlot};
use shm_layout::worker::{Worker, WorkerCommit};
use tempfile::TempDir;
use tokio::sync::watch;

pub const TX_BYTES: u64 = 64 << 10;
/// The forwarder does not see the logs.
const LOG_BYTES: u64 = 4096;

pub struct Node {
    pub dir: TempDir,
    pub session: OwnedRegion<Session>,
    pub workers: Vec<TestWorker>,
    pub observer: Observer,
    snapshots: Arc<Mutex<Option<(u64, OwnedFd)>>>,
    /// How many snapshots the broker refuses.
    pub refusals: Arc<AtomicU32>,
}

/// A worker as far as the forwarder sees one.
pub struct TestWorker {
    pub ring: RingWriter,
    region: OwnedRegion<Worker>,
    commit: WorkerCommit,
    ordinal: u64,
}

impl Node {
    pub fn new(workers: u16) -> Self {
        let geometry = Geometry {
            workers,
            queues: 1,
            rx_bytes: 4096,
            tx_bytes: TX_BYTES,
            calls_bytes: LOG_BYTES,
            held_bytes: LOG_BYTES,
            keys_bytes: 4096,
        };
        let fds: Arc<Vec<(RegionId, OwnedFd)>> = Arc::new(
            regions_of_all(&geometry)
                .into_iter()
                .map(|id| {
                    let fd = region::create(id, size_of_region(id), Pages::PreferHuge).unwrap();
                    (id, fd.0)
                })
                .collect(),
        );
        let find = |id: RegionId| fds.iter().find(|(have, _)| *have == id).unwrap().1.as_fd();
        let session_id = RegionId::single(Kind::Session);
        let session = OwnedRegion::<Session>::attach(find(session_id), session_id).unwrap();
        session.set_geometry(&geometry);
        session.set_queue_state(0, QueueState::Running, "");
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Arc::new(Mutex::new(None));
        let refusals = Arc::new(AtomicU32::new(0));
        serve(
            dir.path(),
            geometry,
            Arc::clone(&fds),
            Arc::clone(&snapshots),
            Arc::clone(&refusals),
        );
        let workers = (0..workers)
            .map(|n| {
                let of = |kind| RegionId::of_worker(kind, n);
                TestWorker {
                    ring: RingWriter::attach(
                        of(Kind::Tx),
                        find(of(Kind::Tx)),
                        find(of(Kind::TxCursor)),
                    )
                    .unwrap(),
                    region: OwnedRegion::attach(find(of(Kind::Worker)), of(Kind::Worker)).unwrap(),
                    commit: WorkerCommit::default(),
                    ordinal: 0,
                }
            })
            .collect();
        let observer = Observer::attach(dir.path()).unwrap();
        Self {
            dir,
            session,
            workers,
            observer,
            snapshots,
            refusals,
        }
    }

    /// A configuration as `lc-hunt` writes it, with more lines for `[hunter]`.
    pub fn config(&self, processor: &str, more: &str) -> Config {
        Config::load(&self.config_file(processor, more)).unwrap()
    }

    pub fn config_file(&self, processor: &str, more: &str) -> std::path::PathBuf {
        let path = self.dir.path().join("effective.toml");
        let run_dir = self.dir.path().display();
        let workers = self.workers.len();
        let patience = match more.contains("shutdown_timeout") {
            true => "",
            false => "shutdown_timeout = \"5s\"\n",
        };
        let text = format!(
            "[hunter]\nid = \"edge-1\"\nprocessor_addr = \"{processor}\"\nruntime_dir = \"{run_dir}\"\n\
             workers = {workers}\nread_files = [\"sample.pcap\"]\n{patience}{more}\n"
        );
        std::fs::write(&path, text).unwrap();
        path
    }

    /// What the forwarder has committed.
    pub fn committed(&self) -> ForwarderCommit {
        self.observer.forwarder.commit().unwrap()
    }

    /// The snapshot of the current generation, as a worker would get it.
    pub fn snapshot(&self) -> Option<Snapshot> {
        let held = self.snapshots.lock().unwrap();
        let (_, fd) = held.as_ref()?;
        Some(Snapshot::read(fd.as_fd()).unwrap())
    }
}

impl TestWorker {
    /// Puts packets into the ring whose data are these numbers.
    pub fn emit(&mut self, numbers: impl IntoIterator<Item = u32>) {
        for number in numbers {
            self.emit_bytes(&encoded(&number.to_be_bytes()));
        }
        self.publish();
    }

    /// Puts one record into the ring; waits for room.
    pub fn emit_bytes(&mut self, bytes: &[u8]) {
        self.emit_with(bytes, Priority::Normal);
    }

    /// The same, with a priority.
    pub fn emit_with(&mut self, bytes: &[u8], priority: Priority) {
        let begin = Instant::now();
        loop {
            if let Ok(mut slot) = WireSlot::reserve(&mut self.ring, self.ordinal, bytes.len()) {
                slot.bytes().copy_from_slice(bytes);
                slot.commit(priority);
                self.ordinal += 1;
                return;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "no room");
            self.publish();
            self.ring.wait_for_room(Duration::from_millis(100));
        }
    }

    pub fn publish(&mut self) {
        self.ring.publish();
        self.commit.set_tx_head(self.ring.head());
        self.region.publish(&self.commit);
    }
}

/// A packet as a worker encodes it.
pub fn encoded(data: &[u8]) -> Vec<u8> {
    let packet = CapturedPacket {
        data: data.to_vec().into(),
        timestamp_ns: 1,
        capture_length: data.len() as u32,
        original_length: data.len() as u32,
        link_type: 1,
        interface_name: "eth0".into(),
        ..Default::default()
    };
    PacketBatch {
        packets: vec![packet],
        ..Default::default()
    }
    .encode_to_vec()
}

/// The number that a packet carries.
pub fn number(packet: &CapturedPacket) -> u32 {
    u32::from_be_bytes(packet.data[..].try_into().unwrap())
}

/// A forwarder in a thread of this process.
pub struct Running {
    wish: watch::Sender<Wish>,
    thread: JoinHandle<Result<Summary, ForwarderError>>,
}

impl Running {
    pub fn start(config: Config) -> Self {
        let (wish, wished) = watch::channel(Wish::default());
        let disk = lc_fwdd::open_directory(&config).unwrap();
        let thread = thread::spawn(|| lc_fwdd::run(config, disk, wished, || {}));
        Self { wish, thread }
    }

    /// As SIGHUP does.
    pub fn reload(&self) {
        self.wish.send_modify(|wish| wish.reloads += 1);
    }

    pub fn stop(self) -> Summary {
        self.wish.send_modify(|wish| wish.stop = true);
        self.thread.join().unwrap().unwrap()
    }
}

/// Looks again and again until `done`, for up to 20 s.
#[track_caller]
pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !done() {
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "not in time: {what}"
        );
        thread::sleep(Duration::from_millis(2));
    }
}

fn regions_of_all(geometry: &Geometry) -> Vec<RegionId> {
    let mut ids = Vec::new();
    for role in [Role::Forwarder, Role::Observer] {
        for (id, _) in attach::regions_of(role, 0, geometry) {
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
    }
    ids
}

fn size_of_region(id: RegionId) -> u64 {
    match id.kind {
        Kind::Session => Session::BYTES,
        Kind::Worker => Worker::BYTES,
        Kind::Tx => TX_BYTES,
        Kind::Forwarder => Forwarder::BYTES,
        Kind::Calls => LOG_BYTES,
        _ => 0,
    }
}

/// capd's broker.
fn serve(
    dir: &Path,
    geometry: Geometry,
    fds: Arc<Vec<(RegionId, OwnedFd)>>,
    snapshots: Arc<Mutex<Option<(u64, OwnedFd)>>>,
    refusals: Arc<AtomicU32>,
) {
    let listener = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).unwrap();
    let address = SocketAddrUnix::new(dir.join(SOCKET)).unwrap();
    bind(&listener, &address).unwrap();
    listen(&listener, 8).unwrap();
    thread::spawn(move || {
        while let Ok(peer) = accept(&listener) {
            let (fds, snapshots) = (Arc::clone(&fds), Arc::clone(&snapshots));
            let refusals = Arc::clone(&refusals);
            thread::spawn(move || {
                while let Ok(Some(request)) = attach::receive::<Request>(peer.as_fd()) {
                    answer(&peer, request, &geometry, &fds, &snapshots, &refusals);
                }
            });
        }
    });
}

fn answer(
    peer: &OwnedFd,
    request: attach::Received<Request>,
    geometry: &Geometry,
    fds: &[(RegionId, OwnedFd)],
    snapshots: &Mutex<Option<(u64, OwnedFd)>>,
    refusals: &AtomicU32,
) {
    match request.message {
        Request::Attach { role, worker, .. } => {
            let (mut list, mut given) = (Vec::new(), Vec::new());
            for (id, writable) in attach::regions_of(role, worker, geometry) {
                let (_, fd) = fds.iter().find(|(have, _)| *have == id).unwrap();
                list.push((id.kind as u16, id.worker, id.queue));
                given.push(match writable {
                    true => fd.try_clone().unwrap(),
                    false => read_only(fd.as_fd(), id).unwrap(),
                });
            }
            let given: Vec<_> = given.iter().map(AsFd::as_fd).collect();
            attach::send(peer.as_fd(), &Reply::Regions(list), &given).unwrap();
        }
        Request::PublishFilters { generation } => {
            let fd = request.descriptors.into_iter().next().unwrap();
            let mut held = snapshots.lock().unwrap();
            let less = |left: u32| left.checked_sub(1);
            let refused = refusals
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, less)
                .is_ok();
            if refused || held.as_ref().is_some_and(|(last, _)| generation <= *last) {
                let refusal = Reply::Refused(format!("generation {generation} is not wanted"));
                attach::send(peer.as_fd(), &refusal, &[]).unwrap();
                return;
            }
            *held = Some((generation, fd));
            attach::send(peer.as_fd(), &Reply::Published(generation), &[]).unwrap();
        }
        Request::FetchFilters {} => {
            let held = snapshots.lock().unwrap();
            let (generation, given) = match held.as_ref() {
                Some((generation, fd)) => (*generation, vec![fd.as_fd()]),
                None => (0, Vec::new()),
            };
            attach::send(peer.as_fd(), &Reply::Filters(generation), &given).unwrap();
        }
    }
}
