//! StreamPackets without decoding or re-encoding packets.
//!
//! - Client: [`stream_packets`] opens the RPC with a codec that writes whatever a [`WireMessage`] holds, unchanged.
//!   [`BatchHead`] writes the small fields of a batch around packets that are already encoded (see [`crate::emit`]).
//! - Server: [`StreamPacketsServer`] hands each batch over as undecoded [`Bytes`]; [`BatchScan`] reads the head of such
//!   a batch and counts its packets, and `PacketBatch::decode` reads it all.
//!
//! The codec does not check what it sends: a [`WireMessage`] that is no valid `PacketBatch` makes the peer end the stream
//! with INTERNAL.

use std::convert::Infallible;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost::encoding::{
    DecodeContext, WireType, decode_key, decode_varint, encode_varint, skip_field,
};
use tokio_stream::Stream;
use tonic::client::GrpcService;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder, Streaming};
use tonic::codegen::{Body, BoxFuture, Service, StdError, http};
use tonic::server::{NamedService, StreamingService};
use tonic::{GrpcMethod, Request, Response, Status};
use tonic_prost::{ProstDecoder, ProstEncoder};

use crate::data::{BatchStats, StreamControl};
use crate::wire::{delimited_len, scalar_field_len, string_field_len};

const SERVICE: &str = "lippycat.data.DataService";
const METHOD: &str = "StreamPackets";
const PATH: &str = "/lippycat.data.DataService/StreamPackets";

/// An encoded `PacketBatch` that knows how to put itself into a send buffer.
pub trait WireMessage: Send + Sync + 'static {
    /// Bytes that [`put`](Self::put) will write, or a good guess: the buffer is grown once to hold them.
    fn encoded_len_hint(&self) -> usize;

    /// Appends the encoded batch to `buf`.
    ///
    /// # Errors
    ///
    /// A status ends the stream: nothing of this message is sent.
    fn put(&self, buf: &mut EncodeBuf<'_>) -> Result<(), Status>;
}

impl WireMessage for Bytes {
    fn encoded_len_hint(&self) -> usize {
        self.len()
    }

    fn put(&self, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.put_slice(self);
        Ok(())
    }
}

/// Opens StreamPackets over `service` (a tonic `Channel`, or any gRPC service) and sends the batches of `request` as they
/// are. Metadata such as an API key goes on `request`.
///
/// # Errors
///
/// UNAVAILABLE if the connection fails, else the status with which the processor refused the call.
pub async fn stream_packets<S, B>(
    service: S,
    request: Request<B>,
) -> Result<Response<Streaming<StreamControl>>, Status>
where
    S: GrpcService<tonic::body::Body>,
    S::Error: Into<StdError>,
    S::ResponseBody: Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as Body>::Error: Into<StdError> + Send,
    B: Stream + Send + 'static,
    B::Item: WireMessage,
{
    let mut grpc = tonic::client::Grpc::new(service);
    grpc.ready().await.map_err(|error| {
        let error: StdError = error.into();
        Status::unavailable(format!("service was not ready: {error}"))
    })?;
    let mut request = request;
    request
        .extensions_mut()
        .insert(GrpcMethod::new(SERVICE, METHOD));
    let path = http::uri::PathAndQuery::from_static(PATH);
    grpc.streaming(request, path, ClientCodec::<B::Item>(PhantomData))
        .await
}

/// The fields of a `PacketBatch` beside its packets.
#[derive(Debug, Clone, Copy)]
pub struct BatchHead<'a> {
    /// The sender.
    pub hunter_id: &'a str,
    /// Number of the batch.
    pub sequence: u64,
    /// Send time, Unix nanoseconds.
    pub timestamp_ns: i64,
    /// The sender's counters.
    pub stats: Option<&'a BatchStats>,
}

impl BatchHead<'_> {
    /// Bytes that [`put`](Self::put) writes.
    pub fn encoded_len(&self) -> usize {
        string_field_len(self.hunter_id)
            + scalar_field_len(self.sequence)
            + scalar_field_len(self.timestamp_ns as u64)
            + self
                .stats
                .map_or(0, |stats| delimited_len(stats.encoded_len()))
    }

    /// Writes the head. The encoded packets may follow at once: protobuf does not mind the order of fields.
    pub fn put(&self, buf: &mut impl BufMut) {
        if !self.hunter_id.is_empty() {
            buf.put_u8(0x0a);
            encode_varint(self.hunter_id.len() as u64, buf);
            buf.put_slice(self.hunter_id.as_bytes());
        }
        if self.sequence != 0 {
            buf.put_u8(0x10);
            encode_varint(self.sequence, buf);
        }
        if self.timestamp_ns != 0 {
            buf.put_u8(0x18);
            encode_varint(self.timestamp_ns as u64, buf);
        }
        if let Some(stats) = self.stats {
            prost::encoding::message::encode(5, stats, buf);
        }
    }
}

/// What can be told about an encoded batch without decoding its packets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BatchScan {
    /// The sender.
    pub hunter_id: String,
    /// Number of the batch.
    pub sequence: u64,
    /// Send time, Unix nanoseconds.
    pub timestamp_ns: i64,
    /// Number of packets.
    pub packets: u64,
    /// Captured bytes of all packets, as their `capture_length` says.
    pub captured_bytes: u64,
}

impl BatchScan {
    /// Reads the top level of an encoded `PacketBatch`.
    ///
    /// # Errors
    ///
    /// INTERNAL, as from any decoder, if the top level is not a valid `PacketBatch`. Packets are read up to their
    /// `capture_length` only; what follows is not checked.
    pub fn read(mut batch: &[u8]) -> Result<Self, Status> {
        let mut scan = Self::default();
        while batch.has_remaining() {
            scan.merge_field(&mut batch)
                .map_err(|error| Status::internal(format!("undecodable PacketBatch: {error}")))?;
        }
        Ok(scan)
    }

