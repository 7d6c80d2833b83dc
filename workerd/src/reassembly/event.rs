//! What a consumer is told, and what it answers.

use super::ledger::Ledger;
use super::streams::ConnectionId;
use crate::flows::Direction;

/// Who reads the streams: a parser of a protocol.
pub trait Consumer {
    /// What it remembers of a connection, for example a parser of each direction. Made when the connection is first seen, and dropped when it is over
    /// or of no interest any more.
    type State: Default;

    /// Takes in what happened in one direction of a connection.
    fn take(&mut self, stream: Stream<'_, Self::State>, event: Event<'_>) -> Interest;
}

/// Where something happened.
pub struct Stream<'a, S> {
    /// In which connection.
    pub connection: ConnectionId,
    /// In which direction.
    pub direction: Direction,
    /// What the consumer remembers of the connection, both directions.
    pub state: &'a mut S,
    /// The packets that carry this direction. When both have ended, it is forgotten.
    pub ledger: Ledger<'a>,
}

/// What happened. Offsets count the bytes of a direction, and never go back as long as the connection has its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// These bytes are next.
    Data {
        /// Offset of the first one.
        offset: u64,
        /// At least one.
        bytes: &'a [u8],
    },
    /// Bytes are missing here, and will not come any more.
    Gap {
        /// Where they are missing.
        offset: u64,
        /// How many, if known; the next byte then has the offset behind them. It is unknown where a stream is picked up in its middle
        /// and where it goes on out of reach.
        len: Option<u64>,
    },
    /// The direction has ended.
    End {
        /// Behind its last byte.
        offset: u64,
        /// Why.
        reason: End,
    },
}

/// Why a direction has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its sender has closed it, and everything before is told.
    Finished,
    /// The connection was reset.
    Reset,
    /// A new connection has the same addresses and ports.
    Reused,
    /// The connection was silent for too long.
    TimedOut,
    /// Its place was needed for another.
    Evicted,
    /// The caller has closed it.
    Closed,
}

/// Whether a consumer wants to know more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Interest {
    /// Yes.
    Follow,
    /// Nothing of this direction, not even its end. Its ledger is forgotten.
    IgnoreDirection,
    /// Nothing of this connection, until its ports are used for another. Its ledgers and state are forgotten.
    IgnoreConnection,
}
