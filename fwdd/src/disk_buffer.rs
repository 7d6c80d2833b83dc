//! The disk buffer of a session: the store, tied to the ledger.
//!
//! A packet is in the books of exactly one of them: in a tx ring, or on disk. Moving a batch takes three steps, and the
//! process may die between any two: the move is announced in shared memory, the record is written, the commit that
//! releases the rings is published. A successor finds the announcement and looks whether the record is there.
//!
//! When a batch had a number before it went to disk, its ticket is kept here until the record is read again.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lc_daemon::config::{self, Config, Source};
use rustix::io::Errno;
use shm_layout::counters::ForwardCounter;
use shm_layout::extent::BatchExtent;
use shm_layout::forwarder::{DiskState, DiskStatus, Forwarder};
use shm_layout::region::OwnedRegion;

use crate::batch::{Batch, Origin};
use crate::ledger::Ledger;
use crate::overflow::{
    Appended, Counters, Directory, DirectoryError, Options, Policy, State, Store, StoreError,
    SyncPolicy, Unavailable,
};
use crate::window::Ticket;

/// After the disk refused to be written, before it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Why the disk buffer can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DiskBufferError {
    /// Its directory can't.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// What is in it can't.
    #[error("{}: {cause}", path.display())]
    Store {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        cause: StoreError,
    },
}

impl DiskBufferError {
    /// Whether the disk is at fault, and not what the operator asked for: packets can be forwarded without it.
    pub fn is_of_disk(&self) -> bool {
        match self {
            Self::Directory(DirectoryError::Unusable { error, .. }) => matches!(
                error.raw_os_error().map(Errno::from_raw_os_error),
                Some(Errno::IO | Errno::ROFS | Errno::NOSPC | Errno::DQUOT)
            ),
            Self::Directory(DirectoryError::Foreign { .. } | DirectoryError::InUse { .. }) => false,
            Self::Store { cause, .. } => matches!(cause, StoreError::Disk(_)),
        }
    }
}

/// Opens the directory of the configured disk buffer, if there is one. Before the sandbox, which needs it to be there.
///
/// # Errors
///
/// [`DiskBufferError`], if the disk itself is not at fault: a failing one is reported, and done without.
pub fn open_directory(config: &Config) -> Result<Option<Directory>, DiskBufferError> {
    let Some(settings) = &config.disk_buffer else {
        return Ok(None);
    };
    or_without(Directory::open(&settings.dir).map_err(DiskBufferError::from))
}

/// Does without a disk that fails.
pub(crate) fn or_without<T>(
    result: Result<T, DiskBufferError>,
) -> Result<Option<T>, DiskBufferError> {
    match result {
        Err(error) if error.is_of_disk() => {
            tracing::error!("{error}; packets wait in memory only, until the next start");
            Ok(None)
        }
        result => result.map(Some),
    }
}

/// Packets that wait on disk.
pub(crate) struct DiskBuffer {
    store: Store<Directory>,
    options: Options,
    path: PathBuf,
    ledger: Arc<Ledger>,
    region: Arc<OwnedRegion<Forwarder>>,
    /// Counters as they stand in the ledger.
    counted: Counters,
    /// Tickets of records that were sent and are to be read again, oldest first.
    tickets: VecDeque<(u64, Ticket)>,
    /// When the disk may be tried again.
    blocked_until: Option<Instant>,
    state: State,
    payload: Vec<u8>,
}

impl DiskBuffer {
    /// Goes on with what is in `directory`, and with what a predecessor was doing.
    pub(crate) fn open(
        directory: Directory,
        config: &Config,
        settings: &config::DiskBuffer,
        ledger: Arc<Ledger>,
        region: Arc<OwnedRegion<Forwarder>>,
    ) -> Result<Self, DiskBufferError> {
        let options = Options {
            limit: settings.limit,
            // A file can wait for room, so nothing of it need be dropped.
            policy: match (&config.source, settings.policy) {
                (Source::Live(_), config::DiskPolicy::DropOldest) => Policy::DropOldest,
                (_, config::DiskPolicy::DropNewest) | (Source::Files(_), _) => Policy::DropNewest,
            },
            sync: match settings.sync {
                config::DiskSync::Never => SyncPolicy::Never,
                config::DiskSync::Every(interval) => SyncPolicy::Every(interval),
                config::DiskSync::EveryRecord => SyncPolicy::EveryRecord,
            },
        };
        let path = settings.dir.clone();
        let (store, recovered) =
            Store::open(directory, options, Instant::now()).map_err(|cause| {
                let path = path.clone();
                DiskBufferError::Store { path, cause }
            })?;
        if recovered.waiting.packets > 0 || recovered.damaged_headers > 0 {
            tracing::info!(
                directory = %path.display(),
                packets = recovered.waiting.packets,
                bytes = recovered.bytes,
                damaged_headers = recovered.damaged_headers,
                "packets wait in the disk buffer; they are sent first"
            );
        }
        let mut buffer = Self {
            counted: Counters::default(),
            store,
            options,
            path,
            ledger,
            region,
            tickets: VecDeque::new(),
            blocked_until: None,
            state: State::Ok,
            payload: Vec::new(),
        };
        buffer.finish_predecessor();
        buffer.account();
        Ok(buffer)
    }

