//! Sessions of SMTP, IMAP and POP3 in real captures, against the commands, addresses and subjects that TShark found in them.
//!
//! The captures are read from the folder that `LC_HUNT_TRACES` names, by default `../../shared/traces` beside the repository; without it the test is skipped. The tracker of a protocol gets
//! all TCP connections of a capture, whatever they carry.

#![allow(clippy::unwrap_used)]

mod connections;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lc_daemon::config::Email;
use lc_proto::data::{EmailMetadata, PacketMetadata};
use lc_workerd::email::imap::Imap;
use lc_workerd::email::mime;
use lc_workerd::email::pop3::Pop3;
use lc_workerd::email::smtp::Smtp;
use lc_workerd::email::smtp::command::Command;
use lc_workerd::matcher::Kind;
use lc_workerd::session::script::Told;
use prost::Message;
use serde_json::Value;

/// How often each was told: `command MAIL`, `sender a@b`, `recipient a@b`; and which users and subjects.
type Facts = BTreeMap<String, usize>;

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
                "smtp" => told(connections::told(Smtp::new(&settings), capture)),
                "imap" => told(connections::told(Imap::new(&settings), capture)),
                _ => told(connections::told(Pop3::new(&settings), capture)),
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

fn differences(told: &Facts, known: &Facts) -> Vec<String> {
    let count = |of: &Facts, what: &str| of.get(what).copied().unwrap_or(0);
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

fn known(facts: &Value, section: &str) -> Facts {
    let mut known = Facts::new();
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

fn told(all: Vec<Told>) -> Facts {
    let mut told = Facts::new();
    let mut blocks: BTreeMap<u64, EmailMetadata> = BTreeMap::new();
    for one in all {
        match one {
            Told::Compare(_, Kind::EmailSubject, subject) => {
                told.insert(format!("subject {subject}"), 1);
            }
            Told::Note { details, .. } => {
                let details = PacketMetadata::decode(&details[..]).unwrap().details;
                let commands = details.get("email.command").into_iter();
                for command in commands.flat_map(|list| list.split(',')) {
                    *told.entry(format!("command {command}")).or_default() += 1;
                }
            }
            Told::About {
                exchange,
                protocol,
                details,
                blocks: block,
                ..
            } => {
                if protocol == "SMTP" {
                    let email = PacketMetadata::decode(&block[..]).unwrap().email;
                    blocks.extend(email.map(|email| (exchange.0, email)));
                } else {
                    let details = PacketMetadata::decode(&details[..]).unwrap().details;
                    let user = details.get("email.auth_user");
                    told.extend(user.map(|user| (format!("user {user}"), 1)));
                }
            }
            _ => {}
        }
    }
    for email in blocks.into_values() {
        let recipients = email.rcpt_to.iter().map(|to| ("recipient", to));
        let sender = Some(("sender", &email.mail_from)).filter(|_| !email.mail_from.is_empty());
        for (mark, address) in recipients.chain(sender) {
            *told.entry(format!("{mark} {address}")).or_default() += 1;
        }
    }
    told
}
