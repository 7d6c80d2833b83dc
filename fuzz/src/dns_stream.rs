//! DNS messages of a stream: whole, and cut into chunks.

use lc_workerd::dns::framer::{Event, Framer};

use crate::Input;

/// Bytes that a framer may hold: a message, and what it allocates ahead.
const MOST: usize = 2 * (65_536 + 1024);

/// What was told: kind, bytes, place.
type Told = (u8, Vec<u8>, u64);

/// `bytes`: length of chunks, where a gap is, its length (255: not known), the stream.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let size = usize::from(input.u8()).max(1);
    let (gap_at, missing) = (usize::from(input.u16()), input.u8());
    let stream = input.rest();
    let (before, behind) = stream.split_at(gap_at.min(stream.len()));
    let gap = (missing != 255).then_some(u64::from(missing));
    let whole = play(before, behind, gap, usize::MAX);
    assert_eq!(play(before, behind, gap, size), whole);
    for (kind, message, start) in &whole {
        let end = *start as usize + 2 + message.len();
        if matches!(kind, 1 | 2) && end <= before.len() {
            assert_eq!(message, &before[*start as usize + 2..end]);
        }
    }
}

fn play(before: &[u8], behind: &[u8], gap: Option<u64>, size: usize) -> Vec<Told> {
    let mut framer = Framer::default();
    let mut told = Vec::new();
    give(&mut framer, before, size, &mut told);
    told.extend(framer.gap(gap).map(owned));
    give(&mut framer, behind, size, &mut told);
    told.extend(framer.end().map(owned));
    told
}

fn give(framer: &mut Framer, bytes: &[u8], size: usize, told: &mut Vec<Told>) {
    for mut chunk in bytes.chunks(size) {
        while let Some(event) = framer.next(&mut chunk, true) {
            told.push(owned(event));
        }
        assert!(chunk.is_empty() && framer.allocated() <= MOST);
    }
}

fn owned(event: Event<'_>) -> Told {
    match event {
        Event::Begun { end } => (0, Vec::new(), end),
        Event::Message {
            bytes,
            start,
            is_whole,
        } => (1 + u8::from(is_whole), bytes.to_vec(), start),
        Event::GivenUp => (3, Vec::new(), 0),
        Event::OutOfStep => (4, Vec::new(), 0),
    }
}
