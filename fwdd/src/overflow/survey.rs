//! Looks at a directory without changing it, also while a node works in it.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::disk::{Access, Directory, DirectoryError, Disk};
use super::format::{Place, SEGMENT_HEADER};
use super::position;
use super::scan::Found;
use super::segments::{self, Segment};
use super::terms::Record;
use super::{Point, StoreError};

/// What a directory holds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Survey {
    /// Whether a process works in it.
    pub in_use: bool,
    /// Records before this number are acknowledged.
    pub acknowledged: u64,
    /// Segments, oldest first.
    pub segments: Vec<SegmentSurvey>,
    /// Segments whose header is damaged.
    pub damaged_headers: u64,
    /// Records that wait and are lost, by what comes after them.
    pub lost_records: u64,
    /// Packets in those.
    pub lost_packets: u64,
}

/// What a segment holds.
#[derive(Debug, Clone, Default, Serialize)]
pub struct SegmentSurvey {
    /// Its file's name.
    pub file: String,
    /// Size of the file.
    pub bytes: u64,
    /// Number of its first record.
    pub first_record: u64,
    /// Whole records.
    pub records: u64,
    /// Packets in them.
    pub packets: u64,
    /// Those of the records that are not acknowledged.
    pub waiting_records: u64,
    /// Packets in them.
    pub waiting_packets: u64,
    /// Damaged places.
    pub damaged: u64,
    /// Whether its records were dropped for want of room.
    pub dropped: bool,
}

/// Why a directory can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum SurveyError {
    /// The directory itself.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What is in it.
    #[error("{path}: {error}")]
    Store {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        error: StoreError,
    },
}

impl Survey {
    /// Looks at every record below `path`, with its CRCs. Gives those that wait to `each`, in order.
    ///
    /// # Errors
    ///
    /// See [`SurveyError`]. Damage is no error, but part of the result.
    pub fn of(path: &Path, each: impl FnMut(Record)) -> Result<Self, SurveyError> {
        let disk = Directory::look(path)?;
        let in_use = disk.is_locked();
        survey(&disk, in_use, each).map_err(|error| SurveyError::Store {
            path: path.to_owned(),
            error,
        })
    }

    /// Whether anything is damaged or missing.
    pub fn is_damaged(&self) -> bool {
        self.damaged_headers > 0
            || self.lost_records > 0
            || self.lost_packets > 0
            || self.segments.iter().any(|segment| segment.damaged > 0)
    }
}

fn survey<D: Disk>(
    disk: &D,
    in_use: bool,
    mut each: impl FnMut(Record),
) -> Result<Survey, StoreError> {
    let slot = position::load(disk)?;
    let inventory = segments::load(disk, slot.as_ref())?;
    let position = match (slot, inventory.segments.front()) {
        (Some(slot), _) => slot.place,
        (None, first) => Place {
            at: first.map_or(Point::default(), |first| first.first),
            ..Place::default()
        },
    };
    let mut survey = Survey {
        in_use,
        acknowledged: position.at.record,
        damaged_headers: inventory.damaged_headers,
        ..Survey::default()
    };
    let mut walk = Walk {
        position,
        at: position.at,
        survey: &mut survey,
    };
    let last = inventory.segments.back().map(|last| last.number);
    for segment in &inventory.segments {
        let file = match disk.open(&segments::name(segment.number), Access::Read) {
            // The node has just removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                walk.at = walk.at.max(segment.end);
                continue;
            }
            opened => opened?,
        };
        let growing = in_use && last == Some(segment.number);
        walk.segment(segment, &file, growing, &mut each)?;
    }
    Ok(survey)
}

struct Walk<'a> {
    position: Place,
    /// How far everything is explained.
    at: Point,
    survey: &'a mut Survey,
}

impl Walk<'_> {
    fn segment<F: super::DiskFile>(
        &mut self,
        segment: &Segment,
        file: &F,
        growing: bool,
        each: &mut impl FnMut(Record),
    ) -> io::Result<()> {
        let mut seen = SegmentSurvey {
            file: segments::name(segment.number),
            bytes: segment.len,
            first_record: segment.first.record,
            dropped: segment.dropped,
            ..SegmentSurvey::default()
        };
        self.lose_to(segment.first);
        if segment.dropped {
            self.at = self.at.max(segment.end);
        } else {
            self.records(segment, file, growing, &mut seen, each)?;
            if !growing {
                self.lose_to(segment.end);
            }
        }
        self.survey.segments.push(seen);
        Ok(())
    }

    fn records<F: super::DiskFile>(
        &mut self,
        segment: &Segment,
        file: &F,
        growing: bool,
        seen: &mut SegmentSurvey,
        each: &mut impl FnMut(Record),
    ) -> io::Result<()> {
        let body = segment.body(file);
        let mut offset = SEGMENT_HEADER as u64;
        loop {
            let header = match body.look(offset)? {
                Found::Record(header) => header,
                Found::End => return Ok(()),
                // The node is just writing here.
                Found::Torn(_) if growing => return Ok(()),
                Found::Torn(_) => {
                    seen.damaged += 1;
                    return Ok(());
                }
                Found::Damage { next } => {
                    seen.damaged += u64::from(!growing || next < segment.len);
                    offset = next;
                    continue;
                }
            };
            let payload = body.payload(offset, &header)?;
            offset += header.size();
            let Some(payload) = payload else {
                seen.damaged += u64::from(!growing || offset < segment.len);
                continue;
            };
            seen.records += 1;
            seen.packets += u64::from(header.packets);
            if header.at.record >= self.position.at.record {
                seen.waiting_records += 1;
                seen.waiting_packets += u64::from(header.packets);
                self.lose_to(header.at);
                self.at = self.at.max(header.end());
                each(Record {
                    number: header.at.record,
                    packets: header.packets,
                    payload,
                });
            }
        }
    }

    fn lose_to(&mut self, point: Point) {
        let lost = point.since(self.at);
        self.survey.lost_records += lost.records;
        self.survey.lost_packets += lost.packets;
        self.at = self.at.max(point);
    }
}
