//! How long the body of a message is (RFC 9112 section 6.3), by its head and the request that it answers.

use super::head::{Head, Start};
use super::messages::Framing;

/// What the request was, for the length of its response's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// HEAD: the response has no body.
    Head,
    /// CONNECT: behind a response of success the connection is a tunnel.
    Connect,
    /// Any other, or one that was not seen.
    Other,
}

impl Asked {
    /// By the method.
    #[must_use]
    pub fn of(method: &[u8]) -> Self {
        match method {
            b"HEAD" => Self::Head,
            b"CONNECT" => Self::Connect,
            _ => Self::Other,
        }
    }
}

/// How long the body behind `head` is; of a response, to a request that was `asked`.
///
/// Chunks count more than a length. A length that is no number, or several that differ, say nothing: a request then has no body, and that of a response goes
/// to the end of the stream.
#[must_use]
pub fn framing(head: &Head<'_>, asked: Asked) -> Framing {
    let (is_request, has_none) = match head.start {
        Start::Request { .. } => (true, false),
        Start::Response { status, .. } => {
            let has_none = matches!(status, 100..200 | 204 | 304) || asked == Asked::Head;
            (false, has_none || asked == Asked::Connect && status < 300)
        }
    };
    if has_none {
        return Framing::None;
    }
    let without_length = match is_request {
        true => Framing::None,
        false => Framing::UntilEnd,
    };
    match head.words(b"transfer-encoding").last() {
        Some(coding) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
        Some(_) => without_length,
        None => content_length(head).map_or(without_length, Framing::Length),
    }
}

/// What all lengths that `head` gives agree on.
#[must_use]
pub fn content_length(head: &Head<'_>) -> Option<u64> {
    let mut lengths = head.words(b"content-length");
    let first = number(lengths.next()?)?;
    lengths
        .all(|length| number(length) == Some(first))
        .then_some(first)
}

fn number(digits: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}
