//! NTP (RFC 5905 section 7.3) and SNTP.
//!
//! UDP; version 1 to 4, modes but 0, and stratum, poll and precision as clocks have them. On other
//! ports only in the sizes of a header with or without an authenticator (RFC 5905 section 7.3, RFC
//! 7821): the first four bytes alone fit 1 of 4000 random packets. Modes 6 and 7 have messages of their own, on
//! port 123 only:
//!
//! - 6, control (RFC 9327 section 2): the data's length makes up the rest, but for padding and an authenticator;
//! - 7, private to implementations (RFC 5905 figure 10), as ntpd has them: a known implementation, and items
//!   whose number and size make up the rest, or room for them in a request.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Ntp;

const PORTS: &[u16] = &[123];
const SIZES: &[usize] = &[48, 52, 68, 72];
const CONTROL: u8 = 6;
const PRIVATE: u8 = 7;
const CONTROL_HEADER: usize = 12;
const PRIVATE_HEADER: usize = 8;
/// Key identifier and digest (RFC 9327 section 2), MD5 or SHA-1.
const AUTHENTICATORS: [usize; 3] = [0, 20, 24];
/// A private request without and with an authenticator.
const PRIVATE_REQUESTS: [usize; 2] = [192, 216];

enum Message {
    /// Of a clock: its first four bytes.
    Clock([u8; 4]),
    /// Mode 6: its operation.
    Control(u8),
    /// Mode 7: its request code.
    Private(u8),
}

impl Message {
    fn of(context: &Context<'_>) -> Option<Self> {
        clock(context)
            .map(Self::Clock)
            .or_else(|| control(context).map(Self::Control))
            .or_else(|| private(context).map(Self::Private))
    }
}

fn clock(context: &Context<'_>) -> Option<[u8; 4]> {
    let [first, stratum, poll, precision, ..] = *context.payload.first_chunk::<48>()?;
    let (version, mode) = (first >> 3 & 7, first & 7);
    let possible = (1..=4).contains(&version)
        && !matches!(mode, 0 | CONTROL)
        && stratum <= 16
        && poll <= 24
        && (-30..=0).contains(&(precision as i8))
        && (context.on(PORTS) || SIZES.contains(&context.payload.len()));
    possible.then_some([first, stratum, poll, precision])
}

/// The operation of a control message.
fn control(context: &Context<'_>) -> Option<u8> {
    let payload = context.payload;
    let (first, second) = (byte(payload, 0)?, byte(payload, 1)?);
    let data = usize::from(be16(payload, 10)?).next_multiple_of(4);
    let behind = payload.len().checked_sub(CONTROL_HEADER + data)?;
    let possible = context.on(PORTS)
        && first & 0xc7 == CONTROL
        && matches!(second & 0x1f, 1..=12 | 31)
        && AUTHENTICATORS.contains(&behind);
    possible.then_some(second & 0x1f)
}

/// The request code of a private message.
fn private(context: &Context<'_>) -> Option<u8> {
    let payload = context.payload;
    let [first, _, implementation, code] = *payload.first_chunk()?;
    // Error and count, then zero bits and size.
    let (items, size) = (be16(payload, 4)?, be16(payload, 6)?);
    let (count, len) = (usize::from(items & 0xfff), payload.len());
    let response = first & 0x80 != 0;
    let fits = PRIVATE_HEADER + count * usize::from(size) == len
        || !response && PRIVATE_REQUESTS.contains(&len) && items >> 12 == 0;
    let possible = context.on(PORTS)
        && first & 7 == PRIVATE
        && matches!(implementation, 0 | 2 | 3)
        && size <= 500
        && fits;
    possible.then_some(code)
}

impl Signature for Ntp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Ntp]
    }

    /// The first bits of private messages say whether they are responses, and whether more follow.
    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && matches!(first >> 3 & 7, 1..=4) && first & 7 != 0
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let (on, off) = match Message::of(context)? {
            Message::Clock([first, ..]) if first & 7 != PRIVATE => (942, 628),
            _ => (909, 606),
        };
        let confidence = Confidence::by_port(context.on(PORTS), on, off);
        verdict(Protocol::Ntp, confidence)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(message) = Message::of(context) else {
            return;
        };
        let first = context.payload[0];
        let mode = match first & 7 {
            1 => "symmetric_active",
            2 => "symmetric_passive",
            3 => "client",
            4 => "server",
            5 => "broadcast",
            CONTROL => "control",
            _ => "reserved_private",
        };
        details.put("version", first >> 3 & 7);
        details.put("mode", mode);
        details.set_info(format_args!("NTP {mode}"));
        match message {
            Message::Clock(header) => describe_clock(header, details),
            Message::Control(operation) => details.put("opcode", operation),
            Message::Private(code) => details.put("request_code", code),
        }
    }
}

fn describe_clock([first, stratum, poll, precision]: [u8; 4], details: &mut Details) {
    let leap = [
        "no_warning",
        "last_minute_61_seconds",
        "last_minute_59_seconds",
        "alarm_condition",
    ];
    let stratum_name = match stratum {
        0 => "unspecified or invalid",
        1 => "primary reference (e.g., GPS, atomic clock)",
        2..=15 => "secondary reference (via NTP)",
        _ => "unsynchronized",
    };
    details.put("stratum", stratum);
    details.put("poll", poll);
    details.put("precision", precision as i8);
    details.put("leap_indicator", leap[usize::from(first >> 6)]);
    details.put("stratum_description", stratum_name);
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    fn name(ports: (u16, u16), payload: &[u8]) -> Option<&'static str> {
        probe(Layer::Udp, ports, payload).map(|(name, _)| name)
    }

    #[test]
    fn control_messages_have_the_length_of_their_data() {
        let read = [0x16, 2, 0, 2, 0, 0, 0x4a, 0xef, 0, 0, 0, 0];
        let (name_of_it, details) = probe(Layer::Udp, (40000, 123), &read).unwrap();
        assert_eq!((name_of_it, details.info()), ("NTP", "NTP control"));
        assert_eq!(details.get("opcode"), Some("2"));
        assert_eq!(name((40000, 124), &read), None);
        let mut data = [&read[..], b"abc\0"].concat();
        assert_eq!(name((40000, 123), &data), None);
        data[11] = 3;
        assert_eq!(name((40000, 123), &data), Some("NTP"));
        data[1] = 30;
        assert_eq!(name((40000, 123), &data), None);
    }

    #[test]
    fn private_messages_have_items_or_room_for_them() {
        let mut list = [0; 192];
        list[..4].copy_from_slice(&[0x17, 0, 3, 42]);
        let (name_of_it, details) = probe(Layer::Udp, (40000, 123), &list).unwrap();
        assert_eq!(
            (name_of_it, details.get("request_code")),
            ("NTP", Some("42"))
        );
        assert_eq!(name((40000, 123), &list[..190]), None);
        assert_eq!(name((40000, 124), &list), None);
        list[0] = 0x97;
        assert_eq!(name((123, 40000), &list), None);
        list[5] = 2;
        list[7] = 92;
        assert_eq!(name((123, 40000), &list), Some("NTP"));
        list[2] = 9;
        assert_eq!(name((123, 40000), &list), None);
    }
}
