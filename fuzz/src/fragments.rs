//! Any packets as fragments of a few datagrams.

use std::collections::HashMap;

use lc_workerd::decode::decode;
use lc_workerd::fragments::{Fragments, Limits, Offered};

use crate::Input;

/// Raw IP.
const LINK_TYPE: u16 = 101;
const SECOND: u64 = 1_000_000_000;
/// Of what is in a fragment, no protocol: nothing is opened.
const PROTOCOL: u8 = 253;
const LIMITS: Limits = Limits {
    datagrams: 5,
    bytes: 1 << 20,
    age_ns: 30 * SECOND,
};

/// What a fragment carries.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: usize,
    end: usize,
    fill: u8,
    is_v6: bool,
}

impl Piece {
    /// The same fill gives the same bytes, wherever a fragment begins.
    fn byte(&self, at: usize) -> u8 {
        self.fill ^ at as u8
    }
}

/// Takes in the packets that `bytes` describe: a kind, and a whole packet or five bytes more that say which part of which datagram it is. Every packet's token comes
/// back once, what is whole has the bytes that came first (of IPv6: no others came), and memory stays within its bounds.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut fragments = Fragments::new(LIMITS);
    let mut time_ns = SECOND;
    // What waits; none of packets that are as they came.
    let mut waiting: HashMap<u64, Option<Piece>> = HashMap::new();
    let mut token = 0;
    while !input.is_empty() {
        token += 1;
        let kind = input.u8();
        let (frame, piece) = match kind {
            0xff => (input.packet().to_vec(), None),
            _ => {
                let (frame, piece) = fragment(kind, &mut input);
                (frame, Some(piece))
            }
        };
        if kind & 0xc0 == 0xc0 {
            time_ns += 7 * SECOND;
        }
        let decoded = decode(LINK_TYPE, &frame);
        if !decoded.fragment {
            continue;
        }
        waiting.insert(token, piece);
        match fragments.offer(&decoded, &frame, 0, time_ns, &[token]) {
            Offered::Held => {}
            Offered::Refused(_) | Offered::Again(_) => drop(waiting.remove(&token)),
            Offered::Whole(whole) => {
                assert!(whole.tokens.is_sorted() && whole.tokens.contains(&token));
                let back = whole.tokens.iter().map(|token| waiting.remove(token));
                let back: Vec<Option<Piece>> = back.map(|one| one.expect("what waits")).collect();
                if let Some(pieces) = back.into_iter().collect::<Option<Vec<Piece>>>() {
                    compare(whole.bytes, &pieces);
                }
            }
        }
        take_back(&mut fragments, &mut waiting);
        assert!(fragments.memory() <= LIMITS.bytes && fragments.len() <= LIMITS.datagrams);
    }
    fragments.expire(u64::MAX);
    take_back(&mut fragments, &mut waiting);
    assert!(fragments.is_empty() && fragments.memory() == 0);
    assert!(waiting.is_empty(), "never came back: {waiting:?}");
}

/// What is given up was waiting.
fn take_back(fragments: &mut Fragments, waiting: &mut HashMap<u64, Option<Piece>>) {
    for token in fragments.abandoned() {
        assert!(waiting.remove(&token).is_some());
    }
}

/// The bytes are those of the pieces, in the order of their coming.
fn compare(bytes: &[u8], pieces: &[Piece]) {
    let mut covered = 0;
    let mut expected: Vec<Option<u8>> = vec![None; bytes.len()];
    for piece in pieces {
        for (at, byte) in expected[piece.start..piece.end].iter_mut().enumerate() {
            let own = piece.byte(piece.start + at);
            match byte {
                None => {
                    *byte = Some(own);
                    covered += 1;
                }
                Some(first) => assert!(!piece.is_v6 || *first == own),
            }
        }
    }
    assert_eq!(covered, bytes.len());
    assert!(bytes.iter().eq(expected.iter().flatten()));
}

/// A fragment that `kind` and five bytes describe.
fn fragment(kind: u8, input: &mut Input<'_>) -> (Vec<u8>, Piece) {
    let (datagram, is_v6, more) = (kind & 3, kind & 4 != 0, kind & 8 != 0);
    let offset = match kind & 0x20 {
        0 => input.u16() & 0x1f,
        _ => input.u16() & 0x1fff,
    };
    let len = match (input.u8(), kind & 0x10) {
        (len, 0) => usize::from(len),
        (len, _) => usize::from(len) << 8,
    };
    let (fill, id) = (input.u8(), input.u8() & 1);
    let start = usize::from(offset) * 8;
    let carried = match (is_v6, more) {
        // What a fragment before the last has over counts for nothing.
        (false, true) => len & !7,
        _ => len,
    };
    let piece = Piece {
        start,
        end: start + carried,
        fill,
        is_v6,
    };
    let mut frame = Vec::with_capacity(48 + len);
    if is_v6 {
        frame.extend([0x60, 0, 0, 0]);
        frame.extend((8 + len as u16).to_be_bytes());
        frame.extend([44, 64]);
        frame.extend([0xfd; 15]);
        frame.extend([datagram; 17]);
        frame.extend([PROTOCOL, 0]);
        frame.extend((offset << 3 | u16::from(more)).to_be_bytes());
        frame.extend([0, 0, 0, id]);
    } else {
        frame.extend([0x45, 0]);
        frame.extend((20 + len as u16).to_be_bytes());
        frame.extend([0, id]);
        frame.extend((offset | u16::from(more) << 13).to_be_bytes());
        frame.extend([64, PROTOCOL, 0, 0, 10, 0, 0, 1, 10, 0, 0, datagram]);
    }
    frame.extend((0..len).map(|at| piece.byte(start + at)));
    (frame, piece)
}
