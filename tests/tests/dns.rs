//! `lc-hunt dns` over captures: those whose contents are known, and generated ones of which a part is wanted.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use lc_tests::capture::{self, Packet};
use lc_tests::compare::Difference;
use lc_tests::processor::{self, Told};
use lc_tests::traces::{self, Trace};
use lc_tests::tshark;
use serde_json::Value;
use tempfile::tempdir;

/// Captures that are read by themselves, since the clock of packets makes years of the time between them and others.
const ALONE: [&str; 2] = ["dns-reversed-tcp.pcap", "dns_over_tcp.pcapng"];

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
        let is_alone = |trace: &&Trace| ALONE.contains(&trace.name());
        let (alone, together): (Vec<_>, Vec<_>) = captures.iter().partition(is_alone);
        let runs = alone.into_iter().map(|one| vec![one]).chain([together]);
        let told = runs.flat_map(|traces| {
            let files: Vec<&Path> = traces.iter().map(|trace| &*trace.path).collect();
            run(&files, workers, tempdir().unwrap().path(), &[])
        });
        let told: Vec<Told> = told.collect();
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
const CONVERSATIONS: u32 = 400;
const WANTED_OF: u32 = 20;
const DNS: u16 = 53;

/// A generated capture: its packets, and the conversation of each.
#[derive(Default)]
struct Made {
    packets: Vec<Packet>,
    owners: Vec<u32>,
}

impl Made {
    /// Conversations that are interleaved, each fourth over TCP.
    fn new() -> Self {
        let mut timed: Vec<(i64, u32, Vec<u8>)> = Vec::new();
        for number in 0..CONVERSATIONS {
            let start = i64::from(number) * 3_000_000;
            let packets = match number % 4 {
                0 => over_tcp(number),
                _ => over_udp(number),
            };
            for (step, packet) in (0..).zip(packets) {
                timed.push((start + step * 7_000_000, number, packet));
            }
        }
        timed.sort();
        let mut made = Self::default();
        for (after, number, bytes) in timed {
            made.packets.push(Packet {
                link_type: 101,
                time_ns: 1_767_225_600_000_000_000 + after,
                original_len: bytes.len() as u32,
                bytes,
            });
            made.owners.push(number);
        }
        made
    }
}

fn is_wanted(number: u32) -> bool {
    number % WANTED_OF == number / WANTED_OF % 4
}

fn message(number: u32, is_response: bool) -> Vec<u8> {
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

/// An IPv4 packet between the client of a conversation and the server.
fn packet(number: u32, is_response: bool, protocol: u8, segment: &[u8]) -> Vec<u8> {
    let client = Ipv4Addr::from(0x0a00_0000 + number).octets();
    let server = [192, 0, 2, 53];
    let (source, destination) = match is_response {
        true => (server, client),
        false => (client, server),
    };
    let len = (20 + segment.len()) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(len.to_be_bytes());
    packet.extend([0, 0, 0, 0, 64, protocol, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend_from_slice(segment);
    packet
}

fn ports(number: u32, is_response: bool) -> Vec<u8> {
    let client = 20_000 + number as u16;
    let (source, destination) = match is_response {
        true => (DNS, client),
        false => (client, DNS),
    };
    [source.to_be_bytes(), destination.to_be_bytes()].concat()
}

fn over_udp(number: u32) -> Vec<Vec<u8>> {
    let datagram = |is_response| {
        let message = message(number, is_response);
        let mut datagram = ports(number, is_response);
        datagram.extend(((8 + message.len()) as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(message);
        packet(number, is_response, 17, &datagram)
    };
    vec![datagram(false), datagram(true)]
}

/// The response comes in two segments.
fn over_tcp(number: u32) -> Vec<Vec<u8>> {
    let framed = |is_response| {
        let message = message(number, is_response);
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    };
    let segment = |is_response: bool, (seq, ack): (u32, u32), flags: u8, payload: &[u8]| {
        let mut segment = ports(number, is_response);
        segment.extend(seq.to_be_bytes());
        segment.extend(ack.to_be_bytes());
        segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        segment.extend_from_slice(payload);
        packet(number, is_response, 6, &segment)
    };
    let (query, response) = (framed(false), framed(true));
    let (first, second) = response.split_at(30);
    let asked = 101 + query.len() as u32;
    let (half, answered) = (501 + 30, 501 + response.len() as u32);
    vec![
        segment(false, (100, 0), 0x02, &[]),
        segment(true, (500, 101), 0x12, &[]),
        segment(false, (101, 501), 0x10, &[]),
        segment(false, (101, 501), 0x18, &query),
        segment(true, (501, asked), 0x18, first),
        segment(true, (half, asked), 0x18, second),
        segment(false, (asked, answered), 0x11, &[]),
        segment(true, (answered, asked + 1), 0x11, &[]),
        segment(false, (asked + 1, answered + 1), 0x10, &[]),
    ]
}

#[test]
fn of_400_conversations_exactly_the_20_that_match_arrive() {
    let folder = tempdir().unwrap();
    let made = Made::new();
    let file = folder.path().join("made.pcap");
    capture::write(&file, &made.packets).unwrap();
    let filters = folder.path().join("filters.toml");
    let text = "[[filters]]\nid = \"d\"\ntype = \"dns_domain\"\npattern = \"*.wanted.example\"\nenabled = true\n";
    fs::write(&filters, text).unwrap();
    let expected: Vec<Packet> = made
        .packets
        .iter()
        .zip(&made.owners)
        .filter(|(_, owner)| is_wanted(**owner))
        .map(|(packet, _)| packet.clone())
        .collect();
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
