//! Calls whose SIP runs over TCP, in WebSockets and over SCTP, with media over UDP; and which packets are whose.
//!
//! Several calls share each connection. Messages that come close to each other are sent at once, then cut into segments at random places; segments come twice and out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use lc_tests::capture::{self, Packet};
use lc_tests::ipv4::{self, End};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Protocol number of SCTP.
const SCTP: u8 = 132;
const MILLISECOND: i64 = 1_000_000;
const START: i64 = 1_767_225_600_000_000_000;
/// Messages of one direction that come closer than this are sent at once.
const TOGETHER: i64 = 4 * MILLISECOND;

/// What carries the SIP of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// Messages one behind the other.
    Bare,
    /// Messages in WebSocket frames.
    WebSocket,
    /// Messages in DATA chunks.
    Sctp,
}

/// What to generate.
pub struct Wanted {
    pub seed: u64,
    pub calls: usize,
    /// By turns.
    pub carriers: &'static [Carrier],
    /// Whether segments come twice and out of order.
    pub is_rough: bool,
    /// Packets of media of a call, each way.
    pub media: usize,
}

/// A capture.
pub struct Calls {
    pub path: PathBuf,
    pub packets: Vec<Packet>,
    /// The calls of which each packet carries a part.
    pub calls_of: Vec<BTreeSet<String>>,
    /// The caller of each call.
    pub callers: BTreeMap<String, String>,
    /// Messages by call, and by method or status.
    pub messages: BTreeMap<String, BTreeMap<String, usize>>,
}

struct Message {
    time_ns: i64,
    call: String,
    text: Vec<u8>,
}

/// A packet before its time is known for good.
struct Sent {
    time_ns: i64,
    frame: Vec<u8>,
    calls: BTreeSet<String>,
}

struct Ends([End; 2]);

impl Ends {
    fn new(addresses: [[u8; 4]; 2], ports: [u16; 2]) -> Self {
        let [one, other] = addresses.map(Ipv4Addr::from);
        Self([(one, ports[0]), (other, ports[1])])
    }

    /// Who sends in a direction, and who receives.
    fn of(&self, way: usize) -> (End, End) {
        (self.0[way], self.0[1 - way])
    }
}

struct Generator {
    random: StdRng,
    sent: Vec<Sent>,
    callers: BTreeMap<String, String>,
    messages: BTreeMap<String, BTreeMap<String, usize>>,
}

/// Writes the capture into `folder`.
pub fn generate(folder: &Path, wanted: &Wanted) -> Calls {
    let mut generator = Generator {
        random: StdRng::seed_from_u64(wanted.seed),
        sent: Vec::new(),
        callers: BTreeMap::new(),
        messages: BTreeMap::new(),
    };
    let connections = wanted.calls.div_ceil(8).max(wanted.carriers.len());
    for number in 0..connections {
        let calls = (number..wanted.calls).step_by(connections);
        let carrier = wanted.carriers[number % wanted.carriers.len()];
        generator.connection(number, carrier, calls, wanted);
        generator.web(number);
    }
    let Generator {
        mut sent,
        callers,
        messages,
        ..
    } = generator;
    sent.sort_by_key(|packet| packet.time_ns);
    let mut last = 0;
    for packet in &mut sent {
        packet.time_ns = packet.time_ns.max(last + 1);
        last = packet.time_ns;
    }
    acknowledge(&mut sent);
    let packets: Vec<Packet> = sent
        .iter()
        .map(|sent| Packet::whole(1, sent.time_ns, sent.frame.clone()))
        .collect();
    let path = folder.join("tcp-calls.pcap");
    capture::write(&path, &packets).unwrap();
    Calls {
        path,
        packets,
        calls_of: sent.into_iter().map(|sent| sent.calls).collect(),
        callers,
        messages,
    }
}

