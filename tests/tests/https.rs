//! `lc-hunt http` with a TLS key log: what is said within TLS is followed as far as secrets are known, between peers made of rustls, and between curl, nginx and OpenSSL.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use lc_tests::capture::{self, Packet};
use lc_tests::compare::Difference;
use lc_tests::conversations::{self, Conversations};
use lc_tests::ipv4::{self, Side};
use lc_tests::namespace::Namespace;
use lc_tests::node::{Node, PATIENCE, counter};
use lc_tests::peers::{Peers, certify};
use lc_tests::process::{self, are_installed, wait_for};
use lc_tests::processor::{self, Processor, Told};
use lc_tests::web::{self, Nginx, message};
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{
    ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// A key log in memory.
#[derive(Debug, Default)]
struct Log(Mutex<String>);

impl rustls::KeyLog for Log {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let hex =
            |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
        let line = format!("{label} {} {}\n", hex(client_random), hex(secret));
        self.0.lock().unwrap().push_str(&line);
    }
}

/// What two peers sent in turn, and the secrets that they wrote down.
struct Session {
    /// Who sent it, and what.
    flights: Vec<(Side, Vec<u8>)>,
    log: String,
}

/// A client asks, and a server answers, each of `exchanges` in turn.
fn talk(suite: SupportedCipherSuite, exchanges: &[(String, String)]) -> Session {
    let certified = rcgen::generate_simple_self_signed(["peer.example".to_owned()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let mut provider = default_provider();
    provider.cipher_suites = vec![suite];
    let provider = Arc::new(provider);
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())
        .unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let log = Arc::new(Log::default());
    client.key_log = log.clone();
    let name = ServerName::try_from("peer.example").unwrap();
    let mut client = Connection::from(ClientConnection::new(Arc::new(client), name).unwrap());
    let mut server = Connection::from(ServerConnection::new(Arc::new(server)).unwrap());
    let mut flights = Vec::new();
    send(&mut client, &mut server, &mut flights);
    for (question, answer) in exchanges {
        client.writer().write_all(question.as_bytes()).unwrap();
        send(&mut client, &mut server, &mut flights);
        server.writer().write_all(answer.as_bytes()).unwrap();
        send(&mut client, &mut server, &mut flights);
    }
    client.send_close_notify();
    server.send_close_notify();
    send(&mut client, &mut server, &mut flights);
    let log = log.0.lock().unwrap().clone();
    Session { flights, log }
}

fn send(client: &mut Connection, server: &mut Connection, flights: &mut Vec<(Side, Vec<u8>)>) {
    let mut unread = vec![0; 1 << 16];
    while client.wants_write() || server.wants_write() {
        for side in [Side::Client, Side::Server] {
            let (from, to) = match side {
                Side::Client => (&mut *client, &mut *server),
                Side::Server => (&mut *server, &mut *client),
            };
            let mut bytes = Vec::new();
            while from.wants_write() {
                from.write_tls(&mut bytes).unwrap();
            }
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                to.read_tls(&mut rest).unwrap();
                to.process_new_packets().unwrap();
                while to.reader().read(&mut unread).is_ok_and(|len| len > 0) {}
            }
            if !bytes.is_empty() {
                flights.push((side, bytes));
            }
        }
    }
}

/// The packets of a connection, from its SYN to its end.
fn connection(number: usize, session: &Session) -> Vec<Vec<u8>> {
    let server = (Ipv4Addr::new(192, 0, 2, 80), 443);
    let mut connection = ipv4::Connection::open(conversations::client(number), server);
    for (side, bytes) in &session.flights {
        connection.push(*side, bytes, 1200);
    }
    connection.close()
}

const CONNECTIONS: usize = 40;

fn is_wanted(number: usize) -> bool {
    number % 8 == 3
}

/// Connections of all suites, with two requests each; those that are wanted say so in each of their parts.
fn sessions() -> Vec<Session> {
    let suites = [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
    ];
    let session = |number: usize| {
        let name = if is_wanted(number) { "wanted" } else { "other" };
        let exchange = |path: &str| {
            let body = format!("{}{name} body", "x".repeat(3000));
            let question = format!(
                "POST /{name}/{number}/{path} HTTP/1.1\r\nHost: www.{name}.example\r\nContent-Length: 5\r\n\r\nhello"
            );
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            (question, answer)
        };
        talk(
            suites[number % suites.len()],
            &[exchange("one"), exchange("two")],
        )
    };
    (0..CONNECTIONS).map(session).collect()
}

/// A capture of sessions.
struct Made {
    file: PathBuf,
    /// Packets of the wanted ones.
    wanted: Vec<Packet>,
}

