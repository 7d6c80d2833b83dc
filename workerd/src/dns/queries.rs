//! Queries that wait for their responses: which response is whose, after how long, and what is only repeated.
//!
//! A response belongs to a query if it goes the other way between the same addresses and ports, over the same transport, with the same id, name (in any case) and type,
//! within [`WAIT_NS`]. The time counts from the first of several equal queries: it is what the querier has waited. A query that comes again
//! before a response is a retransmission; so is a response that comes again. What was asked of a group (mDNS, LLMNR) is answered from an
//! address of its own, so there the answerer's end does not count.
//!
//! The table has [`PLACES`] places for keyed hashes of all this, in buckets of four; the oldest of a bucket gives way. Nothing grows, and nobody can choose the bucket.

use shm_layout::prefetch::prefetch;

use crate::decode::Addr;
use crate::keyed_hash::{KeyedHash, NUMBER_BITS};

/// How long a query waits for its response, in nanoseconds.
pub const WAIT_NS: u64 = 30_000_000_000;
/// Queries that are remembered.
pub const PLACES: usize = WAYS * BUCKETS;

const WAYS: usize = 4;
const BUCKETS: usize = 1 << 15;

/// What tells a query from others.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Who asks.
    pub asker: (Addr, u16),
    /// Who is asked.
    pub answerer: (Addr, u16),
    /// Whether over TCP.
    pub is_stream: bool,
    /// Of the message.
    pub id: u16,
    /// Of the question, in lower case.
    pub name: &'a [u8],
    /// Type of the question.
    pub kind: u16,
}

/// A response whose query was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// Since the query, in nanoseconds.
    pub elapsed_ns: u64,
    /// How often the query had come again.
    pub query_repeats: u16,
    /// How often this response has come again, with this one.
    pub repeats: u16,
}

/// See the module.
#[derive(Debug)]
pub struct Queries {
    hash: KeyedHash,
    buckets: Vec<[Place; WAYS]>,
}

/// What is asked, as the table knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key(u64);

/// All zeros if empty.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    key: u64,
    asked_ns: u64,
    queries: u16,
    responses: u16,
}

impl Queries {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            hash: KeyedHash::random(),
            buckets: vec![[Place::default(); WAYS]; BUCKETS],
        }
    }

    /// What is asked, as the table knows it. Has that looked for meanwhile.
    #[must_use]
    pub fn key(&self, asked: &Asked<'_>) -> Key {
        let key = self.hash.of_both(&asked.numbers(), asked.name);
        // 0 marks what is empty.
        let key = key.max(1);
        prefetch(&self.buckets[bucket(key)]);
        Key(key)
    }

    /// Takes in a query, and says how often it has come again, with this one.
    pub fn query(&mut self, Key(key): Key, time_ns: u64) -> u16 {
        let place = self.place(key);
        if place.is(key, time_ns) && place.responses == 0 {
            place.queries = place.queries.saturating_add(1);
            return place.queries - 1;
        }
        *place = Place {
            key,
            asked_ns: time_ns,
            queries: 1,
            responses: 0,
        };
        0
    }

    /// Takes in a response; `None` if its query is not known.
    pub fn response(&mut self, Key(key): Key, time_ns: u64) -> Option<Response> {
        let place = self.place(key);
        place.is(key, time_ns).then(|| {
            place.responses = place.responses.saturating_add(1);
            Response {
                elapsed_ns: time_ns.saturating_sub(place.asked_ns),
                query_repeats: place.queries - 1,
                repeats: place.responses - 1,
            }
        })
    }

    /// Where `key` is, or may be put.
    fn place(&mut self, key: u64) -> &mut Place {
        let bucket = &mut self.buckets[bucket(key)];
        let known = bucket.iter().position(|place| place.key == key);
        let oldest = || (0..WAYS).min_by_key(|way| bucket[*way].asked_ns);
        let way = known.or_else(oldest).unwrap_or(0);
        &mut bucket[way]
    }
}

fn bucket(key: u64) -> usize {
    key as usize % BUCKETS
}

impl Default for Queries {
    fn default() -> Self {
        Self::new()
    }
}

impl Place {
    /// Whether `key` was asked, and not too long ago. Packets of several interfaces may be out of order.
    fn is(&self, key: u64, time_ns: u64) -> bool {
        self.key == key && time_ns.abs_diff(self.asked_ns) <= WAIT_NS
    }
}

impl Asked<'_> {
    /// All but the name. Who is asked is left out where others answer.
    #[inline]
    fn numbers(&self) -> [u64; 7] {
        let [a, b, c] = numbers(self.asker);
        let [d, e, f] = match is_group(self.answerer.0) || is_by_group(self) {
            true => [0; 3],
            false => numbers(self.answerer),
        };
        let own = u64::from(self.is_stream) << 32 | u64::from(self.id) << 16 | u64::from(self.kind);
        [a, b, c, d, e, f, own]
    }
}