/// Has each segment acknowledge what its sender has received by then.
fn acknowledge(sent: &mut [Sent]) {
    let mut received: BTreeMap<Vec<u8>, u32> = BTreeMap::new();
    for packet in sent.iter_mut().filter(|packet| packet.frame[23] == 6) {
        let frame = &mut packet.frame;
        let (source, destination) = (
            [&frame[26..30], &frame[34..36]].concat(),
            [&frame[30..34], &frame[36..38]].concat(),
        );
        let sequence = u32::from_be_bytes(frame[38..42].try_into().unwrap());
        let is_syn = frame[47] & 2 != 0;
        let end = sequence + frame.len() as u32 - 54 + u32::from(is_syn);
        let known = received
            .entry([destination.clone(), source.clone()].concat())
            .or_default();
        *known = end.max(*known);
        let begin = if frame[34..36] == 5060_u16.to_be_bytes() {
            1_001
        } else {
            5_001
        };
        let theirs = received.get(&[source, destination].concat());
        if frame[47] & 16 != 0 {
            frame[42..46].copy_from_slice(&theirs.copied().unwrap_or(begin).to_be_bytes());
        }
    }
}

impl Generator {
    /// A connection with its calls.
    fn connection(
        &mut self,
        number: usize,
        carrier: Carrier,
        calls: impl Iterator<Item = usize>,
        wanted: &Wanted,
    ) {
        let ends = Ends::new(
            [[10, 1, 0, number as u8], [10, 2, 0, 1]],
            [40_000 + number as u16, 5060],
        );
        let mut ways: [Vec<Message>; 2] = Default::default();
        let mut start = i64::MAX;
        for (place, call) in calls.enumerate() {
            let time_ns = START + place as i64 * 40 * MILLISECOND + number as i64 * 7 * MILLISECOND;
            let time_ns = time_ns + self.random.random_range(0..50) * MILLISECOND;
            start = start.min(time_ns);
            self.call(call, time_ns, &mut ways, wanted);
        }
        let start = start - 20 * MILLISECOND;
        let has_start = number % 5 != 4 || carrier == Carrier::WebSocket;
        if has_start && carrier != Carrier::Sctp {
            self.push(start, tcp(&ends, 0, [1_000, 0], 0x02, &[]), &[]);
            self.push(start + 10, tcp(&ends, 1, [5_000, 1_001], 0x12, &[]), &[]);
            self.push(start + 20, tcp(&ends, 0, [1_001, 5_001], 0x10, &[]), &[]);
        }
        for (way, mut messages) in ways.into_iter().enumerate() {
            messages.sort_by_key(|message| message.time_ns);
            match carrier {
                Carrier::Sctp => self.associate(&ends, way, &messages),
                _ => {
                    let is_rough = wanted.is_rough && has_start;
                    self.stream(&ends, way, start, carrier, &messages, is_rough);
                }
            }
        }
    }

