//! The processor's filters: kept here as the processor tells them, published to the other processes as snapshots.
//!
//! - A registration's answer replaces the whole set; ADD and MODIFY both insert or replace by id; DELETE removes.
//! - What is read from the processor only changes a table under a short lock. A thread of its own seals the snapshots
//!   and hands them to capd, so that the stream is never kept waiting; a burst of updates becomes one generation, or one a second.
//! - A set that did not change makes no new generation, also not after a restart. Generations only grow.
//! - Filters of unknown types, or of types that this node did not announce, are left out; each is logged once.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use lc_daemon::attach::{AttachError, Broker, ForwarderRegions};
use lc_daemon::config::{Mode, Modes};
use lc_proto::management::{self, FilterType, FilterUpdate, FilterUpdateType};
use shm_layout::filters::{Filter, MAX_FILTERS, MAX_TEXT, Snapshot};
use shm_layout::forwarder::Forwarder;
use shm_layout::region::{OwnedRegion, Region};
use shm_layout::session::Session;

use crate::shutdown::Shutdown;

/// The filter types that a node of these modes understands, each once, in the order in which they are announced.
pub(crate) fn types(modes: &Modes) -> Vec<FilterType> {
    let mut types: Vec<FilterType> = Vec::new();
    for filter_type in modes.iter().flat_map(types_of) {
        if !types.contains(filter_type) {
            types.push(*filter_type);
        }
    }
    types
}

fn types_of(mode: Mode) -> &'static [FilterType] {
    use FilterType::*;
    match mode {
        Mode::Hunt => &[
            FilterBpf,
            FilterIpAddress,
            FilterSipUser,
            FilterPhoneNumber,
            FilterCallId,
            FilterCodec,
            FilterSipUri,
            FilterImsi,
            FilterImei,
            FilterDnsDomain,
            FilterEmailAddress,
            FilterEmailSubject,
            FilterHttpHost,
            FilterHttpUrl,
            FilterTlsSni,
            FilterTlsJa3,
            FilterTlsJa3s,
            FilterTlsJa4,
        ],
        Mode::Voip => &[
            FilterBpf,
            FilterIpAddress,
            FilterSipUser,
            FilterPhoneNumber,
            FilterCallId,
            FilterCodec,
            FilterSipUri,
            FilterImsi,
            FilterImei,
        ],
        Mode::Dns => &[FilterBpf, FilterIpAddress, FilterDnsDomain],
        Mode::Http => &[FilterBpf, FilterIpAddress, FilterHttpHost, FilterHttpUrl],
        Mode::Tls => &[
            FilterBpf,
            FilterIpAddress,
            FilterTlsSni,
            FilterTlsJa3,
            FilterTlsJa3s,
            FilterTlsJa4,
        ],
        Mode::Email => &[
            FilterBpf,
            FilterIpAddress,
            FilterEmailAddress,
            FilterEmailSubject,
        ],
    }
}

/// Updates that come this close together become one generation.
const BURST: Duration = Duration::from_millis(10);
/// But none waits longer than this for those behind it.
const LONGEST_BURST: Duration = Duration::from_secs(1);
/// Between looks at capd, and between attempts to hand it a snapshot.
const RETRY: Duration = Duration::from_secs(1);

/// The table, and the news that it changed.
#[derive(Debug)]
pub(crate) struct Filters {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug)]
struct State {
    types: Vec<FilterType>,
    /// `None` before the processor has told its filters.
    table: Option<BTreeMap<String, Filter>>,
    changes: u64,
    refused: BTreeSet<String>,
    end: bool,
}

impl Filters {
    /// No filters yet; those to come are of these types.
    pub(crate) fn new(types: Vec<FilterType>) -> Self {
        Self {
            state: Mutex::new(State {
                types,
                table: None,
                changes: 0,
                refused: BTreeSet::new(),
                end: false,
            }),
            news: Condvar::new(),
        }
    }

    /// Replaces the set.
    pub(crate) fn reset(&self, filters: Vec<management::Filter>) {
        let mut state = self.state();
        state.table = Some(BTreeMap::new());
        for filter in filters {
            state.insert(filter);
        }
        self.announce(state);
    }

    /// Takes in an update.
    pub(crate) fn apply(&self, update: FilterUpdate) {
        let kind = FilterUpdateType::try_from(update.update_type);
        let (Ok(kind), Some(filter)) = (kind, update.filter) else {
            tracing::warn!(
                update_type = update.update_type,
                "a filter update of unknown type or without a filter is ignored"
            );
            return;
        };
        let mut state = self.state();
        match kind {
            FilterUpdateType::UpdateAdd | FilterUpdateType::UpdateModify => state.insert(filter),
            FilterUpdateType::UpdateDelete => state.remove(&filter.id),
        }
        self.announce(state);
    }

