//! What the main thread tells the capture threads: stop, start, and which expression is in force.
//!
//! A capture thread looks at one atomic per batch; the rest is touched only when something changes.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::bpf::Expression;

/// Shared by the main thread and all capture threads.
pub(crate) struct Control {
    stop: AtomicBool,
    /// Somebody will go on where the threads stop.
    handing_over: AtomicBool,
    /// Counts the expressions put in force, from 1.
    version: AtomicU64,
    expression: Mutex<Arc<Expression>>,
    /// The version that each capture thread applies.
    applied: Vec<AtomicU64>,
    open: Mutex<bool>,
    opened: Condvar,
}

impl Control {
    /// For `queues` capture threads that already apply `expression`; they begin at once if `open`.
    pub(crate) fn new(queues: usize, expression: Expression, open: bool) -> Self {
        Self {
            stop: AtomicBool::new(false),
            handing_over: AtomicBool::new(false),
            version: AtomicU64::new(1),
            expression: Mutex::new(Arc::new(expression)),
            applied: (0..queues).map(|_| AtomicU64::new(1)).collect(),
            open: Mutex::new(open),
            opened: Condvar::new(),
        }
    }

    /// Asks all capture threads to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release); // pairs with `stopping`
        self.opened.notify_all();
    }

    /// Asks all capture threads to end, and to leave their sources to a successor.
    pub(crate) fn hand_over(&self) {
        self.handing_over.store(true, Ordering::Relaxed); // published by `stop`
        self.stop();
    }

    /// Whether what ends goes on elsewhere. Asked once [`Control::stopping`].
    pub(crate) fn handing_over(&self) -> bool {
        self.handing_over.load(Ordering::Relaxed)
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire) // pairs with `stop`
    }

    /// Lets the sources that were held back begin.
    pub(crate) fn open(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.opened.notify_all();
    }

    /// Waits until the sources may begin or something else changed, or for `timeout`; whether they may begin.
    pub(crate) fn wait_open(&self, timeout: Duration) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if *open || self.stopping() {
            return *open;
        }
        let waited = self.opened.wait_timeout(open, timeout);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Puts an expression in force; returns its version.
    pub(crate) fn put(&self, expression: Expression) -> u64 {
        let mut current = self
            .expression
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(expression);
        // Pairs with the Acquire load in `version`.
        let version = self.version.fetch_add(1, Ordering::AcqRel) + 1;
        // A thread that is held back applies it at once, too.
        self.opened.notify_all();
        version
    }

    /// The current version: one load, for every batch.
    #[inline]
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire) // pairs with `put`
    }

    /// The expression in force and its version.
    pub(crate) fn expression(&self) -> (u64, Arc<Expression>) {
        let current = self
            .expression
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (self.version(), Arc::clone(&current))
    }

    /// Notes that capture thread `queue` applies `version`.
    pub(crate) fn mark_applied(&self, queue: usize, version: u64) {
        self.applied[queue].store(version, Ordering::Release); // pairs with `is_applied`
    }

    /// Whether every capture thread applies `version` or a later one.
    pub(crate) fn is_applied(&self, version: u64) -> bool {
        let applied = |thread: &AtomicU64| thread.load(Ordering::Acquire) >= version; // pairs with `mark_applied`
        self.applied.iter().all(applied)
    }
}
