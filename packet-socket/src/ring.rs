//! The reader of a ring.

use std::io;
use std::mem::offset_of;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::block::{AREA, Frame, HEADER_BYTES, Malformed};
use crate::link::{ETHERNET, ETHERNET_ADDRESSES, LINUX_SLL, Vlan};
use crate::private::{KEPT_READINGS, Private, WORDS, hand_back, is_ours};
use crate::socket::{Geometry, PacketSocket};

pub use crate::private::Identity;

/// A packet, borrowed from the ring for the time of the callback.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'r> {
    /// Nanoseconds since 1970-01-01T00:00:00Z.
    pub timestamp_ns: u64,
    /// Bytes on the wire, link-layer header included; for cooked packets with the cooked header.
    pub original_length: u32,
    /// The captured bytes, link-layer header first.
    pub data: &'r [u8],
}

/// How far a reader had come: what it had put in safety when it died.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Number of the next packet.
    pub next: u64,
    /// Packets that the kernel had received for it, the dropped ones included.
    pub received: u64,
    /// Packets that the kernel had dropped.
    pub dropped: u64,
}

/// The ring was not read by the one whose place this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ring's oldest packet is number {first}, but the next one should be {next}")]
pub struct Mismatch {
    /// Number of the oldest packet in the ring.
    pub first: u64,
    /// Number of the packet to go on with.
    pub next: u64,
}

/// A ring and its socket.
pub struct Ring {
    socket: PacketSocket,
    mapping: Mapping,
    identity: Identity,
    /// The block in hand, or the one that the kernel hands over next.
    current: u32,
    /// Blocks in front of it whose packets have all been given.
    finished: u32,
    cursor: Option<Cursor>,
    /// Packets that a predecessor has put in safety already, from the oldest block on.
    skip: u64,
    /// Sums of the kernel's counters.
    received: u64,
    dropped: u64,
    /// Number of the next reading of them.
    reading: usize,
    /// A packet with its tag put back.
    tagged: Vec<u8>,
}

/// A place in the block in hand.
#[derive(Clone, Copy)]
struct Cursor {
    /// Offset of the next packet's header in the packet area.
    at: usize,
    left: u32,
}

impl Ring {
    /// Maps the ring that `socket` just got, and writes into it what it is for.
    ///
    /// # Errors
    /// The ring is of another geometry, or the kernel's block header is another than this crate knows.
    pub fn new(socket: PacketSocket, geometry: &Geometry, identity: Identity) -> io::Result<Self> {
        let mapping = Mapping::new(&socket, geometry)?;
        mapping.private(0).set_identity(&identity, geometry);
        Ok(Self::over(socket, mapping, identity))
    }

    /// Maps the ring of a predecessor's socket. [`Ring::resume`] before anything is read.
    ///
    /// # Errors
    /// The ring is of another geometry, or was not made by this crate.
    pub fn inherited(socket: PacketSocket, geometry: &Geometry) -> io::Result<Self> {
        socket.check()?;
        let mapping = Mapping::new(&socket, geometry)?;
        let identity = mapping.private(0).identity(geometry).ok_or_else(|| {
            io::Error::other("the ring says nothing of its origin, or another geometry")
        })?;
        Ok(Self::over(socket, mapping, identity))
    }

    fn over(socket: PacketSocket, mapping: Mapping, identity: Identity) -> Self {
        Self {
            socket,
            mapping,
            identity,
            current: 0,
            finished: 0,
            cursor: None,
            skip: 0,
            received: 0,
            dropped: 0,
            reading: 0,
            tagged: Vec::new(),
        }
    }

