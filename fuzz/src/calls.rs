//! Any packets to a worker that follows calls: SIP over UDP and TCP, in fragments, media, and anything else; and the worker dies now and then.

use std::cell::RefCell;
use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use lc_daemon::config::{NoFilterPolicy, Voip};
use lc_proto::data::PacketBatch;
use lc_proto::management::FilterType;
use lc_workerd::desk::Desk;
use lc_workerd::desk::hand::SharedEsp;
use lc_workerd::desk::load::Load;
use lc_workerd::desk::means::Means;
use lc_workerd::interfaces::InterfaceNames;
use lc_workerd::matcher::FilterSet;
use lc_workerd::matcher::Judge;
use lc_workerd::voip::analyser::Analyser;
use lc_workerd::voip::desk::CallDesk;
use lc_workerd::voip::settings::Settings;
use lc_workerd::voip::streams::SipStreams;
use lc_workerd::voip::switchboard::{Elsewhere, Switchboard};
use prost::Message;
use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::filters::{Filter, Snapshot};
use shm_layout::layout::{Kind, RegionId};
use shm_layout::log::LogWriter;
use shm_layout::packet::{Packet, PacketHeader, push_inline};
use shm_layout::region::{OwnedRegion, Pages, Region, create};
use shm_layout::ring::{Full, RingReader, RingWriter};
use shm_layout::session::Session;
use shm_layout::wire::WirePacket;
use shm_layout::worker::{InProgress, Worker, WorkerCommit};

use crate::Input;

/// Raw IP.
const LINK_TYPE: u16 = 101;
const MILLISECOND: u64 = 1_000_000;
const START_NS: u64 = 1_700_000_000_000 * MILLISECOND;
const RX_BYTES: u64 = 1 << 20;
/// So little that room runs out.
const TX_BYTES: u64 = 64 << 10;
const LOG_BYTES: u64 = 64 << 10;
const FLOW_TABLE: usize = 64 << 10;
const CALLS_LIMIT: usize = 24 << 10;
/// More than a call takes, whatever is said of it.
const LARGEST_CALL: usize = 64 << 10;
/// Packets of an input; more are not looked at.
const MOST_PACKETS: u64 = 300;
/// Times that a worker dies; later ones don't happen. Its successor has to set up its tables.
const MOST_DEATHS: u32 = 8;
const CONNECTIONS: usize = 4;

const LINES: [&str; 16] = [
    "INVITE",
    "100 INVITE",
    "180 INVITE",
    "200 INVITE",
    "ACK",
    "BYE",
    "200 BYE",
    "CANCEL",
    "486 INVITE",
    "UPDATE",
    "REGISTER",
    "200 REGISTER",
    "MESSAGE",
    "183 INVITE",
    "PRACK",
    "OPTIONS",
];
const USERS: [&str; 4] = ["alice", "carol", "bob", "+4930123456"];

thread_local! {
    /// One for all inputs: shared memory costs more than an input does.
    static MEMORY: RefCell<Memory> = RefCell::new(Memory::new());
}

/// `bytes`: how the worker is set up; then what happens, step by step. Each packet is forwarded once at most and as it came, has one outcome or waits, and does not wait when there is nothing more to
/// come; what calls take stays within its bounds.
pub fn check(bytes: &[u8]) {
    MEMORY.with_borrow_mut(|memory| {
        let mut input = Input::new(bytes);
        let mut station = Station::new(memory, input.u8());
        while !input.is_empty() && station.given < MOST_PACKETS {
            station.step(&mut input);
        }
        station.finish();
    });
}

/// What outlives a worker.
struct Memory {
    rx: (RingWriter, RingReader),
    tx: (RingWriter, RingReader),
    logs: [(RegionId, OwnedFd); 2],
    worker: OwnedRegion<Worker>,
    session: Region<Session>,
    /// None, and those of two generations.
    filters: [FilterSet; 4],
}

