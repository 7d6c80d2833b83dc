//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Decodes captured packets and forwards those that the processor's filters ask for. Started by lc-hunt or systemd.
#[derive(Debug, Parser)]
#[command(name = "lc-workerd", version)]
pub struct Arguments {
    /// Configuration (TOML): the effective one that lc-hunt writes, or that of the units
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Which worker of the node this is, from 0
    #[arg(long, value_name = "N")]
    pub index: u16,
}
