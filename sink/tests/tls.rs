//! TLS 1.3, client certificates, and what is turned away.
#![allow(clippy::unwrap_used)]

mod client;

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use lc_sink::{Config, Sink, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tempfile::TempDir;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Code;
use tonic::transport::Endpoint;

use client::{Client, batch, packet};

/// A CA, and certificates that it signed, as PEM files.
struct Authority {
    folder: TempDir,
}

impl Authority {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        fs::write(folder.path().join("ca.pem"), ca.pem()).unwrap();
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let certificate = CertificateParams::new(vec!["localhost".into()])
                .unwrap()
                .signed_by(&key, &ca)
                .unwrap();
            fs::write(folder.path().join(format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(
                folder.path().join(format!("{name}.key")),
                key.serialize_pem(),
            )
            .unwrap();
        }
        Self { folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn sink_config(&self, client_ca: bool) -> Config {
        let tls = TlsFiles {
            cert: self.file("server.pem"),
            key: self.file("server.key"),
            client_ca: client_ca.then(|| self.file("ca.pem")),
        };
        Config {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: Some(tls),
            ..Config::default()
        }
    }

    fn client_config(
        &self,
        version: &'static SupportedProtocolVersion,
        with_certificate: bool,
    ) -> ClientConfig {
        let certificates = |name| {
            CertificateDer::pem_file_iter(self.file(name))
                .unwrap()
                .map(Result::unwrap)
        };
        let mut roots = RootCertStore::empty();
        certificates("ca.pem").for_each(|certificate| roots.add(certificate).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = if with_certificate {
            let key = PrivateKeyDer::from_pem_file(self.file("client.key")).unwrap();
            builder
                .with_client_auth_cert(certificates("client.pem").collect(), key)
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }
}

/// A TLS connection that has seen the server's verdict on it: TLS 1.3 tells a client only after its own last message.
async fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost").unwrap(), tcp)
        .await
}

/// Whether the server turns the connection away instead of speaking HTTP/2.
async fn turned_away(address: SocketAddr, config: ClientConfig) -> bool {
    match connect(address, config).await {
        // A server that accepts begins with its SETTINGS frame.
        Ok(mut stream) => !matches!(stream.read_u8().await, Ok(0)),
        Err(_) => true,
    }
}

async fn send_one(address: SocketAddr, config: ClientConfig) -> Code {
    let connector = tower::service_fn(move |_| {
        let config = config.clone();
        async move { connect(address, config).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap();
    let (acks, end) = Client::over(channel)
        .send(&[batch("h1", 1, vec![packet(1)])])
        .await;
    assert_eq!(acks.len(), 1);
    end.code()
}

#[tokio::test]
async fn tls_1_3_carries_packets_and_1_2_is_turned_away() {
    let authority = Authority::new();
    let sink = Sink::start(authority.sink_config(false)).await.unwrap();
    let address = sink.local_addr();
    assert_eq!(
        send_one(
            address,
            authority.client_config(&rustls::version::TLS13, false)
        )
        .await,
        Code::Unknown
    );
    assert!(
        turned_away(
            address,
            authority.client_config(&rustls::version::TLS12, false)
        )
        .await
    );
    let mut no_alpn = authority.client_config(&rustls::version::TLS13, false);
    no_alpn.alpn_protocols.clear();
    assert!(turned_away(address, no_alpn).await);
    let mut http_1 = authority.client_config(&rustls::version::TLS13, false);
    http_1.alpn_protocols = vec![b"http/1.1".to_vec()];
    assert!(turned_away(address, http_1).await);
    sink.shutdown().await.unwrap();
}

#[tokio::test]
async fn client_certificate_is_demanded_and_checked() {
    let authority = Authority::new();
    let sink = Sink::start(authority.sink_config(true)).await.unwrap();
    let address = sink.local_addr();
    assert_eq!(
        send_one(
            address,
            authority.client_config(&rustls::version::TLS13, true)
        )
        .await,
        Code::Unknown
    );
    assert!(
        turned_away(
            address,
            authority.client_config(&rustls::version::TLS13, false)
        )
        .await
    );
    // Trusts the server's CA, but shows a certificate of another one.
    let stranger = Authority::new();
    fs::copy(authority.file("ca.pem"), stranger.file("ca.pem")).unwrap();
    assert!(
        turned_away(
            address,
            stranger.client_config(&rustls::version::TLS13, true)
        )
        .await
    );
    sink.shutdown().await.unwrap();
}

#[tokio::test]
async fn bad_tls_files_are_refused_with_their_name() {
    let authority = Authority::new();
    fs::write(authority.file("empty.pem"), "").unwrap();
    let with = |change: &dyn Fn(&mut TlsFiles)| {
        let mut config = authority.sink_config(false);
        change(config.tls.as_mut().unwrap());
        config
    };
    let cases = [
        (
            with(&|tls| tls.cert = authority.file("empty.pem")),
            "certificate",
            "empty.pem",
        ),
        (
            with(&|tls| tls.cert = authority.file("absent.pem")),
            "certificate",
            "absent.pem",
        ),
        (
            with(&|tls| tls.key = authority.file("server.pem")),
            "private key",
            "server.pem",
        ),
        (
            with(&|tls| tls.key = authority.file("client.key")),
            "private key",
            "client.key",
        ),
        (
            with(&|tls| tls.client_ca = Some(authority.file("empty.pem"))),
            "client CA",
            "empty.pem",
        ),
    ];
    for (config, what, file) in cases {
        let error = Sink::start(config).await.err().unwrap().to_string();
        assert!(error.contains(what) && error.contains(file), "{error}");
    }
}