impl Memory {
    fn new() -> Self {
        let make = |kind, bytes| {
            let id = RegionId::of_worker(kind, 0);
            let (fd, _) = create(id, bytes, Pages::PreferHuge).expect("shared memory");
            (id, fd)
        };
        let ring = |ring, cursor, bytes| {
            let (id, fd) = make(ring, bytes);
            let (_, cursor) = make(cursor, 0);
            (
                RingWriter::attach(id, fd.as_fd(), cursor.as_fd()).expect("a writer"),
                RingReader::attach(id, fd.as_fd(), cursor.as_fd()).expect("a reader"),
            )
        };
        let (id, fd) = make(Kind::Worker, Worker::BYTES);
        let session = RegionId::single(Kind::Session);
        let (shared, _) =
            create(session, Session::BYTES, Pages::PreferHuge).expect("shared memory");
        Self {
            rx: ring(Kind::Rx, Kind::RxCursor, RX_BYTES),
            tx: ring(Kind::Tx, Kind::TxCursor, TX_BYTES),
            logs: [Kind::Held, Kind::Calls].map(|kind| make(kind, LOG_BYTES)),
            worker: OwnedRegion::attach(fd.as_fd(), id).expect("a worker's region"),
            session: Region::attach(shared.as_fd(), session).expect("a session"),
            filters: [
                FilterSet::none(NoFilterPolicy::Allow),
                FilterSet::none(NoFilterPolicy::Deny),
                filters(1, &[(FilterType::FilterSipUser, "alice")]),
                filters(
                    2,
                    &[
                        (FilterType::FilterCallId, "c3"),
                        (FilterType::FilterIpAddress, "10.0.0.6"),
                        (FilterType::FilterPhoneNumber, "*0123456"),
                    ],
                ),
            ],
        }
    }

    fn log(&self, which: usize) -> LogWriter {
        let (id, fd) = &self.logs[which];
        LogWriter::attach(*id, fd.as_fd()).expect("a log")
    }
}

fn filters(generation: u64, patterns: &[(FilterType, &str)]) -> FilterSet {
    let filters = patterns.iter().map(|(kind, pattern)| Filter {
        id: (*pattern).to_owned(),
        filter_type: *kind as u32,
        pattern: (*pattern).to_owned(),
        enabled: true,
    });
    let snapshot = Snapshot {
        generation,
        filters: filters.collect(),
    };
    let (filters, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
    assert!(refused.is_empty(), "{refused:?}");
    filters
}

/// A worker at work.
struct Station<'m> {
    memory: &'m mut Memory,
    elsewhere: Elsewhere,
    kept_bytes: u64,
    desk: Desk,
    held: LogWriter,
    calls: LogWriter,
    interfaces: InterfaceNames,
    commit: WorkerCommit,
    /// As it was committed last.
    committed: WorkerCommit,
    filters: usize,
    /// All that was given, by number.
    frames: Vec<Vec<u8>>,
    given: u64,
    deaths: u32,
    time_ns: u64,
    arrived: HashSet<u64>,
    /// Bytes that each direction of each connection has carried.
    positions: [u32; 2 * CONNECTIONS],
}

impl<'m> Station<'m> {
    /// `flags`: filters (2 bits), whether verdicts wait for others, whether packets are shed.
    fn new(memory: &'m mut Memory, flags: u8) -> Self {
        let (mut held, mut calls) = (memory.log(0), memory.log(1));
        for log in [&mut held, &mut calls] {
            log.release_to(log.head());
            log.publish();
        }
        let elsewhere = match flags & 4 {
            0 => Elsewhere::Nothing,
            _ => Elsewhere::Soon,
        };
        let mut station = Self {
            elsewhere,
            kept_bytes: u64::from(flags >> 3 & 1) * TX_BYTES / 4,
            desk: desk(elsewhere),
            held,
            calls,
            interfaces: InterfaceNames::default(),
            commit: WorkerCommit::default(),
            committed: WorkerCommit::default(),
            filters: usize::from(flags & 3),
            frames: Vec::new(),
            given: 0,
            deaths: 0,
            time_ns: START_NS,
            arrived: HashSet::new(),
            positions: [0; 2 * CONNECTIONS],
            memory,
        };
        station.publish();
        station
    }

