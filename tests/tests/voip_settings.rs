//! What the flags of `lc-hunt voip` change, end to end: ESP that is not encrypted, hints of ports, capture filters.
//!
//! Packets are put together here, raw IP without a link layer.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsString;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use lc_tests::capture::{self, Packet};
use lc_tests::ipv4::{self, RAW_IP, UDP, datagram};
use lc_tests::node::{Node, PATIENCE};
use lc_tests::processor::{self, Told};
use tempfile::tempdir;

const ESP: u8 = 50;

/// Who sends a packet.
#[derive(Clone, Copy)]
enum From {
    Caller,
    Callee,
}

/// IPv4 between caller and callee of pair `pair`.
fn ip(from: From, pair: u8, protocol: u8, id: u16, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let [caller, callee] = [1, 2].map(|host| Ipv4Addr::new(10, 0, pair, host));
    let (source, destination) = match from {
        From::Caller => (caller, callee),
        From::Callee => (callee, caller),
    };
    ipv4::fragment(protocol, source, destination, (id, fragment), payload)
}

/// `datagram` in ESP with the NULL cipher and an ICV of 12 bytes.
fn esp(from: From, datagram: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 0, 1, from as u8, 0, 0, 0, 1];
    packet.extend(datagram);
    packet.extend([1, 2, 2, UDP]);
    packet.extend([0xa7; 12]);
    packet
}

