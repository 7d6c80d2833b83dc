//! User messages of an SCTP packet (RFC 9260 section 3.3.1), as far as each is whole in it.

/// Most chunks of a packet that are looked at.
const MOST_CHUNKS: usize = 64;
const DATA: u8 = 0;
/// Interleaved data (RFC 8260 section 2.1).
const I_DATA: u8 = 64;
/// The chunk both starts and ends a user message.
const WHOLE: u8 = 3;

/// The whole user messages among `chunks`, what follows the common header.
pub fn user_messages(mut chunks: &[u8]) -> impl Iterator<Item = &[u8]> {
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
            let head = match kind {
                DATA => 16,
                I_DATA => 20,
                _ => continue,
            };
            if flags & WHOLE == WHOLE
                && let Some(message) = chunk.get(head..)
            {
                return Some(message);
            }
        }
        None
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
    fn whole_messages_are_found_behind_other_chunks_and_each_other() {
        let packet = [
            chunk(3, 0, &[0; 12]),
            data(3, b"one"),
            data(2, b"begins"),
            data(7, b"second"),
            chunk(I_DATA, 3, &[&[0; 16][..], b"third"].concat()),
        ];
        let found: Vec<_> = packet.concat();
        let found: Vec<_> = user_messages(&found).collect();
        assert_eq!(found, [&b"one"[..], b"second", b"third"]);
    }

    #[test]
    fn broken_chunks_end_the_search() {
        for broken in [&[0, 3, 0, 0][..], &[0, 3, 0, 40, 1], &[0, 3, 0], &[]] {
            assert_eq!(user_messages(broken).count(), 0);
        }
        // Too short for its own header.
        assert_eq!(
            user_messages(&[0, 3, 0, 4, 0, 3, 0, 8, 1, 2, 3, 4]).count(),
            0
        );
    }
}
