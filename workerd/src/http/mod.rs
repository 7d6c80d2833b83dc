//! HTTP: the one parser for detection, filters and sessions, and how sessions are followed.
//!
//! ```text
//!   stream -> messages: heads, bodies (1.x) --+-> head ----> pair: request and response ---> Tell
//!         `-> http2: frames -> HPACK ---------+              |-> content: the mode's own filter
//!                                                            `-> notes: what is told of packets
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`head`] | start line and fields of a message |
//! | [`messages`], [`framing`] | messages of a stream of HTTP/1, and where their bodies end |
//! | [`body`] | bodies that are looked into |
//! | [`http1`] | which response answers which request |
//! | [`http2`] | the same of HTTP/2 in clear |
//! | [`pair`] | a request and its response, judged as one |
//! | [`content`] | `--host`, `--path`, `--method`, `--status`, `--keywords` and the like |
//! | [`notes`] | `metadata.info`, and the details `http.…` |
//! | [`place`] | where a connection is, as a successor is told |
//! | [`room`] | the bound of memory for all sessions |
//! | [`tracker`] | the [`Protocol`](crate::session::Protocol) of it all |
//!
//! Strangers write what is read here. Any bytes are accepted; work is linear in them, and memory has a bound, of each session and of all together.
//! What the bytes were carried in does not matter: those that were decrypted from TLS are followed by the same tracker.

pub mod body;
pub mod content;
pub mod framing;
pub mod head;
pub mod http1;
pub mod http2;
pub mod messages;
pub mod notes;
pub mod pair;
pub mod place;
pub mod room;
pub mod tracker;

#[cfg(test)]
mod row_tests;
#[cfg(test)]
mod told;
#[cfg(test)]
mod tracker_tests;

pub use tracker::Http;
