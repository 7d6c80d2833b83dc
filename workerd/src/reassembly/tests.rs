//! The streams as a consumer sees them.

use std::time::Duration;

use lc_daemon::config::TcpSilence;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::flows::Direction::{self, Request, Response};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const MS: u64 = 1_000_000;
const S: u64 = 1_000 * MS;
const START: u64 = 1_767_225_600 * S;
/// Where a stream begins that is picked up in its middle.
const MIDDLE: u64 = 1 << 16;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Seen {
    Data(u64, String),
    Gap(u64, Option<u64>),
    End(u64, End),
}

/// Writes down what it is told, neighbouring data as one, and checks that offsets have neither holes nor repetitions.
#[derive(Default)]
struct Recorder {
    seen: Vec<(ConnectionId, Direction, Seen)>,
    /// What it answers to data that begin with this text.
    answer: Option<(&'static str, Interest)>,
}

/// Of each direction: the offset that is next, if any was, and whether it has ended.
#[derive(Default)]
struct Position([(Option<u64>, bool); 2]);

impl Consumer for Recorder {
    type State = Position;

    fn take(&mut self, stream: Stream<'_, Position>, event: Event<'_>) -> Interest {
        let Position(directions) = stream.state;
        let (next, ended) = &mut directions[stream.direction as usize];
        let (offset, len) = match event {
            Event::Data { offset, bytes } => (offset, bytes.len() as u64),
            Event::Gap { offset, len } => (offset, len.unwrap_or(0)),
            Event::End { offset, .. } => (offset, 0),
        };
        assert!(!*ended);
        assert_eq!(next.unwrap_or(offset), offset);
        *next = Some(offset + len);
        *ended = matches!(event, Event::End { .. });
        let (connection, direction) = (stream.connection, stream.direction);
        let seen = match event {
            Event::Data { offset, bytes } => {
                assert!(!bytes.is_empty());
                let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
                let last = self.seen.iter_mut().rev();
                let last = last
                    .map(|(id, to, seen)| ((*id, *to), seen))
                    .find(|(of, _)| *of == (connection, direction));
                let interest = match self.answer {
                    Some((start, interest)) if text.starts_with(start) => interest,
                    _ => Interest::Follow,
                };
                if let Some((_, Seen::Data(_, before))) = last {
                    before.push_str(&text);
                    return interest;
                }
                self.seen
                    .push((connection, direction, Seen::Data(offset, text)));
                return interest;
            }
            Event::Gap { offset, len } => Seen::Gap(offset, len),
            Event::End { offset, reason } => Seen::End(offset, reason),
        };
        self.seen.push((connection, direction, seen));
        Interest::Follow
    }
}

/// One connection at work.
struct Wire {
    streams: Streams<Position>,
    recorder: Recorder,
    id: Option<ConnectionId>,
    time_ns: u64,
    token: u64,
}

impl Wire {
    fn new() -> Self {
        Self::within(&small())
    }

    fn within(limits: &Limits) -> Self {
        Self {
            streams: Streams::new(limits).unwrap(),
            recorder: Recorder::default(),
            id: None,
            time_ns: START,
            token: 0,
        }
    }

    /// With a handshake: 1000 and 5000 are the first bytes' numbers.
    fn opened() -> Self {
        let mut wire = Self::new();
        wire.handshake(999, 4999);
        wire
    }

    fn handshake(&mut self, request: u32, response: u32) {
        self.send(Request, SYN, request, 0, "");
        self.send(Response, SYN | ACK, response, request.wrapping_add(1), "");
        let seq = request.wrapping_add(1);
        self.send(Request, ACK, seq, response.wrapping_add(1), "");
    }

    fn send(
        &mut self,
        direction: Direction,
        flags: u8,
        seq: u32,
        ack: u32,
        payload: &str,
    ) -> Outcome {
        self.time_ns += MS / 10;
        self.token += 1;
        let segment = Segment {
            direction,
            seq,
            ack,
            flags,
            window: 512,
            scale: Some(7),
            payload: payload.as_bytes(),
            time_ns: self.time_ns,
            token: Some(self.token),
        };
        self.streams
            .segment(&mut self.id, &segment, &mut self.recorder)
    }

    /// A request's bytes, without ACK.
    fn data(&mut self, seq: u32, payload: &str) -> Fate {
        self.send(Request, 0, seq, 0, payload).fate
    }

    /// Lets time pass, and says so by a segment of another connection.
    fn pass(&mut self, ns: u64) {
        self.time_ns += ns;
        let other = Segment {
            direction: Request,
            seq: 0,
            ack: 0,
            flags: SYN,
            window: 0,
            scale: None,
            payload: &[],
            time_ns: self.time_ns,
            token: None,
        };
        let mut id = None;
        self.streams.segment(&mut id, &other, &mut self.recorder);
        self.streams.advance(&mut self.recorder);
        let mut nothing = Recorder::default();
        if let Some(id) = id {
            self.streams.close(id, &mut nothing);
        }
    }

    fn seen(&self, direction: Direction) -> Vec<Seen> {
        let of = |(_, to, seen): &(_, Direction, Seen)| (*to == direction).then(|| seen.clone());
        self.recorder.seen.iter().filter_map(of).collect()
    }

    fn requests(&self) -> Vec<Seen> {
        self.seen(Request)
    }

