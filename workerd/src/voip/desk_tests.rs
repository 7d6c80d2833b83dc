//! The desk through its public face: what becomes of packets, whatever happens to the worker.

use std::rc::Rc;

use lc_daemon::config::NoFilterPolicy;
use shm_layout::counters::WorkerCounter as Counter;
use shm_layout::worker::InProgress;

use super::harness::{
    Arrived, Death, Harness, MILLISECOND, Memory, SECOND, Setup, fragmented, message, report, rtp,
    sip,
};
use super::switchboard::Elsewhere;

const CALLER: (u8, u16) = (1, 4000);
const CALLEE: (u8, u16) = (2, 6000);

/// A call of `user` with `media` packets of media in each direction, at ports of its own. The numbers of its packets.
fn call(harness: &mut Harness, id: &str, user: &str, port: u16, media: u16) -> Vec<u64> {
    let (caller, callee) = ((1, 4000 + port), (2, 6000 + port));
    let mut numbers = vec![
        harness.give(&sip("INVITE", id, user, Some(caller))),
        harness.give(&sip("100 INVITE", id, user, None)),
        harness.give(&rtp(callee, caller, 7, 0)),
        harness.give(&sip("200 INVITE", id, user, Some(callee))),
        harness.give(&sip("ACK", id, user, None)),
    ];
    for number in 1..=media {
        numbers.push(harness.give(&rtp(caller, callee, 6, number)));
        numbers.push(harness.give(&rtp(callee, caller, 7, number)));
    }
    numbers.push(harness.give(&sip("BYE", id, user, None)));
    numbers.push(harness.give(&sip("200 BYE", id, user, None)));
    numbers
}

#[test]
fn a_wanted_call_arrives_and_another_does_not() {
    let mut harness = Harness::new(Setup::default());
    let wanted = call(&mut harness, "wanted", "alice", 0, 20);
    call(&mut harness, "other", "carol", 2, 20);
    harness.work();
    assert_eq!(harness.numbers(), wanted);
    assert!(harness.arrived().iter().all(|packet| {
        packet.call_id() == "wanted" && packet.packet.matched_filter_ids == ["f-alice"]
    }));
    assert_eq!(harness.count(Counter::CallsStarted), 2);
    assert_eq!(harness.count(Counter::CallsMatched), 1);
    harness.check_ledger();
}

#[test]
fn what_waits_is_released_when_nobody_wants_it() {
    let mut harness = Harness::new(Setup::default());
    harness.give(&sip("INVITE", "c", "carol", Some(CALLER)));
    let media = rtp((9, 9), CALLER, 7, 1);
    for _ in 0..5 {
        harness.give(&media);
    }
    harness.work();
    assert_eq!(harness.count(Counter::Held), 6);
    assert!(harness.held_bytes() > 0);
    harness.give(&sip("200 INVITE", "c", "carol", Some(CALLEE)));
    harness.work();
    assert_eq!(harness.count(Counter::HeldReleased), 6);
    assert_eq!((harness.held_bytes(), harness.numbers().len()), (0, 0));
    harness.check_ledger();
}

#[test]
fn a_full_tx_ring_delays_packets_and_loses_none() {
    let mut harness = Harness::new(Setup {
        tx_bytes: 16 << 10,
        ..Setup::default()
    });
    let wanted = call(&mut harness, "wanted", "alice", 0, 100);
    for _ in 0..wanted.len() {
        harness.work();
        if harness.numbers().len() == wanted.len() {
            break;
        }
    }
    assert_eq!(harness.numbers(), wanted);
    assert!(harness.count(Counter::Held) > 0);
    harness.check_ledger();
}

#[test]
fn a_filter_that_comes_later_catches_a_call_that_runs_from_then_on() {
    let mut harness = Harness::new(Setup {
        users: vec!["somebody"],
        ..Setup::default()
    });
    call(&mut harness, "c", "alice", 0, 0);
    harness.work();
    // Over, but media are still on their way.
    harness.filter(&["alice"]);
    harness.work();
    let late = harness.give(&rtp((1, 4000), (2, 6000), 6, 9));
    harness.work();
    assert_eq!(harness.numbers(), [late]);
    harness.check_ledger();
}

