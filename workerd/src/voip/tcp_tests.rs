//! SIP over TCP, in WebSockets and over SCTP, through the desk.

use lc_tests::ipv4::{ACK, FIN, SYN};
use shm_layout::counters::WorkerCounter as Counter;

use super::harness::{Death, End, Harness, MILLISECOND, SECOND, Setup, ip, message, tcp};

const PHONE: End = (1, 40_000);
const SERVER: End = (2, 5060);

/// One side of a connection, whose segments stand in order.
struct Side {
    from: End,
    to: End,
    seq: u32,
}

impl Side {
    fn phone() -> Self {
        Self {
            from: PHONE,
            to: SERVER,
            seq: 100,
        }
    }

    fn next(&mut self, payload: &[u8]) -> Vec<u8> {
        let frame = tcp(self.from, self.to, (self.seq, 1), ACK, payload);
        self.seq += payload.len() as u32;
        frame
    }
}

/// A harness in which the connection of [`Side::phone`] was opened, by packets 0 and 1.
fn opened(setup: Setup) -> (Harness, Side) {
    let mut harness = Harness::new(setup);
    harness.give(&tcp(PHONE, SERVER, (99, 0), SYN, &[]));
    harness.give(&tcp(SERVER, PHONE, (0, 100), SYN | ACK, &[]));
    (harness, Side::phone())
}

fn invite(id: &str, user: &str) -> Vec<u8> {
    message("INVITE", id, user, "", Some((1, 4000)))
}

/// What was told: the number of the packet, or none of a message apart from its packet; the Call-ID; the method.
type Told = (Option<u64>, String, String);

fn told(harness: &mut Harness) -> Vec<Told> {
    let arrived = harness.arrived().iter().map(|arrived| {
        let sip = arrived.metadata().sip.as_ref().unwrap();
        let number = (!arrived.packet.data.is_empty()).then(|| arrived.number());
        (number, sip.call_id.clone(), sip.method.clone())
    });
    arrived.collect()
}

fn line(number: Option<u64>, id: &str, method: &str) -> Told {
    (number, id.to_owned(), method.to_owned())
}

#[test]
fn a_message_over_several_segments_is_told_of_with_the_first() {
    let (mut harness, mut phone) = opened(Setup::default());
    for part in invite("a", "alice").chunks(100) {
        harness.give(&phone.next(part));
        harness.work();
    }
    harness.give(&phone.next(b"\r\n\r\n"));
    harness.give(&phone.next(&message("ACK", "a", "alice", "callee", None)));
    harness.work();
    let told = told(&mut harness);
    let parts = invite("a", "alice").chunks(100).count() as u64;
    let mut expected = vec![line(Some(2), "a", "INVITE")];
    expected.extend((3..2 + parts).map(|number| line(Some(number), "a", "")));
    expected.push(line(Some(3 + parts), "a", "ACK"));
    assert_eq!(told, expected);
    assert!(
        harness
            .arrived()
            .iter()
            .all(|one| one.packet.matched_filter_ids == ["f-alice"])
    );
    harness.check_ledger();
}

#[test]
fn further_messages_of_a_segment_are_told_of_apart() {
    let (mut harness, mut phone) = opened(Setup::default());
    let text = [
        invite("a", "alice"),
        message("ACK", "a", "alice", "x", None),
        message("BYE", "a", "alice", "x", None),
    ];
    harness.give(&phone.next(&text.concat()));
    harness.work();
    let expected = [
        line(Some(2), "a", "INVITE"),
        line(None, "a", "ACK"),
        line(None, "a", "BYE"),
    ];
    assert_eq!(told(&mut harness), expected);
    assert_eq!(harness.count(Counter::ToldApart), 2);
    assert_eq!(harness.count(Counter::Forwarded), 3);
    let apart = &harness.arrived()[1];
    assert_eq!(
        (apart.packet.capture_length, apart.packet.original_length),
        (0, 0)
    );
    let metadata = apart.metadata();
    assert_eq!(
        (&*metadata.src_ip, metadata.src_port, &*metadata.transport),
        ("10.0.0.1", 40_000, "TCP")
    );
    assert_eq!(metadata.protocol, "SIP");
}

