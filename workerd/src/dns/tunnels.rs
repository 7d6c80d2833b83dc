//! How much the queries for a domain look like a tunnel: the reference's score, of queries alone.
//!
//! For each base domain is kept what its queries had in common: how many they were, how long, how many distinct subdomains, how random these look, how many asked for TXT or NULL. The score of a
//! message is the sum of five shares:
//!
//! | share | of | grows with |
//! |---|---|---|
//! | 0.30 | this name | its entropy, from 3.5 bits to 4.5 |
//! | 0.25 | the domain | distinct subdomains, from 11 to 100 |
//! | 0.20 | the domain | queries with a subdomain of at least 20 bytes and 3.5 bits, of those with a subdomain |
//! | 0.15 | the domain | queries for TXT and NULL |
//! | 0.10 | the domain | the mean length of names, from 50 bytes to 150 |
//!
//! Responses are scored by what is known, and change nothing. What differs from the reference: it counts responses as well, and never NULL.
//!
//! **Bounds.** [`MOST_DOMAINS`] domains, the one that was silent for longest gives way; [`MOST_SUBDOMAINS`] of each are told apart, which is where the share ends. Domains and subdomains are known by
//! keyed hashes of 64 bits. A message costs one look-up and at most a walk over one domain's subdomains.

use hashbrown::HashTable;

use super::codes::kind;
use super::entropy::Entropy;
use crate::keyed_hash::KeyedHash;

/// Domains that are remembered.
pub const MOST_DOMAINS: usize = 5000;
/// Subdomains of a domain that are told apart.
pub const MOST_SUBDOMAINS: usize = 100;
/// A domain that was silent for longer begins anew, in nanoseconds.
pub const SILENCE_NS: u64 = 3_600_000_000_000;

const RANDOM_BITS: f64 = 3.5;
const LONG_SUBDOMAIN: usize = 20;

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Score {
    /// How much it looks like a tunnel, 0 to 1.
    pub tunneling: f64,
    /// Entropy of the name, in bits per character.
    pub entropy: f64,
    /// What is conspicuous about its domain.
    pub signs: Signs,
}

/// What is conspicuous about the queries for a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signs {
    /// More than 50 subdomains.
    pub many_subdomains: bool,
    /// Random subdomains in more than half of the queries that have one.
    pub high_entropy: bool,
    /// TXT in more than a quarter of the queries.
    pub txt_heavy: bool,
    /// More than 80 bytes on average.
    pub long_queries: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Tunnels {
    hash: KeyedHash,
    entropy: Entropy,
    places: HashTable<u32>,
    domains: Vec<Domain>,
    /// [`MOST_SUBDOMAINS`] of each domain.
    subdomains: Vec<u64>,
    /// The domains that were asked for last and first.
    newest: u32,
    oldest: u32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Domain {
    key: u64,
    seen_ns: u64,
    queries: u64,
    /// Of the names, in all.
    bytes: u64,
    with_subdomain: u64,
    with_random: u64,
    for_txt: u64,
    for_null: u64,
    subdomains: u32,
    newer: u32,
    older: u32,
}

const NONE: u32 = u32::MAX;

impl Tunnels {
    /// Nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hash: KeyedHash::random(),
            entropy: Entropy::new(),
            places: HashTable::with_capacity(MOST_DOMAINS),
            domains: Vec::with_capacity(MOST_DOMAINS),
            subdomains: vec![0; MOST_DOMAINS * MOST_SUBDOMAINS],
            newest: NONE,
            oldest: NONE,
        }
    }

    /// Takes in a query for `name`, which is in lower case, and scores it.
    pub fn query(&mut self, name: &[u8], kind: u16, time_ns: u64) -> Score {
        let (subdomain, base) = split(name);
        let entropy = self.entropy.of(name);
        let is_random =
            subdomain.len() >= LONG_SUBDOMAIN && self.entropy.of(subdomain) >= RANDOM_BITS;
        let key = self.hash.of(base);
        let place = match self.find(key, time_ns) {
            Some(place) => place,
            None => self.begin(key),
        };
        self.touch(place);
        let domain = &mut self.domains[place as usize];
        domain.seen_ns = time_ns;
        domain.queries += 1;
        domain.bytes += name.len() as u64;
        domain.with_subdomain += u64::from(!subdomain.is_empty());
        domain.with_random += u64::from(is_random);
        domain.for_txt += u64::from(kind == kind::TXT);
        domain.for_null += u64::from(kind == kind::NULL);
        if !subdomain.is_empty() {
            let key = self.hash.of(subdomain);
            let start = place as usize * MOST_SUBDOMAINS;
            let subdomains = &mut self.subdomains[start..start + MOST_SUBDOMAINS];
            domain.remember(subdomains, key);
        }
        domain.score(entropy)
    }

    /// Scores `name`, which is in lower case, by what is known.
    pub fn response(&mut self, name: &[u8], time_ns: u64) -> Score {
        let entropy = self.entropy.of(name);
        let key = self.hash.of(split(name).1);
        match self.find(key, time_ns) {
            Some(place) => self.domains[place as usize].score(entropy),
            None => Domain::default().score(entropy),
        }
    }

    /// The domain, unless it was silent for too long: then it is empty.
    fn find(&mut self, key: u64, time_ns: u64) -> Option<u32> {
        let domains = &mut self.domains;
        let is = |place: &u32| domains[*place as usize].key == key;
        let place = *self.places.find(key, is)?;
        let domain = &mut domains[place as usize];
        if time_ns.saturating_sub(domain.seen_ns) > SILENCE_NS {
            domain.forget(key);
        }
        Some(place)
    }

    /// A new domain, in the place of the oldest if there is no room.
    fn begin(&mut self, key: u64) -> u32 {
        let place = if self.domains.len() < MOST_DOMAINS {
            self.domains.push(Domain {
                newer: NONE,
                older: NONE,
                ..Domain::default()
            });
            self.domains.len() as u32 - 1
        } else {
            let oldest = self.oldest;
            let old = self.domains[oldest as usize].key;
            if let Ok(found) = self.places.find_entry(old, |place| *place == oldest) {
                found.remove();
            }
            oldest
        };
        self.domains[place as usize].forget(key);
        let domains = &self.domains;
        self.places
            .insert_unique(key, place, |place| domains[*place as usize].key);
        place
    }

    /// Makes it the newest.
    fn touch(&mut self, place: u32) {
        if self.newest == place {
            return;
        }
        let Domain { newer, older, .. } = self.domains[place as usize];
        match newer {
            NONE => {}
            newer => self.domains[newer as usize].older = older,
        }
        match older {
            NONE if self.oldest == place => self.oldest = newer,
            NONE => {}
            older => self.domains[older as usize].newer = newer,
        }
        let before = std::mem::replace(&mut self.newest, place);
        match before {
            NONE => self.oldest = place,
            before => self.domains[before as usize].newer = place,
        }
        let domain = &mut self.domains[place as usize];
        (domain.newer, domain.older) = (NONE, before);
    }
}

