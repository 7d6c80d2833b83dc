//! The connection to the processor: TCP, TLS 1.3, HTTP/2.
//!
//! - One connection carries all calls. It is made here and never replaced behind the session's back.
//! - Only the certificates of the CA file are trusted; the system's are not.
//! - The API key goes with every call.
//! - Nothing is compressed: processors don't understand it. HTTP/2 pings keep their distance of 30 s, because a
//!   processor takes pings that are closer than 10 s for an attack; for the same reason the window does not adapt.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper::header::{HeaderName, HeaderValue};
use hyper::http::uri::{Authority, Parts, PathAndQuery, Scheme};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use lc_daemon::config::{Address, Config, Identity, Tls, Trust};
use nix::sys::socket::{setsockopt, sockopt};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::body::Body;

/// For resolving, for connecting, and for the TLS handshake.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the end of a connection that is no longer used.
const FAREWELL: Duration = Duration::from_millis(500);
/// HTTP/2 receive window. Only answers come in; they are small.
const WINDOW: u32 = 1 << 20;
/// Bytes that HTTP/2 holds for one stream before it takes no more.
const SEND_BUFFER: usize = 1 << 20;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// Why the settings of the connection can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// A PEM file can't be read.
    #[error("{what} {}: {cause}", .path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// Certificate and key don't belong together, or are of no use.
    #[error("client certificate {} and key {}: {cause}", .cert.display(), .key.display())]
    Identity {
        /// Certificate file.
        cert: PathBuf,
        /// Key file.
        key: PathBuf,
        /// What is wrong.
        cause: rustls::Error,
    },
    /// The name to expect in the certificate is none.
    #[error(
        "\"{0}\" is no host name or address that a certificate could carry: set the server name"
    )]
    ServerName(String),
    /// The API key can't be sent.
    #[error("the API key holds characters that HTTP does not allow: use printable ASCII")]
    ApiKey,
    /// The processor's address can't be used in a request.
    #[error("\"{0}\" is no host and port")]
    Authority(String),
    /// The TLS library refuses its own settings.
    #[error("TLS: {0}")]
    Tls(rustls::Error),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot resolve {host}: {cause}")]
    Resolve { host: String, cause: io::Error },
    #[error("{step} {address}: {cause}")]
    Step {
        step: &'static str,
        address: SocketAddr,
        cause: io::Error,
    },
    #[error("HTTP/2 with {address}: {}", causes(.cause))]
    Http {
        address: SocketAddr,
        cause: hyper::Error,
    },
}

/// How to reach the processor.
pub(crate) struct Transport {
    processor: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    has_identity: bool,
    origin: Origin,
}

/// What is added to every request.
#[derive(Clone)]
struct Origin {
    scheme: Scheme,
    authority: Authority,
    api_key: Option<HeaderValue>,
}

impl Transport {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    ///
    /// See [`TransportError`].
    pub(crate) fn new(config: &Config) -> Result<Self, TransportError> {
        let processor = config.processor.clone();
        let mut has_identity = false;
        let tls = match &config.transport {
            lc_daemon::config::Transport::Insecure => None,
            lc_daemon::config::Transport::Tls(tls) => {
                has_identity = tls.identity.is_some();
                let name = tls.server_name.as_ref().unwrap_or(&processor.host);
                let name = ServerName::try_from(name.clone())
                    .map_err(|_| TransportError::ServerName(name.clone()))?;
                Some((TlsConnector::from(Arc::new(client_config(tls)?)), name))
            }
        };
        let authority = processor.to_string();
        let api_key = match &config.api_key {
            None => None,
            Some(key) => {
                let mut key =
                    HeaderValue::from_str(key.reveal()).map_err(|_| TransportError::ApiKey)?;
                key.set_sensitive(true);
                Some(key)
            }
        };
        let origin = Origin {
            scheme: if tls.is_some() {
                Scheme::HTTPS
            } else {
                Scheme::HTTP
            },
            authority: authority
                .parse()
                .map_err(|_| TransportError::Authority(authority))?,
            api_key,
        };
        Ok(Self {
            processor,
            tls,
            has_identity,
            origin,
        })
    }

