//! SIP messages of a byte stream (RFC 3261 section 18.3), in one direction.
//!
//! ```text
//!   chunks in order, gaps --> Framer --> messages, damaged messages, "this is not SIP"
//! ```
//!
//! - A message ends where its `Content-Length` says; without one, at its empty line. Of several, the last counts.
//! - How the stream is cut into chunks makes no difference. A message that lies in one chunk is not copied; others are, once.
//! - Line ends between messages are keep-alives (RFC 5626 section 3.5.1).
//! - Behind a gap, a damaged message, or a body without a length, the next start line begins a message, with or without a line end
//!   before it. What is skipped is counted in [`Framer::skipped`].
//! - A start line within a head means that the message before it was cut: it is reported, and the new one begins.
//! - A stream without any message in its first bytes is not SIP, and one that stops being SIP is left alone ([`Limits`]).
//!
//! Memory: at most [`Limits::message`] bytes and one; a framer between messages keeps at most [`KEPT`]. Work is linear in the stream.
//!
//! ```
//! use lc_workerd::sip::framer::{Event, Framer, Limits};
//!
//! let mut framer = Framer::new(Limits::default(), 0);
//! let mut found = vec![];
//! for mut chunk in [&b"\r\nBYE sip:a@b SIP/2.0\r\nl: 2\r\n"[..], b"\r\nhi"] {
//!     while let Some(event) = framer.next(&mut chunk) {
//!         if let Event::Message(message) = event {
//!             found.push((message.bytes.to_vec(), message.range));
//!         }
//!     }
//! }
//! assert_eq!(found, [(b"BYE sip:a@b SIP/2.0\r\nl: 2\r\n\r\nhi".to_vec(), 2..33)]);
//! ```

use std::ops::Range;

use memchr::{memchr, memmem, memrchr};

use super::header::Name;
use super::lines::split_header;
use super::message::{
    Form, LONGEST_METHOD, LengthFault, Start, content_length, is_token, start_line,
};
use super::method::Method;

/// Bytes that a framer between messages keeps allocated.
pub const KEPT: usize = 8192;

/// What a stream may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest line of a head, in bytes without its LF.
    pub line: usize,
    /// Most header lines of a message; a folded one counts once.
    pub headers: usize,
    /// Largest `Content-Length`: `voip.security.max_content_length`.
    pub content_length: u64,
    /// Largest message with its body, in bytes: `voip.security.max_message_size`.
    pub message: usize,
    /// Most bytes that are no SIP before the first message.
    pub before_first: usize,
    /// Most bytes that are no SIP between messages.
    pub between: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line: 16 << 10,
            headers: super::message::MOST_HEADERS,
            content_length: 1 << 20,
            message: 2 << 20,
            before_first: 16 << 10,
            between: 64 << 10,
        }
    }
}

/// Bytes of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Framed<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Where they stand in the stream.
    pub range: Range<u64>,
}

/// What happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// A line is longer than [`Limits::line`].
    #[error("a line is too long")]
    Line,
    /// There are more header lines than [`Limits::headers`].
    #[error("too many headers")]
    Headers,
    /// Its length is no number, or above its limit.
    #[error("bad Content-Length: {0}")]
    Length(LengthFault),
    /// It is larger than [`Limits::message`].
    #[error("the message is too large")]
    Size,
    /// Another message begins before its head ends.
    #[error("another message begins in its head")]
    Interrupted,
    /// Bytes of the stream are missing.
    #[error("bytes of the stream are missing")]
    Gap,
    /// It is compressed (RFC 7692), and not read.
    #[error("the message is compressed")]
    Compressed,
}

/// What a stream has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message, for [`Message::parse`](super::message::Message::parse).
    Message(Framed<'a>),
    /// What there is of a message that is not whole, from its start line on.
    Damaged(Framed<'a>, Damage),
    /// The stream is not SIP. Told once; nothing follows.
    NotSip,
}

/// Where the view begins and what it is: the buffer, or the chunk while the buffer is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// At the start of a line that may start a message.
    Seek {
        /// Whether anything but empty lines stood before it since the last message: then one may begin within a line, behind a body
        /// without a line end.
        is_lost: bool,
    },
    /// Within a line that starts none.
    SkipLine,
    /// Within the body of a message that is not wanted.
    Skip {
        left: u64,
    },
    /// At the start of a message, whose head is not complete.
    Head(Head),
    /// At the start of a message of `total` bytes.
    Body {
        total: usize,
    },
    NotSip,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    /// Where the current line begins.
    line: usize,
    headers: usize,
    /// The value of the last `Content-Length`.
    length: Option<(usize, usize)>,
    /// Whether the line before is part of it.
    in_length: bool,
}

