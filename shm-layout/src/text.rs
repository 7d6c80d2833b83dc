//! Short text in shared memory: a length and words of bytes, written before it is announced.

use crate::sync::{AtomicU64, Ordering};

/// Up to `8 * WORDS` bytes of UTF-8.
#[repr(C)]
pub(crate) struct SharedText<const WORDS: usize> {
    len: AtomicU64,
    words: [AtomicU64; WORDS],
}

impl<const WORDS: usize> SharedText<WORDS> {
    /// Stores `text`, cut at a character border where it is too long.
    pub(crate) fn store(&self, text: &str) {
        let text = &text[..text.floor_char_boundary(8 * WORDS)];
        for (word, chunk) in self.words.iter().zip(text.as_bytes().chunks(8)) {
            let mut bytes = [0; 8];
            bytes[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        // Pairs with the Acquire load in `load`.
        self.len.store(text.len() as u64, Ordering::Release);
    }

    /// The text; what is not UTF-8 (a hostile writer) comes out as replacement characters.
    pub(crate) fn load(&self) -> String {
        // Pairs with the Release store in `store`.
        let len = self.len.load(Ordering::Acquire).min(8 * WORDS as u64) as usize;
        let bytes: Vec<u8> = self
            .words
            .iter()
            .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
            .take(len)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}
