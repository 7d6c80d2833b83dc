//! Fields of a TLS hello that is whole in one TCP segment (RFC 8446 section 4.1, RFC 5246).
//!
//! - Server name: RFC 6066 section 3.
//! - JA3, JA3S: MD5 of version, ciphers, extensions, groups and point formats as the hello has them in its own fields, without GREASE
//!   (RFC 8701); github.com/salesforce/ja3.
//! - JA4: github.com/FoxIO-LLC/ja4, technical details of JA4; SHA-256.

use super::reader::{Reader, numbers};
use crate::matcher::{Fields, Kind, Kinds};
use md5::{Digest, Md5};
use sha2::Sha256;

/// What a hello has.
pub const KINDS: Kinds = Kinds::of(&[Kind::TlsSni, Kind::TlsJa3, Kind::TlsJa3s, Kind::TlsJa4]);

/// Longest record (RFC 8446 section 5.1), and so most numbers of two bytes in a list.
const RECORD: usize = 16_384;
const MOST_NUMBERS: usize = RECORD / 2;

mod extension {
    pub(super) const SERVER_NAME: u16 = 0;
    pub(super) const GROUPS: u16 = 10;
    pub(super) const POINT_FORMATS: u16 = 11;
    pub(super) const SIGNATURES: u16 = 13;
    pub(super) const ALPN: u16 = 16;
    pub(super) const VERSIONS: u16 = 43;
}

/// Whether a hello may start so.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    matches!(head, [22, 3, 0..=4, _, _, 1 | 2, ..])
}

/// Adds the wanted fields. False if it is no whole hello.
pub fn extract(segment: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    may_begin(segment) && hello(segment, wanted, fields).is_some()
}

fn hello(segment: &[u8], wanted: Kinds, fields: &mut Fields) -> Option<()> {
    let record = Reader(segment.get(3..)?).piece16()?;
    let mut handshake = Reader(record);
    let kind = handshake.u8()?;
    let len = handshake.u24()? as usize;
    let body = Reader(handshake.take(len)?);
    if record.len() > RECORD {
        return None;
    }
    match kind {
        1 => ClientHello::read(body)?.push(wanted, fields),
        _ => ServerHello::read(body)?.push(wanted, fields),
    }
    Some(())
}

struct ClientHello<'a> {
    version: u16,
    ciphers: &'a [u8],
    extensions: Extensions<'a>,
}

struct ServerHello<'a> {
    version: u16,
    cipher: u16,
    extensions: Extensions<'a>,
}

impl<'a> ServerHello<'a> {
    fn read(mut body: Reader<'a>) -> Option<Self> {
        let version = body.u16()?;
        body.take(32)?;
        body.piece8()?;
        let cipher = body.u16()?;
        body.u8()?;
        let extensions = Extensions::read(body)?;
        Some(Self {
            version,
            cipher,
            extensions,
        })
    }

    fn push(&self, wanted: Kinds, fields: &mut Fields) {
        if wanted.has(Kind::TlsJa3s) {
            let mut text = Joined::<Md5>::default();
            text.number(self.version);
            text.next_list();
            text.number(self.cipher);
            text.next_list();
            text.numbers(self.extensions.types());
            fields.push(Kind::TlsJa3s, &text.hex::<32>());
        }
    }
}

impl<'a> ClientHello<'a> {
    fn read(mut body: Reader<'a>) -> Option<Self> {
        let version = body.u16()?;
        body.take(32)?;
        body.piece8()?;
        let ciphers = body.piece16()?;
        body.piece8()?;
        let extensions = Extensions::read(body)?;
        Some(Self {
            version,
            ciphers,
            extensions,
        })
    }

