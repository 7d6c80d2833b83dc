//! `lc-hunt tls`: hellos of captures whose contents are known, exactly the connections that filters want, and what OpenSSL itself says of its connections.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use lc_tests::capture;
use lc_tests::compare::{self, Difference};
use lc_tests::flow::Flow;
use lc_tests::generated::generate;
use lc_tests::namespace::Namespace;
use lc_tests::node::{Node, PATIENCE};
use lc_tests::peers::certify;
use lc_tests::process::{self, are_installed, wait_for};
use lc_tests::processor::{self, Told};
use lc_tests::traces::{self, Trace};
use lc_tests::tshark;
use lc_workerd::decode::{Transport, decode};
use lc_workerd::extract::extract;
use lc_workerd::matcher::{Fields, Kind, Kinds};
use serde_json::Value;
use tempfile::tempdir;

/// How often which hello was said: JA3 and JA4 of a client's, JA3S of a server's, and the name of the server.
type Hellos = BTreeMap<String, usize>;

/// A capture with hellos.
struct Known {
    trace: Trace,
    hellos: Hellos,
}

impl Known {
    fn of(trace: Trace) -> Option<Self> {
        let tls = &trace.facts["tls"];
        if !trace.is_strict() || tls.is_null() || trace.is_in(tshark::TLS) {
            return None;
        }
        let mut hellos = Hellos::new();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for hello in listed(&tls["client_hello_list"]) {
            let ja = [&hello["ja3"], &hello["ja4"], &hello["sni"]].map(text);
            *hellos.entry(ja.join(" ")).or_default() += 1;
        }
        for hello in listed(&tls["server_hello_list"]) {
            *hellos.entry(text(&hello["ja3s"])).or_default() += 1;
        }
        Some(Self { trace, hellos })
    }
}

/// Hellos of carriers that are followed.
fn listed(list: &Value) -> impl Iterator<Item = &Value> {
    let is_followed = |hello: &&Value| {
        ["tcp", "dtls", "quic"].contains(&hello["transport"].as_str().unwrap_or_default())
    };
    list.as_array().into_iter().flatten().filter(is_followed)
}

/// Captures with hellos, in rounds: files of one round have no flow in common.
fn rounds() -> Option<Vec<Vec<Known>>> {
    let traces = traces::of(&["tls"]).unwrap()?;
    let known: Vec<Known> = traces.into_iter().filter_map(Known::of).collect();
    assert!(known.len() > 80);
    let at_odds = |one: &Known, other: &Known| !one.trace.flows().is_disjoint(&other.trace.flows());
    Some(traces::rounds(known, at_odds))
}

/// The hellos that are told of.
fn hellos(told: Vec<Told>) -> Hellos {
    let mut hellos = Hellos::new();
    for told in told {
        let details = told.metadata.unwrap_or_default().details;
        let text = |key: &str| details.get(key).cloned().unwrap_or_default();
        let hello = match text("tls.ja3s") {
            ja3s if !ja3s.is_empty() => ja3s,
            _ => ["tls.ja3", "tls.ja4", "tls.sni"].map(text).join(" "),
        };
        if !hello.trim().is_empty() {
            *hellos.entry(hello).or_default() += 1;
        }
    }
    hellos
}

