//! The reference's conformance rows and probes of calls, through the desk. Where the other rows are tested:
//!
//! | rows | tests |
//! |---|---|
//! | A1-A6, B1-B6, C1-C5, D10, D11, G1-G9, N11-N13, X19, X21-X23, X29 | `sip/message.rs` |
//! | C6-C8 | `sip/lines.rs` |
//! | D1-D9, X23 | `sip/address.rs` |
//! | E1-E9, N5-N10, X28 | `sip/identity.rs` |
//! | G10, G11, H1-H11, X10-X17 | `sip/framer.rs` |
//! | L1-L8, X3, X24-X27 | `sip/sdp.rs` |
//! | N1-N4, X5 | `rtp/header.rs` |
//! | Q1-Q7, Q9, Q10 | `esp.rs`; Q8: the setting `esp_icv_size` refuses other values |
//! | R1-R9, X31, X32 | `fragments/tests.rs`, and captures in Linux cooked mode in `tests/tests/voip_captures.rs` |
//! | U1-U3, U5 | `matcher/pattern.rs`; U4 compares numbers, as filters for telephone numbers do: `tests/filters.rs` |
//! | M1-M8 | differ on purpose: ports are hints, see `for_calls` in lc-capd |
//! | O1-O7 | the processor's; what it needs of each message is J1 and X21 |
//! | I3, E10-E12, H12-H14 | nothing here: original packets are forwarded, there are no files by Call-ID, and addresses are no text |

use lc_daemon::config::NoFilterPolicy;
use lc_tests::ipv4::{ACK, PSH};

use super::harness::{End, Harness, SECOND, Setup, report, rtp, sip, tcp, udp};

const CALLER: End = (1, 16_400);
const CALLEE: End = (2, 30_000);
/// An end that nobody announced.
const STRANGER: End = (9, 1_111);

