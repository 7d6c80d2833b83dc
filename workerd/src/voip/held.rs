//! Packets that wait for a verdict: which there are, in what order, and whose.
//!
//! The packets themselves lie in a log, one behind the other; here stands what each is. Those of one owner form a [`Chain`], in the order in which they came. Where room is
//! short, what lies in front of all others goes, or is appended again behind them ([`Held::moved`]), so the log's oldest byte always moves on. A packet
//! keeps its [`Order`] when it is moved.

use std::collections::{HashMap, VecDeque};

/// Where a packet lies in the log, in bytes.
pub type Position = u64;

/// What came earlier has a smaller one. No two packets that wait have the same.
pub type Order = u64;

/// Number of a packet that waits, from 1 on: in the order in which they lie.
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
    /// Which came before it.
    pub order: Order,
    /// Since when it waits, in nanoseconds of packet time.
    pub time_ns: u64,
    /// Its length in bytes.
    pub bytes: u32,
    /// Whether it is media, or not known to be signalling.
    pub is_media: bool,
    /// Whose it is.
    pub owner: O,
}

#[derive(Debug)]
struct Entry<O> {
    waiting: Waiting<O>,
    /// Its neighbours in its chain.
    previous: Number,
    next: Number,
    is_done: bool,
}

/// All packets that wait, in the order of their positions.
#[derive(Debug)]
pub struct Held<O> {
    entries: VecDeque<Entry<O>>,
    /// Number of the first entry.
    base: Number,
    /// Packets that are nobody's.
    parked: HashMap<Order, Number>,
    /// See [`Held::take_done`].
    done: Vec<Position>,
}

impl<O> Default for Held<O> {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            base: 1,
            parked: HashMap::new(),
            done: Vec::new(),
        }
    }
}

