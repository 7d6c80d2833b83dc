//! The shared regions of a node: capd makes them all, keeps a writable descriptor of each, and hands out what a role may have.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use shm_layout::forwarder::Forwarder;
use shm_layout::layout::{Geometry, Kind, RegionId};
use shm_layout::region::{self, Backing, OwnedRegion, Pages, Region, RegionError};
use shm_layout::ring::RingWriter;
use shm_layout::session::Session;
use shm_layout::worker::Worker;

/// All regions of one session, by id.
pub(crate) struct Regions {
    geometry: Geometry,
    list: Vec<(RegionId, OwnedFd)>,
}

impl Regions {
    /// Makes every region, all of its memory allocated.
    pub(crate) fn create(geometry: Geometry, pages: Pages) -> Result<Self, RegionError> {
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

/// Every region of a geometry and the bytes behind its header.
fn sizes(geometry: &Geometry) -> Vec<(RegionId, u64)> {
    /// A cursor lies in the header.
    const NONE: u64 = 0;
    let mut list = vec![
        (RegionId::single(Kind::Session), Session::BYTES),
        (RegionId::single(Kind::Forwarder), Forwarder::BYTES),
    ];
    for worker in 0..geometry.workers {
        let id = |kind| RegionId::of_worker(kind, worker);
        list.push((id(Kind::Worker), Worker::BYTES));
        list.push((id(Kind::Tx), geometry.tx_bytes));
        list.push((id(Kind::TxCursor), NONE));
        for queue in 0..geometry.queues {
            let id = |kind| RegionId::of_queue(kind, worker, queue);
            list.push((id(Kind::Rx), geometry.rx_bytes));
            list.push((id(Kind::RxCursor), NONE));
        }
    }
    list
}