    /// What to look at when a processor takes a connection and closes it at once.
    pub(crate) fn hint(&self) -> &'static str {
        match (&self.tls, self.has_identity) {
            (None, _) => "; does the processor expect TLS?",
            (Some(_), false) => "; does the processor demand a client certificate?",
            (Some(_), true) => "; does the processor trust the client certificate?",
        }
    }

    /// All addresses of the processor, in the resolver's order.
    pub(crate) async fn resolve(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let Address { host, port } = &self.processor;
        let failed = |cause| ConnectError::Resolve {
            host: host.clone(),
            cause,
        };
        let found = in_time(tokio::net::lookup_host((host.as_str(), *port))).await;
        let addresses: Vec<_> = found.map_err(failed)?.collect();
        if addresses.is_empty() {
            return Err(failed(io::Error::other("no address")));
        }
        Ok(addresses)
    }

    /// Connects to the first of `addresses` that answers; the error is that of the last.
    pub(crate) async fn connect(&self, addresses: &[SocketAddr]) -> Result<Link, ConnectError> {
        let mut result = Err(ConnectError::Resolve {
            host: self.processor.host.clone(),
            cause: io::Error::other("no address"),
        });
        for address in addresses {
            result = self.connect_to(*address).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<Link, ConnectError> {
        let failed = |step| {
            move |cause| ConnectError::Step {
                step,
                address,
                cause,
            }
        };
        let tcp = in_time(TcpStream::connect(address))
            .await
            .map_err(failed("cannot connect to"))?;
        keep_alive(&tcp).map_err(failed("cannot set up the socket to"))?;
        match &self.tls {
            None => self.speak_http(address, tcp).await,
            Some((connector, name)) => {
                let tls = in_time(connector.connect(name.clone(), tcp))
                    .await
                    .map_err(failed("TLS handshake with"))?;
                if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
                    let cause = io::Error::other("the peer does not agree on HTTP/2 (ALPN h2)");
                    return Err(failed("TLS handshake with")(cause));
                }
                self.speak_http(address, tls).await
            }
        }
    }

    async fn speak_http<S>(&self, address: SocketAddr, stream: S) -> Result<Link, ConnectError>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let tasks = Tasks::default();
        let (sender, connection) = http2::Builder::new(tasks.clone())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .adaptive_window(false)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20))
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|cause| ConnectError::Http { address, cause })?;
        Ok(Link {
            calls: Calls {
                sender,
                origin: self.origin.clone(),
            },
            end: Some(tokio::spawn(connection)),
            tasks,
        })
    }
}

/// One connection.
pub(crate) struct Link {
    calls: Calls,
    /// `None` once its end was told.
    end: Option<JoinHandle<hyper::Result<()>>>,
    tasks: Tasks,
}

impl Link {
    /// What to make calls with.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Waits until the connection takes no more calls: the peer said so (GOAWAY), or it broke. Calls under way may
    /// still be answered in the first case. A GOAWAY is seen when there is traffic, not on an idle connection.
    pub(crate) async fn ended(&mut self) -> String {
        let Some(end) = &mut self.end else {
            return std::future::pending().await;
        };
        let ended = end.await;
        self.end = None;
        match ended {
            Ok(Ok(())) => "the processor is going away".to_owned(),
            Ok(Err(error)) => format!("the connection broke: {}", causes(&error)),
            Err(error) => format!("the connection broke: {error}"),
        }
    }

