//! Things in numbered places, found by references that go stale when the thing is gone.

/// Bits of a number that say where; the others count the things that were there.
const PLACE_BITS: u32 = 24;

/// Where a thing is. The default is nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Ref(u64);

impl Ref {
    /// As a number that no other thing of the pool has had; never 0.
    #[must_use]
    #[inline]
    pub fn number(self) -> u64 {
        self.0
    }

    /// By its number; any will do.
    #[must_use]
    #[inline]
    pub fn numbered(number: u64) -> Self {
        Self(number)
    }

    #[inline]
    fn place(self) -> usize {
        (self.0 & ((1 << PLACE_BITS) - 1)) as usize
    }
}

/// See the [module](self).
#[derive(Debug)]
pub struct Pool<T> {
    places: Vec<(u64, Option<T>)>,
    free: Vec<usize>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            places: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T> Pool<T> {
    /// Puts in a thing, unless there are `most` already.
    pub fn insert(&mut self, thing: T, most: usize) -> Option<Ref> {
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.places.len() < most.min(1 << PLACE_BITS) => {
                self.places.push((0, None));
                self.places.len() - 1
            }
            None => return None,
        };
        let (times, slot) = &mut self.places[place];
        *times += 1;
        *slot = Some(thing);
        Some(Ref(*times << PLACE_BITS | place as u64))
    }

    /// The thing, if it is still there.
    #[must_use]
    #[inline]
    pub fn get(&self, at: Ref) -> Option<&T> {
        let (times, thing) = self.places.get(at.place())?;
        thing.as_ref().filter(|_| *times == at.0 >> PLACE_BITS)
    }

    /// The thing, if it is still there.
    #[must_use]
    #[inline]
    pub fn get_mut(&mut self, at: Ref) -> Option<&mut T> {
        let (times, thing) = self.places.get_mut(at.place())?;
        thing.as_mut().filter(|_| *times == at.0 >> PLACE_BITS)
    }

    /// Takes it out.
    pub fn remove(&mut self, at: Ref) -> Option<T> {
        self.get(at)?;
        let (_, thing) = self.places.get_mut(at.place())?;
        self.free.push(at.place());
        thing.take()
    }

    /// The thing in a place.
    #[must_use]
    pub fn at(&self, place: usize) -> Option<Ref> {
        let (times, thing) = self.places.get(place)?;
        thing.as_ref()?;
        Some(Ref(*times << PLACE_BITS | place as u64))
    }

    /// Places that were ever taken.
    #[must_use]
    pub fn places(&self) -> usize {
        self.places.len()
    }

    /// Things.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_go_stale() {
        let mut pool = Pool::default();
        let first = pool.insert('a', 1).unwrap();
        assert_eq!(pool.insert('b', 1), None);
        assert_eq!((pool.remove(first), pool.remove(first)), (Some('a'), None));
        let second = pool.insert('c', 1).unwrap();
        assert_ne!(first, second);
        assert_eq!((pool.get(first), pool.get(second)), (None, Some(&'c')));
        assert_eq!(pool.at(0), Some(second));
        assert_eq!(pool.get(Ref::default()), None);
        assert_eq!(pool.get(Ref::numbered(u64::MAX)), None);
    }
}
