//! A processor that does nothing by itself: the test sees every message and decides every answer.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use lc_proto::data::{FlowControl, PacketBatch, StreamControl};
use lc_proto::management::management_service_server::{ManagementService, ManagementServiceServer};
use lc_proto::management::{
    Filter, FilterRequest, FilterUpdate, HunterHeartbeat, HunterRegistration, ProcessorConfig,
    ProcessorHeartbeat, RegistrationResponse,
};
use lc_proto::passthrough::{BatchReceiver, StreamPacketsServer};
use prost::Message;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream, UnboundedReceiverStream};
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

type Answers = mpsc::UnboundedSender<Result<StreamControl, Status>>;

pub struct Processor {
    pub address: SocketAddr,
    runtime: Runtime,
    shared: Arc<Shared>,
    streams: mpsc::UnboundedReceiver<PacketStream>,
    stop: Option<oneshot::Sender<()>>,
}

/// One StreamPackets call.
pub struct PacketStream {
    batches: mpsc::UnboundedReceiver<PacketBatch>,
    answers: Answers,
    /// How many batches have no answer.
    unanswered: Arc<watch::Sender<usize>>,
}

#[derive(Default)]
pub struct Shared {
    pub filters: Mutex<Vec<Filter>>,
    pub registrations: Mutex<Vec<HunterRegistration>>,
    pub heartbeats: Mutex<Vec<HunterHeartbeat>>,
    /// The newest filter subscription.
    updates: Mutex<Option<mpsc::Sender<Result<FilterUpdate, Status>>>>,
    pub subscriptions: Mutex<usize>,
    /// Answer to registrations: an error text refuses.
    pub refuse: Mutex<Option<String>>,
    streams: Mutex<Option<mpsc::UnboundedSender<PacketStream>>>,
}

impl Processor {
    pub fn start() -> Self {
        Self::listen("127.0.0.1:0".parse().unwrap())
    }

    pub fn listen(address: SocketAddr) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (opened, streams) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            streams: Mutex::new(Some(opened)),
            ..Shared::default()
        });
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serve = tonic::transport::Server::builder()
            .add_service(ManagementServiceServer::from_arc(Arc::clone(&shared)))
            .add_service(StreamPacketsServer::new(Arc::clone(&shared)))
            .serve_with_incoming_shutdown(TcpListenerStream::new(listener), async {
                let _ = stopped.await;
            });
        runtime.spawn(serve);
        Self {
            address,
            runtime,
            shared,
            streams,
            stop: Some(stop),
        }
    }

    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The next StreamPackets call.
    pub fn stream(&mut self) -> PacketStream {
        self.runtime
            .block_on(async { in_time(self.streams.recv()).await })
            .unwrap()
    }

    pub fn batch(&self, stream: &mut PacketStream) -> PacketBatch {
        self.runtime
            .block_on(async { in_time(stream.batches.recv()).await })
            .expect("the stream has ended")
    }

    /// Waits until the client has half-closed or dropped the stream; batches before that are an error.
    pub fn end(&self, stream: &mut PacketStream) {
        let batch = self
            .runtime
            .block_on(async { in_time(stream.batches.recv()).await });
        assert_eq!(batch, None);
    }

    /// The next message if one comes within `time`.
    pub fn batch_within(&self, stream: &mut PacketStream, time: Duration) -> Option<PacketBatch> {
        let receive = async { tokio::time::timeout(time, stream.batches.recv()).await };
        self.runtime.block_on(receive).ok().flatten()
    }

    /// Pushes a filter update.
    pub fn push(&self, update: FilterUpdate) {
        let updates = self.shared.updates.lock().unwrap().clone().unwrap();
        self.runtime.block_on(updates.send(Ok(update))).unwrap();
    }

    /// Ends the filter subscription in good order.
    pub fn end_subscription(&self) {
        *self.shared.updates.lock().unwrap() = None;
    }

    /// Says GOAWAY; open calls go on.
    pub fn go_away(&mut self) {
        let _ = self.stop.take().unwrap().send(());
    }

    /// Breaks all connections at once.
    pub fn kill(self) {
        self.runtime.shutdown_background();
    }
}

impl PacketStream {
    pub fn ack(&self, sequence: u64) {
        self.ack_with(sequence, FlowControl::FlowContinue);
    }

    pub fn ack_with(&self, sequence: u64, flow: FlowControl) {
        let control = StreamControl {
            ack_sequence: sequence,
            flow_control: flow.into(),
            error: String::new(),
        };
        let _ = self.answers.send(Ok(control));
        self.unanswered
            .send_modify(|count| *count = count.saturating_sub(1));
    }

    pub fn fail(&self, status: Status) {
        let _ = self.answers.send(Err(status));
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work)
        .await
        .expect("nothing came within 20 s")
}

impl BatchReceiver for Shared {
    type Acks = UnboundedReceiverStream<Result<StreamControl, Status>>;

    async fn stream_packets(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Self::Acks>, Status> {
        let mut messages = request.into_inner();
        let (answers, acks) = mpsc::unbounded_channel();
        let (received, batches) = mpsc::unbounded_channel();
        let own = answers.clone();
        let unanswered = Arc::new(watch::Sender::new(0));
        let count = Arc::clone(&unanswered);
        tokio::spawn(async move {
            while let Some(Ok(message)) = messages.next().await {
                match PacketBatch::decode(message) {
                    Ok(batch) => {
                        count.send_modify(|count| *count += 1);
                        drop(received.send(batch));
                    }
                    Err(error) => {
                        let _ = own.send(Err(Status::internal(error.to_string())));
                        return;
                    }
                }
            }
            drop(received);
            // As a lippycat processor ends a half-closed stream: after its answers.
            let mut left = count.subscribe();
            drop(count);
            let _ = left.wait_for(|left| *left == 0).await;
            let _ = own.send(Err(Status::unknown("EOF")));
        });
        let stream = PacketStream {
            batches,
            answers,
            unanswered,
        };
        let _ = self.streams.lock().unwrap().as_ref().unwrap().send(stream);
        Ok(Response::new(UnboundedReceiverStream::new(acks)))
    }
}

#[tonic::async_trait]
impl ManagementService for Shared {
    async fn register_hunter(
        &self,
        request: Request<HunterRegistration>,
    ) -> Result<Response<RegistrationResponse>, Status> {
        self.registrations
            .lock()
            .unwrap()
            .push(request.into_inner());
        let error = self.refuse.lock().unwrap().clone();
        Ok(Response::new(RegistrationResponse {
            accepted: error.is_none(),
            error: error.unwrap_or_default(),
            assigned_id: "edge-1".into(),
            filters: self.filters.lock().unwrap().clone(),
            config: Some(ProcessorConfig {
                processor_id: "test-processor".into(),
                ..Default::default()
            }),
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<HunterHeartbeat>>,
    ) -> Result<Response<BoxStream<ProcessorHeartbeat>>, Status> {
        let mut beats = request.into_inner();
        // The response begins with the first reply at the earliest; this processor replies at the end only.
        while let Some(beat) = beats.message().await? {
            self.heartbeats.lock().unwrap().push(beat);
        }
        Err(Status::unknown("EOF"))
    }

    async fn subscribe_filters(
        &self,
        _: Request<FilterRequest>,
    ) -> Result<Response<BoxStream<FilterUpdate>>, Status> {
        let (updates, stream) = mpsc::channel(64);
        *self.updates.lock().unwrap() = Some(updates);
        *self.subscriptions.lock().unwrap() += 1;
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}
