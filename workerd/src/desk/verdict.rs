//! Whether a call is wanted, and by which filters.
//!
//! A call is wanted as soon as one message, or one packet of media, of it is; and from then on to its end, whatever becomes of the filters. It is not wanted when its last
//! word was heard and nothing matched; a filter that comes later may still find it.

use shm_layout::prefetch::prefetch;

/// Most ids kept for a call.
const MOST_IDS: usize = 1024;

/// What is decided of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Standing {
    /// Its packets wait.
    #[default]
    Undecided = 0,
    /// Its packets are not wanted, so far.
    Unwanted = 1,
    /// All of its packets are wanted by the no-filter policy.
    Passed = 2,
    /// All of its packets are wanted by filters.
    Matched = 3,
}

/// The ids of the filters that a call matches: in order, without repeats.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ids(Vec<Box<str>>);

impl Ids {
    /// Adds an id. False if it was there, or there are as many as can be told.
    pub fn add(&mut self, id: &str) -> bool {
        match self.0.binary_search_by(|known| (**known).cmp(id)) {
            Err(place) if self.0.len() < MOST_IDS => {
                self.0.insert(place, id.into());
                true
            }
            _ => false,
        }
    }

    /// The ids.
    pub fn iter(&self) -> impl Iterator<Item = &str> + Clone {
        self.0.iter().map(|id| &**id)
    }

    /// Has the list fetched into the cache.
    #[inline]
    pub fn prefetch_list(&self) {
        self.0.first().into_iter().for_each(prefetch);
    }

    /// Has the first id fetched into the cache, where the list is itself.
    #[inline]
    pub fn prefetch_first(&self) {
        let first = self.0.first().and_then(|id| id.as_bytes().first());
        first.into_iter().for_each(prefetch);
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes of memory beside the value itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<Box<str>>() + self.0.iter().map(|id| id.len()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_in_order_and_without_repeats() {
        let mut ids = Ids::default();
        assert!(ids.add("b") && ids.add("a") && !ids.add("b"));
        assert_eq!(ids.iter().collect::<Vec<_>>(), ["a", "b"]);
        for n in 0..2 * MOST_IDS {
            ids.add(&n.to_string());
        }
        assert_eq!(ids.iter().count(), MOST_IDS);
    }

    #[test]
    fn what_is_wanted_outweighs_what_is_not() {
        assert!(Standing::Matched > Standing::Passed.max(Standing::Unwanted));
    }
}
