//! A capture thread: source, steering, ring.
//!
//! ```text
//! poll a batch ── per packet: hash, pick the worker, reserve, copy, commit ── publish all rings
//! ```
//!
//! Guarantees: `captured = ring full + too long + steered`, exactly, in every published commit; a packet is counted in the commit that makes
//! it visible, and the commit is published before the rings, so that a successor can finish what this thread began. A live source never
//! waits for a worker; a replay never loses a packet. A worker that has lost its share gets nothing more from the next batch on; what its
//! ring holds stays there. No lock, allocation or system call per packet.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shm_layout::counters::CaptureCounter;
use shm_layout::layout::MAX_WORKERS;
use shm_layout::packet::{HEADER_BYTES, PacketHeader, push_inline};
use shm_layout::region::OwnedRegion;
use shm_layout::ring::{Full, PREAMBLE, RingWriter};
use shm_layout::session::{QueueCommit, QueueState, Session};

use crate::calls::Listener;
use crate::control::Control;
use crate::source::{FullRing, LONGEST_BLOCK, Poll, Predecessor, Source, SourceError, State};
use crate::steer::{Route, Steering};

/// Most packets between two publications.
const BATCH: usize = 1024;
/// Most bytes between two publications, as a part of a ring: a reader must never wait for a writer that waits for room.
const BATCH_PART: u64 = 8;
/// How often counters and state are read from the source: at most, when it runs dry, and at least, when it is busy.
const REFRESH_IDLE: Duration = Duration::from_millis(100);
const REFRESH_BUSY: Duration = Duration::from_secs(1);
/// How long a replay leaves a full ring alone: the worker has read a small part of it by then.
const FULL_PAUSE: Duration = Duration::from_micros(100);

/// How a capture thread ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ending {
    /// Some input data was bad; what was good was delivered.
    pub(crate) bad_data: bool,
    /// The source failed.
    pub(crate) failed: bool,
    /// The source was left to a successor.
    pub(crate) left: bool,
}

/// Everything a capture thread works on.
pub(crate) struct CaptureThread {
    pub(crate) queue: usize,
    pub(crate) source: Box<dyn Source>,
    /// One per worker.
    pub(crate) rings: Vec<RingWriter>,
    pub(crate) session: Arc<OwnedRegion<Session>>,
    pub(crate) control: Arc<Control>,
    /// Where calls are followed: what the workers tell of them.
    pub(crate) listener: Option<Listener>,
    /// The last commit of the predecessor, or all zero.
    pub(crate) resume_at: QueueCommit,
    /// Time without a capture thread before this one, if there was one.
    pub(crate) gap: Option<Duration>,
}

impl CaptureThread {
    /// Captures until the source ends or capd stops.
    pub(crate) fn run(mut self) -> Ending {
        let predecessor = Predecessor {
            next: self.resume_at.sequence(),
            received: self.resume_at.get(CaptureCounter::KernelReceived),
            dropped: self.resume_at.get(CaptureCounter::KernelDropped),
            lost: self.resume_at.get(CaptureCounter::LostWithSocket),
        };
        // A source that is told of nobody begins anew.
        let missed = self.gap.filter(|_| !self.source.resume(&predecessor));
        for (worker, ring) in self.rings.iter_mut().enumerate() {
            // The predecessor may have died between its commit and the rings: this ends what it began.
            ring.resume(self.resume_at.head(worker));
        }
        let steering = Steering::new(self.rings.len() as u32);
        let steering = match self.listener {
            Some(_) => steering.with_media(),
            None => steering,
        };
        let commit = self.resume_at.clone();
        let mut engine = Engine {
            steering,
            before: Before::of(&self.resume_at, missed),
            commit,
            thread: self,
            steered_away: [0; MAX_WORKERS],
            // Whatever a predecessor's socket filters by.
            version: 0,
            shown: None,
            refreshed: Instant::now(),
        };
        engine.wait_for_filters();
        let ending = engine.capture();
        engine.finish(ending);
        ending
    }
}

/// What predecessors counted: a source's own counters begin at zero.
struct Before {
    kernel_received: u64,
    kernel_dropped: u64,
    lost_with_socket: u64,
    interface_dropped: u64,
    rejected: u64,
    reopened: u64,
    down_ms: u64,
}

