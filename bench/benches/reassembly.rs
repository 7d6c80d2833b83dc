//! TCP reassembly: what a segment costs, by the number of connections and by the order of segments, and how many bytes pass in a second.
//!
//! Each segment is of another connection, in random order, so that with many of them each one misses the caches; `prepared` has those of a batch
//! fetched before, as a worker does. The payload stands in the cache. The consumer adds up lengths and looks at the first byte.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use lc_workerd::flows::Direction;
use lc_workerd::reassembly::{
    ConnectionId, Consumer, Event, Interest, Limits, Segment, Stream, Streams,
};

const BATCH: usize = 64;
const PAYLOAD: [u8; 1460] = [b'x'; 1460];
const SYN: u8 = 2;
const ACK: u8 = 16;
const NS: u64 = 1_767_225_600_000_000_000;

/// Adds up what it is told.
#[derive(Default)]
struct Sum(u64);

impl Consumer for Sum {
    type State = u64;

    fn take(&mut self, stream: Stream<'_, u64>, event: Event<'_>) -> Interest {
        if let Event::Data { bytes, .. } = event {
            *stream.state += u64::from(bytes[0]);
            self.0 += bytes.len() as u64;
        }
        Interest::Follow
    }
}

/// Says at once that nothing is of interest.
struct Deaf;

impl Consumer for Deaf {
    type State = u64;

    fn take(&mut self, _: Stream<'_, u64>, _: Event<'_>) -> Interest {
        Interest::IgnoreConnection
    }
}

/// Connections after their handshake.
struct Wire<C> {
    streams: Streams<u64>,
    consumer: C,
    /// Id, and the sequence number that is next.
    connections: Vec<(Option<ConnectionId>, u32)>,
    random: u64,
    time_ns: u64,
}

impl<C: Consumer<State = u64>> Wire<C> {
    fn new(connections: usize, consumer: C) -> Self {
        let mut wire = Self {
            streams: Streams::new(&Limits::default()).expect("memory"),
            consumer,
            connections: vec![(None, 1); connections],
            random: 1,
            time_ns: NS,
        };
        for connection in 0..connections {
            wire.send(connection, SYN, 0, 0);
        }
        wire
    }

    fn send(&mut self, connection: usize, flags: u8, seq: u32, len: usize) {
        self.time_ns += 300;
        let segment = Segment {
            direction: Direction::Request,
            seq,
            ack: 1,
            flags,
            window: 512,
            scale: Some(7),
            payload: &PAYLOAD[..len],
            time_ns: self.time_ns,
            token: None,
        };
        let (id, _) = &mut self.connections[connection];
        let outcome = self.streams.segment(id, &segment, &mut self.consumer);
        black_box(outcome);
    }

    fn next(&mut self, connection: usize, len: usize) {
        let (_, seq) = &mut self.connections[connection];
        let now = *seq;
        *seq = now.wrapping_add(len as u32);
        self.send(connection, ACK, now, len);
    }

    /// A batch of connections at random.
    fn batch(&mut self) -> [usize; BATCH] {
        std::array::from_fn(|_| {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            self.random as usize % self.connections.len()
        })
    }

    fn prepare(&self, batch: &[usize]) {
        for connection in batch {
            if let (Some(id), _) = self.connections[*connection] {
                self.streams.prepare(id);
            }
        }
    }
}

fn reassembly(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("reassembly");
    group.sample_size(40);
    for connections in [1_000, 100_000] {
        in_order(&mut group, connections);
        out_of_order(&mut group, connections);
        ignored(&mut group, connections);
    }
    bulk(&mut group);
    group.finish();
}

fn in_order(group: &mut BenchmarkGroup<'_, WallTime>, connections: usize) {
    let mut wire = Wire::new(connections, Sum::default());
    if connections == 100_000 {
        let bytes = wire.streams.bytes();
        println!("{bytes} bytes reserved");
    }
    group.throughput(Throughput::Elements(BATCH as u64));
    for (name, prepares) in [("in order", false), ("in order, prepared", true)] {
        group.bench_function(BenchmarkId::new(name, connections), |bencher| {
            bencher.iter(|| {
                let batch = wire.batch();
                if prepares {
                    wire.prepare(&batch);
                }
                for connection in batch {
                    wire.next(connection, 500);
                }
                wire.streams.advance(&mut wire.consumer);
            });
        });
    }
}

/// Each second segment before the first.
fn out_of_order(group: &mut BenchmarkGroup<'_, WallTime>, connections: usize) {
    let mut wire = Wire::new(connections, Sum::default());
    group.throughput(Throughput::Elements(2 * BATCH as u64));
    group.bench_function(
        BenchmarkId::new("pairs swapped, prepared", connections),
        |bencher| {
            bencher.iter(|| {
                let batch = wire.batch();
                wire.prepare(&batch);
                for connection in batch {
                    let (_, seq) = &mut wire.connections[connection];
                    let first = *seq;
                    *seq = first.wrapping_add(1_000);
                    wire.send(connection, ACK, first.wrapping_add(500), 500);
                    wire.send(connection, ACK, first, 500);
                }
                wire.streams.advance(&mut wire.consumer);
            });
        },
    );
}

/// Connections that the consumer does not want.
fn ignored(group: &mut BenchmarkGroup<'_, WallTime>, connections: usize) {
    let mut wire = Wire::new(connections, Deaf);
    for connection in 0..connections {
        wire.next(connection, 1);
    }
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(
        BenchmarkId::new("ignored, prepared", connections),
        |bencher| {
            bencher.iter(|| {
                let batch = wire.batch();
                wire.prepare(&batch);
                for connection in batch {
                    wire.next(connection, 500);
                }
                wire.streams.advance(&mut wire.consumer);
            });
        },
    );
}

/// Segments of full size, of a few connections: bytes per second, in order and with every other pair swapped, which copies half of the bytes.
fn bulk(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut wire = Wire::new(16, Sum::default());
    group.throughput(Throughput::Bytes((BATCH * PAYLOAD.len()) as u64));
    group.bench_function("bulk, in order", |bencher| {
        bencher.iter(|| {
            for turn in 0..BATCH {
                wire.next(turn % 16, PAYLOAD.len());
            }
        });
    });
    group.bench_function("bulk, pairs swapped", |bencher| {
        bencher.iter(|| {
            for turn in 0..BATCH / 2 {
                let len = PAYLOAD.len();
                let (_, seq) = &mut wire.connections[turn % 16];
                let first = *seq;
                *seq = first.wrapping_add(2 * len as u32);
                wire.send(turn % 16, ACK, first.wrapping_add(len as u32), len);
                wire.send(turn % 16, ACK, first, len);
            }
        });
    });
    black_box(wire.consumer.0);
}

criterion_group!(benches, reassembly);
criterion_main!(benches);
