//! Bytes that come in pieces, each with its place: CRYPTO frames of QUIC, fragments of DTLS.

use super::held::{Held, Room};

/// Most stretches without a gap between them. Clients that shuffle their hellos on purpose make a few dozen.
const MOST_STRETCHES: usize = 128;

/// What has come, up to an end that the caller watches.
#[derive(Debug, Default)]
pub struct Pieces {
    held: Held,
    /// Start and end of each stretch, in order; they do not touch.
    stretches: Vec<(u32, u32)>,
}

impl Pieces {
    /// Puts `bytes` at `start`. False if there is no room: what waits is forgotten then.
    pub fn put(&mut self, start: u32, bytes: &[u8], room: &Room) -> bool {
        let end = start + bytes.len() as u32;
        let first = self.stretches.partition_point(|(_, other)| *other < start);
        let behind = self.stretches.partition_point(|(other, _)| *other <= end);
        let merged = self.stretches[first..behind]
            .iter()
            .fold((start, end), |(start, end), other| {
                (start.min(other.0), end.max(other.1))
            });
        self.stretches.splice(first..behind, [merged]);
        let fits =
            self.stretches.len() <= MOST_STRETCHES && self.held.write(start as usize, bytes, room);
        if !fits {
            self.clear();
        }
        fits
    }

    /// What has come from the start on, without a gap.
    #[must_use]
    pub fn whole(&self) -> &[u8] {
        match self.stretches.first() {
            Some((0, end)) => &self.held.bytes()[..*end as usize],
            _ => &[],
        }
    }

    /// Where the last stretch ends.
    #[must_use]
    pub fn end(&self) -> usize {
        self.stretches.last().map_or(0, |(_, end)| *end as usize)
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stretches.is_empty()
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_order_gives_the_whole(
            bytes in prop::collection::vec(any::<u8>(), 1..200),
            cuts in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..60), 0..100),
        ) {
            let room = Room::new(1 << 20);
            let mut pieces = Pieces::default();
            let mut known = vec![false; bytes.len()];
            let mut put = |pieces: &mut Pieces, start: usize, len: usize| {
                let end = bytes.len().min(start + len);
                assert!(pieces.put(start as u32, &bytes[start..end], &room));
                known[start..end].fill(true);
                let whole = known.iter().take_while(|known| **known).count();
                assert_eq!(pieces.whole(), &bytes[..whole]);
            };
            for (start, len) in cuts {
                put(&mut pieces, start.index(bytes.len()), len);
            }
            put(&mut pieces, 0, bytes.len());
            pieces.clear();
            assert_eq!(room.used(), 0);
        }
    }

    #[test]
    fn crumbs_are_given_up() {
        let room = Room::new(1 << 20);
        let mut pieces = Pieces::default();
        let kept = (0..1000)
            .filter(|n| pieces.put(n * 2 + 1, &[1], &room))
            .count();
        assert!(kept > 900 && pieces.stretches.len() <= MOST_STRETCHES);
    }
}
