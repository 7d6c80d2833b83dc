//! TLS, client certificates and API keys, against lc-sink.
#![allow(clippy::unwrap_used)]

mod node;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use lc_fwdd::TransportError;
use lc_sink::{Sink, Summary, TlsFiles};
use node::{Node, Running, until};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Two authorities; the first has signed `server` and `client`, for the name `processor.test`.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = || KeyPair::generate().unwrap();
        let authority = || CertifiedIssuer::self_signed(params.clone(), key()).unwrap();
        let (ca, other) = (authority(), authority());
        let write = |name: &str, text: String| fs::write(dir.path().join(name), text).unwrap();
        write("ca.pem", ca.pem());
        write("other-ca.pem", other.pem());
        write("empty.pem", "nothing here\n".into());
        for name in ["server", "client"] {
            let key = key();
            let params = CertificateParams::new(vec!["processor.test".into()]).unwrap();
            let certificate = params.signed_by(&key, &ca).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn tls(&self, lines: &str) -> String {
        let dir = self.dir.path().display().to_string();
        format!("batch_size = 1\n[hunter.tls]\n{}", lines.replace('@', &dir))
    }
}

/// A sink on a free port of the loopback.
struct Processor {
    runtime: Runtime,
    sink: Sink,
    address: SocketAddr,
}

impl Processor {
    fn start(files: &Files, mtls: bool, api_key: Option<&str>, tls: bool) -> Self {
        let runtime = Runtime::new().unwrap();
        let config = lc_sink::Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: tls.then(|| TlsFiles {
                cert: files.path("server.pem"),
                key: files.path("server.key"),
                client_ca: mtls.then(|| files.path("ca.pem")),
            }),
            api_key: api_key.map(str::to_owned),
            discard: true,
            ..lc_sink::Config::default()
        };
        let sink = runtime.block_on(Sink::start(config)).unwrap();
        let address = sink.local_addr();
        Self {
            runtime,
            sink,
            address,
        }
    }

    fn close(self) -> Summary {
        self.runtime.block_on(self.sink.shutdown()).unwrap()
    }
}

/// Expects that three packets come through.
#[track_caller]
fn delivers(processor: Processor, more: &str) {
    let mut node = Node::new(1);
    let running = Running::start(node.config(&processor.address.to_string(), more));
    node.workers[0].emit(0..3);
    until("everything is acknowledged", || {
        node.workers[0].ring.used() == 0
    });
    assert_eq!(running.stop().unacked_packets, 0);
    let summary = processor.close();
    assert_eq!(
        (summary.totals.packets, summary.totals.packets_again),
        (3, 0)
    );
}

/// Expects that no session comes about, and that the reason names `cause`.
#[track_caller]
fn fails(processor: Processor, more: &str, cause: &str) {
    let mut node = Node::new(1);
    let more = format!("shutdown_timeout = \"10ms\"\n{more}");
    let running = Running::start(node.config(&processor.address.to_string(), &more));
    node.workers[0].emit(0..3);
    until("an error is told", || {
        !node.observer.forwarder.error().is_empty()
    });
    let error = node.observer.forwarder.error();
    assert!(error.contains(cause), "{error}");
    assert_eq!(running.stop().unacked_packets, 3);
    assert_eq!(processor.close().totals.packets, 0);
}

const GOOD: &str = "ca_file = \"@/ca.pem\"\nserver_name = \"processor.test\"";
const IDENTITY: &str = "cert_file = \"@/client.pem\"\nkey_file = \"@/client.key\"";

#[test]
fn tls_with_an_authority_and_a_server_name() {
    let files = Files::new();
    delivers(
        Processor::start(&files, false, None, true),
        &files.tls(GOOD),
    );
}

#[test]
fn tls_with_a_client_certificate() {
    let files = Files::new();
    let more = files.tls(&format!("{GOOD}\n{IDENTITY}"));
    delivers(Processor::start(&files, true, None, true), &more);
}

#[test]
fn tls_without_a_client_certificate_that_is_asked_for() {
    let files = Files::new();
    fails(
        Processor::start(&files, true, None, true),
        &files.tls(GOOD),
        "client certificate",
    );
}

#[test]
fn tls_with_an_unknown_authority() {
    let files = Files::new();
    let more = files.tls(&GOOD.replace("ca.pem", "other-ca.pem"));
    fails(
        Processor::start(&files, false, None, true),
        &more,
        "invalid peer certificate",
    );
}

#[test]
fn tls_with_another_name_than_the_certificates() {
    let files = Files::new();
    let more = files.tls("ca_file = \"@/ca.pem\"");
    fails(
        Processor::start(&files, false, None, true),
        &more,
        "not valid for name",
    );
}

#[test]
fn tls_without_verification() {
    let files = Files::new();
    delivers(
        Processor::start(&files, false, None, true),
        &files.tls("skip_verify = true"),
    );
}

#[test]
fn clear_text_to_a_processor_that_wants_tls() {
    let files = Files::new();
    let processor = Processor::start(&files, false, None, true);
    fails(processor, "insecure = true\nbatch_size = 1", "expect TLS");
}

#[test]
fn the_api_key_goes_with_every_call() {
    let files = Files::new();
    let processor = Processor::start(&files, false, Some("s3cret"), false);
    delivers(
        processor,
        "insecure = true\nbatch_size = 1\napi_key = \"s3cret\"",
    );
}

#[test]
fn a_wrong_api_key_is_told() {
    let files = Files::new();
    let processor = Processor::start(&files, false, Some("s3cret"), false);
    let more = "insecure = true\nbatch_size = 1\napi_key = \"guess\"";
    fails(processor, more, "authentication failed");
}

#[test]
fn files_that_are_of_no_use_are_refused_at_start() {
    let files = Files::new();
    let node = Node::new(1);
    let refusal = |lines: &str| {
        let config = node.config("127.0.0.1:1", &files.tls(lines));
        let (_stop, stopped) = tokio::sync::watch::channel(lc_fwdd::Wish::default());
        match lc_fwdd::run(config, None, stopped, || panic!("it starts")) {
            Err(lc_fwdd::ForwarderError::Transport(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let with_identity = |cert: &str, key: &str| {
        let identity = IDENTITY
            .replace("client.pem", cert)
            .replace("client.key", key);
        format!("{GOOD}\n{identity}")
    };
    for (lines, named) in [
        (GOOD.replace("ca.pem", "missing.pem"), "missing.pem"),
        (GOOD.replace("ca.pem", "empty.pem"), "empty.pem"),
        (GOOD.replace("ca.pem", "client.key"), "client.key"),
        (with_identity("missing.pem", "client.key"), "missing.pem"),
        (with_identity("empty.pem", "client.key"), "empty.pem"),
        (with_identity("client.pem", "missing.key"), "missing.key"),
        (with_identity("client.pem", "client.pem"), "client.pem"),
        (GOOD.replace("processor.test", "not a name"), "not a name"),
    ] {
        let text = refusal(&lines).to_string();
        assert!(text.contains(named), "{text}");
    }
    let mixed = refusal(&with_identity("client.pem", "server.key"));
    assert!(matches!(mixed, TransportError::Identity { .. }), "{mixed}");
}
