//! A worker that follows calls, without processes: real rings, logs and commits, and packets made of text. For tests.
//!
//! ```text
//!   give(packet) -> rx ring -> desk, as `worker.rs` drives it -> tx ring -> arrived()
//! ```
//!
//! A worker can die at any border of its commits ([`Harness::dies_at`]), and its successor goes on in the same memory.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use lc_daemon::attach::Peer;
use lc_daemon::config::NoFilterPolicy;
use lc_proto::data::{CapturedPacket, PacketMetadata};
use lc_tests::ipv4;
use prost::Message;
use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::filters::{Filter, Snapshot};
use shm_layout::layout::{Kind, RegionId};
use shm_layout::log::{LogReader, LogWriter};
use shm_layout::packet::{Packet as RxPacket, PacketHeader, push_inline};
use shm_layout::region::{OwnedRegion, Pages, Region, create};
use shm_layout::ring::{Full, RingReader, RingWriter};
use shm_layout::session::Session;
use shm_layout::wire::{Priority, WirePacket};
use shm_layout::worker::{InProgress, Worker, WorkerCommit};

use super::analyser::Analyser;
use super::desk::CallDesk;
use super::settings::Settings;
use super::streams::SipStreams;
use super::switchboard::{Elsewhere, Switchboard};
use crate::desk::Desk;
use crate::desk::hand::{SharedEsp, find_held};
use crate::desk::load::Load;
use crate::desk::means::Means;
use crate::interfaces::InterfaceNames;
use crate::matcher::{FilterSet, Judge};
use crate::session::protocols::Protocols;
use crate::session::roster::Roster;

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const MILLISECOND: u64 = 1_000_000;
/// When the first packet is captured.
pub(crate) const START: u64 = 1_700_000_000 * SECOND;
/// Raw IP.
const LINK_TYPE: u16 = 101;
const SIP_USER: u32 = 0;

/// How a worker is made.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub policy: NoFilterPolicy,
    /// Users that are wanted; the filter for `alice` has the id `f-alice`.
    pub users: Vec<&'static str>,
    pub rx_bytes: u64,
    pub tx_bytes: u64,
    pub calls_bytes: u64,
    pub held_bytes: u64,
    /// Memory for calls.
    pub calls_limit: usize,
    pub elsewhere: Elsewhere,
    /// See [`Means::kept_bytes`].
    pub kept_bytes: u64,
    /// What is kept of TCP at most, if it is not as configured.
    pub kept_of_streams: Option<usize>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            policy: NoFilterPolicy::Deny,
            users: vec!["alice"],
            rx_bytes: 512 << 10,
            tx_bytes: 512 << 10,
            calls_bytes: 256 << 10,
            held_bytes: 256 << 10,
            calls_limit: 4 << 20,
            elsewhere: Elsewhere::Nothing,
            kept_bytes: 0,
            kept_of_streams: Some(1 << 20),
        }
    }
}

/// Where a worker may die.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// What it did since its last commit never happened.
    BeforeCommit,
    /// Its commit stands, but nobody was told.
    AfterCommit,
    /// Everything is published, but the rx ring is not released.
    AfterPublish,
}

impl Death {
    pub(crate) const ALL: [Self; 3] = [Self::BeforeCommit, Self::AfterCommit, Self::AfterPublish];
}

/// A packet that was forwarded.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arrived {
    pub ordinal: u64,
    pub priority: Priority,
    pub packet: CapturedPacket,
}

impl Arrived {
    /// Its number among all that were given.
    pub(crate) fn number(&self) -> u64 {
        // Packets are given a microsecond apart at least, and tell their number in the last digits.
        self.packet.timestamp_ns as u64 % 1_000_000
    }

    pub(crate) fn metadata(&self) -> &PacketMetadata {
        self.packet.metadata.as_ref().unwrap()
    }

    pub(crate) fn call_id(&self) -> &str {
        self.metadata().sip.as_ref().map_or("", |sip| &*sip.call_id)
    }

