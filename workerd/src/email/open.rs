//! What was asked and waits for an answer, where answers come in the order of the questions.
//!
//! Where bytes are missing, the order is lost. It is found again when the client speaks next after the server: then nothing is open, unless the client did not wait.

use std::collections::VecDeque;

/// Questions that wait. A client that asks more at once is not followed any more.
const MOST_OPEN: usize = 1024;

/// Questions without answers.
#[derive(Debug)]
pub struct Open<T> {
    pub(super) asked: VecDeque<T>,
    pub(super) is_lost: bool,
}

impl<T> Default for Open<T> {
    fn default() -> Self {
        Self {
            asked: VecDeque::new(),
            is_lost: false,
        }
    }
}

impl<T> Open<T> {
    /// The client asks.
    pub fn ask(&mut self, question: T) {
        if self.asked.len() == MOST_OPEN {
            self.lose();
        }
        self.asked.push_back(question);
    }

    /// What the next answer is for, if that is known.
    pub fn next(&self) -> Option<&T> {
        self.asked.front().filter(|_| !self.is_lost)
    }

    /// The same, to be changed.
    pub fn next_mut(&mut self) -> Option<&mut T> {
        self.asked.front_mut().filter(|_| !self.is_lost)
    }

    /// The next question is answered.
    pub fn answered(&mut self) -> Option<T> {
        if self.is_lost {
            return None;
        }
        self.asked.pop_front()
    }

    /// Questions before the first one that `is_it` were not answered. Whether there is one.
    pub fn skip_to(&mut self, is_it: impl FnMut(&T) -> bool) -> bool {
        let at = self.asked.iter().position(is_it);
        self.asked.drain(..at.unwrap_or(0));
        at.is_some()
    }

    /// Bytes are missing.
    pub fn lose(&mut self) {
        self.asked.clear();
        self.is_lost = true;
    }

    /// The client speaks after the server has.
    pub fn turn(&mut self) {
        if self.is_lost {
            self.asked.clear();
            self.is_lost = false;
        }
    }
}
