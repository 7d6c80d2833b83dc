//! Frame pools: memory that a card writes packets into, and workers read them from in place.
//!
//! A pool is a region of its own, so that it can be registered as AF_XDP UMEM by capd and mapped
//! read-only by every worker.

use crate::layout::{HEADER_BYTES, Kind, RegionId};
use crate::region::{Body, Region, RegionError};
use crate::shared_bytes::SharedBytes;
use std::os::fd::BorrowedFd;

/// Body of a pool: frames only.
#[repr(C)]
pub(crate) struct Frames;

// SAFETY: a zero-sized type has no invalid bytes.
unsafe impl Body for Frames {
    const KIND: Kind = Kind::Frames;
}

/// A reader's view of a frame pool.
pub struct FramePool {
    region: Region<Frames>,
}

impl FramePool {
    /// Maps the pool of capture thread `queue`.
    ///
    /// # Errors
    /// See [`RegionError`].
    pub fn attach(fd: BorrowedFd<'_>, queue: u16) -> Result<Self, RegionError> {
        let region = Region::attach(fd, RegionId::of_queue(Kind::Frames, 0, queue))?;
        Ok(Self { region })
    }

    /// The `len` bytes at `offset`, or `None` where they do not lie within the pool.
    #[must_use]
    #[inline]
    pub fn frame(&self, offset: u64, len: usize) -> Option<SharedBytes<'_>> {
        self.bytes().part(usize::try_from(offset).ok()?, len)
    }

    #[inline]
    fn bytes(&self) -> SharedBytes<'_> {
        let map = self.region.mapping();
        // SAFETY: the mapping was checked to hold `body_len` bytes behind the header, and lives as
        // long as `self`.
        unsafe { SharedBytes::new(map.base.add(HEADER_BYTES), self.region.body_len() as usize) }
    }
}
