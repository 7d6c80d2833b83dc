//! From a packet to its call: SIP by its content, media by where they are expected, and what is told of each.
//!
//! What is told of SIP and media stands in two blocks of a packet's metadata, which the processor writes its files and follows its calls by: `sip` of every packet of a
//! call, with nothing but the Call-ID for media, and `rtp` of RTP.

use std::sync::Arc;

use lc_proto::voip::{AccessNetwork, Rtp, Sip};

use super::account;
use super::calls::CallRef;
use super::dialog::State;
use super::ear::{self, Ear};
use super::settings::Settings;
use super::streams::{Connection, Heard, Hearing, SipStreams};
use super::switchboard::{MediaFlow, Ruling, Switchboard};
use crate::decode::{Decoded, Transport};
use crate::desk::hand::Sight;
use crate::detect::{Context, Details, Detector, Flow, Protocol};
use crate::extract;
use crate::flows::{
    Direction, FlowTable, NoMemory, Probe, Seed, Signal as Progress, Timeouts, Zone,
};
use crate::matcher::Judge;
use crate::rtp::{self, Header};
use crate::sip::header::Name;
use crate::sip::message::Message;

/// What a flow remembers.
#[derive(Debug, Clone, Copy, Default)]
struct Memory {
    detection: Flow,
    media: MediaFlow,
    connection: Connection,
}

/// What was found, since the analyser was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// SIP messages.
    pub messages: u64,
    /// SIP messages without a Call-ID that can be taken, or longer than they may be.
    pub malformed: u64,
    /// Packets of media.
    pub media: u64,
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
    settings: Arc<Settings>,
    /// SIP over TCP, and what is known of packets that don't carry one message each.
    pub streams: SipStreams,
    flows: FlowTable<Memory>,
    detector: Detector,
    details: Details,
    ear: Ear,
    /// Calls whose packets come next.
    ahead: Vec<CallRef>,
    /// Packets of media.
    media: u64,
}

impl Analyser {
    /// Bytes of the flow table that each flow takes.
    pub const BYTES_PER_FLOW: usize = FlowTable::<Memory>::BYTES_PER_FLOW;

    /// Remembers flows in `flow_bytes` of memory, connections as `streams` does, whose settings it keeps to, and calls as `board` does.
    ///
    /// # Errors
    /// [`NoMemory`]
    pub fn new(
        flow_bytes: usize,
        streams: SipStreams,
        board: Switchboard,
    ) -> Result<Self, NoMemory> {
        let settings = Arc::clone(streams.settings());
        Ok(Self {
            board,
            streams,
            ear: Ear::new(settings.longest_message()),
            settings,
            flows: FlowTable::new(flow_bytes, Seed::random(), &Timeouts::default())?,
            detector: Detector::new(),
            details: Details::new(),
            ahead: Vec::new(),
            media: 0,
        })
    }

