//! Structure in the bytes of an input.

/// Takes an input apart from its front. Where it is too short, the rest counts as zeros: no input is refused.
///
/// Numbers are little-endian. A text is one byte of length and the text, a packet two bytes of length and the packet, so
/// that their bytes lie together, where a fuzzer's dictionary finds them.
///
/// ```
/// let mut input = lc_fuzz::Input::new(b"\x07\x02ab\x09\x00cd");
/// assert_eq!(input.u8(), 7);
/// assert_eq!(input.text(), b"ab");
/// assert_eq!(input.packet(), b"cd");
/// assert!(input.is_empty() && input.u16() == 0);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.take(1).first().copied().unwrap_or_default()
    }

    /// Two bytes.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    /// A length below 256, and so many bytes.
    pub fn text(&mut self) -> &'a [u8] {
        let len = self.u8();
        self.take(usize::from(len))
    }

    /// A length below 65,536, and so many bytes.
    pub fn packet(&mut self) -> &'a [u8] {
        let len = self.u16();
        self.take(usize::from(len))
    }

    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}
