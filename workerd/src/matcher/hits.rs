//! Filters that matched, and the order in which they are told.

use super::FilterIndex;
use super::fields::Kind;
use super::texts::Scratch;

/// Most filters told for one packet: more ids would not fit into a message.
pub const MOST_IDS: usize = 1024;
/// Most hits kept of a batch.
const MOST_HITS: usize = 1 << 20;
/// With more hits than this, repeats are found by sorting.
const FEW: usize = 32;

/// That a filter matched a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    /// Number of the packet in its batch.
    pub packet: u32,
    /// Where it stands among the packet's hits.
    pub rank: Rank,
    /// The filter.
    pub filter: FilterIndex,
}

/// Order of hits: those that the reference implementation reports before those that it hides behind them; then by group, by field,
/// and within a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank(u64);

impl Rank {
    /// Hit number `ordinal` of an address: source (field 0), destination (1); of the outermost header in tunnels, 2 and 3.
    #[must_use]
    pub fn address(field: u32, ordinal: u32) -> Self {
        Self::new(ordinal > 0, 0, field, ordinal)
    }

    /// Filter `filter` of field number `field`.
    #[must_use]
    pub fn field(kind: Kind, hidden: bool, field: u32, filter: FilterIndex) -> Self {
        Self::new(hidden, 1 + 2 * kind as u64, field, filter)
    }

    /// The same for filters that are compared with the digits of a SIP user: they come behind the others for users.
    #[must_use]
    pub fn number(hidden: bool, field: u32, filter: FilterIndex) -> Self {
        Self::new(hidden, 2 + 2 * Kind::SipUser as u64, field, filter)
    }

    fn new(hidden: bool, group: u64, field: u32, ordinal: u32) -> Self {
        Self(
            u64::from(hidden) << 63
                | group << 56
                | u64::from(field & 0xff_ffff) << 32
                | u64::from(ordinal),
        )
    }
}

/// What matched, and the memory to find it. Used again, it allocates nothing.
#[derive(Debug, Default)]
pub struct Matches {
    pub(super) hits: Vec<Hit>,
    ids: Vec<FilterIndex>,
    left_out: u64,
    pub(super) scratch: Scratch,
    pub(super) digits: Vec<u8>,
}

impl Matches {
    /// The filters that match the packet judged last, without repeats, at most [`MOST_IDS`].
    #[must_use]
    #[inline]
    pub fn filters(&self) -> &[FilterIndex] {
        &self.ids
    }

    /// Hits that are not among them, because there are too many.
    #[must_use]
    #[inline]
    pub fn left_out(&self) -> u64 {
        self.left_out
    }

    /// What [`search`](super::FilterSet::search) found, as it was found.
    #[must_use]
    pub fn hits(&self) -> &[Hit] {
        &self.hits
    }

    /// Forgets what was found.
    #[inline]
    pub fn clear(&mut self) {
        self.hits.clear();
        self.ids.clear();
        self.left_out = 0;
    }

    #[inline]
    pub(super) fn push(&mut self, hit: Hit) {
        if self.hits.len() < MOST_HITS {
            self.hits.push(hit);
        } else {
            self.left_out += 1;
        }
    }

    /// Orders the hits and takes out repeats.
    pub(super) fn order(&mut self) {
        let hits = &mut self.hits;
        if hits.len() > FEW {
            hits.sort_unstable_by_key(|hit| (hit.filter, hit.rank));
            hits.dedup_by_key(|hit| hit.filter);
        }
        hits.sort_unstable_by_key(|hit| hit.rank);
        for hit in hits.iter().take(MOST_IDS) {
            if hits.len() > FEW || !self.ids.contains(&hit.filter) {
                self.ids.push(hit.filter);
            }
        }
        self.left_out += hits.len().saturating_sub(MOST_IDS) as u64;
    }
}
