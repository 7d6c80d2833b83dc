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
    let behind = match payload.first() {
        Some(b'P') => behind_line(payload),
        Some(b'\r') => behind_bytes(payload),
        _ => None,
    };
    behind.unwrap_or(payload)
}

fn behind_line(payload: &[u8]) -> Option<&[u8]> {
    let line = head(payload, LONGEST_LINE);
    let end = memmem::find(line.strip_prefix(VERSION_1)?, b"\r\n")?;
    payload.get(VERSION_1.len() + end + 2..)
}

fn behind_bytes(payload: &[u8]) -> Option<&[u8]> {
    let of_version_2 = payload.starts_with(VERSION_2) && byte(payload, 12)? >> 4 == 2;
    let len = usize::from(be16(payload, 14)?);
    of_version_2.then(|| payload.get(HEADER_2 + len..))?
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
