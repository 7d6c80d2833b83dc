//! What is to be sent, in order, and where it is meanwhile.
//!
//! ```text
//!   tx rings --collector--> held --+---------------------> window --> settled, rings released
//!                             |    |                         ^  |
//!                  rings fill |    | everything on disk      |  | rings fill, or the connection is lost
//!                             v    | was sent                |  v
//!                           disk buffer ---------------------+ disk
//! ```
//!
//! - The order is: window, disk, held. What is in the rings is sent when everything on disk was.
//! - A batch goes to disk when its ring is half full, oldest first, because a ring can only be released from its oldest
//!   end; so also one that is on its way already and waits for its acknowledgement.
//! - Without a disk buffer, or while it takes nothing, packets wait in the rings, and the workers behind them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use shm_layout::counters::ForwardCounter;
use tokio::time::{Instant, timeout};

use crate::batch::{Batch, Origin};
use crate::collector::Handle;
use crate::disk_buffer::DiskBuffer;
use crate::ledger::{Ledger, Outcome};
use crate::window::{Ack, Numbered, Ticket, Window};

/// Between looks at the disk.
const TICK: Duration = Duration::from_secs(1);
/// For the collector's last batches.
const LAST_BATCHES: Duration = Duration::from_secs(2);

/// A batch in the rings that waits to be sent.
pub(crate) struct Held {
    /// If it was sent before.
    pub(crate) ticket: Option<Ticket>,
    pub(crate) batch: Arc<Batch>,
}

/// What is to be sent.
pub(crate) struct Outbox {
    window: Window,
    disk: Option<DiskBuffer>,
    held: VecDeque<Held>,
    collector: Handle,
    /// Whether the collector has handed over its last batch.
    drained: bool,
    /// Whether the collector was told to hand over what there is.
    flushing: bool,
    ledger: Arc<Ledger>,
    origin: Arc<Origin>,
    /// How far each ring was handed over by the collector, and how far it is done with.
    rings: Vec<Extent>,
    /// Bytes between the two at which the disk is used.
    pressure: u64,
    tick: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    taken: u64,
    done: u64,
}

/// What was not acknowledged at the end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Left {
    pub(crate) batches: usize,
    pub(crate) packets: usize,
    pub(crate) packets_on_disk: u64,
}

impl Outbox {
    /// `held`: what the predecessor had sent from the rings. `ring_bytes`: the size of each ring.
    pub(crate) fn new(
        window: Window,
        disk: Option<DiskBuffer>,
        held: VecDeque<Held>,
        collector: Handle,
        origin: Arc<Origin>,
        ring_bytes: u64,
    ) -> Self {
        let ledger = Arc::clone(&origin.ledger);
        let commit = ledger.commit();
        let at = |worker| Extent {
            taken: commit.tx_tail(worker),
            done: commit.tx_tail(worker),
        };
        let mut outbox = Self {
            rings: (0..origin.rings.len()).map(at).collect(),
            window,
            disk,
            held: VecDeque::new(),
            collector,
            drained: false,
            flushing: false,
            ledger,
            origin,
            pressure: ring_bytes / 2,
            tick: Instant::now() + TICK,
        };
        for one in held {
            outbox.note_taken(&one.batch);
            outbox.held.push_back(one);
        }
        outbox
    }

    /// Takes care of what waits, and returns when there may be something new to send. Cancel it as you like.
    /// `wanted`: whether a batch could be sent now.
    pub(crate) async fn attend(&mut self, wanted: bool) {
        let takes = wanted && self.held.is_empty() && self.disk_is_read();
        let pressed = self.collector.pressed();
        tokio::select! {
            batch = self.collector.batches.recv(), if (takes || self.flushing) && !self.drained => {
                self.take_in(batch);
                self.collector.wake();
            }
            () = pressed, if self.disk.is_some() && !self.drained => {
                while let Ok(batch) = self.collector.batches.try_recv() {
                    self.take_in(Some(batch));
                }
                self.collector.wake();
            }
            () = tokio::time::sleep_until(self.tick), if self.disk.is_some() => {
                self.tick = Instant::now() + TICK;
                if let Some(disk) = &mut self.disk {
                    disk.tick();
                }
            }
            else => std::future::pending().await,
        }
        self.relieve_rings();
    }

