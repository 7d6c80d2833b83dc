//! TCP reassembly: from the segments of a connection to its two byte streams, for parsers of any protocol.
//!
//! ```text
//!   segment -> Streams -> connection -> direction --in order--------------------> consumer: Data, Gap, End
//!                                           |                                        ^
//!                                           +--out of order--> pieces (bounded) -----+ when the gap is filled or given up
//!                                           +--token---------> ledger: which packets carry which bytes
//! ```
//!
//! [`Streams`] holds the connections. The caller stores a [`ConnectionId`], four bytes, in its memory of the flow, and gives each [`Segment`] with it. Its
//! [`Consumer`] is told of the bytes of each direction: each byte once, in order, with its offset in the stream, and of what is missing. Bytes that come in
//! order are given as they lie in the packet: nothing is copied, and nothing allocated.
//!
//! **One copy of each byte: the first.** Whatever comes again is passed over, whether the first copy was delivered or waits, and whether it is the same or not. Where a later copy of waiting bytes
//! differs, that is counted ([`Counts::conflicts`]); delivered bytes are not kept to compare with. Receivers differ in this (RFC 9293 leaves it open), so a sender that
//! contradicts itself may be understood otherwise by its peer. A SYN's payload is taken at once, though its receiver may wait for the handshake.
//!
//! **Loss.** Bytes that are missing are waited for: for [`Limits::retransmission`] while their receiver has not acknowledged them; only for [`Limits::reordering`] once it has, since then it was capture
//! that lost them; for [`Limits::blind`] if it is not captured; and not at all when the room for what waits behind them is used up. Then the consumer is told of a [`Event::Gap`], and the stream goes on behind it.
//! A stream whose SYN was not seen begins with a gap of unknown length. It begins at once where an acknowledgement or an empty segment has told the place; else it is seen for
//! [`Limits::reordering`], or until the other side answers what has come, whether earlier bytes come late, 64 KiB before the first ones at most.
//!
//! **Crafted segments.** A segment counts if it begins not further ahead of what is expected, or was acknowledged, than the largest window that its receiver has announced (256 KiB at least, 1 MiB if it is not
//! captured, and shifted by 8 where the handshake was not seen), and not more than 16 MiB behind. Others are refused and counted, unless four follow each other while none comes where it should: then the stream has gone
//! on there, behind a gap of unknown length. A RST counts if its sequence number is exactly what its receiver expects (RFC 5961), as far as that can be seen; a RST within reach
//! shortens the time-out. If its sender goes on behind a RST, that was forged: the connection is taken up again. A SYN with another initial sequence number begins a new connection if the old one was closing, or when the other side answers it, or when data follow it and the other side is not captured. **TCP
//! checksums are not checked**: a capture on the sending host has them before the card fills them in. So a damaged segment that its receiver drops is taken for good.
//!
//! **The end.** A direction ends with its FIN when everything before has come or was given up; both with a RST, when the ports are used again ([`End::Reused`]), and when the connection is silent for too long ([`Limits::silence`]) or has to give
//! way. Bytes behind the end are refused. Time is that of packets, as the [flow table](crate::flows) sees it. [`Streams::segment`] keeps to time-outs exactly, so that what comes of a connection depends on its packets alone;
//! [`Streams::advance`], once per batch, sees to connections that have no packets.
//!
//! **Bounds.** All memory is reserved by [`Streams::new`] and touched when it is first used: places for connections, 2 KiB pages for bytes out of order, and
//! ledger entries ([`Limits`]); each direction may take a part of them. If there is no place left, a connection gives way: one that is over or half-open, else a
//! one-sided one, the oldest first; else of eight the one that has been silent for longest. If there is no page left,
//! whoever has waited for longest gives up a gap, so that its bytes are delivered and not lost. A segment costs at most a walk over its own direction's pieces.
//! Only the consumer's [`Consumer::State`] may allocate, and has to bound itself.
//!
//! **Held packets.** A caller that forwards packets only when the message that they carry was judged gives a token with each segment. The [`Ledger`] of each direction then tells
//! which tokens carry which bytes, in capture order. [`Outcome`] says of each segment what range it carries, whether any of it was new, and whether its token was noted: it is not if
//! it has no payload, if it only repeats what the caller has asked to forget, or if there is no room ([`Counts::unnoted`]); such a packet has to be judged by itself.
//!
//! **What is not promised.** A connection may be forgotten at any time for lack of room; it then goes on as one that is picked up in its middle. Urgent data is
//! taken as part of the stream. An id that went stale 4095 connections of the same place ago is taken for a fresh one; its segments are then out of reach, most likely.
//!
//! # The flow table
//!
//! Flows are forgotten without a word, and their connections are then silent and time out. A caller that is told of the end of a flow can
//! [`close`](Streams::close) its connection at once.
//!
//! # Example
//!
//! ```
//! use lc_workerd::flows::Direction;
//! use lc_workerd::reassembly::{Consumer, Event, Interest, Limits, Segment, Stream, Streams};
//!
//! /// Finds lines, and the packets that carry them.
//! #[derive(Default)]
//! struct Lines {
//!     found: Vec<(Vec<u8>, Vec<u64>)>,
//! }
//!
//! impl Consumer for Lines {
//!     /// The line that has begun, of each direction; a real one has a bound.
//!     type State = [Vec<u8>; 2];
//!
//!     fn take(&mut self, mut stream: Stream<'_, Self::State>, event: Event<'_>) -> Interest {
//!         let line = &mut stream.state[stream.direction as usize];
//!         match event {
//!             Event::Data { bytes: [0x16, ..], offset: 0 } => return Interest::IgnoreConnection, // TLS
//!             Event::Data { bytes, offset } => {
//!                 for (at, byte) in (offset..).zip(bytes) {
//!                     line.push(*byte);
//!                     if *byte == b'\n' {
//!                         let start = at + 1 - line.len() as u64;
//!                         let carriers = stream.ledger.carriers(start..at + 1).collect();
//!                         self.found.push((std::mem::take(line), carriers));
//!                         stream.ledger.forget(at + 1, |packet| println!("{packet} may go"));
//!                     }
//!                 }
//!             }
//!             Event::Gap { .. } | Event::End { .. } => line.clear(),
//!         }
//!         Interest::Follow
//!     }
//! }
//!
//! let mut streams = Streams::new(&Limits::default())?;
//! let mut lines = Lines::default();
//! let mut connection = None; // in the flow's memory
//! let segment = |token, seq, flags, payload| Segment {
//!     direction: Direction::Request,
//!     seq,
//!     ack: 0,
//!     flags,
//!     window: 512,
//!     scale: Some(7),
//!     payload,
//!     time_ns: 1_767_225_600_000_000_000 + token,
//!     token: Some(token),
//! };
//! for segment in [
//!     segment(0, 999, 0x02, &b""[..]),
//!     segment(1, 1000, 0x10, b"OPTIONS sip:a"),
//!     segment(2, 1029, 0x10, b"\nVia"), // too early
//!     segment(3, 1013, 0x10, b"@b.example SIP/2"),
//! ] {
//!     streams.segment(&mut connection, &segment, &mut lines);
//! }
//! streams.advance(&mut lines); // once per batch
//! let (line, carriers) = &lines.found[0];
//! assert_eq!(line, b"OPTIONS sip:a@b.example SIP/2\n");
//! assert_eq!(carriers, &[1, 2, 3]);
//! # Ok::<(), lc_workerd::reassembly::NoMemory>(())
//! ```

mod counts;
mod event;
mod half;
mod ledger;
mod limits;
mod lists;
mod pieces;
mod segment;
mod share;
mod streams;

pub use counts::Counts;
pub use event::{Consumer, End, Event, Interest, Stream};
pub use ledger::Ledger;
pub use limits::Limits;
pub use segment::{Fate, Outcome, Refusal, Segment};
pub use share::Share;
pub use streams::{ConnectionId, NoMemory, Spot, Streams};

#[cfg(test)]
mod tests;
