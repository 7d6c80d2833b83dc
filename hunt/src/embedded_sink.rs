//! The processor that runs inside `lc-hunt` with `--sink DIR`: on loopback, on a free port, in a thread of its own.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use lc_daemon::config::EmbeddedSink as Settings;
use lc_sink::{Output, Sink};
use tokio::runtime::{Builder, Runtime};

/// A running sink. It must be ended with [`EmbeddedSink::end`] for its files to be complete.
pub struct EmbeddedSink {
    runtime: Runtime,
    sink: Sink,
}

/// Why there is no sink.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedSinkError {
    /// The directory cannot be used.
    #[error("--sink {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It is a file.
    #[error("--sink: {path} is no directory; name one that exists or can be made")]
    NoDirectory {
        /// The path.
        path: PathBuf,
    },
    /// It holds the packets of an earlier run.
    #[error(
        "--sink: {path} exists already; name another directory, or move the files of the earlier run away"
    )]
    Occupied {
        /// The file.
        path: PathBuf,
    },
    /// No threads.
    #[error("the embedded sink cannot be started: {0}")]
    Runtime(io::Error),
    /// The sink says why.
    #[error("the embedded sink: {0}")]
    Sink(#[from] lc_sink::Error),
}

/// All packets as pcapng.
const PACKETS: &str = "packets.pcapng";

/// One JSON object per packet.
const LINES: &str = "packets.jsonl";

/// Totals.
const SUMMARY: &str = "summary.json";

/// Whether the sink may write into a directory: it must be free of an earlier run's files.
pub fn check_dir(dir: &Path) -> Result<(), EmbeddedSinkError> {
    if dir.exists() && !dir.is_dir() {
        return Err(EmbeddedSinkError::NoDirectory {
            path: dir.to_owned(),
        });
    }
    match [PACKETS, LINES, SUMMARY]
        .into_iter()
        .map(|name| dir.join(name))
        .find(|path| path.exists())
    {
        Some(path) => Err(EmbeddedSinkError::Occupied { path }),
        None => Ok(()),
    }
}

impl EmbeddedSink {
    /// Starts it. It writes into the directory of its settings, which is made if need be.
    pub fn start(settings: &Settings) -> Result<Self, EmbeddedSinkError> {
        check_dir(&settings.dir)?;
        let dir = &settings.dir;
        fs::create_dir_all(dir).map_err(|source| EmbeddedSinkError::Directory {
            path: dir.clone(),
            source,
        })?;
        let config = lc_sink::Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            filters: settings.filters.clone(),
            write_file: Some(dir.join(PACKETS)),
            json: Some(Output::File(dir.join(LINES))),
            summary: Some(Output::File(dir.join(SUMMARY))),
            ..lc_sink::Config::default()
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sink")
            .enable_all()
            .build()
            .map_err(EmbeddedSinkError::Runtime)?;
        let sink = runtime.block_on(Sink::start(config))?;
        Ok(EmbeddedSink { runtime, sink })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.sink.local_addr()
    }

    /// Ends it and completes its files.
    pub fn end(self) -> Result<(), EmbeddedSinkError> {
        self.runtime.block_on(self.sink.shutdown())?;
        Ok(())
    }
}
