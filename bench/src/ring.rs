//! The ring between two processes against a plain copy of the same bytes.
//!
//! One process writes packet records into a ring of shared memory, another copies each packet out
//! of it; both on cores of their own where there are two. In the same run, alternating, the same
//! packets are copied by `memcpy` alone, in two ways:
//!
//! - *one core*: from memory to memory of the ring's size, as fast as one core can;
//! - *two cores*: one thread copies them into buffers of a MiB, another copies them out again. So
//!   the bytes cross from core to core as they do in the ring, but with no ring.
//!
//! Only the ratio of neighbouring rounds is meaningful: machines have slow spells.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use shm_layout::layout::{Kind, RegionId};
use shm_layout::packet::{Packet, PacketHeader, push_inline};
use shm_layout::region::{Backing, Pages, RegionError, create};
use shm_layout::ring::{Full, RingError, RingReader, RingWriter};
use thiserror::Error;

use crate::spread::Spread;

/// Records that the reader takes before it releases them.
const READER_BATCH: usize = 64;
/// Bytes of the buffers that go from core to core.
const BUFFER_BYTES: usize = 1 << 20;
/// Ends the reader.
const LAST_SEQUENCE: u64 = u64::MAX;
const WAIT: Duration = Duration::from_millis(100);

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Bytes of a packet.
    pub packet_bytes: usize,
    /// Bytes of the ring: a power of two.
    pub ring_bytes: u64,
    /// Packet bytes of each round.
    pub round_bytes: u64,
    /// Rounds of each kind.
    pub rounds: usize,
    /// Records that the writer makes visible at a time.
    pub batch: u64,
}

