//! The session with the processor, over as many connections as it takes, to whichever processor of the fail-over list.
//!
//! ```text
//!   choose -> connect, register -> [ StreamPackets | Heartbeat | SubscribeFilters ] -> lost -> choose ...
//!                                                      |                 ^
//!                   a preferred processor, or the same with new          | on the new connection
//!                   certificates, takes this node beside it --> half-close, last answers
//! ```
//!
//! What it guarantees:
//! - a batch is settled, and its bytes in the rings released, only when the processor has acknowledged it or the disk
//!   holds it;
//! - after a loss every batch without an acknowledgement is sent again, in order, under its old number, before
//!   anything new; so packets arrive at least once, and twice only if their acknowledgement was lost;
//! - packets go over one connection at a time; the next one takes them when the last is closed;
//! - a session that works is given up only for one that is registered already, and in order;
//! - what the processor sends can end a connection, but not the process.
//!
//! A batch that the processor itself calls undecodable, on several connections in a row, is given up, and its packets
//! count as dropped: it would hold up everything behind it for ever.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lc_daemon::config::Config;
use lc_daemon::ready;
use lc_proto::data::{BatchStats, FlowControl, StreamControl};
use shm_layout::counters::ForwardCounter;
use shm_layout::forwarder::{Connection, Forwarder};
use shm_layout::region::OwnedRegion;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep_until};
use tonic::Code;

use crate::approach::{Approach, Approached};
use crate::batch::{Batch, Message, Origin};
use crate::calls::{Ended, Phase, heartbeat, packets, register, subscribe};
use crate::causes::describe;
use crate::clock::Clock;
use crate::filters::Filters;
use crate::flow::{Flow, Gate};
use crate::ledger::Ledger;
use crate::node::Node;
use crate::outbox::{Left, Outbox};
use crate::processors::Processors;
use crate::shutdown::Shutdown;
use crate::transport::Link;
use crate::window::{Ack, Numbered};

/// Between looks at the clock and at the counters.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// For the last answers of a connection that is going away or was half-closed.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// For all answers of a connection that another one follows, as long as they keep coming.
const CHANGE_PATIENCE: Duration = Duration::from_secs(10);
/// Messages between the session and the send buffer. Few, because what is here is late for a pause.
const OUTGOING: usize = 4;
/// Connections in a row that the oldest batch may end as undecodable before it is given up.
const STRIKES: u32 = 5;

/// Everything that the session works on.
pub(crate) struct Session {
    pub(crate) config: Arc<Config>,
    pub(crate) approach: Arc<Approach>,
    pub(crate) processors: Processors,
    /// Registered already, and to be used when the present connection has ended in order.
    pub(crate) next: Option<Box<Approached>>,
    pub(crate) node: Arc<Node>,
    pub(crate) region: Arc<OwnedRegion<Forwarder>>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) filters: Arc<Filters>,
    pub(crate) origin: Arc<Origin>,
    pub(crate) outbox: Outbox,
    pub(crate) shutdown: Shutdown,
    pub(crate) strikes: Strikes,
}

/// How often the oldest batch ended a connection.
#[derive(Debug, Default)]
pub(crate) struct Strikes {
    sequence: u64,
    count: u32,
}

/// How a connection ended.
#[derive(Debug)]
struct End {
    reason: String,
    /// What the processor said about the packets, if it said anything.
    code: Option<Code>,
    /// Whether it was our wish.
    wanted: bool,
}

impl Session {
    /// Works until the shutdown is over, then says what was not acknowledged.
    pub(crate) async fn run(mut self) -> Left {
        let memory = tokio::spawn(Arc::clone(&self.node).watch_memory());
        loop {
            let shutdown = self.shutdown.clone();
            tokio::select! {
                () = shutdown.expired() => break,
                () = self.one_session() => {}
            }
            self.outbox.connection_ended();
            if self.outbox.is_finished() {
                break;
            }
        }
        memory.abort();
        if let Some(unused) = self.next.take() {
            unused.link.close().await;
        }
        self.filters.end();
        self.outbox.close().await
    }

    fn acked(&self) -> u64 {
        self.ledger.commit().get(ForwardCounter::AckedBatches)
    }

    /// Waits until a processor may be tried, or goes through a session with one.
    async fn one_session(&mut self) {
        let now = Instant::now();
        let chosen = match (&self.next, self.outbox.is_flushing()) {
            (Some(next), _) => Ok(next.index),
            (None, false) => self.processors.choose(now),
            (None, true) => self.processors.choose_at_the_end(now),
        };
        let index = match chosen {
            Ok(index) => index,
            Err(at) => return self.wait(at).await,
        };
        match self.reach(index).await {
            Some(Ok(reached)) => self.work_with(reached).await,
            Some(Err(reason)) => {
                self.ledger.count(ForwardCounter::ConnectionFailures, 1);
                self.processors.failed(index, &reason, Instant::now());
            }
            None => {}
        }
    }

