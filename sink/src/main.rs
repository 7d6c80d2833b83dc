//! `lc-sink`: the processor of [`lc_sink`] as a program.
#![forbid(unsafe_code)]

use std::error::Error;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use lc_sink::{Config, Flags, Sink, TlsFiles};
use tokio::signal::unix::{Signal, SignalKind, signal};

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
