//! Sessions of DNS, HTTP, TLS and SMTP, through all processes: of generated flows, a twentieth matches a filter; exactly its packets arrive, each once, each flow in its order, with the ids of
//! its filters, however many workers there are, and whichever of them die.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::HashSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use lc_tests::capture::{self, Packet};
use lc_tests::compare::Difference;
use lc_tests::conversations;
use lc_tests::ipv4::{Connection, RAW_IP, Side, udp};
use lc_tests::node::{Node, PATIENCE, counter};
use lc_tests::processor;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::tempdir;

/// Flows of each mode, and of which of them one matches.
const FLOWS: usize = 200;
const EACH: usize = 20;
const START_NS: i64 = 1_700_000_000_000_000_000;

/// A mode, the type of its filters, and the pattern that flow `number` is made to match.
#[derive(Clone, Copy)]
struct Mode {
    name: &'static str,
    filter: &'static str,
    flow: fn(usize) -> Vec<Vec<u8>>,
}

const MODES: [Mode; 4] = [
    Mode {
        name: "dns",
        filter: "dns_domain",
        flow: dns,
    },
    Mode {
        name: "http",
        filter: "http_host",
        flow: http,
    },
    Mode {
        name: "tls",
        filter: "tls_sni",
        flow: tls,
    },
    Mode {
        name: "email",
        filter: "email_address",
        flow: smtp,
    },
];

impl Mode {
    fn pattern(&self, number: usize) -> String {
        match self.name {
            "email" => format!("user{number}@example.org"),
            _ => host(number),
        }
    }

    fn id(&self, number: usize) -> String {
        format!("{}-{number}", self.name)
    }
}

fn host(number: usize) -> String {
    format!("host{number}.example.org")
}

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 2, 0, 1);

fn open(number: usize, port: u16) -> Connection {
    Connection::open(conversations::client(number), (SERVER, port))
}

/// A query and its response.
fn dns(number: usize) -> Vec<Vec<u8>> {
    let mut question = Vec::new();
    for label in host(number).split('.') {
        question.push(label.len() as u8);
        question.extend_from_slice(label.as_bytes());
    }
    question.extend_from_slice(&[0, 0, 1, 0, 1]);
    let [high, low] = (number as u16).to_be_bytes();
    let query = [&[high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], &question[..]].concat();
    let answer = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];
    let head = [high, low, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
    let response = [&head[..], &question, &answer].concat();
    let (client, server) = (conversations::client(number), (SERVER, 53));
    vec![udp(client, server, &query), udp(server, client, &response)]
}

/// Two requests on one connection.
fn http(number: usize) -> Vec<Vec<u8>> {
    let mut connection = open(number, 8_080);
    for path in ["/", "/more"] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n", host(number));
        connection.say(Side::Client, request.as_bytes(), 20);
        let body = "x".repeat(3_000);
        let response = format!("HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n{body}");
        connection.say(Side::Server, response.as_bytes(), 1_000);
    }
    connection.close()
}

/// A ClientHello, and data.
fn tls(number: usize) -> Vec<Vec<u8>> {
    let mut connection = open(number, 4_433);
    let name = host(number);
    let len = name.len() as u16;
    let mut extension = Vec::new();
    extension.extend_from_slice(&[0, 0]);
    extension.extend_from_slice(&(len + 5).to_be_bytes());
    extension.extend_from_slice(&(len + 3).to_be_bytes());
    extension.push(0);
    extension.extend_from_slice(&len.to_be_bytes());
    extension.extend_from_slice(name.as_bytes());
    let mut hello = vec![3, 3];
    hello.extend_from_slice(&[7; 32]);
    hello.extend_from_slice(&[0, 0, 4, 0x13, 1, 0x13, 2, 1, 0]);
    hello.extend_from_slice(&(extension.len() as u16).to_be_bytes());
    hello.extend_from_slice(&extension);
    let mut handshake = vec![1, 0];
    handshake.extend_from_slice(&(hello.len() as u16).to_be_bytes());
    handshake.extend_from_slice(&hello);
    let record = |kind: u8, body: &[u8]| {
        let [high, low] = (body.len() as u16).to_be_bytes();
        [&[kind, 3, 3, high, low], body].concat()
    };
    connection.say(Side::Client, &record(22, &handshake), 50);
    let mut server_hello = vec![2, 0, 0, 38, 3, 3];
    server_hello.extend_from_slice(&[9; 32]);
    server_hello.extend_from_slice(&[0, 0x13, 1, 0]);
    connection.say(Side::Server, &record(22, &server_hello), 1_000);
    for _ in 0..5 {
        connection.say(Side::Client, &record(23, &[0xaa; 100]), 1_000);
        connection.say(Side::Server, &record(23, &[0xbb; 900]), 1_000);
    }
    connection.close()
}

