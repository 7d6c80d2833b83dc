//! `PacketMetadata.dns` (field 12), encoded into buffers that are used again.
//!
//! ```
//! use lc_proto::dns::{Answer, Answers, Dns};
//! let mut answers = Answers::default(); // kept from message to message
//! answers.clear();
//! answers.push(&Answer { name: "www.example.com", kind: "A", class: "IN", ttl: 300, data: "192.0.2.1" });
//! let mut blocks = Vec::new();
//! Dns { query_name: "www.example.com", is_response: true, answers: answers.encoded(), ..Dns::default() }.put(&mut blocks);
//! ```

use crate::wire::{put_len_before, put_varint};

/// What stands in a DNS message, and what is known of it. Empty texts, zeros and `false` are left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dns<'a> {
    /// Chosen by the querier.
    pub transaction_id: u16,
    /// Whether it is a response.
    pub is_response: bool,
    /// Name of the operation.
    pub opcode: &'a str,
    /// Name of the response code.
    pub response_code: &'a str,
    /// AA.
    pub authoritative: bool,
    /// TC.
    pub truncated: bool,
    /// RD.
    pub recursion_desired: bool,
    /// RA.
    pub recursion_available: bool,
    /// AD.
    pub authenticated_data: bool,
    /// CD.
    pub checking_disabled: bool,
    /// Entries of the question, answer, authority and additional sections, as the header says.
    pub counts: [u16; 4],
    /// Name of the first question.
    pub query_name: &'a str,
    /// Type of the first question.
    pub query_type: &'a str,
    /// Class of the first question.
    pub query_class: &'a str,
    /// What [`Answers::encoded`] gives.
    pub answers: &'a [u8],
    /// Milliseconds since the query, of a response whose query was seen.
    pub response_time_ms: Option<u64>,
    /// How much the queries for its domain look like a tunnel, 0 to 1.
    pub tunneling_score: f64,
    /// Entropy of the name of the first question, in bits per character.
    pub entropy_score: f64,
}

/// One answer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Answer<'a> {
    /// Owner.
    pub name: &'a str,
    /// Type.
    pub kind: &'a str,
    /// Class.
    pub class: &'a str,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// What it says, as text.
    pub data: &'a str,
}

/// The answers of a message.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    encoded: Vec<u8>,
}

impl Answers {
    /// Forgets them, but keeps the room.
    pub fn clear(&mut self) {
        self.encoded.clear();
    }

    /// Adds one.
    pub fn push(&mut self, answer: &Answer<'_>) {
        let out = &mut self.encoded;
        put_varint(out, tag(18, DELIMITED));
        let start = out.len();
        put_text(out, 1, answer.name);
        put_text(out, 2, answer.kind);
        put_text(out, 3, answer.class);
        put_number(out, 4, answer.ttl.into());
        put_text(out, 5, answer.data);
        put_len_before(out, start);
    }

    /// All of them, as [`Dns::answers`] takes them.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }
}

impl Dns<'_> {
    /// Appends the field.
    pub fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, tag(12, DELIMITED));
        let start = out.len();
        put_number(out, 1, self.transaction_id.into());
        put_number(out, 2, self.is_response.into());
        put_text(out, 3, self.opcode);
        put_text(out, 4, self.response_code);
        let flags = [
            self.authoritative,
            self.truncated,
            self.recursion_desired,
            self.recursion_available,
            self.authenticated_data,
            self.checking_disabled,
        ];
        for (field, flag) in (5..).zip(flags) {
            put_number(out, field, flag.into());
        }
        for (field, count) in (11..).zip(self.counts) {
            put_number(out, field, count.into());
        }
        put_text(out, 15, self.query_name);
        put_text(out, 16, self.query_type);
        put_text(out, 17, self.query_class);
        out.extend_from_slice(self.answers);
        put_number(out, 19, self.response_time_ms.unwrap_or(0));
        put_number(out, 20, self.response_time_ms.is_some().into());
        put_double(out, 21, self.tunneling_score);
        put_double(out, 22, self.entropy_score);
        put_len_before(out, start);
    }
}

