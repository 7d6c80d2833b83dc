//! Traffic in memory: one buffer of frames and an index, read again and again at full speed.

use super::{Frames, Packet};

/// Frames laid out one behind the other.
#[derive(Debug, Default)]
pub struct Memory {
    bytes: Vec<u8>,
    index: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    time_ns: u64,
    offset: usize,
    length: usize,
}

impl Memory {
    /// All that `frames` yields.
    pub fn collect(frames: &mut impl Frames) -> Self {
        let mut memory = Self::default();
        while let Some(packet) = frames.next_frame() {
            memory.index.push(Entry {
                time_ns: packet.time_ns,
                offset: memory.bytes.len(),
                length: packet.bytes.len(),
            });
            memory.bytes.extend_from_slice(packet.bytes);
        }
        memory
    }

    /// Number of packets.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no packet.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Bytes of all frames together.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Packet `position`, counted from 0; `None` behind the last.
    pub fn packet(&self, position: usize) -> Option<Packet<'_>> {
        let entry = self.index.get(position)?;
        Some(Packet {
            time_ns: entry.time_ns,
            bytes: self.bytes.get(entry.offset..entry.offset + entry.length)?,
        })
    }

    /// All packets in order.
    pub fn iter(&self) -> impl Iterator<Item = Packet<'_>> {
        (0..self.len()).filter_map(|position| self.packet(position))
    }
}
