use super::*;
use crate::decode::{Addr, Fault, Transport, decode};
use proptest::prelude::*;

const RAW: u16 = 101;
const SECOND: u64 = 1_000_000_000;

/// A fragment of IPv4, 10.0.0.1 -> 10.0.0.2, UDP.
fn v4(id: u16, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len() as u16).to_be_bytes();
    let place = ((offset as u16 / 8) | u16::from(more) << 13).to_be_bytes();
    let id = id.to_be_bytes();
    let mut packet = vec![
        0x45, 0, len[0], len[1], id[0], id[1], place[0], place[1], 64, 17, 0, 0,
    ];
    packet.extend([10, 0, 0, 1, 10, 0, 0, 2]);
    packet.extend(payload);
    packet
}

/// A fragment of IPv6, 2001:db8::1 -> 2001:db8::2, UDP.
fn v6(id: u32, offset: usize, more: bool, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len() as u16).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, len[0], len[1], 44, 64];
    packet.extend(0x2001_0db8_0000_0000_0000_0000_0000_0001_u128.to_be_bytes());
    packet.extend(0x2001_0db8_0000_0000_0000_0000_0000_0002_u128.to_be_bytes());
    packet.extend([17, 0]);
    packet.extend((offset as u16 | u16::from(more)).to_be_bytes());
    packet.extend(id.to_be_bytes());
    packet.extend(payload);
    packet
}

/// UDP 5060 -> 5060 with this payload.
fn udp(payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len() as u16).to_be_bytes();
    [&[0x13, 0xc4, 0x13, 0xc4, len[0], len[1], 0, 0], payload].concat()
}

/// What came of a fragment, in the words of the reference's conformance cases.
fn offer(fragments: &mut Fragments, link_type: u16, packet: &[u8]) -> String {
    let decoded = decode(link_type, packet);
    if !decoded.fragment {
        return "pass".into();
    }
    match fragments.offer(&decoded, packet, 0, 0, &[0]) {
        Offered::Held => "pending".into(),
        Offered::Whole(whole) => format!("done:{}", whole.bytes.len()),
        Offered::Refused(_) | Offered::Again(_) => "error".into(),
    }
}

type Sketch = (usize, usize, bool);

fn outcomes(packet: impl Fn(usize, bool, &[u8]) -> Vec<u8>, sketches: &[Sketch]) -> Vec<String> {
    let mut fragments = Fragments::new(Limits::default());
    sketches
        .iter()
        .map(|(len, offset, more)| {
            let packet = packet(*offset, *more, &vec![7; *len]);
            offer(&mut fragments, RAW, &packet)
        })
        .collect()
}

/// Rows R1 to R9 and X31 of the reference's conformance cases. R9 differs: a repeated fragment of IPv6 is a repetition.
#[test]
fn conformance() {
    let four = |sketches: &[Sketch]| outcomes(|at, more, bytes| v4(7, at, more, bytes), sketches);
    let six = |sketches: &[Sketch]| outcomes(|at, more, bytes| v6(7, at, more, bytes), sketches);
    let whole_with_df = |_, _, bytes: &[u8]| {
        let mut packet = v4(7, 0, false, bytes);
        packet[6] = 0x40;
        packet
    };
    assert_eq!(outcomes(whole_with_df, &[(11, 0, false)]), ["pass"]);
    assert_eq!(
        four(&[(1480, 0, true), (7, 1480, false)]),
        ["pending", "done:1487"]
    );
    assert_eq!(four(&[(4, 0, true)]), ["error"]);
    assert_eq!(
        four(&[(4, 16, false), (8, 0, true), (8, 8, true)]),
        ["pending", "pending", "done:20"]
    );
    assert_eq!(
        four(&[(8, 0, true), (8, 0, true), (4, 8, false)]),
        ["pending", "pending", "done:12"]
    );
    assert_eq!(
        six(&[(1448, 0, true), (1146, 1448, false)]),
        ["pending", "done:2594"]
    );
    assert_eq!(six(&[(7, 0, true)]), ["error"]);
    assert_eq!(six(&[(0, 0, true)]), ["error"]);
    assert_eq!(
        six(&[(8, 0, true), (8, 16, false), (8, 0, true)]),
        ["pending", "pending", "pending"]
    );
    assert_eq!(
        four(&[(24, 0, true), (24, 16, true), (8, 40, false)]),
        ["pending", "pending", "done:48"]
    );
}

