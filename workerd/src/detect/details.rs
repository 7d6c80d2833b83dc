//! What is told of a packet beside its protocol: one line of text, and keys with values.

use std::fmt::{self, Display, Write};
use std::net::Ipv4Addr;
use std::ops::Range;

/// Most bytes of text about one packet; an entry that goes beyond is left out whole.
pub const MOST_TEXT: usize = 16 * 1024;
/// Most entries about one packet.
pub const MOST_ENTRIES: usize = 48;

/// A buffer for the description of one packet after the other. It allocates when it is made and
/// never again.
///
/// Values are text: numbers in decimal, yes and no as `true` and `false`, lists separated by commas,
/// maps as lines of `key=value`. Bytes that are not UTF-8 become U+FFFD.
#[derive(Debug)]
pub struct Details {
    text: String,
    entries: Vec<(&'static str, Range<usize>)>,
    info: Range<usize>,
}

impl Details {
    /// An empty description.
    #[must_use]
    pub fn new() -> Self {
        Self {
            text: String::with_capacity(MOST_TEXT),
            entries: Vec::with_capacity(MOST_ENTRIES),
            info: 0..0,
        }
    }

    /// Forgets the packet before.
    pub fn clear(&mut self) {
        self.text.clear();
        self.entries.clear();
        self.info = 0..0;
    }

    /// The line for people; empty if there is nothing to say.
    #[must_use]
    pub fn info(&self) -> &str {
        &self.text[self.info.clone()]
    }

    /// Keys and values, in the order of their arrival.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, &str)> {
        let value = |(key, range): &(&'static str, Range<usize>)| (*key, &self.text[range.clone()]);
        self.entries.iter().map(value)
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    /// Sets the line for people.
    pub fn set_info(&mut self, value: impl Display) {
        if let Some(range) = self.write(value) {
            self.info = range;
        }
    }

    /// Sets the line for people to the value of `key`, if there is one.
    pub fn set_info_to(&mut self, key: &str) {
        if let Some((_, range)) = self.entries.iter().find(|(name, _)| *name == key) {
            self.info = range.clone();
        }
    }

    /// Adds an entry.
    pub fn put(&mut self, key: &'static str, value: impl Display) {
        if self.entries.len() == MOST_ENTRIES {
            return;
        }
        if let Some(range) = self.write(value) {
            self.entries.push((key, range));
        }
    }

    /// Adds an entry of text from the packet.
    pub fn text(&mut self, key: &'static str, value: &[u8]) {
        self.put(key, Text(value));
    }

    /// Adds an entry unless its text is empty.
    pub fn text_if_any(&mut self, key: &'static str, value: &[u8]) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// Adds an entry that is true, or none.
    pub fn flag(&mut self, key: &'static str, value: bool) {
        if value {
            self.put(key, true);
        }
    }

    /// Adds an IPv4 address, if there is one.
    pub fn ipv4(&mut self, key: &'static str, value: Option<u32>) {
        if let Some(value) = value {
            self.put(key, Ipv4Addr::from(value));
        }
    }

    /// Adds a list or a map, unless it is empty.
    pub fn list<T: Display>(
        &mut self,
        key: &'static str,
        separator: char,
        values: impl Iterator<Item = T>,
    ) {
        let start = self.text.len();
        for value in values {
            let whole = self.text.len();
            let separated = self.text.len() == start || self.write(separator).is_some();
            if !separated || self.write(value).is_none() {
                self.text.truncate(whole);
                break;
            }
        }
        if self.text.len() > start && self.entries.len() < MOST_ENTRIES {
            self.entries.push((key, start..self.text.len()));
        }
    }

    /// Appends `value` if all of it fits.
    fn write(&mut self, value: impl Display) -> Option<Range<usize>> {
        let start = self.text.len();
        let room = MOST_TEXT - start;
        let mut out = Bounded {
            text: &mut self.text,
            room,
        };
        if write!(out, "{value}").is_err() {
            self.text.truncate(start);
            return None;
        }
        Some(start..self.text.len())
    }
}

impl Default for Details {
    fn default() -> Self {
        Self::new()
    }
}

/// Text that grows up to its capacity.
struct Bounded<'a> {
    text: &'a mut String,
    room: usize,
}

impl Write for Bounded<'_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.room = self.room.checked_sub(part.len()).ok_or(fmt::Error)?;
        self.text.push_str(part);
        Ok(())
    }
}

/// Bytes of a packet as text; what is not UTF-8 becomes U+FFFD.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a [u8]);

impl Display for Text<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            out.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                out.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

/// Bytes of a packet as text in upper case.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a>(pub &'a [u8]);

impl Display for Upper<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            for letter in chunk.valid().chars() {
                out.write_char(letter.to_ascii_uppercase())?;
            }
            if !chunk.invalid().is_empty() {
                out.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

/// Bytes of a packet as text in lower case, with a second text behind: a line of a map.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a>(pub &'a [u8], pub &'a [u8]);

impl Display for Entry<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}={}", Text(self.0), Text(self.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_kept_in_order_and_bad_utf8_is_replaced() {
        let mut details = Details::new();
        details.put("number", 7);
        details.text("text", b"a\xffb");
        details.list("list", ',', [1, 2, 3].into_iter());
        details.list("empty", ',', std::iter::empty::<u8>());
        details.flag("no", false);
        details.set_info_to("text");
        let entries: Vec<_> = details.iter().collect();
        assert_eq!(
            entries,
            [("number", "7"), ("text", "a\u{fffd}b"), ("list", "1,2,3")]
        );
        assert_eq!(details.info(), "a\u{fffd}b");
        details.clear();
        assert_eq!((details.iter().len(), details.info()), (0, ""));
    }

    #[test]
    fn nothing_grows_beyond_its_bounds() {
        let mut details = Details::new();
        let capacity = details.text.capacity();
        for _ in 0..100 {
            details.text("long", &[b'x'; 1000]);
        }
        assert_eq!(details.iter().len(), MOST_TEXT / 1000);
        details.list("list", ',', (0..).take(100_000));
        assert_eq!(details.text.capacity(), capacity);
        details.clear();
        for _ in 0..100 {
            details.put("short", 1);
        }
        assert_eq!(details.iter().len(), MOST_ENTRIES);
    }
}
