//! Real peers of QUIC: a client and a server made of quinn, each in a network namespace, and `lc-hunt` listens at the switch between them. What arrived is held against what the peers know of their
//! connections, and against what another node has seen of them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use lc_tests::capture::{self, Packet};
use lc_tests::compare::Difference;
use lc_tests::flow::Flow;
use lc_tests::node::{Node, PATIENCE};
use lc_tests::peers::Peers;
use lc_tests::processor::{self, Told, filter};
use nix::sched::{CloneFlags, setns};
use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::{Endpoint, EndpointConfig, TokioRuntime, TransportConfig};
use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, SupportedCipherSuite};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::tempdir;

const PORT: u16 = 4433;
/// What a client says, and how much the server answers, in bytes.
const QUESTION: &[u8] = b"what is there?";
const ANSWER: usize = 100_000;
/// More names of protocols than a datagram has room for.
const MANY: usize = 40;

/// A connection: the name that is asked for, the protocols and the suite that are offered first.
#[derive(Debug, Clone)]
struct Wish {
    name: &'static str,
    protocols: Vec<String>,
    suite: SupportedCipherSuite,
    /// Whether the hello takes several datagrams, each a packet of its own.
    is_parted: bool,
}

fn wishes() -> Vec<Wish> {
    let wish = |name, protocols: &[&str], suite| Wish {
        name,
        protocols: protocols.iter().map(|&one| one.to_owned()).collect(),
        suite,
        is_parted: false,
    };
    let large = |name, suite, len: usize| Wish {
        name,
        protocols: (0..MANY)
            .map(|n| format!("{n:0len$}"))
            .chain(["h3".to_owned()])
            .collect(),
        suite,
        is_parted: len < 100,
    };
    let [aes128, aes256, chacha] = [
        cipher_suite::TLS13_AES_128_GCM_SHA256,
        cipher_suite::TLS13_AES_256_GCM_SHA384,
        cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    vec![
        wish("www.wanted.example", &["h3"], aes128),
        wish("www.other.example", &["h3"], aes128),
        wish("a.wanted.example", &["hq-interop", "h3"], aes256),
        large("large.wanted.example", chacha, 40),
        large("large.other.example", aes128, 40),
        large("larger.wanted.example", aes128, 200),
        wish("wanted.example.net", &["h3"], chacha),
    ]
}

/// What the server heard of a connection.
#[derive(Debug, Clone, Default)]
struct Heard {
    name: String,
    offered: Vec<String>,
    suites: Vec<u16>,
}

/// Shows every client the same certificate, and writes down what they say.
#[derive(Debug)]
struct Ear {
    certified: Arc<CertifiedKey>,
    heard: Arc<Mutex<Vec<Heard>>>,
}

impl ResolvesServerCert for Ear {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let suites = hello.cipher_suites().iter();
        let heard = Heard {
            name: hello.server_name().unwrap_or_default().to_owned(),
            offered: hello.alpn().into_iter().flatten().map(text).collect(),
            suites: suites.map(|suite| u16::from(*suite)).collect(),
        };
        self.heard.lock().unwrap().push(heard);
        Some(self.certified.clone())
    }
}

/// What the peers know of a connection.
#[derive(Debug)]
struct Known {
    wish: Wish,
    /// Of the client.
    port: u16,
    heard: Heard,
}

/// A socket of a host.
fn socket(namespace: &str, address: SocketAddr) -> UdpSocket {
    let namespace = File::open(Path::new("/run/netns").join(namespace)).unwrap();
    // A thread changes its namespace for good; a socket stays in the one where it was made.
    let made = thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        UdpSocket::bind(address).unwrap()
    });
    made.join().unwrap()
}

fn endpoint(namespace: &str, address: SocketAddr, server: Option<quinn::ServerConfig>) -> Endpoint {
    let socket = socket(namespace, address);
    let runtime = Arc::new(TokioRuntime);
    Endpoint::new(EndpointConfig::default(), server, socket, runtime).unwrap()
}

fn server_address(peers: &Peers) -> SocketAddr {
    SocketAddr::new(peers.server_address().parse().unwrap(), PORT)
}

fn provider(suites: &[SupportedCipherSuite]) -> Arc<CryptoProvider> {
    let mut provider = default_provider();
    provider.cipher_suites = suites.to_vec();
    Arc::new(provider)
}

/// Answers every connection.
async fn serve(endpoint: Endpoint) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(async {
            let connection = incoming.await.unwrap();
            let (mut send, mut receive) = connection.accept_bi().await.unwrap();
            assert_eq!(receive.read_to_end(QUESTION.len()).await.unwrap(), QUESTION);
            send.write_all(&[b'x'; ANSWER]).await.unwrap();
            send.finish().unwrap();
            connection.closed().await;
        });
    }
}

