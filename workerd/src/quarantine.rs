//! Packets that kill workers.
//!
//! A worker notes the packet in its hands in shared memory. When its predecessor died with one in its hands, that packet
//! is a *suspect*; when the next one dies of it too, it is *condemned*: it is kept in a pcapng file of its own, passed
//! over, and counted, be it new or held until there is a verdict on its call. A process that is killed from outside at the same packet twice in a row would condemn it as well;
//! then a packet is missing, but it is in a file, and counted.
//!
//! All of this happens at start, before anything parses a packet: the bytes are only copied.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lc_daemon::attach::WorkerRegions;
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use shm_layout::packet::{Packet, PacketHeader};
use shm_layout::region::OwnedRegion;
use shm_layout::ring::RingReader;
use shm_layout::worker::{InProgress, Worker};

use crate::desk::hand;

/// Deaths by the same packet in a row that condemn it.
const DEATHS: u64 = 2;

/// Most files in the folder. What is condemned beyond that is passed over and counted, but not kept.
const MOST_FILES: usize = 1_000;

/// A condemned packet can't be kept; it is passed over all the same.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// The folder is full.
    #[error("{0} holds {MOST_FILES} packets already: move them away")]
    Full(PathBuf),
    /// The file can't be written.
    #[error("{path}: {source}")]
    File {
        /// Of the file or its folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The packet can't be written as pcapng.
    #[error("{path}: {source}")]
    Format {
        /// Of the file.
        path: PathBuf,
        /// The cause.
        source: pcap_file::PcapError,
    },
}

/// The packet that this worker must pass over, if its predecessors died of it: kept in a file, and named.
pub(crate) fn put_aside(
    regions: &mut WorkerRegions,
    worker: u16,
    folder: &Path,
) -> Option<InProgress> {
    let condemned = judge(&regions.worker)?;
    let found = find(regions, condemned);
    match found.map(|packet| keep(folder, worker, packet)).transpose() {
        Ok(Some(path)) => {
            tracing::error!(path = %path.display(), "a packet has killed this worker's predecessors; it is kept there and passed over");
        }
        Ok(None) => {
            regions.worker.set_suspect(None);
            return None;
        }
        Err(error) => {
            tracing::error!(%error, "a packet has killed this worker's predecessors; it is passed over and could not be kept");
        }
    }
    Some(condemned)
}

/// The packet of which two predecessors in a row have died. Notes the deaths.
fn judge(region: &OwnedRegion<Worker>) -> Option<InProgress> {
    let in_progress = region.in_progress();
    if let Some(packet) = in_progress {
        let deaths = match region.suspect() {
            Some((suspect, deaths)) if suspect == packet => deaths + 1,
            _ => 1,
        };
        region.set_suspect(Some((packet, deaths)));
        region.set_in_progress(None);
    }
    let (suspect, deaths) = region.suspect()?;
    (deaths >= DEATHS).then_some(suspect)
}

/// A copy of a condemned packet, from its rx ring or the log of held packets, which are left as they were; none if it is in neither
/// any more.
fn find(regions: &mut WorkerRegions, condemned: InProgress) -> Option<(PacketHeader, Vec<u8>)> {
    let ring = regions.rx.get_mut(usize::from(condemned.queue))?;
    find_received(ring, condemned).or_else(|| {
        // A predecessor may have committed more than it could publish.
        let commit = regions.worker.commit().ok()?;
        regions.held.resume(commit.held()).ok()?;
        hand::find_held(&regions.held, condemned)
    })
}

fn find_received(ring: &mut RingReader, condemned: InProgress) -> Option<(PacketHeader, Vec<u8>)> {
    let start = ring.position();
    let mut found = None;
    while let Ok(Some(record)) = ring.read() {
        let Ok(packet) = Packet::read(&record, None) else {
            continue;
        };
        if InProgress::new(condemned.queue.into(), packet.header.sequence) == condemned {
            let mut bytes = vec![0; packet.data.len()];
            packet.data.copy_to(&mut bytes);
            found = Some((packet.header, bytes));
            break;
        }
    }
    ring.unread(start);
    found
}

/// Keeps a condemned packet in a file of its own in `folder`.
fn keep(
    folder: &Path,
    worker: u16,
    (header, bytes): (PacketHeader, Vec<u8>),
) -> Result<PathBuf, KeepError> {
    let name = format!(
        "worker-{worker}-{}-{}.pcapng",
        header.timestamp_ns, header.sequence
    );
    let path = folder.join(name);
    let failed = |source| KeepError::File {
        path: path.clone(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(failed)?;
    if fs::read_dir(folder).map_err(failed)?.count() >= MOST_FILES && !path.exists() {
        return Err(KeepError::Full(folder.to_owned()));
    }
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    let wrong = |source| KeepError::Format {
        path: path.clone(),
        source,
    };
    let mut writer = PcapNgWriter::new(file).map_err(wrong)?;
    let interface = InterfaceDescriptionBlock {
        linktype: u32::from(header.link_type).into(),
        snaplen: 0,
        // Nanoseconds.
        options: vec![InterfaceDescriptionOption::IfTsResol(9)],
    };
    writer.write_pcapng_block(interface).map_err(wrong)?;
    let comment =
        format!("lc-workerd {worker} died {DEATHS} times in a row with this packet in its hands");
    let packet = EnhancedPacketBlock {
        interface_id: 0,
        timestamp: Duration::from_nanos(header.timestamp_ns),
        original_len: header.original_len,
        data: Cow::Owned(bytes),
        options: vec![EnhancedPacketOption::Comment(comment.into())],
    };
    writer.write_pcapng_block(packet).map_err(wrong)?;
    Ok(path)
}
