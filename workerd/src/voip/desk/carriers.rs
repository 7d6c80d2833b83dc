//! Packets that carry parts of several messages, or of none: segments of TCP, packets of SCTP.
//!
//! | what | becomes |
//! |---|---|
//! | a segment with parts of messages of one call | a packet of that call; with all that is told of the first message that begins in it, or with the Call-ID alone |
//! | each further message that begins in it | a record of its own, without captured bytes, right behind |
//! | a segment with parts of messages of several calls | a packet of those of them that are wanted, with the ids of all their filters and the Call-ID of one; each message that begins in it is a record of its own call |
//! | a segment without any: handshakes, acknowledgements, line ends that keep a connection alive | nobody's |
//!
//! So a processor finds each captured packet once and each message once, whatever the segments are, and messages of calls that nobody wants are not told of.

use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::packet::PacketHeader;
use shm_layout::ring::Full;

use super::{CallDesk, Means, Says};
use crate::desk::Offer;
use crate::desk::held::Position;
use crate::voip::analyser::{Part, put_call_id};
use crate::voip::apart::Apart;
use crate::voip::call::Call;
use crate::voip::calls::CallRef;
use crate::voip::findings::{Findings, GONE, HAND, Message, Origin};
use crate::voip::streams::Heard;
use crate::voip::switchboard::Fate;

impl CallDesk {
    /// Finds out what the packet in the hand carries, and what becomes of it, and of others of which that is known now. It lies at `position` if it was held.
    pub(super) fn look_at_carrier(
        &mut self,
        means: &mut Means<'_>,
        position: Option<Position>,
    ) -> Result<Offer, Full> {
        let header = self.hand.header;
        if let Some(position) = position {
            let board = &mut self.analyser.board;
            board.park(position, header.captured_len);
        }
        let token = position.unwrap_or(HAND);
        let sight = self.hand.sight();
        let heard = self.analyser.hear(means.judge, &sight, token);
        self.place(means, position, heard)
    }

    /// The packet in the hand, or what it completes, is known to the streams as what was `heard`. It is parked at `position` if it was held.
    pub(super) fn place(
        &mut self,
        means: &mut Means<'_>,
        position: Option<Position>,
        heard: Heard,
    ) -> Result<Offer, Full> {
        let header = self.hand.header;
        let token = position.unwrap_or(HAND);
        let is_found = self.analyser.streams.findings.has(token);
        let result = self.follow(means).map(|()| Offer::Taken);
        if is_found {
            return result;
        }
        match (heard, position) {
            (Heard::Waits(..) | Heard::WaitsForParts, Some(_)) => {}
            (Heard::WaitsForParts, None) => {
                let token = self.put_aside(means).unwrap_or(GONE);
                if token == GONE {
                    means.commit.add(Counter::HeldDropped, 1);
                } else {
                    self.analyser.board.park(token, header.captured_len);
                }
                self.analyser.streams.rename_packet(token);
            }
            (Heard::Waits(connection, direction), None) => {
                let token = match self.put_aside(means) {
                    Ok(position) => position,
                    Err(_) => {
                        means.commit.add(Counter::HeldDropped, 1);
                        GONE
                    }
                };
                let board = &mut self.analyser.board;
                if token != GONE {
                    board.park(token, header.captured_len);
                }
                if !self.analyser.streams.rename(connection, direction, token) {
                    board.unpark(token);
                }
                self.note_endings(means, token);
            }
            (Heard::NoRoom | Heard::Done, _) => {
                let is_lost = heard == Heard::NoRoom;
                means.commit.add(Counter::TcpOutOfMemory, is_lost.into());
                match position {
                    Some(position) => self.follow_held(position, &[], &[]),
                    None if result.is_ok() => return Ok(Offer::Nobodys),
                    // The tx ring is full: this packet is done with all the same.
                    None => {
                        let outcome = self.kept_back.counter(means.judge);
                        means.count(outcome, false, &header);
                    }
                }
            }
        }
        result
    }