/// Calls that begin, ring and end at the same time, wanted and not. What shall arrive.
fn traffic(harness: &mut Harness) -> Vec<u64> {
    let mut wanted = vec![];
    let early = harness.give(&rtp((5, 9000), (1, 4020), 0xe, 1));
    harness.give(&sip("INVITE", "other", "carol", Some((1, 4010))));
    wanted.push(harness.give(&sip("INVITE", "late", "alice", Some((1, 4020)))));
    wanted.push(early);
    harness.give(&rtp((6, 9000), (1, 4010), 0xf, 1));
    wanted.extend(call(harness, "wanted", "alice", 0, 3));
    wanted.push(harness.give(&rtp((5, 9000), (1, 4020), 0xe, 2)));
    harness.give(&sip("200 INVITE", "other", "carol", Some((2, 6010))));
    harness.give(&rtp((6, 9000), (1, 4010), 0xf, 2));
    wanted.push(harness.give(&sip("200 INVITE", "late", "alice", Some((2, 6020)))));
    wanted.push(harness.give(&rtp((1, 4020), (2, 6020), 0xd, 1)));
    harness.give(&rtp((1, 4010), (2, 6010), 0xc, 1));
    wanted.push(harness.give(&sip("BYE", "late", "alice", None)));
    wanted.sort_unstable();
    wanted
}

#[test]
fn a_worker_may_die_at_every_border_of_its_commits() {
    for batch in [1, 3, 64] {
        for death in Death::ALL {
            for commit in 0.. {
                let mut harness = Harness::new(Setup::default());
                harness.batch = batch;
                harness.dies_at(commit, death);
                let wanted = traffic(&mut harness);
                harness.finish();
                if harness.deaths == 0 {
                    assert!(commit > 3);
                    break;
                }
                harness.finish();
                let place = format!("{death:?} at commit {commit} of batches of {batch}");
                let mut numbers = harness.numbers();
                numbers.sort_unstable();
                assert_eq!(numbers, wanted, "{place}");
                harness.check_ledger();
            }
        }
    }
}

#[test]
fn a_worker_may_die_each_time() {
    for death in Death::ALL {
        let mut harness = Harness::new(Setup::default());
        harness.batch = 1;
        let wanted = traffic(&mut harness);
        // So far that a packet is done between two deaths.
        let commits = match death {
            Death::BeforeCommit => 2,
            Death::AfterCommit | Death::AfterPublish => 1,
        };
        for _ in 0..wanted.len() {
            harness.dies_at(commits, death);
            harness.work();
        }
        harness.finish();
        harness.finish();
        assert_eq!(harness.deaths, wanted.len());
        let mut numbers = harness.numbers();
        numbers.sort_unstable();
        assert_eq!(numbers, wanted, "{death:?}");
        harness.check_ledger();

        // Nothing is counted twice.
        let mut alive = Harness::new(Setup::default());
        alive.batch = 1;
        traffic(&mut alive);
        alive.finish();
        for counter in [
            Counter::Received,
            Counter::Forwarded,
            Counter::SipMessages,
            Counter::RtpPackets,
            Counter::CallsStarted,
            Counter::CallsMatched,
            Counter::Held,
            Counter::HeldForwarded,
            Counter::HeldReleased,
        ] {
            let counts = [&harness, &alive].map(|worker| worker.count(counter));
            assert_eq!(counts[0], counts[1], "{} {death:?}", counter.metric());
        }
    }
}

#[test]
fn what_a_successor_forwards_of_held_packets_is_forwarded_once() {
    let mut harness = Harness::new(Setup {
        tx_bytes: 16 << 10,
        ..Setup::default()
    });
    // Waits in front of all others.
    harness.give(&sip("INVITE", "other", "carol", Some((1, 4100))));
    let wanted = call(&mut harness, "wanted", "alice", 0, 60);
    for _ in 0..wanted.len() {
        harness.work();
        harness.numbers();
        harness.die();
        harness.work();
        harness.die();
        harness.work();
    }
    harness.finish();
    assert_eq!(harness.numbers(), wanted);
    harness.check_ledger();
}

