//! Live capture on a veth pair, each test in a network namespace of its own thread, which vanishes with it. Needs root.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::net::UdpSocket;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lc_capd::bpf::{Expression, Pushed};
use lc_capd::source::live::{Left, Live, LiveOptions};
use lc_capd::source::{
    FullRing, Interfaces, Poll, Predecessor, Source, SourceError, State, Status,
};
use lc_daemon::attach::WorkerRegions;
use lc_daemon::config::CaptureBackend;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use shm_layout::counters::CaptureCounter;
use shm_layout::session::QueueState;

/// Longest wait for anything to happen.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs `test` with each backend in a new network namespace with veth pair `near`-`far`, or says that it is skipped.
fn in_namespace(name: &str, test: impl Fn(CaptureBackend) + Send + Copy + 'static) {
    for backend in [CaptureBackend::Packet, CaptureBackend::Pcap] {
        in_one_namespace(name, move || test(backend));
    }
}

/// Runs `test` in a new network namespace with veth pair `near`-`far`, or says that it is skipped.
fn in_one_namespace(name: &str, test: impl FnOnce() + Send + 'static) {
    let name = name.to_owned();
    let outcome = thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            lc_tests::skipped!("{name}: no network namespace can be made ({error}); run as root");
            return;
        }
        make_pair();
        test();
    });
    outcome.join().unwrap();
}

