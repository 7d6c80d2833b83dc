//! Things in the order in which they came into a list: the links are in the things themselves.

use super::pieces::NONE;
use crate::flows::clock::Tick;

/// `N` lists of numbered things, each of which is in one of them at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lists<const N: usize> {
    /// First and last.
    ends: [(u32, u32); N],
}

/// Where the things are.
pub(super) trait Linked {
    fn link(&mut self, number: u32) -> &mut Link;
}

/// A thing's place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    before: u32,
    after: u32,
    /// In which list.
    list: Option<u8>,
    /// Since when.
    since: Tick,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            before: NONE,
            after: NONE,
            list: None,
            since: Tick::default(),
        }
    }
}

impl Link {
    /// The list that it is in.
    #[inline]
    pub(super) fn list(&self) -> Option<usize> {
        self.list.map(usize::from)
    }

    /// Since when it is in it.
    #[inline]
    pub(super) fn since(&self) -> Tick {
        self.since
    }
}

impl<const N: usize> Default for Lists<N> {
    fn default() -> Self {
        Self {
            ends: [(NONE, NONE); N],
        }
    }
}

impl<const N: usize> Lists<N> {
    /// Who has been in a list for longest.
    #[inline]
    pub(super) fn front(&self, list: usize) -> Option<u32> {
        let (first, _) = self.ends[list];
        (first != NONE).then_some(first)
    }

    /// Puts a thing at the end of a list, or into none.
    pub(super) fn put(
        &mut self,
        mut things: impl Linked,
        number: u32,
        list: Option<usize>,
        now: Tick,
    ) {
        self.remove(&mut things, number);
        let Some(list) = list else {
            return;
        };
        let (first, last) = &mut self.ends[list];
        *things.link(number) = Link {
            before: *last,
            after: NONE,
            list: Some(list as u8),
            since: now,
        };
        match *last {
            NONE => *first = number,
            last => things.link(last).after = number,
        }
        *last = number;
    }

    fn remove(&mut self, things: &mut impl Linked, number: u32) {
        let Link {
            before,
            after,
            list,
            ..
        } = std::mem::take(things.link(number));
        let Some(list) = list else {
            return;
        };
        let (first, last) = &mut self.ends[usize::from(list)];
        match before {
            NONE => *first = after,
            before => things.link(before).after = after,
        }
        match after {
            NONE => *last = before,
            after => things.link(after).before = before,
        }
    }
}