#[test]
fn a_held_packet_that_kills_is_passed_over_and_the_rest_delivered() {
    let mut harness = Harness::new(Setup::default());
    harness.give(&sip("INVITE", "other", "carol", Some((1, 4100))));
    let invite = harness.give(&sip("INVITE", "c", "anna", Some(CALLER)));
    let killer = harness.give(&rtp(CALLEE, CALLER, 7, 1));
    let media = harness.give(&rtp(CALLEE, CALLER, 7, 2));
    harness.work();
    harness.condemned = Some(InProgress::new(0, killer));
    let found = harness.held_frame(killer);
    assert_eq!(found.as_deref(), Some(&rtp(CALLEE, CALLER, 7, 1)[..]));
    assert_eq!(harness.held_frame(99), None);
    harness.die();
    harness.work();
    assert!(harness.desk.has_passed_over());
    // Nor does the next successor look at it.
    harness.condemned = None;
    harness.die();
    harness.work();
    let answer = harness.give(&sip("200 INVITE", "c", "alice", Some(CALLEE)));
    harness.finish();
    assert_eq!(harness.numbers(), [invite, media, answer]);
    assert_eq!(harness.count(Counter::Quarantined), 1);
    harness.check_ledger();
}

#[test]
fn what_waits_is_decided_by_the_clock_when_nothing_comes() {
    let mut harness = Harness::new(Setup {
        policy: NoFilterPolicy::Allow,
        users: vec![],
        ..Setup::default()
    });
    for sequence in 1..4 {
        harness.give(&rtp((5, 9000), (6, 9000), 7, sequence));
    }
    harness.work();
    harness.wait(SECOND);
    assert_eq!(harness.numbers().len(), 0);
    harness.wait(3 * SECOND);
    assert_eq!(harness.numbers(), [0, 1, 2]);
    // A packet with the time of before goes on.
    let next = harness.give(&rtp((5, 9000), (6, 9000), 7, 4));
    harness.work();
    assert_eq!(harness.numbers().last(), Some(&next));
    harness.check_ledger();
}

/// Two workers that read each other's logs.
fn pair(setup: &Setup) -> [Harness; 2] {
    let memories = [0, 1].map(|worker| Memory::new(worker, setup));
    [0, 1].map(|own| {
        let other = Rc::clone(&memories[1 - own]);
        Harness::beside(Rc::clone(&memories[own]), vec![other], setup.clone())
    })
}

#[test]
fn media_on_another_worker_follow_the_verdict() {
    let setup = Setup {
        elsewhere: Elsewhere::Soon,
        ..Setup::default()
    };
    let [mut one, mut other] = pair(&setup);
    other.give_as(1, 0, &rtp(CALLEE, CALLER, 7, 1));
    other.work();
    one.give_as(0, 0, &sip("INVITE", "c", "alice", Some(CALLER)));
    one.work();
    other.work();
    other.give_as(2, MILLISECOND, &rtp(CALLEE, CALLER, 7, 2));
    other.work();
    assert_eq!((one.numbers(), other.numbers()), (vec![0], vec![1, 2]));
    assert!(other.arrived().iter().all(|packet| packet.call_id() == "c"));
    // A call that two know is counted by one.
    let begun = [&one, &other].map(|worker| worker.count(Counter::CallsMatched));
    assert_eq!(begun, [1, 0]);
}

/// A worker that is behind, or dead, with `packet` in its ring, and another one with three packets of media in its log.
fn one_behind(packet: &[u8]) -> [Harness; 2] {
    let setup = Setup {
        elsewhere: Elsewhere::Soon,
        ..Setup::default()
    };
    let [mut one, mut other] = pair(&setup);
    one.desk.published(0, [0].into_iter());
    one.give(packet);
    for sequence in 1..4 {
        other.give(&rtp(CALLEE, CALLER, 7, sequence));
    }
    other.desk.published(0, [one.rx_head()].into_iter());
    other.wait(21 * SECOND);
    assert_eq!(other.count(Counter::HeldReleased), 0);
    [one, other]
}

#[test]
fn media_wait_for_a_worker_that_comes_back() {
    let [mut one, mut other] = one_behind(&sip("INVITE", "c", "alice", Some(CALLER)));
    one.work();
    other.work();
    assert_eq!(other.numbers(), [0, 1, 2]);
    other.check_ledger();
}

#[test]
fn media_are_let_go_when_the_other_worker_has_come_as_far() {
    let [mut one, mut other] = one_behind(&sip("OPTIONS", "c", "carol", None));
    one.work();
    // What is idle tells the rest.
    one.wait(MILLISECOND);
    for _ in 0..2 {
        other.wait(21 * SECOND);
    }
    assert_eq!(other.count(Counter::HeldReleased), 3);
    // Having told it, it is silent.
    let told = one.commit.calls();
    one.wait(MILLISECOND);
    assert_eq!(one.commit.calls(), told);
}

