//! Lines of a stream, whatever pieces it comes in.
//!
//! A line ends at LF; CRs right before it are no part of it. Of a long line the first [`MOST_BYTES`] are kept, and the rest is passed over. A line that lies whole in its piece is not copied.

use memchr::memchr;

use super::kept::{Kept, Room};

/// Bytes of a line that are kept. RFC 5321 section 4.5.3.1 has commands of 512 bytes, RFC 7162 section 4 commands of 8192; responses of IMAP may be much longer.
pub const MOST_BYTES: usize = 64 * 1024;

/// Takes the lines of one direction.
#[derive(Debug, Default)]
pub struct Lines {
    /// The line that has begun in an earlier piece.
    begun: Option<Kept>,
    /// Whether it was given to the caller.
    is_given: bool,
}

impl Lines {
    /// The next line of `input`, which then starts behind it; `None` if its end has not come. What has come of it is kept as far as there is `room`.
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8], room: &Room) -> Option<&'a [u8]> {
        if self.is_given {
            self.clear();
        }
        let Some(end) = memchr(b'\n', input) else {
            self.keep(std::mem::take(input), room);
            return None;
        };
        let (line, rest) = input.split_at(end);
        *input = &rest[1..];
        if self.begun.is_none() {
            return Some(trimmed(&line[..line.len().min(MOST_BYTES)]));
        }
        self.keep(line, room);
        self.is_given = true;
        self.begun.as_ref().map(|begun| trimmed(begun.bytes()))
    }

    /// What has come of a line that has not ended.
    pub fn begun(&self) -> &[u8] {
        match &self.begun {
            Some(begun) if !self.is_given => begun.bytes(),
            _ => &[],
        }
    }

    /// Forgets the line that has begun.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    fn keep(&mut self, bytes: &[u8], room: &Room) {
        let begun = self.begun.get_or_insert_with(|| Kept::new(room));
        begun.push(bytes, MOST_BYTES);
    }
}

fn trimmed(mut line: &[u8]) -> &[u8] {
    while let Some(rest) = line.strip_suffix(b"\r") {
        line = rest;
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        let room = Room::of(1 << 20);
        for mut piece in pieces.iter().copied() {
            while let Some(line) = lines.next(&mut piece, &room) {
                all.push(line.to_vec());
            }
        }
        (all, lines.begun().to_vec())
    }

    #[test]
    fn lines_end_at_lf_and_lose_their_cr() {
        let (all, begun) = lines(&[b"a\r\n\nb\r\r\nc\rd\ne"]);
        assert_eq!(all, [&b"a"[..], b"", b"b", b"c\rd"]);
        assert_eq!(begun, b"e");
    }

    #[test]
    fn of_a_long_line_the_beginning_is_kept() {
        let long = vec![b'x'; 3 * MOST_BYTES];
        let (all, begun) = lines(&[&long, b"y\r\nz\n", &long]);
        assert_eq!(all, [&long[..MOST_BYTES], b"z"]);
        assert_eq!(begun.len(), MOST_BYTES);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(text in "[ab\r\n]{0,40}", cuts in prop::collection::vec(0usize..40, 0..8)) {
            let text = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let (whole, begun) = lines(&[text]);
            let (all, rest) = lines(&pieces);
            prop_assert_eq!((all, rest), (whole, begun));
        }
    }
}
