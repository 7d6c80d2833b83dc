//! Sources of media (SSRC, RFC 3550 section 3), as calls hear them: so media that turn up between two addresses of which nobody announced one are known to go on with those of a call.
//!
//! That happens where both ends are behind NAT, or move to other addresses without a word. Of each source a call remembers the first packet that came from or went to an announced
//! place, and tells it. Of a flow without an announced end the first packet is remembered as well. It goes on with a call if
//!
//! - the call knows its source,
//! - its payload type is one of the same clock rate,
//! - its timestamp is what the source's clock has come to in the time between, give or take [`CLOCK_TOLERANCE_NS`] and two in a thousand, and
//! - so many packets may lie between that its sequence number can be right.
//!
//! Gateways that give all of their streams one SSRC are told apart by this; where more than one call fits, or more than [`MOST_OWNERS`] know a source, the flow is of none. SSRCs up to
//! [`LARGEST_TRIVIAL`] are not chosen at random, as they ought to be, and say nothing.
//!
//! Only first packets count, not how far a source has come: all workers know these when they have come as far, whichever of them hear it.

use std::collections::HashMap;

use super::calls::CallRef;
use crate::rtp::Header;

/// Most sources of a call that are remembered: the earliest.
pub const MOST_SOURCES: usize = 32;
/// Most calls that a source may be known of.
pub const MOST_OWNERS: usize = 8;
/// SSRCs up to this one mean nothing.
pub const LARGEST_TRIVIAL: u32 = 255;
/// How far timestamps may be from where they are to be, in nanoseconds.
pub const CLOCK_TOLERANCE_NS: u64 = 250_000_000;
/// How much later than a flow begins what tells whose it is may come, in nanoseconds.
pub const AHEAD_NS: u64 = 1_000_000_000;

/// Packets a second of a source, at most.
const MOST_PACKETS_PER_SECOND: u64 = 1_000;
/// How far packets may be out of order.
const MISORDER: u64 = 100;
/// Clock rates in Hz that a payload type of which nothing is known may have.
const USUAL_CLOCK_RATES: [u32; 4] = [8_000, 16_000, 48_000, 90_000];
const SECOND_NS: u64 = 1_000_000_000;

/// The first packet of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// When it was captured, in nanoseconds.
    pub time_ns: u64,
    /// The source.
    pub ssrc: u32,
    /// Its timestamp.
    pub timestamp: u32,
    /// Payload type and sequence number; none of a report.
    pub packet: Option<(u8, u16)>,
}

impl Source {
    /// By a packet of RTP.
    #[must_use]
    pub fn of(header: &Header, time_ns: u64) -> Self {
        Self {
            time_ns,
            ssrc: header.ssrc,
            timestamp: header.timestamp,
            packet: Some((header.payload_type, header.sequence)),
        }
    }

    /// By what [`sender_report`](crate::rtp::sender_report) found.
    #[must_use]
    pub fn of_report((ssrc, timestamp): (u32, u32), time_ns: u64) -> Self {
        Self {
            time_ns,
            ssrc,
            timestamp,
            packet: None,
        }
    }

    /// Whether its SSRC says nothing.
    #[must_use]
    pub fn is_trivial(&self) -> bool {
        self.ssrc <= LARGEST_TRIVIAL
    }

    /// Whether `found` may be of the same source. `clock_rate` tells that of a payload type in its call, in Hz; 0 if it isn't known.
    #[must_use]
    pub fn goes_on_with(&self, found: &Self, clock_rate: impl Fn(u8) -> u32) -> bool {
        let Some((payload_type, sequence)) = self.packet.filter(|_| self.ssrc == found.ssrc) else {
            return false;
        };
        let rate = clock_rate(payload_type);
        let fits = found.packet.is_none_or(|(other, number)| {
            let is_same_clock = other == payload_type || rate != 0 && clock_rate(other) == rate;
            is_same_clock && self.may_have_come_to(sequence, number, found.time_ns)
        });
        fits && match rate {
            0 => (USUAL_CLOCK_RATES.iter()).any(|rate| self.clock_may_show(found, *rate)),
            rate => self.clock_may_show(found, rate),
        }
    }

