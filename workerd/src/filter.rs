//! The filters of one generation, compiled, and the verdict on a packet.
//!
//! A packet is forwarded when any enabled filter matches it. Without filters the no-filter policy
//! decides. BPF filters act in the capture: what reaches a worker passed them; where nothing but BPF
//! filters is in force, they are the match.

use crate::decode::{Addr, Decoded};
use crate::prefixes::{FilterIndex, Prefixes};
use lc_daemon::config::NoFilterPolicy;
use shm_layout::filters::Snapshot;
use shm_layout::wire::Priority;
use std::net::IpAddr;

/// `FilterType` numbers of the wire contract that this worker applies itself.
const IP_ADDRESS: u32 = 2;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Forwarded because filters matched; their ids go with it.
    Matched,
    /// Forwarded because BPF filters, and no others, are in force: the capture let through only what they match.
    MatchedByBpf,
    /// Forwarded by the no-filter policy.
    Passed,
    /// Kept back because no filter matched.
    NoMatch,
    /// Kept back by the no-filter policy.
    Denied,
}

impl Verdict {
    /// With which priority the packet is forwarded; `None`: it is kept back.
    #[must_use]
    #[inline]
    pub fn priority(self) -> Option<Priority> {
        match self {
            Self::Matched | Self::MatchedByBpf => Some(Priority::High),
            Self::Passed => Some(Priority::Normal),
            Self::NoMatch | Self::Denied => None,
        }
    }
}

/// A filter that can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter {id}: {pattern:?} is no IP address, CIDR prefix or a.b.* pattern")]
pub struct Refused {
    /// Id of the filter.
    pub id: String,
    /// Its pattern.
    pub pattern: String,
}

/// Compiled filters. Immutable; a change makes a new set.
#[derive(Debug)]
pub struct FilterSet {
    generation: u64,
    ids: Vec<String>,
    v4: Prefixes<u32>,
    v6: Prefixes<u128>,
    policy: NoFilterPolicy,
}

impl FilterSet {
    /// The set before the processor has told any filter.
    #[must_use]
    pub fn none(policy: NoFilterPolicy) -> Self {
        Self::compile(&Snapshot::default(), policy).0
    }

    /// Compiles the enabled filters of a snapshot. Those that can't be applied are returned; they
    /// don't count as filters, the others are in force.
    #[must_use]
    pub fn compile(snapshot: &Snapshot, policy: NoFilterPolicy) -> (Self, Vec<Refused>) {
        let (mut ids, mut v4, mut v6, mut refused) = (vec![], vec![], vec![], vec![]);
        for filter in &snapshot.filters {
            if !filter.enabled || filter.filter_type != IP_ADDRESS {
                continue;
            }
            let index = ids.len() as FilterIndex;
            match parse_pattern(&filter.pattern) {
                Some((Addr::V4(address), len)) => v4.push((address, len, index)),
                Some((Addr::V6(address), len)) => v6.push((address, len, index)),
                None => {
                    let (id, pattern) = (filter.id.clone(), filter.pattern.clone());
                    refused.push(Refused { id, pattern });
                    continue;
                }
            }
            ids.push(filter.id.clone());
        }
        let generation = snapshot.generation;
        let (v4, v6) = (Prefixes::new(v4), Prefixes::new(v6));
        (
            Self {
                generation,
                ids,
                v4,
                v6,
                policy,
            },
            refused,
        )
    }

    /// The generation of the snapshot that it was compiled from; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Judges a packet. `matched` is filled with the filters that match, source before destination,
    /// longest prefix first, without repeats. `bpf_active`: whether pushed BPF filters are in force.
    #[inline]
    pub fn judge(
        &self,
        decoded: &Decoded,
        bpf_active: bool,
        matched: &mut Vec<FilterIndex>,
    ) -> Verdict {
        matched.clear();
        if self.ids.is_empty() {
            return match self.policy {
                _ if bpf_active => Verdict::MatchedByBpf,
                NoFilterPolicy::Allow => Verdict::Passed,
                NoFilterPolicy::Deny => Verdict::Denied,
            };
        }
        if let Some((source, destination)) = decoded.addresses {
            self.collect(source, matched);
            self.collect(destination, matched);
        }
        if matched.is_empty() {
            Verdict::NoMatch
        } else {
            Verdict::Matched
        }
    }

    #[inline]
    fn collect(&self, address: Addr, matched: &mut Vec<FilterIndex>) {
        let found = |filter| {
            if !matched.contains(&filter) {
                matched.push(filter);
            }
        };
        match address {
            Addr::V4(address) => self.v4.matches(address, found),
            Addr::V6(address) => self.v6.matches(address, found),
        }
    }

    /// The id of a filter.
    #[must_use]
    #[inline]
    pub fn id(&self, filter: FilterIndex) -> &str {
        &self.ids[filter as usize]
    }
}