fn sip(start: &str, caller: &str, pair: u8, method: &str, media: Option<u16>) -> Vec<u8> {
    let body = media.map_or(String::new(), |port| {
        let address = format!("IN IP4 10.0.{pair}.{}", if port < 30_000 { 1 } else { 2 });
        format!(
            "v=0\r\no=- 1 1 {address}\r\ns=-\r\nc={address}\r\nt=0 0\r\nm=audio {port} RTP/AVP 0\r\n"
        )
    });
    let kind = match media {
        Some(_) => "Content-Type: application/sdp\r\n",
        None => "",
    };
    format!(
        "{start}\r\nVia: SIP/2.0/UDP 10.0.{pair}.1;branch=z9hG4bK{caller}{method}\r\nFrom: <sip:{caller}@a.example>;tag=f\r\n\
         To: <sip:callee@b.example>;tag=t\r\nCall-ID: call-of-{caller}\r\nCSeq: 1 {method}\r\n{kind}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn rtp(ssrc: u32, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0];
    packet.extend(sequence.to_be_bytes());
    packet.extend((u32::from(sequence) * 160).to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    packet.extend([0xd5; 160]);
    packet
}

/// The datagrams of a call: signalling on 5060, media on 20000 and 40000.
fn call(caller: &str, pair: u8) -> Vec<(From, Vec<u8>)> {
    let request = |method: &str| format!("{method} sip:callee@b.example SIP/2.0");
    let signalling = |from, bytes: Vec<u8>| (from, datagram((5060, 5060), &bytes));
    let mut packets = vec![
        signalling(
            From::Caller,
            sip(&request("INVITE"), caller, pair, "INVITE", Some(20_000)),
        ),
        signalling(
            From::Callee,
            sip("SIP/2.0 200 OK", caller, pair, "INVITE", Some(40_000)),
        ),
    ];
    for sequence in 1..=10 {
        let ssrc = u32::from(pair) << 8;
        packets.push((
            From::Caller,
            datagram((20_000, 40_000), &rtp(ssrc + 1, sequence)),
        ));
        packets.push((
            From::Callee,
            datagram((40_000, 20_000), &rtp(ssrc + 2, sequence)),
        ));
    }
    packets.push(signalling(
        From::Caller,
        sip(&request("BYE"), caller, pair, "BYE", None),
    ));
    packets.push(signalling(
        From::Callee,
        sip("SIP/2.0 200 OK", caller, pair, "BYE", None),
    ));
    packets
}

/// Writes a capture file, a packet every millisecond.
fn write(path: &Path, packets: &[Vec<u8>]) {
    let times = (1_767_225_600_000_000_000..).step_by(1_000_000);
    let packets = packets.iter().zip(times);
    let packets = packets.map(|(bytes, time_ns)| Packet::whole(RAW_IP, time_ns, bytes.clone()));
    capture::write(path, &packets.collect::<Vec<_>>()).unwrap();
}

/// What arrives of a capture file with `packets`: bytes, and what is told of them.
fn run(packets: &[Vec<u8>], flags: &[&str]) -> (Vec<Vec<u8>>, Vec<Told>) {
    let folder = tempdir().unwrap();
    let (sent, sink) = (folder.path().join("sent.pcap"), folder.path().join("sink"));
    write(&sent, packets);
    let filters = folder.path().join("filters.toml");
    fs::write(&filters, processor::filter("alice", "sip_user", "alice*")).unwrap();
    let mut arguments: Vec<OsString> = vec!["voip".into(), "--read-file".into(), sent.into()];
    arguments.extend(["--sink".into(), sink.clone().into()]);
    if !flags.contains(&"--no-filter-policy") {
        arguments.extend(["--filters".into(), filters.into()]);
    }
    arguments.extend(flags.iter().map(OsString::from));
    let outcome = Node::start(arguments).unwrap().finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    let mut arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
    // Those of different workers have no order among them.
    arrived.sort_by_key(|packet| packet.time_ns);
    let arrived = arrived.into_iter().map(|packet| packet.bytes).collect();
    let mut told = processor::told(&sink).unwrap();
    told.sort_by_key(|told| told.timestamp_ns);
    (arrived, told)
}

#[test]
fn esp_that_is_not_encrypted_is_looked_into_if_asked_for() {
    let (mut packets, mut wanted) = (Vec::new(), Vec::new());
    for pair in 0..8 {
        let caller = match pair % 4 {
            1 => format!("alice{pair}"),
            _ => format!("bob{pair}"),
        };
        for (from, datagram) in call(&caller, pair) {
            let packet = ip(from, pair, ESP, 0, 0, &esp(from, &datagram));
            if pair % 4 == 1 {
                wanted.push(packet.clone());
            }
            packets.push(packet);
        }
    }
    for workers in ["1", "2", "4"] {
        for flags in [
            &["--esp-null"][..],
            &["--esp-heuristic", "--esp-icv-size", "12"],
        ] {
            let flags = [flags, &["--workers", workers]].concat();
            let (arrived, told) = run(&packets, &flags);
            assert_eq!(arrived.len(), wanted.len(), "{flags:?}");
            assert!(arrived == wanted, "{flags:?}");
            let ports = |told: &Told| {
                let metadata = told.metadata.as_ref().unwrap();
                (metadata.src_port, metadata.dst_port)
            };
            assert_eq!(ports(&told[0]), (5060, 5060));
            assert_eq!(ports(&told[2]), (20_000, 40_000));
        }
    }
    let (arrived, _) = run(&packets, &[]);
    assert!(arrived.is_empty());
}

#[test]
fn one_packet_is_media_where_media_are_expected() {
    let packets = [ip(
        From::Caller,
        0,
        UDP,
        0,
        0,
        &datagram((41_003, 41_001), &rtp(7, 1)),
    )];
    let all = ["--no-filter-policy", "allow", "--workers", "1"];
    let arrived = |more: &[&str]| run(&packets, &[&all[..], more].concat()).0.len();
    assert_eq!(arrived(&["--rtp-port-range", "41000-41001"]), 1);
    assert_eq!(arrived(&["--rtp-port-range", "30000-41000"]), 0);
    assert_eq!(arrived(&[]), 0);
}

#[test]
fn hints_of_ports_leave_nothing_out() {
    let packets: Vec<_> = call("alice", 1)
        .into_iter()
        .map(|(from, datagram)| ip(from, 1, UDP, 0, 0, &datagram))
        .collect();
    let hints = ["--sip-port", "7000", "--rtp-port-range", "7000-7001"];
    let (arrived, _) = run(&packets, &[&hints[..], &["--workers", "2"]].concat());
    assert!(arrived == packets, "{} of {}", arrived.len(), packets.len());
}

#[test]
fn a_capture_filter_by_port_keeps_fragments_and_udp_only_keeps_udp() {
    let mut packets = Vec::new();
    let mut wanted = Vec::new();
    for (from, datagram) in call("alice", 1) {
        let is_sip = datagram[..2] == 5060u16.to_be_bytes();
        let pieces = match is_sip && datagram.len() > 300 {
            true => {
                let (first, second) = datagram.split_at(200);
                vec![
                    ip(from, 1, UDP, 9 + from as u16, 0x2000, first),
                    ip(from, 1, UDP, 9 + from as u16, 200 / 8, second),
                ]
            }
            false => vec![ip(from, 1, UDP, 0, 0, &datagram)],
        };
        if is_sip {
            wanted.extend(pieces.clone());
        }
        packets.extend(pieces);
    }
    for flags in [
        &["--filter", "udp port 5060"][..],
        &["--filter", "udp port 5060", "--udp-only"],
    ] {
        let (arrived, _) = run(&packets, &[flags, &["--workers", "2"]].concat());
        assert!(arrived == wanted, "{} of {}", arrived.len(), wanted.len());
    }
    let (arrived, _) = run(&packets, &["--udp-only", "--workers", "2"]);
    assert!(arrived == packets, "{} of {}", arrived.len(), packets.len());
}
