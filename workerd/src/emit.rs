//! Puts a packet into the tx ring, encoded as it will stand in a batch.

use crate::address_text::AddressText;
use crate::decode::Decoded;
use crate::describe::Described;
use lc_proto::emit::{Emit, Meta};
use shm_layout::packet::PacketHeader;
use shm_layout::ring::{Full, RingWriter};
use shm_layout::wire::{Priority, WireSlot};

/// A packet, without its bytes.
#[derive(Clone, Copy)]
pub struct Outgoing<'a> {
    /// Times and lengths.
    pub header: &'a PacketHeader,
    /// Its headers.
    pub decoded: &'a Decoded,
    /// Where it was captured.
    pub interface_name: &'a str,
    /// What is told of it.
    pub described: Described<'a>,
    /// Secrets of its TLS session, encoded; nothing for most packets.
    pub tls_keys: &'a [u8],
}

/// Why a packet is forwarded.
#[derive(Clone, Copy)]
pub struct Judged<I> {
    /// Ids of the filters that match.
    pub ids: I,
    /// How urgent that makes it.
    pub priority: Priority,
}

/// Encodes a packet as number `ordinal` of the tx ring. `copy` fills in its bytes, as many as were captured.
///
/// # Errors
/// [`Full`], as [`RingWriter::reserve`]; the ring is unchanged then.
#[inline]
pub fn emit<'a>(
    tx: &mut RingWriter,
    ordinal: u64,
    packet: Outgoing<'_>,
    judged: Judged<impl Iterator<Item = &'a str> + Clone>,
    copy: impl FnOnce(&mut [u8]),
) -> Result<(), Full> {
    let Outgoing {
        header,
        decoded,
        interface_name,
        described,
        tls_keys,
    } = packet;
    let Judged { ids, priority } = judged;
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
    let metadata = match (described.protocol, described.blocks) {
        ("", []) => metadata,
        (protocol, blocks) => Some(Meta {
            protocol,
            info: described.info,
            details: described.details,
            blocks,
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
        matched_filter_ids: ids.map(|id| -> &str { id }),
        metadata,
        tls_keys,
    };
    let measured = record.measure();
    let mut slot = WireSlot::reserve(tx, ordinal, measured.encoded_len())?;
    let bytes = slot.bytes();
    let head = measured.write_head(bytes);
    copy(&mut bytes[head..]);
    slot.commit(priority);
    Ok(())
}