fn ip(arguments: &str) {
    // The child inherits this thread's namespace.
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn make_pair() {
    // Nobody but the test shall send anything, as the kernel does where it has IPv6.
    fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1").unwrap();
    ip("link set lo up");
    ip("link add near type veth peer name far");
    ip("addr add 10.99.0.1/24 dev near");
    ip("link set far up");
    ip("link set near up");
    ip("neigh replace 10.99.0.2 lladdr 02:00:00:00:00:02 dev near");
}

fn send(port: u16, count: u32) {
    send_from(port, 0, count);
}

fn send_from(port: u16, first: u32, count: u32) {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    for number in first..first + count {
        socket
            .send_to(&number.to_be_bytes(), ("10.99.0.2", port))
            .unwrap();
    }
}

fn options(backend: CaptureBackend) -> LiveOptions {
    LiveOptions {
        backend,
        timeout: Duration::from_millis(20),
        ..LiveOptions::default()
    }
}

fn open(backend: CaptureBackend, device: &str, filter: &str) -> Live {
    Live::open(
        device,
        options(backend),
        &Expression::new(filter, &[]),
        Interfaces::default(),
    )
    .unwrap()
}

/// A packet's time, link type and UDP payload.
type Seen = (u64, u16, Vec<u8>);

fn poll(live: &mut Live, seen: &mut Vec<Seen>) -> Poll {
    live.poll(64, &mut |packet| {
        assert!(packet.data.len() as u32 <= packet.original_length);
        seen.push((
            packet.timestamp_ns,
            packet.link_type,
            packet.data[packet.data.len() - 4..].to_vec(),
        ));
        ControlFlow::Continue(())
    })
    .unwrap()
}

fn poll_until(
    live: &mut Live,
    seen: &mut Vec<Seen>,
    mut done: impl FnMut(&mut Live, &[Seen]) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    while !done(live, seen) {
        assert!(
            Instant::now() < deadline,
            "gave up with {} packets, {:?}",
            seen.len(),
            live.status()
        );
        poll(live, seen);
    }
}

/// Stops the source and takes what is left; the ledger must balance.
fn finish(mut live: Live, mut seen: Vec<Seen>, filtered: &mut Vec<Seen>) {
    live.stop();
    poll_until(&mut live, &mut seen, |_, _| true);
    while poll(&mut live, &mut seen) != Poll::Finished {}
    let status = live.status();
    assert_eq!(
        status.received,
        status.dropped + status.rejected + seen.len() as u64,
        "{status:?}"
    );
    filtered.append(&mut seen);
}

#[test]
fn packets_arrive_with_count_time_and_a_balanced_ledger() {
    in_namespace("arrival", |backend| {
        let interfaces = Interfaces::default();
        let mut live = Live::open(
            "far",
            options(backend),
            &Expression::default(),
            interfaces.clone(),
        )
        .unwrap();
        live.set_filter(&Expression::new("udp port 5060", &[]))
            .unwrap();
        assert_eq!((live.full_ring(), live.link_type()), (FullRing::Drop, 1));
        let before = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64;
        send(5060, 500);
        send(53, 100);
        let mut seen = vec![];
        poll_until(&mut live, &mut seen, |_, seen| seen.len() >= 500);
        let after = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_nanos() as u64;
        let mut all = vec![];
        finish(live, seen, &mut all);
        assert_eq!(
            all.iter()
                .map(|packet| packet.2.clone())
                .collect::<Vec<_>>(),
            (0..500u32)
                .map(|n| n.to_be_bytes().to_vec())
                .collect::<Vec<_>>()
        );
        assert!(all.iter().all(|packet| (before..after).contains(&packet.0)));
        assert!(
            all.iter().any(|packet| packet.0 % 1000 != 0),
            "timestamps have nanoseconds"
        );
        assert_eq!(interfaces.rows()[0].name, "far");
    });
}

#[test]
fn any_is_cooked_and_filtered_in_the_kernel() {
    in_namespace("any", |backend| {
        let mut live = open(backend, "any", "udp dst port 5060 and dst host 10.99.0.2");
        send(53, 50);
        send(5060, 50);
        let mut seen = vec![];
        // The pair shows each packet twice: leaving one end, entering the other.
        poll_until(&mut live, &mut seen, |_, seen| seen.len() >= 100);
        let mut all = vec![];
        finish(live, seen, &mut all);
        assert_eq!(all.len(), 100);
        assert!(all.iter().all(|packet| packet.1 == 113));
    });
}

#[test]
fn a_packet_over_loopback_counts_once() {
    in_namespace("loopback", |backend| {
        for device in ["lo", "any"] {
            let mut live = open(backend, device, "udp port 5060");
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for number in 0..20_u32 {
                socket
                    .send_to(&number.to_be_bytes(), "127.0.0.1:5060")
                    .unwrap();
            }
            let mut seen = Vec::new();
            poll_until(&mut live, &mut seen, |_, seen| seen.len() >= 20);
            finish(live, seen, &mut Vec::new());
        }
    });
}

#[test]
fn replacing_the_filter_loses_nothing_that_both_accept() {
    in_namespace("replacement", |backend| {
        const COUNT: u32 = 20_000;
        let mut live = open(backend, "far", "udp port 5060");
        let namespace = fs::File::open("/proc/thread-self/ns/net").unwrap();
        let sender = thread::spawn(move || {
            nix::sched::setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            send(5060, COUNT);
        });
        let mut seen = vec![];
        let mut replaced = 0u32;
        while !sender.is_finished() {
            let pushed = [Pushed {
                id: "1".into(),
                pattern: format!("port 5060 or port {}", replaced % 1000 + 1),
            }];
            let (expression, refused) =
                Expression::new("udp", &["192.0.2.1:55555".parse().unwrap()])
                    .with_pushed(pushed, &[1]);
            assert!(refused.is_empty());
            live.set_filter(&expression).unwrap();
            replaced += 1;
            poll(&mut live, &mut seen);
        }
        sender.join().unwrap();
        assert!(
            live.set_filter(&Expression::new("udp porte 1", &[]))
                .unwrap_err()
                .to_string()
                .contains("udp porte 1")
        );
        let mut all = vec![];
        let dropped = live.status().dropped;
        finish(live, seen, &mut all);
        assert!(replaced > 1);
        let numbers: Vec<_> = all
            .iter()
            .map(|packet| u32::from_be_bytes(packet.2[..].try_into().unwrap()))
            .collect();
        assert_eq!(
            (numbers.len() as u64 + dropped, dropped),
            (COUNT.into(), 0),
            "{replaced} replacements"
        );
        assert!(numbers.is_sorted());
    });
}

#[test]
fn an_interface_that_comes_back_is_captured_again() {
    in_namespace("return", |backend| {
        let mut live = open(backend, "far", "udp port 5060");
        let mut seen = vec![];
        send(5060, 10);
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 10);
        ip("link del near");
        poll_until(&mut live, &mut seen, |live, _| {
            matches!(live.status().state, State::Retrying { .. })
        });
        make_pair();
        poll_until(&mut live, &mut seen, |live, _| {
            live.status().state == State::Up
        });
        let status = live.status();
        assert_eq!(status.reopened, 1);
        assert!(!status.lost_time.is_zero());
        // The filter holds on the new socket, too.
        send(53, 10);
        send(5060, 10);
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 20);
        let mut all = vec![];
        finish(live, seen, &mut all);
        assert_eq!(all.len(), 20);
    });
}

