//! The packet path of a worker allocates nothing per packet: taken, judged by filters of every type, described and emitted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::os::fd::AsFd;

use lc_daemon::config::NoFilterPolicy;
use lc_proto::management::FilterType;
use lc_tests::capture::Packet as Captured;
use lc_tests::generated::generate;
use lc_workerd::batch::{self, Batch};
use lc_workerd::describe::Describer;
use lc_workerd::matcher::FilterSet;
use shm_layout::filters::{Filter, Snapshot};
use shm_layout::layout::{Kind, RegionId};
use shm_layout::packet::{Packet, PacketHeader, push_inline};
use shm_layout::region::{Pages, create};
use shm_layout::ring::{RingReader, RingView, RingWriter};
use shm_layout::wire::WirePacket;
use shm_layout::worker::InProgress;

const ETHERNET: u16 = 1;
const RING_BYTES: u64 = 1 << 20;
const FLOW_TABLE_BYTES: usize = 4 << 20;
const FILTERS: u32 = 1_000;
const HOUR_NS: u64 = 3_600_000_000_000;

#[test]
fn no_packet_costs_an_allocation() {
    let folder = tempfile::tempdir().unwrap();
    let flags = ["--packets", "6000", "--flows", "30"];
    let packets = generate(folder.path(), "mixed.pcap", &flags)
        .unwrap()
        .packets;
    let mut path = Path::new();
    // Buffers grow to what the traffic needs.
    let mut told = [
        ("payload_type", 0),
        ("is_response", 0),
        ("sni", 0),
        ("status_code", 0),
    ];
    let mut forwarded = 0;
    let look = |packet: WirePacket<'_>| {
        let mut bytes = vec![0; packet.bytes.len()];
        packet.bytes.copy_to(&mut bytes);
        for (key, count) in &mut told {
            *count += u32::from(memchr::memmem::find(&bytes, key.as_bytes()).is_some());
        }
    };
    let counted = allocation_counter::measure(|| forwarded = path.round(&packets, 0, look));
    // Those of the look at least.
    assert!(counted.count_total >= forwarded, "{counted:?}");
    assert_eq!(forwarded, packets.len() as u64);
    assert!(told.iter().all(|(_, count)| *count > 5), "{told:?}");
    // All flows are known; then, an hour later, none is.
    for later_ns in [0, HOUR_NS] {
        let mut again = 0;
        let counted = allocation_counter::measure(|| {
            again = path.round(&packets, later_ns, |_| ());
        });
        assert_eq!(again, forwarded);
        assert_eq!(counted.count_total, 0, "{counted:?}");
    }
}

/// What a worker does between its rings.
struct Path {
    rx: (RingWriter, RingReader),
    rx_view: RingView,
    tx: (RingWriter, RingReader),
    filters: FilterSet,
    batch: Batch,
    sequence: u64,
}

