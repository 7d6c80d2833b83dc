//! Reads capture files: pcap in all byte orders and precisions, pcapng with any number of
//! sections and interfaces, and both compressed with gzip.
//!
//! Guarantees: packets come in file order with the captured bytes, the original length, the
//! LINKTYPE_ number of their interface and the time in nanoseconds since the Unix epoch. A file
//! that ends inside a record, or is damaged, gives what was readable before that place and says
//! so ([`Capture::damage`]).
//!
//! Times: they are signed numbers of 64 bits. A packet without one (pcapng Simple Packet Block) has time 0. Resolutions finer than a
//! nanosecond are cut.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use pcap_parser::pcapng::{Block, InterfaceDescriptionBlock};
use pcap_parser::{PcapBlockOwned, PcapError, create_reader};
use thiserror::Error;

/// A file's packets.
#[derive(Debug, Default)]
pub struct Capture {
    /// What could be read, in file order.
    pub packets: Vec<Packet>,
    /// Why reading ended before the end of the file, if it did.
    pub damage: Option<String>,
}

/// One packet of a capture.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Packet {
    /// LINKTYPE_ number; 12 and 14, which some systems write for raw IP, are turned into 101.
    pub link_type: u32,
    /// Nanoseconds since the Unix epoch, modulo 2^64: some files hold times before 1970 as huge
    /// numbers, and the wire holds 64 bits.
    pub time_ns: i64,
    /// Length on the wire.
    pub original_len: u32,
    /// The captured bytes.
    pub bytes: Vec<u8>,
}

/// Everything but the times, which a live capture gives anew.
pub fn without_times(packets: &[Packet]) -> Vec<Packet> {
    let timeless = |packet: &Packet| Packet {
        time_ns: 0,
        ..packet.clone()
    };
    packets.iter().map(timeless).collect()
}

impl Packet {
    /// A packet of which all bytes were captured.
    pub fn whole(link_type: u32, time_ns: i64, bytes: Vec<u8>) -> Self {
        Self {
            link_type,
            time_ns,
            original_len: bytes.len() as u32,
            bytes,
        }
    }
}

/// A file that is no capture at all.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// The file can't be opened or read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Of the file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// LINKTYPE_RAW, raw IPv4 or IPv6.
const RAW_IP: u32 = 101;
/// Largest buffer for one record: far above any real snap length.
const BUFFER_BYTES: usize = 16 << 20;

/// Writes `packets` of one LINKTYPE_ as a pcap file with times in nanoseconds.
///
/// # Errors
///
/// Those of the file.
pub fn write(path: &Path, packets: &[Packet]) -> io::Result<()> {
    let link_type = packets.first().map_or(0, |packet| packet.link_type);
    let mut file = BufWriter::new(File::create(path)?);
    for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, 65_535, link_type] {
        file.write_all(&word.to_le_bytes())?;
    }
    for packet in packets {
        let (seconds, nanoseconds) = (
            packet.time_ns / 1_000_000_000,
            packet.time_ns % 1_000_000_000,
        );
        let len = packet.bytes.len() as u32;
        for word in [seconds as u32, nanoseconds as u32, len, packet.original_len] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&packet.bytes)?;
    }
    file.flush()
}

/// Reads the capture at `path`.
///
/// # Errors
///
/// [`CaptureError`] where the file can't be opened or read. A damaged file is no error; see
/// [`Capture::damage`].
pub fn read(path: &Path) -> Result<Capture, CaptureError> {
    let failed = |source| CaptureError::Read {
        path: path.to_owned(),
        source,
    };
    let mut file = File::open(path).map_err(failed)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(failed)?;
    Ok(if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut plain = Vec::new();
        let ended = MultiGzDecoder::new(&bytes[..]).read_to_end(&mut plain);
        let mut capture = parse(&plain);
        if let Err(error) = ended {
            capture.damage = Some(format!("gzip: {error}"));
        }
        capture
    } else {
        parse(&bytes)
    })
}