    /// Waits between connections. The beginning of the end ends it; after that it puts aside what the collector still has.
    async fn wait(&mut self, until: Instant) {
        self.set_connection(Connection::Waiting);
        let shutdown = self.shutdown.clone();
        while !self.is_over() {
            tokio::select! {
                () = sleep_until(until.into()) => return,
                () = shutdown.begun(), if !self.outbox.is_flushing() => return self.flush(),
                () = self.outbox.attend(false) => {}
            }
        }
    }

    /// Whether nothing is left to connect for, once what can wait on disk for the next start is there.
    fn is_over(&mut self) -> bool {
        if self.outbox.is_drained() {
            self.outbox.put_aside();
        }
        self.outbox.is_finished()
    }

    /// Connects to a processor and registers, or takes the connection that waits. `None` if the node ends and there is
    /// nothing left to connect for, or no time to wait for this processor.
    async fn reach(&mut self, index: usize) -> Option<Result<Approached, String>> {
        self.set_connection(Connection::Connecting);
        let (next, approach) = (self.next.take(), Arc::clone(&self.approach));
        let shutdown = self.shutdown.clone();
        // One that does not answer leaves time for the others.
        let share = self.config.shutdown_timeout / (self.processors.count() + 1);
        let flushing = self.outbox.is_flushing();
        let mut deadline = flushing.then(|| Instant::now() + share);
        let mut reached = pin!(async {
            match next {
                Some(next) => approach.confirm(*next).await,
                None => approach.reach(index).await,
            }
        });
        self.processors.tried(index, Instant::now());
        while !self.is_over() {
            let late = deadline.unwrap_or_else(Instant::now);
            tokio::select! {
                reached = &mut reached => return Some(reached),
                () = shutdown.begun(), if !self.outbox.is_flushing() => {
                    self.flush();
                    deadline = Some(Instant::now() + share);
                }
                () = self.outbox.attend(false) => {}
                () = sleep_until(late.into()), if deadline.is_some() => {
                    return Some(Err("no answer in the time that is left".to_owned()));
                }
            }
        }
        None
    }

    /// Works with a processor until the connection ends.
    async fn work_with(&mut self, reached: Approached) {
        let Approached {
            index,
            mut link,
            response,
            credentials,
        } = reached;
        self.ledger.count(ForwardCounter::Connections, 1);
        let failures = self.processors.begun(index);
        let name = match response.config.map(|config| config.processor_id) {
            Some(id) if !id.is_empty() => format!("{id} at {}", self.processors.name(index)),
            _ => self.processors.name(index).to_owned(),
        };
        self.region.set_peer(&name);
        ready::status(&format!("forwarding to {name}"));
        self.filters.reset(response.filters);
        self.set_connection(Connection::Streaming);
        let batches = self.outbox.to_be_sent_again();
        tracing::info!(
            processor = name,
            failures,
            batches,
            "registered with the processor; batches without an acknowledgement are sent again"
        );
        let (acked, began) = (self.acked(), Instant::now());
        let end = self.stream(&mut link, index, credentials).await;
        link.close().await;
        self.processors.ended();
        let mut carried = self.acked() > acked;
        if !end.wanted {
            // One that refuses a batch does work.
            carried |= self.judge_oldest(end.code);
        }
        self.processors.lives(index, began.elapsed(), carried);
        if !end.wanted {
            self.processors.failed(index, &end.reason, Instant::now());
        }
    }

    fn set_connection(&self, connection: Connection) {
        let connection = match self.shutdown.has_begun() {
            true => Connection::Stopping,
            false => connection,
        };
        self.region.set_connection(connection);
    }

    /// Sends and receives until the connection ends.
    async fn stream(&mut self, link: &mut Link, index: usize, credentials: u64) -> End {
        let (phase, phases) = watch::channel(Phase::Working);
        let (outgoing, messages) = mpsc::channel(OUTGOING);
        let (answer, answers) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        let id = self.config.hunter_id.clone();
        tasks.spawn(packets(link.calls(), messages, answer));
        tasks.spawn(heartbeat(link.calls(), Arc::clone(&self.node), phases));
        let updates = subscribe(
            link.calls(),
            id,
            Arc::clone(&self.filters),
            Arc::clone(&self.ledger),
        );
        let updates = tokio::spawn(updates);
        let end = Streaming {
            index,
            credentials,
            acked: self.acked(),
            began: Instant::now(),
            good: false,
            approaching: false,
            leaving: None,
            flow: Flow::default(),
            stats: self.node.batch_stats(),
            phase,
            outgoing: Some(outgoing),
            answers,
            clock: Clock::now(),
            session: self,
        }
        .run(link, &mut tasks)
        .await;
        updates.abort();
        let _ = updates.await;
        tasks.shutdown().await;
        end
    }

