//! The shared regions of a node: capd makes them all, keeps a writable descriptor of each, and hands out what a role may have.
//!
//! They outlive it: the service manager keeps the descriptors ([`lc_daemon::fd_store`]), and a successor goes on with them if they are
//! all there, of its own layout, and of the geometry that it needs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use lc_daemon::fd_store;
use shm_layout::forwarder::Forwarder;
use shm_layout::layout::{Geometry, Kind, RegionId};
use shm_layout::log::{LogReader, LogWriter};
use shm_layout::region::{self, Backing, OwnedRegion, Pages, Region, RegionError};
use shm_layout::ring::RingWriter;
use shm_layout::session::{InterfaceInfo, Session};
use shm_layout::worker::Worker;

/// All regions of one session, by id.
pub(crate) struct Regions {
    geometry: Geometry,
    list: Vec<(RegionId, OwnedFd)>,
}

/// Name of the regions in the descriptor store.
const STORED_AS: &str = "region";

impl Regions {
    /// The regions that a predecessor left, if they are those of `geometry`; else new ones, which are stored. True for the former.
    pub(crate) fn adopt_or_create(
        inherited: Inherited,
        geometry: Geometry,
        pages: Pages,
    ) -> Result<(Self, bool), RegionError> {
        let left = inherited.regions.len();
        if let Some(list) = inherited.all_of(&geometry) {
            return Ok((Self { geometry, list }, true));
        }
        if left > 0 {
            tracing::warn!(
                regions = left,
                "the shared memory of a predecessor does not fit this process (another layout or geometry); what it held is lost"
            );
            fd_store::remove(STORED_AS);
        }
        let regions = Self::create(geometry, pages)?;
        let descriptors: Vec<_> = regions.list.iter().map(|(_, fd)| fd.as_fd()).collect();
        fd_store::store(STORED_AS, &descriptors);
        Ok((regions, false))
    }

    /// Makes every region, all of its memory allocated.
    fn create(geometry: Geometry, pages: Pages) -> Result<Self, RegionError> {
        if !geometry.is_valid() {
            return Err(RegionError::Geometry(geometry));
        }
        let mut list = Vec::new();
        let mut ordinary = 0;
        for (id, body_len) in sizes(&geometry) {
            let (fd, backing) = region::create(id, body_len, pages)?;
            ordinary += usize::from(id.kind == Kind::Rx && backing == Backing::Ordinary);
            list.push((id, fd));
        }
        if ordinary > 0 {
            tracing::warn!(
                rings = ordinary,
                "rings lie on ordinary pages, which costs speed; reserve huge pages (sysctl vm.nr_hugepages)"
            );
        }
        Ok(Self { geometry, list })
    }

    pub(crate) fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The writable descriptor of a region.
    pub(crate) fn writable(&self, id: RegionId) -> Result<BorrowedFd<'_>, RegionError> {
        let found = self.list.iter().find(|(listed, _)| *listed == id);
        found
            .map(|(_, fd)| fd.as_fd())
            .ok_or(RegionError::Geometry(self.geometry))
    }

    /// A descriptor of a region that cannot be mapped writable.
    pub(crate) fn read_only(&self, id: RegionId) -> Result<OwnedFd, RegionError> {
        region::read_only(self.writable(id)?, id)
    }

    /// The session region, which this process writes; sets its geometry.
    pub(crate) fn session(&self) -> Result<OwnedRegion<Session>, RegionError> {
        let id = RegionId::single(Kind::Session);
        let session = OwnedRegion::attach(self.writable(id)?, id)?;
        session.set_geometry(&self.geometry);
        Ok(session)
    }

    /// When the session's writer last made progress, in ns of [`shm_layout::monotonic_ns`].
    pub(crate) fn session_heartbeat(&self) -> Result<u64, RegionError> {
        let id = RegionId::single(Kind::Session);
        Ok(Region::<Session>::attach(self.writable(id)?, id)?.heartbeat_ns())
    }

    pub(crate) fn forwarder(&self) -> Result<Region<Forwarder>, RegionError> {
        let id = RegionId::single(Kind::Forwarder);
        Region::attach(self.writable(id)?, id)
    }

    pub(crate) fn workers(&self) -> Result<Vec<Region<Worker>>, RegionError> {
        let ids =
            (0..self.geometry.workers).map(|worker| RegionId::of_worker(Kind::Worker, worker));
        ids.map(|id| Region::attach(self.writable(id)?, id))
            .collect()
    }

    /// What each worker tells of calls.
    pub(crate) fn calls(&self) -> Result<Vec<LogReader>, RegionError> {
        let ids = (0..self.geometry.workers).map(|worker| RegionId::of_worker(Kind::Calls, worker));
        ids.map(|id| LogReader::attach(id, self.writable(id)?))
            .collect()
    }

    /// The writing end of the log of secrets.
    pub(crate) fn keys(&self) -> Result<LogWriter, RegionError> {
        let id = RegionId::single(Kind::Keys);
        LogWriter::attach(id, self.writable(id)?)
    }

    /// The writing ends of capture thread `queue`'s rings, in the order of the workers.
    pub(crate) fn rx_rings(&self, queue: u16) -> Result<Vec<RingWriter>, RegionError> {
        let ids = (0..self.geometry.workers).map(|worker| (worker, queue));
        ids.map(|(worker, queue)| {
            let ring = RegionId::of_queue(Kind::Rx, worker, queue);
            let cursor = RegionId::of_queue(Kind::RxCursor, worker, queue);
            RingWriter::attach(ring, self.writable(ring)?, self.writable(cursor)?)
        })
        .collect()
    }
}

