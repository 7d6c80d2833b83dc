//! Sessions of SMTP, IMAP and POP3 in real captures, against the commands, addresses and subjects that TShark found in them.
//!
//! The captures are those of [`lc_tests::traces`]. The tracker of a protocol gets all TCP connections of a capture, whatever they carry.

#![allow(clippy::unwrap_used)]

mod connections;

use std::collections::BTreeMap;

use lc_daemon::config::Email;
use lc_proto::data::{EmailMetadata, PacketMetadata};
use lc_tests::compare;
use lc_tests::traces;
use lc_tests::tshark::is_other_mail;
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

#[test]
fn captures_hold_the_mail_that_is_found_in_them() {
    let Some(captures) = traces::of(&["email"]).unwrap() else {
        return;
    };
    let (mut agree, mut wrong) = (0, Vec::new());
    for trace in captures.iter().filter(|trace| trace.is_strict()) {
        let (name, facts) = (trace.name(), &trace.facts);
        let settings = Email {
            body: Some(65_536),
            ..Email::default()
        };
        for section in ["smtp", "imap", "pop3"] {
            if facts[section].is_null() {
                continue;
            }
            let mut told = match section {
                "smtp" => told(connections::told(Smtp::new(&settings), trace)),
                "imap" => told(connections::told(Imap::new(&settings), trace)),
                _ => told(connections::told(Pop3::new(&settings), trace)),
            };
            let mut known = known(facts, section);
            told.retain(|fact, _| !is_other_mail(name, fact));
            known.retain(|fact, _| !is_other_mail(name, fact));
            match compare::counts(&known, &told) {
                differences if differences.is_empty() => agree += 1,
                differences => wrong.push(format!("{name}:\n    {}", differences.join("\n    "))),
            }
        }
    }
    println!("{agree} captures agree with what is known of them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
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
