//! The ring within one process: a record in and out again, by packet size.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::hint::black_box;
use std::os::fd::AsFd;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use shm_layout::layout::{Kind, RegionId};
use shm_layout::packet::{Packet, PacketHeader, push_inline};
use shm_layout::region::{Pages, create};
use shm_layout::ring::{RingReader, RingWriter};

const BATCH: u64 = 64;

fn ring(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    for size in [64, 350, 1000, 1500] {
        let (mut writer, mut reader) = pair();
        let bytes = vec![0xa5; size];
        let mut out = vec![0; size];
        let header = PacketHeader {
            sequence: 0,
            timestamp_ns: 0,
            captured_len: size as u32,
            original_len: size as u32,
            link_type: 1,
            interface: 0,
            flow_hash: 0,
        };
        group.throughput(Throughput::Elements(BATCH));
        group.bench_function(
            BenchmarkId::new("batch of 64 in and out", size),
            |bencher| {
                bencher.iter(|| {
                    for _ in 0..BATCH {
                        push_inline(&mut writer, &header, &bytes).expect("room for a batch");
                    }
                    writer.publish();
                    while let Some(record) = reader.read().expect("a sound ring") {
                        let packet = Packet::read(&record, None).expect("a packet");
                        packet.data.copy_to(black_box(&mut out));
                    }
                    reader.release();
                });
            },
        );
    }
    group.finish();
}

fn pair() -> (RingWriter, RingReader) {
    let rx = RegionId::of_queue(Kind::Rx, 0, 0);
    let rx_cursor = RegionId::of_queue(Kind::RxCursor, 0, 0);
    let (ring, _) = create(rx, 8 << 20, Pages::PreferHuge).expect("shared memory");
    let (cursor, _) = create(rx_cursor, 0, Pages::PreferHuge).expect("shared memory");
    (
        RingWriter::attach(rx, ring.as_fd(), cursor.as_fd()).expect("a writer"),
        RingReader::attach(rx, ring.as_fd(), cursor.as_fd()).expect("a reader"),
    )
}

criterion_group!(benches, ring);
criterion_main!(benches);
