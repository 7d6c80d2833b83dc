//! What tls mode looks for.

use super::choice;
use crate::settings::{Origin, Value, Values};

/// Settings of tls mode. In other modes they mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsMode {
    /// The ports that the operator has given, to which the capture is limited. None: TLS is found on any port.
    pub ports: Vec<u16>,
    /// How much of a connection is wanted.
    pub flow: TlsFlow,
}

/// How much of a connection is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TlsFlow {
    /// All of it.
    #[default]
    Full,
    /// What comes before its data.
    Handshake,
}

impl TlsMode {
    /// As the settings say.
    pub(super) fn of(values: &Values) -> Self {
        Self {
            ports: match values.get("hunter.tls.ports") {
                Some((Value::Ports(ports), origin)) if *origin != Origin::Default => ports.clone(),
                _ => Vec::new(),
            },
            flow: match choice(values, "hunter.tls.flow") {
                Some("handshake") => TlsFlow::Handshake,
                _ => TlsFlow::Full,
            },
        }
    }
}
