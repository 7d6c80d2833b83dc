//! A mail as it passes: its head and the beginning of its body are kept, the rest is counted.

use memchr::{memchr, memchr_iter};

use super::kept::{Kept, Room};

/// Bytes of a head that are kept.
pub const MOST_HEAD: usize = 64 * 1024;

/// What is known of a mail so far.
#[derive(Debug)]
pub struct Mail {
    /// The head with the empty line behind it, then the body.
    kept: Kept,
    /// Bytes of `kept` that are the head's, once it has ended.
    head: Option<usize>,
    /// Whether nothing but CRs has come of the line at hand, while in the head.
    is_blank: bool,
    size: u64,
    /// The last byte of the body.
    last: u8,
    /// Whether something of the body is not kept, so that nothing behind it is kept either.
    is_cut: bool,
}

impl Mail {
    /// Nothing has come yet.
    pub fn new(room: &Room) -> Self {
        Self {
            kept: Kept::new(room),
            head: None,
            is_blank: true,
            size: 0,
            last: 0,
            is_cut: false,
        }
    }

    /// Takes in the next bytes. Of the body, the first `most` bytes are kept.
    pub fn push(&mut self, mut bytes: &[u8], most: usize) {
        while self.head.is_none() {
            let Some(end) = memchr(b'\n', bytes) else {
                self.is_blank &= bytes.iter().all(|byte| *byte == b'\r');
                self.kept.push(bytes, MOST_HEAD);
                return;
            };
            let (line, rest) = bytes.split_at(end + 1);
            let is_blank = self.is_blank && line[..end].iter().all(|byte| *byte == b'\r');
            self.kept.push(line, MOST_HEAD);
            self.is_blank = true;
            if is_blank {
                self.head = Some(self.kept.bytes().len());
            }
            bytes = rest;
        }
        self.count(bytes);
        let most = self.head().len() + most;
        self.is_cut = self.is_cut || !self.kept.push(bytes, most);
    }

    /// Bytes are missing: `len`, if that is known.
    pub fn skip(&mut self, len: Option<u64>) {
        if self.head.is_some() {
            self.size += len.unwrap_or(0);
            self.last = 0;
            self.is_cut = true;
        } else if !self.is_blank {
            // What comes next is another line.
            self.kept.push(b"\r\n", MOST_HEAD);
            self.is_blank = true;
        }
    }

    /// Whether the head has ended.
    pub fn has_head(&self) -> bool {
        self.head.is_some()
    }

    /// The head, as far as it has come and is kept.
    pub fn head(&self) -> &[u8] {
        let kept = self.kept.bytes();
        &kept[..self.head.unwrap_or(kept.len())]
    }

    /// The body, as far as it has come and is kept.
    pub fn body(&self) -> &[u8] {
        &self.kept.bytes()[self.head().len()..]
    }

    /// Bytes of the body that have come; a line end counts as one.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the body is more than what is kept.
    pub fn is_cut(&self) -> bool {
        self.is_cut
    }

    fn count(&mut self, bytes: &[u8]) {
        let Some(last) = bytes.last() else {
            return;
        };
        let pairs = memchr_iter(b'\n', bytes).filter(|at| {
            let before = at.checked_sub(1).map_or(self.last, |before| bytes[before]);
            before == b'\r'
        });
        let pairs = pairs.count();
        self.size += (bytes.len() - pairs) as u64;
        self.last = *last;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(pieces: &[&[u8]], most: usize) -> (Vec<u8>, Vec<u8>, u64, bool) {
        let mut mail = Mail::new(&Room::of(1 << 20));
        for piece in pieces {
            mail.push(piece, most);
        }
        let (head, body) = (mail.head().to_vec(), mail.body().to_vec());
        (head, body, mail.size(), mail.is_cut())
    }

    #[test]
    fn head_and_body_are_parted_at_the_first_empty_line() {
        let (head, body, size, is_cut) = read(&[b"a: b\r\n\r\none\r\ntwo\n\r"], 6);
        assert_eq!(head, b"a: b\r\n\r\n");
        assert_eq!((&body[..], size, is_cut), (&b"one\r\nt"[..], 9, true));
        assert_eq!(read(&[b"\nbody"], 9).1, b"body");
        assert_eq!(read(&[b"a: b\r\n"], 9).0, b"a: b\r\n");
    }

    #[test]
    fn a_gap_ends_a_line_of_the_head_and_what_is_kept_of_the_body() {
        let mut mail = Mail::new(&Room::of(1 << 20));
        mail.push(b"Subject: a", 99);
        mail.skip(Some(5));
        mail.push(b"To: b\r\n\r\nbo", 99);
        mail.skip(Some(5));
        mail.push(b"dy", 99);
        assert_eq!(mail.head(), b"Subject: a\r\nTo: b\r\n\r\n");
        assert_eq!((mail.body(), mail.size()), (&b"bo"[..], 9));
        assert!(mail.is_cut());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            text in "[ab\r\n]{0,50}",
            cuts in prop::collection::vec(0usize..50, 0..8),
            most in 0usize..20,
        ) {
            let text = text.as_bytes();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&pieces, most), read(&[text], most));
        }
    }
}
