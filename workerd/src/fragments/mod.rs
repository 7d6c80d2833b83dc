//! IP fragments put together again: IPv4 (RFC 791, RFC 815) and IPv6 (RFC 8200 section 4.5, RFC 5722).
//!
//! ```text
//!   decode -> is a fragment -> offer(packet, token) -> held
//!                                                   -> whole: payload, what is decoded of it, tokens of the packets that carried it
//!                                                   -> refused: the packet stands for itself
//!   too old, or too many                            -> abandoned(): tokens of packets that wait in vain
//! ```
//!
//! The packets themselves are forwarded as they came; this module only tells what they carry together. So it never changes a byte
//! that is forwarded, and a wrong guess about an overlap can misjudge a packet but not falsify it.
//!
//! - **One datagram** is: source, destination, identification, the protocol (IPv4), the interface, and the marks of
//!   [`Decoded::marks`]. Unlike the two directions of a flow, the fragments of a datagram go one way together, so tags, labels of tunnels
//!   and interface keep apart what is seen in several places: a router's two sides, or customers with the same addresses.
//! - **Overlaps**: in IPv4 the bytes that came first count. Hosts differ in this, and many drop such a datagram; dropping it here
//!   would let one forged fragment hide a call. In IPv6 the whole datagram is spoilt, as RFC 5722 demands of every host, and
//!   so are its fragments that come later. Fragments that only repeat bytes are duplicates in both: their packets go with the datagram.
//! - **The end** is where the first last fragment puts it. Another end, or bytes behind it, are refused (IPv4) or spoil (IPv6).
//! - **Lengths**: a fragment before the last carries a multiple of eight bytes. Of IPv4 what is over is cut off, as hosts do, and nothing
//!   may not remain; of IPv6 it is refused. So is what would end behind 65535 bytes. A last fragment may be as short as it likes.
//! - **"Don't fragment"** says nothing about a fragment: hosts put those together as well, and some send them.
//! - **Time** is the packets' own. A datagram is given up [`Limits::age_ns`] after its first fragment, however many follow, so nobody can
//!   keep one for ever.
//! - **Memory** grows with the bytes that came, not with the places they claim, and never beyond [`Limits::bytes`]: the oldest datagrams
//!   are given up first. Nothing is allocated for packets that are not fragments.
//! - **Fragments that come again** when their datagram is whole belong to it, if the caller wants that ([`Fragments::remember`]), and if they are the same to the byte.
//! - **Fragments within tunnels** are found by the decoder. A datagram that was sent in fragments and carries a fragment of another is
//!   put together twice, here.
//!
//! ```
//! use lc_workerd::decode::decode;
//! use lc_workerd::fragments::{Fragments, Limits, Offered};
//!
//! let mut fragments = Fragments::new(Limits::default());
//! // 10.0.0.1 -> 10.0.0.2, UDP: eight bytes of header, then one byte of payload.
//! let mut first = [
//!     0x45, 0, 0, 28, 0, 7, 0x20, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x13, 0xc4, 0x13, 0xc4, 0, 9, 0, 0,
//! ];
//! let decoded = decode(101, &first);
//! assert!(matches!(fragments.offer(&decoded, &first, 0, 1_000, &[1]), Offered::Held));
//! let second = [0x45, 0, 0, 21, 0, 7, 0, 1, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, b'!'];
//! let decoded = decode(101, &second);
//! let Offered::Whole(whole) = fragments.offer(&decoded, &second, 0, 2_000, &[2]) else { panic!() };
//! assert_eq!(whole.decoded.payload_of(whole.bytes), b"!");
//! assert_eq!(whole.decoded.ports, Some((5060, 5060)));
//! assert_eq!(whole.tokens, [1, 2]);
//! ```

mod datagram;
mod piece;
mod recent;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use crate::decode::{Decoded, decode_datagram};

use datagram::{Added, Datagram};
use piece::{Key, Piece};
use recent::Recent;

/// What one more fragment can add to the memory at most: its bytes, and that buffers grow by doubling.
const MOST_GROWTH: usize = 1 << 19;
/// Datagrams within each other; the decoder opens no more tunnels.
const MOST_NESTED: usize = 5;

/// Bounds of what is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most datagrams at a time.
    pub datagrams: usize,
    /// Most bytes of memory; at least a mebibyte.
    pub bytes: usize,
    /// How long a datagram is waited for, in nanoseconds of packet time.
    pub age_ns: u64,
}

impl Default for Limits {
    /// 4096 datagrams, 16 MiB, 30 seconds.
    fn default() -> Self {
        Self {
            datagrams: 4096,
            bytes: 16 << 20,
            age_ns: 30_000_000_000,
        }
    }
}

/// What happened so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Datagrams that became whole.
    pub completed: u64,
    /// Datagrams given up because of their age.
    pub expired: u64,
    /// Datagrams given up to make room for younger ones.
    pub evicted: u64,
    /// Datagrams of IPv6 given up because fragments overlapped or disagreed about the end.
    pub spoilt: u64,
    /// Fragments whose bytes had all come before.
    pub duplicates: u64,
    /// Fragments of IPv4 of which some bytes had come before.
    pub overlaps: u64,
    /// Fragments refused, by [`Refusal`].
    pub refused: [u64; Refusal::COUNT],
}

