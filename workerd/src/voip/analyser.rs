//! From a packet to its call: SIP by its content, media by where they are expected, and what is told of each.
//!
//! What is told of SIP and media stands in two blocks of a packet's metadata, which the processor writes its files and follows its calls by: `sip` of every packet of a
//! call, with nothing but the Call-ID for media, and `rtp` of RTP.

use lc_proto::voip::{AccessNetwork, Rtp, Sip};
use shm_layout::packet::PacketHeader;

use super::call::Role;
use super::signal::{self, Signal, Tags};
use super::switchboard::{Judge, MediaFlow, Message as CallMessage, Ruling, Switchboard};
use crate::decode::{Addr, Decoded, Transport};
use crate::detect::{Context, Details, Detector, Flow, Protocol};
use crate::extract;
use crate::flows::{
    Direction, FlowTable, NoMemory, Probe, Seed, Signal as Progress, Timeouts, Zone,
};
use crate::matcher::{Fields, Kinds};
use crate::rtp::{self, Header};
use crate::sip::address::Address;
use crate::sip::header::Name;
use crate::sip::message::{Message, Start};
use crate::sip::method::Method;
use crate::sip::sdp::{Profile, Session};

/// What a flow remembers.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    detection: Flow,
    media: MediaFlow,
}

/// What was found, since the analyser was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// SIP messages.
    pub messages: u64,
    /// SIP messages without a Call-ID that can be taken.
    pub malformed: u64,
    /// Packets of media.
    pub media: u64,
}

/// A packet, decoded.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// Times and lengths.
    pub header: &'a PacketHeader,
    /// Its headers.
    pub decoded: &'a Decoded,
    /// Its bytes.
    pub frame: &'a [u8],
}

/// What part a packet has in its call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// SIP.
    Signalling,
    /// Anything else.
    Media,
}

/// Looks at the packets of one worker.
pub struct Analyser {
    /// The calls, and what becomes of their packets.
    pub board: Switchboard,
    flows: FlowTable<Memory>,
    detector: Detector,
    details: Details,
    tags: Tags,
    fields: Fields,
    expected: Vec<((Addr, u16), Role)>,
    counts: Counts,
}

impl Analyser {
    /// Bytes of the flow table that each flow takes.
    pub const BYTES_PER_FLOW: usize = FlowTable::<Memory>::BYTES_PER_FLOW;

    /// Remembers flows in `flow_bytes` of memory, and calls as `board` does.
    ///
    /// # Errors
    /// [`NoMemory`]
    pub fn new(flow_bytes: usize, board: Switchboard) -> Result<Self, NoMemory> {
        Ok(Self {
            board,
            flows: FlowTable::new(flow_bytes, Seed::random(), &Timeouts::default())?,
            detector: Detector::new(),
            details: Details::new(),
            tags: Tags::default(),
            fields: Fields::default(),
            expected: Vec::new(),
            counts: Counts::default(),
        })
    }

    /// What was found.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes note of a packet. None if it is not of any call.
    pub fn look(&mut self, judge: Judge<'_>, sight: &Sight<'_>) -> Option<(Ruling, Part)> {
        let payload = sight.decoded.payload_of(sight.frame);
        if sight.decoded.transport != Some(Transport::Udp) || sight.decoded.fragment {
            return None;
        }
        match sip(payload) {
            Some(message) => {
                let ruling = self.signalling(judge, sight, payload, &message)?;
                Some((ruling, Part::Signalling))
            }
            None => Some((self.media(judge, sight, payload)?, Part::Media)),
        }
    }

    fn signalling(
        &mut self,
        judge: Judge<'_>,
        sight: &Sight<'_>,
        payload: &[u8],
        message: &Message<'_>,
    ) -> Option<Ruling> {
        self.counts.messages += 1;
        let Ok(call_id) = message.call_id() else {
            self.counts.malformed += 1;
            return None;
        };
        self.fields.clear();
        extract::sip::extract(payload, Kinds::ALL, &mut self.fields);
        self.expected.clear();
        if let Some(session) = Session::of(message) {
            for endpoint in session.endpoints() {
                let role = match endpoint.profile {
                    Profile::Rtp | Profile::Srtp => Role::Media,
                    _ => Role::Other,
                };
                self.expected.push((endpoint.address, role));
                let control = endpoint.rtcp.map(|control| (control, Role::Control));
                self.expected.extend(control);
            }
        }
        let call_message = CallMessage {
            call_id,
            signal: self.signal(message),
            endpoints: &self.expected,
        };
        let bytes = sight.header.captured_len;
        let ruling = self
            .board
            .message(judge, &call_message, sight.decoded, &self.fields, bytes);
        Some(ruling)
    }

