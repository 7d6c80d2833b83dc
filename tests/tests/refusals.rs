//! Bad input is refused with a clear message and a non-zero exit code.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::path::Path;

use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::generated::generate;
use lc_tests::node::{Node, PATIENCE};
use tempfile::tempdir;

/// Ways to end before any packet: wrong usage, or refused at start.
const REFUSED: [i32; 2] = [2, 78];
/// Input was bad, and what was good has been delivered.
const BAD_INPUT: i32 = 65;

/// Runs lc-hunt with `arguments` and expects that it is refused with a message that holds all of
/// `words`, once.
fn refused(arguments: &[&str], words: &[&str]) {
    let outcome = Node::start(arguments).unwrap().finish(PATIENCE).unwrap();
    let said = &outcome.stderr;
    assert!(
        REFUSED.contains(&outcome.code()),
        "{arguments:?}: {} {said}",
        outcome.code()
    );
    for word in words {
        let found = said.to_lowercase().contains(&word.to_lowercase());
        assert!(found, "{arguments:?} does not say {word:?}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

/// A sink that every case may name; none gets that far.
fn sink(folder: &Path) -> String {
    folder.join("arrived").to_str().unwrap().to_owned()
}

#[test]
fn an_unknown_interface() {
    let folder = tempdir().unwrap();
    let sink = sink(folder.path());
    refused(&["-i", "nosuch0", "--sink", &sink], &["nosuch0"]);
}

#[test]
fn a_bad_bpf_expression() {
    let folder = tempdir().unwrap();
    let sink = sink(folder.path());
    refused(
        &["-i", "lo", "-f", "port port", "--sink", &sink],
        &["port port"],
    );
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "10"]).unwrap();
    let path = sent.path.to_str().unwrap();
    let other = folder.path().join("other");
    let other = other.to_str().unwrap();
    refused(
        &["-r", path, "-f", "tcp and", "--sink", other],
        &["tcp and"],
    );
}

#[test]
fn an_unreadable_capture_file() {
    let folder = tempdir().unwrap();
    let sink = sink(folder.path());
    let missing = folder.path().join("missing.pcap");
    let missing = missing.to_str().unwrap();
    refused(&["-r", missing, "--sink", &sink], &["missing.pcap"]);
}

#[test]
fn a_file_that_is_no_capture() {
    let folder = tempdir().unwrap();
    let sink = sink(folder.path());
    let text = folder.path().join("text.pcap");
    fs::write(&text, "no capture at all, but a text of some length").unwrap();
    let node = Node::start(["-r", text.to_str().unwrap(), "--sink", &sink]).unwrap();
    let outcome = node.finish(PATIENCE).unwrap();
    assert!(
        [BAD_INPUT, 78].contains(&outcome.code()),
        "{}",
        outcome.stderr
    );
    assert!(outcome.stderr.contains("text.pcap"), "{}", outcome.stderr);
}

#[test]
fn a_truncated_capture_delivers_what_is_whole() {
    let folder = tempdir().unwrap();
    let sink = sink(folder.path());
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "100"]).unwrap();
    let bytes = fs::read(&sent.path).unwrap();
    fs::write(&sent.path, &bytes[..bytes.len() - 10]).unwrap();
    let path = sent.path.to_str().unwrap();
    let arguments = ["-r", path, "--sink", &sink, "--no-filter-policy", "allow"];
    let outcome = Node::start(arguments).unwrap().finish(PATIENCE).unwrap();
    assert_eq!(outcome.code(), BAD_INPUT, "{}", outcome.stderr);
    assert!(outcome.stderr.contains("sent.pcap"), "{}", outcome.stderr);
    let arrived = capture::read(&Path::new(&sink).join("packets.pcapng")).unwrap();
    let difference = Difference::between(&sent.packets[..99], &arrived.packets);
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn tls_files_that_cannot_be_used() {
    let folder = tempdir().unwrap();
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "10"]).unwrap();
    let garbage = folder.path().join("garbage.pem");
    fs::write(&garbage, "no certificate").unwrap();
    let (path, garbage) = (sent.path.to_str().unwrap(), garbage.to_str().unwrap());
    let to = ["-r", path, "--processor", "127.0.0.1:1"];
    let with = |flags: &[&'static str]| -> Vec<String> {
        let all = to.iter().chain(flags);
        all.map(|flag| flag.replace("GARBAGE", garbage)).collect()
    };
    for (flags, words) in [
        (vec!["--tls-ca", "/nosuch/ca.pem"], vec!["/nosuch/ca.pem"]),
        (vec!["--tls-ca", "GARBAGE"], vec!["garbage.pem"]),
        (
            vec!["--tls-skip-verify", "--tls-cert", "GARBAGE"],
            vec!["tls-key"],
        ),
        (
            vec!["--tls-skip-verify", "--tls-key", "GARBAGE"],
            vec!["tls-cert"],
        ),
        (
            vec![
                "--tls-skip-verify",
                "--tls-cert",
                "GARBAGE",
                "--tls-key",
                "GARBAGE",
            ],
            vec!["garbage.pem"],
        ),
        (vec![], vec!["tls-ca"]),
    ] {
        let arguments = with(&flags);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        refused(&arguments, &words);
    }
}