#[test]
fn a_link_that_is_down_is_shown_and_kept() {
    in_namespace("down", |backend| {
        let mut live = open(backend, "far", "udp port 5060");
        let mut seen = vec![];
        ip("link set far down");
        poll_until(&mut live, &mut seen, |live, _| {
            live.status().state == State::Down
        });
        ip("link set far up");
        poll_until(&mut live, &mut seen, |live, _| {
            live.status().state == State::Up
        });
        send(5060, 10);
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 10);
        assert_eq!(live.status().reopened, 0);
        let mut all = vec![];
        finish(live, seen, &mut all);
    });
}

#[test]
fn what_cannot_be_opened_is_an_error() {
    in_namespace("errors", |backend| {
        for device in [
            "nonesuch",
            "",
            "a name much longer than names may be",
            "usbmon0",
            "near\0",
        ] {
            let error = Live::open(
                device,
                options(backend),
                &Expression::default(),
                Interfaces::default(),
            )
            .err()
            .unwrap();
            assert!(
                matches!(&error, SourceError::NoSuchInterface { name } if name == device),
                "{error}"
            );
        }
        let mut live = Live::open(
            "near",
            options(backend),
            &Expression::default(),
            Interfaces::default(),
        )
        .unwrap();
        let error = live
            .set_filter(&Expression::new("host or or", &[]))
            .unwrap_err();
        assert!(error.to_string().contains("syntax error"), "{error}");
        // An interface that is down at the start is waited for.
        ip("link set near down");
        let mut live = Live::open(
            "near",
            options(backend),
            &Expression::default(),
            Interfaces::default(),
        )
        .unwrap();
        assert_ne!(live.status().state, State::Up);
        ip("link set near up");
        poll_until(&mut live, &mut vec![], |live, _| {
            live.status().state == State::Up
        });
    });
}

const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 7];

