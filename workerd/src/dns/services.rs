//! Services whose names look like tunnels and are none: they put hashes, addresses or sessions into them.
//!
//! Names at and below these domains are not scored, if the operator leaves that switched on. Whoever controls such a domain could hide a tunnel in it; the
//! domains here sell names below them to nobody.

use hashbrown::HashTable;

use crate::keyed_hash::KeyedHash;

/// Content delivery, block lists, reputation and update services, telemetry, reverse look-ups, service discovery.
const KNOWN: [&str; 62] = [
    // Content delivery.
    "1e100.net",
    "aaplimg.com",
    "akadns.net",
    "akagtm.org",
    "akahost.net",
    "akam.net",
    "akamai.net",
    "akamaiedge.net",
    "akamaihd.net",
    "akamaized.net",
    "apple-dns.net",
    "azurefd.net",
    "b-cdn.net",
    "cdn77.org",
    "cdngc.net",
    "cloudflare.net",
    "edgekey.net",
    "edgesuite.net",
    "fastly.net",
    "fastlylb.net",
    "fbcdn.net",
    "footprint.net",
    "googlevideo.com",
    "gvt1.com",
    "gvt2.com",
    "llnwd.net",
    "msedge.net",
    "nflxvideo.net",
    "trafficmanager.net",
    "ttvnw.net",
    // Block lists.
    "abuseat.org",
    "barracudacentral.org",
    "dnswl.org",
    "invaluement.com",
    "mailspike.net",
    "manitu.net",
    "sorbs.net",
    "spamcop.net",
    "spamhaus.net",
    "spamhaus.org",
    "surbl.org",
    "uceprotect.net",
    "uribl.com",
    // Reputation and updates.
    "avast.com",
    "avqs.mcafee.com",
    "avts.mcafee.com",
    "bitdefender.net",
    "cymru.com",
    "e5.sk",
    "eset.com",
    "kaspersky-labs.com",
    "sophosxl.net",
    "trendmicro.com",
    "webcfs00.com",
    // Telemetry.
    "events.data.microsoft.com",
    "push.apple.com",
    // Reverse look-ups, telephone numbers, service discovery.
    "_domainkey.amazonses.com",
    "e164.arpa",
    "in-addr.arpa",
    "ip6.arpa",
    "local",
    "resolver.arpa",
];

/// Domains whose names are not scored.
#[derive(Debug, Clone)]
pub struct Services {
    hash: KeyedHash,
    domains: HashTable<Vec<u8>>,
    /// By the first byte of a domain: how long those are that begin with it, as bits.
    lengths: [u64; 256],
}

impl Services {
    /// Those that are known here, if `with_known`, and those of the operator.
    #[must_use]
    pub fn new(with_known: bool, of_operator: &[String]) -> Self {
        let known = KNOWN.iter().filter(|_| with_known).copied();
        let own = of_operator.iter().map(|domain| domain.trim_matches('.'));
        let hash = KeyedHash::random();
        let mut domains = HashTable::new();
        let mut lengths = [0; 256];
        for domain in known.chain(own) {
            let domain = domain.to_lowercase().into_bytes();
            if let Some(first) = domain.first() {
                lengths[usize::from(*first)] |= length_bit(&domain);
                domains.insert_unique(hash.of(&domain), domain, |domain| hash.of(domain));
            }
        }
        Self {
            hash,
            domains,
            lengths,
        }
    }

    /// Whether `name`, which is in lower case, is one of their names.
    #[must_use]
    pub fn have(&self, name: &[u8]) -> bool {
        let dots = memchr::memchr_iter(b'.', name).map(|dot| dot + 1);
        let mut starts = std::iter::once(0).chain(dots);
        starts.any(|start| self.has(&name[start..]))
    }

    fn has(&self, domain: &[u8]) -> bool {
        let first = domain.first();
        let may_be =
            first.is_some_and(|first| self.lengths[usize::from(*first)] & length_bit(domain) != 0);
        may_be && {
            let hash = self.hash.of(domain);
            self.domains.find(hash, |known| known == domain).is_some()
        }
    }
}

/// One bit for each length, but for long ones.
fn length_bit(domain: &[u8]) -> u64 {
    1 << domain.len().min(63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_and_below_a_domain_are_its() {
        let services = Services::new(true, &["CDN.example.".to_owned()]);
        for name in [
            "2.0.0.127.zen.spamhaus.org",
            "spamhaus.org",
            "1.0.0.10.in-addr.arpa",
            "x.cdn.example",
            "_http._tcp.local",
        ] {
            assert!(services.have(name.as_bytes()), "{name}");
        }
        for name in ["notspamhaus.org", "spamhaus.org.example", "example", ""] {
            assert!(!services.have(name.as_bytes()), "{name}");
        }
        assert!(!Services::new(false, &[]).have(b"zen.spamhaus.org"));
    }
}
