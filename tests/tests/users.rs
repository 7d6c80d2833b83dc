//! capd, workers and forwarder as users of their own: each gets its role and no other, and nobody can write what another one writes.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use lc_tests::generated::generate;
use lc_tests::node::PATIENCE;
use lc_tests::process::{self, Outcome, Running, program, wait_for};
use lc_tests::processor::Processor;
use serde_json::Value;
use tempfile::{TempDir, tempdir};

/// Ids that no system gives away by itself.
const CAPTURE: u32 = 64_001;
const WORKER: u32 = 64_002;
const FORWARDER: u32 = 64_003;
const STRANGER: u32 = 64_004;
const GROUP: u32 = 64_000;

/// How `lc-taken-over` ends when an attack got through, and when it was refused with an error.
const THROUGH: i32 = 0;
const REFUSED: i32 = 10;

/// The words before a command that make it run as this user.
fn as_user(uid: u32, gid: u32, name: &str, arguments: &[&str]) -> Vec<String> {
    let (uid, gid, path) = (uid.to_string(), gid.to_string(), program(name));
    let words = ["--reuid", &uid, "--regid", &gid, "--clear-groups"];
    let program = [path.to_str().unwrap()];
    let all = words.iter().chain(&program).chain(arguments);
    all.map(|word| (*word).to_owned()).collect()
}

fn start(uid: u32, name: &str, arguments: &[&str]) -> Running {
    process::start(Path::new("setpriv"), as_user(uid, GROUP, name, arguments)).unwrap()
}

fn run(uid: u32, gid: u32, name: &str, arguments: &[&str]) -> Outcome {
    let words = as_user(uid, gid, name, arguments);
    process::run(Path::new("setpriv"), words, PATIENCE).unwrap()
}

/// Whether this machine lets the test be several users.
fn can_be_others() -> bool {
    let words = as_user(WORKER, GROUP, "lc-hunt", &["--version"]);
    let tried = process::run(Path::new("setpriv"), words, PATIENCE);
    let possible = tried.is_ok_and(|outcome| outcome.code() == 0);
    if !possible {
        lc_tests::skipped!("this needs root, setpriv, and programs that others can reach");
    }
    possible
}

/// A node whose capd runs, with a processor.
struct Node {
    folder: TempDir,
    processor: Processor,
    capd: Running,
}

impl Node {
    fn new(lines: &str) -> Self {
        let folder = tempdir().unwrap();
        let path = folder.path();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        let sent = generate(path, "sent.pcap", &["--packets", "200"]).unwrap();
        let processor = Processor::start(path, 0, [""; 0]).unwrap();
        // As systemd makes it.
        let run_dir = path.join("run");
        fs::create_dir(&run_dir).unwrap();
        chown(&run_dir, Some(CAPTURE), Some(GROUP)).unwrap();
        fs::set_permissions(&run_dir, fs::Permissions::from_mode(0o750)).unwrap();
        let config = format!(
            "[hunter]\nread_files = [{:?}]\nprocessor_addr = \"{}\"\ninsecure = true\nno_filter_policy = \"allow\"\nworkers = 2\n\
             runtime_dir = {run_dir:?}\nusers.worker = \"{WORKER}\"\nusers.forwarder = \"{FORWARDER}\"\n{lines}\n",
            sent.path,
            processor.address()
        );
        let file = path.join("config.toml");
        fs::write(&file, config).unwrap();
        let capd = start(CAPTURE, "lc-capd", &["--config", file.to_str().unwrap()]);
        wait_for(PATIENCE, || {
            run_dir.join("capd.sock").exists().then_some(())
        })
        .expect("capd listens");
        Self {
            folder,
            processor,
            capd,
        }
    }

    fn config(&self) -> String {
        self.run_dir()
            .with_file_name("config.toml")
            .to_str()
            .unwrap()
            .to_owned()
    }

    fn run_dir(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    /// The status as a member of `gid` sees it.
    fn status(&self, gid: u32) -> Option<Value> {
        let run_dir = self.run_dir();
        let arguments = [
            "status",
            "--json",
            "--runtime-dir",
            run_dir.to_str().unwrap(),
        ];
        let outcome = run(STRANGER, gid, "lc-hunt", &arguments);
        let nodes: Value = serde_json::from_str(&outcome.stdout).ok()?;
        Some(nodes[0].clone())
    }
}

#[test]
fn each_user_has_its_own_role() {
    if !can_be_others() {
        return;
    }
    let node = Node::new("");
    let socket = fs::metadata(node.run_dir().join("capd.sock")).unwrap();
    assert_eq!((socket.mode() & 0o7777, socket.gid()), (0o660, GROUP));
    let config = node.config();
    let worker = ["--config", &config, "--index", "0"];
    let forwarder = ["--config", &config];
    for (uid, name, arguments, role) in [
        (CAPTURE, "lc-workerd", &worker[..], "worker"),
        (FORWARDER, "lc-workerd", &worker[..], "worker"),
        (STRANGER, "lc-workerd", &worker[..], "worker"),
        (0, "lc-workerd", &worker[..], "worker"),
        (CAPTURE, "lc-fwdd", &forwarder[..], "forwarder"),
        (WORKER, "lc-fwdd", &forwarder[..], "forwarder"),
    ] {
        let outcome = run(uid, GROUP, name, arguments);
        assert_ne!(outcome.code(), 0, "{uid} {name}");
        let words = format!("the user with the id {uid} may not be a {role}");
        assert!(outcome.stderr.contains(&words), "{}", outcome.stderr);
    }
    let arguments = ["--config", &config, "--index", "1"];
    let daemons = [
        start(WORKER, "lc-workerd", &worker),
        start(WORKER, "lc-workerd", &arguments),
        start(FORWARDER, "lc-fwdd", &forwarder),
    ];
    let all_arrived = || {
        let status = node.status(GROUP)?;
        (status["counters"]["forward_acked_packets_total"] == 200).then_some(status)
    };
    let status = wait_for(PATIENCE, all_arrived).expect("everything arrives");
    assert_eq!(status["ledger"]["balanced"], true, "{status:#}");
    let processes = status["processes"].as_array().unwrap();
    assert!(
        processes.iter().all(|process| process["alive"] == true),
        "{status:#}"
    );
    assert_eq!(node.status(STRANGER), None, "a stranger sees nothing");
    for daemon in daemons.into_iter().rev().chain([node.capd]) {
        daemon.signal(nix::sys::signal::Signal::SIGTERM);
        let outcome = daemon.finish(PATIENCE).unwrap();
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    }
    node.processor.terminate().unwrap();
}

/// Without any sandbox: what is left are users and modes. The same attacks get through where all are one user
/// (`sandbox.rs`).
#[test]
fn a_worker_of_another_user_writes_into_no_ring_but_its_own() {
    if !can_be_others() {
        return;
    }
    let node = Node::new("no_sandbox = true");
    let (config, victim) = (node.config(), node.capd.pid().to_string());
    for (how, expected) in [
        ("nothing", THROUGH),
        ("write-ring", REFUSED),
        ("write-view", REFUSED),
        ("trace", REFUSED),
        ("signal", REFUSED),
    ] {
        let arguments = [
            "attack", how, "--config", &config, "--index", "1", "--victim", &victim,
        ];
        let outcome = run(WORKER, GROUP, "lc-taken-over", &arguments);
        assert_eq!(outcome.code(), expected, "{how}: {}", outcome.stderr);
    }
}