/// A mail.
fn smtp(number: usize) -> Vec<Vec<u8>> {
    let mut connection = open(number, 587);
    connection.say(
        Side::Server,
        b"220 mail.example.org ESMTP Postfix\r\n",
        1_000,
    );
    for (command, reply) in [
        ("EHLO client.example.org\r\n", "250 mail.example.org\r\n"),
        ("MAIL FROM:<sender@example.net>\r\n", "250 2.1.0 Ok\r\n"),
        ("RCPT", "250 2.1.5 Ok\r\n"),
        ("DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n"),
        (
            "From: sender@example.net\r\nSubject: hello\r\n\r\nA mail.\r\n.\r\n",
            "250 2.0.0 Ok: queued\r\n",
        ),
        ("QUIT\r\n", "221 2.0.0 Bye\r\n"),
    ] {
        let command = match command {
            "RCPT" => format!("RCPT TO:<user{number}@example.org>\r\n"),
            command => command.to_owned(),
        };
        connection.say(Side::Client, command.as_bytes(), 1_000);
        connection.say(Side::Server, reply.as_bytes(), 1_000);
    }
    connection.close()
}

/// All packets of some modes, those of all flows in turn, and the ones that match.
fn traffic(modes: &[Mode]) -> (Vec<Packet>, Vec<Packet>) {
    let mut flows: Vec<(bool, std::vec::IntoIter<Vec<u8>>)> = Vec::new();
    for (nth, mode) in modes.iter().enumerate() {
        for number in 0..FLOWS {
            let packets = (mode.flow)(nth * FLOWS + number).into_iter();
            flows.push((number % EACH == 0, packets));
        }
    }
    let (mut sent, mut expected) = (Vec::new(), Vec::new());
    // A tenth of the flows go on at the same time.
    let mut waiting = flows.into_iter();
    let mut going: Vec<_> = waiting.by_ref().take(FLOWS / 10).collect();
    let mut at = 0;
    while !going.is_empty() {
        at = (at + 7) % going.len();
        let (matches, packets) = &mut going[at];
        let Some(bytes) = packets.next() else {
            going.swap_remove(at);
            going.extend(waiting.next());
            continue;
        };
        let time_ns = START_NS + sent.len() as i64 * 50_000;
        let packet = Packet::whole(RAW_IP, time_ns, bytes);
        if *matches {
            expected.push(packet.clone());
        }
        sent.push(packet);
    }
    (sent, expected)
}

fn write_filters(path: &Path, modes: &[Mode]) -> HashSet<String> {
    let mut text = String::new();
    let mut ids = HashSet::new();
    for (nth, mode) in modes.iter().enumerate() {
        for number in (0..FLOWS).step_by(EACH) {
            let number = nth * FLOWS + number;
            let (id, pattern) = (mode.id(number), mode.pattern(number));
            text += &processor::filter(&id, mode.filter, pattern);
            ids.insert(id);
        }
    }
    fs::write(path, text).unwrap();
    ids
}

/// Has a node with some modes look at their traffic, and disturbs it meanwhile.
fn check(
    command: &[&str],
    modes: &[Mode],
    workers: &str,
    more: &[&str],
    disturb: impl FnOnce(&Node),
) {
    let folder = tempdir().unwrap();
    let (sent, expected) = traffic(modes);
    let path = folder.path().join("sent.pcap");
    capture::write(&path, &sent).unwrap();
    let filters = folder.path().join("filters.toml");
    let ids = write_filters(&filters, modes);
    let sink = folder.path().join("sink");
    let node = Node::follow(command, &path, &filters, &sink, workers, more).unwrap();
    disturb(&node);
    let outcome = node.finish(2 * PATIENCE).unwrap();
    assert_eq!(outcome.code(), 0, "{}{}", outcome.stdout, outcome.stderr);
    let arrived = capture::read(&sink.join("packets.pcapng")).unwrap().packets;
    let difference = Difference::between(&expected, &arrived);
    assert!(
        difference.is_none(),
        "{command:?}, {workers} workers: {difference}"
    );
    let told = processor::told(&sink).unwrap();
    let mut seen = HashSet::new();
    for packet in &told {
        let [id] = &packet.matched_filter_ids[..] else {
            panic!("{:?}", packet.matched_filter_ids);
        };
        seen.insert(id.clone());
    }
    assert_eq!(seen, ids, "{command:?}, {workers} workers");
}

#[test]
fn exactly_the_packets_of_matching_flows_arrive() {
    for mode in MODES {
        for workers in ["1", "2", "4", "8"] {
            check(&[mode.name], &[mode], workers, &[], |_| {});
        }
    }
}

#[test]
fn modes_are_combined_on_one_node() {
    let command = ["hunt", "--modes", "voip,dns,http,tls,email"];
    for workers in ["1", "4"] {
        check(&command, &MODES, workers, &[], |_| {});
    }
}

#[test]
fn workers_may_die() {
    const DEATHS: u64 = 6;
    for mode in MODES {
        let packets = traffic(&[mode]).0.len() as u64;
        check(
            &[mode.name],
            &[mode],
            "2",
            &["--replay-rate", "2000pps"],
            |node| {
                for round in 1..=DEATHS {
                    let due = packets * round / (DEATHS + 1);
                    node.wait_until(|status| {
                        counter(status, "worker_received_packets_total") >= due
                    });
                    let name = ["lc-workerd 0", "lc-workerd 1"][round as usize % 2];
                    if let Some(pid) = node.daemon(name) {
                        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                    }
                }
            },
        );
    }
}
