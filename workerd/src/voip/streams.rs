//! SIP over TCP, bare and in WebSockets: from the segments of connections to the messages that they carry.
//!
//! ```text
//!   segment -> reassembly::Streams -> sip::Stream, one a direction -> messages -> calls
//!                    |                                                   |
//!                    +-- which segments carry which bytes --> Findings <-+  segments whose messages are known
//! ```
//!
//! A segment is *settled* when nothing in it is part of a message that is not whole: then all that it carries is known, and it is told of, once, in [`Findings`], with the calls of its messages and what is
//! told of those that begin in it. Until then the caller keeps it. One that carries no part of a message of a call (line ends that keep a connection alive, other protocols) is told of without calls.
//!
//! - A message that is not whole (a gap, a limit, the end of the stream) is counted as malformed, and no call hears of it; its segments are those of the call that its Call-ID names, if that is known already.
//! - A segment that comes again is of the call whose message it repeats, as long as that is among the last [`REMEMBERED`] of its direction.
//! - A connection that is not SIP is forgotten as soon as that shows, with all that was kept of it, and its segments cost a look at their first byte: one that begins with a SIP start line, and a SYN, make it be followed again.
//!
//! Memory: a place for each connection that is followed (see [`reassembly::Limits`]), and a parser for each direction that has carried bytes. What all parsers keep of messages that are not whole is bounded
//! by [`waiting_bytes`](crate::reassembly::Limits::waiting_bytes): beyond it, whoever would keep more gives up its message, and goes on at the next start line.

use std::cell::Cell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use super::analyser::put_message;
use super::assembly::{Assembled, Assembly, Offered};
use super::calls::CallRef;
use super::chunks;
use super::ear::Ear;
use super::findings::{Findings, GONE, HAND, Message as Told, Origin};
use super::settings::Settings;
use super::switchboard::Switchboard;
use crate::desk::hand::Sight;
use crate::flows::Direction;
use crate::matcher::Judge;
use crate::reassembly::{
    self, ConnectionId, Consumer, Event, Fate, Interest, Ledger, NoMemory, Segment, Share, Stream,
    Streams,
};
use crate::sip::framer::{self, Framed};
use crate::sip::message::Message;
use crate::sip::stream as sip;

/// Messages of a direction whose segments are known when they come again.
pub const REMEMBERED: usize = 8;
const SYN: u8 = 2;

/// What a flow remembers of its connection.
#[derive(Debug, Clone, Copy, Default)]
pub struct Connection {
    id: Option<ConnectionId>,
    /// It is not SIP.
    is_foreign: bool,
}

/// What is known of a segment when it was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It is among the findings, or carries nothing that anybody waits for.
    Done,
    /// It has to be kept until it is among the findings, under another name if that was [`HAND`]: see [`SipStreams::rename`].
    Waits(ConnectionId, Direction),
    /// The same of a packet of SCTP: see [`SipStreams::rename_packet`].
    WaitsForParts,
    /// There was no memory to put it in order.
    NoRoom,
}

/// Follows the connections of a worker.
pub struct SipStreams {
    streams: Streams<Talk>,
    assembly: Assembly,
    settings: Arc<Settings>,
    /// Segments whose messages are known now.
    pub findings: Findings,
    /// The calls whose messages end in the segment that waits since the last call of [`SipStreams::segment`].
    pub ending: Vec<CallRef>,
    /// Bytes that all parsers keep.
    kept: Rc<Cell<usize>>,
    given_up: u64,
}

/// What takes note of messages.
pub struct Hearing<'a> {
    /// The filters in force.
    pub judge: Judge<'a>,
    /// The calls.
    pub board: &'a mut Switchboard,
    /// Has them take note.
    pub ear: &'a mut Ear,
    /// When the packet at hand was captured, in nanoseconds.
    pub time_ns: u64,
}

/// What is known of a connection.
#[derive(Debug, Default)]
struct Talk {
    /// Where requests come from.
    origin: Option<Origin>,
    /// By direction.
    sides: [Option<Box<Side>>; 2],
    /// Whether the beginning of a direction was missed.
    is_joined: [bool; 2],
    /// Whether any message was found.
    is_sip: bool,
}

/// A direction of a connection that has carried bytes.
#[derive(Debug)]
struct Side {
    sip: sip::Stream,
    share: Share,
    /// Messages of calls, those that are not settled and some of those that are; in the order of the stream.
    spans: VecDeque<Span>,
}

