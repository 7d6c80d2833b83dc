//! Diameter (RFC 6733 section 3).
//!
//! Version 1, a length that is a multiple of 4, reserved flags 0, a known command, and a first AVP that
//! fits. TCP and SCTP.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be24, be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Diameter;

const HEADER: usize = 20;
const REQUEST: u8 = 0x80;

/// The code and name of a message's command.
fn command(payload: &[u8]) -> Option<(u32, &'static str)> {
    let (len, flags) = (be24(payload, 1)?, byte(payload, 4)?);
    let (avp_flags, avp_len) = (byte(payload, HEADER + 4)?, be24(payload, HEADER + 5)?);
    let possible = payload[0] == 1
        && len.is_multiple_of(4)
        && flags & 0x0f == 0
        && avp_flags & 0x1f == 0
        && avp_len >= 8
        && avp_len.checked_add(HEADER as u32)? <= len;
    let code = be24(payload, 5)?;
    possible.then_some((code, name(code)?))
}

/// RFC 6733 section 3.1, RFC 4006, RFC 4740, RFC 4072, 3GPP TS 29.229, 29.272, 29.329.
fn name(code: u32) -> Option<&'static str> {
    Some(match code {
        257 => "Capabilities-Exchange",
        258 => "Re-Auth",
        265 => "AA",
        268 => "Diameter-EAP",
        271 => "Accounting",
        272 => "Credit-Control",
        274 => "Abort-Session",
        275 => "Session-Termination",
        280 => "Device-Watchdog",
        282 => "Disconnect-Peer",
        283..=288 => "SIP-Application",
        300 => "User-Authorization",
        301 => "Server-Assignment",
        302 => "Location-Info",
        303 => "Multimedia-Auth",
        304 => "Registration-Termination",
        305 => "Push-Profile",
        306 => "User-Data",
        307 => "Profile-Update",
        308 => "Subscribe-Notifications",
        309 => "Push-Notification",
        310 => "Boostrapping-Info",
        311 => "Message-Process",
        316 => "Update-Location",
        317 => "Cancel-Location",
        318 => "Authentication-Information",
        319 => "Insert-Subscriber-Data",
        320 => "Delete-Subscriber-Data",
        321 => "Purge-UE",
        322 => "Reset",
        323 => "Notify",
        324 => "ME-Identity-Check",
        _ => return None,
    })
}

impl Signature for Diameter {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Diameter]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        matches!(layer, Layer::Tcp | Layer::Sctp) && first == 1
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        command(context.payload)?;
        verdict(Protocol::Diameter, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let payload = context.payload;
        let Some((code, name)) = command(payload) else {
            return;
        };
        let request = byte(payload, 4).is_some_and(|flags| flags & REQUEST != 0);
        details.put("command_code", code);
        details.put("command_name", name);
        details.put("is_request", request);
        details.put("application_id", be32(payload, 8).unwrap_or(0));
        details.put("hop_by_hop_id", be32(payload, 12).unwrap_or(0));
        details.put("end_to_end_id", be32(payload, 16).unwrap_or(0));
        let kind = if request { "Request" } else { "Answer" };
        details.set_info(format_args!("{name}-{kind}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn the_first_avp_must_fit() {
        let mut request = [0; 32];
        request[..8].copy_from_slice(&[1, 0, 0, 32, 0x80, 0, 1, 1]);
        request[20..28].copy_from_slice(&[0, 0, 1, 8, 0x40, 0, 0, 12]);
        let (name, details) = probe(Layer::Tcp, (40000, 40001), &request).unwrap();
        assert_eq!(
            (name, details.info()),
            ("Diameter", "Capabilities-Exchange-Request")
        );
        let chunk = [
            &[0, 3, 0, 48, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 46][..],
            &request,
        ]
        .concat();
        assert_eq!(
            probe(Layer::Sctp, (3868, 3868), &chunk).unwrap().0,
            "Diameter"
        );
        let mut other = chunk.clone();
        other[16] = 2;
        assert!(probe(Layer::Sctp, (3868, 3868), &other).is_none());
        request[27] = 40;
        assert!(probe(Layer::Tcp, (3868, 3868), &request).is_none());
        request[27] = 12;
        request[6] = 9;
        assert!(probe(Layer::Tcp, (3868, 3868), &request).is_none());
    }
}
