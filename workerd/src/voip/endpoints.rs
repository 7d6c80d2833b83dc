//! Where media of calls are expected: addresses and ports that session descriptions announce, or that media were seen at.
//!
//! An endpoint may belong to several calls: legs that share a media server, or a port that is used again before its old call is forgotten. Media
//! between two endpoints of one call belong to that call; else to the call that announced the endpoint last.
//!
//! Flows of which nobody announced an end are known by both ends: a server may receive the media of many calls at one port.

use std::collections::{BTreeMap, HashMap};

use super::calls::CallRef;
use crate::decode::Addr;

/// Address and port.
pub type Endpoint = (Addr, u16);

/// The first of all endpoints in order, and the last one.
pub const FIRST: Endpoint = (Addr::V4(0), 0);
/// See [`FIRST`].
pub const LAST: Endpoint = (Addr::V6(u128::MAX), u16::MAX);

/// Both ends of a flow.
pub type Ends = (Endpoint, Endpoint);

/// Most calls that an endpoint may belong to; the oldest gives way.
const MOST_OWNERS: usize = 4;

/// Whose each endpoint is.
#[derive(Debug)]
pub struct Endpoints {
    owners: HashMap<Endpoint, Vec<CallRef>>,
    changes: u32,
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            owners: HashMap::new(),
            changes: 1,
        }
    }
}

impl Endpoints {
    /// `call` expects media at `endpoint`.
    pub fn add(&mut self, endpoint: Endpoint, call: CallRef) {
        let owners = self.owners.entry(endpoint).or_default();
        if owners.last() == Some(&call) {
            return;
        }
        owners.retain(|owner| *owner != call);
        if owners.len() == MOST_OWNERS {
            owners.remove(0);
        }
        owners.push(call);
        self.changes = self.changes.wrapping_add(1);
    }

    /// `call` expects nothing there any more.
    pub fn remove(&mut self, endpoint: Endpoint, call: CallRef) {
        let Some(owners) = self.owners.get_mut(&endpoint) else {
            return;
        };
        owners.retain(|owner| *owner != call);
        if owners.is_empty() {
            self.owners.remove(&endpoint);
        }
        self.changes = self.changes.wrapping_add(1);
    }

    /// What was found before may be found otherwise now, for a reason that is known elsewhere.
    pub fn touch(&mut self) {
        self.changes = self.changes.wrapping_add(1);
    }

    /// A number that is another after each change: what was found before it may be found otherwise now. It begins with 1.
    #[must_use]
    #[inline]
    pub fn changes(&self) -> u32 {
        self.changes
    }

    /// The call that media between `source` and `destination` belong to.
    #[must_use]
    pub fn find(&self, source: Endpoint, destination: Endpoint) -> Option<CallRef> {
        let at = |endpoint| self.owners.get(&endpoint).map_or(&[][..], Vec::as_slice);
        let (from, to) = (at(source), at(destination));
        let both = to.iter().rev().find(|call| from.contains(call));
        both.or(to.last()).or(from.last()).copied()
    }

    /// Endpoints that are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.owners.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty()
    }
}

/// Whose each flow is of which nobody announced an end.
#[derive(Debug, Default)]
pub struct Unannounced {
    /// Each flow twice, by either end first.
    owners: BTreeMap<Ends, CallRef>,
}

impl Unannounced {
    /// The flow between `ends` is of `call`.
    pub fn add(&mut self, (one, other): Ends, call: CallRef) {
        self.owners.insert((one, other), call);
        self.owners.insert((other, one), call);
    }

    /// The flow between `ends` is not of `call` any more.
    pub fn remove(&mut self, (one, other): Ends, call: CallRef) {
        if self.owners.get(&(one, other)) == Some(&call) {
            self.owners.remove(&(one, other));
            self.owners.remove(&(other, one));
        }
    }

    /// The call of the flow between `ends`, whichever comes first.
    #[must_use]
    pub fn find(&self, ends: Ends) -> Option<CallRef> {
        self.owners.get(&ends).copied()
    }

    /// The calls of all flows with an end at `endpoint`.
    pub fn at(&self, endpoint: Endpoint) -> impl Iterator<Item = CallRef> {
        let flows = self.owners.range((endpoint, FIRST)..=(endpoint, LAST));
        flows.map(|(_, call)| *call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flows_that_nobody_announced_are_found_by_both_ends_or_one() {
        let (one, other) = (CallRef::for_tests(1), CallRef::for_tests(2));
        let mut flows = Unannounced::default();
        let (server, a, b) = (endpoint(1, 3478), endpoint(2, 5000), endpoint(3, 6000));
        flows.add((a, server), one);
        flows.add((server, b), other);
        assert_eq!(
            (flows.find((a, server)), flows.find((server, a))),
            (Some(one), Some(one))
        );
        assert_eq!(
            (flows.find((b, server)), flows.find((a, b))),
            (Some(other), None)
        );
        assert!(flows.at(server).eq([one, other]) && flows.at(b).eq([other]));
        // Of another call meanwhile.
        flows.add((a, server), other);
        flows.remove((a, server), one);
        assert_eq!(flows.find((server, a)), Some(other));
        flows.remove((server, a), other);
        assert!(flows.find((a, server)).is_none() && flows.at(a).next().is_none());
        // A flow may have its ends at one place.
        flows.add((a, a), one);
        flows.remove((a, a), one);
        assert!(flows.at(a).next().is_none());
    }

    fn endpoint(host: u32, port: u16) -> Endpoint {
        (Addr::V4(host), port)
    }

    #[test]
    fn media_belong_to_the_call_that_announced_both_ends_else_to_the_latest() {
        let (one, other) = (CallRef::for_tests(1), CallRef::for_tests(2));
        let mut endpoints = Endpoints::default();
        let (caller, server, callee) = (endpoint(1, 4000), endpoint(2, 5000), endpoint(3, 6000));
        endpoints.add(caller, one);
        endpoints.add(server, one);
        endpoints.add(server, other);
        endpoints.add(callee, other);
        assert_eq!(endpoints.find(caller, server), Some(one));
        assert_eq!(endpoints.find(server, callee), Some(other));
        assert_eq!(endpoints.find(endpoint(9, 9), server), Some(other));
        // Symmetric media to a place that nobody announced.
        assert_eq!(endpoints.find(caller, endpoint(9, 9)), Some(one));
        assert_eq!(endpoints.find(endpoint(8, 8), endpoint(9, 9)), None);
        // The same port at another address is another endpoint.
        assert_eq!(endpoints.find(endpoint(8, 4000), endpoint(9, 5000)), None);
        let before = endpoints.changes();
        endpoints.remove(server, other);
        assert_ne!(endpoints.changes(), before);
        assert_eq!(endpoints.find(endpoint(9, 9), server), Some(one));
        endpoints.remove(server, one);
        assert_eq!((endpoints.find(server, server), endpoints.len()), (None, 2));
    }

    #[test]
    fn owners_are_bounded() {
        let mut endpoints = Endpoints::default();
        for n in 0..100 {
            endpoints.add(endpoint(1, 1), CallRef::for_tests(n));
        }
        assert_eq!(
            endpoints.find(endpoint(1, 1), endpoint(2, 2)),
            Some(CallRef::for_tests(99))
        );
        assert_eq!(endpoints.owners[&endpoint(1, 1)].len(), MOST_OWNERS);
    }
}