impl Default for Tunnels {
    fn default() -> Self {
        Self::new()
    }
}

impl Domain {
    /// Begins anew.
    fn forget(&mut self, key: u64) {
        *self = Self {
            key,
            newer: self.newer,
            older: self.older,
            ..Self::default()
        };
    }

    fn remember(&mut self, subdomains: &mut [u64], key: u64) {
        let known = self.subdomains as usize;
        if known < subdomains.len() && !subdomains[..known].contains(&key) {
            subdomains[known] = key;
            self.subdomains += 1;
        }
    }

    fn score(&self, entropy: f64) -> Score {
        let [queries, bytes, with_subdomain, with_random] = [
            self.queries,
            self.bytes,
            self.with_subdomain,
            self.with_random,
        ]
        .map(|number| number as f64);
        let subdomains = f64::from(self.subdomains);
        let for_data = (self.for_txt + self.for_null) as f64;
        let length = share(bytes, queries);
        let mut sum = 0.0;
        if entropy >= RANDOM_BITS {
            sum += 0.30 * (entropy - RANDOM_BITS).min(1.0);
        }
        if subdomains > 10.0 {
            sum += 0.25 * (subdomains / MOST_SUBDOMAINS as f64).min(1.0);
        }
        sum += 0.20 * share(with_random, with_subdomain);
        sum += 0.15 * share(for_data, queries);
        if length > 50.0 {
            sum += 0.10 * ((length - 50.0) / 100.0).min(1.0);
        }
        Score {
            tunneling: sum.min(1.0),
            entropy,
            signs: Signs {
                many_subdomains: self.subdomains > 50,
                high_entropy: self.with_random * 2 > self.with_subdomain,
                txt_heavy: self.for_txt * 4 > self.queries,
                long_queries: length > 80.0,
            },
        }
    }
}

impl Signs {
    /// Their names.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (self.many_subdomains, "many_subdomains"),
            (self.high_entropy, "high_entropy"),
            (self.txt_heavy, "txt_heavy"),
            (self.long_queries, "long_queries"),
        ]
        .into_iter()
        .filter_map(|(is_there, name)| is_there.then_some(name))
    }
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// Second-level domains under which names are registered.
const REGISTRIES: [&[u8]; 15] = [
    b"co.uk", b"org.uk", b"ac.uk", b"gov.uk", b"com.au", b"org.au", b"net.au", b"edu.au", b"co.nz",
    b"org.nz", b"net.nz", b"co.jp", b"or.jp", b"ne.jp", b"ac.jp",
];

