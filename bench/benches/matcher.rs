//! Compiling filters, and comparing fields with them.
//!
//! Before the statistics it prints, for mixed sets, how long compiling takes and how much memory it needs: what a worker pays for each
//! generation, alone and with others at the same time. The `aho-corasick` crate, called plainly with the texts of all patterns in it, is
//! measured beside, as are plain twins of what is done by SIMD.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use aho_corasick::AhoCorasick;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lc_daemon::config::NoFilterPolicy;
use lc_workerd::decode::Transport;
use lc_workerd::extract::lines::Lines;
use lc_workerd::extract::{HEAD, extract, is_candidate};
use lc_workerd::matcher::digits::push_digits;
use lc_workerd::matcher::lower::push_lower;
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

/// One field for each packet.
fn fields(kind: Kind, packets: u32, text: impl Fn(u32) -> String) -> (Fields, u64) {
    let mut fields = Fields::default();
    let texts: Vec<String> = (0..packets).map(|n| text(spread(n + 7_000_000))).collect();
    for text in &texts {
        fields.push(kind, text.as_bytes());
        fields.next_packet();
    }
    (fields, texts.iter().map(|text| text.len() as u64).sum())
}

/// Workers that compile the same set at the same time.
fn compiling_side_by_side(_: &mut Criterion) {
    let snapshot = Snapshot {
        generation: 1,
        filters: (0..100_000).map(mixed).collect(),
    };
    for workers in [1, 4, 8] {
        let _ = fs::write("/proc/self/clear_refs", "5");
        let [before, _] = memory();
        let start = Instant::now();
        let sets: Vec<_> = thread::scope(|scope| {
            let compile = || scope.spawn(|| FilterSet::compile(&snapshot, NoFilterPolicy::Deny).0);
            let threads: Vec<_> = (0..workers).map(|_| compile()).collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join())
                .collect()
        });
        let took = start.elapsed();
        let [after, peak] = memory();
        println!(
            "100000 filters, mixed, {workers} at the same time: all compiled after {took:.1?}; {} KiB kept by all {}, {} KiB more at the peak",
            after.saturating_sub(before),
            sets.len(),
            peak.saturating_sub(before)
        );
    }
}

/// A kind of filters, their patterns, the fields compared with them, and the sizes that it can have.
struct Case {
    name: &'static str,
    kind: Kind,
    filter_type: u32,
    pattern: fn(u32) -> String,
    field: fn(u32) -> String,
    packets: u32,
    sizes: &'static [u32],
}

/// Where each byte differs from its neighbours, so that all pieces of it are different.
fn long_text() -> String {
    (0..700)
        .map(|n| format!("{:02x}", spread(n) >> 24))
        .collect()
}

const CASES: &[Case] = &[
    Case {
        name: "ends",
        kind: Kind::DnsName,
        filter_type: DNS_DOMAIN,
        pattern: |n| format!("*.domain-{:x}.example", spread(n)),
        field: |n| format!("www.domain-{n:x}.example"),
        packets: 512,
        sizes: &SIZES,
    },
    Case {
        name: "whole",
        kind: Kind::DnsName,
        filter_type: DNS_DOMAIN,
        pattern: |n| format!("www.domain-{:x}.example", spread(n)),
        field: |n| format!("www.domain-{n:x}.example"),
        packets: 512,
        sizes: &SIZES,
    },
    Case {
        name: "inside",
        kind: Kind::DnsName,
        filter_type: DNS_DOMAIN,
        pattern: |n| format!("*domain-{:x}*", spread(n)),
        field: |n| format!("www.domain-{n:x}.example"),
        packets: 512,
        sizes: &SIZES,
    },
    Case {
        name: "numbers",
        kind: Kind::SipUser,
        filter_type: PHONE_NUMBER,
        pattern: |n| format!("4930{:010}", spread(n)),
        field: |n| format!("+4930{n:010}"),
        packets: 512,
        sizes: &SIZES,
    },
    // Fields that go far into many texts, and match none.
    Case {
        name: "inside, nearly",
        kind: Kind::EmailSubject,
        filter_type: 9,
        pattern: |n| format!("*domain-{:08x}!*", spread(n)),
        field: |n| {
            (0..60)
                .map(|part| format!("domain-{:08x}", spread(spread(n + part) % 100_000)))
                .collect()
        },
        packets: 64,
        sizes: &SIZES,
    },
    // Every pattern is in every field: pieces of it from each place, 2 bytes long and longer.
    Case {
        name: "all match",
        kind: Kind::EmailSubject,
        filter_type: 9,
        pattern: |n| {
            let (start, len) = (n as usize % 1_320, 2 + n as usize / 1_320);
            format!("*{}*", &long_text()[start..start + len])
        },
        field: |_| long_text(),
        packets: 1,
        sizes: &SIZES,
    },
    // Every pattern is a beginning of the next one, and of every field.
    Case {
        name: "all prefixes",
        kind: Kind::EmailSubject,
        filter_type: 9,
        pattern: |n| format!("{}*", &long_text()[..1 + n as usize]),
        field: |_| long_text(),
        packets: 1,
        sizes: &[10, 1_000],
    },
    // Every pattern ends, at each place of the field, with all shorter ones.
    Case {
        name: "all suffixes of each other",
        kind: Kind::EmailSubject,
        filter_type: 9,
        pattern: |n| format!("*{}*", "a".repeat(1 + n as usize)),
        field: |_| "a".repeat(1_400),
        packets: 1,
        sizes: &[10, 1_000],
    },
];

