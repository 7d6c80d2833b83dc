//! What a stream of RTP packets from one source has been through: loss, reordering, repeats, jitter (RFC 3550 sections 6.4.1, A.1, A.3, A.8).

use super::format::Content;
use super::header::Header;

/// A leap forward in sequence numbers that is taken as loss; a larger one is a source that began anew (RFC 3550 A.1).
const MAX_DROPOUT: u16 = 3000;
/// How far behind a packet may come and still be late: so many of the latest numbers are told apart as seen or not. More is a source that began anew.
const MAX_MISORDER: u16 = u64::BITS as u16 - 1;
const SECOND_NS: u64 = 1_000_000_000;

/// A source, as heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stream {
    ssrc: u32,
    /// Highest sequence number, with its wraps in the upper half.
    highest: u32,
    /// The first one since the source last began.
    first: u32,
    /// Bit n: `highest - n` has been seen.
    seen: u64,
    /// Distinct packets since the source last began.
    heard: u32,
    received: u64,
    /// Lost before the source last began anew.
    lost_before: u64,
    reordered: u32,
    repeated: u32,
    restarts: u32,
    clock_rate: u32,
    /// Transit time of the latest packet, in units of the clock.
    transit: i64,
    /// Sixteen times the jitter, in units of the clock.
    jitter: u32,
    events: u32,
    /// When the latest event began, in units of the clock.
    event_at: u32,
    noise: u32,
}

impl Stream {
    /// A source whose first packet this is. `clock_rate` in Hz of its payload type, 0 if it isn't known: then jitter isn't either.
    #[must_use]
    pub fn begin(header: &Header, clock_rate: u32, time_ns: u64) -> Self {
        Self {
            ssrc: header.ssrc,
            highest: first(header),
            first: first(header),
            seen: 1,
            heard: 1,
            received: 1,
            lost_before: 0,
            reordered: 0,
            repeated: 0,
            restarts: 0,
            clock_rate,
            transit: transit(header.timestamp, clock_rate, time_ns),
            jitter: 0,
            events: 0,
            event_at: 0,
            noise: 0,
        }
    }

    /// Takes note of a packet of the source, captured at `time_ns`.
    #[inline]
    pub fn observe(&mut self, header: &Header, time_ns: u64) {
        if self.follow(header) {
            self.measure(header, time_ns);
        }
    }

    /// Takes note of what a packet, which was observed or began the stream, carries. True if an event begins with it: each is told of by several
    /// packets of one timestamp (RFC 4733 section 2.5.1.2).
    #[inline]
    pub fn note(&mut self, header: &Header, content: Content) -> bool {
        match content {
            Content::Media => false,
            Content::Noise => {
                self.noise += 1;
                false
            }
            Content::Event => {
                let is_new = self.events == 0 || self.event_at != header.timestamp;
                self.event_at = header.timestamp;
                self.events += u32::from(is_new);
                // Its timestamp is that of its beginning, and says nothing about the next packet's way.
                self.transit = i64::MIN;
                is_new
            }
        }
    }

    /// Takes note of the number of a packet. Whether its time is worth measuring.
    #[inline]
    fn follow(&mut self, header: &Header) -> bool {
        self.received += 1;
        let ahead = header.sequence.wrapping_sub(self.highest as u16);
        let behind = 0u16.wrapping_sub(ahead);
        if ahead == 0 {
            self.repeated += 1;
            return false;
        }
        if ahead < MAX_DROPOUT {
            self.highest = self.highest.wrapping_add(ahead.into());
            self.seen = self.seen.checked_shl(ahead.into()).unwrap_or(0) | 1;
            self.heard += 1;
        } else if behind <= MAX_MISORDER {
            let place = 1 << behind;
            if self.seen & place != 0 {
                self.repeated += 1;
            } else {
                self.seen |= place;
                self.heard += 1;
                self.reordered += 1;
                self.first = self.first.min(self.highest.wrapping_sub(behind.into()));
            }
            // Late packets would count as jitter what is reordering.
            return false;
        } else {
            self.begin_anew(header);
        }
        true
    }

    fn begin_anew(&mut self, header: &Header) {
        self.lost_before = self.lost();
        self.restarts += 1;
        (self.highest, self.first) = (first(header), first(header));
        (self.seen, self.heard) = (1, 1);
        self.transit = i64::MIN;
    }

