//! The worker process.

#![forbid(unsafe_code)]

use clap::Parser;
use lc_daemon::attach::{AttachError, WorkerRegions};
use lc_daemon::config::Config;
use lc_daemon::exit::Exit;
use lc_daemon::signals::{Signals, Stop};
use lc_daemon::{logging, ready};
use lc_workerd::worker::{Drained, Worker};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Decodes captured packets and forwards those that the processor's filters ask for.
#[derive(Parser)]
#[command(name = "lc-workerd", version)]
struct Arguments {
    /// Configuration file of the node.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Which worker of the node this is, from 0.
    #[arg(long, value_name = "N")]
    index: u16,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    run(&arguments)
        .unwrap_or_else(|(exit, reason)| {
            tracing::error!("{reason}");
            exit
        })
        .into()
}

fn run(arguments: &Arguments) -> Result<Exit, (Exit, String)> {
    let failure = |reason: String| (Exit::Failure, reason);
    ready::end_with_supervisor().map_err(|error| failure(error.to_string()))?;
    let config = Config::load(&arguments.config).map_err(|error| {
        logging::init("lc-workerd", lc_daemon::config::LogLevel::Info);
        (Exit::Refused, error.to_string())
    })?;
    logging::init("lc-workerd", config.log_level);
    let signals = Signals::install().map_err(|error| failure(error.to_string()))?;
    let stop = signals.stop();
    let Some(regions) = attach(&config.runtime_dir, arguments.index, &signals, &stop)? else {
        return Ok(Exit::Ok);
    };
    let worker = Worker::new(
        regions,
        arguments.index,
        config.no_filter_policy,
        &config.quarantine_dir,
    )
    .map_err(|error| failure(error.to_string()))?;
    ready::ready("working");
    let drained = worker.run(&stop, config.shutdown_timeout);
    ready::stopping();
    if drained == Drained::Orphaned {
        let reason = "lc-capd has begun anew; attaching to its shared memory takes a new start";
        return Err(failure(reason.to_owned()));
    }
    if drained == Drained::Late {
        let bound = config.shutdown_timeout;
        tracing::warn!(
            ?bound,
            "packets remain in the rx rings: the time to drain them is over"
        );
    }
    Ok(Exit::Ok)
}

/// Waits for capd, and says so; `None` when asked to stop meanwhile.
fn attach(
    run_dir: &Path,
    index: u16,
    signals: &Signals,
    stop: &Stop,
) -> Result<Option<WorkerRegions>, (Exit, String)> {
    let mut pause = Duration::from_millis(20);
    let mut said = false;
    while !stop.requested() {
        match WorkerRegions::attach(run_dir, index) {
            Ok(regions) => return Ok(Some(regions)),
            Err(AttachError::Socket { .. }) => {}
            Err(error) => return Err((Exit::Refused, error.to_string())),
        }
        if !said && pause > Duration::from_millis(500) {
            tracing::info!(run_dir = %run_dir.display(), "waiting for lc-capd");
            ready::status("waiting for lc-capd");
            said = true;
        }
        signals.wait(pause);
        pause = (pause * 2).min(Duration::from_secs(2));
    }
    Ok(None)
}