    fn push(&self, wanted: Kinds, fields: &mut Fields) {
        if let (true, Some(name)) = (wanted.has(Kind::TlsSni), self.server_name()) {
            fields.push(Kind::TlsSni, name);
        }
        if wanted.has(Kind::TlsJa3) {
            fields.push(Kind::TlsJa3, &self.ja3());
        }
        if wanted.has(Kind::TlsJa4) {
            let [start, ciphers, extensions] = &self.ja4();
            fields.push_parts(
                Kind::TlsJa4,
                &[&start[..10], b"_", ciphers, b"_", extensions],
            );
        }
    }

    fn server_name(&self) -> Option<&'a [u8]> {
        let mut entries = Reader(Reader(self.extensions.find(extension::SERVER_NAME)?).piece16()?);
        while let Some(kind) = entries.u8() {
            let name = entries.piece16()?;
            if kind == 0 {
                return (!name.is_empty()).then_some(name);
            }
        }
        None
    }

    fn ja3(&self) -> [u8; 32] {
        let mut text = Joined::<Md5>::default();
        text.number(self.version);
        text.next_list();
        text.numbers(without_grease(self.ciphers));
        text.next_list();
        text.numbers(self.extensions.types());
        text.next_list();
        text.numbers(without_grease(self.list16(extension::GROUPS)));
        text.next_list();
        let formats = self.extensions.find(extension::POINT_FORMATS);
        let formats = formats
            .and_then(|data| Reader(data).piece8())
            .unwrap_or_default();
        text.numbers(formats.iter().map(|format| u16::from(*format)));
        text.hex()
    }

    /// The three parts; of the first, ten characters count.
    fn ja4(&self) -> [[u8; 12]; 3] {
        let mut sorted = [0; MOST_NUMBERS];
        let ciphers = fill(&mut sorted, without_grease(self.ciphers));
        let cipher_count = ciphers.len();
        ciphers.sort_unstable();
        let mut text = Joined::<Sha256>::default();
        ciphers.iter().for_each(|cipher| text.hex_number(*cipher));
        let cipher_hash = if cipher_count == 0 {
            [b'0'; 12]
        } else {
            text.hex()
        };

        let extension_count = self.extensions.types().count();
        let counted = self.extensions.types();
        let counted =
            counted.filter(|kind| ![extension::SERVER_NAME, extension::ALPN].contains(kind));
        let extensions = fill(&mut sorted, counted);
        extensions.sort_unstable();
        let has_none = extensions.is_empty();
        let mut text = Joined::<Sha256>::default();
        extensions.iter().for_each(|kind| text.hex_number(*kind));
        let mut signatures = without_grease(self.list16(extension::SIGNATURES)).peekable();
        if signatures.peek().is_some() {
            text.next_part();
            signatures.for_each(|signature| text.hex_number(signature));
        }
        let extension_hash = if has_none { [b'0'; 12] } else { text.hex() };

        let has_name = self.extensions.find(extension::SERVER_NAME).is_some();
        let [cipher_tens, cipher_ones] = two_digits(cipher_count);
        let [extension_tens, extension_ones] = two_digits(extension_count);
        let [major, minor] = *self.newest_version();
        let [first, last] = self.protocol();
        let start = [
            b't',
            major,
            minor,
            if has_name { b'd' } else { b'i' },
            cipher_tens,
            cipher_ones,
            extension_tens,
            extension_ones,
            first,
            last,
            0,
            0,
        ];
        [start, cipher_hash, extension_hash]
    }

    fn newest_version(&self) -> &'static [u8; 2] {
        let offered = self.extensions.find(extension::VERSIONS);
        let offered = offered
            .and_then(|data| Reader(data).piece8())
            .unwrap_or_default();
        match without_grease(offered).max().unwrap_or(self.version) {
            0x0304 => b"13",
            0x0303 => b"12",
            0x0302 => b"11",
            0x0301 => b"10",
            0x0300 => b"s3",
            0x0002 => b"s2",
            _ => b"00",
        }
    }

    /// First and last character of the first application protocol (RFC 7301).
    fn protocol(&self) -> [u8; 2] {
        let list = self.extensions.find(extension::ALPN);
        let list = list
            .and_then(|data| Reader(data).piece16())
            .unwrap_or_default();
        let Some([first, .., last] | [first @ last]) = Reader(list).piece8() else {
            return [b'0', b'0'];
        };
        match first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
            true => [*first, *last],
            false => [HEX[usize::from(first >> 4)], HEX[usize::from(last & 15)]],
        }
    }

    /// Content of an extension that is a list of numbers behind its length.
    fn list16(&self, kind: u16) -> &'a [u8] {
        let data = self.extensions.find(kind);
        data.and_then(|data| Reader(data).piece16())
            .unwrap_or_default()
    }
}