fn searching(criterion: &mut Criterion) {
    for case in CASES {
        let mut group = criterion.benchmark_group(format!("search/{}", case.name));
        group.warm_up_time(Duration::from_millis(300));
        group.measurement_time(Duration::from_millis(1_200));
        group.sample_size(20);
        let (fields, bytes) = fields(case.kind, case.packets, case.field);
        group.throughput(Throughput::ElementsAndBytes {
            elements: u64::from(case.packets),
            bytes,
        });
        println!(
            "{}: {} fields of {} bytes together",
            case.name, case.packets, bytes
        );
        for count in case.sizes {
            let patterns: Vec<String> = (0..*count).map(case.pattern).collect();
            let texts: Vec<&str> = patterns
                .iter()
                .map(|pattern| pattern.trim_matches('*'))
                .collect();
            let automaton = AhoCorasick::new(&texts).expect("an automaton");
            group.bench_function(BenchmarkId::new("aho-corasick", count), |bencher| {
                bencher.iter(|| {
                    fields
                        .iter()
                        .map(|(_, _, text)| automaton.find_overlapping_iter(text).count())
                        .sum::<usize>()
                });
            });
            drop(automaton);
            let set = set((0..)
                .zip(&patterns)
                .map(|(n, pattern)| filter(n, case.filter_type, pattern.clone())));
            let mut matches = Matches::default();
            group.bench_function(BenchmarkId::new("ours", count), |bencher| {
                bencher.iter(|| {
                    matches.clear();
                    set.search(&fields, &mut matches);
                    black_box(matches.hits().len())
                });
            });
        }
        group.finish();
    }
}

/// What SIMD could do, by the libraries that do it and by plain loops.
fn plain_twins(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("twins");
    group.warm_up_time(Duration::from_millis(300));
    group.measurement_time(Duration::from_millis(1_200));
    group.sample_size(20);
    let head: Vec<u8> = SIP.bytes().take(HEAD).collect();
    let noise = [0x80; HEAD];
    for (name, transport, head) in [
        ("SIP over UDP", Transport::Udp, &head[..]),
        ("noise over UDP", Transport::Udp, &noise),
        ("noise over TCP", Transport::Tcp, &noise),
    ] {
        group.bench_function(BenchmarkId::new("first bytes", name), |bencher| {
            bencher.iter(|| is_candidate(transport, black_box(head), Kinds::ALL));
        });
    }
    group.bench_function("line ends of 320 bytes, memchr", |bencher| {
        bencher.iter(|| Lines::new(black_box(SIP.as_bytes())).count());
    });
    group.bench_function("line ends of 320 bytes, plain", |bencher| {
        bencher.iter(|| {
            let mut rest = black_box(SIP.as_bytes());
            let mut count = 0;
            while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
                count += 1;
                rest = &rest[end + 1..];
            }
            count
        });
    });
    let mut out = Vec::with_capacity(64);
    group.bench_function("digits of a number, ours", |bencher| {
        bencher.iter(|| {
            out.clear();
            push_digits(&mut out, black_box(b"+49-30-1234567890;phone-context=x"));
            out.len()
        });
    });
    group.bench_function("digits of a number, its plain part", |bencher| {
        bencher.iter(|| {
            out.clear();
            let digits = black_box(b"+49-30-1234567890").iter();
            out.extend(digits.filter(|byte| byte.is_ascii_digit()));
            out.len()
        });
    });
    group.bench_function("lower case of 24 bytes, ours", |bencher| {
        bencher.iter(|| {
            out.clear();
            push_lower(&mut out, black_box(b"WWW.domain-1234567.example"));
            out.len()
        });
    });
    group.finish();
}

const SIP: &str = "INVITE sip:+4930123456@proxy.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK776asdhds\r\nMax-Forwards: 70\r\n\
    To: <sip:+4930123456@proxy.example>\r\nFrom: Alice <sip:+4930654321@proxy.example>;tag=1928301774\r\nCall-ID: a84b4c76e66710@pc33\r\n\
    CSeq: 314159 INVITE\r\nContact: <sip:alice@192.0.2.1>\r\nContent-Type: application/sdp\r\nContent-Length: 0\r\n\r\n";

fn extracting(criterion: &mut Criterion) {
    let http = "GET /index.html?q=1 HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
    let dns = b"\x00\x07\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01";
    let mut group = criterion.benchmark_group("extract");
    for (name, transport, payload) in [
        ("SIP", Transport::Udp, SIP.as_bytes()),
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

criterion_group!(
    benches,
    compiling,
    compiling_side_by_side,
    searching,
    plain_twins,
    extracting
);
criterion_main!(benches);
