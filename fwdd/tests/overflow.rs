//! The disk overflow: one test per fault, and a real directory.
#![allow(clippy::unwrap_used)]

mod disk;

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use disk::{FakeDisk, Fault};
use lc_fwdd::overflow::{
    Appended, Directory, DirectoryError, Disk, Options, Policy, Record, Span, State, Store,
    StoreError, Survey, SyncPolicy, Unavailable,
};
use lc_tests::child::{self, in_file_system_of, place};
use tempfile::tempdir;

const SECOND: Duration = Duration::from_secs(1);

const OPTIONS: Options = Options {
    limit: 256 << 10,
    policy: Policy::DropOldest,
    sync: SyncPolicy::Never,
};

fn open<D: Disk>(disk: D, options: Options) -> Store<D> {
    Store::open(disk, options, Instant::now()).unwrap().0
}

/// Appends record `identity` of `identity % 5 + 1` packets and about 4 KiB.
fn append<D: Disk>(store: &mut Store<D>, identity: u64) -> Appended {
    try_append(store, identity).unwrap()
}

fn try_append<D: Disk>(store: &mut Store<D>, identity: u64) -> Result<Appended, Unavailable> {
    store.append(
        packets_of(identity),
        false,
        &payload(identity),
        Instant::now(),
    )
}

fn append_all<D: Disk>(store: &mut Store<D>, identities: Range<u64>) {
    for identity in identities {
        append(store, identity);
    }
}

fn packets_of(identity: u64) -> u32 {
    (identity % 5 + 1) as u32
}

fn payload(identity: u64) -> Vec<u8> {
    identity.to_le_bytes().repeat(500)
}

fn identity(record: &Record) -> u64 {
    let identity = u64::from_le_bytes(record.payload[..8].try_into().unwrap());
    assert_eq!(record.payload, payload(identity));
    assert_eq!(record.packets, packets_of(identity));
    identity
}

/// Reads and acknowledges everything.
fn drain<D: Disk>(store: &mut Store<D>) -> Vec<u64> {
    let now = Instant::now();
    let mut all = Vec::new();
    while let Some(record) = store.read(now) {
        all.push(identity(&record));
        store.acknowledge(record.number, now);
    }
    all
}

fn packets_in(identities: impl IntoIterator<Item = u64>) -> u64 {
    identities
        .into_iter()
        .map(|identity| u64::from(packets_of(identity)))
        .sum()
}

#[test]
fn records_come_out_in_order_until_they_are_acknowledged() {
    let mut store = open(FakeDisk::default(), OPTIONS);
    let now = Instant::now();
    for identity in 0..20 {
        assert_eq!(append(&mut store, identity), Appended::Stored(identity));
    }
    let first: Vec<_> = (0..5).map(|_| store.read(now).unwrap().number).collect();
    assert_eq!(first, [0, 1, 2, 3, 4]);
    let done = store.acknowledge(2, now);
    assert_eq!((done.records, done.packets), (3, packets_in(0..3)));
    store.rewind();
    assert_eq!(drain(&mut store), (3..20).collect::<Vec<_>>());
    assert_eq!(store.counters().waiting, Span::default());
}

#[test]
fn a_clean_stop_forgets_nothing_and_repeats_nothing() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    let now = Instant::now();
    append_all(&mut store, 0..30);
    for _ in 0..15 {
        let record = store.read(now).unwrap();
        if record.number < 10 {
            store.acknowledge(record.number, now);
        }
    }
    store.close(now).unwrap();
    disk.cut_power(|| 0);
    let mut store = open(disk, OPTIONS);
    assert_eq!(drain(&mut store), (10..30).collect::<Vec<_>>());
}

#[test]
fn a_kill_loses_and_repeats_nothing() {
    let disk = FakeDisk::default();
    for life in 0..10 {
        let mut store = open(disk.clone(), OPTIONS);
        append_all(&mut store, life * 3..life * 3 + 3);
        let now = Instant::now();
        let record = store.read(now).unwrap();
        assert_eq!(identity(&record), life);
        store.acknowledge(record.number, now);
    }
    let mut store = open(disk, OPTIONS);
    assert_eq!(drain(&mut store), (10..30).collect::<Vec<_>>());
    assert_eq!(store.counters().lost, Span::default());
}

