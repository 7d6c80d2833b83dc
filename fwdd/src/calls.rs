//! The calls of one connection to the processor, each a task of its own: StreamPackets, Heartbeat and SubscribeFilters,
//! and the registration before them.

use std::sync::Arc;
use std::time::Duration;

use lc_proto::data::StreamControl;
use lc_proto::management::management_service_client::ManagementServiceClient;
use lc_proto::management::{FilterRequest, RegistrationResponse};
use lc_proto::passthrough::stream_packets;
use shm_layout::counters::ForwardCounter;
use tokio::sync::{mpsc, watch};
use tokio::time::{interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

use crate::approach::Approached;
use crate::batch::Message;
use crate::causes::describe;
use crate::filters::Filters;
use crate::ledger::Ledger;
use crate::node::Node;
use crate::transport::Calls;

/// For the answer to a registration.
const REGISTER_PATIENCE: Duration = Duration::from_secs(10);
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Before the filters are subscribed to again.
const RESUBSCRIBE_DELAY: Duration = Duration::from_millis(200);
const RESUBSCRIBE_LONGEST: Duration = Duration::from_secs(5);

/// Where the node stands with the processor, for the tasks of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Working,
    Stopping,
    /// Nothing more is sent on this connection.
    Done,
}

/// What the tasks of a connection end with.
pub(crate) enum Ended {
    Packets(Result<(), Status>),
    Heartbeat(Result<(), Status>),
    Registration(Result<RegistrationResponse, Status>),
    /// The way to a processor that may take the present one's place, by its index.
    Approach(usize, Result<Box<Approached>, String>),
}

/// Registers the node, and gives the processor's answer, which may be a refusal.
pub(crate) async fn register(calls: Calls, node: &Node) -> Result<RegistrationResponse, Status> {
    let mut client = ManagementServiceClient::new(calls);
    match timeout(
        REGISTER_PATIENCE,
        client.register_hunter(node.registration()),
    )
    .await
    {
        Ok(response) => Ok(response?.into_inner()),
        Err(_) => Err(Status::deadline_exceeded("no answer within 10 s")),
    }
}

/// StreamPackets: the response may begin with the first answer only, so sending must not wait for it.
pub(crate) async fn packets(
    calls: Calls,
    messages: mpsc::Receiver<Message>,
    answer: mpsc::Sender<StreamControl>,
) -> Ended {
    let work = async {
        let request = Request::new(ReceiverStream::new(messages));
        let mut answers = stream_packets(calls, request).await?.into_inner();
        while let Some(control) = answers.message().await? {
            if answer.send(control).await.is_err() {
                break;
            }
        }
        Ok(())
    };
    Ended::Packets(work.await)
}

/// Heartbeats: one at once, one every 5 s, and one at each change of phase.
pub(crate) async fn heartbeat(
    calls: Calls,
    node: Arc<Node>,
    mut phase: watch::Receiver<Phase>,
) -> Ended {
    let (beat, beats) = mpsc::channel(1);
    let send = async {
        let mut interval = interval(HEARTBEAT_INTERVAL);
        loop {
            tokio::select! {
                _ = interval.tick() => {}
                changed = phase.changed() => if changed.is_err() { break },
            }
            if beat.send(node.heartbeat()).await.is_err() || *phase.borrow() == Phase::Done {
                break;
            }
        }
        // The half-close; the answers tell the rest.
        drop(beat);
        std::future::pending().await
    };
    let receive = async {
        let mut client = ManagementServiceClient::new(calls);
        let mut answers = client
            .heartbeat(ReceiverStream::new(beats))
            .await?
            .into_inner();
        while answers.message().await?.is_some() {}
        Ok(())
    };
    Ended::Heartbeat(tokio::select! {
        result = receive => result,
        never = send => never,
    })
}

/// SubscribeFilters, again and again: its end alone means nothing. Never ends by itself.
pub(crate) async fn subscribe(
    calls: Calls,
    hunter_id: String,
    filters: Arc<Filters>,
    ledger: Arc<Ledger>,
) {
    let mut client = ManagementServiceClient::new(calls);
    let request = || FilterRequest {
        hunter_id: hunter_id.clone(),
    };
    let mut delay = RESUBSCRIBE_DELAY;
    loop {
        let updates = async {
            let mut updates = client.subscribe_filters(request()).await?.into_inner();
            while let Some(update) = updates.message().await? {
                ledger.count(ForwardCounter::FilterUpdates, 1);
                filters.apply(update);
            }
            Ok::<(), Status>(())
        };
        match updates.await {
            Ok(()) => delay = RESUBSCRIBE_DELAY,
            Err(status) => {
                tracing::debug!("filter updates: {}", describe(&status));
                delay = (2 * delay).min(RESUBSCRIBE_LONGEST);
            }
        }
        sleep(delay).await;
        // Filters that were deleted meanwhile are not reported to a new subscription.
        if let Ok(now) = client.get_filters(request()).await {
            filters.reset(now.into_inner().filters);
        }
    }
}