/// Ethernet frames of many kinds, `rounds` times, each with a number in its last bytes.
fn frames(rounds: u32) -> Vec<Vec<u8>> {
    let addresses = [[2, 0, 0, 0, 0, 9], SENDER].concat();
    let udp = |port: u16, length: usize| {
        let total = (28 + length) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(total.to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend([0x13, 0xc4]);
        packet.extend(port.to_be_bytes());
        packet.extend((8 + length as u16).to_be_bytes());
        packet.resize(usize::from(total), 0);
        packet
    };
    let (ip, tag, service, arp) = ([8, 0], [0x81, 0, 0, 5], [0x88, 0xa8, 0, 100], [8, 6]);
    let priority = [0x81, 0, 0xe0, 0];
    let kinds: Vec<Vec<u8>> = vec![
        [&ip[..], &udp(5060, 20)].concat(),
        [&tag[..], &ip, &udp(5060, 20)].concat(),
        [&priority[..], &ip, &udp(5060, 20)].concat(),
        [&service[..], &tag, &ip, &udp(5060, 20)].concat(),
        [&tag[..], &tag, &ip, &udp(53, 20)].concat(),
        [&ip[..], &udp(53, 1400)].concat(),
        [&tag[..], &ip, &udp(53, 1400)].concat(),
        [&arp[..], &[0; 28]].concat(),
        // Length instead of a type, an unknown one, and nothing behind the header.
        [&[0, 40][..], &[0xaa; 40]].concat(),
        [&[0x12, 0x34][..], &[0; 30]].concat(),
        vec![0x12, 0x34],
    ];
    let mut number = 0_u32;
    let mut frames = Vec::new();
    for _ in 0..rounds {
        for kind in &kinds {
            let mut frame = [&addresses[..], kind].concat();
            let length = frame.len();
            if length > 30 {
                frame[length - 4..].copy_from_slice(&number.to_be_bytes());
            }
            frames.push(frame);
            number += 1;
        }
    }
    frames
}

/// A packet's lengths, link type and all of its bytes.
type Whole = (u32, u16, Vec<u8>);

fn all_of(live: &mut Live) -> Vec<Whole> {
    live.stop();
    let mut all = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < deadline, "gave up: {:?}", live.status());
        let polled = live.poll(64, &mut |packet| {
            // The kernel sends some of its own accord. In Ethernet and cooked headers the sender's address stands at the same place.
            if packet.data[6..12] == SENDER {
                all.push((
                    packet.original_length,
                    packet.link_type,
                    packet.data.to_vec(),
                ));
            }
            ControlFlow::Continue(())
        });
        if polled.unwrap() == Poll::Finished {
            return all;
        }
    }
}

/// It makes no difference to anybody who has captured: tags, cooked headers, cut packets, and what a filter takes them for.
#[test]
fn both_backends_show_the_same() {
    in_one_namespace("same", || {
        let filters = [
            "",
            "vlan",
            "vlan 5",
            "not vlan",
            "vlan 5 and udp port 5060",
            "udp port 5060",
            "arp or greater 200",
            "ether src 02:00:00:00:00:07",
            "inbound",
            "outbound",
        ];
        let mut seen = 0;
        for (device, snap_length) in [
            ("far", 65_535),
            ("near", 65_535),
            ("any", 65_535),
            ("far", 64),
            ("any", 64),
        ] {
            for filter in filters {
                let opened = [CaptureBackend::Packet, CaptureBackend::Pcap].map(|backend| {
                    let options = LiveOptions {
                        snap_length,
                        ..options(backend)
                    };
                    let expression = Expression::new(filter, &[]);
                    Live::open(device, options, &expression, Interfaces::default())
                });
                let [Ok(mut ours), Ok(mut libpcap)] = opened else {
                    assert!(opened.iter().all(Result::is_err), "{device}, {filter:?}");
                    continue;
                };
                let mut sender = pcap::Capture::from_device("near").unwrap().open().unwrap();
                for frame in frames(3) {
                    sender.sendpacket(&frame[..]).unwrap();
                }
                let (ours, libpcap) = (all_of(&mut ours), all_of(&mut libpcap));
                assert_eq!(ours.len(), libpcap.len(), "{device}, {filter:?}");
                for (ours, libpcap) in ours.iter().zip(&libpcap) {
                    assert_eq!(ours, libpcap, "{device}, {filter:?}");
                }
                seen += ours.len();
            }
        }
        assert!(seen > 500, "{seen}");
    });
}

#[test]
fn both_backends_have_the_same_link_types() {
    in_one_namespace("types", || {
        for (device, link_type) in [("lo", 1), ("far", 1), ("any", 113), ("tunnel", 12)] {
            if device == "tunnel" {
                let mut made = Command::new("ip");
                made.args(["tuntap", "add", "mode", "tun", "name", device]);
                if !made.status().unwrap().success() {
                    lc_tests::skipped!("no tun device can be made");
                    continue;
                }
                ip("link set tunnel up");
            }
            for backend in [CaptureBackend::Packet, CaptureBackend::Pcap] {
                let live = open(backend, device, "");
                assert_eq!(live.link_type(), link_type, "{device}, {backend:?}");
            }
        }
    });
}

