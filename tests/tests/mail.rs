//! `lc-hunt email` over captures whose contents are known: senders, recipients, subjects, users and commands are those that TShark found.
//!
//! The captures are read in rounds, so that no two files of a round have connections between the same ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::path::Path;

use lc_tests::compare;
use lc_tests::processor::{self, Told};
use lc_tests::traces::{self, Trace};
use lc_tests::tshark::is_other_mail;
use serde_json::Value;
use tempfile::tempdir;

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

/// A capture, and what is known of its mail.
struct Capture {
    trace: Trace,
    facts: Facts,
}

impl Capture {
    /// The capture, if it is one with mail.
    fn of(trace: Trace) -> Option<Self> {
        let sections = ["smtp", "imap", "pop3"].map(|section| &trace.facts[section]);
        let has_mail = sections.iter().any(|section| section.is_object());
        if !has_mail || !trace.is_strict() {
            return None;
        }
        let mut facts = Facts::new();
        for section in sections {
            add_facts(section, &mut facts);
        }
        for subject in texts(&trace.facts["mail_headers"]["subjects"]) {
            let encoded = ENCODED.iter().find(|(start, _)| subject.starts_with(start));
            let subject = match encoded {
                Some((_, text)) => (*text).to_owned(),
                None => spaced(&subject.replace("\\r\\n", " ").replace("\\t", " ")),
            };
            facts.insert(format!("subject {subject}"), 1);
        }
        facts.retain(|fact, _| !is_other_mail(trace.name(), fact));
        Some(Self { trace, facts })
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
    let traces = traces::of(&["email"]).unwrap()?;
    let captures: Vec<Capture> = traces.into_iter().filter_map(Capture::of).collect();
    assert!(captures.len() > 35, "{} captures", captures.len());
    let at_odds =
        |one: &Capture, other: &Capture| !one.trace.flows().is_disjoint(&other.trace.flows());
    Some(traces::rounds(captures, at_odds))
}

#[test]
fn mails_are_those_that_are_known_to_be_there() {
    let Some(rounds) = rounds() else { return };
    let mut wrong = Vec::new();
    for (round, workers) in rounds.iter().flat_map(|round| [(round, "1"), (round, "4")]) {
        let sink = tempdir().unwrap();
        let files: Vec<&Path> = round.iter().map(|capture| &*capture.trace.path).collect();
        let mut found: BTreeMap<String, Facts> = BTreeMap::new();
        for told in processor::told_of_files("email", &files, workers, sink.path(), &[]).unwrap() {
            add_told(&told, found.entry(told.interface_name.clone()).or_default());
        }
        for Capture { trace, facts } in round {
            let name = trace.name();
            let mut found = found.remove(name).unwrap_or_default();
            found.retain(|fact, _| !is_other_mail(name, fact));
            let differences = compare::counts(facts, &found);
            if !differences.is_empty() {
                wrong.push(format!("{name}, {workers} workers: {differences:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
