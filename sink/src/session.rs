//! Packet streams: each batch is recorded, then acknowledged, then the next one is read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lc_proto::data::StreamControl;
use lc_proto::passthrough::BatchReceiver;
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::flow::Flow;
use crate::recorder::Recorder;
use crate::registry::Registry;
use crate::until::Until;

/// What all packet streams share.
#[derive(Clone)]
pub(crate) struct PacketSessions {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) flow: Arc<Flow>,
    pub(crate) ack_delay: Duration,
    pub(crate) until: watch::Receiver<bool>,
}

impl BatchReceiver for PacketSessions {
    type Acks = Until<StreamControl>;

    async fn stream_packets(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Self::Acks>, Status> {
        let sessions = self.clone();
        let acks = request.into_inner().then(move |batch| {
            let sessions = sessions.clone();
            async move { sessions.acknowledge(batch.map_err(as_grpc_go)?).await }
        });
        Ok(Response::new(Until::new(
            acks.chain(half_closed()),
            self.until.clone(),
        )))
    }
}

impl PacketSessions {
    async fn acknowledge(&self, batch: Bytes) -> Result<StreamControl, Status> {
        let batch = self.recorder.record(batch)?;
        self.registry.batch(&batch.hunter_id, batch.timestamp_ns);
        if !self.ack_delay.is_zero() {
            tokio::time::sleep(self.ack_delay).await;
        }
        Ok(StreamControl {
            ack_sequence: batch.sequence,
            flow_control: self.flow.next(Instant::now()).into(),
            error: String::new(),
        })
    }
}

/// How a lippycat processor ends a stream that the client has half-closed, after all answers.
pub(crate) fn half_closed<T>() -> impl tokio_stream::Stream<Item = Result<T, Status>> + Send
where
    T: Send,
{
    tokio_stream::once(Err(Status::unknown("EOF")))
}

/// A message over the limit has another code here than at a lippycat processor.
fn as_grpc_go(status: Status) -> Status {
    match status.code() {
        Code::OutOfRange => Status::resource_exhausted(status.message()),
        _ => status,
    }
}