#[test]
fn what_only_libpcap_knows_is_captured_by_it_and_said() {
    in_one_namespace("fallback", || {
        // By its name libpcap takes it for ISDN, whose frames are none of Ethernet.
        ip("link set far down");
        ip("link set far name isdn0");
        ip("link set isdn0 up");
        let mut live = open(CaptureBackend::Auto, "isdn0", "udp port 5060");
        send(5060, 10);
        let mut seen = vec![];
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 10);
        let note = live.status().note;
        assert!(note.starts_with("captured through libpcap"), "{note}");
        assert_eq!(
            live.link_type(),
            open(CaptureBackend::Pcap, "isdn0", "").link_type()
        );
        let refused = Live::open(
            "isdn0",
            options(CaptureBackend::Packet),
            &Expression::default(),
            Interfaces::default(),
        );
        let refused = refused.err().unwrap().to_string();
        assert!(refused.contains("--capture-backend"), "{refused}");
        assert_eq!(open(CaptureBackend::Auto, "near", "").status().note, "");
    });
}

/// A capture that has died: what it had published, and the socket that was kept.
struct Dead {
    published: Predecessor,
    left: Vec<(String, OwnedFd)>,
    /// The numbers that it delivered.
    safe: Vec<u32>,
}

fn numbers(seen: &[Seen]) -> Vec<u32> {
    let number = |packet: &Seen| u32::from_be_bytes(packet.2[..].try_into().unwrap());
    seen.iter().map(number).collect()
}

/// Captures `first` packets on `far` and publishes that, sends `second` more, and dies with some of them delivered and none published.
fn dies(options: LiveOptions, first: u32, second: u32) -> Dead {
    let expression = Expression::new("udp port 5060", &[]);
    let mut live = Live::open("far", options, &expression, Interfaces::default()).unwrap();
    let mut seen = vec![];
    send(5060, first);
    poll_until(&mut live, &mut seen, |_, seen| seen.len() as u32 == first);
    let status = live.status();
    let published = Predecessor {
        next: first.into(),
        received: status.received,
        dropped: status.dropped,
        lost: status.lost,
    };
    let safe = numbers(&seen);
    send_from(5060, first, second);
    poll_until(&mut live, &mut seen, |_, seen| {
        second == 0 || seen.len() as u32 > first
    });
    // A reading that nobody hears of.
    live.status();
    let (name, socket) = live.socket().unwrap();
    let left = vec![(name.to_owned(), socket.try_clone_to_owned().unwrap())];
    Dead {
        published,
        left,
        safe,
    }
}

fn open_after(device: &str, options: LiveOptions, dead: &mut Dead) -> Live {
    let expression = Expression::new("udp port 5060 or port 53", &[]);
    let left = Left::take_from(&mut dead.left, 0);
    assert!(dead.left.is_empty());
    Live::open_after(device, options, &expression, Interfaces::default(), left).unwrap()
}

/// The successor's account, behind what the dead one has published.
fn assert_balanced_after(dead: &Dead, status: &Status, delivered: usize) {
    assert_eq!(
        dead.published.received + status.received,
        dead.published.dropped
            + status.dropped
            + status.lost
            + (dead.safe.len() + delivered) as u64,
        "{status:?}"
    );
}