#[test]
fn media_do_not_wait_for_ever_for_a_worker_that_does_not_come_back() {
    let [_one, mut other] = one_behind(&sip("INVITE", "c", "alice", Some(CALLER)));
    other.wait(23 * SECOND);
    assert_eq!(other.count(Counter::HeldReleased), 3);
    other.check_ledger();
}

#[test]
fn a_reader_that_was_overtaken_knows_what_is_still_of_use() {
    let setup = Setup {
        elsewhere: Elsewhere::Soon,
        calls_bytes: 16 << 10,
        ..Setup::default()
    };
    let [mut one, mut other] = pair(&setup);
    let ports = (4000..4020).step_by(2);
    for port in ports.clone() {
        one.give(&sip(
            "INVITE",
            &format!("c{port}"),
            "alice",
            Some((1, port)),
        ));
        one.give(&sip("200 INVITE", &format!("c{port}"), "alice", None));
    }
    one.work();
    for number in 0..600 {
        let id = format!("options {number}");
        one.give_after(SECOND, &sip("OPTIONS", &id, "carol", None));
        one.work();
    }
    for port in ports.clone() {
        other.give_after(SECOND, &rtp((9, 9), (1, port), 7, 1));
        other.work();
    }
    assert_eq!(other.numbers().len(), ports.count());
}

#[test]
fn fragments_go_with_their_call_as_they_came() {
    for (user, is_wanted) in [("alice", true), ("carol", false)] {
        let mut harness = Harness::new(Setup::default());
        let invite = message("INVITE", "c", user, "", Some(CALLER));
        let fragments = fragmented((1, 5060), (2, 5060), &invite, 104, 7);
        let numbers: Vec<u64> = fragments.iter().map(|piece| harness.give(piece)).collect();
        let answer = harness.give(&sip("486 INVITE", "c", user, None));
        harness.finish();
        let arrived = harness.numbers();
        let expected = match is_wanted {
            true => [&numbers[..], &[answer]].concat(),
            false => vec![],
        };
        assert_eq!(arrived, expected);
        let methods = harness.arrived().iter().map(|packet| {
            let sip = packet.metadata().sip.as_ref().unwrap();
            (sip.method.clone(), sip.call_id.clone())
        });
        let told: Vec<_> = methods.filter(|(method, _)| method == "INVITE").collect();
        assert_eq!(told.len(), usize::from(is_wanted));
        harness.check_ledger();
    }
}

#[test]
fn fragments_that_come_again_go_with_their_datagram() {
    let mut harness = Harness::new(Setup::default());
    let invite = message("INVITE", "c", "alice", "", Some(CALLER));
    let fragments = fragmented((1, 5060), (2, 5060), &invite, 104, 7);
    // Each twice, and then all of them once more.
    let twice = fragments.iter().flat_map(|piece| [piece, piece]);
    let numbers: Vec<u64> = twice
        .chain(&fragments)
        .map(|piece| harness.give(piece))
        .collect();
    harness.finish();
    assert_eq!(harness.numbers(), numbers);
    let is_told = |packet: &&Arrived| packet.metadata().sip.as_ref().unwrap().method == "INVITE";
    assert_eq!(harness.arrived().iter().filter(is_told).count(), 1);
    assert_eq!(harness.count(Counter::SipMessages), 1);
    // Another datagram by the same name is another message.
    let bye = message("BYE", "c", "alice", "a", None);
    for piece in fragmented((1, 5060), (2, 5060), &bye, 104, 7) {
        harness.give(&piece);
    }
    harness.finish();
    assert_eq!(harness.count(Counter::SipMessages), 2);
    harness.check_ledger();
}

#[test]
fn reports_belong_to_the_call_of_their_media() {
    let mut harness = Harness::new(Setup::default());
    let mut wanted = call(&mut harness, "c", "alice", 0, 2);
    let control = ((1, CALLER.1 + 1), (2, CALLEE.1 + 1));
    // On the next port, and on that of the media (RFC 5761).
    wanted.push(harness.give(&report(control.0, control.1, 6)));
    wanted.push(harness.give(&report(CALLER, CALLEE, 6)));
    harness.work();
    assert_eq!(harness.numbers(), wanted);
    let last = harness.arrived().last().unwrap().clone();
    assert_eq!((last.call_id(), last.detail("ssrc")), ("c", Some("6")));
    assert!(last.metadata().rtp.is_none());
    harness.check_ledger();
}