/// Where a message of a call stands.
#[derive(Debug)]
struct Span {
    range: Range<u64>,
    call: CallRef,
    /// Until the segment is settled that it begins in.
    told: Option<Told>,
}

/// Reads the streams while a segment is taken in.
struct Reader<'r, 'a> {
    hearing: &'r mut Hearing<'a>,
    settings: &'r Settings,
    findings: &'r mut Findings,
    /// Where the segment at hand comes from, in the direction of requests.
    origin: Option<Origin>,
    /// The length of its packet.
    bytes: u32,
    /// The connection that turned out last not to be SIP.
    foreign: Option<ConnectionId>,
    /// Bytes that all parsers keep.
    kept: &'r Rc<Cell<usize>>,
    /// See [`SipStreams::given_up`].
    given_up: &'r mut u64,
}

impl SipStreams {
    /// Follows connections and messages within the limits of `settings`.
    ///
    /// # Errors
    /// [`NoMemory`]
    pub fn new(settings: Settings) -> Result<Self, NoMemory> {
        Ok(Self {
            streams: Streams::new(&settings.streams)?,
            assembly: Assembly::default(),
            settings: Arc::new(settings),
            findings: Findings::default(),
            ending: Vec::new(),
            kept: Rc::default(),
            given_up: 0,
        })
    }

    /// What it keeps to.
    #[must_use]
    pub fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> &reassembly::Counts {
        self.streams.counts()
    }

    /// Segments behind which a message was given up, since parsers kept more than they may.
    #[must_use]
    pub fn given_up(&self) -> u64 {
        self.given_up
    }

    /// Takes in the segment `sight`, which goes in `direction` of `connection`, under the name `token`.
    pub fn segment(
        &mut self,
        connection: &mut Connection,
        direction: Direction,
        sight: &Sight<'_>,
        token: u64,
        hearing: &mut Hearing<'_>,
    ) -> Heard {
        let payload = sight.decoded.payload_of(sight.frame);
        let header = sight.frame.get(sight.decoded.header..).unwrap_or_default();
        let time_ns = sight.header.timestamp_ns;
        let Some(segment) = Segment::read(header, payload, direction, time_ns, Some(token)) else {
            return Heard::Done;
        };
        if connection.is_foreign {
            if segment.flags & SYN == 0 && !sip::may_begin(payload) {
                return Heard::Done;
            }
            *connection = Connection::default();
        }
        let origin = Origin::of(sight.decoded, sight.header);
        let origin = match direction {
            Direction::Request => origin,
            Direction::Response => origin.turned(),
        };
        let mut reader = Reader {
            hearing,
            settings: &self.settings,
            findings: &mut self.findings,
            origin: Some(origin),
            bytes: sight.header.captured_len,
            foreign: None,
            kept: &self.kept,
            given_up: &mut self.given_up,
        };
        if !payload.is_empty() && segment.flags & SYN == 0 {
            // What was held by a predecessor is the first that it had no use for yet.
            let is_first = || token != HAND || sip::may_begin(payload);
            let place = (direction, segment.seq, time_ns);
            self.streams
                .expect(&mut connection.id, place, &mut reader, is_first);
        }
        let outcome = self
            .streams
            .segment(&mut connection.id, &segment, &mut reader);
        reader.origin = None;
        let Some(id) = connection.id else {
            return Heard::Done;
        };
        let stream = self.streams.stream(id, direction);
        let is_sip = stream.as_ref().is_some_and(|stream| stream.state.is_sip);
        let is_foreign = outcome.fate == Fate::Ignored || reader.foreign == Some(id);
        if is_foreign && !is_sip {
            // What was kept of the other direction is told of.
            self.streams.close(id, &mut reader);
            *connection = Connection {
                id: None,
                is_foreign: true,
            };
            return Heard::Done;
        }
        let Some(stream) = stream else {
            return Heard::Done;
        };
        stream.state.origin.get_or_insert(origin);
        if self.findings.has(token) {
            return Heard::Done;
        }
        match outcome.fate {
            _ if outcome.noted => {
                let spans = stream.state.spans_at(direction, &outcome.range);
                self.ending.clear();
                self.ending.extend(spans.map(|span| span.call));
                Heard::Waits(id, direction)
            }
            Fate::Empty | Fate::Ignored | Fate::Refused(_) => Heard::Done,
            // A byte that was acknowledged before keeps the connection alive.
            Fate::Old if payload.len() <= 1 => Heard::Done,
            // Settled before, or there was no room to note it.
            fate => {
                let origin = match direction {
                    Direction::Request => origin,
                    Direction::Response => origin.turned(),
                };
                let spans = stream.state.spans_at(direction, &outcome.range);
                let mut calls = spans.map(|span| (span.call, None)).peekable();
                let is_known = calls.peek().is_some();
                if is_known {
                    self.findings.add(token, origin, calls);
                }
                match is_known || fate == Fate::Old {
                    true => Heard::Done,
                    false => Heard::NoRoom,
                }
            }
        }
    }