    /// Who made the ring, and for what.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Its size.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.mapping.geometry
    }

    /// The socket alone.
    #[must_use]
    pub fn into_socket(self) -> PacketSocket {
        self.socket
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// Packets received by the kernel, the dropped ones included, and packets dropped, as of the last [`Ring::count`].
    #[must_use]
    pub fn counted(&self) -> (u64, u64) {
        (self.received, self.dropped)
    }

    /// Goes on at `place`, with the counters as they were then and what was read of them later. Also for a new ring, whose packets are
    /// then numbered from there.
    ///
    /// # Errors
    /// [`Mismatch`]: this is the place of another ring. Its counters are taken over all the same; its packets are not to be taken.
    pub fn resume(&mut self, place: &Place) -> Result<(), Mismatch> {
        (self.received, self.dropped) = (place.received, place.dropped);
        let notes = self.mapping.private(0);
        // A forged ring could hold readings that lead in a circle.
        for _ in 0..KEPT_READINGS {
            let Some((index, received, dropped)) = notes.reading_after(self.received) else {
                break;
            };
            self.reading = index + 1;
            self.received += u64::from(received);
            self.dropped += u64::from(dropped);
        }
        let blocks = (0..self.mapping.geometry.blocks).map(|block| self.mapping.state(block));
        let blocks: Vec<_> = blocks.collect();
        let start = start(&blocks, place.next)?;
        (self.current, self.skip) = (start.block, start.skip);
        Ok(())
    }

    /// Hands the blocks back whose packets have all been given. To be called when those packets are in safety, and before waiting.
    pub fn release(&mut self) {
        for behind in (1..=self.finished).rev() {
            let blocks = self.mapping.geometry.blocks;
            let block = (self.current + blocks - behind) % blocks;
            hand_back(self.mapping.status(block));
        }
        self.finished = 0;
    }

    /// Gives at most `max` packets with their numbers, cut to `snap_length` bytes; how many it were. `sequence` is the number of the next
    /// packet and counts on.
    ///
    /// # Errors
    /// A block contradicts itself. What is left of it is passed over; the packets that were given before stay given.
    pub fn take(
        &mut self,
        max: usize,
        snap_length: usize,
        sequence: &mut u64,
        mut give: impl FnMut(u64, Packet<'_>),
    ) -> Result<usize, Malformed> {
        let mut taken = 0;
        while taken < max {
            let Some(mut cursor) = self.cursor.take().or_else(|| self.enter(*sequence)) else {
                break;
            };
            while taken < max && cursor.left > 0 {
                match self.packet(&mut cursor, snap_length) {
                    Ok(packet) => give(*sequence, packet),
                    Err(malformed) => {
                        self.finish();
                        return Err(malformed);
                    }
                }
                *sequence += 1;
                taken += 1;
            }
            match cursor.left {
                0 => self.finish(),
                _ => self.cursor = Some(cursor),
            }
        }
        Ok(taken)
    }

    /// Reads the kernel's counters and adds them up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn count(&mut self) -> io::Result<()> {
        let notes = self.mapping.private(0);
        let at = notes.prepare(self.reading, self.received);
        // SAFETY: twelve of the sixteen bytes behind `at` in the mapping; this thread alone reads and writes them.
        unsafe { self.socket.take_counters_into(at) }?;
        let (received, dropped) = notes.counted(self.reading);
        if received > 0 {
            self.reading = (self.reading + 1) % KEPT_READINGS;
            self.received += u64::from(received);
            self.dropped += u64::from(dropped);
        }
        Ok(())
    }

    /// Begins with the current block, whose first packet is number `sequence`; `None` if it is still the kernel's.
    #[inline]
    fn enter(&mut self, sequence: u64) -> Option<Cursor> {
        loop {
            // A ring that is all finished begins with a block that was given already.
            if self.finished == self.mapping.geometry.blocks
                || !is_ours(self.mapping.status(self.current))
            {
                return None;
            }
            let state = self.mapping.state(self.current);
            if state.first.is_none() {
                let notes = self.mapping.private(self.current);
                notes.begin(state.number, sequence);
            }
            let skip = self.skip.min(state.packets.into());
            self.skip -= skip;
            let mut cursor = Cursor {
                at: self.mapping.first_packet(self.current),
                left: state.packets,
            };
            // Only behind a resumption, in the first block that it did not pass over as a whole.
            if skip > 0 && skip < state.packets.into() {
                for _ in 0..skip {
                    match self.frame(&mut cursor) {
                        Ok(_) => {}
                        Err(_) => cursor.left = 0,
                    }
                }
            } else if skip > 0 {
                cursor.left = 0;
            }
            if cursor.left > 0 {
                return Some(cursor);
            }
            self.finish();
        }
    }

    /// All packets of the current block were given.
    fn finish(&mut self) {
        self.current = (self.current + 1) % self.mapping.geometry.blocks;
        self.finished += 1;
    }

    #[inline]
    fn frame(&self, cursor: &mut Cursor) -> Result<Frame, Malformed> {
        let frame = Frame::read(self.mapping.area(self.current), cursor.at)?;
        cursor.left = cursor.left.saturating_sub(1);
        if cursor.left > 0 {
            cursor.at = frame.next()?;
        }
        Ok(frame)
    }

    /// The packet under the cursor, as libpcap would give it.
    #[inline]
    fn packet(&mut self, cursor: &mut Cursor, snap_length: usize) -> Result<Packet<'_>, Malformed> {
        let frame = self.frame(cursor)?;
        let timestamp_ns = frame.timestamp_ns;
        let (added, data) = match (self.identity.link_type, frame.vlan) {
            (LINUX_SLL, vlan) => {
                let (header, length) = frame.sender.cooked_header(vlan);
                let room = frame.room_before(length)?;
                let start = room.start;
                self.mapping.write(self.current, start, &header[..length]);
                let area = self.mapping.area(self.current);
                (length, &area[start..frame.data.end])
            }
            (ETHERNET, Some(vlan)) if frame.data.len() >= ETHERNET_ADDRESSES => {
                let area = self.mapping.area(self.current);
                let (addresses, rest) = area[frame.data].split_at(ETHERNET_ADDRESSES);
                self.tagged.clear();
                self.tagged.extend_from_slice(addresses);
                self.tagged.extend_from_slice(&vlan.bytes());
                self.tagged.extend_from_slice(rest);
                (Vlan::BYTES, self.tagged.as_slice())
            }
            _ => (0, &self.mapping.area(self.current)[frame.data]),
        };
        Ok(Packet {
            timestamp_ns,
            original_length: frame.length.saturating_add(added as u32),
            data: &data[..data.len().min(snap_length)],
        })
    }
}

