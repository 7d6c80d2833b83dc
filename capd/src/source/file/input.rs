//! A window over a byte stream: large reads, no allocation per record, never more memory than its fixed capacity.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

/// Capacity of the window, and so the largest record or block that is read whole, in bytes.
pub(crate) const CAPACITY: usize = 1 << 20;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

pub(crate) struct Input {
    reader: Box<dyn Read + Send>,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    offset: u64,
}

impl Input {
    /// Opens `path`, looking through gzip.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let mut input = Self::new(Box::new(File::open(path)?));
        if input.need(2)? && input.window()[..2] == GZIP_MAGIC {
            let head = io::Cursor::new(input.window().to_vec());
            input = Self::new(Box::new(MultiGzDecoder::new(head.chain(input.reader))));
        }
        Ok(input)
    }

    pub(crate) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self {
            reader,
            buffer: vec![0; CAPACITY].into_boxed_slice(),
            start: 0,
            end: 0,
            offset: 0,
        }
    }

    /// Offset of the window's first byte in the (decompressed) stream.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The bytes read and not consumed.
    #[inline]
    pub(crate) fn window(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until the window holds `size` bytes (at most [`CAPACITY`]); false if the stream ends before.
    #[inline]
    pub(crate) fn need(&mut self, size: usize) -> io::Result<bool> {
        if self.end - self.start >= size {
            return Ok(true);
        }
        self.refill(size)
    }

    #[cold]
    fn refill(&mut self, size: usize) -> io::Result<bool> {
        if self.start + size > self.buffer.len() || self.start == self.end {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < size {
            if self.end == self.buffer.len() {
                return Ok(false);
            }
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => self.end += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Drops the window's first `size` bytes, which must be there.
    #[inline]
    pub(crate) fn consume(&mut self, size: usize) {
        let size = size.min(self.end - self.start);
        self.start += size;
        self.offset += size as u64;
    }

    /// Drops the next `size` bytes, however many; false if the stream ends before.
    pub(crate) fn skip(&mut self, mut size: u64) -> io::Result<bool> {
        while size > 0 {
            if !self.need(1)? {
                return Ok(false);
            }
            let step = size.min(self.window().len() as u64);
            self.consume(step as usize);
            size -= step;
        }
        Ok(true)
    }
}

/// Byte order of a capture file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endian {
    Little,
    Big,
}

impl Endian {
    /// The 16-bit number at `at`; 0 beyond the end of `bytes`, whose length callers check first.
    #[inline]
    pub(crate) fn u16(self, bytes: &[u8], at: usize) -> u16 {
        let raw = bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .unwrap_or_default();
        match self {
            Self::Little => u16::from_le_bytes(raw),
            Self::Big => u16::from_be_bytes(raw),
        }
    }

    /// The 32-bit number at `at`, likewise.
    #[inline]
    pub(crate) fn u32(self, bytes: &[u8], at: usize) -> u32 {
        let raw = bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .unwrap_or_default();
        match self {
            Self::Little => u32::from_le_bytes(raw),
            Self::Big => u32::from_be_bytes(raw),
        }
    }

    /// The 64-bit number at `at`, likewise.
    pub(crate) fn u64(self, bytes: &[u8], at: usize) -> u64 {
        let raw = bytes
            .get(at..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .unwrap_or_default();
        match self {
            Self::Little => u64::from_le_bytes(raw),
            Self::Big => u64::from_be_bytes(raw),
        }
    }
}
