//! A processor under test: `lc-sink` as a program, and what it wrote down.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use crate::node::{Node, PATIENCE};
use crate::process::{self, Outcome, ProcessError, Running};

/// A running processor.
#[derive(Debug)]
pub struct Processor {
    running: Running,
    port: u16,
}

/// A processor that could not be used.
#[derive(Debug, Error)]
pub enum ProcessorError {
    /// It could not be run.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It did not tell its port.
    #[error("lc-sink did not start: {0}")]
    NoPort(String),
    /// What it wrote can't be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Of the file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What it wrote can't be understood.
    #[error("cannot understand {path}: {source}")]
    Understand {
        /// Of the file.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
}

/// Totals that a processor writes down.
#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    /// Batches that arrived.
    pub batches: u64,
    /// Packets in them, repeated ones included.
    pub packets: u64,
    /// Batches whose number had been there before.
    pub batches_again: u64,
    /// Packets in those.
    pub packets_again: u64,
}

/// One packet as `packets.jsonl` tells it.
#[derive(Debug, Clone, Deserialize)]
pub struct Told {
    /// Number of its batch.
    pub sequence: u64,
    /// Capture time.
    pub timestamp_ns: i64,
    /// Where it was captured: of files, their names.
    pub interface_name: String,
    /// Bytes of the packet; none of a message that is told of apart from its packet.
    pub capture_length: u32,
    /// The filters that it matched.
    pub matched_filter_ids: Vec<String>,
    /// What was decoded.
    pub metadata: Option<Metadata>,
    /// Secrets that came with it, where the processor was asked to tell all bytes.
    pub tls_keys: Option<TlsKeys>,
}

/// Secrets of a TLS session, in base64.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TlsKeys {
    /// Random of the ClientHello.
    pub client_random: String,
    /// Source address of the packet.
    pub src_ip: String,
    /// All else: secrets by their names, and what is said of the session.
    #[serde(flatten)]
    pub more: BTreeMap<String, serde_json::Value>,
}

/// The decoded part of a packet.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Metadata {
    /// Source address.
    pub src_ip: String,
    /// Destination address.
    pub dst_ip: String,
    /// Source port.
    pub src_port: u32,
    /// Destination port.
    pub dst_port: u32,
    /// Transport protocol.
    pub transport: String,
    /// What the flow carries.
    pub protocol: String,
    /// What else is told, by its key.
    pub details: BTreeMap<String, String>,
    /// What is told of SIP, and of all packets of calls.
    pub sip: Option<Sip>,
    /// What is told of RTP.
    pub rtp: Option<serde_json::Value>,
    /// What is told of DNS.
    pub dns: Option<Dns>,
    /// What is told of mail.
    pub email: Option<Email>,
}

/// The part of a packet that is told of mail.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Email {
    /// Sender.
    pub mail_from: String,
    /// Recipients.
    pub rcpt_to: Vec<String>,
    /// Subject.
    pub subject: String,
    /// Without brackets.
    pub message_id: String,
    /// How the body begins.
    pub body_preview: String,
}

/// The part of a packet that is told of DNS.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Whether it is a response.
    pub is_response: bool,
    /// Of the response.
    pub response_code: String,
    /// Name of the first question.
    pub query_name: String,
    /// Type of the first question.
    pub query_type: String,
    /// Whether its query was seen.
    pub correlated_query: bool,
    /// The answers.
    pub answers: Vec<DnsAnswer>,
}

/// An answer that is told of.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct DnsAnswer {
    /// Owner.
    pub name: String,
    /// Type.
    pub r#type: String,
    /// As text.
    pub data: String,
}

/// The part of a packet that is told of SIP.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Sip {
    /// Call-ID.
    pub call_id: String,
    /// Method of a request.
    pub method: String,
    /// Status of a response.
    pub response_code: u32,
}

