//! A connection of HTTP/2, and blocks of fields by themselves.

use lc_workerd::http::http2::frames::PREFACE;
use lc_workerd::http::http2::hpack::{Decoded, Decoder, MOST_LIST, MOST_TABLE};

use crate::Input;

/// What a decoder holds of each entry beside its texts, which count 32 bytes.
const OVERHEAD: usize = 3;

/// See `http_session`; the preface comes first.
pub fn check(bytes: &[u8]) {
    crate::http_session::check(PREFACE, bytes);
    let (mut decoder, mut decoded) = (Decoder::default(), Decoded::default());
    let mut input = Input::new(bytes);
    while !input.is_empty() && decoder.decode(input.text(), &mut decoded).is_ok() {
        let len: usize = decoded
            .fields()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        assert!(len <= MOST_LIST && decoder.held() <= OVERHEAD * MOST_TABLE);
    }
}
