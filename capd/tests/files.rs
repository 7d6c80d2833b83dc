//! Capture files of every dialect, whole and damaged, through the public face of the file source.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lc_capd::bpf::{Expression, Pushed};
use lc_capd::source::file::Files;
use lc_capd::source::{FullRing, Interfaces, Poll, Predecessor, Source, SourceError, State};
use lc_daemon::config::ReplayRate;
use proptest::prelude::*;
use shm_layout::session::InterfaceInfo;

/// A packet as it came out: time, original length, link type, interface name, bytes.
type Seen = (u64, u32, u16, String, Vec<u8>);

fn read(paths: &[PathBuf], expression: &Expression) -> (Vec<Seen>, Vec<SourceError>) {
    let interfaces = Interfaces::default();
    let mut files = match Files::open(paths, interfaces.clone(), ReplayRate::Max) {
        Ok(files) => files,
        Err(error) => return (vec![], vec![error]),
    };
    files.set_filter(expression).unwrap();
    let (mut seen, mut errors) = (vec![], vec![]);
    loop {
        let polled = files.poll(7, &mut |packet| {
            let InterfaceInfo {
                name, link_type, ..
            } = interfaces.rows()[usize::from(packet.interface)].clone();
            assert_eq!(link_type, packet.link_type);
            seen.push((
                packet.timestamp_ns,
                packet.original_length,
                packet.link_type,
                name,
                packet.data.to_vec(),
            ));
            ControlFlow::Continue(())
        });
        match polled {
            Ok(Poll::Finished) => break,
            Ok(_) => {}
            Err(error) => errors.push(error),
        }
    }
    assert_eq!(files.status().received, seen.len() as u64);
    assert_eq!(files.status().state, State::Finished);
    (seen, errors)
}

fn read_one(path: &Path) -> (Vec<Seen>, Vec<SourceError>) {
    read(&[path.to_owned()], &Expression::default())
}

/// Writes files of any byte order.
#[derive(Clone, Copy)]
struct Writer {
    big: bool,
}

