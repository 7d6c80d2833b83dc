//! Media: whose they are, and what is told of them.

use std::rc::Rc;

use shm_layout::counters::WorkerCounter as Counter;

use super::harness::{
    Death, End, Harness, MILLISECOND, Memory, SECOND, Setup, report, rtp, rtp_at, rtp_of, sip, udp,
};
use super::switchboard::Elsewhere;

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

const SOURCE: u32 = 0xcafe_0001;
/// Where nobody announced media.
const MOVED: [End; 2] = [(21, 7_000), (22, 7_002)];

/// A call of alice, whose caller has sent 50 packets of 20 ms where it was announced.
fn talking(setup: Setup) -> Harness {
    let mut harness = Harness::new(setup);
    harness.give(&sip("INVITE", "c", "alice", Some(CALLER)));
    harness.give(&sip("200 INVITE", "c", "alice", Some(CALLEE)));
    talk(&mut harness, (CALLER, CALLEE), 0..50);
    harness
}

/// Packets of 20 ms each.
fn talk(harness: &mut Harness, (from, to): (End, End), numbers: std::ops::Range<u16>) -> Vec<u64> {
    let packets = numbers.map(|number| rtp(from, to, SOURCE, number));
    packets
        .map(|packet| harness.give_after(20 * MILLISECOND, &packet))
        .collect()
}

#[test]
fn media_that_move_without_a_word_stay_the_calls() {
    let mut harness = talking(Setup::default());
    harness.work();
    let before = harness.numbers().len();
    let mut wanted = talk(&mut harness, (MOVED[0], MOVED[1]), 50..70);
    // What comes back in that flow is of another source.
    wanted.push(harness.give(&rtp(MOVED[1], MOVED[0], 0xcafe_0002, 9)));
    harness.work();
    assert_eq!(harness.numbers().len(), before, "they may be anybody's");
    harness.wait(3 * SECOND);
    assert_eq!(harness.numbers()[before..], wanted);
    wanted.push(harness.give_after(2 * SECOND, &rtp(MOVED[0], MOVED[1], SOURCE, 170)));
    harness.work();
    assert_eq!(harness.numbers()[before..], wanted);
    assert!(
        harness
            .arrived()
            .iter()
            .all(|packet| packet.call_id() == "c")
    );
    harness.give(&report(CALLER, CALLEE, SOURCE));
    let told = last(&mut harness, "rtp_streams").unwrap();
    assert!(
        told.starts_with("ssrc=3405643777 received=71 lost=100 "),
        "{told}"
    );
    harness.check_ledger();
}

#[test]
fn media_that_have_moved_are_the_calls_for_successors_too() {
    for commit in 0..8 {
        for death in Death::ALL {
            let mut harness = talking(Setup::default());
            harness.batch = 10;
            harness.dies_at(commit, death);
            let wanted = talk(&mut harness, (MOVED[0], MOVED[1]), 50..250);
            for _ in 0..3 {
                harness.work();
            }
            let numbers = harness.numbers();
            assert_eq!(numbers.len(), 252, "{commit} {death:?}");
            assert!(numbers.ends_with(&wanted), "{commit} {death:?}");
            assert!(
                harness
                    .arrived()
                    .iter()
                    .all(|packet| packet.call_id() == "c")
            );
            harness.check_ledger();
        }
    }
}

/// One worker sees the signalling, one the media where they are announced, and one those that have moved, in whatever order they come to them.
#[test]
fn workers_know_whose_media_have_moved_though_none_sees_it_all() {
    let setup = Setup {
        elsewhere: Elsewhere::Exactly,
        ..Setup::default()
    };
    for order in [[0, 1, 2], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let memories = [0, 1, 2].map(|worker| Memory::new(worker, &setup));
        let mut workers = [0, 1, 2].map(|own| {
            let others = memories
                .iter()
                .filter(|other| !Rc::ptr_eq(other, &memories[own]));
            let others = others.map(Rc::clone).collect();
            Harness::beside(Rc::clone(&memories[own]), others, setup.clone())
        });
        workers[0].give_as(0, 0, &sip("INVITE", "c", "alice", Some(CALLER)));
        let mut after_ns = [0, SECOND];
        for number in 0..50 {
            let ends = [(CALLER, CALLEE), (MOVED[0], MOVED[1])];
            for (media, (from, to)) in ends.into_iter().enumerate() {
                let number = number + 50 * media as u16;
                let packet = rtp(from, to, SOURCE, number);
                workers[1 + media].give_as(1 + u64::from(number), after_ns[media], &packet);
                after_ns[media] = 20 * MILLISECOND;
            }
        }
        // Time goes on.
        for (worker, harness) in workers.iter_mut().enumerate() {
            for second in 1..20 {
                let noise = udp((50, 1), (51, 1), b"noise");
                harness.give_as(100 * second + worker as u64 + 1, 900 * MILLISECOND, &noise);
            }
        }
        for _ in 0..4 {
            order.iter().for_each(|worker| workers[*worker].work());
        }
        let arrived = workers[2].arrived();
        assert_eq!(arrived.len(), 50, "{order:?}");
        assert!(arrived.iter().all(|packet| packet.call_id() == "c"));
    }
}

#[test]
fn media_of_another_that_has_the_same_source_are_not_the_calls() {
    // A gateway that gives all its streams one source, and begins each at zero.
    let mut harness = talking(Setup::default());
    harness.work();
    let before = harness.numbers().len();
    talk(&mut harness, (MOVED[0], MOVED[1]), 0..20);
    // One that no source stands for.
    for number in 50..60 {
        harness.give(&rtp(MOVED[0], (30, 9), 1, number));
    }
    harness.work();
    harness.wait(3 * SECOND);
    harness.finish();
    assert_eq!(harness.numbers().len(), before);
    harness.check_ledger();
}

#[test]
fn media_that_may_be_of_two_calls_are_of_none() {
    let mut harness = Harness::new(Setup::default());
    let calls = [("a", (1, 4_000)), ("b", (2, 6_000))];
    for (id, end) in calls {
        harness.give(&sip("INVITE", id, "alice", Some(end)));
        harness.give(&sip("200 INVITE", id, "alice", None));
    }
    for number in 0..50 {
        for (_, end) in calls {
            harness.give_after(10 * MILLISECOND, &rtp(end, (9, 9), SOURCE, number));
        }
    }
    harness.work();
    let before = harness.numbers().len();
    talk(&mut harness, (MOVED[0], MOVED[1]), 50..70);
    harness.work();
    harness.wait(3 * SECOND);
    harness.finish();
    assert_eq!((before, harness.numbers().len()), (104, 104));
    harness.check_ledger();
}

#[test]
fn a_server_without_signalling_may_have_media_of_many_at_one_port() {
    let mut harness = talking(Setup::default());
    harness.work();
    let before = harness.numbers().len();
    let server = (40, 3_478);
    let mut wanted = Vec::new();
    for number in 50..80u16 {
        wanted.push(harness.give_after(10 * MILLISECOND, &rtp((21, 7), server, SOURCE, number)));
        harness.give_after(10 * MILLISECOND, &rtp((22, 7), server, 0xbeef_0001, number));
    }
    harness.work();
    harness.wait(3 * SECOND);
    assert_eq!(harness.numbers()[before..], wanted);
    harness.check_ledger();
}
