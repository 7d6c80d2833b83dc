//! SIP messages of a TCP connection, in one direction: bare or in a WebSocket.

use super::framer::{Event, Framer, Limits};
use super::websocket::{self, LONGEST_BEGINNING, WebSocket};

/// Longest start line that [`may_begin`] knows.
const LONGEST_FIRST_LINE: usize = 2048;

/// Whether a message of SIP begins at the start of `bytes`, bare or in a WebSocket frame. Costs nothing for most other protocols.
#[must_use]
#[inline]
pub fn may_begin(bytes: &[u8]) -> bool {
    match bytes.first() {
        Some(b'A'..=b'Z' | b's') => {
            websocket::is_sip(&bytes[..bytes.len().min(LONGEST_FIRST_LINE)])
        }
        Some(0x01 | 0x02 | 0x81 | 0x82) => websocket::may_begin(bytes),
        _ => false,
    }
}

/// Finds the messages of a stream. The first byte tells what it carries: no start line of SIP begins as those of HTTP do. A stream that is
/// joined in its middle is in WebSocket frames if its first bytes are one with SIP in it: bytes that may be are held until they tell.
#[derive(Debug)]
pub enum Stream {
    /// What it carries is not known.
    New(Beginning),
    /// Messages one after the other.
    Bare(Framer),
    /// Messages in WebSocket frames.
    WebSocket(WebSocket),
}

/// The first bytes of a stream.
#[derive(Debug)]
pub struct Beginning {
    limits: Limits,
    /// Offset of the first one.
    offset: u64,
    /// Whether that is the stream's first.
    from_start: bool,
    /// Those that don't tell, fewer than [`websocket::LONGEST_BEGINNING`]: all that came.
    seen: Vec<u8>,
}

impl Stream {
    /// For a stream that is seen from its start, or (`from_start` is false) joined anywhere. `offset`: of its first byte.
    #[must_use]
    pub fn new(limits: Limits, offset: u64, from_start: bool) -> Self {
        Self::New(Beginning {
            limits,
            offset,
            from_start,
            seen: Vec::new(),
        })
    }

    /// See [`Framer::next`] and [`WebSocket::next`].
    pub fn next<'f, 'c: 'f>(&'f mut self, chunk: &mut &'c [u8]) -> Option<Event<'f>> {
        if let Self::New(beginning) = self {
            *self = beginning.told_by(chunk)?;
        }
        match self {
            Self::New(_) => None,
            Self::Bare(framer) => framer.next(chunk),
            Self::WebSocket(socket) => socket.next(chunk),
        }
    }

    /// See [`Framer::gap`] and [`WebSocket::gap`].
    pub fn gap(&mut self, missing: u64) -> Option<Event<'_>> {
        if let Self::New(beginning) = self {
            if beginning.seen.is_empty() {
                beginning.offset += missing;
                beginning.from_start = false;
                return None;
            }
            let in_frames = websocket::may_begin(&beginning.seen);
            *self = beginning.joined(in_frames);
        }
        match self {
            Self::New(_) => None,
            Self::Bare(framer) => framer.gap(missing),
            Self::WebSocket(socket) => socket.gap(missing),
        }
    }

    /// Offset before which all is told: where the message begins that is not whole, or what comes next.
    #[must_use]
    pub fn settled(&self) -> u64 {
        match self {
            Self::New(beginning) => beginning.offset,
            Self::Bare(framer) => framer.settled(),
            Self::WebSocket(socket) => socket.settled(),
        }
    }

    /// Bytes of memory that it holds, besides itself.
    #[must_use]
    pub fn held(&self) -> usize {
        match self {
            Self::New(beginning) => beginning.seen.capacity(),
            Self::Bare(framer) => framer.held(),
            Self::WebSocket(socket) => socket.held(),
        }
    }
}

impl Beginning {
    /// The stream that these bytes and the chunk begin, which is left as it is; `None`, and the chunk is taken, if they don't tell.
    fn told_by(&mut self, chunk: &mut &[u8]) -> Option<Stream> {
        let first = *chunk.first()?;
        if self.from_start {
            return Some(match first {
                b'G' | b'H' => Stream::WebSocket(WebSocket::new(self.limits, self.offset)),
                _ => Stream::Bare(Framer::new(self.limits, self.offset)),
            });
        }
        let before = self.seen.len();
        let in_frames = if before == 0 {
            websocket::begins(chunk)
        } else {
            let part = chunk.len().min(LONGEST_BEGINNING - before);
            self.seen.extend_from_slice(&chunk[..part]);
            let in_frames = websocket::begins(&self.seen);
            self.seen.truncate(before);
            in_frames
        };
        if in_frames.is_none() {
            self.seen.extend_from_slice(chunk);
            *chunk = &[];
        }
        in_frames.map(|in_frames| self.joined(in_frames))
    }

