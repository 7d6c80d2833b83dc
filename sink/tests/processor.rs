//! The processor's side of the wire contract, and what it writes down, through a real client over loopback.
#![allow(clippy::unwrap_used)]

mod client;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use lc_proto::data::{FlowControl, PacketMetadata};
use lc_proto::management::{
    FilterRequest, FilterType, FilterUpdateType, HunterHeartbeat, HunterStatus, ListHuntersRequest,
    StatusRequest,
};
use lc_sink::{Config, FlowPlan, Output, Sink};
use pcap_file::DataLink;
use pcap_file::pcapng::{Block, PcapNgReader};
use serde_json::{Value, json};
use tokio_stream::StreamExt;
use tonic::{Code, Request};

use client::{Client, batch, packet, registration};

fn config() -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        ..Config::default()
    }
}

/// Frames of a pcapng file in order, as (interface name, link type, time, original length, bytes).
fn frames(path: &std::path::Path) -> Vec<(String, DataLink, u64, u32, Vec<u8>)> {
    let file = fs::read(path).unwrap();
    let mut reader = PcapNgReader::new(file.as_slice()).unwrap();
    let mut interfaces: Vec<(String, DataLink)> = Vec::new();
    let mut frames = Vec::new();
    while let Some(block) = reader.next_block() {
        match block.unwrap() {
            Block::SectionHeader(_) => interfaces.clear(),
            Block::InterfaceDescription(interface) => {
                use pcap_file::pcapng::blocks::interface_description::InterfaceDescriptionOption as Opt;
                assert!(interface.options.contains(&Opt::IfTsResol(9)));
                let name = interface.options.iter().find_map(|option| match option {
                    Opt::IfName(name) => Some(name.to_string()),
                    _ => None,
                });
                interfaces.push((name.unwrap(), interface.linktype));
            }
            Block::EnhancedPacket(packet) => {
                let (name, link) = interfaces[packet.interface_id as usize].clone();
                let time = packet.timestamp.as_nanos() as u64;
                frames.push((
                    name,
                    link,
                    time,
                    packet.original_len,
                    packet.data.into_owned(),
                ));
            }
            other => panic!("unexpected block {other:?}"),
        }
    }
    frames
}

#[tokio::test]
async fn acknowledges_every_batch_in_order_and_ends_a_half_close_like_lippycat() {
    let sink = Sink::start(config()).await.unwrap();
    let client = Client::connect(sink.local_addr()).await;
    let batches: Vec<_> = (1..=50)
        .map(|sequence| batch("h1", sequence, vec![packet(sequence)]))
        .collect();
    let (acks, end) = client.send(&batches).await;
    assert_eq!(
        acks.iter().map(|ack| ack.ack_sequence).collect::<Vec<_>>(),
        (1..=50).collect::<Vec<_>>()
    );
    assert!(
        acks.iter()
            .all(|ack| ack.flow_control() == FlowControl::FlowContinue && ack.error.is_empty())
    );
    assert_eq!((end.code(), end.message()), (Code::Unknown, "EOF"));
    drop(client);
    let summary = sink.shutdown().await.unwrap();
    assert_eq!((summary.totals.batches, summary.totals.packets), (50, 50));
}

#[tokio::test]
async fn registration_holds_the_set_and_a_subscription_follows_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("filters.yaml");
    fs::write(&file, "filters:\n  - {id: a, type: ip_address, pattern: 10.0.0.1}\n  - {id: s, type: sip_user, pattern: x}\n").unwrap();
    let sink = Sink::start(Config {
        filters: Some(file.clone()),
        ..config()
    })
    .await
    .unwrap();
    let mut client = Client::connect(sink.local_addr()).await;

    let response = client
        .management
        .register_hunter(registration("h1", &[]))
        .await
        .unwrap()
        .into_inner();
    assert!(response.accepted);
    assert_eq!(response.assigned_id, "h1");
    // The disabled filter is delivered, the one of another type is not.
    assert_eq!(response.filters.len(), 1);
    assert_eq!(
        (response.filters[0].r#type(), response.filters[0].enabled),
        (FilterType::FilterIpAddress, false)
    );
    assert_eq!(response.config.unwrap().batch_size, 64);

    let request = FilterRequest {
        hunter_id: "h1".into(),
    };
    let mut updates = client
        .management
        .subscribe_filters(request.clone())
        .await
        .unwrap()
        .into_inner();
    let mut next = async || {
        let update = updates.next().await.unwrap().unwrap();
        let kind = update.update_type();
        let filter = update.filter.unwrap();
        (kind, filter.id, filter.pattern)
    };
    assert_eq!(
        next().await,
        (FilterUpdateType::UpdateAdd, "a".into(), "10.0.0.1".into())
    );

    // Changed in place.
    fs::write(&file, "filters:\n  - {id: a, type: ip_address, pattern: 10.0.0.2}\n  - {id: b, type: bpf, pattern: udp}\n").unwrap();
    assert_eq!(
        next().await,
        (
            FilterUpdateType::UpdateModify,
            "a".into(),
            "10.0.0.2".into()
        )
    );
    assert_eq!(
        next().await,
        (FilterUpdateType::UpdateAdd, "b".into(), "udp".into())
    );
    let now = client
        .management
        .get_filters(request)
        .await
        .unwrap()
        .into_inner()
        .filters;
    assert_eq!(now.len(), 2);

    // Replaced as a whole.
    let new = folder.path().join("new");
    fs::write(&new, "filters:\n  - {id: b, type: bpf, pattern: udp}\n").unwrap();
    fs::rename(&new, &file).unwrap();
    assert_eq!(
        next().await,
        (
            FilterUpdateType::UpdateDelete,
            "a".into(),
            "10.0.0.2".into()
        )
    );
    drop((updates, client));
    sink.shutdown().await.unwrap();
}