    fn carriers(&mut self, direction: Direction, range: std::ops::Range<u64>) -> Vec<u64> {
        let stream = self.streams.stream(self.id.unwrap(), direction).unwrap();
        stream.ledger.carriers(range).collect()
    }
}

fn small() -> Limits {
    Limits {
        connections: 64,
        waiting_bytes: 1 << 20,
        waiting_bytes_of_one: 1 << 18,
        packets: 1_000,
        packets_of_one: 500,
        silence: TcpSilence::BY_STATE,
        ..Limits::default()
    }
}

fn data(offset: u64, text: &str) -> Seen {
    Seen::Data(offset, text.into())
}

#[test]
fn bytes_in_order_are_given_as_they_come() {
    let mut wire = Wire::opened();
    let first = wire.send(Request, ACK, 1000, 5000, "INVITE ");
    let second = wire.send(Request, ACK, 1007, 5000, "sip:b");
    let answer = wire.send(Response, ACK, 5000, 1012, "SIP/2.0");
    assert_eq!(
        (first.range, first.fate, first.noted),
        (0..7, Fate::New, true)
    );
    assert_eq!((second.range, second.fate), (7..12, Fate::New));
    assert_eq!((answer.range, answer.fate), (0..7, Fate::New));
    assert_eq!(wire.requests(), [data(0, "INVITE sip:b")]);
    assert_eq!(wire.seen(Response), [data(0, "SIP/2.0")]);
}

#[test]
fn bytes_out_of_order_wait() {
    let mut wire = Wire::opened();
    let late = wire.send(Request, ACK, 1004, 5000, "efgh");
    assert_eq!((late.range, late.fate), (4..8, Fate::Waits));
    assert_eq!(wire.streams.waiting_bytes(), 4);
    assert_eq!(wire.data(1008, "ij"), Fate::Waits);
    assert_eq!(wire.requests(), []);
    assert_eq!(wire.data(1000, "abcd"), Fate::New);
    assert_eq!(wire.requests(), [data(0, "abcdefghij")]);
    assert_eq!(wire.streams.waiting_bytes(), 0);
}

#[test]
fn retransmissions_are_told_from_news() {
    let mut wire = Wire::opened();
    wire.data(1000, "abcd");
    let again = wire.send(Request, ACK, 1000, 5000, "abcd");
    assert_eq!((again.range, again.fate), (0..4, Fate::Old));
    // With other cuts: partly new.
    assert_eq!(wire.data(1002, "cdef"), Fate::New);
    // Of bytes that wait.
    assert_eq!(wire.data(1010, "kl"), Fate::Waits);
    assert_eq!(wire.data(1010, "kl"), Fate::Old);
    assert_eq!(wire.data(1006, "ghijkl"), Fate::New);
    assert_eq!(wire.requests(), [data(0, "abcdefghijkl")]);
    assert_eq!(wire.streams.counts().old_segments, 2);
    assert_eq!(wire.streams.counts().conflicts, 0);
}

#[test]
fn the_first_copy_wins_everywhere() {
    let mut wire = Wire::opened();
    // Against delivered bytes.
    wire.data(1000, "aa");
    wire.data(1000, "xxbb");
    // Against bytes that wait: a larger segment in order, and one out of order.
    wire.data(1006, "cc");
    wire.data(1004, "yyyyyy");
    wire.data(1012, "dd");
    wire.data(1011, "zzzz");
    wire.data(1010, "e");
    assert_eq!(wire.requests(), [data(0, "aabbyyccyyezddz")]);
    assert_eq!(wire.streams.counts().conflicts, 2);
}

#[test]
fn keep_alives_and_window_probes_change_nothing() {
    let mut wire = Wire::opened();
    wire.data(1000, "abcd");
    // RFC 9293, section 3.8.4: with and without a garbage byte.
    assert_eq!(wire.data(1003, "?"), Fate::Old);
    assert_eq!(wire.data(1003, ""), Fate::Empty);
    // A probe of a closed window is the next byte, and comes again with others.
    assert_eq!(wire.data(1004, "e"), Fate::New);
    assert_eq!(wire.data(1004, "e"), Fate::Old);
    assert_eq!(wire.data(1004, "efgh"), Fate::New);
    assert_eq!(wire.requests(), [data(0, "abcdefgh")]);
}

#[test]
fn a_gap_is_given_up_soon_after_the_receiver_has_acknowledged_it() {
    let mut wire = Wire::opened();
    wire.data(1000, "abcd");
    wire.data(1010, "klmn");
    wire.pass(S);
    assert_eq!(wire.requests(), [data(0, "abcd")]);
    wire.send(Response, ACK, 5000, 1014, "");
    wire.pass(100 * MS);
    assert_eq!(wire.requests(), [data(0, "abcd")]);
    wire.pass(300 * MS);
    let expected = [data(0, "abcd"), Seen::Gap(4, Some(6)), data(10, "klmn")];
    assert_eq!(wire.requests(), expected);
    // What comes later still is old.
    assert_eq!(wire.data(1004, "efghij"), Fate::Old);
    assert_eq!(wire.streams.counts().gap_bytes, 6);
}

#[test]
fn a_gap_is_waited_for_as_long_as_its_sender_may_take() {
    let mut wire = Wire::opened();
    wire.data(1010, "klmn");
    wire.pass(29 * S);
    wire.send(Response, ACK, 5000, 1000, "");
    assert_eq!(wire.requests(), []);
    wire.pass(1_300 * MS);
    assert_eq!(wire.requests(), [Seen::Gap(0, Some(10)), data(10, "klmn")]);
}

#[test]
fn a_gap_whose_receiver_is_not_heard_is_given_up_in_time() {
    let mut wire = Wire::new();
    wire.send(Request, SYN, 999, 0, "");
    wire.data(1010, "klmn");
    wire.pass(2_900 * MS);
    assert_eq!(wire.requests(), []);
    wire.pass(300 * MS);
    assert_eq!(wire.requests(), [Seen::Gap(0, Some(10)), data(10, "klmn")]);
}

#[test]
fn a_gap_is_given_up_at_the_next_segment_even_without_advance() {
    let mut wire = Wire::opened();
    wire.data(1010, "klmn");
    wire.time_ns += 31 * S;
    assert_eq!(wire.data(1000, "abcdefghij"), Fate::Old);
    assert_eq!(wire.requests(), [Seen::Gap(0, Some(10)), data(10, "klmn")]);
}

#[test]
fn a_gap_is_given_up_for_lack_of_room() {
    let mut wire = Wire::opened();
    let text = "x".repeat(1 << 14);
    let starts = (1010..).step_by(1 << 14);
    let waiting = starts.take_while(|seq| wire.data(*seq, &text) == Fate::Waits);
    let room = small().waiting_bytes_of_one;
    assert!((room - (2 << 14)..room).contains(&(waiting.count() << 14)));
    assert_eq!(wire.requests()[0], Seen::Gap(0, Some(10)));
    assert_eq!(wire.streams.waiting_bytes(), 0);
    assert_eq!(wire.streams.counts().dropped_bytes, 0);
    assert!(wire.streams.counts().hurried > 0);
}

#[test]
fn one_connection_gives_up_for_another_and_loses_nothing() {
    let limits = Limits {
        waiting_bytes: Limits::LEAST_WAITING,
        ..small()
    };
    let mut wire = Wire::within(&limits);
    let text = "y".repeat(30 << 10);
    let mut ids = [None; 4];
    for id in &mut ids {
        wire.id = None;
        wire.handshake(999, 4999);
        assert_eq!(wire.data(1001, &text), Fate::Waits);
        assert!(wire.streams.waiting_bytes() <= limits.waiting_bytes);
        *id = wire.id;
    }
    let given_up: Vec<_> = wire
        .recorder
        .seen
        .iter()
        .filter(|(_, _, seen)| *seen == Seen::Gap(0, Some(1)))
        .map(|(id, ..)| Some(*id))
        .collect();
    assert_eq!(given_up, ids[..2]);
    assert_eq!(wire.streams.counts().dropped_bytes, 0);
}

#[test]
fn sequence_numbers_wrap_around() {
    let mut wire = Wire::new();
    wire.handshake(u32::MAX - 3, u32::MAX);
    wire.data(u32::MAX - 2, "abc");
    wire.data(4, "hij");
    wire.data(0, "defg");
    wire.send(Request, FIN, 7, 0, "");
    wire.send(Response, ACK, 0, 0, "xyz");
    assert_eq!(
        wire.requests(),
        [data(0, "abcdefghij"), Seen::End(10, End::Finished)]
    );
    assert_eq!(wire.seen(Response), [data(0, "xyz")]);
}

#[test]
fn a_syn_may_carry_bytes() {
    let mut wire = Wire::new();
    wire.send(Request, SYN, 999, 0, "GET ");
    wire.send(Response, SYN | ACK, 4999, 1000, "hello ");
    // The server did not take the first; it comes again.
    assert_eq!(wire.data(1000, "GET "), Fate::Old);
    wire.data(1004, "/");
    wire.send(Response, ACK, 5006, 1005, "world");
    assert_eq!(wire.requests(), [data(0, "GET /")]);
    assert_eq!(wire.seen(Response), [data(0, "hello world")]);
}

#[test]
fn a_handshake_in_any_order_begins_at_the_beginning() {
    // SYN, SYN-ACK and the first bytes, in all orders.
    let orders = [
        [0, 1, 2],
        [0, 2, 1],
        [1, 0, 2],
        [1, 2, 0],
        [2, 0, 1],
        [2, 1, 0],
    ];
    for order in orders {
        let mut wire = Wire::new();
        for step in order {
            match step {
                0 => wire.send(Request, SYN, 999, 0, ""),
                1 => wire.send(Response, SYN | ACK, 4999, 1000, ""),
                _ => wire.send(Request, ACK, 1000, 5000, "abc"),
            };
        }
        wire.data(1003, "def");
        wire.send(Response, ACK, 5000, 1006, "xyz");
        let bytes = |direction| match wire.seen(direction).last() {
            Some(Seen::Data(_, text)) => text.clone(),
            other => panic!("{order:?}: {other:?}"),
        };
        assert_eq!(bytes(Request), "abcdef", "{order:?}");
        assert_eq!(bytes(Response), "xyz", "{order:?}");
        // Only if the first bytes come first, with nothing to say that they are, is there a doubt.
        let gaps = wire.streams.counts().middles;
        assert!(gaps <= u64::from(order[0] == 2), "{order:?}");
    }
}

#[test]
fn both_sides_may_open_at_once() {
    let mut wire = Wire::new();
    wire.send(Request, SYN, 999, 0, "");
    wire.send(Response, SYN, 4999, 0, "");
    wire.send(Request, SYN | ACK, 999, 5000, "");
    wire.send(Response, ACK, 5000, 1000, "xyz");
    wire.data(1000, "abc");
    assert_eq!(wire.requests(), [data(0, "abc")]);
    assert_eq!(wire.seen(Response), [data(0, "xyz")]);
    assert_eq!(wire.streams.counts().implausible_syns, 0);
}

/// V-22.
#[test]
fn a_stream_without_syn_waits_shortly_for_earlier_bytes() {
    let mut wire = Wire::new();
    assert_eq!(wire.data(1010, "klm"), Fate::Waits);
    assert_eq!(wire.data(1004, "efghij"), Fate::Waits);
    let first = wire.send(Request, 0, 1000, 0, "abcd");
    assert_eq!(
        (first.range, first.fate),
        (MIDDLE - 10..MIDDLE - 6, Fate::Waits)
    );
    assert_eq!(wire.requests(), []);
    wire.pass(300 * MS);
    let start = MIDDLE - 10;
    let expected = [Seen::Gap(start, None), data(start, "abcdefghijklm")];
    assert_eq!(wire.requests(), expected);
    assert_eq!(wire.data(1013, "n"), Fate::New);
}

#[test]
fn a_stream_without_syn_begins_at_once_where_an_ack_has_told_the_place() {
    // By the other side, and by its own sender.
    for direction in [Response, Request] {
        let mut wire = Wire::new();
        let (seq, ack) = match direction {
            Response => (5000, 1000),
            Request => (1000, 5000),
        };
        wire.send(direction, ACK, seq, ack, "");
        assert_eq!(wire.data(1000, "abcd"), Fate::New);
        let expected = [Seen::Gap(MIDDLE, None), data(MIDDLE, "abcd")];
        assert_eq!(wire.requests(), expected);
    }
}

#[test]
fn a_stream_without_syn_does_not_wait_when_much_has_come() {
    let mut wire = Wire::new();
    let text = "z".repeat(1460);
    for n in 0..20 {
        wire.data(1000 + n * 1460, &text);
    }
    assert_eq!(wire.requests().len(), 2);
    assert_eq!(wire.requests()[1], data(MIDDLE, &"z".repeat(20 * 1460)));
}

#[test]
fn a_lost_handshake_is_made_up_from_the_answer() {
    let mut wire = Wire::new();
    wire.send(Response, SYN | ACK, 4999, 1000, "");
    wire.data(1003, "def");
    wire.data(1000, "abc");
    assert_eq!(wire.requests(), [data(0, "abcdef")]);
}

#[test]
fn one_side_alone_is_followed() {
    let mut wire = Wire::new();
    wire.send(Request, SYN, 999, 0, "");
    for (seq, text) in [(1000, "abc"), (1006, "ghi"), (1003, "def")] {
        wire.send(Request, ACK, seq, 5000, text);
    }
    wire.send(Request, FIN | ACK, 1009, 5000, "");
    let expected = [data(0, "abcdefghi"), Seen::End(9, End::Finished)];
    assert_eq!(wire.requests(), expected);
}

#[test]
fn an_end_waits_for_what_comes_before_it() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    assert_eq!(
        wire.send(Request, FIN | ACK, 1006, 5000, "ghi").fate,
        Fate::Waits
    );
    assert_eq!(wire.requests(), [data(0, "abc")]);
    wire.data(1003, "def");
    let expected = [data(0, "abcdefghi"), Seen::End(9, End::Finished)];
    assert_eq!(wire.requests(), expected);
    // Once more: nothing. Behind it: refused.
    assert_eq!(
        wire.send(Request, FIN | ACK, 1006, 5000, "ghi").fate,
        Fate::Old
    );
    let behind = wire.data(1009, "jkl");
    assert_eq!(behind, Fate::Refused(Refusal::AfterEnd));
    assert_eq!(wire.requests(), expected);
    // The other side goes on.
    wire.send(Response, ACK, 5000, 1010, "xyz");
    assert_eq!(wire.seen(Response), [data(0, "xyz")]);
}

