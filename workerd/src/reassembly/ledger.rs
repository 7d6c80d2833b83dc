//! Which packets carry which bytes of a stream.

use std::ops::Range;

use super::pieces::NONE;

/// The notes of all directions, in one memory that is reserved at the start.
pub(super) struct Notes {
    notes: Vec<Note>,
    most: usize,
    most_of_one: u32,
    /// Notes that were used before, as a chain.
    free: u32,
    used: usize,
}

#[derive(Clone, Copy)]
struct Note {
    token: u64,
    start: u64,
    len: u32,
    next: u32,
}

/// The notes of one direction, in capture order.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chain {
    first: u32,
    last: u32,
    len: u32,
    /// Whatever ends at or before this offset is of no interest any more.
    below: u64,
}

/// What is known of the packets that carry one direction of a connection.
///
/// A caller that holds packets until it knows what they carry gives a token with each segment, and asks here.
pub struct Ledger<'a> {
    pub(super) notes: &'a mut Notes,
    pub(super) chain: &'a mut Chain,
}

impl Ledger<'_> {
    /// The tokens of packets that carry bytes of `range`, in capture order: retransmissions too.
    pub fn carriers(&self, range: Range<u64>) -> impl Iterator<Item = u64> {
        self.iter()
            .filter(move |(_, carried)| carried.start < range.end && range.start < carried.end)
            .map(|(token, _)| token)
    }

    /// All tokens, in capture order, with the bytes that each one carries.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Range<u64>)> {
        let mut at = self.chain.first;
        std::iter::from_fn(move || {
            let note = self.notes.notes.get(at as usize)?;
            at = note.next;
            Some((note.token, note.range()))
        })
    }

    /// Forgets the packets that carry nothing at or behind `offset`, and gives each of them to `each`, in capture order. Packets that only
    /// repeat such bytes are not noted from now on.
    pub fn forget(&mut self, offset: u64, mut each: impl FnMut(u64)) {
        self.chain.below = self.chain.below.max(offset);
        let mut before = NONE;
        let mut at = self.chain.first;
        while let Some(note) = self.notes.notes.get(at as usize).copied() {
            if note.start + u64::from(note.len) > offset {
                (before, at) = (at, note.next);
                continue;
            }
            self.notes.unlink(self.chain, before, at);
            each(note.token);
            at = note.next;
        }
    }

    /// Forgets packets in capture order, up to the first that carries something at or behind `offset`, and gives each of them to `each`. Once none is left,
    /// packets that only repeat bytes before `offset` are not noted any more.
    pub fn forget_first(&mut self, offset: u64, mut each: impl FnMut(u64, Range<u64>)) {
        while let Some(note) = self.notes.notes.get(self.chain.first as usize).copied() {
            if note.range().end > offset {
                return;
            }
            self.notes.unlink(self.chain, NONE, self.chain.first);
            each(note.token, note.range());
        }
        self.chain.below = self.chain.below.max(offset);
    }

    /// Gives the packet that was noted last, if that is `token`, the token `other`.
    pub fn rename_last(&mut self, token: u64, other: u64) -> bool {
        match self.notes.notes.get_mut(self.chain.last as usize) {
            Some(note) if note.token == token => {
                note.token = other;
                true
            }
            _ => false,
        }
    }

    /// Packets that are noted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.chain.len as usize
    }

    /// Whether none is noted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chain.len == 0
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            first: NONE,
            last: NONE,
            len: 0,
            below: 0,
        }
    }
}

impl Notes {
    /// Room for `most` notes, and for `most_of_one` of one direction.
    pub(super) fn new(most: usize, most_of_one: u32) -> Option<Self> {
        let mut notes = Vec::new();
        notes.try_reserve_exact(most).ok()?;
        Some(Self {
            notes,
            most,
            most_of_one,
            free: NONE,
            used: 0,
        })
    }

    /// Notes, of all directions.
    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn capacity_bytes(&self) -> usize {
        self.most * size_of::<Note>()
    }

    /// Whether bytes that end at `end` are of interest.
    pub(super) fn wants(chain: &Chain, end: u64) -> bool {
        end > chain.below
    }

    /// Takes in a packet. Says whether there was room.
    #[inline]
    pub(super) fn add(&mut self, chain: &mut Chain, token: u64, start: u64, len: u32) -> bool {
        if chain.len >= self.most_of_one || self.used == self.most {
            return false;
        }
        let note = Note {
            token,
            start,
            len,
            next: NONE,
        };
        let place = match self.notes.get_mut(self.free as usize) {
            Some(used) => {
                let place = self.free;
                self.free = used.next;
                *used = note;
                place
            }
            None => {
                self.notes.push(note);
                self.notes.len() as u32 - 1
            }
        };
        match self.notes.get_mut(chain.last as usize) {
            Some(last) => last.next = place,
            None => chain.first = place,
        }
        chain.last = place;
        chain.len += 1;
        self.used += 1;
        true
    }

