//! A hunter's side, as little as the tests need.
#![allow(dead_code)]

use std::net::SocketAddr;

use bytes::Bytes;
use lc_proto::data::{CapturedPacket, PacketBatch, StreamControl};
use lc_proto::management::management_service_client::ManagementServiceClient;
use lc_proto::management::{HunterCapabilities, HunterRegistration};
use lc_proto::passthrough::stream_packets;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

pub struct Client {
    pub channel: Channel,
    pub management: ManagementServiceClient<Channel>,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::over(
            Channel::from_shared(format!("http://{address}"))
                .unwrap()
                .connect()
                .await
                .unwrap(),
        )
    }

    pub fn over(channel: Channel) -> Self {
        Self {
            management: ManagementServiceClient::new(channel.clone()),
            channel,
        }
    }

    /// Sends batches, half-closes, and returns all acknowledgements and the final status.
    pub async fn send(&self, batches: &[PacketBatch]) -> (Vec<StreamControl>, Status) {
        self.send_raw(
            batches
                .iter()
                .map(|batch| batch.encode_to_vec().into())
                .collect(),
        )
        .await
    }

    pub async fn send_raw(&self, batches: Vec<Bytes>) -> (Vec<StreamControl>, Status) {
        let request = Request::new(tokio_stream::iter(batches));
        let mut stream = match stream_packets(self.channel.clone(), request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return (Vec::new(), status),
        };
        let mut acks = Vec::new();
        loop {
            match stream.next().await {
                Some(Ok(ack)) => acks.push(ack),
                Some(Err(status)) => return (acks, status),
                None => return (acks, Status::new(Code::Ok, "")),
            }
        }
    }
}

pub fn registration(hunter_id: &str, filter_types: &[&str]) -> HunterRegistration {
    let filter_types = filter_types.iter().map(|kind| kind.to_string()).collect();
    HunterRegistration {
        hunter_id: hunter_id.into(),
        capabilities: Some(HunterCapabilities {
            filter_types,
            ..Default::default()
        }),
        ..Default::default()
    }
}

pub fn batch(hunter_id: &str, sequence: u64, packets: Vec<CapturedPacket>) -> PacketBatch {
    PacketBatch {
        hunter_id: hunter_id.into(),
        sequence,
        timestamp_ns: 1,
        packets,
        stats: None,
    }
}

/// A packet of three bytes, each the low byte of `number`.
pub fn packet(number: u64) -> CapturedPacket {
    CapturedPacket {
        data: vec![number as u8; 3].into(),
        timestamp_ns: number as i64 * 1_000,
        capture_length: 3,
        original_length: 3,
        link_type: 1,
        interface_name: "eth0".into(),
        ..Default::default()
    }
}
