//! Which flow a packet belongs to: keys and their hash.

use std::hash::{BuildHasher, RandomState};

use crate::decode::{Addr, Decoded, Transport};

/// What keeps overlapping address spaces apart: flows of different zones never meet. 24 bits.
///
/// It must be the same in both directions of a flow: a VXLAN network identifier is, a GTP tunnel identifier is not. A VLAN tag
/// need not be: where traffic is gathered by taps, the two directions often carry different tags, and steering looks through them
/// for the same reason. So a worker uses [`Zone::NONE`] unless it knows better: two equal flows of different customers that meet at
/// the same moment then share a memory, which is seldom and can at most misjudge them, while a flow that is cut into its directions
/// would be the rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Zone(u32);

impl Zone {
    /// The one address space of a node that knows no others.
    pub const NONE: Self = Self(0);

    /// The zone of the low 24 bits of `number`.
    #[must_use]
    pub const fn new(number: u32) -> Self {
        Self(number & 0xff_ffff)
    }
}

/// Two endpoints, transport and zone; the same in both directions.
///
/// ```text
///   [0..2] address of the first endpoint    [2..4] of the second    [4] port 16 | port 16 | zone 24 | transport 8
/// ```
///
/// The first endpoint is the one with the smaller address, then the smaller port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(super) struct Key([u64; 5]);

impl Key {
    /// The key, and whether the packet goes from its first endpoint to the second.
    #[inline]
    fn of(
        (source, destination): (Addr, Addr),
        (source_port, destination_port): (u16, u16),
        transport: Transport,
        zone: Zone,
    ) -> (Self, bool) {
        let source = (number(source), source_port);
        let destination = (number(destination), destination_port);
        let forward = source <= destination;
        let (first, second) = match forward {
            true => (source, destination),
            false => (destination, source),
        };
        let rest = u64::from(first.1) << 48
            | u64::from(second.1) << 32
            | u64::from(zone.0) << 8
            | transport as u64;
        let key = Self([
            (first.0 >> 64) as u64,
            first.0 as u64,
            (second.0 >> 64) as u64,
            second.0 as u64,
            rest,
        ]);
        (key, forward)
    }
}

/// Address families never meet: an IPv4 address stands where RFC 4291 maps it into IPv6, and the decoder leaves no IPv6 address there.
#[inline]
fn number(address: Addr) -> u128 {
    match address {
        Addr::V4(address) => 0xffff << 32 | u128::from(address),
        Addr::V6(address) => address,
    }
}

/// The secret of a table's hash.
#[derive(Clone, Copy)]
pub struct Seed([u64; 8]);

impl Seed {
    /// A secret from the operating system's random numbers.
    #[must_use]
    pub fn random() -> Self {
        // SipHash of a counter, keyed by the system: the standard library's way to random numbers.
        let system = RandomState::new();
        Self(std::array::from_fn(|word| system.hash_one(word)))
    }

    /// Always the same for `number`: for tests and measurements only, since a sender who knows it can make flows collide.
    #[must_use]
    pub fn known(number: u64) -> Self {
        let mut state = number;
        Self(std::array::from_fn(|_| split_mix(&mut state)))
    }