    fn signal(&self, message: &Message<'_>) -> Signal {
        let start = match message.start() {
            Start::Request { method, .. } => signal::Start::Request(meaning(method)),
            Start::Response { code, .. } => {
                let answered = Method::of_token(message.cseq_method());
                signal::Start::Response(code, meaning(answered))
            }
        };
        let (from, to) = (message.from(), message.to());
        let tags = [&from, &to].map(|address| address.as_ref().map_or(&[][..], Address::tag));
        Signal {
            start,
            dialog: self.tags.dialog(tags[0], tags[1]),
        }
    }

    /// How the flow of a packet is found, if it has one.
    #[inline]
    #[must_use]
    pub fn probe(&self, decoded: &Decoded) -> Option<Probe> {
        self.flows.probe(decoded, Zone::NONE)
    }

    /// Has fetched what will be looked at for packets with these `probes`: flows, their calls, and the sources of those.
    pub fn prepare(&mut self, probes: &[Probe]) {
        self.flows.prepare(probes);
        let calls = || probes.iter().filter_map(|probe| self.flows.guess(probe));
        let table = self.board.calls();
        calls().for_each(|memory| table.prefetch(memory.media.call()));
        calls().for_each(|memory| table.prefetch_streams(memory.media.call()));
    }

    fn media(&mut self, judge: Judge<'_>, sight: &Sight<'_>, payload: &[u8]) -> Option<Ruling> {
        let time_ns = sight.header.timestamp_ns;
        let probe = self.flows.probe(sight.decoded, Zone::NONE)?;
        let flow = self.flows.observe(&probe, time_ns, Progress::None);
        let forward = flow.direction == Direction::Request;
        let Memory { detection, media } = flow.memory;
        let header = Header::read(payload);
        let source = match (header, detection.verdict()) {
            // Most packets. Detection would learn nothing: what media may turn into does not look like RTP.
            (Some(header), Some(verdict)) if is_rtp(verdict.protocol) => Some((header.ssrc, true)),
            _ => {
                let context = Context::decoded(sight.decoded, sight.frame, forward, time_ns)?;
                let verdict = self.detector.observe(&context, detection);
                let protocol = verdict.map(|verdict| verdict.protocol);
                let ssrc = match protocol {
                    Some(protocol) if is_rtp(protocol) || protocol == Protocol::Rtcp => {
                        source(payload)
                    }
                    None if !detection.given_up() => source(payload),
                    _ => None,
                };
                ssrc.map(|ssrc| (ssrc, verdict.is_some()))
            }
        };
        let bytes = sight.header.captured_len;
        let ruling = self
            .board
            .media(judge, media, sight.decoded, source, bytes)?;
        self.counts.media += 1;
        if let Some(header) = header {
            self.board.hear(ruling.call, &header, time_ns);
        }
        Some(ruling)
    }

    /// Once per batch: has flows forgotten that have been silent for too long.
    pub fn tidy(&mut self, commit: &mut shm_layout::worker::WorkerCommit) {
        self.flows.prepare(&[]);
        self.flows.report(commit);
    }

    /// What was described last.
    #[must_use]
    pub fn details(&self) -> &Details {
        &self.details
    }

