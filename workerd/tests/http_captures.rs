//! Sessions of HTTP in real captures, against the requests and responses that TShark found in them.
//!
//! The captures are read from the folder that `LC_HUNT_TRACES` names, by default `../../shared/traces` beside the repository; without it the test is skipped. The tracker gets
//! all TCP connections of a capture, whatever they carry.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lc_daemon::config;
use lc_proto::data::PacketMetadata;
use lc_workerd::decode::{Addr, Decoded, Transport, decode};
use lc_workerd::flows::{FlowTable, Seed, Signal, Timeouts, Zone};
use lc_workerd::http::Http;
use lc_workerd::http::tracker::Session;
use lc_workerd::matcher::{Kind, Kinds};
use lc_workerd::reassembly::{
    ConnectionId, Consumer, Event, Interest, Limits, Segment, Stream, Streams,
};
use lc_workerd::session::{At, Content, Course, Ends, Exchange, Note, Protocol, Tell};
use prost::Message;
use serde_json::Value;

/// Captures of which TShark does not list everything, so that more may be told, and why.
const MORE: &[(&str, &str)] = &[
    (
        "1000-requests-one-dropped-response.pcap",
        "its list is cut at 300, and its responses wait for each other",
    ),
    (
        "4KHttpRequests.pcap",
        "requests whose bodies are not captured are left out",
    ),
    ("http_on_sip_port.pcap", "the response's body is not whole"),
    ("mpeg-dash.pcap", "a response's body is not whole"),
    ("raw_ip.pcap", "a response's body is not whole"),
    ("twovlan.pcap", "the response's body is not whole"),
    ("entity_gap.pcap", "the response's body is not whole"),
    ("http-gap-simple.pcap", "bodies are not whole"),
    (
        "http-tcp-seq-issue.pcap",
        "the response's body is not whole",
    ),
    ("no-syn-ack.pcap", "the response's body is not whole"),
    ("query-method.pcap", "QUERY is not known to it"),
    (
        "soap.pcap",
        "the request was captured twice, with another port the second time",
    ),
    ("tcp-urgent.pcap", "urgent data are part of the stream"),
];

/// Captures with requests that are none by the rules of [`lc_workerd::http::head`], and why; their responses are compared.
const ODD_REQUESTS: &[(&str, &str)] = &[
    ("connect-with-smtp.pcap", "four words in the request line"),
    ("methods.pcap", "blanks or parts of the version are missing"),
    ("no-uri.pcap", "no target"),
];

/// Captures whose requests do not get to the tracker here, and why.
const OUT_OF_REACH: &[(&str, &str)] = &[
    ("frag_http_req.pcap", "in IP fragments"),
    ("gtp1_gn_normal_incl_fragmentation.pcap", "in IP fragments"),
    ("nflog-http.pcap", "a link layer that is not decoded"),
    ("pcapng-example.pcapng", "packets whose times are wild"),
    ("sctp-www.pcap", "over SCTP"),
    ("socks5-http-302-frag.pcap", "in IP fragments"),
];

/// How often each was told: `GET host target` and `200`, with `2:` in front for HTTP/2.
type Told = BTreeMap<String, usize>;

#[test]
fn captures_hold_the_requests_and_responses_that_are_found_in_them() {
    let folder = std::env::var_os("LC_HUNT_TRACES").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/traces")),
        PathBuf::from,
    );
    let Ok(subjects) = std::fs::read_dir(&folder) else {
        lc_tests::skipped!("no captures in {}", folder.display());
        return;
    };
    let (mut agree, mut wrong) = (0, Vec::new());
    let entries = subjects
        .flatten()
        .filter_map(|subject| std::fs::read_dir(subject.path()).ok());
    for path in entries.flatten().flatten().map(|entry| entry.path()) {
        let Some(capture) = path.to_str().unwrap().strip_suffix(".expected.json") else {
            continue;
        };
        let facts: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let has_http = !facts["http"].is_null() || !facts["http2"].is_null();
        let name = Path::new(capture).file_name().unwrap().to_str().unwrap();
        let is_in = |list: &[(&str, &str)]| list.iter().any(|(file, _)| *file == name);
        if facts["use"] != "strict" || !has_http || is_in(OUT_OF_REACH) {
            continue;
        }
        let (mut told, mut known) = (told(Path::new(capture)), known(&facts));
        if is_in(ODD_REQUESTS) {
            let is_status = |what: &String, _: &mut usize| !what.contains(' ');
            told.retain(is_status);
            known.retain(is_status);
        }
        if is_in(MORE) {
            told.iter_mut().for_each(|(what, count)| {
                *count = known.get(what).copied().unwrap_or(0).min(*count);
            });
            told.retain(|_, count| *count > 0);
        }
        match differences(&told, &known) {
            differences if differences.is_empty() => agree += 1,
            differences => wrong.push(format!("{name}:\n    {}", differences.join("\n    "))),
        }
    }
    println!("{agree} captures agree with what is known of them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn differences(told: &Told, known: &Told) -> Vec<String> {
    let count = |of: &Told, what: &str| of.get(what).copied().unwrap_or(0);
    let mut all: Vec<_> = told.keys().chain(known.keys()).collect();
    all.sort();
    all.dedup();
    all.retain(|what| count(told, what) != count(known, what));
    let difference = |what: &&String| {
        format!(
            "{} instead of {}: {what:.200}",
            count(told, what),
            count(known, what)
        )
    };
    all.iter().map(difference).collect()
}

