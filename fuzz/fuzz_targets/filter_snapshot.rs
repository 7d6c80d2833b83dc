//! Any bytes as a filter snapshot: parsed and compiled, or refused.

#![no_main]

use lc_daemon::config::NoFilterPolicy;
use lc_workerd::matcher::FilterSet;
use libfuzzer_sys::fuzz_target;
use shm_layout::filters::Snapshot;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(snapshot) = Snapshot::parse(bytes) {
        let (_, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
        assert!(refused.len() <= snapshot.filters.len());
    }
});
