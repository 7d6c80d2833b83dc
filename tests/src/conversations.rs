//! Captures of many conversations at the same time, of which it is known what packet belongs to which.

use std::net::Ipv4Addr;

use crate::capture::Packet;
use crate::ipv4::{End, RAW_IP};

const MILLISECOND: i64 = 1_000_000;
/// Capture time of the first packet.
const START_NS: i64 = 1_767_225_600_000_000_000;
/// Between the beginnings of two conversations.
const APART_NS: i64 = 3 * MILLISECOND;
/// Between two packets of a conversation.
const EVERY_NS: i64 = 7 * MILLISECOND;

/// The client of the conversation `number`, below 40,000: none has another's address or port.
pub fn client(number: usize) -> End {
    (
        Ipv4Addr::from(0x0a00_0000 + number as u32),
        20_000 + number as u16,
    )
}

/// Packets without a link layer, in the order of their times.
#[derive(Debug, Default)]
pub struct Conversations {
    /// All of them.
    pub packets: Vec<Packet>,
    /// The number of the conversation that each belongs to.
    pub owners: Vec<usize>,
}

impl Conversations {
    /// These conversations, each given by its packets: each begins a little later than the one before, and they go on together.
    pub fn at_once(all: impl IntoIterator<Item = Vec<Vec<u8>>>) -> Self {
        let mut timed = Vec::new();
        for (number, packets) in all.into_iter().enumerate() {
            let times = (number as i64 * APART_NS..).step_by(EVERY_NS as usize);
            timed.extend(
                times
                    .zip(packets)
                    .map(|(after, packet)| (after, number, packet)),
            );
        }
        timed.sort();
        let mut made = Self::default();
        for (after, owner, bytes) in timed {
            made.packets
                .push(Packet::whole(RAW_IP, START_NS + after, bytes));
            made.owners.push(owner);
        }
        made
    }

    /// The packets of some of them.
    pub fn packets_of(&self, is_wanted: impl Fn(usize) -> bool) -> Vec<Packet> {
        let all = self.packets.iter().zip(&self.owners);
        let wanted = all.filter(|(_, owner)| is_wanted(**owner));
        wanted.map(|(packet, _)| packet.clone()).collect()
    }
}
