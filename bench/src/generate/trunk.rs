//! A trunk full of calls: all of them at the same time, one phase of their lives after the other, so that each phase can be measured alone.
//!
//! The calls are those of [`super::calls`], over IPv4. Media come in rounds of 20 ms of packet time, in which each call that speaks sends one packet each way; once in
//! five seconds of its media a call sends a report each way. To be made faster than they are handled, media packets have their headers made once, which then count on,
//! all have the same audio, and their UDP checksum is left out, as RFC 768 allows.

use super::Packet;
use super::calls::{Call, Step};
use super::dialogue::Conversation;
use super::path::{Path, Side};
use super::rng::Rng;
use super::traffic::{SettingsError, check_flows, check_percent};

const SECOND_NS: u64 = 1_000_000_000;
/// Calls that are set up side by side.
const GROUP: u64 = 500;
/// Packet time that the set-up or the end of such a group takes.
const GROUP_NS: u64 = SECOND_NS / 2;
/// Between two calls of a group.
const GAP_NS: u64 = 10_000;
const ROUND_NS: u64 = SECOND_NS / 50;
/// Rounds between two reports of a call.
const REPORT_EVERY: u64 = 250;
/// Messages of a call before its media.
const SETUP: u64 = 5;
/// Messages of a call after its media.
const END: u64 = 2;
/// Where UDP's checksum, and RTP's sequence number and timestamp stand in a frame of media.
const CHECKSUM: usize = 40;
const SEQUENCE: usize = 44;
const TIMESTAMP: usize = 46;
/// Bytes of the headers of a frame of media.
const HEADERS: usize = 54;
/// Samples of a packet.
const SAMPLES: u32 = 160;

/// What a [`Trunk`] shall look like. Equal settings give equal bytes.
#[derive(Debug, Clone, Copy)]
pub struct TrunkSettings {
    /// Where all randomness comes from.
    pub seed: u64,
    /// Calls.
    pub calls: u64,
    /// Percentage of them that [`TrunkSettings::wanted`] names.
    pub wanted_percent: u8,
    /// Rounds of media in each phase that has media.
    pub rounds: u64,
    /// Capture time of the first packet, in seconds since the Unix epoch.
    pub start_seconds: u64,
}

/// What the calls do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// INVITE to ACK of all calls.
    SetUp,
    /// Media of the calls that are not wanted.
    UnwantedMedia,
    /// Media of those that are.
    WantedMedia,
    /// Media of all.
    Media,
    /// BYE and its answer, of all.
    End,
}

impl Phase {
    /// All, in order.
    pub const ALL: [Self; 5] = [
        Self::SetUp,
        Self::UnwantedMedia,
        Self::WantedMedia,
        Self::Media,
        Self::End,
    ];
}

impl TrunkSettings {
    /// Whether a call is wanted: evenly spread.
    #[must_use]
    pub fn is_wanted(&self, call: u64) -> bool {
        let percent = u64::from(self.wanted_percent);
        call * percent / 100 != (call + 1) * percent / 100
    }

    /// The user part of the caller's URI.
    #[must_use]
    pub fn caller(call: u64) -> String {
        format!("+4930{call:08}")
    }

    /// The callers of the calls that are wanted.
    pub fn wanted(&self) -> impl Iterator<Item = String> {
        let calls = (0..self.calls).filter(|call| self.is_wanted(*call));
        calls.map(Self::caller)
    }

    /// Packets of a phase, and those of them that belong to wanted calls.
    #[must_use]
    pub fn packets(&self, phase: Phase) -> [u64; 2] {
        let mut packets = [0; 2];
        for call in 0..self.calls {
            let count = match phase {
                Phase::SetUp => SETUP,
                Phase::End => END,
                _ if !self.speaks(call, phase) => 0,
                _ => {
                    let first = self.heard_before(call, phase);
                    let reports = (first..first + self.rounds)
                        .filter(|round| reports(call, *round))
                        .count() as u64;
                    2 * (self.rounds + reports)
                }
            };
            packets[0] += count;
            packets[1] += count * u64::from(self.is_wanted(call));
        }
        packets
    }

    fn speaks(&self, call: u64, phase: Phase) -> bool {
        match phase {
            Phase::SetUp | Phase::End => false,
            Phase::UnwantedMedia => !self.is_wanted(call),
            Phase::WantedMedia => self.is_wanted(call),
            Phase::Media => true,
        }
    }

