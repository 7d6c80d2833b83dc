//! Detection: packets of decided flows, first packets of flows, noise, and descriptions; and all that is done for a forwarded packet
//! between decoding and encoding, over generated traffic.

#![allow(
    clippy::expect_used,
    reason = "a benchmark that cannot start has nobody to tell but the person who runs it"
)]

use std::fs;
use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use lc_bench::generate::{Kind, Length, Memory, Mix, Settings, Traffic};
use lc_workerd::decode::{Decoded, decode};
use lc_workerd::describe::Describer;
use lc_workerd::detect::{Context, Details, Detector, Flow, Layer};
use lc_workerd::flows::Signal;
use serde_json::Value;
use shm_layout::packet::PacketHeader;
use shm_layout::worker::InProgress;

/// Flows at hand at a time.
const FLOWS: usize = 64;
const ETHERNET: u16 = 1;
const FLOW_TABLE_BYTES: usize = 16 << 20;

const INVITE: &[u8] = b"INVITE sip:bob@biloxi.example SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKa1\r\n\
    From: \"Alice\" <sip:alice@atlanta.example>;tag=1928301774\r\n\
    To: Bob <sip:bob@biloxi.example>\r\nCall-ID: a84b4c76e66710\r\nCSeq: 314159 INVITE\r\n\
    Contact: <sip:alice@192.0.2.10>\r\nContent-Type: application/sdp\r\n\r\n\
    v=0\r\no=alice 1 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\n\
    m=audio 49170 RTP/AVP 0 8\r\n";