    /// One thing happens: a packet comes, time passes, filters change, a batch ends, the worker dies.
    fn step(&mut self, input: &mut Input<'_>) {
        let kind = input.u8();
        match kind & 15 {
            0 => self.give(input.packet().to_vec()),
            1 => {
                let ends = input.u8();
                self.give(udp(ends, input.packet()));
            }
            2..=4 => {
                let (ends, message) = (input.u8(), message(input));
                self.give(udp(ends, &message));
            }
            5 | 6 => {
                let ends = input.u8();
                let payload = rtp(input);
                self.give(udp(ends, &payload));
            }
            7 => {
                let (ends, how) = (input.u8(), input.u8());
                let whole = udp(ends, &message(input));
                self.give_in_fragments(&whole, how);
            }
            8..=10 => {
                let (which, size) = (input.u8(), input.u8());
                let text = match kind & 15 {
                    10 => input.text().to_vec(),
                    _ => message(input),
                };
                self.give_in_segments(which, usize::from(size), &text);
            }
            11 => {
                let (which, flags, shift) = (input.u8(), input.u8(), input.u16());
                let place = usize::from(which) % self.positions.len();
                let seq = self.positions[place].wrapping_add(u32::from(shift as i16 as u16));
                self.give(tcp(place, seq, flags, input.text()));
            }
            12 => self.time_ns += u64::from(input.u16()) * 20 * MILLISECOND,
            13 => self.filters = usize::from(input.u8() & 3),
            14 => self.work(true),
            _ => {
                self.work(kind & 0x10 != 0);
                if kind & 0x20 != 0 && self.deaths < MOST_DEATHS {
                    self.die();
                }
            }
        }
    }

    fn give(&mut self, frame: Vec<u8>) {
        if self.given == MOST_PACKETS {
            return;
        }
        self.time_ns += MILLISECOND;
        let header = PacketHeader {
            sequence: self.given,
            // The number stands in the last digits.
            timestamp_ns: self.time_ns + self.given,
            captured_len: frame.len() as u32,
            original_len: frame.len() as u32,
            link_type: LINK_TYPE,
            interface: 0,
            flow_hash: 0,
        };
        if push_inline(&mut self.memory.rx.0, &header, &frame).is_err() {
            self.work(true);
            return;
        }
        self.memory.rx.0.publish();
        self.frames.push(frame);
        self.given += 1;
    }

    /// `how`: length of a fragment, whether they come backwards, whether one is missing.
    fn give_in_fragments(&mut self, whole: &[u8], how: u8) {
        let len = 8 * (1 + usize::from(how & 31));
        let id = self.given as u8;
        let pieces: Vec<_> = whole[20..].chunks(len).collect();
        let fragment = |number: usize| {
            let more = u16::from(number + 1 < pieces.len()) << 13;
            let mut fragment = whole[..20].to_vec();
            fragment[2..4].copy_from_slice(&(20 + pieces[number].len() as u16).to_be_bytes());
            fragment[5] = id;
            fragment[6..8].copy_from_slice(&(more | (number * len / 8) as u16).to_be_bytes());
            fragment.extend_from_slice(pieces[number]);
            fragment
        };
        let mut fragments: Vec<Vec<u8>> = (0..pieces.len()).map(fragment).collect();
        if how & 0x40 != 0 {
            fragments.reverse();
        }
        if how & 0x80 != 0 {
            fragments.pop();
        }
        for fragment in fragments.into_iter().take(40) {
            self.give(fragment);
        }
    }

    /// `which`: the connection and its direction, whether a segment comes again, whether two change places, whether one is missing.
    fn give_in_segments(&mut self, which: u8, size: usize, text: &[u8]) {
        let place = usize::from(which) % self.positions.len();
        let size = size.max(text.len() / 20).max(1);
        let mut segments = Vec::new();
        for piece in text.chunks(size) {
            segments.push(tcp(place, self.positions[place], 0x18, piece));
            self.positions[place] = self.positions[place].wrapping_add(piece.len() as u32);
        }
        if which & 0x20 != 0 {
            segments.extend(segments.first().cloned());
        }
        if which & 0x40 != 0 && segments.len() > 1 {
            segments.swap(0, 1);
        }
        if which & 0x80 != 0 {
            segments.pop();
        }
        for segment in segments {
            self.give(segment);
        }
    }

    /// Handles what there is, as far as there is room. Then `is_read`, what was forwarded is read, which makes room.
    fn work(&mut self, is_read: bool) {
        let _ = self.round(false);
        let mut is_full = false;
        while !is_full {
            let Some(record) = self.memory.rx.1.read().expect("a sound ring") else {
                break;
            };
            let packet = Packet::read(&record, None).expect("a packet");
            let identity = InProgress::new(0, packet.header.sequence);
            self.desk.take(identity, packet.header, &packet.data);
            let (desk, mut means) = self.lend();
            is_full = desk.handle(&mut means).is_err();
        }
        let (desk, mut means) = self.lend();
        desk.report(&mut means);
        self.check_bounds();
        self.publish();
        if is_read {
            self.collect();
        }
    }

