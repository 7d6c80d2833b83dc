//! Fields of HTTP/2, decompressed (RFC 7541): the decoder of one direction of a connection.
//!
//! A sniffer has no say in what the peers agree on: any size of the table is taken up to [`MOST_TABLE`] bytes. Work is linear in the blocks, whatever they refer to: of what
//! they stand for, [`MOST_LIST`] bytes are kept. A block that is wrong, or needs a larger table, leaves the connection's table unknown: nothing behind it can be decoded.
//!
//! Ours, since no library for Rust is fit for hostile input: of `httlib-hpack` blocks that end early make it panic, `hpack` and its descendants (`fluke-hpack`, `loona-hpack`) build a hash table
//! of the Huffman code for each string, and that of `h2` is not to be had without its connections.

use std::collections::VecDeque;
use std::sync::Arc;

use super::huffman;

/// Largest table that is followed, in bytes as the specification counts them (section 4.1).
pub const MOST_TABLE: usize = 64 << 10;
/// Most bytes of a decoded list that are kept.
pub const MOST_LIST: usize = 64 << 10;
/// What an entry takes beside its texts (section 4.1).
const OVERHEAD: usize = 32;

/// Fields of a block, decoded. What begins with a colon (RFC 9113 section 8.3) stands apart.
#[derive(Debug, Default)]
pub struct Decoded {
    /// `:method`, or nothing.
    pub method: Vec<u8>,
    /// `:path`, or nothing.
    pub path: Vec<u8>,
    /// `:status`, or nothing.
    pub status: Vec<u8>,
    /// Names and values; `:authority` under the name `host`.
    text: Vec<u8>,
    /// Where they end.
    ends: Vec<(u32, u32)>,
}

impl Decoded {
    /// Names and values.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, value)| *value));
        starts.zip(&self.ends).map(|(start, (name, value))| {
            let (start, name, value) = (start as usize, *name as usize, *value as usize);
            (&self.text[start..name], &self.text[name..value])
        })
    }

    /// Bytes of memory that it holds, besides itself.
    #[must_use]
    pub fn held(&self) -> usize {
        let apart = self.method.capacity() + self.path.capacity() + self.status.capacity();
        apart + self.text.capacity() + self.ends.capacity() * size_of::<(u32, u32)>()
    }

    fn clear(&mut self) {
        self.method.clear();
        self.path.clear();
        self.status.clear();
        self.text.clear();
        self.ends.clear();
    }

    fn add(&mut self, name: &[u8], value: &[u8]) {
        let held = self.text.len() + self.method.len() + self.path.len() + self.status.len();
        if held + name.len() + value.len() + OVERHEAD * (self.ends.len() + 1) > MOST_LIST {
            return;
        }
        let apart = match name {
            b":method" => &mut self.method,
            b":path" => &mut self.path,
            b":status" => &mut self.status,
            b":authority" => return self.push(b"host", value),
            [b':', ..] => return,
            _ => return self.push(name, value),
        };
        apart.clear();
        apart.extend_from_slice(value);
    }

    fn push(&mut self, name: &[u8], value: &[u8]) {
        self.text.extend_from_slice(name);
        let end = self.text.len() as u32;
        self.text.extend_from_slice(value);
        self.ends.push((end, self.text.len() as u32));
    }
}

/// Why a block can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It ends within a field.
    #[error("a block of fields ends early")]
    Short,
    /// A number has more than 28 bits or so.
    #[error("a number in a block of fields is too large")]
    Number,
    /// It refers to an entry that there is not.
    #[error("a block of fields refers to entry {0}, which there is not")]
    Entry(usize),
    /// It makes the table larger than is followed.
    #[error("a table of {0} bytes is larger than is followed")]
    Table(usize),
    /// A string is wrong.
    #[error(transparent)]
    Huffman(#[from] huffman::Invalid),
}

/// Name and value.
type Entry = (Arc<[u8]>, Arc<[u8]>);

/// See the module.
#[derive(Debug)]
pub struct Decoder {
    /// The latest first. Names and values are shared with what refers to them.
    entries: VecDeque<Entry>,
    bytes: usize,
    most: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            entries: VecDeque::new(),
            bytes: 0,
            // SETTINGS_HEADER_TABLE_SIZE of RFC 9113 section 6.5.2.
            most: 4096,
        }
    }
}