impl Writer {
    fn u16(self, value: u16) -> [u8; 2] {
        if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    fn u32(self, value: u32) -> [u8; 4] {
        if self.big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    }

    fn words(self, values: &[u32]) -> Vec<u8> {
        values.iter().flat_map(|value| self.u32(*value)).collect()
    }

    fn pcap_header(self, magic: u32, link_type: u32) -> Vec<u8> {
        [
            &self.u32(magic)[..],
            &self.u16(2),
            &self.u16(4),
            &self.words(&[0, 0, 64, link_type]),
        ]
        .concat()
    }

    fn pcap_packet(self, seconds: u32, fraction: u32, original: u32, data: &[u8]) -> Vec<u8> {
        [
            &self.words(&[seconds, fraction, data.len() as u32, original])[..],
            data,
        ]
        .concat()
    }

    fn block(self, kind: u32, body: &[u8]) -> Vec<u8> {
        let padding = vec![0; body.len().next_multiple_of(4) - body.len()];
        let size = (body.len() + padding.len() + 12) as u32;
        [
            &self.words(&[kind, size])[..],
            body,
            &padding,
            &self.u32(size),
        ]
        .concat()
    }

    fn section(self) -> Vec<u8> {
        self.block(
            0x0a0d_0d0a,
            &[
                &self.u32(0x1a2b_3c4d)[..],
                &self.u16(1),
                &self.u16(0),
                &[0xff; 8],
            ]
            .concat(),
        )
    }

    fn interface(self, link_type: u16, snap_length: u32, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = [&self.u16(link_type)[..], &[0, 0], &self.u32(snap_length)].concat();
        for (code, value) in options {
            body.extend([&self.u16(*code)[..], &self.u16(value.len() as u16), value].concat());
            body.resize(body.len().next_multiple_of(4), 0);
        }
        self.block(1, &body)
    }

    fn enhanced(self, interface: u32, ticks: u64, original: u32, data: &[u8]) -> Vec<u8> {
        let head = self.words(&[
            interface,
            (ticks >> 32) as u32,
            ticks as u32,
            data.len() as u32,
            original,
        ]);
        self.block(6, &[&head[..], data].concat())
    }
}

const LITTLE: Writer = Writer { big: false };
const BIG: Writer = Writer { big: true };

fn write(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn classic_files_of_every_dialect() {
    let dir = tempfile::tempdir().unwrap();
    for writer in [LITTLE, BIG] {
        for (magic, unit) in [(0xa1b2_c3d4, 1000), (0xa1b2_3c4d, 1)] {
            let bytes = [
                writer.pcap_header(magic, 101),
                writer.pcap_packet(1, 2, 9, &[0x45; 9]),
                // Longer than the snap length of the header, and an original length beyond the captured one.
                writer.pcap_packet(u32::MAX, 999_999, 70_000, &[7; 3000]),
                writer.pcap_packet(0, 0, 0, &[]),
            ]
            .concat();
            let path = write(&dir, "a.pcap", &bytes);
            let (seen, errors) = read_one(&path);
            assert!(errors.is_empty(), "{errors:?}");
            let name = || "a.pcap".to_owned();
            assert_eq!(
                seen,
                [
                    (1_000_000_000 + 2 * unit, 9, 101, name(), vec![0x45; 9]),
                    (
                        u64::from(u32::MAX) * 1_000_000_000 + 999_999 * unit,
                        70_000,
                        101,
                        name(),
                        vec![7; 3000]
                    ),
                    (0, 0, 101, name(), vec![]),
                ]
            );
        }
    }
}

#[test]
fn modified_files_have_longer_packet_headers() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = [
        LITTLE.pcap_header(0xa1b2_cd34, 1),
        LITTLE.words(&[5, 6, 4, 4]),
        vec![0xee; 8],
        vec![1, 2, 3, 4],
    ]
    .concat();
    let (seen, errors) = read_one(&write(&dir, "m.pcap", &bytes));
    assert!(errors.is_empty());
    assert_eq!(
        seen,
        [(5_000_006_000, 4, 1, "m.pcap".to_owned(), vec![1, 2, 3, 4])]
    );
}

#[test]
fn sections_and_interfaces() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = vec![];
    for writer in [LITTLE, BIG] {
        bytes.extend(writer.section());
        bytes.extend(writer.interface(1, 0, &[(2, b"eth0"), (9, &[9])]));
        bytes.extend(writer.block(0x0bad, &[1; 5000]));
        let offset = if writer.big {
            100i64.to_be_bytes()
        } else {
            100i64.to_le_bytes()
        };
        bytes.extend(writer.interface(113, 3, &[(9, &[0x81]), (14, &offset)]));
        bytes.extend(writer.enhanced(0, 1_700_000_000_123_456_789, 60, &[1; 5]));
        bytes.extend(writer.enhanced(1, 3, 5, &[2; 5]));
        let obsolete = [
            &writer.u16(1)[..],
            &[0, 9],
            &writer.words(&[0, 4, 2, 8]),
            &[3, 3],
        ]
        .concat();
        bytes.extend(writer.block(2, &obsolete));
        bytes.extend(writer.section());
        bytes.extend(writer.interface(12, 3, &[]));
        // Four bytes on the wire, three kept by the snap length.
        bytes.extend(writer.block(3, &[&writer.u32(4)[..], &[4, 4, 4]].concat()));
    }
    let (seen, errors) = read_one(&write(&dir, "b.pcapng", &bytes));
    assert!(errors.is_empty(), "{errors:?}");
    let one_writer = [
        (
            1_700_000_000_123_456_789,
            60,
            1,
            "eth0".to_owned(),
            vec![1; 5],
        ),
        (101_500_000_000, 5, 113, "b.pcapng".to_owned(), vec![2; 5]),
        (102_000_000_000, 8, 113, "b.pcapng".to_owned(), vec![3; 2]),
        (0, 4, 12, "b.pcapng".to_owned(), vec![4; 3]),
    ];
    assert_eq!(seen, [&one_writer[..], &one_writer].concat());
}

#[test]
fn compressed_files_and_file_order() {
    let dir = tempfile::tempdir().unwrap();
    let file = |value| {
        [
            LITTLE.pcap_header(0xa1b2_c3d4, 1),
            LITTLE.pcap_packet(1, 0, 60, &[value; 60]),
        ]
        .concat()
    };
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    gzip.write_all(&file(2)).unwrap();
    let gzip = gzip.finish().unwrap();
    let paths = [
        write(&dir, "z.pcap", &file(1)),
        write(&dir, "b.pcap.gz", &gzip),
        write(&dir, "cut.gz", &gzip[..gzip.len() - 12]),
        write(&dir, "a.pcap", &file(3)),
    ];
    let (seen, errors) = read(&paths, &Expression::default());
    let order: Vec<_> = seen
        .iter()
        .map(|packet| (packet.3.as_str(), packet.4[0]))
        .collect();
    assert_eq!(
        (order[0], order[1], order.last().copied()),
        (("z.pcap", 1), ("b.pcap.gz", 2), Some(("a.pcap", 3)))
    );
    assert!(
        matches!(&errors[..], [SourceError::Truncated { path, .. }] if path.ends_with("cut.gz")),
        "{errors:?}"
    );
    assert!(errors[0].is_data());
}

