//! The generated traffic, held against what the protocols demand.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashMap;

use lc_bench::generate::{
    Flood, FloodSettings, FrameSize, Kind, Length, Memory, Mix, MixError, Order, Settings,
    SettingsError, Traffic, write_pcap,
};

fn traffic(settings: Settings) -> Memory {
    Memory::collect(&mut Traffic::new(settings).unwrap())
}

fn of_packets(packets: u64) -> Settings {
    Settings {
        length: Length::Packets(packets),
        ..Settings::default()
    }
}

fn flood(order: Order, flows: usize, packets: u64) -> Memory {
    let settings = FloodSettings {
        seed: 7,
        packets,
        flows,
        size: 64,
        order,
        ipv6_percent: 0,
        vlan_percent: 0,
        start_seconds: 0,
    };
    Memory::collect(&mut Flood::new(settings).unwrap())
}

/// What the headers of a frame say.
struct Frame<'a> {
    vlan: bool,
    ipv6: bool,
    protocol: u8,
    /// Source and destination address and port.
    ends: [(Vec<u8>, u16); 2],
    transport: &'a [u8],
    payload: &'a [u8],
    pseudo_header: Vec<u8>,
}

fn dissect(bytes: &[u8]) -> Frame<'_> {
    let vlan = bytes[12..14] == [0x81, 0x00];
    let network = &bytes[if vlan { 18 } else { 14 }..];
    let ipv6 = network[0] >> 4 == 6;
    let (protocol, header, addresses) = if ipv6 {
        let length = usize::from(u16::from_be_bytes([network[4], network[5]]));
        assert_eq!(length, network.len() - 40);
        (network[6], 40, &network[8..40])
    } else {
        let length = usize::from(u16::from_be_bytes([network[2], network[3]]));
        assert_eq!(length, network.len());
        assert_eq!(ones_sum(&network[..20]), 0xffff, "IPv4 header checksum");
        (network[9], 20, &network[12..20])
    };
    let transport = &network[header..];
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    let port = |offset| u16::from_be_bytes([transport[offset], transport[offset + 1]]);
    let transport_header = match protocol {
        6 => usize::from(transport[12] >> 4) * 4,
        17 => 8,
        other => panic!("protocol {other}"),
    };
    let mut pseudo_header = addresses.to_vec();
    pseudo_header.extend((transport.len() as u32).to_be_bytes());
    pseudo_header.extend([0, 0, 0, protocol]);
    Frame {
        vlan,
        ipv6,
        protocol,
        ends: [(source.to_vec(), port(0)), (destination.to_vec(), port(2))],
        transport,
        payload: &transport[transport_header..],
        pseudo_header,
    }
}

fn ones_sum(bytes: &[u8]) -> u32 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}

fn kind_of(frame: &Frame<'_>) -> Kind {
    let ports = [frame.ends[0].1, frame.ends[1].1];
    let named = |wanted: &[u16]| ports.iter().any(|port| wanted.contains(port));
    match frame.protocol {
        6 if named(&[443, 8443]) => Kind::Tls,
        6 if named(&[80, 8080]) => Kind::Http,
        6 if named(&[25]) => Kind::Mail,
        6 => Kind::Bulk,
        _ if named(&[53]) => Kind::Dns,
        _ => Kind::Calls,
    }
}

#[test]
fn equal_settings_give_equal_bytes() {
    let [one, same] = [(); 2].map(|()| traffic(of_packets(3_000)));
    assert!(one.iter().eq(same.iter()));
    let other = traffic(Settings {
        seed: 2,
        ..of_packets(3_000)
    });
    assert!(!one.iter().eq(other.iter()));
}

