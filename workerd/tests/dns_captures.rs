//! DNS of real captures through the tracker, against what TShark finds in them.
//!
//! The captures are those of [`lc_tests::traces`].

#![allow(clippy::unwrap_used)]

use lc_daemon::config;
use lc_proto::data::{DnsMetadata, PacketMetadata};
use lc_tests::traces::{self, Trace};
use lc_tests::tshark;
use lc_workerd::decode::{Addr, Decoded, Transport, decode};
use lc_workerd::dns::{Dns, codes, tracker};
use lc_workerd::flows::Direction;
use lc_workerd::reassembly::{ConnectionId, Consumer, Interest, Limits, Segment, Stream, Streams};
use lc_workerd::session::script::{Recorder, Told};
use lc_workerd::session::{At, Ends, Protocol};
use prost::Message as _;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

type End = (Addr, u16);

/// What was found in a capture, as the facts tell it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    queries: u64,
    responses: u64,
    over_tcp: u64,
    /// By the lower four bits.
    codes: BTreeMap<String, u64>,
    /// First questions of queries, by name and type.
    questions: BTreeMap<(String, String), u64>,
    addresses: BTreeSet<String>,
    names: BTreeSet<String>,
    correlated: u64,
}

impl Tally {
    fn add(&mut self, dns: &DnsMetadata, over_tcp: bool) {
        self.over_tcp += u64::from(over_tcp);
        if dns.is_response {
            self.responses += 1;
            let code =
                (0..4096).find(|code| codes::response_code(*code).as_str() == dns.response_code);
            *self
                .codes
                .entry((code.unwrap() & 15).to_string())
                .or_default() += 1;
        } else {
            self.queries += 1;
            if !dns.query_type.is_empty() {
                let question = (dns.query_name.clone(), dns.query_type.clone());
                *self.questions.entry(question).or_default() += 1;
            }
        }
        self.correlated += u64::from(dns.correlated_query);
        // Those of an UPDATE may have no data.
        for answer in dns.answers.iter().filter(|answer| !answer.data.is_empty()) {
            match answer.r#type.as_str() {
                "A" | "AAAA" => self.addresses.insert(answer.data.clone()),
                "CNAME" => self.names.insert(answer.data.clone()),
                _ => false,
            };
        }
    }
}

/// The messages among what was told.
fn messages(told: &mut Vec<Told>) -> impl Iterator<Item = DnsMetadata> {
    told.drain(..).filter_map(|told| match told {
        Told::Note { blocks, .. } => PacketMetadata::decode(&blocks[..]).unwrap().dns,
        _ => None,
    })
}

/// All sessions of a capture.
struct Node {
    dns: Dns,
    at: At,
    recorder: Recorder,
}

impl Consumer for Node {
    type State = tracker::State;

    fn take(
        &mut self,
        stream: Stream<'_, Self::State>,
        event: lc_workerd::reassembly::Event<'_>,
    ) -> Interest {
        let at = At {
            direction: stream.direction,
            ..self.at
        };
        let _ = self
            .dns
            .stream(&at, stream.state, event, &mut self.recorder);
        Interest::Follow
    }
}

/// Of three queries, the second was not captured.
#[test]
fn messages_behind_a_gap_are_found() {
    let Some(captures) = traces::of(&["dns"]).unwrap() else {
        return;
    };
    let is_it = |trace: &&Trace| trace.name() == "dns-tcp-gap.pcap";
    let tally = observe(captures.iter().find(is_it).unwrap())
        .remove("dns")
        .unwrap();
    // What is behind the gap was waited for, and so came after its response.
    let counts = (tally.queries, tally.responses, tally.correlated);
    assert_eq!(counts, (2, 3, 1));
    let question = ("www.google.com".to_owned(), "A".to_owned());
    assert_eq!(tally.questions, [(question, 2)].into());
    assert_eq!(tally.addresses.len(), 12);
}

#[test]
fn messages_are_those_that_are_known_to_be_there() {
    let Some(captures) = traces::of(&["dns"]).unwrap() else {
        return;
    };
    let checked = captures.iter().filter(|trace| check(trace)).count();
    assert!(checked > 35, "only {checked} captures with DNS");
}

/// Captures with as many responses as queries that are not each other's, and why.
const UNPAIRED: &[(&str, &str)] = &[(
    "dns_notify2.pcap",
    "one response and one query are of different conversations",
)];