#[test]
fn what_is_no_capture_is_refused_before_anything_is_delivered() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(&dir, "good.pcap", &LITTLE.pcap_header(0xa1b2_c3d4, 1));
    for (bad, words) in [
        (write(&dir, "text", b"hello world"), "68 65 6c 6c"),
        (write(&dir, "empty", b""), "0 bytes"),
        (dir.path().join("missing"), "No such file"),
        (dir.path().to_owned(), "directory"),
    ] {
        let error = Files::open(
            &[good.clone(), bad.clone()],
            Interfaces::default(),
            ReplayRate::Max,
        )
        .err()
        .unwrap()
        .to_string();
        assert!(
            error.contains(words) && error.contains(bad.to_str().unwrap()),
            "{error}"
        );
    }
}

#[test]
fn hostile_lengths_are_refused_with_offset_and_cause() {
    let dir = tempfile::tempdir().unwrap();
    let pcap = |record: &[u8]| {
        [
            &LITTLE.pcap_header(0xa1b2_c3d4, 1)[..],
            &LITTLE.pcap_packet(0, 0, 4, &[0; 4]),
            record,
        ]
        .concat()
    };
    let pcapng = |block: &[u8]| {
        [
            &LITTLE.section()[..],
            &LITTLE.interface(1, 0, &[]),
            &LITTLE.enhanced(0, 0, 4, &[0; 4]),
            block,
        ]
        .concat()
    };
    let closing = |mut block: Vec<u8>| {
        let at = block.len() - 4;
        block[at] ^= 4;
        block
    };
    for (bytes, words) in [
        (
            pcap(&LITTLE.words(&[0, 0, 0xffff_ffff, 60])),
            "at byte 44: a packet of 4294967295 bytes",
        ),
        (
            pcap(&LITTLE.words(&[0, 0, 60, 60])),
            "ends inside a packet at byte 44",
        ),
        (pcap(&[0; 7]), "ends inside a packet header at byte 44"),
        (
            pcapng(&LITTLE.words(&[6, 8, 8])),
            "a block length of 8 bytes",
        ),
        (
            pcapng(&LITTLE.words(&[6, 0xffff_fffc, 8])),
            "a block of 4294967292 bytes",
        ),
        (
            pcapng(&LITTLE.words(&[0x0bad, 0xffff_fffc, 8])),
            "ends inside a block",
        ),
        (pcapng(&LITTLE.enhanced(7, 0, 4, &[0; 4])), "interface 7"),
        (
            pcapng(&closing(LITTLE.enhanced(0, 0, 4, &[0; 4]))),
            "ends with length",
        ),
        (
            pcapng(&LITTLE.block(6, &LITTLE.words(&[0, 0, 0, 900, 900]))),
            "900 bytes in a block of 32 bytes",
        ),
        (pcapng(&LITTLE.block(6, &[])), "type 6 and 12 bytes"),
        (pcapng(&LITTLE.block(3, &[])), "type 3 and 12 bytes"),
        (pcapng(&LITTLE.block(1, &[0; 4])), "type 1 and 16 bytes"),
        (
            pcapng(&LITTLE.block(0x0a0d_0d0a, &[0; 16])),
            "byte-order magic",
        ),
    ] {
        let (seen, errors) = read_one(&write(&dir, "bad", &bytes));
        assert_eq!((seen.len(), errors.len()), (1, 1), "{errors:?}");
        let error = errors[0].to_string();
        assert!(
            error.contains(words) && error.contains("1 packets before"),
            "{error}"
        );
        assert!(errors[0].is_data());
    }
}

