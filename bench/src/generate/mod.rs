//! Deterministic traffic: the same settings give the same bytes, on any machine.
//!
//! Three kinds of traffic come out of this module, both as frames with a capture time:
//!
//! - [`Traffic`]: conversations as a tap would see them (calls, DNS, TLS, HTTP, mail, bulk
//!   transfers), many at a time, interleaved by time, with right lengths, checksums, sequence
//!   numbers and RTP clocks;
//! - [`Flood`]: frames of one size spread over many flows, cheap to make for a million flows,
//!   for throughput measurements;
//! - [`Trunk`]: calls that all run at the same time, one phase of their lives after the other.
//!
//! A frame goes to a pcap file ([`write_pcap`]) or into memory ([`Memory`]), from where the
//! capture daemon can be fed at full speed.
//!
//! What is left out on purpose: loss, reordering and retransmission, fragments and tunnels. The
//! captures of the conformance tests have those.

mod bulk;
mod calls;
mod dialogue;
mod dns;
mod flood;
mod frame;
mod http;
mod mail;
mod memory;
mod mix;
mod path;
mod pcap;
mod rng;
mod tls;
mod traffic;
mod trunk;

pub use flood::{Flood, FloodSettings, Order};
pub use memory::Memory;
pub use mix::{Kind, Mix, MixError};
pub use pcap::{PcapError, write_pcap};
pub use traffic::{FrameSize, Length, Settings, SettingsError, Traffic};
pub use trunk::{Phase, Trunk, TrunkSettings};

/// One frame as a capture would record it: complete Ethernet frame without its check sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Capture time in nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The frame, from the destination address on.
    pub bytes: &'a [u8],
}

/// Something that yields frames one after the other, in order of time.
pub trait Frames {
    /// The next frame, valid until the next call; `None` at the end.
    fn next_frame(&mut self) -> Option<Packet<'_>>;
}