/// What a look at the view says.
enum Step {
    /// More bytes are needed.
    More,
    /// So many bytes at its start are not wanted.
    Drop(usize),
    /// So many bytes at its start are a message.
    Message(usize),
    /// So many are a damaged one.
    Damaged(usize, Damage),
    NotSip,
}

/// See the module.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    state: State,
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that the last event told of.
    told: usize,
    /// Offset of the view in the stream.
    offset: u64,
    /// Bytes of the view in which no line end is.
    searched: usize,
    /// Bytes that were no SIP since the last message.
    foreign: usize,
    any_message: bool,
    /// Whether the first bytes of the stream were seen: then they tell whether it is text.
    from_start: bool,
    skipped: u64,
}

impl Framer {
    /// For a stream that is seen from its start. `offset`: of its first byte.
    #[must_use]
    pub fn new(limits: Limits, offset: u64) -> Self {
        Self {
            limits,
            state: State::Seek { is_lost: false },
            buffer: Vec::new(),
            told: 0,
            offset,
            searched: 0,
            foreign: 0,
            any_message: false,
            from_start: true,
            skipped: 0,
        }
    }

    /// For a stream that is joined anywhere, perhaps within a message.
    #[must_use]
    pub fn joined(limits: Limits, offset: u64) -> Self {
        Self {
            from_start: false,
            ..Self::new(limits, offset)
        }
    }

    /// As [`Framer::joined`], for a stream whose first bytes have come and are looked at with the next ones.
    pub(super) fn joined_behind(limits: Limits, offset: u64, seen: Vec<u8>) -> Self {
        Self {
            buffer: seen,
            ..Self::joined(limits, offset)
        }
    }

    /// What comes next; takes what it needs off the chunk, and all of it before it returns `None`.
    pub fn next<'f, 'c: 'f>(&'f mut self, chunk: &mut &'c [u8]) -> Option<Event<'f>> {
        self.forget_told();
        loop {
            if self.state == State::NotSip {
                self.offset += chunk.len() as u64;
                *chunk = &[];
                return None;
            }
            if self.buffer.is_empty() {
                if chunk.is_empty() {
                    return None;
                }
                let step = self.look(chunk);
                match step {
                    Step::More => {
                        self.keep(chunk);
                        *chunk = &[];
                        return None;
                    }
                    Step::Drop(count) => self.advance(chunk, count),
                    Step::Message(len) | Step::Damaged(len, _) => {
                        let bytes = &chunk[..len];
                        let range = self.range(len);
                        self.advance(chunk, len);
                        return Some(event(Framed { bytes, range }, &step));
                    }
                    Step::NotSip => return Some(self.refuse()),
                }
            } else {
                // The view is looked at before it grows: what is left of it behind an event may be enough.
                let buffer = std::mem::take(&mut self.buffer);
                let step = self.look(&buffer);
                self.buffer = buffer;
                match step {
                    Step::More => {
                        if chunk.is_empty() {
                            return None;
                        }
                        let wanted = self.wanted(chunk);
                        self.keep(&chunk[..wanted]);
                        *chunk = &chunk[wanted..];
                    }
                    Step::Drop(count) => {
                        self.told = count;
                        self.forget_told();
                    }
                    Step::Message(len) | Step::Damaged(len, _) => {
                        self.told = len;
                        let range = self.range(len);
                        let bytes = &self.buffer[..len];
                        return Some(event(Framed { bytes, range }, &step));
                    }
                    Step::NotSip => return Some(self.refuse()),
                }
            }
        }
    }

