//! `lc-hunt email` over captures whose contents are known: senders, recipients, subjects, users and commands are those that TShark found.
//!
//! The captures are read in rounds, so that no two files of a round have connections between the same ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use lc_tests::processor::{self, Told};
use serde_json::Value;
use tempfile::tempdir;

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

/// What encoded subjects say, by how they begin; runs of blanks as one.
const ENCODED: &[(&str, &str)] = &[
    ("=?iso-8859-1?B?dGVzdC", "test å é î ø ü"),
    ("4spaces", "4spaces å é î ø ü 5spaces"),
    ("=?iso-8859-1?Q?=E9_=EE", "é î ø ü test"),
    (
        "=?ISO-8859-1?B?Qw==?=",
        "Can this 10 Second Trick Help Prevent YOUR Heart Attack?",
    ),
    ("=?gb2312?B?dGVzdC", "test 测试"),
    ("=?utf-8?B?6L+Z5piv", "这是用空格测试 å é î ø ü test"),
    (
        "=?gb2312?B?xeTQxb",
        "配信不能: Información Ingeniería NUMAR",
    ),
];

/// `command MAIL`, `sender a@b`, `recipient a@b`, `user a`, `subject text`, and how often a command was said.
type Facts = BTreeMap<String, u64>;

/// A capture, and what is known of it.
struct Capture {
    path: PathBuf,
    facts: Facts,
    /// The ends of its connections.
    ends: BTreeSet<String>,
}

impl Capture {
    /// The capture at `path`, if it is one with mail.
    fn at(path: PathBuf) -> Option<Self> {
        let mut beside = path.clone().into_os_string();
        beside.push(".expected.json");
        let known: Value = serde_json::from_slice(&fs::read(beside).ok()?).unwrap();
        let sections = ["smtp", "imap", "pop3"].map(|section| &known[section]);
        let has_mail = sections.iter().any(|section| section.is_object());
        if !has_mail || known["use"] != "strict" {
            return None;
        }
        let mut facts = Facts::new();
        for section in sections {
            add_facts(section, &mut facts);
        }
        for subject in texts(&known["mail_headers"]["subjects"]) {
            let encoded = ENCODED.iter().find(|(start, _)| subject.starts_with(start));
            let subject = match encoded {
                Some((_, text)) => (*text).to_owned(),
                None => spaced(&subject.replace("\\r\\n", " ").replace("\\t", " ")),
            };
            facts.insert(format!("subject {subject}"), 1);
        }
        let flows = known["flows"]["list"].as_array().unwrap();
        let ends = flows.iter().map(|flow| {
            let mut ends = [["a", "a_port"], ["b", "b_port"]]
                .map(|[address, port]| format!("{} {}", flow[address], flow[port]));
            ends.sort();
            ends.join(" ")
        });
        Some(Self {
            ends: ends.collect(),
            path,
            facts,
        })
    }

    fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }
}

/// Adds what a section says of a protocol.
fn add_facts(section: &Value, facts: &mut Facts) {
    for (name, count) in section["commands"].as_object().into_iter().flatten() {
        // TShark cuts it.
        let name = if name == "STAR" { "STARTTLS" } else { name };
        let command = format!("command {name}");
        *facts.entry(command).or_default() += count.as_u64().unwrap();
    }
    for (list, mark) in [
        ("mail_from", "sender"),
        ("rcpt_to", "recipient"),
        ("users", "user"),
        ("login_users", "user"),
    ] {
        for text in texts(&section[list]) {
            let text = match (mark, text.split_once('<')) {
                ("user", _) => &text,
                (_, Some((_, rest))) => rest.split('>').next().unwrap(),
                (_, None) => text.split(' ').next().unwrap(),
            };
            if !text.is_empty() {
                facts.insert(format!("{mark} {text}"), 1);
            }
        }
    }
}

fn texts(value: &Value) -> Vec<String> {
    let texts = value.as_array().into_iter().flatten();
    texts
        .map(|text| text.as_str().unwrap().to_owned())
        .collect()
}