    fn round(&mut self, at_end: bool) -> Result<(), Full> {
        let (desk, mut means) = self.lend();
        let result = desk.round(&mut means, at_end);
        desk.report(&mut means);
        self.publish();
        result
    }

    fn lend(&mut self) -> (&mut Desk, Means<'_>) {
        let memory = &mut *self.memory;
        let means = Means {
            judge: Judge {
                filters: &memory.filters[self.filters],
                bpf_active: false,
            },
            interfaces: &mut self.interfaces,
            session: &memory.session,
            worker: &memory.worker,
            tx: &mut memory.tx.0,
            held: &mut self.held,
            calls: &mut self.calls,
            peers: &mut [],
            commit: &mut self.commit,
            kept_bytes: self.kept_bytes,
            load: Load::Light,
            lost_by_capture: 0,
            condemned: None,
        };
        (&mut self.desk, means)
    }

    fn publish(&mut self) {
        let Memory { rx, tx, .. } = &mut *self.memory;
        self.commit.set_rx_tail(0, rx.1.position());
        self.commit.set_tx_head(tx.0.head());
        self.commit.set_held(self.held.bounds());
        self.commit.set_calls(self.calls.bounds());
        self.committed = self.commit.clone();
        tx.0.publish();
        self.calls.publish();
        self.held.publish();
        rx.1.release();
    }

    /// Another worker goes on from the last commit.
    fn die(&mut self) {
        self.deaths += 1;
        self.commit = self.committed.clone();
        (self.held, self.calls) = (self.memory.log(0), self.memory.log(1));
        self.held.resume(self.commit.held()).expect("sound bounds");
        self.calls
            .resume(self.commit.calls())
            .expect("sound bounds");
        self.desk = desk(self.elsewhere);
    }

    /// Nothing more comes.
    fn finish(&mut self) {
        loop {
            self.work(true);
            if self.memory.rx.1.is_empty() {
                break;
            }
        }
        while self.round(true).is_err() {
            assert!(self.collect() > 0, "no room, though all was read");
        }
        let _ = self.round(true);
        self.collect();
        assert_eq!(self.waiting(), 0, "packets wait, though all was decided");
    }

    /// Reads what was forwarded.
    fn collect(&mut self) -> usize {
        let mut count = 0;
        while let Some(record) = self.memory.tx.1.read().expect("a sound ring") {
            let wire = WirePacket::read(&record).expect("a packet");
            let mut bytes = vec![0; wire.bytes.len()];
            wire.bytes.copy_to(&mut bytes);
            let batch = PacketBatch::decode(&bytes[..]).expect("valid protobuf");
            let [packet] = &batch.packets[..] else {
                panic!("{} packets instead of one", batch.packets.len());
            };
            count += 1;
            let sip = packet.metadata.as_ref().and_then(|told| told.sip.as_ref());
            assert!(sip.is_some_and(|sip| !sip.call_id.is_empty()));
            let number = packet.timestamp_ns as u64 % MILLISECOND;
            if !packet.data.is_empty() {
                assert!(self.arrived.insert(number), "{number} arrives twice");
                assert_eq!(packet.data, self.frames[number as usize]);
            }
        }
        self.memory.tx.1.release();
        count
    }

    /// Packets that were taken and have no outcome.
    fn waiting(&self) -> u64 {
        let sum =
            |counters: &[Counter]| counters.iter().map(|at| self.commit.get(*at)).sum::<u64>();
        let gone = sum(&[
            Counter::HeldForwarded,
            Counter::HeldReleased,
            Counter::HeldDropped,
        ]);
        self.commit
            .get(Counter::Held)
            .checked_sub(gone)
            .expect("no more than was held")
    }

    fn check_bounds(&self) {
        let sum =
            |counters: &[Counter]| counters.iter().map(|at| self.commit.get(*at)).sum::<u64>();
        let ends = sum(&[
            Counter::Forwarded,
            Counter::FilteredNoMatch,
            Counter::FilteredByPolicy,
            Counter::LostTooLong,
            Counter::Quarantined,
            Counter::Shed,
            Counter::ShedByCall,
            Counter::HeldDropped,
        ]);
        let apart = self.commit.get(Counter::ToldApart);
        let received = self.commit.get(Counter::Received);
        assert_eq!(received, ends - apart + self.waiting());
        assert!(
            self.desk.calls().expect("calls are followed").bytes() <= CALLS_LIMIT + LARGEST_CALL
        );
    }
}

