//! Floods: what nobody completes and nobody asked for. Memory stays within its bounds, what is given up is counted, and a wanted call that goes on meanwhile arrives whole.
//!
//! Memory is what the allocator gives out beyond what the worker had before; rings and logs are shared memory of fixed size.

use allocation_counter::measure;
use shm_layout::counters::WorkerCounter as Counter;

use super::harness::{Harness, MILLISECOND, Setup, fragmented, message, rtp, sip, udp};

/// Packets of a flood, and between two packets of the wanted call.
const FLOOD: u32 = 12_000;
const BETWEEN: u32 = 100;
const CALLS_LIMIT: usize = 1 << 20;
const SOURCE: (u8, u16) = (1, 5060);
const TARGET: (u8, u16) = (2, 5060);

fn harness() -> Harness {
    Harness::new(Setup {
        calls_limit: CALLS_LIMIT,
        ..Setup::default()
    })
}

/// The packet number `n` of the call that is wanted, to the end of it at `last`.
fn wanted(n: u32, last: u32) -> Vec<u8> {
    let (caller, callee) = ((1, 4000), (2, 6000));
    match n {
        0 => sip("INVITE", "wanted", "alice", Some(caller)),
        1 => sip("200 INVITE", "wanted", "alice", Some(callee)),
        2 => sip("ACK", "wanted", "alice", None),
        _ if n == last => sip("BYE", "wanted", "alice", None),
        _ if n.is_multiple_of(2) => rtp(caller, callee, 6, n as u16),
        _ => rtp(callee, caller, 7, n as u16),
    }
}

/// Sends the flood, `after_ns` between its packets, with the wanted call in it. Bytes of memory that it took at most.
fn flood(harness: &mut Harness, after_ns: u64, packet: impl Fn(u32) -> Vec<u8>) -> u64 {
    let last = FLOOD / BETWEEN - 1;
    let mut expected = Vec::with_capacity(last as usize + 1);
    // What is allocated once is no matter of the flood.
    expected.push(harness.give(&wanted(0, last)));
    harness.work();
    let measured = measure(|| {
        for n in 1..=FLOOD {
            harness.give_after(after_ns, &packet(n));
            if n.is_multiple_of(BETWEEN) && n < FLOOD {
                expected.push(harness.give_after(after_ns, &wanted(n / BETWEEN, last)));
                harness.work();
            }
            assert!(harness.desk.calls().unwrap().bytes() <= 2 * CALLS_LIMIT);
        }
        harness.work();
    });
    harness.finish();
    let mut numbers = harness.numbers();
    numbers.retain(|number| expected.contains(number));
    assert_eq!(numbers, expected, "the wanted call is whole, in order");
    assert!(
        harness
            .arrived()
            .iter()
            .all(|one| one.call_id() == "wanted")
    );
    harness.check_ledger();
    measured.bytes_max
}

/// What a flood may take: the calls' own bound, and as much again for tables that grow by doubling, and for what arrived.
const BOUND: u64 = 4 * CALLS_LIMIT as u64;

#[test]
fn unique_call_ids() {
    // At the same moment all of them, as well.
    for after_ns in [MILLISECOND / 10, 0] {
        let mut harness = harness();
        let bytes = flood(&mut harness, after_ns, |n| {
            let media = (5, 10_000 + (n % 20_000) as u16 * 2);
            sip("INVITE", &format!("flood-{n}"), "carol", Some(media))
        });
        assert!(bytes < BOUND, "{bytes} bytes");
        assert!(harness.count(Counter::CallsEvicted) > u64::from(FLOOD) / 2);
        assert!(harness.count(Counter::HeldDropped) > 0);
    }
}

#[test]
fn transactions_without_end() {
    for after_ns in [MILLISECOND / 10, 0] {
        let mut harness = harness();
        let bytes = flood(&mut harness, after_ns, |n| {
            sip("200 REGISTER", &format!("flood-{n}"), "carol", None)
        });
        assert!(bytes < BOUND, "{bytes} bytes");
        assert!(harness.count(Counter::CallsEvicted) > u64::from(FLOOD) / 2);
    }
}

#[test]
fn media_of_unique_sources() {
    for after_ns in [MILLISECOND / 10, 0] {
        let mut harness = harness();
        let bytes = flood(&mut harness, after_ns, |n| {
            // A few packets of each, so that they are media.
            let (source, number) = (n / 6, (n % 6) as u16);
            let (from, to) = ((7, 10_000 + source as u16), (8, 30_000 + source as u16));
            rtp(from, to, 0x1000_0000 + source, number)
        });
        assert!(bytes < BOUND, "{bytes} bytes");
        let given_up = [
            Counter::CallsEvicted,
            Counter::CallsTimedOut,
            Counter::CallsEnded,
        ];
        let given_up: u64 = given_up.iter().map(|counter| harness.count(*counter)).sum();
        assert!(given_up > 100 && harness.count(Counter::CallsStarted) > given_up);
    }
}

#[test]
fn sources_of_media_at_the_ports_of_one_call() {
    let mut harness = harness();
    harness.give(&sip("INVITE", "other", "carol", Some((3, 4000))));
    let bytes = flood(&mut harness, MILLISECOND / 10, |n| {
        rtp((9, n as u16), (3, 4000), n, 1)
    });
    assert!(bytes < BOUND, "{bytes} bytes");
}

