//! Pins the proto files to the wire contract: every package, service, RPC, message, field and enum value, with its number
//! and type. The table is written by hand; a missing, extra or different entry fails.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use prost_reflect::{Cardinality, DescriptorPool, FieldDescriptor, Kind};

/// `rpc request -> response`, with `stream` as in the proto file.
const RPCS: &[(&str, &[&str])] = &[
    (
        "lippycat.data.DataService",
        &[
            "StreamPackets(stream PacketBatch) stream StreamControl",
            "SubscribePackets(SubscribeRequest) stream PacketBatch",
            "SubscribeCorrelatedCalls(SubscribeRequest) stream CorrelatedCallUpdate",
        ],
    ),
    (
        "lippycat.management.ManagementService",
        &[
            "RegisterHunter(HunterRegistration) RegistrationResponse",
            "RegisterProcessor(ProcessorRegistration) ProcessorRegistrationResponse",
            "Heartbeat(stream HunterHeartbeat) stream ProcessorHeartbeat",
            "GetFilters(FilterRequest) FilterResponse",
            "SubscribeFilters(FilterRequest) stream FilterUpdate",
            "GetHunterStatus(StatusRequest) StatusResponse",
            "UpdateFilter(Filter) FilterUpdateResult",
            "DeleteFilter(FilterDeleteRequest) FilterUpdateResult",
            "ListAvailableHunters(ListHuntersRequest) ListHuntersResponse",
            "GetTopology(TopologyRequest) TopologyResponse",
            "SubscribeTopology(TopologySubscribeRequest) stream TopologyUpdate",
            "UpdateFilterOnProcessor(ProcessorFilterRequest) FilterUpdateResult",
            "DeleteFilterOnProcessor(ProcessorFilterDeleteRequest) FilterUpdateResult",
            "GetFiltersFromProcessor(ProcessorFilterQuery) FilterResponse",
            "RequestAuthToken(AuthTokenRequest) AuthorizationToken",
        ],
    ),
];

