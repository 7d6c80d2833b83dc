//! ESP that is not encrypted: what of it is opened.

use super::switch;
use crate::settings::{Value, Values};

/// Which ESP is opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Esp {
    /// All ESP is taken for unencrypted, as far as its content allows.
    pub null: bool,
    /// Unencrypted ESP is found out by content.
    pub heuristic: bool,
    /// Length of the integrity check value in bytes, if it is known.
    pub icv_len: Option<u8>,
}

impl Esp {
    /// As the settings say.
    pub(super) fn of(values: &Values) -> Self {
        Self {
            null: switch(values, "esp_null"),
            heuristic: switch(values, "esp_heuristic"),
            icv_len: match values.get("esp_icv_size") {
                Some((Value::Integer(size), _)) => u8::try_from(*size).ok(),
                _ => None,
            },
        }
    }

    /// Whether none is opened.
    #[must_use]
    pub fn is_off(self) -> bool {
        !self.null && !self.heuristic
    }
}
