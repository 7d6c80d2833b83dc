//! Daemons run on the CPUs that the configuration gives them, as the kernel tells, and nowhere else.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use lc_tests::generated::generate;
use lc_tests::node::{Node, PATIENCE};
use lc_tests::process::{self, program};
use serde_json::Value;
use tempfile::tempdir;

/// The CPUs of a process or thread, as the kernel tells: `0-3`.
fn allowed(status: &Path) -> String {
    let status = fs::read_to_string(status).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.unwrap().trim().to_owned()
}

/// The first and the last CPU that this process may use.
fn ends() -> (String, String) {
    let own = allowed(Path::new("/proc/self/status"));
    let number = |c: char| !c.is_ascii_digit();
    let (first, last) = (own.split(number).next(), own.rsplit(number).next());
    (first.unwrap().to_owned(), last.unwrap().to_owned())
}

#[test]
fn each_daemon_runs_on_its_cpus() {
    let folder = tempdir().unwrap();
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "1000"]).unwrap();
    let sink = folder.path().join("arrived");
    let (first, last) = ends();
    let workers = match first == last {
        true => first.clone(),
        false => format!("{last},{first}"),
    };
    let node = Node::start([
        "--read-file",
        sent.path.to_str().unwrap(),
        "--replay-rate",
        "100pps",
        "--sink",
        sink.to_str().unwrap(),
        "--workers",
        "3",
        "--capture-cpus",
        &first,
        "--worker-cpus",
        &workers,
        "--forwarder-cpus",
        &last,
    ])
    .unwrap();
    let all = allowed(Path::new("/proc/self/status"));
    let alive = |status: &Value| {
        let processes = status["processes"].as_array();
        processes.is_some_and(|all| all.iter().all(|process| process["alive"] == true))
    };
    let status = node.wait_until(alive).expect("all daemons live");
    let processes = status["processes"].as_array().unwrap();
    for (process, expected) in processes.iter().zip([&first, &last, &first, &last, &last]) {
        let name = process["name"].as_str().unwrap();
        assert_eq!(process["cpus"], **expected, "{name}");
        for thread in fs::read_dir(format!("/proc/{}/task", process["pid"])).unwrap() {
            let path = thread.unwrap().path().join("status");
            // Filters are compiled where no packet waits for it.
            let is_aside = fs::read_to_string(&path).unwrap().contains("lc-filters");
            let expected = if is_aside { &all } else { expected };
            assert_eq!(allowed(&path), *expected, "{name} {path:?}");
        }
    }
    assert_eq!(processes.len(), 5);
    assert_eq!(node.terminate().unwrap().code(), 0);
}

#[test]
fn a_cpu_that_is_not_there_is_refused_by_name() {
    let folder = tempdir().unwrap();
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "10"]).unwrap();
    let there = allowed(Path::new("/proc/self/status"));
    for (flag, key) in [
        ("--capture-cpus", "capture_cpus"),
        ("--worker-cpus", "worker_cpus"),
        ("--forwarder-cpus", "forwarder_cpus"),
    ] {
        for command in ["hunt", "check"] {
            let arguments = [
                command,
                "--read-file",
                sent.path.to_str().unwrap(),
                "--processor",
                "127.0.0.1:9",
                "--insecure",
                "--workers",
                "1",
                flag,
                "0,1023",
            ];
            let outcome = process::run(&program("lc-hunt"), arguments, PATIENCE).unwrap();
            let said = outcome.stdout + &outcome.stderr;
            assert_eq!(outcome.status.code(), Some(78), "{command} {flag}: {said}");
            let words = [key, "CPU 1023", &format!("only {there}")];
            assert!(
                words.iter().all(|word| said.contains(word)),
                "{command} {flag}: {said}"
            );
        }
    }
}
