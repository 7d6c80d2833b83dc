//! Bytes that wait for what comes before them: sorted queues of pieces in one memory.
//!
//! ```text
//!   queue: first -> piece -> piece -> last      by sequence number, none overlaps another
//!          piece: | seq | len | next |          its bytes: page of the same number, 2 KiB
//! ```
//!
//! The first copy of a byte stays, whatever comes later. A byte that follows another goes into the same page while that has room, so
//! that small segments in order do not take a page each. All memory is reserved at the start, and touched when it is first used.

use super::half::ahead;

/// Bytes of a page.
pub(super) const PAGE: usize = 2048;
pub(super) const NONE: u32 = u32::MAX;

/// The memory of all queues.
pub(super) struct Pieces {
    pieces: Vec<Piece>,
    pages: Vec<u8>,
    most: usize,
    /// Pieces that were used before, as a chain.
    free: u32,
    used: usize,
    bytes: usize,
}

#[derive(Clone, Copy)]
struct Piece {
    seq: u32,
    len: u32,
    next: u32,
}

/// What waits in one direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queue {
    first: u32,
    last: u32,
    /// Pieces.
    pub(super) len: u32,
}

/// What became of bytes that were to be kept.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    /// Bytes that were new.
    pub(super) new: usize,
    /// Bytes that there was no room for.
    pub(super) dropped: usize,
    /// Whether bytes differ from an earlier copy.
    pub(super) conflict: bool,
}

impl Default for Queue {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
            len: 0,
        }
    }
}

impl Queue {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.first == NONE
    }
}

impl Pieces {
    /// Room for `most` pieces.
    pub(super) fn new(most: usize) -> Option<Self> {
        let mut pieces = Vec::new();
        pieces.try_reserve_exact(most).ok()?;
        // Asked for first, so that too much is refused instead of ending the process.
        Vec::<u8>::new()
            .try_reserve_exact(most.checked_mul(PAGE)?)
            .ok()?;
        Some(Self {
            pieces,
            pages: vec![0; most * PAGE],
            most,
            free: NONE,
            used: 0,
            bytes: 0,
        })
    }

    /// Pieces that can still be kept.
    #[inline]
    pub(super) fn room(&self) -> usize {
        self.most - self.used
    }

    /// Bytes that wait, all queues together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that it may come to use.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.most * (PAGE + size_of::<Piece>())
    }

    /// Sequence number and bytes of a queue's first piece.
    #[inline]
    pub(super) fn first(&self, queue: &Queue) -> Option<(u32, &[u8])> {
        let piece = self.pieces.get(queue.first as usize)?;
        let page = queue.first as usize * PAGE;
        Some((piece.seq, &self.pages[page..page + piece.len as usize]))
    }

    /// Sequence number behind a queue's last byte.
    pub(super) fn end(&self, queue: &Queue) -> Option<u32> {
        let piece = self.pieces.get(queue.last as usize)?;
        Some(piece.end())
    }

    /// Frees a queue's first piece.
    pub(super) fn pop(&mut self, queue: &mut Queue) {
        let Some(piece) = self.pieces.get_mut(queue.first as usize) else {
            return;
        };
        let (next, len) = (piece.next, piece.len);
        piece.next = self.free;
        self.free = queue.first;
        self.used -= 1;
        self.bytes -= len as usize;
        queue.first = next;
        queue.len -= 1;
        if next == NONE {
            queue.last = NONE;
        }
    }

    /// Frees a whole queue. Returns how many bytes waited in it.
    pub(super) fn clear(&mut self, queue: &mut Queue) -> usize {
        let before = self.bytes;
        while !queue.is_empty() {
            self.pop(queue);
        }
        before - self.bytes
    }

    /// Keeps those of `bytes` that are not there, as long as the queue has less than `most` pieces. All of a queue's
    /// bytes lie within 2^31 of each other.
    pub(super) fn keep(&mut self, queue: &mut Queue, seq: u32, bytes: &[u8], most: u32) -> Kept {
        let mut kept = Kept::default();
        let (mut at, mut rest) = (seq, bytes);
        let mut before = NONE;
        let mut after = queue.first;
        if self.end(queue).is_some_and(|end| ahead(at, end) >= 0) {
            (before, after) = (queue.last, NONE);
        }
        while !rest.is_empty() {
            while let Some(piece) = self.pieces.get(after as usize)
                && ahead(piece.end(), at) <= 0
            {
                (before, after) = (after, piece.next);
            }
            let (hole, known) = match self.pieces.get(after as usize) {
                None => (rest.len(), 0),
                Some(piece) => {
                    let hole = (ahead(piece.seq, at).max(0) as usize).min(rest.len());
                    let behind = at.wrapping_add(hole as u32);
                    let known = ahead(piece.end(), behind).max(0) as usize;
                    (hole, known.min(rest.len() - hole))
                }
            };
            let (new, others) = rest.split_at(hole);
            let stored = self.store(queue, &mut before, at, new, most);
            kept.new += stored;
            kept.dropped += hole - stored;
            at = at.wrapping_add(hole as u32);
            if let Some(piece) = self.pieces.get(after as usize)
                && known > 0
            {
                let from = after as usize * PAGE + ahead(at, piece.seq) as usize;
                kept.conflict |= self.pages[from..from + known] != others[..known];
            }
            at = at.wrapping_add(known as u32);
            rest = &others[known..];
        }
        kept
    }

    /// Puts bytes behind the piece `before`, which becomes the last of those that hold them. Returns how many there was room for.
    fn store(
        &mut self,
        queue: &mut Queue,
        before: &mut u32,
        seq: u32,
        bytes: &[u8],
        most: u32,
    ) -> usize {
        let mut stored = 0;
        while stored < bytes.len() {
            let (at, rest) = (seq.wrapping_add(stored as u32), &bytes[stored..]);
            let appends = self
                .pieces
                .get(*before as usize)
                .is_some_and(|piece| piece.end() == at && (piece.len as usize) < PAGE);
            if !appends {
                if queue.len >= most || self.room() == 0 {
                    break;
                }
                *before = self.link(queue, *before, at);
            }
            let piece = &mut self.pieces[*before as usize];
            let count = rest.len().min(PAGE - piece.len as usize);
            let from = *before as usize * PAGE + piece.len as usize;
            self.pages[from..from + count].copy_from_slice(&rest[..count]);
            piece.len += count as u32;
            self.bytes += count;
            stored += count;
        }
        stored
    }

    /// A new, empty piece behind `before`.
    fn link(&mut self, queue: &mut Queue, before: u32, seq: u32) -> u32 {
        let next = match self.pieces.get(before as usize) {
            Some(piece) => piece.next,
            None => queue.first,
        };
        let piece = Piece { seq, len: 0, next };
        let place = match self.pieces.get_mut(self.free as usize) {
            Some(used) => {
                let place = self.free;
                self.free = used.next;
                *used = piece;
                place
            }
            None => {
                self.pieces.push(piece);
                self.pieces.len() as u32 - 1
            }
        };
        match self.pieces.get_mut(before as usize) {
            Some(before) => before.next = place,
            None => queue.first = place,
        }
        if next == NONE {
            queue.last = place;
        }
        queue.len += 1;
        self.used += 1;
        place
    }
}

