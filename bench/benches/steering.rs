//! Steering: the flow hash of a frame, over generated traffic and over worst cases, and what it costs more to send media to the worker that has their call.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

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

/// A flow of UDP is looked up among those that have begun; a new one among the places where media are expected.
fn media(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("steering of media");
    for (name, flows) in [("64 flows", 64), ("200,000 flows", 200_000)] {
        let frames: Vec<[u8; 54]> = (0..flows).map(datagram).collect();
        group.throughput(Throughput::Elements(frames.len() as u64));
        for (kind, announced) in [("known", 2), ("unknown", 0)] {
            let mut steering = Steering::new(4).with_media();
            for host in (0..flows).filter(|host| host % 2 < announced) {
                let address = IpAddr::V4(Ipv4Addr::from_bits(NET | host));
                steering.expect_media(address, PORT, host as usize % 4);
            }
            group.bench_function(format!("{name}, {kind}"), |bencher| {
                bencher.iter(|| {
                    for frame in &frames {
                        black_box(steering.route(ETHERNET, frame, 0));
                    }
                });
            });
        }
    }
    group.finish();
}

const NET: u32 = 0x0a00_0000;
const PORT: u16 = 16_384;

/// From `host` in 10.0.0.0/8, in a frame of Ethernet.
fn datagram(host: u32) -> [u8; 54] {
    let mut frame = [0; 54];
    frame[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
    frame[16..18].copy_from_slice(&40u16.to_be_bytes());
    frame[22..24].copy_from_slice(&[64, 17]);
    frame[26..30].copy_from_slice(&(NET | host).to_be_bytes());
    frame[30..34].copy_from_slice(&[198, 19, 0, 1]);
    frame[34..36].copy_from_slice(&PORT.to_be_bytes());
    frame[36..38].copy_from_slice(&(host as u16 | 1).to_be_bytes());
    frame[38..40].copy_from_slice(&20u16.to_be_bytes());
    frame
}

criterion_group!(benches, steering, media);
criterion_main!(benches);
