//! Compiling filters, and comparing fields with them.
//!
//! Before the statistics it prints, for mixed sets, how long compiling takes and how much memory it needs: what a worker pays for each
//! generation. The automaton alone (`aho-corasick`, all patterns in it) is measured beside.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lc_daemon::config::NoFilterPolicy;
use lc_workerd::decode::Transport;
use lc_workerd::extract::extract;
use lc_workerd::matcher::{Fields, FilterSet, Kind, Kinds, Matches};
use shm_layout::filters::{Filter, Snapshot};

const SIZES: [u32; 4] = [10, 1_000, 10_000, 100_000];
const SIP_USER: u32 = 0;
const PHONE_NUMBER: u32 = 1;
const DNS_DOMAIN: u32 = 7;

/// Spreads numbers, so that neighbours have little in common.
fn spread(number: u32) -> u32 {
    number.wrapping_mul(0x9e37_79b1)
}

fn filter(number: u32, filter_type: u32, pattern: String) -> Filter {
    Filter {
        id: format!("filter-{number}"),
        filter_type,
        pattern,
        enabled: true,
    }
}

/// Filter `number` of a mixed set.
fn mixed(number: u32) -> Filter {
    let word = spread(number);
    let (filter_type, pattern) = match number % 10 {
        0 => (2, std::net::Ipv4Addr::from_bits(word).to_string()),
        1 => (2, format!("{}/24", std::net::Ipv4Addr::from_bits(word))),
        2 => (PHONE_NUMBER, format!("4930{word:010}")),
        3 => (PHONE_NUMBER, format!("*{word:010}")),
        4 => (SIP_USER, format!("user-{word:x}")),
        5 => (6, format!("*@host{word:x}.example.com")),
        6 => (DNS_DOMAIN, format!("*.domain-{word:x}.example")),
        7 => (10, format!("www.domain-{word:x}.example")),
        8 => (16, format!("26201{word:010}")),
        _ => (8, format!("someone.{word:x}@*.example.com")),
    };
    filter(number, filter_type, pattern)
}

fn set(filters: impl Iterator<Item = Filter>) -> FilterSet {
    let filters = filters.collect();
    let (set, refused) = FilterSet::compile(
        &Snapshot {
            generation: 1,
            filters,
        },
        NoFilterPolicy::Deny,
    );
    assert!(refused.is_empty(), "{refused:?}");
    set
}

/// `VmRSS` and `VmHWM` of this process, in KiB.
fn memory() -> [u64; 2] {
    let status = fs::read_to_string("/proc/self/status").expect("proc");
    ["VmRSS:", "VmHWM:"].map(|name| {
        let line = status.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
            .unwrap_or(0)
    })
}

fn compiling(criterion: &mut Criterion) {
    for (name, make) in [
        ("mixed", mixed as fn(u32) -> Filter),
        ("text inside stars", |number| {
            filter(number, DNS_DOMAIN, format!("*domain-{:x}*", spread(number)))
        }),
    ] {
        for count in [1_000, 10_000, 100_000] {
            let snapshot = Snapshot {
                generation: 1,
                filters: (0..count).map(make).collect(),
            };
            let fd = snapshot.seal().expect("a snapshot");
            drop(snapshot);
            // Forgets the peak so far; where that is not allowed, the peak is that of the process.
            let _ = fs::write("/proc/self/clear_refs", "5");
            let [before, _] = memory();
            let start = Instant::now();
            let snapshot = Snapshot::read(std::os::fd::AsFd::as_fd(&fd)).expect("a snapshot");
            let read = start.elapsed();
            let (set, _) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
            let took = start.elapsed();
            let [_, peak] = memory();
            let start = Instant::now();
            let bytes = set.bytes();
            drop(set);
            println!(
                "{count} filters, {name}: read in {read:.1?}, compiled after {took:.1?}, freed in {:.1?}; {} KiB kept, {} KiB more at the peak",
                start.elapsed(),
                bytes >> 10,
                peak.saturating_sub(before)
            );
        }
    }
    let snapshot = Snapshot {
        generation: 1,
        filters: (0..10_000).map(mixed).collect(),
    };
    criterion.bench_function("compile/10000 mixed", |bencher| {
        bencher.iter(|| FilterSet::compile(&snapshot, NoFilterPolicy::Deny));
    });
}

