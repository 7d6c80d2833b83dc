//! The JSON form of packet metadata.

#![allow(clippy::unwrap_used)]

use lc_proto::data::{DnsMetadata, PacketMetadata, RtpMetadata, SipMetadata};
use serde_json::json;

#[test]
fn keeps_proto_names_and_leaves_out_absent_blocks() {
    let metadata = PacketMetadata {
        protocol: "SIP".into(),
        src_ip: "192.0.2.1".into(),
        src_port: 5060,
        sip: Some(SipMetadata {
            call_id: "c1".into(),
            cseq_method: "INVITE".into(),
            ..Default::default()
        }),
        rtp: Some(RtpMetadata::default()),
        dns: Some(DnsMetadata {
            query_response_time_ms: 7,
            ..Default::default()
        }),
        details: [("k".into(), "v".into())].into(),
        ..Default::default()
    };
    let expected = json!({
        "protocol": "SIP",
        "src_ip": "192.0.2.1",
        "src_port": 5060,
        "sip": {"call_id": "c1", "cseq_method": "INVITE"},
        "rtp": {},
        // protobuf's JSON mapping writes 64-bit integers as strings.
        "dns": {"query_response_time_ms": "7"},
        "details": {"k": "v"},
    });
    let value = serde_json::to_value(&metadata).unwrap();
    assert_eq!(value, expected);
    assert_eq!(
        serde_json::from_value::<PacketMetadata>(value).unwrap(),
        metadata
    );
}
