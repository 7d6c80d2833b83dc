//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::{FlowPlan, Output};

/// A small real processor for lc-hunt and lippycat hunters: takes packets, acknowledges them, distributes filters, and
/// writes down what came. Ends on SIGTERM or SIGINT.
#[derive(Debug, Parser)]
#[command(name = "lc-sink", version)]
pub struct Flags {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:55555")]
    pub listen: SocketAddr,

    /// Write the port that was bound to FILE
    #[arg(long, value_name = "FILE")]
    pub port_file: Option<PathBuf>,

    /// Distribute the filters of FILE (.toml, .yaml, .yml) and their changes
    #[arg(long, value_name = "FILE")]
    pub filters: Option<PathBuf>,

    /// Server certificate chain (PEM); turns on TLS 1.3
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of the server certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,

    /// Demand client certificates signed by the authorities in FILE (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    pub tls_client_ca: Option<PathBuf>,

    /// Demand this value as x-api-key on every call
    #[arg(long, value_name = "KEY")]
    pub api_key: Option<String>,

    /// Wait before each acknowledgement, for example 50ms
    #[arg(long, value_name = "DURATION", value_parser = crate::parse_duration, default_value = "0ms")]
    pub ack_delay: Duration,

    /// Flow control to answer: continue, resume, slow, or pause:DURATION@N (PAUSE for DURATION after N batches, then RESUME)
    #[arg(long, value_name = "PLAN", default_value = "continue")]
    pub flow: FlowPlan,

    /// Write one JSON object per packet to FILE, or - for standard output; an existing file is continued
    #[arg(long, value_name = "FILE")]
    pub json: Option<Output>,

    /// Put the packet's bytes, and secrets of its TLS session, into the JSON objects, in base64
    #[arg(long, requires = "json")]
    pub json_data: bool,

    /// Write all packets to FILE as pcapng; an existing file gets a new section
    #[arg(long, value_name = "FILE")]
    pub write_file: Option<PathBuf>,

    /// Keep totals in FILE (JSON), or print them at the end with -; an existing file is continued
    #[arg(long, value_name = "FILE")]
    pub summary: Option<Output>,

    /// Only count: the fastest
    #[arg(long, conflicts_with_all = ["json", "write_file"])]
    pub discard: bool,
}
