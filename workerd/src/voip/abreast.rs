//! Whether the other workers have come as far as this one.
//!
//! Of a file, numbers of packets tell: there is one capture thread, and each worker tells which number it has come past. Of a live capture they don't: each thread counts for
//! itself, and who has nothing to do comes past nothing. There, each worker tells up to where its rx rings are done, and the others compare that with what capd has put into those
//! rings. A worker without packets has nothing to tell, and nobody waits for it; one that is dead has told too little as long as packets wait for it.
//!
//! Time is counted in *moments*, which begin when a worker looks at the others. A comparison begins with a moment, and is over when all others have done what was in their
//! rings then: they have come past all moments before.

use shm_layout::layout::MAX_QUEUES;

/// See the [module](self).
#[derive(Debug)]
pub struct Abreast {
    others: Vec<Other>,
    is_live: bool,
    moment: u64,
    /// The moment with which the comparison at hand began.
    began: u64,
    /// The others have come past the moments before this one.
    past: u64,
}

/// Places in the rx rings of a worker, by capture thread.
#[derive(Debug, Default)]
struct Other {
    /// Up to where it is done; of a file, the number that it has come past.
    done: Vec<u64>,
    /// Up to where there is something, as it is now and as it was when the comparison began.
    heads: Vec<u64>,
    goals: Vec<u64>,
}

impl Abreast {
    /// Nothing is known of the `others`.
    #[must_use]
    pub fn new(others: usize, is_live: bool) -> Self {
        Self {
            others: (0..others).map(|_| Other::default()).collect(),
            is_live,
            moment: 0,
            began: 0,
            past: 0,
        }
    }

    /// Worker `other` of the others tells how far it has come.
    pub fn learn(&mut self, other: usize, told: impl Iterator<Item = u64>) {
        let Some(other) = self.others.get_mut(other) else {
            return;
        };
        for (queue, done) in told.take(MAX_QUEUES).enumerate() {
            let known = at(&mut other.done, queue);
            *known = done.max(*known);
        }
    }

    /// Up to where there is something in the rings of capture thread `queue`, in the order of the others.
    pub fn published(&mut self, queue: usize, heads: impl Iterator<Item = u64>) {
        for (other, head) in self.others.iter_mut().zip(heads) {
            *at(&mut other.heads, queue) = head;
        }
    }

    /// Begins the next moment, and compares.
    pub fn compare(&mut self) {
        self.moment += 1;
        if !self.others.iter().all(Other::has_come) {
            return;
        }
        self.past = self.began;
        self.began = self.moment;
        for other in &mut self.others {
            other.goals.clone_from(&other.heads);
        }
        if self.others.iter().all(Other::has_come) {
            self.past = self.moment;
        }
    }

    /// What a packet stands for: itself, or, live, the moment that follows.
    #[must_use]
    #[inline]
    pub fn moment_of(&self, sequence: u64) -> u64 {
        match self.is_live {
            true => self.moment + 1,
            false => sequence,
        }
    }

    /// Whether all others have come past what [`Abreast::moment_of`] gave.
    #[must_use]
    pub fn have_passed(&self, moment: u64) -> bool {
        match self.is_live {
            true => self.others.is_empty() || self.past > moment,
            false => self.slowest().is_none_or(|slowest| slowest > moment),
        }
    }

    /// Of a file, up to which number all others are done with packets. There may be none.
    #[must_use]
    pub fn slowest(&self) -> Option<u64> {
        let done = |other: &Other| other.done.first().copied().unwrap_or(0);
        self.others.iter().map(done).min()
    }
}

impl Other {
    fn has_come(&self) -> bool {
        let done = |queue| self.done.get(queue).copied().unwrap_or(0);
        let mut goals = self.goals.iter().enumerate();
        goals.all(|(queue, goal)| done(queue) >= *goal)
    }
}

fn at(places: &mut Vec<u64>, queue: usize) -> &mut u64 {
    if places.len() <= queue {
        places.resize(queue + 1, 0);
    }
    &mut places[queue]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_rings_of_others_is_waited_for() {
        let mut abreast = Abreast::new(2, true);
        abreast.published(1, [700, 0].into_iter());
        abreast.compare();
        let moment = abreast.moment_of(42);
        abreast.compare();
        abreast.compare();
        assert!(!abreast.have_passed(moment));
        // More comes meanwhile, and is not waited for.
        abreast.published(1, [900, 0].into_iter());
        abreast.learn(0, [0, 699].into_iter());
        abreast.compare();
        assert!(!abreast.have_passed(moment));
        abreast.learn(0, [0, 700].into_iter());
        abreast.compare();
        abreast.learn(0, [0, 900].into_iter());
        abreast.compare();
        abreast.compare();
        assert!(abreast.have_passed(moment));
        assert!(!abreast.have_passed(abreast.moment_of(43)));
    }

    #[test]
    fn nobody_waits_for_workers_without_packets() {
        let mut abreast = Abreast::new(3, true);
        abreast.compare();
        let moment = abreast.moment_of(42);
        abreast.compare();
        assert!(!abreast.have_passed(moment));
        abreast.compare();
        assert!(abreast.have_passed(moment));
    }

    #[test]
    fn of_a_file_numbers_tell() {
        let mut abreast = Abreast::new(2, false);
        assert_eq!(abreast.moment_of(42), 42);
        abreast.learn(0, [44].into_iter());
        abreast.learn(1, [42].into_iter());
        assert!(!abreast.have_passed(42));
        abreast.learn(1, [43].into_iter());
        assert!(abreast.have_passed(42));
        assert!(Abreast::new(0, false).have_passed(42));
    }
}
