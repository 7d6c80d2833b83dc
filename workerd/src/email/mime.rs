//! What a mail says: fields of its head (RFC 5322), encoded words (RFC 2047) and the texts of its body (RFC 2045, RFC 2046).
//!
//! Words, transfer encodings, character sets and structured fields are decoded by `mail-parser`. The parts of a body are found here, in one pass over its lines and without recursion, since their
//! number and their nesting is up to the sender: [`MOST_DEPTH`] levels are told apart, [`MOST_PARTS`] parts are looked at.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use mail_parser::decoders::quoted_printable::quoted_printable_decode;
use mail_parser::parsers::MessageStream;
use mail_parser::{Addr, Address, ContentType, HeaderValue};
use memchr::{memchr, memmem};

use crate::extract::lines::{Lines, header};

/// Bytes of a field that are decoded.
const MOST_FIELD: usize = 16 * 1024;
/// Addresses of a head that are told.
const MOST_ADDRESSES: usize = 64;
/// Levels of parts in parts.
pub const MOST_DEPTH: usize = 8;
/// Parts of a body.
pub const MOST_PARTS: usize = 64;

/// What the head of a mail says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Head {
    /// Subjects, in order: a mail should have one.
    pub subjects: Vec<Subject>,
    /// Message-ID, without brackets.
    pub message_id: String,
    /// Addresses of From.
    pub from: Vec<String>,
    /// Addresses of To and Cc.
    pub to: Vec<String>,
}

/// A subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// For people.
    pub text: String,
    /// As it stands, unfolded.
    pub raw: Vec<u8>,
}

/// What the body of a mail says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Body {
    /// Its texts, decoded, attached ones too.
    pub texts: Vec<Text>,
    /// Names of the files in it.
    pub attachments: Vec<String>,
}

/// A text of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// Decoded.
    pub text: String,
    /// Whether it is plain text, and no file.
    pub is_plain: bool,
}

/// Reads a head.
pub fn head(text: &[u8]) -> Head {
    let mut head = Head::default();
    for (name, value) in Lines::new(text).filter_map(header) {
        match name {
            _ if name.eq_ignore_ascii_case(b"subject") => head.subjects.push(subject(value)),
            _ if name.eq_ignore_ascii_case(b"message-id") => head.message_id = message_id(value),
            _ if name.eq_ignore_ascii_case(b"from") => put_addresses(&mut head.from, value),
            _ if name.eq_ignore_ascii_case(b"to") || name.eq_ignore_ascii_case(b"cc") => {
                put_addresses(&mut head.to, value);
            }
            _ => {}
        }
    }
    head
}

/// The subject that a field says.
pub fn subject(value: &[u8]) -> Subject {
    let raw = unfolded(value);
    let text = decoded(&raw).into_owned();
    Subject { text, raw }
}

/// The first word of a Message-ID, without brackets.
pub fn message_id(value: &[u8]) -> String {
    let value = value.trim_ascii();
    let word = value.split(u8::is_ascii_whitespace).next();
    let word = word.unwrap_or_default();
    let word = word.strip_prefix(b"<").unwrap_or(word);
    let word = word.strip_suffix(b">").unwrap_or(word);
    String::from_utf8_lossy(word).into_owned()
}

/// Encoded words decoded (RFC 2047); text without them as it is.
pub fn decoded(text: &[u8]) -> Cow<'_, str> {
    if memmem::find(text, b"=?").is_none() {
        return String::from_utf8_lossy(text);
    }
    let field = field(text);
    match MessageStream::new(&field).parse_unstructured() {
        HeaderValue::Text(text) => text.into_owned().into(),
        _ => String::from_utf8_lossy(text),
    }
}

/// Adds the addresses of a field such as From.
pub fn put_addresses(addresses: &mut Vec<String>, value: &[u8]) {
    let field = field(value);
    let mut put = |one: &Addr<'_>| {
        if let (Some(address), true) = (&one.address, addresses.len() < MOST_ADDRESSES) {
            addresses.push(address.to_string());
        }
    };
    match MessageStream::new(&field).parse_address() {
        HeaderValue::Address(Address::List(list)) => list.iter().for_each(&mut put),
        HeaderValue::Address(Address::Group(groups)) => {
            let members = groups.iter().flat_map(|group| &group.addresses);
            members.for_each(&mut put);
        }
        _ => {}
    }
}

