//! A connection of HTTP/1.

/// See `http_session`.
pub fn check(bytes: &[u8]) {
    crate::http_session::check(b"", bytes);
}
