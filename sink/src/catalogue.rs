//! The filters, and who is told of their changes.
//!
//! A filter applies to a hunter that can understand its type and that it targets; whether it is enabled does not matter
//! here. A hunter that did not say what it understands gets `bpf` and `ip_address`.
//!
//! Updates are never dropped: one that its subscriber does not read waits in memory until the subscription ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard};

use lc_proto::management::{Filter, FilterUpdate, FilterUpdateType};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Catalogue(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    filters: BTreeMap<String, Filter>,
    /// One subscription per hunter.
    subscribers: BTreeMap<String, Subscriber>,
}

#[derive(Debug)]
struct Subscriber {
    filter_types: Vec<String>,
    updates: UnboundedSender<FilterUpdate>,
}

impl Catalogue {
    /// Makes `filters` the whole set and tells every subscriber what that changes for it.
    pub(crate) fn replace(&self, filters: Vec<Filter>) {
        let mut state = self.state();
        let new: BTreeMap<_, _> = filters
            .into_iter()
            .map(|filter| (filter.id.clone(), filter))
            .collect();
        let old = std::mem::replace(&mut state.filters, new);
        let State {
            filters,
            subscribers,
        } = &mut *state;
        for (hunter_id, subscriber) in subscribers.iter() {
            for removed in old
                .values()
                .filter(|filter| !filters.contains_key(&filter.id))
            {
                if applies(removed, hunter_id, &subscriber.filter_types) {
                    subscriber.tell(FilterUpdateType::UpdateDelete, removed);
                }
            }
            for filter in filters.values() {
                let before = old.get(&filter.id);
                if before == Some(filter) {
                    continue;
                }
                if applies(filter, hunter_id, &subscriber.filter_types) {
                    let update = if before.is_some() {
                        FilterUpdateType::UpdateModify
                    } else {
                        FilterUpdateType::UpdateAdd
                    };
                    subscriber.tell(update, filter);
                } else if before
                    .is_some_and(|before| applies(before, hunter_id, &subscriber.filter_types))
                {
                    subscriber.tell(FilterUpdateType::UpdateDelete, filter);
                }
            }
        }
        subscribers.retain(|_, subscriber| !subscriber.updates.is_closed());
    }

    /// The filters that apply to a hunter.
    pub(crate) fn applicable(&self, hunter_id: &str, filter_types: &[String]) -> Vec<Filter> {
        let state = self.state();
        state
            .filters
            .values()
            .filter(|filter| applies(filter, hunter_id, filter_types))
            .cloned()
            .collect()
    }

    /// The filters that apply to a hunter, as ADD each, and then every change. Ends an earlier subscription of the hunter.
    pub(crate) fn subscribe(
        &self,
        hunter_id: &str,
        filter_types: Vec<String>,
    ) -> UnboundedReceiver<FilterUpdate> {
        let (updates, receiver) = unbounded_channel();
        let subscriber = Subscriber {
            filter_types,
            updates,
        };
        let mut state = self.state();
        for filter in state
            .filters
            .values()
            .filter(|filter| applies(filter, hunter_id, &subscriber.filter_types))
        {
            subscriber.tell(FilterUpdateType::UpdateAdd, filter);
        }
        state.subscribers.insert(hunter_id.to_owned(), subscriber);
        receiver
    }

