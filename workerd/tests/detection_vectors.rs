//! The reference's detection vectors, one after the other, each with a fresh detector; skipped
//! without the reference. `tests/tests/detection.rs` sends the same through the whole node.

#![allow(clippy::unwrap_used)]

use lc_tests::vectors::{self, Carrier, Packet, Segment, UNKNOWN, Vector, VectorError};
use lc_workerd::decode::{Addr, arp, decode};
use lc_workerd::detect::{Context, Details, Detector, FIN, Flow, Layer, RST};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

#[test]
fn every_vector_is_answered_as_it_must_be() {
    let vectors = match vectors::read() {
        Ok(vectors) => vectors,
        Err(absent @ VectorError::Absent { .. }) => return lc_tests::skipped!("{absent}"),
        Err(damaged) => panic!("{damaged}"),
    };
    let mut counts = BTreeMap::<&str, [usize; 2]>::new();
    let mut same_confidence = [0; 2];
    let mut failures = Vec::new();
    for vector in &vectors {
        let count = counts.entry(&vector.class).or_default();
        count[1] += 1;
        match check(vector) {
            Ok(same) => {
                count[0] += 1;
                same_confidence[0] += usize::from(same == Some(true));
                same_confidence[1] += usize::from(same.is_some());
            }
            Err(reason) => failures.push(format!("{}: {reason}", vector.name)),
        }
    }
    for (class, [passed, all]) in &counts {
        println!("{class}: {passed} of {all}");
    }
    let [same, all] = same_confidence;
    println!("same confidence: {same} of {all}");
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Whether the confidence is the reference's, too, where it tells one.
fn check(vector: &Vector) -> Result<Option<bool>, String> {
    let mut node = Node::new();
    let mut answer = (UNKNOWN, 0);
    for packet in &vector.packets {
        answer = node.feed(packet);
    }
    let (protocol, confidence) = answer;
    let details = &node.details;
    vector.check(protocol, details.info(), |key| details.get(key))?;
    let near = |expected: f64| (expected * 1000.0 - f64::from(confidence)).abs() < 1.0;
    Ok(vector.confidence.map(near))
}

/// An address and a port.
type End = (Addr, u16);

/// A worker's detection with the simplest of flow tables.
struct Node {
    detector: Detector,
    details: Details,
    flows: HashMap<(Layer, [End; 2]), (Flow, End)>,
}

impl Node {
    fn new() -> Self {
        Self {
            detector: Detector::new(),
            details: Details::new(),
            flows: HashMap::new(),
        }
    }

    /// The answer to a packet, and its confidence in thousandths.
    fn feed(&mut self, packet: &Packet) -> (&'static str, u16) {
        self.details.clear();
        match packet {
            Packet::Segment(segment) => self.feed_segment(segment),
            Packet::Frame { link_type, bytes } => self.feed_frame(*link_type, bytes),
        }
    }

    fn feed_segment(&mut self, segment: &Segment) -> (&'static str, u16) {
        let layer = match segment.carrier {
            Carrier::Tcp => Layer::Tcp,
            Carrier::Udp => Layer::Udp,
            Carrier::Sctp => Layer::Sctp,
            Carrier::Icmp => Layer::Icmp,
            Carrier::IcmpV6 => Layer::IcmpV6,
            Carrier::Frame => panic!("a frame without bytes"),
        };
        let ((source, source_port), (destination, destination_port)) =
            (segment.source, segment.destination);
        let ports = (source_port, destination_port);
        let mut context = Context::new(layer, ports, &segment.payload);
        context.addresses = (address(source), address(destination));
        context.time_ns = 1_000_000_000 + segment.at_ms * 1_000_000;
        context.traffic_class = segment.traffic_class;
        for flag in segment.tcp_flags.chars() {
            context.tcp_flags |= match flag {
                'F' => FIN,
                'R' => RST,
                _ => 0,
            };
        }
        self.observe(context)
    }

    fn feed_frame(&mut self, link_type: u16, frame: &[u8]) -> (&'static str, u16) {
        let decoded = decode(link_type, frame);
        if let Some(packet) = arp(link_type, frame) {
            return self.observe(Context::new(Layer::Arp, (0, 0), packet));
        }
        let Some(context) = Context::decoded(&decoded, frame, true, 1_000_000_000) else {
            return (UNKNOWN, 0);
        };
        self.observe(context)
    }

    fn observe(&mut self, mut context: Context<'_>) -> (&'static str, u16) {
        let source = (context.addresses.0, context.source_port);
        let destination = (context.addresses.1, context.destination_port);
        let mut ends = [source, destination];
        ends.sort_by_key(|(address, port)| (format!("{address:?}"), *port));
        let flow = self
            .flows
            .entry((context.layer, ends))
            .or_insert((Flow::default(), source));
        context.forward = flow.1 == source;
        let verdict = self.detector.observe(&context, &mut flow.0);
        self.detector
            .describe(&context, &mut flow.0, &mut self.details);
        verdict.map_or((UNKNOWN, 0), |verdict| {
            (verdict.protocol.name(), verdict.confidence.in_thousandths())
        })
    }
}

fn address(address: IpAddr) -> Addr {
    match address {
        IpAddr::V4(address) => Addr::V4(address.to_bits()),
        IpAddr::V6(address) => Addr::of_v6(address.to_bits()),
    }
}