    fn flush(&mut self) {
        self.node.set_stopping();
        self.region.set_connection(Connection::Stopping);
        self.outbox.flush();
    }

    /// Gives the oldest batch up if the processor has called it undecodable too often; whether it did.
    fn judge_oldest(&mut self, code: Option<Code>) -> bool {
        let undecodable = matches!(
            code,
            Some(Code::Internal | Code::OutOfRange | Code::ResourceExhausted)
        );
        let Some(oldest) = self.outbox.oldest().filter(|_| undecodable) else {
            return false;
        };
        if !oldest.batch.was_sent() {
            return false;
        }
        let (sequence, packets) = (oldest.ticket.sequence, oldest.batch.packets);
        if self.strikes.sequence != sequence {
            self.strikes = Strikes { sequence, count: 0 };
        }
        self.strikes.count += 1;
        if self.strikes.count >= STRIKES {
            tracing::error!(
                sequence,
                packets,
                "the processor does not take this batch; its packets are dropped"
            );
            self.outbox.give_up_oldest();
            return true;
        }
        false
    }
}

/// A session while it has a connection.
struct Streaming<'s> {
    session: &'s mut Session,
    /// Of the processor.
    index: usize,
    /// What the connection was made with.
    credentials: u64,
    /// Batches acknowledged before.
    acked: u64,
    began: Instant,
    /// Whether the processor has shown that it works.
    good: bool,
    /// Whether another connection is being made beside this one.
    approaching: bool,
    /// Set when nothing more is sent.
    leaving: Option<Leaving>,
    flow: Flow,
    stats: BatchStats,
    phase: watch::Sender<Phase>,
    /// `None` after the half-close.
    outgoing: Option<mpsc::Sender<Message>>,
    answers: mpsc::Receiver<StreamControl>,
    clock: Clock,
}

/// The last part of a connection: only answers are waited for.
struct Leaving {
    until: tokio::time::Instant,
    /// No answer puts the end off beyond this.
    at_latest: tokio::time::Instant,
    reason: String,
}

impl Leaving {
    fn new(reason: String, patience: Duration) -> Self {
        let now = tokio::time::Instant::now();
        Self {
            until: now + LAST_ANSWERS.min(patience),
            at_latest: now + patience,
            reason,
        }
    }

    /// An answer came: there may be more.
    fn answered(&mut self) {
        self.until = (tokio::time::Instant::now() + LAST_ANSWERS).min(self.at_latest);
    }
}

