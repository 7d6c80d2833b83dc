//! The reference's detection vectors: packets, and what must be found in the last of each vector's.
//!
//! They are read from the file `detection-vectors.json` of the folder that `LC_HUNT_REFERENCE` names, by default
//! `../shared/reference` beside the repository.
//!
//! | class | what it says |
//! |---|---|
//! | parity | the reference finds this, and so must we |
//! | negative | the reference finds nothing, and so must we, or one of the names it lists |
//! | beat | the reference is wrong here |

use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;

const FILE: &str = "detection-vectors.json";
/// The name of nothing.
pub const UNKNOWN: &str = "unknown";

/// One vector.
#[derive(Debug)]
pub struct Vector {
    /// Its name: protocol, `/`, and what it is about.
    pub name: String,
    /// `parity`, `negative` or `beat`.
    pub class: String,
    /// Packets of one detector, in order; the last is the one in question.
    pub packets: Vec<Packet>,
    /// The reference's confidence, between 0 and 1, if it tells one.
    pub confidence: Option<f64>,
    info: Option<String>,
    protocol: String,
    accepted: Vec<String>,
    details: Map<String, Value>,
}

/// One packet of a vector.
#[derive(Debug)]
pub enum Packet {
    /// What stands above the network layer.
    Segment(Segment),
    /// A frame as it was captured.
    Frame {
        /// LINKTYPE_ number.
        link_type: u16,
        /// All of it.
        bytes: Vec<u8>,
    },
}

/// A packet without its headers.
#[derive(Debug)]
pub struct Segment {
    /// What carries it.
    pub carrier: Carrier,
    /// Address and port of the sender.
    pub source: (IpAddr, u16),
    /// Address and port of the receiver.
    pub destination: (IpAddr, u16),
    /// What the carrier carries; for SCTP from the first chunk on, for ICMP the whole message.
    pub payload: Vec<u8>,
    /// TCP's flags by their letters.
    pub tcp_flags: String,
    /// IPv4's type of service or IPv6's traffic class.
    pub traffic_class: u8,
    /// When it comes, in milliseconds after the vector's first packet.
    pub at_ms: u64,
}

/// What a vector's packets are carried by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs)]
pub enum Carrier {
    Tcp,
    Udp,
    Sctp,
    Icmp,
    #[serde(rename = "ICMPv6")]
    IcmpV6,
    Frame,
}

/// Why there are no vectors.
#[derive(Debug, Error)]
pub enum VectorError {
    /// The reference isn't there.
    #[error(
        "no detection vectors: cannot read {path}: {source} (LC_HUNT_REFERENCE names the folder)"
    )]
    Absent {
        /// Of the file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no list of vectors.
    #[error("{path} has no detection vectors: {source}")]
    Unreadable {
        /// Of the file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An address or bytes are no such thing.
    #[error("{path} has a broken vector: {name}")]
    Broken {
        /// Of the file.
        path: PathBuf,
        /// Of the vector.
        name: String,
    },
}

/// Reads all vectors.
///
/// # Errors
///
/// [`VectorError::Absent`] where the reference isn't there, and the others where it is damaged.
pub fn read() -> Result<Vec<Vector>, VectorError> {
    let folder = std::env::var_os("LC_HUNT_REFERENCE").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../shared/reference"
            ))
        },
        PathBuf::from,
    );
    let path = folder.join(FILE);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(source) => return Err(VectorError::Absent { path, source }),
    };
    let entries: Vec<Entry> = match serde_json::from_slice(&text) {
        Ok(entries) => entries,
        Err(source) => return Err(VectorError::Unreadable { path, source }),
    };
    let vector = |entry: Entry| {
        let name = entry.name.clone();
        entry.vector().ok_or_else(|| VectorError::Broken {
            path: path.clone(),
            name,
        })
    };
    entries.into_iter().map(vector).collect()
}

