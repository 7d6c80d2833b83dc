//! `lc-compare`: tells whether a capture arrived exactly as it was.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use lc_tests::capture::{self, Capture, CaptureError};
use lc_tests::compare::Difference;

/// Tells whether a capture arrived exactly as it was: bytes, lengths, times and link types of all
/// packets, each flow in its order. Exit code 0 if so, 1 if not, 2 if a file can't be read.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// What was sent: pcap or pcapng, gzip allowed; several files follow each other
    #[arg(required = true, value_name = "EXPECTED")]
    expected: Vec<PathBuf>,
    /// What arrived: the `packets.pcapng` of lc-sink, or any capture
    #[arg(long, value_name = "FILE")]
    arrived: PathBuf,
}

fn main() -> ExitCode {
    match compare(&Cli::parse()) {
        Ok(difference) => {
            println!("{difference}");
            ExitCode::from(u8::from(!difference.is_none()))
        }
        Err(error) => {
            eprintln!("lc-compare: {error}");
            ExitCode::from(2)
        }
    }
}

fn compare(cli: &Cli) -> Result<Difference, CaptureError> {
    let mut expected = Vec::new();
    for path in &cli.expected {
        expected.extend(readable(path)?.packets);
    }
    let arrived = readable(&cli.arrived)?;
    Ok(Difference::between(&expected, &arrived.packets))
}

/// Reads `path`, and says where it is damaged.
fn readable(path: &Path) -> Result<Capture, CaptureError> {
    let capture = capture::read(path)?;
    if let Some(damage) = &capture.damage {
        eprintln!("lc-compare: {} {damage}", path.display());
    }
    Ok(capture)
}