#[test]
fn a_power_cut_spares_what_was_made_durable() {
    for chance in 0..8 {
        let disk = FakeDisk::default();
        let options = Options {
            sync: SyncPolicy::EveryRecord,
            ..OPTIONS
        };
        let mut store = open(disk.clone(), options);
        append_all(&mut store, 0..20);
        assert_eq!(store.durable(), 20);
        drop(store);
        let mut dice: u8 = chance;
        disk.cut_power(|| {
            dice = dice.wrapping_mul(5).wrapping_add(3);
            dice
        });
        let mut store = open(disk, options);
        assert_eq!(drain(&mut store), (0..20).collect::<Vec<_>>());
    }
}

#[test]
fn a_power_cut_takes_what_was_not_durable_and_no_more() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..10);
    store.sync(Instant::now()).unwrap();
    append_all(&mut store, 10..20);
    assert_eq!(store.durable(), 10);
    drop(store);
    disk.cut_power(|| 0);
    let mut store = open(disk, OPTIONS);
    assert_eq!(drain(&mut store), (0..10).collect::<Vec<_>>());
}

#[test]
fn the_interval_bounds_what_a_power_cut_takes() {
    let disk = FakeDisk::default();
    let options = Options {
        sync: SyncPolicy::Every(SECOND),
        ..OPTIONS
    };
    let begin = Instant::now();
    let (mut store, _) = Store::open(disk, options, begin).unwrap();
    append(&mut store, 0);
    store.tick(begin + SECOND / 2);
    assert_eq!(store.durable(), 0);
    store.tick(begin + SECOND);
    assert_eq!(store.durable(), 1);
}

#[test]
fn writes_that_reached_the_disk_in_another_order_leave_a_counted_hole() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append(&mut store, 0);
    store.sync(Instant::now()).unwrap();
    append(&mut store, 1);
    append(&mut store, 2);
    drop(store);
    // The file's two late changes: the second is there, the first is not.
    let mut chances = [1, 3, 0].into_iter();
    disk.cut_power(|| chances.next().unwrap_or(3));
    let mut store = open(disk, OPTIONS);
    assert_eq!(drain(&mut store), [0, 2]);
    assert_eq!(store.counters().lost.packets, packets_in([1]));
}

#[test]
fn a_torn_record_at_the_end_is_passed_over() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..3);
    drop(store);
    let last = disk.segments().pop().unwrap();
    disk.edit(&last, |bytes| bytes.truncate(bytes.len() - 1000));
    let mut store = open(disk, OPTIONS);
    append(&mut store, 3);
    assert_eq!(drain(&mut store), [0, 1, 3]);
    let counters = store.counters();
    assert_eq!(
        (counters.damaged, counters.lost.packets),
        (1, packets_in([2]))
    );
}

#[test]
fn a_torn_write_is_an_error_and_the_next_try_succeeds() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append(&mut store, 0);
    let now = Instant::now();
    disk.plan([Some(Fault::Torn)]);
    store
        .append(packets_of(1), false, &payload(1), now)
        .unwrap_err();
    assert_eq!(store.state(), State::Failed);
    // Not before the time is up.
    store
        .append(packets_of(1), false, &payload(1), now)
        .unwrap_err();
    let later = now + SECOND;
    store
        .append(packets_of(1), false, &payload(1), later)
        .unwrap();
    assert_eq!(store.state(), State::Ok);
    drop(store);
    let mut store = open(disk, OPTIONS);
    assert_eq!(drain(&mut store), [0, 1]);
    assert_eq!(store.counters().lost, Span::default());
}

#[test]
fn a_damaged_payload_costs_its_record() {
    damage_costs(|bytes, record| bytes[record + 100] ^= 1, &[1]);
}

#[test]
fn a_damaged_record_header_costs_its_record() {
    damage_costs(|bytes, record| bytes[record + 20] ^= 1, &[1]);
}

#[test]
fn a_damaged_stretch_costs_the_records_it_touches() {
    damage_costs(
        |bytes, record| bytes[record - 10..record + 4100].fill(0xff),
        &[0, 1, 2],
    );
}

#[test]
fn a_damaged_segment_header_costs_nothing() {
    damage_costs(|bytes, _| bytes[..80].fill(0), &[]);
}