const VARINT: usize = 0;
const FIXED64: usize = 1;
const DELIMITED: usize = 2;

const fn tag(field: usize, wire_type: usize) -> usize {
    field << 3 | wire_type
}

fn put_text(out: &mut Vec<u8>, field: usize, text: &str) {
    if !text.is_empty() {
        put_varint(out, tag(field, DELIMITED));
        put_varint(out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
}

fn put_number(out: &mut Vec<u8>, field: usize, number: u64) {
    if number != 0 {
        put_varint(out, tag(field, VARINT));
        put_varint(out, number as usize);
    }
}

fn put_double(out: &mut Vec<u8>, field: usize, number: f64) {
    if number != 0.0 {
        put_varint(out, tag(field, FIXED64));
        out.extend_from_slice(&number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::data::{DnsAnswer, DnsMetadata, PacketMetadata};

    fn any_answer() -> impl Strategy<Value = DnsAnswer> {
        (".{0,9}", ".{0,9}", ".{0,9}", any::<u32>(), ".{0,300}").prop_map(
            |(name, r#type, class, ttl, data)| DnsAnswer {
                name,
                r#type,
                class,
                ttl,
                data,
            },
        )
    }

    fn any_dns() -> impl Strategy<Value = DnsMetadata> {
        (
            any::<[u16; 5]>(),
            any::<[bool; 7]>(),
            prop::collection::vec(".{0,30}", 5),
            prop::collection::vec(any_answer(), 0..4),
            prop::option::of(0..i64::MAX),
            (0.0..1.0, 0.0..9.0),
        )
            .prop_map(
                |(numbers, flags, texts, answers, time, scores)| DnsMetadata {
                    transaction_id: numbers[0].into(),
                    is_response: flags[0],
                    opcode: texts[0].clone(),
                    response_code: texts[1].clone(),
                    authoritative: flags[1],
                    truncated: flags[2],
                    recursion_desired: flags[3],
                    recursion_available: flags[4],
                    authenticated_data: flags[5],
                    checking_disabled: flags[6],
                    question_count: numbers[1].into(),
                    answer_count: numbers[2].into(),
                    authority_count: numbers[3].into(),
                    additional_count: numbers[4].into(),
                    query_name: texts[2].clone(),
                    query_type: texts[3].clone(),
                    query_class: texts[4].clone(),
                    answers,
                    query_response_time_ms: time.unwrap_or(0),
                    correlated_query: time.is_some(),
                    tunneling_score: scores.0,
                    entropy_score: scores.1,
                },
            )
    }

    proptest! {
        #[test]
        fn decodes_to_what_was_put(dns in any_dns()) {
            let mut answers = Answers::default();
            for answer in &dns.answers {
                answers.push(&Answer {
                    name: &answer.name,
                    kind: &answer.r#type,
                    class: &answer.class,
                    ttl: answer.ttl,
                    data: &answer.data,
                });
            }
            let mut blocks = Vec::new();
            Dns {
                transaction_id: dns.transaction_id as u16,
                is_response: dns.is_response,
                opcode: &dns.opcode,
                response_code: &dns.response_code,
                authoritative: dns.authoritative,
                truncated: dns.truncated,
                recursion_desired: dns.recursion_desired,
                recursion_available: dns.recursion_available,
                authenticated_data: dns.authenticated_data,
                checking_disabled: dns.checking_disabled,
                counts: [
                    dns.question_count,
                    dns.answer_count,
                    dns.authority_count,
                    dns.additional_count,
                ]
                .map(|count| count as u16),
                query_name: &dns.query_name,
                query_type: &dns.query_type,
                query_class: &dns.query_class,
                answers: answers.encoded(),
                response_time_ms: dns.correlated_query.then_some(dns.query_response_time_ms as u64),
                tunneling_score: dns.tunneling_score,
                entropy_score: dns.entropy_score,
            }
            .put(&mut blocks);
            let decoded = PacketMetadata::decode(&blocks[..]).unwrap();
            prop_assert_eq!(decoded.dns, Some(dns));
        }
    }
}
