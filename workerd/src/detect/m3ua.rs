//! M3UA (RFC 4666 section 3).
//!
//! SCTP user data with payload protocol 3; version 1, a known class and a length that fits.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct M3ua;

const PAYLOAD_PROTOCOL: u32 = 3;

/// Class and type of a message.
fn message(context: &Context<'_>) -> Option<(u8, u8)> {
    let payload = context.payload;
    let [1, 0, class, kind] = *payload.first_chunk()? else {
        return None;
    };
    let len = be32(payload, 4)? as usize;
    let fits = len >= 8 && len <= payload.len() && len.is_multiple_of(4);
    let known = matches!(class, 0..=4 | 9) && byte(payload, 3)? <= 16;
    (context.payload_protocol == PAYLOAD_PROTOCOL && fits && known).then_some((class, kind))
}

impl Signature for M3ua {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::M3ua]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Sctp && first == 1
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        message(context)?;
        verdict(Protocol::M3ua, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((class, kind)) = message(context) else {
            return;
        };
        let name = match class {
            0 => "Management",
            1 => "Transfer",
            2 => "SS7 Signalling Network Management",
            3 => "ASP State Maintenance",
            4 => "ASP Traffic Maintenance",
            _ => "Routing Key Management",
        };
        details.put("message_class", class);
        details.put("message_type", kind);
        details.put("message_class_name", name);
        details.set_info_to("message_class_name");
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn the_payload_protocol_and_the_header_make_it_m3ua() {
        let mut chunk = [
            0, 3, 0, 24, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 1, 0, 3, 1, 0, 0, 0, 8,
        ];
        let (name, details) = probe(Layer::Sctp, (2905, 2905), &chunk).unwrap();
        assert_eq!((name, details.info()), ("M3UA", "ASP State Maintenance"));
        chunk[23] = 9;
        assert!(probe(Layer::Sctp, (2905, 2905), &chunk).is_none());
        chunk[23] = 8;
        chunk[15] = 0;
        assert!(probe(Layer::Sctp, (2905, 2905), &chunk).is_none());
    }
}
