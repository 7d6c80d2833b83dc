//! Decoding and judging a frame, over generated traffic; tunnels and fragments.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lc_bench::generate::{Length, Memory, Settings, Traffic};
use lc_daemon::config::NoFilterPolicy;
use lc_workerd::decode::decode;
use lc_workerd::fragments::{Fragments, Limits, Offered};
use lc_workerd::matcher::{Fields, FilterSet, Matches};
use shm_layout::filters::{Filter, Snapshot};

const ETHERNET: u16 = 1;
const RAW_IP: u16 = 101;
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
    group.throughput(Throughput::Elements(1));
    for (name, tunnel) in [("in VXLAN", vxlan(&call(0))), ("in GTP-U", gtp_u(&call(0)))] {
        assert_eq!(decode(RAW_IP, &tunnel).tunnels, 1);
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(decode(RAW_IP, black_box(&tunnel))));
        });
    }
    group.finish();
}

/// A datagram in two fragments.
fn fragments(criterion: &mut Criterion) {
    let packets = [call(0x2000), call(0x0016)];
    let decoded = packets.each_ref().map(|packet| decode(RAW_IP, packet));
    let mut fragments = Fragments::new(Limits::default());
    let mut group = criterion.benchmark_group("fragments");
    group.throughput(Throughput::Elements(2));
    group.bench_function("put together", |bencher| {
        bencher.iter(|| {
            let [first, last] = &packets;
            let held = fragments.offer(&decoded[0], first, 0, 1, &[1]);
            assert!(matches!(held, Offered::Held));
            let whole = fragments.offer(&decoded[1], last, 0, 1, &[2]);
            assert!(matches!(whole, Offered::Whole(_)));
        });
    });
    group.finish();
}

/// IPv4, UDP 5060 -> 5060, 176 bytes behind the IP header.
fn call(fragment: u16) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 196, 0, 1, 0, 0, 64, 17, 0, 0];
    packet[6..8].copy_from_slice(&fragment.to_be_bytes());
    packet.extend([
        10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0xc4, 0x13, 0xc4, 0, 176, 0, 0,
    ]);
    packet.extend([7; 168]);
    packet
}

fn vxlan(packet: &[u8]) -> Vec<u8> {
    let header = [8, 0, 0, 0, 0, 0, 42, 0];
    let frame = [&[2; 12][..], &[8, 0], packet].concat();
    in_udp(4789, &[&header[..], &frame].concat())
}

fn gtp_u(packet: &[u8]) -> Vec<u8> {
    let header = [0x30, 255, 0, packet.len() as u8, 0, 0, 0, 1];
    in_udp(2152, &[&header[..], packet].concat())
}

fn in_udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = call(0);
    packet.truncate(28);
    packet[22..24].copy_from_slice(&port.to_be_bytes());
    packet[2..4].copy_from_slice(&(28 + payload.len() as u16).to_be_bytes());
    packet[24..26].copy_from_slice(&(8 + payload.len() as u16).to_be_bytes());
    packet.extend(payload);
    packet
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

criterion_group!(benches, decoding, fragments, judging);
criterion_main!(benches);
