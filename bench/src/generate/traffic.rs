//! Many conversations at a time, interleaved as a tap would see them.
//!
//! A fixed number of slots each run one conversation after the other. Every slot keeps a pace of
//! about 100 packets per second, so the kinds' shares of packets follow their shares of slots.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::str::FromStr;

use thiserror::Error;

use super::calls::Call;
use super::dialogue::{Conversation, PACE_NS};
use super::dns::Lookup;
use super::mix::{Kind, Mix};
use super::path::Path;
use super::rng::Rng;
use super::{Frames, Packet, bulk, http, mail, tls};

/// What [`Traffic`] shall look like. Equal settings give equal bytes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where all randomness comes from.
    pub seed: u64,
    /// When to stop.
    pub length: Length,
    /// Conversations that run side by side; at least one for each kind of the mix.
    pub flows: usize,
    /// Frame size of bulk transfers.
    pub size: FrameSize,
    /// Shares of the kinds, by packets.
    pub mix: Mix,
    /// Percentage of the conversations over IPv6, 0 to 100.
    pub ipv6_percent: u8,
    /// Percentage of the conversations with an 802.1Q tag, 0 to 100.
    pub vlan_percent: u8,
    /// Capture time of the first packet, in seconds since the Unix epoch.
    pub start_seconds: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            seed: 1,
            length: Length::Packets(50_000),
            flows: 100,
            size: FrameSize::Fixed(1_000),
            mix: Mix::default(),
            ipv6_percent: 20,
            vlan_percent: 10,
            start_seconds: 1_767_225_600,
        }
    }
}

/// How much traffic to make. What is under way at the end is cut off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// This many packets.
    Packets(u64),
    /// This many seconds of capture time.
    Seconds(u64),
}

/// The length of a data frame of a bulk transfer, without the frame check sequence. A frame is
/// never shorter than its headers and one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameSize {
    /// All alike: 64 to 9216 bytes.
    Fixed(u16),
    /// 64, 594 and 1514 bytes in the ratio 7:4:1 ("simple IMIX").
    Imix,
}

impl FromStr for FrameSize {
    type Err = SettingsError;

    fn from_str(text: &str) -> Result<Self, SettingsError> {
        if text == "imix" {
            return Ok(Self::Imix);
        }
        text.parse()
            .ok()
            .filter(|size| (64..=9216).contains(size))
            .map(Self::Fixed)
            .ok_or_else(|| SettingsError::FrameSize(text.into()))
    }
}

/// Settings that make no sense.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SettingsError {
    /// Fewer conversations than kinds.
    #[error("{flows} flows are too few for {kinds} kinds of traffic; give at least one a kind")]
    TooFewFlows {
        /// As asked for.
        flows: usize,
        /// Kinds of the mix.
        kinds: usize,
    },
    /// More conversations than addresses.
    #[error("{0} flows are too many; the limit is 16000000")]
    TooManyFlows(usize),
    /// A percentage above 100.
    #[error("{0} is no percentage; use 0 to 100")]
    Percentage(u8),
    /// A frame size out of range.
    #[error("the frame size `{0}` is neither `imix` nor a number from 64 to 9216")]
    FrameSize(String),
}

/// Refuses `flows` that can't each have an address of their own.
pub(super) fn check_flows(flows: usize, kinds: usize) -> Result<(), SettingsError> {
    if flows < kinds {
        return Err(SettingsError::TooFewFlows { flows, kinds });
    }
    if flows > 16_000_000 {
        return Err(SettingsError::TooManyFlows(flows));
    }
    Ok(())
}

/// Refuses a share above 100.
pub(super) fn check_percent(percent: u8) -> Result<(), SettingsError> {
    if percent > 100 {
        return Err(SettingsError::Percentage(percent));
    }
    Ok(())
}

