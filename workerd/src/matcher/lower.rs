//! Lower-casing, the same for patterns and for what they are compared with.
//!
//! Unicode's simple mapping, character by character; bytes that are no UTF-8 stay as they are.

/// Appends `text` in lower case.
pub fn push_lower(out: &mut Vec<u8>, text: &[u8]) {
    if text.is_ascii() {
        let start = out.len();
        out.extend_from_slice(text);
        out[start..].make_ascii_lowercase();
        return;
    }
    let mut buffer = [0; 4];
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars().flat_map(char::to_lowercase) {
            out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
        }
        out.extend_from_slice(chunk.invalid());
    }
}

/// `text` in lower case.
#[must_use]
pub fn lower(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    push_lower(&mut out, text);
    out
}

#[cfg(test)]
mod tests {
    use super::lower;

    #[test]
    fn every_script_is_lowered_and_other_bytes_stay() {
        assert_eq!(lower(b"ALICE-09"), b"alice-09");
        assert_eq!(lower("ÄÖÜ Ωμέγα".as_bytes()), "äöü ωμέγα".as_bytes());
        assert_eq!(lower(b"A\xff\xc3B"), b"a\xff\xc3b");
    }
}
