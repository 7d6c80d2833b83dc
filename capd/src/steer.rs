//! Steering: which worker gets a packet.
//!
//! A symmetric flow hash over addresses, protocol and ports, so that both directions of a flow meet in one worker. The hash space is cut
//! into buckets, and a table says which worker has which: each its equal share, or, while a worker is away, its buckets spread over the
//! others. VLAN tags, MPLS labels and PPPoE are looked through and are not part of the hash: the two directions of a flow may
//! carry different tags.
//!
//! Fragments are hashed by addresses and protocol only, the first one too: so all fragments of a datagram meet. A flow that is sent partly
//! in fragments thereby reaches two workers; the table that brings fragments to their flow's worker belongs here, in [`Steering::worker`],
//! and so does the one that brings media to its call's worker.
//!
//! Packets that are not IP are hashed by their MAC addresses and EtherType; what cannot be read at all hashes to 0.
//!
//! The hash takes any bytes: it never panics, and looks at a bounded number of headers.

use shm_layout::layout::MAX_WORKERS;
use shm_layout::shares::WorkerSet;

/// Headers that are looked through at most, of each kind: VLAN tags and MPLS labels, IPv6 extension headers.
const MAX_TAGS: usize = 8;
const MAX_EXTENSIONS: usize = 8;

/// The hash space is cut into this many equal parts, a power of two; each part belongs to one worker.
const BUCKETS: usize = 1 << BUCKET_BITS;
const BUCKET_BITS: u32 = 10;

/// Picks the worker of each packet.
#[derive(Clone, Debug)]
pub struct Steering {
    workers: u32,
    away: WorkerSet,
    /// The worker of each bucket.
    table: [u8; BUCKETS],
}

impl Steering {
    /// Steers to `workers` workers (1 to [`MAX_WORKERS`]).
    pub fn new(workers: u32) -> Self {
        let mut steering = Self {
            workers: workers.clamp(1, MAX_WORKERS as u32),
            away: WorkerSet::NONE,
            table: [0; BUCKETS],
        };
        steering.divert(WorkerSet::NONE);
        steering
    }

    /// The worker, `0..workers`, for a packet of this flow hash.
    #[inline]
    pub fn worker(&self, flow_hash: u32) -> usize {
        self.table[bucket(flow_hash)].into()
    }

    /// The worker whose share the packet belongs to, away or not.
    #[inline]
    pub fn home(&self, flow_hash: u32) -> usize {
        self.home_of(bucket(flow_hash))
    }

    /// The workers whose share goes to the others.
    #[inline]
    pub fn away(&self) -> WorkerSet {
        self.away
    }

    /// From now on the shares of `away`, and of no others, go to the others: bucket by bucket to the worker with the highest score
    /// for that bucket (rendezvous hashing), so that nothing else moves when one more goes or comes back. If all are away, each
    /// keeps its share.
    pub fn divert(&mut self, away: WorkerSet) {
        self.away = away;
        for bucket in 0..BUCKETS {
            let home = self.home_of(bucket);
            let others = (0..self.workers as usize).filter(|worker| !away.contains(*worker));
            let worker = match away.contains(home) {
                true => others.max_by_key(|worker| score(bucket, *worker)),
                false => None,
            };
            self.table[bucket] = worker.unwrap_or(home) as u8;
        }
    }

    /// Equal parts, to a bucket.
    #[inline]
    fn home_of(&self, bucket: usize) -> usize {
        (bucket * self.workers as usize) >> BUCKET_BITS
    }
}

#[inline]
fn bucket(flow_hash: u32) -> usize {
    (flow_hash >> (u32::BITS - BUCKET_BITS)) as usize
}

fn score(bucket: usize, worker: usize) -> u64 {
    // Twice: of numbers this small, one multiplication leaves the scores of a worker too much alike.
    fold(fold(bucket as u64 ^ END, worker as u64 ^ FLOW) ^ FLOW, END)
}

/// The symmetric flow hash of a packet: equal for both directions of a flow, and for all fragments between two addresses.
#[inline]
pub fn flow_hash(link_type: u16, data: &[u8]) -> u32 {
    match link_layer(link_type, data) {
        Network::Ipv4(packet) => ipv4(packet),
        Network::Ipv6(packet) => ipv6(packet),
        Network::Other {
            addresses: Some(addresses),
            protocol,
        } => {
            let (a, b) = addresses.split_at(6);
            mix(number(a), number(b), 0, 0, u64::from(protocol) | OTHER)
        }
        Network::Other {
            addresses: None,
            protocol: 0,
        } => 0,
        Network::Other {
            addresses: None,
            protocol,
        } => mix(0, 0, 0, 0, u64::from(protocol) | OTHER),
    }
}