impl Piece {
    #[inline]
    fn end(&self) -> u32 {
        self.seq.wrapping_add(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Sequence number and bytes of all pieces.
    fn all(pieces: &mut Pieces, mut queue: Queue) -> Vec<(u32, Vec<u8>)> {
        let mut all = Vec::new();
        while let Some((seq, bytes)) = pieces.first(&queue) {
            all.push((seq, bytes.to_vec()));
            pieces.pop(&mut queue);
        }
        all
    }

    #[test]
    fn bytes_that_follow_share_a_page() {
        let mut pieces = Pieces::new(4).unwrap();
        let mut queue = Queue::default();
        for n in 0..100 {
            assert_eq!(pieces.keep(&mut queue, n, &[n as u8], 4).new, 1);
        }
        assert_eq!((queue.len, pieces.room(), pieces.bytes()), (1, 3, 100));
        assert_eq!(pieces.end(&queue), Some(100));
    }

    #[test]
    fn what_there_is_no_room_for_is_told() {
        let mut pieces = Pieces::new(3).unwrap();
        let mut queue = Queue::default();
        let kept = pieces.keep(&mut queue, 0, &[1; 3 * PAGE], 2);
        assert_eq!((kept.new, kept.dropped), (2 * PAGE, PAGE));
        let mut other = Queue::default();
        let kept = pieces.keep(&mut other, 0, &[1; 2 * PAGE], 2);
        assert_eq!((kept.new, kept.dropped), (PAGE, PAGE));
        assert_eq!(pieces.clear(&mut queue), 2 * PAGE);
        assert_eq!(pieces.clear(&mut other), PAGE);
        assert_eq!((pieces.room(), pieces.bytes()), (3, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]

        #[test]
        fn the_first_copy_of_each_byte_stays(
            base: u32,
            segments in prop::collection::vec((0..6000_u32, 1..3000_usize, any::<u8>()), 1..40),
        ) {
            let mut pieces = Pieces::new(64).unwrap();
            let mut queue = Queue::default();
            let mut model: BTreeMap<u32, u8> = BTreeMap::new();
            for (start, len, byte) in segments {
                let kept = pieces.keep(&mut queue, base.wrapping_add(start), &vec![byte; len], 64);
                let (mut new, mut conflict) = (0, false);
                for at in start..start + len as u32 {
                    match model.get(&at) {
                        None => {
                            model.insert(at, byte);
                            new += 1;
                        }
                        Some(first) => conflict |= *first != byte,
                    }
                }
                prop_assert_eq!(kept, Kept { new, dropped: 0, conflict });
                prop_assert_eq!(pieces.bytes(), model.len());
            }
            let found: Vec<(u32, u8)> = all(&mut pieces, queue)
                .into_iter()
                .flat_map(|(seq, bytes)| (0..).map(move |n| seq.wrapping_add(n)).zip(bytes))
                .map(|(seq, byte)| (seq.wrapping_sub(base), byte))
                .collect();
            prop_assert_eq!(found, model.into_iter().collect::<Vec<_>>());
        }
    }
}
