//! IP addresses as text, without allocation.

use crate::decode::Addr;
use std::fmt::Write;
use std::net::Ipv6Addr;

/// Longest text of an address (RFC 4291 section 2.2 with an IPv4 tail).
const LONGEST: usize = 45;

/// The text of one address.
#[derive(Debug, Clone, Copy)]
pub struct AddressText {
    bytes: [u8; LONGEST],
    len: u8,
}

impl AddressText {
    /// Writes an address: IPv4 in dotted form, IPv6 by RFC 5952.
    #[must_use]
    #[inline]
    pub fn new(address: Addr) -> Self {
        let mut text = Self {
            bytes: [0; LONGEST],
            len: 0,
        };
        match address {
            Addr::V4(address) => text.dotted(address.to_be_bytes()),
            Addr::V6(address) => text.groups(address),
        }
        text
    }

    /// The text.
    #[must_use]
    #[inline]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).unwrap_or_default()
    }

    #[inline]
    fn dotted(&mut self, parts: [u8; 4]) {
        for (n, part) in parts.into_iter().enumerate() {
            if n > 0 {
                self.push(b'.');
            }
            if part >= 100 {
                self.push(b'0' + part / 100);
            }
            if part >= 10 {
                self.push(b'0' + part / 10 % 10);
            }
            self.push(b'0' + part % 10);
        }
    }

    /// By hand: the formatter of the standard library takes several times as long.
    fn groups(&mut self, address: u128) {
        if address >> 32 == 0xffff {
            // An address is shorter than the buffer, so that writing can't fail.
            let _ = write!(self, "{}", Ipv6Addr::from_bits(address));
            return;
        }
        let groups = Ipv6Addr::from_bits(address).segments();
        let (gap, gap_len) = longest_gap(&groups);
        let mut at = 0;
        while at < groups.len() {
            if at == gap && gap_len > 1 {
                self.push(b':');
                self.push(b':');
                at += gap_len;
                continue;
            }
            if at > 0 && self.bytes[usize::from(self.len) - 1] != b':' {
                self.push(b':');
            }
            self.hexadecimal(groups[at]);
            at += 1;
        }
    }

    #[inline]
    fn hexadecimal(&mut self, group: u16) {
        let digits = (u16::BITS - (group | 1).leading_zeros()).div_ceil(4);
        for digit in (0..digits).rev() {
            let value = (group >> (4 * digit)) as u8 & 15;
            self.push(b"0123456789abcdef"[usize::from(value)]);
        }
    }

    #[inline]
    fn push(&mut self, byte: u8) {
        self.bytes[usize::from(self.len)] = byte;
        self.len += 1;
    }
}

/// Start and length of the longest run of zeros, the first of those that are equal (RFC 5952 section 4.2).
fn longest_gap(groups: &[u16; 8]) -> (usize, usize) {
    let (mut longest, mut len) = ((0, 0), 0);
    for (at, group) in groups.iter().enumerate() {
        len = if *group == 0 { len + 1 } else { 0 };
        if len > longest.1 {
            longest = (at + 1 - len, len);
        }
    }
    longest
}

impl Write for AddressText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let start = usize::from(self.len);
        let room = self
            .bytes
            .get_mut(start..start + text.len())
            .ok_or(std::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len() as u8;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    proptest! {
        #[test]
        fn text_is_that_of_the_standard_library(v4: u32, v6: u128) {
            let text = AddressText::new(Addr::V4(v4));
            prop_assert_eq!(text.as_str(), Ipv4Addr::from_bits(v4).to_string());
            let text = AddressText::new(Addr::V6(v6));
            prop_assert_eq!(text.as_str(), Ipv6Addr::from_bits(v6).to_string());
        }

        #[test]
        fn zeros_are_cut_as_in_the_standard_library(groups in prop::array::uniform8(0_u16..3)) {
            let address = Ipv6Addr::from(groups);
            let text = AddressText::new(Addr::V6(address.to_bits()));
            prop_assert_eq!(text.as_str(), address.to_string());
        }
    }

    #[test]
    fn the_longest_text_fits() {
        let address = u128::MAX;
        assert_eq!(
            AddressText::new(Addr::V6(address)).as_str(),
            ["ffff"; 8].join(":")
        );
        let mapped = 0xffff_u128 << 32 | 0xffff_ffff;
        assert_eq!(
            AddressText::new(Addr::V6(mapped)).as_str(),
            "::ffff:255.255.255.255"
        );
    }
}