/// Subdomain and base domain.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    let dot = |end: usize| memchr::memrchr(b'.', &name[..end]);
    let Some(second) = dot(name.len()).and_then(dot) else {
        return (b"", name);
    };
    let base = match REGISTRIES.contains(&&name[second + 1..]) {
        true => dot(second),
        false => Some(second),
    };
    match base {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (b"", name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_split_where_they_are_registered() {
        for (name, subdomain, base) in [
            ("www.example.com", "www", "example.com"),
            ("example.com", "", "example.com"),
            ("localhost", "", "localhost"),
            ("a.b.shop.co.uk", "a.b", "shop.co.uk"),
            ("shop.co.uk", "", "shop.co.uk"),
            ("co.uk", "", "co.uk"),
            ("a.b.gov.au", "a.b", "gov.au"),
            ("", "", ""),
            ("..", "", "."),
        ] {
            let (own, other) = split(name.as_bytes());
            assert_eq!(
                (own, other),
                (subdomain.as_bytes(), base.as_bytes()),
                "{name}"
            );
        }
    }

    #[test]
    fn responses_change_nothing() {
        let mut tunnels = Tunnels::new();
        let name = "aGVsbG93b3JsZHRoaXNpc2F0ZXN0.suspicious.example.com".to_lowercase();
        let alone = tunnels.response(name.as_bytes(), 0);
        assert_eq!(tunnels.response(name.as_bytes(), 0), alone);
        let first = tunnels.query(name.as_bytes(), kind::TXT, 0);
        for _ in 0..9 {
            assert_eq!(tunnels.response(name.as_bytes(), 0), first);
        }
    }

    #[test]
    fn a_domain_that_was_silent_for_an_hour_begins_anew() {
        let mut tunnels = Tunnels::new();
        let first = tunnels.query(b"a.example.com", kind::TXT, 1);
        tunnels.query(b"b.example.com", kind::A, SILENCE_NS + 1);
        let third = tunnels.query(b"a.example.com", kind::TXT, 3 * SILENCE_NS);
        assert_eq!(first, third);
    }

    #[test]
    fn the_domain_that_was_silent_for_longest_gives_way() {
        let mut tunnels = Tunnels::new();
        let name = |n: usize| format!("x.d{n}.example");
        let mut ask = |n: usize| tunnels.query(name(n).as_bytes(), kind::TXT, 0).tunneling;
        let fresh = ask(0);
        // Base domains `d0.example` and so on.
        (1..MOST_DOMAINS).for_each(|n| _ = ask(n));
        ask(0);
        ask(MOST_DOMAINS);
        assert_eq!(tunnels.domains.len(), MOST_DOMAINS);
        let queries = |n: usize| {
            let key = tunnels.hash.of(split(name(n).as_bytes()).1);
            let is = |place: &&u32| tunnels.domains[**place as usize].key == key;
            let place = tunnels.places.iter().find(is);
            place.map(|place| tunnels.domains[*place as usize].queries)
        };
        assert_eq!((queries(0), queries(1)), (Some(2), None));
        assert_eq!((queries(2), queries(MOST_DOMAINS)), (Some(1), Some(1)));
        assert!(fresh > 0.0);
    }

    proptest! {
        /// What a simple model keeps.
        #[test]
        fn the_order_of_domains_is_that_of_their_queries(names in prop::collection::vec(0..30_u32, 1..200)) {
            let mut tunnels = Tunnels::new();
            let mut model: Vec<u32> = Vec::new();
            for name in names {
                tunnels.query(format!("a.d{name}.example").as_bytes(), kind::A, 0);
                model.retain(|other| *other != name);
                model.push(name);
            }
            let (mut place, mut order) = (tunnels.oldest, Vec::new());
            while place != NONE {
                let key = tunnels.domains[place as usize].key;
                let name = (0..30).find(|name| tunnels.hash.of(format!("d{name}.example").as_bytes()) == key);
                order.extend(name);
                place = tunnels.domains[place as usize].newer;
            }
            prop_assert_eq!(order, model);
        }

        #[test]
        fn any_names_are_scored(names in prop::collection::vec(".{0,80}", 0..50), kind: u16, time: u64) {
            let mut tunnels = Tunnels::new();
            for name in names {
                let score = tunnels.query(name.to_lowercase().as_bytes(), kind, time);
                prop_assert!((0.0..=1.0).contains(&score.tunneling));
            }
        }
    }
}