/// Puts a packet behind the headers of a link or a tunnel.
type Carry = Box<dyn Fn(Vec<u8>) -> Vec<u8>>;

#[test]
fn every_link_layer_and_tunnel_carries_fragments() {
    let datagram = udp(b"OPTIONS sip:a SIP/2.0\r\n\r\n");
    let (first, second) = datagram.split_at(16);
    let link = |header: &[u8], packet: Vec<u8>| [header, &packet].concat();
    let vxlan = move |packet: Vec<u8>| {
        let frame = link(&[2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 8, 0], packet);
        let mut outer = udp(&link(&[8, 0, 0, 0, 0, 0, 42, 0], frame));
        outer[2..4].copy_from_slice(&4789_u16.to_be_bytes());
        v4(1, 0, false, &outer)
    };
    let mac = [2; 12];
    let carriers: Vec<(u16, Carry)> = vec![
        (12, Box::new(|packet| packet)),
        (1, Box::new(move |p| link(&[&mac[..], &[8, 0]].concat(), p))),
        (
            1,
            Box::new(move |p| link(&[&mac[..], &[0x81, 0, 0, 100, 8, 0]].concat(), p)),
        ),
        (
            1,
            Box::new(move |p| {
                link(
                    &[&mac[..], &[0x88, 0xa8, 0, 200, 0x81, 0, 0, 100, 8, 0]].concat(),
                    p,
                )
            }),
        ),
        (
            1,
            Box::new(move |p| {
                link(
                    &[&mac[..], &[0x88, 0x64, 0x11, 0, 0, 1, 0, 62, 0, 0x21]].concat(),
                    p,
                )
            }),
        ),
        (
            1,
            Box::new(move |p| link(&[&mac[..], &[0x88, 0x47, 0, 1, 1, 64]].concat(), p)),
        ),
        (
            113,
            Box::new(move |p| link(&[0, 0, 0, 1, 0, 6, 2, 2, 2, 2, 2, 2, 0, 0, 8, 0], p)),
        ),
        (
            276,
            Box::new(move |p| {
                link(
                    &[8, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0],
                    p,
                )
            }),
        ),
        (12, Box::new(vxlan)),
    ];
    for (link_type, carry) in &carriers {
        let mut fragments = Fragments::new(Limits::default());
        let held = offer(&mut fragments, *link_type, &carry(v4(70, 0, true, first)));
        assert_eq!(held, "pending", "{link_type}");
        let packet = carry(v4(70, 16, false, second));
        let decoded = decode(*link_type, &packet);
        let Offered::Whole(whole) = fragments.offer(&decoded, &packet, 0, 0, &[9]) else {
            panic!("{link_type}");
        };
        assert_eq!(whole.decoded.ports, Some((5060, 5060)));
        assert_eq!(
            whole.decoded.addresses,
            Some((Addr::V4(0x0a00_0001), Addr::V4(0x0a00_0002)))
        );
        assert_eq!(
            whole.decoded.payload_of(whole.bytes),
            b"OPTIONS sip:a SIP/2.0\r\n\r\n"
        );
        assert!(!whole.decoded.fragment);
        assert!(fragments.is_empty() && fragments.memory() == 0);
    }
}

