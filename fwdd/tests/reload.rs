//! Certificates and keys that change under a running session, seen by a processor behind mutual TLS.
#![allow(clippy::unwrap_used)]

mod node;
mod processor;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use node::{Node, Running, number, until};
use processor::{PacketStream, Processor};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use shm_layout::counters::ForwardCounter;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// An authority and what it has signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    dir: TempDir,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        let authority = Self { issuer, dir };
        authority.put("client.pem", "client.key");
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A new certificate and its key, put in place by renaming. Gives the certificate.
    fn put(&self, certificate: &str, key: &str) -> Vec<u8> {
        let pair = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["processor.test".into()]).unwrap();
        let signed = params.signed_by(&pair, &self.issuer).unwrap();
        self.replace(certificate, &signed.pem());
        self.replace(key, &pair.serialize_pem());
        signed.der().to_vec()
    }

    fn replace(&self, name: &str, text: &str) {
        fs::write(self.path("new"), text).unwrap();
        fs::rename(self.path("new"), self.path(name)).unwrap();
    }

    fn settings(&self) -> String {
        let dir = self.dir.path().display();
        format!(
            "batch_size = 4\nbatch_timeout_ms = 20\n[hunter.tls]\nca_file = \"{dir}/ca.pem\"\nserver_name = \"processor.test\"\n\
             cert_file = \"{dir}/client.pem\"\nkey_file = \"{dir}/client.key\""
        )
    }
}

/// TLS before a processor, which notes who comes.
struct Front {
    address: SocketAddr,
    clients: Arc<Mutex<Vec<Vec<u8>>>>,
    _runtime: Runtime,
}

impl Front {
    fn start(authority: &Authority, processor: SocketAddr) -> Self {
        authority.put("server.pem", "server.key");
        let ca = CertificateDer::from_pem_file(authority.path("ca.pem")).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(ca).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(authority.path("server.pem")).unwrap()],
                PrivateKeyDer::from_pem_file(authority.path("server.key")).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let clients = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&clients);
        runtime.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, seen) = (acceptor.clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else {
                        return;
                    };
                    let client = tls.get_ref().1.peer_certificates().unwrap()[0].to_vec();
                    seen.lock().unwrap().push(client);
                    let mut behind = TcpStream::connect(processor).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut tls, &mut behind).await;
                });
            }
        });
        Self {
            address,
            clients,
            _runtime: runtime,
        }
    }

    fn last_client(&self) -> Option<Vec<u8>> {
        self.clients.lock().unwrap().last().cloned()
    }
}

/// Takes batches, acknowledging each, until there are `count` packets.
fn take(processor: &Processor, stream: &mut PacketStream, count: usize) -> Vec<u32> {
    let mut all = Vec::new();
    while all.len() < count {
        let batch = processor.batch(stream);
        all.extend(batch.packets.iter().map(number));
        stream.ack(batch.sequence);
    }
    all
}

#[test]
fn a_certificate_that_is_replaced_is_used_and_nothing_is_lost() {
    let (authority, mut processor) = (Authority::new(), Processor::start());
    let front = Front::start(&authority, processor.address);
    let mut node = Node::new(1);
    let running = Running::start(node.config(&front.address.to_string(), &authority.settings()));
    let mut stream = processor.stream();
    node.workers[0].emit(0..4);
    assert_eq!(take(&processor, &mut stream, 4), [0, 1, 2, 3]);
    node.workers[0].emit(4..8);
    let batch = processor.batch(&mut stream);

    let renewed = authority.put("client.pem", "client.key");
    // The old session ends in order: its last batch is answered on it.
    processor.end(&mut stream);
    stream.ack(batch.sequence);
    let mut stream = processor.stream();
    assert_eq!(front.last_client(), Some(renewed));
    node.workers[0].emit(8..12);
    assert_eq!(take(&processor, &mut stream, 4), [8, 9, 10, 11]);
    until("settled", || node.committed().tx_done(0) == 12);
    let commit = node.committed();
    assert_eq!(commit.get(ForwardCounter::ResentBatches), 0);
    assert_eq!(commit.get(ForwardCounter::CertificateReloads), 1);
    assert_eq!(commit.get(ForwardCounter::CertificatesRefused), 0);
    assert_eq!(running.stop().unacked_packets, 0);
}

