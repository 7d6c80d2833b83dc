//! Any bytes as a filter snapshot.

use lc_daemon::config::NoFilterPolicy;
use lc_workerd::matcher::FilterSet;
use shm_layout::filters::Snapshot;

/// Parses and compiles `bytes`, or has them refused.
pub fn check(bytes: &[u8]) {
    if let Ok(snapshot) = Snapshot::parse(bytes) {
        let (_, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
        assert!(refused.len() <= snapshot.filters.len());
    }
}
