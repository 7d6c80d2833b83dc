//! DNS (RFC 1035 section 4.1, RFC 4035 section 3 for AD and CD), mDNS (RFC 6762), LLMNR (RFC 4795).
//!
//! A header whose counts and flags are possible, and behind it a first question or record whose name
//! and class are well-formed. Over TCP, the length in front (RFC 1035 section 4.2.2). Names of
//! NetBIOS (RFC 1002 section 4.1), which share the header, are not DNS.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, byte};
use super::memory::Scratch;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Dns;

const PORTS: &[u16] = &[53];
/// Name service and datagram service of NetBIOS.
const NETBIOS: &[u16] = &[137, 138];
const UPDATE: u16 = 5;
const OPCODES: [&str; 7] = [
    "QUERY", "IQUERY", "STATUS", "Reserved", "NOTIFY", "UPDATE", "DSO",
];
const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE",
];

struct Header {
    id: u16,
    flags: u16,
    /// Questions, answers, authority, additional.
    counts: [u16; 4],
}

impl Header {
    /// The message of a packet.
    fn of(context: &Context<'_>) -> Option<Self> {
        if context.on(NETBIOS) {
            return None;
        }
        if context.udp() {
            return Self::read(context.payload);
        }
        let len = usize::from(be16(context.payload, 0)?);
        let message = context.payload.get(2..)?;
        (len >= message.len()).then(|| Self::read(message))?
    }

    fn read(message: &[u8]) -> Option<Self> {
        let header = Self {
            id: be16(message, 0)?,
            flags: be16(message, 2)?,
            counts: [
                be16(message, 4)?,
                be16(message, 6)?,
                be16(message, 8)?,
                be16(message, 10)?,
            ],
        };
        let [questions, answers, ..] = header.counts;
        let total: u32 = header.counts.into_iter().map(u32::from).sum();
        let possible = header.flags & 0x40 == 0
            && header.opcode() <= 6
            && questions <= 100
            && answers <= 100
            && (1..=200).contains(&total)
            && (header.response() || questions >= 1);
        (possible && first_entry(message, questions > 0)).then_some(header)
    }

    fn response(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    fn opcode(&self) -> u16 {
        self.flags >> 11 & 15
    }
}

/// Whether the first question (or record) has a name, a type and a class.
fn first_entry(message: &[u8], question: bool) -> bool {
    let Some(end) = name_end(message, 12) else {
        return false;
    };
    let (Some(kind), Some(class)) = (be16(message, end), be16(message, end + 2)) else {
        return false;
    };
    // The top bit is mDNS's (RFC 6762 section 18.12).
    let class = class & 0x7fff;
    let class_is_size = !question && kind == 41;
    kind != 0 && (class_is_size || matches!(class, 1 | 3 | 4 | 254 | 255))
}

/// Behind the name at `at`.
fn name_end(message: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..128 {
        match byte(message, at)? {
            0 => return Some(at + 1),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
    None
}

impl Signature for Dns {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Dns]
    }

    fn starts(&self, layer: Layer, _: u8) -> bool {
        matches!(layer, Layer::Udp | Layer::Tcp)
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let header = Header::of(context)?;
        let query = header.opcode() == 0;
        let usual = (1..10).contains(&header.counts[0]);
        let (on, off) = match (context.udp(), query, usual) {
            (true, true, true) => (906, 604),
            (true, false, false) => (950, 633),
            (true, ..) => (923, 615),
            (false, ..) => (940, 627),
        };
        let confidence = Confidence::by_port(context.on(PORTS), on, off);
        verdict(Protocol::Dns, confidence)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        notes: &mut Notes<'_>,
        details: &mut Details,
    ) {
        details.set_info("DNS Query/Response");
        let Some(header) = Header::of(context) else {
            return;
        };
        let flag = |bit: u16| header.flags & bit != 0;
        details.put("transaction_id", header.id);
        details.put("is_response", header.response());
        details.put("authoritative", flag(0x0400));
        details.put("truncated", flag(0x0200));
        details.put("recursion_desired", flag(0x0100));
        details.put("recursion_available", flag(0x0080));
        details.put("opcode", OPCODES[usize::from(header.opcode()).min(6)]);
        let rcode = RCODES.get(usize::from(header.flags & 15));
        details.put("rcode", rcode.unwrap_or(&"Unknown"));
        for (key, count) in ["questions", "answers", "authority", "additional"]
            .into_iter()
            .zip(header.counts)
        {
            details.put(key, count);
        }
        if header.response()
            && let Some(asked_ms) = answered(notes.scratch, header.id)
        {
            let now_ms = milliseconds(context.time_ns);
            details.put("query_response_time_ms", now_ms.wrapping_sub(asked_ms));
            details.put("correlated_query", true);
        }
    }

    fn watches(&self) -> bool {
        true
    }

    fn watch(&self, context: &Context<'_>, notes: &mut Notes<'_>) {
        let Some(header) = Header::of(context) else {
            return;
        };
        if !header.response() && header.opcode() != UPDATE {
            asked(notes.scratch, header.id, milliseconds(context.time_ns));
        }
    }
}

/// From 1, so that 0 can mark what is empty.
fn milliseconds(time_ns: u64) -> u32 {
    ((time_ns / 1_000_000) as u32).wrapping_add(1)
}

/// Remembers a query in the place of the oldest.
fn asked(scratch: &mut Scratch, query: u16, now_ms: u32) {
    let (mut id, mut at_ms) = match *scratch {
        Scratch::Queries { id, at_ms } => (id, at_ms),
        _ => ([0; 3], [0; 3]),
    };
    let place = (0..3).min_by_key(|place| at_ms[*place]).unwrap_or(0);
    (id[place], at_ms[place]) = (query, now_ms);
    *scratch = Scratch::Queries { id, at_ms };
}

/// Forgets a query, and says when it was seen.
fn answered(scratch: &mut Scratch, query: u16) -> Option<u32> {
    let Scratch::Queries { id, at_ms } = scratch else {
        return None;
    };
    let place = (0..3).find(|place| id[*place] == query && at_ms[*place] != 0)?;
    Some(std::mem::take(&mut at_ms[place]))
}