/// Damages the first segment, given where its second record begins, while the store is closed.
fn damage_costs(damage: impl FnOnce(&mut [u8], usize), lost: &[u64]) {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..20);
    drop(store);
    let first = disk.segments().remove(0);
    disk.edit(&first, |bytes| damage(bytes, 80 + 48 + 4000));
    let mut store = open(disk, OPTIONS);
    let expected: Vec<_> = (0..20)
        .filter(|identity| !lost.contains(identity))
        .collect();
    assert_eq!(drain(&mut store), expected);
    let counters = store.counters();
    assert_eq!(counters.lost.records, lost.len() as u64);
    assert_eq!(counters.lost.packets, packets_in(lost.iter().copied()));
}

#[test]
fn a_lost_segment_is_counted_to_the_packet() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..20);
    drop(store);
    disk.remove(&disk.segments()[1]).unwrap();
    let mut store = open(disk, OPTIONS);
    let delivered = drain(&mut store);
    assert!(delivered.len() < 20);
    let lost = packets_in(0..20) - packets_in(delivered);
    assert_eq!(store.counters().lost.packets, lost);
}

#[test]
fn a_record_inside_a_packet_is_no_record() {
    // A hostile packet that holds a whole segment of another store.
    let other = FakeDisk::default();
    let mut store = open(other.clone(), OPTIONS);
    append(&mut store, 7);
    let hostile = other.bytes(&other.segments()[0]);
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    store.append(1, false, &hostile, Instant::now()).unwrap();
    append(&mut store, 1);
    drop(store);
    let name = disk.segments().remove(0);
    disk.edit(&name, |bytes| bytes[80..128].fill(0));
    let mut store = open(disk, OPTIONS);
    assert_eq!(drain(&mut store), [1]);
    assert_eq!(store.counters().lost.packets, 1);
}

#[test]
fn a_damaged_position_repeats_but_loses_nothing() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..3);
    let now = Instant::now();
    let record = store.read(now).unwrap();
    store.acknowledge(record.number, now);
    drop(store);
    disk.edit("position", |bytes| bytes.fill(0xff));
    let mut store = open(disk, OPTIONS);
    assert_eq!(drain(&mut store), [0, 1, 2]);
}

#[test]
fn at_the_limit_the_oldest_are_dropped_and_counted() {
    let mut store = open(FakeDisk::default(), OPTIONS);
    append_all(&mut store, 0..200);
    let counters = store.counters();
    assert!(counters.bytes <= OPTIONS.limit);
    let delivered = drain(&mut store);
    assert!(delivered.len() > 40, "{}", delivered.len());
    assert_eq!(*delivered.last().unwrap(), 199);
    let dropped = 0..delivered[0];
    assert_eq!(delivered, (dropped.end..200).collect::<Vec<_>>());
    assert_eq!(counters.dropped_oldest.packets, packets_in(dropped));
    assert_eq!(store.counters().lost, Span::default());
}

#[test]
fn what_is_in_flight_is_not_dropped() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..10);
    let now = Instant::now();
    let read: Vec<_> = (0..5).map(|_| store.read(now).unwrap()).collect();
    append_all(&mut store, 10..200);
    let dropped = store.counters().dropped_oldest.packets;
    assert!(dropped > 0);
    drop(store);
    // Not even a kill turns what was dropped into losses.
    let mut store = open(disk, OPTIONS);
    let delivered = drain(&mut store);
    for record in read {
        assert!(delivered.contains(&identity(&record)));
    }
    assert_eq!(packets_in(0..200) - packets_in(delivered), dropped);
    assert_eq!(store.counters().lost, Span::default());
}

#[test]
fn a_long_time_in_flight_leaves_no_trail() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..10);
    let now = Instant::now();
    let first = store.read(now).unwrap();
    append_all(&mut store, 10..5000);
    assert!(disk.segments().len() < 30, "{:?}", disk.segments());
    let dropped = store.counters().dropped_oldest.packets;
    store.acknowledge(first.number, now);
    let delivered = drain(&mut store);
    assert_eq!(delivered.last(), Some(&4999));
    assert_eq!(packets_in(1..5000) - packets_in(delivered), dropped);
    assert_eq!(store.counters().lost, Span::default());
}

