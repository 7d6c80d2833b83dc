//! What signatures remember: a few bytes per flow, and bounded tables that all flows share.
//!
//! Nothing here grows. A table that is full forgets its oldest entry of the bucket in question, so
//! strangers can make it forget but not make it large.

use crate::decode::Addr;
use crate::flows::Seed;

/// How many of the first bytes of a connection are remembered.
pub const START_BYTES: usize = 20;

/// What one flow remembers for its signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scratch {
    /// Nothing.
    #[default]
    Empty,
    /// The last packet of each of the latest media streams (or of what may be one), the latest first.
    Media {
        /// Synchronization sources; 0 where none was seen.
        ssrc: [u32; 3],
        /// Sequence numbers.
        sequence: [u16; 3],
    },
    /// The first bytes that one end of a connection sent, where they came in short segments.
    Start {
        /// Which end: see [`super::Context::forward`].
        forward: bool,
        /// The bytes.
        bytes: Short<START_BYTES>,
    },
    /// The latest DNS queries without an answer.
    Queries {
        /// Transaction ids.
        id: [u16; 3],
        /// When they were seen, in milliseconds; 0 for none.
        at_ms: [u32; 3],
    },
    /// One end of a connection has greeted like a server of mail, but others greet so too.
    Greeted {
        /// Which end: see [`super::Context::forward`].
        forward: bool,
    },
    /// One end of a connection authenticates itself: what it says is secret until the other end answers.
    Secret {
        /// Which end: see [`super::Context::forward`].
        forward: bool,
        /// Whether it has said more since the packet that began it.
        goes_on: bool,
    },
    /// The latest request, in [`Memory::request`].
    Request {
        /// Its place.
        slot: u16,
        /// Its number.
        stamp: u32,
    },
}

/// What a negotiated endpoint carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaKind {
    /// RTP in clear.
    Rtp,
    /// RTP/SAVP or RTP/SAVPF (RFC 3711, RFC 5124).
    Srtp,
    /// Fax over UDPTL (ITU-T T.38).
    T38,
}

impl Scratch {
    /// The first bytes of a connection up to and with `segment`, as far as they came in short segments from
    /// the end that sent the first of them; `None` for a segment of the other end, and where something else is remembered.
    pub fn join(&mut self, forward: bool, segment: &[u8]) -> Option<Short<START_BYTES>> {
        let joined = match self {
            Self::Start {
                forward: first,
                bytes,
            } => {
                if *first != forward {
                    return None;
                }
                let mut joined = [0; 2 * START_BYTES];
                let (known, more) = (bytes.as_bytes(), &segment[..segment.len().min(START_BYTES)]);
                let len = known.len() + more.len();
                joined[..known.len()].copy_from_slice(known);
                joined[known.len()..len].copy_from_slice(more);
                Short::new(&joined[..len])
            }
            Self::Greeted { .. } | Self::Secret { .. } => return None,
            _ => Short::new(segment),
        };
        *self = Self::Start {
            forward,
            bytes: joined,
        };
        Some(joined)
    }
}

impl Scratch {
    /// An end has greeted.
    pub fn greet(&mut self, forward: bool) {
        *self = Self::Greeted { forward };
    }

    /// Whether the end opposite to `forward` has greeted.
    #[must_use]
    pub fn is_greeted(&self, forward: bool) -> bool {
        matches!(self, Self::Greeted { forward: server } if *server != forward)
    }

    /// Takes note of what one end says: whether it begins to authenticate itself, or answers such an attempt.
    pub fn note_secret(&mut self, forward: bool, begins: bool, answers: bool) {
        match self {
            Self::Secret {
                forward: client,
                goes_on,
            } if *client == forward => *goes_on = true,
            Self::Secret { .. } if answers => *self = Self::Empty,
            Self::Secret { .. } => {}
            _ if begins => {
                *self = Self::Secret {
                    forward,
                    goes_on: false,
                };
            }
            _ => {}
        }
    }

    /// Whether this end authenticates itself.
    #[must_use]
    pub fn authenticates(&self, forward: bool) -> bool {
        matches!(self, Self::Secret { forward: client, .. } if *client == forward)
    }

