//! What was counted.

/// Lifetime counters of [`Streams`](super::Streams).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Connections that were begun.
    pub opened: u64,
    /// Connections that were over: both directions ended, or the next connection had the same ports.
    pub over: u64,
    /// Connections that were silent for too long.
    pub timed_out: u64,
    /// Connections whose place was needed for others.
    pub evicted: u64,
    /// Connections that the caller has closed.
    pub closed: u64,
    /// Bytes that consumers were given.
    pub delivered_bytes: u64,
    /// Segments whose bytes were all there before.
    pub old_segments: u64,
    /// Segments that had to wait for what comes before them.
    pub waiting_segments: u64,
    /// Segments that overlap what waits, with other bytes: the first copy stays.
    pub conflicts: u64,
    /// Gaps that were given up, streams picked up in their middle not counted.
    pub gaps: u64,
    /// Bytes that are missing in them, where their number is known.
    pub gap_bytes: u64,
    /// Streams that were picked up in their middle.
    pub middles: u64,
    /// Segments out of reach of what their receiver can expect.
    pub far_segments: u64,
    /// Streams that went on out of reach.
    pub resyncs: u64,
    /// Bytes behind the end of their stream.
    pub after_end_bytes: u64,
    /// Resets that do not fit their connection.
    pub implausible_resets: u64,
    /// Connections that went on behind a reset, which was forged then.
    pub revived: u64,
    /// SYNs that do not fit their connection.
    pub implausible_syns: u64,
    /// Bytes out of order that there was no memory for.
    pub dropped_bytes: u64,
    /// Gaps that were given up early because memory for what comes behind them was short.
    pub hurried: u64,
    /// Packets that the ledger had no room for.
    pub unnoted: u64,
}
