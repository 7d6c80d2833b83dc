//! What is told of a message: the block `dns`, a line for people, and the details of `docs/METADATA.md`.
//!
//! Names are told as they were written, the rest as the reference tells it ([`super::codes`], [`super::data`]). A message's own size bounds what is told of it, and
//! [`MOST_ANSWER_BYTES`] its answers; the counts are always those of the header.

use lc_proto::dns::{Answer, Answers, Dns};

use super::analysis::Findings;
use super::codes::{Word, class, opcode, record_type, response_code};
use super::edns::{Edns, option_name};
use super::message::{Header, Message, Question, Record, Section};
use crate::address_text::AddressText;
use crate::detect::{Details, Text, Value, Writer};
use crate::session::Note;

/// Answers beyond so many bytes, encoded, are left out.
pub const MOST_ANSWER_BYTES: usize = 16 << 10;

/// Tells of one message after the other; its buffers are used again.
#[derive(Debug, Default)]
pub struct Account {
    /// The name of the question.
    name: Vec<u8>,
    told: Told,
    details: Details,
}

/// What is told of a message beside details.
#[derive(Debug, Default)]
struct Told {
    owner: Vec<u8>,
    data: Vec<u8>,
    answers: Answers,
    /// What the first answer says.
    first: String,
    block: Vec<u8>,
    info: String,
}

/// A question, with its name as it is told.
#[derive(Clone, Copy)]
struct Asked<'a> {
    question: Question<'a>,
    name: &'a str,
}

impl Account {
    /// What there is to tell of `message`.
    pub fn of(&mut self, message: &Message<'_>, findings: &Findings) -> Note<'_> {
        let mut walk = message.walk();
        let question = walk.question();
        self.name.clear();
        if let Some(question) = &question {
            question.name.push_text(&mut self.name);
        }
        let name = text(&self.name);
        let asked = question.map(|question| Asked { question, name });
        let header = &message.header;
        let edns = self.told.take_records(walk, asked);
        let code = response_code(full_code(header, edns.as_ref()));
        self.told.put_block(header, asked, code, findings);
        self.told.put_info(header, asked, code);
        self.put_details(question.as_ref(), edns.as_ref(), findings);
        Note {
            protocol: "DNS",
            info: &self.told.info,
            details: self.details.encoded(),
            blocks: &self.told.block,
        }
    }

    fn put_details(
        &mut self,
        question: Option<&Question<'_>>,
        edns: Option<&Edns<'_>>,
        findings: &Findings,
    ) {
        let details = &mut self.details;
        details.clear();
        if let Some(number) = question.and_then(|question| question.name.e164()) {
            details.put("dns.e164", Text(number.as_bytes()));
        }
        if findings.repeats > 0 {
            details.put("dns.retransmission", findings.repeats);
        }
        if let Some(response) = &findings.response {
            details.put("dns.response_time_us", response.elapsed_ns / 1_000);
            if response.query_repeats > 0 {
                details.put("dns.query_retransmissions", response.query_repeats);
            }
        }
        details.list("dns.tunneling_signs", ',', findings.score.signs.names());
        if let Some(edns) = edns {
            put_edns(details, edns);
        }
    }
}

impl Told {
    /// Takes in the answers, and looks for extensions.
    fn take_records<'a>(
        &mut self,
        records: impl Iterator<Item = Record<'a>>,
        asked: Option<Asked<'_>>,
    ) -> Option<Edns<'a>> {
        self.answers.clear();
        self.first.clear();
        let mut is_first = true;
        let mut edns = None;
        for record in records {
            if record.section == Section::Answer {
                self.take_answer(&record, asked, std::mem::take(&mut is_first));
            }
            edns = edns.or_else(|| Edns::of(&record));
        }
        edns
    }

    fn take_answer(&mut self, record: &Record<'_>, asked: Option<Asked<'_>>, is_first: bool) {
        if self.answers.encoded().len() >= MOST_ANSWER_BYTES {
            return;
        }
        let name = match asked {
            Some(asked) if asked.question.name.is_written_as(record.name) => asked.name,
            _ => {
                self.owner.clear();
                record.name.push_text(&mut self.owner);
                text(&self.owner)
            }
        };
        self.data.clear();
        record.push_data(&mut self.data);
        let data = text(&self.data);
        let kind = record_type(record.kind);
        self.answers.push(&Answer {
            name,
            kind: kind.as_str(),
            class: class(record.class).as_str(),
            ttl: record.ttl,
            data,
        });
        if is_first && !data.is_empty() {
            if asked.is_none() {
                push_words(&mut self.first, &[kind.as_str(), name, ""]);
            }
            push_words(&mut self.first, &["->", data]);
        }
    }

    fn put_block(
        &mut self,
        header: &Header,
        asked: Option<Asked<'_>>,
        code: Word,
        findings: &Findings,
    ) {
        let kind = asked.map(|asked| record_type(asked.question.kind));
        let class = asked.map(|asked| class(asked.question.class));
        self.block.clear();
        Dns {
            transaction_id: header.id,
            is_response: header.is_response(),
            opcode: opcode(header.opcode()).as_str(),
            response_code: code.as_str(),
            authoritative: header.has(Header::AA),
            truncated: header.has(Header::TC),
            recursion_desired: header.has(Header::RD),
            recursion_available: header.has(Header::RA),
            authenticated_data: header.has(Header::AD),
            checking_disabled: header.has(Header::CD),
            counts: [
                header.questions,
                header.answers,
                header.authorities,
                header.additions,
            ],
            query_name: asked.map_or("", |asked| asked.name),
            query_type: kind.as_ref().map_or("", Word::as_str),
            query_class: class.as_ref().map_or("", Word::as_str),
            answers: self.answers.encoded(),
            response_time_ms: findings
                .response
                .map(|response| response.elapsed_ns / 1_000_000),
            tunneling_score: findings.score.tunneling,
            entropy_score: findings.score.entropy,
        }
        .put(&mut self.block);
    }

    /// `A example.com?`, `A example.com -> 192.0.2.1`, `A example.com NXDOMAIN`.
    fn put_info(&mut self, header: &Header, asked: Option<Asked<'_>>, code: Word) {
        let info = &mut self.info;
        info.clear();
        let is_response = header.is_response();
        let answer = Some(&self.first[..]).filter(|first| is_response && !first.is_empty());
        match asked {
            Some(asked) => {
                let kind = record_type(asked.question.kind);
                push_words(info, &[kind.as_str(), asked.name]);
                match is_response {
                    true => push_words(info, &["", answer.unwrap_or(code.as_str())]),
                    false => info.push('?'),
                }
            }
            None => {
                let opcode = opcode(header.opcode());
                match (is_response, answer) {
                    (_, Some(answer)) => info.push_str(answer),
                    (true, None) => push_words(info, &[opcode.as_str(), code.as_str()]),
                    (false, None) => info.push_str(opcode.as_str()),
                }
            }
        }
    }
}

