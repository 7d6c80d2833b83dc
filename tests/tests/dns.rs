//! `lc-hunt dns` over captures: those whose contents are known, and generated ones of which a part is wanted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::conversations::{self, Conversations};
use lc_tests::ipv4::{self, ACK, Connection, End, PSH, Side};
use lc_tests::processor::{self, Told};
use lc_tests::traces::{self, Trace};
use lc_tests::tshark;
use serde_json::Value;
use tempfile::tempdir;

/// Captures whose interface has a name of its own.
const INTERFACES: [(&str, &str); 1] = [("dns-google-nsid.pcapng", "eno1")];

/// What is known or was found of a capture: messages by kind, and first questions of queries.
#[derive(Debug, Default, PartialEq, Eq)]
struct Facts {
    queries: u64,
    responses: u64,
    failures: u64,
    questions: BTreeSet<String>,
    aliases: BTreeSet<String>,
}

impl Facts {
    fn known(known: &Value) -> Self {
        let mut facts = Self::default();
        for section in ["dns", "mdns", "llmnr"] {
            let known = &known[section];
            let count = |key: &str| known[key].as_u64().unwrap_or(0);
            facts.queries += count("queries");
            facts.responses += count("responses");
            let codes = known["response_codes"].as_object().into_iter().flatten();
            let failures = codes.filter(|(code, _)| *code != "0");
            facts.failures += failures
                .map(|(_, count)| count.as_u64().unwrap())
                .sum::<u64>();
            let texts = |values: &Value, key: &str| -> Vec<String> {
                let values = values.as_array().into_iter().flatten();
                let text = |value: &Value| match key {
                    "" => value.as_str().unwrap().to_owned(),
                    key => value[key].as_str().unwrap().replace("<Root>", ""),
                };
                values.map(text).collect()
            };
            facts.questions.extend(texts(&known["questions"], "name"));
            facts.aliases.extend(texts(&known["answers"]["cname"], ""));
        }
        facts
    }

    fn add(&mut self, told: &Told) {
        let Some(dns) = told
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.dns.as_ref())
        else {
            return;
        };
        if dns.is_response {
            self.responses += 1;
            let is_good = dns.response_code == "NOERROR" || dns.response_code == "RCODE16";
            self.failures += u64::from(!is_good);
        } else {
            self.queries += 1;
            if !dns.query_type.is_empty() {
                self.questions.insert(dns.query_name.clone());
            }
        }
        let aliases = dns.answers.iter().filter(|answer| answer.r#type == "CNAME");
        let aliases = aliases.map(|answer| answer.data.clone());
        self.aliases
            .extend(aliases.filter(|alias| !alias.is_empty()));
    }
}

/// Captures with DNS.
fn captures() -> Option<Vec<Trace>> {
    let mut traces = traces::of(&["dns"]).unwrap()?;
    traces.retain(|trace| {
        let has_dns = ["dns", "mdns", "llmnr"]
            .iter()
            .any(|key| trace.facts[*key].is_object());
        has_dns && trace.is_strict() && !trace.is_in(tshark::DNS)
    });
    assert!(traces.len() > 35, "{} captures", traces.len());
    Some(traces)
}

/// Runs `lc-hunt dns` over `files`, and gives what arrived.
fn run(files: &[&Path], workers: &str, sink: &Path, more: &[OsString]) -> Vec<Told> {
    processor::told_of_files("dns", files, workers, sink, more).unwrap()
}

