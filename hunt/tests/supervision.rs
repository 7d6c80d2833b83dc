//! The supervisor with small children that start, report, fail and end as each test asks.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lc_daemon::exit::Exit;
use lc_daemon::signals::Signals;
use lc_hunt::supervisor::{
    ChildSpec, ChildStatus, FIRST_PAUSE, Next, Supervisor, SupervisorConfig, SupervisorError,
};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

/// A child: writes what happens to it into a log, says READY, and does what the last argument says.
const CHILD: &str = r#"
    use IO::Socket::UNIX;
    my ($log, $name, $conduct) = @ARGV;
    sub note { open(my $file, '>>', $log); syswrite($file, "$name $_[0]\n"); }
    my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET});
    $SIG{USR2} = sub { note("close"); $socket->send("X_LC_CLOSED=1") unless $conduct eq 'busy' };
    $SIG{TERM} = sub {
        note("term");
        open(my $file, '<', $log);
        kill(9, $$) if $conduct eq 'dies of it' && 1 == grep { $_ eq "$name term\n" } <$file>;
        exit($conduct =~ /^end (\d+)/ ? $1 : 0) unless $conduct eq 'stubborn';
    };
    note("start");
    exit($1) if $conduct =~ /^refuse (\d+)/;
    if ($conduct =~ /^crash (\d+)/) {
        open(my $file, '<', $log);
        my $starts = grep { $_ eq "$name start\n" } <$file>;
        exit(1) if $starts <= $1;
    }
    exit(9) if $ENV{LC_HUNT_SUPERVISED} != getppid();
    note("ready");
    $socket->send("READY=1\nSTATUS=$conduct");
    while (1) { sleep(60) }
"#;

struct Stage {
    dir: TempDir,
    children: Vec<ChildSpec>,
}

impl Stage {
    fn new() -> Self {
        Stage {
            dir: tempfile::tempdir().unwrap(),
            children: Vec::new(),
        }
    }

    /// The usual cast, with the conduct of each.
    fn with(capd: &str, worker: &str, fwdd: &str) -> Self {
        Stage::new()
            .child("capd", 0, capd)
            .child("worker", 1, worker)
            .child("fwdd", 2, fwdd)
    }

    fn child(mut self, name: &str, stage: u8, conduct: &str) -> Self {
        let log = self.log_path();
        self.children.push(ChildSpec {
            name: name.to_owned(),
            program: PathBuf::from("/usr/bin/perl"),
            args: ["-e", CHILD, log.to_str().unwrap(), name, conduct]
                .map(Into::into)
                .to_vec(),
            stage,
            restart: true,
        });
        self
    }

    fn supervisor(&self, shutdown_timeout: Duration) -> Supervisor {
        Supervisor::new(SupervisorConfig {
            children: self.children.clone(),
            notify_socket: self.dir.path().join("notify.sock"),
            shutdown_timeout,
        })
        .unwrap()
    }

