//! Where packets come from: one trait, and the sources behind it.
//!
//! A [`Source`] is owned by one capture thread. It hands out packets in batches through a callback, borrowed from its own buffer (the
//! kernel's ring, a file buffer, a generator's memory): nothing is copied or allocated per packet before the engine copies the bytes into
//! a ring.
//!
//! Guarantees: packets of one source are delivered in the order in which it saw them; timestamps, lengths and link types are those of the
//! capture; every packet that leaves a source went through its filter expression. Not guaranteed: an order between two sources.

mod defect;
mod interfaces;
mod schedule;

pub mod file;
pub mod live;

pub use defect::SourceError;
pub use interfaces::Interfaces;

use std::ops::ControlFlow;
use std::time::Duration;

use crate::bpf::{Expression, FilterError};

/// One captured packet, borrowed from its source for the time of the callback.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Number of the packet in its source, from 0 and growing; see [`Source::resume`].
    pub sequence: u64,
    /// Capture time: nanoseconds since 1970-01-01T00:00:00Z. A pcapng file can hold a time before that; it is then the two's complement
    /// of the signed value, as the wire's `int64 timestamp_ns` has it.
    pub timestamp_ns: u64,
    /// Length on the wire, in bytes; more than `data.len()` when the snap length cut the packet.
    pub original_length: u32,
    /// LINKTYPE_ of the file or DLT_ of the device, unchanged.
    pub link_type: u16,
    /// Index into the session's [`Interfaces`].
    pub interface: u16,
    /// The captured bytes, link-layer header first.
    pub data: &'a [u8],
}

/// What a call of [`Source::poll`] left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// The batch was filled, or more is likely to be there at once.
    More,
    /// Nothing is there at present. Publish what was delivered: the next call may block, for [`LONGEST_BLOCK`] at most.
    Dry,
    /// Nothing will ever come again.
    Finished,
}

/// The longest time for which a call of [`Source::poll`] blocks, so that a stop or a new filter is noticed soon.
pub const LONGEST_BLOCK: Duration = Duration::from_millis(200);

/// Takes one packet. `Break` ends the batch behind a packet that was **not** taken; the source delivers it again.
///
/// Only a consumer that waits for space may break, and only a [`FullRing::Wait`] source honours it: a live source cannot hold a packet back.
pub type Deliver<'d> = dyn FnMut(&Packet<'_>) -> ControlFlow<()> + 'd;

/// What to do with a packet when the worker's ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FullRing {
    /// Live: drop the packet and count it, capture never stops.
    Drop,
    /// Replay: wait for space, nothing is lost.
    Wait,
}

/// How far a source had come, as it was published last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Predecessor {
    /// What it numbered below this was taken.
    pub next: u64,
    /// Its [`Status::received`].
    pub received: u64,
    /// Its [`Status::dropped`].
    pub dropped: u64,
    /// Its [`Status::lost`].
    pub lost: u64,
}

/// What a source says of itself; read about once a second.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// State of the interface, or of the replay.
    pub state: State,
    /// A word about a state that is well, such as how it captures; mostly empty.
    pub note: String,
    /// Packets the kernel saw for this source behind its filter, the dropped ones included; for other sources the packets delivered.
    pub received: u64,
    /// Packets taken from a file or from the kernel that the filter expression, applied here, did not let through. Those of a file do not
    /// count as received.
    pub rejected: u64,
    /// Packets the kernel dropped because its buffer was full.
    pub dropped: u64,
    /// Packets in the kernel's buffer that nobody will take: they went with a socket.
    pub lost: u64,
    /// Packets that the interface or its driver had no room for. They were never received.
    pub interface_dropped: u64,
    /// How often the interface was lost and opened again.
    pub reopened: u64,
    /// Total time without capture between loss and reopening.
    pub lost_time: Duration,
}

/// State of a source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Capturing or reading.
    #[default]
    Up,
    /// The interface exists and is captured from, but is administratively down or has no carrier.
    Down,
    /// The interface was lost; opening it is tried again with back-off.
    Retrying {
        /// Why it was lost, or why the last try failed.
        reason: String,
    },
    /// Everything was delivered.
    Finished,
}

/// Something that yields packets.
pub trait Source: Send {
    /// Short name for logs and the status: the device, or the file in hand.
    fn name(&self) -> &str;

    /// Whether a full ring drops or waits.
    fn full_ring(&self) -> FullRing;

    /// Goes on where another source of the same kind stopped; true if nothing was missed in between. A file passes over what was taken; a
    /// live source reads on in the other's socket if there is one, and else numbers on. To be called before the first [`Source::poll`].
    fn resume(&mut self, from: &Predecessor) -> bool;

    /// Number of the next packet: all below were delivered, or were not let through by the filter.
    fn position(&self) -> u64;

    /// Delivers at most `max` packets, and blocks only if the previous call returned [`Poll::Dry`]. What earlier calls delivered, and what
    /// [`Source::status`] told, is in safety now: a source forgets it.
    ///
    /// # Errors
    /// The source goes on behind an error for which [`SourceError::is_data`] holds (a damaged file: the next call continues with the next
    /// one); any other error ends it.
    fn poll(&mut self, max: usize, deliver: &mut Deliver<'_>) -> Result<Poll, SourceError>;

    /// Puts `expression` in force from here on, without reopening anything. Packets that were already accepted under the previous
    /// expression may still be delivered.
    ///
    /// # Errors
    /// The expression does not compile for this source's link type; the previous one stays in force.
    fn set_filter(&mut self, expression: &Expression) -> Result<(), FilterError>;

    /// Counters and state, as of now.
    fn status(&mut self) -> Status;

    /// Stops taking packets in. What was already taken is still delivered by later calls of [`Source::poll`], which then end with
    /// [`Poll::Finished`].
    fn stop(&mut self);

    /// Leaves everything as it is for a successor in another process, which goes on behind what was delivered; false if none could, so
    /// that the source should be stopped instead. What is there may still be taken.
    fn leave(&mut self) -> bool;
}