/// Extensions that are whole.
#[derive(Clone, Copy)]
struct Extensions<'a>(&'a [u8]);

impl<'a> Extensions<'a> {
    /// `None` if one runs past the end. There may be none at all.
    fn read(mut body: Reader<'a>) -> Option<Self> {
        if body.0.is_empty() {
            return Some(Self(&[]));
        }
        let bytes = body.piece16()?;
        let mut rest = Reader(bytes);
        while !rest.0.is_empty() {
            rest.u16()?;
            rest.piece16()?;
        }
        Some(Self(bytes))
    }

    fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = Reader(self.0);
        std::iter::from_fn(move || Some((rest.u16()?, rest.piece16()?)))
    }

    fn find(self, kind: u16) -> Option<&'a [u8]> {
        self.iter()
            .find(|(one, _)| *one == kind)
            .map(|(_, data)| data)
    }

    fn types(self) -> impl Iterator<Item = u16> {
        self.iter()
            .map(|(kind, _)| kind)
            .filter(|kind| !is_grease(*kind))
    }
}

fn without_grease(list: &[u8]) -> impl Iterator<Item = u16> {
    numbers(list).filter(|number| !is_grease(*number))
}

fn is_grease(number: u16) -> bool {
    number & 0x0f0f == 0x0a0a && number >> 8 == number & 0xff
}

fn fill(room: &mut [u16], numbers: impl Iterator<Item = u16>) -> &mut [u16] {
    let mut count = 0;
    for (place, number) in room.iter_mut().zip(numbers) {
        *place = number;
        count += 1;
    }
    &mut room[..count]
}

fn two_digits(count: usize) -> [u8; 2] {
    let count = count.min(99) as u8;
    [b'0' + count / 10, b'0' + count % 10]
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Hashes lists of numbers as text, without building the text.
#[derive(Default)]
struct Joined<H> {
    hash: H,
    is_inside: bool,
}

impl<H: Digest> Joined<H> {
    /// `-` between the numbers of a list.
    fn number(&mut self, number: u16) {
        if std::mem::replace(&mut self.is_inside, true) {
            self.hash.update(b"-");
        }
        let digits = [10_000, 1_000, 100, 10, 1].map(|unit| b'0' + (number / unit % 10) as u8);
        let start = digits.iter().position(|digit| *digit != b'0').unwrap_or(4);
        self.hash.update(&digits[start..]);
    }

    fn numbers(&mut self, numbers: impl Iterator<Item = u16>) {
        numbers.for_each(|number| self.number(number));
    }

    fn next_list(&mut self) {
        self.hash.update(b",");
        self.is_inside = false;
    }

    /// Four hexadecimal digits, and `,` between numbers.
    fn hex_number(&mut self, number: u16) {
        if std::mem::replace(&mut self.is_inside, true) {
            self.hash.update(b",");
        }
        self.hash
            .update([12, 8, 4, 0].map(|shift| HEX[usize::from(number >> shift & 15)]));
    }

    fn next_part(&mut self) {
        self.hash.update(b"_");
        self.is_inside = false;
    }

    /// The first digits of the hash.
    fn hex<const DIGITS: usize>(self) -> [u8; DIGITS] {
        let hash = self.hash.finalize();
        std::array::from_fn(|n| HEX[usize::from(hash[n / 2] >> (4 * (1 - n % 2)) & 15)])
    }
}
