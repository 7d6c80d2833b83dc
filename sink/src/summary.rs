//! What arrived, in numbers, and the journal that keeps them true across a SIGKILL.
//!
//! The summary file is replaced atomically at least every second and at the end. Between two replacements each recorded
//! batch adds one line to `<summary>.journal`: its counts, and the lengths that the other files have with it. The line is
//! the batch's commit. At start the journal is counted into the summary, and the other files are cut to the lengths of its
//! last line: a batch that a killed process did not finish is gone everywhere, and since it was never acknowledged, its
//! hunter sends it again. A clean end removes the journal. A sink that discards keeps no journal: a kill costs it up to a
//! second of counts.
//!
//! A batch counts as received again if its hunter sent the same sequence number before. A hunter that is started anew
//! numbers from 1 again, so a summary is meant to be continued over restarts of the sink, not of the hunters.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lc_proto::data::PacketBatch;
use lc_proto::passthrough::BatchScan;
use serde::{Deserialize, Serialize};

/// Names per table beyond which further ones are counted together.
const MAX_NAMES: usize = 65_536;

/// The name under which these are counted.
const OTHER: &str = "(other)";

/// The name of packets that say nothing about it.
const NONE: &str = "(none)";

/// Ranges of sequence numbers per hunter beyond which the oldest gap is forgotten.
const MAX_RANGES: usize = 65_536;

/// What arrived.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Number of the journal that continues this summary.
    pub journal: u64,
    /// Everything together.
    #[serde(flatten)]
    pub totals: Totals,
    /// Packets that the pcapng file does not hold because their lengths or link type are impossible.
    pub malformed_packets: u64,
    /// The same by hunter, with sequence numbers.
    pub hunters: BTreeMap<String, Hunter>,
    /// By the metadata's protocol. Empty with discard, like the other tables below.
    pub protocols: BTreeMap<String, Count>,
    /// By the metadata's transport.
    pub transports: BTreeMap<String, Count>,
    /// By filter id; a packet counts for each filter that it matched.
    pub filters: BTreeMap<String, Count>,
}

/// Sums over batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Batches, empty ones and those received again included.
    pub batches: u64,
    /// Packets in them.
    pub packets: u64,
    /// Captured bytes of these packets.
    pub bytes: u64,
    /// Batches whose sequence number the hunter had sent before.
    pub batches_again: u64,
    /// Packets in them.
    pub packets_again: u64,
    /// Earliest capture time, Unix nanoseconds; unknown with discard.
    pub first_timestamp_ns: Option<i64>,
    /// Latest capture time, Unix nanoseconds; unknown with discard.
    pub last_timestamp_ns: Option<i64>,
}

/// What one hunter sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunter {
    /// Sums over its batches.
    #[serde(flatten)]
    pub totals: Totals,
    /// Sequence numbers seen, as first and last of each unbroken range.
    pub sequences: Vec<(u64, u64)>,
    /// Numbers that are missing between the lowest and the highest seen.
    pub missing_batches: u64,
}

/// Packets and their captured bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Captured bytes.
    pub bytes: u64,
}

impl Summary {
    /// Counts one batch in.
    pub(crate) fn add(&mut self, batch: &Tally) {
        let id = bounded(&self.hunters, &batch.hunter_id).to_owned();
        let hunter = self.hunters.entry(id).or_default();
        let again = !hunter.see(batch.sequence);
        hunter.totals.add(batch, again);
        self.totals.add(batch, again);
        self.malformed_packets += batch.malformed_packets;
        add_counts(&mut self.protocols, &batch.protocols);
        add_counts(&mut self.transports, &batch.transports);
        add_counts(&mut self.filters, &batch.filters);
    }
}

impl Totals {
    fn add(&mut self, batch: &Tally, again: bool) {
        self.batches += 1;
        self.packets += batch.packets;
        self.bytes += batch.bytes;
        if again {
            self.batches_again += 1;
            self.packets_again += batch.packets;
        }
        if let Some((first, last)) = batch.times {
            self.first_timestamp_ns = Some(
                self.first_timestamp_ns
                    .map_or(first, |time| time.min(first)),
            );
            self.last_timestamp_ns =
                Some(self.last_timestamp_ns.map_or(last, |time| time.max(last)));
        }
    }
}

impl Hunter {
    /// Notes a sequence number and tells whether it is new.
    fn see(&mut self, sequence: u64) -> bool {
        let ranges = &mut self.sequences;
        // The first range that does not end before the number.
        let at = ranges.partition_point(|(_, last)| *last < sequence);
        if ranges.get(at).is_some_and(|(first, _)| *first <= sequence) {
            return false;
        }
        match (ranges.first(), ranges.last()) {
            (Some((first, _)), _) if sequence < *first => {
                self.missing_batches += first - sequence - 1
            }
            (_, Some((_, last))) if sequence > *last => self.missing_batches += sequence - last - 1,
            (Some(_), _) => self.missing_batches -= 1,
            (None, _) => {}
        }
        let joins_left = at > 0 && ranges[at - 1].1.checked_add(1) == Some(sequence);
        let joins_right = ranges
            .get(at)
            .is_some_and(|(first, _)| sequence.checked_add(1) == Some(*first));
        match (joins_left, joins_right) {
            (true, true) => {
                ranges[at - 1].1 = ranges[at].1;
                ranges.remove(at);
            }
            (true, false) => ranges[at - 1].1 = sequence,
            (false, true) => ranges[at].0 = sequence,
            (false, false) => ranges.insert(at, (sequence, sequence)),
        }
        if ranges.len() > MAX_RANGES {
            self.missing_batches -= ranges[1].0 - ranges[0].1 - 1;
            ranges[0].1 = ranges[1].1;
            ranges.remove(1);
        }
        true
    }
}

