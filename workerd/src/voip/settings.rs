//! How a worker follows calls, as the operator chose: made of the node's configuration once, asked per packet.
//!
//! The ports on which SIP and media are expected are hints. What they change is told here, and nowhere else:
//!
//! | on such a port | elsewhere |
//! |---|---|
//! | a TCP stream is searched for SIP for as long as it lasts | it is given up after some bytes without any ([`Limits::before_first`], [`Limits::between`]) |
//! | one packet that looks like RTP is media without signalling | its flow has to look like media to [`detection`](crate::detect) |

use lc_daemon::config::{ExpectedPorts, MessageLimits, Voip};

use crate::reassembly;
use crate::sip::framer::Limits;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether TCP is left out, wherever it is found.
    pub udp_only: bool,
    /// Which TCP streams are followed.
    pub streams: reassembly::Limits,
    messages: MessageLimits,
    sip: Vec<u16>,
    media: PortSet,
}

/// A bit for each port.
#[derive(Debug, Clone)]
struct PortSet(Vec<u64>);

impl Settings {
    /// Of the node's configuration.
    #[must_use]
    pub fn of(voip: &Voip) -> Self {
        let ExpectedPorts { sip, media } = &voip.ports;
        let mut set = PortSet(match media.is_empty() {
            true => Vec::new(),
            false => vec![0; (1 << 16) / 64],
        });
        media
            .iter()
            .flat_map(Clone::clone)
            .for_each(|port| set.add(port));
        Self {
            udp_only: voip.udp_only,
            streams: reassembly::Limits::new(&voip.streams),
            messages: voip.messages,
            sip: sip.clone(),
            media: set,
        }
    }

    /// Most bytes of a SIP message.
    #[must_use]
    pub fn longest_message(&self) -> usize {
        self.messages.bytes
    }

    /// What a TCP stream between two ports may do.
    #[must_use]
    pub fn stream_limits(&self, (source, destination): (u16, u16)) -> Limits {
        let limits = Limits {
            content_length: self.messages.content_length,
            message: self.messages.bytes,
            ..Limits::default()
        };
        let is_expected = |port| self.sip.contains(&port);
        match is_expected(source) || is_expected(destination) {
            false => limits,
            true => Limits {
                before_first: usize::MAX,
                between: usize::MAX,
                ..limits
            },
        }
    }

    /// Whether media are expected at either port.
    #[must_use]
    #[inline]
    pub fn expects_media(&self, (source, destination): (u16, u16)) -> bool {
        self.media.has(source) || self.media.has(destination)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::of(&Voip::default())
    }
}

impl PortSet {
    fn add(&mut self, port: u16) {
        if let Some(word) = self.0.get_mut(usize::from(port / 64)) {
            *word |= 1 << (port % 64);
        }
    }

    #[inline]
    fn has(&self, port: u16) -> bool {
        let word = self.0.get(usize::from(port / 64));
        word.is_some_and(|word| word >> (port % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::framer::{Event, Framer};
    use std::time::Duration;

    use lc_daemon::config::{CallSilence, PerformanceMode, TcpSilence, TcpStreams};

    fn voip() -> Voip {
        Voip {
            udp_only: false,
            ports: ExpectedPorts {
                sip: vec![5080, 65535],
                media: vec![10_000..=10_063, 65_535..=65_535],
            },
            silence: CallSilence::default(),
            messages: MessageLimits {
                bytes: 500,
                content_length: 100,
            },
            streams: TcpStreams {
                mode: PerformanceMode::Minimal,
                most: 9,
                silence: TcpSilence::always(Duration::from_secs(7)),
            },
        }
    }

    #[test]
    fn ports_are_expected_at_either_end() {
        let settings = Settings::of(&voip());
        for (ports, expected) in [
            ((10_000, 9), true),
            ((9, 10_063), true),
            ((9_999, 10_064), false),
            ((65_535, 1), true),
            ((0, 0), false),
        ] {
            assert_eq!(settings.expects_media(ports), expected, "{ports:?}");
        }
        let none = Voip {
            ports: ExpectedPorts::default(),
            ..voip()
        };
        assert!(!Settings::of(&none).expects_media((10_000, 0)));
    }

    /// What a framer of the limits finds behind `noise` bytes that are no SIP.
    fn finds_behind(limits: Limits, noise: usize) -> bool {
        let mut framer = Framer::new(limits, 0);
        let mut stream = b"noise\r\n".repeat(noise / 7);
        stream.extend_from_slice(b"BYE sip:a@b SIP/2.0\r\nl: 0\r\n\r\n");
        let mut chunk = &stream[..];
        std::iter::from_fn(|| {
            framer
                .next(&mut chunk)
                .map(|e| matches!(e, Event::Message(_)))
        })
        .any(|is_message| is_message)
    }

    #[test]
    fn where_sip_is_expected_a_stream_is_searched_for_longer() {
        let settings = Settings::of(&voip());
        for (ports, behind_much) in [((5080, 9), true), ((9, 5080), true), ((9, 5060), false)] {
            let limits = settings.stream_limits(ports);
            assert!(finds_behind(limits, 1_000), "{ports:?}");
            assert_eq!(finds_behind(limits, 1 << 20), behind_much, "{ports:?}");
        }
    }

    #[test]
    fn limits_are_the_operators() {
        let settings = Settings::of(&voip());
        let limits = settings.stream_limits((1, 2));
        assert_eq!((limits.message, limits.content_length), (500, 100));
        assert_eq!(settings.longest_message(), 500);
        let streams = settings.streams;
        assert_eq!((streams.connections, streams.waiting_bytes), (9, 25 << 20));
        assert_eq!(streams.silence.opening, Duration::from_secs(7));
    }
}