    /// Takes in an SCTP packet under the name `token`. Each user message that is whole, in it or with it, may be a SIP message. It is then among the findings, if one is.
    pub fn packet(&mut self, sight: &Sight<'_>, token: u64, hearing: &mut Hearing<'_>) -> Heard {
        let origin = Origin::of(sight.decoded, sight.header);
        let time_ns = hearing.time_ns;
        let mut reader = Reader {
            hearing,
            settings: &self.settings,
            findings: &mut self.findings,
            origin: None,
            bytes: sight.header.captured_len,
            foreign: None,
            kept: &self.kept,
            given_up: &mut self.given_up,
        };
        let payload = sight.decoded.payload_of(sight.frame);
        let mut told = Vec::new();
        for part in chunks::parts(payload) {
            if part.is_whole() {
                told.extend(reader.hear_user_message(part.bytes, &origin));
                continue;
            }
            match self.assembly.offer(origin, &part, token, time_ns) {
                Offered::Unknown | Offered::Held => {}
                Offered::Whole(whole) => told.extend(reader.hear_assembled(&whole, token)),
            }
        }
        if !told.is_empty() {
            let told = told.into_iter().map(|span| (span.call, span.told));
            self.findings.add(token, origin, told);
            // It goes its way; what it has of another message is told without it.
            self.assembly.rename_all(token, GONE);
            return Heard::Done;
        }
        match self.assembly.keeps(token) {
            true => Heard::WaitsForParts,
            false => Heard::Done,
        }
    }

    /// The packet that was taken in last, as [`HAND`], is called `token` from now on.
    pub fn rename_packet(&mut self, token: u64) {
        self.assembly.rename_all(HAND, token);
    }

    /// Gives up user messages that have not become whole until `time_ns`, or at all.
    fn give_up_parts(&mut self, time_ns: Option<u64>, hearing: &mut Hearing<'_>) {
        while let Some(given_up) = self.assembly.give_up(time_ns) {
            hearing.ear.counts.malformed += 1;
            let tokens = given_up.tokens.iter().filter(|token| **token != GONE);
            for token in tokens {
                self.findings
                    .add(*token, given_up.origin, std::iter::empty());
            }
        }
    }

    /// The segment that was taken in last, as [`HAND`], is called `token` from now on. False if nobody waits for it any more.
    pub fn rename(&mut self, connection: ConnectionId, direction: Direction, token: u64) -> bool {
        let stream = self.streams.stream(connection, direction);
        stream.is_some_and(|mut stream| stream.ledger.rename_last(HAND, token))
    }

    /// Whether the segments that come are those that a predecessor kept. See [`Streams::resume`].
    pub fn resume(&mut self, resumes: bool) {
        self.streams.resume(resumes);
    }

    /// Gives up what was waited for too long, by the time of the packet at hand; once per batch.
    pub fn advance(&mut self, hearing: &mut Hearing<'_>) {
        self.give_up_parts(Some(hearing.time_ns), hearing);
        if hearing.time_ns > 0 {
            self.streams.see(hearing.time_ns);
        }
        let (streams, mut reader) = self.without_segment(hearing);
        streams.advance(&mut reader);
    }

    /// What reads on where no segment is at hand.
    fn without_segment<'r, 'a>(
        &'r mut self,
        hearing: &'r mut Hearing<'a>,
    ) -> (&'r mut Streams<Talk>, Reader<'r, 'a>) {
        let reader = Reader {
            settings: &self.settings,
            findings: &mut self.findings,
            origin: None,
            bytes: 0,
            foreign: None,
            kept: &self.kept,
            given_up: &mut self.given_up,
            hearing,
        };
        (&mut self.streams, reader)
    }