/// Asks, and gives the client's port.
async fn ask(peers: &Peers, wish: &Wish, roots: RootCertStore) -> u16 {
    // Initial packets need the first of these suites.
    let mut suites = vec![wish.suite, cipher_suite::TLS13_AES_128_GCM_SHA256];
    suites.dedup();
    let mut config = rustls::ClientConfig::builder_with_provider(provider(&suites))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = wish
        .protocols
        .iter()
        .map(|one| one.clone().into_bytes())
        .collect();
    let mut config =
        quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    if wish.is_parted {
        // Else the kernel may leave datagrams that were sent together in one piece.
        let mut transport = TransportConfig::default();
        transport.enable_segmentation_offload(false);
        config.transport_config(Arc::new(transport));
    }
    let endpoint = endpoint(peers.client(), (Ipv4Addr::UNSPECIFIED, 0).into(), None);
    let connecting = endpoint.connect_with(config, server_address(peers), wish.name);
    let connecting = connecting.unwrap();
    let connection = connecting.await.unwrap();
    let agreed = connection
        .handshake_data()
        .unwrap()
        .downcast::<HandshakeData>()
        .unwrap();
    assert_eq!(agreed.protocol.unwrap(), b"h3");
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(QUESTION).await.unwrap();
    send.finish().unwrap();
    assert_eq!(receive.read_to_end(ANSWER).await.unwrap().len(), ANSWER);
    connection.close(0_u32.into(), b"enough");
    endpoint.wait_idle().await;
    endpoint.local_addr().unwrap().port()
}

/// Makes all connections, each from a port of its own.
async fn talk(peers: &Peers, wishes: Vec<Wish>) -> Vec<Known> {
    let names: Vec<String> = wishes.iter().map(|wish| wish.name.to_owned()).collect();
    let certified = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(default_provider());
    let ear = Ear {
        certified: Arc::new(
            CertifiedKey::from_der(vec![certificate], key.into(), &provider).unwrap(),
        ),
        heard: Arc::default(),
    };
    let heard = ear.heard.clone();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(ear));
    config.alpn_protocols = vec![b"h3".to_vec()];
    let config = Arc::new(QuicServerConfig::try_from(config).unwrap());
    let config = quinn::ServerConfig::with_crypto(config);
    let server = endpoint(peers.server(), server_address(peers), Some(config));
    let serving = tokio::spawn(serve(server.clone()));
    let mut known = Vec::new();
    for wish in wishes {
        let asked = ask(peers, &wish, roots.clone());
        let port = tokio::time::timeout(PATIENCE, asked)
            .await
            .expect("the server answers");
        let heard = heard.lock().unwrap().pop().unwrap();
        known.push(Known { wish, port, heard });
    }
    server.close(0_u32.into(), b"");
    tokio::time::timeout(PATIENCE, server.wait_idle())
        .await
        .expect("the server ends");
    serving.await.unwrap();
    known
}

/// A node that listens at the switch, and where what it forwards arrives.
struct Listening {
    node: Node,
    sink: PathBuf,
}

impl Listening {
    fn start(peers: &Peers, sink: PathBuf, mode: &str, more: &[&str]) -> Self {
        let arguments: Vec<&OsStr> = more.iter().map(OsStr::new).collect();
        let node = peers.capture(mode, &sink, &arguments).unwrap();
        let has_filters = |status: &Value| {
            let filters = &status["filters"]["workers"];
            filters[0] != 0 && filters[1] != 0
        };
        if more.contains(&"--filters") {
            node.wait_until(has_filters).expect("workers have filters");
        }
        Self { node, sink }
    }

    /// What was told, and the packets of the connections from these ports, without their times: every listener has its own.
    fn finish(self, ports: &BTreeSet<u16>) -> (Vec<Told>, Vec<Packet>) {
        let is_quiet = |status: &Value| status["ledger"]["quiet"] == true;
        self.node
            .wait_until(is_quiet)
            .expect("the node comes to rest");
        let outcome = self.node.terminate().unwrap();
        assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
        let arrived = capture::read(&self.sink.join("packets.pcapng"))
            .unwrap()
            .packets;
        let is_of = |packet: &Packet| match Flow::of(packet) {
            Flow::Transport(ends, _) => ends.iter().any(|(_, port)| ports.contains(port)),
            _ => false,
        };
        let timeless = |packet: Packet| Packet {
            time_ns: 0,
            ..packet
        };
        let packets = arrived.into_iter().filter(is_of).map(timeless).collect();
        (processor::told(&self.sink).unwrap(), packets)
    }
}