    /// Number of filters.
    pub(crate) fn len(&self) -> u32 {
        self.state().filters.len() as u32
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Subscriber {
    fn tell(&self, update: FilterUpdateType, filter: &Filter) {
        // A subscriber that has gone is removed at the next change.
        let _ = self.updates.send(FilterUpdate {
            update_type: update.into(),
            filter: Some(filter.clone()),
        });
    }
}

fn applies(filter: &Filter, hunter_id: &str, filter_types: &[String]) -> bool {
    let capability = filter.r#type().capability();
    let understood = if filter_types.is_empty() {
        matches!(capability, "bpf" | "ip_address")
    } else {
        filter_types.iter().any(|kind| kind == capability)
    };
    understood
        && (filter.target_hunters.is_empty()
            || filter
                .target_hunters
                .iter()
                .any(|target| target == hunter_id))
}

#[cfg(test)]
mod tests {
    use lc_proto::management::FilterType;

    use super::*;

    fn filter(id: &str, kind: FilterType, pattern: &str, targets: &[&str]) -> Filter {
        Filter {
            id: id.into(),
            r#type: kind.into(),
            pattern: pattern.into(),
            target_hunters: targets.iter().map(|target| target.to_string()).collect(),
            ..Filter::default()
        }
    }

    fn drain(
        updates: &mut UnboundedReceiver<FilterUpdate>,
    ) -> Vec<(FilterUpdateType, String, String)> {
        std::iter::from_fn(|| updates.try_recv().ok())
            .map(|update| {
                let kind = update.update_type();
                let filter = update.filter.unwrap();
                (kind, filter.id, filter.pattern)
            })
            .collect()
    }

    #[test]
    fn changes_reach_whom_they_concern() {
        use FilterType::*;
        use FilterUpdateType::*;
        let catalogue = Catalogue::default();
        catalogue.replace(vec![
            filter("ip", FilterIpAddress, "a", &[]),
            filter("mine", FilterIpAddress, "a", &["h1"]),
            filter("gone", FilterIpAddress, "a", &[]),
            filter("sip", FilterSipUser, "a", &[]),
        ]);
        let mut h1 = catalogue.subscribe("h1", vec![]);
        let mut h2 = catalogue.subscribe("h2", vec!["sip_user".into()]);
        let ids = |updates: Vec<(FilterUpdateType, String, String)>| -> Vec<_> {
            updates
                .into_iter()
                .map(|(kind, id, _)| (kind, id))
                .collect()
        };
        assert_eq!(
            ids(drain(&mut h1)),
            [
                (UpdateAdd, "gone".into()),
                (UpdateAdd, "ip".into()),
                (UpdateAdd, "mine".into())
            ]
        );
        assert_eq!(ids(drain(&mut h2)), [(UpdateAdd, "sip".into())]);

        catalogue.replace(vec![
            filter("ip", FilterIpAddress, "a", &[]),
            filter("mine", FilterIpAddress, "b", &["h2"]),
            filter("new", FilterBpf, "c", &["h1"]),
            filter("sip", FilterSipUser, "b", &[]),
        ]);
        let expected = [
            (UpdateDelete, "gone".to_owned(), "a".to_owned()),
            // Lost to another hunter: carries the new body.
            (UpdateDelete, "mine".into(), "b".into()),
            (UpdateAdd, "new".into(), "c".into()),
        ];
        assert_eq!(drain(&mut h1), expected);
        assert_eq!(
            drain(&mut h2),
            [(UpdateModify, "sip".to_owned(), "b".to_owned())]
        );
    }

    #[test]
    fn newly_targeted_hunter_gets_modify() {
        let catalogue = Catalogue::default();
        catalogue.replace(vec![filter("f", FilterType::FilterBpf, "a", &["h1"])]);
        let mut h2 = catalogue.subscribe("h2", vec![]);
        catalogue.replace(vec![filter("f", FilterType::FilterBpf, "a", &[])]);
        assert_eq!(
            drain(&mut h2),
            [(
                FilterUpdateType::UpdateModify,
                "f".to_owned(),
                "a".to_owned()
            )]
        );
    }

    #[test]
    fn a_second_subscription_ends_the_first() {
        let catalogue = Catalogue::default();
        let mut first = catalogue.subscribe("h1", vec![]);
        let mut second = catalogue.subscribe("h1", vec![]);
        assert!(first.blocking_recv().is_none());
        catalogue.replace(vec![filter("f", FilterType::FilterBpf, "a", &[])]);
        assert_eq!(drain(&mut second).len(), 1);
    }
}
