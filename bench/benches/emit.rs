//! Emitting a packet: encoding it into a tx ring, by packet size.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::os::fd::AsFd;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lc_bench::generate::{Flood, FloodSettings, Memory, Order};
use lc_workerd::decode::decode;
use lc_workerd::describe::Described;
use lc_workerd::emit::{Judged, Outgoing, emit};
use shm_layout::layout::{Kind, RegionId};
use shm_layout::packet::{Packet, PacketHeader, push_inline};
use shm_layout::region::{Pages, create};
use shm_layout::ring::{RingReader, RingWriter};
use shm_layout::wire::Priority;

const ETHERNET: u16 = 1;
const BATCH: u64 = 64;

fn emitting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("emit");
    let described = Described {
        protocol: "",
        info: "",
        details: &[],
        blocks: &[],
    };
    for size in [64, 350, 1000, 1500] {
        let frame = frame(size);
        let (mut rx, mut rx_reader) = pair(Kind::Rx, Kind::RxCursor);
        let (mut tx, mut tx_reader) = pair(Kind::Tx, Kind::TxCursor);
        let header = PacketHeader {
            sequence: 0,
            timestamp_ns: 1_767_225_600_000_000_000,
            captured_len: frame.len() as u32,
            original_len: frame.len() as u32,
            link_type: ETHERNET,
            interface: 0,
            flow_hash: 0,
        };
        push_inline(&mut rx, &header, &frame).expect("room for one");
        rx.publish();
        let record = rx_reader.read().expect("a sound ring").expect("a record");
        let packet = Packet::read(&record, None).expect("a packet");
        let decoded = decode(ETHERNET, &frame);
        group.throughput(Throughput::Elements(BATCH));
        group.bench_function(BenchmarkId::new("batch of 64", size), |bencher| {
            bencher.iter(|| {
                for ordinal in 0..BATCH {
                    let outgoing = Outgoing {
                        header: &packet.header,
                        decoded: &decoded,
                        interface_name: "eth0",
                        described,
                        tls_keys: &[],
                    };
                    let judged = Judged {
                        ids: std::iter::empty(),
                        priority: Priority::Normal,
                    };
                    emit(&mut tx, ordinal, outgoing, judged, |bytes| {
                        packet.data.copy_to(bytes);
                    })
                    .expect("room for a batch");
                }
                tx.publish();
                while tx_reader.read().expect("a sound ring").is_some() {}
                tx_reader.release();
            });
        });
    }
    group.finish();
}

fn frame(size: u16) -> Vec<u8> {
    let settings = FloodSettings {
        seed: 1,
        packets: 1,
        flows: 1,
        size,
        order: Order::RoundRobin,
        ipv6_percent: 0,
        vlan_percent: 0,
        start_seconds: 0,
    };
    let memory = Memory::collect(&mut Flood::new(settings).expect("sound settings"));
    memory.packet(0).expect("one packet").bytes.to_vec()
}

fn pair(ring: Kind, cursor: Kind) -> (RingWriter, RingReader) {
    let id = RegionId::of_queue(ring, 0, 0);
    let cursor_id = RegionId::of_queue(cursor, 0, 0);
    let (ring, _) = create(id, 8 << 20, Pages::PreferHuge).expect("shared memory");
    let (cursor, _) = create(cursor_id, 0, Pages::PreferHuge).expect("shared memory");
    (
        RingWriter::attach(id, ring.as_fd(), cursor.as_fd()).expect("a writer"),
        RingReader::attach(id, ring.as_fd(), cursor.as_fd()).expect("a reader"),
    )
}

criterion_group!(benches, emitting);
criterion_main!(benches);
