//! DTLS 1.0 to 1.3 (RFC 6347, RFC 9147): messages from the fragments that records carry them in.
//!
//! What is repeated is told again. A HelloVerifyRequest, with which a server has the client say hello again, tells nothing itself.

use super::connection::Connection;
use super::handshake::{self, Message};
use super::hello::Carrier;
use super::pieces::Pieces;
use super::stream::Parts;
use super::tracker::Nature;
use super::version::hides_handshake;
use crate::extract::reader::Reader;
use crate::session::{At, Tell};

const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
/// Messages of a direction that are put together at the same time.
const MOST_MESSAGES: usize = 2;

/// Both directions.
#[derive(Debug, Default)]
pub struct Dtls {
    unfinished: [Vec<Unfinished>; 2],
    /// Whether the client has sent something encrypted, with which DTLS 1.3 ends its handshake.
    is_finished: bool,
}

/// A message that is not whole.
#[derive(Debug)]
struct Unfinished {
    /// Type, length and number of the message.
    head: (u8, u32, u16),
    pieces: Pieces,
}

/// A record.
struct Record<'b> {
    content: u8,
    is_encrypted: bool,
    bytes: &'b [u8],
}

/// Whether `payload` may be DTLS: it starts with a record in clear or, in the middle of a connection of DTLS 1.3, with an encrypted one.
#[must_use]
pub fn may_begin(payload: &[u8]) -> bool {
    matches!(
        payload,
        [20..=26, 0xfe, 0xff | 0xfd | 0xfc, ..] | [20..=26, 1, 0, ..]
    )
}

/// An encrypted record of DTLS 1.3 (RFC 9147 section 4).
fn is_unified(first: u8) -> bool {
    first >> 5 == 1
}

impl Dtls {
    /// Takes in a datagram.
    pub fn take(
        &mut self,
        at: &At,
        payload: &[u8],
        connection: &mut Connection,
        parts: &mut Parts<'_, impl Tell>,
    ) -> Nature {
        let mut nature = Nature::Handshake;
        let mut rest = Reader(payload);
        while let Some(first) = rest.0.first().copied() {
            if is_unified(first) {
                // The last record may have no length.
                nature = self.encrypted(at, connection);
                connection.went_on(at.direction, parts.tell);
                break;
            }
            let Some(record) = Record::read(&mut rest) else {
                break;
            };
            match record.content {
                HANDSHAKE if !record.is_encrypted => {
                    if !connection.is_dark(at.direction) {
                        self.handshake(at, record.bytes, connection, parts);
                    }
                }
                CHANGE_CIPHER_SPEC => connection.went_on(at.direction, parts.tell),
                content => {
                    if record.is_encrypted {
                        connection.went_on(at.direction, parts.tell);
                    }
                    if content == DATA {
                        nature = Nature::Data;
                    }
                }
            }
        }
        nature
    }

    /// What an encrypted record of DTLS 1.3 is: the client's first ones behind the ServerHello finish the handshake.
    fn encrypted(&mut self, at: &At, connection: &Connection) -> Nature {
        if self.is_finished {
            return Nature::Data;
        }
        let is_hidden = connection.version().is_none_or(hides_handshake);
        let is_answered = connection.is_of_client(at.direction) && connection.is_answered();
        self.is_finished = is_answered || !is_hidden;
        Nature::Handshake
    }

    fn handshake(
        &mut self,
        at: &At,
        bytes: &[u8],
        connection: &mut Connection,
        parts: &mut Parts<'_, impl Tell>,
    ) {
        let mut rest = Reader(bytes);
        while let Some(fragment) = Fragment::read(&mut rest) {
            let (kind, len, _) = fragment.head;
            if fragment.bytes.len() as u32 == len {
                let body = handshake::is_read(kind).then_some(fragment.bytes);
                let message = Message { kind, body };
                connection.take(at, message, Carrier::Dtls, 0, parts.describe, parts.tell);
            } else if handshake::is_read(kind) && len as usize <= handshake::LONGEST {
                self.fragment(at, &fragment, connection, parts);
            }
        }
    }

    fn fragment(
        &mut self,
        at: &At,
        fragment: &Fragment<'_>,
        connection: &mut Connection,
        parts: &mut Parts<'_, impl Tell>,
    ) {
        let unfinished = &mut self.unfinished[at.direction as usize];
        let place = unfinished.iter().position(|one| one.head == fragment.head);
        let place = place.unwrap_or_else(|| {
            if unfinished.len() == MOST_MESSAGES {
                unfinished.remove(0);
            }
            unfinished.push(Unfinished {
                head: fragment.head,
                pieces: Pieces::default(),
            });
            unfinished.len() - 1
        });
        let one = &mut unfinished[place];
        let (kind, len, _) = fragment.head;
        one.pieces.put(fragment.start, fragment.bytes, parts.room);
        if one.pieces.whole().len() as u32 == len {
            let message = Message {
                kind,
                body: Some(one.pieces.whole()),
            };
            connection.take(at, message, Carrier::Dtls, 0, parts.describe, parts.tell);
            unfinished.remove(place);
        }
    }
}

impl<'b> Record<'b> {
    /// Type, version, epoch, sequence number, length, content.
    fn read(rest: &mut Reader<'b>) -> Option<Self> {
        let content = rest.u8()?;
        rest.u16()?;
        let epoch = rest.u16()?;
        rest.take(6)?;
        let bytes = rest.piece16()?;
        (20..=26).contains(&content).then_some(Self {
            content,
            is_encrypted: epoch > 0,
            bytes,
        })
    }
}

/// Part of a message.
struct Fragment<'b> {
    head: (u8, u32, u16),
    start: u32,
    bytes: &'b [u8],
}

impl<'b> Fragment<'b> {
    /// Type, length of the message, its number, start of the fragment, its length, its bytes (RFC 6347 section 4.2.2).
    fn read(rest: &mut Reader<'b>) -> Option<Self> {
        let (kind, len) = (rest.u8()?, rest.u24()?);
        let number = rest.u16()?;
        let (start, fragment_len) = (rest.u24()?, rest.u24()?);
        let bytes = rest.take(fragment_len as usize)?;
        (start + fragment_len <= len).then_some(Self {
            head: (kind, len, number),
            start,
            bytes,
        })
    }
}