#[tokio::test]
async fn heartbeats_are_answered_and_shown() {
    let sink = Sink::start(config()).await.unwrap();
    let mut client = Client::connect(sink.local_addr()).await;
    client
        .management
        .register_hunter(registration("h1", &["bpf"]))
        .await
        .unwrap();
    let now_ns = std::time::SystemTime::UNIX_EPOCH
        .elapsed()
        .unwrap()
        .as_nanos() as i64;
    let beat = |timestamp_ns| HunterHeartbeat {
        hunter_id: "h1".into(),
        timestamp_ns,
        status: HunterStatus::StatusWarning.into(),
        stats: Some(Default::default()),
    };
    let beats = tokio_stream::iter([beat(now_ns), beat(now_ns + 1)]);
    let mut answers = client
        .management
        .heartbeat(beats)
        .await
        .unwrap()
        .into_inner();
    for expected in [now_ns, now_ns + 1] {
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(
            (answer.timestamp_ns, answer.hunters_connected),
            (expected, 1)
        );
    }
    assert_eq!(
        answers.next().await.unwrap().unwrap_err().code(),
        Code::Unknown
    );

    let status = client
        .management
        .get_hunter_status(StatusRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.hunters[0].status(), HunterStatus::StatusWarning);
    assert_eq!(status.processor_stats.unwrap().warning_hunters, 1);
    // Its clock says that the hunter has been silent for a minute.
    let late = tokio_stream::iter([beat(now_ns - 60_000_000_000)]);
    client
        .management
        .heartbeat(late)
        .await
        .unwrap()
        .into_inner()
        .next()
        .await
        .unwrap()
        .unwrap();
    let hunters = client
        .management
        .list_available_hunters(ListHuntersRequest {})
        .await
        .unwrap()
        .into_inner()
        .hunters;
    assert_eq!(hunters[0].status(), HunterStatus::StatusError);
    drop((answers, client));
    sink.shutdown().await.unwrap();
}

#[tokio::test]
async fn too_many_hunters_are_refused() {
    let sink = Sink::start(config()).await.unwrap();
    let mut client = Client::connect(sink.local_addr()).await;
    for number in 0..100 {
        client
            .management
            .register_hunter(registration(&format!("h{number}"), &[]))
            .await
            .unwrap();
    }
    let refused = client
        .management
        .register_hunter(registration("one more", &[]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    // A known one may come again.
    client
        .management
        .register_hunter(registration("h7", &[]))
        .await
        .unwrap();
    drop(client);
    sink.shutdown().await.unwrap();
}

#[tokio::test]
async fn unknown_key_oversized_message_and_other_rpcs_are_refused() {
    let sink = Sink::start(Config {
        api_key: Some("secret".into()),
        ..config()
    })
    .await
    .unwrap();
    let mut client = Client::connect(sink.local_addr()).await;
    let refused = client
        .management
        .register_hunter(registration("h1", &[]))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unauthenticated, "authentication failed")
    );
    let (acks, end) = client.send(&[batch("h1", 1, vec![])]).await;
    assert_eq!((acks.len(), end.code()), (0, Code::Unauthenticated));

    let with_key = |mut request: Request<_>| {
        request
            .metadata_mut()
            .insert("x-api-key", "secret".parse().unwrap());
        request
    };
    client
        .management
        .register_hunter(with_key(Request::new(registration("h1", &[]))))
        .await
        .unwrap();
    let mut topology = Request::new(Default::default());
    topology
        .metadata_mut()
        .insert("x-api-key", "secret".parse().unwrap());
    assert_eq!(
        client
            .management
            .get_topology(topology)
            .await
            .unwrap_err()
            .code(),
        Code::Unimplemented
    );
    drop(client);
    sink.shutdown().await.unwrap();

    let sink = Sink::start(config()).await.unwrap();
    let client = Client::connect(sink.local_addr()).await;
    let mut large = packet(1);
    large.data = vec![0; lc_proto::MAX_MESSAGE_BYTES].into();
    let (acks, end) = client
        .send(&[batch("h1", 1, vec![]), batch("h1", 2, vec![large])])
        .await;
    assert_eq!((acks.len(), end.code()), (1, Code::ResourceExhausted));
    let (_, end) = client.send_raw(vec![vec![0x22, 0x7f].into()]).await;
    assert_eq!(end.code(), Code::Internal);
    drop(client);
    sink.shutdown().await.unwrap();
}

