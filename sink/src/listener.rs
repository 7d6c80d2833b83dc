//! Accepts connections, in clear text or TLS 1.3.
//!
//! TLS offers ALPN `h2` only, and a client that does not choose it is turned away. With a client CA, a client must show a
//! certificate that it signed. A handshake that takes long holds up nobody else.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use crate::Error;
use crate::config::TlsFiles;
use crate::until::becomes_true;

/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Pause after an accept that failed, such as for want of descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A bound address.
pub(crate) struct Listener {
    tcp: TcpListener,
    local_addr: SocketAddr,
    tls: Option<TlsAcceptor>,
}

impl Listener {
    /// Reads the TLS files and binds.
    pub(crate) fn bind(address: SocketAddr, tls: Option<&TlsFiles>) -> Result<Self, Error> {
        let tls = tls
            .map(tls_config)
            .transpose()?
            .map(|config| TlsAcceptor::from(Arc::new(config)));
        let bind = || {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            let tcp = socket.listen(1024)?;
            let local_addr = tcp.local_addr()?;
            Ok((tcp, local_addr))
        };
        let (tcp, local_addr) = bind().map_err(|source| Error::Listen { address, source })?;
        Ok(Self {
            tcp,
            local_addr,
            tls,
        })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The connections, ready to carry HTTP/2, until `stopping`. Then the address is free again.
    pub(crate) fn accept(
        self,
        stopping: watch::Receiver<bool>,
    ) -> impl Stream<Item = Result<Connection, io::Error>> {
        let (ready, connections) = mpsc::channel(16);
        tokio::spawn(async move {
            tokio::select! {
                () = self.accept_all(ready) => {}
                () = becomes_true(stopping) => {}
            }
        });
        ReceiverStream::new(connections)
    }

    async fn accept_all(self, ready: mpsc::Sender<Result<Connection, io::Error>>) {
        loop {
            let (stream, peer) = match self.tcp.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let tls = self.tls.clone();
            let ready = ready.clone();
            tokio::spawn(async move {
                let handshake =
                    tokio::time::timeout(HANDSHAKE, Connection::over(stream, tls)).await;
                match handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
                    // A send fails only while the sink stops.
                    Ok(connection) => drop(ready.send(Ok(connection)).await),
                    Err(error) => tracing::warn!(%peer, %error, "connection refused"),
                }
            });
        }
    }
}

fn tls_config(files: &TlsFiles) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let unusable = |what, path: &Path, reason: String| Error::Tls {
        what,
        path: path.to_owned(),
        reason,
    };
    let bad_cert = |reason| unusable("certificate", &files.cert, reason);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad_cert(error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let bad_ca = |reason| unusable("client CA", path, reason);
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path).map_err(bad_ca)? {
                roots
                    .add(certificate)
                    .map_err(|error| bad_ca(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|error| bad_ca(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = certificates(&files.cert).map_err(bad_cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unusable("private key", &files.key, error.to_string()))?;
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable("private key", &files.key, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(certificates) if certificates.is_empty() => Err("there is no certificate in it".into()),
        other => other.map_err(|error| error.to_string()),
    }
}

/// A connection in clear text or TLS.
pub(crate) enum Connection {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Connection {
    async fn over(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let Some(tls) = tls else {
            return Ok(Self::Clear(stream));
        };
        let stream = tls.accept(stream).await?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(io::Error::other(
                "the client did not choose ALPN protocol h2",
            ));
        }
        Ok(Self::Tls(Box::new(stream)))
    }
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_read(context, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_write(context, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Clear(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