#[test]
fn a_successor_reads_on_behind_what_was_published() {
    in_one_namespace("successor", || {
        let options = options(CaptureBackend::Packet);
        let mut dead = dies(options, 300, 200);
        send_from(5060, 500, 100);
        // The filter of the dead one holds until the successor knows the present one.
        send(53, 50);
        let mut live = open_after("far", options, &mut dead);
        assert!(live.resume(&dead.published));
        let mut seen = vec![];
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 300);
        live.set_filter(&Expression::new("udp port 53", &[]))
            .unwrap();
        send(5060, 50);
        send_from(53, 600, 10);
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 310);
        assert!(numbers(&seen).into_iter().eq(300..610));
        live.stop();
        while poll(&mut live, &mut seen) != Poll::Finished {}
        let status = live.status();
        assert_balanced_after(&dead, &status, seen.len());
        assert_eq!((seen.len(), status.lost, status.reopened), (310, 0, 0));
    });
}

#[test]
fn a_predecessors_socket_that_is_not_wanted_is_read_to_its_end() {
    in_one_namespace("unwanted", || {
        let before = options(CaptureBackend::Packet);
        let promiscuous = LiveOptions {
            promiscuous: true,
            ..before
        };
        let larger = LiveOptions {
            kernel_buffer: 32 << 20,
            ..before
        };
        let through_libpcap = options(CaptureBackend::Pcap);
        for (device, after) in [
            ("far", promiscuous),
            ("far", larger),
            ("far", through_libpcap),
            ("near", before),
        ] {
            let mut dead = dies(before, 300, 200);
            let mut live = open_after(device, after, &mut dead);
            assert!(!live.resume(&dead.published));
            let mut seen = vec![];
            poll_until(&mut live, &mut seen, |live, seen| {
                seen.len() == 200 && live.status().state == State::Up
            });
            assert!(numbers(&seen).into_iter().eq(300..500));
            send_from(5060, 500, 10);
            poll_until(&mut live, &mut seen, |_, seen| seen.len() == 210);
            live.stop();
            while poll(&mut live, &mut seen) != Poll::Finished {}
            let status = live.status();
            assert_balanced_after(&dead, &status, seen.len());
            assert_eq!((status.lost, status.reopened), (0, 1), "{device}");
        }
    });
}

#[test]
fn an_interface_that_went_while_nobody_captured_is_read_to_its_end() {
    in_one_namespace("went", || {
        let options = options(CaptureBackend::Packet);
        let mut dead = dies(options, 300, 200);
        ip("link del near");
        let mut live = open_after("far", options, &mut dead);
        live.resume(&dead.published);
        let mut seen = vec![];
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 200);
        assert!(numbers(&seen).into_iter().eq(300..500));
        assert!(matches!(live.status().state, State::Retrying { .. }));
        make_pair();
        poll_until(&mut live, &mut seen, |live, _| {
            live.status().state == State::Up
        });
        send_from(5060, 500, 10);
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 210);
        assert_balanced_after(&dead, &live.status(), seen.len());
    });
}

/// The kernel of a cooked socket does not see the sender's address: the filter is applied here, and what it keeps back is counted.
#[test]
fn a_filter_in_user_space_keeps_the_account() {
    in_one_namespace("user space", || {
        let options = options(CaptureBackend::Packet);
        let filter = Expression::new("link[5] = 6 and udp dst port 5060 and inbound", &[]);
        let mut live = Live::open("any", options, &filter, Interfaces::default()).unwrap();
        let mut seen = vec![];
        for round in 0..5 {
            send_from(5060, 20 * round, 20);
            send(53, 30);
        }
        poll_until(&mut live, &mut seen, |live, seen| {
            seen.len() == 100 && live.status().rejected >= 400
        });
        let status = live.status();
        let published = Predecessor {
            next: live.position(),
            received: status.received,
            dropped: status.dropped,
            lost: status.lost,
        };
        assert_eq!(published.next, 100 + status.rejected);
        // What the kernel sends of itself may have come and not been read.
        let unread = published.received - published.next;
        let (name, socket) = live.socket().unwrap();
        let mut left = vec![(name.to_owned(), socket.try_clone_to_owned().unwrap())];
        drop(live);
        let left = Left::take_from(&mut left, 0);
        let mut live =
            Live::open_after("any", options, &filter, Interfaces::default(), left).unwrap();
        assert!(live.resume(&published));
        live.set_filter(&filter).unwrap();
        send(53, 30);
        send_from(5060, 100, 20);
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 120);
        live.stop();
        while poll(&mut live, &mut seen) != Poll::Finished {}
        let after = live.status();
        assert!(numbers(&seen).into_iter().eq(0..120));
        assert_eq!(
            after.received + unread,
            after.dropped + after.rejected + 20,
            "{after:?}"
        );
    });
}