#[test]
fn fragments_that_are_never_completed() {
    let mut harness = harness();
    let long = message("INVITE", "flood", "carol", "", Some((5, 4000)));
    let bytes = flood(&mut harness, MILLISECOND / 10, |n| {
        let mut fragments = fragmented(SOURCE, TARGET, &long, 104, n as u16);
        fragments.swap_remove(n as usize % 2)
    });
    // Room for fragments is 16 MiB, of which these datagrams take less than a KiB each.
    assert!(bytes < BOUND + (4096 << 10), "{bytes} bytes");
    assert!(harness.count(Counter::FragmentsDropped) > u64::from(FLOOD) / 2);
}

#[test]
fn a_call_in_fragments_among_fragments_that_are_never_completed() {
    let mut harness = harness();
    let long = message("INVITE", "flood", "carol", "", Some((5, 4000)));
    let mut expected = vec![];
    let pieces = fragmented(
        SOURCE,
        TARGET,
        &message("INVITE", "wanted", "alice", "", Some((1, 4000))),
        104,
        7,
    );
    for n in 1..FLOOD {
        let fragments = fragmented((3, 5060), TARGET, &long, 104, n as u16);
        harness.give(&fragments[0]);
        // A few hundred others come in between.
        if n.is_multiple_of(400) && n / 400 <= pieces.len() as u32 {
            expected.push(harness.give(&pieces[n as usize / 400 - 1]));
        }
        if n.is_multiple_of(BETWEEN) {
            harness.work();
        }
    }
    harness.finish();
    assert_eq!(
        (harness.numbers(), expected.len()),
        (expected, pieces.len())
    );
    harness.check_ledger();
}

/// A segment from `port` of host `from`.
fn tcp(from: u8, port: u16, seq: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    // Of UDP's packet, the addresses.
    let mut packet = udp((from, port), TARGET, &[]);
    packet.truncate(20);
    packet[9] = 6;
    let len = (40 + payload.len()) as u16;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend(TARGET.1.to_be_bytes());
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    packet.extend(payload);
    packet
}

#[test]
fn connections_that_are_only_begun() {
    let mut harness = harness();
    let bytes = flood(&mut harness, MILLISECOND / 10, |n| {
        tcp(10 + (n >> 14) as u8, n as u16, n, 2, &[])
    });
    assert!(bytes < BOUND, "{bytes} bytes");
}

#[test]
fn messages_byte_by_byte() {
    let mut harness = harness();
    let invite = message("INVITE", "flood", "carol", "", Some((5, 4000)));
    // Each connection sends the next byte when its turn comes, and none comes to the end of its message.
    let connections = 100;
    let bytes = flood(&mut harness, MILLISECOND / 10, |n| {
        let (port, at) = (n % connections, n / connections);
        let byte = &invite[at as usize..=at as usize];
        tcp(10, 20_000 + port as u16, 1000 + at, 0x18, byte)
    });
    assert!(bytes < BOUND, "{bytes} bytes");
}

#[test]
fn messages_that_are_never_completed() {
    const KEPT: usize = 1 << 20;
    let mut harness = Harness::new(Setup {
        calls_limit: CALLS_LIMIT,
        kept_of_streams: Some(KEPT),
        ..Setup::default()
    });
    let head = "INVITE sip:bob@example.org SIP/2.0\r\nVia: SIP/2.0/TCP 10.0.0.1\r\nFrom: <sip:carol@example.org>;tag=1\r\n\
                To: <sip:bob@example.org>\r\nCSeq: 1 INVITE\r\nCall-ID: flood\r\nContent-Length: 60000\r\n\r\n";
    let mut first = head.as_bytes().to_vec();
    first.resize(1400, b'x');
    let more = [b'x'; 1400];
    // Many connections, of which each sends a few thousand bytes.
    let bytes = flood(&mut harness, MILLISECOND / 10, |n| {
        let (port, at) = (n / 6, n % 6);
        let payload = if at == 0 { &first[..] } else { &more };
        tcp(10, 20_000 + port as u16, 1000 + at * 1400, 0x18, payload)
    });
    assert!(bytes < BOUND + KEPT as u64, "{bytes} bytes");
    assert!(harness.count(Counter::TcpOutOfMemory) > u64::from(FLOOD) / 12);
}

#[test]
fn a_call_over_tcp_among_connections_that_are_only_begun() {
    let mut harness = harness();
    let mut expected = vec![];
    let mut seq = 1;
    let mut segments = vec![];
    for line in ["INVITE", "ACK", "BYE"] {
        let bytes = message(line, "wanted", "alice", "callee", None);
        for piece in bytes.chunks(90) {
            segments.push(tcp(1, 5060, seq, 0x18, piece));
            seq += piece.len() as u32;
        }
    }
    harness.give(&tcp(1, 5060, 0, 2, &[]));
    for n in 1..FLOOD {
        let flags = if n % 2 == 0 { 2 } else { 0x18 };
        harness.give(&tcp(
            10 + (n >> 14) as u8,
            n as u16,
            n,
            flags,
            &b"I"[..(n % 2) as usize],
        ));
        if n.is_multiple_of(20) && n / 20 <= segments.len() as u32 {
            expected.push(harness.give(&segments[n as usize / 20 - 1]));
        }
        if n.is_multiple_of(BETWEEN) {
            harness.work();
        }
    }
    harness.finish();
    assert_eq!(
        (harness.numbers(), expected.len()),
        (expected, segments.len())
    );
    harness.check_ledger();
}
