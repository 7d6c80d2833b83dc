//! Encodes one captured packet as it will stand inside a `PacketBatch`: tag of field 4, length, `CapturedPacket`.
//!
//! ```text
//! 0x22 | length | all fields but data ... | 0x0a | data length | data
//! `------------------ write_head -----------------------------'  caller copies capture_length bytes
//! ```
//!
//! Nothing is allocated. `data` comes last, which protobuf permits, so that the caller can copy the frame straight from
//! wherever it lies. The encoder does not look at the frame: whoever calls it vouches that exactly `capture_length`
//! bytes follow. Default values are left out, as in proto3.
//!
//! ```
//! use lc_proto::emit::Emit;
//! let frame = [1u8, 2, 3];
//! let packet = Emit {
//!     timestamp_ns: 1,
//!     capture_length: 3,
//!     original_length: 3,
//!     interface_index: 0,
//!     link_type: 1,
//!     interface_name: "eth0",
//!     matched_filter_ids: ["f1"],
//!     metadata: None,
//!     tls_keys: &[],
//! };
//! let sized = packet.measure();
//! let mut out = vec![0; sized.encoded_len()];
//! let head = sized.write_head(&mut out);
//! out[head..].copy_from_slice(&frame);
//! ```

use crate::wire::{delimited_len, scalar_field_len, string_field_len, varint_len};

/// One packet to encode. Field for field a `CapturedPacket`, without its bytes.
#[derive(Debug, Clone, Copy)]
pub struct Emit<'a, I> {
    /// Capture time, Unix nanoseconds.
    pub timestamp_ns: i64,
    /// Length of the frame that the caller will copy behind the head.
    pub capture_length: u32,
    /// Length on the wire; not less than `capture_length`.
    pub original_length: u32,
    /// Index into the registered interfaces.
    pub interface_index: u32,
    /// libpcap link type.
    pub link_type: u32,
    /// Interface name.
    pub interface_name: &'a str,
    /// Ids of the matched filters: anything that can be walked twice, such as an array or a slice's `iter().copied()`.
    pub matched_filter_ids: I,
    /// What was read out of the packet.
    pub metadata: Option<Meta<'a>>,
    /// Secrets of its TLS session: what [`TlsKeys::put`](crate::tls_keys::TlsKeys::put) appends, or nothing.
    pub tls_keys: &'a [u8],
}

/// The part of `PacketMetadata` that every packet may have. Texts come ready from the caller.
#[derive(Debug, Clone, Copy, Default)]
pub struct Meta<'a> {
    /// Application protocol.
    pub protocol: &'a str,
    /// Source address as text.
    pub src_ip: &'a str,
    /// Destination address as text.
    pub dst_ip: &'a str,
    /// Source port, 0 for none.
    pub src_port: u16,
    /// Destination port, 0 for none.
    pub dst_port: u16,
    /// Transport protocol.
    pub transport: &'a str,
    /// One line for a person.
    pub info: &'a str,
    /// More, by name: what [`Details::encoded`](crate::details::Details::encoded) gives.
    pub details: &'a [u8],
    /// What only some protocols have: what [`voip`](crate::voip) or [`email`](crate::email) puts.
    pub blocks: &'a [u8],
}

/// A packet whose encoded size is known.
#[derive(Debug, Clone, Copy)]
pub struct Measured<'p, 'a, I> {
    packet: &'p Emit<'a, I>,
    metadata_len: usize,
    packet_len: usize,
}

impl<'a, I> Emit<'a, I>
where
    I: IntoIterator<Item = &'a str> + Clone,
{
    /// Computes the sizes that the encoding needs.
    #[inline]
    pub fn measure(&self) -> Measured<'_, 'a, I> {
        let metadata_len = self.metadata.as_ref().map_or(0, Meta::len);
        let mut packet_len = scalar_field_len(self.timestamp_ns as u64)
            + scalar_field_len(self.capture_length.into())
            + scalar_field_len(self.original_length.into())
            + scalar_field_len(self.interface_index.into())
            + scalar_field_len(self.link_type.into())
            + string_field_len(self.interface_name)
            + self.tls_keys.len();
        if self.metadata.is_some() {
            packet_len += delimited_len(metadata_len);
        }
        for id in self.matched_filter_ids.clone() {
            packet_len += delimited_len(id.len());
        }
        if self.capture_length > 0 {
            packet_len += delimited_len(self.capture_length as usize);
        }
        Measured {
            packet: self,
            metadata_len,
            packet_len,
        }
    }
}

