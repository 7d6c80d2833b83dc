//! `lc-conformance`: sends every capture of a folder through lc-hunt and compares what arrived.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lc_tests::conformance::{self, Plan, Verdict};
use lc_tests::{process, traces};

/// Sends every capture of a folder through lc-hunt and compares what arrived, packet by packet.
///
/// A capture is a file with its facts beside it, as `NAME.expected.json`. Exit code 0 if all
/// passed or the folder does not exist, 1 if one failed, 2 if the folder can't be used.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The folder of captures; its default can be set in the environment as LC_HUNT_TRACES
    #[arg(default_value = traces::folder().into_os_string())]
    traces: PathBuf,
    /// The program to test [default: lc-hunt beside this program]
    #[arg(long, value_name = "PROGRAM")]
    hunt: Option<PathBuf>,
    /// Numbers of workers to run each capture with
    #[arg(long, value_delimiter = ',', default_value = "1,4")]
    workers: Vec<u32>,
    /// Only this many captures, spread over the folder
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Only captures whose path contains this
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Runs side by side
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Seconds a run may take
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    limit: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if !cli.traces.is_dir() {
        println!(
            "SKIPPED: there is no folder {}; name one as argument or in LC_HUNT_TRACES",
            cli.traces.display()
        );
        return ExitCode::SUCCESS;
    }
    let mut cases = match conformance::cases(&cli.traces) {
        Ok(cases) => cases,
        Err(error) => {
            eprintln!("lc-conformance: {error}");
            return ExitCode::from(2);
        }
    };
    if let Some(text) = &cli.only {
        cases.retain(|case| case.capture.to_string_lossy().contains(text.as_str()));
    }
    if let Some(count) = cli.sample {
        cases = conformance::sample(cases, count);
    }
    let plan = Plan {
        hunt: cli.hunt.unwrap_or_else(|| process::program("lc-hunt")),
        workers: cli.workers,
        jobs: cli.jobs,
        limit: Duration::from_secs(cli.limit),
    };
    let verdicts = conformance::run(&plan, &cases, |verdict| report(&cli.traces, verdict));
    let failed = verdicts
        .iter()
        .filter(|verdict| verdict.result.is_err())
        .count();
    println!(
        "{} captures: {} runs passed, {failed} failed",
        cases.len(),
        verdicts.len() - failed
    );
    ExitCode::from(u8::from(failed > 0))
}

/// Prints a failure.
fn report(folder: &Path, verdict: &Verdict) {
    if let Err(failure) = &verdict.result {
        let name = verdict.capture.strip_prefix(folder);
        println!(
            "FAILED {} with {} workers: {failure}",
            name.unwrap_or(&verdict.capture).display(),
            verdict.workers
        );
    }
}
