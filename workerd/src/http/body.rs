//! Bodies that are looked into: gathered up to a bound, and decoded when they are whole (RFC 9110 section 8.4).
//!
//! Compressed bodies are decoded by libraries, one at a time, and never to more bytes than the bound: the rest of a longer one, a bomb among them, is not looked into.
//! What can't be decoded counts as far as it could.

use std::io::{self, Write};

use brotli_decompressor::{BrotliDecoderParameter, DecompressorWriter};
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

use super::head::Head;

/// Most codings of a body that are undone.
const MOST_CODINGS: usize = 3;
/// What brotli takes its output in.
const BROTLI_BUFFER: usize = 4096;

/// A body that is gathered.
#[derive(Debug)]
pub struct Body {
    bytes: Vec<u8>,
    /// In the order in which they were applied; `None` if there are too many, or others than are known.
    codings: Option<Vec<Coding>>,
    most: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    /// Named deflate, and meant to be zlib (RFC 1950); many send it bare (RFC 1951).
    Deflate,
    Brotli,
}

impl Body {
    /// The body behind `head`, of which at most so many bytes are kept, coded or not.
    #[must_use]
    pub fn new(head: &Head<'_>, most: usize) -> Self {
        // A transfer coding is undone before a content coding; none but chunked is in use, which is gone here.
        let words = || {
            head.words(b"content-encoding")
                .chain(head.words(b"transfer-encoding"))
                .filter(|word| !is_identity(word))
        };
        let codings = words().map(coding).collect::<Option<Vec<_>>>();
        Self {
            bytes: Vec::new(),
            codings: codings.filter(|codings| codings.len() <= MOST_CODINGS),
            most,
        }
    }

    /// Adds what comes next.
    pub fn add(&mut self, bytes: &[u8]) {
        let room = self.most - self.bytes.len().min(self.most);
        self.bytes
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The text, as far as it was kept and could be decoded; of codings that are not known, as it came.
    #[must_use]
    pub fn text(self) -> Vec<u8> {
        let codings = self.codings.unwrap_or_default();
        codings.into_iter().rev().fold(self.bytes, |bytes, coding| {
            decoded(&bytes, coding, self.most)
        })
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bytes.capacity()
    }
}

fn is_identity(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"identity") || word.eq_ignore_ascii_case(b"chunked")
}

fn coding(word: &[u8]) -> Option<Coding> {
    Some(match word.to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => Coding::Gzip,
        b"deflate" => Coding::Deflate,
        b"br" => Coding::Brotli,
        _ => return None,
    })
}

/// At most `most` bytes of what `bytes` stand for.
fn decoded(bytes: &[u8], coding: Coding, most: usize) -> Vec<u8> {
    let mut out = Bounded {
        bytes: Vec::new(),
        most,
    };
    // Errors end it: what was decoded before counts.
    let _ = match coding {
        Coding::Gzip => pour(MultiGzDecoder::new(&mut out), bytes),
        Coding::Deflate if is_zlib(bytes) => pour(ZlibDecoder::new(&mut out), bytes),
        Coding::Deflate => pour(DeflateDecoder::new(&mut out), bytes),
        Coding::Brotli => {
            let mut decoder = DecompressorWriter::new(&mut out, BROTLI_BUFFER);
            // Windows beyond RFC 7932 are not HTTP's, and may have a gigabyte.
            decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
            pour(decoder, bytes)
        }
    };
    out.bytes
}

fn pour(mut decoder: impl Write, bytes: &[u8]) -> io::Result<()> {
    decoder.write_all(bytes)?;
    decoder.flush()
}

/// Whether the header of RFC 1950 stands in front.
fn is_zlib(bytes: &[u8]) -> bool {
    matches!(bytes, [cmf, flg, ..] if cmf & 0x0f == 8 && (u16::from(*cmf) << 8 | u16::from(*flg)) % 31 == 0)
}

/// Takes bytes until it is full.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.most - self.bytes.len());
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