    /// Rounds in which a call has spoken before a phase.
    fn heard_before(&self, call: u64, phase: Phase) -> u64 {
        let before = Phase::ALL.iter().take_while(|earlier| **earlier != phase);
        let spoken = before.filter(|earlier| self.speaks(call, **earlier));
        spoken.count() as u64 * self.rounds
    }

    fn groups(&self) -> u64 {
        self.calls.div_ceil(GROUP)
    }
}

/// Whether a call sends reports in a round of its media.
fn reports(call: u64, round: u64) -> bool {
    (call + round) % REPORT_EVERY == REPORT_EVERY - 1
}

/// Very many calls at the same time; see the module.
pub struct Trunk {
    settings: TrunkSettings,
    /// The phase at hand, by its place in [`Phase::ALL`].
    phase: usize,
    /// Headers of the next media packet of all calls, client's and server's.
    media: Vec<[u8; HEADERS]>,
    /// A frame of media, whose headers are replaced.
    audio: Vec<u8>,
    /// Which calls are wanted.
    wanted: Vec<bool>,
    /// Rounds in which calls that are not wanted, and such as are, have spoken before the phase at hand, if they speak in it.
    heard: [Option<u64>; 2],
    /// Calls that are being set up.
    group: Vec<Call>,
    /// Where the phase stands: round, call, and which of its packets comes next.
    round: u64,
    call: u64,
    part: u64,
    time_ns: u64,
    /// Packet time between two packets of media.
    pace_ns: u64,
    /// Whether the packet at hand is `audio`, and not `frame`.
    is_audio: bool,
    frame: Vec<u8>,
}

impl Trunk {
    /// Calls as `settings` describe them, before they begin.
    ///
    /// # Errors
    ///
    /// A [`SettingsError`] for a value that is out of its range.
    pub fn new(settings: TrunkSettings) -> Result<Self, SettingsError> {
        check_flows(settings.calls as usize, 1)?;
        check_percent(settings.wanted_percent)?;
        let mut trunk = Self {
            settings,
            phase: 0,
            media: Vec::new(),
            audio: Vec::new(),
            wanted: (0..settings.calls)
                .map(|call| settings.is_wanted(call))
                .collect(),
            heard: [None; 2],
            group: Vec::new(),
            round: 0,
            call: 0,
            part: 0,
            time_ns: 0,
            pace_ns: ROUND_NS / (4 * settings.calls),
            is_audio: false,
            frame: Vec::new(),
        };
        for number in 0..settings.calls {
            let mut call = trunk.make(number);
            for side in [Side::Client, Side::Server] {
                call.write(Step::Rtp(side, 0), 0, &mut trunk.frame);
                trunk.frame[CHECKSUM..CHECKSUM + 2].fill(0);
                trunk.media.extend(trunk.frame.first_chunk::<HEADERS>());
            }
        }
        trunk.audio = std::mem::take(&mut trunk.frame);
        Ok(trunk)
    }

