//! The session with the processor, over as many connections as it takes.
//!
//! ```text
//!   connect -> register -> [ StreamPackets | Heartbeat | SubscribeFilters ] -> lost -> wait -> connect ...
//! ```
//!
//! What it guarantees:
//! - a batch is settled, and its bytes in the rings released, only when the processor has acknowledged it or the disk
//!   holds it;
//! - after a loss every batch without an acknowledgement is sent again, in order, under its old number, before
//!   anything new; so packets arrive at least once, and twice only if their acknowledgement was lost;
//! - one connection at a time; the next one begins when the last is closed, and never at once;
//! - what the processor sends can end a connection, but not the process.
//!
//! A batch that the processor itself calls undecodable, on several connections in a row, is given up, and its packets
//! count as dropped: it would hold up everything behind it for ever.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lc_daemon::config::{Config, Source};
use lc_proto::data::{BatchStats, FlowControl, StreamControl};
use lc_proto::management::RegistrationResponse;
use shm_layout::counters::ForwardCounter;
use shm_layout::forwarder::{Connection, Endpoints, Forwarder};
use shm_layout::region::OwnedRegion;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{interval, sleep, sleep_until, timeout};
use tonic::Code;

use crate::backoff::{Backoff, Outage};
use crate::batch::{Batch, Message, Origin};
use crate::calls::{Ended, Phase, describe, heartbeat, packets, register, subscribe};
use crate::clock::Clock;
use crate::filters::Filters;
use crate::flow::{Flow, Gate};
use crate::ledger::Ledger;
use crate::node::Node;
use crate::outbox::{Left, Outbox};
use crate::shutdown::Shutdown;
use crate::transport::{Link, Transport, causes};
use crate::window::{Ack, Numbered};

/// Between looks at the clock and at the counters.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// For capture to exclude the processor's addresses, before the first byte goes there.
const EXCLUSION_PATIENCE: Duration = Duration::from_millis(500);
/// For the last answers of a connection that is going away or was half-closed.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// Messages between the session and the send buffer. Few, because what is here is late for a pause.
const OUTGOING: usize = 4;
/// Connections in a row that the oldest batch may end as undecodable before it is given up.
const STRIKES: u32 = 5;

