//! What a flow carries: its protocol, and what a packet of it says.
//!
//! Two questions, asked at different times:
//!
//! 1. **Which protocol?** [`Detector::observe`], for every packet. Until a flow is decided, its
//!    payloads are judged: the layer and the first byte choose the signatures that can match at all
//!    ([`SIGNATURES`] in order of priority), and the first of them that matches decides. From then
//!    on the answer is remembered in [`Flow`] and costs a look-up, unless a packet starts like
//!    something that the protocol can turn into (STARTTLS, HTTP upgrades): then those signatures
//!    alone are asked again. A flow that stays undecided after [`MOST_PACKETS`] packets or
//!    [`MOST_BYTES`] bytes of payload is given up.
//! 2. **What does this packet say?** [`Detector::describe`], for packets that are forwarded: a line
//!    of text and keys with values, into a buffer that is used again.
//!
//! A port alone never decides: where a rule names ports, the payload must fit too, and ports weigh
//! in the confidence. There is no clock but the packets' own time. Nothing allocates after
//! [`Detector::new`], and no input panics.
//!
//! ```
//! use lc_workerd::detect::{Context, Details, Detector, Flow, Layer};
//!
//! let mut detector = Detector::new(); // one per worker
//! let mut details = Details::new(); // one per worker
//! let mut flow = Flow::default(); // one per flow, in the flow table
//!
//! let payload = b"SSH-2.0-OpenSSH_9.6\r\n";
//! let context = Context::new(Layer::Tcp, (22, 40000), payload);
//! let verdict = detector.observe(&context, &mut flow).expect("a banner is enough");
//! assert_eq!(verdict.protocol.name(), "SSH");
//!
//! // Only if the packet is forwarded:
//! detector.describe(&context, &mut flow, &mut details);
//! assert_eq!(details.info(), "SSH-2.0-OpenSSH_9.6");
//! assert_eq!(details.get("software"), Some("OpenSSH_9.6"));
//! ```
//!
//! Contexts of captured packets come from [`Context::decoded`].
//!
//! A packet without a flow (ARP, ICMP) is observed with a flow of its own, made by
//! [`Flow::default`]. Fragments are not observed at all: their payload starts anywhere.
//!
//! Rules, sources and vectors of every protocol stand in `docs/DETECTION.md`; the code of each is
//! one file here, which opens with its rule.

mod arp;
mod bgp;
mod confidence;
mod context;
mod details;
mod dhcp;
mod diameter;
mod dns;
mod dtls;
mod fields;
mod ftp;
mod gtp;
mod http;
mod http2;
mod icmp;
mod ike;
mod imap;
mod kerberos;
mod l2tp;
mod ldap;
mod m3ua;
mod megaco;
mod memory;
mod mgcp;
mod mongodb;
mod mqtt;
mod msrp;
mod mysql;
mod nfs;
mod ntp;
mod openvpn;
mod pop3;
mod postgresql;
mod pptp;
mod protocol;
mod quic;
mod radius;
mod rdp;
mod redis;
mod reply;
mod rtcp;
mod rtp;
mod rtsp;
mod sctp;
mod signature;
mod sip;
mod smb;
mod smtp;
mod snmp;
mod ssh;
mod stun;
mod t38;
mod telnet;
mod tls;
mod vxlan;
mod websocket;
mod wireguard;

pub use confidence::Confidence;
pub use context::{Context, FIN, Layer, RST};
pub use details::{Details, Text};
pub use protocol::Protocol;
pub use signature::{Notes, Signature, Verdict};

use memory::{Memory, Scratch};
use std::ops::IndexMut;

/// Packets with payload after which an undecided flow is given up.
pub const MOST_PACKETS: u8 = 16;
/// Bytes of payload after which an undecided flow is given up.
pub const MOST_BYTES: u32 = 32 * 1024;

/// Protocols that all packets of their flows belong to, those without payload too, as in the
/// reference.
const PASSIVE: [Protocol; 2] = [Protocol::Tls, Protocol::Quic];

/// Every signature, in order of priority: the first that matches decides. Those that the reference
/// lacks stand behind SIP: their marks are long enough not to take what is another's.
pub static SIGNATURES: &[&dyn Signature] = &[
    &sip::Sip,
    &stun::Stun,
    &dtls::Dtls,
    &rtsp::Rtsp,
    &msrp::Msrp,
    &mgcp::Mgcp,
    &megaco::Megaco,
    &diameter::Diameter,
    &gtp::Gtp,
    &vxlan::Vxlan,
    &radius::Radius,
    &m3ua::M3ua,
    &t38::T38,
    &bgp::Bgp,
    &ldap::Ldap,
    &kerberos::Kerberos,
    &smb::Smb,
    &rdp::Rdp,
    &mqtt::Mqtt,
    &nfs::Nfs,
    &rtcp::Rtcp,
    &rtp::Rtp,
    &http2::Http2,
    &dns::Dns,
    &quic::Quic,
    &dhcp::Dhcp,
    &tls::Tls,
    &ntp::Ntp,
    &openvpn::OpenVpn,
    &l2tp::L2tp,
    &pptp::Pptp,
    &ike::Ike,
    &ssh::Ssh,
    &snmp::Snmp,
    &wireguard::WireGuard,
    &imap::Imap,
    &ftp::Ftp,
    &smtp::Smtp,
    &pop3::Pop3,
    &arp::Arp,
    &websocket::WebSocket,
    &mysql::MySql,
    &postgresql::PostgreSql,
    &mongodb::MongoDb,
    &redis::Redis,
    &icmp::Icmp,
    &icmp::IcmpV6,
    &telnet::Telnet,
    &http::Http,
];

