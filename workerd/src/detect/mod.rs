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
pub(crate) mod details;
mod dhcp;
mod diameter;
mod dns;
mod dtls;
pub(crate) mod fields;
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
mod pfcp;
mod pop3;
mod postgresql;
mod pptp;
mod protocol;
pub(crate) mod proxy;
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
mod ssdp;
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
pub use details::{Details, Text, Value, Writer};
pub use protocol::Protocol;
pub use signature::{Notes, Signature, Verdict};

use memory::{Memory, Scratch};
use std::ops::IndexMut;

/// Packets with payload after which an undecided flow is given up.
pub const MOST_PACKETS: u8 = 16;
/// Bytes of payload after which an undecided flow is given up.
pub const MOST_BYTES: u32 = 32 * 1024;

/// A segment below so many bytes is also judged together with those before it.
const SHORT: usize = 8;

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
    &pfcp::Pfcp,
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
    &ssdp::Ssdp,
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

    /// A flow of which it is known from elsewhere that it carries `protocol`.
    #[must_use]
    pub fn decided(protocol: Protocol) -> Self {
        Self {
            protocol,
            ..Self::default()
        }
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
            let alone = self.judge(context, flow, candidates);
            let short = context.tcp() && context.payload.len() < SHORT;
            alone.or_else(|| short.then(|| self.judge_joined(context, flow))?)
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

    /// Judges a short segment together with those before it: where bytes come one by one, no
    /// segment alone says anything.
    fn judge_joined(&mut self, context: &Context<'_>, flow: &mut Flow) -> Option<Verdict> {
        let joined = flow.scratch.join(context.forward, context.payload)?;
        let payload = joined.as_bytes();
        let candidates = self.candidates[Layer::Tcp as usize][usize::from(*payload.first()?)];
        self.judge(
            &Context {
                payload,
                ..*context
            },
            flow,
            candidates,
        )
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
        let starts = self.candidates[context.layer as usize][usize::from(*first)];
        let candidates = starts & plan.upgrades;
        if candidates != 0
            && let Some(verdict) = self.judge(context, flow, candidates)
        {
            self.counters.upgraded += u64::from(verdict.protocol != flow.protocol);
            self.settle(context, flow, verdict);
        } else if plan.watch && starts & 1 << plan.signature != 0 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Addr;
    use proptest::prelude::*;

    /// Starts that lead into the parsers.
    const SEEDS: &[&[u8]] = &[
        b"",
        b"INVITE sip:a@b SIP/2.0\r\nFrom: \"x\" <sip:a@b>;tag=1\r\n\r\nc=IN IP4 1.2.3.4\r\nm=audio 9 RTP/AVP 0\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"\x16\x03\x01\x00\x80\x01\x00\x00\x7c\x03\x03",
        b"\x16\xfe\xfd\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02",
        b"\x00\x01\x00\x08\x21\x12\xa4\x42",
        b"\x80\x00\x00\x01\x00\x00\x00\x01\x12\x34\x56\x78",
        b"\x80\xc8\x00\x01",
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00",
        b"\xc0\x00\x00\x00\x01\x08",
        b"\x30\x82\x00\x26\x02\x01",
        b"\x01\x00\x00\x20\x80\x00\x01\x01",
        b"\x48\x20\x00\x08",
        b"\x34\xff\x00\x20",
        b"\x6a\x0c\x30\x0a\xa1\x03",
        b"\x10\x11\x00\x04MQTT\x05",
        b"\xff\xfb\x01\xff\xfa",
        b"*2\r\n$3\r\nGET\r\n",
        b"\x00\x03\x00\x14\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x03\x01\x00",
        b"\x00\x01\x08\x00\x06\x04\x00\x01",
        b"SSH-2.0-",
        b"220-a\r\n",
        b"a1 LOGIN ",
    ];
    const PORTS: &[u16] = &[
        0, 20, 21, 22, 23, 25, 53, 67, 80, 110, 123, 143, 161, 443, 500, 1194, 1701, 1723, 2123,
        2152, 2427, 3306, 4500, 4789, 5060, 5432, 6379, 20000, 27017, 40001, 51820,
    ];

    proptest! {
        #[test]
        fn no_packets_break_it(
            layer in prop::sample::select(Layer::ALL.to_vec()),
            ports in (prop::sample::select(PORTS), prop::sample::select(PORTS)),
            packets in prop::collection::vec(
                (prop::sample::select(SEEDS), prop::collection::vec(any::<u8>(), 0..300), any::<bool>(), 0usize..400),
                1..8,
            ),
        ) {
            let (mut detector, mut flow, mut details) = (Detector::new(), Flow::default(), Details::new());
            for (seed, rest, forward, cut) in packets {
                let payload = [seed, &rest].concat();
                let mut context = Context::new(layer, ports, &payload[..payload.len().min(cut)]);
                context.forward = forward;
                context.addresses = (Addr::V4(1), Addr::V4(2));
                let verdict = detector.observe(&context, &mut flow);
                detector.describe(&context, &mut flow, &mut details);
                let silent = context.payload.is_empty();
                prop_assert_eq!(verdict.is_none(), details.info().is_empty());
                prop_assert!(silent || verdict == flow.verdict());
            }
        }
    }

    #[test]
    fn every_protocol_has_one_signature() {
        for protocol in &Protocol::ALL[1..] {
            let of = |signature: &&&dyn Signature| signature.protocols().contains(protocol);
            assert_eq!(
                SIGNATURES.iter().filter(of).count(),
                1,
                "{}",
                protocol.name()
            );
        }
    }

    #[test]
    fn an_undecided_flow_is_given_up() {
        let (mut detector, mut flow) = (Detector::new(), Flow::default());
        let context = Context::new(Layer::Tcp, (9, 9), b"\xee\xee\xee");
        for _ in 0..u32::from(MOST_PACKETS) * 2 {
            assert_eq!(detector.observe(&context, &mut flow), None);
        }
        assert!(flow.given_up());
        assert_eq!(detector.counters().judged, u64::from(MOST_PACKETS));
        assert_eq!(detector.counters().given_up, 1);
        let (large, mut flow) = ([0xee; 20_000], Flow::default());
        let context = Context::new(Layer::Tcp, (9, 9), &large);
        detector.observe(&context, &mut flow);
        assert!(!flow.given_up());
        detector.observe(&context, &mut flow);
        assert!(flow.given_up());
    }

    #[test]
    fn a_flow_turns_into_what_it_was_upgraded_to() {
        let (mut detector, mut flow) = (Detector::new(), Flow::default());
        let mut observe = |payload: &[u8]| {
            let context = Context::new(Layer::Tcp, (40000, 80), payload);
            detector
                .observe(&context, &mut flow)
                .map(|verdict| verdict.protocol)
        };
        assert_eq!(
            observe(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
            Some(Protocol::Http)
        );
        assert_eq!(observe(b"continues"), Some(Protocol::Http));
        let upgrade = b"GET /c HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Key: k\r\n\r\n";
        assert_eq!(observe(upgrade), Some(Protocol::WebSocket));
        assert_eq!(observe(b"\x81\x05Hello"), Some(Protocol::WebSocket));
        assert_eq!(detector.counters().upgraded, 1);
    }

    #[test]
    fn a_body_does_not_turn_its_flow_into_another() {
        let (mut detector, mut flow) = (Detector::new(), Flow::default());
        let mut observe = |payload: &[u8]| {
            let context = Context::new(Layer::Tcp, (40000, 8443), payload);
            let verdict = detector.observe(&context, &mut flow);
            verdict.map(|verdict| verdict.protocol)
        };
        let request = b"PUT / HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(observe(request), Some(Protocol::Http));
        let spread: Vec<u8> = (0..64).map(|at| 0x80 | (at % 40)).collect();
        assert_eq!(observe(&spread), Some(Protocol::Http));
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        assert_eq!(observe(&settings), Some(Protocol::Http));
        assert_eq!(
            observe(&[22, 3, 1, 0, 5, 1, 0, 0, 1, 3, 3]),
            Some(Protocol::Tls)
        );
    }

    #[test]
    fn a_batch_is_answered_in_order() {
        let mut detector = Detector::new();
        let banner = Context::new(Layer::Tcp, (22, 4000), b"SSH-2.0-x\r\n");
        let next = Context::new(Layer::Tcp, (22, 4000), b"\0\0\0\x10");
        let other = Context::new(Layer::Tcp, (23, 4000), b"\0\0\0\x10");
        let mut table = [Flow::default(); 2];
        let mut verdicts = Vec::new();
        detector.observe_batch(
            &[banner, other, next],
            &[0, 1, 0],
            &mut table[..],
            &mut verdicts,
        );
        let names: Vec<_> = verdicts
            .iter()
            .map(|verdict| verdict.map(|verdict| verdict.protocol))
            .collect();
        assert_eq!(names, [Some(Protocol::Ssh), None, Some(Protocol::Ssh)]);
    }

    #[test]
    fn bytes_that_come_one_by_one_are_put_together() {
        let (mut detector, mut flow) = (Detector::new(), Flow::default());
        let mut observe = |ports, forward, payload: &[u8]| {
            let mut context = Context::new(Layer::Tcp, ports, payload);
            context.forward = forward;
            detector.observe(&context, &mut flow)
        };
        for byte in b"\x16\x03\x01\x00\x04" {
            assert_eq!(observe((40000, 40001), true, &[*byte]), None);
            // The other end's bytes are not mixed in.
            assert_eq!(observe((40001, 40000), false, b"x"), None);
        }
        let verdict = observe((40000, 40001), true, b"\x01").unwrap();
        assert_eq!(verdict.protocol, Protocol::Tls);
    }
}