fn desk(elsewhere: Elsewhere) -> Desk {
    let mut settings = Settings::of(&Voip::default());
    settings.streams.connections = CONNECTIONS;
    settings.streams.waiting_bytes = 64 << 10;
    settings.streams.waiting_bytes_of_one = 64 << 10;
    settings.streams.packets = 64;
    settings.streams.packets_of_one = 32;
    let board = Switchboard::new(CALLS_LIMIT, elsewhere);
    let streams = SipStreams::new(settings).expect("a little memory");
    let analyser = Analyser::new(FLOW_TABLE, streams, board).expect("a little memory");
    let esp = SharedEsp::default();
    let calls = CallDesk::new(analyser, 0, false, SharedEsp::clone(&esp));
    Desk::new(Some(calls), None, esp)
}

/// UDP over IPv4 between two of sixteen ends.
fn udp(ends: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to) = (ends & 15, ends >> 4);
    let payload = &payload[..payload.len().min(60_000)];
    let mut packet = ipv4(from, to, 17, 8 + payload.len());
    for half in [port(from), port(to), 8 + payload.len() as u16, 0] {
        packet.extend(half.to_be_bytes());
    }
    packet.extend(payload);
    packet
}

/// A segment of one direction of a connection.
fn tcp(place: usize, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (host, turned) = ((place / 2) as u8, place % 2 == 1);
    let ends = match turned {
        false => [(host, 40_000 + u16::from(host)), (9, 5060)],
        true => [(9, 5060), (host, 40_000 + u16::from(host))],
    };
    let mut packet = ipv4(ends[0].0, ends[1].0, 6, 20 + payload.len());
    packet.extend(ends[0].1.to_be_bytes());
    packet.extend(ends[1].1.to_be_bytes());
    packet.extend(seq.wrapping_add(1000).to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

fn ipv4(from: u8, to: u8, protocol: u8, len: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0];
    packet.extend((20 + len as u16).to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, from, 10, 0, 0, to]);
    packet
}

/// Media of host n have the ports 4000 + 10 n and the next one.
fn port(end: u8) -> u16 {
    4000 + 10 * u16::from(end & 7) + u16::from(end >> 3)
}

/// A message that four bytes describe: what it is; call and user; where it announces media, if anywhere; what is odd about it.
fn message(input: &mut Input<'_>) -> Vec<u8> {
    let (line, who, media, odd) = (input.u8(), input.u8(), input.u8(), input.u8());
    let mut words = LINES[usize::from(line & 15)].split(' ').peekable();
    let code = words.next_if(|word| word.parse::<u16>().is_ok());
    let method = words.next().unwrap_or_default();
    let start = match code {
        Some(code) => format!("SIP/2.0 {code} Whatever"),
        None => format!("{method} sip:bob@example.org SIP/2.0"),
    };
    let (call, user) = (who & 31, USERS[usize::from(who >> 6)]);
    let tag = match odd & 3 {
        0 => String::new(),
        leg => format!(";tag=leg{leg}"),
    };
    let body = match media & 8 {
        0 => String::new(),
        _ => {
            let (host, second) = (media & 7, media >> 5);
            let (audio, video) = (port(host), port(second));
            format!(
                "v=0\r\no=- 1 1 IN IP4 10.0.0.{host}\r\ns=-\r\nc=IN IP4 10.0.0.{host}\r\nt=0 0\r\nm=audio {audio} RTP/AVP 0\r\n\
                 m=video {video} RTP/AVP 31\r\nc=IN IP4 10.0.0.{second}\r\n"
            )
        }
    };
    // Of streams: a length that is not true.
    let length = match odd & 0x80 {
        0 => body.len(),
        _ => body.len() + usize::from(odd & 0x7f),
    };
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK{odd}\r\nFrom: <sip:{user}@example.org>;tag=caller\r\n\
         To: <sip:bob@example.org>{tag}\r\nCall-ID: c{call}\r\nCSeq: {} {method}\r\nContent-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}",
        1 + (line >> 4)
    )
    .into_bytes()
}

/// RTP that three bytes describe, or RTCP.
fn rtp(input: &mut Input<'_>) -> Vec<u8> {
    let (sequence, source, kind) = (input.u8(), input.u8(), input.u8());
    let mut payload = match kind & 0x80 {
        0 => vec![0x80, kind & 31, 0, sequence, 0, 0, sequence, 0],
        _ => vec![0x80, 200, 0, 6],
    };
    payload.extend([0, 0, 0, source]);
    payload.resize(payload.len() + 20, 0x55);
    payload
}
