//! What is known about each segment: all that the store keeps in memory about what is on disk.

use std::collections::VecDeque;
use std::io;

use super::disk::{Access, Disk, DiskFile};
use super::format::{SEGMENT_HEADER, SegmentHeader, SegmentLook, Slot};
use super::scan::{Body, Found};
use super::{Point, StoreError};

/// One segment file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) number: u64,
    pub(super) salt: u64,
    /// Where its records begin.
    pub(super) first: Point,
    /// Where they end.
    pub(super) end: Point,
    /// Bytes of the file that count.
    pub(super) len: u64,
    /// Its records were dropped; only the header is left.
    pub(super) dropped: bool,
    /// It holds urgent packets, as far as this process knows.
    pub(super) urgent: bool,
    /// Records below this number survive a power cut.
    pub(super) durable: u64,
    /// The system failed to make it durable, and would not tell a second time.
    pub(super) broken: bool,
}

impl Segment {
    pub(super) fn is_empty(&self) -> bool {
        self.first == self.end
    }

    pub(super) fn is_durable(&self) -> bool {
        self.dropped || self.durable >= self.end.record
    }

    /// Its records, in `file`.
    pub(super) fn body<'a, F>(&self, file: &'a F) -> Body<'a, F> {
        Body {
            file,
            end: self.len,
            salt: self.salt,
            limit: Some(self.end),
        }
    }
}

/// The name of segment `number`.
pub(super) fn name(number: u64) -> String {
    format!("segment-{number:016x}.lco")
}

fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("segment-")?.strip_suffix(".lco")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    // One name per number.
    (self::name(number) == name).then_some(number)
}

/// All segments of a directory, oldest first.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    pub(super) segments: VecDeque<Segment>,
    /// Numbers of segments without a record that counts, and their bytes.
    pub(super) empty: Vec<(u64, u64)>,
    /// Segments whose header is damaged.
    pub(super) damaged_headers: u64,
}

/// A segment of which only the file is known.
struct File<F> {
    file: F,
    number: u64,
    len: u64,
    header: Option<SegmentHeader>,
}

/// Reads the headers of all segments, and the record headers of the last one.
pub(super) fn load<D: Disk>(disk: &D, slot: Option<&Slot>) -> Result<Inventory, StoreError> {
    let mut numbers: Vec<u64> = disk
        .list()?
        .iter()
        .filter_map(|name| number(name))
        .collect();
    numbers.sort_unstable();
    let mut files = Vec::with_capacity(numbers.len());
    for number in numbers {
        match open(disk, number) {
            Ok(file) => files.push(file),
            // A running node has just removed it.
            Err(StoreError::Disk(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    // A damaged header has lost its salt, but the files of a directory share one.
    let salt = files
        .iter()
        .rev()
        .find_map(|file| file.header.map(|header| header.salt))
        .or(slot.map(|slot| slot.salt));
    let mut found = Inventory::default();
    let mut next: Option<Point> = None;
    for file in files.iter().rev() {
        match describe(file, salt.unwrap_or_default(), next)? {
            Some(segment) => {
                next = Some(segment.first);
                found.segments.push_front(segment);
            }
            None => found.empty.push((file.number, file.len)),
        }
        found.damaged_headers += u64::from(file.header.is_none());
    }
    found.set_aside_dropped();
    Ok(found)
}

impl Inventory {
    /// A dropped segment may speak for later ones whose files were not removed in time.
    fn set_aside_dropped(&mut self) {
        let mut dropped = Point::default();
        let empty = &mut self.empty;
        self.segments.retain(|segment| {
            if segment.dropped {
                dropped = dropped.max(segment.end);
            } else if segment.end <= dropped {
                empty.push((segment.number, segment.len));
                return false;
            }
            true
        });
    }
}

fn open<D: Disk>(disk: &D, number: u64) -> Result<File<D::File>, StoreError> {
    let file = disk.open(&name(number), Access::Read)?;
    let len = file.size()?;
    let mut bytes = [0; SEGMENT_HEADER];
    file.read_at(&mut bytes, 0)?;
    let header = match SegmentHeader::decode(&bytes) {
        SegmentLook::Good(header) => (header.number == number).then_some(header),
        SegmentLook::Damaged => None,
        SegmentLook::Version(version) => {
            return Err(StoreError::Version {
                file: name(number),
                version,
            });
        }
    };
    Ok(File {
        file,
        number,
        len,
        header,
    })
}

/// What a segment holds, given where the next one begins; `None` for nothing at all.
fn describe<F: DiskFile>(
    file: &File<F>,
    salt: u64,
    next: Option<Point>,
) -> io::Result<Option<Segment>> {
    let mut body = Body {
        file: &file.file,
        end: file.len,
        salt: file.header.map_or(salt, |header| header.salt),
        limit: next,
    };
    let first = match file.header {
        Some(header) => header.first,
        None => match first_record(&body)? {
            Some(first) => first,
            None => return Ok(None),
        },
    };
    let dropped = file.header.and_then(|header| header.dropped);
    if dropped.is_some() {
        body.end = body.end.min(SEGMENT_HEADER as u64);
    }
    let end = match (dropped, next) {
        (Some(end), _) | (None, Some(end)) => end,
        (None, None) => body.measure(SEGMENT_HEADER as u64, first)?,
    };
    Ok(Some(Segment {
        number: file.number,
        salt: body.salt,
        first,
        end: end.max(first),
        len: file.len,
        dropped: dropped.is_some(),
        urgent: false,
        durable: first.record,
        broken: false,
    }))
}

fn first_record<F: DiskFile>(body: &Body<'_, F>) -> io::Result<Option<Point>> {
    let mut offset = SEGMENT_HEADER as u64;
    loop {
        match body.look(offset)? {
            Found::Record(header) | Found::Torn(header) => return Ok(Some(header.at)),
            Found::Damage { next } => offset = next,
            Found::End => return Ok(None),
        }
    }
}
