//! Any bytes as a capture file.

/// Reads `bytes` to an end or to an error, with every packet within its bounds.
pub fn check(bytes: &[u8]) {
    lc_capd::source::file::fuzz(bytes);
}