/// Everything that the session works on.
pub(crate) struct Session {
    pub(crate) config: Arc<Config>,
    pub(crate) transport: Transport,
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
        let mut backoff = Backoff::default();
        let mut outage = Outage::default();
        let memory = tokio::spawn(Arc::clone(&self.node).watch_memory());
        loop {
            let acked = self.acked();
            let began = Instant::now();
            let shutdown = self.shutdown.clone();
            let reason = tokio::select! {
                () = shutdown.expired() => break,
                ended = self.one_connection(&mut outage) => ended,
            };
            self.outbox.connection_ended();
            if self.outbox.is_finished() {
                break;
            }
            backoff.connection_ended(began.elapsed(), self.acked() > acked);
            let delay = backoff.next_delay();
            self.region.set_error(&reason);
            if let Some(attempts) = outage.failed(&reason, Instant::now()) {
                let processor = self.config.processor.to_string();
                tracing::warn!(
                    processor,
                    attempts,
                    "no session with the processor: {reason}"
                );
            }
            self.wait(delay).await;
            if self.outbox.is_finished() {
                break;
            }
        }
        memory.abort();
        self.filters.end();
        self.outbox.close().await
    }

    fn acked(&self) -> u64 {
        self.ledger.commit().get(ForwardCounter::AckedBatches)
    }

    /// Waits between connections. A shutdown shortens the wait, and puts aside what the collector still has.
    async fn wait(&mut self, delay: Duration) {
        self.set_connection(Connection::Waiting);
        let shutdown = self.shutdown.clone();
        let until = tokio::time::Instant::now() + delay;
        loop {
            tokio::select! {
                () = sleep_until(until) => return,
                () = shutdown.begun() => break,
                () = self.outbox.attend(false) => {}
            }
        }
        self.flush();
        let soon = tokio::time::Instant::now() + Duration::from_millis(100).min(delay);
        while !self.outbox.is_finished() {
            tokio::select! {
                () = sleep_until(soon) => return,
                () = self.outbox.attend(false) => {}
            }
            if self.outbox.is_drained() {
                self.outbox.put_aside();
            }
        }
    }

    /// Connects, registers and works until the connection ends. Says why it ended.
    async fn one_connection(&mut self, outage: &mut Outage) -> String {
        self.set_connection(Connection::Connecting);
        let shutdown = self.shutdown.clone();
        let flushing = self.outbox.is_flushing();
        let connected = {
            let connect = connect(&self.transport, &self.node, &self.region, &self.config);
            tokio::pin!(connect);
            loop {
                tokio::select! {
                    connected = &mut connect => break connected,
                    // There may be nothing left to connect for.
                    () = shutdown.begun(), if !flushing => return "stopping".to_owned(),
                    () = self.outbox.attend(false) => {}
                }
            }
        };
        let (mut link, response) = match connected {
            Ok(connected) => connected,
            Err(reason) => {
                self.ledger.count(ForwardCounter::ConnectionFailures, 1);
                return reason;
            }
        };
        self.ledger.count(ForwardCounter::Connections, 1);
        let processor = response.config.map_or_else(String::new, |c| c.processor_id);
        let name = match processor.as_str() {
            "" => self.config.processor.to_string(),
            id => id.to_owned(),
        };
        self.region.set_peer(&name);
        self.filters.reset(response.filters);
        self.set_connection(Connection::Streaming);
        let failures = outage.ended();
        let batches = self.outbox.to_be_sent_again();
        tracing::info!(
            processor = name,
            failures,
            batches,
            "registered with the processor; batches without an acknowledgement are sent again"
        );
        let end = self.stream(&mut link).await;
        link.close().await;
        if !end.wanted {
            self.judge_oldest(end.code);
        }
        end.reason
    }

    fn set_connection(&self, connection: Connection) {
        let connection = match self.shutdown.has_begun() {
            true => Connection::Stopping,
            false => connection,
        };
        self.region.set_connection(connection);
    }

    /// Sends and receives until the connection ends.
    async fn stream(&mut self, link: &mut Link) -> End {
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

    /// Gives the oldest batch up if the processor has called it undecodable too often.
    fn judge_oldest(&mut self, code: Option<Code>) {
        let undecodable = matches!(
            code,
            Some(Code::Internal | Code::OutOfRange | Code::ResourceExhausted)
        );
        let Some(oldest) = self.outbox.oldest().filter(|_| undecodable) else {
            return;
        };
        if !oldest.batch.was_sent() {
            return;
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
        }
    }
}

/// Connects to the processor and registers; says why not.
async fn connect(
    transport: &Transport,
    node: &Node,
    region: &OwnedRegion<Forwarder>,
    config: &Config,
) -> Result<(Link, RegistrationResponse), String> {
    let said = |error: &dyn std::error::Error| causes(error);
    let addresses = transport.resolve().await.map_err(|e| said(&e))?;
    announce(&addresses, node, region, config).await;
    let mut link = transport.connect(&addresses).await.map_err(|e| said(&e))?;
    match register(link.calls(), node).await {
        Ok(response) if response.accepted => Ok((link, response)),
        refused => {
            let reason = match refused {
                Ok(response) => format!("the processor refused this node: {}", response.error),
                Err(status) => {
                    let mut reason = format!("registration: {}", describe(&status));
                    // The connection knows better why it broke, such as a TLS alert.
                    if let Ok(cause) = timeout(Duration::from_millis(100), link.ended()).await {
                        let hint = transport.hint();
                        reason = format!("{reason} ({cause}){hint}");
                    }
                    reason
                }
            };
            link.close().await;
            Err(reason)
        }
    }
}

