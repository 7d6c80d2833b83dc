//! How much is kept, and for how long.

use std::time::Duration;

use lc_daemon::settings::{Value, Values};

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
    /// How long a connection may be silent.
    pub timeouts: Timeouts,
}

/// How long a connection may be silent before it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// While nothing but SYNs was seen.
    pub opening: Duration,
    /// While data may come from both sides.
    pub established: Duration,
    /// Once a side has closed, or a reset was seen that may be forged.
    pub closing: Duration,
}

/// What the operator chose. The settings are those below `voip.` with the same names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice {
    /// `tcp_performance_mode`.
    pub mode: PerformanceMode,
    /// `max_streams`; 0: as many as the mode has room for.
    pub max_streams: usize,
    /// `tcp_sip_idle_timeout`; zero: two minutes.
    pub idle_timeout: Duration,
    /// The time-outs by state, if `enable_state_tcp_timeouts`. A zero stands for the default.
    pub state_timeouts: Option<Timeouts>,
}

/// `voip.tcp_performance_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PerformanceMode {
    /// Also called `memory`: as little memory as will do.
    Minimal,
    /// The default.
    #[default]
    Balanced,
    /// Also called `throughput`: much memory.
    HighPerformance,
    /// Also called `latency`: gaps are given up early.
    LowLatency,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            opening: Duration::from_secs(300),
            established: Duration::from_secs(1_800),
            closing: Duration::from_secs(300),
        }
    }
}

impl PerformanceMode {
    /// By its name, or by the other name for the same.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "minimal" | "memory" => Self::Minimal,
            "balanced" => Self::Balanced,
            "high_performance" | "throughput" => Self::HighPerformance,
            "low_latency" | "latency" => Self::LowLatency,
            _ => return None,
        })
    }
}

impl Default for Choice {
    fn default() -> Self {
        Self {
            mode: PerformanceMode::default(),
            max_streams: 0,
            idle_timeout: Duration::ZERO,
            state_timeouts: None,
        }
    }
}

const MIB: usize = 1 << 20;

impl Limits {
    /// Most connections that can be followed.
    pub const MOST_CONNECTIONS: usize = (1 << 20) - 1;
    /// The least room for what came out of order in one direction: a segment of the greatest length fits in.
    pub const LEAST_WAITING: usize = 80 << 10;

    /// The limits of a worker that keep to the operator's choice.
    #[must_use]
    pub fn new(choice: &Choice) -> Self {
        let (connections, waiting, of_one, packets_of_one, blind) = match choice.mode {
            PerformanceMode::Minimal => (1 << 14, 25 * MIB, 100 << 10, 500, 3_000),
            PerformanceMode::Balanced => (1 << 18, 100 * MIB, 400 << 10, 5_000, 3_000),
            PerformanceMode::HighPerformance => (1 << 20, 500 * MIB, 2_000 << 10, 20_000, 3_000),
            PerformanceMode::LowLatency => (1 << 18, 200 * MIB, 200 << 10, 2_000, 1_000),
        };
        let connections = match choice.max_streams {
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
            timeouts: choice.timeouts(),
        }
    }
}

impl Choice {
    /// As the settings say.
    #[must_use]
    pub fn of(values: &Values) -> Self {
        let mode = match value(values, "tcp_performance_mode") {
            Some(Value::Choice(name)) => PerformanceMode::named(name),
            _ => None,
        };
        let max_streams = match value(values, "max_streams") {
            Some(Value::Integer(number)) => usize::try_from(*number).unwrap_or(0),
            _ => 0,
        };
        let state_timeouts = match value(values, "enable_state_tcp_timeouts") {
            Some(Value::Switch(true)) => Some(Timeouts {
                opening: duration(values, "tcp_opening_timeout"),
                established: duration(values, "tcp_established_timeout"),
                closing: duration(values, "tcp_closing_timeout"),
            }),
            _ => None,
        };
        Self {
            mode: mode.unwrap_or_default(),
            max_streams,
            idle_timeout: duration(values, "tcp_sip_idle_timeout"),
            state_timeouts,
        }
    }

    fn timeouts(&self) -> Timeouts {
        let or = |time: Duration, default: Duration| match time.is_zero() {
            true => default,
            false => time,
        };
        match self.state_timeouts {
            Some(chosen) => {
                let default = Timeouts::default();
                Timeouts {
                    opening: or(chosen.opening, default.opening),
                    established: or(chosen.established, default.established),
                    closing: or(chosen.closing, default.closing),
                }
            }
            None => {
                let idle = or(self.idle_timeout, Duration::from_secs(120));
                Timeouts {
                    opening: idle,
                    established: idle,
                    closing: idle,
                }
            }
        }
    }
}

fn value<'a>(values: &'a Values, key: &str) -> Option<&'a Value> {
    values.get(&format!("voip.{key}")).map(|(value, _)| value)
}

fn duration(values: &Values, key: &str) -> Duration {
    match value(values, key) {
        Some(Value::Duration(time)) => *time,
        _ => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lc_daemon::settings::{Origin, by_key};

    #[test]
    fn settings_become_a_choice() {
        let mut values = Values::defaults();
        assert_eq!(Choice::of(&values), Choice::default());
        for (key, text) in [
            ("voip.tcp_performance_mode", "Latency"),
            ("voip.max_streams", "77"),
            ("voip.tcp_sip_idle_timeout", "90s"),
            ("voip.enable_state_tcp_timeouts", "true"),
            ("voip.tcp_closing_timeout", "7s"),
        ] {
            let setting = by_key(key).unwrap();
            values.set(setting, setting.kind.parse(text).unwrap(), Origin::Derived);
        }
        let expected = Choice {
            mode: PerformanceMode::LowLatency,
            max_streams: 77,
            idle_timeout: Duration::from_secs(90),
            state_timeouts: Some(Timeouts {
                closing: Duration::from_secs(7),
                ..Timeouts::default()
            }),
        };
        assert_eq!(Choice::of(&values), expected);
    }

    #[test]
    fn states_have_time_outs_of_their_own_only_if_asked_for() {
        let seconds = |choice: &Choice| {
            let Timeouts {
                opening,
                established,
                closing,
            } = Limits::new(choice).timeouts;
            [opening, established, closing].map(|time| time.as_secs())
        };
        let mut choice = Choice::default();
        assert_eq!(seconds(&choice), [120; 3]);
        choice.idle_timeout = Duration::from_secs(7);
        assert_eq!(seconds(&choice), [7; 3]);
        choice.state_timeouts = Some(Timeouts {
            opening: Duration::from_secs(9),
            established: Duration::ZERO,
            closing: Duration::ZERO,
        });
        assert_eq!(seconds(&choice), [9, 1_800, 300]);
    }

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
            let limits = Limits::new(&Choice {
                mode,
                ..Choice::default()
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
            let limits = Limits::new(&Choice {
                max_streams: chosen,
                ..Choice::default()
            });
            assert_eq!(limits.connections, expected);
        }
    }
}
