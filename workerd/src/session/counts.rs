//! What protocols count, until it is reported.

use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::worker::WorkerCommit;

/// See the [module](self). Protocols have few counters, so each is found where it stands.
#[derive(Debug, Default)]
pub struct Counts(Vec<(Counter, u64)>);

impl Counts {
    /// Counts one.
    #[inline]
    pub fn add(&mut self, counter: Counter) {
        match self.0.iter_mut().find(|(known, _)| *known == counter) {
            Some((_, count)) => *count += 1,
            None => self.0.push((counter, 1)),
        }
    }

    /// Reports what was counted since the last time.
    pub fn report(&mut self, commit: &mut WorkerCommit) {
        for (counter, count) in &mut self.0 {
            commit.add(*counter, std::mem::take(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_reported_once() {
        let (mut counts, mut commit) = (Counts::default(), WorkerCommit::default());
        for counter in [
            Counter::DnsMessages,
            Counter::TlsHellos,
            Counter::DnsMessages,
        ] {
            counts.add(counter);
        }
        counts.report(&mut commit);
        counts.report(&mut commit);
        counts.add(Counter::TlsHellos);
        counts.report(&mut commit);
        let reported = [Counter::DnsMessages, Counter::TlsHellos].map(|one| commit.get(one));
        assert_eq!(reported, [2, 2]);
    }
}
