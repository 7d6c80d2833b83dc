//! The classic pcap format (draft-ietf-opsawg-pcap): microsecond, nanosecond and "modified" files of either byte order.

use super::input::{Endian, Input};
use super::{Defect, MAX_PACKET, Record};

/// Reader state behind the file header.
#[derive(Debug)]
pub(crate) struct Pcap {
    endian: Endian,
    /// Nanoseconds per unit of the second timestamp word.
    unit_ns: u32,
    record_header: usize,
    /// Files of version 2.3 and before may have the two lengths swapped.
    may_be_swapped: bool,
    link_type: u16,
    interface: u16,
}

const FILE_HEADER: usize = 24;

/// Byte order, nanoseconds per time unit and record header size of a magic number.
fn dialect(magic: [u8; 4]) -> Option<(Endian, u32, usize)> {
    let (endian, number) = match magic {
        [0xa1, ..] => (Endian::Big, u32::from_be_bytes(magic)),
        [.., 0xa1] => (Endian::Little, u32::from_le_bytes(magic)),
        _ => return None,
    };
    match number {
        0xa1b2_c3d4 => Some((endian, 1000, 16)),
        0xa1b2_3c4d => Some((endian, 1, 16)),
        // Kuznetzov's patched libpcap: interface index, protocol and packet type follow the usual record header.
        0xa1b2_cd34 => Some((endian, 1000, 24)),
        _ => None,
    }
}

impl Pcap {
    /// Whether a file that begins so is of this format.
    pub(crate) fn recognises(magic: [u8; 4]) -> bool {
        dialect(magic).is_some()
    }

    /// Reads the file header. `register` names the file's one interface by its link type.
    pub(crate) fn open(
        input: &mut Input,
        register: &mut dyn FnMut(Option<&str>, u16) -> u16,
    ) -> Result<Self, Defect> {
        if !input.need(FILE_HEADER)? {
            return Err(Defect::Truncated("the file header"));
        }
        let header = input.window();
        let magic = header.first_chunk().copied().unwrap_or_default();
        let (endian, unit_ns, record_header) =
            dialect(magic).ok_or_else(|| Defect::Corrupt("no pcap magic number".into()))?;
        let (major, minor) = (endian.u16(header, 4), endian.u16(header, 6));
        if major != 2 {
            return Err(Defect::Corrupt(format!(
                "pcap version {major}.{minor} is not known"
            )));
        }
        // The upper half of the word holds the length of the frame check sequence.
        let link_type = endian.u32(header, 20) as u16;
        input.consume(FILE_HEADER);
        let interface = register(None, link_type);
        Ok(Self {
            endian,
            unit_ns,
            record_header,
            may_be_swapped: minor <= 3,
            link_type,
            interface,
        })
    }

    /// The next packet, whole in the input's window; `None` at the end of the file.
    #[inline]
    pub(crate) fn next(&mut self, input: &mut Input) -> Result<Option<Record>, Defect> {
        if !input.need(self.record_header)? {
            return if input.window().is_empty() {
                Ok(None)
            } else {
                Err(Defect::Truncated("a packet header"))
            };
        }
        let header = input.window();
        let seconds = self.endian.u32(header, 0);
        let fraction = self.endian.u32(header, 4);
        let mut captured = self.endian.u32(header, 8);
        let mut original_length = self.endian.u32(header, 12);
        if self.may_be_swapped && captured > original_length {
            std::mem::swap(&mut captured, &mut original_length);
        }
        let captured = captured as usize;
        // More than the file's own snap length is tolerated: writers get that field wrong.
        if captured > MAX_PACKET {
            return Err(Defect::Corrupt(format!(
                "a packet of {captured} bytes, more than the maximum of {MAX_PACKET}"
            )));
        }
        let size = self.record_header + captured;
        if !input.need(size)? {
            return Err(Defect::Truncated("a packet"));
        }
        Ok(Some(Record {
            timestamp_ns: u64::from(seconds) * 1_000_000_000
                + u64::from(fraction) * u64::from(self.unit_ns),
            original_length,
            link_type: self.link_type,
            interface: self.interface,
            data: self.record_header..size,
            size,
        }))
    }
}
