//! Bytes that are kept until what they belong to is whole, within a bound for all sessions of a worker together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes may be kept, and are.
#[derive(Debug, Clone)]
pub struct Room {
    used: Arc<AtomicUsize>,
    most: usize,
}

impl Room {
    /// Room for `most` bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        Self {
            used: Arc::default(),
            most,
        }
    }

    /// Bytes that are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.most;
        if !fits {
            self.used.fetch_sub(bytes, Ordering::Relaxed);
        }
        fits
    }
}

/// Kept bytes. What they take is given back when they are dropped or cleared.
#[derive(Debug, Default)]
pub struct Held {
    bytes: Vec<u8>,
    /// How many of them are forgotten: less than half, so that forgetting costs no more than what is forgotten.
    forgotten: usize,
    taken: Option<(Room, usize)>,
}

impl Held {
    /// Appends; false, with nothing changed, if there is no room.
    #[must_use]
    pub fn extend(&mut self, bytes: &[u8], room: &Room) -> bool {
        let fits = self.reserve(self.bytes.len() + bytes.len(), room);
        if fits {
            self.bytes.extend_from_slice(bytes);
        }
        fits
    }

    /// Puts `bytes` at `start`, with zeros before them where there was nothing; false, with nothing changed, if there is no room.
    #[must_use]
    pub fn write(&mut self, start: usize, bytes: &[u8], room: &Room) -> bool {
        let start = self.forgotten + start;
        let end = start + bytes.len();
        if !self.reserve(end, room) {
            return false;
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[start..end].copy_from_slice(bytes);
        true
    }

    /// What is kept.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.forgotten..]
    }

    /// The same, to be changed in place.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.forgotten..]
    }

    /// Forgets the first `len` bytes. Their room is kept for others, unless nothing is left.
    pub fn drop_first(&mut self, len: usize) {
        self.forgotten = self.forgotten.saturating_add(len);
        if self.forgotten >= self.bytes.len() {
            self.clear();
        } else if self.forgotten >= self.bytes.len() / 2 {
            self.bytes.drain(..self.forgotten);
            self.forgotten = 0;
        }
    }

    /// Forgets all, and gives its room back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Makes room for `len` bytes in all, in steps that double.
    fn reserve(&mut self, len: usize, room: &Room) -> bool {
        let before = self.bytes.capacity();
        if len <= before {
            return true;
        }
        let wanted = len.next_power_of_two().max(256);
        if !room.take(wanted - before) {
            return false;
        }
        self.bytes.reserve_exact(wanted - self.bytes.len());
        let (_, taken) = self.taken.get_or_insert_with(|| (room.clone(), 0));
        *taken += wanted - before;
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((room, taken)) = &self.taken {
            room.used.fetch_sub(*taken, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_are_forgotten() {
        let room = Room::new(usize::MAX);
        let mut held = Held::default();
        let bytes: Vec<u8> = (0..250).collect();
        assert!(held.extend(&bytes, &room));
        for first in (0..250).step_by(10) {
            assert_eq!(held.bytes(), &bytes[first..]);
            held.drop_first(10);
        }
        assert_eq!((held.bytes(), room.used()), (&[][..], 0));
    }

    #[test]
    fn room_is_given_back() {
        let room = Room::new(1024);
        let mut one = Held::default();
        assert!(one.extend(&[1; 300], &room));
        assert_eq!(room.used(), 512);
        let mut other = Held::default();
        assert!(other.write(100, &[2; 10], &room));
        assert_eq!(
            (&other.bytes()[98..102], room.used()),
            (&[0, 0, 2, 2][..], 768)
        );
        assert!(!one.extend(&[1; 300], &room));
        assert_eq!((one.bytes().len(), room.used()), (300, 768));
        other.drop_first(99);
        assert!(other.write(1, &[3; 10], &room));
        other.bytes_mut()[0] = 4;
        assert_eq!(other.bytes(), [4, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3]);
        one.clear();
        assert_eq!((one.bytes().len(), room.used()), (0, 256));
        drop(other);
        assert_eq!(room.used(), 0);
    }
}