impl Decoder {
    /// Decodes a block into `out`, which is cleared first.
    ///
    /// # Errors
    /// [`Error`]; the decoder is of no use then.
    pub fn decode(&mut self, mut block: &[u8], out: &mut Decoded) -> Result<(), Error> {
        out.clear();
        while let Some(first) = block.first() {
            match first {
                0x80.. => {
                    let (name, value) = self.entry(number(&mut block, 7)?)?;
                    out.add(name.as_ref(), value.as_ref());
                }
                0x40.. => {
                    let (name, value) = self.literal(&mut block, 6)?;
                    out.add(name.as_ref(), &value);
                    self.insert(name.into_shared(), Arc::from(value));
                }
                0x20.. => {
                    let most = number(&mut block, 5)?;
                    if most > MOST_TABLE {
                        return Err(Error::Table(most));
                    }
                    self.most = most;
                    self.evict();
                }
                _ => {
                    let (name, value) = self.literal(&mut block, 4)?;
                    out.add(name.as_ref(), &value);
                }
            }
        }
        Ok(())
    }

    /// Bytes of memory that it holds, besides itself, at most.
    #[must_use]
    pub fn held(&self) -> usize {
        self.bytes + self.entries.capacity() * size_of::<Entry>()
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<(Text, Vec<u8>), Error> {
        let name = match number(block, prefix)? {
            0 => Text::New(string(block)?),
            index => self.entry(index)?.0,
        };
        Ok((name, string(block)?))
    }

    fn entry(&self, index: usize) -> Result<(Text, Text), Error> {
        let place = index.checked_sub(1).ok_or(Error::Entry(index))?;
        if let Some((name, value)) = STATIC.get(place) {
            return Ok((Text::Static(name), Text::Static(value)));
        }
        let entry = self.entries.get(place - STATIC.len());
        let (name, value) = entry.ok_or(Error::Entry(index))?;
        Ok((
            Text::Shared(Arc::clone(name)),
            Text::Shared(Arc::clone(value)),
        ))
    }

    fn insert(&mut self, name: Arc<[u8]>, value: Arc<[u8]>) {
        self.bytes += name.len() + value.len() + OVERHEAD;
        self.entries.push_front((name, value));
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.most
            && let Some((name, value)) = self.entries.pop_back()
        {
            self.bytes -= name.len() + value.len() + OVERHEAD;
        }
    }
}

/// A text, wherever it stands.
enum Text {
    Static(&'static str),
    Shared(Arc<[u8]>),
    New(Vec<u8>),
}

impl Text {
    fn into_shared(self) -> Arc<[u8]> {
        match self {
            Self::Static(text) => Arc::from(text.as_bytes()),
            Self::Shared(text) => text,
            Self::New(text) => Arc::from(text),
        }
    }
}

impl AsRef<[u8]> for Text {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Static(text) => text.as_bytes(),
            Self::Shared(text) => text,
            Self::New(text) => text,
        }
    }
}

/// Section 5.1, with up to four bytes behind the prefix.
fn number(block: &mut &[u8], prefix: u32) -> Result<usize, Error> {
    let mut byte = take(block)?;
    let mask = (1_usize << prefix) - 1;
    let mut number = usize::from(byte) & mask;
    if number < mask {
        return Ok(number);
    }
    for shift in [0, 7, 14, 21] {
        byte = take(block)?;
        number += usize::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(number);
        }
    }
    Err(Error::Number)
}

/// Section 5.2.
fn string(block: &mut &[u8]) -> Result<Vec<u8>, Error> {
    let is_coded = block.first().is_some_and(|byte| *byte >= 0x80);
    let len = number(block, 7)?;
    let (bytes, rest) = block.split_at_checked(len).ok_or(Error::Short)?;
    *block = rest;
    if !is_coded {
        return Ok(bytes.to_vec());
    }
    let mut text = Vec::with_capacity(len * 8 / 5 + 1);
    huffman::decode(bytes, &mut text)?;
    Ok(text)
}

