//! Steering: which worker gets a packet.
//!
//! A symmetric flow hash over addresses, protocol and ports, so that both directions of a flow meet in one worker. The hash space is cut
//! into buckets, and a table says which worker has which: each its equal share, or, while a worker is away, its buckets spread over the
//! others. VLAN tags, MPLS labels and PPPoE are looked through and are not part of the hash: the two directions of a flow may
//! carry different tags. So are tunnels (`tunnel`): the innermost packet is hashed, and a flow that is seen inside a tunnel and
//! outside it meets itself.
//!
//! Fragments follow the first one (`fragments`): it names the flow, so a flow that is sent partly in fragments stays with one worker. If
//! another one comes first, all of the datagram's fragments go where addresses and protocol lead. [`flow_hash`] alone, which remembers
//! nothing, leads all fragments there.
//!
//! ESP is not looked into, encrypted or not: what two ends send each other in it, under whatever SPI, goes to one worker, and so do both
//! directions of every flow in it.
//!
//! Where calls are followed, UDP flows that begin where a worker expects media go to that worker (`media`), unless it is away.
//!
//! Packets that are not IP are hashed by their MAC addresses and EtherType; what cannot be read at all hashes to 0.
//!
//! The hash takes any bytes: it never panics, and looks at a bounded number of headers.

mod fragments;
mod media;
mod tunnel;

use std::net::IpAddr;

use shm_layout::layout::MAX_WORKERS;
use shm_layout::shares::WorkerSet;

use fragments::{Followers, Fragment};
use media::Media;

/// Headers that are looked through at most, of each kind: VLAN tags and MPLS labels, IPv6 extension headers.
const MAX_TAGS: usize = 8;
const MAX_EXTENSIONS: usize = 8;
/// Tunnels within each other that are looked through at most.
const MAX_TUNNELS: u8 = 4;

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
    followers: Followers,
    /// Where calls are followed.
    media: Option<Box<Media>>,
}

/// Where a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The hash of its flow.
    pub flow_hash: u32,
    /// The worker that gets it.
    pub worker: usize,
    /// The worker that would get it if none were away.
    pub home: usize,
    /// Whether its home has the call that it is media of, and is not the worker that the hash picks.
    pub is_media: bool,
}

impl Steering {
    /// Steers to `workers` workers (1 to [`MAX_WORKERS`]).
    pub fn new(workers: u32) -> Self {
        let mut steering = Self {
            workers: workers.clamp(1, MAX_WORKERS as u32),
            away: WorkerSet::NONE,
            table: [0; BUCKETS],
            followers: Followers::default(),
            media: None,
        };
        steering.divert(WorkerSet::NONE);
        steering
    }

    /// The same, but media go to the worker that has their call, as far as [`Steering::expect_media`] tells.
    pub fn with_media(mut self) -> Self {
        self.media = Some(Box::new(Media::new()));
        self
    }

    /// `worker` has a call that expects media at this address and port.
    pub fn expect_media(&mut self, address: IpAddr, port: u16, worker: usize) {
        let known = u8::try_from(worker)
            .ok()
            .filter(|_| worker < self.workers as usize);
        if let (Some(media), Some(worker)) = (&mut self.media, known) {
            media.announce(place(address_number(address), port.into()), worker);
        }
    }

    /// Where a packet captured at `time_ns` goes.
    #[inline]
    pub fn route(&mut self, link_type: u16, data: &[u8], time_ns: u64) -> Route {
        let (flow_hash, ends, may_be_media) = match read(link_type, data) {
            Seen::Flow(Flow { hash, ends }) => (hash, ends, ends.is_some()),
            Seen::Fragment(fragment) => {
                let hash = self.followers.flow_hash(&fragment, time_ns);
                (hash, None, true)
            }
        };
        let picked = self.home(flow_hash);
        let called = (self.media.as_mut())
            .filter(|_| may_be_media)
            .and_then(|media| media.worker(flow_hash, ends, time_ns))
            .filter(|worker| *worker != picked);
        match called {
            None => Route {
                flow_hash,
                worker: self.worker(flow_hash),
                home: picked,
                is_media: false,
            },
            Some(home) => Route {
                flow_hash,
                worker: match self.away.contains(home) {
                    true => self.worker(flow_hash),
                    false => home,
                },
                home,
                is_media: true,
            },
        }
    }