#[test]
fn the_filter_applies_per_link_type() {
    let dir = tempfile::tempdir().unwrap();
    let udp = |port: u16| {
        let mut ip = vec![
            0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
        ];
        ip.extend([port.to_be_bytes(), port.to_be_bytes(), [0, 8], [0, 0]].concat());
        ip
    };
    let ethernet = |port| [&[2; 12][..], &[8, 0], &udp(port)].concat();
    let mut bytes = [
        LITTLE.section(),
        LITTLE.interface(1, 0, &[]),
        LITTLE.interface(101, 0, &[]),
    ]
    .concat();
    for port in [53, 80, 5060] {
        bytes.extend(LITTLE.enhanced(0, port.into(), 42, &ethernet(port)));
        bytes.extend(LITTLE.enhanced(1, port.into(), 28, &udp(port)));
    }
    let path = write(&dir, "f.pcapng", &bytes);
    let ticks = |expression: &Expression| {
        let (seen, errors) = read(std::slice::from_ref(&path), expression);
        assert!(errors.is_empty());
        seen.iter()
            .map(|packet| (packet.0 / 1000, packet.2))
            .collect::<Vec<_>>()
    };
    let pushed = |patterns: &[&str]| {
        patterns
            .iter()
            .map(|text| Pushed {
                id: (*text).into(),
                pattern: (*text).into(),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(
        ticks(&Expression::new("not port 80", &[])),
        [(53, 1), (53, 101), (5060, 1), (5060, 101)]
    );
    let (expression, _) =
        Expression::new("not port 80", &[]).with_pushed(pushed(&["port 80", "port 53"]), &[1]);
    assert_eq!(ticks(&expression), [(53, 1), (53, 101)]);
    let mut files = Files::open(&[path], Interfaces::default(), ReplayRate::Max).unwrap();
    let error = files
        .set_filter(&Expression::new("prot 80", &[]))
        .unwrap_err();
    assert!(error.to_string().contains("syntax error"), "{error}");
}

#[test]
fn a_packet_that_is_not_taken_comes_again() {
    let dir = tempfile::tempdir().unwrap();
    let packets = (0..5).flat_map(|n| LITTLE.pcap_packet(n, 0, 1, &[n as u8]));
    let path = write(
        &dir,
        "p.pcap",
        &LITTLE
            .pcap_header(0xa1b2_c3d4, 1)
            .into_iter()
            .chain(packets)
            .collect::<Vec<_>>(),
    );
    let mut files = Files::open(&[path], Interfaces::default(), ReplayRate::Max).unwrap();
    assert_eq!(files.full_ring(), FullRing::Wait);
    let (mut seen, mut offered) = (vec![], 0);
    while files
        .poll(64, &mut |packet| {
            offered += 1;
            if offered % 2 == 1 {
                return ControlFlow::Break(());
            }
            seen.push(packet.data[0]);
            ControlFlow::Continue(())
        })
        .unwrap()
        != Poll::Finished
    {}
    assert_eq!(seen, [0, 1, 2, 3, 4]);
}

#[test]
fn replay_keeps_its_pace_and_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let at = |millis: u32| LITTLE.pcap_packet(millis / 1000, millis % 1000 * 1000, 1, &[0]);
    let bytes = [
        LITTLE.pcap_header(0xa1b2_c3d4, 1),
        at(0),
        at(400),
        at(3_600_000),
    ]
    .concat();
    let path = write(&dir, "p.pcap", &bytes);
    let mut files = Files::open(&[path], Interfaces::default(), ReplayRate::Times(4.0)).unwrap();
    let start = Instant::now();
    let mut times = vec![];
    while times.len() < 2 {
        files
            .poll(64, &mut |_| {
                times.push(start.elapsed());
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    assert!(
        times[1] - times[0] >= Duration::from_millis(99),
        "{times:?}"
    );
    files.stop();
    assert_eq!(
        files.poll(64, &mut |_| panic!("stopped")).unwrap(),
        Poll::Finished
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_end(magic in 0usize..4, bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let start = &[LITTLE.section(), BIG.section(), LITTLE.pcap_header(0xa1b2_c3d4, 1), vec![]][magic];
        lc_capd::source::file::fuzz(&[start, &bytes[..]].concat());
    }

    /// Damage anywhere in a file costs at most an error: reading ends, and what stands before the damage is unchanged.
    #[test]
    fn damaged_files_end_in_an_error_or_in_packets(big: bool, ng: bool, at in 0usize..600, bytes in proptest::collection::vec(any::<u8>(), 1..8)) {
        let writer = Writer { big };
        let mut file = if ng { [writer.section(), writer.interface(1, 0, &[(2, b"x"), (9, &[9])])].concat() } else { writer.pcap_header(0xa1b2_c3d4, 1) };
        let mut ends = vec![];
        for n in 0..8u8 {
            file.extend(if ng { writer.enhanced(0, n.into(), 40, &[n; 40]) } else { writer.pcap_packet(0, n.into(), 40, &[n; 40]) });
            ends.push(file.len());
        }
        let at = at % file.len();
        let end = (at + bytes.len()).min(file.len());
        file[at..end].copy_from_slice(&bytes[..end - at]);
        let dir = tempfile::tempdir().unwrap();
        let (seen, _) = read_one(&write(&dir, "d", &file));
        let untouched = ends.iter().filter(|end| **end <= at).count();
        if at >= if ng { 60 } else { 24 } {
            prop_assert!(seen.len() >= untouched);
            for (n, packet) in seen[..untouched].iter().enumerate() {
                prop_assert_eq!(&packet.4, &vec![n as u8; 40]);
            }
        }
    }
}

/// The shared set of captures: `LC_HUNT_TRACES`, else `shared/traces` beside the workspace.
fn traces() -> Option<PathBuf> {
    let folder = std::env::var_os("LC_HUNT_TRACES")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/traces"));
    folder.is_dir().then_some(folder)
}

#[test]
fn every_shared_capture_is_read_to_its_end() {
    let Some(folder) = traces() else {
        lc_tests::skipped!("no folder of captures; set LC_HUNT_TRACES");
        return;
    };
    let mut files = 0;
    let mut wrong = vec![];
    for subject in fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
    {
        for expected in fs::read_dir(subject)
            .unwrap()
            .map(|entry| entry.unwrap().path())
        {
            let Some(name) = expected
                .to_str()
                .and_then(|name| name.strip_suffix(".expected.json"))
            else {
                continue;
            };
            let facts: serde_json::Value =
                serde_json::from_slice(&fs::read(&expected).unwrap()).unwrap();
            let facts = &facts["capture"];
            let (seen, errors) = read_one(Path::new(name));
            files += 1;
            let bytes: usize = seen.iter().map(|packet| packet.4.len()).sum();
            let on_wire: u64 = seen.iter().map(|packet| u64::from(packet.1)).sum();
            let time = |packet: Option<&Seen>| packet.map(|packet| packet.0);
            let expected_time = |key: &str| {
                let (seconds, nanoseconds) = facts[key].as_str()?.split_once('.')?;
                // One file holds times before 1970, which the facts show as unsigned 64-bit microseconds.
                let nanoseconds = seconds.parse::<i128>().unwrap() * 1_000_000_000
                    + nanoseconds.parse::<i128>().unwrap();
                Some(
                    i64::try_from(nanoseconds)
                        .unwrap_or_else(|_| (nanoseconds / 1000 - (1 << 64)) as i64 * 1000)
                        as u64,
                )
            };
            let fine = facts["packets"] == seen.len()
                && facts["bytes_captured"] == bytes
                && facts["bytes_on_wire"] == on_wire
                && (facts["read_status"] == "ok") == errors.is_empty()
                && (facts["read_status"] == "truncated")
                    == matches!(&errors[..], [SourceError::Truncated { .. }])
                && (expected_time("first_ts").is_none()
                    || time(seen.first()) == expected_time("first_ts"))
                && (expected_time("last_ts").is_none()
                    || time(seen.last()) == expected_time("last_ts"));
            if !fine {
                wrong.push(format!("{name}: {} packets, {bytes}/{on_wire} bytes, {:?}..{:?}, {errors:?}; expected {facts}", seen.len(), time(seen.first()), time(seen.last())));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {files} captures differ:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(files > 0, "the folder of captures is empty");
}

#[test]
fn a_pipe_that_a_predecessor_has_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("pipe.pcap");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut pipe = Files::open(
        std::slice::from_ref(&path),
        Interfaces::default(),
        ReplayRate::Max,
    )
    .unwrap();
    pipe.resume(&Predecessor {
        next: 1,
        ..Predecessor::default()
    });
    let polled = pipe.poll(1, &mut |_| panic!("a packet out of nothing"));
    assert!(
        matches!(&polled, Err(SourceError::PipeReadBefore { path: named }) if *named == path),
        "{polled:?}"
    );
}
