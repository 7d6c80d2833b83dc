//! Host and target of an HTTP/1 request whose head starts in the packet, by [`crate::http`].

use crate::http::head::{Head, Start};
use crate::matcher::{Fields, Kind, Kinds};

/// What a request has.
pub const KINDS: Kinds = Kinds::of(&[Kind::HttpHost, Kind::HttpUrl]);

/// Whether a request may start so: a method and a blank.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    head.first().is_some_and(u8::is_ascii_uppercase) && Start::may_begin(head, true)
}

/// Adds the wanted fields. False if it is no request.
pub fn extract(segment: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    if !may_begin(segment) {
        return false;
    }
    let Some(head) = Head::parse(segment) else {
        return false;
    };
    let Start::Request { target, .. } = head.start else {
        return false;
    };
    if wanted.has(Kind::HttpUrl) {
        fields.push(Kind::HttpUrl, target);
    }
    if wanted.has(Kind::HttpHost) {
        // A target with a host of its own overrides the field (RFC 9112 section 3.2.2); both are compared.
        head.hosts()
            .for_each(|host| fields.push(Kind::HttpHost, host));
    }
    true
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
            fields("GET /a?b=C HTTP/1.1\r\nAccept: x\r\nhOST: Example.com:8080 \r\n\r\nHost: no"),
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