#[test]
fn the_first_bytes_never_change() {
    // A capture made from a seed is a reference that others rely on: FNV-1a over all of it.
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for packet in traffic(of_packets(3_000)).iter() {
        let time = packet.time_ns.to_be_bytes();
        for byte in time.iter().chain(packet.bytes) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    assert_eq!(hash, 0xbc04_68f2_86f5_3b6b, "{hash:#018x}");
}

#[test]
fn checksums_and_lengths_are_right() {
    let settings = Settings {
        ipv6_percent: 50,
        vlan_percent: 50,
        ..of_packets(5_000)
    };
    for packet in traffic(settings).iter() {
        let frame = dissect(packet.bytes);
        let sum = ones_sum(&frame.pseudo_header) + ones_sum(frame.transport);
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }
}

#[test]
fn times_never_go_back_and_the_duration_is_kept() {
    let settings = Settings {
        length: Length::Seconds(3),
        start_seconds: 1_000,
        ..Settings::default()
    };
    let memory = traffic(settings);
    let times: Vec<u64> = memory.iter().map(|packet| packet.time_ns).collect();
    assert!(times.is_sorted());
    assert!(times[0] >= 1_000_000_000_000);
    let last = times[times.len() - 1];
    assert!((1_002_900_000_000..1_003_000_000_000).contains(&last));
}

#[test]
fn shares_are_kept() {
    let settings = Settings {
        mix: "calls=20,dns=10,tls=10,http=20,mail=5,bulk=35"
            .parse()
            .unwrap(),
        ..of_packets(50_000)
    };
    let mut counts: HashMap<&str, u32> = HashMap::new();
    let (mut ipv6, mut vlan) = (0, 0);
    for packet in traffic(settings).iter() {
        let frame = dissect(packet.bytes);
        *counts.entry(kind_of(&frame).name()).or_default() += 1;
        ipv6 += u32::from(frame.ipv6);
        vlan += u32::from(frame.vlan);
    }
    for (kind, percent) in [
        ("calls", 20),
        ("dns", 10),
        ("tls", 10),
        ("http", 20),
        ("mail", 5),
        ("bulk", 35),
    ] {
        let found = counts[kind] / 500;
        assert!(found.abs_diff(percent) <= 3, "{kind}: {found} %");
    }
    assert!((5_000..15_000).contains(&ipv6), "{ipv6}");
    assert!((2_500..7_500).contains(&vlan), "{vlan}");
}

#[test]
fn tcp_sequence_numbers_follow_each_other() {
    let mut next: HashMap<[(Vec<u8>, u16); 2], u32> = HashMap::new();
    let mut segments = 0;
    for packet in traffic(of_packets(20_000)).iter() {
        let frame = dissect(packet.bytes);
        if frame.protocol != 6 {
            continue;
        }
        let word = |offset: usize| {
            u32::from_be_bytes(frame.transport[offset..offset + 4].try_into().unwrap())
        };
        let (sequence, acknowledged, flags) = (word(4), word(8), frame.transport[13]);
        let takes = frame.payload.len() as u32 + u32::from(flags & 0x03 != 0);
        let [source, destination] = frame.ends;
        let backward = [destination.clone(), source.clone()];
        if flags & 0x02 == 0 {
            let expected = next[&[source.clone(), destination.clone()]];
            assert_eq!(sequence, expected);
        }
        if flags & 0x10 != 0 {
            assert_eq!(acknowledged, next[&backward]);
        }
        next.insert([source, destination], sequence.wrapping_add(takes));
        segments += 1;
    }
    assert!(segments > 10_000);
}

#[test]
fn audio_runs_both_ways_at_its_clock() {
    let settings = Settings {
        mix: "calls=1".parse().unwrap(),
        flows: 10,
        ..of_packets(10_000)
    };
    /// Sequence number, RTP time and capture time.
    type Last = (u16, u32, u64);
    let mut streams: HashMap<u32, Last> = HashMap::new();
    let mut reports = 0;
    let memory = traffic(settings);
    let mut text = String::new();
    for packet in memory.iter() {
        let frame = dissect(packet.bytes);
        let payload = frame.payload;
        if frame.ends[0].1 == 5060 {
            text.push_str(std::str::from_utf8(payload).unwrap());
            continue;
        }
        assert_eq!(payload[0] >> 6, 2, "RTP version");
        if payload[1] == 200 {
            reports += 1;
            continue;
        }
        assert_eq!(payload.len(), 172);
        let sequence = u16::from_be_bytes([payload[2], payload[3]]);
        let time = u32::from_be_bytes(payload[4..8].try_into().unwrap());
        let source = u32::from_be_bytes(payload[8..12].try_into().unwrap());
        let now = (sequence, time, packet.time_ns);
        if let Some((sequence_before, time_before, captured)) = streams.insert(source, now) {
            assert_eq!(sequence, sequence_before.wrapping_add(1));
            assert_eq!(time, time_before.wrapping_add(160));
            assert_eq!(packet.time_ns - captured, 20_000_000);
        }
    }
    assert!(streams.len() >= 20);
    assert!(reports > 0);
    for part in [
        "INVITE sip:",
        "SIP/2.0 180 Ringing",
        "m=audio ",
        "ACK sip:",
        "BYE sip:",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn client_hellos_are_whole_and_name_their_server() {
    let settings = Settings {
        mix: "tls=1".parse().unwrap(),
        flows: 10,
        ..of_packets(1_000)
    };
    let mut hellos = 0;
    for packet in traffic(settings).iter() {
        let payload = dissect(packet.bytes).payload;
        if payload.first() != Some(&22) || payload[5] != 1 {
            continue;
        }
        let name = server_name(&payload[5..]).expect("a hello that can be parsed");
        assert!(name.ends_with(".example"), "{name}");
        hellos += 1;
    }
    assert!(hellos >= 10);
}

/// The server name of a ClientHello message (RFC 8446 section 4.1.2), all lengths checked.
fn server_name(message: &[u8]) -> Option<String> {
    let (length, body) = (message.get(1..4)?, message.get(4..)?);
    assert_eq!(
        u32::from_be_bytes([0, length[0], length[1], length[2]]),
        body.len() as u32
    );
    let (_, rest) = body.split_at_checked(34)?;
    let (_session, rest) = take(rest, 1)?;
    let (_suites, rest) = take(rest, 2)?;
    let (_compression, rest) = take(rest, 1)?;
    let (mut extensions, rest) = take(rest, 2)?;
    assert!(rest.is_empty());
    let mut name = None;
    while !extensions.is_empty() {
        let kind = u16::from_be_bytes([extensions[0], extensions[1]]);
        let (content, rest) = take(&extensions[2..], 2)?;
        if kind == 0 {
            let (list, _) = take(content, 2)?;
            let (host, _) = take(&list[1..], 2)?;
            name = String::from_utf8(host.to_vec()).ok();
        }
        extensions = rest;
    }
    name
}

/// What stands behind a length of `width` bytes, and what follows.
fn take(bytes: &[u8], width: usize) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(width)?;
    let length = length
        .iter()
        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    rest.split_at_checked(length)
}

#[test]
fn bulk_frames_have_the_size_asked_for() {
    let settings = |size: &str| Settings {
        mix: "bulk=1".parse().unwrap(),
        size: size.parse().unwrap(),
        ..of_packets(5_000)
    };
    for packet in traffic(settings("350")).iter() {
        let frame = dissect(packet.bytes);
        if !frame.payload.is_empty() {
            assert_eq!(packet.bytes.len(), 350);
        }
    }
    let memory = traffic(settings("imix"));
    for size in [64, 594, 1514] {
        assert!(memory.iter().any(|packet| packet.bytes.len() == size));
    }
}

#[test]
fn a_flood_has_the_flows_and_sizes_asked_for() {
    let memory = flood(Order::RoundRobin, 1_000, 2_000);
    let mut flows: HashMap<Vec<u8>, u32> = HashMap::new();
    for packet in memory.iter() {
        assert_eq!(packet.bytes.len(), 64);
        dissect(packet.bytes);
        *flows.entry(packet.bytes[26..38].to_vec()).or_default() += 1;
    }
    assert_eq!(flows.len(), 1_000);
    assert!(flows.values().all(|packets| *packets == 2));
}

#[test]
fn a_zipf_flood_is_uneven() {
    let memory = flood(Order::Zipf, 1_000, 10_000);
    let mut flows: HashMap<Vec<u8>, u32> = HashMap::new();
    for packet in memory.iter() {
        *flows.entry(packet.bytes[26..38].to_vec()).or_default() += 1;
    }
    assert!(flows.values().max() > Some(&500));
    assert!(flows.len() > 500);
}

#[test]
fn a_file_holds_what_was_made() {
    let folder = std::env::temp_dir().join(format!("lc-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join("made.pcap");
    let memory = traffic(of_packets(500));
    let written = write_pcap(&mut Traffic::new(of_packets(500)).unwrap(), &path).unwrap();
    assert_eq!(written, 500);
    let file = std::fs::read(&path).unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
    assert_eq!(file.len(), 24 + 500 * 16 + memory.total_bytes());
    let missing = folder.join("made.pcap");
    let error = write_pcap(&mut Traffic::new(of_packets(1)).unwrap(), &missing).unwrap_err();
    assert!(error.to_string().contains("made.pcap"), "{error}");
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |settings| Traffic::new(settings).err().unwrap();
    let too_few = Settings {
        flows: 5,
        ..Settings::default()
    };
    assert_eq!(
        refused(too_few),
        SettingsError::TooFewFlows { flows: 5, kinds: 6 }
    );
    let percentage = Settings {
        ipv6_percent: 101,
        ..Settings::default()
    };
    assert_eq!(refused(percentage), SettingsError::Percentage(101));
    assert!("63".parse::<FrameSize>().is_err());
    assert!("huge".parse::<FrameSize>().is_err());
    for (text, error) in [
        ("dns", MixError::NotAShare("dns".into())),
        ("fax=1", MixError::UnknownKind("fax".into())),
        ("dns=-1", MixError::BadShare("-1".into())),
        ("dns=1,dns=2", MixError::Twice("dns".into())),
        ("dns=0", MixError::Empty),
    ] {
        assert_eq!(text.parse::<Mix>(), Err(error));
    }
}
