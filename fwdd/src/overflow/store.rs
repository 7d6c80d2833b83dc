//! The queue on disk.
//!
//! Sans-io as far as it goes: the clock is an argument, and the files are behind [`Disk`].
//!
//! Everything that leaves the store leaves it by moving the position: by an acknowledgement, by passing damage, or by
//! dropping the oldest segment. Losses are counted only when the position moves over them, so neither a repeated
//! reading nor a new process counts them twice.

use std::collections::VecDeque;
use std::io;
use std::time::{Duration, Instant};

use super::disk::{Access, Disk, DiskFile};
use super::format::{Place, RECORD_HEADER, RecordHeader, SEGMENT_HEADER, SegmentHeader};
use super::position::{self, PositionFile};
use super::scan::Found;
use super::segments::{self, Segment};
use super::terms::{
    Appended, Counters, Options, Policy, Record, Recovered, State, StoreError, SyncPolicy,
    Unavailable,
};
use super::{Point, Span};

/// Largest size of a segment, unless one record alone is larger.
const LARGEST_SEGMENT: u64 = 16 << 20;
/// Smallest size of a full segment.
const SMALLEST_SEGMENT: u64 = 16 << 10;
/// Segments that the limit is divided into, if they are not too large then: dropping one is dropping this share.
const SEGMENTS: u64 = 16;
/// After an error, before the disk is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Failures to read the same bytes before they are passed over.
const READ_TRIES: u32 = 3;
/// What is passed over then, up to the next multiple.
const SECTOR: u64 = 4096;

/// A queue of records on disk. See the module.
pub struct Store<D: Disk> {
    disk: D,
    options: Options,
    segment_bytes: u64,
    salt: u64,
    segments: VecDeque<Segment>,
    /// Files that are done with but could not be removed, and their bytes.
    leftovers: Vec<(u64, u64)>,
    /// The last segment, while it may grow.
    active: Option<D::File>,
    next_segment: u64,
    /// Behind the last record.
    end: Point,
    /// Everything before this is done with.
    position: Place,
    position_file: PositionFile<D::File>,
    reader: Place,
    reading: Option<(u64, D::File)>,
    read_failures: u32,
    read_retry_at: Option<Instant>,
    /// What the reader passed since the last record.
    passed: Passed,
    /// Records that were read and not acknowledged, oldest first.
    in_flight: VecDeque<InFlight>,
    state: State,
    retry_at: Option<Instant>,
    directory_changed: bool,
    synced_at: Instant,
    counters: Counters,
    scratch: Vec<u8>,
}

/// Losses that are not counted yet.
#[derive(Debug, Clone, Copy, Default)]
struct Passed {
    lost: Span,
    damaged: u64,
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    packets: u64,
    before: Passed,
    after: Place,
}

impl<D: Disk> Store<D> {
    /// Opens the store of a directory, or begins one. Reads the headers of the segments and walks over the last one;
    /// everything else is checked when it is its turn.
    ///
    /// # Errors
    ///
    /// See [`StoreError`].
    pub fn open(disk: D, options: Options, now: Instant) -> Result<(Self, Recovered), StoreError> {
        let slot = position::load(&disk)?;
        let inventory = segments::load(&disk, slot.as_ref())?;
        let segments = inventory.segments;
        let position = match (&slot, segments.front()) {
            (Some(slot), _) => slot.place,
            (None, Some(first)) => Place {
                at: first.first,
                segment: first.number,
                offset: SEGMENT_HEADER as u64,
            },
            (None, None) => Place::default(),
        };
        let end = segments
            .back()
            .map_or(position.at, |last| last.end.max(position.at));
        let last_number = inventory
            .empty
            .iter()
            .map(|(number, _)| *number)
            .chain(segments.back().map(|last| last.number))
            .chain([position.segment])
            .max();
        let mut waiting = end.since(position.at);
        for dropped in segments.iter().filter(|segment| segment.dropped) {
            waiting -= dropped.end.since(dropped.first.max(position.at));
        }
        let bytes = segments.iter().map(|segment| segment.len).sum::<u64>()
            + inventory.empty.iter().map(|(_, len)| len).sum::<u64>();
        let recovered = Recovered {
            waiting,
            bytes,
            segments: segments.len() as u64,
            damaged_headers: inventory.damaged_headers,
        };
        let salt = match (segments.back(), &slot) {
            (Some(last), _) => last.salt,
            (None, Some(slot)) => slot.salt,
            (None, None) => rand::random(),
        };
        let mut store = Self {
            disk,
            options,
            segment_bytes: (options.limit / SEGMENTS).clamp(SMALLEST_SEGMENT, LARGEST_SEGMENT),
            salt,
            segments,
            leftovers: inventory.empty,
            active: None,
            next_segment: last_number.map_or(0, |last| last.saturating_add(1)),
            end,
            position,
            position_file: PositionFile::new(slot.as_ref()),
            reader: position,
            reading: None,
            read_failures: 0,
            read_retry_at: None,
            passed: Passed::default(),
            in_flight: VecDeque::new(),
            state: State::Ok,
            retry_at: None,
            directory_changed: true,
            synced_at: now,
            counters: Counters {
                recovered: waiting,
                waiting,
                bytes,
                ..Counters::default()
            },
            scratch: Vec::new(),
        };
        // While there is room for it: later it is only overwritten.
        store.save_position(now);
        store.remove_leftovers(now);
        store.release(now);
        Ok((store, recovered))
    }

