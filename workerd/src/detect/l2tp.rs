//! L2TP (RFC 2661 section 3.1 for version 2, RFC 3931 section 3.2 for version 3).
//!
//! UDP port 1701; version 2 or 3 and every field that the flags announce within the payload.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::be16;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct L2tp;

const PORTS: &[u16] = &[1701];
const CONTROL: u16 = 0x8000;
const LENGTH: u16 = 0x4000;
const SEQUENCE: u16 = 0x0800;
const OFFSET: u16 = 0x0200;
const PRIORITY: u16 = 0x0100;

struct Header<'a> {
    flags: u16,
    length: Option<u16>,
    tunnel: u16,
    session: u16,
    sequence: Option<(u16, u16)>,
    offset: Option<u16>,
    rest: &'a [u8],
}

impl<'a> Header<'a> {
    fn of(context: &Context<'a>) -> Option<Self> {
        let payload = context.payload;
        let flags = be16(payload, 0)?;
        if !context.on(PORTS) || payload.len() < 6 || !matches!(flags & 15, 2 | 3) {
            return None;
        }
        let mut at = 2;
        let mut next = || {
            at += 2;
            be16(payload, at - 2)
        };
        let mut field = |flag: u16| match flags & flag {
            0 => Some(None),
            _ => next().map(Some),
        };
        let length = field(LENGTH)?;
        if length.is_some_and(|len| len < 4 || usize::from(len) > payload.len()) {
            return None;
        }
        let (tunnel, session) = (field(u16::MAX)??, field(u16::MAX)??);
        let (sent, expected) = (field(SEQUENCE)?, field(SEQUENCE)?);
        let offset = field(OFFSET)?;
        Some(Self {
            flags,
            length,
            tunnel,
            session,
            sequence: sent.zip(expected),
            offset,
            rest: payload.get(at..)?,
        })
    }

    fn control(&self) -> bool {
        self.flags & CONTROL != 0
    }
}

impl Signature for L2tp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::L2tp]
    }

    fn starts(&self, layer: Layer, _: u8) -> bool {
        layer == Layer::Udp
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let header = Header::of(context)?;
        verdict(
            Protocol::L2tp,
            Confidence::by_port(header.control(), 1000, 966),
        )
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(header) = Header::of(context) else {
            return;
        };
        let control = header.control();
        details.put("version", header.flags & 15);
        details.put("packet_type", if control { "control" } else { "data" });
        details.set_info_to("packet_type");
        if let Some(length) = header.length {
            details.put("length", length);
        }
        details.put("tunnel_id", header.tunnel);
        details.put("session_id", header.session);
        let setup = control && header.tunnel == 0 && header.session == 0;
        details.flag("setup_phase", setup);
        if let Some((sent, expected)) = header.sequence {
            details.put("sequence_ns", sent);
            details.put("sequence_nr", expected);
        }
        if let Some(offset) = header.offset {
            details.put("offset_size", offset);
        }
        details.flag("priority", header.flags & PRIORITY != 0);
        if control
            && header.rest.len() > 6
            && let Some(avp) = be16(header.rest, 0)
        {
            // RFC 2661 section 4.1: ten bits of length.
            let len = usize::from(avp & 0x3ff);
            details.flag("has_valid_avp", (6..=header.rest.len()).contains(&len));
            details.flag("has_mandatory_avp", avp & 0x8000 != 0);
        }
    }
}
