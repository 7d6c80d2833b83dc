//! Host and target of an HTTP/1 request (RFC 9112) whose head starts in the packet.

use super::lines::{Lines, header, starts_ignoring_case};
use crate::matcher::{Fields, Kind, Kinds};
use memchr::memchr3;

/// What a request has.
pub const KINDS: Kinds = Kinds::of(&[Kind::HttpHost, Kind::HttpUrl]);

/// Longest name of a method.
const METHOD: usize = 24;

/// Whether a request may start so: a method and a blank.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    let name = head
        .iter()
        .take(METHOD + 1)
        .take_while(|byte| is_method(**byte))
        .count();
    (3..=METHOD).contains(&name) && head.get(name) == Some(&b' ')
}

/// Adds the wanted fields. False if it is no request.
pub fn extract(segment: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    if !may_begin(segment) {
        return false;
    }
    let mut lines = Lines::new(segment);
    let Some(target) = lines.next().and_then(target) else {
        return false;
    };
    if wanted.has(Kind::HttpUrl) {
        fields.push(Kind::HttpUrl, target);
    }
    if !wanted.has(Kind::HttpHost) {
        return true;
    }
    // A target with a host of its own overrides the header (RFC 9112 section 3.2.2); both are compared.
    for scheme in [&b"http://"[..], b"https://"] {
        if starts_ignoring_case(target, scheme) {
            let rest = &target[scheme.len()..];
            let end = memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len());
            fields.push(Kind::HttpHost, &rest[..end]);
        }
    }
    for (name, value) in lines.filter_map(header) {
        if name.eq_ignore_ascii_case(b"host") {
            fields.push(Kind::HttpHost, value);
        }
    }
    true
}

/// The second word of a request line that ends with a version.
fn target(line: &[u8]) -> Option<&[u8]> {
    let mut words = line
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let (_, target, version) = (words.next()?, words.next()?, words.next()?);
    let is_version = matches!(
        version,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']
    );
    (is_version && words.next().is_none()).then_some(target)
}

fn is_method(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte == b'-' || byte == b'_'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(segment: &str) -> Vec<(Kind, String)> {
        let mut fields = Fields::default();
        extract(segment.as_bytes(), Kinds::ALL, &mut fields);
        let text = |text: &[u8]| String::from_utf8(text.to_vec()).unwrap();
        fields
            .iter()
            .map(|(_, kind, value)| (kind, text(value)))
            .collect()
    }

    #[test]
    fn host_and_target_are_found() {
        let url = |text: &str| (Kind::HttpUrl, text.to_owned());
        let host = |text: &str| (Kind::HttpHost, text.to_owned());
        assert_eq!(
            fields("GET /a?b=C HTTP/1.1\r\nAccept: x\r\nhOST : Example.com:8080 \r\n\r\nHost: no"),
            [url("/a?b=c"), host("example.com:8080")]
        );
        assert_eq!(
            fields("GET http://one.example/x HTTP/1.1\nHost: two.example\n"),
            [
                url("http://one.example/x"),
                host("one.example"),
                host("two.example")
            ]
        );
        assert_eq!(fields("PROPFIND / HTTP/1.0\r\n"), [url("/")]);
        for other in [
            "INVITE sip:a@b SIP/2.0\r\n",
            "HTTP/1.1 200 OK\r\n",
            "GET /cut HTT",
            "GET / HTTP/1.1 x\r\n",
            "get / HTTP/1.1\r\n",
        ] {
            assert_eq!(fields(other), [], "{other}");
        }
    }
}
