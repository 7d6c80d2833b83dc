//! The Huffman code of HPACK (RFC 7541 appendix B). It is canonical: the lengths of the codes say all.

/// Why a string can't be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a string is not in HPACK's Huffman code")]
pub struct Invalid;

/// Bits of each byte's code, and of the mark of the end, which must not occur.
const BITS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, //
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, //
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, //
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, //
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, //
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, //
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, //
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, //
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, //
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, //
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, //
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, //
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, //
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, //
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, //
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, //
    30,
];
const LONGEST: usize = 30;
const END: u16 = 256;

/// The codes, by their length.
struct Codes {
    /// The symbols, those with short codes first.
    symbols: [u16; 257],
    /// The first code of each length, and where its symbol stands.
    first: [(u32, u32); LONGEST + 2],
}

static CODES: Codes = codes();

const fn codes() -> Codes {
    let mut symbols = [0; 257];
    let mut first = [(0, 0); LONGEST + 2];
    let (mut code, mut place, mut bits) = (0, 0, 1);
    while bits <= LONGEST {
        first[bits] = (code, place);
        let mut symbol = 0;
        while symbol < BITS.len() {
            if BITS[symbol] as usize == bits {
                symbols[place as usize] = symbol as u16;
                place += 1;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        bits += 1;
    }
    first[LONGEST + 1] = (code, place);
    Codes { symbols, first }
}

/// Appends what `coded` stands for.
///
/// # Errors
/// [`Invalid`]
pub fn decode(coded: &[u8], out: &mut Vec<u8>) -> Result<(), Invalid> {
    let (mut code, mut bits) = (0_u32, 0);
    for byte in coded {
        for shift in (0..8).rev() {
            code = code << 1 | u32::from(byte >> shift & 1);
            bits += 1;
            let ((first, place), (_, next)) = (CODES.first[bits], CODES.first[bits + 1]);
            if code - first < next - place {
                match CODES.symbols[(place + code - first) as usize] {
                    END => return Err(Invalid),
                    symbol => out.push(symbol as u8),
                }
                (code, bits) = (0, 0);
            }
        }
    }
    // Padded with the beginning of the mark, which is all ones.
    let is_padded = bits < 8 && code == (1 << bits) - 1;
    is_padded.then_some(()).ok_or(Invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(coded: &[u8]) -> Result<String, Invalid> {
        let mut out = vec![];
        decode(coded, &mut out).map(|()| String::from_utf8(out).unwrap())
    }

    /// RFC 7541 appendix C.4 and C.6.
    #[test]
    fn examples_of_the_specification() {
        for (coded, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x64\x02", "302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
            (b"", ""),
        ] {
            assert_eq!(decoded(coded).as_deref(), Ok(text));
        }
    }

    #[test]
    fn wrong_padding_and_the_mark_of_the_end_are_refused() {
        for coded in [
            &b"\x64\x02\x00"[..],
            b"\x64\x02\xff",
            b"\xff\xff\xff\xff",
            b"\xff\xff\xff\xfc",
        ] {
            assert_eq!(decoded(coded), Err(Invalid), "{coded:?}");
        }
    }

    #[test]
    fn every_byte_has_its_code() {
        let mut seen = [false; 257];
        CODES
            .symbols
            .iter()
            .for_each(|symbol| seen[usize::from(*symbol)] = true);
        assert!(seen.iter().all(|seen| *seen));
        // The codes fill their space.
        assert_eq!(CODES.first[LONGEST + 1], (1 << (LONGEST + 1), 257));
    }
}
