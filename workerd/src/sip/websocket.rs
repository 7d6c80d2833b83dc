//! SIP messages of a WebSocket connection (RFC 7118), in one direction.
//!
//! The HTTP head that opens the connection is read first (RFC 6455 section 4); then every WebSocket message is one SIP message. Frames
//! are unmasked and put together; control frames between them are skipped. An unmasked message in one frame and one chunk is not
//! copied.
//!
//! Behind a gap within a frame's payload, the next frame is found, because the length is known; behind any other gap, and behind bytes
//! that are no frames, nothing is: the stream is [`Event::NotSip`]. Compressed messages are recognised, counted and skipped. A
//! connection that carries too much else ([`Limits::between`]) is not SIP.
//!
//! Memory: at most [`Limits::message`] bytes, or [`LONGEST_HEAD`] if that is more.

use super::framer::{Damage, Event, Framed, KEPT, Limits, may_start};
use super::lines::{next_logical_line, split_header, split_line};
use super::message::{Form, start_line};

/// Longest HTTP head, in bytes.
pub const LONGEST_HEAD: usize = 16 << 10;
/// Longest header of a frame.
const LONGEST_HEADER: usize = 14;
/// Longest start line that [`may_begin`] knows.
const LONGEST_FIRST_LINE: usize = 512;
/// Most bytes of a stream that it takes to tell whether it begins with a frame with SIP in it.
pub(super) const LONGEST_BEGINNING: usize = LONGEST_HEADER + LONGEST_FIRST_LINE;
/// Longest payload of a control frame.
const LONGEST_CONTROL: u64 = 125;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Opening,
    /// Within a frame's header, of which so many bytes are in `header`.
    Header(usize),
    Payload(Frame),
    NotSip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Frame {
    left: u64,
    key: Option<[u8; 4]>,
    /// Bytes of the payload so far, for the mask.
    done: usize,
    is_control: bool,
    is_last: bool,
}

/// See the module.
#[derive(Debug)]
pub struct WebSocket {
    limits: Limits,
    state: State,
    header: [u8; LONGEST_HEADER],
    /// The HTTP head, or the message so far.
    buffer: Vec<u8>,
    /// Whether the buffer was told of and is not needed any more.
    told: bool,
    /// Offset of the next byte.
    offset: u64,
    /// Where the first frame of the message begins; `None` between messages.
    message: Option<u64>,
    /// Why the message is not wanted.
    damage: Option<Damage>,
    foreign: usize,
}

impl WebSocket {
    /// For a stream that is seen from its start. `offset`: of its first byte.
    #[must_use]
    pub fn new(limits: Limits, offset: u64) -> Self {
        Self {
            limits,
            state: State::Opening,
            header: [0; LONGEST_HEADER],
            buffer: Vec::new(),
            told: false,
            offset,
            message: None,
            damage: None,
            foreign: 0,
        }
    }

    /// For a stream that is joined where a frame begins.
    #[must_use]
    pub fn joined(limits: Limits, offset: u64) -> Self {
        Self {
            state: State::Header(0),
            ..Self::new(limits, offset)
        }
    }

    /// What comes next; takes what it needs off the chunk, and all of it before it returns `None`. A message's range is that of its
    /// frames; its bytes are without their headers and masks.
    pub fn next<'f, 'c: 'f>(&'f mut self, chunk: &mut &'c [u8]) -> Option<Event<'f>> {
        if std::mem::take(&mut self.told) {
            self.forget();
        }
        loop {
            match self.state {
                State::NotSip => {
                    self.take(chunk, chunk.len());
                    return None;
                }
                State::Payload(frame) if frame.left == 0 || !chunk.is_empty() => {
                    let part = chunk
                        .len()
                        .min(usize::try_from(frame.left).unwrap_or(usize::MAX));
                    let bytes = self.take(chunk, part);
                    let is_whole = part as u64 == frame.left;
                    self.state = match is_whole {
                        true => State::Header(0),
                        false => State::Payload(Frame {
                            left: frame.left - part as u64,
                            done: frame.done + part,
                            ..frame
                        }),
                    };
                    let ends = is_whole && frame.is_last && !frame.is_control;
                    let in_place =
                        ends && frame.done == 0 && frame.key.is_none() && self.buffer.is_empty();
                    if !frame.is_control && self.damage.is_none() && !in_place {
                        self.keep(bytes, frame);
                    }
                    if !ends {
                        continue;
                    }
                    let range = self.message.take().unwrap_or(self.offset)..self.offset;
                    if let Some(damage) = self.damage.take() {
                        self.forget();
                        let bytes = &[][..];
                        return Some(Event::Damaged(Framed { bytes, range }, damage));
                    }
                    let message = if in_place { bytes } else { &self.buffer[..] };
                    if is_sip(message) {
                        self.foreign = 0;
                        self.told = !in_place;
                        let bytes = if in_place { bytes } else { &self.buffer[..] };
                        return Some(Event::Message(Framed { bytes, range }));
                    }
                    // Line ends are keep-alives (RFC 7118 section 6).
                    self.foreign += message.trim_ascii().len();
                    self.forget();
                    if self.foreign > self.limits.between {
                        self.state = State::NotSip;
                    }
                }
                _ if chunk.is_empty() => return None,
                State::Opening => self.open(chunk),
                State::Header(have) => self.read_header(chunk, have),
                State::Payload(_) => return None,
            }
            if self.state == State::NotSip {
                self.buffer = Vec::new();
                return Some(Event::NotSip);
            }
        }
    }

