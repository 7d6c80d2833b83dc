//! `PacketMetadata.details` (field 10, a map from text to text), encoded as it is filled.
//!
//! One buffer serves packet after packet without allocating. Keys should not repeat within a packet: a reader keeps the
//! last of them.
//!
//! ```
//! use lc_proto::details::Details;
//! let mut details = Details::with_capacity(1024);
//! details.put("method", "INVITE");
//! assert!(!details.is_empty());
//! details.clear();
//! ```

use std::ops::Range;

use crate::wire::{delimited_len, put_varint};

/// Tag of field 10 of `PacketMetadata`.
const DETAILS_TAG: u8 = 0x52;
const KEY_TAG: u8 = 0x0a;
const VALUE_TAG: u8 = 0x12;

/// Details of one packet.
#[derive(Debug, Clone, Default)]
pub struct Details {
    encoded: Vec<u8>,
}

impl Details {
    /// None yet, and room for `bytes` of them, encoded.
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        Self {
            encoded: Vec::with_capacity(bytes),
        }
    }

    /// Forgets everything, but keeps the room.
    #[inline]
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
        let write = |encoded: &mut Vec<u8>| {
            encoded.extend_from_slice(value.as_bytes());
            Ok::<_, std::convert::Infallible>(())
        };
        let Ok(_) = self.put_with(key, write);
    }

    /// Adds a value that `write` appends to what it is given, and must leave as it is otherwise. It must be UTF-8. Returns where in
    /// [`encoded`](Self::encoded) it stands.
    ///
    /// # Errors
    /// That of `write`; nothing is added then.
    #[inline]
    pub fn put_with<E>(
        &mut self,
        key: &str,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<Range<usize>, E> {
        let out = &mut self.encoded;
        let start = out.len();
        // Lengths of one byte each, until they are known.
        out.extend_from_slice(&[DETAILS_TAG, 0, KEY_TAG]);
        put_varint(out, key.len());
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(&[VALUE_TAG, 0]);
        let value = out.len();
        if let Err(error) = write(out) {
            out.truncate(start);
            return Err(error);
        }
        let value_len = out.len() - value;
        let entry_len = out.len() - start - 2;
        if value_len > 0 && entry_len < 0x80 {
            out[start + 1] = entry_len as u8;
            out[value - 1] = value_len as u8;
            return Ok(value..out.len());
        }
        Ok(self.settle(start, value, key))
    }

    /// Gives the entry at `start`, whose value stands at `value`, the head that it must have where a length takes more than a byte, or the value is
    /// empty and so left out.
    #[cold]
    fn settle(&mut self, start: usize, value: usize, key: &str) -> Range<usize> {
        let out = &mut self.encoded;
        let end = out.len();
        let value_len = end - value;
        let value_field = match value_len {
            0 => 0,
            _ => delimited_len(value_len),
        };
        out.push(DETAILS_TAG);
        put_varint(out, delimited_len(key.len()) + value_field);
        out.push(KEY_TAG);
        put_varint(out, key.len());
        out.extend_from_slice(key.as_bytes());
        if value_len > 0 {
            out.push(VALUE_TAG);
            put_varint(out, value_len);
        }
        let head = out.len() - end;
        out[start..].rotate_right(head);
        out.drain(start + head..value + head);
        start + head..out.len()
    }

    /// The encoded fields, to stand in a `PacketMetadata`.
    #[must_use]
    #[inline]
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
    fn what_can_not_be_written_leaves_no_trace() {
        let mut details = Details::default();
        details.put("a", "1");
        let before = details.encoded().to_vec();
        let write = |value: &mut Vec<u8>| {
            value.extend_from_slice(b"half");
            Err(())
        };
        assert_eq!(details.put_with("b", write), Err(()));
        assert_eq!(details.encoded(), before);
    }

    #[test]
    fn values_are_found_where_they_stand() {
        for len in [0, 1, 100, 119, 120, 121, 127, 128, 20_000] {
            let text = "x".repeat(len);
            let mut details = Details::default();
            details.put("old", "gone");
            let write = |value: &mut Vec<u8>| {
                value.extend_from_slice(text.as_bytes());
                Ok::<_, ()>(())
            };
            let place = details.put_with("key", write).unwrap();
            assert_eq!(&details.encoded()[place], text.as_bytes());
        }
    }
}