impl Before {
    /// By their last commit, and the time for which nothing was captured since.
    fn of(commit: &QueueCommit, missed: Option<Duration>) -> Self {
        let captured = commit.get(CaptureCounter::Captured);
        let down_ms = missed.map_or(0, |missed| missed.as_millis() as u64);
        Self {
            kernel_received: commit.get(CaptureCounter::KernelReceived),
            kernel_dropped: commit.get(CaptureCounter::KernelDropped),
            lost_with_socket: commit.get(CaptureCounter::LostWithSocket),
            interface_dropped: commit.get(CaptureCounter::InterfaceDropped),
            // A packet is numbered when it is taken, and captured when the filter lets it through.
            rejected: commit.sequence() - captured.min(commit.sequence()),
            reopened: commit.get(CaptureCounter::Reopened) + u64::from(missed.is_some()),
            down_ms: commit.get(CaptureCounter::DownMilliseconds) + down_ms,
        }
    }
}

struct Engine {
    thread: CaptureThread,
    before: Before,
    steering: Steering,
    commit: QueueCommit,
    /// Packets of this batch that went to others, by the worker whose they were.
    steered_away: [u64; MAX_WORKERS],
    /// Version of the expression that the source applies.
    version: u64,
    /// State and reason as last published.
    shown: Option<(QueueState, String)>,
    refreshed: Instant,
}

impl Engine {
    fn wait_for_filters(&mut self) {
        while !self.thread.control.wait_open(LONGEST_BLOCK) && !self.thread.control.stopping() {
            self.show(QueueState::WaitingForFilters, "");
            self.apply_filter();
        }
    }

    fn capture(&mut self) -> Ending {
        let mut ending = Ending::default();
        let mut stopped = false;
        self.refresh();
        loop {
            if !stopped && self.thread.control.stopping() {
                if self.thread.control.handing_over() && self.thread.source.leave() {
                    self.take_what_is_there();
                    ending.left = true;
                    return ending;
                }
                self.thread.source.stop();
                stopped = true;
            }
            if self.thread.control.version() != self.version {
                self.apply_filter();
            }
            let refresh_after = match self.batch() {
                Ok(Poll::More) => REFRESH_BUSY,
                Ok(Poll::Dry) => REFRESH_IDLE,
                Ok(Poll::Finished) => return ending,
                Err(error) => {
                    tracing::error!("{error}");
                    self.commit.add(CaptureCounter::ReadErrors, 1);
                    if !error.is_data() {
                        self.show(QueueState::Failed, &error.to_string());
                        ending.failed = true;
                        return ending;
                    }
                    ending.bad_data = true;
                    Duration::ZERO
                }
            };
            if self.refreshed.elapsed() >= refresh_after {
                self.refresh();
            }
        }
    }

    /// In case no successor comes.
    fn take_what_is_there(&mut self) {
        let until = Instant::now() + LONGEST_BLOCK;
        while Instant::now() < until && matches!(self.batch(), Ok(Poll::More)) {}
    }

    /// Takes one batch from the source into the rings.
    fn batch(&mut self) -> Result<Poll, SourceError> {
        let Self {
            thread,
            steering,
            commit,
            steered_away,
            ..
        } = self;
        let CaptureThread {
            queue,
            source,
            rings,
            session,
            listener,
            ..
        } = thread;
        let away = session.workers_away();
        if away != steering.away() {
            steering.divert(away);
        }
        if let Some(listener) = listener {
            listener.listen(steering);
        }
        let full_ring = source.full_ring();
        let most_bytes = rings.first().map_or(0, RingWriter::capacity) / BATCH_PART;
        let before = commit.sequence();
        let mut unpublished = 0;
        let polled = source.poll(BATCH, &mut |packet| {
            let Route {
                flow_hash,
                worker,
                home,
                is_media,
            } = steering.route(packet.link_type, packet.data, packet.timestamp_ns);
            let header = PacketHeader {
                sequence: packet.sequence,
                timestamp_ns: packet.timestamp_ns,
                captured_len: packet.data.len() as u32,
                original_len: packet.original_length,
                link_type: packet.link_type,
                interface: packet.interface,
                flow_hash,
            };
            let mut pushed = push_inline(&mut rings[worker], &header, packet.data);
            if pushed == Err(Full::Now) {
                if unpublished > 0 {
                    publish(session, *queue, commit, rings);
                    unpublished = 0;
                }
                if full_ring == FullRing::Wait {
                    // At once there would be room for a batch of the worker's, which had to wake this thread for each.
                    std::thread::sleep(FULL_PAUSE);
                    rings[worker].wait_for_room(LONGEST_BLOCK);
                    pushed = push_inline(&mut rings[worker], &header, packet.data);
                }
            }
            match pushed {
                Ok(()) => {
                    commit.count_steered(worker);
                    if worker != home {
                        steered_away[home] += 1;
                    } else if is_media {
                        commit.add(CaptureCounter::SteeredMedia, 1);
                    }
                }
                Err(Full::Always) => commit.add(CaptureCounter::TooLong, 1),
                // The packet comes again, after a look at everything else.
                Err(Full::Now) if full_ring == FullRing::Wait => return ControlFlow::Break(()),
                Err(Full::Now) => commit.add(CaptureCounter::RingFull, 1),
            }
            commit.set_sequence(packet.sequence + 1);
            commit.add(CaptureCounter::Captured, 1);
            commit.add(CaptureCounter::CapturedBytes, packet.data.len() as u64);
            unpublished += (PREAMBLE + HEADER_BYTES + packet.data.len()) as u64;
            if unpublished >= most_bytes {
                publish(session, *queue, commit, rings);
                unpublished = 0;
            }
            ControlFlow::Continue(())
        });
        // Packets that the filter did not let through move it, too.
        commit.set_sequence(source.position());
        if commit.sequence() != before {
            publish(session, *queue, commit, rings);
        }
        for worker in away.iter() {
            session.count_steered_away(worker, std::mem::take(&mut steered_away[worker]));
        }
        polled
    }

