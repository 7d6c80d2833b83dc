//! Sessions of SMTP, IMAP and POP3 in real captures, against the commands, addresses and subjects that TShark found in them.
//!
//! The captures are read from the folder that `LC_HUNT_TRACES` names, by default `../../shared/traces` beside the repository; without it the test is skipped. The tracker of a protocol gets
//! all TCP connections of a capture, whatever they carry.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lc_daemon::config::Email;
use lc_proto::data::{EmailMetadata, PacketMetadata};
use lc_workerd::decode::{Addr, Decoded, Transport, decode};
use lc_workerd::email::imap::Imap;
use lc_workerd::email::mime;
use lc_workerd::email::pop3::Pop3;
use lc_workerd::email::smtp::Smtp;
use lc_workerd::email::smtp::command::Command;
use lc_workerd::flows::{FlowTable, Seed, Signal, Timeouts, Zone};
use lc_workerd::matcher::{Kind, Kinds};
use lc_workerd::reassembly::{
    ConnectionId, Consumer, Event, Interest, Limits, Segment, Stream, Streams,
};
use lc_workerd::session::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};
use prost::Message;
use serde_json::Value;

/// How often each was told: `command MAIL`, `sender a@b`, `recipient a@b`; and which users and subjects.
type Told = BTreeMap<String, usize>;

/// Facts that are not those of the protocol, and why: capture, beginning of the fact.
const OTHERS: &[(&str, &str, &str)] = &[
    (
        "socks5-smtp-503.pcap",
        "command EHLO",
        "begins as SOCKS, which is not SMTP",
    ),
    ("bad-list-retr-crafted.pcap", "subject", "TShark cuts it"),
    ("rfc3030-bdat-example1.pcap", "subject", "TShark cuts it"),
    (
        "smtp-nested-mail.pcap",
        "sender bob@",
        "the server refuses it while another mail is open",
    ),
    (
        "smtp-mail-transactions-invalid.pcap",
        "sender",
        "the last one is refused while another mail is open",
    ),
    (
        "smtp-mail-transactions-invalid.pcap",
        "recipient",
        "the second one is of no mail",
    ),
    (
        "smtp-subject-windows.pcap",
        "",
        "TShark does not find the client",
    ),
    (
        "smtp-pipelining.pcap",
        "",
        "TShark reads one command of a segment",
    ),
    (
        "smtp-out-of-order.pcap",
        "",
        "TShark reads one command of a segment",
    ),
    (
        "smtp-long-command.pcap",
        "command QUIT",
        "a response to AUTH, as the server sees it",
    ),
    ("pop3-auth.pcap", "command DXN", "a response to AUTH"),
    (
        "pop3-auth.pcap",
        "user",
        "TShark does not look into responses to AUTH",
    ),
    ("zeek-pop3.pcap", "command AGR", "a response to AUTH"),
    (
        "zeek-pop3.pcap",
        "user",
        "TShark does not look into responses to AUTH",
    ),
    ("ppp-smtp.pcap", "command", "responses to AUTH"),
];

