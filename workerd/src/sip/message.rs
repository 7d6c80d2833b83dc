//! One SIP message, in a datagram or cut out of a stream.
//!
//! What is read and what is not:
//!
//! - Line ends before the start line are skipped (RFC 3261 section 7.5), and only they: a message doesn't begin with blanks.
//! - The head ends at the first empty line, or at the end of the bytes.
//! - At most [`MOST_HEADERS`] header lines are read; more are counted, and the body is found behind them.
//! - `Content-Length` cuts what follows the body of a datagram, but never makes a message bad: if it says more than there is, or 0
//!   before a session description, the body is what there is. Of several, the last counts.
//! - Nothing is copied. Parsing is one pass; each look-up of a header is at most one more over the lines that are read.

use super::header::{Header, Name, Value};
use super::lines::{next_logical_line, split_header, split_line};
use super::method::Method;

/// Most header lines that are read, with or without a colon; a folded one counts once.
pub const MOST_HEADERS: usize = 512;
/// Longest method of a request.
pub const LONGEST_METHOD: usize = 32;

/// The first line of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start<'a> {
    /// A request line.
    Request {
        /// The method.
        method: Method,
        /// Its token, also where it is [`Method::Other`].
        token: &'a [u8],
        /// The Request-URI; empty in a doubtful line that is cut before its end.
        uri: &'a [u8],
    },
    /// A status line.
    Response {
        /// Three digits; 0 if the line ends right behind them or they are none.
        code: u16,
        /// The reason phrase.
        reason: &'a [u8],
    },
}

/// How closely a start line follows RFC 3261.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// By its version a SIP message, if at all: a line that is cut, or with another version than 2.0.
    Doubtful,
    /// With more blanks than one, tabs, text behind the version, or the version in lower case.
    Loose,
    /// As the grammar says.
    Exact,
}

/// A SIP message that lies in the bytes it was parsed from.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    start: Start<'a>,
    form: Form,
    line: &'a [u8],
    /// The header lines that are read.
    head: &'a [u8],
    /// Where in `head` the first header of each name begins, plus 1; 0 for none.
    first: [u32; Name::ALL.len()],
    /// Which names stand there more than once.
    repeated: u64,
    any_header: bool,
    excess: usize,
    body: &'a [u8],
    whole_head: bool,
}