fn put_edns(details: &mut Details, edns: &Edns<'_>) {
    details.put("dns.edns_udp_size", edns.udp_size);
    if edns.version > 0 {
        details.put("dns.edns_version", edns.version);
    }
    details.flag("dns.dnssec_ok", edns.dnssec_ok);
    details.list(
        "dns.edns_options",
        ',',
        edns.options().map(|option| OptionName(option.code)),
    );
    for option in edns.options() {
        if let Some(subnet) = option.client_subnet() {
            let address = AddressText::new(subnet.address);
            details.put(
                "dns.client_subnet",
                format_args!("{}/{}", address.as_str(), subnet.source),
            );
            if subnet.scope > 0 {
                details.put("dns.client_subnet_scope", subnet.scope);
            }
        }
        match (option.code, option.data) {
            (Edns::NSID, data) => details.text_if_any("dns.nsid", data),
            (Edns::EXTENDED_ERROR, [high, low, reason @ ..]) => {
                details.put("dns.extended_error", u16::from_be_bytes([*high, *low]));
                details.text_if_any("dns.extended_error_text", reason);
            }
            _ => {}
        }
    }
}

/// The response code with its extension.
fn full_code(header: &Header, edns: Option<&Edns<'_>>) -> u16 {
    let extended = edns.map_or(0, |edns| u16::from(edns.extended_code));
    extended << 4 | u16::from(header.response_code())
}

/// The name of an option, or its number.
struct OptionName(u16);

impl Value for OptionName {
    fn write(&self, out: &mut Writer<'_>) -> std::fmt::Result {
        match option_name(self.0) {
            Some(name) => name.write(out),
            None => self.0.write(out),
        }
    }
}

/// Appends words with blanks between them.
fn push_words(out: &mut String, words: &[&str]) {
    for (n, word) in words.iter().enumerate() {
        if n > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
}

/// What was written as UTF-8.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
