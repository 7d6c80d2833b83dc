//! WebSocket, by its opening handshake (RFC 6455 section 4).
//!
//! An HTTP request or 101 response whose `Upgrade` is websocket and whose `Connection` contains
//! upgrade; a request must also have its key.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::contains;
use super::http::{Start, header};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct WebSocket;

enum Handshake {
    Request,
    Response,
}

fn handshake(payload: &[u8]) -> Option<Handshake> {
    let start = Start::of(payload)?;
    let upgrade = header(payload, b"upgrade")?;
    let connection = header(payload, b"connection")?;
    if !upgrade.eq_ignore_ascii_case(b"websocket") || !contains(connection, b"upgrade") {
        return None;
    }
    match start {
        Start::Request { method: b"GET", .. } => {
            header(payload, b"sec-websocket-key").map(|_| Handshake::Request)
        }
        Start::Response { status: b"101", .. } => Some(Handshake::Response),
        _ => None,
    }
}

impl Signature for WebSocket {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::WebSocket]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && matches!(first, b'G' | b'H')
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        handshake(context.payload)?;
        verdict(Protocol::WebSocket, Confidence::DEFINITE)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let told: &[(&'static str, &[u8])] = match handshake(context.payload) {
            Some(Handshake::Request) => {
                details.put("type", "upgrade_request");
                &[
                    ("sec_key", b"sec-websocket-key"),
                    ("version", b"sec-websocket-version"),
                    ("protocol", b"sec-websocket-protocol"),
                    ("origin", b"origin"),
                ]
            }
            Some(Handshake::Response) => {
                details.put("type", "upgrade_response");
                &[
                    ("sec_accept", b"sec-websocket-accept"),
                    ("protocol", b"sec-websocket-protocol"),
                ]
            }
            None => &[],
        };
        for (key, name) in told {
            if let Some(value) = header(context.payload, name) {
                details.text(key, value);
            }
        }
    }
}
