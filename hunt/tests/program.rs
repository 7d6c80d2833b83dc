//! `lc-hunt` as a program: what it refuses, what it prints, and how it runs daemons (small ones made for the test).

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const LC_HUNT: &str = env!("CARGO_BIN_EXE_lc-hunt");

/// A daemon that notes its start in `$HOME/log`, and its configuration in `$HOME/effective.toml`.
const DAEMON: &str = r##"#!/usr/bin/perl
use IO::Socket::UNIX; use File::Basename;
my $name = basename($0);
sub note { open(my $file, '>>', "$ENV{HOME}/log"); syswrite($file, "$name $_[0]\n"); }
$SIG{TERM} = sub { note("term"); exit(0) };
$SIG{HUP} = sub { syswrite(STDERR, qq({"msg":"reload"}\n)) };
note("start @ARGV[2..$#ARGV]");
if ($name eq 'lc-capd') {
    open(my $in, '<', $ARGV[1]); my @lines = <$in>; my $mode = sprintf('%o', (stat($in))[2] & 07777);
    open(my $out, '>', "$ENV{HOME}/effective.toml"); print $out "# $mode\n", @lines; close($out);
}
CONDUCT;
my $socket = IO::Socket::UNIX->new(Type => SOCK_DGRAM, Peer => $ENV{NOTIFY_SOCKET});
$SIG{USR2} = sub { note("close"); $socket->send("X_LC_CLOSED=1") };
$socket->send("READY=1");
while (1) { sleep(60) }
"##;

