//! The table itself: buckets of eight flows, two of which may hold a given flow.

use std::mem::size_of;

use shm_layout::counters::WorkerCounter;
use shm_layout::prefetch::prefetch;
use shm_layout::worker::WorkerCommit;

use super::clock::{Clock, Tick};
use super::key::{Key, Probe, Seed, Zone};
use super::life::{Direction, Life, Patience, Signal, Timeouts};
use crate::decode::Decoded;

/// Flows of a bucket.
const WAYS: usize = 8;

/// A flow goes into its second bucket when its first has fewer free places than this, and than the second.
const FEW: u32 = 4;

/// Buckets that the hand passes in a batch at most.
pub(super) const MOST_REAPED: usize = 64;

/// The hand goes round in this many ticks, about nine seconds.
const ROUND_TICKS: usize = 128;

/// Probes that are warmed together: with two buckets each, about as many lines as a core can wait for at once.
const WAVE: usize = 32;

/// The table can't be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "no memory for a flow table of {bytes} bytes: set hunter.flow_table_mb lower, or run fewer workers"
)]
pub struct NoMemory {
    /// What was asked for.
    pub bytes: usize,
}

/// See the [module](super).
pub struct FlowTable<V> {
    buckets: Vec<Bucket<V>>,
    seed: Seed,
    patience: Patience,
    clock: Clock,
    hand: Hand,
    counts: Counts,
    reported: Counts,
    visited: u64,
}

/// Where the search for flows to forget is.
struct Hand {
    /// The bucket it comes to next.
    at: usize,
    /// Buckets that it should have passed by now.
    due: usize,
    /// The tick up to which `due` was reckoned.
    tick: Tick,
    /// Buckets a tick.
    pace: usize,
}

/// Flows since the table was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Begun.
    pub created: u64,
    /// Forgotten after they were silent for too long.
    pub idle: u64,
    /// Forgotten after both sides had ended them.
    pub over: u64,
    /// Forgotten to make room for others.
    pub evicted: u64,
}

impl Counts {
    /// Flows in the table, with those that have been silent for too long but are not forgotten yet.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.created - self.idle - self.over - self.evicted
    }
}

/// A flow, as one of its packets finds it.
#[derive(Debug, PartialEq, Eq)]
pub struct Flow<'t, V> {
    /// Which way the packet goes.
    pub direction: Direction,
    /// Whether this is its first packet.
    pub is_new: bool,
    /// What it remembers; the default at first.
    pub memory: &'t mut V,
}

#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Bucket<V> {
    places: Places,
    entries: [Entry<V>; WAYS],
}

/// What a look-up, an eviction and the hand need to know of a bucket: one cache line.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
struct Places {
    /// Part of the hash; 0: free.
    tags: [u16; WAYS],
    /// When silence will have lasted too long.
    deadlines: [Tick; WAYS],
    lives: [Life; WAYS],
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Entry<V> {
    key: Key,
    memory: V,
}

/// Bucket and way.
#[derive(Clone, Copy)]
struct Place {
    bucket: usize,
    way: usize,
}

impl<V: Copy + Default> FlowTable<V> {
    /// Bytes that a flow takes, its share of the bucket included.
    pub const BYTES_PER_FLOW: usize = size_of::<Bucket<V>>() / WAYS;

    /// A table of at most `bytes` (but one bucket at least), all of which are touched now: the packet path meets no page fault.
    ///
    /// # Errors
    /// [`NoMemory`]
    pub fn new(bytes: usize, seed: Seed, timeouts: &Timeouts) -> Result<Self, NoMemory> {
        let count = (bytes / size_of::<Bucket<V>>()).clamp(1, u32::MAX as usize);
        let mut buckets = Vec::new();
        buckets
            .try_reserve_exact(count)
            .map_err(|_| NoMemory { bytes })?;
        buckets.resize(count, Bucket::default());
        Ok(Self {
            buckets,
            seed,
            patience: Patience::new(timeouts),
            clock: Clock::default(),
            hand: Hand {
                at: 0,
                due: 0,
                tick: Tick::default(),
                pace: count.div_ceil(ROUND_TICKS),
            },
            counts: Counts::default(),
            reported: Counts::default(),
            visited: 0,
        })
    }

    /// How to look for the flow of a packet; none if it has none: without a decoded transport header, as in all fragments but the
    /// first. Costs no access to the table.
    #[must_use]
    #[inline]
    pub fn probe(&self, decoded: &Decoded, zone: Zone) -> Option<Probe> {
        Probe::of(decoded, zone, &self.seed)
    }

    /// To be called once a batch, before its packets are looked up: brings their flows into the cache, and forgets some of those that
    /// have been silent for too long, in at most 64 buckets.
    pub fn prepare(&mut self, probes: &[Probe]) {
        self.reap();
        for wave in probes.chunks(WAVE) {
            self.warm(wave);
        }
    }

