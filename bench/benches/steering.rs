//! Steering: the flow hash of a frame, over generated traffic and over worst cases.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lc_bench::generate::{Length, Memory, Settings, Traffic};
use lc_capd::steer::Steering;

const ETHERNET: u16 = 1;

fn steering(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("steering");
    for (name, ipv6_percent, vlan_percent) in [
        ("mixed", 20, 10),
        ("IPv4", 0, 0),
        ("IPv6", 100, 0),
        ("IPv6 with VLAN", 100, 100),
    ] {
        let settings = Settings {
            length: Length::Packets(4_096),
            ipv6_percent,
            vlan_percent,
            ..Settings::default()
        };
        let memory = Memory::collect(&mut Traffic::new(settings).expect("sound settings"));
        let mut steering = Steering::new(4);
        group.throughput(Throughput::Elements(memory.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for packet in memory.iter() {
                    let hash = steering.flow_hash(ETHERNET, packet.bytes, 0);
                    black_box(steering.worker(hash));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, steering);
criterion_main!(benches);