/// Gives each packet of the capture at `path`, which is not compressed and may be larger than memory, to `take`. Says why
/// reading ended before the end of the file, if it did.
///
/// # Errors
///
/// [`CaptureError`] where the file can't be opened.
pub fn each(path: &Path, mut take: impl FnMut(Packet)) -> Result<Option<String>, CaptureError> {
    let file = File::open(path).map_err(|source| CaptureError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(walk(file, BUFFER_BYTES, &mut take).err())
}

/// Reads the capture in `bytes`.
fn parse(bytes: &[u8]) -> Capture {
    let mut packets = Vec::new();
    let capacity = (bytes.len() + 1).clamp(1 << 16, BUFFER_BYTES);
    let damage = walk(bytes, capacity, &mut |packet| packets.push(packet)).err();
    Capture { packets, damage }
}

/// Gives each packet to `take`; the error says why that ended before the end.
fn walk(
    source: impl Read + Send,
    capacity: usize,
    take: &mut dyn FnMut(Packet),
) -> Result<(), String> {
    let mut reader = create_reader(capacity, source).map_err(|error| describe(&error))?;
    let mut place = Place::default();
    loop {
        let exhausted = reader.reader_exhausted();
        match reader.next() {
            Ok((consumed, block)) => {
                place.take(block, take)?;
                reader.consume(consumed);
            }
            Err(PcapError::Eof) => return Ok(()),
            Err(PcapError::Incomplete(_)) if !exhausted => {
                reader.refill().map_err(|error| describe(&error))?;
            }
            Err(error) => return Err(describe(&error)),
        }
    }
}

fn describe(error: &PcapError<&[u8]>) -> String {
    match error {
        PcapError::Incomplete(_) | PcapError::UnexpectedEof => "ends inside a record".into(),
        PcapError::HeaderNotRecognized => "is neither pcap nor pcapng".into(),
        PcapError::NomError(_, kind) | PcapError::OwnedNomError(_, kind) => {
            format!("has a damaged record ({kind:?})")
        }
        other => format!("cannot be read further: {other}"),
    }
}

/// What later blocks of a file refer to.
#[derive(Default)]
struct Place {
    /// Of a pcap file.
    file: Option<Interface>,
    /// Of the current pcapng section.
    interfaces: Vec<Interface>,
}

#[derive(Clone, Copy)]
struct Interface {
    link_type: u32,
    snap_len: u32,
    /// Time stamp units per second.
    units: u64,
    offset_seconds: i64,
}

impl Place {
    /// Notes what `block` says and gives its packet to `take`, if it has one.
    fn take(
        &mut self,
        block: PcapBlockOwned<'_>,
        take: &mut dyn FnMut(Packet),
    ) -> Result<(), String> {
        match block {
            PcapBlockOwned::LegacyHeader(header) => {
                self.file = Some(Interface {
                    // The upper half holds flags about the frame check sequence.
                    link_type: normalized(header.network.0 as u32 & 0xffff),
                    snap_len: header.snaplen,
                    units: if header.is_nanosecond_precision() {
                        1_000_000_000
                    } else {
                        1_000_000
                    },
                    offset_seconds: 0,
                });
            }
            PcapBlockOwned::Legacy(record) => {
                let file = self.file.ok_or("has no file header")?;
                let fraction =
                    i128::from(record.ts_usec) * (1_000_000_000 / i128::from(file.units));
                take(Packet {
                    link_type: file.link_type,
                    time_ns: (i128::from(record.ts_sec) * 1_000_000_000 + fraction) as i64,
                    original_len: record.origlen,
                    bytes: record.data.to_vec(),
                });
            }
            PcapBlockOwned::NG(block) => self.take_block(&block, take)?,
        }
        Ok(())
    }

    fn take_block(
        &mut self,
        block: &Block<'_>,
        take: &mut dyn FnMut(Packet),
    ) -> Result<(), String> {
        match block {
            Block::SectionHeader(_) => self.interfaces.clear(),
            Block::InterfaceDescription(block) => self.interfaces.push(interface(block)?),
            Block::EnhancedPacket(block) => {
                let interface = self.interface(block.if_id)?;
                let bytes = block
                    .data
                    .get(..block.caplen as usize)
                    .ok_or("has a record shorter than its packet")?;
                let units = i128::from(block.ts_high) << 32 | i128::from(block.ts_low);
                let offset = i128::from(interface.offset_seconds) * 1_000_000_000;
                take(Packet {
                    link_type: interface.link_type,
                    time_ns: (units * 1_000_000_000 / i128::from(interface.units) + offset) as i64,
                    original_len: block.origlen,
                    bytes: bytes.to_vec(),
                });
            }
            Block::SimplePacket(block) => {
                let interface = self.interface(0)?;
                let captured = match interface.snap_len {
                    0 => block.origlen,
                    snap_len => block.origlen.min(snap_len),
                };
                let bytes = block
                    .data
                    .get(..captured as usize)
                    .ok_or("has a record shorter than its packet")?;
                take(Packet {
                    link_type: interface.link_type,
                    time_ns: 0,
                    original_len: block.origlen,
                    bytes: bytes.to_vec(),
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn interface(&self, number: u32) -> Result<Interface, String> {
        self.interfaces
            .get(number as usize)
            .copied()
            .ok_or_else(|| format!("has a packet of interface {number}, which it doesn't describe"))
    }
}

fn interface(block: &InterfaceDescriptionBlock<'_>) -> Result<Interface, String> {
    Ok(Interface {
        link_type: normalized(block.linktype.0 as u32),
        snap_len: block.snaplen,
        units: block
            .ts_resolution()
            .filter(|units| *units > 0)
            .ok_or("has an interface with an impossible time resolution")?,
        offset_seconds: block.ts_offset(),
    })
}

fn normalized(link_type: u32) -> u32 {
    match link_type {
        12 | 14 => RAW_IP,
        other => other,
    }
}
