//! The header that a proxy puts in front of the first bytes of a TCP connection, to say whose it is (HAProxy's
//! PROXY protocol, versions 1 and 2, sections 2.1 and 2.2). What follows it is the connection's own.

use super::fields::{be16, byte, head};
use memchr::memmem;

const VERSION_1: &[u8] = b"PROXY ";
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Mark, version and command, family, length.
const HEADER_2: usize = 16;

/// The payload behind a proxy's header, or all of it where there is none.
#[inline]
#[must_use]
pub fn behind_header(payload: &[u8]) -> &[u8] {
    let behind = header_len(payload).and_then(|len| payload.get(len..));
    behind.unwrap_or(payload)
}

/// Bytes of the proxy's header that `payload` begins with, 0 if there is none; `None` if more of it is needed to tell.
#[inline]
#[must_use]
pub fn header_len(payload: &[u8]) -> Option<usize> {
    match payload.first() {
        Some(b'P') => line_len(payload),
        Some(b'\r') => bytes_len(payload),
        _ => Some(0),
    }
}

fn line_len(payload: &[u8]) -> Option<usize> {
    let line = head(payload, LONGEST_LINE);
    if !starts_alike(line, VERSION_1) {
        return Some(0);
    }
    match memmem::find(line, b"\r\n") {
        Some(end) => Some(end + 2),
        None => (payload.len() >= LONGEST_LINE).then_some(0),
    }
}

fn bytes_len(payload: &[u8]) -> Option<usize> {
    if !starts_alike(payload, VERSION_2) || byte(payload, 12).is_some_and(|byte| byte >> 4 != 2) {
        return Some(0);
    }
    Some(HEADER_2 + usize::from(be16(payload, 14)?))
}

/// Whether one of two starts with the other.
fn starts_alike(one: &[u8], other: &[u8]) -> bool {
    let len = one.len().min(other.len());
    one[..len] == other[..len]
}

#[cfg(test)]
mod tests {
    use super::behind_header;

    #[test]
    fn both_versions_are_skipped() {
        let text = b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 443\r\nrest";
        assert_eq!(behind_header(text), b"rest");
        let bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x03abcrest";
        assert_eq!(behind_header(bytes), b"rest");
    }

    #[test]
    fn what_is_no_header_stays() {
        for payload in [
            &b""[..],
            b"P",
            b"PROXY TCP4 192.0.2.1",
            b"PROXIED\r\nrest",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x03ab",
            b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\0rest",
        ] {
            assert_eq!(behind_header(payload), payload);
        }
    }
}
