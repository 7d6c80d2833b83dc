//! `lc-hunt http` over captures whose contents are known, over generated ones of which a part is wanted, and between curl and nginx.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::conversations::{self, Conversations};
use lc_tests::ipv4::{ACK, Connection, PSH, Side};
use lc_tests::peers::Peers;
use lc_tests::processor::{self, Told};
use lc_tests::traces::{self, Trace};
use lc_tests::web::{self, Nginx, message};
use serde_json::Value;
use tempfile::tempdir;

/// Captures whose facts are not those of what is told, and why.
const OTHER: [(&str, &str); 10] = [
    (
        "1000-requests-one-dropped-response.pcap",
        "TShark's list is cut",
    ),
    (
        "4KHttpRequests.pcap",
        "TShark leaves out requests whose bodies are not captured",
    ),
    ("connect-with-smtp.pcap", "four words in the request line"),
    ("entity_gap.pcap", "TShark waits for the whole body"),
    ("http-gap-simple.pcap", "TShark waits for whole bodies"),
    (
        "http-te-cl-desync.pcap",
        "two requests in a packet, which tells of the first",
    ),
    ("http-tcp-seq-issue.pcap", "TShark waits for the whole body"),
    ("methods.pcap", "request lines without blanks"),
    ("no-uri.pcap", "no target"),
    ("query-method.pcap", "QUERY is not known to TShark"),
];

/// Captures that are played by themselves: the name of their interface is told instead of that of the file.
const ALONE: [&str; 3] = [
    "http2.pcapng",
    "http_asymmetric.pcapng",
    "http_starting_with_reply.pcapng",
];

/// What messages were told: `GET host /path`, `200`; each once, since a packet with several messages tells of one.
type Messages = BTreeSet<String>;

fn known(facts: &Value) -> Messages {
    let mut known = Messages::new();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (section, host, path) in [("http", "host", "uri"), ("http2", "authority", "path")] {
        let requests = facts[section]["request_list"].as_array();
        for request in requests.into_iter().flatten() {
            let target = text(&request[path]);
            let path = target.split('?').next().unwrap();
            known.insert(format!(
                "{} {} {path}",
                text(&request["method"]),
                text(&request[host])
            ));
        }
        let statuses = facts[section]["statuses"].as_object();
        known.extend(
            statuses
                .into_iter()
                .flatten()
                .map(|(status, _)| status.clone()),
        );
    }
    known
}

/// Captures with HTTP.
fn captures() -> Option<Vec<Trace>> {
    let mut traces = traces::of(&["http"]).unwrap()?;
    traces.retain(|trace| {
        let has_http = trace.facts["http"].is_object() || trace.facts["http2"].is_object();
        has_http && trace.is_strict() && !trace.is_in(&OTHER)
    });
    assert!(traces.len() > 45, "{} captures", traces.len());
    Some(traces)
}

/// Runs `lc-hunt http` over `files`, and gives what arrived.
fn run(files: &[&Path], workers: &str, sink: &Path, more: &[OsString]) -> Vec<Told> {
    processor::told_of_files("http", files, workers, sink, more).unwrap()
}

