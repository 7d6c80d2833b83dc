//! Text of messages: always UTF-8.

/// Appends `bytes`; each run of bytes that are no UTF-8 becomes one U+FFFD.
pub fn push_utf8(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.is_ascii() {
        return out.extend_from_slice(bytes);
    }
    let mut in_run = false;
    for chunk in bytes.utf8_chunks() {
        in_run &= chunk.valid().is_empty();
        out.extend_from_slice(chunk.valid().as_bytes());
        if !chunk.invalid().is_empty() && !in_run {
            out.extend_from_slice("\u{fffd}".as_bytes());
            in_run = true;
        }
    }
}

/// Appends a decimal number.
pub fn push_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends `bytes` in quotation marks (RFC 1035 section 5.1).
pub fn push_quoted(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    for part in bytes.split_inclusive(|byte| matches!(byte, b'"' | b'\\')) {
        match part.split_last() {
            Some((mark @ (b'"' | b'\\'), rest)) => {
                push_utf8(out, rest);
                out.extend_from_slice(&[b'\\', *mark]);
            }
            _ => push_utf8(out, part),
        }
    }
    out.push(b'"');
}

/// Appends hexadecimal digits.
pub fn push_hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let digits = |byte: &u8| [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
    out.extend(bytes.iter().flat_map(digits));
}

/// Appends Base64 (RFC 4648 section 4).
pub fn push_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for three in bytes.chunks(3) {
        let byte = |n| u32::from(three.get(n).copied().unwrap_or(0));
        let number = byte(0) << 16 | byte(1) << 8 | byte(2);
        let mut digits = [18, 12, 6, 0].map(|shift| DIGITS[(number >> shift & 63) as usize]);
        digits[three.len() + 1..].fill(b'=');
        out.extend_from_slice(&digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(push: impl Fn(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_run_of_bytes_that_are_no_utf8_becomes_one_mark() {
        for (bytes, expected) in [
            (&b"\xff\xfeA"[..], "\u{fffd}A"),
            (b"a\xffb\xfec", "a\u{fffd}b\u{fffd}c"),
            (b"\xe2\x82A\xc3", "\u{fffd}A\u{fffd}"),
            ("\u{fc}\u{fffd}".as_bytes(), "\u{fc}\u{fffd}"),
            (b"\xf0\x9f\xff\xff\x98", "\u{fffd}"),
        ] {
            assert_eq!(text(|out| push_utf8(out, bytes)), expected);
        }
    }

    #[test]
    fn bytes_have_the_texts_of_their_notations() {
        for (bytes, base64) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
        ] {
            assert_eq!(text(|out| push_base64(out, bytes)), base64);
        }
        assert_eq!(text(|out| push_hex(out, &[0x0f, 0xa0])), "0FA0");
        assert_eq!(text(|out| push_quoted(out, b"a\"b\\")), r#""a\"b\\""#);
    }

    proptest! {
        #[test]
        fn any_bytes_become_utf8(bytes: Vec<u8>) {
            text(|out| push_utf8(out, &bytes));
            text(|out| push_quoted(out, &bytes));
        }
    }
}