/// An address with its prefix length: a plain address, CIDR, or IPv4 with trailing `*` parts.
fn parse_pattern(pattern: &str) -> Option<(Addr, u8)> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use shm_layout::filters::Filter;

    fn addr(text: &str) -> Addr {
        match text.parse().unwrap() {
            IpAddr::V4(address) => Addr::V4(address.to_bits()),
            IpAddr::V6(address) => Addr::of_v6(address.to_bits()),
        }
    }

    fn compile(
        filters: &[(&str, u32, &str, bool)],
        policy: NoFilterPolicy,
    ) -> (FilterSet, Vec<Refused>) {
        let filters = filters
            .iter()
            .map(|(id, filter_type, pattern, enabled)| Filter {
                id: (*id).to_owned(),
                filter_type: *filter_type,
                pattern: (*pattern).to_owned(),
                enabled: *enabled,
            })
            .collect();
        FilterSet::compile(
            &Snapshot {
                generation: 1,
                filters,
            },
            policy,
        )
    }

    fn judge(
        set: &FilterSet,
        source: &str,
        destination: &str,
        bpf: bool,
    ) -> (Verdict, Vec<String>) {
        let addresses = Some((addr(source), addr(destination)));
        let mut matched = vec![99];
        let verdict = set.judge(
            &Decoded {
                addresses,
                ..Decoded::default()
            },
            bpf,
            &mut matched,
        );
        (
            verdict,
            matched
                .into_iter()
                .map(|filter| set.id(filter).to_owned())
                .collect(),
        )
    }

    #[test]
    fn patterns_match_as_the_table_says() {
        for (pattern, address, expected) in [
            ("192.168.1.1", "192.168.1.1", true),
            ("192.168.1.1", "192.168.1.2", false),
            ("10.0.0.0/8", "10.123.45.67", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("192.168.0.0/16", "192.168.255.255", true),
            ("192.168.0.0/16", "192.169.0.1", false),
            ("2001:db8::1", "2001:db8::1", true),
            ("::1", "::2", false),
            ("2001:db8::/32", "2001:db8:abcd::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("fe80::/10", "febf::1", true),
            ("fe80::/10", "fec0::1", false),
            ("1.2.3.4", "::ffff:1.2.3.4", true),
            ("1.2.3.0/24", "::ffff:1.2.3.9", true),
            ("::ffff:1.2.3.4", "1.2.3.4", true),
            ("::ffff:1.2.3.0/120", "1.2.3.4", true),
            ("10.1.2.3/8", "10.9.9.9", true),
            ("2001:db8::5/32", "2001:db8:ffff::1", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("::/0", "2001::1", true),
            ("::/0", "8.8.8.8", false),
            ("1.2.3.4/32", "1.2.3.4", true),
            ("2001:DB8:0:0::1", "2001:db8::1", true),
            ("192.168.*", "192.168.1.1", true),
            ("192.168.*.*", "192.169.1.1", false),
            ("*", "8.8.8.8", true),
        ] {
            let (set, refused) = compile(&[("f", 2, pattern, true)], NoFilterPolicy::Deny);
            assert_eq!(refused, [], "{pattern}");
            let (verdict, _) = judge(&set, address, "203.0.113.9", false);
            let expected = if expected {
                Verdict::Matched
            } else {
                Verdict::NoMatch
            };
            assert_eq!(verdict, expected, "{pattern} {address}");
        }
    }

    #[test]
    fn malformed_patterns_are_refused_and_do_not_count() {
        for pattern in [
            "1.2.3.4/33",
            "2001::/129",
            " 1.2.3.4",
            "010.0.0.1",
            "fe80::1%eth0",
            "bogus",
            "",
            "1.2.3.4/+8",
            "1.2.3.4/08",
            "1.2.3.4/",
            "1.*.3.*",
            "1.2.3.4.*",
            "1..*",
            "2001:*",
            "256.*",
        ] {
            let (set, refused) = compile(&[("f", 2, pattern, true)], NoFilterPolicy::Allow);
            assert_eq!(refused.len(), 1, "{pattern}");
            assert_eq!(
                judge(&set, "1.2.3.4", "1.2.3.5", false).0,
                Verdict::Passed,
                "{pattern}"
            );
        }
    }

    #[test]
    fn policy_decides_only_without_filters() {
        let disabled = [("i", 2, "1.1.1.1", false)];
        let (set, _) = compile(&disabled, NoFilterPolicy::Deny);
        assert_eq!(judge(&set, "1.1.1.1", "2.2.2.2", false).0, Verdict::Denied);
        let by_bpf = judge(&set, "1.1.1.1", "2.2.2.2", true).0;
        assert_eq!(by_bpf, Verdict::MatchedByBpf);
        assert_eq!(by_bpf.priority(), Some(Priority::High));
        let (set, _) = compile(&disabled, NoFilterPolicy::Allow);
        let by_policy = judge(&set, "1.1.1.1", "2.2.2.2", false).0;
        assert_eq!(by_policy, Verdict::Passed);
        assert_eq!(by_policy.priority(), Some(Priority::Normal));
        let (set, _) = compile(&[("i", 2, "9.9.9.9", true)], NoFilterPolicy::Allow);
        assert_eq!(judge(&set, "1.1.1.1", "2.2.2.2", true).0, Verdict::NoMatch);
    }

    #[test]
    fn all_matching_ids_are_given_once_source_first() {
        let (set, _) = compile(
            &[
                ("a", 2, "198.51.100.0/24", true),
                ("b", 2, "198.51.100.1", true),
                ("c", 2, "198.0.0.0/8", true),
                ("d", 2, "198.51.100.2", true),
                ("e", 5, "port 53", true),
            ],
            NoFilterPolicy::Deny,
        );
        let (verdict, ids) = judge(&set, "198.51.100.1", "198.51.100.2", false);
        assert_eq!(
            (verdict, ids),
            (
                Verdict::Matched,
                ["b", "a", "c", "d"].map(str::to_owned).to_vec()
            )
        );
        let set = FilterSet::none(NoFilterPolicy::Deny);
        assert_eq!(
            (set.generation(), judge(&set, "::1", "::2", false).0),
            (0, Verdict::Denied)
        );
    }

    #[test]
    fn a_packet_without_addresses_matches_no_filter() {
        let (set, _) = compile(&[("i", 2, "0.0.0.0/0", true)], NoFilterPolicy::Allow);
        assert_eq!(
            set.judge(&Decoded::default(), false, &mut vec![]),
            Verdict::NoMatch
        );
    }
}
