//! Frames of one size over many flows, for throughput measurements.
//!
//! Each flow is a pair of addresses and ports over UDP; its frame is made once, so packets cost
//! next to nothing after that and the set of flows is known exactly.

use super::frame::{self, Ports, UDP_HEADER};
use super::path::{Path, Side};
use super::rng::Rng;
use super::traffic::{SettingsError, check_flows, check_percent};
use super::{Frames, Packet};

/// What a [`Flood`] shall look like. Equal settings give equal bytes.
#[derive(Debug, Clone)]
pub struct FloodSettings {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Number of packets.
    pub packets: u64,
    /// Number of flows, 1 to 16 million.
    pub flows: usize,
    /// Length of every frame, without the frame check sequence, 64 to 9216 bytes. A frame is never
    /// shorter than its headers (66 bytes with IPv6 and VLAN).
    pub size: u16,
    /// In which order the flows send.
    pub order: Order,
    /// Percentage of the flows over IPv6, 0 to 100.
    pub ipv6_percent: u8,
    /// Percentage of the flows with an 802.1Q tag, 0 to 100.
    pub vlan_percent: u8,
    /// Capture time of the first packet, in seconds since the Unix epoch.
    pub start_seconds: u64,
}

/// In which order the flows of a flood send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// One after the other: the worst case for caches.
    RoundRobin,
    /// Flow k with a probability of about 1/k (Zipf's law with exponent 1), as on real links.
    Zipf,
}

/// Frames of one size; see the module.
pub struct Flood {
    settings: FloodSettings,
    rng: Rng,
    emitted: u64,
    frame: Vec<u8>,
    payload: Vec<u8>,
}

impl Flood {
    /// A flood as `settings` describe it.
    ///
    /// # Errors
    ///
    /// A [`SettingsError`] for a value that is out of its range.
    pub fn new(settings: FloodSettings) -> Result<Self, SettingsError> {
        check_flows(settings.flows, 1)?;
        check_percent(settings.ipv6_percent)?;
        check_percent(settings.vlan_percent)?;
        if !(64..=9216).contains(&settings.size) {
            return Err(SettingsError::FrameSize(settings.size.to_string()));
        }
        let mut payload = vec![0; usize::from(settings.size)];
        let mut rng = Rng::new(settings.seed, 0);
        rng.fill(&mut payload);
        Ok(Self {
            settings,
            rng,
            emitted: 0,
            frame: Vec::new(),
            payload,
        })
    }

    /// The flow that sends next.
    fn flow(&mut self) -> u64 {
        let flows = self.settings.flows as u64;
        match self.settings.order {
            Order::RoundRobin => self.emitted % flows,
            // The inverse of the harmonic distribution, log-uniform: exact enough for a load.
            Order::Zipf => {
                let unit = self.rng.range(0, 1 << 32) as f64 / (1u64 << 32) as f64;
                let rank = ((flows + 1) as f64).powf(unit) as u64;
                rank.clamp(1, flows) - 1
            }
        }
    }

    /// Makes the frame of `flow`.
    fn make(&mut self, flow: u64) {
        let settings = &self.settings;
        let mut rng = Rng::new(settings.seed, flow + 1);
        let path = Path::new(flow, settings.ipv6_percent, settings.vlan_percent, &mut rng);
        let ports = Ports {
            client: rng.range(1_024, 65_536) as u16,
            server: rng.range(1_024, 65_536) as u16,
        };
        let headers = path.header_len() + UDP_HEADER;
        let length = usize::from(settings.size).saturating_sub(headers);
        let payload = &self.payload[..length];
        frame::udp(&mut self.frame, &path, Side::Client, ports, payload);
    }
}

impl Frames for Flood {
    fn next_frame(&mut self) -> Option<Packet<'_>> {
        if self.emitted >= self.settings.packets {
            return None;
        }
        let flow = self.flow();
        self.make(flow);
        let start = self.settings.start_seconds.saturating_mul(1_000_000_000);
        let time_ns = start + self.emitted * 1_000;
        self.emitted += 1;
        Some(Packet {
            time_ns,
            bytes: &self.frame,
        })
    }
}