    pub(crate) fn detail(&self, key: &str) -> Option<&str> {
        self.metadata().details.get(key).map(|value| &**value)
    }
}

/// The shared memory of a worker. It outlives the worker.
#[derive(Debug)]
pub(crate) struct Memory {
    worker: u16,
    session: OwnedFd,
    regions: Vec<(Kind, OwnedFd)>,
}

impl Memory {
    pub(crate) fn new(worker: u16, setup: &Setup) -> Rc<Self> {
        let make = |kind, bytes| {
            let id = RegionId::of_worker(kind, worker);
            create(id, bytes, Pages::PreferHuge).unwrap().0
        };
        let regions = [
            (Kind::Rx, setup.rx_bytes),
            (Kind::RxCursor, 0),
            (Kind::Tx, setup.tx_bytes),
            (Kind::TxCursor, 0),
            (Kind::Calls, setup.calls_bytes),
            (Kind::Held, setup.held_bytes),
            (Kind::Worker, Worker::BYTES),
        ];
        let session = RegionId::single(Kind::Session);
        Rc::new(Self {
            worker,
            session: create(session, Session::BYTES, Pages::PreferHuge)
                .unwrap()
                .0,
            regions: regions
                .map(|(kind, bytes)| (kind, make(kind, bytes)))
                .into(),
        })
    }

    fn at(&self, kind: Kind) -> (RegionId, &OwnedFd) {
        let found = self.regions.iter().find(|(known, _)| *known == kind);
        (RegionId::of_worker(kind, self.worker), &found.unwrap().1)
    }

    fn log(&self, kind: Kind) -> LogWriter {
        let (id, fd) = self.at(kind);
        LogWriter::attach(id, fd.as_fd()).unwrap()
    }
}

/// See the [module](self).
pub(crate) struct Harness<R: Roster = Protocols> {
    make: fn(&Setup, usize) -> Desk<R>,
    memory: Rc<Memory>,
    others: Vec<Rc<Memory>>,
    setup: Setup,
    filters: FilterSet,
    generation: u64,
    // What capd and the forwarder have.
    source: RingWriter,
    sink: RingReader,
    arrived: Vec<Arrived>,
    given: u64,
    time_ns: u64,
    // What the worker has.
    pub desk: Desk<R>,
    pub commit: WorkerCommit,
    worker: OwnedRegion<Worker>,
    session: Region<Session>,
    rx: RingReader,
    tx: RingWriter,
    held: LogWriter,
    calls: LogWriter,
    peers: Vec<Peer>,
    interfaces: InterfaceNames,
    pub condemned: Option<InProgress>,
    /// As the rx rings and the capture would say.
    pub load: Load,
    pub lost_by_capture: u64,
    /// Packets in a batch at most.
    pub batch: usize,
    commits: usize,
    death: Option<(usize, Death)>,
    /// How often it has died.
    pub deaths: usize,
}

impl Harness {
    pub(crate) fn new(setup: Setup) -> Self {
        let memory = Memory::new(0, &setup);
        Self::beside(memory, vec![], setup)
    }

    /// A worker beside others, whose memory it reads.
    pub(crate) fn beside(memory: Rc<Memory>, others: Vec<Rc<Memory>>, setup: Setup) -> Self {
        Self::with(memory, others, setup, desk)
    }
}

