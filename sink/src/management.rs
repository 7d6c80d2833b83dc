//! The management service: registration, heartbeats, filters and status queries.

use std::sync::Arc;

use lc_proto::management::management_service_server::{ManagementService, ManagementServiceServer};
use lc_proto::management::{
    FilterRequest, FilterResponse, FilterUpdate, HunterHeartbeat, HunterRegistration, HunterStatus,
    ListHuntersRequest, ListHuntersResponse, ProcessorConfig, ProcessorHeartbeat, ProcessorStats,
    ProcessorStatus, RegistrationResponse, StatusRequest, StatusResponse,
};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::catalogue::Catalogue;
use crate::recorder::Recorder;
use crate::registry::Registry;
use crate::session::half_closed;
use crate::until::Until;

/// See the module.
pub(crate) struct Management {
    pub(crate) processor_id: String,
    pub(crate) registry: Arc<Registry>,
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) until: watch::Receiver<bool>,
}

impl Management {
    pub(crate) fn into_service(self) -> ManagementServiceServer<Self> {
        ManagementServiceServer::new(self).max_decoding_message_size(lc_proto::MAX_MESSAGE_BYTES)
    }
}

#[tonic::async_trait]
impl ManagementService for Management {
    async fn register_hunter(
        &self,
        request: Request<HunterRegistration>,
    ) -> Result<Response<RegistrationResponse>, Status> {
        let registration = request.into_inner();
        let hunter_id = registration.hunter_id.clone();
        self.registry.register(registration)?;
        let filters = self
            .catalogue
            .applicable(&hunter_id, &self.registry.filter_types(&hunter_id));
        tracing::info!(hunter_id, filters = filters.len(), "hunter registered");
        Ok(Response::new(RegistrationResponse {
            accepted: true,
            error: String::new(),
            assigned_id: hunter_id,
            filters,
            // The constants that lippycat's processor answers.
            config: Some(ProcessorConfig {
                batch_size: 64,
                batch_timeout_ms: 100,
                reconnect_interval_sec: 5,
                max_reconnect_attempts: 0,
                processor_id: self.processor_id.clone(),
            }),
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<Streaming<HunterHeartbeat>>,
    ) -> Result<Response<BoxStream<ProcessorHeartbeat>>, Status> {
        let registry = Arc::clone(&self.registry);
        let processor_id = self.processor_id.clone();
        let answers = request.into_inner().map(move |heartbeat| {
            let heartbeat = heartbeat?;
            registry.heartbeat(&heartbeat);
            Ok(ProcessorHeartbeat {
                timestamp_ns: heartbeat.timestamp_ns,
                status: ProcessorStatus::ProcessorHealthy.into(),
                hunters_connected: registry.len(),
                processor_id: processor_id.clone(),
            })
        });
        Ok(Response::new(Box::pin(Until::new(
            answers.chain(half_closed()),
            self.until.clone(),
        ))))
    }

    async fn get_filters(
        &self,
        request: Request<FilterRequest>,
    ) -> Result<Response<FilterResponse>, Status> {
        let hunter_id = request.into_inner().hunter_id;
        let filters = self
            .catalogue
            .applicable(&hunter_id, &self.registry.filter_types(&hunter_id));
        Ok(Response::new(FilterResponse { filters }))
    }

    async fn subscribe_filters(
        &self,
        request: Request<FilterRequest>,
    ) -> Result<Response<BoxStream<FilterUpdate>>, Status> {
        let hunter_id = request.into_inner().hunter_id;
        let updates = self
            .catalogue
            .subscribe(&hunter_id, self.registry.filter_types(&hunter_id));
        let updates = UnboundedReceiverStream::new(updates).map(Ok);
        Ok(Response::new(Box::pin(Until::new(
            updates,
            self.until.clone(),
        ))))
    }

    async fn get_hunter_status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let all = self.registry.connected("");
        let count = |status: HunterStatus| {
            all.iter()
                .filter(|hunter| hunter.status() == status)
                .count() as u32
        };
        let processor_stats = ProcessorStats {
            total_hunters: all.len() as u32,
            healthy_hunters: count(HunterStatus::StatusHealthy),
            warning_hunters: count(HunterStatus::StatusWarning),
            error_hunters: count(HunterStatus::StatusError),
            total_packets_received: self.recorder.summary().totals.packets,
            total_filters: self.catalogue.len(),
            processor_id: self.processor_id.clone(),
            ..ProcessorStats::default()
        };
        let hunters = self.registry.connected(&request.into_inner().hunter_id);
        Ok(Response::new(StatusResponse {
            hunters,
            processor_stats: Some(processor_stats),
        }))
    }

    async fn list_available_hunters(
        &self,
        _: Request<ListHuntersRequest>,
    ) -> Result<Response<ListHuntersResponse>, Status> {
        Ok(Response::new(ListHuntersResponse {
            hunters: self.registry.available(),
        }))
    }
}
