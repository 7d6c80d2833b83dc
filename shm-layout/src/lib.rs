//! The shared-memory ABI of lc-hunt.
//!
//! capd, the workers and the forwarder share nothing but the regions defined here. Each region has
//! one writing process; everybody else maps it read-only and believes nothing that it reads there.
//!
//! | module | what it holds |
//! |---|---|
//! | [`layout`] | header, kinds and limits of regions |
//! | [`region`] | making, checking and mapping them |
//! | [`ring`] | the single-producer, single-consumer byte ring, and waiting for it |
//! | [`log`] | the append log of one writer and many readers, which its writer's successor goes on with |
//! | [`packet`], [`wire`] | what rx and tx rings carry |
//! | [`frames`] | memory that packets stay in when they are not copied |
//! | [`session`], [`worker`], [`forwarder`] | state and counters of each process |
//! | [`shares`] | which workers have lost their share of the load |
//! | [`counters`] | the table of all counters |
//! | [`filters`] | immutable filter snapshots |
//! | [`commit`] | many words published as one: counters and the redo log of a process |
//! | [`extent`] | which packets a batch holds |
//! | [`peer`] | whether the process behind a region lives |
//! | [`prefetch`] | a hint to the processor, for tables that are larger than its caches |
//!
//! All `unsafe` code of the inter-process communication is in this crate; each block says why it is
//! sound whatever the peer writes.

pub mod commit;
pub mod counters;
pub mod extent;
pub mod filters;
pub mod forwarder;
pub mod frames;
pub mod inherited;
pub mod layout;
pub mod log;
pub mod packet;
pub mod peer;
pub mod prefetch;
pub mod protection;
pub mod region;
pub mod ring;
pub mod session;
pub mod shared_bytes;
pub mod shares;
pub mod wire;
pub mod worker;

mod clock;
mod sync;
mod text;
mod wait;

pub use clock::monotonic_ns;