#[test]
fn a_hole_beside_dropped_segments_is_still_counted() {
    let disk = FakeDisk::default();
    let now = Instant::now();
    let mut store = open(disk.clone(), OPTIONS);
    let mut next = 0;
    let mut drop_one = |store: &mut Store<FakeDisk>| {
        let before = store.counters().dropped_oldest;
        append(store, next);
        next += 1;
        store.read(now).unwrap();
        while store.counters().dropped_oldest == before {
            append(store, next);
            next += 1;
        }
        store.counters().dropped_oldest.packets
    };
    let mut counted = drop_one(&mut store);
    drop(store);
    // The neighbour of the segment that was dropped.
    disk.remove(&disk.segments()[2]).unwrap();
    let mut store = open(disk, OPTIONS);
    counted += drop_one(&mut store);
    store.rewind();
    let delivered = drain(&mut store);
    let lost = store.counters().lost.packets;
    assert!(lost > 0);
    assert_eq!(packets_in(0..next) - packets_in(delivered), counted + lost);
    assert_eq!(store.counters().waiting, Span::default());
}

#[test]
fn at_the_limit_the_newest_stay_with_the_caller() {
    let options = Options {
        policy: Policy::DropNewest,
        ..OPTIONS
    };
    let mut store = open(FakeDisk::default(), options);
    let stored = (0..200)
        .take_while(|identity| try_append(&mut store, *identity).is_ok())
        .count() as u64;
    assert!(stored < 200);
    assert_eq!(store.state(), State::Full);
    assert!(store.is_full_for(payload(stored).len()));
    assert_eq!(drain(&mut store), (0..stored).collect::<Vec<_>>());
    append(&mut store, 300);
    assert_eq!(store.state(), State::Ok);
}

#[test]
fn a_record_that_would_not_fit_an_empty_store_is_refused_for_good() {
    let mut store = open(FakeDisk::default(), OPTIONS);
    let long = vec![7; OPTIONS.limit as usize];
    let appended = store.append(9, false, &long, Instant::now()).unwrap();
    assert_eq!(appended, Appended::TooLong);
    assert_eq!(store.counters().too_long.packets, 9);
    append(&mut store, 1);
    assert_eq!(drain(&mut store), [1]);
}

#[test]
fn what_its_writer_still_holds_need_not_be_read() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    for identity in 0..50 {
        assert!(store.is_read());
        assert_eq!(store.next_number(), identity);
        append(&mut store, identity);
        assert!(!store.is_read());
        store.pass_appended();
    }
    assert_eq!(store.read(Instant::now()), None);
    let acknowledged = store.acknowledge(29, Instant::now());
    assert_eq!(acknowledged.packets, packets_in(0..30));
    assert_eq!(store.first_number(), 30);
    // After a loss, or in a new process, they are read like all others.
    store.rewind();
    append(&mut store, 50);
    assert_eq!(drain(&mut store), (30..51).collect::<Vec<_>>());
    assert_eq!(store.counters().lost, Span::default());
    assert!(store.is_read());
}

#[test]
fn a_full_disk_gives_way_by_policy_and_goes_on() {
    for policy in [Policy::DropOldest, Policy::DropNewest] {
        let disk = FakeDisk::default();
        disk.limit(Some(100 << 10));
        let mut store = open(disk.clone(), Options { policy, ..OPTIONS });
        let stored = (0..100)
            .take_while(|identity| try_append(&mut store, *identity).is_ok())
            .count() as u64;
        match policy {
            Policy::DropOldest => assert_eq!(stored, 100),
            Policy::DropNewest => assert_eq!(store.state(), State::Full),
        }
        assert!(disk.used() <= 100 << 10);
        let delivered = drain(&mut store);
        assert!(delivered.len() > 10);
        let dropped = store.counters().dropped_oldest.packets;
        assert_eq!(packets_in(0..stored) - packets_in(delivered), dropped);
        append(&mut store, 500);
        assert_eq!(store.state(), State::Ok);
    }
}