#[test]
fn what_is_of_no_use_changes_nothing() {
    let (authority, mut processor) = (Authority::new(), Processor::start());
    let front = Front::start(&authority, processor.address);
    let mut node = Node::new(1);
    let running = Running::start(node.config(&front.address.to_string(), &authority.settings()));
    let mut stream = processor.stream();
    let refused = |node: &Node| node.committed().get(ForwardCounter::CertificatesRefused);
    let good = fs::read_to_string(authority.path("client.pem")).unwrap();
    authority.replace("client.pem", "nothing here\n");
    running.reload();
    until("it is refused", || refused(&node) == 1);
    // A certificate without its key, and none at all.
    authority.put("client.pem", "other.key");
    running.reload();
    until("it is refused", || refused(&node) == 2);
    fs::remove_file(authority.path("client.pem")).unwrap();
    running.reload();
    until("it is refused", || refused(&node) == 3);
    // What was there before is no change.
    authority.replace("client.pem", &good);
    running.reload();
    // A CA that does not vouch for the processor: good in itself, but no way to it. The session lives on.
    authority.replace(
        "ca.pem",
        &fs::read_to_string(Authority::new().path("ca.pem")).unwrap(),
    );
    running.reload();
    until("it is in force", || {
        node.committed().get(ForwardCounter::CertificateReloads) == 1
    });
    until("a connection with it failed", || {
        node.observer
            .forwarder
            .error()
            .contains("invalid peer certificate")
    });
    node.workers[0].emit(0..4);
    assert_eq!(take(&processor, &mut stream, 4), [0, 1, 2, 3]);
    assert_eq!(refused(&node), 3);
    assert_eq!(front.clients.lock().unwrap().len(), 1);
    running.stop();
}

/// The program in its sandbox, which reports to `notify`.
fn start(node: &Node, front: &Front, authority: &Authority) -> (Child, UnixDatagram) {
    let path = node.dir.path().join("notify");
    let notify = UnixDatagram::bind(&path).unwrap();
    notify
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let config = node.config_file(&front.address.to_string(), &authority.settings());
    let child = Command::new(env!("CARGO_BIN_EXE_lc-fwdd"))
        .arg("--config")
        .arg(config)
        .env("NOTIFY_SOCKET", &path)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    (child, notify)
}

/// Waits for a message that has `line`.
fn says(notify: &UnixDatagram, line: &str) -> String {
    loop {
        let mut bytes = [0; 4096];
        let len = notify.recv(&mut bytes).unwrap();
        let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
        if text.lines().any(|one| one == line) {
            return text;
        }
    }
}

#[test]
fn sighup_reads_files_that_were_put_in_place_by_renaming_from_within_the_sandbox() {
    let (authority, mut processor) = (Authority::new(), Processor::start());
    // As certificate tools lay them out: a link into another folder.
    let archive = tempfile::tempdir().unwrap();
    fs::rename(
        authority.path("client.key"),
        archive.path().join("client1.key"),
    )
    .unwrap();
    let link = |to: &str| {
        std::os::unix::fs::symlink(archive.path().join(to), authority.path("new")).unwrap();
        fs::rename(authority.path("new"), authority.path("client.key")).unwrap();
    };
    link("client1.key");
    let front = Front::start(&authority, processor.address);
    let mut node = Node::new(1);
    let (mut child, notify) = start(&node, &front, &authority);
    let mut stream = processor.stream();
    says(&notify, "READY=1");
    node.workers[0].emit(0..4);
    assert_eq!(take(&processor, &mut stream, 4), [0, 1, 2, 3]);

    let renewed = authority.put("client.pem", "client2.key");
    fs::rename(
        authority.path("client2.key"),
        archive.path().join("client2.key"),
    )
    .unwrap();
    link("client2.key");
    let pid = Pid::from_raw(child.id() as i32);
    kill(pid, Signal::SIGHUP).unwrap();
    let reloading = says(&notify, "RELOADING=1");
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    says(&notify, "READY=1");
    processor.end(&mut stream);
    drop(stream);
    let mut stream = processor.stream();
    assert_eq!(front.last_client(), Some(renewed));
    node.workers[0].emit(4..8);
    assert_eq!(take(&processor, &mut stream, 4), [4, 5, 6, 7]);
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let commit = node.committed();
    assert_eq!(commit.get(ForwardCounter::CertificateReloads), 1);
    assert_eq!(commit.get(ForwardCounter::ResentBatches), 0);
}
