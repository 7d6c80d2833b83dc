//! A hash of texts, for tables whose keys strangers choose.
//!
//! A text is read as a polynomial over the integers modulo 2^61 - 1, and hashed to its value at a secret point (Carter, Wegman: "Universal classes of hash functions", 1979). Two texts of up to n bytes that
//! were chosen without knowing the secret have the same value with a probability of less than (n + 56) / 2^62; nobody can choose the bucket that a text comes to. Values must not leave the process: unlike
//! SipHash, which costs several times as much, it keeps its secret only from who does not see them.

use std::hash::{BuildHasher, RandomState};

/// The modulus.
const PRIME: u64 = (1 << 61) - 1;
/// Bits of a number that is hashed.
pub const NUMBER_BITS: u32 = 56;
/// Bytes of a coefficient; with a mark of its length behind them it is below the modulus, and never 0.
const WORD: usize = 7;
/// Coefficients that are added up before the sum is reduced.
const WORDS: usize = 8;

/// A secret hash function.
#[derive(Debug, Clone)]
pub struct KeyedHash {
    /// Powers of the point, the highest first.
    powers: [u64; WORDS + 1],
    spread: [u64; 2],
}

impl KeyedHash {
    /// One that nobody knows, from the operating system's random numbers.
    #[must_use]
    pub fn random() -> Self {
        let system = RandomState::new();
        let point = system.hash_one(0) & PRIME;
        let mut powers = [1; WORDS + 1];
        for at in (0..WORDS).rev() {
            powers[at] = reduced(u128::from(powers[at + 1]) * u128::from(point));
        }
        Self {
            powers,
            spread: [1, 2].map(|word| system.hash_one(word)),
        }
    }

    /// The hash of a text.
    #[must_use]
    #[inline]
    pub fn of(&self, text: &[u8]) -> u64 {
        self.spread(self.add(0, text))
    }

    /// The hash of numbers, always so many, and a text. They have at most [`NUMBER_BITS`] bits each.
    #[must_use]
    #[inline]
    pub fn of_both<const N: usize>(&self, numbers: &[u64; N], text: &[u8]) -> u64 {
        const { assert!(N <= WORDS) };
        let powers = self.powers[1..].iter();
        let terms = numbers.iter().zip(powers).map(|(number, power)| {
            u128::from(number & ((1 << NUMBER_BITS) - 1)) * u128::from(*power)
        });
        let sum = reduced(terms.sum());
        self.spread(self.add(sum, text))
    }

    /// Goes on with a polynomial, below 2^62, by a text.
    #[inline]
    fn add(&self, mut sum: u64, text: &[u8]) -> u64 {
        let [high, powers @ ..] = &self.powers;
        for block in text.chunks(WORD * WORDS) {
            let (words, rest) = block.as_chunks::<WORD>();
            // A word and a power have less than 118 bits together, the sum and a power less than 124.
            let mut total = u128::from(sum) * u128::from(*high);
            for (word, power) in words.iter().zip(powers) {
                total += u128::from(whole(*word)) * u128::from(*power);
            }
            if let Some(power) = powers.get(words.len()).filter(|_| !rest.is_empty()) {
                let word = rest
                    .iter()
                    .rev()
                    .fold(1, |word, byte| word << 8 | u64::from(*byte));
                total += u128::from(word) * u128::from(*power);
            }
            sum = reduced(total);
        }
        sum
    }

    /// All bits of the hash depend on all of the sum.
    #[inline]
    fn spread(&self, sum: u64) -> u64 {
        let product = u128::from(sum ^ self.spread[0]) * u128::from(self.spread[1]);
        product as u64 ^ (product >> 64) as u64
    }
}

#[inline]
fn whole([a, b, c, d, e, f, g]: [u8; WORD]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, g, 1])
}

/// What has the same remainder, at most 2^61 + 7; of a number below 2^124.
#[inline]
fn reduced(number: u128) -> u64 {
    let folded = (number as u64 & PRIME) + (number >> 61) as u64;
    (folded & PRIME) + (folded >> 61)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// By the definition.
    fn defined(hash: &KeyedHash, text: &[u8]) -> u64 {
        let point = u128::from(hash.powers[WORDS - 1]);
        let mut sum = 0;
        for block in text.chunks(WORD * WORDS) {
            let mut words = block.chunks(WORD);
            for _ in 0..WORDS {
                let word = words.next().map_or(0, |word| {
                    let mut bytes = [0; 8];
                    bytes[..word.len()].copy_from_slice(word);
                    bytes[word.len()] = 1;
                    u64::from_le_bytes(bytes)
                });
                sum = (sum * point + u128::from(word)) % u128::from(PRIME);
            }
        }
        sum as u64
    }

    proptest! {
        #[test]
        fn it_is_as_defined(text in prop::collection::vec(any::<u8>(), 0..300)) {
            let hash = KeyedHash::random();
            let sum = hash.add(0, &text);
            prop_assert!(sum < PRIME + 9);
            prop_assert_eq!(sum % PRIME, defined(&hash, &text));
            prop_assert_eq!(hash.of(&text), hash.of(&text.clone()));
        }
    }

    #[test]
    fn the_largest_sums_fit() {
        let hash = KeyedHash {
            powers: [PRIME + 8; WORDS + 1],
            spread: [0; 2],
        };
        assert!(hash.add(PRIME + 8, &[0xff; 1000]) < PRIME + 9);
    }

    #[test]
    fn texts_of_other_lengths_are_other_texts() {
        let hash = KeyedHash::random();
        let zeros = [0; 200];
        let mut hashes: HashSet<u64> = (0..200).map(|len| hash.of(&zeros[..len])).collect();
        assert_eq!(hashes.len(), 200);
        hashes.extend((0..200).map(|len| hash.of_both(&[7, 0], &zeros[..len])));
        assert_eq!(hashes.len(), 400);
    }

    #[test]
    fn every_number_counts() {
        let hash = KeyedHash::random();
        let numbers = [0, 1, 2, 4, 1 << 7, 1 << 55];
        let pairs = numbers
            .iter()
            .flat_map(|one| numbers.map(|other| [*one, other]));
        let hashes: HashSet<u64> = pairs.map(|pair| hash.of_both(&pair, b"a")).collect();
        assert_eq!(hashes.len(), numbers.len() * numbers.len());
    }

    #[test]
    fn secrets_differ() {
        let hashes: HashSet<u64> = (0..8).map(|_| KeyedHash::random().of(b"a")).collect();
        assert_eq!(hashes.len(), 8);
    }

    #[test]
    fn neighbouring_texts_spread_over_all_bits() {
        const TEXTS: u32 = 4_096;
        let hash = KeyedHash::random();
        let mut ones = [0_u32; 64];
        for n in 0..TEXTS {
            let of = hash.of(format!("{n}.example").as_bytes());
            for (bit, ones) in ones.iter_mut().enumerate() {
                *ones += (of >> bit) as u32 & 1;
            }
        }
        for ones in ones {
            // Ten standard deviations of a fair coin.
            assert!(ones.abs_diff(TEXTS / 2) < 320, "{ones} of {TEXTS}");
        }
    }
}