    fn announce(&self, mut state: MutexGuard<'_, State>) {
        state.changes += 1;
        drop(state);
        self.news.notify_one();
    }

    /// Lets the publisher end.
    pub(crate) fn end(&self) {
        self.state().end = true;
        self.news.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there were more changes than `seen`, or for a while. `None` at the end.
    fn wait(&self, seen: u64) -> Option<u64> {
        let waiting = |state: &mut State| state.changes == seen && !state.end;
        let (state, _) = self
            .news
            .wait_timeout_while(self.state(), RETRY, waiting)
            .unwrap_or_else(PoisonError::into_inner);
        (!state.end).then_some(state.changes)
    }

    /// Waits until no more updates come, for [`LONGEST_BURST`] at most.
    fn settle(&self) {
        let start = Instant::now();
        let mut seen = self.state().changes;
        while start.elapsed() < LONGEST_BURST {
            // Updates come by the hundred thousand: to be woken for each would hold them up.
            std::thread::sleep(BURST);
            let changes = self.state().changes;
            if changes == seen {
                return;
            }
            seen = changes;
        }
    }

    /// The present set in the order of ids, and the number of changes that led to it.
    fn current(&self) -> Option<(Vec<Filter>, u64)> {
        let state = self.state();
        let filters = state.table.as_ref()?.values().cloned().collect();
        Some((filters, state.changes))
    }
}

impl State {
    fn insert(&mut self, filter: management::Filter) {
        let table = self.table.get_or_insert_default();
        let room = (table.len() as u64) < MAX_FILTERS || table.contains_key(&filter.id);
        match accept(&filter, &self.types, room) {
            Ok(accepted) => {
                table.insert(filter.id, accepted);
            }
            Err(reason) => {
                table.remove(&filter.id);
                if self.refused.len() < 1000 && self.refused.insert(filter.id.clone()) {
                    tracing::warn!(id = filter.id, reason, "a filter is left out");
                }
            }
        }
    }

    fn remove(&mut self, id: &str) {
        self.refused.remove(id);
        if let Some(table) = &mut self.table {
            table.remove(id);
        }
    }
}

fn accept(
    filter: &management::Filter,
    types: &[FilterType],
    room: bool,
) -> Result<Filter, &'static str> {
    let Ok(kind) = FilterType::try_from(filter.r#type) else {
        return Err("its type is unknown");
    };
    if !types.contains(&kind) {
        return Err("its type is not one that this node has announced");
    }
    let longest = MAX_TEXT as usize;
    if filter.id.is_empty() || filter.id.len() > longest || filter.pattern.len() > longest {
        return Err("its id is empty, or its id or pattern is longer than 64 KiB");
    }
    if !room {
        return Err("there are too many filters");
    }
    Ok(Filter {
        id: filter.id.clone(),
        filter_type: filter.r#type as u32,
        pattern: filter.pattern.clone(),
        enabled: filter.enabled,
    })
}

/// The thread that makes snapshots of the table and hands them to capd.
pub(crate) struct Publisher {
    pub(crate) filters: Arc<Filters>,
    pub(crate) run_dir: PathBuf,
    pub(crate) broker: Broker,
    pub(crate) session: Arc<Region<Session>>,
    pub(crate) region: Arc<OwnedRegion<Forwarder>>,
    pub(crate) shutdown: Shutdown,
}