#[test]
fn a_segment_on_the_other_side_of_sequence_space_carries_nothing() {
    let mut wire = Wire::opened();
    wire.send(Request, FIN | ACK, 1000, 5000, "");
    let opposite = 1000 + (1 << 31) - 2;
    let outcome = wire.send(Request, ACK, opposite, 5000, "abcd");
    assert_eq!((outcome.range, outcome.fate), (0..0, Fate::Old));
}

#[test]
fn a_lost_tail_is_a_gap_before_the_end() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    wire.send(Request, FIN | ACK, 1010, 5000, "");
    wire.send(Response, ACK, 5000, 1011, "");
    wire.pass(300 * MS);
    let expected = [
        data(0, "abc"),
        Seen::Gap(3, Some(7)),
        Seen::End(10, End::Finished),
    ];
    assert_eq!(wire.requests(), expected);
}

#[test]
fn a_reset_ends_both_directions_with_what_has_come() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    wire.send(Response, ACK, 5005, 1003, "fgh");
    assert_eq!(wire.send(Request, RST, 1003, 0, "reason").fate, Fate::Empty);
    assert_eq!(wire.requests(), [data(0, "abc"), Seen::End(3, End::Reset)]);
    let expected = [
        Seen::Gap(0, Some(5)),
        data(5, "fgh"),
        Seen::End(8, End::Reset),
    ];
    assert_eq!(wire.seen(Response), expected);
    assert_eq!(wire.streams.connections(), 0);
}