/// `number name type`, separated by commas. Types of other messages stand without their package.
const MESSAGES: &[(&str, &str)] = &[
    (
        "lippycat.data.PacketBatch",
        "1 hunter_id string, 2 sequence uint64, 3 timestamp_ns int64, 4 packets repeated CapturedPacket, 5 stats BatchStats",
    ),
    (
        "lippycat.data.CapturedPacket",
        "1 data bytes, 2 timestamp_ns int64, 3 capture_length uint32, 4 original_length uint32, 5 interface_index uint32, 6 link_type uint32, 7 metadata PacketMetadata, 8 interface_name string, 9 matched_filter_ids repeated string, 10 tls_keys TLSSessionKeys",
    ),
    (
        "lippycat.data.PacketMetadata",
        "1 protocol string, 2 src_ip string, 3 dst_ip string, 4 src_port uint32, 5 dst_port uint32, 6 transport string, 7 sip SIPMetadata, 8 rtp RTPMetadata, 9 info string, 10 details map<string string>, 11 email EmailMetadata, 12 dns DNSMetadata",
    ),
    (
        "lippycat.data.SIPMetadata",
        "1 method string, 2 call_id string, 3 from_user string, 4 to_user string, 5 response_code uint32, 6 p_asserted_identity string, 7 from_tag string, 8 to_tag string, 9 from_uri string, 10 to_uri string, 11 access_network_info AccessNetworkInfo, 12 visited_network_id string, 13 cseq_method string",
    ),
    (
        "lippycat.data.AccessNetworkInfo",
        "1 access_type string, 2 bssid string, 3 cell_id string, 4 local_ip string, 5 parameters map<string string>",
    ),
    (
        "lippycat.data.RTPMetadata",
        "1 ssrc uint32, 2 payload_type uint32, 3 sequence uint32, 4 timestamp uint32",
    ),
    (
        "lippycat.data.DNSMetadata",
        "1 transaction_id uint32, 2 is_response bool, 3 opcode string, 4 response_code string, 5 authoritative bool, 6 truncated bool, 7 recursion_desired bool, 8 recursion_available bool, 9 authenticated_data bool, 10 checking_disabled bool, 11 question_count uint32, 12 answer_count uint32, 13 authority_count uint32, 14 additional_count uint32, 15 query_name string, 16 query_type string, 17 query_class string, 18 answers repeated DNSAnswer, 19 query_response_time_ms int64, 20 correlated_query bool, 21 tunneling_score double, 22 entropy_score double",
    ),
    (
        "lippycat.data.DNSAnswer",
        "1 name string, 2 type string, 3 class string, 4 ttl uint32, 5 data string",
    ),
    (
        "lippycat.data.EmailMetadata",
        "1 mail_from string, 2 rcpt_to repeated string, 3 subject string, 4 message_id string, 5 body_preview string, 6 body_size int32, 7 body_truncated bool",
    ),
    (
        "lippycat.data.BatchStats",
        "1 total_captured uint64, 2 filtered_matched uint64, 3 dropped uint64, 4 buffer_usage uint32",
    ),
    (
        "lippycat.data.StreamControl",
        "1 ack_sequence uint64, 2 flow_control FlowControl, 3 error string",
    ),
    (
        "lippycat.data.SubscribeRequest",
        "1 hunter_ids repeated string, 2 bpf_filter string, 3 client_id string, 4 has_hunter_filter bool",
    ),
    (
        "lippycat.data.CorrelatedCallUpdate",
        "1 correlation_id string, 2 tag_pair repeated string, 3 from_user string, 4 to_user string, 5 legs repeated CallLegInfo, 6 start_time_ns int64, 7 last_seen_ns int64, 8 state string",
    ),
    (
        "lippycat.data.CallLegInfo",
        "1 call_id string, 2 hunter_id string, 3 src_ip string, 4 dst_ip string, 5 method string, 6 response_code uint32, 7 packet_count int32, 8 start_time_ns int64, 9 last_seen_ns int64",
    ),
    (
        "lippycat.data.TLSSessionKeys",
        "1 client_random bytes, 2 server_random bytes, 3 tls_version uint32, 4 cipher_suite uint32, 5 pre_master_secret bytes, 6 client_handshake_traffic_secret bytes, 7 server_handshake_traffic_secret bytes, 8 client_traffic_secret_0 bytes, 9 server_traffic_secret_0 bytes, 10 exporter_secret bytes, 11 early_exporter_secret bytes, 12 client_early_traffic_secret bytes, 13 src_ip string, 14 src_port uint32, 15 dst_ip string, 16 dst_port uint32",
    ),
    (
        "lippycat.management.HunterRegistration",
        "1 hunter_id string, 2 hostname string, 3 interfaces repeated string, 4 version string, 5 capabilities HunterCapabilities",
    ),
    (
        "lippycat.management.HunterCapabilities",
        "1 filter_types repeated string, 2 max_buffer_size uint64, 3 gpu_acceleration bool, 4 af_xdp bool",
    ),
    (
        "lippycat.management.RegistrationResponse",
        "1 accepted bool, 2 error string, 3 assigned_id string, 4 filters repeated Filter, 5 config ProcessorConfig",
    ),
    (
        "lippycat.management.ProcessorConfig",
        "1 batch_size uint32, 2 batch_timeout_ms uint32, 3 reconnect_interval_sec uint32, 4 max_reconnect_attempts uint32, 5 processor_id string",
    ),
    (
        "lippycat.management.ProcessorRegistration",
        "1 processor_id string, 2 listen_address string, 3 version string, 4 upstream_chain repeated string",
    ),
    (
        "lippycat.management.ProcessorRegistrationResponse",
        "1 accepted bool, 2 error string, 3 upstream_processor_id string",
    ),
    (
        "lippycat.management.HunterHeartbeat",
        "1 hunter_id string, 2 timestamp_ns int64, 3 status HunterStatus, 4 stats HunterStats",
    ),
    (
        "lippycat.management.HunterStats",
        "1 packets_captured uint64, 2 packets_matched uint64, 3 packets_forwarded uint64, 4 packets_dropped uint64, 5 buffer_bytes uint64, 6 active_filters uint32, 7 cpu_percent float, 8 memory_rss_bytes uint64, 9 memory_limit_bytes uint64",
    ),
    (
        "lippycat.management.ProcessorHeartbeat",
        "1 timestamp_ns int64, 2 status ProcessorStatus, 3 hunters_connected uint32, 4 processor_id string",
    ),
    ("lippycat.management.FilterRequest", "1 hunter_id string"),
    (
        "lippycat.management.FilterResponse",
        "1 filters repeated Filter",
    ),
    (
        "lippycat.management.Filter",
        "1 id string, 2 type FilterType, 3 pattern string, 4 target_hunters repeated string, 5 enabled bool, 6 description string",
    ),
    (
        "lippycat.management.FilterUpdate",
        "1 update_type FilterUpdateType, 2 filter Filter",
    ),
    (
        "lippycat.management.FilterUpdateResult",
        "1 success bool, 2 error string, 3 hunters_updated uint32",
    ),
    (
        "lippycat.management.FilterDeleteRequest",
        "1 filter_id string",
    ),
    (
        "lippycat.management.AuthTokenRequest",
        "1 target_processor_id string",
    ),
    (
        "lippycat.management.AuthorizationToken",
        "1 signature bytes, 2 issued_at_ns int64, 3 expires_at_ns int64, 4 target_processor_id string, 5 issuer_id string, 6 processor_chain repeated string",
    ),
    (
        "lippycat.management.ProcessorFilterRequest",
        "1 processor_id string, 2 filter Filter, 3 auth_token AuthorizationToken",
    ),
    (
        "lippycat.management.ProcessorFilterDeleteRequest",
        "1 processor_id string, 2 filter_id string, 3 auth_token AuthorizationToken",
    ),
    (
        "lippycat.management.ProcessorFilterQuery",
        "1 processor_id string, 2 hunter_id string, 3 auth_token AuthorizationToken",
    ),
    ("lippycat.management.StatusRequest", "1 hunter_id string"),
    (
        "lippycat.management.StatusResponse",
        "1 hunters repeated ConnectedHunter, 2 processor_stats ProcessorStats",
    ),
    (
        "lippycat.management.ConnectedHunter",
        "1 hunter_id string, 2 hostname string, 3 remote_addr string, 4 status HunterStatus, 5 connected_duration_sec uint64, 6 last_heartbeat_ns int64, 7 stats HunterStats, 8 filters repeated Filter, 9 interfaces repeated string, 10 capabilities HunterCapabilities",
    ),
    (
        "lippycat.management.ProcessorStats",
        "1 total_hunters uint32, 2 healthy_hunters uint32, 3 warning_hunters uint32, 4 error_hunters uint32, 5 total_packets_received uint64, 6 total_packets_forwarded uint64, 7 total_filters uint32, 8 processor_id string, 9 status ProcessorStatus, 10 upstream_processor string",
    ),
    ("lippycat.management.ListHuntersRequest", ""),
    (
        "lippycat.management.ListHuntersResponse",
        "1 hunters repeated AvailableHunter",
    ),
    (
        "lippycat.management.AvailableHunter",
        "1 hunter_id string, 2 hostname string, 3 interfaces repeated string, 4 status HunterStatus, 5 remote_addr string, 6 connected_duration_sec uint64, 7 capabilities HunterCapabilities",
    ),
    ("lippycat.management.TopologyRequest", ""),
    (
        "lippycat.management.TopologyResponse",
        "1 processor ProcessorNode",
    ),
    (
        "lippycat.management.ProcessorNode",
        "1 address string, 2 processor_id string, 3 status ProcessorStatus, 4 upstream_processor string, 5 hunters repeated ConnectedHunter, 6 downstream_processors repeated ProcessorNode, 7 hierarchy_depth uint32, 8 reachable bool, 9 unreachable_reason string, 10 node_type NodeType, 11 capture_interfaces repeated string",
    ),
    (
        "lippycat.management.TopologySubscribeRequest",
        "1 include_downstream bool, 2 client_id string",
    ),
    (
        "lippycat.management.TopologyUpdate",
        "1 update_type TopologyUpdateType, 2 timestamp_ns int64, 3 processor_id string, 4 event.hunter_connected HunterConnectedEvent, 5 event.hunter_disconnected HunterDisconnectedEvent, 6 event.processor_connected ProcessorConnectedEvent, 7 event.processor_disconnected ProcessorDisconnectedEvent, 8 event.hunter_status_changed HunterStatusChangedEvent",
    ),
    (
        "lippycat.management.HunterConnectedEvent",
        "1 hunter ConnectedHunter",
    ),
    (
        "lippycat.management.HunterDisconnectedEvent",
        "1 hunter_id string, 2 reason string",
    ),
    (
        "lippycat.management.ProcessorConnectedEvent",
        "1 processor ProcessorNode",
    ),
    (
        "lippycat.management.ProcessorDisconnectedEvent",
        "1 processor_id string, 2 address string, 3 reason string",
    ),
    (
        "lippycat.management.HunterStatusChangedEvent",
        "1 hunter_id string, 2 old_status HunterStatus, 3 new_status HunterStatus",
    ),
];

