//! A worker that stays down loses its share to the others, and has it again when it is back. The daemons run without
//! `lc-hunt`, which would start it again at once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::daemons::{Daemons, end};
use lc_tests::generated::generate;
use lc_tests::node::counter;
use lc_tests::processor::{self, Processor};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::tempdir;

#[test]
fn the_share_of_a_dead_worker_goes_to_the_others_and_comes_back() {
    let folder = tempdir().unwrap();
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "20000"]).unwrap();
    let processor = Processor::start(folder.path(), 0, [""; 0]).unwrap();
    let lines = format!(
        "read_files = [{:?}]\nreplay_rate = \"4000pps\"\nprocessor_addr = \"{}\"\nworkers = 2\n\
             no_filter_policy = \"allow\"\nworker_grace = \"300ms\"\n",
        sent.path,
        processor.address()
    );
    let daemons = Daemons::configure(folder.path(), &lines).unwrap();
    let capd = daemons.start("lc-capd", &[]).unwrap();
    let fwdd = daemons.start("lc-fwdd", &[]).unwrap();
    let [first, second] = ["0", "1"].map(|index| daemons.start_worker(index).unwrap());
    let steered_away = |status: &Value, worker: usize| {
        status["steering"][worker]["steered_away_packets"]
            .as_u64()
            .unwrap_or_default()
    };
    daemons
        .wait_until(|status| counter(status, "forward_acked_packets_total") > 500)
        .expect("packets flow");

    // One that stands still, for longer than the grace time, is not down.
    second.signal(Signal::SIGSTOP);
    let status = daemons
        .wait_until(|status| status["processes"][2]["heartbeat_age_ms"].as_u64() > Some(900))
        .expect("it stands still");
    second.signal(Signal::SIGCONT);
    assert_eq!(status["processes"][2]["name"], "lc-workerd 1");
    assert_eq!(counter(&status, "capture_steered_away_packets_total"), 0);

    second.signal(Signal::SIGKILL);
    let status = daemons
        .wait_until(|status| steered_away(status, 1) > 500)
        .expect("its share goes to the other");
    assert_eq!(status["steering"][1]["away"], true, "{status:#}");
    assert_eq!(status["steering"][0]["away"], false, "{status:#}");
    let text = daemons.ask("status", &[]).unwrap().stdout;
    assert!(text.contains("the others have its share"), "{text}");

    drop(second);
    let second = daemons.start_worker("1").unwrap();
    daemons
        .wait_until(|status| status["steering"][1]["away"] == false)
        .expect("it has its share again");
    let status = daemons
        .wait_until(|status| status["ledger"]["complete"] == true)
        .expect("everything has arrived");
    assert_eq!(status["ledger"]["balanced"], true, "{status:#}");
    // Most of its packets came before and after.
    assert!(steered_away(&status, 1) < 10_000, "{status:#}");
    assert_eq!(steered_away(&status, 0), 0);
    assert!(capd.stderr().contains("is back"), "{}", capd.stderr());
    for daemon in [first, second, fwdd, capd] {
        let outcome = end(daemon).unwrap();
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    }
    processor.terminate().unwrap();

    let arrived = capture::read(&folder.path().join("packets.pcapng")).unwrap();
    let difference = Difference::between(&sent.packets, &arrived.packets);
    // What lay in the dead worker's ring arrives too, but behind later packets of the same flows.
    let (lost, extra, altered) = (difference.lost, difference.extra, difference.altered);
    assert_eq!((lost, extra, altered), (0, 0, 0), "{difference}");
    let summary = processor::summary(folder.path()).unwrap();
    assert_eq!(summary.packets_again, 0, "{summary:?}");
}