/// All of `sessions` at the same time.
fn make(folder: &Path, sessions: &[Session]) -> Made {
    let made = Conversations::at_once(sessions.iter().enumerate().map(|(n, s)| connection(n, s)));
    let file = folder.join("made.pcap");
    capture::write(&file, &made.packets).unwrap();
    let wanted = made.packets_of(is_wanted);
    Made { file, wanted }
}

fn own(text: &str) -> Vec<OsString> {
    text.split(' ').map(OsString::from).collect()
}

#[test]
fn exactly_the_connections_that_match_within_arrive_and_nothing_without_secrets() {
    let folder = tempdir().unwrap();
    let sessions = sessions();
    let Made { file, wanted } = make(folder.path(), &sessions);
    let keys = folder.path().join("keys.log");
    let log: String = sessions.iter().map(|session| &session.log[..]).collect();
    fs::write(&keys, &log).unwrap();
    let filters = folder.path().join("filters.toml");
    let text = processor::filter("h", "http_host", "*.wanted.example");
    fs::write(&filters, text).unwrap();
    let pushed: Vec<OsString> = vec!["--filters".into(), filters.into()];
    for (name, arguments, ids) in [
        ("pushed", pushed, vec!["h"]),
        ("host", own("--host *.wanted.*"), vec![]),
        (
            "path",
            own("--path /wanted/* --status 200 --method post"),
            vec![],
        ),
        (
            "body",
            [own("--capture-body --keywords"), vec!["wanted body".into()]].concat(),
            vec![],
        ),
    ] {
        for workers in ["1", "4"] {
            let sink = folder.path().join(format!("{name}{workers}"));
            let key_log: Vec<OsString> = vec!["--tls-keylog".into(), keys.clone().into()];
            let more = [arguments.clone(), key_log].concat();
            let told = processor::told_of_files("http", &[&file], workers, &sink, &more).unwrap();
            let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
            let difference = Difference::between(&wanted, &arrived);
            assert!(
                difference.is_none(),
                "{name}, {workers} workers: {difference}"
            );
            assert!(
                told.iter().all(|told| told.matched_filter_ids == ids),
                "{name}"
            );
            let messages: Vec<String> = told.iter().filter_map(message).collect();
            let count = |text: &str| messages.iter().filter(|one| *one == text).count();
            assert_eq!(count("200"), 10, "{messages:?}");
            for number in (0..CONNECTIONS).filter(|number| is_wanted(*number)) {
                for part in ["one", "two"] {
                    let request = format!("POST www.wanted.example /wanted/{number}/{part}");
                    assert_eq!(count(&request), 1, "{request}");
                }
            }
        }
    }
    // Without secrets, with those of half of them, and with spoilt ones.
    let (none, half, spoilt) = (
        String::new(),
        BTreeSet::from([3, 19, 35]),
        log.replace('a', "b"),
    );
    let of_half: String = half
        .iter()
        .map(|number| &sessions[*number].log[..])
        .collect();
    for (name, log, connections) in [
        ("none", none, 0),
        ("half", of_half, 3),
        ("spoilt", spoilt, 0),
    ] {
        fs::write(&keys, log).unwrap();
        let sink = folder.path().join(name);
        let more: Vec<OsString> = vec![
            "--tls-keylog".into(),
            keys.clone().into(),
            "--host".into(),
            "*.wanted.*".into(),
        ];
        let told = processor::told_of_files("http", &[&file], "2", &sink, &more).unwrap();
        let requests = told
            .iter()
            .filter_map(message)
            .filter(|one| one.starts_with("POST"));
        assert_eq!(requests.count(), 2 * connections, "{name}");
        assert_eq!(processor::by_flow(&told).len(), connections, "{name}");
    }
}

/// The names that the processor's message has for the labels of a key log.
const FIELDS: [(&str, &str); 6] = [
    ("CLIENT_RANDOM", "pre_master_secret"),
    (
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "client_handshake_traffic_secret",
    ),
    (
        "SERVER_HANDSHAKE_TRAFFIC_SECRET",
        "server_handshake_traffic_secret",
    ),
    ("CLIENT_TRAFFIC_SECRET_0", "client_traffic_secret_0"),
    ("SERVER_TRAFFIC_SECRET_0", "server_traffic_secret_0"),
    ("EXPORTER_SECRET", "exporter_secret"),
];