#[test]
fn messages_are_those_that_are_known_to_be_there() {
    let Some(captures) = captures() else { return };
    for workers in ["1", "4"] {
        let mut found: BTreeMap<String, Messages> = BTreeMap::new();
        let mut play = |files: &[&Path], name: Option<&str>| {
            let sink = tempdir().unwrap();
            for told in run(files, workers, sink.path(), &[]) {
                let name = name.unwrap_or(&told.interface_name).to_owned();
                found.entry(name).or_default().extend(message(&told));
            }
        };
        let is_alone = |trace: &&Trace| ALONE.contains(&trace.name());
        let (alone, together): (Vec<_>, Vec<_>) = captures.iter().partition(is_alone);
        for trace in alone {
            play(&[&trace.path], Some(trace.name()));
        }
        let together: Vec<&Path> = together.iter().map(|trace| &*trace.path).collect();
        play(&together, None);
        let mut wrong = Vec::new();
        for trace in &captures {
            let (name, known) = (trace.name(), known(&trace.facts));
            let found = found.remove(name).unwrap_or_default();
            let missing: Vec<_> = known.difference(&found).collect();
            let more: Vec<_> = found.difference(&known).collect();
            if !missing.is_empty() || !more.is_empty() {
                wrong.push(format!(
                    "{name}, {workers} workers: missing {missing:.200?}, more {more:.200?}"
                ));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}

/// Connections of the generated capture, and one of how many is wanted.
const CONNECTIONS: usize = 400;
const WANTED_OF: usize = 20;

fn is_wanted(number: usize) -> bool {
    number % WANTED_OF == number / WANTED_OF % 4
}

/// A connection with a request in two segments, and its response in three, on a port that is none of HTTP's.
fn connection(number: usize) -> Vec<Vec<u8>> {
    let name = if is_wanted(number) { "wanted" } else { "other" };
    let status = if is_wanted(number) { 503 } else { 200 };
    let request = format!(
        "POST /{number}?q HTTP/1.1\r\nHost: www.{name}.example\r\nContent-Length: 5\r\n\r\nhello"
    );
    let response = format!(
        "HTTP/1.1 {status} x\r\nTransfer-Encoding: chunked\r\n\r\n5;x\r\nworld\r\n0\r\n\r\n"
    );
    let (one, two) = request.as_bytes().split_at(30);
    let (three, rest) = response.as_bytes().split_at(20);
    let (four, five) = rest.split_at(40);
    let server = (Ipv4Addr::new(192, 0, 2, 80), 8123);
    let mut connection = Connection::open(conversations::client(number), server);
    for part in [one, two] {
        connection.send(Side::Client, PSH | ACK, part);
    }
    for part in [three, four, five] {
        connection.send(Side::Server, PSH | ACK, part);
    }
    connection.close()
}

#[test]
fn of_400_connections_exactly_the_20_that_match_arrive() {
    let folder = tempdir().unwrap();
    let made = Conversations::at_once((0..CONNECTIONS).map(connection));
    let expected = made.packets_of(is_wanted);
    assert_eq!(expected.len(), 20 * 11);
    let file = folder.path().join("made.pcap");
    capture::write(&file, &made.packets).unwrap();
    let filters = folder.path().join("filters.toml");
    let text = processor::filter("h", "http_host", "*.wanted.example");
    fs::write(&filters, text).unwrap();
    let pushed: Vec<OsString> = vec!["--filters".into(), filters.into()];
    let own = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
    for (name, arguments, ids) in [
        ("pushed", pushed, vec!["h"]),
        ("host", own("--host *.wanted.*"), vec![]),
        (
            "status",
            own("--status 5xx --method post --path /*"),
            vec![],
        ),
        ("keywords", own("--keywords WANTED"), vec![]),
    ] {
        for workers in ["1", "4"] {
            let sink = folder.path().join(format!("{name}{workers}"));
            let told = run(&[&file], workers, &sink, &arguments);
            let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
            let difference = Difference::between(&expected, &arrived);
            assert!(
                difference.is_none(),
                "{name}, {workers} workers: {difference}"
            );
            assert!(
                told.iter().all(|told| told.matched_filter_ids == ids),
                "{name}"
            );
            let responses: Vec<_> = told
                .iter()
                .filter_map(message)
                .filter(|one| one == "503")
                .collect();
            assert_eq!(responses.len(), 20, "{name}");
        }
    }
}

/// HTTP/1 on port 8080, and HTTP/2 in clear on 8082.
const SERVER: &str = "server { listen 8080; listen 8082 http2; }\n";

#[test]
fn what_curl_has_asked_of_nginx_is_told() {
    let Some(peers) = Peers::new("http", &web::PROGRAMS) else {
        return;
    };
    let folder = tempdir().unwrap();
    let large = "needle in a haystack\n".repeat(20_000);
    let files = [("small.txt", "small"), ("large.txt", &large)];
    let nginx = Nginx::start(peers.server(), folder.path(), SERVER, &files).unwrap();
    let sink = folder.path().join("sink");
    let node = peers.capture("http", &sink, &[]).unwrap();
    let curl = |arguments: &[&str]| web::curl(peers.client(), None, arguments).unwrap();
    let address = peers.server_address();
    let one = format!("http://{address}:8080");
    let two = format!("http://{address}:8082");
    curl(&[&format!("{one}/small.txt"), &format!("{one}/large.txt")]);
    curl(&["--compressed", &format!("{one}/large.txt")]);
    curl(&["-I", &format!("{one}/large.txt")]);
    curl(&["-d", "a=b", &format!("{one}/form")]);
    curl(&["--http2-prior-knowledge", &format!("{two}/small.txt")]);
    // By itself: curl 7.88 fails where it uses such a connection again.
    curl(&["--http2-prior-knowledge", &format!("{two}/missing")]);
    curl(&[
        "--http2-prior-knowledge",
        "--compressed",
        &format!("{two}/large.txt"),
    ]);
    let logged = nginx.logged(8).unwrap();
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    assert_eq!(web::responses(&processor::told(&sink).unwrap()), logged);
}
