//! `lc-outage`: keeps the processor away from a running node, and checks every packet.

#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lc_tests::outage::Outage;

/// Keeps the processor away from a running node, and checks every packet.
///
/// Three times: with room for everything; with the forwarder killed and a segment destroyed meanwhile; and with a disk
/// that fills up. Exit code 0 if all held, 1 at the first that did not. Needs root.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Seconds that the processor is away, the first time; the others take at most a minute
    #[arg(long, default_value_t = 600)]
    seconds: u64,
    /// Frames per second, one in four of which is forwarded
    #[arg(long, default_value_t = 50_000)]
    rate: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let long = Outage {
        away: Duration::from_secs(cli.seconds),
        rate: cli.rate,
        disk_mib: 1024,
        tmpfs_mib: None,
        damage: false,
    };
    let short = Outage {
        away: long.away.min(Duration::from_secs(60)),
        ..long
    };
    // About 100 bytes each.
    let expected_mib = (short.rate / 4 * short.away.as_secs() * 100) >> 20;
    let damaged = Outage {
        damage: true,
        // So that there are several segments.
        disk_mib: 16 + 2 * expected_mib,
        ..short
    };
    let full = Outage {
        // So that it fills.
        tmpfs_mib: Some((expected_mib * 9 / 10).clamp(2, 64)),
        ..short
    };
    for (what, outage) in [
        ("processor away".to_owned(), long),
        (
            "forwarder killed and a segment destroyed".to_owned(),
            damaged,
        ),
        (
            format!("disk of {} MiB", full.tmpfs_mib.unwrap_or_default()),
            full,
        ),
    ] {
        let seconds = outage.away.as_secs();
        match outage.run() {
            None => {
                println!("SKIPPED: network namespaces can't be made here (root is needed)");
                return ExitCode::SUCCESS;
            }
            Some(Ok(report)) => println!("{what}, {seconds} s: {report}"),
            Some(Err(failure)) => {
                println!("FAILED {what}, {seconds} s: {failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