    fn merge_field(&mut self, batch: &mut &[u8]) -> Result<(), Box<dyn std::error::Error>> {
        let (field, wire_type) = decode_key(batch)?;
        match (field, wire_type) {
            (1, WireType::LengthDelimited) => {
                self.hunter_id = std::str::from_utf8(delimited(batch)?)?.to_owned()
            }
            (2, WireType::Varint) => self.sequence = decode_varint(batch)?,
            (3, WireType::Varint) => self.timestamp_ns = decode_varint(batch)? as i64,
            (4, WireType::LengthDelimited) => {
                self.captured_bytes += u64::from(capture_length(delimited(batch)?)?);
                self.packets += 1;
            }
            _ => skip_field(wire_type, field, batch, DecodeContext::default())?,
        }
        Ok(())
    }
}

/// The `capture_length` of an encoded `CapturedPacket`; 0 if it has none.
fn capture_length(mut packet: &[u8]) -> Result<u32, Box<dyn std::error::Error>> {
    while packet.has_remaining() {
        let (field, wire_type) = decode_key(&mut packet)?;
        if (field, wire_type) == (3, WireType::Varint) {
            return Ok(decode_varint(&mut packet)? as u32);
        }
        skip_field(wire_type, field, &mut packet, DecodeContext::default())?;
    }
    Ok(0)
}

/// Splits a length and that many bytes off `bytes`.
fn delimited<'b>(bytes: &mut &'b [u8]) -> Result<&'b [u8], Box<dyn std::error::Error>> {
    let len = usize::try_from(decode_varint(bytes)?)?;
    let (head, tail) = bytes
        .split_at_checked(len)
        .ok_or("a length reaches beyond the message")?;
    *bytes = tail;
    Ok(head)
}

/// Takes the batches of StreamPackets undecoded.
pub trait BatchReceiver: Send + Sync + 'static {
    /// The answers, one per batch and in order.
    type Acks: Stream<Item = Result<StreamControl, Status>> + Send + 'static;

    /// Begins one stream.
    ///
    /// # Errors
    ///
    /// A status refuses the stream.
    fn stream_packets(
        &self,
        request: Request<Streaming<Bytes>>,
    ) -> impl Future<Output = Result<Response<Self::Acks>, Status>> + Send;
}

/// The server of `DataService` for receivers of undecoded batches. All RPCs but StreamPackets answer UNIMPLEMENTED.
#[derive(Debug)]
pub struct StreamPacketsServer<R> {
    receiver: Arc<R>,
}

impl<R: BatchReceiver> StreamPacketsServer<R> {
    /// A service that hands every stream to `receiver`. A message longer than [`crate::MAX_MESSAGE_BYTES`] reaches the
    /// receiver as the stream's error, OUT_OF_RANGE; a lippycat processor answers RESOURCE_EXHAUSTED.
    pub fn new(receiver: Arc<R>) -> Self {
        Self { receiver }
    }
}

impl<R> Clone for StreamPacketsServer<R> {
    fn clone(&self) -> Self {
        Self {
            receiver: Arc::clone(&self.receiver),
        }
    }
}

impl<R> NamedService for StreamPacketsServer<R> {
    const NAME: &'static str = SERVICE;
}

impl<R, B> Service<http::Request<B>> for StreamPacketsServer<R>
where
    R: BatchReceiver,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path() != PATH {
            return Box::pin(async { Ok(Status::unimplemented("").into_http()) });
        }
        let receiver = Arc::clone(&self.receiver);
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ServerCodec)
                .max_decoding_message_size(crate::MAX_MESSAGE_BYTES);
            Ok(grpc.streaming(StartStream(receiver), request).await)
        })
    }
}

/// Adapts a receiver to the one-method service that tonic's server side calls.
struct StartStream<R>(Arc<R>);

impl<R: BatchReceiver> StreamingService<Bytes> for StartStream<R> {
    type Response = StreamControl;
    type ResponseStream = R::Acks;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R::Acks>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let receiver = Arc::clone(&self.0);
        Box::pin(async move { receiver.stream_packets(request).await })
    }
}

struct ClientCodec<M>(PhantomData<fn(M)>);

impl<M: WireMessage> Codec for ClientCodec<M> {
    type Encode = M;
    type Decode = StreamControl;
    type Encoder = WireEncoder<M>;
    type Decoder = ProstDecoder<StreamControl>;

    fn encoder(&mut self) -> Self::Encoder {
        WireEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::default()
    }
}

struct WireEncoder<M>(PhantomData<fn(M)>);

impl<M: WireMessage> Encoder for WireEncoder<M> {
    type Item = M;
    type Error = Status;

    fn encode(&mut self, message: M, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(message.encoded_len_hint());
        message.put(buf)
    }

    fn buffer_settings(&self) -> BufferSettings {
        batch_buffers()
    }
}

struct ServerCodec;

impl Codec for ServerCodec {
    type Encode = StreamControl;
    type Decode = Bytes;
    type Encoder = ProstEncoder<StreamControl>;
    type Decoder = RawDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstEncoder::default()
    }

    fn decoder(&mut self) -> Self::Decoder {
        RawDecoder
    }
}

struct RawDecoder;

impl Decoder for RawDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        batch_buffers()
    }
}

/// Batches are large; buffers of this size spare the small ones a growth.
fn batch_buffers() -> BufferSettings {
    BufferSettings::new(64 * 1024, 64 * 1024)
}
