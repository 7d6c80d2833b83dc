//! A small real processor: takes packets from hunters, acknowledges them, distributes filters, and writes down what came.
//!
//! It is what `lc-hunt --sink` embeds, what the `lc-sink` binary runs, and the peer in tests. It speaks the processor's
//! side of the wire protocol: registration, packet streams with one acknowledgement per batch in order, heartbeats, filter
//! subscription and status queries. Every other RPC answers UNIMPLEMENTED.
//!
//! # What an acknowledgement means
//!
//! A batch is acknowledged after its packets were handed to the operating system for every file that is open. They survive
//! the death of this process, even by SIGKILL; they are not synced, so they may not survive the machine's. With a summary
//! file, a journal beside it makes a batch all or nothing across the files: what a killed process wrote of a batch that it
//! did not finish is cut off at the next start (see [`mod@summary`]). Without one, half a batch may stay at a file's end.
//!
//! # What differs from lippycat's processor
//!
//! A batch that comes again is stored again there too, but this one counts it. Filter updates are never dropped for a slow
//! subscriber. A second subscription of a hunter ends the first, and nothing else ends it. Pings are not policed.
//!
//! # Parts
//!
//! ```text
//! listener -> session (per stream) -> recorder -> json, pcapng, summary + journal
//!          -> management -> registry (hunters), catalogue (filters) <- filter_file (watched)
//! ```
#![forbid(unsafe_code)]

mod append_file;
mod catalogue;
mod config;
mod filter_file;
mod flags;
mod flow;
mod json;
mod listener;
mod management;
pub mod pcapng;
mod recorder;
mod registry;
mod session;
pub mod summary;
mod summary_file;
mod until;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::service::interceptor::InterceptorLayer;
use tonic::transport::Server;
use tonic::{Request, Status};

pub use config::{Config, Output, TlsFiles};
pub use filter_file::FilterFileError;
pub use flags::Flags;
pub use flow::{FlowPlan, parse_duration};
use recorder::Recorder;
pub use summary::Summary;

/// How long open streams may go on after a shutdown was asked for.
const GRACE: Duration = Duration::from_secs(2);

/// How often a summary file is brought up to date.
const SUMMARY_INTERVAL: Duration = Duration::from_secs(1);

/// A running processor. Dropping it without [`shutdown`](Self::shutdown) leaves it running until its runtime ends.
///
/// Files are written on the runtime's threads: use a multi-threaded runtime where something else must not wait for them.
#[derive(Debug)]
pub struct Sink {
    local_addr: SocketAddr,
    recorder: Arc<Recorder>,
    stopping: watch::Sender<bool>,
    ended: watch::Sender<bool>,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    helpers: Vec<JoinHandle<()>>,
}

impl Sink {
    /// Reads the filters, opens every file, binds, and begins to serve.
    ///
    /// # Errors
    ///
    /// Whatever of `config` cannot be used: see [`Error`]. Nothing is left running then.
    pub async fn start(config: Config) -> Result<Self, Error> {
        config.check()?;
        let catalogue = Arc::new(catalogue::Catalogue::default());
        let filters = config
            .filters
            .clone()
            .map(filter_file::WatchedFile::open)
            .transpose()?;
        let filters = filters.map(|(file, filters)| {
            catalogue.replace(filters);
            file
        });
        let recorder = Arc::new(Recorder::open(&config)?);
        let registry = Arc::new(registry::Registry::default());
        let listener = listener::Listener::bind(config.listen, config.tls.as_ref())?;
        let local_addr = listener.local_addr();

        let (stopping, _) = watch::channel(false);
        let (ended, until) = watch::channel(false);
        let management = management::Management {
            processor_id: config.processor_id.clone(),
            registry: Arc::clone(&registry),
            catalogue: Arc::clone(&catalogue),
            recorder: Arc::clone(&recorder),
            until: until.clone(),
        };
        let session = session::PacketSessions {
            recorder: Arc::clone(&recorder),
            registry,
            flow: Arc::new(flow::Flow::new(config.flow)),
            ack_delay: config.ack_delay,
            until,
        };
        let router = Server::builder()
            .initial_stream_window_size(8 << 20)
            .initial_connection_window_size(16 << 20)
            .max_frame_size(1 << 20)
            .http2_keepalive_interval(Some(Duration::from_secs(30)))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .layer(InterceptorLayer::new(ApiKey(config.api_key.map(Arc::from))))
            .add_service(lc_proto::passthrough::StreamPacketsServer::new(Arc::new(
                session,
            )))
            .add_service(management.into_service());
        let incoming = listener.accept(stopping.subscribe());
        let server = tokio::spawn(
            router
                .serve_with_incoming_shutdown(incoming, until::becomes_true(stopping.subscribe())),
        );

        let mut helpers = vec![tokio::spawn(keep_summary(Arc::clone(&recorder)))];
        if let Some(file) = filters {
            let take = move |filters| catalogue.replace(filters);
            helpers.push(tokio::spawn(filter_file::watch(file, take)));
        }
        tracing::info!(%local_addr, "listening");
        Ok(Self {
            local_addr,
            recorder,
            stopping,
            ended,
            server,
            helpers,
        })
    }

    /// The address that it listens on; with port 0 asked for, the one that was given.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What has arrived so far.
    pub fn summary(&self) -> Summary {
        self.recorder.summary()
    }

    /// Takes no new connections, lets open streams go on for up to two seconds, ends the rest with UNAVAILABLE, and
    /// writes the final summary.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if the final summary cannot be written.
    pub async fn shutdown(mut self) -> Result<Summary, Error> {
        self.stopping.send_replace(true);
        if tokio::time::timeout(GRACE, &mut self.server).await.is_err() {
            self.ended.send_replace(true);
            // A peer that does not even read the end of its stream is left behind; the recorder takes nothing from it.
            if tokio::time::timeout(GRACE, &mut self.server).await.is_err() {
                self.server.abort();
            }
        }
        for helper in &self.helpers {
            helper.abort();
        }
        self.recorder.close()
    }
}

/// Why a sink cannot start or finish.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A certificate, key or CA file cannot be used.
    #[error("cannot use the {what} in {}: {reason}", path.display())]
    Tls {
        /// Which of them.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The filter file cannot be used.
    #[error(transparent)]
    Filters(#[from] FilterFileError),
    /// An output file cannot be opened.
    #[error("cannot open {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An output file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file that is to be continued is of another kind.
    #[error("{} is not {expected}; move it away, or name another file", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it would have to be.
        expected: &'static str,
    },
    /// A summary or its journal is not what a sink wrote.
    #[error("{} is not a summary of lc-sink ({reason}); move it away to start a new one", path.display())]
    ForeignSummary {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Two settings exclude each other.
    #[error("{0}")]
    Settings(&'static str),
}

/// Checks the `x-api-key` of every RPC, if a key was configured.
#[derive(Clone)]
struct ApiKey(Option<Arc<str>>);

impl tonic::service::Interceptor for ApiKey {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let sent = request
            .metadata()
            .get("x-api-key")
            .map(|value| value.as_bytes());
        match &self.0 {
            Some(key) if sent != Some(key.as_bytes()) => {
                Err(Status::unauthenticated("authentication failed"))
            }
            _ => Ok(request),
        }
    }
}

async fn keep_summary(recorder: Arc<Recorder>) {
    let mut interval = tokio::time::interval(SUMMARY_INTERVAL);
    loop {
        interval.tick().await;
        if let Err(error) = recorder.save_summary() {
            tracing::error!(%error, "summary not written");
        }
    }
}
