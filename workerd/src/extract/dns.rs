//! Names in a DNS message (RFC 1035): of questions, of answers, and those that answers point to.
//!
//! Targets are read from CNAME, DNAME, NS, PTR, MX, SRV, SVCB and HTTPS records (RFC 6672, 2782, 9460). Also mDNS and LLMNR, which have the
//! same form. A label is taken as it is; names are joined with dots, without one at the end.

use super::reader::Reader;
use crate::matcher::{Fields, Kind, Kinds};

/// What a DNS message has.
pub const KINDS: Kinds = Kinds::of(&[Kind::DnsName]);

const HEADER: usize = 12;
/// Most questions of a message; real ones have one, mDNS some.
const MOST_QUESTIONS: u16 = 32;
/// Most records of a message.
const MOST_RECORDS: u16 = 4096;
/// Longest name (RFC 1035 section 2.3.4).
const NAME: usize = 255;

/// Whether a message may start so.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    Header::read(head).is_some()
}

/// Adds the names of a message. False if it is none.
pub fn extract(message: &[u8], fields: &mut Fields) -> bool {
    let Some(header) = Header::read(message) else {
        return false;
    };
    let mut names = Names {
        message,
        at: HEADER,
    };
    let mut seen = false;
    for _ in 0..header.questions {
        let mut name = Name::default();
        let Some(()) = names.question(&mut name) else {
            return seen;
        };
        seen = true;
        name.push(fields);
    }
    for _ in 0..header.answers {
        let (mut owner, mut target) = (Name::default(), Name::default());
        let Some(has_target) = names.answer(&mut owner, &mut target) else {
            return seen;
        };
        seen = true;
        owner.push(fields);
        if has_target {
            target.push(fields);
        }
    }
    seen
}

/// The same for a segment of a TCP stream, where the message stands behind its length (RFC 1035 section 4.2.2).
pub fn extract_stream(segment: &[u8], fields: &mut Fields) -> bool {
    let message = Reader(segment).piece16();
    message.is_some_and(|message| extract(message, fields))
}

struct Header {
    questions: u16,
    answers: u16,
}

impl Header {
    /// `None` if a DNS message has no such header.
    fn read(message: &[u8]) -> Option<Self> {
        let mut reader = Reader(message);
        let (_, flags) = (reader.u16()?, reader.u16()?);
        let (questions, answers) = (reader.u16()?, reader.u16()?);
        let (authorities, additions) = (reader.u16()?, reader.u16()?);
        let (is_response, opcode, error) = (flags >> 15 == 1, flags >> 11 & 15, flags & 15);
        let is_plausible = matches!(opcode, 0 | 1 | 2 | 4 | 5)
            // Reserved (RFC 1035); LLMNR's conflict and tentative bits stand elsewhere.
            && flags & 0x40 == 0
            && (is_response || error == 0)
            && questions <= MOST_QUESTIONS
            && (questions > 0 || is_response && answers > 0)
            && [answers, authorities, additions].iter().all(|count| *count <= MOST_RECORDS);
        is_plausible.then_some(Self { questions, answers })
    }
}

struct Names<'a> {
    message: &'a [u8],
    at: usize,
}

impl Names<'_> {
    fn question(&mut self, name: &mut Name) -> Option<()> {
        self.at = name.read(self.message, self.at)?;
        let mut reader = Reader(self.message.get(self.at..)?);
        let (kind, class) = (reader.u16()?, reader.u16()?);
        self.at += 4;
        (kind != 0 && is_class(class)).then_some(())
    }

    /// Whether the record has a target.
    fn answer(&mut self, owner: &mut Name, target: &mut Name) -> Option<bool> {
        self.at = owner.read(self.message, self.at)?;
        let mut reader = Reader(self.message.get(self.at..)?);
        let (kind, class) = (reader.u16()?, reader.u16()?);
        reader.take(4)?;
        let len = reader.piece16()?.len();
        let data = self.at + 10;
        self.at = data + len;
        if kind == 0 || !is_class(class) {
            return None;
        }
        let before_name = match kind {
            // NS, CNAME, PTR, DNAME
            2 | 5 | 12 | 39 => 0,
            // MX, SVCB, HTTPS
            15 | 64 | 65 => 2,
            // SRV
            33 => 6,
            _ => return Some(false),
        };
        Some(
            target
                .read(&self.message[..self.at], data + before_name)
                .is_some(),
        )
    }
}

/// Internet, Chaos, Hesiod, none, any; the highest bit has a meaning of its own in mDNS (RFC 6762).
fn is_class(class: u16) -> bool {
    matches!(class & 0x7fff, 1 | 3 | 4 | 254 | 255)
}