#[test]
fn a_reset_that_is_not_exact_ends_nothing() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    for seq in [999, 1002, 1004, 60_000, 1 << 31] {
        let outcome = wire.send(Request, RST, seq, 0, "");
        assert_eq!(outcome.fate, Fate::Refused(Refusal::Implausible));
    }
    assert_eq!(wire.data(1003, "def"), Fate::New);
    assert_eq!(wire.requests(), [data(0, "abcdef")]);
    assert_eq!(wire.streams.counts().implausible_resets, 5);
}

#[test]
fn a_reset_is_exact_by_what_its_receiver_has_acknowledged() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    // Capture has lost 1003 to 1006.
    wire.send(Response, ACK, 5000, 1007, "");
    wire.send(Request, RST, 1007, 0, "");
    assert_eq!(wire.requests(), [data(0, "abc"), Seen::End(3, End::Reset)]);
}

#[test]
fn a_reset_whose_sender_goes_on_was_forged() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    wire.send(Request, RST, 1003, 0, "");
    // What was under way already shows nothing.
    assert_eq!(wire.data(1000, "abc"), Fate::Old);
    let answer = wire.send(Response, ACK, 5000, 1003, "x");
    assert_eq!(answer.fate, Fate::Refused(Refusal::AfterEnd));
    assert_eq!(wire.data(1003, "def"), Fate::New);
    assert_eq!(wire.send(Response, ACK, 5000, 1006, "x").fate, Fate::New);
    let start = 3 + MIDDLE;
    let expected = [
        data(0, "abc"),
        Seen::End(3, End::Reset),
        Seen::Gap(start, None),
        data(start, "def"),
    ];
    assert_eq!(wire.requests(), expected);
    assert_eq!(wire.streams.counts().revived, 1);
}

#[test]
fn of_several_syns_the_one_that_is_answered_counts() {
    let mut wire = Wire::new();
    for isn in [4999, 900_000_000, 2_000_000_000] {
        wire.send(Response, SYN | ACK, isn, 1000, "");
    }
    wire.send(Request, ACK, 1000, 900_000_001, "abc");
    wire.send(Response, ACK, 900_000_001, 1003, "xyz");
    assert_eq!(wire.requests(), [data(0, "abc")]);
    assert_eq!(wire.seen(Response), [Seen::Gap(0, None), data(0, "xyz")]);
}

#[test]
fn a_declined_connection_is_over() {
    let mut wire = Wire::new();
    wire.send(Request, SYN, 999, 0, "");
    // RFC 9293, section 3.10.7.1: the reset has sequence number 0 and acknowledges the SYN.
    let forged = wire.send(Response, RST | ACK, 0, 7, "");
    assert_eq!(forged.fate, Fate::Refused(Refusal::Implausible));
    wire.send(Response, RST | ACK, 0, 1000, "");
    assert_eq!(wire.requests(), [Seen::End(0, End::Reset)]);
    assert_eq!(wire.streams.connections(), 0);
}

/// V-23: after a FIN from both sides, from one side, after a reset, and without any.
#[test]
fn ports_may_be_used_again() {
    let ends: [&[(Direction, u8, u32)]; 4] = [
        &[(Request, FIN | ACK, 1003), (Response, FIN | ACK, 5000)],
        &[(Request, FIN | ACK, 1003)],
        &[(Response, RST | ACK, 5000)],
        &[],
    ];
    for ends in ends {
        for isn in [70_000, 500, 3_000_000_000, 1003] {
            let mut wire = Wire::opened();
            wire.data(1000, "abc");
            for (direction, flags, seq) in ends {
                wire.send(*direction, *flags, *seq, 0, "");
            }
            wire.handshake(isn, isn + 1_000_000);
            wire.send(Request, ACK, isn + 1, isn + 1_000_001, "new");
            wire.send(Response, ACK, isn + 1_000_001, isn + 4, "too");
            let requests = wire.requests();
            let [
                Seen::Data(0, first),
                Seen::End(3, reason),
                Seen::Data(3, second),
            ] = &requests[..]
            else {
                panic!("{ends:?} {isn}: {requests:?}");
            };
            assert_eq!((first.as_str(), second.as_str()), ("abc", "new"));
            let expected = match ends {
                [(Request, ..), ..] => End::Finished,
                [_] => End::Reset,
                _ => End::Reused,
            };
            assert_eq!(*reason, expected);
            let responses = wire.seen(Response);
            assert_eq!(responses.last(), Some(&data(0, "too")), "{ends:?} {isn}");
        }
    }
}