    /// Whether as many packets may have been sent until `time_ns` as numbers lie between `sequence` and `number`.
    fn may_have_come_to(&self, sequence: u16, number: u16, time_ns: u64) -> bool {
        let packets = |time_ns| time_ns * MOST_PACKETS_PER_SECOND / SECOND_NS + MISORDER;
        let passed_ns = time_ns.saturating_sub(self.time_ns).min(100 * SECOND_NS);
        let before_ns = self.time_ns.saturating_sub(time_ns).min(100 * SECOND_NS);
        u64::from(number.wrapping_sub(sequence)) <= packets(passed_ns)
            || u64::from(sequence.wrapping_sub(number)) <= packets(before_ns)
    }

    fn clock_may_show(&self, found: &Self, rate: u32) -> bool {
        let rate = i128::from(rate);
        let passed_ns = i128::from(found.time_ns) - i128::from(self.time_ns);
        let tolerance_ns = i128::from(CLOCK_TOLERANCE_NS) + passed_ns.abs() / 500;
        let second = i128::from(SECOND_NS);
        let passed = passed_ns * rate / second;
        let shown = found.timestamp.wrapping_sub(self.timestamp);
        // The clock wraps: the difference is what its 32 bits say.
        let off = shown.wrapping_sub(passed as u32) as i32;
        i128::from(off.unsigned_abs()) <= tolerance_ns * rate / second
    }
}

/// Remembers `source` among `known`, which are in order of time. Returns whether something has changed, and which one was given up for it.
pub fn remember(known: &mut Vec<Source>, source: Source) -> (bool, Option<Source>) {
    let is_it = |other: &Source| {
        other.ssrc == source.ssrc && other.packet.is_some() == source.packet.is_some()
    };
    let mut gone = None;
    match known.iter().position(is_it) {
        Some(at) if known[at].time_ns <= source.time_ns => return (false, None),
        Some(at) => gone = Some(known.remove(at)),
        None => {}
    }
    let order = |source: &Source| (source.time_ns, source.ssrc, source.packet);
    let place = known.partition_point(|other| order(other) < order(&source));
    if place == MOST_SOURCES {
        return (false, None);
    }
    if known.len() == MOST_SOURCES {
        gone = known.pop();
    }
    known.insert(place, source);
    (true, gone)
}

/// Which calls know each source.
#[derive(Debug, Default)]
pub struct Owners(HashMap<u32, Known>);

#[derive(Debug, Default)]
struct Known {
    calls: Vec<CallRef>,
    /// So many more.
    others: u32,
}

impl Owners {
    /// `call` knows a source that it did not know.
    pub fn add(&mut self, ssrc: u32, call: CallRef) {
        let known = self.0.entry(ssrc).or_default();
        match known.calls.len() < MOST_OWNERS {
            true => known.calls.push(call),
            false => known.others += 1,
        }
    }

    /// `call` knows it no more.
    pub fn remove(&mut self, ssrc: u32, call: CallRef) {
        let Some(known) = self.0.get_mut(&ssrc) else {
            return;
        };
        match known.calls.iter().position(|other| *other == call) {
            Some(place) => drop(known.calls.swap_remove(place)),
            None => known.others = known.others.saturating_sub(1),
        }
        if known.calls.is_empty() && known.others == 0 {
            self.0.remove(&ssrc);
        }
    }