/// A name in readable form.
struct Name {
    text: [u8; NAME],
    len: usize,
}

impl Default for Name {
    fn default() -> Self {
        Self {
            text: [0; NAME],
            len: 0,
        }
    }
}

impl Name {
    /// Reads the name at `at`. Returns where the bytes behind it start.
    fn read(&mut self, message: &[u8], mut at: usize) -> Option<usize> {
        let (mut end, mut lowest) = (None, at);
        loop {
            let len = *message.get(at)?;
            match len {
                0 => return Some(end.unwrap_or(at + 1)),
                1..=63 => {
                    let label = message.get(at + 1..at + 1 + usize::from(len))?;
                    self.label(label)?;
                    at += 1 + label.len();
                }
                // A pointer leads further to the front each time, so this ends.
                0xc0.. => {
                    end = end.or(Some(at + 2));
                    at = usize::from(len & 0x3f) << 8 | usize::from(*message.get(at + 1)?);
                    if at >= lowest || at < HEADER {
                        return None;
                    }
                    lowest = at;
                }
                _ => return None,
            }
        }
    }

    fn label(&mut self, label: &[u8]) -> Option<()> {
        let dot = usize::from(self.len > 0);
        let place = self.text.get_mut(self.len..self.len + dot + label.len())?;
        if dot == 1 {
            place[0] = b'.';
        }
        place[dot..].copy_from_slice(label);
        self.len += dot + label.len();
        Some(())
    }

    fn push(&self, fields: &mut Fields) {
        if self.len > 0 {
            fields.push(Kind::DnsName, &self.text[..self.len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(message: &[u8]) -> Vec<String> {
        let mut fields = Fields::default();
        extract(message, &mut fields);
        fields
            .iter()
            .map(|(_, _, name)| String::from_utf8(name.to_vec()).unwrap())
            .collect()
    }

    fn message(flags: u16, counts: [u16; 4], body: &[u8]) -> Vec<u8> {
        let numbers = [[7, flags].as_slice(), &counts].concat();
        let mut bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect();
        bytes.extend(body);
        bytes
    }

    const QUESTION: &[u8] = b"\x03WWW\x07example\x03com\0\0\x01\0\x01";

    #[test]
    fn names_of_questions_owners_and_targets_are_found() {
        assert_eq!(
            names(&message(0x100, [1, 0, 0, 1], QUESTION)),
            ["www.example.com"]
        );
        // www CNAME a.example.com; a.example.com A; example.com MX mail.example.com.
        let answers = [
            QUESTION,
            b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x04\x01a\xc0\x10",
            b"\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\x7f\0\0\x01",
            b"\xc0\x10\0\x0f\0\x01\0\0\0\x3c\0\x09\0\x0a\x04mail\xc0\x10",
        ]
        .concat();
        let response = message(0x8180, [1, 3, 0, 0], &answers);
        let expected = [
            "www.example.com",
            "www.example.com",
            "a.example.com",
            "a.example.com",
            "example.com",
            "mail.example.com",
        ];
        assert_eq!(names(&response), expected);
        for cut in 0..response.len() {
            assert!(
                expected.starts_with(
                    &names(&response[..cut])
                        .iter()
                        .map(String::as_str)
                        .collect::<Vec<_>>()
                )
            );
        }
        let mut fields = Fields::default();
        let stream = [&(response.len() as u16).to_be_bytes(), &response[..]].concat();
        assert!(extract_stream(&stream, &mut fields));
        assert_eq!(fields.iter().count(), 6);
    }

    #[test]
    fn what_is_no_message_has_no_names() {
        assert!(names(&message(0x100, [0, 0, 0, 0], QUESTION)).is_empty());
        assert!(names(&message(0x7800, [1, 0, 0, 0], QUESTION)).is_empty());
        assert!(names(&message(0x100, [1, 0, 0, 0], b"\x03www\x40")).is_empty());
        // A pointer to itself, and one into the header.
        assert!(names(&message(0x100, [1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01")).is_empty());
        assert!(names(&message(0x100, [1, 0, 0, 0], b"\xc0\x00\0\x01\0\x01")).is_empty());
        let long = [b"\x3f".as_slice(), &[b'a'; 63]].concat().repeat(5);
        assert!(
            names(&message(
                0x100,
                [1, 0, 0, 0],
                &[&long[..], b"\0\0\x01\0\x01"].concat()
            ))
            .is_empty()
        );
        // The root is no name to compare.
        assert!(names(&message(0x100, [1, 0, 0, 0], b"\0\0\x02\0\x01")).is_empty());
    }
}
