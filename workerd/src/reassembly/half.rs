//! One direction of a connection: where its stream stands.

use std::ops::Range;

use super::ledger::Chain;
use super::lists::Link;
use super::pieces::Queue;

/// Shift of windows whose scale was not seen.
const USUAL_SCALE: u8 = 8;
/// Distance in front of the expected byte that is believed while its receiver has not been heard.
const BLIND_REACH: u32 = 1 << 20;
/// Least such distance when it has.
const LEAST_REACH: u32 = 1 << 18;
/// Largest such distance: half of the largest window (RFC 7323, section 2.3), so that all that is compared lies within 2^31 of each other.
const MOST_REACH: u32 = 1 << 29;
/// How far back a retransmission may begin.
pub(super) const BACK: i32 = 1 << 24;
/// How far before the first segment that was seen a stream that is picked up in its middle may begin.
pub(super) const START_BACK: u32 = 1 << 16;

/// How far `a` is ahead of `b` in sequence space; negative if it is behind (RFC 9293, section 3.4).
#[inline]
pub(super) fn ahead(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b) as i32
}

/// How far a direction has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// Nothing was seen that says where its stream stands for sure. If `hinted`, `next` is probably right.
    #[default]
    Unseen,
    /// Picked up in its middle: what was seen waits for what may come before it. `next` is where the first segment began.
    Starting,
    /// All before `next` was delivered or given up.
    Open,
    /// The consumer was told of its end.
    Ended,
    /// The consumer wants no more of it.
    Ignored,
}

/// One direction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Half {
    /// Offset of `next` in the stream.
    pub(super) offset: u64,
    /// Sequence number of the byte that is expected next.
    pub(super) next: u32,
    /// Distance that is believed, in front of `next` or of what was acknowledged: the largest window that the receiver announced.
    pub(super) reach: u32,
    /// Whether it has announced one.
    pub(super) announced: bool,
    /// What the receiver has acknowledged, if anything.
    pub(super) acked: Option<u32>,
    /// Initial sequence number, if known.
    pub(super) isn: Option<u32>,
    /// Where the stream ends, if known.
    pub(super) fin: Option<u32>,
    /// Where the next segment begins if segments out of reach follow each other, and how many did.
    pub(super) far: (u32, u8),
    /// Shift of the windows that this direction's sender announces.
    pub(super) scale: u8,
    pub(super) phase: Phase,
    pub(super) hinted: bool,
    /// Whether what its receiver has is not waited for: see [`Streams::resume`](super::Streams::resume).
    pub(super) resumes: bool,
    /// Whether it was seen at all.
    pub(super) heard: bool,
    pub(super) waiting: Queue,
    pub(super) notes: Chain,
    /// Its place among the directions that wait.
    pub(super) link: Link,
}

/// For what a direction waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// The receiver has the bytes, or nobody knows that there are any: they come soon or never.
    Late,
    /// The receiver says nothing of them.
    Unknown,
    /// The receiver has not got them, so that they will be sent again.
    Resent,
}

impl Default for Half {
    fn default() -> Self {
        Self {
            offset: 0,
            next: 0,
            reach: BLIND_REACH,
            announced: false,
            acked: None,
            isn: None,
            fin: None,
            far: (0, 0),
            scale: USUAL_SCALE,
            phase: Phase::Unseen,
            hinted: false,
            resumes: false,
            heard: false,
            waiting: Queue::default(),
            notes: Chain::default(),
            link: Link::default(),
        }
    }
}

impl Half {
    /// The stream begins behind this SYN.
    pub(super) fn begin(&mut self, isn: u32) {
        self.isn = Some(isn);
        self.next = isn.wrapping_add(1);
        self.acked = None;
        self.far.1 = 0;
        self.phase = Phase::Open;
    }

    /// The offset of the byte with this sequence number; 0 for those before the first.
    #[inline]
    pub(super) fn offset_of(&self, seq: u32) -> u64 {
        self.offset
            .saturating_add_signed(i64::from(ahead(seq, self.next)))
    }

    /// The offsets of so many bytes before the sequence number `end`, as far as they are in the stream.
    #[inline]
    pub(super) fn range(&self, end: u32, len: usize) -> Range<u64> {
        let end = self.offset_of(end);
        end.saturating_sub(len as u64)..end
    }

    /// Whether a segment that begins here can be of this stream.
    #[inline]
    pub(super) fn reaches(&self, seq: u32) -> bool {
        let distance = ahead(seq, self.next);
        let known = self.acked.map_or(0, |acked| ahead(acked, self.next).max(0));
        let back = match self.phase {
            Phase::Starting => START_BACK as i32,
            _ => BACK,
        };
        distance >= -back && distance <= known + self.reach as i32
    }

    /// Takes in what the receiver says: a window, of this shift.
    #[inline]
    pub(super) fn widen(&mut self, window: u16, scale: u8) {
        let window = (u32::from(window) << scale).clamp(LEAST_REACH, MOST_REACH);
        if window > self.reach || !self.announced {
            self.reach = window;
            self.announced = true;
        }
    }

    /// Whether something is to come before what waits.
    #[inline]
    pub(super) fn waits(&self) -> bool {
        match self.phase {
            Phase::Starting => true,
            Phase::Open => !self.waiting.is_empty() || self.fin.is_some(),
            Phase::Unseen | Phase::Ended | Phase::Ignored => false,
        }
    }

    /// Whether nothing but its SYN was seen and believed.
    pub(super) fn is_only_open(&self) -> bool {
        let first = self.isn.map(|isn| isn.wrapping_add(1));
        let nothing_waits = self.waiting.is_empty() && self.fin.is_none();
        self.phase == Phase::Open
            && self.acked.is_none()
            && first == Some(self.next)
            && nothing_waits
    }

    /// Whether the consumer is to be told of its end.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Open)
    }

    /// Whether it is over as far as the consumer is concerned.
    pub(super) fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Ended | Phase::Ignored)
    }
}