    /// The calls that know a source; none if there are too many.
    #[must_use]
    pub fn find(&self, ssrc: u32) -> &[CallRef] {
        let known = self.0.get(&ssrc).filter(|known| known.others == 0);
        known.map_or(&[], |known| &known.calls)
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SSRC: u32 = 0xdead_beef;
    const HOUR: u64 = 3_600;

    /// Packet `number` of a source that began at zero, of 20 ms each.
    fn packet(number: u64) -> Source {
        Source {
            time_ns: 1_700_000_000 * SECOND_NS + number * 20_000_000,
            ssrc: SSRC,
            timestamp: (number as u32).wrapping_mul(160).wrapping_sub(7),
            packet: Some((0, (number as u16).wrapping_sub(9))),
        }
    }

    fn goes_on(known: Source, found: Source) -> bool {
        known.goes_on_with(&found, |_| 8_000)
    }

    #[test]
    fn what_a_source_sends_later_goes_on_with_it() {
        for number in [0, 1, 50, 3_000, 70_000, 48 * HOUR * 50] {
            assert!(goes_on(packet(0), packet(number)), "{number}");
            // The clock of the sender is not quite right.
            let mut late = packet(number);
            late.time_ns += 200_000_000 + number * 20_000_000 / 1_000;
            assert!(goes_on(packet(0), late), "{number}");
        }
        assert!(goes_on(packet(30), packet(0)), "the copy comes first");
        let mut other = packet(500);
        other.packet = Some((8, 491));
        assert!(goes_on(packet(0), other), "another codec of the same clock");
        assert!(
            goes_on(
                packet(0),
                Source {
                    packet: None,
                    ..packet(800)
                }
            ),
            "a report"
        );
    }

    #[test]
    fn what_only_has_its_ssrc_does_not() {
        let known = packet(0);
        // Another source of 20 ms packets that begins when the first has gone on for a while.
        for seconds in [1, 5, 60, HOUR] {
            let mut found = packet(0);
            found.time_ns += seconds * SECOND_NS;
            assert!(!goes_on(known, found), "{seconds}");
        }
        let mut found = packet(100);
        found.packet = Some((0, 40_000));
        assert!(!goes_on(known, found), "its numbers leap");
        let mut found = packet(100);
        found.packet = Some((96, 91));
        let rate = |payload_type| if payload_type == 0 { 8_000 } else { 90_000 };
        assert!(!known.goes_on_with(&found, rate), "another clock");
        let found = Source {
            ssrc: 1_000,
            ..packet(100)
        };
        assert!(!goes_on(known, found), "another source");
        let report = Source {
            packet: None,
            ..packet(0)
        };
        assert!(!goes_on(report, packet(100)), "a report is no beginning");
    }

    #[test]
    fn clocks_of_which_nothing_is_known_are_one_of_the_usual() {
        let known = packet(0);
        assert!(known.goes_on_with(&packet(5_000), |_| 0));
        let mut found = packet(5_000);
        found.timestamp = found.timestamp.wrapping_mul(3);
        assert!(!known.goes_on_with(&found, |_| 0));
    }

    #[test]
    fn the_earliest_are_remembered_in_whatever_order_they_come() {
        let source = |n: u32| Source {
            ssrc: 1_000 + n,
            ..packet(n.into())
        };
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for n in 0..2 * MOST_SOURCES as u32 {
            assert_eq!(remember(&mut up, source(n)).0, n < MOST_SOURCES as u32);
        }
        for n in (0..2 * MOST_SOURCES as u32).rev() {
            assert!(remember(&mut down, source(n)).0);
        }
        assert_eq!((up.len(), &up), (MOST_SOURCES, &down));
        // Of one source the earliest packet.
        let earlier = Source {
            time_ns: 5,
            ..source(3)
        };
        assert_eq!(remember(&mut up, earlier), (true, Some(source(3))));
        assert_eq!(remember(&mut up, source(3)), (false, None));
        assert_eq!((up.len(), up[0]), (MOST_SOURCES, earlier));
    }

    #[test]
    fn a_source_of_many_calls_is_of_none() {
        let mut owners = Owners::default();
        let call = |n: usize| CallRef::for_tests(n as u32);
        (0..MOST_OWNERS).for_each(|n| owners.add(SSRC, call(n)));
        assert_eq!(owners.find(SSRC).len(), MOST_OWNERS);
        owners.add(SSRC, call(99));
        assert_eq!(owners.find(SSRC), []);
        owners.remove(SSRC, call(99));
        assert_eq!(owners.find(SSRC).len(), MOST_OWNERS);
        (0..MOST_OWNERS).for_each(|n| owners.remove(SSRC, call(n)));
        assert!(owners.is_empty());
    }
}
