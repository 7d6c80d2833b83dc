//! Reads numbers and length-prefixed pieces off the front of bytes.

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        Some(self.take(1)?[0])
    }

    /// The next two bytes, most significant first.
    pub fn u16(&mut self) -> Option<u16> {
        self.take(2)
            .map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    /// The next three bytes, most significant first.
    pub fn u24(&mut self) -> Option<u32> {
        self.take(3)
            .map(|bytes| u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]))
    }

    /// Bytes behind their length in one byte.
    pub fn piece8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    /// Bytes behind their length in two bytes.
    pub fn piece16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }

    /// Bytes behind their length in one byte; what there is of them if they end early.
    pub fn clamped8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(self.0.len().min(len.into()))
    }

    /// Bytes behind their length in two bytes; what there is of them if they end early.
    pub fn clamped16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(self.0.len().min(len.into()))
    }
}

/// `bytes` as numbers of two bytes each, most significant first; an odd byte at the end is left out.
pub fn numbers(bytes: &[u8]) -> impl Iterator<Item = u16> + Clone {
    bytes
        .as_chunks()
        .0
        .iter()
        .map(|pair| u16::from_be_bytes(*pair))
}