    /// The messages of a call, by direction, and its media.
    fn call(&mut self, number: usize, time_ns: i64, ways: &mut [Vec<Message>; 2], wanted: &Wanted) {
        let id = format!("call-{number}@tcp.example");
        let caller = format!("user{number:04}");
        self.callers.insert(id.clone(), caller.clone());
        let outcome = number % 4;
        let host = [
            format!("10.3.{}.1", number % 200),
            format!("10.4.{}.1", number % 200),
        ];
        let port = 20_000 + 4 * number as u16;
        let sdp = |end: usize| {
            let host = &host[end];
            let padding = "a=note:padding\r\n".repeat(number % 120);
            format!(
                "v=0\r\no=- 1 1 IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n{padding}"
            )
        };
        let mut say = |at: i64, way: usize, line: &str, cseq: &str, body: String| {
            let tag = if line.starts_with("SIP/2.0 100") || line.starts_with("INVITE") {
                String::new()
            } else {
                format!(";tag=callee{number}")
            };
            let text = format!(
                "{line}\r\nVia: SIP/2.0/TCP 10.1.0.1;branch=z9hG4bK{number}{cseq}\r\nFrom: <sip:{caller}@a.example>;tag=caller{number}\r\n\
                 To: <sip:bob@b.example>{tag}\r\nCall-ID: {id}\r\nCSeq: {cseq}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let key = line
                .strip_prefix("SIP/2.0 ")
                .unwrap_or(line)
                .split(' ')
                .next();
            let messages = self.messages.entry(id.clone()).or_default();
            *messages.entry(key.unwrap().to_owned()).or_default() += 1;
            let time_ns = time_ns + at * MILLISECOND;
            ways[way].push(Message {
                time_ns,
                call: id.clone(),
                text: text.into_bytes(),
            });
        };
        let invite = "INVITE sip:bob@b.example SIP/2.0";
        say(0, 0, invite, "1 INVITE", sdp(0));
        say(10, 1, "SIP/2.0 100 Trying", "1 INVITE", String::new());
        say(30, 1, "SIP/2.0 180 Ringing", "1 INVITE", String::new());
        if outcome == 3 {
            say(90, 1, "SIP/2.0 486 Busy Here", "1 INVITE", String::new());
            say(
                110,
                0,
                "ACK sip:bob@b.example SIP/2.0",
                "1 ACK",
                String::new(),
            );
            return;
        }
        say(100, 1, "SIP/2.0 200 OK", "1 INVITE", sdp(1));
        say(
            120,
            0,
            "ACK sip:bob@b.example SIP/2.0",
            "1 ACK",
            String::new(),
        );
        let end = 150 + 20 * wanted.media as i64;
        let (way, back) = if outcome == 1 { (1, 0) } else { (0, 1) };
        say(
            end,
            way,
            "BYE sip:bob@b.example SIP/2.0",
            "2 BYE",
            String::new(),
        );
        say(end + 20, back, "SIP/2.0 200 OK", "2 BYE", String::new());
        for packet in 0..wanted.media {
            let at = time_ns + (130 + 20 * packet as i64) * MILLISECOND;
            let hosts = [
                [10, 3, (number % 200) as u8, 1],
                [10, 4, (number % 200) as u8, 1],
            ];
            for way in 0..2 {
                let ends = Ends::new([hosts[way], hosts[1 - way]], [port; 2]);
                let mut rtp = vec![0x80, 0];
                rtp.extend((packet as u16).to_be_bytes());
                rtp.extend((packet as u32 * 160).to_be_bytes());
                rtp.extend((number as u32 * 2 + way as u32 + 7).to_be_bytes());
                rtp.extend([0x55; 40]);
                self.push(at + way as i64 * 1_000, udp(&ends, &rtp), &[&id]);
            }
        }
    }

    /// One direction of a TCP connection.
    fn stream(
        &mut self,
        ends: &Ends,
        way: usize,
        start: i64,
        carrier: Carrier,
        messages: &[Message],
        is_rough: bool,
    ) {
        let mut sequence = [1_001, 5_001][way];
        if carrier == Carrier::WebSocket {
            let head: &[u8] = match way {
                0 => b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
                _ => b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
            };
            let at = start + (way as i64 + 1) * MILLISECOND;
            self.push(at, tcp(ends, way, [sequence, 1], 0x18, head), &[]);
            sequence += head.len() as u32;
        }
        let mut messages = messages.iter().peekable();
        while let Some(first) = messages.next() {
            let mut bytes = Vec::new();
            let mut spans: Vec<(Range<usize>, &str)> = Vec::new();
            let mut add = |message: &'_ Message, random: &mut StdRng| {
                let begin = bytes.len();
                match carrier {
                    Carrier::WebSocket => frame(way == 0, &message.text, random, &mut bytes),
                    _ => bytes.extend(&message.text),
                }
                (begin..bytes.len(), message.time_ns)
            };
            let (span, mut time_ns) = add(first, &mut self.random);
            spans.push((span, &first.call));
            while let Some(next) = messages.next_if(|next| next.time_ns < first.time_ns + TOGETHER)
            {
                let (span, time) = add(next, &mut self.random);
                spans.push((span, &next.call));
                time_ns = time;
            }
            if carrier == Carrier::Bare && self.random.random_bool(0.2) {
                bytes.extend(b"\r\n\r\n");
            }
            let mut segments = Vec::new();
            let mut at = 0;
            let is_cut = self.random.random_bool(0.7);
            while at < bytes.len() {
                let len = match is_cut {
                    true => self.random.random_range(1..1_448),
                    false => bytes.len(),
                };
                let end = (at + len).min(bytes.len());
                let calls: Vec<&str> = spans
                    .iter()
                    .filter(|(span, _)| span.start < end && at < span.end)
                    .map(|(_, call)| *call)
                    .collect();
                let frame = tcp(ends, way, [sequence + at as u32, 1], 0x18, &bytes[at..end]);
                segments.push((frame, calls));
                at = end;
            }
            if is_rough {
                for place in 1..segments.len() {
                    if self.random.random_bool(0.2) {
                        segments.swap(place - 1, place);
                    }
                }
                if self.random.random_bool(0.2) {
                    let place = self.random.random_range(0..segments.len());
                    segments.push(segments[place].clone());
                }
            }
            for (place, (frame, calls)) in segments.into_iter().enumerate() {
                self.push(time_ns + place as i64 * 1_000, frame, &calls);
            }
            sequence += bytes.len() as u32;
        }
    }