    /// Takes in a record of `packets` packets; `urgent` if any of them is.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: the caller keeps the record. When the process ends before a later success, the record may all
    /// the same be found on disk.
    pub fn append(
        &mut self,
        packets: u32,
        urgent: bool,
        payload: &[u8],
        now: Instant,
    ) -> Result<Appended, Unavailable> {
        if self.state != State::Full && self.retry_at.is_some_and(|at| now < at) {
            return Err(Unavailable { state: self.state });
        }
        let size = (RECORD_HEADER + payload.len()) as u64;
        let too_long = u32::try_from(payload.len()).is_err();
        if too_long || size + SEGMENT_HEADER as u64 > self.options.limit {
            self.counters.too_long += Span {
                records: 1,
                packets: u64::from(packets),
            };
            return Ok(Appended::TooLong);
        }
        while self.is_full_for(payload.len()) {
            if self.options.policy == Policy::DropNewest || !self.drop_oldest(now) {
                self.state = State::Full;
                return Err(Unavailable { state: State::Full });
            }
        }
        while let Err(error) = self.write(packets, payload, now) {
            let state = State::of(&error);
            let full = state == State::Full;
            if full && self.options.policy == Policy::DropOldest && self.drop_oldest(now) {
                continue;
            }
            self.fault(&error, now);
            return Err(Unavailable { state });
        }
        if let Some(last) = self.segments.back_mut() {
            last.urgent |= urgent;
        }
        (self.state, self.retry_at) = (State::Ok, None);
        let number = self.end.record - 1;
        self.sync_if_due(now, true);
        Ok(Appended::Stored(number))
    }

    /// Counts the last record as read, though nobody reads it: the caller still holds its bytes. Only when everything
    /// before it was read.
    pub fn pass_appended(&mut self) {
        let Some(last) = self.segments.back() else {
            return;
        };
        let after = Place {
            at: last.end,
            segment: last.number,
            offset: last.len,
        };
        self.in_flight.push_back(InFlight {
            number: last.end.record.saturating_sub(1),
            packets: last.end.packet.saturating_sub(self.reader.at.packet),
            before: std::mem::take(&mut self.passed),
            after,
        });
        self.reader = after;
        self.reading = None;
    }

    /// Whether everything was read.
    pub fn is_read(&self) -> bool {
        self.reader.at >= self.end
    }

    /// Number that the next record gets.
    pub fn next_number(&self) -> u64 {
        self.end.record
    }

    /// Number below which no record waits.
    pub fn first_number(&self) -> u64 {
        self.position.at.record
    }

    /// Whether a record of this many bytes has no room within the limit.
    pub fn is_full_for(&self, payload: usize) -> bool {
        let size = (RECORD_HEADER + payload) as u64;
        self.counters.bytes + self.growth(size) > self.options.limit
    }

    /// Whether what would be dropped next holds urgent packets. Of segments of a former process that is not known; they
    /// count as not urgent.
    pub fn oldest_is_urgent(&self) -> bool {
        let next = match self.in_flight.is_empty() {
            true => self.segment_at_reader(),
            false => self
                .segments
                .iter()
                .find(|segment| self.is_droppable(segment))
                .copied(),
        };
        next.is_some_and(|segment| segment.urgent)
    }

