//! All text patterns for one kind of field, compiled together.
//!
//! | pattern | found by |
//! |---|---|
//! | whole text | one look-up in a hash table |
//! | beginning, end | the same, at each length that a pattern has ([`Table`]) |
//! | text anywhere | one pass of an Aho-Corasick automaton over the field |
//! | several parts | the automaton finds the part that the fewest patterns share, then the whole pattern is tried |
//!
//! The field is lower-cased already. Time for a field grows with its length and with the distinct texts in it, not with the number of
//! patterns, but for those of several parts of which all are shared with many others.

use super::FilterIndex;
use super::automaton::Automaton;
use super::pattern::Pattern;
use super::table::{From, Table};
use std::cmp::Reverse;
use std::collections::HashMap;

/// The compiled patterns.
#[derive(Debug)]
pub struct Texts {
    whole: Table,
    beginnings: Table,
    ends: Table,
    /// Filters that match every field.
    always: Vec<FilterIndex>,
    inner: Option<Inner>,
}

impl Default for Texts {
    fn default() -> Self {
        Self {
            whole: Table::new(From::Front, vec![]),
            beginnings: Table::new(From::Front, vec![]),
            ends: Table::new(From::Back, vec![]),
            always: vec![],
            inner: None,
        }
    }
}

/// What has to be looked for anywhere in a field.
#[derive(Debug)]
struct Inner {
    automaton: Automaton,
    /// Where the candidates of each needle start; one more than needles.
    starts: Vec<u32>,
    /// Filters, or with [`TRY`] an index of `patterns`.
    candidates: Vec<u32>,
    patterns: Vec<(Pattern, FilterIndex)>,
}

/// Marks a candidate whose pattern has to be tried; filters are fewer (`MAX_FILTERS`).
const TRY: u32 = 1 << 31;

/// Memory for one search, used again by the next.
#[derive(Debug, Default)]
pub struct Scratch {
    /// The filters that match, in ascending order and without repeats.
    pub found: Vec<FilterIndex>,
    /// One bit for each needle: whether it has been seen in this field.
    seen: Vec<u64>,
    /// The needles that have been seen.
    needles: Vec<u32>,
}

impl Texts {
    /// Compiles patterns. Together they have less than 4 GiB.
    #[must_use]
    pub fn new(patterns: Vec<(Pattern, FilterIndex)>) -> Self {
        let (mut whole, mut beginnings, mut ends) = (vec![], vec![], vec![]);
        let (mut always, mut needles, mut tried) = (vec![], vec![], vec![]);
        for (mut pattern, filter) in patterns {
            match (pattern.open_start, pattern.open_end, pattern.parts.len()) {
                (true, _, 0) | (_, true, 0) => always.push(filter),
                (false, false, 0) => whole.push((vec![], filter)),
                (false, false, 1) => whole.extend(pattern.parts.pop().map(|text| (text, filter))),
                (false, true, 1) => {
                    beginnings.extend(pattern.parts.pop().map(|text| (text, filter)))
                }
                (true, false, 1) => ends.extend(pattern.parts.pop().map(|text| (text, filter))),
                (true, true, 1) => needles.extend(pattern.parts.pop().map(|text| (text, filter))),
                _ => tried.push((pattern, filter)),
            }
        }
        needles.extend(rarest_parts(&tried));
        Self {
            whole: Table::new(From::Front, whole),
            beginnings: Table::new(From::Front, beginnings),
            ends: Table::new(From::Back, ends),
            always,
            inner: Inner::new(needles, tried),
        }
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty()
            && self.beginnings.is_empty()
            && self.ends.is_empty()
            && self.always.is_empty()
            && self.inner.is_none()
    }

    /// Finds the filters that match `field`.
    pub fn search(&self, field: &[u8], scratch: &mut Scratch) {
        scratch.found.clear();
        if let Some(inner) = &self.inner {
            inner.search(field, scratch);
        }
        let found = &mut scratch.found;
        found.extend_from_slice(&self.always);
        found.extend_from_slice(self.whole.whole(field));
        self.beginnings
            .edges(field, |filters| found.extend_from_slice(filters));
        self.ends
            .edges(field, |filters| found.extend_from_slice(filters));
        if found.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
    }

