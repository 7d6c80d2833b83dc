//! Media without signalling that other workers have come upon, and what their sources sent first: once a call announces an end of such a flow, here or elsewhere, its sources are
//! known to be the call's, be the worker that has the flow aware of that or not.

use std::collections::{BTreeSet, HashMap, VecDeque};

use super::endpoints::{Endpoint, Ends, FIRST};
use super::sources::{MOST_SOURCES, Source};

/// Most flows that are known; the oldest give way.
const MOST_FLOWS: usize = 4096;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Strangers {
    flows: HashMap<Ends, Vec<Source>>,
    /// Their ends, each with the flow.
    ends: BTreeSet<(Endpoint, Ends)>,
    /// Flows in the order in which they were first told, and some that are gone.
    order: VecDeque<Ends>,
}

impl Strangers {
    /// A worker tells of a flow and its sources.
    pub fn add(&mut self, flow: Ends, sources: impl Iterator<Item = Source>) {
        if !self.flows.contains_key(&flow) {
            if self.order.len() == MOST_FLOWS
                && let Some(oldest) = self.order.pop_front()
            {
                self.remove(oldest);
            }
            self.order.push_back(flow);
            self.ends.insert((flow.0, flow));
            self.ends.insert((flow.1, flow));
        }
        let sources = sources.take(MOST_SOURCES).collect();
        self.flows.insert(flow, sources);
    }

    /// The flow is over, or has found its call.
    pub fn remove(&mut self, flow: Ends) -> Option<Vec<Source>> {
        self.ends.remove(&(flow.0, flow));
        self.ends.remove(&(flow.1, flow));
        self.flows.remove(&flow)
    }

    /// What is known of the sources of all flows with an end at `endpoint`, which are forgotten.
    pub fn take(&mut self, endpoint: Endpoint) -> Vec<Source> {
        let mut taken = Vec::new();
        while let Some((end, flow)) = self.first_from(endpoint)
            && end == endpoint
        {
            taken.extend(self.remove(flow).unwrap_or_default());
        }
        taken
    }

    fn first_from(&self, endpoint: Endpoint) -> Option<(Endpoint, Ends)> {
        let from = (endpoint, (FIRST, FIRST));
        self.ends.range(from..).next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Addr;

    fn endpoint(host: u32) -> Endpoint {
        (Addr::V4(host), 4000)
    }

    fn source(ssrc: u32) -> Source {
        Source {
            time_ns: 0,
            ssrc,
            timestamp: 0,
            packet: Some((0, 0)),
        }
    }

    #[test]
    fn flows_are_found_by_either_end_once() {
        let mut strangers = Strangers::default();
        let (a, b, c) = (endpoint(1), endpoint(2), endpoint(3));
        strangers.add((a, b), [source(7)].into_iter());
        strangers.add((a, b), [source(7), source(8)].into_iter());
        strangers.add((c, a), [source(9)].into_iter());
        assert_eq!(strangers.take(b), [source(7), source(8)]);
        assert_eq!(strangers.take(a), [source(9)]);
        assert_eq!((strangers.take(c), strangers.ends.len()), (vec![], 0));
    }

    #[test]
    fn the_oldest_give_way() {
        let mut strangers = Strangers::default();
        for host in 0..3 * MOST_FLOWS as u32 {
            strangers.add((endpoint(host), endpoint(0)), [source(host)].into_iter());
            if host % 3 == 0 {
                strangers.remove((endpoint(host), endpoint(0)));
            }
        }
        assert!(strangers.flows.len() <= MOST_FLOWS && strangers.order.len() <= MOST_FLOWS);
        let newest = 3 * MOST_FLOWS as u32 - 1;
        assert_eq!(strangers.take(endpoint(newest)), [source(newest)]);
        assert_eq!(strangers.take(endpoint(5)), []);
    }
}
