//! `lc-sink`: the processor of [`lc_sink`] as a program.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lc_sink::{Config, FlowPlan, Output, Sink, TlsFiles};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// A small real processor for lc-hunt and lippycat hunters: takes packets, acknowledges them, distributes filters, and
/// writes down what came. Ends on SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(version)]
struct Flags {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:55555")]
    listen: SocketAddr,

    /// Write the port that was bound to FILE
    #[arg(long, value_name = "FILE")]
    port_file: Option<PathBuf>,

    /// Distribute the filters of FILE (.toml, .yaml, .yml) and their changes
    #[arg(long, value_name = "FILE")]
    filters: Option<PathBuf>,

    /// Server certificate chain (PEM); turns on TLS 1.3
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the server certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Demand client certificates signed by the authorities in FILE (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_client_ca: Option<PathBuf>,

    /// Demand this value as x-api-key on every call
    #[arg(long, value_name = "KEY")]
    api_key: Option<String>,

    /// Wait before each acknowledgement, for example 50ms
    #[arg(long, value_name = "DURATION", value_parser = lc_sink::parse_duration, default_value = "0ms")]
    ack_delay: Duration,

    /// Flow control to answer: continue, resume, slow, or pause:DURATION@N (PAUSE for DURATION after N batches, then RESUME)
    #[arg(long, value_name = "PLAN", default_value = "continue")]
    flow: FlowPlan,

    /// Write one JSON object per packet to FILE, or - for standard output; an existing file is continued
    #[arg(long, value_name = "FILE")]
    json: Option<Output>,

    /// Put the packet's bytes into the JSON objects, in base64
    #[arg(long, requires = "json")]
    json_data: bool,

    /// Write all packets to FILE as pcapng; an existing file gets a new section
    #[arg(long, value_name = "FILE")]
    write_file: Option<PathBuf>,

    /// Keep totals in FILE (JSON), or print them at the end with -; an existing file is continued
    #[arg(long, value_name = "FILE")]
    summary: Option<Output>,

    /// Only count: the fastest
    #[arg(long, conflicts_with_all = ["json", "write_file"])]
    discard: bool,
}

/// Exit code of a run that ended with an error.
const FAILED: u8 = 1;

/// Exit code of a run that was refused at start.
const REFUSED: u8 = 78;

fn main() -> ExitCode {
    let flags = Flags::parse();
    log_to_stderr();
    match run(flags) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, error)) => {
            tracing::error!("{error}");
            ExitCode::from(code)
        }
    }
}

#[tokio::main]
async fn run(flags: Flags) -> Result<(), (u8, Box<dyn Error>)> {
    let refused = |error: Box<dyn Error>| (REFUSED, error);
    let mut termination = Termination::watch().map_err(|error| refused(error.into()))?;
    let tls = match (flags.tls_cert, flags.tls_key) {
        (Some(cert), Some(key)) => Some(TlsFiles {
            cert,
            key,
            client_ca: flags.tls_client_ca,
        }),
        _ => None,
    };
    let sink = Sink::start(Config {
        listen: flags.listen,
        tls,
        api_key: flags.api_key,
        filters: flags.filters,
        ack_delay: flags.ack_delay,
        flow: flags.flow,
        json: flags.json,
        json_data: flags.json_data,
        write_file: flags.write_file,
        summary: flags.summary,
        discard: flags.discard,
        ..Config::default()
    })
    .await
    .map_err(|error| refused(error.into()))?;
    if let Some(path) = &flags.port_file {
        write_port(path, sink.local_addr().port())
            .map_err(|error| refused(format!("cannot write {}: {error}", path.display()).into()))?;
    }
    termination.signalled().await;
    // A second signal does not wait for streams that will not end.
    let summary = tokio::select! {
        summary = sink.shutdown() => summary.map_err(|error| (FAILED, error.into()))?,
        () = termination.signalled() => {
            tracing::warn!("ended without a final summary");
            return Ok(());
        }
    };
    let totals = &summary.totals;
    tracing::info!(
        batches = totals.batches,
        packets = totals.packets,
        again = totals.batches_again,
        "ended"
    );
    Ok(())
}

/// Replaces the file as a whole, so that who waits for it never reads half a number.
fn write_port(path: &Path, port: u16) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, format!("{port}\n"))?;
    fs::rename(&new, path)
}

/// The signals that end the program.
struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    fn watch() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next one.
    async fn signalled(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn log_to_stderr() {
    let level = tracing_subscriber::EnvFilter::try_from_env("LOG_LEVEL")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(level);
    if std::io::stderr().is_terminal() {
        log.init()
    } else {
        log.json().flatten_event(true).init()
    }
}
