//! The wire protocol between an edge node and a lippycat processor.
//!
//! [`data`] and [`management`] hold the generated messages, clients and servers of `proto/*.proto`. Hand-written
//! modules keep the packet path free of decoding and of copies:
//!
//! - [`emit`] encodes one captured packet as it will stand inside a `PacketBatch`, [`details`], [`voip`], [`dns`] and [`email`] what was read out of it, [`tls_keys`] the secrets of its session;
//! - [`passthrough`] sends such packets as a batch without touching them, and receives batches undecoded.
//!
//! The proto files are a compatibility promise: a test pins every field number and type. RPCs that a server does not
//! override answer UNIMPLEMENTED. Packet metadata serialises with serde in protobuf's JSON mapping under the proto's own
//! field names; absent blocks and default values are left out.
#![forbid(unsafe_code)]

pub mod details;
pub mod dns;
pub mod email;
pub mod emit;
mod filter_type;
pub mod passthrough;
pub mod tls_keys;
pub mod voip;
mod wire;

/// `lippycat.data`: packets and their acknowledgements.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, rust_2018_idioms)]
pub mod data {
    tonic::include_proto!("lippycat.data");
    include!(concat!(env!("OUT_DIR"), "/lippycat.data.serde.rs"));
}

/// `lippycat.management`: registration, heartbeats and filters.
#[allow(missing_docs, clippy::all, clippy::unwrap_used, rust_2018_idioms)]
pub mod management {
    tonic::include_proto!("lippycat.management");
}

/// The longest encoded message that a processor accepts, in bytes; a longer one ends the stream with RESOURCE_EXHAUSTED.
pub const MAX_MESSAGE_BYTES: usize = 10 * 1024 * 1024;