/// Keeps EtherTypes apart from IP protocols in the hash.
const OTHER: u64 = 1 << 32;

/// Smaller numbers in the place of an EtherType are lengths (IEEE 802.3, 3.2.6).
const LEAST_ETHER_TYPE: u16 = 0x0600;

enum Network<'a> {
    Ipv4(&'a [u8]),
    Ipv6(&'a [u8]),
    Other {
        /// Destination and source MAC address, 12 bytes.
        addresses: Option<&'a [u8]>,
        protocol: u16,
    },
}

const UNREADABLE: Network<'_> = Network::Other {
    addresses: None,
    protocol: 0,
};

#[inline]
fn link_layer(link_type: u16, data: &[u8]) -> Network<'_> {
    match link_type {
        1 => match data.get(12..14) {
            Some(kind) => ether_type(be16(kind, 0), data, 14, data.get(..12)),
            None => UNREADABLE,
        },
        // Raw IP: the version nibble tells.
        12 | 101 | 228 | 229 => by_version(data),
        // Linux cooked v1 and v2: the protocol stands at the end, respectively at the beginning of the header.
        113 if data.len() >= 16 => ether_type(be16(data, 14), data, 16, None),
        276 if data.len() >= 20 => ether_type(be16(data, 0), data, 20, None),
        // BSD loopback: a family in the byte order of the machine that captured; its values differ between systems, the version does not.
        0 | 108 => by_version(data.get(4..).unwrap_or_default()),
        // PPP, with or without HDLC address and control bytes.
        9 => ppp(data.strip_prefix(&[0xff, 0x03]).unwrap_or(data)),
        _ => UNREADABLE,
    }
}

/// Looks through tags behind an EtherType that stands right before `at`.
#[inline]
fn ether_type<'a>(
    mut kind: u16,
    data: &'a [u8],
    mut at: usize,
    addresses: Option<&'a [u8]>,
) -> Network<'a> {
    for _ in 0..MAX_TAGS {
        match kind {
            0x0800 => return Network::Ipv4(data.get(at..).unwrap_or_default()),
            0x86dd => return Network::Ipv6(data.get(at..).unwrap_or_default()),
            // 802.1Q, 802.1ad and the older QinQ type.
            0x8100 | 0x88a8 | 0x9100 => match data.get(at + 2..at + 4) {
                Some(inner) => (kind, at) = (be16(inner, 0), at + 4),
                None => break,
            },
            0x8847 | 0x8848 => match data.get(at..at + 4) {
                // The bottom-of-stack bit ends the labels; what follows names itself by its version.
                Some(label) if label[2] & 1 == 1 => {
                    return by_version(data.get(at + 4..).unwrap_or_default());
                }
                Some(_) => at += 4,
                None => break,
            },
            // PPPoE session: version, code, session, length, then PPP.
            0x8864 => return ppp(data.get(at + 6..).unwrap_or_default()),
            _ => break,
        }
    }
    Network::Other {
        addresses,
        // An IEEE 802.3 frame has its length there, which differs from frame to frame of one conversation.
        protocol: match addresses {
            Some(_) if kind < LEAST_ETHER_TYPE => 0,
            _ => kind,
        },
    }
}

fn ppp(data: &[u8]) -> Network<'_> {
    match data {
        [0x00, 0x21, packet @ ..] | [0x21, packet @ ..] => Network::Ipv4(packet),
        [0x00, 0x57, packet @ ..] | [0x57, packet @ ..] => Network::Ipv6(packet),
        _ => UNREADABLE,
    }
}

fn by_version(packet: &[u8]) -> Network<'_> {
    match packet.first().map(|byte| byte >> 4) {
        Some(4) => Network::Ipv4(packet),
        Some(6) => Network::Ipv6(packet),
        _ => UNREADABLE,
    }
}

#[inline]
fn ipv4(packet: &[u8]) -> u32 {
    let Some(header) = packet.first_chunk::<20>() else {
        return 0;
    };
    let protocol = header[9];
    let source = u64::from(be32(header, 12));
    let destination = u64::from(be32(header, 16));
    let more_fragments_or_offset = be16(header, 6) & 0x3fff;
    let (a, b) = match more_fragments_or_offset {
        0 => ports(protocol, packet, usize::from(header[0] & 0x0f) * 4),
        _ => (0, 0),
    };
    mix(source, destination, a, b, protocol.into())
}