const ENUMS: &[(&str, &str)] = &[
    (
        "lippycat.data.FlowControl",
        "0 FLOW_CONTINUE, 1 FLOW_SLOW, 2 FLOW_PAUSE, 3 FLOW_RESUME",
    ),
    (
        "lippycat.management.HunterStatus",
        "0 STATUS_HEALTHY, 1 STATUS_WARNING, 2 STATUS_ERROR, 3 STATUS_STOPPING",
    ),
    (
        "lippycat.management.ProcessorStatus",
        "0 PROCESSOR_HEALTHY, 1 PROCESSOR_WARNING, 2 PROCESSOR_ERROR",
    ),
    (
        "lippycat.management.FilterUpdateType",
        "0 UPDATE_ADD, 1 UPDATE_MODIFY, 2 UPDATE_DELETE",
    ),
    (
        "lippycat.management.NodeType",
        "0 NODE_TYPE_PROCESSOR, 1 NODE_TYPE_TAP",
    ),
    (
        "lippycat.management.TopologyUpdateType",
        "0 TOPOLOGY_HUNTER_CONNECTED, 1 TOPOLOGY_HUNTER_DISCONNECTED, 2 TOPOLOGY_PROCESSOR_CONNECTED, 3 TOPOLOGY_PROCESSOR_DISCONNECTED, 4 TOPOLOGY_HUNTER_STATUS_CHANGED",
    ),
    (
        "lippycat.management.FilterType",
        "0 FILTER_SIP_USER, 1 FILTER_PHONE_NUMBER, 2 FILTER_IP_ADDRESS, 3 FILTER_CALL_ID, 4 FILTER_CODEC, 5 FILTER_BPF, 6 FILTER_SIP_URI, 7 FILTER_DNS_DOMAIN, 8 FILTER_EMAIL_ADDRESS, 9 FILTER_EMAIL_SUBJECT, 10 FILTER_TLS_SNI, 11 FILTER_TLS_JA3, 12 FILTER_TLS_JA3S, 13 FILTER_TLS_JA4, 14 FILTER_HTTP_HOST, 15 FILTER_HTTP_URL, 16 FILTER_IMSI, 17 FILTER_IMEI",
    ),
];