impl Vector {
    /// Whether `protocol` is the right answer ([`UNKNOWN`] where nothing is found), and, where it is the reference's own,
    /// the line for people and the details that `detail` gives by key are, too. The error says what is wrong.
    ///
    /// # Errors
    ///
    /// A line for people.
    pub fn check<'a>(
        &self,
        protocol: &str,
        info: &str,
        detail: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(), String> {
        if !self.accepted.iter().any(|name| name == protocol) {
            return Err(format!("{protocol}, not one of {:?}", self.accepted));
        }
        if protocol != self.protocol || protocol == UNKNOWN {
            return Ok(());
        }
        if self.info.as_ref().is_some_and(|expected| expected != info) {
            return Err(format!("info is {info:?}, not {:?}", self.info));
        }
        for (key, value) in &self.details {
            let (text, found) = (as_text(value), detail(key));
            let same = |found| found == text || value.is_object() && sorted(found) == sorted(&text);
            if !found.is_some_and(same) {
                return Err(format!("{key} is {found:?}, not {text:?}"));
            }
        }
        Ok(())
    }
}

/// A map's lines in an order of their own.
fn sorted(map: &str) -> Vec<&str> {
    let mut lines: Vec<_> = map.lines().collect();
    lines.sort_unstable();
    lines
}

/// As details say it: numbers in decimal, lists separated by commas, maps as lines of `key=value`.
fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(as_text).collect::<Vec<_>>().join(","),
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| format!("{key}={}", as_text(value));
            map.iter().map(entry).collect::<Vec<_>>().join("\n")
        }
        other => other.to_string(),
    }
}

/// A vector as the file has it.
#[derive(Deserialize)]
struct Entry {
    name: String,
    class: String,
    #[serde(flatten)]
    fields: Fields,
    #[serde(default)]
    prelude: Vec<Fields>,
    expect_protocol: String,
    accept_protocols: Option<Vec<String>>,
    #[serde(default)]
    expect_metadata: Map<String, Value>,
    expect_confidence: Option<f64>,
    expect_info: Option<String>,
}

/// What a packet of a vector says of itself.
#[derive(Deserialize)]
struct Fields {
    transport: Option<Carrier>,
    src_ip: Option<String>,
    dst_ip: Option<String>,
    src_port: Option<u16>,
    dst_port: Option<u16>,
    #[serde(default)]
    payload_hex: String,
    frame_hex: Option<String>,
    link_type: Option<u16>,
    #[serde(default)]
    reverse: bool,
    #[serde(default)]
    at_ms: u64,
    tcp_flags: Option<String>,
    #[serde(default)]
    tos: u8,
}

impl Entry {
    fn vector(self) -> Option<Vector> {
        let all = self.prelude.iter().chain([&self.fields]);
        let packets = all
            .map(|fields| fields.packet(&self.fields))
            .collect::<Option<_>>()?;
        Some(Vector {
            packets,
            accepted: self
                .accept_protocols
                .unwrap_or_else(|| vec![self.expect_protocol.clone()]),
            name: self.name,
            class: self.class,
            confidence: self.expect_confidence,
            info: self.expect_info,
            protocol: self.expect_protocol,
            details: self.expect_metadata,
        })
    }
}

impl Fields {
    /// The packet; what a prelude's leaves out is as in its vector's own.
    fn packet(&self, own: &Self) -> Option<Packet> {
        if let (Some(link_type), Some(frame)) = (self.link_type, &self.frame_hex) {
            let bytes = unhex(frame)?;
            return Some(Packet::Frame { link_type, bytes });
        }
        let address = |ours: &Option<String>, theirs: &Option<String>, default: &str| {
            let text = ours.as_deref().or(theirs.as_deref());
            text.unwrap_or(default).parse().ok()
        };
        let mut ends = [
            (
                address(&self.src_ip, &own.src_ip, "192.0.2.10")?,
                self.src_port.or(own.src_port)?,
            ),
            (
                address(&self.dst_ip, &own.dst_ip, "198.51.100.20")?,
                self.dst_port.or(own.dst_port)?,
            ),
        ];
        if self.reverse {
            ends.reverse();
        }
        Some(Packet::Segment(Segment {
            carrier: self.transport.or(own.transport)?,
            source: ends[0],
            destination: ends[1],
            payload: unhex(&self.payload_hex)?,
            tcp_flags: self.tcp_flags.clone().unwrap_or_else(|| "PA".into()),
            traffic_class: self.tos,
            at_ms: self.at_ms,
        }))
    }
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let number = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    rest.is_empty()
        .then(|| pairs.iter().map(number).collect())?
}