/// Reads the body behind `head`.
pub fn body(head: &[u8], body: &[u8]) -> Body {
    let mut read = Body::default();
    let root = Part::of(head);
    let Some(boundary) = root.boundary.clone() else {
        read.put(&root, body);
        return read;
    };
    let mut delimiters = Delimiters {
        body,
        at: 0,
        open: vec![boundary],
    };
    let mut content: Option<(Part, usize)> = None;
    let mut parts = 0;
    while let Some(delimiter) = delimiters.next() {
        if let Some((part, start)) = content.take() {
            read.put(&part, &body[start..delimiter.start.max(start)]);
        }
        if !delimiter.opens || parts == MOST_PARTS {
            continue;
        }
        parts += 1;
        let part = delimiters.part();
        match &part.boundary {
            Some(boundary) if delimiters.open.len() < MOST_DEPTH => {
                delimiters.open.push(boundary.clone());
            }
            _ => content = Some((part, delimiters.at)),
        }
    }
    if let Some((part, start)) = content {
        read.put(&part, &body[start..]);
    }
    read
}

impl Body {
    /// The text that people read: the first plain one, else the first one.
    pub fn main(&self) -> Option<&str> {
        let plain = self.texts.iter().find(|text| text.is_plain);
        let text = plain.or(self.texts.first())?;
        Some(&text.text)
    }

    fn put(&mut self, part: &Part, content: &[u8]) {
        self.attachments.extend(part.name.clone());
        if part.is_text {
            self.texts.push(Text {
                text: part.decoded(content),
                is_plain: part.is_plain && part.name.is_none(),
            });
        }
    }
}

/// Finds the lines between parts (RFC 2046 section 5.1.1).
struct Delimiters<'a> {
    body: &'a [u8],
    /// What is before this has been looked at.
    at: usize,
    /// Boundaries of the parts that the place is in, the outermost first.
    open: Vec<Vec<u8>>,
}

/// A line between parts.
struct Delimiter {
    /// Where it starts, with the line end before it.
    start: usize,
    /// Whether a part begins behind it.
    opens: bool,
}

impl<'a> Delimiters<'a> {
    /// The next one; a part whose end is missing ends with the one around it.
    fn next(&mut self) -> Option<Delimiter> {
        while self.at < self.body.len() {
            let start = self.at;
            let line = self.line();
            let Some(name) = line.strip_prefix(b"--") else {
                continue;
            };
            let name = name.trim_ascii_end();
            let is = |boundary: &[u8]| match name.strip_prefix(boundary)? {
                b"" => Some(true),
                b"--" => Some(false),
                _ => None,
            };
            let mut levels = self.open.iter().enumerate().rev();
            let found = levels.find_map(|(level, boundary)| Some((level, is(boundary)?)));
            if let Some((level, opens)) = found {
                self.open.truncate(level + usize::from(opens));
                let before = &self.body[..start];
                let before = before.strip_suffix(b"\n").unwrap_or(before);
                let before = before.strip_suffix(b"\r").unwrap_or(before);
                return Some(Delimiter {
                    start: before.len(),
                    opens,
                });
            }
        }
        None
    }

    /// The part whose head begins here, with the heads of mails in it; its content is behind.
    fn part(&mut self) -> Part {
        let mut part = self.head();
        while part.is_mail && self.at < self.body.len() {
            let name = part.name.take();
            part = self.head();
            part.name = part.name.or(name);
        }
        part
    }

    fn head(&mut self) -> Part {
        let start = self.at;
        while self.at < self.body.len() {
            let line_start = self.at;
            let line = self.line();
            if line.starts_with(b"--") {
                // No empty line: the next part begins.
                self.at = line_start;
                break;
            }
            if line.trim_ascii_end().is_empty() {
                break;
            }
        }
        Part::of(&self.body[start..self.at])
    }

    /// The line here, with its end; goes on behind it.
    fn line(&mut self) -> &'a [u8] {
        let (body, start) = (self.body, self.at);
        let end = memchr(b'\n', &body[start..]);
        self.at = end.map_or(body.len(), |end| start + end + 1);
        &body[start..self.at]
    }
}

