//! What a receiver of a region's descriptor refuses, and what can't be done to a region.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::{Errno, pwrite};
use shm_layout::counters::{CaptureCounter, ForwardCounter, WorkerCounter};
use shm_layout::filters::{Filter, Snapshot, SnapshotError};
use shm_layout::forwarder::{Endpoints, Forwarder, ForwarderCommit};
use shm_layout::layout::{Geometry, HEADER_BYTES, Kind, LAYOUT_MAJOR, LAYOUT_MINOR, RegionId};
use shm_layout::log::LogBounds;
use shm_layout::peer::Identity;
use shm_layout::region::{OwnedRegion, Pages, Region, RegionError, create, read_only};
use shm_layout::session::{InterfaceInfo, QueueCommit, QueueState, Session};
use shm_layout::shares::WorkerSet;
use shm_layout::worker::{InProgress, Worker, WorkerCommit};
use std::os::fd::{AsFd, OwnedFd};

const SESSION: RegionId = RegionId::single(Kind::Session);

fn session() -> OwnedFd {
    create(SESSION, Session::BYTES, Pages::PreferHuge)
        .unwrap()
        .0
}

fn attach(fd: &OwnedFd) -> Result<Region<Session>, RegionError> {
    Region::attach(fd.as_fd(), SESSION)
}

#[test]
fn a_region_can_neither_shrink_nor_grow() {
    let fd = session();
    assert_eq!(ftruncate(&fd, 0), Err(Errno::PERM));
    assert_eq!(ftruncate(&fd, 1 << 30), Err(Errno::PERM));
}

#[test]
fn a_descriptor_without_seals_or_too_small_is_refused() {
    let fd = memfd_create("x", MemfdFlags::ALLOW_SEALING).unwrap();
    assert!(matches!(
        attach(&fd),
        Err(RegionError::Mismatch { what: "seals", .. })
    ));
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    assert!(matches!(
        attach(&fd),
        Err(RegionError::Mismatch { what: "size", .. })
    ));
}

#[test]
fn each_field_of_the_header_is_checked() {
    let scribble = |at: u64, bytes: &[u8]| {
        let fd = session();
        pwrite(&fd, bytes, at).unwrap();
        attach(&fd)
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default()
    };
    assert_eq!(scribble(3000, &[1]), "");
    assert!(scribble(0, &[0]).contains("magic"));
    let other = LAYOUT_MAJOR + 1;
    assert!(scribble(8, &other.to_le_bytes()).contains("upgrade the older side"));
    let newer = LAYOUT_MINOR + 1;
    assert_eq!(scribble(10, &newer.to_le_bytes()), "");
    assert!(scribble(12, &[2]).contains("kind"));
    assert!(scribble(16, &[1]).contains("feature"));
    assert!(scribble(24, &[1]).contains("recorded size"));
    assert!(scribble(32, &[0xff; 8]).contains("body size"));
    assert!(scribble(40, &[1]).contains("index"));
}

/// Sizes and positions that other releases rely on as long as the major stays.
#[test]
fn bodies_keep_their_sizes_and_counters_are_only_appended() {
    assert_eq!(
        [Session::BYTES, Worker::BYTES, Forwarder::BYTES],
        [169_600, 2_304, 1_102_976]
    );
    let last = [
        CaptureCounter::ALL[11].metric(),
        WorkerCounter::ALL[23].metric(),
        WorkerCounter::ALL[28].metric(),
        WorkerCounter::ALL[31].metric(),
        WorkerCounter::ALL[51].metric(),
        ForwardCounter::ALL[22].metric(),
    ];
    assert_eq!(
        last,
        [
            "capture_lost_with_socket_packets_total",
            "worker_shed_packets_total",
            "worker_flows_lost_total",
            "worker_matched_filters_left_out_total",
            "worker_shed_by_call_packets_total",
            "forward_disk_errors_total"
        ]
    );
}

