//! What dns mode runs on.

use super::{ConfigError, list, switch, title};
use crate::settings::{Origin, Value, Values};

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
    ///
    /// # Errors
    /// [`ConfigError::Domain`]
    pub(super) fn of(values: &Values) -> Result<Self, ConfigError> {
        Ok(Self {
            ports: match values.get("hunter.dns.ports") {
                Some((_, Origin::Default)) => Vec::new(),
                Some((Value::Ports(ports), _)) => ports.clone(),
                _ => Vec::new(),
            },
            udp_only: switch(values, "hunter.dns.udp_only"),
            detect_tunneling: switch(values, "dns.detect_tunneling"),
            allow_known_services: switch(values, "dns.tunneling_allow_known"),
            allowed_domains: domains(values, "dns.tunneling_allow")?,
            match_targets: switch(values, "hunter.dns.match_targets"),
        })
    }
}

/// Names without dots at their ends.
fn domains(values: &Values, key: &str) -> Result<Vec<String>, ConfigError> {
    let domain = |item: &String| {
        let domain = item.trim().trim_end_matches('.');
        let is_label = |label: &str| {
            let is_usual =
                |character: char| character.is_alphanumeric() || matches!(character, '-' | '_');
            (1..=63).contains(&label.len()) && label.chars().all(is_usual)
        };
        match domain.split('.').all(is_label) {
            true => Ok(domain.to_owned()),
            false => Err(ConfigError::Domain {
                setting: title(key),
                item: item.clone(),
            }),
        }
    };
    list(values, key).iter().map(domain).collect()
}