#[test]
fn a_disk_too_full_to_drop_anything_keeps_what_it_has() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..2);
    drop(store);
    let mut store = open(disk.clone(), OPTIONS);
    append(&mut store, 2);
    store.read(Instant::now()).unwrap();
    // The record, then the header that would say that the second segment is dropped.
    disk.plan([Some(Fault::NoSpace), None, Some(Fault::NoSpace)]);
    let refused = try_append(&mut store, 3);
    assert_eq!(refused.map_err(|no| no.state), Err(State::Full));
    drop(store);
    let mut store = open(disk, OPTIONS);
    assert_eq!(drain(&mut store), [0, 1, 2]);
}

#[test]
fn a_read_only_disk_is_a_state_and_is_tried_again() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..3);
    disk.stand(Some(Fault::ReadOnly));
    let now = Instant::now();
    store.append(1, false, b"", now).unwrap_err();
    assert_eq!(store.state(), State::ReadOnly);
    // What is there is still delivered.
    assert_eq!(drain(&mut store), [0, 1, 2]);
    disk.stand(None);
    store.tick(now + 2 * SECOND);
    drop(store);
    let mut store = open(disk, OPTIONS);
    assert!(drain(&mut store).is_empty());
}

#[test]
fn a_read_only_disk_can_be_opened_and_read() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..3);
    drop(store);
    disk.stand(Some(Fault::ReadOnly));
    let mut store = open(disk, OPTIONS);
    assert_eq!(store.state(), State::ReadOnly);
    assert_eq!(drain(&mut store), [0, 1, 2]);
}

#[test]
fn what_the_system_failed_to_make_durable_is_never_called_so() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append(&mut store, 0);
    store.sync(Instant::now()).unwrap();
    append(&mut store, 1);
    // The position file comes first.
    disk.plan([None, Some(Fault::Io)]);
    store.sync(Instant::now()).unwrap_err();
    assert_eq!(store.counters().sync_errors, 1);
    append(&mut store, 2);
    store.sync(Instant::now()).unwrap();
    assert_eq!(store.durable(), 1);
    drop(store);
    disk.cut_power(|| 3);
    let mut store = open(disk, OPTIONS);
    assert_eq!(drain(&mut store), [0, 2]);
    assert_eq!(store.counters().lost.packets, packets_in([1]));
}

#[test]
fn what_can_not_be_read_is_tried_again_then_passed_over() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append_all(&mut store, 0..20);
    let mut now = Instant::now();
    disk.fail_reads(true);
    assert_eq!(store.read(now), None);
    disk.fail_reads(false);
    assert_eq!(store.read(now), None);
    now += SECOND;
    assert_eq!(store.read(now).map(|record| identity(&record)), Some(0));
    disk.fail_reads(true);
    for _ in 0..3 {
        now += SECOND;
        assert_eq!(store.read(now), None);
    }
    disk.fail_reads(false);
    store.rewind();
    assert_eq!(drain(&mut store), (0..20).collect::<Vec<_>>());
    assert!(store.counters().read_errors >= 4);
}

#[test]
fn another_version_is_refused_and_left_alone() {
    let disk = FakeDisk::default();
    let mut store = open(disk.clone(), OPTIONS);
    append(&mut store, 0);
    drop(store);
    let name = disk.segments().remove(0);
    disk.edit(&name, |bytes| {
        bytes[8] = 9;
        let crc = crc32c::crc32c(&bytes[..64]);
        bytes[64..68].copy_from_slice(&crc.to_le_bytes());
    });
    let before = disk.bytes(&name);
    let error = Store::open(disk.clone(), OPTIONS, Instant::now()).err();
    assert!(matches!(
        error,
        Some(StoreError::Version { version: 9, .. })
    ));
    assert_eq!(disk.bytes(&name), before);
}

// A real directory.

#[test]
fn directory_and_files_are_for_the_owner_alone() {
    let base = tempdir().unwrap();
    let path = base.path().join("a/buffer");
    fs::create_dir_all(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let mut store = open(Directory::open(&path).unwrap(), OPTIONS);
    append(&mut store, 0);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
    let files: Vec<_> = fs::read_dir(&path).unwrap().map(Result::unwrap).collect();
    assert_eq!(files.len(), 2);
    for file in files {
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o600);
    }
}

#[test]
fn a_second_process_is_refused() {
    let base = tempdir().unwrap();
    let first = Directory::open(base.path()).unwrap();
    let second = Directory::open(base.path());
    assert!(matches!(second, Err(DirectoryError::InUse { .. })));
    drop(first);
    Directory::open(base.path()).unwrap();
}