    fn joined(&mut self, in_frames: bool) -> Stream {
        let seen = std::mem::take(&mut self.seen);
        if !in_frames {
            return Stream::Bare(Framer::joined_behind(self.limits, self.offset, seen));
        }
        // Bytes that don't tell are less than the first frame, so nothing is told of them.
        let mut socket = WebSocket::joined(self.limits, self.offset);
        let _ = socket.next(&mut &seen[..]);
        Stream::WebSocket(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_tells_what_a_stream_carries() {
        let message = b"BYE sip:b@x SIP/2.0\r\n\r\n";
        let opening =
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
        let framed = [opening, &[0x81, message.len() as u8][..], message].concat();
        for (bytes, from_start, found) in [
            (&message[..], true, true),
            (message, false, true),
            (&framed, true, true),
            (b"HTTP/1.1 200 OK\r\n\r\n", true, false),
        ] {
            let mut stream = Stream::new(Limits::default(), 0, from_start);
            let mut chunk = bytes;
            let event = stream.next(&mut chunk);
            assert_eq!(
                matches!(event, Some(Event::Message(one)) if one.bytes == message),
                found
            );
        }
        let mut stream = Stream::new(Limits::default(), 0, true);
        assert_eq!(stream.gap(7), None);
        let event = stream.next(&mut &message[..]);
        assert!(matches!(event, Some(Event::Message(one)) if one.range.start == 7));
    }

    #[test]
    fn a_frame_that_is_joined_in_pieces_is_one() {
        let message = b"BYE sip:b@x SIP/2.0\r\n\r\n";
        let masked = message.map(|byte| byte ^ b'*');
        let frame = [&[0x82, message.len() as u8][..], message].concat();
        let with_key = [&[0x81, 0x80 | message.len() as u8], &b"****"[..], &masked].concat();
        let no_frame = [&b"\x81 8 y "[..], b"no\r\n", message].concat();
        let short = [&[0x81, 3][..], b"BYE\r\n", message].concat();
        let endless = [
            &[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0][..],
            b"\r\n",
            message,
        ]
        .concat();
        let blank = [&[0x82, 126, 9, 9][..], &[b' '; 600], b"\r\n", message].concat();
        for (stream, in_frames) in [
            (frame, true),
            (with_key, true),
            (no_frame, false),
            (short, false),
            (endless, false),
            (blank, false),
        ] {
            for size in 1..=stream.len() {
                let mut one = Stream::new(Limits::default(), 7, false);
                let mut found = vec![];
                for mut chunk in stream.chunks(size) {
                    assert!(one.held() <= 2 * LONGEST_BEGINNING);
                    while let Some(event) = one.next(&mut chunk) {
                        match event {
                            Event::Message(one) => {
                                found.push((one.bytes.to_vec(), one.range.end));
                            }
                            other => panic!("{other:?}"),
                        }
                    }
                    assert!(chunk.is_empty());
                }
                let is_framed = matches!(one, Stream::WebSocket(_));
                assert_eq!(is_framed, in_frames, "{stream:x?} by {size}");
                assert_eq!(found, [(message.to_vec(), 7 + stream.len() as u64)]);
            }
        }
    }

    #[test]
    fn a_gap_behind_bytes_that_do_not_tell() {
        let message = b"BYE sip:b@x SIP/2.0\r\n\r\n";
        for (held, whole) in [(&b"\x82"[..], 0), (b"\x82\x30BYE sip:b@x SIP/2.0", 1)] {
            let mut stream = Stream::new(Limits::default(), 0, false);
            assert_eq!(stream.next(&mut &held[..]), None);
            assert_eq!((stream.settled(), stream.held() >= held.len()), (0, true));
            let missing = 0x32 - held.len() as u64;
            let damaged = stream.gap(missing).is_some();
            assert_eq!(usize::from(damaged), whole);
            let next = match whole {
                0 => message.to_vec(),
                _ => [&[0x82, message.len() as u8][..], message].concat(),
            };
            let event = stream.next(&mut &next[..]);
            assert!(matches!(event, Some(Event::Message(one)) if one.range.start == 0x32));
        }
    }
}