    /// The next record that was not read yet; `None` when there is none, or when the disk does not give it now.
    pub fn read(&mut self, now: Instant) -> Option<Record> {
        if self.read_retry_at.is_some_and(|at| now < at) {
            return None;
        }
        self.read_retry_at = None;
        loop {
            let Some(segment) = self.segment_at_reader() else {
                self.pass_to(self.end);
                self.settle_idle(now);
                return None;
            };
            if segment.number > self.reader.segment {
                self.pass_to(segment.first);
                self.move_reader(segment.number);
            } else if segment.dropped {
                self.reader.at = self.reader.at.max(segment.end);
                self.move_reader(segment.number + 1);
            } else if self.reader.offset < segment.len {
                match self.read_here(&segment) {
                    Ok(Some(record)) => return Some(record),
                    Ok(None) => {}
                    Err(error) => {
                        if !self.pass_unreadable(&segment, &error, now) {
                            return None;
                        }
                    }
                }
            } else if self.is_active(&segment) {
                self.pass_to(segment.end);
                self.settle_idle(now);
                return None;
            } else {
                self.pass_to(segment.end);
                self.move_reader(segment.number + 1);
            }
        }
    }

    /// The record of this number, and all before it, are done with. Says how many that were.
    pub fn acknowledge(&mut self, number: u64, now: Instant) -> Span {
        let mut acknowledged = Span::default();
        let mut after = None;
        while let Some(oldest) = self.in_flight.pop_front_if(|one| one.number <= number) {
            acknowledged += Span {
                records: 1,
                packets: oldest.packets,
            };
            self.count_passed(oldest.before);
            after = Some(oldest.after);
        }
        let Some(after) = after else {
            return acknowledged;
        };
        self.counters.acknowledged += acknowledged;
        self.counters.waiting -= acknowledged;
        self.position = after;
        if self.in_flight.is_empty() {
            self.count_reader_passed();
            self.position = self.reader;
        }
        self.save_position(now);
        self.release(now);
        acknowledged
    }

    /// Reads again from the first record that is not acknowledged.
    pub fn rewind(&mut self) {
        self.in_flight.clear();
        self.passed = Passed::default();
        self.reader = self.position;
        self.reading = None;
    }

    /// To be called now and then: makes durable what is due, and tries again what failed.
    pub fn tick(&mut self, now: Instant) {
        self.sync_if_due(now, false);
        if self.retry_at.is_some_and(|at| now < at) {
            return;
        }
        if self.position_file.stale {
            self.save_position(now);
        }
        if !self.leftovers.is_empty() {
            self.remove_leftovers(now);
        }
    }

    /// Makes everything durable.
    ///
    /// # Errors
    ///
    /// The first failure. What it concerns is not durable then, and is never called so.
    pub fn sync(&mut self, now: Instant) -> io::Result<()> {
        self.synced_at = now;
        let mut result = self.position_file.sync();
        let mut synced = Vec::new();
        for index in 0..self.segments.len() {
            let segment = self.segments[index];
            if segment.is_durable() || segment.broken {
                continue;
            }
            match self.sync_segment(&segment) {
                Ok(()) => synced.push(index),
                Err(error) => {
                    // The kernel forgets a failure once it was told: what comes next goes to a new file.
                    self.segments[index].broken = true;
                    if self.is_active(&segment) {
                        self.active = None;
                    }
                    result = result.and(Err(error));
                }
            }
        }
        if self.directory_changed {
            match self.disk.sync() {
                Ok(()) => self.directory_changed = false,
                Err(error) => {
                    synced.clear();
                    result = result.and(Err(error));
                }
            }
        }
        for index in synced {
            self.segments[index].durable = self.segments[index].end.record;
        }
        if let Err(error) = &result {
            self.counters.sync_errors += 1;
            self.state = State::of(error);
        }
        result
    }

    /// Every record below this number that is neither acknowledged nor dropped survives a power cut.
    pub fn durable(&self) -> u64 {
        let first = self.segments.iter().find(|segment| !segment.is_durable());
        first
            .map_or(self.end.record, |segment| segment.durable)
            .max(self.position.at.record)
    }

