//! A ring under traffic, whose readers end at any point and are followed by others. In a network namespace of the test's own.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::net::UdpSocket;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use packet_socket::{Address, Geometry, Identity, PacketSocket, Place, Ring, Target, link};
use socket2::SockFilter;

const GEOMETRY: Geometry = Geometry {
    block_bytes: 4096,
    blocks: 8,
};
const RETIRE: Duration = Duration::from_millis(5);
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `test` in a namespace that has loopback alone, or says that it is skipped.
fn in_namespace(test: impl FnOnce(u32) + Send + 'static) {
    let outcome = thread::spawn(move || {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            lc_tests::skipped!("no network namespace can be made ({error}); run as root");
            return;
        }
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        test(nix::net::if_::if_nametoindex("lo").unwrap());
    });
    outcome.join().unwrap();
}

fn identity() -> Identity {
    Identity {
        name: "lo".into(),
        link_type: link::ETHERNET,
        promiscuous: false,
    }
}

/// Accepts what was received (not what was sent) and has a length of `4 + 42` bytes; a packet over loopback is seen both ways.
fn received_only() -> [SockFilter; 6] {
    [
        SockFilter::new(0x28, 0, 0, 0xffff_f004),
        SockFilter::new(0x15, 3, 0, 4),
        SockFilter::new(0x80, 0, 0, 0),
        SockFilter::new(0x15, 0, 1, 46),
        SockFilter::new(0x06, 0, 0, 65_535),
        SockFilter::new(0x06, 0, 0, 0),
    ]
}

fn ring(index: u32) -> Ring {
    let target = Target::Interface(index);
    let socket = PacketSocket::new(target).unwrap();
    socket.make_ring(&GEOMETRY, RETIRE).unwrap();
    socket.attach(&received_only()).unwrap();
    let ring = Ring::new(socket, &GEOMETRY, identity()).unwrap();
    ring.socket().start(target).unwrap();
    ring
}

fn inherited(ring: &Ring) -> Ring {
    let kept = ring.socket().as_fd().try_clone_to_owned().unwrap();
    Ring::inherited(kept.into(), &GEOMETRY).unwrap()
}

fn send(socket: &UdpSocket, numbers: std::ops::Range<u32>) {
    for number in numbers {
        socket
            .send_to(&number.to_be_bytes(), "127.0.0.1:5060")
            .unwrap();
    }
}

fn number(data: &[u8]) -> u32 {
    u32::from_be_bytes(data[data.len() - 4..].try_into().unwrap())
}

/// The readers die with packets given but not in safety, blocks not handed back, and counters read but not published.
#[test]
fn readers_come_and_go_and_every_packet_counts_once() {
    in_namespace(|index| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let mut ring = ring(index);
        let mut place = Place::default();
        let mut safe: Vec<u32> = Vec::new();
        let mut sent = 0;
        let mut random = 12_345_u32;
        let mut below = |limit: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) % limit
        };
        let deadline = Instant::now() + PATIENCE;
        while sent < 6_000 || ring.counted().0 > ring.counted().1 + safe.len() as u64 {
            assert!(
                Instant::now() < deadline,
                "{sent} sent, {} safe, {:?}",
                safe.len(),
                ring.counted()
            );
            if sent < 6_000 {
                let burst = below(60);
                send(&socket, sent..sent + burst);
                sent += burst;
            } else {
                ring.socket().wait(RETIRE);
            }
            let mut given = Vec::new();
            let mut sequence = place.next;
            let give = |at: u64, packet: packet_socket::Packet<'_>| {
                assert_eq!(at, place.next + given.len() as u64);
                assert_eq!((packet.data.len(), packet.original_length), (46, 46));
                given.push(number(packet.data));
            };
            ring.take(below(100) as usize, 65_535, &mut sequence, give)
                .unwrap();
            ring.count().unwrap();
            if below(4) == 0 {
                // Death before anything is in safety.
                ring = inherited(&ring);
                ring.resume(&place).unwrap();
                continue;
            }
            safe.extend(given);
            let (received, dropped) = ring.counted();
            place = Place {
                next: sequence,
                received,
                dropped,
            };
            if below(4) == 0 {
                // Death before the blocks are handed back.
                ring = inherited(&ring);
                ring.resume(&place).unwrap();
            }
            if below(8) > 0 {
                ring.release();
            }
        }
        ring.count().unwrap();
        let (received, dropped) = ring.counted();
        assert_eq!(received, u64::from(sent));
        assert_eq!(received, dropped + safe.len() as u64);
        assert!(safe.is_sorted_by(|a, b| a < b), "each once, in order");
        assert!(dropped > 0, "the ring was full at times");
        println!("{received} received, {dropped} dropped");
    });
}

#[test]
fn what_was_not_made_by_this_crate_is_refused() {
    in_namespace(|index| {
        let target = Target::Interface(index);
        let made = ring(index);
        assert_eq!(made.identity(), &identity());
        assert_eq!(
            made.socket().address().unwrap(),
            Address {
                target: Some(target),
                hardware_type: libc::ARPHRD_LOOPBACK
            }
        );
        let kept = || {
            let kept = made.socket().as_fd().try_clone_to_owned().unwrap();
            PacketSocket::from(kept)
        };
        for other in [
            Geometry {
                block_bytes: 8192,
                blocks: 8,
            },
            Geometry {
                block_bytes: 4096,
                blocks: 4,
            },
            Geometry {
                block_bytes: 8192,
                blocks: 4,
            },
        ] {
            assert!(Ring::inherited(kept(), &other).is_err());
        }
        let strange = PacketSocket::new(target).unwrap();
        assert!(Ring::inherited(strange, &GEOMETRY).is_err(), "no ring");
        let strange = PacketSocket::new(target).unwrap();
        strange.make_ring(&GEOMETRY, RETIRE).unwrap();
        let strange = Ring::inherited(strange, &GEOMETRY).err().unwrap();
        assert!(strange.to_string().contains("origin"), "{strange}");
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(PacketSocket::from(OwnedFd::from(file)).check().is_err());
        assert!(PacketSocket::new(Target::Interface(9999)).is_err());
    });
}
