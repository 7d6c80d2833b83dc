//! One direction of a session: which of its bytes are whose.

use std::collections::VecDeque;
use std::ops::Range;

use super::tracker::Exchange;

/// Claims that are kept for packets that come again.
const REMEMBERED: usize = 8;
/// Most claims that are kept.
const MOST: usize = 4096;

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Side {
    claims: VecDeque<Claim>,
    /// Up to where bytes are claimed.
    claimed: u64,
    /// Whose all bytes behind that are.
    rest: Option<Option<Exchange>>,
    /// Whether it has ended.
    pub has_ended: bool,
}

#[derive(Debug)]
struct Claim {
    start: u64,
    end: u64,
    exchange: Option<Exchange>,
}

impl Side {
    /// The bytes before `end` that nobody has claimed are of `exchange`. Whether that is another one than of the bytes before those.
    pub fn claim(&mut self, exchange: Option<Exchange>, end: u64) -> bool {
        if end <= self.claimed {
            return false;
        }
        let start = std::mem::replace(&mut self.claimed, end);
        if let Some(last) = self.claims.back_mut()
            && last.exchange == exchange
        {
            last.end = end;
            return false;
        }
        self.claims.push_back(Claim {
            start,
            end,
            exchange,
        });
        if self.claims.len() > MOST {
            self.claims.pop_front();
        }
        true
    }

    /// All bytes that nobody has claimed, and will come, are of `exchange`.
    pub fn leave_rest(&mut self, exchange: Option<Exchange>) {
        self.rest = Some(exchange);
    }

    /// More is to be learnt after all.
    pub fn reopen(&mut self) {
        self.rest = None;
    }

    /// A direction that is known up to `claimed`, by claims that begin so and end where the next one does. Those that are not in order are left out.
    #[must_use]
    pub fn from(claims: impl Iterator<Item = (u64, Option<Exchange>)>, claimed: u64) -> Self {
        let mut side = Self::default();
        let claims = claims.take_while(|(start, _)| *start < claimed);
        for (start, exchange) in claims.take(REMEMBERED) {
            match side.claims.back_mut() {
                Some(last) if last.start >= start => continue,
                Some(last) => last.end = start,
                None => {}
            }
            side.claims.push_back(Claim {
                start,
                end: claimed,
                exchange,
            });
        }
        side.claimed = claimed;
        side
    }

    /// The claims that are kept in any case: where each begins, and whose it is.
    pub fn latest(&self) -> impl Iterator<Item = (u64, Option<Exchange>)> {
        let latest = self.claims.len().saturating_sub(REMEMBERED);
        let claims = self.claims.iter().skip(latest);
        claims.map(|claim| (claim.start, claim.exchange))
    }

    /// Up to where bytes are claimed.
    #[must_use]
    pub fn claimed(&self) -> u64 {
        self.claimed
    }

    /// Whose all is that comes.
    #[must_use]
    pub fn rest(&self) -> Option<Option<Exchange>> {
        self.rest
    }

    /// Up to where it is known whose bytes are.
    #[must_use]
    pub fn known(&self) -> u64 {
        match self.rest {
            None if !self.has_ended => self.claimed,
            _ => u64::MAX,
        }
    }

    /// Whose bytes of `range` are, as far as that is known or remembered.
    pub fn of(&self, range: Range<u64>) -> impl Iterator<Item = Option<Exchange>> {
        let rest = self.rest.filter(|_| range.end > self.claimed);
        let has_part = move |claim: &&Claim| claim.start < range.end && range.start < claim.end;
        let claims = self.claims.iter().filter(has_part);
        let claims = claims.map(|claim| claim.exchange);
        claims.chain(rest)
    }

    /// No packet waits that carries claimed bytes: only some claims are remembered.
    pub fn tidy(&mut self) {
        while self.claims.len() > REMEMBERED {
            self.claims.pop_front();
        }
    }

    /// Offsets begin at 0 again.
    pub fn begin_again(&mut self) {
        self.claims.clear();
        self.claimed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_of_whoever_claims_them_first() {
        let mut side = Side::default();
        let (a, b) = (Some(Exchange(1)), Some(Exchange(2)));
        side.claim(a, 10);
        side.claim(b, 20);
        side.claim(a, 15);
        side.claim(None, 25);
        assert_eq!(side.known(), 25);
        let of = |side: &Side, range| side.of(range).collect::<Vec<_>>();
        assert_eq!(of(&side, 0..10), [a]);
        assert_eq!(of(&side, 9..21), [a, b, None]);
        assert_eq!(of(&side, 24..30), [None]);
        side.leave_rest(b);
        assert_eq!(of(&side, 24..30), [None, b]);
        assert_eq!(side.known(), u64::MAX);
    }

    #[test]
    fn a_successor_knows_what_is_remembered() {
        let mut side = Side::default();
        for end in 1..=20 {
            side.claim((end % 3 > 0).then_some(Exchange(end)), 10 * end);
        }
        side.tidy();
        let copy = Side::from(side.latest(), side.claimed());
        assert_eq!(copy.known(), 200);
        for at in 100..200 {
            let of = |side: &Side| side.of(at..at + 1).collect::<Vec<_>>();
            assert_eq!(of(&copy), of(&side), "{at}");
        }
        let hostile = [(5, None), (3, None), (9, None)].into_iter();
        assert_eq!(Side::from(hostile, 7).of(0..20).count(), 1);
    }

    #[test]
    fn claims_are_bounded() {
        let mut side = Side::default();
        for end in 1..=3 * MOST as u64 {
            side.claim(Some(Exchange(end)), end);
        }
        assert_eq!(side.of(0..u64::MAX).count(), MOST);
        side.tidy();
        assert_eq!(side.of(0..u64::MAX).count(), REMEMBERED);
    }
}