/// The lines that a processor would write, by client random.
fn told_keys(told: &[Told]) -> Vec<(String, BTreeSet<String>)> {
    let hex = |text: &str| -> String {
        let bytes = BASE64_STANDARD.decode(text).unwrap();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let lines = |keys: &processor::TlsKeys| {
        let random = hex(&keys.client_random);
        let secrets = FIELDS.iter().filter_map(|(label, field)| {
            let secret = keys.more.get(*field)?.as_str()?;
            Some(format!("{label} {random} {}", hex(secret)))
        });
        (random.clone(), secrets.collect())
    };
    told.iter()
        .filter_map(|told| told.tls_keys.as_ref())
        .map(lines)
        .collect()
}

/// Rows 51 and 52 of the reference.
#[test]
fn secrets_of_a_session_reach_the_processor_once_and_all_together() {
    let folder = tempdir().unwrap();
    let sessions = sessions();
    let Made { file, .. } = make(folder.path(), &sessions);
    let keys = folder.path().join("keys.log");
    let log: String = sessions.iter().map(|session| &session.log[..]).collect();
    fs::write(&keys, &log).unwrap();
    let json = folder.path().join("packets.jsonl");
    let arguments: Vec<OsString> = vec!["--json".into(), json.into(), "--json-data".into()];
    let sink = Processor::start(folder.path(), 0, arguments).unwrap();
    let arguments: Vec<OsString> = vec![
        "http".into(),
        "--processor".into(),
        sink.address().into(),
        "--insecure".into(),
        "--read-file".into(),
        file.into(),
        "--tls-keylog".into(),
        keys.into(),
        "--host".into(),
        "*.wanted.*".into(),
        "--workers".into(),
        "2".into(),
    ];
    let outcome = Node::start(arguments).unwrap().finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    sink.terminate().unwrap();
    let told = processor::told(folder.path()).unwrap();
    let mut expected: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (number, session) in (0..).zip(&sessions) {
        for line in session.log.lines().filter(|_| is_wanted(number)) {
            let random = line.split(' ').nth(1).unwrap();
            expected
                .entry(random.to_owned())
                .or_default()
                .insert(line.to_owned());
        }
    }
    let found = told_keys(&told);
    assert_eq!(found.len(), expected.len(), "once for each session");
    assert_eq!(found.into_iter().collect::<BTreeMap<_, _>>(), expected);
    for told in &told {
        if let (Some(keys), Some(metadata)) = (&told.tls_keys, &told.metadata) {
            assert_eq!(keys.src_ip, metadata.src_ip);
            let version = keys.more["tls_version"].as_u64().unwrap();
            assert!([0x0303, 0x0304].contains(&version));
        }
    }
}

/// TLS with HTTP/1 and HTTP/2: of version 1.2 on 8443, and 1.3 on 8444; 8445 has suites of block ciphers.
const SERVERS: &str = "\
ssl_certificate cert.pem; ssl_certificate_key key.pem;
server { listen 8443 ssl http2; ssl_protocols TLSv1.2; }
server { listen 8444 ssl http2; ssl_protocols TLSv1.3; }
server {
  listen 8445 ssl http2; ssl_protocols TLSv1.2;
  ssl_ciphers ECDHE-ECDSA-AES128-SHA256:ECDHE-ECDSA-AES256-SHA384:ECDHE-ECDSA-AES256-SHA;
}
";

/// nginx, asked by curl.
struct Web {
    nginx: Nginx,
    peers: Peers,
    folder: TempDir,
}

impl Web {
    /// An nginx with these files; `None` where that is not possible.
    fn new(label: &str, files: &[(&str, &str)]) -> Option<Self> {
        let peers = Peers::new(label, &web::PROGRAMS)?;
        let folder = tempdir().unwrap();
        certify(folder.path(), "peer.example").unwrap();
        let nginx = Nginx::start(peers.server(), folder.path(), SERVERS, files).unwrap();
        Some(Self {
            nginx,
            peers,
            folder,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Gets a file from one of its ports with a version of HTTP, and writes the secrets to `keys`.
    fn get(&self, port: u16, version: &str, file: &str, keys: &Path) -> String {
        let url = format!("https://{}:{port}/{file}", self.peers.server_address());
        web::curl(self.peers.client(), Some(keys), &[version, &url]).unwrap()
    }
}

/// The node has decrypted so many sessions.
fn decrypted(node: &Node, sessions: u64) -> Value {
    let has = |status: &Value| counter(status, "worker_tls_decrypted_sessions_total") >= sessions;
    node.wait_until(has)
        .unwrap_or_else(|| panic!("not decrypted: {:#?}", node.status()))
}

#[test]
fn what_curl_has_asked_of_nginx_within_tls_is_told() {
    let large = "needle in a haystack\n".repeat(20_000);
    let files = [("large.txt", &large[..]), ("small.txt", "small")];
    for flag in ["--tls-keylog", "--tls-keylog-pipe"] {
        let Some(web) = Web::new("https", &files) else {
            return;
        };
        let (sink, keys) = (web.path("sink"), web.path("keys"));
        if flag == "--tls-keylog-pipe" {
            nix::unistd::mkfifo(&keys, nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let more = [flag.as_ref(), keys.as_ref()];
        let node = web.peers.capture("http", &sink, &more).unwrap();
        let mut requests = 0;
        for (port, version) in [
            (8443, "--http1.1"),
            (8443, "--http2"),
            (8444, "--http1.1"),
            (8444, "--http2"),
            (8445, "--http1.1"),
        ] {
            for (file, expected) in files {
                assert!(web.get(port, version, file, &keys) == expected);
                requests += 1;
            }
        }
        let status = decrypted(&node, requests);
        assert_eq!(status["key_log"]["state"], "read");
        let logged = web.nginx.logged(requests as usize).unwrap();
        let outcome = node.terminate().unwrap();
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
        assert_eq!(web::responses(&processor::told(&sink).unwrap()), logged);
    }
}

/// By what is said within TLS, one of curl's connections to nginx is wanted; of one whose secrets nobody wrote down nothing is told.
#[test]
fn filters_see_within_tls() {
    let files = [("wanted.txt", "the needle\n"), ("other.txt", "hay\n")];
    let Some(web) = Web::new("https-filters", &files) else {
        return;
    };
    let (sink, keys, unread) = (web.path("sink"), web.path("keys"), web.path("unread"));
    let more = [
        "--tls-keylog".as_ref(),
        keys.as_ref(),
        "--capture-body".as_ref(),
        "--keywords".as_ref(),
        "needle".as_ref(),
    ];
    let node = web.peers.capture("http", &sink, &more).unwrap();
    for (port, version) in [(8443, "--http1.1"), (8444, "--http2")] {
        web.get(port, version, "wanted.txt", &keys);
        web.get(port, version, "other.txt", &keys);
        web.get(port, version, "wanted.txt", &unread);
    }
    decrypted(&node, 4);
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let told = processor::told(&sink).unwrap();
    let mut requests: Vec<String> = told
        .iter()
        .filter_map(message)
        .filter(|one| one.starts_with("GET"))
        .collect();
    // Each connection waits for its own secrets, so none has a place before the other.
    requests.sort();
    let address = web.peers.server_address();
    let expected = ["8443", "8444"].map(|port| format!("GET {address}:{port} /wanted.txt"));
    assert_eq!(requests, expected);
    let connections = processor::by_flow(&told);
    assert_eq!(
        connections.len(),
        2,
        "two connections, and no packet of another"
    );
}

/// OpenSSL's own client and server, as each has written down what it sent.
#[test]
fn what_openssl_says_within_tls_is_told() {
    if !are_installed(&[("openssl", "openssl")]) {
        return;
    }
    let Some(namespace) = Namespace::or_skipped("openssl-keys") else {
        return;
    };
    let folder = tempdir().unwrap();
    certify(folder.path(), "peer.example").unwrap();
    let (sink, keys) = (folder.path().join("sink"), folder.path().join("keys"));
    let more = ["--tls-keylog".as_ref(), keys.as_ref()];
    let node = Node::capture(namespace.name(), "http", "lo", &sink, &more).unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let arguments = [
        "s_server",
        "-accept",
        "4433",
        "-quiet",
        "-www",
        "-key",
        &path("key.pem"),
        "-cert",
        &path("cert.pem"),
    ];
    let mut server = process::start_in(namespace.name(), Path::new("openssl"), arguments).unwrap();
    for version in ["-tls1_2", "-tls1_3"] {
        let ask = format!(
            "printf 'GET /{version} HTTP/1.0\\r\\nHost: peer.example\\r\\n\\r\\n' | openssl s_client -connect 127.0.0.1:4433 -quiet -ign_eof {version} -keylogfile '{}'",
            keys.display()
        );
        let answered = wait_for(PATIENCE, || {
            let asked = process::start_in(namespace.name(), Path::new("sh"), ["-c", &ask]).unwrap();
            let outcome = asked.finish(PATIENCE).unwrap();
            outcome.stdout.contains("HTTP/1.0 200 ok").then_some(())
        });
        answered.expect("the server answers");
    }
    assert!(server.ended().unwrap().is_none());
    decrypted(&node, 2);
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let told = processor::told(&sink).unwrap();
    let messages = |flow: &Vec<&Told>| -> Vec<String> {
        let told = flow.iter().copied();
        told.filter_map(message).collect()
    };
    let mut connections: Vec<_> = processor::by_flow(&told).iter().map(messages).collect();
    connections.sort();
    let expected = ["-tls1_2", "-tls1_3"].map(|version| {
        let request = format!("GET peer.example /{version}");
        vec![request, "200".to_owned()]
    });
    assert_eq!(connections, expected);
}
