//! Any filters over any payload: compiled or refused, then compared with what is extracted.

use lc_daemon::config::NoFilterPolicy;
use lc_workerd::decode::{Decoded, Transport};
use lc_workerd::extract::{HEAD, extract, is_candidate};
use lc_workerd::matcher::{Fields, FilterSet, Kinds, Matches, Verdict};
use shm_layout::filters::{Filter, Snapshot};

use crate::Input;

/// `bytes`: transport, number of filters, type and pattern of each, payload.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let transport = match input.u8() % 2 {
        0 => Transport::Udp,
        _ => Transport::Tcp,
    };
    let filters = (0..input.u8()).map(|n| Filter {
        id: n.to_string(),
        // Two more than there are.
        filter_type: u32::from(input.u8() % 20),
        pattern: String::from_utf8_lossy(input.text()).into_owned(),
        enabled: true,
    });
    let snapshot = Snapshot {
        generation: 1,
        filters: filters.collect(),
    };
    let payload = input.rest();
    let (set, refused) = FilterSet::compile(&snapshot, NoFilterPolicy::Deny);
    assert!(refused.len() <= snapshot.filters.len());
    let mut fields = Fields::default();
    extract(transport, payload, Kinds::ALL, &mut fields);
    if !fields.is_empty() {
        let head = &payload[..payload.len().min(HEAD)];
        assert!(is_candidate(transport, head, Kinds::ALL));
    }
    let mut matches = Matches::default();
    let verdict = set.judge(&Decoded::default(), &fields, false, &mut matches);
    assert_eq!(verdict == Verdict::Matched, !matches.filters().is_empty());
}
