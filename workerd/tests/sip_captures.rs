//! SIP messages of real captures, against what TShark counts in them.
//!
//! The captures are those of [`lc_tests::traces`]. Segments of TCP are put in order here, so that the framer can be judged by itself; what stands in
//! fragments or in tunnels is left to tests of those.

#![allow(clippy::unwrap_used)]

use lc_tests::traces::{self, Trace};
use lc_workerd::decode::{Transport, decode};
use lc_workerd::sip::framer::{Event, Limits};
use lc_workerd::sip::message::Message;
use lc_workerd::sip::stream::Stream;
use std::collections::{BTreeMap, BTreeSet};

/// Sequence numbers and payloads.
type Segments = Vec<(u32, Vec<u8>)>;
/// By method, and by status.
type Counts = BTreeMap<String, u64>;

#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    requests: Counts,
    responses: Counts,
    call_ids: BTreeSet<Vec<u8>>,
}

impl Tally {
    fn add(&mut self, message: &Message<'_>) {
        let (counts, key) = match message.method() {
            Some(method) => (&mut self.requests, method.token().to_owned()),
            None => (&mut self.responses, message.status().to_string()),
        };
        *counts.entry(key).or_default() += 1;
        self.call_ids
            .extend(message.call_id().ok().map(<[u8]>::to_vec));
    }
}

#[test]
fn messages_are_those_that_are_known_to_be_there() {
    let Some(captures) = traces::all().unwrap() else {
        return;
    };
    let checked = captures.iter().filter(|trace| check(trace)).count();
    assert!(checked > 20, "only {checked} captures with SIP");
}

/// Whether there was something to check.
fn check(trace: &Trace) -> bool {
    let facts = &trace.facts;
    let sip = &facts["sip"];
    let tunnels = facts["encapsulation"].as_object();
    let is_plain = tunnels.is_none_or(|tunnels| tunnels.keys().all(|key| key.contains("vlan")));
    let is_whole = facts.get("fragments").is_none() && trace.name() != "sip-ipip-fragments.pcap";
    if !trace.is_strict() || !sip.is_object() || !is_plain || !is_whole {
        return false;
    }
    let tally = observe(trace);
    let counts = |key: &str| -> Counts { serde_json::from_value(sip[key].clone()).unwrap() };
    let name = trace.name();
    assert_eq!(tally.requests, counts("requests"), "{name}");
    assert_eq!(tally.responses, counts("responses"), "{name}");
    let ids = sip["distinct_call_ids"].as_u64().unwrap();
    assert_eq!(tally.call_ids.len() as u64, ids, "{name}");
    for dialog in sip["dialogs"].as_array().unwrap() {
        let id = dialog["call_id"].as_str().unwrap().as_bytes();
        assert!(tally.call_ids.contains(id), "{name}: {dialog}");
    }
    true
}

fn observe(trace: &Trace) -> Tally {
    let mut tally = Tally::default();
    let mut streams: BTreeMap<String, Segments> = BTreeMap::new();
    for packet in trace.packets().unwrap() {
        let decoded = decode(packet.link_type as u16, &packet.bytes);
        let payload = decoded.payload_of(&packet.bytes);
        match decoded.transport {
            Some(Transport::Udp) => {
                if let Some(message) = Message::parse(payload) {
                    tally.add(&message);
                }
            }
            Some(Transport::Tcp) if !payload.is_empty() => {
                let direction = (decoded.addresses, decoded.ports);
                let at = decoded.header + 4;
                let sequence = u32::from_be_bytes(packet.bytes[at..at + 4].try_into().unwrap());
                let stream = streams.entry(format!("{direction:?}")).or_default();
                stream.push((sequence, payload.to_vec()));
            }
            _ => {}
        }
    }
    for stream in streams.into_values() {
        frame(stream, &mut tally);
    }
    tally
}

/// Puts the segments of one direction in order, and finds the messages in them.
fn frame(mut segments: Segments, tally: &mut Tally) {
    let first = segments[0].0;
    segments.sort_by_key(|(sequence, _)| sequence.wrapping_sub(first) as i32);
    let mut stream = Stream::new(Limits::default(), 0, true);
    let mut next = segments[0].0;
    for (sequence, payload) in segments {
        let seen = next.wrapping_sub(sequence) as i32;
        if seen < 0 {
            stream.gap(u64::from(seen.unsigned_abs()));
        }
        let Some(mut new) = payload.get(seen.max(0) as usize..) else {
            continue;
        };
        next = sequence.wrapping_add(payload.len() as u32);
        while let Some(event) = stream.next(&mut new) {
            if let Event::Message(framed) = event {
                tally.add(&Message::parse(framed.bytes).unwrap());
            }
        }
    }
}
