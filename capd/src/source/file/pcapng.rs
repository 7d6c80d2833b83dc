//! The pcapng format (draft-ietf-opsawg-pcapng): sections of either byte order, any number of interfaces with their own link type, time
//! unit and offset; Enhanced, Simple and the obsolete Packet Block. Blocks of other types are skipped.

use super::input::{CAPACITY, Endian, Input};
use super::{Defect, MAX_PACKET, Record};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Most interfaces of one section: bounds what a hostile file can make us allocate.
const MAX_INTERFACES: usize = 1 << 16;

/// Type and length before a block's body, length behind it.
const BLOCK_HEAD: usize = 8;
const BLOCK_OVERHEAD: usize = 12;

/// Reader state: the section in hand.
#[derive(Debug)]
pub(crate) struct Pcapng {
    endian: Endian,
    interfaces: Vec<InterfaceDescription>,
}

#[derive(Debug)]
struct InterfaceDescription {
    index: u16,
    link_type: u16,
    snap_length: u32,
    time: TimeUnit,
}

impl Pcapng {
    /// Whether a file that begins so is of this format.
    pub(crate) fn recognises(magic: [u8; 4]) -> bool {
        // The section header's type is a palindrome: it reads alike in both byte orders.
        u32::from_be_bytes(magic) == SECTION_HEADER
    }

    /// A reader whose first block must be a section header.
    pub(crate) fn new() -> Self {
        Self {
            endian: Endian::Little,
            interfaces: Vec::new(),
        }
    }

    /// The next packet, whole in the input's window; `None` at the end of the file. `register` gives an interface its index.
    #[inline]
    pub(crate) fn next(
        &mut self,
        input: &mut Input,
        register: &mut dyn FnMut(Option<&str>, u16) -> u16,
    ) -> Result<Option<Record>, Defect> {
        loop {
            if !input.need(BLOCK_OVERHEAD)? {
                return if input.window().is_empty() {
                    Ok(None)
                } else {
                    Err(Defect::Truncated("a block header"))
                };
            }
            let head = input.window();
            let kind = self.endian.u32(head, 0);
            if kind == SECTION_HEADER {
                self.start_section(input)?;
                continue;
            }
            let size = block_size(self.endian.u32(head, 4))?;
            if !matches!(
                kind,
                INTERFACE_DESCRIPTION | OBSOLETE_PACKET | SIMPLE_PACKET | ENHANCED_PACKET
            ) {
                if !input.skip(size as u64)? {
                    return Err(Defect::Truncated("a block"));
                }
                continue;
            }
            let smallest = match kind {
                OBSOLETE_PACKET | ENHANCED_PACKET => BLOCK_OVERHEAD + 20,
                SIMPLE_PACKET => BLOCK_OVERHEAD + 4,
                _ => BLOCK_OVERHEAD + 8,
            };
            if size < smallest {
                return Err(Defect::Corrupt(format!(
                    "a block of type {kind} and {size} bytes, less than the minimum of {smallest}"
                )));
            }
            let block = whole_block(input, self.endian, size)?;
            let record = match kind {
                INTERFACE_DESCRIPTION => {
                    self.describe_interface(&block[BLOCK_HEAD..size - 4], register)?;
                    None
                }
                OBSOLETE_PACKET => Some(self.obsolete_packet(block)?),
                SIMPLE_PACKET => Some(self.simple_packet(block)?),
                _ => Some(self.enhanced_packet(block)?),
            };
            match record {
                Some(record) => return Ok(Some(record)),
                None => input.consume(size),
            }
        }
    }

    fn start_section(&mut self, input: &mut Input) -> Result<(), Defect> {
        const BYTE_ORDER_MAGIC: [u8; 4] = [0x1a, 0x2b, 0x3c, 0x4d];
        let mut magic = input
            .window()
            .get(8..)
            .and_then(<[u8]>::first_chunk)
            .copied()
            .unwrap_or_default();
        self.endian = if magic == BYTE_ORDER_MAGIC {
            Endian::Big
        } else {
            Endian::Little
        };
        if self.endian == Endian::Little {
            magic.reverse();
        }
        if magic != BYTE_ORDER_MAGIC {
            return Err(Defect::Corrupt(
                "a section header without its byte-order magic".into(),
            ));
        }
        let size = block_size(self.endian.u32(input.window(), 4))?;
        if size < BLOCK_OVERHEAD + 16 {
            return Err(Defect::Corrupt(format!("a section header of {size} bytes")));
        }
        let block = whole_block(input, self.endian, size)?;
        let (major, minor) = (self.endian.u16(block, 12), self.endian.u16(block, 14));
        if major != 1 {
            return Err(Defect::Corrupt(format!(
                "pcapng version {major}.{minor} is not known"
            )));
        }
        self.interfaces.clear();
        input.consume(size);
        Ok(())
    }

