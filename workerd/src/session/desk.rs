//! What a worker does with packets of sessions.
//!
//! ```text
//!   packet -> sessions: whose is it? -+-> wanted --------------------> tx ring
//!                                     +-> undecided, or unclaimed: held, in the log -> tx ring, or nowhere
//!                                     +-> unwanted ------------------> nowhere
//!                                     +-> nobody's: offered to others
//! ```
//!
//! A packet that need not wait is not copied again. Fragments wait until their datagram is whole; then they are held again, as packets of its exchanges.

use std::collections::BTreeMap;

use lc_daemon::key_log::{Entry, Label};
use lc_proto::tls_keys::TlsKeys;
use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::packet::PacketHeader;
use shm_layout::ring::Full;
use shm_layout::wire::Priority;
use zeroize::Zeroize;

use super::floor::SessionRef;
use super::journal::Journal;
use super::roster::Roster;
use super::sessions::{Found, Sessions};
use super::waiting::{Fate, Packet, Tally};
use crate::address_text::AddressText;
use crate::decode::Decoded;
use crate::describe::Described;
use crate::desk::Offer;
use crate::desk::hand::{Hand, SharedEsp, Sight};
use crate::desk::held::Position;
use crate::desk::kept_back::KeptBack;
use crate::desk::load::Load;
use crate::desk::means::Means;
use crate::desk::verdict::Ids;
use crate::detect::Details;
use crate::emit::{Judged, Outgoing, emit};
use crate::flows::Probe;
use crate::fragments::{self, Fragments, Limits, Offered};
use crate::reassembly;
use crate::tls::secrets::SessionKeys;
use crate::voip::desk::Ceded;

/// See the [module](self).
pub struct SessionDesk<R: Roster> {
    sessions: Sessions<R>,
    journal: Journal,
    /// The packet at hand, and one that has waited.
    hand: Box<Hand>,
    waited: Box<Hand>,
    esp: SharedEsp,
    kept_back: KeptBack,
    fragments: Fragments,
    /// Fragments that wait for the rest of their datagrams, by where they lie.
    parked: BTreeMap<Position, PacketHeader>,
    /// Held packets that need not be looked at again.
    done: Vec<Position>,
    telling: Telling,
    reported: Reported,
    latest_ns: u64,
    is_restored: bool,
}

/// What is told of a packet, in memory that is used again.
struct Telling {
    of_detection: Details,
    details: Vec<u8>,
    tls_keys: Vec<u8>,
    ids: Ids,
}

/// What was counted up to the last report.
#[derive(Default)]
struct Reported {
    tally: Tally,
    fragments: fragments::Counts,
    streams: reassembly::Counts,
}

/// A packet that is sent: one that is looked at, or one that has waited at a position.
#[derive(Clone, Copy)]
enum Sent {
    AtHand,
    Held(Position, SessionRef),
}

impl<R: Roster> SessionDesk<R> {
    /// A desk for `sessions`.
    #[must_use]
    pub fn new(sessions: Sessions<R>, esp: SharedEsp) -> Self {
        Self {
            sessions,
            journal: Journal::default(),
            hand: Box::default(),
            waited: Box::default(),
            esp,
            kept_back: KeptBack::default(),
            fragments: Fragments::new(Limits::default()),
            parked: BTreeMap::new(),
            done: Vec::new(),
            telling: Telling {
                of_detection: Details::new(),
                details: Vec::new(),
                tls_keys: Vec::new(),
                ids: Ids::default(),
            },
            reported: Reported::default(),
            latest_ns: 0,
            is_restored: false,
        }
    }

    /// How the flow of a packet is found, if it has one.
    #[inline]
    #[must_use]
    pub fn probe(&self, decoded: &Decoded) -> Option<Probe> {
        self.sessions.probe(decoded)
    }

    /// Has fetched what is known of packets with these `probes`.
    pub fn prepare(&mut self, probes: &[Probe]) {
        self.sessions.prepare(probes);
    }

    /// Takes in a secret of TLS, at the time `now_ns` of a clock that does not go back.
    pub fn learn(&mut self, entry: &Entry, now_ns: u64) {
        self.sessions.learn(entry, now_ns);
    }

    /// Nobody has the secrets that were told.
    pub fn tell_keys_again(&mut self) {
        self.sessions.tell_keys_again();
    }