    /// NH, the universal hash of UMAC (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC: Fast and Secure Message Authentication",
    /// CRYPTO '99, section 4), with words of 64 bits: two keys chosen without knowing the secret have the same sum with probability
    /// 2^-64. The sum never leaves the process; one more keyed multiplication spreads it over all bits.
    #[inline]
    pub(crate) fn hash(&self, key: &[u64; 5]) -> u64 {
        let Self(secret) = self;
        let word = |at: usize| u128::from(key[at].wrapping_add(secret[at]));
        let sum = (word(0) * word(1))
            .wrapping_add(word(2) * word(3))
            .wrapping_add(word(4) * u128::from(secret[5]));
        let spread =
            u128::from(sum as u64 ^ secret[6]) * u128::from((sum >> 64) as u64 ^ secret[7]);
        spread as u64 ^ (spread >> 64) as u64
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A packet as a table looks for its flow: key, direction and hash.
#[derive(Debug, Clone, Copy, Default)]
pub struct Probe {
    pub(super) key: Key,
    pub(super) hash: u64,
    pub(super) forward: bool,
    pub(super) transport: u8,
}

impl Probe {
    #[inline]
    pub(super) fn of(decoded: &Decoded, zone: Zone, seed: &Seed) -> Option<Self> {
        let transport = decoded.transport?;
        let ports = match transport {
            Transport::Icmp | Transport::IcmpV6 => (0, 0),
            _ => decoded.ports?,
        };
        let (key, forward) = Key::of(decoded.addresses?, ports, transport, zone);
        Some(Self {
            key,
            hash: seed.hash(&key.0),
            forward,
            transport: transport as u8,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(addresses: (Addr, Addr), ports: (u16, u16), transport: Transport) -> Decoded {
        Decoded {
            addresses: Some(addresses),
            ports: Some(ports),
            transport: Some(transport),
            ..Decoded::default()
        }
    }

    fn probe(addresses: (Addr, Addr), ports: (u16, u16), zone: u32) -> Probe {
        let packet = packet(addresses, ports, Transport::Udp);
        Probe::of(&packet, Zone::new(zone), &Seed::known(1)).unwrap()
    }

    #[test]
    fn a_packet_without_transport_header_has_no_flow() {
        let decoded = Decoded {
            addresses: Some((Addr::V4(1), Addr::V4(2))),
            fragment: true,
            ..Decoded::default()
        };
        assert!(Probe::of(&decoded, Zone::NONE, &Seed::known(1)).is_none());
    }

    #[test]
    fn icmp_is_told_apart_by_addresses_alone() {
        let decoded = Decoded {
            addresses: Some((Addr::V4(1), Addr::V4(2))),
            transport: Some(Transport::Icmp),
            ..Decoded::default()
        };
        assert!(Probe::of(&decoded, Zone::NONE, &Seed::known(1)).is_some());
    }

    #[test]
    fn every_part_of_a_key_counts() {
        let (a, b) = (Addr::V4(0x0a00_0001), Addr::V4(0x0a00_0002));
        let mapped_lookalike = Addr::V6(0x0a00_0001);
        let keys = [
            probe((a, b), (1, 2), 0),
            probe((a, b), (2, 1), 0),
            probe((a, b), (1, 3), 0),
            probe((a, b), (1, 2), 7),
            probe((mapped_lookalike, b), (1, 2), 0),
            Probe::of(
                &packet((a, b), (1, 2), Transport::Tcp),
                Zone::NONE,
                &Seed::known(1),
            )
            .unwrap(),
        ];
        for (n, one) in keys.iter().enumerate() {
            for other in &keys[n + 1..] {
                assert_ne!(one.key, other.key);
                assert_ne!(one.hash, other.hash);
            }
        }
    }

    #[test]
    fn secrets_differ() {
        assert_ne!(Seed::random().0, Seed::random().0);
        assert!(Seed::random().0.iter().all(|word| *word != 0));
    }

    #[test]
    fn neighbouring_keys_spread_over_all_bits() {
        let seed = Seed::known(9);
        let mut ones = [0_u32; 64];
        const KEYS: u32 = 4_096;
        for n in 0..KEYS {
            let packet = packet((Addr::V4(n), Addr::V4(1 << 31)), (1, 2), Transport::Tcp);
            let hash = Probe::of(&packet, Zone::NONE, &seed).unwrap().hash;
            for (bit, ones) in ones.iter_mut().enumerate() {
                *ones += (hash >> bit) as u32 & 1;
            }
        }
        for ones in ones {
            // Ten standard deviations of a fair coin.
            assert!(ones.abs_diff(KEYS / 2) < 320, "{ones} of {KEYS}");
        }
    }

    fn address() -> impl Strategy<Value = Addr> {
        prop_oneof![
            any::<u32>().prop_map(Addr::V4),
            any::<u128>().prop_map(Addr::of_v6)
        ]
    }

    proptest! {
        #[test]
        fn both_directions_have_one_key(
            addresses in (address(), address()),
            ports: (u16, u16),
            zone: u32,
        ) {
            let there = probe(addresses, ports, zone);
            let back = probe((addresses.1, addresses.0), (ports.1, ports.0), zone);
            prop_assert_eq!(there.key, back.key);
            prop_assert_eq!(there.hash, back.hash);
            let to_itself = addresses.0 == addresses.1 && ports.0 == ports.1;
            prop_assert_eq!(there.forward != back.forward, !to_itself);
        }
    }
}
