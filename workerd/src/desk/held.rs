//! Packets that wait for a verdict: which there are, in what order, and whose.
//!
//! The packets themselves lie in a log, one behind the other, in the order in which they came; here stands what each is. Those of one owner form a [`Chain`]. When
//! the log is full, or they have waited for too long, the oldest of all go first, whoever owns them: so the log's oldest byte always moves on.

use std::collections::VecDeque;

/// Where a packet lies in the log, in bytes.
pub type Position = u64;

/// Number of a packet that waits, from 1 on.
type Number = u64;

/// The packets of one owner, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain {
    /// 0: there is none.
    first: Number,
    last: Number,
    packets: u32,
    bytes: u32,
}

impl Chain {
    /// Packets in it.
    #[must_use]
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// Bytes of its packets.
    #[must_use]
    pub fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.first == 0
    }
}

/// A packet that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting<O> {
    /// Where it lies.
    pub position: Position,
    /// When it came, in nanoseconds of its owner's clock.
    pub time_ns: u64,
    /// Its length in bytes; 0 for what is told of a message without its packet.
    pub bytes: u32,
    /// Whether it is media.
    pub is_media: bool,
    /// Whose it is.
    pub owner: O,
}

impl<O> Waiting<O> {
    /// Whether it is a packet, and not only what is told of a message.
    #[must_use]
    pub fn is_packet(&self) -> bool {
        self.bytes > 0
    }
}

#[derive(Debug)]
struct Entry<O> {
    waiting: Waiting<O>,
    /// The next of its chain.
    next: Number,
    is_done: bool,
}

/// All packets that wait, in the order of their positions.
#[derive(Debug)]
pub struct Held<O> {
    entries: VecDeque<Entry<O>>,
    /// Number of the first entry.
    base: Number,
    /// See [`Held::take_done`].
    done: Vec<Position>,
}

impl<O> Default for Held<O> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            base: 1,
            done: Vec::new(),
        }
    }
}

impl<O: Copy> Held<O> {
    /// Adds a packet behind all others, at the end of its owner's chain.
    pub fn push(&mut self, chain: &mut Chain, waiting: Waiting<O>) {
        let number = self.base + self.entries.len() as u64;
        self.entries.push_back(Entry {
            waiting,
            next: 0,
            is_done: false,
        });
        match self.entry(chain.last) {
            Some(last) => last.next = number,
            None => chain.first = number,
        }
        chain.last = number;
        chain.packets += 1;
        chain.bytes = chain.bytes.saturating_add(waiting.bytes);
    }

    /// Takes the oldest packet of a chain.
    pub fn pop(&mut self, chain: &mut Chain) -> Option<Waiting<O>> {
        let entry = self.entry(chain.first)?;
        entry.is_done = true;
        let (waiting, next) = (entry.waiting, entry.next);
        chain.first = next;
        if next == 0 {
            chain.last = 0;
        }
        chain.packets -= 1;
        chain.bytes = chain.bytes.saturating_sub(waiting.bytes);
        self.done.push(waiting.position);
        self.tidy();
        Some(waiting)
    }

    /// Moves the oldest packet of a chain to the end of another one of its owner.
    pub fn shift(&mut self, from: &mut Chain, to: &mut Chain) {
        let number = from.first;
        let Some(entry) = self.entry(number) else {
            return;
        };
        let (bytes, next) = (entry.waiting.bytes, std::mem::take(&mut entry.next));
        from.first = next;
        if next == 0 {
            from.last = 0;
        }
        from.packets -= 1;
        from.bytes = from.bytes.saturating_sub(bytes);
        match self.entry(to.last) {
            Some(last) => last.next = number,
            None => to.first = number,
        }
        to.last = number;
        to.packets += 1;
        to.bytes = to.bytes.saturating_add(bytes);
    }

    /// Where the packets of a chain lie.
    pub fn positions(&self, chain: &Chain) -> impl Iterator<Item = Position> {
        let mut number = chain.first;
        std::iter::from_fn(move || {
            let index = number.checked_sub(self.base)?;
            let entry = self.entries.get(index as usize)?;
            number = entry.next;
            Some(entry.waiting.position)
        })
    }

    /// Takes the media out of a chain. How many there were.
    pub fn take_media(&mut self, chain: &mut Chain) -> u32 {
        self.take_if(chain, |waiting| waiting.is_media)
    }

