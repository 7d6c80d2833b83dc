//! Bytes that are kept of lines and mails, within what all of a protocol may take in a worker.

use std::cell::Cell;
use std::rc::Rc;

/// Room that all share.
#[derive(Debug, Clone)]
pub struct Room {
    left: Rc<Cell<usize>>,
}

impl Room {
    /// Room for `bytes`.
    pub fn of(bytes: usize) -> Self {
        Self {
            left: Rc::new(Cell::new(bytes)),
        }
    }
}

/// The beginning of something, kept.
#[derive(Debug)]
pub struct Kept {
    bytes: Vec<u8>,
    /// What was taken of the room.
    taken: usize,
    room: Room,
}

impl Kept {
    /// Nothing yet.
    pub fn new(room: &Room) -> Self {
        Self {
            bytes: Vec::new(),
            taken: 0,
            room: room.clone(),
        }
    }

    /// Appends as much of `bytes` as there is room for, and as makes `most` bytes at most. Whether that was all.
    pub fn push(&mut self, bytes: &[u8], most: usize) -> bool {
        let len = bytes.len().min(most.saturating_sub(self.bytes.len()));
        let needed = self.bytes.len() + len;
        if needed > self.bytes.capacity() {
            let capacity = (needed * 3 / 2).max(256);
            let left = self.room.left.get();
            if capacity - self.taken > left {
                return false;
            }
            self.room.left.set(left - (capacity - self.taken));
            self.taken = capacity;
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(&bytes[..len]);
        len == bytes.len()
    }

    /// What is kept.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.room.left.set(self.room.left.get() + self.taken);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_shared_and_given_back() {
        let room = Room::of(10_000);
        let mut one = Kept::new(&room);
        assert!(one.push(&[1; 6_000], 6_000));
        let mut other = Kept::new(&room);
        assert!(!other.push(&[2; 6_000], 10_000) && other.bytes().is_empty());
        assert!(!one.push(&[1], 6_000));
        drop(one);
        assert!(other.push(&[2; 6_000], 10_000));
        drop(other);
        assert_eq!(room.left.get(), 10_000);
    }
}