fn take(block: &mut &[u8]) -> Result<u8, Error> {
    let (byte, rest) = block.split_first().ok_or(Error::Short)?;
    *block = rest;
    Ok(*byte)
}

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let hex: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
        hex.chunks(2)
            .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
            .collect()
    }

    fn text(decoded: &Decoded) -> String {
        let string = |text: &[u8]| String::from_utf8_lossy(text).into_owned();
        let apart = [&decoded.method, &decoded.path, &decoded.status];
        let apart = apart.map(|text| string(text)).join(" ");
        let fields = decoded.fields();
        let fields: Vec<_> = fields
            .map(|(name, value)| format!("{}: {}", string(name), string(value)))
            .collect();
        format!("{} {}", apart.trim(), fields.join("; "))
    }

    /// RFC 7541 appendices C.4 and C.6, whose tables go from block to block.
    #[test]
    fn examples_of_the_specification() {
        let mut requests = Decoder::default();
        let mut decoded = Decoded::default();
        for (block, expected, size) in [
            (
                "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
                "GET / host: www.example.com",
                57,
            ),
            (
                "8286 84be 5886 a8eb 1064 9cbf",
                "GET / host: www.example.com; cache-control: no-cache",
                110,
            ),
            (
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
                "GET /index.html host: www.example.com; custom-key: custom-value",
                164,
            ),
        ] {
            requests.decode(&bytes(block), &mut decoded).unwrap();
            assert_eq!((text(&decoded).as_str(), requests.bytes), (expected, size));
        }
        let mut responses = Decoder::default();
        // Its table has 256 bytes, as the specification assumes.
        responses.decode(&bytes("3fe1 01"), &mut decoded).unwrap();
        for (block, expected, size) in [
            (
                "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
                "302 cache-control: private; date: Mon, 21 Oct 2013 20:13:21 GMT; location: https://www.example.com",
                222,
            ),
            (
                "4883 640e ffc1 c0bf",
                "307 cache-control: private; date: Mon, 21 Oct 2013 20:13:21 GMT; location: https://www.example.com",
                222,
            ),
        ] {
            responses.decode(&bytes(block), &mut decoded).unwrap();
            assert_eq!((text(&decoded).as_str(), responses.bytes), (expected, size));
        }
    }

    #[test]
    fn blocks_that_are_wrong_are_refused() {
        for (block, error) in [
            ("80", Error::Entry(0)),
            ("be", Error::Entry(62)),
            ("40", Error::Short),
            ("40 0a 61", Error::Short),
            ("44", Error::Short),
            ("ff", Error::Short),
            ("ff ff ff ff ff 01", Error::Number),
            ("3f e2 ff 03", Error::Table(65_537)),
            ("00 82 ff ff 00", Error::Huffman(huffman::Invalid)),
        ] {
            let result = Decoder::default().decode(&bytes(block), &mut Decoded::default());
            assert_eq!(result, Err(error), "{block}");
        }
        let result = Decoder::default().decode(&bytes("3f e1 ff 03"), &mut Decoded::default());
        assert_eq!(result, Ok(()), "the largest table");
    }

    /// One byte each, which stands for thousands.
    #[test]
    fn a_block_never_grows_beyond_its_bound() {
        let mut decoder = Decoder::default();
        let value = vec![b'x'; 3000];
        let mut block = bytes("40 01 61 7f b9 16");
        block.splice(3.., [0x7f, 0xb9, 0x16]);
        block.extend(&value[..3000 - 1]);
        block.push(b'x');
        let mut decoded = Decoded::default();
        decoder.decode(&block, &mut decoded).unwrap();
        let many = vec![0xbe; 16_384];
        decoder.decode(&many, &mut decoded).unwrap();
        assert!(decoded.text.len() <= MOST_LIST);
        // The same name again and again is one.
        let names = [0x7e, 0x00].repeat(8_000);
        decoder.decode(&names, &mut decoded).unwrap();
        assert!(decoder.bytes <= 4096 && decoded.text.len() <= MOST_LIST);
    }

    proptest! {
        #[test]
        fn any_block_is_accepted(blocks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 0..8)) {
            let (mut decoder, mut decoded) = (Decoder::default(), Decoded::default());
            for block in blocks {
                let _ = decoder.decode(&block, &mut decoded);
                prop_assert!(decoder.bytes <= decoder.most.max(4096));
                decoded.fields().for_each(drop);
            }
        }
    }
}