    /// `None` after the collector's last batch.
    fn take_in(&mut self, batch: Option<Batch>) {
        let Some(mut batch) = batch else {
            self.drained = true;
            return;
        };
        self.note_taken(&batch);
        // So that one batch at most, the last, has nothing to send.
        if let Some(idle) = self.held.pop_back_if(|last| last.batch.packets == 0) {
            batch.skip_all(&idle.batch);
        }
        self.held.push_back(Held {
            ticket: None,
            batch: Arc::new(batch),
        });
        self.settle_idle();
    }

    fn note_taken(&mut self, batch: &Batch) {
        for tail in &batch.tails {
            if let Some(ring) = self.rings.get_mut(tail.worker) {
                ring.taken = tail.position;
            }
        }
    }

    fn disk_is_read(&self) -> bool {
        self.disk.as_ref().is_none_or(DiskBuffer::is_read)
    }

    // Sending.

    /// Whether one more batch may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.window.has_room()
    }

    /// The next batch to send, which counts as sent from now on.
    pub(crate) fn send_next(&mut self) -> Option<Numbered> {
        let Held { ticket, batch } = self.next()?;
        let ticket = ticket.unwrap_or_else(|| self.ledger.number(&batch));
        if batch.was_sent() {
            self.ledger.count(ForwardCounter::ResentBatches, 1);
            let packets = batch.packets as u64;
            self.ledger.count(ForwardCounter::ResentPackets, packets);
        }
        let numbered = Numbered { ticket, batch };
        self.window.send(numbered.clone());
        Some(numbered)
    }

    fn next(&mut self) -> Option<Held> {
        if let Some(disk) = &mut self.disk
            && !disk.is_read()
        {
            // At the end, what is on disk may as well stay there.
            if self.flushing && self.held.is_empty() {
                return None;
            }
            if let Some((batch, ticket)) = disk.read() {
                let batch = Arc::new(batch);
                return Some(Held { ticket, batch });
            }
            // What was left may be damaged, or the disk does not give it now.
            if !disk.is_read() {
                return None;
            }
        }
        self.held.pop_front_if(|next| next.batch.packets > 0)
    }

    /// Notes that a message without packets goes out. Gives its number.
    pub(crate) fn send_probe(&mut self) -> u64 {
        let sequence = self.ledger.next_sequence();
        self.window.send_probe(sequence);
        self.ledger.count(ForwardCounter::Probes, 1);
        sequence
    }

    /// Whether every message of this connection was answered.
    pub(crate) fn is_quiet(&self) -> bool {
        self.window.is_quiet()
    }

    /// Takes in an acknowledgement; says what it meant.
    pub(crate) fn acknowledge(&mut self, sequence: u64) -> Ack {
        let ack = self.window.acknowledge(sequence);
        if let Ack::Batch(numbered) = &ack {
            self.settle(numbered, Outcome::Acked);
        }
        ack
    }

    /// The oldest batch on its way.
    pub(crate) fn oldest(&self) -> Option<&Numbered> {
        self.window.oldest()
    }

    /// Gives the oldest batch up. Only when nothing more is received on this connection.
    pub(crate) fn give_up_oldest(&mut self) {
        if let Some(bad) = self.window.give_up() {
            self.settle(&bad, Outcome::Dropped);
        }
    }

    /// The connection is over: what was not acknowledged is to be sent again.
    pub(crate) fn connection_ended(&mut self) {
        let (on_disk, in_rings): (Vec<_>, Vec<_>) = self
            .window
            .disconnect()
            .into_iter()
            .partition(|numbered| numbered.batch.record().is_some());
        if let Some(disk) = &mut self.disk {
            let tickets = on_disk
                .iter()
                .filter_map(|numbered| Some((numbered.batch.record()?, numbered.ticket)));
            disk.rewind(tickets.collect());
        }
        for Numbered { ticket, batch } in in_rings.into_iter().rev() {
            let ticket = Some(ticket);
            self.held.push_front(Held { ticket, batch });
        }
        self.settle_idle();
        self.relieve_rings();
    }

    /// Batches that were sent and are to be sent again.
    pub(crate) fn to_be_sent_again(&self) -> usize {
        let held = self.held.iter().filter(|held| held.ticket.is_some());
        held.count() + self.disk.as_ref().map_or(0, DiskBuffer::tickets)
    }

    // Settling.

    /// First the commit, then the release.
    fn settle(&mut self, numbered: &Numbered, outcome: Outcome) {
        self.ledger.settle(numbered, outcome);
        match (numbered.batch.record(), &mut self.disk) {
            (Some(record), Some(disk)) => disk.acknowledge(record),
            _ => self.release(&numbered.batch),
        }
        self.settle_idle();
    }

    /// Settles what only releases something, when it is its turn.
    fn settle_idle(&mut self) {
        if self.window.oldest_in_rings().is_none()
            && let Some(idle) = self.held.pop_front_if(|next| next.batch.packets == 0)
        {
            self.ledger.settle_idle(&idle.batch);
            self.release(&idle.batch);
        }
    }

    /// What a batch held of the rings is done with.
    fn release(&mut self, batch: &Batch) {
        for tail in &batch.tails {
            if let Some(ring) = self.rings.get_mut(tail.worker) {
                ring.done = tail.position;
            }
            self.collector.release(tail.worker, tail.position);
        }
    }

    // The disk.

    /// Moves batches to disk, oldest first, while a ring is too full.
    fn relieve_rings(&mut self) {
        let pressure = self.pressure;
        let is_pressed = |ring: &Extent| ring.taken.saturating_sub(ring.done) > pressure;
        while self.rings.iter().any(is_pressed) && self.spill_oldest() {}
        if self.drained && !self.disk_is_read() {
            self.put_aside();
        }
    }

    /// Moves everything to disk that waits in the rings, as far as the disk takes it.
    pub(crate) fn put_aside(&mut self) {
        while !self.held.is_empty() && self.spill_oldest() {}
    }

    /// Moves the oldest batch in the rings to disk; says whether it could.
    fn spill_oldest(&mut self) -> bool {
        let Some(disk) = &mut self.disk else {
            return false;
        };
        if let Some(Numbered { ticket, batch }) = self.window.oldest_in_rings().cloned() {
            let moved = disk
                .take_in(&batch, Some(ticket), true, &self.origin)
                .is_ok();
            if moved {
                self.release(&batch);
            }
            return moved;
        }
        let Some(Held { ticket, batch }) = self.held.front() else {
            return false;
        };
        if batch.packets > 0 {
            if disk.take_in(batch, *ticket, false, &self.origin).is_err() {
                return false;
            }
            let batch = Arc::clone(batch);
            self.held.pop_front();
            self.release(&batch);
        }
        self.settle_idle();
        true
    }

    // The end.

    /// Lets the collector hand over what there is.
    pub(crate) fn flush(&mut self) {
        self.flushing = true;
        self.collector.flush();
    }

    /// Whether the end has begun.
    pub(crate) fn is_flushing(&self) -> bool {
        self.flushing
    }

    /// Whether the collector has handed over everything.
    pub(crate) fn is_drained(&self) -> bool {
        self.drained
    }

    /// Whether nothing is left to be sent, but for what may stay on disk.
    pub(crate) fn is_finished(&self) -> bool {
        self.drained && self.window.is_empty() && self.held.is_empty()
    }

    /// Ends the collector and closes the disk buffer. Says what was not acknowledged.
    pub(crate) async fn close(mut self) -> Left {
        self.connection_ended();
        self.flush();
        // The collector only reads positions: what it still has comes at once.
        while let Ok(Some(batch)) = timeout(LAST_BATCHES, self.collector.batches.recv()).await {
            self.collector.wake();
            self.take_in(Some(batch));
        }
        self.put_aside();
        self.collector.end();
        Left {
            batches: self.held.len(),
            packets: self.held.iter().map(|held| held.batch.packets).sum(),
            packets_on_disk: self.disk.map_or(0, DiskBuffer::close),
        }
    }
}