    /// What was found.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let ear::Counts {
            messages,
            malformed,
        } = self.ear.counts;
        Counts {
            messages,
            malformed,
            media: self.media,
        }
    }

    /// Whether a packet may carry parts of several messages: those are for [`Analyser::hear`], others for [`Analyser::look`].
    #[must_use]
    #[inline]
    pub fn carries_many(decoded: &Decoded) -> bool {
        matches!(decoded.transport, Some(Transport::Tcp | Transport::Sctp)) && !decoded.fragment
    }

    /// Takes note of a packet that may carry parts of several messages, under the name `token`. What is known is then among the
    /// [findings](SipStreams::findings).
    pub fn hear(&mut self, judge: Judge<'_>, sight: &Sight<'_>, token: u64) -> Heard {
        let time_ns = sight.header.timestamp_ns;
        let mut hearing = Hearing {
            judge,
            board: &mut self.board,
            ear: &mut self.ear,
            time_ns,
        };
        if sight.decoded.transport == Some(Transport::Sctp) {
            return self.streams.packet(sight, token, &mut hearing);
        }
        if self.settings.udp_only {
            return Heard::Done;
        }
        let flags = sight.frame.get(sight.decoded.header + 13).copied();
        let probe = self.flows.probe(sight.decoded, Zone::NONE);
        let (Some(flags), Some(probe)) = (flags, probe) else {
            return Heard::Done;
        };
        let progress = Progress::of_tcp_flags(flags);
        let flow = self.flows.observe(&probe, time_ns, progress);
        let connection = &mut flow.memory.connection;
        self.streams
            .segment(connection, flow.direction, sight, token, &mut hearing)
    }

    /// Gives up what was waited for too long in streams, up to `time_ns`, or all of it, `at_end`.
    pub fn advance(&mut self, judge: Judge<'_>, time_ns: u64, at_end: bool) {
        let mut hearing = Hearing {
            judge,
            board: &mut self.board,
            ear: &mut self.ear,
            time_ns,
        };
        match at_end {
            true => self.streams.close_all(&mut hearing),
            false => self.streams.advance(&mut hearing),
        }
    }

    /// Takes note of a packet. None if it is not of any call.
    pub fn look(&mut self, judge: Judge<'_>, sight: &Sight<'_>) -> Option<(Ruling, Part)> {
        let payload = sight.decoded.payload_of(sight.frame);
        if sight.decoded.transport != Some(Transport::Udp) || sight.decoded.fragment {
            return None;
        }
        match sip(payload) {
            Some(message) => {
                let calls = (&mut self.board, judge);
                let bytes = sight.header.captured_len;
                let said = (payload, &message);
                let ruling = self.ear.hear(calls, sight.decoded, said, bytes)?;
                Some((ruling, Part::Signalling))
            }
            None => Some((self.media(judge, sight, payload)?, Part::Media)),
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
        let known = probes.iter().filter_map(|probe| self.flows.guess(probe));
        self.ahead.clear();
        self.ahead.extend(known.map(|memory| memory.media.call()));
        self.board.calls().prefetch(&self.ahead);
    }

    fn media(&mut self, judge: Judge<'_>, sight: &Sight<'_>, payload: &[u8]) -> Option<Ruling> {
        let time_ns = sight.header.timestamp_ns;
        let probe = self.flows.probe(sight.decoded, Zone::NONE)?;
        let flow = self.flows.observe(&probe, time_ns, Progress::None);
        let forward = flow.direction == Direction::Request;
        let Memory {
            detection, media, ..
        } = flow.memory;
        let header = Header::read(payload);
        let source = match (header, detection.verdict()) {
            // Most packets. Detection would learn nothing: what media may turn into does not look like RTP.
            (Some(header), Some(verdict)) if is_rtp(verdict.protocol) => Some((header.ssrc, true)),
            _ => {
                let context = Context::decoded(sight.decoded, sight.frame, forward, time_ns)?;
                let verdict = self.detector.observe(&context, detection);
                let is_expected = verdict.is_none()
                    && (sight.decoded.ports)
                        .is_some_and(|ports| self.settings.expects_media(ports));
                let ssrc = match verdict.map(|verdict| verdict.protocol) {
                    Some(Protocol::Rtp | Protocol::Srtp | Protocol::Rtcp) => source(payload),
                    None if is_expected || !detection.given_up() => source(payload),
                    _ => None,
                };
                ssrc.map(|ssrc| (ssrc, verdict.is_some() || is_expected))
            }
        };
        let bytes = sight.header.captured_len;
        let ruling = self
            .board
            .media(judge, media, sight.decoded, source, bytes)?;
        self.media += 1;
        if let Some(header) = header {
            self.board.hear(media, &header, time_ns);
        } else if let Some(report) = rtp::sender_report(payload) {
            self.board.hear_report(media, report, time_ns);
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

    /// Adds to the details what is told of the packet's call.
    pub fn describe_call(&mut self, call: CallRef, sight: &Sight<'_>, part: Part, protocol: &str) {
        let calls = self.board.calls();
        let Some(call) = calls.get(call) else {
            return;
        };
        let details = &mut self.details;
        account::put_losses(details, call, calls.lost_by_capture());
        let payload = sight.decoded.payload_of(sight.frame);
        let is_account = match part {
            // A flow of which detection has seen too little to tell is what its call expects.
            Part::Media if ["", Protocol::Rtp.name()].contains(&protocol) => {
                account::put_media(details, call, payload);
                rtp::control_type(payload).is_some()
            }
            Part::Media => rtp::control_type(payload).is_some(),
            // A BYE, or what answers it.
            Part::Signalling => {
                let is_over = call.state() == State::Over;
                payload.starts_with(b"BYE ") || is_over && payload.starts_with(b"SIP/2.0 ")
            }
        };
        if is_account {
            account::put_streams(details, call);
        }
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
        match (verdict, part) {
            (Some(verdict), _) => verdict.protocol.name(),
            // A part of a message, or one in a frame.
            (None, Part::Signalling) => Protocol::Sip.name(),
            (None, Part::Media) => "",
        }
    }
}

/// What part a packet that belongs to a call has in it.
#[must_use]
pub fn part_of(sight: &Sight<'_>) -> Part {
    if Analyser::carries_many(sight.decoded) {
        return Part::Signalling;
    }
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

/// Appends what is told of a packet of the call `call_id`: of a SIP message all of it, of media the Call-ID and the RTP header.
pub fn put_blocks(payload: &[u8], part: Part, call_id: &[u8], blocks: &mut Vec<u8>) {
    let message = match part {
        Part::Signalling => sip(payload),
        Part::Media => None,
    };
    match (part, message) {
        (Part::Signalling, Some(message)) => put_message(&message, call_id, blocks),
        _ => {
            put_call_id(call_id, blocks);
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

/// Appends what is told of a packet of which nothing is known but its call.
pub fn put_call_id(call_id: &[u8], blocks: &mut Vec<u8>) {
    Sip {
        call_id,
        ..Sip::default()
    }
    .put(blocks);
}

/// Appends what is told of a SIP message.
pub fn put_message(message: &Message<'_>, call_id: &[u8], blocks: &mut Vec<u8>) {
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