    /// A clean end: remembers what is acknowledged, and makes everything durable.
    ///
    /// # Errors
    ///
    /// Whatever the disk says. Then some records may be delivered again after the next start.
    pub fn close(mut self, now: Instant) -> io::Result<()> {
        if self.in_flight.is_empty() {
            self.count_reader_passed();
            self.position = self.reader;
        }
        if self.counters.waiting == Span::default() && self.in_flight.is_empty() {
            self.active = None;
            self.position = Place {
                at: self.end,
                segment: self.next_segment,
                offset: SEGMENT_HEADER as u64,
            };
        }
        self.position_file
            .save(&self.disk, self.salt, self.position)?;
        self.release(now);
        self.directory_changed = true;
        self.sync(now)
    }

    /// How writing goes.
    pub fn state(&self) -> State {
        self.state
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        Counters {
            segments: (self.segments.len() + self.leftovers.len()) as u64,
            ..self.counters
        }
    }

    // Writing.

    /// By how much a record of `size` bytes makes the files grow.
    fn growth(&self, size: u64) -> u64 {
        match self.has_room(size) {
            true => size,
            false => size + SEGMENT_HEADER as u64,
        }
    }

    /// Whether the active segment takes `size` bytes more.
    fn has_room(&self, size: u64) -> bool {
        self.active.is_some()
            && self
                .segments
                .back()
                .is_some_and(|last| last.is_empty() || last.len + size <= self.segment_bytes)
    }

    fn write(&mut self, packets: u32, payload: &[u8], now: Instant) -> io::Result<()> {
        let header = RecordHeader::of(self.end, packets, payload, self.salt);
        if !self.has_room(header.size()) {
            self.seal(now);
            self.start_segment()?;
        }
        let (Some(file), Some(last)) = (&self.active, self.segments.back_mut()) else {
            return Err(io::Error::other("no segment"));
        };
        self.scratch.clear();
        self.scratch.extend_from_slice(&header.encode(self.salt));
        self.scratch.extend_from_slice(payload);
        if let Err(error) = file.write_at(&self.scratch, last.len) {
            let cut = file.truncate(last.len).is_ok();
            if !cut || State::of(&error) != State::Full {
                self.seal(now);
            }
            return Err(error);
        }
        last.len += header.size();
        last.end = header.end();
        self.end = last.end;
        self.counters.bytes += header.size();
        let one = Span {
            records: 1,
            packets: u64::from(packets),
        };
        self.counters.appended += one;
        self.counters.waiting += one;
        Ok(())
    }

    fn start_segment(&mut self) -> io::Result<()> {
        let number = self.next_segment;
        // A number is used once, whatever becomes of its file.
        self.next_segment += 1;
        let header = SegmentHeader {
            salt: self.salt,
            number,
            first: self.end,
            dropped: None,
        };
        let file = self.disk.create(&segments::name(number))?;
        self.directory_changed = true;
        if let Err(error) = file.write_at(&header.encode(), 0) {
            if self.disk.remove(&segments::name(number)).is_err() {
                self.leftovers.push((number, 0));
            }
            return Err(error);
        }
        self.counters.bytes += SEGMENT_HEADER as u64;
        self.segments.push_back(Segment {
            number,
            salt: self.salt,
            first: self.end,
            end: self.end,
            len: SEGMENT_HEADER as u64,
            dropped: false,
            urgent: false,
            durable: self.end.record,
            broken: false,
        });
        self.active = Some(file);
        Ok(())
    }

    /// Writes no more to the active segment.
    fn seal(&mut self, now: Instant) {
        if self.active.take().is_some()
            && let Some(empty) = self.segments.pop_back_if(|last| last.is_empty())
        {
            self.remove(&empty, now);
        }
    }

    fn is_active(&self, segment: &Segment) -> bool {
        self.active.is_some()
            && self
                .segments
                .back()
                .is_some_and(|last| last.number == segment.number)
    }

    /// Makes room by dropping the oldest segment that is not in flight. Says whether there is more room now.
    fn drop_oldest(&mut self, now: Instant) -> bool {
        let before = self.counters.bytes;
        match self.in_flight.is_empty() {
            true => self.drop_front(now),
            false => self.hollow_out(now),
        }
        self.counters.bytes < before
    }

    /// Moves the position to the end of the segment where it stands.
    fn drop_front(&mut self, now: Instant) {
        let Some(segment) = self.segment_at_reader() else {
            return;
        };
        if segment.number > self.reader.segment {
            self.pass_to(segment.first);
        }
        if self.is_active(&segment) {
            self.active = None;
        }
        if !segment.dropped {
            let dropped = segment.end.since(self.reader.at);
            self.counters.dropped_oldest += dropped;
            self.counters.waiting -= dropped;
        }
        self.reader.at = self.reader.at.max(segment.end);
        self.move_reader(segment.number + 1);
        self.settle_idle(now);
    }

