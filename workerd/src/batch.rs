//! Packets on their way through a worker, a batch at a time, in two passes.
//!
//! 1. Each packet is *taken*: its first bytes are copied out, decoded and judged; more of it only where the headers run on, or where
//!    filters want fields that it may have.
//! 2. Packets that are wanted are *forwarded*: described and emitted.
//!
//! Between the passes the flow table fetches what the second one will look up, for all packets at the same time ([`Batch::prepare`]):
//! a look-up that waits for memory takes longer than everything else that is done for a packet.
//!
//! Nothing of a packet is kept between the passes but what was found out; its bytes are read from the ring again. A peer that changes
//! them meanwhile gets other bytes forwarded than were judged, which it could have had anyway. Nothing is allocated once
//! the buffers have grown to what traffic and filters need.

use std::ops::Range;

use lc_daemon::config::Esp;
use shm_layout::packet::Packet;
use shm_layout::ring::{Full, RingWriter};
use shm_layout::wire::Priority;
use shm_layout::worker::{InProgress, WorkerCommit};

use crate::decode::{Decoded, Fault, Transport, decode};
use crate::describe::Describer;
use crate::emit::{Judged, Outgoing, emit};
use crate::esp::EspNull;
use crate::extract::{HEAD, extract, is_candidate};
use crate::flows::{Probe, Signal};
use crate::matcher::{Fields, FilterIndex, FilterSet, Kinds, Matches, Verdict};

/// Most packets of a batch.
pub const MOST: usize = 64;
/// Bytes of a packet that are copied out to be decoded; longer chains of headers are rare.
const WINDOW: usize = 192;

/// See the [module](self).
pub struct Batch {
    describer: Describer,
    esp: EspNull,
    taken: Vec<Taken>,
    /// Those of wanted packets.
    probes: Vec<Probe>,
    matched: Vec<FilterIndex>,
    window: [u8; WINDOW],
    /// A whole packet.
    frame: Vec<u8>,
    fields: Fields,
    matches: Matches,
}

/// What the first pass found out of a packet.
#[derive(Debug, Clone)]
pub struct Taken {
    /// Who it is.
    pub identity: InProgress,
    /// Where its record lies in the ring.
    pub place: Range<u64>,
    /// Bytes captured.
    pub bytes: u32,
    /// Its headers.
    pub decoded: Decoded,
    /// What becomes of it.
    pub verdict: Verdict,
    /// The filters that match, in [`Batch::matched`].
    matched: Range<usize>,
    /// Filters that match but are not told, and fields that were not compared: too many.
    pub left_out: (u64, u64),
    /// Its flow: which of [`Batch::probes`] finds it, and what the packet says of its connection.
    flow: Option<(usize, Signal)>,
}

impl Batch {
    /// An empty batch; `describer` describes what is forwarded.
    #[must_use]
    pub fn new(describer: Describer) -> Self {
        Self {
            describer,
            esp: EspNull::new(Esp::default()),
            taken: Vec::with_capacity(MOST),
            probes: Vec::with_capacity(MOST),
            matched: Vec::new(),
            window: [0; WINDOW],
            frame: Vec::new(),
            fields: Fields::default(),
            matches: Matches::default(),
        }
    }

    /// The same, but looks into ESP that is not encrypted.
    #[must_use]
    pub fn with_esp(mut self, esp: Esp) -> Self {
        self.esp = EspNull::new(esp);
        self
    }

    /// Begins a new batch.
    pub fn clear(&mut self) {
        self.taken.clear();
        self.probes.clear();
        self.matched.clear();
    }

    /// Packets that were taken, in order.
    #[must_use]
    #[inline]
    pub fn taken(&self) -> &[Taken] {
        &self.taken
    }