    /// Learns what a predecessor told. What it held comes next.
    pub fn begin_to_restore(&mut self, means: &mut Means<'_>) {
        self.journal.restore(means.calls, &mut self.sessions);
        self.sessions.resume(true);
    }

    /// All that was held has been looked at.
    pub fn end_to_restore(&mut self) {
        self.sessions.resume(false);
        // What is known of these packets was counted when they came.
        self.reported.fragments = *self.fragments.counts();
        self.reported.streams = *self.sessions.stream_counts();
        self.is_restored = true;
    }

    /// Decides what can be decided, and forwards what has waited. With `at_end`, all is decided, since no more packets come.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room.
    pub fn round(&mut self, means: &mut Means<'_>, at_end: bool) -> Result<(), Full> {
        self.sessions.advance(means.judge, self.latest_ns, at_end);
        if at_end {
            for (position, header) in std::mem::take(&mut self.parked) {
                self.release(means, position, &header);
            }
        }
        self.flush(means)
    }

    /// The packets' time goes on with the clock, as nothing comes: `silence_ns` after the last packet.
    pub fn tick(&mut self, means: &mut Means<'_>, silence_ns: u64) {
        if self.latest_ns > 0 {
            let now_ns = self.latest_ns + silence_ns;
            self.sessions.advance(means.judge, now_ns, false);
        }
    }

    /// Handles the packet in the `hand`, which lies at `position` if it was held; and counts it, unless it is nobody's. Then the hand still has it.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room. The packet waits, and is done with.
    pub fn handle(
        &mut self,
        hand: &mut Box<Hand>,
        means: &mut Means<'_>,
        position: Option<Position>,
    ) -> Result<Offer, Full> {
        self.latest_ns = hand.header.timestamp_ns;
        if hand.decoded.fragment {
            std::mem::swap(&mut self.hand, hand);
            self.look_at_fragment(means, position);
            return self.flush(means).map(|()| Offer::Taken);
        }
        let found = self.sessions.look(means.judge, &hand.sight(), position);
        if self.sessions.has_left(position) {
            let captured_len = hand.header.captured_len;
            let is_ours = matches!(found, Found::Ours(_));
            if let Some(position) = position
                && !(is_ours && self.sessions.see_again(position, captured_len))
            {
                self.done.push(position);
            }
            return self.flush(means).map(|()| Offer::Taken);
        }
        let Found::Ours(fate) = found else {
            return Ok(Offer::Nobodys);
        };
        std::mem::swap(&mut self.hand, hand);
        let flushed = self.flush(means);
        let header = self.hand.header;
        let outcome = match fate {
            Fate::Unwanted if !self.sessions.has_to_be_seen() => {
                self.kept_back.counter(means.judge)
            }
            Fate::Forward
                if self.is_restored && flushed.is_ok() && !self.sessions.has_to_queue() =>
            {
                match self.send(means, Sent::AtHand) {
                    Ok(outcome) => outcome,
                    Err(full) => {
                        self.hold(means, position);
                        return Err(full);
                    }
                }
            }
            Fate::Wait | Fate::Forward | Fate::Unwanted => {
                self.hold(means, position);
                return flushed.map(|()| Offer::Taken);
            }
        };
        self.done.extend(position);
        means.count(outcome, position.is_some(), &header);
        flushed.map(|()| Offer::Taken)
    }

    /// Handles a datagram whose fragments were held by somebody else, who has given them up.
    ///
    /// # Errors
    /// [`Full::Now`]: the tx ring has no room. What is wanted waits.
    pub fn handle_whole(&mut self, means: &mut Means<'_>, whole: &Ceded) -> Result<(), Full> {
        let Ceded {
            header,
            decoded,
            bytes,
            parts,
        } = whole;
        let sight = Sight {
            header,
            decoded,
            frame: bytes,
        };
        self.look_at_whole(means, &sight, parts);
        self.flush(means)
    }