/// What the headers of a block say.
#[derive(Clone, Copy, Debug)]
struct BlockState {
    /// Whether the kernel has handed it over.
    ours: bool,
    /// The kernel counts the blocks that it begins to fill, from 1.
    number: u64,
    packets: u32,
    /// Number of the first packet, if its reading was begun.
    first: Option<u64>,
}

/// Where to go on.
#[derive(Debug, PartialEq, Eq)]
struct Start {
    block: u32,
    /// Packets to pass over from there.
    skip: u64,
}

/// Finds packet `next` in the blocks of a ring.
fn start(blocks: &[BlockState], next: u64) -> Result<Start, Mismatch> {
    let numbered = || (0..).zip(blocks);
    let oldest = numbered()
        .filter(|(_, block)| block.ours)
        .min_by_key(|(_, block)| block.number);
    if let Some((block, oldest)) = oldest {
        // All packets before a block that was not begun are in safety, so that `next` is its first.
        let first = oldest.first.unwrap_or(next);
        let skip = next.checked_sub(first).ok_or(Mismatch { first, next })?;
        let held = numbered().filter(|(_, block)| block.ours);
        let held: u64 = held.map(|(_, block)| u64::from(block.packets)).sum();
        return match skip <= held {
            true => Ok(Start { block, skip }),
            false => Err(Mismatch { first, next }),
        };
    }
    // The kernel fills the one that it began last, or will fill the one behind if that was read already.
    let newest = numbered().max_by_key(|(_, block)| block.number);
    let (block, newest) = newest.unwrap_or((
        0,
        &BlockState {
            ours: false,
            number: 0,
            packets: 0,
            first: None,
        },
    ));
    let was_read = newest.first.is_some();
    Ok(Start {
        block: (block + u32::from(was_read)) % blocks.len().max(1) as u32,
        skip: 0,
    })
}

/// The ring's memory.
struct Mapping {
    start: NonNull<u8>,
    geometry: Geometry,
}