    /// The flow of a packet, which begins if there is none. Looks at two buckets at most.
    ///
    /// `packet_ns` is the capture time; it may be any, see the [module](super). An [`Signal::Open`] begins a new flow where both sides had
    /// ended the old one: ports are used again. It does not where they had not, or one forged packet could wipe out what is known.
    #[inline]
    pub fn observe(&mut self, probe: &Probe, packet_ns: u64, signal: Signal) -> Flow<'_, V> {
        self.clock.see(packet_ns);
        let now = self.clock.now();
        let (place, is_new) = match self.place_of(probe) {
            Some(place) => {
                let places = &self.buckets[place.bucket].places;
                let life = places.lives[place.way];
                let ended = places.deadlines[place.way].has_come(now)
                    || signal == Signal::Open && life.is_over();
                if ended {
                    self.counts.ended(life);
                    self.begin(place, probe, signal);
                }
                (place, ended)
            }
            None => {
                let place = self.room_for(probe, now);
                self.begin(place, probe, signal);
                (place, true)
            }
        };
        let Bucket { places, entries } = &mut self.buckets[place.bucket];
        let life = &mut places.lives[place.way];
        let direction = life.see(probe.forward, signal);
        places.deadlines[place.way] = now.plus(self.patience.of(probe.transport, *life));
        Flow {
            direction,
            is_new,
            memory: &mut entries[place.way].memory,
        }
    }

    /// What the flow remembers, if it is in the table and has not been silent for too long. Changes nothing.
    #[must_use]
    #[inline]
    pub fn find(&self, probe: &Probe) -> Option<&V> {
        let now = self.clock.now();
        for bucket in self.buckets_of(probe) {
            let bucket = &self.buckets[bucket];
            if let Some(way) = bucket.way_of(probe) {
                let silent = bucket.places.deadlines[way].has_come(now);
                return (!silent).then_some(&bucket.entries[way].memory);
            }
        }
        None
    }

    /// What the flow remembers, most likely: it may be another's, and is nothing but a hint at what to fetch. Reads one line of the table that
    /// [`FlowTable::prepare`] has fetched, and touches the memory itself not at all.
    #[must_use]
    #[inline]
    pub fn guess(&self, probe: &Probe) -> Option<&V> {
        self.buckets_of(probe).into_iter().find_map(|bucket| {
            let bucket = &self.buckets[bucket];
            let found = bucket.places.tagged(probe.tag());
            (found != 0).then(|| &bucket.entries[found.trailing_zeros() as usize % WAYS].memory)
        })
    }

    /// What became of flows so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Adds what happened since the last report to a worker's counters.
    pub fn report(&mut self, commit: &mut WorkerCommit) {
        let (now, before) = (self.counts, self.reported);
        commit.add(WorkerCounter::FlowsCreated, now.created - before.created);
        commit.add(WorkerCounter::FlowsIdle, now.idle - before.idle);
        commit.add(WorkerCounter::FlowsOver, now.over - before.over);
        commit.add(WorkerCounter::FlowsEvicted, now.evicted - before.evicted);
        self.reported = now;
    }