    /// So many bytes of the stream are missing. To be called when [`Framer::next`] has nothing more. Tells of the message that is
    /// damaged by it.
    pub fn gap(&mut self, missing: u64) -> Option<Event<'_>> {
        self.forget_told();
        let held = self.buffer.len();
        let after = State::Seek { is_lost: true };
        let next = match self.state {
            State::NotSip => State::NotSip,
            State::Skip { left } => skip(left, missing).unwrap_or(after),
            State::Body { total } => skip((total - held) as u64, missing).unwrap_or(after),
            State::Seek { .. } | State::SkipLine | State::Head(_) => after,
        };
        let was_message = matches!(self.state, State::Head(_) | State::Body { .. });
        self.state = next;
        self.searched = 0;
        self.told = held;
        let range = self.range(held);
        self.offset += missing;
        if was_message {
            let bytes = &self.buffer[..];
            return Some(Event::Damaged(Framed { bytes, range }, Damage::Gap));
        }
        self.skipped += held as u64;
        None
    }

    /// Offset before which all is told: where the message begins that is not whole, or what comes next.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.offset + self.told as u64
    }

    /// Bytes of memory that it holds.
    #[must_use]
    pub fn held(&self) -> usize {
        self.buffer.capacity()
    }

    /// Whether part of a message is held, for which bytes have yet to come.
    #[must_use]
    pub fn is_within_message(&self) -> bool {
        matches!(self.state, State::Head(_) | State::Body { .. })
    }

    /// Bytes that were in no message, but for empty lines.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    fn range(&self, len: usize) -> Range<u64> {
        self.offset..self.offset + len as u64
    }

    fn advance(&mut self, chunk: &mut &[u8], count: usize) {
        *chunk = &chunk[count..];
        self.offset += count as u64;
    }

    fn refuse(&mut self) -> Event<'static> {
        self.state = State::NotSip;
        self.offset += self.buffer.len() as u64;
        self.buffer = Vec::new();
        Event::NotSip
    }

    /// Drops what the last event told of.
    fn forget_told(&mut self) {
        if self.told == 0 {
            return;
        }
        self.offset += self.told as u64;
        self.buffer.drain(..self.told);
        self.told = 0;
        if self.buffer.is_empty() && self.buffer.capacity() > KEPT {
            self.buffer = Vec::new();
        }
    }

    /// Appends to the buffer, within its bound.
    fn keep(&mut self, bytes: &[u8]) {
        let needed = self.buffer.len() + bytes.len();
        if needed > self.buffer.capacity() {
            let wished = (self.buffer.capacity() * 2).min(self.limits.message + 1);
            self.buffer
                .reserve_exact(needed.max(wished) - self.buffer.len());
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// How much of the chunk belongs to the line or body that the buffer has a part of.
    fn wanted(&self, chunk: &[u8]) -> usize {
        match self.state {
            State::Body { total } => chunk.len().min(total - self.buffer.len()),
            _ => {
                let end = memchr(b'\n', chunk).map_or(chunk.len(), |at| at + 1);
                end.min(self.limits.line + 1).min(
                    (self.limits.message + 1)
                        .saturating_sub(self.buffer.len())
                        .max(1),
                )
            }
        }
    }

    fn look(&mut self, view: &[u8]) -> Step {
        loop {
            match self.state {
                State::Seek { is_lost } => match self.seek(view, is_lost) {
                    Some(step) => return step,
                    None => continue,
                },
                State::SkipLine => {
                    let count = match memchr(b'\n', view) {
                        Some(end) => {
                            self.state = State::Seek { is_lost: true };
                            end + 1
                        }
                        None => view.len(),
                    };
                    return self.skip_foreign(count);
                }
                State::Skip { left } => {
                    let count = usize::try_from(left).unwrap_or(usize::MAX).min(view.len());
                    self.state = skip(left, count as u64).unwrap_or(State::SkipLine);
                    self.skipped += count as u64;
                    return Step::Drop(count);
                }
                State::Head(head) => match self.head(view, head) {
                    Some(step) => return step,
                    None => continue,
                },
                State::Body { total } => {
                    if view.len() < total {
                        return Step::More;
                    }
                    self.any_message = true;
                    self.foreign = 0;
                    self.begin(State::Seek { is_lost: false });
                    return Step::Message(total);
                }
                State::NotSip => return Step::NotSip,
            }
        }
    }

    fn begin(&mut self, state: State) {
        self.state = state;
        self.searched = 0;
    }

    /// Looks at one line; `None` if it starts a message.
    fn seek(&mut self, view: &[u8], is_lost: bool) -> Option<Step> {
        let is_first = self.from_start && !self.any_message;
        if is_first
            && view
                .first()
                .is_some_and(|byte| *byte < b' ' && !b"\r\n\t".contains(byte))
        {
            return Some(Step::NotSip);
        }
        let end = memchr(b'\n', &view[self.searched..]).map(|at| self.searched + at);
        self.searched = view.len();
        let too_long = end.unwrap_or(view.len()) > self.limits.line;
        let Some(end) = end else {
            if !too_long && (is_lost || may_start(view)) {
                return Some(Step::More);
            }
            self.begin(State::SkipLine);
            return Some(self.skip_foreign(view.len()));
        };
        self.searched = 0;
        let line = without_returns(&view[..end]);
        if too_long {
            self.state = State::Seek { is_lost: true };
            return Some(self.skip_foreign(end + 1));
        }
        if line.is_empty() {
            return Some(Step::Drop(end + 1));
        }
        let start = match is_lost {
            false => starts_message(line, Form::Loose).then_some(0),
            true => find_start(line),
        };
        match start {
            Some(0) => {
                self.searched = end + 1;
                self.state = State::Head(Head {
                    line: end + 1,
                    headers: 0,
                    length: None,
                    in_length: false,
                });
                None
            }
            start => {
                self.state = State::Seek { is_lost: true };
                Some(self.skip_foreign(start.unwrap_or(end + 1)))
            }
        }
    }

    fn skip_foreign(&mut self, count: usize) -> Step {
        self.foreign += count;
        self.skipped += count as u64;
        let most = match self.any_message || !self.from_start {
            true => self.limits.between,
            false => self.limits.before_first,
        };
        match self.foreign > most {
            true => Step::NotSip,
            false => Step::Drop(count),
        }
    }

    /// Looks at the lines of a head; `None` if it is complete.
    fn head(&mut self, view: &[u8], mut head: Head) -> Option<Step> {
        loop {
            let end = memchr(b'\n', &view[self.searched..]).map(|at| self.searched + at);
            // Which limit a line breaks first depends on the stream alone, not on how much of it is here.
            let (line_limit, message_limit) =
                (head.line + self.limits.line + 1, self.limits.message);
            if end.unwrap_or(view.len()) >= line_limit.min(message_limit) {
                self.begin(State::SkipLine);
                let damage = match line_limit <= message_limit {
                    true => Damage::Line,
                    false => Damage::Size,
                };
                return Some(Step::Damaged(head.line, damage));
            }
            let Some(end) = end else {
                self.searched = view.len();
                self.state = State::Head(head);
                return Some(Step::More);
            };
            self.searched = end + 1;
            let line = without_returns(&view[head.line..end]);
            if line.is_empty() {
                return self.body(view, head, end + 1);
            }
            if matches!(line[0], b' ' | b'\t') {
                if let Some(length) = &mut head.length
                    && head.in_length
                {
                    length.1 = end;
                }
            } else {
                head.headers += 1;
                let damage = if starts_message(line, Form::Exact) {
                    Some(Damage::Interrupted)
                } else if head.headers > self.limits.headers {
                    Some(Damage::Headers)
                } else {
                    None
                };
                if let Some(damage) = damage {
                    self.begin(State::Seek { is_lost: true });
                    return Some(Step::Damaged(head.line, damage));
                }
                head.in_length = is_content_length(line);
                if head.in_length {
                    let colon = memchr(b':', line).unwrap_or(0);
                    head.length = Some((head.line + colon + 1, end));
                }
            }
            head.line = end + 1;
        }
    }

    /// `head_len`: of the head with its empty line.
    fn body(&mut self, view: &[u8], head: Head, head_len: usize) -> Option<Step> {
        let value = head.length.map(|(start, end)| &view[start..end]);
        let length = match value.map(|value| content_length(value, self.limits.content_length)) {
            None => 0,
            Some(Ok(length)) => length,
            Some(Err(fault)) => {
                self.begin(State::Seek { is_lost: false });
                return Some(Step::Damaged(head_len, Damage::Length(fault)));
            }
        };
        let total = usize::try_from(length)
            .ok()
            .and_then(|length| head_len.checked_add(length));
        match total.filter(|total| *total <= self.limits.message) {
            Some(total) => {
                self.begin(State::Body { total });
                None
            }
            None => {
                self.begin(State::Skip { left: length });
                Some(Step::Damaged(head_len, Damage::Size))
            }
        }
    }
}

fn event<'f>(framed: Framed<'f>, step: &Step) -> Event<'f> {
    match step {
        Step::Damaged(_, damage) => Event::Damaged(framed, *damage),
        _ => Event::Message(framed),
    }
}

