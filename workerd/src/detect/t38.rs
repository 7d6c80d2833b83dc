//! T.38 over UDPTL (ITU-T T.38 section 9.1).
//!
//! UDP at an endpoint that a session description announced for it (`m=image .. udptl t38`); a sequence
//! number, and a primary packet whose length fits. Without the announcement nothing tells it from noise.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, byte};
use super::memory::MediaKind;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct T38;

/// Redundant packets and their lengths make it no longer than this.
const LONGEST: usize = 1400;

/// The sequence number, and the length of the primary packet.
fn packet(payload: &[u8]) -> Option<(u16, u8)> {
    let (sequence, len) = (be16(payload, 0)?, byte(payload, 2)?);
    let fits = len >= 1 && 3 + usize::from(len) <= payload.len() && payload.len() <= LONGEST;
    fits.then_some((sequence, len))
}

impl Signature for T38 {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::T38]
    }

    /// Sequence numbers start low, so media that goes on isn't looked at.
    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && first < 0x80
    }

    fn judge(&self, context: &Context<'_>, notes: &mut Notes<'_>) -> Option<Verdict> {
        packet(context.payload)?;
        let (source, destination) = context.addresses;
        let ends = [
            (source, context.source_port),
            (destination, context.destination_port),
        ];
        let announced = ends.into_iter().any(|end| {
            let media = notes.memory.announced(end, context.time_ns);
            media.is_some_and(|media| media.kind == MediaKind::T38)
        });
        announced.then(|| verdict(Protocol::T38, Confidence::VERY_HIGH))?
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        if let Some((sequence, len)) = packet(context.payload) {
            details.put("sequence_number", sequence);
            details.put("primary_length", len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn the_announcement_makes_it_fax() {
        let mut detector = super::super::Detector::new();
        let offer = b"INVITE sip:b@x SIP/2.0\r\nCall-ID: f\r\n\r\nc=IN IP4 192.0.2.9\r\n\
            m=image 9000 udptl t38\r\n";
        let invite = Context::new(Layer::Udp, (5060, 5060), offer);
        detector.observe(&invite, &mut Default::default());
        let mut protocol = |port, payload: &[u8]| {
            let mut context = Context::new(Layer::Udp, (9, port), payload);
            context.addresses.1 = crate::decode::Addr::V4(0xc000_0209);
            let verdict = detector.observe(&context, &mut Default::default());
            verdict.map(|verdict| verdict.protocol)
        };
        assert_eq!(protocol(9000, &[0, 1, 2, 6, 0, 0]), Some(Protocol::T38));
        assert_eq!(protocol(9002, &[0, 1, 2, 6, 0, 0]), None);
        assert_eq!(protocol(9000, &[0, 1, 9, 6, 0, 0]), None);
    }

    #[test]
    fn nothing_is_guessed() {
        assert!(probe(Layer::Udp, (9000, 9002), &[0, 1, 2, 6, 0, 0]).is_none());
    }
}
