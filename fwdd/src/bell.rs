//! Wakes a thread that sleeps on rings.
//!
//! The collector sleeps until a worker publishes. The session has things to tell it too, so it holds the writing end of
//! one more ring, private to this process, and publishes an empty record there.

use std::os::fd::AsFd;

use shm_layout::layout::{Kind, RegionId};
use shm_layout::region::{self, Pages, RegionError};
use shm_layout::ring::{RingReader, RingWriter};

const BYTES: u64 = 4096;

/// The end to ring.
pub(crate) struct Bell {
    ring: RingWriter,
}

impl Bell {
    /// A bell and the ring to sleep on.
    pub(crate) fn new() -> Result<(Self, RingReader), RegionError> {
        let id = RegionId::of_worker(Kind::Tx, 0);
        let cursor_id = RegionId::of_worker(Kind::TxCursor, 0);
        let (ring, _) = region::create(id, BYTES, Pages::PreferHuge)?;
        let (cursor, _) = region::create(cursor_id, 0, Pages::PreferHuge)?;
        let bell = Self {
            ring: RingWriter::attach(id, ring.as_fd(), cursor.as_fd())?,
        };
        Ok((bell, RingReader::attach(id, ring.as_fd(), cursor.as_fd())?))
    }

    /// Wakes the sleeper, or keeps it from falling asleep.
    pub(crate) fn ring(&mut self) {
        // A full ring holds rings that were not heard yet.
        if let Ok(record) = self.ring.reserve(0) {
            record.commit(0, 0, 0);
            self.ring.publish();
        }
    }
}
