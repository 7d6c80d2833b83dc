//! The atomics that everything in this crate is built from.
//!
//! One place re-exports them, so that the very source of the ring, the commit slots and the
//! waiting protocol also runs under loom's model checker (`--cfg loom`).

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

/// A value alone on its pair of cache lines: the adjacent-line prefetcher of x86 fetches lines
/// in pairs, so 64 bytes would still be false sharing.
#[repr(C, align(128))]
pub(crate) struct Line<T>(pub(crate) T);