    /// Drops the first segment behind the reader. Its header stays, and says so, until the position has passed it.
    fn hollow_out(&mut self, now: Instant) {
        let droppable = |segment: &Segment| self.is_droppable(segment);
        let Some(index) = self.segments.iter().position(droppable) else {
            return;
        };
        let segment = self.segments[index];
        // One header speaks for all neighbours, so that a long time in flight leaves no trail of files.
        let neighbour = index
            .checked_sub(1)
            .filter(|before| self.segments[*before].dropped)
            // What is lost between them must stay visible.
            .filter(|before| self.segments[*before].end == segment.first)
            .filter(|before| self.segments[*before].number > self.reader.segment);
        let spokesman = neighbour.unwrap_or(index);
        let len = match self.write_dropped(&self.segments[spokesman], segment.end) {
            Ok(len) => len,
            Err(error) => {
                self.fault(&error, now);
                return;
            }
        };
        if self.is_active(&segment) {
            self.active = None;
        }
        let dropped = segment.end.since(segment.first);
        self.counters.dropped_oldest += dropped;
        self.counters.waiting -= dropped;
        self.counters.bytes -= self.segments[spokesman].len - len;
        self.segments[spokesman].len = len;
        self.segments[spokesman].end = segment.end;
        self.segments[spokesman].dropped = true;
        if neighbour.is_some() {
            self.segments.remove(index);
            self.remove(&segment, now);
        }
    }

    /// Whether it is behind the reader and not dropped already.
    fn is_droppable(&self, segment: &Segment) -> bool {
        segment.number > self.reader.segment && !segment.dropped && !segment.is_empty()
    }

    /// Leaves of a segment only a header that says that everything up to `end` was dropped. Gives the file's length.
    fn write_dropped(&self, segment: &Segment, end: Point) -> io::Result<u64> {
        let header = SegmentHeader {
            salt: segment.salt,
            number: segment.number,
            first: segment.first,
            dropped: Some(end),
        };
        let file = self
            .disk
            .open(&segments::name(segment.number), Access::Write)?;
        // The header first: as long as it does not say so, the records are still there.
        file.write_at(&header.encode(), 0)?;
        let cut = file.truncate(SEGMENT_HEADER as u64);
        Ok(cut.map_or(segment.len, |()| SEGMENT_HEADER as u64))
    }

    // Reading.

    fn segment_at_reader(&self) -> Option<Segment> {
        let index = self
            .segments
            .partition_point(|segment| segment.number < self.reader.segment);
        self.segments.get(index).copied()
    }

    fn read_here(&mut self, segment: &Segment) -> io::Result<Option<Record>> {
        let file = match self.reading.take() {
            Some((number, file)) if number == segment.number => file,
            _ => self
                .disk
                .open(&segments::name(segment.number), Access::Read)?,
        };
        let record = self.record_in(segment, &file)?;
        self.reading = Some((segment.number, file));
        Ok(record)
    }

    fn record_in(&mut self, segment: &Segment, file: &D::File) -> io::Result<Option<Record>> {
        let body = segment.body(file);
        let offset = self.reader.offset;
        let header = match body.look(offset)? {
            Found::Record(header) => header,
            Found::Damage { next } => {
                self.pass_damage(next);
                return Ok(None);
            }
            Found::Torn(_) | Found::End => {
                self.pass_damage(segment.len);
                return Ok(None);
            }
        };
        let next = offset + header.size();
        if header.at.record < self.reader.at.record || header.at.packet < self.reader.at.packet {
            // Done with long ago.
            self.reader.offset = next;
            return Ok(None);
        }
        let payload = body.payload(offset, &header)?;
        self.read_failures = 0;
        self.pass_to(header.at);
        let Some(payload) = payload else {
            self.pass_damage(next);
            self.pass_to(header.end());
            return Ok(None);
        };
        self.reader.offset = next;
        self.reader.at = header.end();
        self.in_flight.push_back(InFlight {
            number: header.at.record,
            packets: u64::from(header.packets),
            before: std::mem::take(&mut self.passed),
            after: self.reader,
        });
        Ok(Some(Record {
            number: header.at.record,
            packets: header.packets,
            payload,
        }))
    }

