//! NTP (RFC 5905 section 7.3) and SNTP.
//!
//! UDP; version 1 to 4, modes but 0 and 6, and stratum, poll and precision as clocks have them. On
//! other ports only in the sizes of a header with or without an authenticator (RFC 5905 section 7.3,
//! RFC 7821): the first four bytes alone fit 1 of 4000 random packets.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Ntp;

const PORTS: &[u16] = &[123];
const SIZES: &[usize] = &[48, 52, 68, 72];

fn header(context: &Context<'_>) -> Option<[u8; 4]> {
    let [first, stratum, poll, precision, ..] = *context.payload.first_chunk::<48>()?;
    let (version, mode) = (first >> 3 & 7, first & 7);
    let possible = (1..=4).contains(&version)
        && !matches!(mode, 0 | 6)
        && stratum <= 16
        && poll <= 24
        && (-30..=0).contains(&(precision as i8))
        && (context.on(PORTS) || SIZES.contains(&context.payload.len()));
    possible.then_some([first, stratum, poll, precision])
}

impl Signature for Ntp {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Ntp]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Udp && matches!(first >> 3 & 7, 1..=4) && !matches!(first & 7, 0 | 6)
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let [first, ..] = header(context)?;
        let (on, off) = if first & 7 == 7 {
            (909, 606)
        } else {
            (942, 628)
        };
        verdict(
            Protocol::Ntp,
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
        let Some([first, stratum, poll, precision]) = header(context) else {
            return;
        };
        let mode = match first & 7 {
            1 => "symmetric_active",
            2 => "symmetric_passive",
            3 => "client",
            4 => "server",
            5 => "broadcast",
            _ => "reserved_private",
        };
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
        details.put("version", first >> 3 & 7);
        details.put("mode", mode);
        details.put("stratum", stratum);
        details.put("poll", poll);
        details.put("precision", precision as i8);
        details.put("leap_indicator", leap[usize::from(first >> 6)]);
        details.put("stratum_description", stratum_name);
        details.set_info(format_args!("NTP {mode}"));
    }
}
