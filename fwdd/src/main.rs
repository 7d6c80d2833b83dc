//! `lc-fwdd`: runs the forwarder of one node.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Parser;
use lc_daemon::attach::AttachError;
use lc_daemon::config::Config;
use lc_daemon::exit::Exit;
use lc_daemon::pinning::{self, Place};
use lc_daemon::signals::Signals;
use lc_daemon::{logging, ready, sandbox};
use lc_fwdd::{Arguments, ForwarderError, Wish};
use tokio::sync::watch;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => {
            logging::init("lc-fwdd", lc_daemon::config::LogLevel::Info);
            tracing::error!("{error}");
            return Exit::Refused.into();
        }
    };
    sandbox::close_inherited(&[]);
    logging::init("lc-fwdd", config.log_level);
    forward(config).into()
}

fn forward(config: Config) -> Exit {
    let signals = match ready::end_with_supervisor().and_then(|()| Signals::install()) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return Exit::Failure;
        }
    };
    if let Err(error) = pinning::pin(&config.pinning, Place::Forwarder) {
        tracing::error!("{error}");
        return Exit::Refused;
    }
    let disk = match lc_fwdd::open_directory(&config) {
        Ok(disk) => disk,
        Err(error) => {
            tracing::error!("{error}");
            return Exit::Refused;
        }
    };
    // Before any thread is started.
    if !config.sandbox {
        sandbox::left_off();
    } else if let Err(error) = sandbox::enter(&sandbox::Profile::forwarder(&config)) {
        tracing::error!("{error}");
        return Exit::Refused;
    }
    let wish = match watch_signals(signals) {
        Ok(wish) => wish,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return Exit::Failure;
        }
    };
    let processors = config.processor_list();
    let ready = || ready::ready(&format!("connecting to {processors}"));
    match lc_fwdd::run(config, disk, wish, ready) {
        Ok(left) => {
            if left.packets_on_disk > 0 {
                tracing::info!(
                    packets = left.packets_on_disk,
                    "packets wait on disk for the next start"
                );
            }
            if left.unacked_batches > 0 {
                tracing::warn!(
                    batches = left.unacked_batches,
                    packets = left.unacked_packets,
                    "ended with packets that the processor has not acknowledged; they are still in shared memory"
                );
            }
            Exit::Ok
        }
        Err(error) => {
            tracing::error!("{error}");
            match error {
                ForwarderError::Transport(_) | ForwarderError::DiskBuffer(_) => Exit::Refused,
                // Another layout: a new start would meet it again.
                ForwarderError::Attach(AttachError::Region(_)) => Exit::Refused,
                _ => Exit::Failure,
            }
        }
    }
}

/// Starts a thread that turns SIGTERM, SIGINT and SIGHUP into the watched value.
fn watch_signals(signals: Signals) -> std::io::Result<watch::Receiver<Wish>> {
    let (sender, wish) = watch::channel(Wish::default());
    thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            while !signals.stop().requested() {
                signals.wait(Duration::from_secs(3600));
                if signals.take_reload() {
                    sender.send_modify(|wish| wish.reloads += 1);
                }
            }
            ready::stopping();
            sender.send_modify(|wish| wish.stop = true);
            // Keeps the handlers, and the sender's end, until the process ends.
            loop {
                signals.wait(Duration::from_secs(3600));
            }
        })?;
    Ok(wish)
}
