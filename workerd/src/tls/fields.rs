//! What filters compare hellos with.

use super::fingerprint::{Version, ja3, ja3s, ja4, other_ja3, other_ja3s};
use super::hello::{ClientHello, ServerHello};
use crate::matcher::{Kind, Kinds};

/// What hellos have.
pub const KINDS: Kinds = Kinds::of(&[Kind::TlsSni, Kind::TlsJa3, Kind::TlsJa3s, Kind::TlsJa4]);

/// Tells the wanted fields of a ClientHello. JA3 is told twice where lippycat's differs from the published one.
pub fn of_client(hello: &ClientHello<'_>, wanted: Kinds, mut tell: impl FnMut(Kind, &[u8])) {
    if let (true, Some(name)) = (wanted.has(Kind::TlsSni), hello.server_name()) {
        tell(Kind::TlsSni, name);
    }
    if wanted.has(Kind::TlsJa3) {
        tell(Kind::TlsJa3, &ja3(hello, Version::Legacy));
        if let Some(other) = other_ja3(hello) {
            tell(Kind::TlsJa3, &other);
        }
    }
    if wanted.has(Kind::TlsJa4) {
        tell(Kind::TlsJa4, &ja4(hello));
    }
}

/// Tells the wanted fields of a ServerHello; JA3S as JA3.
pub fn of_server(hello: &ServerHello<'_>, wanted: Kinds, mut tell: impl FnMut(Kind, &[u8])) {
    if wanted.has(Kind::TlsJa3s) {
        tell(Kind::TlsJa3s, &ja3s(hello, Version::Legacy));
        if let Some(other) = other_ja3s(hello) {
            tell(Kind::TlsJa3s, &other);
        }
    }
}
