//! Follows what the forwarder publishes: BPF filters from the processor, and the processor's addresses. Builds the expression that the
//! capture threads apply, and says in the session region what is in force.

use std::os::fd::AsFd;
use std::sync::Arc;

use shm_layout::filters::Snapshot;
use shm_layout::forwarder::{Endpoints, Forwarder};
use shm_layout::region::{OwnedRegion, Region};
use shm_layout::session::{BpfState, Session};

use crate::bpf::{Expression, Pushed};
use crate::broker::Snapshots;
use crate::control::Control;
use crate::source::Interfaces;

/// `FILTER_BPF` of the wire contract's `FilterType`.
const FILTER_BPF: u32 = 5;

/// Link types that a replay is taken to hold before its files have told theirs: Ethernet, raw IP, Linux cooked.
const COMMON_LINK_TYPES: [u16; 3] = [1, 101, 113];

/// The main thread's part in filtering.
pub(crate) struct PushedFilters {
    /// The operator's expression.
    pub(crate) base: Expression,
    /// Whether to leave out our own connection: a live capture would see it, a file cannot.
    pub(crate) exclude_endpoints: bool,
    pub(crate) interfaces: Interfaces,
    pub(crate) forwarder: Region<Forwarder>,
    pub(crate) session: Arc<OwnedRegion<Session>>,
    pub(crate) snapshots: Arc<Snapshots>,
    pub(crate) control: Arc<Control>,
    pub(crate) following: Following,
}

/// What has been taken over so far.
#[derive(Default)]
pub(crate) struct Following {
    generation: u64,
    endpoints: Endpoints,
    pushed: Vec<Pushed>,
    /// Version of the expression that all capture threads must apply before the state holds.
    pending: Option<(u64, BpfState)>,
    in_force: BpfState,
}

impl PushedFilters {
    /// Takes over what changed. To be called a few times a second.
    pub(crate) fn follow(&mut self) {
        let generation = self.follow_snapshot();
        let endpoints = self.follow_endpoints();
        if generation || endpoints {
            self.rebuild();
        }
        if let Some((version, state)) = self.following.pending
            && self.control.is_applied(version)
        {
            self.session.set_bpf(state);
            self.following.in_force = state;
            self.following.pending = None;
        }
    }

    /// The filter generation that all capture threads apply; 0 before the first.
    pub(crate) fn generation_in_force(&self) -> u64 {
        self.following.in_force.generation
    }

    fn follow_snapshot(&mut self) -> bool {
        if self.forwarder.filter_generation() == self.following.generation {
            return false;
        }
        let Some((_, fd)) = self.snapshots.current() else {
            return false;
        };
        let snapshot = match Snapshot::read(fd.as_fd()) {
            Ok(snapshot) if snapshot.generation != self.following.generation => snapshot,
            Ok(_) => return false,
            Err(error) => {
                tracing::error!(%error, "the filter snapshot cannot be read; the filters in force stay");
                return false;
            }
        };
        self.following.generation = snapshot.generation;
        let bpf = snapshot
            .filters
            .into_iter()
            .filter(|filter| filter.enabled && filter.filter_type == FILTER_BPF);
        let pushed = bpf
            .map(|filter| Pushed {
                id: filter.id,
                pattern: filter.pattern,
            })
            .collect();
        self.following.pushed = pushed;
        true
    }

    fn follow_endpoints(&mut self) -> bool {
        match self.forwarder.endpoints() {
            Ok(endpoints)
                if self.exclude_endpoints
                    && endpoints.revision != self.following.endpoints.revision =>
            {
                self.following.endpoints = endpoints;
                true
            }
            _ => false,
        }
    }

    fn rebuild(&mut self) {
        let mut link_types: Vec<_> = self
            .interfaces
            .rows()
            .iter()
            .map(|row| row.link_type)
            .collect();
        if !self.exclude_endpoints {
            link_types.extend(COMMON_LINK_TYPES);
        }
        link_types.sort_unstable();
        link_types.dedup();
        let own = (self.base.clone()).with_exclusions(&self.following.endpoints.addresses);
        let (mut expression, refused) =
            own.with_pushed(self.following.pushed.iter().cloned(), &link_types);
        for refused in &refused {
            tracing::warn!(filter = refused.id, error = %refused.error, "BPF filter refused; the others are in force");
        }
        let mut refused = refused.len();
        // All together they can be too much even where each is fine.
        if let Some(error) = link_types
            .iter()
            .find_map(|link_type| expression.compile(*link_type).err())
        {
            tracing::error!(%error, filters = expression.pushed(), "the BPF filters cannot be applied together; those in force stay");
            refused = self.following.pushed.len();
            expression = Expression::clone(&self.control.expression().1)
                .with_exclusions(&self.following.endpoints.addresses);
        }
        let state = BpfState {
            generation: self.following.generation,
            active: expression.pushed() as u64,
            refused: refused as u64,
            endpoints: self.following.endpoints.revision,
        };
        let (mut version, current) = self.control.expression();
        // Most changes concern filters of other types.
        if *current != expression {
            version = self.control.put(expression);
            tracing::info!(
                generation = state.generation,
                bpf_filters = state.active,
                refused = state.refused,
                "capture filter changed"
            );
        }
        self.following.pending = Some((version, state));
    }
}
