//! WireGuard (Donenfeld, "WireGuard: Next Generation Kernel Network Tunnel", section 5.4).
//!
//! UDP; type 1 to 4 with the size of that message. Off port 51820 the three reserved bytes must be 0
//! and sizes exact; on it a handshake may be up to 16 bytes longer.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct WireGuard;

const PORTS: &[u16] = &[51820];
const DATA: u8 = 4;
/// Smallest sizes by type, from 1.
const SIZES: [usize; 4] = [148, 92, 64, 32];

/// The type, and whether the reserved bytes are 0.
fn header(context: &Context<'_>) -> Option<(u8, bool)> {
    let [kind @ 1..=DATA, reserved @ ..] = *context.payload.first_chunk::<4>()? else {
        return None;
    };
    let more = context
        .payload
        .len()
        .checked_sub(SIZES[usize::from(kind - 1)])?;
    let standard = context.on(PORTS);
    let zero = reserved == [0; 3];
    let slack = if standard { 16 } else { 0 };
    ((kind == DATA || more <= slack) && (standard || zero)).then_some((kind, zero))
}

impl Signature for WireGuard {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::WireGuard]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && (1..=DATA).contains(&first)
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let (on, off) = match header(context)? {
            (DATA, true) => (984, 656),
            (DATA, false) => (975, 656),
            _ => (1000, 696),
        };
        verdict(
            Protocol::WireGuard,
            Confidence::by_port(context.on(PORTS), on, off),
        )
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((kind, zero)) = header(context) else {
            return;
        };
        let (name, packet) = match kind {
            1 => ("Handshake Initiation", "handshake_initiation"),
            2 => ("Handshake Response", "handshake_response"),
            3 => ("Cookie Reply", "cookie_reply"),
            _ => ("Transport Data", "transport_data"),
        };
        details.put("message_type", kind);
        details.put("type_name", name);
        details.set_info_to("type_name");
        details.put("packet_type", packet);
        match kind {
            1 => details.put("has_sender_index", true),
            2 => details.put("has_indices", true),
            DATA => {
                details.put("has_receiver_index", true);
                details.put("data_length", context.payload.len() - 16);
            }
            _ => {}
        }
        details.flag("reserved_zero", zero);
    }
}