impl<'a> Message<'a> {
    /// The message that begins in `bytes`. `None` if none does.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        Self::parse_form(bytes, Form::Loose)
    }

    /// As [`Message::parse`], but also what is a SIP message only by goodwill, perhaps with blanks before it: for filters, which
    /// disguise must not deceive.
    #[must_use]
    pub fn parse_doubtful(bytes: &'a [u8]) -> Option<Self> {
        Self::parse_form(bytes, Form::Doubtful)
    }

    fn parse_form(bytes: &'a [u8], least: Form) -> Option<Self> {
        let is_end = |byte: &u8| match least {
            Form::Doubtful => byte.is_ascii_whitespace(),
            Form::Loose | Form::Exact => matches!(byte, b'\r' | b'\n'),
        };
        let skipped = bytes.iter().take_while(|byte| is_end(byte)).count();
        let (line, behind) = split_line(&bytes[skipped..])?;
        let (start, form) = start_line(line)?;
        if form < least {
            return None;
        }
        let mut message = Self {
            start,
            form,
            line,
            head: behind,
            first: [0; Name::ALL.len()],
            repeated: 0,
            any_header: false,
            excess: 0,
            body: &[],
            whole_head: false,
        };
        let rest = message.index(behind);
        message.body = message.without_trailer(rest);
        Some(message)
    }

    /// Notes where headers begin. Returns what follows the head.
    fn index(&mut self, behind: &'a [u8]) -> &'a [u8] {
        let mut rest = behind;
        let mut count = 0;
        loop {
            let at = behind.len() - rest.len();
            let Some(line) = next_logical_line(&mut rest) else {
                let end = &behind[at..behind.len() - rest.len()];
                self.whole_head = end.contains(&b'\n');
                break;
            };
            count += 1;
            if count > MOST_HEADERS {
                if self.excess == 0 {
                    self.head = &behind[..at];
                }
                self.excess += 1;
                continue;
            }
            let Some((name, _)) = split_header(line) else {
                continue;
            };
            self.any_header = true;
            if let Some(name) = Name::of(name) {
                let first = &mut self.first[name as usize];
                if *first != 0 {
                    self.repeated |= 1 << name as u32;
                } else if let Ok(at) = u32::try_from(at + 1) {
                    *first = at;
                }
            }
        }
        if self.excess == 0 {
            self.head = &behind[..behind.len() - rest.len()];
        }
        rest
    }

    fn without_trailer(&self, rest: &'a [u8]) -> &'a [u8] {
        let length = self.last(Name::ContentLength);
        let length = length.and_then(|value| content_length(value.0, u64::MAX).ok());
        match length.and_then(|length| usize::try_from(length).ok()) {
            Some(0) if rest.starts_with(b"v=") => rest,
            Some(length) => rest.get(..length).unwrap_or(rest),
            None => rest,
        }
    }

    /// The first line, parsed.
    #[must_use]
    #[inline]
    pub fn start(&self) -> Start<'a> {
        self.start
    }

    /// How closely the first line follows the grammar.
    #[must_use]
    pub fn form(&self) -> Form {
        self.form
    }

    /// The first line as it stands, without its end.
    #[must_use]
    pub fn line(&self) -> &'a [u8] {
        self.line
    }

    /// The method of a request; `None` for a response.
    #[must_use]
    #[inline]
    pub fn method(&self) -> Option<Method> {
        match self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// The status code; 0 for a request.
    #[must_use]
    #[inline]
    pub fn status(&self) -> u16 {
        match self.start {
            Start::Request { .. } => 0,
            Start::Response { code, .. } => code,
        }
    }

    /// The body, or what there is of it; without what follows it in a datagram.
    #[must_use]
    #[inline]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// Whether the empty line was there: otherwise the head is cut.
    #[must_use]
    pub fn has_whole_head(&self) -> bool {
        self.whole_head
    }

    /// How many header lines beyond [`MOST_HEADERS`] are left out.
    #[must_use]
    pub fn excess_headers(&self) -> usize {
        self.excess
    }

    /// Whether there is any header.
    #[must_use]
    pub fn has_headers(&self) -> bool {
        self.any_header
    }

    /// All headers that are read, in order.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        headers(self.head)
    }

    /// The values of all headers of a name, in order. Values may be lists.
    pub fn values(&self, name: Name) -> impl Iterator<Item = Value<'a>> + use<'a> {
        let start = (self.first[name as usize] as usize).checked_sub(1);
        let lines = start.and_then(|at| self.head.get(at..)).unwrap_or_default();
        let most = match self.repeated >> name as u32 & 1 {
            0 => 1,
            _ => usize::MAX,
        };
        headers(lines)
            .filter(move |header| Name::of(header.name) == Some(name))
            .map(|header| header.value)
            .take(most)
    }

    /// The value of the first header of a name.
    #[must_use]
    #[inline]
    pub fn value(&self, name: Name) -> Option<Value<'a>> {
        self.values(name).next()
    }

    /// The value of the last header of a name.
    #[must_use]
    pub fn last(&self, name: Name) -> Option<Value<'a>> {
        self.values(name).last()
    }
}

fn headers(lines: &[u8]) -> impl Iterator<Item = Header<'_>> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        loop {
            let line = next_logical_line(&mut rest)?;
            if let Some((name, value)) = split_header(line) {
                let value = Value(value);
                return Some(Header { name, value });
            }
        }
    })
}

