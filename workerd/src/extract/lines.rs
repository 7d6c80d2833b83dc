//! Lines of the heads of HTTP and mail. Those of SIP, which hostile senders care more about, are in [`crate::sip::lines`].
//!
//! A line ends at CR LF, LF or CR, in any mixture. One that starts with a blank belongs to the line before it (folding): it is given as
//! one slice, with the line end inside.

use memchr::memchr2;

/// The lines of a head, up to the first empty one.
#[derive(Debug, Clone, Copy)]
pub struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Lines<'a> {
    /// The lines of `text`.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }

    /// What is behind the lines given so far; behind the last one, what follows the empty line.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next line as it stands, without its end.
    fn next_unfolded(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        let (line, rest) = cut(self.rest);
        self.rest = rest;
        Some(line)
    }
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let start = self.rest;
        let first = self.next_unfolded()?;
        if first.is_empty() {
            return None;
        }
        let mut len = first.len();
        while let Some(b' ' | b'\t') = self.rest.first() {
            let (line, rest) = cut(self.rest);
            len = start.len() - self.rest.len() + line.len();
            self.rest = rest;
        }
        Some(&start[..len])
    }
}

/// The first line, and what is behind its end.
fn cut(text: &[u8]) -> (&[u8], &[u8]) {
    let Some(end) = memchr2(b'\r', b'\n', text) else {
        return (text, &[]);
    };
    let (line, rest) = text.split_at(end);
    let end = if rest.starts_with(b"\r\n") { 2 } else { 1 };
    (line, &rest[end..])
}

/// Name and value of a header line, without blanks around them.
#[must_use]
pub fn header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
}

/// Where `needle`, which is lower-case, first stands in `text`, whatever the case.
#[must_use]
pub fn find_ignoring_case(text: &[u8], needle: &[u8]) -> Option<usize> {
    let (first, _) = needle.split_first()?;
    let upper = first.to_ascii_uppercase();
    let mut from = 0;
    while let Some(at) = memchr2(*first, upper, &text[from..]) {
        let at = from + at;
        if starts_ignoring_case(&text[at..], needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// Whether `text` starts with `start`, whatever the case.
#[must_use]
#[inline]
pub fn starts_ignoring_case(text: &[u8], start: &[u8]) -> bool {
    text.len() >= start.len() && text[..start.len()].eq_ignore_ascii_case(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_in_any_way_and_are_unfolded() {
        let mut lines = Lines::new(b"a: 1\r\nb: 2\n c\r\n\td\re:3\n\r\nbody\r\n");
        let all: Vec<_> = lines.by_ref().collect();
        assert_eq!(all, [&b"a: 1"[..], b"b: 2\n c\r\n\td", b"e:3"]);
        assert_eq!(lines.rest(), b"body\r\n");
        assert_eq!(
            header(b"Subject : x y "),
            Some((&b"Subject"[..], &b"x y"[..]))
        );
    }

    #[test]
    fn text_is_found_in_any_case() {
        assert_eq!(find_ignoring_case(b"xxUuSerName=1", b"username="), Some(3));
        assert_eq!(find_ignoring_case(b"user", b"username="), None);
        assert_eq!(find_ignoring_case(b"user", b""), None);
    }
}