#[test]
fn a_segment_of_several_calls_goes_with_those_that_are_wanted() {
    let (mut harness, mut phone) = opened(Setup {
        users: vec!["alice", "carol"],
        ..Setup::default()
    });
    let text = [
        invite("b", "bob"),
        invite("a", "alice"),
        invite("c", "carol"),
    ]
    .concat();
    harness.give(&phone.next(&text));
    harness.work();
    let expected = [
        line(Some(2), "a", ""),
        line(None, "a", "INVITE"),
        line(None, "c", "INVITE"),
    ];
    assert_eq!(told(&mut harness), expected);
    let ids: Vec<_> = harness
        .arrived()
        .iter()
        .map(|one| one.packet.matched_filter_ids.clone())
        .collect();
    assert_eq!(
        ids,
        [vec!["f-alice", "f-carol"], vec!["f-alice"], vec!["f-carol"]]
    );
    // What is not decided yet is told of when it is.
    harness.give(&phone.next(&message("200 INVITE", "b", "alice", "x", None)));
    harness.work();
    let told = told(&mut harness);
    assert_eq!(
        told[3..],
        [line(None, "b", "INVITE"), line(Some(3), "b", "")]
    );
}

#[test]
fn a_shared_segment_goes_to_the_call_that_is_wanted_first() {
    let (mut harness, mut phone) = opened(Setup::default());
    let text = [invite("b", "bob"), invite("d", "dave")].concat();
    harness.give(&phone.next(&text));
    harness.work();
    assert!(told(&mut harness).is_empty());
    harness.give(&phone.next(&message("486 INVITE", "b", "bob", "x", None)));
    harness.work();
    assert!(told(&mut harness).is_empty());
    harness.give(&phone.next(&message("200 INVITE", "d", "alice", "x", None)));
    harness.finish();
    let expected = [
        line(Some(2), "d", ""),
        line(None, "d", "INVITE"),
        line(Some(4), "d", ""),
    ];
    assert_eq!(told(&mut harness), expected);
    assert_eq!(harness.held_bytes(), 0);
}

#[test]
fn what_comes_again_or_out_of_order_is_of_its_call() {
    let (mut harness, mut phone) = opened(Setup::default());
    let text = invite("a", "alice");
    let parts: Vec<_> = text.chunks(150).map(|part| phone.next(part)).collect();
    for part in [1, 0, 0, 2] {
        harness.give(&parts[part]);
    }
    for part in &parts[3..] {
        harness.give(part);
    }
    harness.give(&parts[0]);
    // Keeps the connection alive.
    harness.give(&tcp(PHONE, SERVER, (phone.seq - 1, 1), ACK, b"x"));
    harness.finish();
    let told = told(&mut harness);
    let numbers: Vec<_> = told.iter().filter_map(|told| told.0).collect();
    assert_eq!(numbers, (2..2 + parts.len() as u64 + 2).collect::<Vec<_>>());
    let messages = told.iter().filter(|told| told.2 == "INVITE").count();
    assert_eq!(messages, 1);
    harness.check_ledger();
}

#[test]
fn a_gap_costs_one_message() {
    let (mut harness, mut phone) = opened(Setup::default());
    harness.give(&phone.next(&invite("a", "alice")));
    let cut = message("MESSAGE", "m", "alice", "", None);
    harness.give(&phone.next(&cut[..100]));
    phone.seq += cut.len() as u32 - 100;
    harness.give(&phone.next(&message("BYE", "a", "alice", "callee", None)));
    harness.give(&tcp(SERVER, PHONE, (1, phone.seq), ACK, &[]));
    harness.work();
    assert_eq!(told(&mut harness).len(), 1);
    harness.give_after(SECOND, &tcp(SERVER, PHONE, (1, phone.seq), ACK, &[]));
    harness.work();
    harness.work();
    assert_eq!(told(&mut harness)[1..], [line(Some(4), "a", "BYE")]);
    assert_eq!(harness.count(Counter::SipMalformed), 1);
    assert_eq!(harness.count(Counter::TcpSegmentsLost), 1);
}

