//! Fields of a TLS hello that is whole in one record and one TCP segment (RFC 8446 section 5.1). What the fields are, [`crate::tls`] knows.

use super::reader::Reader;
use crate::matcher::{Fields, Kinds};
use crate::tls::fields::{of_client, of_server};
use crate::tls::hello::{Carrier, ClientHello, ServerHello};

pub use crate::tls::fields::KINDS;

/// Longest record.
const RECORD: usize = 16_384;

/// Whether a hello may start so.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    matches!(head, [22, 3, 0..=4, _, _, 1 | 2, ..])
}

/// Adds the wanted fields. False if it is no whole hello.
pub fn extract(segment: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    may_begin(segment) && hello(segment, wanted, fields).is_some()
}

fn hello(segment: &[u8], wanted: Kinds, fields: &mut Fields) -> Option<()> {
    let record = Reader(segment.get(3..)?).piece16()?;
    let mut handshake = Reader(record);
    let kind = handshake.u8()?;
    let len = handshake.u24()? as usize;
    let body = handshake.take(len)?;
    if record.len() > RECORD {
        return None;
    }
    let push = |kind, text: &[u8]| fields.push(kind, text);
    match kind {
        1 => of_client(&ClientHello::read(body, Carrier::Stream)?, wanted, push),
        _ => of_server(&ServerHello::read(body)?, wanted, push),
    }
    Some(())
}