    /// Whether what this end says now may be a secret. The packet that begins an authentication is described.
    #[must_use]
    pub fn hides(&self, forward: bool) -> bool {
        matches!(self, Self::Secret { forward: client, goes_on: true } if *client == forward)
    }
}

/// A short copy of bytes from a packet; more of them are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short<const N: usize> {
    len: u8,
    bytes: [u8; N],
}

impl<const N: usize> Short<N> {
    /// A copy of the first bytes of `text`.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let len = text.len().min(N).min(255);
        let mut bytes = [0; N];
        bytes[..len].copy_from_slice(&text[..len]);
        Self {
            len: len as u8,
            bytes,
        }
    }

    /// The text.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// An endpoint that a session description announced.
#[derive(Debug, Clone, Copy)]
pub struct Media {
    key: u64,
    at_s: u32,
    /// What it carries.
    pub kind: MediaKind,
    /// The Call-ID of the dialog that announced it.
    pub call_id: Short<64>,
}

/// A request that waits for its response.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    stamp: u32,
    /// When it was seen.
    pub time_ns: u64,
    /// Its method.
    pub method: Short<16>,
    /// Its path, cut at 160 bytes.
    pub path: Short<160>,
}

const MEDIA_BUCKETS: usize = 4096;
const PAIR_BUCKETS: usize = 1024;
const WAYS: usize = 4;
const REQUESTS: usize = 512;
/// How long an announced endpoint is expected to start sending.
const MEDIA_LIFE_S: u32 = 3600;
/// How long after a SIP message its two hosts count as SIP peers.
const PAIR_LIFE_S: u32 = 30 * 60;

/// What all flows of a worker share: about 1.5 MiB, allocated once.
pub struct Memory {
    seed: Seed,
    /// Whether any endpoint was ever announced: on most links none is.
    has_media: bool,
    media: Vec<[Option<Media>; WAYS]>,
    pairs: Vec<[(u64, u32); WAYS]>,
    requests: Vec<Option<Request>>,
    stamp: u32,
}

impl Memory {
    /// Empty tables.
    #[must_use]
    pub fn new() -> Self {
        Self {
            seed: Seed::random(),
            has_media: false,
            media: vec![[None; WAYS]; MEDIA_BUCKETS],
            pairs: vec![[(0, 0); WAYS]; PAIR_BUCKETS],
            requests: vec![None; REQUESTS],
            stamp: 0,
        }
    }

    /// Remembers that `kind` was announced for an endpoint.
    pub fn announce(
        &mut self,
        endpoint: (Addr, u16),
        kind: MediaKind,
        call_id: &[u8],
        time_ns: u64,
    ) {
        let key = self.key(endpoint);
        let media = Media {
            key,
            at_s: seconds(time_ns),
            kind,
            call_id: Short::new(call_id),
        };
        let bucket = &mut self.media[key as usize % MEDIA_BUCKETS];
        let same = bucket
            .iter()
            .position(|entry| entry.is_some_and(|entry| entry.key == key));
        let place = same.unwrap_or_else(|| {
            oldest(
                bucket
                    .iter()
                    .map(|entry| entry.map_or(0, |entry| entry.at_s)),
            )
        });
        bucket[place] = Some(media);
        self.has_media = true;
    }

    /// What was announced for an endpoint within the last hour.
    #[must_use]
    #[inline]
    pub fn announced(&self, endpoint: (Addr, u16), time_ns: u64) -> Option<&Media> {
        if !self.has_media {
            return None;
        }
        let key = self.key(endpoint);
        let live = |media: &&Media| {
            media.key == key && seconds(time_ns).saturating_sub(media.at_s) <= MEDIA_LIFE_S
        };
        let bucket = &self.media[key as usize % MEDIA_BUCKETS];
        bucket.iter().flatten().find(live)
    }

    /// Remembers that two hosts speak SIP.
    pub fn pair(&mut self, hosts: (Addr, Addr), time_ns: u64) {
        let key = self.pair_key(hosts);
        let bucket = &mut self.pairs[key as usize % PAIR_BUCKETS];
        let same = bucket.iter().position(|entry| entry.0 == key);
        let place = same.unwrap_or_else(|| oldest(bucket.iter().map(|entry| entry.1)));
        bucket[place] = (key, seconds(time_ns));
    }

