//! How much is kept, and for how long.

use std::time::Duration;

use lc_daemon::config::{PerformanceMode, TcpSilence, TcpStreams};

/// The bounds of [`Streams`](super::Streams). Memory is reserved at the start and touched when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are followed at the same time: 1 to [`Limits::MOST_CONNECTIONS`].
    pub connections: usize,
    /// Bytes for what came out of order, in all.
    pub waiting_bytes: usize,
    /// Bytes for what came out of order in one direction of a connection: at least [`Limits::LEAST_WAITING`].
    pub waiting_bytes_of_one: usize,
    /// Packets in the ledgers, in all.
    pub packets: usize,
    /// Packets in the ledger of one direction of a connection.
    pub packets_of_one: usize,
    /// How long bytes are waited for that the receiver has acknowledged, and at the start of a stream that is picked up in its middle:
    /// as long as capture may reorder packets.
    pub reordering: Duration,
    /// How long missing bytes are waited for while the receiver is not heard.
    pub blind: Duration,
    /// How long missing bytes are waited for that the receiver has not acknowledged: as long as the sender may take to send them again.
    pub retransmission: Duration,
    /// How long a connection may be silent before it is given up.
    pub silence: TcpSilence,
}

const MIB: usize = 1 << 20;

impl Limits {
    /// Most connections that can be followed.
    pub const MOST_CONNECTIONS: usize = (1 << 20) - 1;
    /// The least room for what came out of order in one direction: a segment of the greatest length fits in.
    pub const LEAST_WAITING: usize = 80 << 10;

    /// The limits of a worker that keep to the operator's choice.
    #[must_use]
    pub fn new(choice: &TcpStreams) -> Self {
        let (connections, waiting, of_one, packets_of_one, blind) = match choice.mode {
            PerformanceMode::Minimal => (1 << 14, 25 * MIB, 100 << 10, 500, 3_000),
            PerformanceMode::Balanced => (1 << 18, 100 * MIB, 400 << 10, 5_000, 3_000),
            PerformanceMode::HighPerformance => (1 << 20, 500 * MIB, 2_000 << 10, 20_000, 3_000),
            PerformanceMode::LowLatency => (1 << 18, 200 * MIB, 200 << 10, 2_000, 1_000),
        };
        let connections = match choice.most {
            0 => connections,
            most => most,
        };
        Self {
            connections: connections.min(Self::MOST_CONNECTIONS),
            waiting_bytes: waiting,
            waiting_bytes_of_one: of_one,
            packets: packets_of_one * 32,
            packets_of_one,
            reordering: Duration::from_millis(200),
            blind: Duration::from_millis(blind),
            retransmission: Duration::from_millis(blind * 10),
            silence: choice.silence,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new(&TcpStreams::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_memory() {
        let modes = [
            ("memory", 25, 500),
            ("minimal", 25, 500),
            ("balanced", 100, 5_000),
            ("high_performance", 500, 20_000),
            ("throughput", 500, 20_000),
            ("low_latency", 200, 2_000),
            ("latency", 200, 2_000),
        ];
        for (name, mib, packets) in modes {
            let mode = PerformanceMode::named(name).unwrap();
            let limits = Limits::new(&TcpStreams {
                mode,
                ..TcpStreams::default()
            });
            assert_eq!(limits.waiting_bytes, mib << 20, "{name}");
            assert_eq!(limits.packets_of_one, packets, "{name}");
            assert!(limits.waiting_bytes_of_one >= Limits::LEAST_WAITING);
        }
        assert_eq!(PerformanceMode::named("fast"), None);
    }

    #[test]
    fn the_number_of_streams_is_bounded_whatever_was_chosen() {
        for (chosen, expected) in [(0, 1 << 18), (7, 7), (1 << 30, Limits::MOST_CONNECTIONS)] {
            let limits = Limits::new(&TcpStreams {
                most: chosen,
                ..TcpStreams::default()
            });
            assert_eq!(limits.connections, expected);
        }
    }
}
