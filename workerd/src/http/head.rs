//! Heads of HTTP/1 messages (RFC 9112 sections 2 to 5): the start line, and the fields.
//!
//! | part | rule |
//! |---|---|
//! | request line | a [known method](is_method), a target without blanks, `HTTP/d.d`, with blanks between them and perhaps behind |
//! | status line | `HTTP/d.d`, a blank, 100 to 599, and perhaps a blank and a reason |
//! | line ends | LF, with or without CR |
//! | fields | a token, a colon, a value; blanks around the value are not part of it. Other lines, folded ones among them, are passed over |
//! | limits | a start line of [`LONGEST_START`] bytes, [`MOST_FIELDS`] fields; more are passed over |
//!
//! Anything borrows from the bytes. What is parsed need not be whole: fields count as far as their lines have ended.
//! [`Head`] also stands for the head of a message of HTTP/2, whose fields come decoded.

use memchr::{memchr, memchr2};

use super::http2::hpack::Decoded;

/// Longest start line, in bytes without its LF.
pub const LONGEST_START: usize = 8192;
/// Most fields of a message that are read.
pub const MOST_FIELDS: usize = 100;
/// Longest name of a method.
pub const LONGEST_METHOD: usize = 17;

/// The start line of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// A request.
    Request {
        /// As it stands.
        method: &'a [u8],
        /// The target, in any of its forms (RFC 9112 section 3.2).
        target: &'a [u8],
        /// Such as `HTTP/1.1`.
        version: &'a [u8],
    },
    /// A response.
    Response {
        /// Such as `HTTP/1.1`.
        version: &'a [u8],
        /// 100 to 599.
        status: u16,
        /// As it stands, perhaps empty.
        reason: &'a [u8],
    },
}

/// Registered methods (IANA HTTP Method Registry), the usual ones first, and that of Microsoft's configuration manager.
const METHODS: &[&[u8]] = &[
    b"GET",
    b"POST",
    b"HEAD",
    b"PUT",
    b"DELETE",
    b"CONNECT",
    b"OPTIONS",
    b"TRACE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"REPORT",
    b"SEARCH",
    b"QUERY",
    b"ACL",
    b"BASELINE-CONTROL",
    b"BIND",
    b"CHECKIN",
    b"CHECKOUT",
    b"LABEL",
    b"LINK",
    b"MERGE",
    b"MKACTIVITY",
    b"MKCALENDAR",
    b"MKREDIRECTREF",
    b"MKWORKSPACE",
    b"ORDERPATCH",
    b"REBIND",
    b"UNBIND",
    b"UNCHECKOUT",
    b"UNLINK",
    b"UPDATE",
    b"UPDATEREDIRECTREF",
    b"VERSION-CONTROL",
    b"CCM_POST",
];

/// Whether `word` is a method. Others are taken for something else than HTTP.
#[must_use]
pub fn is_method(word: &[u8]) -> bool {
    METHODS.contains(&word)
}

/// Whether a method, followed by a blank, may begin with `start`, which is shorter.
#[must_use]
pub fn may_begin_method(start: &[u8]) -> bool {
    METHODS.iter().any(|method| method.starts_with(start))
}

impl<'a> Start<'a> {
    /// Reads a start line, without its LF.
    #[must_use]
    pub fn of(line: &'a [u8]) -> Option<Self> {
        if line.len() > LONGEST_START {
            return None;
        }
        match line.starts_with(b"HTTP/") {
            true => status_line(line),
            false => request_line(line),
        }
    }

    /// A request of version 0.9 (RFC 1945 section 4.1): its line, without its LF, is all of it.
    #[must_use]
    pub fn simple(line: &'a [u8]) -> Option<Self> {
        let target = line.strip_prefix(b"GET ")?.trim_ascii_end();
        let is_path = target.first() == Some(&b'/') && target.iter().all(u8::is_ascii_graphic);
        is_path.then_some(Self::Request {
            method: b"GET",
            target,
            version: b"HTTP/0.9",
        })
    }

    /// Whether a start line, or a simple request, may begin with `bytes`, in the direction of requests or of responses.
    #[must_use]
    pub fn may_begin(bytes: &[u8], is_request: bool) -> bool {
        if !is_request {
            let len = bytes.len().min(5);
            return bytes[..len] == b"HTTP/"[..len];
        }
        let word = &bytes[..bytes.len().min(LONGEST_METHOD + 1)];
        match word.iter().position(u8::is_ascii_whitespace) {
            Some(end) => is_method(&word[..end]),
            None => may_begin_method(word),
        }
    }
}

fn request_line(line: &[u8]) -> Option<Start<'_>> {
    // Most lines that are none fail at the first word.
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let method = words.next().filter(|word| is_method(word))?;
    let (target, version, None) = (words.next()?, words.next()?, words.next()) else {
        return None;
    };
    let starts_at_once = line.starts_with(method);
    (starts_at_once && is_version(version)).then_some(Start::Request {
        method,
        target,
        version,
    })
}

fn status_line(line: &[u8]) -> Option<Start<'_>> {
    let line = line.trim_ascii_end();
    let (version, rest) = line.split_at_checked(8)?;
    let (code, rest) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    let status = code.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u16::from(digit - b'0'))
    })?;
    let reason = match rest {
        [] => rest,
        _ => rest.strip_prefix(b" ")?.trim_ascii_start(),
    };
    let is_valid = is_version(version) && (100..600).contains(&status);
    is_valid.then_some(Start::Response {
        version,
        status,
        reason,
    })
}