#[test]
fn a_tunnel_in_fragments_with_fragments_in_it() {
    let datagram = udp(&[5; 200]);
    let mut fragments = Fragments::new(Limits::default());
    let mut token = 0;
    let mut last = None;
    for (inner, id) in [
        (v4(7, 0, true, &datagram[..104]), 1),
        (v4(7, 104, false, &datagram[104..]), 2),
    ] {
        // IP in IP.
        for (offset, more) in [(0, true), (64, false)] {
            let end = if more { 64 } else { inner.len() };
            let mut outer = v4(id, offset, more, &inner[offset..end]);
            outer[9] = 4;
            outer[12] = 192;
            let decoded = decode(RAW, &outer);
            assert!(decoded.fragment && decoded.tunnels == 0);
            token += 1;
            if let Offered::Whole(whole) = fragments.offer(&decoded, &outer, 0, 0, &[token]) {
                assert_eq!(whole.decoded.payload_of(whole.bytes), [5; 200]);
                assert_eq!((whole.decoded.tunnels, whole.decoded.fragment), (1, false));
                assert!(whole.decoded.outer.is_some());
                last = Some(whole.tokens.to_vec());
            }
        }
    }
    assert_eq!(last, Some(vec![1, 2, 3, 4]));
    assert!(fragments.is_empty());
}

#[test]
fn headers_may_follow_the_fragment_header() {
    // Destination options, then UDP.
    let rest = [&[17, 0, 0, 0, 0, 0, 0, 0][..], &udp(b"hello")].concat();
    let mut fragments = Fragments::new(Limits::default());
    let mut second = v6(9, 8, false, &rest[8..]);
    let mut first = v6(9, 0, true, &rest[..8]);
    first[40] = 60;
    // Only the first one's next header counts.
    second[40] = 6;
    assert_eq!(offer(&mut fragments, RAW, &second), "pending");
    let decoded = decode(RAW, &first);
    let Offered::Whole(whole) = fragments.offer(&decoded, &first, 0, 0, &[1]) else {
        panic!()
    };
    assert_eq!(whole.decoded.transport, Some(Transport::Udp));
    assert_eq!(whole.decoded.payload_of(whole.bytes), b"hello");
}

#[test]
fn fragments_without_an_ip_header_between_them_are_malformed() {
    let inner = [&[17, 0, 0, 1, 0, 0, 0, 1][..], &[0; 16]].concat();
    let mut fragments = Fragments::new(Limits::default());
    let mut first = v6(9, 0, true, &inner[..8]);
    first[40] = 44;
    assert_eq!(offer(&mut fragments, RAW, &first), "pending");
    let second = v6(9, 8, false, &inner[8..]);
    let decoded = decode(RAW, &second);
    let Offered::Whole(whole) = fragments.offer(&decoded, &second, 0, 0, &[1]) else {
        panic!()
    };
    assert_eq!(whole.decoded.fault, Some(Fault::MalformedIp));
    assert!(!whole.decoded.fragment);
}

#[test]
fn what_came_first_counts_in_ipv4() {
    let mut fragments = Fragments::new(Limits::default());
    assert_eq!(
        offer(&mut fragments, RAW, &v4(1, 0, true, &[1; 24])),
        "pending"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v4(1, 40, true, &[2; 16])),
        "pending"
    );
    // Before, between and over what is there.
    assert_eq!(
        offer(&mut fragments, RAW, &v4(1, 16, true, &[3; 56])),
        "pending"
    );
    let last = v4(1, 64, false, &[4; 16]);
    let decoded = decode(RAW, &last);
    let Offered::Whole(whole) = fragments.offer(&decoded, &last, 0, 0, &[1]) else {
        panic!()
    };
    let expected = [&[1; 24][..], &[3; 16], &[2; 16], &[3; 16], &[4; 8]].concat();
    assert_eq!(whole.bytes, expected);
    assert_eq!(fragments.counts().overlaps, 2);
}

#[test]
fn an_overlap_spoils_a_datagram_of_ipv6() {
    let mut fragments = Fragments::new(Limits::default());
    assert_eq!(
        offer(&mut fragments, RAW, &v6(1, 0, true, &[1; 24])),
        "pending"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v6(1, 0, true, &[1; 24])),
        "pending"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v6(1, 16, true, &[1; 24])),
        "error"
    );
    assert_eq!(fragments.abandoned().count(), 2);
    // Fragments that come later are spoilt as well.
    assert_eq!(
        offer(&mut fragments, RAW, &v6(1, 24, false, &[1; 24])),
        "error"
    );
    assert_eq!(fragments.counts().spoilt, 1);
    assert_eq!(fragments.counts().duplicates, 1);
    fragments.expire(31 * SECOND);
    assert!(fragments.is_empty() && fragments.abandoned().next().is_none());
    assert_eq!(fragments.counts().expired, 0);
}

