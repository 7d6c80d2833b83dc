//! Phone calls: SIP over UDP (RFC 3261) with SDP (RFC 8866), then G.711 audio both ways over RTP
//! (RFC 3550, RFC 3551) in packets of 20 ms, and an RTCP sender report of each side every 2.5 s.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::dialogue::Conversation;
use super::frame::{self, Ports};
use super::path::{Path, Side};
use super::rng::Rng;

const MILLISECOND_NS: u64 = 1_000_000;
/// One RTP packet holds this much audio.
const PACKET_NS: u64 = 20 * MILLISECOND_NS;
/// Samples, and with G.711 bytes, of one packet: 8 kHz for 20 ms.
const PACKET_SAMPLES: u32 = 160;
/// When the caller hears the answer and media begin.
const ANSWER_NS: u64 = 500 * MILLISECOND_NS;
/// RTP packets between two sender reports.
const REPORT_EVERY: u64 = 125;
/// Seconds between the epochs of NTP (1900) and Unix (1970).
const NTP_EPOCH_SECONDS: u64 = 2_208_988_800;

/// One call from invitation to its end.
pub(super) struct Call {
    path: Path,
    media: Ports,
    parties: Parties,
    streams: [Stream; 2],
    /// Unix time of the call's start, for the reports.
    start_ns: u64,
    /// Media packets a side sends.
    ticks: u64,
    next_tick: u64,
    queue: VecDeque<(u64, Step)>,
    rng: Rng,
}

/// What a call sends next.
pub(super) enum Step {
    /// A SIP message of a side.
    Sip(Side, String),
    /// The media packet of a side with this number.
    Rtp(Side, u64),
    /// The report of a side after so many media packets.
    Report(Side, u64),
}

/// One direction's RTP state at the call's start.
struct Stream {
    source: u32,
    sequence: u16,
    timestamp: u32,
    /// RTP payload type: 0 is G.711 mu-law, 8 is G.711 A-law.
    payload_type: u8,
}

/// The names a call's SIP messages repeat.
struct Parties {
    caller: String,
    callee: String,
    hosts: [IpAddr; 2],
    call_id: String,
    branch: String,
    tags: [String; 2],
}

impl Call {
    /// A call of two to eight seconds that starts at `start_ns` since the Unix epoch.
    pub(super) fn new(path: Path, start_ns: u64, rng: Rng) -> Self {
        Self::of(None, path, start_ns, rng)
    }

    /// The same, of this caller.
    pub(super) fn of(caller: Option<String>, path: Path, start_ns: u64, mut rng: Rng) -> Self {
        let media = Ports {
            client: 2 * rng.range(8_192, 16_384) as u16,
            server: 2 * rng.range(8_192, 16_384) as u16,
        };
        let payload_type = *rng.choose(&[0, 8]);
        let mut stream = || Stream {
            source: rng.next() as u32,
            sequence: rng.next() as u16,
            timestamp: rng.next() as u32,
            payload_type,
        };
        let streams = [stream(), stream()];
        let drawn = format!("+49301{:07}", rng.range(0, 10_000_000));
        let parties = Parties {
            caller: caller.unwrap_or(drawn),
            callee: format!("+49891{:07}", rng.range(0, 10_000_000)),
            hosts: [path.host(Side::Client).ip, path.host(Side::Server).ip],
            call_id: rng.word(24),
            branch: format!("z9hG4bK{}", rng.word(12)),
            tags: [rng.word(8), rng.word(8)],
        };
        let offer = parties.description(Side::Client, media.client, payload_type);
        let answer = parties.description(Side::Server, media.server, payload_type);
        let step =
            |milliseconds: u64, from, text| (milliseconds * MILLISECOND_NS, Step::Sip(from, text));
        let queue = VecDeque::from([
            step(0, Side::Client, parties.request("INVITE", 1, &offer)),
            step(
                10,
                Side::Server,
                parties.response("100 Trying", "INVITE", 1, ""),
            ),
            step(
                100,
                Side::Server,
                parties.response("180 Ringing", "INVITE", 1, ""),
            ),
            step(
                480,
                Side::Server,
                parties.response("200 OK", "INVITE", 1, &answer),
            ),
            step(490, Side::Client, parties.request("ACK", 1, "")),
        ]);
        Self {
            path,
            media,
            parties,
            streams,
            start_ns,
            ticks: rng.range(100, 401),
            next_tick: 0,
            queue,
            rng,
        }
    }

    /// Queues the next 20 ms of media, or the end of the call behind the last ones.
    fn refill(&mut self) {
        let tick = self.next_tick;
        let time = ANSWER_NS + tick * PACKET_NS;
        self.next_tick += 1;
        if tick < self.ticks {
            self.queue.push_back((time, Step::Rtp(Side::Client, tick)));
            let later = time + 3 * MILLISECOND_NS;
            self.queue.push_back((later, Step::Rtp(Side::Server, tick)));
            if tick % REPORT_EVERY == REPORT_EVERY - 1 {
                let time = time + 5 * MILLISECOND_NS;
                let count = tick + 1;
                self.queue
                    .push_back((time, Step::Report(Side::Client, count)));
                let later = time + MILLISECOND_NS;
                self.queue
                    .push_back((later, Step::Report(Side::Server, count)));
            }
        } else if tick == self.ticks {
            let [bye, ok] = self.farewell();
            self.queue.push_back((time, bye));
            self.queue.push_back((time + 10 * MILLISECOND_NS, ok));
        }
    }

    /// The end of the call.
    pub(super) fn farewell(&self) -> [Step; 2] {
        let bye = self.parties.request("BYE", 2, "");
        let ok = self.parties.response("200 OK", "BYE", 2, "");
        [Step::Sip(Side::Client, bye), Step::Sip(Side::Server, ok)]
    }