impl Streaming<'_> {
    async fn run(&mut self, link: &mut Link, tasks: &mut JoinSet<Ended>) -> End {
        let shutdown = self.session.shutdown.clone();
        let mut stopping = false;
        let mut look = interval(LOOK_INTERVAL);
        let mut permit: Option<mpsc::OwnedPermit<Message>> = None;
        loop {
            if self.session.outbox.is_finished() && self.outgoing.is_some() {
                self.half_close("done", LAST_ANSWERS);
            }
            if self.outgoing.is_none() {
                permit = None;
            }
            let gate = self.flow.gate(Instant::now());
            let free = gate == Gate::Open
                && self.leaving.is_none()
                && permit.is_some()
                && self.session.outbox.has_room();
            if free && let Some(next) = self.session.outbox.send_next() {
                self.send(permit.take(), next);
                continue;
            }
            let later = match gate {
                Gate::BatchAt(at) | Gate::ProbeAt(at) if self.leaving.is_none() => Some(at),
                _ => None,
            };
            let wants_permit = permit.is_none() && self.outgoing.is_some();
            tokio::select! {
                biased;
                answer = self.answers.recv(), if !self.answers.is_closed() || !self.answers.is_empty() => {
                    if let (Some(leaving), Some(_)) = (&mut self.leaving, &answer) {
                        leaving.answered();
                    }
                    if let Some(answer) = answer
                        && let Err(reason) = self.take_answer(&answer)
                    {
                        return End::lost(reason, None);
                    }
                }
                Some(ended) = tasks.join_next() => {
                    if let Some(end) = self.task_ended(ended) {
                        return end;
                    }
                }
                reason = link.ended(), if self.leaving.is_none() => {
                    // GOAWAY leaves calls alive for a while: the answers under way are worth having.
                    self.leaving = Some(Leaving::new(reason, LAST_ANSWERS));
                }
                () = sleep_until(self.leaving.as_ref().map_or_else(tokio::time::Instant::now, |l| l.until)), if self.leaving.is_some() => {
                    let reason = self.leaving.take().map_or_else(String::new, |l| l.reason);
                    return End { wanted: self.outgoing.is_none(), reason, code: None };
                }
                () = shutdown.begun(), if !stopping => {
                    stopping = true;
                    self.session.flush();
                    let _ = self.phase.send(Phase::Stopping);
                }
                // By turns: however fast packets leave, the rings must be looked after.
                turn = async {
                    tokio::select! {
                        ready = reserve(self.outgoing.clone()), if wants_permit => Turn::Permit(ready),
                        () = self.session.outbox.attend(free) => Turn::Attended,
                        _ = look.tick() => Turn::Look,
                    }
                } => match turn {
                    Turn::Permit(ready) => permit = ready,
                    Turn::Attended => {}
                    Turn::Look => self.look(link, tasks),
                },
                () = sleep_until(later.unwrap_or_else(Instant::now).into()), if later.is_some() => {
                    if matches!(gate, Gate::ProbeAt(_)) {
                        match permit.take() {
                            Some(ready) => self.send_probe(ready),
                            // The send buffer is full: the probe waits its time anew.
                            None => self.flow.sent(Instant::now()),
                        }
                    }
                }
            }
            if self.session.outbox.is_quiet()
                && self.outgoing.is_some()
                && let Some(leaving) = self.leaving.take()
            {
                // Going away, and everything that was sent is answered.
                return End::lost(leaving.reason, None);
            }
        }
    }

    /// Sends nothing more: the processor answers what it has, then ends the stream.
    fn half_close(&mut self, reason: &str, patience: Duration) {
        self.outgoing = None;
        let _ = self.phase.send(Phase::Done);
        self.leaving = Some(Leaving::new(reason.to_owned(), patience));
    }

    /// Goes over to a connection that was made beside this one; or notes that it did not come about.
    fn approached(&mut self, index: usize, result: Result<Box<Approached>, String>) {
        self.approaching = false;
        let session = &mut *self.session;
        match result {
            // Not worth it any more.
            Ok(_) if session.outbox.is_flushing() => {}
            Ok(next) => {
                tracing::info!(
                    processor = session.processors.name(index),
                    "another connection takes this one's place, which ends in order"
                );
                session.next = Some(next);
                if self.leaving.is_none() {
                    self.half_close("another connection takes its place", CHANGE_PATIENCE);
                }
            }
            Err(reason) => {
                session.ledger.count(ForwardCounter::ConnectionFailures, 1);
                session.processors.failed(index, &reason, Instant::now());
            }
        }
    }

    /// Makes a connection beside this one if a preferred processor may be tried, or if there are new credentials.
    fn look_for_another(&mut self, tasks: &mut JoinSet<Ended>) {
        let session = &mut *self.session;
        if self.approaching || self.leaving.is_some() || session.outbox.is_flushing() {
            return;
        }
        let now = Instant::now();
        let anew = session.approach.credentials() != self.credentials;
        if let Some(index) = session.processors.better(self.index, anew, now) {
            self.approaching = true;
            session.processors.tried(index, now);
            let approach = Arc::clone(&session.approach);
            tasks.spawn(async move {
                Ended::Approach(index, approach.reach(index).await.map(Box::new))
            });
        }
    }

    fn send(&mut self, permit: Option<mpsc::OwnedPermit<Message>>, next: Numbered) {
        if let Some(permit) = permit {
            permit.send(self.message(next.ticket.sequence, Some(next.batch)));
            self.flow.sent(Instant::now());
        }
    }

    fn send_probe(&mut self, permit: mpsc::OwnedPermit<Message>) {
        let sequence = self.session.outbox.send_probe();
        permit.send(self.message(sequence, None));
        self.flow.sent(Instant::now());
    }

    fn message(&self, sequence: u64, batch: Option<Arc<Batch>>) -> Message {
        Message {
            batch,
            sequence,
            stats: self.stats,
            origin: Arc::clone(&self.session.origin),
        }
    }

    /// Takes in an answer; an error if it can't be explained.
    fn take_answer(&mut self, answer: &StreamControl) -> Result<(), String> {
        let session = &mut *self.session;
        match session.outbox.acknowledge(answer.ack_sequence) {
            Ack::Batch(_) | Ack::Probe => {}
            Ack::Repeated => session.ledger.count(ForwardCounter::UnexpectedAcks, 1),
            Ack::Unexplained { expected } => {
                session.ledger.count(ForwardCounter::UnexpectedAcks, 1);
                let got = answer.ack_sequence;
                return Err(match expected {
                    Some(due) => {
                        format!("the processor acknowledged batch {got} instead of {due}")
                    }
                    None => format!("the processor acknowledged batch {got}, which was not sent"),
                });
            }
        }
        if !answer.error.is_empty() {
            tracing::warn!(error = answer.error, "the processor reports an error");
        }
        // A signal of the future is no reason to hold back.
        let signal =
            FlowControl::try_from(answer.flow_control).unwrap_or(FlowControl::FlowContinue);
        match signal {
            FlowControl::FlowPause => session.ledger.count(ForwardCounter::Pauses, 1),
            FlowControl::FlowSlow => session.ledger.count(ForwardCounter::Slowdowns, 1),
            FlowControl::FlowContinue | FlowControl::FlowResume => {}
        }
        let was_paused = self.flow.is_paused();
        self.flow.heed(signal, Instant::now());
        if was_paused != self.flow.is_paused() {
            let (state, text) = match was_paused {
                false => (Connection::Paused, "the processor asks for a pause"),
                true => (Connection::Streaming, "the pause is over"),
            };
            session.set_connection(state);
            tracing::info!("{text}");
        }
        Ok(())
    }

    /// What the end of a task means for the connection.
    fn task_ended(&mut self, ended: Result<Ended, tokio::task::JoinError>) -> Option<End> {
        let half_closed = self.outgoing.is_none();
        let leaving = self.leaving.is_some();
        match ended {
            Ok(Ended::Packets(result)) => Some(match result {
                // Processors answer a half-close with UNKNOWN "EOF".
                Ok(()) | Err(_) if half_closed => End {
                    reason: String::from("done"),
                    code: None,
                    wanted: true,
                },
                Ok(()) => End::lost("the processor ended the packet stream".to_owned(), None),
                Err(status) => End::lost(
                    format!("packet stream: {}", describe(&status)),
                    Some(status.code()),
                ),
            }),
            Ok(Ended::Heartbeat(_)) if half_closed || leaving => None,
            Ok(Ended::Heartbeat(Ok(()))) => Some(End::lost(
                "the processor ended the heartbeats".to_owned(),
                None,
            )),
            Ok(Ended::Heartbeat(Err(status))) => {
                Some(End::lost(format!("heartbeat: {}", describe(&status)), None))
            }
            Ok(Ended::Approach(index, result)) => {
                self.approached(index, result);
                None
            }
            Ok(Ended::Registration(Ok(response))) if response.accepted => {
                self.session.filters.reset(response.filters);
                None
            }
            Ok(Ended::Registration(Ok(response))) => Some(End::lost(
                format!("the processor refused this node: {}", response.error),
                None,
            )),
            Ok(Ended::Registration(Err(status))) => Some(End::lost(
                format!("registration: {}", describe(&status)),
                None,
            )),
            Err(error) => Some(End::lost(format!("a task failed: {error}"), None)),
        }
    }

    /// Brings the counters up to date, and looks at the clock, at the processor, and for a better one.
    fn look(&mut self, link: &Link, tasks: &mut JoinSet<Ended>) {
        self.stats = self.session.node.batch_stats();
        if !self.good {
            let carried = self.session.acked() > self.acked;
            let lived = self.began.elapsed();
            self.good = self.session.processors.lives(self.index, lived, carried);
        }
        self.look_for_another(tasks);
        if self.clock.stepped() {
            tracing::warn!("the clock was set; registering again");
            let (calls, node) = (link.calls(), Arc::clone(&self.session.node));
            tasks.spawn(async move { Ended::Registration(register(calls, &node).await) });
        }
    }
}

impl End {
    fn lost(reason: String, code: Option<Code>) -> Self {
        Self {
            reason,
            code,
            wanted: false,
        }
    }
}

/// What comes by turns while a connection works.
enum Turn {
    /// The send buffer has room for a message.
    Permit(Option<mpsc::OwnedPermit<Message>>),
    /// What waits was looked after.
    Attended,
    /// Counters are due.
    Look,
}

async fn reserve(outgoing: Option<mpsc::Sender<Message>>) -> Option<mpsc::OwnedPermit<Message>> {
    match outgoing {
        // An error means that the stream has ended, which its task reports.
        Some(outgoing) => match outgoing.reserve_owned().await {
            Ok(permit) => Some(permit),
            Err(_) => std::future::pending().await,
        },
        None => None,
    }
}
