//! What can be wrong with a source.

use std::io;
use std::path::PathBuf;

use crate::bpf::FilterError;

/// An error of a source. Each names the file or interface and the cause.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A capture file cannot be opened.
    #[error("cannot open capture file {}: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The input was read by a capd that died, and cannot be read again.
    #[error("{} is a pipe: what the lc-capd that died had read of it is gone, so the replay cannot go on", path.display())]
    PipeReadBefore {
        /// The pipe.
        path: PathBuf,
    },
    /// Not a pcap or pcapng file, compressed or not.
    #[error("{} is not a capture file: {cause} (pcap and pcapng are read, also compressed with gzip)", path.display())]
    NotACapture {
        /// The file.
        path: PathBuf,
        /// What its first bytes are instead.
        cause: String,
    },
    /// The file ends in the middle of something. Everything before was delivered.
    #[error("capture file {} is truncated: it ends inside {what} at byte {offset}; {packets} packets before that were read", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Byte offset of what is incomplete (after decompression).
        offset: u64,
        /// What is incomplete.
        what: &'static str,
        /// Packets read from this file.
        packets: u64,
    },
    /// The file contradicts itself. Everything before was delivered.
    #[error("capture file {} is damaged at byte {offset}: {cause}; {packets} packets before that were read", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Byte offset of the record or block at fault (after decompression).
        offset: u64,
        /// What is wrong.
        cause: String,
        /// Packets read from this file.
        packets: u64,
    },
    /// The file system failed while reading. Everything before was delivered.
    #[error("reading capture file {} failed at byte {offset}: {source}; {packets} packets before that were read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Byte offset (after decompression).
        offset: u64,
        /// The system's answer.
        source: io::Error,
        /// Packets read from this file.
        packets: u64,
    },
    /// The interface does not exist.
    #[error("no such network interface: {name} (`lc-hunt list interfaces` shows those that exist)")]
    NoSuchInterface {
        /// As configured.
        name: String,
    },
    /// The process may not capture.
    #[error(
        "no permission to capture on {name}: {cause} (run as root, or give lc-capd CAP_NET_RAW, and CAP_NET_ADMIN for promiscuous mode)"
    )]
    Permission {
        /// The interface.
        name: String,
        /// libpcap's message.
        cause: String,
    },
    /// The capture filter does not compile for the interface.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// libpcap refuses the interface for another reason.
    #[error("cannot capture on {name}: {cause}")]
    Device {
        /// The interface.
        name: String,
        /// libpcap's message.
        cause: String,
    },
}

impl SourceError {
    /// Whether the input data is at fault, rather than the configuration or the machine: what was good has been delivered, and the source
    /// can be polled further.
    pub fn is_data(&self) -> bool {
        matches!(
            self,
            Self::Truncated { .. } | Self::Corrupt { .. } | Self::Read { .. }
        )
    }
}
