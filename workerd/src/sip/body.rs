//! Bodies: which part of one is the session description.
//!
//! A body is a session description if `Content-Type` says so, or if there is none and its first line looks like one. In a multipart
//! body (RFC 2046, RFC 5621) it is the first part of that type, at most [`MOST_NESTED`] multiparts deep and within the first
//! [`MOST_PARTS`] parts of each. A body with a `Content-Encoding` is recognised, but not decompressed.

use memchr::memmem;

use super::address::params;
use super::header::Name;
use super::lines::{next_logical_line, split_header};
use super::message::Message;

/// Most parts of a multipart body that are looked at.
pub const MOST_PARTS: usize = 16;
/// Most multiparts within each other.
pub const MOST_NESTED: usize = 3;
/// Longest boundary (RFC 2046 section 5.1.1).
const LONGEST_BOUNDARY: usize = 70;

/// What a message says of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Description<'a> {
    /// A session description.
    Sdp(&'a [u8]),
    /// One that is compressed or otherwise encoded, and not read.
    Encoded(&'a [u8]),
    /// None.
    None,
}

/// The session description of a message. Work is linear in the body.
#[must_use]
pub fn description<'a>(message: &Message<'a>) -> Description<'a> {
    let content_type = message.last(Name::ContentType).map(|value| value.0);
    let encoding = message.last(Name::ContentEncoding).map(|value| value.0);
    of_part(content_type, encoding, message.body(), MOST_NESTED)
}

fn of_part<'a>(
    content_type: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    body: &'a [u8],
    nested: usize,
) -> Description<'a> {
    let Some(content_type) = content_type else {
        return match body {
            [b'a'..=b'z', b'=', ..] => Description::Sdp(body),
            _ => Description::None,
        };
    };
    if body.is_empty() {
        return Description::None;
    }
    let end = content_type
        .iter()
        .position(|byte| matches!(byte, b';' | b' ' | b'\t' | b'\r' | b'\n'));
    let media_type = &content_type[..end.unwrap_or(content_type.len())];
    if media_type.eq_ignore_ascii_case(b"application/sdp") {
        let is_plain = encoding.is_none_or(|encoding| {
            encoding.eq_ignore_ascii_case(b"identity") || encoding.is_empty()
        });
        return match is_plain {
            true => Description::Sdp(body),
            false => Description::Encoded(body),
        };
    }
    let is_multipart = media_type
        .get(..10)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"multipart/"));
    if !is_multipart || nested == 0 {
        return Description::None;
    }
    for part in parts(boundary(content_type), body).take(MOST_PARTS) {
        // A part without a type is text (RFC 2046 section 5.1).
        let content_type = part.content_type.unwrap_or(b"text/plain");
        let found = of_part(Some(content_type), part.encoding, part.content, nested - 1);
        if found != Description::None {
            return found;
        }
    }
    Description::None
}

struct Part<'a> {
    content_type: Option<&'a [u8]>,
    encoding: Option<&'a [u8]>,
    content: &'a [u8],
}

/// The parts of a multipart body. Without a boundary, its first line says it.
fn parts<'a>(boundary: Option<&'a [u8]>, body: &'a [u8]) -> impl Iterator<Item = Part<'a>> {
    let boundary = boundary.unwrap_or_else(|| {
        let line = body.trim_ascii_start();
        let end = memchr::memchr2(b'\r', b'\n', line).unwrap_or(line.len());
        line[..end]
            .strip_prefix(b"--")
            .unwrap_or_default()
            .trim_ascii_end()
    });
    let is_boundary = (1..=LONGEST_BOUNDARY).contains(&boundary.len());
    let mut delimiter = [b'-'; LONGEST_BOUNDARY + 2];
    if is_boundary {
        delimiter[2..boundary.len() + 2].copy_from_slice(boundary);
    }
    let len = boundary.len() + 2;
    // Behind the first delimiter, which stands at the start of a line.
    let first = is_boundary
        .then(|| find_delimiter(body, &delimiter[..len]))
        .flatten();
    let mut rest = first.and_then(|(_, behind)| behind);
    std::iter::from_fn(move || {
        let start = rest.take()?;
        let (end, behind) = find_delimiter(start, &delimiter[..len]).unwrap_or((start.len(), None));
        rest = behind;
        Some(part(&start[..end]))
    })
}