#[test]
fn a_forged_syn_ends_nothing() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    let forged = wire.send(Request, SYN, 77_000, 0, "");
    assert_eq!(forged.fate, Fate::Refused(Refusal::Implausible));
    // The peer answers as to any old segment (RFC 9293, section 3.10.7.4).
    wire.send(Response, ACK, 5000, 1003, "");
    assert_eq!(wire.data(1003, "def"), Fate::New);
    // Nor does one with a forged answer to another SYN.
    let forged = wire.send(Response, SYN | ACK, 88_000, 66_001, "");
    assert_eq!(forged.fate, Fate::Refused(Refusal::Implausible));
    assert_eq!(wire.data(1006, "ghi"), Fate::New);
    assert_eq!(wire.requests(), [data(0, "abcdefghi")]);
}

#[test]
fn ports_may_be_used_again_where_one_side_is_captured() {
    let mut wire = Wire::new();
    wire.send(Request, SYN, 999, 0, "");
    wire.data(1000, "abc");
    wire.send(Request, SYN, 499, 0, "");
    assert_eq!(wire.data(500, "new"), Fate::New);
    let expected = [data(0, "abc"), Seen::End(3, End::Reused), data(3, "new")];
    assert_eq!(wire.requests(), expected);
}

#[test]
fn far_segments_are_refused() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    for seq in [1 << 30, 1 << 31, 3_000_000_000, 1003 + (1 << 18) + 1] {
        assert_eq!(wire.data(seq, "bad"), Fate::Refused(Refusal::Far));
        assert_eq!(wire.streams.waiting_bytes(), 0);
    }
    // Interleaved with honest ones, they may come in order, and for ever.
    for n in 0..20 {
        let far = wire.data(2_000_000_000 + n * 3, "bad");
        assert_eq!(far, Fate::Refused(Refusal::Far));
        assert_eq!(wire.data(1003 + n, "d"), Fate::New);
    }
    assert_eq!(
        wire.requests(),
        [data(0, &format!("abc{}", "d".repeat(20)))]
    );
    assert_eq!(wire.streams.counts().far_segments, 24);
}

#[test]
fn a_stream_that_goes_on_far_away_is_found_again() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    for n in 0..3 {
        assert_eq!(
            wire.data(50_000_000 + n * 3, "lst"),
            Fate::Refused(Refusal::Far)
        );
    }
    assert_eq!(wire.data(50_000_009, "new"), Fate::New);
    assert_eq!(wire.data(50_000_012, "er"), Fate::New);
    assert_eq!(
        wire.requests(),
        [data(0, "abc"), Seen::Gap(3, None), data(3, "newer")]
    );
    assert_eq!(wire.streams.counts().resyncs, 1);
}

#[test]
fn a_large_window_widens_the_reach() {
    let mut wire = Wire::opened();
    let segment = Segment {
        direction: Response,
        seq: 5000,
        ack: 1000,
        flags: ACK,
        window: u16::MAX,
        scale: None,
        payload: &[],
        time_ns: wire.time_ns,
        token: None,
    };
    assert_eq!(
        wire.data(1000 + (8 << 20) - 200, "x"),
        Fate::Refused(Refusal::Far)
    );
    // A window of 65535 x 128.
    wire.streams
        .segment(&mut wire.id, &segment, &mut wire.recorder);
    assert_eq!(wire.data(1000 + (8 << 20) - 200, "x"), Fate::Waits);
}

#[test]
fn what_is_ignored_costs_no_memory() {
    let mut wire = Wire::opened();
    wire.recorder.answer = Some(("TLS", Interest::IgnoreConnection));
    wire.send(Response, ACK, 5010, 1000, "waits");
    assert_eq!(wire.streams.packets(), 1);
    wire.data(1000, "TLS hello");
    assert_eq!(
        (wire.streams.packets(), wire.streams.waiting_bytes()),
        (0, 0)
    );
    for direction in [Request, Response] {
        let later = wire.send(direction, ACK, 1020, 5000, "secret");
        assert_eq!((later.fate, later.noted), (Fate::Ignored, false));
    }
    assert_eq!(
        (wire.streams.packets(), wire.streams.waiting_bytes()),
        (0, 0)
    );
    assert_eq!(wire.requests(), [data(0, "TLS hello")]);
    assert_eq!(wire.seen(Response), []);
    // Until the next connection.
    wire.send(Request, FIN | ACK, 1020, 5000, "");
    wire.handshake(7999, 8999);
    wire.data(8000, "SIP");
    assert_eq!(wire.requests(), [data(0, "TLS helloSIP")]);
}

#[test]
fn one_direction_may_be_ignored() {
    let mut wire = Wire::opened();
    wire.recorder.answer = Some(("220", Interest::IgnoreDirection));
    wire.send(Response, ACK, 5000, 1000, "220 hello");
    assert_eq!(
        wire.send(Response, ACK, 5009, 1000, "x").fate,
        Fate::Ignored
    );
    wire.data(1003, "O");
    // What the ignored direction acknowledges counts.
    wire.send(Response, ACK, 5010, 1004, "x");
    wire.pass(300 * MS);
    assert_eq!(wire.requests(), [Seen::Gap(0, Some(3)), data(3, "O")]);
}

#[test]
fn a_forged_syn_does_not_end_a_connection_that_is_ignored_by_half() {
    let mut wire = Wire::opened();
    wire.recorder.answer = Some(("220", Interest::IgnoreDirection));
    wire.send(Response, ACK, 5000, 1000, "220 hello");
    wire.data(1000, "abc");
    let forged = wire.send(Response, SYN, 88_000, 0, "");
    assert_eq!(forged.fate, Fate::Refused(Refusal::Implausible));
    wire.data(1003, "def");
    assert_eq!(wire.requests(), [data(0, "abcdef")]);
}

#[test]
fn a_wild_acknowledgement_does_not_move_what_waits() {
    let mut wire = Wire::new();
    wire.send(Request, SYN, 999, 0, "");
    wire.data(1003, "def");
    wire.send(Response, ACK, 5000, 3_000_000_000, "");
    wire.data(1000, "abc");
    assert_eq!(wire.requests(), [data(0, "abcdef")]);
}