/// Lets capture exclude the processor's addresses before anything goes there.
async fn announce(
    addresses: &[SocketAddr],
    node: &Node,
    region: &OwnedRegion<Forwarder>,
    config: &Config,
) {
    let known = region.endpoints().unwrap_or_default();
    let mut addresses = addresses.to_vec();
    addresses.sort_unstable();
    addresses.dedup();
    addresses.truncate(shm_layout::forwarder::MAX_ENDPOINTS);
    let mut revision = known.revision;
    if known.addresses != addresses {
        revision += 1;
        region.set_endpoints(&Endpoints {
            revision,
            addresses,
        });
    }
    if matches!(config.source, Source::Files(_)) {
        return;
    }
    let excluded = async {
        while node.excluded_endpoints() < revision {
            sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(EXCLUSION_PATIENCE, excluded).await.is_err() {
        tracing::debug!("capture has not excluded the processor's addresses in time");
    }
}

/// A session while it has a connection.
struct Streaming<'s> {
    session: &'s mut Session,
    flow: Flow,
    stats: BatchStats,
    phase: watch::Sender<Phase>,
    /// `None` after the half-close.
    outgoing: Option<mpsc::Sender<Message>>,
    answers: mpsc::Receiver<StreamControl>,
    clock: Clock,
}

impl Streaming<'_> {
    async fn run(&mut self, link: &mut Link, tasks: &mut JoinSet<Ended>) -> End {
        let shutdown = self.session.shutdown.clone();
        let mut stopping = false;
        let mut leaving: Option<(tokio::time::Instant, String)> = None;
        let mut look = interval(LOOK_INTERVAL);
        let mut permit: Option<mpsc::OwnedPermit<Message>> = None;
        loop {
            if self.session.outbox.is_finished() && self.outgoing.is_some() {
                // The half-close: the processor answers what it has, then ends the stream.
                (permit, self.outgoing) = (None, None);
                let _ = self.phase.send(Phase::Done);
                let until = tokio::time::Instant::now() + LAST_ANSWERS;
                leaving = Some((until, String::from("done")));
            }
            let gate = self.flow.gate(Instant::now());
            let free = gate == Gate::Open
                && leaving.is_none()
                && permit.is_some()
                && self.session.outbox.has_room();
            if free && let Some(next) = self.session.outbox.send_next() {
                self.send(permit.take(), next);
                continue;
            }
            let later = match gate {
                Gate::Open => None,
                Gate::BatchAt(at) | Gate::ProbeAt(at) => Some(at),
            };
            tokio::select! {
                biased;
                answer = self.answers.recv(), if !self.answers.is_closed() || !self.answers.is_empty() => {
                    if let Some(answer) = answer
                        && let Err(reason) = self.take_answer(&answer)
                    {
                        return End::lost(reason, None);
                    }
                }
                Some(ended) = tasks.join_next() => {
                    if let Some(end) = self.task_ended(ended, leaving.is_some()) {
                        return end;
                    }
                }
                reason = link.ended(), if leaving.is_none() => {
                    // GOAWAY leaves calls alive for a while: the answers under way are worth having.
                    let until = tokio::time::Instant::now() + LAST_ANSWERS;
                    leaving = Some((until, reason));
                }
                () = sleep_until(leaving.as_ref().map_or_else(tokio::time::Instant::now, |l| l.0)), if leaving.is_some() => {
                    let reason = leaving.take().map_or_else(String::new, |l| l.1);
                    return End { wanted: self.outgoing.is_none(), reason, code: None };
                }
                () = shutdown.begun(), if !stopping => {
                    stopping = true;
                    self.session.flush();
                    let _ = self.phase.send(Phase::Stopping);
                }
                ready = reserve(self.outgoing.clone()), if permit.is_none() && self.outgoing.is_some() => {
                    permit = ready;
                }
                () = self.session.outbox.attend(free) => {}
                () = sleep_until(later.unwrap_or_else(Instant::now).into()), if later.is_some() => {
                    if matches!(gate, Gate::ProbeAt(_)) && leaving.is_none() {
                        match permit.take() {
                            Some(ready) => self.send_probe(ready),
                            // The send buffer is full: the probe waits its time anew.
                            None => self.flow.sent(Instant::now()),
                        }
                    }
                }
                _ = look.tick() => self.look(link, tasks),
            }
            if leaving.is_some() && self.session.outbox.is_quiet() && self.outgoing.is_some() {
                // Going away, and everything that was sent is answered.
                if let Some((_, reason)) = leaving.take() {
                    return End::lost(reason, None);
                }
            }
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
    fn task_ended(
        &mut self,
        ended: Result<Ended, tokio::task::JoinError>,
        leaving: bool,
    ) -> Option<End> {
        let half_closed = self.outgoing.is_none();
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

    /// Brings the counters up to date, and looks at the clock.
    fn look(&mut self, link: &Link, tasks: &mut JoinSet<Ended>) {
        self.stats = self.session.node.batch_stats();
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