/// One field for each of 512 packets.
fn fields(kind: Kind, text: impl Fn(u32) -> String) -> (Fields, u64) {
    let mut fields = Fields::default();
    let texts: Vec<String> = (0..512).map(|n| text(spread(n + 7_000_000))).collect();
    for text in &texts {
        fields.push(kind, text.as_bytes());
        fields.next_packet();
    }
    (fields, texts.iter().map(|text| text.len() as u64).sum())
}

fn searching(criterion: &mut Criterion) {
    type Make = fn(u32) -> (u32, String);
    type Case = (&'static str, Kind, Make, fn(u32) -> String);
    let cases: [Case; 5] = [
        (
            "ends",
            Kind::DnsName,
            |n| (DNS_DOMAIN, format!("*.domain-{n:x}.example")),
            |n| format!("www.domain-{n:x}.example"),
        ),
        (
            "whole",
            Kind::DnsName,
            |n| (DNS_DOMAIN, format!("www.domain-{n:x}.example")),
            |n| format!("www.domain-{n:x}.example"),
        ),
        (
            "inside",
            Kind::DnsName,
            |n| (DNS_DOMAIN, format!("*domain-{n:x}*")),
            |n| format!("www.domain-{n:x}.example"),
        ),
        (
            "numbers",
            Kind::SipUser,
            |n| (PHONE_NUMBER, format!("4930{n:010}")),
            |n| format!("+4930{n:010}"),
        ),
        // Every pattern is found in every field, up to a hundred of them.
        (
            "all match",
            Kind::SipUser,
            |n| (SIP_USER, "a".repeat(1 + n as usize % 100)),
            |_| "a".repeat(100),
        ),
    ];
    for (name, kind, pattern, text) in cases {
        let mut group = criterion.benchmark_group(format!("search/{name}"));
        let (fields, bytes) = fields(kind, text);
        group.throughput(Throughput::ElementsAndBytes {
            elements: 512,
            bytes,
        });
        for count in SIZES {
            if name == "all match" && count > 1_000 {
                continue;
            }
            let set = set((0..count).map(|n| {
                let (filter_type, pattern) =
                    pattern(if name == "all match" { n } else { spread(n) });
                filter(n, filter_type, pattern)
            }));
            let mut matches = Matches::default();
            group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
                bencher.iter(|| {
                    matches.clear();
                    set.search(&fields, &mut matches);
                    black_box(matches.hits().len())
                });
            });
        }
        group.finish();
    }
    let mut group = criterion.benchmark_group("search/inside, aho-corasick alone");
    let (fields, bytes) = fields(Kind::DnsName, |n| format!("www.domain-{n:x}.example"));
    group.throughput(Throughput::ElementsAndBytes {
        elements: 512,
        bytes,
    });
    for count in SIZES {
        let automaton = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build((0..count).map(|n| format!("domain-{:x}", spread(n))))
            .expect("an automaton");
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| {
                fields
                    .iter()
                    .map(|(_, _, text)| automaton.find_overlapping_iter(text).count())
                    .sum::<usize>()
            });
        });
    }
    group.finish();
}

fn extracting(criterion: &mut Criterion) {
    let sip = "INVITE sip:+4930123456@proxy.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds\r\nMax-Forwards: 70\r\n\
               To: <sip:+4930123456@proxy.example>\r\nFrom: Alice <sip:+4930654321@proxy.example>;tag=1928301774\r\nCall-ID: a84b4c76e66710@pc33\r\n\
               CSeq: 314159 INVITE\r\nContact: <sip:alice@192.0.2.1>\r\nContent-Type: application/sdp\r\nContent-Length: 0\r\n\r\n";
    let http = "GET /index.html?q=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
    let dns = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01";
    let mut group = criterion.benchmark_group("extract");
    for (name, transport, payload) in [
        ("SIP", Transport::Udp, sip.as_bytes()),
        ("HTTP", Transport::Tcp, http.as_bytes()),
        ("DNS", Transport::Udp, dns),
        ("nothing", Transport::Tcp, &[0x80; 1400]),
    ] {
        let mut fields = Fields::default();
        group.throughput(Throughput::Bytes(payload.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                fields.clear();
                extract(transport, black_box(payload), Kinds::ALL, &mut fields);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, compiling, searching, extracting);
criterion_main!(benches);
