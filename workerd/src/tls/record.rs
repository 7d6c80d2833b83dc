//! Records of TLS and SSL 3.0 in a stream (RFC 8446 section 5.1, RFC 5246 section 6.2.1).
//!
//! The stream may come in pieces of any size: what is told does not depend on them, but for the pieces that a record's content is told in.

/// Bytes of a record's header.
const HEADER: usize = 5;
/// Longest content of a record that is not encrypted.
pub const LONGEST_CLEAR: usize = 1 << 14;
/// Longest content of a record that is.
pub const LONGEST: usize = LONGEST_CLEAR + 2048;

/// What a record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// The sender encrypts from here on.
    ChangeCipherSpec,
    /// A warning, or why the connection ends.
    Alert,
    /// Pieces of handshake messages.
    Handshake,
    /// Data; in TLS 1.3 whatever is encrypted.
    Data,
    /// RFC 6520.
    Heartbeat,
}

impl Content {
    /// By its number.
    #[must_use]
    pub fn numbered(number: u8) -> Option<Self> {
        Some(match number {
            20 => Self::ChangeCipherSpec,
            21 => Self::Alert,
            22 => Self::Handshake,
            23 => Self::Data,
            24 => Self::Heartbeat,
            _ => return None,
        })
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::ChangeCipherSpec => 20,
            Self::Alert => 21,
            Self::Handshake => 22,
            Self::Data => 23,
            Self::Heartbeat => 24,
        }
    }
}

/// The header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What it holds.
    pub content: Content,
    /// The version that it names, of which only the first byte, 3, means something.
    pub version: u16,
    /// Bytes that follow.
    pub len: u16,
}

impl Header {
    /// `None` if it is none, or the record would be too long.
    #[must_use]
    pub fn read(bytes: &[u8; HEADER]) -> Option<Self> {
        let [number, 3, minor, high, low] = *bytes else {
            return None;
        };
        let content = Content::numbered(number)?;
        let len = u16::from_be_bytes([high, low]);
        let most = match content {
            Content::Data | Content::Heartbeat => LONGEST,
            _ => LONGEST_CLEAR,
        };
        (usize::from(len) <= most).then_some(Self {
            content,
            version: u16::from_be_bytes([3, minor]),
            len,
        })
    }
}

/// Some of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<'b> {
    /// Of which record.
    pub header: Header,
    /// Whether its content begins with them.
    pub is_first: bool,
    /// Whether its content ends with them.
    pub is_last: bool,
    /// Bytes of its content.
    pub bytes: &'b [u8],
}

/// What is no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRecord;

/// Reads records off a stream.
#[derive(Debug, Default)]
pub struct Records {
    head: [u8; HEADER],
    /// Bytes of `head` that are there.
    have: u8,
    /// The record at hand, and what of it is to come.
    record: Option<(Header, u16)>,
}

impl Records {
    /// Takes the next part off the front of `bytes`; `None` when they are used up.
    ///
    /// # Errors
    /// The stream is no TLS. What is called then, is called in vain.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Result<Option<Part<'b>>, NoRecord> {
        let (header, left, is_first) = match self.record {
            Some((header, left)) => (header, left, false),
            None => match self.head(bytes)? {
                Some(header) => (header, header.len, true),
                None => return Ok(None),
            },
        };
        if bytes.is_empty() && left > 0 && !is_first {
            return Ok(None);
        }
        let taken = bytes.len().min(left.into());
        let (content, rest) = bytes.split_at(taken);
        *bytes = rest;
        let left = left - taken as u16;
        self.record = (left > 0).then_some((header, left));
        Ok(Some(Part {
            header,
            is_first,
            is_last: left == 0,
            bytes: content,
        }))
    }

    /// `len` bytes are missing. Whether the next bytes are known to go on behind them.
    pub fn skip(&mut self, len: u64) -> bool {
        match &mut self.record {
            Some((_, left)) if len < u64::from(*left) => *left -= len as u16,
            Some((_, left)) if len == u64::from(*left) => self.record = None,
            _ => return false,
        }
        true
    }

    /// Whether the next byte begins a record.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.record.is_none() && self.have == 0
    }

    fn head(&mut self, bytes: &mut &[u8]) -> Result<Option<Header>, NoRecord> {
        let have = usize::from(self.have);
        let taken = bytes.len().min(HEADER - have);
        let (start, rest) = bytes.split_at(taken);
        self.head[have..have + taken].copy_from_slice(start);
        *bytes = rest;
        if have + taken < HEADER {
            self.have = (have + taken) as u8;
            return Ok(None);
        }
        self.have = 0;
        Header::read(&self.head).map(Some).ok_or(NoRecord)
    }
}
