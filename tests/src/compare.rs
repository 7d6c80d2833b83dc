//! Tells whether a capture holds exactly the packets of another, each flow in its order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use crate::capture::Packet;
use crate::flow::Flow;

/// What differs between the packets that were expected and those that arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Difference {
    /// Packets expected.
    pub expected: usize,
    /// Packets that arrived.
    pub arrived: usize,
    /// Expected packets of which nothing arrived.
    pub lost: usize,
    /// Packets that arrived beyond those expected: twice, or never sent.
    pub extra: usize,
    /// Packets whose bytes arrived, but with another time, length or link type.
    pub altered: usize,
    /// Packets that arrived, but behind one of their flow that should have followed.
    pub out_of_order: usize,
    /// The first few differences, in words.
    pub examples: Vec<String>,
}

/// Examples kept of each kind.
const EXAMPLES: usize = 3;

impl Difference {
    /// Compares what `arrived` with what was `expected`.
    pub fn between(expected: &[Packet], arrived: &[Packet]) -> Self {
        let mut difference = Self {
            expected: expected.len(),
            arrived: arrived.len(),
            ..Self::default()
        };
        let matched = difference.match_packets(expected, arrived);
        difference.check_order(expected, &matched);
        difference
    }

    /// Whether nothing differs.
    pub fn is_none(&self) -> bool {
        self.lost + self.extra + self.altered + self.out_of_order == 0
    }

    /// Pairs equal packets, and counts those without a partner. Returns for each arrived packet
    /// that has a partner the partner's position, in order of arrival.
    fn match_packets(&mut self, expected: &[Packet], arrived: &[Packet]) -> Vec<usize> {
        let mut waiting: HashMap<&Packet, Vec<usize>> = HashMap::new();
        for (position, packet) in expected.iter().enumerate().rev() {
            waiting.entry(packet).or_default().push(position);
        }
        let mut matched = Vec::with_capacity(arrived.len());
        let mut extra = Vec::new();
        for packet in arrived {
            match waiting.get_mut(packet).and_then(Vec::pop) {
                Some(position) => matched.push(position),
                None => extra.push(packet),
            }
        }
        let mut lost: Vec<usize> = waiting.into_values().flatten().collect();
        lost.sort_unstable();
        self.explain(expected, lost, extra);
        matched
    }

    /// Tells packets that were altered from those lost and extra.
    fn explain(&mut self, expected: &[Packet], lost: Vec<usize>, extra: Vec<&Packet>) {
        let mut by_bytes: HashMap<&[u8], Vec<&Packet>> = HashMap::new();
        for packet in extra.into_iter().rev() {
            by_bytes.entry(&packet.bytes).or_default().push(packet);
        }
        for position in lost {
            let packet = &expected[position];
            match by_bytes.get_mut(&packet.bytes[..]).and_then(Vec::pop) {
                Some(other) => {
                    self.altered += 1;
                    if self.altered <= EXAMPLES {
                        self.examples.push(format!(
                            "packet {}: expected {}, arrived {}",
                            position + 1,
                            Facts(packet),
                            Facts(other)
                        ));
                    }
                }
                None => {
                    self.lost += 1;
                    if self.lost <= EXAMPLES {
                        let facts = Facts(packet);
                        self.examples
                            .push(format!("packet {} lost: {facts}", position + 1));
                    }
                }
            }
        }
        for packet in by_bytes.into_values().flatten() {
            self.extra += 1;
            if self.extra <= EXAMPLES {
                self.examples.push(format!("extra: {}", Facts(packet)));
            }
        }
    }

    /// Counts packets that arrived behind a later one of their flow.
    fn check_order(&mut self, expected: &[Packet], matched: &[usize]) {
        let mut latest: HashMap<Flow, usize> = HashMap::new();
        for position in matched {
            let flow = Flow::of(&expected[*position]);
            let latest = latest.entry(flow).or_insert(*position);
            if *latest > *position {
                self.out_of_order += 1;
                if self.out_of_order <= EXAMPLES {
                    self.examples.push(format!(
                        "packet {} arrived behind packet {} of its flow: {}",
                        position + 1,
                        *latest + 1,
                        Facts(&expected[*position])
                    ));
                }
            } else {
                *latest = *position;
            }
        }
    }
}

