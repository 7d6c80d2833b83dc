//! Sets of filters that replace each other: none costs a packet, and one that can't be compiled costs nothing but itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::Path;

use lc_tests::capture::Packet;
use lc_tests::generated::generate;
use lc_tests::node::{Node, PATIENCE, captured_in_all, counter};
use lc_tests::process;
use lc_tests::processor;
use tempfile::tempdir;

/// `lc-bench reload` checks what arrives, and ends with an error if it is not what had to.
#[test]
fn sets_of_all_types_replace_each_other_without_the_loss_of_a_packet() {
    let arguments = "reload --filters 3000 --generations 5 --packets 60000 --workers 2 --quiet 0";
    let program = process::program("lc-bench");
    let outcome = process::run(&program, arguments.split(' '), 4 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    assert!(
        outcome.stdout.contains("as many as every set asks for"),
        "{}",
        outcome.stdout
    );
}

/// Puts filters for these clients into force, and more lines.
#[cfg(debug_assertions)]
fn write_filters(path: &Path, clients: &[u8], more: &str) {
    let mut text = more.to_owned();
    for client in clients {
        let address = format!("10.0.0.{client}");
        text += &processor::filter(format!("c{client}"), "ip_address", address);
    }
    processor::replace_filters(path, &text).unwrap();
}

/// Release builds of the worker don't take poison.
#[cfg(debug_assertions)]
#[test]
fn a_set_that_cannot_be_compiled_leaves_the_one_before_in_force_and_the_next_is_compiled() {
    let folder = tempdir().unwrap();
    let flags = [
        "--flood",
        "round-robin",
        "--flows",
        "10",
        "--size",
        "100",
        "--ipv6",
        "0",
    ];
    let flags = [&flags[..], &["--vlan", "0", "--packets", "200000"]].concat();
    let sent = generate(folder.path(), "flood.pcap", &flags).unwrap();
    let filters = folder.path().join("filters.toml");
    write_filters(&filters, &[1], "");
    let sink = folder.path().join("arrived");
    let node = Node::start_with_variable(
        "LC_HUNT_POISON=POISON",
        [
            "hunt".as_ref(),
            "--read-file".as_ref(),
            sent.path.as_os_str(),
            "--replay-rate".as_ref(),
            "2000pps".as_ref(),
            "--sink".as_ref(),
            sink.as_os_str(),
            "--filters".as_ref(),
            filters.as_os_str(),
        ],
    )
    .unwrap();
    let judged = |more: u64| {
        let received = "worker_received_packets_total";
        let before = counter(&node.wait_until(|_| true).unwrap(), received);
        let status = node.wait_until(|status| counter(status, received) > before + more);
        status.expect("packets flow")
    };
    let failed =
        |status: &serde_json::Value| counter(status, "worker_filter_generations_failed_total");
    judged(100);
    let poison = processor::filter("p", "dns_domain", "POISON");
    write_filters(&filters, &[1], &poison);
    let status = node.wait_until(|status| failed(status) > 0);
    assert_eq!(failed(&status.expect("the failure is counted")), 1);
    // It is not tried again with every heartbeat, of which there are many in this time.
    assert_eq!(failed(&judged(2_000)), 1);
    write_filters(&filters, &[1, 2], "");
    let in_force = node.wait_until(|status| {
        let filters = &status["filters"];
        filters["enabled"] == 2 && filters["workers"][0] == filters["generation"]
    });
    assert_eq!(failed(&in_force.expect("the next set is compiled")), 1);
    judged(500);
    let outcome = node.terminate().unwrap();
    assert_eq!(outcome.code(), 0, "{}", outcome.stderr);
    let told = outcome.stderr.matches("filters can't be compiled").count();
    assert_eq!(told, 1, "{}", outcome.stderr);
    let arrived = processor::told(&sink).unwrap();
    let of = |client: &str| {
        let source = format!("10.0.0.{client}");
        let from = |told: &&processor::Told| told.metadata.as_ref().unwrap().src_ip == source;
        arrived.iter().filter(from).count()
    };
    let (always, late) = (of("1"), of("2"));
    assert!(always > late && late > 0, "{always} {late}");
    assert_eq!(arrived.len(), always + late);
    let captured = captured_in_all(&outcome).unwrap() as usize;
    let of_first = |packet: &&Packet| packet.bytes[26..30] == [10, 0, 0, 1];
    assert_eq!(
        always,
        sent.packets[..captured].iter().filter(of_first).count()
    );
}
