//! The DATA chunks of an SCTP packet (RFC 9260 section 3.3.1, RFC 8260 section 2.1): user messages, and parts of those that are sent in several.

/// Most chunks of a packet that are looked at.
const MOST_CHUNKS: usize = 64;
const DATA: u8 = 0;
/// Interleaved data.
const I_DATA: u8 = 64;
/// The chunk ends a user message.
const ENDS: u8 = 1;
/// It begins one.
const BEGINS: u8 = 2;
/// The message is not in the order of its stream.
const UNORDERED: u8 = 4;

/// A part of a user message, or all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'a> {
    /// Whether it is the first one.
    pub begins: bool,
    /// Whether it is the last one.
    pub ends: bool,
    /// Grows by one with each part of a message, and wraps: the transmission sequence number, or the fragment's number.
    pub number: u32,
    /// Stream, whether it is unordered, and number of the message, where parts of several messages are sent in turn.
    pub interleaved: Option<(u16, bool, u32)>,
    /// What it carries.
    pub bytes: &'a [u8],
}

impl Part<'_> {
    /// Whether it is a message by itself.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.begins && self.ends
    }
}

/// The parts of user messages among `chunks`, what follows the common header.
pub fn parts(mut chunks: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut left = MOST_CHUNKS;
    std::iter::from_fn(move || {
        while left > 0 {
            left -= 1;
            let [kind, flags, high, low] = *chunks.first_chunk::<4>()?;
            let len = usize::from(u16::from_be_bytes([high, low]));
            if len < 4 {
                return None;
            }
            let chunk = chunks.get(..len)?;
            chunks = chunks.get(len.next_multiple_of(4)..).unwrap_or_default();
            if let Some(part) = read(kind, flags, chunk) {
                return Some(part);
            }
        }
        None
    })
}

fn read(kind: u8, flags: u8, chunk: &[u8]) -> Option<Part<'_>> {
    let word = |at: usize| {
        let bytes = chunk.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes))
    };
    let begins = flags & BEGINS != 0;
    let (number, interleaved, head) = match kind {
        DATA => (word(4)?, None, 16),
        I_DATA => {
            let stream = (word(8)? >> 16) as u16;
            let message = (stream, flags & UNORDERED != 0, word(12)?);
            // The first has the protocol's identifier instead.
            let number = if begins { 0 } else { word(16)? };
            (number, Some(message), 20)
        }
        _ => return None,
    };
    Some(Part {
        begins,
        ends: flags & ENDS != 0,
        number,
        interleaved,
        bytes: chunk.get(head..)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
        let mut chunk = vec![kind, flags];
        chunk.extend((body.len() as u16 + 4).to_be_bytes());
        chunk.extend(body);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    }

    fn data(flags: u8, message: &[u8]) -> Vec<u8> {
        chunk(DATA, flags, &[&[0; 12][..], message].concat())
    }

    #[test]
    fn messages_and_parts_are_found_behind_other_chunks_and_each_other() {
        let interleaved = [
            &[0, 0, 0, 9, 0, 5, 0, 0, 0, 0, 0, 7, 0, 0, 0, 2][..],
            b"third",
        ];
        let packet = [
            chunk(3, 0, &[0; 12]),
            data(3, b"one"),
            data(2, b"begins"),
            data(7, b"second"),
            chunk(I_DATA, 4, &interleaved.concat()),
        ];
        let packet: Vec<_> = packet.concat();
        let found: Vec<_> = parts(&packet).collect();
        let bytes: Vec<_> = found.iter().map(|part| part.bytes).collect();
        assert_eq!(bytes, [&b"one"[..], b"begins", b"second", b"third"]);
        let whole: Vec<_> = found.iter().map(Part::is_whole).collect();
        assert_eq!(whole, [true, false, true, false]);
        assert!(found[1].begins && !found[1].ends);
        assert_eq!(
            (found[3].number, found[3].interleaved),
            (2, Some((5, true, 7)))
        );
    }

    #[test]
    fn broken_chunks_end_the_search() {
        for broken in [&[0, 3, 0, 0][..], &[0, 3, 0, 40, 1], &[0, 3, 0], &[]] {
            assert_eq!(parts(broken).count(), 0);
        }
        // Too short for its own header.
        assert_eq!(parts(&[0, 3, 0, 4, 0, 3, 0, 8, 1, 2, 3, 4]).count(), 0);
    }
}