fn wants(users: &[&'static str]) -> Harness {
    Harness::new(Setup {
        users: users.to_vec(),
        ..Setup::default()
    })
}

/// A call of alice's that is wanted, answered.
fn answered(caller: End, callee: End) -> Harness {
    let mut harness = wants(&["alice"]);
    harness.give(&sip("INVITE", "c", "alice", Some(caller)));
    harness.give(&sip("200 INVITE", "c", "alice", Some(callee)));
    harness
}

/// Method and status of the messages that arrived, as they are told, and their Call-IDs.
fn told(harness: &mut Harness) -> Vec<(String, u32, String)> {
    let messages = harness.arrived().iter().filter_map(|arrived| {
        let sip = arrived.metadata().sip.as_ref()?;
        let is_message = !sip.method.is_empty() || sip.response_code != 0;
        is_message.then(|| (sip.method.clone(), sip.response_code, sip.call_id.clone()))
    });
    messages.collect()
}

fn call_ids(harness: &mut Harness) -> Vec<String> {
    told(harness).into_iter().map(|(.., id)| id).collect()
}

/// Lines as a message; the body with its length.
fn text(start: &str, lines: &[&str], body: &str) -> Vec<u8> {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    format!("{start}\r\n{lines}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// The template UM.
fn um(start: &str, id: &str, to_tag: &str, body: &str) -> Vec<u8> {
    let lines = [
        "Via: SIP/2.0/UDP 192.0.2.1:5060;branch=z9",
        "From: <sip:alice@alpha.example>;tag=1",
        &format!("To: <sip:bob@alpha.example>{to_tag}"),
        &format!("Call-ID: {id}"),
        "CSeq: 1 INVITE",
    ];
    text(start, &lines, body)
}

/// The template MT, and with the user as the sender MO.
fn mt(id: &str, user: &str) -> Vec<u8> {
    let to = format!("<sip:{user}@ims.example>");
    let lines = [
        "Via: SIP/2.0/TCP 10.0.0.1:5060",
        "From: <sip:smsc@ims.example>;tag=a",
        &format!("To: {to}"),
        &format!("Call-ID: {id}"),
        "CSeq: 1 MESSAGE",
        "Content-Type: application/vnd.3gpp.sms",
    ];
    text(
        &format!("MESSAGE sip:{user}@ims.example SIP/2.0"),
        &lines,
        "abc",
    )
}

fn mo(id: &str, user: &str) -> Vec<u8> {
    let from = format!("<sip:{user}@ims.example>");
    let lines = [
        "Via: SIP/2.0/TCP 10.0.0.1:5060",
        &format!("From: {from};tag=b"),
        "To: <sip:smsc@ims.example>",
        &format!("P-Asserted-Identity: {from}"),
        "P-Access-Network-Info: 3GPP-E-UTRAN-FDD; utran-cell-id-3gpp=1234",
        &format!("Call-ID: {id}"),
        "CSeq: 1 MESSAGE",
        "Content-Type: application/vnd.3gpp.sms",
    ];
    text("MESSAGE sip:smsc@ims.example SIP/2.0", &lines, "xyz")
}

/// The template TS: an anonymous caller, whom perhaps the network names.
fn ts(method: &str, id: &str, asserted: Option<&str>, tag: &str) -> Vec<u8> {
    let asserted = asserted.map(|user| format!("P-Asserted-Identity: <sip:{user}@alpha.example>"));
    let to = format!("To: <sip:ben@beta.example>{tag}");
    let (id, sequence) = (format!("Call-ID: {id}"), format!("CSeq: 1 {method}"));
    let mut lines = vec![
        "Via: SIP/2.0/TCP 192.0.2.1:5060",
        "From: <sip:anonymous@anonymous.invalid>;tag=1",
        &to,
        &id,
        &sequence,
    ];
    lines.extend(asserted.as_deref());
    text(
        &format!("{method} sip:ben@beta.example SIP/2.0"),
        &lines,
        "",
    )
}

/// A segment of a connection.
fn segment(from: End, to: End, sequence: u32, payload: &[u8]) -> Vec<u8> {
    tcp(from, to, (sequence, 1), PSH | ACK, payload)
}

/// Gives `messages` of one connection, a segment each.
fn give_stream(harness: &mut Harness, from: End, to: End, messages: &[Vec<u8>]) {
    let mut sequence = 1;
    for message in messages {
        harness.give(&segment(from, to, sequence, message));
        sequence += message.len() as u32;
    }
}

/// Rows I1, I2.
#[test]
fn each_message_of_a_connection_is_judged_and_calls_are_remembered() {
    let user = "31600000000";
    let mut harness = wants(&[user]);
    let messages = [
        mt("mt-1", user),
        mt("oth", "31699999999"),
        mo("mo-2", user),
        mt("mt-3", user),
        mo("mo-4", user),
    ];
    give_stream(&mut harness, (1, 5060), (2, 5060), &messages);
    harness.finish();
    assert_eq!(
        call_ids(&mut harness),
        ["mt-1", "mo-2", "mt-3", "mo-4"],
        "I1"
    );
    assert_eq!(harness.numbers(), [0, 2, 3, 4], "I1");

    let mut harness = wants(&["alice"]);
    let messages = [
        ts("INVITE", "pai-1", Some("alice"), ""),
        ts("BYE", "pai-1", None, ";tag=2"),
    ];
    give_stream(&mut harness, (1, 40_000), (2, 5060), &messages);
    harness.finish();
    assert_eq!(call_ids(&mut harness), ["pai-1", "pai-1"], "I2");
}

/// Rows J1, J2, K1 to K3, K5.
#[test]
fn a_wanted_call_arrives_once_and_in_order_and_nothing_of_another() {
    const SDP: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 41000 RTP/AVP 0\r\n";
    let give = |harness: &mut Harness, id: &str, tag: &str, starts: &[(&str, &str)]| {
        for (start, body) in starts {
            let message = um(start, id, tag, body);
            harness.give(&udp((1, 5060), (2, 5060), &message));
        }
    };
    let invite = "INVITE sip:bob@alpha.example SIP/2.0";
    let bye = "BYE sip:bob@alpha.example SIP/2.0";
    let mut harness = Harness::new(Setup {
        policy: NoFilterPolicy::Allow,
        users: vec![],
        ..Setup::default()
    });
    give(
        &mut harness,
        "j1",
        "",
        &[(invite, SDP), ("SIP/2.0 100 Trying", "")],
    );
    let ack = "ACK sip:bob@alpha.example SIP/2.0";
    give(
        &mut harness,
        "j1",
        ";tag=2",
        &[("SIP/2.0 180 Ringing", ""), (ack, ""), (bye, "")],
    );
    harness.finish();
    let of = |method: &str, code| (method.to_owned(), code, "j1".to_owned());
    let all = [
        of("INVITE", 0),
        of("", 100),
        of("", 180),
        of("ACK", 0),
        of("BYE", 0),
    ];
    assert_eq!(told(&mut harness), all, "J1");
    assert_eq!(harness.numbers(), [0, 1, 2, 3, 4], "J1");

    let mut harness = wants(&["carol"]);
    give(
        &mut harness,
        "j4",
        "",
        &[(invite, SDP), ("SIP/2.0 100 Trying", "")],
    );
    give(&mut harness, "j4", ";tag=2", &[(bye, "")]);
    harness.finish();
    assert_eq!(harness.numbers(), [0; 0], "J2");
    assert_eq!(harness.held_bytes(), 0, "K2");

    // Only the last message matches: what waited goes out in the order of capture.
    let mut harness = wants(&["alice"]);
    harness.give(&sip("INVITE", "c", "carol", Some(CALLER)));
    harness.give(&rtp(STRANGER, CALLER, 7, 1));
    harness.give(&sip("183 INVITE", "c", "carol", None));
    harness.give(&rtp(STRANGER, CALLER, 7, 2));
    harness.work();
    assert_eq!(harness.numbers(), [0; 0], "K1");
    harness.give(&sip("200 INVITE", "c", "alice", None));
    harness.work();
    assert_eq!(harness.numbers(), [0, 1, 2, 3, 4], "K1");
    harness.give_after(6 * SECOND, &rtp(STRANGER, CALLER, 7, 3));
    harness.work();
    assert_eq!(harness.numbers(), [0, 1, 2, 3, 4, 5], "K3, K5");
}

/// Rows X1 to X7.
#[test]
fn media_of_a_wanted_call_arrive_whatever_their_port_and_whatever_they_are() {
    for port in [16_384, 10_000, 8_000, 5_004, 40_000, 16_400, 30_000, 49_170] {
        let mut harness = answered((1, port), CALLEE);
        harness.give(&rtp(CALLEE, (1, port), 7, 1));
        harness.work();
        assert_eq!(harness.numbers(), [0, 1, 2], "X1: {port}");
    }
    let mut harness = answered(CALLER, CALLEE);
    let symmetric = harness.give(&rtp(CALLER, (8, 9), 7, 1));
    // A bare port is nobody's.
    harness.give(&rtp(STRANGER, (8, CALLER.1), 9, 1));
    let mut binding = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    binding.extend([5; 12]);
    let stun = harness.give(&udp(CALLEE, CALLER, &binding));
    let shared = harness.give(&report(CALLEE, CALLER, 7));
    let own = harness.give(&report((2, CALLEE.1 + 1), (1, CALLER.1 + 1), 7));
    harness.work();
    assert_eq!(
        harness.numbers(),
        [0, 1, symmetric, stun, shared, own],
        "X2 to X6"
    );
    for number in [stun, shared, own] {
        let arrived = harness
            .arrived()
            .iter()
            .find(|arrived| arrived.number() == number);
        let arrived = arrived.unwrap();
        assert_eq!(
            (arrived.call_id(), &arrived.metadata().rtp),
            ("c", &None),
            "X4, X5"
        );
    }
    let late = harness.give_after(6 * SECOND, &rtp(CALLEE, CALLER, 7, 2));
    let options = harness.give(&sip("OPTIONS", "c", "nobody", None));
    let later = harness.give(&rtp(CALLEE, CALLER, 7, 3));
    harness.work();
    assert!(harness.numbers().ends_with(&[late, options, later]), "X7");
}

/// Row X8.
#[test]
fn one_message_that_matches_is_enough_for_the_call() {
    let mut harness = wants(&["alice"]);
    harness.give(&udp(
        (1, 5060),
        (2, 5060),
        &ts("INVITE", "c", Some("alice"), ""),
    ));
    harness.give(&sip("200 INVITE", "c", "anonymous", Some(CALLEE)));
    harness.give(&rtp(CALLER, CALLEE, 7, 1));
    harness.give(&sip("BYE", "c", "anonymous", None));
    harness.work();
    assert_eq!(harness.numbers(), [0, 1, 2, 3]);
}

/// Rows X9, X10.
#[test]
fn the_directions_of_a_connection_are_apart() {
    const A: End = (1, 40_000);
    const B: End = (2, 5060);
    let invite = super::harness::message("INVITE", "c", "alice", "", Some(CALLER));
    let answer = super::harness::message("200 INVITE", "c", "alice", "callee", Some(CALLEE));
    let mut harness = wants(&["alice"]);
    harness.give(&segment(A, B, 1, &invite));
    harness.give(&segment(B, A, 1, &answer));
    harness.work();
    let ways: Vec<_> = harness
        .arrived()
        .iter()
        .map(|arrived| arrived.metadata().src_port)
        .collect();
    assert_eq!(ways, [40_000, 5060], "X9");
    assert_eq!(told(&mut harness).len(), 2, "X9");

    let mut harness = wants(&["alice"]);
    let cut = invite.len() - 10;
    harness.give(&segment(A, B, 1, &invite[..cut]));
    harness.give(&segment(B, A, 1, &answer));
    harness.give(&segment(A, B, 1 + cut as u32, &invite[cut..]));
    let media = harness.give(&rtp(STRANGER, CALLER, 7, 1));
    harness.finish();
    let mut messages = told(&mut harness);
    messages.sort();
    let of = |method: &str, code| (method.to_owned(), code, "c".to_owned());
    assert_eq!(messages, [of("", 200), of("INVITE", 0)], "X10");
    let mut numbers = harness.numbers();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 2, media], "X10");
}

/// Rows X18 to X21.
#[test]
fn sip_is_taken_for_what_it_is_on_any_port_and_told_message_by_message() {
    let message = |line: &str, media| super::harness::message(line, "c", "alice", "", media);
    let mut harness = wants(&["alice"]);
    harness.give(&udp((1, 5080), (2, 7000), &message("INVITE", Some(CALLER))));
    harness.give(&rtp(STRANGER, CALLER, 7, 1));
    harness.work();
    assert_eq!(harness.numbers(), [0, 1], "X18");

    let mut harness = wants(&["alice"]);
    let behind_line = [b"\r\n", &message("INVITE", Some(CALLER))[..]].concat();
    harness.give(&udp((1, 5060), (2, 5060), &behind_line));
    harness.work();
    assert_eq!(call_ids(&mut harness), ["c"], "X19");

    for method in ["REGISTER", "MESSAGE", "OPTIONS", "NOTIFY"] {
        let mut harness = wants(&["alice"]);
        harness.give(&udp((1, 5060), (2, 5060), &message(method, None)));
        harness.work();
        assert_eq!(
            told(&mut harness),
            [(method.to_owned(), 0, "c".to_owned())],
            "X20"
        );
    }

    let mut harness = wants(&["alice"]);
    harness.give(&sip("INVITE", "c", "alice", None));
    harness.give(&sip("180 INVITE", "c", "alice", None));
    harness.give(&sip("200 INVITE", "c", "alice", Some(CALLEE)));
    harness.work();
    let of = |method: &str, code| (method.to_owned(), code, "c".to_owned());
    assert_eq!(
        told(&mut harness),
        [of("INVITE", 0), of("", 180), of("", 200)],
        "X21"
    );
}