    /// The flow hash of a packet captured at `time_ns`: [`flow_hash`], but fragments have their first one's.
    #[inline]
    pub fn flow_hash(&mut self, link_type: u16, data: &[u8], time_ns: u64) -> u32 {
        match read(link_type, data) {
            Seen::Flow(flow) => flow.hash,
            Seen::Fragment(fragment) => self.followers.flow_hash(&fragment, time_ns),
        }
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
    match read(link_type, data) {
        Seen::Flow(flow) => flow.hash,
        Seen::Fragment(fragment) => fragment.between,
    }
}

/// What is hashed of a packet.
#[derive(Clone, Copy, Debug)]
enum Seen {
    Flow(Flow),
    Fragment(Fragment),
}

#[derive(Clone, Copy, Debug)]
struct Flow {
    hash: u32,
    /// The hashes of source and destination, of UDP.
    ends: Option<[u64; 2]>,
}

impl Flow {
    fn of(hash: u32) -> Self {
        Self { hash, ends: None }
    }
}

#[inline(always)]
fn read(link_type: u16, data: &[u8]) -> Seen {
    let hash = match link_layer(link_type, data) {
        Network::Ipv4(packet) => return ipv4(packet, MAX_TUNNELS),
        Network::Ipv6(packet) => return ipv6(packet, MAX_TUNNELS),
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
    };
    Seen::Flow(Flow::of(hash))
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

#[inline(always)]
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
#[inline(always)]
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

/// The hash of an IPv4 packet, or of one in up to `tunnels` tunnels that it is the outermost of.
#[inline(always)]
fn ipv4(packet: &[u8], tunnels: u8) -> Seen {
    let Some(header) = packet.first_chunk::<20>() else {
        return Seen::Flow(Flow::of(0));
    };
    let ends = Ends {
        source: be32(header, 12).into(),
        destination: be32(header, 16).into(),
        protocol: header[9],
    };
    let at = usize::from(header[0] & 0x0f) * 4;
    let more_fragments_or_offset = be16(header, 6) & 0x3fff;
    if more_fragments_or_offset != 0 {
        let is_first = more_fragments_or_offset & 0x1fff == 0;
        let id = be16(header, 4);
        return fragment(ends, id.into(), is_first.then_some(at), packet, tunnels);
    }
    let end = match be16(header, 2) {
        0 => packet.len(),
        len => usize::from(len),
    };
    upper_layer(ends, packet, at, Some(end), tunnels)
}

/// The same for IPv6.
#[inline(always)]
fn ipv6(packet: &[u8], tunnels: u8) -> Seen {
    let Some(header) = packet.first_chunk::<40>() else {
        return Seen::Flow(Flow::of(0));
    };
    let (protocol, upper) = ipv6_upper_layer(packet, header[6]);
    let ends = Ends {
        source: number_v6(be64(header, 8), be64(header, 16)),
        destination: number_v6(be64(header, 24), be64(header, 32)),
        protocol,
    };
    match upper {
        Upper::At(at) => {
            let end = match be16(header, 4) {
                0 => packet.len(),
                len => 40 + usize::from(len),
            };
            upper_layer(ends, packet, at, Some(end), tunnels)
        }
        Upper::CutOff => Seen::Flow(Flow::of(ends.hash(0, 0))),
        Upper::Fragment { id, first } => fragment(ends, id, first, packet, tunnels),
    }
}

/// Addresses, as numbers, and what is carried between them.
#[derive(Clone, Copy)]
struct Ends {
    source: u64,
    destination: u64,
    protocol: u8,
}

impl Ends {
    #[inline]
    fn hash(self, source_port: u64, destination_port: u64) -> u32 {
        mix(
            self.source,
            self.destination,
            source_port,
            destination_port,
            self.protocol.into(),
        )
    }
}

/// The hash of what an IP packet carries at `at`. The packet ends at `end`, if that is known.
#[inline(always)]
fn upper_layer(ends: Ends, packet: &[u8], at: usize, end: Option<usize>, tunnels: u8) -> Seen {
    let (source, destination) = ports(ends.protocol, packet, at);
    if tunnel::is_possible(ends.protocol, destination)
        && let Some(seen) = tunnel::read(ends.protocol, destination, packet, at, end, tunnels)
    {
        return seen;
    }
    let (a, b) = (
        place(ends.source, source.into()),
        place(ends.destination, destination.into()),
    );
    Seen::Flow(Flow {
        hash: meet(a, b, ends.protocol.into()),
        ends: (ends.protocol == UDP).then_some([a, b]),
    })
}

/// A fragment, whose payload starts at `first` if it is the first one.
#[cold]
fn fragment(ends: Ends, id: u32, first: Option<usize>, packet: &[u8], tunnels: u8) -> Seen {
    // The lengths of a first fragment are not its datagram's.
    let flow = first.map(|at| match upper_layer(ends, packet, at, None, tunnels) {
        Seen::Flow(flow) => flow.hash,
        Seen::Fragment(inner) => inner.flow.unwrap_or(inner.between),
    });
    let between = ends.hash(0, 0);
    let direction = fold(ends.source ^ END, ends.destination ^ FLOW);
    let datagram = fold(
        direction ^ FLOW,
        END ^ u64::from(id) << 8 ^ u64::from(ends.protocol),
    );
    Seen::Fragment(Fragment {
        datagram,
        between,
        flow,
    })
}

/// What follows the header of an IPv6 packet and its extensions.
enum Upper {
    /// A whole packet's upper layer.
    At(usize),
    /// The bytes end before.
    CutOff,
    /// A fragment, and where the payload of a first one starts.
    Fragment { id: u32, first: Option<usize> },
}

/// The upper-layer protocol, as far as it can be told, and its place.
#[inline(always)]
fn ipv6_upper_layer(packet: &[u8], mut next: u8) -> (u8, Upper) {
    let mut at = 40;
    for _ in 0..MAX_EXTENSIONS {
        let Some(header) = packet.get(at..at + 8) else {
            return (next, Upper::CutOff);
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
            44 => {
                let is_first = be16(header, 2) & 0xfff8 == 0;
                let id = be32(header, 4);
                let first = is_first.then_some(at + 8);
                return (header[0], Upper::Fragment { id, first });
            }
            _ => return (next, Upper::At(at)),
        }
    }
    (next, Upper::CutOff)
}

/// Source and destination port of TCP, UDP, DCCP, SCTP and UDP-Lite, which all begin with them; zeros for other protocols.
#[inline(always)]
fn ports(protocol: u8, packet: &[u8], at: usize) -> (u16, u16) {
    match (protocol, packet.get(at..at + 4)) {
        (6 | 17 | 33 | 132 | 136, Some(ports)) => (be16(ports, 0), be16(ports, 2)),
        _ => (0, 0),
    }
}

/// Odd constants with balanced bits: they keep small numbers, zero above all, from vanishing in a product. Any will do.
const END: u64 = 0x9e37_79b9_7f4a_7c15;
const FLOW: u64 = 0xd1b5_4a32_d192_ed03;

/// Hashes two ends, each an address and a port, to the same value in either order.
#[inline]
fn mix(address_a: u64, address_b: u64, port_a: u64, port_b: u64, protocol: u64) -> u32 {
    meet(place(address_a, port_a), place(address_b, port_b), protocol)
}

/// The hash of an end: an address, as a number, and a port.
#[inline]
fn place(address: u64, port: u64) -> u64 {
    fold(address ^ END, port ^ FLOW)
}

/// The same hash for two ends in either order.
#[inline]
fn meet(a: u64, b: u64, protocol: u64) -> u32 {
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

/// An IPv6 address as a number.
#[inline]
fn number_v6(high: u64, low: u64) -> u64 {
    fold(high ^ END, low ^ FLOW)
}

/// An address as the headers of packets give it.
fn address_number(address: IpAddr) -> u64 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => {
            let octets = address.octets();
            number_v6(be64(&octets, 0), be64(&octets, 8))
        }
    }
}

const UDP: u8 = 17;

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
    let mut steering = Steering::new(u32::from(link_type % 64) + 1);
    let hashes = [
        flow_hash(link_type, data),
        steering.flow_hash(link_type, data, 0),
        steering.route(link_type, data, 0).flow_hash,
    ];
    let most = usize::from(link_type % 64);
    assert!(hashes.iter().all(|hash| steering.worker(*hash) <= most));
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

