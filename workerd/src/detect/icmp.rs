//! ICMP (RFC 792, RFC 950, RFC 1191, RFC 8335) and ICMPv6 (RFC 4443, RFC 4861, RFC 2710, RFC 3810).
//!
//! A known type with a code that it has.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// ICMP for IPv4.
pub struct Icmp;
/// ICMP for IPv6.
pub struct IcmpV6;

const UNREACHABLE: [&str; 16] = [
    "Network Unreachable",
    "Host Unreachable",
    "Protocol Unreachable",
    "Port Unreachable",
    "Fragmentation Needed",
    "Source Route Failed",
    "Destination Network Unknown",
    "Destination Host Unknown",
    "Source Host Isolated",
    "Network Administratively Prohibited",
    "Host Administratively Prohibited",
    "Network Unreachable for ToS",
    "Host Unreachable for ToS",
    "Communication Administratively Prohibited",
    "Host Precedence Violation",
    "Precedence Cutoff in Effect",
];
const REDIRECT: [&str; 4] = [
    "Redirect for Network",
    "Redirect for Host",
    "Redirect for ToS and Network",
    "Redirect for ToS and Host",
];
const EXCEEDED: [&str; 2] = [
    "TTL Expired in Transit",
    "Fragment Reassembly Time Exceeded",
];
const PROBLEM: [&str; 3] = [
    "Pointer Indicates Error",
    "Missing Required Option",
    "Bad Length",
];

/// A type's name and the names of its codes.
fn kind(kind: u8) -> Option<(&'static str, &'static [&'static str])> {
    Some(match kind {
        0 => ("Echo Reply", &[""]),
        3 => ("Destination Unreachable", &UNREACHABLE),
        4 => ("Source Quench", &[""]),
        5 => ("Redirect", &REDIRECT),
        8 => ("Echo Request", &[""]),
        9 => ("Router Advertisement", &[""]),
        10 => ("Router Solicitation", &[""]),
        11 => ("Time Exceeded", &EXCEEDED),
        12 => ("Parameter Problem", &PROBLEM),
        13 => ("Timestamp Request", &[""]),
        14 => ("Timestamp Reply", &[""]),
        15 => ("Information Request", &[""]),
        16 => ("Information Reply", &[""]),
        17 => ("Address Mask Request", &[""]),
        18 => ("Address Mask Reply", &[""]),
        30 => ("Traceroute", &[""]),
        40 => ("Photuris", &[""]),
        42 => ("Extended Echo Request", &[""]),
        43 => ("Extended Echo Reply", &[""]),
        _ => return None,
    })
}

/// As [`kind`], for ICMPv6.
fn kind_v6(kind: u8) -> Option<(&'static str, &'static [&'static str])> {
    Some(match kind {
        1 => (
            "Destination Unreachable",
            &[
                "No Route to Destination",
                "Communication Administratively Prohibited",
                "Beyond Scope of Source Address",
                "Address Unreachable",
                "Port Unreachable",
                "Source Address Failed Policy",
                "Reject Route to Destination",
                "Error in Source Routing Header",
                "Headers Too Long",
            ],
        ),
        2 => ("Packet Too Big", &[""]),
        3 => (
            "Time Exceeded",
            &[
                "Hop Limit Exceeded in Transit",
                "Fragment Reassembly Time Exceeded",
            ],
        ),
        4 => (
            "Parameter Problem",
            &[
                "Erroneous Header Field",
                "Unrecognized Next Header",
                "Unrecognized IPv6 Option",
            ],
        ),
        128 => ("Echo Request", &[""]),
        129 => ("Echo Reply", &[""]),
        130 => ("Multicast Listener Query", &[""]),
        131 => ("Multicast Listener Report", &[""]),
        132 => ("Multicast Listener Done", &[""]),
        133 => ("Router Solicitation", &[""]),
        134 => ("Router Advertisement", &[""]),
        135 => ("Neighbor Solicitation", &[""]),
        136 => ("Neighbor Advertisement", &[""]),
        137 => ("Redirect", &[""]),
        143 => ("Multicast Listener Report v2", &[""]),
        160 => ("Extended Echo Request", &[""]),
        161 => ("Extended Echo Reply", &["", "", "", "", ""]),
        _ => return None,
    })
}

type Names = (&'static str, &'static str);

/// The names of a message's type and code.
fn names(
    payload: &[u8],
    kind: impl Fn(u8) -> Option<(&'static str, &'static [&'static str])>,
) -> Option<Names> {
    let [first, code, ..] = *payload.first_chunk::<8>()?;
    let (name, codes) = kind(first)?;
    Some((name, codes.get(usize::from(code))?))
}

/// What both versions tell.
fn describe(payload: &[u8], (kind, code): Names, details: &mut Details) {
    details.put("type", payload[0]);
    details.put("code", payload[1]);
    details.put("type_name", kind);
    details.put("code_name", code);
    details.put("checksum", be16(payload, 2).unwrap_or(0));
    if code.is_empty() {
        details.set_info(kind);
    } else {
        details.set_info(format_args!("{kind} - {code}"));
    }
}

fn echo(payload: &[u8], details: &mut Details) {
    if let (Some(identifier), Some(sequence)) = (be16(payload, 4), be16(payload, 6)) {
        details.put("identifier", identifier);
        details.put("sequence", sequence);
    }
}

impl Signature for Icmp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Icmp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Icmp && kind(first).is_some()
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        names(context.payload, kind)?;
        verdict(Protocol::Icmp, Confidence::HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let payload = context.payload;
        let Some(names) = names(payload, kind) else {
            return;
        };
        describe(payload, names, details);
        match payload[0] {
            0 | 8 => echo(payload, details),
            // RFC 1191 section 4 has it for code 4 only; the reference tells it for every code.
            3 => details.put("mtu", be16(payload, 6).unwrap_or(0)),
            5 => details.ipv4("gateway", be32(payload, 4)),
            _ => {}
        }
    }
}

impl Signature for IcmpV6 {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::IcmpV6]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::IcmpV6 && kind_v6(first).is_some()
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        names(context.payload, kind_v6)?;
        verdict(Protocol::IcmpV6, Confidence::HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let payload = context.payload;
        let Some(names) = names(payload, kind_v6) else {
            return;
        };
        describe(payload, names, details);
        match payload[0] {
            2 => details.put("mtu", be32(payload, 4).unwrap_or(0)),
            128 | 129 => echo(payload, details),
            _ => {}
        }
    }
}
