//! Domain names in a message (RFC 1035 sections 3.1 and 4.1.4).
//!
//! A name is not copied: it is where it stands in the message, and is followed again when its labels are asked for. Only names that can be followed to
//! their end are [`Name`]s. Work is bounded: at most [`MOST_POINTERS`] pointers and [`LONGEST`] bytes, whatever the message says.

use super::e164::Number;
use super::text::push_utf8;

/// Most pointers of a name. Encoders need one; the reference follows as many.
pub const MOST_POINTERS: usize = 10;
/// Longest name, in bytes with the length of each label. RFC 1035 section 2.3.4 has 255, which the reference does not hold senders to.
pub const LONGEST: usize = 1024;

/// A name that was followed to its end. Case is kept; the root has no labels.
#[derive(Debug, Clone, Copy)]
pub struct Name<'a> {
    message: &'a [u8],
    at: usize,
}

impl Default for Name<'_> {
    fn default() -> Self {
        Self::ROOT
    }
}

impl<'a> Name<'a> {
    /// The name without labels.
    pub const ROOT: Self = Self {
        message: &[0],
        at: 0,
    };

    /// The name at `at`, and where the bytes behind it begin. A pointer out of the message stands for the root, as in the reference.
    ///
    /// `None` if a label or the end is missing, or if it is longer than the limits.
    #[must_use]
    pub fn read(message: &'a [u8], at: usize) -> Option<(Self, usize)> {
        let mut steps = Steps::new(message, at);
        let (mut start, mut end, mut len) = (at, None, 0);
        loop {
            match steps.next()? {
                Step::Label(label) => len += 1 + label.len(),
                Step::Pointer { behind } => {
                    if len == 0 {
                        start = steps.at;
                    }
                    _ = end.get_or_insert(behind);
                }
                Step::Out => return Some((Self::ROOT, end?)),
                Step::End { behind } => {
                    let name = Self { message, at: start };
                    return Some((name, end.unwrap_or(behind)));
                }
            }
            if len > LONGEST {
                return None;
            }
        }
    }

    /// Its labels, in order. One may have any bytes, dots too.
    pub fn labels(self) -> impl Iterator<Item = &'a [u8]> {
        let mut steps = Steps::new(self.message, self.at);
        std::iter::from_fn(move || {
            loop {
                match steps.next()? {
                    Step::Label(label) => return Some(label),
                    Step::Pointer { .. } => {}
                    Step::Out | Step::End { .. } => return None,
                }
            }
        })
    }

    /// Whether it has no labels.
    #[must_use]
    pub fn is_root(self) -> bool {
        self.labels().next().is_none()
    }

    /// Whether it is written at the same place of its message as `other`, and so the same.
    #[must_use]
    #[inline]
    pub fn is_written_as(self, other: Self) -> bool {
        self.at == other.at
    }

    /// Its labels with dots between them, as they stand in the message.
    pub fn pieces(self) -> impl Iterator<Item = &'a [u8]> {
        let labels = self.labels().enumerate();
        labels.flat_map(|(n, label)| [if n > 0 { &b"."[..] } else { b"" }, label])
    }

    /// The telephone number that it stands for.
    #[must_use]
    pub fn e164(self) -> Option<Number> {
        Number::of(self)
    }

    /// Appends its labels with dots between them, as they stand in the message.
    pub fn push(self, out: &mut Vec<u8>) {
        for (n, label) in self.labels().enumerate() {
            if n > 0 {
                out.push(b'.');
            }
            out.extend_from_slice(label);
        }
    }

    /// The same as UTF-8.
    pub fn push_text(self, out: &mut Vec<u8>) {
        let start = out.len();
        self.push(out);
        if !out[start..].is_ascii() {
            out.truncate(start);
            self.pieces().for_each(|piece| push_utf8(out, piece));
        }
    }
}

/// Follows a name.
struct Steps<'a> {
    message: &'a [u8],
    at: usize,
    pointers: usize,
    /// Whether a pointer has just led to `at`.
    has_jumped: bool,
}

enum Step<'a> {
    Label(&'a [u8]),
    /// Where the bytes behind the pointer begin.
    Pointer {
        behind: usize,
    },
    /// The pointer before leads out of the message.
    Out,
    /// Where the bytes behind the end begin.
    End {
        behind: usize,
    },
}

impl<'a> Steps<'a> {
    fn new(message: &'a [u8], at: usize) -> Self {
        Self {
            message,
            at,
            pointers: 0,
            has_jumped: false,
        }
    }

    /// `None` if the message ends before, or if there are too many pointers.
    #[inline]
    fn next(&mut self) -> Option<Step<'a>> {
        let Some(first) = self.message.get(self.at).copied() else {
            return self.has_jumped.then_some(Step::Out);
        };
        let behind = self.at + 1;
        self.has_jumped = false;
        match first {
            0 => Some(Step::End { behind }),
            0xc0.. => {
                let low = *self.message.get(behind)?;
                self.pointers += 1;
                if self.pointers > MOST_POINTERS {
                    return None;
                }
                self.at = usize::from(first & 0x3f) << 8 | usize::from(low);
                self.has_jumped = true;
                Some(Step::Pointer { behind: behind + 1 })
            }
            // 64 to 191 are no lengths in RFC 1035; the reference takes them for some.
            len => {
                self.at = behind + usize::from(len);
                Some(Step::Label(self.message.get(behind..self.at)?))
            }
        }
    }
}
