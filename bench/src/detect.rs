//! Detection on one core, against nDPI's on the same packets in the same run.
//!
//! The Ethernet packets of a folder of captures, repeated with other addresses so that each repetition has flows of
//! its own, a microsecond apart. What is timed:
//!
//! - *ours*: decoding, the flow table and detection of every packet, as a worker does it, from memory; and the same with the
//!   description of every packet that is known. The table is made before.
//! - *nDPI*: ndpiReader with one thread, on a file of the same packets that the page cache holds. Its "packet processing
//!   time" is decoding, its flow table and detection with what nDPI extracts on the way, and reading the file. The
//!   last is measured by itself, with a filter that lets next to nothing through, and taken off: that is *net*.
//!
//! All alternate, and ratios are of neighbouring rounds: machines have slow spells.

use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lc_capd::source::file::Files;
use lc_capd::source::{Interfaces, Poll, Source};
use lc_daemon::config::ReplayRate;
use lc_workerd::decode::{Decoded, arp, decode};
use lc_workerd::detect::{Context, Details, Detector, Flow, Layer};
use lc_workerd::flows::{Direction, FlowTable, NoMemory, Probe, Seed, Signal, Timeouts, Zone};
use thiserror::Error;

use crate::generate::{Frames, Memory, Packet, PcapError, write_pcap};
use crate::spread::Spread;

const ETHERNET: u16 = 1;
/// Longest frame of the file for ndpiReader.
const LONGEST: usize = 65_535;
/// Of the flow table: place for 1.6 million flows.
const TABLE_BYTES: usize = 128 << 20;
/// Packets that are decoded and looked up together.
const BATCH: usize = 64;
/// Time of the first packet, in nanoseconds since the Unix epoch.
const START_NS: u64 = 1_767_225_600_000_000_000;
const PACKET_NS: u64 = 1_000;
const NDPI_READER: &str = "ndpiReader";
/// Next to nothing; of nothing at all, ndpiReader tells no times.
const NOTHING: &str = "icmp";

/// What to measure.
#[derive(Debug)]
pub struct Plan {
    /// The folder of captures.
    pub captures: PathBuf,
    /// How often they are repeated.
    pub repeats: u8,
    /// Rounds of each kind.
    pub rounds: usize,
}

/// What was measured.
#[derive(Debug)]
pub struct Report {
    /// Packets of a round.
    pub packets: usize,
    /// Their bytes.
    pub bytes: usize,
    /// Ours.
    pub ours: Ours,
    /// nDPI's; `None` without ndpiReader.
    pub ndpi: Option<Ndpi>,
    /// Ours over nDPI's, net; zeros without ndpiReader.
    pub ratios: Ratios,
}

/// Millions of packets per second, and what was found.
#[derive(Debug)]
pub struct Ours {
    /// Decoding, flow table, detection.
    pub detection: Spread,
    /// The same, and descriptions.
    pub descriptions: Spread,
    /// Packets with a protocol.
    pub known_packets: usize,
    /// Flows with a protocol.
    pub known_flows: u64,
    /// All flows.
    pub flows: u64,
}

/// Millions of packets per second, and what was found.
#[derive(Debug)]
pub struct Ndpi {
    /// As ndpiReader says.
    pub whole: Spread,
    /// Without the time for reading the file.
    pub net: Spread,
    /// All flows.
    pub flows: u64,
    /// Flows without a protocol.
    pub unknown_flows: u64,
}

