//! All address filters as one sorted table of intervals.
//!
//! Prefixes are either nested or apart. Sorted by start, they cut the address space into intervals,
//! each owned by the innermost prefix over it; a prefix knows the next one around it. Looking an
//! address up is one binary search, and walking outwards from the owner gives *every* filter that
//! matches, longest prefix first.
//!
//! ```text
//!   10.0.0.0/8 (a)    |---------------------------------|
//!   10.1.0.0/16 (b)         |-------------|
//!   10.1.2.3 (c)                  |
//!   owner             a     b     c b     a             none
//! ```

use super::FilterIndex;

/// An unsigned integer that holds an address of one family.
pub trait Bits: Copy + Ord {
    /// Bits of an address.
    const LEN: u8;
    /// The lowest and the highest address that share the first `len` bits with `self`.
    fn prefix(self, len: u8) -> (Self, Self);
    /// The next address, or `None` after the last.
    fn next(self) -> Option<Self>;
    /// The lowest address.
    const ZERO: Self;
}

macro_rules! bits {
    ($int:ty, $len:literal) => {
        impl Bits for $int {
            const LEN: u8 = $len;
            const ZERO: Self = 0;

            fn prefix(self, len: u8) -> (Self, Self) {
                let host = Self::MAX.checked_shr(u32::from(len)).unwrap_or(0);
                (self & !host, self | host)
            }

            fn next(self) -> Option<Self> {
                self.checked_add(1)
            }
        }
    };
}

bits!(u32, 32);
bits!(u128, 128);

const NONE: u32 = u32::MAX;

/// Prefixes of one address family, each with the filters that have exactly it.
#[derive(Debug)]
pub struct Prefixes<B> {
    /// First address of each interval; the first is the lowest address there is.
    starts: Vec<B>,
    /// Innermost node over each interval, or [`NONE`].
    owners: Vec<u32>,
    nodes: Vec<Node>,
}

#[derive(Debug)]
struct Node {
    around: u32,
    filters: Vec<FilterIndex>,
}

impl<B: Bits> Prefixes<B> {
    /// Builds the table from address, prefix length and filter. Host bits are ignored. Filters with the same prefix are
    /// found in the order given here.
    #[must_use]
    pub fn new(entries: impl IntoIterator<Item = (B, u8, FilterIndex)>) -> Self {
        let mut entries: Vec<_> = entries
            .into_iter()
            .map(|(address, len, filter)| {
                let (first, last) = address.prefix(len);
                (first, len, last, filter)
            })
            .collect();
        entries.sort_by_key(|(first, len, ..)| (*first, *len));
        let mut table = Self {
            starts: vec![B::ZERO],
            owners: vec![NONE],
            nodes: Vec::new(),
        };
        let mut open: Vec<(B, u8, B, u32)> = Vec::new();
        for (first, len, last, filter) in entries {
            table.close(&mut open, Some(first));
            if let Some((open_first, open_len, _, node)) = open.last()
                && (*open_first, *open_len) == (first, len)
            {
                table.nodes[*node as usize].filters.push(filter);
                continue;
            }
            let node = table.nodes.len() as u32;
            let around = open.last().map_or(NONE, |(.., node)| *node);
            table.nodes.push(Node {
                around,
                filters: vec![filter],
            });
            table.boundary(first, node);
            open.push((first, len, last, node));
        }
        table.close(&mut open, None);
        table
    }

    /// Ends the open prefixes that lie before `before`, or all.
    fn close(&mut self, open: &mut Vec<(B, u8, B, u32)>, before: Option<B>) {
        while let Some((_, _, last, _)) = open.last()
            && before.is_none_or(|before| *last < before)
        {
            let after = last.next();
            open.pop();
            if let Some(after) = after {
                self.boundary(after, open.last().map_or(NONE, |(.., node)| *node));
            }
        }
    }

    fn boundary(&mut self, start: B, owner: u32) {
        match (self.starts.last(), self.owners.last_mut()) {
            (Some(last), Some(last_owner)) if *last == start => *last_owner = owner,
            _ => {
                self.starts.push(start);
                self.owners.push(owner);
            }
        }
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let filters: usize = self
            .nodes
            .iter()
            .map(|node| node.filters.capacity() * 4)
            .sum();
        self.starts.capacity() * size_of::<B>()
            + self.owners.capacity() * 4
            + self.nodes.capacity() * size_of::<Node>()
            + filters
    }

    /// Calls `found` for every filter that matches `address`, longest prefix first.
    #[inline]
    pub fn matches(&self, address: B, mut found: impl FnMut(FilterIndex)) {
        let interval = self.starts.partition_point(|start| *start <= address) - 1;
        let mut node = self.owners[interval];
        while node != NONE {
            let Node { around, filters } = &self.nodes[node as usize];
            filters.iter().for_each(|filter| found(*filter));
            node = *around;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn found<B: Bits>(table: &Prefixes<B>, address: B) -> Vec<FilterIndex> {
        let mut list = Vec::new();
        table.matches(address, |filter| list.push(filter));
        list
    }

    #[test]
    fn nested_prefixes_are_all_found_innermost_first() {
        let table = Prefixes::<u32>::new([
            (0x0a00_0000, 8, 0),
            (0x0a01_0000, 16, 1),
            (0x0a01_0203, 32, 2),
            (0x0a01_0203, 32, 3),
            (0, 0, 4),
        ]);
        assert_eq!(found(&table, 0x0a01_0203), [2, 3, 1, 0, 4]);
        assert_eq!(found(&table, 0x0a01_0204), [1, 0, 4]);
        assert_eq!(found(&table, 0x0aff_ffff), [0, 4]);
        assert_eq!(found(&table, u32::MAX), [4]);
        assert!(found(&Prefixes::<u32>::new([]), 7).is_empty());
    }

    #[test]
    fn the_ends_of_the_address_space_belong_to_it() {
        let table = Prefixes::<u128>::new([(u128::MAX, 1, 0), (0, 128, 1)]);
        assert_eq!(found(&table, 0), [1]);
        assert!(found(&table, 1).is_empty());
        assert_eq!(found(&table, u128::MAX), [0]);
    }

    proptest! {
        #[test]
        fn the_table_agrees_with_trying_each_prefix(
            // Few distinct high bits, so that prefixes nest, touch and repeat.
            entries in prop::collection::vec((0u32..16, 0u32..16, 0u8..=32), 0..60),
            probes in prop::collection::vec((0u32..16, 0u32..16), 1..60),
        ) {
            let address = |high: u32, low: u32| high << 28 | low;
            let entries: Vec<_> = entries
                .into_iter()
                .enumerate()
                .map(|(n, (high, low, len))| (address(high, low), len, n as u32))
                .collect();
            let table = Prefixes::new(entries.clone());
            for (high, low) in probes {
                let probe = address(high, low);
                let mut expected: Vec<_> = entries
                    .iter()
                    .filter(|(address, len, _)| address.prefix(*len) == probe.prefix(*len))
                    .map(|(_, len, filter)| (std::cmp::Reverse(*len), *filter))
                    .collect();
                expected.sort();
                let expected: Vec<_> = expected.into_iter().map(|(_, filter)| filter).collect();
                prop_assert_eq!(found(&table, probe), expected);
            }
        }
    }
}