/// What the head of a part says of its content.
struct Part {
    is_text: bool,
    is_plain: bool,
    is_mail: bool,
    /// Between its own parts, if it has some.
    boundary: Option<Vec<u8>>,
    encoding: Encoding,
    charset: Vec<u8>,
    /// Of the file that it is.
    name: Option<String>,
}

/// Content-Transfer-Encoding (RFC 2045 section 6).
enum Encoding {
    None,
    Base64,
    QuotedPrintable,
}

impl Part {
    fn of(head: &[u8]) -> Self {
        let mut part = Self {
            is_text: true,
            is_plain: true,
            is_mail: false,
            boundary: None,
            encoding: Encoding::None,
            charset: Vec::new(),
            name: None,
        };
        for (name, value) in Lines::new(head).filter_map(header) {
            if name.eq_ignore_ascii_case(b"content-type") {
                let field = field(value);
                if let HeaderValue::ContentType(kind) =
                    MessageStream::new(&field).parse_content_type()
                {
                    part.is_of(&kind);
                }
            } else if name.eq_ignore_ascii_case(b"content-disposition") {
                let field = field(value);
                if let HeaderValue::ContentType(kind) =
                    MessageStream::new(&field).parse_content_type()
                {
                    part.name = kind.attribute("filename").map(file_name).or(part.name);
                }
            } else if name.eq_ignore_ascii_case(b"content-transfer-encoding") {
                part.encoding = match value {
                    _ if value.eq_ignore_ascii_case(b"base64") => Encoding::Base64,
                    _ if value.eq_ignore_ascii_case(b"quoted-printable") => {
                        Encoding::QuotedPrintable
                    }
                    _ => Encoding::None,
                };
            }
        }
        part
    }

    fn is_of(&mut self, kind: &ContentType<'_>) {
        let (main, sub) = (kind.ctype(), kind.subtype().unwrap_or_default());
        let is = |text: &str, name: &str| text.eq_ignore_ascii_case(name);
        self.is_text = is(main, "text");
        self.is_plain = self.is_text && is(sub, "plain");
        self.is_mail = is(main, "message") && (is(sub, "rfc822") || is(sub, "global"));
        let attribute = |name| kind.attribute(name);
        if is(main, "multipart") {
            let boundary = attribute("boundary").filter(|boundary| !boundary.is_empty());
            self.boundary = boundary.map(|boundary| boundary.as_bytes().to_vec());
        }
        self.charset = attribute("charset").unwrap_or_default().into();
        self.name = self.name.take().or(attribute("name").map(file_name));
    }

    /// The text that `content` stands for; what can't be decoded stays as it is.
    fn decoded(&self, content: &[u8]) -> String {
        let bytes = match self.encoding {
            Encoding::None => None,
            Encoding::Base64 => base64_decode(content),
            Encoding::QuotedPrintable => quoted_printable_decode(content),
        };
        let bytes = bytes.as_deref().unwrap_or(content);
        match charset_decoder(&self.charset) {
            Some(decoder) if !self.charset.is_empty() => decoder(bytes),
            _ => String::from_utf8_lossy(bytes).into_owned(),
        }
    }
}

/// A name may hold encoded words, though it should not (RFC 2047 section 5).
fn file_name(name: &str) -> String {
    decoded(name.as_bytes()).into_owned()
}

/// A value without the line ends of its folding (RFC 5322 section 2.2.3).
pub fn unfolded(value: &[u8]) -> Vec<u8> {
    let is_kept = |byte: &u8| !matches!(byte, b'\r' | b'\n');
    value.iter().copied().filter(is_kept).collect()
}