    fn run(&self, hook: impl FnMut(&[ChildStatus<'_>]) -> Next) -> Exit {
        let signals = Signals::install().unwrap();
        self.supervisor(Duration::from_secs(10))
            .run(&signals, hook)
            .unwrap()
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn log(&self) -> Vec<String> {
        fs::read_to_string(self.log_path())
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    fn count(&self, line: &str) -> usize {
        self.log().iter().filter(|written| *written == line).count()
    }

    /// Where a line stands first.
    fn place(&self, line: &str) -> usize {
        let log = self.log();
        log.iter()
            .position(|written| written == line)
            .unwrap_or_else(|| panic!("no {line:?} in {log:?}"))
    }
}

fn end_when_all_ready(children: &[ChildStatus<'_>]) -> Next {
    if children.iter().all(|child| child.ready) {
        Next::End
    } else {
        Next::Continue
    }
}

fn pid_of(children: &[ChildStatus<'_>], name: &str) -> Option<u32> {
    children
        .iter()
        .find(|child| child.name == name)
        .and_then(|child| child.pid)
}

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

fn is_gone(pid: u32) -> bool {
    test_kill_process(Pid::from_raw(pid as i32).unwrap()).is_err()
}

#[test]
fn the_first_stage_carries_the_others_and_stages_end_in_order() {
    let stage = Stage::new()
        .child("fwdd", 2, "")
        .child("worker 0", 1, "")
        .child("worker 1", 1, "")
        .child("capd", 0, "");
    let exit = stage.run(end_when_all_ready);
    assert_eq!(exit, Exit::Ok);
    for other in ["worker 0", "worker 1", "fwdd"] {
        assert!(
            stage.place("capd ready") < stage.place(&format!("{other} start")),
            "{:?}",
            stage.log()
        );
    }
    for worker in ["worker 0 term", "worker 1 term"] {
        let order = ["capd close", worker, "fwdd term", "capd term"].map(|line| stage.place(line));
        assert!(order.is_sorted(), "{:?}", stage.log());
    }
}

#[test]
fn a_request_to_stop_ends_all() {
    let stage = Stage::with("", "", "");
    let signals = Signals::install().unwrap();
    let stop = signals.stop();
    let exit = stage
        .supervisor(Duration::from_secs(10))
        .run(&signals, |children| {
            if children.iter().all(|child| child.ready) {
                stop.request();
            }
            Next::Continue
        });
    assert_eq!(exit.unwrap(), Exit::Ok);
    assert_eq!(
        (
            stage.count("capd term"),
            stage.count("worker term"),
            stage.count("fwdd term")
        ),
        (1, 1, 1)
    );
}

#[test]
fn a_failing_worker_is_started_again_with_growing_pauses_while_the_others_work_on() {
    let stage = Stage::with("", "crash 2", "");
    let begin = Instant::now();
    let mut worker = (0, String::new());
    let exit = stage.run(|children| {
        worker = (children[1].restarts, children[1].says.to_owned());
        end_when_all_ready(children)
    });
    assert_eq!((exit, worker), (Exit::Ok, (2, "crash 2".to_owned())));
    assert_eq!(
        (
            stage.count("worker start"),
            stage.count("capd start"),
            stage.count("fwdd start")
        ),
        (3, 1, 1)
    );
    assert!(
        begin.elapsed() >= FIRST_PAUSE * 3,
        "the pauses do not grow: {:?}",
        begin.elapsed()
    );
}

#[test]
fn a_refused_child_ends_all_and_is_not_started_again() {
    for (code, expected) in [(78, Exit::Refused), (2, Exit::Usage)] {
        let stage = Stage::with("", &format!("refuse {code}"), "");
        assert_eq!(stage.run(|_| Next::Continue), expected);
        assert_eq!(
            (stage.count("worker start"), stage.count("capd term")),
            (1, 1)
        );
    }
    let stage = Stage::with("refuse 78", "", "");
    assert_eq!(stage.run(|_| Next::Continue), Exit::Refused);
    assert_eq!(stage.log(), ["capd start"]);
}

#[test]
fn when_the_first_stage_dies_the_others_live_on() {
    let stage = Stage::with("", "", "");
    let mut first = None;
    let exit = stage.run(|children| {
        if !children.iter().all(|child| child.ready) {
            return Next::Continue;
        }
        let capd = pid_of(children, "capd").unwrap();
        match first {
            None => {
                first = Some(capd);
                kill(capd);
                Next::Continue
            }
            // The hook may be called once more before the death is noticed.
            Some(first) if first == capd => Next::Continue,
            Some(_) => Next::End,
        }
    });
    assert_eq!(exit, Exit::Ok);
    for (name, starts) in [("capd", 2), ("worker", 1), ("fwdd", 1)] {
        assert_eq!(
            stage.count(&format!("{name} start")),
            starts,
            "{:?}",
            stage.log()
        );
    }
    assert_eq!(stage.count("worker term"), 1);
}

#[test]
fn a_child_that_must_not_be_started_again_ends_the_run_when_it_dies() {
    let mut stage = Stage::with("", "", "");
    stage.children[0].restart = false;
    let mut killed = false;
    let exit = stage.run(|children| {
        if !killed && children.iter().all(|child| child.ready) {
            killed = true;
            kill(pid_of(children, "capd").unwrap());
        }
        Next::Continue
    });
    assert_eq!(exit, Exit::Failure);
    assert_eq!(
        (
            stage.count("capd start"),
            stage.count("worker term"),
            stage.count("fwdd term")
        ),
        (1, 1, 1)
    );
}

#[test]
fn a_child_that_does_not_end_in_time_is_killed() {
    let stage = Stage::with("", "stubborn", "");
    let signals = Signals::install().unwrap();
    let mut worker = None;
    let exit = stage
        .supervisor(Duration::from_secs(1))
        .run(&signals, |children| {
            worker = pid_of(children, "worker");
            end_when_all_ready(children)
        });
    assert_eq!(exit.unwrap(), Exit::Failure);
    assert!(is_gone(worker.unwrap()));
    assert_eq!(
        stage.count("fwdd term"),
        1,
        "the later stages are still ended in good order"
    );
}

#[test]
fn a_child_that_waits_for_its_new_start_is_started_at_once_when_all_are_to_end() {
    let stage = Stage::with("", "crash 5", "");
    let exit = stage.run(|children| {
        // The pause is 1.6 s by now.
        match children[1].restarts == 5 && children[1].pid.is_none() {
            true => Next::End,
            false => Next::Continue,
        }
    });
    assert_eq!(exit, Exit::Ok);
    let order = [
        "worker ready",
        "capd close",
        "worker term",
        "fwdd term",
        "capd term",
    ];
    let order = order.map(|line| stage.place(line));
    assert!(order.is_sorted(), "{:?}", stage.log());
}

#[test]
fn a_child_that_dies_while_all_are_to_end_is_started_again() {
    let stage = Stage::with("", "", "");
    let exit = stage.run(|children| {
        if !children.iter().all(|child| child.ready) {
            return Next::Continue;
        }
        kill(pid_of(children, "worker").unwrap());
        Next::End
    });
    assert_eq!(exit, Exit::Ok);
    let counts =
        ["worker start", "worker term", "capd start", "fwdd start"].map(|line| stage.count(line));
    assert_eq!(counts, [2, 1, 1, 1], "{:?}", stage.log());

    let stage = Stage::with("", "dies of it", "dies of it");
    assert_eq!(stage.run(end_when_all_ready), Exit::Ok);
    let counts = ["worker term", "fwdd term", "capd start"].map(|line| stage.count(line));
    assert_eq!(counts, [2, 2, 1], "{:?}", stage.log());
    let log = stage.log();
    assert_eq!(log.last().unwrap(), "capd term", "{log:?}");
}

#[test]
fn a_child_that_dies_again_and_again_does_not_keep_the_others_from_ending() {
    let stage = Stage::with("", "crash 1000", "");
    let signals = Signals::install().unwrap();
    let stop = signals.stop();
    let begin = Instant::now();
    let exit = stage
        .supervisor(Duration::from_secs(1))
        .run(&signals, |children| {
            if children[1].restarts > 0 {
                stop.request();
            }
            Next::Continue
        });
    assert_eq!(exit.unwrap(), Exit::Failure);
    assert!(
        begin.elapsed() < Duration::from_secs(30),
        "{:?}",
        begin.elapsed()
    );
    let order = ["capd close", "fwdd term", "capd term"].map(|line| stage.place(line));
    assert!(order.is_sorted(), "{:?}", stage.log());
}

#[test]
fn a_first_stage_that_does_not_close_or_dies_does_not_keep_the_others_from_ending() {
    let stage = Stage::with("busy", "", "");
    let signals = Signals::install().unwrap();
    let exit = stage
        .supervisor(Duration::from_secs(1))
        .run(&signals, end_when_all_ready);
    assert_eq!(exit.unwrap(), Exit::Failure);
    assert_eq!(
        (stage.count("worker term"), stage.count("fwdd term")),
        (1, 1)
    );

    let stage = Stage::with("", "crash 1000", "");
    let exit = stage
        .supervisor(Duration::from_secs(1))
        .run(&signals, |children| {
            if children[1].restarts == 0 {
                return Next::Continue;
            }
            kill(pid_of(children, "capd").unwrap());
            Next::End
        });
    assert_eq!(exit.unwrap(), Exit::Failure);
    assert_eq!(stage.count("capd start"), 2, "{:?}", stage.log());
}

#[test]
fn bad_input_is_reported_after_a_good_end() {
    let stage = Stage::with("end 65", "", "");
    assert_eq!(stage.run(end_when_all_ready), Exit::BadData);
    assert_eq!(stage.count("fwdd term"), 1);
}

#[test]
fn a_failure_at_the_end_is_not_hidden() {
    let stage = Stage::with("", "end 1", "end 65");
    assert_eq!(stage.run(end_when_all_ready), Exit::Failure);
}

#[test]
fn a_missing_program_is_an_error_and_nothing_stays_behind() {
    let mut stage = Stage::with("", "", "");
    stage.children[2].program = Path::new("/nonexistent/lc-fwdd").to_owned();
    let signals = Signals::install().unwrap();
    let mut capd = None;
    let mut supervisor = stage.supervisor(Duration::from_secs(10));
    let run = supervisor.run(&signals, |children| {
        capd = pid_of(children, "capd").or(capd);
        Next::Continue
    });
    let error = run.unwrap_err();
    assert!(
        matches!(&error, SupervisorError::Start { name, .. } if name == "fwdd"),
        "{error}"
    );
    assert!(
        error.to_string().contains("/nonexistent/lc-fwdd"),
        "{error}"
    );
    drop(supervisor);
    assert!(capd.is_none_or(is_gone));
    assert!(!stage.dir.path().join("notify.sock").exists());
}