    /// Takes those packets out of a chain that `takes` says. How many there were.
    pub fn take_if(
        &mut self,
        chain: &mut Chain,
        mut takes: impl FnMut(&Waiting<O>) -> bool,
    ) -> u32 {
        let (mut kept, mut number, mut taken) = (Chain::default(), chain.first, 0);
        while let Some(entry) = self.entry(number) {
            let next = std::mem::take(&mut entry.next);
            let Waiting {
                bytes, position, ..
            } = entry.waiting;
            entry.is_done = takes(&entry.waiting);
            if entry.is_done {
                taken += 1;
                self.done.push(position);
            } else {
                match self.entry(kept.last) {
                    Some(last) => last.next = number,
                    None => kept.first = number,
                }
                kept.last = number;
                kept.packets += 1;
                kept.bytes = kept.bytes.saturating_add(bytes);
            }
            number = next;
        }
        *chain = kept;
        self.tidy();
        taken
    }

    fn tidy(&mut self) {
        while self.entries.front().is_some_and(|entry| entry.is_done) {
            self.entries.pop_front();
            self.base += 1;
        }
    }

    /// The oldest packet of a chain.
    #[must_use]
    pub fn peek(&self, chain: &Chain) -> Option<Waiting<O>> {
        let index = chain.first.checked_sub(self.base)?;
        Some(self.entries.get(index as usize)?.waiting)
    }

    /// The packet at `position` as a chain of its own, if it waits and is not part of one.
    #[must_use]
    pub fn alone(&self, position: Position) -> Option<Chain>
    where
        O: Default + PartialEq,
    {
        let at = |entry: &Entry<O>| entry.waiting.position.cmp(&position);
        let index = self.entries.binary_search_by(at).ok()?;
        let entry = &self.entries[index];
        let number = self.base + index as u64;
        (!entry.is_done && entry.waiting.owner == O::default()).then_some(Chain {
            first: number,
            last: number,
            packets: 1,
            bytes: entry.waiting.bytes,
        })
    }

    /// Whose the packet at `position` is, if it waits.
    #[must_use]
    pub fn owner_at(&self, position: Position) -> Option<O> {
        Some(self.waiting_at(position)?.owner)
    }

    /// The length of the packet at `position`, if it waits.
    #[must_use]
    pub fn bytes_at(&self, position: Position) -> Option<u32> {
        Some(self.waiting_at(position)?.bytes)
    }

    fn waiting_at(&self, position: Position) -> Option<&Waiting<O>> {
        let at = |entry: &Entry<O>| entry.waiting.position.cmp(&position);
        let entry = &self.entries[self.entries.binary_search_by(at).ok()?];
        (!entry.is_done).then_some(&entry.waiting)
    }

    /// Takes the packet at `position` out of its chain, as a chain of its own.
    pub fn split(&mut self, chain: &mut Chain, position: Position) -> Option<Chain> {
        let (mut before, mut number) = (0, chain.first);
        loop {
            let entry = self.entry(number)?;
            if entry.waiting.position == position {
                break;
            }
            (before, number) = (number, entry.next);
        }
        let entry = self.entry(number)?;
        let bytes = entry.waiting.bytes;
        let next = std::mem::take(&mut entry.next);
        match self.entry(before) {
            Some(before) => before.next = next,
            None => chain.first = next,
        }
        if chain.last == number {
            chain.last = before;
        }
        chain.packets -= 1;
        chain.bytes = chain.bytes.saturating_sub(bytes);
        Some(Chain {
            first: number,
            last: number,
            packets: 1,
            bytes,
        })
    }

    /// What lies at `position` need not be looked at again, though it does not wait.
    pub fn pass_over(&mut self, position: Position) {
        self.done.push(position);
    }

    /// Where packets lie that wait and are nobody's.
    pub fn unowned(&self) -> impl Iterator<Item = Position>
    where
        O: Default + PartialEq,
    {
        let entries = self.entries.iter();
        let unowned = entries.filter(|entry| !entry.is_done && entry.waiting.owner == O::default());
        unowned.map(|entry| entry.waiting.position)
    }

