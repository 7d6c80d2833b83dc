//! What a store is told, and what it tells: options, outcomes, counters.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

use super::Span;

/// How a store works.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Most bytes of all segments together. The position file's 8 KiB come on top.
    pub limit: u64,
    /// What happens at the limit.
    pub policy: Policy,
    /// When bytes are made durable.
    pub sync: SyncPolicy,
}

/// What gives way when there is no room: at the limit, or when the disk itself is full.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Policy {
    /// The oldest segment that is not in flight. If all of them are: the new record.
    #[default]
    DropOldest,
    /// The new record: it is not taken in, and stays with the caller.
    DropNewest,
}

/// When bytes are made durable against a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// When the kernel likes. The end of the process loses nothing, a power cut up to half a minute.
    Never,
    /// At most this long after they were written, as long as [`Store::tick`](super::Store::tick) is called.
    Every(Duration),
    /// Before the append returns.
    EveryRecord,
}

/// How writing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Well.
    Ok,
    /// There is no room, within the limit or on the disk.
    Full,
    /// The disk may only be read.
    ReadOnly,
    /// The disk fails.
    Failed,
}

impl State {
    pub(super) fn of(error: &io::Error) -> Self {
        match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Self::Full,
            Some(Errno::ROFS | Errno::ACCESS | Errno::PERM) => Self::ReadOnly,
            _ => Self::Failed,
        }
    }
}

/// What happened so far, and what is there now.
///
/// At any time `recovered + appended = acknowledged + dropped_oldest + lost + waiting`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Found when the store was opened.
    pub recovered: Span,
    /// Taken in.
    pub appended: Span,
    /// Acknowledged.
    pub acknowledged: Span,
    /// Dropped from the oldest end for want of room.
    pub dropped_oldest: Span,
    /// Never taken in because they would not fit an empty store.
    pub too_long: Span,
    /// Lost to damage.
    pub lost: Span,
    /// On disk and not acknowledged.
    pub waiting: Span,
    /// Damaged places passed over.
    pub damaged: u64,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Failures to write or to remove.
    pub write_errors: u64,
    /// Failures to read.
    pub read_errors: u64,
    /// Failures to make bytes durable.
    pub sync_errors: u64,
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// The record waits under this number.
    Stored(u64),
    /// It would not fit an empty store; it is counted and can never be taken in.
    TooLong,
}

/// The disk can't be written now, or has no room. The record was not taken in; the caller still has it, and may try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the disk buffer cannot be written: {state:?}")]
pub struct Unavailable {
    /// Why.
    pub state: State,
}

/// A record that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number, to acknowledge it by.
    pub number: u64,
    /// Packets in it.
    pub packets: u32,
    /// Their bytes.
    pub payload: Vec<u8>,
}

/// What was found at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that wait. The exact number of those that are whole shows when they are read.
    pub waiting: Span,
    /// Bytes of the segment files.
    pub bytes: u64,
    /// Segment files.
    pub segments: u64,
    /// Segments whose header is damaged; their records are searched for.
    pub damaged_headers: u64,
}

/// Why a store can't be opened. Nothing has been changed on disk.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The system says no.
    #[error("the disk buffer cannot be read: {0}")]
    Disk(#[from] io::Error),
    /// Another version wrote it.
    #[error(
        "{file} in the disk buffer has layout version {version}, which this program does not know; let the version that wrote it deliver it, or choose another directory"
    )]
    Version {
        /// The segment file.
        file: String,
        /// Its version.
        version: u32,
    },
}
