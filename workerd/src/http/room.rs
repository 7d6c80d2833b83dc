//! How much memory all sessions of a worker may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// The memory there is.
#[derive(Debug)]
pub struct Room {
    taken: Arc<AtomicUsize>,
    most: usize,
}

/// What one session has taken of it. Gives it back when the session is dropped.
#[derive(Debug, Default)]
pub struct Share {
    taken: Option<Arc<AtomicUsize>>,
    bytes: usize,
}

impl Room {
    /// So many bytes.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let taken = Arc::default();
        Self { taken, most }
    }

    /// A session takes `bytes` now, instead of what it had. False if that is too much for all of them together.
    pub fn grant(&self, share: &mut Share, bytes: usize) -> bool {
        if bytes == share.bytes {
            return true;
        }
        let taken = share.taken.get_or_insert_with(|| Arc::clone(&self.taken));
        let grows = bytes > share.bytes;
        taken.fetch_add(bytes, Relaxed);
        taken.fetch_sub(share.bytes, Relaxed);
        share.bytes = bytes;
        !grows || self.taken() <= self.most
    }

    /// Bytes that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        if let Some(taken) = &self.taken {
            taken.fetch_sub(self.bytes, Relaxed);
        }
    }
}
