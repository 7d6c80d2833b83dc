//! Filters that change while packets flow.
//!
//! A flood of 1,000 flows from clients 10.0.0.0 to 10.0.3.231 is replayed, and the processor's
//! filters are replaced 100 times meanwhile, 1,000 filters each time:
//!
//! - the first 100 clients are named by filters that never change: all of their packets arrive;
//! - the last 100 are named by none: none of their packets arrives;
//! - the others are named by filters whose id tells which version they belong to.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use lc_tests::capture::{self, Packet};
use lc_tests::compare::Difference;
use lc_tests::generated::generate;
use lc_tests::ipv4::{self, ACK, PSH, RAW_IP};
use lc_tests::node::{Node, PATIENCE, counter};
use lc_tests::processor::{self, Told};
use tempfile::tempdir;

const CHANGES: u32 = 100;
const ALWAYS: u32 = 100;
/// Filters of the first version that change; each version has one more than the one before, so
/// that their number tells when it is complete.
const CHANGING: u32 = 900;
/// Clients from this number on are never named.
const NEVER: u32 = 900;

/// What filter `number` of `version` matches: clients 100 to 899, in another order each time;
/// every third filter names a pair of them.
fn changing(version: u32, number: u32) -> (Ipv4Addr, u8) {
    let client = ALWAYS + (number * 7 + version * 37) % (NEVER - ALWAYS);
    if number.is_multiple_of(3) {
        (Ipv4Addr::from_bits(0x0a00_0000 + (client & !1)), 31)
    } else {
        (Ipv4Addr::from_bits(0x0a00_0000 + client), 32)
    }
}

/// Puts the filters of `version` into force, all at once for whoever reads the file.
fn write_filters(path: &Path, version: u32) {
    let mut text = String::new();
    let mut filter =
        |id: String, pattern: String| text += &processor::filter(id, "ip_address", pattern);
    for client in 0..ALWAYS {
        let address = Ipv4Addr::from_bits(0x0a00_0000 + client);
        filter(format!("always-{client}"), address.to_string());
    }
    for number in 0..CHANGING + version {
        let (address, length) = changing(version, number);
        filter(
            format!("v{version}-{number}"),
            format!("{address}/{length}"),
        );
    }
    processor::replace_filters(path, &text).unwrap();
}

/// Number of the client that sent a packet.
fn client(told: &Told) -> u32 {
    let address = &told.metadata.as_ref().unwrap().src_ip;
    address.parse::<Ipv4Addr>().unwrap().to_bits() - 0x0a00_0000
}

/// The version of the set by which a packet was judged, if its ids tell; every id must be right.
fn judged_by(told: &Told) -> Vec<u32> {
    let client = client(told);
    let mut versions = Vec::new();
    for id in &told.matched_filter_ids {
        if let Some(named) = id.strip_prefix("always-") {
            assert_eq!(named.parse(), Ok(client), "{told:?}");
            continue;
        }
        let (version, number) = id[1..].split_once('-').unwrap();
        let version = version.parse().unwrap();
        let (address, length) = changing(version, number.parse().unwrap());
        let mask = u32::MAX << (32 - length);
        assert_eq!(
            (0x0a00_0000 + client) & mask,
            address.to_bits(),
            "{told:?} {address}/{length}"
        );
        versions.push(version);
    }
    versions.sort_unstable();
    versions.dedup();
    versions
}

