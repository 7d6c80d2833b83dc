//! What is told of a forwarded packet beside its addresses: the protocol of its flow, a line for people, and details.
//!
//! Flows are followed from their first forwarded packet on: what nobody asks for costs nothing here. A packet that did not
//! fit the tx ring comes again, and is not observed a second time.

use shm_layout::packet::PacketHeader;
use shm_layout::worker::{InProgress, WorkerCommit};

use crate::decode::{self, Decoded};
use crate::detect::{Context, Details, Detector, Flow, Layer};
use crate::flows::{Direction, FlowTable, NoMemory, Probe, Seed, Signal, Timeouts, Zone};

/// Follows the flows of forwarded packets.
pub struct Describer {
    flows: FlowTable<Flow>,
    detector: Detector,
    details: Details,
    /// What was described last.
    last: Option<InProgress>,
    protocol: &'static str,
}

/// What is told of one packet. Everything is empty when nothing is known.
#[derive(Clone, Copy)]
pub struct Described<'a> {
    /// The protocol that its flow carries.
    pub protocol: &'static str,
    /// A line for people.
    pub info: &'a str,
    /// Keys and values, encoded.
    pub details: &'a [u8],
    /// What only some protocols have, encoded.
    pub blocks: &'a [u8],
}

impl Describer {
    /// Remembers flows in `bytes` of memory.
    ///
    /// # Errors
    /// [`NoMemory`]
    pub fn new(bytes: usize) -> Result<Self, NoMemory> {
        Ok(Self {
            flows: FlowTable::new(bytes, Seed::random(), &Timeouts::default())?,
            detector: Detector::new(),
            details: Details::new(),
            last: None,
            protocol: "",
        })
    }

    /// How to find the flow of a packet, if it has one.
    #[inline]
    #[must_use]
    pub fn probe(&self, decoded: &Decoded) -> Option<Probe> {
        self.flows.probe(decoded, Zone::NONE)
    }

    /// Once per batch: has the flows of its packets fetched, and forgets some of those that have been silent for too long.
    pub fn prepare(&mut self, probes: &[Probe]) {
        self.flows.prepare(probes);
    }

    /// Describes the packet `identity`, which belongs to `flow` and says something of its connection. Its bytes are made by `frame` if they
    /// are needed.
    #[inline]
    pub fn describe<'f>(
        &mut self,
        identity: InProgress,
        header: &PacketHeader,
        decoded: &Decoded,
        flow: Option<(&Probe, Signal)>,
        frame: impl FnOnce() -> &'f [u8],
    ) -> Described<'_> {
        if self.last.replace(identity) != Some(identity) {
            self.protocol = "";
            self.details.clear();
            match flow {
                Some(flow) => self.observe(flow, header, decoded, frame),
                None => self.observe_alone(header, decoded, frame()),
            }
        }
        Described {
            protocol: self.protocol,
            info: self.details.info(),
            details: self.details.encoded(),
            blocks: &[],
        }
    }

    #[inline]
    fn observe<'f>(
        &mut self,
        (probe, signal): (&Probe, Signal),
        header: &PacketHeader,
        decoded: &Decoded,
        frame: impl FnOnce() -> &'f [u8],
    ) {
        let time_ns = header.timestamp_ns;
        let flow = self.flows.observe(probe, time_ns, signal);
        // The end of a connection may tell what the rest of it did not.
        if flow.memory.given_up() && signal == Signal::None {
            return;
        }
        let forward = flow.direction == Direction::Request;
        if let Some(context) = Context::decoded(decoded, frame(), forward, time_ns)
            && let Some(verdict) = self.detector.observe(&context, flow.memory)
        {
            self.protocol = verdict.protocol.name();
            self.detector
                .describe(&context, flow.memory, &mut self.details);
        }
    }

    /// ARP, and what has no flow.
    fn observe_alone(&mut self, header: &PacketHeader, decoded: &Decoded, frame: &[u8]) {
        let context = match decode::arp(header.link_type, frame) {
            Some(arp) => Some(Context::new(Layer::Arp, (0, 0), arp)),
            None => Context::decoded(decoded, frame, true, header.timestamp_ns),
        };
        let mut flow = Flow::default();
        if let Some(context) = context
            && let Some(verdict) = self.detector.observe(&context, &mut flow)
        {
            self.protocol = verdict.protocol.name();
            self.detector
                .describe(&context, &mut flow, &mut self.details);
        }
    }

    /// Adds what became of flows to `commit`.
    pub fn report(&mut self, commit: &mut WorkerCommit) {
        self.flows.report(commit);
    }
}