#[test]
fn the_end_stands() {
    let mut fragments = Fragments::new(Limits::default());
    assert_eq!(
        offer(&mut fragments, RAW, &v4(1, 16, false, &[1; 8])),
        "pending"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v4(1, 8, false, &[1; 8])),
        "error"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v4(1, 24, true, &[1; 8])),
        "error"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v4(1, 16, true, &[1; 16])),
        "error"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v4(1, 0, true, &[1; 16])),
        "done:24"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v6(1, 16, false, &[1; 8])),
        "pending"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v6(1, 24, true, &[1; 8])),
        "error"
    );
    let refused = fragments.counts().refused;
    assert_eq!(refused[Refusal::EndsElsewhere as usize], 3);
    assert_eq!(refused[Refusal::Spoilt as usize], 1);
}

#[test]
fn no_datagram_is_too_long() {
    let mut fragments = Fragments::new(Limits::default());
    // Row 9 of the capture cases: offset 8191, 40 bytes in all.
    assert_eq!(
        offer(&mut fragments, RAW, &v4(11, 65_528, false, &[7; 20])),
        "error"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v4(11, 65_504, true, &[7; 16])),
        "error"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v6(11, 65_528, false, &[7; 8])),
        "error"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v6(11, 65_528, false, &[7; 7])),
        "pending"
    );
    assert_eq!(
        offer(&mut fragments, RAW, &v6(11, 8, true, &[7; 12])),
        "error"
    );
    let refused = fragments.counts().refused;
    assert_eq!(refused[Refusal::TooLong as usize], 3);
    assert_eq!(refused[Refusal::Unaligned as usize], 1);
}

#[test]
fn what_was_not_captured_is_not_believed() {
    let packet = v4(1, 0, true, &[1; 24]);
    let mut fragments = Fragments::new(Limits::default());
    for len in 20..packet.len() {
        assert_eq!(offer(&mut fragments, RAW, &packet[..len]), "error");
    }
    assert!(fragments.is_empty());
}

#[test]
fn datagrams_are_told_apart() {
    let mut fragments = Fragments::new(Limits::default());
    let first = v4(1, 0, true, &udp(&[1; 8]));
    assert_eq!(offer(&mut fragments, RAW, &first), "pending");
    let last = v4(1, 16, false, &[1; 8]);
    let strangers = [
        v4(2, 16, false, &[1; 8]),
        [&last[..9], &[6], &last[10..]].concat(),
        [&last[..15], &[9], &last[16..]].concat(),
    ];
    for stranger in &strangers {
        assert_eq!(offer(&mut fragments, RAW, stranger), "pending");
    }
    let tagged = [&[2; 12][..], &[0x81, 0, 0, 7, 8, 0], &last].concat();
    assert_eq!(offer(&mut fragments, 1, &tagged), "pending");
    let decoded = decode(RAW, &last);
    let elsewhere = fragments.offer(&decoded, &last, 3, 0, &[1]);
    assert!(matches!(elsewhere, Offered::Held));
    assert_eq!(offer(&mut fragments, RAW, &last), "done:24");
}