#[test]
fn a_thousand_filters_changed_a_hundred_times() {
    let folder = tempdir().unwrap();
    let flags = ["--flood", "round-robin", "--flows", "1000", "--size", "100"];
    let flags = [
        &flags[..],
        &["--ipv6", "0", "--vlan", "0", "--packets", "600000"],
    ]
    .concat();
    let sent = generate(folder.path(), "flood.pcap", &flags).unwrap();
    let filters = folder.path().join("filters.toml");
    write_filters(&filters, 0);
    let sink = folder.path().join("arrived");
    let node = Node::start([
        "hunt".as_ref(),
        "--read-file".as_ref(),
        sent.path.as_os_str(),
        "--replay-rate".as_ref(),
        "5000pps".as_ref(),
        "--sink".as_ref(),
        sink.as_os_str(),
        "--filters".as_ref(),
        filters.as_os_str(),
        "--workers".as_ref(),
        "2".as_ref(),
    ])
    .unwrap();
    let in_force = |version: u32| {
        node.wait_until(|status| {
            let filters = &status["filters"];
            let mut workers = filters["workers"].as_array().unwrap().iter();
            filters["enabled"] == ALWAYS + CHANGING + version
                && workers.all(|worker| *worker == filters["generation"])
        })
        .unwrap_or_else(|| panic!("version {version} is put in force"))
    };
    // Every version judges some packets before the next one comes.
    let judged = |version: u32| {
        let before = counter(&in_force(version), "worker_received_packets_total");
        node.wait_until(|status| counter(status, "worker_received_packets_total") > before + 300)
            .unwrap_or_else(|| panic!("packets flow under version {version}"))
    };
    judged(0);
    for version in 1..=CHANGES {
        write_filters(&filters, version);
        judged(version);
    }
    let last = judged(CHANGES);
    assert!(
        counter(&last, "capture_packets_total") < 600_000,
        "too short"
    );
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);

    let told = processor::told(&sink).unwrap();
    let mut newest: HashMap<u32, u32> = HashMap::new();
    let mut seen: BTreeSet<u32> = BTreeSet::new();
    for packet in &told {
        assert!(client(packet) < NEVER, "{packet:?}");
        assert!(!packet.matched_filter_ids.is_empty(), "{packet:?}");
        let versions = judged_by(packet);
        seen.extend(&versions);
        let (Some(oldest), Some(latest)) = (versions.first(), versions.last()) else {
            continue;
        };
        // Updates come one by one, so a set may hold parts of a version and of the one before.
        assert!(latest - oldest <= 1, "{packet:?}");
        let newest = newest.entry(client(packet)).or_insert(*latest);
        assert!(*oldest + 1 >= *newest, "{packet:?} after version {newest}");
        *newest = (*newest).max(*latest);
    }
    assert!(
        seen.into_iter().eq(0..=CHANGES),
        "every version was in force"
    );

    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
    let of_always = |packets: &[capture::Packet]| -> Vec<capture::Packet> {
        let always = |packet: &&capture::Packet| {
            let source = u32::from_be_bytes(packet.bytes[26..30].try_into().unwrap());
            source - 0x0a00_0000 < ALWAYS
        };
        packets.iter().filter(always).cloned().collect()
    };
    let always = of_always(&arrived);
    let expected = of_always(&sent.packets);
    // The run was ended before the end of the file: what was read is a prefix of it.
    let difference = Difference::between(&expected[..always.len()], &always);
    assert!(difference.is_none(), "{difference}");
    let difference = Difference::between(&sent.packets, &arrived);
    assert_eq!(
        (difference.extra, difference.altered),
        (0, 0),
        "{difference}"
    );
    assert_eq!(difference.out_of_order, 0, "{difference}");
}

#[test]
fn only_what_filters_name_arrives() {
    let folder = tempdir().unwrap();
    let flags = ["--flood", "round-robin", "--flows", "1000", "--size", "100"];
    let flags = [
        &flags[..],
        &["--ipv6", "0", "--vlan", "0", "--packets", "5000"],
    ]
    .concat();
    let sent = generate(folder.path(), "flood.pcap", &flags).unwrap();
    let filters = folder.path().join("filters.yaml");
    let text = "filters:\n\
         - {id: one, type: ip_address, pattern: 10.0.0.7, enabled: true}\n\
         - {id: many, type: FILTER_IP_ADDRESS, pattern: 10.0.1.0/24, enabled: true}\n\
         - {id: disabled, type: ip_address, pattern: 10.0.2.0/24, enabled: false}\n";
    fs::write(&filters, text).unwrap();
    let sink = folder.path().join("arrived");
    let node = Node::start([
        "--read-file".as_ref(),
        sent.path.as_os_str(),
        "--sink".as_ref(),
        sink.as_os_str(),
        "--filters".as_ref(),
        filters.as_os_str(),
    ])
    .unwrap();
    let outcome = node.finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let expected: Vec<_> = sent
        .packets
        .iter()
        .filter(|packet| {
            let source = &packet.bytes[26..30];
            source == [10, 0, 0, 7] || source[..3] == [10, 0, 1]
        })
        .cloned()
        .collect();
    assert_eq!(expected.len(), 5 * 257);
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap();
    let difference = Difference::between(&expected, &arrived.packets);
    assert!(difference.is_none(), "{difference}");
    for packet in processor::told(&sink).unwrap() {
        let id = if client(&packet) == 7 { "one" } else { "many" };
        assert_eq!(packet.matched_filter_ids, [id]);
    }
}

