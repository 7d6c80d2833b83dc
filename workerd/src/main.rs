//! The worker process.

#![forbid(unsafe_code)]

use clap::Parser;
use lc_daemon::config::{Config, Source};
use lc_daemon::exit::Exit;
use lc_daemon::pinning::{self, Allowed, Place};
use lc_daemon::signals::Signals;
use lc_daemon::{logging, ready, sandbox};
use lc_workerd::arguments::Arguments;
use lc_workerd::start::{self, Started};
use lc_workerd::worker::{Drained, Worker};
use std::process::ExitCode;

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
    sandbox::close_inherited(&[]);
    ready::end_with_supervisor().map_err(|error| failure(error.to_string()))?;
    let config = Config::load(&arguments.config).map_err(|error| {
        logging::init("lc-workerd", lc_daemon::config::LogLevel::Info);
        (Exit::Refused, error.to_string())
    })?;
    logging::init("lc-workerd", config.log_level);
    let cpus = Allowed::now().map_err(|error| failure(error.to_string()))?;
    pinning::pin(&config.pinning, Place::Worker(arguments.index))
        .map_err(|error| (Exit::Refused, error.to_string()))?;
    let signals = Signals::install().map_err(|error| failure(error.to_string()))?;
    let stop = signals.stop();
    let started = start::attach_and_confine(&config, arguments.index, &signals, cpus)
        .map_err(|error| (error.exit(), error.to_string()))?;
    let Some(Started {
        regions,
        condemned,
        compiler,
        work,
    }) = started
    else {
        return Ok(Exit::Ok);
    };
    let waits = matches!(config.source, Source::Files(_));
    let worker = Worker::new(
        regions,
        condemned,
        compiler,
        work,
        config.no_filter_policy,
        waits,
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
