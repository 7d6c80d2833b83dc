//! Where a connection is, as a successor is told ([`Protocol::place`](crate::session::Protocol::place)): protobuf, of which any bytes give a connection or none.
//!
//! Of a head that has not come whole nothing is told: a successor sees its packets again. Bodies that are looked into are not told either: what they are looked into for is decided before
//! anything of their exchange leaves.

use prost::Message;

use super::framing::Asked;
use super::messages::Progress;

/// Most requests that wait for their responses, of a connection whose place is told.
pub const MOST_PAIRS: usize = 16;

/// A session.
#[derive(Clone, PartialEq, Message)]
pub struct Session {
    /// Whether it was picked up in its middle.
    #[prost(bool, tag = "1")]
    pub is_joined: bool,
    /// Whether requests come in the direction of responses.
    #[prost(bool, tag = "2")]
    pub is_reversed: bool,
    /// If HTTP/1 is spoken.
    #[prost(message, optional, tag = "3")]
    pub one: Option<One>,
}

/// A connection of HTTP/1.
#[derive(Clone, PartialEq, Message)]
pub struct One {
    /// Of requests and responses.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<Progress>,
    /// In the order of their requests.
    #[prost(message, repeated, tag = "2")]
    pub pairs: Vec<Pair>,
    /// Requests behind those.
    #[prost(uint32, tag = "3")]
    pub beyond: u32,
    /// Of the message that goes on, in each direction.
    #[prost(uint32, repeated, tag = "4")]
    pub current: Vec<u32>,
    /// Whether each direction has ended.
    #[prost(bool, repeated, tag = "5")]
    pub has_ended: Vec<bool>,
    /// Whether any message has come.
    #[prost(bool, tag = "6")]
    pub is_http: bool,
    /// Whether responses can't be counted.
    #[prost(bool, tag = "7")]
    pub is_uncertain: bool,
}

/// A request and its response.
#[derive(Clone, PartialEq, Message)]
pub struct Pair {
    /// See [`Cited`](crate::session::Cited).
    #[prost(uint32, tag = "1")]
    pub exchange: u32,
    /// Whether the request is over.
    #[prost(bool, tag = "2")]
    pub is_asked: bool,
    /// Whether the response is over.
    #[prost(bool, tag = "3")]
    pub is_answered: bool,
    /// Whether the response has begun.
    #[prost(bool, tag = "4")]
    pub has_response: bool,
    /// What is not known of whether it fits, see [`Judgement::told`](super::content::Judgement::told).
    #[prost(uint32, tag = "5")]
    pub open: u32,
    /// Whether it fails.
    #[prost(bool, tag = "9")]
    pub fails: bool,
    /// Whether that was told.
    #[prost(bool, tag = "6")]
    pub is_content_told: bool,
    /// Whether it is settled.
    #[prost(bool, tag = "7")]
    pub is_settled: bool,
    /// If it was seen.
    #[prost(message, optional, tag = "8")]
    pub request: Option<Request>,
}

/// What is remembered of a request.
#[derive(Clone, PartialEq, Message)]
pub struct Request {
    /// When its head was complete.
    #[prost(uint64, tag = "1")]
    pub time_ns: u64,
    /// 1: HEAD, 2: CONNECT, else another.
    #[prost(uint32, tag = "2")]
    pub asked: u32,
    /// Whether it is of version 0.9.
    #[prost(bool, tag = "3")]
    pub is_simple: bool,
    /// Whether its body waits for a response of status 100.
    #[prost(bool, tag = "4")]
    pub awaits_continue: bool,
    /// Whether it asks for another protocol.
    #[prost(bool, tag = "5")]
    pub is_upgrade: bool,
    /// Its method.
    #[prost(bytes = "vec", tag = "6")]
    pub method: Vec<u8>,
    /// Its host.
    #[prost(bytes = "vec", tag = "7")]
    pub host: Vec<u8>,
    /// Its path.
    #[prost(bytes = "vec", tag = "8")]
    pub path: Vec<u8>,
}

impl From<Asked> for u32 {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Other => 0,
            Asked::Head => 1,
            Asked::Connect => 2,
        }
    }
}

impl From<u32> for Asked {
    fn from(number: u32) -> Self {
        match number {
            1 => Self::Head,
            2 => Self::Connect,
            _ => Self::Other,
        }
    }
}
