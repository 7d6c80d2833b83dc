//! HTTP/2 (RFC 9113 sections 3.4, 4.1 and 6), and gRPC above it.
//!
//! The client's preface (named gRPC, as the reference does), or a first frame that can be one: a
//! known type, only the flags of that type, the lengths and streams that it demands, and another frame
//! behind it if anything is. Frames of
//! Modbus/TCP have the same shape and are told apart by their own length.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{be16, be24, be32, byte};
use super::protocol::Protocol;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Http2;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const GRPC: &[u16] = &[55555];
/// Ports where the middle of another protocol's stream is likelier than a frame: FTP, SSH, Telnet,
/// mail, DNS, HTTP/1.
const OTHERS: &[u16] = &[21, 22, 23, 25, 53, 80, 110, 143];
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const NAMES: [&str; 11] = [
    "DATA",
    "HEADERS",
    "PRIORITY",
    "RST_STREAM",
    "SETTINGS",
    "PUSH_PROMISE",
    "PING",
    "GOAWAY",
    "WINDOW_UPDATE",
    "CONTINUATION",
    "ALTSVC",
];
/// Flags by type; the others must be 0 (RFC 9113 section 4.1).
const FLAGS: [u8; 11] = [0x09, 0x2d, 0, 0, 1, 0x0c, 1, 0, 0, 4, 0];

struct Frame {
    len: u32,
    kind: u8,
    flags: u8,
    stream: u32,
}

impl Frame {
    /// The frame that a payload starts with, if what follows it is one as well.
    fn of(payload: &[u8]) -> Option<Self> {
        let frame = Self::header(payload)?;
        let len = frame.len as usize;
        let follows = match payload.get(9 + len..) {
            Some([]) => true,
            Some(rest) => rest.len() < 9 || Self::header(rest).is_some(),
            // Split over segments: a whole block of headers, or the most data a frame may hold.
            None if frame.kind == HEADERS => len >= 100 && frame.flags & END_HEADERS != 0,
            None => frame.kind == DATA && len >= 16384 && len.is_power_of_two(),
        };
        (follows && !modbus(payload)).then_some(frame)
    }

    fn header(payload: &[u8]) -> Option<Self> {
        let frame = Self {
            len: be24(payload, 0)?,
            kind: byte(payload, 3)?,
            flags: byte(payload, 4)?,
            stream: be32(payload, 5)?,
        };
        let (len, known) = (frame.len, *FLAGS.get(usize::from(frame.kind))?);
        let shape = match frame.kind {
            DATA => frame.stream != 0 && len <= 65536 && (len > 0 || frame.flags != 0),
            HEADERS => frame.stream % 2 == 1 && (1..=16384).contains(&len),
            PRIORITY => frame.stream != 0 && len == 5,
            RST_STREAM => frame.stream != 0 && len == 4,
            SETTINGS => frame.stream == 0 && len.is_multiple_of(6) && len <= 16384,
            PUSH_PROMISE | CONTINUATION => frame.stream != 0 && (1..=16384).contains(&len),
            PING => frame.stream == 0 && len == 8,
            GOAWAY => frame.stream == 0 && (8..=16384).contains(&len),
            WINDOW_UPDATE => {
                len == 4 && be32(payload, 9).is_none_or(|step| step >> 31 == 0 && step > 0)
            }
            _ => len <= 16384,
        };
        (frame.flags & !known == 0 && frame.stream >> 31 == 0 && shape).then_some(frame)
    }
}

/// The header of Modbus/TCP: protocol 0, and a length that is exact.
fn modbus(payload: &[u8]) -> bool {
    be16(payload, 2) == Some(0)
        && be16(payload, 4).is_some_and(|len| usize::from(len) + 6 == payload.len())
}

impl Signature for Http2 {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Grpc, Protocol::Http2]
    }

    /// The first byte of a length is 0 up to 65535, and 1 at 65536.
    fn starts(&self, layer: Layer, first: u8) -> bool {
        layer == Layer::Tcp && matches!(first, 0 | 1 | b'P')
    }

    /// A flow of HTTP/1 turns into HTTP/2 by the preface alone.
    fn judge(&self, context: &Context<'_>, notes: &mut Notes<'_>) -> Option<Verdict> {
        if context.payload.starts_with(PREFACE) {
            return verdict(Protocol::Grpc, Confidence::DEFINITE);
        }
        if notes.protocol != Protocol::Unknown {
            return None;
        }
        let frame = Frame::of(context.payload).filter(|_| !context.on(OTHERS))?;
        if context.on(GRPC) {
            return verdict(Protocol::Grpc, Confidence::VERY_HIGH);
        }
        let confidence = match (frame.stream, frame.kind) {
            (0, SETTINGS | PING | GOAWAY) => 820,
            (0, _) => 807,
            _ => 783,
        };
        verdict(Protocol::Http2, Confidence::thousandths(confidence))
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        _: &mut Notes<'_>,
        details: &mut Details,
    ) {
        details.set_info("gRPC/HTTP2");
        if context.payload.starts_with(PREFACE) {
            details.put("type", "connection_preface");
        } else if let Some(frame) = Frame::of(context.payload) {
            details.put("frame_type", NAMES[usize::from(frame.kind)]);
            details.put("frame_length", frame.len);
            details.put("stream_id", frame.stream);
            details.put("flags", frame.flags);
        }
    }
}