/// Parses the first line of a message.
#[must_use]
pub fn start_line(line: &[u8]) -> Option<(Start<'_>, Form)> {
    if line
        .get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
    {
        return status_line(line);
    }
    let token = &line[..line.iter().position(|byte| !is_token(*byte))?];
    if token.is_empty() || token.len() > LONGEST_METHOD {
        return None;
    }
    let method = Method::of_token(token);
    let request = |uri| Start::Request { method, token, uri };
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let behind = &line[token.len()..];
    if !behind.first().is_some_and(is_blank) {
        return None;
    }
    if let Some(uri) = behind[1..].strip_suffix(b" SIP/2.0")
        && !uri.is_empty()
        && behind[0] == b' '
        && !uri.iter().any(is_blank)
    {
        return Some((request(uri), Form::Exact));
    }
    let mut words = behind
        .split(|byte| is_blank(byte))
        .filter(|word| !word.is_empty());
    let uri = words.next();
    match (uri, words.next()) {
        (Some(uri), Some(version)) if is_version(version) => Some((request(uri), Form::Loose)),
        (Some(uri), Some(version)) if starts_like_version(version) => {
            Some((request(uri), Form::Doubtful))
        }
        (Some(_), _) => (method != Method::Other).then(|| (request(&[]), Form::Doubtful)),
        (None, _) => None,
    }
}

fn status_line(line: &[u8]) -> Option<(Start<'_>, Form)> {
    let end = line.iter().position(|byte| matches!(byte, b' ' | b'\t'));
    let (version, behind) = line.split_at(end.unwrap_or(line.len()));
    let status = behind.trim_ascii_start();
    let digits = status
        .iter()
        .take(3)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (code, reason) = match digits {
        3 if status.len() > 3 => {
            let code = status[..3]
                .iter()
                .fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
            (code, status[3..].trim_ascii())
        }
        _ => (0, &[][..]),
    };
    let form = match version {
        _ if digits < 3 => Form::Doubtful,
        b"SIP/2.0" if behind.starts_with(b" ") && behind.len() == status.len() + 1 => Form::Exact,
        _ if is_version(version) => Form::Loose,
        _ => Form::Doubtful,
    };
    Some((Start::Response { code, reason }, form))
}

fn is_version(word: &[u8]) -> bool {
    word.eq_ignore_ascii_case(b"SIP/2.0")
}

fn starts_like_version(word: &[u8]) -> bool {
    word.get(..4)
        .is_some_and(|start| start.eq_ignore_ascii_case(b"SIP/"))
}

/// Whether a byte may stand in a token (RFC 3261 section 25.1).
#[must_use]
#[inline]
pub fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// What is wrong with a `Content-Length`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LengthFault {
    /// There is no value.
    #[error("no value")]
    Empty,
    /// It doesn't begin with a digit.
    #[error("no number")]
    NoDigits,
    /// It has more than ten characters.
    #[error("more than ten characters")]
    TooLong,
    /// It is above the limit.
    #[error("{0} is above the limit")]
    Exceeds(u64),
}