/// A flow's first packet: its name, layer, ports and payload.
type FirstPacket = (&'static str, Layer, (u16, u16), Vec<u8>);

fn first_packets() -> Vec<FirstPacket> {
    let mut rtp = vec![0xd5; 172];
    rtp[..12].copy_from_slice(&[0x80, 0, 0x12, 0x34, 0, 0, 0, 160, 1, 2, 3, 4]);
    let mut hello = vec![0; 250];
    hello[..11].copy_from_slice(&[22, 3, 1, 0, 245, 1, 0, 0, 241, 3, 3]);
    let dns = b"\x1a\x2b\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01";
    let http = b"GET /index.html HTTP/1.1\r\nHost: example.com\r\nUser-Agent: bench\r\n\r\n";
    let noise: Vec<u8> = (0..1200_u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    vec![
        ("SIP", Layer::Udp, (5060, 5060), INVITE.to_vec()),
        ("RTP", Layer::Udp, (16384, 16386), rtp),
        ("TLS", Layer::Tcp, (40000, 443), hello),
        ("DNS", Layer::Udp, (41234, 53), dns.to_vec()),
        ("HTTP", Layer::Tcp, (40000, 80), http.to_vec()),
        ("noise over UDP", Layer::Udp, (40001, 40003), noise.clone()),
        ("noise over TCP", Layer::Tcp, (40001, 40003), noise),
    ]
}

fn detection(criterion: &mut Criterion) {
    let mut detector = Detector::new();
    let mut details = Details::new();
    let mut group = criterion.benchmark_group("detect");
    for (name, layer, ports, payload) in &first_packets() {
        let context = Context::new(*layer, *ports, payload);
        group.throughput(Throughput::Elements(FLOWS as u64));
        group.bench_function(BenchmarkId::new("first packet", name), |bencher| {
            bencher.iter(|| {
                let mut flows = [Flow::default(); FLOWS];
                for flow in &mut flows {
                    black_box(detector.observe(black_box(&context), flow));
                }
            });
        });
        let mut flows = [Flow::default(); FLOWS];
        for flow in &mut flows {
            detector.observe(&context, flow);
        }
        if flows[0].verdict().is_none() {
            continue;
        }
        group.bench_function(BenchmarkId::new("decided flow", name), |bencher| {
            bencher.iter(|| {
                for flow in &mut flows {
                    black_box(detector.observe(black_box(&context), flow));
                }
            });
        });
        group.bench_function(BenchmarkId::new("description", name), |bencher| {
            bencher.iter(|| {
                for flow in &mut flows {
                    detector.describe(black_box(&context), flow, &mut details);
                    black_box(&details);
                }
            });
        });
    }
    group.finish();
}

/// The first packet of a flow of each protocol, and its description, by the first of the reference's vectors that is found by itself. They are read
/// from the folder that `LC_HUNT_REFERENCE` names; without it there is nothing to measure.
fn each_protocol(criterion: &mut Criterion) {
    let folder = std::env::var_os("LC_HUNT_REFERENCE").unwrap_or_default();
    let file = Path::new(&folder).join("detection-vectors.json");
    let vectors = fs::read_to_string(file).ok();
    let vectors = vectors.and_then(|text| serde_json::from_str::<Vec<Value>>(&text).ok());
    let mut group = criterion.benchmark_group("each");
    let mut seen = Vec::new();
    for vector in vectors.iter().flatten() {
        let Some((layer, ports, payload)) = packet(vector) else {
            continue;
        };
        let context = Context::new(layer, ports, &payload);
        let (mut detector, mut details) = (Detector::new(), Details::new());
        let Some(verdict) = detector.observe(&context, &mut Flow::default()) else {
            continue;
        };
        if seen.contains(&verdict.protocol) {
            continue;
        }
        seen.push(verdict.protocol);
        group.bench_function(verdict.protocol.name(), |bencher| {
            bencher.iter(|| {
                let mut flow = Flow::default();
                black_box(detector.observe(black_box(&context), &mut flow));
                detector.describe(&context, &mut flow, &mut details);
                black_box(&details);
            });
        });
    }
    group.finish();
}

/// Of a vector over TCP or UDP.
fn packet(vector: &Value) -> Option<(Layer, (u16, u16), Vec<u8>)> {
    let layer = match vector["transport"].as_str()? {
        "UDP" => Layer::Udp,
        "TCP" => Layer::Tcp,
        _ => return None,
    };
    let port = |key: &str| u16::try_from(vector[key].as_u64()?).ok();
    let digits = vector["payload_hex"].as_str()?.as_bytes().chunks(2);
    let byte = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
    let payload = digits.map(byte).collect::<Option<_>>()?;
    Some((layer, (port("src_port")?, port("dst_port")?), payload))
}

/// Packets in the order of their capture, again and again.
fn description(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("describe");
    let kinds = Kind::ALL.map(|kind| format!("{}=1", kind.name()).parse::<Mix>());
    let kinds = kinds.map(|mix| mix.expect("a sound mix"));
    let names = Kind::ALL.map(Kind::name);
    let all = [("mix", Mix::default())];
    for (name, mix) in all.into_iter().chain(names.into_iter().zip(kinds)) {
        let memory = traffic(mix);
        let packets: Vec<_> = memory
            .iter()
            .map(|packet| (header(packet.time_ns, packet.bytes), packet.bytes))
            .map(|(header, bytes)| (header, decode(ETHERNET, bytes), bytes))
            .collect();
        let mut describer = Describer::new(FLOW_TABLE_BYTES).expect("memory for a flow table");
        let mut sequence = 0;
        group.throughput(Throughput::Elements(packets.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                for packet in &packets {
                    sequence += 1;
                    describe(&mut describer, sequence, packet);
                }
            });
        });
    }
    group.finish();
}

#[inline]
fn describe(
    describer: &mut Describer,
    sequence: u64,
    (header, decoded, frame): &(PacketHeader, Decoded, &[u8]),
) {
    let identity = InProgress::new(0, sequence);
    let probe = describer.probe(decoded);
    let flow = probe.as_ref().map(|probe| (probe, Signal::None));
    black_box(describer.describe(identity, header, decoded, flow, || frame));
}

fn traffic(mix: Mix) -> Memory {
    let settings = Settings {
        length: Length::Packets(4_096),
        mix,
        ..Settings::default()
    };
    Memory::collect(&mut Traffic::new(settings).expect("sound settings"))
}

fn header(timestamp_ns: u64, frame: &[u8]) -> PacketHeader {
    PacketHeader {
        sequence: 0,
        timestamp_ns,
        captured_len: frame.len() as u32,
        original_len: frame.len() as u32,
        link_type: ETHERNET,
        interface: 0,
        flow_hash: 0,
    }
}

criterion_group!(benches, detection, each_protocol, description);
criterion_main!(benches);
