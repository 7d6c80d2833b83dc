//! Any filters over any payload: compiled or refused, then compared with what is extracted.

#![no_main]

use lc_daemon::config::NoFilterPolicy;
use lc_workerd::decode::{Decoded, Transport};
use lc_workerd::extract::{HEAD, extract, is_candidate};
use lc_workerd::matcher::{Fields, FilterSet, Kinds, Matches, Verdict};
use libfuzzer_sys::fuzz_target;
use shm_layout::filters::{Filter, Snapshot};

fuzz_target!(|input: (Vec<(u8, String)>, bool, &[u8])| {
    let (patterns, is_tcp, payload) = input;
    let filters = patterns.into_iter().enumerate().map(|(n, (kind, pattern))| Filter {
        id: n.to_string(),
        filter_type: u32::from(kind % 20),
        pattern,
        enabled: true,
    });
    let snapshot = Snapshot {
        generation: 1,
        filters: filters.collect(),
    };
    let (set, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
    assert!(refused.len() <= snapshot.filters.len());
    let transport = if is_tcp { Transport::Tcp } else { Transport::Udp };
    let mut fields = Fields::default();
    extract(transport, payload, Kinds::ALL, &mut fields);
    if !fields.is_empty() {
        let head = &payload[..payload.len().min(HEAD)];
        assert!(is_candidate(transport, head, Kinds::ALL));
    }
    let mut matches = Matches::default();
    let verdict = set.judge(&Decoded::default(), &fields, false, &mut matches);
    assert_eq!(verdict == Verdict::Matched, !matches.filters().is_empty());
});
