//! TCP reassembly over real captures, against a plain oracle and against TShark's counts.
//!
//! The captures are those of [`lc_tests::traces`]. The oracle knows neither time nor order: of all segments of a direction it keeps the first copy of
//! each byte, by sequence number. Every byte that it has must be delivered, at its place; where that is not so, the file is listed here with the reason.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lc_tests::traces::{self, Trace};
use lc_workerd::decode::{Addr, Decoded, Transport, decode};
use lc_workerd::flows::{Direction, FlowTable, Seed, Signal, Timeouts, Zone};
use lc_workerd::reassembly::{
    ConnectionId, Consumer, Counts, Event, Fate, Interest, Limits, Segment, Stream, Streams,
};

/// Files of which not every byte is delivered, or more than the oracle thinks, and why.
const DIFFERENT: &[(&str, &str)] = &[
    (
        "4KHttpRequests.pcap",
        "single segments behind a loss of more than a window",
    ),
    (
        "rst-inject-rae.pcap",
        "the client sends on behind the server's reset",
    ),
    (
        "sip-tcp-in-gtp-ipv6.pcap",
        "four connections, one after the other, between the same ports",
    ),
    (
        "tcpseq_synthetic.pcap",
        "its first packets have nothing to do with each other",
    ),
    (
        "tls-appdata.pcap",
        "pieces of a long connection, the later ones first",
    ),
    (
        "tls-data-on-3whs-ack.pcap",
        "sent again when the connection was long over",
    ),
    (
        "pppoe-over-qinq.pcap",
        "sent again after two minutes of silence",
    ),
];

type End = (Addr, u16);

