//! DNS lookups over UDP (RFC 1035): a query and its answer, for A or AAAA.

use super::dialogue::{Conversation, PACE_NS};
use super::frame::{self, Ports};
use super::path::{Path, Side};
use super::rng::Rng;

const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// One lookup.
pub(super) struct Lookup {
    path: Path,
    ports: Ports,
    messages: std::vec::IntoIter<(Side, Vec<u8>)>,
    sent: u64,
}

impl Lookup {
    /// A lookup of a name below `.example`.
    pub(super) fn new(path: Path, mut rng: Rng) -> Self {
        let identifier = rng.next() as u16;
        let question = question(&mut rng);
        let mut query = header(identifier, 0x0100, 0);
        query.extend(&question.bytes);
        let mut response = header(identifier, 0x8180, 1);
        response.extend(&question.bytes);
        // The owner's name, as a pointer to the question; then type, class and time to live.
        response.extend([0xc0, 12]);
        response.extend(question.kind.to_be_bytes());
        response.extend(CLASS_IN.to_be_bytes());
        response.extend((rng.range(30, 86_400) as u32).to_be_bytes());
        let address: Vec<u8> = if question.kind == TYPE_A {
            [203, 0, 113, rng.next() as u8].to_vec()
        } else {
            let mut address = [0x20, 0x01, 0x0d, 0xb8].to_vec();
            address.extend(rng.bytes::<12>());
            address
        };
        response.extend((address.len() as u16).to_be_bytes());
        response.extend(address);
        let ports = Ports {
            client: rng.range(1_024, 65_536) as u16,
            server: 53,
        };
        let messages = vec![(Side::Client, query), (Side::Server, response)];
        Self {
            path,
            ports,
            messages: messages.into_iter(),
            sent: 0,
        }
    }
}

impl Conversation for Lookup {
    fn next(&mut self, frame: &mut Vec<u8>) -> Option<u64> {
        let (from, message) = self.messages.next()?;
        frame::udp(frame, &self.path, from, self.ports, &message);
        self.sent += 1;
        Some((self.sent - 1) * PACE_NS)
    }
}

struct Question {
    kind: u16,
    bytes: Vec<u8>,
}

fn question(rng: &mut Rng) -> Question {
    let kind = *rng.choose(&[TYPE_A, TYPE_AAAA]);
    let length = rng.range(3, 20) as usize;
    let mut bytes = Vec::new();
    for label in ["www", &rng.word(length), "example"] {
        bytes.push(label.len() as u8);
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    Question { kind, bytes }
}

/// A header with one question and `answers` answers.
fn header(identifier: u16, flags: u16, answers: u16) -> Vec<u8> {
    [identifier, flags, 1, answers, 0, 0]
        .iter()
        .flat_map(|field| field.to_be_bytes())
        .collect()
}
