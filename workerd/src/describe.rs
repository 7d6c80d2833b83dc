//! What is told of a forwarded packet beside its addresses: the protocol of its flow, a line for people, and details.
//!
//! Flows are followed from their first forwarded packet on: what nobody asks for costs nothing here. A packet that did not
//! fit the tx ring comes again, and is not observed a second time.

use lc_proto::details::Details as Encoded;
use shm_layout::packet::PacketHeader;
use shm_layout::worker::{InProgress, WorkerCommit};

use crate::decode::{self, Decoded, Transport};
use crate::detect::{Context, Details, Detector, Flow, Layer};
use crate::flows::{Direction, FlowTable, NoMemory, Seed, Signal, Timeouts, Zone};

/// Follows the flows of forwarded packets.
pub struct Describer {
    flows: FlowTable<Flow>,
    detector: Detector,
    details: Details,
    encoded: Encoded,
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
            encoded: Encoded::default(),
            last: None,
            protocol: "",
        })
    }

    /// Describes the packet `identity`, whose bytes are `frame`.
    #[inline]
    pub fn describe(
        &mut self,
        identity: InProgress,
        header: &PacketHeader,
        decoded: &Decoded,
        frame: &[u8],
    ) -> Described<'_> {
        if self.last.replace(identity) != Some(identity) {
            self.observe(header, decoded, frame);
        }
        Described {
            protocol: self.protocol,
            info: self.details.info(),
            details: self.encoded.encoded(),
        }
    }

    fn observe(&mut self, header: &PacketHeader, decoded: &Decoded, frame: &[u8]) {
        self.protocol = "";
        self.details.clear();
        self.encoded.clear();
        let mut alone = Flow::default();
        let time_ns = header.timestamp_ns;
        let seen = match self.flows.probe(decoded, Zone::NONE) {
            Some(probe) => {
                let context = Context::decoded(decoded, frame, true, time_ns);
                let signal = match (decoded.transport, &context) {
                    (Some(Transport::Tcp), Some(tcp)) => Signal::of_tcp_flags(tcp.tcp_flags),
                    _ => Signal::None,
                };
                let flow = self.flows.observe(&probe, time_ns, signal);
                context.map(|context| {
                    let forward = flow.direction == Direction::Request;
                    (Context { forward, ..context }, flow.memory)
                })
            }
            None => without_flow(header, decoded, frame).map(|context| (context, &mut alone)),
        };
        let Some((context, flow)) = seen else {
            return;
        };
        let Some(verdict) = self.detector.observe(&context, flow) else {
            return;
        };
        self.protocol = verdict.protocol.name();
        self.detector.describe(&context, flow, &mut self.details);
        for (key, value) in self.details.iter() {
            self.encoded.put(key, value);
        }
    }

    /// Once per batch: forgets flows that have been silent for too long, and adds what happened to `commit`.
    pub fn report(&mut self, commit: &mut WorkerCommit) {
        self.flows.prepare(&[]);
        self.flows.report(commit);
    }
}

/// ARP and ICMP.
fn without_flow<'a>(
    header: &PacketHeader,
    decoded: &Decoded,
    frame: &'a [u8],
) -> Option<Context<'a>> {
    if let Some(arp) = decode::arp(header.link_type, frame) {
        return Some(Context::new(Layer::Arp, (0, 0), arp));
    }
    Context::decoded(decoded, frame, true, header.timestamp_ns)
}