#[test]
fn captures_hold_the_mail_that_is_found_in_them() {
    let folder = std::env::var_os("LC_HUNT_TRACES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/traces")),
        PathBuf::from,
    );
    let Ok(entries) = std::fs::read_dir(folder.join("email")) else {
        lc_tests::skipped!("no captures in {}", folder.display());
        return;
    };
    let (mut agree, mut wrong) = (0, Vec::new());
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(capture) = path.to_str().unwrap().strip_suffix(".expected.json") else {
            continue;
        };
        let facts: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        if facts["use"] != "strict" {
            continue;
        }
        let capture = Path::new(capture);
        let name = capture.file_name().unwrap().to_str().unwrap();
        let settings = Email {
            body: Some(65_536),
            ..Email::default()
        };
        for section in ["smtp", "imap", "pop3"] {
            if facts[section].is_null() {
                continue;
            }
            let mut told = match section {
                "smtp" => told(Smtp::new(&settings), capture),
                "imap" => told(Imap::new(&settings), capture),
                _ => told(Pop3::new(&settings), capture),
            };
            let mut known = known(&facts, section);
            let is_other = |fact: &str| {
                let mut others = OTHERS.iter().filter(|(capture, ..)| *capture == name);
                others.any(|(_, start, _)| fact.starts_with(start))
            };
            told.retain(|fact, _| !is_other(fact));
            known.retain(|fact, _| !is_other(fact));
            match differences(&told, &known) {
                differences if differences.is_empty() => agree += 1,
                differences => wrong.push(format!("{name}:\n    {}", differences.join("\n    "))),
            }
        }
    }
    println!("{agree} captures agree with what is known of them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn differences(told: &Told, known: &Told) -> Vec<String> {
    let count = |of: &Told, what: &str| of.get(what).copied().unwrap_or(0);
    let all: BTreeSet<_> = told.keys().chain(known.keys()).collect();
    let differ = all
        .into_iter()
        .filter(|what| count(told, what) != count(known, what));
    let difference = |what: &String| {
        format!(
            "{} instead of {}: {what:.200}",
            count(told, what),
            count(known, what)
        )
    };
    differ.map(difference).collect()
}

fn known(facts: &Value, section: &str) -> Told {
    let mut known = Told::new();
    let facts_of = &facts[section];
    for (name, count) in facts_of["commands"].as_object().into_iter().flatten() {
        // TShark cuts them at four letters in SMTP, and takes what is said in an authentication for commands.
        let names = ["STARTTLS", "UID FETCH"];
        let name = names
            .into_iter()
            .find(|known| section == "smtp" && known.starts_with(name) && name.len() == 4)
            .unwrap_or(name);
        *known.entry(format!("command {name}")).or_default() += count.as_u64().unwrap() as usize;
    }
    let texts = |value: &Value| -> Vec<String> {
        let texts = value.as_array().into_iter().flatten();
        texts
            .map(|text| {
                text.as_str()
                    .unwrap()
                    .replace("\\r\\n", "\r\n")
                    .replace("\\t", "\t")
            })
            .collect()
    };
    for (list, verb, mark) in [
        ("mail_from", "MAIL FROM:", "sender"),
        ("rcpt_to", "RCPT TO:", "recipient"),
    ] {
        for text in texts(&facts_of[list]) {
            let line = format!("{verb}{text}");
            let address = Command::of(line.as_bytes())
                .unwrap()
                .address()
                .unwrap_or_default();
            let address = String::from_utf8_lossy(address);
            *known.entry(format!("{mark} {address}")).or_default() += 1;
        }
    }
    for list in ["users", "login_users"] {
        for user in texts(&facts_of[list]) {
            known.insert(format!("user {user}"), 1);
        }
    }
    for subject in texts(&facts["mail_headers"]["subjects"]) {
        let subject = mime::subject(subject.trim().as_bytes());
        known.insert(format!("subject {}", subject.text), 1);
        known.insert(
            format!("subject {}", String::from_utf8_lossy(&subject.raw)),
            1,
        );
    }
    known
}

fn told(protocol: impl Protocol, capture: &Path) -> Told {
    let mut flows =
        FlowTable::<Option<ConnectionId>>::new(1 << 20, Seed::known(1), &Timeouts::default())
            .unwrap();
    let mut streams = Streams::new(&Limits::default()).unwrap();
    let mut reader = Reader {
        protocol,
        heard: Heard::default(),
        time_ns: 0,
    };
    let packets =
        lc_tests::capture::read(capture).map_or_else(|_| Vec::new(), |capture| capture.packets);
    for packet in &packets {
        let decoded: Decoded = decode(packet.link_type as u16, &packet.bytes);
        if decoded.transport != Some(Transport::Tcp) || decoded.fault.is_some() {
            continue;
        }
        let Some(probe) = flows.probe(&decoded, Zone::NONE) else {
            continue;
        };
        let (header, payload) = (
            &packet.bytes[decoded.header..],
            decoded.payload_of(&packet.bytes),
        );
        reader.time_ns = packet.time_ns as u64;
        let flow = flows.observe(&probe, reader.time_ns, Signal::of_tcp_flags(header[13]));
        let segment = Segment::read(header, payload, flow.direction, reader.time_ns, None).unwrap();
        streams.segment(flow.memory, &segment, &mut reader);
        streams.advance(&mut reader);
    }
    streams.close_all(&mut reader);
    reader.heard.told()
}

