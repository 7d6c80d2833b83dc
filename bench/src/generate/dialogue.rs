//! A TCP connection that carries a dialogue: handshake, turns cut into segments, acknowledgments,
//! and an orderly end.
//!
//! The protocols above TCP only say who says what; this module keeps the sequence numbers.

use super::frame::{self, Control, Ports, Segment, TCP_HEADER};
use super::path::{Path, Side};
use super::rng::Rng;

/// Nanoseconds between two packets of a conversation, which makes 100 packets per second.
pub(super) const PACE_NS: u64 = 10_000_000;

/// One conversation: gives its packets in order of time.
pub(super) trait Conversation {
    /// Puts the next frame into `frame` and returns its time in nanoseconds since the
    /// conversation's start; `None` at the end.
    fn next(&mut self, frame: &mut Vec<u8>) -> Option<u64>;
}

/// What one side says before the other answers.
pub(super) struct Turn {
    pub(super) from: Side,
    pub(super) content: Content,
}

impl Turn {
    /// A turn of given bytes.
    pub(super) fn new(from: Side, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            from,
            content: Content::Bytes(bytes.into()),
        }
    }
}

/// The bytes of a turn.
pub(super) enum Content {
    /// These bytes, cut at the maximum segment size.
    Bytes(Vec<u8>),
    /// Random bytes in segments of these payload lengths.
    Segments(Vec<u16>),
}

/// A segment that will be sent.
struct Planned {
    from: Side,
    control: Control,
    payload: Payload,
}

enum Payload {
    None,
    Bytes {
        turn: usize,
        start: usize,
        end: usize,
    },
    Random(u16),
}

/// A dialogue over TCP.
pub(super) struct Dialogue {
    path: Path,
    ports: Ports,
    turns: Vec<Vec<u8>>,
    plan: std::vec::IntoIter<Planned>,
    sent: u64,
    /// Next sequence numbers of client and server.
    sequence: [u32; 2],
    rng: Rng,
    payload: Vec<u8>,
}

impl Dialogue {
    /// A connection from the client's `ports.client` to `ports.server` that carries `turns`.
    pub(super) fn new(path: Path, ports: Ports, turns: Vec<Turn>, mut rng: Rng) -> Self {
        let segment_len = 1514 - path.header_len() - TCP_HEADER;
        let empty = |from, control| Planned {
            from,
            control,
            payload: Payload::None,
        };
        let mut plan = vec![
            empty(Side::Client, Control::Syn),
            empty(Side::Server, Control::SynAck),
            empty(Side::Client, Control::Ack),
        ];
        let mut contents = Vec::new();
        for turn in turns {
            match turn.content {
                Content::Bytes(bytes) => {
                    for start in (0..bytes.len()).step_by(segment_len) {
                        let end = bytes.len().min(start + segment_len);
                        plan.push(Planned {
                            from: turn.from,
                            control: if end == bytes.len() {
                                Control::PushAck
                            } else {
                                Control::Ack
                            },
                            payload: Payload::Bytes {
                                turn: contents.len(),
                                start,
                                end,
                            },
                        });
                    }
                    contents.push(bytes);
                }
                Content::Segments(lengths) => {
                    for (index, length) in lengths.into_iter().enumerate() {
                        plan.push(Planned {
                            from: turn.from,
                            control: Control::Ack,
                            payload: Payload::Random(length),
                        });
                        // Every second segment is acknowledged (RFC 5681 section 4.2).
                        if index % 2 == 1 {
                            plan.push(empty(turn.from.peer(), Control::Ack));
                        }
                    }
                }
            }
        }
        plan.extend([
            empty(Side::Client, Control::FinAck),
            empty(Side::Server, Control::FinAck),
            empty(Side::Client, Control::Ack),
        ]);
        Self {
            path,
            ports,
            turns: contents,
            plan: plan.into_iter(),
            sent: 0,
            sequence: [rng.next() as u32, rng.next() as u32],
            rng,
            payload: Vec::new(),
        }
    }
}

impl Conversation for Dialogue {
    fn next(&mut self, frame: &mut Vec<u8>) -> Option<u64> {
        let planned = self.plan.next()?;
        let payload = match planned.payload {
            Payload::None => &[],
            Payload::Bytes { turn, start, end } => &self.turns[turn][start..end],
            Payload::Random(length) => {
                self.payload.resize(usize::from(length), 0);
                self.rng.fill(&mut self.payload);
                &self.payload[..]
            }
        };
        let (own, peer) = match planned.from {
            Side::Client => (0, 1),
            Side::Server => (1, 0),
        };
        let segment = Segment {
            control: planned.control,
            sequence: self.sequence[own],
            acknowledgment: match planned.control {
                Control::Syn => 0,
                _ => self.sequence[peer],
            },
        };
        frame::tcp(
            frame,
            &self.path,
            planned.from,
            self.ports,
            segment,
            payload,
        );
        let control_takes = u32::from(matches!(
            planned.control,
            Control::Syn | Control::SynAck | Control::FinAck
        ));
        self.sequence[own] = self.sequence[own]
            .wrapping_add(payload.len() as u32)
            .wrapping_add(control_takes);
        self.sent += 1;
        Some((self.sent - 1) * PACE_NS)
    }
}