/// What was measured.
#[derive(Debug)]
pub struct Report {
    /// Gigabytes per second of packet bytes through the ring.
    pub ring: Spread,
    /// Gigabytes per second of the plain copy on one core.
    pub one_core: Spread,
    /// Gigabytes per second of the plain copy across two cores.
    pub two_cores: Spread,
    /// The ring's rate over that of the copy on one core beside it.
    pub to_one_core: Spread,
    /// The ring's rate over that of the copy across two cores beside it.
    pub to_two_cores: Spread,
    /// What the ring's memory is made of.
    pub backing: Backing,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
pub enum RingBenchError {
    /// No region could be made or attached.
    #[error(transparent)]
    Region(#[from] RegionError),
    /// The reader found the ring corrupt.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// A packet does not fit the ring.
    #[error("a packet of {0} bytes does not fit the ring; make the ring larger")]
    TooLong(usize),
    /// A process could not be started or a descriptor not be opened.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The reading process ended badly.
    #[error("the reading process failed")]
    Reader,
}

/// Measures; `program` is this program, which is started as the reader.
///
/// # Errors
///
/// [`RingBenchError`]
pub fn measure(plan: &Plan, program: &Path) -> Result<Report, RingBenchError> {
    let (ring, backing) = create(RX, plan.ring_bytes, Pages::PreferHuge)?;
    let (cursor, _) = create(RX_CURSOR, 0, Pages::PreferHuge)?;
    let mut writer = RingWriter::attach(RX, ring.as_fd(), cursor.as_fd())?;
    pin(0)?;
    let mut reader = spawn_reader(program, ring.as_raw_fd(), cursor.as_raw_fd())?;
    let source = Source::new(plan.packet_bytes, plan.ring_bytes as usize);
    let mut target = vec![0; plan.ring_bytes as usize];
    let packets = plan.round_bytes / plan.packet_bytes as u64;
    let mut rates: Vec<[f64; 3]> = Vec::new();
    // The first round warms up.
    for round in 0..=plan.rounds {
        let times = [
            through_ring(&mut writer, &source, packets, plan.batch)?,
            copy_on_one_core(&mut target, &source, packets),
            copy_across_cores(&source, packets, plan.ring_bytes)?,
        ];
        if round > 0 {
            rates.push(times.map(|time| plan.round_bytes as f64 / time.as_secs_f64() / 1e9));
        }
    }
    push(&mut writer, LAST_SEQUENCE, source.packet(0))?;
    writer.publish();
    let status = reader.wait().map_err(system("wait for the reader"))?;
    if !status.success() {
        return Err(RingBenchError::Reader);
    }
    let spread = |of: fn(&[f64; 3]) -> f64| Spread::of(rates.iter().map(of).collect());
    Ok(Report {
        ring: spread(|rates| rates[0]),
        one_core: spread(|rates| rates[1]),
        two_cores: spread(|rates| rates[2]),
        to_one_core: spread(|rates| rates[0] / rates[1]),
        to_two_cores: spread(|rates| rates[0] / rates[2]),
        backing,
    })
}

/// The reading process: copies every packet out of the ring until the last one.
///
/// # Errors
///
/// [`RingBenchError`]
pub fn read(ring: &Path, cursor: &Path) -> Result<(), RingBenchError> {
    let open = |path: &Path, write| {
        let file = OpenOptions::new().read(true).write(write).open(path);
        file.map_err(system("open the ring"))
    };
    let (ring, cursor): (File, File) = (open(ring, false)?, open(cursor, true)?);
    let mut reader = RingReader::attach(RX, ring.as_fd(), cursor.as_fd())?;
    pin(1)?;
    let mut packet_bytes = [0; 65_536];
    loop {
        for _ in 0..READER_BATCH {
            let Some(record) = reader.read()? else {
                break;
            };
            let packet = Packet::read(&record, None)?;
            packet.data.copy_to(&mut packet_bytes);
            std::hint::black_box(&packet_bytes);
            if packet.header.sequence == LAST_SEQUENCE {
                reader.release();
                return Ok(());
            }
        }
        reader.release();
        if reader.is_empty() {
            RingReader::wait_any(&[&reader], WAIT);
        }
    }
}

const RX: RegionId = RegionId::of_queue(Kind::Rx, 0, 0);
const RX_CURSOR: RegionId = RegionId::of_queue(Kind::RxCursor, 0, 0);

fn spawn_reader(program: &Path, ring: i32, cursor: i32) -> Result<Child, RingBenchError> {
    let own = std::process::id();
    let path = |descriptor| PathBuf::from(format!("/proc/{own}/fd/{descriptor}"));
    Command::new(program)
        .arg("ring-reader")
        .args([path(ring), path(cursor)])
        .spawn()
        .map_err(system("start the reader"))
}

/// Sends `packets` packets, and waits until the reader has all of them.
fn through_ring(
    writer: &mut RingWriter,
    source: &Source,
    packets: u64,
    batch: u64,
) -> Result<Duration, RingBenchError> {
    let start = Instant::now();
    for number in 0..packets {
        push(writer, number, source.packet(number))?;
        if number % batch == batch - 1 {
            writer.publish();
        }
    }
    writer.publish();
    while writer.used() > 0 {
        std::hint::spin_loop();
    }
    Ok(start.elapsed())
}

fn push(writer: &mut RingWriter, sequence: u64, bytes: &[u8]) -> Result<(), RingBenchError> {
    let header = PacketHeader {
        sequence,
        timestamp_ns: sequence,
        captured_len: bytes.len() as u32,
        original_len: bytes.len() as u32,
        link_type: 1,
        interface: 0,
        flow_hash: 0,
    };
    loop {
        match push_inline(writer, &header, bytes) {
            Ok(()) => return Ok(()),
            Err(Full::Always) => return Err(RingBenchError::TooLong(bytes.len())),
            Err(Full::Now) => {
                writer.publish();
                writer.wait_for_room(WAIT);
            }
        }
    }
}

/// Copies the packets one behind the other into `target`, from its start again at its end.
fn copy_on_one_core(target: &mut [u8], source: &Source, packets: u64) -> Duration {
    let start = Instant::now();
    let mut offset = 0;
    for number in 0..packets {
        let bytes = source.packet(number);
        if offset + bytes.len() > target.len() {
            offset = 0;
        }
        target[offset..offset + bytes.len()].copy_from_slice(bytes);
        offset += bytes.len();
    }
    std::hint::black_box(target);
    start.elapsed()
}

/// Copies the packets into buffers, `total_bytes` of them together, which another core copies out.
fn copy_across_cores(
    source: &Source,
    packets: u64,
    total_bytes: u64,
) -> Result<Duration, RingBenchError> {
    let (full, filled) = mpsc::channel::<(Vec<u8>, usize)>();
    let (empty, emptied) = mpsc::channel::<Vec<u8>>();
    for _ in 0..(total_bytes as usize / BUFFER_BYTES).max(2) {
        // The other end is in this function still.
        let _ = empty.send(vec![0; BUFFER_BYTES]);
    }
    let start = Instant::now();
    thread::scope(|scope| {
        let reader = scope.spawn(move || -> Result<(), RingBenchError> {
            pin(1)?;
            let mut packet_bytes = [0; 65_536];
            while let Ok((buffer, used)) = filled.recv() {
                for packet in buffer[..used].chunks_exact(source.packet_bytes) {
                    packet_bytes[..packet.len()].copy_from_slice(packet);
                    std::hint::black_box(&packet_bytes);
                }
                // The writer may have all it needs.
                let _ = empty.send(buffer);
            }
            Ok(())
        });
        let mut sent = 0;
        while sent < packets {
            let Ok(mut buffer) = emptied.recv() else {
                break;
            };
            let mut used = 0;
            while used + source.packet_bytes <= buffer.len() && sent < packets {
                let target = &mut buffer[used..used + source.packet_bytes];
                target.copy_from_slice(source.packet(sent));
                used += source.packet_bytes;
                sent += 1;
            }
            if full.send((buffer, used)).is_err() {
                break;
            }
        }
        drop(full);
        reader.join().map_err(|_| RingBenchError::Reader)?
    })?;
    Ok(start.elapsed())
}

/// The packets, all of one size.
struct Source {
    bytes: Vec<u8>,
    packet_bytes: usize,
    packets: u64,
}

impl Source {
    fn new(packet_bytes: usize, total_bytes: usize) -> Self {
        let packets = (total_bytes / packet_bytes).max(1);
        let bytes = (0..packets * packet_bytes).map(|at| at as u8).collect();
        Self {
            bytes,
            packet_bytes,
            packets: packets as u64,
        }
    }

    fn packet(&self, number: u64) -> &[u8] {
        let start = (number % self.packets) as usize * self.packet_bytes;
        &self.bytes[start..start + self.packet_bytes]
    }
}

/// Keeps this process on core `index`, where there are so many.
fn pin(index: usize) -> Result<(), RingBenchError> {
    let allowed = rustix::thread::sched_getaffinity(None)
        .map_err(|errno| system("read the allowed cores")(errno.into()))?;
    let core = (0..rustix::thread::CpuSet::MAX_CPU)
        .filter(|core| allowed.is_set(*core))
        .nth(index);
    let Some(core) = core else {
        return Ok(());
    };
    let mut one = rustix::thread::CpuSet::new();
    one.set(core);
    rustix::thread::sched_setaffinity(None, &one)
        .map_err(|errno| system("keep to one core")(errno.into()))
}

fn system(what: &'static str) -> impl Fn(io::Error) -> RingBenchError {
    move |source| RingBenchError::System { what, source }
}
