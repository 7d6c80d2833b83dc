//! A mapped file is a file: whatever is done to it, through it or behind its back, it shows what a plain one would.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::Path;

use mapped_file::MappedFile;
use proptest::prelude::*;
use tempfile::tempdir;

fn create(path: &Path) -> MappedFile {
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    MappedFile::new(options.open(path).unwrap()).unwrap()
}

fn read(file: &MappedFile, offset: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0xee; len];
    let read = file.read_at(&mut bytes, offset).unwrap();
    bytes.truncate(read);
    bytes
}

/// Lines of this process's list of mappings that name `path`.
fn mappings(path: &Path) -> usize {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let name = path.to_str().unwrap();
    maps.lines().filter(|line| line.ends_with(name)).count()
}

#[test]
fn it_is_mapped_once_and_only_while_it_is_open() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let file = create(&path);
    assert_eq!(mappings(&path), 0);
    file.write_at(b"one", 0).unwrap();
    file.write_at(b"two", 3).unwrap();
    assert_eq!(read(&file, 0, 10), b"onetwo");
    assert_eq!(mappings(&path), 1);
    // Beyond the address space that was taken first.
    file.write_at(b"three", 17 << 20).unwrap();
    assert_eq!(read(&file, 17 << 20, 10), b"three");
    assert_eq!(mappings(&path), 1);
    drop(file);
    assert_eq!(mappings(&path), 0);
}

#[test]
fn what_is_written_is_in_the_file_at_once() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    let file = create(&path);
    file.write_at(&[7; 10_000], 50_000).unwrap();
    let plain = fs::read(&path).unwrap();
    assert_eq!(plain.len(), 60_000);
    assert!(plain[..50_000].iter().all(|byte| *byte == 0));
    assert!(plain[50_000..].iter().all(|byte| *byte == 7));
    // Within it, and so through the mapping.
    file.write_at(&[8; 10_000], 20_000).unwrap();
    let plain = fs::read(&path).unwrap();
    assert!(plain[20_000..30_000].iter().all(|byte| *byte == 8));
    assert_eq!(plain.len(), 60_000);
    file.sync().unwrap();
}

#[test]
fn a_file_for_reading_is_not_written() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, b"precious").unwrap();
    let file = MappedFile::new(File::open(&path).unwrap()).unwrap();
    assert_eq!(read(&file, 3, 100), b"cious");
    file.write_at(b"mine", 0).unwrap_err();
    file.write_at(b"mine", 8).unwrap_err();
    assert_eq!(fs::read(&path).unwrap(), b"precious");
}

#[test]
fn the_end_of_the_file_ends_a_read() {
    let folder = tempdir().unwrap();
    let file = create(&folder.path().join("file"));
    assert_eq!(read(&file, 0, 10), b"");
    file.write_at(b"0123456789", 0).unwrap();
    assert_eq!(read(&file, 8, 10), b"89");
    assert_eq!(read(&file, 10, 10), b"");
    assert_eq!(read(&file, u64::MAX, 10), b"");
    assert_eq!(read(&file, 4, 0), b"");
}

#[test]
fn an_offset_that_no_file_has_is_an_error() {
    let folder = tempdir().unwrap();
    let file = create(&folder.path().join("file"));
    file.write_at(b"kept", 0).unwrap();
    let error = file.write_at(b"far", u64::MAX - 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    file.write_at(b"far", 1 << 62).unwrap_err();
    assert_eq!(read(&file, 0, 10), b"kept");
}

#[derive(Debug, Clone)]
enum Step {
    Write(u64, Vec<u8>),
    Read(u64, usize),
    Truncate(u64),
    Sync,
    /// By somebody else, who has the file open as well.
    ForeignWrite(u64, Vec<u8>),
    ForeignTruncate(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let offset = || 0..40_000u64;
    let bytes = || {
        (any::<u8>(), 0..9000usize).prop_map(|(first, len)| {
            (0..len)
                .map(|n| first.wrapping_add(n as u8))
                .collect::<Vec<_>>()
        })
    };
    let step = prop_oneof![
        4 => (offset(), bytes()).prop_map(|(offset, bytes)| Step::Write(offset, bytes)),
        4 => (offset(), 0..50_000usize).prop_map(|(offset, len)| Step::Read(offset, len)),
        1 => offset().prop_map(Step::Truncate),
        1 => Just(Step::Sync),
        1 => (offset(), bytes()).prop_map(|(offset, bytes)| Step::ForeignWrite(offset, bytes)),
        1 => offset().prop_map(Step::ForeignTruncate),
    ];
    prop::collection::vec(step, 1..60)
}

/// What a file holds after bytes were written into it.
fn put(model: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (start, end) = (offset as usize, offset as usize + bytes.len());
    if !bytes.is_empty() {
        model.resize(model.len().max(end), 0);
        model[start..end].copy_from_slice(bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_shows_what_a_plain_file_would(steps in steps()) {
        let folder = tempdir().unwrap();
        let path = folder.path().join("file");
        let file = create(&path);
        let foreign = File::options().write(true).open(&path).unwrap();
        let mut model = Vec::new();
        for step in steps {
            match step {
                Step::Write(offset, bytes) => {
                    file.write_at(&bytes, offset).unwrap();
                    put(&mut model, offset, &bytes);
                }
                Step::Read(offset, len) => {
                    let start = model.len().min(offset as usize);
                    let end = model.len().min(start + len);
                    prop_assert_eq!(read(&file, offset, len), &model[start..end]);
                }
                Step::Truncate(size) => {
                    file.truncate(size).unwrap();
                    model.resize(size as usize, 0);
                }
                Step::Sync => file.sync().unwrap(),
                Step::ForeignWrite(offset, bytes) => {
                    foreign.write_all_at(&bytes, offset).unwrap();
                    put(&mut model, offset, &bytes);
                }
                Step::ForeignTruncate(size) => {
                    foreign.set_len(size).unwrap();
                    model.resize(size as usize, 0);
                }
            }
            prop_assert_eq!(file.size().unwrap(), model.len() as u64);
        }
        prop_assert_eq!(fs::read(&path).unwrap(), model);
    }
}
