//! Any bytes as segments of a few TCP connections.

use lc_daemon::config::TcpSilence;
use lc_workerd::flows::Direction;
use lc_workerd::reassembly::{Consumer, Event, Interest, Limits, Segment, Stream, Streams};

/// Bytes that describe a segment.
const STEP: usize = 12;
const CONNECTIONS: usize = 6;
const MS: u64 = 1_000_000;

/// Checks what it is told: offsets have neither holes nor repetitions, and nothing follows an end.
#[derive(Default)]
struct Careful {
    delivered: u64,
}

/// Of each direction: the offset that is next, if any was, and whether it has ended.
#[derive(Default)]
struct Position([(Option<u64>, bool); 2]);

impl Consumer for Careful {
    type State = Position;

    fn take(&mut self, mut stream: Stream<'_, Position>, event: Event<'_>) -> Interest {
        let Position(directions) = stream.state;
        let (next, ended) = &mut directions[stream.direction as usize];
        let (offset, len) = match event {
            Event::Data { offset, bytes } => (offset, bytes.len() as u64),
            Event::Gap { offset, len } => (offset, len.unwrap_or(0)),
            Event::End { offset, .. } => (offset, 0),
        };
        assert!(!*ended && next.is_none_or(|next| next == offset));
        *next = Some(offset + len);
        *ended = matches!(event, Event::End { .. });
        let Event::Data { bytes, .. } = event else {
            return Interest::Follow;
        };
        self.delivered += len;
        let carriers = stream.ledger.carriers(offset..offset + len).count();
        assert!(carriers <= stream.ledger.len());
        match bytes[0] {
            250 => stream.ledger.forget(offset, |_| {}),
            251 => return Interest::IgnoreDirection,
            252 => return Interest::IgnoreConnection,
            _ => {}
        }
        Interest::Follow
    }
}

/// Takes in the segments that `bytes` describe, twelve bytes each, within bounds that are soon reached. Memory stays within them, and every connection that
/// begins ends once.
pub fn check(bytes: &[u8]) {
    let limits = Limits {
        connections: 4,
        waiting_bytes: 2 * Limits::LEAST_WAITING,
        waiting_bytes_of_one: Limits::LEAST_WAITING,
        packets: 24,
        packets_of_one: 16,
        silence: TcpSilence::BY_STATE,
        ..Limits::default()
    };
    let mut streams = Streams::new(&limits).expect("a little memory");
    let mut consumer = Careful::default();
    let mut ids = [None; CONNECTIONS];
    let mut time_ns = 1_767_225_600_000 * MS;
    for (token, step) in bytes.chunks_exact(STEP).enumerate() {
        let word =
            |at: usize| u32::from_be_bytes([step[at], step[at + 1], step[at + 2], step[at + 3]]);
        let kind = step[0];
        // Mostly a moment, seldom minutes.
        time_ns += match kind >> 6 {
            3 => u64::from(step[11]) * 10_000 * MS,
            passed => u64::from(passed) * 50 * MS,
        };
        let len = match kind & 0x10 {
            0 => usize::from(step[10]),
            _ => usize::from(step[10]) << 8,
        };
        let payload = vec![step[11]; len];
        let segment = Segment {
            direction: match kind & 0x20 {
                0 => Direction::Request,
                _ => Direction::Response,
            },
            seq: word(2),
            ack: word(6),
            flags: step[1],
            window: u16::from(step[11]) << 8,
            scale: Some(step[11] % 15),
            payload: &payload,
            time_ns,
            token: Some(token as u64),
        };
        let id = &mut ids[usize::from(kind & 15) % CONNECTIONS];
        let outcome = streams.segment(id, &segment, &mut consumer);
        assert!(outcome.range.end - outcome.range.start <= len as u64);
        if kind & 1 == 0 {
            streams.advance(&mut consumer);
        }
        assert!(streams.waiting_bytes() <= limits.waiting_bytes);
        assert!(streams.packets() <= limits.packets);
        assert!(streams.connections() <= limits.connections);
    }
    streams.close_all(&mut consumer);
    let left = (
        streams.waiting_bytes(),
        streams.packets(),
        streams.connections(),
    );
    assert_eq!(left, (0, 0, 0));
    let counts = streams.counts();
    let ended = counts.over + counts.timed_out + counts.evicted + counts.closed;
    assert_eq!(counts.opened, ended);
    assert_eq!(counts.delivered_bytes, consumer.delivered);
}