/// A place without configuration, in which files can be put.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        Place(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn command(&self, program: impl AsRef<Path>, args: &[&str]) -> Command {
        let mut command = Command::new(program.as_ref());
        command
            .args(args)
            .env_clear()
            .env("HOME", self.0.path())
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(LC_HUNT, args).output().unwrap()
    }

    /// Puts `lc-hunt` beside daemons that are scripts.
    fn install(&self, capd: &str, workerd: &str, fwdd: &str) -> PathBuf {
        let bin = self.path("bin");
        fs::create_dir_all(&bin).unwrap();
        for (name, conduct) in [
            ("lc-capd", capd),
            ("lc-workerd", workerd),
            ("lc-fwdd", fwdd),
        ] {
            let path = bin.join(name);
            fs::write(&path, DAEMON.replace("CONDUCT", conduct)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let program = bin.join("lc-hunt");
        if fs::hard_link(LC_HUNT, &program).is_err() {
            fs::copy(LC_HUNT, &program).unwrap();
        }
        program
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Level and message of the log lines on standard error, which are all JSON.
fn messages(output: &Output) -> Vec<String> {
    let lines = stderr(output);
    let lines = lines.lines().map(|line| {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        format!(
            "{} {}",
            line["level"].as_str().unwrap(),
            line["msg"].as_str().unwrap()
        )
    });
    lines.collect()
}

#[test]
fn bad_input_is_refused_with_one_clear_message() {
    let place = Place::new();
    let unknown = place.file("unknown.toml", "[hunter]\nbatch_sise = 1\n");
    let malformed = place.file("malformed.toml", "[hunter\n");
    let malformed_yaml = place.file("malformed.yaml", "hunter:\n  id: [a\n");
    let yaml = place.file("wrong.yaml", "hunter:\n  batch_size: 0\n");
    let cases: &[(&[&str], &str)] = &[
        (
            &["hunt"],
            "no processor: give --processor HOST:PORT, or --sink DIR",
        ),
        (
            &["hunt", "-P", "a:1", "--insecure", "--sink", "o"],
            "--processor and --sink exclude each other",
        ),
        (
            &["hunt", "-P", "a:1"],
            "TLS needs to know whom to trust: give --tls-ca FILE, or --tls-skip-verify",
        ),
        (
            &["hunt", "-P", "a:1", "--tls-ca", "c", "--tls-cert", "x"],
            "--tls-cert needs --tls-key as well",
        ),
        (
            &["hunt", "-P", "a:1", "--tls-ca", "c", "--tls-key", "x"],
            "--tls-key needs --tls-cert as well",
        ),
        (
            &["hunt", "-P", "a:1", "--insecure", "--tls-ca", "c"],
            "--insecure and --tls-ca exclude each other",
        ),
        (
            &["hunt", "--sink", "o", "-r", "f", "-i", "eth0"],
            "--read-file and --interface exclude each other",
        ),
        (
            &["hunt", "--sink", "o", "--replay-rate", "1x"],
            "--replay-rate needs --read-file as well",
        ),
        (
            &["hunt", "-P", "a:1", "--insecure", "--filters", "f"],
            "--filters needs --sink as well",
        ),
        (
            &[
                "hunt",
                "--sink",
                "o",
                "--disk-buffer",
                "--disk-buffer-max-mb",
                "1",
            ],
            "--disk-buffer-max-mb: a disk buffer needs 16 MiB at least",
        ),
        (
            &["hunt", "--sink", "o", "--enable-voip-filter"],
            "GPU pattern matching is missing from this version",
        ),
        (
            &[
                "http",
                "--sink",
                "o",
                "--tls-keylog",
                "k",
                "--tls-keylog-pipe",
                "p",
            ],
            "--tls-keylog and --tls-keylog-pipe exclude each other",
        ),
        (
            &["hunt", "--modes", "voip,hunt", "--sink", "o"],
            "hunter.modes: hunt matches packets one by one",
        ),
        (
            &["hunt", "--modes", "dns,ftp", "--sink", "o"],
            "hunter.modes: \"ftp\" is no mode",
        ),
        (
            &["hunt", "--config", "absent.toml"],
            "configuration file absent.toml: No such file",
        ),
        (
            &["hunt", "--config", "."],
            "configuration file .: the name must end in",
        ),
        (
            &["hunt", "-c", &unknown],
            "unknown.toml:2: unknown key \"hunter.batch_sise\"; did you mean \"hunter.batch_size\"?",
        ),
        (&["hunt", "-c", &malformed], "malformed.toml:1: "),
        (&["hunt", "-c", &malformed_yaml], "malformed.yaml:"),
        (
            &["hunt", "-c", &yaml],
            "wrong.yaml:2: hunter.batch_size: 0 is out of range: 1 to 65536",
        ),
    ];
    for (args, expected) in cases {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(78), "{args:?}");
        let messages = messages(&output);
        assert_eq!(messages.len(), 1, "{args:?}: {messages:?}");
        assert!(messages[0].starts_with("ERROR "), "{messages:?}");
        assert!(
            messages[0].contains(expected),
            "{args:?} gave {messages:?}, expected {expected:?}"
        );
    }
}

#[test]
fn flags_out_of_range_are_usage_errors() {
    let place = Place::new();
    let cases: &[(&[&str], &str)] = &[
        (&["hunt", "-P", "host:70000"], "port \"70000\""),
        (&["hunt", "-P", "host"], "is not host:port"),
        (
            &["hunt", "--batch-size", "-1"],
            "-1 is out of range: 1 to 65536",
        ),
        (
            &["hunt", "--batch-timeout", "0"],
            "0 is out of range: 1 to 60000",
        ),
        (&["hunt", "-b", "-10"], "-10 is out of range"),
        (&["hunt", "--batch-queue-size", "-1"], "-1 is out of range"),
        (&["hunt", "--pcap-buffer-size", "-1"], "-1 is out of range"),
        (&["hunt", "--workers", "0"], "0 is out of range: 1 to 64"),
        (
            &["hunt", "--workers", "many"],
            "\"many\" is not a whole number",
        ),
        (
            &["hunt", "--no-filter-policy", "perhaps"],
            "\"perhaps\" is not one of allow, deny",
        ),
        (
            &["hunt", "--replay-rate", "fast"],
            "\"fast\" is not max, a speed",
        ),
        (
            &["voip", "--sip-port", "5060,99999"],
            "\"99999\" is not a port from 1 to 65535",
        ),
        (
            &["voip", "--rtp-port-range", "2-1"],
            "ends before it starts",
        ),
        (
            &["email", "--protocol", "uucp"],
            "\"uucp\" is not one of smtp, imap, pop3, all",
        ),
        (
            &["hunt", "--id", "a", "--hunter-id", "b"],
            "--id and its old name were both given",
        ),
        (&["hunt", "--no-such-flag"], "--no-such-flag"),
        (&["hunt", "viop"], "viop"),
    ];
    for (args, expected) in cases {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let text = stderr(&output);
        assert!(
            text.contains(expected),
            "{args:?} gave {text:?}, expected {expected:?}"
        );
    }
}

#[test]
fn production_demands_verified_tls() {
    let place = Place::new();
    for args in [
        ["-P", "a:1", "--insecure"],
        ["-P", "a:1", "--tls-skip-verify"],
        ["hunt", "--sink", "o"],
    ] {
        let output = place
            .command(LC_HUNT, &args)
            .env("LIPPYCAT_PRODUCTION", "true")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(78), "{args:?}");
        let text = stderr(&output);
        assert!(
            text.contains("LIPPYCAT_PRODUCTION=true demands verified TLS"),
            "{text}"
        );
    }
    // Only the word itself counts.
    let mut command = place.command(LC_HUNT, &["check", "-P", "a:1", "--insecure"]);
    let output = command.env("LIPPYCAT_PRODUCTION", "1").output().unwrap();
    assert!(
        stdout(&output).contains("complete and consistent"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn flag_goes_before_environment_before_file_before_default() {
    let place = Place::new();
    let yaml =
        "hunter: {batch_size: 10, buffer_size: 20, processor_addr: 'p:1'}\npromiscuous: true\n";
    let yaml = place.file(".config/lippycat/config.yaml", yaml);
    let mut command = place.command(LC_HUNT, &["show", "config", "--batch-size", "12"]);
    command
        .env("LC_HUNT_BATCH_SIZE", "11")
        .env("HUNTER.BUFFER_SIZE", "21");
    command
        .env("PROMISCUOUS", "")
        .env("LC_HUNT_API_KEY", "hush");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    let text = stdout(&output);
    for line in [
        "hunter.batch_size = 12  # --batch-size",
        "hunter.buffer_size = 21  # environment variable HUNTER.BUFFER_SIZE",
        &format!("promiscuous = true  # {yaml}:2"),
        "hunter.batch_timeout_ms = 100  # default",
        "hunter.api_key = \"(not shown)\"  # environment variable LC_HUNT_API_KEY",
    ] {
        assert!(
            text.lines().any(|written| written == line),
            "no {line:?} in:\n{text}"
        );
    }
    // lc-hunt's own file goes before lippycat's.
    place.file(".config/lc-hunt/config.toml", "hunter.batch_size = 5\n");
    let text = stdout(&place.run(&["show", "config"]));
    assert!(
        text.contains("hunter.batch_size = 5  #")
            && text.contains("promiscuous = false  # default"),
        "{text}"
    );

    let output = place
        .command(LC_HUNT, &["show", "config"])
        .env("LC_HUNT_BATCH_SIZE", "x")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(78));
    let messages = messages(&output);
    assert!(
        messages[0]
            .contains("environment variable LC_HUNT_BATCH_SIZE: \"x\" is not a whole number"),
        "{messages:?}"
    );
}

#[test]
fn help_and_version_are_answers_not_errors() {
    let place = Place::new();
    for (args, expected) in [
        (&[][..], "Usage: lc-hunt"),
        (&["--help"], "Usage: lc-hunt"),
        (&["hunt", "--help"], "--no-filter-policy"),
        (&["voip", "-h"], "--sip-port"),
        (&["--version"], "lc-hunt version 0."),
        (&["-v"], " linux/"),
    ] {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(stdout(&output).contains(expected), "{args:?}");
    }
}

#[test]
fn interfaces_are_listed_on_standard_output() {
    let place = Place::new();
    let output = place.run(&["list", "interfaces", "--json"]);
    assert!(output.status.success());
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    let interfaces = listing["interfaces"].as_array().unwrap();
    if listing["warning"].is_string() {
        lc_tests::skipped!("what is listed depends on permission to capture");
        return;
    }
    let loopback = interfaces
        .iter()
        .find(|interface| interface["name"] == "lo")
        .expect("lo is hidden");
    assert!(
        loopback["marks"]
            .as_array()
            .unwrap()
            .contains(&"loopback".into())
    );
    assert!(
        interfaces
            .iter()
            .any(|interface| interface["name"] == "any")
    );
    let text = stdout(&place.run(&["list", "interfaces"]));
    assert_eq!(text.lines().count(), interfaces.len(), "{text}");
}

#[test]
fn check_names_each_problem_and_its_fix() {
    let place = Place::new();
    let check = |args: &[&str]| -> (Option<i32>, Vec<Value>) {
        let output = place.run(&[&["check", "--json"], args].concat());
        let findings: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}", stderr(&output)));
        (output.status.code(), findings.as_array().unwrap().clone())
    };
    let text = place.file("text.pcap", "this is no capture file");
    let short = place.file("short.pcap", "");
    let pem = place.file("empty.pem", "");
    place.file("used/packets.jsonl", "");
    let certificate = rcgen::generate_simple_self_signed(["processor".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["other".to_owned()]).unwrap();
    let cert = place.file("cert.pem", &certificate.cert.pem());
    let key = place.file("key.pem", &certificate.signing_key.serialize_pem());
    let other_key = place.file("other-key.pem", &other.signing_key.serialize_pem());
    let cases: &[(&[&str], &str, &str)] = &[
        (
            &["-P", "a:1"],
            "configuration",
            "TLS needs to know whom to trust",
        ),
        (
            &["-P", "a:1", "--insecure", "-i", "nosuch0"],
            "interfaces",
            "there is no interface nosuch0",
        ),
        (
            &["-P", "a:1", "--insecure", "-f", "udp prot 53"],
            "BPF filter",
            "udp prot 53",
        ),
        (
            &["--sink", "o", "-r", "absent.pcap"],
            "capture files",
            "absent.pcap: No such file",
        ),
        (
            &["--sink", "o", "-r", &text],
            "capture files",
            "neither pcap nor pcapng",
        ),
        (
            &["--sink", "o", "-r", &short],
            "capture files",
            "short.pcap: ",
        ),
        (
            &["--sink", "o", "-r", "."],
            "capture files",
            "is a directory",
        ),
        (
            &["--sink", "o", "--filters", "absent.yaml"],
            "filters",
            "absent.yaml: No such file",
        ),
        (
            &["-P", "a:1", "--tls-ca", "absent.pem"],
            "TLS",
            "absent.pem: ",
        ),
        (
            &["-P", "a:1", "--tls-ca", &pem],
            "TLS",
            "empty.pem: holds no certificate",
        ),
        (
            &["-P", "a:1", "--tls-ca", &key],
            "TLS",
            "holds no certificate",
        ),
        (
            &[
                "-P",
                "a:1",
                "--tls-ca",
                &cert,
                "--tls-cert",
                &cert,
                "--tls-key",
                &other_key,
            ],
            "TLS",
            "other-key.pem: ",
        ),
        (
            &[
                "-P",
                "a:1",
                "--tls-ca",
                &cert,
                "--tls-cert",
                &cert,
                "--tls-key",
                &cert,
            ],
            "TLS",
            "cert.pem: ",
        ),
        (
            &[
                "--sink",
                "o",
                "--workers",
                "64",
                "-b",
                "30000000",
                "--require-hugepages",
            ],
            "huge pages",
            "are free, the rings would take",
        ),
    ];
    for (args, subject, expected) in cases {
        let (code, findings) = check(args);
        let finding = findings
            .iter()
            .find(|finding| finding["subject"] == *subject && finding["level"] == "error");
        let finding = finding.unwrap_or_else(|| panic!("{args:?}: {findings:#?}"));
        assert!(
            finding["message"].as_str().unwrap().contains(expected),
            "{args:?}: {finding}"
        );
        assert!(!finding["fix"].as_str().unwrap().is_empty());
        assert_eq!(code, Some(78), "{args:?}");
    }
    let (_, findings) = check(&[
        "-P",
        "a:1",
        "--tls-ca",
        &cert,
        "--tls-cert",
        &cert,
        "--tls-key",
        &key,
    ]);
    let good = findings
        .iter()
        .any(|finding| finding["subject"] == "TLS" && finding["level"] == "ok");
    assert!(good, "{findings:#?}");
}

#[test]
fn a_run_gives_the_daemons_one_private_file_and_ends_them_in_order() {
    let place = Place::new();
    let program = place.install("", "", "");
    let base = place.path("run");
    let mut args = vec![
        "hunt",
        "-P",
        "localhost:1",
        "--insecure",
        "--workers",
        "2",
        "--batch-size",
        "9",
    ];
    args.extend(["--runtime-dir", base.to_str().unwrap()]);
    let mut command = place.command(&program, &args);
    command
        .env("LC_HUNT_API_KEY", "hush")
        .env("LOG_LEVEL", "DEBUG")
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = log_of(&mut child);
    wait_for_messages(&mut log, "ready", 4);
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    wait_for_messages(&mut log, "reload", 4);
    // Goes on reading, so that the pipe neither fills up nor breaks.
    std::thread::spawn(move || log.for_each(drop));
    let run = base.join(format!("run-{}", child.id()));
    assert_eq!(
        fs::metadata(&run).unwrap().permissions().mode() & 0o777,
        0o700
    );
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!run.exists(), "the run directory stayed behind");

    let effective = fs::read_to_string(place.path("effective.toml")).unwrap();
    assert!(effective.starts_with("# 600\n"), "{effective}");
    for line in [
        "hunter.batch_size = 9",
        "hunter.workers = 2",
        "hunter.insecure = true",
        "hunter.api_key = \"hush\"",
        &format!("hunter.runtime_dir = \"{}\"", run.display()),
    ] {
        assert!(
            effective.lines().any(|written| written == line),
            "no {line:?} in:\n{effective}"
        );
    }

    let log = fs::read_to_string(place.path("log")).unwrap();
    let log: Vec<&str> = log.lines().collect();
    assert_eq!(log[0].trim_end(), "lc-capd start");
    for worker in ["lc-workerd start --index 0", "lc-workerd start --index 1"] {
        assert!(log.contains(&worker), "{log:?}");
    }
    assert_eq!(
        log[log.len() - 5..],
        [
            "lc-capd close",
            "lc-workerd term",
            "lc-workerd term",
            "lc-fwdd term",
            "lc-capd term"
        ]
    );
}

#[test]
fn a_refusing_daemon_decides_the_exit_code() {
    let place = Place::new();
    let program = place.install("", "exit(78)", "");
    let args = [
        "hunt",
        "-P",
        "localhost:1",
        "--insecure",
        "--runtime-dir",
        "run",
    ];
    let output = place.command(&program, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert_eq!(fs::read_dir(place.path("run")).unwrap().count(), 0);
}

#[test]
fn the_embedded_sink_becomes_the_processor() {
    let place = Place::new();
    // The daemon refuses, so the run is over at once.
    let program = place.install("exit(78)", "", "");
    let args = ["hunt", "--sink", "out", "--runtime-dir", "run"];
    let output = place.command(&program, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    let effective = fs::read_to_string(place.path("effective.toml")).unwrap();
    assert!(
        effective.contains("hunter.processor_addr = \"127.0.0.1:"),
        "{effective}"
    );
    assert!(effective.contains("hunter.insecure = true"), "{effective}");
    assert!(
        !effective.contains("hunter.sink") && !effective.contains(":0\""),
        "{effective}"
    );
    for name in ["packets.pcapng", "packets.jsonl", "summary.json"] {
        assert!(place.path("out").join(name).is_file(), "no {name}");
    }
    // The packets of an earlier run are not touched.
    let output = place.command(&program, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("packets.pcapng exists already"),
        "{}",
        stderr(&output)
    );

    let args = [
        "hunt",
        "--sink",
        "new",
        "--filters",
        "absent.toml",
        "--runtime-dir",
        "run",
    ];
    let output = place.command(&program, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("absent.toml"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_run_directory_that_others_can_write_is_refused() {
    let place = Place::new();
    let program = place.install("", "", "");
    fs::create_dir(place.path("open")).unwrap();
    fs::set_permissions(place.path("open"), fs::Permissions::from_mode(0o777)).unwrap();
    let args = ["hunt", "-P", "a:1", "--insecure", "--runtime-dir", "open"];
    let output = place.command(&program, &args).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(
        stderr(&output).contains("writable by others"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_reference_of_settings_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/CONFIGURATION.md");
    let written = fs::read(path).unwrap();
    let output = Place::new().run(&["reference"]);
    assert!(
        written == output.stdout,
        "run: lc-hunt reference > docs/CONFIGURATION.md"
    );
}

/// The lines that a process and its children log.
fn log_of(child: &mut Child) -> Lines<BufReader<ChildStderr>> {
    BufReader::new(child.stderr.take().unwrap()).lines()
}

/// Reads log lines until `count` of them have this message.
fn wait_for_messages(log: &mut Lines<BufReader<ChildStderr>>, message: &str, count: usize) {
    let mut seen = 0;
    while seen < count {
        let line = log.next().expect("lc-hunt ended").unwrap();
        let line: Value = serde_json::from_str(&line).unwrap();
        seen += usize::from(line["msg"] == message);
    }
}
