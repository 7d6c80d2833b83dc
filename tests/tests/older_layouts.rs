//! A release meets the shared memory of older ones: what it understands it goes on with, to the packet; what it does not,
//! it names and leaves alone.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::thread;

use lc_daemon::attach::{Reply, Request, SOCKET, receive, send};
use lc_tests::capture;
use lc_tests::compare::Difference;
use lc_tests::daemons::{Daemons, end};
use lc_tests::node::{PATIENCE, counter};
use lc_tests::processor::Processor;
use lc_tests::saved::{Region, Saved};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept, bind, listen, socket_with,
};
use serde_json::Value;
use tempfile::tempdir;

/// The layouts that were saved.
const UNDERSTOOD: &str = "3.0";
const REFUSED: [&str; 3] = ["1.0", "1.1", "2.0"];

/// A node in `folder` like the saved one, for a processor at `address`.
fn node_like_the_saved_one(folder: &Path, address: &str) -> Daemons {
    let capture = folder.join("sent.pcap");
    Saved::write_capture(&capture).unwrap();
    let lines = format!(
        "read_files = [{capture:?}]\nprocessor_addr = {address:?}\nworkers = 1\nbuffer_size = 100\nbatch_queue_size = 1\n\
         batch_size = 4\nno_filter_policy = \"allow\"\n"
    );
    Daemons::configure(folder, &lines).unwrap()
}

/// Hands out the saved regions in the place of the capd that made them, until the test ends.
fn hand_out(saved: Saved, run_dir: &Path) {
    fs::create_dir_all(run_dir).unwrap();
    let (kind, flags) = (SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let listener = socket_with(AddressFamily::UNIX, kind, flags, None).unwrap();
    bind(
        &listener,
        &SocketAddrUnix::new(run_dir.join(SOCKET)).unwrap(),
    )
    .unwrap();
    listen(&listener, 8).unwrap();
    thread::spawn(move || {
        let regions = saved
            .regions
            .iter()
            .filter(|region| region.name != "filters");
        let ids: Vec<_> = regions.clone().map(|region| region.id).collect();
        let descriptors: Vec<_> = regions.map(|region| region.memory.as_fd()).collect();
        while let Ok(connection) = accept(&listener) {
            let request = receive::<Request>(connection.as_fd()).ok().flatten();
            let message = request.map(|received| received.message);
            if matches!(message, Some(Request::Attach { .. })) {
                let reply = Reply::Regions(ids.clone());
                // A peer that went away meanwhile is looked at by the test.
                let _ = send(connection.as_fd(), &reply, &descriptors);
            }
        }
    });
}

/// Whether everything that was said `then` is still said `now`, at `place`, whatever was added.
fn assert_kept(then: &Value, now: &Value, place: &str) {
    match then {
        Value::Object(fields) => {
            for (name, value) in fields {
                assert_kept(value, &now[name], &format!("{place}.{name}"));
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                // Named things may have others between them now.
                let named = |found: &&Value| found["name"] == item["name"];
                let same = match item["name"].is_string() {
                    true => now.as_array().and_then(|now| now.iter().find(named)),
                    false => now.get(index),
                };
                let place = format!("{place}[{index}]");
                assert_kept(item, same.unwrap_or(&Value::Null), &place);
            }
        }
        _ => assert_eq!(then, now, "{place}"),
    }
}

#[test]
fn an_older_node_is_read_as_it_read_itself() {
    let folder = tempdir().unwrap();
    let node = node_like_the_saved_one(folder.path(), "127.0.0.1:9");
    let saved = Saved::open(UNDERSTOOD).unwrap();
    let before = saved.status.clone();
    hand_out(saved, node.run_dir());
    let status = node.status().unwrap();
    for part in [
        "counters",
        "captures",
        "filters",
        "processor",
        "steering",
        "ledger",
    ] {
        assert_kept(&before[part], &status[part], part);
    }

    let outcome = node.ask("upgrade-check", &[]).unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stdout);
    assert!(
        outcome.stdout.contains(" understands "),
        "{}",
        outcome.stdout
    );
}