    /// Packets of which is known now what they carry go their ways.
    pub(super) fn follow(&mut self, means: &mut Means<'_>) -> Result<(), Full> {
        if self.analyser.streams.findings.is_empty() {
            return Ok(());
        }
        let mut findings: Findings = std::mem::take(&mut self.analyser.streams.findings);
        let mut result = Ok(());
        for (carrier, calls, messages) in findings.iter() {
            let mut place = carrier.token;
            let noted = self.calls_noted(carrier.token, calls);
            let calls = noted.as_deref().unwrap_or(calls);
            match carrier.token {
                HAND => {
                    let (position, sent) = self.follow_hand(means, calls, messages);
                    place = position;
                    result = result.and(sent);
                }
                GONE => place = HAND,
                position => self.follow_held(position, calls, messages),
            }
            let own = own_message(calls, messages).filter(|_| carrier.token != GONE);
            for message in &messages[usize::from(own.is_some())..] {
                let told = self.tell_apart(means, place, &carrier.origin, message);
                result = result.and(told);
            }
        }
        findings.clear();
        self.analyser.streams.findings = findings;
        result
    }

    /// Notes behind the packet at `position`, which waits, whose messages end in it: a successor does not see them begin.
    fn note_endings(&mut self, means: &mut Means<'_>, position: Position) {
        let mut header = self.hand.header;
        (header.captured_len, header.original_len) = (0, 0);
        let origin = Origin::of(&self.hand.decoded, &header);
        for call in std::mem::take(&mut self.analyser.streams.ending) {
            let calls = self.analyser.board.calls();
            let id = calls.get(call).map_or(&[][..], Call::id);
            if let Some(head) = Apart::head(position, &origin, id) {
                let parts = [
                    &self.hand.queue.to_le_bytes()[..],
                    &header.to_bytes(),
                    &head,
                    id,
                ];
                // Without room, a successor has one packet less for that call.
                let _ = means.held.append(header.link_type, &parts);
            }
        }
    }

    /// Learns what a predecessor noted of packets in which messages end.
    pub(super) fn restore_endings(&mut self, means: &mut Means<'_>) {
        let mut position = means.held.tail();
        while let Ok(Some((_, end))) = self.hand.recall(means.held, position) {
            position = end;
            if self.hand.is_apart
                && let Some(apart) = Apart::read(&self.hand.frame)
                && apart.block.is_empty()
            {
                let noted = self.endings.entry(apart.carrier).or_default();
                noted.push(apart.call_id.into());
            }
        }
    }

    /// The calls of the packet `token`, if a predecessor has noted more than the `known` ones.
    fn calls_noted(&mut self, token: Position, known: &[CallRef]) -> Option<Vec<CallRef>> {
        let noted = self.endings.remove(&token)?;
        let calls = self.analyser.board.calls();
        let noted = noted.iter().filter_map(|id| calls.find(id));
        let mut all: Vec<CallRef> = noted.filter(|call| !known.contains(call)).collect();
        all.extend_from_slice(known);
        Some(all)
    }

    /// The packet in the hand carries parts of messages of `calls`. Where it lies now, if it has to wait.
    fn follow_hand(
        &mut self,
        means: &mut Means<'_>,
        calls: &[CallRef],
        messages: &[Message],
    ) -> (Position, Result<(), Full>) {
        let header = self.hand.header;
        let board = &mut self.analyser.board;
        let owner = board.owner(calls);
        let fate = owner.map(|owner| (owner, board.fate(owner, header.captured_len)));
        let outcome = match fate {
            None | Some((_, Fate::Unwanted)) => self.kept_back.counter(means.judge),
            Some((_, Fate::NoRoom | Fate::Shed)) => {
                means.commit.add(Counter::Held, 1);
                Counter::HeldDropped
            }
            // What was captured before goes before.
            Some((_, Fate::Forward)) if board.has_ready() => {
                return (self.hold_carrier(means, calls, messages), Ok(()));
            }
            Some((_, Fate::Wait)) => return (self.hold_carrier(means, calls, messages), Ok(())),
            Some((owner, Fate::Forward)) => {
                self.blocks.clear();
                match own_message(calls, messages) {
                    Some(message) => self.blocks.extend_from_slice(&message.block),
                    None => {
                        let calls = self.analyser.board.calls();
                        let id = calls.get(owner).map_or(&[][..], Call::id);
                        put_call_id(id, &mut self.blocks);
                    }
                }
                match self.send(means, owner, Part::Signalling, Says::Prepared, calls) {
                    Ok(outcome) => outcome,
                    Err(full) => {
                        return (self.hold_carrier(means, calls, messages), Err(full));
                    }
                }
            }
        };
        means.count(outcome, false, &header);
        (HAND, Ok(()))
    }