// SAFETY: the memory is mapped until the value is dropped, whichever thread has it. All access goes through it, and it is not `Sync`.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(socket: &PacketSocket, geometry: &Geometry) -> io::Result<Self> {
        if !geometry.is_valid() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                geometry.bytes(),
                flags,
                MapFlags::SHARED,
                socket.as_fd(),
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mapping = Self {
            start,
            geometry: *geometry,
        };
        // The first block is begun at once. A mapping of the right size could still be cut into other blocks.
        let private = mapping.word(0, offset_of!(libc::tpacket_block_desc, offset_to_priv));
        let at = offset_of!(libc::tpacket_block_desc, hdr)
            + offset_of!(libc::tpacket_hdr_v1, offset_to_first_pkt);
        let packets = mapping.word(0, at);
        if (private, packets) != (HEADER_BYTES as u32, AREA as u32) {
            return Err(io::Error::other(format!(
                "its blocks have their private area at {private} and packets from {packets}"
            )));
        }
        Ok(mapping)
    }

    fn block(&self, block: u32) -> NonNull<u8> {
        let block = block.min(self.geometry.blocks - 1) as usize;
        // SAFETY: the block lies in the mapping.
        unsafe { self.start.add(block * self.geometry.block_bytes as usize) }
    }

    /// A word of the kernel's header, read once.
    #[inline]
    fn word(&self, block: u32, offset: usize) -> u32 {
        self.atomic(block, offset).load(Ordering::Relaxed)
    }

    #[inline]
    fn atomic(&self, block: u32, offset: usize) -> &AtomicU32 {
        let offset = offset.min(HEADER_BYTES - 4) & !3;
        // SAFETY: inside of the header of a block, aligned, and accessed by atomics alone.
        unsafe { AtomicU32::from_ptr(self.block(block).add(offset).as_ptr().cast()) }
    }

    /// Whose the block is.
    #[inline]
    fn status(&self, block: u32) -> &AtomicU32 {
        let at = offset_of!(libc::tpacket_block_desc, hdr)
            + offset_of!(libc::tpacket_hdr_v1, block_status);
        self.atomic(block, at)
    }

    fn state(&self, block: u32) -> BlockState {
        const HEADER: usize = offset_of!(libc::tpacket_block_desc, hdr);
        const NUMBER: usize = HEADER + offset_of!(libc::tpacket_hdr_v1, seq_num);
        // SAFETY: inside of the header of a block, aligned, and accessed by atomics alone.
        let number = unsafe { AtomicU64::from_ptr(self.block(block).add(NUMBER).as_ptr().cast()) };
        let number = number.load(Ordering::Relaxed);
        BlockState {
            ours: is_ours(self.status(block)),
            number,
            packets: self.word(block, HEADER + offset_of!(libc::tpacket_hdr_v1, num_pkts)),
            first: self.private(block).first_of(number),
        }
    }

    /// Offset of the first packet's header in the packet area.
    fn first_packet(&self, block: u32) -> usize {
        let at = offset_of!(libc::tpacket_block_desc, hdr)
            + offset_of!(libc::tpacket_hdr_v1, offset_to_first_pkt);
        (self.word(block, at) as usize).saturating_sub(AREA)
    }

    fn private(&self, block: u32) -> Private<'_> {
        let start = self.block(block);
        // SAFETY: inside of the block, aligned; the kernel never touches it, and this process only by atomics.
        Private(unsafe {
            start
                .add(HEADER_BYTES)
                .cast::<[AtomicU64; WORDS]>()
                .as_ref()
        })
    }

    /// The packets of a block that the kernel has handed over.
    #[inline]
    fn area(&self, block: u32) -> &[u8] {
        let length = self.geometry.block_bytes as usize - AREA;
        // SAFETY: inside of the block. The kernel writes nothing there until the block is handed back, which takes `&mut Ring`, as
        // `write` does; headers and private area, which change, lie before it.
        unsafe { std::slice::from_raw_parts(self.block(block).add(AREA).as_ptr(), length) }
    }

    /// Writes into the packet area of a block that the kernel has handed over.
    #[inline]
    fn write(&mut self, block: u32, at: usize, bytes: &[u8]) {
        let length = self.geometry.block_bytes as usize - AREA;
        if at.checked_add(bytes.len()).is_some_and(|end| end <= length) {
            // SAFETY: inside of the area by the check; `&mut self` keeps slices of it away.
            unsafe {
                let to = self.block(block).add(AREA + at).as_ptr();
                std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            }
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by `new`, and nothing borrows from it any more. It does not fail for a mapping that is there.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.geometry.bytes()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Block `number` with `packets`: still the kernel's, or ours, or begun by a predecessor with packet `first`.
    fn block(number: u64, packets: u32, ours: bool, first: Option<u64>) -> BlockState {
        BlockState {
            ours,
            number,
            packets,
            first,
        }
    }

    fn at(block: u32, skip: u64) -> Result<Start, Mismatch> {
        Ok(Start { block, skip })
    }

    #[test]
    fn a_ring_that_nobody_read_begins_at_its_first_block() {
        let mut blocks = [block(1, 0, false, None), block(0, 0, false, None)];
        assert_eq!(start(&blocks, 0), at(0, 0));
        blocks[0] = block(1, 3, true, None);
        blocks[1] = block(2, 1, false, None);
        assert_eq!(start(&blocks, 700), at(0, 0));
        // Full to the last block.
        blocks[1] = block(2, 3, true, None);
        assert_eq!(start(&blocks, 0), at(0, 0));
    }

    #[test]
    fn a_successor_goes_on_behind_what_is_in_safety() {
        // Blocks 5 and 6 were begun, 6 not to its end; 7 waits; 4 was handed back and will be filled next.
        let blocks = [
            block(5, 10, true, Some(100)),
            block(6, 10, true, Some(110)),
            block(7, 10, true, None),
            block(4, 10, false, Some(90)),
        ];
        for next in 100..=130 {
            assert_eq!(start(&blocks, next), at(0, next - 100));
        }
        for next in [99, 131, 0, u64::MAX] {
            assert_eq!(start(&blocks, next), Err(Mismatch { first: 100, next }));
        }
    }

    #[test]
    fn without_a_block_in_hand_the_kernels_is_waited_for() {
        // 3 was read and handed back, 4 is being filled.
        let mut blocks = [
            block(4, 2, false, None),
            block(2, 9, false, Some(7)),
            block(3, 9, false, Some(16)),
        ];
        assert_eq!(start(&blocks, 25), at(0, 0));
        // The ring was full, and nothing has come since 4 was handed back.
        blocks[0].first = Some(25);
        assert_eq!(start(&blocks, 34), at(1, 0));
    }
}
