//! Messages (RFC 1035 section 4): the header, and a walk over questions and records.
//!
//! ```text
//!   | id | flags | counts: questions, answers, authorities, additions |
//!   | name type class | ...  | name type class ttl length data | ...
//! ```
//!
//! Nothing is copied. What a header announces and the bytes do not have is left out: a walk ends where they do, or at a name that can't be followed. A record whose
//! data are cut is told without data, and ends the walk.

use super::codes::kind;
use super::name::Name;
use crate::extract::reader::Reader;

/// Bytes of a header.
pub const HEADER: usize = 12;

/// Of which section a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// What was asked for.
    Answer,
    /// Who is responsible.
    Authority,
    /// What else may be of use.
    Additional,
}

/// The start of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chosen by the querier.
    pub id: u16,
    /// QR, opcode, AA, TC, RD, RA, Z, AD, CD, response code.
    pub flags: u16,
    /// Entries of the question section.
    pub questions: u16,
    /// Entries of the answer section.
    pub answers: u16,
    /// Entries of the authority section.
    pub authorities: u16,
    /// Entries of the additional section.
    pub additions: u16,
}

impl Header {
    /// Response.
    pub const QR: u16 = 0x8000;
    /// Authoritative answer.
    pub const AA: u16 = 0x0400;
    /// Truncated.
    pub const TC: u16 = 0x0200;
    /// Recursion desired.
    pub const RD: u16 = 0x0100;
    /// Recursion available.
    pub const RA: u16 = 0x0080;
    /// Reserved.
    pub const Z: u16 = 0x0040;
    /// Authenticated data (RFC 4035 section 3.2.3).
    pub const AD: u16 = 0x0020;
    /// Checking disabled (RFC 4035 section 3.2.2).
    pub const CD: u16 = 0x0010;

    /// The first bytes of a message; `None` if there are fewer than [`HEADER`].
    #[must_use]
    #[inline]
    pub fn read(message: &[u8]) -> Option<Self> {
        let mut reader = Reader(message);
        Some(Self {
            id: reader.u16()?,
            flags: reader.u16()?,
            questions: reader.u16()?,
            answers: reader.u16()?,
            authorities: reader.u16()?,
            additions: reader.u16()?,
        })
    }

    /// Whether any of these flags is set.
    #[must_use]
    pub fn has(&self, flags: u16) -> bool {
        self.flags & flags != 0
    }

    /// Whether it is a response.
    #[must_use]
    pub fn is_response(&self) -> bool {
        self.has(Self::QR)
    }

    /// The operation: 0 to 15.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        (self.flags >> 11 & 15) as u8
    }

    /// The response code without its extension: 0 to 15.
    #[must_use]
    pub fn response_code(&self) -> u8 {
        (self.flags & 15) as u8
    }

    /// Entries of all sections.
    #[must_use]
    pub fn entries(&self) -> u32 {
        [
            self.questions,
            self.answers,
            self.authorities,
            self.additions,
        ]
        .map(u32::from)
        .iter()
        .sum()
    }
}

/// A message, as far as there is one.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Its start.
    pub header: Header,
}

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Of which name.
    pub name: Name<'a>,
    /// Which type of records.
    pub kind: u16,
    /// Of which class; in mDNS the highest bit asks for a unicast response.
    pub class: u16,
}

/// A resource record.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    message: &'a [u8],
    data_at: usize,
    /// Where it stands.
    pub section: Section,
    /// Whose it is.
    pub name: Name<'a>,
    /// What it holds.
    pub kind: u16,
    /// Of which class; in mDNS the highest bit flushes caches; of OPT, a size.
    pub class: u16,
    /// How long it may be kept, in seconds; of OPT, flags.
    pub ttl: u32,
    /// What it holds; empty if cut.
    pub data: &'a [u8],
}

impl<'a> Message<'a> {
    /// The message in `bytes`; `None` if there is no header.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = Header::read(bytes)?;
        Some(Self { bytes, header })
    }

    /// The message in `bytes`, if they are one beyond doubt: a likely header, and a well-formed first question or record.
    #[must_use]
    pub fn recognise(bytes: &'a [u8]) -> Option<Self> {
        let message = Self::parse(bytes)?;
        let header = &message.header;
        let is_one = header.is_likely() && header.has_first_entry(bytes) == Some(true);
        is_one.then_some(message)
    }

    /// Begins a walk.
    #[must_use]
    pub fn walk(&self) -> Walk<'a> {
        let header = &self.header;
        Walk {
            message: self.bytes,
            at: HEADER,
            questions: header.questions,
            records: [header.answers, header.authorities, header.additions],
        }
    }

    /// The first question.
    #[must_use]
    pub fn question(&self) -> Option<Question<'a>> {
        self.walk().question()
    }

    /// The records of the answer section.
    pub fn answers(&self) -> impl Iterator<Item = Record<'a>> {
        self.walk()
            .take_while(|record| record.section == Section::Answer)
    }
}

/// Goes through a message: questions first; as an iterator, records.
#[derive(Debug, Clone)]
pub struct Walk<'a> {
    message: &'a [u8],
    at: usize,
    questions: u16,
    /// Left in each section.
    records: [u16; 3],
}