    /// Where the fragments of one datagram go, in this order; each is offset in units of eight bytes and whether more follow.
    fn steered(steering: &mut Steering, id: u8, fragments: &[(u16, bool)]) -> Vec<u32> {
        let mut hashes = Vec::new();
        for (offset, more) in fragments {
            let ports = if *offset == 0 { (5060, 5061) } else { (1, 2) };
            let place = offset | u16::from(*more) << 13;
            let mut packet = v4(
                17,
                ([10, 0, 0, 1], ports.0),
                ([10, 0, 0, 2], ports.1),
                place,
                0,
            );
            packet[5] = id;
            hashes.push(steering.flow_hash(12, &packet, 0));
        }
        hashes
    }

    #[test]
    fn fragments_follow_the_first_one() {
        let mut steering = Steering::new(4);
        let whole = v4(17, ([10, 0, 0, 1], 5060), ([10, 0, 0, 2], 5061), 0, 0);
        let back = v4(17, ([10, 0, 0, 2], 5061), ([10, 0, 0, 1], 5060), 0, 0);
        let flow = flow_hash(12, &whole);
        let in_order = steered(
            &mut steering,
            1,
            &[(0, true), (2, true), (4, false), (0, true)],
        );
        assert_eq!(in_order, [flow; 4]);
        assert_eq!(steering.flow_hash(12, &back, 0), flow);
        // The first fragment comes late: it follows those before it.
        let late = steered(
            &mut steering,
            2,
            &[(4, false), (0, true), (2, true), (0, true)],
        );
        assert_ne!(late[0], flow);
        assert_eq!(late, [late[0]; 4]);
    }