/// A value as `mail-parser` takes it: with a line end, and not too long.
fn field(value: &[u8]) -> Vec<u8> {
    [&value[..value.len().min(MOST_FIELD)], b"\n"].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_are_unfolded_and_decoded() {
        let text = b"Received: x\r\nSubject: =?UTF-8?B?U2Vj?=\r\n =?utf-8?q?ret?= plan\r\nmessage-id:  <a@b>\r\n\
            From: Alice <alice@example.com>\r\nTo: \"B, C\" <b@example.net>,\r\n\tc@example.net\r\nCc: team: d@e.f;\r\n\r\nSubject: body";
        let head = head(text);
        assert_eq!(head.subjects[0].text, "Secret plan");
        assert_eq!(
            head.subjects[0].raw,
            b"=?UTF-8?B?U2Vj?= =?utf-8?q?ret?= plan"
        );
        assert_eq!((head.subjects.len(), &head.message_id[..]), (1, "a@b"));
        assert_eq!(head.from, ["alice@example.com"]);
        assert_eq!(head.to, ["b@example.net", "c@example.net", "d@e.f"]);
    }

    #[test]
    fn subjects_are_decoded_from_their_character_sets() {
        for (raw, expected) in [
            ("=?gb2312?B?dGVzdCCy4srU?=", "test 测试"),
            ("=?iso-8859-1?Q?=E9_=FC?=", "é ü"),
            ("plain  text", "plain  text"),
            ("=?UTF-8?X?broken?=", "=?UTF-8?X?broken?="),
        ] {
            assert_eq!(decoded(raw.as_bytes()), expected);
        }
    }

    #[test]
    fn parts_are_found_and_decoded() {
        let head = b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"out\"\r\n\r\n";
        let text = b"preamble\r\n--out\r\nContent-Type: multipart/alternative; boundary=in\r\n\r\n\
            --in\r\nContent-Type: text/html\r\n\r\n<b>hi</b>\r\n--in\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nh=C3=A9llo=\r\n you\r\n--in--\r\n\
            --out\r\nContent-Type: text/plain; charset=iso-8859-1; name=a.txt\r\nContent-Transfer-Encoding: base64\r\n\r\nc2Vj\r\ncmV06Q==\r\n\
            --out\r\nContent-Type: application/zip\r\nContent-Disposition: attachment;\r\n filename*=utf-8''%e2%82%ac.zip\r\n\r\nPK\r\n\
            --out\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ninner text\r\n--out--\r\nepilogue\r\n";
        let body = body(head, text);
        let texts: Vec<_> = body.texts.iter().map(|text| &text.text[..]).collect();
        assert_eq!(texts, ["<b>hi</b>", "héllo you", "secreté", "inner text"]);
        assert_eq!(body.main(), Some("héllo you"));
        assert_eq!(body.attachments, ["a.txt", "€.zip"]);
    }

    #[test]
    fn a_body_without_parts_is_one_text() {
        let plain = body(b"Subject: x\r\n\r\n", b"as it is\r\n");
        assert_eq!(plain.main(), Some("as it is\r\n"));
        let encoded = body(
            b"Content-Transfer-Encoding: BASE64\r\n\r\n",
            b"aGVsbG8=\r\n",
        );
        assert_eq!(encoded.main(), Some("hello"));
        let cut = body(
            b"Content-Transfer-Encoding: base64\r\n\r\n",
            b"aGVsbG8gd2\r\n",
        );
        assert_eq!(cut.main(), Some("hello w"));
        let picture = body(b"Content-Type: image/png; name=p.png\r\n\r\n", b"\x89PNG");
        assert_eq!(
            (picture.main(), &picture.attachments[..]),
            (None, &["p.png".to_owned()][..])
        );
    }

    #[test]
    fn nesting_and_parts_are_bounded() {
        let deep = "--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n".repeat(1_000);
        let head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n";
        assert!(body(head, deep.as_bytes()).texts.len() <= MOST_PARTS);
        let mails = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
        let mails = format!("--b\r\n{mails}");
        assert_eq!(body(head, mails.as_bytes()).texts.len(), 0);
        let many = "--b\r\n\r\nx\r\n".repeat(1_000);
        assert_eq!(body(head, many.as_bytes()).texts.len(), MOST_PARTS);
    }

    proptest! {
        #[test]
        fn any_bytes_are_accepted(
            text in "(--b|--b--|--c|\r\n|Content-Type: |multipart/mixed; boundary=|message/rfc822|text/plain|b|c|=\\?|utf-8|\\?q\\?|\\?=|Subject: |From: |<a@b>|\\(|\\)|\"|,|;|:| ){0,60}",
            noise in prop::collection::vec(any::<u8>(), 0..30),
        ) {
            let text = [text.as_bytes(), &noise].concat();
            head(&text);
            body(b"Content-Type: multipart/mixed; boundary=b\r\n\r\n", &text);
            body(&text, &text);
        }
    }
}
