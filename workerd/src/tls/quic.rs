//! QUIC versions 1 and 2, and the drafts from 23 on (RFC 9000, RFC 9369): hellos from the CRYPTO frames of Initial packets.
//!
//! Packets may be coalesced, frames in any order and spread over datagrams. A Retry and a change of version are followed: the first changes the keys, the second the way they are made.

use super::connection::Connection;
use super::handshake::{self, Message};
use super::held::Room;
use super::hello::Carrier;
use super::pieces::Pieces;
use super::quic_keys::{Keys, LONGEST_ID, PacketKind, Version};
use super::stream::Parts;
use super::tracker::Nature;
use crate::extract::reader::Reader;
use crate::flows::Direction;
use crate::session::{At, Tell};

/// Most bytes of CRYPTO frames of a direction.
const LONGEST: u64 = 64 * 1024;
/// Most ids of a flow that keys are made of: a connection has one, and another one after each Retry.
const MOST_IDS: u8 = 16;
const LONG: u8 = 0x80;
const FIXED: u8 = 0x40;

/// Both directions.
#[derive(Debug, Default)]
pub struct Quic {
    origin: Option<Origin>,
    /// Ids that keys were made of.
    ids: u8,
    crypto: [Crypto; 2],
}

/// What the keys come from.
#[derive(Debug)]
struct Origin {
    /// In which direction the client sends.
    client: Direction,
    id: [u8; LONGEST_ID],
    id_len: u8,
    /// The keys of each direction, and the version that they were made for.
    keys: [Option<(Version, Keys)>; 2],
}

/// The handshake in one direction.
#[derive(Debug, Default)]
struct Crypto {
    /// What is told.
    told: u32,
    /// What waits, counted from there.
    pieces: Pieces,
    /// Bytes of it that are told, too.
    read: usize,
}

/// A packet with a long header.
struct Packet<'b> {
    version: Version,
    kind: PacketKind,
    id: &'b [u8],
    /// All of it, from its first byte on.
    bytes: &'b [u8],
    /// Where its packet number stands.
    number_at: usize,
}

/// What a datagram goes on with.
enum Next<'b> {
    Packet(Packet<'b>),
    /// A packet with a short header: the handshake is over.
    Short,
    /// A version of Google's, from before there was a standard.
    Older,
    /// Nothing that is read.
    Unknown,
}

/// Whether `payload` may be QUIC: it starts with a long header.
#[must_use]
pub fn may_begin(payload: &[u8]) -> bool {
    payload.len() > 6 && payload[0] & LONG != 0
}

impl Quic {
    /// Takes in a datagram. `scratch` is room to decrypt in.
    pub fn take(
        &mut self,
        at: &At,
        payload: &[u8],
        connection: &mut Connection,
        scratch: &mut Vec<u8>,
        parts: &mut Parts<'_, impl Tell>,
    ) -> Nature {
        let mut nature = Nature::Data;
        let mut rest = payload;
        while !rest.is_empty() {
            match Next::read(&mut rest) {
                Next::Packet(packet) => {
                    nature = Nature::Handshake;
                    match packet.kind {
                        PacketKind::Initial if !connection.is_dark(at.direction) => {
                            self.initial(at, &packet, connection, scratch, parts);
                        }
                        PacketKind::Handshake => connection.went_on(at.direction, parts.tell),
                        _ => {}
                    }
                }
                Next::Short => connection.went_on(at.direction, parts.tell),
                Next::Older => {
                    nature = Nature::Handshake;
                    connection.was_lost(at.direction, parts.tell);
                }
                Next::Unknown => nature = Nature::Handshake,
            }
        }
        nature
    }

    fn initial(
        &mut self,
        at: &At,
        packet: &Packet<'_>,
        connection: &mut Connection,
        scratch: &mut Vec<u8>,
        parts: &mut Parts<'_, impl Tell>,
    ) {
        let Some(frames) = self.open(at.direction, packet, scratch) else {
            return;
        };
        let crypto = &mut self.crypto[at.direction as usize];
        let mut rest = Reader(frames);
        while let Some(frame) = crypto_frame(&mut rest) {
            crypto.take(frame, parts.room, |message| {
                connection.take(at, message, Carrier::Quic, 0, parts.describe, parts.tell);
            });
        }
    }

    /// The frames of a packet, by the keys of the connection, or by those that its own id gives.
    fn open<'r>(
        &mut self,
        direction: Direction,
        packet: &Packet<'_>,
        scratch: &'r mut Vec<u8>,
    ) -> Option<&'r [u8]> {
        if let Some(origin) = &mut self.origin {
            let keys = origin.keys(direction, packet.version)?;
            if keys.open(packet.bytes, packet.number_at, scratch).is_some() {
                return content(scratch, packet.number_at);
            }
        }
        if self.ids == MOST_IDS {
            return None;
        }
        self.ids += 1;
        let mut origin = Origin::new(direction, packet.id)?;
        let keys = origin.keys(direction, packet.version)?;
        keys.open(packet.bytes, packet.number_at, scratch)?;
        self.origin = Some(origin);
        content(scratch, packet.number_at)
    }
}

/// What [`Keys::open`] has left in `scratch`.
fn content(scratch: &[u8], number_at: usize) -> Option<&[u8]> {
    const TAG: usize = 16;
    let number_len = usize::from(scratch.first()? & 3) + 1;
    scratch.get(number_at + number_len..scratch.len().checked_sub(TAG)?)
}