/// What was not found as often as it is known, in words.
pub fn counts<K: Ord + fmt::Debug, N: Copy + Default + PartialEq + fmt::Display>(
    known: &BTreeMap<K, N>,
    found: &BTreeMap<K, N>,
) -> Vec<String> {
    let count = |of: &BTreeMap<K, N>, key: &K| of.get(key).copied().unwrap_or_default();
    let all: BTreeSet<&K> = known.keys().chain(found.keys()).collect();
    all.into_iter()
        .map(|key| (key, count(known, key), count(found, key)))
        .filter(|(_, known, found)| known != found)
        .map(|(key, known, found)| {
            let key = format!("{key:?}");
            format!("{found} instead of {known}: {key:.200}")
        })
        .collect()
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "expected {}, arrived {}: {} lost, {} extra, {} altered, {} out of order",
            self.expected, self.arrived, self.lost, self.extra, self.altered, self.out_of_order
        )?;
        for example in &self.examples {
            write!(formatter, "\n  {example}")?;
        }
        Ok(())
    }
}

/// A packet in a few words.
struct Facts<'a>(&'a Packet);

impl fmt::Display for Facts<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(packet) = self;
        write!(
            formatter,
            "time {}.{:09} link type {} length {} of {}",
            packet.time_ns.div_euclid(1_000_000_000),
            packet.time_ns.rem_euclid(1_000_000_000),
            packet.link_type,
            packet.bytes.len(),
            packet.original_len
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipv4;

    /// A UDP packet over raw IPv4 with `port` as source and `mark` as payload.
    fn packet(port: u16, mark: u8) -> Packet {
        let ends = [([10, 0, 0, 1].into(), port), ([10, 0, 0, 2].into(), 53)];
        let bytes = ipv4::udp(ends[0], ends[1], &[mark]);
        Packet::whole(ipv4::RAW_IP, i64::from(mark), bytes)
    }

    #[test]
    fn equal_captures_do_not_differ() {
        let packets = [packet(1, 1), packet(2, 2), packet(1, 1)];
        assert!(Difference::between(&packets, &packets).is_none());
    }

    #[test]
    fn flows_may_overtake_each_other() {
        let sent = [packet(1, 1), packet(2, 2), packet(1, 3)];
        let arrived = [packet(2, 2), packet(1, 1), packet(1, 3)];
        assert!(Difference::between(&sent, &arrived).is_none());
    }

    #[test]
    fn packets_of_a_flow_may_not() {
        let sent = [packet(1, 1), packet(1, 2), packet(1, 3)];
        let arrived = [packet(1, 2), packet(1, 1), packet(1, 3)];
        assert_eq!(Difference::between(&sent, &arrived).out_of_order, 1);
    }

    #[test]
    fn both_directions_are_one_flow() {
        let request = packet(1, 1);
        let mut response = packet(1, 2);
        response.bytes[12..20].rotate_left(4);
        response.bytes[20..24].rotate_left(2);
        let sent = [request.clone(), response.clone()];
        let arrived = [response, request];
        assert_eq!(Difference::between(&sent, &arrived).out_of_order, 1);
    }

    #[test]
    fn loss_and_repetition_are_counted() {
        let sent = [packet(1, 1), packet(1, 2)];
        let arrived = [packet(1, 1), packet(1, 1), packet(1, 1)];
        let difference = Difference::between(&sent, &arrived);
        assert_eq!((difference.lost, difference.extra), (1, 2));
        assert_eq!((difference.altered, difference.out_of_order), (0, 0));
    }

    #[test]
    fn another_time_is_an_alteration() {
        let sent = [packet(1, 1)];
        let mut arrived = [packet(1, 1)];
        arrived[0].time_ns += 1;
        let difference = Difference::between(&sent, &arrived);
        assert_eq!(difference.altered, 1);
        assert_eq!((difference.lost, difference.extra), (0, 0));
    }
}
