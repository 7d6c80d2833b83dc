//! One test per fault. Those that need a small file system of their own, or that end in a signal, run in a child.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use lc_tests::child::{self, in_file_system_of, place};
use mapped_file::MappedFile;
use rustix::io::Errno;
use tempfile::tempdir;

const MEGABYTE: usize = 1 << 20;
/// Of the file systems made here.
const CAPACITY: usize = 4 * MEGABYTE;

fn open(path: &Path) -> MappedFile {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    MappedFile::new(options.open(path).unwrap()).unwrap()
}

fn number(error: &std::io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

// The file is cut by somebody else.

#[test]
fn a_file_cut_between_two_reads_ends_where_it_was_cut() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let file = open(&path);
    file.write_at(&[7; MEGABYTE], 0).unwrap();
    let mut bytes = vec![0; MEGABYTE];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), MEGABYTE);
    File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(100_000)
        .unwrap();
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 100_000);
    assert_eq!(file.read_at(&mut bytes, 200_000).unwrap(), 0);
    file.write_at(&[8; 1000], 200_000).unwrap();
    assert_eq!(fs::read(&path).unwrap().len(), 201_000);
}

#[test]
fn a_file_cut_again_and_again_during_reads_and_writes_is_no_end() {
    const ROUNDS: usize = 100;
    const SIZE: usize = 320_000;
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let foreign = File::create(&path).unwrap();
    let (file, over) = (open(&path), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                foreign.set_len(0).unwrap();
                foreign.set_len(SIZE as u64).unwrap();
            }
        });
        let mut bytes = vec![0; SIZE];
        for _ in 0..ROUNDS {
            let read = file.read_at(&mut bytes, 0).unwrap();
            assert!(bytes[..read].iter().all(|byte| [0, 7].contains(byte)));
            file.write_at(&[7; 20_000], 300_000).unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    // The last word is a file like any other.
    file.write_at(&[9; SIZE], 0).unwrap();
    assert_eq!(fs::read(&path).unwrap(), vec![9; SIZE]);
}

// The disk is full.

#[test]
fn a_full_disk_is_an_error_and_costs_nothing_written_before() {
    let folder = tempdir().unwrap();
    in_file_system_of(CAPACITY, "fills_a_disk", folder.path()).unwrap();
}

#[test]
#[ignore = "the child of a_full_disk_is_an_error_and_costs_nothing_written_before"]
fn fills_a_disk() {
    let Some(place) = place() else { return };
    let file = open(&place.join("file"));
    let record = [7; 100_000];
    let mut end = 0;
    let error = loop {
        match file.write_at(&record, end) {
            Ok(()) => end += record.len() as u64,
            Err(error) => break error,
        }
    };
    assert_eq!(number(&error), Some(Errno::NOSPC));
    assert!(end as usize > CAPACITY - 2 * record.len());
    file.truncate(end).unwrap();
    let mut bytes = vec![0; end as usize + 1];
    assert_eq!(file.read_at(&mut bytes, 0).unwrap(), end as usize);
    assert!(bytes[..end as usize].iter().all(|byte| *byte == 7));
    // There is room again.
    file.truncate(1000).unwrap();
    file.write_at(&record, 1000).unwrap();
    assert_eq!(file.size().unwrap(), 101_000);
}

#[test]
fn a_hole_on_a_full_disk_is_an_error_and_reads_as_zeros() {
    let folder = tempdir().unwrap();
    in_file_system_of(CAPACITY, "works_in_a_hole", folder.path()).unwrap();
}

#[test]
#[ignore = "the child of a_hole_on_a_full_disk_is_an_error_and_reads_as_zeros"]
fn works_in_a_hole() {
    let Some(place) = place() else { return };
    let (path, filler) = (place.join("file"), place.join("filler"));
    let file = open(&path);
    // The file has its length, but for these bytes no room.
    file.truncate(MEGABYTE as u64).unwrap();
    file.write_at(b"begin", 0).unwrap();
    fs::write(&filler, vec![1; CAPACITY]).unwrap_err();
    for _ in 0..3 {
        let error = file.write_at(&[7; 100_000], 500_000).unwrap_err();
        assert_eq!(number(&error), Some(Errno::NOSPC));
        // On a mapping, even reading a hole takes a page of tmpfs.
        let mut bytes = vec![0xee; MEGABYTE];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), MEGABYTE);
        assert_eq!(&bytes[..5], b"begin");
        assert!(bytes[5..].iter().all(|byte| *byte == 0));
    }
    fs::remove_file(&filler).unwrap();
    file.write_at(&[7; 100_000], 500_000).unwrap();
    let plain = fs::read(&path).unwrap();
    assert!(plain[500_000..600_000].iter().all(|byte| *byte == 7));
}

// Signals that are not ours.

#[test]
fn a_fault_in_memory_of_somebody_else_kills_as_ever() {
    let folder = tempdir().unwrap();
    let child = child::of(&[], "touches_a_page_that_is_not_there", folder.path());
    let output = child.unwrap().output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
}

#[test]
#[ignore = "the child of a_fault_in_memory_of_somebody_else_kills_as_ever"]
fn touches_a_page_that_is_not_there() {
    let Some(place) = place() else { return };
    install_handler(&place);
    let empty = File::create_new(place.join("empty")).unwrap();
    let file = File::open(place.join("empty")).unwrap();
    drop(empty);
    let (read, shared) = (rustix::mm::ProtFlags::READ, rustix::mm::MapFlags::SHARED);
    // SAFETY: a new mapping at an address that the kernel chooses.
    let page = unsafe { rustix::mm::mmap(ptr::null_mut(), 4096, read, shared, &file, 0) }.unwrap();
    // SAFETY: mapped for reading; that there is no page behind it is what this is about.
    let byte = unsafe { page.cast::<u8>().read_volatile() };
    panic!("there is {byte}");
}

#[test]
fn a_signal_that_was_sent_kills_as_ever() {
    let folder = tempdir().unwrap();
    let child = child::of(&[], "is_sent_the_signal", folder.path());
    let output = child.unwrap().output().unwrap();
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
}

#[test]
#[ignore = "the child of a_signal_that_was_sent_kills_as_ever"]
fn is_sent_the_signal() {
    let Some(place) = place() else { return };
    install_handler(&place);
    // The standard library's handler lets the first one pass, and takes itself away.
    for _ in 0..2 {
        // SAFETY: no memory is passed. To this very thread, so that it is taken before the next one is sent.
        unsafe { libc::raise(libc::SIGBUS) };
    }
    panic!("still there");
}

/// The handler comes with the first mapping.
fn install_handler(place: &Path) {
    let path = place.join("mapped");
    fs::write(&path, b"mapped").unwrap();
    let mut bytes = [0; 6];
    assert_eq!(open(&path).read_at(&mut bytes, 0).unwrap(), 6);
}