    fn apply_filter(&mut self) {
        let (version, expression) = self.thread.control.expression();
        if version == self.version {
            return;
        }
        if let Err(error) = self.thread.source.set_filter(&expression) {
            tracing::error!(
                source = self.thread.source.name(),
                "{error}; the previous filter stays in force"
            );
        }
        self.version = version;
        self.thread.control.mark_applied(self.thread.queue, version);
    }

    /// Publishes the source's own counters and state.
    fn refresh(&mut self) {
        let status = self.thread.source.status();
        self.refreshed = Instant::now();
        let (commit, before) = (&mut self.commit, &self.before);
        if self.thread.source.full_ring() == FullRing::Drop {
            // A replay has no kernel in its way.
            let received = before.kernel_received + status.received;
            commit.set(CaptureCounter::KernelReceived, received);
        }
        let rejected = before.rejected + status.rejected;
        commit.set(CaptureCounter::Rejected, rejected);
        let lost = before.lost_with_socket + status.lost;
        commit.set(CaptureCounter::LostWithSocket, lost);
        let dropped = before.kernel_dropped + status.dropped;
        commit.set(CaptureCounter::KernelDropped, dropped);
        let interface_dropped = before.interface_dropped + status.interface_dropped;
        commit.set(CaptureCounter::InterfaceDropped, interface_dropped);
        let reopened = before.reopened + status.reopened;
        commit.set(CaptureCounter::Reopened, reopened);
        let down = before.down_ms + status.lost_time.as_millis() as u64;
        commit.set(CaptureCounter::DownMilliseconds, down);
        publish(
            &self.thread.session,
            self.thread.queue,
            &mut self.commit,
            &mut self.thread.rings,
        );
        match status.state {
            State::Up | State::Finished => self.show(QueueState::Running, &status.note),
            State::Down => self.show(QueueState::LinkDown, ""),
            State::Retrying { reason } => self.show(QueueState::Retrying, &reason),
        }
    }

    fn finish(&mut self, ending: Ending) {
        if ending.failed {
            // The state and its reason are shown already, and `refresh` would overwrite them.
            publish(
                &self.thread.session,
                self.thread.queue,
                &mut self.commit,
                &mut self.thread.rings,
            );
        } else {
            self.refresh();
            if ending.left {
                return;
            }
            let stopped = self.thread.control.stopping();
            self.show(
                if stopped {
                    QueueState::Stopped
                } else {
                    QueueState::Finished
                },
                "",
            );
        }
        // Nothing more passes this thread, whatever filter comes.
        self.thread
            .control
            .mark_applied(self.thread.queue, u64::MAX);
    }

    fn show(&mut self, state: QueueState, reason: &str) {
        if !matches!(&self.shown, Some((shown, why)) if *shown == state && why == reason) {
            self.thread
                .session
                .set_queue_state(self.thread.queue, state, reason);
            self.shown = Some((state, reason.to_owned()));
        }
    }
}

/// Makes everything pushed so far visible: first the commit, then the rings.
fn publish(
    session: &OwnedRegion<Session>,
    queue: usize,
    commit: &mut QueueCommit,
    rings: &mut [RingWriter],
) {
    for (worker, ring) in rings.iter().enumerate() {
        commit.set_head(worker, ring.head());
    }
    session.commit_queue(queue, commit);
    rings.iter_mut().for_each(RingWriter::publish);
}
