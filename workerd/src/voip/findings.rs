//! What packets turned out to carry, where that is more, or less, than one message each: segments of TCP, packets of SCTP.

use shm_layout::packet::PacketHeader;

use super::calls::CallRef;
use crate::decode::{Addr, Decoded, Transport};

/// The packet at hand, which lies nowhere yet.
pub const HAND: u64 = u64::MAX;
/// A packet that could not be kept.
pub const GONE: u64 = u64::MAX - 1;
/// Most calls that a packet is of. What it says of others is told without its bytes.
const MOST_CALLS: usize = 64;
/// Buffers that are kept.
const MOST_BUFFERS: usize = 64;

/// Where messages come from, for what is told of them without their packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Source and destination.
    pub addresses: Option<(Addr, Addr)>,
    /// Those of the outermost header, in a tunnel.
    pub outer: Option<(Addr, Addr)>,
    /// Their ports.
    pub ports: Option<(u16, u16)>,
    /// What carries them.
    pub transport: Option<Transport>,
    /// The interface.
    pub interface: u16,
    /// Its link type.
    pub link_type: u16,
}

impl Origin {
    /// That of a packet.
    #[must_use]
    pub fn of(decoded: &Decoded, header: &PacketHeader) -> Self {
        Self {
            addresses: decoded.addresses,
            outer: decoded.outer,
            ports: decoded.ports,
            transport: decoded.transport,
            interface: header.interface,
            link_type: header.link_type,
        }
    }

    /// That of the other direction.
    #[must_use]
    pub fn turned(self) -> Self {
        let turn = |(source, destination)| (destination, source);
        Self {
            addresses: self.addresses.map(turn),
            outer: self.outer.map(turn),
            ports: self
                .ports
                .map(|(source, destination)| (destination, source)),
            ..self
        }
    }

    /// As far as that is known, the headers of its packets.
    #[must_use]
    pub fn decoded(&self) -> Decoded {
        Decoded {
            addresses: self.addresses,
            outer: self.outer,
            ports: self.ports,
            transport: self.transport,
            ..Decoded::default()
        }
    }
}

/// A message, to be told once.
#[derive(Debug)]
pub struct Message {
    /// Its call.
    pub call: CallRef,
    /// What is told of it, encoded.
    pub block: Vec<u8>,
    /// When the packet was captured that ended it, in nanoseconds.
    pub time_ns: u64,
}

/// A packet whose messages are known.
#[derive(Debug)]
pub struct Carrier {
    /// What the caller calls it.
    pub token: u64,
    /// Where it comes from.
    pub origin: Origin,
    /// Ends of its part in the lists of [`Findings`].
    calls: usize,
    messages: usize,
}

/// Packets whose messages are known, in the order in which that became so; lists that are used again and again.
#[derive(Debug, Default)]
pub struct Findings {
    carriers: Vec<Carrier>,
    calls: Vec<CallRef>,
    messages: Vec<Message>,
    buffers: Vec<Vec<u8>>,
}

impl Findings {
    /// A buffer for what is told of a message.
    pub fn buffer(&mut self) -> Vec<u8> {
        self.buffers.pop().unwrap_or_default()
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, mut buffer: Vec<u8>) {
        if self.buffers.len() < MOST_BUFFERS {
            buffer.clear();
            self.buffers.push(buffer);
        }
    }

    /// The packet `token` carries parts of messages of `calls`, and the beginning of each of `messages`.
    pub fn add(
        &mut self,
        token: u64,
        origin: Origin,
        spans: impl Iterator<Item = (CallRef, Option<Message>)>,
    ) {
        let first = self.carriers.last().map_or(0, |carrier| carrier.calls);
        for (call, message) in spans {
            let known = &self.calls[first..];
            if known.len() < MOST_CALLS && !known.contains(&call) {
                self.calls.push(call);
            }
            self.messages.extend(message);
        }
        self.carriers.push(Carrier {
            token,
            origin,
            calls: self.calls.len(),
            messages: self.messages.len(),
        });
    }

    /// Whether `token` is among them.
    #[must_use]
    pub fn has(&self, token: u64) -> bool {
        self.carriers.iter().any(|carrier| carrier.token == token)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.carriers.is_empty()
    }

    /// All of them, each with its calls and the messages that begin in it.
    pub fn iter(&self) -> impl Iterator<Item = (&Carrier, &[CallRef], &[Message])> {
        let (mut calls, mut messages) = (0, 0);
        self.carriers.iter().map(move |carrier| {
            let found = (
                carrier,
                &self.calls[calls..carrier.calls],
                &self.messages[messages..carrier.messages],
            );
            (calls, messages) = (carrier.calls, carrier.messages);
            found
        })
    }

    /// Forgets them.
    pub fn clear(&mut self) {
        self.carriers.clear();
        self.calls.clear();
        while let Some(message) = self.messages.pop() {
            self.give_back(message.block);
        }
    }
}