/// What a flow remembers of its detection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    scratch: Scratch,
    bytes: u16,
    confidence: Confidence,
    packets: u8,
    protocol: Protocol,
}

const _: () = assert!(size_of::<Flow>() <= 32);

impl Flow {
    /// What was decided.
    #[inline]
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        (self.protocol != Protocol::Unknown).then_some(Verdict {
            protocol: self.protocol,
            confidence: self.confidence,
        })
    }

    /// Whether nothing was found in as many packets as are looked at.
    #[inline]
    #[must_use]
    pub fn given_up(&self) -> bool {
        self.protocol == Protocol::Unknown && self.packets >= MOST_PACKETS
    }
}

/// What was done, since the detector was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets answered from their flow.
    pub remembered: u64,
    /// Packets whose payload was judged.
    pub judged: u64,
    /// Flows decided.
    pub decided: u64,
    /// Flows that turned into another protocol.
    pub upgraded: u64,
    /// Flows given up.
    pub given_up: u64,
}

/// A set of signatures: bit n is `SIGNATURES[n]`.
type Candidates = u64;

const _: () = assert!(SIGNATURES.len() <= Candidates::BITS as usize);

/// What to do with packets of a decided flow.
#[derive(Clone, Copy, Default)]
struct Plan {
    /// Its signature, as an index.
    signature: u8,
    /// Whether that wants to see them.
    watch: bool,
    /// What it can turn into.
    upgrades: Candidates,
}

/// Judges the packets of one worker.
pub struct Detector {
    memory: Memory,
    /// By layer and first byte.
    candidates: Box<[[Candidates; 256]; Layer::COUNT]>,
    /// By protocol.
    plans: [Plan; protocol::COUNT],
    counters: Counters,
}