impl<R: Roster> Harness<R> {
    /// A worker with a desk that is made so.
    pub(crate) fn with(
        memory: Rc<Memory>,
        others: Vec<Rc<Memory>>,
        setup: Setup,
        make: fn(&Setup, usize) -> Desk<R>,
    ) -> Self {
        let (id, rx) = memory.at(Kind::Rx);
        let (_, rx_cursor) = memory.at(Kind::RxCursor);
        let (tx_id, tx) = memory.at(Kind::Tx);
        let (_, tx_cursor) = memory.at(Kind::TxCursor);
        let session = RegionId::single(Kind::Session);
        let peers = others.iter().map(|other| {
            let (id, fd) = other.at(Kind::Calls);
            Peer {
                worker: other.worker,
                calls: LogReader::attach(id, fd.as_fd()).unwrap(),
            }
        });
        let (worker_id, worker) = memory.at(Kind::Worker);
        Self {
            desk: make(&setup, others.len()),
            make,
            commit: WorkerCommit::default(),
            filters: filters(1, &setup),
            generation: 1,
            source: RingWriter::attach(id, rx.as_fd(), rx_cursor.as_fd()).unwrap(),
            sink: RingReader::attach(tx_id, tx.as_fd(), tx_cursor.as_fd()).unwrap(),
            arrived: vec![],
            given: 0,
            time_ns: START,
            worker: OwnedRegion::attach(worker.as_fd(), worker_id).unwrap(),
            session: Region::attach(memory.session.as_fd(), session).unwrap(),
            rx: RingReader::attach(id, rx.as_fd(), rx_cursor.as_fd()).unwrap(),
            tx: RingWriter::attach(tx_id, tx.as_fd(), tx_cursor.as_fd()).unwrap(),
            held: memory.log(Kind::Held),
            calls: memory.log(Kind::Calls),
            peers: peers.collect(),
            interfaces: InterfaceNames::default(),
            condemned: None,
            load: Load::Light,
            lost_by_capture: 0,
            batch: 64,
            commits: 0,
            death: None,
            deaths: 0,
            memory: Rc::clone(&memory),
            others,
            setup,
        }
    }

    /// Puts a packet into the rx ring, `after_ns` after the one before. Its number.
    pub(crate) fn give_after(&mut self, after_ns: u64, frame: &[u8]) -> u64 {
        self.give_as(self.given, after_ns, frame)
    }

    /// A millisecond after the one before.
    pub(crate) fn give(&mut self, frame: &[u8]) -> u64 {
        self.give_after(MILLISECOND, frame)
    }

    /// As number `number` of the capture thread.
    pub(crate) fn give_as(&mut self, number: u64, after_ns: u64, frame: &[u8]) -> u64 {
        self.given = number + 1;
        self.time_ns += after_ns;
        let header = PacketHeader {
            sequence: number,
            timestamp_ns: self.time_ns / MILLISECOND * MILLISECOND + number,
            captured_len: frame.len() as u32,
            original_len: frame.len() as u32,
            link_type: LINK_TYPE,
            interface: 0,
            flow_hash: 0,
        };
        push_inline(&mut self.source, &header, frame).unwrap();
        self.source.publish();
        number
    }

    /// Up to where there is something in the rx ring.
    pub(crate) fn rx_head(&self) -> u64 {
        self.source.head()
    }

    /// Puts other filters in force.
    pub(crate) fn filter(&mut self, users: &[&'static str]) {
        self.generation += 1;
        self.setup.users = users.to_vec();
        self.filters = filters(self.generation, &self.setup);
    }

    /// The worker dies at its `commit`th commit from now on, 0 being the next.
    pub(crate) fn dies_at(&mut self, commit: usize, death: Death) {
        self.death = Some((self.commits + commit, death));
    }

    /// Gives all packets, and works now and then. Meanwhile the worker dies, each time after so many commits and in one of the [ways](Death::ALL).
    pub(crate) fn play_with_deaths(&mut self, packets: &[Vec<u8>], deaths: &[(usize, usize)]) {
        let mut deaths = deaths.iter();
        for (number, packet) in packets.iter().enumerate() {
            if number % 16 == 0
                && let Some((at, how)) = deaths.next()
            {
                self.dies_at(*at, Death::ALL[*how]);
            }
            self.give(packet);
            if number % 3 == 0 {
                self.work();
            }
        }
        self.finish();
        self.check_ledger();
    }

    /// Handles what there is, until there is no more, or no room for it, or the worker has died.
    pub(crate) fn work(&mut self) {
        let deaths = self.deaths;
        let _ = self.round(false);
        while self.deaths == deaths && self.handle_batch() {
            let _ = self.round(false);
        }
    }

    /// Nothing comes for so long, by the clock.
    pub(crate) fn wait(&mut self, silence_ns: u64) {
        let (desk, mut means) = self.lend();
        desk.tick(&mut means, silence_ns);
        self.work();
    }

    /// Handles what there is, and decides on everything: no more packets come.
    pub(crate) fn finish(&mut self) {
        while !self.rx.is_empty() {
            self.work();
            self.collect();
        }
        while self.round(true).is_err() {
            assert!(
                self.collect() > 0,
                "the tx ring is full, though it is empty"
            );
        }
        let _ = self.round(true);
    }

    /// All packets that were forwarded so far. Makes room in the tx ring.
    pub(crate) fn arrived(&mut self) -> &[Arrived] {
        self.collect();
        &self.arrived
    }

    /// The numbers of the packets that were forwarded so far.
    pub(crate) fn numbers(&mut self) -> Vec<u64> {
        self.arrived().iter().map(Arrived::number).collect()
    }

    pub(crate) fn count(&self, counter: Counter) -> u64 {
        self.commit.get(counter)
    }

    /// The bytes of a packet that is held, as the quarantine finds them.
    pub(crate) fn held_frame(&self, number: u64) -> Option<Vec<u8>> {
        let found = find_held(&self.held, InProgress::new(0, number));
        found.map(|(_, frame)| frame)
    }

    /// Bytes of the log of held packets that are in use.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held.used()
    }