    /// So many bytes of the stream are missing. To be called when [`WebSocket::next`] has nothing more.
    pub fn gap(&mut self, missing: u64) -> Option<Event<'_>> {
        let before = self.offset;
        self.offset += missing;
        match self.state {
            State::NotSip => None,
            State::Payload(frame) if missing <= frame.left => {
                if !frame.is_control {
                    self.damage = self.damage.or(Some(Damage::Gap));
                    self.buffer.clear();
                }
                let left = frame.left - missing;
                self.state = State::Payload(Frame { left, ..frame });
                if left == 0 {
                    self.state = State::Header(0);
                    if frame.is_last && !frame.is_control {
                        let range = self.message.take().unwrap_or(before)..self.offset;
                        let damage = self.damage.take().unwrap_or(Damage::Gap);
                        return Some(Event::Damaged(Framed { bytes: &[], range }, damage));
                    }
                }
                None
            }
            _ => {
                self.state = State::NotSip;
                self.buffer = Vec::new();
                Some(Event::NotSip)
            }
        }
    }

    /// Offset before which all is told: where the message begins that is not whole, or what comes next.
    #[must_use]
    pub fn settled(&self) -> u64 {
        let pending = match self.state {
            State::Opening => self.buffer.len(),
            State::Header(have) => have,
            State::Payload(_) | State::NotSip => 0,
        };
        self.message.unwrap_or(self.offset - pending as u64)
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    fn take<'c>(&mut self, chunk: &mut &'c [u8], count: usize) -> &'c [u8] {
        let (part, rest) = chunk.split_at(count);
        *chunk = rest;
        self.offset += count as u64;
        part
    }

    fn forget(&mut self) {
        self.buffer.clear();
        if self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
    }

    /// Collects the HTTP head, a line at a time.
    fn open(&mut self, chunk: &mut &[u8]) {
        let end = memchr::memchr(b'\n', chunk).map_or(chunk.len(), |at| at + 1);
        let part = self.take(chunk, end.min(LONGEST_HEAD + 1 - self.buffer.len()));
        self.buffer.extend_from_slice(part);
        if self.buffer.ends_with(b"\n\r\n") || self.buffer.ends_with(b"\n\n") {
            self.state = match opens(&self.buffer) {
                true => State::Header(0),
                false => State::NotSip,
            };
            self.forget();
        } else if self.buffer.len() > LONGEST_HEAD || !may_open(&self.buffer) {
            self.state = State::NotSip;
        }
    }

    /// Collects a frame's header (RFC 6455 section 5.2).
    fn read_header(&mut self, chunk: &mut &[u8], have: usize) {
        let wanted = match have {
            0 | 1 => 2,
            _ => header_len(self.header[1]),
        };
        let part = self.take(chunk, chunk.len().min(wanted - have));
        self.header[have..have + part.len()].copy_from_slice(part);
        let have = have + part.len();
        self.state = State::Header(have);
        if have >= 2 && have == header_len(self.header[1]) {
            self.begin_frame();
        }
    }

    fn begin_frame(&mut self) {
        let [first, second, ..] = self.header;
        let (is_last, reserved, opcode) = (first & 0x80 != 0, first >> 4 & 7, first & 15);
        let left = payload_len(&self.header);
        let is_control = opcode & 8 != 0;
        let starts = matches!(opcode, 1 | 2);
        // Messages don't nest, and go on only where one began. The first reserved bit is compression, of whole messages.
        let in_message = self.message.is_some();
        let is_sound = match opcode {
            0 => in_message && reserved == 0,
            1 | 2 => !in_message && reserved & 3 == 0,
            8..=10 => is_last && reserved == 0 && left <= LONGEST_CONTROL,
            _ => false,
        };
        if !is_sound || left >> 63 != 0 {
            self.state = State::NotSip;
            return;
        }
        let len = header_len(second);
        if starts {
            self.message = Some(self.offset - len as u64);
            self.damage = (reserved != 0).then_some(Damage::Compressed);
        }
        let key = self.header[..len].last_chunk();
        let key = key.filter(|_| second & 0x80 != 0).copied();
        self.state = State::Payload(Frame {
            left,
            key,
            done: 0,
            is_control,
            is_last,
        });
    }

    fn keep(&mut self, bytes: &[u8], frame: Frame) {
        if self.buffer.len() + bytes.len() > self.limits.message {
            self.damage = Some(Damage::Size);
            self.forget();
            return;
        }
        let needed = self.buffer.len() + bytes.len();
        if needed > self.buffer.capacity() {
            let wished = (self.buffer.capacity() * 2).min(self.limits.message);
            self.buffer
                .reserve_exact(needed.max(wished) - self.buffer.len());
        }
        match frame.key {
            None => self.buffer.extend_from_slice(bytes),
            Some(key) => {
                let key = key.iter().cycle().skip(frame.done % 4);
                self.buffer
                    .extend(bytes.iter().zip(key).map(|(byte, key)| byte ^ key));
            }
        }
    }
}

