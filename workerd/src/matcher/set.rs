//! The filters of one generation, compiled, and the verdict on a packet.
//!
//! A packet is forwarded when any enabled filter matches it. Without filters the no-filter policy
//! decides. BPF filters act in the capture: what reaches a worker passed them; where nothing but BPF
//! filters is in force, they are the match.

use super::FilterIndex;
use super::addresses::{AddressPatterns, Addresses};
use super::digits::{SHORTEST, is_number, push_digits};
use super::fields::{Fields, Kind, Kinds};
use super::hits::{Hit, Matches, Rank};
use super::pattern::Pattern;
use super::refused::{Reason, Refused};
use super::texts::{Scratch, Texts};
use crate::decode::{Addr, Decoded};
use lc_daemon::config::NoFilterPolicy;
use lc_proto::management::FilterType;
use shm_layout::filters::{Filter, Snapshot};
use shm_layout::wire::Priority;

/// Most bytes of all patterns together.
pub const MOST_TEXT_BYTES: usize = 64 << 20;
/// Most bytes of the patterns that go into automata: each byte can become a state.
pub const MOST_NEEDLE_BYTES: usize = 4 << 20;

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

/// The filters in force.
#[derive(Debug, Clone, Copy)]
pub struct Judge<'a> {
    /// The compiled filters.
    pub filters: &'a FilterSet,
    /// Whether pushed BPF filters act in the capture.
    pub bpf_active: bool,
}

/// Compiled filters. Immutable; a change makes a new set.
#[derive(Debug)]
pub struct FilterSet {
    generation: u64,
    policy: NoFilterPolicy,
    ids: Ids,
    addresses: Addresses,
    /// In the order of [`Kind::ALL`].
    texts: Vec<Texts>,
    /// Patterns that are compared with the digits of a SIP user.
    numbers: Texts,
    wanted: Kinds,
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
        let mut patterns = Patterns::default();
        let mut refused = Vec::new();
        let mut accepted: Vec<&Filter> = Vec::new();
        for filter in snapshot.filters.iter().filter(|filter| filter.enabled) {
            match patterns.add(filter, accepted.len() as FilterIndex) {
                Ok(true) => accepted.push(filter),
                Ok(false) => {}
                Err(reason) => refused.push(Refused::new(filter, reason)),
            }
        }
        let mut ids = Ids::default();
        accepted.iter().for_each(|filter| ids.push(&filter.id));
        let texts: Vec<_> = patterns.texts.into_iter().map(Texts::new).collect();
        let numbers = Texts::new(patterns.numbers);
        let mut wanted = Kinds::NONE;
        for (kind, texts) in Kind::ALL.iter().zip(&texts) {
            if !texts.is_empty() || *kind == Kind::SipUser && !numbers.is_empty() {
                wanted.insert(*kind);
            }
        }
        let set = Self {
            generation: snapshot.generation,
            policy,
            ids,
            addresses: patterns.addresses.compile(),
            texts,
            numbers,
            wanted,
        };
        (set, refused)
    }

    /// The generation of the snapshot that it was compiled from; 0 before the first.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The kinds of fields that any filter is compared with: no others need to be extracted.
    #[must_use]
    #[inline]
    pub fn wanted(&self) -> Kinds {
        self.wanted
    }

    /// Bytes of memory that the set takes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.ids.bytes()
            + self.addresses.bytes()
            + self.numbers.bytes()
            + self.texts.iter().map(Texts::bytes).sum::<usize>()
    }

    /// Judges a packet by its addresses, inside and outside of tunnels, and the fields extracted from it. `matches` tells the filters that match. `bpf_active`: whether
    /// pushed BPF filters are in force.
    #[inline]
    pub fn judge(
        &self,
        decoded: &Decoded,
        fields: &Fields,
        bpf_active: bool,
        matches: &mut Matches,
    ) -> Verdict {
        matches.clear();
        if self.ids.is_empty() {
            return match self.policy {
                _ if bpf_active => Verdict::MatchedByBpf,
                NoFilterPolicy::Allow => Verdict::Passed,
                NoFilterPolicy::Deny => Verdict::Denied,
            };
        }
        if let Some(addresses) = decoded.addresses {
            self.search_addresses(0, addresses, matches);
        }
        if let Some(addresses) = decoded.outer {
            self.search_addresses(2, addresses, matches);
        }
        if !fields.is_empty() {
            self.search(fields, matches);
        }
        if matches.hits.is_empty() {
            return Verdict::NoMatch;
        }
        matches.order();
        Verdict::Matched
    }

    /// Compares source and destination, which are fields number `first` and the one behind it.
    #[inline]
    fn search_addresses(&self, first: u32, addresses: (Addr, Addr), matches: &mut Matches) {
        let (source, destination) = addresses;
        for (field, address) in [(first, source), (first + 1, destination)] {
            let mut ordinal = 0;
            self.addresses.search(address, |filter| {
                let rank = Rank::address(field, ordinal);
                ordinal += 1;
                matches.push(Hit {
                    packet: 0,
                    rank,
                    filter,
                });
            });
        }
    }

    /// Compares the fields of a batch of packets, and adds what matches to the hits.
    pub fn search(&self, fields: &Fields, matches: &mut Matches) {
        let mut scratch = std::mem::take(&mut matches.scratch);
        for (field, (packet, kind, text)) in (0..).zip(fields.iter()) {
            self.texts[kind as usize].search(text, &mut scratch);
            let last = scratch.found.last().copied();
            for filter in &scratch.found {
                // The reference keeps one filter for each fingerprint or identity: the last.
                let hidden = is_one_for_all(kind) && Some(*filter) != last;
                let rank = Rank::field(kind, hidden, field, *filter);
                matches.push(Hit {
                    packet,
                    rank,
                    filter: *filter,
                });
            }
            if kind == Kind::SipUser && !self.numbers.is_empty() {
                self.search_number(packet, field, text, &mut scratch, matches);
            }
        }
        matches.scratch = scratch;
    }

    fn search_number(
        &self,
        packet: u32,
        field: u32,
        user: &[u8],
        scratch: &mut Scratch,
        matches: &mut Matches,
    ) {
        let mut digits = std::mem::take(&mut matches.digits);
        digits.clear();
        push_digits(&mut digits, user);
        self.numbers.search(&digits, scratch);
        let longest = self.numbers.longest_end(&digits);
        for filter in &scratch.found {
            let rank = Rank::number(Some(*filter) != longest, field, *filter);
            matches.push(Hit {
                packet,
                rank,
                filter: *filter,
            });
        }
        matches.digits = digits;
    }

    /// The id of a filter.
    #[must_use]
    #[inline]
    pub fn id(&self, filter: FilterIndex) -> &str {
        self.ids.get(filter)
    }
}