    /// Every packet that was taken has one outcome, or waits.
    pub(crate) fn check_ledger(&self) {
        let sum = |counters: &[Counter]| counters.iter().map(|at| self.count(*at)).sum::<u64>();
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
        let gone = sum(&[
            Counter::HeldForwarded,
            Counter::HeldReleased,
            Counter::HeldDropped,
        ]);
        let waiting = self.count(Counter::Held) - gone;
        // What is told apart from its packet was never received.
        let ends = ends - self.count(Counter::ToldApart);
        assert_eq!(self.count(Counter::Received), ends + waiting);
    }

    /// The worker dies here and now; its successor takes over.
    pub(crate) fn die(&mut self) {
        self.deaths += 1;
        self.commit = self.worker.commit().unwrap();
        self.held = self.memory.log(Kind::Held);
        self.calls = self.memory.log(Kind::Calls);
        self.held.resume(self.commit.held()).unwrap();
        self.calls.resume(self.commit.calls()).unwrap();
        self.tx.resume(self.commit.tx_head());
        self.rx.resume(self.commit.rx_tail(0));
        self.desk = (self.make)(&self.setup, self.others.len());
        self.interfaces = InterfaceNames::default();
        for (peer, other) in self.peers.iter_mut().zip(&self.others) {
            let (id, fd) = other.at(Kind::Calls);
            peer.calls = LogReader::attach(id, fd.as_fd()).unwrap();
        }
    }

    fn collect(&mut self) -> usize {
        let before = self.arrived.len();
        while let Some(record) = self.sink.read().unwrap() {
            let wire = WirePacket::read(&record).unwrap();
            let mut bytes = vec![0; wire.bytes.len()];
            wire.bytes.copy_to(&mut bytes);
            // The field's tag and length stand in front.
            assert_eq!(bytes[0], 0x22);
            let packet = CapturedPacket::decode_length_delimited(&bytes[1..]).unwrap();
            assert_eq!(wire.ordinal, self.arrived.len() as u64);
            self.arrived.push(Arrived {
                ordinal: wire.ordinal,
                priority: wire.priority,
                packet,
            });
        }
        self.sink.release();
        self.arrived.len() - before
    }

    fn lend(&mut self) -> (&mut Desk<R>, Means<'_>) {
        let means = Means {
            judge: Judge {
                filters: &self.filters,
                bpf_active: false,
            },
            interfaces: &mut self.interfaces,
            session: &self.session,
            worker: &self.worker,
            tx: &mut self.tx,
            held: &mut self.held,
            calls: &mut self.calls,
            peers: &mut self.peers,
            commit: &mut self.commit,
            kept_bytes: self.setup.kept_bytes,
            load: self.load,
            lost_by_capture: self.lost_by_capture,
            condemned: self.condemned,
        };
        (&mut self.desk, means)
    }

