//! Texts that may stand anywhere in a field, found in one pass over it: an Aho-Corasick automaton.
//!
//! Its own, because of three bounds that the usual ones don't keep, whatever texts and fields are chosen:
//!
//! - **Memory**: 17 bytes for each byte of the texts, and 4 for each text. Where each state lists all texts that end at it, a megabyte of
//!   `a`, `aa`, `aaa`, ... and the like takes gigabytes. Here a state knows the longest, and each text the next shorter one that it ends with.
//! - **Time for a field**: its length and the *distinct* texts in it. What is behind a text that was found before was found with it.
//! - **Time to build**: proportional to the bytes of the texts.
//!
//! A field that lacks a byte which all texts have is left at once (by `memchr`, with SIMD).
//!
//! It consists of plain tables of numbers. A state's children stand side by side, and a state with a single child mostly just before it,
//! so that a text of its own is read in one direction.
//!
//! Aho, Corasick: "Efficient string matching", Communications of the ACM 18 (1975).

use memchr::memchr;
use std::ops::Range;

/// No text.
const NONE: u32 = u32::MAX;
/// The state before anything was read.
const ROOT: u32 = 0;

/// The automaton.
#[derive(Debug)]
pub struct Automaton {
    /// The states; those of one parent side by side.
    states: Vec<State>,
    /// By which byte each state is reached from its parent.
    labels: Vec<u8>,
    /// Where each byte leads from the start.
    root: Vec<u32>,
    /// For each text the longest other one that it ends with.
    shorter: Vec<u32>,
    /// A byte that all texts have.
    shared: Option<u8>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    first_child: u32,
    /// The state of the longest proper end of what was read that begins a text.
    fallback: u32,
    /// The longest text that ends here.
    longest: u32,
    children: u16,
    /// By which byte the first child is reached.
    first_label: u8,
}

const BLANK: State = State {
    first_child: 0,
    fallback: ROOT,
    longest: NONE,
    children: 0,
    first_label: 0,
};

impl Automaton {
    /// Builds it from texts in ascending order, none twice and none empty, of less than 4 GiB together.
    #[must_use]
    pub fn new(texts: &[&[u8]]) -> Self {
        let mut automaton = Self {
            states: vec![BLANK],
            labels: vec![0],
            root: vec![ROOT; 256],
            shorter: vec![NONE; texts.len()],
            shared: shared(texts),
        };
        automaton.plant(texts);
        for child in automaton.children(ROOT) {
            let label = automaton.labels[child as usize];
            automaton.root[usize::from(label)] = child;
        }
        automaton.link();
        automaton
    }

    /// The tree of all beginnings of the texts.
    fn plant(&mut self, texts: &[&[u8]]) {
        // States without children so far, their depth, and the texts that begin so.
        let mut open = vec![(ROOT, 0, 0..texts.len())];
        while let Some((state, depth, mut range)) = open.pop() {
            if texts[range.clone()]
                .first()
                .is_some_and(|text| text.len() == depth)
            {
                self.states[state as usize].longest = range.start as u32;
                range.start += 1;
            }
            let first_child = self.states.len();
            let siblings = open.len();
            while let Some(text) = texts[range.clone()].first() {
                let label = text[depth];
                let same = texts[range.clone()].partition_point(|text| text[depth] == label);
                let same = range.start..range.start + same;
                range.start = same.end;
                open.push((self.states.len() as u32, depth + 1, same));
                self.states.push(BLANK);
                self.labels.push(label);
            }
            // The first child goes on at once, right behind its siblings.
            open[siblings..].reverse();
            if let Some(label) = self.labels.get(first_child) {
                let state = &mut self.states[state as usize];
                state.first_child = first_child as u32;
                state.first_label = *label;
                state.children = (self.labels.len() - first_child) as u16;
            }
        }
    }

    /// Where to go on when a text does not; level by level, since a fallback is nearer to the root.
    fn link(&mut self) {
        let mut level: Vec<u32> = self.children(ROOT).collect();
        let mut next = Vec::new();
        while !level.is_empty() {
            for state in level.drain(..) {
                let State {
                    fallback, longest, ..
                } = self.states[state as usize];
                let inherited = self.states[fallback as usize].longest;
                match longest {
                    NONE => self.states[state as usize].longest = inherited,
                    text => self.shorter[text as usize] = inherited,
                }
                for child in self.children(state) {
                    let label = self.labels[child as usize];
                    self.states[child as usize].fallback = self.step(fallback, label);
                    next.push(child);
                }
            }
            std::mem::swap(&mut level, &mut next);
        }
    }

    fn children(&self, state: u32) -> Range<u32> {
        let state = &self.states[state as usize];
        state.first_child..state.first_child + u32::from(state.children)
    }

