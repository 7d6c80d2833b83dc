//! In debug builds: fails on purpose, to test what a packet that kills its worker, or a filter that can't be read, does to the rest.

use shm_layout::filters::Filter;
use std::env;
use std::sync::OnceLock;

/// Names the bytes that kill.
const VARIABLE: &str = "LC_HUNT_POISON";

/// Aborts the process if the environment names bytes that are in `packet`.
pub(crate) fn taste(packet: &[u8]) {
    let poison = poison();
    if !poison.is_empty() && packet.windows(poison.len()).any(|bytes| bytes == poison) {
        std::process::abort();
    }
}

/// Panics if the environment names the filter's pattern.
pub(crate) fn read(filter: &Filter) {
    let poison = poison();
    assert!(
        poison.is_empty() || filter.pattern.as_bytes() != poison,
        "poisoned"
    );
}

fn poison() -> &'static [u8] {
    static POISON: OnceLock<Vec<u8>> = OnceLock::new();
    POISON.get_or_init(|| env::var(VARIABLE).unwrap_or_default().into_bytes())
}