#[inline]
fn ipv6(packet: &[u8]) -> u32 {
    let Some(header) = packet.first_chunk::<40>() else {
        return 0;
    };
    let source = fold(be64(header, 8) ^ END, be64(header, 16) ^ FLOW);
    let destination = fold(be64(header, 24) ^ END, be64(header, 32) ^ FLOW);
    let (protocol, at) = ipv6_upper_layer(packet, header[6]);
    let (a, b) = match at {
        Some(at) => ports(protocol, packet, at),
        None => (0, 0),
    };
    mix(source, destination, a, b, protocol.into())
}

/// The upper-layer protocol and where its header begins; no place for fragments and headers that are cut off.
#[inline]
fn ipv6_upper_layer(packet: &[u8], mut next: u8) -> (u8, Option<usize>) {
    let mut at = 40;
    for _ in 0..MAX_EXTENSIONS {
        let Some(header) = packet.get(at..at + 8) else {
            return (next, None);
        };
        match next {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6: length in units of 8 bytes behind the first 8.
            0 | 43 | 60 | 135 | 139 | 140 => {
                (next, at) = (header[0], at + 8 + usize::from(header[1]) * 8)
            }
            // Authentication: length in units of 4 bytes, less 2.
            51 => (next, at) = (header[0], at + 8 + usize::from(header[1]) * 4),
            // An atomic fragment (offset 0, none to follow) is a whole datagram.
            44 if be16(header, 2) & 0xfff9 == 0 => (next, at) = (header[0], at + 8),
            44 => return (header[0], None),
            _ => return (next, Some(at)),
        }
    }
    (next, None)
}

/// Source and destination port of TCP, UDP, DCCP, SCTP and UDP-Lite, which all begin with them; zeros for other protocols.
#[inline]
fn ports(protocol: u8, packet: &[u8], at: usize) -> (u64, u64) {
    match (protocol, packet.get(at..at + 4)) {
        (6 | 17 | 33 | 132 | 136, Some(ports)) => (be16(ports, 0).into(), be16(ports, 2).into()),
        _ => (0, 0),
    }
}

/// Odd constants with balanced bits: they keep small numbers, zero above all, from vanishing in a product. Any will do.
const END: u64 = 0x9e37_79b9_7f4a_7c15;
const FLOW: u64 = 0xd1b5_4a32_d192_ed03;

/// Hashes two ends, each an address and a port, to the same value in either order.
#[inline]
fn mix(address_a: u64, address_b: u64, port_a: u64, port_b: u64, protocol: u64) -> u32 {
    let a = fold(address_a ^ END, port_a ^ FLOW);
    let b = fold(address_b ^ END, port_b ^ FLOW);
    // The sum is symmetric and, unlike exclusive or, does not vanish for equal ends.
    let hash = fold(a.wrapping_add(b) ^ FLOW, END ^ protocol);
    (hash >> 32) as u32
}

/// A 64 x 64 bit multiplication with both halves folded together: each input bit reaches all output bits.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

/// The number in up to 8 big-endian bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[inline]
fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .map_or(0, u16::from_be_bytes)
}

#[inline]
fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .map_or(0, u32::from_be_bytes)
}

#[inline]
fn be64(bytes: &[u8], at: usize) -> u64 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .copied()
        .map_or(0, u64::from_be_bytes)
}

