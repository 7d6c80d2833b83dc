//! `lc-hunt`: what a person types.
//!
//! With a mode (`lc-hunt hunt ...`) it resolves the configuration, runs the daemons as children and ends with them.
//! The other commands look at the machine and the configuration and start nothing.

#![forbid(unsafe_code)]

mod buffer;
mod check;
mod command_line;
mod embedded_sink;
mod interfaces;
mod pages;
mod progress;
mod reference;
mod resolve;
mod run;
mod run_dir;
mod tls_files;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use command_line::Order;
use lc_daemon::config::{Config, LogLevel, default_runtime_dir};
use lc_daemon::exit::Exit;
use lc_daemon::logging;
use lc_hunt::status::Status;
use lc_hunt::upgrade::Meeting;

/// The program's name in log lines.
const PROGRAM: &str = "lc-hunt";

fn main() -> ExitCode {
    if std::env::args_os().len() < 2 {
        // Like lippycat: no arguments are a question, not a mistake.
        print!("{}", command_line::help());
        return Exit::Ok.into();
    }
    let order = match command_line::parse(std::env::args_os()) {
        Ok(order) => order,
        Err(error) => {
            // Help and version come this way too, and go to standard output. A closed output is nothing to report.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(Exit::Usage.code()));
        }
    };
    let exit = match order {
        Order::Run(flags) => match resolve::resolve(&flags)
            .and_then(|values| Ok((Config::from_values(&values)?, values)))
        {
            Ok((config, values)) => {
                logging::init(PROGRAM, config.log_level);
                flags.warn_deprecated();
                for line in values.without_effect() {
                    tracing::warn!("{line}");
                }
                run::run(config, values)
            }
            Err(error) => refuse(&error),
        },
        Order::ShowConfig(flags) => match resolve::resolve(&flags) {
            Ok(values) => {
                print!("{}", values.describe());
                Exit::Ok
            }
            Err(error) => refuse(&error),
        },
        Order::Check { flags, json } => check::check(&flags, json),
        Order::ListInterfaces { json } => {
            logging::init(PROGRAM, LogLevel::Info);
            interfaces::list(json)
        }
        Order::UpgradeCheck { runtime_dir } => {
            upgrade_check(&runtime_dir.unwrap_or_else(default_runtime_dir))
        }
        Order::Drain { runtime_dir, time } => {
            drain(&runtime_dir.unwrap_or_else(default_runtime_dir), time)
        }
        Order::Status { runtime_dir, json } => {
            status(&runtime_dir.unwrap_or_else(default_runtime_dir), json)
        }
        Order::Buffer { dir, look } => {
            logging::init(PROGRAM, LogLevel::Info);
            buffer::look(&dir, &look)
        }
        Order::Pages { dir } => {
            logging::init(PROGRAM, LogLevel::Info);
            match pages::write(&dir) {
                Ok(()) => Exit::Ok,
                Err(error) => {
                    tracing::error!("{}: {error}", dir.display());
                    Exit::Failure
                }
            }
        }
        Order::Reference => {
            print!("{}", reference::markdown());
            Exit::Ok
        }
    };
    exit.into()
}

/// Says why nothing is started.
fn refuse(error: &dyn std::error::Error) -> Exit {
    logging::init(PROGRAM, LogLevel::Info);
    tracing::error!("{error}");
    Exit::Refused
}

/// Says whether this release understands the nodes below `base`.
fn upgrade_check(base: &Path) -> Exit {
    logging::init(PROGRAM, LogLevel::Info);
    let met = match Meeting::all(base) {
        Ok(met) => met,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Failure;
        }
    };
    let text: String = met.iter().map(|node| format!("{node}\n")).collect();
    // A closed output is nothing to report.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match met.iter().all(|node| node.running.is_ok()) {
        true => Exit::Ok,
        false => Exit::Failure,
    }
}

/// Stops the capture of the nodes below `base`, and prints their ledgers. Fails when something waits after `time`.
fn drain(base: &Path, time: Duration) -> Exit {
    logging::init(PROGRAM, LogLevel::Info);
    let drained = match lc_hunt::drain::drain(base, time) {
        Ok(drained) => drained,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Failure;
        }
    };
    let text: String = drained
        .iter()
        .map(|node| format!("{}\n{}", node.run_dir.display(), node.ledger))
        .collect();
    // A closed output is nothing to report.
    let _ = std::io::stdout().write_all(text.as_bytes());
    match drained.iter().all(|node| node.ledger.quiet) {
        true => Exit::Ok,
        false => Exit::Failure,
    }
}

/// Prints what the nodes below `base` do. Fails when a ledger does not balance.
fn status(base: &Path, json: bool) -> Exit {
    logging::init(PROGRAM, LogLevel::Info);
    let found = match Status::of_all(base) {
        Ok(found) => found,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Failure;
        }
    };
    let all = found.len();
    let readable = found
        .into_iter()
        .filter_map(|node| node.inspect_err(|error| tracing::error!("{error}")).ok());
    let nodes: Vec<Status> = readable.collect();
    let text = if json {
        serde_json::to_string_pretty(&nodes).unwrap_or_default() + "\n"
    } else {
        nodes.iter().map(|node| format!("{node}\n")).collect()
    };
    // A closed output is nothing to report.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if nodes.len() == all && nodes.iter().all(|node| node.ledger.balanced) {
        Exit::Ok
    } else {
        Exit::Failure
    }
}