/// Whether the reference reports one filter for a value, whatever the number of those that have it.
fn is_one_for_all(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::TlsJa3 | Kind::TlsJa3s | Kind::TlsJa4 | Kind::Imsi | Kind::Imei
    )
}

/// The patterns of a set, on the way into it.
struct Patterns {
    addresses: AddressPatterns,
    texts: Vec<Vec<(Pattern, FilterIndex)>>,
    numbers: Vec<(Pattern, FilterIndex)>,
    text_bytes: usize,
    needle_bytes: usize,
}

impl Default for Patterns {
    fn default() -> Self {
        Self {
            addresses: AddressPatterns::default(),
            texts: Kind::ALL.iter().map(|_| Vec::new()).collect(),
            numbers: Vec::new(),
            text_bytes: 0,
            needle_bytes: 0,
        }
    }
}

impl Patterns {
    /// Takes filter number `index`. False: it acts elsewhere, and has no number here.
    fn add(&mut self, filter: &Filter, index: FilterIndex) -> Result<bool, Reason> {
        let pattern = filter.pattern.as_str();
        let number = i32::try_from(filter.filter_type).map_err(|_| Reason::UnknownType)?;
        let (kind, compiled) =
            match FilterType::try_from(number).map_err(|_| Reason::UnknownType)? {
                FilterType::FilterBpf => return Ok(false),
                FilterType::FilterIpAddress => {
                    let added = self.addresses.add(pattern, index);
                    return added.then_some(true).ok_or(Reason::NoAddress);
                }
                FilterType::FilterPhoneNumber => return self.add_phone_number(pattern, index),
                FilterType::FilterSipUser => (Kind::SipUser, Pattern::affix(pattern)),
                FilterType::FilterSipUri => (Kind::SipUri, Pattern::affix(pattern)),
                FilterType::FilterCallId => (Kind::CallId, Pattern::glob(pattern)),
                FilterType::FilterCodec => (Kind::Codec, Pattern::glob(pattern)),
                FilterType::FilterDnsDomain => (Kind::DnsName, Pattern::glob(pattern)),
                FilterType::FilterEmailAddress => (Kind::EmailAddress, Pattern::glob(pattern)),
                FilterType::FilterEmailSubject => (Kind::EmailSubject, Pattern::glob(pattern)),
                FilterType::FilterTlsSni => (Kind::TlsSni, Pattern::glob(pattern)),
                FilterType::FilterHttpHost => (Kind::HttpHost, Pattern::glob(pattern)),
                FilterType::FilterHttpUrl => (Kind::HttpUrl, Pattern::glob(pattern)),
                FilterType::FilterTlsJa3 => (Kind::TlsJa3, ja3(pattern)?),
                FilterType::FilterTlsJa3s => (Kind::TlsJa3s, ja3(pattern)?),
                FilterType::FilterTlsJa4 => (Kind::TlsJa4, ja4(pattern)?),
                FilterType::FilterImsi => (Kind::Imsi, imsi(pattern)?),
                FilterType::FilterImei => (Kind::Imei, imei(pattern)?),
            };
        self.reserve(&compiled)?;
        self.texts[kind as usize].push((compiled, index));
        Ok(true)
    }

