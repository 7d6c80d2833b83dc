//! Any packets through all that a worker does with them, up to what goes to the processor.

use std::cell::RefCell;
use std::os::fd::AsFd;

use lc_daemon::config::NoFilterPolicy;
use lc_proto::data::PacketBatch;
use lc_proto::management::FilterType;
use lc_workerd::batch::Batch;
use lc_workerd::describe::Describer;
use lc_workerd::matcher::{FilterSet, Verdict};
use prost::Message;
use shm_layout::filters::{Filter, Snapshot};
use shm_layout::layout::{Kind, RegionId};
use shm_layout::packet::{Packet, PacketHeader, push_inline};
use shm_layout::region::{Pages, create};
use shm_layout::ring::{RingReader, RingWriter};
use shm_layout::wire::{Priority, WirePacket};
use shm_layout::worker::InProgress;

use crate::Input;

const RING: u64 = 4 << 20;
const FLOW_TABLE: usize = 256 << 10;

thread_local! {
    /// One for all inputs: making one costs far more than an input does.
    static WORKER: RefCell<Worker> = RefCell::new(Worker::new());
}

/// `bytes`: link type; then milliseconds and bytes of each packet.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let link_type = input.u16();
    WORKER.with_borrow_mut(|worker| {
        while !input.is_empty() {
            let milliseconds = input.u16();
            worker.handle(link_type, milliseconds, input.packet());
        }
    });
}

/// What a worker is made of, without the loop and what recovery needs.
struct Worker {
    rx: (RingWriter, RingReader),
    tx: (RingWriter, RingReader),
    filters: FilterSet,
    /// What lets everything through that the filters do not.
    none: FilterSet,
    batch: Batch,
    packets: u64,
}

impl Worker {
    fn new() -> Self {
        // One of each type, so that everything is extracted.
        let filters = FilterType::all().map(|kind| Filter {
            id: kind.capability().to_owned(),
            filter_type: kind as u32,
            pattern: pattern(kind).to_owned(),
            enabled: true,
        });
        let snapshot = Snapshot {
            generation: 1,
            filters: filters.collect(),
        };
        let (filters, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
        assert!(refused.is_empty(), "{refused:?}");
        Self {
            rx: ring(Kind::Rx, Kind::RxCursor),
            tx: ring(Kind::Tx, Kind::TxCursor),
            filters,
            none: FilterSet::none(NoFilterPolicy::Allow),
            batch: Batch::new(Describer::new(FLOW_TABLE).expect("memory for a small flow table")),
            packets: 0,
        }
    }

    fn handle(&mut self, link_type: u16, milliseconds: u16, frame: &[u8]) {
        let header = PacketHeader {
            sequence: self.packets,
            timestamp_ns: 1_767_225_600_000_000_000 + u64::from(milliseconds) * 1_000_000,
            captured_len: frame.len() as u32,
            original_len: frame.len() as u32,
            link_type,
            interface: 0,
            flow_hash: 0,
        };
        self.packets += 1;
        push_inline(&mut self.rx.0, &header, frame).expect("room for a packet");
        self.rx.0.publish();
        let verdict = self.forward();
        self.rx.1.release();
        self.tx.0.publish();
        self.compare(&header, frame, verdict);
        self.tx.1.release();
    }

    /// As the loop of lc-workerd does; what no filter matches goes through once more, without filters.
    fn forward(&mut self) -> Verdict {
        let record = self.rx.1.read().expect("a sound ring").expect("a record");
        let packet = Packet::read(&record, None).expect("a packet");
        let identity = InProgress::new(0, packet.header.sequence);
        let place = record.position..record.end;
        self.batch.clear();
        let mut filters = &self.filters;
        let kept_back = self
            .batch
            .take(identity, place.clone(), &packet, filters, false);
        if kept_back.is_some() {
            filters = &self.none;
            let kept_back = self.batch.take(identity, place, &packet, filters, false);
            assert!(kept_back.is_none());
        }
        self.batch.prepare();
        let verdict = self.batch.taken()[0].verdict;
        let tx = (&mut self.tx.0, packet.header.sequence);
        self.batch
            .forward(0, Priority::Normal, &packet, "eth0", filters, tx)
            .expect("room for a packet");
        verdict
    }

    /// What was sent is one packet to any reader of protobuf, and the one that came.
    fn compare(&mut self, header: &PacketHeader, frame: &[u8], verdict: Verdict) {
        let record = self.tx.1.read().expect("a sound ring").expect("a record");
        let sent = WirePacket::read(&record).expect("a packet");
        assert_eq!(sent.ordinal, header.sequence);
        let mut bytes = vec![0; sent.bytes.len()];
        sent.bytes.copy_to(&mut bytes);
        let batch = PacketBatch::decode(&bytes[..]).expect("valid protobuf");
        let [packet] = &batch.packets[..] else {
            panic!("{} packets instead of one", batch.packets.len());
        };
        assert_eq!(packet.data, frame);
        assert_eq!(packet.timestamp_ns, header.timestamp_ns as i64);
        assert_eq!(packet.link_type, u32::from(header.link_type));
        let is_matched = !packet.matched_filter_ids.is_empty();
        assert_eq!(is_matched, verdict == Verdict::Matched);
    }
}

/// A pattern of a type that few packets match, so that most are compared to the end.
fn pattern(kind: FilterType) -> &'static str {
    match kind {
        FilterType::FilterIpAddress => "2001:db8::/32",
        FilterType::FilterPhoneNumber => "*4930123456",
        FilterType::FilterBpf => "udp",
        FilterType::FilterTlsJa3 | FilterType::FilterTlsJa3s => "e7d705a3286e19ea42f587b344ee6865",
        FilterType::FilterTlsJa4 => "t13d1516h2_8daaf6152771_b186095e22b6",
        FilterType::FilterImsi => "001010123456789",
        FilterType::FilterImei => "490154203237518",
        _ => "*alice*",
    }
}

fn ring(ring: Kind, cursor: Kind) -> (RingWriter, RingReader) {
    let id = RegionId::of_queue(ring, 0, 0);
    let cursor_id = RegionId::of_queue(cursor, 0, 0);
    let (ring, _) = create(id, RING, Pages::PreferHuge).expect("shared memory");
    let (cursor, _) = create(cursor_id, 0, Pages::PreferHuge).expect("shared memory");
    (
        RingWriter::attach(id, ring.as_fd(), cursor.as_fd()).expect("a writer"),
        RingReader::attach(id, ring.as_fd(), cursor.as_fd()).expect("a reader"),
    )
}