#[test]
fn without_filters_the_policy_decides() {
    let folder = tempdir().unwrap();
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "500"]).unwrap();
    for (policy, count) in [("deny", 0), ("allow", 500)] {
        let sink = folder.path().join(policy);
        let node = Node::start([
            "--read-file".as_ref(),
            sent.path.as_os_str(),
            "--sink".as_ref(),
            sink.as_os_str(),
            "--no-filter-policy".as_ref(),
            policy.as_ref(),
        ])
        .unwrap();
        let outcome = node.finish(PATIENCE).unwrap();
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
        let arrived = capture::read(&sink.join("packets.pcapng")).unwrap();
        assert_eq!(arrived.packets.len(), count, "{policy}");
    }
}

#[test]
fn bpf_filters_join_the_base_expression() {
    let folder = tempdir().unwrap();
    let flags = ["--packets", "3000", "--ipv6", "0", "--vlan", "0"];
    let sent = generate(folder.path(), "sent.pcap", &flags).unwrap();
    let filters = folder.path().join("filters.toml");
    let text = [
        ("mail", "port 25"),
        ("dns", "port 53"),
        ("broken", "port port"),
    ]
    .map(|(id, pattern)| processor::filter(id, "bpf", pattern))
    .concat();
    fs::write(&filters, text).unwrap();
    let sink = folder.path().join("arrived");
    let node = Node::start([
        "--read-file".as_ref(),
        sent.path.as_os_str(),
        "--sink".as_ref(),
        sink.as_os_str(),
        "--filters".as_ref(),
        filters.as_os_str(),
        "--filter".as_ref(),
        "tcp".as_ref(),
    ])
    .unwrap();
    let outcome = node.finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("port port"), "{}", outcome.stderr);
    let expected: Vec<_> = sent
        .packets
        .iter()
        .filter(|packet| {
            let port = |at: usize| u16::from_be_bytes([packet.bytes[at], packet.bytes[at + 1]]);
            packet.bytes[23] == 6 && (port(34) == 25 || port(36) == 25)
        })
        .cloned()
        .collect();
    assert!(!expected.is_empty());
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap();
    let difference = Difference::between(&expected, &arrived.packets);
    assert!(difference.is_none(), "{difference}");
}

/// A capture file of these UDP (17) and TCP (6) payloads, each a packet from a client of its own.
fn write_capture(path: &Path, payloads: &[(u8, Vec<u8>)]) {
    let server = (Ipv4Addr::new(10, 9, 9, 9), 0x9001);
    let packets = (1_u8..).zip(payloads).map(|(number, (protocol, payload))| {
        let client = (Ipv4Addr::new(10, 0, 0, number), 0x9000 + u16::from(number));
        let bytes = match protocol {
            17 => ipv4::udp(client, server, payload),
            _ => ipv4::tcp(client, server, (0, 0), PSH | ACK, payload),
        };
        let time_ns = 1_700_000_000_000_000_000 + i64::from(number) * 1_000;
        Packet::whole(RAW_IP, time_ns, bytes)
    });
    capture::write(path, &packets.collect::<Vec<_>>()).unwrap();
}