/// Where a body of which `left` bytes are unwanted goes on behind `count` of them; `None` if it ended before.
fn skip(left: u64, count: u64) -> Option<State> {
    match left.checked_sub(count)? {
        0 => Some(State::Seek { is_lost: false }),
        left => Some(State::Skip { left }),
    }
}

fn without_returns(line: &[u8]) -> &[u8] {
    let returns = line.iter().rev().take_while(|byte| **byte == b'\r').count();
    &line[..line.len() - returns]
}

/// Whether what there is of a line can be the beginning of a start line or an empty line.
pub(super) fn may_start(line: &[u8]) -> bool {
    let token = line
        .iter()
        .take(LONGEST_METHOD + 1)
        .take_while(|byte| is_token(**byte))
        .count();
    match line.get(token) {
        None => token <= LONGEST_METHOD,
        Some(b' ' | b'\t') => (1..=LONGEST_METHOD).contains(&token),
        Some(b'/') => line[..token].eq_ignore_ascii_case(b"SIP"),
        Some(b'\r') => token == 0 && line.iter().all(|byte| *byte == b'\r'),
        Some(_) => false,
    }
}

/// Whether a line starts a message. By [`Form::Exact`], only a line that can hardly be anything else does.
fn starts_message(line: &[u8], form: Form) -> bool {
    start_line(line).is_some_and(|(start, found)| match (form, start) {
        (Form::Exact, Start::Request { method, .. }) => {
            found == Form::Exact && method != Method::Other
        }
        (Form::Exact, Start::Response { code, .. }) => {
            found == Form::Exact && (100..700).contains(&code)
        }
        _ => found >= form,
    })
}