    /// RFC 3550 A.8, in integers.
    fn measure(&mut self, header: &Header, time_ns: u64) {
        let transit = transit(header.timestamp, self.clock_rate, time_ns);
        let before = std::mem::replace(&mut self.transit, transit);
        if self.clock_rate == 0 || before == i64::MIN {
            return;
        }
        // Timestamps wrap: the difference is what their last 32 bits say.
        let step = i64::from(transit.wrapping_sub(before) as i32).unsigned_abs();
        let jitter = i64::from(self.jitter);
        let change = step.min(u64::from(u32::MAX) >> 6) as i64 - (jitter + 8) / 16;
        self.jitter = (jitter + change).clamp(0, u32::MAX.into()) as u32;
    }

    /// Takes in what the same source was heard to send elsewhere, from some packet on.
    pub fn join(&mut self, other: &Self) {
        let before = *self;
        let ahead = (other.highest as u16).wrapping_sub(self.highest as u16);
        let gap = (other.first as u16).wrapping_sub(self.highest as u16);
        if ahead < u16::MAX / 2 {
            *self = *other;
            let missing = match gap {
                1..MAX_DROPOUT => u64::from(gap - 1),
                _ => 0,
            };
            self.lost_before += before.lost() + missing;
        } else {
            self.lost_before += other.lost();
        }
        self.received = before.received + other.received;
        self.reordered = before.reordered + other.reordered;
        self.repeated = before.repeated + other.repeated;
        self.restarts = before.restarts + other.restarts;
        self.events = before.events + other.events;
        self.noise = before.noise + other.noise;
    }

    /// Its synchronization source.
    #[must_use]
    #[inline]
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Whether a packet with sequence number `sequence` would go on where it stands.
    #[must_use]
    pub fn continues_at(&self, sequence: u16) -> bool {
        sequence.wrapping_sub(self.highest as u16) < MAX_DROPOUT
    }

    /// Packets, repeats included.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Packets whose numbers were left out.
    #[must_use]
    pub fn lost(&self) -> u64 {
        let expected = u64::from(self.highest.wrapping_sub(self.first)) + 1;
        self.lost_before + expected.saturating_sub(self.heard.into())
    }

    /// Packets that came after later ones.
    #[must_use]
    pub fn reordered(&self) -> u32 {
        self.reordered
    }

    /// Packets that came again.
    #[must_use]
    pub fn repeated(&self) -> u32 {
        self.repeated
    }

    /// How often its sequence numbers began anew.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Events that its packets told of.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Packets of comfort noise.
    #[must_use]
    pub fn noise(&self) -> u32 {
        self.noise
    }

    /// Interarrival jitter in microseconds, if the clock rate is known.
    #[must_use]
    pub fn jitter_us(&self) -> Option<u64> {
        (u64::from(self.jitter) * 1_000_000 / 16).checked_div(self.clock_rate.into())
    }
}

/// The first number of a source, one wrap up: what comes late may lie before it.
fn first(header: &Header) -> u32 {
    (1 << 16) + u32::from(header.sequence)
}

/// Arrival time less sampling time, in units of the clock.
fn transit(timestamp: u32, clock_rate: u32, time_ns: u64) -> i64 {
    // Seconds and the rest apart, so that 64 bits do: a division of 128 takes longer than all else that is done with a packet here.
    let (seconds, rest_ns) = (time_ns / SECOND_NS, time_ns % SECOND_NS);
    let rate = u64::from(clock_rate);
    let arrival = seconds
        .wrapping_mul(rate)
        .wrapping_add(rest_ns * rate / SECOND_NS);
    (arrival as i64).wrapping_sub(timestamp.into())
}

