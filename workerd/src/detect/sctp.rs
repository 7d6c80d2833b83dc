//! The user data of an SCTP packet (RFC 9260 section 3.3.1), for the signatures above SCTP.

use super::fields::{be16, be32};

/// Most chunks of a packet that are looked at.
const MOST_CHUNKS: usize = 16;
const DATA: u8 = 0;
/// Interleaved data (RFC 8260 section 2.1).
const I_DATA: u8 = 64;
/// The chunk starts a user message.
const BEGINNING: u8 = 2;

/// The payload protocol identifier and the bytes of the first user message that starts in a packet.
#[must_use]
pub fn user_data(mut chunks: &[u8]) -> Option<(u32, &[u8])> {
    for _ in 0..MOST_CHUNKS {
        let [kind, flags, ..] = *chunks.first_chunk::<4>()?;
        let len = usize::from(be16(chunks, 2)?);
        let head = match kind {
            DATA => 16,
            I_DATA => 20,
            _ => 0,
        };
        if head > 0 && flags & BEGINNING != 0 {
            let end = len.min(chunks.len());
            return Some((be32(chunks, 12)?, chunks.get(head..end)?));
        }
        if len < 4 {
            return None;
        }
        chunks = chunks.get(len.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::user_data;

    #[test]
    fn data_is_found_behind_other_chunks() {
        let sack = [3, 0, 0, 16, 0, 0, 0, 1, 0, 0, 16, 0, 0, 0, 0, 0];
        let data = [0, 3, 0, 19, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 46, 1, 2, 3, 0];
        let packet = [&sack[..], &data].concat();
        assert_eq!(user_data(&packet), Some((46, &[1, 2, 3][..])));
    }

    #[test]
    fn middles_of_messages_and_broken_chunks_hold_none() {
        let middle = [0, 0, 0, 17, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 9];
        assert_eq!(user_data(&middle), None);
        assert_eq!(user_data(&[3, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(user_data(&[0, 3, 0]), None);
    }
}