/// Where in a line a message starts, behind the end of a body that has no line end.
fn find_start(line: &[u8]) -> Option<usize> {
    const VERSION: &[u8] = b"SIP/2.0";
    let request = line.strip_suffix(VERSION).and_then(|line| {
        let line = line.strip_suffix(b" ")?;
        let before = &line[..memrchr(b' ', line)?];
        let methods = Method::KNOWN.iter().map(|method| method.token().as_bytes());
        let start = methods
            .filter(|token| before.ends_with(token))
            .map(|token| before.len() - token.len());
        start.min()
    });
    let is_request = |at: &usize| starts_message(&line[*at..], Form::Exact);
    let is_response = |at: &usize| {
        let behind = line.get(at + VERSION.len()..).unwrap_or_default();
        matches!(behind, [b' ', b'1'..=b'6', b'0'..=b'9', b'0'..=b'9', ..])
    };
    let response = || memmem::find_iter(line, VERSION).find(is_response);
    request.filter(is_request).or_else(response)
}

fn is_content_length(line: &[u8]) -> bool {
    split_header(line).is_some_and(|(name, _)| Name::of(name) == Some(Name::ContentLength))
}

#[cfg(test)]
mod tests {
    use super::super::message::Message;
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Seen {
        Message(Vec<u8>, Range<u64>),
        Damaged(Vec<u8>, Range<u64>, Damage),
        NotSip,
    }

    fn seen(event: Event<'_>) -> Seen {
        match event {
            Event::Message(one) => Seen::Message(one.bytes.to_vec(), one.range),
            Event::Damaged(one, damage) => Seen::Damaged(one.bytes.to_vec(), one.range, damage),
            Event::NotSip => Seen::NotSip,
        }
    }

    fn feed(framer: &mut Framer, mut chunk: &[u8]) -> Vec<Seen> {
        let mut all = vec![];
        while let Some(event) = framer.next(&mut chunk) {
            all.push(seen(event));
        }
        assert!(chunk.is_empty());
        assert!(framer.held() <= framer.limits.message + 1 + KEPT);
        all
    }

    fn frame(stream: &[u8]) -> Vec<Seen> {
        feed(&mut Framer::joined(Limits::default(), 0), stream)
    }

    /// Call-IDs of the messages of a stream, cut in three ways.
    fn call_ids(stream: &[u8]) -> Vec<String> {
        let whole = frame(stream);
        for size in [1, 7] {
            let mut framer = Framer::joined(Limits::default(), 0);
            let cut: Vec<_> = stream
                .chunks(size)
                .flat_map(|chunk| feed(&mut framer, chunk))
                .collect();
            assert_eq!(cut, whole);
        }
        let ids = whole.into_iter().filter_map(|one| match one {
            Seen::Message(bytes, _) => {
                let message = Message::parse(&bytes).unwrap();
                message
                    .call_id()
                    .ok()
                    .map(|id| String::from_utf8_lossy(id).into_owned())
            }
            _ => None,
        });
        ids.collect()
    }

    fn inv(id: &str) -> String {
        format!(
            "INVITE sip:ben@beta.example SIP/2.0\r\nFrom: <sip:ann@alpha.example>;tag=f1\r\nTo: <sip:ben@beta.example>\r\n\
             Call-ID: {id}\r\nContent-Length: 0\r\n\r\n"
        )
    }

    fn mt(id: &str, number: &str) -> String {
        format!(
            "MESSAGE sip:{number}@ims.example SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.1:5060\r\nFrom: <sip:smsc@ims.example>;tag=a\r\n\
             To: <sip:{number}@ims.example>\r\nCall-ID: {id}\r\nCSeq: 1 MESSAGE\r\n\
             Content-Type: application/vnd.3gpp.sms\r\nContent-Length: 3\r\n\r\nabc"
        )
    }

    fn request(method: &str, id: &str, headers: &str, body: &str) -> String {
        format!("{method} sip:b@x SIP/2.0\r\nCall-ID: {id}\r\n{headers}\r\n{body}")
    }

