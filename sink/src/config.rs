//! What a sink is to do. The binary fills it from flags, an embedder by hand.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::{Error, FlowPlan};

/// Everything that can be set. [`Config::default`] listens on 127.0.0.1:55555 in clear text and keeps only totals.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Certificate and key for TLS; `None` for clear text.
    pub tls: Option<TlsFiles>,
    /// The value that every RPC must carry in `x-api-key`.
    pub api_key: Option<String>,
    /// The name under which this processor answers.
    pub processor_id: String,
    /// File of filters to distribute, watched for changes: TOML or YAML by its extension.
    pub filters: Option<PathBuf>,
    /// How long each acknowledgement waits.
    pub ack_delay: Duration,
    /// Which flow-control signal the acknowledgements carry.
    pub flow: FlowPlan,
    /// Where to write one JSON object per packet.
    pub json: Option<Output>,
    /// Whether these objects hold the packet's bytes, and secrets of its TLS session, in base64.
    pub json_data: bool,
    /// pcapng file of all packets; an existing one gets a new section.
    pub write_file: Option<PathBuf>,
    /// Where to write the summary.
    pub summary: Option<Output>,
    /// Only count: batches are not decoded. Excludes `json` and `write_file`.
    pub discard: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 55555).into(),
            tls: None,
            api_key: None,
            processor_id: "lc-sink".into(),
            filters: None,
            ack_delay: Duration::ZERO,
            flow: FlowPlan::Continue,
            json: None,
            json_data: false,
            write_file: None,
            summary: None,
            discard: false,
        }
    }
}

impl Config {
    /// Records everything into `folder`, which must exist: `packets.pcapng`, `packets.jsonl` and `summary.json`. All else
    /// as by default.
    pub fn recording_into(folder: &Path) -> Self {
        Self {
            json: Some(Output::File(folder.join("packets.jsonl"))),
            write_file: Some(folder.join("packets.pcapng")),
            summary: Some(Output::File(folder.join("summary.json"))),
            ..Self::default()
        }
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.discard && (self.json.is_some() || self.write_file.is_some()) {
            return Err(Error::Settings(
                "discard counts without decoding: it excludes JSON and pcapng output",
            ));
        }
        if self.json_data && self.json.is_none() {
            return Err(Error::Settings(
                "json-data asks for bytes in the JSON output, but there is none: add json",
            ));
        }
        if self.json == Some(Output::Stdout) && self.summary == Some(Output::Stdout) {
            return Err(Error::Settings(
                "JSON and summary cannot both go to standard output",
            ));
        }
        Ok(())
    }
}

/// A file, or standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Standard output; written as `-`.
    Stdout,
    /// A file: appended to, or for a summary replaced.
    File(PathBuf),
}

impl FromStr for Output {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" {
            Self::Stdout
        } else {
            Self::File(text.into())
        })
    }
}

/// PEM files for TLS 1.3.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// Certificate chain, the server's own first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
    /// If given, clients must show a certificate that one of these authorities signed.
    pub client_ca: Option<PathBuf>,
}