    /// Digits alone are the end of a number; between stars they are a part of it. Everything else is compared with the user as text.
    fn add_phone_number(&mut self, pattern: &str, index: FilterIndex) -> Result<bool, Reason> {
        let mut compiled = Pattern::affix(pattern);
        self.reserve(&compiled)?;
        let anywhere = compiled.open_start && compiled.open_end;
        match compiled.parts.first() {
            Some(text) if anywhere && is_number(text) => {
                let between_stars = pattern.starts_with('*');
                compiled.open_end = between_stars;
                // The reference keeps shorter ones, too, without ever comparing them.
                if between_stars || text.len() >= SHORTEST {
                    self.numbers.push((compiled, index));
                }
            }
            _ => self.texts[Kind::SipUser as usize].push((compiled, index)),
        }
        Ok(true)
    }

    fn reserve(&mut self, pattern: &Pattern) -> Result<(), Reason> {
        let bytes: usize = pattern.parts.iter().map(Vec::len).sum();
        let is_needle = pattern.open_start && pattern.open_end || pattern.parts.len() > 1;
        let text_bytes = self.text_bytes + bytes;
        let needle_bytes = self.needle_bytes + if is_needle { bytes } else { 0 };
        if text_bytes > MOST_TEXT_BYTES || needle_bytes > MOST_NEEDLE_BYTES {
            return Err(Reason::NoRoom);
        }
        (self.text_bytes, self.needle_bytes) = (text_bytes, needle_bytes);
        Ok(())
    }
}

fn ja3(pattern: &str) -> Result<Pattern, Reason> {
    let text = pattern.trim();
    let is_ja3 = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_ja3
        .then(|| Pattern::exactly(text.as_bytes()))
        .ok_or(Reason::NoJa3)
}

fn ja4(pattern: &str) -> Result<Pattern, Reason> {
    let text = pattern.trim().as_bytes();
    let mut parts = text.split(|byte| *byte == b'_');
    let is_lower = |byte: &u8| byte.is_ascii_digit() || byte.is_ascii_lowercase();
    let is_hash = |part: &[u8]| {
        let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        part.len() == 12 && part.iter().all(is_hex)
    };
    let is_ja4 = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (
            Some([b't' | b'q' | b'd', b'0' | b'1', rest @ ..]),
            Some(ciphers),
            Some(extensions),
            None,
        ) => {
            !rest.is_empty() && rest.iter().all(is_lower) && is_hash(ciphers) && is_hash(extensions)
        }
        _ => false,
    };
    is_ja4.then(|| Pattern::exactly(text)).ok_or(Reason::NoJa4)
}

fn imsi(pattern: &str) -> Result<Pattern, Reason> {
    let digits = digits_of(pattern);
    match digits.len() {
        15 => Ok(Pattern::exactly(&digits)),
        _ => Err(Reason::NoImsi),
    }
}

/// The check digit is left out: phones send it, or 0 in its place (3GPP TS 23.003, 6.2.1).
fn imei(pattern: &str) -> Result<Pattern, Reason> {
    let digits = digits_of(pattern);
    match digits.len() {
        14 | 15 => Ok(Pattern::exactly(&digits[..14])),
        _ => Err(Reason::NoImei),
    }
}

fn digits_of(pattern: &str) -> Vec<u8> {
    pattern.bytes().filter(u8::is_ascii_digit).collect()
}

/// Ids in one piece of memory.
#[derive(Debug, Default)]
struct Ids {
    text: String,
    ends: Vec<usize>,
}

impl Ids {
    fn push(&mut self, id: &str) {
        self.text.push_str(id);
        self.ends.push(self.text.len());
    }

    fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn get(&self, filter: FilterIndex) -> &str {
        let filter = filter as usize;
        let start = filter.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[filter]]
    }

    fn bytes(&self) -> usize {
        self.text.capacity() + self.ends.capacity() * size_of::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Addr;
    use shm_layout::filters::Filter;
    use std::net::IpAddr;

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
        let mut matches = Matches::default();
        let verdict = set.judge(
            &Decoded {
                addresses,
                ..Decoded::default()
            },
            &Fields::default(),
            bpf,
            &mut matches,
        );
        (
            verdict,
            matches
                .filters()
                .iter()
                .map(|filter| set.id(*filter).to_owned())
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
    fn all_matching_ids_are_given_once_those_that_the_reference_gives_first() {
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
                ["b", "d", "a", "c"].map(str::to_owned).to_vec()
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
            set.judge(
                &Decoded::default(),
                &Fields::default(),
                false,
                &mut Matches::default()
            ),
            Verdict::NoMatch
        );
    }
}