    /// Whether two hosts spoke SIP within the last half hour.
    #[must_use]
    pub fn paired(&self, hosts: (Addr, Addr), time_ns: u64) -> bool {
        let key = self.pair_key(hosts);
        self.pairs[key as usize % PAIR_BUCKETS]
            .iter()
            .any(|entry| entry.0 == key && seconds(time_ns).saturating_sub(entry.1) <= PAIR_LIFE_S)
    }

    /// Remembers a request; the scratch leads back to it.
    pub fn remember(&mut self, method: &[u8], path: &[u8], time_ns: u64) -> Scratch {
        self.stamp = self.stamp.wrapping_add(1);
        let slot = self.stamp as usize % REQUESTS;
        self.requests[slot] = Some(Request {
            stamp: self.stamp,
            time_ns,
            method: Short::new(method),
            path: Short::new(path),
        });
        Scratch::Request {
            slot: slot as u16,
            stamp: self.stamp,
        }
    }

    /// The request that `scratch` leads to, unless newer ones took its place.
    #[must_use]
    pub fn request(&self, scratch: &Scratch) -> Option<&Request> {
        let Scratch::Request { slot, stamp } = scratch else {
            return None;
        };
        let request = self.requests.get(usize::from(*slot))?.as_ref()?;
        (request.stamp == *stamp).then_some(request)
    }

    /// Never 0, which marks empty places.
    fn key(&self, endpoint: (Addr, u16)) -> u64 {
        self.hash(number(endpoint.0), 0, endpoint.1.into())
    }

    fn pair_key(&self, (a, b): (Addr, Addr)) -> u64 {
        let (a, b) = (number(a), number(b));
        self.hash(a.min(b), a.max(b), 0)
    }

    fn hash(&self, a: u128, b: u128, c: u64) -> u64 {
        let words = [(a >> 64) as u64, a as u64, (b >> 64) as u64, b as u64, c];
        self.seed.hash(&words).max(1)
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// From 1, so that 0 can mark what is empty.
fn seconds(time_ns: u64) -> u32 {
    (time_ns / 1_000_000_000) as u32 | 1
}

fn number(address: Addr) -> u128 {
    match address {
        Addr::V4(address) => 0xffff_0000_0000 | u128::from(address),
        Addr::V6(address) => address,
    }
}

fn oldest(times: impl Iterator<Item = u32>) -> usize {
    times
        .enumerate()
        .min_by_key(|(_, time)| *time)
        .map_or(0, |(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_found_until_they_expire_and_never_grow() {
        let mut memory = Memory::new();
        let endpoint = |port| (Addr::V4(0x0a00_0001), port);
        memory.announce(endpoint(1000), MediaKind::Rtp, b"a", 0);
        memory.announce(endpoint(1000), MediaKind::T38, b"b", 1_000_000_000);
        let found = memory.announced(endpoint(1000), 2_000_000_000).unwrap();
        assert_eq!(
            (found.kind, found.call_id.as_bytes()),
            (MediaKind::T38, &b"b"[..])
        );
        assert!(memory.announced(endpoint(1001), 0).is_none());
        assert!(
            memory
                .announced(endpoint(1000), 9_000_000_000_000)
                .is_none()
        );
        for port in 0..=u16::MAX {
            memory.announce(endpoint(port), MediaKind::Rtp, b"", 0);
        }
        assert_eq!(memory.media.len(), MEDIA_BUCKETS);
    }

    #[test]
    fn pairs_have_no_direction() {
        let mut memory = Memory::new();
        let (a, b) = (Addr::V4(1), Addr::V6(2));
        memory.pair((a, b), 0);
        assert!(memory.paired((b, a), 0) && memory.paired((a, b), 1_000_000_000));
        assert!(!memory.paired((a, a), 0));
        assert!(!memory.paired((a, b), 3_600_000_000_000));
    }

    #[test]
    fn an_overwritten_request_is_gone() {
        let mut memory = Memory::new();
        let first = memory.remember(b"GET", b"/", 5);
        assert_eq!(memory.request(&first).unwrap().path.as_bytes(), b"/");
        for _ in 0..REQUESTS {
            memory.remember(b"GET", b"/other", 6);
        }
        assert!(memory.request(&first).is_none());
    }
}
