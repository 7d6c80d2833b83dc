//! Captures of calls, written packet by packet: what belongs to which call is known because it was made so.
//!
//! A call passes a proxy and a media relay. Both of its legs have one Call-ID; their signalling and media are flows of their own, which different workers see:
//!
//! ```text
//!   caller --SIP--> proxy --SIP--> callee        caller <--RTP, RTCP--> relay <--RTP, RTCP--> callee
//! ```
//!
//! Addresses: callers 10.1.0.0/16, callees 10.2.0.0/16, three proxies in 198.18.0.0/24, two relays in 198.19.0.0/24. Media that move do so to 10.3.0.0/16, 10.4.0.0/16 and
//! 198.19.1.0/24, of which no message tells.

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use crate::capture::{self, Packet};
use crate::ipv4::{self, End};

const MILLISECOND: u64 = 1_000_000;
/// Capture time of the first packet.
const START_NS: u64 = 1_767_225_600_000_000_000;
/// From the INVITE to the first packet of media.
const ANSWERED_MS: u64 = 320;
/// What the clock of G.711 goes on by in a millisecond.
const CLOCK_PER_MS: u64 = 8;
/// LINKTYPE_ETHERNET.
const ETHERNET: u32 = 1;

/// How many calls there are, and how long they last.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Number of calls, 16,000 at most.
    pub calls: usize,
    /// Time between the starts of two calls.
    pub apart_ms: u64,
    /// Packets of RTP in each of the four streams of a call.
    pub media: u64,
    /// Time between two of them.
    pub every_ms: u64,
}

/// What happens in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// Ringing, answer, media, BYE.
    Answered,
    /// The callee is busy.
    Refused,
    /// No call, but a MESSAGE and its answer.
    Message,
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// Call-ID of both legs.
    pub id: String,
    /// User of the caller.
    pub caller: String,
    /// User of the callee.
    pub callee: String,
    /// Domain of both.
    pub domain: String,
    /// Who the caller is to the caller's provider.
    pub imsi: Option<String>,
    /// Payload type and name of the codec.
    pub codec: (u8, &'static str),
    /// Addresses of the caller and the callee.
    pub hosts: [Ipv4Addr; 2],
    /// Whether the caller's name stands only in the second leg.
    pub is_anonymous: bool,
    /// What happens.
    pub course: Course,
    /// Whether the second half of its media come from and go to addresses that nobody announced.
    pub moves: bool,
    /// The source (SSRC) of all its media, if it isn't one of each stream's own.
    pub source: Option<u32>,
}

/// A capture of calls.
#[derive(Debug)]
pub struct Calls {
    /// The file.
    pub path: PathBuf,
    /// All calls.
    pub calls: Vec<Call>,
    /// All packets, in the order of their times, no two at the same time.
    pub packets: Vec<Packet>,
    /// The number of the call that each packet belongs to.
    pub owners: Vec<usize>,
}

/// A datagram to be captured.
struct Datagram {
    time_ns: u64,
    call: usize,
    from: End,
    to: End,
    payload: Vec<u8>,
}

impl Calls {
    /// Writes a capture into `folder`. All calls are alike but for what `adapt` changes.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn make(folder: &Path, plan: Plan, adapt: impl Fn(usize, &mut Call)) -> io::Result<Self> {
        let path = folder.join("calls.pcap");
        let calls: Vec<Call> = (0..plan.calls)
            .map(|number| {
                let mut call = Call::usual(number);
                adapt(number, &mut call);
                call
            })
            .collect();
        let mut datagrams = Vec::new();
        for (number, call) in calls.iter().enumerate() {
            call.play(number, plan, &mut datagrams);
        }
        datagrams.sort_by_key(|datagram| datagram.time_ns);
        let mut latest_ns = 0;
        for datagram in &mut datagrams {
            datagram.time_ns = datagram.time_ns.max(latest_ns + 1);
            latest_ns = datagram.time_ns;
        }
        let owners = datagrams.iter().map(|datagram| datagram.call).collect();
        let packets: Vec<Packet> = datagrams.into_iter().map(Datagram::into_packet).collect();
        capture::write(&path, &packets)?;
        Ok(Self {
            path,
            calls,
            packets,
            owners,
        })
    }

    /// The packets of some calls.
    pub fn packets_of(&self, is_wanted: impl Fn(usize) -> bool) -> Vec<Packet> {
        let all = self.packets.iter().zip(&self.owners);
        let wanted = all.filter(|(_, owner)| is_wanted(**owner));
        wanted.map(|(packet, _)| packet.clone()).collect()
    }
}

