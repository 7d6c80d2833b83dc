//! What dns mode runs on.

use super::switch;
use crate::settings::{Value, Values};

/// Settings of dns mode. The detection of tunnels counts in every mode that tells of DNS messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Ports that the capture is limited to; empty: DNS is recognised on any port.
    pub ports: Vec<u16>,
    /// Leave out what runs over TCP.
    pub udp_only: bool,
    /// Score how much queries look like a tunnel.
    pub detect_tunneling: bool,
    /// Leave the names of well-known services out of that.
    pub allow_known_services: bool,
    /// Leave names at and below these domains out of it, too.
    pub allowed_domains: Vec<String>,
    /// Compare filters also with the names that NS, PTR, MX, SRV, SVCB, HTTPS and DNAME records lead to.
    pub match_targets: bool,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            udp_only: false,
            detect_tunneling: true,
            allow_known_services: true,
            allowed_domains: Vec::new(),
            match_targets: false,
        }
    }
}

impl Dns {
    /// As the settings say.
    pub(super) fn of(values: &Values) -> Self {
        Self {
            ports: match values.get("hunter.dns.ports") {
                Some((_, crate::settings::Origin::Default)) => Vec::new(),
                Some((Value::Ports(ports), _)) => ports.clone(),
                _ => Vec::new(),
            },
            udp_only: switch(values, "hunter.dns.udp_only"),
            detect_tunneling: switch(values, "dns.detect_tunneling"),
            allow_known_services: switch(values, "dns.tunneling_allow_known"),
            allowed_domains: match values.get("dns.tunneling_allow") {
                Some((Value::List(domains), _)) => domains.clone(),
                _ => Vec::new(),
            },
            match_targets: switch(values, "hunter.dns.match_targets"),
        }
    }
}