#[test]
fn links_are_not_followed() {
    let base = tempdir().unwrap();
    let (real, link) = (base.path().join("real"), base.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    assert!(matches!(
        Directory::open(&link),
        Err(DirectoryError::Unusable { .. })
    ));
    let elsewhere = base.path().join("elsewhere");
    fs::write(&elsewhere, b"precious").unwrap();
    symlink(&elsewhere, real.join("segment-0000000000000001.lco")).unwrap();
    let opened = Store::open(Directory::open(&real).unwrap(), OPTIONS, Instant::now());
    assert!(opened.is_err());
    assert_eq!(fs::read(&elsewhere).unwrap(), b"precious");
}

#[test]
fn foreign_files_are_left_alone() {
    let base = tempdir().unwrap();
    for name in ["notes.txt", "segment-1.lco", "batch-0000000001.pb"] {
        fs::write(base.path().join(name), b"mine").unwrap();
    }
    let mut store = open(Directory::open(base.path()).unwrap(), OPTIONS);
    append(&mut store, 0);
    drain(&mut store);
    store.close(Instant::now()).unwrap();
    let left = fs::read_dir(base.path()).unwrap().count();
    assert_eq!(left, 3 + 1, "the position stays");
}

#[test]
fn a_backlog_of_many_records_opens_by_its_headers() {
    let base = tempdir().unwrap();
    let options = Options {
        limit: 256 << 20,
        ..OPTIONS
    };
    fill_directory(base.path(), options, 100_000);
    // Damage inside the first record goes unseen until that record is read.
    let oldest = &Survey::of(base.path(), |_| ()).unwrap().segments[0].file;
    let oldest = File::options()
        .write(true)
        .open(base.path().join(oldest))
        .unwrap();
    oldest.write_at(&[8], 80 + 48 + 250).unwrap();
    let now = Instant::now();
    let (mut store, recovered) =
        Store::open(Directory::open(base.path()).unwrap(), options, now).unwrap();
    assert_eq!(recovered.waiting.records, 100_000);
    for number in 1..100_000 {
        let record = store.read(now).unwrap();
        assert_eq!(record.number, number);
        store.acknowledge(number, now);
    }
    assert_eq!(store.read(now), None);
}

fn fill_directory(path: &Path, options: Options, records: u64) {
    let mut store = open(Directory::open(path).unwrap(), options);
    for number in 0..records {
        let appended = store.append(3, false, &[7; 500], Instant::now()).unwrap();
        assert_eq!(appended, Appended::Stored(number));
    }
}

/// Names of the files below `path` that this process has mapped.
fn mapped(path: &Path) -> Vec<String> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let folder = path.file_name().unwrap().to_str().unwrap();
    maps.lines()
        .filter_map(|line| line.split_once(folder)?.1.strip_prefix('/'))
        .map(str::to_owned)
        .collect()
}

#[test]
fn what_is_read_is_mapped_and_no_more() {
    let base = tempdir().unwrap();
    let mut store = open(Directory::open(base.path()).unwrap(), OPTIONS);
    append_all(&mut store, 0..40);
    store.read(Instant::now()).unwrap();
    let mut files = mapped(base.path());
    files.sort();
    let mut all: Vec<_> = fs::read_dir(base.path())
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    all.sort();
    let oldest = all[1].clone();
    assert!(all.len() > 5, "{all:?}");
    assert_eq!(files, [oldest]);
    drain(&mut store);
    store.close(Instant::now()).unwrap();
    assert_eq!(mapped(base.path()), Vec::<String>::new());
}