    /// Table H, rows 1 to 4.
    #[test]
    fn call_ids_of_messages() {
        let id =
            |header: &str| call_ids(format!("BYE sip:b@x SIP/2.0\r\n{header}\r\n\r\n").as_bytes());
        assert_eq!(
            id("Call-ID: 12345@alpha.example"),
            ["12345@alpha.example"],
            "H1"
        );
        assert_eq!(id("i: call-123-abc"), ["call-123-abc"], "H2");
        assert_eq!(id("Call-ID:   spaced-id   "), ["spaced-id"], "H3");
        assert_eq!(
            id("Via: SIP/2.0/TCP alpha.example"),
            Vec::<String>::new(),
            "H4"
        );
    }

    /// Table H, rows 5 to 8, 10 and 11.
    #[test]
    fn streams_are_framed_as_the_table_says() {
        assert_eq!(
            call_ids(format!("\r\n{}", inv("ka-1")).as_bytes()),
            ["ka-1"],
            "H5"
        );
        assert!(call_ids(b"\r\nHTTP/1.1 200 OK\r\n").is_empty(), "H6");
        let joined = format!(
            "To: <sip:x@ims.example>\r\nCall-ID: partial\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n{}",
            mt("resync-1", "31600000001")
        );
        assert_eq!(call_ids(joined.as_bytes()), ["resync-1"], "H7");
        let hello = b"\x16\x03\x01\0\x2c\x01\0\0\x28\x03\x03\x11\x22\x33\x44\x11\x22\x33\x44\x11\x22\x33\x44\x11\x22\x33\x44";
        assert!(call_ids(hello).is_empty(), "H8");
        assert_eq!(
            feed(&mut Framer::new(Limits::default(), 0), hello),
            [Seen::NotSip],
            "H8"
        );
        let cut = inv("seg-1");
        let mut framer = Framer::new(Limits::default(), 1);
        assert_eq!(feed(&mut framer, &cut.as_bytes()[..100]), [], "H10");
        let rest = feed(&mut framer, &cut.as_bytes()[100..]);
        assert_eq!(
            rest,
            [Seen::Message(
                cut.clone().into_bytes(),
                1..1 + cut.len() as u64
            )],
            "H10"
        );
        let two = mt("live-1", "31600000003") + &mt("live-2", "31600000003");
        assert_eq!(call_ids(two.as_bytes()), ["live-1", "live-2"], "H11");
    }

    /// Row H9: the verdict comes within a line of the bound.
    #[test]
    fn streams_without_sip_are_given_up() {
        let line = b"GET /a/path/that/is/not/sip HTTP/1.1\r\n";
        let mut framer = Framer::new(Limits::default(), 0);
        let lines = (0..1000)
            .take_while(|_| feed(&mut framer, line).is_empty())
            .count();
        assert_eq!(lines, 16384 / line.len(), "H9");
        assert_eq!(
            feed(&mut framer, inv("late").as_bytes()),
            [],
            "told once, nothing follows"
        );
        assert_eq!(framer.held(), 0);
        // One endless line, too.
        let mut framer = Framer::new(Limits::default(), 0);
        let told: Vec<_> = (0..1000)
            .flat_map(|_| feed(&mut framer, &[b'a'; 1000]))
            .collect();
        assert_eq!((told, framer.held()), (vec![Seen::NotSip], 0));
        // Keep-alives are no reason.
        let mut framer = Framer::new(Limits::default(), 0);
        assert_eq!(feed(&mut framer, &b"\r\n\r\n".repeat(100_000)), []);
        assert_eq!(feed(&mut framer, inv("x").as_bytes()).len(), 1);
    }

    /// Rows X10 (one direction of it) to X17.
    #[test]
    fn streams_are_framed_as_the_probes_want() {
        let three = request("INVITE", "a", "l: 9\r\n", "123456789")
            + &request("BYE", "b", "", "")
            + &request("ACK", "c", "", "");
        assert_eq!(call_ids(three.as_bytes()), ["a", "b", "c"], "X11");
        assert!(
            matches!(&frame(three.as_bytes())[0], Seen::Message(one, _) if one.ends_with(b"\r\n\r\n123456789")),
            "X11"
        );
        let invite = inv("a").replace("Content-Length: 0", "Content-Length: 20") + "0123456789";
        let mut framer = Framer::new(Limits::default(), 0);
        assert_eq!(feed(&mut framer, invite.as_bytes()), [], "X10");
        assert!(framer.is_within_message());
        assert_eq!(feed(&mut framer, b"9876543210").len(), 1, "X10");
        let sdp = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nm=audio 41000 RTP/AVP 0\r\n";
        let without = request("INVITE", "a", "", sdp)
            + &request("BYE", "b", "", "")
            + &request("ACK", "c", "", "");
        assert_eq!(call_ids(without.as_bytes()), ["a", "b", "c"], "X12");
        let publish = request("PUBLISH", "a", "", "") + &request("BYE", "b", "", "");
        assert_eq!(call_ids(publish.as_bytes()), ["a", "b"], "X13");
        for len in [4107, 8192, 16384] {
            let name = "X-Long: ";
            let line = format!("{name}{}\r\n", "y".repeat(len - name.len() - 1));
            let long = request("INVITE", "a", &line, "") + &request("BYE", "b", "", "");
            assert_eq!(call_ids(long.as_bytes()), ["a", "b"], "X15 {len}");
        }
        for count in [198, 199, 500] {
            let many = request("INVITE", "a", &"X-N: 1\r\n".repeat(count), "")
                + &request("BYE", "b", "", "");
            assert_eq!(call_ids(many.as_bytes()), ["a", "b"], "X16 {count}");
        }
        let spaced =
            request("INVITE", "a", "Content-Length : 3\r\n", "abc") + &request("BYE", "b", "", "");
        assert_eq!(call_ids(spaced.as_bytes()), ["a", "b"], "X17");
        assert!(
            matches!(&frame(spaced.as_bytes())[0], Seen::Message(one, _) if one.ends_with(b"\r\n\r\nabc")),
            "X17"
        );
    }