/// Length of a frame's header, by its second byte.
fn header_len(second: u8) -> usize {
    let length = match second & 127 {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    2 + length + if second & 0x80 == 0 { 0 } else { 4 }
}

/// Length of a frame's payload, by its header, which is whole.
fn payload_len(header: &[u8]) -> u64 {
    let extended = match header[1] & 127 {
        126 => &header[2..4],
        127 => &header[2..10],
        length => return u64::from(length),
    };
    extended
        .iter()
        .fold(0, |length, byte| length << 8 | u64::from(*byte))
}

/// Whether the bytes begin with a frame whose payload begins with a start line of SIP, which need not be whole.
#[must_use]
pub fn may_begin(bytes: &[u8]) -> bool {
    let mut line = [0; LONGEST_FIRST_LINE];
    first_line(bytes, &mut line).is_some_and(|(line, _)| is_sip(line))
}

/// As [`may_begin`], for the first bytes of a stream: `None` as long as further ones can change the answer. So many as
/// [`LONGEST_BEGINNING`] always suffice.
pub(super) fn begins(bytes: &[u8]) -> Option<bool> {
    let may_be_frame = |first: &u8| matches!(first, 0x01 | 0x02 | 0x81 | 0x82);
    if !bytes.first().is_some_and(may_be_frame) {
        return (!bytes.is_empty()).then_some(false);
    }
    if bytes.len() < 2 || bytes.len() < header_len(bytes[1]) {
        return None;
    }
    let mut line = [0; LONGEST_FIRST_LINE];
    let Some((line, is_all)) = first_line(bytes, &mut line) else {
        return Some(false);
    };
    let start = line.trim_ascii_start();
    match is_all || start.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        true => Some(is_sip(line)),
        false if may_start(start) => None,
        false => Some(false),
    }
}

/// The payload of the frame that the bytes begin with, unmasked, as far as it is there and fits into `line`; and whether none of it that
/// would fit is missing.
fn first_line<'l>(
    bytes: &[u8],
    line: &'l mut [u8; LONGEST_FIRST_LINE],
) -> Option<(&'l [u8], bool)> {
    let [0x01 | 0x02 | 0x81 | 0x82, second, ..] = *bytes else {
        return None;
    };
    let (header, payload) = bytes.split_at_checked(header_len(second))?;
    let length = payload_len(header);
    if length >> 63 != 0 {
        return None;
    }
    let wanted = usize::try_from(length).map_or(line.len(), |length| length.min(line.len()));
    let part = &payload[..payload.len().min(wanted)];
    let line = &mut line[..part.len()];
    line.copy_from_slice(part);
    if let Some(key) = header.last_chunk::<4>().filter(|_| second & 0x80 != 0) {
        let key = key.iter().cycle();
        line.iter_mut()
            .zip(key)
            .for_each(|(byte, key)| *byte ^= key);
    }
    Some((line, part.len() == wanted))
}