    fn describe_interface(
        &mut self,
        body: &[u8],
        register: &mut dyn FnMut(Option<&str>, u16) -> u16,
    ) -> Result<(), Defect> {
        const FIXED: usize = 8;
        if self.interfaces.len() == MAX_INTERFACES {
            return Err(Defect::Corrupt(format!(
                "more than {MAX_INTERFACES} interfaces in one section"
            )));
        }
        let (mut name, mut resolution, mut offset) = (None, 6, 0);
        for (code, value) in options(self.endian, &body[FIXED..]) {
            match (code, value.len()) {
                (2, _) => {
                    name = Some(
                        String::from_utf8_lossy(value)
                            .trim_end_matches('\0')
                            .to_owned(),
                    )
                }
                (9, 1..) => resolution = value[0],
                (14, 8..) => offset = self.endian.u64(value, 0) as i64,
                _ => {}
            }
        }
        let link_type = self.endian.u16(body, 0);
        self.interfaces.push(InterfaceDescription {
            index: register(name.as_deref().filter(|name| !name.is_empty()), link_type),
            link_type,
            snap_length: self.endian.u32(body, 4),
            time: TimeUnit::new(resolution, offset),
        });
        Ok(())
    }

    #[inline]
    fn enhanced_packet(&self, block: &[u8]) -> Result<Record, Defect> {
        let interface = self.interface(self.endian.u32(block, 8))?;
        let ticks =
            u64::from(self.endian.u32(block, 12)) << 32 | u64::from(self.endian.u32(block, 16));
        record(
            block,
            28,
            interface,
            ticks,
            self.endian.u32(block, 20),
            self.endian.u32(block, 24),
        )
    }

    fn obsolete_packet(&self, block: &[u8]) -> Result<Record, Defect> {
        let interface = self.interface(self.endian.u16(block, 8).into())?;
        let ticks =
            u64::from(self.endian.u32(block, 12)) << 32 | u64::from(self.endian.u32(block, 16));
        record(
            block,
            28,
            interface,
            ticks,
            self.endian.u32(block, 20),
            self.endian.u32(block, 24),
        )
    }

    fn simple_packet(&self, block: &[u8]) -> Result<Record, Defect> {
        let interface = self.interface(0)?;
        let original_length = self.endian.u32(block, 8);
        let captured = match interface.snap_length {
            0 => original_length,
            snap_length => original_length.min(snap_length),
        };
        // Simple packets carry no time.
        record(block, 12, interface, 0, captured, original_length).map(|record| Record {
            timestamp_ns: 0,
            ..record
        })
    }

    #[inline]
    fn interface(&self, id: u32) -> Result<&InterfaceDescription, Defect> {
        self.interfaces.get(id as usize).ok_or_else(|| {
            Defect::Corrupt(format!(
                "a packet of interface {id}, but its section describes {} interfaces",
                self.interfaces.len()
            ))
        })
    }
}

/// The record in a packet block whose bytes begin at `at`.
#[inline]
fn record(
    block: &[u8],
    at: usize,
    interface: &InterfaceDescription,
    ticks: u64,
    captured: u32,
    original_length: u32,
) -> Result<Record, Defect> {
    let captured = captured as usize;
    if captured > MAX_PACKET {
        return Err(Defect::Corrupt(format!(
            "a packet of {captured} bytes, more than the maximum of {MAX_PACKET}"
        )));
    }
    if at + captured + 4 > block.len() {
        return Err(Defect::Corrupt(format!(
            "a packet of {captured} bytes in a block of {} bytes",
            block.len()
        )));
    }
    Ok(Record {
        timestamp_ns: interface.time.nanoseconds(ticks),
        original_length,
        link_type: interface.link_type,
        interface: interface.index,
        data: at..at + captured,
        size: block.len(),
    })
}