    /// Row X14: the next message is found at once.
    #[test]
    fn a_gap_costs_the_message_that_it_is_in() {
        let invite = mt("lost", "31600000003");
        let bye = request("BYE", "found", "", "");
        for (missing, damage_at) in [
            (60..90, 60),
            (invite.len() - 2..invite.len(), invite.len() - 2),
        ] {
            let mut framer = Framer::new(Limits::default(), 0);
            assert_eq!(feed(&mut framer, &invite.as_bytes()[..missing.start]), []);
            let damaged = framer.gap(missing.len() as u64).map(seen);
            let bytes = invite.as_bytes()[..damage_at].to_vec();
            assert_eq!(
                damaged,
                Some(Seen::Damaged(bytes, 0..damage_at as u64, Damage::Gap)),
                "X14"
            );
            let rest = format!("{}{bye}", &invite[missing.end..]);
            let start = invite.len() as u64;
            let found = feed(&mut framer, rest.as_bytes());
            assert_eq!(
                found,
                [Seen::Message(
                    bye.clone().into_bytes(),
                    start..start + bye.len() as u64
                )],
                "X14"
            );
        }
    }

    #[test]
    fn a_gap_in_a_body_ends_where_the_body_does() {
        let inside = request("BYE", "inside", "", "");
        let message = request(
            "NOTIFY",
            "a",
            &format!("l: {}\r\n", inside.len() + 10),
            &("0123456789".to_owned() + &inside),
        );
        let body = message.len() - inside.len() - 10;
        let mut framer = Framer::new(Limits::default(), 0);
        assert_eq!(feed(&mut framer, &message.as_bytes()[..body]), []);
        assert!(framer.gap(10).is_some());
        // What stands in the body is no message.
        assert_eq!(feed(&mut framer, inside.as_bytes()), []);
        assert_eq!(
            feed(&mut framer, request("ACK", "b", "", "").as_bytes()).len(),
            1
        );
        assert!(framer.gap(3).is_none());
    }

    #[test]
    fn limits_are_kept_and_the_next_message_is_found() {
        let limits = Limits {
            line: 100,
            headers: 5,
            content_length: 1000,
            message: 800,
            ..Limits::default()
        };
        let bye = request("BYE", "b", "", "");
        for (first, damage) in [
            (
                request("INVITE", "a", &format!("X: {}\r\n", "y".repeat(99)), ""),
                Damage::Line,
            ),
            (
                request("INVITE", "a", &"X: y\r\n".repeat(5), ""),
                Damage::Headers,
            ),
            (
                request("INVITE", "a", "l: 1001\r\n", ""),
                Damage::Length(LengthFault::Exceeds(1001)),
            ),
            (
                request("INVITE", "a", "l: x\r\n", ""),
                Damage::Length(LengthFault::NoDigits),
            ),
            (
                request("INVITE", "a", "l: 900\r\n", &"z".repeat(900)),
                Damage::Size,
            ),
            (
                request(
                    "INVITE",
                    "a",
                    &format!("X: y\r\n{}", " y\r\n".repeat(300)),
                    "",
                ),
                Damage::Size,
            ),
            (
                "INVITE sip:b@x SIP/2.0\r\nCall-ID: a\r\n".to_owned(),
                Damage::Interrupted,
            ),
        ] {
            let stream = first + &bye;
            let mut whole = None;
            for size in [usize::MAX, 1, 13] {
                let mut framer = Framer::new(limits, 0);
                let all: Vec<_> = stream
                    .as_bytes()
                    .chunks(size)
                    .flat_map(|chunk| feed(&mut framer, chunk))
                    .collect();
                assert!(
                    matches!(&all[0], Seen::Damaged(_, _, found) if *found == damage),
                    "{damage}: {all:?}"
                );
                assert!(
                    matches!(&all[1], Seen::Message(one, _) if *one == bye.as_bytes()),
                    "{damage}"
                );
                assert_eq!(all.len(), 2, "{damage}");
                assert_eq!(whole.get_or_insert(all.clone()), &all);
            }
        }
        // G10, G11: a message of the limit is taken, one byte more is not.
        for (size, taken) in [(800, true), (801, false)] {
            let head = request("INVITE", "a", "l: 700\r\n", "");
            let head = head.replace("l: 700", &format!("l: {}", size - head.len()));
            let stream = head.clone() + &"z".repeat(size - head.len());
            let mut framer = Framer::new(limits, 0);
            let all = feed(&mut framer, stream.as_bytes());
            assert_eq!(
                matches!(all[0], Seen::Message(..)),
                taken,
                "G10, G11: {size}"
            );
        }
    }