/// An address with its family, and a port.
#[inline]
fn numbers((address, port): (Addr, u16)) -> [u64; 3] {
    let (family, address) = match address {
        Addr::V4(address) => (4, address.into()),
        Addr::V6(address) => (6, address),
    };
    let [low, middle, high] = [0, 1, 2].map(|nth| {
        let part: u128 = address >> (nth * NUMBER_BITS);
        part as u64 & ((1 << NUMBER_BITS) - 1)
    });
    [low, middle, high << 24 | family << 16 | u64::from(port)]
}

/// Whether packets to `address` reach several hosts (RFC 5771, RFC 4291 section 2.7).
fn is_group(address: Addr) -> bool {
    match address {
        Addr::V4(address) => address >> 28 == 0xe,
        Addr::V6(address) => address >> 120 == 0xff,
    }
}

/// Whether a query of this kind goes to a group, by the port of the answerer: LLMNR (RFC 4795 section 2), mDNS (RFC 6762 section 6.7).
fn is_by_group(asked: &Asked<'_>) -> bool {
    !asked.is_stream && matches!(asked.answerer.1, 5353 | 5355)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const S: u64 = 1_000_000_000;

    fn asked(id: u16) -> Asked<'static> {
        Asked {
            asker: (Addr::V4(1), 4000),
            answerer: (Addr::V4(2), 53),
            is_stream: false,
            id,
            name: b"a.example",
            kind: 1,
        }
    }

    fn query(queries: &mut Queries, asked: &Asked<'_>, time_ns: u64) -> u16 {
        queries.query(queries.key(asked), time_ns)
    }

    fn answered(queries: &mut Queries, asked: &Asked<'_>, time_ns: u64) -> Option<(u64, u16, u16)> {
        let response = queries.response(queries.key(asked), time_ns)?;
        Some((
            response.elapsed_ns,
            response.query_repeats,
            response.repeats,
        ))
    }

    #[test]
    fn time_counts_from_the_first_query_and_repetitions_are_counted() {
        let mut queries = Queries::new();
        assert_eq!(query(&mut queries, &asked(7), S), 0);
        assert_eq!(query(&mut queries, &asked(7), 2 * S), 1);
        assert_eq!(query(&mut queries, &asked(7), 3 * S), 2);
        assert_eq!(
            answered(&mut queries, &asked(7), 4 * S),
            Some((3 * S, 2, 0))
        );
        assert_eq!(
            answered(&mut queries, &asked(7), 5 * S),
            Some((4 * S, 2, 1))
        );
        // A new query, with the same numbers.
        assert_eq!(query(&mut queries, &asked(7), 6 * S), 0);
        assert_eq!(answered(&mut queries, &asked(7), 7 * S), Some((S, 0, 0)));
    }

    #[test]
    fn everything_that_tells_queries_apart_counts() {
        let base = asked(7);
        for other in [
            Asked { id: 8, ..base },
            Asked { kind: 28, ..base },
            Asked {
                name: b"b.example",
                ..base
            },
            Asked {
                is_stream: true,
                ..base
            },
            Asked {
                asker: (Addr::V4(1), 4001),
                ..base
            },
            Asked {
                asker: (Addr::V4(9), 4000),
                ..base
            },
            Asked {
                answerer: (Addr::V4(3), 53),
                ..base
            },
            Asked {
                asker: base.answerer,
                answerer: base.asker,
                ..base
            },
        ] {
            let mut queries = Queries::new();
            query(&mut queries, &base, S);
            assert_eq!(answered(&mut queries, &other, S), None, "{other:?}");
        }
    }

    #[test]
    fn a_query_waits_for_thirty_seconds() {
        let mut queries = Queries::new();
        query(&mut queries, &asked(7), S);
        assert_eq!(answered(&mut queries, &asked(7), 31 * S + 1), None);
        assert_eq!(
            answered(&mut queries, &asked(7), 31 * S),
            Some((30 * S, 0, 0))
        );
        // Long after, the same is a new query.
        assert_eq!(query(&mut queries, &asked(7), 100 * S), 0);
    }

    #[test]
    fn what_was_asked_of_a_group_is_answered_from_anywhere() {
        let mut queries = Queries::new();
        let group = Asked {
            answerer: (Addr::V4(0xe000_00fc), 5355),
            ..asked(7)
        };
        query(&mut queries, &group, S);
        let host = Asked {
            answerer: (Addr::V4(77), 5355),
            ..group
        };
        assert_eq!(answered(&mut queries, &host, S + 5), Some((5, 0, 0)));
    }

    proptest! {
        #[test]
        fn it_never_grows(ids: Vec<u16>, times in prop::collection::vec(any::<u64>(), 8)) {
            let mut queries = Queries::new();
            for (id, time) in ids.iter().zip(times.iter().cycle()) {
                query(&mut queries, &asked(*id), *time);
                answered(&mut queries, &asked(id.wrapping_add(1)), *time);
            }
            prop_assert_eq!(queries.buckets.len() * WAYS, PLACES);
        }
    }
}
