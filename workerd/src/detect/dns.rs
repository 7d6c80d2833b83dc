//! DNS (RFC 1035 section 4.1, RFC 4035 section 3 for AD and CD), mDNS (RFC 6762), LLMNR (RFC 4795).
//!
//! A header whose counts and flags are possible, and behind it a first question or record whose name
//! and class are well-formed. Over TCP, the length in front (RFC 1035 section 4.2.2). Names of
//! NetBIOS (RFC 1002 section 4.1), which share the header, are not DNS.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::memory::Scratch;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use crate::dns::framer;
use crate::dns::message::{Header, Message};

/// See the module.
pub struct Dns;

const PORTS: &[u16] = &[53];
/// Name service and datagram service of NetBIOS.
const NETBIOS: &[u16] = &[137, 138];
const UPDATE: u8 = 5;
const OPCODES: [&str; 7] = [
    "QUERY", "IQUERY", "STATUS", "Reserved", "NOTIFY", "UPDATE", "DSO",
];
const RCODES: [&str; 11] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "YXDOMAIN", "YXRRSET",
    "NXRRSET", "NOTAUTH", "NOTZONE",
];

/// The header of the message that a packet begins with.
fn header(context: &Context<'_>) -> Option<Header> {
    if context.on(NETBIOS) {
        return None;
    }
    let message = match context.udp() {
        true => context.payload,
        false => framer::first(context.payload)?,
    };
    Message::recognise(message).map(|message| message.header)
}

impl Signature for Dns {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Dns]
    }

    fn starts(&self, layer: Layer, _: u8) -> bool {
        matches!(layer, Layer::Udp | Layer::Tcp)
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let header = header(context)?;
        let query = header.opcode() == 0;
        let usual = (1..10).contains(&header.questions);
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
        let Some(header) = header(context) else {
            return;
        };
        details.put("transaction_id", header.id);
        details.put("is_response", header.is_response());
        details.put("authoritative", header.has(Header::AA));
        details.put("truncated", header.has(Header::TC));
        details.put("recursion_desired", header.has(Header::RD));
        details.put("recursion_available", header.has(Header::RA));
        details.put("opcode", OPCODES[usize::from(header.opcode()).min(6)]);
        let rcode = RCODES.get(usize::from(header.response_code()));
        details.put("rcode", rcode.unwrap_or(&"Unknown"));
        details.put("questions", header.questions);
        details.put("answers", header.answers);
        details.put("authority", header.authorities);
        details.put("additional", header.additions);
        if header.is_response()
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
        let Some(header) = header(context) else {
            return;
        };
        if !header.is_response() && header.opcode() != UPDATE {
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
