//! Taking packets from the kernel: our own ring against libpcap, by packet size. In a network namespace of its own; needs root.
//!
//! The kernel fills its buffer first, then the reader empties it, so that the time is the reader's alone: headers, tags and one callback a
//! packet, which reads the first bytes as steering does.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::process::Command;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lc_capd::bpf::Expression;
use lc_capd::source::live::{Live, LiveOptions};
use lc_capd::source::{Interfaces, Source};
use lc_daemon::config::CaptureBackend;
use nix::sched::{CloneFlags, unshare};
use rustix::time::{ClockId, clock_gettime};

/// Packets between two emptyings.
const PACKETS: usize = 20_000;

fn taking(criterion: &mut Criterion) {
    if !enter_namespace() {
        println!("SKIPPED: no network namespace can be made; run as root");
        return;
    }
    let sender = UdpSocket::bind("127.0.0.1:0").expect("loopback is there");
    let mut group = criterion.benchmark_group("take");
    group.sample_size(40);
    group.throughput(Throughput::Elements(1));
    for size in [64, 1500] {
        for (name, backend) in [
            ("own ring", CaptureBackend::Packet),
            ("libpcap", CaptureBackend::Pcap),
        ] {
            group.bench_function(BenchmarkId::new(name, size), |bencher| {
                bencher.iter_custom(|iterations| {
                    let rounds = iterations.div_ceil(PACKETS as u64);
                    let spent: Duration = (0..rounds).map(|_| round(&sender, backend, size)).sum();
                    spent.mul_f64(iterations as f64 / (rounds * PACKETS as u64) as f64)
                });
            });
        }
    }
    group.finish();
}

/// Time to take what the kernel has gathered.
fn round(sender: &UdpSocket, backend: CaptureBackend, size: usize) -> Duration {
    const HEADERS: usize = 42;
    let options = LiveOptions {
        kernel_buffer: 128 << 20,
        timeout: Duration::from_millis(20),
        backend,
        ..LiveOptions::default()
    };
    let filter = Expression::new("udp port 5060", &[]);
    let mut live = Live::open("lo", options, &filter, Interfaces::default()).expect("loopback");
    let payload = vec![0; size - HEADERS];
    for _ in 0..PACKETS {
        sender.send_to(&payload, "127.0.0.1:5060").ok();
    }
    // The last block is handed over when it is old enough.
    std::thread::sleep(3 * options.timeout);
    let (mut taken, mut sum) = (0, 0_u64);
    let start = processor_time();
    while taken < PACKETS {
        live.poll(1024, &mut |packet| {
            taken += 1;
            let first = packet.data.first_chunk::<40>().copied().unwrap_or([0; 40]);
            sum += first.iter().map(|byte| u64::from(*byte)).sum::<u64>();
            ControlFlow::Continue(())
        })
        .expect("packets");
    }
    let spent = processor_time() - start;
    std::hint::black_box(sum);
    assert_eq!(live.status().dropped, 0, "the buffer holds them all");
    spent
}

/// Of this thread.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn enter_namespace() -> bool {
    let up = || {
        Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
    };
    unshare(CloneFlags::CLONE_NEWNET).is_ok() && up().is_ok_and(|status| status.success())
}

criterion_group!(benches, taking);
criterion_main!(benches);
