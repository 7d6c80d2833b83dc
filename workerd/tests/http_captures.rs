//! Sessions of HTTP in real captures, against the requests and responses that TShark found in them.
//!
//! The captures are those of [`lc_tests::traces`]. The tracker gets all TCP connections of a capture, whatever they carry.

#![allow(clippy::unwrap_used)]

mod connections;

use std::collections::BTreeMap;

use lc_daemon::config;
use lc_proto::data::PacketMetadata;
use lc_tests::compare;
use lc_tests::traces::{self, Trace};
use lc_workerd::http::Http;
use lc_workerd::session::script::Told;
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
type Messages = BTreeMap<String, usize>;

#[test]
fn captures_hold_the_requests_and_responses_that_are_found_in_them() {
    let Some(captures) = traces::all().unwrap() else {
        return;
    };
    let (mut agree, mut wrong) = (0, Vec::new());
    for trace in captures {
        let (name, facts) = (trace.name(), &trace.facts);
        let has_http = !facts["http"].is_null() || !facts["http2"].is_null();
        if !trace.is_strict() || !has_http || trace.is_in(OUT_OF_REACH) {
            continue;
        }
        let (mut told, mut known) = (told(&trace), known(facts));
        if trace.is_in(ODD_REQUESTS) {
            let is_status = |what: &String, _: &mut usize| !what.contains(' ');
            told.retain(is_status);
            known.retain(is_status);
        }
        if trace.is_in(MORE) {
            told.iter_mut().for_each(|(what, count)| {
                *count = known.get(what).copied().unwrap_or(0).min(*count);
            });
            told.retain(|_, count| *count > 0);
        }
        match compare::counts(&known, &told) {
            differences if differences.is_empty() => agree += 1,
            differences => wrong.push(format!("{name}:\n    {}", differences.join("\n    "))),
        }
    }
    println!("{agree} captures agree with what is known of them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn known(facts: &Value) -> Messages {
    let mut known = Messages::new();
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

fn told(trace: &Trace) -> Messages {
    let mut messages = Messages::new();
    for told in connections::told(Http::new(&config::Http::default()), trace) {
        if let Told::Note {
            protocol, details, ..
        } = told
        {
            *messages.entry(message(protocol, &details)).or_default() += 1;
        }
    }
    messages
}

/// The message that is told with these details.
fn message(protocol: &str, details: &[u8]) -> String {
    let details = PacketMetadata::decode(details).unwrap().details;
    let get = |key: &str| details.get(key).cloned().unwrap_or_default();
    let mark = match protocol {
        "HTTP" => "",
        _ => "2:",
    };
    if let Some(status) = details.get("http.status") {
        return format!("{mark}{status}");
    }
    let query = match get("http.query") {
        query if query.is_empty() => query,
        query => format!("?{query}"),
    };
    let (method, host, path) = (get("http.method"), get("http.host"), get("http.path"));
    format!("{mark}{method} {host} {path}{query}")
}