fn is_version(word: &[u8]) -> bool {
    matches!(
        word,
        [b'H', b'T', b'T', b'P', b'/', b'0'..=b'9', b'.', b'0'..=b'9']
    )
}

/// The reason phrase of a status (RFC 9110 section 15), empty for those that are rare.
#[must_use]
pub fn usual_reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

/// A message's head.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// What the message is.
    pub start: Start<'a>,
    fields: Source<'a>,
}

/// Where fields come from.
#[derive(Debug, Clone, Copy)]
enum Source<'a> {
    Lines(&'a [u8]),
    Decoded(&'a Decoded),
}

impl<'a> Head<'a> {
    /// The head that `bytes` begin with, as far as it is there.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let end = memchr(b'\n', &bytes[..bytes.len().min(LONGEST_START + 1)])?;
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        Some(Self {
            start: Start::of(line)?,
            fields: Source::Lines(rest),
        })
    }

    /// Of a simple request, which has no fields.
    #[must_use]
    pub fn bare(start: Start<'a>) -> Self {
        let fields = Source::Lines(&[]);
        Self { start, fields }
    }

    /// Of a message of HTTP/2.
    #[must_use]
    pub fn decoded(start: Start<'a>, fields: &'a Decoded) -> Self {
        let fields = Source::Decoded(fields);
        Self { start, fields }
    }

    /// Names and values, in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let (lines, decoded) = match self.fields {
            Source::Lines(text) => (Some(Lines { text }), None),
            Source::Decoded(decoded) => (None, Some(decoded.fields())),
        };
        let lines = lines.into_iter().flatten();
        lines.chain(decoded.into_iter().flatten()).take(MOST_FIELDS)
    }

    /// The values of the field `name`, whose case does not matter.
    pub fn all(&self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.fields()
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The last of them, which counts.
    #[must_use]
    pub fn get(&self, name: &'static [u8]) -> Option<&'a [u8]> {
        self.all(name).last()
    }

    /// Whether `word` is in a list of words that the field `name` holds, in any case (RFC 9110 section 5.6.1).
    #[must_use]
    pub fn lists(&self, name: &'static [u8], word: &[u8]) -> bool {
        self.words(name)
            .any(|found| found.eq_ignore_ascii_case(word))
    }

    /// The words of the lists that the field `name` holds.
    pub fn words(&self, name: &'static [u8]) -> impl Iterator<Item = &'a [u8]> {
        self.all(name)
            .flat_map(|list| list.split(|byte| *byte == b','))
            .map(|word| word.trim_ascii())
            .filter(|word| !word.is_empty())
    }

    /// The hosts that a request names: that of its target, if it has one, then those of its fields.
    pub fn hosts(&self) -> impl Iterator<Item = &'a [u8]> {
        let of_target = match self.start {
            Start::Request { target, .. } => authority(target),
            Start::Response { .. } => None,
        };
        let is_request = matches!(self.start, Start::Request { .. });
        let of_fields = self.all(b"host").filter(move |_| is_request);
        of_target.into_iter().chain(of_fields)
    }
}

/// Lines of fields, up to the first empty one.
#[derive(Debug, Clone, Copy)]
struct Lines<'a> {
    text: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let end = memchr(b'\n', self.text)?;
            let line = &self.text[..end];
            self.text = &self.text[end + 1..];
            if matches!(line, [] | [b'\r']) {
                self.text = &[];
                return None;
            }
            let colon = memchr(b':', line);
            if let Some((name, value)) = colon.map(|colon| line.split_at(colon))
                && is_token(name)
            {
                return Some((name, value[1..].trim_ascii()));
            }
        }
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &[u8]) -> bool {
    let is_tchar = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    !text.is_empty() && text.iter().all(is_tchar)
}

/// The host, perhaps with a port, of a target in absolute form, without user and password.
#[must_use]
pub fn authority(target: &[u8]) -> Option<&[u8]> {
    let rest = after_scheme(target)?;
    let host = &rest[..authority_end(rest)];
    Some(match memchr::memrchr(b'@', host) {
        Some(at) => &host[at + 1..],
        None => host,
    })
}

/// Path and query of a target in absolute form.
#[must_use]
pub fn behind_authority(target: &[u8]) -> Option<&[u8]> {
    let rest = after_scheme(target)?;
    Some(&rest[authority_end(rest)..])
}

fn after_scheme(target: &[u8]) -> Option<&[u8]> {
    let has = |scheme: &[u8]| {
        let start = target.get(..scheme.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let scheme = [&b"http://"[..], b"https://"]
        .into_iter()
        .find(|scheme| has(scheme))?;
    Some(&target[scheme.len()..])
}

fn authority_end(rest: &[u8]) -> usize {
    memchr::memchr3(b'/', b'?', b'#', rest).unwrap_or(rest.len())
}

/// A target up to its first `?`, and what follows it.
#[must_use]
pub fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    match memchr(b'?', target) {
        Some(at) => (&target[..at], &target[at + 1..]),
        None => (target, &[]),
    }
}

/// A host without its port; the brackets of an IPv6 address stay.
#[must_use]
pub fn without_port(host: &[u8]) -> &[u8] {
    match memchr::memrchr(b':', host) {
        Some(colon) if memchr2(b']', b':', &host[colon + 1..]).is_none() => &host[..colon],
        _ => host,
    }
}