impl<'a, I> Measured<'_, 'a, I>
where
    I: IntoIterator<Item = &'a str> + Clone,
{
    /// Bytes of the whole record: head and frame.
    #[inline]
    pub fn encoded_len(&self) -> usize {
        delimited_len(self.packet_len)
    }

    /// Writes everything but the frame to the start of `out` and returns the number of bytes written, which is
    /// [`encoded_len`](Self::encoded_len) less `capture_length`. The frame's `capture_length` bytes belong right after.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than what is to be written.
    #[inline]
    pub fn write_head(&self, out: &mut [u8]) -> usize {
        let packet = self.packet;
        let mut out = Writer { out, at: 0 };
        out.tag_and_varint(0x22, self.packet_len as u64);
        out.scalar(0x10, packet.timestamp_ns as u64);
        out.scalar(0x18, packet.capture_length.into());
        out.scalar(0x20, packet.original_length.into());
        out.scalar(0x28, packet.interface_index.into());
        out.scalar(0x30, packet.link_type.into());
        if let Some(meta) = &packet.metadata {
            out.tag_and_varint(0x3a, self.metadata_len as u64);
            meta.write(&mut out);
        }
        out.string(0x42, packet.interface_name);
        for id in packet.matched_filter_ids.clone() {
            out.bytes(0x4a, id.as_bytes());
        }
        out.raw(packet.tls_keys);
        if packet.capture_length > 0 {
            out.tag_and_varint(0x0a, packet.capture_length.into());
        }
        out.at
    }
}

impl Meta<'_> {
    #[inline]
    fn len(&self) -> usize {
        string_field_len(self.protocol)
            + string_field_len(self.src_ip)
            + string_field_len(self.dst_ip)
            + scalar_field_len(self.src_port.into())
            + scalar_field_len(self.dst_port.into())
            + string_field_len(self.transport)
            + string_field_len(self.info)
            + self.details.len()
            + self.blocks.len()
    }

    #[inline]
    fn write(&self, out: &mut Writer<'_>) {
        out.string(0x0a, self.protocol);
        out.string(0x12, self.src_ip);
        out.string(0x1a, self.dst_ip);
        out.scalar(0x20, self.src_port.into());
        out.scalar(0x28, self.dst_port.into());
        out.string(0x32, self.transport);
        out.string(0x4a, self.info);
        out.raw(self.details);
        out.raw(self.blocks);
    }
}

struct Writer<'o> {
    out: &'o mut [u8],
    at: usize,
}