impl Origin {
    fn new(client: Direction, id: &[u8]) -> Option<Self> {
        let mut room = [0; LONGEST_ID];
        room.get_mut(..id.len())?.copy_from_slice(id);
        Some(Self {
            client,
            id: room,
            id_len: id.len() as u8,
            keys: [None, None],
        })
    }

    fn keys(&mut self, direction: Direction, version: Version) -> Option<&Keys> {
        let keys = &mut self.keys[direction as usize];
        if keys.as_ref().is_none_or(|(of, _)| *of != version) {
            let id = &self.id[..usize::from(self.id_len)];
            let derived = Keys::derive(version, id, direction == self.client)?;
            *keys = Some((version, derived));
        }
        keys.as_ref().map(|(_, keys)| keys)
    }
}

impl Crypto {
    /// Takes in a frame: its place and its bytes. Messages that are whole are given to `each`.
    fn take(
        &mut self,
        (start, bytes): (u64, &[u8]),
        room: &Room,
        mut each: impl FnMut(Message<'_>),
    ) {
        if start + bytes.len() as u64 > LONGEST {
            return;
        }
        let start = start as u32;
        let known = self.told.saturating_sub(start) as usize;
        let Some(mut bytes) = bytes.get(known..) else {
            return;
        };
        let mut start = start.saturating_sub(self.told);
        if self.pieces.is_empty() && start == 0 {
            // Mostly the frame holds the message.
            while let Some((message, len)) = message(bytes) {
                each(message);
                (self.told, bytes) = (self.told + len as u32, &bytes[len..]);
            }
            start = 0;
        }
        if bytes.is_empty() {
            return;
        }
        self.pieces.put(start, bytes, room);
        while let Some((message, len)) = self.pieces.whole().get(self.read..).and_then(message) {
            each(message);
            self.read += len;
        }
        if self.read == self.pieces.end() {
            self.told += self.read as u32;
            self.read = 0;
            self.pieces.clear();
        }
    }
}

/// The message at the start of `bytes`, if it is whole, and its length with its head.
fn message(bytes: &[u8]) -> Option<(Message<'_>, usize)> {
    let mut rest = Reader(bytes);
    let (kind, len) = (rest.u8()?, rest.u24()? as usize);
    let body = rest.take(len)?;
    let body = handshake::is_read(kind).then_some(body);
    Some((Message { kind, body }, 4 + len))
}

/// The next CRYPTO frame. Other frames that Initial packets may have are passed over (RFC 9000 section 17.2.2); what they may not have ends it.
fn crypto_frame<'b>(rest: &mut Reader<'b>) -> Option<(u64, &'b [u8])> {
    loop {
        match rest.u8()? {
            // PADDING, PING.
            0 => {
                let padding = rest.0.iter().take_while(|byte| **byte == 0).count();
                rest.take(padding)?;
            }
            1 => {}
            // ACK.
            kind @ (2 | 3) => {
                varint(rest)?;
                varint(rest)?;
                let ranges = varint(rest)?;
                varint(rest)?;
                for _ in 0..ranges {
                    varint(rest)?;
                    varint(rest)?;
                }
                for _ in 0..if kind == 3 { 3 } else { 0 } {
                    varint(rest)?;
                }
            }
            6 => {
                let start = varint(rest)?;
                let len = usize::try_from(varint(rest)?).ok()?;
                return Some((start, rest.take(len)?));
            }
            _ => return None,
        }
    }
}

/// A number of variable length (RFC 9000 section 16).
fn varint(rest: &mut Reader<'_>) -> Option<u64> {
    let first = rest.u8()?;
    let others = rest.take((1 << (first >> 6)) - 1)?;
    let first = u64::from(first & 0x3f);
    Some(
        others
            .iter()
            .fold(first, |number, byte| number << 8 | u64::from(*byte)),
    )
}

impl<'b> Next<'b> {
    /// Takes it off the front of `rest`.
    fn read(rest: &mut &'b [u8]) -> Self {
        let bytes = std::mem::take(rest);
        let Some(first) = bytes.first() else {
            return Self::Unknown;
        };
        if first & LONG == 0 {
            return match first & FIXED {
                0 => Self::Unknown,
                _ => Self::Short,
            };
        }
        if let [_, b'Q' | b'T', a, b, c, ..] = bytes
            && [a, b, c].iter().all(|digit| digit.is_ascii_digit())
        {
            return Self::Older;
        }
        match Packet::read(bytes) {
            Some(packet) => {
                *rest = &bytes[packet.bytes.len()..];
                Self::Packet(packet)
            }
            None => Self::Unknown,
        }
    }
}

impl<'b> Packet<'b> {
    fn read(bytes: &'b [u8]) -> Option<Self> {
        let mut rest = Reader(bytes);
        let first = rest.u8()?;
        let version = rest.u16().zip(rest.u16())?;
        let version = Version::numbered(u32::from(version.0) << 16 | u32::from(version.1))?;
        let id = rest.piece8().filter(|id| id.len() <= LONGEST_ID)?;
        rest.piece8().filter(|id| id.len() <= LONGEST_ID)?;
        let kind = version.kind(first);
        if kind == PacketKind::Retry {
            return Some(Self {
                version,
                kind,
                id,
                bytes,
                number_at: bytes.len(),
            });
        }
        if kind == PacketKind::Initial {
            let token = usize::try_from(varint(&mut rest)?).ok()?;
            rest.take(token)?;
        }
        let len = usize::try_from(varint(&mut rest)?).ok()?;
        let number_at = bytes.len() - rest.0.len();
        Some(Self {
            version,
            kind,
            id,
            bytes: bytes.get(..number_at.checked_add(len)?)?,
            number_at,
        })
    }
}
