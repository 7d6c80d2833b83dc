//! Filters that can't be applied, and why.

use super::set::{MOST_NEEDLE_BYTES, MOST_TEXT_BYTES};
use shm_layout::filters::Filter;

/// Why a filter can't be applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A type that the wire contract does not have.
    #[error("its type is unknown")]
    UnknownType,
    /// `ip_address`
    #[error("is no IP address, CIDR prefix or a.b.* pattern")]
    NoAddress,
    /// `imsi`
    #[error("an IMSI has 15 digits")]
    NoImsi,
    /// `imei`
    #[error("an IMEI has 14 digits, or 15 with its check digit")]
    NoImei,
    /// `tls_ja3`, `tls_ja3s`
    #[error("a JA3 or JA3S fingerprint has 32 hexadecimal digits")]
    NoJa3,
    /// `tls_ja4`
    #[error("is no JA4 fingerprint, such as t13d1516h2_8daaf6152771_b186095e22bb")]
    NoJa4,
    /// The patterns before it have used up the memory.
    #[error(
        "patterns have at most {} MiB together, those with text inside stars at most {} MiB; remove others",
        MOST_TEXT_BYTES >> 20,
        MOST_NEEDLE_BYTES >> 20
    )]
    NoRoom,
}

/// A filter that can't be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("filter {id}: {pattern:?}: {reason}")]
pub struct Refused {
    /// Id of the filter.
    pub id: String,
    /// Its pattern, or the first part of a long one.
    pub pattern: String,
    /// Why.
    pub reason: Reason,
}

impl Refused {
    pub(super) fn new(filter: &Filter, reason: Reason) -> Self {
        Self {
            id: filter.id.clone(),
            pattern: filter.pattern.chars().take(200).collect(),
            reason,
        }
    }
}
