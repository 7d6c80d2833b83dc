//! MQTT (OASIS MQTT 3.1.1 and 5.0, section 3.1).
//!
//! TCP; a CONNECT packet: its remaining length, the protocol's name and a version of 3, 4 or 5. What
//! follows belongs to its flow.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Mqtt;

const CONNECT: u8 = 0x10;
const KINDS: [&str; 15] = [
    "CONNECT",
    "CONNACK",
    "PUBLISH",
    "PUBACK",
    "PUBREC",
    "PUBREL",
    "PUBCOMP",
    "SUBSCRIBE",
    "SUBACK",
    "UNSUBSCRIBE",
    "UNSUBACK",
    "PINGREQ",
    "PINGRESP",
    "DISCONNECT",
    "AUTH",
];

/// The version of a CONNECT packet, and its client.
fn connect(payload: &[u8]) -> Option<(u8, &[u8])> {
    let rest = remaining(payload)?;
    let name_len = usize::from(be16(rest, 0)?);
    let name = rest.get(2..2 + name_len)?;
    let at = 2 + name_len;
    let version = byte(rest, at)?;
    let known = matches!((name, version), (b"MQTT", 4 | 5) | (b"MQIsdp", 3));
    if payload[0] != CONNECT || !known {
        return None;
    }
    // Flags and keep-alive; version 5 has properties, here skipped if shorter than 128 bytes.
    let properties = match version {
        5 => 1 + usize::from(byte(rest, at + 4)?),
        _ => 0,
    };
    let id = rest.get(at + 4 + properties..).unwrap_or_default();
    let client = be16(id, 0).and_then(|len| id.get(2..2 + usize::from(len)));
    Some((version, client.unwrap_or_default()))
}

/// What the remaining length announces, if all of it is here.
fn remaining(payload: &[u8]) -> Option<&[u8]> {
    let mut len = 0;
    for place in 0..4 {
        let byte = byte(payload, 1 + place)?;
        len |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return payload.get(2 + place..2 + place + len);
        }
    }
    None
}

impl Signature for Mqtt {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Mqtt]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && first == CONNECT
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        connect(context.payload)?;
        verdict(Protocol::Mqtt, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((first, _)) = context.payload.split_first() else {
            return;
        };
        let Some(kind) = usize::from(first >> 4).checked_sub(1) else {
            return;
        };
        if remaining(context.payload).is_none() {
            return;
        }
        details.put("packet_type", KINDS[kind]);
        details.set_info_to("packet_type");
        if let Some((version, client)) = connect(context.payload) {
            details.put("version", version);
            details.text_if_any("client_id", client);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    const PACKET: [u8; 19] = *b"\x10\x11\x00\x04MQTT\x04\x02\x00\x3c\x00\x05edge1";

    #[test]
    fn the_name_makes_it_mqtt() {
        let (name, details) = probe(Layer::Tcp, (40000, 40001), &PACKET).unwrap();
        assert_eq!((name, details.info()), ("MQTT", "CONNECT"));
        assert_eq!(details.get("client_id"), Some("edge1"));
        let mut other = PACKET;
        other[8] = 9;
        assert!(probe(Layer::Tcp, (40000, 1883), &other).is_none());
        other[8] = 4;
        other[1] = 0x12;
        assert!(probe(Layer::Tcp, (40000, 1883), &other).is_none());
    }
}