impl Call {
    fn usual(number: usize) -> Self {
        let [.., high, low] = number.to_be_bytes();
        Self {
            id: format!(
                "{:016x}@caller{number}.example",
                0x9e37_79b9_7f4a_7c15u64.wrapping_mul(number as u64 + 1)
            ),
            caller: format!("+49301{number:07}"),
            callee: format!("+49892{number:07}"),
            domain: format!("branch{number}.example"),
            imsi: None,
            codec: (0, "PCMU"),
            hosts: [
                Ipv4Addr::new(10, 1, high, low),
                Ipv4Addr::new(10, 2, high, low),
            ],
            is_anonymous: false,
            course: Course::Answered,
            moves: false,
            source: None,
        }
    }

    /// All that is sent.
    fn play(&self, number: usize, plan: Plan, out: &mut Vec<Datagram>) {
        let start_ns = START_NS + number as u64 * plan.apart_ms * MILLISECOND;
        let mut send = |at_ms: u64, from: End, to: End, payload: Vec<u8>| {
            out.push(Datagram {
                time_ns: start_ns + at_ms * MILLISECOND,
                call: number,
                from,
                to,
                payload,
            });
        };
        let proxy = Ipv4Addr::new(198, 18, 0, 1 + (number % 3) as u8);
        let relay = Ipv4Addr::new(198, 19, 0, 1 + (number % 2) as u8);
        // Signalling: each leg with its ends; and where the caller, the callee and both sides of the relay receive media.
        let legs = [(self.hosts[0], proxy), (proxy, self.hosts[1])]
            .map(|(from, to)| [(from, 5060), (to, 5060)]);
        let port = 16_384 + 2 * (number % 4_000) as u16;
        let ends: [End; 4] = [
            (self.hosts[0], port),
            (self.hosts[1], port),
            (relay, 2 * port - 16_384),
            (relay, 2 * port - 16_382),
        ];
        let mut request = |at_ms, method: &str, sequence, offers: [Option<End>; 2]| {
            for (leg, [from, to]) in legs.into_iter().enumerate() {
                let text = self.request(leg, method, sequence, from, offers[leg]);
                send(at_ms + leg as u64, from, to, text);
            }
        };
        let none = [None; 2];
        let end_ms = ANSWERED_MS + plan.media * plan.every_ms;
        match self.course {
            Course::Answered => {
                request(0, "INVITE", 1, [Some(ends[0]), Some(ends[3])]);
                request(310, "ACK", 1, none);
                request(end_ms, "BYE", 2, none);
            }
            Course::Refused => {
                request(0, "INVITE", 1, [Some(ends[0]), Some(ends[3])]);
                request(310, "ACK", 1, none);
            }
            Course::Message => request(0, "MESSAGE", 1, none),
        }
        let mut respond =
            |at_ms, status: &str, (method, sequence): (&str, u32), answers: [Option<End>; 2]| {
                for (leg, [from, to]) in legs.into_iter().enumerate().rev() {
                    let text = self.response(leg, status, (method, sequence), from, answers[leg]);
                    send(at_ms + 1 - leg as u64, to, from, text);
                }
            };
        match self.course {
            Course::Answered => {
                respond(20, "100 Trying", ("INVITE", 1), none);
                respond(40, "180 Ringing", ("INVITE", 1), none);
                respond(300, "200 OK", ("INVITE", 1), [Some(ends[2]), Some(ends[1])]);
                respond(end_ms + 20, "200 OK", ("BYE", 2), none);
            }
            Course::Refused => respond(300, "486 Busy Here", ("INVITE", 1), none),
            Course::Message => respond(20, "200 OK", ("MESSAGE", 1), none),
        }
        if self.course == Course::Answered {
            let streams = [(0, 2), (2, 0), (3, 1), (1, 3)];
            let moved = ends.map(|(host, port)| match host.octets() {
                [10, net, high, low] => (Ipv4Addr::new(10, net + 2, high, low), port),
                [.., low] => (Ipv4Addr::new(198, 19, 1, low), port),
            });
            let control = |(address, port): End| (address, port + 1);
            for (stream, (from, to)) in streams.into_iter().enumerate() {
                let own = 0x5000_0000 + (number * 4 + stream) as u32;
                let source = self.source.unwrap_or(own);
                for packet in 0..plan.media {
                    let at_ms = ANSWERED_MS + packet * plan.every_ms;
                    let payload = self.rtp(source, packet, plan.every_ms);
                    let ends = match self.moves && packet >= plan.media / 2 {
                        true => &moved,
                        false => &ends,
                    };
                    send(at_ms + stream as u64, ends[from], ends[to], payload);
                }
                let at_ms = plan.media / 2 * plan.every_ms + 5;
                send(
                    ANSWERED_MS + at_ms,
                    control(ends[from]),
                    control(ends[to]),
                    report(source),
                );
                if self.moves {
                    let at_ms = at_ms + plan.every_ms;
                    send(
                        ANSWERED_MS + at_ms,
                        control(moved[from]),
                        control(moved[to]),
                        sender_report(source, at_ms * CLOCK_PER_MS),
                    );
                }
            }
        }
    }

