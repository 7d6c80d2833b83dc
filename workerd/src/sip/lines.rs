//! Lines of SIP messages and of session descriptions.
//!
//! A line ends at LF, with any number of CRs before it, or at CRs alone (RFC 2543 allowed all three). Only an empty line that ends in
//! LF ends a head: CRs alone can't hide the headers behind them.

use memchr::memchr2;

/// The first line of `text` without its end, and what is behind that end. `None` if there is no text.
#[must_use]
#[inline]
pub fn split_line(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.is_empty() {
        return None;
    }
    let Some(end) = memchr2(b'\r', b'\n', text) else {
        return Some((text, &[]));
    };
    let (line, rest) = text.split_at(end);
    // The usual end first.
    if let Some(rest) = rest.strip_prefix(b"\r\n") {
        return Some((line, rest));
    }
    let returns = rest.iter().take_while(|byte| **byte == b'\r').count();
    let newline = usize::from(rest.get(returns) == Some(&b'\n'));
    Some((line, &rest[returns + newline..]))
}

/// The first logical line: with the lines that continue it (RFC 3261 section 7.3.1), their line ends inside, without its own end.
/// `None` at the empty line and at the end; `rest` then begins behind the empty line.
#[inline]
pub fn next_logical_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (mut start, mut line);
    loop {
        start = *rest;
        let behind;
        (line, behind) = split_line(start)?;
        *rest = behind;
        if !line.is_empty() {
            break;
        }
        if start[..start.len() - behind.len()].ends_with(b"\n") {
            return None;
        }
    }
    let mut len = line.len();
    while let Some(b' ' | b'\t') = rest.first() {
        let Some((line, behind)) = split_line(rest) else {
            break;
        };
        len = start.len() - rest.len() + line.len();
        *rest = behind;
    }
    Some(&start[..len])
}

/// Name and value of a header line, without the blanks around them. `None` without a colon or a name.
#[must_use]
#[inline]
pub fn split_header(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', line)?;
    let name = line[..colon].trim_ascii();
    (!name.is_empty()).then(|| (name, line[colon + 1..].trim_ascii()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logical(text: &[u8]) -> (Vec<&[u8]>, &[u8]) {
        let mut rest = text;
        let lines = std::iter::from_fn(|| next_logical_line(&mut rest)).collect();
        (lines, rest)
    }

    #[test]
    fn lines_end_in_any_way_and_continue() {
        let (lines, body) =
            logical(b"a: 1\r\nb: 2\n c\r\n\td\re:3\r\r\nf\n\rg\r\rh\r\n\r\nbody\r\n");
        let expected = [&b"a: 1"[..], b"b: 2\n c\r\n\td", b"e:3", b"f", b"g", b"h"];
        assert_eq!((lines, body), (expected.to_vec(), &b"body\r\n"[..]));
        assert_eq!(logical(b"a\n\nb"), (vec![&b"a"[..]], &b"b"[..]));
        assert_eq!(logical(b"\r\r\r"), (vec![], &b""[..]));
    }

    /// Table C, rows 6 to 8, and a usual line.
    #[test]
    fn header_lines_are_split() {
        let split = |line: &'static str| {
            split_header(line.as_bytes()).map(|(name, value)| {
                (
                    String::from_utf8_lossy(name).to_ascii_lowercase(),
                    String::from_utf8_lossy(value).into_owned(),
                )
            })
        };
        let pair = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(split(": some value"), None, "C6");
        assert_eq!(split("  Call-ID  :  k1  "), pair("call-id", "k1"), "C7");
        assert_eq!(split("NoColonHere"), None, "C8");
        assert_eq!(split("To:"), pair("to", ""));
    }
}