    /// Those of the filters for ends that match with the longest text, in ascending order.
    #[must_use]
    pub fn longest_end(&self, field: &[u8]) -> Option<FilterIndex> {
        let mut longest = None;
        self.ends
            .edges(field, |filters| longest = filters.last().copied());
        longest
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let tables = [&self.whole, &self.beginnings, &self.ends];
        tables.iter().map(|table| table.bytes()).sum::<usize>()
            + self.always.capacity() * size_of::<FilterIndex>()
            + self.inner.as_ref().map_or(0, Inner::bytes)
    }
}

/// For each of these patterns of several parts, the part by which to look for it.
fn rarest_parts(patterns: &[(Pattern, FilterIndex)]) -> Vec<(Vec<u8>, u32)> {
    let mut sharers: HashMap<&[u8], u32> = HashMap::new();
    for part in patterns.iter().flat_map(|(pattern, _)| &pattern.parts) {
        *sharers.entry(part).or_default() += 1;
    }
    let rarest = (0..).zip(patterns).filter_map(|(number, (pattern, _))| {
        let parts = pattern.parts.iter();
        let part = parts.min_by_key(|part| (sharers.get(&part[..]), Reverse(part.len())))?;
        Some((part.clone(), TRY | number))
    });
    rarest.collect()
}

impl Inner {
    fn new(
        mut needles: Vec<(Vec<u8>, u32)>,
        patterns: Vec<(Pattern, FilterIndex)>,
    ) -> Option<Self> {
        if needles.is_empty() {
            return None;
        }
        needles.sort_unstable();
        let same = |one: &(Vec<u8>, u32), other: &(Vec<u8>, u32)| one.0 == other.0;
        let mut starts = vec![0];
        for group in needles.chunk_by(same) {
            starts.push(starts.last().map_or(0, |start| start + group.len() as u32));
        }
        let distinct = needles.chunk_by(same).filter_map(|group| group.first());
        let distinct: Vec<&[u8]> = distinct.map(|(needle, _)| &needle[..]).collect();
        Some(Self {
            automaton: Automaton::new(&distinct),
            starts,
            candidates: needles.iter().map(|(_, candidate)| *candidate).collect(),
            patterns,
        })
    }

    /// A needle counts once, however often it stands in the field.
    fn search(&self, field: &[u8], scratch: &mut Scratch) {
        let Scratch {
            found,
            seen,
            needles,
        } = scratch;
        if seen.len() * 64 < self.starts.len() {
            seen.resize(self.starts.len() / 64 + 1, 0);
        }
        self.automaton.search(field, |needle| {
            let (word, bit) = (needle as usize / 64, 1 << (needle % 64));
            let is_new = seen[word] & bit == 0;
            if is_new {
                seen[word] |= bit;
                needles.push(needle);
            }
            is_new
        });
        for needle in needles.drain(..) {
            let needle = needle as usize;
            seen[needle / 64] = 0;
            let candidates = self.starts[needle] as usize..self.starts[needle + 1] as usize;
            found.extend_from_slice(&self.candidates[candidates]);
        }
        if self.patterns.is_empty() {
            return;
        }
        found.retain_mut(|candidate| {
            if *candidate & TRY == 0 {
                return true;
            }
            let (pattern, filter) = &self.patterns[(*candidate & !TRY) as usize];
            *candidate = *filter;
            pattern.matches(field)
        });
    }

