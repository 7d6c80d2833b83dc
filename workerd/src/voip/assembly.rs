//! User messages of SCTP that are sent in several chunks (RFC 9260 section 6.9, RFC 8260 section 2.2), put together if they begin as SIP does.
//!
//! The chunks of a message are numbered one after the other. They may come in any order behind the first; those that come before it, or while it isn't known, are not kept.
//! A message that has not become whole after [`PATIENCE_NS`], or that there is no room for, is given up.

use std::collections::VecDeque;

use super::chunks::Part;
use super::findings::Origin;
use crate::sip::stream::may_begin;

/// How long a message is waited for, in nanoseconds of packet time.
pub const PATIENCE_NS: u64 = 5_000_000_000;
/// Most messages that are waited for at a time.
const MOST_OPEN: usize = 128;
/// Most chunks of a message.
const MOST_PARTS: u32 = 128;
/// Most bytes of all messages that are waited for.
const MOST_BYTES: usize = 1 << 20;

/// What became of a part of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Offered {
    /// It waits for others.
    Held,
    /// It is of no message that begins as SIP does, or came before.
    Unknown,
    /// Its message is whole.
    Whole(Assembled),
}

/// A message that is whole, or given up.
#[derive(Debug, PartialEq, Eq)]
pub struct Assembled {
    /// Its bytes, if it is whole.
    pub bytes: Vec<u8>,
    /// The packets that carry it, by the names that their parts were offered under, in the order of the message.
    pub tokens: Vec<u64>,
    /// Where it comes from.
    pub origin: Origin,
}

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Assembly {
    /// In the order in which they began to be known.
    open: VecDeque<Open>,
    bytes: usize,
}

#[derive(Debug)]
struct Open {
    origin: Origin,
    interleaved: Option<(u16, bool, u32)>,
    first: u32,
    /// How many parts there are, once that is known.
    parts: Option<usize>,
    /// By the distance of their numbers from the first.
    held: Vec<Option<(u64, Box<[u8]>)>>,
    since_ns: u64,
}

impl Assembly {
    /// A part of a message came in the packet `token`.
    pub fn offer(&mut self, origin: Origin, part: &Part<'_>, token: u64, time_ns: u64) -> Offered {
        let is_its = |open: &Open| {
            let distance = part.number.wrapping_sub(open.first);
            let is_same_way =
                open.origin.addresses == origin.addresses && open.origin.ports == origin.ports;
            is_same_way && open.interleaved == part.interleaved && distance < MOST_PARTS
                // One message ends before the next begins.
                && (distance == 0 || !part.begins)
                && open.parts.is_none_or(|parts| (distance as usize) < parts)
        };
        // The latest that it may be of.
        let known = self.open.iter().rposition(is_its);
        let at = match known {
            Some(at) => at,
            None if part.begins && may_begin(part.bytes) => {
                self.open.push_back(Open {
                    origin,
                    interleaved: part.interleaved,
                    first: part.number,
                    parts: None,
                    held: Vec::new(),
                    since_ns: time_ns,
                });
                self.open.len() - 1
            }
            None => return Offered::Unknown,
        };
        let open = &mut self.open[at];
        let place = part.number.wrapping_sub(open.first) as usize;
        if open.held.len() <= place {
            open.held.resize_with(place + 1, || None);
        }
        if open.held[place].is_some() {
            return Offered::Unknown;
        }
        open.held[place] = Some((token, part.bytes.into()));
        self.bytes += part.bytes.len();
        if part.ends {
            open.parts = Some(place + 1);
        }
        let is_whole = open.parts == Some(open.held.len()) && open.held.iter().all(Option::is_some);
        match is_whole.then(|| self.take(at)).flatten() {
            Some(whole) => Offered::Whole(whole),
            None => Offered::Held,
        }
    }

    /// The packet that was called `before` is called `token` from now on.
    pub fn rename_all(&mut self, before: u64, token: u64) {
        let held = self.open.iter_mut().flat_map(|open| &mut open.held);
        for (known, _) in held.flatten().filter(|(known, _)| *known == before) {
            *known = token;
        }
    }

    /// Whether it keeps a part that came in the packet `token`.
    #[must_use]
    pub fn keeps(&self, token: u64) -> bool {
        let mut held = self.open.iter().flat_map(|open| &open.held).flatten();
        held.any(|(known, _)| *known == token)
    }