    #[test]
    fn an_identification_comes_again() {
        let mut steering = Steering::new(4);
        let fragment =
            |port: u16, place: u16| v4(17, ([10, 0, 0, 1], port), ([10, 0, 0, 2], 5061), place, 0);
        let first = steering.flow_hash(12, &fragment(5060, 0x2000), 0);
        let other = steering.flow_hash(12, &fragment(5062, 0x2000), 1);
        assert_ne!(first, other);
        assert_eq!(steering.flow_hash(12, &fragment(9, 2), 2), other);
        // What is old says nothing.
        let later = steering.flow_hash(12, &fragment(9, 2), 60_000_000_000);
        assert_eq!(later, flow_hash(12, &fragment(9, 2)));
        let first = steering.flow_hash(12, &fragment(5060, 0x2000), 120_000_000_000);
        assert_ne!(first, later);
    }

    #[test]
    fn fragments_of_ipv6_follow_too() {
        let mut steering = Steering::new(4);
        let fragment = |place: [u8; 2], port: u16| {
            let extension = [17, 0, place[0], place[1], 0, 0, 0, 9];
            v6(44, ([1; 16], port), ([2; 16], 5061), &extension)
        };
        let whole = v6(17, ([1; 16], 5060), ([2; 16], 5061), &[]);
        let flow = flow_hash(12, &whole);
        assert_eq!(steering.flow_hash(12, &fragment([0, 1], 5060), 0), flow);
        assert_eq!(steering.flow_hash(12, &fragment([0, 8], 77), 0), flow);
    }

    proptest! {
        #[test]
        fn all_fragments_meet_in_any_order(
            order in Just((0u16..12).collect::<Vec<_>>()).prop_shuffle(),
            ids in proptest::collection::vec(any::<u8>(), 1..8),
        ) {
            let mut steering = Steering::new(8);
            let ids: std::collections::BTreeSet<_> = ids.into_iter().collect();
            let mut homes = std::collections::HashMap::new();
            for offset in order {
                for id in &ids {
                    let hash = steered(&mut steering, *id, &[(offset * 2, offset < 11)])[0];
                    prop_assert_eq!(*homes.entry(*id).or_insert(hash), hash);
                }
            }
        }
    }

