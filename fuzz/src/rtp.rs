//! Any payloads as RTP and RTCP, and any sequence of numbers and times as a stream.

use std::collections::HashSet;

use lc_workerd::rtp::{Header, Stream, control_type, static_clock_rate};

use crate::Input;

const MILLISECOND: u64 = 1_000_000;
/// As [`Stream`] takes it: larger leaps forward, and packets that are later, begin the source anew.
const MOST_AHEAD: i64 = 3000;
const MOST_BEHIND: i64 = 63;

/// `bytes`: clock rate; then payloads, or four bytes each that describe the next packet of the stream.
pub fn check(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let clock_rate = static_clock_rate(input.u8()).unwrap_or(0);
    let mut model: Option<(Stream, Model)> = None;
    let (mut time_ns, mut timestamp, mut sequence) = (1_700_000_000_000 * MILLISECOND, 0u32, 0u16);
    while !input.is_empty() {
        let kind = input.u8();
        if kind == 0xff {
            look(input.packet());
            continue;
        }
        let step = input.u16();
        sequence = sequence.wrapping_add(match kind & 3 {
            0 => 1,
            1 => step % 70,
            2 => (step % 80).wrapping_neg(),
            _ => step,
        });
        timestamp = timestamp.wrapping_add(match kind & 4 {
            0 => 160,
            _ => u32::from(step) << (kind >> 4),
        });
        let late = input.u8();
        time_ns = match kind & 8 {
            0 => time_ns + u64::from(late) * MILLISECOND,
            _ => time_ns.saturating_sub(u64::from(late) << (kind >> 3)),
        };
        let mut packet = vec![0x80, 0];
        packet.extend(sequence.to_be_bytes());
        packet.extend(timestamp.to_be_bytes());
        packet.extend([0, 0, 0, 1]);
        let header = Header::read(&packet).expect("a header");
        assert_eq!((header.sequence, header.timestamp), (sequence, timestamp));
        match &mut model {
            None => {
                let stream = Stream::begin(&header, clock_rate, time_ns);
                model = Some((stream, Model::new(sequence)));
            }
            Some((stream, model)) => {
                stream.observe(&header, time_ns);
                model.observe(sequence);
                model.compare(stream);
            }
        }
    }
}

/// Everything that is asked of a payload.
fn look(payload: &[u8]) {
    let header = Header::read(payload);
    let control = control_type(payload);
    assert!(header.is_none() || control.is_none());
    if let Some(header) = header {
        assert!(header.len >= 12 && header.payload_type < 128);
        let mut stream = Stream::begin(&header, 8_000, 0);
        stream.observe(&header, u64::MAX);
        assert_eq!(
            (stream.received(), stream.repeated(), stream.lost()),
            (2, 1, 0)
        );
    }
    assert!(control.is_none_or(|control| (192..=223).contains(&control)));
}

/// The same in a simpler way: with numbers that don't wrap, all of which are kept.
struct Model {
    highest: i64,
    first: i64,
    seen: HashSet<i64>,
    lost_before: u64,
    received: u64,
    reordered: u32,
    repeated: u32,
    restarts: u32,
}

impl Model {
    fn new(sequence: u16) -> Self {
        Self {
            highest: sequence.into(),
            first: sequence.into(),
            seen: HashSet::from([sequence.into()]),
            lost_before: 0,
            received: 1,
            reordered: 0,
            repeated: 0,
            restarts: 0,
        }
    }

    fn observe(&mut self, sequence: u16) {
        self.received += 1;
        let step = sequence.wrapping_sub(self.highest as u16);
        let step = match i64::from(step) {
            ahead if ahead < MOST_AHEAD => ahead,
            far => far - 0x1_0000,
        };
        let number = self.highest + step;
        if step < -MOST_BEHIND {
            self.lost_before = self.lost();
            self.restarts += 1;
            (self.highest, self.first) = (sequence.into(), sequence.into());
            self.seen = HashSet::from([sequence.into()]);
            return;
        }
        match (self.seen.insert(number), step < 0) {
            (false, _) => self.repeated += 1,
            (true, true) => self.reordered += 1,
            (true, false) => {}
        }
        self.highest = self.highest.max(number);
        self.first = self.first.min(number);
    }

    fn lost(&self) -> u64 {
        let expected = (self.highest - self.first + 1) as u64;
        self.lost_before + expected - self.seen.len() as u64
    }

    fn compare(&self, stream: &Stream) {
        let counts = (
            stream.received(),
            stream.lost(),
            stream.reordered(),
            stream.repeated(),
            stream.restarts(),
        );
        let expected = (
            self.received,
            self.lost(),
            self.reordered,
            self.repeated,
            self.restarts,
        );
        assert_eq!(counts, expected);
        let _ = stream.jitter_us();
    }
}
