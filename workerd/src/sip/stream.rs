//! SIP messages of a TCP connection, in one direction: bare or in a WebSocket.

use super::framer::{Event, Framer, Limits};
use super::websocket::{self, WebSocket};

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
/// joined in its middle is in WebSocket frames if its first bytes are one with SIP in it.
#[derive(Debug)]
pub enum Stream {
    /// Nothing has come.
    New {
        /// What it may do.
        limits: Limits,
        /// Offset of the next byte.
        offset: u64,
        /// Whether that is the stream's first.
        from_start: bool,
    },
    /// Messages one after the other.
    Bare(Framer),
    /// Messages in WebSocket frames.
    WebSocket(WebSocket),
}

impl Stream {
    /// For a stream that is seen from its start, or (`from_start` is false) joined anywhere. `offset`: of its first byte.
    #[must_use]
    pub fn new(limits: Limits, offset: u64, from_start: bool) -> Self {
        Self::New {
            limits,
            offset,
            from_start,
        }
    }

    /// See [`Framer::next`] and [`WebSocket::next`].
    pub fn next<'f, 'c: 'f>(&'f mut self, chunk: &mut &'c [u8]) -> Option<Event<'f>> {
        if let Self::New {
            limits,
            offset,
            from_start,
        } = *self
        {
            *self = match (*chunk.first()?, from_start) {
                (b'G' | b'H', true) => Self::WebSocket(WebSocket::new(limits, offset)),
                (_, true) => Self::Bare(Framer::new(limits, offset)),
                (_, false) if websocket::may_begin(chunk) => {
                    Self::WebSocket(WebSocket::joined(limits, offset))
                }
                (_, false) => Self::Bare(Framer::joined(limits, offset)),
            };
        }
        match self {
            Self::New { .. } => None,
            Self::Bare(framer) => framer.next(chunk),
            Self::WebSocket(socket) => socket.next(chunk),
        }
    }

    /// See [`Framer::gap`] and [`WebSocket::gap`].
    pub fn gap(&mut self, missing: u64) -> Option<Event<'_>> {
        match self {
            Self::New {
                offset, from_start, ..
            } => {
                *offset += missing;
                *from_start = false;
                None
            }
            Self::Bare(framer) => framer.gap(missing),
            Self::WebSocket(socket) => socket.gap(missing),
        }
    }

    /// Offset before which all is told: where the message begins that is not whole, or what comes next.
    #[must_use]
    pub fn settled(&self) -> u64 {
        match self {
            Self::New { offset, .. } => *offset,
            Self::Bare(framer) => framer.settled(),
            Self::WebSocket(socket) => socket.settled(),
        }
    }

    /// Bytes of memory that it holds, besides itself.
    #[must_use]
    pub fn held(&self) -> usize {
        match self {
            Self::New { .. } => 0,
            Self::Bare(framer) => framer.held(),
            Self::WebSocket(socket) => socket.held(),
        }
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
}