#[test]
fn hellos_of_captures_are_told() {
    let Some(rounds) = rounds() else { return };
    let mut wrong = Vec::new();
    for (round, workers) in rounds
        .iter()
        .flat_map(|round| ["1", "4"].map(|workers| (round, workers)))
    {
        let sink = tempdir().unwrap();
        let files: Vec<&Path> = round.iter().map(|known| &*known.trace.path).collect();
        let told = processor::told_of_files("tls", &files, workers, sink.path(), &[]).unwrap();
        let arrived = hellos(told);
        let mut expected = Hellos::new();
        for (hello, count) in round.iter().flat_map(|known| &known.hellos) {
            *expected.entry(hello.clone()).or_default() += count;
        }
        let differences = compare::counts(&expected, &arrived);
        if !differences.is_empty() {
            let names: Vec<_> = round.iter().map(|known| known.trace.name()).collect();
            wrong.push(format!("{workers} workers, {names:?}: {differences:#?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Of many connections, those whose server's name begins with a letter.
#[test]
fn connections_that_are_wanted_arrive_as_a_whole_and_alone() {
    let folder = tempdir().unwrap();
    let flags = ["--packets", "20000", "--mix", "tls=60,dns=20,http=20"];
    let sent = generate(folder.path(), "sent.pcap", &flags).unwrap();
    let mut wanted = BTreeSet::new();
    for packet in &sent.packets {
        let decoded = decode(packet.link_type as u16, &packet.bytes);
        let mut fields = Fields::default();
        if decoded.transport == Some(Transport::Tcp) {
            let kinds = Kinds::of(&[Kind::TlsSni]);
            extract(
                Transport::Tcp,
                decoded.payload_of(&packet.bytes),
                kinds,
                &mut fields,
            );
        }
        if fields.iter().any(|(_, _, name)| name.starts_with(b"a")) {
            wanted.insert(Flow::of(packet));
        }
    }
    assert!(wanted.len() > 3, "{} connections are wanted", wanted.len());
    let is_wanted = |packet: &&capture::Packet| wanted.contains(&Flow::of(packet));
    let expected: Vec<_> = sent.packets.iter().filter(is_wanted).cloned().collect();
    let filters = folder.path().join("filters.toml");
    let filter = processor::filter("a", "tls_sni", "a*");
    fs::write(&filters, filter).unwrap();
    for workers in ["1", "4"] {
        let sink = folder.path().join(workers);
        let arguments: [&std::ffi::OsStr; 9] = [
            "tls".as_ref(),
            "--read-file".as_ref(),
            sent.path.as_ref(),
            "--filters".as_ref(),
            filters.as_ref(),
            "--sink".as_ref(),
            sink.as_ref(),
            "--workers".as_ref(),
            workers.as_ref(),
        ];
        let outcome = Node::start(arguments).unwrap().finish(PATIENCE).unwrap();
        assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
        let arrived = capture::read(&sink.join("packets.pcapng")).unwrap();
        let difference = Difference::between(&expected, &arrived.packets);
        assert!(difference.is_none(), "{workers} workers: {difference}");
        let told = processor::told(&sink).unwrap();
        assert!(told.iter().all(|told| told.matched_filter_ids == ["a"]));
    }
}

/// OpenSSL's client and server over loopback of a namespace: what they say of their connections is told.
#[test]
fn connections_of_openssl_are_told_as_it_tells_them() {
    if !are_installed(&[("openssl", "openssl")]) {
        return;
    }
    let Some(namespace) = Namespace::or_skipped("openssl") else {
        return;
    };
    let folder = tempdir().unwrap();
    certify(folder.path(), "peer.example").unwrap();
    let (key, certificate) = (
        folder.path().join("key.pem"),
        folder.path().join("cert.pem"),
    );
    let sink = folder.path().join("sink");
    let node = Node::capture(namespace.name(), "tls", "lo", &sink, &[]).unwrap();
    let openssl = |arguments: &[&str]| {
        process::start_in(namespace.name(), Path::new("openssl"), arguments).unwrap()
    };
    let mut server = openssl(&[
        "s_server",
        "-accept",
        "4433",
        "-quiet",
        "-key",
        key.to_str().unwrap(),
        "-cert",
        certificate.to_str().unwrap(),
    ]);
    // OpenSSL says the name of the suite, the details its number.
    let connections = [
        (
            "-tls1_3",
            "one.example",
            "TLS 1.3",
            "TLS_AES_128_GCM_SHA256",
            "1301",
        ),
        (
            "-tls1_2",
            "two.example",
            "TLS 1.2",
            "ECDHE-ECDSA-AES256-GCM-SHA384",
            "c02c",
        ),
    ];
    for (version, name, _, suite, _) in connections {
        let list = if version == "-tls1_3" {
            "-ciphersuites"
        } else {
            "-cipher"
        };
        let is_done = || {
            let client = openssl(&[
                "s_client",
                "-connect",
                "127.0.0.1:4433",
                version,
                "-servername",
                name,
                list,
                suite,
            ]);
            let outcome = client.finish(PATIENCE).unwrap();
            outcome
                .stdout
                .contains(&format!("Cipher is {suite}"))
                .then_some(())
        };
        wait_for(PATIENCE, is_done).expect("the server answers");
    }
    assert!(server.ended().unwrap().is_none());
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let told = processor::told(&sink).unwrap();
    // What is told of each connection.
    let told: Vec<Vec<&BTreeMap<String, String>>> = processor::by_flow(&told)
        .into_iter()
        .map(|flow| {
            let metadata = flow.into_iter().filter_map(|told| told.metadata.as_ref());
            metadata.map(|metadata| &metadata.details).collect()
        })
        .collect();
    for (_, name, version, _, cipher) in connections {
        let is_hello =
            |one: &&&BTreeMap<String, String>| one.get("tls.sni").is_some_and(|sni| sni == name);
        let connection = told
            .iter()
            .find(|details| details.iter().any(|one| is_hello(&one)));
        let connection = connection.unwrap_or_else(|| panic!("{name} is told: {told:?}"));
        let hello = connection.iter().find(is_hello).unwrap();
        assert_eq!(hello["tls.version"], version);
        let answer = connection.iter().find(|one| one.contains_key("tls.cipher"));
        let answer = answer.unwrap();
        assert_eq!(
            (&answer["tls.cipher"][..], &answer["tls.version"][..]),
            (cipher, version)
        );
    }
    // TLS 1.2 shows the certificate.
    let shown = told
        .iter()
        .flatten()
        .find(|one| one.contains_key("tls.cert.sha256"))
        .unwrap();
    let fingerprint = Command::new("openssl")
        .args(["x509", "-noout", "-fingerprint", "-sha256", "-in"])
        .arg(&certificate)
        .output()
        .unwrap();
    let fingerprint = String::from_utf8(fingerprint.stdout)
        .unwrap()
        .replace(':', "")
        .to_lowercase();
    assert!(
        fingerprint.contains(&shown["tls.cert.sha256"]),
        "{fingerprint}"
    );
    assert_eq!(shown["tls.cert.sans"], "peer.example");
}