    /// Bytes of memory. They never change.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<Bucket<V>>()
    }

    /// Flows that there is room for.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.buckets.len() * WAYS
    }

    /// Buckets that were looked at so far to find, place and forget flows: the table's work, in steps of bounded size.
    #[must_use]
    pub fn visited(&self) -> u64 {
        self.visited
    }

    /// The keys of all flows.
    #[cfg(test)]
    pub(super) fn keys(&self) -> Vec<Key> {
        let taken = |bucket: &Bucket<V>| {
            let Bucket { places, entries } = *bucket;
            (0..WAYS)
                .filter(move |way| places.tags[*way] != 0)
                .map(move |way| entries[way].key)
        };
        self.buckets.iter().flat_map(taken).collect()
    }

    /// The two buckets of a flow, by two halves of its hash.
    #[inline]
    pub(super) fn buckets_of(&self, probe: &Probe) -> [usize; 2] {
        let scaled = |half: u64| ((half * self.buckets.len() as u64) >> 32) as usize;
        [scaled(probe.hash >> 32), scaled(probe.hash & 0xffff_ffff)]
    }

    #[inline]
    fn place_of(&mut self, probe: &Probe) -> Option<Place> {
        for bucket in self.buckets_of(probe) {
            self.visited += 1;
            if let Some(way) = self.buckets[bucket].way_of(probe) {
                return Some(Place { bucket, way });
            }
        }
        None
    }

    /// A free place, made so by forgetting if need be: the first bucket while it has some to spare, then the emptier one; of two full ones,
    /// the flow that would have ended first.
    #[inline]
    fn room_for(&mut self, probe: &Probe, now: Tick) -> Place {
        let [first, second] = self.buckets_of(probe);
        let free = self.buckets[first].places.free(now);
        let (bucket, free) = match free.count_ones() {
            FEW.. => (first, free),
            few => match self.buckets[second].places.free(now) {
                other if other.count_ones() > few => (second, other),
                _ => (first, free),
            },
        };
        if free == 0 {
            let place = self.soonest([first, second], now);
            self.counts.evicted += 1;
            return place;
        }
        let way = free.trailing_zeros() as usize;
        let places = &self.buckets[bucket].places;
        if places.tags[way] != 0 {
            self.counts.ended(places.lives[way]);
        }
        Place { bucket, way }
    }

    #[cold]
    fn soonest(&self, buckets: [usize; 2], now: Tick) -> Place {
        let mut soonest = (i32::MAX, buckets[0], 0);
        for bucket in buckets {
            for (way, deadline) in self.buckets[bucket].places.deadlines.iter().enumerate() {
                soonest = soonest.min((deadline.after(now), bucket, way));
            }
        }
        let (_, bucket, way) = soonest;
        Place { bucket, way }
    }

    #[inline]
    fn begin(&mut self, Place { bucket, way }: Place, probe: &Probe, signal: Signal) {
        self.counts.created += 1;
        let Bucket { places, entries } = &mut self.buckets[bucket];
        places.tags[way] = probe.tag();
        places.lives[way] = Life::begin(probe.forward, signal);
        entries[way] = Entry {
            key: probe.key,
            memory: V::default(),
        };
    }

    /// Moves the hand as far as time has gone on.
    fn reap(&mut self) {
        let now = self.clock.now();
        let hand = &mut self.hand;
        let ticks = now.after(hand.tick).max(0) as usize;
        hand.tick = now;
        hand.due = (hand.due + ticks.saturating_mul(hand.pace)).min(self.buckets.len());
        let count = hand.due.min(MOST_REAPED);
        hand.due -= count;
        for _ in 0..count {
            let places = &mut self.buckets[hand.at].places;
            let mut free = places.free(now);
            while free != 0 {
                let way = free.trailing_zeros() as usize;
                free &= free - 1;
                if places.tags[way] != 0 {
                    places.tags[way] = 0;
                    self.counts.ended(places.lives[way]);
                }
            }
            hand.at = (hand.at + 1) % self.buckets.len();
        }
        self.visited += count as u64;
    }

    /// Has fetched what a look-up of each probe will read: the buckets of all first, then the entries, so that no fetch waits for the one
    /// before it.
    #[inline]
    fn warm(&self, wave: &[Probe]) {
        for probe in wave {
            for bucket in self.buckets_of(probe) {
                prefetch(&self.buckets[bucket].places);
            }
        }
        for probe in wave {
            let [first, second] = self.buckets_of(probe);
            let in_first = self.buckets[first].places.tagged(probe.tag());
            let bucket = &self.buckets[if in_first == 0 { second } else { first }];
            let found = bucket.places.tagged(probe.tag());
            prefetch(&bucket.entries[found.trailing_zeros() as usize % WAYS]);
        }
    }
}

impl<V> Bucket<V> {
    #[inline]
    fn way_of(&self, probe: &Probe) -> Option<usize> {
        let mut found = self.places.tagged(probe.tag());
        while found != 0 {
            let way = found.trailing_zeros() as usize;
            if self.entries[way].key == probe.key {
                return Some(way);
            }
            found &= found - 1;
        }
        None
    }
}

impl Places {
    /// Ways with this tag, as bits.
    #[inline]
    fn tagged(&self, tag: u16) -> u32 {
        bits(self.tags.map(|other| other == tag))
    }

    /// Ways that are free or whose flow has been silent for too long, as bits.
    #[inline]
    fn free(&self, now: Tick) -> u32 {
        bits(self.tags.map(|tag| tag == 0)) | bits(self.deadlines.map(|tick| tick.has_come(now)))
    }
}

#[inline]
fn bits(ways: [bool; WAYS]) -> u32 {
    ways.iter()
        .enumerate()
        .fold(0, |bits, (way, set)| bits | u32::from(*set) << way)
}

impl Probe {
    /// Never 0.
    #[inline]
    fn tag(&self) -> u16 {
        self.hash as u16 | 1
    }
}

impl Counts {
    /// Counts the flows that a worker's predecessor had in its table as lost: the table dies with its process. To be called once, with the
    /// commit that the worker goes on from.
    pub fn succeed(commit: &mut WorkerCommit) {
        use WorkerCounter::{FlowsCreated, FlowsEvicted, FlowsIdle, FlowsLost, FlowsOver};
        let gone = [FlowsIdle, FlowsOver, FlowsEvicted, FlowsLost];
        let gone: u64 = gone.map(|counter| commit.get(counter)).iter().sum();
        let lost = commit.get(FlowsCreated).saturating_sub(gone);
        commit.add(FlowsLost, lost);
    }

    fn ended(&mut self, life: Life) {
        match life.is_over() {
            true => self.over += 1,
            false => self.idle += 1,
        }
    }
}
