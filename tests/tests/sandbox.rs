//! The walls around each daemon: that they stand, that `status` tells the truth about them, and what a worker that was taken over runs into.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::generated::generate;
use lc_tests::node::{Node, PATIENCE};
use lc_tests::process::{self, Running, program, wait_for};
use serde_json::{Value, json};
use tempfile::{TempDir, tempdir};

/// How `lc-taken-over` ends when an attack got through, and when it was refused with an error.
const THROUGH: i32 = 0;
const REFUSED: i32 = 10;
/// Killed by SIGSYS, as a shell says it.
const KILLED: i32 = 128 + 31;

/// The walls that every daemon has.
const WALLS: [&str; 4] = ["seccomp", "landlock", "no_new_privs", "not_dumpable"];

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// What the kernel says about process `pid`: the value of `field` in its status.
fn kernel_says(pid: i64, field: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line[field.len()..].trim().to_owned()
}

fn alive(status: &Value) -> bool {
    let processes = status["processes"].as_array();
    processes.is_some_and(|all| {
        all.iter()
            .all(|process| process["alive"] == true && process["sandbox"]["walls"] != json!([]))
    })
}

/// Checks each process of a live node against the kernel's own account.
#[test]
fn status_tells_what_the_kernel_enforces() {
    if !is_root() {
        lc_tests::skipped!("capturing needs root");
        return;
    }
    let folder = tempdir().unwrap();
    let sink = folder.path().join("arrived");
    let node = Node::start([
        "-i",
        "lo",
        "--workers",
        "2",
        "--sink",
        sink.to_str().unwrap(),
    ])
    .unwrap();
    let status = node
        .wait_until(alive)
        .expect("all processes in their sandbox");
    let processes = status["processes"].as_array().unwrap();
    assert_eq!(processes.len(), 4);
    for process in processes {
        let name = process["name"].as_str().unwrap();
        let pid = process["pid"].as_i64().unwrap();
        assert_eq!(process["sandbox"]["walls"], json!(WALLS), "{name}");
        let (kept, bits) = match name {
            "lc-capd" => (json!(["net_raw"]), "0000000000002000"),
            _ => (json!([]), "0000000000000000"),
        };
        assert_eq!(process["sandbox"]["capabilities"], kept, "{name}");
        for set in ["CapPrm:", "CapEff:", "CapBnd:"] {
            assert_eq!(kernel_says(pid, set), bits, "{name} {set}");
        }
        for set in ["CapInh:", "CapAmb:"] {
            assert_eq!(kernel_says(pid, set), "0000000000000000", "{name} {set}");
        }
        assert_eq!(kernel_says(pid, "NoNewPrivs:"), "1", "{name}");
        assert_eq!(kernel_says(pid, "Seccomp:"), "2", "{name}");
        // Every thread, those of libraries too.
        for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
            let thread = thread.unwrap().file_name().into_string().unwrap();
            assert_eq!(kernel_says(thread.parse().unwrap(), "Seccomp:"), "2");
        }
    }
    assert_eq!(node.terminate().unwrap().code(), 0);
}

#[test]
fn without_a_sandbox_status_says_so() {
    if !is_root() {
        lc_tests::skipped!("capturing needs root");
        return;
    }
    let folder = tempdir().unwrap();
    let sink = folder.path().join("arrived");
    let sink = sink.to_str().unwrap();
    let node = Node::start(["-i", "lo", "--no-sandbox", "--workers", "1", "--sink", sink]).unwrap();
    let status = node
        .wait_until(|status| status["processor"]["connection"] == "streaming")
        .unwrap();
    for process in status["processes"].as_array().unwrap() {
        assert_eq!(process["sandbox"]["walls"], json!([]));
    }
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0);
    assert!(
        outcome.stderr.contains("--no-sandbox"),
        "{}",
        outcome.stderr
    );
}

/// Runs lc-hunt on a generated file by way of `wrapper`, and gives exit code and standard error.
fn replay(wrapper: &[&str], flags: &[&str]) -> (i32, String) {
    let folder = tempdir().unwrap();
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "200"]).unwrap();
    let sink = folder.path().join("arrived");
    fs::create_dir(&sink).unwrap();
    for path in [folder.path(), sink.as_path()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    let hunt = program("lc-hunt");
    let mut command = wrapper.to_vec();
    command.push(hunt.to_str().unwrap());
    command.extend([
        "-r",
        sent.path.to_str().unwrap(),
        "--no-filter-policy",
        "allow",
    ]);
    command.extend(["--workers", "1", "--sink", sink.to_str().unwrap()]);
    command.extend(flags);
    let outcome = process::run(Path::new(command[0]), &command[1..], PATIENCE).unwrap();
    if outcome.code() == 0 {
        let arrived = capture::read(&sink.join("packets.pcapng")).unwrap();
        let difference = Difference::between(&sent.packets, &arrived.packets);
        assert!(difference.is_none(), "{difference}");
    }
    (outcome.code(), outcome.stderr)
}