/// The number of a `Content-Length` header. What follows its digits is ignored.
pub fn content_length(value: &[u8], limit: u64) -> Result<u64, LengthFault> {
    let value = value.trim_ascii();
    let digits = value
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    match (value.len(), digits) {
        (0, _) => return Err(LengthFault::Empty),
        (_, 0) => return Err(LengthFault::NoDigits),
        (11.., _) => return Err(LengthFault::TooLong),
        _ => {}
    }
    let length = value[..digits]
        .iter()
        .fold(0, |length, digit| length * 10 + u64::from(digit - b'0'));
    match length > limit {
        true => Err(LengthFault::Exceeds(length)),
        false => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use super::super::sdp::Session;
    use super::*;
    use proptest::prelude::*;

    fn parse(text: &str) -> Option<Message<'_>> {
        Message::parse(text.as_bytes())
    }

    fn header(message: &Message<'_>, name: Name) -> Option<String> {
        message.value(name).map(|value| value.to_string())
    }

    /// Table A.
    #[test]
    fn methods_are_told_by_their_tokens() {
        let token = |text: &str| parse(text).map_or("", |message| message.method_token());
        assert_eq!(
            token(
                "INVITE sip:ben@beta.example SIP/2.0\r\nFrom: <sip:ann@alpha.example>;tag=f1\r\n"
            ),
            "INVITE",
            "A1"
        );
        assert_eq!(
            token("REGISTER sip:beta.example SIP/2.0\r\n"),
            "REGISTER",
            "A2"
        );
        assert_eq!(token("SIP/2.0 200 OK\r\n"), "", "A3");
        assert_eq!(token(""), "", "A4");
        assert_eq!(token("  INVITE sip:ben@beta.example SIP/2.0  "), "", "A5");
        assert_eq!(token("invite sip:ben@beta.example SIP/2.0"), "", "A6");
        // More than the prefixes of the reference.
        for method in Method::KNOWN {
            assert_eq!(
                token(&format!("{} sip:x SIP/2.0\r\n", method.token())),
                method.token()
            );
        }
        assert_eq!(token("INVITEX sip:x SIP/2.0"), "");
        assert_eq!(
            parse("INVITEX sip:x SIP/2.0").unwrap().method(),
            Some(Method::Other)
        );
    }

    /// Table B, and rows N11 to N13.
    #[test]
    fn start_lines_are_recognised() {
        let is_known = |text| parse(text).is_some_and(|one| one.method() != Some(Method::Other));
        assert!(is_known("INVITE sip:ben@beta.example SIP/2.0"), "B1");
        assert!(is_known("SIP/2.0 200 OK"), "B2");
        assert!(!is_known("INVITE sip:ben@beta.example"), "B3");
        assert!(!is_known("HTTP/1.1 200 OK"), "B4");
        assert!(!is_known("   "), "B5");
        assert!(!is_known("INV sip:ben@beta.example SIP/2.0"), "B6");
        assert!(!is_known("SIP"), "N11");
        assert!(is_known("SIP/2.0 180 Ringing\r\n"), "N12");
        let response = parse("SIP/2.0 200 OK\r\n").unwrap();
        assert_eq!((response.method(), response.status()), (None, 200), "N13");
    }

    #[test]
    fn forms_of_start_lines() {
        for (line, form) in [
            ("INVITE sip:a SIP/2.0", Some(Form::Exact)),
            ("NEWMETHOD sip:a SIP/2.0", Some(Form::Exact)),
            ("INVITE  sip:a\tSIP/2.0", Some(Form::Loose)),
            ("INVITE sip:a SIP/2.0 x", Some(Form::Loose)),
            ("INVITE sip:a sip/2.0", Some(Form::Loose)),
            ("INVITE sip:a SIP/7.0", Some(Form::Doubtful)),
            ("INVITE sip:a@very-long", Some(Form::Doubtful)),
            ("INVITE", None),
            ("INVITE ", None),
            ("GET / HTTP/1.1", None),
            ("(x) sip:a SIP/2.0", None),
            ("SIP/2.0 486 Busy Here", Some(Form::Exact)),
            ("SIP/2.0\t486 Busy Here", Some(Form::Loose)),
            ("SIP/2.0 486", Some(Form::Exact)),
            ("SIP/2.0 abc", Some(Form::Doubtful)),
            ("sip/1.0 200 OK", Some(Form::Doubtful)),
        ] {
            assert_eq!(
                start_line(line.as_bytes()).map(|(_, form)| form),
                form,
                "{line}"
            );
            assert_eq!(parse(line).is_some(), form >= Some(Form::Loose), "{line}");
            assert_eq!(
                Message::parse_doubtful(line.as_bytes()).is_some(),
                form.is_some(),
                "{line}"
            );
        }
    }

    /// Table C, rows 1 to 5.
    #[test]
    fn headers_are_found_in_any_form() {
        let one = parse(
            "INVITE sip:ben@beta.example SIP/2.0\nf: <sip:ann@alpha.example>;tag=9\nt: <sip:ben@beta.example>\n\
             i: cid-2@alpha.example\nm: <sip:ann@192.0.2.7:5060>\n\n",
        )
        .unwrap();
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            header(&one, Name::From),
            some("<sip:ann@alpha.example>;tag=9"),
            "C1"
        );
        assert_eq!(header(&one, Name::To), some("<sip:ben@beta.example>"), "C1");
        assert_eq!(
            header(&one, Name::CallId),
            some("cid-2@alpha.example"),
            "C1"
        );
        assert_eq!(
            header(&one, Name::Contact),
            some("<sip:ann@192.0.2.7:5060>"),
            "C1"
        );
        assert_eq!((one.body(), one.headers().count()), (&b""[..], 4), "C1");
        let two = parse(
            "INVITE sip:ben@beta.example SIP/2.0\nFROM: <sip:ann@alpha.example>\nto: <sip:ben@beta.example>\n\
             Call-Id: cid-3@alpha.example\n\n",
        )
        .unwrap();
        assert_eq!(
            header(&two, Name::From),
            some("<sip:ann@alpha.example>"),
            "C2"
        );
        assert_eq!(
            header(&two, Name::CallId),
            some("cid-3@alpha.example"),
            "C2"
        );
        assert!(parse("").is_none(), "C3");
        let four = parse(
            "INVITE sip:ben@beta.example SIP/2.0\nCall-ID:\nFrom:\nTo: ben@beta.example\n\npayload line",
        )
        .unwrap();
        assert_eq!(header(&four, Name::CallId), some(""), "C4");
        assert_eq!(header(&four, Name::From), some(""), "C4");
        assert_eq!(header(&four, Name::To), some("ben@beta.example"), "C4");
        assert_eq!(four.body(), b"payload line", "C4");
        let five = parse(
            "INVITE sip:ben@beta.example SIP/2.0\nCall-ID: cid-4\nVia: SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKq\n\nx",
        )
        .unwrap();
        assert_eq!(
            header(&five, Name::Via),
            some("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKq"),
            "C5"
        );
        assert_eq!(five.body(), b"x", "C5");
    }

    /// Rows D10, D11, X21 and X29.
    #[test]
    fn status_codes_are_three_digits() {
        for (text, code) in [
            ("SIP/2.0 486 Busy Here\r\n", 486),             // D10
            ("INVITE sip:ben@beta.example SIP/2.0\r\n", 0), // D11
            ("SIP/2.0 200", 0),                             // X29
            ("SIP/2.0 000 \r\n", 0),
            ("SIP/2.0 2000 OK\r\n", 200),
        ] {
            assert_eq!(parse(text).unwrap().status(), code, "{text}");
        }
    }

    #[test]
    fn line_ends_before_a_message_are_skipped() {
        let message =
            parse("\r\n\r\nINVITE sip:b@x SIP/2.0\r\nCall-ID: x19\r\n\r\nv=0\r\n").unwrap();
        assert_eq!(message.call_id(), Ok(&b"x19"[..]), "X19");
        assert_eq!(message.body(), b"v=0\r\n", "X19");
    }

    #[test]
    fn folded_headers_are_whole() {
        let message =
            parse("INFO sip:b@x SIP/2.0\r\nFrom: <sip:a@b>\r\n ;tag=zz\r\nTo : t\r\n\r\n").unwrap();
        assert_eq!(message.from().unwrap().tag(), b"zz", "X23");
        assert_eq!(
            header(&message, Name::From).unwrap(),
            "<sip:a@b> ;tag=zz",
            "X23"
        );
        assert_eq!(header(&message, Name::To).unwrap(), "t");
        let deep = format!(
            "INFO sip:b@x SIP/2.0\r\nFrom:{}<sip:a@b>\r\n\r\nx",
            "\r\n ".repeat(100_000)
        );
        let deep = parse(&deep).unwrap();
        assert_eq!(
            (deep.from().unwrap().uri.user, deep.body()),
            (&b"a"[..], &b"x"[..])
        );
    }

    #[test]
    fn headers_beyond_the_limit_are_counted_and_the_body_is_kept() {
        for (count, excess) in [(101, 0), (199, 0), (100_000, 100_001 - MOST_HEADERS)] {
            let lines = "X-Filler: y\r\n".repeat(count);
            let text = format!("INVITE sip:b@x SIP/2.0\r\nCall-ID: x22\r\n{lines}\r\nv=0\r\n");
            let message = parse(&text).unwrap();
            assert_eq!(message.excess_headers(), excess, "X22");
            assert_eq!(message.headers().count(), (count + 1).min(MOST_HEADERS));
            assert_eq!(
                (message.body(), message.call_id()),
                (&b"v=0\r\n"[..], Ok(&b"x22"[..])),
                "X22"
            );
        }
    }

    #[test]
    fn the_length_cuts_what_follows_the_body() {
        let body = |headers: &str, rest: &str| {
            let text = format!("INVITE sip:b@x SIP/2.0\r\n{headers}\r\n\r\n{rest}");
            String::from_utf8(parse(&text).unwrap().body().to_vec()).unwrap()
        };
        for (headers, rest, expected) in [
            ("Content-Length: 3", "abcdef", "abc"),
            ("l : 3", "abcdef", "abc"),
            ("Content-Length: 9\r\nl: 3", "abcdef", "abc"),
            ("Content-Length: 99", "abc", "abc"),
            ("Content-Length: 0", "abc", ""),
            ("Content-Length: 0", "v=0\r\n", "v=0\r\n"),
            ("Content-Length: junk", "abc", "abc"),
            ("Content-Length:\r\n 2", "abc", "ab"),
            ("To: t", "abc", "abc"),
        ] {
            assert_eq!(body(headers, rest), expected, "{headers}");
        }
    }

    /// Table G, rows 1 to 9.
    #[test]
    fn lengths_are_read_as_the_table_says() {
        let limit = 1 << 20;
        for (id, value, expected) in [
            ("G1", "0", Ok(0)),
            ("G2", "  2048  ", Ok(2048)),
            ("G3", "4096 bytes", Ok(4096)),
            ("G4", "   ", Err(LengthFault::Empty)),
            ("G5", "abc", Err(LengthFault::NoDigits)),
            ("G6", "-1", Err(LengthFault::NoDigits)),
            ("G7", "2097152", Err(LengthFault::Exceeds(2_097_152))),
            ("G8", "111111111111111", Err(LengthFault::TooLong)),
            ("G9", "01024", Ok(1024)),
        ] {
            assert_eq!(content_length(value.as_bytes(), limit), expected, "{id}");
        }
    }

    #[test]
    fn repeated_headers_all_count() {
        let message =
            parse("INFO sip:b@x SIP/2.0\r\nVia: 1\r\nTo: t\r\nv: 2\r\nX: 1\r\nVIA : 3\r\n\r\n")
                .unwrap();
        let all: Vec<_> = message
            .values(Name::Via)
            .map(|value| value.to_string())
            .collect();
        assert_eq!(all, ["1", "2", "3"]);
        assert_eq!(message.last(Name::Via), Some(Value(b"3")));
        assert_eq!(message.values(Name::From).count(), 0);
    }

    /// Everything that is asked of messages.
    fn ask(message: &Message<'_>) {
        for name in Name::ALL {
            message.addresses(*name).for_each(|address| {
                let _ = (address.tag(), address.uri.host());
            });
            let _ = message.last(*name).map(|value| value.to_string());
        }
        let _ = (
            message.call_id(),
            message.cseq(),
            message.imsis().count(),
            message.imeis().count(),
        );
        let _ = (
            message.correlations().count(),
            message.access_network(),
            message.visited_network(),
        );
        let _ = Session::of(message).map(|session| session.endpoints().count());
    }

    #[test]
    fn hostile_messages_are_read_to_their_end() {
        let parts = [
            "\"",
            "\\\"",
            "\\",
            "<",
            "<sip:",
            "sip:",
            ":",
            ",",
            ";",
            ";=\"",
            "=",
            "@",
            "%",
            "\0",
            "\r",
            " ",
            "\r\n ",
            "+sip.instance=",
            "username=",
            "--b\r\n",
            "\r\n--b",
            "m=audio 1 RTP/AVP 0\r\n",
            "a=candidate:1 1 UDP 1 1.1.1.1 1 x\r\n",
            "SIP/2.0 ",
        ];
        let headers = [
            "From: ",
            "Contact: ",
            "Authorization: ",
            "P-Charging-Vector: ",
            "P-Access-Network-Info: x;",
            "Content-Length: ",
            "Call-ID: ",
            "CSeq: ",
            "c: multipart/mixed;boundary=b\r\n\r\n",
            "c: application/sdp\r\n\r\n",
        ];
        for part in parts {
            let many = part.repeat((64 << 10) / part.len());
            for header in headers {
                let text = format!("INVITE sip:b@x SIP/2.0\r\n{header}{many}");
                ask(&parse(&text).unwrap());
                // As many headers as are read.
                let lines = format!("{header}{part}\r\n").repeat(1000);
                ask(&parse(&format!("INVITE sip:b@x SIP/2.0\r\n{lines}\r\n{many}")).unwrap());
            }
            let _ = Message::parse_doubtful(many.as_bytes());
            let _ = Message::parse_doubtful(format!("INVITE {many} SIP/2.0").as_bytes());
        }
    }

    fn within(whole: &[u8], part: &[u8]) -> bool {
        let (whole, part) = (whole.as_ptr_range(), part.as_ptr_range());
        part.is_empty() || whole.start <= part.start && part.end <= whole.end
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted(
            start in prop::sample::select(vec!["INVITE sip:a@b SIP/2.0\r\n", "SIP/2.0 200 OK\n", "\r\n", ""]),
            parts in prop::collection::vec(prop_oneof![
                prop::sample::select(vec![
                    "From: ", "t:", "\r\n", "\n", "\r", " ", "\"", "<sip:", ">", ";tag=", "@", ",", "Contact: ", "\\",
                    "Content-Length: 3", "Call-ID: a", "CSeq: 1 X", "Authorization: Digest username=\"", "\0", "%41",
                    "Content-Type: multipart/mixed;boundary=x", "--x", "m=audio 1 RTP/AVP 0", "c=IN IP4 1.2.3.4",
                    "P-Access-Network-Info: x;", "+sip.instance=\"<urn:gsma:imei:", "P-Charging-Vector: icid-value=",
                ]).prop_map(|text| text.as_bytes().to_vec()),
                prop::collection::vec(any::<u8>(), 0..5),
            ], 0..60),
        ) {
            let bytes = [start.as_bytes(), &parts.concat()].concat();
            let Some(message) = Message::parse_doubtful(&bytes) else {
                return Ok(());
            };
            prop_assert!(within(&bytes, message.body()) && within(&bytes, message.line()));
            for header in message.headers() {
                prop_assert!(within(&bytes, header.name) && within(&bytes, header.value.0));
                prop_assert!(!header.value.to_string().contains(['\r', '\n']));
            }
            for name in Name::ALL {
                let listed = message.headers().filter(|one| Name::of(one.name) == Some(*name));
                prop_assert!(message.values(*name).eq(listed.map(|one| one.value)));
                for address in message.addresses(*name) {
                    prop_assert!(within(&bytes, address.uri.text) && within(&bytes, address.tag()));
                    prop_assert!(within(&bytes, address.uri.host()) && within(&bytes, address.uri.user));
                }
            }
            ask(&message);
        }
    }
}