    /// Has the packet at hand wait. It lies at `position` if it was held.
    fn hold(&mut self, means: &mut Means<'_>, position: Option<Position>) {
        let captured_len = self.hand.header.captured_len;
        let position = match position {
            Some(position) => Ok(position),
            None => {
                means.commit.add(Counter::Held, 1);
                self.hand.put_aside(means.held)
            }
        };
        match position {
            Ok(position) => self.sessions.hold(position, captured_len),
            Err(_) => {
                self.sessions.lose();
                means.commit.add(Counter::HeldDropped, 1);
            }
        }
    }

    /// Has the fragment at hand wait until its datagram is whole.
    fn look_at_fragment(&mut self, means: &mut Means<'_>, position: Option<Position>) {
        let header = self.hand.header;
        let position = match position {
            Some(position) => position,
            None => {
                means.commit.add(Counter::Held, 1);
                match self.hand.put_aside(means.held) {
                    Ok(position) => position,
                    Err(_) => return means.commit.add(Counter::HeldDropped, 1),
                }
            }
        };
        self.parked.insert(position, header);
        let offered = self.fragments.offer(
            &self.hand.decoded,
            self.hand.frame(),
            header.interface,
            header.timestamp_ns,
            &[position],
        );
        match offered {
            Offered::Held => {}
            Offered::Refused(_) | Offered::Again(_) => self.give_up_fragment(means, position),
            Offered::Whole(whole) => {
                let parts = whole.tokens.to_vec();
                let bytes = whole.bytes.to_vec();
                let mut decoded = whole.decoded;
                let time_ns = header.timestamp_ns;
                let inner = self.esp.borrow_mut().open(&decoded, &bytes, time_ns);
                decoded = inner.unwrap_or(decoded);
                for part in &parts {
                    self.parked.remove(part);
                }
                let sight = Sight {
                    header: &header,
                    decoded: &decoded,
                    frame: &bytes,
                };
                self.look_at_whole(means, &sight, &parts);
            }
        }
    }

    /// A datagram is whole: its fragments, which lie at `parts`, go where it goes. What is told of it is told of the fragment with the ports.
    fn look_at_whole(&mut self, means: &mut Means<'_>, sight: &Sight<'_>, parts: &[Position]) {
        let found = self.sessions.look(means.judge, sight, None);
        let is_ours = matches!(found, Found::Ours(Fate::Forward | Fate::Wait));
        let mut has_notes = false;
        for part in parts {
            let is_there = self.waited.recall(means.held, *part);
            if !is_ours || !matches!(is_there, Ok(Some((start, _))) if start == *part) {
                self.release(means, *part, sight.header);
                continue;
            }
            self.done.push(*part);
            means.commit.add(Counter::HeldReleased, 1);
            self.waited.decode();
            let is_first = self.waited.decoded.ports.is_some() && !has_notes;
            has_notes |= is_first;
            std::mem::swap(&mut self.hand, &mut self.waited);
            match is_first {
                true => self.hold(means, None),
                false => self.hold_part(means),
            }
            std::mem::swap(&mut self.hand, &mut self.waited);
        }
    }

    /// Has a fragment wait that stands for nothing itself.
    fn hold_part(&mut self, means: &mut Means<'_>) {
        let captured_len = self.hand.header.captured_len;
        means.commit.add(Counter::Held, 1);
        match self.hand.put_aside(means.held) {
            Ok(position) => self.sessions.hold_part(position, captured_len),
            Err(_) => means.commit.add(Counter::HeldDropped, 1),
        }
    }

    /// Fragments whose datagram never became whole are nobody's.
    fn give_up_fragment(&mut self, means: &mut Means<'_>, position: Position) {
        if let Some(header) = self.parked.remove(&position) {
            means.commit.add(Counter::FragmentsDropped, 1);
            self.release(means, position, &header);
        }
    }

    /// What is held at `position` is nobody's.
    fn release(&mut self, means: &mut Means<'_>, position: Position, header: &PacketHeader) {
        let kept_back = self.kept_back.counter(means.judge);
        means.count(kept_back, true, header);
        self.done.push(position);
    }

    /// Forwards what has waited and is wanted now.
    fn flush(&mut self, means: &mut Means<'_>) -> Result<(), Full> {
        while let Some(waiting) = self.sessions.ready().filter(|_| self.is_restored) {
            let position = waiting.position;
            let outcome = match self.waited.recall(means.held, position) {
                Ok(Some((start, _))) if start == position => {
                    means.worker.set_in_progress(Some(self.waited.identity()));
                    self.waited.decode();
                    self.waited.open(&self.esp);
                    self.send(means, Sent::Held(position, waiting.owner))?
                }
                _ => Counter::CorruptRecords,
            };
            means.count(outcome, true, &self.waited.header);
            self.sessions.forwarded(waiting.owner);
        }
        Ok(())
    }