#[test]
fn what_is_not_sip_is_neither_held_nor_forwarded() {
    let (mut harness, mut phone) = opened(Setup::default());
    harness.give(&phone.next(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
    for _ in 0..100 {
        harness.give(&phone.next(&[b'x'; 1_000]));
        harness.work();
    }
    harness.give(&phone.next(b"\x16\x03\x01 not SIP either"));
    harness.work();
    assert_eq!(harness.held_bytes(), 0);
    assert_eq!(harness.count(Counter::Held), 0);
    // But it may become so.
    harness.give(&phone.next(&invite("a", "alice")));
    harness.finish();
    assert_eq!(told(&mut harness), [line(Some(104), "a", "INVITE")]);
    harness.check_ledger();
}

#[test]
fn a_flood_of_connections_leaves_calls_alone() {
    let (mut harness, mut phone) = opened(Setup::default());
    harness.give(&phone.next(&invite("a", "bob")));
    for port in 0..5_000 {
        let from = (9, 1_024 + port);
        harness.give_after(10_000, &tcp(from, SERVER, (1, 0), SYN, &[]));
        harness.give_after(
            10_000,
            &tcp(from, SERVER, (2, 1), ACK, b"POST /x HTTP/1.1\r\n"),
        );
        harness.work();
    }
    harness.give(&phone.next(&message("200 INVITE", "a", "alice", "x", None)));
    harness.finish();
    assert_eq!(told(&mut harness).len(), 2);
    assert_eq!(harness.count(Counter::HeldDropped), 0);
    harness.check_ledger();
}

#[test]
fn messages_in_websockets_are_followed() {
    let frame = |text: &[u8]| {
        let mut frame = vec![0x81, 0x80 | 126];
        frame.extend_from_slice(&(text.len() as u16).to_be_bytes());
        frame.extend_from_slice(&[1, 2, 3, 4]);
        frame.extend(
            text.iter()
                .zip([1, 2, 3, 4].iter().cycle())
                .map(|(byte, key)| byte ^ key),
        );
        frame
    };
    let head = b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: sip\r\n\r\n";
    for is_joined in [false, true] {
        let (mut harness, mut phone) = opened(Setup::default());
        let upgrade = phone.next(head);
        if is_joined {
            phone.from.1 += 1;
            phone.seq += 1_000;
        }
        harness.give(&upgrade);
        let frames = [
            frame(&invite("a", "alice")),
            frame(&message("BYE", "a", "alice", "x", None)),
        ]
        .concat();
        for part in frames.chunks(200) {
            harness.give(&phone.next(part));
        }
        harness.finish();
        let told = told(&mut harness);
        let messages: Vec<_> = told
            .iter()
            .filter(|told| !told.2.is_empty())
            .map(|told| &*told.2)
            .collect();
        assert_eq!(messages, ["INVITE", "BYE"]);
        let numbers: Vec<_> = told.iter().filter_map(|told| told.0).collect();
        let parts = frames.chunks(200).count() as u64;
        assert_eq!(numbers, (3..3 + parts).collect::<Vec<_>>());
        assert!(
            harness
                .arrived()
                .iter()
                .all(|one| one.metadata().protocol == "SIP")
        );
    }
}

#[test]
fn user_messages_of_sctp_are_messages() {
    let chunk = |text: &[u8]| {
        let mut chunk = vec![0, 3];
        chunk.extend_from_slice(&(text.len() as u16 + 16).to_be_bytes());
        chunk.extend_from_slice(&[0; 12]);
        chunk.extend_from_slice(text);
        chunk.resize(chunk.len().next_multiple_of(4), 0);
        chunk
    };
    let mut harness = Harness::new(Setup::default());
    let text = [
        &[0x13, 0xc4, 0x13, 0xc4, 0, 0, 0, 0, 0, 0, 0, 0][..],
        &chunk(&invite("a", "alice")),
        &chunk(&invite("b", "bob")),
    ]
    .concat();
    harness.give(&ip(132, 1, 2, &text));
    harness.finish();
    assert_eq!(
        told(&mut harness),
        [line(Some(0), "a", ""), line(None, "a", "INVITE")]
    );
    assert_eq!(harness.arrived()[0].metadata().transport, "SCTP");
}

/// A packet of SCTP with part `number` of a message, of `of` bytes each.
fn sctp_part(text: &[u8], number: usize, of: usize) -> Vec<u8> {
    let last = text.len().div_ceil(of) - 1;
    let flags = u8::from(number == 0) << 1 | u8::from(number == last);
    let part = text.chunks(of).nth(number).unwrap();
    let len = (part.len() as u16 + 16).to_be_bytes();
    let tsn = (u32::MAX - 1).wrapping_add(number as u32).to_be_bytes();
    let head = [0x13, 0xc4, 0x13, 0xc4, 0, 0, 0, 0, 0, 0, 0, 0, 0, flags];
    ip(
        132,
        1,
        2,
        &[&head[..], &len, &tsn, &[0; 8], part, &[0; 3]].concat(),
    )
}

#[test]
fn user_messages_of_sctp_in_parts_are_put_together() {
    for (user, order) in [
        ("alice", [0, 1, 2, 3]),
        ("alice", [0, 3, 1, 2]),
        ("bob", [0, 2, 1, 3]),
    ] {
        for death in [None].into_iter().chain(Death::ALL.map(Some)) {
            let mut harness = Harness::new(Setup::default());
            harness.batch = 1;
            harness.work();
            if let Some(death) = death {
                harness.dies_at(3, death);
            }
            let text = invite("a", user);
            let of = text.len().div_ceil(4);
            for number in order {
                harness.give(&sctp_part(&text, number, of));
            }
            harness.give(&sctp_part(&text, 1, of));
            harness.work();
            harness.finish();
            let expected = match user {
                "alice" => vec![
                    line(Some(0), "a", "INVITE"),
                    line(Some(1), "a", ""),
                    line(Some(2), "a", ""),
                    line(Some(3), "a", ""),
                ],
                _ => vec![],
            };
            assert_eq!(told(&mut harness), expected, "{order:?} {death:?}");
            harness.check_ledger();
        }
    }
}

#[test]
fn user_messages_of_sctp_that_never_become_whole_are_given_up() {
    let mut harness = Harness::new(Setup::default());
    let text = invite("a", "alice");
    harness.give(&sctp_part(&text, 0, 100));
    harness.give(&sctp_part(&text, 2, 100));
    harness.work();
    assert_eq!(harness.count(Counter::Held), 2);
    harness.give_after(6 * SECOND, &sctp_part(&text, 1, 100));
    harness.work();
    harness.work();
    assert_eq!(harness.count(Counter::HeldReleased), 3);
    assert_eq!(harness.count(Counter::SipMalformed), 1);
    harness.finish();
    assert!(told(&mut harness).is_empty());
    harness.check_ledger();
}

#[test]
fn a_connection_that_is_joined_in_its_middle_is_followed_from_the_next_message_on() {
    let mut harness = Harness::new(Setup::default());
    let mut phone = Side::phone();
    let cut = message("MESSAGE", "m", "alice", "", None);
    harness.give(&phone.next(&[&cut[150..], &invite("a", "alice")].concat()));
    harness.give_after(
        SECOND,
        &phone.next(&message("ACK", "a", "alice", "x", None)),
    );
    harness.finish();
    assert_eq!(
        told(&mut harness),
        [line(Some(0), "a", "INVITE"), line(Some(1), "a", "ACK")]
    );
}

#[test]
fn filters_that_come_later_catch_connections_that_run() {
    let (mut harness, mut phone) = opened(Setup::default());
    let ringing = invite("b", "bob");
    harness.give(&phone.next(&ringing[..80]));
    harness.work();
    harness.filter(&["bob"]);
    harness.give(&phone.next(&ringing[80..]));
    harness.finish();
    assert_eq!(
        told(&mut harness),
        [line(Some(2), "b", "INVITE"), line(Some(3), "b", "")]
    );
}

#[test]
fn a_stream_that_ends_within_a_message_leaves_nothing() {
    let (mut harness, mut phone) = opened(Setup::default());
    harness.give(&phone.next(&invite("a", "bob")[..200]));
    harness.give(&tcp(PHONE, SERVER, (phone.seq, 1), FIN | ACK, &[]));
    harness.work();
    harness.work();
    assert!(told(&mut harness).is_empty());
    assert_eq!(harness.held_bytes(), 0);
    assert_eq!(harness.count(Counter::SipMalformed), 1);
    harness.check_ledger();
}

/// Packets of two connections with calls of which some are wanted, all cut and some together.
fn conversation() -> Vec<Vec<u8>> {
    let mut sides = [
        Side::phone(),
        Side {
            from: (3, 40_001),
            to: SERVER,
            seq: 7_000,
        },
    ];
    let mut streams = [Vec::new(), Vec::new()];
    for number in 0..12 {
        let user = ["alice", "bob", "carol"][number % 3];
        let id = format!("call-{number}");
        let stream = &mut streams[number % 2];
        stream.extend(invite(&id, user));
        stream.extend(message("ACK", &id, user, "x", None));
        if number % 4 > 1 {
            stream.extend(message("486 INVITE", &id, user, "x", None));
        }
        stream.extend_from_slice(b"\r\n\r\n");
    }
    let mut frames = vec![];
    let parts = streams.map(|stream| stream.chunks(170).map(<[u8]>::to_vec).collect::<Vec<_>>());
    for at in 0..parts[0].len().max(parts[1].len()) {
        for (side, parts) in sides.iter_mut().zip(&parts) {
            frames.extend(parts.get(at).map(|part| side.next(part)));
        }
    }
    frames
}

fn converse(prepare: impl FnOnce(&mut Harness)) -> Harness {
    let mut harness = Harness::new(Setup {
        held_bytes: 1 << 20,
        ..Setup::default()
    });
    harness.batch = 3;
    prepare(&mut harness);
    for frame in conversation() {
        harness.give_after(MILLISECOND, &frame);
        harness.work();
        harness.work();
    }
    harness.finish();
    harness
}

#[test]
fn a_worker_may_die_at_any_commit() {
    let mut whole = converse(|_| {});
    let mut expected = told(&mut whole);
    expected.sort();
    assert!(expected.iter().any(|told| told.0.is_none()));
    for death in Death::ALL {
        for commit in (0..160).step_by(3) {
            let mut harness = converse(|harness| harness.dies_at(commit, death));
            let mut told = told(&mut harness);
            told.sort();
            assert_eq!(told, expected, "{death:?} at commit {commit}");
            assert_eq!(harness.held_bytes(), 0);
        }
    }
}