#[test]
fn silence_ends_a_connection_by_its_state() {
    let timeouts = |prepare: &dyn Fn(&mut Wire), silence: u64| {
        let mut wire = Wire::new();
        prepare(&mut wire);
        let id = wire.id;
        // A little earlier it is still there.
        wire.pass(silence * S - 500 * MS);
        assert!(wire.streams.stream(id.unwrap(), Request).is_some());
        wire.time_ns += S;
        wire.data(1_003, "later");
        assert_ne!(wire.id, id, "{silence}");
        assert_eq!(wire.streams.counts().timed_out, 1);
        wire.recorder.seen
    };
    let seen = timeouts(
        &|wire| {
            wire.send(Request, SYN, 999, 0, "");
        },
        300,
    );
    assert_eq!(seen[0].2, Seen::End(0, End::TimedOut));
    timeouts(&|wire| wire.handshake(999, 4999), 1_800);
    timeouts(
        &|wire| {
            wire.handshake(999, 4999);
            wire.send(Response, FIN | ACK, 5000, 1000, "");
        },
        300,
    );
}

#[test]
fn the_hand_ends_connections_without_packets() {
    let mut wire = Wire::opened();
    wire.data(1010, "klm");
    let id = wire.id.unwrap();
    wire.pass(1_801 * S);
    for _ in 0..20 {
        wire.pass(S);
    }
    let expected = [
        Seen::Gap(0, Some(10)),
        data(10, "klm"),
        Seen::End(13, End::TimedOut),
    ];
    assert_eq!(wire.requests(), expected);
    assert!(wire.streams.stream(id, Request).is_none());
    assert_eq!(wire.streams.connections(), 0);
    // A stale id does no harm.
    wire.streams.close(id, &mut wire.recorder);
    assert_eq!(wire.data(1013, "nop"), Fate::Waits);
    assert_ne!(wire.id, Some(id));
}

#[test]
fn the_ledger_tells_which_packets_carry_a_message() {
    let mut wire = Wire::opened();
    let first = wire.token + 1;
    wire.data(1000, "INVITE..");
    wire.data(1012, "....");
    wire.data(1008, "....BYE.");
    wire.data(1000, "INVITE");
    assert_eq!(wire.carriers(Request, 0..8), [first, first + 3]);
    assert_eq!(wire.carriers(Request, 8..12), [first + 2]);
    assert_eq!(wire.carriers(Request, 12..16), [first + 1, first + 2]);
    assert_eq!(wire.carriers(Request, 0..16).len(), 4);
    let mut forgotten = Vec::new();
    let id = wire.id.unwrap();
    let mut stream = wire.streams.stream(id, Request).unwrap();
    stream.ledger.forget(12, |token| forgotten.push(token));
    assert_eq!(forgotten, [first, first + 3]);
    assert_eq!(stream.ledger.len(), 2);
    // What only repeats what was forgotten is not noted.
    assert!(!wire.send(Request, ACK, 1000, 0, "INVITE").noted);
    assert!(wire.send(Request, ACK, 1014, 0, "..").noted);
    assert_eq!(wire.streams.packets(), 3);
}

#[test]
fn a_full_ledger_says_so() {
    let limits = Limits {
        packets: 3,
        packets_of_one: 2,
        ..small()
    };
    let mut wire = Wire::within(&limits);
    wire.handshake(999, 4999);
    let noted: Vec<bool> = (0..3)
        .map(|n| wire.send(Request, ACK, 1000 + n, 5000, "x").noted)
        .collect();
    assert_eq!(noted, [true, true, false]);
    assert!(wire.send(Response, ACK, 5000, 1000, "x").noted);
    assert!(!wire.send(Response, ACK, 5001, 1000, "x").noted);
    assert_eq!(wire.streams.counts().unnoted, 2);
    wire.send(Request, RST, 1003, 0, "");
    assert_eq!(wire.streams.packets(), 0);
}

#[test]
fn all_is_told_at_the_end() {
    let mut wire = Wire::opened();
    wire.data(1001, "b");
    wire.send(Response, 0, 5000, 0, "z");
    wire.streams.close_all(&mut wire.recorder);
    let expected = [
        Seen::Gap(0, Some(1)),
        data(1, "b"),
        Seen::End(2, End::Closed),
    ];
    assert_eq!(wire.requests(), expected);
    assert_eq!(
        wire.seen(Response),
        [data(0, "z"), Seen::End(1, End::Closed)]
    );
    assert_eq!(wire.streams.counts().closed, 1);
}

/// Half-open connections, each from another client.
#[test]
fn a_flood_displaces_itself_before_conversations() {
    let mut wire = Wire::new();
    let mut established = Vec::new();
    for _ in 0..16 {
        wire.id = None;
        wire.handshake(999, 4999);
        wire.send(Response, ACK, 5000, 1000, "x");
        established.push(wire.id);
    }
    for n in 0..10_000 {
        wire.id = None;
        wire.send(Request, SYN, n, 0, "");
        assert!(wire.streams.connections() <= 64);
    }
    for id in established {
        assert!(wire.streams.stream(id.unwrap(), Request).is_some());
    }
    assert_eq!(wire.streams.counts().evicted, 10_000 - 48);
}

#[test]
fn too_much_memory_is_refused() {
    let limits = Limits {
        waiting_bytes: usize::MAX,
        ..small()
    };
    let refused = Streams::<Position>::new(&limits).err().unwrap();
    assert!(refused.to_string().contains("tcp_performance_mode"));
}

/// A connection takes this much of the memory that is reserved, without the state of its consumer.
#[test]
fn a_connection_is_small() {
    let bytes = |connections| {
        let limits = Limits {
            connections,
            ..small()
        };
        Streams::<()>::new(&limits).map_or(0, |streams| streams.bytes())
    };
    let each = (bytes(1_001) - bytes(1)) / 1_000;
    assert!(each <= 320, "{each}");
}

impl Consumer for () {
    type State = ();

    fn take(&mut self, _: Stream<'_, ()>, _: Event<'_>) -> Interest {
        Interest::Follow
    }
}

