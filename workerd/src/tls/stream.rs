//! TLS over a stream: the opening, records, and the handshake messages in them.

use shm_layout::counters::WorkerCounter as Counter;

use super::connection::Connection;
use super::describe::Describe;
use super::handshake::Messages;
use super::held::Room;
use super::hello::Carrier;
use super::opening::Opening;
use super::record::{Content, NoRecord, Records};
use super::version::hides_handshake;
use crate::flows::Direction;
use crate::session::{At, Tell};

/// Both directions of a stream.
#[derive(Debug, Default)]
pub struct Stream {
    sides: [Side; 2],
    /// Where data begin in a direction, once they have.
    data: [Option<u64>; 2],
}

/// One direction.
#[derive(Debug, Default)]
struct Side {
    opening: Opening,
    records: Records,
    messages: Messages,
    /// Whether bytes are missing, so that records may begin anywhere.
    is_torn: bool,
    is_lost: bool,
}

impl Stream {
    /// Where the handshake is over in `direction`, if that is known.
    #[must_use]
    pub fn data_from(&self, direction: Direction) -> Option<u64> {
        self.data[direction as usize]
    }

    /// Whether nothing can be read any more in `direction`.
    #[must_use]
    pub fn is_lost(&self, direction: Direction) -> bool {
        self.sides[direction as usize].is_lost
    }

    /// Takes in the next bytes of a direction.
    ///
    /// # Errors
    /// They are no TLS, and nothing says that the direction ever was.
    pub fn take(
        &mut self,
        at: &At,
        offset: u64,
        bytes: &[u8],
        connection: &mut Connection,
        parts: &mut Parts<'_, impl Tell>,
    ) -> Result<(), NoRecord> {
        let side = &mut self.sides[at.direction as usize];
        if side.is_lost {
            return Ok(());
        }
        let data = &mut self.data[at.direction as usize];
        let was_torn = side.is_torn;
        let read = side.take(at, offset, bytes, connection, data, parts);
        if read.is_err() {
            side.is_lost = true;
            if connection.is_certain() {
                parts.tell.count(Counter::TlsMalformed);
            }
            connection.was_lost(at.direction, parts.tell);
            if !was_torn && !connection.is_certain() {
                return read;
            }
        }
        // Both finish in turn, the client last: whatever the server says then is data.
        let is_hidden = connection.version().is_some_and(hides_handshake);
        let is_client = connection.is_of_client(at.direction);
        if is_hidden && connection.has_answer() && is_client && data.is_some() {
            for data in &mut self.data {
                data.get_or_insert(0);
            }
        }
        Ok(())
    }

    /// Bytes are missing in a direction: so many, if that is known.
    pub fn skip(
        &mut self,
        direction: Direction,
        len: Option<u64>,
        connection: &mut Connection,
        tell: &mut impl Tell,
    ) {
        let side = &mut self.sides[direction as usize];
        let is_inside_data = connection.is_dark(direction);
        if is_inside_data && len.is_some_and(|len| side.records.skip(len)) {
            return;
        }
        let is_first = matches!(side.opening, Opening::First);
        *side = Side {
            opening: Opening::Over,
            is_torn: true,
            ..Side::default()
        };
        if !is_first {
            connection.was_lost(direction, tell);
        }
    }
}

/// What reading needs beside the bytes.
pub struct Parts<'p, T: Tell> {
    /// Room for what is not whole.
    pub room: &'p Room,
    /// Makes notes.
    pub describe: &'p mut Describe,
    /// Who is told.
    pub tell: &'p mut T,
}

impl Side {
    fn take(
        &mut self,
        at: &At,
        offset: u64,
        bytes: &[u8],
        connection: &mut Connection,
        data: &mut Option<u64>,
        parts: &mut Parts<'_, impl Tell>,
    ) -> Result<(), NoRecord> {
        let end = offset + bytes.len() as u64;
        let mut rest = bytes;
        if let Some(old) = self.opening.take(&mut rest, parts.room)? {
            let last = end - rest.len() as u64 - 1;
            let (describe, tell) = (&mut *parts.describe, &mut *parts.tell);
            connection.take_old(at, old.is_client, old.version, last, describe, tell);
            if !old.may_become_new() {
                connection.went_on(at.direction, tell);
                self.is_lost = true;
                return Ok(());
            }
        }
        while let Some(part) = self.records.next(&mut rest)? {
            let content_end = end - rest.len() as u64;
            match part.header.content {
                Content::Handshake if !connection.is_dark(at.direction) => {
                    let mut piece = part.bytes;
                    // Not behind the last of them, wherever the record is cut.
                    while !connection.is_dark(at.direction)
                        && let Some(message) = self.messages.next(&mut piece, parts.room)
                    {
                        let last = content_end - piece.len() as u64;
                        connection.take(
                            at,
                            message,
                            Carrier::Stream,
                            last.saturating_sub(1),
                            parts.describe,
                            parts.tell,
                        );
                    }
                }
                Content::ChangeCipherSpec if part.is_first && !connection.is_retried() => {
                    connection.went_on(at.direction, parts.tell);
                }
                Content::Data => {
                    if part.is_first {
                        connection.went_on(at.direction, parts.tell);
                    }
                    let is_hidden = connection.version().is_some_and(hides_handshake);
                    if !is_hidden {
                        let content = content_end - part.bytes.len() as u64;
                        data.get_or_insert(content.saturating_sub(RECORD_HEADER));
                    } else if part.is_last
                        && connection.is_of_client(at.direction)
                        && connection.is_answered()
                    {
                        data.get_or_insert(content_end);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Bytes of a record's header.
const RECORD_HEADER: u64 = 5;
