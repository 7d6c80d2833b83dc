//! The flow table: what a worker remembers of each flow, for as long as the flow lives and memory allows.
//!
//! ```text
//!   bucket: | 8 tags | 8 deadlines | 8 lives |   one cache line: what look-ups, evictions and the hand read
//!           | key, memory | ... 8 times      |   one or two lines an entry
//! ```
//!
//! **Keys.** Addresses (IPv4 or IPv6), ports, transport and [`Zone`], in an order of their own, so that both directions of a flow have one key. A flow has one memory, and
//! each packet is told which way it goes. Packets without a transport header have no flow: see [`FlowTable::probe`].
//!
//! **Buckets.** A hash names two buckets, of eight flows each; a flow is in one of them. It goes into the first while that has room to spare, else into the emptier one. So a
//! look-up reads two buckets at most, whatever the table holds and whoever filled it. Up to 70 % full, nothing is evicted; at 90 %, one flow in a hundred. Nothing
//! ever moves, is chained, or grows.
//!
//! **Bounds.** The table has the bytes that it was made with, all touched at the start: neither allocation nor page fault follows. A flow takes
//! 48 bytes and its memory (80 with 32 bytes of memory), so that 128 MiB have place for 1.6 million.
//!
//! **The end of flows.** Each packet sets a deadline for the next, by transport and by how far the flow has come ([`Timeouts`]). It is exact: a flow that was silent
//! for longer is not found, and the next packet begins a new one. Its place is taken by the next flow that belongs there, or freed by the *hand*, which goes round all
//! buckets in about nine seconds of packet time, a few in each batch and 64 at most. The hand does what a timer wheel would do, but needs no links in the entries, nothing at the
//! beginning of a flow and nothing per packet, and a leap in time cannot pile up work for it. It reads one line in ten of the table, one bucket after the other.
//!
//! **Eviction.** Of two full buckets, the flow with the nearest deadline gives way. Since flows that nobody answers have short deadlines, a flood
//! displaces itself before it displaces conversations; among equals, the one that has been silent for longest goes. All ends are counted by
//! their reason ([`Counts`]).
//!
//! **Hostile senders.** The hash is universal and keyed by a [`Seed`] that never leaves the process: a sender who does not know it cannot choose
//! flows that meet in a bucket. One who did would displace sixteen places, and cost no more time than anybody else. A forged RST or SYN cannot wipe out what is known of a flow: the
//! first shortens its deadline until the next packet, the second counts only when both sides have ended the flow.
//!
//! **Time** is that of the packets, and may do anything: the table's clock goes forward only, by what it believes of their progress. Files years apart, clocks
//! that are set, and interfaces that disagree neither end all flows nor keep them for ever; see the source of `clock.rs`. Without packets no time passes, and what is
//! silent stays: nothing needs its place.
//!
//! **What is not promised.** A flow may be forgotten at any time, and then begins anew with its next packet. A flow that is first seen in its middle has its first *seen* sender as
//! initiator. A flow whose ports are used again after an end that was not seen goes on. Nobody is told when a flow ends.
//!
//! # Batches
//!
//! A table of a million flows is larger than any cache, and a look-up that waits for memory takes the time of several hundred instructions. So packets are looked up
//! in three steps: make the probes of a batch, which needs no memory; [`FlowTable::prepare`], which has the lines of all of them fetched at
//! the same time; look up.
//!
//! ```
//! use lc_workerd::decode::{Addr, Decoded, Transport};
//! use lc_workerd::flows::{Direction, FlowTable, Seed, Signal, Timeouts, Zone};
//!
//! /// What is remembered of a flow: up to 32 bytes or so.
//! #[derive(Clone, Copy, Default)]
//! struct Memory {
//!     packets: u32,
//! }
//!
//! let mut flows = FlowTable::<Memory>::new(1 << 20, Seed::random(), &Timeouts::default())?;
//! let request = Decoded {
//!     addresses: Some((Addr::V4(0x0a00_0001), Addr::V4(0x0a00_0002))),
//!     ports: Some((40_000, 53)),
//!     transport: Some(Transport::Udp),
//!     ..Decoded::default()
//! };
//! let response = Decoded {
//!     addresses: Some((Addr::V4(0x0a00_0002), Addr::V4(0x0a00_0001))),
//!     ports: Some((53, 40_000)),
//!     ..request
//! };
//!
//! let mut probes = Vec::with_capacity(64); // kept from batch to batch
//! probes.extend([request, response].iter().filter_map(|packet| flows.probe(packet, Zone::NONE)));
//! flows.prepare(&probes);
//! let time_ns = 1_767_225_600_000_000_000;
//! for probe in &probes {
//!     let flow = flows.observe(probe, time_ns, Signal::None);
//!     assert_eq!(flow.is_new, flow.direction == Direction::Request);
//!     flow.memory.packets += 1;
//! }
//! assert_eq!(flows.find(&probes[0]).map(|memory| memory.packets), Some(2));
//! # Ok::<(), lc_workerd::flows::NoMemory>(())
//! ```
//!
//! Once per batch [`FlowTable::report`] adds what happened to the worker's counters. The table dies with its worker: a successor
//! begins with an empty one and counts what is lost ([`Counts::succeed`]).

pub(crate) mod clock;
mod key;
mod life;
mod table;

pub use key::{Probe, Seed, Zone};
pub use life::{Direction, Signal, Timeouts};
pub use table::{Counts, Flow, FlowTable, NoMemory};

#[cfg(test)]
mod tests;