/// Without the shared memory of the dead one nobody knows how far it had come.
#[test]
fn a_socket_without_an_account_is_given_up_and_counted() {
    in_one_namespace("no account", || {
        let options = options(CaptureBackend::Packet);
        let mut dead = dies(options, 300, 0);
        send_from(5060, 300, 50);
        let mut live = open_after("far", options, &mut dead);
        let mut seen = vec![];
        poll_until(&mut live, &mut seen, |live, _| live.status().reopened == 1);
        send_from(5060, 350, 10);
        poll_until(&mut live, &mut seen, |_, seen| seen.len() == 10);
        assert!(numbers(&seen).into_iter().eq(350..360));
        let status = live.status();
        assert_eq!((status.received, status.lost), (60, 50));
    });
}

/// A ring that the last commit does not fit, and that of libpcap: what they held is counted.
#[test]
fn what_cannot_be_read_on_is_counted() {
    in_one_namespace("unreadable", || {
        let ours = options(CaptureBackend::Packet);
        let libpcap = options(CaptureBackend::Pcap);
        for (before, after, place) in [(ours, ours, 1), (libpcap, libpcap, 0), (libpcap, ours, 0)] {
            let mut dead = dies(before, 300, 200);
            // One packet less than was published: the ring begins behind it.
            dead.published.next -= place;
            dead.safe.truncate(300 - place as usize);
            let mut live = open_after("far", after, &mut dead);
            assert!(!live.resume(&dead.published));
            let mut seen = vec![];
            poll_until(&mut live, &mut seen, |live, _| {
                live.status().state == State::Up
            });
            send_from(5060, 500, 10);
            poll_until(&mut live, &mut seen, |_, seen| seen.len() == 10);
            live.stop();
            while poll(&mut live, &mut seen) != Poll::Finished {}
            let status = live.status();
            assert_balanced_after(&dead, &status, seen.len());
            // A reading that nobody has heard of is known again only from a ring of ours.
            let known = if place == 1 { 201 } else { 0 };
            assert_eq!(status.lost, known, "{status:?}");
            assert!(numbers(&seen).into_iter().eq(500..510));
        }
    });
}