/// Where the next delimiter's line begins, with the line end before it, and what follows that line unless it is the last delimiter.
fn find_delimiter<'a>(text: &'a [u8], delimiter: &[u8]) -> Option<(usize, Option<&'a [u8]>)> {
    let is_line = |at: &usize| {
        let starts = *at == 0 || matches!(text[at - 1], b'\r' | b'\n');
        // Another boundary may begin with this one.
        let ends = matches!(
            text.get(at + delimiter.len()),
            None | Some(b'-' | b' ' | b'\t' | b'\r' | b'\n')
        );
        starts && ends
    };
    let at = memmem::find_iter(text, delimiter).find(is_line)?;
    let behind = &text[at + delimiter.len()..];
    let before = &text[..at];
    let before = before.strip_suffix(b"\n").unwrap_or(before);
    let end = before.strip_suffix(b"\r").unwrap_or(before).len();
    let next = match behind.starts_with(b"--") {
        true => None,
        false => memchr::memchr(b'\n', behind).map(|newline| &behind[newline + 1..]),
    };
    Some((end, next))
}

fn part(text: &[u8]) -> Part<'_> {
    let mut part = Part {
        content_type: None,
        encoding: None,
        content: &[],
    };
    let mut rest = text;
    while let Some(line) = next_logical_line(&mut rest) {
        if let Some((name, value)) = split_header(line) {
            match Name::of(name) {
                Some(Name::ContentType) => part.content_type = Some(value),
                Some(Name::ContentEncoding) => part.encoding = Some(value),
                _ => {}
            }
        }
    }
    part.content = rest;
    part
}

fn boundary(content_type: &[u8]) -> Option<&[u8]> {
    let found = params(content_type).find(|(name, _)| name.eq_ignore_ascii_case(b"boundary"));
    found
        .map(|(_, value)| value)
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(headers: &str, body: &str) -> Option<String> {
        let text = format!("INVITE sip:b@x SIP/2.0\r\n{headers}\r\n\r\n{body}");
        match description(&Message::parse(text.as_bytes()).unwrap()) {
            Description::Sdp(sdp) => Some(String::from_utf8(sdp.to_vec()).unwrap()),
            Description::Encoded(_) => Some("encoded".to_owned()),
            Description::None => None,
        }
    }

    #[test]
    fn the_type_of_the_body_says_whether_it_describes_a_session() {
        let sdp = Some("v=0\r\n".to_owned());
        assert_eq!(described("Content-Type: application/sdp", "v=0\r\n"), sdp);
        assert_eq!(
            described("c : APPLICATION/SDP;charset=utf-8", "v=0\r\n"),
            sdp
        );
        assert_eq!(described("To: t", "v=0\r\n"), sdp);
        assert_eq!(described("To: t", "hello"), None);
        assert_eq!(described("Content-Type: text/plain", "v=0\r\n"), None);
        assert_eq!(described("Content-Type: application/sdp", ""), None);
        let encoded = described("Content-Type: application/sdp\r\ne: gzip", "\u{1f}\u{8b}");
        assert_eq!(encoded.as_deref(), Some("encoded"));
    }

    #[test]
    fn a_part_of_the_body_describes_a_session() {
        let sdp = Some("v=0\r\ns=-".to_owned());
        let body = "preamble --b1\r\n--b1\r\nContent-Type: application/isup;version=nx\r\n\r\n\u{1}--b1\u{2}\r\n\
                    --b1\r\nContent-Disposition: session\r\nc: application/sdp\r\n\r\nv=0\r\ns=-\r\n--b1--\r\n";
        assert_eq!(
            described("Content-Type: multipart/mixed;boundary=b1", body),
            sdp
        );
        assert_eq!(
            described("Content-Type: Multipart/Mixed; x=1; Boundary=\"b1\"", body),
            sdp
        );
        assert_eq!(
            described(
                "Content-Type: multipart/mixed",
                &body["preamble --b1\r\n".len()..]
            ),
            sdp
        );
        assert_eq!(
            described("Content-Type: multipart/mixed;boundary=b2", body),
            None
        );
        let nested =
            format!("--o\nContent-Type: multipart/alternative;boundary=b1\n\n{body}\n--o--");
        assert_eq!(
            described("Content-Type: multipart/mixed;boundary=o", &nested),
            sdp
        );
        let cut = "--b1\r\nContent-Type: application/sdp\r\n\r\nv=0\r\ns=-";
        assert_eq!(
            described("Content-Type: multipart/mixed;boundary=b1", cut),
            sdp
        );
    }

    #[test]
    fn depth_and_number_of_parts_are_bounded() {
        let many = format!(
            "{}--b\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n--b--",
            "--b\r\n\r\nx\r\n".repeat(MOST_PARTS)
        );
        assert_eq!(
            described("Content-Type: multipart/mixed;boundary=b", &many),
            None
        );
        let mut deep = "v=0".to_owned();
        for level in 0..6 {
            let inner = match level {
                0 => "application/sdp".to_owned(),
                _ => format!("multipart/mixed;boundary=b{}", level - 1),
            };
            deep = format!("--b{level}\r\nContent-Type: {inner}\r\n\r\n{deep}\r\n--b{level}--\r\n");
        }
        assert_eq!(
            described("Content-Type: multipart/mixed;boundary=b5", &deep),
            None
        );
    }
}
