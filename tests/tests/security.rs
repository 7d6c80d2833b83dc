//! The connection to the processor: TLS with a certificate authority, mutual TLS, API keys, and
//! what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::generated::{Generated, generate};
use lc_tests::node::{Node, PATIENCE, counter};
use lc_tests::processor::Processor;
use nix::sys::signal::Signal;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use tempfile::{TempDir, tempdir};

/// A certificate authority with a server and a client certificate, as files.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        for (name, host) in [
            ("server", "processor.example"),
            ("client", "hunter.example"),
        ] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![host.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            let file = |kind| folder.path().join(format!("{name}.{kind}"));
            std::fs::write(file("crt"), certificate.pem()).unwrap();
            std::fs::write(file("key"), key.serialize_pem()).unwrap();
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn some_packets(folder: &Path) -> Generated {
    generate(folder, "sent.pcap", &["--packets", "500"]).unwrap()
}

/// Runs `sent` into a processor with `sink_flags`, the node having `node_flags`, and expects that
/// everything arrives.
fn arrives(sink_flags: &[String], node_flags: &[String]) {
    let folder = tempdir().unwrap();
    let sent = some_packets(folder.path());
    let processor = Processor::start(folder.path(), 0, sink_flags).unwrap();
    let outcome = start(&sent, &processor, node_flags)
        .finish(PATIENCE)
        .unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let arrived = capture::read(&folder.path().join("packets.pcapng")).unwrap();
    let difference = Difference::between(&sent.packets, &arrived.packets);
    assert!(difference.is_none(), "{difference}");
}

/// The same, but expects that nothing arrives, and that the status says why.
fn is_kept_out(sink_flags: &[String], node_flags: &[String]) {
    let folder = tempdir().unwrap();
    let sent = some_packets(folder.path());
    let processor = Processor::start(folder.path(), 0, sink_flags).unwrap();
    let mut node = start(&sent, &processor, node_flags);
    let status = node.wait_until(|status| {
        let error = status["processor"]["last_error"].as_str();
        error.is_some_and(|error| !error.is_empty())
    });
    let ended = node.process().ended().unwrap();
    assert!(status.is_some() || ended.is_some_and(|status| !status.success()));
    node.terminate().unwrap();
    processor.terminate().unwrap();
    let arrived = capture::read(&folder.path().join("packets.pcapng")).unwrap();
    assert!(arrived.packets.is_empty());
}

fn start(sent: &Generated, processor: &Processor, node_flags: &[String]) -> Node {
    let address = processor.address();
    let own = [
        "hunt",
        "--read-file",
        sent.path.to_str().unwrap(),
        "--processor",
        &address,
        "--no-filter-policy",
        "allow",
    ];
    let flags = node_flags.iter().map(String::as_str);
    Node::start(own.into_iter().chain(flags)).unwrap()
}

fn flags(list: &[&str]) -> Vec<String> {
    list.iter().map(|flag| (*flag).to_owned()).collect()
}

#[test]
fn tls_with_an_authority_and_another_name() {
    let authority = Authority::new();
    let (certificate, key) = (authority.file("server.crt"), authority.file("server.key"));
    let sink = flags(&["--tls-cert", &certificate, "--tls-key", &key]);
    let ca = authority.file("ca.pem");
    arrives(
        &sink,
        &flags(&["--tls-ca", &ca, "--tls-server-name", "processor.example"]),
    );
    arrives(&sink, &flags(&["--tls-skip-verify"]));
    // Without the name the certificate is somebody else's.
    is_kept_out(&sink, &flags(&["--tls-ca", &ca]));
    let other = Authority::new();
    let ca = other.file("ca.pem");
    is_kept_out(
        &sink,
        &flags(&["--tls-ca", &ca, "--tls-server-name", "processor.example"]),
    );
}

#[test]
fn mutual_tls_asks_for_a_certificate() {
    let authority = Authority::new();
    let ca = authority.file("ca.pem");
    let sink = flags(&[
        "--tls-cert",
        &authority.file("server.crt"),
        "--tls-key",
        &authority.file("server.key"),
        "--tls-client-ca",
        &ca,
    ]);
    let trusting = flags(&["--tls-ca", &ca, "--tls-server-name", "processor.example"]);
    let (certificate, key) = (authority.file("client.crt"), authority.file("client.key"));
    let mut known = trusting.clone();
    known.extend(flags(&["--tls-cert", &certificate, "--tls-key", &key]));
    arrives(&sink, &known);
    is_kept_out(&sink, &trusting);
}

#[test]
fn a_renewed_certificate_is_used_on_sighup_and_costs_nothing() {
    let authority = Authority::new();
    let ca = authority.file("ca.pem");
    let sink = flags(&[
        "--tls-cert",
        &authority.file("server.crt"),
        "--tls-key",
        &authority.file("server.key"),
        "--tls-client-ca",
        &ca,
    ]);
    let folder = tempdir().unwrap();
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "5000"]).unwrap();
    let processor = Processor::start(folder.path(), 0, &sink).unwrap();
    let mut node = start(
        &sent,
        &processor,
        &flags(&[
            "--tls-ca",
            &ca,
            "--tls-server-name",
            "processor.example",
            "--tls-cert",
            &authority.file("client.crt"),
            "--tls-key",
            &authority.file("client.key"),
            "--replay-rate",
            "1000pps",
        ]),
    );
    node.wait_until(|status| counter(status, "forward_acked_packets_total") > 0)
        .expect("packets flow");
    for kind in ["crt", "key"] {
        let other = authority.path(&format!("server.{kind}"));
        let new = authority.path("new");
        std::fs::copy(other, &new).unwrap();
        std::fs::rename(&new, authority.path(&format!("client.{kind}"))).unwrap();
    }
    node.process().signal(Signal::SIGHUP);
    node.wait_until(|status| counter(status, "forward_connections_total") == 2)
        .expect("another connection takes the place of the first");
    assert!(
        node.process().ended().unwrap().is_none(),
        "the replay was too short"
    );
    let outcome = node.finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    processor.terminate().unwrap();
    let arrived = capture::read(&folder.path().join("packets.pcapng")).unwrap();
    let difference = Difference::between(&sent.packets, &arrived.packets);
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn an_api_key_is_sent_with_every_call() {
    let sink = flags(&["--api-key", "correct horse"]);
    arrives(&sink, &flags(&["--insecure", "--api-key", "correct horse"]));
    is_kept_out(&sink, &flags(&["--insecure", "--api-key", "wrong"]));
    is_kept_out(&sink, &flags(&["--insecure"]));
}