    /// Whether a batch whose packets should be in this record is on disk.
    fn holds(&self, record: u64) -> bool {
        (self.store.first_number()..self.store.next_number()).contains(&record)
    }

    /// Brings disk and ledger together, whatever the predecessor was doing when it died.
    fn finish_predecessor(&mut self) {
        self.drop_acknowledged(self.ledger.commit().disk_done());
        if let Some(announced) = self.region.spilling() {
            self.finish_spilling(&announced);
        }
        self.tickets = self
            .ledger
            .unsettled()
            .into_iter()
            .filter_map(|batch| {
                let record = batch.record.filter(|record| self.holds(*record))?;
                let (sequence, slot) = (batch.sequence, batch.slot?);
                Some((record, Ticket { sequence, slot }))
            })
            .collect();
        let now = self.store.counters();
        self.ledger.update(|commit| {
            let expected = commit.on_disk();
            let found = now.waiting.packets;
            // More: an earlier run left them. Fewer: they were dropped or damaged before that could be counted.
            commit.add(
                ForwardCounter::DiskRecovered,
                found.saturating_sub(expected),
            );
            commit.add(ForwardCounter::DiskLost, expected.saturating_sub(found));
        });
        self.counted = now;
    }

    /// The ledger may know of acknowledgements that the store does not.
    fn drop_acknowledged(&mut self, done: u64) {
        // A store with fewer records than that is another one.
        if done > self.store.next_number() {
            self.ledger.update(|commit| commit.set_disk_done(0));
            return;
        }
        let now = Instant::now();
        while self.store.first_number() < done
            && let Some(record) = self.store.read(now)
        {
            if record.number >= done {
                break;
            }
            self.store.acknowledge(record.number, now);
        }
        self.store.rewind();
    }

    fn finish_spilling(&self, announced: &BatchExtent) {
        let commit = self.ledger.commit();
        let still_in_rings = announced
            .tails
            .iter()
            .all(|tail| commit.tx_tail(tail.worker) < tail.position);
        if still_in_rings && announced.record.is_some_and(|record| self.holds(record)) {
            let packets: u64 = announced.tails.iter().map(|tail| tail.packets).sum();
            let dropped = packets.saturating_sub(announced.stored);
            self.ledger.spilled(announced, dropped, 0);
        }
    }

    /// Whether everything on disk was read.
    pub(crate) fn is_read(&self) -> bool {
        self.store.is_read()
    }

    /// The next batch on disk, with its ticket if it had one; `None` when there is none, or the disk does not give it
    /// now.
    pub(crate) fn read(&mut self) -> Option<(Batch, Option<Ticket>)> {
        let record = self.store.read(Instant::now());
        self.account();
        let record = record?;
        // What was damaged is not read again.
        while self
            .tickets
            .pop_front_if(|(number, _)| *number < record.number)
            .is_some()
        {}
        let ticket = self
            .tickets
            .pop_front_if(|(number, _)| *number == record.number)
            .map(|(_, ticket)| ticket);
        let batch = Batch::of_record(record);
        if ticket.is_some() {
            batch.set_sent();
        }
        Some((batch, ticket))
    }

    /// Moves a batch from the rings to disk. In flight, it remains on its way: it keeps its bytes, and everything
    /// before it must have been read.
    ///
    /// # Errors
    ///
    /// [`Unavailable`]: it stays in the rings.
    pub(crate) fn take_in(
        &mut self,
        batch: &Batch,
        ticket: Option<Ticket>,
        in_flight: bool,
        origin: &Origin,
    ) -> Result<(), Unavailable> {
        let now = Instant::now();
        let full = self.store.is_full_for(batch.bytes);
        let waits = full && self.options.policy == Policy::DropNewest;
        if waits || self.blocked_until.is_some_and(|until| now < until) {
            let state = if waits { State::Full } else { self.state };
            self.show(state);
            return Err(Unavailable { state });
        }
        self.blocked_until = None;
        // What was sent under a number keeps its contents.
        let all = ticket.is_some() || !full || !self.store.oldest_is_urgent();
        self.payload.clear();
        let copied = batch.copy(origin, all, &mut self.payload);
        let number = self.store.next_number();
        let moved = BatchExtent {
            sequence: ticket.map_or(0, |ticket| ticket.sequence),
            record: (copied.packets > 0).then_some(number),
            stored: u64::from(copied.packets),
            slot: ticket.map(|ticket| ticket.slot),
            tails: batch.tails.clone(),
        };
        if copied.packets == 0 && in_flight {
            // Its worker has overwritten it, but the processor may have it.
            return Err(Unavailable { state: self.state });
        }
        if copied.packets == 0 {
            self.ledger.spilled(&moved, copied.yielded, copied.yielded);
            return Ok(());
        }
        self.ledger.announce(&moved);
        let appended = self
            .store
            .append(copied.packets, copied.urgent > 0, &self.payload, now);
        // No batch is too long: the configuration sees to that.
        let stored = appended.and_then(|appended| match appended {
            Appended::Stored(_) => Ok(()),
            Appended::TooLong => Err(Unavailable { state: State::Full }),
        });
        match &stored {
            Ok(()) => {
                self.ledger.spilled(&moved, copied.yielded, copied.yielded);
                if in_flight {
                    self.store.pass_appended();
                    let bytes = std::mem::take(&mut self.payload);
                    batch.move_to_disk(number, bytes.into());
                } else {
                    self.tickets.extend(ticket.map(|ticket| (number, ticket)));
                }
            }
            Err(_) => self.blocked_until = Some(now + RETRY),
        }
        self.account();
        stored
    }

