//! HTTP/1 (RFC 9112 sections 3 and 4).
//!
//! A request line of a known method, a target and a version, or a status line; a proxy's header may
//! stand in front. A `GET`, a path and a line end that are all of the payload are a request of version 0.9 (RFC 1945
//! section 4.1). Header names in any case; lines end with CRLF or LF. The upgrade to WebSocket has a
//! signature of its own.

use super::confidence::Confidence;
use super::context::{Context, Layer};
use super::details::Details;
use super::fields::{head, lines, split, word};
use super::protocol::Protocol;
use super::proxy::behind_header;
use super::signature::{Notes, Signature, Verdict, verdict};

/// See the module.
pub struct Http;

const PORTS: &[u16] = &[80, 8080, 8000, 3000];
/// Bytes of a message that are looked at.
pub const WINDOW: usize = 4096;
const METHODS: &[&[u8]] = &[
    b"GET ",
    b"POST ",
    b"PUT ",
    b"DELETE ",
    b"HEAD ",
    b"OPTIONS ",
    b"PATCH ",
    b"TRACE ",
    b"CONNECT ",
];
const VERSIONS: &[&[u8]] = &[b"HTTP/1.0 ", b"HTTP/1.1 ", b"HTTP/2.0 ", b"HTTP/2 "];

/// The first line of a message.
pub enum Start<'a> {
    /// A request line.
    Request {
        /// As it stands.
        method: &'a [u8],
        /// The target.
        path: &'a [u8],
        /// `HTTP/` and more.
        version: &'a [u8],
    },
    /// A status line.
    Response {
        /// `HTTP/` and more.
        version: &'a [u8],
        /// What stands in the place of the code.
        status: &'a [u8],
        /// May be empty.
        reason: &'a [u8],
    },
}

impl<'a> Start<'a> {
    /// The message that starts at the start of a payload.
    #[must_use]
    pub fn of(payload: &'a [u8]) -> Option<Self> {
        if payload.len() < 16 {
            return simple_request(payload);
        }
        // Most packets are parts of bodies.
        if !may_start(payload[0]) {
            return None;
        }
        let line = lines(head(payload, WINDOW)).next()?;
        if VERSIONS.iter().any(|version| payload.starts_with(version)) {
            let (version, rest) = word(line);
            let (status, reason) = word(rest);
            return Some(Self::Response {
                version,
                status,
                reason,
            });
        }
        METHODS.iter().find(|method| payload.starts_with(method))?;
        let (method, rest) = word(line);
        let (path, version) = word(rest);
        (!path.is_empty() && version.starts_with(b"HTTP/")).then_some(Self::Request {
            method,
            path,
            version,
        })
    }
}

/// A request of version 0.9; those as long as a request line of later versions are not looked for.
fn simple_request(payload: &[u8]) -> Option<Start<'_>> {
    let path = payload.strip_prefix(b"GET ")?.strip_suffix(b"\r\n")?;
    let path = path.trim_ascii_end();
    let possible = path.first() == Some(&b'/') && path.iter().all(u8::is_ascii_graphic);
    possible.then_some(Start::Request {
        method: b"GET",
        path,
        version: b"HTTP/0.9",
    })
}

/// The value of the header `name`, which must be lower case.
#[must_use]
pub fn header<'a>(payload: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    lines(head(payload, WINDOW))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .find_map(|line| {
            let (found, value) = split(line, b':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
        })
}

/// Whether a method or a version starts with this byte.
#[inline]
fn may_start(first: u8) -> bool {
    matches!(first, b'C' | b'D' | b'G' | b'H' | b'O' | b'P' | b'T')
}

impl Signature for Http {
    fn protocols(&self) -> &'static [Protocol] {
        &[Protocol::Http]
    }

    fn starts(&self, layer: Layer, first: u8) -> bool {
        let known =
            METHODS.iter().any(|method| method[0] == first) || matches!(first, b'H' | b'\r');
        matches!(layer, Layer::Tcp | Layer::Udp | Layer::Sctp) && known
    }

    fn judge(&self, context: &Context<'_>, _: &mut Notes<'_>) -> Option<Verdict> {
        Start::of(behind_header(context.payload))?;
        let confidence = Confidence::by_port(context.on(PORTS), 1000, 800);
        verdict(Protocol::Http, confidence)
    }

    fn describe(
        &self,
        context: &Context<'_>,
        _: Protocol,
        notes: &mut Notes<'_>,
        details: &mut Details,
    ) {
        let payload = behind_header(context.payload);
        let told: &[(&'static str, &[u8])] = match Start::of(payload) {
            Some(Start::Request {
                method,
                path,
                version,
            }) => {
                details.put("type", "request");
                details.text("method", method);
                details.text("path", path);
                details.text("version", version);
                &[
                    ("host", b"host"),
                    ("user_agent", b"user-agent"),
                    ("content_type", b"content-type"),
                ]
            }
            Some(Start::Response {
                version,
                status,
                reason,
            }) => {
                details.put("type", "response");
                details.text("version", version);
                details.text("status_code", status);
                details.text_if_any("reason", reason);
                if let Some(request) = notes.memory.request(notes.scratch) {
                    let passed = context.time_ns.saturating_sub(request.time_ns);
                    details.text("request_method", request.method.as_bytes());
                    details.text("request_path", request.path.as_bytes());
                    details.put("response_time_ms", passed / 1_000_000);
                }
                &[
                    ("server", b"server"),
                    ("content_type", b"content-type"),
                    ("content_length", b"content-length"),
                ]
            }
            None => &[],
        };
        for (key, name) in told {
            if let Some(value) = header(payload, name) {
                details.text(key, value);
            }
        }
    }

    fn watches(&self) -> bool {
        true
    }

    fn watch(&self, context: &Context<'_>, notes: &mut Notes<'_>) {
        if let Some(Start::Request { method, path, .. }) = Start::of(behind_header(context.payload))
        {
            *notes.scratch = notes.memory.remember(method, path, context.time_ns);
        }
    }

    /// Upgrades (RFC 9110 section 7.8), and what is tunnelled by CONNECT.
    fn upgrades(&self) -> &'static [Protocol] {
        &[Protocol::WebSocket, Protocol::Http2, Protocol::Tls]
    }
}

#[cfg(test)]
mod tests {
    use super::super::probe;
    use super::*;

    #[test]
    fn a_request_of_the_first_version_is_a_line_alone() {
        let (name, details) = probe(Layer::Tcp, (40000, 80), b"GET /\r\n\r\n").unwrap();
        assert_eq!((name, details.get("version")), ("HTTP", Some("HTTP/0.9")));
        assert_eq!(details.get("path"), Some("/"));
        for payload in [&b"GET /"[..], b"GET x\r\n", b"GET /a b\r\n", b"GET /\r\nx"] {
            assert!(probe(Layer::Tcp, (40000, 80), payload).is_none());
        }
    }

    #[test]
    fn a_proxy_may_say_whose_request_it_is() {
        let payload = b"PROXY UNKNOWN\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n";
        let (name, details) = probe(Layer::Tcp, (40000, 80), payload).unwrap();
        assert_eq!((name, details.get("path")), ("HTTP", Some("/x")));
        assert!(probe(Layer::Tcp, (40000, 80), b"PROXY GET /x HTTP/1.1\r\n").is_none());
    }
}