    /// The phase at hand.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::ALL[self.phase]
    }

    /// Goes on to the next phase. False behind the last.
    pub fn next_phase(&mut self) -> bool {
        (self.round, self.call, self.part) = (0, 0, 0);
        let goes_on = self.phase + 1 < Phase::ALL.len();
        self.phase += usize::from(goes_on);
        let spoken = [Phase::UnwantedMedia, Phase::WantedMedia].map(|own| {
            let phases = Phase::ALL[..self.phase].iter();
            let spoken = phases.filter(|phase| [own, Phase::Media].contains(phase));
            let speaks = [own, Phase::Media].contains(&self.phase());
            speaks.then(|| spoken.count() as u64 * self.settings.rounds)
        });
        self.heard = spoken;
        goes_on
    }

    /// Makes the next packet of the phase at hand. False at its end.
    pub fn advance(&mut self) -> bool {
        self.is_audio = false;
        match self.phase() {
            Phase::SetUp => self.advance_setup(),
            Phase::End => self.advance_end(),
            _ => self.advance_media(),
        }
    }

    /// The packet that [`Trunk::advance`] made.
    #[must_use]
    pub fn packet(&self) -> Packet<'_> {
        Packet {
            time_ns: self.time_ns,
            bytes: match self.is_audio {
                true => &self.audio,
                false => &self.frame,
            },
        }
    }

    fn make(&self, number: u64) -> Call {
        let mut rng = Rng::new(self.settings.seed, number + 1);
        let path = Path::new(number, 0, 0, &mut rng);
        let start_ns = self.start_ns() + number / GROUP * GROUP_NS;
        Call::of(Some(TrunkSettings::caller(number)), path, start_ns, rng)
    }

    fn start_ns(&self) -> u64 {
        self.settings.start_seconds * SECOND_NS
    }

    /// Message by message, of all calls of a group.
    fn advance_setup(&mut self) -> bool {
        let first = self.round * GROUP;
        if first >= self.settings.calls {
            return false;
        }
        if self.group.is_empty() {
            let last = self.settings.calls.min(first + GROUP);
            self.group = (first..last).map(|number| self.make(number)).collect();
        }
        let call = &mut self.group[self.call as usize];
        let offset = call.next(&mut self.frame).unwrap_or_default();
        self.time_ns = self.start_ns() + self.round * GROUP_NS + offset + self.call * GAP_NS;
        self.call += 1;
        if self.call == self.group.len() as u64 {
            (self.call, self.part) = (0, self.part + 1);
        }
        if self.part == SETUP {
            (self.part, self.round) = (0, self.round + 1);
            self.group.clear();
        }
        true
    }

    fn advance_media(&mut self) -> bool {
        let heard = loop {
            if self.round == self.settings.rounds {
                return false;
            }
            match self.wanted.get(self.call as usize) {
                Some(is_wanted) => match self.heard[usize::from(*is_wanted)] {
                    Some(heard) => break heard + self.round,
                    None => self.call += 1,
                },
                None => (self.call, self.round) = (0, self.round + 1),
            }
        };
        // Phases with media follow each other, behind the set-up.
        let round = (self.phase as u64 - 1) * self.settings.rounds + self.round;
        let since = self.settings.groups() * GROUP_NS + round * ROUND_NS;
        let within = (4 * self.call + self.part) * self.pace_ns;
        self.time_ns = self.start_ns() + since + within;
        match self.part {
            0 | 1 => self.count_on(),
            part => {
                let side = [Side::Client, Side::Server][part as usize - 2];
                let mut call = self.make(self.call);
                let time = self.time_ns - self.start_ns();
                call.write(Step::Report(side, heard + 1), time, &mut self.frame);
            }
        }
        self.part += 1;
        if self.part == 4 || self.part == 2 && !reports(self.call, heard) {
            (self.call, self.part) = (self.call + 1, 0);
        }
        true
    }

    /// Takes the next media packet of the call at hand, and makes the one that comes after it.
    fn count_on(&mut self) {
        let frame = &mut self.media[(2 * self.call + self.part) as usize];
        self.is_audio = true;
        self.audio[..HEADERS].copy_from_slice(frame);
        let sequence = u16::from_be_bytes([frame[SEQUENCE], frame[SEQUENCE + 1]]).wrapping_add(1);
        frame[SEQUENCE..TIMESTAMP].copy_from_slice(&sequence.to_be_bytes());
        let timestamp = &mut frame[TIMESTAMP..TIMESTAMP + 4];
        if let Ok(bytes) = <[u8; 4]>::try_from(&*timestamp) {
            let next = u32::from_be_bytes(bytes).wrapping_add(SAMPLES);
            timestamp.copy_from_slice(&next.to_be_bytes());
        }
    }

    fn advance_end(&mut self) -> bool {
        if self.call == self.settings.calls {
            return false;
        }
        let mut call = self.make(self.call);
        let steps = call.farewell();
        let before = self.settings.groups() * GROUP_NS + 3 * self.settings.rounds * ROUND_NS;
        let own = (END * self.call + self.part) * GROUP_NS / (END * GROUP);
        self.time_ns = self.start_ns() + before + own;
        if let Some(step) = steps.into_iter().nth(self.part as usize) {
            call.write(step, 0, &mut self.frame);
        }
        self.part += 1;
        if self.part == END {
            (self.call, self.part) = (self.call + 1, 0);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_the_packets_that_were_told() {
        let settings = TrunkSettings {
            seed: 1,
            calls: 1_003,
            wanted_percent: 10,
            rounds: 7,
            start_seconds: 1_767_225_600,
        };
        let mut trunk = Trunk::new(settings).unwrap();
        let mut latest = 0;
        loop {
            let mut packets = 0;
            while trunk.advance() {
                packets += 1;
                let packet = trunk.packet();
                assert!(packet.time_ns >= latest);
                latest = packet.time_ns;
            }
            assert_eq!(packets, settings.packets(trunk.phase())[0]);
            if !trunk.next_phase() {
                break;
            }
        }
        assert_eq!(settings.wanted().count(), 100);
        assert_eq!(settings.packets(Phase::SetUp), [5 * 1_003, 500]);
    }
}
