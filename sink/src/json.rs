//! One JSON object per packet and line.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lc_proto::data::{PacketBatch, PacketMetadata, TlsSessionKeys};
use serde::Serialize;

/// Appends the lines of a batch to `out`. `with_data` adds each frame in base64, and the secrets that came with it.
pub(crate) fn write_lines(out: &mut Vec<u8>, batch: &PacketBatch, with_data: bool) {
    for packet in &batch.packets {
        let line = Line {
            hunter_id: &batch.hunter_id,
            sequence: batch.sequence,
            timestamp_ns: packet.timestamp_ns,
            interface_name: &packet.interface_name,
            link_type: packet.link_type,
            capture_length: packet.capture_length,
            original_length: packet.original_length,
            matched_filter_ids: &packet.matched_filter_ids,
            metadata: packet.metadata.as_ref(),
            tls_keys: packet.tls_keys.as_ref().filter(|_| with_data),
            data: with_data.then(|| STANDARD.encode(&packet.data)),
        };
        // Neither the types nor a Vec can fail here; an error would show as a short line, not as a lost process.
        let written = serde_json::to_writer(&mut *out, &line)
            .map_err(Into::into)
            .and_then(|()| out.write_all(b"\n"));
        debug_assert!(written.is_ok(), "{written:?}");
    }
}

#[derive(Serialize)]
struct Line<'a> {
    hunter_id: &'a str,
    sequence: u64,
    timestamp_ns: i64,
    interface_name: &'a str,
    link_type: u32,
    capture_length: u32,
    original_length: u32,
    matched_filter_ids: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a PacketMetadata>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_keys: Option<&'a TlsSessionKeys>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
}
