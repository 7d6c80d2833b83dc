//! The flow table: finding flows and beginning them, one by one and in batches, by the number of flows.
//!
//! Every figure holds the making of a packet's addresses and of its probe, which `probe` shows alone. Flows are looked for in random order, so
//! that with many of them each look-up misses the caches. The table has its default size whatever the number of flows.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::collections::HashMap;
use std::hint::black_box;

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use lc_workerd::decode::{Addr, Decoded, Transport};
use lc_workerd::flows::{FlowTable, Probe, Seed, Signal, Timeouts, Zone};

const BATCH: u64 = 64;
const TABLE_BYTES: usize = 128 << 20;
/// What a flow remembers here: as much as it may for the table to keep its promise on memory.
type Memory = [u64; 4];
type Table = FlowTable<Memory>;

fn flows(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flows");
    group.throughput(Throughput::Elements(BATCH));
    group.sample_size(40);
    let table = table(0);
    let mut order = Order::default();
    group.bench_function("probe", |bencher| {
        bencher.iter(|| {
            for _ in 0..BATCH {
                black_box(probe(&table, order.next(1_000_000)));
            }
        });
    });
    drop(table);
    for flows in [1_000, 100_000, 1_000_000] {
        looking_up(&mut group, flows);
    }
    beginning(&mut group);
    for flows in [1_000, 1_000_000] {
        standard_map(&mut group, flows);
    }
    group.finish();
}

/// Flows that are there (hit) and that are not (miss).
fn looking_up(group: &mut BenchmarkGroup<'_, WallTime>, flows: u64) {
    let mut table = table(flows);
    if flows == 1_000_000 {
        let live = table.counts().live();
        println!(
            "{live} flows in {} bytes: {} bytes a flow, {} evicted",
            table.bytes(),
            table.bytes() as u64 / live,
            table.counts().evicted
        );
    }
    let mut order = Order::default();
    group.bench_function(BenchmarkId::new("hit, single", flows), |bencher| {
        bencher.iter(|| {
            for _ in 0..BATCH {
                let probe = probe(&table, order.next(flows));
                look_up(&mut table, &probe);
            }
        });
    });
    let mut probes = Vec::new();
    group.bench_function(BenchmarkId::new("hit, batch", flows), |bencher| {
        bencher.iter(|| {
            probes.clear();
            probes.extend((0..BATCH).map(|_| probe(&table, order.next(flows))));
            table.prepare(&probes);
            for probe in &probes {
                look_up(&mut table, probe);
            }
        });
    });
    group.bench_function(BenchmarkId::new("miss, single", flows), |bencher| {
        bencher.iter(|| {
            for _ in 0..BATCH {
                let probe = probe(&table, flows + order.next(1 << 31));
                black_box(table.find(&probe));
            }
        });
    });
    group.bench_function(BenchmarkId::new("miss, batch", flows), |bencher| {
        bencher.iter(|| {
            probes.clear();
            probes.extend((0..BATCH).map(|_| probe(&table, flows + order.next(1 << 31))));
            table.prepare(&probes);
            for probe in &probes {
                black_box(table.find(probe));
            }
        });
    });
}

/// A flood: every packet begins a flow, and the table has long been full.
fn beginning(group: &mut BenchmarkGroup<'_, WallTime>) {
    let mut table = table(0);
    let mut next = 0;
    while table.counts().live() < table.capacity() as u64 * 999 / 1_000 {
        let probe = probe(&table, next);
        look_up(&mut table, &probe);
        next += 1;
    }
    let mut probes = Vec::new();
    group.bench_function("begin in a full table, batch", |bencher| {
        bencher.iter(|| {
            probes.clear();
            probes.extend((next..next + BATCH).map(|flow| probe(&table, flow)));
            next += BATCH;
            table.prepare(&probes);
            for probe in &probes {
                look_up(&mut table, probe);
            }
        });
    });
}

/// The standard library's map (hashbrown with SipHash), without bounds, time-outs or direction, for comparison.
fn standard_map(group: &mut BenchmarkGroup<'_, WallTime>, flows: u64) {
    let key = |flow| {
        let packet = packet(flow);
        let (Some((Addr::V4(a), Addr::V4(b))), Some((p, q))) = (packet.addresses, packet.ports)
        else {
            return Default::default();
        };
        let (one, other) = ((u128::from(a), p), (u128::from(b), q));
        (one.min(other), one.max(other))
    };
    let mut map: HashMap<_, Memory> = (0..flows).map(|flow| (key(flow), [0; 4])).collect();
    let mut order = Order::default();
    group.bench_function(BenchmarkId::new("hit, HashMap", flows), |bencher| {
        bencher.iter(|| {
            for _ in 0..BATCH {
                let memory = map.entry(key(order.next(flows))).or_default();
                memory[0] += 1;
            }
        });
    });
}

/// A packet, and what a detector does with an established flow's memory: read it and count.
fn look_up(table: &mut Table, probe: &Probe) {
    const TIME: u64 = 1_767_225_600_000_000_000;
    let flow = table.observe(probe, TIME, Signal::None);
    flow.memory[0] += 1;
    black_box(flow.direction);
}

fn table(flows: u64) -> Table {
    let mut table =
        Table::new(TABLE_BYTES, Seed::known(1), &Timeouts::default()).expect("enough memory");
    for flow in 0..flows {
        let probe = probe(&table, flow);
        look_up(&mut table, &probe);
    }
    table
}

fn probe(table: &Table, flow: u64) -> Probe {
    table
        .probe(&packet(flow), Zone::NONE)
        .expect("a whole packet")
}

fn packet(flow: u64) -> Decoded {
    Decoded {
        addresses: Some((
            Addr::V4(0x0a00_0000 + (flow >> 8) as u32),
            Addr::V4(0xc0a8_0001),
        )),
        ports: Some((1_024 + (flow & 0xff) as u16, 5_060)),
        transport: Some(Transport::Udp),
        ..Decoded::default()
    }
}

/// Numbers in random order (SplitMix64).
#[derive(Default)]
struct Order(u64);

impl Order {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(below)) >> 64) as u64
    }
}

criterion_group!(benches, flows);
criterion_main!(benches);
