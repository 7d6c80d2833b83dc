//! Telephone numbers: what is left of them when only the digits count.

use memchr::{memchr3, memmem};

/// Fewest digits of a pattern that is compared as a number, and so of a number that it matches.
pub const SHORTEST: usize = 10;

/// Appends the digits of `value`: what stands before the first of these schemes, and from `@`, `;` or `?` on, is left out.
/// Lower-case.
pub fn push_digits(out: &mut Vec<u8>, value: &[u8]) {
    let schemes: [&[u8]; 3] = [b"tel:", b"sip:", b"sips:"];
    let behind = schemes
        .iter()
        .find_map(|scheme| Some(memmem::find(value, scheme)? + scheme.len()));
    let value = &value[behind.unwrap_or(0)..];
    let value = &value[..memchr3(b'@', b';', b'?', value).unwrap_or(value.len())];
    out.extend(value.iter().filter(|byte| byte.is_ascii_digit()));
}

/// Whether `text` has digits and nothing else.
#[must_use]
pub fn is_number(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(u8::is_ascii_digit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_reduced_as_the_table_says() {
        for (value, digits) in [
            ("sip:+49123456789@domain.com;tag=abc", "49123456789"),
            ("(049) 123-456-789", "049123456789"),
            ("0049123456789", "0049123456789"),
            ("abc123def456", "123456"),
            ("<sip:+49123456789@domain.com>", "49123456789"),
            ("+-.()", ""),
        ] {
            let mut out = vec![];
            push_digits(&mut out, value.as_bytes());
            assert_eq!(out, digits.as_bytes(), "{value}");
        }
    }
}
