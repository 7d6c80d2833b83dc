//! Texts in one hash table, found as the whole of a field, or as its beginnings or its ends of any length.
//!
//! The hash is built up byte by byte, from the front or from the back. At each length that some text has, the table is asked
//! once. So a field is walked over once, however many texts there are, and a text costs its bytes and 32 more: far less than
//! the states that it would add to an automaton.

use super::FilterIndex;
use hashbrown::HashTable;
use std::ops::Range;

/// From which side a field is walked over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// Beginnings, or the whole.
    Front,
    /// Ends.
    Back,
}

/// Texts, each with the filters that have it.
#[derive(Debug)]
pub struct Table {
    from: From,
    /// One bit for each length that occurs.
    lengths: Vec<u64>,
    entries: HashTable<Entry>,
    text: Vec<u8>,
    filters: Vec<FilterIndex>,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    text: u32,
    len: u32,
    filters: Range<u32>,
}

impl Table {
    /// Takes texts with their filters. Together they have less than 4 GiB.
    #[must_use]
    pub fn new(from: From, mut texts: Vec<(Vec<u8>, FilterIndex)>) -> Self {
        texts.sort_unstable();
        let mut table = Self {
            from,
            lengths: Vec::new(),
            entries: HashTable::with_capacity(texts.len()),
            text: Vec::with_capacity(texts.iter().map(|(text, _)| text.len()).sum()),
            filters: Vec::with_capacity(texts.len()),
        };
        for same in texts.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((text, _)) = same.first() else {
                continue;
            };
            let start = table.filters.len() as u32;
            table.filters.extend(same.iter().map(|(_, filter)| *filter));
            let word = text.len() / 64;
            if table.lengths.len() <= word {
                table.lengths.resize(word + 1, 0);
            }
            table.lengths[word] |= 1 << (text.len() % 64);
            let entry = Entry {
                hash: table.hash(text),
                text: table.text.len() as u32,
                len: text.len() as u32,
                filters: start..table.filters.len() as u32,
            };
            table.text.extend_from_slice(text);
            table
                .entries
                .insert_unique(entry.hash, entry, |entry| entry.hash);
        }
        table
    }

    /// Whether it has no texts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.filters.is_empty()
    }

    /// The filters that have `text`, in ascending order.
    #[must_use]
    pub fn whole(&self, text: &[u8]) -> &[FilterIndex] {
        match self.has_length(text.len()) {
            true => self.find(self.hash(text), text),
            false => &[],
        }
    }

    /// Calls `found` with the filters of every text that is an edge of `field` on the table's side, shortest first. Empty texts
    /// are not looked for.
    #[inline]
    pub fn edges(&self, field: &[u8], mut found: impl FnMut(&[FilterIndex])) {
        if self.is_empty() {
            return;
        }
        let longest = field.len().min(self.lengths.len() * 64 - 1);
        let mut hash = SEED;
        for len in 1..=longest {
            hash = match self.from {
                From::Front => step(hash, field[len - 1]),
                From::Back => step(hash, field[field.len() - len]),
            };
            if self.has_length(len) {
                let text = match self.from {
                    From::Front => &field[..len],
                    From::Back => &field[field.len() - len..],
                };
                let filters = self.find(finish(hash), text);
                if !filters.is_empty() {
                    found(filters);
                }
            }
        }
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.lengths.capacity() * 8
            + self.entries.allocation_size()
            + self.text.capacity()
            + self.filters.capacity() * size_of::<FilterIndex>()
    }

    #[inline]
    fn has_length(&self, len: usize) -> bool {
        let word = self.lengths.get(len / 64);
        word.is_some_and(|word| word >> (len % 64) & 1 != 0)
    }

    #[inline]
    fn find(&self, hash: u64, text: &[u8]) -> &[FilterIndex] {
        let entry = self
            .entries
            .find(hash, |entry| entry.hash == hash && self.text(entry) == text);
        entry.map_or(&[], |entry| {
            &self.filters[entry.filters.start as usize..entry.filters.end as usize]
        })
    }

    fn text(&self, entry: &Entry) -> &[u8] {
        &self.text[entry.text as usize..][..entry.len as usize]
    }

    fn hash(&self, text: &[u8]) -> u64 {
        finish(match self.from {
            From::Front => text.iter().fold(SEED, |hash, byte| step(hash, *byte)),
            From::Back => text.iter().rev().fold(SEED, |hash, byte| step(hash, *byte)),
        })
    }
}

const SEED: u64 = 0x6c63_2d68_756e_7421;

/// As FNV-1a, with a multiplier that spreads each byte over the upper half.
#[inline]
fn step(hash: u64, byte: u8) -> u64 {
    (hash ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The table takes its bucket from the low bits.
#[inline]
fn finish(hash: u64) -> u64 {
    hash ^ hash >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn edges_are_those_that_comparing_finds(
            texts in prop::collection::vec("[ab]{0,70}|[a-c]{0,4}", 0..40),
            field in "[a-c]{0,80}",
            back in any::<bool>(),
        ) {
            let texts: Vec<_> = texts.iter().enumerate().map(|(n, text)| (text.clone().into_bytes(), n as u32)).collect();
            let table = Table::new(if back { From::Back } else { From::Front }, texts.clone());
            let field = field.as_bytes();
            let is_edge = |text: &[u8]| if back { field.ends_with(text) } else { field.starts_with(text) };
            let mut expected: Vec<_> = texts.iter().filter(|(text, _)| !text.is_empty() && is_edge(text)).collect();
            expected.sort_by_key(|(text, filter)| (text.len(), *filter));
            let expected: Vec<_> = expected.iter().map(|(_, filter)| *filter).collect();
            let mut found = Vec::new();
            table.edges(field, |filters| found.extend_from_slice(filters));
            prop_assert_eq!(found, expected);
            let whole: Vec<_> = texts.iter().filter(|(text, _)| text == field).map(|(_, filter)| *filter).collect();
            prop_assert_eq!(table.whole(field), whole);
        }
    }
}
