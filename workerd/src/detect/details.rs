//! What is told of a packet beside its protocol: one line of text, and keys with values.

use lc_proto::details::Details as Encoded;
use std::fmt::{self, Write};
use std::net::Ipv4Addr;
use std::ops::Range;

/// Most bytes of details about one packet, as they are encoded, and of its line for people; an entry
/// that goes beyond is left out whole.
pub const MOST_BYTES: usize = 16 * 1024;
/// Most entries about one packet.
pub const MOST_ENTRIES: usize = 48;
/// Room for the heads of an entry while it is written.
const HEADS: usize = 256;

/// A buffer for the description of one packet after the other. It allocates when it is made and
/// never again.
///
/// Values are text: numbers in decimal, yes and no as `true` and `false`, lists separated by commas,
/// maps as lines of `key=value`. Bytes that are not UTF-8 become U+FFFD. They are written where they
/// stay: [`Details::encoded`] is what a packet's record holds.
#[derive(Debug)]
pub struct Details {
    encoded: Encoded,
    /// Keys, and where their values stand.
    entries: Vec<(&'static str, Range<usize>)>,
    info: Vec<u8>,
}

impl Details {
    /// An empty description.
    #[must_use]
    pub fn new() -> Self {
        Self {
            encoded: Encoded::with_capacity(MOST_BYTES + HEADS),
            entries: Vec::with_capacity(MOST_ENTRIES),
            info: Vec::with_capacity(MOST_BYTES),
        }
    }

    /// Forgets the packet before.
    #[inline]
    pub fn clear(&mut self) {
        self.encoded.clear();
        self.entries.clear();
        self.info.clear();
    }

    /// The line for people; empty if there is nothing to say.
    #[must_use]
    #[inline]
    pub fn info(&self) -> &str {
        text(&self.info)
    }

    /// Keys and values as they stand in a packet's record.
    #[must_use]
    #[inline]
    pub fn encoded(&self) -> &[u8] {
        self.encoded.encoded()
    }

    /// Keys and values, in the order of their arrival.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'static str, &str)> {
        let value = |(key, place): &(&'static str, Range<usize>)| {
            (*key, text(&self.encoded()[place.clone()]))
        };
        self.entries.iter().map(value)
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.iter()
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    /// Sets the line for people.
    #[inline]
    pub fn set_info(&mut self, value: impl Value) {
        self.info.clear();
        if value
            .write(&mut Writer {
                out: &mut self.info,
                most: MOST_BYTES,
            })
            .is_err()
        {
            self.info.clear();
        }
    }

    /// Sets the line for people to the value of `key`, if there is one.
    pub fn set_info_to(&mut self, key: &str) {
        if let Some((_, place)) = self.entries.iter().find(|(name, _)| *name == key) {
            let value = &self.encoded.encoded()[place.clone()];
            self.info.clear();
            self.info.extend_from_slice(value);
        }
    }

    /// Adds an entry.
    #[inline]
    pub fn put(&mut self, key: &'static str, value: impl Value) {
        self.put_with(key, |out| value.write(out));
    }

    /// Adds an entry of text from the packet.
    #[inline]
    pub fn text(&mut self, key: &'static str, value: &[u8]) {
        self.put(key, Text(value));
    }

    /// Adds an entry unless its text is empty.
    #[inline]
    pub fn text_if_any(&mut self, key: &'static str, value: &[u8]) {
        if !value.is_empty() {
            self.text(key, value);
        }
    }

    /// Adds an entry that is true, or none.
    #[inline]
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

    /// Adds a list or a map, unless it is empty; what does not fit is left out at its end.
    pub fn list<T: Value>(
        &mut self,
        key: &'static str,
        separator: char,
        values: impl Iterator<Item = T>,
    ) {
        self.put_with(key, |out| {
            let start = out.len();
            for value in values {
                let whole = out.len();
                let separated = whole == start || separator.write(out).is_ok();
                if !separated || value.write(out).is_err() {
                    out.truncate(whole);
                    break;
                }
            }
            match out.len() > start {
                true => Ok(()),
                false => Err(fmt::Error),
            }
        });
    }

