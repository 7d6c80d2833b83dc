//! A worker that stays down loses its share to the others, and has it again when it is back. The daemons run without
//! `lc-hunt`, which would start it again at once.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::generated::generate;
use lc_tests::node::{PATIENCE, counter};
use lc_tests::process::{self, Running, program, wait_for};
use lc_tests::processor::{self, Processor};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::tempdir;

/// The daemons of one node, each started by the test.
struct Daemons {
    config: PathBuf,
    run_dir: PathBuf,
}

impl Daemons {
    /// Writes their configuration into `folder`, with further `lines`.
    fn configure(folder: &Path, lines: &str) -> Self {
        let (config, run_dir) = (folder.join("node.toml"), folder.join("run"));
        let text = format!(
            "[hunter]\ninsecure = true\nruntime_dir = {run_dir:?}\nquarantine_dir = {:?}\n{lines}",
            folder.join("quarantine")
        );
        fs::write(&config, text).unwrap();
        Self { config, run_dir }
    }

    fn start(&self, name: &str, more: &[&str]) -> Running {
        let common = ["--config".as_ref(), self.config.as_os_str()];
        let arguments = common.into_iter().chain(more.iter().map(OsStr::new));
        process::start(&program(name), arguments).unwrap()
    }

    fn start_worker(&self, index: &str) -> Running {
        self.start("lc-workerd", &["--index", index])
    }

    fn status(&self, more: &[&str]) -> String {
        let common = ["status", "--runtime-dir", self.run_dir.to_str().unwrap()];
        let arguments = common.into_iter().chain(more.iter().copied());
        let outcome = process::run(&program("lc-hunt"), arguments, PATIENCE).unwrap();
        outcome.stdout
    }

    /// Waits until the status satisfies `condition`, and gives it.
    fn wait_until(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        let found = wait_for(PATIENCE, || {
            let nodes: Vec<Value> = serde_json::from_str(&self.status(&["--json"])).ok()?;
            nodes.into_iter().next().filter(&condition)
        });
        found.unwrap_or_else(|| panic!("{what}: {}", self.status(&[])))
    }
}

fn end(daemon: Running) {
    daemon.signal(Signal::SIGTERM);
    let outcome = daemon.finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
}

#[test]
fn the_share_of_a_dead_worker_goes_to_the_others_and_comes_back() {
    let folder = tempdir().unwrap();
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "20000"]).unwrap();
    let processor = Processor::start(folder.path(), 0, [""; 0]).unwrap();
    let daemons = Daemons::configure(
        folder.path(),
        &format!(
            "read_files = [{:?}]\nreplay_rate = \"4000pps\"\nprocessor_addr = \"{}\"\nworkers = 2\n\
             no_filter_policy = \"allow\"\nworker_grace = \"300ms\"\n",
            sent.path,
            processor.address()
        ),
    );
    let capd = daemons.start("lc-capd", &[]);
    let fwdd = daemons.start("lc-fwdd", &[]);
    let [first, second] = ["0", "1"].map(|index| daemons.start_worker(index));
    let steered_away = |status: &Value, worker: usize| {
        status["steering"][worker]["steered_away_packets"]
            .as_u64()
            .unwrap_or_default()
    };
    daemons.wait_until("packets flow", |status| {
        counter(status, "forward_acked_packets_total") > 500
    });

    // One that stands still, for longer than the grace time, is not down.
    second.signal(Signal::SIGSTOP);
    let status = daemons.wait_until("it stands still", |status| {
        status["processes"][2]["heartbeat_age_ms"].as_u64() > Some(900)
    });
    second.signal(Signal::SIGCONT);
    assert_eq!(status["processes"][2]["name"], "lc-workerd 1");
    assert_eq!(counter(&status, "capture_steered_away_packets_total"), 0);

    second.signal(Signal::SIGKILL);
    let status = daemons.wait_until("its share goes to the other", |status| {
        steered_away(status, 1) > 500
    });
    assert_eq!(status["steering"][1]["away"], true, "{status:#}");
    assert_eq!(status["steering"][0]["away"], false, "{status:#}");
    assert!(daemons.status(&[]).contains("the others have its share"));

    drop(second);
    let second = daemons.start_worker("1");
    daemons.wait_until("it has its share again", |status| {
        status["steering"][1]["away"] == false
    });
    let status = daemons.wait_until("everything has arrived", |status| {
        status["ledger"]["complete"] == true
    });
    assert_eq!(status["ledger"]["balanced"], true, "{status:#}");
    // Most of its packets came before and after.
    assert!(steered_away(&status, 1) < 10_000, "{status:#}");
    assert_eq!(steered_away(&status, 0), 0);
    assert!(capd.stderr().contains("is back"), "{}", capd.stderr());
    for daemon in [first, second, fwdd, capd] {
        end(daemon);
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
