//! PostgreSQL's frontend/backend protocol (PostgreSQL documentation, "Message Formats").
//!
//! TCP port 5432; a startup, an encryption or a cancel request, or a message of a known type whose length
//! is 4 to 1048576.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::{Details, Entry};
use super::fields::{be32, byte, split};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct PostgreSql;

const PORTS: &[u16] = &[5432];
const VERSION_3: u32 = 0x0003_0000;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
const TYPES: &[u8] = b"RSKZTDCENI123sntQPBFHXdcfGWAV";

enum Message {
    Startup,
    SslRequest,
    GssRequest,
    Cancel,
    Typed(u8),
}

fn message(context: &Context<'_>) -> Option<Message> {
    let payload = context.payload;
    let (len, code) = (be32(payload, 0)?, be32(payload, 4)?);
    if !context.on(PORTS) {
        return None;
    }
    let startup = (8..=10240).contains(&len);
    match code {
        VERSION_3 if startup => return Some(Message::Startup),
        SSL_REQUEST if startup => return Some(Message::SslRequest),
        GSS_REQUEST if startup => return Some(Message::GssRequest),
        CANCEL_REQUEST => return Some(Message::Cancel),
        _ => {}
    }
    let (kind, len) = (byte(payload, 0)?, be32(payload, 1)?);
    let known = TYPES.contains(&kind) && (4..=1_048_576).contains(&len);
    known.then_some(Message::Typed(kind))
}

/// Names and values of a startup message, each ended by 0; an empty name ends them.
fn parameters(payload: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = payload.get(8..).unwrap_or_default();
    let next = move || {
        let (name, values) = split(rest, 0)?;
        let (value, behind) = split(values, 0)?;
        rest = behind;
        (!name.is_empty()).then_some(Entry(name, value))
    };
    std::iter::from_fn(next).take(64)
}

fn name(kind: u8) -> &'static str {
    match kind {
        b'R' => "Authentication",
        b'S' => "ParameterStatus",
        b'K' => "BackendKeyData",
        b'Z' => "ReadyForQuery",
        b'T' => "RowDescription",
        b'D' => "DataRow",
        b'C' => "CommandComplete",
        b'E' => "ErrorResponse",
        b'N' => "NoticeResponse",
        b'I' => "EmptyQueryResponse",
        b'Q' => "Query",
        b'P' => "Parse",
        b'B' => "Bind",
        b'X' => "Terminate",
        b'A' => "NotificationResponse",
        _ => "Unknown",
    }
}

impl Signature for PostgreSql {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::PostgreSql]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && (first == 0 || TYPES.contains(&first))
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        let confidence = match message(context)? {
            Message::Startup | Message::SslRequest | Message::GssRequest => 1000,
            Message::Cancel => 966,
            Message::Typed(_) => 840,
        };
        verdict(Protocol::PostgreSql, Confidence::thousandths(confidence))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        match message(context) {
            Some(Message::Startup) => {
                details.put("type", "startup");
                details.put("protocol_version", VERSION_3);
                details.put("message", "Startup Message (v3.0)");
                details.list("parameters", '\n', parameters(context.payload));
            }
            Some(Message::SslRequest) => {
                details.put("type", "startup");
                details.put("protocol_version", SSL_REQUEST);
                details.put("message", "SSL Request");
                details.put("ssl_request", true);
            }
            Some(Message::GssRequest) => {
                details.put("type", "startup");
                details.put("protocol_version", GSS_REQUEST);
                details.put("message", "GSSAPI Encryption Request");
            }
            Some(Message::Cancel) => {
                details.put("type", "cancel_request");
                details.put("message", "Cancel Request");
            }
            Some(Message::Typed(kind)) => {
                details.put("type", "message");
                details.put("message_type", char::from(kind));
                details.put("message_name", name(kind));
            }
            None => {}
        }
    }

    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::Tls]
    }
}
