//! What voip mode runs on: how long calls are remembered, how SIP is read, which TCP streams are followed.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{ConfigError, choice, integer, nonzero, switch};
use crate::settings::{Value, Values};

/// Settings of voip mode. In other modes they mean nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Voip {
    /// Leave out what runs over TCP.
    pub udp_only: bool,
    /// Where SIP and media are expected: hints, never walls.
    pub ports: ExpectedPorts,
    /// How long a call may be silent before it is forgotten.
    pub silence: CallSilence,
    /// How large SIP messages may be.
    pub messages: MessageLimits,
    /// Which TCP streams are followed, and for how long.
    pub streams: TcpStreams,
}

/// Ports that the operator expects SIP and media on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpectedPorts {
    /// Of SIP.
    pub sip: Vec<u16>,
    /// Of media.
    pub media: Vec<RangeInclusive<u16>>,
}

/// How long a call may be silent before it is forgotten, by its state; [`CallSilence::LEAST`] to [`CallSilence::MOST`] each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallSilence {
    /// A request outside of calls, such as REGISTER.
    pub transaction: Duration,
    /// A call that nobody has answered.
    pub setup: Duration,
    /// A call that goes on.
    pub established: Duration,
    /// A call that has ended: repeated messages and the last media are its.
    pub over: Duration,
    /// Media without signalling.
    pub media_only: Duration,
}

/// How large SIP messages may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageLimits {
    /// Most bytes of a message.
    pub bytes: usize,
    /// Largest Content-Length.
    pub content_length: u64,
}

/// Which TCP streams a worker follows, and for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TcpStreams {
    /// How much memory they may take.
    pub mode: PerformanceMode,
    /// Most connections; 0: as many as the mode has room for.
    pub most: usize,
    /// How long a connection may be silent.
    pub silence: TcpSilence,
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

/// How long a TCP connection may be silent before it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TcpSilence {
    /// While nothing but SYNs was seen.
    pub opening: Duration,
    /// While data may come from both sides.
    pub established: Duration,
    /// Once a side has closed, or a reset was seen that may be forged.
    pub closing: Duration,
}

impl Default for CallSilence {
    /// 64 T1 (RFC 3261 section 17); five minutes of ringing; two hours; half a minute; one minute.
    fn default() -> Self {
        Self {
            transaction: Duration::from_secs(32),
            setup: Duration::from_secs(300),
            established: Duration::from_secs(7_200),
            over: Duration::from_secs(30),
            media_only: Duration::from_secs(60),
        }
    }
}

impl CallSilence {
    /// Shortest: deadlines are kept to the second.
    pub const LEAST: Duration = Duration::from_secs(1);
    /// Longest: a week.
    pub const MOST: Duration = Duration::from_secs(7 * 24 * 3600);
}

impl Default for MessageLimits {
    fn default() -> Self {
        Self {
            bytes: 2 << 20,
            content_length: 1 << 20,
        }
    }
}

impl TcpSilence {
    /// What each state has if states have times of their own.
    pub const BY_STATE: Self = Self {
        opening: Duration::from_secs(300),
        established: Duration::from_secs(1_800),
        closing: Duration::from_secs(300),
    };

    /// The same in every state.
    #[must_use]
    pub const fn always(time: Duration) -> Self {
        Self {
            opening: time,
            established: time,
            closing: time,
        }
    }
}

impl Default for TcpSilence {
    /// Two minutes, whatever the state.
    fn default() -> Self {
        Self::always(Duration::from_secs(120))
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

impl Voip {
    /// As the settings say.
    ///
    /// # Errors
    /// [`ConfigError::Time`]
    pub(super) fn of(values: &Values) -> Result<Self, ConfigError> {
        let default = MessageLimits::default();
        let length = nonzero(
            values,
            "voip.security.max_content_length",
            default.content_length as usize,
        );
        Ok(Self {
            udp_only: switch(values, "hunter.voip.udp_only"),
            ports: ports(values),
            silence: silence(values)?,
            messages: MessageLimits {
                bytes: nonzero(values, "voip.security.max_message_size", default.bytes),
                content_length: length as u64,
            },
            streams: TcpStreams {
                mode: choice(values, "voip.tcp_performance_mode")
                    .and_then(PerformanceMode::named)
                    .unwrap_or_default(),
                most: integer(values, "voip.max_streams").unwrap_or(0),
                silence: tcp_silence(values),
            },
        })
    }
}

fn ports(values: &Values) -> ExpectedPorts {
    ExpectedPorts {
        sip: match values.get("hunter.voip.sip_ports") {
            Some((Value::Ports(ports), _)) => ports.clone(),
            _ => Vec::new(),
        },
        media: match values.get("hunter.voip.rtp_port_ranges") {
            Some((Value::PortRanges(ranges), _)) => {
                ranges.iter().map(|(first, last)| *first..=*last).collect()
            }
            _ => Vec::new(),
        },
    }
}

fn silence(values: &Values) -> Result<CallSilence, ConfigError> {
    let (least, most) = (CallSilence::LEAST, CallSilence::MOST);
    let default = CallSilence::default();
    let time = |key, default| match values.get(key) {
        Some((Value::Duration(value), _)) if !(least..=most).contains(value) => {
            Err(ConfigError::Time {
                key,
                value: *value,
                least,
                most,
            })
        }
        Some((Value::Duration(value), _)) => Ok(*value),
        _ => Ok(default),
    };
    Ok(CallSilence {
        transaction: time("hunter.voip.transaction_timeout", default.transaction)?,
        setup: time("hunter.voip.setup_timeout", default.setup)?,
        established: time("hunter.voip.established_timeout", default.established)?,
        over: time("hunter.voip.linger", default.over)?,
        media_only: time("hunter.voip.media_timeout", default.media_only)?,
    })
}

fn tcp_silence(values: &Values) -> TcpSilence {
    let time = |key, default| match values.get(key) {
        Some((Value::Duration(time), _)) if !time.is_zero() => *time,
        _ => default,
    };
    if !switch(values, "voip.enable_state_tcp_timeouts") {
        let default = TcpSilence::default().established;
        return TcpSilence::always(time("voip.tcp_sip_idle_timeout", default));
    }
    let default = TcpSilence::BY_STATE;
    TcpSilence {
        opening: time("voip.tcp_opening_timeout", default.opening),
        established: time("voip.tcp_established_timeout", default.established),
        closing: time("voip.tcp_closing_timeout", default.closing),
    }
}
