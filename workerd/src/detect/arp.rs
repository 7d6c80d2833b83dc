//! ARP and its relatives (RFC 826, RFC 903, RFC 2390).
//!
//! Hardware type 1 to 256, IPv4, hardware addresses of 1 to 20 bytes, operation 1 to 9.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use std::fmt;

/// See the module.
pub struct Arp;

const OPERATIONS: [&str; 9] = [
    "Request",
    "Reply",
    "RARP Request",
    "RARP Reply",
    "DRARP Request",
    "DRARP Reply",
    "DRARP Error",
    "InARP Request",
    "InARP Reply",
];

struct Packet<'a> {
    hardware: u16,
    operation: u16,
    /// Sender's and target's.
    hardware_addresses: [Hardware<'a>; 2],
    addresses: [u32; 2],
}

impl<'a> Packet<'a> {
    fn of(payload: &'a [u8]) -> Option<Self> {
        let (hardware, operation) = (be16(payload, 0)?, be16(payload, 6)?);
        let (hardware_len, len) = (usize::from(byte(payload, 4)?), byte(payload, 5)?);
        let possible = (1..=256).contains(&hardware)
            && be16(payload, 2)? == 0x0800
            && (1..=20).contains(&hardware_len)
            && len == 4
            && (1..=9).contains(&operation);
        if !possible {
            return None;
        }
        let end = |index: usize| 8 + index * (hardware_len + 4);
        let address = |index| {
            let bytes = payload.get(end(index)..end(index) + hardware_len)?;
            Some(Hardware { hardware, bytes })
        };
        Some(Self {
            hardware,
            operation,
            hardware_addresses: [address(0)?, address(1)?],
            addresses: [be32(payload, end(1) - 4)?, be32(payload, end(2) - 4)?],
        })
    }
}

/// A hardware address as text.
#[derive(Clone, Copy)]
struct Hardware<'a> {
    hardware: u16,
    bytes: &'a [u8],
}

impl fmt::Display for Hardware<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ethernet = self.hardware == 1 && self.bytes.len() == 6;
        let (open, separator, close) = if ethernet {
            ("", ":", "")
        } else {
            ("[", " ", "]")
        };
        out.write_str(open)?;
        for (index, byte) in self.bytes.iter().enumerate() {
            let separator = if index > 0 { separator } else { "" };
            write!(out, "{separator}{byte:02x}")?;
        }
        out.write_str(close)
    }
}

impl Signature for Arp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Arp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Arp && first <= 1
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let ethernet = Packet::of(context.payload)?.hardware == 1;
        verdict(Protocol::Arp, Confidence::by_port(ethernet, 920, 890))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(packet) = Packet::of(context.payload) else {
            return;
        };
        let [sender_hardware, target_hardware] = packet.hardware_addresses;
        let [sender, target] = packet.addresses.map(std::net::Ipv4Addr::from);
        let operation = OPERATIONS[usize::from(packet.operation - 1)];
        details.put("operation", operation);
        details.put("hardware_type", packet.hardware);
        details.put("protocol_type", 0x0800);
        let name = match packet.hardware {
            1 => "Ethernet",
            6 => "IEEE 802",
            7 => "ARCNET",
            15 => "Frame Relay",
            16 => "ATM",
            17 => "HDLC",
            18 => "Fibre Channel",
            19 => "ATM (RFC2225)",
            20 => "Serial Line",
            _ => "",
        };
        if name.is_empty() {
            details.put(
                "hardware_type_name",
                format_args!("Type {}", packet.hardware),
            );
        } else {
            details.put("hardware_type_name", name);
        }
        details.put("hardware_length", sender_hardware.bytes.len());
        details.put("protocol_length", 4);
        details.put("sender_hw", format_args!("{sender_hardware}"));
        details.put("target_hw", format_args!("{target_hardware}"));
        details.put("sender_ip", sender);
        details.put("target_ip", target);
        details.flag("gratuitous", sender == target);
        details.flag("probe", sender.is_unspecified());
        match packet.operation {
            1 => details.set_info(format_args!("Who has {target}")),
            2 => details.set_info(format_args!("{sender} is at {sender_hardware}")),
            _ => details.set_info_to("operation"),
        }
    }
}