impl Processor {
    /// Starts `lc-sink` on loopback `port` (0: any), writing into `folder`, with further
    /// `arguments`. Returns when it listens.
    ///
    /// # Errors
    ///
    /// [`ProcessorError`]
    pub fn start<A: Into<OsString>>(
        folder: &Path,
        port: u16,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, ProcessorError> {
        Self::start_by(folder, port, arguments, |all| {
            process::start(&process::program("lc-sink"), all)
        })
    }

    /// As [`Processor::start`], on the loopback of the network namespace `namespace`.
    ///
    /// # Errors
    ///
    /// [`ProcessorError`]
    pub fn start_in<A: Into<OsString>>(
        namespace: &str,
        folder: &Path,
        port: u16,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Self, ProcessorError> {
        Self::start_by(folder, port, arguments, |all| {
            process::start_in(namespace, &process::program("lc-sink"), all)
        })
    }

    fn start_by<A: Into<OsString>>(
        folder: &Path,
        port: u16,
        arguments: impl IntoIterator<Item = A>,
        start: impl FnOnce(Vec<OsString>) -> Result<Running, ProcessError>,
    ) -> Result<Self, ProcessorError> {
        let port_file = folder.join("port");
        // A predecessor may have left one.
        let _ = fs::remove_file(&port_file);
        let mut all: Vec<OsString> = vec![
            "--listen".into(),
            format!("127.0.0.1:{port}").into(),
            "--port-file".into(),
            port_file.clone().into(),
            "--write-file".into(),
            folder.join("packets.pcapng").into(),
            "--summary".into(),
            folder.join("summary.json").into(),
        ];
        all.extend(arguments.into_iter().map(Into::into));
        let mut running = start(all)?;
        let port = process::wait_for(PATIENCE, || {
            let text = fs::read_to_string(&port_file).ok()?;
            text.trim().parse().ok()
        });
        match port {
            Some(port) => Ok(Self { running, port }),
            None => {
                let _ = running.ended()?;
                Err(ProcessorError::NoPort(running.stderr()))
            }
        }
    }

    /// Where it listens, as `--processor` takes it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The port where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.running.pid() as i32
    }

    /// Kills it at once, as a crash would.
    pub fn kill(self) {
        drop(self);
    }

    /// Ends it in good order.
    ///
    /// # Errors
    ///
    /// [`ProcessError::TooSlow`]
    pub fn terminate(self) -> Result<Outcome, ProcessError> {
        self.running.signal(nix::sys::signal::Signal::SIGTERM);
        self.running.finish(PATIENCE)
    }
}

/// A filter as a processor's file has it, by id, type and pattern.
pub fn filter(id: impl Display, kind: &str, pattern: impl Display) -> String {
    format!(
        "[[filters]]\nid = \"{id}\"\ntype = \"{kind}\"\npattern = \"{pattern}\"\nenabled = true\n"
    )
}

/// Puts other filters into a processor's file, all at once for whoever reads it.
///
/// # Errors
///
/// What the system says.
pub fn replace_filters(file: &Path, filters: &str) -> io::Result<()> {
    let new = file.with_extension("new");
    fs::write(&new, filters)?;
    fs::rename(&new, file)
}

/// The totals in `folder`.
///
/// # Errors
///
/// [`ProcessorError::Read`], [`ProcessorError::Understand`]
pub fn summary(folder: &Path) -> Result<Summary, ProcessorError> {
    let path = folder.join("summary.json");
    understand(&path, &read(&path)?)
}

/// The packets that `packets.jsonl` in `folder` tells of.
///
/// # Errors
///
/// [`ProcessorError::Read`], [`ProcessorError::Understand`]
pub fn told(folder: &Path) -> Result<Vec<Told>, ProcessorError> {
    let path = folder.join("packets.jsonl");
    read(&path)?
        .lines()
        .map(|line| understand(&path, line))
        .collect()
}

/// What is told of each flow, in the order in which it arrived; flows are in the order of their ends. What has no metadata is left out.
pub fn by_flow(told: &[Told]) -> Vec<Vec<&Told>> {
    let mut flows: BTreeMap<_, Vec<&Told>> = BTreeMap::new();
    for told in told {
        if let Some(metadata) = &told.metadata {
            let mut ends = [
                (&metadata.src_ip, metadata.src_port),
                (&metadata.dst_ip, metadata.dst_port),
            ];
            ends.sort();
            flows.entry(ends).or_default().push(told);
        }
    }
    flows.into_values().collect()
}

/// What arrives in the folder `sink` when `lc-hunt` in `mode` reads all of `files`.
///
/// # Errors
///
/// What failed; that it ended with another code than 0 too.
pub fn told_of_files(
    mode: &str,
    files: &[&Path],
    workers: &str,
    sink: &Path,
    more: &[OsString],
) -> Result<Vec<Told>, String> {
    let mut arguments: Vec<OsString> = vec![mode.into(), "--sink".into(), sink.into()];
    for file in files {
        arguments.extend(["--read-file".into(), OsString::from(file)]);
    }
    arguments.extend(["--workers", workers].map(OsString::from));
    arguments.extend_from_slice(more);
    let outcome = Node::start(arguments)
        .and_then(|node| node.finish(2 * PATIENCE))
        .map_err(|error| error.to_string())?;
    match outcome.code() {
        0 => told(sink).map_err(|error| error.to_string()),
        code => Err(format!(
            "exit code {code}: {}{}",
            outcome.stdout, outcome.stderr
        )),
    }
}

fn read(path: &Path) -> Result<String, ProcessorError> {
    fs::read_to_string(path).map_err(|source| ProcessorError::Read {
        path: path.to_owned(),
        source,
    })
}

fn understand<'a, T: Deserialize<'a>>(path: &Path, text: &'a str) -> Result<T, ProcessorError> {
    serde_json::from_str(text).map_err(|source| ProcessorError::Understand {
        path: path.to_owned(),
        source,
    })
}