/// Why a fragment is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Refusal {
    /// The capture holds only part of it.
    CutOff,
    /// It would end behind the longest datagram.
    TooLong,
    /// It carries nothing.
    TooShort,
    /// It is not the last and carries no multiple of eight bytes, in IPv6.
    Unaligned,
    /// It contradicts where its datagram ends.
    EndsElsewhere,
    /// Its datagram is spoilt by overlapping fragments.
    Spoilt,
    /// Too many packets claim to be part of its datagram.
    TooMany,
}

impl Refusal {
    /// How many there are.
    pub const COUNT: usize = 7;
}

/// What became of a fragment that was offered.
#[allow(
    clippy::large_enum_variant,
    reason = "it is taken apart where it is returned; a box would cost an allocation"
)]
#[derive(Debug)]
pub enum Offered<'a> {
    /// Its tokens are kept until its datagram is whole or abandoned.
    Held,
    /// It was the last one missing.
    Whole(Whole<'a>),
    /// It is not taken, and its tokens are not kept.
    Refused(Refusal),
    /// It has come before, and its datagram, the one of this [`Whole::serial`], is whole. Its tokens are not kept.
    Again(u64),
}

/// A datagram put together.
#[derive(Debug)]
pub struct Whole<'a> {
    /// What its bytes say; offsets count from their first.
    pub decoded: Decoded,
    /// What follows its IP header.
    pub bytes: &'a [u8],
    /// Tokens of the packets that carried it, smallest first.
    pub tokens: &'a [u64],
    /// Its number among all datagrams.
    pub serial: u64,
}

/// See the module.
#[derive(Debug)]
pub struct Fragments {
    limits: Limits,
    datagrams: HashMap<Key, Datagram>,
    /// In the order they began. A datagram that is gone stays here until it is found out.
    order: VecDeque<(Key, u64)>,
    serial: u64,
    memory: usize,
    whole: Vec<u8>,
    tokens: Vec<u64>,
    abandoned: Vec<u64>,
    /// The datagram that became whole last.
    completed: u64,
    recent: Recent,
    counts: Counts,
}