impl Path {
    fn new() -> Self {
        let filters = (0..FILTERS).map(filter).chain([
            address_filter("all-v4", "0.0.0.0/0"),
            address_filter("all-v6", "::/0"),
        ]);
        let snapshot = Snapshot {
            generation: 1,
            filters: filters.collect(),
        };
        let (filters, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
        assert!(refused.is_empty(), "{refused:?}");
        let rx = ring(Kind::Rx, Kind::RxCursor);
        Self {
            rx_view: rx.1.view(),
            rx,
            tx: ring(Kind::Tx, Kind::TxCursor),
            filters,
            batch: Batch::new(Describer::new(FLOW_TABLE_BYTES).unwrap()),
            sequence: 0,
        }
    }

    /// Sends all packets through, `later_ns` after they were captured, and looks at what comes out. How many were forwarded.
    fn round(
        &mut self,
        packets: &[Captured],
        later_ns: u64,
        mut look: impl FnMut(WirePacket<'_>),
    ) -> u64 {
        let mut forwarded = 0;
        for packets in packets.chunks(batch::MOST) {
            for packet in packets {
                let header = PacketHeader {
                    sequence: self.sequence,
                    timestamp_ns: packet.time_ns as u64 + later_ns,
                    captured_len: packet.bytes.len() as u32,
                    original_len: packet.bytes.len() as u32,
                    link_type: ETHERNET,
                    interface: 0,
                    flow_hash: 0,
                };
                push_inline(&mut self.rx.0, &header, &packet.bytes).unwrap();
                self.sequence += 1;
            }
            self.rx.0.publish();
            self.take();
            forwarded = self.forward(forwarded);
            self.rx.1.release();
            while let Some(record) = self.tx.1.read().unwrap() {
                look(WirePacket::read(&record).unwrap());
            }
            self.tx.1.release();
        }
        forwarded
    }

    fn take(&mut self) {
        self.batch.clear();
        while let Some(record) = self.rx.1.read().unwrap() {
            let packet = Packet::read(&record, None).unwrap();
            let identity = InProgress::new(0, packet.header.sequence);
            let place = record.position..record.end;
            let kept_back = self
                .batch
                .take(identity, place, &packet, &self.filters, false);
            assert!(kept_back.is_none());
        }
        self.batch.prepare();
    }

    /// The number of the next packet in the tx ring, before and after.
    fn forward(&mut self, mut ordinal: u64) -> u64 {
        for number in 0..self.batch.taken().len() {
            let taken = &self.batch.taken()[number];
            let (start, end) = (taken.place.start, taken.place.end);
            let Some(priority) = taken.verdict.priority() else {
                continue;
            };
            let record = self.rx_view.records(start, end).next().unwrap().unwrap();
            let packet = Packet::read(&record, None).unwrap();
            self.batch
                .forward(
                    number,
                    priority,
                    &packet,
                    "eth0",
                    &self.filters,
                    (&mut self.tx.0, ordinal),
                )
                .unwrap();
            ordinal += 1;
        }
        self.tx.0.publish();
        ordinal
    }
}

/// Of every type but BPF, which workers don't compile.
fn filter(number: u32) -> Filter {
    let kinds = FilterType::all().filter(|kind| *kind != FilterType::FilterBpf);
    let count = kinds.count() as u32;
    let mut kinds = FilterType::all().filter(|kind| *kind != FilterType::FilterBpf);
    let kind = kinds.nth((number % count) as usize).unwrap();
    let pattern = match kind {
        FilterType::FilterIpAddress => format!("198.51.{}.0/24", number % 256),
        FilterType::FilterPhoneNumber => format!("*555{number:04}"),
        FilterType::FilterImsi => format!("26201{number:010}"),
        FilterType::FilterImei => format!("35{number:013}"),
        FilterType::FilterTlsJa3 | FilterType::FilterTlsJa3s => format!("{number:032x}"),
        FilterType::FilterTlsJa4 => format!("t13d1516h2_8daaf6152771_{number:012x}"),
        FilterType::FilterCodec => "PCMU".to_owned(),
        _ if number.is_multiple_of(3) => format!("*{}*", number % 100),
        _ => format!("*name-{number}.example"),
    };
    Filter {
        id: format!("f{number}"),
        filter_type: kind as u32,
        pattern,
        enabled: true,
    }
}

fn address_filter(id: &str, pattern: &str) -> Filter {
    Filter {
        id: id.to_owned(),
        filter_type: FilterType::FilterIpAddress as u32,
        pattern: pattern.to_owned(),
        enabled: true,
    }
}

fn ring(ring: Kind, cursor: Kind) -> (RingWriter, RingReader) {
    let id = RegionId::of_queue(ring, 0, 0);
    let cursor_id = RegionId::of_queue(cursor, 0, 0);
    let (ring, _) = create(id, RING_BYTES, Pages::PreferHuge).unwrap();
    let (cursor, _) = create(cursor_id, 0, Pages::PreferHuge).unwrap();
    (
        RingWriter::attach(id, ring.as_fd(), cursor.as_fd()).unwrap(),
        RingReader::attach(id, ring.as_fd(), cursor.as_fd()).unwrap(),
    )
}
