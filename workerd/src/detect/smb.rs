//! SMB ([MS-SMB2] sections 2.1 and 2.2.1, [MS-CIFS] section 2.2.3.1).
//!
//! TCP; a session message of NetBIOS (RFC 1002 section 4.3.1) whose payload starts with the mark of version
//! 1, of version 2 and 3, or of their encryption or compression.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be24, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Smb;

const LONGEST: u32 = 1 << 24;
/// Header sizes (the structure size of version 2 is fixed).
const HEADER_V2: [u8; 2] = [64, 0];

/// By its mark.
fn version(payload: &[u8]) -> Option<&'static str> {
    let len = be24(payload, 1)?;
    let mark = payload.get(4..8)?;
    let version = match mark {
        b"\xffSMB" if len >= 32 => "SMB1",
        b"\xfeSMB" if payload.get(8..10)? == HEADER_V2 => "SMB2",
        b"\xfdSMB" => "SMB3 encrypted",
        b"\xfcSMB" => "SMB3 compressed",
        _ => return None,
    };
    (payload[0] == 0 && len < LONGEST).then_some(version)
}

impl Signature for Smb {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Smb]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && first == 0
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        version(context.payload)?;
        verdict(Protocol::Smb, Confidence::DEFINITE)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let payload = context.payload;
        let Some(version) = version(payload) else {
            return;
        };
        details.put("version", version);
        details.set_info_to("version");
        let command = match version {
            "SMB1" => byte(payload, 8),
            "SMB2" => byte(payload, 16),
            _ => None,
        };
        if let Some(command) = command {
            details.put("command", command);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn the_mark_must_follow_the_length() {
        let mut message = [0; 68];
        message[..10].copy_from_slice(b"\x00\x00\x00\x40\xfeSMB\x40\x00");
        let (name, details) = probe(Layer::Tcp, (40000, 40001), &message).unwrap();
        assert_eq!((name, details.info()), ("SMB", "SMB2"));
        message[8] = 9;
        assert!(probe(Layer::Tcp, (40000, 445), &message).is_none());
        message[4] = 0xff;
        assert_eq!(
            probe(Layer::Tcp, (40000, 445), &message).unwrap().1.info(),
            "SMB1"
        );
        message[4] = 0xf0;
        assert!(probe(Layer::Tcp, (40000, 445), &message).is_none());
    }
}