impl Fragments {
    /// Nothing is allocated before the first fragment.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits: Limits {
                datagrams: limits.datagrams.max(1),
                bytes: limits.bytes.max(2 * MOST_GROWTH),
                ..limits
            },
            datagrams: HashMap::new(),
            order: VecDeque::new(),
            serial: 0,
            memory: 0,
            whole: Vec::new(),
            tokens: Vec::new(),
            abandoned: Vec::new(),
            completed: 0,
            recent: Recent::default(),
            counts: Counts::default(),
        }
    }

    /// Takes a packet for which [`Decoded::fragment`] is set, with all of its captured bytes in `frame`. `tokens`, one as a
    /// rule, stand for it: a larger token for a later packet.
    pub fn offer(
        &mut self,
        decoded: &Decoded,
        frame: &[u8],
        interface: u16,
        time_ns: u64,
        tokens: &[u64],
    ) -> Offered<'_> {
        self.expire(time_ns);
        if let Some(serial) = self.find_again(decoded, frame, interface) {
            self.counts.duplicates += 1;
            return Offered::Again(serial);
        }
        let offered = self.step(decoded, frame, interface, time_ns, tokens);
        let mut decoded = match offered {
            Ok(Some(decoded)) => decoded,
            Ok(None) => return Offered::Held,
            Err(refusal) => return self.refuse(refusal),
        };
        for _ in 0..MOST_NESTED {
            if !decoded.fragment {
                break;
            }
            let (bytes, carriers) = (
                std::mem::take(&mut self.whole),
                std::mem::take(&mut self.tokens),
            );
            let offered = self.step(&decoded, &bytes, interface, time_ns, &carriers);
            decoded = match offered {
                Ok(Some(decoded)) => decoded,
                Ok(None) => return Offered::Held,
                // The outer datagram is whole, and what it carries is not.
                Err(refusal) => {
                    self.counts.refused[refusal as usize] += 1;
                    (self.whole, self.tokens) = (bytes, carriers);
                    break;
                }
            };
        }
        Offered::Whole(Whole {
            decoded,
            bytes: &self.whole,
            tokens: &self.tokens,
            serial: self.completed,
        })
    }

    /// From now on, fragments of the datagram `serial`, which is whole, that come again are told from new ones.
    pub fn remember(&mut self, serial: u64) {
        self.recent.remember(serial);
    }

    fn find_again(&self, decoded: &Decoded, frame: &[u8], interface: u16) -> Option<u64> {
        let piece = Piece::read(decoded, frame, interface).ok()?;
        let is_open = self.datagrams.contains_key(&piece.key);
        let print = (!is_open).then(|| self.recent.print(&piece))?;
        self.recent.find(print)
    }

    /// Gives up what has become too old by `time_ns`. To be called now and then, since otherwise only fragments make time pass.
    pub fn expire(&mut self, time_ns: u64) {
        while let Some((key, serial)) = self.order.front().copied() {
            match self.live(&key, serial) {
                Some(datagram)
                    if time_ns.saturating_sub(datagram.started_ns) <= self.limits.age_ns =>
                {
                    break;
                }
                Some(datagram) => {
                    let spoilt = datagram.is_spoilt;
                    self.give_up(&key);
                    self.counts.expired += u64::from(!spoilt);
                }
                None => {}
            }
            self.order.pop_front();
        }
    }

    /// Tokens of packets whose datagram was given up since this was asked last, in no order: these packets stand for themselves. To be
    /// asked after each [`Self::offer`] and [`Self::expire`]; until then they are kept, eight bytes each.
    pub fn abandoned(&mut self) -> std::vec::Drain<'_, u64> {
        self.abandoned.drain(..)
    }

    /// What happened so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Datagrams that are waited for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.datagrams.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Bytes of memory that datagrams occupy.
    #[must_use]
    pub fn memory(&self) -> usize {
        self.memory
    }

    /// Takes one fragment. If that makes a datagram whole, its bytes and tokens stand in `whole` and `tokens`.
    fn step(
        &mut self,
        decoded: &Decoded,
        frame: &[u8],
        interface: u16,
        time_ns: u64,
        tokens: &[u64],
    ) -> Result<Option<Decoded>, Refusal> {
        let piece = Piece::read(decoded, frame, interface)?;
        self.make_room(&piece.key);
        let serial = self.serial;
        let datagram = self.datagrams.entry(piece.key).or_insert_with(|| {
            self.serial += 1;
            self.order.push_back((piece.key, serial));
            self.memory += RECORD;
            Datagram::new(*decoded, piece.protocol, time_ns, serial)
        });
        self.recent.note(self.recent.print(&piece), datagram.serial);
        let before = datagram.memory();
        let was_spoilt = datagram.is_spoilt;
        let added = datagram.add(&piece, tokens);
        if datagram.is_spoilt && !was_spoilt {
            self.abandoned.append(&mut datagram.tokens);
            datagram.tokens = Vec::new();
            self.counts.spoilt += 1;
        }
        self.memory = self.memory + datagram.memory() - before;
        match added {
            Added::Waiting => Ok(None),
            Added::Duplicate => {
                self.counts.duplicates += 1;
                Ok(None)
            }
            Added::Overlap => {
                self.counts.overlaps += 1;
                Ok(None)
            }
            Added::Whole { overlap } => {
                self.counts.overlaps += u64::from(overlap);
                Ok(self.complete(&piece.key))
            }
            Added::EndsElsewhere => Err(Refusal::EndsElsewhere),
            Added::Spoilt => Err(Refusal::Spoilt),
            Added::TooMany => Err(Refusal::TooMany),
        }
    }

    fn complete(&mut self, key: &Key) -> Option<Decoded> {
        let mut datagram = self.remove(key)?;
        datagram.assemble(&mut self.whole);
        self.tokens = std::mem::take(&mut datagram.tokens);
        self.tokens.sort_unstable();
        self.completed = datagram.serial;
        self.counts.completed += 1;
        Some(decode_datagram(
            &datagram.carrier,
            datagram.protocol,
            &self.whole,
        ))
    }

    /// Gives up the oldest datagrams until there is room for a fragment of `key`.
    fn make_room(&mut self, key: &Key) {
        let is_new = !self.datagrams.contains_key(key);
        let most_bytes = self.limits.bytes - MOST_GROWTH;
        while self.memory > most_bytes || is_new && self.datagrams.len() >= self.limits.datagrams {
            let Some((oldest, serial)) = self.order.pop_front() else {
                break;
            };
            if self.live(&oldest, serial).is_some() {
                self.give_up(&oldest);
                self.counts.evicted += 1;
            }
        }
        // Datagrams that became whole leave their place in the order behind one that waits.
        if self.order.len() > 2 * self.datagrams.len() + 64 {
            let datagrams = &self.datagrams;
            self.order.retain(|(key, serial)| {
                datagrams
                    .get(key)
                    .is_some_and(|datagram| datagram.serial == *serial)
            });
        }
    }

    fn live(&self, key: &Key, serial: u64) -> Option<&Datagram> {
        self.datagrams
            .get(key)
            .filter(|datagram| datagram.serial == serial)
    }

    fn give_up(&mut self, key: &Key) {
        if let Some(mut datagram) = self.remove(key) {
            self.abandoned.append(&mut datagram.tokens);
        }
    }

    fn remove(&mut self, key: &Key) -> Option<Datagram> {
        let datagram = self.datagrams.remove(key)?;
        self.memory -= RECORD + datagram.memory();
        Some(datagram)
    }

    fn refuse(&mut self, refusal: Refusal) -> Offered<'static> {
        self.counts.refused[refusal as usize] += 1;
        Offered::Refused(refusal)
    }
}

/// A datagram's record, in the table and in the order.
const RECORD: usize = 2 * size_of::<(Key, Datagram)>() + 3 * size_of::<(Key, u64)>();
