//! `PacketMetadata.details` (field 10, a map from text to text), encoded as it is filled.
//!
//! One buffer serves packet after packet without allocating. Keys should not repeat within a packet: a reader keeps the
//! last of them.
//!
//! ```
//! use lc_proto::details::Details;
//! let mut details = Details::default();
//! details.put("method", "INVITE");
//! details.put_shown("status_code", 200);
//! assert!(!details.is_empty());
//! details.clear();
//! ```

use std::fmt::{Display, Write};

use crate::wire::{put_varint, string_field_len};

/// Tag of field 10 of `PacketMetadata`.
const DETAILS_TAG: u8 = 0x52;
const KEY_TAG: u8 = 0x0a;
const VALUE_TAG: u8 = 0x12;

/// Details of one packet.
#[derive(Debug, Clone, Default)]
pub struct Details {
    encoded: Vec<u8>,
    /// For values that are not text already.
    text: String,
}

impl Details {
    /// Forgets everything, but keeps the room.
    pub fn clear(&mut self) {
        self.encoded.clear();
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.encoded.is_empty()
    }

    /// Adds a value.
    pub fn put(&mut self, key: &str, value: &str) {
        self.encoded.push(DETAILS_TAG);
        let entry = string_field_len(key) + string_field_len(value);
        put_varint(&mut self.encoded, entry);
        for (tag, text) in [(KEY_TAG, key), (VALUE_TAG, value)] {
            if !text.is_empty() {
                self.encoded.push(tag);
                put_varint(&mut self.encoded, text.len());
                self.encoded.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Adds a value as it is shown.
    pub fn put_shown(&mut self, key: &str, value: impl Display) {
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        // Writing to a string does not fail.
        let _ = write!(text, "{value}");
        self.put(key, &text);
        self.text = text;
    }

    /// The encoded fields, to stand in a `PacketMetadata`.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

#[cfg(test)]
mod tests {

    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::data::PacketMetadata;

    proptest! {
        #[test]
        fn decode_to_what_was_put(map in prop::collection::btree_map(".{1,20}", ".{0,300}", 0..8)) {
            let mut details = Details::default();
            details.put("old", "gone");
            details.clear();
            for (key, value) in &map {
                details.put(key, value);
            }
            let decoded = PacketMetadata::decode(details.encoded()).unwrap();
            prop_assert_eq!(&decoded.details, &map);
            // As long as the canonical encoding.
            prop_assert_eq!(decoded.encoded_len(), details.encoded().len());
        }
    }

    #[test]
    fn what_is_no_text_is_shown() {
        let mut details = Details::default();
        details.put_shown("a", 15);
        details.put_shown("b", true);
        let decoded = PacketMetadata::decode(details.encoded()).unwrap();
        assert_eq!(decoded.details["a"], "15");
        assert_eq!(decoded.details["b"], "true");
    }
}
