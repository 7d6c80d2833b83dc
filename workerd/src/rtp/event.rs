//! Events in RTP: digits that are dialled in a call (RFC 4733), and the level of comfort noise (RFC 3389).

/// An event: one packet of the several that tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// Its number; 0 to 15 are digits of DTMF.
    pub code: u8,
    /// Whether it has ended.
    pub is_end: bool,
    /// Its level: so many dBm0 below zero, 0 to 63.
    pub volume: u8,
    /// How long it has lasted, in units of the clock.
    pub duration: u16,
}

impl Event {
    /// Reads what follows the header of RTP (RFC 4733 section 2.3).
    #[must_use]
    pub fn read(media: &[u8]) -> Option<Self> {
        let fixed: &[u8; 4] = media.first_chunk()?;
        Some(Self {
            code: fixed[0],
            is_end: fixed[1] & 0x80 != 0,
            volume: fixed[1] & 0x3f,
            duration: u16::from_be_bytes([fixed[2], fixed[3]]),
        })
    }

    /// The digit that it is (RFC 4733 section 3.2).
    #[must_use]
    pub fn digit(&self) -> Option<char> {
        const DIGITS: &[u8; 16] = b"0123456789*#ABCD";
        DIGITS.get(usize::from(self.code)).copied().map(char::from)
    }
}

/// The level of comfort noise: so many dBov below zero, 0 to 127 (RFC 3389 section 3.1).
#[must_use]
pub fn noise_level(media: &[u8]) -> Option<u8> {
    media.first().map(|level| level & 0x7f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read() {
        let event = Event::read(&[11, 0x80 | 10, 3, 0x20]).unwrap();
        assert_eq!((event.digit(), event.is_end), (Some('#'), true));
        assert_eq!((event.volume, event.duration), (10, 800));
        assert_eq!(Event::read(&[5, 0x0a, 0, 160]).unwrap().digit(), Some('5'));
        assert_eq!(Event::read(&[16, 0, 0, 0]).unwrap().digit(), None);
        assert_eq!(Event::read(&[5, 0, 0]), None);
        assert_eq!((noise_level(&[0x44]), noise_level(&[])), (Some(68), None));
    }
}
