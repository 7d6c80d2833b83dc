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
use std::path::PathBuf;
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
use lc_daemon::config::{Address, Config, Tls, Transport as Protection};
use nix::sys::socket::{setsockopt, sockopt};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use crate::causes::causes;
use crate::credentials::Credentials;

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
    /// A PEM file is gone, or something that is no file took its place.
    #[error("{}: there is no such file, or it is no ordinary file", .0.display())]
    Irregular(PathBuf),
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

/// One processor of the fail-over list.
#[derive(Debug)]
pub(crate) struct Target {
    address: Address,
    authority: Authority,
    /// To be found in its certificate; `None` without TLS.
    server_name: Option<ServerName<'static>>,
}

/// How to reach processors: with what credentials.
pub(crate) struct Transport {
    tls: Option<(TlsConnector, Credentials)>,
    api_key: Option<HeaderValue>,
    revision: u64,
}

/// What is added to every request.
#[derive(Clone)]
struct Origin {
    scheme: Scheme,
    authority: Authority,
    api_key: Option<HeaderValue>,
}

impl Target {
    /// All processors of a configuration, in order of preference.
    ///
    /// # Errors
    ///
    /// See [`TransportError`].
    pub(crate) fn all(config: &Config) -> Result<Vec<Self>, TransportError> {
        let targets = config.processors.iter();
        targets
            .map(|address| Self::new(address, &config.transport))
            .collect()
    }

    fn new(address: &Address, transport: &Protection) -> Result<Self, TransportError> {
        let server_name = match transport {
            Protection::Insecure => None,
            Protection::Tls(tls) => {
                let name = tls.server_name.as_ref().unwrap_or(&address.host);
                let server_name = ServerName::try_from(name.clone());
                Some(server_name.map_err(|_| TransportError::ServerName(name.clone()))?)
            }
        };
        let authority = address.to_string();
        Ok(Self {
            address: address.clone(),
            authority: authority
                .parse()
                .map_err(|_| TransportError::Authority(authority))?,
            server_name,
        })
    }

    /// All addresses of the processor, in the resolver's order.
    pub(crate) async fn resolve(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let Address { host, port } = &self.address;
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

    /// The address, where the configuration gives no name.
    pub(crate) fn literal(&self) -> Option<SocketAddr> {
        let ip = self.address.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.address.port))
    }
}

/// As the configuration names it.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Transport {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    ///
    /// See [`TransportError`].
    pub(crate) fn new(config: &Config) -> Result<Self, TransportError> {
        let tls = match &config.transport {
            Protection::Insecure => None,
            Protection::Tls(tls) => {
                let (credentials, config) = Credentials::read(tls)?;
                Some((TlsConnector::from(Arc::new(config)), credentials))
            }
        };
        let api_key = match &config.api_key {
            None => None,
            Some(key) => {
                let mut key =
                    HeaderValue::from_str(key.reveal()).map_err(|_| TransportError::ApiKey)?;
                key.set_sensitive(true);
                Some(key)
            }
        };
        Ok(Self {
            tls,
            api_key,
            revision: 0,
        })
    }

    /// The same with other credentials; `None` if they are the same as before.
    pub(crate) fn renewed(&self, tls: &Tls) -> Result<Option<Self>, TransportError> {
        let (credentials, config) = Credentials::read(tls)?;
        if self
            .tls
            .as_ref()
            .is_some_and(|(_, now)| *now == credentials)
        {
            return Ok(None);
        }
        Ok(Some(Self {
            tls: Some((TlsConnector::from(Arc::new(config)), credentials)),
            api_key: self.api_key.clone(),
            revision: self.revision + 1,
        }))
    }

    /// Which of the credentials that this process has read these are.
    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// What to look at when a processor takes a connection and closes it at once.
    pub(crate) fn hint(&self) -> &'static str {
        match &self.tls {
            None => "; does the processor expect TLS?",
            Some((_, own)) if own.has_identity() => {
                "; does the processor trust the client certificate?"
            }
            Some(_) => "; does the processor demand a client certificate?",
        }
    }

    /// Connects to the first of the target's `addresses` that answers; the error is that of the last.
    pub(crate) async fn connect(
        &self,
        target: &Target,
        addresses: &[SocketAddr],
    ) -> Result<Link, ConnectError> {
        let mut result = Err(ConnectError::Resolve {
            host: target.address.host.clone(),
            cause: io::Error::other("no address"),
        });
        for address in addresses {
            result = self.connect_to(target, *address).await;
            if result.is_ok() {
                break;
            }
        }
        result
    }

    async fn connect_to(&self, target: &Target, address: SocketAddr) -> Result<Link, ConnectError> {
        let failed = |step| {
            move |cause| ConnectError::Step {
                step,
                address,
                cause,
            }
        };
        let origin = Origin {
            scheme: match self.tls {
                Some(_) => Scheme::HTTPS,
                None => Scheme::HTTP,
            },
            authority: target.authority.clone(),
            api_key: self.api_key.clone(),
        };
        let tcp = in_time(TcpStream::connect(address))
            .await
            .map_err(failed("cannot connect to"))?;
        keep_alive(&tcp).map_err(failed("cannot set up the socket to"))?;
        match &self.tls {
            None => speak_http(origin, address, tcp).await,
            Some((connector, _)) => {
                let nameless = || io::Error::other("no name to expect in the certificate");
                let name = target.server_name.clone().ok_or_else(nameless);
                let name = name.map_err(failed("TLS handshake with"))?;
                let tls = in_time(connector.connect(name, tcp))
                    .await
                    .map_err(failed("TLS handshake with"))?;
                if tls.get_ref().1.alpn_protocol() != Some(b"h2") {
                    let cause = io::Error::other("the peer does not agree on HTTP/2 (ALPN h2)");
                    return Err(failed("TLS handshake with")(cause));
                }
                speak_http(origin, address, tls).await
            }
        }
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

async fn speak_http(
    origin: Origin,
    address: SocketAddr,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<Link, ConnectError> {
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
        calls: Calls { sender, origin },
        end: Some(tokio::spawn(connection)),
        tasks,
    })
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