/// Bytes of one direction, how they are cut, and what becomes of the pieces.
#[derive(Debug, Clone)]
struct Plan {
    isn: u32,
    len: usize,
    /// Where the stream is cut: lengths, used in turn.
    cuts: Vec<usize>,
    /// Segments that are lost for good, all copies.
    lost: Vec<Index>,
    /// Retransmissions: any range.
    again: Vec<(Index, usize)>,
    /// How far each segment is moved back.
    delays: Vec<usize>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let isn = prop_oneof![any::<u32>(), (u32::MAX - 3_000)..=u32::MAX];
    (
        isn,
        1..12_000_usize,
        prop::collection::vec(1..2_000_usize, 1..20),
        prop::collection::vec(any::<Index>(), 0..4),
        prop::collection::vec((any::<Index>(), 1..3_000_usize), 0..8),
        prop::collection::vec(0..6_usize, 1..20),
    )
        .prop_map(|(isn, len, cuts, lost, again, delays)| Plan {
            isn,
            len,
            cuts,
            lost,
            again,
            delays,
        })
}

impl Plan {
    fn bytes(&self) -> Vec<u8> {
        (0..self.len)
            .map(|n| (n as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0])
            .collect()
    }

    /// Ranges as they are sent, and which bytes are in none of them.
    fn ranges(&self) -> (Vec<std::ops::Range<usize>>, Vec<bool>) {
        let mut ranges = Vec::new();
        let mut at = 0;
        for cut in self.cuts.iter().cycle() {
            if at >= self.len {
                break;
            }
            ranges.push(at..(at + cut).min(self.len));
            at += cut;
        }
        let mut lost = vec![false; self.len];
        for index in &self.lost {
            lost[ranges[index.index(ranges.len())].clone()].fill(true);
        }
        ranges.retain(|range| !lost[range.start]);
        // A retransmission with other cuts, less what is lost.
        for (start, len) in &self.again {
            let start = start.index(self.len);
            let sent = start..(start + len).min(self.len);
            let ends = sent.clone().find(|at| lost[*at]).unwrap_or(sent.end);
            if ends > sent.start {
                ranges.push(sent.start..ends);
            }
        }
        let mut places: Vec<(usize, _)> = ranges
            .iter()
            .cloned()
            .enumerate()
            .map(|(place, range)| (place + self.delays[place % self.delays.len()], range))
            .collect();
        places.sort_by_key(|(place, _)| *place);
        (places.into_iter().map(|(_, range)| range).collect(), lost)
    }
}

/// What a consumer was told, byte by byte.
#[derive(Default)]
struct Collected {
    bytes: [Vec<Option<u8>>; 2],
    /// Where the first byte stands.
    first: [u64; 2],
    ended: [bool; 2],
}

impl Consumer for Collected {
    type State = ();

