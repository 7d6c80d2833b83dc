//! TLS, DTLS and QUIC: who connects to whom, and with what.
//!
//! ```text
//!   stream:   opening -> records -> handshake messages -.
//!   datagram: DTLS records, fragments of messages ------+-> hellos, certificates -> fields, fingerprints, details
//!   datagram: QUIC packets, CRYPTO frames --------------'
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`hello`], [`version`] | ClientHello and ServerHello, as they stand |
//! | [`fingerprint`] | JA3, JA3S, JA4 |
//! | [`fields`] | what filters compare hellos with |
//! | [`certificate`] | certificates that are shown in clear |
//! | [`opening`], [`record`], [`handshake`] | from a stream to messages |
//! | [`dtls`] | from DTLS to messages |
//! | [`quic`], [`quic_keys`] | from Initial packets of QUIC to messages |
//! | [`held`], [`pieces`] | bytes that wait, within bounds; pieces that come in any order |
//! | [`stream`] | both directions of a TCP connection |
//! | [`connection`] | who has said hello, and what may still be told |
//! | [`describe`] | what is told of packets |
//! | [`secrets`] | secrets that peers write down ([`lc_daemon::key_log`]) |
//! | [`schedule`], [`decrypt`] | from secrets to keys, and records that are decrypted |
//! | [`inside`] | another protocol within TLS |
//! | [`tracker`] | a connection as an exchange of [`session`](crate::session) |
//!
//! One parser of hellos serves detection, filters of single packets ([`extract`](crate::extract)) and connections. Any bytes are accepted; nothing panics or recurses; work is linear in them, and what is kept
//! is bounded for each message and for all together.

pub mod certificate;
pub mod connection;
pub mod decrypt;
pub mod describe;
pub mod dtls;
pub mod fields;
pub mod fingerprint;
pub mod handshake;
pub mod held;
pub mod hello;
pub mod inside;
pub mod opening;
pub mod pieces;
pub mod quic;
pub mod quic_keys;
pub mod record;
pub mod schedule;
pub mod secrets;
pub mod stream;
pub mod tracker;
pub mod version;

pub use tracker::{Extent, Tls};

#[cfg(test)]
mod datagram_tests;
#[cfg(test)]
mod decrypt_tests;
#[cfg(test)]
mod inside_tests;
#[cfg(test)]
mod row_tests;
#[cfg(test)]
mod tracker_tests;
