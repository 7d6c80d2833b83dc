//! The end of the process, as its threads see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Whether the end has begun, and by when it must be over.
#[derive(Debug, Clone)]
pub(crate) struct Shutdown {
    deadline: watch::Receiver<Option<Instant>>,
    begin: Arc<watch::Sender<Option<Instant>>>,
    patience: Duration,
    another_capd: Arc<AtomicBool>,
}

impl Shutdown {
    /// The end may take as long as `patience` once it begins.
    pub(crate) fn new(patience: Duration) -> Self {
        let (begin, deadline) = watch::channel(None);
        Self {
            deadline,
            begin: Arc::new(begin),
            patience,
            another_capd: Arc::new(AtomicBool::new(false)),
        }
    }

    /// Begins the end. A second call changes nothing.
    pub(crate) fn begin(&self) {
        self.begin.send_if_modified(|deadline| {
            let first = deadline.is_none();
            deadline.get_or_insert_with(|| Instant::now() + self.patience);
            first
        });
    }

    /// Begins the end because capd has started anew with other regions.
    pub(crate) fn capd_is_another(&self) {
        self.another_capd.store(true, Ordering::Relaxed);
        self.begin();
    }

    /// Whether [`Shutdown::capd_is_another`].
    pub(crate) fn is_another_capd(&self) -> bool {
        self.another_capd.load(Ordering::Relaxed)
    }

    /// Whether the end has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.deadline.borrow().is_some()
    }

    /// Waits until the end begins.
    pub(crate) async fn begun(&self) {
        let mut deadline = self.deadline.clone();
        // The sender lives as long as `self`.
        let _ = deadline.wait_for(Option::is_some).await;
    }

    /// Waits until the time is over.
    pub(crate) async fn expired(&self) {
        self.begun().await;
        let deadline = *self.deadline.borrow();
        if let Some(deadline) = deadline {
            tokio::time::sleep_until(deadline).await;
        }
    }
}