impl Writer<'_> {
    #[inline]
    fn scalar(&mut self, tag: u8, value: u64) {
        if value != 0 {
            self.tag_and_varint(tag, value);
        }
    }

    #[inline]
    fn string(&mut self, tag: u8, text: &str) {
        if !text.is_empty() {
            self.bytes(tag, text.as_bytes());
        }
    }

    #[inline]
    fn bytes(&mut self, tag: u8, bytes: &[u8]) {
        self.tag_and_varint(tag, bytes.len() as u64);
        self.raw(bytes);
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.out[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }

    #[inline]
    fn tag_and_varint(&mut self, tag: u8, mut value: u64) {
        // One bounds check for the tag and the whole varint.
        let len = varint_len(value);
        let out = &mut self.out[self.at..self.at + 1 + len];
        out[0] = tag;
        for byte in &mut out[1..len] {
            *byte = value as u8 | 0x80;
            value >>= 7;
        }
        out[len] = value as u8;
        self.at += 1 + len;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message;

    use super::*;
    use crate::data::{CapturedPacket, PacketBatch, PacketMetadata, TlsSessionKeys};
    use crate::details::Details;
    use crate::tls_keys::TlsKeys;

    fn any_meta() -> impl Strategy<Value = PacketMetadata> {
        (
            ".{0,20}",
            ".{0,20}",
            ".{0,45}",
            any::<u16>(),
            any::<u16>(),
            ".{0,5}",
            ".{0,200}",
            prop::collection::btree_map(".{1,20}", ".{0,200}", 0..4),
        )
            .prop_map(
                |(protocol, src_ip, dst_ip, src_port, dst_port, transport, info, details)| {
                    PacketMetadata {
                        protocol,
                        src_ip,
                        dst_ip,
                        src_port: src_port.into(),
                        dst_port: dst_port.into(),
                        transport,
                        info,
                        details,
                        ..Default::default()
                    }
                },
            )
    }

    fn any_packet() -> impl Strategy<Value = CapturedPacket> {
        (
            prop::collection::vec(any::<u8>(), 0..300),
            prop_oneof![any::<i64>(), Just(0)],
            any::<u32>(),
            prop_oneof![Just(0), any::<u32>()],
            prop_oneof![Just(0), any::<u32>()],
            prop::option::of(any_meta()),
            ".{0,20}",
            prop::collection::vec(".{0,20}", 0..4),
            prop::option::of(prop::collection::vec(any::<u8>(), 32)),
        )
            .prop_map(
                |(
                    data,
                    timestamp_ns,
                    original,
                    interface_index,
                    link_type,
                    metadata,
                    interface_name,
                    ids,
                    tls_keys,
                )| CapturedPacket {
                    capture_length: data.len() as u32,
                    original_length: original,
                    data: data.into(),
                    timestamp_ns,
                    interface_index,
                    link_type,
                    metadata,
                    interface_name,
                    matched_filter_ids: ids,
                    tls_keys: tls_keys.map(|client_random| TlsSessionKeys {
                        client_random: client_random.into(),
                        ..Default::default()
                    }),
                },
            )
    }

    fn encode(packet: &CapturedPacket) -> Vec<u8> {
        let mut details = Details::default();
        for (key, value) in packet.metadata.iter().flat_map(|meta| &meta.details) {
            details.put(key, value);
        }
        let mut tls_keys = Vec::new();
        if let Some(keys) = &packet.tls_keys {
            let client_random = &keys.client_random;
            let keys = TlsKeys {
                client_random,
                ..TlsKeys::default()
            };
            keys.put(&mut tls_keys);
        }
        let emit = Emit {
            timestamp_ns: packet.timestamp_ns,
            capture_length: packet.capture_length,
            original_length: packet.original_length,
            interface_index: packet.interface_index,
            link_type: packet.link_type,
            interface_name: &packet.interface_name,
            matched_filter_ids: packet.matched_filter_ids.iter().map(String::as_str),
            metadata: packet.metadata.as_ref().map(|m| Meta {
                protocol: &m.protocol,
                src_ip: &m.src_ip,
                dst_ip: &m.dst_ip,
                src_port: m.src_port as u16,
                dst_port: m.dst_port as u16,
                transport: &m.transport,
                info: &m.info,
                details: details.encoded(),
                blocks: &[],
            }),
            tls_keys: &tls_keys,
        };
        let sized = emit.measure();
        let mut out = vec![0xff; sized.encoded_len()];
        let head = sized.write_head(&mut out);
        // Also proves that the announced length is exact: copy_from_slice wants equal lengths.
        out[head..].copy_from_slice(&packet.data);
        out
    }

    proptest! {
        #[test]
        fn decodes_to_what_was_encoded(packets in prop::collection::vec(any_packet(), 0..4)) {
            let encoded: Vec<u8> = packets.iter().flat_map(encode).collect();
            let batch = PacketBatch::decode(encoded.as_slice()).unwrap();
            prop_assert_eq!(batch.packets, packets);
        }

        #[test]
        fn is_as_long_as_the_canonical_encoding(packet in any_packet()) {
            let canonical = PacketBatch { packets: vec![packet.clone()], ..Default::default() };
            prop_assert_eq!(encode(&packet).len(), canonical.encoded_len());
        }
    }
}