impl Publisher {
    /// Works until [`Filters::end`].
    pub(crate) fn run(mut self) {
        let mut published = self.predecessors();
        let (mut seen, mut done, mut failing) = (0, 0, false);
        while let Some(changes) = self.filters.wait(seen) {
            seen = changes;
            if self.is_capd_gone() {
                if !self.attach_again() {
                    continue;
                }
                published = None;
            }
            if changes == done {
                continue;
            }
            self.filters.settle();
            let Some((filters, changes)) = self.filters.current() else {
                continue;
            };
            if published.as_ref() != Some(&filters) {
                if let Err(error) = self.publish(&filters) {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(error, "filters could not be published; trying again");
                    }
                    self.attach_again();
                    continue;
                }
                published = Some(filters);
            }
            (done, failing) = (changes, false);
        }
    }

    fn is_capd_gone(&self) -> bool {
        let owner = self.session.owner();
        owner.pid != 0 && !owner.is_alive()
    }

    /// The set that a predecessor published.
    fn predecessors(&self) -> Option<Vec<Filter>> {
        if self.region.filter_generation() == 0 {
            return None;
        }
        let fd = self.broker.fetch_filters().ok()??;
        let snapshot = Snapshot::read(fd.as_fd()).ok()?;
        (snapshot.generation == self.region.filter_generation()).then_some(snapshot.filters)
    }

    fn publish(&self, filters: &[Filter]) -> Result<(), String> {
        let generation = self.region.filter_generation() + 1;
        let snapshot = Snapshot {
            generation,
            filters: filters.to_vec(),
        };
        let fd = snapshot.seal().map_err(|error| error.to_string())?;
        self.broker
            .publish_filters(generation, fd.as_fd())
            .map_err(|error| error.to_string())?;
        let enabled = filters.iter().filter(|filter| filter.enabled).count();
        self.region.set_filters(generation, enabled as u64);
        tracing::info!(
            generation,
            filters = filters.len(),
            enabled,
            "filters published"
        );
        Ok(())
    }

    /// Connects to capd's broker again. A capd that has made new regions has no use for this process any more: it
    /// delivers what it has and ends.
    fn attach_again(&mut self) -> bool {
        match ForwarderRegions::attach(&self.run_dir) {
            Ok(regions) if regions.session.owner() == self.session.owner() => {
                self.broker = regions.broker;
                true
            }
            Ok(_) => {
                self.shutdown.capd_is_another();
                false
            }
            Err(AttachError::Socket { .. }) => false,
            Err(error) => {
                tracing::debug!(%error, "not attached again");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(id: &str, kind: FilterType, pattern: &str) -> management::Filter {
        management::Filter {
            id: id.to_owned(),
            r#type: kind.into(),
            pattern: pattern.to_owned(),
            enabled: true,
            ..Default::default()
        }
    }

    fn update(kind: FilterUpdateType, filter: management::Filter) -> FilterUpdate {
        FilterUpdate {
            update_type: kind.into(),
            filter: Some(filter),
        }
    }

    fn listed(filters: &Filters) -> Vec<(String, String)> {
        let (filters, _) = filters.current().unwrap();
        filters.into_iter().map(|f| (f.id, f.pattern)).collect()
    }

    #[test]
    fn add_and_modify_upsert_and_delete_removes() {
        use FilterUpdateType::{UpdateAdd, UpdateDelete, UpdateModify};
        let ip = FilterType::FilterIpAddress;
        let filters = Filters::new(types_of(Mode::Hunt).to_vec());
        assert!(filters.current().is_none());
        filters.reset(vec![filter("b", ip, "10.0.0.1")]);
        filters.apply(update(UpdateModify, filter("a", ip, "10.0.0.2")));
        filters.apply(update(UpdateAdd, filter("b", ip, "10.0.0.3")));
        filters.apply(update(UpdateDelete, filter("unknown", ip, "")));
        let pair = |id: &str, pattern: &str| (id.to_owned(), pattern.to_owned());
        assert_eq!(
            listed(&filters),
            [pair("a", "10.0.0.2"), pair("b", "10.0.0.3")]
        );
        filters.apply(update(UpdateDelete, filter("a", ip, "other body")));
        assert_eq!(listed(&filters), [pair("b", "10.0.0.3")]);
        filters.reset(Vec::new());
        assert_eq!(listed(&filters), []);
    }

    #[test]
    fn every_type_is_announced_where_it_has_a_use() {
        let mut announced = types_of(Mode::Hunt).to_vec();
        announced.sort();
        assert!(announced.into_iter().eq(FilterType::all()));
        // As the reference implementation, with the types that it forgets: imsi, imei, http_url.
        for (mode, others) in [
            (
                Mode::Voip,
                "sip_user phone_number call_id codec sip_uri imsi imei",
            ),
            (Mode::Dns, "dns_domain"),
            (Mode::Http, "http_host http_url"),
            (Mode::Tls, "tls_sni tls_ja3 tls_ja3s tls_ja4"),
            (Mode::Email, "email_address email_subject"),
        ] {
            let names: Vec<_> = types_of(mode)
                .iter()
                .map(|kind| kind.capability())
                .collect();
            assert_eq!(names.join(" "), format!("bpf ip_address {others}"));
        }
    }

    #[test]
    fn what_is_unknown_or_was_not_announced_is_left_out() {
        let filters = Filters::new(types_of(Mode::Dns).to_vec());
        let mut unknown = filter("u", FilterType::FilterBpf, "tcp");
        unknown.r#type = 99;
        filters.reset(vec![
            unknown,
            filter("s", FilterType::FilterSipUser, "alice"),
            filter("", FilterType::FilterBpf, "udp"),
            filter("b", FilterType::FilterBpf, "udp"),
        ]);
        assert_eq!(listed(&filters).len(), 1);
        let mut odd = update(
            FilterUpdateType::UpdateDelete,
            filter("b", FilterType::FilterBpf, ""),
        );
        odd.update_type = 17;
        filters.apply(odd);
        assert_eq!(listed(&filters).len(), 1);
        // A filter that turns into a type of no use is gone.
        let changed = filter("b", FilterType::FilterCodec, "PCMU");
        filters.apply(update(FilterUpdateType::UpdateModify, changed));
        assert_eq!(listed(&filters), []);
    }
}
