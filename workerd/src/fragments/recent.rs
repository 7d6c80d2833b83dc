//! Fragments of datagrams that are whole, known for a while: one of them that comes again belongs to its datagram, and begins no other.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};

use super::piece::Piece;

/// Fragments and datagrams that are known at most; the oldest are forgotten first.
const MOST_PIECES: usize = 4096;
const MOST_DATAGRAMS: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Recent {
    hasher: RandomState,
    /// The datagram of each fragment, by all that makes it what it is.
    pieces: HashMap<u64, u64>,
    order: VecDeque<u64>,
    /// Those that are whole.
    datagrams: HashSet<u64>,
    datagram_order: VecDeque<u64>,
}

impl Recent {
    pub(super) fn print(&self, piece: &Piece<'_>) -> u64 {
        let Piece {
            key,
            offset,
            more,
            protocol,
            payload,
        } = piece;
        self.hasher.hash_one((key, offset, more, protocol, payload))
    }

    /// The fragment is one of datagram `serial`.
    pub(super) fn note(&mut self, print: u64, serial: u64) {
        if self.pieces.insert(print, serial).is_some() {
            return;
        }
        self.order.push_back(print);
        if self.order.len() > MOST_PIECES
            && let Some(oldest) = self.order.pop_front()
        {
            self.pieces.remove(&oldest);
        }
    }

    /// Datagram `serial` is whole, and what comes of it again is its.
    pub(super) fn remember(&mut self, serial: u64) {
        if !self.datagrams.insert(serial) {
            return;
        }
        self.datagram_order.push_back(serial);
        if self.datagram_order.len() > MOST_DATAGRAMS
            && let Some(oldest) = self.datagram_order.pop_front()
        {
            self.datagrams.remove(&oldest);
        }
    }

    /// The datagram that is whole and had this very fragment.
    pub(super) fn find(&self, print: u64) -> Option<u64> {
        let serial = self.pieces.get(&print)?;
        self.datagrams.contains(serial).then_some(*serial)
    }
}