/// The counts of one batch.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Tally {
    pub(crate) hunter_id: String,
    pub(crate) sequence: u64,
    pub(crate) packets: u64,
    pub(crate) bytes: u64,
    pub(crate) malformed_packets: u64,
    times: Option<(i64, i64)>,
    protocols: BTreeMap<String, Count>,
    transports: BTreeMap<String, Count>,
    filters: BTreeMap<String, Count>,
}

impl Tally {
    /// Counts a decoded batch.
    pub(crate) fn of(batch: &PacketBatch) -> Self {
        let mut tally = Self {
            hunter_id: batch.hunter_id.clone(),
            sequence: batch.sequence,
            ..Self::default()
        };
        for packet in &batch.packets {
            let count = Count {
                packets: 1,
                bytes: packet.data.len() as u64,
            };
            let time = packet.timestamp_ns;
            tally.packets += count.packets;
            tally.bytes += count.bytes;
            tally.times = Some(tally.times.map_or((time, time), |(first, last)| {
                (first.min(time), last.max(time))
            }));
            let (protocol, transport) = match &packet.metadata {
                Some(metadata) => (metadata.protocol.as_str(), metadata.transport.as_str()),
                None => ("", ""),
            };
            add_count(&mut tally.protocols, or_none(protocol), count);
            add_count(&mut tally.transports, or_none(transport), count);
            for id in &packet.matched_filter_ids {
                add_count(&mut tally.filters, id, count);
            }
        }
        tally
    }

    /// Counts a batch whose packets were not decoded.
    pub(crate) fn of_scan(scan: &BatchScan) -> Self {
        Self {
            hunter_id: scan.hunter_id.clone(),
            sequence: scan.sequence,
            packets: scan.packets,
            bytes: scan.captured_bytes,
            ..Self::default()
        }
    }
}

/// One line of a journal.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Commit {
    /// Number of the journal that the line belongs to.
    pub(crate) journal: u64,
    /// The other files and their lengths with this batch.
    pub(crate) files: Vec<(PathBuf, u64)>,
    /// The batch; `None` on a journal's first line, which only states the lengths.
    pub(crate) batch: Option<Tally>,
}

fn add_counts(table: &mut BTreeMap<String, Count>, counts: &BTreeMap<String, Count>) {
    for (name, count) in counts {
        add_count(table, name, *count);
    }
}

fn add_count(table: &mut BTreeMap<String, Count>, name: &str, count: Count) {
    let name = bounded(table, name);
    let sum = match table.get_mut(name) {
        Some(sum) => sum,
        None => table.entry(name.to_owned()).or_default(),
    };
    sum.packets += count.packets;
    sum.bytes += count.bytes;
}

/// `name`, or the collective name if the table is full and does not hold it.
fn bounded<'n, V>(table: &BTreeMap<String, V>, name: &'n str) -> &'n str {
    if table.len() < MAX_NAMES || table.contains_key(name) {
        name
    } else {
        OTHER
    }
}

fn or_none(name: &str) -> &str {
    if name.is_empty() { NONE } else { name }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_the_set_of_sequences(sequences in prop::collection::vec(0..40u64, 0..60)) {
            let mut hunter = Hunter::default();
            let mut seen = BTreeSet::new();
            for sequence in sequences {
                prop_assert_eq!(hunter.see(sequence), seen.insert(sequence));
            }
            let covered: Vec<u64> = hunter.sequences.iter().flat_map(|(first, last)| *first..=*last).collect();
            prop_assert_eq!(&covered, &seen.iter().copied().collect::<Vec<_>>());
            // Ranges are as long as can be.
            prop_assert!(hunter.sequences.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
            let span = seen.last().map_or(0, |last| last - seen.first().unwrap() + 1);
            prop_assert_eq!(hunter.missing_batches, span - seen.len() as u64);
        }
    }

    #[test]
    fn the_highest_numbers_do_not_overflow() {
        let mut hunter = Hunter::default();
        assert!(hunter.see(u64::MAX));
        assert!(hunter.see(0));
        assert!(!hunter.see(u64::MAX));
        assert!(hunter.see(u64::MAX - 1));
        assert_eq!(hunter.sequences, [(0, 0), (u64::MAX - 1, u64::MAX)]);
    }

    #[test]
    fn tables_are_bounded() {
        let mut summary = Summary::default();
        for number in 0..MAX_NAMES as u64 + 10 {
            summary.add(&Tally {
                hunter_id: number.to_string(),
                sequence: 1,
                ..Tally::default()
            });
        }
        assert_eq!(summary.hunters.len(), MAX_NAMES + 1);
        assert_eq!(summary.hunters[OTHER].totals.batches, 10);
        let mut hunter = Hunter::default();
        for number in 0..MAX_RANGES as u64 + 10 {
            hunter.see(number * 2);
        }
        assert_eq!(hunter.sequences.len(), MAX_RANGES);
        assert_eq!(hunter.missing_batches, MAX_RANGES as u64 - 1);
    }
}