    /// Adds where packets lie that were taken since the last call: while older ones wait, their bytes can't be given up.
    pub fn take_done(&mut self, done: &mut Vec<Position>) {
        done.append(&mut self.done);
    }

    /// The packet that has waited for longest. It is the first of its owner's chain.
    #[must_use]
    pub fn oldest(&self) -> Option<Waiting<O>> {
        Some(self.entries.front()?.waiting)
    }

    /// Moves the packets of one chain into another, whose `owner` they have from now on; in order.
    pub fn merge(&mut self, into: &mut Chain, from: &mut Chain, owner: O) {
        let mut merged = Chain::default();
        while let Some(number) = self.earlier(into, from) {
            let chain = if number == into.first {
                &mut *into
            } else {
                &mut *from
            };
            let previous = merged.last;
            let Some(entry) = self.entry(number) else {
                break;
            };
            chain.first = std::mem::take(&mut entry.next);
            entry.waiting.owner = owner;
            let bytes = entry.waiting.bytes;
            match self.entry(previous) {
                Some(last) => last.next = number,
                None => merged.first = number,
            }
            merged.last = number;
            merged.packets += 1;
            merged.bytes = merged.bytes.saturating_add(bytes);
        }
        (*into, *from) = (merged, Chain::default());
    }

    /// The first packet of either chain.
    fn earlier(&self, one: &Chain, other: &Chain) -> Option<Number> {
        match (one.first, other.first) {
            (0, 0) => None,
            (0, number) | (number, 0) => Some(number),
            (one, other) => Some(one.min(other)),
        }
    }

    fn entry(&mut self, number: Number) -> Option<&mut Entry<O>> {
        let index = number.checked_sub(self.base)?;
        self.entries.get_mut(index as usize)
    }

    /// Packets that wait, and those behind the oldest of them that do not any more.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn waiting(position: Position, owner: usize) -> Waiting<usize> {
        Waiting {
            position,
            time_ns: position,
            bytes: 1,
            is_media: position.is_multiple_of(2),
            owner,
        }
    }

    proptest! {
        /// Against lists: each owner's packets come out in the order in which they came in.
        #[test]
        fn chains_are_lists(
            steps in prop::collection::vec((0..5u8, 0..5usize, 0..5usize), 0..200),
        ) {
            let mut held = Held::default();
            let mut chains = [Chain::default(); 5];
            let mut model = vec![Vec::new(); 5];
            for (position, (step, one, other)) in steps.into_iter().enumerate() {
                match step {
                    0 | 1 => {
                        held.push(&mut chains[one], waiting(position as u64, one));
                        model[one].push(position as u64);
                    }
                    4 => {
                        let before = model[one].len();
                        model[one].retain(|position| !position.is_multiple_of(2));
                        let taken = held.take_media(&mut chains[one]) as usize;
                        prop_assert_eq!(taken, before - model[one].len());
                    }
                    2 if !model[one].is_empty() && other > 0 => {
                        let place = other % model[one].len();
                        let position = model[one].remove(place);
                        let mut split = held.split(&mut chains[one], position).unwrap();
                        let last = (one + 1) % 5;
                        held.merge(&mut chains[last], &mut split, last);
                        prop_assert_eq!(held.owner_at(position), Some(last));
                        model[last].push(position);
                        model[last].sort_unstable();
                    }
                    2 => {
                        let expected = (!model[one].is_empty()).then(|| model[one].remove(0));
                        let found = held.pop(&mut chains[one]);
                        prop_assert_eq!(found.map(|waiting| waiting.position), expected);
                        prop_assert!(found.is_none_or(|waiting| waiting.owner == one));
                    }
                    _ if one != other => {
                        let mut from = std::mem::take(&mut chains[other]);
                        held.merge(&mut chains[one], &mut from, one);
                        let moved = std::mem::take(&mut model[other]);
                        model[one].extend(moved);
                        model[one].sort_unstable();
                    }
                    _ => {}
                }
                let oldest = model.iter().flatten().min();
                prop_assert_eq!(held.oldest().map(|waiting| waiting.position), oldest.copied());
                for (chain, model) in chains.iter().zip(&model) {
                    prop_assert_eq!(chain.packets() as usize, model.len());
                    prop_assert_eq!(held.peek(chain).map(|waiting| waiting.position), model.first().copied());
                }
            }
        }
    }
}
