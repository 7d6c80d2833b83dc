//! The codec end to end: bytes that a client puts on the stream arrive unchanged, and a generated server reads them.
#![allow(clippy::unwrap_used)]

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use bytes::{BufMut, Bytes, BytesMut};
use lc_proto::data::data_service_server::{DataService, DataServiceServer};
use lc_proto::data::{BatchStats, CapturedPacket, PacketBatch, StreamControl};
use lc_proto::passthrough::{
    BatchHead, BatchReceiver, BatchScan, StreamPacketsServer, stream_packets,
};
use proptest::prelude::*;
use prost::Message;
use tokio_stream::{Stream, StreamExt};
use tonic::codegen::BoxStream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};

type Acks = Pin<Box<dyn Stream<Item = Result<StreamControl, Status>> + Send>>;

/// Keeps what arrives, and acknowledges it.
#[derive(Default)]
struct Keeper {
    raw: Arc<Mutex<Vec<Bytes>>>,
    decoded: Mutex<Vec<PacketBatch>>,
}

impl BatchReceiver for Keeper {
    type Acks = Acks;

    async fn stream_packets(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> Result<Response<Acks>, Status> {
        let raw = Arc::clone(&self.raw);
        let acks = request.into_inner().map(move |batch| {
            let batch = batch?;
            let ack_sequence = BatchScan::read(&batch)?.sequence;
            raw.lock().unwrap().push(batch);
            Ok(StreamControl {
                ack_sequence,
                ..Default::default()
            })
        });
        Ok(Response::new(Box::pin(acks)))
    }
}

#[tonic::async_trait]
impl DataService for Keeper {
    async fn stream_packets(
        &self,
        request: Request<Streaming<PacketBatch>>,
    ) -> Result<Response<BoxStream<StreamControl>>, Status> {
        let mut batches = request.into_inner();
        let mut acks = Vec::new();
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            acks.push(Ok(StreamControl {
                ack_sequence: batch.sequence,
                ..Default::default()
            }));
            self.decoded.lock().unwrap().push(batch);
        }
        Ok(Response::new(Box::pin(tokio_stream::iter(acks))))
    }
}

fn batch(sequence: u64) -> PacketBatch {
    let data = Bytes::from(vec![sequence as u8; 100_000]);
    PacketBatch {
        hunter_id: "h1".into(),
        sequence,
        timestamp_ns: 5,
        packets: vec![CapturedPacket {
            capture_length: 100_000,
            data,
            ..Default::default()
        }],
        stats: Some(BatchStats {
            total_captured: 9,
            ..Default::default()
        }),
    }
}

async fn connect(router: tonic::transport::server::Router) -> Channel {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    tokio::spawn(router.serve_with_incoming(incoming));
    Channel::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

async fn send(channel: Channel, batches: &[PacketBatch]) -> Vec<u64> {
    let encoded: Vec<_> = batches
        .iter()
        .map(|batch| Bytes::from(batch.encode_to_vec()))
        .collect();
    let response = stream_packets(channel, Request::new(tokio_stream::iter(encoded)))
        .await
        .unwrap();
    response
        .into_inner()
        .map(|ack| ack.unwrap().ack_sequence)
        .collect()
        .await
}

#[tokio::test]
async fn raw_server_receives_the_bytes_that_were_sent() {
    let keeper = Arc::new(Keeper::default());
    let service = StreamPacketsServer::new(Arc::clone(&keeper));
    let channel = connect(Server::builder().add_service(service)).await;
    let batches = [batch(1), batch(2), batch(3)];
    assert_eq!(send(channel, &batches).await, [1, 2, 3]);
    let raw = keeper.raw.lock().unwrap();
    assert_eq!(
        *raw,
        batches.map(|batch| Bytes::from(batch.encode_to_vec()))
    );
}

#[tokio::test]
async fn generated_server_reads_what_was_sent() {
    let keeper = Arc::new(Keeper::default());
    let channel =
        connect(Server::builder().add_service(DataServiceServer::from_arc(Arc::clone(&keeper))))
            .await;
    let batches = [batch(1), batch(2)];
    assert_eq!(send(channel, &batches).await, [1, 2]);
    assert_eq!(*keeper.decoded.lock().unwrap(), batches);
}

#[tokio::test]
async fn raw_server_refuses_other_rpcs() {
    let service = StreamPacketsServer::new(Arc::new(Keeper::default()));
    let channel = connect(Server::builder().add_service(service)).await;
    let mut client = lc_proto::data::data_service_client::DataServiceClient::new(channel);
    let status = client
        .subscribe_packets(lc_proto::data::SubscribeRequest::default())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
}

#[tokio::test]
async fn raw_server_refuses_messages_over_the_limit() {
    let service = StreamPacketsServer::new(Arc::new(Keeper::default()));
    let channel = connect(Server::builder().add_service(service)).await;
    let too_long = Bytes::from(vec![0; lc_proto::MAX_MESSAGE_BYTES + 1]);
    let mut acks = stream_packets(channel, Request::new(tokio_stream::iter([too_long])))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        acks.next().await.unwrap().unwrap_err().code(),
        Code::OutOfRange
    );
}

proptest! {
    #[test]
    fn head_and_packets_make_a_batch(
        hunter_id in ".{0,20}",
        sequence in prop_oneof![Just(0), any::<u64>()],
        timestamp_ns in prop_oneof![Just(0), any::<i64>()],
        stats in prop::option::of((any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>())),
        frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..50), 0..5),
    ) {
        let packets: Vec<_> = frames
            .into_iter()
            .map(|data| CapturedPacket { capture_length: data.len() as u32, data: data.into(), ..Default::default() })
            .collect();
        let encoded_packets = PacketBatch { packets: packets.clone(), ..Default::default() }.encode_to_vec();
        let stats = stats.map(|(total_captured, filtered_matched, dropped, buffer_usage)| {
            BatchStats { total_captured, filtered_matched, dropped, buffer_usage }
        });
        let head = BatchHead { hunter_id: &hunter_id, sequence, timestamp_ns, stats: stats.as_ref() };
        let mut encoded = BytesMut::new();
        head.put(&mut encoded);
        prop_assert_eq!(encoded.len(), head.encoded_len());
        encoded.put_slice(&encoded_packets);

        let scan = BatchScan::read(&encoded).unwrap();
        let packet_count = packets.len() as u64;
        let captured: u64 = packets.iter().map(|packet| u64::from(packet.capture_length)).sum();
        prop_assert_eq!(
            PacketBatch::decode(encoded.freeze()).unwrap(),
            PacketBatch { hunter_id: hunter_id.clone(), sequence, timestamp_ns, packets, stats }
        );
        prop_assert_eq!((scan.hunter_id, scan.sequence, scan.timestamp_ns), (hunter_id, sequence, timestamp_ns));
        prop_assert_eq!((scan.packets, scan.captured_bytes), (packet_count, captured));
    }

    #[test]
    fn scan_accepts_or_refuses_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let scanned = BatchScan::read(&bytes);
        // A full decoder checks more, so what it accepts the scan must accept.
        if let Ok(batch) = PacketBatch::decode(bytes.as_slice()) {
            prop_assert_eq!(scanned.unwrap().packets, batch.packets.len() as u64);
        }
    }
}