/// A ClientHello of TLS 1.2 with one cipher and a server name.
fn client_hello(name: &str) -> Vec<u8> {
    let piece = |bytes: &[u8]| [&(bytes.len() as u16).to_be_bytes(), bytes].concat();
    let entry = [&[0][..], &piece(name.as_bytes())].concat();
    let extension = [&[0, 0][..], &piece(&piece(&entry))].concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &piece(&[0xc0, 0x2f]),
        &[1, 0],
        &piece(&extension),
    ]
    .concat();
    let handshake = [&[1, 0][..], &piece(&body)].concat();
    [&[22, 3, 1][..], &piece(&handshake)].concat()
}

#[test]
fn every_type_of_filter_brings_its_packets_and_its_id() {
    let sip = "REGISTER sip:example.org SIP/2.0\r\nFrom: <sip:+4930123456789@example.org>;tag=1\r\nCall-ID: call-17@x\r\n\
               Authorization: Digest username=\"262011234567890@ims.mnc001.mcc262.3gppnetwork.org\"\r\n\
               Contact: <sip:a@b>;+sip.instance=\"<urn:gsma:imei:35345678-901234-0>\"\r\n\r\nm=audio 9 RTP/AVP 8\r\n";
    let dns = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03www\x07example\x03com\0\0\x01\0\x01";
    let payloads: Vec<(u8, Vec<u8>)> = vec![
        (17, sip.into()),
        (17, dns.into()),
        (
            6,
            b"GET /login HTTP/1.1\r\nHost: shop.example\r\n\r\n".into(),
        ),
        (6, b"MAIL FROM:<a@b.c>\r\n".into()),
        (6, b"Received: x\r\nSubject: top secret\r\n\r\n".into()),
        (6, client_hello("www.example.net")),
        (17, b"nothing that anybody asked for".into()),
    ];
    let expected = [
        "10.0.0.1 imsi imei sip_user phone_number sip_uri call_id codec",
        "10.0.0.2 dns_domain",
        "10.0.0.3 http_host http_url",
        "10.0.0.4 email_address",
        "10.0.0.5 email_subject",
        "10.0.0.6 tls_sni tls_ja3 tls_ja4",
    ];
    let filters = [
        ("sip_user", "+4930"),
        ("phone_number", "4930123456789"),
        ("call_id", "call-17@*"),
        ("codec", "PCMA"),
        ("sip_uri", "*@example.org"),
        ("dns_domain", "*.example.com"),
        ("email_address", "*@b.c"),
        ("email_subject", "*secret*"),
        ("tls_sni", "www.example.net"),
        // MD5 of "771,49199,0,,"
        ("tls_ja3", "61cfdf1a447a978ff66f0880924eded7"),
        ("tls_ja4", "t12d010100_f06271c2b022_000000000000"),
        ("http_host", "shop.*"),
        ("http_url", "/login"),
        ("imsi", "262011234567890"),
        ("imei", "353456789012347"),
        ("ip_address", "bogus"),
    ];
    let folder = tempdir().unwrap();
    let sent = folder.path().join("sent.pcap");
    write_capture(&sent, &payloads);
    let mut text = String::new();
    for (kind, pattern) in filters {
        text += &processor::filter(kind, kind, pattern);
    }
    let file = folder.path().join("filters.toml");
    fs::write(&file, text).unwrap();
    let sink = folder.path().join("arrived");
    let arguments: [&std::ffi::OsStr; 6] = [
        "--read-file".as_ref(),
        sent.as_os_str(),
        "--sink".as_ref(),
        sink.as_os_str(),
        "--filters".as_ref(),
        file.as_os_str(),
    ];
    let outcome = Node::start(arguments).unwrap().finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("is no IP address"),
        "{}",
        outcome.stderr
    );
    let mut arrived: Vec<String> = processor::told(&sink)
        .unwrap()
        .iter()
        .map(|told| {
            format!(
                "{} {}",
                told.metadata.as_ref().unwrap().src_ip,
                told.matched_filter_ids.join(" ")
            )
        })
        .collect();
    arrived.sort();
    assert_eq!(arrived, expected);
}