    /// Ends all connections, since no more segments come.
    pub fn close_all(&mut self, hearing: &mut Hearing<'_>) {
        self.give_up_parts(None, hearing);
        if self.streams.connections() == 0 {
            return;
        }
        let (streams, mut reader) = self.without_segment(hearing);
        streams.close_all(&mut reader);
    }
}

impl Talk {
    /// Messages of calls that stand in `range`, whole or in part.
    fn spans_at<'t>(
        &'t self,
        direction: Direction,
        range: &'t Range<u64>,
    ) -> impl Iterator<Item = &'t Span> {
        let side = self.sides[direction as usize].iter();
        let spans = side.flat_map(|side| &side.spans);
        spans.filter(|span| span.range.start < range.end && range.start < span.range.end)
    }
}

impl Consumer for Reader<'_, '_> {
    type State = Talk;

    fn take(&mut self, stream: Stream<'_, Talk>, event: Event<'_>) -> Interest {
        let Stream {
            connection,
            direction,
            state,
            mut ledger,
        } = stream;
        let way = direction as usize;
        // Only the connection of the segment at hand can be new.
        let Some(origin) = state.origin.or(self.origin) else {
            return Interest::Follow;
        };
        state.origin = Some(origin);
        let origin = match direction {
            Direction::Request => origin,
            Direction::Response => origin.turned(),
        };
        let Talk {
            sides,
            is_joined,
            is_sip,
            ..
        } = state;
        let mut is_foreign = false;
        let settled = match event {
            Event::Data { offset, bytes } => {
                let side = sides[way].get_or_insert_with(|| {
                    let limits = self
                        .settings
                        .stream_limits(origin.ports.unwrap_or_default());
                    let share = Share::of(self.kept);
                    Box::new(Side::new(limits, share, offset, !is_joined[way]))
                });
                let Side { sip, share, spans } = &mut **side;
                let mut chunk = bytes;
                while let Some(event) = sip.next(&mut chunk) {
                    is_foreign |= event == framer::Event::NotSip;
                    *is_sip |= self.take_event(&event, &origin, spans);
                }
                share.set(sip.held());
                let most_kept = self.settings.streams.waiting_bytes;
                if share.bytes() > 0 && self.kept.get() > most_kept {
                    *self.given_up += 1;
                    if let Some(event) = sip.gap(0) {
                        self.take_event(&event, &origin, spans);
                    }
                    let ports = origin.ports.unwrap_or_default();
                    let limits = self.settings.stream_limits(ports);
                    *sip = sip::Stream::new(limits, offset + bytes.len() as u64, false);
                    share.set(0);
                }
                match is_foreign {
                    true => offset + bytes.len() as u64,
                    false => sip.settled(),
                }
            }
            Event::Gap { len: Some(len), .. } => {
                let Some(Side { sip, spans, .. }) = sides[way].as_deref_mut() else {
                    is_joined[way] = true;
                    return Interest::Follow;
                };
                if let Some(event) = sip.gap(len) {
                    is_foreign = event == framer::Event::NotSip;
                    self.take_event(&event, &origin, spans);
                }
                sip.settled()
            }
            Event::Gap { offset, len: None } | Event::End { offset, .. } => {
                if let Some(Side { sip, spans, .. }) = sides[way].as_deref_mut()
                    && let Some(event) = sip.gap(0)
                {
                    self.take_event(&event, &origin, spans);
                }
                is_joined[way] = matches!(event, Event::Gap { .. });
                offset
            }
        };
        if is_foreign && !*is_sip {
            self.foreign = Some(connection);
        }
        let is_over = is_foreign || matches!(event, Event::End { .. });
        let until = match is_over {
            true => ledger
                .iter()
                .fold(settled, |most, (_, range)| most.max(range.end)),
            false => settled,
        };
        let none = &mut VecDeque::new();
        let spans = match sides[way].as_deref_mut() {
            Some(side) => &mut side.spans,
            None => none,
        };
        self.settle(&mut ledger, until, origin, spans);
        if is_over || matches!(event, Event::Gap { len: None, .. }) {
            sides[way] = None;
        }
        match is_foreign {
            true => Interest::IgnoreDirection,
            false => Interest::Follow,
        }
    }
}