    /// The processor is done with this record and all before it; the ledger knows.
    pub(crate) fn acknowledge(&mut self, record: u64) {
        self.store.acknowledge(record, Instant::now());
        self.account();
    }

    /// The connection is over: what was read and not acknowledged, `returned`, is read again.
    pub(crate) fn rewind(&mut self, returned: Vec<(u64, Ticket)>) {
        self.store.rewind();
        for ticket in returned.into_iter().rev() {
            self.tickets.push_front(ticket);
        }
    }

    /// Records that were sent and are to be sent again.
    pub(crate) fn tickets(&self) -> usize {
        self.tickets.len()
    }

    /// To be called every second or so.
    pub(crate) fn tick(&mut self) {
        self.store.tick(Instant::now());
        self.account();
    }

    /// Makes everything durable. Says how many packets wait.
    pub(crate) fn close(self) -> u64 {
        let Self { store, path, .. } = self;
        let waiting = store.counters().waiting.packets;
        if let Err(error) = store.close(Instant::now()) {
            let directory = path.display();
            tracing::warn!(%directory, %error, "the disk buffer was not closed in order; some packets may be sent again");
        }
        waiting
    }

    /// Brings the ledger and the status up to what the store has counted. What went in and what was acknowledged is
    /// counted where it is done.
    fn account(&mut self) {
        let now = self.store.counters();
        let before = std::mem::replace(&mut self.counted, now);
        let errors = |counters: &Counters| {
            counters.write_errors + counters.read_errors + counters.sync_errors
        };
        let more = [
            (
                ForwardCounter::DiskDropped,
                now.dropped_oldest.packets - before.dropped_oldest.packets,
            ),
            (
                ForwardCounter::DiskLost,
                now.lost.packets - before.lost.packets,
            ),
            (ForwardCounter::DiskDamaged, now.damaged - before.damaged),
            (ForwardCounter::DiskErrors, errors(&now) - errors(&before)),
        ];
        if more.iter().any(|(_, count)| *count > 0) {
            self.ledger.update(|commit| {
                more.iter()
                    .for_each(|(counter, count)| commit.add(*counter, *count));
            });
        }
        if now.damaged > before.damaged {
            tracing::warn!(
                directory = %self.path.display(),
                packets = now.lost.packets - before.lost.packets,
                "damage in the disk buffer; what was there is lost"
            );
        }
        // Dropped from the oldest end.
        let first = self.store.first_number();
        while self
            .tickets
            .pop_front_if(|(number, _)| *number < first)
            .is_some()
        {}
        // Close to the limit some segment is always being dropped.
        let drops = self.options.policy == Policy::DropOldest
            && now.bytes > self.options.limit - self.options.limit / 8;
        self.show(match self.store.state() {
            State::Ok if drops => State::Full,
            state => state,
        });
    }

    /// Tells state and size, and logs each change of state once.
    fn show(&mut self, state: State) {
        self.region.set_disk(DiskStatus {
            state: match state {
                State::Ok => DiskState::Ok,
                State::Full => DiskState::Full,
                State::ReadOnly => DiskState::ReadOnly,
                State::Failed => DiskState::Failed,
            },
            bytes: self.counted.bytes,
            limit: self.options.limit,
        });
        if std::mem::replace(&mut self.state, state) == state {
            return;
        }
        let directory = self.path.display();
        match (state, self.options.policy) {
            (State::Ok, _) => tracing::info!(%directory, "the disk buffer takes packets again"),
            (State::Full, Policy::DropOldest) => {
                tracing::warn!(%directory, "the disk buffer is full; the oldest packets are dropped");
            }
            (State::Full, Policy::DropNewest) => {
                tracing::warn!(%directory, "the disk buffer is full; packets wait in memory");
            }
            (State::ReadOnly, _) => {
                tracing::error!(%directory, "the disk buffer may only be read; packets wait in memory");
            }
            (State::Failed, _) => {
                tracing::error!(%directory, "the disk buffer fails; packets wait in memory");
            }
        }
    }
}