/// Ours over nDPI's, net.
#[derive(Debug)]
pub struct Ratios {
    /// Detection.
    pub detection: Spread,
    /// Detection and descriptions.
    pub descriptions: Spread,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum DetectBenchError {
    /// The folder can't be read.
    #[error("cannot read the folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There are no Ethernet packets in it.
    #[error(
        "no Ethernet packet in the captures of {0}; give --captures a folder with pcap or pcapng files"
    )]
    Empty(PathBuf),
    /// No flow table.
    #[error(transparent)]
    Table(#[from] NoMemory),
    /// The file for ndpiReader can't be written.
    #[error(transparent)]
    Pcap(#[from] PcapError),
    /// No place for that file, or ndpiReader can't be started.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// ndpiReader says something else than version 4 does.
    #[error("ndpiReader said nothing of {0:?}; 4.2 does")]
    Ndpi(&'static str),
}

/// Measures as `plan` says.
///
/// # Errors
///
/// [`DetectBenchError`]
pub fn measure(plan: &Plan) -> Result<Report, DetectBenchError> {
    let frames = captured(&plan.captures)?;
    if frames.is_empty() {
        return Err(DetectBenchError::Empty(plan.captures.clone()));
    }
    let memory = Memory::collect(&mut Repeated::new(&frames, plan.repeats));
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("packets.pcap");
    let compare = installed();
    if compare {
        write_pcap(&mut Repeated::new(&frames, plan.repeats), &file)?;
    }
    let millions = memory.len() as f64 / 1e6;
    let mut rates = [const { Vec::new() }; 4];
    let mut ratios = [const { Vec::new() }; 2];
    let (mut found, mut theirs) = (Found::default(), None);
    for _ in 0..plan.rounds {
        let mut ours = [0.0; 2];
        for (describing, rate) in [false, true].into_iter().zip(&mut ours) {
            let (time, all) = detect(&memory, describing)?;
            *rate = millions / time.as_secs_f64();
            found = all;
        }
        rates[0].push(ours[0]);
        rates[1].push(ours[1]);
        if compare {
            let reading = ndpi(&file, &["-f", NOTHING])?;
            let reader = ndpi(&file, &[])?;
            let net = millions / (reader.seconds - reading.seconds).max(f64::EPSILON);
            rates[2].push(millions / reader.seconds);
            rates[3].push(net);
            ratios[0].push(ours[0] / net);
            ratios[1].push(ours[1] / net);
            theirs = Some(reader);
        }
    }
    let [detection, descriptions, whole, net] = rates.map(Spread::of);
    let [of_detection, of_descriptions] = ratios.map(Spread::of);
    Ok(Report {
        packets: memory.len(),
        bytes: memory.total_bytes(),
        ours: Ours {
            detection,
            descriptions,
            known_packets: found.packets,
            known_flows: found.decided,
            flows: found.flows,
        },
        ndpi: theirs.map(|reader| Ndpi {
            whole,
            net,
            flows: reader.flows,
            unknown_flows: reader.unknown_flows,
        }),
        ratios: Ratios {
            detection: of_detection,
            descriptions: of_descriptions,
        },
    })
}

/// What is in the flows.
#[derive(Debug, Default)]
struct Found {
    packets: usize,
    decided: u64,
    flows: u64,
}

/// The time for all packets.
fn detect(memory: &Memory, describing: bool) -> Result<(Duration, Found), NoMemory> {
    let mut flows = FlowTable::<Flow>::new(TABLE_BYTES, Seed::random(), &Timeouts::default())?;
    let (mut detector, mut details) = (Detector::new(), Details::new());
    let mut batch: Vec<(Packet<'_>, Decoded, Option<Probe>)> = Vec::with_capacity(BATCH);
    let mut probes: Vec<Probe> = Vec::with_capacity(BATCH);
    let mut found = Found::default();
    let mut packets = memory.iter();
    let start = Instant::now();
    loop {
        batch.clear();
        probes.clear();
        for packet in packets.by_ref().take(BATCH) {
            let decoded = decode(ETHERNET, packet.bytes);
            let probe = flows.probe(&decoded, Zone::NONE);
            probes.extend(probe);
            batch.push((packet, decoded, probe));
        }
        if batch.is_empty() {
            break;
        }
        flows.prepare(&probes);
        for (packet, decoded, probe) in &batch {
            let mut alone = Flow::default();
            let context = Context::decoded(decoded, packet.bytes, true, packet.time_ns);
            let (context, flow) = match probe {
                Some(probe) => {
                    let signal = context.map_or(Signal::None, |context| match context.layer {
                        Layer::Tcp => Signal::of_tcp_flags(context.tcp_flags),
                        _ => Signal::None,
                    });
                    let flow = flows.observe(probe, packet.time_ns, signal);
                    let forward = flow.direction == Direction::Request;
                    let context = context.map(|context| Context { forward, ..context });
                    (context, flow.memory)
                }
                None => {
                    let arp = || {
                        let bytes = arp(ETHERNET, packet.bytes)?;
                        Some(Context::new(Layer::Arp, (0, 0), bytes))
                    };
                    (context.or_else(arp), &mut alone)
                }
            };
            let Some(context) = context else { continue };
            if detector.observe(&context, flow).is_some() {
                found.packets += 1;
                if describing {
                    detector.describe(&context, flow, &mut details);
                }
            }
        }
    }
    let time = start.elapsed();
    found.decided = detector.counters().decided;
    found.flows = flows.counts().live();
    Ok((time, found))
}

/// The Ethernet packets of all captures in `folder`; where a file is damaged, those before the damage.
fn captured(folder: &Path) -> Result<Vec<Vec<u8>>, DetectBenchError> {
    let mut frames = Vec::new();
    for path in files(folder)? {
        let Ok(mut file) = Files::open(&[path], Interfaces::default(), ReplayRate::Max) else {
            continue;
        };
        let mut take = |packet: &lc_capd::source::Packet<'_>| {
            if packet.link_type == ETHERNET && packet.data.len() <= LONGEST {
                frames.push(packet.data.to_vec());
            }
            ControlFlow::Continue(())
        };
        while let Ok(Poll::More | Poll::Dry) = file.poll(BATCH, &mut take) {}
    }
    Ok(frames)
}

/// All files in `folder` and the folders within it, in order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, DetectBenchError> {
    let failed = |source| DetectBenchError::Folder {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_dir() {
            paths.extend(files(&path)?);
        } else {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Frames again and again, each time between other addresses.
struct Repeated<'a> {
    frames: &'a [Vec<u8>],
    repeats: usize,
    number: usize,
    frame: Vec<u8>,
}

impl<'a> Repeated<'a> {
    fn new(frames: &'a [Vec<u8>], repeats: u8) -> Self {
        Self {
            frames,
            repeats: usize::from(repeats),
            number: 0,
            frame: Vec::new(),
        }
    }
}

impl Frames for Repeated<'_> {
    fn next_frame(&mut self) -> Option<Packet<'_>> {
        let repeat = self.number / self.frames.len();
        if repeat == self.repeats {
            return None;
        }
        self.frame
            .clone_from(&self.frames[self.number % self.frames.len()]);
        shift(&mut self.frame, repeat as u8);
        let time_ns = START_NS + self.number as u64 * PACKET_NS;
        self.number += 1;
        Some(Packet {
            time_ns,
            bytes: &self.frame,
        })
    }
}

/// Changes a byte of both addresses of the outermost IP header, which says nothing of a kind of address.
fn shift(frame: &mut [u8], by: u8) {
    let mut at = 12;
    while let Some([0x81, 0x00] | [0x88, 0xa8]) = frame.get(at..at + 2) {
        at += 4;
    }
    let places = match frame.get(at..at + 2) {
        Some([0x08, 0x00]) => [at + 2 + 12 + 2, at + 2 + 16 + 2],
        Some([0x86, 0xdd]) => [at + 2 + 8 + 7, at + 2 + 24 + 7],
        _ => return,
    };
    for place in places {
        if let Some(byte) = frame.get_mut(place) {
            *byte ^= by;
        }
    }
}

/// What ndpiReader told.
struct Reader {
    seconds: f64,
    flows: u64,
    unknown_flows: u64,
}

fn installed() -> bool {
    Command::new(NDPI_READER).arg("-h").output().is_ok()
}

fn ndpi(file: &Path, more: &[&str]) -> Result<Reader, DetectBenchError> {
    let output = Command::new(NDPI_READER)
        .args(["-n", "1", "-i"])
        .arg(file)
        .args(more)
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // "Packet Processing Time:  2 msec"
    let after = |name: &'static str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        number.ok_or(DetectBenchError::Ndpi(name))
    };
    Ok(Reader {
        seconds: after("Packet Processing Time:")? as f64 / 1e3,
        flows: after("Unique flows:").unwrap_or(0),
        unknown_flows: after("Confidence: Unknown").unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_have_addresses_of_their_own() {
        let mut ipv4 = [&[0; 12][..], &[0x81, 0, 0, 7, 8, 0, 0x45], &[0; 20]].concat();
        let before = ipv4.clone();
        shift(&mut ipv4, 3);
        let changed: Vec<usize> = (0..ipv4.len())
            .filter(|at| ipv4[*at] != before[*at])
            .collect();
        assert_eq!(changed, [32, 36]);
        let mut other = [0; 30];
        shift(&mut other, 3);
        assert_eq!(other, [0; 30]);
    }

    #[test]
    fn every_packet_is_repeated_at_a_time_of_its_own() {
        let frames = [vec![0; 14], vec![1; 14]];
        let memory = Memory::collect(&mut Repeated::new(&frames, 3));
        assert_eq!((memory.len(), memory.total_bytes()), (6, 84));
        let times: Vec<u64> = memory.iter().map(|packet| packet.time_ns).collect();
        assert!(times.is_sorted_by(|a, b| a < b));
        let (_, found) = detect(&memory, true).unwrap();
        assert_eq!((found.packets, found.flows), (0, 0));
    }
}