    #[test]
    fn lengths_may_be_folded_and_the_last_counts() {
        let message = request("INFO", "a", "Content-Length: 99\r\nL:\r\n 3\r\n", "abc")
            + &request("BYE", "b", "", "");
        assert_eq!(call_ids(message.as_bytes()), ["a", "b"]);
    }

    #[test]
    fn memory_is_given_back() {
        let large = request("INFO", "a", "l: 500000\r\n", &"z".repeat(500_000));
        let mut framer = Framer::new(Limits::default(), 0);
        let (one, two) = large.as_bytes().split_at(300_000);
        assert!(feed(&mut framer, one).is_empty());
        assert!(framer.held() >= 300_000);
        assert_eq!(feed(&mut framer, two).len(), 1);
        assert!(framer.held() <= KEPT);
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            Just(inv("a").into_bytes()),
            Just(mt("b", "3").into_bytes()),
            prop::sample::select(vec![
                "INVITE sip:b@x SIP/2.0\r\n",
                "SIP/2.0 200 OK\r\n",
                "l: 5\r\n",
                "Content-Length : 12\r\n",
                "\r\n",
                "\n",
                "\r",
                "abc",
                " folded\r\n",
                "X: y\r\n",
                "l: 300\r\n",
                "l: bad\r\n",
                "GET / HTTP/1.1\r\n",
                "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy",
                "BYE x SIP/2.0\n",
                "FOO x SIP/2.0\r\n",
                "SI",
                "l:\r\n",
            ])
            .prop_map(|text| text.as_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..6),
        ];
        prop::collection::vec(part, 0..30).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(
            stream in stream(),
            cuts in prop::collection::vec(1..40_usize, 1..200),
            small in any::<bool>(),
            from_start in any::<bool>(),
        ) {
            let limits = match small {
                true => Limits { line: 60, headers: 6, content_length: 200, message: 250, before_first: 150, between: 200 },
                false => Limits::default(),
            };
            let new = if from_start { Framer::new } else { Framer::joined };
            let whole = feed(&mut new(limits, 7), &stream);
            let mut framer = new(limits, 7);
            let (mut parts, mut rest) = (vec![], &stream[..]);
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, behind) = rest.split_at((*cut).min(rest.len()));
                parts.extend(feed(&mut framer, part));
                rest = behind;
            }
            prop_assert_eq!(&parts, &whole);
            let mut last = 7;
            for one in whole {
                if let Seen::Message(bytes, range) | Seen::Damaged(bytes, range, _) = one {
                    prop_assert!(range.start >= last);
                    let at = range.start as usize - 7..range.end as usize - 7;
                    prop_assert_eq!(&stream[at], &bytes[..]);
                    last = range.end;
                }
            }
        }

        #[test]
        fn gaps_make_no_message_of_parts(stream in stream(), at in 0..2000_usize, missing in 1..50_usize) {
            let at = at % (stream.len() + 1);
            let mut framer = Framer::joined(Limits::default(), 0);
            let mut all = feed(&mut framer, &stream[..at]);
            let missing = missing.min(stream.len() - at);
            all.extend(framer.gap(missing as u64).map(seen));
            all.extend(feed(&mut framer, &stream[at + missing..]));
            for one in all {
                if let Seen::Message(bytes, range) | Seen::Damaged(bytes, range, _) = one {
                    let range = range.start as usize..range.end as usize;
                    prop_assert!(range.end <= at || range.start >= at + missing || missing == 0);
                    prop_assert_eq!(&stream[range], &bytes[..]);
                }
            }
        }
    }
}