#[test]
fn time_gives_up_what_is_old() {
    let mut fragments = Fragments::new(Limits::default());
    let mut put = |id: u16, offset: usize, time_ns: u64, token: u64| {
        let packet = v4(id, offset, true, &[1; 8]);
        let decoded = decode(RAW, &packet);
        let held = fragments.offer(&decoded, &packet, 0, time_ns, &[token]);
        assert!(matches!(held, Offered::Held));
        fragments.abandoned().collect::<Vec<_>>()
    };
    assert!(put(1, 0, 0, 1).is_empty());
    assert!(put(2, 0, 20 * SECOND, 2).is_empty());
    // More fragments don't keep a datagram alive.
    assert!(put(1, 8, 30 * SECOND, 3).is_empty());
    assert_eq!(put(3, 0, 31 * SECOND, 4), [1, 3]);
    // Time that goes back makes nothing older.
    assert!(put(4, 0, SECOND, 5).is_empty());
    fragments.expire(62 * SECOND);
    let mut abandoned: Vec<_> = fragments.abandoned().collect();
    abandoned.sort_unstable();
    assert_eq!(abandoned, [2, 4, 5]);
    assert_eq!((fragments.counts().expired, fragments.memory()), (4, 0));
}

#[test]
fn floods_stay_within_bounds_and_the_oldest_go_first() {
    let limits = Limits {
        datagrams: 100,
        bytes: 2 << 20,
        ..Limits::default()
    };
    let mut fragments = Fragments::new(limits);
    let (mut offered, mut abandoned) = (0_u64, Vec::new());
    for id in 0..10_000_u32 {
        // Claims of a far end cost nothing; large ones cost what they bring.
        let packet = match id % 3 {
            0 => v6(id, 65_000, true, &[1; 8]),
            1 => v6(id, 0, true, &[1; 1448]),
            _ => v6(id, 0, true, &[1; 16_000]),
        };
        let decoded = decode(RAW, &packet);
        let held = fragments.offer(&decoded, &packet, 0, 0, &[offered]);
        assert!(matches!(held, Offered::Held));
        offered += 1;
        abandoned.extend(fragments.abandoned());
        assert!(fragments.len() <= 100 && fragments.memory() <= limits.bytes);
        assert!(fragments.order.len() <= 2 * 100 + 65);
    }
    assert!(abandoned.is_sorted());
    assert_eq!(abandoned.len() + fragments.len(), offered as usize);
    assert_eq!(fragments.counts().evicted, abandoned.len() as u64);
}

#[test]
fn repetition_is_bounded() {
    let mut fragments = Fragments::new(Limits::default());
    let packet = v4(1, 0, true, &[1; 8]);
    let decoded = decode(RAW, &packet);
    for token in 0..20_000 {
        fragments.offer(&decoded, &packet, 0, 0, &[token]);
    }
    assert!(fragments.counts().refused[Refusal::TooMany as usize] > 10_000);
    assert!(fragments.memory() < 1 << 20);
}

#[test]
fn a_waiting_datagram_does_not_make_the_order_grow() {
    let mut fragments = Fragments::new(Limits::default());
    assert_eq!(
        offer(&mut fragments, RAW, &v6(0, 0, true, &[1; 8])),
        "pending"
    );
    for id in 1..5_000 {
        assert_eq!(
            offer(&mut fragments, RAW, &v6(id, 0, true, &[1; 8])),
            "pending"
        );
        assert_eq!(
            offer(&mut fragments, RAW, &v6(id, 8, false, &[1; 8])),
            "done:16"
        );
        assert!(fragments.order.len() < 80);
    }
    assert_eq!(fragments.len(), 1);
}

/// A datagram cut into fragments at random places, shuffled, some of them repeated.
fn pieces() -> impl Strategy<Value = (Vec<u8>, Vec<(usize, usize)>)> {
    let payload = prop::collection::vec(any::<u8>(), 1..3000);
    (
        payload,
        prop::collection::vec(1usize..40, 1..30),
        any::<u64>(),
    )
        .prop_map(|(payload, lens, seed)| {
            let datagram = udp(&payload);
            let mut cuts = vec![0];
            for len in lens {
                let next = cuts[cuts.len() - 1] + len * 8;
                if next < datagram.len() {
                    cuts.push(next);
                }
            }
            cuts.push(datagram.len());
            let mut pieces: Vec<_> = cuts.windows(2).map(|cut| (cut[0], cut[1])).collect();
            let repeated: Vec<_> = pieces.iter().copied().step_by(3).collect();
            pieces.extend(repeated);
            let mut state = seed | 1;
            for at in (1..pieces.len()).rev() {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                pieces.swap(at, (state >> 33) as usize % (at + 1));
            }
            (datagram, pieces)
        })
}