/// With one blank between words.
fn spaced(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Adds what a packet tells.
fn add_told(told: &Told, facts: &mut Facts) {
    let Some(metadata) = &told.metadata else {
        return;
    };
    let get = |key: &str| metadata.details.get(key).map_or("", String::as_str);
    for command in get("email.command")
        .split(',')
        .filter(|name| !name.is_empty())
    {
        *facts.entry(format!("command {command}")).or_default() += 1;
    }
    let is_smtp = metadata.protocol == "SMTP";
    let user = Some(get("email.auth_user")).filter(|user| !user.is_empty() && !is_smtp);
    facts.extend(user.map(|user| (format!("user {user}"), 1)));
    for (_, subject) in get("email.passed").lines().filter_map(passed) {
        facts.insert(format!("subject {}", spaced(subject)), 1);
    }
    let Some(email) = &metadata.email else {
        return;
    };
    if is_smtp {
        let recipients = email.rcpt_to.iter().map(|to| format!("recipient {to}"));
        let sender = Some(&email.mail_from).filter(|from| !from.is_empty());
        let sender = sender.map(|from| format!("sender {from}"));
        facts.extend(recipients.chain(sender).map(|fact| (fact, 1)));
    }
    if !email.subject.is_empty() {
        facts.insert(format!("subject {}", spaced(&email.subject)), 1);
    }
}

/// Sender with recipients, and subject of a mail in a line.
fn passed(line: &str) -> Option<(&str, &str)> {
    line.split_once(": ")
        .filter(|(ends, _)| ends.contains(" -> "))
}

/// The captures, in rounds.
fn rounds() -> Option<Vec<Vec<Capture>>> {
    let traces = std::env::var_os("LC_HUNT_TRACES").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces"),
        Into::into,
    );
    let Ok(entries) = fs::read_dir(traces.join("email")) else {
        lc_tests::skipped!("no captures; name a folder in LC_HUNT_TRACES");
        return None;
    };
    let paths = entries.flatten().map(|entry| entry.path());
    let mut rounds: Vec<Vec<Capture>> = Vec::new();
    for capture in paths.filter_map(Capture::at) {
        let is_free = |round: &&mut Vec<Capture>| {
            let mut others = round.iter();
            others.all(|other| other.ends.is_disjoint(&capture.ends))
        };
        match rounds.iter_mut().find(is_free) {
            Some(round) => round.push(capture),
            None => rounds.push(vec![capture]),
        }
    }
    let captures: usize = rounds.iter().map(Vec::len).sum();
    assert!(captures > 35, "{captures} captures");
    Some(rounds)
}

#[test]
fn mails_are_those_that_are_known_to_be_there() {
    let Some(rounds) = rounds() else { return };
    let mut wrong = Vec::new();
    for (round, workers) in rounds.iter().flat_map(|round| [(round, "1"), (round, "4")]) {
        let sink = tempdir().unwrap();
        let files: Vec<&Path> = round.iter().map(|capture| &*capture.path).collect();
        let mut found: BTreeMap<String, Facts> = BTreeMap::new();
        for told in processor::told_of_files("email", &files, workers, sink.path(), &[]).unwrap() {
            add_told(&told, found.entry(told.interface_name.clone()).or_default());
        }
        for capture in round {
            let found = found.remove(capture.name()).unwrap_or_default();
            let differences = differences(capture, &found);
            if !differences.is_empty() {
                let name = capture.name();
                wrong.push(format!("{name}, {workers} workers: {differences:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Facts that were told another number of times than they are known.
fn differences(capture: &Capture, found: &Facts) -> Vec<String> {
    let is_other = |fact: &str| {
        let mut others = OTHERS.iter().filter(|(name, ..)| *name == capture.name());
        others.any(|(_, start, _)| fact.starts_with(start))
    };
    let count = |facts: &Facts, fact: &str| facts.get(fact).copied().unwrap_or(0);
    let all: BTreeSet<_> = capture.facts.keys().chain(found.keys()).collect();
    let counts = all
        .into_iter()
        .map(|fact| (fact, count(found, fact), count(&capture.facts, fact)));
    counts
        .filter(|(fact, is, should)| is != should && !is_other(fact))
        .map(|(fact, is, should)| format!("{is} instead of {should}: {fact:.150}"))
        .collect()
}