/// Mixed traffic; see the module.
pub struct Traffic {
    settings: Settings,
    start_ns: u64,
    slots: Vec<Slot>,
    /// Time since the start at which each slot's waiting frame is due, and the slot.
    due: BinaryHeap<Reverse<(u64, usize)>>,
    conversations: u64,
    emitted: u64,
    frame: Vec<u8>,
}

/// Where one conversation after the other runs.
struct Slot {
    kind: Kind,
    conversation: Box<dyn Conversation>,
    /// Start of the conversation, since the start of the traffic.
    started: u64,
    packets: u64,
    frame: Vec<u8>,
}

impl Traffic {
    /// Traffic as `settings` describe it.
    ///
    /// # Errors
    ///
    /// A [`SettingsError`] for a value that is out of its range.
    pub fn new(settings: Settings) -> Result<Self, SettingsError> {
        check_flows(settings.flows, settings.mix.kinds().count())?;
        check_percent(settings.ipv6_percent)?;
        check_percent(settings.vlan_percent)?;
        let mut traffic = Self {
            start_ns: settings.start_seconds.saturating_mul(1_000_000_000),
            slots: Vec::with_capacity(settings.flows),
            due: BinaryHeap::with_capacity(settings.flows),
            conversations: 0,
            emitted: 0,
            frame: Vec::new(),
            settings,
        };
        let kinds = traffic.settings.mix.split(traffic.settings.flows);
        let mut stagger = Rng::new(traffic.settings.seed, 0);
        for kind in kinds {
            let started = stagger.range(0, PACE_NS);
            let conversation = traffic.begin(kind, started);
            traffic.slots.push(Slot {
                kind,
                conversation,
                started,
                packets: 0,
                frame: Vec::new(),
            });
            traffic.advance(traffic.slots.len() - 1, started);
        }
        Ok(traffic)
    }

    /// Opens a conversation at `started` nanoseconds since the start.
    fn begin(&mut self, kind: Kind, started: u64) -> Box<dyn Conversation> {
        self.conversations += 1;
        let settings = &self.settings;
        let mut rng = Rng::new(settings.seed, self.conversations);
        let path = Path::new(
            self.conversations,
            settings.ipv6_percent,
            settings.vlan_percent,
            &mut rng,
        );
        match kind {
            Kind::Calls => Box::new(Call::new(path, self.start_ns + started, rng)),
            Kind::Dns => Box::new(Lookup::new(path, rng)),
            Kind::Tls => Box::new(tls::conversation(path, rng)),
            Kind::Http => Box::new(http::conversation(path, rng)),
            Kind::Mail => Box::new(mail::conversation(path, rng)),
            Kind::Bulk => Box::new(bulk::conversation(path, settings.size, rng)),
        }
    }

    /// Makes the next frame of `slot`, whose last one was due at `now`.
    fn advance(&mut self, index: usize, now: u64) {
        let slot = &mut self.slots[index];
        if let Some(time) = slot.conversation.next(&mut slot.frame) {
            slot.packets += 1;
            self.due.push(Reverse((slot.started + time, index)));
            return;
        }
        let started = (now + PACE_NS).max(slot.started + slot.packets * PACE_NS);
        let conversation = self.begin(self.slots[index].kind, started);
        let slot = &mut self.slots[index];
        slot.conversation = conversation;
        slot.started = started;
        slot.packets = 0;
        self.advance(index, started);
    }
}

impl Frames for Traffic {
    fn next_frame(&mut self) -> Option<Packet<'_>> {
        let Reverse((time, index)) = *self.due.peek()?;
        let ended = match self.settings.length {
            Length::Packets(packets) => self.emitted >= packets,
            Length::Seconds(seconds) => time >= seconds.saturating_mul(1_000_000_000),
        };
        if ended {
            return None;
        }
        self.due.pop();
        std::mem::swap(&mut self.frame, &mut self.slots[index].frame);
        self.advance(index, time);
        self.emitted += 1;
        Some(Packet {
            time_ns: self.start_ns + time,
            bytes: &self.frame,
        })
    }
}