#[tokio::test]
async fn flow_and_delay_are_as_asked() {
    let flow = FlowPlan::Pause {
        lasting: Duration::from_secs(3600),
        after: 2,
    };
    let ack_delay = Duration::from_millis(20);
    let sink = Sink::start(Config {
        flow,
        ack_delay,
        ..config()
    })
    .await
    .unwrap();
    let client = Client::connect(sink.local_addr()).await;
    let start = std::time::Instant::now();
    let batches: Vec<_> = (1..=4)
        .map(|sequence| batch("h1", sequence, vec![]))
        .collect();
    let (acks, _) = client.send(&batches).await;
    assert!(start.elapsed() >= 4 * ack_delay);
    let signals: Vec<_> = acks.iter().map(|ack| ack.flow_control()).collect();
    use FlowControl::*;
    assert_eq!(signals, [FlowContinue, FlowContinue, FlowPause, FlowPause]);
    drop(client);
    sink.shutdown().await.unwrap();
}

#[tokio::test]
async fn writes_json_pcapng_and_summary() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let sink = Sink::start(Config {
        listen: config().listen,
        json_data: true,
        ..Config::recording_into(folder.path())
    })
    .await
    .unwrap();
    let client = Client::connect(sink.local_addr()).await;
    let mut plain = packet(1);
    plain.timestamp_ns = 1_700_000_000_123_456_789;
    plain.original_length = 1500;
    let mut raw_ip = packet(2);
    raw_ip.link_type = 12;
    raw_ip.matched_filter_ids = vec!["f1".into(), "f2".into()];
    raw_ip.metadata = Some(PacketMetadata {
        protocol: "DNS".into(),
        transport: "UDP".into(),
        ..Default::default()
    });
    let mut wrong = packet(3);
    wrong.capture_length += 1;
    client
        .send(&[
            batch("h1", 1, vec![plain.clone(), raw_ip.clone()]),
            batch("h1", 4, vec![wrong.clone()]),
            batch("h1", 1, vec![plain.clone()]),
        ])
        .await;
    drop(client);
    let summary = sink.shutdown().await.unwrap();

    let lines: Vec<Value> = fs::read_to_string(at("packets.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(
        lines[0],
        json!({
            "hunter_id": "h1", "sequence": 1, "timestamp_ns": 1_700_000_000_123_456_789_i64, "interface_name": "eth0",
            "link_type": 1, "capture_length": 3, "original_length": 1500, "matched_filter_ids": [], "data": "AQEB",
        })
    );
    assert_eq!(
        lines[1]["metadata"],
        json!({"protocol": "DNS", "transport": "UDP"})
    );

    let frame = |packet: &lc_proto::data::CapturedPacket, link| {
        (
            "eth0".to_owned(),
            link,
            packet.timestamp_ns as u64,
            packet.original_length,
            packet.data.to_vec(),
        )
    };
    let written = [
        frame(&plain, DataLink::ETHERNET),
        frame(&raw_ip, DataLink::RAW),
        frame(&plain, DataLink::ETHERNET),
    ];
    assert_eq!(frames(&at("packets.pcapng")), written);

    let on_disk: lc_sink::Summary =
        serde_json::from_slice(&fs::read(at("summary.json")).unwrap()).unwrap();
    assert_eq!(on_disk, summary);
    assert_eq!(
        (
            summary.totals.batches,
            summary.totals.packets,
            summary.totals.bytes
        ),
        (3, 4, 12)
    );
    assert_eq!(
        (summary.totals.batches_again, summary.totals.packets_again),
        (1, 1)
    );
    assert_eq!(summary.malformed_packets, 1);
    assert_eq!(summary.totals.last_timestamp_ns, Some(plain.timestamp_ns));
    let hunter = &summary.hunters["h1"];
    assert_eq!(
        (hunter.sequences.as_slice(), hunter.missing_batches),
        (&[(1, 1), (4, 4)][..], 2)
    );
    let packets = |table: &BTreeMap<String, lc_sink::summary::Count>| -> Vec<(String, u64)> {
        table
            .iter()
            .map(|(name, count)| (name.clone(), count.packets))
            .collect()
    };
    assert_eq!(
        packets(&summary.protocols),
        [("(none)".to_owned(), 3), ("DNS".to_owned(), 1)]
    );
    assert_eq!(
        packets(&summary.transports),
        [("(none)".to_owned(), 3), ("UDP".to_owned(), 1)]
    );
    assert_eq!(
        packets(&summary.filters),
        [("f1".to_owned(), 1), ("f2".to_owned(), 1)]
    );
    // No journal or half-written file stays behind.
    let mut names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["packets.jsonl", "packets.pcapng", "summary.json"]);
}

