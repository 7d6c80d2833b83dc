//! Traffic in a pcap file with nanosecond times and link type Ethernet.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::{DataLink, TsResolution};
use thiserror::Error;

use super::Frames;

/// A file that could not be written.
#[derive(Debug, Error)]
pub enum PcapError {
    /// The file could not be made, or the disk refused its data.
    #[error("cannot write {path}: {source}")]
    Write {
        /// Of the file.
        path: PathBuf,
        /// What the system or the encoder said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Writes all that `frames` yields to a new file at `path`; returns the number of packets.
///
/// # Errors
///
/// [`PcapError::Write`] where the file can't be made or written.
pub fn write_pcap(frames: &mut impl Frames, path: &Path) -> Result<u64, PcapError> {
    let failed = |source: Box<dyn std::error::Error + Send + Sync>| PcapError::Write {
        path: path.to_owned(),
        source,
    };
    let file = File::create(path).map_err(|error| failed(error.into()))?;
    let header = PcapHeader {
        datalink: DataLink::ETHERNET,
        ts_resolution: TsResolution::NanoSecond,
        ..PcapHeader::default()
    };
    let mut writer = PcapWriter::with_header(BufWriter::new(file), header)
        .map_err(|error| failed(error.into()))?;
    let mut packets = 0;
    while let Some(packet) = frames.next_frame() {
        let record = PcapPacket {
            timestamp: Duration::from_nanos(packet.time_ns),
            orig_len: packet.bytes.len() as u32,
            data: Cow::Borrowed(packet.bytes),
        };
        writer
            .write_packet(&record)
            .map_err(|error| failed(error.into()))?;
        packets += 1;
    }
    writer
        .into_writer()
        .flush()
        .map_err(|error| failed(error.into()))?;
    Ok(packets)
}
