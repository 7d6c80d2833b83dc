//! The disk overflow: packets that wait on disk while the processor does not take them.
//!
//! A [`Store`] is a queue of records in segment files. A record holds the encoded packets of one batch, the very bytes
//! that go to the processor; nothing here decodes a packet.
//!
//! ```text
//!   directory (0700)                    segment                          record
//!   position                            header: salt, number, where      header: magic, CRCs, length, number of the
//!   segment-0000000000000007.lco          the record and packet           record, number of its first packet, packets
//!   segment-0000000000000008.lco          numbers begin                  payload
//!   segment-0000000000000009.lco        record, record, ...
//! ```
//!
//! What it guarantees:
//! - records come out in the order in which they went in, and each until it is acknowledged: after a clean stop no
//!   acknowledged record comes again; after a kill or a power cut, only such whose acknowledgement was not on disk;
//! - a record below [`Store::durable`] survives a power cut; every other one survives the end of the process;
//! - what is torn or damaged is passed over. Records and packets carry running numbers, so what was lost is known
//!   exactly from what comes next. It is not where nothing comes next, at the very end after a power cut, and where
//!   the position file is lost together with the head of the oldest segment;
//! - damage is never taken for a record, not even where a hostile packet contains one: the CRCs begin with a secret
//!   salt;
//! - a full, read-only or failing disk is a [`State`], never the end of the process;
//! - memory and the time to open depend on the number of segments, not on that of records.
//!
//! What it does not: damage to the header that says of a segment that it was dropped makes its packets count as lost
//! too. With [`SyncPolicy::Never`] a power cut loses what the kernel had not written, and packets that
//! were delivered or dropped just before may then be counted as lost.
//!
//! Files are mapped into memory ([`mapped_file`]); what they grow by is written at positions, into the same pages.
//! A page that the system can't give, because the disk is full or fails or because somebody has cut the file, is
//! an error with a number all the same, not the SIGBUS that it is on a plain mapping. Mapped are the segment that is read
//! and the position; each other one for a moment, when it is looked at or dropped. Their pages belong to the
//! page cache, which the kernel takes back when it needs to.
//!
//! | module | what it does |
//! |---|---|
//! | `disk` | the few operations on files that the rest needs; tests put faults there |
//! | `format` | bytes of headers |
//! | `scan` | finds the records of a segment, also behind damage |
//! | `segments` | what is known about each segment |
//! | `position` | the file that holds what is acknowledged |
//! | `store` | the queue |
//! | `terms` | options, outcomes, counters |
//! | `survey` | looks at a directory without changing it |

mod disk;
mod format;
mod position;
mod scan;
mod segments;
mod store;
mod survey;
mod terms;

pub use disk::{Access, Directory, DirectoryError, Disk, DiskFile};
pub use store::Store;
pub use survey::{SegmentSurvey, Survey, SurveyError};
pub use terms::{
    Appended, Counters, Options, Policy, Record, Recovered, State, StoreError, SyncPolicy,
    Unavailable,
};

/// A point between two records: how many records, and how many packets, were ever appended before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// Number of the next record.
    pub record: u64,
    /// Number of its first packet.
    pub packet: u64,
}

impl Point {
    /// Records and packets from `earlier` to here.
    fn since(self, earlier: Self) -> Span {
        Span {
            records: self.record.saturating_sub(earlier.record),
            packets: self.packet.saturating_sub(earlier.packet),
        }
    }
}

/// A number of records and the packets in them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Records.
    pub records: u64,
    /// Packets.
    pub packets: u64,
}

impl std::ops::AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.packets += other.packets;
    }
}

impl std::ops::SubAssign for Span {
    fn sub_assign(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.packets = self.packets.saturating_sub(other.packets);
    }
}