/// The clock rate, in Hz, of a payload type that has one by itself (RFC 3551 section 6).
#[must_use]
pub fn static_clock_rate(payload_type: u8) -> Option<u32> {
    match payload_type {
        0 | 3..=5 | 7..=9 | 12 | 13 | 15 | 18 => Some(8_000),
        6 => Some(16_000),
        10 | 11 => Some(44_100),
        14 | 25..=34 => Some(90_000),
        16 => Some(11_025),
        17 => Some(22_050),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MILLISECOND: u64 = 1_000_000;

    fn packet(number: u32) -> Header {
        Header {
            payload_type: 0,
            marker: false,
            sequence: number as u16,
            timestamp: number.wrapping_mul(160),
            ssrc: 1,
            len: 12,
        }
    }

    fn heard(numbers: impl IntoIterator<Item = u32>) -> Stream {
        let mut numbers = numbers.into_iter();
        let first = numbers.next().unwrap();
        let time = |number| u64::from(number) * 20 * MILLISECOND;
        let mut stream = Stream::begin(&packet(first), 8_000, time(first));
        for number in numbers {
            stream.observe(&packet(number), time(number));
        }
        stream
    }

    #[test]
    fn loss_is_counted_across_wraps() {
        let stream = heard((65_000..70_000).filter(|number| number % 100 != 7));
        assert_eq!((stream.received(), stream.lost()), (4_950, 50));
        assert_eq!((stream.reordered(), stream.restarts()), (0, 0));
        assert_eq!(stream.jitter_us(), Some(0));
    }

    #[test]
    fn late_packets_are_not_lost_and_repeats_do_not_make_up_for_loss() {
        let stream = heard([1, 2, 4, 3, 5, 5, 4, 8]);
        assert_eq!(
            (stream.lost(), stream.reordered(), stream.repeated()),
            (2, 1, 2)
        );
        // One that comes before the first.
        let stream = heard([10, 9, 11]);
        assert_eq!((stream.lost(), stream.reordered()), (0, 1));
        // Before the wrap.
        let stream = heard([65_536, 65_535, 65_538]);
        assert_eq!((stream.lost(), stream.reordered()), (1, 1));
    }

    #[test]
    fn a_source_that_begins_anew_has_lost_nothing() {
        let stream = heard([1, 2, 4, 30_000, 30_001, 30_003]);
        assert_eq!((stream.lost(), stream.restarts()), (2, 1));
    }

    #[test]
    fn what_was_heard_elsewhere_goes_on() {
        let mut stream = heard([1, 2, 4]);
        stream.join(&heard([7, 8, 10]));
        stream.observe(&packet(12), 0);
        assert_eq!((stream.received(), stream.lost()), (7, 5));
        // Earlier ones come second.
        let mut stream = heard([7, 8, 10]);
        stream.join(&heard([1, 2, 4]));
        stream.observe(&packet(11), 0);
        assert_eq!((stream.received(), stream.lost()), (7, 2));
    }

    #[test]
    fn jitter_is_that_of_the_rfc() {
        // Alternately 10 ms late: differences of 80 units, so the jitter tends to 80 of them.
        let mut stream = Stream::begin(&packet(0), 8_000, 0);
        for number in 1..2_000u32 {
            let late = u64::from(number % 2) * 10 * MILLISECOND;
            stream.observe(&packet(number), u64::from(number) * 20 * MILLISECOND + late);
        }
        let jitter = stream.jitter_us().unwrap();
        assert!((9_800..=10_100).contains(&jitter), "{jitter}");
        let mut stream = Stream::begin(&packet(0), 0, 0);
        stream.observe(&packet(1), 5);
        assert_eq!(stream.jitter_us(), None);
    }

    #[test]
    fn each_event_counts_once_and_is_no_jitter() {
        let mut stream = Stream::begin(&packet(0), 8_000, 0);
        for number in 1..20u32 {
            let event = (5..15).contains(&number);
            // Two events of five packets each.
            let begin = (number - number % 5) * 160;
            let header = Header {
                timestamp: if event { begin } else { number * 160 },
                ..packet(number)
            };
            if !event {
                stream.observe(&header, u64::from(number) * 20 * MILLISECOND);
                continue;
            }
            stream.observe(&header, u64::from(number) * 20 * MILLISECOND);
            assert_eq!(stream.note(&header, Content::Event), number % 5 == 0);
        }
        assert_eq!((stream.events(), stream.lost()), (2, 0));
        assert_eq!(stream.jitter_us(), Some(0));
    }

    proptest! {
        #[test]
        fn any_order_is_accounted_for(numbers in prop::collection::vec(any::<u32>(), 1..300)) {
            let stream = heard(numbers.iter().copied());
            prop_assert_eq!(stream.received(), numbers.len() as u64);
        }

        /// Shuffled a little, everything is there.
        #[test]
        fn what_is_only_reordered_is_not_lost(start in any::<u16>(), swaps in prop::collection::vec(0..500usize, 0..100)) {
            let mut numbers: Vec<u32> = (u32::from(start)..u32::from(start) + 502).collect();
            for at in swaps {
                numbers.swap(at, at + 1);
            }
            // Swaps may carry a packet far; within the window all are recognised.
            let far = numbers.iter().zip(u32::from(start)..).any(|(number, at)| number.abs_diff(at) >= 32);
            let stream = heard(numbers);
            if !far {
                prop_assert_eq!((stream.lost(), stream.repeated(), stream.restarts()), (0, 0, 0));
            }
        }
    }
}