    /// One direction of an SCTP association.
    fn associate(&mut self, ends: &Ends, way: usize, messages: &[Message]) {
        let mut messages = messages.iter().peekable();
        while let Some(first) = messages.next() {
            let mut together = vec![first];
            while let Some(next) = messages.next_if(|next| next.time_ns < first.time_ns + TOGETHER)
            {
                together.push(next);
            }
            let mut chunks = vec![3, 0, 0, 16, 0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 0];
            for message in &together {
                chunks.extend([0, 3]);
                chunks.extend((message.text.len() as u16 + 16).to_be_bytes());
                chunks.extend([0; 12]);
                chunks.extend(&message.text);
                chunks.resize(chunks.len().next_multiple_of(4), 0);
            }
            let calls: Vec<&str> = together.iter().map(|message| &*message.call).collect();
            self.push(first.time_ns, sctp(ends, way, &chunks), &calls);
        }
    }

    /// A connection that is not SIP.
    fn web(&mut self, number: usize) {
        let ends = Ends::new(
            [[10, 8, 0, number as u8], [10, 9, 0, 1]],
            [30_000 + number as u16, 5060],
        );
        let time_ns = START + number as i64 * MILLISECOND;
        let request = b"GET /INVITE HTTP/1.1\r\nHost: sip.example\r\n\r\n";
        let response = [
            &b"HTTP/1.1 200 OK\r\nContent-Length: 14000\r\n\r\n"[..],
            &[b'x'; 14_000],
        ]
        .concat();
        self.push(time_ns, tcp(&ends, 0, [1, 1], 0x18, request), &[]);
        for (place, part) in response.chunks(1_400).enumerate() {
            let at = 1 + place as u32 * 1_400;
            self.push(time_ns + 10_000, tcp(&ends, 1, [at, 44], 0x18, part), &[]);
        }
    }

    fn push(&mut self, time_ns: i64, frame: Vec<u8>, calls: &[&str]) {
        let calls = calls.iter().map(|call| (*call).to_owned()).collect();
        self.sent.push(Sent {
            time_ns,
            frame,
            calls,
        });
    }
}

/// A WebSocket frame.
fn frame(is_masked: bool, message: &[u8], random: &mut StdRng, bytes: &mut Vec<u8>) {
    let mask = if is_masked { 0x80 } else { 0 };
    bytes.push(0x81);
    match message.len() {
        len @ 0..126 => bytes.push(mask | len as u8),
        len => {
            bytes.push(mask | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
    }
    let key: [u8; 4] = if is_masked { random.random() } else { [0; 4] };
    if is_masked {
        bytes.extend(key);
    }
    bytes.extend(
        message
            .iter()
            .zip(key.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
}

fn tcp(ends: &Ends, way: usize, [seq, ack]: [u32; 2], flags: u8, payload: &[u8]) -> Vec<u8> {
    let (from, to) = ends.of(way);
    ipv4::ethernet(&ipv4::tcp(from, to, (seq, ack), flags, payload))
}

fn sctp(ends: &Ends, way: usize, chunks: &[u8]) -> Vec<u8> {
    let (from, to) = ends.of(way);
    let ports = [from.1.to_be_bytes(), to.1.to_be_bytes()].concat();
    let packet = [&ports[..], &[0; 8], chunks].concat();
    ipv4::ethernet(&ipv4::packet(SCTP, from.0, to.0, &packet))
}

fn udp(ends: &Ends, payload: &[u8]) -> Vec<u8> {
    let (from, to) = ends.of(0);
    ipv4::ethernet(&ipv4::udp(from, to, payload))
}