    /// Forgets all of a direction.
    pub(super) fn clear(&mut self, chain: &mut Chain) {
        while chain.first != NONE {
            self.unlink(chain, NONE, chain.first);
        }
    }

    fn unlink(&mut self, chain: &mut Chain, before: u32, at: u32) {
        let Some(note) = self.notes.get_mut(at as usize) else {
            return;
        };
        let next = std::mem::replace(&mut note.next, self.free);
        self.free = at;
        match self.notes.get_mut(before as usize) {
            Some(before) => before.next = next,
            None => chain.first = next,
        }
        if next == NONE {
            chain.last = before;
        }
        chain.len -= 1;
        self.used -= 1;
    }
}

impl Note {
    fn range(&self) -> Range<u64> {
        self.start..self.start + u64::from(self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Add(bool, u64, u32),
        Forget(bool, u64),
        ForgetFirst(bool, u64),
        Clear(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (any::<bool>(), 0..1000_u64, 1..100_u32).prop_map(|(a, b, c)| Step::Add(a, b, c)),
            2 => (any::<bool>(), 0..1100_u64).prop_map(|(a, b)| Step::Forget(a, b)),
            2 => (any::<bool>(), 0..1100_u64).prop_map(|(a, b)| Step::ForgetFirst(a, b)),
            1 => any::<bool>().prop_map(Step::Clear),
        ];
        prop::collection::vec(step, 0..100)
    }

    proptest! {
        #[test]
        fn it_is_two_bounded_lists(steps in steps()) {
            let mut notes = Notes::new(20, 15).unwrap();
            let mut chains = [Chain::default(); 2];
            let mut model: [Vec<(u64, Range<u64>)>; 2] = [Vec::new(), Vec::new()];
            for (token, step) in steps.into_iter().enumerate() {
                let token = token as u64;
                match step {
                    Step::Add(which, start, len) => {
                        let room = model[usize::from(which)].len() < 15
                            && model[0].len() + model[1].len() < 20;
                        let added = notes.add(&mut chains[usize::from(which)], token, start, len);
                        prop_assert_eq!(added, room);
                        if added {
                            let range = start..start + u64::from(len);
                            model[usize::from(which)].push((token, range));
                        }
                    }
                    Step::Forget(which, offset) => {
                        let model = &mut model[usize::from(which)];
                        let expected: Vec<u64> = model
                            .iter()
                            .filter(|(_, range)| range.end <= offset)
                            .map(|(token, _)| *token)
                            .collect();
                        model.retain(|(_, range)| range.end > offset);
                        let chain = &mut chains[usize::from(which)];
                        let mut forgotten = Vec::new();
                        let mut ledger = Ledger { notes: &mut notes, chain };
                        ledger.forget(offset, |token| forgotten.push(token));
                        prop_assert_eq!(forgotten, expected);
                    }
                    Step::ForgetFirst(which, offset) => {
                        let model = &mut model[usize::from(which)];
                        let first = |(_, range): &&(u64, Range<u64>)| range.end <= offset;
                        let count = model.iter().take_while(first).count();
                        let expected: Vec<_> = model.drain(..count).collect();
                        let chain = &mut chains[usize::from(which)];
                        let mut forgotten = Vec::new();
                        let mut ledger = Ledger { notes: &mut notes, chain };
                        ledger.forget_first(offset, |token, range| forgotten.push((token, range)));
                        prop_assert_eq!(forgotten, expected);
                    }
                    Step::Clear(which) => {
                        notes.clear(&mut chains[usize::from(which)]);
                        model[usize::from(which)].clear();
                    }
                }
                prop_assert_eq!(notes.used(), model[0].len() + model[1].len());
                for (chain, model) in chains.iter_mut().zip(&model) {
                    let ledger = Ledger { notes: &mut notes, chain };
                    prop_assert_eq!(ledger.len(), model.len());
                    prop_assert_eq!(ledger.iter().collect::<Vec<_>>(), model.clone());
                    let carriers: Vec<u64> = ledger.carriers(300..500).collect();
                    let expected: Vec<u64> = model
                        .iter()
                        .filter(|(_, range)| range.start < 500 && range.end > 300)
                        .map(|(token, _)| *token)
                        .collect();
                    prop_assert_eq!(carriers, expected);
                }
            }
        }
    }
}