/// Checks what is told of the handshake of a connection.
fn check(known: &Known, told: &[Told]) {
    let Known { wish, port, heard } = known;
    let of_connection = |told: &&Told| {
        told.metadata
            .as_ref()
            .is_some_and(|one| [one.src_port, one.dst_port].contains(&u32::from(*port)))
    };
    let packets: Vec<&Told> = told.iter().filter(of_connection).collect();
    let metadata = packets.iter().filter_map(|told| told.metadata.as_ref());
    let details: Vec<&BTreeMap<String, String>> =
        metadata.clone().map(|one| &one.details).collect();
    assert!(
        metadata.clone().all(|one| one.protocol == "QUIC"),
        "{}",
        wish.name
    );

    assert_eq!(
        (&heard.name[..], &heard.offered),
        (wish.name, &wish.protocols)
    );
    let hellos: Vec<_> = details
        .iter()
        .filter(|one| one.contains_key("tls.ja4"))
        .collect();
    assert_eq!(hellos.len(), 1, "{}: {details:?}", wish.name);
    let hello = details.iter().position(|one| one.contains_key("tls.ja4"));
    assert!(hello > Some(0) || !wish.is_parted, "{}", wish.name);
    let get = |key: &str| hellos[0].get(key).map_or("", String::as_str);
    assert_eq!(get("tls.sni"), heard.name);
    assert_eq!(get("tls.version"), "TLS 1.3");
    let told: Vec<&str> = get("tls.alpn").split(',').collect();
    match heard.offered.join(",").len() {
        ..2048 => assert_eq!(told, heard.offered),
        // Some of a list that is too long are left out.
        _ => {
            assert!(
                told.len() > 5 && told[..5] == heard.offered[..5],
                "{told:?}"
            );
            let mut offered = heard.offered.iter();
            assert!(
                told.iter().all(|one| offered.any(|other| other == one)),
                "{told:?}"
            );
        }
    }
    check_ja4(heard, get("tls.ja4"));

    let answers: Vec<_> = details
        .iter()
        .filter_map(|one| one.get("tls.cipher"))
        .collect();
    let suite = format!("{:04x}", u16::from(wish.suite.suite()));
    assert_eq!(answers, [&suite], "{}", wish.name);
}

/// JA4 but for what the server was not told: the extensions.
fn check_ja4(heard: &Heard, ja4: &str) {
    let parts: Vec<&str> = ja4.split('_').collect();
    let [shape, suites, extensions] = parts[..] else {
        panic!("{ja4}");
    };
    let first = heard.offered[0].as_bytes();
    let (one, last) = (char::from(first[0]), char::from(first[first.len() - 1]));
    let begins = format!("q13d{:02}", heard.suites.len());
    assert!(
        shape.starts_with(&begins) && shape.ends_with(&format!("{one}{last}")),
        "{ja4}"
    );
    assert_eq!(shape.len(), 10, "{ja4}");
    let mut listed: Vec<String> = heard
        .suites
        .iter()
        .map(|one| format!("{one:04x}"))
        .collect();
    listed.sort();
    let hash = Sha256::digest(listed.join(","));
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(suites, &hash[..12], "{ja4}");
    assert!(extensions.len() == 12 && extensions.bytes().all(|one| one.is_ascii_hexdigit()));
}

#[test]
fn connections_of_quinn_are_told_and_filtered_by_name() {
    let Some(peers) = Peers::new("quic", &[]) else {
        return;
    };
    let folder = tempdir().unwrap();
    let filters = folder.path().join("filters.toml");
    fs::write(&filters, filter("w", "tls_sni", "*.wanted.example")).unwrap();
    let filters = filters.to_string_lossy();
    let listen = |name: &str, mode: &str, more: &[&str]| {
        Listening::start(&peers, folder.path().join(name), mode, more)
    };
    let witness = listen("witness", "hunt", &["--no-filter-policy", "allow"]);
    let alone = listen("alone", "tls", &[]);
    let among = listen("among", "hunt", &["--modes", "dns,http,tls,email"]);
    let filtered = listen("filtered", "tls", &["--filters", &filters]);

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let known = runtime.block_on(talk(&peers, wishes()));
    let all: BTreeSet<u16> = known.iter().map(|known| known.port).collect();
    let is_wanted = |known: &&Known| known.wish.name.ends_with(".wanted.example");
    let wanted: BTreeSet<u16> = known
        .iter()
        .filter(is_wanted)
        .map(|known| known.port)
        .collect();
    assert_eq!((all.len(), wanted.len()), (known.len(), 4));

    let (_, seen) = witness.finish(&all);
    assert!(seen.len() > 4 * known.len(), "{} packets", seen.len());
    for listening in [alone, among] {
        let (told, packets) = listening.finish(&all);
        let difference = Difference::between(&seen, &packets);
        assert!(difference.is_none(), "{difference}");
        known.iter().for_each(|known| check(known, &told));
    }
    let (told, packets) = filtered.finish(&all);
    let is_of_wanted = |packet: &&Packet| match Flow::of(packet) {
        Flow::Transport(ends, _) => ends.iter().any(|(_, port)| wanted.contains(port)),
        _ => false,
    };
    let expected: Vec<Packet> = seen.iter().filter(is_of_wanted).cloned().collect();
    let difference = Difference::between(&expected, &packets);
    assert!(difference.is_none(), "{difference}");
    assert_eq!(told.len(), packets.len());
    assert!(told.iter().all(|told| told.matched_filter_ids == ["w"]));
    known
        .iter()
        .filter(is_wanted)
        .for_each(|known| check(known, &told));
}