    /// Takes `packet`, whose record lies at `place` of its ring, and judges it. Returns it if it is done with: kept back, and no packet
    /// before it waits for the second pass, so that it can't come again.
    #[inline]
    pub fn take(
        &mut self,
        identity: InProgress,
        place: Range<u64>,
        packet: &Packet<'_>,
        filters: &FilterSet,
        bpf_active: bool,
    ) -> Option<Taken> {
        let len = packet.data.copy_to(&mut self.window);
        let mut head = &self.window[..len];
        #[cfg(debug_assertions)]
        crate::poison::taste(head);
        let link_type = packet.header.link_type;
        let mut decoded = decode(link_type, head);
        if decoded.fault.is_some_and(Fault::is_truncation) && len < packet.data.len() {
            head = copy_all(packet, &mut self.frame);
            decoded = decode(link_type, head);
        }
        if self.esp.concerns(&decoded) {
            head = copy_all(packet, &mut self.frame);
            let time_ns = packet.header.timestamp_ns;
            decoded = self.esp.open(&decoded, head, time_ns).unwrap_or(decoded);
        }
        self.fields.clear();
        let wanted = filters.wanted();
        let signal = signal(&decoded, head);
        if let Some(transport) = promises(&decoded, head, wanted) {
            let frame = copy_all(packet, &mut self.frame);
            let payload = decoded.payload_of(frame);
            extract(transport, payload, wanted, &mut self.fields);
        }
        let verdict = filters.judge(&decoded, &self.fields, bpf_active, &mut self.matches);
        let mut taken = Taken {
            identity,
            place,
            bytes: packet.header.captured_len,
            decoded,
            verdict,
            matched: 0..0,
            left_out: (0, 0),
            flow: None,
        };
        if !self.fields.is_empty() {
            taken.left_out.1 = self.fields.left_out();
        }
        if verdict.priority().is_some() {
            let matched = self.matched.len();
            taken.left_out.0 = self.matches.left_out();
            self.matched.extend_from_slice(self.matches.filters());
            taken.matched = matched..self.matched.len();
            taken.flow = self.describer.probe(&decoded).map(|probe| {
                self.probes.push(probe);
                (self.probes.len() - 1, signal)
            });
        } else if self.taken.is_empty() {
            return Some(taken);
        }
        self.taken.push(taken);
        None
    }

    /// Between the passes.
    pub fn prepare(&mut self) {
        self.describer.prepare(&self.probes);
    }

    /// Adds what became of flows to `commit`.
    pub fn report(&mut self, commit: &mut WorkerCommit) {
        self.describer.report(commit);
    }

    /// Describes packet `number` of the batch and emits it as number `ordinal` of the tx ring. `packet` is its record, read again.
    ///
    /// # Errors
    /// [`Full`], as [`RingWriter::reserve`]; the ring is unchanged then.
    #[inline]
    pub fn forward(
        &mut self,
        number: usize,
        priority: Priority,
        packet: &Packet<'_>,
        interface_name: &str,
        filters: &FilterSet,
        (tx, ordinal): (&mut RingWriter, u64),
    ) -> Result<(), Full> {
        let taken = &self.taken[number];
        let flow = taken.flow.map(|(at, signal)| (&self.probes[at], signal));
        let frame = &mut self.frame;
        let described =
            self.describer
                .describe(taken.identity, &packet.header, &taken.decoded, flow, || {
                    copy_all(packet, frame)
                });
        let matched = &self.matched[taken.matched.clone()];
        let judged = Judged {
            ids: matched.iter().map(|filter| filters.id(*filter)),
            priority,
        };
        let outgoing = Outgoing {
            header: &packet.header,
            decoded: &taken.decoded,
            interface_name,
            described,
            tls_keys: &[],
        };
        emit(tx, ordinal, outgoing, judged, |bytes| {
            packet.data.copy_to(bytes);
        })
    }
}

/// Copies a packet out of shared memory, to the start of `frame`, which only grows: clearing it would cost as much again.
fn copy_all<'s>(packet: &Packet<'_>, frame: &'s mut Vec<u8>) -> &'s [u8] {
    let len = packet.data.len();
    if frame.len() < len {
        frame.resize(len, 0);
    }
    packet.data.copy_to(&mut frame[..len]);
    &frame[..len]
}

/// What a packet says of its connection; `head` is as much of it as was decoded.
#[inline]
fn signal(decoded: &Decoded, head: &[u8]) -> Signal {
    let has_flags = decoded.transport == Some(Transport::Tcp) && decoded.payload > 0;
    match head.get(decoded.header + 13) {
        Some(flags) if has_flags && !decoded.fragment => Signal::of_tcp_flags(*flags),
        _ => Signal::None,
    }
}

/// Over which transport a packet may carry fields that filters want, as far as its first bytes tell.
#[inline]
fn promises(decoded: &Decoded, head: &[u8], wanted: Kinds) -> Option<Transport> {
    if wanted.is_empty() || decoded.payload == 0 {
        return None;
    }
    let transport = decoded.transport?;
    let is_seen = decoded.payload + HEAD <= head.len() || head.len() < WINDOW;
    let start = head.get(decoded.payload..).unwrap_or_default();
    (!is_seen || is_candidate(transport, start, wanted)).then_some(transport)
}
