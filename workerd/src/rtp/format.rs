//! What payload types stand for, as far as it matters to streams.

/// What a payload type carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Content {
    /// Sound, pictures, text.
    Media = 0,
    /// Digits and other events (RFC 4733).
    Event = 1,
    /// Comfort noise (RFC 3389).
    Noise = 2,
}

/// A payload type, as a session description maps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// 0 to 127.
    pub payload_type: u8,
    /// Clock rate in Hz; 0 if it is not known.
    pub clock_rate: u32,
    /// What it carries.
    pub content: Content,
}

impl Format {
    /// Of an encoding's `name`.
    #[must_use]
    pub fn new(payload_type: u8, name: &[u8], clock_rate: u32) -> Self {
        let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
        Self {
            payload_type,
            clock_rate,
            content: match () {
                () if is(b"telephone-event") => Content::Event,
                () if is(b"CN") => Content::Noise,
                () => Content::Media,
            },
        }
    }

    /// The format that a payload type has by itself (RFC 3551 section 6).
    #[must_use]
    pub fn of_type(payload_type: u8) -> Self {
        Self {
            payload_type,
            clock_rate: super::static_clock_rate(payload_type).unwrap_or(0),
            content: match payload_type {
                13 => Content::Noise,
                _ => Content::Media,
            },
        }
    }
}