    /// What the packet of a call says, for the processor: the name of its protocol. A line and [`Analyser::details`] are for people.
    pub fn describe(&mut self, sight: &Sight<'_>, part: Part) -> &'static str {
        self.details.clear();
        let probe = self.flows.probe(sight.decoded, Zone::NONE);
        let known = probe.and_then(|probe| self.flows.find(&probe));
        let mut flow = match part {
            Part::Media => known.map(|memory| memory.detection).unwrap_or_default(),
            Part::Signalling => Flow::default(),
        };
        let context = Context::decoded(sight.decoded, sight.frame, true, sight.header.timestamp_ns);
        let Some(context) = context else {
            return "";
        };
        let verdict = match part {
            Part::Signalling => self.detector.observe(&context, &mut flow),
            Part::Media => flow.verdict(),
        };
        if verdict.is_some() {
            self.detector
                .describe(&context, &mut flow, &mut self.details);
        }
        verdict.map_or("", |verdict| verdict.protocol.name())
    }
}

/// What part a packet that belongs to a call has in it.
#[must_use]
pub fn part_of(sight: &Sight<'_>) -> Part {
    match sip(sight.decoded.payload_of(sight.frame)) {
        Some(_) => Part::Signalling,
        None => Part::Media,
    }
}

/// The SIP message that a payload is.
fn sip(payload: &[u8]) -> Option<Message<'_>> {
    extract::sip::may_begin(&payload[..payload.len().min(extract::HEAD)])
        .then(|| Message::parse(payload))?
}

fn is_rtp(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Rtp | Protocol::Srtp)
}

/// The source of RTP or RTCP.
fn source(payload: &[u8]) -> Option<u32> {
    if rtp::control_type(payload).is_some() {
        let bytes: [u8; 4] = *payload.get(4..)?.first_chunk()?;
        return Some(u32::from_be_bytes(bytes));
    }
    Header::read(payload).map(|header| header.ssrc)
}

/// What a method means to a call.
fn meaning(method: Method) -> signal::Method {
    match method {
        Method::Invite => signal::Method::Invite,
        Method::Ack => signal::Method::Ack,
        Method::Bye => signal::Method::Bye,
        Method::Cancel => signal::Method::Cancel,
        Method::Prack | Method::Update | Method::Info => signal::Method::WithinCall,
        _ => signal::Method::Alone,
    }
}

/// Appends what is told of a packet of the call `call_id`: of a SIP message all of it, of media the Call-ID and the RTP header.
pub fn put_blocks(payload: &[u8], part: Part, call_id: &[u8], blocks: &mut Vec<u8>) {
    match (part, sip(payload)) {
        (Part::Signalling, Some(message)) => put_message(&message, call_id, blocks),
        _ => {
            Sip {
                call_id,
                ..Sip::default()
            }
            .put(blocks);
            if let Some(header) = Header::read(payload).filter(|_| part == Part::Media) {
                Rtp {
                    ssrc: header.ssrc,
                    payload_type: header.payload_type,
                    sequence: header.sequence,
                    timestamp: header.timestamp,
                }
                .put(blocks);
            }
        }
    }
}

/// Appends what is told of a SIP message.
fn put_message(message: &Message<'_>, call_id: &[u8], blocks: &mut Vec<u8>) {
    let (from, to) = (message.from(), message.to());
    let network = message.access_network();
    let parameters: Vec<_> = network
        .iter()
        .flat_map(|network| network.parameters())
        .collect();
    let asserted = message.last(Name::AssertedIdentity);
    let visited = message.visited_network();
    Sip {
        method: message.method_token().as_bytes(),
        call_id,
        from_user: from.as_ref().map_or(&[][..], |from| from.uri.user),
        to_user: to.as_ref().map_or(&[][..], |to| to.uri.user),
        response_code: message.status(),
        p_asserted_identity: asserted.map_or(&[][..], |value| value.bytes()),
        from_tag: from.as_ref().map_or(&[][..], |from| from.tag()),
        to_tag: to.as_ref().map_or(&[][..], |to| to.tag()),
        from_uri: from.as_ref().map_or(&[][..], |from| from.uri.text),
        to_uri: to.as_ref().map_or(&[][..], |to| to.uri.text),
        access_network: network.as_ref().map(|network| AccessNetwork {
            access_type: network.access_type,
            bssid: network.bssid,
            cell_id: network.cell_id,
            local_ip: network.local_ip,
            parameters: &parameters,
        }),
        visited_network_id: visited.as_ref().map_or(&[][..], |value| value.bytes()),
        cseq_method: message.cseq_method(),
    }
    .put(blocks);
}
