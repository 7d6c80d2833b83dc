//! Puts a packet into the tx ring, encoded as it will stand in a batch.

use crate::address_text::AddressText;
use crate::decode::Decoded;
use crate::describe::Described;
use crate::matcher::{FilterIndex, FilterSet};
use lc_proto::emit::{Emit, Meta};
use shm_layout::packet::Packet;
use shm_layout::ring::{Full, RingWriter};
use shm_layout::wire::{Priority, WireSlot};

/// Why a packet is forwarded.
#[derive(Clone, Copy)]
pub struct Judged<'a> {
    /// The filters in force.
    pub filters: &'a FilterSet,
    /// Those of them that match.
    pub matched: &'a [FilterIndex],
    /// How urgent that makes it.
    pub priority: Priority,
}

/// Encodes `packet` as number `ordinal` of the tx ring.
///
/// # Errors
/// [`Full`], as [`RingWriter::reserve`]; the ring is unchanged then.
#[inline]
pub fn emit(
    tx: &mut RingWriter,
    ordinal: u64,
    packet: &Packet<'_>,
    decoded: &Decoded,
    interface_name: &str,
    judged: Judged<'_>,
    described: Described<'_>,
) -> Result<(), Full> {
    let header = &packet.header;
    let Judged {
        filters,
        matched,
        priority,
    } = judged;
    let addresses = decoded
        .addresses
        .map(|(source, destination)| [AddressText::new(source), AddressText::new(destination)]);
    let metadata = addresses.as_ref().map(|[source, destination]| {
        let (src_port, dst_port) = decoded.ports.unwrap_or_default();
        Meta {
            src_ip: source.as_str(),
            dst_ip: destination.as_str(),
            src_port,
            dst_port,
            transport: decoded.transport.map_or("", |transport| transport.name()),
            ..Meta::default()
        }
    });
    let metadata = match described.protocol {
        "" => metadata,
        protocol => Some(Meta {
            protocol,
            info: described.info,
            details: described.details,
            ..metadata.unwrap_or_default()
        }),
    };
    let record = Emit {
        timestamp_ns: header.timestamp_ns as i64,
        capture_length: header.captured_len,
        // A processor rejects a packet that is longer than it was.
        original_length: header.original_len.max(header.captured_len),
        interface_index: u32::from(header.interface),
        link_type: u32::from(header.link_type),
        interface_name,
        matched_filter_ids: matched.iter().map(|filter| filters.id(*filter)),
        metadata,
    };
    let measured = record.measure();
    let mut slot = WireSlot::reserve(tx, ordinal, measured.encoded_len())?;
    let bytes = slot.bytes();
    let head = measured.write_head(bytes);
    packet.data.copy_to(&mut bytes[head..]);
    slot.commit(priority);
    Ok(())
}