/// The tracker, and what it tells.
struct Reader<P> {
    protocol: P,
    heard: Heard,
    time_ns: u64,
}

/// A session, and the directions that are of no interest any more.
struct State<S> {
    session: S,
    rest: [bool; 2],
}

impl<S: Default> Default for State<S> {
    fn default() -> Self {
        Self {
            session: S::default(),
            rest: [false; 2],
        }
    }
}

impl<P: Protocol> Consumer for Reader<P> {
    type State = State<P::State>;

    fn take(&mut self, stream: Stream<'_, Self::State>, event: Event<'_>) -> Interest {
        let end = (Addr::V4(0), 0);
        let at = At {
            direction: stream.direction,
            ends: Ends {
                client: end,
                server: end,
            },
            time_ns: self.time_ns,
        };
        let state = stream.state;
        if state.rest[stream.direction as usize] {
            return Interest::Follow;
        }
        match self
            .protocol
            .stream(&at, &mut state.session, event, &mut self.heard)
        {
            Course::Follow | Course::Wait => {}
            Course::Rest(_) => state.rest[stream.direction as usize] = true,
            Course::RestOfBoth(_) | Course::Becomes(..) | Course::Foreign => state.rest = [true; 2],
        }
        Interest::Follow
    }
}

/// What was told.
#[derive(Default)]
struct Heard {
    exchanges: u64,
    commands: Told,
    blocks: BTreeMap<Exchange, EmailMetadata>,
    subjects: BTreeSet<String>,
    users: BTreeSet<String>,
}

impl Heard {
    fn told(self) -> Told {
        let mut told = self.commands;
        for email in self
            .blocks
            .into_values()
            .filter(|email| !email.mail_from.is_empty() || !email.rcpt_to.is_empty())
        {
            for (mark, address) in email
                .rcpt_to
                .iter()
                .map(|to| ("recipient", to))
                .chain([("sender", &email.mail_from)])
            {
                *told.entry(format!("{mark} {address}")).or_default() += 1;
            }
        }
        told.remove("sender ");
        told.extend(
            self.subjects
                .into_iter()
                .map(|subject| (format!("subject {subject}"), 1)),
        );
        told.extend(
            self.users
                .into_iter()
                .map(|user| (format!("user {user}"), 1)),
        );
        told
    }
}

impl Tell for Heard {
    fn begin(&mut self) -> Exchange {
        self.exchanges += 1;
        Exchange(self.exchanges)
    }

    fn belongs(&mut self, _: Option<Exchange>, _: u64) {}

    fn wanted(&self) -> Kinds {
        Kinds::ALL
    }

    fn compare(&mut self, _: Exchange, kind: Kind, text: &[u8]) {
        if kind == Kind::EmailSubject {
            let subject = String::from_utf8_lossy(text).into_owned();
            self.subjects.insert(subject);
        }
    }

    fn content(&mut self, _: Exchange, _: Content) {}

    fn note(&mut self, _: Exchange, _: u64, note: Note<'_>) {
        let details = PacketMetadata::decode(note.details).unwrap().details;
        for command in details
            .get("email.command")
            .into_iter()
            .flat_map(|list| list.split(','))
        {
            *self
                .commands
                .entry(format!("command {command}"))
                .or_default() += 1;
        }
    }

    fn about(&mut self, exchange: Exchange, note: Note<'_>) {
        let details = PacketMetadata::decode(note.details).unwrap().details;
        let is_smtp = note.protocol == "SMTP";
        self.users
            .extend(details.get("email.auth_user").cloned().filter(|_| !is_smtp));
        let email = PacketMetadata::decode(note.blocks).unwrap().email;
        if let Some(email) = email.filter(|_| is_smtp) {
            self.blocks.insert(exchange, email);
        }
    }

    fn settle(&mut self, _: Exchange) {}
}
