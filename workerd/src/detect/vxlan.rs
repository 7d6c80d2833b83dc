//! VXLAN (RFC 7348 section 5).
//!
//! UDP port 4789; only the flag that a network identifier is valid, reserved fields 0, and behind them an
//! Ethernet frame of a known type.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be24, be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Vxlan;

const PORTS: &[u16] = &[4789];

/// The network identifier.
fn network(context: &Context<'_>) -> Option<u32> {
    let payload = context.payload;
    let known = matches!(
        be16(payload, 20)?,
        0x0800 | 0x86dd | 0x0806 | 0x8100 | 0x88a8
    );
    let reserved = byte(payload, 7)?;
    let possible = context.on(PORTS) && be32(payload, 0)? == 0x0800_0000 && reserved == 0 && known;
    possible.then_some(be24(payload, 4)?)
}

impl Signature for Vxlan {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Vxlan]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && first == 8
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        network(context)?;
        verdict(Protocol::Vxlan, Confidence::VERY_HIGH)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if let Some(network) = network(context) {
            details.put("vni", network);
            details.set_info(format_args!("VXLAN {network}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn a_frame_must_follow() {
        let mut packet = [0; 40];
        packet[..8].copy_from_slice(&[8, 0, 0, 0, 0, 0, 100, 0]);
        packet[20..22].copy_from_slice(&[8, 0]);
        let (name, details) = probe(Layer::Udp, (50000, 4789), &packet).unwrap();
        assert_eq!((name, details.get("vni")), ("VXLAN", Some("100")));
        packet[20] = 9;
        assert!(probe(Layer::Udp, (50000, 4789), &packet).is_none());
    }
}