    /// Puts a packet into the tx ring. What became of it.
    fn send(&mut self, means: &mut Means<'_>, sent: Sent) -> Result<Counter, Full> {
        let (hand, session) = match sent {
            Sent::AtHand => (&self.hand, self.sessions.at_hand().0),
            Sent::Held(_, session) => (&self.waited, session),
        };
        let sight = hand.sight();
        let Telling {
            of_detection,
            details,
            tls_keys,
            ids,
        } = &mut self.telling;
        let detected = self.sessions.describe(session, &sight, of_detection);
        let packet = match sent {
            Sent::AtHand => Some(self.sessions.at_hand().1),
            Sent::Held(position, _) => self.sessions.packet(position),
        };
        let Some(packet) = packet else {
            return Ok(Counter::FilteredNoMatch);
        };
        let exchanges = self.sessions.exchanges();
        let is_asked_for = packet
            .wanted(exchanges)
            .any(|exchange| exchanges.was_asked_for(exchange));
        if !is_asked_for && means.load() >= Load::Severe {
            return Ok(Counter::Shed);
        }
        let told = Told::of(packet, exchanges);
        details.clear();
        details.extend_from_slice(of_detection.encoded());
        // Of keys that come twice, the last counts: what was told first is.
        told.details()
            .for_each(|part| details.extend_from_slice(part));
        let ids = packet.ids(exchanges, ids);
        tls_keys.zeroize();
        if let Some(keys) = self.sessions.untold_keys(session) {
            put_keys(keys, sight.decoded, tls_keys);
        }
        let outgoing = Outgoing {
            header: sight.header,
            decoded: sight.decoded,
            interface_name: means.interfaces.get(means.session, sight.header.interface),
            described: Described {
                protocol: match told.protocol() {
                    "" => detected,
                    protocol => protocol,
                },
                info: match told.info() {
                    "" => of_detection.info(),
                    info => info,
                },
                details,
                blocks: told.blocks(),
            },
            tls_keys,
        };
        let judged = Judged {
            ids: ids.iter(),
            priority: match is_asked_for {
                true => Priority::High,
                false => Priority::Normal,
            },
        };
        let ordinal = means.commit.get(Counter::Forwarded);
        match emit(means.tx, ordinal, outgoing, judged, |bytes| {
            bytes.copy_from_slice(sight.frame);
        }) {
            Ok(()) => {
                means.commit.add(Counter::Matched, (!ids.is_empty()).into());
                if !tls_keys.is_empty() {
                    means.commit.add(Counter::TlsKeysTold, 1);
                    self.sessions.keys_told(session);
                }
                Ok(Counter::Forwarded)
            }
            Err(Full::Always) => Ok(Counter::LostTooLong),
            Err(Full::Now) => Err(Full::Now),
        }
    }

    /// Before a commit: tells what has changed, and counts what happened.
    pub fn report(&mut self, means: &mut Means<'_>) {
        self.fragments.expire(self.latest_ns);
        let abandoned: Vec<Position> = self.fragments.abandoned().collect();
        for position in abandoned {
            self.give_up_fragment(means, position);
        }
        self.sessions.tidy(means.commit);
        self.sessions.report(means.commit);
        self.journal.tell(means.calls, &mut self.sessions);
        let kept_back = self.kept_back.counter(means.judge);
        let commit = &mut *means.commit;

        let (now, before) = (self.sessions.tally(), self.reported.tally);
        let released = now.released - before.released;
        commit.add(Counter::HeldReleased, released);
        commit.add(kept_back, released);
        commit.add(Counter::HeldDropped, now.dropped - before.dropped);
        self.reported.tally = now;

        let (now, before) = (*self.fragments.counts(), self.reported.fragments);
        commit.add(
            Counter::FragmentsCompleted,
            now.completed - before.completed,
        );
        self.reported.fragments = now;

        let (now, before) = (*self.sessions.stream_counts(), self.reported.streams);
        commit.add(Counter::TcpSegmentsLost, now.gaps - before.gaps);
        self.reported.streams = now;
    }

