//! Services whose names look like tunnels and are none: they put hashes, addresses or sessions into them.
//!
//! Names at and below these domains are not scored, if the operator leaves that switched on. Whoever controls such a domain could hide a tunnel in it; the
//! domains here sell names below them to nobody.

use std::collections::HashSet;

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
#[derive(Debug, Clone, Default)]
pub struct Services {
    domains: HashSet<String>,
}

impl Services {
    /// Those that are known here, if `with_known`, and those of the operator.
    #[must_use]
    pub fn new(with_known: bool, of_operator: &[String]) -> Self {
        let known = KNOWN.iter().filter(|_| with_known).copied();
        let own = of_operator.iter().map(|domain| domain.trim_matches('.'));
        Self {
            domains: known.chain(own).map(str::to_lowercase).collect(),
        }
    }

    /// Whether `name`, which is in lower case, is one of their names.
    #[must_use]
    pub fn have(&self, name: &str) -> bool {
        let dots = memchr::memchr_iter(b'.', name.as_bytes()).map(|dot| dot + 1);
        let mut starts = std::iter::once(0).chain(dots);
        starts.any(|start| self.domains.contains(&name[start..]))
    }
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
            assert!(services.have(name), "{name}");
        }
        for name in ["notspamhaus.org", "spamhaus.org.example", "example", ""] {
            assert!(!services.have(name), "{name}");
        }
        assert!(!Services::new(false, &[]).have("zen.spamhaus.org"));
    }
}
