//! Names in a DNS message ([`crate::dns`]): of questions, of answers, and those that aliases lead to. Also mDNS and LLMNR, which have the
//! same form. A label is taken as it is; names are joined with dots, without one at the end.

use super::reader::Reader;
use crate::dns::message::{Header, Message};
use crate::dns::names::each_name;
use crate::matcher::{Fields, Kind, Kinds};

pub use crate::dns::names::KINDS;

/// Whether a message may start so.
#[must_use]
pub fn may_begin(head: &[u8]) -> bool {
    Header::read(head).is_some_and(|header| header.is_likely())
}

/// Adds the wanted fields of a message. False if it is none.
pub fn extract(message: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    let Some(found) = Message::recognise(message) else {
        return false;
    };
    each_name(&found, false, |name| {
        if wanted.has(Kind::DnsName) {
            fields.push_pieces(Kind::DnsName, name.pieces());
        }
        if wanted.has(Kind::SipUser)
            && let Some(number) = name.e164()
        {
            fields.push(Kind::SipUser, number.as_bytes());
        }
    });
    true
}

/// The same for a segment of a TCP stream, where the message stands behind its length (RFC 1035 section 4.2.2).
pub fn extract_stream(segment: &[u8], wanted: Kinds, fields: &mut Fields) -> bool {
    let message = Reader(segment).piece16();
    message.is_some_and(|message| extract(message, wanted, fields))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(message: &[u8]) -> Vec<String> {
        let mut fields = Fields::default();
        extract(message, KINDS, &mut fields);
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
    fn names_of_questions_owners_and_aliases_are_found() {
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
        let expected = ["www.example.com", "a.example.com", "example.com"];
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
        assert!(extract_stream(&stream, KINDS, &mut fields));
        assert_eq!(fields.iter().count(), 3);
    }

    #[test]
    fn numbers_are_users_if_these_are_wanted() {
        let question = b"\x013\x018\x010\x016\x011\x014\x014\x04e164\x04arpa\0\0\x23\0\x01";
        let query = message(0x100, [1, 0, 0, 0], question);
        assert_eq!(names(&query), ["3.8.0.6.1.4.4.e164.arpa", "+4416083"]);
        let mut fields = Fields::default();
        assert!(extract(&query, Kinds::of(&[Kind::DnsName]), &mut fields));
        assert_eq!(fields.iter().count(), 1);
    }

    #[test]
    fn what_is_no_message_has_no_names() {
        assert!(names(&message(0x100, [0, 0, 0, 0], QUESTION)).is_empty());
        assert!(names(&message(0x7800, [1, 0, 0, 0], QUESTION)).is_empty());
        assert!(names(&message(0x100, [1, 0, 0, 0], b"\x03www\x40")).is_empty());
        // A pointer to itself.
        assert!(names(&message(0x100, [1, 0, 0, 0], b"\xc0\x0c\0\x01\0\x01")).is_empty());
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