#[test]
fn messages_are_those_that_are_known_to_be_there() {
    let Some(captures) = captures() else { return };
    for workers in ["1", "4"] {
        let files: Vec<&Path> = captures.iter().map(|trace| &*trace.path).collect();
        let told = run(&files, workers, tempdir().unwrap().path(), &[]);
        let mut wrong = Vec::new();
        for trace in &captures {
            let name = trace.name();
            let has_mdns = trace.facts["mdns"].is_object();
            let mut known = Facts::known(&trace.facts);
            let mut found = Facts::default();
            let own = INTERFACES.iter().filter(|(capture, _)| *capture == name);
            let names: Vec<&str> = own.map(|(_, own)| *own).chain([name]).collect();
            told.iter()
                .filter(|told| names.contains(&&*told.interface_name))
                .for_each(|told| found.add(told));
            if known.questions.is_superset(&found.questions) && has_mdns {
                // Queries of mDNS have several questions, of which the first is told.
                known.questions.clone_from(&found.questions);
            }
            if known != found {
                wrong.push(format!(
                    "{name}, {workers} workers: known {known:?}, found {found:?}"
                ));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Conversations of the generated capture, and how many of them are wanted.
const CONVERSATIONS: usize = 400;
const WANTED_OF: usize = 20;
const SERVER: End = (Ipv4Addr::new(192, 0, 2, 53), 53);

/// Each fourth is over TCP.
fn conversation(number: usize) -> Vec<Vec<u8>> {
    match number % 4 {
        0 => over_tcp(number),
        _ => over_udp(number),
    }
}

fn is_wanted(number: usize) -> bool {
    number % WANTED_OF == number / WANTED_OF % 4
}

fn message(number: usize, is_response: bool) -> Vec<u8> {
    let domain = if is_wanted(number) { "wanted" } else { "other" };
    let flags: u16 = if is_response { 0x8180 } else { 0x0100 };
    let mut message: Vec<u8> = [number as u16, flags, 1, is_response.into(), 0, 0]
        .into_iter()
        .flat_map(u16::to_be_bytes)
        .collect();
    for label in [&format!("host-{number}"), domain, "example"] {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.extend(b"\0\0\x01\0\x01");
    if is_response {
        message.extend(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x07");
    }
    message
}

fn over_udp(number: usize) -> Vec<Vec<u8>> {
    let client = conversations::client(number);
    vec![
        ipv4::udp(client, SERVER, &message(number, false)),
        ipv4::udp(SERVER, client, &message(number, true)),
    ]
}

/// The response comes in two segments.
fn over_tcp(number: usize) -> Vec<Vec<u8>> {
    let framed = |is_response| {
        let message = message(number, is_response);
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    let response = framed(true);
    let (first, second) = response.split_at(30);
    let mut connection = Connection::open(conversations::client(number), SERVER);
    connection.send(Side::Client, PSH | ACK, &framed(false));
    connection.send(Side::Server, PSH | ACK, first);
    connection.send(Side::Server, PSH | ACK, second);
    connection.close()
}

#[test]
fn of_400_conversations_exactly_the_20_that_match_arrive() {
    let folder = tempdir().unwrap();
    let made = Conversations::at_once((0..CONVERSATIONS).map(conversation));
    let file = folder.path().join("made.pcap");
    capture::write(&file, &made.packets).unwrap();
    let filters = folder.path().join("filters.toml");
    let text = processor::filter("d", "dns_domain", "*.wanted.example");
    fs::write(&filters, text).unwrap();
    let expected = made.packets_of(is_wanted);
    // Those over TCP have nine packets, the others two.
    assert_eq!(expected.len(), 5 * 9 + 15 * 2);
    for workers in ["1", "4"] {
        let sink = folder.path().join(workers);
        let told = run(
            &[&file],
            workers,
            &sink,
            &["--filters".into(), filters.clone().into()],
        );
        let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
        let difference = Difference::between(&expected, &arrived);
        assert!(difference.is_none(), "{workers} workers: {difference}");
        assert!(told.iter().all(|told| told.matched_filter_ids == ["d"]));
        let dns = told
            .iter()
            .filter_map(|told| told.metadata.as_ref()?.dns.as_ref());
        let responses: Vec<_> = dns.filter(|dns| dns.is_response).collect();
        assert_eq!(responses.len(), 20);
        assert!(responses.iter().all(|dns| dns.correlated_query));
    }
}