impl Reader<'_, '_> {
    /// Says whether it is a message.
    fn take_event(
        &mut self,
        event: &framer::Event<'_>,
        origin: &Origin,
        spans: &mut VecDeque<Span>,
    ) -> bool {
        match event {
            framer::Event::Message(framed) => {
                spans.extend(self.hear(framed, origin));
                true
            }
            framer::Event::Damaged(framed, _) => {
                self.hearing.ear.counts.malformed += 1;
                let message = Message::parse(framed.bytes);
                let call_id = message.as_ref().and_then(|message| message.call_id().ok());
                let calls = self.hearing.board.calls();
                spans.extend(call_id.and_then(|id| calls.find(id)).map(|call| Span {
                    range: framed.range.clone(),
                    call,
                    told: None,
                }));
                false
            }
            framer::Event::NotSip => false,
        }
    }

    /// A user message of SCTP.
    fn hear_user_message(&mut self, bytes: &[u8], origin: &Origin) -> Option<Span> {
        let framed = Framed { bytes, range: 0..0 };
        sip::may_begin(bytes).then(|| self.hear(&framed, origin))?
    }

    /// A user message that is whole with the packet `token`: those before it go with its call, the first with what is told of it. What is left is for the packet `token`.
    fn hear_assembled(&mut self, whole: &Assembled, token: u64) -> Option<Span> {
        let mut span = self.hear_user_message(&whole.bytes, &whole.origin);
        for before in whole.tokens.iter().filter(|before| **before != token) {
            let told = span.as_mut().map(|span| (span.call, span.told.take()));
            if *before != GONE || matches!(told, Some((_, Some(_)))) {
                self.findings.add(*before, whole.origin, told.into_iter());
            }
        }
        span
    }

    fn hear(&mut self, framed: &Framed<'_>, origin: &Origin) -> Option<Span> {
        let message = Message::parse(framed.bytes)?;
        let Hearing {
            judge,
            board,
            ear,
            time_ns,
        } = &mut *self.hearing;
        let said = (framed.bytes, &message);
        let ruling = ear.hear((&mut **board, *judge), &origin.decoded(), said, self.bytes)?;
        let mut block = self.findings.buffer();
        put_message(&message, board.calls().get(ruling.call)?.id(), &mut block);
        let told = Told {
            call: ruling.call,
            block,
            time_ns: *time_ns,
        };
        Some(Span {
            range: framed.range.clone(),
            call: ruling.call,
            told: Some(told),
        })
    }

    /// Tells of the segments that end at or before `until`, in the order of capture: one that has to wait has those behind it wait.
    fn settle(
        &mut self,
        ledger: &mut Ledger<'_>,
        until: u64,
        origin: Origin,
        spans: &mut VecDeque<Span>,
    ) {
        ledger.forget_first(until, |token, range| {
            let first = spans.partition_point(|span| span.range.end <= range.start);
            let carried = spans.range_mut(first..);
            let carried = carried.take_while(|span| span.range.start < range.end);
            let carried = carried.map(|span| {
                let begins = range.contains(&span.range.start);
                let told = begins.then(|| span.told.take()).flatten();
                (span.call, told)
            });
            self.findings.add(token, origin, carried);
        });
        // What begins in a segment that was not noted is told without one.
        for span in spans.iter_mut().filter(|span| span.told.is_some()) {
            let is_noted = ledger
                .iter()
                .any(|(_, range)| range.contains(&span.range.start));
            if !is_noted {
                let told = (span.call, span.told.take());
                self.findings.add(GONE, origin, std::iter::once(told));
            }
        }
        if spans.len() > REMEMBERED {
            let starts = ledger.iter().map(|(_, range)| range.start);
            let until = starts.min().map_or(until, |start| start.min(until));
            let is_old = |span: &mut Span| span.told.is_none() && span.range.end <= until;
            while spans.len() > REMEMBERED && spans.pop_front_if(is_old).is_some() {}
        }
    }
}

impl Side {
    fn new(limits: framer::Limits, share: Share, offset: u64, from_start: bool) -> Self {
        Self {
            sip: sip::Stream::new(limits, offset, from_start),
            share,
            spans: VecDeque::new(),
        }
    }
}
