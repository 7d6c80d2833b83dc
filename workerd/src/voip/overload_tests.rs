//! What is lost when there is too much to do, and that it is told.

use lc_daemon::config::NoFilterPolicy;
use shm_layout::counters::WorkerCounter as Counter;

use super::harness::{Arrived, Harness, Setup, rtp, sip};
use crate::desk::load::Load;

const CALLER: (u8, u16) = (1, 4000);
const CALLEE: (u8, u16) = (2, 6000);

#[test]
fn media_that_nothing_asked_for_are_shed_first_then_signalling() {
    for (load, shed) in [
        (Load::Light, 0),
        (Load::Heavy, 2),
        (Load::Severe, 2),
        (Load::Extreme, 3),
    ] {
        let mut harness = Harness::new(Setup {
            policy: NoFilterPolicy::Allow,
            users: vec![],
            ..Setup::default()
        });
        harness.give(&sip("INVITE", "c", "carol", Some(CALLER)));
        harness.work();
        harness.load = load;
        harness.give(&rtp(CALLEE, CALLER, 7, 1));
        harness.give(&rtp(CALLEE, CALLER, 7, 2));
        harness.give(&sip("200 INVITE", "c", "carol", Some(CALLEE)));
        harness.work();
        assert_eq!(harness.count(Counter::ShedByCall), shed, "{load:?}");
        assert_eq!(harness.numbers().len() as u64, 4 - shed);
        assert_eq!(harness.count(Counter::LostOfCalls), shed);
        assert_eq!(harness.count(Counter::CallsIncomplete), u64::from(shed > 0));
        harness.check_ledger();
    }
}

#[test]
fn nothing_is_shed_of_a_call_that_matches() {
    let mut harness = Harness::new(Setup::default());
    harness.load = Load::Extreme;
    let mut wanted = vec![harness.give(&sip("INVITE", "c", "alice", Some(CALLER)))];
    wanted.extend((1..50).map(|sequence| harness.give(&rtp(CALLEE, CALLER, 7, sequence))));
    wanted.push(harness.give(&sip("BYE", "c", "alice", None)));
    harness.work();
    assert_eq!(harness.numbers(), wanted);
    assert_eq!(harness.count(Counter::CallsIncomplete), 0);
}

#[test]
fn an_undecided_call_loses_its_media_before_its_signalling_and_says_so() {
    let mut harness = Harness::new(Setup::default());
    let invite = harness.give(&sip("INVITE", "c", "carol", Some(CALLER)));
    let early = harness.give(&rtp(CALLEE, CALLER, 7, 1));
    harness.work();
    harness.load = Load::Severe;
    harness.give(&rtp(CALLEE, CALLER, 7, 2));
    harness.work();
    harness.load = Load::Light;
    // It has lost some: more of them don't wait.
    harness.give(&rtp(CALLEE, CALLER, 7, 3));
    harness.work();
    let answer = harness.give(&sip("200 INVITE", "c", "alice", Some(CALLEE)));
    let media = harness.give(&rtp(CALLEE, CALLER, 7, 4));
    harness.work();
    assert_eq!(harness.numbers(), [invite, early, answer, media]);
    let lost: Vec<_> = (harness.arrived().iter())
        .map(|packet| packet.detail("call_lost_packets").map(str::to_owned))
        .collect();
    assert_eq!(lost.last().unwrap().as_deref(), Some("2"));
    assert_eq!(harness.count(Counter::ShedByCall), 2);
    assert_eq!(harness.count(Counter::LostOfCalls), 2);
    assert_eq!(harness.count(Counter::CallsIncomplete), 1);
    harness.check_ledger();
}

#[test]
fn a_call_that_lost_packets_says_so_after_a_death() {
    let mut harness = Harness::new(Setup::default());
    harness.give(&sip("INVITE", "c", "carol", Some(CALLER)));
    harness.load = Load::Severe;
    harness.give(&rtp(CALLEE, CALLER, 7, 2));
    harness.work();
    harness.die();
    harness.give(&sip("200 INVITE", "c", "alice", Some(CALLEE)));
    harness.work();
    let answer = harness.arrived().last().unwrap();
    assert_eq!(answer.detail("call_lost_packets"), Some("1"));
    assert_eq!(harness.count(Counter::CallsIncomplete), 1);
}

#[test]
fn the_log_of_held_packets_keeps_room_for_signalling() {
    let mut harness = Harness::new(Setup {
        held_bytes: 32 << 10,
        ..Setup::default()
    });
    let ports = 4000..4010;
    for port in ports.clone() {
        harness.give(&sip(
            "INVITE",
            &format!("c{port}"),
            "carol",
            Some((1, port)),
        ));
        for sequence in 0..30 {
            harness.give(&rtp((2, 9000), (1, port), 7, sequence));
        }
        harness.work();
    }
    for port in ports.clone() {
        harness.give(&sip("200 INVITE", &format!("c{port}"), "alice", None));
    }
    harness.finish();
    let is_signalling = |packet: &&Arrived| packet.metadata().protocol == "SIP";
    let signalling = harness.arrived().iter().filter(is_signalling).count();
    assert_eq!(signalling, 2 * ports.clone().count());
    let lost = harness.count(Counter::ShedByCall) + harness.count(Counter::HeldDropped);
    assert!(lost > 0);
    assert_eq!(harness.count(Counter::LostOfCalls), lost);
    assert!(harness.count(Counter::CallsIncomplete) < ports.count() as u64);
    harness.check_ledger();
}

#[test]
fn what_the_capture_lost_meanwhile_is_told() {
    let mut harness = Harness::new(Setup::default());
    harness.lost_by_capture = 100;
    harness.work();
    harness.give(&sip("INVITE", "c", "alice", Some(CALLER)));
    harness.work();
    harness.lost_by_capture = 107;
    harness.give(&rtp(CALLEE, CALLER, 7, 1));
    harness.work();
    let told: Vec<_> = (harness.arrived().iter())
        .map(|packet| packet.detail("capture_lost_packets"))
        .collect();
    assert_eq!(told, [None, Some("7")]);
}

#[test]
fn floods_of_calls_leave_a_call_that_matches_alone() {
    let mut harness = Harness::new(Setup {
        calls_limit: 256 << 10,
        ..Setup::default()
    });
    let mut wanted = vec![
        harness.give(&sip("INVITE", "c", "alice", Some(CALLER))),
        harness.give(&sip("200 INVITE", "c", "alice", Some(CALLEE))),
    ];
    for number in 0..3_000u16 {
        let id = format!("flood {number}");
        let media = Some((3, number));
        match number % 3 {
            0 => harness.give(&sip("INVITE", &id, "mallory", media)),
            1 => harness.give(&sip("OPTIONS", &id, "mallory", None)),
            _ => harness.give(&sip("BYE", &id, "mallory", None)),
        };
        if number % 50 == 0 {
            wanted.push(harness.give(&rtp(CALLEE, CALLER, 7, number / 50)));
            harness.work();
        }
    }
    harness.finish();
    assert!(harness.count(Counter::CallsEvicted) > 1_000);
    assert_eq!(harness.numbers(), wanted);
    assert_eq!(harness.count(Counter::CallsIncomplete), 0);
    harness.check_ledger();
}
