//! What is told of the packets that carry heads: `docs/METADATA.md` lists the keys. Passwords, tokens and cookies are not among them.

use std::fmt;

use memchr::memmem;

use super::framing::content_length;
use super::head::{Head, Start, authority, behind_authority, split_query, usual_reason};
use super::http2;
use super::pair::Request;
use crate::detect::details::{Details, Text};
use crate::session::Note;

/// Writes notes, one at a time.
#[derive(Debug, Default)]
pub struct Notes {
    details: Details,
}

impl Notes {
    /// Of a request.
    pub fn request(&mut self, head: &Head<'_>) -> Note<'_> {
        let details = &mut self.details;
        details.clear();
        if let Start::Request {
            method,
            target,
            version,
        } = head.start
        {
            let host = host_of(head);
            let (path, query) = split_query(target);
            details.put("http.type", "request");
            details.text("http.method", method);
            details.text_if_any("http.host", host);
            details.put("http.path", format_args!("{}", Place { host: b"", path }));
            details.text_if_any("http.query", query);
            details.text("http.version", version);
            field(details, head, "http.user_agent", b"user-agent");
            body(details, head);
            let has_auth = [&b"authorization"[..], b"proxy-authorization"]
                .into_iter()
                .any(|name| head.get(name).is_some());
            details.flag("http.has_auth", has_auth);
            details.set_info(format_args!("{} {}", Text(method), Place { host, path }));
        }
        self.note(head)
    }

    /// Of a response that began at `time_ns`, and the request that it answers.
    pub fn response(
        &mut self,
        head: &Head<'_>,
        request: Option<&Request>,
        time_ns: u64,
    ) -> Note<'_> {
        let details = &mut self.details;
        details.clear();
        if let Start::Response {
            version,
            status,
            reason,
        } = head.start
        {
            let reason = match reason {
                [] => usual_reason(status).as_bytes(),
                reason => reason,
            };
            details.put("http.type", "response");
            details.put("http.status", status);
            details.text_if_any("http.reason", reason);
            details.text("http.version", version);
            field(details, head, "http.server", b"server");
            body(details, head);
            let line = format_args!("{status} {}", Text(reason));
            match request {
                Some(Request {
                    time_ns: asked_ns,
                    method,
                    host,
                    path,
                    ..
                }) => {
                    let passed_ns = time_ns.saturating_sub(*asked_ns);
                    details.text("http.method", method);
                    details.text_if_any("http.host", host);
                    details.put("http.path", format_args!("{}", Place { host: b"", path }));
                    details.put("http.response_time_ms", passed_ns / 1_000_000);
                    let place = Place { host, path };
                    details.set_info(format_args!("{line} ({} {place})", Text(method)));
                }
                None => details.set_info(line),
            }
        }
        self.note(head)
    }

    fn note(&self, head: &Head<'_>) -> Note<'_> {
        let (Start::Request { version, .. } | Start::Response { version, .. }) = head.start;
        Note {
            protocol: match version {
                http2::VERSION if is_grpc(head) => "gRPC",
                http2::VERSION => "HTTP2",
                _ => "HTTP",
            },
            info: self.details.info(),
            details: self.details.encoded(),
            blocks: &[],
        }
    }
}

/// The host that counts, without what may stand before an `@`; empty if there is none.
#[must_use]
pub fn host_of<'a>(head: &Head<'a>) -> &'a [u8] {
    let host = head.hosts().last().unwrap_or_default();
    match memchr::memrchr(b'@', host) {
        Some(at) => &host[at + 1..],
        None => host,
    }
}

fn is_grpc(head: &Head<'_>) -> bool {
    let kind = head.get(b"content-type");
    kind.is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

fn body(details: &mut Details, head: &Head<'_>) {
    field(details, head, "http.content_type", b"content-type");
    if let Some(length) = content_length(head) {
        details.put("http.content_length", length);
    }
}

fn field(details: &mut Details, head: &Head<'_>, key: &'static str, name: &'static [u8]) {
    if let Some(value) = head.get(name) {
        details.text_if_any(key, value);
    }
}

/// Where a request goes, for people: user and password are left out.
struct Place<'a> {
    /// Stands before a path that has none of its own.
    host: &'a [u8],
    path: &'a [u8],
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, path } = *self;
        match (authority(path), behind_authority(path)) {
            (Some(host), Some(rest)) => {
                let scheme = memmem::find(path, b"//").map_or(0, |at| at + 2);
                write!(out, "{}{}{}", Text(&path[..scheme]), Text(host), Text(rest))
            }
            _ if path.starts_with(b"/") => write!(out, "{}{}", Text(host), Text(path)),
            _ => Text(path).fmt(out),
        }
    }
}
