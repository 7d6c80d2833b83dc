//! Calls and transactions from their first message to their last packet.

use shm_layout::counters::WorkerCounter as Counter;

use super::harness::{Harness, SECOND, Setup, message, rtp, sip, udp};

const CALLER: (u8, u16) = (1, 4000);
const CALLEE: (u8, u16) = (2, 6000);

/// A message of the call `c` of `alice`, from or to the callee with `tag`.
fn of(tag: &str, line: &str) -> Vec<u8> {
    udp(
        (1, 5060),
        (2, 5060),
        &message(line, "c", "alice", tag, None),
    )
}

/// Gives messages `TAG LINE`, a second apart.
fn give(harness: &mut Harness, lines: &[&str]) {
    for line in lines {
        let (tag, line) = line.split_once(' ').unwrap();
        harness.give_after(SECOND, &of(tag.trim_matches('-'), line));
    }
    harness.work();
}

/// Whether media of the call are forwarded.
fn media_arrive(harness: &mut Harness, sequence: u16) -> bool {
    let number = harness.give(&rtp(CALLEE, CALLER, 7, sequence));
    harness.work();
    harness.numbers().last() == Some(&number)
}

#[test]
fn transactions_match_and_are_forwarded_by_themselves() {
    for method in [
        "REGISTER",
        "OPTIONS",
        "MESSAGE",
        "SUBSCRIBE",
        "NOTIFY",
        "PUBLISH",
    ] {
        let mut harness = Harness::new(Setup::default());
        let wanted = [
            harness.give(&sip(method, "wanted", "alice", None)),
            harness.give(&sip(&format!("200 {method}"), "wanted", "alice", None)),
        ];
        harness.give(&sip(method, "other", "carol", None));
        harness.work();
        assert_eq!(harness.numbers(), wanted, "{method}");
        // Nothing of it waits for longer than to its last word.
        assert!(harness.held_bytes() > 0, "{method}");
        harness.give(&sip(&format!("404 {method}"), "other", "carol", None));
        harness.work();
        assert_eq!(harness.held_bytes(), 0, "{method}");
        assert_eq!(harness.numbers(), wanted, "{method}");
        harness.check_ledger();
    }
}

#[test]
fn a_forked_call_lasts_until_its_last_branch_has_ended() {
    let mut harness = Harness::new(Setup::default());
    harness.give(&sip("INVITE", "c", "alice", Some(CALLER)));
    give(
        &mut harness,
        &[
            "a 180 INVITE",
            "b 183 INVITE",
            "d 486 INVITE",
            "a 200 INVITE",
            "b 200 INVITE",
            "a ACK",
            "b ACK",
            "b BYE",
            "b 200 BYE",
        ],
    );
    let before = harness.numbers().len();
    assert_eq!(before, 10);
    // Far longer than what is over lingers.
    for sequence in 1..10 {
        let number = harness.give_after(20 * SECOND, &rtp(CALLEE, CALLER, 7, sequence));
        harness.work();
        assert_eq!(harness.numbers().last(), Some(&number));
    }
    give(&mut harness, &["a BYE", "a 200 BYE"]);
    assert!(media_arrive(&mut harness, 10));
    harness.give_after(31 * SECOND, &sip("OPTIONS", "tick", "carol", None));
    harness.work();
    assert!(!media_arrive(&mut harness, 11));
    assert_eq!(harness.count(Counter::CallsEnded), 1);
}

#[test]
fn a_transfer_belongs_to_its_call_and_what_it_begins_is_judged_by_itself() {
    let mut harness = Harness::new(Setup::default());
    harness.give(&sip("INVITE", "c", "alice", Some(CALLER)));
    // The transfer goes on in the dialog (RFC 3515 section 2.4), and tells how it went.
    give(
        &mut harness,
        &[
            "a 200 INVITE",
            "a ACK",
            "a REFER",
            "a 202 REFER",
            "a NOTIFY",
            "a 200 NOTIFY",
        ],
    );
    assert_eq!(harness.numbers().len(), 7);
    assert!(media_arrive(&mut harness, 1));
    // The call that takes its place (RFC 3891) has other users.
    let begun = message("INVITE", "new", "carol", "", Some((3, 7000)));
    let begun = String::from_utf8(begun).unwrap();
    let replaces = "\r\nReplaces: c;to-tag=a;from-tag=caller\r\nCall-ID: new\r\n";
    let begun = begun.replacen("\r\nCall-ID: new\r\n", replaces, 1);
    harness.give(&udp((3, 5060), (2, 5060), begun.as_bytes()));
    harness.give(&sip("486 INVITE", "new", "carol", None));
    harness.work();
    assert_eq!(harness.numbers().len(), 8);
    give(&mut harness, &["a BYE", "a 200 BYE"]);
    assert_eq!(harness.numbers().len(), 10);
    harness.check_ledger();
}

#[test]
fn what_ends_a_call_lets_the_last_packets_through() {
    let ends: [&[&str]; 4] = [
        &["a 200 INVITE", "a ACK", "a BYE", "a 200 BYE"],
        &[
            "a 180 INVITE",
            "- CANCEL",
            "- 200 CANCEL",
            "a 487 INVITE",
            "a ACK",
        ],
        &["a 486 INVITE", "a ACK"],
        &["a 503 INVITE", "a ACK"],
    ];
    for end in ends {
        let mut harness = Harness::new(Setup::default());
        harness.give(&sip("INVITE", "c", "alice", Some(CALLER)));
        give(&mut harness, end);
        assert_eq!(harness.numbers().len(), 1 + end.len(), "{end:?}");
        let late = harness.give_after(20 * SECOND, &rtp(CALLEE, CALLER, 7, 1));
        harness.work();
        assert_eq!(harness.numbers().last(), Some(&late), "{end:?}");
        harness.give_after(31 * SECOND, &sip("OPTIONS", "tick", "carol", None));
        harness.work();
        assert_eq!(harness.count(Counter::CallsEnded), 1, "{end:?}");
    }
}

#[test]
fn a_message_within_the_call_that_matches_makes_all_of_it_wanted_from_then_on() {
    let mut harness = Harness::new(Setup {
        users: vec!["dave"],
        ..Setup::default()
    });
    harness.give(&sip("INVITE", "c", "carol", Some(CALLER)));
    harness.give(&sip("200 INVITE", "c", "carol", Some(CALLEE)));
    harness.work();
    assert!(!media_arrive(&mut harness, 1));
    let update = harness.give(&sip("UPDATE", "c", "dave", None));
    harness.work();
    assert_eq!(harness.numbers(), [update]);
    assert!(media_arrive(&mut harness, 2));
}
