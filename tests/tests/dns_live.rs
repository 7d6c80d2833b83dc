//! Real peers: dig asks dnsmasq, each in a network namespace, and `lc-hunt dns` listens at the switch between them. What arrived is held against what dig printed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use lc_tests::node::PATIENCE;
use lc_tests::peers::Peers;
use lc_tests::process::{self, wait_for};
use lc_tests::processor;
use serde_json::Value;
use tempfile::tempdir;

/// Names and types that are asked for; those below `wanted.example` are wanted.
const QUESTIONS: [(&str, &str); 6] = [
    ("www.wanted.example", "A"),
    ("www.wanted.example", "AAAA"),
    ("text.wanted.example", "TXT"),
    ("wanted.example", "MX"),
    ("www.other.example", "A"),
    ("_sip._udp.wanted.example", "SRV"),
];

/// Asks for `name`, and gives the data of the answers, as dig writes them.
fn dig(peers: &Peers, name: &str, kind: &str, more: &[&str]) -> Vec<String> {
    let server = format!("@{}", peers.server_address());
    let usual = [&*server, name, kind, "+short", "+tries=1"];
    let arguments: Vec<&str> = usual.iter().chain(more).copied().collect();
    let running = process::start_in(peers.client(), Path::new("dig"), arguments).unwrap();
    let outcome = running.finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    let lines = outcome.stdout.lines();
    // dig quotes texts, and ends names with a dot.
    let plain = |line: &str| {
        line.replace("\" \"", " ")
            .replace('"', "")
            .trim_end_matches('.')
            .to_owned()
    };
    lines.map(plain).collect()
}

#[test]
fn what_dig_and_dnsmasq_say_arrives_if_it_is_wanted() {
    let programs = [("dig", "bind9-dnsutils"), ("dnsmasq", "dnsmasq-base")];
    let Some(peers) = Peers::new("dns", &programs) else {
        return;
    };
    let folder = tempdir().unwrap();
    let listen = format!("--listen-address={}", peers.server_address());
    let zone = [
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--user=root",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--pid-file=",
        "--address=/wanted.example/198.51.100.7",
        "--address=/wanted.example/2001:db8::7",
        "--address=/other.example/198.51.100.8",
        "--txt-record=text.wanted.example,one,two words",
        "--mx-host=wanted.example,mail.wanted.example,10",
        "--srv-host=_sip._udp.wanted.example,sip.wanted.example,5060,10,60",
        &listen,
    ];
    let _server = process::start_in(peers.server(), Path::new("dnsmasq"), zone).unwrap();
    let answers =
        || (!dig(&peers, "www.other.example", "A", &["+time=1"]).is_empty()).then_some(());
    wait_for(PATIENCE, answers).expect("dnsmasq answers");

    let (sink, filters) = (
        folder.path().join("sink"),
        folder.path().join("filters.toml"),
    );
    let text = processor::filter("w", "dns_domain", "*wanted.example");
    fs::write(&filters, text).unwrap();
    let more = ["--filters".as_ref(), filters.as_ref()];
    let node = peers.capture("dns", &sink, &more).unwrap();
    let have_filters = |status: &Value| {
        let workers = &status["filters"]["workers"];
        workers[0] != 0 && workers[1] != 0
    };
    node.wait_until(have_filters).expect("filters come");

    let mut expected = BTreeSet::new();
    for over in ["+notcp", "+tcp"] {
        for (name, kind) in QUESTIONS {
            let data = dig(&peers, name, kind, &[over, "+time=5"]);
            assert!(!data.is_empty(), "{name} {kind} {over}");
            if name.ends_with("wanted.example") {
                let transport = if over == "+tcp" { "TCP" } else { "UDP" };
                expected.insert((name.to_owned(), kind.to_owned(), transport.to_owned(), data));
            }
        }
    }
    node.wait_until(|status| status["ledger"]["quiet"] == true)
        .expect("the node comes to rest");
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);

    let mut found = BTreeSet::new();
    let mut queries = 0;
    for told in processor::told(&sink).unwrap() {
        assert_eq!(told.matched_filter_ids, ["w"], "{told:?}");
        let metadata = told.metadata.unwrap();
        let Some(dns) = metadata.dns else {
            assert_eq!(metadata.transport, "TCP");
            continue;
        };
        assert!(dns.query_name.ends_with("wanted.example"), "{dns:?}");
        if dns.is_response {
            assert!(dns.correlated_query, "{dns:?}");
            let data = dns.answers.into_iter().map(|answer| answer.data).collect();
            found.insert((dns.query_name, dns.query_type, metadata.transport, data));
        } else {
            queries += 1;
        }
    }
    assert_eq!(found, expected);
    assert_eq!(queries, expected.len());
}