/// The program in a process of its own, which does not outlive the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Fails when the process has ended, which is what is wanted.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_daemon_captures_on_several_interfaces_and_tells_of_a_lost_one() {
    in_namespace("daemon", |backend| {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let config = dir.path().join("capd.toml");
        let lines = format!(
            "pcap_timeout_ms = 20\n[hunter]\nprocessor_addr = \"127.0.0.1:55555\"\ninsecure = true\nid = \"test\"\nworkers = 1\n\
             buffer_size = 100\nbatch_queue_size = 1\ninterfaces = [\"near\", \"far\"]\nbpf_filter = \"udp port 5060\"\nruntime_dir = {run_dir:?}\n\
             capture_backend = \"{}\"\n",
            if backend == CaptureBackend::Packet {
                "packet"
            } else {
                "pcap"
            }
        );
        fs::write(&config, lines).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lc-capd"))
            .arg("--config")
            .arg(config)
            .spawn();
        let mut process = Process(child.unwrap());
        let worker = until(|| WorkerRegions::attach(&run_dir, 0).ok());
        let session = &worker.session;
        let captured = |queue| {
            let commit = session.queue_commit(queue, 1).unwrap();
            assert_eq!(commit.get(CaptureCounter::Captured), commit.steered(0));
            commit.get(CaptureCounter::Captured)
        };
        let running = |queue| session.queue_state(queue).0 == QueueState::Running;
        until(|| (running(0) && running(1)).then_some(()));
        send(5060, 100);
        send(53, 100);
        until(|| (captured(0) == 100 && captured(1) == 100).then_some(()));
        ip("link del near");
        let lost = |queue| matches!(session.queue_state(queue), (QueueState::Retrying, reason) if !reason.is_empty());
        until(|| (lost(0) && lost(1)).then_some(()));
        make_pair();
        until(|| (running(0) && running(1)).then_some(()));
        send(5060, 100);
        until(|| (captured(0) == 200 && captured(1) == 200).then_some(()));
        let names: Vec<_> = (0..2)
            .map(|index| session.interface(index).unwrap().name)
            .collect();
        assert_eq!(names, ["near", "far"]);
        kill(Pid::from_raw(process.0.id() as i32), Signal::SIGTERM).unwrap();
        let status = process.0.wait().unwrap();
        assert_eq!(status.code(), Some(0));
        for queue in 0..2 {
            let commit = session.queue_commit(queue, 1).unwrap();
            let count = |counter| commit.get(counter);
            assert_eq!(session.queue_state(queue).0, QueueState::Stopped);
            assert_eq!(
                count(CaptureCounter::KernelReceived),
                count(CaptureCounter::KernelDropped) + count(CaptureCounter::Captured)
            );
            assert_eq!(
                (
                    count(CaptureCounter::Captured),
                    count(CaptureCounter::Reopened)
                ),
                (200, 1)
            );
        }
    });
}

/// The socket is stored before it receives, whatever becomes of the interface, and taken out again when capture ends for good.
#[test]
fn the_daemon_stores_its_socket_until_capture_ends() {
    in_namespace("store", |backend| {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().join("run");
        let config = dir.path().join("capd.toml");
        let name = match backend {
            CaptureBackend::Pcap => "pcap",
            _ => "packet",
        };
        let lines = format!(
            "[hunter]\nprocessor_addr = \"127.0.0.1:55555\"\ninsecure = true\nid = \"test\"\nworkers = 1\nbuffer_size = 100\n\
             batch_queue_size = 1\ninterfaces = [\"far\"]\nruntime_dir = {run_dir:?}\ncapture_backend = \"{name}\"\n"
        );
        fs::write(&config, lines).unwrap();
        let manager = UnixDatagram::bind(dir.path().join("notify")).unwrap();
        manager.set_read_timeout(Some(PATIENCE)).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_lc-capd"))
            .arg("--config")
            .arg(config)
            .env("NOTIFY_SOCKET", dir.path().join("notify"))
            .spawn();
        let mut process = Process(child.unwrap());
        let message_with = |word: &str| loop {
            let mut bytes = [0; 1024];
            let length = manager.recv(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
            if text.contains(word) {
                return text;
            }
        };
        let stored = message_with(&format!("FDNAME={name}.0."));
        let own_name = stored
            .lines()
            .find(|line| line.starts_with("FDNAME="))
            .unwrap();
        assert!(
            stored.contains("FDSTORE=1\n") && stored.contains("FDPOLL=0\n"),
            "{stored}"
        );
        message_with("READY=1");
        let pid = Pid::from_raw(process.0.id() as i32);
        kill(pid, Signal::SIGUSR2).unwrap();
        assert!(message_with("FDSTOREREMOVE=1").contains(own_name));
        message_with("X_LC_CLOSED=1");
        kill(pid, Signal::SIGTERM).unwrap();
        assert_eq!(process.0.wait().unwrap().code(), Some(0));
    });
}

#[track_caller]
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "gave up waiting");
        thread::yield_now();
    }
}