    fn take(&mut self, stream: Stream<'_, ()>, event: Event<'_>) -> Interest {
        let at = stream.direction as usize;
        let bytes = &mut self.bytes[at];
        match event {
            Event::Gap { offset, len: None } => {
                assert!(bytes.is_empty());
                self.first[at] = offset;
            }
            Event::Gap {
                offset,
                len: Some(len),
            } => {
                assert_eq!(offset - self.first[at], bytes.len() as u64);
                assert!(len > 0);
                bytes.resize(bytes.len() + len as usize, None);
            }
            Event::Data { offset, bytes: new } => {
                assert_eq!(offset - self.first[at], bytes.len() as u64);
                bytes.extend(new.iter().copied().map(Some));
            }
            Event::End { offset, .. } => {
                assert_eq!(offset - self.first[at], bytes.len() as u64);
                self.ended[at] = true;
            }
        }
        Interest::Follow
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However a stream is cut, reordered, repeated and thinned out: each byte that was sent is delivered once, at its place, and exactly the others are gaps.
    #[test]
    fn what_was_sent_is_what_is_told(
        plans in [plan(), plan()],
        fins: [bool; 2],
        turns in prop::collection::vec(any::<bool>(), 1..50),
    ) {
        let limits = Limits {
            packets: 100_000,
            packets_of_one: 100_000,
            ..small()
        };
        let mut streams = Streams::new(&limits).unwrap();
        let mut collected = Collected::default();
        let mut id = None;
        let mut time_ns = START;
        let mut token = 0;
        let mut send = |streams: &mut Streams<()>, collected: &mut Collected, direction: Direction, seq: u32, flags, payload: &[u8]| {
            time_ns += MS / 10;
            token += 1;
            let other = plans[1 - direction as usize].isn;
            let segment = Segment {
                direction, seq, flags, payload, time_ns,
                ack: other.wrapping_add(1),
                window: 100,
                scale: None,
                token: Some(token),
            };
            streams.segment(&mut id, &segment, collected)
        };
        send(&mut streams, &mut collected, Request, plans[0].isn, SYN, &[]);
        send(&mut streams, &mut collected, Response, plans[1].isn, SYN | ACK, &[]);
        let bytes = [plans[0].bytes(), plans[1].bytes()];
        let [one, other] = [plans[0].ranges(), plans[1].ranges()];
        let mut queues = [one.0.into_iter(), other.0.into_iter()];
        let mut seen = [vec![false; plans[0].len], vec![false; plans[1].len]];
        let mut turns = turns.into_iter().cycle();
        let mut carried: [Vec<(u64, std::ops::Range<u64>)>; 2] = Default::default();
        while queues.iter().any(|queue| queue.len() > 0) {
            let mut which = usize::from(turns.next().unwrap());
            if queues[which].len() == 0 {
                which = 1 - which;
            }
            let Some(range) = queues[which].next() else { continue };
            let direction = [Request, Response][which];
            let seq = plans[which].isn.wrapping_add(1).wrapping_add(range.start as u32);
            let outcome = send(&mut streams, &mut collected, direction, seq, ACK, &bytes[which][range.clone()]);
            let stream_range = range.start as u64..range.end as u64;
            prop_assert_eq!(&outcome.range, &stream_range);
            prop_assert!(outcome.noted);
            let new = seen[which][range.clone()].iter().any(|seen| !seen);
            seen[which][range].fill(true);
            match outcome.fate {
                Fate::New | Fate::Waits => prop_assert!(new),
                Fate::Old => prop_assert!(!new),
                other => prop_assert!(false, "{other:?}"),
            }
            carried[which].push((outcome.range.start, stream_range));
        }
        for (which, fin) in fins.into_iter().enumerate() {
            if fin {
                let end = plans[which].isn.wrapping_add(1).wrapping_add(plans[which].len as u32);
                send(&mut streams, &mut collected, [Request, Response][which], end, FIN | ACK, &[]);
            }
        }
        for (which, direction) in [Request, Response].into_iter().enumerate() {
            if let Some(stream) = streams.stream(id.unwrap(), direction) && !stream.ledger.is_empty() {
                let noted: Vec<_> = stream.ledger.iter().map(|(_, range)| range).collect();
                let expected: Vec<_> = carried[which].iter().map(|(_, range)| range.clone()).collect();
                prop_assert_eq!(noted, expected);
            }
        }
        streams.close_all(&mut collected);
        for (which, lost) in [one.1, other.1].iter().enumerate() {
            let mut expected: Vec<Option<u8>> = bytes[which]
                .iter()
                .zip(lost)
                .map(|(byte, lost)| (!lost).then_some(*byte))
                .collect();
            if !fins[which] {
                // What is lost at the end of a stream without end is not known.
                let known = expected.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
                expected.truncate(known);
            }
            prop_assert_eq!(&collected.bytes[which], &expected);
            prop_assert!(collected.ended[which]);
        }
        prop_assert_eq!((streams.waiting_bytes(), streams.packets(), streams.connections()), (0, 0, 0));
        prop_assert_eq!(streams.counts().conflicts, 0);
        prop_assert_eq!(streams.counts().dropped_bytes, 0);
    }

    /// V-22: without a SYN, and with the first segments in any order.
    #[test]
    fn a_stream_is_picked_up_in_its_middle(
        isn: u32,
        order in Just((0..6_u32).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let mut streams = Streams::new(&small()).unwrap();
        let mut collected = Collected::default();
        let mut id = None;
        for (turn, n) in order.into_iter().chain(6..20).enumerate() {
            let segment = Segment {
                direction: Response,
                seq: isn.wrapping_add(n * 700),
                ack: 0,
                flags: ACK,
                window: 0,
                scale: None,
                payload: &[n as u8; 700],
                time_ns: START + turn as u64 * 20 * MS,
                token: None,
            };
            streams.segment(&mut id, &segment, &mut collected);
            streams.advance(&mut collected);
        }
        let expected: Vec<Option<u8>> = (0..20).flat_map(|n| [Some(n); 700]).collect();
        prop_assert_eq!(&collected.bytes[1], &expected);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Whatever comes: no panic, bounds kept, offsets without holes (the recorder sees to that), books balanced.
    #[test]
    fn anything_is_survived_within_bounds(
        steps in prop::collection::vec(
            (
                0..12_usize,
                any::<bool>(),
                prop_oneof![4 => 0..5_000_u32, 1 => any::<u32>()],
                any::<u32>(),
                prop_oneof![6 => Just(ACK), 1 => Just(SYN), 1 => Just(SYN | ACK), 1 => Just(FIN | ACK), 1 => Just(RST), 1 => any::<u8>()],
                prop_oneof![9 => 0..4_usize, 6 => 0..1_500_usize, 1 => Just(65_535_usize)],
                prop_oneof![8 => 0..MS, 1 => 0..4 * S, 1 => 0..2_000 * S],
            ),
            1..200,
        ),
    ) {
        let limits = Limits {
            connections: 8,
            waiting_bytes: 2 * Limits::LEAST_WAITING,
            waiting_bytes_of_one: Limits::LEAST_WAITING,
            packets: 40,
            packets_of_one: 20,
            ..small()
        };
        let mut streams = Streams::new(&limits).unwrap();
        let bytes = streams.bytes();
        let mut recorder = Recorder::default();
        let mut ids = [None; 12];
        let mut time_ns = START;
        for (token, (which, response, seq, ack, flags, len, passed)) in steps.into_iter().enumerate() {
            time_ns += passed;
            let segment = Segment {
                direction: if response { Response } else { Request },
                seq, ack, flags, time_ns,
                window: ack as u16,
                scale: Some(seq as u8 % 15),
                payload: &vec![seq as u8; len],
                token: Some(token as u64),
            };
            let outcome = streams.segment(&mut ids[which], &segment, &mut recorder);
            prop_assert!(outcome.range.end - outcome.range.start <= len as u64);
            if token % 7 == 0 {
                streams.advance(&mut recorder);
            }
            prop_assert!(streams.waiting_bytes() <= limits.waiting_bytes);
            prop_assert!(streams.packets() <= limits.packets);
            prop_assert!(streams.connections() <= limits.connections);
            prop_assert_eq!(streams.bytes(), bytes);
            let counts = streams.counts();
            let ended = counts.over + counts.timed_out + counts.evicted + counts.closed;
            prop_assert_eq!(counts.opened, ended + streams.connections() as u64);
        }
        streams.close_all(&mut recorder);
        prop_assert_eq!((streams.waiting_bytes(), streams.packets(), streams.connections()), (0, 0, 0));
        let told: u64 = recorder.seen.iter().map(|(.., seen)| match seen {
            Seen::Data(_, text) => text.chars().count() as u64,
            _ => 0,
        }).sum();
        prop_assert_eq!(told, streams.counts().delivered_bytes);
    }
}

/// One-byte segments at every other place: each takes a page, so memory is used up soonest. No page is lost, and what it costs is bounded.
#[test]
fn one_byte_segments_keep_within_bounds() {
    let limits = Limits {
        waiting_bytes: 4 * Limits::LEAST_WAITING,
        waiting_bytes_of_one: Limits::LEAST_WAITING,
        ..small()
    };
    let mut wire = Wire::within(&limits);
    for _ in 0..8 {
        wire.id = None;
        wire.handshake(999, 4999);
        for n in 0..500 {
            assert_eq!(wire.data(1001 + n * 2, "x"), Fate::Waits);
            let pages = wire.streams.waiting_bytes();
            assert!(pages * 2048 <= limits.waiting_bytes);
        }
    }
    wire.streams.close_all(&mut wire.recorder);
    assert_eq!(wire.streams.counts().delivered_bytes, 8 * 500);
    assert_eq!(wire.streams.counts().dropped_bytes, 0);
}

#[test]
fn times_that_leap_end_no_more_than_they_must() {
    let mut wire = Wire::opened();
    wire.data(1000, "abc");
    // Another file, years later: the clock goes on from there.
    wire.time_ns += Duration::from_secs(3 * 365 * 86_400).as_nanos() as u64;
    wire.data(1003, "def");
    wire.time_ns = START;
    wire.data(1006, "ghi");
    assert_eq!(wire.requests(), [data(0, "abcdefghi")]);
}
