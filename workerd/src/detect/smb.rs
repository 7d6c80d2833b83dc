//! SMB ([MS-SMB2] sections 2.1 and 2.2.1, [MS-CIFS] section 2.2.3.1).
//!
//! TCP; a session message of NetBIOS (RFC 1002 section 4.3.1) whose payload starts with the mark of version
//! 1, of version 2 and 3, or of their encryption or compression. UDP; a datagram of NetBIOS (RFC 1002
//! section 4.4) whose length is the payload's and whose data starts with the mark of version 1.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be24, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Smb;

/// The structure size of version 2 is fixed.
const HEADER_V2: [u8; 2] = [64, 0];

/// Header of a datagram of NetBIOS, up to its names.
const DATAGRAM_HEADER: usize = 14;
/// An encoded name without a scope (RFC 1002 section 4.1): its length, 32 letters, and the end.
const NAME: usize = 34;

/// The version by its mark, and the message from its mark on.
fn message<'a>(context: &Context<'a>) -> Option<(&'static str, &'a [u8])> {
    let message = if context.udp() {
        datagram(context.payload)?
    } else {
        let len = be24(context.payload, 1)?;
        (context.payload[0] == 0 && len >= 32).then(|| context.payload.get(4..))??
    };
    let version = match message.get(..4)? {
        b"\xffSMB" => "SMB1",
        b"\xfeSMB" if message.get(4..6)? == HEADER_V2 => "SMB2",
        b"\xfdSMB" => "SMB3 encrypted",
        b"\xfcSMB" => "SMB3 compressed",
        _ => return None,
    };
    (context.tcp() || version == "SMB1").then_some((version, message))
}

/// The data of a datagram that isn't one of several fragments.
fn datagram(payload: &[u8]) -> Option<&[u8]> {
    let len = usize::from(be16(payload, 10)?);
    let offset = be16(payload, 12)?;
    let data = payload.get(DATAGRAM_HEADER + 2 * NAME..)?;
    (offset == 0 && DATAGRAM_HEADER + len == payload.len()).then_some(data)
}

impl Signature for Smb {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Smb]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        match layer {
            Layer::Tcp => first == 0,
            // Direct to one, to a group, to all.
            Layer::Udp => matches!(first, 0x10..=0x12),
            _ => false,
        }
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        message(context)?;
        verdict(Protocol::Smb, Confidence::DEFINITE)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some((version, message)) = message(context) else {
            return;
        };
        details.put("version", version);
        details.set_info_to("version");
        let command = match version {
            "SMB1" => byte(message, 4),
            "SMB2" => byte(message, 12),
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

    #[test]
    fn a_datagram_holds_it_behind_two_names() {
        let mut datagram = [b'A'; 114];
        datagram[..14].copy_from_slice(&[0x11, 2, 0, 1, 192, 0, 2, 1, 0, 138, 0, 100, 0, 0]);
        datagram[82..87].copy_from_slice(b"\xffSMB%");
        let (name, details) = probe(Layer::Udp, (138, 138), &datagram).unwrap();
        assert_eq!((name, details.get("command")), ("SMB", Some("37")));
        assert!(probe(Layer::Udp, (138, 138), &datagram[..113]).is_none());
        datagram[82] = 0xfe;
        assert!(probe(Layer::Udp, (138, 138), &datagram).is_none());
    }
}