#[tokio::test]
async fn a_second_run_continues_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut last = None;
    for sequence in [1, 2, 2] {
        let sink = Sink::start(Config {
            listen: config().listen,
            ..Config::recording_into(folder.path())
        })
        .await
        .unwrap();
        let client = Client::connect(sink.local_addr()).await;
        client
            .send(&[batch("h1", sequence, vec![packet(sequence)])])
            .await;
        drop(client);
        last = Some(sink.shutdown().await.unwrap());
    }
    let summary = last.unwrap();
    assert_eq!(
        (summary.totals.packets, summary.totals.packets_again),
        (3, 1)
    );
    assert_eq!(summary.hunters["h1"].sequences, [(1, 2)]);
    assert_eq!(
        fs::read_to_string(at("packets.jsonl"))
            .unwrap()
            .lines()
            .count(),
        3
    );
    let data: Vec<_> = frames(&at("packets.pcapng"))
        .into_iter()
        .map(|frame| frame.4[0])
        .collect();
    assert_eq!(data, [1, 2, 2]);
}

#[tokio::test]
async fn discard_counts_what_it_does_not_decode() {
    let sink = Sink::start(Config {
        discard: true,
        ..config()
    })
    .await
    .unwrap();
    let client = Client::connect(sink.local_addr()).await;
    let (acks, _) = client
        .send(&[
            batch("h1", 1, vec![packet(1), packet(2)]),
            batch("h1", 1, vec![packet(1)]),
        ])
        .await;
    assert_eq!(acks.len(), 2);
    drop(client);
    let totals = sink.shutdown().await.unwrap().totals;
    assert_eq!(
        (
            totals.batches,
            totals.packets,
            totals.bytes,
            totals.packets_again
        ),
        (2, 3, 9, 1)
    );
}

#[tokio::test]
async fn shutdown_ends_open_streams() {
    let sink = Sink::start(config()).await.unwrap();
    let address = sink.local_addr();
    let mut client = Client::connect(address).await;
    let request = FilterRequest {
        hunter_id: "h1".into(),
    };
    let mut updates = client
        .management
        .subscribe_filters(request)
        .await
        .unwrap()
        .into_inner();
    let (summary, end) = tokio::join!(sink.shutdown(), updates.next());
    summary.unwrap();
    assert_eq!(end.unwrap().unwrap_err().code(), Code::Unavailable);
    // The address is free again.
    let sink = Sink::start(Config {
        listen: address,
        ..config()
    })
    .await
    .unwrap();
    sink.shutdown().await.unwrap();
}

#[tokio::test]
async fn unusable_settings_are_refused_with_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("foreign"), "{}").unwrap();
    fs::write(at("bad.toml"), "filters = 1").unwrap();
    let other = Sink::start(config()).await.unwrap();
    let cases = [
        (
            Config {
                listen: other.local_addr(),
                ..config()
            },
            "cannot listen on 127.0.0.1:",
        ),
        (
            Config {
                filters: Some(at("absent.toml")),
                ..config()
            },
            "absent.toml",
        ),
        (
            Config {
                filters: Some(at("bad.toml")),
                ..config()
            },
            "bad.toml",
        ),
        (
            Config {
                json: Some(Output::File(at("no/folder"))),
                ..config()
            },
            "no/folder",
        ),
        (
            Config {
                summary: Some(Output::File(at("foreign"))),
                ..config()
            },
            "is not a summary of lc-sink",
        ),
        (
            Config {
                write_file: Some(at("foreign")),
                ..config()
            },
            "is not a pcapng file",
        ),
        (
            Config {
                json_data: true,
                ..config()
            },
            "json-data",
        ),
        (
            Config {
                discard: true,
                write_file: Some(at("f")),
                ..config()
            },
            "discard",
        ),
    ];
    for (config, expected) in cases {
        let error = Sink::start(config).await.err().unwrap().to_string();
        assert!(error.contains(expected), "{error}");
    }
    other.shutdown().await.unwrap();
}
