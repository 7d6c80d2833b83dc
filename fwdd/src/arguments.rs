//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Takes packets from the workers to the processor, and filters the other way. Started by lc-hunt or systemd.
#[derive(Debug, Parser)]
#[command(name = "lc-fwdd", version)]
pub struct Arguments {
    /// Configuration (TOML): the effective one that lc-hunt writes, or that of the units
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}
