//! Versions of SSL, TLS and DTLS, and values that stand for nothing.

use std::borrow::Cow;

/// TLS 1.2 (RFC 5246).
pub const TLS_1_2: u16 = 0x0303;
/// TLS 1.3 (RFC 8446).
pub const TLS_1_3: u16 = 0x0304;
/// DTLS 1.3 (RFC 9147).
pub const DTLS_1_3: u16 = 0xfefc;
/// DTLS 1.0 as OpenSSL before 0.9.8f wrote it.
pub const DTLS_OLD: u16 = 0x0100;

/// The name of a version, for people.
#[must_use]
pub fn name(version: u16) -> Cow<'static, str> {
    Cow::Borrowed(match version {
        0x0002 => "SSL 2.0",
        0x0300 => "SSL 3.0",
        0x0301 => "TLS 1.0",
        0x0302 => "TLS 1.1",
        TLS_1_2 => "TLS 1.2",
        TLS_1_3 => "TLS 1.3",
        0x7f00..=0x7f1f => "TLS 1.3 (draft)",
        0xfeff => "DTLS 1.0",
        0xfefd => "DTLS 1.2",
        DTLS_1_3 => "DTLS 1.3",
        DTLS_OLD => "DTLS 1.0 (OpenSSL before 0.9.8f)",
        other => return Cow::Owned(format!("Unknown (0x{other:04x})")),
    })
}

/// Two characters for a version, as JA4 has them.
#[must_use]
pub fn short(version: u16) -> [u8; 2] {
    *match version {
        TLS_1_3 => b"13",
        TLS_1_2 => b"12",
        0x0302 => b"11",
        0x0301 => b"10",
        0x0300 => b"s3",
        0x0002 => b"s2",
        // Not in JA4's table; as Wireshark writes it.
        DTLS_OLD => b"s1",
        0xfeff => b"d1",
        0xfefd => b"d2",
        DTLS_1_3 => b"d3",
        _ => b"00",
    }
}

/// The newest of `versions`. Numbers of DTLS count down.
pub fn newest(versions: impl Iterator<Item = u16>) -> Option<u16> {
    versions.max_by_key(|version| match version >> 8 {
        0xfe => 0xffff - version,
        _ => *version,
    })
}

/// Whether the handshake goes on encrypted right behind the ServerHello.
#[must_use]
pub fn hides_handshake(version: u16) -> bool {
    matches!(version, TLS_1_3 | DTLS_1_3 | 0x7f00..=0x7f1f)
}

/// Whether `number` is one of those that a peer must ignore (RFC 8701).
#[must_use]
pub fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}
