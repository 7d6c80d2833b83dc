//! IKEv2 (RFC 7296 section 3.1) and IKEv1 (RFC 2408 section 3.1), also behind the marker that tells
//! them from ESP on port 4500 (RFC 3948 section 2.2).
//!
//! UDP port 500 or 4500; version, next payload, exchange and flags as the version has them, and a
//! length of 28 to 10000.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be32, be64};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Ike;

const PORTS: &[u16] = &[500, 4500];
const INITIATOR: u8 = 0x08;
const HIGHER_VERSION: u8 = 0x10;
const RESPONSE: u8 = 0x20;
const SA_INIT: u8 = 34;

struct Header {
    spis: [u64; 2],
    next: u8,
    major: u8,
    minor: u8,
    exchange: u8,
    flags: u8,
    message: u32,
    length: u32,
}

impl Header {
    fn of(context: &Context<'_>) -> Option<Self> {
        if !context.on(PORTS) {
            return None;
        }
        let payload = context.payload;
        let marked = payload
            .strip_prefix(&[0; 4])
            .filter(|_| context.on(&[4500]));
        marked.and_then(Self::read).or_else(|| Self::read(payload))
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let [next, version, exchange, flags] = *payload.get(16..)?.first_chunk()?;
        let header = Self {
            spis: [be64(payload, 0)?, be64(payload, 8)?],
            next,
            major: version >> 4,
            minor: version & 15,
            exchange,
            flags,
            message: be32(payload, 20)?,
            length: be32(payload, 24)?,
        };
        let possible = match (header.major, header.minor) {
            (2, 0) => {
                matches!(next, 0 | 33..=53)
                    && (34..=37).contains(&exchange)
                    && flags & HIGHER_VERSION == 0
            }
            // Payloads 1 to 21 (RFC 2408, RFC 3947); the reference's 33 to 53 are version 2's.
            (1, _) => matches!(next, 0..=21 | 33..=53) && matches!(exchange, 0..=6 | 32 | 33),
            _ => false,
        };
        (possible && (28..=10_000).contains(&header.length)).then_some(header)
    }

    fn exchange_name(&self) -> &'static str {
        match (self.major, self.exchange) {
            (2, 34) => "IKE_SA_INIT",
            (2, 35) => "IKE_AUTH",
            (2, 36) => "CREATE_CHILD_SA",
            (2, _) => "INFORMATIONAL",
            (_, 0) => "None",
            (_, 1) => "Base",
            (_, 2) => "Identity Protection",
            (_, 3) => "Authentication Only",
            (_, 4) => "Aggressive",
            (_, 5) => "Informational",
            (_, 6) => "Transaction",
            (_, 32) => "Quick Mode",
            _ => "New Group Mode",
        }
    }
}

impl Signature for Ike {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::IkeV2, Protocol::IkeV1]
    }

    fn starts(&self, layer: Layer, _: u8) -> bool {
        layer == Layer::Udp
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let header = Header::of(context)?;
        let protocol = match header.major {
            2 => Protocol::IkeV2,
            _ => Protocol::IkeV1,
        };
        verdict(protocol, Confidence::DEFINITE)
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
        let response = header.flags & RESPONSE != 0;
        let direction = if response { "response" } else { "request" };
        let tenths = u32::from(header.major) * 10 + u32::from(header.minor);
        details.put("version", f64::from(tenths) / 10.0);
        details.put("major_version", header.major);
        details.put("minor_version", header.minor);
        details.put("exchange_type", header.exchange);
        details.put("exchange_name", header.exchange_name());
        details.put("next_payload", header.next);
        details.put("message_id", header.message);
        details.put("length", header.length);
        details.put("is_response", response);
        details.put("is_initiator", header.flags & INITIATOR != 0);
        if header.major == 2 {
            let name = header.exchange_name();
            details.put("phase", name.strip_prefix("IKE_").unwrap_or(name));
            if header.exchange == SA_INIT {
                details.put("direction", direction);
                details.flag("valid_sa_init_request", !response && header.spis[1] == 0);
            }
        }
        details.flag("has_initiator_spi", header.spis[0] != 0);
        details.flag("has_responder_spi", header.spis[1] != 0);
        details.set_info(format_args!("{} ({direction})", header.exchange_name()));
    }
}
