//! The directions that wait, in the order in which they began to.
//!
//! Each kind of wait has one length, so that a list in order of beginning is in order of ending as well: whose time has come stands at its
//! front. The links are in the directions themselves.

use super::half::{Half, Wait};
use super::pieces::NONE;
use crate::flows::clock::Tick;

/// A direction by number: that of its connection's place, doubled, and one more for responses.
pub(super) type HalfNumber = u32;

/// Where the directions are.
pub(super) trait Halves {
    fn half(&mut self, number: HalfNumber) -> &mut Half;
}

/// The two lists.
#[derive(Debug, Clone, Copy)]
pub(super) struct WaitingLists {
    /// First and last of those that wait for short, then of those that wait for long.
    ends: [(HalfNumber, HalfNumber); 2],
}

impl Default for WaitingLists {
    fn default() -> Self {
        Self {
            ends: [(NONE, NONE); 2],
        }
    }
}

impl WaitingLists {
    pub(super) fn front(&self, wait: Wait) -> Option<HalfNumber> {
        let (first, _) = self.ends[wait as usize];
        (first != NONE).then_some(first)
    }

    /// Puts a direction that is in neither list at the end of one.
    pub(super) fn add(
        &mut self,
        halves: &mut (impl Halves + ?Sized),
        number: HalfNumber,
        wait: Wait,
        since: Tick,
    ) {
        let (first, last) = &mut self.ends[wait as usize];
        let link = &mut halves.half(number).link;
        link.wait = Some(wait);
        link.since = since;
        link.before = *last;
        link.after = NONE;
        match *last {
            NONE => *first = number,
            last => halves.half(last).link.after = number,
        }
        *last = number;
    }

    /// Takes a direction out of its list, if it is in one.
    pub(super) fn remove(&mut self, halves: &mut (impl Halves + ?Sized), number: HalfNumber) {
        let link = &mut halves.half(number).link;
        let Some(wait) = link.wait.take() else {
            return;
        };
        let (before, after) = (link.before, link.after);
        let (first, last) = &mut self.ends[wait as usize];
        match before {
            NONE => *first = after,
            before => halves.half(before).link.after = after,
        }
        match after {
            NONE => *last = before,
            after => halves.half(after).link.before = before,
        }
    }
}