#[test]
fn nobody_is_away_at_first() {
    let session = OwnedRegion::<Session>::attach(session().as_fd(), SESSION).unwrap();
    assert!(session.workers_away().is_empty());
    assert_eq!(session.steered_away(63), 0);
    session.set_workers_away(WorkerSet::NONE.with(63));
    session.count_steered_away(63, 2);
    session.count_steered_away(63, 3);
    assert!(session.workers_away().iter().eq([63]));
    assert_eq!(session.steered_away(63), 5);
}

#[test]
fn a_ring_of_an_impossible_capacity_is_refused() {
    let id = RegionId::of_worker(Kind::Tx, 0);
    let ring = create(id, 8192, Pages::PreferHuge).unwrap().0;
    let cursor_id = RegionId::of_worker(Kind::TxCursor, 0);
    let cursor = create(cursor_id, 0, Pages::PreferHuge).unwrap().0;
    pwrite(&ring, &6000u64.to_le_bytes(), 32).unwrap();
    let reader = shm_layout::ring::RingReader::attach(id, ring.as_fd(), cursor.as_fd());
    assert!(matches!(
        reader.err(),
        Some(RegionError::Mismatch {
            what: "ring capacity",
            ..
        })
    ));
}

#[test]
fn a_read_only_descriptor_cannot_be_mapped_writable() {
    let fd = read_only(session().as_fd(), SESSION).unwrap();
    assert!(attach(&fd).is_ok());
    let writable = OwnedRegion::<Session>::attach(fd.as_fd(), SESSION);
    assert!(matches!(
        writable.err(),
        Some(RegionError::System {
            errno: Errno::ACCESS,
            ..
        })
    ));
}

#[test]
fn missing_huge_pages_are_an_error_only_when_required() {
    let id = RegionId::of_worker(Kind::Tx, 0);
    // More than any machine has reserved.
    let required = create(id, 1 << 45, Pages::RequireHuge);
    let message = required.err().unwrap().to_string();
    assert!(message.contains("vm.nr_hugepages"), "{message}");
    assert!(create(id, 4 << 20, Pages::PreferHuge).is_ok());
}

#[test]
fn the_owner_and_its_life_are_known() {
    let fd = session();
    let view = attach(&fd).unwrap();
    assert!(!view.owner().is_alive());
    assert_eq!((view.epoch(), view.owner_version()), (0, String::new()));
    let owned = OwnedRegion::<Session>::attach(fd.as_fd(), SESSION).unwrap();
    assert_eq!(view.owner(), Identity::current());
    assert!(view.owner().is_alive());
    assert_eq!(
        (view.epoch(), view.owner_version()),
        (1, env!("CARGO_PKG_VERSION").to_owned())
    );
    let before = view.heartbeat_ns();
    owned.beat();
    assert!(view.heartbeat_ns() >= before);
}

#[test]
fn a_session_reads_as_it_was_written() {
    let fd = session();
    let owned = OwnedRegion::<Session>::attach(fd.as_fd(), SESSION).unwrap();
    let view = attach(&fd).unwrap();
    assert!(matches!(view.geometry(), Err(RegionError::Geometry(_))));
    let geometry = Geometry {
        workers: 2,
        queues: 3,
        rx_bytes: 1 << 23,
        tx_bytes: 1 << 24,
        calls_bytes: 1 << 12,
        held_bytes: 1 << 26,
        keys_bytes: 4096,
    };
    owned.set_geometry(&geometry);
    assert_eq!(view.geometry().unwrap(), geometry);

    owned.set_queue_state(2, QueueState::Retrying, "eth9 is gone");
    assert_eq!(
        view.queue_state(2),
        (QueueState::Retrying, "eth9 is gone".to_owned())
    );
    let mut commit = QueueCommit::new(2);
    commit.add(CaptureCounter::Captured, 5);
    commit.set_head(1, 77);
    commit.count_steered(1);
    assert_eq!(commit.sequence(), 0);
    commit.set_sequence(2);
    assert_eq!(commit.sequence(), 2);
    owned.commit_queue(2, &commit);
    assert_eq!(view.queue_commit(2, 2).unwrap(), commit);

    let info = InterfaceInfo {
        name: "eth0".into(),
        link_type: 113,
        queue: 2,
    };
    assert_eq!(view.interface(0), None);
    assert_eq!(owned.add_interface(&info), 0);
    assert_eq!(view.interface(0), Some(info));
}