impl Detector {
    /// A detector that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self {
            memory: Memory::new(),
            candidates: candidates(),
            plans: plans(),
            counters: Counters::default(),
        }
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Takes note of a packet and says what it carries, if that is known. A packet without payload
    /// carries nothing, except in flows of TLS and QUIC; its flow keeps what it knows.
    #[inline]
    pub fn observe(&mut self, context: &Context<'_>, flow: &mut Flow) -> Option<Verdict> {
        if flow.protocol == Protocol::Unknown {
            return self.decide(context, flow);
        }
        if context.payload.is_empty() && !PASSIVE.contains(&flow.protocol) {
            return sip::teardown(context, &self.memory);
        }
        self.counters.remembered += 1;
        let plan = self.plans[flow.protocol as usize];
        if plan.watch || plan.upgrades != 0 {
            self.follow(context, flow, plan);
        }
        flow.verdict()
    }

    /// Observes `packets`, whose flows are `table[slots[n]]`, in order; several may share one.
    /// `verdicts` is emptied and receives one entry per packet.
    pub fn observe_batch<T>(
        &mut self,
        packets: &[Context<'_>],
        slots: &[usize],
        table: &mut T,
        verdicts: &mut Vec<Option<Verdict>>,
    ) where
        T: IndexMut<usize, Output = Flow> + ?Sized,
    {
        verdicts.clear();
        verdicts.extend(
            packets
                .iter()
                .zip(slots)
                .map(|(context, slot)| self.observe(context, &mut table[*slot])),
        );
    }

    /// Describes a packet that was observed, in `details`, which is cleared first. Nothing is said
    /// while the flow's protocol is unknown.
    pub fn describe(&mut self, context: &Context<'_>, flow: &mut Flow, details: &mut Details) {
        details.clear();
        let context = &context.above_sctp();
        let silent = context.payload.is_empty() && !PASSIVE.contains(&flow.protocol);
        let teardown = || sip::teardown(context, &self.memory).is_some();
        if flow.protocol == Protocol::Unknown || silent && !teardown() {
            return;
        }
        let signature = SIGNATURES[usize::from(self.plans[flow.protocol as usize].signature)];
        let mut notes = Notes {
            protocol: flow.protocol,
            scratch: &mut flow.scratch,
            memory: &mut self.memory,
        };
        signature.describe(context, flow.protocol, &mut notes, details);
        if details.info().is_empty() {
            details.set_info(flow.protocol.name());
        }
    }

    /// Judges a packet of an undecided flow.
    fn decide(&mut self, context: &Context<'_>, flow: &mut Flow) -> Option<Verdict> {
        let context = &context.above_sctp();
        let verdict = if let Some(first) = context.payload.first() {
            if flow.packets >= MOST_PACKETS {
                return None;
            }
            self.counters.judged += 1;
            let candidates = self.candidates[context.layer as usize][usize::from(*first)];
            self.judge(context, flow, candidates)
        } else {
            None
        };
        let verdict = verdict.or_else(|| sip::teardown(context, &self.memory));
        match verdict {
            Some(verdict) => {
                self.counters.decided += 1;
                self.settle(context, flow, verdict);
            }
            None => self.count(context, flow),
        }
        verdict
    }

    /// Counts a packet that decided nothing.
    fn count(&mut self, context: &Context<'_>, flow: &mut Flow) {
        if context.payload.is_empty() {
            return;
        }
        let bytes = u32::from(flow.bytes) + context.payload.len() as u32;
        flow.packets += 1;
        flow.bytes = bytes.min(u32::from(u16::MAX)) as u16;
        if bytes >= MOST_BYTES {
            flow.packets = MOST_PACKETS;
        }
        self.counters.given_up += u64::from(flow.packets >= MOST_PACKETS);
    }

    /// What a packet of a decided flow changes.
    fn follow(&mut self, context: &Context<'_>, flow: &mut Flow, plan: Plan) {
        let context = &context.above_sctp();
        let Some(first) = context.payload.first() else {
            return;
        };
        let candidates =
            self.candidates[context.layer as usize][usize::from(*first)] & plan.upgrades;
        if candidates != 0
            && let Some(verdict) = self.judge(context, flow, candidates)
        {
            self.counters.upgraded += u64::from(verdict.protocol != flow.protocol);
            self.settle(context, flow, verdict);
        } else if plan.watch {
            self.watch(context, flow, plan);
        }
    }

    /// The first verdict of `candidates`.
    fn judge(
        &mut self,
        context: &Context<'_>,
        flow: &mut Flow,
        mut candidates: Candidates,
    ) -> Option<Verdict> {
        while candidates != 0 {
            let signature = SIGNATURES[candidates.trailing_zeros() as usize];
            candidates &= candidates - 1;
            let mut notes = Notes {
                protocol: flow.protocol,
                scratch: &mut flow.scratch,
                memory: &mut self.memory,
            };
            if let Some(verdict) = signature.judge(context, &mut notes) {
                return Some(verdict);
            }
        }
        None
    }

    /// Stores a verdict; what the flow remembered for another protocol is dropped.
    fn settle(&mut self, context: &Context<'_>, flow: &mut Flow, verdict: Verdict) {
        if !matches!(verdict.protocol, Protocol::Rtp | Protocol::Srtp) {
            flow.scratch = Scratch::Empty;
        }
        flow.protocol = verdict.protocol;
        flow.confidence = verdict.confidence;
        let plan = self.plans[verdict.protocol as usize];
        if plan.watch {
            self.watch(context, flow, plan);
        }
    }

    fn watch(&mut self, context: &Context<'_>, flow: &mut Flow, plan: Plan) {
        let mut notes = Notes {
            protocol: flow.protocol,
            scratch: &mut flow.scratch,
            memory: &mut self.memory,
        };
        SIGNATURES[usize::from(plan.signature)].watch(context, &mut notes);
    }
}

impl Default for Detector {
    fn default() -> Self {
        Self::new()
    }
}

/// The table of first bytes.
fn candidates() -> Box<[[Candidates; 256]; Layer::COUNT]> {
    let mut table = Box::new([[0; 256]; Layer::COUNT]);
    for (layer, row) in Layer::ALL.into_iter().zip(table.iter_mut()) {
        for (first, cell) in (0..=u8::MAX).zip(row.iter_mut()) {
            for (index, signature) in SIGNATURES.iter().enumerate() {
                *cell |= Candidates::from(signature.starts(layer, first)) << index;
            }
        }
    }
    table
}

fn plans() -> [Plan; protocol::COUNT] {
    let mut plans = [Plan::default(); protocol::COUNT];
    for (index, signature) in SIGNATURES.iter().enumerate() {
        for protocol in signature.protocols() {
            plans[*protocol as usize] = Plan {
                signature: index as u8,
                watch: signature.watches(),
                upgrades: signature
                    .upgrades()
                    .iter()
                    .fold(0, |set, to| set | producer(*to)),
            };
        }
    }
    plans
}

/// The signature that can detect `protocol`.
fn producer(protocol: Protocol) -> Candidates {
    let index = SIGNATURES
        .iter()
        .position(|signature| signature.protocols().contains(&protocol));
    index.map_or(0, |index| 1 << index)
}

/// The name and the description of a packet that starts its flow, for the signatures' tests.
#[cfg(test)]
fn probe(layer: Layer, ports: (u16, u16), payload: &[u8]) -> Option<(&'static str, Details)> {
    let (mut detector, mut flow) = (Detector::new(), Flow::default());
    let context = Context::new(layer, ports, payload);
    let verdict = detector.observe(&context, &mut flow)?;
    let mut details = Details::new();
    detector.describe(&context, &mut flow, &mut details);
    Some((verdict.protocol.name(), details))
}