    /// Closes the connection for good. All users of [`Link::calls`] must have ended.
    pub(crate) async fn close(self) {
        let Self { calls, end, tasks } = self;
        drop(calls);
        let orderly = async {
            while end.as_ref().is_some_and(|end| !end.is_finished()) || !tasks.are_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        if timeout(FAREWELL, orderly).await.is_err() {
            if let Some(end) = end {
                end.abort();
            }
            tasks.abort();
        }
    }
}

/// Makes calls over a [`Link`]; a gRPC service as tonic's clients want it.
#[derive(Clone)]
pub(crate) struct Calls {
    sender: SendRequest<Body>,
    origin: Origin,
}

impl tower::Service<Request<Body>> for Calls {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.sender.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut parts = Parts::default();
        parts.scheme = Some(self.origin.scheme.clone());
        parts.authority = Some(self.origin.authority.clone());
        parts.path_and_query = request
            .uri()
            .path_and_query()
            .cloned()
            .or(Some(PathAndQuery::from_static("/")));
        // Can't fail: all three parts are there.
        if let Ok(uri) = Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        if let Some(key) = &self.origin.api_key {
            request.headers_mut().insert(API_KEY, key.clone());
        }
        Box::pin(self.sender.send_request(request))
    }
}

/// The tasks that HTTP/2 starts for one connection.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<Vec<AbortHandle>>>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.retain(|task| !task.is_finished());
        tasks.push(tokio::spawn(future).abort_handle());
    }
}

impl Tasks {
    fn are_finished(&self) -> bool {
        let tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().all(AbortHandle::is_finished)
    }

    fn abort(&self) {
        for task in &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            task.abort();
        }
    }
}

async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(PATIENCE, work).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "no answer within 10 s",
        )),
    }
}

/// No delay for small messages; a dead peer is noticed after 25 s.
fn keep_alive(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    setsockopt(tcp, sockopt::KeepAlive, &true)?;
    setsockopt(tcp, sockopt::TcpKeepIdle, &10)?;
    setsockopt(tcp, sockopt::TcpKeepInterval, &5)?;
    setsockopt(tcp, sockopt::TcpKeepCount, &3)?;
    Ok(())
}

fn client_config(tls: &Tls) -> Result<ClientConfig, TransportError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TransportError::Tls)?;
    let builder = match &tls.trust {
        Trust::Ca(path) => builder.with_root_certificates(authorities(path)?),
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms))),
    };
    let mut config = match &tls.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certificates = certificates("client certificate", &identity.cert)?;
            let key = private_key(identity, &provider)?;
            builder
                .with_client_auth_cert(certificates, key)
                .map_err(|cause| TransportError::Identity {
                    cert: identity.cert.clone(),
                    key: identity.key.clone(),
                    cause,
                })?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

fn authorities(path: &Path) -> Result<RootCertStore, TransportError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("CA file", path)? {
        roots
            .add(certificate)
            .map_err(|error| bad_file("CA file", path, error))?;
    }
    Ok(roots)
}

/// All certificates of a PEM file, of which there must be one at least.
fn certificates(
    what: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TransportError> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| bad_file(what, path, error))?;
    if found.is_empty() {
        return Err(bad_file(what, path, "no certificate in PEM form in it"));
    }
    Ok(found)
}

fn private_key(
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<PrivateKeyDer<'static>, TransportError> {
    let path = &identity.key;
    let key = PrivateKeyDer::from_pem_file(path).map_err(|error| match error {
        rustls_pki_types::pem::Error::NoItemsFound => {
            bad_file("client key", path, "no private key in PEM form in it")
        }
        error => bad_file("client key", path, error),
    })?;
    provider
        .key_provider
        .load_private_key(key.clone_key())
        .map_err(|error| bad_file("client key", path, error))?;
    Ok(key)
}

fn bad_file(what: &'static str, path: &Path, cause: impl fmt::Display) -> TransportError {
    TransportError::File {
        what,
        path: path.to_owned(),
        cause: cause.to_string(),
    }
}

/// Takes any certificate whose key the peer holds.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// An error with everything that caused it, each said once.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = cause.source();
    }
    text
}
