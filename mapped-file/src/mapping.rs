//! One shared mapping of a file, from its beginning.

use std::ffi::c_void;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::ptr::NonNull;

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use crate::fault;

/// Address space that shows a file, unmapped on drop. It may be longer than the file.
///
/// A copy takes the mapping and gives it back only if all went well, so that none is used in which a fault has left zeros.
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: the memory stays mapped until the value is dropped, whichever thread has it. All access goes through it, and it is not `Sync`.
unsafe impl Send for Mapping {}

impl Mapping {
    /// Maps `len` bytes, more than none.
    pub(crate) fn new(file: &File, access: ProtFlags, len: usize) -> io::Result<Self> {
        if !fault::is_handled() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { mmap(std::ptr::null_mut(), len, access, MapFlags::SHARED, file, 0) }?;
        Ok(Self {
            start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            len,
            writable: access.contains(ProtFlags::WRITE),
        })
    }

    /// Bytes that it shows, whether the file has them or not.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Copies the bytes at `at` out. `None` after a fault, or when they lie outside; then `bytes` may hold anything.
    pub(crate) fn read(self, at: usize, bytes: &mut [u8]) -> Option<Self> {
        let (from, to) = (self.place(at, bytes.len())?, bytes.as_mut_ptr());
        // SAFETY: `from` has so many bytes by `place`; `bytes` is memory of its own, so they can't overlap. No reference to mapped bytes is
        // made: other users of the file may change them meanwhile, and the copy then is a mixture. `all` is this mapping's alone,
        // which is dropped after a fault.
        let whole = unsafe { fault::copy(from.as_ptr(), to, bytes.len(), self.all()) };
        whole.then_some(self)
    }

    /// Copies `bytes` in. `None` after a fault, or when they lie outside, or when it is for reading only.
    pub(crate) fn write(self, at: usize, bytes: &[u8]) -> Option<Self> {
        let to = self.place(at, bytes.len()).filter(|_| self.writable)?;
        // SAFETY: as in `read`, with the sides exchanged; the mapping is writable.
        let whole = unsafe { fault::copy(bytes.as_ptr(), to.as_ptr(), bytes.len(), self.all()) };
        whole.then_some(self)
    }

    /// Where `len` bytes at `at` begin.
    fn place(&self, at: usize, len: usize) -> Option<NonNull<u8>> {
        let inside = at.checked_add(len).is_some_and(|end| end <= self.len);
        // SAFETY: inside of the mapping by the check.
        inside.then(|| unsafe { self.start.add(at) })
    }

    /// Its addresses.
    fn all(&self) -> Range<usize> {
        let start = self.start.addr().get();
        start..start + self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let start = self.start.as_ptr().cast::<c_void>();
        // SAFETY: mapped by `new`, and nothing points into it any more. It does not fail for a mapping that is there.
        let _ = unsafe { munmap(start, self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mapping that is longer than its file: the simplest page that can't be had.
    #[test]
    fn a_page_that_is_not_there_ends_the_mapping_and_not_the_process() {
        const LEN: usize = 16 << 20;
        let file = tempfile::tempfile().unwrap();
        file.set_len(5000).unwrap();
        let map = || Mapping::new(&file, ProtFlags::READ | ProtFlags::WRITE, LEN).unwrap();
        let mut bytes = vec![7; 200_000];
        let whole = map().write(0, &bytes[..5000]).unwrap();
        let whole = whole.read(0, &mut bytes[..5000]).unwrap();
        assert!(whole.read(0, &mut bytes).is_none());
        assert!(map().write(150_000, &bytes).is_none());
        // Not even mapped.
        assert!(map().read(LEN - 1, &mut bytes[..2]).is_none());
        assert!(map().read(usize::MAX, &mut bytes[..2]).is_none());
        // What was done to the file before the fault is in it, and nothing after.
        assert_eq!(file.metadata().unwrap().len(), 5000);
        assert!(map().read(0, &mut bytes[..5000]).is_some());
        assert!(bytes[..5000].iter().all(|byte| *byte == 7));
    }
}
