//! SIP messages of a byte stream, bare or in a WebSocket: whole, and cut into chunks.

use std::ops::Range;

use lc_workerd::sip::framer::{Event, KEPT, Limits};
use lc_workerd::sip::stream::Stream;
use lc_workerd::sip::websocket::LONGEST_HEAD;

use crate::Input;

/// What was told: kind, bytes, place.
type Told = (u8, Vec<u8>, Range<u64>);

/// `bytes`: flags (1: joined anywhere, 2: tight limits), length of chunks, where a gap is, its length, the stream.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (flags, size) = (input.u8(), usize::from(input.u8()).max(1));
    let (gap_at, missing) = (usize::from(input.u16()), usize::from(input.u8()));
    let stream = input.rest();
    let limits = match flags & 2 {
        0 => Limits::default(),
        _ => Limits {
            line: 60,
            headers: 6,
            content_length: 200,
            message: 250,
            before_first: 150,
            between: 200,
        },
    };
    let new = || Stream::new(limits, 0, flags & 1 == 0);
    let mut whole = vec![];
    feed(&mut new(), stream, limits, &mut whole);
    let (mut cut, mut one) = (vec![], new());
    for chunk in stream.chunks(size) {
        feed(&mut one, chunk, limits, &mut cut);
    }
    assert_eq!(cut, whole, "chunks make a difference");
    // What a gap is in is never told of as whole.
    let (before, behind) = stream.split_at(gap_at.min(stream.len()));
    let missing = missing.min(behind.len());
    let (mut told, mut one) = (vec![], new());
    feed(&mut one, before, limits, &mut told);
    if missing > 0 {
        told.extend(one.gap(missing as u64).map(of));
    }
    feed(&mut one, &behind[missing..], limits, &mut told);
    let gap = before.len() as u64..(before.len() + missing) as u64;
    for (kind, _, range) in &told {
        let is_apart = range.end <= gap.start || gap.end <= range.start;
        assert!(*kind != 0 || is_apart || missing == 0);
    }
}

fn feed(stream: &mut Stream, mut chunk: &[u8], limits: Limits, told: &mut Vec<Told>) {
    while let Some(event) = stream.next(&mut chunk) {
        told.push(of(event));
    }
    assert!(chunk.is_empty());
    assert!(stream.held() <= limits.message.max(LONGEST_HEAD) + LONGEST_HEAD + KEPT);
}

fn of(event: Event<'_>) -> Told {
    match event {
        Event::Message(one) => (0, one.bytes.to_vec(), one.range),
        Event::Damaged(one, _) => (1, one.bytes.to_vec(), one.range),
        Event::NotSip => (2, vec![], 0..0),
    }
}