fn pool() -> DescriptorPool {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let files = protox::compile(["data.proto", "management.proto"], [folder]).unwrap();
    DescriptorPool::from_file_descriptor_set(files).unwrap()
}

/// One line per pinned thing, so that a difference shows which.
fn lines<'a>(table: &'a [(&str, &str)]) -> impl Iterator<Item = String> + 'a {
    table.iter().flat_map(|(name, entries)| {
        let header = format!("{name}:");
        let entries = entries.split(", ").filter(|entry| !entry.is_empty());
        std::iter::once(header).chain(entries.map(move |entry| format!("{name}: {entry}")))
    })
}

fn assert_same(found: impl Iterator<Item = String>, pinned: impl Iterator<Item = String>) {
    let found: BTreeSet<_> = found.collect();
    let pinned: BTreeSet<_> = pinned.collect();
    let missing: Vec<_> = pinned.difference(&found).collect();
    let extra: Vec<_> = found.difference(&pinned).collect();
    assert!(
        missing.is_empty() && extra.is_empty(),
        "only in the contract: {missing:#?}\nonly in the proto files: {extra:#?}"
    );
}

fn kind(kind: Kind) -> String {
    match kind {
        Kind::Message(message) => message.name().to_owned(),
        Kind::Enum(values) => values.name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}

fn field(field: &FieldDescriptor) -> String {
    let name = match field.containing_oneof() {
        Some(oneof) => format!("{}.{}", oneof.name(), field.name()),
        None => field.name().to_owned(),
    };
    let kind = if field.is_map() {
        let Kind::Message(entry) = field.kind() else {
            panic!("a map is a message")
        };
        format!(
            "map<{} {}>",
            kind(entry.map_entry_key_field().kind()),
            kind(entry.map_entry_value_field().kind())
        )
    } else if field.cardinality() == Cardinality::Repeated {
        format!("repeated {}", kind(field.kind()))
    } else {
        kind(field.kind())
    };
    format!("{} {name} {kind}", field.number())
}

#[test]
fn rpcs_are_those_of_the_contract() {
    let pool = pool();
    let stream = |streaming| if streaming { "stream " } else { "" };
    let found = pool.services().flat_map(|service| {
        let methods: Vec<_> = service
            .methods()
            .map(|m| {
                format!(
                    "{}: {}({}{}) {}{}",
                    service.full_name(),
                    m.name(),
                    stream(m.is_client_streaming()),
                    m.input().name(),
                    stream(m.is_server_streaming()),
                    m.output().name()
                )
            })
            .collect();
        methods
    });
    let pinned = RPCS
        .iter()
        .flat_map(|(service, rpcs)| rpcs.iter().map(move |rpc| format!("{service}: {rpc}")));
    assert_same(found, pinned);
}

#[test]
fn fields_are_those_of_the_contract() {
    let pool = pool();
    let found = pool
        .all_messages()
        .filter(|message| !message.is_map_entry())
        .flat_map(|message| {
            let name = message.full_name().to_owned();
            let fields: Vec<_> = message
                .fields()
                .map(|f| format!("{name}: {}", field(&f)))
                .collect();
            std::iter::once(format!("{name}:")).chain(fields)
        });
    assert_same(found, lines(MESSAGES));
}

#[test]
fn enum_values_are_those_of_the_contract() {
    let pool = pool();
    let found = pool.all_enums().flat_map(|values| {
        let name = values.full_name().to_owned();
        let entries: Vec<_> = values
            .values()
            .map(|v| format!("{name}: {} {}", v.number(), v.name()))
            .collect();
        std::iter::once(format!("{name}:")).chain(entries)
    });
    assert_same(found, lines(ENUMS));
}

#[test]
fn no_field_tracks_presence_by_the_optional_keyword() {
    let pool = pool();
    for message in pool.all_messages() {
        for field in message.fields() {
            assert!(
                !field.field_descriptor_proto().proto3_optional(),
                "{}",
                field.full_name()
            );
        }
    }
}