#[test]
fn a_name_too_long_is_cut_at_a_character() {
    let fd = session();
    let owned = OwnedRegion::<Session>::attach(fd.as_fd(), SESSION).unwrap();
    let name = format!("{}ä", "x".repeat(63));
    owned.add_interface(&InterfaceInfo {
        name,
        link_type: 1,
        queue: 0,
    });
    assert_eq!(owned.interface(0).unwrap().name, "x".repeat(63));
}

#[test]
fn worker_and_forwarder_read_as_they_were_written() {
    let id = RegionId::of_worker(Kind::Worker, 5);
    let fd = create(id, Worker::BYTES, Pages::PreferHuge).unwrap().0;
    let owned = OwnedRegion::<Worker>::attach(fd.as_fd(), id).unwrap();
    let mut commit = WorkerCommit::default();
    commit.add(WorkerCounter::Fragments, 3);
    commit.set_tx_head(99);
    commit.set_rx_tail(31, 1234);
    let (calls, held) = (
        LogBounds { head: 16, tail: 8 },
        LogBounds { head: 24, tail: 0 },
    );
    commit.set_calls(calls);
    commit.set_held(held);
    assert_eq!((commit.calls(), commit.held()), (calls, held));
    assert_eq!((commit.tx_head(), commit.rx_tail(0)), (99, 0));
    owned.publish(&commit);
    assert_eq!(owned.commit().unwrap(), commit);
    assert_eq!(owned.in_progress(), None);
    let packet = InProgress {
        queue: 31,
        sequence: 1 << 40,
    };
    owned.set_in_progress(Some(packet));
    assert_eq!(owned.in_progress(), Some(packet));

    let id = RegionId::single(Kind::Forwarder);
    let fd = create(id, Forwarder::BYTES, Pages::PreferHuge).unwrap().0;
    let owned = OwnedRegion::<Forwarder>::attach(fd.as_fd(), id).unwrap();
    assert_eq!(owned.endpoints().unwrap(), Endpoints::default());
    let addresses = vec![
        "192.0.2.1:55555".parse().unwrap(),
        "[2001:db8::1]:443".parse().unwrap(),
    ];
    let endpoints = Endpoints {
        revision: 4,
        addresses,
    };
    owned.set_endpoints(&endpoints);
    assert_eq!(owned.endpoints().unwrap(), endpoints);
    let mut commit = ForwarderCommit::default();
    commit.add(ForwardCounter::Acked, 64);
    commit.advance(63, 4096, 64);
    commit.set_sequence(7);
    owned.publish(&commit);
    assert_eq!(owned.commit().unwrap(), commit);
}

fn snapshot() -> Snapshot {
    let filter = |n: u32| Filter {
        id: format!("filter-{n}"),
        filter_type: n,
        pattern: "10.0.0.0/8".repeat(n as usize),
        enabled: n.is_multiple_of(2),
    };
    Snapshot {
        generation: 42,
        filters: (0..9).map(filter).collect(),
    }
}

#[test]
fn a_snapshot_reads_as_it_was_sealed_and_cannot_be_changed() {
    let fd = snapshot().seal().unwrap();
    assert_eq!(Snapshot::read(fd.as_fd()).unwrap(), snapshot());
    assert_eq!(pwrite(&fd, &[1], HEADER_BYTES as u64), Err(Errno::PERM));
    let empty = Snapshot {
        generation: 1,
        filters: vec![],
    };
    assert_eq!(
        Snapshot::read(empty.seal().unwrap().as_fd()).unwrap(),
        empty
    );
}

#[test]
fn a_snapshot_that_its_maker_could_change_is_refused() {
    let id = RegionId::single(Kind::Filters);
    let fd = create(id, 64, Pages::PreferHuge).unwrap().0;
    assert!(matches!(
        Snapshot::read(fd.as_fd()),
        Err(SnapshotError::Unsealed)
    ));
}

proptest::proptest! {
    #[test]
    fn any_bytes_parse_or_are_refused(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        let _ = Snapshot::parse(&bytes);
    }
}
