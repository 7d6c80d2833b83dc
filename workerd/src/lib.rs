//! lc-workerd: decodes packets, judges them by the processor's filters, and emits what is wanted.
//!
//! ```text
//!   rx rings (capd) -> decode -> filter -> emit -> tx ring (fwdd)
//! ```
//!
//! | module | what it does |
//! |---|---|
//! | [`decode`] | headers to addresses and ports, in one pass, through tunnels |
//! | [`fragments`] | datagrams that were sent in fragments |
//! | [`esp`] | ESP that is not encrypted |
//! | [`detect`] | the protocol that a flow carries, and what its packets say |
//! | [`email`] | mail: SMTP, IMAP, POP3 |
//! | [`describe`] | what is told of a forwarded packet |
//! | [`dns`] | DNS: its messages, queries with their responses, tunnels |
//! | [`flows`] | what is remembered of each flow |
//! | [`extract`] | the fields of a packet that filters are compared with |
//! | [`sip`] | SIP messages and session descriptions, in datagrams and streams |
//! | [`matcher`] | the compiled filters and the verdict |
//! | [`batch`] | packets taken, judged and forwarded, in two passes |
//! | [`emit`], [`address_text`] | the packet as it will stand in a batch |
//! | [`http`] | HTTP messages in streams, and sessions of HTTP |
//! | [`interfaces`] | where packets were captured |
//! | [`keyed_hash`] | a fast hash that strangers cannot play with |
//! | [`quarantine`] | packets that kill workers |
//! | [`reassembly`] | the byte streams of TCP connections |
//! | [`rtp`] | media |
//! | [`session`] | flows of DNS, HTTP, TLS and mail: which exchanges they carry, and which are wanted |
//! | [`tls`] | TLS, DTLS and QUIC: hellos, fingerprints, certificates |
//! | [`voip`] | calls: which packets are theirs, and which calls are wanted |
//! | [`start`] | from the start of the process to its sandbox |
//! | [`worker`] | the loop, its commits and what recovery relies on |
//!
//! A worker parses what strangers send. It has no network and writes nothing but its own regions.

#![forbid(unsafe_code)]

pub mod address_text;
pub mod arguments;
pub mod batch;
pub mod decode;
pub mod describe;
pub mod desk;
pub mod detect;
pub mod dns;
pub mod email;
pub mod emit;
pub mod esp;
pub mod extract;
pub mod flows;
pub mod fragments;
pub mod http;
pub mod interfaces;
pub mod keyed_hash;
pub mod matcher;
pub mod quarantine;
pub mod reassembly;
pub mod rtp;
pub mod session;
pub mod sip;
pub mod start;
pub mod tls;
pub mod voip;
pub mod worker;

#[cfg(debug_assertions)]
mod poison;
