//! `lc-exchange`: real calls through a real proxy, and whether every packet of them arrives.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use lc_tests::exchange::{self, Exchange, Failure, Transport};

/// How often calls may fail, on a busy machine.
const TRIES: u32 = 3;

/// Has SIPp call SIPp through Kamailio and rtpengine, with media, and compares what arrives with what tcpdump saw.
///
/// Twice: with all calls wanted, and with those of one user. Exit code 0 if all held, 1 at the first that did not. Needs root, and the Debian packages
/// sip-tester, kamailio, rtpengine-daemon and tcpdump.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Calls over each transport, a multiple of ten
    #[arg(long, default_value_t = 100)]
    calls: u32,
    /// Calls that begin in a second, over each transport
    #[arg(long, default_value_t = 5)]
    rate: u32,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(missing) = exchange::missing() {
        println!("SKIPPED: {missing}");
        return ExitCode::SUCCESS;
    }
    for (what, is_filtered) in [("all calls", false), ("the calls of one user", true)] {
        let exchange = Exchange {
            calls: cli.calls,
            transports: vec![Transport::Udp, Transport::Tcp],
            rate: cli.rate,
            is_filtered,
        };
        let mut tries = 1;
        let outcome = loop {
            match exchange.run() {
                Some(Err(failure @ Failure::Calls(_))) if tries < TRIES => {
                    println!("{what}, once more: {failure}");
                    tries += 1;
                }
                outcome => break outcome,
            }
        };
        match outcome {
            None => {
                println!("SKIPPED: network namespaces can't be made here (root is needed)");
                return ExitCode::SUCCESS;
            }
            Some(Ok(report)) => println!("{what}: {report}"),
            Some(Err(failure)) => {
                println!("FAILED {what}: {failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