    /// `packet` in each tunnel, between other addresses; `up` is the direction.
    fn tunnelled(version: u8, packet: &[u8], up: bool) -> Vec<Vec<u8>> {
        let (a, b) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let (a, b) = if up { (a, b) } else { (b, a) };
        let kind: u16 = if version == 4 { 0x0800 } else { 0x86dd };
        let kind = kind.to_be_bytes();
        let ip = |protocol: u8, payload: &[u8]| {
            let mut outer = v4(protocol, (a, 0), (b, 0), 0, 0);
            outer.truncate(20);
            outer[2..4].copy_from_slice(&(20 + payload.len() as u16).to_be_bytes());
            outer.extend(payload);
            outer
        };
        let udp = |port: u16, payload: &[u8]| {
            let len = (8 + payload.len() as u16).to_be_bytes();
            let source: [u8; 2] = if up { [0x9c, 0x40] } else { [0x9c, 0x41] };
            let header = [&source[..], &port.to_be_bytes(), &len, &[0, 0]].concat();
            ip(17, &[&header, payload].concat())
        };
        let with = |header: &[u8], payload: &[u8]| [header, payload].concat();
        let frame = with(&[2; 12], &with(&kind, packet));
        let len = (packet.len() as u16).to_be_bytes();
        let long = (8 + packet.len() as u16).to_be_bytes();
        vec![
            ip(if version == 4 { 4 } else { 41 }, packet),
            ip(47, &with(&[0, 0], &with(&kind, packet))),
            ip(47, &with(&[0x20, 0, 0x65, 0x58, 0, 0, 0, up as u8], &frame)),
            ip(
                47,
                &with(
                    &[0x10, 0, 0x88, 0xbe, 0, 0, 0, 1, 0x10, 1, 0, 5, 0, 0, 0, 0],
                    &frame,
                ),
            ),
            udp(4789, &with(&[8, 0, 0, 0, 0, 0, 42, 0], &frame)),
            udp(4790, &with(&[0x0c, 0, 0, 1, 0, 0, 42, 0], packet)),
            udp(6081, &with(&[0, 0, 0x65, 0x58, 0, 0, 42, 0], &frame)),
            udp(
                2152,
                &with(&[0x30, 255, len[0], len[1], 0, 0, 0, up as u8], packet),
            ),
            udp(
                2152,
                &with(
                    &[
                        0x34, 255, long[0], long[1], 0, 0, 0, 7, 0, 0, 0, 0x85, 1, 0x10, 9, 0,
                    ],
                    packet,
                ),
            ),
        ]
    }

    /// With the lengths that it has.
    fn measured(mut packet: Vec<u8>, version: u8) -> Vec<u8> {
        let len = packet.len() as u16;
        match version {
            4 => packet[2..4].copy_from_slice(&len.to_be_bytes()),
            _ => packet[4..6].copy_from_slice(&(len - 40).to_be_bytes()),
        }
        packet
    }

