//! Handshake messages (RFC 8446 section 4): put together from the pieces that records carry them in.

use super::held::{Held, Room};

/// Types of messages that are looked into.
pub mod kind {
    /// ClientHello.
    pub const CLIENT_HELLO: u8 = 1;
    /// ServerHello, or HelloRetryRequest.
    pub const SERVER_HELLO: u8 = 2;
    /// HelloVerifyRequest of DTLS.
    pub const HELLO_VERIFY_REQUEST: u8 = 3;
    /// HelloRetryRequest of the drafts of TLS 1.3.
    pub const HELLO_RETRY_REQUEST: u8 = 6;
    /// Certificate.
    pub const CERTIFICATE: u8 = 11;
    /// ServerHelloDone.
    pub const SERVER_HELLO_DONE: u8 = 14;
    /// ClientKeyExchange.
    pub const CLIENT_KEY_EXCHANGE: u8 = 16;
}

/// Longest message that is looked into: no hello can be longer, and no usual chain of certificates is.
pub const LONGEST: usize = 132 * 1024;

/// The name of a type of messages; none for those that no table has.
#[must_use]
pub fn name(kind: u8) -> &'static str {
    match kind {
        1 => "ClientHello",
        2 => "ServerHello",
        3 => "HelloVerifyRequest",
        4 => "NewSessionTicket",
        6 => "HelloRetryRequest",
        11 => "Certificate",
        12 => "ServerKeyExchange",
        13 => "CertificateRequest",
        14 => "ServerHelloDone",
        15 => "CertificateVerify",
        16 => "ClientKeyExchange",
        20 => "Finished",
        22 => "CertificateStatus",
        _ => "",
    }
}

/// Whether messages of this type are looked into.
#[must_use]
pub fn is_read(kind: u8) -> bool {
    matches!(
        kind,
        kind::CLIENT_HELLO | kind::SERVER_HELLO | kind::HELLO_RETRY_REQUEST | kind::CERTIFICATE
    )
}

/// A message that has come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'m> {
    /// Its type.
    pub kind: u8,
    /// Its body; `None` if it is not looked into, is too long or had no room.
    pub body: Option<&'m [u8]>,
}

/// Puts messages of one direction together.
#[derive(Debug, Default)]
pub struct Messages {
    head: [u8; 4],
    /// Bytes of `head` that are there.
    have: u8,
    /// Bytes of the body that are to come, once `head` is there.
    left: usize,
    /// Whether the body is kept.
    is_kept: bool,
    held: Held,
}

impl Messages {
    /// Takes the next message off the front of `bytes`; `None` when they are used up.
    pub fn next<'m, 'b: 'm>(
        &'m mut self,
        bytes: &mut &'b [u8],
        room: &Room,
    ) -> Option<Message<'m>> {
        if usize::from(self.have) < self.head.len() {
            // The message before is told.
            self.held.clear();
            let begins = self.head(bytes)?;
            if self.is_kept && bytes.len() >= begins {
                let (body, rest) = bytes.split_at(begins);
                (*bytes, self.have) = (rest, 0);
                return Some(Message {
                    kind: self.head[0],
                    body: Some(body),
                });
            }
        }
        let (piece, rest) = bytes.split_at(bytes.len().min(self.left));
        *bytes = rest;
        self.left -= piece.len();
        self.is_kept = self.is_kept && self.held.extend(piece, room);
        if !self.is_kept {
            self.held.clear();
        }
        if self.left > 0 {
            return None;
        }
        self.have = 0;
        Some(Message {
            kind: self.head[0],
            body: self.is_kept.then(|| self.held.bytes()),
        })
    }

    /// Whether a message has begun that is not whole.
    #[must_use]
    pub fn is_inside(&self) -> bool {
        self.have > 0
    }

    /// Length of the body, once the head is there.
    fn head(&mut self, bytes: &mut &[u8]) -> Option<usize> {
        let have = usize::from(self.have);
        let (start, rest) = bytes.split_at(bytes.len().min(4 - have));
        self.head[have..have + start.len()].copy_from_slice(start);
        self.have += start.len() as u8;
        *bytes = rest;
        if usize::from(self.have) < 4 {
            return None;
        }
        let [kind, len @ ..] = self.head;
        self.left = len
            .iter()
            .fold(0, |len, byte| len << 8 | usize::from(*byte));
        self.is_kept = is_read(kind) && self.left <= LONGEST;
        Some(self.left)
    }
}
