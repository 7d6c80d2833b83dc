//! Numbers and lines at places in a payload.
//!
//! Everything returns `None` past the end of the bytes, so a signature reads with `?`.

use memchr::{memchr, memmem};

/// The byte at `at`.
#[inline]
#[must_use]
pub fn byte(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// Big-endian 16 bits at `at`.
#[inline]
#[must_use]
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Big-endian 24 bits at `at`.
#[inline]
#[must_use]
pub fn be24(bytes: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = *bytes.get(at..)?.first_chunk()?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// Big-endian 32 bits at `at`.
#[inline]
#[must_use]
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Big-endian 64 bits at `at`.
#[inline]
#[must_use]
pub fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Little-endian 24 bits at `at`.
#[inline]
#[must_use]
pub fn le24(bytes: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = *bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes([a, b, c, 0]))
}

/// Little-endian 32 bits at `at`.
#[inline]
#[must_use]
pub fn le32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// The first `most` bytes, or all of them.
#[inline]
#[must_use]
pub fn head(bytes: &[u8], most: usize) -> &[u8] {
    &bytes[..bytes.len().min(most)]
}

/// Whether `bytes` start with `prefix`, in any case of ASCII letters.
#[inline]
#[must_use]
pub fn starts_with(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes
        .get(..prefix.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
}

/// Whether `needle`, which must be lower case, occurs in `bytes` in any case of ASCII letters.
#[must_use]
pub fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    position(bytes, needle).is_some()
}

/// Where `needle`, which must be lower case, first occurs in `bytes` in any case of ASCII letters.
#[must_use]
pub fn position(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let last_start = bytes.len().checked_sub(needle.len())?;
    let is_start = |at: &usize| starts_with(&bytes[*at..], needle);
    memchr::memchr2_iter(first, first.to_ascii_uppercase(), &bytes[..=last_start]).find(is_start)
}

/// `bytes` before and after the first `separator`.
#[inline]
#[must_use]
pub fn split(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr(separator, bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// The first word of `bytes` and what follows the blanks behind it.
#[inline]
#[must_use]
pub fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    split(bytes, b' ').map_or((bytes, &[]), |(word, rest)| (word, rest.trim_ascii_start()))
}

/// The first line, which CRLF ends or the end of the bytes.
#[inline]
#[must_use]
pub fn line(bytes: &[u8]) -> &[u8] {
    memmem::find(bytes, b"\r\n").map_or(bytes, |end| &bytes[..end])
}

/// The lines of `bytes`, which LF or CRLF end, trimmed of blanks.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let (line, next) = match split(rest?, b'\n') {
            Some((line, next)) => (line, Some(next)),
            None => (rest?, None),
        };
        rest = next;
        Some(line.trim_ascii())
    })
}

/// A decimal number of at most nine digits that is all of `bytes`.
#[must_use]
pub fn decimal(bytes: &[u8]) -> Option<u32> {
    let digits = !bytes.is_empty() && bytes.len() <= 9 && bytes.iter().all(u8::is_ascii_digit);
    let number = |number: u32, digit: &u8| number * 10 + u32::from(digit - b'0');
    digits.then(|| bytes.iter().fold(0, number))
}
