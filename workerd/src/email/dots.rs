//! Texts that end with a line that is a dot: mails in SMTP (RFC 5321 section 4.5.2), long replies in POP3 (RFC 1939 section 3).
//!
//! Of a line that starts with a dot, the dot is no part. The end is CR LF `.` CR LF. What a dot between other line ends means, receivers differ in: some end the text there, which has been used
//! to hide mails from those who do not. So it is not the end by itself ([`Dots::is_lone`]): whether the receiver took it for the end shows in whether it answers.

use memchr::memmem;

/// Finds the end of one text.
#[derive(Debug)]
pub struct Dots {
    place: Place,
}

/// Between which bytes the next one comes.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// At the start of a line.
    Start {
        /// Whether the line before has ended with CR LF.
        is_strict: bool,
    },
    /// Behind a dot at the start of a line.
    Dot {
        /// As above.
        is_strict: bool,
    },
    /// Behind a CR behind that.
    DotCr {
        /// As above.
        is_strict: bool,
    },
    /// Behind a line that is a dot, but not the end.
    Lone {
        /// Whether it has ended with CR LF.
        has_cr: bool,
    },
    /// In a line.
    Inside {
        /// Behind a CR.
        is_cr: bool,
    },
}

impl Default for Dots {
    /// Before the first line.
    fn default() -> Self {
        Self {
            place: Place::Start { is_strict: true },
        }
    }
}

impl Dots {
    /// Gives `input` to `text`, without the dots. Returns what is behind the end, if the end is in it.
    pub fn take<'a>(
        &mut self,
        mut input: &'a [u8],
        mut text: impl FnMut(&[u8]),
    ) -> Option<&'a [u8]> {
        while let Some((byte, rest)) = input.split_first() {
            self.place = match (self.place, byte) {
                (Place::Start { is_strict }, b'.') => {
                    input = rest;
                    Place::Dot { is_strict }
                }
                (Place::Dot { is_strict }, b'\r') => {
                    input = rest;
                    Place::DotCr { is_strict }
                }
                (Place::DotCr { is_strict: true }, b'\n') => {
                    *self = Self::default();
                    return Some(rest);
                }
                (place @ (Place::Dot { .. } | Place::DotCr { .. }), b'\n') => {
                    input = rest;
                    let has_cr = matches!(place, Place::DotCr { .. });
                    Place::Lone { has_cr }
                }
                (Place::DotCr { .. }, _) => {
                    text(b"\r");
                    Place::Inside { is_cr: true }
                }
                (Place::Lone { has_cr }, _) => {
                    text(if has_cr { b"\r\n" } else { b"\n" });
                    Place::Start { is_strict: has_cr }
                }
                (Place::Start { .. } | Place::Dot { .. }, _) => Place::Inside { is_cr: false },
                (Place::Inside { is_cr }, _) => {
                    let end = memmem::find(input, b"\n.").map_or(input.len(), |at| at + 1);
                    let (lines, rest) = input.split_at(end);
                    text(lines);
                    input = rest;
                    match lines {
                        [.., b'\r', b'\n'] => Place::Start { is_strict: true },
                        [b'\n'] => Place::Start { is_strict: is_cr },
                        [.., b'\n'] => Place::Start { is_strict: false },
                        [.., last] => Place::Inside {
                            is_cr: *last == b'\r',
                        },
                        [] => Place::Inside { is_cr },
                    }
                }
            };
        }
        None
    }

    /// Where it is, as a number.
    pub fn number(&self) -> u32 {
        let (place, flag) = match self.place {
            Place::Start { is_strict } => (0, is_strict),
            Place::Dot { is_strict } => (1, is_strict),
            Place::DotCr { is_strict } => (2, is_strict),
            Place::Lone { has_cr } => (3, has_cr),
            Place::Inside { is_cr } => (4, is_cr),
        };
        place << 1 | u32::from(flag)
    }

    /// By its number; any will do.
    pub fn numbered(number: u32) -> Self {
        let flag = number & 1 != 0;
        let place = match number >> 1 {
            0 => Place::Start { is_strict: flag },
            1 => Place::Dot { is_strict: flag },
            2 => Place::DotCr { is_strict: flag },
            3 => Place::Lone { has_cr: flag },
            _ => Place::Inside { is_cr: flag },
        };
        Self { place }
    }

    /// Whether the last that came is a line that is a dot, between line ends that are not both CR LF.
    pub fn is_lone(&self) -> bool {
        matches!(self.place, Place::Lone { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The text, and what is behind it.
    fn read(pieces: &[&[u8]]) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut dots, mut text) = (Dots::default(), Vec::new());
        let mut behind: Option<Vec<u8>> = None;
        for piece in pieces {
            match &mut behind {
                Some(behind) => behind.extend_from_slice(piece),
                None => {
                    let rest = dots.take(piece, |bytes| text.extend_from_slice(bytes));
                    behind = rest.map(<[u8]>::to_vec);
                }
            }
        }
        (text, behind)
    }

    #[test]
    fn dots_are_removed_and_the_end_is_found() {
        for (input, text, behind) in [
            (&b"a\r\n.\r\nQUIT"[..], &b"a\r\n"[..], Some(&b"QUIT"[..])),
            (b".\r\n", b"", Some(b"")),
            (b"..a\r\n...\r\n.\r\nx", b".a\r\n..\r\n", Some(b"x")),
            (b"a\r\n.b\r\n.\r", b"a\r\nb\r\n", None),
            (b"a\r\n.\rb", b"a\r\n\rb", None),
            // Ways to hide a mail in another.
            (b"a\n.\r\nMAIL", b"a\n\r\nMAIL", None),
            (b"a\r\n.\nMAIL", b"a\r\n\nMAIL", None),
            (b"a\n.\nMAIL\r\n.\r\n", b"a\n\nMAIL\r\n", Some(b"")),
            (b"a\r.\rb", b"a\r.\rb", None),
        ] {
            let expected = (text.to_vec(), behind.map(<[u8]>::to_vec));
            assert_eq!(read(&[input]), expected, "{}", input.escape_ascii());
        }
        let mut dots = Dots::default();
        assert_eq!(dots.take(b"a\n.\r\n", |_| ()), None);
        assert!(dots.is_lone());
    }

    /// Line by line.
    fn naive(text: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let (mut out, mut rest, mut is_strict) = (Vec::new(), text, true);
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n');
            let Some(end) = end else {
                let line = rest.strip_prefix(b".").unwrap_or(rest);
                out.extend_from_slice(line);
                break;
            };
            let (line, behind) = rest.split_at(end + 1);
            if is_strict && line == b".\r\n" {
                return (out, Some(behind.to_vec()));
            }
            out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
            (rest, is_strict) = (behind, line.ends_with(b"\r\n"));
        }
        (out, None)
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            text in "([ab.]|\r\n|\n|\r|\r\n\\.|\r\n\\.\r\n){0,20}",
            cuts in prop::collection::vec(0usize..60, 0..8),
        ) {
            let text = [text.as_bytes(), b"z"].concat();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&pieces), naive(&text));
        }
    }
}
