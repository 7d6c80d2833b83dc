//! Media: whose they are, and what is told of them.

use shm_layout::counters::WorkerCounter as Counter;

use super::harness::{End, Harness, Setup, report, rtp, rtp_at, rtp_of, sip};

const CALLER: End = (1, 4000);
const CALLEE: End = (2, 6000);

fn answered() -> Harness {
    let mut harness = Harness::new(Setup::default());
    harness.give(&sip("INVITE", "c", "alice", Some(CALLER)));
    harness.give(&sip("200 INVITE", "c", "alice", Some(CALLEE)));
    harness
}

/// The value of `key` in the metadata of the packet that arrived last.
fn last(harness: &mut Harness, key: &str) -> Option<String> {
    harness.work();
    let arrived = harness.arrived().last().unwrap();
    arrived.detail(key).map(str::to_owned)
}

#[test]
fn streams_are_accounted_for_in_reports_and_at_the_end() {
    let mut harness = answered();
    for sequence in [1, 2, 4, 6, 5] {
        harness.give(&rtp(CALLER, CALLEE, 6, sequence));
    }
    harness.give(&rtp(CALLEE, CALLER, 7, 1));
    assert_eq!(last(&mut harness, "rtp_streams"), None);
    harness.give(&report(CALLER, CALLEE, 6));
    let told = last(&mut harness, "rtp_streams").unwrap();
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(
        lines[0]
            .starts_with("ssrc=6 received=5 lost=1 reordered=1 repeated=0 restarts=0 jitter_us="),
        "{told}"
    );
    for line in ["BYE", "200 BYE"] {
        harness.give(&sip(line, "c", "alice", None));
        assert_eq!(last(&mut harness, "rtp_streams").as_deref(), Some(&*told));
    }
    harness.finish();
    assert_eq!(harness.count(Counter::RtpLost), 1);
    assert_eq!(harness.count(Counter::RtpReordered), 1);
}

#[test]
fn digits_are_told_and_counted_once() {
    let mut harness = answered();
    harness.give(&rtp(CALLER, CALLEE, 6, 1));
    for (sequence, event) in [
        (2, [5, 10, 0, 160]),
        (3, [5, 10, 1, 64]),
        (4, [5, 0x8a, 1, 224]),
    ] {
        harness.give(&rtp_at(CALLER, CALLEE, 6, (sequence, 327), 101, &event));
    }
    assert_eq!(last(&mut harness, "dtmf_event").as_deref(), Some("5"));
    assert_eq!(last(&mut harness, "dtmf_end").as_deref(), Some("true"));
    assert_eq!(last(&mut harness, "dtmf_duration").as_deref(), Some("480"));
    assert_eq!(last(&mut harness, "dtmf_volume").as_deref(), Some("10"));
    assert_eq!(harness.count(Counter::RtpEvents), 1);
    // What payload types stand for outlives the worker.
    harness.die();
    harness.give(&rtp_at(
        CALLER,
        CALLEE,
        6,
        (5, 2000),
        101,
        &[11, 10, 0, 160],
    ));
    assert_eq!(last(&mut harness, "dtmf_event").as_deref(), Some("#"));
    assert_eq!(harness.count(Counter::RtpEvents), 2);
}

#[test]
fn comfort_noise_is_told_and_counted() {
    let mut harness = answered();
    harness.give(&rtp(CALLER, CALLEE, 6, 1));
    harness.give(&rtp_of(CALLER, CALLEE, 6, 2, 13, &[0x44]));
    assert_eq!(
        last(&mut harness, "comfort_noise_level").as_deref(),
        Some("68")
    );
    assert_eq!(harness.count(Counter::RtpNoise), 1);
}

#[test]
fn media_behind_nat_belong_to_the_end_that_is_announced() {
    let mut harness = answered();
    harness.work();
    // Nobody announced host 9; what comes from there to an announced end, and goes back, is the call's.
    let there = harness.give(&rtp((9, 7777), CALLER, 7, 1));
    let back = harness.give(&rtp(CALLER, (9, 7777), 6, 1));
    let control = harness.give(&report((9, 7778), (1, CALLER.1 + 1), 7));
    harness.work();
    assert_eq!(harness.numbers()[2..], [there, back, control]);
    harness.check_ledger();
}

#[test]
fn media_before_their_signalling_become_its() {
    let mut harness = Harness::new(Setup::default());
    let mut wanted: Vec<u64> = (1..4)
        .map(|sequence| harness.give(&rtp(CALLEE, CALLER, 0xabcd, sequence)))
        .collect();
    harness.work();
    assert_eq!(harness.numbers().len(), 0);
    wanted.push(harness.give(&sip("INVITE", "c", "alice", Some(CALLER))));
    wanted.push(harness.give(&rtp(CALLEE, CALLER, 0xabcd, 4)));
    harness.work();
    assert_eq!(harness.numbers(), wanted);
    assert!(
        harness
            .arrived()
            .iter()
            .all(|packet| packet.call_id() == "c")
    );
    let media = harness.arrived()[0].metadata().rtp.unwrap();
    assert_eq!((media.ssrc, media.sequence), (0xabcd, 1));
}

#[test]
fn media_without_signalling_are_a_call_of_their_own() {
    let mut harness = Harness::new(Setup {
        policy: lc_daemon::config::NoFilterPolicy::Allow,
        users: vec![],
        ..Setup::default()
    });
    for sequence in 1..4 {
        harness.give(&rtp(CALLEE, CALLER, 0xabcd, sequence));
    }
    harness.finish();
    let ids: Vec<_> = harness
        .arrived()
        .iter()
        .map(|packet| packet.call_id())
        .collect();
    assert_eq!(ids, ["rtp-0000abcd"; 3]);
}