    /// Puts what is sent at `time` nanoseconds since the call's start into `frame`.
    pub(super) fn write(&mut self, step: Step, time: u64, frame: &mut Vec<u8>) {
        let sip = Ports {
            client: 5060,
            server: 5060,
        };
        let control = Ports {
            client: self.media.client + 1,
            server: self.media.server + 1,
        };
        let (from, ports, payload) = match step {
            Step::Sip(from, text) => (from, sip, text.into_bytes()),
            Step::Rtp(from, tick) => (from, self.media, self.rtp(from, tick)),
            Step::Report(from, count) => (from, control, self.report(from, time, count)),
        };
        frame::udp(frame, &self.path, from, ports, &payload);
    }

    fn rtp(&mut self, from: Side, tick: u64) -> Vec<u8> {
        let stream = &self.streams[from as usize];
        // The marker bit opens the talkspurt (RFC 3551 section 4.1).
        let marker = if tick == 0 { 0x80 } else { 0 };
        let mut packet = vec![0x80, marker | stream.payload_type];
        packet.extend(stream.sequence.wrapping_add(tick as u16).to_be_bytes());
        packet.extend(stream.time_at(tick).to_be_bytes());
        packet.extend(stream.source.to_be_bytes());
        packet.extend(self.rng.bytes::<{ PACKET_SAMPLES as usize }>());
        packet
    }

    /// A sender report without reception blocks, and the canonical name (RFC 3550 section 6).
    fn report(&self, from: Side, time: u64, count: u64) -> Vec<u8> {
        let stream = &self.streams[from as usize];
        let unix_ns = self.start_ns + time;
        let seconds = unix_ns / 1_000_000_000 + NTP_EPOCH_SECONDS;
        let fraction = ((unix_ns % 1_000_000_000) << 32) / 1_000_000_000;
        let mut packet = vec![0x80, 200, 0, 6];
        packet.extend(stream.source.to_be_bytes());
        packet.extend((seconds as u32).to_be_bytes());
        packet.extend((fraction as u32).to_be_bytes());
        packet.extend(stream.time_at(count).to_be_bytes());
        packet.extend((count as u32).to_be_bytes());
        packet.extend((count as u32 * PACKET_SAMPLES).to_be_bytes());
        packet.extend([0x81, 202, 0, 3]);
        packet.extend(stream.source.to_be_bytes());
        packet.extend([1, 4]);
        packet.extend(b"call");
        packet.extend([0, 0]);
        packet
    }
}

impl Conversation for Call {
    fn next(&mut self, frame: &mut Vec<u8>) -> Option<u64> {
        if self.queue.is_empty() {
            self.refill();
        }
        let (time, step) = self.queue.pop_front()?;
        self.write(step, time, frame);
        Some(time)
    }
}

impl Stream {
    /// The RTP timestamp of packet `tick`.
    fn time_at(&self, tick: u64) -> u32 {
        self.timestamp
            .wrapping_add((tick as u32).wrapping_mul(PACKET_SAMPLES))
    }
}

impl Parties {
    /// A request of the caller.
    fn request(&self, method: &str, sequence: u32, body: &str) -> String {
        let target = format!("sip:{}@{}", self.callee, bracketed(self.hosts[1]));
        let to_tag = if method == "INVITE" {
            String::new()
        } else {
            format!(";tag={}", self.tags[1])
        };
        let start = format!("{method} {target} SIP/2.0\r\nMax-Forwards: 70\r\n");
        self.message(Side::Client, &start, &to_tag, (sequence, method), body)
    }

    /// The callee's response to a request.
    fn response(&self, status: &str, method: &str, sequence: u32, body: &str) -> String {
        let to_tag = if status.starts_with("100") {
            String::new()
        } else {
            format!(";tag={}", self.tags[1])
        };
        let start = format!("SIP/2.0 {status}\r\n");
        self.message(Side::Server, &start, &to_tag, (sequence, method), body)
    }

    fn message(
        &self,
        from: Side,
        start: &str,
        to_tag: &str,
        (sequence, method): (u32, &str),
        body: &str,
    ) -> String {
        let user = [&self.caller, &self.callee][from as usize];
        let host = bracketed(self.hosts[from as usize]);
        let caller_host = bracketed(self.hosts[0]);
        let callee_host = bracketed(self.hosts[1]);
        let kind = if body.is_empty() {
            ""
        } else {
            "Content-Type: application/sdp\r\n"
        };
        format!(
            "{start}Via: SIP/2.0/UDP {caller_host}:5060;branch={}{method}\r\n\
             From: <sip:{}@{caller_host}>;tag={}\r\n\
             To: <sip:{}@{callee_host}>{to_tag}\r\nCall-ID: {}@{caller_host}\r\n\
             CSeq: {sequence} {method}\r\nContact: <sip:{user}@{host}:5060>\r\n\
             User-Agent: lc-bench\r\n{kind}Content-Length: {}\r\n\r\n{body}",
            self.branch,
            self.caller,
            self.tags[0],
            self.callee,
            self.call_id,
            body.len(),
        )
    }

    /// The SDP of `side`, which receives audio on `port`.
    fn description(&self, side: Side, port: u16, payload_type: u8) -> String {
        let host = self.hosts[side as usize];
        let family = if host.is_ipv6() { "IP6" } else { "IP4" };
        let codec = if payload_type == 0 { "PCMU" } else { "PCMA" };
        format!(
            "v=0\r\no=- 1 1 IN {family} {host}\r\ns=call\r\nc=IN {family} {host}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP {payload_type}\r\na=rtpmap:{payload_type} {codec}/8000\r\n\
             a=ptime:20\r\na=sendrecv\r\n"
        )
    }
}

/// An address as it stands in a URI.
fn bracketed(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