    #[inline]
    fn step(&self, mut at: u32, byte: u8) -> u32 {
        while at != ROOT {
            let state = &self.states[at as usize];
            if state.first_label == byte && state.children > 0 {
                return state.first_child;
            }
            if state.children > 1 {
                let labels = &self.labels[state.first_child as usize..];
                if let Some(child) = memchr(byte, &labels[..usize::from(state.children)]) {
                    return state.first_child + child as u32;
                }
            }
            at = state.fallback;
        }
        self.root[usize::from(byte)]
    }

    /// Calls `found` with the number of each text that ends at each place of `field`, longest first, until it says that it knows the
    /// text: then it knows those that the text ends with, too.
    #[inline]
    pub fn search(&self, field: &[u8], mut found: impl FnMut(u32) -> bool) {
        if self
            .shared
            .is_some_and(|byte| memchr(byte, field).is_none())
        {
            return;
        }
        let mut at = ROOT;
        for byte in field {
            at = self.step(at, *byte);
            let mut text = self.states[at as usize].longest;
            while text != NONE && found(text) {
                text = self.shorter[text as usize];
            }
        }
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.states.capacity() * size_of::<State>()
            + self.labels.capacity()
            + (self.root.capacity() + self.shorter.capacity()) * 4
    }
}

/// Of the bytes that all texts have, the one that names and numbers have least often.
fn shared(texts: &[&[u8]]) -> Option<u8> {
    /// Others than these are rarer.
    const BY_FREQUENCY: &[u8] = b".e-oain@srtl:dcmhup/1g0b2f3yw4k5v9678xjqz_";
    let mut common = [u64::MAX; 4];
    for text in texts {
        let mut seen = [0; 4];
        for byte in *text {
            seen[usize::from(*byte >> 6)] |= 1 << (*byte & 63);
        }
        (common.iter_mut().zip(seen)).for_each(|(common, seen)| *common &= seen);
    }
    let rarity = |byte: &u8| memchr(*byte, BY_FREQUENCY).unwrap_or(usize::MAX);
    let is_common = |byte: &u8| common[usize::from(*byte >> 6)] >> (*byte & 63) & 1 != 0;
    let common = (0..=u8::MAX).filter(is_common);
    common.max_by_key(rarity).filter(|_| !texts.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn each_text_is_found_where_it_ends(
            texts in prop::collection::btree_set("[ab]{1,6}|[a-z]{1,3}|\\PC{1,3}", 0..60),
            field in "[ab]{0,30}|[a-z]{0,30}|\\PC{0,10}",
        ) {
            let texts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
            let automaton = Automaton::new(&texts);
            let field = field.as_bytes();
            let mut found = Vec::new();
            let mut seen = BTreeSet::new();
            automaton.search(field, |text| {
                found.push(text as usize);
                true
            });
            // Told to stop at what is known, it leaves out nothing new.
            automaton.search(field, |text| seen.insert(text as usize));
            let mut expected = Vec::new();
            for end in 1..=field.len() {
                let mut here: Vec<_> = (0..texts.len()).filter(|text| field[..end].ends_with(texts[*text])).collect();
                here.sort_by_key(|text| std::cmp::Reverse(texts[*text].len()));
                expected.extend(here);
            }
            prop_assert_eq!(&found, &expected);
            prop_assert!(seen.into_iter().eq(expected.into_iter().collect::<BTreeSet<_>>()));
        }
    }

    #[test]
    fn the_rarest_byte_that_all_texts_have_is_known() {
        let shared = |texts: &[&str]| {
            let texts: Vec<&[u8]> = texts.iter().map(|text| text.as_bytes()).collect();
            super::shared(&texts)
        };
        assert_eq!(shared(&["a.example", "mail.xy", "x.com"]), Some(b'x'));
        assert_eq!(shared(&["a.b", "c.d"]), Some(b'.'));
        assert_eq!(shared(&["ab", "cd"]), None);
        assert_eq!(shared(&[]), None);
    }

    /// Lists of all texts that end at each state would have 200 million entries.
    #[test]
    fn texts_that_end_with_each_other_take_memory_and_time_by_their_bytes() {
        let chain = (1..=1_000).map(|len| vec![b'a'; len]);
        let long = (0..10).map(|n| [&[b'b' + n][..], &[b'a'; 20_000]].concat());
        let texts: Vec<Vec<u8>> = chain.chain(long).collect();
        let texts: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let automaton = Automaton::new(&texts);
        assert!(
            automaton.states.len() < 202_000,
            "{}",
            automaton.states.len()
        );
        let mut seen = vec![false; texts.len()];
        let mut calls = 0;
        automaton.search(&[b'a'; 60_000], |text| {
            calls += 1;
            !std::mem::replace(&mut seen[text as usize], true)
        });
        assert_eq!(seen.iter().filter(|seen| **seen).count(), 1_000);
        // Once for each place, and once more where a new text ends with a known one.
        assert!(calls < 61_000, "{calls}");
    }
}