#[test]
fn malformed_configuration() {
    let folder = tempdir().unwrap();
    for (name, text, words) in [
        ("syntax.toml", "hunter = [", &["syntax.toml"][..]),
        (
            "key.toml",
            "\nhunter.no_such_key = 1\n",
            &["key.toml", "no_such_key", "2"],
        ),
        (
            "value.toml",
            "hunter.batch_size = \"many\"\n",
            &["value.toml", "batch_size", "1"],
        ),
        (
            "key.yaml",
            "hunter:\n  no_such_key: 1\n",
            &["key.yaml", "no_such_key", "2"],
        ),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let sink = sink(folder.path());
        refused(
            &["--config", path.to_str().unwrap(), "--sink", &sink],
            words,
        );
    }
    refused(
        &["--config", "/nosuch/config.toml"],
        &["/nosuch/config.toml"],
    );
}

#[test]
fn values_out_of_range() {
    let folder = tempdir().unwrap();
    let sink = sink(folder.path());
    refused(
        &["--processor", "127.0.0.1:65536", "--insecure"],
        &["65536"],
    );
    refused(&["--processor", "127.0.0.1:0", "--insecure"], &["0"]);
    refused(&["--processor", "nonsense", "--insecure"], &["nonsense"]);
    refused(
        &["--processor", "a:1,nonsense", "--insecure"],
        &["nonsense"],
    );
    refused(&["--processor", "a:1,", "--insecure"], &["host:port"]);
    refused(
        &["--processor", "a:1,b:1,a:1", "--insecure"],
        &["--processor", "a:1 is named twice"],
    );
    refused(&["--sink", &sink, "--batch-size=-1"], &["batch-size", "-1"]);
    refused(
        &["--sink", &sink, "--batch-size", "0"],
        &["batch-size", "0"],
    );
    refused(
        &["--sink", &sink, "--buffer-size=-5"],
        &["buffer-size", "-5"],
    );
    refused(&["--sink", &sink, "--workers", "0"], &["workers", "0"]);
    refused(&["--sink", &sink, "--workers", "65"], &["workers", "65"]);
    refused(&["--sink", &sink, "--snaplen", "10"], &["snaplen", "10"]);
    refused(
        &["--sink", &sink, "--replay-rate", "0x"],
        &["replay-rate", "0x"],
    );
}

#[test]
fn no_destination_or_two() {
    let folder = tempdir().unwrap();
    let sink = sink(folder.path());
    refused(
        &["--sink", &sink, "--processor", "127.0.0.1:1", "--insecure"],
        &["sink", "processor"],
    );
    refused(&["hunt", "-i", "lo"], &["sink", "processor"]);
}

#[test]
fn filters_that_cannot_be_read() {
    let folder = tempdir().unwrap();
    let sink = sink(folder.path());
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "10"]).unwrap();
    let filters = folder.path().join("filters.toml");
    fs::write(&filters, "[[filters]]\nid = 1\n").unwrap();
    let (path, filters) = (sent.path.to_str().unwrap(), filters.to_str().unwrap());
    refused(
        &["-r", path, "--sink", &sink, "--filters", filters],
        &["filters.toml"],
    );
}

#[test]
fn huge_pages_that_are_missing() {
    let reserved = fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    if reserved.trim() != "0" {
        lc_tests::skipped!("huge pages are reserved on this machine");
        return;
    }
    let folder = tempdir().unwrap();
    let sink = sink(folder.path());
    let sent = generate(folder.path(), "sent.pcap", &["--packets", "10"]).unwrap();
    let path = sent.path.to_str().unwrap();
    refused(
        &["-r", path, "--sink", &sink, "--require-hugepages"],
        &["huge pages"],
    );
}

#[test]
fn no_permission_to_capture() {
    if !nix::unistd::geteuid().is_root() {
        lc_tests::skipped!("only root can give up its rights");
        return;
    }
    let folder = tempdir().unwrap();
    // Others must be able to enter it.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(folder.path(), open).unwrap();
    let sink = sink(folder.path());
    let base = folder.path().join("run");
    let hunt = lc_tests::process::program("lc-hunt");
    let drop = ["--reuid=65534", "--regid=65534", "--clear-groups", "--"];
    let arguments = drop
        .iter()
        .map(AsRef::as_ref)
        .chain([hunt.as_os_str()])
        .chain(["-i", "lo", "--sink", &sink, "--runtime-dir"].map(AsRef::as_ref))
        .chain([base.as_os_str()]);
    let outcome = lc_tests::process::run(Path::new("setpriv"), arguments, PATIENCE).unwrap();
    if outcome.code() == 127 || outcome.stderr.contains("setpriv:") {
        lc_tests::skipped!(
            "the programs can't be run by another user here: {}",
            outcome.stderr
        );
        return;
    }
    assert_eq!(outcome.code(), 78, "{}", outcome.stderr);
    let said = outcome.stderr.to_lowercase();
    assert!(
        said.contains("permission") || said.contains("cap_net_raw"),
        "{said}"
    );
}