#[inline]
fn block_size(length: u32) -> Result<usize, Defect> {
    let size = length as usize;
    if size < BLOCK_OVERHEAD || !size.is_multiple_of(4) {
        return Err(Defect::Corrupt(format!("a block length of {size} bytes")));
    }
    Ok(size)
}

/// The next `size` bytes as one block whose closing length agrees.
#[inline]
fn whole_block(input: &mut Input, endian: Endian, size: usize) -> Result<&[u8], Defect> {
    if size > CAPACITY {
        return Err(Defect::Corrupt(format!(
            "a block of {size} bytes, more than the maximum of {CAPACITY}"
        )));
    }
    if !input.need(size)? {
        return Err(Defect::Truncated("a block"));
    }
    let block = &input.window()[..size];
    let closing = endian.u32(block, size - 4);
    if closing as usize != size {
        return Err(Defect::Corrupt(format!(
            "a block that begins with length {size} and ends with length {closing}"
        )));
    }
    Ok(block)
}

/// The options in `bytes`, up to the end mark or the first one that does not fit.
fn options(endian: Endian, mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (code, length) = (endian.u16(bytes, 0), usize::from(endian.u16(bytes, 2)));
        if bytes.len() < 4 || code == 0 {
            return None;
        }
        let value = bytes.get(4..4 + length)?;
        bytes = bytes
            .get(4 + length.next_multiple_of(4)..)
            .unwrap_or_default();
        Some((code, value))
    })
}

/// `if_tsresol` and `if_tsoffset`: how ticks become nanoseconds.
#[derive(Clone, Copy, Debug)]
struct TimeUnit {
    /// Nanoseconds = ticks x `multiply` / `divide` + `offset_ns`.
    multiply: i128,
    divide: i128,
    offset_ns: i128,
}

impl TimeUnit {
    fn new(resolution: u8, offset_seconds: i64) -> Self {
        let exponent = u32::from(resolution & 0x7f);
        let (multiply, divide) = match resolution & 0x80 {
            0 if exponent <= 9 => (10i128.pow(9 - exponent), 1),
            // Units so fine that 64 bits of them are less than a nanosecond.
            0 => (1, 10i128.checked_pow(exponent - 9).unwrap_or(i128::MAX)),
            _ => (
                1_000_000_000,
                1i128
                    .checked_shl(exponent)
                    .filter(|unit| *unit > 0)
                    .unwrap_or(i128::MAX),
            ),
        };
        Self {
            multiply,
            divide,
            offset_ns: i128::from(offset_seconds) * 1_000_000_000,
        }
    }

    /// Ticks are unsigned; where they reach beyond the year 2262 they are taken for a negative number, a time before 1970.
    #[inline]
    fn nanoseconds(self, ticks: u64) -> u64 {
        let convert = |ticks: i128| match self.divide {
            1 => ticks * self.multiply + self.offset_ns,
            divide => ticks * self.multiply / divide + self.offset_ns,
        };
        let nanoseconds = i64::try_from(convert(ticks.into()))
            .or_else(|_| i64::try_from(convert((ticks as i64).into())));
        nanoseconds.unwrap_or(i64::MAX) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_units() {
        assert_eq!(TimeUnit::new(6, 0).nanoseconds(1_500_000), 1_500_000_000);
        assert_eq!(TimeUnit::new(9, 0).nanoseconds(7), 7);
        assert_eq!(TimeUnit::new(0, 0).nanoseconds(3), 3_000_000_000);
        assert_eq!(TimeUnit::new(12, 0).nanoseconds(5_000), 5);
        assert_eq!(TimeUnit::new(0x8a, 0).nanoseconds(512), 500_000_000);
        assert_eq!(TimeUnit::new(6, 2).nanoseconds(1), 2_000_001_000);
        assert_eq!(TimeUnit::new(6, -1).nanoseconds(0) as i64, -1_000_000_000);
        assert_eq!(
            TimeUnit::new(6, 0).nanoseconds((-505_274_165i64) as u64) as i64,
            -505_274_165_000
        );
        for resolution in 0..=255 {
            for ticks in [0, 1, u64::MAX / 2, u64::MAX] {
                TimeUnit::new(resolution, i64::MAX).nanoseconds(ticks);
                TimeUnit::new(resolution, i64::MIN).nanoseconds(ticks);
            }
        }
    }
}
