//! What a stream may begin with before its first record: a proxy's header, which says whose connection it is (HAProxy's PROXY protocol, versions 1 and 2), or a
//! hello as SSL 2.0 had them (RFC 5246 appendix E.2), which clients of that time sent to servers of any version.

use super::held::{Held, Room};
use super::record::NoRecord;
use super::version;

/// Longest line of version 1 of the proxy's header, with its end.
const LONGEST_LINE: u8 = 107;
const LINE: &[u8] = b"PROXY ";
const MARK: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of a hello of SSL 2.0 that is read, with its header.
const HELLO: std::ops::RangeInclusive<usize> = 7..=4096;

/// Where in its opening a stream is.
#[derive(Debug, Default)]
pub enum Opening {
    /// At its first byte.
    #[default]
    First,
    /// In a line: so many bytes of it are there.
    Line(u8),
    /// In the fixed part of a binary header.
    Mark {
        /// What is there of it.
        head: [u8; 16],
        /// How much that is.
        have: u8,
    },
    /// In the rest of one: so many bytes are to come.
    Addresses(u16),
    /// In a hello of SSL 2.0, from its first byte on.
    Hello(Held),
    /// Behind it.
    Over,
}

/// A hello of SSL 2.0, or in its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldHello {
    /// Whether the client says it.
    pub is_client: bool,
    /// The newest version that is offered, or the one that is chosen.
    pub version: u16,
}

impl OldHello {
    /// Whether records of newer versions may follow in the client's direction.
    #[must_use]
    pub fn may_become_new(self) -> bool {
        self.is_client && self.version >> 8 == 3
    }

    /// Reads type and version of a message (SSL 2.0 section 2.5 and 2.6).
    fn read(message: &[u8]) -> Option<Self> {
        let (is_client, version) = match *message {
            [1, high, low, ..] => (true, u16::from_be_bytes([high, low])),
            // Session id hit, type of certificate, version.
            [4, _, _, high, low, ..] => (false, u16::from_be_bytes([high, low])),
            _ => return None,
        };
        let is_known = version == 0x0002 || (0x0300..=version::TLS_1_2).contains(&version);
        is_known.then_some(Self { is_client, version })
    }
}

/// Whether a stream of TLS may begin so.
#[must_use]
pub fn may_begin(bytes: &[u8]) -> bool {
    match bytes {
        [b'P', ..] => LINE.iter().zip(bytes).all(|(one, other)| one == other),
        [b'\r' | 20..=24 | 0x80.., ..] => true,
        _ => false,
    }
}

impl Opening {
    /// Takes the opening off the front of `bytes`. What is left of them is records.
    ///
    /// # Errors
    /// The stream is no TLS.
    pub fn take(&mut self, bytes: &mut &[u8], room: &Room) -> Result<Option<OldHello>, NoRecord> {
        while let Some((first, rest)) = bytes.split_first() {
            match self {
                Self::Over => return Ok(None),
                Self::First => {
                    *self = match first {
                        b'P' => Self::Line(0),
                        b'\r' => Self::Mark {
                            head: [0; 16],
                            have: 0,
                        },
                        20..=24 => Self::Over,
                        0x80.. => Self::Hello(Held::default()),
                        _ => return Err(NoRecord),
                    }
                }
                Self::Line(have) => {
                    let fits = LINE.get(usize::from(*have)).is_none_or(|one| one == first);
                    if !fits || *have == LONGEST_LINE {
                        return Err(NoRecord);
                    }
                    *have += 1;
                    *bytes = rest;
                    if *first == b'\n' {
                        *self = Self::Over;
                    }
                }
                Self::Mark { head, have } => {
                    let at = usize::from(*have);
                    if MARK.get(at).is_some_and(|one| one != first) || at == 12 && first >> 4 != 2 {
                        return Err(NoRecord);
                    }
                    head[at] = *first;
                    *have += 1;
                    *bytes = rest;
                    if let (15, [.., high, low]) = (at, *head) {
                        *self = match u16::from_be_bytes([high, low]) {
                            0 => Self::Over,
                            len => Self::Addresses(len),
                        };
                    }
                }
                Self::Addresses(left) => {
                    let taken = bytes.len().min(usize::from(*left));
                    *bytes = &bytes[taken..];
                    *left -= taken as u16;
                    if *left == 0 {
                        *self = Self::Over;
                    }
                }
                Self::Hello(held) => {
                    let len = match held.bytes() {
                        [high, low, ..] => 2 + usize::from(u16::from_be_bytes([high & 0x7f, *low])),
                        _ => 2,
                    };
                    let is_headed = held.bytes().len() >= 2;
                    if is_headed && !HELLO.contains(&len) {
                        return Err(NoRecord);
                    }
                    let (piece, rest) = bytes.split_at(bytes.len().min(len - held.bytes().len()));
                    *bytes = rest;
                    if !held.extend(piece, room) {
                        return Err(NoRecord);
                    }
                    if is_headed && held.bytes().len() == len {
                        let hello = OldHello::read(&held.bytes()[2..]).ok_or(NoRecord)?;
                        *self = Self::Over;
                        return Ok(Some(hello));
                    }
                }
            }
        }
        Ok(None)
    }
}
