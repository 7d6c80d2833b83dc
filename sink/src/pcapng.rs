//! Packets as pcapng.
//!
//! Every run of the sink writes its own section, so that a file which is continued stays valid. Within a section there is
//! one interface per (hunter, interface name, link type). Time stamps have nanosecond resolution. The frame and its two
//! lengths are kept as they came.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use lc_proto::data::{CapturedPacket, PacketBatch};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, PcapError};

/// The first bytes of every pcapng file, whatever its byte order.
pub(crate) const MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// libpcap's own number for raw IP on Linux, which has another one in files.
const DLT_RAW: u32 = 12;
const LINKTYPE_RAW: u32 = 101;

/// if_tsresol: 10^-9 seconds.
const NANOSECONDS: u8 = 9;

/// One section under construction. Blocks collect in memory until they are [taken](Self::take).
pub struct Section {
    writer: PcapNgWriter<Vec<u8>>,
    interfaces: HashMap<Interface, u32>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Interface {
    hunter_id: String,
    name: String,
    link_type: u32,
}

impl Section {
    /// Begins a section.
    ///
    /// # Errors
    ///
    /// Those of the writer; memory has none.
    pub fn new() -> Result<Self, PcapError> {
        Ok(Self {
            writer: PcapNgWriter::new(Vec::new())?,
            interfaces: HashMap::new(),
        })
    }

    /// Adds the packets of a batch. Returns how many could not be written because their lengths contradict each other or
    /// their link type does not fit the format.
    ///
    /// # Errors
    ///
    /// Those of the writer; memory has none.
    pub fn write(&mut self, batch: &PacketBatch) -> Result<u64, PcapError> {
        let mut malformed = 0;
        for packet in &batch.packets {
            if !well_formed(packet) {
                malformed += 1;
                continue;
            }
            let interface_id = self.interface(&batch.hunter_id, packet)?;
            self.writer.write_pcapng_block(EnhancedPacketBlock {
                interface_id,
                // A time before 1970 stands as the two's complement, as capture tools write and read it.
                timestamp: Duration::from_nanos(packet.timestamp_ns as u64),
                original_len: packet.original_length,
                data: Cow::Borrowed(&packet.data),
                options: Vec::new(),
            })?;
        }
        Ok(malformed)
    }

    /// Takes the blocks that collected since the last time.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.writer.get_mut())
    }

    fn interface(&mut self, hunter_id: &str, packet: &CapturedPacket) -> Result<u32, PcapError> {
        let interface = Interface {
            hunter_id: hunter_id.to_owned(),
            name: packet.interface_name.clone(),
            link_type: packet.link_type,
        };
        if let Some(id) = self.interfaces.get(&interface) {
            return Ok(*id);
        }
        let link_type = if packet.link_type == DLT_RAW {
            LINKTYPE_RAW
        } else {
            packet.link_type
        };
        self.writer.write_pcapng_block(InterfaceDescriptionBlock {
            linktype: DataLink::from(link_type),
            // No limit is known.
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(&packet.interface_name)),
                InterfaceDescriptionOption::IfDescription(Cow::Owned(format!(
                    "hunter {hunter_id}"
                ))),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        })?;
        let id = self.interfaces.len() as u32;
        self.interfaces.insert(interface, id);
        Ok(id)
    }
}

fn well_formed(packet: &CapturedPacket) -> bool {
    packet.capture_length as usize == packet.data.len()
        && packet.original_length >= packet.capture_length
        && packet.link_type <= u32::from(u16::MAX)
}