impl<'a> Walk<'a> {
    /// The next question.
    #[inline]
    pub fn question(&mut self) -> Option<Question<'a>> {
        self.questions = self.questions.checked_sub(1)?;
        let question = self.read_question();
        if question.is_none() {
            self.end();
        }
        question
    }

    fn read_question(&mut self) -> Option<Question<'a>> {
        let (name, behind) = Name::read(self.message, self.at)?;
        let mut reader = Reader(self.message.get(behind..)?);
        let (kind, class) = (reader.u16()?, reader.u16()?);
        self.at = behind + 4;
        Some(Question { name, kind, class })
    }

    fn read_record(&mut self, section: Section) -> Option<Record<'a>> {
        let (name, behind) = Name::read(self.message, self.at)?;
        let mut reader = Reader(self.message.get(behind..)?);
        let (kind, class, high, low) = (reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?);
        let len = reader.u16()?;
        let data_at = behind + 10;
        let data = reader.take(len.into());
        match data {
            Some(data) => self.at = data_at + data.len(),
            None => self.end(),
        }
        Some(Record {
            message: self.message,
            data_at,
            section,
            name,
            kind,
            class,
            ttl: u32::from(high) << 16 | u32::from(low),
            data: data.unwrap_or_default(),
        })
    }

    fn end(&mut self) {
        self.questions = 0;
        self.records = [0; 3];
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        while self.questions > 0 {
            self.question()?;
        }
        let sections = [Section::Answer, Section::Authority, Section::Additional];
        let (section, left) = sections
            .into_iter()
            .zip(&mut self.records)
            .find(|(_, left)| **left > 0)?;
        *left -= 1;
        let record = self.read_record(section);
        if record.is_none() {
            self.end();
        }
        record
    }
}

impl<'a> Record<'a> {
    /// The name at `offset` of the data, and the data behind it.
    #[must_use]
    pub fn name_at(&self, offset: usize) -> Option<(Name<'a>, &'a [u8])> {
        let (name, behind) = Name::read(self.message, self.data_at + offset)?;
        let rest = self.data.get(behind.checked_sub(self.data_at)?..)?;
        Some((name, rest))
    }

    /// The name that it leads to, if it is of a type that has one: CNAME, DNAME, NS, PTR, MX, SRV, SVCB and HTTPS.
    #[must_use]
    pub fn target(&self) -> Option<Name<'a>> {
        let offset = match self.kind {
            kind::CNAME | kind::DNAME | kind::NS | kind::PTR => 0,
            kind::MX | kind::SVCB | kind::HTTPS => 2,
            kind::SRV => 6,
            _ => return None,
        };
        self.name_at(offset).map(|(name, _)| name)
    }
}

/// Operations that there are: up to DSO (RFC 8490).
const OPCODES: u8 = 7;
const INVERSE_QUERY: u8 = 1;
/// Most entries of a likely message, as in the reference.
const MOST_QUESTIONS: u16 = 100;
const MOST_ANSWERS: u16 = 100;
const MOST_ENTRIES: u32 = 200;
/// Longest name, with the lengths of its labels (RFC 1035 section 2.3.4).
const LONGEST_NAME: usize = 255;

impl Header {
    /// Whether there are messages with such flags.
    #[must_use]
    pub fn has_known_flags(&self) -> bool {
        !self.has(Self::Z) && self.opcode() < OPCODES
    }

    /// Whether a message may be recognised by such a header: something is asked, or answered.
    #[must_use]
    pub fn is_telling(&self) -> bool {
        let is_asking = self.questions > 0 || self.opcode() == INVERSE_QUERY && self.answers > 0;
        self.has_known_flags() && self.entries() > 0 && (self.is_response() || is_asking)
    }

    /// Whether a datagram with such a header may be one: what is telling, within the bounds of what is sent.
    #[must_use]
    pub fn is_likely(&self) -> bool {
        self.is_telling()
            && self.questions <= MOST_QUESTIONS
            && self.answers <= MOST_ANSWERS
            && self.entries() <= MOST_ENTRIES
    }

    /// Least bytes of all questions and records together: their names may be the root, and data empty.
    #[must_use]
    pub fn least_body(&self) -> usize {
        let records = self.entries() as usize - usize::from(self.questions);
        usize::from(self.questions) * 5 + records * 11
    }

    /// Whether the first question or record of `message`, whose header this is, is well-formed: its name, type and class. `None` if the message ends before.
    ///
    /// Stricter than a walk: this is about what is a message, not about what can be made of one.
    #[must_use]
    pub fn has_first_entry(&self, message: &[u8]) -> Option<bool> {
        let Some(behind) = behind_name(message, HEADER)? else {
            return Some(false);
        };
        let mut reader = Reader(message.get(behind..)?);
        let (kind, class) = (reader.u16()?, reader.u16()?);
        let class_is_size = self.questions == 0 && kind == kind::OPT;
        Some(kind != 0 && (class_is_size || is_class(class)))
    }
}

/// Internet, Chaos, Hesiod, none, any; the highest bit has a meaning of its own in mDNS (RFC 6762 section 18.12).
fn is_class(class: u16) -> bool {
    matches!(class & 0x7fff, 1 | 3 | 4 | 254 | 255)
}

/// Where the bytes behind the name at `at` begin, if it is one; `None` if the message ends before.
fn behind_name(message: &[u8], start: usize) -> Option<Option<usize>> {
    let mut at = start;
    while at < start + LONGEST_NAME {
        match *message.get(at)? {
            0 => return Some(Some(at + 1)),
            len @ 1..=63 => at += 1 + usize::from(len),
            0xc0.. => return Some(Some(at + 2)),
            _ => break,
        }
    }
    Some(None)
}
