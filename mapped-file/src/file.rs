//! What is read and written through the mapping, and what at positions.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{OFlags, fcntl_getfl, fdatasync};
use rustix::mm::ProtFlags;

use crate::mapping::Mapping;

/// Address space is taken in such pieces, also beyond the end of the file, so that a file that grows is seldom mapped anew.
const PIECE: usize = 16 << 20;

/// An open file, worked on through one shared mapping that is made when it is first needed; what it grows by is written at positions. For one thread at a time.
pub struct MappedFile {
    file: File,
    access: ProtFlags,
    mapping: Cell<Option<Mapping>>,
}

impl MappedFile {
    /// Takes over a regular file that is open for reading, or for reading and writing, and not for appending.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn new(file: File) -> io::Result<Self> {
        let writable = fcntl_getfl(&file)?.contains(OFlags::RDWR);
        Ok(Self {
            file,
            access: match writable {
                true => ProtFlags::READ | ProtFlags::WRITE,
                false => ProtFlags::READ,
            },
            mapping: Cell::new(None),
        })
    }

    /// Its length in bytes.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Reads bytes at `offset`. Says how many; fewer than asked for only at the end of the file.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.size()?.saturating_sub(offset);
        let len = usize::try_from(rest).map_or(bytes.len(), |rest| rest.min(bytes.len()));
        let within = &mut bytes[..len];
        if within.is_empty() || self.copy(offset, len, |mapping, at| mapping.read(at, within)) {
            return Ok(len);
        }
        self.read_at_position(bytes, offset)
    }

    /// Writes all `bytes` at `offset`. What lies between the end of the file and `offset` becomes zero.
    ///
    /// # Errors
    /// Whatever the system says; then any part of the bytes may have been written, and the file may have become longer.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let end = offset
            .checked_add(bytes.len() as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        // New pages come one by one on a mapping, each with a fault and work of the file system; `pwrite` takes many at once.
        let mapped = end <= self.size()?
            && self.copy(offset, bytes.len(), |mapping, at| mapping.write(at, bytes));
        match mapped {
            true => Ok(()),
            false => self.file.write_all_at(bytes, offset),
        }
    }

    /// Cuts the file, or makes it longer by zeros that take no room yet.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn truncate(&self, size: u64) -> io::Result<()> {
        self.file.set_len(size)
    }

    /// Makes its bytes durable.
    ///
    /// `fdatasync` writes back what was written through a mapping, too: Linux keeps track of pages that become dirty that way, and `msync` does
    /// nothing else to the file behind a range (`mm/msync.c`).
    ///
    /// # Errors
    /// Whatever the system says; then any part of what was written since the last success may be lost for good. It says so once.
    pub fn sync(&self) -> io::Result<()> {
        Ok(fdatasync(&self.file)?)
    }

    /// Has `copy` work on the mapping, which then reaches to `offset + len` at least. False when there is none, or when it hit a fault.
    fn copy(
        &self,
        offset: u64,
        len: usize,
        copy: impl FnOnce(Mapping, usize) -> Option<Mapping>,
    ) -> bool {
        let Ok(at) = usize::try_from(offset) else {
            return false;
        };
        let Some(mapping) = at.checked_add(len).and_then(|end| self.mapped_to(end)) else {
            return false;
        };
        let whole = copy(mapping, at);
        let done = whole.is_some();
        self.mapping.set(whole);
        done
    }

    /// Takes out the mapping, made anew if it is too short.
    fn mapped_to(&self, end: usize) -> Option<Mapping> {
        let mapping = self.mapping.take().filter(|mapping| mapping.len() >= end);
        mapping.or_else(|| {
            let len = end.checked_next_multiple_of(PIECE)?;
            Mapping::new(&self.file, self.access, len).ok()
        })
    }

    fn read_at_position(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.read_at(&mut bytes[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }
}
