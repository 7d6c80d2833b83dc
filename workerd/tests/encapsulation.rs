//! Tunnels and fragments of real captures, against the flows and datagrams that TShark found in them.
//!
//! The captures are those of [`lc_tests::traces`].

#![allow(clippy::unwrap_used)]

use lc_tests::capture::Packet;
use lc_tests::traces::{self, Trace};
use lc_workerd::decode::{Addr, Decoded, Transport, decode};
use lc_workerd::fragments::{Fragments, Limits, Offered};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Transport and both ends, the smaller one first.
type Flow = (&'static str, [(IpAddr, u16); 2]);

/// Captures in which we see flows otherwise than TShark, on purpose; by the start of their name.
const OTHERWISE: &[&str] = &[
    // Datagrams of more than 65535 bytes.
    "ipv6-reassembly-state-leak",
    // A later fragment that starts where the one before it does not end.
    "fragmented-1.",
    // A packet of more than 65535 bytes, and so without a length, in Geneve.
    "bigtcp-ipv6-geneve-ipv4",
    // Carriers that are not opened: Teredo, CAPWAP, provider backbone bridges, fabric path.
    "gtp8_teredo",
    "zeek-teredo",
    "capwap_data",
    "pbb.",
    "cisco-fabric-path",
];

#[test]
fn captures_hold_the_flows_and_datagrams_that_are_found_in_them() {
    let Some(captures) = traces::of(&["fragments", "tunnels"]).unwrap() else {
        return;
    };
    let (mut checked, mut wrong) = (0, Vec::new());
    for trace in captures {
        let name = trace.name();
        let otherwise = OTHERWISE.iter().any(|start| name.starts_with(start));
        let differences = differences(&trace);
        if trace.is_strict() && !otherwise {
            checked += 1;
            if !differences.is_empty() {
                wrong.push(format!("{name}: {}", differences.join("\n    ")));
            }
        }
    }
    println!("{checked} captures agree with what is known of them");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn differences(trace: &Trace) -> Vec<String> {
    let facts = &trace.facts;
    let seen = Seen::of(&trace.packets().unwrap());
    let mut differences = Vec::new();
    let expected = facts["fragments"].as_object();
    let datagrams: u64 = ["ipv4_datagrams_reassembled", "ipv6_datagrams_reassembled"]
        .iter()
        .filter_map(|key| expected?.get(*key)?.as_u64())
        .sum();
    if seen.datagrams != datagrams {
        differences.push(format!("{} datagrams, not {datagrams}", seen.datagrams));
    }
    if facts["flows"]["list_complete"] != true {
        return differences;
    }
    let mut flows = BTreeMap::new();
    for fact in facts["flows"]["list"].as_array().unwrap() {
        let end = |address: &Value, port: &Value| {
            let address: IpAddr = address.as_str()?.parse().ok()?;
            Some((address.to_canonical(), port.as_u64()? as u16))
        };
        let (Some(a), Some(b)) = (
            end(&fact["a"], &fact["a_port"]),
            end(&fact["b"], &fact["b_port"]),
        ) else {
            return differences;
        };
        let l4 = match fact["l4"].as_str().unwrap() {
            "tcp" => "TCP",
            "udp" => "UDP",
            _ => "SCTP",
        };
        *flows.entry(flow(l4, a, b)).or_insert(0) += fact["frames"].as_u64().unwrap();
    }
    let all: BTreeSet<_> = flows.keys().chain(seen.flows.keys()).collect();
    for flow in all {
        let (ours, theirs) = (seen.flows.get(flow), flows.get(flow));
        if ours != theirs {
            differences.push(format!("{flow:?}: {ours:?} packets, not {theirs:?}"));
        }
    }
    differences
}

#[derive(Default)]
struct Seen {
    flows: BTreeMap<Flow, u64>,
    datagrams: u64,
}

impl Seen {
    fn of(packets: &[Packet]) -> Self {
        let mut seen = Self::default();
        let mut fragments = Fragments::new(Limits::default());
        for (token, packet) in (0..).zip(packets) {
            let decoded = decode(packet.link_type as u16, &packet.bytes);
            if !decoded.fragment {
                seen.count(&decoded);
                continue;
            }
            let time_ns = packet.time_ns as u64;
            let offered = fragments.offer(&decoded, &packet.bytes, 0, time_ns, &[token]);
            if let Offered::Whole(whole) = offered {
                assert!(whole.tokens.is_sorted() && whole.tokens.last() == Some(&token));
                let decoded = whole.decoded;
                seen.count(&decoded);
            }
            fragments.abandoned().for_each(drop);
        }
        seen.datagrams = fragments.counts().completed;
        seen
    }

    fn count(&mut self, decoded: &Decoded) {
        let (Some((a, b)), Some((p, q)), Some(transport)) =
            (decoded.addresses, decoded.ports, decoded.transport)
        else {
            return;
        };
        assert!(transport != Transport::Icmp);
        let flow = flow(transport.name(), (address(a), p), (address(b), q));
        *self.flows.entry(flow).or_insert(0) += 1;
    }
}

fn flow(transport: &'static str, a: (IpAddr, u16), b: (IpAddr, u16)) -> Flow {
    let mut ends = [a, b];
    ends.sort();
    (transport, ends)
}

fn address(address: Addr) -> IpAddr {
    match address {
        Addr::V4(address) => IpAddr::V4(address.into()),
        Addr::V6(address) => IpAddr::V6(address.into()),
    }
}