#[test]
fn a_layout_that_is_not_understood_is_named_by_whoever_meets_it() {
    for version in REFUSED {
        let folder = tempdir().unwrap();
        let node = node_like_the_saved_one(folder.path(), "127.0.0.1:9");
        hand_out(Saved::open(version).unwrap(), node.run_dir());
        let named = |text: &str| {
            let found = format!("its layout is {version}, ");
            assert!(
                text.contains(&found) && text.contains("upgrade the older side"),
                "{text}"
            );
        };
        let outcome = node.ask("upgrade-check", &[]).unwrap();
        assert_eq!(outcome.code(), 1, "{}", outcome.stdout);
        assert!(
            outcome.stdout.contains("does not understand"),
            "{}",
            outcome.stdout
        );
        named(&outcome.stdout);
        named(&node.ask("status", &[]).unwrap().stderr);
        let worker = node.start_worker("0").unwrap();
        for daemon in [worker, node.start("lc-fwdd", &[]).unwrap()] {
            let outcome = daemon.finish(PATIENCE).unwrap();
            assert_eq!(outcome.code(), 78, "{}", outcome.stderr);
            named(&outcome.stderr);
        }
    }
}

/// Starts the three daemons where the saved node stopped, and lets them end its work; what capd said, the last status, and
/// what has arrived.
fn go_on(version: &str, saved: &Saved) -> (String, Value, Vec<capture::Packet>) {
    let folder = tempdir().unwrap();
    let processor = Processor::start(folder.path(), 0, [""; 0]).unwrap();
    let node = node_like_the_saved_one(folder.path(), &processor.address());
    let opened = |region: &Region| {
        let name = if region.name == "filters" {
            "filters"
        } else {
            "region"
        };
        let number = region.memory.as_raw_fd();
        (name, format!("/proc/{}/fd/{number}", std::process::id()))
    };
    let passed: Vec<_> = saved.regions.iter().map(opened).collect();
    let capd = node.start_capd_with(&passed).unwrap();
    let worker = node.start_worker("0").unwrap();
    let fwdd = node.start("lc-fwdd", &[]).unwrap();
    let status = node
        .wait_until(|status| status["ledger"]["complete"] == true)
        .unwrap_or_else(|| panic!("{version}: {}", capd.stderr()));
    let said = capd.stderr();
    for daemon in [worker, fwdd, capd] {
        let outcome = end(daemon).unwrap();
        assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    }
    processor.terminate().unwrap();
    let arrived = capture::read(&folder.path().join("packets.pcapng")).unwrap();
    (said, status, arrived.packets)
}

/// The packets that the saved nodes replayed.
fn sent() -> Vec<capture::Packet> {
    let folder = tempdir().unwrap();
    let path = folder.path().join("sent.pcap");
    Saved::write_capture(&path).unwrap();
    capture::read(&path).unwrap().packets
}

#[test]
fn what_an_older_node_left_in_its_rings_is_delivered() {
    let saved = Saved::open(UNDERSTOOD).unwrap();
    let (said, status, arrived) = go_on(UNDERSTOOD, &saved);
    assert!(
        said.contains("went on in the shared memory of a predecessor"),
        "{said}"
    );
    assert_eq!(status["ledger"]["balanced"], true, "{status:#}");
    let sent = sent();
    assert_eq!(
        counter(&status, "forward_acked_packets_total"),
        sent.len() as u64
    );
    for process in status["processes"].as_array().unwrap() {
        assert_eq!(process["epoch"], 2, "{process}");
    }
    let acked = counter(&saved.status, "forward_acked_packets_total") as usize;
    assert!(0 < acked && acked < sent.len());
    let difference = Difference::between(&sent[acked..], &arrived);
    assert!(difference.is_none(), "{difference}");
}

#[test]
fn shared_memory_that_is_not_understood_is_replaced() {
    for version in REFUSED {
        let saved = Saved::open(version).unwrap();
        let (said, status, arrived) = go_on(version, &saved);
        let named = format!("its layout is {version}, ");
        assert!(said.contains(&named), "{said}");
        assert_eq!(status["processes"][0]["epoch"], 1, "{status:#}");
        let difference = Difference::between(&sent(), &arrived);
        assert!(difference.is_none(), "{difference}");
    }
}
