//! `lc-chaos`: kills processes of running nodes at random, and checks every packet.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use lc_tests::chaos::{self, Round};

/// Kinds of rounds.
const KINDS: u64 = 4;

/// Kills processes of running nodes at random, and checks every packet.
///
/// Rounds of file replay and of live capture, of packets and of calls, take turns, until each had one and enough processes were
/// killed. Live rounds need root. Exit code 0 if all held, 1 at the first round that did not.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Processes to kill in all
    #[arg(long, default_value_t = 1_000)]
    kills: usize,
    /// Seconds for which each process stands still once, at the beginning; 0: none does
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    stop: u64,
    /// Where all choices come from; the next round's seed is one higher
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut rounds: Vec<Round> = Vec::new();
    let mut killed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut skipped = false;
    if cli.stop > 0 {
        for name in chaos::ALL {
            match chaos::standstill(cli.seed, name, Duration::from_secs(cli.stop)) {
                Ok(round) => println!(
                    "{name} stood still for {} s: {} packets, {} repeated",
                    cli.stop, round.packets, round.repeated
                ),
                Err(failure) => {
                    println!("FAILED {name} stood still for {} s: {failure}", cli.stop);
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    for seed in cli.seed.. {
        let total: usize = killed.values().sum();
        if total >= cli.kills && seed - cli.seed >= KINDS {
            break;
        }
        let (kind, result) = match seed % KINDS {
            1 => ("replay", Some(chaos::replay(seed))),
            2 => ("live", chaos::live(seed)),
            3 => ("calls", Some(chaos::calls(seed))),
            _ => ("live calls", chaos::live_calls(seed)),
        };
        match result {
            None if !skipped => {
                skipped = true;
                println!(
                    "SKIPPED: live rounds; network namespaces can't be made here (root is needed)"
                );
            }
            None => {}
            Some(Ok(round)) => {
                println!(
                    "{kind} round, seed {seed}: {} killed, {} packets, {} repeated",
                    round.killed.len(),
                    round.packets,
                    round.repeated
                );
                for name in &round.killed {
                    *killed.entry(name).or_default() += 1;
                }
                rounds.push(round);
            }
            Some(Err(failure)) => {
                println!("FAILED {kind} round, seed {seed}: {failure}");
                return ExitCode::FAILURE;
            }
        }
    }
    let packets: u64 = rounds.iter().map(|round| round.packets).sum();
    let repeated: u64 = rounds.iter().map(|round| round.repeated).sum();
    println!(
        "{} rounds passed: {} processes killed, {packets} packets, none lost, {repeated} repeated",
        rounds.len(),
        killed.values().sum::<usize>()
    );
    for (name, count) in killed {
        println!("  {name}: {count}");
    }
    ExitCode::SUCCESS
}
