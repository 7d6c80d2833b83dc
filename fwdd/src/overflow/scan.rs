//! Finds the records of a segment, also behind damage.

use std::io;

use super::Point;
use super::disk::DiskFile;
use super::format::{RECORD_HEADER, RECORD_MAGIC, RecordHeader};

/// Bytes looked at in one read while searching.
const SEARCH: usize = 64 << 10;

/// What lies at an offset of a segment.
#[derive(Debug)]
pub(super) enum Found {
    /// A record, whole by its header and length. Its payload is not checked.
    Record(RecordHeader),
    /// A record's good header, but the file ends before its payload does.
    Torn(RecordHeader),
    /// No record. The next good header, if there is any, lies at `next`; otherwise `next` is the end.
    Damage { next: u64 },
    /// Nothing more.
    End,
}

/// The part of a segment that holds records.
pub(super) struct Body<'a, F> {
    pub(super) file: &'a F,
    /// Where it ends.
    pub(super) end: u64,
    pub(super) salt: u64,
    /// No record of the segment may reach further than this, as far as that is known.
    pub(super) limit: Option<Point>,
}

impl<F: DiskFile> Body<'_, F> {
    /// Looks at `offset`.
    pub(super) fn look(&self, offset: u64) -> io::Result<Found> {
        if offset >= self.end {
            return Ok(Found::End);
        }
        Ok(match self.header(offset)? {
            Some(header) if header.size() <= self.end - offset => Found::Record(header),
            Some(header) => Found::Torn(header),
            None => Found::Damage {
                next: self.search(offset + 1)?,
            },
        })
    }

    /// The payload of a record that begins at `offset`; `None` when it is damaged.
    pub(super) fn payload(
        &self,
        offset: u64,
        header: &RecordHeader,
    ) -> io::Result<Option<Vec<u8>>> {
        let mut payload = vec![0; header.length as usize];
        let read = self
            .file
            .read_at(&mut payload, offset + RECORD_HEADER as u64)?;
        let whole = read == payload.len() && header.fits(&payload, self.salt);
        Ok(whole.then_some(payload))
    }

    /// The point behind the last record, read from the headers alone.
    pub(super) fn measure(&self, mut offset: u64, first: Point) -> io::Result<Point> {
        let mut at = first;
        loop {
            match self.look(offset)? {
                Found::Record(header) => {
                    at = at.max(header.end());
                    offset += header.size();
                }
                Found::Torn(header) => return Ok(at.max(header.end())),
                Found::Damage { next } => offset = next,
                Found::End => return Ok(at),
            }
        }
    }

    fn header(&self, offset: u64) -> io::Result<Option<RecordHeader>> {
        let mut bytes = [0; RECORD_HEADER];
        if self.end.saturating_sub(offset) < RECORD_HEADER as u64
            || self.file.read_at(&mut bytes, offset)? < RECORD_HEADER
        {
            return Ok(None);
        }
        let header = RecordHeader::decode(&bytes, self.salt);
        // A header from elsewhere would be worse than none.
        Ok(header.filter(|header| {
            let end = header.end();
            self.limit
                .is_none_or(|limit| end.record <= limit.record && end.packet <= limit.packet)
        }))
    }

    /// The offset of the first good header at or after `from`, or the end.
    fn search(&self, from: u64) -> io::Result<u64> {
        let mut chunk = vec![0; SEARCH];
        let mut start = from;
        while start < self.end {
            let want = chunk.len().min((self.end - start) as usize);
            let read = self.file.read_at(&mut chunk[..want], start)?;
            let (bytes, magic) = (&chunk[..read], RECORD_MAGIC);
            for at in 0..read.saturating_sub(magic.len() - 1) {
                if bytes[at] == magic[0]
                    && bytes[at..at + magic.len()] == magic
                    && self.header(start + at as u64)?.is_some()
                {
                    return Ok(start + at as u64);
                }
            }
            if read < chunk.len() {
                break;
            }
            // The magic may lie across two chunks.
            start += (read - (magic.len() - 1)) as u64;
        }
        Ok(self.end)
    }
}
