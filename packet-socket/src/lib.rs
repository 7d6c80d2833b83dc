//! `AF_PACKET` sockets with a `TPACKET_V3` ring that outlives its reader.
//!
//! The kernel copies packets into blocks of a ring that it shares with the reader. Socket and ring live as long as any process holds the
//! descriptor: when the reader dies and somebody (a service manager's descriptor store) keeps it, the kernel goes on filling, and another
//! process maps the ring again and goes on reading.
//!
//! ```text
//! ring:   | block 0 | block 1 | ... |          the kernel fills one after the other and hands each over when it is full or old
//! block:  | kernel's header | private area | packet | packet | ... |
//! ```
//!
//! The kernel leaves a private area in each block to the reader. It holds what a successor needs, and lives exactly as long as the ring:
//!
//! - for each block that was begun, the number of its first packet in the reader's own count. With the number up to which the reader has
//!   put packets in safety, which the reader keeps elsewhere, that is the place to go on: to the packet, none twice and none left out;
//! - who made the ring, and for what;
//! - the last readings of the kernel's counters. Reading sets them to zero, so a reader that died with a reading in its hands would have
//!   lost it: the kernel writes them straight into the private area.
//!
//! Guarantees: a block goes back to the kernel only by [`Ring::release`], so never before the reader has put its packets in safety. Sizes
//! and offsets in a block are checked before they are used; a block that contradicts itself is an error, never an access outside of it.
//! Not guaranteed: that the kernel's word on which block is whose is checked; a socket from a stranger can be refused by
//! [`Ring::identity`], but the kernel that stands behind it is trusted.
//!
//! | module | what it does |
//! |---|---|
//! | [`socket`] | makes the socket, binds it, sets its filter |
//! | [`ring`] | reads the ring |
//! | [`block`] | what the bytes of a block mean |
//! | [`link`] | link types, VLAN tags and cooked headers |
//!
//! Beside `shm-layout` and `mapped-file` the only crate with `unsafe`: the ring is a mapping that the kernel writes.

pub mod block;
pub mod link;
pub mod ring;
pub mod socket;

mod private;

pub use ring::{Identity, Mismatch, Packet, Place, Ring};
pub use socket::{Address, Geometry, PacketSocket, Target};