fn known(facts: &Value) -> Told {
    let mut known = Told::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (section, mark, host, path) in [
        ("http", "", "host", "uri"),
        ("http2", "2:", "authority", "path"),
    ] {
        for request in facts[section]["request_list"]
            .as_array()
            .into_iter()
            .flatten()
        {
            let (host, path) = (text(&request[host]), text(&request[path]));
            // An empty query is not told.
            let path = path.strip_suffix('?').unwrap_or(&path);
            let line = format!("{mark}{} {host} {path}", text(&request["method"]));
            *known.entry(line).or_default() += 1;
        }
        for (status, count) in facts[section]["statuses"].as_object().into_iter().flatten() {
            known.insert(format!("{mark}{status}"), count.as_u64().unwrap() as usize);
        }
    }
    known
}

/// The tracker, and what it tells.
struct Reader {
    http: Http,
    told: Told,
    exchanges: u64,
    time_ns: u64,
}

/// A session, and the directions that are of no interest any more.
#[derive(Default)]
struct State {
    session: Session,
    rest: [bool; 2],
}

impl Consumer for Reader {
    type State = State;

    fn take(&mut self, stream: Stream<'_, State>, event: Event<'_>) -> Interest {
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
        let mut listener = Listener {
            told: &mut self.told,
            exchanges: &mut self.exchanges,
        };
        match self
            .http
            .stream(&at, &mut state.session, event, &mut listener)
        {
            Course::Follow | Course::Wait => {}
            Course::Rest(_) => state.rest[stream.direction as usize] = true,
            Course::RestOfBoth(_) | Course::Becomes(..) | Course::Foreign => state.rest = [true; 2],
        }
        Interest::Follow
    }
}

struct Listener<'r> {
    told: &'r mut Told,
    exchanges: &'r mut u64,
}

impl Tell for Listener<'_> {
    fn begin(&mut self) -> Exchange {
        *self.exchanges += 1;
        Exchange(*self.exchanges)
    }

    fn belongs(&mut self, _: Option<Exchange>, _: u64) {}

    fn wanted(&self) -> Kinds {
        Kinds::NONE
    }

    fn compare(&mut self, _: Exchange, _: Kind, _: &[u8]) {}

    fn content(&mut self, _: Exchange, _: Content) {}

    fn note(&mut self, _: Exchange, _: u64, note: Note<'_>) {
        let details = PacketMetadata::decode(note.details).unwrap().details;
        let get = |key: &str| details.get(key).cloned().unwrap_or_default();
        let mark = match note.protocol {
            "HTTP" => "",
            _ => "2:",
        };
        let what = match details.get("http.status") {
            Some(status) => status.clone(),
            None => {
                let query = get("http.query");
                let query = match query.is_empty() {
                    true => query,
                    false => format!("?{query}"),
                };
                let (method, host, path) = (get("http.method"), get("http.host"), get("http.path"));
                format!("{method} {host} {path}{query}")
            }
        };
        *self.told.entry(format!("{mark}{what}")).or_default() += 1;
    }

    fn about(&mut self, _: Exchange, _: Note<'_>) {}

    fn settle(&mut self, _: Exchange) {}
}

fn told(capture: &Path) -> Told {
    let mut flows =
        FlowTable::<Option<ConnectionId>>::new(1 << 20, Seed::known(1), &Timeouts::default())
            .unwrap();
    let mut streams = Streams::new(&Limits::default()).unwrap();
    let mut reader = Reader {
        http: Http::new(&config::Http::default()),
        told: Told::new(),
        exchanges: 0,
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
    reader.told
}
