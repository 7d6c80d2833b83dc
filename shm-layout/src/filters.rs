//! Filter snapshots: one immutable region per generation, made by the forwarder.
//!
//! ```text
//!   generation u64 | count u64 | entries ...
//!   entry: type u32 | flags u32 (bit 0: enabled) | id bytes u32 | pattern bytes u32 | id | pattern | to 8
//! ```
//!
//! The memfd is sealed against writing before it is handed out, so a reader may parse it in place:
//! nobody, its maker included, can change it any more.

use crate::layout::{HEADER_BYTES, Kind, RegionId};
use crate::region::{self, Body, Pages, Region, RegionError};
use rustix::fs::{SealFlags, fcntl_add_seals, fcntl_get_seals};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most entries of a snapshot.
pub const MAX_FILTERS: u64 = 1 << 20;
/// Longest id or pattern, in bytes.
pub const MAX_TEXT: u32 = 64 << 10;

const ENTRY: usize = 16;
const ENABLED: u32 = 1;

/// One filter, as the processor sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The processor's id of it.
    pub id: String,
    /// `FilterType` number of the wire contract.
    pub filter_type: u32,
    /// What to match, in the syntax of its type.
    pub pattern: String,
    /// Whether it is to be applied.
    pub enabled: bool,
}

/// All filters of one generation, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// Counts filter changes, from 1.
    pub generation: u64,
    /// The filters, disabled ones included.
    pub filters: Vec<Filter>,
}

/// Why a snapshot can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It is no region of ours.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// Its maker could still change it.
    #[error("the filter snapshot is not sealed against writing")]
    Unsealed,
    /// A count or length does not fit.
    #[error("the filter snapshot is malformed at entry {entry}")]
    Malformed {
        /// Index of the entry.
        entry: u64,
    },
    /// More or longer filters than a snapshot holds.
    #[error(
        "{filters} filters are more than {MAX_FILTERS}, or one is longer than {MAX_TEXT} bytes"
    )]
    TooLarge {
        /// Filters in the snapshot.
        filters: usize,
    },
}

#[repr(C)]
struct Entries;

// SAFETY: a zero-sized type has no invalid bytes.
unsafe impl Body for Entries {
    const KIND: Kind = Kind::Filters;
}

const ID: RegionId = RegionId::single(Kind::Filters);

impl Snapshot {
    /// Writes the snapshot into a new region and seals it.
    ///
    /// # Errors
    /// [`SnapshotError::TooLarge`], or the system's refusal.
    pub fn seal(&self) -> Result<OwnedFd, SnapshotError> {
        let fits = |text: &str| text.len() <= MAX_TEXT as usize;
        if self.filters.len() as u64 > MAX_FILTERS
            || !self
                .filters
                .iter()
                .all(|filter| fits(&filter.id) && fits(&filter.pattern))
        {
            return Err(SnapshotError::TooLarge {
                filters: self.filters.len(),
            });
        }
        let mut bytes = Vec::new();
        bytes.extend(self.generation.to_le_bytes());
        bytes.extend((self.filters.len() as u64).to_le_bytes());
        for filter in &self.filters {
            bytes.extend(filter.filter_type.to_le_bytes());
            bytes.extend(if filter.enabled { ENABLED } else { 0 }.to_le_bytes());
            bytes.extend((filter.id.len() as u32).to_le_bytes());
            bytes.extend((filter.pattern.len() as u32).to_le_bytes());
            bytes.extend(filter.id.as_bytes());
            bytes.extend(filter.pattern.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        let (fd, _) = region::create(ID, bytes.len() as u64, Pages::PreferHuge)?;
        region::fill(fd.as_fd(), ID, &bytes)?;
        fcntl_add_seals(&fd, SealFlags::WRITE | SealFlags::SEAL).map_err(|errno| {
            RegionError::System {
                id: ID,
                call: "seal",
                errno,
            }
        })?;
        Ok(fd)
    }

    /// Reads a snapshot that another process made.
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn read(fd: BorrowedFd<'_>) -> Result<Self, SnapshotError> {
        let seals = fcntl_get_seals(fd).map_err(|errno| RegionError::System {
            id: ID,
            call: "get seals",
            errno,
        })?;
        if !seals.contains(SealFlags::WRITE) {
            return Err(SnapshotError::Unsealed);
        }
        let region = Region::<Entries>::attach(fd, ID)?;
        let len = region.body_len() as usize;
        // SAFETY: the mapping holds `body_len` bytes behind the header and lives until the end of
        // this function; the seal makes sure that nobody writes to them.
        let bytes = unsafe {
            std::slice::from_raw_parts(region.mapping().base.add(HEADER_BYTES).as_ptr(), len)
        };
        Self::parse(bytes)
    }

    /// Reads the body of a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let malformed = |entry| SnapshotError::Malformed { entry };
        let ([generation, count], mut rest) =
            words(bytes, u64::from_le_bytes).ok_or(malformed(0))?;
        if count > MAX_FILTERS {
            return Err(malformed(0));
        }
        let mut filters = Vec::new();
        for entry in 0..count {
            let (filter, after) = Filter::parse(rest).ok_or(malformed(entry))?;
            filters.push(filter);
            rest = after;
        }
        Ok(Self {
            generation,
            filters,
        })
    }
}

impl Filter {
    fn parse(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let ([filter_type, flags, id_len, pattern_len], texts) =
            words::<4, 4, u32>(bytes, u32::from_le_bytes)?;
        let (id, texts) = texts.split_at_checked(id_len.min(MAX_TEXT + 1) as usize)?;
        let (pattern, _) = texts.split_at_checked(pattern_len.min(MAX_TEXT + 1) as usize)?;
        let len = (ENTRY + id.len() + pattern.len()).next_multiple_of(8);
        let text = |bytes: &[u8]| {
            let text = std::str::from_utf8(bytes).ok()?;
            (text.len() <= MAX_TEXT as usize).then(|| text.to_owned())
        };
        let filter = Self {
            id: text(id)?,
            filter_type,
            pattern: text(pattern)?,
            enabled: flags & ENABLED != 0,
        };
        Some((filter, bytes.get(len..)?))
    }
}

/// The first `N` little-endian words of `SIZE` bytes, and what follows them.
fn words<const N: usize, const SIZE: usize, W: Copy + Default>(
    bytes: &[u8],
    read: fn([u8; SIZE]) -> W,
) -> Option<([W; N], &[u8])> {
    let (head, rest) = bytes.split_at_checked(N * SIZE)?;
    let mut words = [W::default(); N];
    for (word, chunk) in words.iter_mut().zip(head.as_chunks::<SIZE>().0) {
        *word = read(*chunk);
    }
    Some((words, rest))
}
