//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Captures packets and puts them into the workers' rings. Started by lc-hunt or systemd.
#[derive(Debug, Parser)]
#[command(name = "lc-capd", version)]
pub struct Arguments {
    /// Configuration (TOML): the effective one that lc-hunt writes, or that of the units
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}