    proptest! {
        #[test]
        fn a_flow_meets_itself_inside_and_outside_of_tunnels(a: [u8; 16], b: [u8; 16], pa: u16, pb in 0u16..2000) {
            let (a4, b4) = ([a[0], a[1], a[2], a[3]], [b[0], b[1], b[2], b[3]]);
            let pa = pa % 2000;
            let four = [((a4, pa), (b4, pb)), ((b4, pb), (a4, pa))].map(|(from, to)| measured(v4(17, from, to, 0, 0), 4));
            let six = [((a, pa), (b, pb)), ((b, pb), (a, pa))].map(|(from, to)| measured(v6(17, from, to, &[]), 6));
            for (version, [there, back]) in [(4, four), (6, six)] {
                let naked = flow_hash(12, &there);
                prop_assert_eq!(flow_hash(12, &back), naked);
                for (packet, up) in [(&there, true), (&back, false)] {
                    for (n, outer) in tunnelled(version, packet, up).iter().enumerate() {
                        prop_assert_eq!(only_hash(&framed(4, outer)), naked, "{} {}", n, up);
                        for nested in tunnelled(4, outer, up) {
                            prop_assert_eq!(flow_hash(12, &nested), naked, "{} {}", n, up);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_tunnel_that_is_sent_in_fragments_follows_its_first_one() {
        let inner = measured(
            v4(17, ([10, 0, 0, 1], 5060), ([10, 0, 0, 2], 5061), 0, 0),
            4,
        );
        let mut steering = Steering::new(4);
        for outer in tunnelled(4, &inner, true) {
            let mut first = outer.clone();
            first[5] = 200;
            first[6] = 0x20;
            first.truncate(outer.len() - 8);
            let mut last = first.clone();
            last[6..8].copy_from_slice(&[0, 9]);
            assert_eq!(steering.flow_hash(12, &first, 0), flow_hash(12, &inner));
            assert_eq!(steering.flow_hash(12, &last, 0), flow_hash(12, &inner));
        }
    }

    #[test]
    fn ports_of_tunnels_alone_part_nothing() {
        let (a, b) = (([10, 0, 0, 1], 40_000), ([10, 0, 0, 2], 2152));
        let mut packet = measured(v4(17, a, b, 0, 0), 4);
        packet[24..26].copy_from_slice(&20_u16.to_be_bytes());
        let back = measured(v4(17, b, a, 0, 0), 4);
        assert_eq!(flow_hash(12, &packet), flow_hash(12, &back));
        for byte in 0..=255 {
            packet[28] = byte;
            assert_eq!(flow_hash(12, &packet), flow_hash(12, &back));
        }
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
    fn media_go_to_the_worker_of_their_call_unless_it_is_away() {
        for (version, called) in [(4, 1), (4, 2), (6, 0), (6, 3)] {
            let mut steering = Steering::new(4).with_media();
            let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
            let wide = |address: [u8; 4]| <[u8; 16]>::try_from(address.repeat(4)).unwrap();
            let packet = |from: [u8; 4], from_port: u16, to: [u8; 4], port: u16| match version {
                4 => v4(17, (from, from_port), (to, port), 0, 0),
                _ => v6(17, (wide(from), from_port), (wide(to), port), &[]),
            };
            let address = match version {
                4 => IpAddr::from(b),
                _ => IpAddr::from(wide(b)),
            };
            let begun = packet(a, 1000, b, 4000);
            let picked = steering.route(12, &begun, 0);
            steering.expect_media(address, 4000, called);
            assert_eq!(steering.route(12, &begun, 1), picked, "it has begun");
            for (n, (from_port, port)) in [(2001, 4000), (2002, 4000), (2003, 4001)]
                .into_iter()
                .enumerate()
            {
                let there = packet(a, from_port, b, port);
                let back = packet(b, port, a, from_port);
                let hash = flow_hash(12, &there);
                let expected = match port {
                    4000 => called,
                    _ => steering.home(hash),
                };
                for (time, packet) in [(2, &there), (3, &back), (4, &there)] {
                    let route = steering.route(12, packet, time + n as u64);
                    assert_eq!((route.worker, route.home), (expected, expected));
                    assert_eq!(route.is_media, expected != steering.home(hash));
                    assert_eq!(route.flow_hash, hash);
                }
            }
            steering.divert(WorkerSet::NONE.with(called));
            let there = packet(a, 2001, b, 4000);
            let route = steering.route(12, &there, 9);
            assert_ne!(route.worker, called);
            assert_eq!(route.home, called);
            steering.divert(WorkerSet::NONE);
            assert_eq!(steering.route(12, &there, 10).worker, called);
        }
    }

    #[test]
    fn media_in_tunnels_and_fragments_go_to_the_worker_of_their_call() {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let inner = v4(17, (a, 2000), (b, 4000), 0, 0);
        let called = (steer_home(&inner) + 1) % 4;
        let mut steering = Steering::new(4).with_media();
        steering.expect_media(b.into(), 4000, called);
        let mut outer = v4(4, (a, 0), (b, 0), 0, 0)[..20].to_vec();
        outer.extend(&inner);
        assert_eq!(steering.route(12, &outer, 0).worker, called);
        // TCP to the same place is no media.
        let tcp = v4(6, (a, 2000), (b, 4000), 0, 0);
        assert!(!steering.route(12, &tcp, 0).is_media);
        let first = v4(17, (a, 2000), (b, 4000), 0x2000, 0);
        let second = v4(17, (a, 0), (b, 0), 0x0002, 0);
        assert_eq!(steering.route(12, &first, 1).worker, called);
        assert_eq!(steering.route(12, &second, 1).worker, called);
        // A worker that is none, as by a damaged log.
        steering.expect_media(b.into(), 5000, 4);
        let other = v4(17, (a, 2000), (b, 5000), 0, 0);
        assert!(!steering.route(12, &other, 2).is_media);
    }

    fn steer_home(packet: &[u8]) -> usize {
        Steering::new(4).home(flow_hash(12, packet))
    }

    #[test]
    fn what_two_ends_send_in_esp_goes_to_one_worker() {
        let (a, b) = ([10, 0, 0, 1], [10, 0, 0, 2]);
        let esp = |from: [u8; 4], to: [u8; 4], spi: u32| {
            let mut packet = vec![0x45, 0, 0, 60, 0, 1, 0, 0, 64, 50, 0, 0];
            packet.extend([from, to].concat());
            packet.extend(spi.to_be_bytes());
            packet.extend([7; 36]);
            flow_hash(101, &packet)
        };
        assert_eq!(esp(a, b, 1), esp(b, a, 2));
        assert_eq!(esp(a, b, 1), esp(a, b, 3));
        assert_ne!(esp(a, b, 1), esp(a, [10, 0, 0, 3], 1));
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