    fn request(
        &self,
        leg: usize,
        method: &str,
        sequence: u32,
        (host, port): End,
        offer: Option<End>,
    ) -> Vec<u8> {
        let to_tag = match method {
            "ACK" | "BYE" => format!(";tag=b{leg}"),
            _ => String::new(),
        };
        let start = format!(
            "{method} sip:{}@{} SIP/2.0\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{leg}{sequence}{method}\r\nMax-Forwards: {}\r\n",
            self.callee,
            self.domain,
            70 - leg
        );
        let mut identity = String::new();
        if method == "INVITE" || method == "MESSAGE" {
            if let Some(imsi) = self.imsi.as_ref().filter(|_| leg == 0) {
                identity = format!(
                    "Authorization: Digest username=\"{imsi}@ims.mnc001.mcc262.3gppnetwork.org\", realm=\"{}\"\r\n",
                    self.domain
                );
            }
            if self.is_anonymous && leg == 1 {
                identity += &format!(
                    "P-Asserted-Identity: <sip:{}@{}>\r\n",
                    self.caller, self.domain
                );
            }
        }
        self.message(&start, leg, &to_tag, (method, sequence), &identity, offer)
    }

    fn response(
        &self,
        leg: usize,
        status: &str,
        sequence: (&str, u32),
        (host, port): End,
        answer: Option<End>,
    ) -> Vec<u8> {
        let start = format!(
            "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{leg}{}{}\r\n",
            sequence.1, sequence.0
        );
        let to_tag = match status {
            "100 Trying" => String::new(),
            _ => format!(";tag=b{leg}"),
        };
        self.message(&start, leg, &to_tag, sequence, "", answer)
    }

    fn message(
        &self,
        start: &str,
        leg: usize,
        to_tag: &str,
        (method, sequence): (&str, u32),
        identity: &str,
        media: Option<End>,
    ) -> Vec<u8> {
        let from = match self.is_anonymous {
            true => "\"Anonymous\" <sip:anonymous@anonymous.invalid>".to_owned(),
            false => format!("<sip:{}@{}>", self.caller, self.domain),
        };
        let (kind, body) = match media {
            None => ("", String::new()),
            Some((host, port)) => (
                "Content-Type: application/sdp\r\n",
                format!(
                    "v=0\r\no=- 1 1 IN IP4 {host}\r\ns=-\r\nc=IN IP4 {host}\r\nt=0 0\r\nm=audio {port} RTP/AVP {}\r\na=rtpmap:{} {}/8000\r\n",
                    self.codec.0, self.codec.0, self.codec.1
                ),
            ),
        };
        format!(
            "{start}From: {from};tag=a{leg}\r\nTo: <sip:{}@{}>{to_tag}\r\nCall-ID: {}\r\nCSeq: {sequence} {method}\r\n\
             {identity}{kind}Content-Length: {}\r\n\r\n{body}",
            self.callee,
            self.domain,
            self.id,
            body.len()
        )
        .into_bytes()
    }

    /// G.711, cut to what tells packets apart.
    fn rtp(&self, source: u32, number: u64, every_ms: u64) -> Vec<u8> {
        let mut packet = vec![0x80, self.codec.0];
        packet.extend((number as u16).to_be_bytes());
        packet.extend(((number * every_ms * CLOCK_PER_MS) as u32).to_be_bytes());
        packet.extend(source.to_be_bytes());
        packet.extend([0xd5; 20]);
        packet
    }
}

/// A receiver report without blocks (RFC 3550 section 6.4.2), and the canonical name.
fn report(source: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend(source.to_be_bytes());
    packet.extend([0x81, 202, 0, 3]);
    packet.extend(source.to_be_bytes());
    packet.extend([1, 4, b'c', b'a', b'l', b'l', 0, 0]);
    packet
}

/// A report of a sender without blocks (RFC 3550 section 6.4.1), whose clock shows `clock`.
fn sender_report(source: u32, clock: u64) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, 6];
    packet.extend(source.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend((clock as u32).to_be_bytes());
    packet.extend([0, 0, 0, 9, 0, 0, 1, 0]);
    packet
}

impl Datagram {
    /// In a frame of Ethernet.
    fn into_packet(self) -> Packet {
        let frame = ipv4::ethernet(&ipv4::udp(self.from, self.to, &self.payload));
        Packet::whole(ETHERNET, self.time_ns as i64, frame)
    }
}
