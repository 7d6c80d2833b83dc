//! A packet in the hands of a worker: copied out of shared memory, decoded, and, if it waits, in the log of held packets.

use std::cell::RefCell;
use std::rc::Rc;

use shm_layout::log::{LogError, LogWriter};
use shm_layout::packet::{HEADER_BYTES, PacketHeader};
use shm_layout::ring::Full;
use shm_layout::shared_bytes::SharedBytes;
use shm_layout::worker::InProgress;

use super::held::Position;
use crate::decode::{Decoded, decode};
use crate::esp::EspNull;

/// Bytes in front of a held packet: its capture thread and its header. Its link type is the kind of its record.
const HELD_HEAD: usize = 2 + HEADER_BYTES;

/// What looks into ESP, for all that look at packets of a worker.
pub type SharedEsp = Rc<RefCell<EspNull>>;

/// A packet, decoded.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// Times and lengths.
    pub header: &'a PacketHeader,
    /// Its headers.
    pub decoded: &'a Decoded,
    /// Its bytes.
    pub frame: &'a [u8],
}

impl<'a> Sight<'a> {
    /// What it carries.
    #[must_use]
    #[inline]
    pub fn payload(&self) -> &'a [u8] {
        self.decoded.payload_of(self.frame)
    }
}

/// See the [module](self).
pub struct Hand {
    /// Its capture thread.
    pub queue: u16,
    /// Times and lengths.
    pub header: PacketHeader,
    /// Its headers.
    pub decoded: Decoded,
    /// Whether it is no packet, but what is told of a message apart from its packet ([`Apart`](crate::voip::apart::Apart)); the frame is that then.
    pub is_apart: bool,
    /// Its bytes, and perhaps more behind them.
    pub(crate) frame: Vec<u8>,
    /// A record of the log of held packets.
    record: Vec<u8>,
}

impl Default for Hand {
    fn default() -> Self {
        Self {
            queue: 0,
            header: PacketHeader::from_bytes(0, &[0; HEADER_BYTES]),
            frame: Vec::new(),
            decoded: Decoded::default(),
            record: Vec::new(),
            is_apart: false,
        }
    }
}

impl Hand {
    /// Copies a packet out of an rx ring, and decodes it.
    pub fn take(&mut self, identity: InProgress, header: PacketHeader, data: &SharedBytes<'_>) {
        self.is_apart = false;
        self.queue = u16::from(identity.queue);
        self.header = header;
        data.copy_to(self.room(data.len()));
        self.decode();
    }

    fn room(&mut self, len: usize) -> &mut [u8] {
        if self.frame.len() < len {
            self.frame.resize(len, 0);
        }
        &mut self.frame[..len]
    }

    /// The bytes of the packet.
    #[must_use]
    pub fn frame(&self) -> &[u8] {
        let len = self.header.captured_len as usize;
        self.frame.get(..len).unwrap_or(&self.frame)
    }

    /// Which packet it is.
    #[must_use]
    pub fn identity(&self) -> InProgress {
        InProgress::new(usize::from(self.queue), self.header.sequence)
    }

    /// Decodes it.
    pub fn decode(&mut self) {
        #[cfg(debug_assertions)]
        crate::poison::taste(self.frame());
        self.decoded = decode(self.header.link_type, self.frame());
    }

    /// Looks into ESP, if it may be without encryption.
    pub fn open(&mut self, esp: &SharedEsp) {
        let mut esp = esp.borrow_mut();
        if !esp.concerns(&self.decoded) {
            return;
        }
        let frame = self.frame.get(..self.header.captured_len as usize);
        let time_ns = self.header.timestamp_ns;
        let inner = frame.and_then(|frame| esp.open(&self.decoded, frame, time_ns));
        self.decoded = inner.unwrap_or(self.decoded);
    }

    /// How it looks.
    #[must_use]
    pub fn sight(&self) -> Sight<'_> {
        Sight {
            header: &self.header,
            decoded: &self.decoded,
            frame: self.frame(),
        }
    }

    /// Appends it to the log of held packets. Where it lies then.
    ///
    /// # Errors
    /// [`Full`]
    pub fn put_aside(&self, held: &mut LogWriter) -> Result<Position, Full> {
        let parts = [
            &self.queue.to_le_bytes()[..],
            &self.header.to_bytes(),
            self.frame(),
        ];
        held.append(self.header.link_type, &parts)
    }

    /// Takes the held packet at `position`, or behind the padding there. Where it starts and ends; `None` where there is none any more.
    ///
    /// # Errors
    /// The record there is none of a packet.
    pub fn recall(
        &mut self,
        held: &LogWriter,
        position: Position,
    ) -> Result<Option<(Position, Position)>, LogError> {
        let Some(record) = held.read(position, &mut self.record)? else {
            return Ok(None);
        };
        let (start, end, link_type) = (record.position, record.end, record.kind);
        let malformed = LogError::Position { position };
        let (head, frame) = record
            .body
            .split_first_chunk::<HELD_HEAD>()
            .ok_or(malformed)?;
        let (queue, header) = head.split_first_chunk::<2>().ok_or(malformed)?;
        let header = header.first_chunk().ok_or(malformed)?;
        self.header = PacketHeader::from_bytes(link_type, header);
        self.queue = u16::from_le_bytes(*queue);
        self.is_apart = self.header.captured_len == 0 && !frame.is_empty();
        if !self.is_apart && frame.len() != self.header.captured_len as usize {
            return Err(malformed);
        }
        self.frame.clear();
        self.frame.extend_from_slice(frame);
        Ok(Some((start, end)))
    }
}

/// A copy of the packet `wanted`, if it is held.
pub(crate) fn find_held(held: &LogWriter, wanted: InProgress) -> Option<(PacketHeader, Vec<u8>)> {
    let mut hand = Hand::default();
    let mut position = held.tail();
    while let Ok(Some((_, end))) = hand.recall(held, position) {
        if hand.identity() == wanted && !hand.is_apart {
            return Some((hand.header, hand.frame));
        }
        position = end;
    }
    None
}