    #[inline]
    fn put_with(&mut self, key: &'static str, write: impl FnOnce(&mut Writer<'_>) -> fmt::Result) {
        if self.entries.len() == MOST_ENTRIES {
            return;
        }
        let write = |out: &mut Vec<u8>| {
            write(&mut Writer {
                out,
                most: MOST_BYTES,
            })
        };
        if let Ok(place) = self.encoded.put_with(key, write) {
            self.entries.push((key, place));
        }
    }
}

impl Default for Details {
    fn default() -> Self {
        Self::new()
    }
}

/// What [`Value`]s made is UTF-8.
#[inline]
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Something that has a text. Numbers and texts are here without the machinery of [`fmt`], which takes ten times as long.
pub trait Value {
    /// Appends its text.
    ///
    /// # Errors
    /// [`fmt::Error`] if there is no room for it.
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result;
}

/// Takes texts, up to a bound.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    /// Bytes of `out` that may be in use.
    most: usize,
}

impl Writer<'_> {
    #[inline]
    fn len(&self) -> usize {
        self.out.len()
    }

    fn truncate(&mut self, len: usize) {
        self.out.truncate(len);
    }
}

impl Write for Writer<'_> {
    #[inline]
    fn write_str(&mut self, part: &str) -> fmt::Result {
        if self.out.len() + part.len() > self.most {
            return Err(fmt::Error);
        }
        self.out.extend_from_slice(part.as_bytes());
        Ok(())
    }
}

impl<T: Value + ?Sized> Value for &T {
    #[inline]
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        (**self).write(out)
    }
}

impl Value for str {
    #[inline]
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        out.write_str(self)
    }
}

impl Value for bool {
    #[inline]
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        out.write_str(if *self { "true" } else { "false" })
    }
}

impl Value for char {
    #[inline]
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        out.write_char(*self)
    }
}

/// Numbers.
macro_rules! decimal {
    ($($number:ty)*) => {
        $(impl Value for $number {
            #[inline]
            fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
                out.write_str(itoa::Buffer::new().format(*self))
            }
        })*
    };
}

decimal!(u8 u16 u32 u64 usize i8 i32 i64);

/// What is shown by [`fmt`].
macro_rules! shown {
    ($($shown:ty)*) => {
        $(impl Value for $shown {
            fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
                write!(out, "{self}")
            }
        })*
    };
}

shown!(f64 Ipv4Addr fmt::Arguments<'_>);

/// Bytes of a packet as text; what is not UTF-8 becomes U+FFFD.
#[derive(Debug, Clone, Copy)]
pub struct Text<'a>(pub &'a [u8]);

impl Value for Text<'_> {
    #[inline]
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        for chunk in self.0.utf8_chunks() {
            out.write_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                out.write_char(char::REPLACEMENT_CHARACTER)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Text<'_> {
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

impl Value for Upper<'_> {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        let start = out.len();
        Text(self.0).write(out)?;
        out.out[start..].make_ascii_uppercase();
        Ok(())
    }
}

/// Bytes of a packet as text, with a second text behind: a line of a map.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a>(pub &'a [u8], pub &'a [u8]);

impl Value for Entry<'_> {
    fn write(&self, out: &mut Writer<'_>) -> fmt::Result {
        Text(self.0).write(out)?;
        out.write_char('=')?;
        Text(self.1).write(out)
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
        let before = details.encoded().as_ptr();
        for _ in 0..100 {
            details.text("long", &[b'x'; 1000]);
        }
        assert_eq!(details.iter().len(), MOST_BYTES / 1000);
        details.list("list", ',', (0..).take(100_000));
        assert!(details.encoded().len() <= MOST_BYTES + HEADS);
        assert_eq!(details.encoded().as_ptr(), before);
        details.clear();
        for _ in 0..100 {
            details.put("short", 1);
        }
        assert_eq!(details.iter().len(), MOST_ENTRIES);
    }
}
