//! `lc-capd`: captures packets and puts them into the workers' rings. Started by `lc-hunt` or systemd.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use lc_daemon::config::{Config, LogLevel};
use lc_daemon::exit::Exit;
use lc_daemon::signals::Signals;
use lc_daemon::{fd_store, logging, ready};

/// The capture daemon of lc-hunt.
#[derive(Parser)]
#[command(name = "lc-capd", version)]
struct Arguments {
    /// Effective configuration (TOML), as lc-hunt writes it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

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
    logging::init("lc-capd", config.log_level);
    let started = ready::end_with_supervisor().and_then(|()| Signals::install());
    let signals = match started {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Failure.into();
        }
    };
    let open = |interfaces: &_| lc_capd::open_sources(&config, interfaces);
    match lc_capd::run(&config, passed, open, &signals) {
        Ok(exit) => exit.into(),
        Err(error) => {
            tracing::error!("{error}");
            Exit::Refused.into()
        }
    }
}
