//! The clock of a flow table: driven by packet times, never by the wall.
//!
//! A capture that is replayed in a second has its flows end where they ended when it was taken, and a live one has packet times that
//! agree with the wall anyhow. But packet times are input: files are read one after the other, hours or years apart; clocks are
//! set; interfaces of one file disagree. So the clock only ever goes forward, by the progress that packet times make:
//!
//! - Time goes on: so does the clock.
//! - Time leaps forward by more than [`LEAP_NS`]: the source's clock was set, or another file begins. The clock stands, and goes on
//!   from there.
//! - Time goes back: the clock stands until time has caught up, as with packets of several interfaces that are slightly out of order,
//!   or whose clocks are hours apart. If nothing catches up while the packets themselves make [`PATIENCE_NS`] of progress, time was
//!   set back for good, and the clock goes on from there.

/// Silence that is believed: a day.
const LEAP_NS: u64 = 86_400_000_000_000;
/// How long the latest time is waited for when time went back.
const PATIENCE_NS: u64 = 10_000_000_000;
/// A tick is 2^26 ns, 67 ms: 32 bits of ticks last nine years.
const TICK_BITS: u32 = 26;

/// A point on the clock. Ticks wrap around: only their differences have a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tick(pub(super) u32);

impl Tick {
    /// Whether `now` has come to this tick.
    #[inline]
    pub(crate) fn has_come(self, now: Tick) -> bool {
        self.after(now) <= 0
    }

    /// Ticks from `now` to this one; negative if it is past.
    #[inline]
    pub(crate) fn after(self, now: Tick) -> i32 {
        self.0.wrapping_sub(now.0) as i32
    }

    #[inline]
    pub(crate) fn plus(self, ticks: u32) -> Tick {
        Tick(self.0.wrapping_add(ticks))
    }
}

/// Whole ticks that a time lasts, at least one and at most four years.
pub(crate) fn ticks(time: std::time::Duration) -> u32 {
    let ticks = (time.as_nanos() >> TICK_BITS).clamp(1, 1 << 30);
    ticks as u32
}

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Clock {
    passed_ns: u64,
    /// The latest packet time that counted; none before the first packet.
    latest: Option<u64>,
    /// The first packet time since time went back.
    behind: Option<u64>,
}

impl Clock {
    /// Takes in the time of a packet.
    #[inline]
    pub(crate) fn see(&mut self, packet_ns: u64) {
        let latest = *self.latest.get_or_insert(packet_ns);
        match packet_ns.checked_sub(latest) {
            Some(progress) => {
                if progress <= LEAP_NS {
                    self.passed_ns += progress;
                }
                self.latest = Some(packet_ns);
                self.behind = None;
            }
            None => self.fall_behind(packet_ns),
        }
    }

    #[cold]
    fn fall_behind(&mut self, packet_ns: u64) {
        let since = *self.behind.get_or_insert(packet_ns);
        match packet_ns.checked_sub(since) {
            None => self.behind = Some(packet_ns),
            Some(progress) if progress >= PATIENCE_NS => {
                self.latest = Some(packet_ns);
                self.behind = None;
            }
            Some(_) => {}
        }
    }

    /// What has passed since the first packet, in nanoseconds.
    #[inline]
    pub(crate) fn passed_ns(&self) -> u64 {
        self.passed_ns
    }

    /// Now.
    #[inline]
    pub(crate) fn now(&self) -> Tick {
        Tick((self.passed_ns >> TICK_BITS) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const S: u64 = 1_000_000_000;
    const YEAR: u64 = 365 * 86_400 * S;

    fn seconds_after(times: impl IntoIterator<Item = u64>) -> u64 {
        let mut clock = Clock::default();
        for time in times {
            clock.see(time);
        }
        clock.passed_ns / S
    }

    #[test]
    fn it_begins_at_the_first_packet_and_follows() {
        assert_eq!(
            seconds_after([50 * YEAR, 50 * YEAR + 3 * S, 50 * YEAR + 5 * S]),
            5
        );
    }

    #[test]
    fn slight_disorder_counts_no_time_twice() {
        assert_eq!(
            seconds_after([10 * S, 12 * S, 11 * S, 12 * S, 11 * S, 13 * S]),
            3
        );
    }

    #[test]
    fn clocks_hours_apart_run_as_one() {
        let interleaved = (0..100).flat_map(|n| [YEAR + n * S, YEAR + 3_600 * S + n * S]);
        assert_eq!(seconds_after(interleaved), 3_600 + 99);
    }

    #[test]
    fn clocks_years_apart_run_as_one() {
        let interleaved = (0..100).flat_map(|n| [n * S, 50 * YEAR + n * S]);
        assert_eq!(seconds_after(interleaved), 99);
    }

    #[test]
    fn an_earlier_file_goes_on_after_ten_seconds() {
        let later = (0..=100).map(|n| YEAR + n * S);
        let earlier = (0..=100).map(|n| n * S);
        assert_eq!(seconds_after(later.chain(earlier)), 190);
    }

    #[test]
    fn a_later_file_goes_on_at_once() {
        let earlier = (0..=100).map(|n| n * S);
        let later = (0..=100).map(|n| YEAR + n * S);
        assert_eq!(seconds_after(earlier.chain(later)), 200);
    }

    #[test]
    fn ticks_wrap_around() {
        let soon = Tick(u32::MAX).plus(3);
        assert_eq!(soon, Tick(2));
        assert!(!soon.has_come(Tick(u32::MAX)));
        assert!(!soon.has_come(Tick(1)));
        assert!(soon.has_come(Tick(2)));
        assert!(soon.has_come(Tick(3)));
    }

    #[test]
    fn times_become_ticks_within_bounds() {
        assert_eq!(ticks(Duration::ZERO), 1);
        assert_eq!(ticks(Duration::from_secs(67)), 998);
        assert_eq!(ticks(Duration::MAX), 1 << 30);
    }

    proptest! {
        #[test]
        fn any_times_move_it_forward_by_a_day_at_most(times: Vec<u64>) {
            let mut clock = Clock::default();
            for time in times {
                let before = clock.passed_ns;
                clock.see(time);
                prop_assert!((before..=before + LEAP_NS).contains(&clock.passed_ns));
            }
        }
    }
}
