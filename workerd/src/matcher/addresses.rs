//! Address filters: what a pattern means, and all of them compiled.

use super::FilterIndex;
use super::prefixes::Prefixes;
use crate::decode::Addr;
use std::net::IpAddr;

/// The compiled address filters.
#[derive(Debug)]
pub struct Addresses {
    v4: Prefixes<u32>,
    v6: Prefixes<u128>,
}

/// Collects address filters.
#[derive(Debug, Default)]
pub struct AddressPatterns(Vec<(Addr, u8, bool, FilterIndex)>);

impl AddressPatterns {
    /// Adds a filter. False if the pattern is no address, prefix or `a.b.*` pattern.
    pub fn add(&mut self, pattern: &str, filter: FilterIndex) -> bool {
        let Some((address, len)) = parse(pattern) else {
            return false;
        };
        self.0
            .push((address, len, pattern.contains(['/', '*']), filter));
        true
    }

    /// Compiles them. Of filters for the same addresses, plain addresses are found before prefixes, and later ones first.
    #[must_use]
    pub fn compile(mut self) -> Addresses {
        self.0
            .sort_by_key(|(_, _, is_prefix, filter)| (*is_prefix, std::cmp::Reverse(*filter)));
        let (mut v4, mut v6) = (vec![], vec![]);
        for (address, len, _, filter) in self.0 {
            match address {
                Addr::V4(address) => v4.push((address, len, filter)),
                Addr::V6(address) => v6.push((address, len, filter)),
            }
        }
        Addresses {
            v4: Prefixes::new(v4),
            v6: Prefixes::new(v6),
        }
    }
}

impl Addresses {
    /// Calls `found` for every filter that matches `address`, longest prefix first.
    #[inline]
    pub fn search(&self, address: Addr, found: impl FnMut(FilterIndex)) {
        match address {
            Addr::V4(address) => self.v4.matches(address, found),
            Addr::V6(address) => self.v6.matches(address, found),
        }
    }

    /// Bytes of memory that they take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.v4.bytes() + self.v6.bytes()
    }
}

/// An address with its prefix length: a plain address, CIDR, or IPv4 with trailing `*` parts.
fn parse(pattern: &str) -> Option<(Addr, u8)> {
    if let Some((address, len)) = pattern.split_once('/') {
        // "+8" and "08" are numbers to Rust, but no prefix length.
        let plain = !len.starts_with('+') && (len == "0" || !len.starts_with('0'));
        let len: u8 = len.parse().ok().filter(|_| plain)?;
        return match address.parse().ok()? {
            IpAddr::V4(address) if len <= 32 => Some((Addr::V4(address.to_bits()), len)),
            IpAddr::V6(address) if len <= 128 => {
                match (Addr::of_v6(address.to_bits()), len.checked_sub(96)) {
                    (Addr::V4(mapped), Some(len)) => Some((Addr::V4(mapped), len)),
                    _ => Some((Addr::V6(address.to_bits()), len)),
                }
            }
            _ => None,
        };
    }
    if pattern.contains('*') {
        return parse_wildcard(pattern);
    }
    match pattern.parse().ok()? {
        IpAddr::V4(address) => Some((Addr::V4(address.to_bits()), 32)),
        IpAddr::V6(address) => match Addr::of_v6(address.to_bits()) {
            Addr::V4(address) => Some((Addr::V4(address), 32)),
            address => Some((address, 128)),
        },
    }
}

/// `10.1.*` or `10.1.*.*`: the stars stand for the rest of the address.
fn parse_wildcard(pattern: &str) -> Option<(Addr, u8)> {
    let parts: Vec<_> = pattern.split('.').collect();
    let fixed = parts.iter().position(|part| *part == "*")?;
    if parts.len() > 4 || parts[fixed..].iter().any(|part| *part != "*") {
        return None;
    }
    let mut address = parts[..fixed].join(".");
    address.push_str(&".0".repeat(4 - fixed));
    let address: std::net::Ipv4Addr = address.trim_start_matches('.').parse().ok()?;
    Some((Addr::V4(address.to_bits()), 8 * fixed as u8))
}
