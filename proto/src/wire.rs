//! Sizes of protobuf primitives, shared by the hand-written encoders.

/// Bytes of `value` as a varint: 1 to 10.
#[inline]
pub(crate) const fn varint_len(value: u64) -> usize {
    // 7 payload bits per byte; `| 1` gives zero its one byte.
    ((value | 1).ilog2() as usize * 9 + 73) / 64
}

/// Bytes of a scalar field with a one-byte tag. proto3 leaves out zero.
#[inline]
pub(crate) const fn scalar_field_len(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint_len(value) }
}

/// Bytes of a length-delimited field with a one-byte tag, empty or not.
#[inline]
pub(crate) const fn delimited_len(len: usize) -> usize {
    1 + varint_len(len as u64) + len
}

/// Bytes of a string field with a one-byte tag. proto3 leaves out the empty string.
#[inline]
pub(crate) const fn string_field_len(text: &str) -> usize {
    if text.is_empty() {
        0
    } else {
        delimited_len(text.len())
    }
}

/// Appends `value` as a varint.
#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, value: usize) {
    let mut value = value as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Puts the length of what stands behind `start` in front of it.
#[inline]
pub(crate) fn put_len_before(out: &mut Vec<u8>, start: usize) {
    let len = out.len() - start;
    put_varint(out, len);
    out[start..].rotate_right(varint_len(len as u64));
}