/// Whether there was something to check.
fn check(trace: &Trace) -> bool {
    if !trace.is_strict() || trace.is_in(tshark::DNS) {
        return false;
    }
    let (name, whole) = (trace.name(), &trace.facts);
    let mut found = observe(trace);
    let mut has_facts = false;
    for section in ["dns", "mdns", "llmnr"] {
        let tally = found.remove(section).unwrap_or_default();
        let facts = &whole[section];
        if !facts.is_object() {
            assert_eq!(tally, Tally::default(), "{name} {section}");
            continue;
        }
        has_facts = true;
        let count = |key: &str| facts[key].as_u64().unwrap();
        let counts = (tally.queries, tally.responses, tally.over_tcp);
        assert_eq!(
            counts,
            (count("queries"), count("responses"), count("tcp_messages")),
            "{name} {section}"
        );
        let codes: BTreeMap<String, u64> =
            serde_json::from_value(facts["response_codes"].clone()).unwrap();
        assert_eq!(tally.codes, codes, "{name} {section}");
        compare_questions(name, &tally, &facts["questions"], section == "mdns");
        let answers = |keys: &[&str]| -> BTreeSet<String> {
            let lists = keys
                .iter()
                .flat_map(|key| facts["answers"][*key].as_array().unwrap());
            lists
                .map(|text| text.as_str().unwrap().to_owned())
                .collect()
        };
        // TShark's are those of all sections.
        let addresses = answers(&["a", "aaaa"]);
        assert!(
            tally.addresses.is_subset(&addresses),
            "{name} {section}: {:?} {addresses:?}",
            tally.addresses
        );
        assert_eq!(tally.names, answers(&["cname"]), "{name} {section}");
        assert!(tally.correlated <= tally.responses);
        let is_ordered = whole["capture"]["monotonic_ts"] == true;
        let is_paired = section == "dns" && tally.responses == tally.queries;
        if is_paired && is_ordered && !trace.is_in(UNPAIRED) {
            assert_eq!(tally.correlated, tally.responses, "{name}");
        }
    }
    has_facts
}

/// Queries of mDNS may have several questions, of which the first is told.
fn compare_questions(capture: &str, tally: &Tally, facts: &Value, may_be_more: bool) {
    let type_text = |name: &str| -> String {
        let number = match name {
            "ANY" => 255,
            "HTTPS" => 65,
            "SVCB" => 64,
            "CAA" => 257,
            "NAPTR" => 35,
            "DNSKEY" => 48,
            "RRSIG" => 46,
            "DS" => 43,
            "HINFO" => 13,
            "AXFR" => 252,
            "LOC" => 29,
            "NULL" => 10,
            "SPF" => 99,
            "TKEY" => 249,
            name => return name.to_owned(),
        };
        format!("TYPE{number}")
    };
    let expected: BTreeMap<(String, String), u64> = facts
        .as_array()
        .unwrap()
        .iter()
        .map(|fact| {
            let text = |key: &str| fact[key].as_str().unwrap();
            // TShark writes the root so.
            let name = text("name").replace("<Root>", "");
            (
                (name, type_text(text("type"))),
                fact["count"].as_u64().unwrap(),
            )
        })
        .collect();
    if may_be_more {
        for (question, count) in &tally.questions {
            assert!(
                expected.get(question).is_some_and(|known| known >= count),
                "{capture}: {question:?}"
            );
        }
    } else {
        assert_eq!(tally.questions, expected, "{capture}");
    }
}

fn observe(trace: &Trace) -> BTreeMap<&'static str, Tally> {
    let mut tallies: BTreeMap<&'static str, Tally> = BTreeMap::new();
    let mut node = Node {
        dns: Dns::new(&config::Dns::default()),
        at: At {
            direction: Direction::Request,
            ends: Ends {
                client: (Addr::V4(0), 0),
                server: (Addr::V4(0), 0),
            },
            time_ns: 0,
        },
        recorder: Recorder::default(),
    };
    let mut streams = Streams::new(&Limits::default()).unwrap();
    let mut connections: BTreeMap<String, (Option<ConnectionId>, Ends)> = BTreeMap::new();
    let mut sessions: BTreeMap<String, tracker::State> = BTreeMap::new();
    for packet in trace.packets().unwrap() {
        let decoded = decode(packet.link_type as u16, &packet.bytes);
        let (Some(source), Some(destination)) = ends(&decoded) else {
            continue;
        };
        let section = match [source.1, destination.1] {
            ports if ports.contains(&53) => "dns",
            ports if ports.contains(&5353) => "mdns",
            ports if ports.contains(&5355) => "llmnr",
            _ => continue,
        };
        let payload = decoded.payload_of(&packet.bytes);
        let mut key = [format!("{source:?}"), format!("{destination:?}")];
        key.sort_unstable();
        let key = key.concat();
        let first = Ends {
            client: source,
            server: destination,
        };
        let (connection, ends) = connections.entry(key.clone()).or_insert((None, first));
        node.at = At {
            direction: match source == ends.client {
                true => Direction::Request,
                false => Direction::Response,
            },
            ends: *ends,
            time_ns: packet.time_ns as u64,
        };
        match decoded.transport {
            Some(Transport::Udp) => {
                let state = sessions.entry(key).or_default();
                let _ = node
                    .dns
                    .datagram(&node.at.clone(), state, payload, &mut node.recorder);
            }
            Some(Transport::Tcp) => {
                let header = &packet.bytes[decoded.header..];
                let (direction, time_ns) = (node.at.direction, node.at.time_ns);
                if let Some(segment) = Segment::read(header, payload, direction, time_ns, None) {
                    streams.segment(connection, &segment, &mut node);
                }
            }
            _ => {}
        }
        let over_tcp = decoded.transport == Some(Transport::Tcp);
        let tally = tallies.entry(section).or_default();
        for dns in messages(&mut node.recorder.told) {
            tally.add(&dns, over_tcp);
        }
    }
    streams.close_all(&mut node);
    for dns in messages(&mut node.recorder.told) {
        tallies.entry("dns").or_default().add(&dns, true);
    }
    tallies
}

fn ends(decoded: &Decoded) -> (Option<End>, Option<End>) {
    let (Some((source, destination)), Some(ports)) = (decoded.addresses, decoded.ports) else {
        return (None, None);
    };
    (Some((source, ports.0)), Some((destination, ports.1)))
}