#[test]
fn an_ordinary_user_replays_behind_the_same_walls() {
    let setpriv = [
        "setpriv",
        "--reuid",
        "65534",
        "--regid",
        "65534",
        "--clear-groups",
    ];
    let hunt = program("lc-hunt");
    let tried = process::run(
        Path::new(setpriv[0]),
        setpriv[1..]
            .iter()
            .map(|word| (*word).to_owned())
            .chain([hunt.to_str().unwrap().to_owned(), "--version".to_owned()]),
        PATIENCE,
    );
    if !tried.is_ok_and(|outcome| outcome.code() == 0) {
        lc_tests::skipped!("this needs root, setpriv, and programs that others can reach");
        return;
    }
    let (code, said) = replay(&setpriv, &[]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn a_kernel_without_landlock_is_refused_unless_told_otherwise() {
    let taken_over = program("lc-taken-over");
    let wrapper = [taken_over.to_str().unwrap(), "run-without-landlock"];
    let (code, said) = replay(&wrapper, &[]);
    assert_eq!(code, 78, "{said}");
    assert!(
        said.contains("landlock") && said.contains("--no-sandbox"),
        "{said}"
    );
    let (code, said) = replay(&wrapper, &["--no-sandbox"]);
    assert_eq!(code, 0, "{said}");
}

/// A node of capd and one genuine worker; the second worker's place is free for an attacker.
struct Target {
    folder: TempDir,
    capd: Running,
    worker: Running,
}

impl Target {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let sent = generate(folder.path(), "sent.pcap", &["--packets", "10"]).unwrap();
        let run_dir = folder.path().join("run");
        let common = format!(
            "[hunter]\nread_files = [{:?}]\nprocessor_addr = \"127.0.0.1:9\"\ninsecure = true\nworkers = 2\nruntime_dir = {run_dir:?}\n",
            sent.path
        );
        fs::write(folder.path().join("walls.toml"), &common).unwrap();
        fs::write(
            folder.path().join("open.toml"),
            common + "no_sandbox = true\n",
        )
        .unwrap();
        let config = folder.path().join("walls.toml");
        let open = folder.path().join("open.toml");
        // capd without walls: an attack on it fails by the attacker's walls, not by the victim's.
        let capd =
            process::start(&program("lc-capd"), ["--config".as_ref(), open.as_path()]).unwrap();
        wait_for(PATIENCE, || {
            run_dir.join("capd.sock").exists().then_some(())
        })
        .unwrap();
        let arguments = ["--config", config.to_str().unwrap(), "--index", "0"];
        let worker = process::start(&program("lc-workerd"), arguments).unwrap();
        Self {
            folder,
            capd,
            worker,
        }
    }

    fn config(&self, walls: bool) -> PathBuf {
        self.folder
            .path()
            .join(if walls { "walls.toml" } else { "open.toml" })
    }

    /// Runs one attack as worker 1; its exit code.
    fn attacked(&self, how: &str, walls: bool, victim: u32) -> (i32, String) {
        let config = self.config(walls);
        let victim = victim.to_string();
        let arguments = [
            "attack",
            how,
            "--config",
            config.to_str().unwrap(),
            "--index",
            "1",
            "--victim",
            &victim,
        ];
        let outcome = process::run(&program("lc-taken-over"), arguments, PATIENCE).unwrap();
        (outcome.code(), outcome.stderr)
    }
}

/// Each attack fails behind the walls; without them it gets through, so it is a real one.
#[test]
fn a_worker_that_was_taken_over_reaches_nothing() {
    let target = Target::new();
    let (capd, worker) = (target.capd.pid(), target.worker.pid());
    let attacks = [
        ("nothing", worker, THROUGH),
        ("network", worker, KILLED),
        ("read-file", worker, REFUSED),
        ("write-file", worker, REFUSED),
        ("write-ring", capd, REFUSED),
        ("write-view", worker, KILLED),
        ("write-memory", worker, REFUSED),
        ("trace", capd, KILLED),
        ("signal", worker, KILLED),
        ("mount", worker, KILLED),
        ("execute", worker, KILLED),
        ("fork", worker, KILLED),
        ("thread", worker, KILLED),
    ];
    for (how, victim, expected) in attacks {
        if how == "mount" && !is_root() {
            lc_tests::skipped!("to mount needs root");
            continue;
        }
        let (code, said) = target.attacked(how, true, victim);
        assert_eq!(code, expected, "{how} behind walls: {said}");
        let (code, said) = target.attacked(how, false, victim);
        assert_eq!(code, THROUGH, "{how} without walls: {said}");
    }
}

/// Nor can a process of the same user look into a daemon: it would need the power to trace everything.
#[test]
fn a_daemon_in_its_sandbox_is_closed_to_its_own_user() {
    let powerless = |command: &[&str]| {
        let arguments = [&["--bounding-set", "-sys_ptrace"], command].concat();
        process::start(Path::new("setpriv"), arguments)
    };
    let open = powerless(&["sleep", "60"]);
    let (true, Ok(open)) = (is_root(), open) else {
        lc_tests::skipped!("this needs root and setpriv");
        return;
    };
    let sees_descriptors = |pid: u32| {
        let looks = powerless(&["readlink", &format!("/proc/{pid}/fd/0")]).unwrap();
        looks.finish(PATIENCE).unwrap().code() == 0
    };
    // No more power than the looker has, and no walls.
    wait_for(PATIENCE, || sees_descriptors(open.pid()).then_some(())).expect("it is seen");
    let target = Target::new();
    wait_for(PATIENCE, || {
        (kernel_says(target.worker.pid().into(), "Seccomp:") == "2").then_some(())
    })
    .expect("the worker in its sandbox");
    assert!(!sees_descriptors(target.worker.pid()));
}
