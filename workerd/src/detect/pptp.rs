//! PPTP control connections (RFC 2637 section 2).
//!
//! TCP port 1723; length 12 to 2000, message type 1, the magic cookie, control type 1 to 15.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be32};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Pptp;

const PORTS: &[u16] = &[1723];
const COOKIE: u32 = 0x1a2b_3c4d;
/// Name and category by control type, from 1.
const TYPES: [(&str, &str); 15] = [
    (
        "Start-Control-Connection-Request",
        "start_control_connection",
    ),
    (
        "Start-Control-Connection-Reply",
        "start_control_connection_reply",
    ),
    ("Stop-Control-Connection-Request", "stop_control_connection"),
    (
        "Stop-Control-Connection-Reply",
        "stop_control_connection_reply",
    ),
    ("Echo-Request", "echo_request"),
    ("Echo-Reply", "echo_reply"),
    ("Outgoing-Call-Request", "outgoing_call_request"),
    ("Outgoing-Call-Reply", "outgoing_call_reply"),
    ("Incoming-Call-Request", "incoming_call_request"),
    ("Incoming-Call-Reply", "incoming_call_reply"),
    ("Incoming-Call-Connected", "incoming_call_connected"),
    ("Call-Clear-Request", "call_clear_request"),
    ("Call-Disconnect-Notify", "call_disconnect_notify"),
    ("WAN-Error-Notify", "wan_error_notify"),
    ("Set-Link-Info", "set_link_info"),
];

/// Length and control type.
fn header(context: &Context<'_>) -> Option<(u16, u16)> {
    let payload = context.payload;
    let (length, control) = (be16(payload, 0)?, be16(payload, 8)?);
    let possible = context.on(PORTS)
        && payload.len() >= 12
        && (12..=2000).contains(&length)
        && be16(payload, 2)? == 1
        && be32(payload, 4)? == COOKIE
        && (1..=15).contains(&control);
    possible.then_some((length, control))
}

impl Signature for Pptp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Pptp]
    }

    /// The upper half of a length up to 2000.
    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && first <= 7
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        header(context)?;
        verdict(Protocol::Pptp, Confidence::DEFINITE)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((length, control)) = header(context) else {
            return;
        };
        let payload = context.payload;
        let (name, category) = TYPES[usize::from(control - 1)];
        details.put("length", length);
        details.put("pptp_message_type", 1);
        details.put("control_type", control);
        details.put("magic_cookie", "0x1A2B3C4D");
        details.put("control_type_name", name);
        details.set_info_to("control_type_name");
        details.put("packet_type", "control");
        details.flag("reserved_zero", be16(payload, 10) == Some(0));
        details.put("category", category);
        if control <= 2
            && payload.len() >= 16
            && let (Some(major), Some(minor)) = (payload.get(12), payload.get(13))
        {
            let hundredths = u32::from(*major) * 100 + u32::from(*minor);
            details.put("protocol_version", f64::from(hundredths) / 100.0);
        }
    }
}