/// Body of the fuzz target: hashing any bytes under any link type must neither panic nor leave the workers' range.
pub fn fuzz(link_type: u16, data: &[u8]) {
    let steering = Steering::new(u32::from(link_type % 64) + 1);
    assert!(steering.worker(flow_hash(link_type, data)) <= usize::from(link_type % 64));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINK_TYPES: [u16; 12] = [0, 1, 9, 12, 101, 105, 108, 113, 228, 229, 276, 147];

    #[test]
    fn the_length_of_an_802_3_frame_does_not_part_a_flow() {
        let frame = |length: u8| [&[2; 6][..], &[4; 6], &[0, length], &[0xaa; 60]].concat();
        assert_eq!(flow_hash(1, &frame(50)), flow_hash(1, &frame(34)));
    }

    /// An IPv4 packet of protocol 6 or 17.
    fn v4(
        protocol: u8,
        from: ([u8; 4], u16),
        to: ([u8; 4], u16),
        fragment: u16,
        options: usize,
    ) -> Vec<u8> {
        let mut packet = vec![
            0x45 + options as u8,
            0,
            0,
            60,
            0,
            7,
            0,
            0,
            64,
            protocol,
            0,
            0,
        ];
        packet[6..8].copy_from_slice(&fragment.to_be_bytes());
        packet.extend(from.0.iter().chain(&to.0));
        packet.extend(std::iter::repeat_n(1, options * 4));
        packet.extend(from.1.to_be_bytes().iter().chain(&to.1.to_be_bytes()));
        packet.extend([0; 16]);
        packet
    }

    /// An IPv6 packet with the given extension headers before the ports.
    fn v6(next: u8, from: ([u8; 16], u16), to: ([u8; 16], u16), extensions: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 40, next, 64];
        packet.extend(from.0.iter().chain(&to.0).chain(extensions));
        packet.extend(from.1.to_be_bytes().iter().chain(&to.1.to_be_bytes()));
        packet.extend([0; 16]);
        packet
    }

    /// `packet` behind each kind of link layer that can carry it.
    fn framed(version: u8, packet: &[u8]) -> Vec<(u16, Vec<u8>)> {
        let kind: u16 = if version == 4 { 0x0800 } else { 0x86dd };
        let kind = kind.to_be_bytes();
        let mac = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        let tag = |protocol: u16| [protocol.to_be_bytes(), [0, 7]].concat();
        let ppp = [0, if version == 4 { 0x21 } else { 0x57 }];
        let headers = [
            (1, [&mac[..], &kind].concat()),
            (1, [&mac[..], &tag(0x8100), &kind].concat()),
            (1, [&mac[..], &tag(0x88a8), &tag(0x8100), &kind].concat()),
            (
                1,
                [
                    &mac[..],
                    &tag(0x9100),
                    &tag(0x9100),
                    &tag(0x8100),
                    &tag(0x8100),
                    &kind,
                ]
                .concat(),
            ),
            (
                1,
                [&mac[..], &[0x88, 0x47, 0, 1, 0, 64, 0, 2, 1, 64]].concat(),
            ),
            (
                1,
                [&mac[..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 62], &ppp].concat(),
            ),
            (113, [&[0; 14][..], &kind].concat()),
            (276, [&kind[..], &[0; 18]].concat()),
            (12, vec![]),
            (101, vec![]),
            (0, vec![2, 0, 0, 0]),
            (108, vec![0, 0, 0, 2]),
            (9, [&[0xff, 3][..], &ppp].concat()),
            (9, ppp.to_vec()),
        ];
        headers
            .into_iter()
            .map(|(link_type, header)| (link_type, [&header[..], packet].concat()))
            .collect()
    }

    fn only_hash(frames: &[(u16, Vec<u8>)]) -> u32 {
        let hashes: Vec<_> = frames
            .iter()
            .map(|(link_type, frame)| flow_hash(*link_type, frame))
            .collect();
        assert!(
            hashes.iter().all(|hash| *hash == hashes[0] && *hash != 0),
            "{hashes:x?}"
        );
        hashes[0]
    }

    proptest! {
        #[test]
        fn any_bytes_are_steered(link_type in any::<u16>(), data in proptest::collection::vec(any::<u8>(), 0..200)) {
            fuzz(link_type, &data);
            for link_type in LINK_TYPES {
                fuzz(link_type, &data);
            }
        }

        #[test]
        fn both_directions_meet_whatever_carries_them(a: [u8; 4], b: [u8; 4], pa: u16, pb: u16, udp: bool, options in 0usize..10) {
            let protocol = if udp { 17 } else { 6 };
            let there = only_hash(&framed(4, &v4(protocol, (a, pa), (b, pb), 0, options)));
            prop_assert_eq!(there, only_hash(&framed(4, &v4(protocol, (b, pb), (a, pa), 0, options))));
        }

        #[test]
        fn both_directions_meet_in_ipv6(a: [u8; 16], b: [u8; 16], pa: u16, pb: u16) {
            let there = only_hash(&framed(6, &v6(17, (a, pa), (b, pb), &[])));
            prop_assert_eq!(there, only_hash(&framed(6, &v6(17, (b, pb), (a, pa), &[]))));
            // Hop-by-hop of 16 bytes, destination options of 8, authentication of 12, an atomic fragment: same flow.
            let extensions = [&[60, 1][..], &[0; 14], &[51, 0], &[0; 6], &[44, 1], &[0; 10], &[17, 0, 0, 0], &[0; 4]].concat();
            prop_assert_eq!(there, only_hash(&framed(6, &v6(0, (a, pa), (b, pb), &extensions))));
        }

        #[test]
        fn mac_addresses_are_symmetric(a: [u8; 6], b: [u8; 6]) {
            let frame = |x: [u8; 6], y: [u8; 6]| [&x[..], &y, &[0x08, 0x06], &[0; 28]].concat();
            prop_assert_eq!(flow_hash(1, &frame(a, b)), flow_hash(1, &frame(b, a)));
        }
    }

    #[test]
    fn fragments_of_a_datagram_meet() {
        let (a, b) = (([10, 0, 0, 1], 5060), ([10, 0, 0, 2], 5061));
        let first = only_hash(&framed(4, &v4(17, a, b, 0x2000, 0)));
        let later = only_hash(&framed(4, &v4(17, (a.0, 77), (b.0, 78), 0x2001, 0)));
        let last = only_hash(&framed(4, &v4(17, (a.0, 79), (b.0, 80), 0x0003, 0)));
        assert_eq!((first, first), (later, last));
        assert_ne!(first, only_hash(&framed(4, &v4(17, a, b, 0x4000, 0))));
        let v6_fragment = |offset: u8, port| {
            framed(
                6,
                &v6(
                    44,
                    ([1; 16], port),
                    ([2; 16], port),
                    &[17, 0, 0, offset, 0, 0, 0, 9],
                ),
            )
        };
        assert_eq!(
            only_hash(&v6_fragment(1, 5060)),
            only_hash(&v6_fragment(8, 99))
        );
    }

    #[test]
    fn flows_spread_evenly() {
        for workers in [1, 2, 3, 7, 64] {
            let steering = Steering::new(workers);
            let mut count = vec![0u32; workers as usize];
            for flow in 0..64_000u32 {
                let [_, x, y, z] = flow.to_be_bytes();
                // Neighbouring addresses and ports are the common case and the hard one.
                let packet = v4(17, ([10, x, y, z], 5060), ([192, 0, 2, 1], 5060), 0, 0);
                count[steering.worker(flow_hash(12, &packet))] += 1;
            }
            let expected = 64_000 / workers;
            assert!(
                count
                    .iter()
                    .all(|count| count.abs_diff(expected) < expected / 5 + 1),
                "{count:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn only_the_shares_of_those_who_are_away_move(
            workers in 1u32..=64,
            away: u64,
            one_more in 0usize..64,
            hashes in proptest::collection::vec(any::<u32>(), 200),
        ) {
            let all = WorkerSet::first(workers as usize);
            let one_more = one_more % workers as usize;
            let set = (0..64).filter(|worker| away >> worker & 1 == 1).fold(WorkerSet::NONE, WorkerSet::with);
            let (mut steering, mut with_one_more) = (Steering::new(workers), Steering::new(workers));
            steering.divert(set);
            with_one_more.divert(set.with(one_more));
            for hash in hashes {
                let (home, worker) = (steering.home(hash), steering.worker(hash));
                prop_assert!(worker < workers as usize);
                if all.without(set).is_empty() || !set.contains(home) {
                    prop_assert_eq!(worker, home);
                } else {
                    prop_assert!(!set.contains(worker));
                }
                if worker != one_more && !all.without(set.with(one_more)).is_empty() {
                    prop_assert_eq!(with_one_more.worker(hash), worker);
                }
            }
            steering.divert(WorkerSet::NONE);
            prop_assert_eq!(steering.table, Steering::new(workers).table);
        }
    }

    #[test]
    fn the_share_of_one_who_is_away_is_spread_evenly() {
        let mut steering = Steering::new(5);
        steering.divert(WorkerSet::NONE.with(2));
        let mut buckets = [0; 5];
        steering
            .table
            .iter()
            .for_each(|worker| buckets[usize::from(*worker)] += 1);
        assert_eq!(buckets[2], 0);
        let (least, most) = (205 + 205 / 4 - 20, 205 + 205 / 4 + 20);
        assert!(
            [0, 1, 3, 4]
                .iter()
                .all(|worker| (least..=most).contains(&buckets[*worker])),
            "{buckets:?}"
        );
    }

    #[test]
    fn ports_and_protocols_count() {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let hashes: std::collections::HashSet<_> = [(6, 1, 2), (17, 1, 2), (17, 2, 3), (17, 1, 1)]
            .map(|(protocol, pa, pb)| flow_hash(12, &v4(protocol, (a, pa), (b, pb), 0, 0)))
            .into();
        assert_eq!(hashes.len(), 4);
    }
}