    fn bytes(&self) -> usize {
        let parts = |pattern: &Pattern| -> usize {
            pattern.parts.iter().map(|part| part.capacity() + 24).sum()
        };
        self.automaton.bytes()
            + (self.starts.capacity() + self.candidates.capacity()) * 4
            + self
                .patterns
                .iter()
                .map(|(pattern, _)| parts(pattern) + 48)
                .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `*` is any run, tried letter by letter.
    fn naive_glob(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| naive_glob(rest, &text[skip..])),
            Some((letter, rest)) => text.first() == Some(letter) && naive_glob(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_trying_each_letter_by_letter_says(
            patterns in prop::collection::vec("[ab*]{0,6}|[abc]{0,3}", 0..40),
            field in "[abc]{0,14}",
        ) {
            let compiled = patterns.iter().enumerate().map(|(n, pattern)| (Pattern::glob(pattern), n as u32)).collect();
            let texts = Texts::new(compiled);
            let expected: Vec<_> = patterns
                .iter()
                .enumerate()
                .filter(|(_, pattern)| naive_glob(pattern.as_bytes(), field.as_bytes()))
                .map(|(n, _)| n as u32)
                .collect();
            let mut scratch = Scratch::default();
            for _ in 0..2 {
                texts.search(field.as_bytes(), &mut scratch);
                prop_assert_eq!(&scratch.found, &expected);
            }
        }

        #[test]
        fn affix_patterns_match_as_the_standard_library_says(
            patterns in prop::collection::vec(("[ab]{0,4}", any::<bool>(), any::<bool>()), 0..40),
            field in "[abc]{0,14}",
        ) {
            let text = |(text, leading, trailing): &(String, bool, bool)| {
                [if *leading { "*" } else { "" }, text, if *trailing { "*" } else { "" }].concat()
            };
            let compiled = patterns.iter().enumerate().map(|(n, one)| (Pattern::affix(&text(one)), n as u32)).collect();
            let texts = Texts::new(compiled);
            let expected: Vec<_> = patterns
                .iter()
                .enumerate()
                .filter(|(_, (text, leading, trailing))| match (leading, trailing) {
                    (true, false) => field.ends_with(text),
                    (false, true) => field.starts_with(text),
                    _ => field.contains(text),
                })
                .map(|(n, _)| n as u32)
                .collect();
            let mut scratch = Scratch::default();
            texts.search(field.as_bytes(), &mut scratch);
            prop_assert_eq!(scratch.found, expected);
        }
    }

    #[test]
    fn the_engine_finds_what_the_table_says() {
        let cases: [(&[&str], &str, &[u32]); 9] = [
            (
                &["prefix*", "*suffix", "contains"],
                "prefix_contains",
                &[0, 2],
            ),
            (&["prefix*", "*suffix", "contains"], "test_suffix", &[1]),
            (&["he", "she", "his", "hers"], "she", &[0, 1]),
            (&["alice*", "*456789", "bob"], "bob456789", &[1, 2]),
            (&["+49*", "+1*"], "call +491234567890", &[]),
            (&["test", "test"], "test", &[0, 1]),
            (&["*@example.com"], "user@example.com", &[0]),
            (&["*@example.com"], "user@example.com extra", &[]),
            // The reference loses a lone star among a hundred patterns (W21).
            (&["*", "**", ""], "anyone", &[0, 1, 2]),
        ];
        for (patterns, field, expected) in cases {
            for others in [0, 200] {
                let fillers = (0..others).map(|n| format!("filler{n}"));
                let all = patterns
                    .iter()
                    .map(|text| (*text).to_owned())
                    .chain(fillers);
                let all = all
                    .enumerate()
                    .map(|(n, text)| (Pattern::affix(&text), n as u32));
                let mut scratch = Scratch::default();
                Texts::new(all.collect()).search(field.as_bytes(), &mut scratch);
                assert_eq!(scratch.found, expected, "{patterns:?} {field}");
            }
        }
    }

    #[test]
    fn many_hits_of_few_needles_take_little_memory() {
        let patterns = (1..=50)
            .map(|len| (Pattern::affix(&"a".repeat(len)), len as u32))
            .collect();
        let texts = Texts::new(patterns);
        let mut scratch = Scratch::default();
        texts.search(&vec![b'a'; 20_000], &mut scratch);
        assert_eq!(scratch.found, (1..=50).collect::<Vec<u32>>());
        assert!(scratch.found.capacity() < 100 && scratch.needles.capacity() < 100);
    }

    #[test]
    fn patterns_of_several_parts_are_looked_for_by_the_part_that_the_fewest_share() {
        let pattern = |n: u32| (Pattern::glob(&format!("u{n}@*.example.com")), n);
        let inner = Texts::new((0..500).map(pattern).collect()).inner.unwrap();
        let most = inner.starts.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert_eq!((inner.starts.len(), most), (501, Some(1)));
        let mut scratch = Scratch::default();
        inner.search(b"u499@mail.example.com", &mut scratch);
        assert_eq!(scratch.found, [499]);
    }
}
