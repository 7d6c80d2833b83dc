//! Frames that carry a number, for loads too large to be kept: what arrived is checked by counting.
//!
//! Number `n` goes from 10.0.0.`n % FLOWS` by UDP to 10.1.0.1, so it belongs to one of [`FLOWS`] flows, and a filter for
//! some of the addresses lets a known share through.

/// Flows that take turns.
pub const FLOWS: u64 = 8;

const ETHERNET: usize = 14;
const IP: usize = 20;
const UDP: usize = 8;
const BYTES: usize = ETHERNET + IP + UDP + 8;

/// The frame of this number.
pub fn frame(number: u64) -> [u8; BYTES] {
    let mut frame = [0; BYTES];
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
    frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&[8, 0]);
    let ip = &mut frame[ETHERNET..];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&((BYTES - ETHERNET) as u16).to_be_bytes());
    (ip[8], ip[9]) = (64, 17);
    ip[12..16].copy_from_slice(&[10, 0, 0, (number % FLOWS) as u8]);
    ip[16..20].copy_from_slice(&[10, 1, 0, 1]);
    let sum: u32 = ip[..IP]
        .chunks(2)
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    let udp = &mut frame[ETHERNET + IP..];
    udp[..4].copy_from_slice(&[0x9c, 0x40, 0x9c, 0x41]);
    udp[4..6].copy_from_slice(&((UDP + 8) as u16).to_be_bytes());
    udp[8..].copy_from_slice(&number.to_be_bytes());
    frame
}

/// The number of a frame; `None` if it is another one, or altered.
pub fn number(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_be_bytes(bytes.get(BYTES - 8..)?.try_into().ok()?);
    (frame(number) == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_tells_its_number_unless_it_was_altered() {
        for n in [0, 1, 7, 8, 1_000_000_007, u64::MAX] {
            let mut bytes = frame(n);
            assert_eq!(number(&bytes), Some(n));
            bytes[20] ^= 1;
            assert_eq!(number(&bytes), None);
        }
        assert_eq!(number(&[]), None);
    }
}