/// Whether a message is SIP.
pub(super) fn is_sip(message: &[u8]) -> bool {
    let first = split_line(message.trim_ascii_start());
    first.is_some_and(|(line, _)| start_line(line).is_some_and(|(_, form)| form >= Form::Loose))
}

/// Whether an HTTP head may begin so.
fn may_open(head: &[u8]) -> bool {
    [&b"GET "[..], b"HTTP/1.1 101"].iter().any(|start| {
        let len = start.len().min(head.len());
        head[..len] == start[..len]
    })
}

/// Whether an HTTP head, of the request or of the response, opens a WebSocket connection for SIP (RFC 7118 section 4.1).
fn opens(head: &[u8]) -> bool {
    let Some((_, mut rest)) = split_line(head) else {
        return false;
    };
    let (mut upgrades, mut for_sip) = (false, false);
    while let Some(line) = next_logical_line(&mut rest) {
        let Some((name, value)) = split_header(line) else {
            continue;
        };
        let has = |word: &[u8]| {
            let words = value.split(|byte| *byte == b',');
            words
                .map(<[u8]>::trim_ascii)
                .any(|one| one.eq_ignore_ascii_case(word))
        };
        if name.eq_ignore_ascii_case(b"upgrade") {
            upgrades |= has(b"websocket");
        } else if name.eq_ignore_ascii_case(b"sec-websocket-protocol") {
            for_sip |= has(b"sip");
        }
    }
    may_open(head) && upgrades && for_sip
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ops::Range;

    const REQUEST: &[u8] =
        b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Protocol: other, SIP\r\n\r\n";
    const RESPONSE: &[u8] =
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
    const BYE: &[u8] = b"BYE sip:b@x SIP/2.0\r\nCall-ID: ws\r\n\r\n";

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Message(Vec<u8>, Range<u64>),
        Damaged(Range<u64>, Damage),
        NotSip,
    }

    fn feed(socket: &mut WebSocket, mut chunk: &[u8]) -> Vec<Seen> {
        let mut all = vec![];
        while let Some(event) = socket.next(&mut chunk) {
            all.push(seen(event));
        }
        assert!(chunk.is_empty());
        all
    }

    fn seen(event: Event<'_>) -> Seen {
        match event {
            Event::Message(one) => Seen::Message(one.bytes.to_vec(), one.range),
            Event::Damaged(one, damage) => Seen::Damaged(one.range, damage),
            Event::NotSip => Seen::NotSip,
        }
    }

    fn frame(first: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        let mask = if masked { 0x80 } else { 0 };
        match payload.len() {
            len @ 0..126 => frame.push(mask | len as u8),
            len @ 126..65536 => {
                frame.push(mask | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            len => {
                frame.push(mask | 127);
                frame.extend((len as u64).to_be_bytes());
            }
        }
        let key = [1, 2, 3, 4];
        if masked {
            frame.extend(key);
            frame.extend(
                payload
                    .iter()
                    .zip(key.iter().cycle())
                    .map(|(byte, key)| byte ^ key),
            );
        } else {
            frame.extend(payload);
        }
        frame
    }

    #[test]
    fn messages_are_put_together() {
        let large = [BYE, &[b'x'; 70_000]].concat();
        for (head, masked) in [(REQUEST, true), (RESPONSE, false)] {
            let frames = [
                frame(0x81, masked, BYE),
                frame(0x02, masked, &BYE[..5]),
                frame(0x89, masked, b"ping"),
                frame(0x00, masked, b""),
                frame(0x80, masked, &BYE[5..]),
                frame(0x81, masked, b"\r\n\r\n"),
                frame(0x81, masked, b"{}"),
                frame(0x82, masked, &large),
            ];
            let at = |number: usize| {
                (head.len() + frames[..number].iter().map(Vec::len).sum::<usize>()) as u64
            };
            let expected = [
                Seen::Message(BYE.to_vec(), at(0)..at(1)),
                Seen::Message(BYE.to_vec(), at(1)..at(5)),
                Seen::Message(large.clone(), at(7)..at(8)),
            ];
            let stream = [head, &frames.concat()].concat();
            for size in [usize::MAX, 1, 11] {
                let mut socket = WebSocket::new(Limits::default(), 0);
                let all: Vec<_> = stream
                    .chunks(size)
                    .flat_map(|chunk| feed(&mut socket, chunk))
                    .collect();
                assert_eq!(all, expected);
                assert!(feed(&mut socket, b"").is_empty() && socket.held() <= KEPT);
            }
        }
    }

    #[test]
    fn what_is_no_websocket_for_sip_is_refused() {
        let other = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n\r\n";
        let plain = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        let endless = [&b"GET / HTTP/1.1\r\n"[..], &b"x: y\r\n".repeat(10_000)].concat();
        for head in [&other[..], plain, &endless, b"HTTP/1.1 200", b"\x16\x03"] {
            assert_eq!(
                feed(&mut WebSocket::new(Limits::default(), 0), head),
                [Seen::NotSip]
            );
        }
        for bad in [
            frame(0x83, false, b""),       // reserved opcode
            frame(0xa1, false, b""),       // reserved bit
            frame(0x80, false, b""),       // continues nothing
            frame(0x09, false, b""),       // a control frame in parts
            frame(0x89, false, &[0; 126]), // a long one
            [frame(0x01, false, b"B"), frame(0x81, false, BYE)].concat(), // a message within another
            vec![0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0],                   // an impossible length
        ] {
            let stream = [RESPONSE, &bad, &frame(0x81, false, BYE)].concat();
            assert_eq!(
                feed(&mut WebSocket::new(Limits::default(), 0), &stream),
                [Seen::NotSip],
                "{bad:x?}"
            );
        }
        let chat = frame(0x81, false, &[b'x'; 1000]).repeat(66);
        let mut socket = WebSocket::new(Limits::default(), 0);
        assert_eq!(
            feed(&mut socket, &[RESPONSE, &chat].concat()),
            [Seen::NotSip]
        );
    }

    #[test]
    fn unwanted_messages_are_skipped() {
        let limits = Limits {
            message: 100,
            ..Limits::default()
        };
        let frames = [
            frame(0xc1, false, b"compressed"),
            frame(0x01, false, &[b'x'; 90]),
            frame(0x00, false, &[b'x'; 90]),
            frame(0x80, false, &[b'x'; 90]),
            frame(0x81, false, BYE),
        ];
        let stream = [RESPONSE, &frames.concat()].concat();
        let mut socket = WebSocket::new(limits, 0);
        let all = feed(&mut socket, &stream);
        assert!(matches!(all[0], Seen::Damaged(_, Damage::Compressed)));
        assert!(matches!(all[1], Seen::Damaged(_, Damage::Size)));
        assert!(matches!(all[2], Seen::Message(..)));
        assert_eq!((all.len(), socket.held() <= KEPT), (3, true));
    }

    #[test]
    fn a_gap_in_a_payload_costs_its_message() {
        let bye = frame(0x81, true, BYE);
        let stream = [REQUEST, &bye, &bye].concat();
        let end = REQUEST.len() + bye.len();
        for (from, to, found) in [
            (end - 10, end - 3, true),
            (end - 10, end, true),
            (end - 10, end + 1, false),
            (20, 21, false),
        ] {
            let mut socket = WebSocket::new(Limits::default(), 0);
            let mut all = feed(&mut socket, &stream[..from]);
            all.extend(socket.gap((to - from) as u64).map(seen));
            all.extend(feed(&mut socket, &stream[to..]));
            let range = |at: usize| at as u64..(at + bye.len()) as u64;
            let expected = match found {
                true => vec![
                    Seen::Damaged(range(REQUEST.len()), Damage::Gap),
                    Seen::Message(BYE.to_vec(), range(end)),
                ],
                false => vec![Seen::NotSip],
            };
            assert_eq!(all, expected);
        }
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            frames in prop::collection::vec(
                (prop::sample::select(vec![0x81, 0x82, 0x01, 0x00, 0x80, 0x89, 0x88, 0xc1, 0x83]), any::<bool>(), 0..3_usize),
                0..12,
            ),
            noise in prop::collection::vec(any::<u8>(), 0..20),
            size in 1..30_usize,
        ) {
            let payload = |which| [BYE, b"", b"hello"][which];
            let frames: Vec<u8> = frames.iter().flat_map(|(first, masked, which)| frame(*first, *masked, payload(*which))).collect();
            let stream = [RESPONSE, &frames, &noise].concat();
            let limits = Limits { message: 60, between: 30, ..Limits::default() };
            let whole = feed(&mut WebSocket::new(limits, 3), &stream);
            let mut socket = WebSocket::new(limits, 3);
            let parts: Vec<_> = stream.chunks(size).flat_map(|chunk| feed(&mut socket, chunk)).collect();
            prop_assert_eq!(parts, whole);
            prop_assert!(socket.held() <= KEPT.max(LONGEST_HEAD * 2));
        }
    }
}