/// Regions of a predecessor: what they say that they are, and the bytes behind their headers.
#[derive(Default)]
pub(crate) struct Inherited {
    regions: Vec<(RegionId, u64, OwnedFd)>,
}

impl Inherited {
    /// Takes the regions out of what the service manager has passed. Anything that is none of this layout is left out.
    pub(crate) fn take_from(passed: &mut Vec<(String, OwnedFd)>) -> Self {
        let mut regions = Vec::new();
        for (_, fd) in passed.extract_if(.., |(name, _)| name == STORED_AS) {
            match region::identify(fd.as_fd()) {
                Ok((id, body_len)) => regions.push((id, body_len, fd)),
                Err(error) => tracing::warn!(%error, "a stored region is not usable"),
            }
        }
        Self { regions }
    }

    /// The interfaces that packets in the rings name by index.
    pub(crate) fn interfaces(&self) -> Vec<InterfaceInfo> {
        let id = RegionId::single(Kind::Session);
        let session = self.regions.iter().find(|(found, ..)| *found == id);
        session
            .and_then(|(_, _, fd)| Region::<Session>::attach(fd.as_fd(), id).ok())
            .map(|session| {
                (0..session.interface_count())
                    .map_while(|index| session.interface(index))
                    .collect()
            })
            .unwrap_or_default()
    }

    /// All regions of `geometry`, or nothing if one is missing or of another size.
    fn all_of(mut self, geometry: &Geometry) -> Option<Vec<(RegionId, OwnedFd)>> {
        let mut list = Vec::new();
        for (id, body_len) in sizes(geometry) {
            let found = self
                .regions
                .iter()
                .position(|(found, len, _)| *found == id && *len == body_len)?;
            list.push((id, self.regions.swap_remove(found).2));
        }
        Some(list)
    }
}

/// Every region of a geometry and the bytes behind its header.
fn sizes(geometry: &Geometry) -> Vec<(RegionId, u64)> {
    /// A cursor lies in the header.
    const NONE: u64 = 0;
    let mut list = vec![
        (RegionId::single(Kind::Session), Session::BYTES),
        (RegionId::single(Kind::Forwarder), Forwarder::BYTES),
        (RegionId::single(Kind::Keys), geometry.keys_bytes),
    ];
    for worker in 0..geometry.workers {
        let id = |kind| RegionId::of_worker(kind, worker);
        list.push((id(Kind::Worker), Worker::BYTES));
        list.push((id(Kind::Tx), geometry.tx_bytes));
        list.push((id(Kind::TxCursor), NONE));
        list.push((id(Kind::Calls), geometry.calls_bytes));
        list.push((id(Kind::Held), geometry.held_bytes));
        for queue in 0..geometry.queues {
            let id = |kind| RegionId::of_queue(kind, worker, queue);
            list.push((id(Kind::Rx), geometry.rx_bytes));
            list.push((id(Kind::RxCursor), NONE));
        }
    }
    list
}