    fn round(&mut self, at_end: bool) -> Result<(), Full> {
        let (desk, mut means) = self.lend();
        let result = desk.round(&mut means, at_end);
        desk.report(&mut means);
        self.publish();
        result
    }

    /// Whether there was anything to handle.
    fn handle_batch(&mut self) -> bool {
        if self.desk.is_ahead() {
            return false;
        }
        let mut places = vec![self.rx.position()];
        while places.len() <= self.batch {
            let Some(record) = self.rx.read().unwrap() else {
                break;
            };
            let packet = RxPacket::read(&record, None).unwrap();
            let identity = InProgress::new(0, packet.header.sequence);
            self.desk.take(identity, packet.header, &packet.data);
            places.push(self.rx.position());
        }
        self.desk.prepare();
        let mut is_full = false;
        let mut handled = 0;
        while handled + 1 < places.len() && !is_full {
            if !self.desk.is_due() {
                break;
            }
            let (desk, mut means) = self.lend();
            is_full = desk.handle(&mut means).is_err();
            handled += 1;
        }
        self.rx.unread(places[handled]);
        if handled == 0 {
            return false;
        }
        let (desk, mut means) = self.lend();
        desk.report(&mut means);
        self.publish();
        !is_full
    }

    /// As `worker.rs` does it, in the same order.
    fn publish(&mut self) {
        let dies = |at: Death, harness: &mut Self| {
            let is_due = harness.death == Some((harness.commits, at));
            if is_due {
                harness.death = None;
                harness.die();
            }
            is_due
        };
        if dies(Death::BeforeCommit, self) {
            return;
        }
        self.commit.set_rx_tail(0, self.rx.position());
        self.commit.set_tx_head(self.tx.head());
        self.worker.publish(&self.commit);
        if dies(Death::AfterCommit, self) {
            return;
        }
        self.worker.set_in_progress(None);
        self.tx.publish();
        self.calls.publish();
        self.held.publish();
        if dies(Death::AfterPublish, self) {
            return;
        }
        self.rx.release();
        self.commits += 1;
    }
}

fn desk(setup: &Setup, others: usize) -> Desk {
    let board = Switchboard::new(setup.calls_limit, setup.elsewhere);
    let mut settings = Settings::default();
    if let Some(bytes) = setup.kept_of_streams {
        settings.streams.waiting_bytes = bytes;
    }
    let streams = SipStreams::new(settings).unwrap();
    let analyser = Analyser::new(64 << 10, streams, board).unwrap();
    let esp = SharedEsp::default();
    let is_exact = setup.elsewhere == Elsewhere::Exactly;
    let calls = CallDesk::new(analyser, others, is_exact, SharedEsp::clone(&esp));
    Desk::new(Some(calls), None, esp)
}

fn filters(generation: u64, setup: &Setup) -> FilterSet {
    let filters = setup.users.iter().map(|user| Filter {
        id: format!("f-{user}"),
        filter_type: SIP_USER,
        pattern: (*user).to_owned(),
        enabled: true,
    });
    let snapshot = Snapshot {
        generation,
        filters: filters.collect(),
    };
    FilterSet::compile(&snapshot, setup.policy).0
}

/// An end of a packet: the last byte of its address in 10.0.0.0/24, and its port.
pub(crate) type End = (u8, u16);

/// A datagram of UDP over IPv4.
pub(crate) fn udp(from: End, to: End, payload: &[u8]) -> Vec<u8> {
    ipv4::udp(whole(from), whole(to), payload)
}

/// The same, in fragments of `len` bytes of payload each, a multiple of 8.
pub(crate) fn fragmented(from: End, to: End, payload: &[u8], len: usize, id: u16) -> Vec<Vec<u8>> {
    let datagram = ipv4::datagram((from.1, to.1), payload);
    let pieces: Vec<_> = datagram.chunks(len).collect();
    let fragment = |(number, piece): (usize, &&[u8])| {
        let more = u16::from(number + 1 < pieces.len()) << 13;
        let offset = (number * len / 8) as u16;
        ipv4::fragment(
            ipv4::UDP,
            host(from.0),
            host(to.0),
            (id, more | offset),
            piece,
        )
    };
    pieces.iter().enumerate().map(fragment).collect()
}

