//! Fingerprints of hellos.
//!
//! | | of | made as |
//! |---|---|---|
//! | JA3, JA3S | ClientHello, ServerHello | github.com/salesforce/ja3: MD5 of the hello's numbers in decimal, `legacy_version` first |
//! | JA4 | ClientHello | github.com/FoxIO-LLC/ja4, technical details of JA4: what is offered in clear, and SHA-256 of sorted lists |
//!
//! GREASE (RFC 8701) is left out of all of them. lippycat writes another version into JA3 and JA3S: the first that is listed in `supported_versions`. That variant is
//! told apart ([`Version::Listed`]), so that filters made from its values match too.
//!
//! The other methods of the JA4+ suite (JA4S, JA4H, JA4X and so on) are under a licence that forbids much commercial use, and are not computed here.

use super::hello::{Carrier, ClientHello, ServerHello};
use super::version;
use md5::{Digest, Md5};
use sha2::Sha256;

/// Which version JA3 and JA3S begin with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// `legacy_version`: as published.
    Legacy,
    /// The first one in `supported_versions` that is not GREASE, if there is such a list: as lippycat does.
    Listed,
}

/// Length of a JA4.
pub const JA4_LEN: usize = 36;
/// Numbers of a list that are sorted without allocating: more than any known client sends.
const FEW: usize = 256;

/// Gives `put` the text that the JA3 of `hello` is the hash of.
pub fn write_ja3(hello: &ClientHello<'_>, version: Version, put: &mut impl FnMut(&[u8])) {
    let version = match version {
        Version::Legacy => hello.version,
        Version::Listed => hello.first_version(),
    };
    let formats = hello.point_formats().iter();
    decimals(std::iter::once(version), put);
    put(b",");
    decimals(hello.ciphers(), put);
    put(b",");
    decimals(hello.extension_types(), put);
    put(b",");
    decimals(hello.groups(), put);
    put(b",");
    decimals(formats.map(|format| u16::from(*format)), put);
}

/// Gives `put` the text that the JA3S of `hello` is the hash of.
pub fn write_ja3s(hello: &ServerHello<'_>, version: Version, put: &mut impl FnMut(&[u8])) {
    let version = match version {
        Version::Legacy => hello.version,
        Version::Listed => hello.chosen_version(),
    };
    decimals(std::iter::once(version), put);
    put(b",");
    decimals(std::iter::once(hello.cipher), put);
    put(b",");
    decimals(hello.extension_types(), put);
}

/// JA3: 32 hexadecimal digits.
#[must_use]
pub fn ja3(hello: &ClientHello<'_>, version: Version) -> [u8; 32] {
    let mut hash = Md5::new();
    write_ja3(hello, version, &mut |text| hash.update(text));
    hex(&hash.finalize())
}

/// JA3 as lippycat has it, if that is another one.
#[must_use]
pub fn other_ja3(hello: &ClientHello<'_>) -> Option<[u8; 32]> {
    let differs = hello.first_version() != hello.version;
    differs.then(|| ja3(hello, Version::Listed))
}

/// JA3S: 32 hexadecimal digits.
#[must_use]
pub fn ja3s(hello: &ServerHello<'_>, version: Version) -> [u8; 32] {
    let mut hash = Md5::new();
    write_ja3s(hello, version, &mut |text| hash.update(text));
    hex(&hash.finalize())
}

/// JA3S as lippycat has it, if that is another one.
#[must_use]
pub fn other_ja3s(hello: &ServerHello<'_>) -> Option<[u8; 32]> {
    let differs = hello.chosen_version() != hello.version;
    differs.then(|| ja3s(hello, Version::Listed))
}