#[test]
fn mapped_segments_cut_by_somebody_else_cost_what_was_cut() {
    const RECORD: u64 = 48 + 4000;
    let base = tempdir().unwrap();
    let mut store = open(Directory::open(base.path()).unwrap(), OPTIONS);
    // Four records fill a segment.
    append_all(&mut store, 0..18);
    assert_eq!(
        identity(&store.read(Instant::now()).unwrap()),
        0,
        "the oldest is mapped now"
    );
    let cut = |segment: &str, size| {
        let file = File::options().write(true).open(base.path().join(segment));
        file.unwrap().set_len(size).unwrap();
    };
    // In the middle of record 1, while it is read; behind record 16, while it is written.
    cut("segment-0000000000000001.lco", 80 + RECORD + 100);
    cut("segment-0000000000000005.lco", 80 + RECORD);
    append(&mut store, 18);
    let expected: Vec<_> = (4..17).chain([18]).collect();
    assert_eq!(drain(&mut store), expected);
    let counters = store.counters();
    assert_eq!(counters.lost.packets, packets_in([1, 2, 3, 17]));
    assert_eq!(counters.waiting, Span::default());
    assert_eq!(store.state(), State::Ok);
}

#[test]
fn a_survey_sees_what_waits_and_what_is_damaged() {
    let base = tempdir().unwrap();
    let mut store = open(Directory::open(base.path()).unwrap(), OPTIONS);
    append_all(&mut store, 0..20);
    let now = Instant::now();
    for _ in 0..5 {
        let record = store.read(now).unwrap();
        store.acknowledge(record.number, now);
    }
    let mut seen = Vec::new();
    let survey = Survey::of(base.path(), |record| seen.push(identity(&record))).unwrap();
    assert!(survey.in_use && !survey.is_damaged(), "{survey:?}");
    assert_eq!(seen, (5..20).collect::<Vec<_>>());
    assert_eq!(survey.acknowledged, 5);
    drop(store);
    let segment = base.path().join(&survey.segments[1].file);
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let damaged = Survey::of(base.path(), drop).unwrap();
    assert!(!damaged.in_use && damaged.is_damaged());
    assert_eq!(damaged.lost_records, 1);
    // Looking changed nothing.
    let mut store = open(Directory::open(base.path()).unwrap(), OPTIONS);
    assert_eq!(drain(&mut store).len(), 14);
    assert_eq!(store.counters().lost.packets, damaged.lost_packets);
}

#[test]
#[ignore = "the child of a_killed_process_leaves_all_that_it_stored"]
fn appends_until_it_is_killed() {
    let Some(place) = place() else { return };
    let mut store = open(Directory::open(&place).unwrap(), OPTIONS_LARGE);
    for identity in 0.. {
        append(&mut store, identity);
        println!("\nstored {identity}");
    }
}

const OPTIONS_LARGE: Options = Options {
    limit: 1 << 30,
    ..OPTIONS
};

#[test]
fn a_killed_process_leaves_all_that_it_stored() {
    let base = tempdir().unwrap();
    let mut process = child::of(&[], "appends_until_it_is_killed", base.path())
        .unwrap()
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let number = |line: String| line.strip_prefix("stored ")?.parse::<u64>().ok();
    let mut stored = lines
        .by_ref()
        .find_map(|line| number(line).filter(|n| *n > 500));
    process.kill().unwrap();
    process.wait().unwrap();
    stored = lines.filter_map(number).last().or(stored);
    let mut store = open(Directory::open(base.path()).unwrap(), OPTIONS_LARGE);
    let delivered = drain(&mut store);
    assert!(delivered.len() as u64 > stored.unwrap());
    assert_eq!(delivered, (0..delivered.len() as u64).collect::<Vec<_>>());
    // The record that was being written may be torn: it was not stored.
    assert!(store.counters().lost.records <= 1, "{:?}", store.counters());
}

#[test]
#[ignore = "the child of a_full_file_system_is_a_state"]
fn fills_the_file_system() {
    let Some(place) = place() else { return };
    let mut store = open(Directory::open(&place).unwrap(), OPTIONS_LARGE);
    append_all(&mut store, 0..2000);
    let counters = store.counters();
    assert!(counters.bytes <= 4 << 20, "{counters:?}");
    let delivered = drain(&mut store);
    assert!(!delivered.is_empty());
    let missing = packets_in(0..2000) - packets_in(delivered.iter().copied());
    assert_eq!(missing, counters.dropped_oldest.packets);
    assert_eq!(delivered.last(), Some(&1999));
    append(&mut store, 2000);
    assert_eq!(store.state(), State::Ok);
}

#[test]
fn a_full_file_system_is_a_state() {
    let base = tempdir().unwrap();
    in_file_system_of(4 << 20, "fills_the_file_system", base.path()).unwrap();
}