    /// Where the oldest packet that waits lies, and whether it is wanted: then it must not go.
    #[must_use]
    pub fn oldest(&self) -> Option<(Position, bool)> {
        let parked = self.parked.keys().next().map(|parked| (*parked, false));
        parked.into_iter().chain(self.sessions.oldest()).min()
    }

    /// Gives up the oldest packet that waits. False if none does.
    pub fn drop_oldest(&mut self, means: &mut Means<'_>) -> bool {
        let parked = self.parked.keys().next().copied();
        let oldest = self.sessions.oldest().map(|(oldest, _)| oldest);
        match parked {
            Some(parked) if oldest.is_none_or(|oldest| parked < oldest) => {
                self.parked.remove(&parked);
                self.done.push(parked);
                means.commit.add(Counter::HeldDropped, 1);
                true
            }
            _ => self.sessions.drop_oldest(),
        }
    }

    /// Where packets lie that turned out to be somebody else's; since the last call.
    pub fn take_foreign(&mut self) -> Vec<Position> {
        self.sessions.take_foreign()
    }

    /// Adds where packets lie that need not be looked at again; since the last call.
    pub fn take_done(&mut self, done: &mut Vec<Position>) {
        done.append(&mut self.done);
        self.sessions.take_done(done);
    }

    /// See [`Journal::keep`].
    pub fn keep(&mut self, position: u64, body: &[u8]) {
        Journal::keep(position, body, &mut self.sessions);
    }
}

/// Encodes the secrets of a session, for one of its packets.
fn put_keys(keys: &SessionKeys, decoded: &Decoded, out: &mut Vec<u8>) {
    let Some((source, destination)) = decoded.addresses else {
        return;
    };
    let [source, destination] = [source, destination].map(AddressText::new);
    let (src_port, dst_port) = decoded.ports.unwrap_or_default();
    let secret = |label| keys.secrets.get(label).map_or(&b""[..], |one| one.bytes());
    TlsKeys {
        client_random: &keys.client_random,
        server_random: &keys.server_random,
        version: keys.version,
        cipher: keys.cipher,
        secrets: Label::ALL.map(secret),
        src_ip: source.as_str(),
        src_port,
        dst_ip: destination.as_str(),
        dst_port,
    }
    .put(out);
}

/// What protocols have told of a packet: by itself, and of all packets of its exchanges. Only of exchanges that are wanted.
struct Told<'p> {
    /// Protocol, info, details, blocks; what counts most first.
    parts: Vec<(&'static str, &'p str, &'p [u8], &'p [u8])>,
}

impl<'p> Told<'p> {
    fn of(packet: &'p Packet, exchanges: &'p super::exchanges::Exchanges) -> Self {
        let is_wanted = |exchange| packet.wanted(exchanges).any(|wanted| wanted == exchange);
        let notes = packet.notes.iter();
        let notes = notes.filter(|(exchange, ..)| is_wanted(*exchange));
        let notes = notes.map(|(_, _, note)| (note.protocol, note.info, note.details, note.blocks));
        let about = packet.wanted(exchanges).filter_map(|exchange| {
            let about = exchanges.about(exchange)?;
            Some((
                about.protocol,
                &*about.info,
                &*about.details,
                &*about.blocks,
            ))
        });
        Self {
            parts: notes.chain(about).collect(),
        }
    }

    fn protocol(&self) -> &'static str {
        let mut all = self.parts.iter().map(|(protocol, ..)| *protocol);
        all.find(|protocol| !protocol.is_empty())
            .unwrap_or_default()
    }

    fn info(&self) -> &'p str {
        let mut all = self.parts.iter().map(|(_, info, ..)| *info);
        all.find(|info| !info.is_empty()).unwrap_or_default()
    }

    /// What counts most last.
    fn details(&self) -> impl Iterator<Item = &'p [u8]> {
        self.parts.iter().rev().map(|(_, _, details, _)| *details)
    }

    fn blocks(&self) -> &'p [u8] {
        let mut all = self.parts.iter().map(|(.., blocks)| *blocks);
        all.find(|blocks| !blocks.is_empty()).unwrap_or_default()
    }
}