#[test]
fn captures_are_reassembled_byte_for_byte() {
    let Some(captures) = traces::all().unwrap() else {
        return;
    };
    let mut different = Vec::new();
    let (mut files, mut bytes) = (0, 0);
    for trace in captures {
        let (name, facts) = (trace.name(), &trace.facts);
        if facts["tcp"].is_null() {
            continue;
        }
        let told = reassemble(&trace);
        files += 1;
        bytes += told.counts.delivered_bytes;
        let strict = trace.is_strict() && facts["fragments"].is_null();
        let whole = facts["capture"]["snapped_packets"] == 0 && facts["encapsulation"].is_null();
        if strict
            && whole
            && told.payload_bytes > 0
            && facts["tcp"]["payload_bytes"].as_u64() != Some(told.payload_bytes)
        {
            different.push(format!(
                "{name}: {} bytes of payload, TShark {}",
                told.payload_bytes, facts["tcp"]["payload_bytes"]
            ));
        }
        if strict && told.streams != told.oracle && !trace.is_in(DIFFERENT) {
            let sum =
                |streams: &BTreeMap<String, Vec<u8>>| streams.values().map(Vec::len).sum::<usize>();
            different.push(format!(
                "{name}: {} bytes in {} streams, expected {} in {}; {:?}",
                sum(&told.streams),
                told.streams.len(),
                sum(&told.oracle),
                told.oracle.len(),
                told.counts
            ));
        }
    }
    println!("{files} captures, {bytes} bytes");
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// Captures that were sent again with other cuts, in another order and with repetitions.
#[test]
fn other_cuts_give_the_same_streams() {
    let Some(captures) = traces::all().unwrap() else {
        return;
    };
    for (cut, original) in [
        ("derived-reseg-imap.pcap", "ark-imap.pcap"),
        ("derived-reseg-smtp.pcap", "zeek-smtp.pcap"),
    ] {
        let streams = |name: &str| {
            let trace = captures.iter().find(|trace| trace.name() == name);
            let streams = reassemble(trace.unwrap()).streams.into_values();
            streams.collect::<BTreeSet<Vec<u8>>>()
        };
        // The originals hold other connections too, and one that was not sent again to its end.
        let (cut_up, originals) = (streams(cut), streams(original));
        assert!(cut_up.len() >= 2);
        for stream in &cut_up {
            let found = originals
                .iter()
                .any(|original| original.starts_with(stream));
            assert!(found, "{cut}: {} bytes", stream.len());
        }
        let whole = cut_up.intersection(&originals).count();
        assert!(whole >= cut_up.len() - 1, "{cut}");
    }
}

/// What came of a capture. Streams by a text that names sender and receiver; those without bytes are left out.
struct Told {
    payload_bytes: u64,
    streams: BTreeMap<String, Vec<u8>>,
    oracle: BTreeMap<String, Vec<u8>>,
    counts: Counts,
}

/// Bytes by connection and direction, in the order of their first.
#[derive(Default)]
struct Collector(Vec<((ConnectionId, bool), Vec<u8>)>);

impl Consumer for Collector {
    type State = ();

    fn take(&mut self, stream: Stream<'_, ()>, event: Event<'_>) -> Interest {
        if let Event::Data { bytes, .. } = event {
            let key = (stream.connection, stream.direction == Direction::Request);
            match self.0.iter_mut().rev().find(|(other, _)| *other == key) {
                Some((_, collected)) => collected.extend(bytes),
                None => self.0.push((key, bytes.to_vec())),
            }
        }
        Interest::Follow
    }
}

fn reassemble(trace: &Trace) -> Told {
    let mut flows =
        FlowTable::<Option<ConnectionId>>::new(1 << 20, Seed::known(1), &Timeouts::default())
            .unwrap();
    let mut streams = Streams::new(&Limits::default()).unwrap();
    let mut collector = Collector::default();
    let mut names: HashMap<(ConnectionId, bool), String> = HashMap::new();
    let mut oracle: BTreeMap<String, (u32, BTreeMap<i64, u8>)> = BTreeMap::new();
    let mut payload_bytes = 0;
    for (number, packet) in trace.packets().unwrap().iter().enumerate() {
        let decoded = decode(packet.link_type as u16, &packet.bytes);
        let Some((name, header)) = tcp(&decoded, &packet.bytes) else {
            continue;
        };
        let payload = decoded.payload_of(&packet.bytes);
        payload_bytes += payload.len() as u64;
        let Some(probe) = flows.probe(&decoded, Zone::NONE) else {
            continue;
        };
        let time_ns = packet.time_ns as u64;
        let signal = Signal::of_tcp_flags(header[13]);
        let flow = flows.observe(&probe, time_ns, signal);
        let token = Some(number as u64);
        let segment = Segment::read(header, payload, flow.direction, time_ns, token).unwrap();
        let outcome = streams.segment(flow.memory, &segment, &mut collector);
        assert!(outcome.fate != Fate::Empty || payload.is_empty() || signal == Signal::Abort);
        streams.advance(&mut collector);
        let key = (flow.memory.unwrap(), flow.direction == Direction::Request);
        names.insert(key, name.clone());
        if signal == Signal::Abort || payload.is_empty() {
            continue;
        }
        let first = segment.seq.wrapping_add(u32::from(header[13] >> 1 & 1));
        let (origin, known) = oracle.entry(name).or_insert((first, BTreeMap::new()));
        for (at, byte) in (i64::from(first.wrapping_sub(*origin) as i32)..).zip(payload) {
            known.entry(at).or_insert(*byte);
        }
    }
    streams.close_all(&mut collector);
    let mut told: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (key, bytes) in collector.0 {
        told.entry(names[&key].clone()).or_default().extend(bytes);
    }
    Told {
        payload_bytes,
        streams: told,
        oracle: oracle
            .into_iter()
            .map(|(name, (_, bytes))| (name, bytes.into_values().collect()))
            .collect(),
        counts: *streams.counts(),
    }
}

/// A text for the direction of a TCP packet, and its header with what follows.
fn tcp<'a>(decoded: &Decoded, frame: &'a [u8]) -> Option<(String, &'a [u8])> {
    if decoded.transport != Some(Transport::Tcp) || decoded.fault.is_some() {
        return None;
    }
    let (source, destination) = decoded.addresses?;
    let (source_port, destination_port) = decoded.ports?;
    let ends: [End; 2] = [(source, source_port), (destination, destination_port)];
    Some((format!("{ends:?}"), &frame[decoded.header..]))
}
