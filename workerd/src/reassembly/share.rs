//! Memory that the parsers of all streams have together.

use std::cell::Cell;
use std::rc::Rc;

/// What one parser keeps of the bytes that all of them keep. Given back when it is dropped.
///
/// ```
/// use lc_workerd::reassembly::Share;
/// let all = std::rc::Rc::default();
/// let (mut one, mut other) = (Share::of(&all), Share::of(&all));
/// one.set(1000);
/// other.set(50);
/// drop(one);
/// assert_eq!(all.get(), 50);
/// ```
#[derive(Debug)]
pub struct Share {
    all: Rc<Cell<usize>>,
    bytes: usize,
}

impl Share {
    /// Nothing of `all`.
    #[must_use]
    pub fn of(all: &Rc<Cell<usize>>) -> Self {
        Self {
            all: Rc::clone(all),
            bytes: 0,
        }
    }

    /// What it is.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// So many bytes from now on.
    pub fn set(&mut self, bytes: usize) {
        self.all.set(self.all.get() - self.bytes + bytes);
        self.bytes = bytes;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