    /// A message that is given up at `time_ns`, or, without that, because no more packets come.
    pub fn give_up(&mut self, time_ns: Option<u64>) -> Option<Assembled> {
        let oldest = self.open.front()?;
        let is_late = time_ns.is_none_or(|now| now.saturating_sub(oldest.since_ns) > PATIENCE_NS);
        let is_too_much = self.bytes > MOST_BYTES || self.open.len() > MOST_OPEN;
        (is_late || is_too_much).then(|| self.take(0)).flatten()
    }

    fn take(&mut self, at: usize) -> Option<Assembled> {
        let open = self.open.remove(at)?;
        let mut whole = Assembled {
            bytes: Vec::new(),
            tokens: Vec::new(),
            origin: open.origin,
        };
        for (token, bytes) in open.held.into_iter().flatten() {
            self.bytes -= bytes.len();
            whole.bytes.extend_from_slice(&bytes);
            if !whole.tokens.contains(&token) {
                whole.tokens.push(token);
            }
        }
        Some(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::super::findings::HAND;
    use super::*;
    use crate::decode::{Addr, Decoded};
    use shm_layout::packet::{HEADER_BYTES, PacketHeader};

    fn origin(host: u32) -> Origin {
        let decoded = Decoded {
            addresses: Some((Addr::V4(host), Addr::V4(2))),
            ports: Some((5060, 5060)),
            ..Decoded::default()
        };
        Origin::of(&decoded, &PacketHeader::from_bytes(1, &[0; HEADER_BYTES]))
    }

    /// Part `number` of those that `text` is cut into, the first of which has number 4,294,967,294.
    fn part(text: &'static [u8], number: u32) -> Part<'static> {
        let mut chunks = text.chunks(40);
        let last = chunks.len() as u32 - 1;
        Part {
            begins: number == 0,
            ends: number == last,
            number: number.wrapping_sub(2),
            interleaved: None,
            bytes: chunks.nth(number as usize).unwrap(),
        }
    }

    const INVITE: &[u8] = b"INVITE sip:alice@example.org SIP/2.0\r\nCall-ID: something that is long enough\r\nSubject: a message of which each part has forty bytes, but the last one\r\n\r\n";

    #[test]
    fn parts_are_put_together_in_their_order() {
        let mut assembly = Assembly::default();
        let mut offer =
            |host, number, token| assembly.offer(origin(host), &part(INVITE, number), token, 0);
        // Before the first.
        assert_eq!(offer(1, 1, 9), Offered::Unknown);
        assert_eq!(offer(1, 0, 10), Offered::Held);
        assert_eq!(offer(1, 3, 11), Offered::Held);
        assert_eq!(offer(1, 3, 12), Offered::Unknown);
        assert_eq!(offer(2, 1, 13), Offered::Unknown, "another association");
        assert_eq!(offer(1, 2, 11), Offered::Held);
        let whole = Assembled {
            bytes: INVITE.to_vec(),
            tokens: vec![10, HAND, 11],
            origin: origin(1),
        };
        assert_eq!(offer(1, 1, HAND), Offered::Whole(whole));
        assert_eq!((assembly.open.len(), assembly.bytes), (0, 0));
        let other = part(b"OTHER PROTOCOL", 0);
        assert_eq!(assembly.offer(origin(1), &other, 1, 0), Offered::Unknown);
    }

    #[test]
    fn what_never_becomes_whole_is_given_up_and_bounded() {
        let mut assembly = Assembly::default();
        assembly.offer(origin(1), &part(INVITE, 0), HAND, 7);
        assembly.rename_all(HAND, 3);
        assert_eq!(assembly.give_up(Some(7 + PATIENCE_NS)), None);
        let given_up = assembly.give_up(Some(8 + PATIENCE_NS)).unwrap();
        assert_eq!((given_up.tokens, assembly.bytes), (vec![3], 0));
        for host in 0..1_000 {
            assembly.offer(origin(host), &part(INVITE, 0), 1, 0);
            while assembly.give_up(Some(0)).is_some() {}
        }
        assert_eq!(assembly.open.len(), MOST_OPEN);
        assert!(assembly.give_up(None).is_some());
    }
}