/// A segment of TCP over IPv4, by sequence and acknowledgement number.
pub(crate) fn tcp(from: End, to: End, numbers: (u32, u32), flags: u8, payload: &[u8]) -> Vec<u8> {
    ipv4::tcp(whole(from), whole(to), numbers, flags, payload)
}

/// A packet of IPv4 between two hosts.
pub(crate) fn ip(protocol: u8, from: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    ipv4::packet(protocol, host(from), host(to), payload)
}

fn whole((number, port): End) -> ipv4::End {
    (host(number), port)
}

fn host(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// A message of SIP: `INVITE`, or `200 INVITE`, of the call `id` from `user` to `bob`; with the callee's tag, where there is one; it
/// announces audio at `media`.
pub(crate) fn message(line: &str, id: &str, user: &str, tag: &str, media: Option<End>) -> Vec<u8> {
    let mut words = line.split(' ').peekable();
    let code = words.next_if(|word| word.parse::<u16>().is_ok());
    let method = words.next().unwrap();
    let start = match code {
        Some(code) => format!("SIP/2.0 {code} Whatever"),
        None => format!("{method} sip:bob@example.org SIP/2.0"),
    };
    let tag = match tag {
        "" => String::new(),
        tag => format!(";tag={tag}"),
    };
    let body = media.map_or(String::new(), |(host, port)| {
        format!(
            "v=0\r\no=- 1 1 IN IP4 10.0.0.{host}\r\ns=-\r\nc=IN IP4 10.0.0.{host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\n"
        )
    });
    let kind = match body.is_empty() {
        true => "",
        false => "Content-Type: application/sdp\r\n",
    };
    let length = body.len();
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 10.0.0.1;branch=z9hG4bK1\r\nFrom: <sip:{user}@example.org>;tag=caller\r\nTo: <sip:bob@example.org>{tag}\r\n\
         Call-ID: {id}\r\nCSeq: 1 {method}\r\n{kind}Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A packet of SIP from host 1 to host 2; see [`message`].
pub(crate) fn sip(line: &str, id: &str, user: &str, media: Option<End>) -> Vec<u8> {
    let tag = match line.starts_with("INVITE") {
        true => "",
        false => "callee",
    };
    udp((1, 5060), (2, 5060), &message(line, id, user, tag, media))
}

/// RTP of PCMU.
pub(crate) fn rtp(from: End, to: End, ssrc: u32, sequence: u16) -> Vec<u8> {
    rtp_of(from, to, ssrc, sequence, 0, &[0x55; 160])
}

/// RTP of any payload.
pub(crate) fn rtp_of(
    from: End,
    to: End,
    ssrc: u32,
    sequence: u16,
    payload_type: u8,
    media: &[u8],
) -> Vec<u8> {
    let timestamp = u32::from(sequence) * 160 + 7;
    rtp_at(from, to, ssrc, (sequence, timestamp), payload_type, media)
}

/// The same, of any timestamp.
pub(crate) fn rtp_at(
    from: End,
    to: End,
    ssrc: u32,
    (sequence, timestamp): (u16, u32),
    payload_type: u8,
    media: &[u8],
) -> Vec<u8> {
    let mut payload = vec![0x80, payload_type];
    payload.extend_from_slice(&sequence.to_be_bytes());
    payload.extend_from_slice(&timestamp.to_be_bytes());
    payload.extend_from_slice(&ssrc.to_be_bytes());
    payload.extend_from_slice(media);
    udp(from, to, &payload)
}

/// A report of a sender of RTP.
pub(crate) fn report(from: End, to: End, ssrc: u32) -> Vec<u8> {
    let mut payload = vec![0x80, 200, 0, 6];
    payload.extend_from_slice(&ssrc.to_be_bytes());
    payload.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5]);
    udp(from, to, &payload)
}
