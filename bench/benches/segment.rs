//! One segment of the disk overflow, written and read record by record: through the mapping, and at positions.
//!
//! Works in the folder for temporary files: `TMPDIR` chooses the file system.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mapped_file::MappedFile;

const SEGMENT: u64 = 16 << 20;
/// A record is read in two pieces.
const HEADER: usize = 48;

/// The two ways to work on a file.
trait Way {
    fn of(file: File) -> Self;
    fn write(&self, bytes: &[u8], offset: u64);
    fn read(&self, bytes: &mut [u8], offset: u64);
}

impl Way for MappedFile {
    fn of(file: File) -> Self {
        Self::new(file).expect("an open file")
    }

    fn write(&self, bytes: &[u8], offset: u64) {
        self.write_at(bytes, offset).expect("room on the disk");
    }

    fn read(&self, bytes: &mut [u8], offset: u64) {
        assert_eq!(self.read_at(bytes, offset).ok(), Some(bytes.len()));
    }
}

impl Way for File {
    fn of(file: File) -> Self {
        file
    }

    fn write(&self, bytes: &[u8], offset: u64) {
        self.write_all_at(bytes, offset).expect("room on the disk");
    }

    fn read(&self, bytes: &mut [u8], offset: u64) {
        self.read_exact_at(bytes, offset).expect("so many bytes");
    }
}

fn segment(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("segment");
    let mut group = criterion.benchmark_group("segment");
    group.sample_size(20).throughput(Throughput::Bytes(SEGMENT));
    for record in [4 << 10, 64 << 10] {
        let id = |name| BenchmarkId::new(name, record);
        group.bench_function(id("write, at positions"), |bencher| {
            bencher.iter_custom(|times| repeat(times, || write::<File>(&path, record)));
        });
        group.bench_function(id("write, mapped"), |bencher| {
            bencher.iter_custom(|times| repeat(times, || write::<MappedFile>(&path, record)));
        });
        write::<File>(&path, record);
        group.bench_function(id("read, at positions"), |bencher| {
            bencher.iter_custom(|times| repeat(times, || read::<File>(&path, record)));
        });
        group.bench_function(id("read, mapped"), |bencher| {
            bencher.iter_custom(|times| repeat(times, || read::<MappedFile>(&path, record)));
        });
    }
}

fn repeat(times: u64, once: impl Fn() -> Duration) -> Duration {
    (0..times).map(|_| once()).sum()
}

/// A new segment, from its creation to its closing. It has its length from the beginning: what a [`MappedFile`] grows by does not go through
/// the mapping.
fn write<W: Way>(path: &Path, record: usize) -> Duration {
    let _ = std::fs::remove_file(path);
    let bytes = vec![0x5a; record];
    let begin = Instant::now();
    let mut options = File::options();
    options.read(true).write(true).create_new(true);
    let file = options.open(path).expect("a file");
    file.set_len(SEGMENT).expect("a longer file");
    let file = W::of(file);
    for offset in (0..SEGMENT).step_by(record) {
        file.write(&bytes, offset);
    }
    drop(file);
    begin.elapsed()
}

/// The segment as it lies in the page cache.
fn read<W: Way>(path: &Path, record: usize) -> Duration {
    let begin = Instant::now();
    let file = W::of(File::open(path).expect("a segment"));
    for offset in (0..SEGMENT).step_by(record) {
        let mut header = [0; HEADER];
        file.read(&mut header, offset);
        let mut payload = vec![0; record - HEADER];
        file.read(&mut payload, offset + HEADER as u64);
        std::hint::black_box((header, payload));
    }
    drop(file);
    begin.elapsed()
}

criterion_group!(benches, segment);
criterion_main!(benches);
