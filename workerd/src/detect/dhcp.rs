//! DHCP (RFC 2131 section 2, RFC 2132) and BOOTP (RFC 951).
//!
//! 240 bytes with possible operation, hardware and hops; the magic cookie makes it DHCP. Without the
//! cookie it is BOOTP, and only on BOOTP's ports: RADIUS has the same first bytes.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Text, Value, Writer};
use super::fields::{be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use std::fmt::{self, Write};
use std::net::Ipv4Addr;

/// See the module.
pub struct Dhcp;

const PORTS: &[u16] = &[67, 68];
const COOKIE: u32 = 0x6382_5363;
const OPTIONS: usize = 240;
/// Most options that are looked at.
const MOST_OPTIONS: usize = 256;
const MESSAGE_TYPES: [&str; 8] = [
    "DHCPDISCOVER",
    "DHCPOFFER",
    "DHCPREQUEST",
    "DHCPDECLINE",
    "DHCPACK",
    "DHCPNAK",
    "DHCPRELEASE",
    "DHCPINFORM",
];

/// The message's protocol.
fn message(context: &Context<'_>) -> Option<Protocol> {
    let [operation, hardware, hardware_len, hops, ..] =
        *context.payload.first_chunk::<OPTIONS>()?;
    let possible = matches!(operation, 1 | 2)
        && matches!(hardware, 1..=32)
        && matches!(hardware_len, 1..=16)
        && hops <= 16;
    if !possible {
        return None;
    }
    if be32(context.payload, 236)? == COOKIE {
        return Some(Protocol::Dhcp);
    }
    context.on(PORTS).then_some(Protocol::Bootp)
}

/// Codes and values until the end.
fn options(payload: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = OPTIONS;
    let next = move || loop {
        match byte(payload, at)? {
            0 => at += 1,
            255 => return None,
            code => {
                let len = usize::from(byte(payload, at + 1)?);
                let value = payload.get(at + 2..at + 2 + len)?;
                at += 2 + len;
                return Some((code, value));
            }
        }
    };
    std::iter::from_fn(next).take(MOST_OPTIONS)
}

/// An option as an entry of a map.
struct Named<'a>(u8, &'a [u8]);

impl Named<'_> {
    fn known(&self) -> bool {
        match self.0 {
            12 | 55 => true,
            50 | 51 | 54 => self.1.len() == 4,
            _ => false,
        }
    }
}

impl Value for Named<'_> {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        let number = be32(self.1, 0).unwrap_or(0);
        match self.0 {
            12 => write!(out, "hostname={}", Text(self.1)),
            50 => write!(out, "requested_ip={}", Ipv4Addr::from(number)),
            51 => write!(out, "lease_time={number}"),
            54 => write!(out, "server_identifier={}", Ipv4Addr::from(number)),
            _ => {
                out.write_str("param_request_list=")?;
                for (index, code) in self.1.iter().enumerate() {
                    write!(out, "{}{code}", if index > 0 { "," } else { "" })?;
                }
                Ok(())
            }
        }
    }
}

impl Signature for Dhcp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Dhcp, Protocol::Bootp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        matches!(layer, Layer::Udp | Layer::Tcp) && matches!(first, 1 | 2)
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let protocol = message(context)?;
        let kind = || options(context.payload).any(|(code, value)| code == 53 && value.len() == 1);
        let (on, off) = match (protocol, context.udp()) {
            (Protocol::Bootp, true) => (966, 644),
            (Protocol::Bootp, false) => (1000, 680),
            (_, false) => (1000, 730),
            (_, true) if kind() => (1000, 696),
            (_, true) => (1000, 703),
        };
        verdict(protocol, Confidence::by_port(context.on(PORTS), on, off))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(protocol) = message(context) else {
            return;
        };
        let payload = context.payload;
        let reply = payload[0] == 2;
        details.put("type", if reply { "BOOTREPLY" } else { "BOOTREQUEST" });
        details.put("transaction_id", be32(payload, 4).unwrap_or(0));
        if protocol == Protocol::Bootp {
            details.put("protocol", "BOOTP");
            return;
        }
        details.put("htype", payload[1]);
        details.put("hlen", payload[2]);
        details.put("hops", payload[3]);
        details.ipv4("client_ip", be32(payload, 12));
        details.ipv4("your_ip", be32(payload, 16));
        details.ipv4("server_ip", be32(payload, 20));
        details.ipv4("gateway_ip", be32(payload, 24));
        let kind = options(payload).find_map(|option| match option {
            (53, [kind @ 1..=255]) => Some(usize::from(*kind)),
            _ => None,
        });
        if let Some(kind) = kind {
            let name = MESSAGE_TYPES.get(kind - 1).unwrap_or(&"Unknown");
            details.put("message_type", name);
            details.set_info_to("message_type");
        }
        let named = options(payload).map(|(code, value)| Named(code, value));
        details.list("options", '\n', named.filter(Named::known));
    }
}