proptest! {
    #[test]
    fn any_order_gives_the_same_payload((datagram, pieces) in pieces(), is_v6: bool) {
        let mut fragments = Fragments::new(Limits::default());
        let distinct: std::collections::BTreeSet<_> = pieces.iter().copied().collect();
        prop_assume!(distinct.len() > 1);
        let (mut come, mut tokens) = (std::collections::BTreeSet::new(), Vec::new());
        for (token, (start, end)) in pieces.iter().copied().enumerate() {
            let (more, bytes) = (end < datagram.len(), &datagram[start..end]);
            let packet = if is_v6 { v6(5, start, more, bytes) } else { v4(5, start, more, bytes) };
            let decoded = decode(RAW, &packet);
            prop_assert!(decoded.fragment);
            come.insert((start, end));
            tokens.push(token as u64);
            match fragments.offer(&decoded, &packet, 0, 0, &[token as u64]) {
                Offered::Whole(whole) => {
                    prop_assert_eq!(come.len(), distinct.len());
                    prop_assert_eq!(whole.bytes, &datagram[..]);
                    prop_assert_eq!(whole.tokens, &tokens[..]);
                    prop_assert_eq!(whole.decoded.payload_of(whole.bytes), &datagram[8..]);
                    prop_assert!(fragments.is_empty() && fragments.memory() == 0);
                    return Ok(());
                }
                Offered::Held => prop_assert!(come.len() < distinct.len()),
                Offered::Refused(refusal) => prop_assert!(false, "{:?}", refusal),
                Offered::Again(_) => prop_assert!(false, "nothing is remembered"),
            }
        }
        prop_assert!(false, "never whole");
    }

    /// Overlapping fragments of IPv4: each byte is the one that came first.
    #[test]
    fn first_bytes_win(
        pieces in prop::collection::vec((0usize..12, 1usize..6), 1..24),
    ) {
        let mut fragments = Fragments::new(Limits::default());
        let mut expected: Vec<Option<u8>> = vec![None; 160];
        for (number, (start, len)) in pieces.iter().enumerate() {
            let (start, end) = (start * 8, (start + len) * 8);
            let packet = v4(1, start, true, &vec![number as u8; end - start]);
            let decoded = decode(RAW, &packet);
            let held = fragments.offer(&decoded, &packet, 0, 0, &[number as u64]);
            prop_assert!(matches!(held, Offered::Held));
            for byte in &mut expected[start..end] {
                byte.get_or_insert(number as u8);
            }
        }
        // One more that covers all, and so fills what is missing.
        let packet = v4(1, 0, false, &[0xff; 160]);
        let decoded = decode(RAW, &packet);
        let Offered::Whole(whole) = fragments.offer(&decoded, &packet, 0, 0, &[99]) else {
            return Err(TestCaseError::fail("not whole"));
        };
        let expected: Vec<u8> = expected.into_iter().map(|byte| byte.unwrap_or(0xff)).collect();
        prop_assert_eq!(whole.bytes, &expected[..]);
    }

    #[test]
    fn any_bytes_stay_within_bounds(
        packets in prop::collection::vec(
            (any::<bool>(), 0u16..4, 0usize..600, any::<bool>(), 0usize..100, 0usize..200),
            0..60,
        ),
    ) {
        let mut fragments = Fragments::new(Limits { datagrams: 3, ..Limits::default() });
        for (is_v6, id, units, more, len, cut) in packets {
            let mut packet = match is_v6 {
                true => v6(id.into(), units * 8, more, &vec![id as u8; len]),
                false => v4(id, units * 8, more, &vec![id as u8; len]),
            };
            packet.truncate(cut);
            offer(&mut fragments, RAW, &packet);
            prop_assert!(fragments.len() <= 3);
        }
    }
}
