//! `lc-capd`: captures packets and puts them into the workers' rings. Started by `lc-hunt` or systemd.

#![forbid(unsafe_code)]

use std::os::fd::AsRawFd;
use std::process::ExitCode;

use clap::Parser;
use lc_capd::{Arguments, RunDir};
use lc_daemon::config::{Config, LogLevel};
use lc_daemon::exit::Exit;
use lc_daemon::pinning::{self, Place};
use lc_daemon::signals::Signals;
use lc_daemon::{fd_store, logging, ready, sandbox};

fn main() -> ExitCode {
    let passed = fd_store::inherited();
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            logging::init("lc-capd", LogLevel::Info);
            tracing::error!("{error}");
            return Exit::Refused.into();
        }
    };
    let mut keep = sandbox::inherited_sources(&config);
    keep.extend(passed.iter().map(|(_, descriptor)| descriptor.as_raw_fd()));
    sandbox::close_inherited(&keep);
    logging::init("lc-capd", config.log_level);
    let started = ready::end_with_supervisor().and_then(|()| Signals::install());
    let signals = match started {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Failure.into();
        }
    };
    if let Err(error) = pinning::pin(&config.pinning, Place::Capture) {
        tracing::error!("{error}");
        return Exit::Refused.into();
    }
    let run_dir = match confine(&config) {
        Ok(run_dir) => run_dir,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Refused.into();
        }
    };
    let open = |interfaces: &_, passed: &mut _| lc_capd::open_sources(&config, interfaces, passed);
    match lc_capd::run(&config, run_dir, passed, open, &signals) {
        Ok(exit) => exit.into(),
        Err(error) => {
            tracing::error!("{error}");
            Exit::Refused.into()
        }
    }
}

/// Gives up what capturing does not need. The run directory comes first: the rules hold on to it.
fn confine(config: &Config) -> Result<RunDir, Box<dyn std::error::Error>> {
    let run_dir = RunDir::make(config)?;
    if config.sandbox {
        sandbox::enter(&sandbox::Profile::capture(config))?;
    } else {
        sandbox::left_off();
    }
    Ok(run_dir)
}
