//! Bytes that another process may change at any moment.
//!
//! Everything that is read from a peer's region goes through [`SharedBytes`]. It never gives a
//! reference to the memory, only copies, so that what was checked is what is used.

use bytes::BufMut;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// Bytes in a peer's memory. They may change at any moment, so they can only be copied out.
#[derive(Debug, Clone, Copy)]
pub struct SharedBytes<'a> {
    base: NonNull<u8>,
    len: usize,
    memory: PhantomData<&'a [u8]>,
}

impl<'a> SharedBytes<'a> {
    /// # Safety
    /// `len` bytes behind `base` must stay mapped for `'a`.
    #[inline]
    pub(crate) unsafe fn new(base: NonNull<u8>, len: usize) -> Self {
        Self {
            base,
            len,
            memory: PhantomData,
        }
    }

    /// Bytes there are.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part from `start` on, `len` bytes long, or `None` where there is less.
    #[must_use]
    #[inline]
    pub fn part(&self, start: usize, len: usize) -> Option<SharedBytes<'a>> {
        if start.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `start` is within the `self.len` bytes behind `base`.
        let base = unsafe { self.base.add(start) };
        Some(SharedBytes {
            base,
            len,
            memory: PhantomData,
        })
    }

    /// Copies the first bytes into `out`, as many as both have; returns how many.
    #[inline]
    pub fn copy_to(&self, out: &mut [u8]) -> usize {
        let len = self.len.min(out.len());
        // SAFETY: both sides have `len` bytes; `out` is memory of this process alone, or a ring that
        // only it writes, never the mapping that `self` borrows, so they can't overlap.
        // The peer may write meanwhile: the copy then holds a mixture of old and new bytes,
        // which every user treats as untrusted. No reference to the shared bytes is made.
        unsafe {
            self.base
                .copy_to_nonoverlapping(NonNull::from(out).cast(), len)
        };
        len
    }

    /// Appends all bytes to `out`, which must have room for them.
    #[inline]
    pub fn put_into(&self, out: &mut impl BufMut) {
        let mut from = *self;
        while !from.is_empty() {
            let chunk = out.chunk_mut();
            let len = from.len.min(chunk.len());
            if len == 0 {
                return;
            }
            // SAFETY: the chunk has at least `len` writable bytes of private memory, which the
            // copy initialises before `advance_mut` says so; the rest as in `copy_to`.
            unsafe {
                std::ptr::copy_nonoverlapping(from.base.as_ptr(), chunk.as_mut_ptr(), len);
                out.advance_mut(len);
            }
            // SAFETY: `len <= from.len`.
            from.base = unsafe { from.base.add(len) };
            from.len -= len;
        }
    }

    /// The `N` bytes at `start`, read once, or `None` where there are fewer.
    #[must_use]
    #[inline]
    pub fn array<const N: usize>(&self, start: usize) -> Option<[u8; N]> {
        let part = self.part(start, N)?;
        let mut out = [0; N];
        part.copy_to(&mut out);
        // Keeps the compiler from reading the shared bytes a second time after a check of `out`.
        Some(std::hint::black_box(out))
    }
}

// SAFETY: `SharedBytes` only ever copies out of memory that it borrows; which thread does so
// makes no difference.
unsafe impl Send for SharedBytes<'_> {}
// SAFETY: as above.
unsafe impl Sync for SharedBytes<'_> {}