    /// Has the packet in the hand wait. Where it lies.
    fn hold_carrier(
        &mut self,
        means: &mut Means<'_>,
        calls: &[CallRef],
        messages: &[Message],
    ) -> Position {
        let Ok(position) = self.put_aside(means) else {
            means.commit.add(Counter::HeldDropped, 1);
            for call in calls {
                self.analyser.board.shed(*call);
            }
            return HAND;
        };
        let board = &mut self.analyser.board;
        board.park(position, self.hand.header.captured_len);
        self.follow_held(position, calls, messages);
        position
    }

    /// The parked packet at `position` carries parts of messages of `calls`.
    fn follow_held(&mut self, position: Position, calls: &[CallRef], messages: &[Message]) {
        if let Some(message) = own_message(calls, messages) {
            self.told.insert(position, message.block.clone());
        }
        self.analyser.board.share(position, calls);
        // The other fragments of a datagram.
        for part in self.parts_of.remove(&position).unwrap_or_default() {
            self.analyser.board.share(part, calls);
        }
    }

    /// Tells of a message without its packet, which lies at `carrier`, as soon as its call is wanted.
    fn tell_apart(
        &mut self,
        means: &mut Means<'_>,
        carrier: Position,
        origin: &Origin,
        message: &Message,
    ) -> Result<(), Full> {
        let board = &mut self.analyser.board;
        let header = PacketHeader {
            timestamp_ns: message.time_ns,
            captured_len: 0,
            original_len: 0,
            link_type: origin.link_type,
            interface: origin.interface,
            ..self.hand.header
        };
        let call = message.call;
        let mut result = Ok(());
        match board.fate(call, 0) {
            Fate::Unwanted | Fate::NoRoom | Fate::Shed => return Ok(()),
            Fate::Wait => {}
            Fate::Forward if board.has_ready() => {}
            Fate::Forward => {
                let headers = origin.decoded();
                result = self.send_apart(means, call, &header, &headers, &message.block);
                if result.is_ok() {
                    return result;
                }
            }
        }
        let calls = self.analyser.board.calls();
        let id = calls.get(call).map_or(&[][..], Call::id);
        if let Some(head) = Apart::head(carrier, origin, id) {
            let (queue, header) = (self.hand.queue.to_le_bytes(), header.to_bytes());
            let record = [&queue[..], &header, &head, id, &message.block].concat();
            match self.is_restored {
                true => self.hold_apart(means, call, origin.link_type, &record),
                // The log goes on behind all that is restored.
                false => self.late.push((call, origin.link_type, record)),
            }
        }
        result
    }

    /// Appends the record of a message to the log of held packets.
    pub(super) fn hold_apart(
        &mut self,
        means: &mut Means<'_>,
        call: CallRef,
        link_type: u16,
        record: &[u8],
    ) {
        let board = &mut self.analyser.board;
        match means.held.append(link_type, &[record]) {
            Ok(position) => board.hold(call, position, 0),
            Err(_) => board.shed(call),
        }
    }

    /// Tells of the message in the hand, which was held apart from its packet.
    pub(super) fn send_held_apart(
        &mut self,
        means: &mut Means<'_>,
        call: CallRef,
    ) -> Result<(), Full> {
        let record = std::mem::take(&mut self.hand.frame);
        let result = match Apart::read(&record) {
            Some(apart) => {
                let header = self.hand.header;
                self.send_apart(means, call, &header, &apart.decoded, apart.block)
            }
            None => Ok(()),
        };
        self.hand.frame = record;
        result
    }

    /// What the hand holds lies at `position`: a message that is told of apart from its packet. A predecessor held it. If the packet waits as well, both are
    /// found again there.
    pub(super) fn restore_apart(&mut self, position: Position, is_live: impl Fn(Position) -> bool) {
        let board = &mut self.analyser.board;
        let known = Apart::read(&self.hand.frame)
            .filter(|apart| !apart.block.is_empty())
            .filter(|apart| apart.carrier == HAND || !is_live(apart.carrier))
            .and_then(|apart| board.calls().find(apart.call_id));
        match known {
            Some(call) if board.fate(call, 0) != Fate::Unwanted => board.hold(call, position, 0),
            _ => board.pass_over(position),
        }
    }
}

/// The message that is told of with its packet.
fn own_message<'m>(calls: &[CallRef], messages: &'m [Message]) -> Option<&'m Message> {
    match calls {
        [_] => messages.first(),
        _ => None,
    }
}