    fn move_reader(&mut self, segment: u64) {
        self.reader.segment = segment;
        self.reader.offset = SEGMENT_HEADER as u64;
        self.reading = None;
    }

    /// Everything up to `point` that was not read is lost.
    fn pass_to(&mut self, point: Point) {
        self.passed.lost += point.since(self.reader.at);
        self.reader.at = self.reader.at.max(point);
    }

    fn pass_damage(&mut self, next: u64) {
        self.passed.damaged += 1;
        self.reader.offset = next;
    }

    /// After several failures, what can't be read is passed over. Says whether to go on.
    fn pass_unreadable(&mut self, segment: &Segment, error: &io::Error, now: Instant) -> bool {
        self.reading = None;
        self.counters.read_errors += 1;
        if error.kind() == io::ErrorKind::NotFound {
            self.pass_damage(segment.len);
            return true;
        }
        self.read_failures += 1;
        if self.read_failures < READ_TRIES {
            self.read_retry_at = Some(now + RETRY);
            return false;
        }
        let next = (self.reader.offset / SECTOR + 1) * SECTOR;
        self.pass_damage(next.min(segment.len));
        true
    }

    // The position.

    /// Takes over what the reader passed, when nothing is in flight.
    fn settle_idle(&mut self, now: Instant) {
        if self.in_flight.is_empty() && self.position != self.reader {
            self.count_reader_passed();
            self.position = self.reader;
            self.save_position(now);
            self.release(now);
        }
    }

    fn count_reader_passed(&mut self) {
        let passed = std::mem::take(&mut self.passed);
        self.count_passed(passed);
    }

    fn count_passed(&mut self, passed: Passed) {
        self.counters.lost += passed.lost;
        self.counters.waiting -= passed.lost;
        self.counters.damaged += passed.damaged;
    }

    fn save_position(&mut self, now: Instant) {
        match self
            .position_file
            .save(&self.disk, self.salt, self.position)
        {
            Ok(new) => self.directory_changed |= new,
            Err(error) => self.fault(&error, now),
        }
    }

    /// Removes the segments before the position.
    fn release(&mut self, now: Instant) {
        let done = |segment: &Segment| segment.number < self.position.segment;
        if !self.segments.front().is_some_and(done) {
            return;
        }
        // Otherwise a power cut could leave neither the records nor the knowledge that they are done with.
        if self.options.sync != SyncPolicy::Never && self.position_file.sync().is_err() {
            self.counters.sync_errors += 1;
        }
        let position = self.position.segment;
        while let Some(segment) = self
            .segments
            .pop_front_if(|segment| segment.number < position)
        {
            self.remove(&segment, now);
        }
        if self.state == State::Full {
            (self.state, self.retry_at) = (State::Ok, None);
        }
    }

    fn remove(&mut self, segment: &Segment, now: Instant) {
        self.leftovers.push((segment.number, segment.len));
        self.remove_leftovers(now);
    }

    fn remove_leftovers(&mut self, now: Instant) {
        let leftovers = std::mem::take(&mut self.leftovers);
        for (number, len) in leftovers {
            match self.disk.remove(&segments::name(number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    self.fault(&error, now);
                    self.leftovers.push((number, len));
                }
                _ => {
                    self.directory_changed = true;
                    self.counters.bytes -= len;
                }
            }
        }
    }

    // Durability and faults.

    fn sync_if_due(&mut self, now: Instant, appended: bool) {
        let due = match self.options.sync {
            SyncPolicy::Never => false,
            SyncPolicy::Every(interval) => {
                now.saturating_duration_since(self.synced_at) >= interval
            }
            SyncPolicy::EveryRecord => appended,
        };
        if due {
            // Counted there.
            let _ = self.sync(now);
        }
    }

    fn sync_segment(&self, segment: &Segment) -> io::Result<()> {
        match &self.active {
            Some(file) if self.is_active(segment) => file.sync(),
            _ => self
                .disk
                .open(&segments::name(segment.number), Access::Read)?
                .sync(),
        }
    }

    fn fault(&mut self, error: &io::Error, now: Instant) {
        self.counters.write_errors += 1;
        self.state = State::of(error);
        self.retry_at = Some(now + RETRY);
    }
}