/// JA4.
#[must_use]
pub fn ja4(hello: &ClientHello<'_>) -> [u8; JA4_LEN] {
    let cipher_hash = sorted(hello.ciphers(), |ciphers| {
        let mut hash = Sha256::new();
        hexadecimals(ciphers.iter().copied(), &mut |text| hash.update(text));
        (!ciphers.is_empty()).then(|| hex(&hash.finalize()))
    });
    let extension_hash = sorted(hello.anonymous_extension_types(), |types| {
        let mut hash = Sha256::new();
        hexadecimals(types.iter().copied(), &mut |text| hash.update(text));
        let mut signatures = hello.signatures().peekable();
        if signatures.peek().is_some() {
            hash.update(b"_");
            hexadecimals(signatures, &mut |text| hash.update(text));
        }
        (!types.is_empty()).then(|| hex(&hash.finalize()))
    });
    let mut text = [b'_'; JA4_LEN];
    text[..10].copy_from_slice(&clear_part(hello));
    text[11..23].copy_from_slice(&cipher_hash.unwrap_or([b'0'; 12]));
    text[24..].copy_from_slice(&extension_hash.unwrap_or([b'0'; 12]));
    text
}

/// The first part of JA4.
fn clear_part(hello: &ClientHello<'_>) -> [u8; 10] {
    let carrier = match hello.carrier {
        Carrier::Stream => b't',
        Carrier::Dtls => b'd',
        Carrier::Quic => b'q',
    };
    let [major, minor] = version::short(hello.newest_version());
    let name = if hello.has_server_name() { b'd' } else { b'i' };
    let [cipher_tens, cipher_ones] = two_digits(hello.ciphers().count());
    let [extension_tens, extension_ones] = two_digits(hello.extension_types().count());
    let [first, last] = ends(hello.application_protocols().next().unwrap_or_default());
    [
        carrier,
        major,
        minor,
        name,
        cipher_tens,
        cipher_ones,
        extension_tens,
        extension_ones,
        first,
        last,
    ]
}

/// First and last character of an application protocol, or hexadecimal digit where these are no letters or digits.
fn ends(protocol: &[u8]) -> [u8; 2] {
    let ([first, .., last] | [first @ last]) = protocol else {
        return [b'0', b'0'];
    };
    match first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        true => [*first, *last],
        false => [HEX[usize::from(first >> 4)], HEX[usize::from(last & 15)]],
    }
}

fn two_digits(count: usize) -> [u8; 2] {
    let count = count.min(99) as u8;
    [b'0' + count / 10, b'0' + count % 10]
}

/// Calls `then` with the numbers in ascending order. Allocates only if they are many.
fn sorted<R>(numbers: impl Iterator<Item = u16>, then: impl FnOnce(&[u16]) -> R) -> R {
    let mut few = [0; FEW];
    let mut count = 0;
    let mut numbers = numbers;
    for (place, number) in few.iter_mut().zip(&mut numbers) {
        *place = number;
        count += 1;
    }
    let Some(next) = numbers.next() else {
        few[..count].sort_unstable();
        return then(&few[..count]);
    };
    let mut many = few.to_vec();
    many.push(next);
    many.extend(numbers);
    many.sort_unstable();
    then(&many)
}

/// Numbers in decimal, with `-` between them.
fn decimals(numbers: impl Iterator<Item = u16>, put: &mut impl FnMut(&[u8])) {
    let mut text = itoa::Buffer::new();
    for (n, number) in numbers.enumerate() {
        if n > 0 {
            put(b"-");
        }
        put(text.format(number).as_bytes());
    }
}

/// Numbers in four hexadecimal digits, with `,` between them.
fn hexadecimals(numbers: impl Iterator<Item = u16>, put: &mut impl FnMut(&[u8])) {
    for (n, number) in numbers.enumerate() {
        if n > 0 {
            put(b",");
        }
        put(&[12, 8, 4, 0].map(|shift| HEX[usize::from(number >> shift & 15)]));
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

/// The first digits of `hash`, which must have so many.
fn hex<const DIGITS: usize>(hash: &[u8]) -> [u8; DIGITS] {
    std::array::from_fn(|n| HEX[usize::from(hash[n / 2] >> (4 * (1 - n % 2)) & 15)])
}
