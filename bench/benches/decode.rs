//! Decoding and judging a frame, over generated traffic.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lc_bench::generate::{Length, Memory, Settings, Traffic};
use lc_daemon::config::NoFilterPolicy;
use lc_workerd::decode::decode;
use lc_workerd::matcher::{Fields, FilterSet, Matches};
use shm_layout::filters::{Filter, Snapshot};

const ETHERNET: u16 = 1;
const IP_ADDRESS: u32 = 2;

fn traffic() -> Memory {
    let settings = Settings {
        length: Length::Packets(4_096),
        ..Settings::default()
    };
    Memory::collect(&mut Traffic::new(settings).expect("sound settings"))
}

fn decoding(criterion: &mut Criterion) {
    let memory = traffic();
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(memory.len() as u64));
    group.bench_function("mixed", |bencher| {
        bencher.iter(|| {
            for packet in memory.iter() {
                black_box(decode(ETHERNET, packet.bytes));
            }
        });
    });
    group.finish();
}

fn judging(criterion: &mut Criterion) {
    let decoded: Vec<_> = traffic()
        .iter()
        .map(|packet| decode(ETHERNET, packet.bytes))
        .collect();
    let mut group = criterion.benchmark_group("judge");
    group.throughput(Throughput::Elements(decoded.len() as u64));
    for filters in [0, 10, 1_000, 100_000] {
        let snapshot = Snapshot {
            generation: 1,
            filters: (0..filters).map(filter).collect(),
        };
        let (set, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
        assert!(refused.is_empty());
        let (fields, mut matches) = (Fields::default(), Matches::default());
        group.bench_function(BenchmarkId::new("IP filters", filters), |bencher| {
            bencher.iter(|| {
                for packet in &decoded {
                    black_box(set.judge(packet, &fields, false, &mut matches));
                }
            });
        });
    }
    group.finish();
}

/// Addresses and prefixes of blocks that the traffic does not use.
fn filter(number: u32) -> Filter {
    let address = std::net::Ipv4Addr::from_bits(0x6440_0000 + (number << 8));
    Filter {
        id: format!("f{number}"),
        filter_type: IP_ADDRESS,
        pattern: if number.is_multiple_of(2) {
            format!("{address}/24")
        } else {
            address.to_string()
        },
        enabled: true,
    }
}

criterion_group!(benches, decoding, judging);
criterion_main!(benches);
