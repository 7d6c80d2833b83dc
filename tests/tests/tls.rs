//! `lc-hunt tls`, and what OpenSSL itself says of its connections.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use lc_tests::namespace::Namespace;
use lc_tests::node::{Node, PATIENCE};
use lc_tests::process::{self, wait_for};
use lc_tests::processor;
use serde_json::Value;
use tempfile::tempdir;

/// OpenSSL's client and server over loopback of a namespace: what they say of their connections is told.
#[test]
fn connections_of_openssl_are_told_as_it_tells_them() {
    let Some(namespace) = Namespace::new("openssl") else {
        lc_tests::skipped!("network namespaces can't be made here (root is needed)");
        return;
    };
    if Command::new("openssl").arg("version").output().is_err() {
        lc_tests::skipped!("openssl is not installed");
        return;
    }
    let folder = tempdir().unwrap();
    let (key, certificate) = (
        folder.path().join("key.pem"),
        folder.path().join("cert.pem"),
    );
    let certified = rcgen::generate_simple_self_signed(["peer.example".to_owned()]).unwrap();
    fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    fs::write(&certificate, certified.cert.pem()).unwrap();
    let sink = folder.path().join("sink");
    let arguments: [&std::ffi::OsStr; 5] = [
        "tls".as_ref(),
        "--interface".as_ref(),
        "lo".as_ref(),
        "--sink".as_ref(),
        sink.as_ref(),
    ];
    let node = Node::start_in(namespace.name(), arguments).unwrap();
    let is_capturing = |status: &Value| {
        status["captures"][0]["state"] == "running"
            && status["processor"]["connection"] == "streaming"
    };
    node.wait_until(is_capturing).expect("the node captures");
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
    let details: Vec<BTreeMap<String, String>> = processor::told(&sink)
        .unwrap()
        .into_iter()
        .map(|told| told.metadata.unwrap_or_default().details)
        .collect();
    for (_, name, version, _, cipher) in connections {
        let hello = details
            .iter()
            .position(|one| one.get("tls.sni").is_some_and(|sni| sni == name));
        let hello = hello.unwrap_or_else(|| panic!("{name} is told: {details:?}"));
        assert_eq!(details[hello]["tls.version"], version);
        let is_answer = |one: &&BTreeMap<String, String>| one.contains_key("tls.cipher");
        let answer = details[hello..].iter().find(is_answer).unwrap();
        assert_eq!(
            (&answer["tls.cipher"][..], &answer["tls.version"][..]),
            (cipher, version)
        );
    }
    // TLS 1.2 shows the certificate.
    let shown = details
        .iter()
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
