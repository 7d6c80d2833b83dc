//! Telnet option negotiation (RFC 854, RFC 855).
//!
//! TCP port 23; an IAC (255) with two bytes behind it, and an IAC followed by a command (240 to 255).

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Value, Writer};
use super::fields::head;
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};
use memchr::memchr_iter;
use std::fmt::{self, Write};

/// See the module.
pub struct Telnet;

const PORTS: &[u16] = &[23];
const IAC: u8 = 255;
/// Bytes of a payload that are looked at.
const WINDOW: usize = 500;

/// How many IACs there are, if it is Telnet.
fn count(context: &Context<'_>) -> Option<usize> {
    let payload = head(context.payload, WINDOW);
    if !context.on(PORTS) || payload.len() < 3 {
        return None;
    }
    let count = memchr_iter(IAC, &payload[..payload.len() - 2]).count();
    let commands = payload
        .windows(2)
        .any(|pair| pair[0] == IAC && pair[1] >= 240);
    (count > 0 && commands).then_some(count)
}

/// A negotiation as text.
struct Negotiation(u8, u8);

impl Value for Negotiation {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        let verb = ["WILL", "WONT", "DO", "DONT"][usize::from(self.0 - 251)];
        let option = match self.1 {
            0 => "Binary Transmission",
            1 => "Echo",
            3 => "Suppress Go Ahead",
            5 => "Status",
            6 => "Timing Mark",
            24 => "Terminal Type",
            31 => "Window Size",
            32 => "Terminal Speed",
            33 => "Remote Flow Control",
            34 => "Linemode",
            36 => "Environment Variables",
            other => return write!(out, "{verb} {}", char::from(other)),
        };
        write!(out, "{verb} {option}")
    }
}

impl Signature for Telnet {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Telnet]
    }

    fn starts(&self, layer: Layer, _: u8) -> bool {
        layer == Layer::Tcp
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let many = count(context)? >= 3;
        verdict(Protocol::Telnet, Confidence::by_port(many, 966, 840))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let Some(count) = count(context) else {
            return;
        };
        details.put("iac_count", count);
        let triples = head(context.payload, WINDOW).windows(3);
        let negotiations = triples.filter_map(|triple| match *triple {
            [IAC, verb @ 251..=254, option] => Some(Negotiation(verb, option)),
            _ => None,
        });
        details.list("negotiations", ',', negotiations);
    }
}