impl<O: Copy> Held<O> {
    /// Adds a packet that lies behind all others, at the end of its owner's chain.
    pub fn push(&mut self, chain: &mut Chain, waiting: Waiting<O>) {
        let number = self.base + self.entries.len() as u64;
        self.entries.push_back(Entry {
            waiting,
            previous: chain.last,
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

    /// Adds a packet that lies behind all others and is nobody's.
    pub fn park(&mut self, waiting: Waiting<O>) {
        let mut chain = Chain::default();
        self.push(&mut chain, waiting);
        self.parked.insert(waiting.order, chain.first);
    }

    /// A packet that is nobody's.
    #[must_use]
    pub fn parked(&self, order: Order) -> Option<&Waiting<O>> {
        let index = self.parked.get(&order)?.checked_sub(self.base)?;
        Some(&self.entries.get(index as usize)?.waiting)
    }

    /// A packet that is nobody's, as a chain of its own, for somebody to own, who knows whether it is media.
    pub fn claim(&mut self, order: Order, is_media: bool) -> Option<Chain> {
        let number = self.parked.remove(&order)?;
        let waiting = &mut self.entry(number)?.waiting;
        waiting.is_media = is_media;
        let bytes = waiting.bytes;
        Some(Chain {
            first: number,
            last: number,
            packets: 1,
            bytes,
        })
    }

    /// Packets that are nobody's, in no order.
    pub fn all_parked(&self) -> impl Iterator<Item = Order> {
        self.parked.keys().copied()
    }

    /// All packets that wait, in the order of their positions.
    pub fn iter(&self) -> impl Iterator<Item = &Waiting<O>> {
        let entries = self.entries.iter().filter(|entry| !entry.is_done);
        entries.map(|entry| &entry.waiting)
    }

    /// Takes the oldest packet of a chain.
    pub fn pop(&mut self, chain: &mut Chain) -> Option<Waiting<O>> {
        self.take(chain, chain.first)
    }

    /// Takes the media out of a chain. How many there were.
    pub fn take_media(&mut self, chain: &mut Chain) -> u32 {
        let before = chain.packets;
        let mut number = chain.first;
        while let Some(entry) = self.entry(number) {
            let (next, is_media) = (entry.next, entry.waiting.is_media);
            if is_media {
                self.take(chain, number);
            }
            number = next;
        }
        before - chain.packets
    }

    /// Takes the packet that lies in front of all others, out of its owner's chain.
    pub fn take_front(&mut self, chain: &mut Chain) -> Option<Waiting<O>> {
        self.take(chain, self.base)
    }

    /// The packet that lies in front of all others, of `chain`, lies at `position` now, behind them. Its place in the chain is what it was.
    pub fn moved(&mut self, chain: &mut Chain, position: Position) {
        let Some(front) = self.entries.front() else {
            return;
        };
        let (previous, next) = (front.previous, front.next);
        let waiting = Waiting {
            position,
            ..front.waiting
        };
        let number = self.base + self.entries.len() as u64;
        self.entries.push_back(Entry {
            waiting,
            previous,
            next,
            is_done: false,
        });
        match self.entry(previous) {
            Some(entry) => entry.next = number,
            None => chain.first = number,
        }
        match self.entry(next) {
            Some(entry) => entry.previous = number,
            None => chain.last = number,
        }
        if let Some(parked) = self.parked.get_mut(&waiting.order) {
            *parked = number;
        }
        if let Some(front) = self.entries.front_mut() {
            front.is_done = true;
        }
        self.tidy();
    }

    fn take(&mut self, chain: &mut Chain, number: Number) -> Option<Waiting<O>> {
        let entry = self.entry(number)?;
        entry.is_done = true;
        let (waiting, previous, next) = (entry.waiting, entry.previous, entry.next);
        match self.entry(previous) {
            Some(entry) => entry.next = next,
            None => chain.first = next,
        }
        match self.entry(next) {
            Some(entry) => entry.previous = previous,
            None => chain.last = previous,
        }
        chain.packets -= 1;
        chain.bytes = chain.bytes.saturating_sub(waiting.bytes);
        if self.entries.front().is_some_and(|first| !first.is_done) {
            self.done.push(waiting.position);
        }
        self.tidy();
        Some(waiting)
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

    /// Where packets lie that were taken since the last call, though others lie in front of them: their bytes can't be given up.
    pub fn take_done(&mut self) -> Vec<Position> {
        let mut done = std::mem::take(&mut self.done);
        let front = self.front().map(|front| front.position);
        done.retain(|position| front.is_some_and(|front| front < *position));
        done
    }

    /// The packet that lies in front of all others.
    #[must_use]
    pub fn front(&self) -> Option<Waiting<O>> {
        Some(self.entries.front()?.waiting)
    }

    /// Moves the packets of one chain into another, whose `owner` they have from now on; in the order in which they came.
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
            entry.previous = previous;
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
    fn earlier(&mut self, one: &Chain, other: &Chain) -> Option<Number> {
        let mut order = |number| self.entry(number).map(|entry| entry.waiting.order);
        match (order(one.first), order(other.first)) {
            (None, None) => None,
            (Some(_), None) => Some(one.first),
            (None, Some(_)) => Some(other.first),
            (Some(ours), Some(theirs)) if ours < theirs => Some(one.first),
            (Some(_), Some(_)) => Some(other.first),
        }
    }

    fn entry(&mut self, number: Number) -> Option<&mut Entry<O>> {
        let index = number.checked_sub(self.base)?;
        self.entries.get_mut(index as usize)
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
            order: position,
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
            steps in prop::collection::vec((0..7u8, 0..5usize, 0..5usize), 0..200),
        ) {
            let mut held = Held::default();
            let mut chains = [Chain::default(); 5];
            // Order and position of each.
            let mut model = vec![Vec::new(); 5];
            for (position, (step, one, other)) in steps.into_iter().enumerate() {
                let position = position as u64;
                let front = held.front();
                match step {
                    0..3 => {
                        held.push(&mut chains[one], waiting(position, one));
                        model[one].push((position, position));
                    }
                    3 => {
                        let expected = (!model[one].is_empty()).then(|| model[one].remove(0).0);
                        let found = held.pop(&mut chains[one]);
                        prop_assert_eq!(found.map(|waiting| waiting.order), expected);
                        prop_assert!(found.is_none_or(|waiting| waiting.owner == one));
                    }
                    4 => {
                        if let Some(front) = front {
                            held.moved(&mut chains[front.owner], position);
                            let moved = model[front.owner].iter_mut().find(|(order, _)| *order == front.order);
                            moved.unwrap().1 = position;
                        }
                    }
                    5 => {
                        let before = model[one].len();
                        model[one].retain(|(order, _)| !order.is_multiple_of(2));
                        prop_assert_eq!(held.take_media(&mut chains[one]) as usize, before - model[one].len());
                    }
                    _ if one != other => {
                        let mut from = std::mem::take(&mut chains[other]);
                        held.merge(&mut chains[one], &mut from, one);
                        let moved = std::mem::take(&mut model[other]);
                        model[one].extend(moved);
                        model[one].sort_unstable();
                    }
                    _ => if let Some(front) = front {
                        held.take_front(&mut chains[front.owner]);
                        model[front.owner].retain(|(order, _)| *order != front.order);
                    }
                }
                let front = model.iter().flatten().map(|(_, position)| *position).min();
                prop_assert_eq!(held.front().map(|waiting| waiting.position), front);
                prop_assert_eq!(held.iter().count(), model.iter().flatten().count());
                for (chain, model) in chains.iter().zip(&model) {
                    prop_assert_eq!(chain.packets() as usize, model.len());
                    let first = held.peek(chain).map(|waiting| (waiting.order, waiting.position));
                    prop_assert_eq!(first, model.first().copied());
                }
            }
        }
    }
}
